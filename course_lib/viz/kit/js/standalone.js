// Shows widgets on a page that has no kernel: a file of its own, or an exported notebook.
//
// A page holds, for each widget, an element of class scene-standalone with what is seen without scripts
// and a script element with JSON: { esm, css, state }, where esm and css name elements of the page that
// hold a front end's module and its style sheet as text. This module, run once, puts the front ends in
// their places, with a plain object for a model. Bytes in the state are { "$bytes": base64 }. All of it
// is written by course_lib/viz/kit/page.py.
//
// It runs any front end that is written for anywidget, so a notebook's quizzes work too.

/** Stands for anywidget's model: the state lives on the page, and nobody answers. */
class PageModel {
  #state;
  #listeners = new Map();

  constructor(state) {
    this.#state = { ...state, standalone: true };
  }

  get(name) {
    return this.#state[name];
  }

  set(name, value) {
    if (this.#state[name] === value) return;
    this.#state[name] = value;
    for (const event of [`change:${name}`, "change"]) {
      for (const listener of [...(this.#listeners.get(event) ?? [])]) listener();
    }
  }

  on(events, listener) {
    for (const event of events.split(" ")) {
      if (!this.#listeners.has(event)) this.#listeners.set(event, new Set());
      this.#listeners.get(event).add(listener);
    }
  }

  off(events, listener) {
    for (const event of events?.split(" ") ?? [...this.#listeners.keys()]) {
      if (listener) this.#listeners.get(event)?.delete(listener);
      else this.#listeners.delete(event);
    }
  }

  save_changes() {}

  send() {}
}

/** Return a state with its bytes as DataViews, which is what anywidget gives. */
function withBytes(value) {
  if (Array.isArray(value)) return value.map(withBytes);
  if (value === null || typeof value !== "object") return value;
  if ("$bytes" in value) {
    const bytes = Uint8Array.from(atob(value.$bytes), (letter) => letter.charCodeAt(0));
    return new DataView(bytes.buffer);
  }
  return Object.fromEntries(Object.entries(value).map(([key, each]) => [key, withBytes(each)]));
}

const textOf = (id) => document.getElementById(id).textContent;

/** Return a front end of the page; many figures share one. */
const frontEnds = new Map();
function frontEndOf({ esm, css }) {
  if (!frontEnds.has(esm)) {
    const sheet = document.createElement("style");
    sheet.textContent = textOf(css);
    document.head.append(sheet);
    const address = URL.createObjectURL(new Blob([textOf(esm)], { type: "text/javascript" }));
    frontEnds.set(esm, import(address));
  }
  return frontEnds.get(esm);
}

for (const place of document.querySelectorAll(".scene-standalone")) {
  const widget = JSON.parse(place.querySelector("script").textContent);
  const { default: frontEnd } = await frontEndOf(widget);
  const fallback = [...place.childNodes];
  const el = document.createElement("div");
  place.append(el); // before it is drawn: what is drawn asks the page for its colours and its width
  await frontEnd.render({ model: new PageModel(withBytes(widget.state)), el });
  for (const node of fallback) node.remove();
}

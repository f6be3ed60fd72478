// Stands for the model that anywidget hands to a front end, on a page where nobody answers.

/** Return a state from Python with its bytes, written { "$bytes": base64 }, as the DataViews that
 * anywidget gives. */
export function withBytes(value) {
  if (Array.isArray(value)) return value.map(withBytes);
  if (value === null || typeof value !== "object") return value;
  if ("$bytes" in value) {
    const bytes = Uint8Array.from(atob(value.$bytes), (letter) => letter.charCodeAt(0));
    return new DataView(bytes.buffer);
  }
  return Object.fromEntries(Object.entries(value).map(([key, each]) => [key, withBytes(each)]));
}

/** Holds the traits of one widget. */
export class PageModel {
  #traits;
  #listeners = new Map();

  constructor(traits) {
    this.#traits = { ...traits };
  }

  get(name) {
    return this.#traits[name];
  }

  set(name, value) {
    this.assign({ [name]: value });
  }

  /** Set traits; all of them are new before anybody is told. */
  assign(traits) {
    const changed = Object.keys(traits).filter((name) => this.#traits[name] !== traits[name]);
    Object.assign(this.#traits, traits);
    for (const name of changed) this.tell(`change:${name}`);
    if (changed.length) this.tell("change");
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

  tell(event, ...details) {
    for (const listener of [...(this.#listeners.get(event) ?? [])]) listener(...details);
  }

  save_changes() {}

  send() {}
}

// What the tests of the figure kit do on their page: see conftest.py.

/** Stands for the model that anywidget hands to a front end. */
class FakeModel {
  sent = [];
  #traits;
  #listeners = new Map();

  constructor(traits) {
    this.#traits = { ...traits };
  }

  get(name) {
    return this.#traits[name];
  }

  set(name, value) {
    if (this.#traits[name] === value) return;
    this.#traits[name] = value;
    this.#tell(`change:${name}`);
    this.#tell("change");
  }

  on(events, listener) {
    for (const event of events.split(" ")) {
      if (!this.#listeners.has(event)) this.#listeners.set(event, new Set());
      this.#listeners.get(event).add(listener);
    }
  }

  off(events, listener) {
    for (const event of events?.split(" ") ?? this.#listeners.keys()) {
      if (listener) this.#listeners.get(event)?.delete(listener);
      else this.#listeners.delete(event);
    }
  }

  save_changes() {}

  send(content) {
    this.sent.push(content);
  }

  /** Take traits from Python: all are new before anybody is told. */
  receive(traits) {
    const changed = Object.keys(traits).filter((name) => this.#traits[name] !== traits[name]);
    Object.assign(this.#traits, traits);
    for (const name of changed) this.#tell(`change:${name}`);
    if (changed.length) this.#tell("change");
  }

  /** Take a message from Python, as `widget.send` sends it. */
  message(content, buffers = []) {
    this.#tell("msg:custom", content, buffers);
  }

  #tell(event, ...details) {
    for (const listener of [...(this.#listeners.get(event) ?? [])]) listener(...details);
  }
}

/** Return a value from Python with its bytes as DataViews. */
function withBytes(value) {
  if (Array.isArray(value)) return value.map(withBytes);
  if (value === null || typeof value !== "object") return value;
  if ("$bytes" in value) {
    const bytes = Uint8Array.from(atob(value.$bytes), (letter) => letter.charCodeAt(0));
    return new DataView(bytes.buffer);
  }
  return Object.fromEntries(Object.entries(value).map(([key, each]) => [key, withBytes(each)]));
}

const AsyncFunction = (async () => {}).constructor;

window.kitPage = {
  FakeModel,
  model: null,
  leave: null,

  run(script, argument) {
    return new AsyncFunction("page", "argument", script)(this, withBytes(argument));
  },

  /** Render a front end into #figure; `page.leave()` is what anywidget calls when it goes away. */
  async mount(entry, traits) {
    const { default: frontEnd } = await import(`/js/${entry}`);
    this.model = new FakeModel(traits);
    const el = document.querySelector("#figure");
    this.leave = await frontEnd.render({ model: this.model, el });
  },
};

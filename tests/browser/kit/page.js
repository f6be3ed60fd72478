// What the tests of the figure kit do on their page: see conftest.py.

import { PageModel, withBytes } from "/js/model.js";

/** Stands for the model that anywidget hands to a front end, and for Python behind it. */
class FakeModel extends PageModel {
  sent = [];

  send(content) {
    this.sent.push(content);
  }

  /** Take traits from Python. */
  receive(traits) {
    this.assign(traits);
  }

  /** Take a message from Python, as `widget.send` sends it. */
  message(content, buffers = []) {
    this.tell("msg:custom", content, buffers);
  }
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

// The front end of every figure: puts corner, controls, caption, picture and bar together.
//
// The model's traits are those of `Figure` in view.py. The position in a film lives in the browser's
// model only, so stepping needs no kernel.
//
//   .scene-root
//     .scene-tools      the corner (tools.js)
//     .scene-panel      the controls of an explorer (panel.js)
//     .scene-caption    what has just happened (caption.js)
//     .scene-message    why there is no picture, or why it is the last one (.scene-kept)
//     .scene-picture    the picture; it scrolls sideways where the page is too narrow (stage.js)
//     .scene-bar        the bar of a film (player.js)

import { createCaption } from "./caption.js";
import { html, setAttribute, setText } from "./dom.js";
import { keyHandler } from "./keys.js";
import { linkFilms } from "./linked.js";
import { GLIDE_MS } from "./motion.js";
import { createPanel } from "./panel.js";
import { createBar } from "./player.js";
import { createReel } from "./reel.js";
import { createStage } from "./stage.js";
import { createTools } from "./tools.js";

// A picture is never smaller than this share of its size: text of 15 pixels stays above 11. stage.css
// has the same number.
const SMALLEST = 0.75;

const GROWTH = "change:chunks change:count change:marks change:runs change:longest";

/** One figure in the page, and what it shows of its model. */
class FigureView {
  #model;
  #listeners = []; // [events, listener] of the model
  #reel;
  #answer = null; // of the controls; null where the model's own picture holds
  #shown = { index: 0, at: -Infinity, form: "" }; // the picture that is there
  #newest = 0; // number of the picture that was asked for last
  #passed = 0; // pictures that play has just left out
  #arrival = Promise.resolve(); // the picture that was asked for last is there
  #isLecture = false;
  #wideWidth = 0; // of pictures that have a narrow form too
  #width = null; // of the figure; asked of the page at first, and then told by it

  constructor(model, el) {
    this.#model = model;
    this.#reel = this.#newReel();
    this.#build(el);
    this.#listen();
    this.#grow();
  }

  // ---- what it is made of ----

  #build(el) {
    this.root = html("div", { className: "scene-root", tabIndex: -1 });
    this.root.setAttribute("role", "group");
    el.append(this.root); // first, so that its parts know the page that they are in
    this.message = html("div", { className: "scene-message", hidden: true });
    this.message.setAttribute("role", "alert");
    this.caption = createCaption();
    this.stage = createStage();
    this.picture = html("div", { className: "scene-picture" }, [this.stage.element]);
    this.bar = this.#newBar();
    this.link = linkFilms(this.#model.get("link"), (index) => {
      this.bar.pause();
      this.#moveTo(index);
    });
    this.tools = this.#newTools();
    this.panel = this.#model.get("controls").length ? this.#newPanel() : null;
    const above = this.panel ? [this.tools.element, this.panel.element] : [this.tools.element];
    this.root.append(
      ...above,
      this.caption.element,
      this.message,
      this.picture,
      this.bar.element,
    );
  }

  #newReel() {
    const [frames, chunks] = [this.#model.get("frames"), this.#model.get("chunks")];
    return createReel({ frames, chunks, count: this.#count() });
  }

  /** Return how many pictures there are; without chunks, the first ones are all. */
  #count() {
    const { length } = this.#model.get("chunks");
    return length ? this.#model.get("count") : this.#model.get("frames").length;
  }

  #newBar() {
    return createBar({
      count: this.#reel.count,
      marks: this.#model.get("marks"),
      runs: this.#model.get("runs"),
      interval: this.#model.get("interval"),
      onGo: (index, passed) => {
        this.link.tell(index);
        return this.#moveTo(index, passed);
      },
    });
  }

  #newTools() {
    return createTools(this.root, {
      picture: () => {
        this.stage.settle(); // what is on its way arrives first
        return this.picture.querySelector("svg.scene");
      },
      name: () => this.root.getAttribute("aria-label"),
      step: (by) => this.bar.keys[by > 0 ? "ArrowRight" : "ArrowLeft"](),
      onLecture: (isOn) => {
        this.#isLecture = isOn;
        this.#show();
      },
    });
  }

  #newPanel() {
    return createPanel(this.#model, {
      show: (answer) => {
        this.#answer = answer;
        this.#show();
      },
      form: () => this.#form(),
      stale: (is) => this.picture.classList.toggle("scene-stale", is),
    });
  }

  #listen() {
    const { bar, tools } = this;
    const keys = () => ({ ...(this.#reel.count > 1 ? bar.keys : {}), ...tools.keys() });
    this.root.addEventListener("keydown", keyHandler(keys));
    this.sizes = new ResizeObserver(() => {
      this.#width = this.root.clientWidth;
      if (this.#form() !== this.#shown.form) this.#show();
    });
    this.sizes.observe(this.root);
    this.#on("change:frames", () => {
      this.#reel = this.#newReel();
      this.#grow();
    });
    this.#on(GROWTH, () => this.#grow());
    this.#on("change:index change:message", () => this.#show());
    this.#on("change:picks", () => this.#offerPicks());
    this.#offerPicks();
  }

  #on(events, listener) {
    this.#model.on(events, listener);
    this.#listeners.push([events, listener]);
  }

  destroy() {
    const { bar, link, tools, panel, stage } = this;
    for (const part of [bar, link, tools, panel, stage]) part?.destroy();
    this.sizes.disconnect();
    for (const [events, listener] of this.#listeners) this.#model.off(events, listener);
  }

  // ---- what it shows ----

  /** Take in what the model has now of the film. */
  #grow() {
    this.#reel.extend(this.#model.get("chunks"), this.#count());
    this.bar.setCount(this.#reel.count, this.#model.get("marks"), this.#model.get("runs"));
    this.caption.keepRoomFor(this.#model.get("longest"));
    this.#show();
  }

  /** Let things be chosen as soon as Python listens; on a page of its own nobody does. */
  #offerPicks() {
    const isHeard = this.#model.get("picks") && !this.#model.get("standalone");
    if (!isHeard) return;
    this.stage.onPick((thing) => {
      this.#model.save_changes(); // the reader may have stepped on: Python answers for this moment
      this.#model.send({ pick: thing });
    });
  }

  #index() {
    return Math.max(0, Math.min(this.#model.get("index"), this.#reel.count - 1));
  }

  #moveTo(index, passed = 0) {
    this.#passed = passed;
    this.#model.set("index", index); // whose listener shows the picture
    this.#passed = 0;
    return this.#arrival;
  }

  /** Return the form that fits the width of the page. */
  #form() {
    const [first] = this.#model.get("frames");
    if (first?.scene && first.narrow) this.#wideWidth = first.scene.width;
    this.#width ??= this.root.clientWidth;
    const width = this.#width; // 0 where the page is not shown
    const fits = !width || this.#isLecture || width >= SMALLEST * this.#wideWidth;
    return fits ? "wide" : "narrow";
  }

  #show() {
    // The next key counts from here, whenever the picture comes.
    if (!this.#answer) this.bar.set(this.#index(), "");
    this.#newest += 1;
    this.#arrival = this.#draw(this.#newest, this.#passed);
  }

  // A picture may come later than it was asked for; only the one asked for last is shown.
  async #draw(request, passed) {
    const answer = this.#answer;
    const text = answer?.message ?? (answer ? "" : this.#model.get("message"));
    const [reel, index] = answer?.reel ? [answer.reel, answer.index] : [this.#reel, this.#index()];
    const form = this.#form();
    this.#shown.form = form;
    const frame = text || !reel.count ? null : await reel.frame(index, form);
    if (request !== this.#newest) return;
    setText(this.message, text);
    this.message.hidden = !text;
    const isKept = Boolean(text) && this.#model.get("keeps");
    this.picture.hidden = !frame && !isKept;
    this.picture.classList.toggle("scene-kept", isKept);
    if (!frame) return;
    this.stage.show(frame.scene, { animate: this.#isFollowed(index, passed) });
    this.#shown = { index, form, at: performance.now() };
    this.#tell(index, frame, passed);
  }

  /** Say whether the eye can follow things from the picture that is there to the next one. */
  #isFollowed(index, passed) {
    // While a control is dragged, pictures come faster than anything could glide.
    if (this.panel) return performance.now() - this.#shown.at >= GLIDE_MS;
    // Between pictures far apart, a motion would tell of nothing that happened.
    return passed > 0 || Math.abs(index - this.#shown.index) <= 1;
  }

  /** Say in words what is shown. */
  #tell(index, { scene, caption }, passed) {
    setAttribute(this.root, "aria-label", this.#model.get("label") || scene.title);
    // On the scrubber, its value says where the film is.
    const isOnScrubber = document.activeElement?.matches(".bar-scrubber");
    this.caption.setLive(!this.bar.isPlaying() && !isOnScrubber);
    this.caption.show(caption, passed);
    if (!this.#answer) this.bar.set(index, caption);
  }
}

function render({ model, el }) {
  const view = new FigureView(model, el);
  return () => view.destroy();
}

export default { render };

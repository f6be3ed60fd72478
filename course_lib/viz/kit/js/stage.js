// Shows scenes, one after the other, in one picture whose nodes stay: a frame changes what differs.
//
// createStage() returns
//
// - element: an HTML element to put into the page. It scrolls sideways where the page is narrow.
// - show(scene, {animate = true, duration = GLIDE_MS}): draw the JSON of Scene.to_dict(). A shape
//   is known again by its `id`, else its `key`, else its position. A shape that is the very object
//   of the frame before is not looked at, so a decoder should keep objects. With `animate`, what
//   has another place glides there, what is new fades in or comes from its `origin`, and what is
//   gone fades out, unless the reader wants no motion.
// - light(things): light what stands for these things, as another figure asks for.
// - onPick(fn): from now on items can be chosen; fn(["block", 7]) tells which was. Do not call it
//   where nobody listens: an item that can be chosen is announced as such.
// - onPoint(fn): fn(things) when the reader has pointed at something, or no longer does ([]).
// - settle(): end all motion at once, as before a picture is saved. A grid of cells is a <canvas>
//   in a <foreignObject>; whoever saves the SVG puts an <image> of the canvas in its place.
// - destroy(): let go of what the page would keep.

import { CELLS_KIND, repaintCells } from "./cells.js";
import { html, setAttribute, svg } from "./dom.js";
import { Link } from "./link.js";
import { createLooks } from "./looks.js";
import { createMotion, GLIDE_MS, prefersStillness } from "./motion.js";
import { watchScrolling } from "./scrolling.js";
import { SVG_KINDS } from "./shapes.js";

const KINDS = { ...SVG_KINDS, cells: CELLS_KIND };

export function createStage() {
  return new Stage();
}

class Stage {
  #defs = svg("defs");
  // Between a list and its items, Chromium allows only nodes without a role.
  #layer = svg("g", { class: "scene-shapes", role: "none" });
  // What is gone fades on top of what is there.
  #exits = svg("g", { class: "scene-exits", "aria-hidden": "true" });
  #picture = svg("svg", { class: "scene", role: "img" }, [this.#defs, this.#layer, this.#exits]);
  // Takes the page's colours for what is drawn on canvas, and tells when they change.
  #probe = html("span", { className: "scene-probe" });
  #scroller = html("div", { className: "scene-scroller" }, [this.#picture]);
  element = html("div", { className: "scene-stage" }, [this.#scroller, this.#probe]);

  #all = { id: "", node: this.#layer, members: new Map(), shape: null };
  #entryOf = new WeakMap();
  #byKey = new Map();
  #grids = new Set();
  #gone = []; // entries that this frame lacks
  #motion = createMotion();
  #looks = createLooks(this.#defs);
  #link = new Link({
    root: this.element,
    picture: this.#picture,
    layer: this.#layer,
    entryOf: this.#entryOf,
    look: this.#looks.look,
  });
  #density = 1; // pixels of the screen for one of the scene
  #context = {
    look: this.#looks.look,
    motion: this.#motion,
    isAnimated: false,
    duration: GLIDE_MS,
    patch: (parent, shapes) => this.#patch(parent, shapes),
    density: () => this.#density,
    colours: () => this.#colours(),
  };
  #leaving = new AbortController();
  #observer = new ResizeObserver(() => this.#measure());
  #scrolling = watchScrolling(this.#scroller, this.element);

  constructor() {
    this.#observer.observe(this.#picture);
    this.#probe.addEventListener("transitionend", () => this.#repaint());
    this.#watchPixels();
  }

  show(scene, { animate = true, duration = GLIDE_MS } = {}) {
    const isFirst = !this.#all.shape;
    this.#context.isAnimated = animate && !isFirst && !prefersStillness();
    this.#context.duration = duration;
    this.#gone = [];
    this.#looks.learn(scene.states);
    this.#frame(scene);
    const focus = this.#picture.getRootNode().activeElement;
    const focused = this.#layer.contains(focus) ? this.#entryOf.get(focus) : null;
    this.#patch(this.#all, scene.shapes);
    this.#all.shape = scene;
    for (const entry of this.#gone) this.#dismiss(entry);
    this.#link.refresh();
    if (focused) this.#keepFocus(focus, focused.thing);
  }

  light(things) {
    this.#link.light(things);
  }

  onPick(listener) {
    this.#link.onPick(listener);
  }

  onPoint(listener) {
    this.#link.onPoint(listener);
  }

  settle() {
    this.#motion.settle();
  }

  destroy() {
    this.#observer.disconnect();
    this.#scrolling.destroy();
    this.#leaving.abort();
    this.settle();
  }

  // ---- the patch ----

  #frame({ width, height, title, alt }) {
    setAttribute(this.#picture, "aria-label", `${title}. ${alt}`);
    const before = this.#all.shape;
    if (width === before?.width && height === before.height) return;
    this.#picture.setAttribute("viewBox", `0 0 ${width} ${height}`);
    this.#picture.style.setProperty("--scene-width", `${width}px`);
    this.#measure();
  }

  /** Make the nodes of `parent` show `shapes`, in their order. */
  #patch(parent, shapes) {
    const before = parent.members;
    // What is new within a group that is new appears with the group.
    const canFade = Boolean(parent.shape);
    parent.members = new Map();
    shapes.forEach((shape, position) => {
      const id = shape.id ?? (shape.key || `${parent.id}/${position}`);
      const known = before.get(id);
      const stays = known?.kind === shape.kind;
      if (stays) before.delete(id);
      const entry = stays ? known : this.#create(shape, id);
      parent.members.set(id, entry);
      if (entry.shape !== shape) this.#update(entry, shape, canFade);
    });
    for (const entry of before.values()) {
      this.#gone.push(entry);
      entry.node.remove();
    }
    arrange(parent);
  }

  #create(shape, id) {
    const { kind, key } = shape;
    const entry = { kind, id, shape: null, ...KINDS[kind].create() };
    entry.node.setAttribute("role", "none"); // until it is an item
    if (key) entry.node.dataset.key = key;
    const origin = shape.origin && this.#byKey.get(shape.origin);
    if (origin) entry.start = origin.drawn;
    this.#entryOf.set(entry.node, entry);
    if (kind === "cells") {
      this.#entryOf.set(entry.cursor, entry);
      this.#grids.add(entry);
    }
    return entry;
  }

  #update(entry, shape, canFade) {
    const appears = !entry.shape && !entry.start && canFade && this.#context.isAnimated;
    KINDS[shape.kind].update(entry, shape, this.#context);
    entry.shape = shape;
    if (shape.key) this.#byKey.set(shape.key, entry);
    this.#link.mark(entry);
    if (appears) this.#fade(entry.node, 0, 1);
  }

  /** Let go of an entry that is in the picture no more. */
  #dismiss(entry) {
    this.#forget(entry);
    if (!this.#context.isAnimated) return;
    this.#exits.append(entry.node);
    this.#fade(entry.node, 1, 0, () => entry.node.remove());
  }

  #forget(entry) {
    this.#motion.stop(entry);
    this.#link.forget(entry);
    this.#grids.delete(entry);
    const { key } = entry.shape;
    if (this.#byKey.get(key) === entry) this.#byKey.delete(key);
    delete entry.node.dataset.key;
    for (const member of entry.members?.values() ?? []) this.#forget(member);
  }

  #fade(node, from, to, whenDone) {
    this.#motion.glide(node, {
      from: [from],
      to: [to],
      duration: this.#context.duration,
      apply: ([opacity]) => node.setAttribute("opacity", opacity),
      done() {
        node.removeAttribute("opacity");
        whenDone?.();
      },
    });
  }

  /** A node that was moved within its parent has lost the focus, and so has one that is gone. */
  #keepFocus(node, thing) {
    if (!this.#layer.contains(node)) this.#link.focusInstead(thing);
    else if (node.getRootNode().activeElement !== node) node.focus({ preventScroll: true });
  }

  // ---- the page around ----

  #colours() {
    const { color, borderTopColor, outlineColor } = getComputedStyle(this.#probe);
    return { paper: color, edge: borderTopColor, ink: outlineColor };
  }

  /** Take the size of the picture on the screen, and draw grids as fine as that. */
  #measure() {
    const scale = this.#picture.getScreenCTM()?.a || 1;
    if (scale * devicePixelRatio === this.#density) return;
    this.#density = scale * devicePixelRatio;
    this.#repaint();
  }

  #repaint() {
    for (const grid of this.#grids) if (grid.shape) repaintCells(grid, this.#context);
  }

  /** Measure again whenever a pixel of the page has another number of the screen's. */
  #watchPixels() {
    const query = matchMedia(`(resolution: ${devicePixelRatio}dppx)`);
    const onChange = () => {
      this.#measure();
      this.#watchPixels();
    };
    query.addEventListener("change", onChange, { once: true, signal: this.#leaving.signal });
  }
}

/** Bring the nodes of a group into the order of its members, moving few of them. */
function arrange({ node, members }) {
  let next = node.firstChild;
  for (const entry of members.values()) {
    // A node whose place is taken by the one behind it is moved when its own turn comes.
    if (next && next !== entry.node && next.nextSibling === entry.node) next = entry.node;
    if (next === entry.node) next = next.nextSibling;
    else node.insertBefore(entry.node, next);
  }
}

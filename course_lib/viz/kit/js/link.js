// Joins what is drawn with what it stands for: pointing at an item, or reaching it with the
// keyboard, lights every shape of the same thing and whatever that lights, and names it; choosing it
// tells.
//
// All items of a picture are one stop of the Tab key; the arrow keys go to the neighbours, Home and
// End to the first and the last, Enter and Space choose where choosing means something, and Escape
// leaves. No other key is kept from the page.

import { cellAt, cellBeside, cellNearest, setCursor } from "./cells.js";
import { html, setAttribute } from "./dom.js";
import {
  centreOf,
  clientBoxOf,
  focusNode,
  isSameTarget,
  keyOfThing,
  nameOf,
  neighbourOf,
  ringsOf,
  thingOf,
} from "./items.js";

const DIRECTIONS = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };

export class Link {
  #root; // the HTML element around the picture
  #picture; // the SVG
  #layer; // the <g> that holds all items
  #entryOf; // from nodes to what is drawn there
  #look; // how states look
  #tooltip;
  #entries = new Set();
  #pickers = new Set();
  #pointers = new Set();
  #pointed = null; // targets
  #focused = null;
  #outside = []; // things that another figure has lit
  #told = [];
  #lit = new Map(); // from lit entries to their rings
  #home = null; // the entry that the Tab key comes to

  constructor({ root, picture, layer, entryOf, look }) {
    [this.#root, this.#picture, this.#layer] = [root, picture, layer];
    [this.#entryOf, this.#look] = [entryOf, look];
    this.#tooltip = html("div", { className: "scene-tooltip", hidden: true });
    this.#tooltip.setAttribute("aria-hidden", "true"); // it says what the item is called
    root.append(this.#tooltip);
    root.addEventListener("pointermove", (event) => this.#point(this.#targetAt(event)));
    root.addEventListener("pointerleave", () => this.#point(null));
    root.addEventListener("click", (event) => this.#click(this.#targetAt(event)));
    // Not on the layer: Chromium takes an SVG element that listens for the focus for a stop of Tab.
    root.addEventListener("focusin", (event) => this.#focus(event.target));
    root.addEventListener("focusout", () => this.#focusOn(null));
    root.addEventListener("keydown", (event) => this.#key(event));
  }

  // ---- what the stage tells ----

  /** Take note of what an entry shows now. */
  mark(entry) {
    this.#entries.add(entry);
    const { shape } = entry;
    const isGrid = entry.kind === "cells";
    const isItem = isGrid || Boolean(shape.of || shape.tooltip);
    const name = isItem && !isGrid ? nameOf({ entry, cell: null }, this.#look) : null;
    entry.thing = shape.of && !isGrid ? keyOfThing(shape.of) : "";
    if (name !== entry.name && !isGrid) setAttribute(entry.node, "aria-label", name);
    entry.name = name;
    if (isItem === Boolean(entry.isItem)) return;
    entry.isItem = isItem;
    const node = focusNode(entry);
    setAttribute(node, "data-item", isItem ? "" : null);
    setAttribute(node, "role", isItem ? this.#itemRole : "none");
    setAttribute(node, "tabindex", isItem ? "-1" : null);
  }

  /** Let go of an entry that is drawn no more, or fades. */
  forget(entry) {
    this.#entries.delete(entry);
    this.#unlight(entry);
    if (this.#pointed?.entry === entry) this.#pointed = null;
    if (this.#focused?.entry === entry) this.#focused = null;
    if (this.#home === entry) this.#home = null;
    entry.isItem = false;
    for (const name of ["data-item", "tabindex"]) focusNode(entry).removeAttribute(name);
    focusNode(entry).setAttribute("role", "none");
  }

  /** Call after each frame: there are other items, and what is lit may have another extent. */
  refresh() {
    if (!this.#home?.isItem) this.#setHome(this.#items()[0] ?? null);
    const listRole = this.#pickers.size ? "listbox" : "list";
    this.#picture.setAttribute("role", this.#home ? listRole : "img");
    const hasLight = this.#outside.length || this.#lit.size || this.#told.length;
    if (this.#pointed || this.#focused || hasLight || !this.#tooltip.hidden) this.#apply();
  }

  /** Put the focus on an item of this thing, as the one that had it is gone. */
  focusInstead(thing) {
    const items = this.#items();
    const same = items.find((entry) => thing && entry.thing === thing);
    const instead = same ?? this.#home;
    if (instead) focusNode(instead).focus({ preventScroll: true });
  }

  // ---- what others ask for ----

  light(things) {
    this.#outside = things;
    this.#apply();
  }

  onPick(listener) {
    this.#pickers.add(listener);
    this.#picture.classList.add("scene-pickable");
    for (const entry of this.#items()) focusNode(entry).setAttribute("role", this.#itemRole);
    this.refresh();
  }

  onPoint(listener) {
    this.#pointers.add(listener);
  }

  // ---- items ----

  get #itemRole() {
    return this.#pickers.size ? "option" : "listitem";
  }

  /** Return the entries of all items, in the order in which they are drawn. */
  #items() {
    return [...this.#layer.querySelectorAll("[data-item]")].map((node) => this.#entryOf.get(node));
  }

  #setHome(entry) {
    if (this.#home?.isItem) focusNode(this.#home).setAttribute("tabindex", "-1");
    this.#home = entry;
    if (entry) focusNode(entry).setAttribute("tabindex", "0");
  }

  // ---- light and names ----

  #apply() {
    const active = this.#pointed ?? this.#focused;
    const things = active ? this.#thingsOf(active) : this.#outside;
    for (const entry of [...this.#lit.keys()]) this.#unlight(entry);
    const keys = new Set(things.map(keyOfThing));
    if (keys.size) for (const entry of this.#entries) this.#light(entry, things, keys);
    this.#showTooltip(active);
    const told = active ? things : [];
    if (keyOfThing(told) === keyOfThing(this.#told)) return;
    this.#told = told;
    for (const listener of this.#pointers) listener(told);
  }

  /** Return the things that light up with a target: its own, and what any shape of that lights. */
  #thingsOf(target) {
    const own = thingOf(target);
    if (!own) return target.entry.shape.lights;
    const key = keyOfThing(own);
    const same = [...this.#entries].filter((entry) => entry.thing === key);
    return [own, ...same.flatMap((entry) => entry.shape.lights)];
  }

  #light(entry, things, keys) {
    const rings = ringsOf(entry, things, keys);
    if (!rings) return;
    entry.node.append(...rings);
    entry.node.classList.add("scene-lit");
    this.#lit.set(entry, rings);
  }

  #unlight(entry) {
    for (const ring of this.#lit.get(entry) ?? []) ring.remove();
    entry.node.classList.remove("scene-lit");
    this.#lit.delete(entry);
  }

  /** Name a target beside it: above, or below where there is no room. */
  #showTooltip(target) {
    const tooltip = this.#tooltip;
    const text = target ? nameOf(target, this.#look) : "";
    tooltip.hidden = !text;
    if (!text) return;
    if (tooltip.textContent !== text) tooltip.textContent = text;
    const box = clientBoxOf(target);
    const around = this.#root.getBoundingClientRect();
    const [width, height] = [tooltip.offsetWidth, tooltip.offsetHeight];
    const left = box.x + box.width / 2 - around.x - width / 2;
    const above = box.y - height - 8;
    const top = above >= Math.max(0, around.y) ? above : box.y + box.height + 8;
    tooltip.style.left = `${Math.max(0, Math.min(left, around.width - width))}px`;
    tooltip.style.top = `${top - around.y}px`;
  }

  // ---- pointer ----

  #targetAt(event) {
    for (let node = event.target; node && node !== this.#picture; node = node.parentNode) {
      const entry = this.#entryOf.get(node);
      if (!entry?.isItem) continue;
      if (entry.kind !== "cells") return { entry, cell: null };
      const cell = cellAt(entry, this.#scenePoint([event.clientX, event.clientY]));
      return cell < 0 ? null : { entry, cell };
    }
    return null;
  }

  #scenePoint([x, y]) {
    const toScene = this.#picture.getScreenCTM().inverse();
    const point = new DOMPoint(x, y).matrixTransform(toScene);
    return [point.x, point.y];
  }

  #point(target) {
    if (isSameTarget(target, this.#pointed)) return;
    this.#pointed = target;
    this.#apply();
  }

  #click(target) {
    if (!target) return;
    if (target.cell !== null) setCursor(target.entry, target.cell, this.#look);
    focusNode(target.entry).focus({ preventScroll: true });
    this.#pick(target);
  }

  /** Tell that a target was chosen; return whether anybody wants to know. */
  #pick(target) {
    const thing = thingOf(target);
    if (thing) for (const listener of this.#pickers) listener(thing);
    return Boolean(thing && this.#pickers.size);
  }

  // ---- keyboard ----

  #focus(node) {
    const entry = this.#entryOf.get(node);
    if (!entry?.isItem) return;
    this.#setHome(entry);
    this.#focusOn({ entry, cell: entry.kind === "cells" ? entry.cell : null });
  }

  #focusOn(target) {
    this.#focused = target;
    this.#apply();
  }

  #key(event) {
    const isPlain = !(event.altKey || event.ctrlKey || event.metaKey || event.shiftKey);
    if (!this.#focused || !isPlain || !this.#handles(event.key)) return;
    event.preventDefault();
    event.stopPropagation();
  }

  /** Do what a key asks for; return whether it asks for anything. */
  #handles(key) {
    if (key in DIRECTIONS) this.#move(DIRECTIONS[key]);
    else if (key === "Home") this.#goTo(this.#items().at(0));
    else if (key === "End") this.#goTo(this.#items().at(-1));
    else if (key === "Escape") this.#leave();
    else return (key === "Enter" || key === " ") && this.#pick(this.#focused);
    return true;
  }

  /** Go from the item that has the focus to its neighbour. */
  #move(direction) {
    const { entry, cell } = this.#focused;
    this.#pointed = null;
    const beside = cell === null ? -1 : cellBeside(entry, direction);
    if (beside >= 0) {
      setCursor(entry, beside, this.#look);
      this.#focusOn({ entry, cell: beside });
      entry.cursor.scrollIntoView({ block: "nearest", inline: "nearest" });
      return;
    }
    const next = neighbourOf(this.#focused, direction, this.#items());
    if (next?.kind === "cells") {
      const from = this.#scenePoint(centreOf(this.#focused));
      setCursor(next, cellNearest(next, from), this.#look);
    }
    this.#goTo(next);
  }

  #goTo(entry) {
    this.#pointed = null;
    if (entry) focusNode(entry).focus();
  }

  #leave() {
    const around = this.#root.parentElement?.closest("[tabindex]");
    if (around) around.focus({ preventScroll: true });
    else focusNode(this.#focused.entry).blur();
  }
}

// What can be reached in a picture: which thing it stands for, what it is called, and where it is.
//
// An *item* is an entry (see shapes.js) that stands for a thing or has a tooltip, or a cell of a
// grid. A *target* names an item: {entry, cell}, where `cell` is null unless the entry is a grid.

import { boxOfCell, nameOfCell, thingOfCell } from "./cells.js";
import { svg } from "./dom.js";

const INSET_FROM = 16; // pixels: a box that is smaller gets its ring outside

/** Return a thing, such as ["block", 7], as a text that can be compared. */
export function keyOfThing(thing) {
  return JSON.stringify(thing);
}

export function thingOf({ entry, cell }) {
  return cell === null ? entry.shape.of : thingOfCell(entry, cell);
}

export function isSameTarget(a, b) {
  return a?.entry === b?.entry && a?.cell === b?.cell;
}

/** Return the node that takes the focus for an entry. */
export function focusNode(entry) {
  return entry.kind === "cells" ? entry.cursor : entry.node;
}

/** Return what an item is called: its tooltip, else what it stands for and the state of that. */
export function nameOf({ entry, cell }, look) {
  if (cell !== null) return nameOfCell(entry, cell, look);
  const { of: thing, tooltip, state } = entry.shape;
  if (tooltip || !thing) return tooltip;
  const label = look(state ?? "")?.label;
  return label ? `${thing.join(" ")}: ${label}` : thing.join(" ");
}

// ---- where ----------------------------------------------------------------------------------

/** Return where an item is in the window. */
export function clientBoxOf({ entry, cell }) {
  if (cell === null) return entry.node.getBoundingClientRect();
  const box = boxOfCell(entry, cell);
  const toClient = entry.node.getScreenCTM();
  const { x, y } = new DOMPoint(box.x, box.y).matrixTransform(toClient);
  return { x, y, width: box.width * toClient.a, height: box.height * toClient.d };
}

/** Return the centre in the window of the item that has the focus. */
export function centreOf(target) {
  const { x, y, width, height } = clientBoxOf(target);
  return [x + width / 2, y + height / 2];
}

/** Return where another item is, seen from a point: its centre, or the nearest point of a grid. */
function pointOf(entry, [x, y]) {
  if (entry.kind !== "cells") return centreOf({ entry, cell: null });
  const box = entry.frame.getBoundingClientRect();
  const within = (value, start, length) => Math.max(start, Math.min(value, start + length));
  return [within(x, box.x, box.width), within(y, box.y, box.height)];
}

/** Return the nearest entry in a direction; what lies straight ahead counts as nearer. */
export function neighbourOf(target, [dx, dy], entries) {
  const [x, y] = centreOf(target);
  let [best, least] = [null, Infinity];
  for (const entry of entries) {
    if (entry === target.entry) continue;
    const [otherX, otherY] = pointOf(entry, [x, y]);
    const along = (otherX - x) * dx + (otherY - y) * dy;
    const across = Math.abs((otherX - x) * dy + (otherY - y) * dx);
    const distance = along + 3 * across;
    if (along > 0.5 && distance < least) [best, least] = [entry, distance];
  }
  return best;
}

// ---- rings ----------------------------------------------------------------------------------

/**
 * Return rings for what an entry shows of some things; null if it shows none of them.
 *
 * @param things The things that are lit.
 * @param keys The same as a set of texts.
 */
export function ringsOf(entry, things, keys) {
  if (entry.kind === "cells") return ringsOfCells(entry, things);
  if (!entry.thing || !keys.has(entry.thing)) return null;
  const { kind, shape, node } = entry;
  if (kind === "line" || kind === "area") return []; // drawn heavier instead
  if (kind === "rect") return [ringOfBox({ ...shape, x: 0, y: 0 })];
  return [ringAround(node.getBBox(), 4)];
}

function ringsOfCells(entry, things) {
  const { of: kind, first, cells } = entry.shape;
  const numbers = things.filter((thing) => thing[0] === kind).map((thing) => thing[1] - first);
  const isCell = (n) => Number.isInteger(n) && n >= 0 && n < cells.length;
  const found = [...new Set(numbers.filter(isCell))];
  return found.length ? found.map((n) => ringOfBox(boxOfCell(entry, n))) : null;
}

/** Return a ring on the edge of a box: within, where no neighbour covers it, if there is room. */
function ringOfBox(box) {
  return ringAround(box, Math.min(box.width, box.height) >= INSET_FROM ? -2.5 : 1.5);
}

/** Return a ring that stands out from any fill, on a light and on a dark page. */
function ringAround({ x, y, width, height, radius = 0 }, distance) {
  const box = {
    rx: Math.max(0, radius + distance),
    x: x - distance,
    y: y - distance,
    width: Math.max(0, width + 2 * distance),
    height: Math.max(0, height + 2 * distance),
  };
  const lines = [svg("rect", { ...box, class: "scene-ring-halo" }), svg("rect", box)];
  return svg("g", { class: "scene-ring" }, lines);
}

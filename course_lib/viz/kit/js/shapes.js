// Draws the kinds of shapes that are SVG, and changes what is drawn into what the next frame shows.
//
// What is drawn of a shape is an *entry*: {kind, id, shape, node, ...}. `node` is a <g> that stays
// the same for as long as the shape has the same id; `shape` is what it shows now. A kind is a pair
// of functions: create() returns what an entry that shows nothing yet has of its own; update(entry,
// shape, context) sets the attributes that differ from `entry.shape`. The context is stage.js's:
//
// - look(state): {label, isPaper, className, fill, colour, ink, dash} of a state, null for none;
// - isAnimated, duration: whether this frame moves, and for how many milliseconds;
// - motion: the loop of motion.js;
// - patch(entry, shapes): draws the members of a group.

import { setAttribute, svg } from "./dom.js";

const NOTHING = {};
const rounded = (number) => Math.round(number * 100) / 100;

/**
 * Move an entry to `target`, a list of numbers that place(entry, values) draws. It comes from where
 * it is drawn, or from `entry.start` if it is new and was copied from something.
 */
function goTo(entry, target, place, context) {
  const apply = (values) => {
    place(entry, values);
    entry.drawn = [...values];
  };
  const isAt = (values) => values?.length === target.length && values.every(isOfTarget);
  const isOfTarget = (value, k) => value === target[k];
  const from = entry.drawn ?? entry.start;
  if (context.isAnimated && from?.length === target.length && !isAt(from)) {
    const { duration } = context;
    context.motion.glide(entry, { from, to: target, duration, apply });
  } else {
    context.motion.stop(entry);
    if (!isAt(entry.drawn)) apply(target);
  }
}

// ---- boxes ----------------------------------------------------------------------------------

function createRect() {
  const box = svg("rect");
  return { box, label: null, ghost: null, node: svg("g", {}, [box]) };
}

function placeRect(entry, [x, y, width, height]) {
  const [wasX, wasY, wasWidth, wasHeight] = entry.drawn ?? [];
  if (x !== wasX || y !== wasY) moveNode(entry.node, x, y);
  if (width === wasWidth && height === wasHeight) return;
  for (const box of entry.ghost ? [entry.box, entry.ghost] : [entry.box]) {
    box.setAttribute("width", rounded(width));
    box.setAttribute("height", rounded(height));
  }
  if (entry.label) placeLabel(entry.label, width, height);
}

function moveNode(node, x, y) {
  node.setAttribute("transform", `translate(${rounded(x)} ${rounded(y)})`);
}

function placeLabel(label, width, height) {
  label.setAttribute("x", rounded(width / 2));
  label.setAttribute("y", rounded(height / 2));
}

function updateRect(entry, shape, context) {
  const before = entry.shape ?? NOTHING;
  const look = context.look(shape.state);
  if (shape.state !== before.state || shape.outline !== before.outline) {
    if (context.isAnimated && before.state !== undefined) leaveGhost(entry, context);
    const fill = look ? look.className : " scene-hollow";
    entry.box.setAttribute("class", `scene-box scene-outline-${shape.outline}${fill}`);
    setAttribute(entry.box, "fill", look?.fill ?? null);
    setAttribute(entry.node, "data-state", shape.state || null);
  }
  if (shape.radius !== before.radius) entry.box.setAttribute("rx", shape.radius);
  updateLabel(entry, shape, before, look);
  goTo(entry, [shape.x, shape.y, shape.width, shape.height], placeRect, context);
}

/** Let the look that a box had fade over the look that it has now. */
function leaveGhost(entry, { motion, duration }) {
  if (entry.ghost) {
    motion.stop(entry.ghost);
    entry.ghost.remove();
  }
  const ghost = entry.box.cloneNode();
  ghost.classList.add("scene-ghost");
  entry.box.after(ghost);
  entry.ghost = ghost;
  motion.glide(ghost, {
    from: [1],
    to: [0],
    duration,
    apply: ([opacity]) => ghost.setAttribute("fill-opacity", rounded(opacity)),
    done() {
      ghost.remove();
      entry.ghost = null;
    },
  });
}

function updateLabel(entry, shape, before, look) {
  const isSame = ["label", "labelSize", "state"].every((name) => shape[name] === before[name]);
  if (isSame) return;
  if (!shape.label) {
    entry.label?.remove();
    entry.label = null;
    return;
  }
  if (!entry.label) {
    entry.label = svg("text");
    (entry.ghost ?? entry.box).after(entry.label);
    const [, , width, height] = entry.drawn ?? [0, 0, shape.width, shape.height];
    placeLabel(entry.label, width, height);
  }
  const isOnPaper = !look || look.isPaper;
  entry.label.textContent = shape.label;
  entry.label.setAttribute("class", isOnPaper ? "scene-label scene-on-paper" : "scene-label");
  entry.label.setAttribute("font-size", shape.labelSize);
  setAttribute(entry.label, "fill", isOnPaper ? null : look.ink);
  setAttribute(entry.label, "stroke", isOnPaper ? null : look.colour);
}

// ---- text -----------------------------------------------------------------------------------

function createText() {
  const text = svg("text");
  return { text, node: svg("g", {}, [text]) };
}

function updateText(entry, shape, context) {
  const before = entry.shape ?? NOTHING;
  const { text } = entry;
  if (shape.text !== before.text) text.textContent = shape.text;
  if (shape.tone !== before.tone) text.setAttribute("class", `scene-fill-${shape.tone}`);
  if (shape.size !== before.size) text.setAttribute("font-size", shape.size);
  if (shape.anchor !== before.anchor) text.setAttribute("text-anchor", shape.anchor);
  if (shape.bold !== before.bold) setAttribute(text, "font-weight", shape.bold ? "bold" : null);
  goTo(entry, [shape.x, shape.y], ({ node }, [x, y]) => moveNode(node, x, y), context);
}

// ---- lines and areas ------------------------------------------------------------------------

/** Write coordinates x, y, x, y... as the attribute `points`. */
function setPoints(node, values) {
  node.setAttribute("points", values.map(rounded).join(" "));
}

function createLine() {
  const line = svg("polyline");
  const head = svg("polygon");
  return { line, head, node: svg("g", {}, [line, head]) };
}

function updateLine(entry, shape, context) {
  const look = context.look(shape.state);
  const dashOfTone = shape.dashed ? "7 5" : null;
  const tone = look ? "" : ` scene-stroke-${shape.tone}`;
  setAttribute(entry.line, "class", `scene-line${tone}`);
  if (shape.thickness !== entry.shape?.thickness) {
    entry.line.style.setProperty("--scene-thickness", `${shape.thickness}px`);
  }
  setAttribute(entry.line, "stroke", look ? look.colour : null);
  setAttribute(entry.line, "stroke-dasharray", look ? look.dash : dashOfTone);
  setAttribute(entry.head, "class", look ? null : `scene-fill-${shape.tone}`);
  setAttribute(entry.head, "fill", look ? look.colour : null);
  const place = ({ line, head }, values) => {
    const length = 2 * shape.points.length;
    setPoints(line, values.slice(0, length));
    setPoints(head, values.slice(length));
  };
  goTo(entry, [...shape.points.flat(), ...shape.head.flat()], place, context);
}

function createArea() {
  const area = svg("polygon");
  return { area, node: svg("g", {}, [area]) };
}

function updateArea(entry, shape, context) {
  if (shape.state !== entry.shape?.state) {
    const look = context.look(shape.state);
    entry.area.setAttribute("class", `scene-area${look.className}`);
    setAttribute(entry.area, "fill", look.fill);
  }
  const place = ({ area }, values) => setPoints(area, values);
  goTo(entry, shape.points.flat(), place, context);
}

// ---- groups ---------------------------------------------------------------------------------

function createGroup() {
  return { members: new Map(), node: svg("g") };
}

function updateGroup(entry, shape, context) {
  const before = entry.shape?.data ?? NOTHING;
  for (const name of Object.keys(before)) {
    if (!(name in shape.data)) delete entry.node.dataset[name];
  }
  for (const [name, value] of Object.entries(shape.data)) {
    if (before[name] !== value) entry.node.dataset[name] = value;
  }
  context.patch(entry, shape.shapes);
}

export const SVG_KINDS = {
  rect: { create: createRect, update: updateRect },
  text: { create: createText, update: updateText },
  line: { create: createLine, update: updateLine },
  area: { create: createArea, update: updateArea },
  group: { create: createGroup, update: updateGroup },
};

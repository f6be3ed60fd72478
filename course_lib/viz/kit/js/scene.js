// Draws scenes (course_lib/viz/kit) as SVG. Every position and every word comes from Python;
// this module draws, steps through frames and lets boxes glide to where they are in the next frame.
//
// Model: frames [{scene, caption}], index, message (shown in place of the picture when not empty),
// interval (milliseconds per frame while playing).

const SVG_NAMESPACE = "http://www.w3.org/2000/svg";
const GLIDE_MS = 260;

// Pattern ids are global to a page, so each drawing numbers its own. Every widget loads an instance of
// this module of its own, so the number alone would not do.
const INSTANCE = Math.random().toString(36).slice(2);
let drawings = 0;

function svg(name, attributes = {}, children = []) {
  const node = document.createElementNS(SVG_NAMESPACE, name);
  for (const [key, value] of Object.entries(attributes)) node.setAttribute(key, value);
  node.append(...children);
  return node;
}

function html(name, properties = {}, children = []) {
  const node = Object.assign(document.createElement(name), properties);
  node.append(...children);
  return node;
}

// ---- one scene ------------------------------------------------------------------------------

const HATCHES = {
  "/": "M-2,2 L2,-2 M0,10 L10,0 M8,12 L12,8",
  "\\": "M-2,8 L2,12 M0,0 L10,10 M8,-2 L12,2",
  x: "M0,10 L10,0 M0,0 L10,10",
  "-": "M0,5 L10,5",
  ".": "M2,3 a1,1 0 1,0 2,0 a1,1 0 1,0 -2,0",
};

function hatchPattern(id, state) {
  const fill = svg("rect", { width: 10, height: 10, ...fillOf(state) });
  const ink = state.isPaper ? "var(--scene-ink)" : state.ink;
  const mark = svg("path", { d: HATCHES[state.hatch], class: "scene-hatch" });
  mark.style.stroke = ink;
  return svg("pattern", { id, width: 10, height: 10, patternUnits: "userSpaceOnUse" }, [fill, mark]);
}

function fillOf(state) {
  return state.isPaper ? { class: "scene-paper" } : { fill: state.colour };
}

function drawRect(shape, context) {
  const { x, y, width, height } = shape;
  const state = context.states[shape.state];
  const box = svg("rect", { x, y, width, height, rx: shape.radius });
  box.classList.add("scene-box", `scene-outline-${shape.outline}`);
  if (!state) box.classList.add("scene-hollow");
  else if (state.hatch) box.setAttribute("fill", `url(#${context.patternId(shape.state)})`);
  else if (state.isPaper) box.classList.add("scene-paper");
  else box.setAttribute("fill", state.colour);
  const group = svg("g", {}, [box]);
  if (shape.state) group.dataset.state = shape.state;
  if (shape.label) group.append(boxLabel(shape, state));
  if (shape.tooltip) group.prepend(title(shape.tooltip));
  if (shape.key) {
    group.dataset.key = shape.key;
    context.keyed.set(shape.key, { group, box, x, y, width, height });
  }
  return group;
}

function boxLabel(shape, state) {
  const label = svg("text", {
    x: shape.x + shape.width / 2,
    y: shape.y + shape.height / 2,
    class: "scene-label",
    "font-size": shape.labelSize,
  });
  label.textContent = shape.label;
  if (!state || state.isPaper) label.classList.add("scene-on-paper");
  else Object.assign(label.style, { fill: state.ink, stroke: state.colour });
  return label;
}

function drawText(shape) {
  const text = svg("text", {
    x: shape.x,
    y: shape.y,
    class: `scene-fill-${shape.tone}`,
    "font-size": shape.size,
    "text-anchor": shape.anchor,
    "font-weight": shape.bold ? "bold" : "normal",
  });
  text.textContent = shape.text;
  return text;
}

function drawLine(shape) {
  const line = svg("polyline", {
    points: shape.points.join(" "),
    class: `scene-line scene-stroke-${shape.tone}`,
    "stroke-width": shape.thickness,
  });
  if (shape.dashed) line.setAttribute("stroke-dasharray", "7 5");
  const head = shape.head.length
    ? [svg("polygon", { points: shape.head.join(" "), class: `scene-fill-${shape.tone}` })]
    : [];
  return svg("g", {}, [line, ...head]);
}

function drawGroup(shape, context) {
  const group = svg("g", {}, shape.shapes.map((member) => draw(member, context)));
  Object.assign(group.dataset, shape.data);
  if (shape.tooltip) group.prepend(title(shape.tooltip));
  return group;
}

function draw(shape, context) {
  return { rect: drawRect, text: drawText, line: drawLine, group: drawGroup }[shape.kind](
    shape,
    context,
  );
}

function title(text) {
  const node = svg("title");
  node.textContent = text;
  return node;
}

/** Return the SVG of a scene and where its keyed boxes are. */
export function drawScene(scene) {
  const drawing = ++drawings;
  const keys = Object.keys(scene.states);
  const patternId = (key) => `scene-${INSTANCE}-${drawing}-${keys.indexOf(key)}`;
  const context = { states: scene.states, patternId, keyed: new Map() };
  const patterns = keys
    .filter((key) => scene.states[key].hatch)
    .map((key) => hatchPattern(patternId(key), scene.states[key]));
  const root = svg(
    "svg",
    {
      viewBox: `0 0 ${scene.width} ${scene.height}`,
      class: "scene",
      role: "img",
      "aria-label": `${scene.title}. ${scene.alt}`,
    },
    [svg("defs", {}, patterns), ...scene.shapes.map((shape) => draw(shape, context))],
  );
  root.style.maxWidth = `${scene.width}px`;
  return { root, keyed: context.keyed };
}

/** Let boxes that were in the previous picture glide from there, and new ones appear. */
function glide(before, after) {
  if (!before.size || matchMedia("(prefers-reduced-motion: reduce)").matches) return;
  const timing = { duration: GLIDE_MS, easing: "ease-in-out" };
  for (const [key, now] of after) {
    const then = before.get(key);
    if (!then) {
      now.group.animate([{ opacity: 0 }, { opacity: 1 }], timing);
      continue;
    }
    const [dx, dy] = [then.x - now.x, then.y - now.y];
    if (dx || dy) {
      now.group.animate(
        [{ transform: `translate(${dx}px, ${dy}px)` }, { transform: "none" }],
        timing,
      );
    }
    if (then.width !== now.width || then.height !== now.height) {
      const size = ({ width, height }) => ({ width: `${width}px`, height: `${height}px` });
      now.box.animate([size(then), size(now)], timing);
    }
  }
}

// ---- frames ---------------------------------------------------------------------------------

const ICONS = {
  back: "M14,4 L6,10 L14,16 Z",
  next: "M6,4 L14,10 L6,16 Z",
  play: "M5,3 L16,10 L5,17 Z",
  pause: "M5,4 H8.5 V16 H5 Z M11.5,4 H15 V16 H11.5 Z",
};

function setIcon(button, icon, label) {
  const shape = svg("svg", { viewBox: "0 0 20 20", width: 20, height: 20, "aria-hidden": "true" });
  shape.append(svg("path", { d: ICONS[icon], fill: "currentColor" }));
  button.replaceChildren(shape);
  button.title = label;
  button.setAttribute("aria-label", label);
}

function iconButton(icon, label, onclick) {
  const button = html("button", { type: "button", onclick });
  button.className = `scene-button scene-${icon}`;
  setIcon(button, icon, label);
  return button;
}

function render({ model, el }) {
  const picture = html("div", { className: "scene-picture" });
  const caption = html("div", { className: "scene-caption" });
  const scrub = html("input", { type: "range", min: 0, step: 1 });
  scrub.setAttribute("aria-label", "Step");
  const counter = html("output", { className: "scene-counter" });
  const playButton = iconButton("play", "Play", () => (timer ? pause() : play()));
  const bar = html("div", { className: "scene-bar" }, [
    iconButton("back", "One step back", () => step(-1)),
    playButton,
    iconButton("next", "One step forward", () => step(1)),
    scrub,
    counter,
  ]);
  // Arrow keys belong to the figure while it has the focus, not to JupyterLab's shortcuts.
  const root = html("div", { className: "scene-root" }, [caption, picture, bar]);
  root.dataset.lmSuppressShortcuts = "true";
  el.append(root);

  let keyed = new Map();
  let timer = null;

  const lastIndex = () => model.get("frames").length - 1;
  const index = () => Math.max(0, Math.min(model.get("index"), lastIndex()));

  function show() {
    const message = model.get("message");
    const frame = model.get("frames")[index()];
    const isFilm = lastIndex() > 0;
    bar.hidden = !isFilm;
    root.tabIndex = isFilm ? 0 : -1;
    if (message || !frame) {
      const notice = html("div", { className: "scene-message", textContent: message });
      notice.setAttribute("role", "alert");
      picture.replaceChildren(notice);
      keyed = new Map();
    } else {
      const drawing = drawScene(frame.scene);
      picture.replaceChildren(drawing.root);
      glide(keyed, drawing.keyed);
      keyed = drawing.keyed;
    }
    caption.textContent = frame?.caption ?? "";
    caption.hidden = !caption.textContent;
    caption.setAttribute("aria-live", timer ? "off" : "polite");
    scrub.max = lastIndex();
    scrub.value = index();
    counter.textContent = `${index() + 1} / ${lastIndex() + 1}`;
  }

  // The position lives in the browser's model only: stepping needs no kernel.
  const goTo = (position) => model.set("index", Math.max(0, Math.min(position, lastIndex())));

  function step(by) {
    pause();
    goTo(index() + by);
  }

  function play() {
    if (index() === lastIndex()) goTo(0);
    timer = setInterval(() => {
      goTo(index() + 1);
      if (index() === lastIndex()) pause();
    }, model.get("interval"));
    setIcon(playButton, "pause", "Pause");
  }

  function pause() {
    clearInterval(timer);
    timer = null;
    setIcon(playButton, "play", "Play");
  }

  const keys = {
    ArrowLeft: () => step(-1),
    ArrowRight: () => step(1),
    Home: () => step(-index()),
    End: () => step(lastIndex()),
  };
  function onKey(event) {
    const isPlain = !(event.altKey || event.ctrlKey || event.metaKey || event.shiftKey);
    if (!isPlain || !(event.key in keys) || bar.hidden) return;
    event.preventDefault();
    event.stopPropagation();
    keys[event.key]();
  }

  root.addEventListener("keydown", onKey);
  scrub.addEventListener("input", () => {
    pause();
    goTo(Number(scrub.value));
  });
  model.on("change:frames change:index change:message", show);
  show();
  return () => {
    pause();
    model.off("change:frames change:index change:message", show);
  };
}

export default { render };

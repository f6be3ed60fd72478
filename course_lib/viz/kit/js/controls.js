// The controls of an explorer: native inputs, each with its label, its unit and its value in words.
//
// Mounted by panel.js, which connects them to the model; nothing here knows of Python.
//
// createControls(specs, values, onMove) -> { element, set(values), limit(axes) }
//   specs   what Python's controls say of themselves (course_lib/viz/kit/controls.py):
//             { kind: "range", name, label, unit, minimum, maximum, step }    whole numbers
//             { kind: "steps", name, label, unit, values, texts }             any numbers in order
//             { kind: "choice", name, label, values, texts }
//             { kind: "toggle", name, label }
//   values  a value for each name
//   onMove  called with all values whenever the reader moves one, also while a slider is dragged
//   limit   lets the controls offer only the values of a grid: [{ name, values }]

import { html } from "./dom.js";

const number = new Intl.NumberFormat("en-US");

// An id must be the only one of its page, and each figure loads an instance of this module.
const CONTROLS = Math.random().toString(36).slice(2);
let inputsMade = 0;

/** Return a control's values in order, with their texts. */
function positionsOf(spec) {
  if (spec.kind === "toggle") return { values: [false, true], texts: ["off", "on"] };
  if (spec.kind !== "range") return { values: spec.values, texts: spec.texts };
  const values = [];
  for (let value = spec.minimum; value <= spec.maximum; value += spec.step) values.push(value);
  return { values, texts: values.map((value) => number.format(value)) };
}

function only(positions, allowed) {
  const kept = [...positions.values.keys()].filter((at) => allowed.includes(positions.values[at]));
  return {
    values: kept.map((at) => positions.values[at]),
    texts: kept.map((at) => positions.texts[at]),
  };
}

/** Return the position whose value is nearest: a page without Python may know fewer values. */
function nearest(values, value) {
  const exact = values.indexOf(value);
  if (exact >= 0 || typeof value !== "number") return Math.max(0, exact);
  const distance = (at) => Math.abs(values[at] - value);
  return values.reduce((best, _, at) => (distance(at) < distance(best) ? at : best), 0);
}

// Each kind of input: { element, show(positions, at), position() }.

/** Numbers at equal distances are the slider's own. Of others, such as powers of two, it has the
 * position, so their value is told apart: as a number, and in words. */
function sliderInput(spec, readout) {
  const element = html("input", { type: "range" });
  element.setAttribute("role", "slider"); // said outright, it lets the number be told
  let shown = { values: [], texts: [] };
  let scale = null;
  const position = () => Math.round((element.value - scale.min) / scale.step);
  const tell = () => {
    const text = [shown.texts[position()], spec.unit].filter(Boolean).join(" ");
    readout.textContent = text;
    element.setAttribute("aria-valuetext", text);
    element.setAttribute("aria-valuenow", shown.values[position()]);
  };
  element.addEventListener("input", tell);
  const show = (positions, at) => {
    shown = positions;
    element.setAttribute("aria-valuemin", shown.values[0]);
    element.setAttribute("aria-valuemax", shown.values.at(-1));
    scale = evenScale(positions.values) ?? { min: 0, max: positions.values.length - 1, step: 1 };
    Object.assign(element, scale);
    element.value = scale.min + at * scale.step;
    tell();
  };
  return { element, show, position };
}

/** Return { min, max, step } of whole numbers at equal distances, or null for others. */
function evenScale(values) {
  const [min, max] = [values[0], values.at(-1)];
  const step = values.length > 1 ? values[1] - min : 1;
  const isEven = values.every((value, at) => Number.isInteger(value) && value === min + at * step);
  return isEven ? { min, max, step } : null;
}

function choiceInput() {
  const element = html("select");
  const show = (positions, at) => {
    const isNew = (text, n) => element.options[n]?.textContent !== text;
    if (element.options.length !== positions.texts.length || positions.texts.some(isNew)) {
      element.replaceChildren(
        ...positions.texts.map((textContent) => html("option", { textContent })),
      );
    }
    element.selectedIndex = at;
  };
  return { element, show, position: () => element.selectedIndex };
}

function toggleInput() {
  const element = html("input", { type: "checkbox" });
  let values = [];
  const show = (positions, at) => {
    values = positions.values;
    element.checked = values[at];
  };
  return { element, show, position: () => Math.max(0, values.indexOf(element.checked)) };
}

const INPUTS = { range: sliderInput, steps: sliderInput, choice: choiceInput, toggle: toggleInput };

function createControl(spec, value, onMove) {
  const id = `scene-${CONTROLS}-${++inputsMade}`;
  // The slider itself says its value, so the figure beside it is for the eyes.
  const readout = html("span", { className: "scene-readout", ariaHidden: "true" });
  const input = INPUTS[spec.kind](spec, readout);
  input.element.id = id;
  const label = html("label", { htmlFor: id, textContent: spec.label });
  const element = html("div", { className: `scene-control scene-${spec.kind}` }, [
    label,
    input.element,
    readout,
  ]);
  element.dataset.control = spec.name;
  let positions = positionsOf(spec);
  const set = (next) => input.show(positions, nearest(positions.values, next));
  const get = () => positions.values[input.position()];
  const limit = (allowed) => {
    const now = get();
    positions = only(positionsOf(spec), allowed);
    input.element.disabled = positions.values.length < 2;
    set(now);
  };
  set(value);
  input.element.addEventListener("input", onMove);
  return { element, set, get, limit };
}

/** Return the inputs for all specs; see the head of this file. */
export function createControls(specs, values, onMove) {
  const controls = new Map();
  const all = () => {
    const pairs = [...controls].map(([name, control]) => [name, control.get()]);
    return Object.fromEntries(pairs);
  };
  for (const spec of specs) {
    controls.set(spec.name, createControl(spec, values[spec.name], () => onMove(all())));
  }
  const element = html(
    "div",
    { className: "scene-controls" },
    [...controls.values()].map((control) => control.element),
  );
  return {
    element,
    set: (next) => controls.forEach((control, name) => control.set(next[name])),
    limit: (axes) => axes.forEach(({ name, values: allowed }) => controls.get(name).limit(allowed)),
  };
}

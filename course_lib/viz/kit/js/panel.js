// Connects an explorer's controls to its picture: from a grid that was computed before, or by
// asking Python.
//
// Mounted by figure.js where model.get("controls") is not empty, above the picture:
//
//   const panel = createPanel(model, { show, form, stale });
//   root.append(panel.element);                        // and panel.destroy() at the end
//
//   show(answer)  draws the picture for the newest values. answer is { reel, index } for a picture
//                 of the grid, { message } for settings that Python refused (in place of the
//                 picture), and null from when on the model's own frames and message hold again
//   form()        the form of pictures that the figure has room for, "wide" or "narrow"
//   stale(is)     whether the picture does not show what the controls say; figure.js dims it
//
// Traits that it uses, beside controls, values and grid: `asked`, the number of the newest request,
// which the browser sets together with values and `form`; `answered`, the number of the request that frames
// and message answer, which Python sets together with them. At most one request is under way, and
// the next one takes the newest values: what a drag has passed over is never built.
//
// grid: { axes: [{ name, values }], count, chunks, messages: { index: text } }; frame n holds the
// setting whose positions on the axes are the digits of n, the last axis running fastest.

import { createControls } from "./controls.js";
import { html, setText } from "./dom.js";
import { createReel } from "./reel.js";

const PATIENCE_MS = 1500;

const NO_ANSWER =
  "No answer from Python: another cell is running, or this page is not connected to a notebook. " +
  "The picture is as it was.";
const NO_NOTEBOOK =
  "On this page the picture stays as it is: moving the controls needs a running notebook.";
const SOME_SETTINGS =
  "Without a running notebook, the controls offer the settings that this page holds.";

/** Return the number of the grid's frame for these values, or -1 where it has none. */
export function gridIndex(axes, values) {
  let index = 0;
  for (const axis of axes) {
    const position = axis.values.indexOf(values[axis.name]);
    if (position < 0) return -1;
    index = index * axis.values.length + position;
  }
  return index;
}

/** Return the pictures that were computed before: lookUp(values) -> answer for show, or null. */
function createGrid(grid) {
  if (!grid?.axes) return { axes: [], lookUp: () => null };
  const reel = createReel({ frames: [], chunks: grid.chunks, count: grid.count });
  const lookUp = (values) => {
    const index = gridIndex(grid.axes, values);
    if (index < 0) return null;
    return index in grid.messages ? { message: grid.messages[index] } : { reel, index };
  };
  return { axes: grid.axes, lookUp };
}

/** Return requests to Python, one at a time: send(values) asks for a picture, or keeps it in mind.
 *
 * The model has the values that were sent last. It must not be ahead of them: Python's echo of a
 * request would set it back, and the newest values would be lost.
 */
function createRequests(model, { setValues, form, onPatience }) {
  let underWay = 0;
  let sent = "";
  let next = null;
  let timer = null;

  function send(values) {
    next = values;
    if (underWay) return;
    underWay = Math.max(model.get("asked"), model.get("answered")) + 1;
    setValues(next);
    sent = JSON.stringify(next);
    next = null;
    model.set("form", form());
    model.set("asked", underWay);
    model.save_changes();
    timer = setTimeout(() => onPatience(false), PATIENCE_MS);
  }

  function answered() {
    if (!underWay || model.get("answered") < underWay) return;
    underWay = 0;
    clearTimeout(timer);
    onPatience(true);
    if (next) send(next);
  }

  model.on("change:answered", answered);
  const destroy = () => {
    clearTimeout(timer);
    model.off("change:answered", answered);
  };
  const isEcho = (values) => underWay > 0 && JSON.stringify(values) === sent;
  return { send, isEcho, destroy };
}

/** Return the controls of a model and keep its picture in step; see the head of this file. */
export function createPanel(model, { show, form, stale }) {
  let wanted = model.get("values");
  const grid = createGrid(model.get("grid"));
  const controls = createControls(model.get("controls"), wanted, move);
  const status = html("div", { className: "scene-status", role: "status" });
  const element = html("div", { className: "scene-panel" }, [controls.element, status]);
  const isAlone = Boolean(model.get("standalone"));
  const requests = createRequests(model, { setValues, form, onPatience });

  /** Tell other views of the figure, and nobody here: the reader has moved the controls. */
  let isOwn = false;
  function setValues(values) {
    isOwn = true;
    model.set("values", values);
    isOwn = false;
  }

  function onPatience(hasAnswered) {
    if (grid.lookUp(wanted)) return;
    setText(status, hasAnswered ? "" : NO_ANSWER);
    stale(!hasAnswered);
    if (hasAnswered) draw(null);
  }

  let drawn = null; // from the grid; the model's own picture is drawn whenever it changes
  function draw(answer) {
    if (answer || drawn) show(answer);
    drawn = answer;
  }

  function move(values) {
    wanted = values;
    const known = grid.lookUp(wanted);
    if (known) draw(known);
    if (isAlone) setValues(wanted);
    else requests.send(wanted); // also with a grid: Python's own values and scene keep step
  }

  /** The values were set by Python, or in another view of the figure. */
  function follow() {
    if (isOwn || requests.isEcho(model.get("values"))) return;
    wanted = model.get("values");
    controls.set(wanted);
    draw(grid.lookUp(wanted));
  }

  if (isAlone) {
    const asTheyAre = Object.entries(wanted).map(([name, value]) => ({ name, values: [value] }));
    controls.limit(grid.axes.length ? grid.axes : asTheyAre);
    status.textContent = grid.axes.length ? SOME_SETTINGS : NO_NOTEBOOK;
  }
  model.on("change:values", follow);
  const known = grid.lookUp(wanted);
  if (known) draw(known);
  const destroy = () => {
    model.off("change:values", follow);
    requests.destroy();
  };
  return { element, destroy };
}

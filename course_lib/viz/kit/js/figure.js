// The front end of every figure: puts corner, controls, caption, picture and bar together.
//
// The model's traits are those of `Figure` in view.py. The position in a film lives in the browser's
// model only, so stepping needs no kernel.
//
//   .scene-root
//     .scene-tools      the corner (tools.js)
//     .scene-panel      the controls of an explorer (panel.js)
//     .scene-caption    what has just happened (caption.js)
//     .scene-message    why there is no picture
//     .scene-picture    the picture; it scrolls sideways where the page is too narrow (stage.js)
//     .scene-bar        the bar of a film (player.js)

import { createCaption } from "./caption.js";
import { html } from "./dom.js";
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

function reelOf(model) {
  const [frames, chunks] = [model.get("frames"), model.get("chunks")];
  // Without chunks, the first pictures are all there is.
  return createReel({ frames, chunks, count: chunks.length ? model.get("count") : frames.length });
}

function render({ model, el }) {
  const caption = createCaption();
  const message = html("div", { className: "scene-message", hidden: true });
  message.setAttribute("role", "alert");
  const stage = createStage();
  const picture = html("div", { className: "scene-picture" }, [stage.element]);
  const root = html("div", { className: "scene-root", tabIndex: -1 });
  root.setAttribute("role", "group");
  el.append(root);

  let reel = reelOf(model);
  let answer = null; // of the controls; null where the model's own picture holds
  let isLecture = false;
  let shownForm = "";
  let shownAt = -Infinity;
  let shownIndex = 0;
  let newest = 0;
  let left = 0; // pictures that play has just passed over
  let shown = Promise.resolve(); // the picture asked for last is there

  const bar = createBar({
    count: reel.count,
    marks: model.get("marks"),
    runs: model.get("runs"),
    interval: model.get("interval"),
    onGo(position, passed) {
      link.tell(position);
      return moveTo(position, passed);
    },
  });
  const link = linkFilms(model.get("link"), (position) => {
    bar.pause();
    moveTo(position);
  });
  const tools = createTools(root, {
    picture() {
      stage.settle(); // what is on its way arrives first
      return picture.querySelector("svg.scene");
    },
    name: () => root.getAttribute("aria-label"),
    step: (by) => bar.keys[by > 0 ? "ArrowRight" : "ArrowLeft"](),
    onLecture(isOn) {
      isLecture = isOn;
      show();
    },
  });
  const panel = model.get("controls").length ? createPanel(model, { show: showAnswer, stale }) : null;
  const parts = [caption.element, message, picture, bar.element];
  root.append(tools.element, ...(panel ? [panel.element] : []), ...parts);

  const index = () => Math.max(0, Math.min(model.get("index"), reel.count - 1));

  function moveTo(position, passed = 0) {
    left = passed;
    model.set("index", position);
    left = 0;
    return shown;
  }

  function showAnswer(newAnswer) {
    answer = newAnswer;
    show();
  }

  function stale(is) {
    picture.classList.toggle("scene-stale", is);
  }

  /** Return the form that fits the width of the page. */
  function form() {
    const first = model.get("frames")[0];
    const isNarrow = first?.narrow && root.clientWidth && !isLecture;
    return isNarrow && root.clientWidth < SMALLEST * first.scene.width ? "narrow" : "wide";
  }

  function show() {
    if (!answer) bar.set(index(), ""); // the next key counts from here, whenever the picture comes
    shown = draw(++newest, left);
  }

  // A picture may come later than it was asked for; only the one asked for last is shown.
  async function draw(request, passed) {
    const text = answer?.message ?? (answer ? "" : model.get("message"));
    const [source, position] = answer?.reel ? [answer.reel, answer.index] : [reel, index()];
    shownForm = form();
    const frame = text || !source.count ? null : await source.frame(position, shownForm);
    if (request !== newest) return;
    message.textContent = text;
    message.hidden = !text;
    picture.hidden = !frame;
    if (!frame) return;
    // Between pictures far apart, a motion would tell of nothing that happened.
    const isNear = Math.abs(position - shownIndex) <= 1 || passed > 0 || Boolean(answer);
    // While a control is dragged, pictures come faster than anything could glide.
    const isDragged = panel !== null && performance.now() - shownAt < GLIDE_MS;
    shownIndex = position;
    shownAt = performance.now();
    stage.show(frame.scene, { animate: isNear && !isDragged });
    root.setAttribute("aria-label", model.get("label") || frame.scene.title);
    // On the scrubber, its value says where the film is.
    caption.setLive(!bar.isPlaying() && !document.activeElement?.matches(".bar-scrubber"));
    caption.show(frame.caption, passed);
    if (!answer) bar.set(position, frame.caption);
  }

  function onFrames() {
    reel = reelOf(model);
    onGrowth();
  }

  function onGrowth() {
    const { length } = model.get("chunks");
    reel.extend(model.get("chunks"), length ? model.get("count") : model.get("frames").length);
    bar.setCount(reel.count, model.get("marks"), model.get("runs"));
    caption.keepRoomFor(model.get("longest"));
    show();
  }

  /** Let things be chosen from the moment that Python listens. */
  function onPicks() {
    if (!model.get("picks")) return;
    model.off("change:picks", onPicks);
    stage.onPick((thing) => model.send({ pick: thing }));
  }

  const onKey = keyHandler(() => ({ ...(reel.count > 1 ? bar.keys : {}), ...tools.keys() }));
  const sizes = new ResizeObserver(() => {
    if (form() !== shownForm) show();
  });
  root.addEventListener("keydown", onKey);
  sizes.observe(root);
  model.on("change:frames", onFrames);
  model.on(GROWTH, onGrowth);
  model.on("change:index change:message", show);
  model.on("change:picks", onPicks);
  onPicks();
  onGrowth();

  return () => {
    for (const part of [bar, link, tools, panel, stage]) part?.destroy();
    sizes.disconnect();
    model.off("change:frames", onFrames);
    model.off(GROWTH, onGrowth);
    model.off("change:index change:message", show);
    model.off("change:picks", onPicks);
  };
}

/** Return what answers to keys: with the figure's own action, or none where a control needs the key.
 *
 * Keys that mean something here are kept from JupyterLab's shortcuts; all others reach it.
 */
function keyHandler(actions) {
  return (event) => {
    if (event.altKey || event.ctrlKey || event.metaKey || event.defaultPrevented) return;
    const isTheirs = isForControl(event);
    const action = isTheirs ? undefined : actions()[event.key];
    if (!isTheirs && !action) return;
    event.stopPropagation();
    if (!action) return;
    event.preventDefault();
    action();
  };
}

const SLIDER_KEYS = ["PageUp", "PageDown", "Home", "End"];

/** Say whether the control that has the focus needs a key. */
function isForControl({ target, key }) {
  if (target.closest("button")) return [" ", "Enter"].includes(key);
  if (target.closest("select")) return key !== "Escape"; // letters choose too
  if (target.closest("[type=checkbox]")) return key === " ";
  const isSlider = target.closest("[type=range]:not(.bar-scrubber)");
  return Boolean(isSlider) && (key.startsWith("Arrow") || SLIDER_KEYS.includes(key));
}

export default { render };

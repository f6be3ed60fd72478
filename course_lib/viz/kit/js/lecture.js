// Lecture mode: the figure fills the screen, and a presenter's remote works it.
//
// Mounted by tools.js; figure.js passes on the keys.
//
// createLecture(root, { step, onChange }) -> { button, keys(), isOn(), destroy() }
//   root      the figure; in lecture mode it carries the class scene-lecture and data-ground
//   step(by)  goes on or back in a film
//   onChange(isOn)  so that figure.js takes the wide form and lets the picture grow
//   keys()    the keys that it uses now, by KeyboardEvent.key: F always, a remote's in lecture mode
//
// Where the page may not go full screen, as in a frame, the figure covers the page instead.

import { html } from "./dom.js";
import { groundOf } from "./ground.js";
import { setToolIcon, toolButton } from "./toolbutton.js";

const ENTER = "Full screen (F)";
const LEAVE = "Leave full screen (Escape)";

/** Return the button and the keys of lecture mode; see the head of this file. */
export function createLecture(root, { step, onChange }) {
  const button = toolButton("enlarge", ENTER, () => (isOn ? leave() : enter()));
  const blank = html("div", { className: "scene-blank", hidden: true, onclick: () => dim(false) });
  root.append(blank);
  let isOn = false;

  const dim = (isBlank) => (blank.hidden = !isBlank);

  function change(next) {
    if (next === isOn) return;
    isOn = next;
    dim(false);
    if (isOn) root.dataset.ground = groundOf(root).name; // before the page's own ground is hidden
    root.classList.toggle("scene-lecture", isOn);
    setToolIcon(button, isOn ? "reduce" : "enlarge", isOn ? LEAVE : ENTER);
    if (!isOn) delete root.dataset.ground;
    onChange(isOn);
  }

  async function enter() {
    change(true);
    root.focus();
    try {
      await root.requestFullscreen();
    } catch {
      root.classList.add("scene-covers-page"); // not allowed here
    }
  }

  function leave() {
    root.classList.remove("scene-covers-page");
    if (document.fullscreenElement === root) document.exitFullscreen();
    change(false);
  }

  // The browser's own Escape leaves full screen without telling the figure's keys.
  const onFullscreen = () => {
    const covers = root.classList.contains("scene-covers-page");
    if (document.fullscreenElement !== root && !covers) leave();
  };

  /** Any key first brings a blank screen back, as in a presentation. */
  const shown = (action) => () => (blank.hidden ? action() : dim(false));
  const on = shown(() => step(1));
  const back = shown(() => step(-1));
  const toggleBlank = () => dim(blank.hidden);
  const toggle = () => (isOn ? leave() : enter());
  const always = { f: toggle, F: toggle };
  const remote = {
    PageDown: on,
    PageUp: back,
    " ": on,
    b: toggleBlank,
    B: toggleBlank,
    ".": toggleBlank,
    Escape: leave,
  };

  document.addEventListener("fullscreenchange", onFullscreen);
  return {
    button,
    keys: () => (isOn ? { ...always, ...remote } : always),
    isOn: () => isOn,
    destroy() {
      document.removeEventListener("fullscreenchange", onFullscreen);
      leave();
    },
  };
}

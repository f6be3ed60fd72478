// The corner of a figure: lecture mode, and what is shown as a file.
//
// Mounted by figure.js:
//
//   const tools = createTools(root, { picture, name, step, onLecture });
//   root.prepend(tools.element);                         // and tools.destroy() at the end
//
//   picture()        the svg.scene that is shown, or null
//   name()           what the figure is called; the file takes its name from it
//   step(by)         goes on or back in a film; does nothing where there is no film
//   onLecture(isOn)  take the wide form and let the picture grow to the screen, or go back
//   tools.keys()     the keys that it uses now: { key: handler }, see lecture.js

import { html } from "./dom.js";
import { createExport } from "./export.js";
import { createLecture } from "./lecture.js";

/** Return the buttons of a figure; see the head of this file. */
export function createTools(root, { picture, name, step, onLecture }) {
  const lecture = createLecture(root, { step, onChange: onLecture });
  const files = createExport({ picture, name });
  const element = html("div", { className: "scene-tools" }, [...files.buttons, lecture.button]);
  return { element, keys: lecture.keys, isLecture: lecture.isOn, destroy: lecture.destroy };
}

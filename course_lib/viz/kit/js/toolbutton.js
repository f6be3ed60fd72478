// The small buttons in a figure's corner.

import { html, svg } from "./dom.js";

const TOOL_ICONS = {
  enlarge: "M3,8 V3 H8 M12,3 H17 V8 M17,12 V17 H12 M8,17 H3 V12",
  reduce: "M8,3 V8 H3 M17,8 H12 V3 M12,17 V12 H17 M3,12 H8 V17",
  download: "M10,3 V12 M6,8.5 L10,12.5 L14,8.5 M4,16.5 H16",
};

/** Give a button its icon and its name, which is also its tooltip. */
export function setToolIcon(button, icon, name) {
  button.querySelector("path").setAttribute("d", TOOL_ICONS[icon]);
  button.title = name;
  button.setAttribute("aria-label", name);
}

/** Return a button with an icon and, where the icon does not say enough, a word. */
export function toolButton(icon, name, onclick, word = "") {
  const drawing = svg("svg", { viewBox: "0 0 20 20", "aria-hidden": "true" }, [svg("path")]);
  const look = { type: "button", className: "scene-tool", onclick };
  const button = html("button", look, [drawing, word]);
  setToolIcon(button, icon, name);
  return button;
}

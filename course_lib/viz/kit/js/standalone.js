// Shows widgets on a page that has no kernel: a file of its own, or an exported notebook.
//
// A page holds, for each widget, an element of class scene-standalone with what is seen without
// scripts and a script element with JSON: { esm, css, state }, where esm and css name elements of
// the page that hold a front end's module and its style sheet as text. This module, run once, puts
// the front ends in their places, with a plain object for a model. Bytes in the state are written
// { "$bytes": base64 }. All of it is written by course_lib/viz/kit/page.py.
//
// It runs any front end that is written for anywidget, so a notebook's quizzes work too.

import { PageModel, withBytes } from "./model.js";

const textOf = (id) => document.getElementById(id).textContent;

/** Return a front end of the page; many figures share one. */
const frontEnds = new Map();
function frontEndOf({ esm, css }) {
  if (!frontEnds.has(esm)) {
    const sheet = document.createElement("style");
    sheet.textContent = textOf(css);
    document.head.append(sheet);
    const address = URL.createObjectURL(new Blob([textOf(esm)], { type: "text/javascript" }));
    frontEnds.set(esm, import(address));
  }
  return frontEnds.get(esm);
}

for (const place of document.querySelectorAll(".scene-standalone")) {
  const widget = JSON.parse(place.querySelector("script").textContent);
  const { default: frontEnd } = await frontEndOf(widget);
  const fallback = [...place.childNodes];
  const el = document.createElement("div");
  place.append(el); // before it is drawn: what is drawn asks the page for its colours and its width
  const model = new PageModel({ ...withBytes(widget.state), standalone: true });
  await frontEnd.render({ model, el });
  for (const node of fallback) node.remove();
}

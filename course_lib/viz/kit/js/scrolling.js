// Says that a picture goes on beyond the edge of its place, and lets the keyboard go there.
//
//   watchScrolling(scroller, frame) -> { destroy() }
//
// `scroller` is the element that scrolls sideways, `frame` the one around it, which has the classes
// scene-more-left and scene-more-right where there is more to see (stage.css). While there is more,
// the scroller is a stop of the Tab key, and its arrow keys scroll instead of stepping a film.

import { setAttribute } from "./dom.js";

const NAME = "Part of the picture; the arrow keys left and right show the rest";

export function watchScrolling(scroller, frame) {
  let isWide = false;

  function look() {
    // What hangs over the edge of a picture, such as a ring, makes it no wider.
    const { width } = scroller.firstElementChild.getBoundingClientRect();
    isWide = width > scroller.clientWidth + 1;
    const rest = scroller.scrollWidth - scroller.clientWidth;
    frame.classList.toggle("scene-more-left", isWide && scroller.scrollLeft > 1);
    frame.classList.toggle("scene-more-right", isWide && scroller.scrollLeft < rest - 1);
    setAttribute(scroller, "tabindex", isWide ? "0" : null);
    setAttribute(scroller, "role", isWide ? "group" : null);
    setAttribute(scroller, "aria-label", isWide ? NAME : null);
  }

  /** Leave the keys that scroll to the browser. */
  function keep(event) {
    const isOwn = isWide && event.target === scroller;
    if (isOwn && ["ArrowLeft", "ArrowRight"].includes(event.key)) event.stopPropagation();
  }

  const sizes = new ResizeObserver(look);
  sizes.observe(scroller);
  sizes.observe(scroller.firstElementChild);
  scroller.addEventListener("scroll", look, { passive: true });
  scroller.addEventListener("keydown", keep);
  return { destroy: () => sizes.disconnect() };
}

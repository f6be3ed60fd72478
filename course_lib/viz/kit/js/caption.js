// The line above a film's picture: what has just happened.
//
//   createCaption() -> {
//     element,
//     show(text, passed),      passed: how many pictures of a film were left out before this one
//     keepRoomFor(longest),    the longest text to come, so that the picture below never jumps
//     setLive(is),             whether a screen reader speaks what is new
//   }

import { html, setText } from "./dom.js";

export function createCaption() {
  const words = html("div", { className: "caption-words" });
  // The longest caption lies unseen in the same place and gives it its height, at any width.
  const room = html("div", { className: "caption-room" });
  room.setAttribute("aria-hidden", "true");
  const element = html("div", { className: "scene-caption", hidden: true }, [room, words]);

  return {
    element,
    show(text, passed = 0) {
      const before = passed ? [note(`+${passed.toLocaleString("en")} steps`), " "] : [];
      if (passed || words.textContent !== text) words.replaceChildren(...before, text);
      element.hidden = !(text || room.textContent);
    },
    keepRoomFor(longest) {
      setText(room, longest);
    },
    setLive(is) {
      words.setAttribute("aria-live", is ? "polite" : "off");
    },
  };
}

const note = (text) => html("span", { className: "caption-passed", textContent: text });

// The bar of a film: back, play, forward, events, a scrubber with marks, the number, the speed.
//
//   createBar({ count, marks, runs, interval, onGo }) -> {
//     element,
//     set(index, caption),                  the film stands here now
//     setCount(count, marks, runs),         the film has grown
//     keys,                                 what a key does while the figure has the focus, by name
//     isPlaying(),
//     pause(),
//     destroy(),
//   }
//
// `onGo(index, passed)` shows a picture and returns a Promise of it being there. `passed` is how
// many pictures were left out because nothing happens in them. `marks` are [index, name], `runs`
// [first index, length] of stretches in which nothing happens.

import { html, setText, svg } from "./dom.js";

const ICONS = {
  back: "M14,4 L6,10 L14,16 Z",
  next: "M6,4 L14,10 L6,16 Z",
  play: "M5,3 L16,10 L5,17 Z",
  pause: "M5,4 H8.5 V16 H5 Z M11.5,4 H15 V16 H11.5 Z",
  "event-back": "M16,4 L9,10 L16,16 Z M4,4 H6.5 V16 H4 Z",
  "event-next": "M4,4 L11,10 L4,16 Z M13.5,4 H16 V16 H13.5 Z",
};
const SPEEDS = [0.5, 1, 2, 4];
const MOST_TICKS = 60; // more of them could not be told apart
const THUMB_WIDTH = 16; // of the scrubber, as player.css has it

export function createBar({ count, marks, runs, interval, onGo }) {
  let index = 0;
  let timer = null;
  const numbers = new Intl.NumberFormat("en");

  const previousEvent = button("event-back", () => goTo(eventBefore()?.[0]));
  const back = button("back", () => step(-1));
  const playButton = button("play", () => (timer === null ? play() : pause()));
  const next = button("next", () => step(1));
  const nextEvent = button("event-next", () => goTo(eventAfter()?.[0]));
  const scrubber = html("input", { type: "range", min: 0, step: 1, className: "bar-scrubber" });
  scrubber.setAttribute("aria-label", "Step");
  const ticks = html("div", { className: "bar-ticks" });
  ticks.setAttribute("aria-hidden", "true"); // their names are those of the event buttons
  const counter = html("output", { className: "scene-counter" });
  const speed = speedChoice();
  const element = html("div", { className: "scene-bar" }, [
    html("div", { className: "bar-buttons" }, [previousEvent, back, playButton, next, nextEvent]),
    html("div", { className: "bar-track" }, [ticks, scrubber]),
    counter,
    speed,
  ]);
  element.setAttribute("role", "group");
  element.setAttribute("aria-label", "Film");

  const eventBefore = () => marks.findLast(([position]) => position < index);
  const eventAfter = () => marks.find(([position]) => position > index);

  // What a reader does ends the play.
  function goTo(position) {
    pause();
    if (position !== undefined) move(position);
  }
  const step = (by) => goTo(index + by);

  const move = (position, passed = 0) =>
    onGo(Math.max(0, Math.min(position, count - 1)), passed);

  function play() {
    timer = 0; // playing, also while the first picture is on its way
    setIcon(playButton, "pause", "Pause");
    Promise.resolve(index === count - 1 ? move(0) : null).then(wait);
  }

  function wait() {
    if (timer === null) return; // paused meanwhile
    timer = setTimeout(playOn, interval / Number(speed.value));
  }

  async function playOn() {
    const position = afterRun(index + 1);
    await move(position, position - index - 1);
    if (index === count - 1) pause();
    else wait();
  }

  /** Return where something happens next; the last picture, if nothing does any more. */
  function afterRun(position) {
    const run = runs.find(([first, length]) => first <= position && position < first + length);
    return run ? Math.min(run[0] + run[1], count - 1) : position;
  }

  function pause() {
    clearTimeout(timer);
    timer = null;
    setIcon(playButton, "play", "Play");
  }

  function set(newIndex, caption) {
    index = newIndex;
    if (count < 2) return; // there is no film, and the bar is hidden
    scrubber.value = index;
    const text = `picture ${numbers.format(index + 1)} of ${numbers.format(count)}`;
    scrubber.setAttribute("aria-valuetext", caption ? `${text}: ${caption}` : text);
    setText(counter, `${numbers.format(index + 1)} / ${numbers.format(count)}`);
    setEnabled(back, index > 0);
    setEnabled(next, index < count - 1);
    nameEvent(previousEvent, "Previous event", eventBefore());
    nameEvent(nextEvent, "Next event", eventAfter());
  }

  function nameEvent(control, name, event) {
    const label = event ? `${name}: ${event[1]} (picture ${numbers.format(event[0] + 1)})` : name;
    setIcon(control, control.dataset.icon, label);
    setEnabled(control, Boolean(event));
    control.hidden = marks.length === 0;
  }

  function setCount(newCount, newMarks, newRuns) {
    if (newCount === count && newMarks === marks && newRuns === runs) return;
    takeCount(newCount, newMarks, newRuns);
  }

  function takeCount(newCount, newMarks, newRuns) {
    [count, marks, runs] = [newCount, newMarks, newRuns];
    scrubber.max = count - 1;
    element.hidden = count < 2;
    // Room for the longest number, so that the scrubber keeps its width.
    counter.style.minWidth = `${2 * numbers.format(count).length + 2}ch`;
    ticks.replaceChildren(...marksToShow(marks, count).map(tick));
  }

  /** Return a tick at its place on the scrubber; a click goes there. */
  function tick([position, name]) {
    const node = html("span", { className: "bar-tick", onclick: () => goTo(position) });
    node.title = `${name} (picture ${numbers.format(position + 1)})`;
    const share = position / Math.max(1, count - 1);
    node.style.left = `calc(${THUMB_WIDTH / 2}px + (100% - ${THUMB_WIDTH}px) * ${share})`;
    return node;
  }

  scrubber.addEventListener("input", () => goTo(Number(scrubber.value)));
  takeCount(count, marks, runs);
  set(0, "");
  return {
    element,
    set,
    setCount,
    keys: {
      ArrowLeft: () => step(-1),
      ArrowRight: () => step(1),
      Home: () => goTo(0),
      End: () => goTo(count - 1),
      PageUp: () => goTo(eventBefore()?.[0]),
      PageDown: () => goTo(eventAfter()?.[0]),
      " ": () => playButton.click(),
    },
    isPlaying: () => timer !== null,
    pause,
    destroy: pause,
  };
}

function button(icon, onclick) {
  const node = html("button", { type: "button", className: `scene-button scene-${icon}`, onclick });
  const names = { back: "One step back", next: "One step forward", play: "Play" };
  setIcon(node, icon, names[icon] ?? "");
  return node;
}

function setIcon(node, icon, label) {
  if (node.dataset.icon !== icon || !node.firstChild) {
    node.dataset.icon = icon;
    const picture = { viewBox: "0 0 20 20", width: 20, height: 20, "aria-hidden": "true" };
    node.replaceChildren(svg("svg", picture, [svg("path", { d: ICONS[icon], fill: "currentColor" })]));
  }
  node.title = label;
  node.setAttribute("aria-label", label);
}

// A disabled button would lose the focus to the page in the middle of a film.
function setEnabled(node, isEnabled) {
  node.setAttribute("aria-disabled", String(!isEnabled));
}

function speedChoice() {
  const options = SPEEDS.map((each) => html("option", { value: each, textContent: `${each}×` }));
  const select = html("select", { className: "bar-speed", title: "Speed" }, options);
  select.setAttribute("aria-label", "Speed");
  select.value = 1;
  return select;
}

/** Return at most so many marks that they can be told apart, one for each stretch of the film. */
function marksToShow(marks, count) {
  if (marks.length <= MOST_TICKS) return marks;
  const byPlace = new Map();
  for (const mark of marks) {
    const place = Math.floor((mark[0] / count) * MOST_TICKS);
    if (!byPlace.has(place)) byPlace.set(place, mark);
  }
  return [...byPlace.values()];
}

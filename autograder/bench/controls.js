// Times how long a figure takes to follow its slider "Sequences"; see controls.py, which runs this in
// the page. Returns an object whose answers() are milliseconds, one for each value that the slider had.
//
// The slider is moved upwards, and the figure says how many sequences it shows. A value is answered
// when the picture shows it or a newer one: what a drag has passed over is never drawn. The end of an
// answer is the browser's next frame, when it is on the screen.
() => {
  const figure = document.querySelector(".scene-root");
  const slider = [...figure.querySelectorAll("label")].find((each) => each.textContent.startsWith("Sequences"))
    .control;
  const waiting = []; // [value, when it was chosen]
  const times = [];

  const shownCount = () => {
    const words = figure.querySelector("svg.scene").textContent;
    const found = /(?:of|All) (\d+) sequences/.exec(words);
    return found ? Number(found[1]) : words.includes("The sequence fits") ? 1 : NaN;
  };

  const onInput = () => waiting.push([Number(slider.value), performance.now()]);
  const observer = new MutationObserver(() => {
    const shown = shownCount();
    const answered = [];
    while (waiting.length && waiting[0][0] <= shown) answered.push(waiting.shift());
    if (!answered.length) return;
    requestAnimationFrame(() => {
      for (const [, since] of answered) times.push(performance.now() - since);
    });
  });

  slider.addEventListener("input", onInput);
  observer.observe(figure.querySelector("svg.scene"), {
    characterData: true,
    childList: true,
    subtree: true,
  });
  window.controlProbe = {
    answers: () => (waiting.length ? null : times),
    stop() {
      slider.removeEventListener("input", onInput);
      observer.disconnect();
    },
  };
}

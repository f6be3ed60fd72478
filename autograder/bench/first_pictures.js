// Takes the time until a cell of the notebook has its figure; see first_pictures.py, which runs this in
// the page with the number of the cell, then runs the cell by its keys. Sets `firstPicture` to a promise
// of the milliseconds from the key to the frame of the browser in which the picture is on the screen.
(number) => {
  const cell = document.querySelectorAll(".jp-CodeCell")[number];
  window.firstPicture = new Promise((tell) => {
    function onKey({ key, ctrlKey, timeStamp }) {
      if (key !== "Enter" || !ctrlKey) return;
      document.removeEventListener("keydown", onKey, true);
      look(timeStamp);
    }
    function look(since) {
      requestAnimationFrame((now) => {
        if (cell.querySelector(".scene-root .scene-shapes > *")) tell(now - since);
        else look(since);
      });
    }
    document.addEventListener("keydown", onKey, true);
  });
}

// Shows scenes one after the other for a while; answers how many pictures the browser drew in a
// second, and the longest wait between two, in milliseconds. See figures.py.
//
// `script` is the kit's module stage.js with all that it imports; `every` is the time between two
// scenes in milliseconds, 0 for another scene in each picture.

async ({ script, scenes, every, seconds, isDrawnAnew }) => {
  const createStage = new Function(`${script}\nreturn createStage;`)();
  const root = document.createElement("div");
  root.className = "scene-root";
  document.body.replaceChildren(root);

  let stage = null;
  function show(scene) {
    if (isDrawnAnew || !stage) {
      stage?.destroy();
      stage = createStage();
      root.replaceChildren(stage.element);
    }
    stage.show(scene, { animate: every > 0 });
  }

  const nextPicture = () => new Promise(requestAnimationFrame);
  show(scenes[0]);
  await nextPicture();
  const start = await nextPicture();
  let [last, longest, pictures, shown] = [start, 0, 0, 1];
  while (last - start < 1000 * seconds) {
    if (last - start >= (shown - 1) * every) show(scenes[shown++ % scenes.length]);
    const now = await nextPicture();
    longest = Math.max(longest, now - last);
    last = now;
    pictures += 1;
  }
  stage.destroy();
  return { perSecond: (1000 * pictures) / (last - start), longest };
};

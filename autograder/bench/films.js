// Runs in the browser for films.py: shows a film, goes to frames of it, and takes the time.
//
// Called with { script, traits, places }: the bundle of figure.js, the traits of a Player with its
// chunks in base64, and [index, caption] of the first frame and of those to go to. Returns { appearMs, stepMs: [...] }.

async ({ script, traits, places }) => {
  const url = URL.createObjectURL(new Blob([script], { type: "text/javascript" }));
  const { default: figure } = await import(url);
  traits.chunks = traits.chunks.map((chunk) => {
    const bytes = Uint8Array.from(atob(chunk), (letter) => letter.charCodeAt(0));
    return new DataView(bytes.buffer);
  });
  const listeners = {};
  const model = {
    get: (name) => traits[name],
    set(name, value) {
      traits[name] = value;
      for (const listener of listeners[`change:${name}`] ?? []) listener();
    },
    on(events, listener) {
      for (const event of events.split(" ")) (listeners[event] ??= []).push(listener);
    },
    off() {},
    save_changes() {},
    send() {},
  };

  /** Return how long it takes until this caption is there, and the page is laid out anew. */
  function timeUntil(caption, action) {
    return new Promise((resolve) => {
      const start = performance.now();
      const observer = new MutationObserver(() => {
        if (document.querySelector(".caption-words")?.textContent !== caption) return;
        observer.disconnect();
        document.querySelector(".scene").getBoundingClientRect();
        resolve(performance.now() - start);
      });
      observer.observe(document.body, { childList: true, subtree: true, characterData: true });
      action();
    });
  }

  const [[, first], ...others] = places;
  const appearMs = await timeUntil(first, () => figure.render({ model, el: document.body }));
  const stepMs = [];
  for (const [index, caption] of others) {
    stepMs.push(await timeUntil(caption, () => model.set("index", index)));
    await new Promise(requestAnimationFrame); // as a reader does, let the picture be painted
  }
  return { appearMs, stepMs };
};

// Returns what cannot be read in the figures of a page by the browser's own boxes: texts that cover
// each other, leave their picture or are less than `least` pixels high on the screen, controls that
// are out of the window, and controls without a name.
(least) => {
  const found = [];
  const textsOf = (picture) => {
    const scale = picture.getBoundingClientRect().width / picture.viewBox.baseVal.width;
    return [...picture.querySelectorAll(".scene-shapes text")]
      .filter((node) => node.textContent.trim())
      .map((node) => {
        const { left, right, top, bottom } = node.getBoundingClientRect();
        const air = 0.2 * (bottom - top); // above capitals and below the line there is no ink
        return {
          words: node.textContent,
          size: scale * Number.parseFloat(getComputedStyle(node).fontSize),
          box: { left: left + 1, right: right - 1, top: top + air, bottom: bottom - air },
        };
      });
  };
  const overlap = (a, b) =>
    a.left < b.right && b.left < a.right && a.top < b.bottom && b.top < a.bottom;
  const isWithin = (a, b) =>
    a.left >= b.left && a.right <= b.right && a.top >= b.top && a.bottom <= b.bottom;

  for (const picture of document.querySelectorAll("svg.scene")) {
    const frame = picture.getBoundingClientRect();
    const texts = textsOf(picture);
    texts.forEach(({ words, size, box }, at) => {
      if (size < least) found.push(`${words} is ${size.toFixed(1)} pixels high`);
      if (!isWithin(box, frame)) found.push(`${words} leaves the picture`);
      for (const other of texts.slice(at + 1)) {
        if (overlap(box, other.box)) found.push(`${words} covers ${other.words}`);
      }
    });
  }
  for (const control of document.querySelectorAll(".scene-root :is(button, input, select)")) {
    const { left, right, width } = control.getBoundingClientRect();
    if (!width) continue;
    const name = control.getAttribute("aria-label") ?? control.labels?.[0]?.textContent;
    if (!name) found.push(`a ${control.localName} without a name`);
    if (left < 0 || right > window.innerWidth) found.push(`${name} is out of the window`);
  }
  for (const node of document.querySelectorAll(".scene-root :not(svg, svg *)")) {
    const hasText = [...node.childNodes].some((each) => each.nodeType === 3 && each.data.trim());
    if (!hasText || node.closest("[hidden]")) continue;
    const size = Number.parseFloat(getComputedStyle(node).fontSize);
    if (size < least) found.push(`${node.textContent} is ${size} pixels high`);
  }
  return [...new Set(found)];
};

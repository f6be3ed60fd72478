// What a figure stands on: the colour of the page behind it, and whether that is light or dark.

const probe = new OffscreenCanvas(1, 1).getContext("2d", { willReadFrequently: true });

/** Return a CSS colour, as computed by the browser, as [red, green, blue, alpha] up to 255. */
export function channelsOf(colour) {
  probe.clearRect(0, 0, 1, 1);
  probe.fillStyle = colour;
  probe.fillRect(0, 0, 1, 1);
  return [...probe.getImageData(0, 0, 1, 1).data];
}

/** Return how light a colour looks, from 0 (black) to 1 (white), near enough to choose by. */
function lightnessOf([red, green, blue]) {
  return (0.299 * red + 0.587 * green + 0.114 * blue) / 255;
}

/** Return { name: "light" | "dark", colour } of what an element stands on. */
export function groundOf(element) {
  for (let node = element; node; node = node.parentElement) {
    const channels = channelsOf(getComputedStyle(node).backgroundColor);
    if (channels[3] === 255) {
      const [red, green, blue] = channels;
      const name = lightnessOf(channels) > 0.5 ? "light" : "dark";
      return { name, colour: `rgb(${red}, ${green}, ${blue})` };
    }
  }
  // Nothing paints the page: it is the browser's own sheet, on which its text can be read.
  const isLight = lightnessOf(channelsOf(getComputedStyle(element).color)) < 0.5;
  return isLight ? { name: "light", colour: "#ffffff" } : { name: "dark", colour: "#121212" };
}

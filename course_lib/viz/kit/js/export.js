// What is shown, as a file of its own: SVG and PNG that look the same wherever they are opened.
//
// Mounted by tools.js.
//
// createExport({ picture, name }) -> { buttons }
// svgFile(picture) -> string, pngFile(picture) -> Promise<Blob>

import { svg } from "./dom.js";
import { channelsOf, groundOf } from "./ground.js";
import { toolButton } from "./toolbutton.js";

const PIXELS_PER_UNIT = 2; // of a PNG: sharp in print and on screens of high density

const COLOURS = ["fill", "stroke", "color"];
const LOOKS = [
  "display",
  "dominant-baseline",
  "fill-opacity",
  "font-family",
  "font-size",
  "font-style",
  "font-weight",
  "opacity",
  "paint-order",
  "stroke-dasharray",
  "stroke-linecap",
  "stroke-linejoin",
  "stroke-opacity",
  "stroke-width",
  "text-anchor",
  "visibility",
  "white-space",
];

/** Other programs know no color-mix() and no variables: write a colour as they do. */
function plainColour(computed) {
  if (computed === "none" || computed.startsWith("url(")) return computed;
  const [red, green, blue, alpha] = channelsOf(computed);
  return alpha === 255
    ? `rgb(${red}, ${green}, ${blue})`
    : `rgba(${red}, ${green}, ${blue}, ${(alpha / 255).toFixed(3)})`;
}

function inlineLook(original, copy) {
  const look = getComputedStyle(original);
  copy.removeAttribute("class");
  copy.removeAttribute("style");
  for (const name of COLOURS) copy.style.setProperty(name, plainColour(look[name]));
  for (const name of LOOKS) copy.style.setProperty(name, look.getPropertyValue(name));
  // A pattern is named by its id, which the computed style gives with the page's address.
  const own = original.getAttribute("fill");
  if (own?.startsWith("url(")) copy.style.fill = own;
  if (original.localName !== "text") return;
  // Fonts differ from machine to machine: what was laid out for this one keeps its width.
  const width = original.getComputedTextLength();
  if (width) {
    copy.setAttribute("textLength", width.toFixed(2));
    copy.setAttribute("lengthAdjust", "spacingAndGlyphs");
  }
}

/** A canvas has no place in an SVG file; what is painted on it has. */
function imageOf(canvas, holder) {
  const place = Object.fromEntries(
    ["x", "y", "width", "height", "transform"]
      .filter((name) => holder.hasAttribute(name))
      .map((name) => [name, holder.getAttribute(name)]),
  );
  return svg("image", { ...place, href: canvas.toDataURL(), preserveAspectRatio: "none" });
}

/** Return a picture as it looks on this page, with all that it needs inside. */
function selfContained(picture) {
  const copy = picture.cloneNode(true);
  const originals = [picture, ...picture.querySelectorAll("*")];
  const copies = [copy, ...copy.querySelectorAll("*")];
  originals.forEach((original, at) => {
    if (original.namespaceURI === picture.namespaceURI) inlineLook(original, copies[at]);
  });
  originals.forEach((original, at) => {
    if (original.localName !== "foreignObject") return;
    const canvas = original.querySelector("canvas");
    if (canvas) copies[at].replaceWith(imageOf(canvas, original));
  });
  const { width, height } = picture.viewBox.baseVal;
  for (const name of ["tabindex", "focusable"]) copy.removeAttribute(name);
  copy.setAttribute("width", width);
  copy.setAttribute("height", height);
  copy.style.maxWidth = "none";
  copy.prepend(svg("rect", { width, height, fill: groundOf(picture).colour }));
  return copy;
}

/** Return what is shown as the text of an SVG file. */
export function svgFile(picture) {
  return new XMLSerializer().serializeToString(selfContained(picture));
}

/** Return what is shown as a PNG file. */
export async function pngFile(picture) {
  const { width, height } = picture.viewBox.baseVal;
  const image = new Image();
  image.src = `data:image/svg+xml;charset=utf-8,${encodeURIComponent(svgFile(picture))}`;
  await image.decode();
  const canvas = new OffscreenCanvas(width * PIXELS_PER_UNIT, height * PIXELS_PER_UNIT);
  canvas.getContext("2d").drawImage(image, 0, 0, canvas.width, canvas.height);
  return canvas.convertToBlob({ type: "image/png" });
}

function saveFile(blob, fileName) {
  const address = URL.createObjectURL(blob);
  const link = document.createElement("a");
  link.href = address;
  link.download = fileName;
  link.click();
  // The browser may still be asking the reader where to put it.
  setTimeout(() => URL.revokeObjectURL(address), 60_000);
}

/** "Memory of one GPU: Llama" -> "memory-of-one-gpu-llama" */
function fileNameOf(title) {
  return title.toLowerCase().replace(/[^\p{L}\p{N}]+/gu, "-").replace(/^-|-$/g, "") || "figure";
}

/** Return the two buttons; see the head of this file. */
export function createExport({ picture, name }) {
  const kinds = {
    SVG: async (shown) => new Blob([svgFile(shown)], { type: "image/svg+xml" }),
    PNG: pngFile,
  };
  const buttons = Object.entries(kinds).map(([kind, write]) =>
    toolButton(
      "download",
      `Save the picture as ${kind}`,
      async () => {
        const shown = picture();
        if (shown) saveFile(await write(shown), `${fileNameOf(name())}.${kind.toLowerCase()}`);
      },
      kind,
    ),
  );
  return { buttons };
}

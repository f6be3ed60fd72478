// How the states of the palette look in one picture: as a fill of SVG, and as a tile of a canvas.

import { svg } from "./dom.js";

// Lines over a fill, on a square of 10 by 10 that repeats.
const HATCHES = {
  "/": "M-2,2 L2,-2 M0,10 L10,0 M8,12 L12,8",
  "\\": "M-2,8 L2,12 M0,0 L10,10 M8,-2 L12,2",
  x: "M0,10 L10,0 M0,0 L10,10",
  "-": "M0,5 L10,5",
  ".": "M2,3 a1,1 0 1,0 2,0 a1,1 0 1,0 -2,0",
};
const HATCH_SQUARE = 10;

// Ids of patterns are global to a page, so each picture numbers its own. Every widget loads an
// instance of this module, so the number alone would not do.
const INSTANCE = Math.random().toString(36).slice(2);
let pictures = 0;

/**
 * Return the looks of one picture, whose patterns go into `defs`.
 *
 * - learn(states): take what a scene says of its states;
 * - look(state): how to draw it, or null where there is no state.
 */
export function createLooks(defs) {
  const picture = ++pictures;
  const looks = new Map([["", null]]);

  function learn(states) {
    for (const [name, state] of Object.entries(states)) {
      if (looks.has(name)) continue;
      const id = `scene-${INSTANCE}-${picture}-${name}`;
      if (state.hatch) defs.append(hatchPattern(id, state));
      looks.set(name, {
        label: state.label,
        isPaper: state.isPaper,
        className: state.isPaper && !state.hatch ? " scene-paper" : "", // after others
        fill: state.hatch ? `url(#${id})` : state.isPaper ? null : state.colour,
        colour: state.colour,
        ink: state.ink,
        hatch: state.hatch,
        dash: state.dash?.join(" ") || null,
      });
    }
  }

  return { learn, look: (name) => looks.get(name) };
}

function hatchPattern(id, state) {
  const [width, height] = [HATCH_SQUARE, HATCH_SQUARE];
  const fill = state.isPaper ? { class: "scene-paper" } : { fill: state.colour };
  const mark = svg("path", { d: HATCHES[state.hatch], class: "scene-hatch" });
  mark.style.stroke = state.isPaper ? "var(--scene-ink)" : state.ink;
  const attributes = { id, width, height, patternUnits: "userSpaceOnUse" };
  return svg("pattern", attributes, [svg("rect", { width, height, ...fill }), mark]);
}

// ---- the same on canvas ---------------------------------------------------------------------

// A hatch can be told from another from this many pixels of the screen on. Smaller squares are
// plain: there the colours have to do, which differ in lightness.
const READABLE_HATCH = 8;
const LEAST_WITH_EDGE = 4;

/**
 * Return the pixels (ImageData) of one square cell.
 *
 * @param look What createLooks gives.
 * @param side Pixels of the screen.
 * @param colours {paper, edge, ink}: the page's own, for what stands for empty space.
 * @param density Pixels of the screen for one of the scene.
 */
export function drawTile(look, side, colours, density) {
  const tile = document.createElement("canvas");
  tile.width = tile.height = side;
  const pen = tile.getContext("2d", { willReadFrequently: true });
  pen.fillStyle = look.isPaper ? colours.paper : look.colour;
  pen.fillRect(0, 0, side, side);
  if (look.hatch && side >= READABLE_HATCH) hatchTile(pen, look, side, colours, density);
  if (look.isPaper && side >= LEAST_WITH_EDGE) {
    const edge = Math.max(1, Math.round(density));
    pen.strokeStyle = colours.edge;
    pen.lineWidth = edge;
    pen.strokeRect(edge / 2, edge / 2, side - edge, side - edge);
  }
  return pen.getImageData(0, 0, side, side);
}

function hatchTile(pen, look, side, colours, density) {
  const squares = Math.max(1, Math.round(side / density / HATCH_SQUARE));
  const scale = side / squares / HATCH_SQUARE;
  const mark = new Path2D(HATCHES[look.hatch]);
  pen.strokeStyle = look.isPaper ? colours.ink : look.ink;
  pen.globalAlpha = 0.5;
  pen.lineWidth = Math.max(1.3, 1 / scale);
  const step = scale * HATCH_SQUARE;
  for (let row = 0; row < squares; row++) {
    for (let column = 0; column < squares; column++) {
      pen.setTransform(scale, 0, 0, scale, column * step, row * step);
      pen.stroke(mark);
    }
  }
  pen.setTransform(1, 0, 0, 1, 0, 0);
  pen.globalAlpha = 1;
}

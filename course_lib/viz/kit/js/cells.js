// Draws a grid of thousands of cells on one canvas within the picture.
//
// An entry is like those of shapes.js. Its context has besides: density(), the pixels of the screen
// for one of the scene, and colours(), the page's own {paper, edge, ink}.

import { html, setAttribute, svg } from "./dom.js";
import { drawTile } from "./looks.js";

function createCells() {
  const canvas = html("canvas", { className: "scene-cells" });
  const frame = svg("foreignObject", {}, [canvas]);
  // Stands where the cell is that the keyboard has reached, and takes the focus for it.
  const cursor = svg("rect", { class: "scene-cell-cursor" });
  return { canvas, frame, cursor, cell: 0, tiles: new Map(), node: svg("g", {}, [frame, cursor]) };
}

function updateCells(entry, shape, context) {
  const before = entry.shape;
  const isSameGrid =
    before?.cells.length === shape.cells.length &&
    ["columns", "size", "gap"].every((name) => shape[name] === before[name]);
  entry.shape = shape;
  setAttribute(entry.node, "transform", `translate(${shape.x} ${shape.y})`);
  if (isSameGrid) {
    paintChanges(entry, before, context);
  } else {
    const rows = Math.ceil(shape.cells.length / shape.columns);
    entry.frame.setAttribute("width", Math.min(shape.columns, shape.cells.length) * shape.size);
    entry.frame.setAttribute("height", rows * shape.size);
    repaintCells(entry, context);
  }
  setCursor(entry, Math.min(entry.cell, shape.cells.length - 1), context.look);
}

/** Draw all cells anew, at the density of the screen and in the colours of the page. */
export function repaintCells(entry, context) {
  const { canvas, frame } = entry;
  const density = context.density();
  canvas.width = Math.max(1, Math.round(frame.width.baseVal.value * density));
  canvas.height = Math.max(1, Math.round(frame.height.baseVal.value * density));
  entry.image = new ImageData(canvas.width, canvas.height);
  entry.tiles.clear();
  paintChanges(entry, null, context);
}

/**
 * Draw the cells whose state is another than before.
 *
 * Pixels are copied by hand and handed over at once: 8,192 calls of the canvas's own drawImage cost
 * several times as much.
 */
function paintChanges(entry, before, context) {
  const { shape, image } = entry;
  const density = context.density();
  const pitch = shape.size * density;
  const side = sideOf(shape, density);
  const tiles = shape.names.map((name) => tileOf(entry, name, side, context));
  const pixels = new Uint32Array(image.data.buffer);
  let [top, bottom] = [Infinity, 0];
  shape.cells.forEach((state, n) => {
    if (before && before.names[before.cells[n]] === shape.names[state]) return;
    const column = n % shape.columns;
    const x = Math.round(column * pitch);
    const y = Math.round(((n - column) / shape.columns) * pitch);
    copyTile(tiles[state], side, pixels, image, x, y);
    top = Math.min(top, y);
    bottom = Math.max(bottom, y + side);
  });
  if (bottom === 0) return;
  entry.canvas.getContext("2d").putImageData(image, 0, 0, 0, top, image.width, bottom - top);
}

/** Return the pixels along a cell. Where cells have a gap it is never closed, else never opened. */
function sideOf({ size, gap }, density) {
  const side = (size - gap) * density;
  return Math.max(1, gap ? Math.floor(side + 0.001) : Math.ceil(side - 0.001));
}

/** Copy a tile to (x, y) of an image, where it has room. */
function copyTile(tile, side, pixels, image, x, y) {
  const width = Math.min(side, image.width - x);
  const height = Math.min(side, image.height - y);
  for (let row = 0; row < height; row++) {
    const from = row * side;
    const to = (y + row) * image.width + x;
    for (let column = 0; column < width; column++) pixels[to + column] = tile[from + column];
  }
}

/** Return the pixels of a cell in a state. */
function tileOf(entry, name, side, context) {
  if (!entry.tiles.has(name)) {
    const tile = drawTile(context.look(name), side, context.colours(), context.density());
    entry.tiles.set(name, new Uint32Array(tile.data.buffer));
  }
  return entry.tiles.get(name);
}

// ---- one cell -------------------------------------------------------------------------------

/** Return the cell at a point of the scene, or -1. A gap belongs to the cell before it. */
export function cellAt({ shape }, [x, y]) {
  const column = Math.floor((x - shape.x) / shape.size);
  const row = Math.floor((y - shape.y) / shape.size);
  const n = row * shape.columns + column;
  const isWithin = column >= 0 && column < shape.columns && row >= 0 && n < shape.cells.length;
  return isWithin ? n : -1;
}

/** Return the cell that is nearest to a point of the scene. */
export function cellNearest({ shape }, [x, y]) {
  const within = (value, count) => Math.max(0, Math.min(count - 1, Math.floor(value / shape.size)));
  const rows = Math.ceil(shape.cells.length / shape.columns);
  const row = within(y - shape.y, rows);
  const column = within(x - shape.x, Math.min(shape.columns, shape.cells.length));
  return Math.min(row * shape.columns + column, shape.cells.length - 1);
}

/** Return the next cell in a direction, or -1 where the grid ends. */
export function cellBeside({ shape, cell }, [dx, dy]) {
  const column = (cell % shape.columns) + dx;
  const n = cell + dx + dy * shape.columns;
  const isWithin = column >= 0 && column < shape.columns && n >= 0 && n < shape.cells.length;
  return isWithin ? n : -1;
}

/** Return the thing that a cell stands for. */
export function thingOfCell({ shape }, n) {
  return [shape.of, shape.first + n];
}

/** Return where a cell is within its grid. */
export function boxOfCell({ shape }, n) {
  const column = n % shape.columns;
  const side = shape.size - shape.gap;
  const row = (n - column) / shape.columns;
  return { x: column * shape.size, y: row * shape.size, width: side, height: side };
}

/** Return what a cell is called, such as "block 7: in use". */
export function nameOfCell({ shape }, n, look) {
  return `${shape.of} ${shape.first + n}: ${look(shape.names[shape.cells[n]]).label}`;
}

/** Put the keyboard's place in the grid on a cell. */
export function setCursor(entry, n, look) {
  entry.cell = n;
  for (const [name, value] of Object.entries(boxOfCell(entry, n))) {
    setAttribute(entry.cursor, name, value);
  }
  setAttribute(entry.cursor, "aria-label", nameOfCell(entry, n, look));
}

export const CELLS_KIND = { create: createCells, update: updateCells };

// Gives the pictures of a film one by one. `encoding.py` says how a film is packed.
//
//   createReel({ frames, chunks, count }) -> {
//     count,
//     frame(index, form) -> Promise of { scene, caption, event },
//     extend(chunks, count),      the film has grown
//   }
//
// `form` is "wide" or "narrow"; where it is missing, the other one is given.
// A shape that did not change from one picture to the next is the same object in both, so whoever
// draws them need look only at those that are not.

const CHUNK = 100; // as in encoding.py

// What has been unpacked is kept for going back and forth; a chunk is a few megabytes at most.
const MOST_UNPACKED = 12;

export function createReel({ frames, chunks, count }) {
  const unpacked = new Map();
  let packed = chunks;

  function unpackedChunk(number) {
    const known = unpacked.get(number) ?? unpack(packed[number]);
    unpacked.delete(number);
    unpacked.set(number, known); // the newest is the last
    if (unpacked.size > MOST_UNPACKED) unpacked.delete(unpacked.keys().next().value);
    return known;
  }

  function prepare(number) {
    if (number < packed.length) unpackedChunk(number);
  }

  const reel = {
    count,

    async frame(index, form) {
      if (index < frames.length) {
        const { scene, narrow, caption, event } = frames[index];
        return { scene: (form === "narrow" && narrow) || scene || narrow, caption, event };
      }
      const [number, position] = [Math.floor(index / CHUNK), index % CHUNK];
      const chunk = await unpackedChunk(number);
      // The picture comes first; the next chunk is for later.
      if (position > CHUNK / 2) requestIdleCallback(() => prepare(number + 1));
      return {
        scene: chunk.scenes(form)[position],
        caption: chunk.captions[position],
        event: chunk.events[position],
      };
    },

    extend(moreChunks, newCount) {
      // The last chunk may have been short.
      for (const number of [...unpacked.keys()]) {
        if (number >= packed.length - 1) unpacked.delete(number);
      }
      packed = moreChunks;
      reel.count = newCount;
    },
  };
  return reel;
}

async function unpack(bytes) {
  const chunk = JSON.parse(await inflated(bytes));
  const unrolled = {};
  return {
    captions: chunk.captions,
    events: chunk.events,
    scenes(form) {
      const given = chunk[form] ? form : "wide";
      return (unrolled[given] ??= unroll(chunk[given], chunk.states));
    },
  };
}

/** Return the text in deflated bytes. A Blob's own stream would go through another process. */
async function inflated(bytes) {
  const stream = new DecompressionStream("deflate");
  const writer = stream.writable.getWriter();
  const written = writer.write(bytes).then(() => writer.close());
  const decoder = new TextDecoder();
  let text = "";
  for await (const part of stream.readable) text += decoder.decode(part, { stream: true });
  await written;
  return text + decoder.decode();
}

/** Return the scene that each change leads to. */
function unroll(changes, states) {
  const shapes = new Map(); // by id; groups without what they hold
  const groups = new Map(); // by id, as they were built last
  let head = {};
  let order = [];

  function build(id) {
    const shape = shapes.get(id);
    if (shape.kind !== "group") return shape;
    const { members: ids, ...rest } = shape;
    const members = ids.map(build);
    const before = groups.get(id);
    if (before?.shape === shape && members.every((each, n) => each === before.members[n])) {
      return before.group;
    }
    const group = { ...rest, shapes: members };
    groups.set(id, { shape, members, group });
    return group;
  }

  return changes.map((change) => {
    if (change.head) head = { ...head, ...change.head };
    for (const id of change.drop ?? []) shapes.delete(id);
    for (const [id, values] of Object.entries(change.set ?? {})) {
      shapes.set(id, values.kind ? { id, ...values } : patched(shapes.get(id), values));
    }
    if (change.order) {
      const [start, length, ids] = change.order;
      order = order.toSpliced(start, length, ...ids);
    }
    return { ...head, states, shapes: order.map(build) };
  });
}

function patched(shape, { cellsAt, ...values }) {
  const changed = { ...shape, ...values };
  if (cellsAt) {
    changed.cells = [...shape.cells];
    for (let n = 0; n < cellsAt.length; n += 2) changed.cells[cellsAt[n]] = cellsAt[n + 1];
  }
  return changed;
}

// Everything that moves in a stage moves in one animation loop: a thousand boxes cost one callback.

export const GLIDE_MS = 260;

/** Return whether the reader has asked for as little motion as possible. */
export function prefersStillness() {
  return matchMedia("(prefers-reduced-motion: reduce)").matches;
}

const ease = (share) => share * share * (3 - 2 * share);

/**
 * Return a loop that takes lists of numbers from one value to another.
 *
 * - glide(owner, {from, to, duration, apply, done}): call apply(values) once per animation frame
 *   until the values are `to`, then done(). An owner has one move at a time; a new one replaces it.
 * - stop(owner): end a move where it is, without done().
 * - settle(): end all moves at their goals.
 */
export function createMotion() {
  const moves = new Map();
  let request = 0;

  function finish(owner, move) {
    moves.delete(owner);
    move.apply(move.to);
    move.done?.();
  }

  function advance(now) {
    for (const [owner, move] of moves) {
      // Time counts from the first frame that shows the move, however late that one is.
      move.start ??= now;
      const share = (now - move.start) / move.duration;
      if (share >= 1) finish(owner, move);
      else {
        const eased = ease(share);
        for (let k = 0; k < move.values.length; k++) {
          move.values[k] = move.from[k] + (move.to[k] - move.from[k]) * eased;
        }
        move.apply(move.values);
      }
    }
    request = moves.size ? requestAnimationFrame(advance) : 0;
  }

  return {
    glide(owner, { from, to, duration, apply, done }) {
      const values = [...from];
      moves.set(owner, { from: [...from], to, duration, apply, done, values });
      apply(values);
      request ||= requestAnimationFrame(advance);
    },
    stop: (owner) => moves.delete(owner),
    settle() {
      for (const [owner, move] of [...moves]) finish(owner, move);
    },
  };
}

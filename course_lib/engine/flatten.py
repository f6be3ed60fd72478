"""Selective batching: the tokens of many sequences as one row, without padding.

Norms, projections and the MLP of a transformer look at one token at a time, so a step gives them
one row per token, whichever sequence it is of. Only attention must know whose a token is, and only
the last token of a sequence has something to say about the next one (Orca, Yu et al., OSDI 2022).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray


class FlatStep(NamedTuple):
    """The tokens of a step, sequence after sequence.

    Attributes:
        positions: int64 [num_tokens], the place of each token in its sequence, from 0.
        query_starts: int32 [num_seqs + 1]; sequence i has the rows ``query_starts[i]`` to
            ``query_starts[i + 1]`` − 1.
        sample_rows: int64, the row of the last token of each sequence that is computed to its end,
            in the order of the sequences. From these rows the next tokens are sampled.
    """

    positions: NDArray[np.int64]
    query_starts: NDArray[np.int32]
    sample_rows: NDArray[np.int64]


def flatten_step(
    query_lens: Sequence[int], context_lens: Sequence[int], known_lens: Sequence[int]
) -> FlatStep:
    """Lay the tokens of a step out as one row per token.

    A sequence's tokens in this step are the last ones of its context: a decode computes one token
    at the end of a long context, a prompt all of its tokens or the next chunk of them. Neither
    lengths nor rows are copied or gone through once for each sequence.

    Args:
        query_lens: Tokens of each sequence that are computed in this step.
        context_lens: Tokens of each sequence that are computed when the step is over, these
            included.
        known_lens: Tokens of each sequence that are known. If the context ends before them, some
            are still lacking, and nothing is sampled.

    Returns:
        A ``FlatStep`` of NumPy arrays: positions (int64), query starts (int32) and the rows to
        sample from (int64). Without sequences there are no rows, and the only border is 0.

    Raises:
        ValueError: The three do not have the same length, or 1 ≤ query ≤ context ≤ known does not
            hold of a sequence.

    >>> step = flatten_step([1, 5, 3], [1000, 5, 3], [1000, 12, 3])
    >>> step.positions.tolist(), step.query_starts.tolist(), step.sample_rows.tolist()
    ([999, 0, 1, 2, 3, 4, 0, 1, 2], [0, 1, 6, 9], [0, 8])
    """
    if not len(query_lens) == len(context_lens) == len(known_lens):
        raise ValueError(
            f"{len(query_lens)} query, {len(context_lens)} context and {len(known_lens)} known "
            "lengths; there is one of each per sequence"
        )
    queries, contexts, known = np.array([query_lens, context_lens, known_lens], dtype=np.int64)
    wrong = np.flatnonzero((queries < 1) | (queries > contexts) | (contexts > known))
    if len(wrong):
        first = wrong[0]
        raise ValueError(
            f"sequence {first} computes {queries[first]} tokens to a context of {contexts[first]}, "
            f"and {known[first]} are known; a step computes the last tokens of the context, at "
            "least 1, and only tokens that are known"
        )
    query_starts = np.zeros(len(queries) + 1, dtype=np.int32)
    query_starts[1:] = np.cumsum(queries)
    ends = query_starts[1:]
    # Row r of a sequence whose rows end at e and whose context at c holds position r + c - e.
    positions = np.arange(query_starts[-1]) + np.repeat(contexts - ends, queries)
    return FlatStep(positions, query_starts, ends[contexts == known].astype(np.int64) - 1)

"""One ``softmax_step`` by itself, as a kernel that can be started: for its check, and to watch it.

In the attention kernels a step is one of many, among loads and scores. Here its arguments are read
from tensors and its results written back.
"""

from __future__ import annotations

import triton
import triton.language as tl
from torch import Tensor

from course_lib.attention.backends.launch import Launch
from course_lib.attention.triton_kernels import softmax_step


@triton.jit
def softmax_step_kernel(
    max_score,  # [rows]
    denominator,  # [rows]
    numerator,  # [rows, dims]
    scores,  # [rows, keys]
    values,  # [keys, dims]
    ROWS: tl.constexpr,
    KEYS: tl.constexpr,
    DIMS: tl.constexpr,
):
    """Add one tile of keys to the state in the first three tensors.

    Grid: (1,).
    """
    row, key, dim = tl.arange(0, ROWS), tl.arange(0, KEYS), tl.arange(0, DIMS)
    sums = row[:, None] * DIMS + dim[None, :]
    new_max, new_denominator, new_numerator = softmax_step(
        tl.load(max_score + row),
        tl.load(denominator + row),
        tl.load(numerator + sums),
        tl.load(scores + row[:, None] * KEYS + key[None, :]),
        tl.load(values + key[:, None] * DIMS + dim[None, :]),
    )
    tl.store(max_score + row, new_max)
    tl.store(denominator + row, new_denominator)
    tl.store(numerator + sums, new_numerator)


def softmax_step_launch(
    max_score: Tensor, denominator: Tensor, numerator: Tensor, scores: Tensor, values: Tensor
) -> Launch:
    """Return how to add one tile of keys to a state, in one program.

    All tensors are contiguous, and their sizes powers of two (at least 16 to be compiled).

    Args:
        max_score: float32 [rows], replaced by the new state's.
        denominator: float32 [rows], likewise.
        numerator: float32 [rows, dims], likewise.
        scores: float32 [rows, keys], times log₂ e.
        values: [keys, dims]; float32 where Triton interprets.
    """
    rows, keys = scores.shape
    arguments = {
        "max_score": max_score,
        "denominator": denominator,
        "numerator": numerator,
        "scores": scores,
        "values": values,
        "ROWS": rows,
        "KEYS": keys,
        "DIMS": values.shape[1],
    }
    return Launch(softmax_step_kernel, (1,), arguments)

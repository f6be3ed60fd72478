"""Lesson 2: what the checks of its Triton code are given, and the wrong code that they know."""

from __future__ import annotations

import math
from collections.abc import Iterator

import torch
from torch import Tensor

from autograder.checks.finding import Misconception
from autograder.checks.kernel import Edited, KernelCase
from autograder.checks.parsons import Displaced, Distractor
from course_lib.attention.batch import PagedBatch
from course_lib.attention.paged import paged_decode

KERNELS = "course_lib.attention.triton_kernels"
Sizes = tuple[int, int, int, int, int]
"""Query heads, KV heads, head_dim, slots of a block, and blocks of the cache."""

_SMALL: Sizes = (2, 1, 2, 4, 3)
_USUAL: Sizes = (4, 2, 8, 16, 13)

# The first kernel


def decodes(seed: int) -> Iterator[KernelCase]:
    """Yield decodes: less than a block, more than one, and two, one of more than a tile of 128."""
    generator = torch.Generator().manual_seed(seed)
    yield decodes_of([3], _SMALL, generator)
    yield decodes_of([6], _SMALL, generator)
    yield decodes_of([5, 150], _USUAL, generator)


def decodes_of(context_lens: list[int], sizes: Sizes, generator: torch.Generator) -> KernelCase:
    """Return a batch of decodes, in which the last key of each has the largest score."""
    heads, kv_heads, head_dim, block_size, num_blocks = sizes
    shape = (num_blocks, block_size, kv_heads, head_dim)
    keys, values = torch.full(shape, torch.nan), torch.full(shape, torch.nan)
    query = torch.randn(len(context_lens), heads, head_dim, generator=generator)
    ids = iter((torch.randperm(num_blocks - 1, generator=generator) + 1).tolist())
    tables = [[next(ids) for _ in range(-(-n // block_size))] for n in context_lens]
    for table, context_len, asked in zip(tables, context_lens, query, strict=True):
        for position in range(context_len):
            at = table[position // block_size], position % block_size
            keys[at] = torch.randn(kv_heads, head_dim, generator=generator)
            values[at] = torch.randn(kv_heads, head_dim, generator=generator)
        keys[at] = 2 * asked.unflatten(0, (kv_heads, -1)).mean(1)
    batch = PagedBatch.of(tables, context_lens, num_blocks=num_blocks, block_size=block_size)
    needed = sum(context_lens) * kv_heads * head_dim * keys.element_size()
    tokens = " and ".join(map(str, context_lens))
    plural = "s" if len(context_lens) > 1 else ""
    return KernelCase(
        f"context{plural} of {tokens} tokens, the largest score last",
        {"query": query, "key_cache": keys, "value_cache": values, "batch": batch},
        {"out": paged_decode(query, keys, values, batch)},
        {"key_cache": needed, "value_cache": needed},
    )


JOINED = (
    *("kv_head =", "context_len =", "head =", "query_row =", "q ="),
    *("denominator =", "numerator =", "valid =", "block =", "slot =", "k ="),
    *("value_row +=", "v =", "store_rows("),
)
"""How the lines of the decode kernel begin that stay below the line before them."""

DISTRACTORS = (
    Distractor(
        "block = (position // BLOCK_SIZE).to(tl.int64)\nslot = position % BLOCK_SIZE",
        "entry =",
        "logical for physical",
        "position // BLOCK_SIZE is which of the sequence's blocks it is; where that block lies "
        "only the table says.",
    ),
    Distractor(
        "for start in range(0, context_len, BLOCK_SIZE):",
        "for start in",
        "a step of one block",
        "A tile holds TILE tokens, so the next one starts TILE further on; with steps of a block "
        "the tiles overlap and most tokens are counted several times.",
    ),
)

DISPLACED = (
    Displaced(
        "scores = tl.where",
        "max_score, denominator, numerator = softmax_step",
        "no mask before the step",
        "The last tile has lanes behind the context, whose keys were loaded as 0: unless their "
        "scores are -inf before the step, they get weight like any other.",
    ),
)

# The step that all kernels share


def tiles(seed: int) -> Iterator[KernelCase]:
    """Yield a state and the tile that is added to it, small ones first."""
    generator = torch.Generator().manual_seed(seed)
    nothing = (-math.inf, 0.0, 0.0)
    hidden = -math.inf
    small = (
        ("nothing was seen before", [nothing, nothing], [[1.0, 0.0, 2.0, 1.0], [2.0, 3.0] * 2]),
        ("the tile has the larger scores", [(2.0, 1.5, 4.0), (1.0, 2.0, 3.0)], [[5.0, 4.0]] * 2),
        ("the sums so far have the larger score", [(5.0, 1.5, 4.0)] * 2, [[2.0, 3.0], [1.0, 4.0]]),
        ("scores that are far apart", [(-200.0, 1.5, 4.0)] * 2, [[200.0, 199.0], [-300.0, 0.0]]),
        ("scores far below 0", [nothing, (-2e4, 1.5, 4.0)], [[-1e20, -1e20], [-20001.0, -19999.0]]),
        ("a row sees no key of the tile", [(1.0, 1.5, 4.0)] * 2, [[2.0, hidden], [hidden] * 2]),
    )
    for title, state, scores in small:
        # Rows, keys and dims are of different numbers: no factor fits along the wrong side.
        values = torch.randint(1, 9, (len(scores[0]), 8), generator=generator).float()
        values[torch.tensor(scores).isinf().all(0)] = 1e9  # where a weight must be 0, not small
        yield _tile(title, torch.tensor(state), torch.tensor(scores), values)
    rows, keys, dims = 16, 32, 64
    drawn = torch.rand(rows, 3, generator=generator) + 0.5
    spread = 6 * torch.randn(rows, keys, generator=generator)
    yield _tile("16 rows, 32 keys", drawn, spread, torch.randn(keys, dims, generator=generator))


def _tile(title: str, state: Tensor, scores: Tensor, values: Tensor) -> KernelCase:
    """Return the case of adding a tile to a state: a row is (m, l, each number of acc)."""
    max_score, denominator = state[:, 0].clone(), state[:, 1].clone()
    numerator = state[:, 2:].repeat(1, values.shape[1])
    new_max = torch.maximum(max_score, scores.amax(1))
    rescale, weights = (max_score - new_max).exp2(), (scores - new_max[:, None]).exp2()
    given = {"max_score": max_score, "denominator": denominator, "numerator": numerator}
    return KernelCase(
        title,
        {**given, "scores": scores, "values": values},
        {
            "max_score": new_max,
            "denominator": denominator * rescale + weights.sum(1),
            "numerator": numerator * rescale[:, None] + weights @ values,
        },
    )


_RESCALED_NUMERATOR = "numerator = numerator * rescale[:, None]"
_RESCALED_DENOMINATOR = "denominator * rescale + tl.sum"
_RESCALE = "rescale = tl.exp2(max_score - new_max)"
_WEIGHTS = "weights = tl.exp2(scores - new_max[:, None])"
_NEW_MAX = "new_max = tl.maximum(max_score, tl.max(scores, axis=1))"

STEP_MISTAKES = (
    Misconception(
        "acc is not rescaled",
        "The weighted values so far are relative to the old maximum; without the factor, what was "
        "seen before counts too much once a larger score comes.",
        Edited(((_RESCALED_NUMERATOR, "numerator = numerator * 1.0"),)),
    ),
    Misconception(
        "l is not rescaled",
        "The sum of weights so far is relative to the old maximum, too: both sums shrink alike, or "
        "their quotient is no average.",
        Edited(((_RESCALED_DENOMINATOR, "denominator + tl.sum"),)),
    ),
    Misconception(
        "nothing is rescaled",
        "Both sums so far are relative to the old maximum; bring them to the new one before you "
        "add to them.",
        Edited(
            (
                (_RESCALED_NUMERATOR, "numerator = numerator * 1.0"),
                (_RESCALED_DENOMINATOR, "denominator + tl.sum"),
            )
        ),
    ),
    Misconception(
        "the factor upside down",
        "The old sums shrink when a larger score comes: the exponent is the old maximum minus the "
        "new one, at most 0.",
        Edited(((_RESCALE, "rescale = tl.exp2(new_max - max_score)"),)),
    ),
    Misconception(
        "the tile's own maximum",
        "All sums of a state are relative to one number, the largest score so far. A tile whose "
        "scores are all lower must not lower it.",
        Edited(((_NEW_MAX, "new_max = tl.max(scores, axis=1)"),)),
    ),
    Misconception(
        "no maximum below 0",
        "The largest score so far may be far below 0: relative to 0 all weights would vanish. Only "
        "the scores decide, and -inf before the first tile.",
        Edited(
            (
                (
                    _NEW_MAX,
                    _NEW_MAX.replace(
                        "tl.max(scores, axis=1)", "tl.maximum(tl.max(scores, axis=1), 0.0)"
                    ),
                ),
            )
        ),
    ),
    Misconception(
        "Python's max",
        "Under the interpreter max is Python's, which asks once which of the two is larger; here "
        "each row has a maximum of its own. tl.maximum takes it number by number everywhere.",
        Edited(((_NEW_MAX, "new_max = max(max_score, tl.max(scores, axis=1))"),)),
        evidence=r"(?<!\.)\bmax\(",
    ),
    Misconception(
        "weights relative to the old maximum",
        "The weights of this tile must be relative to the new maximum, like everything that is "
        "added up.",
        Edited(((_WEIGHTS, "weights = tl.exp2(scores - max_score[:, None])"),)),
    ),
    Misconception(
        "exp for exp2",
        "The scores come multiplied by log2(e), so that a weight is a power of two; exp would "
        "weigh them once more.",
        Edited(
            (
                (_RESCALE, "rescale = tl.exp(max_score - new_max)"),
                (_WEIGHTS, "weights = tl.exp(scores - new_max[:, None])"),
            )
        ),
    ),
    Misconception(
        "exp in the factor",
        "The scores come multiplied by log2(e), so that the factor is a power of two, as the "
        "weights are: with exp the old sums shrink too much.",
        Edited(((_RESCALE, "rescale = tl.exp(max_score - new_max)"),)),
    ),
    Misconception(
        "exp in the weights",
        "The scores come multiplied by log2(e), so that a weight is a power of two, as the factor "
        "is.",
        Edited(((_WEIGHTS, "weights = tl.exp(scores - new_max[:, None])"),)),
    ),
)

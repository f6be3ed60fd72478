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
from course_lib.attention.dense import SoftmaxState, partial_attention
from course_lib.attention.paged import paged_decode

KERNELS = "course_lib.attention.triton_kernels"
_Sizes = tuple[int, int, int, int, int]
"""Query heads, KV heads, head_dim, slots of a block, and blocks of the cache."""

_SMALL: _Sizes = (2, 1, 2, 4, 3)
_USUAL: _Sizes = (4, 2, 8, 16, 13)
_LONG: _Sizes = (2, 1, 8, 16, 21)

# The first kernel


def decodes(seed: int) -> Iterator[KernelCase]:
    """Yield batches of decodes: less than a block, more than one, and more than a tile of 128."""
    generator = torch.Generator().manual_seed(seed)
    yield _decodes([3], _SMALL, generator)
    yield _decodes([5, 150], _USUAL, generator)


def _decodes(context_lens: list[int], sizes: _Sizes, generator: torch.Generator) -> KernelCase:
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
        ("scores far below 0", [nothing, (-200.0, 1.5, 4.0)], [[-300.0, -299.0], [-201.0, -199.0]]),
        ("a row sees no key of the tile", [(1.0, 1.5, 4.0)] * 2, [[2.0, hidden], [hidden] * 2]),
    )
    for title, state, scores in small:
        values = torch.randint(1, 9, (len(scores[0]), 2), generator=generator).float()
        yield _tile(title, torch.tensor(state), torch.tensor(scores), values)
    rows, keys, dims = 16, 32, 16
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
        "Python's max asks once which of the two is larger; here each row has a maximum of its "
        "own, which tl.maximum takes number by number.",
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
)

# One stretch of a sequence


def stretches(seed: int) -> Iterator[KernelCase]:
    """Yield decodes in stretches: one, some that are empty, and some longer than a tile."""
    small, usual = decodes(seed)
    yield _stretches(small, 1)
    yield _stretches(usual, 3)
    long = _decodes([300], _LONG, torch.Generator().manual_seed(seed))
    yield _stretches(long, 2)


def _stretches(case: KernelCase, num_splits: int) -> KernelCase:
    """Return the case of reading the sequences of another one in stretches."""
    # Imported here, because Triton exists for Linux only.
    from course_lib.attention.backends.launches import SplitStates, split_decode_launch

    query, keys, values = (case.arguments[name] for name in ("query", "key_cache", "value_cache"))
    batch = case.arguments["batch"]
    room = SplitStates(
        *(each.fill_(torch.nan) for each in SplitStates.unwritten(query, num_splits))
    )
    launch = split_decode_launch(*room, query, keys, values, batch)
    stretch = launch.arguments["tokens_per_split"]
    states = [
        _state_of(asked, keys, values, table, range(first, min(first + stretch, context_len)))
        for asked, table, context_len in zip(
            query, batch.block_tables, batch.context_lens.tolist(), strict=True
        )
        for first in range(0, num_splits * stretch, stretch)
    ]
    sizes = len(query), num_splits
    expected = {
        "split_max": torch.stack([each.max_score for each in states]) / math.log(2),
        "split_denominator": torch.stack([each.denominator for each in states]),
        "split_numerator": torch.stack([each.numerator for each in states]),
    }
    return KernelCase(
        f"{case.title}; splits of {stretch} tokens, {num_splits} a sequence",
        {**room._asdict(), **case.arguments},
        {
            name: each.unflatten(0, sizes).transpose(1, 2).contiguous()
            for name, each in expected.items()
        },
        case.needed_bytes,
    )


def _state_of(
    query: Tensor, keys: Tensor, values: Tensor, table: Tensor, positions: range
) -> SoftmaxState:
    """Return the state of one token's query over some positions of its sequence."""
    if not positions:
        return SoftmaxState.empty(query)
    block_size = keys.shape[1]
    at = torch.tensor(positions)
    slots = table.long()[at // block_size], at % block_size
    return partial_attention(query, keys[slots], values[slots])


_END = "end = tl.minimum(first + tokens_per_split, tl.load(context_lens + seq))"
_ROW = "row = (seq * num_heads + head) * num_splits + split"
_STORE_ROWS = (
    "store_rows(split_numerator, row * HEAD_DIM, numerator, member < GROUP, HEAD_DIM, DIM_LANES)"
)

_FIRST = "first = split * tokens_per_split"

SPLIT_MISTAKES = (
    Misconception(
        "a stretch of one tile",
        "A stretch is tokens_per_split tokens, which may be several tiles: the next one begins "
        "behind all of them.",
        Edited(((_FIRST, "first = split * TILE"),)),
    ),
    Misconception(
        "rows of one number",
        "split_numerator has HEAD_DIM numbers for each state, so a row begins HEAD_DIM numbers "
        "behind the one before it.",
        Edited(((_STORE_ROWS, _STORE_ROWS.replace("row * HEAD_DIM", "row")),)),
    ),
    Misconception(
        "on beyond the context",
        "The last stretch ends with the context, and one that begins behind it holds nothing: the "
        "smaller of the two ends counts.",
        Edited(((_END, "end = first + tokens_per_split"),)),
    ),
    Misconception(
        "the context from the start",
        "A program reads its own stretch only: where it ends depends on where it begins.",
        Edited(((_END, "end = tl.load(context_lens + seq)"),)),
    ),
    Misconception(
        "divided here",
        "Whoever combines the splits needs the sums as they are. An empty split would divide 0 by "
        "0, too.",
        Edited(
            (
                (
                    _STORE_ROWS,
                    _STORE_ROWS.replace("numerator, m", "numerator / denominator[:, None], m"),
                ),
            )
        ),
    ),
    Misconception(
        "splits for heads",
        "The results are [num_seqs, num_heads, num_splits]: the splits of one head are neighbours, "
        "and the next head begins num_splits further on.",
        Edited(((_ROW, "row = (seq * num_splits + split) * num_heads + head"),)),
    ),
)

# The states of several splits, combined


def splits(seed: int) -> Iterator[KernelCase]:
    """Yield the states that splits left behind, some of them empty."""
    generator = torch.Generator().manual_seed(seed)
    two = torch.tensor([[[2.0, 3.0]]]), torch.tensor([[[1.5, 1.25]]])
    numerators = torch.tensor([[[[17.0, 3.0], [32.0, 8.0]]]])
    yield _combined("2 splits", *two, numerators)
    apart = torch.tensor([[[-200.0, 200.0]]])
    yield _combined("2 splits, maxima far apart", apart, two[1], numerators)
    below, sums = torch.tensor([[[-160.0, -161.0, -162.0]]]), torch.tensor([[[1.5, 1.0, 1.25]]])
    three = torch.tensor([[[[17.0, 3.0], [32.0, 8.0], [5.0, 6.0]]]])
    yield _combined("3 splits, maxima far below 0", below, sums, three)
    for num_splits, empty, dim in ((3, [], 6), (1, [], 8), (5, [1, 4], 8)):
        sizes = (2, 3, num_splits)
        largest = 4 * torch.randn(sizes, generator=generator)
        sums = 1 + torch.rand(sizes, generator=generator)
        values = torch.randn(*sizes, dim, generator=generator)
        largest[..., empty] = -math.inf
        sums[..., empty], values[..., empty, :] = 0.0, 0.0
        plural = "s" if num_splits > 1 else ""
        said = f", {len(empty)} of them empty" if empty else ""
        yield _combined(f"{num_splits} split{plural}{said}, heads of {dim}", largest, sums, values)


def _combined(title: str, largest: Tensor, sums: Tensor, values: Tensor) -> KernelCase:
    factor = (largest - largest.amax(-1, keepdim=True)).exp2()
    total = (values * factor[..., None]).sum(-2)
    # In memory the heads come before the sequences: only the strides tell.
    out = torch.full_like(total.transpose(0, 1).contiguous(), torch.nan).transpose(0, 1)
    return KernelCase(
        title,
        {
            "out": out,
            "split_max": largest,
            "split_denominator": sums,
            "split_numerator": values,
        },
        {"out": total / (sums * factor).sum(-1)[..., None]},
        {"split_numerator": values.numel() * values.element_size()},
    )


_FACTOR = "factor = tl.exp2(max_score - tl.max(max_score, axis=0))"
_TOTAL = "total = tl.sum(numerator * factor[:, None], axis=0)"
_ATTENTION = "attention = total / tl.sum(denominator * factor, axis=0)"

_MAX = 'max_score = tl.load(split_max + row, mask=valid, other=float("-inf"))'
_OUT = "out_offset = seq * out_seq_stride + head * out_head_stride + dim"
_ROW_OF_SPLIT = "row = (seq * tl.num_programs(1) + head) * num_splits + split"

COMBINE_MISTAKES = (
    Misconception(
        "0 in the empty lanes",
        "A lane that stands for nothing must not have the largest maximum: where all others are "
        "far below 0, a 0 beside them leaves only weights of 0.",
        Edited(((_MAX, _MAX.replace('float("-inf")', "0.0")),)),
    ),
    Misconception(
        "nothing in the empty lanes",
        "What a masked lane holds is undefined unless `other` says it: -inf for a maximum, so that "
        "it is never the largest, and 0 for a sum.",
        Edited(((_MAX, _MAX.replace(', other=float("-inf")', "")),)),
    ),
    Misconception(
        "outputs side by side",
        "How far apart the outputs of two heads or two sequences are, out_head_stride and "
        "out_seq_stride say; they need not lie side by side.",
        Edited(((_OUT, "out_offset = (seq * tl.num_programs(1) + head) * HEAD_DIM + dim"),)),
    ),
    Misconception(
        "sequences for heads",
        "The states of a sequence take num_heads rows: that is how many programs the grid has "
        "along axis 1; axis 0 counts the sequences.",
        Edited(((_ROW_OF_SPLIT, _ROW_OF_SPLIT.replace("num_programs(1)", "num_programs(0)")),)),
    ),
    Misconception(
        "divided first, where there is something",
        "Without the empty splits it is still an average of averages: a split that holds more of "
        "the weight counts more. Add numerators and denominators, and divide once, at the end.",
        Edited(
            (
                (
                    _TOTAL,
                    "total = tl.sum(tl.where(denominator[:, None] > 0, "
                    "numerator / denominator[:, None], 0.0), axis=0)",
                ),
                (_ATTENTION, "attention = total / tl.sum(tl.where(denominator > 0, 1.0, 0.0))"),
            )
        ),
    ),
    Misconception(
        "added as they are",
        "The sums of two splits are relative to different maxima: bring them to the largest of all "
        "before you add them.",
        Edited(((_FACTOR, "factor = tl.where(valid, 1.0, 0.0)"),)),
    ),
    Misconception(
        "lanes behind the last split",
        "There are SPLIT_LANES lanes and num_splits states: a lane behind the last state reads the "
        "state of the next head, or outside.",
        Edited((("valid = split < num_splits", "valid = split < SPLIT_LANES"),)),
    ),
    Misconception(
        "divided first",
        "A split that holds more of the weight counts more. Add numerators and denominators, and "
        "divide once, at the end.",
        Edited(
            (
                (_TOTAL, "total = tl.sum(numerator / denominator[:, None], axis=0)"),
                (_ATTENTION, "attention = total / num_splits"),
            )
        ),
    ),
    Misconception(
        "acc is not rescaled",
        "The numerators are relative to the maxima of their splits, as the denominators are.",
        Edited(((_TOTAL, "total = tl.sum(numerator, axis=0)"),)),
    ),
    Misconception(
        "exp for exp2",
        "The scores are powers of two here, as in all kernels; see scale_log2.",
        Edited(((_FACTOR, "factor = tl.exp(max_score - tl.max(max_score, axis=0))"),)),
    ),
    Misconception(
        "heads overlap",
        "The states of one head stand side by side, num_splits of them: the next head's begin "
        "num_splits further on.",
        Edited(((_ROW_OF_SPLIT, "row = seq * tl.num_programs(1) + head + split"),)),
    ),
)

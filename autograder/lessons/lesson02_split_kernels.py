"""Lesson 2: what the checks of split-KV decoding are given, and the wrong code that they know."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace

import torch
from torch import Tensor

from autograder.checks.finding import Misconception
from autograder.checks.kernel import Edited, KernelCase
from autograder.lessons.lesson02_kernels import Sizes, decodes, decodes_of
from course_lib.attention.dense import SoftmaxState, partial_attention

_LONG: Sizes = (2, 1, 8, 16, 26)

# One stretch of a sequence


def stretches(seed: int) -> Iterator[KernelCase]:
    """Yield decodes in stretches: one, some that are empty, and some longer than a tile."""
    small, more, usual = decodes(seed)
    yield _stretches(small, 1)
    yield _stretches(more, 2)
    yield _stretches(_heads_first(usual), 3)
    # Longer than a stretch of two tiles and one more: who reads too far does not reach the end.
    long = decodes_of([400], _LONG, torch.Generator().manual_seed(seed))
    yield _stretches(long, 2)


def _heads_first(case: KernelCase) -> KernelCase:
    """Return the case with queries whose heads come before the sequences in memory."""
    query = case.arguments["query"].transpose(0, 1).contiguous().transpose(0, 1)
    title = f"{case.title}; in memory, the heads of the query come first"
    return replace(case, title=title, arguments={**case.arguments, "query": query})


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

_BY_QUERY_ROW = "query_row * num_splits + split * HEAD_DIM"
_FIRST = "first = split * tokens_per_split"

SPLIT_MISTAKES = (
    Misconception(
        "the strides of the query",
        "The results are contiguous, and the query need not be: how far apart its rows are says "
        "nothing of where a state lies. A row of split_numerator begins at row * HEAD_DIM.",
        Edited(
            ((_STORE_ROWS, _STORE_ROWS.replace("row * HEAD_DIM", _BY_QUERY_ROW)),),
        ),
    ),
    Misconception(
        "split by split",
        "The results are [num_seqs, num_heads, num_splits]: the splits of one head are neighbours, "
        "so a head begins num_splits behind the one before it, and a split one behind.",
        Edited(((_ROW, "row = seq * num_heads + head + num_heads * split"),)),
    ),
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
    # As many lanes of splits as of numbers would let a factor fit along the wrong side.
    numerators = torch.tensor([[[[17.0, 3.0, 5.0, 9.0], [32.0, 8.0, 2.0, 7.0]]]])
    yield _combined("2 splits", *two, numerators)
    apart = torch.tensor([[[-200.0, 200.0]]])
    yield _combined("2 splits, maxima far apart", apart, two[1], numerators)
    below, sums = torch.tensor([[[-2e4, -20001.0, -20002.0]]]), torch.tensor([[[1.5, 1.0, 1.25]]])
    three = torch.tensor([[[[17.0, 3.0], [32.0, 8.0], [5.0, 6.0]]]])
    yield _combined("3 splits, maxima far below 0", below, sums, three)
    for num_splits, empty, dim in ((3, [], 6), (1, [], 8), (5, [1, 4], 8)):
        sizes = (2, 3, num_splits)
        largest = 4 * torch.randn(sizes, generator=generator)
        sums = 1 + torch.rand(sizes, generator=generator)
        values = torch.randn(*sizes, dim, generator=generator)
        if num_splits == 1:
            largest -= 1e20  # finite all the same, and without an empty lane beside it
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

_LARGEST = "tl.max(max_score, axis=0)"
_NUMERATOR = "numerator = load_rows(split_numerator, row * HEAD_DIM, valid, HEAD_DIM, DIM_LANES)"
_MAX = 'max_score = tl.load(split_max + row, mask=valid, other=float("-inf"))'
_OUT = "out_offset = seq * out_seq_stride + head * out_head_stride + dim"
_ROW_OF_SPLIT = "row = (seq * tl.num_programs(1) + head) * num_splits + split"

COMBINE_MISTAKES = (
    Misconception(
        "no maximum below 0",
        "The largest maximum may be far below 0: relative to 0 all factors would vanish. Only the "
        "maxima decide.",
        Edited(((_FACTOR, _FACTOR.replace(_LARGEST, f"tl.maximum({_LARGEST}, 0.0)")),)),
    ),
    Misconception(
        "rows of one number",
        "split_numerator has HEAD_DIM numbers for each state, so a row begins HEAD_DIM numbers "
        "behind the one before it.",
        Edited(((_NUMERATOR, _NUMERATOR.replace("row * HEAD_DIM", "row")),)),
    ),
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
        "outputs by their maxima",
        "How much a split weighs is not its factor alone, but the factor times its denominator. "
        "Bring numerators and denominators to the largest maximum, add both, and divide once.",
        Edited(
            (
                (
                    _TOTAL,
                    "total = tl.sum(numerator / denominator[:, None] * factor[:, None], axis=0)",
                ),
                (_ATTENTION, "attention = total / tl.sum(factor, axis=0)"),
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
        "l is not rescaled",
        "The denominators are relative to the maxima of their splits, as the numerators are.",
        Edited(((_ATTENTION, "attention = total / tl.sum(denominator, axis=0)"),)),
    ),
    Misconception(
        "exp for exp2",
        "Scores come multiplied by log2(e) here, as in all kernels, so that a weight is a power of "
        "two, and so is this factor.",
        Edited(((_FACTOR, "factor = tl.exp(max_score - tl.max(max_score, axis=0))"),)),
    ),
    Misconception(
        "heads overlap",
        "The states of one head stand side by side, num_splits of them: the next head's begin "
        "num_splits further on.",
        Edited(((_ROW_OF_SPLIT, "row = seq * tl.num_programs(1) + head + split"),)),
    ),
)

"""Lesson 2: the wrong answers that people are known to give to attention over blocks."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import replace
from functools import reduce
from typing import Any

import torch
from torch import Tensor

from autograder.checks.finding import Misconception
from course_lib.attention.backends.arguments import check_decode
from course_lib.attention.batch import PagedBatch
from course_lib.attention.dense import (
    SoftmaxState,
    merge_states,
    partial_attention,
    require_heads,
    softmax,
    widened,
)
from course_lib.attention.paged import attend_blocks

# 2.4a

_Spans = list[tuple[int, int]]
"""Blocks to read, and how many slots of each."""

_Rule = Callable[[Tensor, int, int], _Spans]
"""Says what to read, by block table, context length and block size."""

_OR_FOR_NONE = r"scale or |if scale:|if not scale|if scale else"
"""How the code looks that asks whether a scale is 0 instead of whether there is none."""

_Scaled = Callable[[float | None], float | None]
_Joined = Callable[[Tensor, list[SoftmaxState]], Tensor]
_Answer = Callable[..., Tensor]
_Choice = Callable[[Tensor, Tensor], Tensor]
"""Takes scores or values, and which positions are hidden."""


def _spans(block_table: Tensor, context_len: int, block_size: int) -> _Spans:
    """Return what is right: the filled slots of the blocks of the context."""
    starts = range(0, context_len, block_size)
    return [
        (int(block_table[logical]), min(block_size, context_len - start))
        for logical, start in enumerate(starts)
    ]


def _as_given(scale: float | None) -> float | None:
    return scale


def _left_out(scale: float | None) -> None:
    """Forget the scale that is given."""


def _none_for_0(scale: float | None) -> float | None:
    return scale or None


def _merged(query: Tensor, states: list[SoftmaxState]) -> Tensor:
    """Return what is right: the output of all states together."""
    return reduce(merge_states, states, SoftmaxState.empty(query)).output()


def _mean(query: Tensor, states: list[SoftmaxState]) -> Tensor:
    """Average the outputs, as if all blocks had the same weight."""
    if not states:
        raise ValueError("the context is empty")
    return torch.stack([state.output() for state in states]).mean(0)


def _added_up(query: Tensor, states: list[SoftmaxState]) -> Tensor:
    """Add the outputs, each of which is an average already."""
    return _mean(query, states) * len(states)


def _divided_in_each(query: Tensor, states: list[SoftmaxState]) -> Tensor:
    """Divide after each block, and go on with the quotient as if it were the numerator."""
    seen = SoftmaxState.empty(query)
    for state in states:
        seen = merge_states(seen, state)
        seen = replace(seen, numerator=seen.output())
    return seen.output()


def _left_wide(*arguments: Any, **options: Any) -> Tensor:
    """Return the output in the 32 bits of the sums."""
    return widened(attend_blocks(*arguments, **options))


def _swept(*arguments: Any, **options: Any) -> Tensor:
    """Attend to caches in which what is not finite is replaced by numbers."""
    query, key_cache, value_cache, *rest = arguments
    return attend_blocks(query, key_cache.nan_to_num(), value_cache.nan_to_num(), *rest, **options)


def _masked_scores(
    query: Tensor,
    key_cache: Tensor,
    value_cache: Tensor,
    block_table: Tensor,
    context_len: int,
    scale: float | None = None,
) -> Tensor:
    """Gather whole blocks, hide the scores behind the context, and multiply all values."""
    return _over_whole_blocks(query, key_cache, value_cache, block_table, context_len, scale)


def _mask_added(
    query: Tensor,
    key_cache: Tensor,
    value_cache: Tensor,
    block_table: Tensor,
    context_len: int,
    scale: float | None = None,
) -> Tensor:
    """Gather whole blocks, leave out the values behind the context, and add the mask."""
    arguments = query, key_cache, value_cache, block_table, context_len, scale
    return _over_whole_blocks(*arguments, hide=_added, keep=_filled)


def _hidden_with_a_number(
    query: Tensor,
    key_cache: Tensor,
    value_cache: Tensor,
    block_table: Tensor,
    context_len: int,
    scale: float | None = None,
) -> Tensor:
    """Gather whole blocks, leave out the values behind the context, and hide with a number."""
    arguments = query, key_cache, value_cache, block_table, context_len, scale
    return _over_whole_blocks(*arguments, hide=_set_to_a_number, keep=_filled)


def _set_to_infinity(scores: Tensor, hidden: Tensor) -> Tensor:
    """Return what is right."""
    return scores.masked_fill(hidden, -math.inf)


def _set_to_a_number(scores: Tensor, hidden: Tensor) -> Tensor:
    return scores.masked_fill(hidden, -1e9)


def _added(scores: Tensor, hidden: Tensor) -> Tensor:
    return scores + torch.where(hidden, -math.inf, 0.0)


def _all_of_them(values: Tensor, hidden: Tensor) -> Tensor:
    return values


def _filled(values: Tensor, hidden: Tensor) -> Tensor:
    """Return what is right."""
    return values.masked_fill(hidden[:, None, None], 0.0)


def _over_whole_blocks(
    query: Tensor,
    key_cache: Tensor,
    value_cache: Tensor,
    block_table: Tensor,
    context_len: int,
    scale: float | None,
    hide: _Choice = _set_to_infinity,
    keep: _Choice = _all_of_them,
) -> Tensor:
    """Attend to whole blocks, with the scores hidden and the values kept in some way."""
    if context_len < 1:
        raise ValueError("the context is empty")
    blocks = block_table[: -(-context_len // key_cache.shape[1])].long()
    keys, values = (widened(each[blocks].flatten(0, 1)) for each in (key_cache, value_cache))
    require_heads(query[None], keys, values)
    grouped = widened(query).unflatten(0, (keys.shape[1], -1))
    scale = 1 / math.sqrt(query.shape[-1]) if scale is None else scale
    scores = torch.einsum("kgd,nkd->kgn", grouped, keys) * scale
    hidden = torch.arange(len(keys)) >= context_len
    weights = softmax(hide(scores, hidden))
    out = torch.einsum("kgn,nkd->kgd", weights, keep(values, hidden))
    return out.flatten(0, 1).to(query.dtype)


def _attending(rule: _Rule, scaled: _Scaled = _as_given, joined: _Joined = _merged) -> _Answer:
    """Make an answer from what it reads, which scale it uses, and how it joins the states."""

    def attend(
        query: Tensor,
        key_cache: Tensor,
        value_cache: Tensor,
        block_table: Tensor,
        context_len: int,
        scale: float | None = None,
    ) -> Tensor:
        states = [
            partial_attention(
                query, key_cache[block, :filled], value_cache[block, :filled], scaled(scale)
            )
            for block, filled in rule(block_table, context_len, key_cache.shape[1])
        ]
        return joined(query, states).to(query.dtype)

    return attend


def _whole_last_block(block_table: Tensor, context_len: int, block_size: int) -> _Spans:
    return [(block, block_size) for block, _ in _spans(block_table, context_len, block_size)]


def _logical_for_physical(block_table: Tensor, context_len: int, block_size: int) -> _Spans:
    return _spans(torch.arange(len(block_table)), context_len, block_size)


def _last_block_dropped(block_table: Tensor, context_len: int, block_size: int) -> _Spans:
    spans = _spans(block_table, context_len, block_size)
    return [span for span in spans if span[1] == block_size]


def _every_entry(block_table: Tensor, context_len: int, block_size: int) -> _Spans:
    return [(int(block), block_size) for block in block_table] if context_len else []


def _every_entry_in_part(block_table: Tensor, context_len: int, block_size: int) -> _Spans:
    return [
        (int(block), min(block_size, context_len - logical * block_size))
        for logical, block in enumerate(block_table)
    ]


def _one_block_more(block_table: Tensor, context_len: int, block_size: int) -> _Spans:
    """Round up by adding 1 to what is rounded down."""
    return [
        (int(block_table[logical]), min(block_size, context_len - logical * block_size))
        for logical in range(context_len // block_size + 1)
    ]


def _remainder_of_0(block_table: Tensor, context_len: int, block_size: int) -> _Spans:
    spans = _spans(block_table, context_len, block_size)
    return [*spans[:-1], *((block, context_len % block_size) for block, _ in spans[-1:])]


ATTEND = (
    Misconception(
        "the whole last block",
        "Behind the context a block holds what somebody else left there, or nothing that was ever "
        "written: read only the slots that are filled.",
        _attending(_whole_last_block),
    ),
    Misconception(
        "hidden in the scores only",
        "The weight of a slot behind the context is 0 then, and 0 times NaN or infinity is NaN: "
        "leave such slots out of the values, too.",
        _masked_scores,
    ),
    Misconception(
        "the mask is added",
        "A stale key may be NaN, too, and NaN plus -inf is NaN: leave such a slot out of the keys, "
        "as you leave it out of the values.",
        _mask_added,
    ),
    Misconception(
        "hidden with a finite number",
        "The sequence's own scores may be as low, and then what is hidden has weight as well: a "
        "slot behind the context is left out, or its score is -inf.",
        _hidden_with_a_number,
    ),
    Misconception(
        "logical for physical",
        "The first block of the sequence is not block 0 of the cache: which one it is stands in "
        "the block table.",
        _attending(_logical_for_physical),
    ),
    Misconception(
        "the last block is dropped",
        "A last block that is filled in part holds tokens of the context, too.",
        _attending(_last_block_dropped),
    ),
    Misconception(
        "every entry of the table",
        "A table may be longer than the context needs, and the last block that it does need may be "
        "filled in part; what stands behind means nothing. Stop at the context, in both.",
        _attending(_every_entry),
    ),
    Misconception(
        "on behind the context",
        "Behind the last block of the context nothing is left to read, and context_len - start is "
        "0 or less: the loop ends with the context, not with the table.",
        _attending(_every_entry_in_part),
    ),
    Misconception(
        "a remainder of 0",
        "context_len % block_size is 0 when the last block is full: then all of its slots count.",
        _attending(_remainder_of_0),
    ),
    Misconception(
        "one block more",
        "context_len // block_size + 1 is one too many when the last block is full: behind it "
        "nothing is left to read, and the table may end.",
        _attending(_one_block_more),
    ),
    Misconception(
        "the scale is left out",
        "The scale that is given has to reach the scores.",
        _attending(_spans, scaled=_left_out),
    ),
    Misconception(
        "a scale of 0 taken for none",
        "A scale of 0 is a scale that is given: ask whether it is None, not whether it is 0.",
        _attending(_spans, scaled=_none_for_0),
        evidence=_OR_FOR_NONE,
    ),
    Misconception(
        "swept caches",
        "What the sequence does not own must not be read at all. Swept out of the whole cache, a "
        "NaN of the sequence's own, the symptom of a bug elsewhere, is hidden as well.",
        _swept,
    ),
    Misconception(
        "in the dtype of the sums",
        "The sums are in 32 bits, or more. The output goes back to the dtype of the query: "
        "`.to(query.dtype)`.",
        _left_wide,
    ),
    Misconception(
        "mean of the blocks",
        "A block whose keys have more weight counts more; merge the states and divide once.",
        _attending(_spans, joined=_mean),
    ),
    Misconception(
        "outputs added up",
        "Each output is divided already, by the weights of its own block only. Merge the states "
        "and divide once, by the weights of all blocks.",
        _attending(_spans, joined=_added_up),
    ),
    Misconception(
        "divided in each block",
        "A state that goes on holds sums. What is divided after each block is divided more than "
        "once: divide at the end.",
        _attending(_spans, joined=_divided_in_each),
    ),
)

# 2.4b

_Rows = tuple[Iterable[Tensor], Iterable[int]]
"""The table and the context length of each sequence of a batch."""


def _own_rows(batch: PagedBatch) -> _Rows:
    """Return what is right."""
    return batch.block_tables, batch.context_lens.tolist()


def _first_table_for_all(batch: PagedBatch) -> _Rows:
    return [batch.block_tables[0]] * batch.num_seqs, batch.context_lens.tolist()


def _longest_for_all(batch: PagedBatch) -> _Rows:
    return batch.block_tables, [batch.max_context_len] * batch.num_seqs


def _decoding(rule: Callable[[PagedBatch], _Rows], scaled: _Scaled = _as_given) -> _Answer:
    """Make an answer from which table and length it takes for a sequence, and which scale."""

    def decode(
        query: Tensor,
        key_cache: Tensor,
        value_cache: Tensor,
        batch: PagedBatch,
        scale: float | None = None,
    ) -> Tensor:
        check_decode(query, key_cache, value_cache, batch)
        outputs = [
            attend_blocks(asked, key_cache, value_cache, table, context_len, scaled(scale))
            for asked, table, context_len in zip(query, *rule(batch), strict=True)
        ]
        return torch.stack(outputs)

    return decode


DECODE = (
    Misconception(
        "the first table for all",
        "Each sequence has a row of its own in block_tables; through another one's it reads "
        "somebody else's text.",
        _decoding(_first_table_for_all),
    ),
    Misconception(
        "the longest context for all",
        "max_context_len is the longest of all sequences. A shorter one ends where its own "
        "context_lens says; its table is padded behind.",
        _decoding(_longest_for_all),
    ),
    Misconception(
        "a scale of 0 taken for none",
        "A scale of 0 is a scale that is given: ask whether it is None, not whether it is 0.",
        _decoding(_own_rows, scaled=_none_for_0),
        evidence=_OR_FOR_NONE,
    ),
    Misconception(
        "the scale is left out",
        "The scale that is given has to reach the scores.",
        _decoding(_own_rows, scaled=_left_out),
    ),
)

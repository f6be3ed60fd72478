"""Lesson 2: the wrong answers that people are known to give to attention over blocks."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor

from autograder.checks.finding import Misconception
from course_lib.attention.backends.arguments import check_decode
from course_lib.attention.batch import PagedBatch
from course_lib.attention.dense import SoftmaxState, merge_states, partial_attention
from course_lib.attention.paged import attend_blocks

# 2.4a


def _over_blocks(
    query: Tensor,
    caches: tuple[Tensor, Tensor],
    spans: list[tuple[int, int]],
    scale: float | None,
) -> Tensor:
    """Attend over the first slots of some blocks; a span is a block and how many slots of it."""
    state = SoftmaxState.empty(query)
    for block, filled in spans:
        keys, values = (cache[block, :filled] for cache in caches)
        state = merge_states(state, partial_attention(query, keys, values, scale))
    return state.output().to(query.dtype)


def _spans(block_table: Tensor, context_len: int, block_size: int) -> list[tuple[int, int]]:
    starts = range(0, context_len, block_size)
    return [
        (int(block_table[logical]), min(block_size, context_len - start))
        for logical, start in enumerate(starts)
    ]


def whole_last_block(
    query: Tensor,
    key_cache: Tensor,
    value_cache: Tensor,
    block_table: Tensor,
    context_len: int,
    scale: float | None = None,
) -> Tensor:
    """Read every slot of every block."""
    size = key_cache.shape[1]
    spans = [(block, size) for block, _ in _spans(block_table, context_len, size)]
    return _over_blocks(query, (key_cache, value_cache), spans, scale)


def logical_for_physical(
    query: Tensor,
    key_cache: Tensor,
    value_cache: Tensor,
    block_table: Tensor,
    context_len: int,
    scale: float | None = None,
) -> Tensor:
    """Read block 0, 1, 2 ... of the cache."""
    spans = _spans(torch.arange(len(block_table)), context_len, key_cache.shape[1])
    return _over_blocks(query, (key_cache, value_cache), spans, scale)


def partial_block_dropped(
    query: Tensor,
    key_cache: Tensor,
    value_cache: Tensor,
    block_table: Tensor,
    context_len: int,
    scale: float | None = None,
) -> Tensor:
    """Read full blocks only."""
    size = key_cache.shape[1]
    spans = [span for span in _spans(block_table, context_len, size) if span[1] == size]
    return _over_blocks(query, (key_cache, value_cache), spans, scale)


def every_entry(
    query: Tensor,
    key_cache: Tensor,
    value_cache: Tensor,
    block_table: Tensor,
    context_len: int,
    scale: float | None = None,
) -> Tensor:
    """Go through the whole table, and through whole blocks."""
    spans = [(int(block), key_cache.shape[1]) for block in block_table]
    return _over_blocks(query, (key_cache, value_cache), spans if context_len else [], scale)


def remainder_for_filled(
    query: Tensor,
    key_cache: Tensor,
    value_cache: Tensor,
    block_table: Tensor,
    context_len: int,
    scale: float | None = None,
) -> Tensor:
    """Take context_len % block_size for what is in the last block, also where that is 0."""
    size = key_cache.shape[1]
    spans = _spans(block_table, context_len, size)
    if spans:
        spans[-1] = spans[-1][0], context_len % size
    return _over_blocks(query, (key_cache, value_cache), spans, scale)


def scale_left_out(
    query: Tensor,
    key_cache: Tensor,
    value_cache: Tensor,
    block_table: Tensor,
    context_len: int,
    scale: float | None = None,
) -> Tensor:
    """Do not hand the scale on."""
    spans = _spans(block_table, context_len, key_cache.shape[1])
    return _over_blocks(query, (key_cache, value_cache), spans, None)


def mean_of_blocks(
    query: Tensor,
    key_cache: Tensor,
    value_cache: Tensor,
    block_table: Tensor,
    context_len: int,
    scale: float | None = None,
) -> Tensor:
    """Average the outputs of the blocks."""
    caches, size = (key_cache, value_cache), key_cache.shape[1]
    if context_len < 1:
        raise ValueError("empty")
    outputs = [
        _over_blocks(query, caches, [span], scale).double()
        for span in _spans(block_table, context_len, size)
    ]
    return torch.stack(outputs).mean(0).to(query.dtype)


ATTEND = (
    Misconception(
        "the whole last block",
        "Behind the context a block holds what somebody else left there, or nothing that was ever "
        "written: read only the slots that are filled.",
        whole_last_block,
    ),
    Misconception(
        "logical for physical",
        "The first block of the sequence is not block 0 of the cache: which one it is stands in "
        "the block table.",
        logical_for_physical,
    ),
    Misconception(
        "the last block is dropped",
        "A last block that is filled in part holds tokens of the context, too.",
        partial_block_dropped,
    ),
    Misconception(
        "every entry of the table",
        "A table may be longer than the context needs, and what stands behind means nothing: stop "
        "at the context.",
        every_entry,
    ),
    Misconception(
        "a remainder of 0",
        "context_len % block_size is 0 when the last block is full: then all of its slots count.",
        remainder_for_filled,
    ),
    Misconception(
        "the scale is left out",
        "The scale that is given has to reach the scores.",
        scale_left_out,
    ),
    Misconception(
        "mean of the blocks",
        "A block whose keys have more weight counts more; merge the states and divide once.",
        mean_of_blocks,
    ),
)


# 2.4b


def _decoded(
    query: Tensor,
    caches: tuple[Tensor, Tensor],
    tables: Iterable[Tensor],
    context_lens: Iterable[int],
    scale: float | None,
) -> Tensor:
    """Attend for each sequence by itself."""
    rows = zip(query, tables, context_lens, strict=True)
    outputs = [
        attend_blocks(asked, *caches, table, context_len, scale)
        for asked, table, context_len in rows
    ]
    return torch.stack(outputs)


def first_table_for_all(
    query: Tensor,
    key_cache: Tensor,
    value_cache: Tensor,
    batch: PagedBatch,
    scale: float | None = None,
) -> Tensor:
    """Look every sequence up in the first one's table."""
    check_decode(query, key_cache, value_cache, batch)
    tables = [batch.block_tables[0]] * len(query)
    lens = batch.context_lens.tolist()
    return _decoded(query, (key_cache, value_cache), tables, lens, scale)


def longest_for_all(
    query: Tensor,
    key_cache: Tensor,
    value_cache: Tensor,
    batch: PagedBatch,
    scale: float | None = None,
) -> Tensor:
    """Take the longest context for all."""
    check_decode(query, key_cache, value_cache, batch)
    lens = [batch.max_context_len] * len(query)
    return _decoded(query, (key_cache, value_cache), batch.block_tables, lens, scale)


def batch_scale_left_out(
    query: Tensor,
    key_cache: Tensor,
    value_cache: Tensor,
    batch: PagedBatch,
    scale: float | None = None,
) -> Tensor:
    """Do not hand the scale on."""
    check_decode(query, key_cache, value_cache, batch)
    lens = batch.context_lens.tolist()
    return _decoded(query, (key_cache, value_cache), batch.block_tables, lens, None)


DECODE = (
    Misconception(
        "the first table for all",
        "Each sequence has a row of its own in block_tables; through another one's it reads "
        "somebody else's text.",
        first_table_for_all,
    ),
    Misconception(
        "the longest context for all",
        "max_context_len is the longest of all sequences. A shorter one ends where its own "
        "context_lens says; its table is padded behind.",
        longest_for_all,
    ),
    Misconception(
        "the scale is left out",
        "The scale that is given has to reach the scores.",
        batch_scale_left_out,
    ),
)

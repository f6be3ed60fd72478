"""Lesson 11: attention from chunks, in PyTorch and in Triton: cases, and ways to go wrong."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from hypothesis import strategies as st
from torch import Tensor

from autograder.checks.finding import Misconception
from autograder.checks.function import Call, Large
from autograder.checks.kernel import Edited, KernelCase
from course_lib.attention.backends.arguments import check_query
from course_lib.attention.batch import PagedBatch
from course_lib.attention.dense import dense_attention
from course_lib.attention.paged import chunked_prefill, gather

KERNEL = "course_lib.attention.triton_kernels:chunked_prefill_kernel"

Chunk = tuple[int, int]
"""New tokens of a sequence, and the tokens in front of them that are computed."""
Heads = tuple[int, int, int]
"""Query heads, KV heads and head_dim."""


def _paged(
    chunks: Sequence[Chunk],
    block_size: int,
    heads: Heads,
    *,
    seed: int = 11,
    dtype: torch.dtype = torch.float32,
    stale: float = math.nan,
) -> tuple[Tensor, Tensor, Tensor, PagedBatch]:
    """Return queries, both caches, and a batch of chunks whose blocks lie anywhere.

    All numbers are small and whole, and later values are larger. What nobody owns is ``stale``.
    """
    generator = torch.Generator().manual_seed(seed)
    num_heads, kv_heads, head_dim = heads
    contexts = [new + cached for new, cached in chunks]
    lengths = [-(-context // block_size) for context in contexts]
    num_blocks = sum(lengths) + 1
    ids = iter((torch.randperm(num_blocks - 1, generator=generator) + 1).tolist())
    tables = [[next(ids) for _ in range(length)] for length in lengths]
    batch = PagedBatch.of(
        tables,
        contexts,
        [new for new, _ in chunks],
        num_blocks=num_blocks,
        block_size=block_size,
    )
    caches = torch.full((2, num_blocks, block_size, kv_heads, head_dim), stale, dtype=dtype)
    for table, context in zip(tables, contexts, strict=True):
        for position in range(context):
            token = torch.randint(0, 4, (2, kv_heads, head_dim), generator=generator)
            token[1] += position
            caches[:, table[position // block_size], position % block_size] = token.to(dtype)
    num_tokens = sum(new for new, _ in chunks)
    query = torch.randint(0, 3, (num_tokens, num_heads, head_dim), generator=generator)
    return query.to(dtype), caches[0], caches[1], batch


def batch_of(
    chunks: Sequence[Chunk], block_size: int, heads: Heads, scale: float | None = None, **more: Any
) -> Call:
    """Return the call on a batch of chunks."""
    return Call(*_paged(chunks, block_size, heads, **more), scale)


@st.composite
def batches(draw: st.DrawFn) -> Call:
    """Draw one to three sequences: decodes, first chunks and later ones, side by side."""
    chunks = draw(st.lists(st.tuples(st.integers(1, 4), st.integers(0, 5)), min_size=1, max_size=3))
    kv_heads = draw(st.integers(1, 2))
    heads = kv_heads * draw(st.integers(1, 2)), kv_heads, draw(st.integers(1, 2))
    return batch_of(
        chunks,
        draw(st.integers(1, 3)),
        heads,
        draw(st.sampled_from((None, 1.0, 0.0))),
        dtype=draw(st.sampled_from((torch.float32, torch.float16, torch.bfloat16))),
        stale=draw(st.sampled_from((1000.0, math.nan, math.inf))),
    )


def of_the_text(stale: float = math.nan) -> Call:
    """Return the call on values 1 to 5 in blocks [2, 0, 1] of two, two of them new, keys of 0."""
    values = torch.full((3, 2, 1, 1), stale)
    for position in range(5):
        values[(2, 0, 1)[position // 2], position % 2] = position + 1.0
    batch = PagedBatch.of([[2, 0, 1]], [5], [2], num_blocks=3, block_size=2)
    return Call(torch.zeros(2, 1, 1), torch.where(values.isnan(), values, 0.0), values, batch)


BATCHES = (
    of_the_text(),
    of_the_text(stale=9.0),
    batch_of([(3, 0)], 2, (1, 1, 1)),
    batch_of([(1, 4), (3, 2)], 2, (2, 1, 2)),
    batch_of([(2, 1), (1, 6), (3, 0)], 2, (4, 2, 2)),
    batch_of([(2, 3), (2, 1)], 3, (4, 2, 2), stale=1000.0),
    batch_of([(3, 4), (1, 2)], 2, (2, 2, 2), scale=2.0),
    batch_of([(2, 2)], 2, (1, 1, 2), scale=0.0),
    batch_of([(2, 2)], 2, (1, 1, 2), scale=100.0),
    batch_of([(2, 5)], 2, (6, 3, 4), dtype=torch.float16),
    batch_of([(2, 2), (1, 1)], 2, (1, 1, 1), dtype=torch.bfloat16),
)

_OF_TWO = batch_of([(2, 2)], 2, (2, 2, 2))
UNFIT_BATCHES = (
    Call(_OF_TWO.args[0][:1], *_OF_TWO.args[1:]),
    Call(torch.zeros(2, 3, 2), *_OF_TWO.args[1:]),
    Call(_OF_TWO.args[0].half(), *_OF_TWO.args[1:]),
    Call(*_OF_TWO.args[:2], _OF_TWO.args[2][..., :1], *_OF_TWO.args[3:]),
)


def _many_chunks() -> Call:
    """Return the call on 60 decodes and a chunk, in a cache that is sixty times as large.

    Larger caches would not fit into one message to a box.
    """
    generator = torch.Generator().manual_seed(9)
    num_blocks = 10_000
    ids = torch.randperm(num_blocks, generator=generator)[: 60 * 2 + 40].tolist()
    tables = [ids[2 * seq : 2 * seq + 2] for seq in range(60)] + [ids[120:]]
    batch = PagedBatch.of(
        tables, [20] * 60 + [640], [1] * 60 + [40], num_blocks=num_blocks, block_size=16
    )
    caches = torch.randn(2, num_blocks, 16, 1, 32, generator=generator)
    return Call(torch.randn(100, 2, 32, generator=generator), *caches, batch)


MANY_CHUNKS = (Large(_many_chunks, "60 decodes and a chunk of 40", seconds=1.0),)

# 11.4, wrong

_See = Callable[[int, int, int], int]
"""Says how many keys a query sees, by its place in the chunk, the chunk and the context."""


def _attending(
    sees: _See = lambda place, new, context: context - new + place + 1,
    contexts: Callable[[PagedBatch, int], int] = lambda batch, seq: int(batch.context_lens[seq]),
    table: Callable[[int], int] = lambda seq: seq,
    scaled: Callable[[float | None], float | None] = lambda scale: scale,
    repeated: Callable[[Tensor, int], Tensor] = lambda keys, group: keys.repeat_interleave(
        group, 1
    ),
) -> Callable[..., Tensor]:
    """Make an answer, row by row, from who sees what, where, and how it is weighed."""

    def attend(
        query: Tensor,
        key_cache: Tensor,
        value_cache: Tensor,
        batch: PagedBatch,
        scale: float | None = None,
    ) -> Tensor:
        check_query(query, key_cache, value_cache, batch)
        out = torch.empty_like(query)
        starts = batch.query_starts.tolist()
        group = query.shape[1] // key_cache.shape[2]
        for seq in range(batch.num_seqs):
            context, new = contexts(batch, seq), starts[seq + 1] - starts[seq]
            keys, values = (
                repeated(gather(cache, batch.block_tables[table(seq)], context), group)
                for cache in (key_cache, value_cache)
            )
            for place in range(new):
                row = slice(starts[seq] + place, starts[seq] + place + 1)
                seen = sees(place, new, context)
                out[row] = dense_attention(query[row], keys[:seen], values[:seen], scaled(scale))
        return out

    return attend


def _attending_at_once(span: Callable[[int, int], tuple[int, int]]) -> Callable[..., Tensor]:
    """Make an answer, chunk by chunk, from the keys that are handed over: the first, and the end.

    Args:
        span: Says so by the new tokens and the context.
    """

    def attend(
        query: Tensor,
        key_cache: Tensor,
        value_cache: Tensor,
        batch: PagedBatch,
        scale: float | None = None,
    ) -> Tensor:
        check_query(query, key_cache, value_cache, batch)
        out = torch.empty_like(query)
        starts = batch.query_starts.tolist()
        for seq, context in enumerate(batch.context_lens.tolist()):
            chunk = slice(starts[seq], starts[seq + 1])
            first, end = span(chunk.stop - chunk.start, context)
            keys, values = (
                gather(cache, batch.block_tables[seq], end)[first:]
                for cache in (key_cache, value_cache)
            )
            out[chunk] = dense_attention(query[chunk], keys, values, scale)
        return out

    return attend


def _whole_blocks(batch: PagedBatch, seq: int) -> int:
    """Return the slots of all blocks of a context."""
    context = int(batch.context_lens[seq])
    return -(-context // batch.block_size) * batch.block_size


MISTAKES = (
    Misconception(
        "the mask begins at 0",
        "The queries are the last tokens of the context, not the first: query i of a chunk sees "
        "the computed tokens as well, computed + i + 1 keys.",
        _attending(lambda place, new, context: place + 1),
    ),
    Misconception(
        "no mask",
        "The tokens of a chunk stand one behind the other: none sees those behind it.",
        _attending(lambda place, new, context: context),
    ),
    Misconception(
        "does not see itself",
        "A query sees its own key, too, which is written before it attends.",
        _attending(lambda place, new, context: max(1, context - new + place)),
    ),
    Misconception(
        "only the chunk",
        "A later chunk attends to all that was computed before it, not to itself alone.",
        _attending_at_once(lambda new, context: (context - new, context)),
    ),
    Misconception(
        "the whole last block",
        "Behind the context a block holds what somebody else left there, or nothing that was ever "
        "written: the keys end with the context.",
        _attending(contexts=_whole_blocks),
    ),
    Misconception(
        "the new tokens counted twice",
        "context_lens has the new tokens in it: they are the last of the context, and nothing is "
        "behind them.",
        _attending_at_once(lambda new, context: (0, context + new)),
    ),
    Misconception(
        "the longest context for all",
        "max_context_len is the longest of all sequences. Each one ends where its own context_lens "
        "says.",
        _attending(contexts=lambda batch, seq: batch.max_context_len),
    ),
    Misconception(
        "the first table for all",
        "Each sequence has a row of its own in block_tables; through another one's it reads "
        "somebody else's text.",
        _attending(table=lambda seq: 0),
    ),
    Misconception(
        "KV heads dealt in turn",
        "Neighbouring query heads share a KV head: head h reads h // group, not h % num_kv_heads.",
        _attending(repeated=lambda keys, group: keys.repeat(1, group, 1)),
    ),
    Misconception(
        "the scale is left out",
        "The scale that is given has to reach the scores.",
        _attending(scaled=lambda scale: None),
    ),
    Misconception(
        "a scale of 0 taken for none",
        "A scale of 0 is a scale that is given: ask whether it is None, not whether it is 0.",
        _attending(scaled=lambda scale: scale or None),
        evidence=r"scale or |if scale:|if not scale|if scale else",
    ),
)

# 11.5


def chunks(seed: int) -> Iterator[KernelCase]:
    """Yield batches: a chunk of its own, chunks behind others, and contexts of several tiles.

    In the last one three heads share a KV head: its tiles have 64 rows for 21 tokens.
    """
    yield kernel_case([(3, 0)], 4, (2, 1, 2), seed)
    yield kernel_case([(5, 23), (3, 3), (1, 9)], 16, (4, 2, 8), seed)
    yield kernel_case([(40, 1)], 16, (4, 2, 8), seed)
    yield kernel_case([(40, 560), (1, 140)], 16, (3, 1, 8), seed)


def kernel_case(
    new_and_cached: list[Chunk], block_size: int, heads: Heads, seed: int
) -> KernelCase:
    """Return the case of a batch of chunks; what nobody owns is NaN."""
    query, keys, values, batch = _paged(new_and_cached, block_size, heads, seed=seed)
    keys, query = keys / 2, query / 2
    said = ", ".join(f"{new} behind {cached}" for new, cached in new_and_cached)
    needed = 4 * math.prod(heads[1:]) * sum(_keys_read(new_and_cached, heads))
    return KernelCase(
        f"chunks: {said}",
        {"query": query, "key_cache": keys, "value_cache": values, "batch": batch},
        {"out": chunked_prefill(query, keys, values, batch)},
        {"key_cache": needed, "value_cache": needed},
    )


def _keys_read(new_and_cached: list[Chunk], heads: Heads) -> Iterator[int]:
    """Yield the keys that each tile of queries needs: up to the last token of the tile."""
    group = heads[0] // heads[1]
    longest = max(new for new, _ in new_and_cached)
    rows = max(16, min(64, 1 << (longest * group - 1).bit_length()))
    for new, cached in new_and_cached:
        for first in range(0, new, rows // group):
            yield min(cached + new, cached + first + rows // group)


_TOKEN = "token_in_chunk = first + row // GROUP"
_HEAD = "head = kv_head * GROUP + row % GROUP"
_POSITION = "query_position = first_position + row // GROUP"
_VALID = "row_valid = (row < QUERIES * GROUP) & (token_in_chunk < chunk_len)"
_END = "end = tl.where(first < chunk_len, tl.minimum(context_len, first_position + QUERIES), 0)"
_VISIBLE = "visible = position[None, :] <= query_position[:, None]"

KERNEL_MISTAKES = (
    Misconception(
        "the mask begins at 0",
        "A position counts from the start of the sequence: the computed tokens stand in front of "
        "the chunk.",
        Edited(((_POSITION, "query_position = first + row // GROUP"),)),
    ),
    Misconception(
        "the first query's position for all",
        "Each row's token has a position of its own, row // GROUP behind that of the first.",
        Edited(((_POSITION, "query_position = first_position + 0 * row"),)),
    ),
    Misconception(
        "rows for tokens",
        "The heads of a token stand side by side: GROUP rows are one token, with one position.",
        Edited(((_POSITION, "query_position = first_position + row"),)),
    ),
    Misconception(
        "does not see itself",
        "A query sees its own key, too: at most its own position, not below it.",
        Edited(((_VISIBLE, _VISIBLE.replace("<=", "<")),)),
    ),
    Misconception(
        "no mask",
        "The last tiles hold keys that stand behind some of the rows' tokens.",
        Edited(((_VISIBLE, "visible = position[None, :] < end + 0 * query_position[:, None]"),)),
    ),
    Misconception(
        "head by head",
        "The rows of one token stand side by side, so that row // GROUP is the token and row % "
        "GROUP the head among those that share a KV head.",
        Edited(
            (
                (_TOKEN, "token_in_chunk = first + row % QUERIES"),
                (_HEAD, "head = kv_head * GROUP + row // QUERIES"),
            )
        ),
    ),
    Misconception(
        "the rows are not cut at the chunk",
        "A tile may have more rows than the chunk has tokens left: those behind it belong to the "
        "next sequence, or to nobody.",
        Edited(((_VALID, "row_valid = row < QUERIES * GROUP"),)),
    ),
    Misconception(
        "the rows are not cut at the tile",
        "ROWS is a power of two: there may be more rows than QUERIES * GROUP, and those beyond it "
        "would write for tokens of the next tile.",
        Edited(((_VALID, "row_valid = token_in_chunk < chunk_len"),)),
    ),
    Misconception(
        "heads of the first KV head",
        "row % GROUP counts among the heads that share a KV head: in front of them stand kv_head * "
        "GROUP others.",
        Edited(((_HEAD, "head = row % GROUP"),)),
    ),
    Misconception(
        "the tokens of the first tile",
        "A program works for the tokens of the chunk from `first` on: row // GROUP counts within "
        "its tile.",
        Edited(((_TOKEN, "token_in_chunk = row // GROUP"),)),
    ),
    Misconception(
        "the tile counted twice",
        "first_position is where the first token of the tile stands: `first` is in it already.",
        Edited(((_POSITION, "query_position = first_position + first + row // GROUP"),)),
    ),
    Misconception(
        "on beyond the context",
        "The last tile may be longer than the rest of the chunk: the keys end with the context.",
        Edited(((_END, "end = tl.where(first < chunk_len, first_position + QUERIES, 0)"),)),
    ),
    Misconception(
        "up to the first query",
        "The last token of the tile sees the most: QUERIES - 1 keys more than the first.",
        Edited(((_END, _END.replace("first_position + QUERIES", "first_position + 1")),)),
    ),
)

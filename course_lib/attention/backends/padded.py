"""The paged cache in PyTorch for many sequences at a time: what the engine runs without Triton.

``paged`` visits one sequence after the other. For 64 sequences of a small model that is 64 times a
dozen operations on a few thousand numbers, and Python takes longer than the arithmetic. Here,
sequences of similar length are padded to the longest of them, so that each group takes one gather
and one call of PyTorch's own attention. Results are those of ``paged``.

Padding never reads a slot that is not the sequence's own: what is in other slots may be NaN, and
0 · NaN is NaN. Beyond its end, a sequence repeats its last token. A repeated key gets a score of
−inf. A repeated query sees what the last query sees, and writes the same answer again.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812 - the field's name for it
from numpy.typing import NDArray
from torch import Tensor

from course_lib.attention.backends.arguments import (
    SlotsOfAStep,
    check_decode,
    check_query,
    check_write,
)
from course_lib.attention.batch import PagedBatch

GROUP_COST = 1500
"""What one more group costs, in keys that a decode could attend to in the same time (measured with
a small model on one core: 70 µs, against 48 ns for a key)."""

QUERIES_PER_KEY = 4
"""How many more queries of a chunk make a key cost as much again."""


class PaddedAttention:
    """Writing to the cache and attending to it, and what is kept from one layer to the next.

    The layers of a step ask about the same batch, so its groups are made once. And they gather into
    the same memory: fresh memory for each layer's megabytes comes from the operating system page by
    page, which took longer than the gather itself (28 against 11 ms for a step of 64 sequences).

    Invariant: the groups are those of the batch that was seen last. An object serves one engine;
    two threads must not use it at once.

    >>> cache = torch.ones(4, 2, 1, 8)
    >>> batch = PagedBatch.of([[3], [1, 2]], [1, 3], num_blocks=4, block_size=2)
    >>> PaddedAttention().paged_decode(torch.zeros(2, 2, 8), cache, 5 * cache, batch)[:, 0, 0]
    tensor([5., 5.])
    """

    def __init__(self) -> None:
        self._batch: PagedBatch | None = None
        self._groups: list[_Group] = []
        self._keys = _Workspace()
        self._values = _Workspace()
        self._check_slots = SlotsOfAStep()

    def reshape_and_cache(
        self,
        key: Tensor,
        value: Tensor,
        key_cache: Tensor,
        value_cache: Tensor,
        slot_mapping: Tensor,
    ) -> None:
        """Write the keys and values of new tokens into their slots, as ``paged`` does.

        Raises:
            ValueError: As there. Nothing is written then.
        """
        check_write(key, value, key_cache, value_cache, slot_mapping, self._check_slots)
        block_size = key_cache.shape[1]
        # Without padding nothing is to be picked out: half the time for 64 tokens.
        if bool((slot_mapping < 0).any()):
            real = slot_mapping >= 0
            key, value, slot_mapping = key[real], value[real], slot_mapping[real]
        for tokens, cache in ((key, key_cache), (value, value_cache)):
            if cache.is_contiguous():
                cache.view(-1, *cache.shape[2:]).index_copy_(0, slot_mapping, tokens)
            else:
                cache[slot_mapping // block_size, slot_mapping % block_size] = tokens

    def paged_decode(
        self,
        query: Tensor,
        key_cache: Tensor,
        value_cache: Tensor,
        batch: PagedBatch,
        scale: float | None = None,
    ) -> Tensor:
        """Return the attention of one new token per sequence, as ``paged.paged_decode``.

        Raises:
            ValueError: As there.
        """
        check_decode(query, key_cache, value_cache, batch)
        return self._attend(query, key_cache, value_cache, batch, scale)

    def chunked_prefill(
        self,
        query: Tensor,
        key_cache: Tensor,
        value_cache: Tensor,
        batch: PagedBatch,
        scale: float | None = None,
    ) -> Tensor:
        """Return the attention of each sequence's newest tokens, as ``paged.chunked_prefill``.

        Raises:
            ValueError: As there.
        """
        check_query(query, key_cache, value_cache, batch)
        return self._attend(query, key_cache, value_cache, batch, scale)

    def _attend(
        self,
        query: Tensor,
        key_cache: Tensor,
        value_cache: Tensor,
        batch: PagedBatch,
        scale: float | None,
    ) -> Tensor:
        if batch is not self._batch:
            self._batch, self._groups = batch, _groups_of(batch)
        out = torch.empty_like(query)
        for group in self._groups:
            keys = self._keys.gather(key_cache, group.slots)
            values = self._values.gather(value_cache, group.slots)
            if group.is_all:
                padded = query.unflatten(0, group.queries.shape)
                return _attend_padded(padded, keys, values, group.mask, scale).flatten(0, 1)
            rows = group.queries.flatten()
            padded = query.index_select(0, rows).unflatten(0, group.queries.shape)
            attended = _attend_padded(padded, keys, values, group.mask, scale)
            out.index_copy_(0, rows, attended.flatten(0, 1))
        return out


class _Workspace:
    """Memory that is used again and again; it grows to the largest gather that it has seen."""

    def __init__(self) -> None:
        self._memory: Tensor | None = None

    def gather(self, cache: Tensor, slots: Tensor) -> Tensor:
        """Return what is in the slots, until the next call: [*slots.shape, *cache.shape[2:]]."""
        num_blocks, block_size, *heads = cache.shape
        if not cache.is_contiguous():
            return cache[slots // block_size, slots % block_size]
        memory = self._memory
        if memory is None or (memory.dtype, memory.device) != (cache.dtype, cache.device):
            # A tensor made in inference mode could not be written to outside of it later.
            with torch.inference_mode(mode=False):
                memory = torch.empty(0, dtype=cache.dtype, device=cache.device)
            self._memory = memory
        # Whole rows of memory; an eighth of the time that indexing with two tensors takes.
        rows = cache.view(num_blocks * block_size, math.prod(heads))
        out = memory.resize_(slots.numel(), rows.shape[1])
        return torch.index_select(rows, 0, slots.flatten(), out=out).view(*slots.shape, *heads)


@dataclass(frozen=True, eq=False)
class _Group:
    """Sequences that are padded to the same number of queries and of keys.

    Attributes:
        queries: int64 [num_seqs, num_queries], the row of each query among the step's tokens.
        slots: int64 [num_seqs, num_keys], where each key and value is in the cache.
        mask: float32 [num_seqs, 1, num_queries, num_keys], −inf where a query does not see a key;
            None if every query sees every key.
        is_all: Whether these are all tokens of the step, in its order, and each once.
    """

    queries: Tensor
    slots: Tensor
    mask: Tensor | None
    is_all: bool


def _groups_of(batch: PagedBatch) -> list[_Group]:
    """Return the sequences of a batch, those of similar lengths together."""
    # In NumPy: so short vectors take it a third of PyTorch's time.
    query_starts = batch.query_starts.cpu().numpy()
    context_lens = batch.context_lens.cpu().numpy()
    tables = batch.block_tables.cpu().numpy()
    query_lens = np.diff(query_starts)
    members: defaultdict[int, list[int]] = defaultdict(list)
    # The longest first: each group is padded to its first sequence.
    for seq in np.argsort(-context_lens, kind="stable").tolist():
        # Queries up to the next power of two: decodes by themselves, chunks less than doubled.
        members[int(query_lens[seq] - 1).bit_length()].append(seq)
    groups: list[_Group] = []
    for bits, seqs in members.items():
        cost = GROUP_COST / (1 + ((1 << bits) - 1) / QUERIES_PER_KEY)
        for start, end in similar_lengths(context_lens[seqs], cost):
            chosen = seqs[start:end]
            arrays = _side_by_side(
                tables[chosen],
                query_starts[chosen],
                query_lens[chosen],
                context_lens[chosen],
                batch.block_size,
            )
            queries, slots, mask = (
                None if a is None else torch.from_numpy(a).to(batch.block_tables.device)
                for a in arrays
            )
            assert queries is not None
            assert slots is not None
            in_order = np.array_equal(arrays[0].ravel(), np.arange(batch.num_tokens))
            groups.append(_Group(queries, slots, mask, in_order))
    return groups


def similar_lengths(lengths: NDArray[np.int32], cost: float) -> Iterator[tuple[int, int]]:
    """Cut lengths into runs, each to be padded to its first and longest one.

    A run is cut where that saves the most padding, as long as it saves more than it costs.

    Args:
        lengths: The lengths, the longest first.
        cost: What one more run costs, in units of length.

    Yields:
        Start and end of each run, from the first to the last.

    >>> list(similar_lengths(np.array([1000, 90, 80, 70, 5, 5]), cost=100))
    [(0, 1), (1, 4), (4, 6)]
    """
    open_runs = [(0, len(lengths))]
    while open_runs:
        start, end = open_runs.pop()
        # If it is cut there, all from there on are padded to less.
        saved = (lengths[start] - lengths[start:end]) * np.arange(end - start, 0, -1)
        cut = int(saved.argmax())
        if saved[cut] > cost:
            open_runs += [(start + cut, end), (start, start + cut)]
        else:
            yield start, end


def _side_by_side(
    tables: NDArray[np.int32],
    query_starts: NDArray[np.int32],
    query_lens: NDArray[np.int32],
    context_lens: NDArray[np.int32],
    block_size: int,
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float32] | None]:
    """Lay the sequences of a group out side by side: what a ``_Group`` is made of."""
    num_queries, num_keys = query_lens[:, None], context_lens[:, None]

    # Which token each query and each key is, the last one repeated.
    query = np.minimum(np.arange(query_lens.max()), num_queries - 1)
    key = np.arange(context_lens.max())
    position = np.minimum(key, num_keys - 1)
    blocks = np.take_along_axis(tables, position // block_size, axis=1).astype(np.int64)

    # A query sees nothing after its own token, which hides the padding too.
    own_position = num_keys - num_queries + query
    hidden = key > own_position[:, None, :, None]
    return (
        (query_starts[:, None] + query).astype(np.int64),
        blocks * block_size + position % block_size,
        np.where(hidden, np.float32(-np.inf), np.float32(0)) if hidden.any() else None,
    )


def _attend_padded(
    query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None, scale: float | None
) -> Tensor:
    """Return the attention of padded queries over padded keys.

    Args:
        query: [num_seqs, num_queries, num_heads, head_dim].
        key: [num_seqs, num_keys, num_kv_heads, head_dim].
        value: The shape of ``key``.
        mask: [num_seqs, 1, num_queries, num_keys], added to the scores; None for nothing.
        scale: What the scores are multiplied by; 1/√head_dim if None.

    Returns:
        The shape of ``query``.
    """
    num_kv_heads = key.shape[2]
    decodes = query.shape[1] == 1
    # One query each: the query heads that share a KV head stand where queries would, so that keys
    # are read once for all of them (half the time of repeating them for 2 heads each).
    heads = query[:, 0].unflatten(1, (num_kv_heads, -1)) if decodes else query.transpose(1, 2)
    out = F.scaled_dot_product_attention(
        heads,
        key.transpose(1, 2),
        value.transpose(1, 2),
        attn_mask=None if mask is None else mask.to(query.dtype),
        scale=scale,
        enable_gqa=not decodes,
    )
    # On a GPU the heads may lie in another order in memory than on a CPU.
    return out.reshape(query.shape) if decodes else out.transpose(1, 2)

"""Paged attention in PyTorch for many sequences at a time: what the engine runs without Triton.

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
from dataclasses import dataclass
from itertools import pairwise

import torch
import torch.nn.functional as F  # noqa: N812 - the field's name for it
from torch import Tensor

from course_lib.attention.arguments import check_decode, check_query
from course_lib.attention.batch import PagedBatch

GRAIN = 128
"""A context is padded by fewer tokens than this. Finer groups are more calls than they save work:
a call costs about as much as attention over a few hundred tokens of a small model."""


class PaddedAttention:
    """``paged_decode`` and ``chunked_prefill``, and what they keep from one layer to the next.

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
            rows = group.queries.flatten()
            padded = query.index_select(0, rows).unflatten(0, group.queries.shape)
            keys = self._keys.gather(key_cache, group.slots)
            values = self._values.gather(value_cache, group.slots)
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
        mask: float32 [num_seqs, 1, num_queries, num_keys], −inf where a query does not see a key.
    """

    queries: Tensor
    slots: Tensor
    mask: Tensor


def _groups_of(batch: PagedBatch) -> list[_Group]:
    """Return the sequences of a batch, those of similar lengths together."""
    query_lens = [end - start for start, end in pairwise(batch.query_starts.tolist())]
    context_lens = batch.context_lens.tolist()
    members: defaultdict[tuple[int, int], list[int]] = defaultdict(list)
    for seq, (num_queries, num_keys) in enumerate(zip(query_lens, context_lens, strict=True)):
        # Queries up to the next power of two: decodes by themselves, chunks less than doubled.
        alike = (num_queries - 1).bit_length(), (num_keys - 1) // GRAIN
        members[alike].append(seq)
    return [
        _group(batch, seqs, [query_lens[i] for i in seqs], [context_lens[i] for i in seqs])
        for seqs in members.values()
    ]


def _group(
    batch: PagedBatch, seqs: list[int], query_lens: list[int], context_lens: list[int]
) -> _Group:
    """Lay sequences out side by side."""
    device = batch.block_tables.device
    members = torch.tensor(seqs, device=device)
    num_queries = torch.tensor(query_lens, device=device)[:, None]
    num_keys = torch.tensor(context_lens, device=device)[:, None]

    # Which token each query and each key is, the last one repeated.
    query = torch.arange(max(query_lens), device=device).minimum(num_queries - 1)
    key = torch.arange(max(context_lens), device=device)
    position = key.minimum(num_keys - 1)
    blocks = batch.block_tables[members].long().gather(1, position // batch.block_size)

    # A query sees nothing after its own token, which hides the padding too.
    own_position = num_keys - num_queries + query
    hidden = key > own_position[:, None, :, None]
    return _Group(
        batch.query_starts[members].long()[:, None] + query,
        blocks * batch.block_size + position % batch.block_size,
        torch.zeros(hidden.shape, device=device).masked_fill_(hidden, -math.inf),
    )


def _attend_padded(
    query: Tensor, key: Tensor, value: Tensor, mask: Tensor, scale: float | None
) -> Tensor:
    """Return the attention of padded queries over padded keys.

    Args:
        query: [num_seqs, num_queries, num_heads, head_dim].
        key: [num_seqs, num_keys, num_kv_heads, head_dim].
        value: The shape of ``key``.
        mask: [num_seqs, 1, num_queries, num_keys], added to the scores.
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
        attn_mask=mask.to(query.dtype),
        scale=scale,
        enable_gqa=not decodes,
    )
    return out.view(query.shape) if decodes else out.transpose(1, 2)

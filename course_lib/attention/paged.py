"""Attention over a paged KV cache in plain PyTorch: the reference that runs everywhere.

Keys and values of a sequence lie in blocks of ``block_size`` tokens, anywhere in the cache; its
block table says where (Kwon et al., SOSP '23). Token ``position`` of a sequence is in slot
``position % block_size`` of block ``block_table[position // block_size]``. What is in the other
slots is left from somebody else, or never was written: it must not be read.
"""

from __future__ import annotations

import torch
from torch import Tensor

from course_lib.attention.backends.arguments import (
    BlockCopies,
    check_copies,
    check_decode,
    check_query,
    check_write,
)
from course_lib.attention.batch import PagedBatch
from course_lib.attention.dense import (
    SoftmaxState,
    dense_attention,
    merge_states,
    partial_attention,
)


def reshape_and_cache(
    key: Tensor, value: Tensor, key_cache: Tensor, value_cache: Tensor, slot_mapping: Tensor
) -> None:
    """Write the keys and values of new tokens into their slots of the cache.

    Slot s is slot ``s % block_size`` of block ``s // block_size``. A token whose slot is −1 is
    padding and is written nowhere.

    Args:
        key: [num_tokens, num_kv_heads, head_dim]: float32, float16 or bfloat16.
        value: The shape of ``key``.
        key_cache: [num_blocks, block_size, num_kv_heads, head_dim], written in place. It may be a
            view whose dimensions are in another order in memory.
        value_cache: The shape of ``key_cache``, written in place.
        slot_mapping: int64 [num_tokens].

    Raises:
        ValueError: Shapes, types or devices do not fit, a slot is outside the cache, or two tokens
            have the same slot. Nothing is written then.

    >>> key_cache, value_cache = torch.zeros(3, 4, 1, 2), torch.zeros(3, 4, 1, 2)
    >>> key = torch.tensor([[[1.0, 2.0]], [[3.0, 4.0]]])
    >>> reshape_and_cache(key, -key, key_cache, value_cache, torch.tensor([9, -1]))
    >>> key_cache[2, 1, 0], int(key_cache.count_nonzero())
    (tensor([1., 2.]), 2)
    """
    check_write(key, value, key_cache, value_cache, slot_mapping)
    block_size = key_cache.shape[1]

    # Leave the padding out.
    real = slot_mapping >= 0
    slots = slot_mapping[real]

    # Where each slot is in the cache.
    blocks, offsets = slots // block_size, slots % block_size
    key_cache[blocks, offsets] = key[real]
    value_cache[blocks, offsets] = value[real]


def attend_blocks(
    query: Tensor,
    key_cache: Tensor,
    value_cache: Tensor,
    block_table: Tensor,
    context_len: int,
    scale: float | None = None,
) -> Tensor:
    """Return the attention of one token over its sequence, one block at a time.

    The state of the softmax goes from block to block. One block of keys at a time is enough, so
    nothing has to be gathered first, and the blocks need not be neighbours.

    Args:
        query: [num_heads, head_dim], of the last token of the sequence.
        key_cache: [num_blocks, block_size, num_kv_heads, head_dim]. Whatever is in slots that the
            sequence does not own, in keys or in values, changes nothing. A NaN in a slot of its own
            shows in the answer.
        value_cache: The shape of ``key_cache``.
        block_table: [max_blocks], the block ids of the sequence in order. Entries after the last
            block of the context mean nothing.
        context_len: Tokens of the sequence, at least 1. The last block may hold fewer than
            ``block_size`` of them.
        scale: What the scores are multiplied by; 1/√head_dim if None.

    Returns:
        The shape and type of ``query``.

    Raises:
        ValueError: The context is empty, or the heads do not fit together, in number or in
            ``head_dim``.

    >>> value_cache = torch.full((3, 2, 1, 4), 1000.0)  # whatever is there
    >>> value_cache[2, 0], value_cache[2, 1], value_cache[0, 0] = 1.0, 2.0, 6.0
    >>> key_cache = torch.zeros(3, 2, 1, 4)
    >>> attend_blocks(torch.ones(1, 4), key_cache, value_cache, torch.tensor([2, 0, -1]), 3)
    tensor([[3., 3., 3., 3.]])
    """
    block_size = key_cache.size(1)
    state = SoftmaxState.empty(query)
    for logical, start in enumerate(range(0, context_len, block_size)):
        # Where the block is, and how many of its slots belong to the context.
        physical = int(block_table[logical])
        filled = min(block_size, context_len - start)

        # Add its tokens to what was seen before.
        keys, values = key_cache[physical, :filled], value_cache[physical, :filled]
        state = merge_states(state, partial_attention(query, keys, values, scale))
    return state.output().to(query.dtype)


def paged_decode(
    query: Tensor,
    key_cache: Tensor,
    value_cache: Tensor,
    batch: PagedBatch,
    scale: float | None = None,
) -> Tensor:
    """Return the attention of one new token per sequence over that sequence.

    Args:
        query: [num_seqs, num_heads, head_dim].
        key_cache: [num_blocks, block_size, num_kv_heads, head_dim].
        value_cache: The shape of ``key_cache``.
        batch: Where the sequences are; one query each.
        scale: What the scores are multiplied by; 1/√head_dim if None.

    Returns:
        The shape and type of ``query``.

    Raises:
        ValueError: Shapes, types or devices do not fit, or a sequence has several queries.

    >>> cache = torch.ones(4, 2, 1, 8)
    >>> batch = PagedBatch.of([[3], [1, 2]], [1, 3], num_blocks=4, block_size=2)
    >>> paged_decode(torch.zeros(2, 2, 8), cache, 5 * cache, batch)[:, 0, 0]
    tensor([5., 5.])
    """
    check_decode(query, key_cache, value_cache, batch)
    out = torch.empty_like(query)
    for seq, context_len in enumerate(batch.context_lens.tolist()):
        table = batch.block_tables[seq]
        out[seq] = attend_blocks(query[seq], key_cache, value_cache, table, context_len, scale)
    return out


def gather(cache: Tensor, block_table: Tensor, context_len: int) -> Tensor:
    """Return a sequence's keys (or values) side by side, as a copy.

    Args:
        cache: [num_blocks, block_size, num_kv_heads, head_dim]: float32, float16 or bfloat16. It
            may be a view whose dimensions are in another order in memory.
        block_table: [max_blocks], the block ids of the sequence in order.
        context_len: Tokens of the sequence, at least 1. The last block may hold fewer than
            ``block_size`` of them; entries after it mean nothing.

    Returns:
        [context_len, num_kv_heads, head_dim], of the type of ``cache``.

    >>> cache = torch.arange(6.0).reshape(3, 2, 1, 1)
    >>> gather(cache, torch.tensor([2, 0]), context_len=3).flatten()
    tensor([4., 5., 0.])
    """
    block_size = cache.shape[1]
    num_blocks = -(-context_len // block_size)
    return cache[block_table[:num_blocks]].flatten(0, 1)[:context_len]


def chunked_prefill(
    query: Tensor,
    key_cache: Tensor,
    value_cache: Tensor,
    batch: PagedBatch,
    scale: float | None = None,
) -> Tensor:
    """Return the causal attention of each sequence's newest tokens over that sequence.

    Sequences with one query (decodes) and with many (chunks of prompts) may stand side by side. The
    keys and values of the queries' own tokens are in the cache already. A query sees its own token
    and everything before it, which for a later chunk is more than the chunk.

    Args:
        query: [num_tokens, num_heads, head_dim], the sequences one after the other.
        key_cache: [num_blocks, block_size, num_kv_heads, head_dim].
        value_cache: The shape of ``key_cache``.
        batch: Where the sequences are, and which of the queries belong to which.
        scale: What the scores are multiplied by; 1/√head_dim if None.

    Returns:
        The shape and type of ``query``.

    Raises:
        ValueError: Shapes, types or devices do not fit.

    >>> value_cache = torch.tensor([[1.0, 3.0], [5.0, 7.0]]).reshape(2, 2, 1, 1)
    >>> batch = PagedBatch.of([[0, 1], [1]], [3, 1], [2, 1], num_blocks=2, block_size=2)
    >>> key_cache, query = torch.zeros(2, 2, 1, 1), torch.zeros(3, 1, 1)
    >>> chunked_prefill(query, key_cache, value_cache, batch).flatten()
    tensor([2., 3., 5.])
    """
    check_query(query, key_cache, value_cache, batch)
    out = torch.empty_like(query)
    starts = batch.query_starts.tolist()
    for seq, context_len in enumerate(batch.context_lens.tolist()):
        # The sequence as if it had never been paged.
        keys = gather(key_cache, batch.block_tables[seq], context_len)
        values = gather(value_cache, batch.block_tables[seq], context_len)

        # Its queries are the last tokens of the context.
        chunk = slice(starts[seq], starts[seq + 1])
        out[chunk] = dense_attention(query[chunk], keys, values, scale)
    return out


def side_by_side(block_copies: BlockCopies) -> list[list[tuple[int, int]]]:
    """Cut a list of copies, meant to be made one after the other, into groups to be made at once.

    A cache manager may name a block twice in one step: it is copied, freed, and handed out again as
    the destination of another copy. Within a group no block that is written is read or written
    again, so the order inside it does not matter. The list keeps its order. A group ends only where
    the next copy would break that rule, so the list is cut as seldom as can be.

    Args:
        block_copies: (source, destination) pairs of block ids, in order.

    Returns:
        The groups in order, each with its pairs in order. None is empty.

    >>> side_by_side([(1, 2), (1, 3), (5, 1), (7, 8)])
    [[(1, 2), (1, 3)], [(5, 1), (7, 8)]]
    """
    groups: list[list[tuple[int, int]]] = []
    read: set[int] = set()
    written: set[int] = set()
    for source, destination in block_copies:
        if not groups or source in written or destination in read | written:
            groups.append([])
            read, written = set(), set()
        groups[-1].append((source, destination))
        read.add(source)
        written.add(destination)
    return groups


def copy_blocks(key_cache: Tensor, value_cache: Tensor, block_copies: BlockCopies) -> None:
    """Copy whole blocks within the cache, as copy-on-write asks for.

    Args:
        key_cache: [num_blocks, block_size, num_kv_heads, head_dim], changed in place.
        value_cache: The shape of ``key_cache``, changed in place.
        block_copies: (source, destination) pairs of block ids, made as if one after the other.

    Raises:
        ValueError: A block is outside the cache. Nothing is copied then.

    >>> cache = torch.tensor([1.0, 2.0, 3.0]).reshape(3, 1, 1, 1)
    >>> copy_blocks(cache, cache.clone(), [(0, 2)])
    >>> cache.flatten()
    tensor([1., 2., 1.])
    """
    check_copies(key_cache, value_cache, block_copies)
    for group in side_by_side(block_copies):
        sources, destinations = torch.tensor(group, device=key_cache.device).unbind(1)
        key_cache[destinations] = key_cache[sources]
        value_cache[destinations] = value_cache[sources]

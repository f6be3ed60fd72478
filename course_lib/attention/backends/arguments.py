"""What attention over a paged cache demands of its arguments, said before anything is written.

Cache layout: ``key_cache`` and ``value_cache`` are two tensors of [num_blocks, block_size,
num_kv_heads, head_dim] ("NHD"). A cache stored with heads before slots ("HND") is passed as the
view ``cache.transpose(1, 2)``: only the last dimension has to be contiguous.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from weakref import ref

import torch
from torch import Tensor

from course_lib.attention.batch import PagedBatch

DTYPES = (torch.float32, torch.float16, torch.bfloat16)
"""Types that a KV cache may have."""

BlockCopies = Sequence[tuple[int, int]]
"""(source, destination) pairs of block ids."""


def check_cache(key_cache: Tensor, value_cache: Tensor) -> None:
    """Raise ValueError unless the two are the halves of one paged cache.

    >>> check_cache(torch.empty(8, 4, 2, 32), torch.empty(8, 4, 2, 16))
    Traceback (most recent call last):
    ValueError: key_cache is [8, 4, 2, 32] and value_cache [8, 4, 2, 16]; both are ...
    """
    if key_cache.dim() != 4 or key_cache.shape != value_cache.shape:
        raise ValueError(
            f"key_cache is {list(key_cache.shape)} and value_cache {list(value_cache.shape)}; both "
            "are [num_blocks, block_size, num_kv_heads, head_dim]"
        )
    if key_cache.dtype not in DTYPES:
        known = ", ".join(str(dtype).removeprefix("torch.") for dtype in DTYPES)
        raise ValueError(f"a cache of {key_cache.dtype} is not supported; use one of {known}")
    _require_alike("value_cache", value_cache, key_cache)
    for name, cache in (("key_cache", key_cache), ("value_cache", value_cache)):
        if cache.stride(3) != 1:
            raise ValueError(
                f"{name} has strides {cache.stride()}; the numbers of one head must be neighbours "
                "in memory (last stride 1)"
            )


def check_slots(slot_mapping: Tensor, num_slots: int) -> None:
    """Raise ValueError unless every slot is in the cache, or -1, and none is there twice.

    If ``slot_mapping`` is on a GPU, reading its values waits for the work queued there.

    Args:
        slot_mapping: [num_tokens].
        num_slots: Slots of the cache.

    >>> check_slots(torch.tensor([3, -1, -1, 3]), num_slots=12)
    Traceback (most recent call last):
    ValueError: two tokens are to be written to slot 3; a slot holds one token
    """
    # Plain numbers: each of a handful of operations on a short tensor takes longer than all this.
    slots = slot_mapping.tolist()
    outside = [slot for slot in slots if not -1 <= slot < num_slots]
    if outside:
        raise ValueError(
            f"slot_mapping holds slot {outside[0]}; the cache has slots 0 to {num_slots - 1}, and "
            "-1 means padding"
        )
    written = [slot for slot in slots if slot >= 0]
    if len(set(written)) < len(written):
        twice = next(slot for slot, count in Counter(written).items() if count > 1)
        raise ValueError(f"two tokens are to be written to slot {twice}; a slot holds one token")


class SlotsOfAStep:
    """Checks slots as ``check_slots``, those of a step once and not in every layer.

    All layers of a step are given the same tensor of slots. On a GPU each reading of it waits for
    all work that is queued there, so in every layer the processor would stand still until the GPU
    had caught up. What was checked is remembered as long as nobody writes to the tensor.

    >>> check = SlotsOfAStep()
    >>> slots = torch.tensor([7, -1])
    >>> check(slots, num_slots=12)
    >>> slots[1] = 12
    >>> check(slots, num_slots=12)
    Traceback (most recent call last):
    ValueError: slot_mapping holds slot 12; the cache has slots 0 to 11, and -1 means padding
    """

    def __init__(self) -> None:
        self._checked: ref[Tensor] | None = None
        self._as_of: tuple[int, int] | None = None

    def __call__(self, slot_mapping: Tensor, num_slots: int) -> None:
        """Raise ValueError as ``check_slots`` does, unless these slots have passed already."""
        # A tensor that was made in inference mode does not count what is written to it.
        counts = not slot_mapping.is_inference()
        as_of = (slot_mapping._version, num_slots) if counts else None
        is_same = self._checked is not None and self._checked() is slot_mapping
        if is_same and as_of is not None and as_of == self._as_of:
            return
        check_slots(slot_mapping, num_slots)
        self._checked, self._as_of = ref(slot_mapping), as_of


def check_write(
    key: Tensor,
    value: Tensor,
    key_cache: Tensor,
    value_cache: Tensor,
    slot_mapping: Tensor,
    check_slots: Callable[[Tensor, int], None] = check_slots,
) -> None:
    """Raise ValueError unless the tokens can be written to the slots.

    Args:
        key: [num_tokens, num_kv_heads, head_dim].
        value: The shape of ``key``.
        key_cache: [num_blocks, block_size, num_kv_heads, head_dim].
        value_cache: The shape of ``key_cache``.
        slot_mapping: int64 or int32 [num_tokens].
        check_slots: Checks the values of the slots.

    >>> key, cache = torch.zeros(2, 1, 32), torch.zeros(3, 4, 1, 32)
    >>> check_write(key, key, cache, cache, torch.tensor([-1, 12]))
    Traceback (most recent call last):
    ValueError: slot_mapping holds slot 12; the cache has slots 0 to 11, and -1 means padding
    """
    check_cache(key_cache, value_cache)
    num_blocks, block_size, *heads = key_cache.shape
    tokens = [len(slot_mapping), *heads]
    if list(key.shape) != tokens or key.shape != value.shape or slot_mapping.dim() != 1:
        raise ValueError(
            f"key is {list(key.shape)}, value {list(value.shape)} and slot_mapping "
            f"{list(slot_mapping.shape)}; the first two are [num_tokens, {heads[0]}, {heads[1]}] "
            "and the last [num_tokens]"
        )
    for name, tensor in (("key", key), ("value", value)):
        _require_alike(name, tensor, key_cache)
        _require_contiguous_heads(name, tensor)
    _require_device("slot_mapping", slot_mapping, key_cache)
    if slot_mapping.dtype not in (torch.int64, torch.int32):
        raise ValueError(f"slot_mapping is {slot_mapping.dtype}; slots are int64 or int32")
    check_slots(slot_mapping, num_blocks * block_size)


def check_query(query: Tensor, key_cache: Tensor, value_cache: Tensor, batch: PagedBatch) -> None:
    """Raise ValueError unless the queries are those of the batch and can read the cache.

    >>> cache = torch.zeros(8, 4, 2, 32)
    >>> batch = PagedBatch.of([[5]], [3], num_blocks=8, block_size=4)
    >>> check_query(torch.zeros(1, 3, 32), cache, cache, batch)
    Traceback (most recent call last):
    ValueError: 3 query heads cannot share 2 KV heads evenly; ...
    """
    check_cache(key_cache, value_cache)
    num_blocks, block_size, num_kv_heads, head_dim = key_cache.shape
    if (num_blocks, block_size) != (batch.num_blocks, batch.block_size):
        raise ValueError(
            f"the cache has {num_blocks} blocks of {block_size} tokens, but the batch was made for "
            f"{batch.num_blocks} of {batch.block_size}; make the batch with the cache's shape"
        )
    if query.dim() != 3 or len(query) != batch.num_tokens or query.shape[2] != head_dim:
        raise ValueError(
            f"query is {list(query.shape)}; this batch and cache take "
            f"[{batch.num_tokens}, num_heads, {head_dim}]"
        )
    if query.shape[1] == 0 or query.shape[1] % num_kv_heads:
        raise ValueError(
            f"{query.shape[1]} query heads cannot share {num_kv_heads} KV heads evenly; use a "
            "multiple of the KV heads"
        )
    _require_alike("query", query, key_cache)
    _require_contiguous_heads("query", query)
    _require_device("the batch", batch.block_tables, key_cache)


def check_decode(query: Tensor, key_cache: Tensor, value_cache: Tensor, batch: PagedBatch) -> None:
    """Raise ValueError unless ``check_query`` passes and every sequence has one query."""
    check_query(query, key_cache, value_cache, batch)
    if batch.max_query_len > 1:
        raise ValueError(
            f"a sequence has {batch.max_query_len} queries; decoding takes 1 per sequence, "
            "chunked_prefill takes any number"
        )


def check_copies(key_cache: Tensor, value_cache: Tensor, block_copies: BlockCopies) -> None:
    """Raise ValueError unless all blocks to copy are in the cache.

    >>> cache = torch.zeros(8, 4, 1, 32)
    >>> check_copies(cache, cache, [(1, 9)])
    Traceback (most recent call last):
    ValueError: block 9 is to be copied; the cache has blocks 0 to 7
    """
    check_cache(key_cache, value_cache)
    num_blocks = len(key_cache)
    for block_id in (block_id for pair in block_copies for block_id in pair):
        if not 0 <= block_id < num_blocks:
            raise ValueError(
                f"block {block_id} is to be copied; the cache has blocks 0 to {num_blocks - 1}"
            )


def _require_alike(name: str, tensor: Tensor, cache: Tensor) -> None:
    """Raise ValueError unless the tensor has the type and device of the cache."""
    if tensor.dtype != cache.dtype:
        raise ValueError(
            f"{name} is {tensor.dtype} and key_cache {cache.dtype}; convert one to the other's type"
        )
    _require_device(name, tensor, cache)


def _require_device(name: str, tensor: Tensor, cache: Tensor) -> None:
    if tensor.device != cache.device:
        raise ValueError(
            f"{name} is on {tensor.device} and key_cache on {cache.device}; move one to the other"
        )


def _require_contiguous_heads(name: str, tensor: Tensor) -> None:
    if tensor.numel() and tensor.stride(-1) != 1:
        raise ValueError(
            f"{name} has strides {tensor.stride()}; the numbers of one head must be neighbours in "
            f"memory (last stride 1): pass {name}.contiguous()"
        )

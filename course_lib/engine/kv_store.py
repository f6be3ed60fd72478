"""The paged KV cache of a model as tensors, and the way a model attends through it.

The cache manager decides which block is whose and knows no tensors; this store has the tensors and
decides nothing.
"""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor

from course_lib.attention.backends.arguments import BlockCopies
from course_lib.attention.backends.backend import AttentionBackend
from course_lib.attention.batch import PagedBatch
from course_lib.engine.config import LlamaConfig
from course_lib.engine.model import Attend


class PagedKVStore:
    """Keys and values of every layer, in blocks, on the device; and room on the CPU to swap to.

    Invariant: block i of the cache manager is block i of every layer.

    A block is not cleared when it changes hands. Whatever reads a slot has written it first.

    Args:
        config: The model.
        num_blocks: Blocks on the device, the null block included.
        block_size: Tokens per block.
        num_cpu_blocks: Blocks in CPU memory, for sequences that are swapped out.
        dtype: The type of the model's keys and values.
        device: Where the model is.

    Attributes:
        key_caches: One per layer, [num_blocks, block_size, num_kv_heads, head_dim].
        value_caches: The same.

    Raises:
        ValueError: There is no block, or a block holds no token.

    >>> config = LlamaConfig("llama", 512, 64, 128, 2, 4, 2, 16)
    >>> store = PagedKVStore(config, num_blocks=8, block_size=4)
    >>> len(store.key_caches), store.key_caches[0].shape
    (2, torch.Size([8, 4, 2, 16]))
    """

    def __init__(
        self,
        config: LlamaConfig,
        num_blocks: int,
        block_size: int,
        *,
        num_cpu_blocks: int = 0,
        dtype: torch.dtype = torch.float32,
        device: torch.device | str = "cpu",
    ) -> None:
        if num_blocks < 1 or block_size < 1 or num_cpu_blocks < 0:
            raise ValueError(
                f"{num_blocks} blocks of {block_size} tokens and {num_cpu_blocks} CPU blocks; a "
                "store has at least 1 block of 1 token, and no negative number of CPU blocks"
            )
        self.config = config
        self.num_blocks = num_blocks
        self.block_size = block_size
        self.num_cpu_blocks = num_cpu_blocks

        # Keys and values of all layers in one tensor, so that a block moves in one go.
        def allocate(blocks: int, where: torch.device | str) -> Tensor:
            sizes = (2, config.num_layers, blocks, block_size, config.num_kv_heads, config.head_dim)
            return _zeros(sizes, dtype, torch.device(where))

        self._device_blocks = allocate(num_blocks, device)
        self._cpu_blocks = allocate(num_cpu_blocks, "cpu")
        keys, values = self._device_blocks
        self.key_caches = list(keys)
        self.value_caches = list(values)

    def attend(self, batch: PagedBatch, backend: AttentionBackend) -> Attend:
        """Return how a step's tokens attend: they enter the cache, then read their sequences there.

        Args:
            batch: The sequences of the step, with slots for its tokens.
            backend: The operations to use.

        Raises:
            ValueError: The batch was made for another cache, or a sequence is longer than the model
                can be (``LlamaConfig.max_model_len``).
        """
        self._require_fits(batch)
        read = backend.paged_decode if batch.max_query_len == 1 else backend.chunked_prefill

        def attend(layer: int, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
            key_cache, value_cache = self.key_caches[layer], self.value_caches[layer]
            backend.reshape_and_cache(key, value, key_cache, value_cache, batch.slot_mapping)
            return read(query, key_cache, value_cache, batch)

        return attend

    def swap_out(self, pairs: BlockCopies) -> None:
        """Copy blocks to CPU memory.

        Args:
            pairs: (device block, CPU block).

        Raises:
            ValueError: A block does not exist, or two are copied to the same place. Nothing is
                copied then.
        """
        _move_blocks(self._device_blocks, self._cpu_blocks, pairs)

    def swap_in(self, pairs: BlockCopies) -> None:
        """Copy blocks back from CPU memory.

        Args:
            pairs: (CPU block, device block).

        Raises:
            ValueError: As ``swap_out``.
        """
        _move_blocks(self._cpu_blocks, self._device_blocks, pairs)

    def copy(self, pairs: BlockCopies, backend: AttentionBackend) -> None:
        """Copy blocks within the device, in every layer, as copy-on-write asks for.

        Args:
            pairs: (source, destination), made as if one after the other.
            backend: The operations to use.

        Raises:
            ValueError: A block does not exist. Nothing is copied then.
        """
        for key_cache, value_cache in zip(self.key_caches, self.value_caches, strict=True):
            backend.copy_blocks(key_cache, value_cache, pairs)

    def _require_fits(self, batch: PagedBatch) -> None:
        if (batch.num_blocks, batch.block_size) != (self.num_blocks, self.block_size):
            raise ValueError(
                f"the batch was made for {batch.num_blocks} blocks of {batch.block_size} tokens; "
                f"this store has {self.num_blocks} of {self.block_size}"
            )
        if batch.max_context_len > self.config.max_model_len:
            raise ValueError(
                f"a sequence has {batch.max_context_len} tokens; this model takes at most "
                f"{self.config.max_model_len}: end it before (max_model_len)"
            )


def _zeros(sizes: tuple[int, ...], dtype: torch.dtype, device: torch.device) -> Tensor:
    """Return zeros, of which on the CPU only what is written to takes up memory.

    ``torch.zeros`` writes each byte, and so takes all memory, and time for it, when an engine
    starts. ``numpy.zeros`` asks the system for zeros (``calloc``), which hands pages out as they
    are used.

    >>> _zeros((2, 3), torch.bfloat16, torch.device("cpu")).sum()
    tensor(0., dtype=torch.bfloat16)
    """
    if device.type != "cpu" or 0 in sizes:
        return torch.zeros(sizes, dtype=dtype, device=device)
    pages = np.zeros(math.prod(sizes) * dtype.itemsize, dtype=np.uint8)
    return torch.from_numpy(pages).view(dtype).view(sizes)


def _move_blocks(source: Tensor, destination: Tensor, pairs: BlockCopies) -> None:
    """Copy blocks, which are along the third dimension, from one tensor to another."""
    if not pairs:
        return
    sources, destinations = zip(*pairs, strict=True)
    _require_blocks(source, sources)
    _require_blocks(destination, destinations)
    if len(set(destinations)) < len(destinations):
        raise ValueError(f"two blocks are copied to the same place: destinations {destinations}")
    moved = source[:, :, torch.tensor(sources, device=source.device)]
    at = torch.tensor(destinations, device=destination.device)
    destination[:, :, at] = moved.to(destination.device)


def _require_blocks(blocks: Tensor, block_ids: tuple[int, ...]) -> None:
    num_blocks = blocks.shape[2]
    for block_id in block_ids:
        if not 0 <= block_id < num_blocks:
            raise ValueError(
                f"block {block_id} is to be swapped; there are blocks 0 to {num_blocks - 1} on "
                f"{blocks.device}"
            )

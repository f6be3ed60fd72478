"""The engine's memory: how large a KV cache may be, and what large tensors on a CPU cost."""

from __future__ import annotations

import ctypes
import platform

import torch

from course_lib.engine.model import LlamaModel
from course_lib.kv_cache.sizing import kv_bytes_per_block
from course_lib.scheduling.scheduler import SchedulerConfig
from course_lib.specs import ModelSpec

CPU_KV_CACHE_BYTES = 2**30
"""What the KV cache may take of a CPU's memory, unless ``num_blocks`` says how large it is."""

GPU_MEMORY_UTILIZATION = 0.92
"""Share of a GPU's memory that the engine may use: weights, KV cache, and activations."""

GPU_ACTIVATION_SHARE = 0.05
"""Share of a GPU's memory set aside for activations."""

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3
"""What glibc's malloc.h calls two of its limits."""

KEPT_BYTES = 256 * 2**20
"""How much freed memory a process may keep for itself."""

LARGEST_KEPT_BLOCK = 32 * 2**20
"""Bytes of the largest block that can be kept, as far as glibc allows."""


def default_num_blocks(model: LlamaModel, config: SchedulerConfig, block_size: int) -> int:
    """Return the blocks of a KV cache that serves a full batch, as far as memory allows.

    Args:
        model: The model, in its place.
        config: ``max_num_seqs`` sequences of ``max_model_len`` tokens are a full batch.
        block_size: Tokens per block.

    Returns:
        Blocks, the null block included.

    Raises:
        ValueError: There is not even room for one beside it.
    """
    num_bytes = _kv_cache_bytes(model.device)
    num_allowed = num_bytes // kv_bytes_per_block(model_spec(model), block_size)
    if num_allowed < 2:
        raise ValueError(
            f"{num_bytes:,} bytes are left for the KV cache, less than two blocks of {block_size} "
            "tokens; use a smaller model or a smaller block_size, or set num_blocks"
        )
    longest = config.max_model_len or model.config.max_model_len
    num_wanted = config.max_num_seqs * -(-longest // block_size) + 1
    return min(num_wanted, num_allowed)


def model_spec(model: LlamaModel) -> ModelSpec:
    """Return what the formulas of ``kv_cache.sizing`` have to know of a model.

    Args:
        model: The model; its weights have the type that keys and values have.

    >>> from course_lib.engine.checkpoint import load_checkpoint
    >>> from course_lib.engine.tokenizer import checkpoint_folder
    >>> tiny = load_checkpoint(checkpoint_folder("course-tiny"), dtype=torch.float32)
    >>> kv_bytes_per_block(model_spec(tiny), block_size=8)
    16384
    """
    shape = model.config
    return ModelSpec(
        name=shape.model_type,
        num_layers=shape.num_layers,
        hidden_size=shape.hidden_size,
        num_attention_heads=shape.num_attention_heads,
        num_kv_heads=shape.num_kv_heads,
        head_dim=shape.head_dim,
        num_params=sum(weights.numel() for weights in model.parameters()),
        dtype_bytes=model.dtype.itemsize,
    )


def _kv_cache_bytes(device: torch.device) -> int:
    """Return the memory that a KV cache may take on a device that holds the weights already."""
    if device.type != "cuda":
        return CPU_KV_CACHE_BYTES
    free, total = torch.cuda.mem_get_info(device)
    usable = GPU_MEMORY_UTILIZATION - GPU_ACTIVATION_SHARE
    return int(usable * total) - (total - free)


def keep_freed_memory() -> None:
    """Make the C library keep large blocks of CPU memory that are freed, for the next ones.

    As it is, glibc gives most of them back to the operating system, and gets the next ones page by
    page. The tensors of a prefill are of megabytes, and live for one operation: a step of 2,048
    tokens of course-tiny had 7,000 page faults, and took 100 ms; with a few hundred of them it
    takes 50 ms. So two of its limits are raised (mallopt(3)). Other C libraries have no such
    limits, and are left as they are.
    """
    if platform.libc_ver()[0] != "glibc":
        return
    libc = ctypes.CDLL(None)
    libc.mallopt(M_TRIM_THRESHOLD, KEPT_BYTES)
    libc.mallopt(M_MMAP_THRESHOLD, LARGEST_KEPT_BLOCK)

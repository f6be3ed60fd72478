"""How to start each Triton kernel: its grid, its strides, and the sizes that it is compiled for.

The functions that end in ``_launch`` start nothing and check nothing. They are for those who know
that their arguments are right: ``triton_ops``, which has checked them, a benchmark, or the check of
an exercise. ``dataclasses.replace(launch, kernel=mine)`` starts another kernel in the same way.
"""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any, NamedTuple

import torch
from torch import Tensor

from course_lib.attention.backends.availability import require_triton, triton_state
from course_lib.attention.backends.launch import Launch
from course_lib.attention.batch import PagedBatch

require_triton()

import triton.language as tl  # noqa: E402 - after the check, whose message says what to do

from course_lib.attention import triton_kernels as kernels  # noqa: E402

MIN_DOT_SIZE = 16
"""The fewest rows that tensor cores multiply, and the fewest products that ``tl.dot`` sums in
16-bit types. The compiler would pad fewer rows or columns."""

TILE_BYTES = 16 * 1024
"""Bytes of keys, and again of values, that a program reads per iteration. A multiprocessor's 164 to
228 KiB of shared memory hold four such programs; while one waits, the others' reads go on."""

QUERY_TILE_BYTES = 32 * 1024
"""Bytes of queries that a prefill program holds at the most; more would leave too little shared
memory for keys and values on an L4 or RTX 4090, which have 99 KiB for a program."""

MAX_TILE, MAX_ROWS = 128, 64
"""The most keys and the most query rows of a tile. With 128 rows, 128 keys and 8 warps a chunk of
2,048 behind a context takes 4% less time on an H100, but 63 decodes beside a chunk of 512 take 31%
more: in a step with both, the tiles of the decodes are nearly empty."""

COPY_LANES = 1024
"""Numbers that a program copies of a block: 16 bytes per thread in 16-bit types."""

_COMPILED = triton_state().mode == "compiled"  # or interpreted: settled when kernels are defined
_TL_DTYPES = {
    torch.float32: tl.float32,
    torch.float16: tl.float16,
    torch.bfloat16: tl.bfloat16,
}


def reshape_and_cache_launch(
    key: Tensor, value: Tensor, key_cache: Tensor, value_cache: Tensor, slot_mapping: Tensor
) -> Launch:
    """Return how to write new tokens: one program per token."""
    _, block_size, num_kv_heads, head_dim = key_cache.shape
    arguments = {
        "key": key,
        "value": value,
        "key_cache": key_cache,
        "value_cache": value_cache,
        "slot_mapping": slot_mapping,
        "key_token_stride": key.stride(0),
        "key_head_stride": key.stride(1),
        "value_token_stride": value.stride(0),
        "value_head_stride": value.stride(1),
        "key_cache_block_stride": key_cache.stride(0),
        "key_cache_slot_stride": key_cache.stride(1),
        "key_cache_head_stride": key_cache.stride(2),
        "value_cache_block_stride": value_cache.stride(0),
        "value_cache_slot_stride": value_cache.stride(1),
        "value_cache_head_stride": value_cache.stride(2),
        "BLOCK_SIZE": block_size,
        "NUM_KV_HEADS": num_kv_heads,
        "HEAD_DIM": head_dim,
        "LANES": _power_of_two(num_kv_heads * head_dim),
    }
    return Launch(kernels.reshape_and_cache_kernel, (len(slot_mapping),), arguments)


def paged_decode_launch(
    out: Tensor,
    query: Tensor,
    key_cache: Tensor,
    value_cache: Tensor,
    batch: PagedBatch,
    scale: float | None = None,
) -> Launch:
    """Return how to decode: one program per sequence and KV head."""
    arguments = {
        "out": out,
        "query": query,
        **_cache_arguments(key_cache, value_cache, batch),
        "scale_log2": _scale_log2(scale, query),
        "out_seq_stride": out.stride(0),
        "out_head_stride": out.stride(1),
        "query_seq_stride": query.stride(0),
        "query_head_stride": query.stride(1),
        **_group_constants(query, key_cache),
        **_tile_constants(key_cache),
    }
    grid = (batch.num_seqs, key_cache.shape[2])
    return Launch(kernels.paged_decode_kernel, grid, arguments, _num_warps(key_cache))


class SplitStates(NamedTuple):
    """What the stretches of each sequence leave behind, to be combined; as in ``SoftmaxState``.

    Attributes:
        split_max: float32 [num_seqs, num_heads, num_splits].
        split_denominator: float32 [num_seqs, num_heads, num_splits].
        split_numerator: float32 [num_seqs, num_heads, num_splits, head_dim].
    """

    split_max: Tensor
    split_denominator: Tensor
    split_numerator: Tensor

    @classmethod
    def unwritten(cls, query: Tensor, num_splits: int) -> SplitStates:
        """Return room for the states of queries [num_seqs, num_heads, head_dim].

        >>> SplitStates.unwritten(torch.zeros(3, 8, 64), num_splits=2).split_numerator.shape
        torch.Size([3, 8, 2, 64])
        """
        num_seqs, num_heads, head_dim = query.shape
        sizes = (num_seqs, num_heads, num_splits)
        largest = torch.empty(sizes, dtype=torch.float32, device=query.device)
        return cls(largest, torch.empty_like(largest), largest.new_empty(*sizes, head_dim))


def split_decode_launch(
    split_max: Tensor,
    split_denominator: Tensor,
    split_numerator: Tensor,
    query: Tensor,
    key_cache: Tensor,
    value_cache: Tensor,
    batch: PagedBatch,
    scale: float | None = None,
) -> Launch:
    """Return how to decode in stretches: one program per sequence, KV head and stretch."""
    num_heads, num_splits = split_max.shape[1:]
    tile = _tile(key_cache)
    tiles_per_split = -(-batch.max_context_len // (num_splits * tile))
    arguments = {
        "split_max": split_max,
        "split_denominator": split_denominator,
        "split_numerator": split_numerator,
        "query": query,
        **_cache_arguments(key_cache, value_cache, batch),
        "scale_log2": _scale_log2(scale, query),
        "tokens_per_split": tiles_per_split * tile,
        "num_heads": num_heads,
        "num_splits": num_splits,
        "query_seq_stride": query.stride(0),
        "query_head_stride": query.stride(1),
        **_group_constants(query, key_cache),
        **_tile_constants(key_cache),
    }
    grid = (batch.num_seqs, key_cache.shape[2], num_splits)
    return Launch(kernels.split_decode_kernel, grid, arguments, _num_warps(key_cache))


def combine_splits_launch(
    out: Tensor, split_max: Tensor, split_denominator: Tensor, split_numerator: Tensor
) -> Launch:
    """Return how to combine the stretches: one program per sequence and query head."""
    num_seqs, num_heads, num_splits, head_dim = split_numerator.shape
    arguments = {
        "out": out,
        "split_max": split_max,
        "split_denominator": split_denominator,
        "split_numerator": split_numerator,
        "num_splits": num_splits,
        "out_seq_stride": out.stride(0),
        "out_head_stride": out.stride(1),
        "HEAD_DIM": head_dim,
        "DIM_LANES": _power_of_two(head_dim),
        "SPLIT_LANES": _power_of_two(num_splits),
    }
    return Launch(kernels.combine_splits_kernel, (num_seqs, num_heads), arguments)


def chunked_prefill_launch(
    out: Tensor,
    query: Tensor,
    key_cache: Tensor,
    value_cache: Tensor,
    batch: PagedBatch,
    scale: float | None = None,
) -> Launch:
    """Return how to attend from chunks: one program per tile of a chunk, KV head and sequence."""
    group = query.shape[1] // key_cache.shape[2]
    most = min(MAX_ROWS, QUERY_TILE_BYTES // _row_bytes(key_cache))
    rows = min(_power_of_two(batch.max_query_len * group), most)
    rows = max(rows, _power_of_two(group), MIN_DOT_SIZE)
    queries = rows // group
    arguments = {
        "out": out,
        "query": query,
        **_cache_arguments(key_cache, value_cache, batch),
        "query_starts": batch.query_starts,
        "scale_log2": _scale_log2(scale, query),
        "out_token_stride": out.stride(0),
        "out_head_stride": out.stride(1),
        "query_token_stride": query.stride(0),
        "query_head_stride": query.stride(1),
        "GROUP": group,
        "ROWS": rows,
        "QUERIES": queries,
        **_tile_constants(key_cache),
    }
    grid = (-(-batch.max_query_len // queries), key_cache.shape[2], batch.num_seqs)
    return Launch(kernels.chunked_prefill_kernel, grid, arguments, _num_warps(key_cache))


def copy_blocks_launch(key_cache: Tensor, value_cache: Tensor, block_copies: Tensor) -> Launch:
    """Return how to copy blocks, given as int32 [num_copies, 2]: a few programs per block.

    The programs run side by side, in no order: see ``side_by_side``.
    """
    _, block_size, num_kv_heads, head_dim = key_cache.shape
    lanes = min(COPY_LANES, _power_of_two(block_size * num_kv_heads * head_dim))
    arguments = {
        "key_cache": key_cache,
        "value_cache": value_cache,
        "block_copies": block_copies,
        **_cache_strides(key_cache, value_cache),
        "BLOCK_SIZE": block_size,
        "NUM_KV_HEADS": num_kv_heads,
        "HEAD_DIM": head_dim,
        "LANES": lanes,
    }
    grid = (len(block_copies), -(-block_size * num_kv_heads * head_dim // lanes))
    return Launch(kernels.copy_blocks_kernel, grid, arguments)


def as_on_a_gpu(launch: Launch) -> Launch:
    """Return the launch with matrices multiplied in the type of the cache, as a GPU does it.

    Without a GPU a launch carries 32-bit products, for the interpreter's sake. Compile this one.
    """
    if "DOT_DTYPE" not in launch.arguments:
        return launch
    dtype = _TL_DTYPES[launch.arguments["key_cache"].dtype]
    return replace(launch, arguments=launch.arguments | {"DOT_DTYPE": dtype})


def _cache_arguments(
    key_cache: Tensor, value_cache: Tensor, batch: PagedBatch
) -> dict[str, Tensor | int]:
    """Return the arguments that say where the sequences' keys and values are."""
    return {
        "key_cache": key_cache,
        "value_cache": value_cache,
        "block_tables": batch.block_tables,
        "context_lens": batch.context_lens,
        **_cache_strides(key_cache, value_cache),
        "table_seq_stride": batch.block_tables.stride(0),
    }


def _cache_strides(key_cache: Tensor, value_cache: Tensor) -> dict[str, int]:
    return {
        "key_block_stride": key_cache.stride(0),
        "key_slot_stride": key_cache.stride(1),
        "key_head_stride": key_cache.stride(2),
        "value_block_stride": value_cache.stride(0),
        "value_slot_stride": value_cache.stride(1),
        "value_head_stride": value_cache.stride(2),
    }


def _group_constants(query: Tensor, key_cache: Tensor) -> dict[str, int]:
    group = query.shape[1] // key_cache.shape[2]
    return {"GROUP": group, "GROUP_LANES": max(MIN_DOT_SIZE, _power_of_two(group))}


def _tile_constants(key_cache: Tensor) -> dict[str, Any]:
    """Return the constants that follow from the cache's shape and type."""
    _, block_size, _, head_dim = key_cache.shape
    return {
        "BLOCK_SIZE": block_size,
        "HEAD_DIM": head_dim,
        "DIM_LANES": _dim_lanes(head_dim),
        "TILE": _tile(key_cache),
        "DOT_DTYPE": _dot_dtype(key_cache),
    }


def _tile(key_cache: Tensor) -> int:
    """Return how many tokens a program reads per iteration: a power of two."""
    return max(MIN_DOT_SIZE, min(MAX_TILE, TILE_BYTES // _row_bytes(key_cache)))


def _row_bytes(key_cache: Tensor) -> int:
    """Return the bytes of one head of one token, padded."""
    return _dim_lanes(key_cache.shape[3]) * key_cache.element_size()


def _dim_lanes(head_dim: int) -> int:
    return max(MIN_DOT_SIZE, _power_of_two(head_dim))


def _dot_dtype(key_cache: Tensor) -> Any:
    """Return the type in which matrices are multiplied."""
    # The interpreter has no tensor cores to win, and its product of bfloat16 numbers is wrong.
    return _TL_DTYPES[key_cache.dtype] if _COMPILED else tl.float32


def _num_warps(key_cache: Tensor) -> int:
    """Return the warps per program: more for wide heads, whose sums fill more registers."""
    return 8 if key_cache.shape[3] > 128 else 4


def _scale_log2(scale: float | None, query: Tensor) -> float:
    """Return the factor that makes a dot product the exponent of 2 in a weight."""
    scale = 1 / math.sqrt(query.shape[-1]) if scale is None else scale
    return scale * math.log2(math.e)


def _power_of_two(number: int) -> int:
    """Return the smallest power of two that is at least ``number``."""
    return 1 << max(0, number - 1).bit_length()

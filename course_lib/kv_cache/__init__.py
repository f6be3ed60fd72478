"""The memory half of an engine: how large the KV cache is, and who holds which part of it."""

from course_lib.kv_cache.sizing import (
    cost_per_million_tokens,
    kv_bytes_per_block,
    kv_bytes_per_token,
    max_concurrent_sequences,
    num_kv_blocks,
)

__all__ = [
    "cost_per_million_tokens",
    "kv_bytes_per_block",
    "kv_bytes_per_token",
    "max_concurrent_sequences",
    "num_kv_blocks",
]

"""The memory half of an engine: how large the KV cache is, and who holds which part of it."""

from course_lib.kv_cache.allocators import BuddyAllocator
from course_lib.kv_cache.reservation import (
    POLICIES,
    Reservation,
    SlotUse,
    Snapshot,
    average_shares,
    classify_slots,
    expected_static_utilization,
    replay_contiguous,
    replay_paged,
    reserve_max,
    reserve_oracle,
    reserve_pow2,
    static_batch_utilization,
)
from course_lib.kv_cache.sizing import (
    cost_per_million_tokens,
    kv_bytes_per_block,
    kv_bytes_per_token,
    max_concurrent_sequences,
    num_kv_blocks,
)

__all__ = [
    "POLICIES",
    "BuddyAllocator",
    "Reservation",
    "SlotUse",
    "Snapshot",
    "average_shares",
    "classify_slots",
    "cost_per_million_tokens",
    "expected_static_utilization",
    "kv_bytes_per_block",
    "kv_bytes_per_token",
    "max_concurrent_sequences",
    "num_kv_blocks",
    "replay_contiguous",
    "replay_paged",
    "reserve_max",
    "reserve_oracle",
    "reserve_pow2",
    "static_batch_utilization",
]

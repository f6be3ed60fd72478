"""Who comes and goes at a memory tracker's cache manager: for lives without an engine."""

from __future__ import annotations

from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

from course_lib.engine.memory_tracker import MemoryTracker


def take(tracker: MemoryTracker, name: str, tokens: Sequence[int]) -> list[int]:
    """Let a request hold the blocks of its tokens, cached ones first; return their ids.

    >>> from course_lib.kv_cache.manager import KVCacheManager
    >>> tracker = MemoryTracker(KVCacheManager(num_blocks=9, block_size=2), bytes_per_block=10)
    >>> take(tracker, "a", [1, 2, 3]), take(tracker, "b", [1, 2, 4])
    ([1, 2], [1, 3])
    """
    manager, asking = tracker.manager, _request(name, tokens)
    hits, num_computed = manager.get_computed_blocks(asking)
    manager.allocate_slots(asking, len(tokens) - num_computed, num_computed, hits)
    return manager.get_block_ids(name)


def take_many(tracker: MemoryTracker, num_requests: int, num_blocks: int) -> int:
    """Let requests hold blocks of their own, as many each; return how many bytes are in use then.

    >>> from course_lib.kv_cache.manager import KVCacheManager
    >>> tracker = MemoryTracker(KVCacheManager(num_blocks=9, block_size=2), bytes_per_block=10)
    >>> take_many(tracker, num_requests=2, num_blocks=3)
    60
    """
    for number in range(num_requests):
        length = num_blocks * tracker.manager.block_size
        take(tracker, f"r{number}", range(number * length, (number + 1) * length))
    return tracker.in_use


def give_back(tracker: MemoryTracker, name: str) -> None:
    """Take a request's blocks back."""
    tracker.manager.free(_request(name, []))


def lose(tracker: MemoryTracker, num_blocks: int) -> None:
    """Take blocks out of the pool for nobody, as whoever forgets them does."""
    tracker.manager.block_pool.get_new_blocks(num_blocks)


def forget(tracker: MemoryTracker, name: str) -> None:
    """Drop a request's table and leave its blocks counted, as whoever frees by halves does."""
    del tracker.manager.request_blocks[name]


def leaked_beside(tracker: MemoryTracker, live: Sequence[str]) -> dict[str, int]:
    """Return what has leaked, the live ones told as an iterator, which can be gone through once."""
    return tracker.report(iter(live)).leaked


def cached_and_free(tracker: MemoryTracker) -> int:
    """Return how many blocks are free and can still be found."""
    blocks = tracker.manager.block_pool.blocks
    return sum(block.block_hash is not None and block.ref_cnt == 0 for block in blocks)


def _request(name: str, tokens: Sequence[int]) -> Any:
    return SimpleNamespace(
        request_id=name,
        all_token_ids=list(tokens),
        num_tokens=len(tokens),
        num_computed_tokens=0,
        cache_salt=None,
    )

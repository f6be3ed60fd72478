"""Who comes and goes at a memory tracker's cache manager: for lives without an engine."""

from __future__ import annotations

from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

from course_lib.engine.memory_tracker import MemoryTracker
from course_lib.kv_cache.manager import RequestBlocks


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


def seat_many(tracker: MemoryTracker, num_requests: int) -> int:
    """Let many requests hold a block each, all at once; return how many bytes are in use then.

    >>> from course_lib.kv_cache.manager import KVCacheManager
    >>> tracker = MemoryTracker(KVCacheManager(num_blocks=9, block_size=2), bytes_per_block=10)
    >>> seat_many(tracker, num_requests=6)
    60
    """
    manager = tracker.manager
    for number, block in enumerate(manager.block_pool.get_new_blocks(num_requests)):
        name = f"r{number}"
        manager.request_blocks[name] = RequestBlocks(_request(name, []), [block])
    return tracker.in_use


def observe_often(tracker: MemoryTracker, times: int) -> int:
    """Let a tracker look many times, as after so many steps; return its mark.

    >>> from course_lib.kv_cache.manager import KVCacheManager
    >>> observe_often(MemoryTracker(KVCacheManager(num_blocks=9, block_size=2), 10), times=3)
    0
    """
    for _ in range(times):
        tracker.observe()
    return tracker.high_water


def held_by_all(tracker: MemoryTracker) -> int:
    """Return how many bytes all owners hold together, a shared block counted for each.

    >>> from course_lib.kv_cache.manager import KVCacheManager
    >>> held_by_all(MemoryTracker(KVCacheManager(num_blocks=9, block_size=2), bytes_per_block=10))
    0
    """
    return sum(tracker.by_owner().values())


def mark_of_another(tracker: MemoryTracker) -> int:
    """Return the mark of a tracker that has just been made, and has observed nothing yet."""
    return type(tracker)(tracker.manager, tracker.bytes_per_block).high_water


def said_before_and_after(
    tracker: MemoryTracker, name: str, tokens: Sequence[int]
) -> list[dict[str, int]]:
    """Let a request come; return what was said of owners and of leaks before it and behind it.

    All of it is read in the end: what was said is not to change.
    """
    before = tracker.by_owner(), tracker.report([]).leaked
    take(tracker, name, tokens)
    return [*before, tracker.by_owner(), tracker.report([]).leaked]


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

"""Who holds the memory of a KV cache, how much it was at most, and what nobody gives back."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from course_lib.kv_cache.manager import KVCacheManager

NOBODY = "nobody"
"""Who holds a block that is in no table, and is not free either."""


class MemoryReport(NamedTuple):
    """The memory of a KV cache at one moment, in bytes.

    Attributes:
        in_use: What requests hold, a shared block counted once.
        high_water: The most that was in use whenever ``observe`` was called.
        shared: What more than one request holds, counted once.
        leaked: What is held and should not be, by who holds it.
    """

    in_use: int
    high_water: int
    shared: int
    leaked: dict[str, int]


class MemoryTracker:
    """Keeps an eye on the memory of a KV cache.

    A free block that is still cached is not in use: whoever needs it gets it.

    Args:
        manager: Hands out the blocks; its ``block_tables()`` says who has which.
        bytes_per_block: Bytes of one block, as ``kv_bytes_per_block`` computes them.

    Attributes:
        manager: The manager.
        bytes_per_block: Bytes of one block.
        high_water: The most bytes that were in use whenever ``observe`` was called. It never falls.

    >>> from types import SimpleNamespace
    >>> request = SimpleNamespace(request_id="a", all_token_ids=[1, 2, 3], num_tokens=3,
    ...                           num_computed_tokens=0, cache_salt=None)
    >>> manager = KVCacheManager(num_blocks=10, block_size=2)
    >>> tracker = MemoryTracker(manager, bytes_per_block=100)
    >>> _ = manager.allocate_slots(request, num_new_tokens=3)
    >>> tracker.observe()
    >>> tracker.by_owner(), tracker.in_use, tracker.report(live=[]).leaked
    ({'a': 200}, 200, {'a': 200})
    >>> manager.free(request)
    >>> tracker.in_use, tracker.high_water, tracker.report(live=[]).leaked
    (0, 200, {})
    """

    def __init__(self, manager: KVCacheManager, bytes_per_block: int) -> None:
        self.manager = manager
        self.bytes_per_block = bytes_per_block
        self.high_water = 0

    def by_owner(self) -> dict[str, int]:
        """Return the bytes that each request holds, by its id: those of all blocks in its table.

        A block that two requests share is held by both, so the bytes may add to more than
        ``in_use``.
        """
        tables = self.manager.block_tables()
        return {owner: len(table) * self.bytes_per_block for owner, table in tables.items()}

    @property
    def in_use(self) -> int:
        """Bytes that requests hold, a shared block counted once."""
        tables = self.manager.block_tables().values()
        return len({block.block_id for table in tables for block in table}) * self.bytes_per_block

    def observe(self) -> None:
        """Remember what is in use now, if it is more than ever; call it after each step."""
        self.high_water = max(self.high_water, self.in_use)

    def report(self, live: Iterable[str]) -> MemoryReport:
        """Say how the memory stands.

        Leaked is what a request holds that is not live, and what nobody holds although it is not
        free: a block with a holder (``ref_cnt`` above 0) that is in no table.

        Args:
            live: The requests that may hold blocks.

        Returns:
            The report; its ``leaked`` names no request that is live.
        """
        live_ids = set(live)
        tables = self.manager.block_tables()
        holders: dict[int, int] = {}
        for table in tables.values():
            for block in table:
                holders[block.block_id] = holders.get(block.block_id, 0) + 1
        leaked = {
            owner: size for owner, size in self.by_owner().items() if owner not in live_ids and size
        }
        held = [block.block_id for block in self.manager.block_pool.blocks if block.ref_cnt > 0]
        lost = sum(block_id not in holders for block_id in held)
        if lost:
            leaked[NOBODY] = lost * self.bytes_per_block
        shared = sum(count > 1 for count in holders.values()) * self.bytes_per_block
        return MemoryReport(self.in_use, self.high_water, shared, leaked)

"""A failing case as plain data, step by step on both sides; ``replay`` turns it into a film.

The states are taken with an object's public attributes, so a learner's own class can be asked for
its state as the library's can.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from course_lib.kv_cache.block_pool import (
    BlockPool,
    FreeBlockQueue,
    FreeKVCacheBlockQueue,
    KVCacheBlock,
)
from course_lib.kv_cache.block_table import BlockTable
from course_lib.kv_cache.manager import KVCacheManager
from course_lib.kv_cache.watch.recorder import Frame, snapshot_blocks
from course_lib.kv_cache.watch.watching import pool_of
from course_lib.scheduling.policies import RequestQueue
from course_lib.scheduling.request import Request
from course_lib.scheduling.scheduler import Scheduler

_MOST_ENTRIES = 6
"""Entries of an index that are listed."""

Snapshot = Callable[[Any], Frame]
"""Returns the state of an object as a figure can draw it."""


@dataclass(frozen=True, slots=True)
class CaseStep:
    """One call of a failing case, and what came of it on both sides.

    Attributes:
        call: What was called, as one would type it.
        expected: What should come of it, as text.
        got: What came of it.
        expected_state: The state afterwards as it should be; None if there is none to show.
        state: The state afterwards as it is; None if it cannot be read.
    """

    call: str
    expected: str
    got: str
    expected_state: Frame | None
    state: Frame | None


@dataclass(frozen=True, slots=True)
class FailingCase:
    """The calls of a failing case, up to the one whose answer is wrong.

    Attributes:
        steps: The calls, in order.
        complaint: What is the matter with the last answer, where that is more than "it differs".
    """

    steps: tuple[CaseStep, ...]
    complaint: str = ""


def snapshot_for(kind: type[Any]) -> Snapshot | None:
    """Return what takes the state of objects of a kind; None where no figure shows them.

    >>> snapshot_for(BlockPool) is snapshot_pool, snapshot_for(dict)
    (True, None)
    """
    for shown, snapshot in (
        (BlockPool, snapshot_pool),
        (KVCacheManager, snapshot_pool),
        (FreeKVCacheBlockQueue, snapshot_free_queue),
        (BlockTable, snapshot_table),
        (Scheduler, snapshot_scheduler),
        (RequestQueue, snapshot_waiting),
    ):
        # The queue of requests is a protocol, of which ``issubclass`` knows nothing.
        if shown in kind.__mro__:
            return snapshot
    return None


def snapshot_pool(subject: BlockPool | KVCacheManager) -> Frame:
    """Return the state of a pool or a manager, with what its blocks and its queue do not show.

    >>> pool = BlockPool(num_blocks=3)
    >>> pool.cache_full_blocks(pool.get_new_blocks(1), [b"abc"])
    >>> snapshot_pool(pool)["facts"]
    {'found': '#6162 → 1', 'evicted': '0'}
    """
    pool = pool_of(subject)
    index = pool.cached_block_hash_to_block.items()
    found = sorted(f"#{key.hex()[:4]} → {block.block_id}" for key, block in index)
    facts = {"found": _listed(found), "evicted": str(pool.num_evictions)}
    return {**snapshot_blocks(subject), "facts": facts}


def snapshot_free_queue(queue: FreeBlockQueue) -> Frame:
    """Return the state of a free queue alone, up to a block that is in it for the second time.

    Of a ring, it is told by the links in both directions.

    >>> from course_lib.kv_cache import KVCacheBlock
    >>> state = snapshot_free_queue(FreeKVCacheBlockQueue([KVCacheBlock(3), KVCacheBlock(1)]))
    >>> state["free_queue"], state["facts"]["next"]
    ([3, 1], 'sentinel → 3 → 1 → sentinel')
    >>> state["facts"]["prev"], state["facts"]["length"]
    ('sentinel ← 3 ← 1 ← sentinel', '2')
    """
    listed: list[int] = []
    for block in queue:
        listed.append(block.block_id)
        if block.block_id in listed[:-1]:
            break
    sentinel: KVCacheBlock | None = getattr(queue, "sentinel", None)
    if sentinel is None:
        return {"free_queue": listed}
    facts = {
        "next": " → ".join(_ring(sentinel, "next_free_block")),
        "prev": " ← ".join(_ring(sentinel, "prev_free_block")[::-1]),
        "length": str(len(queue)),
    }
    return {"free_queue": listed, "facts": facts}


def _ring(sentinel: KVCacheBlock, link: str) -> list[str]:
    """Return the blocks along a link from the sentinel on, up to one that was met before."""
    names, met = ["sentinel"], {id(sentinel)}
    block: KVCacheBlock | None = getattr(sentinel, link)
    while block is not None and id(block) not in met:
        names.append(str(block.block_id))
        met.add(id(block))
        block = getattr(block, link)
    if block is None:
        return [*names, "None"]
    return [*names, "sentinel" if block is sentinel else str(block.block_id)]


def _listed(entries: Sequence[str]) -> str:
    """Return the first entries, and how many more there are."""
    more = f", and {len(entries) - _MOST_ENTRIES} more" * (len(entries) > _MOST_ENTRIES)
    return ", ".join(entries[:_MOST_ENTRIES]) + more or "nothing"


def snapshot_table(table: BlockTable) -> Frame:
    """Return the state of a block table alone.

    >>> table = BlockTable(block_size=4)
    >>> table.append([7, 3])
    >>> snapshot_table(table)
    {'tables': {'table': [7, 3]}}
    """
    return {"tables": {"table": list(table.block_ids)}}


def snapshot_waiting(queue: Iterable[Request]) -> Frame:
    """Return the state of a queue of requests, in service order.

    >>> from course_lib.scheduling import FCFSRequestQueue
    >>> queue = FCFSRequestQueue()
    >>> queue.add(Request("A", [1, 2, 3], max_tokens=4))
    >>> snapshot_waiting(queue)
    {'requests': {'waiting': [['A', '0/3']]}}
    """
    return {"requests": {"waiting": _progress(queue)}}


def snapshot_scheduler(scheduler: Scheduler) -> Frame:
    """Return the state of a scheduler: its requests, and the blocks that they hold.

    >>> from course_lib.scheduling import SchedulerConfig
    >>> scheduler = Scheduler(SchedulerConfig(), KVCacheManager(num_blocks=9))
    >>> scheduler.add_request(Request("A", range(20), max_tokens=2))
    >>> output = scheduler.schedule()
    >>> state = snapshot_scheduler(scheduler)
    >>> state["requests"], state["tables"]
    ({'running': [['A', '20/20']], 'waiting': []}, {'A': [1, 2]})
    """
    lists = {"running": _progress(scheduler.running), "waiting": _progress(scheduler.waiting)}
    if scheduler.swapped:
        lists["swapped"] = _progress(scheduler.swapped)
    return {**snapshot_pool(scheduler.kv_cache_manager), "requests": lists}


def _progress(requests: Iterable[Request]) -> list[list[str]]:
    """Return each request's name, and how many of its known tokens are computed."""
    return [
        [request.request_id, f"{request.num_computed_tokens}/{request.num_tokens}"]
        for request in requests
    ]

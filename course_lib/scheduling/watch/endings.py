"""Requests that are ended from outside, told in words: for lives without a model."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from course_lib.scheduling.request import RequestStatus
from course_lib.scheduling.scheduler import Scheduler
from course_lib.scheduling.watch.iterations import queues_of

Told = dict[str, str | int | list[str] | dict[str, str]]
"""What has become of a scheduler, by what it is of."""


def end(scheduler: Scheduler, request_ids: str | Iterable[str], status: str) -> Told:
    """End requests with a status, given by its value, and tell how things stand.

    Returns:
        Who is in which queue; how many blocks are free, on the device and on the CPU; whose end the
        next plan will tell; and the status of each that has ended.

    >>> from course_lib.kv_cache import KVCacheManager
    >>> from course_lib.scheduling import Request, SchedulerConfig
    >>> scheduler = Scheduler(SchedulerConfig(), KVCacheManager(num_blocks=10))
    >>> scheduler.add_request(Request("a", [5, 6], max_tokens=2))
    >>> end(scheduler, "a", "finished_aborted")["told next"]
    ['a']
    """
    before = dict(scheduler.requests)
    scheduler.finish_requests(request_ids, RequestStatus(status))
    told = standing(scheduler)
    gone = (request for name, request in before.items() if name not in scheduler.requests)
    told["ended as"] = " ".join(f"{r.request_id}:{r.status.value}" for r in gone)
    return told


def end_in_turn(scheduler: Scheduler, request_ids: Sequence[str], status: str) -> Told:
    """End requests whose ids come one after the other, and can be gone through once.

    >>> from course_lib.kv_cache import KVCacheManager
    >>> from course_lib.scheduling import Request, SchedulerConfig
    >>> scheduler = Scheduler(SchedulerConfig(), KVCacheManager(num_blocks=10))
    >>> scheduler.add_request(Request("a", [5, 6], max_tokens=2))
    >>> end_in_turn(scheduler, ["b", "a"], "finished_aborted")["told next"]
    ['a']
    """
    return end(scheduler, iter(request_ids), status)


def standing(scheduler: Scheduler) -> Told:
    """Tell who is in which queue, what is free, and whose end the next plan will tell.

    >>> from course_lib.kv_cache import KVCacheManager
    >>> from course_lib.scheduling import SchedulerConfig
    >>> standing(Scheduler(SchedulerConfig(), KVCacheManager(num_blocks=10)))["free blocks"]
    9
    """
    manager = scheduler.kv_cache_manager
    return {
        "queues": queues_of(scheduler),
        "free blocks": manager.block_pool.get_num_free_blocks(),
        "free CPU blocks": len(scheduler.swap_space.free_blocks),
        "known": {name: r.status.value for name, r in sorted(scheduler.requests.items())},
        "held": sorted(name for name, table in manager.block_tables().items() if table),
        "told next": sorted(scheduler.finished_req_ids),
    }

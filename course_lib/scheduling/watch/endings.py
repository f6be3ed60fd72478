"""Requests that are ended from outside, told in words: for lives without a model."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from course_lib.scheduling.request import Request, RequestStatus
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


def add_many(scheduler: Scheduler, num_requests: int) -> int:
    """Let many requests of one token come, and plan once; return how many run then.

    >>> from course_lib.kv_cache import KVCacheManager
    >>> from course_lib.scheduling import SchedulerConfig
    >>> add_many(Scheduler(SchedulerConfig(max_num_seqs=2), KVCacheManager(num_blocks=10)), 5)
    2
    """
    for number in range(num_requests):
        scheduler.add_request(Request(f"r{number}", [number], max_tokens=9))
    scheduler.schedule()
    return len(scheduler.running)


def end_many(scheduler: Scheduler, status: str) -> list[int]:
    """End all requests with a status, in the order in which they came.

    Returns:
        How many requests are left, how many blocks are free, and how many have ended as the
        next plan will tell.

    >>> from course_lib.kv_cache import KVCacheManager
    >>> from course_lib.scheduling import SchedulerConfig
    >>> scheduler = Scheduler(SchedulerConfig(max_num_seqs=2), KVCacheManager(num_blocks=10))
    >>> add_many(scheduler, 5), end_many(scheduler, "finished_aborted")
    (2, [0, 9, 5])
    """
    scheduler.finish_requests(list(scheduler.requests), RequestStatus(status))
    free_blocks = scheduler.kv_cache_manager.block_pool.get_num_free_blocks()
    return [len(scheduler.requests), free_blocks, len(scheduler.finished_req_ids)]


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

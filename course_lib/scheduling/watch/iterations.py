"""One iteration after the other, planned and answered, told in words: for lives without a model."""

from __future__ import annotations

from collections.abc import Iterable

from course_lib.scheduling.request import Request, RequestStatus
from course_lib.scheduling.scheduler import Scheduler, SchedulerOutput
from course_lib.scheduling.watch.notation import StepLine
from course_lib.scheduling.watch.state import SchedulerState


def queues_of(scheduler: Scheduler) -> str:
    """Return who runs, waits and is swapped out, with the computed and the known tokens of each.

    >>> from course_lib.kv_cache import KVCacheManager
    >>> from course_lib.scheduling import SchedulerConfig
    >>> config = SchedulerConfig(max_num_seqs=1, max_num_batched_tokens=8)
    >>> scheduler = Scheduler(config, KVCacheManager(num_blocks=10))
    >>> for name in "ab":
    ...     scheduler.add_request(Request(name, range(12), max_tokens=2))
    >>> _ = scheduler.schedule()
    >>> queues_of(scheduler)
    'running a:8/12 | waiting b:0/12'
    """
    queues: dict[str, Iterable[Request]] = {
        "running": scheduler.running,
        "waiting": scheduler.waiting,
        "swapped": scheduler.swapped,
    }
    said = {
        name: " ".join(f"{r.request_id}:{r.num_computed_tokens}/{r.num_tokens}" for r in queue)
        for name, queue in queues.items()
    }
    return " | ".join(f"{name} {who}" for name, who in said.items() if who) or "nobody"


def told(scheduler: Scheduler, output: SchedulerOutput) -> dict[str, str | int]:
    """Say what a plan holds that was just made: how many tokens, who is new in it, what is free."""
    line = str(StepLine.of(0, output, SchedulerState.of(scheduler)))
    return {
        "plan": line.removeprefix("step 0").strip(),
        "tokens": output.total_num_scheduled_tokens,
        "new": _names(output.scheduled_new_reqs),
        "resumed": _names(output.scheduled_resumed_reqs),
        "free blocks": scheduler.kv_cache_manager.block_pool.get_num_free_blocks(),
    }


def run_iteration(scheduler: Scheduler) -> dict[str, str | int]:
    """Plan an iteration, answer it as a model would, and say what was planned.

    Returns:
        The plan in the notation of ``StepLine``, its tokens in all, the names of those that start
        in it and of those that start again, and how many blocks are free once it is made.

    >>> from course_lib.kv_cache import KVCacheManager
    >>> from course_lib.scheduling import SchedulerConfig
    >>> config = SchedulerConfig(max_num_batched_tokens=8)
    >>> scheduler = Scheduler(config, KVCacheManager(num_blocks=10))
    >>> scheduler.add_request(Request("a", range(12), max_tokens=2))
    >>> run_iteration(scheduler)
    {'plan': 'a:8(8/12)  | -', 'tokens': 8, 'new': 'a', 'resumed': '', 'free blocks': 8}
    >>> run_iteration(scheduler)["plan"]
    'a:4*  | -'
    """
    output = scheduler.schedule()
    said = told(scheduler, output)
    caught_up = {request.request_id: 7 for request in scheduler.generating(output)}
    scheduler.update_from_output(output, caught_up)
    return said


def admit(scheduler: Scheduler, budget: int) -> dict[str, str | int]:
    """Let a scheduler admit under a budget, outside of any iteration, and say what came of it.

    Returns:
        As ``run_iteration``; and the budget that is left.

    >>> from course_lib.kv_cache import KVCacheManager
    >>> from course_lib.scheduling import SchedulerConfig
    >>> scheduler = Scheduler(SchedulerConfig(), KVCacheManager(num_blocks=10))
    >>> scheduler.add_request(Request("a", range(12), max_tokens=2))
    >>> admit(scheduler, budget=20)["left"], scheduler.running[0].request_id
    (8, 'a')
    """
    output = SchedulerOutput()
    left = scheduler.admit_waiting(output, budget)
    output.total_num_scheduled_tokens = sum(output.num_scheduled_tokens.values())
    return {**told(scheduler, output), "left": left}


def admit_many(scheduler: Scheduler, num_requests: int) -> dict[str, int]:
    """Let requests of one token come together, and count what a scheduler does with them.

    Returns:
        How many start, how many wait still, and how much is left of a budget of a token for each.

    >>> from course_lib.kv_cache import KVCacheManager
    >>> from course_lib.scheduling import SchedulerConfig
    >>> scheduler = Scheduler(SchedulerConfig(max_num_seqs=2), KVCacheManager(num_blocks=10))
    >>> admit_many(scheduler, 5)
    {'start': 2, 'wait': 3, 'left': 3}
    """
    for number in range(num_requests):
        scheduler.add_request(Request(f"guest {number}", [1], max_tokens=1))
    output = SchedulerOutput()
    left = scheduler.admit_waiting(output, num_requests)
    starting, waiting = len(output.scheduled_new_reqs), len(scheduler.waiting)
    return {"start": starting, "wait": waiting, "left": left}


def abort(scheduler: Scheduler, request_id: str) -> None:
    """End a request from outside, as when its client goes away; pass over one that has ended."""
    scheduler.finish_requests(request_id, RequestStatus.FINISHED_ABORTED)


def hold_back(scheduler: Scheduler, request_id: str) -> None:
    """Give a scheduler a reason of its own why one request may not start, as its variants have.

    >>> from course_lib.kv_cache import KVCacheManager
    >>> from course_lib.scheduling import SchedulerConfig
    >>> scheduler = Scheduler(SchedulerConfig(), KVCacheManager(num_blocks=10))
    >>> scheduler.add_request(Request("a", [1], max_tokens=2))
    >>> hold_back(scheduler, "a")
    >>> run_iteration(scheduler)["plan"]
    '-  | a'
    """

    def why_not_now(request: Request) -> str:
        return "held back" if request.request_id == request_id else ""

    scheduler.why_not_now = why_not_now  # type: ignore[method-assign]


def _names(requests: list[Request]) -> str:
    return " ".join(request.request_id for request in requests)

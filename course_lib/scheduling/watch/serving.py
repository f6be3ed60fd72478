"""Running requests served, told in words and counted: for lives without a model."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, SupportsIndex

from course_lib.scheduling.request import Request
from course_lib.scheduling.scheduler import Scheduler, SchedulerOutput
from course_lib.scheduling.watch.iterations import told

Told = dict[str, str | int]
"""What happened, in words and numbers, by what they are of."""


def plan_iteration(scheduler: Scheduler) -> Told:
    """Plan an iteration that nobody answers, and say what was planned.

    >>> from course_lib.kv_cache import KVCacheManager
    >>> from course_lib.scheduling import SchedulerConfig
    >>> config = SchedulerConfig(max_num_batched_tokens=16)
    >>> scheduler = Scheduler(config, KVCacheManager(num_blocks=10))
    >>> for name, num_tokens in (("a", 4), ("b", 40)):
    ...     scheduler.add_request(Request(name, [ord(name)] * num_tokens, max_tokens=2))
    >>> plan_iteration(scheduler)["plan"], plan_iteration(scheduler)["plan"]
    ('a:4* b:12(12/40)  | -', 'b:16(28/40)  | -')
    """
    return told(scheduler, scheduler.schedule())


def serve(scheduler: Scheduler, budget: int, num_ahead: Mapping[str, int]) -> Told:
    """Serve the running requests under a budget, outside of any iteration, and say what came.

    Args:
        scheduler: The scheduler.
        budget: Tokens that may be computed.
        num_ahead: Positions that some requests are to compute beyond their known tokens, by id, as
            for drafts. Requests that do not run are passed over. Afterwards all drafts are
            rejected.

    Returns:
        As ``run_iteration``; the budget that is left; and how far everybody has come.

    >>> from course_lib.kv_cache import KVCacheManager
    >>> from course_lib.scheduling import SchedulerConfig
    >>> scheduler = Scheduler(SchedulerConfig(), KVCacheManager(num_blocks=10))
    >>> scheduler.add_request(Request("a", [5, 6], max_tokens=9))
    >>> _ = plan_iteration(scheduler)
    >>> said = serve(scheduler, budget=7, num_ahead={"a": 3})
    >>> said["plan"], said["left"], said["computed"]
    ('a:0+3  | -', 4, 'a:5/2')
    """
    for request in scheduler.running:
        request.num_tokens_ahead = num_ahead.get(request.request_id, 0)
    output = SchedulerOutput()
    left = scheduler.serve_running(output, budget)
    output.total_num_scheduled_tokens = sum(output.num_scheduled_tokens.values())
    computed = (
        f"{r.request_id}:{r.num_computed_tokens}/{r.num_tokens}"
        for r in scheduler.requests.values()
    )
    said: Told = {**told(scheduler, output), "left": left, "computed": " ".join(computed)}
    for request in scheduler.running:
        request.num_tokens_ahead = 0
        request.num_computed_tokens = min(request.num_computed_tokens, request.num_tokens)
    return said


def run_in_full(scheduler: Scheduler) -> Told:
    """Plan an iteration, answer it as a model would, and say all that the plan holds.

    Returns:
        As ``run_iteration``; who has ended since the last plan; and the copies to be made.

    >>> from course_lib.kv_cache import KVCacheManager
    >>> from course_lib.scheduling import SchedulerConfig
    >>> scheduler = Scheduler(SchedulerConfig(), KVCacheManager(num_blocks=10))
    >>> scheduler.add_request(Request("a", [5, 6], max_tokens=1))
    >>> [run_in_full(scheduler)["ended"] for _ in range(2)]
    ['', 'a']
    """
    output = scheduler.schedule()
    said = _in_full(scheduler, output)
    answers: dict[str, int | list[int]] = {
        request.request_id: 7 for request in scheduler.generating(output)
    }
    scheduler.update_from_output(output, answers)
    return said


def run_and_fork(scheduler: Scheduler, parent_id: str, child_id: str) -> Told:
    """Do as ``run_in_full``, and let a request be continued twice once the plan is made.

    Args:
        scheduler: The scheduler.
        parent_id: A running request, which the plan computes up to its last token.
        child_id: A name for the one that continues it as well.

    >>> from course_lib.kv_cache import KVCacheManager
    >>> from course_lib.scheduling import SchedulerConfig
    >>> scheduler = Scheduler(SchedulerConfig(), KVCacheManager(num_blocks=10, block_size=4))
    >>> scheduler.add_request(Request("a", [5, 6], max_tokens=9))
    >>> _ = run_and_fork(scheduler, "a", "b")
    >>> said = run_in_full(scheduler)
    >>> said["plan"], said["copies"]
    ('a:1 b:1  | -', '1>2')
    """
    output = scheduler.schedule()
    said = _in_full(scheduler, output)
    parent = scheduler.requests[parent_id]
    scheduler.fork_request(parent_id, Request(child_id, parent.all_token_ids, max_tokens=9))
    answers: dict[str, int | list[int]] = {
        request.request_id: 7 for request in scheduler.generating(output)
    }
    scheduler.update_from_output(output, {**answers, child_id: 8})
    return said


class WholePlans:
    """A log that notes what a plan holds at the moment when it is told of it.

    Attributes:
        lines: A line for each plan.
    """

    def __init__(self) -> None:
        self.lines: list[str] = []

    def record_preemption(
        self, scheduler: Scheduler, victim: Request, winner: Request, num_new_tokens: int
    ) -> None:
        """Note nothing of a victim."""

    def record_step(self, scheduler: Scheduler, output: SchedulerOutput) -> None:
        """Note the total and the copies."""
        total, copies = output.total_num_scheduled_tokens, output.blocks_to_copy
        self.lines.append(f"{total} tokens, {len(copies)} copies")


def told_to_a_log(scheduler: Scheduler) -> Told:
    """Plan an iteration that nobody answers, and say what a log was told of it.

    >>> from course_lib.kv_cache import KVCacheManager
    >>> from course_lib.scheduling import SchedulerConfig
    >>> scheduler = Scheduler(SchedulerConfig(), KVCacheManager(num_blocks=10))
    >>> scheduler.add_request(Request("a", [5, 6], max_tokens=9))
    >>> told_to_a_log(scheduler)["a log was told"]
    '2 tokens, 0 copies'
    """
    log = WholePlans()
    scheduler.log = log
    said = told(scheduler, scheduler.schedule())
    return {**said, "a log was told": "; ".join(log.lines)}


def _in_full(scheduler: Scheduler, output: SchedulerOutput) -> Told:
    copies = (f"{source}>{destination}" for source, destination in output.blocks_to_copy)
    return {
        **told(scheduler, output),
        "ended": " ".join(sorted(output.finished_req_ids)),
        "copies": " ".join(copies),
        "swapped": " ".join(request.request_id for request in scheduler.swapped),
    }


class CountedList(list[Request]):
    """A list that counts how many of its items are looked at.

    An item counts each time that it is reached by an index, a slice, a loop, a copy or a search.

    Attributes:
        num_read: The count.

    >>> counted = CountedList([1, 2, 3])
    >>> _ = list(counted), counted[0], counted[:2]
    >>> counted.num_read
    6
    """

    num_read = 0

    def __getitem__(self, index: SupportsIndex | slice) -> Any:
        found = super().__getitem__(index)
        self.num_read += len(found) if isinstance(index, slice) else 1  # type: ignore[arg-type]
        return found

    def __iter__(self) -> Iterator[Request]:
        for item in super().__iter__():
            self.num_read += 1
            yield item

    def __contains__(self, item: object) -> bool:
        return any(each is item for each in self)

    def index(self, item: Request, *bounds: Any) -> int:
        """Return the place of an item, and count those up to it."""
        place = super().index(item, *bounds)
        self.num_read += place + 1
        return place

    def copy(self) -> list[Request]:
        """Return a plain copy, for which all items are looked at."""
        return list(self)


def begin_to_decode(scheduler: Scheduler, num_requests: int) -> None:
    """Let requests come whose prompts are at most a block long, and run until each one decodes.

    Args:
        scheduler: A scheduler with room for them.
        num_requests: How many.
    """
    for number in range(num_requests):
        prompt = [number] * (1 + number % scheduler.kv_cache_manager.block_size)
        scheduler.add_request(Request(f"r{number}", prompt, max_tokens=100))
    while scheduler.waiting:
        output = scheduler.schedule()
        generating = [request.request_id for request in scheduler.generating(output)]
        scheduler.update_from_output(output, dict.fromkeys(generating, 7))


def work_of_a_plan(scheduler: Scheduler) -> dict[str, Any]:
    """Plan an iteration, and count what is done for it.

    Args:
        scheduler: The scheduler. Its list of running requests is a ``CountedList`` afterwards.

    Returns:
        The plan, by request; how many items of ``running`` were looked at; how often the manager
        was asked for slots.

    >>> from course_lib.kv_cache import KVCacheManager
    >>> from course_lib.scheduling import SchedulerConfig
    >>> scheduler = Scheduler(SchedulerConfig(), KVCacheManager(num_blocks=100))
    >>> begin_to_decode(scheduler, 32)
    >>> work = work_of_a_plan(scheduler)
    >>> len(work["plan"]), work["running requests looked at"], work["calls of allocate_slots"]
    (32, 32, 4)
    """
    counted = CountedList(scheduler.running)
    scheduler.running = counted
    manager, num_calls = scheduler.kv_cache_manager, 0
    allocate = manager.allocate_slots

    def allocate_counted(*args: Any, **kwargs: Any) -> Any:
        nonlocal num_calls
        num_calls += 1
        return allocate(*args, **kwargs)

    manager.allocate_slots = allocate_counted  # type: ignore[method-assign]
    try:
        output = scheduler.schedule()
    finally:
        del manager.allocate_slots
    return {
        "plan": dict(output.num_scheduled_tokens),
        "running requests looked at": counted.num_read,
        "calls of allocate_slots": num_calls,
    }

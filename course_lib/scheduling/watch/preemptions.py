"""A preemption, done and told in words: for lives without a model, and for tests."""

from __future__ import annotations

from course_lib.scheduling.request import Request
from course_lib.scheduling.scheduler import Scheduler, SchedulerOutput
from course_lib.scheduling.watch.iterations import run_iteration

Told = dict[str, str | int]
"""What happened, in words and numbers, by what they are of."""


class PreemptionNotes:
    """A log that notes who is preempted for whom, and what there was at that moment.

    Attributes:
        lines: A line for each preemption, in order.

    >>> from course_lib.kv_cache import KVCacheManager
    >>> from course_lib.scheduling import Request, SchedulerConfig
    >>> manager, notes = KVCacheManager(num_blocks=3, block_size=2), PreemptionNotes()
    >>> scheduler = Scheduler(SchedulerConfig(), manager, log=notes)
    >>> scheduler.add_request(Request("a", [5, 6], max_tokens=3))
    >>> scheduler.add_request(Request("b", [7], max_tokens=3))
    >>> for _ in range(2):
    ...     _ = run_iteration(scheduler)
    >>> notes.lines
    ['b for a, which is to compute 1; running: a b; free: 0']
    """

    def __init__(self) -> None:
        self.lines: list[str] = []

    def record_preemption(
        self, scheduler: Scheduler, victim: Request, winner: Request, num_new_tokens: int
    ) -> None:
        """Note who gives way to whom, who is in the batch, and how many blocks are free."""
        running = " ".join(request.request_id for request in scheduler.running)
        num_free = scheduler.kv_cache_manager.block_pool.get_num_free_blocks()
        self.lines.append(
            f"{victim.request_id} for {winner.request_id}, which is to compute {num_new_tokens}; "
            f"running: {running}; free: {num_free}"
        )

    def record_step(self, scheduler: Scheduler, output: SchedulerOutput) -> None:
        """Note nothing of a plan that is complete."""


def give_way(scheduler: Scheduler, request_id: str, num_tokens_ahead: int = 0) -> Told:
    """Serve the running requests as an iteration does, then preempt one of them and say what came.

    The request leaves ``running`` when everybody has been served, so it may have tokens in the plan
    already. Afterwards the plan is answered as a model would.

    Args:
        scheduler: The scheduler.
        request_id: Who is to give way. If it is not running by then, the plan is only answered.
        num_tokens_ahead: Tokens that were planned for it ahead, as by a scheduler that plans ahead.

    Returns:
        What went back to the budget, what the plan holds, what became of the victim, the pairs to
        be copied, the queues, and the free blocks, front first, with a star on those whose prefix
        can be found.

    >>> from course_lib.kv_cache import KVCacheManager
    >>> from course_lib.scheduling import Request, SchedulerConfig
    >>> scheduler = Scheduler(SchedulerConfig(), KVCacheManager(num_blocks=6, block_size=2))
    >>> for name in "ab":
    ...     scheduler.add_request(Request(name, [ord(name)] * 3, max_tokens=5))
    >>> _ = run_iteration(scheduler)
    >>> told = give_way(scheduler, "b")
    >>> told["back to the budget"], told["plan"], told["victim"], told["free"]
    (1, 'a:1', 'preempted 0/4', '4 5 3*')
    """
    return _given_way(scheduler, request_id, num_tokens_ahead, SchedulerOutput())


def give_way_in_a_full_plan(scheduler: Scheduler, request_id: str) -> Told:
    """Preempt as ``give_way`` does, in a plan that holds more than what is computed.

    The plan names a request that has ended since the last one, ``"gone"``, and a copy that is to be
    made of a block into itself, which changes nothing.

    Args:
        scheduler: The scheduler.
        request_id: Who is to give way.

    Returns:
        As ``give_way``; and what the plan holds besides in the end, and how many preemptions the
        scheduler has counted since a token was last generated.

    >>> from course_lib.kv_cache import KVCacheManager
    >>> from course_lib.scheduling import Request, SchedulerConfig
    >>> scheduler = Scheduler(SchedulerConfig(), KVCacheManager(num_blocks=6, block_size=2))
    >>> scheduler.add_request(Request("a", [5], max_tokens=5))
    >>> _ = run_iteration(scheduler)
    >>> told = give_way_in_a_full_plan(scheduler, "a")
    >>> told["ended"], told["copies"], told["fruitless"]
    ('gone', '0>0', 0)
    """
    output = SchedulerOutput(finished_req_ids={"gone"}, blocks_to_copy=[(0, 0)])
    return {
        **_given_way(scheduler, request_id, 0, output),
        "ended": " ".join(sorted(output.finished_req_ids)),
        "copies": _pairs(output.blocks_to_copy),
        "fruitless": scheduler.num_fruitless_preemptions,
    }


def terms_of(scheduler: Scheduler, request_id: str) -> Told:
    """Say what a request was made with, which nothing that happens to it may change.

    Args:
        scheduler: The scheduler.
        request_id: A request that is not finished.

    >>> from course_lib.kv_cache import KVCacheManager
    >>> from course_lib.scheduling import Request, SchedulerConfig
    >>> scheduler = Scheduler(SchedulerConfig(), KVCacheManager(num_blocks=6, block_size=2))
    >>> scheduler.add_request(Request("a", [5, 6], max_tokens=5, priority=1))
    >>> told = terms_of(scheduler, "a")
    >>> told["num_prompt_tokens"], told["max_tokens"], told["priority"]
    (2, 5, 1)
    """
    request = scheduler.requests[request_id]
    return {name: getattr(request, name) for name in _TERMS}


def _given_way(
    scheduler: Scheduler, request_id: str, num_tokens_ahead: int, output: SchedulerOutput
) -> Told:
    """Serve the running requests, preempt one of them, answer the plan, and say what came."""
    scheduler.serve_running(output, scheduler.max_num_batched_tokens)
    victims = [request for request in scheduler.running if request.request_id == request_id]
    told: Told = {}
    for victim in victims:
        scheduler.running.remove(victim)
        victim.num_tokens_ahead = num_tokens_ahead
        told = {"back to the budget": scheduler.preempt(victim, output), **_of(scheduler, output)}
        told["victim"] = f"{victim.status.value} {victim.num_computed_tokens}/{victim.num_tokens}"
        told["generated"] = len(victim.output_token_ids)
        told["num_preemptions"] = victim.num_preemptions
        told["num_tokens_ahead"] = victim.num_tokens_ahead
    _answer(scheduler, output)
    return told


def run_with_preemptions(scheduler: Scheduler) -> Told:
    """Plan an iteration, answer it, and say what was planned, who gave way, and what is free.

    Returns:
        As ``run_iteration``; and the pool afterwards as ``give_way`` tells it.

    >>> from course_lib.kv_cache import KVCacheManager
    >>> from course_lib.scheduling import Request, SchedulerConfig
    >>> scheduler = Scheduler(SchedulerConfig(), KVCacheManager(num_blocks=4, block_size=2))
    >>> for name in "ab":
    ...     scheduler.add_request(Request(name, [ord(name)] * 2, max_tokens=5))
    >>> _ = run_with_preemptions(scheduler)
    >>> run_with_preemptions(scheduler)["plan"]
    'a:1  | b!'
    """
    said = run_iteration(scheduler)
    queues = _of(scheduler, SchedulerOutput())
    return {**said, **{name: queues[name] for name in _QUEUES}}


def who_has_left(scheduler: Scheduler) -> Told:
    """Plan an iteration, answer it, and say of each victim where it was when it was preempted.

    >>> from course_lib.kv_cache import KVCacheManager
    >>> from course_lib.scheduling import Request, SchedulerConfig
    >>> scheduler = Scheduler(SchedulerConfig(), KVCacheManager(num_blocks=4, block_size=2))
    >>> for name in "ab":
    ...     scheduler.add_request(Request(name, [ord(name)] * 2, max_tokens=5))
    >>> _ = run_iteration(scheduler)
    >>> who_has_left(scheduler)
    {'b, when it was preempted': 'had left running'}
    """
    said: Told = {}
    preempt = scheduler.preempt

    def noted(victim: Request, output: SchedulerOutput) -> int:
        where = "was still in running" if victim in scheduler.running else "had left running"
        said[f"{victim.request_id}, when it was preempted"] = where
        return preempt(victim, output)

    vars(scheduler)["preempt"] = noted
    try:
        run_iteration(scheduler)
    finally:
        del vars(scheduler)["preempt"]
    return said


def free_blocks(scheduler: Scheduler) -> str:
    """Return the free blocks, the one to be handed out next first; a star marks a cached prefix."""
    queue = scheduler.kv_cache_manager.block_pool.free_block_queue
    return " ".join(f"{b.block_id}{'*' if b.block_hash is not None else ''}" for b in queue)


_QUEUES = ("waiting", "swapped", "free")

_TERMS = (
    "num_prompt_tokens",
    "max_tokens",
    "priority",
    "arrival_time",
    "eos_token_id",
    "cache_salt",
    "client_id",
    "deadline",
    "lora_id",
    "length_limit",
)


def _of(scheduler: Scheduler, output: SchedulerOutput) -> Told:
    """Return what is told of a plan and of the state it leaves."""
    plan = (f"{name}:{number}" for name, number in output.num_scheduled_tokens.items())
    return {
        "plan": " ".join(plan),
        "preempted": " ".join(sorted(map(_name, output.preempted_req_ids))),
        "swap out": _pairs(output.blocks_to_swap_out),
        "waiting": " ".join(request.request_id for request in scheduler.waiting),
        "swapped": " ".join(request.request_id for request in scheduler.swapped),
        "free": free_blocks(scheduler),
    }


def _name(noted: object) -> str:
    """Write what stands in a set of ids; of what is no id, only what it is."""
    return noted if isinstance(noted, str) else f"a {type(noted).__name__}"


def _pairs(blocks: list[tuple[int, int]]) -> str:
    """Write copies, from where to where."""
    return " ".join(f"{source}>{destination}" for source, destination in blocks)


def _answer(scheduler: Scheduler, output: SchedulerOutput) -> None:
    """Give a token to everybody whom the plan computes up to the last known one."""
    planned = {name for name in output.num_scheduled_tokens if name in scheduler.requests}
    caught_up = (request for request in scheduler.running if request.request_id in planned)
    sampled: dict[str, int | list[int]] = {
        request.request_id: 7
        for request in caught_up
        if request.num_computed_tokens >= request.num_tokens
    }
    scheduler.update_from_output(output, sampled)

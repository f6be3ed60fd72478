"""What no plan may do, whatever the policy: one small function per law.

The laws leave free what a scheduler is free to choose: whom it serves first, whom it preempts, whom
it lets wait although there were room.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator

from course_lib.scheduling.scheduler import SchedulerOutput
from course_lib.scheduling.watch.state import SchedulerState

PlanLaw = Callable[[SchedulerState, SchedulerOutput, SchedulerState], Iterator[str]]
"""Takes the state before, the plan, and the state after; yields what is wrong, in words."""


def plan_violations(
    before: SchedulerState, output: SchedulerOutput, after: SchedulerState
) -> list[str]:
    """Return every law that a plan breaks, in words; an empty list if it keeps them all.

    Args:
        before: The state of the scheduler just before ``schedule``.
        output: The plan that it returned.
        after: Its state right after, before any ``update_from_output``.

    >>> from course_lib.kv_cache import KVCacheManager
    >>> from course_lib.scheduling import Request, Scheduler, SchedulerConfig
    >>> config = SchedulerConfig(max_num_batched_tokens=16)
    >>> scheduler = Scheduler(config, KVCacheManager(num_blocks=10))
    >>> scheduler.add_request(Request("a", range(20), max_tokens=2))
    >>> before = SchedulerState.of(scheduler)
    >>> output = scheduler.schedule()
    >>> plan_violations(before, output, SchedulerState.of(scheduler))
    []
    >>> output.num_scheduled_tokens["a"] = 20
    >>> for violation in plan_violations(before, output, SchedulerState.of(scheduler)):
    ...     print(violation)
    20 tokens are planned; the budget is 16
    total_num_scheduled_tokens is 16; the tokens planned are 20
    'a' is to compute 20 tokens, but its computed tokens moved from 0 to 16
    """
    return [text for law in PLAN_LAWS for text in law(before, output, after)]


def breaks_the_budget(
    before: SchedulerState, output: SchedulerOutput, after: SchedulerState
) -> Iterator[str]:
    """An iteration computes at most ``max_num_batched_tokens`` tokens, and says how many."""
    num_planned = sum(output.num_scheduled_tokens.values())
    if num_planned > before.max_num_batched_tokens:
        yield f"{num_planned} tokens are planned; the budget is {before.max_num_batched_tokens}"
    if output.total_num_scheduled_tokens != num_planned:
        yield (
            f"total_num_scheduled_tokens is {output.total_num_scheduled_tokens}; "
            f"the tokens planned are {num_planned}"
        )


def overfills_the_batch(
    before: SchedulerState, output: SchedulerOutput, after: SchedulerState
) -> Iterator[str]:
    """Nobody starts in a batch of ``max_num_seqs`` requests or more."""
    num_running, limit = len(after.running), before.max_num_seqs
    if num_running > limit and admitted(before, after):
        yield f"{num_running} requests run; max_num_seqs is {limit}"


def plans_for_others(
    before: SchedulerState, output: SchedulerOutput, after: SchedulerState
) -> Iterator[str]:
    """Only who runs after the plan computes anything, and at least one token."""
    for request_id, num_tokens in output.num_scheduled_tokens.items():
        if request_id not in after.running:
            yield f"{request_id!r} is to compute {num_tokens} tokens, but is not running"
        if num_tokens < 1:
            yield f"{request_id!r} is to compute {num_tokens} tokens; leave out who gets none"


def miscounts_computed_tokens(
    before: SchedulerState, output: SchedulerOutput, after: SchedulerState
) -> Iterator[str]:
    """Computed tokens move ahead by what is planned, and not beyond what is known or ahead.

    Who starts anew may have found some of its tokens in the prefix cache besides.
    """
    for request_id in after.running:
        old, new = before.requests.get(request_id), after.requests.get(request_id)
        if old is None or new is None:
            continue
        num_tokens = output.num_scheduled_tokens.get(request_id, 0)
        moved = new.num_computed_tokens - old.num_computed_tokens
        may_have_hits = request_id in before.waiting
        if moved < num_tokens or (moved > num_tokens and not may_have_hits):
            yield (
                f"{request_id!r} is to compute {num_tokens} tokens, but its computed tokens "
                f"moved from {old.num_computed_tokens} to {new.num_computed_tokens}"
            )
        if new.num_computed_tokens > old.num_computed_tokens + old.num_lacking:
            yield (
                f"{request_id!r} has {new.num_computed_tokens} tokens computed, "
                f"but only {old.num_computed_tokens + old.num_lacking} to compute"
            )


def keeps_victims(
    before: SchedulerState, output: SchedulerOutput, after: SchedulerState
) -> Iterator[str]:
    """Who is preempted ran before, does not run any more, and computes nothing."""
    for request_id in sorted(output.preempted_req_ids):
        if request_id not in before.running:
            yield f"{request_id!r} is preempted, but was not running"
        if request_id in after.running:
            yield f"{request_id!r} is preempted, but still runs"
        if request_id in output.num_scheduled_tokens:
            yield f"{request_id!r} is preempted, but is to compute tokens"


def hides_victims(
    before: SchedulerState, output: SchedulerOutput, after: SchedulerState
) -> Iterator[str]:
    """Whoever ran before and does not run any more is named as preempted."""
    for request_id in before.running:
        if request_id not in after.running and request_id not in output.preempted_req_ids:
            yield f"{request_id!r} does not run any more, but is not named as preempted"


def admits_after_preempting(
    before: SchedulerState, output: SchedulerOutput, after: SchedulerState
) -> Iterator[str]:
    """In an iteration that preempts, nobody starts."""
    if output.preempted_req_ids:
        for request_id in admitted(before, after):
            yield f"{request_id!r} starts in an iteration that preempts"


def loses_requests(
    before: SchedulerState, output: SchedulerOutput, after: SchedulerState
) -> Iterator[str]:
    """Every request is in exactly one of ``waiting``, ``running`` and ``swapped``."""
    places = Counter([*after.waiting, *after.running, *after.swapped])
    for request_id in [*before.requests, *(name for name in places if name not in before.requests)]:
        num_places = places[request_id]
        if num_places != 1:
            yield f"{request_id!r} is in {num_places} queues; it must be in exactly one"


def skips_who_runs(
    before: SchedulerState, output: SchedulerOutput, after: SchedulerState
) -> Iterator[str]:
    """As long as there is budget, everybody who runs and lacks tokens gets some."""
    num_left = before.max_num_batched_tokens - sum(output.num_scheduled_tokens.values())
    for request_id in before.running:
        is_served = request_id in output.num_scheduled_tokens
        is_running = request_id in after.running
        num_lacking = before.requests[request_id].num_lacking
        if num_left > 0 and num_lacking > 0 and is_running and not is_served:
            yield (
                f"{request_id!r} lacks {num_lacking} tokens and gets none, with {num_left} tokens "
                "of the budget left"
            )


PLAN_LAWS: tuple[PlanLaw, ...] = (
    breaks_the_budget,
    overfills_the_batch,
    plans_for_others,
    miscounts_computed_tokens,
    keeps_victims,
    hides_victims,
    admits_after_preempting,
    loses_requests,
    skips_who_runs,
)
"""What a plan may not do."""


def admitted(before: SchedulerState, after: SchedulerState) -> list[str]:
    """Return who runs after a plan and did not before, in order of admission."""
    return [request_id for request_id in after.running if request_id not in before.running]

"""A loop around a scheduler, with as many plans on their way as you like, and no model."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator

from course_lib.scheduling.request import Request
from course_lib.scheduling.scheduler import Scheduler, SchedulerOutput

NextToken = Callable[[Request, int], int]
"""Takes a request and how many tokens were generated for it; returns the next one."""


def run_plans(
    scheduler: Scheduler, next_token: NextToken, *, max_in_flight: int = 1
) -> Iterator[SchedulerOutput]:
    """Plan iterations until no request is left, and answer each as a model would.

    Up to ``max_in_flight`` plans are made before the oldest is answered: 1 for a plain scheduler, 2
    for one that plans ahead. Each plan is yielded as soon as it is made; requests can be added or
    aborted then. A request gets a token from a plan that computes it up to its last token, those
    still on their way included. Drafts are all rejected.

    Args:
        scheduler: The scheduler, with requests.
        next_token: Gives the tokens.
        max_in_flight: Plans that may be on their way, at least 1.

    Yields:
        Every plan, also one that computes nothing because all that is left is on its way.

    Raises:
        ValueError: ``max_in_flight`` is less than 1.
        RuntimeError: Nothing is planned and nothing is on its way, but requests are left.

    >>> from course_lib.kv_cache import KVCacheManager
    >>> from course_lib.scheduling import AsyncScheduler, SchedulerConfig
    >>> scheduler = AsyncScheduler(SchedulerConfig(), KVCacheManager(num_blocks=10))
    >>> scheduler.add_request(Request("a", range(20), max_tokens=3))
    >>> plans = run_plans(scheduler, lambda request, num_generated: 7, max_in_flight=2)
    >>> [plan.num_scheduled_tokens for plan in plans]
    [{'a': 20}, {'a': 1}, {'a': 1}, {}]
    """
    if max_in_flight < 1:
        raise ValueError(f"max_in_flight is {max_in_flight}; at least 1 plan is on its way")
    in_flight: deque[tuple[SchedulerOutput, dict[str, int | list[int]]]] = deque()
    while scheduler.has_unfinished_requests() or in_flight:
        if scheduler.has_unfinished_requests():
            output = scheduler.schedule()
            if not output.num_scheduled_tokens and not output.preempted_req_ids and not in_flight:
                raise RuntimeError(
                    f"nothing is planned for {len(scheduler.requests)} unfinished requests"
                )
            in_flight.append((output, sampled_tokens(scheduler, output, next_token)))
            yield output
        if len(in_flight) >= max_in_flight or not scheduler.has_unfinished_requests():
            scheduler.update_from_output(*in_flight.popleft())


def sampled_tokens(
    scheduler: Scheduler, output: SchedulerOutput, next_token: NextToken
) -> dict[str, int | list[int]]:
    """Return the tokens that a model would give for the plan that was just made.

    Args:
        scheduler: The scheduler, which has planned nothing since.
        output: The plan.
        next_token: Gives the tokens. Drafts are all rejected.
    """
    sampled: dict[str, int | list[int]] = {}
    for request_id in output.num_scheduled_tokens:
        request = scheduler.requests[request_id]
        num_computed, num_ahead = request.num_computed_tokens, request.num_tokens_ahead
        # One that is ahead may be the placeholder of the very token that is sampled here.
        if num_computed >= request.num_tokens + max(num_ahead - 1, 0):
            position = min(num_computed, request.num_tokens + num_ahead)
            sampled[request_id] = next_token(request, position - request.num_prompt_tokens)
    return sampled

"""The world before continuous batching: a batch is formed, and runs until its last request ends."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

from course_lib.scheduling.request import RequestStatus
from course_lib.simulation.cost_model import CostModel, IterationWork
from course_lib.simulation.metrics import TokenLog
from course_lib.simulation.simulator import RequestOutcome, SimulationResult
from course_lib.simulation.step_table import Step, StepTable
from course_lib.simulation.workload import TraceRequest


def simulate_static(
    requests: Sequence[TraceRequest],
    cost_model: CostModel,
    batch_size: int,
    *,
    similar: Callable[[TraceRequest], float] | None = None,
) -> SimulationResult:
    """Serve requests in batches that nobody joins or leaves, on a virtual clock.

    When a batch ends, the next one takes up to ``batch_size`` of the requests that are waiting. Its
    first iteration computes all prompts, each further one a token for every request that is not at
    its end. The slot of a request that is at its end stays idle until the whole batch is.

    This flatters the baseline: there is always memory enough, idle slots and padding cost nothing,
    and users see each token at once, not the whole answer when the batch ends.

    Args:
        requests: The requests, in order of arrival.
        cost_model: Tells how long an iteration takes.
        batch_size: Slots of a batch.
        similar: Orders the waiting requests before a batch is taken from them, so that similar ones
            share a batch; None for order of arrival.

    Returns:
        What was measured. In ``steps``, ``num_running`` is the slots that the batch holds,
        ``num_requests`` those that are not idle; ``kv_usage`` is NaN.

    Raises:
        ValueError: ``batch_size`` is less than 1.

    >>> from course_lib.simulation import ConstantCostModel
    >>> three = [TraceRequest(0.0, 10, 1), TraceRequest(0.0, 10, 4), TraceRequest(0.0, 10, 1)]
    >>> simulate_static(three, ConstantCostModel(1.0), batch_size=2).e2e.tolist()
    [1.0, 4.0, 5.0]
    """
    if batch_size < 1:
        raise ValueError(f"batch_size is {batch_size}; a batch has at least 1 slot")
    clock, num_seen = 0.0, 0
    waiting: list[int] = []
    steps: list[Step] = []
    token_times: list[list[float]] = [[] for _ in requests]
    starts = [math.nan] * len(requests)
    while waiting or num_seen < len(requests):
        if not waiting:
            clock = max(clock, requests[num_seen].arrival_time)
        while num_seen < len(requests) and requests[num_seen].arrival_time <= clock:
            waiting.append(num_seen)
            num_seen += 1
        if similar is not None:
            waiting.sort(key=lambda index: similar(requests[index]))
        batch, waiting = waiting[:batch_size], waiting[batch_size:]
        for index in batch:
            starts[index] = clock
        clock = _run_batch(batch, requests, cost_model, clock, len(waiting), token_times, steps)
    outcomes = tuple(
        RequestOutcome(
            request_id=str(index),
            client_id=request.client_id,
            arrival_time=request.arrival_time,
            prompt_tokens=request.prompt_tokens,
            output_tokens=request.output_tokens,
            first_scheduled_time=starts[index],
            num_cached_tokens=0,
            num_preemptions=0,
            status=RequestStatus.FINISHED_LENGTH_CAPPED,
            finish_reason="",
        )
        for index, request in enumerate(requests)
    )
    return SimulationResult(outcomes, TokenLog.from_lists(token_times), StepTable(steps))


def _run_batch(
    batch: list[int],
    requests: Sequence[TraceRequest],
    cost_model: CostModel,
    clock: float,
    num_waiting: int,
    token_times: list[list[float]],
    steps: list[Step],
) -> float:
    """Run a batch to its end; return when that is."""
    active, num_done = batch, 0
    while active:
        rows = [
            (1, requests[i].prompt_tokens + num_done - 1)
            if num_done
            else (requests[i].prompt_tokens, 0)
            for i in active
        ]
        work = IterationWork.of_batch(rows)
        seconds = cost_model.seconds(work)
        num_done += 1
        still_active = [i for i in active if requests[i].output_tokens > num_done]
        steps.append(
            Step(
                start=clock,
                seconds=seconds,
                num_tokens=work.num_tokens,
                num_requests=len(active),
                num_sampled=len(active),
                num_prefill_tokens=work.num_tokens if num_done == 1 else 0,
                num_running=len(batch),
                num_waiting=num_waiting,
                num_admitted=len(batch) if num_done == 1 else 0,
                num_finished=len(active) - len(still_active),
                attended_tokens=work.attended_tokens,
                context_tokens=work.context_tokens,
                kv_usage=math.nan,
            )
        )
        clock += seconds
        for i in active:
            token_times[i].append(clock)
        active = still_active
    return clock

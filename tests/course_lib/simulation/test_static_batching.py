"""Static batching: a batch runs until its last request ends, and nobody joins it.

The exact figures below are those of a loop of its own that formed batches and ran them to their
end; the scheduler that admits only when nobody runs gives the same to the last bit.
"""

from collections.abc import Sequence

import numpy as np
import pytest

from course_lib.kv_cache import expected_static_utilization
from course_lib.scheduling import RequestQueue, SchedulerConfig, StaticBatchingScheduler
from course_lib.simulation import (
    ConstantCostModel,
    CostModel,
    RooflineCostModel,
    SimulationResult,
    TraceRequest,
    Workload,
    geometric_lengths,
    simulate,
)
from course_lib.simulation.experiments import FewestOutputTokens
from course_lib.specs import GPUS, MODELS

SECOND = ConstantCostModel(1.0)


def static(
    requests: Sequence[TraceRequest],
    batch_size: int,
    cost_model: CostModel = SECOND,
    policy: str | type[RequestQueue] = "fcfs",
) -> SimulationResult:
    """Serve requests in static batches, with room and budget for everything."""
    no_limit = sum(request.prompt_tokens + request.output_tokens for request in requests)
    config = SchedulerConfig(
        max_num_seqs=batch_size, max_num_batched_tokens=no_limit, policy=policy
    )
    return simulate(
        requests, config, cost_model, no_limit + 2, scheduler_class=StaticBatchingScheduler
    )


def test_nobody_joins_a_batch_and_slots_stay_idle() -> None:
    requests = [TraceRequest(0, 9, 2), TraceRequest(0, 9, 5), TraceRequest(1, 9, 1)]
    result = static(requests, batch_size=2)
    assert result.ttft.tolist() == [1.0, 1.0, 5.0]
    assert result.e2e.tolist() == [2.0, 5.0, 5.0]
    assert result.steps.places().tolist() == [2, 2, 2, 2, 2, 1]
    assert result.steps.column("num_requests").tolist() == [2, 2, 1, 1, 1, 1]
    assert result.summary()["slot_use"] == pytest.approx(8 / 11)


def test_outputs_of_six_requests_on_three_seats() -> None:
    requests = [TraceRequest(0, 9, n) for n in (2, 7, 3, 5, 1, 4)]
    result = static(requests, batch_size=3)
    assert (result.makespan, result.ttft.mean()) == (12.0, 4.5)
    assert result.steps.places().sum() - result.steps.column("num_requests").sum() == 14
    continuous = simulate(requests, SchedulerConfig(max_num_seqs=3), SECOND, num_blocks=100)
    assert (continuous.makespan, continuous.ttft.mean()) == (8.0, 2.5)


def test_an_idle_system_waits_for_the_next_arrival() -> None:
    result = static([TraceRequest(0, 9, 1), TraceRequest(7, 9, 1)], batch_size=4)
    assert result.ttft.tolist() == [1.0, 1.0]


def test_similar_requests_share_a_batch() -> None:
    requests = [TraceRequest(0, 9, n) for n in (1, 5, 1, 5)]
    in_order = static(requests, batch_size=2)
    sorted_ = static(requests, batch_size=2, policy=FewestOutputTokens)
    assert (in_order.makespan, sorted_.makespan) == (10.0, 6.0)


@pytest.mark.parametrize("batch_size", [4, 16])
def test_exponential_lengths_fill_one_over_harmonic_number_of_the_slots(batch_size: int) -> None:
    outputs = geometric_lengths(mean=200, n=100 * batch_size, seed=1)
    zeros = [0.0] * len(outputs)
    workload = Workload.from_columns("x", zeros, [1] * len(outputs), outputs)
    result = static(workload, batch_size)
    assert result.summary()["slot_use"] == pytest.approx(
        expected_static_utilization(batch_size), rel=0.05
    )


def test_a_batch_of_one_is_what_the_scheduler_does_with_one_sequence() -> None:
    requests = [TraceRequest(0.5 * i, 10 + i, 1 + i % 4) for i in range(20)]
    continuous = simulate(requests, SchedulerConfig(max_num_seqs=1), SECOND, num_blocks=100)
    assert static(requests, batch_size=1).e2e.tolist() == continuous.e2e.tolist()


@pytest.mark.parametrize("batch_size", [1, 3, 8])
def test_batches_worked_out_one_after_the_other(batch_size: int) -> None:
    rng = np.random.default_rng(batch_size)
    arrivals = np.cumsum(rng.exponential(1.0, size=60)).tolist()
    outputs = rng.integers(1, 9, size=60).tolist()
    requests = [TraceRequest(t, 5, n) for t, n in zip(arrivals, outputs, strict=True)]
    ends, clock, first = [0.0] * 60, 0.0, 0
    while first < 60:
        clock = max(clock, arrivals[first])
        last = first
        while last < 60 and last < first + batch_size and arrivals[last] <= clock:
            ends[last] = clock + requests[last].output_tokens
            last += 1
        clock, first = max(ends[first:last]), last
    got = static(requests, batch_size)
    assert (got.e2e + np.array(arrivals)).tolist() == pytest.approx(ends)


def test_a_budget_of_one_iteration_bounds_the_batch() -> None:
    requests = [TraceRequest(0, 9, 2) for _ in range(4)]
    config = SchedulerConfig(max_num_seqs=4, max_num_batched_tokens=18)
    result = simulate(requests, config, SECOND, 100, scheduler_class=StaticBatchingScheduler)
    assert result.ttft.tolist() == [1.0, 1.0, 3.0, 3.0]


@pytest.mark.parametrize(
    ("policy", "makespan", "e2e_mean", "slot_use"),
    [
        ("fcfs", 88.64371253949757, 10.677160294192724, 0.25761728125681865),
        (FewestOutputTokens, 77.43851957530542, 6.983910837320195, 0.3793358265540862),
    ],
)
def test_the_figures_of_the_loop_that_formed_batches(
    policy: str | type[RequestQueue], makespan: float, e2e_mean: float, slot_use: float
) -> None:
    rng = np.random.default_rng(5)
    arrivals = np.cumsum(rng.exponential(0.2, 300))
    prompts = np.ceil(rng.lognormal(6, 1, 300)).astype(int)
    outputs = np.ceil(rng.exponential(200, 300)).astype(int)
    workload = Workload.from_columns("x", arrivals.tolist(), prompts.tolist(), outputs.tolist())
    cost_model = RooflineCostModel(MODELS["llama-3.1-8b"], GPUS["a100-80gb"])
    result = static(workload, 32, cost_model, policy)
    assert result.makespan == pytest.approx(makespan, rel=1e-9)
    assert result.e2e.mean() == pytest.approx(e2e_mean, rel=1e-9)
    assert result.summary()["slot_use"] == pytest.approx(slot_use, rel=1e-9)

"""Static batching: a batch runs until its last request ends, and nobody joins it."""

import pytest

from course_lib.kv_cache import expected_static_utilization
from course_lib.scheduling import SchedulerConfig
from course_lib.simulation import (
    ConstantCostModel,
    TraceRequest,
    Workload,
    geometric_lengths,
    simulate,
    simulate_static,
)

SECOND = ConstantCostModel(1.0)


def test_nobody_joins_a_batch_and_slots_stay_idle() -> None:
    requests = [TraceRequest(0, 9, 2), TraceRequest(0, 9, 5), TraceRequest(1, 9, 1)]
    result = simulate_static(requests, SECOND, batch_size=2)
    assert result.ttft.tolist() == [1.0, 1.0, 5.0]
    assert result.e2e.tolist() == [2.0, 5.0, 5.0]
    assert result.steps.column("num_running").tolist() == [2, 2, 2, 2, 2, 1]
    assert result.steps.column("num_requests").tolist() == [2, 2, 1, 1, 1, 1]
    assert result.summary()["slot_use"] == pytest.approx(8 / 11)


def test_an_idle_system_waits_for_the_next_arrival() -> None:
    result = simulate_static([TraceRequest(0, 9, 1), TraceRequest(7, 9, 1)], SECOND, batch_size=4)
    assert result.ttft.tolist() == [1.0, 1.0]


def test_similar_requests_share_a_batch() -> None:
    requests = [TraceRequest(0, 9, n) for n in (1, 5, 1, 5)]
    in_order = simulate_static(requests, SECOND, batch_size=2)
    sorted_ = simulate_static(
        requests, SECOND, batch_size=2, similar=lambda request: request.output_tokens
    )
    assert (in_order.makespan, sorted_.makespan) == (10.0, 6.0)


@pytest.mark.parametrize("batch_size", [8, 32])
def test_exponential_lengths_fill_one_over_harmonic_number_of_the_slots(batch_size: int) -> None:
    outputs = geometric_lengths(mean=200, n=100 * batch_size, seed=1)
    zeros = [0.0] * len(outputs)
    workload = Workload.from_columns("x", zeros, [1] * len(outputs), outputs)
    result = simulate_static(workload, SECOND, batch_size)
    assert result.summary()["slot_use"] == pytest.approx(
        expected_static_utilization(batch_size), rel=0.05
    )


def test_a_batch_of_one_is_what_the_scheduler_does_with_one_sequence() -> None:
    requests = [TraceRequest(0.5 * i, 10 + i, 1 + i % 4) for i in range(20)]
    static = simulate_static(requests, SECOND, batch_size=1)
    continuous = simulate(requests, SchedulerConfig(max_num_seqs=1), SECOND, num_blocks=100)
    assert static.e2e.tolist() == continuous.e2e.tolist()


def test_there_must_be_a_slot() -> None:
    with pytest.raises(ValueError, match="batch_size is 0"):
        simulate_static([], SECOND, batch_size=0)

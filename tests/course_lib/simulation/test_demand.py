"""What a request asks of a GPU, and how many GPUs many requests ask for."""

from __future__ import annotations

import numpy as np
import pytest

from course_lib.queueing import MG1PS, servers_by_simulation
from course_lib.scheduling import SchedulerConfig
from course_lib.simulation import (
    ConstantCostModel,
    RooflineCostModel,
    TraceRequest,
    Workload,
    poisson_arrivals,
    service_demand,
    simulate,
    simulate_replicas,
    split_among_replicas,
    synthetic_azure,
)
from course_lib.specs import GPUS, MODELS

ROOFLINE = RooflineCostModel(MODELS["llama-3.1-8b"], GPUS["a100-80gb"])
CONFIG = SchedulerConfig(max_num_seqs=256)
BLOCKS = 30_024


def at_rate(rate: float, n: int) -> Workload:
    """Requests of the synthetic trace that arrive as a Poisson process."""
    lengths = synthetic_azure()[:n]
    return Workload.from_columns(
        "x",
        poisson_arrivals(rate, n),
        [r.prompt_tokens for r in lengths],
        [r.output_tokens for r in lengths],
    )


class TestDemand:
    def test_alone_is_what_the_simulator_says_of_a_request_that_is_alone(self) -> None:
        lengths = [(1, 1), (1, 2), (100, 1), (2048, 5), (2049, 5), (7000, 40)]
        requests = [TraceRequest(1000.0 * i, *each) for i, each in enumerate(lengths)]
        result = simulate(requests, CONFIG, ROOFLINE, BLOCKS)
        demand = service_demand(requests, ROOFLINE)
        assert demand.alone.tolist() == pytest.approx(result.e2e.tolist())

    def test_what_is_shared_is_reading_the_weights_while_decoding(self) -> None:
        requests = [TraceRequest(0.0, 1000, 1), TraceRequest(0.0, 1000, 101)]
        demand = service_demand(requests, ROOFLINE)
        read_weights = ROOFLINE.model.weight_bytes / (GPUS["a100-80gb"].memory_bandwidth * 0.93)
        shared = demand.alone - demand.own
        assert shared.tolist() == pytest.approx([0.0, 100 * read_weights])

    def test_means_of_the_trace(self) -> None:
        demand = service_demand(synthetic_azure()[:3000], ROOFLINE)
        assert demand.own.mean() < demand.alone.mean() / 15

    @pytest.mark.parametrize("rate", [1.0, 2.0, 4.0])
    def test_the_shared_load_tells_the_response(self, rate: float) -> None:
        workload = at_rate(rate, 1500)
        alone, own = (each.mean() for each in service_demand(workload, ROOFLINE))
        measured = simulate(workload, CONFIG, ROOFLINE, BLOCKS).e2e.mean()
        assert MG1PS(rate, own).mean_response_of(alone) == pytest.approx(measured, rel=0.06)
        if rate >= 1.0:
            assert rate * alone > 1  # served one by one, they would wait for ever

    def test_no_requests_ask_for_nothing(self) -> None:
        assert [len(each) for each in service_demand([], ROOFLINE)] == [0, 0]

    def test_misuse_is_named(self) -> None:
        with pytest.raises(ValueError, match="max_num_batched_tokens is 0"):
            service_demand([], ROOFLINE, max_num_batched_tokens=0)


class TestReplicas:
    def test_every_request_goes_to_one(self) -> None:
        workload = at_rate(5.0, 1000)
        parts = split_among_replicas(workload, 4)
        assert sorted(r.arrival_time for part in parts for r in part) == [
            r.arrival_time for r in workload
        ]
        assert all(200 < len(part) < 300 for part in parts)
        gaps = np.diff([request.arrival_time for request in parts[0]])
        assert gaps.std() / gaps.mean() == pytest.approx(1.0, abs=0.1)

    def test_one_replica_is_one_engine(self) -> None:
        workload = at_rate(5.0, 100)
        (result,) = simulate_replicas(workload, 1, CONFIG, ROOFLINE, BLOCKS)
        assert result.e2e.tolist() == simulate(workload, CONFIG, ROOFLINE, BLOCKS).e2e.tolist()

    def test_some_may_get_nothing(self) -> None:
        results = simulate_replicas(at_rate(5.0, 2), 9, CONFIG, ConstantCostModel(1.0), 1000)
        assert sum(len(result.requests) for result in results) == 2

    def test_the_fewest_for_a_target_are_found(self) -> None:
        workload = at_rate(40.0, 1500)

        def ttft(num_replicas: int) -> np.ndarray:
            results = simulate_replicas(workload, num_replicas, CONFIG, ROOFLINE, BLOCKS)
            return np.concatenate([result.ttft for result in results])

        plan = servers_by_simulation(ttft, q=0.99, target=0.5)
        # By S as a service time it would be over 70, by D alone 4.
        assert 5 <= plan.servers <= 12

    def test_misuse_is_named(self) -> None:
        with pytest.raises(ValueError, match="num_replicas is 0"):
            split_among_replicas(at_rate(1.0, 3), 0)

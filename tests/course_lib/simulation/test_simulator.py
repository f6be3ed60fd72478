"""The simulator: one scheduler on a virtual clock, and what it measures."""

import json
import math
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from course_lib.kv_cache import KVCacheManager
from course_lib.queueing import MG1, littles_law
from course_lib.scheduling import (
    Request,
    RequestStatus,
    Scheduler,
    SchedulerConfig,
    SchedulerOutput,
)
from course_lib.simulation import (
    ClosedLoop,
    ConstantCostModel,
    IterationWork,
    RooflineCostModel,
    ServiceLevel,
    SimulationError,
    Simulator,
    TraceRequest,
    Workload,
    geometric_lengths,
    load_azure,
    poisson_arrivals,
    simulate,
)
from course_lib.specs import GPUS, MODELS

SECOND = ConstantCostModel(1.0)
ROOFLINE = RooflineCostModel(MODELS["llama-3.1-8b"], GPUS["rtx-4090"])


def _trace(*requests: tuple[float, int, int]) -> list[TraceRequest]:
    return [TraceRequest(*request) for request in requests]


class RecordingCostModel:
    """Takes a second per iteration, and remembers what there was to do."""

    def __init__(self) -> None:
        self.work: list[IterationWork] = []

    def seconds(self, work: IterationWork) -> float:
        self.work.append(work)
        return 1.0


class TestClock:
    def test_latencies_of_a_worked_example(self) -> None:
        # Budget 10: prompt a takes iterations 1 and 2, b joins in the third.
        config = SchedulerConfig(max_num_batched_tokens=10)
        result = simulate(_trace((0.0, 20, 3), (1.5, 5, 2)), config, SECOND, num_blocks=10)
        assert result.ttft.tolist() == [2.0, 1.5]
        assert result.e2e.tolist() == [4.0, 2.5]
        assert result.tpot.tolist() == [1.0, 1.0]
        assert result.itl.tolist() == [1.0, 1.0, 1.0]
        assert result.queue_time.tolist() == [0.0, 0.5]
        assert result.makespan == 4.0
        assert result.steps.column("num_tokens").tolist() == [10, 10, 6, 2]
        assert result.steps.column("num_sampled").tolist() == [0, 1, 2, 2]

    def test_the_clock_jumps_over_idle_time(self) -> None:
        result = simulate(_trace((5.0, 4, 1), (100.0, 4, 1)), SchedulerConfig(), SECOND, 10)
        assert result.steps.column("start").tolist() == [5.0, 100.0]
        assert result.makespan == 96.0

    def test_who_arrives_during_an_iteration_waits_for_the_next(self) -> None:
        result = simulate(_trace((0.0, 4, 3), (0.001, 4, 1)), SchedulerConfig(), SECOND, 10)
        assert result.queue_time[1] == pytest.approx(0.999)

    def test_the_order_given_need_not_be_that_of_arrival(self) -> None:
        requests = [
            Request(name, [1, 2], 1, arrival_time=t) for name, t in (("b", 9.0), ("a", 1.0))
        ]
        result = simulate(requests, SchedulerConfig(), SECOND, 10)
        assert [outcome.request_id for outcome in result.requests] == ["b", "a"]
        assert result.arrival_times.tolist() == [9.0, 1.0]
        assert result.ttft.tolist() == [1.0, 1.0]

    def test_no_requests_is_no_time(self) -> None:
        result = simulate([], SchedulerConfig(), SECOND, 10)
        assert (result.makespan, len(result.steps), len(result.ttft)) == (0.0, 0, 0)
        assert math.isnan(result.summary()["ttft_mean"])
        assert result.goodput(ServiceLevel()) == 0.0


class TestWork:
    def test_what_is_computed_adds_up_request_by_request(self) -> None:
        cost_model = RecordingCostModel()
        config = SchedulerConfig(max_num_batched_tokens=10)
        simulate(_trace((0.0, 20, 3), (1.5, 5, 2)), config, cost_model, num_blocks=10)
        assert cost_model.work == [
            IterationWork.of_batch(rows)
            for rows in ([(10, 0)], [(10, 10)], [(1, 20), (5, 0)], [(1, 21), (1, 5)])
        ]

    def test_swapped_blocks_are_told_to_the_cost_model(self) -> None:
        cost_model = RecordingCostModel()
        config = SchedulerConfig(preemption_mode="swap", num_cpu_blocks=100)
        requests = _trace((0.0, 30, 20), (0.0, 30, 20))
        result = simulate(requests, config, cost_model, num_blocks=6)
        assert result.num_preemptions > 0
        assert result.num_recomputed_tokens == 0
        swapped = [work.swapped_tokens for work in cost_model.work]
        assert sum(swapped) == 16 * result.steps.column("num_swapped_blocks").sum() > 0

    def test_recomputed_tokens_are_those_computed_twice(self) -> None:
        cost_model = RecordingCostModel()
        result = simulate(_trace((0.0, 30, 20), (0.0, 30, 20)), SchedulerConfig(), cost_model, 6)
        assert result.num_preemptions > 0
        computed = sum(work.num_tokens for work in cost_model.work)
        assert result.num_recomputed_tokens == computed - 2 * (30 + 20 - 1) > 0


SHARED_PREFIX = [TraceRequest(10.0 * i, 1100, 2, hash_ids=(7, 8, 9 + i)) for i in range(3)]


class TestCaching:
    def test_equal_hash_ids_are_found_in_the_cache(self) -> None:
        result = simulate(SHARED_PREFIX, SchedulerConfig(), SECOND, 500, enable_caching=True)
        assert [r.num_cached_tokens for r in result.requests] == [0, 1024, 1024]
        assert result.num_recomputed_tokens == 0
        assert result.summary()["prefix_hit_rate"] == 2048 / 3300

    def test_who_finds_its_own_blocks_again_is_no_hit(self) -> None:
        config = SchedulerConfig(max_num_seqs=2)
        two = _trace((0.0, 40, 60), (0.0, 40, 60))
        result = simulate(two, config, SECOND, 9, enable_caching=True)
        assert result.num_preemptions > 0
        assert result.prefix_hit_rate == 0.0

    def test_where_nobody_is_served_there_is_no_hit_rate(self) -> None:
        result = simulate(_trace((0.0, 10_000, 3)), SchedulerConfig(), SECOND, 10)
        assert math.isnan(result.prefix_hit_rate)

    def test_without_caching_nothing_is_found(self) -> None:
        result = simulate(SHARED_PREFIX, SchedulerConfig(), SECOND, 500)
        assert [r.num_cached_tokens for r in result.requests] == [0, 0, 0]

    def test_requests_without_hash_ids_share_nothing(self) -> None:
        same_lengths = _trace((0.0, 640, 2), (10.0, 640, 2))
        result = simulate(same_lengths, SchedulerConfig(), SECOND, 500, enable_caching=True)
        assert [r.num_cached_tokens for r in result.requests] == [0, 0]


class TestRequests:
    def test_real_requests_are_not_changed_and_run_to_max_tokens(self) -> None:
        request = Request("a", [3, 4, 5], max_tokens=4, eos_token_id=2**31, client_id="me")
        for _ in range(2):  # the second time finds it as it was
            result = simulate([request], SchedulerConfig(), SECOND, 10)
            assert result.requests[0].output_tokens == 4
            assert result.requests[0].client_id == "me"
        assert request.status is RequestStatus.WAITING
        assert request.num_tokens == 3

    def test_priorities_reach_the_scheduler(self) -> None:
        requests = [TraceRequest(0.0, 5, 1, priority=priority) for priority in (5, 1, 3)]
        config = SchedulerConfig(policy="priority", max_num_seqs=1)
        assert simulate(requests, config, SECOND, 10).ttft.tolist() == [3.0, 1.0, 2.0]

    def test_a_request_that_can_never_be_served_is_refused(self) -> None:
        result = simulate(_trace((0.0, 10_000, 3), (0.0, 5, 2)), SchedulerConfig(), SECOND, 10)
        refused, served = result.requests
        assert refused.status is RequestStatus.FINISHED_IGNORED
        assert "blocks" in refused.finish_reason
        assert math.isnan(result.ttft[0])
        assert served.output_tokens == 2
        assert result.summary()["num_ignored"] == 1
        assert result.summary()["ttft_mean"] == 1.0

    def test_a_request_that_outgrows_the_pool_is_capped(self) -> None:
        result = simulate(_trace((0.0, 100, 1000)), SchedulerConfig(), SECOND, num_blocks=11)
        (outcome,) = result.requests
        assert outcome.status is RequestStatus.FINISHED_LENGTH_CAPPED
        assert outcome.output_tokens == 60

    def test_two_of_one_name_are_refused(self) -> None:
        with pytest.raises(ValueError, match="same request_id"):
            simulate([Request("a", [1], 1), Request("a", [1], 1)], SchedulerConfig(), SECOND, 10)

    def test_one_that_has_begun_is_refused(self) -> None:
        request = Request("a", [1], 1)
        request.status = RequestStatus.RUNNING
        with pytest.raises(ValueError, match="has begun already"):
            simulate([request], SchedulerConfig(), SECOND, 10)


class TestClosedLoop:
    def test_there_are_never_more_requests_than_clients(self) -> None:
        requests = _trace(*[(0.0, 10, 5)] * 30)
        result = simulate(ClosedLoop(requests, 4, 2.0), SchedulerConfig(), SECOND, 100)
        steps = result.steps
        assert (steps.column("num_running") + steps.column("num_waiting")).max() <= 4
        assert {outcome.client_id for outcome in result.requests} == {
            f"client {i}" for i in range(4)
        }

    def test_a_client_asks_again_after_its_answer(self) -> None:
        requests = _trace(*[(0.0, 10, 3)] * 4)
        result = simulate(ClosedLoop(requests, 1), SchedulerConfig(), SECOND, 100)
        assert result.arrival_times.tolist() == [0.0, 3.0, 6.0, 9.0]

    def test_littles_law_gives_the_thinking_time(self) -> None:
        requests = _trace(*[(0.0, 10, 5)] * 2000)
        loop = ClosedLoop(requests, num_clients=5, think_seconds=20.0, seed=1)
        result = simulate(loop, SchedulerConfig(), SECOND, 100)
        # Clients = throughput × (response + thinking): the interactive response time law.
        throughput = len(requests) / result.makespan
        assert throughput * (result.e2e.mean() + 20.0) == pytest.approx(5, rel=0.03)

    def test_a_refused_request_does_not_stop_its_client(self) -> None:
        requests = _trace((0.0, 10_000, 1), (0.0, 5, 1))
        result = simulate(ClosedLoop(requests, 1), SchedulerConfig(), SECOND, 10)
        assert [outcome.output_tokens for outcome in result.requests] == [0, 1]

    def test_more_clients_than_requests_are_no_error(self) -> None:
        result = simulate(ClosedLoop(_trace((0.0, 5, 1)), 9), SchedulerConfig(), SECOND, 10)
        assert len(result.requests) == 1


class StuckScheduler(Scheduler):
    """Never admits anybody."""

    def admit_waiting(self, output: object, budget: int) -> int:
        return budget


class ForgetfulScheduler(Scheduler):
    """Loses all that was computed, after every iteration."""

    def update_from_output(
        self, output: SchedulerOutput, sampled: Mapping[str, int | list[int]]
    ) -> list[Request]:
        for request in self.running:
            request.num_computed_tokens = 0
        return []


class TestGuards:
    def test_a_scheduler_that_admits_nobody_is_found_out(self) -> None:
        requests = _trace(*[(float(i), 5, 1) for i in range(2000)])
        with pytest.raises(SimulationError, match="plans nothing, 0 requests run, 2000 wait"):
            simulate(requests, SchedulerConfig(), SECOND, 10, scheduler_class=StuckScheduler)

    def test_requests_that_get_nowhere_are_found_out(self) -> None:
        config = SchedulerConfig(max_num_batched_tokens=4)
        with pytest.raises(SimulationError, match="led to no output, 1 requests run"):
            simulate(_trace((0.0, 5, 1)), config, SECOND, 10, scheduler_class=ForgetfulScheduler)

    def test_an_overloaded_system_stops_at_the_limit(self) -> None:
        requests = _trace(*[(0.1 * i, 5, 5) for i in range(1000)])
        config = SchedulerConfig(max_num_seqs=1)
        with pytest.raises(SimulationError, match=r"after 50 s .* of 1000 requests are finished"):
            simulate(requests, config, SECOND, 100, max_seconds=50.0)

    def test_a_result_of_an_unfinished_simulation_is_refused(self) -> None:
        simulator = Simulator(_trace((0.0, 5, 3)), SchedulerConfig(), SECOND, 10)
        simulator.step()
        with pytest.raises(SimulationError, match="0 of 1 requests are finished"):
            simulator.result()


class TestWatching:
    def test_a_simulation_can_be_stepped_through(self) -> None:
        simulator = Simulator(_trace((0.0, 20, 2), (0.0, 20, 1)), SchedulerConfig(), SECOND, 10)
        first = simulator.step()
        assert first is not None
        assert (first.num_tokens, first.num_finished, simulator.clock) == (40, 1, 1.0)
        assert [request.request_id for request in simulator.scheduler.running] == ["0"]
        assert simulator.step() is not None
        assert simulator.step() is None
        assert simulator.step() is None
        assert len(simulator.result().steps) == 2

    def test_progress_is_reported_up_to_the_end(self) -> None:
        seen: list[tuple[int, int]] = []
        requests = _trace((0.0, 5, 1), (0.0, 5, 3), (9.0, 5, 1))
        simulate(
            requests,
            SchedulerConfig(),
            SECOND,
            10,
            on_finished=lambda done, total: seen.append((done, total)),
        )
        assert seen == [(1, 3), (2, 3), (3, 3)]


class TestAverages:
    """Time averages are those of Little's law: over the whole window, idle time included."""

    CONFIG = SchedulerConfig(max_num_seqs=2, max_num_batched_tokens=64)

    @pytest.mark.parametrize("rate", [0.01, 0.1, 1.0])  # idle most of the time, or never
    def test_are_those_of_littles_law(self, rate: float) -> None:
        rng = np.random.default_rng(3)
        workload = Workload.from_columns(
            "x", poisson_arrivals(rate, 200, rng), rng.integers(1, 100, 200), [5] * 200
        )
        result = simulate(workload, self.CONFIG, SECOND, num_blocks=100)
        law = littles_law(result.arrival_times, result.arrival_times + result.e2e)
        figures = result.summary()
        assert figures["num_in_system_mean"] == pytest.approx(law.mean_in_system)
        arrivals_per_second = len(workload) / result.makespan
        waiting = figures["num_waiting_mean"]
        assert waiting == pytest.approx(arrivals_per_second * result.queue_time.mean())
        running = figures["num_running_mean"]
        in_batch = result.e2e - result.queue_time
        assert running == pytest.approx(arrivals_per_second * in_batch.mean())
        assert running + waiting == pytest.approx(law.mean_in_system)

    def test_a_pause_counts(self) -> None:
        # 1 s of work, 98 s of nothing, 1 s of work.
        result = simulate(_trace((0.0, 4, 1), (99.0, 4, 1)), SchedulerConfig(), SECOND, 10)
        assert result.summary()["num_running_mean"] == pytest.approx(0.02)
        assert result.summary()["kv_usage_mean"] == pytest.approx(0.02 / 9)

    def test_swapped_requests_are_in_the_system(self) -> None:
        config = SchedulerConfig(preemption_mode="swap", num_cpu_blocks=100)
        figures = simulate(_trace((0.0, 30, 20), (0.0, 30, 20)), config, SECOND, 6).summary()
        parts = ("num_running_mean", "num_waiting_mean", "num_swapped_mean")
        assert figures["num_swapped_mean"] > 0
        assert sum(figures[name] for name in parts) == pytest.approx(figures["num_in_system_mean"])

    def test_the_last_chunk_of_a_prompt_is_prefill_though_it_is_one_token(self) -> None:
        config = SchedulerConfig(max_num_batched_tokens=8)
        steps = simulate(_trace((0.0, 17, 3)), config, SECOND, 10).steps
        assert steps.column("num_tokens").tolist() == [8, 8, 1, 1, 1]
        assert steps.column("num_prefill_tokens").tolist() == [8, 8, 1, 0, 0]


class TestSlotUse:
    def test_a_place_that_nobody_ever_took_is_not_idle(self) -> None:
        result = simulate(_trace((0.0, 4, 5)), SchedulerConfig(), SECOND, 10)
        assert result.summary()["slot_use"] == 1.0

    def test_a_place_that_has_fallen_empty_is_until_somebody_joins(self) -> None:
        config = SchedulerConfig(max_num_seqs=2)
        requests = _trace((0.0, 4, 1), (0.0, 4, 4), (2.5, 4, 1))
        result = simulate(requests, config, SECOND, 10)
        assert result.steps.column("num_requests").tolist() == [2, 1, 1, 2]
        assert result.steps.places().tolist() == [2, 2, 2, 2]
        assert result.summary()["slot_use"] == 6 / 8


class TestExport:
    def test_a_trace_shows_the_parts_of_each_life(self, tmp_path: Path) -> None:
        result = simulate(_trace((0.0, 20, 3), (0.5, 20, 1)), SchedulerConfig(), SECOND, 10)
        result.to_chrome_trace(tmp_path / "trace.json")
        events = json.loads((tmp_path / "trace.json").read_text())["traceEvents"]
        lives = [(e["id"], e["name"], e["ph"], e["ts"] / 1e6) for e in events if "cat" in e]
        assert lives[:6] == [
            ("0", "waiting", "b", 0.0),
            ("0", "waiting", "e", 0.0),
            ("0", "prefill", "b", 0.0),
            ("0", "prefill", "e", 1.0),
            ("0", "decode", "b", 1.0),
            ("0", "decode", "e", 3.0),
        ]
        assert ("1", "waiting", "e", 1.0) in lives

    def test_goodput_counts_who_meets_the_objective(self) -> None:
        config = SchedulerConfig(max_num_seqs=1)
        result = simulate(_trace(*[(0.0, 5, 1)] * 4), config, SECOND, 10)
        assert result.goodput(ServiceLevel(ttft=2.0)) == 0.5

    def test_service_is_counted_by_client(self) -> None:
        requests = [TraceRequest(0.0, 5, 2, client_id=name) for name in "ab"]
        config = SchedulerConfig(max_num_seqs=1)
        curves = simulate(requests, config, SECOND, 10).service_curves()
        assert curves.clients == ("a", "b")
        assert curves.gap().tolist() == [7.0, 9.0, 2.0, 0.0]


def test_the_gap_between_clients_grows_under_fcfs_and_is_bounded_under_vtc() -> None:
    """Two clients, both always with requests in the queue, one asking four times as often."""

    def largest_gap(policy: str, seconds: int) -> float:
        often = [TraceRequest(i / 8, 256, 128, client_id="often") for i in range(8 * seconds)]
        seldom = [TraceRequest(i / 2, 256, 128, client_id="seldom") for i in range(2 * seconds)]
        requests = sorted(often + seldom, key=lambda request: request.arrival_time)
        config = SchedulerConfig(policy=policy, max_num_seqs=8)
        cost_model = RooflineCostModel(MODELS["llama-3.1-8b"], GPUS["l4"])
        curves = simulate(requests, config, cost_model, num_blocks=1000).service_curves()
        return float(curves.until(seconds).gap().max())

    # Sheng et al.: 2 × max(longest prompt, output weight × tokens that fit into a batch).
    bound = 2 * max(256, 2 * 8 * (256 + 128))
    assert largest_gap("vtc", 40) < bound
    assert largest_gap("vtc", 80) < bound
    assert largest_gap("fcfs", 80) > 1.8 * largest_gap("fcfs", 40) > bound


requests_to_serve = st.lists(
    st.builds(
        TraceRequest,
        arrival_time=st.floats(0, 20),
        prompt_tokens=st.integers(1, 120),
        output_tokens=st.integers(1, 40),
    ),
    max_size=12,
)


@settings(max_examples=150, deadline=None)
@given(
    requests=requests_to_serve,
    num_blocks=st.integers(12, 40),
    budget=st.integers(1, 64),
    seqs=st.integers(1, 6),
    mode=st.sampled_from(["recompute", "swap"]),
    enable_caching=st.booleans(),
    reserve=st.booleans(),
)
def test_every_token_comes_once_in_order_and_no_limit_is_passed(
    requests: Sequence[TraceRequest],
    num_blocks: int,
    budget: int,
    seqs: int,
    mode: str,
    enable_caching: bool,
    reserve: bool,
) -> None:
    config = SchedulerConfig(
        max_num_seqs=seqs,
        max_num_batched_tokens=budget,
        preemption_mode=mode,  # type: ignore[arg-type]
        num_cpu_blocks=20,
        reserve_full_prompt=reserve,
    )

    def run() -> tuple[list[float], ...]:
        result = simulate(requests, config, ROOFLINE, num_blocks, enable_caching=enable_caching)
        assert [r.output_tokens for r in result.requests] == [r.output_tokens for r in requests]
        assert result.token_log.num_tokens.tolist() == [r.output_tokens for r in requests]
        assert (result.itl > 0).all()
        assert (result.ttft > 0).all()
        assert (result.queue_time >= 0).all()
        steps = result.steps
        if requests:
            assert steps.column("num_tokens").max() <= budget
            assert steps.column("num_running").max() <= seqs
            assert steps.column("kv_usage").max() <= 1.0
            start = steps.column("start")
            assert (np.diff(start) > 0).all()
            assert steps.column("num_sampled").sum() == sum(r.output_tokens for r in requests)
            assert result.num_recomputed_tokens >= 0
            assert (steps.column("num_preempted").sum() > 0) or result.num_recomputed_tokens == 0
        return result.ttft.tolist(), result.e2e.tolist()

    assert run() == run()  # the same requests give the same schedule


def test_one_sequence_at_a_time_is_the_queue_of_theory() -> None:
    """Geometric outputs of mean 10 at 0.1 s per token: an M/G/1 queue with SCV 1 − 1/10."""
    rng = np.random.default_rng(5)
    n, lam, mean_tokens = 30_000, 0.7, 10
    outputs = geometric_lengths(mean_tokens, n, rng)
    workload = Workload.from_columns("x", poisson_arrivals(lam, n, rng), [1] * n, outputs)
    per_token = ConstantCostModel(1 / mean_tokens)
    result = simulate(workload, SchedulerConfig(max_num_seqs=1), per_token, num_blocks=200)
    theory = MG1(lam, mean=1.0, scv=1 - 1 / mean_tokens)
    assert result.e2e.mean() == pytest.approx(theory.mean_response, rel=0.05)


def test_a_scheduler_of_ones_own_is_driven() -> None:
    made: list[Scheduler] = []

    def factory(config: SchedulerConfig, manager: KVCacheManager) -> Scheduler:
        made.append(Scheduler(config, manager))
        return made[-1]

    simulate(_trace((0.0, 5, 1)), SchedulerConfig(), SECOND, 10, scheduler_class=factory)
    assert len(made) == 1


def test_cost_is_linear_in_request_steps() -> None:
    def seconds(num_requests: int) -> float:
        requests = _trace(*[(0.0, 1, 150)] * num_requests)
        config = SchedulerConfig(max_num_seqs=num_requests, max_num_batched_tokens=num_requests)
        start = time.process_time()
        simulate(requests, config, SECOND, num_blocks=10 * num_requests + 1)
        return time.process_time() - start

    small, large = (min(seconds(n) for _ in range(3)) for n in (100, 800))
    assert large < 3 * 8 * small


def test_a_long_trace_is_simulated_at_a_rate_that_makes_the_whole_take_minutes_at_most() -> None:
    part = load_azure()[:1000]
    start = time.process_time()
    result = simulate(part, SchedulerConfig(), ROOFLINE, num_blocks=2588)
    per_step = (time.process_time() - start) / result.steps.column("num_requests").sum()
    # The whole trace has about 4.1 million request-steps and has to take less than 3 minutes.
    assert per_step * 4.1e6 < 180

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import pairwise
from random import Random

import pytest

from course_lib.kv_cache import KVCacheManager
from course_lib.kv_cache.watch.recorder import snapshot_blocks
from course_lib.scheduling import Request, Scheduler, SchedulerConfig
from course_lib.scheduling.decisions import Action, DecisionLog
from course_lib.scheduling.scheduler import SchedulerOutput
from course_lib.scheduling.watch.driver import run_plans
from course_lib.scheduling.watch.moments import Happening, Moment, run_moments, watch_plans
from course_lib.scheduling.watch.state import SchedulerState


@dataclass
class Case:
    """A scheduler under pressure, and its requests by the step before which they arrive."""

    config: SchedulerConfig
    num_blocks: int
    caching: bool
    arrivals: dict[int, list[tuple[str, list[int], int, int]]] = field(default_factory=dict)

    def scheduler(self, log: DecisionLog | None = None) -> Scheduler:
        manager = KVCacheManager(self.num_blocks, 4, self.caching)
        return Scheduler(self.config, manager, log=log)

    def arriving(self, step: int) -> Iterator[Request]:
        for name, prompt, max_tokens, priority in self.arrivals.get(step, ()):
            yield Request(name, prompt, max_tokens, priority, arrival_time=float(step))


def case(seed: int) -> Case:
    rng = Random(seed)
    config = SchedulerConfig(
        max_num_batched_tokens=rng.choice([6, 16, 40]),
        max_num_seqs=rng.choice([2, 5]),
        policy=rng.choice(["fcfs", "priority"]),
        preemption_mode=rng.choice(["recompute", "swap"]),
        num_cpu_blocks=rng.choice([0, 6]),
        long_prefill_token_threshold=rng.choice([0, 5]),
    )
    found = Case(config, rng.choice([8, 11]), rng.choice([True, False]))
    for number in range(6):
        start = rng.choice([0, 100 * number])
        prompt = [start + position for position in range(rng.randint(1, 20))]
        request = (f"r{number}", prompt, rng.randint(1, 12), rng.randrange(3))
        found.arrivals.setdefault(rng.randrange(6), []).append(request)
    return found


def planned(scheduler: Scheduler) -> tuple[SchedulerOutput, list[Moment]]:
    with watch_plans(scheduler) as moments:
        output = scheduler.schedule()
    return output, moments


def answer(scheduler: Scheduler, output: SchedulerOutput, step: int) -> None:
    names = [request.request_id for request in scheduler.generating(output)]
    sampled: dict[str, int | list[int]] = dict.fromkeys(names, 5000 + step)
    scheduler.update_from_output(output, sampled)


SEEDS = range(40)


@pytest.mark.parametrize("seed", SEEDS)
def test_moments_lead_from_the_state_before_to_the_plan_and_the_state_after(seed: int) -> None:
    given = case(seed)
    scheduler = given.scheduler()
    for step in range(25):
        for request in given.arriving(step):
            scheduler.add_request(request)
        before = SchedulerState.of(scheduler)
        output, moments = planned(scheduler)
        first, last = moments[0], moments[-1]
        assert (first.happening, first.state) == (Happening.BEGINS, before)
        assert (last.happening, last.state) == (Happening.ENDS, SchedulerState.of(scheduler))
        assert last.blocks == snapshot_blocks(scheduler.kv_cache_manager)
        assert list(last.plan.items()) == list(output.num_scheduled_tokens.items())
        assert last.num_tokens == output.total_num_scheduled_tokens
        assert_that_each_moment_does_what_it_says(moments)
        answer(scheduler, output, step)


def assert_that_each_moment_does_what_it_says(moments: list[Moment]) -> None:
    """Follow the plan and the computed tokens from moment to moment."""
    for before, now in pairwise(moments):
        name, plan = now.request_id, dict(before.plan)
        if now.happening in (Happening.SERVES, Happening.ADMITS):
            assert name not in plan
            plan[name] = now.num_tokens
            was = before.state.requests[name].num_computed_tokens
            moved = now.state.requests[name].num_computed_tokens - was
            assert moved == now.num_tokens + now.num_hit_tokens
        elif now.happening is Happening.PREEMPTS:
            assert plan.pop(name, 0) == now.num_tokens
            assert name not in now.state.running
            assert now.blocks["tables"].get(name) is None
        else:
            assert before.blocks == now.blocks
        assert now.plan == plan
        others = set(now.state.requests) - {name}
        for other in others:
            assert now.state.requests[other].num_computed_tokens == (
                before.state.requests[other].num_computed_tokens
            )


@pytest.mark.parametrize("seed", SEEDS)
def test_a_scheduler_that_is_watched_plans_as_ever(seed: int) -> None:
    given = case(seed)
    watched, plain = given.scheduler(DecisionLog()), given.scheduler(DecisionLog())
    for step in range(25):
        for request, twin in zip(given.arriving(step), given.arriving(step), strict=True):
            watched.add_request(request)
            plain.add_request(twin)
        output, expected = planned(watched)[0], plain.schedule()
        assert output.num_scheduled_tokens == expected.num_scheduled_tokens
        assert output.preempted_req_ids == expected.preempted_req_ids
        answer(watched, output, step)
        answer(plain, expected, step)
    assert watched.log == plain.log  # told as ever, and back in its place
    assert "schedule" not in vars(watched)


def test_reasons_are_those_of_the_decision_log() -> None:
    num_preempted = 0
    for seed in SEEDS:
        given, log = case(seed), DecisionLog()
        scheduler = given.scheduler(log)
        for step in range(25):
            for request in given.arriving(step):
                scheduler.add_request(request)
            output, moments = planned(scheduler)
            decisions = log.of_step(step)
            waiting = {d.request_id: d.reason for d in decisions if d.action is Action.WAITS}
            assert moments[-1].reasons == waiting
            victims = [m for m in moments if m.happening is Happening.PREEMPTS]
            lacking = [m for m in moments if m.happening is Happening.LACKS_ROOM]
            given_way = [
                d for d in decisions if d.action in (Action.IS_PREEMPTED, Action.IS_SWAPPED_OUT)
            ]
            assert [(m.request_id, m.reason) for m in victims] == [
                (d.request_id, d.reason) for d in given_way
            ]
            assert [m.reason for m in lacking] == [d.reason for d in given_way]
            num_preempted += len(given_way)
            answer(scheduler, output, step)
    assert num_preempted > 30


class SilentScheduler(Scheduler):
    """Tells its log nothing, as a learner's may."""

    def schedule(self) -> SchedulerOutput:
        log, self.log = self.log, None
        try:
            return super().schedule()
        finally:
            self.log = log


def test_a_plan_is_complete_also_if_the_scheduler_does_not_say_so() -> None:
    scheduler = SilentScheduler(SchedulerConfig(), KVCacheManager(num_blocks=9))
    scheduler.add_request(Request("a", range(20), max_tokens=2))
    _, moments = planned(scheduler)
    assert [moment.happening for moment in moments] == [
        Happening.BEGINS,
        Happening.ADMITS,
        Happening.ENDS,
    ]


def test_a_scheduler_can_be_watched_while_somebody_else_drives_it() -> None:
    scheduler = Scheduler(SchedulerConfig(), KVCacheManager(num_blocks=9))
    scheduler.add_request(Request("a", range(20), max_tokens=5))
    with watch_plans(scheduler, first_step=7) as moments:
        for _ in run_plans(scheduler, lambda request, num_generated: 3):
            pass
    assert [m.step for m in moments if m.happening is Happening.BEGINS] == [7, 8, 9, 10, 11]
    assert "schedule" not in vars(scheduler)


def test_a_run_says_who_ended_and_stops_when_nobody_is_left() -> None:
    scheduler = Scheduler(SchedulerConfig(), KVCacheManager(num_blocks=9))
    arrivals = {
        0: [Request("a", range(20), max_tokens=1), Request("b", range(50, 59), max_tokens=2)]
    }
    moments = run_moments(scheduler, arrivals, num_steps=9)
    assert [m.finished for m in moments if m.happening is Happening.BEGINS] == [(), ("a",)]

"""Traces that the lessons work out by hand, as lines of the notation."""

from collections.abc import Sequence

import pytest

from course_lib.kv_cache import KVCacheManager
from course_lib.scheduling import (
    POLICIES,
    VICTIM_POLICIES,
    Request,
    Scheduler,
    SchedulerConfig,
    SchedulerOutput,
    SJFRequestQueue,
    StaticBatchingScheduler,
    least_computed,
)
from course_lib.scheduling.watch.driver import run_plans
from course_lib.scheduling.watch.notation import StepLine
from course_lib.scheduling.watch.state import SchedulerState

Arrival = tuple[str, int, int, int, int]
"""Name, prompt tokens, max_tokens, priority, and the step before which it arrives."""


def trace(scheduler: Scheduler, arrivals: Sequence[Arrival], num_steps: int) -> list[str]:
    """Return the plans of the first steps, from number 1 on."""
    late = [each for each in arrivals if each[4] > 1]
    for arrival in arrivals:
        if arrival not in late:
            add(scheduler, arrival)
    found = []
    for step, output in enumerate(run_plans(scheduler, lambda request, count: 7), start=1):
        found.append(str(StepLine.of(step, output, SchedulerState.of(scheduler))))
        if step == num_steps:
            break
        for arrival in late:
            if arrival[4] == step + 1:
                add(scheduler, arrival)
    return found


def add(scheduler: Scheduler, arrival: Arrival) -> None:
    name, num_tokens, max_tokens, priority, step = arrival
    prompt = [1000 * sum(map(ord, name)) + index for index in range(num_tokens)]
    when = step + len(scheduler.requests) / 100  # nobody at the same time as another
    scheduler.add_request(Request(name, prompt, max_tokens, priority, arrival_time=when))


def plain(num_blocks: int, block_size: int, **settings: object) -> Scheduler:
    config = SchedulerConfig(**settings)  # type: ignore[arg-type]
    return Scheduler(config, KVCacheManager(num_blocks, block_size, enable_caching=False))


def test_lesson_5_the_budget_counts_the_tokens_of_this_step() -> None:
    scheduler = plain(1000, 16, max_num_seqs=8, max_num_batched_tokens=1000)
    arrivals = [("a", 900, 9, 0, 1), ("b", 700, 9, 0, 1), ("c", 500, 9, 0, 1), ("d", 300, 9, 0, 1)]
    assert trace(scheduler, arrivals, 3) == [
        "step 1  a:900* b:100(100/700)  | c d",
        "step 2  a:1 b:600* c:399(399/500)  | d",
        "step 3  a:1 b:1 c:101* d:300*  | -",
    ]


def test_lesson_5_admission_stops_at_the_first_who_does_not_fit() -> None:
    arrivals = [("a", 100, 9, 0, 1), ("b", 100, 9, 0, 1), ("c", 30, 9, 0, 1)]
    assert trace(plain(11, 16), arrivals, 1) == ["step 1  a:100*  | b c"]


def test_lesson_5_static_batching_starts_the_third_when_both_are_done() -> None:
    config = SchedulerConfig(max_num_seqs=2)
    scheduler = StaticBatchingScheduler(config, KVCacheManager(100))
    arrivals = [("a", 5, 1, 0, 1), ("b", 5, 3, 0, 1), ("c", 5, 1, 0, 1)]
    assert trace(scheduler, arrivals, 4) == [
        "step 1  a:5* b:5*  | c",
        "step 2  b:1  | c",
        "step 3  b:1  | c",
        "step 4  c:5*  | -",
    ]


def test_lesson_6_only_a_running_request_without_a_block_preempts() -> None:
    scheduler = plain(101, 16, policy="priority")
    arrivals = [
        ("A", 640, 50, 0, 1),
        ("B", 479, 50, 0, 1),
        ("C", 320, 6, 0, 1),
        ("D", 125, 50, 0, 1),
        ("U", 400, 50, -1, 2),
    ]
    assert trace(scheduler, arrivals, 7) == [
        "step 1  A:640* B:479* C:320* D:125*  | -",
        "step 2  A:1 B:1 C:1 D:1  | U",
        "step 3  A:1 B:1 C:1  | U D!",
        "step 4  A:1 B:1 C:1  | U D",
        "step 5  A:1 B:1 C:1  | U D",
        "step 6  A:1 B:1 C:1  | U D",
        "step 7  A:1 B:1 U:400*  | D",
    ]


@pytest.mark.parametrize("mode", ["recompute", "swap"])
def test_lesson_6_what_a_victim_had_got_in_this_step_goes_back(mode: str) -> None:
    scheduler = plain(10, 4, policy="priority", preemption_mode=mode, num_cpu_blocks=9)
    returned: list[int] = []
    preempt = scheduler.preempt

    def watched(victim: Request, output: SchedulerOutput) -> int:
        returned.append(preempt(victim, output))
        pairs.extend(output.blocks_to_swap_out)
        return returned[-1]

    pairs: list[tuple[int, int]] = []
    scheduler.preempt = watched  # type: ignore[method-assign]
    lines = trace(scheduler, [("low", 16, 50, 5, 1), ("high", 15, 50, 0, 2)], 4)
    assert lines[:2] == ["step 1  low:16*  | -", "step 2  low:1 high:15*  | -"]
    assert lines[3] == f"step 4  high:1  | {'(low!)' if mode == 'swap' else 'low!'}"
    assert returned == [1]
    if mode == "swap":
        assert scheduler.swapped[0].num_computed_tokens == 18
        assert pairs == [(1, 0), (2, 1), (3, 2), (4, 3), (5, 4)]


def test_lesson_11_a_threshold_brings_the_short_prompt_forward() -> None:
    arrivals = [("d1", 1, 9, 0, 1), ("d2", 1, 9, 0, 1), ("A", 19, 9, 0, 2), ("B", 5, 9, 0, 2)]
    scheduler = plain(99, 4, max_num_batched_tokens=8)
    assert trace(scheduler, arrivals, 5)[1:] == [
        "step 2  d1:1 d2:1 A:6(6/19)  | B",
        "step 3  d1:1 d2:1 A:6(12/19)  | B",
        "step 4  d1:1 d2:1 A:6(18/19)  | B",
        "step 5  d1:1 d2:1 A:1* B:5*  | -",
    ]
    scheduler = plain(99, 4, max_num_batched_tokens=8, long_prefill_token_threshold=4)
    assert trace(scheduler, arrivals, 6)[1:] == [
        "step 2  d1:1 d2:1 A:4(4/19) B:2(2/5)  | -",
        "step 3  d1:1 d2:1 A:4(8/19) B:2(4/5)  | -",
        "step 4  d1:1 d2:1 A:4(12/19) B:1*  | -",
        "step 5  d1:1 d2:1 A:4(16/19) B:1  | -",
        "step 6  d1:1 d2:1 A:3* B:1  | -",
    ]


def test_lesson_12_a_prompt_beside_decodes_and_who_lost_its_place() -> None:
    scheduler = plain(99, 16, max_num_batched_tokens=16)
    add(scheduler, ("a", 4, 9, 0, 1))
    add(scheduler, ("b", 40, 9, 0, 1))
    assert scheduler.schedule().num_scheduled_tokens == {"a": 4, "b": 12}
    assert scheduler.schedule().num_scheduled_tokens == {"b": 16}
    both = [("a", 31, 9, 0, 1), ("b", 31, 9, 0, 1)]
    assert trace(plain(5, 16), both, 3)[2] == "step 3  a:1  | b!"


def test_lesson_12_the_hand_moves_up_when_somebody_in_front_leaves() -> None:
    scheduler = plain(6, 16, policy="priority", max_num_batched_tokens=64)
    arrivals = [("lo", 5, 9, 5, 1), ("hi1", 32, 9, 0, 2), ("hi2", 20, 9, 0, 2)]
    assert trace(scheduler, arrivals, 3)[2] == "step 3  hi1:1 hi2:1  | lo!"


def test_a_queue_and_a_victim_policy_of_ones_own_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(POLICIES, "mine", SJFRequestQueue)
    monkeypatch.setitem(VICTIM_POLICIES, "mine", lambda manager: least_computed)
    scheduler = plain(10, 4, policy="mine", victim_policy="mine")
    assert isinstance(scheduler.waiting, SJFRequestQueue)
    assert scheduler.victim_policy is least_computed

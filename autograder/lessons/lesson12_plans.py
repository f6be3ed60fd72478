"""Lesson 12: plans that a learner's checker looks at."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from typing import Any

from autograder.checks.function import Call
from autograder.lessons import lesson12_serve_mistakes as loops
from autograder.proxy.recipes import Make
from course_lib.kv_cache.manager import KVCacheManager
from course_lib.mounting import mount
from course_lib.scheduling import (
    AsyncScheduler,
    HeadSkippingScheduler,
    LoRAScheduler,
    Request,
    RequestStatus,
    Scheduler,
    SchedulerConfig,
    SchedulerOutput,
)
from course_lib.scheduling.preemption import most_tokens
from course_lib.scheduling.watch.driver import run_plans
from course_lib.scheduling.watch.state import RequestState, SchedulerState
from course_lib.scheduling.watch.violations import plan_violations

_BUDGET, _SEATS = 10, 4

Step = tuple[SchedulerState, SchedulerOutput, SchedulerState]
"""The state before a plan, the plan, and the state after it."""

# Plans written by hand


def _state(
    running: Mapping[str, tuple[int, int]],
    waiting: Mapping[str, tuple[int, int]] | None = None,
    swapped: Mapping[str, tuple[int, int]] | None = None,
    *,
    listed: tuple[str, ...] | None = None,
) -> SchedulerState:
    """Return a state: of each request, how many tokens are computed, and how many known.

    Args:
        running: Those that run.
        waiting: Those that wait.
        swapped: Those that are swapped out.
        listed: The names in ``running``, where they are to be others.
    """
    places = (
        (RequestStatus.RUNNING, running),
        (RequestStatus.WAITING, waiting or {}),
        (RequestStatus.SWAPPED, swapped or {}),
    )
    requests = {
        name: RequestState(name, status, known, 0, 0, computed)
        for status, those in places
        for name, (computed, known) in those.items()
    }
    return SchedulerState(
        requests,
        tuple(waiting or {}),
        tuple(running) if listed is None else listed,
        tuple(swapped or {}),
        _SEATS,
        _BUDGET,
    )


def _plan(
    before: SchedulerState,
    tokens: Mapping[str, int],
    after: SchedulerState,
    *,
    preempted: Iterable[str] = (),
    total: int | None = None,
) -> Call:
    output = SchedulerOutput(
        num_scheduled_tokens=dict(tokens),
        total_num_scheduled_tokens=sum(tokens.values()) if total is None else total,
        preempted_req_ids=set(preempted),
    )
    return as_call((before, output, after))


def as_call(step: Step) -> Call:
    """Return what a checker is called with: both states, and the plan without its other lists."""
    before, output, after = step
    names = ("num_scheduled_tokens", "total_num_scheduled_tokens", "preempted_req_ids")
    plan = Make(SchedulerOutput, **{name: getattr(output, name) for name in names})
    return Call(_recipe(before), plan, _recipe(after))


def _recipe(state: SchedulerState) -> SchedulerState:
    """Return a state as it travels: a status is no plain data, and is made on the other side."""
    requests = {
        name: replace(each, status=Make(RequestStatus, each.status.value))  # type: ignore[arg-type]
        for name, each in state.requests.items()
    }
    return replace(state, requests=requests)


_TWO = _state({"a": (4, 5), "b": (2, 9)})
"""a lacks one token, b lacks seven."""
_ONE_WAITS = _state({"a": (4, 5)}, {"b": (0, 6)})
_FULL = _state(dict.fromkeys("abcd", (4, 5)), {"e": (0, 2)})

FAULTY = {
    "more than the budget": _plan(
        _state({"a": (4, 5), "b": (2, 19)}),
        {"a": 1, "b": 10},
        _state({"a": (5, 5), "b": (12, 19)}),
    ),
    "a sum that is none": _plan(
        _TWO, {"a": 1, "b": 7}, _state({"a": (5, 5), "b": (9, 9)}), total=9
    ),
    "one too many": _plan(
        _FULL,
        {**dict.fromkeys("abcd", 1), "e": 2},
        _state({**dict.fromkeys("abcd", (5, 5)), "e": (2, 2)}),
    ),
    "no tokens": _plan(
        _state({"a": (5, 5), "b": (2, 9)}),
        {"a": 0, "b": 7},
        _state({"a": (5, 5), "b": (9, 9)}),
    ),
    "more than it lacks": _plan(_TWO, {"a": 1, "b": 8}, _state({"a": (5, 5), "b": (10, 9)})),
    "not moved ahead": _plan(_TWO, {"a": 1, "b": 7}, _TWO),
    "moved too far": _plan(_TWO, {"a": 1, "b": 5}, _state({"a": (5, 5), "b": (9, 9)})),
    "served and preempted": _plan(
        _TWO, {"a": 1, "b": 7}, _state({"a": (5, 5)}, {"b": (0, 9)}), preempted="b"
    ),
    "preempted and running": _plan(
        _TWO, {"a": 1}, _state({"a": (5, 5), "b": (2, 9)}), preempted="b"
    ),
    "preempted without having run": _plan(
        _ONE_WAITS, {"a": 1}, _state({"a": (5, 5)}, {"b": (0, 6)}), preempted="b"
    ),
    "preempted in silence": _plan(_TWO, {"a": 1}, _state({"a": (5, 5)}, {"b": (0, 9)})),
    "admitted after a preemption": _plan(
        _state({"a": (4, 5), "b": (2, 9)}, {"c": (0, 2)}),
        {"a": 1, "c": 2},
        _state({"a": (5, 5), "c": (2, 2)}, {"b": (0, 9)}),
        preempted="b",
    ),
    "lost": _plan(_TWO, {"a": 1}, _state({"a": (5, 5)}), preempted="b"),
    "in two queues": _plan(
        _ONE_WAITS,
        {"a": 1, "b": 6},
        _state({"a": (5, 5), "b": (6, 6)}, {"b": (6, 6)}),
    ),
    "twice in the batch": _plan(
        _TWO,
        {"a": 1, "b": 7},
        _state({"a": (5, 5), "b": (9, 9)}, listed=("a", "b", "b")),
    ),
    "skipped": _plan(_TWO, {"b": 7}, _state({"a": (4, 5), "b": (9, 9)})),
    "computes while it waits": _plan(
        _ONE_WAITS, {"a": 1, "b": 6}, _state({"a": (5, 5)}, {"b": (6, 6)})
    ),
    "a hit, and more than it lacks": _plan(
        _ONE_WAITS, {"a": 1, "b": 3}, _state({"a": (5, 5), "b": (8, 6)})
    ),
    "admitted, and not moved ahead": _plan(
        _ONE_WAITS, {"a": 1, "b": 6}, _state({"a": (5, 5), "b": (0, 6)})
    ),
    "back from the CPU, and moved too far": _plan(
        _state({"a": (4, 5)}, swapped={"b": (2, 9)}),
        {"a": 1, "b": 3},
        _state({"a": (5, 5), "b": (9, 9)}),
    ),
}
"""Plans that break a law, by what is wrong, the simplest first."""

UNUSUAL = {
    "nobody": _plan(_state({}), {}, _state({})),
    "one who lacks nothing is passed over": _plan(
        _state({"a": (5, 5), "b": (2, 9)}), {"b": 7}, _state({"a": (5, 5), "b": (9, 9)})
    ),
    "nobody is left over": _plan(
        _state({"a": (2, 14), "b": (4, 5)}), {"a": 10}, _state({"a": (12, 14), "b": (4, 5)})
    ),
    "less than it lacks": _plan(_TWO, {"a": 1, "b": 3}, _state({"a": (5, 5), "b": (5, 9)})),
    "the last first": _plan(_TWO, {"b": 7, "a": 1}, _state({"a": (5, 5), "b": (9, 9)})),
    "the first in gives way": _plan(
        _TWO, {"b": 7}, _state({"b": (9, 9)}, {"a": (0, 5)}), preempted="a"
    ),
    "to the CPU": _plan(
        _TWO, {"a": 1}, _state({"a": (5, 5)}, swapped={"b": (2, 9)}), preempted="b"
    ),
    "all give way": _plan(_TWO, {}, _state({}, {"a": (0, 5), "b": (0, 9)}), preempted="ab"),
    "nobody is admitted": _plan(_ONE_WAITS, {"a": 1}, _state({"a": (5, 5)}, {"b": (0, 6)})),
    "a hit": _plan(_ONE_WAITS, {"a": 1, "b": 2}, _state({"a": (5, 5), "b": (6, 6)})),
    "a batch that was larger": _plan(
        _state(dict.fromkeys("abcde", (4, 5)), {"f": (0, 1)}),
        dict.fromkeys("abcde", 1),
        _state(dict.fromkeys("abcde", (5, 5)), {"f": (0, 1)}),
    ),
}
"""Plans that keep every law and are unusual."""

# Plans that schedulers make


def _requests(draw: random.Random, num_requests: int) -> list[Request]:
    shared = [draw.randrange(1000) for _ in range(4)]
    return [
        Request(
            f"r{number}",
            [*(shared if draw.random() < 0.5 else []), *draw.choices(range(1000), k=size)],
            draw.randint(1, 12),
            priority=draw.randint(0, 2),
            arrival_time=float(number),
            lora_id=draw.choice((None, "sql", "law")),
        )
        for number, size in enumerate(draw.choices(range(1, 25), k=num_requests))
    ]


def _steps(
    make_scheduler: Callable[..., Scheduler], config: SchedulerConfig, seed: int, in_flight: int = 1
) -> list[Step]:
    """Return the plans of a scheduler that serves drawn requests in a small memory."""
    draw = random.Random(seed)
    scheduler = make_scheduler(config, KVCacheManager(12, 4))
    coming = _requests(draw, 7)
    for request in coming[:3]:
        scheduler.add_request(request)
    plans: list[Step] = []
    schedule = scheduler.schedule

    def watched() -> SchedulerOutput:
        before = SchedulerState.of(scheduler)
        output = schedule()
        plans.append((before, output, SchedulerState.of(scheduler)))
        return output

    scheduler.schedule = watched  # type: ignore[method-assign]
    for step, _ in enumerate(run_plans(scheduler, lambda *_: 7, max_in_flight=in_flight)):
        if len(plans) > 2 and len(coming) > 3 and draw.random() < 0.5:
            scheduler.add_request(coming.pop())
        if step > 60:
            break
    return plans


def _small(**options: Any) -> SchedulerConfig:
    return SchedulerConfig(max_num_batched_tokens=_BUDGET, max_num_seqs=_SEATS, **options)


def _with_loras(config: SchedulerConfig, manager: KVCacheManager) -> Scheduler:
    return LoRAScheduler(config, manager, max_loras=1)


def _most_telling(plans: list[Step]) -> Step:
    """Return the plan in which most happens: who gives way, and who is served."""
    return max(
        plans, key=lambda step: (len(step[1].preempted_req_ids), len(step[1].num_scheduled_tokens))
    )


def _of_schedulers() -> dict[str, Call]:
    made = {
        "heads skipped": _steps(HeadSkippingScheduler, _small(), 4),
        "with adapters": _steps(_with_loras, _small(), 5),
        "other victims": _steps(Scheduler, _small(victim_policy=most_tokens), 6),
        "to the CPU and back": _steps(
            Scheduler, _small(preemption_mode="swap", num_cpu_blocks=20), 8
        ),
        "a step ahead": _steps(AsyncScheduler, _small(), 9, in_flight=2),
    }
    return {name: as_call(_most_telling(plans)) for name, plans in made.items()}


VALID = {**UNUSUAL, **_of_schedulers()}
"""Plans that keep every law, and differ in all that the laws leave free."""

_BROKEN_LOOPS = (
    loops.ByPlace,
    loops.NeverCut,
    loops.NotMoved,
    loops.AllIsComputed,
    loops.StopsAtOneThatGoes,
)
"""Running loops of the exercise before, some of whose plans break a law."""


def drawn(seed: int) -> dict[str, Call]:
    """Return plans of broken schedulers, as a seed decides."""
    found: dict[str, Call] = {}
    for place, loop in enumerate(_BROKEN_LOOPS):
        broken = mount(Scheduler, {"serve_running": loops.serve_with(loop)})
        for attempt in range(60):
            step = _first_broken(broken, 100 * seed + 7 * attempt + place)
            if step is not None:
                found[f"a loop: {loop.__name__}"] = as_call(step)
                break
    return found


def _first_broken(broken: type[Scheduler], seed: int) -> Step | None:
    """Return the first plan of a scheduler that breaks a law, if there is one before it breaks."""
    try:
        plans = _steps(broken, _small(policy="priority"), seed)
    except (RuntimeError, KeyError, ValueError):
        return None
    return next((step for step in plans if plan_violations(*step)), None)


def shown(before: SchedulerState, output: SchedulerOutput, after: SchedulerState) -> str:
    """Return what a checker can see of a plan, in three lines."""
    said = dict(output.num_scheduled_tokens)
    lines = [
        f"before: {_queues(before)}; budget {before.max_num_batched_tokens}, "
        f"max_num_seqs {before.max_num_seqs}",
        f"plan: {said}, in all {output.total_num_scheduled_tokens}; "
        f"preempted: {' '.join(sorted(output.preempted_req_ids)) or 'nobody'}",
        f"after: {_queues(after)}",
    ]
    return "\n".join(lines)


def _queues(state: SchedulerState) -> str:
    """Return who is where, computed and known tokens of each."""
    said = []
    for place in ("running", "waiting", "swapped"):
        names = getattr(state, place)
        if names:
            said.append(f"{place} {' '.join(_progress(state, name) for name in names)}")
    return " | ".join(said) or "nobody"


def _progress(state: SchedulerState, name: str) -> str:
    request = state.requests.get(name)
    if request is None:
        return name
    ahead = f"+{request.num_tokens_ahead}" if request.num_tokens_ahead else ""
    return f"{name}:{request.num_computed_tokens}/{request.num_tokens}{ahead}"

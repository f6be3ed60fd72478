"""The final project: what is got wrong about a step of an engine."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from autograder.checks.finding import Misconception
from course_lib.engine.core import EngineCore, StepRecord
from course_lib.engine.executor import Forks

# 13.1a, the step of the core


def _names(forks: Forks) -> dict[str, list[str]]:
    return {name: [child.request_id for child in children] for name, children in forks.items()}


def _stepped(
    self: EngineCore,
    *,
    forks_late: bool = False,
    tells_scheduler: bool = True,
    tells_answers: bool = True,
    answers_first: bool = False,
    looks_late: bool = False,
    raises: bool = True,
    gives_pairs: bool = False,
    tells_the_plans_time: bool = True,
    counts: bool = True,
    times_the_model: bool = True,
    times_the_end: bool = True,
    times_the_tokens: bool = True,
    computes: int = 1,
    clock: Callable[[], float] = time.monotonic,
) -> StepRecord:
    """Run a step, with something left out or in another order."""
    before = clock()
    output = self.scheduler.schedule()
    planned = clock()
    forks: Any = {} if forks_late else self.fork(output)
    for _ in range(computes):
        result = self.executor.execute(output, forks)
    sampled_at = clock()
    computed = result.computed_at if times_the_model else sampled_at
    sampled = {name: token.token_id for name, token in result.sampled.items()}
    if forks_late:
        forks = self.fork(output)
    pairs = {} if looks_late else {name: self.answers[name] for name in sampled}
    told = planned if tells_the_plans_time else before
    if answers_first:
        self.take_in(output, result, told)
    if tells_scheduler:
        self.scheduler.update_from_output(output, sampled)
    if not times_the_tokens:
        sampled_at = clock()
    if tells_answers and not answers_first:
        self.take_in(output, result, told)
    if looks_late:
        pairs = {name: self.answers[name] for name in sampled if name in self.answers or raises}
    answers: Any = pairs if gives_pairs else {name: pair[1] for name, pair in pairs.items()}
    number = self.metrics.num_steps
    self.metrics.num_steps += counts
    over = clock() if times_the_end else sampled_at
    times = (before, planned, computed, sampled_at, over)
    return StepRecord(number, output, sampled, answers, _names(forks), *times)


def no_forks(self: EngineCore) -> StepRecord:
    """Fork when the model is done."""
    return _stepped(self, forks_late=True)


def no_update(self: EngineCore) -> StepRecord:
    """Leave the scheduler without news."""
    return _stepped(self, tells_scheduler=False)


def no_answers(self: EngineCore) -> StepRecord:
    """Leave the answers without news."""
    return _stepped(self, tells_answers=False)


def answers_first(self: EngineCore) -> StepRecord:
    """Tell the answers before the scheduler."""
    return _stepped(self, answers_first=True)


def looks_late(self: EngineCore) -> StepRecord:
    """Look answers up when those that ended are forgotten."""
    return _stepped(self, looks_late=True)


def looks_late_for_who_is_left(self: EngineCore) -> StepRecord:
    """Look those answers up that are left when those that ended are forgotten."""
    return _stepped(self, looks_late=True, raises=False)


def pairs_for_answers(self: EngineCore) -> StepRecord:
    """Give the pair of group and answer where the answer is asked for."""
    return _stepped(self, gives_pairs=True)


def another_time(self: EngineCore) -> StepRecord:
    """Tell the answers when the step began."""
    return _stepped(self, tells_the_plans_time=False)


def not_counted(self: EngineCore) -> StepRecord:
    """Count no step."""
    return _stepped(self, counts=False)


def computed_when_sampled(self: EngineCore) -> StepRecord:
    """Take the time of the tokens for that of the logits."""
    return _stepped(self, times_the_model=False)


def over_when_sampled(self: EngineCore) -> StepRecord:
    """Call the step over before anybody was told."""
    return _stepped(self, times_the_end=False)


def _with_times(record: StepRecord, **times: float) -> StepRecord:
    """Return a record with other times."""
    fields = {name: getattr(record, name) for name in StepRecord.__slots__}
    return StepRecord(**fields | times)


def begun_when_planned(self: EngineCore) -> StepRecord:
    """Take the time of the plan for the beginning."""
    record = _stepped(self)
    return _with_times(record, started=record.scheduled)


def sampled_when_told(self: EngineCore) -> StepRecord:
    """Take the time of the tokens when the scheduler has been told."""
    return _stepped(self, times_the_tokens=False)


def sampled_when_over(self: EngineCore) -> StepRecord:
    """Take the time of the tokens when all has been told."""
    record = _stepped(self)
    return _with_times(record, sampled_at=record.finished)


def sampled_when_computed(self: EngineCore) -> StepRecord:
    """Take the time of the logits for that of the tokens."""
    record = _stepped(self)
    return _with_times(record, sampled_at=record.computed)


def times_changed_places(self: EngineCore) -> StepRecord:
    """Take the time of the tokens for that of the logits, and the other way round."""
    record = _stepped(self)
    return _with_times(record, computed=record.sampled_at, sampled_at=record.computed)


def of_another_clock(self: EngineCore) -> StepRecord:
    """Take all times but the model's from the clock of the day."""
    return _stepped(self, clock=time.time)


def planned_before_the_plan(self: EngineCore) -> StepRecord:
    """Take the time of the plan before there is one."""
    record = _stepped(self, tells_the_plans_time=False)
    return _with_times(record, scheduled=record.started)


def forgets_the_news(self: EngineCore) -> StepRecord:
    """Throw away what nobody has fetched yet."""
    self.changed.clear()
    return _stepped(self)


def computes_twice(self: EngineCore) -> StepRecord:
    """Have the plan carried out two times."""
    return _stepped(self, computes=2)


def the_first_fork_alone(self: EngineCore) -> StepRecord:
    """Name one of the other answers."""
    record = _stepped(self)
    for children in record.forked.values():
        del children[1:]
    return record


def number_after(self: EngineCore) -> StepRecord:
    """Number the steps from 1."""
    record = _stepped(self)
    fields = [getattr(record, name) for name in StepRecord.__slots__]
    return StepRecord(record.index + 1, *fields[1:])


STEP = (
    Misconception(
        "forks when the model is done",
        "The other answers to a prompt get their first token from the very logits that end the "
        "prompt: the executor must know of them before it samples.",
        no_forks,
    ),
    Misconception(
        "the scheduler is not told",
        "The scheduler learns of a token in `update_from_output` alone. Without it no request ever "
        "lacks a token again, and none ends.",
        no_update,
    ),
    Misconception(
        "the answers are not told",
        "`take_in` brings the tokens to the users. Without it the engine computes, and nobody sees "
        "a word.",
        no_answers,
    ),
    Misconception(
        "answers before the scheduler",
        "An answer asks its request whether it is over, and that is known once the scheduler has "
        "taken the token in: told first, an answer by length never ends.",
        answers_first,
    ),
    Misconception(
        "looked up too late",
        "`take_in` forgets who has ended, so the answers of a step are looked up before it.",
        looks_late,
    ),
    Misconception(
        "those that ended are left out",
        "`take_in` forgets who has ended. Its last token is of this step all the same: the answers "
        "of a step are looked up before it.",
        looks_late_for_who_is_left,
    ),
    Misconception(
        "a pair for an answer",
        "`self.answers[name]` is a pair, the group and the answer; the record of a step has the "
        "answer alone.",
        pairs_for_answers,
    ),
    Misconception(
        "another time than the plan's",
        "`take_in` is told the time at which the plan was made, which is the record's `scheduled`: "
        "that is when a request's waiting ends.",
        another_time,
    ),
    Misconception(
        "the step is not counted",
        "`metrics.num_steps` is one more after each step; what is served to Prometheus, and where "
        "an error says that it happened, come from it.",
        not_counted,
    ),
    Misconception(
        "computed when sampled",
        "`computed` is the result's `computed_at`, when the logits were there: sampling comes "
        "behind it and takes time of its own.",
        computed_when_sampled,
    ),
    Misconception(
        "over before the answers were told",
        "A step is over when the answers have been told: `finished` is taken behind `take_in`.",
        over_when_sampled,
    ),
    Misconception(
        "begun when planned",
        "A step begins before it is planned: `started` is taken in front of `schedule`, so that "
        "the time for planning is `scheduled` less `started`.",
        begun_when_planned,
    ),
    Misconception(
        "planned before the plan",
        "`scheduled` is when the plan was made: it is taken when `schedule` has come back.",
        planned_before_the_plan,
    ),
    Misconception(
        "the news are thrown away",
        "`changed` has what nobody has fetched yet, maybe of an earlier step: a step adds to it, "
        "and takes nothing out.",
        forgets_the_news,
    ),
    Misconception(
        "sampled when the scheduler was told",
        "`sampled_at` is when the tokens were there: it is taken when `execute` comes back, before "
        "anybody is told. What the scheduler does with them is not sampling.",
        sampled_when_told,
    ),
    Misconception(
        "sampled when all was over",
        "`sampled_at` is when the tokens were there: it is taken when `execute` comes back, before "
        "scheduler and answers are told.",
        sampled_when_over,
    ),
    Misconception(
        "sampled when computed",
        "`computed_at` of the result is when the logits were there. Choosing tokens comes behind "
        "it: `sampled_at` is taken when `execute` comes back.",
        sampled_when_computed,
    ),
    Misconception(
        "computed and sampled have changed places",
        "The fields of `StepRecord` are in the order of time: `computed`, which is `computed_at` "
        "of the result, and then `sampled_at`, when `execute` has come back.",
        times_changed_places,
    ),
    Misconception(
        "another clock",
        "All times of a step are of `time.monotonic`, as `computed_at` is: those of two clocks "
        "cannot be compared.",
        of_another_clock,
    ),
    Misconception(
        "the plan is carried out twice",
        "Each of the five is called once in a step: a plan that is carried out again costs a "
        "second run of the model, for the same tokens.",
        computes_twice,
    ),
    Misconception(
        "one fork of several",
        "`forked` names all requests that begin with the blocks of another one, as a prompt with "
        "three answers has two.",
        the_first_fork_alone,
    ),
    Misconception("numbered from 1", "The first step of an engine has the number 0.", number_after),
)

"""The final project: what is got wrong about a step of an engine."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from autograder.checks.finding import Misconception
from course_lib.engine.core import EngineCore, StepRecord
from course_lib.engine.executor import Executor, Forks, StepResult
from course_lib.engine.sampler import sample
from course_lib.scheduling.scheduler import SchedulerOutput

# 13.1a, the step of the core


def _tokens(result: StepResult) -> dict[str, int]:
    return {name: token.token_id for name, token in result.sampled.items()}


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
) -> StepRecord:
    """Run a step, with something left out or in another order."""
    before = time.monotonic()
    output = self.scheduler.schedule()
    planned = time.monotonic()
    forks: Any = {} if forks_late else self.fork(output)
    result = self.executor.execute(output, forks)
    sampled_at = time.monotonic()
    computed = result.computed_at if times_the_model else sampled_at
    sampled = _tokens(result)
    if forks_late:
        forks = self.fork(output)
    pairs = {} if looks_late else {name: self.answers[name] for name in sampled}
    told = planned if tells_the_plans_time else before
    if answers_first:
        self.take_in(output, result, told)
    if tells_scheduler:
        self.scheduler.update_from_output(output, sampled)
    if tells_answers and not answers_first:
        self.take_in(output, result, told)
    if looks_late:
        pairs = {name: self.answers[name] for name in sampled if name in self.answers or raises}
    answers: Any = pairs if gives_pairs else {name: pair[1] for name, pair in pairs.items()}
    number = self.metrics.num_steps
    self.metrics.num_steps += counts
    over = time.monotonic() if times_the_end else sampled_at
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


def falling_times(self: EngineCore) -> StepRecord:
    """Name times that do not rise, as those of two clocks."""
    record = _stepped(self)
    fields = {name: getattr(record, name) for name in StepRecord.__slots__}
    return StepRecord(**fields | {"sampled_at": fields["finished"] + 1})


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
        "times that do not rise",
        "From `started` to `finished` no time is before the one in front of it, and all are of "
        "`time.monotonic`, as `computed_at` is.",
        falling_times,
    ),
    Misconception("numbered from 1", "The first step of an engine has the number 0.", number_after),
)

# 13.1b, the executor carries a plan out


def _forget(self: Executor, output: SchedulerOutput) -> None:
    for request_id in (*output.finished_req_ids, *output.preempted_req_ids):
        self.sequences.pop(request_id, None)


def _swap_out(self: Executor, output: SchedulerOutput) -> None:
    self.kv_store.swap_out(output.blocks_to_swap_out)


def _swap_in(self: Executor, output: SchedulerOutput) -> None:
    self.kv_store.swap_in(output.blocks_to_swap_in)


def _copy(self: Executor, output: SchedulerOutput) -> None:
    if output.blocks_to_copy:
        self.kv_store.copy(output.blocks_to_copy, self.backend)


def _enter(self: Executor, output: SchedulerOutput) -> None:
    for request in (*output.scheduled_new_reqs, *output.scheduled_resumed_reqs):
        self.enter(request)


Preparation = Callable[[Executor, SchedulerOutput], None]
_OF_THE_PLAN: dict[Preparation, tuple[str, ...]] = {
    _forget: ("finished_req_ids", "preempted_req_ids"),
    _swap_out: ("blocks_to_swap_out",),
    _swap_in: ("blocks_to_swap_in",),
    _copy: ("blocks_to_copy",),
    _enter: ("scheduled_new_reqs", "scheduled_resumed_reqs"),
}
"""What is done before the model runs, in the right order, and what of a plan it carries out."""


def _without(output: SchedulerOutput, *preparations: Preparation) -> SchedulerOutput:
    """Return what is left of a plan when these preparations are left out of it."""
    fields = [name for prepare in preparations for name in _OF_THE_PLAN[prepare]]
    return replace(output, **{name: type(getattr(output, name))() for name in fields})


def _after(
    self: Executor, output: SchedulerOutput, forks: Forks | None, *preparations: Preparation
) -> StepResult:
    """Do these preparations first, in this order, and then what is left of the plan."""
    for prepare in preparations:
        prepare(self, output)
    return Executor.execute(self, _without(output, *preparations), forks)


def copies_first(self: Executor, output: SchedulerOutput, forks: Forks | None = None) -> StepResult:
    """Copy within the cache before anything is swapped."""
    return _after(self, output, forks, _forget, _copy)


def swaps_in_first(
    self: Executor, output: SchedulerOutput, forks: Forks | None = None
) -> StepResult:
    """Bring blocks back before others have left."""
    return _after(self, output, forks, _forget, _swap_in)


def copies_before_swap_in(
    self: Executor, output: SchedulerOutput, forks: Forks | None = None
) -> StepResult:
    """Copy blocks that have not come back yet."""
    return _after(self, output, forks, _forget, _swap_out, _copy)


def forgets_nobody(
    self: Executor, output: SchedulerOutput, forks: Forks | None = None
) -> StepResult:
    """Keep the tables of those who have ended."""
    return Executor.execute(self, _without(output, _forget), forks)


def forgets_last(self: Executor, output: SchedulerOutput, forks: Forks | None = None) -> StepResult:
    """Take in newcomers, then forget who ended, by name."""
    return _after(self, output, forks, _swap_out, _swap_in, _copy, _enter)


def enters_the_new_alone(
    self: Executor, output: SchedulerOutput, forks: Forks | None = None
) -> StepResult:
    """Do not take those in who resume."""
    return Executor.execute(self, replace(output, scheduled_resumed_reqs=[]), forks)


def moves_at_the_end(
    self: Executor, output: SchedulerOutput, forks: Forks | None = None
) -> StepResult:
    """Run the model, then move the blocks."""
    moves = (_swap_out, _swap_in, _copy)
    result = Executor.execute(self, _without(output, *moves), forks)
    for move in moves:
        move(self, output)
    return result


def a_call_each(self: Executor, output: SchedulerOutput, forks: Forks | None = None) -> StepResult:
    """Run the model once for each request that is caught up."""
    result = Executor.execute(self, output, forks)
    if output.num_scheduled_tokens:
        batch = self.make_batch(output)
        for row in batch.sample_rows[1:]:
            self.compute_logits(batch, [row])
    return StepResult(result.sampled, time.monotonic())


def a_call_for_each_answer(
    self: Executor, output: SchedulerOutput, forks: Forks | None = None
) -> StepResult:
    """Run the model once for each token that is asked for, those of other answers too."""
    result = Executor.execute(self, output, forks)
    self.num_model_calls += max(len(result.sampled) - 1, 0)  # type: ignore[attr-defined]
    return result


def timed_before_the_model(
    self: Executor, output: SchedulerOutput, forks: Forks | None = None
) -> StepResult:
    """Take the time before the model runs."""
    before = time.monotonic()
    return StepResult(Executor.execute(self, output, forks).sampled, before)


def samples_everybody(
    self: Executor, output: SchedulerOutput, forks: Forks | None = None
) -> StepResult:
    """Sample behind the last token of each request, caught up or not."""
    result = Executor.execute(self, output, forks)
    missing = [name for name in output.num_scheduled_tokens if name not in result.sampled]
    if not missing:
        return result
    batch = self.make_batch(output)
    ends = dict(
        zip(output.num_scheduled_tokens, batch.paged.query_starts[1:].tolist(), strict=True)
    )
    logits = self.compute_logits(batch, [ends[name] - 1 for name in missing])
    self.num_model_calls -= 1  # type: ignore[attr-defined]  # it might have been one call
    tokens = sample(logits, [self.sampling_row(self.sequences[name]) for name in missing])
    sampled = {**result.sampled, **dict(zip(missing, tokens, strict=True))}
    return StepResult(sampled, time.monotonic())


def samples_the_first(
    self: Executor, output: SchedulerOutput, forks: Forks | None = None
) -> StepResult:
    """Give the tokens to the first of the plan, as many as there are."""
    result = Executor.execute(self, output, forks)
    planned = output.num_scheduled_tokens
    tokens = [token for name, token in result.sampled.items() if name in planned]
    others = {name: token for name, token in result.sampled.items() if name not in planned}
    return StepResult({**dict(zip(planned, tokens, strict=False)), **others}, result.computed_at)


def no_children(self: Executor, output: SchedulerOutput, forks: Forks | None = None) -> StepResult:
    """Take no note of the other answers."""
    return Executor.execute(self, output, None)


def never_empty(self: Executor, output: SchedulerOutput, forks: Forks | None = None) -> StepResult:
    """Run the model also where nothing is planned."""
    for prepare in _OF_THE_PLAN:
        prepare(self, output)
    if not output.num_scheduled_tokens:
        self.make_batch(output)
    return Executor.execute(self, _without(output, *_OF_THE_PLAN), forks)


def forgets_who_ended_alone(
    self: Executor, output: SchedulerOutput, forks: Forks | None = None
) -> StepResult:
    """Keep the tables of those who were preempted."""
    return Executor.execute(self, replace(output, preempted_req_ids=set()), forks)


def forgets_who_gave_way_alone(
    self: Executor, output: SchedulerOutput, forks: Forks | None = None
) -> StepResult:
    """Keep the tables of those who have ended."""
    return Executor.execute(self, replace(output, finished_req_ids=set()), forks)


def moves_with_tokens_alone(
    self: Executor, output: SchedulerOutput, forks: Forks | None = None
) -> StepResult:
    """Return before any block is moved where nothing is computed."""
    if not output.num_scheduled_tokens:
        output = _without(output, _swap_out, _swap_in, _copy)
    return Executor.execute(self, output, forks)


def computes_for_samples_alone(
    self: Executor, output: SchedulerOutput, forks: Forks | None = None
) -> StepResult:
    """Leave the model out where nobody gets a token."""
    for prepare in _OF_THE_PLAN:
        prepare(self, output)
    scheduled = [self.sequences[name] for name in output.num_scheduled_tokens]
    if any(sequence.is_caught_up for sequence in scheduled):
        return Executor.execute(self, _without(output, *_OF_THE_PLAN), forks)
    for sequence in scheduled:
        self.update_table(sequence)
    return StepResult({}, time.monotonic())


def ids_for_tokens(
    self: Executor, output: SchedulerOutput, forks: Forks | None = None
) -> StepResult:
    """Return the numbers of the tokens alone."""
    result = Executor.execute(self, output, forks)
    numbers: Any = _tokens(result)
    return StepResult(numbers, result.computed_at)


EXECUTE = (
    Misconception(
        "copies before it swaps out",
        "A block that goes to the CPU may be the very place of a copy: first it has to leave.",
        copies_first,
    ),
    Misconception(
        "swaps in before it swaps out",
        "A block that comes back may get the place of one that leaves in this step: whoever leaves "
        "is read first.",
        swaps_in_first,
    ),
    Misconception(
        "copies before it swaps in",
        "What is to be copied may have been on the CPU until this step: it has to be back first.",
        copies_before_swap_in,
    ),
    Misconception(
        "moves blocks at the end",
        "The model reads and writes the blocks of this plan: what is to be moved is moved before "
        "it runs.",
        moves_at_the_end,
    ),
    Misconception(
        "forgets nobody",
        "Who has ended or lost its blocks has no block table any more; kept for ever, tables are a "
        "leak of their own.",
        forgets_nobody,
    ),
    Misconception(
        "forgets only who ended",
        "Who was preempted has no blocks any more, and so no block table here: it is forgotten as "
        "well, and taken in again when it resumes.",
        forgets_who_ended_alone,
    ),
    Misconception(
        "forgets only who was preempted",
        "`finished_req_ids` names who has ended or gone since the last plan: nobody will ask for "
        "these tables again.",
        forgets_who_gave_way_alone,
    ),
    Misconception(
        "forgets too late",
        "A client may come back under its old name in the same plan: who has ended is forgotten "
        "before anybody is taken in.",
        forgets_last,
    ),
    Misconception(
        "takes in the new ones alone",
        "Who resumes was forgotten when it lost its blocks, and is taken in again like a new one.",
        enters_the_new_alone,
    ),
    Misconception(
        "a model call for each",
        "One call computes the tokens of all requests: the weights are read once, whoever is in "
        "the batch.",
        a_call_each,
    ),
    Misconception(
        "a model call for each answer",
        "One call computes the tokens of all requests, and gives the logits of a row as often as "
        "they are asked for: for each of several answers.",
        a_call_for_each_answer,
    ),
    Misconception(
        "timed before the model",
        "`computed_at` is when the logits were there: the time is taken when `compute_logits` has "
        "returned, not before.",
        timed_before_the_model,
    ),
    Misconception(
        "samples in mid-prompt",
        "A request whose known tokens are not all computed has its next token in its prompt: only "
        "who is caught up gets one.",
        samples_everybody,
    ),
    Misconception(
        "rows for the wrong ones",
        "`sample_rows` has rows of those who are caught up, and of nobody else: where a chunk "
        "stands in front, the first row is not the first one's.",
        samples_the_first,
    ),
    Misconception(
        "the other answers are forgotten",
        "`forks` names requests that begin with the blocks of another one; each of them gets a "
        "token of its own in this step.",
        no_children,
    ),
    Misconception(
        "moves only where something is computed",
        "A plan without tokens may still move blocks: they are moved before it is asked whether "
        "there is anything to compute.",
        moves_with_tokens_alone,
    ),
    Misconception(
        "no sample, no model",
        "A chunk in the middle of a prompt gives no token, and its keys and values are needed all "
        "the same: the model runs whenever something is scheduled.",
        computes_for_samples_alone,
    ),
    Misconception(
        "numbers for tokens",
        "`sampled` has what `sample` returned, a `SampledToken` for each: its log-probabilities "
        "are asked for later.",
        ids_for_tokens,
    ),
    Misconception(
        "computes an empty plan",
        "A plan may only end or move something: without tokens there is no batch to be made.",
        never_empty,
    ),
)

"""The final project: what is got wrong about a step of an engine."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from autograder.checks.finding import Misconception
from course_lib.engine.answer import Answer
from course_lib.engine.core import EngineCore, StepRecord
from course_lib.engine.executor import Executor, Forks, LiveSequence, StepResult
from course_lib.engine.sampler import sample
from course_lib.scheduling.scheduler import SchedulerOutput

# 13.1a, the step of the core


def _record(
    self: EngineCore,
    output: SchedulerOutput,
    sampled: dict[str, int],
    answers: dict[str, Answer],
    forked: dict[str, list[str]],
) -> StepRecord:
    now = time.monotonic()
    self.metrics.num_steps += 1
    number = self.metrics.num_steps - 1
    return StepRecord(number, output, sampled, answers, forked, now, now, now, now, now)


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
    counts: bool = True,
) -> StepRecord:
    """Run a step, with something left out or in another order."""
    output = self.scheduler.schedule()
    forks: Any = {} if forks_late else self.fork(output)
    result = self.executor.execute(output, forks)
    sampled = _tokens(result)
    if forks_late:
        forks = self.fork(output)
    answers = {} if looks_late else {name: self.answers[name][1] for name in sampled}
    now = time.monotonic()
    if answers_first:
        self.take_in(output, result, now)
    if tells_scheduler:
        self.scheduler.update_from_output(output, sampled)
    if tells_answers and not answers_first:
        self.take_in(output, result, now)
    if looks_late:
        answers = {name: self.answers[name][1] for name in sampled}
    if not counts:
        self.metrics.num_steps -= 1
    return _record(self, output, sampled, answers, _names(forks))


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


def not_counted(self: EngineCore) -> StepRecord:
    """Count no step."""
    return _stepped(self, counts=False)


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
        "the step is not counted",
        "`metrics.num_steps` is one more after each step; what is served to Prometheus, and where "
        "an error says that it happened, come from it.",
        not_counted,
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
RIGHT: tuple[Preparation, ...] = (_forget, _swap_out, _swap_in, _copy, _enter)


def _carried_out(
    self: Executor,
    output: SchedulerOutput,
    forks: Forks | None,
    preparations: tuple[Preparation, ...] = RIGHT,
) -> StepResult:
    """Carry a plan out after these preparations."""
    for prepare in preparations:
        prepare(self, output)
    if not output.num_scheduled_tokens:
        return StepResult({}, time.monotonic())
    scheduled = [self.sequences[name] for name in output.num_scheduled_tokens]
    for sequence in scheduled:
        self.update_table(sequence)
    batch = self.make_batch(output)
    rows: list[int] = []
    generating: list[LiveSequence] = []
    caught_up = [sequence for sequence in scheduled if sequence.is_caught_up]
    for sequence, row in zip(caught_up, batch.sample_rows, strict=True):
        family = self.with_forks(sequence, forks or {})
        generating += family
        rows += [row] * len(family)
    logits = self.compute_logits(batch, rows)
    tokens = sample(logits, [self.sampling_row(sequence) for sequence in generating])
    names = [sequence.request.request_id for sequence in generating]
    return StepResult(dict(zip(names, tokens, strict=True)), time.monotonic())


def copies_first(self: Executor, output: SchedulerOutput, forks: Forks | None = None) -> StepResult:
    """Copy within the cache before anything is swapped."""
    return _carried_out(self, output, forks, (_forget, _copy, _swap_out, _swap_in, _enter))


def swaps_in_first(
    self: Executor, output: SchedulerOutput, forks: Forks | None = None
) -> StepResult:
    """Bring blocks back before others have left."""
    return _carried_out(self, output, forks, (_forget, _swap_in, _swap_out, _copy, _enter))


def copies_before_swap_in(
    self: Executor, output: SchedulerOutput, forks: Forks | None = None
) -> StepResult:
    """Copy blocks that have not come back yet."""
    return _carried_out(self, output, forks, (_forget, _swap_out, _copy, _swap_in, _enter))


def forgets_nobody(
    self: Executor, output: SchedulerOutput, forks: Forks | None = None
) -> StepResult:
    """Keep the tables of those who have ended."""
    return _carried_out(self, output, forks, RIGHT[1:])


def forgets_last(self: Executor, output: SchedulerOutput, forks: Forks | None = None) -> StepResult:
    """Take in newcomers, then forget who ended, by name."""
    return _carried_out(self, output, forks, (*RIGHT[1:], _forget))


def enters_the_new_alone(
    self: Executor, output: SchedulerOutput, forks: Forks | None = None
) -> StepResult:
    """Do not take those in who resume."""
    for request in output.scheduled_new_reqs:
        self.enter(request)
    return _carried_out(self, output, forks, RIGHT[:-1])


def moves_at_the_end(
    self: Executor, output: SchedulerOutput, forks: Forks | None = None
) -> StepResult:
    """Run the model, then move the blocks."""
    result = _carried_out(self, output, forks, (_forget, _enter))
    for prepare in (_swap_out, _swap_in, _copy):
        prepare(self, output)
    return result


def a_call_each(self: Executor, output: SchedulerOutput, forks: Forks | None = None) -> StepResult:
    """Run the model once for each token that is asked for."""
    result = _carried_out(self, output, forks)
    if output.num_scheduled_tokens:
        batch = self.make_batch(output)
        for row in batch.sample_rows[1:]:
            self.compute_logits(batch, [row])
    return result


def samples_everybody(
    self: Executor, output: SchedulerOutput, forks: Forks | None = None
) -> StepResult:
    """Sample behind the last token of each request, caught up or not."""
    result = _carried_out(self, output, forks)
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
    return StepResult(sampled, result.computed_at)


def no_children(self: Executor, output: SchedulerOutput, forks: Forks | None = None) -> StepResult:
    """Take no note of the other answers."""
    return _carried_out(self, output, None)


def never_empty(self: Executor, output: SchedulerOutput, forks: Forks | None = None) -> StepResult:
    """Run the model also where nothing is planned."""
    for prepare in RIGHT:
        prepare(self, output)
    if not output.num_scheduled_tokens:
        self.make_batch(output)
    return _carried_out(self, output, forks, ())


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
        "samples in mid-prompt",
        "A request whose known tokens are not all computed has its next token in its prompt: only "
        "who is caught up gets one.",
        samples_everybody,
    ),
    Misconception(
        "the other answers are forgotten",
        "`forks` names requests that begin with the blocks of another one; each of them gets a "
        "token of its own in this step.",
        no_children,
    ),
    Misconception(
        "computes an empty plan",
        "A plan may only end or move something: without tokens there is no batch to be made.",
        never_empty,
    ),
)

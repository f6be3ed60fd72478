"""The final project: what is got wrong about carrying a plan out."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from autograder.checks.finding import Misconception
from course_lib.engine.executor import Executor, Forks, StepResult
from course_lib.engine.sampler import sample
from course_lib.scheduling.scheduler import SchedulerOutput


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
OF_THE_PLAN: dict[Preparation, tuple[str, ...]] = {
    _forget: ("finished_req_ids", "preempted_req_ids"),
    _swap_out: ("blocks_to_swap_out",),
    _swap_in: ("blocks_to_swap_in",),
    _copy: ("blocks_to_copy",),
    _enter: ("scheduled_new_reqs", "scheduled_resumed_reqs"),
}
"""What is done before the model runs, in the right order, and what of a plan it carries out."""


def without(output: SchedulerOutput, *preparations: Preparation) -> SchedulerOutput:
    """Return what is left of a plan when these preparations are left out of it."""
    fields = [name for prepare in preparations for name in OF_THE_PLAN[prepare]]
    return replace(output, **{name: type(getattr(output, name))() for name in fields})


def _after(
    self: Executor, output: SchedulerOutput, forks: Forks | None, *preparations: Preparation
) -> StepResult:
    """Do these preparations first, in this order, and then what is left of the plan."""
    for prepare in preparations:
        prepare(self, output)
    return Executor.execute(self, without(output, *preparations), forks)


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
    return Executor.execute(self, without(output, _forget), forks)


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
    result = Executor.execute(self, without(output, *moves), forks)
    for move in moves:
        move(self, output)
    return result


def a_call_each(self: Executor, output: SchedulerOutput, forks: Forks | None = None) -> StepResult:
    """Run the model once for each request that is caught up."""
    result = Executor.execute(self, output, forks)
    caught_up = [name for name in result.sampled if name in output.num_scheduled_tokens]
    self.num_model_calls += max(len(caught_up) - 1, 0)  # type: ignore[attr-defined]
    return result


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


def timed_behind_sampling(
    self: Executor, output: SchedulerOutput, forks: Forks | None = None
) -> StepResult:
    """Take the time when the tokens are chosen."""
    return StepResult(Executor.execute(self, output, forks).sampled, time.monotonic())


def samples_everybody(
    self: Executor, output: SchedulerOutput, forks: Forks | None = None
) -> StepResult:
    """Sample behind the last token of each request, caught up or not."""
    result = Executor.execute(self, output, forks)
    missing = [name for name in output.num_scheduled_tokens if name not in result.sampled]
    if not missing:
        return result
    batch = self.make_batch(output)
    first = self.logits_at, self.sampling_at  # type: ignore[attr-defined]
    ends = dict(
        zip(output.num_scheduled_tokens, batch.paged.query_starts[1:].tolist(), strict=True)
    )
    logits = self.compute_logits(batch, [ends[name] - 1 for name in missing])
    self.num_model_calls -= 1  # type: ignore[attr-defined]  # it might have been one call
    tokens = sample(logits, [self.sampling_row(self.sequences[name]) for name in missing])
    self.logits_at, self.sampling_at = first  # type: ignore[attr-defined]
    sampled = {**result.sampled, **dict(zip(missing, tokens, strict=True))}
    return StepResult(sampled, result.computed_at)


def samples_the_first(
    self: Executor, output: SchedulerOutput, forks: Forks | None = None
) -> StepResult:
    """Give the tokens to the first of the plan, as many as there are."""
    result = Executor.execute(self, output, forks)
    planned = output.num_scheduled_tokens
    tokens = [token for name, token in result.sampled.items() if name in planned]
    others = {name: token for name, token in result.sampled.items() if name not in planned}
    return StepResult({**dict(zip(planned, tokens, strict=False)), **others}, result.computed_at)


def rows_as_they_came(
    self: Executor, output: SchedulerOutput, forks: Forks | None = None
) -> StepResult:
    """Give the rows out in the order in which the sequences were taken in."""
    result = Executor.execute(self, output, forks)
    planned = [name for name in output.num_scheduled_tokens if name in result.sampled]
    as_they_came = [name for name in self.sequences if name in planned]
    given = {name: result.sampled[by] for name, by in zip(as_they_came, planned, strict=True)}
    return StepResult({**result.sampled, **given}, result.computed_at)


def rows_by_name(self: Executor, output: SchedulerOutput, forks: Forks | None = None) -> StepResult:
    """Give the rows out in the order of names."""
    result = Executor.execute(self, output, forks)
    planned = [name for name in output.num_scheduled_tokens if name in result.sampled]
    given = {name: result.sampled[by] for name, by in zip(sorted(planned), planned, strict=True)}
    return StepResult({**result.sampled, **given}, result.computed_at)


def never_without_forks(
    self: Executor, output: SchedulerOutput, forks: Forks | None = None
) -> StepResult:
    """Take it that there are always forks."""
    if output.num_scheduled_tokens and forks is None:
        raise AttributeError("'NoneType' object has no attribute 'get'")
    return Executor.execute(self, output, forks)


def renews_all_tables(
    self: Executor, output: SchedulerOutput, forks: Forks | None = None
) -> StepResult:
    """Bring the tables of all up to date, also of those who are not in the plan."""
    gone = output.finished_req_ids | output.preempted_req_ids
    for name, sequence in self.sequences.items():
        if name not in gone:
            self.update_table(sequence)
    return Executor.execute(self, output, forks)


def computes_for_all(
    self: Executor, output: SchedulerOutput, forks: Forks | None = None
) -> StepResult:
    """Compute a token of each that is there, also of those who are not in the plan."""
    gone = output.finished_req_ids | output.preempted_req_ids
    others = self.sequences.keys() - gone - output.num_scheduled_tokens.keys()
    if output.num_scheduled_tokens:
        planned = {**output.num_scheduled_tokens, **dict.fromkeys(sorted(others), 1)}
        output = replace(output, num_scheduled_tokens=planned)
    return Executor.execute(self, output, forks)


def chooses_as_for_the_first(
    self: Executor, output: SchedulerOutput, forks: Forks | None = None
) -> StepResult:
    """Choose for all what the first one asks for."""
    result = Executor.execute(self, output, forks)
    self.chosen_for = set(list(result.sampled)[:1])  # type: ignore[attr-defined]
    return result


def the_first_of_a_family_twice(
    self: Executor, output: SchedulerOutput, forks: Forks | None = None
) -> StepResult:
    """Ask for a token of each sequence, and once more with those that begin with its blocks."""
    result = Executor.execute(self, output, forks)
    planned = [name for name in result.sampled if name in output.num_scheduled_tokens]
    self.num_rows += len(planned)  # type: ignore[attr-defined]
    return result


def strikes_off_what_is_done(
    self: Executor, output: SchedulerOutput, forks: Forks | None = None
) -> StepResult:
    """Take out of the plan what has been moved."""
    result = Executor.execute(self, output, forks)
    for moved in (output.blocks_to_swap_out, output.blocks_to_swap_in, output.blocks_to_copy):
        moved.clear()
    return result


def no_children(self: Executor, output: SchedulerOutput, forks: Forks | None = None) -> StepResult:
    """Take no note of the other answers."""
    return Executor.execute(self, output, None)


def never_empty(self: Executor, output: SchedulerOutput, forks: Forks | None = None) -> StepResult:
    """Run the model also where nothing is planned."""
    for prepare in OF_THE_PLAN:
        prepare(self, output)
    if not output.num_scheduled_tokens:
        self.make_batch(output)
    return Executor.execute(self, without(output, *OF_THE_PLAN), forks)


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
        output = without(output, _swap_out, _swap_in, _copy)
    return Executor.execute(self, output, forks)


def computes_for_samples_alone(
    self: Executor, output: SchedulerOutput, forks: Forks | None = None
) -> StepResult:
    """Leave the model out where nobody gets a token."""
    for prepare in OF_THE_PLAN:
        prepare(self, output)
    scheduled = [self.sequences[name] for name in output.num_scheduled_tokens]
    if any(sequence.is_caught_up for sequence in scheduled):
        return Executor.execute(self, without(output, *OF_THE_PLAN), forks)
    for sequence in scheduled:
        self.update_table(sequence)
    return StepResult({}, time.monotonic())


def ids_for_tokens(
    self: Executor, output: SchedulerOutput, forks: Forks | None = None
) -> StepResult:
    """Return the numbers of the tokens alone."""
    result = Executor.execute(self, output, forks)
    numbers: Any = {name: token.token_id for name, token in result.sampled.items()}
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
        "timed behind sampling",
        "`computed_at` is when the logits were there: the time is taken before `sample` chooses, "
        "so that computing and choosing can be told apart.",
        timed_behind_sampling,
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
        "rows in the order of coming",
        "`sample_rows` are in the order of the plan. The sequences were taken in in another order: "
        "go through `output.num_scheduled_tokens`.",
        rows_as_they_came,
    ),
    Misconception(
        "rows in the order of names",
        "`sample_rows` are in the order of the plan, which is not that of names.",
        rows_by_name,
    ),
    Misconception(
        "no forks are None",
        "`forks` is None where a caller has none to tell of: that is no mapping.",
        never_without_forks,
    ),
    Misconception(
        "renews the tables of all",
        "Who shares a block gets one of its own when it is in a plan, and its table is renewed "
        "then; renewed before, it keeps the block of the other one.",
        renews_all_tables,
    ),
    Misconception(
        "computes for all who are there",
        "A step may have fewer tokens than there are requests: only who is in "
        "`num_scheduled_tokens` is computed.",
        computes_for_all,
    ),
    Misconception(
        "chooses as for the first",
        "Each request asks for its own way to choose: `sampling_row` is asked for each that gets a "
        "token.",
        chooses_as_for_the_first,
    ),
    Misconception(
        "a row too many",
        "`with_forks` returns the sequence as well: each of what it returns gets one row.",
        the_first_of_a_family_twice,
    ),
    Misconception(
        "strikes off what is done",
        "The plan is the scheduler's, and the record of the step shows it: it is read, not "
        "changed.",
        strikes_off_what_is_done,
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

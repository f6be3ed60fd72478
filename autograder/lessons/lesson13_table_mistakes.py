"""The final project: what is got wrong about the tables and the rows of a plan."""

from __future__ import annotations

from autograder.checks.finding import Misconception
from autograder.lessons.lesson13_execute_mistakes import OF_THE_PLAN, without
from course_lib.engine.executor import Executor, Forks, StepResult
from course_lib.scheduling.request import Request
from course_lib.scheduling.scheduler import SchedulerOutput


def _prepared(
    self: Executor, output: SchedulerOutput, forks: Forks | None, *renewed: Request
) -> StepResult:
    """Carry a plan out, and renew the tables of these alone."""
    for prepare in OF_THE_PLAN:
        prepare(self, output)
    for request in renewed:
        self.update_table(self.sequences[request.request_id])
    self.update_table = lambda sequence: None  # type: ignore[method-assign]
    try:
        return Executor.execute(self, without(output, *OF_THE_PLAN), forks)
    finally:
        del self.update_table


def renews_no_table(
    self: Executor, output: SchedulerOutput, forks: Forks | None = None
) -> StepResult:
    """Make the batch of tables as they are."""
    return _prepared(self, output, forks)


def renews_the_new_alone(
    self: Executor, output: SchedulerOutput, forks: Forks | None = None
) -> StepResult:
    """Bring the tables of those up to date who have just come."""
    return _prepared(
        self, output, forks, *output.scheduled_new_reqs, *output.scheduled_resumed_reqs
    )


def a_row_for_a_family(
    self: Executor, output: SchedulerOutput, forks: Forks | None = None
) -> StepResult:
    """Ask for one row of a sequence, however many begin with its blocks."""
    result = Executor.execute(self, output, forks)
    rows = [token for name, token in result.sampled.items() if name in output.num_scheduled_tokens]
    self.num_rows -= len(result.sampled) - len(rows)  # type: ignore[attr-defined]
    return StepResult(dict(zip(result.sampled, rows, strict=False)), result.computed_at)


TABLES = (
    Misconception(
        "tables are not renewed",
        "A sequence is taken in with an empty block table: `update_table` of each in the plan "
        "comes before `make_batch`, in every step.",
        renews_no_table,
    ),
    Misconception(
        "newcomers' tables alone are renewed",
        "Who goes on needs a new block now and then, and who shares one gets its own: "
        "`update_table` is called for each in the plan, in every step.",
        renews_the_new_alone,
    ),
    Misconception(
        "a row for a family",
        "`compute_logits` is asked for a row for each that gets a token: that of a sequence comes "
        "as often as `with_forks` returns sequences.",
        a_row_for_a_family,
    ),
)

"""Lesson 5: known wrong answers to static batching."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from autograder.checks.finding import Misconception
from autograder.lessons.lesson05_admission import OneByOne
from course_lib.scheduling.scheduler import Scheduler, SchedulerOutput

Admit = Callable[[Scheduler, SchedulerOutput, int], Any]

# Static batching


def joins_a_free_seat(self: Scheduler, output: SchedulerOutput, budget: int) -> int:
    """Admit whenever there is a seat."""
    return Scheduler.admit_waiting(self, output, budget)


def one_at_a_time(self: Scheduler, output: SchedulerOutput, budget: int) -> Any:
    """Admit one when nobody runs."""
    return budget if self.running else OneByOne(self, output).run(budget)


def when_half_is_done(self: Scheduler, output: SchedulerOutput, budget: int) -> int:
    """Admit when fewer than half of the seats are taken."""
    if 2 * len(self.running) >= self.max_num_seqs:
        return budget
    return Scheduler.admit_waiting(self, output, budget)


def nothing_is_left(self: Scheduler, output: SchedulerOutput, budget: int) -> int:
    """Return no budget while somebody runs."""
    return 0 if self.running else Scheduler.admit_waiting(self, output, budget)


def nothing_returned(self: Scheduler, output: SchedulerOutput, budget: int) -> Any:
    """Admit, and return nothing of what is left."""
    if self.running:
        return budget
    Scheduler.admit_waiting(self, output, budget)
    return None


def budget_unspent(self: Scheduler, output: SchedulerOutput, budget: int) -> int:
    """Admit, and return the budget as it came."""
    if not self.running:
        Scheduler.admit_waiting(self, output, budget)
    return budget


def nothing_returned_meanwhile(self: Scheduler, output: SchedulerOutput, budget: int) -> Any:
    """Return nothing while somebody runs."""
    return None if self.running else Scheduler.admit_waiting(self, output, budget)


def when_somebody_runs(self: Scheduler, output: SchedulerOutput, budget: int) -> int:
    """Admit when the batch is under way, and the first one never."""
    return Scheduler.admit_waiting(self, output, budget) if self.running else budget


def waits_for_a_full_batch(self: Scheduler, output: SchedulerOutput, budget: int) -> int:
    """Admit when there are enough to fill all seats."""
    if self.running or len(self.waiting) < self.max_num_seqs:
        return budget
    return Scheduler.admit_waiting(self, output, budget)


STATIC = (
    Misconception(
        "joins a free seat",
        "That is continuous batching: a static batch is closed until its last request ends.",
        joins_a_free_seat,
    ),
    Misconception(
        "one at a time",
        "When nobody runs, a whole batch starts: as many as `Scheduler` would admit.",
        one_at_a_time,
    ),
    Misconception(
        "when half of the batch is done",
        "A batch is over when nobody runs any more, and not before.",
        when_half_is_done,
    ),
    Misconception(
        "no budget left",
        "Whoever admits nobody spends nothing: all of the budget is left.",
        nothing_is_left,
    ),
    Misconception(
        "nothing is returned",
        "What the other scheduler returns is the budget that is left: it has to be handed on.",
        nothing_returned,
    ),
    Misconception(
        "the budget comes back whole",
        "A batch that is admitted has spent some of the budget: return what the other scheduler "
        "returns, which is what is left.",
        budget_unspent,
    ),
    Misconception(
        "nothing is returned meanwhile",
        "While somebody runs, nobody is admitted and all of the budget is left: return it.",
        nothing_returned_meanwhile,
    ),
    Misconception(
        "the other way round",
        "Somebody has to be the first: nobody joins while somebody runs.",
        when_somebody_runs,
    ),
    Misconception(
        "waits for a full batch",
        "The last few requests would never start: a batch takes those that are there.",
        waits_for_a_full_batch,
    ),
)

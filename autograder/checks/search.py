"""The search for the smallest failing case, by Hypothesis."""

from __future__ import annotations

import contextlib
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import hypothesis
from hypothesis import HealthCheck, Phase, Verbosity, configuration, reporting

from autograder.checks.finding import Counterexample
from autograder.proxy.subject import Subject, SubjectGoneError

PUBLIC_SEED = 20_250_101
"""The seed that the notebook's checks use; the sealed grader has one of its own."""

PUBLIC_EXAMPLES = 100
SECONDS = 2.0
"""CPU time that a search may take: a check answers in three seconds, probes and report included.

Not time by the clock: a class at work on the same machine must not make a wrong answer right.
"""

SHRINKING_SECONDS = SECONDS
"""CPU time from the first failure on, within those of the search: for making it smaller."""

PATIENCE = 10
"""How many times as long a search may take by the clock, for who waits or is not given a CPU."""


def seconds_spent() -> float:
    """Return the CPU time that this thread has taken, by which a search is limited."""
    return time.thread_time()


# Hypothesis keeps a cache beside the working directory, which here is the learner's workspace.
configuration.set_hypothesis_home_dir(Path(tempfile.gettempdir()) / "course-hypothesis")


class Search:
    """Runs a property until a time limit and remembers the smallest failure.

    Args:
        subject: What the property is about.
        max_examples: How many examples to try.
        seconds: CPU time that it may take; ``SECONDS`` unless told.

    Attributes:
        settings: What to run Hypothesis with.
        smallest: The failure that shrinking arrived at, if any; the shortest that was seen where
            the time limit ended the shrinking.
        witness: What was handed to ``fail`` with it, so that it can be tried again.
        is_cut_short: Whether the time limit ended the search.
    """

    def __init__(self, subject: Subject, max_examples: int, seconds: float | None = None) -> None:
        seconds = SECONDS if seconds is None else seconds
        self.settings = hypothesis.settings(
            max_examples=max_examples,
            database=None,
            deadline=None,
            phases=(Phase.generate, Phase.shrink),
            report_multiple_bugs=False,
            suppress_health_check=list(HealthCheck),
            verbosity=Verbosity.quiet,
            print_blob=False,
        )
        self.smallest: Counterexample | None = None
        self.witness: Any = None
        self.is_cut_short = False
        self._subject = subject
        self._shortest: tuple[Counterexample, Any] | None = None
        self._stop_at = seconds_spent() + seconds
        self._give_up_at = time.monotonic() + PATIENCE * seconds

    def fail(self, counterexample: Counterexample, witness: Any = None) -> None:
        """Record a failure and end this example; the search too if the subject is silent."""
        self.smallest, self.witness = counterexample, witness
        if self._shortest is None:
            self._stop_at = min(self._stop_at, seconds_spent() + SHRINKING_SECONDS)
        if self._shortest is None or length(counterexample) <= length(self._shortest[0]):
            self._shortest = counterexample, witness
        raise _SearchEndsError if self._subject.is_silent else _ExampleFailedError

    @contextlib.contextmanager
    def step(self) -> Iterator[None]:
        """Surround each use of the subject: ends the search when its time is up.

        What was found by then stands. A subject that is gone ends it too.
        """
        if seconds_spent() > self._stop_at or time.monotonic() > self._give_up_at:
            raise _SearchEndsError
        try:
            yield
        except SubjectGoneError as error:
            raise _SearchEndsError from error

    def run(self, search: Callable[[], object]) -> None:
        """Run a Hypothesis test whose examples use ``step`` and ``fail``.

        Raises:
            SubjectGoneError: The subject is gone.
        """
        try:
            with reporting.with_reporter(lambda _: None):
                _run_unwrapped(search)
        except _ExampleFailedError:
            pass
        except _SearchEndsError as end:
            if isinstance(end.__cause__, SubjectGoneError):
                raise end.__cause__ from None
            self.is_cut_short = True
            if self._shortest is not None:
                self.smallest, self.witness = self._shortest
        except hypothesis.errors.Flaky:
            # The object answered the same calls differently; the failure on record is real.
            if self.smallest is None:
                raise


def length(counterexample: Counterexample) -> tuple[int, int]:
    """Return how long a case is: its calls, then its characters."""
    return counterexample.case.count("\n"), len(counterexample.case)


def _run_unwrapped(search: Callable[[], object]) -> None:
    """Run ``search``; let out what it was ended with, be that Ctrl-C or the time limit.

    An example of a state machine that is left half way looks flaky to Hypothesis, which then
    complains instead of passing on why it was left.
    """
    try:
        search()
    except hypothesis.errors.Flaky as flaky:
        behind = flaky.__context__
        while isinstance(behind, Exception):
            behind = behind.__context__
        if behind is not None:
            raise behind from None
        raise


class _ExampleFailedError(Exception):
    """This example fails; Hypothesis goes on to shrink it."""


class _SearchEndsError(BaseException):
    """Not an Exception, so that Hypothesis lets it through."""

"""The search for the smallest failing case, by Hypothesis."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import hypothesis
from hypothesis import HealthCheck, Phase, Verbosity, configuration, reporting

from autograder.checks.finding import Counterexample

PUBLIC_SEED = 20_250_101
"""The seed that the notebook's checks use; the sealed grader has one of its own."""

PUBLIC_EXAMPLES = 100
_SECONDS = 2.0

# Hypothesis keeps a cache beside the working directory, which here is the learner's workspace.
configuration.set_hypothesis_home_dir(Path(tempfile.gettempdir()) / "course-hypothesis")


class Search:
    """Runs a property until a time limit and remembers the last, so smallest, failure.

    Attributes:
        settings: What to run Hypothesis with.
        smallest: The failure that shrinking arrived at, if any.
    """

    def __init__(self, max_examples: int, seconds: float = _SECONDS) -> None:
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
        self._stop_at = time.monotonic() + seconds

    def fail(self, counterexample: Counterexample) -> None:
        """Record a failure and end this example."""
        self.smallest = counterexample
        raise _ExampleFailedError

    def check_time(self) -> None:
        """End the search when its time is up; what it found by then stands."""
        if time.monotonic() > self._stop_at:
            raise _TimeIsUpError

    def run(self, search: Callable[[], object]) -> None:
        """Run a Hypothesis test whose examples call ``fail``."""
        try:
            with reporting.with_reporter(lambda _: None):
                search()
        except (_ExampleFailedError, _TimeIsUpError):
            pass
        except hypothesis.errors.Flaky:
            # The object answered the same calls differently; the failure on record is real.
            if self.smallest is None:
                raise


class _ExampleFailedError(Exception):
    """This example fails; Hypothesis goes on to shrink it."""


class _TimeIsUpError(BaseException):
    """Not an Exception, so that Hypothesis lets it through."""

"""Checks of plain values: a number worked out by hand, a figure measured, a choice made."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from autograder.checks.compare import Comparison, exactly, is_nothing, show, show_outcome
from autograder.checks.finding import PASSED, Counterexample, Finding, Misconception
from autograder.proxy.subject import Raised, Subject


@dataclass(frozen=True)
class AnswerCheck:
    """The property that a value is the one asked for.

    Attributes:
        reference: Works out the right answer.
        question: What stands for the call in a report, such as ``"your answer"``.
        misconceptions: Known wrong values, or functions without arguments that work them out.
        compare: When two values agree.
        alike: When a value is a known wrong one; by default, when ``compare`` says so.
        reveal: Whether a report shows the right answer. Where knowing it leaves nothing to do, not.
    """

    reference: Callable[[], Any]
    question: str = "your answer"
    misconceptions: tuple[Misconception, ...] = ()
    compare: Comparison = exactly
    alike: Comparison | None = None
    reveal: bool = False

    def examine(self, subject: Subject, seed: int, max_examples: int) -> Finding:
        """Compare the value with the right one. The seed and the bound play no part."""
        answer = subject.value()
        if isinstance(answer, Raised):
            return Finding(0.0, Counterexample(self.question, "plain data", show_outcome(answer)))
        expected, got = self.reference(), answer.value
        complaint = self.compare(expected, got)
        if complaint is None:
            return PASSED
        shown = show(expected) if self.reveal else "another value"
        return Finding(
            0.0,
            Counterexample(self.question, shown, show(got), complaint),
            self._misconception_of(got),
            unwritten=is_nothing(got),
        )

    def _misconception_of(self, got: Any) -> Misconception | None:
        alike = self.alike or self.compare
        for misconception in self.misconceptions:
            # Working out what a known mistake gives may take a while, so it may be put off.
            wrong = misconception.wrong
            if alike(wrong() if callable(wrong) else wrong, got) is None:
                return misconception
        return None

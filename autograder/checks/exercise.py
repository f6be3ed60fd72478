"""An exercise: what is asked, how it is checked, what it earns, and what helps."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Protocol

from autograder.checks.finding import Finding, Misconception
from autograder.checks.garbage import collected_rarely
from autograder.checks.reference import Method, plain
from autograder.checks.scaffold import empty_places, is_untouched, told_from_given_lines
from autograder.checks.search import PUBLIC_EXAMPLES, PUBLIC_SEED
from autograder.proxy.subject import PATIENCE, Subject
from course_lib import parts
from course_lib.parts import PARTS

_UNTOUCHED = "Nothing is written yet: write below YOUR CODE HERE, wherever it stands."

_ORDINALS = ("zeroth", "first", "second", "third", "fourth", "fifth", "sixth", "seventh")


class Check(Protocol):
    """A property of an implementation, with the known wrong answers that it must reject."""

    @property
    def reference(self) -> Any:
        """The right answer."""
        ...

    @property
    def misconceptions(self) -> tuple[Misconception, ...]:
        """The known wrong answers."""
        ...

    def examine(self, subject: Subject, seed: int, max_examples: int) -> Finding:
        """Say how far ``subject`` has the property."""
        ...


@dataclass(frozen=True)
class Exercise:
    """One thing that a learner is asked to do.

    Attributes:
        id: Lesson and number, such as ``"1.2"``.
        title: A few words.
        asks: What is asked, in one sentence.
        check: How it is checked.
        points: What it earns; 0 for practice.
        minutes: How long it takes, roughly.
        difficulty: 1 to 3.
        hints: From a question, over the idea in words, to one line of pseudocode.
    """

    id: str
    title: str
    asks: str
    check: Check
    points: float = 0
    minutes: int = 1
    difficulty: int = 1
    hints: tuple[str, ...] = ()

    @property
    def part(self) -> str | None:
        """The part of the engine that solving it yields, if any."""
        reference = self.check.reference
        owner = reference.owner if isinstance(reference, Method) else plain(reference)
        part = PARTS.get(str(getattr(owner, "__name__", None)))
        if part is None or plain(parts.reference(part.name)) is not owner:
            return None
        if not isinstance(reference, Method):
            return part.name
        return reference.__qualname__ if reference.__name__ in part.methods else None

    @property
    def missing(self) -> str:
        """Why it cannot be checked here, such as that Triton is not installed; "" if it can."""
        try:
            self.check.reference  # noqa: B018 - a kernel is imported when it is asked for
        except ImportError as error:
            if error.name != "triton":
                return str(error)
            from course_lib.attention import triton_state

            return triton_state().reason
        return ""

    @property
    def patience(self) -> float:
        """Seconds that one call of the object may take: a kernel under the interpreter is slow."""
        return float(getattr(self.check, "patience", PATIENCE))

    def examine(
        self, subject: Subject, seed: int = PUBLIC_SEED, max_examples: int = PUBLIC_EXAMPLES
    ) -> Finding:
        """Check an object. The sealed grader passes a seed and a bound of its own.

        A stub that is still as it was released has not been started, whatever it returns.
        """
        with collected_rarely():
            finding = self.check.examine(subject, seed, max_examples)
        if finding.fraction < 1 and is_untouched(subject.source(), self.id):
            advice = finding.advice if finding.unwritten else ""
            return Finding(0.0, unwritten=True, advice=advice or _UNTOUCHED)
        if finding.fraction < 1 and (places := empty_places(subject.source(), self.id)).empty:
            said = " and the ".join(_ORDINALS[place] for place in places.empty)
            said = f"Nothing is written below the {said} YOUR CODE HERE."
            is_begun = len(places.empty) < places.number
            if finding.counterexample is None or not is_begun:
                return replace(finding, unwritten=True, advice=said)
            case = finding.counterexample
            complaint = f"{case.complaint}; {said[0].lower()}{said[1:-1]}".removeprefix("; ")
            return replace(
                finding,
                counterexample=replace(case, complaint=complaint),
                unwritten=False,
                misconception=None,
                alike=(),
            )
        if finding.counterexample is None:
            return finding
        case = told_from_given_lines(finding.counterexample, self.id)
        return replace(finding, counterexample=case)

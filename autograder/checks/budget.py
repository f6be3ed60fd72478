"""Checks of cost: CPU time as a ratio to the reference in the same run, or operations counted.

Nothing is earned unless the object is right. Bands are wide, because a grade must not depend on
what else the machine does; ``race`` times both sides.
"""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from typing import Any

from autograder.checks.compare import Comparison, compare_outcomes, exactly
from autograder.checks.exercise import Check
from autograder.checks.finding import (
    CHECKED,
    FAILING,
    Counterexample,
    Finding,
    Misconception,
    code_alone,
)
from autograder.checks.function import Call
from autograder.checks.race import Bands, Play, run_race, said_times, short
from autograder.checks.reference import Method, plain
from autograder.checks.show import show_call, show_outcome
from autograder.proxy.recipes import Callback
from autograder.proxy.subject import (
    ITSELF,
    PATIENCE,
    TRUSTED_PATIENCE,
    LocalSubject,
    Outcome,
    Returned,
    Subject,
)
from autograder.proxy.wire import Ref

__all__ = [
    "ALLOWED",
    "Bands",
    "Budget",
    "Metered",
    "OperationBudget",
    "Tally",
    "TimeBudget",
    "calls",
    "metered",
    "on_an_object",
]

ALLOWED = Bands(((1.0, 1.0), (2.0, 0.5)))
"""All points for what is allowed, half for up to twice that."""


@dataclass(frozen=True, kw_only=True)
class Budget(ABC):
    """The property that an object is right and does not cost too much.

    Attributes:
        inner: The check of what it does; its reference is what the cost is held against.
        bands: The share that a ratio of costs earns.
        weight: The share of the points that the cost decides; the rest is for being right.
        compare: When two outcomes of the work agree.
        known: Right answers that cost too much, with what makes them so.
        patience: Seconds that one call may take.
    """

    inner: Check
    bands: Bands
    weight: float = 1.0
    compare: Comparison = exactly
    known: tuple[Misconception, ...] = ()
    patience: float = PATIENCE

    @property
    def reference(self) -> Any:
        """The right answer."""
        return self.inner.reference

    @property
    def misconceptions(self) -> tuple[Misconception, ...]:
        """Known wrong answers, and right ones that cost too much."""
        return (*self.inner.misconceptions, *self.known)

    def examine(self, subject: Subject, seed: int, max_examples: int) -> Finding:
        """Examine what the object does; if it is right, hold its cost against the reference's."""
        finding = self.inner.examine(subject, seed, max_examples)
        if finding.fraction < 1:
            return replace(finding, fraction=0.0)
        return self.weighed(subject, LocalSubject(plain(self.reference), TRUSTED_PATIENCE), seed)

    @property
    def said_of_bands(self) -> str:
        """What the cost decides, and how, in a sentence."""
        bands = f"The bands: {self.bands!r}."
        if self.bands.limits == ((1, 1),):
            bands = "What costs no more than is allowed earns them all."
        if self.weight == 1:
            return bands
        return f"{self.weight:.0%} of the points are for what it costs. {bands}"

    @abstractmethod
    def weighed(self, subject: Subject, trusted: Subject, seed: int) -> Finding:
        """Return the finding for an object that is right, by what it costs."""

    def earned(self, share: float) -> float:
        """Return the share of the points for an object that is right and costs so much."""
        return 1 - self.weight + self.weight * share


@dataclass(frozen=True, kw_only=True)
class TimeBudget(Budget):
    """The property that an object is right and takes not much more CPU time than the reference.

    Each of the ``known`` has its ``evidence``, by which it is named.

    Attributes:
        play: The work that is timed. It must differ with the number that it is given, so that
            nobody is fast by remembering. It should hold no array of more than 100 kB: the pages of
            fresh memory that it needs are timed, too, and not every process has to ask for them.
            Work of less than 20 ms is repeated until it took so long.
    """

    play: Play

    def weighed(self, subject: Subject, trusted: Subject, seed: int) -> Finding:
        """Time the object and the reference in turns."""
        race = run_race(self.play, self.bands, self.compare, subject, trusted, seed)
        if race.problem is not None:
            return Finding(0.0, race.problem)
        share = self.bands.share(race.ratio)
        measured = f"{race.says} {self.said_of_bands}"
        if share == 1:
            return Finding(1.0, remarks=(measured,))
        fitting = self._known_in(subject)
        slow = Counterexample(
            "the same work, timed for both",
            f"at most {self.bands.limits[0][0]:g} times the reference's CPU time",
            f"{said_times(race.ratio)}",
            "it is right, and slower than need be",
            label=CHECKED,
        )
        finding = Finding(self.earned(share), slow, remarks=(measured,))
        return finding.named(fitting, subject)

    def _known_in(self, subject: Subject) -> list[Misconception]:
        """Return the slow answers whose evidence is in the source: times alone tell none apart."""
        source = code_alone(subject.source() or "")
        return [each for each in self.known if each.evidence and re.search(each.evidence, source)]


@dataclass(frozen=True)
class Tally:
    """One case of work whose operations were counted.

    Attributes:
        case: The case, as one would type it.
        outcome: What came of it.
        count: The operations.
        allowed: How many are allowed.
        operation: What was counted, such as ``"calls of measure"``.
    """

    case: str
    outcome: Outcome
    count: int
    allowed: float
    operation: str

    @property
    def limit(self) -> str:
        """What is allowed, in words.

        >>> Tally("f(1)", Returned(1), 2, 1.0, "calls of f").limit
        '1 call of f'
        """
        is_one = self.allowed == 1
        noun = self.operation.replace("calls", "call", 1) if is_one else self.operation
        return f"{self.allowed:g} {noun}"


@dataclass(frozen=True)
class Metered:
    """A call with a function among its arguments whose calls are counted.

    Attributes:
        call: The call.
        meter: The function that is counted; it is one of the arguments.
        allowed: How often it may be called.
        once: Whether it may be called only once with the same arguments.
    """

    call: Call
    meter: Callback
    allowed: float
    once: bool = False


Count = Callable[[Subject, int], Iterable[Tally]]
"""Uses an object on the cases that a seed decides, and counts."""


def metered(function: str, meter: str, cases: Callable[[int], Iterable[Metered]]) -> Count:
    """Return a count of how often a function asks a function that it is given.

    Args:
        function: The name of the learner's function.
        meter: The name of the function that is counted, such as ``"measure"``.
        cases: The calls of a seed, with meters of their own each time.
    """

    def count(subject: Subject, seed: int) -> Iterable[Tally]:
        for case in cases(seed):
            shown = show_call(function, case.call.args, case.call.kwargs)
            before = len(case.meter.calls)
            outcome = subject.call(case.call.args, case.call.kwargs)
            asked = case.meter.calls[before:]
            count, allowed, operation = len(asked), case.allowed, f"calls of {meter}"
            most = max(Counter(map(repr, asked)).values(), default=0) if case.once else 0
            if most > max(1, count / allowed):
                count, allowed, operation = most, 1.0, f"{operation} with the same arguments"
            yield Tally(short(shown), outcome, count, allowed, operation)

    return count


@dataclass(frozen=True, kw_only=True)
class OperationBudget(Budget):
    """The property that an object is right and needs no more operations than allowed.

    The worst ratio of a count to what is allowed decides. Each of the ``known`` is named by its
    counts.

    Attributes:
        count: Uses an object and counts; the same on the reference gives the right outcomes.
    """

    count: Count
    bands: Bands = ALLOWED

    def weighed(self, subject: Subject, trusted: Subject, seed: int) -> Finding:
        """Count for the object and for the reference."""
        tallies: list[Tally] = []
        pairs = zip(self.count(trusted, seed), self.count(subject, seed), strict=True)
        for right, tally in pairs:
            complaint = compare_outcomes(self.compare, right.outcome, tally.outcome)
            if complaint is not None:
                shown = show_outcome(right.outcome), show_outcome(tally.outcome)
                case = Counterexample(tally.case, *shown, complaint, label=FAILING)
                return Finding(0.0, case)
            tallies.append(tally)
        return self._judged(tallies, subject, seed)

    def _judged(self, tallies: list[Tally], subject: Subject, seed: int) -> Finding:
        """Return the finding for an object that is right: its worst case decides."""
        worst = max(tallies, key=lambda tally: tally.count / tally.allowed)
        ratio = worst.count / worst.allowed
        counted = (
            f"At most {worst.count} {worst.operation} where {worst.allowed:g} "
            f"{'is' if worst.allowed == 1 else 'are'} allowed. "
            f"{self.said_of_bands}"
        )
        share = self.bands.share(ratio)
        if share == 1:
            return Finding(1.0, remarks=(counted,))
        many = Counterexample(
            worst.case,
            f"at most {worst.limit}",
            f"{worst.count}",
            "the value is right, and it takes more than need be",
            label=FAILING,
        )
        finding = Finding(self.earned(share), many, remarks=(counted,))
        counts = [tally.count for tally in tallies]
        fitting = [each for each in self.known if self._counts(each, seed) == counts]
        return finding.named(fitting, subject)

    def _counts(self, misconception: Misconception, seed: int) -> list[int]:
        wrong = LocalSubject(misconception.wrong, timeout=self.patience)
        return [tally.count for tally in self.count(wrong, seed)]


def calls(call: Callable[[int], Call]) -> Play:
    """Return the work of one call whose arguments the number decides.

    >>> double = LocalSubject(lambda x: 2 * x)
    >>> calls(lambda number: Call(number))(double, 4)[0].value
    8
    """
    return lambda subject, number: [subject.call(call(number).args, call(number).kwargs)]


def on_an_object(
    call: Call,
    life: Callable[[int], Iterable[tuple[str, Call]]],
    method: Method | None = None,
) -> Play:
    """Return the work of an object's life: the calls of its methods count, its making does not.

    Args:
        call: How the object is made.
        life: The methods called and their arguments, as the number decides.
        method: The one that the learner's function is; None if what they write is the class.
    """

    def play(subject: Subject, number: int) -> list[Outcome]:
        owner = ITSELF if method is None else subject.mount(method.lives_on, method.__name__)
        made = subject.call(call.args, call.kwargs, target=owner)
        if not (isinstance(made, Returned) and isinstance(made.value, Ref)):
            return [made]
        return [
            subject.invoke(made.value, name, each.args, each.kwargs) for name, each in life(number)
        ]

    return play

"""Checks of cost: CPU time as a ratio to the reference in the same run, or operations counted.

Nothing is earned unless the object is right. Bands are wide, because a grade must not depend on
what else the machine does: both sides are timed in turns, the best of each counts, and near the
edge of a band it is measured again.
"""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
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

ROUNDS = 3
"""How often each side is timed at the least; the best time of each counts."""

_ENOUGH_SECONDS, _MAX_SHORT_ROUNDS = 0.02, 40
"""Short work is timed until the reference has worked for so long: with six busy neighbours, three
rounds of 50 µs of equal work were 1.5 times apart in one of eight cases."""
_NEAR, _MAX_ROUNDS = 0.15, 12
"""How close to the edge of a band, as a share of it, a ratio is measured again, and how often."""
_LONG_SECONDS = 0.3
"""What takes so long is not slow because it ran for the first time."""

_MILLISECONDS = 1e3
_LONG_CASE = 200
_IN_WHOLE = 99.5
"""From here on two digits would be written with an exponent."""

Play = Callable[[Subject, int], Sequence[Outcome]]
"""Uses an object in a way that the number decides; returns the outcomes of the calls that count."""


@dataclass(frozen=True)
class Bands:
    """What share of the points a ratio earns.

    Attributes:
        limits: Pairs of the largest ratio and the share that it still earns, from the best on.

    Raises:
        ValueError: The limits do not rise, or the shares do not fall, or are outside 0 to 1.

    >>> wide = Bands(((1.5, 1.0), (4.0, 0.5)))
    >>> wide.share(1.2), wide.share(3), wide.share(4.1)
    (1.0, 0.5, 0.0)
    >>> wide
    all points up to 1.5 times, 50% up to 4 times
    """

    limits: tuple[tuple[float, float], ...]

    def __post_init__(self) -> None:
        pairs = pairwise(self.limits)
        in_order = all(one[0] < two[0] and one[1] > two[1] for one, two in pairs)
        if not self.limits or not in_order or not all(0 < share <= 1 for _, share in self.limits):
            raise ValueError(
                f"bands {self.limits}: limits rise and shares fall, from 1 at the most to above 0"
            )

    def share(self, ratio: float) -> float:
        """Return the share of the points that a ratio earns."""
        return next((share for limit, share in self.limits if ratio <= limit), 0.0)

    def is_near(self, ratio: float) -> bool:
        """Say whether a ratio is so close to an edge that chance could decide."""
        return any(abs(ratio - limit) <= _NEAR * limit for limit, _ in self.limits)

    def is_hopeless(self, ratio: float) -> bool:
        """Say whether no chance could bring a ratio into a band."""
        return ratio > 2 * self.limits[-1][0]

    def __repr__(self) -> str:
        said = [
            f"{'all points' if share == 1 else f'{share:.0%}'} up to {limit:g} times"
            for limit, share in self.limits
        ]
        return ", ".join(said)


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
        if self.weight == 1:
            return f"The bands: {self.bands!r}."
        return f"{self.weight:.0%} of the points are for what it costs. The bands: {self.bands!r}."

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
            nobody is fast by remembering. It should take 10 ms or more and return little: the pages
            of fresh memory that a large result needs are timed, too, and not every process has to
            ask for them.
    """

    play: Play

    def weighed(self, subject: Subject, trusted: Subject, seed: int) -> Finding:
        """Time the object and the reference in turns."""
        times: list[tuple[float, float]] = []
        while self._goes_on(times):
            played = self._round(trusted, subject, seed + len(times), len(times) % 2)
            problem = self._difference(*played)
            if problem is not None:
                return Finding(0.0, problem)
            expected, got = (sum(each.fate.seconds for each in outcomes) for outcomes in played)
            times.append((expected, got))
        ratio = _ratio(times)
        share = self.bands.share(ratio)
        reference, own = (min(side) * _MILLISECONDS for side in zip(*times, strict=True))
        measured = (
            f"CPU time: {own:.3g} ms, {_times(ratio)} the reference's {reference:.3g} ms in the "
            f"same run (best of {len(times)}). {self.said_of_bands}"
        )
        if share == 1:
            return Finding(1.0, remarks=(measured,))
        fitting = self._known_in(subject)
        slow = Counterexample(
            "the same work, timed for both",
            f"at most {self.bands.limits[0][0]:g} times the reference's CPU time",
            f"{_times(ratio)}",
            "it is right, and slower than need be",
            label=CHECKED,
        )
        finding = Finding(self.earned(share), slow, remarks=(measured,))
        return finding.named(fitting, subject)

    def _goes_on(self, times: Sequence[tuple[float, float]]) -> bool:
        """Say whether to time both sides once more, after these times of the reference and own."""
        if not times:
            return True
        ratio, rounds = _ratio(times), len(times)
        settled = rounds >= ROUNDS or times[-1][1] > _LONG_SECONDS
        if settled and self.bands.is_hopeless(ratio):
            return False
        is_short = sum(reference for reference, _ in times) < _ENOUGH_SECONDS
        return (
            rounds < ROUNDS
            or (is_short and rounds < _MAX_SHORT_ROUNDS)
            or (self.bands.is_near(ratio) and rounds < _MAX_ROUNDS)
        )

    def _known_in(self, subject: Subject) -> list[Misconception]:
        """Return the slow answers whose evidence is in the source: times alone tell none apart."""
        source = code_alone(subject.source() or "")
        return [each for each in self.known if each.evidence and re.search(each.evidence, source)]

    def _round(
        self, trusted: Subject, subject: Subject, number: int, first: int
    ) -> tuple[Sequence[Outcome], Sequence[Outcome]]:
        """Let both sides do the same work, the one and the other first in turns."""
        if first == 0:
            expected = self.play(trusted, number)
            return expected, self.play(subject, number)
        got = self.play(subject, number)
        return self.play(trusted, number), got

    def _difference(
        self, expected: Sequence[Outcome], got: Sequence[Outcome]
    ) -> Counterexample | None:
        """Return where the outcomes of the work differ: being fast is easy if one is wrong."""
        for place, (right, came) in enumerate(zip(expected, got, strict=False)):
            complaint = compare_outcomes(self.compare, right, came)
            if complaint is not None:
                return Counterexample(
                    f"the work that is timed, call {place + 1} of {len(expected)}",
                    _short(show_outcome(right)),
                    _short(show_outcome(came)),
                    complaint or "small cases are right, this one is not",
                    label=CHECKED,
                )
        if len(expected) != len(got):
            wanted, came_back = f"{len(expected)} calls come back", f"{len(got)} did"
            return Counterexample("the work that is timed", wanted, came_back, label=CHECKED)
        return None


def _ratio(times: Sequence[tuple[float, float]]) -> float:
    """Return the ratio of the best times, own to reference.

    >>> _ratio([(2.0, 9.0), (3.0, 3.0)])
    1.5
    """
    reference = min(reference for reference, _ in times)
    return min(own for _, own in times) / max(reference, 1e-9)


def _times(ratio: float) -> str:
    """Write a ratio as a person would say it.

    >>> _times(4.23), _times(382.7)
    ('4.2 times', '383 times')
    """
    return f"{ratio:.2g} times" if ratio < _IN_WHOLE else f"{ratio:,.0f} times"


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


@dataclass(frozen=True)
class Metered:
    """A call with a function among its arguments whose calls are counted.

    Attributes:
        call: The call.
        meter: The function that is counted; it is one of the arguments.
        allowed: How often it may be called.
    """

    call: Call
    meter: Callback
    allowed: float


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
            asked = len(case.meter.calls) - before
            yield Tally(_short(shown), outcome, asked, case.allowed, f"calls of {meter}")

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
            f"At most {worst.count} {worst.operation} where {worst.allowed:g} are allowed. "
            f"{self.said_of_bands}"
        )
        share = self.bands.share(ratio)
        if share == 1:
            return Finding(1.0, remarks=(counted,))
        many = Counterexample(
            worst.case,
            f"at most {worst.allowed:g} {worst.operation}",
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


def _short(text: str) -> str:
    """Cut what no one would read to its end.

    >>> _short("x" * 300)[-5:], len(_short("x" * 300))
    ('x ...', 200)
    """
    return text if len(text) <= _LONG_CASE else f"{text[: _LONG_CASE - 4]} ..."

"""A race for CPU time: the same work for a learner's object and the reference, in turns.

What else the machine does must not decide a grade. So time is that of the thread which works and
of whoever works for it, the best of each side counts, and near the edge of a band both are timed
again.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise

from autograder.checks.compare import Comparison, compare_outcomes
from autograder.checks.finding import CHECKED, Counterexample
from autograder.checks.show import show_outcome
from autograder.proxy.subject import Outcome, Subject

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


@dataclass(frozen=True)
class Race:
    """What came of a race.

    Attributes:
        times: CPU seconds of the reference and of the object, by round; one at least, unless there
            is a problem.
        problem: Where what came of the work differs; the race ends there.
    """

    times: tuple[tuple[float, float], ...]
    problem: Counterexample | None = None

    @property
    def ratio(self) -> float:
        """The ratio of the best times, the object's to the reference's."""
        return ratio_of(self.times)

    @property
    def says(self) -> str:
        """What was measured, in a sentence."""
        reference, own = (min(side) * _MILLISECONDS for side in zip(*self.times, strict=True))
        return (
            f"CPU time: {own:.3g} ms, {said_times(self.ratio)} the reference's {reference:.3g} ms "
            f"in the same run (best of {len(self.times)})."
        )


def run_race(
    play: Play,
    bands: Bands,
    compare: Comparison,
    subject: Subject,
    trusted: Subject,
    seed: int,
) -> Race:
    """Time an object and the reference in turns.

    Args:
        play: The work, other work for each number.
        bands: Near the edges of which it is timed again.
        compare: When two outcomes of the work agree.
        subject: The object.
        trusted: The reference.
        seed: The number of the first round.
    """
    times: list[tuple[float, float]] = []
    while _goes_on(times, bands):
        played = _round(play, trusted, subject, seed + len(times), len(times) % 2)
        problem = _difference(compare, *played)
        if problem is not None:
            return Race(tuple(times), problem)
        expected, got = (sum(each.fate.seconds for each in outcomes) for outcomes in played)
        times.append((expected, got))
    return Race(tuple(times))


def _goes_on(times: Sequence[tuple[float, float]], bands: Bands) -> bool:
    """Say whether to time both sides once more, after these times of the reference and own."""
    if not times:
        return True
    ratio, rounds = ratio_of(times), len(times)
    settled = rounds >= ROUNDS or times[-1][1] > _LONG_SECONDS
    if settled and bands.is_hopeless(ratio):
        return False
    is_short = sum(reference for reference, _ in times) < _ENOUGH_SECONDS
    return (
        rounds < ROUNDS
        or (is_short and rounds < _MAX_SHORT_ROUNDS)
        or (bands.is_near(ratio) and rounds < _MAX_ROUNDS)
    )


def _round(
    play: Play, trusted: Subject, subject: Subject, number: int, first: int
) -> tuple[Sequence[Outcome], Sequence[Outcome]]:
    """Let both sides do the same work, the one and the other first in turns."""
    if first == 0:
        expected = play(trusted, number)
        return expected, _timed(play, subject, number)
    got = _timed(play, subject, number)
    return play(trusted, number), got


def _timed(play: Play, subject: Subject, number: int) -> Sequence[Outcome]:
    with subject.timed():
        return play(subject, number)


def _difference(
    compare: Comparison, expected: Sequence[Outcome], got: Sequence[Outcome]
) -> Counterexample | None:
    """Return where the outcomes of the work differ: being fast is easy if one is wrong."""
    for place, (right, came) in enumerate(zip(expected, got, strict=False)):
        complaint = compare_outcomes(compare, right, came)
        if complaint is not None:
            return Counterexample(
                f"the work that is timed, call {place + 1} of {len(expected)}",
                short(show_outcome(right)),
                short(show_outcome(came)),
                complaint or "small cases are right, this one is not",
                label=CHECKED,
            )
    if len(expected) != len(got):
        wanted, came_back = f"{len(expected)} calls come back", f"{len(got)} did"
        return Counterexample("the work that is timed", wanted, came_back, label=CHECKED)
    return None


def ratio_of(times: Sequence[tuple[float, float]]) -> float:
    """Return the ratio of the best times, own to reference.

    >>> ratio_of([(2.0, 9.0), (3.0, 3.0)])
    1.5
    """
    reference = min(reference for reference, _ in times)
    return min(own for _, own in times) / max(reference, 1e-9)


def said_times(ratio: float) -> str:
    """Write a ratio as a person would say it.

    >>> said_times(4.23), said_times(382.7)
    ('4.2 times', '383 times')
    """
    return f"{ratio:.2g} times" if ratio < _IN_WHOLE else f"{ratio:,.0f} times"


def short(text: str) -> str:
    """Cut what no one would read to its end.

    >>> short("x" * 300)[-5:], len(short("x" * 300))
    ('x ...', 200)
    """
    return text if len(text) <= _LONG_CASE else f"{text[: _LONG_CASE - 4]} ..."

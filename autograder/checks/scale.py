"""Checks of something better than another: a policy that is measured, not a value that is right.

The check itself plays the game, asks the learner's object for its decisions, and measures. What is
right is not one answer: each condition says how far a measurement earns its points.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from autograder.checks.finding import CHECKED, FAILING, Counterexample, Finding, Misconception
from autograder.checks.function import NOTHING_COMES_BACK
from autograder.checks.show import show_outcome
from autograder.proxy.subject import PATIENCE, LocalSubject, Outcome, Raised, Returned, Subject

Scores = Mapping[str, float]
"""What was measured, by name."""


class UnusableAnswerError(Exception):
    """The object answered something with which the game cannot go on.

    Attributes:
        asked: What it was asked, in words.
        outcome: What came.
        complaint: Why that is no use.
        turn: How many decisions it had made before. Who makes none at all has written nothing yet.
    """

    def __init__(self, asked: str, outcome: Outcome, complaint: str = "", turn: int = 0) -> None:
        super().__init__(f"{asked}: {show_outcome(outcome)}")
        self.asked, self.outcome, self.complaint, self.turn = asked, outcome, complaint, turn

    @property
    def nothing_came(self) -> bool:
        """Whether nothing came at the very first turn, as of a stub."""
        return not self.turn and isinstance(self.outcome, Returned) and self.outcome.value is None


@dataclass(frozen=True)
class Measured:
    """What was measured for three players in the same game.

    Attributes:
        own: The learner's scores.
        floor: Those of the player whom one has to beat.
        bound: Those of the reference.
    """

    own: Scores
    floor: Scores
    bound: Scores


@dataclass(frozen=True)
class Condition:
    """One thing that is asked of the scores.

    Attributes:
        asks: What, in words, such as ``"goodput above first come, first served"``.
        share: The share of the points that it earns; those of all conditions add up to 1.
        met: How far it is met, 0 to 1.
        shows: The measurement, for a person.
    """

    asks: str
    share: float
    met: Callable[[Measured], float]
    shows: Callable[[Measured], str]


def between(score: str, asks: str, share: float, reach: float = 1.0, unit: str = "") -> Condition:
    """Return the condition that a score lies towards the bound: 0 at the floor, in proportion.

    Whether more is better follows from where the bound is.

    Args:
        score: Its name.
        asks: What is asked, in words.
        share: The share of the points.
        reach: Where all points are earned: how far it is from the floor to the bound, as a share.
        unit: The unit of the score.

    >>> met = between("goodput", "serve more", 1.0, reach=0.5).met
    >>> met(Measured({"goodput": 3.0}, {"goodput": 2.0}, {"goodput": 6.0}))
    0.5
    """

    def met(scores: Measured) -> float:
        own, floor = scores.own[score], scores.floor[score]
        way = reach * (scores.bound[score] - floor)
        if way == 0:  # a game in which the bound does no better than the floor asks for no more
            return float(own == floor)
        return min(1.0, max(0.0, (own - floor) / way))

    def shows(scores: Measured) -> str:
        goal = scores.floor[score] + reach * (scores.bound[score] - scores.floor[score])
        return (
            f"{_number(scores.own[score], unit)}; no points at {_number(scores.floor[score], unit)}"
            f", all of them at {_number(goal, unit)}"
        )

    return Condition(asks, share, met, shows)


def at_most(
    score: str, limit: Callable[[Measured], float], asks: str, share: float, unit: str = ""
) -> Condition:
    """Return the condition that a score is no larger than a limit: all of its points or none.

    Args:
        score: Its name.
        limit: The limit, such as ``lambda scores: 1.3 * scores.floor["p99"]``.
        asks: What is asked, in words.
        share: The share of the points.
        unit: The unit of the score.

    >>> condition = at_most("most", lambda scores: 3, "nobody more than 3 times", 1.0)
    >>> condition.met(Measured({"most": 4}, {}, {}))
    0.0
    """

    def shows(scores: Measured) -> str:
        return f"{_number(scores.own[score], unit)}; at most {_number(limit(scores), unit)}"

    return Condition(asks, share, lambda scores: float(scores.own[score] <= limit(scores)), shows)


@dataclass(frozen=True)
class ScaleCheck:
    """The property that an object does well in a game, between a floor and a bound.

    Attributes:
        reference: A player who meets every condition, and the bound.
        floor: The player whom one has to beat.
        play: Plays the game of a seed with a player and measures. It runs where the check runs and
            asks the player through the subject; ``UnusableAnswerError`` ends the game.
        conditions: What is asked of the scores. They earn nothing where the player does better
            than the floor in none of them.
        misconceptions: Players known to do badly, with why.
        patience: Seconds that one decision may take.
        others: Further players of the course, which are no more the learner's own than the
            reference is.

    Raises:
        ValueError: The shares of the conditions do not add up to 1.
    """

    reference: Any
    floor: Any
    play: Callable[[Subject, int], Scores]
    conditions: tuple[Condition, ...]
    misconceptions: tuple[Misconception, ...] = ()
    patience: float = PATIENCE
    others: tuple[Any, ...] = ()
    _known: dict[tuple[int, int], Scores] = field(
        default_factory=dict, init=False, repr=False, compare=False
    )

    def __post_init__(self) -> None:
        total = sum(condition.share for condition in self.conditions)
        if abs(total - 1) > 1e-9:
            raise ValueError(f"the shares of the conditions add up to {total:g}; they must to 1")

    def examine(self, subject: Subject, seed: int, max_examples: int) -> Finding:
        """Play the same game with the object, the floor and the bound, and judge the scores."""
        try:
            own = self.play(subject, seed)
        except UnusableAnswerError as error:
            return Finding(
                0.0,
                Counterexample(
                    error.asked,
                    "a decision with which the game goes on",
                    show_outcome(error.outcome),
                    error.complaint,
                    error.outcome.output,
                    label=FAILING,
                ),
                unwritten=error.nothing_came,
                advice=NOTHING_COMES_BACK,
            )
        scores = Measured(own, self._scores(self.floor, seed), self._scores(self.reference, seed))
        return self._judged(scores, seed, subject)

    def play_alone(self, subject: Subject, seed: int) -> None:
        """Let the object play as in ``examine``, where only what it does on the way is of interest.

        The floor and the bound do not play, and nothing is judged.
        """
        with contextlib.suppress(UnusableAnswerError):
            self.play(subject, seed)

    def _scores(self, player: Any, seed: int) -> Scores:
        """Return what a player of the course scores: it plays once, and the same each time."""
        game = id(player), seed
        if game not in self._known:
            self._known[game] = self.play(LocalSubject(player, timeout=self.patience), seed)
        return self._known[game]

    def _judged(self, scores: Measured, seed: int, subject: Subject) -> Finding:
        met = [condition.met(scores) for condition in self.conditions]
        at_floor = replace(scores, own=scores.floor)
        if not any(m > each.met(at_floor) for each, m in zip(self.conditions, met, strict=True)):
            # What the floor does as well is no merit of whoever does nothing better.
            met = [0.0] * len(met)
        pairs = list(zip(self.conditions, met, strict=True))
        fraction = sum(condition.share * share for condition, share in pairs)
        missed = [condition for condition, share in pairs if share < 1]
        # A condition that is the only one, and is missed, is shown as a case already.
        told = self.conditions if len(self.conditions) > 1 or not missed else ()
        remarks = tuple(f"{each.asks}: {each.shows(scores)}." for each in told)
        if not missed:
            return Finding(1.0, remarks=remarks)
        measured = "the game, measured", missed[0].asks, missed[0].shows(scores)
        shown = Counterexample(*measured, label=CHECKED)
        finding = Finding(min(fraction, 1.0), shown, remarks=remarks)
        return finding.named(self._fitting(scores.own, seed), subject)

    def _fitting(self, own: Scores, seed: int) -> list[Misconception]:
        """Return the known bad players whose scores are the same in every digit."""
        return [each for each in self.misconceptions if self._scores(each.wrong, seed) == own]


def decision(subject: Subject, asked: str, *args: Any) -> Any:
    """Ask a player who is a function; return the plain value that it answers.

    Raises:
        UnusableAnswerError: It raised.
    """
    outcome = subject.call(args)
    if isinstance(outcome, Raised):
        raise UnusableAnswerError(asked, outcome, outcome.line or "")
    return outcome.value


_PLURALS = ("times", "tokens")
"""Units that are written otherwise where there is one."""


def _number(value: float, unit: str) -> str:
    """Show a measurement.

    >>> _number(2.0, "s"), _number(3, ""), _number(59040.0, "tokens"), _number(1.0, "times")
    ('2 s', '3', '59,040 tokens', '1 time')
    """
    if value == 1 and unit in _PLURALS:
        unit = unit.removesuffix("s")
    return f"{value:,.0f} {unit}".rstrip() if abs(value) >= 1e4 else f"{value:.4g} {unit}".rstrip()

"""What each item of the rubric says of a project: points, the evidence, and how to get the rest."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

ABSENT = "it is not in the engine"
"""Why a part is not the learner's own that nobody has put into the engine."""


@dataclass(frozen=True)
class ItemVerdict:
    """What one item of the rubric says.

    Attributes:
        item: What the item is called in data.
        title: What a person reads.
        points: What it earns at the most.
        earned: What it earned; None where a person is still to say.
        evidence: The numbers that were counted, the rules that were broken and where; sentences.
        advice: How to get the rest; "" where there is nothing left to get.
    """

    item: str
    title: str
    points: float
    earned: float | None
    evidence: tuple[str, ...] = ()
    advice: str = ""

    @property
    def is_whole(self) -> bool:
        """Whether all of its points were earned."""
        return self.earned is not None and self.earned >= self.points

    def __str__(self) -> str:
        """Return all that it says, in sentences."""
        earned = (
            "by hand" if self.earned is None else f"{self.earned:.3g} of {self.points:g} points"
        )
        said = [f"{self.title}, {earned}:", *self.evidence]
        if self.advice:
            said.append(f"For the rest: {self.advice}")
        return " ".join(said)

    def as_data(self) -> dict[str, Any]:
        """Return it as plain data, for JSON."""
        return asdict(self)


def nothing(verdicts: Sequence[ItemVerdict], reason: str, advice: str) -> list[ItemVerdict]:
    """Return verdicts that earn nothing, for one reason.

    Args:
        verdicts: The items.
        reason: Why, in a sentence.
        advice: What to do first.

    >>> nothing([ItemVerdict("a", "A", 5, 5)], "It is wrong.", "Mend it.")[0].earned
    0.0
    """
    return [replace(each, earned=0.0, evidence=(reason,), advice=advice) for each in verdicts]


def scaled(
    verdicts: Sequence[ItemVerdict], share: float, missing: Mapping[str, str]
) -> list[ItemVerdict]:
    """Return verdicts that earn a share of their points, for parts that are not the learner's own.

    Args:
        verdicts: The items.
        share: The share of all parts' points that one's own have.
        missing: The parts for which the reference stands in, each with the reason.

    >>> missing = {"Answer.append": "it is f"}
    >>> print(scaled([ItemVerdict("a", "A", 5, 4)], 0.75, missing)[0])  # doctest: +ELLIPSIS
    A, 3 of 5 points: 75% of 4 points: the reference stands in for Answer.append (it is f). For ...
    """
    if not missing:
        return list(verdicts)
    said = [f"{name} ({why})" if why != ABSENT else name for name, why in missing.items()]
    stands_in = f"the reference stands in for {', '.join(said)}."
    first, reason = next(iter(missing.items()))
    advice = (
        f"Write {first} yourself, and put it into the engine."
        if reason == ABSENT
        else f"What the engine has as {first} does not count: {reason}."
    )
    return [
        replace(
            each,
            earned=each.earned * share,
            evidence=(*each.evidence, f"{share:.0%} of {each.earned:.3g} points: {stands_in}"),
            advice=each.advice or advice,
        )
        if each.earned
        else each
        for each in verdicts
    ]

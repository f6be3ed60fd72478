"""From verdicts to points: a pure function, and the words that stand where a 0 would lie."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from autograder.sealed.quarantine import Quarantined
from autograder.sealed.release import Release
from autograder.sealed.verdict import Remark, Status, Verdict

_WAITS = "to be marked by hand"
_AGAIN = "the machine failed; grade it again"
_DIGITS = 2


@dataclass(frozen=True)
class Item:
    """What one exercise or text has earned.

    Attributes:
        exercise: The exercise; for a text, the grade id of its cell.
        grade_id: The cell that carries the points.
        maximum: The points that there are.
        points: The points that it has; None where a person or another run has to say.
        says: What stands beside the points, or in their place.
    """

    exercise: str
    grade_id: str
    maximum: float
    points: float | None
    says: str = ""


@dataclass(frozen=True)
class Score:
    """What one submission has earned.

    Attributes:
        items: Its exercises and texts that have points.
        notes: What a person should know of the whole.
    """

    items: tuple[Item, ...]
    notes: tuple[str, ...] = ()

    @property
    def earned(self) -> float | None:
        """The points so far; None where nothing of it could be graded."""
        known = [item.points for item in self.items if item.points is not None]
        return round(sum(known), _DIGITS) if known else None

    @property
    def maximum(self) -> float:
        """The points that there are."""
        return sum(item.maximum for item in self.items)

    @property
    def waits(self) -> float:
        """The points that somebody has to decide on."""
        return sum(item.maximum for item in self.items if item.points is None)


def score(release: Release, verdicts: Sequence[Verdict], notes: Sequence[str] = ()) -> Score:
    """Return the points of a submission.

    Args:
        release: The lesson, which says what there is to earn.
        verdicts: What the oracle has said.
        notes: What intake has said.

    Raises:
        ValueError: A verdict is missing, or its fraction is none.
    """
    by_cell = {verdict.grade_id: verdict for verdict in verdicts}
    items = []
    for exercise, grade_id, maximum in _asked(release):
        if grade_id not in by_cell:
            raise ValueError(f"there is no verdict on {grade_id} of {release.lesson}; grade again")
        items.append(_item(exercise, maximum, by_cell[grade_id]))
    return Score(tuple(items), tuple(notes))


def ungraded(release: Release, quarantined: Quarantined) -> Score:
    """Return what stands for the points of a submission that cannot be graded."""
    items = (
        Item(exercise, grade_id, maximum, None, Remark.NOT_GRADABLE)
        for exercise, grade_id, maximum in _asked(release)
    )
    return Score(tuple(items), (quarantined.reason,))


def _asked(release: Release) -> list[tuple[str, str, float]]:
    """Return what has points: exercise, the cell that carries them, and how many."""
    checks = [(each.exercise, each.check_id, each.points) for each in release.asked if each.points]
    return [*checks, *((grade_id, grade_id, points) for grade_id, points in release.texts)]


def _item(exercise: str, maximum: float, verdict: Verdict) -> Item:
    if not 0 <= verdict.fraction <= 1:
        raise ValueError(f"{verdict.grade_id} has earned {verdict.fraction} of 1, which is no part")
    says = _said(verdict)
    if verdict.status in _UNDECIDED:
        return Item(exercise, verdict.grade_id, maximum, None, says)
    earns = verdict.fraction if verdict.status in (Status.PASS, Status.FAIL) else 0.0
    return Item(exercise, verdict.grade_id, maximum, round(earns * maximum, _DIGITS), says)


_UNDECIDED: Mapping[Status, str] = {
    Status.MANUAL: _WAITS,
    Status.INFRA: _AGAIN,
    Status.QUARANTINED: "",
}


def _said(verdict: Verdict) -> str:
    """Return what stands beside the points of a verdict.

    >>> _said(Verdict("1.1", "c", Status.FAIL, remarks=(Remark.CELL_MISSING,), message="deleted"))
    'cells missing: deleted'
    >>> _said(Verdict("1.1", "c", Status.PASS)), _said(Verdict("1.1", "c", Status.OOM))
    ('', 'OOM')
    """
    if verdict.status is Status.PASS:
        return ", ".join(verdict.remarks)
    named = [] if verdict.status is Status.FAIL else [_UNDECIDED.get(verdict.status) or ""]
    if verdict.status not in (*_UNDECIDED, Status.FAIL):
        named = [str(verdict.status)]
    said = ", ".join(each for each in [*named, *verdict.remarks] if each)
    if Remark.NOT_STARTED in verdict.remarks:
        return said
    return ": ".join(each for each in (said, verdict.message) if each)

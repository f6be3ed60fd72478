"""Who moved, and why, when a submission was graded before with something else."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from autograder.sealed.store import Entry, Store
from autograder.sealed.verdict import Verdict

REASONS: Mapping[str, str] = {
    "checks": "the checks, the library or a package changed",
    "release": "the released lesson changed",
    "seed": "the seed changed",
    "walls": "one of the two was graded without a box",
}
"""What a result depends on beside the submission, by its name in the log."""


@dataclass(frozen=True)
class Move:
    """One exercise of one student that earns another share than before.

    Attributes:
        student: Whose it is.
        exercise: The exercise.
        before: What was said of it.
        now: What is said of it.
        why: What changed in between.
    """

    student: str
    exercise: str
    before: Verdict
    now: Verdict
    why: str


class History:
    """All results so far, by what was handed in.

    Args:
        store: Holds the results, old and new.
    """

    def __init__(self, store: Store) -> None:
        self._store = store
        self._of: dict[str, list[Entry]] = {}
        for entry in store.entries():
            self._of.setdefault(str(entry.about.get("submission")), []).append(entry)

    def moves(
        self, student: str, submission: str, key: str, verdicts: Sequence[Verdict]
    ) -> list[Move]:
        """Return what moved of a submission since it was graded with something else.

        Args:
            student: Whose submission it is.
            submission: Its digest.
            key: Where its result is.
            verdicts: Its result.
        """
        former, entry = self._two(submission, key)
        before = self._store.get(former.key) if former is not None else None
        if entry is None or former is None or before is None:
            return []
        old = {verdict.grade_id: verdict for verdict in before}
        changed = [
            says
            for name, says in REASONS.items()
            if former.about.get(name) != entry.about.get(name)
        ]
        return [
            Move(student, now.exercise, old[now.grade_id], now, "; ".join(changed))
            for now in verdicts
            if now.grade_id in old and old[now.grade_id].fraction != now.fraction
        ]

    def _two(self, submission: str, key: str) -> tuple[Entry | None, Entry | None]:
        """Return a result's entry in the log, behind the one before it of the same submission."""
        former = None
        for entry in self._of.get(submission, []):
            if entry.key == key:
                return former, entry
            former = entry
        return None, None

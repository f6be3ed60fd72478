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


def moves(store: Store, student: str, key: str, verdicts: Sequence[Verdict]) -> list[Move]:
    """Return what moved of a submission since it was graded with something else.

    Args:
        store: Holds the results, old and new.
        student: Whose submission it is.
        key: Where its result is.
        verdicts: Its result.
    """
    entries = {entry.key: entry for entry in store.entries()}
    entry = entries.get(key)
    former = _former(list(entries.values()), entry) if entry is not None else None
    before = store.get(former.key) if former is not None else None
    if entry is None or former is None or before is None:
        return []
    old = {verdict.grade_id: verdict for verdict in before}
    changed = [
        says for name, says in REASONS.items() if former.about.get(name) != entry.about.get(name)
    ]
    return [
        Move(student, now.exercise, old[now.grade_id], now, "; ".join(changed))
        for now in verdicts
        if now.grade_id in old and old[now.grade_id].fraction != now.fraction
    ]


def _former(entries: Sequence[Entry], entry: Entry) -> Entry | None:
    """Return the last result of the same submission before an entry of the log."""
    earlier = entries[: entries.index(entry)]
    same = [
        each for each in earlier if each.about.get("submission") == entry.about.get("submission")
    ]
    return same[-1] if same else None

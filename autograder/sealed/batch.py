"""Grading a class: what was handed in, judged where that was not done before, and scored."""

from __future__ import annotations

import stat
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from autograder.build.notebooks import graded_sources, release_path
from autograder.collect.record import lateness
from autograder.collect.roster import Roster
from autograder.errors import CourseError
from autograder.grading.hand_ins import oddities
from autograder.sealed.canaries import canaries, deviations
from autograder.sealed.depends import check_digest
from autograder.sealed.intake import Submission, take_in
from autograder.sealed.judges import Order
from autograder.sealed.quarantine import Quarantined
from autograder.sealed.regrade import History, Move
from autograder.sealed.release import Release, load_release
from autograder.sealed.score import Score, score, ungraded
from autograder.sealed.store import Store, key_of
from autograder.sealed.verdict import Status, Verdict

Judging = Callable[[Mapping[str, Order]], Iterator[tuple[str, tuple[Verdict, ...] | None]]]
"""Yields verdicts on submissions by key, in any order; None where the machine failed."""


@dataclass(frozen=True)
class Graded:
    """A class's results for one lesson.

    Attributes:
        release: The lesson.
        scores: What everybody has earned, by student.
        verdicts: What was said of each submission that could be graded, by student.
        judged: How many submissions had to be judged, the others were known.
        deviations: What was wrong with the canaries; with any there are no scores.
        moves: What earns another share than when it was graded with other checks.
        is_boxed: Whether the submissions ran in boxes; every report says so if not.
        roster: The class, as far as it is known.
        late: What there is to say of who was late, by student.
    """

    release: Release
    scores: Mapping[str, Score]
    verdicts: Mapping[str, tuple[Verdict, ...]]
    judged: int = 0
    deviations: tuple[str, ...] = ()
    moves: tuple[Move, ...] = ()
    is_boxed: bool = True
    roster: Roster = field(default_factory=Roster)
    late: Mapping[str, str] = field(default_factory=dict)


class Batch:
    """The grading of one lesson.

    Args:
        lesson: The name of the lesson, which is that of its source and of what is handed in.
        submitted: The folder with one folder for each student.
        store: Where results are.
        is_boxed: Whether submissions run in boxes; results of the other kind are others.
        roster: The class, for names and due dates; nothing that is judged depends on it.

    Raises:
        CourseError: The lesson or the folder cannot be read, or nothing was handed in.
    """

    def __init__(
        self,
        lesson: str,
        submitted: Path,
        store: Store,
        is_boxed: bool = True,
        roster: Roster | None = None,
    ) -> None:
        self._is_boxed = is_boxed
        self._submitted, self._roster = submitted, roster or Roster()
        self.release = load_release(release_path(lesson))
        self._store = store
        self._secret = store.secret()
        taken = (take_in(submitted, name, self.release) for name in students(submitted, lesson))
        # What is no name that can be shown has another one by now.
        self._taken = {each.student: each for each in taken}
        self._canaries = canaries(self.release)
        self._wrong: list[str] = []
        self._failed: set[str] = set()

    def to_judge(self) -> dict[str, Order]:
        """Return what has no result yet, by key: canaries first, each content once."""
        orders: dict[str, Order] = {}
        for each in (*self._canaries.values(), *self.submissions().values()):
            key = self.key(each)
            if key not in orders and self._store.get(key) is None:
                orders[key] = Order(self.release.lesson, self._secret, each, self._is_boxed)
        return orders

    def key(self, submission: Submission) -> str:
        """Return what a result is found by."""
        return key_of(submission.digest, *self._about().values())

    def _about(self) -> dict[str, str]:
        """Return what a result depends on beside the submission."""
        return {
            "release": self.release.digest,
            "checks": check_digest(self.release.lesson),
            "seed": seed_id(self._secret),
            "walls": "a box" if self._is_boxed else "none",
        }

    def grade(self, judging: Judging) -> Iterator[tuple[str, bool]]:
        """Judge what has no result and store it; yield the key of each and whether it is known.

        What is stored when this is interrupted is not judged again.

        Args:
            judging: Who judges.
        """
        orders = self.to_judge()
        for key, verdicts in judging(orders):
            if verdicts is None or any(each.status is Status.INFRA for each in verdicts):
                self._failed.add(key)
                yield key, False
                continue
            if wrong := self._wrongly_judged(key, verdicts):
                # Kept, it would be found again once whatever was the matter is mended.
                self._wrong += wrong
            else:
                self._store.put(key, verdicts, self._told(orders[key].submission, verdicts))
            yield key, True

    def graded(self, judged: int = 0) -> Graded:
        """Return the results; of a class whose canaries are not as they should be, none.

        Args:
            judged: How many submissions were judged for it.
        """
        known = {name: self._store.get(self.key(each)) for name, each in self._canaries.items()}
        missing = [name for name, verdicts in known.items() if verdicts is None]
        problems = self._wrong or [f"the canary {name!r} was not graded" for name in missing]
        if problems:
            return Graded(self.release, {}, {}, judged, tuple(problems))
        scores, found, moved = {}, {}, list[Move]()
        history = History(self._store)
        for student, taken in self._taken.items():
            if isinstance(taken, Quarantined):
                scores[student] = ungraded(self.release, taken)
                continue
            verdicts = self._store.get(self.key(taken))
            if verdicts is None:
                scores[student] = ungraded(self.release, self._open(taken))
                continue
            found[student] = verdicts
            moved += history.moves(student, taken.digest, self.key(taken), verdicts)
            scores[student] = score(self.release, verdicts, taken.notes)
        return Graded(
            self.release,
            scores,
            found,
            judged,
            moves=tuple(moved),
            is_boxed=self._is_boxed,
            roster=self._roster,
            late=dict(self._late(scores)),
        )

    def _open(self, submission: Submission) -> Quarantined:
        """Return why a submission that can be graded has no result."""
        lesson = self.release.lesson
        reason = f"not graded yet; `course grade {lesson}` does it"
        if self.key(submission) in self._failed:
            reason = "the machine failed; grade again"
        return Quarantined(submission.student, lesson, reason)

    def _late(self, students: Iterable[str]) -> Iterator[tuple[str, str]]:
        """Yield who was late, and by how much."""
        for student in students:
            said = lateness(self._submitted, student, self.release.lesson, self._roster)
            if said:
                yield student, said

    def _told(self, submission: Submission, verdicts: tuple[Verdict, ...]) -> dict[str, Any]:
        """Return what the log is told of a result."""
        return {
            "student": submission.student,
            "lesson": self.release.lesson,
            "submission": submission.digest,
            **self._about(),
            "at": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
            "wall_seconds": round(sum(each.evidence.wall_seconds for each in verdicts), 2),
        }

    def _wrongly_judged(self, key: str, verdicts: tuple[Verdict, ...]) -> list[str]:
        """Return what is wrong with verdicts, where it is known what they should be."""
        names = [name for name, each in self._canaries.items() if self.key(each) == key]
        return deviations(self.release, dict.fromkeys(names, verdicts))

    def submissions(self) -> dict[str, Submission]:
        """Return what can be graded of what was handed in, by student."""
        return {s: each for s, each in self._taken.items() if isinstance(each, Submission)}


def seed_id(secret: bytes) -> str:
    """Return what names a secret without telling it."""
    return key_of("seed", secret.hex())[:16]


def strays(submitted: Path, lesson: str) -> list[str]:
    """Return what lies among the submissions and belongs to nobody who is graded, a line each.

    Args:
        submitted: The folder of all submissions.
        lesson: The lesson that is graded.
    """
    graded = set(students(submitted, lesson))
    names = [source.stem for source in graded_sources()]
    others = {name for name in names if name != lesson}
    return [
        str(each)
        for each in oddities(submitted, names)
        if (parts := Path(each.path).parts)[0] not in graded and others.isdisjoint(parts)
    ]


def students(submitted: Path, lesson: str) -> list[str]:
    """Return the names of the folders in which a lesson was handed in.

    Raises:
        CourseError: The folder cannot be read, or there are none.
    """
    try:
        folders = sorted(each for each in submitted.iterdir() if not each.name.startswith("."))
    except OSError as error:
        raise CourseError(
            f"cannot read {submitted}: {error.strerror}; put notebooks at NAME/LESSON/LESSON.ipynb "
            "in it"
        ) from error
    found = [each.name for each in folders if _is_there(each / lesson)]
    if not found:
        raise CourseError(
            f"nobody has handed in {lesson} in {submitted}; put notebooks at "
            f"NAME/{lesson}/{lesson}.ipynb in it"
        )
    return found


def _is_there(folder: Path) -> bool:
    """Say whether there is a folder, or something of which a person has to hear at least."""
    try:
        return stat.S_ISDIR(folder.stat().st_mode)
    except (FileNotFoundError, NotADirectoryError):
        return False
    except OSError:
        # Its owner may have allowed nobody to look; intake says so.
        return True

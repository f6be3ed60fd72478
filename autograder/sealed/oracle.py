"""The oracle: judges the answers of one submission, one call at a time, from outside of its box.

It holds the checks, their secret seed and the course's answers; a box holds cells of the
submission. ``autograder.sealed.judging`` says which, and in what order.
"""

from __future__ import annotations

import hashlib
import hmac
from collections import OrderedDict
from collections.abc import Iterator
from dataclasses import replace

from autograder.checks.exercise import Exercise
from autograder.checks.finding import Finding
from autograder.checks.search import PUBLIC_EXAMPLES
from autograder.matching import grade_id
from autograder.sealed.bodies import Course
from autograder.sealed.box.box import BoxError, BoxSubject
from autograder.sealed.box.limits import Limits
from autograder.sealed.box.warm import Zygote
from autograder.sealed.intake import Submission
from autograder.sealed.judging import Judging
from autograder.sealed.release import Release
from autograder.sealed.trial import Trial, Tried
from autograder.sealed.verdict import Evidence, Remark, Status, Verdict

_TRIES = 3
_SEEDS = 2**31
_MOST_KNOWN = 20_000
"""Trials that are remembered: some 20 MB."""


def seed_of(secret: bytes, exercise: str) -> int:
    """Return the seed of an exercise: the same for all students, and known to nobody.

    >>> seed_of(b"secret", "1.1") == seed_of(b"secret", "1.1") != seed_of(b"secret", "1.2")
    True
    """
    made = hmac.new(secret, exercise.encode(), hashlib.sha256).digest()
    return int.from_bytes(made[:8], "big") % _SEEDS


class Oracle:
    """Judges submissions of one lesson.

    Args:
        release: The lesson.
        zygote: Makes its boxes.
        secret: Decides the seeds.
        limits: What one box may use.
        max_examples: How many cases a check draws at most.
    """

    def __init__(
        self,
        release: Release,
        zygote: Zygote,
        secret: bytes,
        limits: Limits | None = None,
        max_examples: int = PUBLIC_EXAMPLES,
    ) -> None:
        self.release = release
        self.zygote = zygote
        self.limits = limits or Limits()
        self.course = Course(release.number)
        self.max_examples = max_examples
        self._known: OrderedDict[str, Tried] = OrderedDict()
        self._secret = secret

    def judge(self, submission: Submission) -> tuple[Verdict, ...]:
        """Return a verdict on each exercise, then on each text.

        Args:
            submission: What was handed in.

        Raises:
            CourseError: Bubblewrap is not installed.
        """
        judging = Judging(self.release, self.course, self._tried, submission)
        for _ in range(_TRIES):
            try:
                judging.run()
                break
            except BoxError as error:
                judging.trouble = str(error)
        return (*judging.on_exercises(), *_on_texts(submission, self.release))

    def _tried(self, trial: Trial) -> Tried:
        """Return what comes of a trial, in a new box unless it is known.

        Raises:
            BoxError: The machine failed.
        """
        key = trial.key
        if (known := self._known.get(key)) is not None:
            return replace(known, verdict=replace(known.verdict, evidence=Evidence()))
        with self.zygote.box(self.limits) as box:
            tried = trial.run(box, self._examine)
        if tried.is_for_all:
            self._known[key] = tried
            if len(self._known) > _MOST_KNOWN:
                self._known.popitem(last=False)
        return tried

    def _examine(self, exercise: Exercise, subject: BoxSubject) -> Finding:
        """Check an answer with the secret seed."""
        return exercise.examine(subject, seed_of(self._secret, exercise.id), self.max_examples)


def _on_texts(submission: Submission, release: Release) -> Iterator[Verdict]:
    """Yield the verdicts on what a person marks: it waits, or nothing is written."""
    stubs = {grade_id(cell): str(cell.source).strip() for cell in release.cells}
    for name, _ in release.texts:
        written = [cell for cell in submission.cells if cell.grade_id == name]
        verdict = Verdict(name, name, Status.MANUAL)
        if not written:
            yield replace(verdict, status=Status.FAIL, remarks=(Remark.CELL_MISSING,))
        elif written[0].source.strip() in ("", stubs[name]) and not written[0].attachments:
            yield replace(verdict, status=Status.FAIL, remarks=(Remark.NOT_STARTED,))
        else:
            yield verdict

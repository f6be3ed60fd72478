"""Autograding all that was handed in, with nbgrader, and saying what came of it."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.markup import escape
from rich.table import Column, Table

from autograder.build import notebooks as building
from autograder.errors import CourseError
from autograder.grading.hand_ins import Oddity, handed_in, oddities
from autograder.paths import course_root

_TO_ARTIFACTS = "--CourseDirectory.release_directory=artifacts/release"
"""``course build`` has written lessons/ already, and nbgrader deletes the lesson there when it
refuses to change the cells of one that has been graded."""


@dataclass(frozen=True)
class Mark:
    """What one student has for one lesson.

    Attributes:
        student: Whose it is.
        lesson: The lesson's name.
        earned: Points so far; None if the submission could not be graded.
        maximum: Points that there are.
        waits: Points of texts that a person has not marked yet.
    """

    student: str
    lesson: str
    earned: float | None
    maximum: float
    waits: float


def submitted_folder() -> Path:
    """Return the folder with one folder for each student."""
    return course_root() / "grading" / "submitted"


def lessons_to_grade() -> list[str]:
    """Return the lessons of which something was handed in.

    Raises:
        CourseError: Nothing was, or nbgrader cannot look into this checkout.
    """
    root = course_root()
    if set("[]*?") & set(str(root)):
        raise CourseError(
            f"{root}: nbgrader takes the characters [ ] * ? in this path for a pattern and finds "
            "nothing; rename the folders"
        )
    names = handed_in(submitted_folder(), _all_lessons())
    if not names and not what_is_odd():
        raise CourseError(
            "grading/submitted is empty; put notebooks at "
            "grading/submitted/NAME/LESSON/LESSON.ipynb"
        )
    return names


def what_is_odd() -> list[Oddity]:
    """Return what was handed in and would not be graded, or not as it is meant."""
    return oddities(submitted_folder(), _all_lessons())


def autograde(lesson: str) -> bool:
    """Build a lesson, enter it into the gradebook, and grade what has not been graded.

    nbgrader's log goes where the output of this process goes.

    Returns:
        Whether everything could be graded.

    Raises:
        CourseError: The lesson's source is not well formed.
    """
    _build(lesson)
    steps = (_entering(lesson), ["autograde", lesson])
    return all(_nbgrader(*step).returncode == 0 for step in steps)


def enter_lesson(lesson: str) -> None:
    """Enter a lesson into the gradebook: its cells, and what each of them is worth.

    Nothing is shown of what nbgrader says, but for an error.

    Raises:
        CourseError: The lesson has no well-formed source here, or nbgrader refuses it.
    """
    _build(lesson)
    done = _nbgrader(*_entering(lesson), capture_output=True, text=True)
    if done.returncode:
        said = [line for line in done.stderr.splitlines() if "ERROR" in line]
        raise CourseError(
            f"nbgrader does not enter {lesson} into the gradebook ({' '.join(said)}); what was "
            "graded is kept, and --no-gradebook leaves the gradebook alone"
        )


def marks(lesson: str) -> list[Mark]:
    """Return the marks of everybody who handed a lesson in, by student."""
    return sorted(_marks(lesson), key=lambda mark: mark.student)


def marks_table(found: list[Mark]) -> Table:
    """Return the marks of a lesson as a table."""
    table = Table(Column("student", overflow="fold"), title=found[0].lesson if found else None)
    table.add_column("points", justify="right")
    table.add_column("to be marked by hand", justify="right")
    for mark in found:
        name = escape(mark.student)
        if mark.earned is None:
            table.add_row(name, "not graded", "", style="red")
        else:
            waits = f"{mark.waits:g}" if mark.waits else ""
            table.add_row(name, f"{mark.earned:g} / {mark.maximum:g}", waits)
    return table


def _all_lessons() -> list[str]:
    return [source.stem for source in building.graded_sources()]


def _build(lesson: str) -> None:
    (source,) = building.chosen_sources([lesson])
    building.build(source)


def _entering(lesson: str) -> list[str]:
    """Return what nbgrader is asked for to enter a lesson that is built."""
    return ["generate_assignment", lesson, "--force", _TO_ARTIFACTS]


def _nbgrader(*arguments: str, **options: Any) -> subprocess.CompletedProcess[Any]:
    """Run nbgrader on this checkout, with options of ``subprocess.run``."""
    beside = str(Path(sys.executable).parent)
    # It calls alembic by its name.
    path = os.pathsep.join([beside, os.environ.get("PATH", os.defpath)])
    command = [sys.executable, "-m", "nbgrader", *arguments]
    environment = {**os.environ, "PATH": path}
    return subprocess.run(command, cwd=course_root(), env=environment, check=False, **options)


def _marks(lesson: str) -> Iterator[Mark]:
    # They take a second to import, which a command that fails at once need not spend.
    from nbgrader.api import Gradebook, MissingEntry

    from autograder.grading.intake import is_graded

    root = course_root()
    with Gradebook(f"sqlite:///{root / 'gradebook.db'}", "serving-from-scratch") as gradebook:
        for path in submitted_folder().glob(f"*/{lesson}/{lesson}.ipynb"):
            student = path.parts[-3]
            graded = root / "grading" / "autograded" / student / lesson / f"{lesson}.ipynb"
            try:
                found = gradebook.find_submission(lesson, student)
            except MissingEntry:
                yield Mark(student, lesson, None, 0.0, 0.0)
                continue
            waits = [
                grade.max_score
                for notebook in found.notebooks
                for grade in notebook.grades
                if grade.needs_manual_grade
            ]
            earned = float(found.score) if is_graded(graded) else None
            yield Mark(student, lesson, earned, float(found.max_score), float(sum(waits)))

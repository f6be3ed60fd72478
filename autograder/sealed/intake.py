"""From what a student handed in to what is graded. Nothing of it is executed.

The student's notebook is not patched and run. Its texts are taken, by grade id, and put into the
released lesson: checks and roles are the released ones, whatever the notebook says.
"""

from __future__ import annotations

import hashlib
import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum
from functools import cached_property
from pathlib import Path
from typing import Any

from nbformat import NotebookNode

from autograder.errors import CourseError
from autograder.grading.cells import GIVEN, restored
from autograder.matching import grade_id, is_answer, nbgrader_metadata
from autograder.scopes import names_bound
from autograder.sealed.document import read_cells
from autograder.sealed.hand_in_files import read_hand_in
from autograder.sealed.quarantine import Quarantined, RefusedError
from autograder.sealed.release import Asked, Release


class Role(StrEnum):
    """What a cell of a submission is."""

    GIVEN = "given"
    """Code as it was released."""
    OWN = "own"
    """Code that the student wrote beside the answers, or changed."""
    ANSWER = "answer"
    """Code that the student was asked for."""
    CHECK = "check"
    """The place where an answer is taken; nothing runs there."""
    TEXT = "text"
    """Anything that is not code."""


_NO_PICTURES: Mapping[str, Mapping[str, str]] = {}
"""What nearly every cell has."""


@dataclass(frozen=True, slots=True)
class Cell:
    """One cell of a submission.

    Attributes:
        role: What it is.
        source: Its text.
        grade_id: How nbgrader knows it; None for a cell without a role in grading.
        attachments: The pictures of a text, by name and type.
    """

    role: Role
    source: str
    grade_id: str | None = None
    attachments: Mapping[str, Mapping[str, str]] = field(
        default_factory=lambda: _NO_PICTURES, hash=False
    )


@dataclass(frozen=True)
class Submission:
    """What is graded of what a student handed in.

    Attributes:
        student: Whose it is.
        lesson: The lesson.
        cells: The cells, in the order in which they run.
        notes: What was not as it was released, a line each, for the instructor.
    """

    student: str
    lesson: str
    cells: tuple[Cell, ...]
    notes: tuple[str, ...] = ()

    @cached_property
    def digest(self) -> str:
        """The hash of all that its grade can depend on: not whose it is, nor the notes."""
        cells = [[c.role, c.source, c.grade_id, dict(c.attachments)] for c in self.cells]
        text = json.dumps([self.lesson, cells], sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()


def take_in(root: Path, student: str, release: Release) -> Submission | Quarantined:
    """Return what is to be graded of what lies at ``root/student/LESSON/``.

    Args:
        root: The folder of all submissions.
        student: The name of the student's folder.
        release: The lesson.
    """
    if not student.isprintable():
        # Said as it can be written: the name itself may be no text at all.
        reason = "the name of the folder holds characters that cannot be shown; rename it"
        return Quarantined(ascii(student), release.lesson, reason)
    try:
        found = read_hand_in(root, student, release.lesson)
        cells, notes = graded_cells(read_cells(found.raw), release)
        return Submission(student, release.lesson, cells, (*found.notes, *notes))
    except (RefusedError, CourseError) as error:
        return Quarantined(student, release.lesson, str(error))


def graded_cells(
    submitted: Sequence[NotebookNode], release: Release
) -> tuple[tuple[Cell, ...], tuple[str, ...]]:
    """Return the cells that run, in order, and what was not as it was released.

    Checks are the released ones. One that stands before its answer, as when cells were moved, is
    moved behind it. Where an answer was left as it was released and the student's own cells define
    what it defines, those are the answer.

    Args:
        submitted: The student's cells.
        release: The lesson.

    Raises:
        CourseError: The cells have lost what they are known by, and an answer cannot be found.
    """
    known = restored(submitted, release.cells)
    notes = list(known.notes)
    released = {grade_id(cell): cell for cell in release.cells if grade_id(cell)}
    edited = [
        str(grade_id(cell))
        for cell in known.cells
        if _is_check(cell) and cell.metadata.get("course") != GIVEN
    ]
    notes += [f"cell {name} was edited; the released one counts" for name in edited]
    cells = [_cell(cell, released) for cell in known.cells]
    for asked in release.asked:
        stub = str(released[asked.answer_id].source)
        cells = _with_answers_beside(cells, asked, stub, notes)
        cells = _with_check_behind(cells, asked, notes)
    return tuple(cells), tuple(notes)


def _is_check(cell: NotebookNode) -> bool:
    return bool(nbgrader_metadata(cell).get("locked"))


def _cell(cell: NotebookNode, released: Mapping[str | None, NotebookNode]) -> Cell:
    """Return a restored cell as what it is in grading."""
    # A class of a thousand has one copy of what all were given.
    source, known = sys.intern(str(cell.source)), grade_id(cell)
    name = known and sys.intern(known)
    pictures: Any = cell.get("attachments") or _NO_PICTURES
    if cell.cell_type != "code":
        return Cell(Role.TEXT, source, name, pictures)
    if _is_check(cell):
        return Cell(Role.CHECK, str(released[name].source), name)
    if is_answer(cell):
        return Cell(Role.ANSWER, source, name)
    if cell.metadata.get("course") == GIVEN:
        return Cell(Role.GIVEN, source)
    return Cell(Role.OWN, source)


def _with_answers_beside(
    cells: list[Cell], asked: Asked, stub: str, notes: list[str]
) -> list[Cell]:
    """Let the student's own cells be the answer where the cell for it was left as it was.

    The stub would take the name back from an answer above it, so it does not run.
    """
    place = _place(cells, asked.answer_id)
    if place is None or cells[place].source.strip() not in ("", stub.strip()):
        return cells
    own = [at for at, cell in enumerate(cells) if cell.role is Role.OWN]
    beside = [at for at in own if asked.name in names_defined(cells[at].source)]
    if not beside:
        return cells
    notes.append(f"cell {asked.answer_id} is empty: {asked.name} was written in another cell")
    cells[place] = replace(cells[place], source="")
    check = _place(cells, asked.check_id)
    assert check is not None
    if beside[-1] > check:
        cells.insert(beside[-1] + 1, cells[check])
        del cells[check]
    return cells


def _with_check_behind(cells: list[Cell], asked: Asked, notes: list[str]) -> list[Cell]:
    """Move a check that stands before its answer behind it."""
    answer, check = _place(cells, asked.answer_id), _place(cells, asked.check_id)
    if answer is not None and check is not None and check < answer:
        notes.append(f"cell {asked.check_id} was moved in front of {asked.answer_id}")
        cells.insert(answer + 1, cells[check])
        del cells[check]
    return cells


def _place(cells: Sequence[Cell], name: str) -> int | None:
    return next((at for at, cell in enumerate(cells) if cell.grade_id == name), None)


def names_defined(source: str) -> set[str]:
    r"""Return the names that a cell defines; none if it is no Python, magics aside.

    >>> names_defined("%matplotlib inline\na = 1"), names_defined("a = (")
    ({'a'}, set())
    """
    lines = ["" if line.startswith(("%", "!")) else line for line in source.split("\n")]
    try:
        return names_bound("\n".join(lines))
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return set()

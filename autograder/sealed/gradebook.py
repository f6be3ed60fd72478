"""The points of a class in nbgrader's gradebook, and the notebooks that its pages show.

Formgrader, marking by hand, feedback and export go on from there. Marks that a person has given are
kept, whatever is graded again.
"""

from __future__ import annotations

import contextlib
import copy
import hashlib
import json
import logging
import re
import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from html import escape
from pathlib import Path
from typing import Any

from nbformat import NotebookNode
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output

from autograder.errors import CourseError
from autograder.files import locked, write_atomically
from autograder.grading.intake import GRADED
from autograder.grading.timestamps import read_timestamp
from autograder.matching import grade_id
from autograder.notebook_files import notebook_bytes
from autograder.sealed.batch import Graded
from autograder.sealed.depends import check_digest
from autograder.sealed.intake import Cell, Role, Submission
from autograder.sealed.release import Release
from autograder.sealed.report import UNSAFE
from autograder.sealed.score import Item, Score
from autograder.sealed.store import key_of

COURSE = "serving-from-scratch"


@dataclass(frozen=True)
class _Entered:
    """What the gradebook has of a student.

    Attributes:
        grades: Of each grade id the points, the mark by hand, and if it waits for one.
        when: When the student handed in.
        extension: How much later than the class the student may.
        person: First name, last name and address.
    """

    grades: Mapping[str, tuple[float | None, float | None, bool]]
    when: datetime | None = None
    extension: timedelta | None = None
    person: tuple[str | None, str | None, str | None] = (None, None, None)


_TAG = re.compile(r"<(?=[A-Za-z/!?])")
_SCRIPT = re.compile(r"((?:java|vb|live)script|data(?=\s*:\s*text))\s*:", re.IGNORECASE)


def enter(graded: Graded, database: Path, submitted: Path) -> bool:
    """Write points into a gradebook, student by student: what stands of one there is whole.

    Args:
        graded: The results.
        database: The gradebook. Another grader that writes into it is waited for.
        submitted: The folder of all submissions, which may have the times of submission.

    Returns:
        Whether the gradebook knows the lesson; nothing is written if not.

    Raises:
        CourseError: The disk is full, or another program keeps the gradebook to itself.
    """
    if not database.exists():
        return False
    from nbgrader.api import InvalidEntry, MissingEntry
    from sqlalchemy.exc import SQLAlchemyError

    lesson = graded.release.lesson
    with locked(database.with_name(f"{database.name}.lock")):
        try:
            with _opened(database) as (gradebook, connection):
                gradebook.find_notebook(lesson, lesson)
                _enter_all(graded, gradebook, connection, submitted)
        except MissingEntry:
            return False
        except (InvalidEntry, SQLAlchemyError) as error:
            reason = str(error).partition("\n")[0]
            raise CourseError(
                f"cannot write {database}: {reason}; free some space or close what else writes "
                "there, then grade again: nothing that was graded is lost"
            ) from error
    return True


@contextlib.contextmanager
def _opened(database: Path) -> Iterator[tuple[Any, Any]]:
    """Give nbgrader's gradebook, and the connection on which its sessions write.

    Its functions commit what they have done, one by one. Here they do so inside a transaction of
    the connection, and it is the one that counts.
    """
    from nbgrader.api import Gradebook
    from sqlalchemy.exc import SAWarning

    with warnings.catch_warnings(), Gradebook(f"sqlite:///{database}", COURSE) as gradebook:
        # Of nbgrader's own making, and about nothing that is lost.
        warnings.simplefilter("ignore", SAWarning)
        # What it logs are tracebacks of errors that it raises as well.
        with _silent("tornado.application"), gradebook.engine.connect() as connection:
            gradebook.db.remove()
            gradebook.db.configure(bind=connection, join_transaction_mode="rollback_only")
            yield gradebook, connection
            gradebook.db.remove()


@contextlib.contextmanager
def _silent(name: str) -> Iterator[None]:
    """Let nothing be logged under a name."""
    logger = logging.getLogger(name)
    before, logger.disabled = logger.disabled, True
    try:
        yield
    finally:
        logger.disabled = before


def _enter_all(graded: Graded, gradebook: Any, connection: Any, submitted: Path) -> None:
    """Write the points of all students that the gradebook has otherwise, each as a whole."""
    lesson = graded.release.lesson
    known = _entered(gradebook, lesson)
    _enter_due(graded, gradebook, connection)
    for student in graded.verdicts:
        when = None
        with contextlib.suppress(ValueError):
            when = read_timestamp(submitted / student / lesson)
        wanted = _to_enter(graded, student, when, known.get(student))
        if known.get(student) != wanted:
            with connection.begin():
                _enter_one(gradebook, lesson, student, wanted)
                gradebook.db.remove()


def _enter_due(graded: Graded, gradebook: Any, connection: Any) -> None:
    """Write when the lesson is due, if the roster says; what stands there else stays."""
    due = graded.roster.class_due(graded.release.lesson)
    assignment = gradebook.find_assignment(graded.release.lesson)
    if due is not None and assignment.duedate != _naive(due):
        assignment.duedate = _naive(due)
        gradebook.db.commit()
        connection.commit()
    gradebook.db.remove()
    connection.rollback()


def _naive(moment: datetime) -> datetime:
    """Return a moment as the gradebook holds it."""
    return moment.astimezone(UTC).replace(tzinfo=None)


def _entered(gradebook: Any, lesson: str) -> dict[str, _Entered]:
    """Return what the gradebook has of a lesson, by student, in one query for all of them."""
    from nbgrader.api import (
        Assignment,
        BaseCell,
        Grade,
        Student,
        SubmittedAssignment,
        SubmittedNotebook,
    )

    rows = (
        gradebook.db.query(
            SubmittedAssignment.student_id,
            SubmittedAssignment.timestamp,
            SubmittedAssignment.extension,
            Student.first_name,
            Student.last_name,
            Student.email,
            BaseCell.name,
            Grade.auto_score,
            Grade.manual_score,
            Grade.needs_manual_grade,
        )
        .join(Student, Student.id == SubmittedAssignment.student_id)
        .join(SubmittedNotebook, SubmittedNotebook.assignment_id == SubmittedAssignment.id)
        .join(Assignment, Assignment.id == SubmittedAssignment.assignment_id)
        .join(Grade, Grade.notebook_id == SubmittedNotebook.id)
        .join(BaseCell, BaseCell.id == Grade.cell_id)
        .filter(Assignment.name == lesson)
    )
    grades: dict[str, dict[str, tuple[float | None, float | None, bool]]] = {}
    others: dict[str, tuple[Any, Any, Any]] = {}
    for student, when, extension, first, last, email, name, auto, manual, waits in rows:
        grades.setdefault(student, {})[name] = auto, manual, waits
        others[student] = when, extension, (first, last, email)
    return {student: _Entered(found, *others[student]) for student, found in grades.items()}


def _to_enter(
    graded: Graded, student: str, when: datetime | None, known: _Entered | None
) -> _Entered:
    """Return what the gradebook is to have of a student.

    Marks by hand stay what they are, and so does what the roster does not say.
    """
    known = known or _Entered({})
    lesson, roster = graded.release.lesson, graded.roster
    grades = {}
    for item in graded.scores[student].items:
        _, manual, _ = known.grades.get(item.grade_id, (None, None, False))
        waits = item.points is None and manual is None
        grades[item.grade_id] = item.points, manual, waits
    extension, due = known.extension, roster.class_due(lesson)
    if due is not None:
        own = roster.extension(student, lesson)
        extension = own - due if own else None
    person = roster.of(student)
    told = (*person.first_and_last, person.email)
    names = [new or old for new, old in zip(told, known.person, strict=True)]
    return _Entered(grades, when, extension, (names[0], names[1], names[2]))


def _enter_one(gradebook: Any, lesson: str, student: str, wanted: _Entered) -> None:
    """Write the points of one student."""
    first, last, email = wanted.person
    gradebook.update_or_create_student(student, first_name=first, last_name=last, email=email)
    gradebook.update_or_create_submission(
        lesson, student, timestamp=wanted.when, extension=wanted.extension
    )
    for name, (points, _, waits) in wanted.grades.items():
        grade = gradebook.find_grade(name, lesson, lesson, student)
        grade.auto_score = points
        grade.needs_manual_grade = waits
    gradebook.db.commit()


def write_notebooks(
    graded: Graded, submissions: Mapping[str, Submission], autograded: Path, record: Path
) -> None:
    """Write the notebooks that formgrader and feedback show, where they have changed.

    Args:
        graded: The results.
        submissions: What was graded, by student.
        autograded: The folder with one folder for each student.
        record: A file that says of what the notebooks were made, so that what is there as it was
            written is not made again.
    """
    lesson = graded.release.lesson
    known = _recorded(record)
    written = {}
    for student in graded.verdicts:
        path = autograded / student / lesson / f"{lesson}.ipynb"
        made_of = _made_of(graded, student, submissions[student])
        is_there = known.get(student, ["", ""]) == [made_of, _hash_of(path)]
        if not is_there:
            write_atomically(path, _shown(graded, submissions[student], graded.scores[student]))
        written[student] = known[student] if is_there else [made_of, _hash_of(path)]
    if written != known:
        write_atomically(record, json.dumps(written, indent=1).encode())


def _shown(graded: Graded, submission: Submission, score: Score) -> bytes:
    """Return the file of a notebook that is shown."""
    notebook = autograded_notebook(graded.release, submission, score)
    if not graded.is_boxed:
        notebook.cells.insert(0, new_markdown_cell(f"**{UNSAFE}**", id="walls"))
    return notebook_bytes(notebook)


def _made_of(graded: Graded, student: str, submission: Submission) -> str:
    """Return the hash of all that a notebook that is shown depends on."""
    lesson = graded.release.lesson
    score = repr(graded.scores[student])
    made_of = graded.release.digest, submission.digest, score, str(graded.is_boxed)
    return key_of(check_digest(lesson), *made_of)


def _hash_of(path: Path) -> str:
    """Return the hash of a file; "" if it cannot be read."""
    try:
        return hashlib.sha256(path.read_bytes()).hexdigest()
    except OSError:
        return ""


def _recorded(record: Path) -> dict[str, list[str]]:
    """Return what a record says; nothing where there is none that can be read."""
    try:
        known = json.loads(record.read_bytes())
    except (OSError, ValueError):
        return {}
    return known if isinstance(known, dict) else {}


def autograded_notebook(release: Release, submission: Submission, score: Score) -> NotebookNode:
    """Return a submission as it was graded, with what was said below each check.

    What cells have printed or drawn is not in it, and no HTML that a student wrote.

    Args:
        release: The lesson.
        submission: What was graded.
        score: What it has earned.
    """
    released = {grade_id(cell): cell for cell in release.cells if grade_id(cell)}
    given = {str(cell.source) for cell in release.cells}
    items = {item.grade_id: item for item in score.items}
    cells = list(_cells(submission.cells, released, given, items))
    for place, cell in enumerate(cells):
        cell.id = f"cell-{place}"
    notebook: NotebookNode = new_notebook(cells=cells, metadata={"course": GRADED})
    return notebook


def harmless(text: str) -> str:
    """Return Markdown in which nothing is HTML or a link that runs a script.

    >>> harmless("a < b, <script>x</script> and [this](JavaScript:x)")
    'a < b, &lt;script>x&lt;/script> and [this](JavaScript :x)'
    """
    return _SCRIPT.sub(r"\1 :", _TAG.sub("&lt;", text))


def _cells(
    cells: Sequence[Cell],
    released: Mapping[str | None, NotebookNode],
    given: set[str],
    items: Mapping[str, Item],
) -> Iterator[NotebookNode]:
    for cell in cells:
        metadata = {}
        if cell.grade_id in released:
            metadata = {"nbgrader": copy.deepcopy(released[cell.grade_id].metadata.nbgrader)}
        if cell.role is Role.TEXT:
            source = cell.source if cell.source in given else harmless(cell.source)
            shown = new_markdown_cell(source, metadata=metadata)
            if cell.attachments:
                shown.attachments = copy.deepcopy(dict(cell.attachments))
            yield shown
            continue
        outputs = [_said(items[str(cell.grade_id)])] if str(cell.grade_id) in items else []
        yield new_code_cell(cell.source, metadata=metadata, outputs=outputs)


def _said(item: Item) -> NotebookNode:
    """Return what stands below a check."""
    points = "no points yet" if item.points is None else f"{item.points:g}"
    text = f"{item.exercise}: {points} of {item.maximum:g}"
    text += f" ({item.says})" if item.says else ""
    data = {"text/plain": text, "text/html": f"<p>{escape(text)}</p>"}
    output: NotebookNode = new_output("display_data", data=data)
    return output

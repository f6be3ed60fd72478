"""The class: names, addresses, due dates and extensions, from a CSV file of the instructor's.

One line for each student, with the columns ``student`` (the name of the folder), ``name``,
``email``, ``ids`` (the platform's numbers or user names, with spaces between) and any of ``due``
(for all lessons) and ``due LESSON``, such as ``due 3`` or ``due 03_block_tables``. The line of the
student ``*`` holds the due dates of the class; a date in a student's own line is an extension.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from autograder.collect.naming import folder_name, plain
from autograder.errors import CourseError
from autograder.files import read_bytes
from autograder.grading.timestamps import parse_time

CLASS = "*"
"""Whose due dates are those of the class."""

_COLUMNS = ("student", "name", "email", "ids")
_DUE = "due"
_EXAMPLE = "2026-11-20 18:00"
_NO_NAME = set("/[]*?")
"""What a folder cannot be called, or nbgrader takes for a pattern."""

_UTF_16 = (b"\xff\xfe", b"\xfe\xff")


@dataclass(frozen=True)
class Person:
    """One student.

    Attributes:
        student: The name of the student's folder, which is the name in the gradebook.
        name: First and last name, or the other way round behind a comma; "" if unknown.
        email: The address; "" if unknown.
        ids: What a learning platform calls the student.
        due: Due dates of the student's own, by lesson number; under 0 that of all lessons.
    """

    student: str
    name: str = ""
    email: str = ""
    ids: tuple[str, ...] = ()
    due: Mapping[int, datetime] = field(default_factory=dict, hash=False)

    @property
    def keys(self) -> set[str]:
        """All that a platform may write for the name, as ``plain`` gives it."""
        words = self.name.replace(",", " ").split()
        turned = [*words[-1:], *words[:-1]]
        other = [*words[1:], *words[:1]]
        user = self.email.partition("@")[0]
        said = [self.student, "".join(words), "".join(turned), "".join(other), self.email, user]
        return {plain(each) for each in [*said, *self.ids] if plain(each)}

    @property
    def first_and_last(self) -> tuple[str, str]:
        """The name in two parts.

        >>> Person("ada", "Lovelace, Ada").first_and_last, Person("x", "Ada King").first_and_last
        (('Ada', 'Lovelace'), ('Ada', 'King'))
        """
        last, comma, first = self.name.partition(",")
        if comma:
            return first.strip(), last.strip()
        first, _, last = self.name.strip().rpartition(" ")
        return first, last


class Roster:
    """A class.

    Args:
        people: The students, and ``CLASS`` with the due dates of all.
    """

    def __init__(self, people: Sequence[Person] = ()) -> None:
        self._class = next((each for each in people if each.student == CLASS), Person(CLASS))
        self.people = {each.student: each for each in people if each.student != CLASS}

    def of(self, student: str) -> Person:
        """Return what is known of a student; of one who is not in the roster, the name alone."""
        return self.people.get(student, Person(student))

    def fitting(self, who: str, identity: str = "") -> list[Person]:
        """Return the students whom a platform may call so; by its number alone if that is known."""
        known = plain(identity)
        by_number = [p for p in self.people.values() if known and known in map(plain, p.ids)]
        wanted = plain(who)
        return by_number or [p for p in self.people.values() if wanted and wanted in p.keys]

    def due(self, student: str, lesson: str) -> datetime | None:
        """Return when a lesson of a student is due; None if nobody has said."""
        return self.extension(student, lesson) or self.class_due(lesson)

    def class_due(self, lesson: str) -> datetime | None:
        """Return when a lesson is due for who has no extension."""
        return _of_lesson(self._class.due, lesson)

    def extension(self, student: str, lesson: str) -> datetime | None:
        """Return a due date of the student's own."""
        return _of_lesson(self.of(student).due, lesson)

    def late(self, student: str, lesson: str, when: datetime | None) -> str:
        """Say by how much something came late; "" if it did not, or nobody can tell.

        Args:
            student: Whose it is.
            lesson: The lesson.
            when: When it was handed in; a time without a zone is in UTC.
        """
        due = self.due(student, lesson)
        if due is None or when is None:
            return ""
        seconds = (_in_utc(when) - due).total_seconds()
        return f"late by {span(seconds)}" if seconds > 0 else ""


def span(seconds: float) -> str:
    """Return a length of time in its two largest units.

    >>> span(200_000), span(60), span(5)
    ('2 d 7 h', '1 min', 'less than 1 min')
    """
    minutes = int(seconds // 60)
    parts = [(minutes // 1440, "d"), (minutes // 60 % 24, "h"), (minutes % 60, "min")]
    while parts and not parts[0][0]:
        parts.pop(0)
    said = " ".join(f"{number} {unit}" for number, unit in parts[:2] if number)
    return said or "less than 1 min"


def read_roster(path: Path) -> Roster:
    """Read a roster. A byte-order mark, UTF-16 and semicolons between the columns do not matter.

    Args:
        path: The CSV file.

    Raises:
        CourseError: It cannot be read, a column or a date is none, or a student stands there twice.
    """
    raw = read_bytes(path, "name the CSV file of your class with --roster")
    try:
        text = raw.decode("utf-16" if raw.startswith(_UTF_16) else "utf-8-sig")
    except UnicodeDecodeError as error:
        raise CourseError(f"{path} is not text in UTF-8 or UTF-16; save it as CSV UTF-8") from error
    first = text.partition("\n")[0]
    mark = max(",;\t", key=first.count)
    rows = csv.reader(io.StringIO(text, newline=""), delimiter=mark)
    head = [" ".join(each.casefold().split()) for each in next(rows, [])]
    if "student" not in head and "name" not in head:
        raise CourseError(
            f"{path} begins with {first[:60]!r}, which has no column `student` or `name`; columns: "
            f"{', '.join(_COLUMNS)}, due, due LESSON"
        )
    lessons = {place: _lesson_of(name, path) for place, name in enumerate(head)}
    people = list(_people(rows, head, lessons, path))
    seen: set[str] = set()
    for each in people:
        if each.student in seen:
            raise CourseError(f"{path} has {each.student!r} twice; keep one of the two lines")
        seen.add(each.student)
    return Roster(people)


def _people(
    rows: Iterator[list[str]], head: Sequence[str], lessons: Mapping[int, int | None], path: Path
) -> Iterator[Person]:
    for number, row in enumerate(rows, 2):
        if not any(cell.strip() for cell in row):
            continue
        cells = dict(zip(head, map(_in_one_line, row), strict=False))
        student = cells.get("student") or folder_name(cells.get("name", ""))
        if student != CLASS and (not student.strip(".") or _NO_NAME & set(student)):
            raise CourseError(
                f"{path}, line {number}: {student!r} is no name of a folder; write one into the "
                "column `student`"
            )
        due = {}
        for place, lesson in lessons.items():
            if lesson is not None and place < len(row) and row[place].strip():
                due[lesson] = _date(row[place].strip(), f"{path}, line {number}")
        ids = tuple(cells.get("ids", "").replace(",", " ").split())
        yield Person(student, cells.get("name", ""), cells.get("email", ""), ids, due)


def _in_one_line(cell: str) -> str:
    """Return a cell without ends of lines, and without what would steer a terminal."""
    return " ".join("".join(each if each.isprintable() else " " for each in cell).split())


def _lesson_of(column: str, path: Path) -> int | None:
    """Return the number of the lesson whose due dates a column holds; 0 for all, None for none."""
    word, _, lesson = column.partition(" ")
    if word != _DUE:
        return None
    number = lesson.partition("_")[0] or "0"
    if not number.isdecimal():
        raise CourseError(
            f"{path}: the column {column!r} names no lesson; write `due 3` or "
            "`due 03_block_tables_address_translation`"
        )
    return int(number)


def _date(text: str, where: str) -> datetime:
    try:
        return parse_time(text).replace(tzinfo=UTC)
    except (ValueError, OverflowError, TypeError) as error:
        raise CourseError(f"{where}: {text!r} is no time such as {_EXAMPLE} (in UTC)") from error


def _in_utc(moment: datetime) -> datetime:
    return moment.astimezone(UTC) if moment.tzinfo else moment.replace(tzinfo=UTC)


def _of_lesson(due: Mapping[int, datetime], lesson: str) -> datetime | None:
    number = lesson.partition("_")[0]
    own = due.get(int(number)) if number.isdecimal() else None
    return own or due.get(0)

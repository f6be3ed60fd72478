"""What an instructor sees of a graded class: tables for the terminal, files for a spreadsheet."""

from __future__ import annotations

import csv
import io
from collections import Counter
from collections.abc import Iterable

from rich.markup import escape
from rich.table import Column, Table

from autograder.sealed.batch import Graded
from autograder.sealed.score import Item
from autograder.sealed.verdict import Remark, Status

UNSAFE = "graded without boxes"
"""What every report says of a class that was graded with ``--unsafe``."""

_FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n", "＝", "＋", "－", "＠")
"""How a cell begins that a spreadsheet would compute."""


_TOLD = {*Remark, *Status} - {Remark.NOT_STARTED}


def class_table(graded: Graded) -> Table:
    """Return the points of a class, a line for each student."""
    title = graded.release.lesson if graded.is_boxed else f"{graded.release.lesson} ({UNSAFE})"
    table = Table(Column("student", overflow="fold"), title=title)
    table.add_column("points", justify="right")
    table.add_column("by hand", justify="right")
    if graded.late:
        table.add_column("late", overflow="fold")
    table.add_column("what a 0 would not say", overflow="fold")
    for student, score in graded.scores.items():
        said = "; ".join(f"{item.exercise} {item.says}" for item in score.items if _is_told(item))
        late = [graded.late.get(student, "").removeprefix("late by ")] if graded.late else []
        if score.earned is None:
            said = "; ".join(score.notes)
            cells = [_called(graded, student), "not graded", "", *late, said]
        else:
            waits = f"{score.waits:g}" if score.waits else ""
            cells = [_called(graded, student), f"{score.earned:g} / {score.maximum:g}", waits]
            cells += [*late, said]
        table.add_row(*map(escape, cells), style="red" if score.earned is None else None)
    return table


def _called(graded: Graded, student: str) -> str:
    """Return what a student is called: the folder's name, with the person's if that is known."""
    name = graded.roster.of(student).name
    return f"{student} ({name})" if name else student


def mistakes_table(graded: Graded) -> Table:
    """Return how many of a class hold which known misconception, by exercise."""
    counted: Counter[tuple[str, str]] = Counter(
        (verdict.exercise, verdict.misconception)
        for verdicts in graded.verdicts.values()
        for verdict in verdicts
        if verdict.misconception
    )
    table = Table("exercise", Column("misconception", overflow="fold"), title="What a class holds")
    table.add_column("students", justify="right")
    places = {asked.exercise: place for place, asked in enumerate(graded.release.asked)}
    for (exercise, name), students in sorted(
        counted.items(), key=lambda each: (places[each[0][0]], -each[1], each[0][1])
    ):
        table.add_row(exercise, escape(name), str(students))
    return table


def moves_table(graded: Graded) -> Table:
    """Return who earns another share than when it was graded with other checks, and why."""
    table = Table(Column("student", overflow="fold"), "exercise", title="Moved since then")
    table.add_column("before", justify="right")
    table.add_column("now", justify="right")
    table.add_column("because", overflow="fold")
    for move in graded.moves:
        shares = (f"{each.status} {each.fraction:.0%}" for each in (move.before, move.now))
        table.add_row(escape(move.student), move.exercise, *shares, move.why)
    return table


def points_csv(graded: Graded) -> str:
    """Return the points as CSV: a line for each student, a column for each exercise."""
    asked = [item.exercise for score in graded.scores.values() for item in score.items]
    exercises = list(dict.fromkeys(asked))
    head = ["student", "name", "email", "late", "earned", "maximum", "by hand", *exercises]
    head.append("remarks")
    rows = [head if graded.is_boxed else [*head, UNSAFE]]
    for student, score in graded.scores.items():
        points = {item.exercise: item.points for item in score.items}
        said = [f"{item.exercise}: {item.says}" for item in score.items if item.says]
        row = [
            *person(graded, student),
            number(score.earned),
            number(score.maximum),
            number(score.waits),
            *(number(points.get(each)) for each in exercises),
            "; ".join([*score.notes, *said]),
        ]
        rows.append(row if graded.is_boxed else [*row, "yes"])
    return as_csv(rows)


def person(graded: Graded, student: str) -> list[str]:
    """Return a student's folder, name, address and lateness, as files for a spreadsheet begin."""
    known = graded.roster.of(student)
    return [student, known.name, known.email, graded.late.get(student, "")]


def as_csv(rows: Iterable[Iterable[str]]) -> str:
    """Return rows as CSV, every cell quoted and none of them a formula.

    >>> print(as_csv([["=1+1", "Ada, first"]]), end="")
    "'=1+1","Ada, first"
    """
    stream = io.StringIO()
    writer = csv.writer(stream, quoting=csv.QUOTE_ALL, lineterminator="\n")
    writer.writerows([[plain_cell(each) for each in row] for row in rows])
    return stream.getvalue()


def plain_cell(text: str) -> str:
    """Return a text that a spreadsheet does not take for a formula.

    >>> plain_cell("=HYPERLINK(1)"), plain_cell("Ada"), plain_cell("-5")
    ("'=HYPERLINK(1)", 'Ada', "'-5")
    """
    return f"'{text}" if text.startswith(_FORMULA) else text


def number(value: float | None) -> str:
    """Return points as they stand in a file; "" for none."""
    return "" if value is None else f"{value:g}"


def _is_told(item: Item) -> bool:
    """Say whether what stands beside the points belongs into one line for a student."""
    named = item.says.partition(":")[0].split(", ")[0]
    return item.points is not None and named in _TOLD

"""How far a learner has come, lesson by lesson: it prints, and a notebook shows it as a table."""

from __future__ import annotations

import html
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from rich.table import Table

from autograder import lessons
from autograder.checks.drawn_quiz import DrawnQuizCheck
from autograder.checks.exercise import Exercise
from autograder.checks.quiz import PASS, QuizCheck
from autograder.lessons.lesson15_drawn import COMPREHENSIVE, drawn_bank
from autograder.lessons.questions import bank
from autograder.workspace import records
from course_lib import parts
from course_lib.catalogue import lesson_name

_NAMES = {14: "request trace", COMPREHENSIVE: "sixty questions"}
"""What a notebook of the final project is called, where it is not the project itself."""

_BARS = 6
_HEAD = ("lesson", "exercises", "points", "quiz", "parts", "left", "revisit")


@dataclass(frozen=True)
class LessonProgress:
    """What is done of one lesson, and what is left.

    Attributes:
        name: What it is called.
        passed: How many checks have passed; a quiz has at 80% of its questions.
        exercises: How many there are.
        points: What they have earned; answers in words are marked by a person and not counted.
        maximum: What the checks can earn.
        quiz: How many questions of its quiz were right in the best run, whose points are counted,
            and how many there are.
        parts: How many parts that the lesson builds are the learner's, and how many there are.
        minutes_left: What the exercises that have not passed take, roughly.
        revisit: Concepts of which a question was answered wrong; only of a quiz that is no pass.
        journal: What was written into the journal.
    """

    name: str
    passed: int
    exercises: int
    points: float
    maximum: float
    quiz: tuple[int, int]
    parts: tuple[int, int]
    minutes_left: int
    revisit: tuple[str, ...]
    journal: Mapping[str, Any]

    @property
    def is_begun(self) -> bool:
        """Whether anything is on record."""
        return bool(self.passed or self.points or self.quiz[0] or self.journal)


class Progress(Sequence[LessonProgress]):
    """The progress in all lessons, in order.

    Args:
        rows: The lessons.
    """

    def __init__(self, rows: Sequence[LessonProgress]) -> None:
        self._rows = tuple(rows)

    def __getitem__(self, index: Any) -> Any:
        return self._rows[index]

    def __len__(self) -> int:
        return len(self._rows)

    @property
    def passed(self) -> tuple[int, int]:
        """How many checks of the course have passed, and how many there are."""
        return sum(row.passed for row in self._rows), sum(row.exercises for row in self._rows)

    @property
    def minutes_left(self) -> int:
        """What is left takes about so long."""
        return sum(row.minutes_left for row in self._rows)

    def as_data(self) -> dict[str, Any]:
        """Return everything as plain data, to be written as JSON."""
        return {row.name: asdict(row) for row in self._rows}

    @property
    def summary(self) -> str:
        """All of it in one line."""
        passed, there_are = self.passed
        return f"{passed} of {there_are} checks passed; about {_hours(self.minutes_left)} left"

    def __repr__(self) -> str:
        width = max(len(row.name) for row in self._rows)
        lines = [f"{row.name:<{width}}  {'; '.join(_said(row))}" for row in self._rows]
        return "\n".join([*lines, self.summary])

    def _repr_html_(self) -> str:
        head = "".join(f"<th style='text-align:left'>{name}</th>" for name in _HEAD)
        rows = "".join(map(_html_row, self._rows))
        return (
            f"<p>{self.summary}</p>"
            f"<table><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table>"
        )


def progress_of(workspace: Path) -> Progress:
    """Return the progress that is on record in a workspace.

    Args:
        workspace: Its folder. Parts are those of the workspace that the environment names.
    """
    written = records.journal(workspace)
    table = parts.table()
    return Progress(
        [
            _lesson(number, records.results(workspace, number), written, table)
            for number in lessons.numbers()
        ]
    )


def progress_table(progress: Progress) -> Table:
    """Return the progress as a table for a terminal."""
    table = Table(caption=progress.summary)
    for name in _HEAD:
        is_number = name in ("points", "left")
        table.add_column(name, justify="right" if is_number else "left", no_wrap=is_number)
    for row in progress:
        table.add_row(*_cells(row), style="" if row.is_begun else "dim")
    return table


def _lesson(
    number: int,
    known: Mapping[str, Mapping[str, Any]],
    journal: Mapping[str, Mapping[str, Any]],
    table: parts.PartTable,
) -> LessonProgress:
    exercises = lessons.exercises(number)
    passed = [each for each in exercises if _has_passed(each, known.get(each.id, {}))]
    own = [row for row in table if row.lesson == number]
    asked, wrong = _quizzes(exercises, known)
    is_pass = len(asked) - len(wrong) >= PASS * len(asked)
    return LessonProgress(
        name=_NAMES.get(number) or lesson_name(number),
        passed=len(passed),
        exercises=len(exercises),
        points=sum(min(known.get(e.id, {}).get("points", 0), e.points) for e in exercises),
        maximum=sum(each.points for each in exercises),
        quiz=(len(asked) - len(wrong), len(asked)),
        parts=(sum(row.state == "yours" for row in own), len(own)),
        minutes_left=sum(each.minutes for each in exercises if each not in passed),
        revisit=() if is_pass else tuple(dict.fromkeys(filter(None, map(asked.get, wrong)))),
        journal=dict(journal.get(str(number), {})),
    )


def _has_passed(exercise: Exercise, result: Mapping[str, Any]) -> bool:
    """Say whether all was right once, or, of a quiz, enough."""
    if not result or result.get("passed"):
        return bool(result)
    num_asked = len(dict(_concepts(exercise)))
    num_right = num_asked - len(result.get("open", ()))
    return num_asked > 0 and num_right >= PASS * num_asked


def _quizzes(
    exercises: Sequence[Exercise], known: Mapping[str, Mapping[str, Any]]
) -> tuple[dict[str, str], list[str]]:
    """Return the concepts of all questions by id, and the questions that are not right.

    A quiz that was never handed in counts as not right, but there is nothing to revisit for it.
    """
    asked: dict[str, str] = {}
    wrong: list[str] = []
    for exercise in exercises:
        concepts = dict(_concepts(exercise))
        result = known.get(exercise.id)
        asked |= concepts if result else dict.fromkeys(concepts, "")
        wrong += concepts if result is None else filter(concepts.get, result.get("open", ()))
    return asked, wrong


def _concepts(exercise: Exercise) -> Iterator[tuple[str, str]]:
    """Yield the questions of a quiz with what each is about."""
    check = exercise.check
    if isinstance(check, QuizCheck):
        yield from ((question.id, question.concept) for question in bank(check.lesson).quiz)
    elif isinstance(check, DrawnQuizCheck):
        titles = {concept.id: concept.title for concept in drawn_bank().concept}
        for question in drawn_bank().of_part(check.part):
            yield question.id, titles[question.concept]


def _hours(minutes: int) -> str:
    """Write a time for people.

    >>> _hours(45), _hours(150), _hours(1640)
    ('45 min', '2.5 h', '27 h')
    """
    return f"{minutes} min" if minutes < 60 else f"{minutes / 60:.2g} h"


def _cells(row: LessonProgress) -> tuple[str, ...]:
    done = round(_BARS * row.points / row.maximum) if row.maximum else 0
    return (
        row.name,
        f"{row.passed} of {row.exercises}",
        f"{'█' * done}{'·' * (_BARS - done)} {row.points:g}/{row.maximum:g}",
        f"{row.quiz[0]} of {row.quiz[1]}" if row.quiz[1] else "",
        f"{row.parts[0]} of {row.parts[1]}" if row.parts[1] else "",
        _hours(row.minutes_left),
        ", ".join(row.revisit),
    )


def _html_row(row: LessonProgress) -> str:
    cells = "".join(f"<td style='text-align:left'>{html.escape(c)}</td>" for c in _cells(row))
    return f"<tr>{cells}</tr>"


def _said(row: LessonProgress) -> Iterator[str]:
    """Yield what there is to say of a lesson, piece by piece."""
    yield f"{row.passed} of {row.exercises} checks"
    yield f"{row.points:g} of {row.maximum:g} points"
    if row.quiz[1]:
        yield f"quiz {row.quiz[0]} of {row.quiz[1]}"
    if row.parts[1]:
        yield f"parts {row.parts[0]} of {row.parts[1]}"
    if row.minutes_left:
        yield f"{_hours(row.minutes_left)} left"
    if row.revisit:
        yield f"revisit {', '.join(row.revisit)}"
    if row.journal.get("confidence"):
        yield f"confidence {row.journal['confidence']} of {records.HIGHEST_CONFIDENCE}"
    if row.journal.get("hours"):
        yield f"{row.journal['hours']:g} hours spent"

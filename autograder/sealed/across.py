"""One exercise at a time, across a class: who earns what for it, what is said, what was written."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from rich.markup import escape
from rich.table import Column, Table

from autograder.errors import CourseError
from autograder.sealed.batch import Graded
from autograder.sealed.intake import Role, Submission
from autograder.sealed.report import as_csv, number, person
from autograder.sealed.score import Item
from autograder.sealed.verdict import Remark, Status, Verdict

_MOST_NAMES = 8
"""Students that are named of a group; of the others it says how many they are."""


@dataclass(frozen=True)
class Row:
    """What one student has for one exercise.

    Attributes:
        student: The student.
        item: The points, and what stands beside them.
        verdict: What was said of the answer; None where the submission could not be graded.
        answer: What was written; "" if nothing can be read.
    """

    student: str
    item: Item
    verdict: Verdict | None
    answer: str = ""

    @property
    def status(self) -> str:
        """How it ended, in the word of the verdict; what is not gradable says so."""
        return str(self.verdict.status if self.verdict else Status.QUARANTINED)

    @property
    def says(self) -> str:
        """What stands beside the points, or in their place."""
        return self.item.says

    @property
    def misconception(self) -> str:
        """The known mistake that the answer shows; "" if it shows none."""
        return self.verdict.misconception if self.verdict else ""


def exercises(graded: Graded) -> list[str]:
    """Return what has points, in order: exercises, and the grade ids of texts."""
    asked = [each.exercise for each in graded.release.asked if each.points]
    return [*asked, *(name for name, _ in graded.release.texts)]


def across(
    graded: Graded, exercise: str, submissions: Mapping[str, Submission] | None = None
) -> list[Row]:
    """Return what a class has for one exercise, a row for each student.

    Args:
        graded: The results of the class.
        exercise: The exercise, such as ``"3.4"``, or the grade id of a text.
        submissions: What was handed in, by student, for what was written.

    Raises:
        CourseError: The lesson has no such exercise.
    """
    if exercise not in exercises(graded):
        raise CourseError(
            f"{graded.release.lesson} has no exercise {exercise!r} with points; it has "
            f"{', '.join(exercises(graded))}"
        )
    found = []
    for student, score in graded.scores.items():
        item = next(each for each in score.items if each.exercise == exercise)
        verdicts = graded.verdicts.get(student, ())
        verdict = next((each for each in verdicts if each.grade_id == item.grade_id), None)
        submission = (submissions or {}).get(student)
        answer = _answer(graded, submission, item.grade_id) if submission else ""
        found.append(Row(student, item, verdict, answer))
    return found


def _answer(graded: Graded, submission: Submission, check_id: str) -> str:
    """Return what was written in the cell that a check is about, or that a person marks.

    What was written in other cells is there too where the cell itself is empty.
    """
    names = {each.check_id: each.answer_id for each in graded.release.asked}
    wanted = names.get(check_id, check_id)
    cells = [cell.source for cell in submission.cells if cell.grade_id == wanted]
    if any(each.strip() for each in cells):
        return "\n".join(cells)
    return "\n\n".join(each.source for each in submission.cells if each.role is Role.OWN)


def exercise_table(rows: list[Row], title: str) -> Table:
    """Return a line for each student."""
    table = Table(Column("student", overflow="fold"), title=title)
    table.add_column("points", justify="right")
    table.add_column("ended")
    table.add_column("what is said", overflow="fold")
    for row in rows:
        points = "none yet" if row.item.points is None else f"{row.item.points:g}"
        shown = f"{points} / {row.item.maximum:g}"
        cells = row.student, shown, row.status, row.says or row.misconception
        table.add_row(*map(escape, cells), style="red" if row.verdict is None else None)
    return table


def groups(rows: list[Row]) -> Iterator[tuple[str, str, list[Row]]]:
    """Yield who wrote the very same: a heading, the answer, and the rows; the largest group first.

    Spaces at the ends of lines, and empty lines around an answer, make no other answer.
    """
    same: defaultdict[str, list[Row]] = defaultdict(list)
    for row in rows:
        if row.answer.strip():
            lines = (line.rstrip() for line in row.answer.strip("\n").splitlines())
            same["\n".join(lines)].append(row)
    for answer, group in sorted(same.items(), key=lambda each: -len(each[1])):
        names = [row.student for row in group[:_MOST_NAMES]]
        more = f" and {len(group) - len(names)} more" if len(group) > len(names) else ""
        said = Counter(_in_short(row) for row in group).most_common()
        heading = "; ".join(f"{count} x {text}" if len(said) > 1 else text for text, count in said)
        yield f"{', '.join(names)}{more}: {heading}", answer, group


def _in_short(row: Row) -> str:
    said = row.misconception or row.says.partition(":")[0]
    return ", ".join(each for each in (row.status, said) if each)


def class_by_exercise(graded: Graded) -> Table:
    """Return a line for each exercise: how many earn all of it, a part, nothing, and why not."""
    title = f"{graded.release.lesson}, by exercise"
    table = Table("exercise", title=title)
    for name in ("all", "a part", "nothing", "not started", "no points yet"):
        table.add_column(name, justify="right")
    table.add_column("what the class holds", overflow="fold")
    for exercise in exercises(graded):
        rows = across(graded, exercise)
        counted = Counter(map(_share, rows))
        names = ("all", "part", "nothing", "not started", "open")
        held = Counter(row.misconception for row in rows if row.misconception)
        said = "; ".join(f"{count} x {name}" for name, count in held.most_common())
        numbers = (str(counted[name] or "") for name in names)
        table.add_row(exercise, *numbers, escape(said))
    return table


def _share(row: Row) -> str:
    if row.item.points is None:
        return "open"
    if row.verdict is not None and Remark.NOT_STARTED in row.verdict.remarks:
        return "not started"
    if row.item.points == row.item.maximum:
        return "all"
    return "part" if row.item.points > 0 else "nothing"


def exercise_csv(graded: Graded, exercise: str) -> str:
    """Return what a class has for one exercise as CSV."""
    head = ["student", "name", "email", "late", "points", "maximum", "status", "misconception"]
    rows = [[*head, "says"]]
    for row in across(graded, exercise):
        points = [number(row.item.points), number(row.item.maximum)]
        said = [row.status, row.misconception, row.says]
        rows.append([*person(graded, row.student), *points, *said])
    return as_csv(rows)

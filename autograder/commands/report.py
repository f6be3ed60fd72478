"""``course report``: what a graded class has earned and holds, without grading anything."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.panel import Panel
from rich.syntax import Syntax
from rich.text import Text

from autograder.commands.collect import class_roster
from autograder.commands.console import console
from autograder.commands.grade import audit_store, open_store
from autograder.commands.sealed_options import ResultsFolder, RosterFile, SubmittedFolder
from autograder.errors import CourseError

if TYPE_CHECKING:
    from autograder.sealed.batch import Batch, Graded

EXAMPLE = "course report --exercise 3.4 --answers"


def report(
    lesson: Annotated[
        str | None,
        typer.Argument(help="Number or name of the lesson; --exercise names one as well."),
    ] = None,
    exercise: Annotated[
        str | None,
        typer.Option(help="One exercise across the class, such as 3.4, or a text's grade id."),
    ] = None,
    answers: Annotated[
        bool, typer.Option("--answers", help="Show what was written, the most frequent first.")
    ] = False,
    csv: Annotated[
        Path | None,
        typer.Option(metavar="FOLDER", help="Write a CSV file for each exercise into it."),
    ] = None,
    submitted: SubmittedFolder = None,
    results: ResultsFolder = None,
    roster: RosterFile = None,
    unsafe: Annotated[
        bool, typer.Option("--unsafe", help="Report what was graded without boxes.")
    ] = False,
    audit: Annotated[
        bool, typer.Option("--audit", help="Only look for edited or missing results.")
    ] = False,
) -> None:
    """Report on a class that `course grade` has graded; nothing is judged (for instructors).

    Points and lateness by student, what the class holds by exercise, or with --exercise one
    question at a time: who earns what for it, and with --answers what they wrote.
    """
    store = open_store(results)
    if audit:
        audit_store(store)
        return
    from autograder.paths import course_root
    from autograder.sealed.batch import Batch
    from autograder.workspace.copies import lesson_to_grade

    name = lesson_to_grade(lesson or _number_in(exercise))
    folder = submitted or course_root() / "grading" / "submitted"
    with console.status("Reading what was handed in and graded"):
        batch = Batch(name, folder, store, not unsafe, class_roster(roster))
        graded = batch.graded()
    if graded.deviations:
        raise CourseError(f"{name} has not been graded as it is now; run `course grade {name}`")
    if exercise:
        _show_exercise(graded, batch, exercise, answers)
    else:
        _show_class(graded)
    if csv is not None:
        _write(graded, csv, [exercise] if exercise else None)


def _number_in(exercise: str | None) -> str:
    """Return the number of the lesson that an exercise is of.

    Raises:
        CourseError: None is named, or it has none, as a text.
    """
    if exercise is None:
        raise CourseError("name a lesson, or an exercise with --exercise 3.4")
    number, point, _ = exercise.partition(".")
    if not (point and number.isdecimal()):
        raise CourseError(
            f"{exercise!r} does not say of which lesson it is; name that too: "
            f"`course report 3 --exercise {exercise}`"
        )
    return number


def _show_class(graded: Graded) -> None:
    from autograder.sealed.across import class_by_exercise
    from autograder.sealed.report import class_table, moves_table

    console.print(class_table(graded))
    console.print(class_by_exercise(graded))
    moved = moves_table(graded)
    if moved.row_count:
        console.print(moved)


def _show_exercise(graded: Graded, batch: Batch, exercise: str, answers: bool) -> None:
    from autograder.sealed.across import across, exercise_table, groups

    rows = across(graded, exercise, batch.submissions())
    console.print(exercise_table(rows, f"{graded.release.lesson}, {exercise}"))
    if not answers:
        return
    is_text = exercise in dict(graded.release.texts)
    for heading, answer, _ in groups(rows):
        # Plain letters of what a stranger wrote: none of it moves the cursor.
        shown = "".join(c if c.isprintable() or c == "\n" else "?" for c in answer.expandtabs(4))
        body = Text(shown) if is_text else Syntax(shown, "python", word_wrap=True)
        console.print(Panel(body, title=Text(heading), title_align="left"))


def _write(graded: Graded, folder: Path, only: list[str] | None) -> None:
    """Write a CSV file for each exercise."""
    from autograder.files import write_atomically
    from autograder.sealed.across import exercise_csv, exercises

    names = only or exercises(graded)
    for exercise in names:
        path = folder / f"{graded.release.lesson}-{exercise}.csv"
        write_atomically(path, exercise_csv(graded, exercise).encode())
    console.print(
        f"{len(names)} CSV files written to {folder}", markup=False, highlight=False, soft_wrap=True
    )

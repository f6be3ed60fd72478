"""``course collect``: from the download of a learning platform to ``grading/submitted/``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.progress import track

from autograder.commands.console import console
from autograder.errors import CourseError

if TYPE_CHECKING:
    from autograder.collect.roster import Roster

EXAMPLE = "course collect Downloads/moodle.zip --roster class.csv --dry-run"


def collect(
    source: Annotated[
        Path, typer.Argument(metavar="FOLDER_OR_ZIP", help="What the platform lets you download.")
    ],
    lesson: Annotated[
        str | None,
        typer.Option(
            help="Number or name of the lesson of notebooks that do not show it: broken files."
        ),
    ] = None,
    roster: Annotated[
        Path | None,
        typer.Option(
            help="CSV with the columns student, name, email, ids, due.",
            show_default="grading/roster.csv if it is there",
        ),
    ] = None,
    submitted: Annotated[
        Path | None,
        typer.Option(help="Where notebooks go.", show_default="grading/submitted"),
    ] = None,
    replace: Annotated[
        bool, typer.Option("--replace", help="Replace also what was put there by hand.")
    ] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Show what would go where, and write nothing.")
    ] = False,
) -> None:
    """Put what students handed in where grading looks for it (for instructors).

    It knows how Moodle, Canvas and Blackboard name files, and folders NAME/LESSON/ as well. Of two
    from one student the latest counts; what came late is marked, not dropped. It can be run again.

    A roster is a CSV file: student,name,email,ids,due 1. The line of the student * has the due
    dates of the class; a date in a student's own line is an extension.
    """
    from autograder.collect.collecting import PROBLEMS, WRITTEN, Collecting
    from autograder.collect.recognition import lessons
    from autograder.collect.report import left_aside, pieces_table
    from autograder.paths import course_root
    from autograder.workspace.copies import lesson_to_grade

    lesson = lesson_to_grade(lesson) if lesson else None
    folder = submitted or course_root() / "grading" / "submitted"
    with console.status("Reading the download"):
        known = lessons()
        found = Collecting(source, folder, known, class_roster(roster), lesson, replace)
    console.print(pieces_table(found.pieces))
    if aside := left_aside(found.pieces):
        console.print(aside, markup=False, highlight=False, soft_wrap=True)
    number = sum(each.outcome in WRITTEN for each in found.pieces)
    if dry_run:
        console.print(f"{number} would be written; nothing was.", highlight=False)
    else:
        for _ in track(found.write(), "Writing", total=number, console=console, transient=True):
            pass
        console.print(f"{number} written to {folder}.", highlight=False, soft_wrap=True)
    odd = sum(each.outcome in PROBLEMS for each in found.pieces)
    if odd:
        rest = "all others would be written" if dry_run else "all others are in place"
        raise CourseError(f"{odd} of the files need a look, in red above; {rest}")
    if not any(each.lesson for each in found.pieces):
        raise CourseError(f"there is no notebook of a lesson in {source}; name another folder")


def class_roster(path: Path | None) -> Roster:
    """Return the roster in a file, or else in ``grading/roster.csv``; an empty one without.

    Raises:
        CourseError: It cannot be read.
    """
    from autograder.collect.roster import Roster, read_roster
    from autograder.paths import course_root

    usual = course_root() / "grading" / "roster.csv"
    if path is None and not usual.exists():
        return Roster()
    return read_roster(path or usual)

"""``course grade``: grading a class in boxes."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from autograder.commands.collect import class_roster
from autograder.commands.console import console
from autograder.commands.sealed_options import ResultsFolder, RosterFile, SubmittedFolder
from autograder.errors import CourseError

if TYPE_CHECKING:
    from autograder.sealed.batch import Batch, Graded, Judging
    from autograder.sealed.store import Store

EXAMPLE = "course grade 1 --workers 2"

_HERE = 1
"""Workers for which this process needs no others."""


def grade(
    lesson: Annotated[str, typer.Argument(help="Number or name of the lesson, such as engine.")],
    submitted: SubmittedFolder = None,
    results: ResultsFolder = None,
    workers: Annotated[
        int, typer.Option(min=1, help="Processes that judge; 1 uses no others.")
    ] = _HERE,
    scheduler: Annotated[
        str | None, typer.Option(help="A dask scheduler, such as tcp://10.0.0.5:8786.")
    ] = None,
    roster: RosterFile = None,
    gradebook: Annotated[
        bool, typer.Option(help="Enter the points into nbgrader's gradebook as well.")
    ] = True,
    unsafe: Annotated[
        bool,
        typer.Option("--unsafe", help="Run submissions without boxes, as you; reports say so."),
    ] = False,
    audit: Annotated[
        bool, typer.Option("--audit", help="Look for edited or missing results, and grade nothing.")
    ] = False,
) -> None:
    """Grade what was handed in, each submission in a box of its own (for instructors).

    What has been graded is not graded again; what an interruption has left out is. A CSV file with
    the points of each exercise is written beside the results.
    """
    store = open_store(results)
    if audit:
        audit_store(store)
        return
    from autograder.paths import course_root
    from autograder.sealed.batch import Batch, strays
    from autograder.workspace.copies import lesson_to_grade

    lesson = lesson_to_grade(lesson)
    submitted = submitted or course_root() / "grading" / "submitted"
    if not unsafe:
        _require_boxes()
        _require_hidden(submitted, store.folder)
    with console.status("Reading what was handed in"):
        batch = Batch(lesson, submitted, store, not unsafe, class_roster(roster))
    failed, judged = _judge(batch, workers, scheduler)
    graded = batch.graded(judged)
    if graded.deviations:
        raise CourseError(
            "no grades: this run gets known submissions wrong "
            f"({'; '.join(graded.deviations[:3])}); mend the checks or the machine, grade again"
        )
    _show(graded, store.folder / f"{lesson}.csv")
    odd = strays(submitted, lesson)
    for line in odd:
        console.print(line, markup=False, highlight=False, soft_wrap=True)
    if gradebook:
        _enter(graded, batch, submitted, store.folder / f"{lesson}.shown.json")
    if failed:
        raise CourseError(f"the machine failed for {failed} submissions; run the command again")
    if odd:
        raise CourseError(f"{len(odd)} of what was handed in belongs to nobody; see above")


def _require_boxes() -> None:
    """Say what does not protect this machine; raise CourseError if nothing can be boxed in here."""
    from autograder.sealed.box.protections import protections

    inactive = [each for each in protections() if not each.is_active]
    missing = [each for each in inactive if each.is_needed]
    if missing:
        raise CourseError(
            f"{missing[0].name}: {missing[0].says}; `course doctor` says more, and --unsafe grades "
            "without boxes"
        )
    for each in inactive:
        said = f"Not active here: {each.name}: {each.says}."
        console.print(said, markup=False, highlight=False, soft_wrap=True)


def _require_hidden(*folders: Path) -> None:
    """Raise CourseError if a submission could read in its box what lies in one of these folders."""
    from autograder.sealed.box.bubblewrap import is_shown
    from autograder.sealed.judges import hidden

    for folder in folders:
        if is_shown(folder, hidden()):
            raise CourseError(
                f"{folder} lies among the files of the system or of Python, which every box shows; "
                "put it elsewhere, such as below grading/"
            )


def _judge(batch: Batch, workers: int, scheduler: str | None) -> tuple[int, int]:
    """Judge what has no result; return for how many the machine failed, and how many there were."""
    from autograder.sealed.fan_out import cluster, judge_all
    from autograder.sealed.judges import one_by_one

    number = len(batch.to_judge())
    if number == 0:
        return 0, 0
    if workers == _HERE and scheduler is None:
        return _followed(batch, one_by_one, number), number
    with cluster(workers, scheduler) as client:
        return _followed(batch, lambda orders: judge_all(client, orders), number), number


def _followed(batch: Batch, judging: Judging, number: int) -> int:
    """Judge with a progress bar; return for how many submissions the machine failed."""
    columns = TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn()
    failed = 0
    with Progress(*columns, TimeRemainingColumn(), console=console) as progress:
        bar = progress.add_task("Grading", total=number)
        for _, is_known in batch.grade(judging):
            failed += not is_known
            progress.advance(bar)
    return failed


def _show(graded: Graded, path: Path) -> None:
    """Print the results of a class, and write them for a spreadsheet."""
    from autograder.files import write_atomically
    from autograder.sealed.report import class_table, mistakes_table, moves_table, points_csv

    console.print(class_table(graded))
    for table in (mistakes_table(graded), moves_table(graded)):
        if table.row_count:
            console.print(table)
    write_atomically(path, points_csv(graded).encode())
    console.print(f"{graded.judged} judged now, the rest was known.", highlight=False)
    console.print(f"The points of each exercise: {path}", markup=False, soft_wrap=True)


def _enter(graded: Graded, batch: Batch, submitted: Path, record: Path) -> None:
    """Write the points into the gradebook, and the notebooks that its pages show."""
    from autograder.files import locked
    from autograder.grading.batch import enter_lesson
    from autograder.paths import course_root
    from autograder.sealed.gradebook import enter, write_notebooks

    database = course_root() / "gradebook.db"
    with console.status("Entering the points into the gradebook"):
        if not enter(graded, database, submitted):
            # Of two who find that, one enters it: nbgrader takes no lock of ours.
            with locked(database.with_name("gradebook.db.lesson.lock")):
                if not enter(graded, database, submitted):
                    enter_lesson(graded.release.lesson)
                    enter(graded, database, submitted)
        folder = course_root() / "grading" / "autograded"
        write_notebooks(graded, batch.submissions(), folder, record)
    said = "The points are in gradebook.db; mark texts in formgrader, then give feedback."
    console.print(said, markup=False, highlight=False, soft_wrap=True)


def open_store(results: Path | None) -> Store:
    """Return the results in a folder, or else in ``grading/sealed``."""
    from autograder.paths import course_root
    from autograder.sealed.store import Store

    return Store(results or course_root() / "grading" / "sealed")


def audit_store(store: Store) -> None:
    """Say what is wrong with the results.

    Raises:
        CourseError: Something is.
    """
    problems = store.audit()
    if problems:
        for problem in problems:
            console.print(problem, markup=False, highlight=False)
        raise CourseError(f"{len(problems)} of the results or of the log is not as it was written")
    number = len(store.entries())
    console.print(f"{number} results, each as it was graded and in the log.", highlight=False)

"""``course update``: bringing newer releases of lessons in."""

from __future__ import annotations

from typing import Annotated, Optional

import typer
from rich.progress import track

from autograder.commands.console import console
from autograder.errors import CourseError

EXAMPLE = "course update 1 --dry-run"


def update(
    lesson: Annotated[
        Optional[str],  # noqa: UP045 - Typer reads this at run time
        typer.Argument(help="Number or name of the lesson; all lessons in your workspace if none."),
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Say what would change and write nothing.")
    ] = False,
) -> None:
    """Bring newer releases of your lessons in, cell by cell. Your answers stay."""
    from autograder.workspace.copies import Workspace, find_lesson, update_table

    workspace = Workspace.current()
    lessons = [find_lesson(lesson)] if lesson else workspace.opened_lessons()
    if not lessons:
        raise CourseError(
            f"there is no lesson in {workspace.root} yet; open one with `course lab 1`"
        )
    # All plans before the first write: a damaged notebook stops the update as a whole.
    progress = track(lessons, "Comparing releases", console=console, transient=True)
    plans = [workspace.plan_update(each) for each in progress]
    console.print(update_table(plans))
    if dry_run:
        console.print("Nothing was written: this was a dry run.")
        return
    for plan in plans:
        backup = workspace.apply_update(plan)
        if backup is not None:
            console.print(f"{plan.lesson.name}: your old notebook is {backup}", soft_wrap=True)
    if any(plan.changes_notebook for plan in plans):
        console.print("In JupyterLab, use File > Reload Notebook from Disk if a lesson is open.")

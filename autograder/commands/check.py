"""``course check``: running all checks of a notebook."""

from __future__ import annotations

from typing import Annotated

import typer

from autograder.commands.console import console
from autograder.errors import CourseError

EXAMPLE = "course check 1"


def check(
    notebook: Annotated[
        str, typer.Argument(help="Number or name of a lesson in your workspace, or a notebook.")
    ],
    timeout: Annotated[int, typer.Option(min=1, help="Seconds that one cell may take.")] = 120,
) -> None:
    """Run all checks of a notebook. It is run in a copy and not changed."""
    from rich.progress import Progress

    from autograder.project.checks import RubricCheck
    from autograder.workspace.copies import notebook_called
    from autograder.workspace.notebook_check import (
        check_notebook,
        points_by_hand,
        results_table,
    )

    path = notebook_called(notebook)
    with Progress(console=console, transient=True) as progress:
        task = progress.add_task("Running the notebook", total=None)
        results = check_notebook(
            path,
            timeout,
            on_cell=lambda index, total: progress.update(task, completed=index, total=total),
        )
    for result in results:
        if not result.passed or isinstance(result.exercise.check, RubricCheck):
            console.print(result.report, highlight=False, markup=False, soft_wrap=True)
            console.print()
    console.print(results_table(path.name, results, points_by_hand(path)))
    if not all(result.passed for result in results):
        open_checks = sum(not result.passed for result in results)
        raise CourseError(f"{open_checks} of {len(results)} checks do not pass yet; see above")

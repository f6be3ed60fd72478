"""``course check``: running all checks of a notebook."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from autograder.commands.console import console
from autograder.errors import CourseError

EXAMPLE = (
    "course check "
    "workspace/01_traditional_attention_problems/01_traditional_attention_problems.ipynb"
)


def check(
    notebook: Annotated[Path, typer.Argument(help="A lesson's notebook in your workspace.")],
    timeout: Annotated[int, typer.Option(min=1, help="Seconds that one cell may take.")] = 120,
) -> None:
    """Run all checks of a notebook. It is run in a copy and not changed."""
    from rich.progress import Progress

    from autograder.workspace.notebook_check import (
        check_notebook,
        points_by_hand,
        results_table,
    )

    with Progress(console=console, transient=True) as progress:
        task = progress.add_task("Running the notebook", total=None)
        results = check_notebook(
            notebook,
            timeout,
            on_cell=lambda index, total: progress.update(task, completed=index, total=total),
        )
    for result in results:
        if not result.passed:
            console.print(result.report, highlight=False, markup=False, soft_wrap=True)
            console.print()
    console.print(results_table(notebook.name, results, points_by_hand(notebook)))
    if not all(result.passed for result in results):
        open_checks = sum(not result.passed for result in results)
        raise CourseError(f"{open_checks} of {len(results)} checks do not pass yet; see above")

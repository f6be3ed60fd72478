"""``course bench``: measuring how fast the library is."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Optional

import typer

from autograder.commands.console import console

EXAMPLE = "course bench core --json core.json"


def bench(
    suite: Annotated[
        str,
        typer.Argument(help="core, kernels, simulator, engine, uniform, figures, grading or soak."),
    ] = "core",
    json_file: Annotated[
        Optional[Path],  # noqa: UP045 - Typer reads this at run time
        typer.Option("--json", metavar="FILE", help="Write the figures to this file too."),
    ] = None,
    minutes: Annotated[
        Optional[float],  # noqa: UP045 - Typer reads this at run time
        typer.Option(min=0, help="How long soak goes on; 20 if it is not said."),
    ] = None,
    seed: Annotated[
        Optional[int],  # noqa: UP045 - Typer reads this at run time
        typer.Option(help="Where soak's random numbers start; a new one if it is not said."),
    ] = None,
) -> None:
    """Measure how fast the library is on this machine, beside a baseline, and beside vLLM.

    soak does not measure: it has random clients ask engine and server until its time is over, or
    until Ctrl-C, and looks for wrong answers and leaks. It exits with 1 if there are any.
    """
    from rich.progress import Progress

    from autograder.bench.suites import measure, problems_of, write_json

    with Progress(console=console, transient=True) as progress:
        task = progress.add_task("Measuring", total=None)
        report = measure(
            suite,
            on_step=lambda done, total: progress.update(task, completed=done, total=total),
            minutes=minutes,
            seed=seed,
        )
    console.print(report.table())
    if json_file is not None:
        write_json(report, json_file)
        console.print(f"wrote {json_file}", soft_wrap=True, highlight=False)
    if problems_of(report):
        raise typer.Exit(1)

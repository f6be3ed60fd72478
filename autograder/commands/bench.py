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
        typer.Argument(help="What to measure: core, kernels, simulator, engine or figures."),
    ] = "core",
    json_file: Annotated[
        Optional[Path],  # noqa: UP045 - Typer reads this at run time
        typer.Option("--json", metavar="FILE", help="Write the figures to this file too."),
    ] = None,
) -> None:
    """Measure how fast the library is on this machine, beside a baseline, and beside vLLM."""
    from rich.progress import Progress

    from autograder.bench.suites import measure, write_json

    with Progress(console=console, transient=True) as progress:
        task = progress.add_task("Measuring", total=None)
        report = measure(
            suite, on_step=lambda done, total: progress.update(task, completed=done, total=total)
        )
    console.print(report.table())
    if json_file is not None:
        write_json(report, json_file)
        console.print(f"wrote {json_file}", soft_wrap=True, highlight=False)

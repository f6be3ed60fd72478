"""``course build``: writing lessons/ from solutions/."""

from __future__ import annotations

from typing import Annotated, Optional

import typer
from rich.progress import track

from autograder.commands.console import console
from autograder.errors import CourseError

EXAMPLE = "course build 01_traditional_attention_problems"


def build(
    lessons: Annotated[
        Optional[list[str]],  # noqa: UP045 - Typer reads this at run time
        typer.Argument(help="Names of lessons; all if none."),
    ] = None,
    check_only: Annotated[
        bool, typer.Option("--check", help="Write nothing; fail if lessons/ is out of date.")
    ] = False,
) -> None:
    """Write lessons/ from solutions/, through nbgrader (for maintainers)."""
    from autograder.build import notebooks as building

    if check_only:
        problems = building.stale()
        if problems:
            raise CourseError("; ".join(problems))
        console.print("lessons/ is what solutions/ builds.")
        return
    chosen = building.chosen_sources(lessons)
    for source in track(chosen, description="Building", console=console, transient=True):
        console.print(f"wrote {building.build(source)}", soft_wrap=True, highlight=False)

"""``course build``: writing lessons/ from solutions/."""

from __future__ import annotations

from functools import partial
from typing import Annotated, Optional

import typer
from rich.progress import track

from autograder.commands.console import console
from autograder.errors import CourseError

EXAMPLE = "course build 1"


def build(
    lessons: Annotated[
        Optional[list[str]],  # noqa: UP045 - Typer reads this at run time
        typer.Argument(help="Numbers or names of lessons; all if none."),
    ] = None,
    check_only: Annotated[
        bool, typer.Option("--check", help="Write nothing; fail if lessons/ is out of date.")
    ] = False,
) -> None:
    """Write lessons/ from solutions/, through nbgrader (for maintainers)."""
    from autograder.build import notebooks as building
    from autograder.build.parallel import each_source

    chosen = building.chosen_sources(lessons)
    show = partial(track, total=len(chosen), console=console, transient=True)
    if check_only:
        found = show(each_source(building.staleness, chosen), "Comparing")
        problems = [line for line in found if line]
        problems += [] if lessons else building.without_source()
        if problems:
            raise CourseError("; ".join(problems))
        names = ", ".join(source.stem for source in chosen) if lessons else "lessons/"
        console.print(f"{names}: what solutions/ builds.", soft_wrap=True, highlight=False)
        return
    for path in show(each_source(building.build, chosen), "Building"):
        console.print(f"wrote {path}", soft_wrap=True, highlight=False)

"""``course journal``: writing down how a lesson went."""

from __future__ import annotations

from typing import Annotated, Optional

import typer

from autograder.commands.console import console
from autograder.errors import CourseError

EXAMPLE = 'course journal 7 --confidence 4 --hours 3.5 --hard "who owns a shared block"'


def journal(
    lesson: Annotated[int, typer.Argument(help="Number of the lesson.")],
    confidence: Annotated[
        Optional[int],  # noqa: UP045 - Typer reads this at run time
        typer.Option(help="How sure you are of it, from 1 to 5."),
    ] = None,
    hours: Annotated[
        Optional[float],  # noqa: UP045
        typer.Option(help="How many hours it took."),
    ] = None,
    hard: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option(help="What was hard."),
    ] = None,
    goal: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option(help="What you want to do next."),
    ] = None,
) -> None:
    """Write down how a lesson went; kept with your progress, and for your eyes only."""
    from autograder import lessons
    from autograder.paths import workspace_root
    from autograder.workspace import records

    given = {"confidence": confidence, "hours": hours, "hard": hard, "goal": goal}
    entry = {name: value for name, value in given.items() if value is not None}
    lessons.exercises(lesson)
    if entry:
        records.note_journal(workspace_root(), lesson, entry)
    written = records.journal(workspace_root()).get(str(lesson))
    if not written:
        raise CourseError(
            f"nothing is written of lesson {lesson} yet; write something, as in "
            f"`course journal {lesson} --confidence 4 --hours 3.5`"
        )
    for name in filter(written.get, records.JOURNAL_FIELDS):
        console.print(f"{name}: {written[name]}", markup=False, highlight=False, soft_wrap=True)

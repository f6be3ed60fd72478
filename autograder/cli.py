"""The command line: ``course``. Each command says what to do and prints; the work is elsewhere.

Imports of the work stand inside the commands, so that ``course --help`` is quick and
``course doctor`` runs where a package is missing.
"""

from __future__ import annotations

import sys
from typing import Annotated, Optional

import typer
from rich.console import Console

from autograder.errors import CourseError

app = typer.Typer(
    help="Serving from Scratch: work on the lessons, and check what this machine has.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
)
console = Console()

INTERRUPTED = 130
"""The exit code of a program that Ctrl-C ended: 128 + SIGINT."""


def main() -> None:
    """Run the command line. An error is one line on stderr, without a traceback."""
    try:
        app(prog_name="course")
    except CourseError as error:
        _fail(str(error), code=1)
    except OSError as error:
        name = f"{error.filename}: " if error.filename else ""
        _fail(f"{name}{error.strerror or error}; put that right and run the command again", code=1)
    except KeyboardInterrupt:
        _fail("interrupted; nothing is half written, run the command again", code=INTERRUPTED)
    except SystemExit as stop:
        # Typer turns Ctrl-C into a silent exit.
        if stop.code == INTERRUPTED:
            _fail("interrupted; nothing is half written, run the command again", code=INTERRUPTED)
        raise


def _fail(message: str, code: int) -> None:
    """Print the message on one line of stderr and exit."""
    line = " ".join(message.split())
    Console(stderr=True).print(f"course: {line}", markup=False, highlight=False, soft_wrap=True)
    sys.exit(code)


@app.callback()
def course() -> None:
    """Serving from Scratch: work on the lessons, and check what this machine has."""


@app.command(epilog="Example: [bold]course lab 1 --port 8899[/bold]")
def lab(
    lesson: Annotated[
        str, typer.Argument(help="Number or name of the lesson; its copy in your workspace opens.")
    ] = "1",
    port: Annotated[int, typer.Option(min=1, max=65_535, help="Port on this machine.")] = 8888,
    browser: Annotated[bool, typer.Option(help="Open a browser.")] = True,
    instructor: Annotated[
        bool, typer.Option("--instructor", help="Open the checkout, with formgrader.")
    ] = False,
) -> None:
    """Open a lesson in JupyterLab. Ctrl-C stops it."""
    from autograder.lab import instructor_server, learner_server

    server = (
        instructor_server(port, browser) if instructor else learner_server(lesson, port, browser)
    )
    server.run()


@app.command(epilog="Example: [bold]course update 1 --dry-run[/bold]")
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
    from autograder.workspace import Workspace, find_lesson, update_table

    workspace = Workspace.current()
    lessons = [find_lesson(lesson)] if lesson else workspace.opened_lessons()
    if not lessons:
        raise CourseError(
            f"there is no lesson in {workspace.root} yet; open one with `course lab 1`"
        )
    # All plans before the first write: a damaged notebook stops the update as a whole.
    plans = [workspace.plan_update(each) for each in lessons]
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


@app.command(epilog="Example: [bold]course doctor[/bold]")
def doctor() -> None:
    """Say what this machine has of what the course needs, and what to do about the rest."""
    from autograder.doctor import Status, examine, findings_table

    with console.status("Looking at this machine (importing torch takes a few seconds)"):
        findings = list(examine())
    console.print(findings_table(findings))
    missing = [finding.subject for finding in findings if finding.status is Status.MISSING]
    if missing:
        raise CourseError(f"missing: {', '.join(missing)}; the last column says what to do")
    console.print("Everything that the course needs is here.")

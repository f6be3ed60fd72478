"""The command line: ``course``. It puts the commands together; an error is one line on stderr."""

from __future__ import annotations

import sys
from types import ModuleType

import typer
from rich.console import Console

from autograder.commands import (
    autograde,
    bench,
    build,
    check,
    collect,
    doctor,
    generate,
    grade,
    journal,
    lab,
    progress,
    report,
    samples,
    serve,
    simulate,
    trace,
    update,
)
from autograder.errors import CourseError

COMMANDS: tuple[ModuleType, ...] = (
    lab,
    update,
    doctor,
    build,
    check,
    progress,
    journal,
    samples,
    collect,
    autograde,
    grade,
    report,
    bench,
    simulate,
    generate,
    trace,
    serve,
)
"""In the order in which ``course --help`` lists them."""

app = typer.Typer(
    help="Serving from Scratch: work on the lessons, and check what this machine has.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    context_settings={"help_option_names": ["-h", "--help"]},
)

INTERRUPTED = 130
"""The exit code of a program that Ctrl-C ended: 128 + SIGINT."""


@app.callback()
def course() -> None:
    """Serving from Scratch: work on the lessons, and check what this machine has."""


for module in COMMANDS:
    name = module.__name__.rpartition(".")[2]
    app.command(name, epilog=f"Example: [bold]{module.EXAMPLE}[/bold]")(getattr(module, name))


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

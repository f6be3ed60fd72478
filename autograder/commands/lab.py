"""``course lab``: opening a lesson in JupyterLab."""

from __future__ import annotations

from typing import Annotated, Optional

import typer

from autograder.commands.console import console

EXAMPLE = "course lab 1 --port 8899"


def lab(
    lesson: Annotated[
        Optional[str],  # noqa: UP045 - Typer reads this at run time
        typer.Argument(help="Number or name of the lesson, the first if none; your copy opens."),
    ] = None,
    port: Annotated[int, typer.Option(min=1, max=65_535, help="Port on this machine.")] = 8888,
    browser: Annotated[bool, typer.Option(help="Open a browser.")] = True,
    instructor: Annotated[
        bool, typer.Option("--instructor", help="Open the checkout, with formgrader.")
    ] = False,
) -> None:
    """Open a lesson in JupyterLab; for a newcomer, the guide. Ctrl-C stops it."""
    from autograder.workspace.lab import instructor_server, learner_server, require_free_port

    server = (
        instructor_server(port, browser) if instructor else learner_server(lesson, port, browser)
    )
    require_free_port(port)
    console.print(f"JupyterLab starts on {server.root_dir}; Ctrl-C stops it.", soft_wrap=True)
    server.run()

"""``course progress``: how far one has come, what to revisit, and a page of what was built."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Optional

import typer

from autograder.commands.console import console
from autograder.errors import CourseError

if TYPE_CHECKING:
    from autograder.workspace.progress import Progress

EXAMPLE = 'course progress --certificate certificate.html --name "Ada Lovelace"'


def progress(
    export: Annotated[
        Optional[Path],  # noqa: UP045 - Typer reads this at run time
        typer.Option(help="Write everything to this file, as JSON, the journal included."),
    ] = None,
    certificate: Annotated[
        Optional[Path],  # noqa: UP045
        typer.Option(
            metavar="FILE.html",
            help="Measure your engine, and write a page of what you built and what it does.",
        ),
    ] = None,
    name: Annotated[str, typer.Option(help="Whose certificate it is; nobody's by default.")] = "",
    with_journal: Annotated[
        bool, typer.Option("--with-journal", help="Put the journal on the certificate.")
    ] = False,
) -> None:
    """Say what has passed, what is left, and what to revisit. Nothing leaves this machine."""
    import json

    from autograder.files import write_atomically
    from autograder.paths import workspace_root
    from autograder.workspace.progress import progress_of, progress_table

    _require_certificate(certificate, name, with_journal)
    found = progress_of(workspace_root())
    console.print(progress_table(found))
    if export is not None:
        text = json.dumps(found.as_data(), indent=1, ensure_ascii=False) + "\n"
        write_atomically(export, text.encode())
        console.print(f"wrote {export}", soft_wrap=True, highlight=False)
    if certificate is not None:
        write_atomically(certificate, _page(found, name, with_journal).encode())
        console.print(f"wrote {certificate}", soft_wrap=True, highlight=False)


def _require_certificate(certificate: Path | None, name: str, with_journal: bool) -> None:
    """Refuse options that mean nothing, before anything is measured."""
    if certificate is None and (name or with_journal):
        raise CourseError("--name and --with-journal are for a --certificate; add one")
    if certificate is not None and certificate.suffix.lower() not in (".html", ".htm"):
        raise CourseError(
            f"--certificate {certificate} is a web page; give it a name that ends in .html"
        )
    if certificate is not None and certificate.is_dir():
        raise CourseError(f"--certificate {certificate} is a folder; give the name of a file")


def _page(found: Progress, name: str, with_journal: bool) -> str:
    """Measure the engine under a bar, and return the certificate."""
    from rich.progress import Progress as Bar

    from autograder.workspace.certificate import certificate
    from autograder.workspace.measurements import measurements
    from course_lib import parts

    with Bar(console=console, transient=True) as bar:
        task = bar.add_task("Measuring your engine", total=None)
        measured = measurements(lambda done, total: bar.update(task, completed=done, total=total))
    return certificate(found, parts.table(), measured, name, with_journal)

"""``course progress``: how far one has come, and what to revisit."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Optional

import typer

from autograder.commands.console import console

EXAMPLE = "course progress --export progress.json"


def progress(
    export: Annotated[
        Optional[Path],  # noqa: UP045 - Typer reads this at run time
        typer.Option(help="Write everything to this file, as JSON, the journal included."),
    ] = None,
) -> None:
    """Say what has passed, what is left, and what to revisit. Nothing leaves this machine."""
    import json

    from autograder.files import write_atomically
    from autograder.paths import workspace_root
    from autograder.workspace.progress import progress_of, progress_table

    found = progress_of(workspace_root())
    console.print(progress_table(found))
    if export is not None:
        text = json.dumps(found.as_data(), indent=1, ensure_ascii=False) + "\n"
        write_atomically(export, text.encode())
        console.print(f"wrote {export}", soft_wrap=True, highlight=False)

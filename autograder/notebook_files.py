"""Notebooks as files: reading them, which may be damaged, and what is written of them.

No lesson imports this: to import ``nbformat`` takes time, and a lesson reads no notebooks.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import nbformat
from nbformat import NotebookNode

from autograder.errors import CourseError
from autograder.files import read_bytes

_LONGEST_REASON = 160
"""Characters of a validator's message that are shown: it may quote a whole notebook."""

_MISPLACED = {
    "code": ("attachments",),
    "markdown": ("outputs", "execution_count"),
    "raw": ("outputs", "execution_count"),
}
"""What a cell of a type cannot have: a picture, or what came of running it."""


def parse_notebook(raw: bytes, path: Path, remedy: str) -> NotebookNode:
    """Parse and validate a notebook of format 4. Every cell of the result has an id of its own.

    Tools older than format 4.5 drop the cell ids, and a copy made by hand may double them. Such
    cells get new ids here, the same ones each time.

    Args:
        raw: What is in the file.
        path: Where it came from, for messages.
        remedy: What the user can do when it is not a notebook.

    Raises:
        CourseError: It is not JSON, not format 4, or breaks the format.
    """
    try:
        document = json.loads(raw)
    except (ValueError, RecursionError) as error:
        raise CourseError(f"{path} is not JSON ({_reason(error)}); {remedy}") from error
    if (
        not isinstance(document, dict)
        or document.get("nbformat") != 4
        or not isinstance(document.get("cells"), list)
    ):
        raise CourseError(f"{path} is not a notebook of format 4; {remedy}")
    try:
        _put_cells_right(document)
        nbformat.validate(document)
        notebook: NotebookNode = nbformat.v4.to_notebook(document)
        unix_lines(notebook)
    except (nbformat.ValidationError, AttributeError, TypeError, RecursionError) as error:
        raise CourseError(
            f"{path} breaks the notebook format ({_reason(error)}); {remedy}"
        ) from error
    return notebook


def unix_lines(notebook: NotebookNode) -> None:
    r"""End all cells' lines with ``\n``: an editor that writes ``\r\n`` has edited nothing."""
    for cell in notebook.cells:
        cell.source = cell.source.replace("\r\n", "\n").replace("\r", "\n")


def read_notebook(path: Path, remedy: str) -> NotebookNode:
    """Read and validate the notebook in a file: ``read_bytes``, then ``parse_notebook``."""
    return parse_notebook(read_bytes(path, remedy), path, remedy)


def notebook_bytes(notebook: NotebookNode) -> bytes:
    """Return the file that holds the notebook.

    Raises:
        CourseError: The notebook breaks the format, or its text cannot be encoded.
    """
    try:
        nbformat.validate(notebook)
        text: str = nbformat.v4.writes(notebook)
        return (text + "\n").encode()
    except (nbformat.ValidationError, UnicodeEncodeError) as error:
        raise CourseError(
            f"the notebook cannot be written ({_reason(error)}); "
            "save it anew in JupyterLab and try again"
        ) from error


def _put_cells_right(document: dict[str, Any]) -> None:
    """Make the cell ids of a raw notebook present and unique, and say format 4.5 at least.

    What only a cell of another type may have goes: tools leave it when they change a type.
    """
    seen: set[str] = set()
    for position, cell in enumerate(document["cells"]):
        cell_id = cell.get("id")
        while not isinstance(cell_id, str) or cell_id in seen:
            told_apart = json.dumps([position, cell_id, cell.get("source")])
            cell_id = hashlib.sha256(told_apart.encode()).hexdigest()[:12]
        seen.add(cell_id)
        cell["id"] = cell_id
        for key in _MISPLACED.get(cell.get("cell_type"), ()):
            cell.pop(key, None)
    document["nbformat_minor"] = max(5, document.get("nbformat_minor", 0))


def _reason(error: Exception) -> str:
    """Return the first words of what went wrong, on one line."""
    text = " ".join(getattr(error, "message", str(error)).split())
    return text if len(text) <= _LONGEST_REASON else text[:_LONGEST_REASON] + "..."

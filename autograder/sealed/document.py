"""From the bytes of a notebook to its cells, of which only what a person writes is kept."""

from __future__ import annotations

import json
import re
from typing import Any

from nbformat import NotebookNode

from autograder.sealed.quarantine import RefusedError

MAX_VALUES = 4_000_000
"""Values in the JSON of a notebook; each takes up to 250 bytes of memory when it is read."""

MAX_CELLS = 2_000
MAX_SOURCE = 2**20
"""Characters of one cell."""

MAX_ATTACHMENTS = 20 * 2**20
"""Characters of the pictures in the texts of one notebook."""

_HALF = re.compile("[\ud800-\udfff]")
"""Half a character, as an editor may leave of one that it has cut in two. No file can hold it."""

_ASK = "ask for it as JupyterLab saves it"
_TYPES = ("code", "markdown", "raw")


def read_cells(raw: bytes) -> list[NotebookNode]:
    r"""Return the cells of a notebook: type, text, pictures, id and grade id, and nothing else.

    Metadata, tags, outputs and widgets are not kept. A byte-order mark, UTF-16 and lines that end
    in ``\r\n`` are as good as any; in the place of half a character stands U+FFFD.

    Args:
        raw: What is in the file.

    Raises:
        RefusedError: It is not JSON, no notebook of format 4, or larger than the caps.

    >>> read_cells(b'{"nbformat": 4, "cells": [{"cell_type": "code", "source": ["a\\r\\n", "b"]}]}')
    [{'cell_type': 'code', 'id': 'submitted-0', 'metadata': {}, 'source': 'a\nb'}]
    """
    document = _parsed(raw)
    cells = document.get("cells") if isinstance(document, dict) else None
    version = document.get("nbformat") if isinstance(document, dict) else None
    if type(version) is not int or version != 4 or not isinstance(cells, list):
        found = f"format {version}" if type(version) is int else "none"
        raise RefusedError(f"it is no notebook of format 4 (it is {found}); {_ASK}")
    if len(cells) > MAX_CELLS:
        raise RefusedError(f"it has {len(cells)} cells, and {MAX_CELLS} are the limit; {_ASK}")
    kept = [_cell(cell, position) for position, cell in enumerate(cells)]
    pictures = sum(len(json.dumps(cell.get("attachments", {}))) for cell in kept)
    if pictures > MAX_ATTACHMENTS:
        raise RefusedError(
            f"its texts hold pictures of {pictures} characters, and {MAX_ATTACHMENTS} are the "
            "limit; ask for smaller ones"
        )
    _tell_apart(kept)
    return kept


def _parsed(raw: bytes) -> Any:
    # Counted before anything is made of them: a few bytes of JSON become an object each.
    values = sum(raw.count(mark) for mark in (b",", b"[", b"{"))
    if values > MAX_VALUES:
        raise RefusedError(
            f"it holds more than {MAX_VALUES} values; ask for it with its outputs cleared"
        )
    if not raw.strip():
        raise RefusedError(f"the file is empty; {_ASK}")
    try:
        return json.loads(raw)
    except UnicodeDecodeError as error:
        raise RefusedError(f"it is not text in UTF-8 or UTF-16; {_ASK}") from error
    except RecursionError as error:
        raise RefusedError(f"its JSON nests too deep; {_ASK}") from error
    except ValueError as error:
        raise RefusedError(f"it is not JSON ({str(error)[:100]}); {_ASK}") from error


def _cell(cell: Any, position: int) -> NotebookNode:
    """Return what is kept of one cell."""
    if not isinstance(cell, dict) or cell.get("cell_type") not in _TYPES:
        raise RefusedError(f"cell {position} is neither code nor text; {_ASK}")
    name = _grade_id(cell.get("metadata"))
    kept = NotebookNode(
        cell_type=cell["cell_type"],
        id=cell.get("id"),
        metadata=NotebookNode(nbgrader=NotebookNode(grade_id=name))
        if name is not None
        else NotebookNode(),
        source=_source(cell.get("source", ""), position),
    )
    if cell["cell_type"] == "markdown" and _are_pictures(cell.get("attachments")):
        kept.attachments = cell["attachments"]
    return kept


def _source(source: Any, position: int) -> str:
    if isinstance(source, list) and all(isinstance(line, str) for line in source):
        source = "".join(source)
    if not isinstance(source, str):
        raise RefusedError(f"cell {position} has no text; {_ASK}")
    if len(source) > MAX_SOURCE:
        raise RefusedError(
            f"cell {position} has {len(source)} characters, and {MAX_SOURCE} are the limit; "
            "ask for it without the data that was pasted there"
        )
    return _HALF.sub("\ufffd", source.replace("\r\n", "\n").replace("\r", "\n"))


def _grade_id(metadata: Any) -> str | None:
    roles = metadata.get("nbgrader") if isinstance(metadata, dict) else None
    name = roles.get("grade_id") if isinstance(roles, dict) else None
    return name if isinstance(name, str) else None


def _are_pictures(attachments: Any) -> bool:
    """Say whether attachments are what a notebook may hold: data by type, by name."""
    return isinstance(attachments, dict) and all(
        isinstance(by_type, dict)
        and all(isinstance(data, str) for data in by_type.values())
        and not any(map(_HALF.search, (name, *by_type, *by_type.values())))
        for name, by_type in attachments.items()
    )


def _tell_apart(cells: list[NotebookNode]) -> None:
    """Give a cell that has no id, or another one's, an id of its own."""
    seen: set[str] = set()
    for position, cell in enumerate(cells):
        if not isinstance(cell.id, str) or cell.id in seen:
            cell.id = f"submitted-{position}"
            while cell.id in seen:
                cell.id += "-again"
        seen.add(cell.id)

"""Which cell of one notebook is which of another: a release and what a learner made of it."""

from __future__ import annotations

import json
from collections import defaultdict, deque
from collections.abc import Callable, Hashable, Mapping, Sequence
from typing import Any

from nbformat import NotebookNode

from autograder.build.holes import STUB
from autograder.scopes import names_bound

MERGED_CELL_PREFIX = "course-update-"
"""Ids of cells that a merge adds start with this; releases do not use it."""


def match_cells(cells: Sequence[NotebookNode], others: Sequence[NotebookNode]) -> dict[int, int]:
    """Find each cell's counterpart: the cell with its id, else its grade id, else its text.

    The later rules are for notebooks whose ids a tool has replaced.

    Returns:
        Position in ``cells`` -> position in ``others``; both sides at most once.
    """
    pairs: dict[int, int] = {}
    rules: tuple[Callable[[NotebookNode], Hashable], ...] = (_id, grade_id, _text)
    for key in rules:
        taken = set(pairs.values())
        free: defaultdict[Hashable, deque[int]] = defaultdict(deque)
        for position, other in enumerate(others):
            if position not in taken and key(other) is not None:
                free[key(other)].append(position)
        for position, cell in enumerate(cells):
            if position not in pairs and free[key(cell)]:
                pairs[position] = free[key(cell)].popleft()
    return pairs


def find_answers(
    released: Sequence[NotebookNode],
    written: Sequence[NotebookNode],
    pairs: Mapping[int, int],
    spoken_for: frozenset[int] = frozenset(),
) -> dict[int, int]:
    """Find the answers in a notebook whose cells have lost their ids and their metadata.

    A cell goes on from the stub that it was: it has most of the stub's lines, or defines all that
    the stub defines. Of a written text nothing is left of what was released; it is the text that
    stands where the answer belongs, between the same neighbours.

    Args:
        released: The cells of a release.
        written: What a learner made of them.
        pairs: The counterparts that are known: position in ``released`` -> in ``written``.
        spoken_for: Positions in ``written`` that are known to be something else.

    Returns:
        ``pairs`` and what was found.
    """
    found = dict(pairs)
    for position, cell in enumerate(released):
        if position in found or not is_answer(cell):
            continue
        taken = {*found.values(), *spoken_for}
        free = [
            place
            for place, other in enumerate(written)
            if place not in taken and grade_id(other) is None and not _is_merged(other)
        ]
        first, last = _neighbours(position, found, len(written))
        near = [place for place in free if first < place < last]
        places = [place for place in [*near, *free] if _goes_on(cell, written[place])]
        if cell.cell_type == "markdown":
            places += [place for place in near if _is_text(written[place])]
        if places:
            found[position] = places[0]
    return found


def grade_id(cell: NotebookNode) -> str | None:
    """Return the cell's grade id, if nbgrader knows the cell."""
    return nbgrader_metadata(cell).get("grade_id")


def nbgrader_metadata(cell: NotebookNode) -> dict[str, Any]:
    """Return nbgrader's metadata of the cell, empty for a plain cell."""
    metadata = cell.metadata.get("nbgrader")
    return metadata if isinstance(metadata, dict) else {}


def is_answer(cell: NotebookNode) -> bool:
    """Return whether the learner is asked to write into this cell."""
    return bool(nbgrader_metadata(cell).get("solution"))


def is_marked(cell: NotebookNode) -> bool:
    """Return whether a person marks what the learner writes into this cell."""
    return is_answer(cell) and bool(nbgrader_metadata(cell).get("grade"))


def content(cell: NotebookNode) -> tuple[str, str, str]:
    """Return all of the cell that a person writes: its type, its source, its pasted pictures."""
    attachments = json.dumps(cell.get("attachments") or {}, sort_keys=True)
    return cell.cell_type, cell.source.replace("\r\n", "\n"), attachments


def _id(cell: NotebookNode) -> str:
    return str(cell.id)


def _text(cell: NotebookNode) -> Hashable:
    """Return what the cell says; None for a cell that a merge added, which has no counterpart."""
    return None if _is_merged(cell) else content(cell)


def _is_merged(cell: NotebookNode) -> bool:
    return _id(cell).startswith(MERGED_CELL_PREFIX)


def _is_text(cell: NotebookNode) -> bool:
    return cell.cell_type != "code" and bool(cell.source.strip())


def _neighbours(position: int, pairs: Mapping[int, int], length: int) -> tuple[int, int]:
    """Return between which places a released cell is to be looked for, given the known ones."""
    if not pairs:
        return (0, 0)
    before = max((known for known in pairs if known < position), default=None)
    after = min((known for known in pairs if known > position), default=None)
    return (
        -1 if before is None else pairs[before],
        length if after is None else pairs[after],
    )


def _goes_on(stub: NotebookNode, cell: NotebookNode) -> bool:
    """Return whether a cell goes on from a stub."""
    asked = [line for line in _lines(stub) if line != STUB]
    kept = set(_lines(cell))
    if asked and 2 * sum(line in kept for line in asked) > len(asked):
        return True
    defined = defines(stub)
    return bool(defined) and defined <= defines(cell)


def _lines(cell: NotebookNode) -> list[str]:
    return [line.strip() for line in cell.source.splitlines() if line.strip()]


def defines(cell: NotebookNode) -> set[str]:
    """Return the names that the text defines, if it is Python, whatever the type of its cell."""
    try:
        return names_bound(cell.source)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        # MemoryError is how the parser says that a text nests too deep.
        return set()

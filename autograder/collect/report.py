"""What is said of a download: which file went where, and why."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import PurePosixPath

from rich.markup import escape
from rich.table import Column, Table

from autograder.collect.collecting import PROBLEMS, Outcome, Piece


def pieces_table(pieces: Sequence[Piece]) -> Table:
    """Return a line for each notebook: what it is called, where it goes, and what is odd."""
    table = Table(Column("file", overflow="fold"), title="What went where")
    table.add_column("student", overflow="fold")
    table.add_column("lesson", overflow="fold")
    table.add_column("what becomes of it", overflow="fold")
    for piece in sorted(pieces, key=lambda each: (each.student, each.lesson)):
        if piece.outcome is Outcome.ASIDE:
            continue
        said = ": ".join(each for each in (str(piece.outcome), "; ".join(piece.notes)) if each)
        style = "red" if piece.outcome in PROBLEMS else None
        cells = map(escape, (piece.download, piece.student, piece.lesson, said))
        table.add_row(*cells, style=style)
    return table


def left_aside(pieces: Sequence[Piece]) -> str:
    """Say in one line which kinds of files are no notebooks; "" if there are none."""
    kinds = Counter(
        PurePosixPath(each.download).suffix.lower() or "without a suffix"
        for each in pieces
        if each.outcome is Outcome.ASIDE
    )
    listed = ", ".join(f"{number} {kind}" for kind, number in kinds.most_common())
    return f"Left aside, for they are no notebooks: {listed}." if listed else ""

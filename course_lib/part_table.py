"""A table of parts and whose they are, lesson by lesson: it prints, and a notebook shows it."""

from __future__ import annotations

import html
import textwrap
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Literal, overload

from course_lib.catalogue import lesson_name

State = Literal["yours", "reference", "broken"]

_SHORT = 16
"""A table of at most so many parts is written out in full."""

_COLUMNS = ("part", "in use", "note")


@dataclass(frozen=True)
class PartStatus:
    """Whose version of a part is in use, and why.

    Attributes:
        name: The part.
        lesson: The lesson that builds it.
        node: Its box in the engine map.
        state: ``yours``, ``reference``, or ``broken`` (yours exists but does not load, so the
            reference is used).
        note: What there is to say about it, in one line.
    """

    name: str
    lesson: int
    node: str
    state: State
    note: str


class PartTable(Sequence[PartStatus]):
    """The state of parts, in the order of the lessons.

    It prints as a table, in a notebook as an HTML one. In a long table, a lesson of which nothing
    is the learner's is folded: its parts are only named, and in a notebook it can be unfolded.

    Args:
        rows: The state of each part.

    >>> PartTable([
    ...     PartStatus("hash_block", 8, "prefix_cache", "reference", "yours to build in lesson 8"),
    ...     PartStatus("BlockPool", 7, "block_pool", "yours", "2 of 3 methods yours"),
    ... ])
    lesson 7: 1 of 1 yours
      BlockPool   yours      2 of 3 methods yours
    lesson 8: 0 of 1 yours
      hash_block  reference  yours to build in lesson 8
    """

    def __init__(self, rows: Sequence[PartStatus]) -> None:
        self._rows = tuple(sorted(rows, key=lambda row: row.lesson))

    @overload
    def __getitem__(self, index: int) -> PartStatus: ...
    @overload
    def __getitem__(self, index: slice) -> tuple[PartStatus, ...]: ...
    def __getitem__(self, index: int | slice) -> PartStatus | tuple[PartStatus, ...]:
        return self._rows[index]

    def __len__(self) -> int:
        return len(self._rows)

    def of(self, names: Collection[str]) -> PartTable:
        """Return the table of these parts alone.

        Args:
            names: Names of parts; those that the table does not have are passed over.
        """
        return PartTable([row for row in self._rows if row.name in names])

    def __repr__(self) -> str:
        width = max((len(row.name) for row in self._rows), default=0)
        lines: list[str] = []
        for lesson, rows in self._by_lesson():
            heading = _heading(lesson, rows)
            if self._is_folded(rows):
                names = f"{heading}: {', '.join(row.name for row in rows)}"
                lines += textwrap.wrap(names, 100, subsequent_indent="  ")
                continue
            lines.append(heading)
            lines += [f"  {r.name:<{width}}  {r.state:<9}  {r.note}".rstrip() for r in rows]
        return "\n".join(lines)

    def _repr_html_(self) -> str:
        return "".join(
            f"<details{'' if self._is_folded(rows) else ' open'}>"
            f"<summary>{_heading(lesson, rows)}</summary>{_html_table(rows)}</details>"
            for lesson, rows in self._by_lesson()
        )

    def _by_lesson(self) -> list[tuple[int, list[PartStatus]]]:
        """Return the rows of each lesson."""
        return [(n, list(rows)) for n, rows in groupby(self._rows, key=lambda row: row.lesson)]

    def _is_folded(self, rows: Sequence[PartStatus]) -> bool:
        """Say whether the parts of a lesson are only named."""
        return len(self._rows) > _SHORT and all(row.state == "reference" for row in rows)


def _heading(lesson: int, rows: Sequence[PartStatus]) -> str:
    """Say how many parts of a lesson are the learner's."""
    num_own, num_broken = (sum(r.state == s for r in rows) for s in ("yours", "broken"))
    broken = f", {num_broken} broken" if num_broken else ""
    return f"{lesson_name(lesson)}: {num_own} of {len(rows)} yours{broken}"


def _html_table(rows: Sequence[PartStatus]) -> str:
    """Return the rows of one lesson as a table."""
    head = "".join(f"<th style='text-align:left'>{column}</th>" for column in _COLUMNS)
    body = "".join(f"<tr>{_cells(row)}</tr>" for row in rows)
    return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"


def _cells(row: PartStatus) -> str:
    values = (row.name, row.state, row.note)
    return "".join(f"<td style='text-align:left'>{html.escape(value)}</td>" for value in values)

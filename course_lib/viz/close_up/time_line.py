"""The whole run as a line of columns: where iterations preempt, cut and admit."""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache

import numpy as np

from course_lib.viz.close_up.run import Run
from course_lib.viz.kit.layout import fitting
from course_lib.viz.kit.shapes import SMALL_SIZE, Line, Rect, Shape, Text

_DOES = {"preempted": "preempts", "cut": "cuts", "admitted": "admits", "passed_over": "skips"}
"""What is marked, and what an iteration does then."""

_STATES = {
    "preempted": "preempted",
    "cut": "prefill",
    "admitted": "running",
    "passed_over": "broken",
}
_ALWAYS = ("preempted", "cut", "admitted")
_ROW, _MARK, _LEAST = 18, 13, 4
_COLUMN = 6  # pixels


def rows_of(run: Run) -> tuple[str, ...]:
    """Return what is marked: what every scheduler does, and what a wrong one does if it does."""
    return tuple(kind for kind in _DOES if kind in _ALWAYS or run.has(kind))


def height_of(run: Run) -> float:
    """Return how high the time line of a run is."""
    return len(rows_of(run)) * _ROW + 22


def draw_time_line(
    run: Run, iteration: int, margin: float, left: float, right: float, top: float
) -> Iterator[Shape]:
    """Draw the run, and a line at the iteration that is open.

    A column is a stretch of iterations. Its mark is the higher, the more of them preempt, cut or
    admit, and stands for the first of those.

    Args:
        run: The run.
        iteration: The iteration that is open.
        margin: Where the names of the rows begin.
        left: Where the line begins.
        right: Where it ends.
        top: Its upper edge.
    """
    yield from _marks(run, margin, left, right, top)
    x = left + (right - left) * (iteration + 0.5) / len(run.glances)
    end = top + len(rows_of(run)) * _ROW
    yield Line(((x, top - 2), (x, end)), thickness=2, key="open")


@lru_cache(maxsize=64)  # it is the same in all frames of a film
def _marks(run: Run, margin: float, left: float, right: float, top: float) -> tuple[Shape, ...]:
    """Draw the rows of marks, with their names, and below them what a column is."""
    num_iterations = len(run.glances)
    columns = min(num_iterations, int((right - left) // _COLUMN))
    edges = np.arange(columns + 1) * num_iterations // columns
    shapes: list[Shape] = []
    for number, kind in enumerate(rows_of(run)):
        does = _DOES[kind]
        base = top + number * _ROW + _MARK + 2
        has = np.array([getattr(each, kind) > 0 for each in run.glances])
        shapes.append(Text(margin, base - 1, does, SMALL_SIZE))
        shapes.append(Line(((left, base), (right, base)), "faint", thickness=1))
        counts = np.add.reduceat(has.astype(int), edges[:-1])
        for column in np.flatnonzero(counts).tolist():
            first, last = int(edges[column]), int(edges[column + 1]) - 1
            count, opens = int(counts[column]), first + int(np.argmax(has[first : last + 1]))
            height = max(_MARK * count / int(counts.max()), _LEAST)
            of_them = f"iterations {first:,} to {last:,}: {count:,} {_verb(does, count)}"
            shapes.append(
                Rect(
                    left + (right - left) * column / columns,
                    base - height,
                    (right - left) / columns - 1,
                    height,
                    _STATES[kind],
                    tooltip=f"{of_them}, the first is {opens:,}",
                    key=f"{kind} {column}",
                    outline="none",
                    of=("iteration", opens),
                )
            )
    return (*shapes, *_below(run, columns, left, right, top + height_of(run) - 7))


def _verb(does: str, count: int) -> str:
    return does if count == 1 else does.removesuffix("s")


def _below(run: Run, columns: int, left: float, right: float, y: float) -> Iterator[Shape]:
    """Write where the line begins and ends, and how much a column is."""
    last = f"iteration {len(run.glances) - 1:,}"
    yield Text(left, y, "0", SMALL_SIZE, tone="muted")
    yield Text(right, y, last, SMALL_SIZE, "end", tone="muted")
    each = round(len(run.glances) / columns)
    said = fitting(
        right - left - 220,
        f"a column is about {each:,} iterations, higher where more of them do so",
        f"a column: about {each:,}",
    )
    if each > 1 and said:
        yield Text((left + right) / 2 - 40, y, said, SMALL_SIZE, "middle", tone="muted")

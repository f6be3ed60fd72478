"""A table of values as colours: the darker, the more."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

from course_lib.viz.kit.charts.axes import Axis
from course_lib.viz.kit.charts.chart import Chart, heading
from course_lib.viz.kit.charts.words import number, quantity
from course_lib.viz.kit.layout import WIDE, bottom_of, fitting, text_width
from course_lib.viz.kit.palette import HEATS
from course_lib.viz.kit.shapes import SMALL_SIZE, TEXT_SIZE, Outline, Rect, Shape, Text

_LOWEST, _TALLEST = 19, 44  # pixels of a row
_STEP = 40.0  # pixels of a step in the legend, where there is room


def heat_map(
    title: str,
    columns: Sequence[str],
    rows: Sequence[str],
    values: Sequence[Sequence[float]],
    value_axis: Axis,
    column_axis: Axis,
    row_axis: Axis,
    width: float = WIDE,
) -> Chart:
    """Draw a box for each value, its colour one of nine steps, and the numbers if all have room.

    Up to about a thousand boxes are drawn well.

    Args:
        title: What the chart is called.
        columns: Names of the columns, from left to right.
        rows: Names of the rows, from top to bottom.
        values: A row of values for each row; one that is not finite is left blank.
        value_axis: What the values are. A ``LogAxis`` has steps of equal ratios.
        column_axis: What the columns are.
        row_axis: What the rows are.
        width: Extent of the whole chart to the right.

    Raises:
        ValueError: There is not one value for each column and row.

    >>> chart = heat_map("TTFT", ["1", "2"], ["fcfs", "sjf"], [[0.1, 0.9], [0.1, 0.4]],
    ...                  Axis("Mean", "s"), Axis("Rate", "1/s"), Axis("Policy"))
    >>> chart.alt
    'Lowest 0.1 s for fcfs and 1, highest 0.9 s for fcfs and 2.'
    """
    _require_table(columns, rows, values)
    texts, top = heading(title, width)
    top += 36
    left = max(text_width(name, SMALL_SIZE) for name in rows) + 12
    side = (width - 2 - left) / len(columns)
    tall = max(_LOWEST, min(side, _TALLEST))
    rank = _Ranks(values, value_axis)
    shapes: list[Shape] = [*texts, Text(0, top - 14, row_axis.name, SMALL_SIZE, tone="muted")]
    written = _written(values, side)
    for line, (name, row) in enumerate(zip(rows, values, strict=True)):
        y = top + line * tall
        shapes.append(Text(left - 8, y + tall / 2 + 5, name, SMALL_SIZE, "end"))
        for place, (column, value) in enumerate(zip(columns, row, strict=True)):
            said = quantity(value, value_axis.unit) if math.isfinite(value) else "no value"
            tooltip, key = f"{name}, {column}: {said}", f"{title}/{name}/{column}"
            box = Rect(left + place * side, y, side, tall, rank.state(value), "", tooltip, key)
            outline: Outline = "thin" if math.isfinite(value) else "none"
            shapes.append(replace(box, label=written[line][place], outline=outline))
    bottom = top + len(rows) * tall
    shapes += _column_names(columns, left, side, bottom)
    middle = (left + width) / 2
    shapes.append(Text(middle, bottom + 44, column_axis.name, TEXT_SIZE, "middle"))
    shapes += rank.legend(bottom + 62, width)
    return Chart(
        width,
        bottom_of(shapes),
        tuple(shapes),
        title,
        _described(columns, rows, values, value_axis),
        Axis("Column", low=0, high=len(columns)).scale([], left, width - 2),
        Axis("Row", low=0, high=len(rows)).scale([], top, bottom),
        column_axis,
        row_axis,
    )


def _require_table(
    columns: Sequence[str], rows: Sequence[str], values: Sequence[Sequence[float]]
) -> None:
    """Raise ValueError unless there is one value for each column and row."""
    if not rows or not columns or {len(row) for row in values} != {len(columns)}:
        raise ValueError("a heat map needs one value for each column and row, and at least one")
    if len(values) != len(rows):
        raise ValueError(f"there are {len(values)} rows of values and {len(rows)} names for them")


def _written(values: Sequence[Sequence[float]], side: float) -> list[list[str]]:
    """Return what is written into the boxes: their values, or nothing if one has no room."""
    written = [[number(value) if math.isfinite(value) else "" for value in row] for row in values]
    if all(fitting(side, each) for row in written for each in row if each):
        return written
    return [[""] * len(row) for row in values]


class _Ranks:
    """Which of the nine steps a value is in."""

    def __init__(self, values: Sequence[Sequence[float]], axis: Axis) -> None:
        self._axis = axis
        self._scale = axis.scale([value for row in values for value in row], 0, _STEP * len(HEATS))

    def state(self, value: float) -> str:
        """Return the step of a value; nothing for one that is not finite."""
        if not math.isfinite(value):
            return ""
        return HEATS[min(max(int(self._scale(value) / _STEP), 0), len(HEATS) - 1)].key

    def legend(self, top: float, width: float) -> tuple[Shape, ...]:
        """Return the nine steps with the round values between which they lie."""
        name = self._axis.name
        left = text_width(name, SMALL_SIZE) + 16
        step = min(_STEP, (width - left - 40) / len(HEATS))
        shapes: list[Shape] = [Text(0, top + 15, name, SMALL_SIZE)]
        for place, heat in enumerate(HEATS):
            shapes.append(Rect(left + place * step, top, step, 20, heat.key))
        for value in self._scale.ticks(4):
            x = left + step * self._scale(value) / _STEP
            shapes.append(Text(x, top + 38, number(value), SMALL_SIZE, "middle"))
        return tuple(shapes)


def _column_names(
    columns: Sequence[str], left: float, side: float, bottom: float
) -> tuple[Shape, ...]:
    """Return the names of the columns, or every second or third where they have no room."""
    widest = max(text_width(name, SMALL_SIZE) for name in columns) + 8
    every = math.ceil(widest / side)
    return tuple(
        Text(left + (place + 0.5) * side, bottom + 20, name, SMALL_SIZE, "middle")
        for place, name in enumerate(columns)
        if place % every == 0
    )


def _described(
    columns: Sequence[str], rows: Sequence[str], values: Sequence[Sequence[float]], axis: Axis
) -> str:
    """Say where the lowest and the highest value are."""
    cells = [
        (value, name, column)
        for name, row in zip(rows, values, strict=True)
        for column, value in zip(columns, row, strict=True)
        if math.isfinite(value)
    ]
    if not cells:
        return "There are no values."
    (low, *low_at), (high, *high_at) = (
        pick(cells, key=lambda cell: cell[0]) for pick in (min, max)
    )
    return (
        f"Lowest {quantity(low, axis.unit)} for {' and '.join(low_at)}, "
        f"highest {quantity(high, axis.unit)} for {' and '.join(high_at)}."
    )

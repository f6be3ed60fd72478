"""Bars: how many values there are of each size, and one value for each name."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from course_lib.viz.kit.charts.axes import AnyScale, Axis
from course_lib.viz.kit.charts.chart import Chart, heading, horizontal_foot, plot_of
from course_lib.viz.kit.charts.words import number, quantity
from course_lib.viz.kit.layout import WIDE, Box, Note, bottom_of, place_labels, text_width, wrapped
from course_lib.viz.kit.shapes import SMALL_SIZE, Line, Rect, Shape, Text

_WIDEST_NAMES = 0.36
"""Share of the width that names beside the bars may take; longer ones stand above the bars."""

_HALF_A_NUMBER = 24  # pixels to the right of an axis


def histogram(
    title: str,
    axis: Axis,
    values: Sequence[float],
    counted: str = "Requests",
    marks: Mapping[str, float] | None = None,
    num_bins: int = 30,
    width: float = WIDE,
    height: float = 200,
    state: str = "series-1",
) -> Chart:
    """Draw how many values lie in each of equal steps; on a ``LogAxis``, of equal ratios.

    Args:
        title: What the chart is called.
        axis: What the values are.
        values: The values; those that are not finite are left out.
        counted: What there is one of for each value.
        marks: Values to point out by a line, such as ``{"p99": 1.2}``.
        num_bins: How many steps.
        width: Extent of the whole chart to the right.
        height: Extent of the plot downwards.
        state: Key of the palette for the bars.

    Raises:
        ValueError: There is no finite value.

    >>> chart = histogram("Gaps", Axis("Gap", "ms"), [10, 11, 12, 40], "Tokens")
    >>> chart.alt
    '4 tokens from 10 ms to 40 ms: half of them at most 11.5 ms, nine of ten at most 31.6 ms.'
    """
    finite = sorted(value for value in values if math.isfinite(value))
    if not finite:
        raise ValueError("a histogram needs at least one finite value")
    marks = marks or {}
    x = axis.scale([*finite, *marks.values()], 0, width)
    edges = [x.value(width * place / num_bins) for place in range(num_bins + 1)]
    counts = [0] * num_bins
    for value in finite:
        counts[min(max(int(x(value) / width * num_bins), 0), num_bins - 1)] += 1
    plot = plot_of(title, axis, Axis(counted), edges, counts, width, height)
    bars = [
        Rect(
            plot.x(low),
            plot.y(count),
            plot.x(high) - plot.x(low),
            plot.y(0) - plot.y(count),
            state,
            tooltip=f"{quantity(low, axis.unit)} to {quantity(high, axis.unit)}: {count:,}",
            key=f"{title}/bin {place}",
        )
        for place, (low, high, count) in enumerate(zip(edges, edges[1:], counts, strict=False))
        if count
    ]
    lines = _marked(title, marks, axis, plot.x, plot.y)
    shapes = (*plot.furniture, *bars, *lines)
    alt = (
        f"{len(finite):,} {counted.lower()} from {quantity(finite[0], axis.unit)} to "
        f"{quantity(finite[-1], axis.unit)}: half of them at most "
        f"{quantity(quantile(finite, 0.5), axis.unit)}, nine of ten at most "
        f"{quantity(quantile(finite, 0.9), axis.unit)}."
    )
    return Chart(width, bottom_of(shapes), shapes, title, alt, plot.x, plot.y, axis, Axis(counted))


def bar_chart(
    title: str,
    axis: Axis,
    values: Mapping[str, float],
    width: float = WIDE,
    states: Mapping[str, str] | None = None,
) -> Chart:
    """Draw a horizontal bar for each name, with its value at the end.

    Args:
        title: What the chart is called.
        axis: What the values are; it begins at 0.
        values: The value of each name, from top to bottom. A value that is not finite has no bar.
        width: Extent of the whole chart to the right.
        states: Key of the palette for some of the names; ``series-1`` for the others.

    Raises:
        ValueError: There are no values.

    >>> bar_chart("TTFT", Axis("Mean", "s"), {"FCFS": 10.8, "SJF": 4.2}).alt
    'FCFS 10.8 s, SJF 4.2 s.'
    """
    if not values:
        raise ValueError("a bar chart needs at least one value")
    bar = 26
    texts, top = heading(title, width)
    numbers = {name: number(value) for name, value in values.items()}
    left = max(text_width(name, SMALL_SIZE) for name in values) + 14
    names_above = left > _WIDEST_NAMES * width
    left = 0 if names_above else left
    room = max(text_width(text, SMALL_SIZE) for text in numbers.values()) + 12
    x = axis.scale(values.values(), left, width - max(room, _HALF_A_NUMBER))
    shapes: list[Shape] = [*texts]
    bottom = top + 10
    for name, value in values.items():
        key, of = f"{title}/{name}", ("series", name)
        if names_above:
            for line in wrapped(name, width, SMALL_SIZE):
                shapes.append(Text(0, bottom + 14, line, SMALL_SIZE, of=of))
                bottom += 22
        else:
            shapes.append(Text(left - 10, bottom + 18.5, name, SMALL_SIZE, "end", of=of))
        y, end = bottom, x(value) if math.isfinite(value) else left
        state = (states or {}).get(name, "series-1")
        tooltip = f"{name}: {quantity(value, axis.unit)}"
        shapes.append(Rect(left, y, end - left, bar, state, "", tooltip, key, of=of))
        shapes.append(Text(end + 8, y + 18.5, numbers[name], SMALL_SIZE, key=f"{key}/value"))
        bottom = y + bar + 14
    shapes += horizontal_foot(x, bottom, axis.name, width)
    alt = ", ".join(f"{name} {quantity(each, axis.unit)}" for name, each in values.items()) + "."
    rows = Axis("Row", low=0, high=max(len(values), 1))
    return Chart(
        width,
        bottom_of(shapes),
        tuple(shapes),
        title,
        alt,
        x,
        rows.scale([], top + 10, bottom),
        axis,
        rows,
    )


def quantile(ordered: Sequence[float], share: float) -> float:
    """Return the value below which a share of the values lies, between neighbours as NumPy does.

    Args:
        ordered: The values, smallest first; at least one.
        share: From 0 to 1.

    >>> quantile([1, 2, 4], 0.75)
    3.0
    """
    place = share * (len(ordered) - 1)
    below = math.floor(place)
    above = min(below + 1, len(ordered) - 1)
    return float(ordered[below] + (ordered[above] - ordered[below]) * (place - below))


def _marked(
    title: str, marks: Mapping[str, float], axis: Axis, x: AnyScale, y: AnyScale
) -> list[Shape]:
    """Return a line across the plot for each mark, and its name where there is room."""
    lines = [
        Line(
            ((x(value), y.start), (x(value), y.end)),
            "text",
            2,
            is_dashed=True,
            key=f"{title}/mark {name}",
        )
        for name, value in marks.items()
    ]
    notes = [
        Note(x(value), y.end + 10, f"{name} {quantity(value, axis.unit)}")
        for name, value in marks.items()
    ]
    taken = [Box(x(value) - 1, y.end, x(value) + 1, y.start) for value in marks.values()]
    return [*lines, *place_labels(notes, Box(x.start, y.end - 8, x.end + 20, y.start), taken)]

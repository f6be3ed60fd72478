"""Distributions side by side: quantiles and the values themselves, one row for each name."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence

from course_lib.viz.kit.charts.axes import AnyScale, Axis
from course_lib.viz.kit.charts.bars import quantile
from course_lib.viz.kit.charts.chart import Chart, heading, horizontal_foot
from course_lib.viz.kit.charts.words import quantity
from course_lib.viz.kit.layout import WIDE, bottom_of, wrapped
from course_lib.viz.kit.shapes import SMALL_SIZE, Line, Rect, Shape, Text

_ROW = 78
_MOST_POINTS = 150
STRIP_KEY = (
    "Box: middle half. Line: from 5% to 95%. Bold: median. Long stroke beyond: 99th percentile."
)
"""What the strokes of a row are."""
_GOLDEN = (math.sqrt(5) - 1) / 2  # its multiples fill a stretch evenly, whatever their number


def strips(
    title: str,
    axis: Axis,
    samples: Mapping[str, Sequence[float]],
    width: float = WIDE,
    state: str = "series-1",
    *,
    states: Mapping[str, str] | None = None,
    is_explained: bool = True,
) -> Chart:
    """Draw for each name where its values lie: half of them in the box, nine of ten on the line.

    The bold stroke is the median, the long one the 99th percentile. Of many values, some are
    drawn, evenly spread from the smallest to the largest.

    Args:
        title: What the chart is called.
        axis: What the values are.
        samples: The values of each name; those that are not finite are left out.
        width: Extent of the whole chart to the right.
        state: Key of the palette.
        states: Keys for some of the names.
        is_explained: Whether it says below what box, line and strokes are; once is enough for
            several charts.

    Raises:
        ValueError: There are no names, or one has no finite value.

    >>> samples = {"FCFS": [1, 2, 3, 4, 90], "SJF": [1, 1, 2, 2, 3]}
    >>> chart = strips("Time to first token", Axis("TTFT", "s"), samples)
    >>> chart.alt.partition(";")[0]
    'FCFS: median 3 s, half from 2 s to 4 s, 99% at most 86.6 s'
    """
    ordered = {
        name: sorted(value for value in values if math.isfinite(value))
        for name, values in samples.items()
    }
    if not ordered or not all(ordered.values()):
        raise ValueError("strips need at least one name, and a finite value for each")
    texts, top = heading(title, width)
    everything = [value for values in ordered.values() for value in values]
    x = axis.scale(everything, 14, width - 24)
    shapes: list[Shape] = [*texts]
    for number, (name, values) in enumerate(ordered.items()):
        y = top + 8 + number * _ROW
        shapes.append(Text(0, y + 15, name, SMALL_SIZE, is_bold=True))
        shapes.append(Text(width - 14, y + 15, _numbers(values, axis), SMALL_SIZE, "end", "muted"))
        shapes += _row(f"{title}/{name}", values, x, y + 22, (states or {}).get(name, state))
    bottom = top + 8 + len(ordered) * _ROW
    shapes += horizontal_foot(x, bottom, axis.name, width)
    for line, words in enumerate(wrapped(STRIP_KEY if is_explained else "", width, SMALL_SIZE)):
        shapes.append(Text(0, bottom + 74 + 21 * line, words, SMALL_SIZE, tone="muted"))
    alt = "; ".join(f"{name}: {_words(values, axis)}" for name, values in ordered.items()) + "."
    rows = Axis("Row", low=0, high=len(ordered))
    y_scale = rows.scale([], top + 8, bottom)
    return Chart(width, bottom_of(shapes), tuple(shapes), title, alt, x, y_scale, axis, rows)


def _numbers(values: Sequence[float], axis: Axis) -> str:
    p50, p99 = (quantity(quantile(values, share), axis.unit) for share in (0.5, 0.99))
    return f"p50 {p50}, p99 {p99}"


def _words(values: Sequence[float], axis: Axis) -> str:
    p25, p50, p75, p99 = (
        quantity(quantile(values, share), axis.unit) for share in (0.25, 0.5, 0.75, 0.99)
    )
    return f"median {p50}, half from {p25} to {p75}, 99% at most {p99}"


def _row(key: str, values: Sequence[float], x: AnyScale, top: float, state: str) -> Iterator[Shape]:
    """Yield the values as points above, and the quantiles as a box with whiskers below."""
    p5, p25, p50, p75, p95, p99 = (
        x(quantile(values, share)) for share in (0.05, 0.25, 0.5, 0.75, 0.95, 0.99)
    )
    count = min(len(values), _MOST_POINTS)
    for number in range(count):
        value = values[round(number * (len(values) - 1) / max(count - 1, 1))]
        height = 2 + 16 * (number * _GOLDEN % 1)
        yield Rect(x(value) - 2, top + height, 4, 4, state, radius=2, outline="none")
    middle = top + 36
    yield Line(((p5, middle), (p95, middle)), "text", 2, key=f"{key}/p5 to p95")
    yield Rect(p25, middle - 8, p75 - p25, 16, state, key=f"{key}/p25 to p75")
    yield Line(((p50, middle - 11), (p50, middle + 11)), "text", 4, key=f"{key}/p50")
    yield Line(((p99, middle - 11), (p99, middle + 11)), "alert", 3, key=f"{key}/p99")

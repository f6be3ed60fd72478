"""Curves over an axis: lines, steps, dots, layers that add up, and a cursor that moves along."""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import groupby, pairwise
from typing import TypeVar

from course_lib.viz.kit.charts.axes import AnyScale, Axis
from course_lib.viz.kit.charts.chart import Chart, Plot, plot_of
from course_lib.viz.kit.charts.markers import marker
from course_lib.viz.kit.charts.words import describe, quantity
from course_lib.viz.kit.layout import (
    WIDE,
    Box,
    Note,
    bottom_of,
    legend,
    place_labels,
    text_width,
)
from course_lib.viz.kit.palette import SERIES
from course_lib.viz.kit.shapes import SMALL_SIZE, Area, Line, Point, Shape, Text, Thing

_THICKNESS = 2.5
_BESIDE = 72  # pixels beside a cursor in which its labels stand
_MOST_MARKED = 24  # with more points than that, markers would run into each other
_FEW_MARKERS = 6  # so many are spread over such a curve, so that it can be told apart in grey


@dataclass(frozen=True)
class Curve:
    """A line through points, from left to right.

    Attributes:
        name: What the legend says.
        points: Pairs of values, in the order of the horizontal axis. Where a value is not finite,
            the line has a gap.
        state: Key of the palette; by default the next of the six series.
        of: What it stands for; by default ``("series", name)``, so that curves of the same name
            light up together in small multiples.
    """

    name: str
    points: Sequence[Point]
    state: str = ""
    of: Thing | None = None


@dataclass(frozen=True)
class Dots(Curve):
    """Points that no line joins, such as measurements beside the curve of a formula.

    Each one is drawn, so give a few hundred at most.
    """


_C = TypeVar("_C", bound=Curve)


def stepped(points: Sequence[Point], until: float) -> tuple[Point, ...]:
    """Return the points of a series whose value stays until the next one begins.

    Args:
        points: When each value begins, and the value.
        until: Where the last one ends.

    >>> stepped([(0, 1), (2, 5)], until=3)
    ((0, 1), (2, 1), (2, 5), (3, 5))
    """
    corners: list[Point] = []
    for (start, value), end in zip(points, [*(x for x, _ in points[1:]), until], strict=True):
        corners += [(start, value), (end, value)]
    return tuple(corners)


def thinned(points: Sequence[Point], x: AnyScale) -> tuple[Point, ...]:
    """Return fewer points that look the same: first, lowest, highest and last of each pixel.

    >>> saw = [(k / 100, k % 7) for k in range(10_001)]
    >>> shown = thinned(saw, Axis("Time").scale([0, 100], 0, 100))
    >>> len(shown) <= 4 * 101, shown[0], shown[-1]
    (True, (0.0, 0), (100.0, 4))
    """
    columns: dict[int, list[Point]] = {}
    for point in points:
        columns.setdefault(round(x(point[0])), []).append(point)
    kept: list[Point] = []
    for column in columns.values():
        chosen = {0, len(column) - 1}
        finite = [k for k, (_, value) in enumerate(column) if math.isfinite(value)]
        if finite:
            chosen |= {pick(finite, key=lambda k: column[k][1]) for pick in (min, max)}
        kept += [column[k] for k in sorted(chosen)]
    return tuple(kept)


def curve_chart(
    title: str,
    x_axis: Axis,
    y_axis: Axis,
    curves: Sequence[Curve],
    width: float = WIDE,
    height: float = 220,
) -> Chart:
    """Draw curves and dots over common axes, with a legend if there is more than one.

    Args:
        title: What the chart is called.
        x_axis: What the horizontal axis counts.
        y_axis: What the vertical axis counts.
        curves: The curves, the most important one first.
        width: Extent of the whole chart to the right.
        height: Extent of the plot downwards, without titles and numbers.

    Raises:
        ValueError: There are more curves than series, and they have no states of their own; or two
            curves have the same name.

    >>> waiting = Curve("waiting", [(0, 0), (4, 9), (5, 3)])
    >>> chart = curve_chart("Queue", Axis("Time", "s"), Axis("Requests"), [waiting])
    >>> chart.alt
    'waiting rises and then falls: 0 at 0 s, 3 at 5 s; highest 9 at 4 s, lowest 0 at 0 s.'
    """
    curves = with_states(curves)
    everything = [point for curve in curves for point in curve.points]
    plot = plot_of(
        title, x_axis, y_axis, [x for x, _ in everything], [y for _, y in everything], width, height
    )
    shapes = list(plot.furniture)
    for curve in reversed(curves):  # the first one in front
        shapes += _drawn(curve, plot, f"{title}/{curve.name}", y_axis.unit)
    if len(curves) > 1:
        shapes += curve_legend(curves, 0, plot.bottom + 8, width)
    alt = " ".join(describe(curve.name, curve.points, x_axis, y_axis) for curve in curves)
    alt = alt or "There are no curves."
    return Chart(
        width, bottom_of(shapes), tuple(shapes), title, alt, plot.x, plot.y, x_axis, y_axis
    )


def stacked_chart(
    title: str,
    x_axis: Axis,
    y_axis: Axis,
    layers: Sequence[Curve],
    width: float = WIDE,
    height: float = 220,
) -> Chart:
    """Draw curves on top of each other as areas, so that the upper edge is their sum.

    Args:
        title: What the chart is called.
        x_axis: What the horizontal axis counts.
        y_axis: What the vertical axis counts.
        layers: The curves, the lowest one first; all have points at the same places.
        width: Extent of the whole chart to the right.
        height: Extent of the plot downwards.

    Raises:
        ValueError: There are no layers, or two have points at different places.

    >>> layers = [Curve("prefill", [(0, 512), (1, 0)]), Curve("decode", [(0, 8), (1, 9)])]
    >>> stacked_chart("Batch", Axis("Step"), Axis("Tokens"), layers).y(520) > 0
    True
    """
    layers = with_states(layers)
    places = [[x for x, _ in layer.points] for layer in layers]
    if not layers or any(place != places[0] for place in places):
        raise ValueError("layers add up only where they have points at the same places; give such")
    xs = places[0]
    sums = [[0.0] * len(xs)]
    for layer in layers:
        sums.append([below + y for below, (_, y) in zip(sums[-1], layer.points, strict=True)])
    plot = plot_of(title, x_axis, y_axis, xs, sums[-1], width, height)
    edges = [[(plot.x(x), plot.y(y)) for x, y in zip(xs, each, strict=True)] for each in sums]
    shapes = list(plot.furniture)
    for layer, (floor, edge) in zip(layers, pairwise(edges), strict=True):
        corners, key = (*edge, *floor[::-1]), f"{title}/{layer.name}"
        shapes.append(Area(corners, layer.state, key, layer.name, of=layer.of))
    names = {layer.state: layer.name for layer in layers}
    shapes += legend(names, 0, plot.bottom + 8, width, names)
    described = [*layers, Curve("all together", list(zip(xs, sums[-1], strict=True)))]
    alt = " ".join(describe(layer.name, layer.points, x_axis, y_axis) for layer in described)
    return Chart(
        width, bottom_of(shapes), tuple(shapes), title, alt, plot.x, plot.y, x_axis, y_axis
    )


def with_cursor(chart: Chart, at: float, curves: Sequence[Curve] = (), label: str = "") -> Chart:
    """Return the chart with a line where a film stands, and the values of the curves there.

    The shapes of the chart stay the same objects, so a film of cursors is a small one.

    Args:
        chart: A chart at its place.
        at: Where the film stands, as a value of the horizontal axis.
        curves: Curves whose values are written beside the line.
        label: What stands at the foot of the line, such as ``"step 12"``.

    >>> waiting = Curve("waiting", [(0, 0), (4, 8)])
    >>> chart = curve_chart("Queue", Axis("Time", "s"), Axis("Requests"), [waiting])
    >>> with_cursor(chart, 3, [waiting]).shapes[-1].text
    '6'
    """
    x, key = chart.x(at), f"{chart.title}/cursor"
    top, bottom = min(chart.y.start, chart.y.end), max(chart.y.start, chart.y.end)
    shapes: list[Shape] = [Line(((x, top), (x, bottom)), "text", 2, key=key)]
    notes = [Note(x, bottom - 12, label, f"{key}/label")] if label else []
    words = []
    for curve in with_states(curves):
        value = value_at(curve.points, at)
        if not math.isfinite(value):
            continue
        y, text = chart.y(value), quantity(value, chart.y_axis.unit)
        shapes.append(marker(curve.state, x, y, size=11, key=f"{key}/{curve.name}", of=curve.of))
        notes.append(Note(x, y, text, f"{key}/{curve.name}/value"))
        words.append(f"{curve.name} {text}")
    room = Box(chart.x.start, top - 12, chart.left + chart.width, bottom)
    taken = [Box(x - 1, top, x + 1, bottom), *_along(curves, chart, x)]
    shapes += place_labels(notes, room, taken)
    where = f"{chart.x_axis.label} {quantity(at, chart.x_axis.unit)}"
    return chart.drawn_over(shapes, f"{where}: {', '.join(words) or label}.")


def with_states(curves: Sequence[_C]) -> tuple[_C, ...]:
    """Return the curves with a series each where they have no state of their own.

    Raises:
        ValueError: There are more curves than series, or two of the same name.
    """
    names = [curve.name for curve in curves]
    if len(set(names)) < len(names):
        raise ValueError(f"a name stands twice in {', '.join(names)}; each curve needs its own")
    if len(curves) > len(SERIES) and not all(curve.state for curve in curves):
        raise ValueError(
            f"{len(curves)} curves are too many to be told apart; at most {len(SERIES)}, or give "
            "each a state"
        )
    return tuple(
        replace(
            curve,
            state=curve.state or SERIES[number].key,
            of=curve.of or ("series", curve.name),
        )
        for number, curve in enumerate(curves)
    )


def value_at(points: Sequence[Point], x: float) -> float:
    """Return the value of a curve at a place; not a number outside of it.

    >>> value_at([(0, 1), (2, 1), (2, 5), (4, 7)], 2), value_at([(0, 0), (4, 8)], 3)
    (5, 6.0)
    """
    after = bisect_right(points, x, key=lambda point: point[0])
    if after == 0 or (after == len(points) and points[-1][0] < x):
        return math.nan
    left, value = points[after - 1]
    if left == x or after == len(points):
        return value
    right, next_value = points[after]
    return value + (next_value - value) * (x - left) / (right - left)


def curve_legend(curves: Sequence[Curve], x: float, y: float, width: float) -> tuple[Shape, ...]:
    """Return a stretch of each curve with its marker and its name, in rows of at most ``width``.

    Args:
        curves: The curves, with their states.
        x: Left edge.
        y: Upper edge of the first row.
        width: Where a row ends and the next begins.
    """
    sample, gap, row = 40, 24, 30
    shapes: list[Shape] = []
    left, top = x, y
    for curve in curves:
        entry = sample + 8 + text_width(curve.name, SMALL_SIZE)
        if left > x and left + entry > x + width:
            left, top = x, top + row
        middle = top + 10
        if not isinstance(curve, Dots):
            line = ((left, middle), (left + sample, middle))
            shapes.append(Line(line, thickness=_THICKNESS, state=curve.state, of=curve.of))
        shapes.append(marker(curve.state, left + sample / 2, middle, of=curve.of))
        shapes.append(Text(left + sample + 8, top + 15.5, curve.name, SMALL_SIZE, of=curve.of))
        left += entry + gap
    return tuple(shapes)


def _drawn(curve: Curve, plot: Plot, key: str, unit: str) -> Iterator[Shape]:
    """Yield a curve's lines, from gap to gap, and its markers."""
    runs = [list(run) for is_there, run in groupby(curve.points, _is_finite) if is_there]
    drawn = [thinned(run, plot.x) for run in runs]
    if not isinstance(curve, Dots):
        for number, run in enumerate(run for run in drawn if len(run) > 1):
            pixels = tuple((plot.x(x), plot.y(y)) for x, y in run)
            yield Line(
                pixels,
                thickness=_THICKNESS,
                state=curve.state,
                key=f"{key}/{number}",
                tooltip=curve.name,
                of=curve.of,
            )
    points = [point for run in runs for point in run]
    chosen = range(len(points))
    if len(points) > _MOST_MARKED and not isinstance(curve, Dots):
        chosen = range(len(points) // (2 * _FEW_MARKERS), len(points), len(points) // _FEW_MARKERS)
    for number in chosen:
        x, y = points[number]
        tooltip = f"{curve.name}: {quantity(y, unit)}"
        yield marker(
            curve.state, plot.x(x), plot.y(y), 9, f"{key}/point {number}", tooltip, curve.of
        )


def _along(curves: Sequence[Curve], chart: Chart, x: float) -> Iterator[Box]:
    """Yield where the curves run beside a cursor, so that no label is written over them."""
    for offset in range(-_BESIDE, _BESIDE + 1, 4):
        at = chart.x.value(x + offset)
        for curve in curves:
            value = value_at(curve.points, at)
            if math.isfinite(value):
                y = chart.y(value)
                yield Box(x + offset - 2, y - 3, x + offset + 2, y + 3)


def _is_finite(point: Point) -> bool:
    return all(map(math.isfinite, point))

"""Figures of a simulation: latencies, the batch over time, sweeps and experiments."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from course_lib.simulation.experiments import Comparison
from course_lib.simulation.headings import heading, parameter_heading
from course_lib.simulation.result import SimulationResult
from course_lib.simulation.sweep import SweepPoint
from course_lib.viz.kit.charts.axes import Axis, LogAxis
from course_lib.viz.kit.charts.bars import bar_chart
from course_lib.viz.kit.charts.chart import Chart, column_width, grid, scene_of
from course_lib.viz.kit.charts.curves import Curve, curve_chart, thinned
from course_lib.viz.kit.layout import NARROW, WIDE
from course_lib.viz.kit.scene import Scene

_MOST_POINTS = 2000
"""Points of a curve: more than a figure has pixels would only make it slow."""

_WIDE_RANGE = 20
"""From this ratio of the largest to the smallest value on, a logarithmic axis has ticks enough."""

_SWEPT: tuple[tuple[str, Axis, Mapping[str, str]], ...] = (
    ("Time to first token", Axis("TTFT", "s"), {"ttft_mean": "mean", "ttft_p99": "p99"}),
    (
        "Gaps between tokens",
        Axis("Gap", "s"),
        {"tpot_mean": "TPOT, mean", "longest_gap_p99": "longest, p99"},
    ),
    (
        "Throughput",
        Axis("Rate", "requests/s"),
        {"requests_per_second": "all", "goodput": "good"},
    ),
)
"""What a sweep shows: title, axis, and the keys of its figures with their names."""


def latency_scene(result: SimulationResult, width: float = WIDE) -> Scene:
    """Draw how many of the latencies are above each value.

    Args:
        result: What was simulated.
        width: ``WIDE`` or ``NARROW``.
    """
    columns = 1 if width <= NARROW else 3
    charts = [
        _tail(title, label, values[~np.isnan(values)], column_width(columns, width))
        for title, label, values in (
            ("Time to first token", "TTFT", result.ttft),
            ("Gap between tokens", "Gap", result.itl),
            ("End to end", "Latency", result.e2e),
        )
    ]
    return scene_of(grid(charts, columns), "Latencies")


def _tail(title: str, label: str, values: np.ndarray, width: float) -> Chart:
    """Draw the share of values that lie above each value, on logarithmic axes."""
    ordered = np.sort(values)
    above = 1 - np.arange(len(ordered)) / max(len(ordered), 1)
    # Evenly spread on the logarithmic axis, so that the rare values at the end are kept.
    spread = np.geomspace(1, max(len(ordered), 1), num=min(_MOST_POINTS, len(ordered)))
    chosen = np.unique(len(ordered) - np.rint(spread).astype(int))
    points = list(zip(ordered[chosen].tolist(), above[chosen].tolist(), strict=True))
    is_wide = len(ordered) and 0 < _WIDE_RANGE * ordered[0] < ordered[-1]
    x_axis = LogAxis(label, "s") if is_wide else Axis(label, "s")
    curve = Curve("share of values above", points)
    return curve_chart(title, x_axis, LogAxis("Share of values above"), [curve], width)


def timeline_scene(result: SimulationResult, width: float = WIDE) -> Scene:
    """Draw batch, queue and KV use over time.

    Args:
        result: What was simulated.
        width: ``WIDE`` or ``NARROW``.
    """
    steps, inner = result.steps, column_width(1, width)
    start = steps.column("start").tolist()

    def curve(name: str, column: str, factor: float = 1) -> Curve:
        values = (factor * steps.column(column)).tolist()
        points = list(zip(start, values, strict=True))
        scale = Axis("Time", "s").scale(start, 0, inner)
        return Curve(name, thinned(points, scale))

    batch = [curve("running", "num_running"), curve("waiting", "num_waiting")]
    memory = [curve("in use", "kv_usage", 100)]
    used = Axis("In use", "%", low=0, high=100)
    return scene_of(
        grid(
            [
                curve_chart("Requests", Axis("Time", "s"), Axis("Requests"), batch, inner),
                curve_chart("KV cache", Axis("Time", "s"), used, memory, inner, 160),
            ],
            columns=1,
        ),
        "The batch over time",
    )


def sweep_scene(name: str, points: Sequence[SweepPoint], width: float = WIDE) -> Scene:
    """Draw latency and throughput over the parameter of a sweep; those that failed are left out.

    Args:
        name: The parameter.
        points: What each of its values gave.
        width: ``WIDE`` or ``NARROW``.
    """
    columns = 1 if width <= NARROW else 3
    inner = column_width(columns, width)
    done = {getattr(point.setup, name): point.figures for point in points if point.figures}
    has_numbers = all(isinstance(value, int | float) for value in done)
    draw = _over_numbers if has_numbers else _over_names
    charts = [draw(title, name, axis, keys, done, inner) for title, axis, keys in _SWEPT]
    swept = parameter_heading(name).title
    return scene_of(grid(charts, columns), f"Sweep: {swept[0].lower()}{swept[1:]}")


def _over_numbers(
    title: str,
    name: str,
    axis: Axis,
    keys: Mapping[str, str],
    done: Mapping[float, Mapping[str, float]],
    width: float,
) -> Chart:
    """Draw a curve for each figure."""
    curves = [
        Curve(label, [(value, figures[key]) for value, figures in sorted(done.items())])
        for key, label in keys.items()
    ]
    is_wide = done and 0 < _WIDE_RANGE * min(done) < max(done)
    swept = parameter_heading(name)
    kind = LogAxis if is_wide else Axis
    return curve_chart(title, kind(swept.label, swept.unit), axis, curves, width)


def _over_names(
    title: str,
    name: str,
    axis: Axis,
    keys: Mapping[str, str],
    done: Mapping[object, Mapping[str, float]],
    width: float,
) -> Chart:
    """Draw a bar for each figure of each value, such as of each policy."""
    bars: dict[str, float] = {}
    states: dict[str, str] = {}
    for value, figures in done.items():
        for number, (key, label) in enumerate(keys.items(), 1):
            bars[f"{value}, {label}"] = figures[key]
            states[f"{value}, {label}"] = f"series-{number}"
    return bar_chart(title, axis, bars, width, states)


def comparison_scene(comparison: Comparison, width: float = WIDE) -> Scene:
    """Draw each figure of an experiment as a chart with a bar for each set-up.

    Args:
        comparison: What was measured.
        width: ``WIDE`` or ``NARROW``.
    """
    columns = 1 if width <= NARROW else 2
    rows = comparison.rows()
    charts = [
        bar_chart(
            shown.title,
            Axis(shown.label, shown.unit),
            {setup: shown.factor * row[name] for setup, row in rows.items()},
            column_width(columns, width),
        )
        for name, shown in ((name, heading(name)) for name in comparison.figures)
    ]
    return scene_of(grid(charts, columns), comparison.title, comparison.setup)

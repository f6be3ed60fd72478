"""The dashboard: what one set-up gives, or two of them, each quantity on one axis."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence

import numpy as np

from course_lib.simulation.result import SimulationResult
from course_lib.viz.kit.charts.axes import Axis, LogAxis
from course_lib.viz.kit.charts.bars import bar_chart
from course_lib.viz.kit.charts.chart import Chart, column_width, grid
from course_lib.viz.kit.charts.curves import Curve, curve_chart, stacked_chart, thinned
from course_lib.viz.kit.charts.strips import STRIP_KEY, strips
from course_lib.viz.kit.layout import NARROW, WIDE, bottom_of, wrapped
from course_lib.viz.kit.scene import Scene
from course_lib.viz.kit.shapes import HEADING_SIZE, SMALL_SIZE, Shape, Text, Tone
from course_lib.viz.playground.runs import Run, differences
from course_lib.viz.playground.window import Window, window_chart, window_of

NOW, KEPT = "now", "kept"
"""What two set-ups are called beside each other."""

TITLE = "Playground"

_MARGIN = 12
_GAP = 28
_BINS = 120
"""Stretches of time into which the iterations of a run are put together."""

_STATES = {NOW: "series-1", KEPT: "series-2"}

_WIDE_RANGE = 20
"""From this ratio of the largest to the smallest value on, a logarithmic axis has ticks enough."""


def dashboard_scene(
    now: Run, kept: Run | None = None, window: float = 0.0, width: float = WIDE
) -> Scene:
    """Draw latencies, KV cache, queue, batches, goodput, and a window of a run.

    Args:
        now: The set-up that is looked at.
        kept: One to compare it with, drawn on the same axes.
        window: Where the window begins, as a share of the run, from 0 to 1.
        width: ``WIDE`` or ``NARROW``.
    """
    runs = {NOW: now} | ({} if kept is None else {KEPT: kept})
    is_narrow = width <= NARROW
    three = 1 if is_narrow else 3
    two = 1 if is_narrow else 2
    rows = (
        (_latencies(runs, column_width(three, width)), three),
        (_over_time(runs, column_width(three, width)), three),
        (_batches(runs, column_width(two if kept else 1, width)), two if kept else 1),
        (_totals(runs, column_width(two, width)), two),
        (_windows(runs, window, column_width(1, width)), 1),
    )
    shapes: list[Shape] = list(_head(runs, width - 2 * _MARGIN))
    alts = [text for _, text in _sentences(runs)]
    for charts, columns in rows:
        top = bottom_of(shapes) + _GAP
        for chart in grid(list(charts), columns):
            shapes += chart.moved(_MARGIN, top).shapes
            alts.append(f"{chart.title}. {chart.alt}")
    return Scene(width, bottom_of(shapes) + _MARGIN, tuple(shapes), title=TITLE, alt=" ".join(alts))


def _head(runs: Mapping[str, Run], width: float) -> Iterator[Shape]:
    """Yield what the picture is of, in lines of text."""
    y = 30.0
    for line in wrapped(" on ".join(runs[NOW].hardware), width, HEADING_SIZE):
        yield Text(_MARGIN, y, line, HEADING_SIZE, is_bold=True)
        y += 27
    for tone, text in _sentences(runs):
        for line in wrapped(text, width, SMALL_SIZE):
            yield Text(_MARGIN, y, line, SMALL_SIZE, tone=tone)
            y += 21


def _sentences(runs: Mapping[str, Run]) -> Iterator[tuple[Tone, str]]:
    """Yield what stands above the charts, and how loud it is."""
    kept = runs.get(KEPT)
    now = runs[NOW]
    if kept is None:
        yield "text", now.words
    else:
        told = differences(kept.setup, now.setup)
        changed = "; ".join(f"{what}: kept {old}, now {new}" for what, old, new in told)
        yield "text", f"{changed or 'Both are the same so far: move another control'}."
        yield "text", f"Now: {now.words}"
        yield "text", f"Kept: {kept.words}"
    level = f"TTFT <= {now.setup.slo_ttft:g} s and TPOT <= {1000 * now.setup.slo_tpot:g} ms"
    yield "muted", f"Requests: {now.source}. {now.parts_in_words} Good: {level}. {STRIP_KEY}"


def _latencies(runs: Mapping[str, Run], width: float) -> Iterator[Chart]:
    """Yield where the latencies lie; one that no request has is left out."""
    asked = (
        ("Time to first token", Axis("TTFT", "s"), "ttft", 1),
        ("Gap between tokens", Axis("Gap", "ms"), "itl", 1000),
        ("End to end", Axis("Latency", "s"), "e2e", 1),
    )
    for title, axis, name_of, factor in asked:
        samples = {
            name: [factor * v for v in getattr(run.result, name_of).tolist() if np.isfinite(v)]
            for name, run in runs.items()
        }
        samples = {name: values for name, values in samples.items() if values}
        if not samples:
            continue
        everything = [value for values in samples.values() for value in values]
        is_wide = 0 < _WIDE_RANGE * min(everything) < max(everything)
        shown = LogAxis(axis.label, axis.unit) if is_wide else axis
        yield strips(title, shown, samples, width, states=_STATES, is_explained=False)


def _over_time(runs: Mapping[str, Run], width: float) -> Iterator[Chart]:
    """Yield KV use, queue and batch over time."""
    asked = (
        ("KV cache", Axis("In use", "%", low=0, high=100), "kv_usage", 100.0),
        ("Requests that wait", Axis("Requests"), "num_waiting", 1.0),
        ("Requests that run", Axis("Requests"), "num_running", 1.0),
    )
    for title, axis, column, factor in asked:
        curves = [
            Curve(name, _points(run.result, column, factor, width), _STATES[name])
            for name, run in runs.items()
        ]
        yield curve_chart(title, Axis("Time", "s"), axis, curves, width, 130)


def _points(
    result: SimulationResult, column: str, factor: float, width: float
) -> tuple[tuple[float, float], ...]:
    """Return a column of the iterations over time, as many points as have room."""
    times = result.steps.column("start").tolist()
    values = (factor * result.steps.column(column)).tolist()
    scale = Axis("Time").scale(times, 0, width)
    return thinned(list(zip(times, values, strict=True)), scale)


def _batches(runs: Mapping[str, Run], width: float) -> Iterator[Chart]:
    """Yield what the iterations computed; those of a short stretch are put together."""
    layers = {name: _composition(run.result) for name, run in runs.items()}
    most = max(
        (below + above for each in layers.values() for below, above in zip(*each[1:], strict=True)),
        default=1.0,
    )
    last = max(run.result.makespan for run in runs.values())
    y_axis = Axis("Tokens", "mean of a step")
    y_axis = Axis(y_axis.label, y_axis.unit, high=y_axis.scale([most], 130, 0).high)
    x_axis = Axis("Time", "s")
    x_axis = Axis("Time", "s", high=x_axis.scale([last], 0, width).high)
    for name, (times, decode, prefill) in layers.items():
        title = f"Tokens of a step{f', {name}' if len(runs) > 1 else ''}"
        curves = [
            Curve("decode", list(zip(times, decode, strict=True)), "decode"),
            Curve("prefill", list(zip(times, prefill, strict=True)), "prefill"),
        ]
        yield stacked_chart(title, x_axis, y_axis, curves, width, 130)


def _composition(result: SimulationResult) -> tuple[list[float], list[float], list[float]]:
    """Return times, and decode and prefill tokens of an iteration around them on average."""
    steps = result.steps
    start = steps.column("start")
    prefill = steps.column("num_prefill_tokens")
    decode = steps.column("num_tokens") - prefill
    edges = np.linspace(start.min(), start.max() + 1e-9, _BINS + 1)
    place = np.clip(np.digitize(start, edges) - 1, 0, _BINS - 1)
    count = np.bincount(place, minlength=_BINS)
    middles = (edges[:-1] + edges[1:]) / 2
    means = [
        np.bincount(place, weights=column, minlength=_BINS) / np.maximum(count, 1)
        for column in (decode, prefill)
    ]
    return middles.tolist(), means[0].tolist(), means[1].tolist()


def _totals(runs: Mapping[str, Run], width: float) -> Iterator[Chart]:
    """Yield throughput with goodput, and preemptions."""
    rates: dict[str, float] = {}
    states: dict[str, str] = {}
    for name, run in runs.items():
        for label, figure in (("all", "requests_per_second"), ("good", "goodput")):
            key = f"{label}, {name}" if len(runs) > 1 else label
            rates[key] = run.figures[figure]
            states[key] = _STATES[name]
    yield bar_chart("Throughput and goodput", Axis("Rate", "requests/s"), rates, width, states)
    counts = {
        name if len(runs) > 1 else "all": run.figures["num_preemptions"]
        for name, run in runs.items()
    }
    states = {name: _STATES.get(name, _STATES[NOW]) for name in counts}
    yield bar_chart("Preemptions", Axis("Preemptions"), counts, width, states)


def _windows(runs: Mapping[str, Run], at: float, width: float) -> Iterable[Chart]:
    """Return who did what in a window: of two runs, the same seconds of each."""
    window = window_of(runs[NOW].result, at)
    charts: Sequence[Chart] = [
        window_chart(run.result, Window(*window), _window_title(name, len(runs)), width)
        for name, run in runs.items()
    ]
    return charts


def _window_title(name: str, num_runs: int) -> str:
    return f"Who did what, {name}" if num_runs > 1 else "Who did what"

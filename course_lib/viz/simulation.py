"""Figures of a simulation: latencies, the batch over time, sweeps and experiments."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from course_lib.simulation.experiments import Comparison
from course_lib.simulation.result import SimulationResult
from course_lib.simulation.sweep import SweepPoint
from course_lib.viz.kit.palette import state_of

_BLUE, _ORANGE = state_of("in_use").colour, state_of("internal").colour
_MOST_POINTS = 2000
"""Points of a curve: more than a figure has pixels would only make it slow."""

_NO_SECONDS = (
    "num_",
    "slot_use",
    "prefix_hit_rate",
    "kv_usage",
    "output_tokens_per_second",
    "requests_per_second",
)
"""How the names of figures begin that are not times."""

_WIDE_RANGE = 20
"""From this ratio of the largest to the smallest value on, a logarithmic axis has ticks enough."""


def latency_figure(result: SimulationResult) -> Figure:
    """Draw how the latencies are distributed."""
    figure = Figure(figsize=(12, 3.6), layout="constrained")
    panels = figure.subplots(1, 3)
    for axes, title, values in zip(
        panels,
        ("Time to first token", "Gap between tokens", "End to end"),
        (result.ttft, result.itl, result.e2e),
        strict=True,
    ):
        _draw_tail(axes, title, values[~np.isnan(values)])
    panels[0].set_ylabel("share of values above")
    return figure


def _draw_tail(axes: Axes, title: str, values: np.ndarray) -> None:
    """Draw the share of values that lie above each value, on logarithmic axes."""
    axes.set_title(title)
    axes.set_xlabel("seconds")
    if len(values):
        ordered = np.sort(values)
        above = 1 - np.arange(len(ordered)) / len(ordered)
        # Evenly spread on the logarithmic axis, so that the rare values at the end are kept.
        chosen = np.unique(
            len(ordered) - np.geomspace(1, len(ordered), num=min(_MOST_POINTS, len(ordered)))
        ).astype(int)
        axes.plot(ordered[chosen], above[chosen], color=_BLUE)
        if 0 < _WIDE_RANGE * ordered[0] < ordered[-1]:
            axes.set_xscale("log")
        axes.set_yscale("log")
    axes.grid(visible=True, alpha=0.3)


def timeline_figure(result: SimulationResult) -> Figure:
    """Draw batch, queue and KV use over time."""
    figure = Figure(figsize=(12, 6), layout="constrained")
    top, bottom = figure.subplots(2, 1, sharex=True)
    steps = result.steps[:: max(len(result.steps) // _MOST_POINTS, 1)]
    if len(steps):
        start = steps.column("start")
        top.plot(start, steps.column("num_running"), color=_BLUE, label="running")
        top.plot(start, steps.column("num_waiting"), color=_ORANGE, label="waiting")
        bottom.plot(start, 100 * steps.column("kv_usage"), color=_BLUE)
        top.legend(loc="upper right")
    top.set_ylabel("requests")
    bottom.set_ylabel("KV cache in use [%]")
    bottom.set_ylim(0, 105)
    bottom.set_xlabel("time [s]")
    for axes in (top, bottom):
        axes.grid(visible=True, alpha=0.3)
    return figure


def sweep_figure(name: str, points: Sequence[SweepPoint]) -> Figure:
    """Draw latency and throughput over the parameter of a sweep."""
    figure = Figure(figsize=(12, 3.6), layout="constrained")
    done = [point for point in points if point.figures]
    labels = [str(getattr(point.setup, name)) for point in done]
    panels = (
        ("TTFT [s]", {"ttft_mean": "mean", "ttft_p99": "p99"}),
        ("gap between tokens [s]", {"tpot_mean": "TPOT, mean", "longest_gap_p99": "longest, p99"}),
        ("requests per second", {"requests_per_second": "all", "goodput": "good"}),
    )
    for axes, (title, curves) in zip(figure.subplots(1, 3), panels, strict=True):
        for (key, label), colour in zip(curves.items(), (_BLUE, _ORANGE), strict=True):
            values = [point.figures[key] for point in done]
            axes.plot(labels, values, marker="o", color=colour, label=label)
        axes.set_xlabel(name)
        axes.set_ylabel(title)
        axes.set_ylim(bottom=0)
        axes.grid(visible=True, alpha=0.3)
        if done:
            axes.legend()
    return figure


def comparison_figure(comparison: Comparison) -> Figure:
    """Draw each figure of an experiment as a panel with a bar per set-up."""
    rows = comparison.rows()
    figure = Figure(figsize=(2.6 * len(comparison.figures) + 1.5, 3.6), layout="constrained")
    figure.suptitle(f"{comparison.title} ({comparison.setup})", fontsize="medium")
    panels = figure.subplots(1, len(comparison.figures), sharey=True, squeeze=False)[0]
    for axes, name in zip(panels, comparison.figures, strict=True):
        bars = axes.barh(list(rows), [row[name] for row in rows.values()], color=_BLUE)
        axes.bar_label(bars, fmt="{:,.4g}", padding=3, fontsize="small")
        axes.set_xlabel(name if name.startswith(_NO_SECONDS) else f"{name} [s]")
        axes.margins(x=0.25)
        axes.grid(visible=True, axis="x", alpha=0.3)
    panels[0].invert_yaxis()  # in the order of the table
    return figure

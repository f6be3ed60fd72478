"""A simulation as a folder of files: figures, tables, and a trace for ui.perfetto.dev."""

from __future__ import annotations

import csv
import json
import math
import shutil
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from autograder.errors import CourseError
from autograder.terminal.simulation_tables import totals_line
from course_lib.simulation import SimulationResult
from course_lib.simulation.experiments import Comparison
from course_lib.simulation.sweep import Setup, SweepPoint
from course_lib.viz.palette import state_of

_BLUE, _ORANGE = state_of("in_use").colour, state_of("internal").colour
_MOST_POINTS = 2000
"""Points of a curve: more than a figure has pixels would only make it slow."""

_NO_SECONDS = ("num_", "slot_use", "kv_usage", "output_tokens_per_second", "requests_per_second")
"""How the names of figures begin that are not times."""

_WIDE_RANGE = 20
"""From this ratio of the largest to the smallest value on, a logarithmic axis has ticks enough."""


def write_report(
    folder: Path, setup: Setup, source: str, result: SimulationResult, numbers: dict[str, float]
) -> None:
    """Write what one simulation gave.

    The folder gets ``report.md``, ``summary.json``, ``requests.csv``, ``steps.csv``, ``trace.json``
    for ui.perfetto.dev, and two figures.

    Args:
        folder: Where to; it must not exist.
        setup: What was simulated.
        source: Where its requests come from.
        result: What was measured.
        numbers: Its figures.

    Raises:
        CourseError: The folder exists.
        OSError: It cannot be written. Then nothing is left of it.
    """

    def fill(folder: Path) -> None:
        _write_json(
            folder / "summary.json",
            {"setup": asdict(setup), "source": source, "figures": numbers},
        )
        result.steps.to_csv(folder / "steps.csv")
        result.to_chrome_trace(folder / "trace.json")
        _write_requests(folder / "requests.csv", result)
        _latency_figure(result).savefig(folder / "latencies.png", dpi=120)
        _timeline_figure(result).savefig(folder / "timeline.png", dpi=120)
        (folder / "report.md").write_text(_report_text(setup, source, numbers), encoding="utf-8")

    _write_folder(folder, fill)


def write_sweep_report(folder: Path, name: str, points: Sequence[SweepPoint]) -> None:
    """Write what a sweep gave: ``sweep.csv``, ``summary.json`` and a figure.

    Args:
        folder: Where to; it must not exist.
        name: The parameter that was swept over.
        points: What was measured for each of its values.

    Raises:
        CourseError: The folder exists.
        OSError: It cannot be written. Then nothing is left of it.
    """

    def fill(folder: Path) -> None:
        _write_json(
            folder / "summary.json", {"parameter": name, "points": [asdict(p) for p in points]}
        )
        columns = next((list(point.figures) for point in points if point.figures), [])
        with (folder / "sweep.csv").open("w", encoding="utf-8", newline="") as file:
            writer = csv.writer(file, lineterminator="\n")
            writer.writerow([name, *columns, "error"])
            for point in points:
                values = [point.figures.get(column, "") for column in columns]
                writer.writerow([getattr(point.setup, name), *values, point.error])
        _sweep_figure(name, points).savefig(folder / "sweep.png", dpi=120)

    _write_folder(folder, fill)


def write_comparison_report(folder: Path, comparison: Comparison) -> None:
    """Write what an experiment gave: ``comparison.csv``, ``summary.json`` and a figure.

    Args:
        folder: Where to; it must not exist.
        comparison: What was measured in each set-up.

    Raises:
        CourseError: The folder exists.
        OSError: It cannot be written. Then nothing is left of it.
    """

    def fill(folder: Path) -> None:
        rows = comparison.rows()
        summaries = {name: result.summary() for name, result in comparison.results.items()}
        _write_json(
            folder / "summary.json",
            {"title": comparison.title, "setup": comparison.setup, "results": summaries},
        )
        with (folder / "comparison.csv").open("w", encoding="utf-8", newline="") as file:
            writer = csv.writer(file, lineterminator="\n")
            writer.writerow(["set-up", *comparison.figures])
            writer.writerows([name, *row.values()] for name, row in rows.items())
        _comparison_figure(comparison).savefig(folder / "comparison.png", dpi=120)

    _write_folder(folder, fill)


def _write_folder(folder: Path, fill: Callable[[Path], None]) -> None:
    """Fill a folder that is not seen under its name before it is complete."""
    if folder.exists():
        raise CourseError(f"{folder} is there already; remove it, or choose another --report")
    folder.parent.mkdir(parents=True, exist_ok=True)
    unfinished = Path(tempfile.mkdtemp(dir=folder.parent, prefix=f".{folder.name}."))
    try:
        fill(unfinished)
        unfinished.chmod(0o755)  # mkdtemp makes it private
        unfinished.rename(folder)
    except BaseException:
        shutil.rmtree(unfinished, ignore_errors=True)
        raise


def _write_json(path: Path, document: object) -> None:
    """Write a JSON file; NaN and infinity, which JSON does not know, become null."""
    text = json.dumps(_without_nan(document), indent=2, allow_nan=False)
    path.write_text(text + "\n", encoding="utf-8")


def _without_nan(value: object) -> object:
    """Replace every float that is not a finite number by None."""
    if isinstance(value, dict):
        return {key: _without_nan(each) for key, each in value.items()}
    if isinstance(value, list):
        return [_without_nan(each) for each in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value


def _write_requests(path: Path, result: SimulationResult) -> None:
    """Write one line per request."""
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        if not result.requests:
            return
        writer.writerow([*result.requests[0]._fields, "ttft", "tpot", "e2e"])
        latencies = zip(
            result.ttft.tolist(), result.tpot.tolist(), result.e2e.tolist(), strict=True
        )
        for request, times in zip(result.requests, latencies, strict=True):
            row = request._replace(status=request.status.value)  # type: ignore[arg-type]
            writer.writerow([*row, *times])


def _report_text(setup: Setup, source: str, numbers: dict[str, float]) -> str:
    """Write the page that a reader opens first."""
    statistics = ("mean", "p50", "p90", "p99", "max")
    lines = [
        f"# Simulation of {setup.workload}",
        "",
        f"Requests: {source}.",
        "",
        totals_line(setup, numbers),
        "",
        "| seconds | " + " | ".join(statistics) + " |",
        "|---|" + "---:|" * len(statistics),
    ]
    for name in ("ttft", "tpot", "itl", "longest_gap", "e2e", "queue_time"):
        cells = " | ".join(f"{numbers[f'{name}_{statistic}']:.4g}" for statistic in statistics)
        lines.append(f"| {name} | {cells} |")
    lines += [
        "",
        "![Latencies](latencies.png)",
        "",
        "![Batch, queue and KV cache over time](timeline.png)",
        "",
        "`summary.json` has every figure and the set-up, `requests.csv` a line per request, "
        "`steps.csv` a line per iteration. Open `trace.json` at ui.perfetto.dev.",
        "",
    ]
    return "\n".join(lines)


def _latency_figure(result: SimulationResult) -> Figure:
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


def _timeline_figure(result: SimulationResult) -> Figure:
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


def _sweep_figure(name: str, points: Sequence[SweepPoint]) -> Figure:
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


def _comparison_figure(comparison: Comparison) -> Figure:
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

"""What ``course simulate`` prints: tables for the terminal."""

from __future__ import annotations

import math
from collections.abc import Sequence

from rich.box import SIMPLE_HEAD
from rich.table import Table

from course_lib.simulation.experiments import Comparison, Validation
from course_lib.simulation.headings import heading, parameter_heading
from course_lib.simulation.setup import Setup
from course_lib.simulation.sweep import SweepPoint

_SWEEP_COLUMNS = {
    "ttft_mean": "TTFT\nmean",
    "ttft_p99": "TTFT\np99",
    "tpot_mean": "TPOT\nmean",
    "longest_gap_p99": "longest\ngap p99",
    "e2e_mean": "e2e\nmean",
    "goodput": "good-\nput",
    "output_tokens_per_second": "out-\nput",
    "num_preemptions": "pre-\nempted",
    "kv_usage_mean": "KV\nuse",
}
"""What a table of a sweep shows, by figure: headings of two short lines.

Narrow enough for a terminal of 80 columns, where a table that is too wide loses its digits.
"""

_SHORT_UNITS = {"requests/s": "req/s", "tokens/s": "tok/s"}


def summary_table(setup: Setup, source: str, numbers: dict[str, float]) -> Table:
    """Return what one simulation gave, as a table for the terminal."""
    table = Table(title=f"course simulate {setup.workload}", caption=source, show_header=True)
    table.add_column("seconds")
    for statistic in ("mean", "p50", "p90", "p99", "max"):
        table.add_column(statistic, justify="right")
    for name, label in (
        ("ttft", "TTFT"),
        ("tpot", "TPOT"),
        ("itl", "ITL"),
        ("e2e", "end to end"),
        ("queue_time", "waiting"),
    ):
        values = (
            numbers[f"{name}_{statistic}"] for statistic in ("mean", "p50", "p90", "p99", "max")
        )
        table.add_row(label, *(_short(value) for value in values))
    return table


def sweep_table(name: str, points: Sequence[SweepPoint]) -> Table:
    """Return a sweep as a table for the terminal, one row per value."""
    table = Table(
        title=f"course simulate: sweep over {name}", box=SIMPLE_HEAD, padding=(0, 0, 0, 1)
    )
    unit_of_values = parameter_heading(name).unit
    table.add_column(
        f"value\n{_SHORT_UNITS.get(unit_of_values, unit_of_values)}",
        justify="right",
        overflow="fold",
    )
    for figure, lines in _SWEEP_COLUMNS.items():
        unit = heading(figure).unit
        text = f"{lines}\n{_SHORT_UNITS.get(unit, unit)}"
        table.add_column(text, justify="right", no_wrap=True)
    for point in points:
        cells = [
            _short(point.figures[figure] * heading(figure).factor, digits=3)
            for figure in _SWEEP_COLUMNS
            if point.figures
        ]
        table.add_row(str(getattr(point.setup, name)), *(cells or ["-"] * len(_SWEEP_COLUMNS)))
    return table


def comparison_table(comparison: Comparison) -> Table:
    """Return an experiment as a table for the terminal."""
    table = Table(title=comparison.title, caption=comparison.setup)
    table.add_column("")
    shown = {figure: heading(figure) for figure in comparison.figures}
    for each in shown.values():
        table.add_column(each.labelled, justify="right")
    for name, row in comparison.rows().items():
        table.add_row(name, *(_short(shown[figure].factor * row[figure]) for figure in shown))
    return table


def validation_table(validation: Validation) -> Table:
    """Return a simulated run beside the measured one, as a table for the terminal."""
    table = Table(title="measured and simulated", caption=validation.run.source)
    table.add_column("seconds")
    for column in ("measured", "simulated", "error"):
        table.add_column(column, justify="right")
    for name, (measured, simulated, error) in validation.rows().items():
        table.add_row(heading(name).label, f"{measured:.4f}", f"{simulated:.4f}", f"{error:+.1%}")
    return table


def _short(value: float, digits: int = 4) -> str:
    """Write a number with four digits, or another number of them.

    >>> _short(12345.6), _short(0.123456), _short(float("nan"))
    ('12,346', '0.1235', '-')
    """
    if math.isnan(value):
        return "-"
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.{digits}g}"

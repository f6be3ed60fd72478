"""What ``course simulate`` prints: tables for the terminal."""

from __future__ import annotations

import math
from collections.abc import Sequence

from rich.box import SIMPLE_HEAD
from rich.table import Table

from course_lib.simulation.experiments import Comparison, Validation
from course_lib.simulation.setup import Setup
from course_lib.simulation.sweep import SweepPoint

_SWEEP_COLUMNS = {
    "ttft_mean": ("TTFT", "mean", 1.0, "s"),
    "ttft_p99": ("TTFT", "p99", 1.0, "s"),
    "tpot_mean": ("TPOT", "mean", 1e3, "ms"),
    "longest_gap_p99": ("longest", "gap p99", 1.0, "s"),
    "e2e_mean": ("e2e", "mean", 1.0, "s"),
    "goodput": ("good-", "put", 1.0, "req/s"),
    "output_tokens_per_second": ("out-", "put", 1.0, "tok/s"),
    "num_preemptions": ("pre-", "empted", 1.0, ""),
    "kv_usage_mean": ("KV", "use", 100.0, "%"),
}
"""What a table of a sweep shows: heading in two lines, factor and unit, by figure.

Narrow enough for a terminal of 80 columns, where a table that is too wide loses its digits.
"""


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
    table.add_column("value", justify="right", overflow="fold")
    for *heading, _, unit in _SWEEP_COLUMNS.values():
        table.add_column("\n".join([*heading, unit]), justify="right", no_wrap=True)
    for point in points:
        cells = [
            _short(point.figures[figure] * factor, digits=3)
            for figure, (*_, factor, _) in _SWEEP_COLUMNS.items()
            if point.figures
        ]
        table.add_row(str(getattr(point.setup, name)), *(cells or ["-"] * len(_SWEEP_COLUMNS)))
    return table


def comparison_table(comparison: Comparison) -> Table:
    """Return an experiment as a table for the terminal."""
    table = Table(title=comparison.title, caption=comparison.setup)
    table.add_column("")
    for figure in comparison.figures:
        # Without underscores, so that a narrow terminal breaks the lines between words.
        table.add_column(figure.removeprefix("num_").replace("_", " "), justify="right")
    for name, row in comparison.rows().items():
        table.add_row(name, *(_short(value) for value in row.values()))
    return table


def validation_table(validation: Validation) -> Table:
    """Return a simulated run beside the measured one, as a table for the terminal."""
    table = Table(title="measured and simulated", caption=validation.run.source)
    table.add_column("seconds")
    for column in ("measured", "simulated", "error"):
        table.add_column(column, justify="right")
    for name, (measured, simulated, error) in validation.rows().items():
        table.add_row(name, f"{measured:.4f}", f"{simulated:.4f}", f"{error:+.1%}")
    return table


def _short(value: float, digits: int = 4) -> str:
    """Write a number with four digits, or another number of them.

    >>> _short(12345.6), _short(0.123456), _short(float("nan"))
    ('12,346', '0.1235', '-')
    """
    if math.isnan(value):
        return "-"
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.{digits}g}"

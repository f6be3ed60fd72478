"""What ``course simulate`` prints: tables for the terminal."""

from __future__ import annotations

import math
from collections.abc import Sequence

from rich.table import Table

from autograder.simulate import Setup, SweepPoint
from course_lib.simulation.experiments import Comparison, Validation

_SWEEP_COLUMNS = {
    "ttft_mean": ("TTFT mean", 1.0, "s"),
    "ttft_p99": ("TTFT p99", 1.0, "s"),
    "tpot_mean": ("TPOT mean", 1e3, "ms"),
    "longest_gap_p99": ("longest gap p99", 1.0, "s"),
    "e2e_mean": ("e2e mean", 1.0, "s"),
    "goodput": ("goodput", 1.0, "req/s"),
    "output_tokens_per_second": ("output", 1.0, "tok/s"),
    "num_preemptions": ("preempted", 1.0, ""),
    "kv_usage_mean": ("KV use", 100.0, "%"),
}
"""What a table of a sweep shows: heading, factor and unit, by figure."""


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


def totals_line(setup: Setup, numbers: dict[str, float]) -> str:
    """Return the figures that are not latencies, in two sentences."""
    ignored = f", {numbers['num_ignored']:.0f} refused" if numbers["num_ignored"] else ""
    return (
        f"{numbers['num_finished']:,.0f} requests in {numbers['makespan']:,.1f} s "
        f"({numbers['num_steps']:,.0f} iterations{ignored}): "
        f"{numbers['requests_per_second']:.2f} requests/s, "
        f"{numbers['output_tokens_per_second']:,.0f} output tokens/s, goodput "
        f"{numbers['goodput']:.2f} requests/s (TTFT <= {setup.slo_ttft:g} s, "
        f"TPOT <= {setup.slo_tpot:g} s). "
        f"{numbers['num_preemptions']:,.0f} preemptions, "
        f"{numbers['num_recomputed_tokens']:,.0f} tokens recomputed, KV cache "
        f"{numbers['kv_usage_mean']:.0%} in use on average, {numbers['kv_usage_max']:.0%} at most."
    )


def sweep_table(name: str, points: Sequence[SweepPoint]) -> Table:
    """Return a sweep as a table for the terminal, one row per value."""
    table = Table(title=f"course simulate: sweep over {name}")
    table.add_column(name, justify="right")
    for label, _, unit in _SWEEP_COLUMNS.values():
        table.add_column(f"{label} ({unit})" if unit else label, justify="right")
    for point in points:
        cells = [
            _short(point.figures[figure] * factor)
            for figure, (_, factor, _) in _SWEEP_COLUMNS.items()
            if point.figures
        ]
        table.add_row(str(getattr(point.setup, name)), *(cells or ["-"] * len(_SWEEP_COLUMNS)))
    return table


def comparison_table(comparison: Comparison) -> Table:
    """Return an experiment as a table for the terminal."""
    table = Table(title=comparison.title, caption=comparison.setup)
    table.add_column("")
    for figure in comparison.figures:
        table.add_column(figure, justify="right")
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


def _short(value: float) -> str:
    """Write a number with four digits.

    >>> _short(12345.6), _short(0.123456), _short(float("nan"))
    ('12,346', '0.1235', '-')
    """
    if math.isnan(value):
        return "-"
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.4g}"

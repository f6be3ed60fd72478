"""Lesson 5: the measurement, static batching against continuous on the trace that is at hand."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np

from autograder.checks.answer import where_wrong
from autograder.checks.compare import within
from autograder.checks.finding import Misconception
from course_lib.simulation.experiments import Comparison, static_against_continuous

close_enough = within(rel=1e-6)


@cache
def both() -> Comparison:
    """Return the runs of section 2."""
    return static_against_continuous()


def measured() -> dict[str, float]:
    """Return the four ratios that are asked for."""
    static, continuous = (both().results[name] for name in ("static", "continuous"))
    return {
        "TTFT": float(np.nanmean(static.ttft) / np.nanmean(continuous.ttft)),
        "TPOT": float(np.nanmean(continuous.tpot) / np.nanmean(static.tpot)),
        "longest gap, p99": _p99(continuous.longest_gap) / _p99(static.longest_gap),
        "throughput": static.makespan / continuous.makespan,
    }


alike = where_wrong(measured, close_enough)


def _p99(values: Any) -> float:
    return float(np.nanpercentile(values, 99))


def mean_of_ratios() -> dict[str, float]:
    """Divide request by request first, and take means and percentiles of that."""
    static, continuous = (both().results[name] for name in ("static", "continuous"))
    return {
        **measured(),
        "TTFT": float(np.nanmean(static.ttft / continuous.ttft)),
        "TPOT": float(np.nanmean(continuous.tpot / static.tpot)),
        "longest gap, p99": _p99(continuous.longest_gap / static.longest_gap),
    }


def medians() -> dict[str, float]:
    """Take medians in the place of means."""
    static, continuous = (both().results[name] for name in ("static", "continuous"))
    return {
        **measured(),
        "TTFT": float(np.nanmedian(static.ttft) / np.nanmedian(continuous.ttft)),
        "TPOT": float(np.nanmedian(continuous.tpot) / np.nanmedian(static.tpot)),
    }


def _shortest(name: str) -> float:
    return float(np.nanpercentile(both().results[name].longest_gap, 0.99))


def _with(key: str, value: Callable[[], float]) -> Callable[[], dict[str, float]]:
    return lambda: {**measured(), key: value()}


def _mean_gap(name: str) -> float:
    return float(np.mean(both().results[name].itl))


def _p99_of_all_gaps(name: str) -> float:
    return _p99(both().results[name].itl)


MEASURED = (
    Misconception(
        "upside down",
        "TTFT and throughput get better, TPOT and the longest gap get worse: each ratio is written "
        "so that it is how many times better or worse, and so above 1.",
        lambda: {key: 1 / value for key, value in measured().items()},
    ),
    Misconception(
        "the mean of all gaps",
        "The mean TPOT is a mean over requests of a mean over their gaps; in the mean of all gaps, "
        "long answers count more.",
        _with("TPOT", lambda: _mean_gap("continuous") / _mean_gap("static")),
    ),
    Misconception(
        "p99 of all gaps",
        "The longest gap of each request, and of those the 99th percentile: what one user in a "
        "hundred sees at worst.",
        _with(
            "longest gap, p99", lambda: _p99_of_all_gaps("continuous") / _p99_of_all_gaps("static")
        ),
    ),
    Misconception(
        "the ratio of each request",
        "First the mean, or the percentile, over the requests of each run, then one ratio of the "
        "two: a ratio for each request lets those with a small value below the line count most.",
        mean_of_ratios,
    ),
    Misconception(
        "medians",
        "TTFT and TPOT are means over the requests; a median leaves out how bad the worst are.",
        medians,
    ),
    Misconception(
        "the 0.99th percentile",
        "`np.percentile` counts to 100, `np.quantile` to 1: the 0.99th percentile is near the "
        "smallest value.",
        _with("longest gap, p99", lambda: _shortest("continuous") / _shortest("static")),
    ),
)

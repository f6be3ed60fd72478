"""Lesson 5: the measurement, static batching against continuous on the trace that is at hand."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np

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


def _p99(values: Any) -> float:
    return float(np.nanpercentile(values, 99))


def _with(key: str, value: Callable[[], float]) -> Callable[[], dict[str, float]]:
    return lambda: {**measured(), key: value()}


def _mean_gap(name: str) -> float:
    return float(np.mean(both().results[name].itl))


def _p99_of_all_gaps(name: str) -> float:
    return _p99(both().results[name].itl)


MEASURED = (
    Misconception(
        "upside down",
        "TTFT and throughput improve and TPOT gets worse: each ratio is written so that it says "
        "how many times.",
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
)

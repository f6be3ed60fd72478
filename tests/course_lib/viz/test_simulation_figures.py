"""Figures of a simulation: they show what was measured, with units."""

from __future__ import annotations

import numpy as np
import pytest

from course_lib.simulation import SimulationResult
from course_lib.simulation.experiments import Comparison
from course_lib.simulation.setup import Setup, figures, parse_sweep, run
from course_lib.simulation.sweep import SweepPoint
from course_lib.viz.simulation import (
    comparison_figure,
    latency_figure,
    sweep_figure,
    timeline_figure,
)

SETUP = Setup(requests=30, output_tokens=20)


@pytest.fixture(scope="module")
def result() -> SimulationResult:
    """A small simulation."""
    return run(SETUP, None)


def test_latencies_are_the_share_of_values_above(result: SimulationResult) -> None:
    ttft, itl, e2e = latency_figure(result).axes
    assert [axes.get_xlabel() for axes in (ttft, itl, e2e)] == ["seconds"] * 3
    x, y = ttft.lines[0].get_data()
    assert y.max() == 1.0
    for seconds, share in zip(x, y, strict=True):
        assert share == pytest.approx(np.mean(result.ttft >= seconds))


def test_the_timeline_has_batch_queue_and_memory(result: SimulationResult) -> None:
    requests, memory = timeline_figure(result).axes
    assert [line.get_label() for line in requests.lines] == ["running", "waiting"]
    assert requests.lines[0].get_ydata().max() == result.steps.column("num_running").max()
    assert memory.get_ylabel() == "KV cache in use [%]"
    assert memory.get_xlabel() == "time [s]"


def test_a_sweep_has_a_point_per_value_that_could_be_simulated() -> None:
    _, setups = parse_sweep("rate=2,8", SETUP)
    points = [SweepPoint(setup, figures(setup, run(setup, None))) for setup in setups]
    drawn = sweep_figure("rate", [*points, SweepPoint(SETUP, {}, "failed")]).axes
    assert [axes.get_ylabel() for axes in drawn] == [
        "TTFT [s]",
        "gap between tokens [s]",
        "requests per second",
    ]
    assert drawn[0].lines[0].get_ydata().tolist() == [p.figures["ttft_mean"] for p in points]


def test_a_comparison_has_a_bar_per_set_up(result: SimulationResult) -> None:
    comparison = Comparison("title", "s", {"a": result, "b": result}, ("ttft_mean", "num_steps"))
    seconds, count = comparison_figure(comparison).axes
    assert [bar.get_width() for bar in seconds.patches] == [result.ttft.mean()] * 2
    assert (seconds.get_xlabel(), count.get_xlabel()) == ("ttft_mean [s]", "num_steps")

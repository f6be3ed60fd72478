"""Figures of a simulation: they show what was measured, with units."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from course_lib.simulation import SimulationResult
from course_lib.simulation.experiments import Comparison
from course_lib.simulation.setup import Setup, figures, parse_sweep, run
from course_lib.simulation.sweep import SweepPoint
from course_lib.viz.kit.charts.words import number
from course_lib.viz.kit.layout import NARROW, WIDE
from course_lib.viz.kit.scene import Scene
from course_lib.viz.kit.shapes import Line, flatten
from course_lib.viz.simulation import (
    comparison_scene,
    latency_scene,
    sweep_scene,
    timeline_scene,
)

SETUP = Setup(requests=30, output_tokens=20)


@pytest.fixture(scope="module")
def result() -> SimulationResult:
    """A small simulation."""
    return run(SETUP, None)


def points_of(setting: str) -> list[SweepPoint]:
    """Simulate a sweep."""
    _, setups = parse_sweep(setting, SETUP)
    return [SweepPoint(setup, figures(setup, run(setup, None))) for setup in setups]


def curves(scene: Scene) -> list[Line]:
    """Return the curves of a scene, without those of its legends."""
    lines = [shape for shape in flatten(scene.shapes) if isinstance(shape, Line)]
    return [line for line in lines if line.state and line.key]


def test_latencies_are_the_share_of_values_above(result: SimulationResult) -> None:
    scene = latency_scene(result)
    assert {"TTFT (s)", "Gap (s)", "Latency (s)", "Share of values above"} <= set(scene.texts())
    assert len(curves(scene)) == 3
    assert f"{number(1)} at {number(result.ttft.min())} s" in scene.alt
    assert f"{number(1 / len(result.itl))} at {number(result.itl.max())} s" in scene.alt


def test_the_timeline_has_batch_queue_and_memory(result: SimulationResult) -> None:
    scene = timeline_scene(result)
    assert {"running", "waiting", "Requests", "In use (%)", "Time (s)"} <= set(scene.texts())
    most = result.steps.column("num_running").max()
    assert f"highest {most:g} at" in scene.alt


def test_a_sweep_has_a_point_per_value_that_could_be_simulated() -> None:
    points = points_of("rate=2,8")
    scene = sweep_scene("rate", [*points, SweepPoint(SETUP, {}, "failed")])
    assert {"TTFT (s)", "Gap (s)", "Rate (requests/s)", "Arrival rate (requests/s)"} <= set(
        scene.texts()
    )
    assert [len(line.points) for line in curves(scene)] == [2] * 6


def test_a_sweep_over_names_has_bars() -> None:
    points = points_of("policy=fcfs,priority")
    scene = sweep_scene("policy", points)
    keys = [rect.key for rect in scene.rects() if rect.key]
    assert len(keys) == 2 * 6
    assert "Time to first token/priority, p99" in keys


def test_a_sweep_in_which_everything_failed_has_empty_axes() -> None:
    scene = sweep_scene("rate", [SweepPoint(SETUP, {}, "failed")])
    assert curves(scene) == []


def test_a_comparison_has_a_bar_per_set_up(result: SimulationResult) -> None:
    comparison = Comparison("title", "s", {"a": result, "b": result}, ("ttft_mean", "num_steps"))
    scene = comparison_scene(comparison)
    widths = {rect.key: rect.width for rect in scene.rects() if rect.key}
    name = "Time to first token, mean"
    assert widths[f"{name}/a"] == widths[f"{name}/b"] > 0
    assert {"title", "s", name, "TTFT, mean (s)", "Iterations"} <= set(scene.texts())


@pytest.mark.parametrize("width", [WIDE, NARROW])
def test_figures_can_be_read_in_both_forms(
    width: float, result: SimulationResult, collisions: Callable[[Scene], list[str]]
) -> None:
    long = "watermark 5% of the blocks, the last one admitted is preempted"
    comparison = Comparison("title", "s " * 99, {long: result, "b": result}, ("ttft_mean",) * 1)
    for scene in (
        latency_scene(result, width),
        timeline_scene(result, width),
        sweep_scene("rate", points_of("rate=2,8"), width),
        sweep_scene("policy", points_of("policy=fcfs,priority"), width),
        comparison_scene(comparison, width),
    ):
        assert collisions(scene) == []
        assert scene.width <= width

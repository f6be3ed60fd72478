"""Lesson 10's figure: what is drawn and said is what formulas, simulator and engine say."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise, product
from typing import Any

import numpy as np
import pytest

from course_lib import viz
from course_lib.kv_cache.sizing import num_kv_blocks
from course_lib.queueing import MG1, MM1, simulate_queue
from course_lib.scheduling import SchedulerConfig
from course_lib.simulation import RooflineCostModel, service_demand, simulate
from course_lib.simulation.workload import Workload, at_times, gamma_arrivals, synthetic_azure
from course_lib.specs import GPUS, MODELS
from course_lib.viz.kit.charts.words import number
from course_lib.viz.kit.layout import SLIM, WIDE
from course_lib.viz.kit.scene import Scene
from course_lib.viz.queues.dial import LOADS, NUM_SHOWN, RATES, SIZES, Dial
from course_lib.viz.queues.figure import dial_scene, queueing_dial

MODEL, GPU = MODELS["llama-3.1-8b"], GPUS["a100-80gb"]
A100 = RooflineCostModel(MODEL, GPU)


def some(count: int = 60) -> Workload:
    """Return a few requests."""
    return synthetic_azure()[:count]


def dial_of(waits: Any = simulate_queue) -> Dial:
    """Return what the figure shows, with a simulator."""
    return Dial(some(), waits, A100, num_kv_blocks(MODEL, GPU))


@pytest.fixture(scope="module")
def dial() -> Dial:
    """What the figure shows, with the library's simulator."""
    return dial_of()


@pytest.mark.parametrize("width", [WIDE, SLIM])
def test_every_setting_can_be_read(
    dial: Dial, width: float, crowding: Callable[[Scene], list[str]]
) -> None:
    for setting in product((10, 50, 98), SIZES, (1, 2, 4), ("none", "time", "work")):
        scene = dial_scene(dial, *setting, width)
        assert crowding(scene) == [], setting


@pytest.mark.parametrize("engine", ["none", "time", "work"])
@pytest.mark.parametrize("width", [WIDE, SLIM])
def test_the_figure_fits_a_window(dial: Dial, engine: str, width: float) -> None:
    assert dial_scene(dial, 80, "exponential", 1, engine, width).height < 700


def test_the_static_twin_can_be_read(dial: Dial, collisions: Callable[[Scene], list[str]]) -> None:
    assert collisions(dial_scene(dial, 80, "exponential", 1, "work")) == []


def test_theory_is_exact_for_poisson_arrivals_and_the_simulator_confirms_it(dial: Dial) -> None:
    for sizes in SIZES:
        for load in dial.simulated(sizes, 1).loads:
            exact = MG1(load.rho, 1.0, dial.scv(sizes)).mean_wait
            assert dial.theory(sizes, 1, load.rho) == pytest.approx(exact, rel=1e-12)
            # Loads near 1 scatter more: facts of 100,000 customers, by seed.
            assert load.mean == pytest.approx(exact, rel=0.05 if load.rho < 0.9 else 0.25)
    assert [load.rho for load in dial.simulated("equal", 1).loads] == list(LOADS)


def test_a_p99_is_said_where_a_formula_has_it(dial: Dial) -> None:
    assert dial.theory_p99("exponential", 1, 0.8) == MM1(0.8, 1.0).wait_quantile(0.99)
    assert dial.theory_p99("exponential", 2, 0.8) is None
    assert dial.theory_p99("trace", 1, 0.8) is None
    assert "p99, theory" not in dial_scene(dial, 80, "trace", 1, "none").texts()


def test_bursts_make_people_wait_longer(dial: Dial) -> None:
    means = [dial.simulated("exponential", cv).loads[7].mean for cv in (1, 2, 4)]
    assert means == sorted(means)
    assert means[2] > 4 * means[0]


def test_the_engine_waits_as_a_shared_server_does(dial: Dial) -> None:
    alone, own = (float(each.mean()) for each in service_demand(some(), A100))
    for point, rate in zip(dial.engine, RATES, strict=True):
        assert (point.by_time, point.by_work) == (rate * alone, rate * own)
        times = gamma_arrivals(rate, 1.0, 60, 10)
        result = simulate(
            at_times(some(), times), SchedulerConfig(), A100, num_kv_blocks(MODEL, GPU)
        )
        assert point.wait == pytest.approx(float(result.e2e.mean()) / alone - 1, rel=1e-6)


def test_the_words_have_the_numbers(dial: Dial) -> None:
    scene = dial_scene(dial, 80, "exponential", 1, "work")
    assert "one waits 4 services on average, 99% at most 21.9" in scene.alt
    last = dial.engine[-1]
    assert (
        f"waits {number(last.wait)} times its time alone; λD is {number(last.by_work)}" in scene.alt
    )
    beyond = sum(point.by_time > 1 for point in dial.engine)
    assert f"{beyond} of 6 dots" in dial_scene(dial, 80, "exponential", 1, "time").alt


def test_the_backlog_is_the_waits_of_those_who_come(dial: Dial) -> None:
    corners = dial.backlog("exponential", 1, 0.8)
    arrivals = gamma_arrivals(0.8, 1.0, NUM_SHOWN, 10)
    before = [work for (time, work), (later, _) in pairwise(corners) if time == later]
    services = np.random.default_rng(11).exponential(1.0, NUM_SHOWN)
    assert before == pytest.approx(simulate_queue(arrivals, services).tolist())


def test_the_backlog_goes_on_until_60_services(dial: Dial) -> None:
    for rho, sizes, cv in product((10, 50, 80, 98), SIZES, (1, 2, 4)):
        assert dial.backlog(sizes, cv, rho / 100)[-1][0] > 60  # there are customers enough
        assert "at 60 services" in dial_scene(dial, rho, sizes, cv, "none").alt


def test_an_approximation_is_called_one(dial: Dial) -> None:
    alt = dial_scene(dial, 10, "exponential", 4, "none").alt
    assert "by the approximation one waits 0.944 services" in alt


def test_a_simulator_that_fails_is_told_in_words(
    collisions: Callable[[Scene], list[str]],
) -> None:
    def failing(arrivals: Any, services: Any) -> Any:
        raise RuntimeError("not today")

    for waits, said in ((failing, "RuntimeError: not today"), (lambda a, s: a[1:], "one wait")):
        scene = dial_scene(dial_of(waits), 80, "exponential", 1, "none")
        assert said in scene.alt
        assert "mean, simulated" not in scene.texts()
        assert collisions(scene) == []


def test_one_own_simulator_is_asked() -> None:
    asked = []

    def counting(arrivals: Any, services: Any) -> Any:
        asked.append(len(arrivals))
        return simulate_queue(arrivals, services)

    figure = queueing_dial(some(), simulate_waits=counting)
    figure.set(sizes="equal")
    assert asked.count(100_000) == 2 * len(LOADS)


def test_nothing_to_show_is_refused() -> None:
    with pytest.raises(ValueError, match="no requests"):
        queueing_dial(some(0))
    assert viz.queueing_dial is queueing_dial

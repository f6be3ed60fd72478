"""Lesson 9's figure: what is drawn and said is what the orders really do."""

from __future__ import annotations

from collections.abc import Callable
from itertools import product
from typing import Any, ClassVar

import numpy as np
import pytest

from course_lib import parts, viz
from course_lib.scheduling import SchedulerConfig
from course_lib.scheduling.policies import (
    POLICIES,
    FCFSRequestQueue,
    SJFRequestQueue,
    SortedRequestQueue,
)
from course_lib.scheduling.request import Request
from course_lib.simulation import RooflineCostModel, simulate
from course_lib.simulation.workload import Workload, labelled, synthetic_azure
from course_lib.specs import GPUS, MODELS
from course_lib.viz.kit.charts.words import number
from course_lib.viz.kit.explorer import Explorer
from course_lib.viz.kit.layout import SLIM, WIDE
from course_lib.viz.kit.scene import Scene
from course_lib.viz.kit.shapes import Line, Rect
from course_lib.viz.policies.figure import policy_race, race_scene
from course_lib.viz.policies.race import MOST_BARS, Race

A100 = RooflineCostModel(MODELS["llama-3.1-8b"], GPUS["a100-80gb"])
FEW, MANY = 500, 30_024
ORDERS = {name: kind for name, kind in POLICIES.items() if name != "wfq"}


class LongestFirst(SJFRequestQueue):
    """A shortest job first that has it the wrong way round."""

    def key(self, request: Request) -> float:
        """Return less for a longer request."""
        return -super().key(request)


class Refusing(SortedRequestQueue):
    """A queue that fails."""

    def key(self, request: Request) -> float:
        """Fail."""
        raise RuntimeError("not today")


class Losing(SJFRequestQueue):
    """A queue that gives out the same request again and again."""

    def pop(self) -> Request:
        """Return the next one and leave it where it is."""
        return self.peek()


class OwnHeap(FCFSRequestQueue):
    """A queue whose heap is of another shape than the library's."""

    heap: ClassVar = [(0.0,), (0.0, 1, "a"), "b"]

    def key(self, request: Request) -> float:
        """Return the arrival."""
        return request.arrival_time


def some(count: int = 120) -> Workload:
    """Return requests that have all labels."""
    return labelled(synthetic_azure()[:count])


@pytest.fixture(scope="module")
def race() -> Race:
    """All orders of the library."""
    return Race(some(), ORDERS, FEW, A100)


def bars(figure: Explorer) -> list[Rect]:
    """Return the bars of the line, from the left."""
    return [rect for rect in figure.scene.rects() if rect.key.startswith("request ")]


@pytest.mark.parametrize("width", [WIDE, SLIM])
def test_every_setting_can_be_read(
    race: Race, width: float, crowding: Callable[[Scene], list[str]]
) -> None:
    settings = product(ORDERS, ("fcfs", "sjf"), (0, 3, 30), (FEW, MANY), ("waits", "gap"))
    for setting in settings:
        assert crowding(race_scene(race, *setting, width)) == [], setting


def test_the_static_twin_can_be_read_and_has_three_curves(
    race: Race, collisions: Callable[[Scene], list[str]]
) -> None:
    assert collisions(race_scene(race, "ageing", "sjf", 0, FEW, "waits")) == []
    figure = policy_race(some(), num_blocks=FEW)
    texts = list(figure.scene.texts())
    assert {"FCFS", "SJF", "ageing"} <= set(texts)


@pytest.mark.parametrize("name", POLICIES)
def test_the_line_stands_in_the_order_of_the_queue(name: str) -> None:
    race = Race(some(), POLICIES, FEW, A100)
    line = race.line(name, FEW)
    assert not line.problem
    queue = POLICIES[name]()
    for request in sorted(line.requests, key=lambda each: int(each.request_id)):
        queue.add(request)
    assert [each.request_id for each in queue] == [each.request_id for each in line.requests]
    assert all("though" not in line.why(name, n) for n in range(len(line.requests)))


def test_all_orders_have_the_same_line_and_it_is_the_longest(race: Race) -> None:
    lines = [{each.request_id for each in race.line(name, FEW).requests} for name in ORDERS]
    assert all(line == lines[0] for line in lines)
    result = simulate(some(), SchedulerConfig(), A100, FEW)
    begins = np.array([each.first_scheduled_time for each in result.requests])
    counts = [
        int(np.count_nonzero((result.arrival_times <= at) & (begins > at)))
        for at in result.steps.column("start")
    ]
    assert race.num_waiting(FEW) == max(counts) > 10
    assert len(lines[0]) == min(max(counts), MOST_BARS)


def test_curves_and_words_are_what_the_simulator_measures() -> None:
    figure = policy_race(some(), num_blocks=FEW)
    for name in ("fcfs", "sjf", "ageing"):
        ttft = simulate(some(), SchedulerConfig(policy=name), A100, FEW).ttft
        mean = number(float(ttft.mean()))
        assert f"mean {mean} s" in figure.scene.alt


def test_the_next_one_stands_out_and_taken_ones_are_dark() -> None:
    figure = policy_race(some(), num_blocks=FEW)
    figure.set(order="sjf", served=2)
    line = bars(figure)
    assert [rect.state for rect in line[:2]] == ["finished"] * 2
    (arrow,) = [shape for shape in figure.scene.shapes if shape.key == "next"]
    assert isinstance(arrow, Line)
    assert line[2].x <= arrow.points[-1][0] <= line[2].x + line[2].width
    heights = [rect.height for rect in line]
    assert heights == sorted(heights)


def test_with_many_blocks_nobody_waits_and_the_curves_coincide(race: Race) -> None:
    # One may have come in the iteration that is under way.
    assert race.num_waiting(MANY) <= 1
    assert "order hardly matters" in race_scene(race, "edf", "sjf", 0, MANY, "waits").alt
    alone = Race(some(2), ORDERS, MANY, A100)
    alone.seconds = 1e6
    assert "Nobody waits with 30,024 blocks" in race_scene(alone, "edf", "sjf", 0, MANY, "gap").alt


def test_the_gap_of_vtc_is_within_its_bound_and_that_of_fcfs_is_not(race: Race) -> None:
    peaks = {name: max(gap for _, gap in race.gap(name, FEW)) for name in ("fcfs", "vtc")}
    bound = race.bound(FEW)
    assert bound == 2 * max(max(r.prompt_tokens for r in some()), 2 * 16 * (FEW - 1))
    assert peaks["vtc"] <= bound < peaks["fcfs"]
    alt = race_scene(race, "vtc", "sjf", 0, FEW, "gap").alt
    assert f"FCFS {peaks['fcfs']:,.0f}" in alt
    assert f"VTC {peaks['vtc']:,.0f}" in alt


def test_words_do_not_praise_a_queue_that_has_it_the_wrong_way_round() -> None:
    figure = policy_race(some(), {"sjf": LongestFirst, "mine": LongestFirst}, num_blocks=FEW)
    figure.set(order="sjf")
    assert ", though request" in figure.scene.alt
    figure.set(order="mine")
    assert "no key is smaller" in figure.scene.alt


def test_a_heap_of_another_shape_fails_nothing() -> None:
    figure = policy_race(some(60), {"mine": OwnHeap}, num_blocks=300)
    assert "no key is smaller" in figure.scene.alt


@pytest.mark.parametrize(
    ("queue", "said"),
    [(Refusing, "RuntimeError: not today"), (Losing, "gives out other requests")],
)
def test_what_a_queue_does_wrong_stands_in_the_picture(
    queue: Any, said: str, crowding: Callable[[Scene], list[str]]
) -> None:
    figure = policy_race(some(60), {"mine": queue}, num_blocks=300)
    assert said in figure.scene.alt
    assert "mine has no curve" in figure.scene.alt
    assert crowding(figure.scene) == []
    figure.set(below="gap")
    assert "mine has no curve" in figure.scene.alt


def test_the_learners_own_queue_is_raced(workspace: object) -> None:
    parts.save(
        "SRPTRequestQueue.key",
        "def key(self, request):\n    return -request.num_prompt_tokens\n",
    )
    figure = policy_race(some(60), num_blocks=300)
    figure.set(order="srpt")
    assert "though request" in figure.scene.alt


def test_what_cannot_be_raced_is_refused() -> None:
    with pytest.raises(ValueError, match="at least 2"):
        policy_race(some(1))
    with pytest.raises(ValueError, match="no policy 'best'"):
        policy_race(some(10), {"best": "best"})
    with pytest.raises(ValueError, match="num_blocks is 1"):
        policy_race(some(10), num_blocks=1)


def test_requests_without_labels_get_them() -> None:
    figure = viz.policy_race(synthetic_azure()[:60], num_blocks=300)
    figure.set(order="priority", below="waits")
    assert "made up" in " ".join(figure.scene.texts())

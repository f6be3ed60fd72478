"""The final project's figure: one request through all components, step by step."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from course_lib.engine.tracing.events import COMPONENTS
from course_lib.engine.tracing.recorded import vllm_runs
from course_lib.viz import request_film
from course_lib.viz.kit.layout import NARROW, WIDE
from course_lib.viz.kit.scene import Scene
from course_lib.viz.request_trace.film import RequestFilm
from course_lib.viz.request_trace.reading import RequestReading
from course_lib.viz.request_trace.scene import step_scene

pytestmark = pytest.mark.lesson(14)

RUNS = ("in turn", "ahead")


@pytest.fixture(scope="module")
def film() -> RequestFilm:
    return request_film(vllm_runs()["in turn"], "followed", block_size=8)


def reading(run: str = "in turn", name: str = "followed") -> RequestReading:
    return RequestReading(vllm_runs()[run], name, 8)


@pytest.mark.parametrize("width", [WIDE, NARROW])
@pytest.mark.parametrize("run", RUNS)
def test_every_step_can_be_read(
    run: str, width: float, crowding: Callable[[Scene], list[str]]
) -> None:
    of_run = reading(run)
    for step in of_run.steps:
        assert crowding(step_scene(of_run, step, width)) == [], step


def test_the_static_twin_can_be_read(collisions: Callable[[Scene], list[str]]) -> None:
    for step in (3, 21, 22, 45):
        assert collisions(step_scene(reading(), step)) == []


@pytest.mark.parametrize("run", RUNS)
@pytest.mark.parametrize("name", ["followed", "other-0", "other-1"])
def test_blocks_and_slots_add_up(run: str, name: str) -> None:
    of_run = reading(run, name)
    for step in of_run.steps:
        table = of_run.tables[step]
        assert len(set(table)) == len(table)
        assert of_run.computed_at(step) <= 8 * len(table)
    assert of_run.tables[of_run.steps[-1]] == ()
    for token in of_run.tokens:
        if token.block is not None and token.slot is not None:
            assert token.slot // 8 == token.block
            assert token.slot % 8 == token.position % 8
    slots = [token.slot for token in of_run.tokens if token.slot is not None]
    assert len(set(slots)) == len(slots)


def test_a_token_is_chosen_before_its_keys_are_computed() -> None:
    for token in reading().tokens[:-1]:
        assert token.computed_in is not None
        assert token.computed_in > token.step


def test_a_shared_block_is_drawn_as_shared_as_long_as_somebody_else_holds_it() -> None:
    states = {
        step: {
            r.label: r.state for r in step_scene(reading(), step).rects() if "followed bl" in r.key
        }
        for step in (20, 22)
    }
    assert states[20]["1"] == "shared"
    assert states[20]["8"] == "in_use"
    assert states[22]["1"] == "in_use"  # the other one has ended


def test_lanes_say_what_a_component_did() -> None:
    of_run = reading()
    assert [of_run.mark("executor", step) for step in (3, 4, 5, 21)] == [
        "prefill",
        "prefill",
        "decode",
        "",
    ]
    assert of_run.mark("scheduler", 21) == "preempted"
    assert of_run.mark("block manager", 22) == "cached"
    keys = {rect.key for rect in step_scene(of_run, 3).rects()}
    assert all(f"{name} 3" in keys for name in COMPONENTS[:5])


def test_a_click_on_a_token_opens_its_step_and_says_its_slot(film: RequestFilm) -> None:
    [box] = [rect for rect in film.film[0].scene.rects() if rect.key == "token 0"]
    assert box.of == ("token", 0)
    film._open(("token", 0))
    assert film.film[film.index].caption.startswith("Step 4:")
    assert "block 9, slot 72" in film.film[film.index].caption
    film._open(("step", 21))
    assert film.film[film.index].event == "preempted"
    film._open(("block", 3))
    assert film.film[film.index].event == "preempted"
    with pytest.raises(ValueError, match="it has 3 to 45"):
        film.open_step(2)


def test_what_is_told_does_not_depend_on_the_form(film: RequestFilm) -> None:
    for frame in film.film:
        assert frame.narrow is not None
        assert frame.narrow.alt == frame.scene.alt
    assert "48 of 49 known tokens are in the cache" in film.film[21 - 4].scene.alt


def test_a_request_in_no_step_is_refused() -> None:
    with pytest.raises(ValueError, match="no request 'nobody'"):
        request_film(vllm_runs()["ahead"], "nobody")

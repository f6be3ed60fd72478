"""A film whose controls make another film, in chromium: lesson 5's batches."""

from __future__ import annotations

from typing import Any

import pytest

from course_lib.scheduling import Request
from course_lib.viz import batch_gantt
from course_lib.viz.batching.figure import BatchGantt
from course_lib.viz.kit.page import front_end_state

pytestmark = pytest.mark.browser

OUTPUTS = (2, 7, 3, 5, 1, 4)


def batches() -> BatchGantt:
    return batch_gantt([Request("abcdef"[n], [n], out) for n, out in enumerate(OUTPUTS)], seats=3)


def answer(kit: Any, figure: BatchGantt) -> None:
    """Do as Python does with the newest request."""
    figure.set_state({name: kit.model(name) for name in ("values", "index", "asked")})
    state = front_end_state(figure.get_state())
    names = (
        "frames",
        "chunks",
        "count",
        "marks",
        "runs",
        "longest",
        "index",
        "message",
        "answered",
    )
    kit.set(**{name: state[name] for name in names})


def counter(kit: Any, text: str) -> None:
    kit.page.get_by_text(text, exact=True).wait_for()


def test_a_control_asks_for_another_film_and_the_film_stands_at_its_end(kit: Any) -> None:
    figure = batches()
    kit.mount(front_end_state(figure.get_state()))
    counter(kit, "13 / 13")
    kit.page.get_by_role("slider", name="Seats").press("ArrowRight")
    assert (kit.model("asked"), kit.model("values")["seats"]) == (1, 4)
    counter(kit, "13 / 13")  # the key was the control's, and moved nothing else
    answer(kit, figure)
    counter(kit, f"{figure.count} / {figure.count}")
    kit.page.get_by_text(figure.film[-1].caption).wait_for()
    label = kit.page.locator("svg.scene").get_attribute("aria-label")
    assert figure.film[-1].scene.alt in label


def test_the_film_steps_beside_its_controls_without_python(kit: Any) -> None:
    figure = batches()
    kit.mount(front_end_state(figure.get_state()))
    kit.page.get_by_role("slider", name="Step").press("Home")
    counter(kit, "1 / 13")
    kit.page.get_by_role("button", name="One step forward").click()
    counter(kit, "2 / 13")
    kit.page.get_by_text(figure.film[1].caption).wait_for()
    assert kit.model("asked") == 0


def test_a_control_leaves_the_film_where_it_stands(kit: Any) -> None:
    figure = batches()
    kit.mount(front_end_state(figure.get_state()))
    kit.page.get_by_role("slider", name="Step").press("Home")
    kit.page.get_by_role("button", name="One step forward").click()
    counter(kit, "2 / 13")
    kit.page.get_by_role("slider", name="Seats").press("ArrowRight")
    answer(kit, figure)
    counter(kit, f"2 / {figure.count}")
    kit.page.get_by_text(figure.film[1].caption).wait_for()


def test_a_name_in_a_bar_does_not_hide_the_bar_from_the_pointer(kit: Any) -> None:
    figure = batches()
    kit.mount(front_end_state(figure.get_state()))
    name = kit.page.locator("svg.scene .scene-label", has_text="b").first
    box = name.bounding_box()
    kit.page.mouse.click(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    assert {"pick": ["request", "b"]} in kit.sent()

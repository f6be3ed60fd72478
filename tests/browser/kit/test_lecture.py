"""Lecture mode in chromium: from button or key, worked by a remote, light and dark."""

from __future__ import annotations

from typing import Any

import pytest

from course_lib.viz import Explorer, Frame, Player, Slider
from course_lib.viz.kit.page import front_end_state
from course_lib.viz.kit.scene import Scene
from course_lib.viz.kit.shapes import Rect, Text
from course_lib.viz.kit.view import Figure

pytestmark = pytest.mark.browser

WINDOW = {"width": 1280, "height": 800}


def moment(number: int) -> Scene:
    box = Rect(20 + 40 * number, 20, 30, 60, "in_use", key="box")
    words = Text(20, 120, f"at {number}")
    return Scene(960, 400, (box, words), "A box", f"A box at {number}")


def film() -> Player:
    return Player([Frame(moment(number), f"The box is at {number}.") for number in range(9)])


def mount(kit: Any, figure: Figure, **options: Any) -> None:
    kit.open(**options)
    kit.page.set_viewport_size(WINDOW)
    kit.mount(front_end_state(figure.get_state()))
    kit.page.get_by_text("at 0", exact=True).wait_for()


def enter(kit: Any) -> None:
    kit.page.locator(".scene-root").focus()
    kit.page.keyboard.press("f")
    kit.page.locator(".scene-lecture").wait_for()


def is_whole_screen(kit: Any) -> bool:
    return bool(kit.run("return document.fullscreenElement?.classList.contains('scene-lecture')"))


def test_the_key_and_the_button_lead_there_and_back(kit: Any) -> None:
    mount(kit, film())
    enter(kit)
    kit.page.wait_for_function("() => document.fullscreenElement")
    assert is_whole_screen(kit)
    kit.page.get_by_role("button", name="Leave full screen (Escape)").click()
    kit.page.wait_for_function("() => !document.fullscreenElement")
    assert kit.page.locator(".scene-lecture").count() == 0
    kit.page.get_by_role("button", name="Full screen (F)").press("Enter")
    kit.page.wait_for_function("() => document.fullscreenElement")
    kit.page.keyboard.press("Escape")
    kit.page.locator(".scene-root:not(.scene-lecture)").wait_for()


def test_picture_and_caption_grow_to_the_screen(kit: Any) -> None:
    mount(kit, film())
    caption = kit.page.locator(".scene-caption")
    size = "(node) => parseFloat(getComputedStyle(node).fontSize)"
    before = caption.evaluate(size)
    enter(kit)
    picture = "() => document.querySelector('svg.scene').getScreenCTM().a > 1.15"
    kit.page.wait_for_function(picture)
    box = kit.page.locator("svg.scene").bounding_box()
    assert box["width"] <= WINDOW["width"]
    assert box["y"] + box["height"] <= WINDOW["height"]
    bar = kit.page.locator(".scene-bar").bounding_box()
    assert box["y"] + box["height"] <= bar["y"] + 1
    assert bar["y"] + bar["height"] <= WINDOW["height"]
    assert caption.evaluate(size) >= 1.5 * before


def test_a_presenters_remote_steps_and_blanks_the_screen(kit: Any) -> None:
    mount(kit, film())
    enter(kit)
    for key, index in (("PageDown", 1), (" ", 2), ("PageUp", 1), ("PageDown", 2)):
        kit.page.keyboard.press(key)
        assert kit.model("index") == index, key
    blank = kit.page.locator(".scene-blank")
    for key in ("b", "."):
        kit.page.keyboard.press(key)
        assert blank.is_visible()
        kit.page.keyboard.press("PageDown")
        assert not blank.is_visible(), "the first key brings the picture back"
    assert kit.model("index") == 2


def test_outside_lecture_mode_a_figure_without_a_film_leaves_those_keys_to_the_page(
    kit: Any,
) -> None:
    controls = {"number": Slider("Number", 0, 9, 0)}
    mount(kit, Explorer(moment, controls))
    kit.run("document.addEventListener('keydown', (event) => (window.reached = event.key))")
    kit.page.locator(".scene-root").focus()
    for key in ("PageDown", "b", "Escape"):
        kit.page.keyboard.press(key)
        assert kit.run("return window.reached") == key
    kit.page.keyboard.press("Control+f")
    assert kit.page.locator(".scene-lecture").count() == 0


def test_an_explorer_keeps_its_controls(kit: Any) -> None:
    mount(kit, Explorer(moment, {"number": Slider("Number", 0, 9, 0)}))
    enter(kit)
    slider = kit.page.get_by_role("slider", name="Number")
    box = slider.bounding_box()
    assert 0 <= box["y"] <= WINDOW["height"] - box["height"]
    slider.press("ArrowRight")
    assert kit.model("values") == {"number": 1}
    slider.press("f")
    kit.page.locator(".scene-root:not(.scene-lecture)").wait_for()


def test_where_full_screen_is_not_allowed_the_figure_covers_the_page(kit: Any) -> None:
    mount(kit, film())
    kit.run("Element.prototype.requestFullscreen = () => Promise.reject(new TypeError('no'))")
    enter(kit)
    kit.page.locator(".scene-covers-page").wait_for()
    box = kit.page.locator(".scene-root").bounding_box()
    assert box == {"x": 0, "y": 0} | WINDOW
    kit.page.keyboard.press("PageDown")
    assert kit.model("index") == 1
    kit.page.keyboard.press("Escape")
    kit.page.locator(".scene-root:not(.scene-lecture)").wait_for()
    assert kit.page.locator(".scene-covers-page").count() == 0


@pytest.mark.parametrize("dark", [False, True])
def test_the_ground_is_as_light_or_dark_as_the_page(kit: Any, dark: bool) -> None:
    mount(kit, film(), dark=dark)
    enter(kit)
    look = "(node) => [getComputedStyle(node).backgroundColor, getComputedStyle(node).color]"
    ground, ink = kit.page.locator(".scene-lecture").evaluate(look)
    light, black = ("rgb(255, 255, 255)", "rgb(26, 26, 26)")
    assert (ground, ink) == (("rgb(18, 18, 18)", "rgb(242, 242, 242)") if dark else (light, black))

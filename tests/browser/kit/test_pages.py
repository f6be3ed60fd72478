"""Pages without a kernel and without a network, opened from files: they show, step and answer."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from browser_lab import FAINT_TEXTS, LEAST_CONTRAST
from course_lib.viz import Explorer, Frame, Picture, Player, Slider
from course_lib.viz.kit.scene import Scene
from course_lib.viz.kit.shapes import Rect, Text

pytestmark = pytest.mark.browser

OpenPage = Callable[..., Any]


def moment(number: int) -> Scene:
    if number == 3:
        raise ValueError("three do not fit; take fewer")
    box = Rect(20 + 20 * number, 20, 30, 60, "in_use", key="box")
    words = Text(20, 120, f"at {number}")
    alt = f"A box at {number}, </script><!-- and no <b>markup</b>."
    return Scene(500, 150, (box, words), "A box", alt)


def test_a_film_steps_and_plays(open_page: OpenPage, tmp_path: Path) -> None:
    frames = [
        Frame(moment(number % 3), f"Now {number}.", "half way" if number == 130 else "")
        for number in range(260)
    ]
    Player(frames, interval=30).to_html(tmp_path / "film.html")
    page = open_page(tmp_path / "film.html")
    assert page.title() == "A box"
    page.get_by_text("Now 0.", exact=True).wait_for()
    page.get_by_role("button", name="One step forward").click()
    page.get_by_text("Now 1.", exact=True).wait_for()
    page.get_by_role("button", name="Next event: half way (picture 131)").click()
    page.get_by_text("Now 130.", exact=True).wait_for()
    page.get_by_role("slider", name="Step").press("End")
    page.get_by_text("Now 259.", exact=True).wait_for()
    page.get_by_role("slider", name="Step").press("Home")
    page.get_by_text("Now 0.", exact=True).wait_for()
    page.get_by_role("button", name="Play", exact=True).click()
    played = "() => Number.parseInt(document.querySelector('.scene-counter').textContent) > 5"
    page.wait_for_function(played)


def test_an_explorer_answers_from_its_settings(open_page: OpenPage, tmp_path: Path) -> None:
    Explorer(moment, {"number": Slider("Number", 0, 9, 1)}).to_html(tmp_path / "explorer.html")
    page = open_page(tmp_path / "explorer.html")
    slider = page.get_by_role("slider", name="Number")
    slider.press("End")
    page.get_by_text("at 9").wait_for()
    slider.press("Home")
    page.get_by_text("at 0").wait_for()
    for _ in range(3):
        slider.press("ArrowRight")
    page.get_by_text("three do not fit; take fewer").wait_for()


def test_a_page_may_offer_chosen_settings_only(open_page: OpenPage, tmp_path: Path) -> None:
    figure = Explorer(moment, {"number": Slider("Number", 0, 9, 1)})
    figure.to_html(tmp_path / "explorer.html", precompute={"number": [0, 1, 8]})
    page = open_page(tmp_path / "explorer.html")
    slider = page.get_by_role("slider", name="Number")
    slider.press("End")
    page.get_by_text("at 8").wait_for()
    slider.press("ArrowLeft")
    page.get_by_text("at 1").wait_for()
    assert slider.get_attribute("aria-valuetext") == "1"


def test_without_scripts_a_page_shows_the_picture_with_its_description(
    open_page: OpenPage, tmp_path: Path
) -> None:
    Picture(moment(2)).to_html(tmp_path / "picture.html")
    page = open_page(tmp_path / "picture.html", java_script_enabled=False)
    image = page.get_by_role("img", name="A box. A box at 2, </script><!-- and no <b>markup</b>.")
    assert image.bounding_box()["width"] > 400


def test_nothing_can_be_chosen_where_nobody_listens(open_page: OpenPage, tmp_path: Path) -> None:
    thing = Rect(20, 20, 30, 60, "in_use", key="box", of=("block", 7))
    figure = Picture(Scene(500, 150, (thing,), "A box", "A box"))
    figure.on_pick(print)
    figure.to_html(tmp_path / "picture.html")
    page = open_page(tmp_path / "picture.html")
    page.get_by_role("listitem", name="block 7: in use").wait_for()
    assert page.get_by_role("option").count() == 0


DARK_PAGE = "body { background: #101010 !important; color: #eeeeee !important; }"


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("page_style", ["", DARK_PAGE])
def test_text_stands_out_on_any_page(
    open_page: OpenPage, tmp_path: Path, scheme: str, page_style: str
) -> None:
    """Also on a dark page that has none of JupyterLab's variables, whatever the system's scheme."""
    Explorer(moment, {"number": Slider("Number", 0, 9, 1)}).to_html(tmp_path / "explorer.html")
    page = open_page(tmp_path / "explorer.html", color_scheme=scheme)
    page.get_by_text("at 1").wait_for()
    if page_style:
        page.add_style_tag(content=page_style)
    assert page.evaluate(FAINT_TEXTS, LEAST_CONTRAST) == []

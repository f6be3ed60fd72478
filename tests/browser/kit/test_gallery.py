"""Every figure of the course as a page of its own, opened from a file in a browser without network.

What a figure shows is measured by the browser's own boxes: wide and narrow, light and dark.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from browser_lab import CROWDED_TEXTS, FAINT_TEXTS, LEAST_CONTRAST, LEAST_TEXT
from course_lib.viz import Explorer, Player
from course_lib.viz.kit.layout import SLIM
from course_lib.viz.kit.view import Figure
from gallery import GALLERY, SETTINGS

pytestmark = pytest.mark.browser

WIDE_WINDOW, NARROW_WINDOW = 1280, 440
"""So narrow that the narrow form is as small as it gets, and scrolls inside its figure."""


@pytest.fixture
def open_figure(
    open_page: Callable[..., Any], tmp_path: Path
) -> Callable[[str], tuple[Figure, Any]]:
    """Open a figure of the gallery on a page of its own."""

    def opened(name: str) -> tuple[Figure, Any]:
        figure, path = GALLERY[name](), tmp_path / "figure.html"
        if isinstance(figure, Explorer):
            figure.to_html(path, precompute=SETTINGS[name])
        else:
            figure.to_html(path)
        window = {"width": WIDE_WINDOW, "height": 900}
        page = open_page(path, viewport=window, reduced_motion="reduce")
        page.locator("svg.scene .scene-shapes > *").first.wait_for(state="attached")
        return figure, page

    return opened


def step_through(page: Any, film: Player) -> None:
    """Go on by a button, to the middle and to the end; the caption and the slider say where."""
    slider = page.get_by_role("slider", name="Step")
    slider.press("Home")  # a live figure stands at its end
    page.get_by_role("button", name="One step forward").click()
    page.get_by_text(re.compile(rf"^2 / {film.count:,}$")).wait_for()
    for position in (film.count // 2, film.count - 1):
        slider.fill(str(position))
        page.get_by_text(re.compile(rf"^{position + 1:,} / {film.count:,}$")).wait_for()
        said = page.locator(".caption-words").text_content()
        assert film.film[position].caption.split(":")[0].split(" (+")[0] in said
        assert said.strip() in slider.get_attribute("aria-valuetext")


def move_a_control(page: Any) -> None:
    """Move the first slider, or the first choice; the picture is another one then."""
    before = page.locator("svg.scene").get_attribute("aria-label")
    sliders = page.get_by_role("slider")
    if sliders.count():
        sliders.first.press("Home")
        sliders.first.press("ArrowRight")
    else:
        page.get_by_role("combobox").first.select_option(index=1)
    page.wait_for_function(
        "(before) => document.querySelector('svg.scene').ariaLabel !== before", arg=before
    )


@pytest.mark.parametrize("name", GALLERY)
def test_a_figure_works_without_a_kernel_and_can_be_read(
    open_figure: Callable[[str], tuple[Figure, Any]], name: str
) -> None:
    figure, page = open_figure(name)
    assert page.get_by_role("group", name=figure.name, exact=True).count() == 1
    assert page.locator("svg.scene").get_attribute("role") in ("img", "list")
    if isinstance(figure, Player):
        step_through(page, figure)
    if isinstance(figure, Explorer):
        page.get_by_text("Without a running notebook, the controls offer").wait_for()
        move_a_control(page)
    form = f"0 0 {figure.frames[0]['narrow']['width']:g} "
    narrow = page.locator(f"svg.scene[viewBox^='{form}']")
    for width, scheme in ((WIDE_WINDOW, "light"), (NARROW_WINDOW, "dark")):
        page.set_viewport_size({"width": width, "height": 900})
        page.emulate_media(color_scheme=scheme)
        narrow.wait_for(state="attached" if width == NARROW_WINDOW else "detached")
        assert page.evaluate(CROWDED_TEXTS, LEAST_TEXT) == []
        assert page.evaluate(FAINT_TEXTS, LEAST_CONTRAST) == []


def test_lesson_1s_figure_needs_no_scrolling_beside_a_file_browser(
    open_figure: Callable[[str], tuple[Figure, Any]],
) -> None:
    """JupyterLab's file browser leaves a figure 368 of 800 pixels."""
    _, page = open_figure("gpu memory")
    page.set_viewport_size({"width": 368, "height": 900})
    page.locator(f"svg.scene[viewBox^='0 0 {SLIM:g} ']").wait_for(state="attached")
    box = page.locator("svg.scene").bounding_box()
    room = page.locator(".scene-scroller").bounding_box()
    assert box["x"] >= room["x"]
    assert box["x"] + box["width"] <= room["x"] + room["width"]
    assert page.locator(".scene-more-right").count() == 0

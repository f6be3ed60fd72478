"""The solution notebook of lesson 1 in JupyterLab: it runs, its figures move, it can be read."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import pytest

from autograder import lessons
from autograder.lessons.questions import bank
from browser_lab import LAPTOP, wait_until

pytestmark = [pytest.mark.browser, pytest.mark.lesson(1)]

MAP = "viz.EngineMap("
EXPLORER = "viz.gpu_memory("
FILM = "viz.reservation_film("
SHARES = "viz.share_bars(shares)"
QUIZ = "quiz(1)"

TROUBLE = ("error", "stderr")
"""Kinds of output that no cell of a solution has. nbgrader takes any stderr for a failure."""


STRAY_FILLS = """
() => [...document.querySelectorAll("svg.scene [fill^='url(']")]
  .filter((box) => {
    const id = box.getAttribute("fill").slice(5, -1);
    return document.getElementById(id)?.closest("svg.scene") !== box.closest("svg.scene");
  }).length
"""


def test_all_cells_of_the_solution_run_without_an_error(solved: Any) -> None:
    kinds = ", ".join(f'[data-mime-type="application/vnd.jupyter.{kind}"]' for kind in TROUBLE)
    assert solved.page.locator(kinds).all_text_contents() == []
    verdicts = solved.page.locator(".course-check").evaluate_all(
        "(found) => found.map((each) => [each.dataset.exercise, each.dataset.verdict])"
    )
    assert dict(verdicts) == {each.id: "passed" for each in lessons.exercises(1)}
    solved.cell(MAP)
    solved.screenshot("solved-map")


def test_a_slider_moves_and_the_figure_follows(solved: Any) -> None:
    cell = solved.cell(EXPLORER)
    figure = cell.locator("svg.scene")
    assert "Reserve 4,096 tokens each" in figure.text_content()
    before = figure.inner_html()
    slider = cell.get_by_role("slider", name="Maximum length")
    slider.press("ArrowUp")  # without the figure, JupyterLab would go to the cell above
    cell.get_by_text("Reserve 8,192 tokens each").wait_for()
    assert slider.get_attribute("aria-valuetext") == "8,192 tokens"
    assert cell.locator("svg.scene").inner_html() != before
    solved.screenshot("solved-slider", cell)
    solved.picture_of_window("lesson", cell)


def test_a_film_is_stepped_with_the_arrow_keys(solved: Any) -> None:
    cell = solved.cell(FILM)
    caption = cell.locator(".caption-words")
    assert caption.text_content().startswith("Iteration 0:")
    before = cell.locator("svg.scene").inner_html()
    cell.locator(".scene-root").focus()
    solved.page.keyboard.press("ArrowRight")
    cell.get_by_text(re.compile(r"^Iteration \d+ \(\+\d+\):")).wait_for()
    assert cell.locator(".scene-counter").text_content().startswith("2 / ")
    assert cell.locator("svg.scene").inner_html() != before
    # As the lesson says: after a click on one of the buttons, too.
    cell.get_by_role("button", name="One step forward").click()
    cell.locator(".scene-counter", has_text=re.compile("^3 / ")).wait_for()
    solved.page.keyboard.press("ArrowRight")
    cell.locator(".scene-counter", has_text=re.compile("^4 / ")).wait_for()
    solved.page.keyboard.press("End")
    solved.screenshot("solved-film", cell)


def test_saving_by_key_works_while_a_control_has_the_focus(solved: Any) -> None:
    slider = solved.cell(EXPLORER).get_by_role("slider", name="Sequences")
    slider.press("ArrowUp")
    path = solved.path_on_disk
    before = path.stat().st_mtime_ns
    slider.press("Control+s")
    wait_until(lambda: path.stat().st_mtime_ns > before, f"a saved {path.name}")


@pytest.mark.parametrize(("width", "zoom"), [(800, 1.0), (1280, 1.0), (1280, 1.5), (1920, 1.0)])
def test_every_control_is_within_reach_on_every_screen(
    solved: Any, width: int, zoom: float
) -> None:
    """Zooming in leaves fewer pixels of the page, as a smaller window does."""
    size = {"width": round(width / zoom), "height": round(900 / zoom)}
    solved.page.set_viewport_size(size)
    cell = solved.cell(EXPLORER)
    for control in cell.locator(".scene-control input, .scene-control select").all():
        control.scroll_into_view_if_needed()
        box = control.bounding_box()
        output = cell.locator(".jp-OutputArea-output").first.bounding_box()
        assert box["width"] >= 60
        assert output["x"] <= box["x"]
        assert box["x"] + box["width"] <= output["x"] + output["width"]
    solved.screenshot(f"solved-{width}-{zoom:g}", cell)
    solved.page.set_viewport_size(LAPTOP)


@pytest.mark.parametrize(
    ("figure", "handle", "height"), [(FILM, ".scene-bar", 500), (EXPLORER, ".scene-panel", 600)]
)
def test_what_moves_a_tall_picture_is_seen_beside_any_part_of_it(
    solved: Any, figure: str, handle: str, height: int
) -> None:
    solved.page.set_viewport_size({"width": 800, "height": height})
    cell = solved.cell(figure)
    picture = cell.locator("svg.scene")
    window = solved.page.locator(".jp-WindowedPanel-outer").bounding_box()
    assert picture.bounding_box()["height"] > window["height"], "this one fits: choose another"
    for block in ("start", "end"):
        picture.evaluate("(picture, block) => picture.scrollIntoView({ block })", block)
        box = cell.locator(handle).bounding_box()
        assert window["y"] <= box["y"] + 1
        assert box["y"] + box["height"] <= window["y"] + window["height"] + 1
    solved.page.set_viewport_size(LAPTOP)


def test_the_quiz_answers_a_choice_with_its_feedback(solved: Any) -> None:
    question = bank(1).quiz[0]
    cell = solved.cell(QUIZ)
    card = cell.locator(f'[data-question="{question.id}"]')
    wrong = next(choice for choice in question.choices if not choice.correct)
    right = next(choice for choice in question.choices if choice.correct)
    feedback = card.get_by_role("status")
    card.get_by_role("button", name=wrong.text).click()
    assert feedback.text_content() == f"Not this one. {wrong.feedback}"
    solved.screenshot("solved-quiz-wrong", card)
    card.get_by_role("button", name=right.text).click()
    assert feedback.text_content() == f"Right. {right.feedback}"
    solved.screenshot("solved-quiz-right", card)
    total = len(bank(1).quiz)
    score = cell.locator(".quiz-score").text_content()
    assert score == f"0 of 1 right at the first try ({total - 1} to go)"


def test_every_hatch_is_drawn_by_the_figure_that_it_is_in(solved: Any) -> None:
    """A fill that belongs to another figure is not painted while that figure is out of view."""
    assert solved.page.locator("svg.scene [fill^='url(']").count() > 0
    assert solved.page.evaluate(STRAY_FILLS) == 0
    solved.screenshot("solved-shares", solved.cell(SHARES))


@pytest.fixture(params=["Light", "Dark"])
def theme(solved: Any, request: pytest.FixtureRequest) -> Iterator[str]:
    """Choose JupyterLab's theme, and the light one again afterwards."""

    def choose(name: str) -> None:
        is_light = str(name == "Light").lower()
        body = f'body[data-jp-theme-light="{is_light}"]'
        if solved.page.locator(body).count() == 0:
            solved.choose("Settings", "Theme", f"JupyterLab {name}")
        solved.page.wait_for_selector(body, state="attached")

    choose(request.param)
    yield request.param
    choose("Light")


def test_text_stands_out_in_every_theme(solved: Any, theme: str) -> None:
    for name, source in (("map", MAP), ("memory", EXPLORER), ("film", FILM)):
        solved.screenshot(f"solved-{theme.lower()}-{name}", solved.cell(source))
    solved.screenshot(f"solved-{theme.lower()}-check", solved.cell('check("1.1", '))
    solved.screenshot(f"solved-{theme.lower()}-quiz", solved.cell(QUIZ).locator("fieldset").first)
    assert solved.faint_texts() == []


def test_validate_says_that_the_solution_passes(solved: Any) -> None:
    verdict = solved.validate()
    solved.screenshot("solved-validated")
    assert verdict == "Success! Your notebook passes all the tests."
    solved.close_dialog()

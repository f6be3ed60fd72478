"""The solution notebook of lesson 1 in JupyterLab: it runs, its figures move, it can be read."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import pytest

from autograder import checks
from autograder.questions import bank

pytestmark = [pytest.mark.browser, pytest.mark.xdist_group("browser")]

MAP = "lesson-1-what-attention-costs-in-memory-3"
EXPLORER = "2-the-problem-seen-first-4"
FILM = "4-where-the-memory-goes-2"
SHARES = "7-it-runs-in-your-engine-what-the-waste-costs-7"
QUIZ = "ex-1-q-practice"

READABLE = 4.5
"""Least contrast of text with its ground, as WCAG 2 asks for at level AA."""

FAINT_TEXTS = """
(least) => {
  // Chromium gives computed colours as rgb(a) with 0..255 or as color(srgb ...) with 0..1.
  const parse = (text) => {
    const [r, g, b, alpha = 1] = text.match(/[\\d.]+(e-?\\d+)?/g).map(Number);
    const unit = text.startsWith("color(") ? 1 : 255;
    return { rgb: [r / unit, g / unit, b / unit], alpha };
  };
  const luminance = (rgb) => {
    const [r, g, b] = rgb.map((c) => (c <= 0.03928 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4));
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const groundBehind = (node) => {
    for (let at = node; at; at = at.parentElement) {
      const colour = parse(getComputedStyle(at).backgroundColor);
      if (colour.alpha > 0.99) return colour.rgb;
    }
    return [1, 1, 1];
  };
  const coloursOf = (node) => {
    const style = getComputedStyle(node);
    if (node.tagName !== "text") return [parse(style.color).rgb, groundBehind(node)];
    // A label has a halo in the colour of its box; any other text stands on the page.
    const ground = style.stroke === "none" ? groundBehind(node) : parse(style.stroke).rgb;
    return [parse(style.fill).rgb, ground];
  };
  const hasOwnText = (node) =>
    [...node.childNodes].some((child) => child.nodeType === Node.TEXT_NODE && child.data.trim());
  const roots = document.querySelectorAll(".course-check, .scene-root, .quiz");
  const faint = [];
  for (const node of [...roots].flatMap((root) => [...root.querySelectorAll("*")])) {
    if (!hasOwnText(node) || node.tagName === "title" || node.closest("[hidden]")) continue;
    const [bright, dark] = coloursOf(node).map(luminance).sort((a, b) => b - a);
    const contrast = (bright + 0.05) / (dark + 0.05);
    if (contrast < least) faint.push(`${node.textContent.trim()}: ${contrast.toFixed(1)}`);
  }
  return [...new Set(faint)];
}
"""

STRAY_FILLS = """
() => [...document.querySelectorAll("svg.scene [fill^='url(']")]
  .filter((box) => {
    const id = box.getAttribute("fill").slice(5, -1);
    return document.getElementById(id)?.closest("svg.scene") !== box.closest("svg.scene");
  }).length
"""


def test_all_cells_of_the_solution_run_without_an_error(solved: Any) -> None:
    errors = solved.page.locator('.jp-OutputArea-output[data-mime-type*="error"]')
    assert errors.all_text_contents() == []
    verdicts = solved.page.locator(".course-check").evaluate_all(
        "(found) => found.map((each) => [each.dataset.exercise, each.dataset.verdict])"
    )
    assert dict(verdicts) == {each.id: "passed" for each in checks.exercises(1)}
    solved.cell(MAP)
    solved.screenshot("solved-map")


def test_a_slider_moves_and_the_figure_follows(solved: Any) -> None:
    cell = solved.cell(EXPLORER)
    figure = cell.locator("svg.scene")
    assert "Reserve 4,096 tokens each" in figure.text_content()
    before = figure.inner_html()
    cell.locator(".widget-slider .noUi-handle").first.focus()
    solved.page.keyboard.press("ArrowRight")
    cell.get_by_text("Reserve 8,192 tokens each").wait_for()
    assert cell.locator("svg.scene").inner_html() != before
    solved.screenshot("solved-slider", cell)


def test_a_film_is_stepped_with_the_arrow_keys(solved: Any) -> None:
    cell = solved.cell(FILM)
    caption = cell.locator(".scene-caption")
    assert caption.text_content().startswith("Iteration 0:")
    before = cell.locator("svg.scene").inner_html()
    cell.locator(".scene-root").focus()
    solved.page.keyboard.press("ArrowRight")
    cell.get_by_text(re.compile("^Iteration 1:")).wait_for()
    assert cell.locator(".scene-counter").text_content().startswith("2 / ")
    assert cell.locator("svg.scene").inner_html() != before
    solved.page.keyboard.press("End")
    solved.screenshot("solved-film", cell)


def test_the_quiz_answers_a_choice_with_its_feedback(solved: Any) -> None:
    question = bank(1).quiz[0]
    cell = solved.cell(QUIZ)
    card = cell.locator(f'[data-question="{question.id}"]')
    wrong = next(choice for choice in question.choices if not choice.correct)
    right = next(choice for choice in question.choices if choice.correct)
    for choice, verdict in ((wrong, "Not this one. "), (right, "Right. ")):
        card.get_by_role("button", name=choice.text).click()
        feedback = card.get_by_role("status")
        assert feedback.text_content() == verdict + choice.feedback
        solved.screenshot(f"solved-quiz-{verdict.split()[0].lower()}", card)
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
    for name, cell_id in (("map", MAP), ("memory", EXPLORER), ("film", FILM), ("quiz", QUIZ)):
        solved.screenshot(f"solved-{theme.lower()}-{name}", solved.cell(cell_id))
    assert solved.page.evaluate(FAINT_TEXTS, READABLE) == []


def test_validate_says_that_the_solution_passes(solved: Any) -> None:
    verdict = solved.validate()
    solved.screenshot("solved-validated")
    assert verdict == "Success! Your notebook passes all the tests."
    solved.close_dialog()


def test_the_browser_has_nothing_to_complain_about(solved: Any) -> None:
    assert solved.errors == []

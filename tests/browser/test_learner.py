"""A learner's first half hour: lesson 1 opens, an answer is wrong, then right."""

from __future__ import annotations

from typing import Any

import pytest

pytestmark = [pytest.mark.browser, pytest.mark.xdist_group("browser")]

SETUP = "lesson-1-what-attention-costs-in-memory-2"
MAP = "lesson-1-what-attention-costs-in-memory-3"
ANSWER = "ex-1-1"
CHECK = "check-ex-1-1"

NUMBERS_PER_LAYER = "model.num_layers * model.num_kv_heads * model.head_dim * model.dtype_bytes"


def test_course_lab_leads_to_the_lesson(lesson: Any) -> None:
    heading = lesson.page.locator(".jp-MarkdownCell h1").first
    assert heading.inner_text().startswith("Lesson 1")
    assert lesson.page.locator(".Toastify__toast").count() == 0, "JupyterLab asks a question"
    lesson.screenshot("lesson-opened")


def test_a_wrong_answer_shows_its_misconception_and_the_right_one_lights_the_map(
    lesson: Any,
) -> None:
    lesson.run(SETUP)
    box = lesson.run(MAP).locator('[data-node="sizing"]')
    assert box.get_attribute("data-state") == "reference"
    lesson.screenshot("lesson-map-before", lesson.cell(MAP))

    lesson.write(ANSWER, f"return {NUMBERS_PER_LAYER}")
    lesson.run(ANSWER)
    report = lesson.run(CHECK).locator(".course-check")
    assert report.get_attribute("data-verdict") == "not yet"
    assert "K but not V" in report.inner_text()
    lesson.screenshot("lesson-wrong", lesson.cell(CHECK))

    lesson.write(ANSWER, f"return 2 * {NUMBERS_PER_LAYER}")
    lesson.run(ANSWER)
    report = lesson.run(CHECK).locator(".course-check")
    assert report.get_attribute("data-verdict") == "passed"
    lesson.screenshot("lesson-right", lesson.cell(CHECK))
    box = lesson.cell(MAP).locator('[data-node="sizing"]')
    assert box.get_attribute("data-state") == "yours"
    lesson.screenshot("lesson-map-after", lesson.cell(MAP))


def test_validate_names_the_checks_that_do_not_pass_yet(lesson: Any) -> None:
    verdict = lesson.validate()
    lesson.screenshot("lesson-validated")
    assert "check(" in verdict
    lesson.close_dialog()


def test_the_browser_has_nothing_to_complain_about(lesson: Any) -> None:
    assert lesson.errors == []

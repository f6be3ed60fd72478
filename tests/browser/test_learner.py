"""A learner's first half hour: lesson 1 opens, an answer is wrong, then right."""

from __future__ import annotations

from typing import Any

import pytest

pytestmark = [pytest.mark.browser, pytest.mark.lesson(1)]

SETUP = "from __future__ import annotations"
MAP = "viz.EngineMap("
ANSWER = "def kv_bytes_per_token("
CHECK = 'check("1.1", '

HALF_OF_IT = "model.num_layers * model.num_kv_heads * model.head_dim * model.dtype_bytes"


def test_course_lab_leads_to_the_lesson(lesson: Any) -> None:
    heading = lesson.page.locator(".jp-MarkdownCell h1").first
    assert heading.inner_text().startswith("Lesson 1")
    assert lesson.page.locator(".Toastify__toast").count() == 0, "JupyterLab asks a question"
    lesson.screenshot("lesson-opened")


def test_a_wrong_answer_shows_its_misconception_and_the_right_one_lights_the_map(
    lesson: Any,
) -> None:
    lesson.run(SETUP)
    lesson.run(MAP).locator('[data-node="sizing"][data-state="reference"]').wait_for()
    lesson.screenshot("lesson-map-before", lesson.cell(MAP))

    lesson.write(ANSWER, f"return {HALF_OF_IT}")
    lesson.run(ANSWER)
    wrong = lesson.run(CHECK).locator('.course-check[data-verdict="not yet"]')
    wrong.get_by_text("K but not V").wait_for()
    assert lesson.faint_texts() == []
    lesson.screenshot("lesson-wrong", lesson.cell(CHECK))
    lesson.picture("check", lesson.cell(CHECK))

    lesson.write(ANSWER, f"return 2 * {HALF_OF_IT}")
    lesson.run(ANSWER)
    lesson.run(CHECK).locator('.course-check[data-verdict="passed"]').wait_for()
    lesson.screenshot("lesson-right", lesson.cell(CHECK))
    lesson.cell(MAP).locator('[data-node="sizing"][data-state="yours"]').wait_for()
    lesson.screenshot("lesson-map-after", lesson.cell(MAP))
    lesson.picture("map", lesson.cell(MAP).locator("svg.scene"))


def test_validate_names_the_checks_that_do_not_pass_yet(lesson: Any) -> None:
    verdict = lesson.validate()
    lesson.screenshot("lesson-validated")
    assert 'check("1.2"' in verdict
    lesson.close_dialog()

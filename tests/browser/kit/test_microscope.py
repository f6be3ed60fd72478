"""Lesson 12's microscope in chromium: arrow keys decide, and a mark of the run opens."""

from __future__ import annotations

from typing import Any

import pytest

from course_lib.simulation.workload import synthetic_azure
from course_lib.viz import microscope
from course_lib.viz.kit.page import front_end_state

pytestmark = pytest.mark.browser


def test_an_arrow_key_is_one_decision_and_enter_on_a_mark_opens_its_iteration(kit: Any) -> None:
    figure = microscope(synthetic_azure()[:40], num_blocks=300)
    kit.mount(front_end_state(figure.get_state()))
    kit.page.locator(".scene-root").focus()
    for number in (1, 2):
        kit.page.keyboard.press("ArrowRight")
        kit.page.get_by_text(f"{number + 1} / {figure.count}", exact=True).wait_for()
        kit.page.get_by_text(figure.film[number].caption, exact=True).wait_for()
    assert kit.model("asked") == 0  # no kernel was needed

    marks = [box for box in figure.film[0].scene.rects() if box.key.startswith("cut ")]
    kit.page.locator(f"svg.scene [data-key='{marks[1].key}']").first.focus()
    kit.page.keyboard.press("Enter")
    assert marks[1].of is not None
    assert {"pick": list(marks[1].of)} in kit.sent()

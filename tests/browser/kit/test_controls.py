"""Controls in chromium: what they are called, what they ask Python for, and where they stand."""

from __future__ import annotations

from typing import Any

import pytest

from course_lib.viz import Choice, Explorer, LogSlider, PowerOfTwo, Slider, Toggle
from course_lib.viz.kit.page import front_end_state
from course_lib.viz.kit.scene import Scene
from course_lib.viz.kit.shapes import Rect, Text

pytestmark = pytest.mark.browser

NO_ANSWER = "No answer from Python"


def rate_scene(length: int, count: int, rate: float, policy: str, caching: bool) -> Scene:
    if count > 200:
        raise ValueError(f"{count} do not fit; at most 200")
    words = f"{length} x {count} at {rate:g}/s, {policy}, {'with' if caching else 'without'} cache"
    shapes = (Rect(10, 10, 2 * count, 40, "in_use", key="bar"), Text(10, 80, words, key="words"))
    return Scene(960, 100, shapes, "Load", words)


def explorer(**options: Any) -> Explorer:
    return Explorer(
        rate_scene,
        {
            "length": PowerOfTwo("Maximum length", 256, 131_072, 4096, unit="tokens"),
            "count": Slider("Sequences", 1, 256, 16),
            "rate": LogSlider("Arrival rate", 0.1, 100, 2, unit="requests/s"),
            "policy": Choice("Policy", {"First come": "fcfs", "By priority": "priority"}, "fcfs"),
            "caching": Toggle("Prefix caching", value=True),
        },
        **options,
    )


def shown(figure: Explorer) -> dict[str, Any]:
    """Return the traits that the browser gets."""
    return front_end_state(figure.get_state())


def answer(kit: Any, figure: Explorer) -> None:
    """Do as Python does with the newest request."""
    figure.set_state({"values": kit.model("values"), "asked": kit.model("asked")})
    kit.set(frames=figure.frames, message=figure.message, answered=figure.answered)


class TestNames:
    def test_the_browsers_accessibility_tree_has_names_and_values(self, kit: Any) -> None:
        kit.mount(shown(explorer()))
        session = kit.page.context.new_cdp_session(kit.page)
        nodes = session.send("Accessibility.getFullAXTree")["nodes"]
        told = {
            node["name"]["value"]: (node["role"]["value"], node.get("value", {}).get("value"))
            for node in nodes
            if node["role"]["value"] in ("slider", "combobox", "checkbox", "button")
        }
        assert told == {
            "Save the picture as SVG": ("button", None),
            "Save the picture as PNG": ("button", None),
            "Full screen (F)": ("button", None),
            "Maximum length": ("slider", 4096),
            "Sequences": ("slider", 16),
            "Arrival rate": ("slider", 2),
            "Policy": ("combobox", "First come"),
            "Prefix caching": ("checkbox", None),
        }

    def test_sliders_say_their_values_in_words_with_the_unit(self, kit: Any) -> None:
        kit.mount(shown(explorer()))
        for name, text in (
            ("Maximum length", "4,096 tokens"),
            ("Sequences", "16"),
            ("Arrival rate", "2 requests/s"),
        ):
            slider = kit.page.get_by_role("slider", name=name, exact=True)
            assert slider.get_attribute("aria-valuetext") == text
            row = kit.page.locator(".scene-control", has_text=name)
            assert row.locator(".scene-readout").inner_text() == text

    def test_choices_and_toggles_are_native(self, kit: Any) -> None:
        kit.mount(shown(explorer()))
        policy = kit.page.get_by_role("combobox", name="Policy")
        assert policy.locator("option").all_inner_texts() == ["First come", "By priority"]
        assert kit.page.get_by_role("checkbox", name="Prefix caching").is_checked()


class TestMoving:
    def test_every_control_moves_by_keyboard_and_asks_with_its_own_value(self, kit: Any) -> None:
        figure = explorer()
        kit.mount(shown(figure))
        for role, name, key in (
            ("slider", "Maximum length", "ArrowRight"),
            ("slider", "Sequences", "End"),
            ("slider", "Arrival rate", "Home"),
            ("combobox", "Policy", "ArrowDown"),
            ("checkbox", "Prefix caching", " "),
        ):
            kit.page.get_by_role(role, name=name).press(key)
        kit.set(answered=1)
        assert kit.model("values") == {
            "length": 8192,
            "count": 256,
            "rate": 0.1,
            "policy": "priority",
            "caching": False,
        }

    def test_one_request_is_under_way_and_the_newest_values_win(self, kit: Any) -> None:
        figure = explorer()
        kit.mount(shown(figure))
        slider = kit.page.get_by_role("slider", name="Sequences")
        for _ in range(5):
            slider.press("ArrowRight")
        assert (kit.model("asked"), kit.model("values")["count"]) == (1, 17)
        kit.set(values=dict(kit.model("values")))  # Python's echo of the request
        assert slider.input_value() == "21"
        kit.set(answered=1)
        assert (kit.model("asked"), kit.model("values")["count"]) == (2, 21)
        answer(kit, figure)
        kit.page.get_by_text("4096 x 21 at 2/s").wait_for()
        assert (kit.model("asked"), kit.model("answered")) == (2, 2)

    def test_the_reason_of_a_refusal_stands_in_place_of_the_picture(self, kit: Any) -> None:
        figure = explorer()
        kit.mount(shown(figure))
        slider = kit.page.get_by_role("slider", name="Sequences")
        slider.press("End")
        answer(kit, figure)
        kit.page.get_by_text("256 do not fit; at most 200").wait_for()
        assert not kit.page.locator(".scene-picture").is_visible()
        slider.press("Home")
        answer(kit, figure)
        kit.page.get_by_text("4096 x 1 at 2/s").wait_for()
        assert not kit.page.locator(".scene-message").is_visible()

    def test_python_moves_the_controls(self, kit: Any) -> None:
        figure = explorer()
        kit.mount(shown(figure))
        figure.set(count=30, policy="priority")
        kit.set(values=figure.values, frames=figure.frames)
        slider = kit.page.get_by_role("slider", name="Sequences")
        assert slider.get_attribute("aria-valuetext") == "30"
        assert kit.page.get_by_role("combobox").first.input_value() == "By priority"
        kit.page.get_by_text("4096 x 30 at 2/s, priority").wait_for()
        assert kit.model("asked") == 0

    def test_without_an_answer_the_figure_says_that_its_picture_is_old(self, kit: Any) -> None:
        figure = explorer()
        kit.mount(shown(figure))
        kit.page.get_by_role("slider", name="Sequences").press("ArrowRight")
        status = kit.page.get_by_role("status")
        status.get_by_text(NO_ANSWER).wait_for()
        assert kit.page.locator(".scene-stale svg.scene").count() == 1
        answer(kit, figure)
        kit.page.get_by_text("4096 x 17 at 2/s").wait_for()
        assert status.inner_text() == ""
        assert kit.page.locator(".scene-stale").count() == 0

    @pytest.mark.parametrize("keeps", [False, True])
    def test_a_refusal_stands_in_place_of_the_picture_or_above_the_last_one(
        self, kit: Any, keeps: bool
    ) -> None:
        figure = explorer()
        figure.keeps = keeps
        kit.mount(shown(figure))
        kit.page.get_by_text("4096 x 16 at 2/s").wait_for()
        slider = kit.page.get_by_role("slider", name="Sequences")
        slider.press("End")
        answer(kit, figure)
        kit.page.get_by_role("alert").get_by_text("256 do not fit; at most 200").wait_for()
        assert kit.page.locator(".scene-picture").is_visible() == keeps
        assert kit.page.locator(".scene-kept svg.scene").count() == keeps
        slider.press("Home")
        answer(kit, figure)
        kit.page.get_by_text("4096 x 1 at 2/s").wait_for()
        assert not kit.page.get_by_role("alert").is_visible()
        assert kit.page.locator(".scene-kept").count() == 0


class TestGrid:
    GRID = {  # noqa: RUF012 - a constant
        "length": [4096, 8192],
        "count": [1, 16, 250],
        "rate": [2.0],
        "policy": ["fcfs", "priority"],
    }

    def test_settings_of_the_grid_are_drawn_without_an_answer(self, kit: Any) -> None:
        kit.mount(shown(explorer(precompute=self.GRID)))
        kit.page.get_by_text("4096 x 16 at 2/s, fcfs, with cache").wait_for()
        kit.page.get_by_role("checkbox").press(" ")
        kit.page.get_by_text("4096 x 16 at 2/s, fcfs, without cache").wait_for()
        kit.page.get_by_role("slider", name="Maximum length").press("ArrowRight")
        kit.page.get_by_text("8192 x 16 at 2/s, fcfs, without cache").wait_for()
        assert kit.model("answered") == 0

    def test_a_setting_beside_the_grid_is_drawn_when_python_answers(self, kit: Any) -> None:
        figure = explorer(precompute=self.GRID)
        kit.mount(shown(figure))
        kit.page.get_by_role("slider", name="Sequences").press("ArrowRight")
        answer(kit, figure)
        kit.page.get_by_text("4096 x 17 at 2/s").wait_for()

    def test_without_a_kernel_the_controls_offer_the_grid_only(self, kit: Any) -> None:
        kit.mount(shown(explorer(precompute=self.GRID)) | {"standalone": True})
        slider = kit.page.get_by_role("slider", name="Sequences")
        slider.press("End")
        kit.page.get_by_text("250 do not fit; at most 200").wait_for()
        slider.press("ArrowLeft")
        kit.page.get_by_text("4096 x 16 at 2/s").wait_for()
        slider.press("ArrowLeft")
        kit.page.get_by_text("4096 x 1 at 2/s").wait_for()
        assert kit.page.get_by_role("slider", name="Arrival rate").is_disabled()
        assert kit.model("asked") == 0

    def test_without_a_kernel_and_a_grid_the_figure_says_that_it_cannot_move(
        self, kit: Any
    ) -> None:
        kit.mount(shown(explorer()) | {"standalone": True})
        assert "needs a running notebook" in kit.page.get_by_role("status").inner_text()
        assert kit.page.get_by_role("slider", name="Sequences").is_disabled()


OVERFLOW = """
const limit = document.querySelector("#figure").getBoundingClientRect().right;
return [...document.querySelectorAll(".scene-control *, .scene-tools *")]
  .filter((node) => node.getBoundingClientRect().right > limit + 0.5)
  .map((node) => node.outerHTML);
"""

OVERLAPS = """
const rows = [...document.querySelectorAll(".scene-control")];
const found = [];
for (const row of rows) {
  const parts = [...row.children].filter((each) => each.textContent || each.localName === "input");
  for (const [n, part] of parts.entries()) {
    for (const other of parts.slice(n + 1)) {
      const [a, b] = [part.getBoundingClientRect(), other.getBoundingClientRect()];
      if (a.right > b.left + 0.5 && b.right > a.left + 0.5 && a.bottom > b.top + 0.5 &&
          b.bottom > a.top + 0.5) found.push(row.textContent);
    }
  }
}
return found;
"""

SMALLEST_TEXT = """
return Math.min(...[...document.querySelectorAll(".scene-control *, .scene-tool, .scene-status")]
  .map((node) => parseFloat(getComputedStyle(node).fontSize)));
"""


def test_controls_never_leave_the_figure_nor_cover_each_other(kit: Any) -> None:
    kit.mount(shown(explorer()))
    for width in (280, 400, 533, 800, 1280, 1920):
        kit.page.set_viewport_size({"width": width, "height": 800})
        assert kit.run(OVERFLOW) == [], width
        assert kit.run(OVERLAPS) == [], width
        assert kit.run(SMALLEST_TEXT) >= 11
        columns = kit.run(
            "return getComputedStyle(document.querySelector('.scene-controls'))"
            ".gridTemplateColumns.split(' ').length"
        )
        assert columns == (1 if width < 700 else 2), width

"""How soon a figure follows its controls, in a real JupyterLab with a kernel.

Every move of a control goes to Python, which builds the picture anew, and back. Lesson 1's figure
of a GPU's memory is moved step by step by the keyboard, and dragged with the mouse. ``course bench
figures`` measures it.
"""

from __future__ import annotations

import statistics
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from autograder.bench.lab_page import Lab
from autograder.bench.times import best_round, percentile

STEPS = 40
ROUNDS = 3
"""How often everything is moved; the best round counts, since others use the machine as well."""

_CELL = "from course_lib import viz\nviz.gpu_memory()"
_PROBE = Path(__file__).with_suffix(".js").read_text(encoding="utf-8")
_SECONDS_PER_MOVE = 1 / 60
"""A mouse reports about as often as the screen is drawn."""


@dataclass(frozen=True)
class ControlReport:
    """How long the answers took in the best round: milliseconds from the event to the picture.

    Attributes:
        step_ms: One value at a time, each after the answer to the one before.
        drag_ms: Every value of a drag; those that were passed over end with the next answer.
    """

    step_ms: tuple[float, ...]
    drag_ms: tuple[float, ...]

    def __str__(self) -> str:
        return "; ".join(
            f"{name}: median {statistics.median(times):.0f} ms, 95th percentile "
            f"{percentile(times, 95):.0f} ms of {len(times)} values"
            for name, times in (("steps", self.step_ms), ("dragged", self.drag_ms))
        )


def measure_controls(lab: Lab, rounds: int = ROUNDS) -> ControlReport:
    """Move a control of a figure in JupyterLab.

    Args:
        lab: A running JupyterLab.
        rounds: How often everything is moved.

    Raises:
        CourseError: Its kernel does not answer.
    """
    with lab.opened("controls", [_CELL]) as notebook:
        notebook.run_cell(0)
        page = notebook.page
        slider = page.get_by_role("slider", name="Sequences")
        slider.wait_for()
        step_ms = best_round([_steps(page, slider) for _ in range(rounds)])
        drag_ms = best_round([_drag(page, slider) for _ in range(rounds)])
    return ControlReport(step_ms, drag_ms)


def _begin(page: Any, slider: Any) -> None:
    """Move the slider to its first value, and let the times of what follows be taken."""
    slider.press("Home")
    page.get_by_text("The sequence fits").first.wait_for()
    page.evaluate(_PROBE)


def _steps(page: Any, slider: Any) -> tuple[float, ...]:
    """Move the slider value by value, by the keyboard."""
    _begin(page, slider)
    for _ in range(STEPS):
        slider.press("ArrowRight")
        page.wait_for_function("() => controlProbe.answers()")
    return _answers(page)


def _drag(page: Any, slider: Any) -> tuple[float, ...]:
    """Drag the slider from its left to its right end with the mouse."""
    _begin(page, slider)
    box = slider.bounding_box()
    middle = box["y"] + box["height"] / 2
    page.mouse.move(box["x"] + 8, middle)
    page.mouse.down()
    for x in range(8, int(box["width"]) - 8, 2):
        start = time.perf_counter()
        page.mouse.move(box["x"] + x, middle)
        time.sleep(max(0.0, _SECONDS_PER_MOVE - (time.perf_counter() - start)))
    page.mouse.up()
    return _answers(page)


def _answers(page: Any) -> tuple[float, ...]:
    """Return the milliseconds of all answers, when the last one is there."""
    page.wait_for_function("() => controlProbe.answers()")
    times: list[float] = page.evaluate(
        "() => new Promise((tell) => setTimeout(() => tell(controlProbe.answers()), 200))"
    )
    page.evaluate("() => controlProbe.stop()")
    return tuple(times)

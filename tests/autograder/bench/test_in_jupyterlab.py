"""course bench figures in JupyterLab: figures are waited for, and controls are answered."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from autograder.bench import controls, first_pictures
from autograder.bench.controls import measure_controls
from autograder.bench.first_pictures import measure_first_pictures
from autograder.bench.lab_page import Lab, running_lab

pytestmark = pytest.mark.browser


@pytest.fixture(scope="module")
def lab(browser: Any) -> Iterator[Lab]:
    with running_lab(browser) as lab:
        yield lab


def test_every_figure_of_a_notebook_is_waited_for(
    lab: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    slow = "import time\ntime.sleep(0.4)\nviz.EngineMap(1)"
    cells = {"first": "from course_lib import viz\nviz.gpu_memory()", "slow": slow}
    monkeypatch.setattr(first_pictures, "NOTEBOOKS", (cells,))
    first, second = measure_first_pictures(lab, rounds=1)
    assert (first.figure, second.figure) == ("first", "slow")
    assert first.milliseconds > 0
    assert second.milliseconds > 400, "the time begins with the key that runs the cell"


def test_every_value_of_a_control_is_answered(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(controls, "STEPS", 4)
    report = measure_controls(lab, rounds=1)
    assert len(report.step_ms) == 4
    assert len(report.drag_ms) > 10
    assert min(report.step_ms + report.drag_ms) > 0

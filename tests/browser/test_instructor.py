"""An instructor's JupyterLab: formgrader is open, and nothing stands in the way."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from browser_lab import LAPTOP, PATIENCE, SCREENSHOTS, TOKEN, Server, running_lab

pytestmark = pytest.mark.browser

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def lab(chromium: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """`course lab --instructor` on a checkout, for somebody who has never started JupyterLab."""
    folder = tmp_path_factory.mktemp("instructor")
    root = folder / "checkout"
    (root / "lessons").mkdir(parents=True)
    shutil.copy(ROOT / "nbgrader_config.py", root)
    own = {"COURSE_ROOT": str(root), "HOME": str(folder)}
    with running_lab(folder, "--instructor", own) as server:
        yield server


def test_formgrader_is_open_without_a_question_or_a_warning(browser: Any, lab: Server) -> None:
    page = browser.new_page(viewport=LAPTOP)
    page.set_default_timeout(1000 * PATIENCE)
    page.goto(f"{lab.url}/?token={TOKEN}")
    formgrader = page.frame_locator("iframe")
    formgrader.get_by_role("heading", name="Manage Assignments").wait_for()
    page.screenshot(path=SCREENSHOTS / "formgrader.png")
    assert page.locator(".lm-TabBar-tabLabel", has_text="Formgrader").count() == 1
    assert formgrader.locator(".alert").all_inner_texts() == []
    # JupyterLab asks a while after it has started, in a corner of the window.
    page.wait_for_timeout(3000)
    assert page.locator(".jp-toast-message, .Toastify__toast, .jp-Dialog").count() == 0
    page.close()

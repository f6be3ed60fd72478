"""The final project's engine in JupyterLab: its live figure is a film when the cell is over."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import pytest

from autograder.paths import released_at
from browser_lab import LAPTOP, NotebookPage, opened, running_lab

pytestmark = [pytest.mark.browser, pytest.mark.lesson(13)]

SETUP = "from autograder.notebook import"
LIVE = "def run_three("
BLOCKS_TAKEN = "14 of 14 blocks are taken"
"""What the text beside the figure says of step 20."""


@pytest.fixture(scope="module")
def notebook(
    browser: Any, chromium: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[NotebookPage]:
    """The untouched notebook, with its first run served and drawn."""
    with running_lab(tmp_path_factory.mktemp("engine"), "engine") as server:
        path = released_at("13_engine").as_posix()
        with opened(browser, server, "/", path) as page:
            page.run(SETUP)
            page.run(LIVE)
            yield page


@pytest.fixture
def cell(notebook: NotebookPage) -> Any:
    return notebook.cell(LIVE)


def go_to(notebook: NotebookPage, cell: Any, words: str) -> None:
    """Step on from the first frame until the caption begins so."""
    caption = cell.locator(".caption-words")
    cell.locator(".scene-root").focus()
    notebook.page.keyboard.press("Home")
    count = int(cell.locator(".scene-counter").inner_text().rpartition("/")[2])
    for place in range(2, count + 1):
        if caption.inner_text().startswith(words):
            return
        notebook.page.keyboard.press("ArrowRight")
        cell.locator(".scene-counter", has_text=re.compile(f"^{place} / ")).wait_for()
    assert caption.inner_text().startswith(words)


def test_the_run_is_a_film_when_it_is_over(notebook: NotebookPage, cell: Any) -> None:
    cell.locator(".scene-bar").wait_for()
    assert cell.get_by_text("Nothing has happened yet.").count() == 0
    last = cell.locator(".scene-counter").inner_text()
    assert re.fullmatch(r"(\d+) / \1", last), "it stands at its end"
    notebook.screenshot("engine-live-end", cell)


def test_each_frame_says_which_step_it_is_and_step_20_is_as_the_text_says(
    notebook: NotebookPage, cell: Any
) -> None:
    go_to(notebook, cell, "Step 0: ")
    first = cell.locator("svg.scene").inner_html()
    go_to(notebook, cell, "Step 20: ")
    scene = cell.locator("svg.scene")
    for name in ("other-0", "other-1", "followed"):
        scene.get_by_text(name, exact=True).first.wait_for()
    assert BLOCKS_TAKEN in cell.locator(".caption-words").inner_text()
    assert cell.locator("svg.scene").inner_html() != first
    assert cell.get_by_text(re.compile("[Ii]teration")).count() == 0
    notebook.screenshot("engine-live-step-20", cell)


def test_a_narrow_window_without_the_file_browser_holds_all_of_it(
    notebook: NotebookPage, cell: Any
) -> None:
    notebook.page.set_viewport_size(LAPTOP | {"width": 800})
    notebook.page.keyboard.press("Control+B")
    cell.locator("svg.scene").scroll_into_view_if_needed()
    box = cell.locator("svg.scene").bounding_box()
    assert box["x"] >= 0
    assert box["x"] + box["width"] <= 800
    assert notebook.faint_texts() == []
    notebook.screenshot("engine-live-narrow", cell)
    notebook.page.keyboard.press("Control+B")
    notebook.page.set_viewport_size(LAPTOP)

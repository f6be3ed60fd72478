"""The playground in JupyterLab: it answers, compares, refuses in words, and can be read."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import pytest

from autograder.build.notebooks import OPEN
from autograder.paths import released_at
from browser_lab import LAPTOP, NotebookPage, opened, running_lab

pytestmark = [pytest.mark.browser, pytest.mark.lesson(16)]

DASHBOARD = "viz.Playground()"
SWEEP = "playground.sweep("
TROUBLE = ("error", "stderr")


@pytest.fixture(scope="module")
def notebook(
    browser: Any, chromium: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[NotebookPage]:
    """The playground, all cells run, with two CSV files beside it: one of them is damaged."""
    (slug,) = OPEN
    with running_lab(tmp_path_factory.mktemp("playground"), "playground") as server:
        path = released_at(slug).as_posix()
        folder = (server.workspace / path).parent
        head = "arrival_time,prompt_tokens,output_tokens\n"
        rows = "".join(f"{n / 4},{200 + n},{20 + n % 7}\n" for n in range(60))
        (folder / "damaged.csv").write_text(f"{head}0,374,44\n1,twelve,9\n", encoding="utf-8")
        (folder / "mine.csv").write_text(head + rows, encoding="utf-8")
        with opened(browser, server, "/", path) as page:
            page.run_all()
            yield page


@pytest.fixture
def cell(notebook: NotebookPage) -> Any:
    return notebook.cell(DASHBOARD)


def told(cell: Any, words: str) -> None:
    """Wait until the picture says something."""
    cell.locator("svg.scene").get_by_text(re.compile(words)).first.wait_for()


def test_all_cells_run_without_an_error(notebook: NotebookPage) -> None:
    kinds = ", ".join(f'[data-mime-type="application/vnd.jupyter.{kind}"]' for kind in TROUBLE)
    assert notebook.page.locator(kinds).all_text_contents() == []


def test_a_control_moves_by_key_and_the_picture_follows(notebook: NotebookPage, cell: Any) -> None:
    told(cell, "^Who did what")
    before = cell.locator("svg.scene").inner_html()
    slider = cell.get_by_role("slider", name="KV pool")
    slider.press("ArrowLeft")
    assert slider.get_attribute("aria-valuetext") == "5 % of fit"
    notebook.page.wait_for_function(
        "([shown, before]) => shown.innerHTML !== before",
        arg=[cell.locator("svg.scene").element_handle(), before],
    )
    notebook.screenshot("playground-one", cell)


def test_two_set_ups_are_drawn_on_one_axis(notebook: NotebookPage, cell: Any) -> None:
    cell.get_by_role("checkbox", name="Keep to compare").check()
    told(cell, "Both are the same so far")
    cell.get_by_role("combobox", name="Policy").select_option("sjf")
    told(cell, "Policy: kept fcfs, now sjf")
    told(cell, "Who did what, kept")
    notebook.screenshot("playground-two", cell)
    cell.get_by_role("checkbox", name="Keep to compare").uncheck()


def test_what_cannot_be_is_said_in_words_and_the_last_picture_stays(
    notebook: NotebookPage, cell: Any
) -> None:
    chosen = cell.get_by_role("combobox", name="Workload")
    chosen.select_option("your file damaged.csv")
    alert = cell.get_by_role("alert")
    alert.get_by_text("line 3: prompt_tokens is 'twelve'; it must be a whole number").wait_for()
    assert cell.locator(".scene-kept svg.scene").is_visible()
    notebook.screenshot("playground-refused", cell)
    chosen.select_option("your file mine.csv")
    told(cell, "Your file mine.csv")
    assert not alert.is_visible()
    assert cell.locator(".scene-kept").count() == 0


def test_the_sweep_has_run(notebook: NotebookPage) -> None:
    cell = notebook.cell(SWEEP)
    cell.locator(".caption-words").get_by_text("6 of 6 simulated.").wait_for()
    notebook.screenshot("playground-sweep", cell)


@pytest.mark.parametrize("width", [800, 1280])
@pytest.mark.parametrize("theme", ["Light", "Dark"])
def test_it_can_be_read(notebook: NotebookPage, cell: Any, width: int, theme: str) -> None:
    page = notebook.page
    page.set_viewport_size(LAPTOP | {"width": width})
    is_light = str(theme == "Light").lower()
    body = f'body[data-jp-theme-light="{is_light}"]'
    if page.locator(body).count() == 0:
        notebook.choose("Settings", "Theme", f"JupyterLab {theme}")
    page.wait_for_selector(body, state="attached")
    output = cell.locator(".jp-OutputArea-output").first.bounding_box()
    for control in cell.locator(".scene-control input, .scene-control select").all():
        control.scroll_into_view_if_needed()
        box = control.bounding_box()
        assert output["x"] <= box["x"]
        assert box["x"] + box["width"] <= output["x"] + output["width"]
    notebook.screenshot(f"playground-{theme.lower()}-{width}", cell)
    assert notebook.faint_texts() == []
    cell.locator("svg.scene").last.evaluate("scene => scene.scrollIntoView({block: 'end'})")
    page.wait_for_timeout(300)  # what sticks follows with the next frame
    panel = cell.locator(".scene-panel").bounding_box()
    assert panel["y"] + panel["height"] <= 0.6 * LAPTOP["height"], "it covers the picture"
    page.set_viewport_size(LAPTOP)

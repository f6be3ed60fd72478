"""Exported notebooks: which outputs are replaced, and what a plain export shows."""

from __future__ import annotations

import copy
import json
import re
from typing import Any

import nbformat
import pytest
from nbclient import NotebookClient
from nbconvert import HTMLExporter

from course_lib.viz.kit.exported_notebook import SelfContainedWidgets

VIEW = "application/vnd.jupyter.widget-view+json"

CELLS = (
    """
import ipywidgets
from course_lib.viz import Explorer, Picture, Slider
from course_lib.viz.kit.scene import Scene

def build(count):
    return Scene(400, 100, (), "Blocks", f"There are {count} <blocks>.")
""",
    'Explorer(build, {"count": Slider("Count", 0, 9, 4)}, precompute=True)',
    "Picture(build(7))",
    "ipywidgets.IntSlider()",
)


@pytest.fixture(scope="module")
def executed() -> Any:
    """A notebook with two figures and a slider of ipywidgets that has run."""
    notebook = nbformat.v4.new_notebook(
        cells=[nbformat.v4.new_code_cell(source) for source in CELLS],
        metadata={"kernelspec": {"name": "python3", "display_name": "Python 3"}},
    )
    NotebookClient(notebook, store_widget_state=True).execute()
    return notebook


def widgets_in(html: str) -> list[Any]:
    return [
        json.loads(text)
        for text in re.findall(r'<script type="application/json">(.*?)</script>', html, re.DOTALL)
    ]


def test_figures_are_replaced_with_their_state_and_share_one_front_end(executed: Any) -> None:
    notebook, _ = SelfContainedWidgets()(copy.deepcopy(executed), {})
    outputs = [cell.outputs[0].data for cell in notebook.cells[1:]]
    assert [VIEW in data for data in outputs] == [False, False, True]
    explorer, picture = (widgets_in(data["text/html"])[0] for data in outputs[:2])
    assert explorer["esm"] == picture["esm"] == "scene-esm-0"
    assert explorer["state"]["values"] == {"count": 4}
    assert set(explorer["state"]["grid"]["chunks"][0]) == {"$bytes"}
    assert picture["state"]["frames"][0]["scene"]["alt"] == "There are 7 <blocks>."
    page = "".join(data["text/html"] for data in outputs[:2])
    assert page.count('id="scene-esm-0"') == page.count('type="module"') == 1


def test_the_widget_state_stays_for_other_widgets_only(executed: Any) -> None:
    notebook, _ = SelfContainedWidgets()(copy.deepcopy(executed), {})
    assert "widgets" in notebook.metadata
    alone = copy.deepcopy(executed)
    del alone.cells[3]
    notebook, _ = SelfContainedWidgets()(alone, {})
    assert "widgets" not in notebook.metadata


def test_without_saved_state_nothing_is_replaced(executed: Any) -> None:
    stateless = copy.deepcopy(executed)
    del stateless.metadata["widgets"]
    notebook, _ = SelfContainedWidgets()(copy.deepcopy(stateless), {})
    assert notebook == stateless


def test_a_plain_export_without_state_shows_pictures_with_descriptions(executed: Any) -> None:
    stateless = copy.deepcopy(executed)
    del stateless.metadata["widgets"]
    del stateless.cells[3]
    html, _ = HTMLExporter().from_notebook_node(stateless)
    assert html.count('alt="Blocks. There are 4 &lt;blocks&gt;."') == 1
    assert html.count('alt="Blocks. There are 7 &lt;blocks&gt;."') == 1
    assert "No description has been provided" not in html

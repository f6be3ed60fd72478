"""A notebook exported as HTML, opened from a file in a browser without a network."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nbformat
import pytest
from nbclient import NotebookClient

pytestmark = pytest.mark.browser

ROOT = Path(__file__).parents[3]

CELLS = (
    """
from course_lib.viz import Explorer, Frame, Player, Quiz, Slider
from course_lib.viz.kit.scene import Scene
from course_lib.viz.kit.shapes import Text

def build(count):
    return Scene(400, 100, (Text(10, 80, f"{count} blocks"),), "Blocks", f"There are {count}.")
""",
    """
Explorer(build, {"count": Slider("Count", 0, 90, 40)}, precompute={"count": range(0, 91, 10)})
""",
    'Explorer(build, {"count": Slider("Fixed", 0, 90, 40)})',
    'Player([Frame(build(count), f"step {count}") for count in range(130)])',
    """
yes = {"text": "yes", "correct": True, "feedback": "Two is less."}
no = {"text": "no", "correct": False, "feedback": "It is."}
Quiz([{"id": "q", "prompt": "2 < 3?", "choices": [yes, no]}])
""",
)


@pytest.fixture(scope="module")
def notebook(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A notebook with figures and a quiz that has run, with its widget state."""
    notebook = nbformat.v4.new_notebook(
        cells=[nbformat.v4.new_code_cell(source) for source in CELLS],
        metadata={"kernelspec": {"name": "python3", "display_name": "Python 3"}},
    )
    NotebookClient(notebook, store_widget_state=True).execute()
    return notebook


@pytest.fixture
def installed_settings(tmp_path: Path) -> Path:
    """A folder with the settings that are installed with the course for Jupyter's programs."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    folder = tmp_path / "settings"
    folder.mkdir()
    for path in project["tool"]["setuptools"]["data-files"]["etc/jupyter"]:
        shutil.copy(ROOT / path, folder)
    return folder


def exported(notebook: Any, folder: Path, settings: Path) -> Path:
    """Export as a reader does, by nbconvert's own command and without a word about figures."""
    path = folder / "notebook.ipynb"
    nbformat.write(notebook, path)
    subprocess.run(
        [sys.executable, "-m", "nbconvert", "--to", "html", str(path)],
        env={**os.environ, "JUPYTER_CONFIG_PATH": str(settings), "HOME": str(folder)},
        cwd=folder,
        check=True,
        capture_output=True,
    )
    return path.with_suffix(".html")


def test_an_exported_notebook_moves_or_says_that_it_cannot(
    open_page: Callable[..., Any], tmp_path: Path, notebook: Any, installed_settings: Path
) -> None:
    page = open_page(exported(notebook, tmp_path, installed_settings))
    count = page.get_by_role("slider", name="Count")
    count.press("End")
    page.get_by_text("90 blocks").wait_for()
    count.press("ArrowLeft")
    page.get_by_text("80 blocks").wait_for()
    assert page.get_by_role("slider", name="Fixed").is_disabled()
    assert page.get_by_text("moving the controls needs a running notebook").count() == 1
    page.get_by_role("slider", name="Step").press("End")
    page.get_by_text("step 129", exact=True).wait_for()
    page.locator(".quiz-choice", has_text="no").click()
    page.get_by_text("Not this one. It is.").wait_for()

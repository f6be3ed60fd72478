"""Lesson 1 in JupyterLab: as a learner meets it, and solved."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import nbformat
import pytest

from autograder.build import notebooks as building
from browser_lab import NotebookPage, Server, opened, running_lab


@pytest.fixture(scope="module")
def server(chromium: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """JupyterLab from `course lab 1`.

    One for each file of tests: parts that pass in one would be there already in the next.
    """
    with running_lab(tmp_path_factory.mktemp("browser"), "1") as server:
        yield server


@pytest.fixture(scope="module")
def lesson(browser: Any, server: Server) -> Iterator[NotebookPage]:
    """Lesson 1 as a learner meets it: what the server's address leads to."""
    slug = building.sources()[0].stem
    with opened(browser, server, "/", f"{slug}/{slug}.ipynb") as notebook:
        yield notebook


@pytest.fixture(scope="module")
def solved(browser: Any, server: Server) -> Iterator[NotebookPage]:
    """The solution notebook of lesson 1, all cells run."""
    source = building.sources()[0]
    path = f"solved/{source.stem}.ipynb"
    (server.workspace / path).parent.mkdir()
    nbformat.write(building.solution_notebook(source), server.workspace / path)
    # A JupyterLab workspace of its own, so that the tabs of one page do not open in the other.
    with opened(browser, server, f"/lab/workspaces/solved/tree/{path}", path) as notebook:
        notebook.run_all()
        yield notebook

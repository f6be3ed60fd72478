"""A small released lesson, and hand-ins of it."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from autograder.sealed.box.warm import Zygote
from autograder.sealed.release import Release, load_release
from autograder.sealed.stubs import make_tree

LESSON = "01_small"
FIRST_LESSON = next((Path(__file__).parents[3] / "lessons").glob("01_*/*.ipynb"))
STUB = "# YOUR CODE HERE"


def cell(cell_id: str, source: str, kind: str = "code", **roles: Any) -> dict[str, Any]:
    metadata: dict[str, Any] = {}
    if roles:
        metadata["nbgrader"] = {
            "grade": False,
            "grade_id": cell_id,
            "locked": False,
            "schema_version": 3,
            "solution": False,
            "task": False,
            **roles,
        }
    code = {"outputs": [], "execution_count": None} if kind == "code" else {}
    return {"cell_type": kind, "id": cell_id, "metadata": metadata, "source": source, **code}


def small_cells() -> list[dict[str, Any]]:
    cells = [cell("setup", "import math\nfrom autograder.notebook import check")]
    for name, points in (("double", 10), ("half", 5)):
        cells += [
            cell(f"ask-{name}", f"Write {name}.", "markdown"),
            cell(f"ex-{name}", f'def {name}(x):\n    """Return it."""\n    {STUB}', solution=True),
            cell(
                f"check-{name}",
                f'check("1.{name}", {name})',
                grade=True,
                locked=True,
                points=points,
            ),
        ]
    return [*cells, cell("text", "*Here.*", "markdown", grade=True, solution=True, points=5)]


def notebook(cells: list[dict[str, Any]], **fields: Any) -> dict[str, Any]:
    return {"cells": cells, "metadata": {}, "nbformat": 4, "nbformat_minor": 5, **fields}


@pytest.fixture
def release(tmp_path: Path) -> Release:
    """The lesson: ``double`` for 10 points, ``half`` for 5, a text for 5."""
    folder = tmp_path / "lessons" / LESSON
    folder.mkdir(parents=True)
    path = folder / f"{LESSON}.ipynb"
    path.write_text(json.dumps(notebook(small_cells())))
    return load_release(path)


@pytest.fixture
def answered() -> list[dict[str, Any]]:
    """The cells of an honest submission."""
    cells = small_cells()
    cells[2]["source"] = "def double(x):\n    return 2 * x"
    cells[5]["source"] = "def half(x):\n    return x / 2"
    cells[7]["source"] = "Because."
    return cells


@pytest.fixture
def submitted(tmp_path: Path) -> Path:
    folder = tmp_path / "submitted"
    folder.mkdir()
    return folder


@pytest.fixture
def hand_in(submitted: Path) -> Callable[..., Path]:
    """Write bytes, or the JSON of a notebook with these cells, to where a hand-in belongs."""

    def write(content: bytes | list[dict[str, Any]], student: str = "ada", **fields: Any) -> Path:
        path = submitted / student / LESSON / f"{LESSON}.ipynb"
        path.parent.mkdir(parents=True, exist_ok=True)
        is_raw = isinstance(content, bytes)
        raw = content if is_raw else json.dumps(notebook(content, **fields)).encode()
        path.write_bytes(raw)
        return path

    return write


@pytest.fixture(scope="session")
def boxes() -> None:
    """Skip the test where there are no boxes."""
    if shutil.which("bwrap") is None:
        pytest.skip("bubblewrap is not installed")
    command = ["bwrap", "--unshare-user", "--unshare-pid", "--ro-bind", "/", "/", "true"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        pytest.skip(f"bubblewrap makes no boxes here: {done.stderr}")


@pytest.fixture(scope="session")
def two_exercises(tmp_path_factory: pytest.TempPathFactory) -> Release:
    """The first two exercises of lesson 1, its quiz and a text, and no more."""
    document = json.loads(FIRST_LESSON.read_text("utf-8"))
    kept = {"ex-1-1", "check-ex-1-1", "ex-1-2", "check-ex-1-2", "ex-1-q", "check-ex-1-q"}
    kept.add("answer-1-6")
    setup = (
        "from autograder.notebook import check\n"
        "from course_lib.kv_cache import kv_bytes_per_block\n"
        "from course_lib.specs import GPUS, MODELS, GPUSpec, ModelSpec"
    )
    graded = [
        each
        for each in document["cells"]
        if each["metadata"].get("nbgrader", {}).get("grade_id") in kept
    ]
    path = tmp_path_factory.mktemp("two") / "01_two" / "01_two.ipynb"
    path.parent.mkdir()
    path.write_text(json.dumps(notebook([cell("setup", setup), *graded])))
    return load_release(path)


@pytest.fixture(scope="session")
def zygote_of_two(
    boxes: None, two_exercises: Release, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Zygote]:
    """What its boxes are forked from."""
    tree = tmp_path_factory.mktemp("tree")
    make_tree(two_exercises, tree)
    with Zygote(tree, ["autograder.notebook", "course_lib.kv_cache"]) as zygote:
        yield zygote

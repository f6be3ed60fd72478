"""A small released lesson, and hand-ins of it."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
import typer.testing
from typer.main import get_command
from typer.testing import CliRunner

from autograder import cli
from autograder.checks.exercise import Exercise
from autograder.errors import CourseError
from autograder.grading import batch as entering
from autograder.sealed import batch as batches
from autograder.sealed import judges as judge_processes
from autograder.sealed import judging
from autograder.sealed.batch import Batch
from autograder.sealed.box import protections
from autograder.sealed.box.warm import Zygote
from autograder.sealed.gradebook import COURSE
from autograder.sealed.oracle import Oracle
from autograder.sealed.release import Release, load_release
from autograder.sealed.store import Store
from autograder.sealed.stubs import make_tree
from autograder.sealed.verdict import Verdict
from standing_judges import Judges, known_submissions
from two_answers import CASES, LIMITS, RIGHT, SECRET, submission
from unharmed import EVERYWHERE, digest, lines_that_write, survivors

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


@pytest.fixture
def short_limits(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let a cell, and a call, take a second: what goes on without end is waited out.

    A busy machine makes nobody late: it is the box's own computing that counts.
    """
    monkeypatch.setattr(judging, "ANSWER_SECONDS", 1.0)
    monkeypatch.setattr(Exercise, "patience", 1.0)


@pytest.fixture
def of_neighbour(two_exercises: Release, zygote_of_two: Zygote) -> Callable[[], list[Verdict]]:
    """Judge a neighbour, of whom nothing is remembered."""
    theirs = submission(two_exercises, {"ex-1-1": RIGHT})

    def judged() -> list[Verdict]:
        oracle = Oracle(two_exercises, zygote_of_two, SECRET, LIMITS, max_examples=CASES)
        return list(oracle.judge(theirs))

    return judged


@pytest.fixture(scope="session")
def kept() -> dict[str, list[Verdict]]:
    """What the verdicts on a neighbour were at first."""
    return {}


@pytest.fixture
def tries_to_write(
    zygote_of_two: Zygote,
    of_neighbour: Callable[[], list[Verdict]],
    kept: dict[str, list[Verdict]],
    tmp_path: Path,
) -> Iterator[str]:
    """Give lines with which a cell writes wherever it can; then look at the three invariants."""
    tmp_path.chmod(0o777)
    before = kept.setdefault("neighbour", of_neighbour())
    tree = zygote_of_two._readable[0]
    left, course = f"left-{uuid4()}", digest(tree)
    places = [*EVERYWHERE, *map(str, (tree, tmp_path, FIRST_LESSON.parents[2], Path.home()))]
    yield lines_that_write(left, places)
    assert survivors() == []
    assert of_neighbour() == before
    assert digest(tree) == course
    assert not any(Path(place, left).exists() for place in places)


@pytest.fixture
def judges() -> Judges:
    return Judges()


@pytest.fixture
def make_batch(
    tmp_path: Path,
    release: Release,
    submitted: Path,
    answered: list[dict[str, Any]],
    hand_in: Callable[..., Path],
    monkeypatch: pytest.MonkeyPatch,
) -> Callable[[], Batch]:
    """A class: ada is right, bob did half of it, =eve copied from ada, zoe's file is none."""
    monkeypatch.setenv("COURSE_ROOT", str(tmp_path))
    hand_in(answered, "ada")
    hand_in(answered, "=eve")
    answered[5]["source"] = "def half(x):\n    print(x / 2)"
    hand_in(answered, "bob")
    hand_in(b"not JSON", "zoe")

    monkeypatch.setattr(batches, "canaries", known_submissions)
    return lambda: Batch(release.lesson, submitted, Store(tmp_path / "sealed"))


@cache
def command_line() -> Any:
    """Return what runs when somebody writes ``course``."""
    return get_command(cli.app)


@pytest.fixture
def course(
    make_batch: Callable[[], Batch],
    judges: Judges,
    submitted: Path,
    fresh: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> Callable[..., tuple[int, str]]:
    """Run ``course grade`` on the class; return the exit code and what it prints.

    The lesson has no source: what enters it into the gradebook brings one that knows it.
    """
    monkeypatch.setattr(
        entering, "enter_lesson", lambda lesson: shutil.copy(fresh, tmp_path / "gradebook.db")
    )
    monkeypatch.setattr(judge_processes, "one_by_one", judges)
    # It would be made anew for each run, which takes a third of the time.
    monkeypatch.setattr(typer.testing, "_get_command", lambda app: command_line())
    monkeypatch.setattr(protections, "protections", list)

    def run(*options: str, lesson: str = LESSON) -> tuple[int, str]:
        folders = ["--submitted", str(submitted), "--results", str(tmp_path / "sealed")]
        done = CliRunner().invoke(cli.app, ["grade", lesson, *folders, *options])
        error = done.exception if isinstance(done.exception, CourseError) else ""
        return done.exit_code, f"{done.output}{error}"

    return run


@pytest.fixture(scope="session")
def fresh(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A gradebook that knows the lesson; to make one takes seconds."""
    from nbgrader.api import Gradebook

    path = tmp_path_factory.mktemp("fresh") / "gradebook.db"
    with Gradebook(f"sqlite:///{path}", COURSE) as gradebook:
        gradebook.add_assignment(LESSON)
        gradebook.add_notebook(LESSON, LESSON)
        cells = [("check-double", 10, "code"), ("check-half", 5, "code"), ("text", 5, "markdown")]
        for name, points, kind in cells:
            gradebook.add_grade_cell(name, LESSON, LESSON, max_score=points, cell_type=kind)
    return path


@pytest.fixture
def database(fresh: Path, tmp_path: Path) -> Path:
    """A copy of it."""
    return Path(shutil.copy(fresh, tmp_path / "gradebook.db"))

"""Honest submissions that are damaged: the honest score, or something that a person sees.

One course grades them all. The lesson has exercise 1.1 for 10 points, ``b()`` for 5, and a text.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nbformat
import pytest
from nbformat import NotebookNode
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook

from nbgrader_course import Course

ROOT = Path(__file__).parents[2]
RIGHT = """def kv_bytes_per_token(model):
    return 2 * model.num_layers * model.num_kv_heads * model.head_dim * model.dtype_bytes"""
AS_RELEASED = "kv_bytes_per_token = None\n# YOUR CODE HERE"
ENDLESS = "while True:\n    pass"
FULL = {"check-a": 10, "check-b": 5, "text": 0}
ANSWER_SECONDS = 4
LIMIT = 60

Change = Callable[[NotebookNode], None]


def cells(roles: Callable[..., dict[str, Any]]) -> list[NotebookNode]:
    marked = {"grade": True, "locked": True}
    stub = "### BEGIN SOLUTION\n### END SOLUTION"
    return [
        new_markdown_cell("# Damaged", id="title"),
        new_code_cell("from autograder.notebook import check\nfive = 5", id="imports"),
        new_code_cell(
            f"kv_bytes_per_token = None\n{stub}", id="a", metadata=roles("a", solution=True)
        ),
        new_code_cell(
            'check("1.1", kv_bytes_per_token)',
            id="check-a",
            metadata=roles("check-a", points=10, **marked),
        ),
        new_code_cell(f"b = None\n{stub}", id="b", metadata=roles("b", solution=True)),
        new_code_cell(
            "five * (b() == 'b')", id="check-b", metadata=roles("check-b", points=5, **marked)
        ),
        new_markdown_cell(
            "Because.", id="text", metadata=roles("text", grade=True, solution=True, points=3)
        ),
        new_markdown_cell("The end.", id="end"),
    ]  # fmt: skip


def by_id(notebook: NotebookNode, cell_id: str) -> NotebookNode:
    return next(cell for cell in notebook.cells if cell.id == cell_id)


def put(notebook: NotebookNode, cell: NotebookNode, below: str) -> None:
    notebook.cells.insert(notebook.cells.index(by_id(notebook, below)) + 1, cell)


def without_metadata(notebook: NotebookNode) -> None:
    for cell in notebook.cells:
        cell.metadata = NotebookNode()


def without_ids(notebook: NotebookNode) -> None:
    without_metadata(notebook)
    for number, cell in enumerate(notebook.cells):
        cell.id = f"other-{number}"


def unrecognisable(notebook: NotebookNode) -> None:
    without_ids(notebook)
    notebook.cells[2].source = "from mine import *"


def as_text(cell_type: str, more: str = "") -> Change:
    def change(notebook: NotebookNode) -> None:
        cell = by_id(notebook, "a")
        cell.cell_type = cell_type
        cell.source += more
        del cell["outputs"], cell["execution_count"]
        if more:
            cell.attachments = {"plot.png": {"image/png": "aGVsbG8="}}

    return change


def picture_in_code(notebook: NotebookNode) -> None:
    """A tool changed the type, and left what only the other type may have."""
    by_id(notebook, "a").attachments = {"plot.png": {"image/png": "aGVsbG8="}}


def text_below(notebook: NotebookNode) -> None:
    put(notebook, new_markdown_cell("Blocks may lie anywhere.", id="mine"), "text")


def no_imports(notebook: NotebookNode) -> None:
    notebook.cells.remove(by_id(notebook, "imports"))


def variable_called_check(notebook: NotebookNode) -> None:
    put(notebook, new_code_cell("check = 'a variable of mine'", id="mine"), "a")
    # It is still theirs.
    by_id(notebook, "b").source = "def b():\n    return 'b' if check.endswith('mine') else ''"


def answer(source: str) -> Change:
    def change(notebook: NotebookNode) -> None:
        by_id(notebook, "a").source = source

    return change


def written_into_its_check(notebook: NotebookNode) -> None:
    answer, check = by_id(notebook, "a"), by_id(notebook, "check-a")
    check.source = f"{answer.source}\n{check.source}"
    answer.source = AS_RELEASED


def nothing_written(source: str) -> Change:
    def change(notebook: NotebookNode) -> None:
        by_id(notebook, "a").source = source
        by_id(notebook, "imports").source += "\nfrom course_lib import parts"

    return change


def as_it_is(notebook: NotebookNode) -> None:
    pass


IMPORT = "from course_lib.kv_cache import kv_bytes_per_token"
DAMAGED: dict[str, tuple[Change, dict[str, float | None]]] = {
    "honest": (as_it_is, FULL),
    "without metadata and ids": (without_ids, FULL),
    "code made raw": (as_text("raw"), FULL),
    "code with a picture": (as_text("markdown", "\n![a](attachment:plot.png)"), FULL),
    "picture in code": (picture_in_code, FULL),
    "text below its cell": (text_below, {**FULL, "text": None}),
    "imports deleted": (no_imports, FULL),
    "an answer in its check": (written_into_its_check, FULL),
    "a variable called check": (variable_called_check, FULL),
    "an import and nothing else": (nothing_written(IMPORT), {**FULL, "check-a": 0}),
    "an endless loop behind": (answer(f"{RIGHT}\n{ENDLESS}"), {**FULL, "check-a": 0}),
}  # fmt: skip
LOST = "unrecognisable"


@pytest.fixture(scope="module")
def course(tmp_path_factory: pytest.TempPathFactory) -> Course:
    """A course that has released the lesson, with nothing handed in."""
    from autograder.grading.rules import ExecuteOnNewKernels

    root = tmp_path_factory.mktemp("damaged")
    shutil.copy(ROOT / "nbgrader_config.py", root)
    released = Course(root, "damaged", timeout=LIMIT)
    released.api.config.ExecuteOnNewKernels.answer_timeout = ANSWER_SECONDS
    assert ExecuteOnNewKernels.answer_timeout.default_value < 30, "an endless loop ends in seconds"
    kernel = {"name": "python3", "display_name": "Python 3", "language": "python"}

    def roles(grade_id: str, **others: Any) -> dict[str, Any]:
        plain = {"grade": False, "solution": False, "locked": False, "task": False}
        return {"nbgrader": {"grade_id": grade_id, "schema_version": 3, **plain, **others}}

    released.release(new_notebook(cells=cells(roles), metadata={"kernelspec": kernel}))
    return released


def honest(course: Course) -> NotebookNode:
    """Everything right, but for the text, which is not written."""
    notebook = course.released
    by_id(notebook, "a").source = RIGHT
    by_id(notebook, "b").source = "def b():\n    return 'b'"
    return notebook


def write(path: Path, content: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)


@pytest.fixture(scope="module")
def graded(course: Course) -> Any:
    """What nbgrader said when it graded all of them at once."""
    for student, (change, _) in DAMAGED.items():
        notebook = honest(course)
        change(notebook)
        # Not as ``submit`` does: what is handed in may break the format.
        write(course.submission(student), nbformat.writes(notebook).encode())
    for student, (encoding, moment, leave) in ARRIVED.items():
        path = course.submission(student)
        write(path, nbformat.writes(honest(course)).encode(encoding))
        write(path.with_name("timestamp.txt"), moment)
        leave(course, course.root / "grading" / "autograded" / student / course.assignment)
    lost = honest(course)
    unrecognisable(lost)
    course.submit(LOST, lost)
    return course.grade_the_rest()


def only_a_folder(course: Course, folder: Path) -> None:
    write(folder / "timestamp.txt", b"2026-11-20 18:00:00 UTC")


def only_the_sanitized_notebook(course: Course, folder: Path) -> None:
    write(folder / f"{course.assignment}.ipynb", nbformat.writes(honest(course)).encode())


def half_a_file(course: Course, folder: Path) -> None:
    write(folder / f"{course.assignment}.ipynb", nbformat.writes(honest(course)).encode()[:700])


ARRIVED = {
    "a mark, no time, killed before the notebook": ("utf-8-sig", b"", only_a_folder),
    "UTF-16, an odd time, killed before it was run": (
        "utf-16",
        b"yesterday",
        only_the_sanitized_notebook,
    ),
    "UTF-16 without a mark, a marked time, killed while it was written": (
        "utf-16-le",
        b"\xef\xbb\xbf2026-11-20 18:00:00",
        half_a_file,
    ),
}


@pytest.mark.parametrize(("student", "points"), [(name, case[1]) for name, case in DAMAGED.items()])
def test_a_damaged_submission_earns_what_it_is_worth(
    course: Course, graded: Any, student: str, points: dict[str, float | None]
) -> None:
    assert course.points(student) == points


@pytest.mark.parametrize("student", ARRIVED)
def test_how_it_came_costs_nothing(course: Course, graded: Any, student: str) -> None:
    assert course.points(student) == FULL


def test_what_cannot_be_recognised_is_named_and_nobody_else_is_concerned(
    course: Course, graded: Any
) -> None:
    assert not graded["success"]
    assert f"for student '{LOST}'" in graded["log"]
    assert (
        "lost the marks by which nbgrader knows them, and no answer was found for a"
        in graded["log"]
    )
    assert graded["log"].count("There was an error processing assignment '") == 1
    assert not (course.root / "grading" / "autograded" / LOST / "damaged").exists()


def test_what_was_put_right_stands_in_the_log(graded: Any) -> None:
    for note in (
        "code made raw, damaged: cell a was turned into raw",
        "imports deleted, damaged: cell imports was deleted and is put back",
        "text below its cell, damaged: cell text was answered in a cell beside it",
        "timestamp.txt: it holds 'yesterday', which is no time",
    ):
        assert note in graded["log"]


def test_a_borrowed_answer_is_refused_with_a_sentence(course: Course, graded: Any) -> None:
    notebook = course.autograded("an import and nothing else")
    assert "the course's own answer, or calls it, so it earns nothing" in notebook


def test_a_time_that_is_none_does_not_hide_the_class(course: Course, graded: Any) -> None:
    listed = {each["student"]: each["timestamp"] for each in course.api.get_submissions("damaged")}
    assert listed.keys() >= {*DAMAGED, *ARRIVED}
    assert [listed[student] for student in ARRIVED] == [None, None, "2026-11-20T18:00:00"]


def test_a_text_beside_its_cell_is_shown_to_who_marks_it(course: Course, graded: Any) -> None:
    notebook = nbformat.reads(course.autograded("text below its cell"), 4)
    assert by_id(notebook, "text").source == "Blocks may lie anywhere."


def test_what_is_graded_is_not_graded_again(course: Course, graded: Any) -> None:
    path = course.root / "grading" / "autograded" / "honest" / course.assignment / "damaged.ipynb"
    before = path.stat().st_mtime_ns
    assert course.grade_the_rest("honest")["success"]
    assert path.stat().st_mtime_ns == before


def test_an_autograding_that_is_killed_is_taken_up_again(course: Course, graded: Any) -> None:
    notebook = honest(course)
    by_id(notebook, "imports").source += "\nimport time\ntime.sleep(3)"
    course.submit("kim", notebook)
    command = [sys.executable, "-m", "nbgrader", "autograde", course.assignment, "--student", "kim"]
    process = subprocess.Popen(
        command,
        cwd=course.root,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    half = course.root / "grading" / "autograded" / "kim" / course.assignment / "damaged.ipynb"
    deadline = time.monotonic() + 60
    while not half.exists() and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.05)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    assert half.exists()
    by_id(notebook, "imports").source = "from autograder.notebook import check\nfive = 5"
    course.submit("kim", notebook)
    assert course.grade_the_rest("kim")["success"]
    assert course.points("kim") == FULL

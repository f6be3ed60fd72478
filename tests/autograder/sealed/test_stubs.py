"""The course as the box has it: it works, and there is nothing in it to borrow."""

from __future__ import annotations

import ast
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest

from autograder import lessons
from autograder.build.notebooks import graded_sources, release_path
from autograder.errors import CourseError
from autograder.lessons.lesson15_drawn import COMPREHENSIVE
from autograder.sealed.release import Release, load_release
from autograder.sealed.stubs import holes_of, imported_by, make_tree

LESSONS = [release_path(source.stem) for source in graded_sources()]


@pytest.fixture(params=LESSONS, ids=lambda path: path.stem)
def lesson(request: pytest.FixtureRequest) -> Release:
    """Each lesson that can be checked here."""
    release = load_release(request.param)
    missing = [each.missing for each in lessons.exercises(release.number) if each.missing]
    if missing:
        pytest.skip(missing[0])
    return release


@cache
def bodies(source: str) -> frozenset[str]:
    """Return the body of each function, without its docstring, if it does something.

    Most files are the same in all lessons.
    """
    found = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.FunctionDef):
            own = node.body[1:] if ast.get_docstring(node) is not None else node.body
            text = "\n".join(map(ast.unparse, own))
            if len(own) > 1 or len(text) > 60:
                found.add(text)
    return frozenset(found)


def run(tree: Path, code: str) -> str:
    """Run code that sees the tree and what is installed, but not this checkout."""
    # What finds an editable install is there in the box too; the checkout that it leads to is not.
    hidden = "[f for f in sys.meta_path if 'editable' not in getattr(f, '__module__', '')]"
    start = f"import sys; sys.path.insert(0, {str(tree)!r}); sys.meta_path[:] = {hidden}"
    script = f"{start}\n{code}"
    command = [sys.executable, "-I", "-c", script]
    done = subprocess.run(command, cwd=tree, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_nothing_in_the_tree_is_an_answer(lesson: Release, tmp_path: Path) -> None:
    make_tree(lesson, tmp_path)
    asked = {body for hole in holes_of(lesson.number) for body in bodies(hole.source)}
    # A quiz asks for letters and cuts nothing.
    assert asked or lesson.number == COMPREHENSIVE
    for path in tmp_path.rglob("*.py"):
        found = asked.intersection(bodies(path.read_text("utf-8")))
        assert not found, f"{path.relative_to(tmp_path)} holds {found.pop()}"
    assert {path.suffix for path in tmp_path.rglob("*")} & {".pyc", ".ipynb"} == set()


@pytest.fixture
def first(tmp_path: Path) -> Path:
    """The tree of lesson 1."""
    make_tree(load_release(LESSONS[0]), tmp_path)
    return tmp_path


def test_what_is_asked_for_cannot_be_called_nor_read(first: Path) -> None:
    said = run(
        first,
        """
import inspect, linecache
from course_lib import parts
from course_lib.kv_cache import kv_bytes_per_block, kv_bytes_per_token
from course_lib.specs import MODELS
model = MODELS["llama-2-7b"]
for call in (
    lambda: kv_bytes_per_token(model),
    lambda: parts.get("kv_bytes_per_token")(model),
    lambda: parts.reference("kv_bytes_per_token")(model),
    lambda: kv_bytes_per_block(model, 16),
):
    try:
        print(call())
    except NotImplementedError as error:
        print(error)
print("num_layers" in inspect.getsource(kv_bytes_per_token))
""",
    )
    assert said.splitlines() == ["exercise 1.1 asks for kv_bytes_per_token"] * 4 + ["False"]


@pytest.mark.parametrize(
    "line",
    [
        "import autograder.checks",
        "import autograder.lessons.lesson01",
        "from autograder import lessons",
        "from autograder.proxy.subject import LocalSubject",
        "from autograder.notebook import Points",
    ],
)
def test_no_check_can_be_imported(first: Path, line: str) -> None:
    code = f"try:\n    {line}\nexcept ImportError:\n    print('none')"
    assert run(first, code) == "none\n"


def test_the_notebooks_tools_do_what_a_notebook_needs_of_them(first: Path) -> None:
    said = run(
        first,
        "from autograder.notebook import check, compare, explain, quiz\n"
        "print(check('1.1', 3), explain('1.1'), quiz(1))\ncompare(4, 10, 'GiB')",
    )
    assert (
        said == "0.0 None Quiz of lesson 1\nYou predicted 4 GiB. It is 10 GiB: 2.5 times as much.\n"
    )


def test_what_lives_in_the_lesson_and_not_in_the_library_is_a_hole_too() -> None:
    found = {hole.exercise: hole for hole in holes_of(1)}
    assert found["1.6b"].module == "autograder.lessons.lesson01_given"
    assert found["1.6b"].source.startswith("def tokens_that_fit(")
    assert "1.W1" not in found


def test_methods_and_classes_are_holes() -> None:
    found = {hole.exercise: hole for hole in holes_of(7)}
    assert found["7.3b"].qualname == "BlockPool.touch"
    assert found["7.3b"].source.startswith("def touch(self")
    assert found["7.2"].source.startswith("class FreeKVCacheBlockQueue")


def test_a_lesson_that_imports_what_is_not_there_is_refused(
    release: Release, tmp_path: Path
) -> None:
    release.cells[0].source = "from autograder.notebook import absent"
    with pytest.raises(CourseError, match="does not define absent"):
        make_tree(release, tmp_path / "tree")


def test_what_a_lesson_imports_is_told_once_in_its_order(release: Release) -> None:
    first, check, *_ = (cell for cell in release.cells if cell.cell_type == "code")
    first.source = "%matplotlib inline\nimport json, os.path as path\nfrom math import pi"
    check.source = "def f():\n    import torch, json"
    assert imported_by(release) == ("json", "os.path", "math", "torch")

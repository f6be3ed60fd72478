"""Course directories in which the real nbgrader runs, with this checkout's configuration."""

from __future__ import annotations

import fcntl
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from nbformat import NotebookNode
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook

from nbgrader_course import Course

ROOT = Path(__file__).parents[2]
LESSON = "01_traditional_attention_problems"
KERNEL = {"name": "python3", "display_name": "Python 3", "language": "python"}


def roles(grade_id: str, **others: Any) -> dict[str, Any]:
    """Return the metadata by which nbgrader knows a cell."""
    plain = {"grade": False, "solution": False, "locked": False, "task": False, "schema_version": 3}
    return {"nbgrader": {"grade_id": grade_id, **plain, **others}}


def small_lesson() -> NotebookNode:
    """Two exercises for 10 and 5 points, and a text for 3 that is marked by hand."""
    cells = [new_markdown_cell("# A small lesson", id="title")]
    for name, points in (("a", 10), ("b", 5)):
        answer = f"def {name}():\n    ### BEGIN SOLUTION\n    return '{name}'\n    ### END SOLUTION"
        check = f"{points} * ({name}() == '{name}')"
        metadata = roles(f"check-{name}", grade=True, locked=True, points=points)
        cells += [
            new_code_cell(answer, id=name, metadata=roles(name, solution=True)),
            new_code_cell(check, id=f"check-{name}", metadata=metadata),
        ]
    text = roles("text", grade=True, solution=True, points=3)
    cells.append(new_markdown_cell("Because.", id="text", metadata=text))
    return new_notebook(cells=cells, metadata={"kernelspec": KERNEL})


@pytest.fixture(autouse=True, scope="session")
def _programs_beside_this_python() -> Iterator[None]:
    """Put this Python's folder on PATH: nbgrader calls alembic by its name."""
    with pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.setenv("PATH", str(Path(sys.executable).parent), prepend=os.pathsep)
        yield


@pytest.fixture(scope="session")
def _small_release(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A course directory that has released the small lesson; nothing is handed in there."""
    root = tmp_path_factory.mktemp("small")
    shutil.copy(ROOT / "nbgrader_config.py", root)
    Course(root, "small").release(small_lesson())
    return root


@pytest.fixture
def small_course(_small_release: Path, tmp_path: Path) -> Course:
    """A course that has released the small lesson, with nothing handed in."""
    root = tmp_path / "course"
    shutil.copytree(_small_release, root)
    return Course(root, "small", timeout=5)


@pytest.fixture
def released(small_course: Course) -> Callable[[str, list[NotebookNode]], Course]:
    """Release an assignment of these cells beside the small lesson."""

    def released(assignment: str, cells: list[NotebookNode]) -> Course:
        course = Course(small_course.root, assignment)
        course.release(new_notebook(cells=cells, metadata={"kernelspec": KERNEL}))
        return course

    return released


@pytest.fixture
def cell_roles() -> Callable[..., dict[str, Any]]:
    """Make the metadata by which nbgrader knows a cell."""
    return roles


class Checkout:
    """A copy of what an instructor needs of this checkout, with lesson 1 only."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.environment = {
            **os.environ,
            "COURSE_ROOT": str(root),
            "HOME": str(root),
            "JUPYTER_CONFIG_DIR": str(root / ".jupyter"),
        }

    def prepare(self) -> None:
        """Make the copy."""
        self.root.mkdir()
        for name in ("Makefile", "pyproject.toml", "constraints.txt", "nbgrader_config.py"):
            shutil.copy(ROOT / name, self.root)
        for folder in (f"lessons/{LESSON}", "grading/question_banks", "grading/samples"):
            shutil.copytree(ROOT / folder, self.root / folder)
        (self.root / "solutions").mkdir()
        shutil.copy(ROOT / "solutions" / f"{LESSON}.py", self.root / "solutions")
        # For make, this environment is the checkout's own, freshly installed.
        (self.root / ".venv").mkdir()
        (self.root / ".venv" / "bin").symlink_to(Path(sys.executable).parent)
        (self.root / ".venv" / ".installed").touch()

    def run(self, *command: str) -> str:
        """Run a command in it, which must succeed; return what it prints."""
        code, output = self.attempt(*command)
        assert code == 0, f"{' '.join(command)}:\n{output}"
        return output

    def attempt(self, *command: str) -> tuple[int, str]:
        """Run a command in it; return its exit code and what it prints."""
        done = subprocess.run(
            command,
            cwd=self.root,
            env=self.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )
        return done.returncode, done.stdout

    @property
    def log(self) -> str:
        """What ``make grade`` printed."""
        return (self.root / "grade.log").read_text(encoding="utf-8")

    @property
    def course(self) -> Course:
        """Its gradebook."""
        return Course(self.root, LESSON)


@pytest.fixture(scope="session")
def graded(tmp_path_factory: pytest.TempPathFactory) -> Checkout:
    """A checkout whose samples have been graded as grading/README.md says.

    It takes the better part of a minute, so the workers of pytest-xdist share one.
    """
    folder = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        folder = folder.parent
    checkout = Checkout(folder / "graded")
    with (folder / "graded.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not checkout.root.exists():
            checkout.prepare()
            checkout.run("course", "samples")
            log = checkout.run("make", "grade")
            (checkout.root / "grade.log").write_text(log, encoding="utf-8")
            checkout.run("nbgrader", "generate_feedback", LESSON)
    return checkout

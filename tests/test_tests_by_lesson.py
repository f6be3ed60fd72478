"""``pytest --lesson N``: which tests concern a lesson, and how long they took."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]

BY_PARAMETER = """
from types import SimpleNamespace
import pytest

@pytest.mark.parametrize("slug", ["01_first", "02_second"])
def test_slug(slug): pass

@pytest.mark.parametrize("slug", ["01_first", "02_second"])
def test_again(slug): pass

@pytest.mark.parametrize("exercise", [SimpleNamespace(id="1.W1"), SimpleNamespace(id="2.3")])
def test_exercise(exercise): pass

@pytest.mark.parametrize("other", ["02", "2_x", SimpleNamespace(id="chat")])
def test_neither(other): pass

@pytest.mark.lesson(2)
def test_marked(): pass
"""

Run = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture
def run(tmp_path: Path) -> Run:
    """Run pytest, in a checkout that has two lessons and a few tests."""
    shutil.copy(ROOT / "conftest.py", tmp_path)
    (tmp_path / "pytest.ini").write_text("[pytest]\nmarkers =\n    lesson(number): its lesson\n")
    (tmp_path / "solutions").mkdir()
    for slug in ("01_first", "02_second"):
        (tmp_path / "solutions" / f"{slug}.py").touch()
    (tmp_path / "test_all.py").write_text(BY_PARAMETER)
    (tmp_path / "test_lesson02.py").write_text("def test_file(): pass\n")

    def run(*options: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", *options]
        return subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)

    return run


def names(done: subprocess.CompletedProcess[str]) -> list[str]:
    """Return the tests that were run, without their parameters, in order of their names."""
    return sorted(re.findall(r"(?:PASSED.*|^)test_\w+\.py::(\w+).*PASSED", done.stdout, flags=re.M))


def test_without_a_lesson_everything_is_run(run: Run) -> None:
    assert "11 passed" in run().stdout


def test_a_lesson_is_known_by_parameters_marks_and_the_name_of_the_file(run: Run) -> None:
    assert names(run("-v", "--lesson", "1")) == ["test_again", "test_exercise", "test_slug"]
    of_the_second = ["test_again", "test_exercise", "test_file", "test_marked", "test_slug"]
    assert names(run("-v", "--lesson", "2")) == of_the_second


def test_a_lesson_that_does_not_exist_is_one_clear_line(run: Run) -> None:
    done = run("--lesson", "7")
    assert done.returncode == pytest.ExitCode.USAGE_ERROR
    assert done.stderr.strip() == "ERROR: there is no lesson 7 in solutions/; lessons: 1, 2"


def test_in_parallel_a_lesson_stays_together_and_so_does_a_file(run: Run) -> None:
    done = run("-v", "-n", "2", "--dist", "loadscope")
    assert "11 passed" in done.stdout
    workers: dict[str, set[str]] = {}
    for worker, test in re.findall(r"^\[(gw\d)\] .*PASSED (\S+)", done.stdout, flags=re.M):
        slug = re.search(r"\[(0\d_\w+)\]", test)
        workers.setdefault(slug[1] if slug else test.partition("::")[0], set()).add(worker)
    assert workers.keys() == {"01_first", "02_second", "test_all.py", "test_lesson02.py"}
    assert all(len(each) == 1 for each in workers.values())


@pytest.mark.parametrize("options", [(), ("-n", "2", "--dist", "loadscope")])
def test_each_lesson_says_how_long_it_took(run: Run, options: tuple[str, ...]) -> None:
    summary = run(*options).stdout.partition("seconds by lesson")[2]
    assert re.search(r"lesson 1: \d+\.\d s\n +\d+\.\d s  test_\w+\[", summary)
    assert "lesson 2: " in summary
    assert "test_neither" not in summary

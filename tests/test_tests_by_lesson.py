"""``pytest --lesson N``: which tests concern a lesson, and how long they took."""

from __future__ import annotations

import os
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


COMPUTES = """
from time import process_time

def test_computes():
    begin = process_time()
    while process_time() < begin + 0.2:
        pass
"""


JOURNEYS = """
import pytest

@pytest.mark.browser
def test_in_a_browser(): pass

@pytest.mark.journey
def test_marked(): pass

def test_small(): pass
"""


@pytest.fixture
def run(tmp_path: Path) -> Run:
    """Run pytest, in a checkout that has two lessons and a few tests."""
    shutil.copy(ROOT / "conftest.py", tmp_path)
    (tmp_path / "pytest.ini").write_text(
        "[pytest]\nmarkers =\n    lesson(number): its lesson\n    browser: it\n    journey: whole\n"
    )
    (tmp_path / "solutions").mkdir()
    for slug in ("01_first", "02_second"):
        (tmp_path / "solutions" / f"{slug}.py").touch()
    (tmp_path / "test_all.py").write_text(BY_PARAMETER)
    (tmp_path / "test_lesson02.py").write_text("def test_file(): pass\n")

    def run(*options: str) -> subprocess.CompletedProcess[str]:
        command = [
            sys.executable,
            "-m",
            "pytest",
            "-p",
            "no:cacheprovider",
            "-p",
            "xdist",
            *options,
        ]
        # The other plugins take longer to start than the few tests.
        environment = {**os.environ, "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}
        return subprocess.run(
            command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
        )

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


def test_a_folder_that_shares_what_is_slow_to_start_stays_together(
    run: Run, tmp_path: Path
) -> None:
    for folder in ("tests/browser/kit", "tests/browser", "tests/other"):
        (tmp_path / folder).mkdir(parents=True, exist_ok=True)
        for name in ("one", "two"):
            (tmp_path / folder / f"test_{folder[-3:]}_{name}.py").write_text(
                "def test_it(): pass\n"
            )
    done = run("-v", "-n", "2", "--dist", "loadscope")
    assert "17 passed" in done.stdout
    of_browser = re.findall(r"^\[(gw\d)\] .*PASSED tests/browser/", done.stdout, flags=re.M)
    assert len(of_browser) == 4
    assert len(set(of_browser)) == 1


def test_a_journey_is_known_by_its_folder_its_browser_and_its_mark(
    run: Run, tmp_path: Path
) -> None:
    (tmp_path / "tests" / "grading").mkdir(parents=True)
    (tmp_path / "tests" / "grading" / "test_it.py").write_text("def test_graded(): pass\n")
    (tmp_path / "test_some.py").write_text(JOURNEYS)
    journeys = run("-v", "-m", "journey")
    assert re.findall(r"::(\w+) PASSED", journeys.stdout) == [
        "test_in_a_browser",
        "test_marked",
        "test_graded",
    ]
    rest = run("-m", "not journey")
    assert "12 passed, 3 deselected" in rest.stdout
    assert "15 passed" in run().stdout


def test_each_journey_is_there() -> None:
    """A file that was renamed would be a journey no more, and nobody would see."""
    (named,) = re.findall(
        r"^JOURNEYS = \((.*?)^\)", (ROOT / "conftest.py").read_text(), re.M | re.S
    )
    files = re.findall(r'^ +"(tests/.*?)",$', named, re.M)
    assert len(files) >= 6
    assert [each for each in files if not (ROOT / each).is_file()] == []


@pytest.mark.parametrize("options", [(), ("-n", "2", "--dist", "loadscope")])
def test_each_lesson_says_how_much_it_computed(run: Run, options: tuple[str, ...]) -> None:
    summary = run(*options).stdout.partition("seconds of CPU by lesson")[2]
    by_lesson, _, by_scope = summary.partition("seconds of CPU by scope")
    assert re.search(r"lesson 1: \d+\.\d s\n +\d+\.\d s  test_\w+\[", by_lesson)
    assert "lesson 2: " in by_lesson
    assert "test_neither" not in by_lesson
    scopes = set(re.findall(r"^ +\d+\.\d s  (\S+)$", by_scope, flags=re.M))
    assert scopes == {"01_first", "02_second", "test_all.py", "test_lesson02.py"}


def test_a_lesson_over_its_budget_is_told(run: Run, tmp_path: Path) -> None:
    (tmp_path / "test_lesson02.py").write_text(COMPUTES)
    conftest = (tmp_path / "conftest.py").read_text(encoding="utf-8")
    smaller = re.sub(r"(?m)^BUDGET = .*$", "BUDGET = 0.1", conftest)
    within = run("--lesson", "2")
    assert "that a lesson may" not in within.stdout
    assert "lesson 2: " in within.stdout
    assert "lesson 1: " not in within.stdout
    assert within.returncode == pytest.ExitCode.OK

    (tmp_path / "conftest.py").write_text(smaller, encoding="utf-8")
    said = "the tests of lesson 2 took 0 s of CPU, more than the 0.1 s that a lesson may"
    alone = run("--lesson", "2", "-n", "2", "--dist", "loadscope")
    assert said in alone.stdout
    assert alone.returncode == pytest.ExitCode.TESTS_FAILED
    among_all = run()
    assert said in among_all.stdout
    assert among_all.returncode == pytest.ExitCode.OK

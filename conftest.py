"""What holds for all tests: what is left out, which lesson a test concerns, and that Ctrl-C works.

A test concerns a lesson if a parameter of it is that lesson or one of its exercises, if its file is
named after it, or if it is marked with it: ``@pytest.mark.lesson(7)``.
``pytest --lesson 7`` runs these alone. With ``-n 2 --dist loadscope`` tests that have a lesson for
a parameter run beside those of other lessons, and any other file stays together. At the end each
lesson says how long its tests took, and which took longest.
"""

from __future__ import annotations

import re
import signal
from collections import defaultdict
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
from xdist.remote import Producer
from xdist.scheduler import LoadScopeScheduling

# Triton has wheels for Linux only, vLLM is never installed by the course; these need them.
NEEDS = {
    "course_lib/attention/triton_kernels.py": "triton",
    "course_lib/attention/backends/launches.py": "triton",
    "course_lib/attention/backends/step_launch.py": "triton",
    "course_lib/attention/backends/trial.py": "triton",
    "course_lib/attention/backends/triton_ops.py": "triton",
    "autograder/bench/vllm.py": "vllm",
}
collect_ignore = [path for path, package in NEEDS.items() if find_spec(package) is None]

ROOT = Path(__file__).parent
SLOWEST = 3
"""Tests of a lesson that are listed at the end."""

_SOURCE = re.compile(r"(\d\d)_\w+")
_ENDS_WITH_SOURCE = re.compile(r"\[(?:.*-)?(\d\d_\w+)\]$")
_EXERCISE_ID = re.compile(r"(\d+)\.\w+")
_FILE = re.compile(r"(?:test_)?lesson(\d\d)\b")

_seconds: defaultdict[int, defaultdict[str, float]] = defaultdict(lambda: defaultdict(float))


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add ``--lesson``."""
    parser.addoption("--lesson", type=int, metavar="N", help="run what concerns lesson N only")


def pytest_configure(config: pytest.Config) -> None:
    """Let Ctrl-C reach the programs that tests start, and refuse a lesson that is not there.

    A script's background jobs are started with Ctrl-C ignored, and whatever they start inherits it.
    """
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    wanted, known = config.getoption("--lesson"), known_lessons()
    if wanted is not None and wanted not in known:
        listed = ", ".join(map(str, known)) or "none"
        raise pytest.UsageError(f"there is no lesson {wanted} in solutions/; lessons: {listed}")


def known_lessons() -> list[int]:
    """Return the numbers of the lessons that have a source."""
    return [int(slug[:2]) for slug in known_slugs()]


@cache
def known_slugs() -> list[str]:
    """Return the names of the lessons that have a source, in order."""
    return [path.stem for path in sorted((ROOT / "solutions").glob("[0-9][0-9]_*.py"))]


class LessonScheduling(LoadScopeScheduling):
    """Keeps the tests of a lesson in one process, and those of any other file.

    A scheduler knows no more of a test than its name. (xdist's own ``--dist loadgroup`` writes the
    group into the name, which pytest 9.2 does not let it do: each test would be its own group.)
    """

    def _split_scope(self, nodeid: str) -> str:
        """Return what a test is kept together with: xdist asks for it under this name."""
        named = _ENDS_WITH_SOURCE.search(nodeid)
        return named[1] if named and named[1] in known_slugs() else nodeid.partition("::")[0]


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Producer) -> LessonScheduling | None:
    """Schedule by lesson and by file where xdist would by module and class."""
    return LessonScheduling(config, log) if config.getvalue("dist") == "loadscope" else None


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Sort the tests by lesson, and leave out those of others if one is asked for."""
    wanted = config.getoption("--lesson")
    kept: list[pytest.Item] = []
    left_out: list[pytest.Item] = []
    for item in items:
        lesson = lesson_of_parameters(item) or lesson_of_file(item)
        if lesson is not None:
            item.user_properties.append(("lesson", lesson))
        (kept if wanted in (None, lesson) else left_out).append(item)
    items[:] = kept
    if left_out:
        config.hook.pytest_deselected(items=left_out)


def lesson_of_parameters(item: pytest.Item) -> int | None:
    """Return the lesson that a parameter names: ``"07_slug"``, or something with the id 7.1."""
    callspec = getattr(item, "callspec", None)
    for value in callspec.params.values() if callspec is not None else ():
        exercise_id = getattr(value, "id", None)
        found = _SOURCE.fullmatch(value) if isinstance(value, str) else None
        if isinstance(exercise_id, str):
            found = _EXERCISE_ID.fullmatch(exercise_id)
        if found:
            return int(found[1])
    return None


def lesson_of_file(item: pytest.Item) -> int | None:
    """Return the lesson that a test or its file is marked with, or that the file is named after."""
    marker = item.get_closest_marker("lesson")
    if marker is not None:
        return int(marker.args[0])
    named = _FILE.match(item.path.stem)
    return int(named[1]) if named else None


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    """Add up how long the tests of each lesson take."""
    lesson = dict(report.user_properties).get("lesson")
    if isinstance(lesson, int):
        name = report.nodeid.rpartition("::")[2]
        _seconds[lesson][name] += report.duration


def pytest_terminal_summary(terminalreporter: Any) -> None:
    """List the lessons, the slowest first, with the slowest tests of each."""
    if not _seconds:
        return
    terminalreporter.section("seconds by lesson, and the slowest tests of each")
    for lesson in sorted(_seconds, key=lambda each: -sum(_seconds[each].values())):
        tests = _seconds[lesson]
        terminalreporter.line(f"lesson {lesson}: {sum(tests.values()):.1f} s")
        for name in sorted(tests, key=lambda each: -tests[each])[:SLOWEST]:
            terminalreporter.line(f"  {tests[name]:6.1f} s  {name}")

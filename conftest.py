"""What holds for all tests: what is left out, which lesson a test concerns, and that Ctrl-C works.

A test concerns a lesson if a parameter of it is that lesson or one of its exercises, if its file is
named after it, or if it is marked with it: ``@pytest.mark.lesson(7)``.
``pytest --lesson 7`` runs these alone. With ``-n 2 --dist loadscope`` tests that have a lesson for
a parameter run beside those of other lessons, a folder whose files share what is slow to start
stays together, and so does any other file. At the end each lesson says how much computing its tests
took, and which took most, and so do the slowest scopes. A lesson has a budget: with ``--lesson`` a
run that is over it fails.

A test is a journey if it goes a user's whole way (``JOURNEYS``), in a browser, or is marked as one:
``make test`` leaves these to ``make journeys``.

Computing is CPU time, of programs that a test started and ended too: on a busy machine a test takes
longer, and hardly more of that.
"""

from __future__ import annotations

import gc
import os
import re
import signal
from collections import defaultdict
from collections.abc import Generator
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
from xdist.remote import Producer
from xdist.scheduler import LoadScopeScheduling
from xdist.workermanage import WorkerController

# Triton has wheels for Linux only, vLLM is never installed by the course; these need them.
NEEDS = {
    "course_lib/attention/triton_kernels.py": "triton",
    "course_lib/attention/backends/launches.py": "triton",
    "course_lib/attention/backends/older_triton.py": "triton",
    "course_lib/attention/backends/step_launch.py": "triton",
    "course_lib/attention/backends/trial.py": "triton",
    "course_lib/attention/backends/triton_ops.py": "triton",
    "autograder/bench/vllm.py": "vllm",
}
collect_ignore = [path for path, package in NEEDS.items() if find_spec(package) is None]

# One thread for each process, and for those that it starts: two processes with two threads each on
# two processors wait for one another, and PyTorch's wait by computing.
os.environ.setdefault("OMP_NUM_THREADS", "1")

ROOT = Path(__file__).parent
SLOWEST = 3
"""Tests of a lesson that are listed at the end."""

SLOWEST_SCOPES = 10
"""Scopes that are listed at the end."""

BUDGET = 135.0
"""Seconds of CPU for the tests of a lesson."""

LARGER_BUDGETS = {
    1: 250.0,  # it is the exemplar: its tests look into kinds of checks that others only use
    9: 300.0,  # 22 exercises, and a simulation in every other cell
    13: 250.0,  # whole engines are graded
}
"""What the tests of some lessons may take, each about half as much again as it needs."""

SHARED_FOLDERS = ("tests/browser", "tests/grading", "tests/lesson")
"""Folders whose files share a browser, a graded course, or a lesson that was built."""

JOURNEYS = (
    *(f"{folder}/" for folder in SHARED_FOLDERS),
    "tests/autograder/bench/test_soak.py",
    "tests/autograder/project/test_flawed_engines.py",
    "tests/autograder/sealed/test_killed.py",
    "tests/autograder/sealed/test_killed_at_work.py",
    "tests/autograder/sealed/test_samples_sealed.py",
    "tests/autograder/workspace/test_lab.py",
)
"""Folders and files whose tests go a user's whole way: JupyterLab, hand-ins, whole engines."""

_SOURCE = re.compile(r"(\d\d)_\w+")
_ENDS_WITH_SOURCE = re.compile(r"\[(?:.*-)?(\d\d_\w+)\]$")
_EXERCISE_ID = re.compile(r"(\d+)\.\w+")
_FILE = re.compile(r"(?:test_)?lesson(\d\d)\b")

_CPU = "seconds of CPU"

_seconds: defaultdict[int, defaultdict[str, float]] = defaultdict(lambda: defaultdict(float))
_scopes: defaultdict[str, float] = defaultdict(float)


class Stopwatch:
    """Tells how much CPU time this process used since before, with those that it waited for."""

    def __init__(self) -> None:
        self._before = 0.0
        self.lap()

    def lap(self) -> float:
        """Return the seconds since this was asked last."""
        before, self._before = self._before, sum(os.times()[:4])
        return self._before - before


_stopwatch = Stopwatch()


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


def scope_of(nodeid: str) -> str:
    """Return what a test is kept together with: a lesson, a folder or a file."""
    named = _ENDS_WITH_SOURCE.search(nodeid)
    if named and named[1] in known_slugs():
        return named[1]
    file = nodeid.partition("::")[0]
    return next((each for each in SHARED_FOLDERS if file.startswith(f"{each}/")), file)


def starts_programs(scope: str) -> bool:
    """Say whether the tests of a scope are few and slow, for they start programs."""
    return scope in SHARED_FOLDERS or scope in known_slugs()


class LessonScheduling(LoadScopeScheduling):
    """Keeps the tests of a scope in one process, and begins with what takes long.

    A scheduler knows no more of a test than its name. (xdist's own ``--dist loadgroup`` writes the
    group into the name, which pytest 9.2 does not let it do: each test would be its own group.)
    """

    def _split_scope(self, nodeid: str) -> str:
        """Return what a test is kept together with: xdist asks for it under this name."""
        return scope_of(nodeid)

    def _assign_work_unit(self, node: WorkerController) -> None:
        """Give a process its next scope: short ones last, so that all come to an end together.

        xdist has sorted the scopes by their number of tests, which says nothing of programs.
        """
        first = next(filter(starts_programs, self.workqueue), None)
        if first is not None:
            self.workqueue.move_to_end(first, last=False)
        super()._assign_work_unit(node)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Producer) -> LessonScheduling | None:
    """Schedule by lesson and by file where xdist would by module and class."""
    return LessonScheduling(config, log) if config.getvalue("dist") == "loadscope" else None


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Mark the journeys, sort the tests by lesson, and leave out other lessons if one is asked for.

    It comes first: ``-m`` has to find the marks.
    """
    wanted = config.getoption("--lesson")
    kept: list[pytest.Item] = []
    left_out: list[pytest.Item] = []
    for item in items:
        if item.nodeid.startswith(JOURNEYS) or item.get_closest_marker("browser"):
            item.add_marker("journey")
        lesson = lesson_of_parameters(item) or lesson_of_file(item)
        if lesson is not None:
            item.user_properties.append(("lesson", lesson))
        (kept if wanted in (None, lesson) else left_out).append(item)
    items[:] = kept
    if left_out:
        config.hook.pytest_deselected(items=left_out)


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Generator[None, object, object]:
    """Keep the garbage collector from what is imported and collected: it stays to the end.

    To look through it again and again would take a third of the time of collecting.
    """
    gc.disable()
    try:
        return (yield)
    finally:
        gc.freeze()
        gc.enable()


def pytest_unconfigure() -> None:
    """Let go of everything: extension modules complain of what outlives Python."""
    gc.unfreeze()


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


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Note how much computing a phase of a test has taken."""
    report = yield
    report.user_properties = [*report.user_properties, (_CPU, _stopwatch.lap())]
    return report


def pytest_runtest_logstart() -> None:
    """Begin with a test: what was computed between two belongs to none."""
    _stopwatch.lap()


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    """Add up how much computing each lesson takes, and each scope."""
    said = dict(report.user_properties)
    lesson, seconds = said.get("lesson"), said.get(_CPU, 0.0)
    assert isinstance(seconds, float)
    _scopes[scope_of(report.nodeid)] += seconds
    if isinstance(lesson, int):
        _seconds[lesson][report.nodeid.rpartition("::")[2]] += seconds


def over_budget() -> list[int]:
    """Return the lessons whose tests have computed for longer than they may."""
    spent = {lesson: sum(tests.values()) for lesson, tests in _seconds.items()}
    return [lesson for lesson in known_lessons() if spent.get(lesson, 0.0) > budget(lesson)]


def budget(lesson: int) -> float:
    """Return the seconds of CPU that the tests of a lesson may take."""
    return LARGER_BUDGETS.get(lesson, BUDGET)


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Let a run of one lesson fail that is over its budget: here its author is told in time."""
    is_asked_for = session.config.getoption("--lesson") is not None
    if is_asked_for and over_budget() and session.exitstatus == pytest.ExitCode.OK:
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


def pytest_terminal_summary(terminalreporter: Any) -> None:
    """List the lessons, the slowest first, with the slowest tests of each; then the scopes."""
    if not _scopes:
        return
    if _seconds:
        terminalreporter.section("seconds of CPU by lesson, and the slowest tests of each")
    for lesson in sorted(_seconds, key=lambda each: -sum(_seconds[each].values())):
        tests = _seconds[lesson]
        terminalreporter.line(f"lesson {lesson}: {sum(tests.values()):.1f} s")
        for name in sorted(tests, key=lambda each: -tests[each])[:SLOWEST]:
            terminalreporter.line(f"  {tests[name]:6.1f} s  {name}")
    terminalreporter.section("seconds of CPU by scope, the slowest")
    for scope in sorted(_scopes, key=lambda each: -_scopes[each])[:SLOWEST_SCOPES]:
        terminalreporter.line(f"  {_scopes[scope]:6.1f} s  {scope}")
    for lesson in over_budget():
        terminalreporter.line(
            f"the tests of lesson {lesson} took {sum(_seconds[lesson].values()):.0f} s of CPU, "
            f"more than the {budget(lesson):g} s that a lesson may; see its slowest tests above",
            red=True,
        )

"""What several tests share: a workspace, learner's objects, a browser, what needs a GPU."""

import gc
import importlib.util
import linecache
import math
import sys
import types
from itertools import count

import pytest
from hypothesis import settings

from autograder.checks import acts, garbage, lateness, search
from autograder.checks.exercise import Exercise
from autograder.proxy.subject import LocalSubject, RemoteSubject
from browser_lab import browser, chromium, pytest_runtest_makereport

__all__ = ["browser", "chromium", "pytest_runtest_makereport"]

_NUMBERS = count()

# No example has a deadline: a test that fails because its machine is busy says nothing.
settings.register_profile("course", deadline=None)
settings.load_profile("course")


def pytest_collection_finish(session):
    """Keep what was collected out of the garbage collector's rounds, and let it make fewer.

    With fifteen thousand tests at hand a round takes seconds, and whoever is timed meanwhile is
    late through no fault of their own.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(garbage.OBJECTS)


def pytest_runtest_setup(item):
    """Skip what needs a GPU where there is none."""
    if item.get_closest_marker("gpu"):
        torch = pytest.importorskip("torch")
        if not torch.cuda.is_available():
            pytest.skip("there is no CUDA device")


@pytest.fixture(autouse=True)
def nobodys_workspace(monkeypatch):
    """No test reads or writes the workspace of whoever runs it."""
    monkeypatch.delenv("COURSE_WORKSPACE", raising=False)
    monkeypatch.delenv("NBGRADER_EXECUTION", raising=False)


@pytest.fixture
def unhurried(monkeypatch):
    """Let each search run to its end, on however busy a machine."""
    monkeypatch.setattr(search, "seconds_spent", lambda: 0.0)
    monkeypatch.setattr(search, "PATIENCE", math.inf)


@pytest.fixture
def counted_time(monkeypatch):
    """Limit a search by its steps: each look at the clock is a millisecond.

    What is found, and how small it becomes, is then the same on however busy a machine.
    """
    looks = count()
    monkeypatch.setattr(search, "seconds_spent", lambda: next(looks) / 1000)
    monkeypatch.setattr(search, "PATIENCE", math.inf)


@pytest.fixture
def first_failing_case(monkeypatch, counted_time):
    """Take a failing case as it is found, where it does not matter how small it can be.

    To make it smaller takes most of the time of a search, often all that there is.
    """
    monkeypatch.setattr(search, "SECONDS", 60.0)
    for module, name in ((search, "SHRINKING_SECONDS"), (acts, "SECONDS")):
        monkeypatch.setattr(module, name, 0.0)


@pytest.fixture
def wrong_answers(monkeypatch, first_failing_case):
    """Ask an answer that is known to be wrong as little as tells that it is, and what it is called.

    Who is late once is late here, for such an answer is slow by its own doing.
    """
    monkeypatch.setattr(lateness, "TURNS", 1)


@pytest.fixture
def few_examples(monkeypatch):
    """Try few examples beside the probes where nobody says how many.

    This is for tests of what comes before a search or behind it, however long that takes.
    """
    monkeypatch.setattr(Exercise.examine, "__defaults__", (search.PUBLIC_SEED, 5))


@pytest.fixture
def workspace(tmp_path, monkeypatch):
    """An empty workspace, named in the environment."""
    folder = tmp_path / "workspace"
    (folder / ".course").mkdir(parents=True)
    monkeypatch.setenv("COURSE_WORKSPACE", str(folder))
    return folder


@pytest.fixture
def load(tmp_path, monkeypatch):
    """Write source to a file and return the module that it makes."""
    numbers = count()

    def load(source):
        name = f"submission_{next(numbers)}"
        path = tmp_path / f"{name}.py"
        path.write_text(source, encoding="utf-8")
        spec = importlib.util.spec_from_file_location(name, path)
        module = importlib.util.module_from_spec(spec)
        monkeypatch.setitem(sys.modules, name, module)
        spec.loader.exec_module(module)
        return module

    return load


@pytest.fixture
def local(load):
    """Make a learner's object from source, in this process."""
    return lambda source, name: LocalSubject(getattr(load(source), name))


@pytest.fixture
def remote(tmp_path):
    """Make a learner's object from source, in a process of its own that ends with the test."""
    started = []

    def remote(source, name, timeout=60.0):
        path = tmp_path / f"remote_{len(started)}.py"
        path.write_text(source, encoding="utf-8")
        started.append(RemoteSubject(path, name, timeout))
        return started[-1]

    yield remote
    for subject in started:
        subject.close()


@pytest.fixture
def notebook(monkeypatch):
    """Run cells as a kernel does: in one module without a file, each with its text in linecache."""
    module = types.ModuleType(f"notebook_{next(_NUMBERS)}")
    monkeypatch.setitem(sys.modules, module.__name__, module)

    def run(*cells):
        for source in cells:
            name = f"<cell {next(_NUMBERS)}>"
            lines = source.splitlines(keepends=True)
            monkeypatch.setitem(linecache.cache, name, (len(source), None, lines, name))
            exec(compile(source, name, "exec"), vars(module))
        return module

    return run

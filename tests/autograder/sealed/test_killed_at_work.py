"""Real graders, workers, judges and warm processes, killed while submissions are judged in boxes.

``tests/shared/kill_campaign.py`` does the same at random moments, as often as one likes.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

import kill_campaign as campaign
from autograder.sealed.oracle import seed_of
from autograder.sealed.store import Store

STUDENTS = 5
LONGEST = 1_500
"""Seconds: nothing here is slow, but on a busy machine each process takes its time to start."""

pytestmark = pytest.mark.timeout(LONGEST)

KINDS: dict[str, Callable[[list[str]], bool]] = {
    "worker": lambda command: any("spawn_main" in each for each in command),
    "judge": lambda command: "autograder.sealed.judges" in command,
    "warm process": lambda command: any("sealed.box.zygote" in each for each in command),
}
"""How the command line tells each of them."""


@pytest.fixture(scope="module")
def course(boxes: None, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A course of one small lesson, with what an undisturbed run gives."""
    root = tmp_path_factory.mktemp("killed") / "course"
    campaign.set_up(root, STUDENTS)
    campaign.undisturbed(root, workers=1)
    shutil.copytree(root, graded(root))
    campaign.start_again(root)
    return root


def graded(root: Path) -> Path:
    """Return where all is that the undisturbed run has left."""
    return root.with_name("graded")


def judged(root: Path) -> int:
    """Return how many submissions have their result."""
    log = root / "results" / "log.jsonl"
    return log.read_bytes().count(b"\n") if log.exists() else 0


def wait_for(process: subprocess.Popen[bytes], root: Path, number: int) -> None:
    """Wait until so many submissions have their result, while the grader goes on."""
    while judged(root) < number:
        assert process.poll() is None, said(root)
        time.sleep(0.01)


def is_as_undisturbed(root: Path) -> bool:
    expected, _ = campaign.undisturbed(root)
    return campaign.as_json(campaign.results(root)) == expected


def test_nothing_that_grading_writes_tells_the_secret_or_a_seed(course: Path) -> None:
    results = graded(course) / "results"
    secret = Store(results).secret()
    seeds = [seed_of(secret, exercise) for exercise in ("1.1", "1.2")]
    telling = [secret, secret.hex().encode(), *(str(seed).encode() for seed in seeds)]
    written = [path for path in graded(course).rglob("*") if path.is_file()]
    kinds = {path.suffix for path in written}
    assert {".db", ".jsonl", ".csv", ".ipynb", ".txt"} <= kinds
    assert [path.name for path in written if tells(path, telling)] == ["secret"]


def test_a_grader_that_is_killed_while_it_judges_is_run_again(course: Path) -> None:
    campaign.start_again(course)
    process = campaign.started(course, workers=1)
    wait_for(process, course, 2)
    process.kill()
    process.wait()
    assert campaign.survivors(course) == []
    assert judged(course) < STUDENTS + 2
    assert campaign.started(course, workers=1).wait() == 0
    assert is_as_undisturbed(course)


def test_a_warm_process_that_is_killed_is_made_anew(course: Path) -> None:
    campaign.start_again(course)
    process = campaign.started(course, workers=1)
    wait_for(process, course, 1)
    kill_one(process, "warm process")
    assert process.wait() == 0, said(course)
    assert is_as_undisturbed(course)


def test_whoever_works_for_a_grader_can_be_killed(course: Path) -> None:
    """One run, in which one of each kind is lost, comes to its end all the same."""
    campaign.start_again(course)
    process = campaign.started(course, workers=2)
    for number, kind in enumerate(KINDS, start=1):
        wait_for(process, course, number)
        kill_one(process, kind)
    assert process.wait() == 0, said(course)
    assert is_as_undisturbed(course)
    assert campaign.survivors(course) == []


def test_a_scheduler_that_is_killed_is_told_of_and_loses_nothing(
    course: Path, tmp_path: Path
) -> None:
    campaign.start_again(course)
    with dask_cluster(course, tmp_path) as (scheduler, address):
        process = campaign.started(course, None, "--scheduler", address)
        wait_for(process, course, 2)
        scheduler.kill()
        assert process.wait() == 1
    end = said(course).splitlines()[-1]
    assert end == (
        "course: the dask scheduler was lost; what was judged is kept: run the command again"
    )
    assert judged(course) < STUDENTS + 2
    assert campaign.started(course, workers=1).wait() == 0
    assert is_as_undisturbed(course)
    assert campaign.survivors(course) == []


@contextlib.contextmanager
def dask_cluster(root: Path, scratch: Path) -> Iterator[tuple[subprocess.Popen[bytes], str]]:
    """Give a scheduler on loopback, which has one worker, and its address."""
    file = scratch / "scheduler.json"
    told = ["--scheduler-file", str(file), "--no-dashboard"]
    here = ["--host", "127.0.0.1"]
    with contextlib.ExitStack() as stack:
        started = []
        for role, more in (("scheduler", [*here, "--port", "0"]), ("worker", ["--nthreads", "1"])):
            command = [sys.executable, "-m", f"distributed.cli.dask_{role}", *told, *more]
            environment = {**os.environ, "COURSE_ROOT": str(root)}
            quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
            started.append(subprocess.Popen(command, env=environment, **quiet))
            stack.callback(started[-1].wait)
            stack.callback(started[-1].terminate)
            while not file.exists():
                assert started[0].poll() is None
                time.sleep(0.05)
        yield started[0], json.loads(file.read_text())["address"]


def tells(path: Path, telling: list[bytes]) -> bool:
    """Say whether a file holds one of these."""
    held = path.read_bytes()
    return any(each in held for each in telling)


def said(root: Path) -> str:
    """Return the end of what graders have said."""
    return (root / "said.txt").read_text()[-2000:]


def kill_one(process: subprocess.Popen[bytes], kind: str) -> None:
    """Kill one of a kind below a grader, as soon as there is one."""
    while process.poll() is None:
        for each in campaign.victims(process):
            with contextlib.suppress(psutil.NoSuchProcess):
                if KINDS[kind](each.cmdline()):
                    each.kill()
                    return
        # To look without a pause would take a processor from those who are to appear.
        time.sleep(0.02)
    raise AssertionError(f"the run ended before a {kind} could be killed")

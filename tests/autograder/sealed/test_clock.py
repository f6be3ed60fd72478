"""What a call takes is told by the kernel, whatever the process says that ran it."""

from __future__ import annotations

import math
from collections.abc import Iterator

import pytest

from autograder.checks.compare import exactly
from autograder.checks.race import Bands, run_race
from autograder.proxy.subject import LocalSubject, Outcome, Subject
from autograder.sealed.box.box import Box, GoneError
from autograder.sealed.box.warm import Zygote

BANDS = Bands(((2.0, 1.0),))
WORK = 150_000
"""Steps: some 10 ms here, and twenty times that for a slow answer."""

FAST = "def answer(number):\n    return sum(range(number))\n"
SLOW = (
    "def answer(number):\n"
    "    for _ in range(20):\n"
    "        total = 0\n"
    "        for each in range(number):\n"
    "            total += each\n"
    "    return total\n"
)
NO_CLOCK = """
import time
for name in ("thread_time", "process_time", "perf_counter", "monotonic"):
    setattr(time, name, lambda: 0.0)
for name in ("thread_time_ns", "process_time_ns", "perf_counter_ns", "monotonic_ns"):
    setattr(time, name, lambda: 0)
"""
LIE = """
import autograder.proxy.host as host
honest = host.Host.handle
def handle(self, request):
    return honest(self, request) | {"seconds": SAID}
host.Host.handle = handle
"""
SOMEBODY_ELSE = """
import json, os, signal
def in_a_child(function):
    def answer(number):
        # What a child took that nobody waits for is in no count of its parent's.
        signal.signal(signal.SIGCHLD, signal.SIG_IGN)
        reader, writer = os.pipe()
        if os.fork() == 0:
            os.write(writer, json.dumps(function(number)).encode())
            os._exit(0)
        os.close(writer)
        with os.fdopen(reader) as told:
            return json.loads(told.read())
    return answer
answer = in_a_child(answer)
"""
IN_A_THREAD = """
import threading
slow = answer
def answer(number):
    found = []
    thread = threading.Thread(target=lambda: found.append(slow(number)))
    thread.start()
    thread.join()
    return found[0]
"""
HELPER = """
import json, os
def helped(function):
    asked, told = os.pipe(), os.pipe()
    for _ in range(12):
        if os.fork() == 0:
            number = int(os.read(asked[0], 6))
            os.write(told[1], json.dumps(function(number)).encode())
            os._exit(0)
    def answer(number):
        os.write(asked[1], b"%6d" % number)
        return json.loads(os.read(told[0], 100))
    return answer
answer = helped(answer)
"""


def play(subject: Subject, number: int) -> list[Outcome]:
    return [subject.call([WORK + number])]


@pytest.fixture
def box(zygote_of_two: Zygote) -> Iterator[Box]:
    with zygote_of_two.box() as box:
        yield box


def race(box: Box, cell: str) -> float:
    """Return the ratio of times of an answer in the box and of one that is trusted.

    It is endless where no answer comes, or none that can be read.
    """
    assert box.run(cell, 20) is None
    with box.taken("answer", 20.0) as subject:
        assert subject is not None
        reference = LocalSubject(_reference, 60.0)
        try:
            found = run_race(play, BANDS, exactly, subject, reference, seed=1)
        except GoneError:
            return math.inf
    return found.ratio if found.problem is None else math.inf


def _reference(number: int) -> int:
    total = 0
    for each in range(number):
        total += each
    return total


def test_an_honest_answer_is_as_fast_as_it_is(box: Box) -> None:
    assert race(box, FAST) < 1.5


@pytest.mark.parametrize(
    "cheat",
    [
        NO_CLOCK,
        LIE.replace("SAID", "0.0"),
        LIE.replace("SAID", "-1e9"),
        LIE.replace("SAID", "float('nan')"),
        SOMEBODY_ELSE,
        IN_A_THREAD,
        HELPER,
    ],
    ids=["no clock", "0 s", "less than 0 s", "no number", "a child", "a thread", "a helper"],
)
def test_a_slow_answer_is_slow_whatever_it_says_and_whoever_works(box: Box, cheat: str) -> None:
    assert race(box, SLOW + cheat) > 5


def test_without_a_lie_the_answer_would_have_been_believed(box: Box) -> None:
    """The cheats of this file are some: what the box says of itself is next to nothing."""
    assert box.run(SLOW + NO_CLOCK, 20) is None
    with box.taken("answer", 20.0) as subject:
        assert subject is not None
        outcome = subject.call([WORK])
        with subject.timed():
            told = subject.call([WORK])
    assert outcome.fate.seconds < 0.01 < told.fate.seconds

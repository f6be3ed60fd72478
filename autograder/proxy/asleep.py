"""What a thread had done elsewhere: it slept while somebody worked for it, or others worked beside.

Its own CPU time shows neither.
"""

from __future__ import annotations

import contextlib
import os
import resource
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import NamedTuple

THREAD = Path("/proc/thread-self")
_TASKS = Path("/proc/self/task")

_NANOSECONDS = 1e9
_ASLEEP, _SHARE_ASLEEP = 20e-3, 0.25
"""Seconds, and the share of a call, for which an answer may sleep: a page has to be read, or the
machine is a virtual one that the host does not let run."""
_BESIDE = 20e-3
"""Seconds that other threads may work beside a call: those of a notebook hear of messages. And
those for which processes may that nobody waits for: theirs are counted in ticks of the clock."""
_TICKS = os.sysconf("SC_CLK_TCK")


class Process(NamedTuple):
    """A process.

    Attributes:
        parent: The number of the one that started it.
        started: When it did, in ticks of the clock.
        number: Its own.
        worked: Its CPU seconds, and those of the ones that it waited for.
    """

    parent: int
    started: int
    number: int
    worked: float


class Awake(NamedTuple):
    """What a thread has done up to a moment.

    Attributes:
        ready: Seconds for which it has worked, or waited for a processor; 0 where no kernel counts.
        at: The time.
        beside: CPU seconds of the other threads that Python knows of, by id. Those with which a
            library computes are not among them: one of its calls may well use several.
        children: CPU seconds of the processes that it started and waited for.
        alive: The processes that there are. One that is cut loose, since who started it is over,
            is nobody's.
    """

    ready: float
    at: float
    beside: Mapping[int, float] = MappingProxyType({})
    children: float = 0.0
    alive: tuple[Process, ...] = ()


def awake_now() -> Awake:
    """Return what this thread has done so far."""
    others = {each.native_id for each in threading.enumerate()} - {None, threading.get_native_id()}
    beside = {each: scheduled(_TASKS / str(each))[0] for each in others if each is not None}
    spent = resource.getrusage(resource.RUSAGE_CHILDREN)
    children = spent.ru_utime + spent.ru_stime
    return Awake(sum(scheduled(THREAD)), time.monotonic(), beside, children, _processes())


def had_done_between(began: Awake, ended: Awake) -> float:
    """Return what this thread had done by others, in seconds: by other threads, and by processes.

    Either somebody worked, or it waited for somebody of whom no more is known.

    >>> began = Awake(1.0, 50.0, {7: 3.0})
    >>> had_done_between(began, Awake(1.5, 50.6, {7: 3.01}))
    0.0
    >>> round(had_done_between(began, Awake(1.5, 50.6, {7: 3.3, 8: 0.1}, children=0.1)), 3)
    0.48
    >>> round(had_done_between(began, Awake(1.1, 51.0)), 3)
    0.63
    """
    worked = sum(each - began.beside.get(name, 0.0) for name, each in ended.beside.items())
    beside = max(0.0, worked - _BESIDE)
    waited_for = max(0.0, ended.children - began.children)
    unwaited = max(0.0, worked_below(began.alive, ended.alive, os.getpid()) - _BESIDE)
    return max(slept_between(began, ended), beside + waited_for + unwaited)


def worked_below(known: Sequence[Process], now: Sequence[Process], root: int) -> float:
    """Return the CPU seconds of the processes below one that has not been known to run before.

    Those below a known one are its own: it may be anybody's work that runs beside.

    >>> before = [Process(7, 1, 100, 9.0)]
    >>> new = [Process(7, 5, 200, 0.25), Process(200, 6, 201, 0.5), Process(100, 6, 202, 3.0)]
    >>> worked_below(before, [*before, *new], root=7)
    0.75
    """
    old = {(each.number, each.started) for each in known}
    below, seconds = [root], 0.0
    while below:
        parent = below.pop()
        for each in now:
            if each.parent == parent and (each.number, each.started) not in old:
                seconds += each.worked
                below.append(each.number)
    return seconds


def _processes() -> tuple[Process, ...]:
    """Return the processes that there are; none where this one has no child, or no kernel tells."""
    if sys.platform != "linux":
        return ()
    found: list[Process] = []
    try:
        os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
    except ChildProcessError:
        return ()
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            # The name stands in brackets, and may have blanks and brackets in it.
            fields = stat.read_text("utf-8", "replace").rpartition(")")[2].split()
            worked = sum(map(int, fields[11:15])) / _TICKS
            number = int(stat.parent.name)
            found.append(Process(int(fields[1]), int(fields[19]), number, worked))
    return tuple(found)


def slept_between(began: Awake, ended: Awake) -> float:
    """Return for how long a thread slept, beyond what happens to anybody.

    >>> slept_between(Awake(1.0, 50.0), Awake(1.5, 50.6))
    0.0
    >>> round(slept_between(Awake(1.0, 50.0), Awake(1.1, 51.0)), 3)
    0.63
    >>> slept_between(Awake(0.0, 50.0), Awake(0.0, 51.0))  # nobody counts
    0.0
    """
    if ended.ready == 0:
        return 0.0
    passed = ended.at - began.at
    return beyond_chance(passed - (ended.ready - began.ready), passed)


def beyond_chance(asleep: float, passed: float) -> float:
    """Return what of the sleep is an answer's own, in seconds.

    Args:
        asleep: Seconds that nobody worked, or waited for a processor.
        passed: Seconds that the call took.

    >>> beyond_chance(0.02, passed=0.1), round(beyond_chance(0.5, passed=1.0), 3)
    (0.0, 0.23)
    """
    return max(0.0, asleep - _ASLEEP - _SHARE_ASLEEP * passed)


def scheduled(thread: Path) -> tuple[float, float]:
    """Return for how long a thread has worked, and waited for a processor, in seconds.

    Args:
        thread: Its folder below ``/proc``.
    """
    try:
        worked, waited, _ = (thread / "schedstat").read_text("ascii").split()
    except FileNotFoundError:
        return 0.0, 0.0
    return int(worked) / _NANOSECONDS, int(waited) / _NANOSECONDS

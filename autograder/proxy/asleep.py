"""What a thread had done elsewhere: it slept while somebody worked for it, or others worked beside.

Its own CPU time shows neither.
"""

from __future__ import annotations

import contextlib
import os
import resource
import threading
import time
from collections.abc import Mapping
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
those for which processes may work that are not over: they are counted in ticks of the clock."""
_TICKS = os.sysconf("SC_CLK_TCK")


class Awake(NamedTuple):
    """What a thread has done up to a moment.

    Attributes:
        ready: Seconds for which it has worked, or waited for a processor; 0 where no kernel counts.
        at: The time.
        beside: CPU seconds of the other threads that Python knows of, by id. Those with which a
            library computes are not among them: one of its calls may well use several.
        children: CPU seconds of the processes that it started and waited for.
        alive: Those of the processes that it started, and that these started, for which nobody has
            waited yet. One that is cut loose, since who started it is over, is not among them.
    """

    ready: float
    at: float
    beside: Mapping[int, float] = MappingProxyType({})
    children: float = 0.0
    alive: float = 0.0


def awake_now() -> Awake:
    """Return what this thread has done so far."""
    others = {each.native_id for each in threading.enumerate()} - {None, threading.get_native_id()}
    beside = {each: scheduled(_TASKS / str(each))[0] for each in others if each is not None}
    spent = resource.getrusage(resource.RUSAGE_CHILDREN)
    children = spent.ru_utime + spent.ru_stime
    return Awake(sum(scheduled(THREAD)), time.monotonic(), beside, children, _worked_below())


def had_done_between(began: Awake, ended: Awake) -> float:
    """Return what this thread had done by others, in seconds: by other threads, and by processes.

    Either somebody worked, or it waited for somebody of whom no more is known.

    >>> began = Awake(1.0, 50.0, {7: 3.0})
    >>> had_done_between(began, Awake(1.5, 50.6, {7: 3.01}))
    0.0
    >>> round(had_done_between(began, Awake(1.5, 50.6, {7: 3.3, 8: 0.1}, children=0.1)), 3)
    0.48
    >>> round(had_done_between(began, Awake(1.5, 50.6, {7: 3.0}, alive=0.1)), 3)
    0.08
    >>> round(had_done_between(began, Awake(1.1, 51.0)), 3)
    0.63
    """
    worked = sum(each - began.beside.get(name, 0.0) for name, each in ended.beside.items())
    beside = max(0.0, worked - _BESIDE)
    waited_for = max(0.0, ended.children - began.children)
    alive = ended.children + ended.alive - began.children - began.alive - _BESIDE
    return max(slept_between(began, ended), beside + max(waited_for, alive))


def _worked_below() -> float:
    """Return the CPU seconds of the processes below this one, with those that they waited for."""
    started_by: dict[int, list[int]] = {}
    worked: dict[int, float] = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            # The name stands in brackets, and may have blanks and brackets in it.
            fields = stat.read_text("utf-8", "replace").rpartition(")")[2].split()
            number = int(stat.parent.name)
            started_by.setdefault(int(fields[1]), []).append(number)
            worked[number] = sum(map(int, fields[11:15])) / _TICKS
    below, seconds = [os.getpid()], 0.0
    while below:
        ones = started_by.get(below.pop(), [])
        seconds += sum(worked[each] for each in ones)
        below += ones
    return seconds


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

"""How long a thread slept that had work to do: it waited for somebody, and no CPU time shows it."""

from __future__ import annotations

import time
from pathlib import Path
from typing import NamedTuple

THREAD = Path("/proc/thread-self")

_NANOSECONDS = 1e9
_ASLEEP, _SHARE_ASLEEP = 20e-3, 0.25
"""Seconds, and the share of a call, for which an answer may sleep: a page has to be read, or the
machine is a virtual one that the host does not let run."""


class Awake(NamedTuple):
    """What a thread has done up to a moment.

    Attributes:
        ready: Seconds for which it has worked, or waited for a processor; 0 where no kernel counts.
        at: The time.
    """

    ready: float
    at: float


def awake_now() -> Awake:
    """Return what this thread has done so far."""
    return Awake(sum(scheduled(THREAD)), time.monotonic())


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

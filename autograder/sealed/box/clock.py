"""What calls take, as the kernel counts it outside of the box: nobody can patch that clock.

What a process takes that ends meanwhile can go uncounted. So an answer that sleeps is charged for
that: it waits for somebody who works for it. Who only has to wait for a processor does not sleep.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass

from autograder.proxy.asleep import THREAD, beyond_chance, scheduled
from autograder.sealed.box.spent import PROC, TICKS, processes_with, ticks_in

_PER_CALL, _PER_BYTE = 5e-3, 200e-9
"""Seconds that nobody is charged for: to read a call, and to write what came of it, by bytes."""


class UncountedError(Exception):
    """A process has ended while it was timed, and nobody knows what it took."""


@dataclass(frozen=True)
class Reading:
    """What a clock shows at a moment.

    Attributes:
        seconds: CPU time of each process of the box, its threads and the children that it waited
            for, by id.
        ready: What each thread of the box has worked and waited for a processor, by process and id.
        judge: Likewise, of the thread that reads.
        at: The time.
    """

    seconds: Mapping[int, float]
    ready: Mapping[tuple[int, int], float]
    judge: float
    at: float


def read(pid: int) -> Reading:
    """Read the clock of a box.

    Args:
        pid: A process in it, as it is known outside.

    Raises:
        OSError: It is gone.
    """
    seconds, ready = {}, {}
    for process in processes_with(pid):
        try:
            threads = dict(_threads_of(process))
            own, of_children = ticks_in(PROC / str(process))
        except OSError:
            continue
        ready.update({(process, number): sum(each) for number, each in threads.items()})
        # The one knows of threads that have ended, the other of less than a hundredth of a second.
        worked = sum(working for working, _ in threads.values())
        seconds[process] = max(own / TICKS, worked) + of_children / TICKS
    judge = sum(scheduled(THREAD))
    return Reading(seconds, ready, judge, time.monotonic())


def seconds_between(began: Reading, ended: Reading, moved: int) -> float:
    """Return what a call has taken at the least.

    Args:
        began: What the clock showed before the call.
        ended: What it showed behind it.
        moved: The bytes that were sent for it, and came back.

    Raises:
        UncountedError: A process that was there before is gone.

    >>> before = Reading({7: 1.0}, {(7, 7): 1.0}, judge=3.0, at=50.0)
    >>> works = Reading({7: 2.0}, {(7, 7): 2.5}, judge=3.1, at=51.6)
    >>> seconds_between(before, works, moved=1_000_000)
    0.795
    >>> sleeps = Reading({7: 1.0}, {(7, 7): 1.0}, judge=3.1, at=51.6)
    >>> round(seconds_between(before, sleeps, moved=0), 3)
    1.075
    """
    if not began.seconds.keys() <= ended.seconds.keys():
        raise UncountedError("a process ended while an answer's time was taken")
    worked = sum(ended.seconds.values()) - sum(began.seconds.values())
    charged = worked + _hidden(began, ended) - _PER_CALL - _PER_BYTE * moved
    return max(0.0, charged)


def _hidden(began: Reading, ended: Reading) -> float:
    """Return for how long a box slept that had a call to answer, beyond what happens to anybody."""
    judge = ended.judge - began.judge
    if judge == 0:
        # This kernel does not count it.
        return 0.0
    busiest = max(ready - began.ready.get(thread, 0.0) for thread, ready in ended.ready.items())
    passed = ended.at - began.at
    return beyond_chance(passed - judge - busiest, passed)


def _threads_of(process: int) -> list[tuple[int, tuple[float, float]]]:
    tasks = (PROC / str(process) / "task").iterdir()
    return [(int(each.name), scheduled(each)) for each in tasks]

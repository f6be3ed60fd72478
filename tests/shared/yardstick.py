"""Seconds of computing as a quiet machine would take them, told on a busy one.

A machine that others use computes slower, up to three times in our runs, and its CPU clocks count
that. What everything suffers alike, a yardstick that is timed in the same rounds suffers too.
"""

from __future__ import annotations

import time
from collections.abc import Callable

YARDSTICK_SECONDS = 0.05
"""What the yardstick takes on a quiet machine, and not one of the fastest."""


def cpu_seconds(work: Callable[[], object]) -> float:
    """Return the CPU time that some work takes here."""
    start = time.process_time()
    work()
    return time.process_time() - start


def quiet_seconds(measure: Callable[[], float], rounds: int = 3) -> float:
    """Return what a quiet machine would have measured.

    Args:
        measure: Does the work and says how many seconds it took.
        rounds: How often it is measured, in turns with the yardstick; the best time of each counts.
    """
    times = [(measure(), cpu_seconds(_yardstick)) for _ in range(rounds)]
    own, yardstick = map(min, zip(*times, strict=True))
    return own / yardstick * YARDSTICK_SECONDS


def _yardstick() -> int:
    return sum(number * number for number in range(1_000_000))

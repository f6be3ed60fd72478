"""What is made of many times that something took."""

from __future__ import annotations

import math
from collections.abc import Iterable


def percentile(times: tuple[float, ...], percent: float) -> float:
    """Return the smallest of the times that so many per cent of all do not exceed.

    >>> percentile((30.0, 10.0, 20.0, 40.0), 75)
    30.0
    """
    ordered = sorted(times)
    return ordered[max(0, math.ceil(len(ordered) * percent / 100) - 1)]


def best_round(rounds: Iterable[tuple[float, ...]]) -> tuple[float, ...]:
    """Return the round in which others used the machine least: its 95th percentile is the lowest.

    >>> best_round([(9.0, 8.0), (3.0, 8.5), (7.0, 7.0)])
    (7.0, 7.0)
    """
    return min(rounds, key=lambda times: percentile(times, 95))

"""What the processes of a box have taken of the processors, as the kernel counts it outside."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

_PROC = Path("/proc")
_TICKS = os.sysconf("SC_CLK_TCK")
_TIMES = slice(11, 15)
"""Where ``stat`` has, behind the name, the time of a process and that of children it waited for."""


_RUNNABLE = ("R", "D")
"""States of a process that goes on as soon as it is given a processor, or its page."""


@dataclass(frozen=True)
class Spent:
    """What the processes of a box have taken, and whether one of them wants more.

    Attributes:
        seconds: CPU time, that of ended processes included.
        is_at_work: Whether a process could go on if it had a processor.
    """

    seconds: float
    is_at_work: bool


def spent_by(pid: int) -> Spent | None:
    """Return what all processes that share a pid namespace have taken.

    Args:
        pid: One of them, seen from outside.

    Returns:
        None where the kernel does not say whose namespace is whose.

    >>> spent_by(-1) is None
    True
    """
    try:
        namespace = (_PROC / str(pid) / "ns" / "pid").readlink()
    except OSError:
        return None
    ticks, states = 0, set()
    for process in _PROC.iterdir():
        if process.name.isdecimal():
            try:
                if (process / "ns" / "pid").readlink() == namespace:
                    said = (process / "stat").read_text("ascii", "replace").rpartition(")")[2]
                    ticks += sum(map(int, said.split()[_TIMES]))
                    states.add(said.split()[0])
            except OSError:
                continue
    return Spent(ticks / _TICKS, not states.isdisjoint(_RUNNABLE))

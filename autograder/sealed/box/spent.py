"""What the processes of a box have taken of the processors, as the kernel counts it outside."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

PROC = Path("/proc")
TICKS = os.sysconf("SC_CLK_TCK")
"""Parts of a second in which ``stat`` counts."""

_STATE, _TIMES = 0, slice(11, 15)
"""Where ``stat`` has, behind the name, the state of a process, and its time in the program and in
the kernel, then that of children it waited for."""


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
    ticks, states = 0, set()
    try:
        for process in processes_with(pid):
            try:
                ticks += sum(ticks_in(PROC / str(process)))
                states.add(_stat(PROC / str(process))[_STATE])
            except OSError:
                continue
    except OSError:
        return None
    return Spent(ticks / TICKS, not states.isdisjoint(_RUNNABLE))


def processes_with(pid: int) -> Iterator[int]:
    """Yield the processes that share a pid namespace with one of them, seen from outside.

    Raises:
        OSError: That one is gone, or the kernel does not say whose namespace is whose.
    """
    namespace = (PROC / str(pid) / "ns" / "pid").readlink()
    for process in PROC.iterdir():
        if process.name.isdecimal():
            try:
                if (process / "ns" / "pid").readlink() == namespace:
                    yield int(process.name)
            except OSError:
                continue


def ticks_in(process: Path) -> tuple[int, int]:
    """Return the time of a process, and that of children that it waited for, in ``TICKS``.

    Args:
        process: Its folder in ``/proc``.

    Raises:
        OSError: It is gone.
    """
    own, in_kernel, of_children, in_kernel_for_them = map(int, _stat(process)[_TIMES])
    return own + in_kernel, of_children + in_kernel_for_them


def _stat(process: Path) -> list[str]:
    return (process / "stat").read_text("ascii", "replace").rpartition(")")[2].split()

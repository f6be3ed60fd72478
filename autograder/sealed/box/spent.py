"""What the processes of a box have taken of the processors, as the kernel counts it outside."""

from __future__ import annotations

import os
from pathlib import Path

_PROC = Path("/proc")
_TICKS = os.sysconf("SC_CLK_TCK")
_TIMES = slice(11, 15)
"""Where ``stat`` has, behind the name, the time of a process and that of children it waited for."""


def cpu_seconds(pid: int) -> float | None:
    """Return the CPU time of all processes that share a pid namespace, the ended ones included.

    Args:
        pid: One of them, seen from outside.

    Returns:
        Seconds; None where the kernel does not say whose namespace is whose.

    >>> cpu_seconds(-1) is None
    True
    """
    try:
        namespace = (_PROC / str(pid) / "ns" / "pid").readlink()
    except OSError:
        return None
    ticks = 0
    for process in _PROC.iterdir():
        if process.name.isdecimal():
            try:
                if (process / "ns" / "pid").readlink() == namespace:
                    said = (process / "stat").read_text("ascii", "replace").rpartition(")")[2]
                    ticks += sum(map(int, said.split()[_TIMES]))
            except OSError:
                continue
    return ticks / _TICKS

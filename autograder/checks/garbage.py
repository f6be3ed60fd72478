"""Fewer rounds of the garbage collector while a check is at work."""

from __future__ import annotations

import contextlib
import gc
from collections.abc import Iterator

OBJECTS = 20_000
"""New objects after which Python looks for garbage: 700 unless told.

A search makes objects without end, and nearly all of them go by themselves: only a cycle needs the
collector. With 20,000 the check of a class took a twentieth less CPU time; the price is the memory
of so many objects that are garbage and not found yet.
"""


@contextlib.contextmanager
def collected_rarely() -> Iterator[None]:
    """Let Python look for garbage in cycles less often; who has turned that off leaves it off.

    >>> before = gc.get_threshold()
    >>> with collected_rarely():
    ...     gc.get_threshold()[0] >= OBJECTS
    True
    >>> gc.get_threshold() == before
    True
    """
    young, *older = before = gc.get_threshold()
    gc.set_threshold(young and max(young, OBJECTS), *older)
    try:
        yield
    finally:
        gc.set_threshold(*before)

"""The end of code that takes too much memory, in the process that waits for it."""

from __future__ import annotations

import math
import os
import sys
import time

MEMORY = 2 * 2**30
"""Bytes that a learner's code may take beyond what is in use already."""

_STATM = "/proc/self/statm"
_DATA = 5
"""The field of it with the pages that the process can write to and nobody else."""

_ENOUGH = 200
"""Bytes: seven numbers."""

_RECENT = 0.01
"""Seconds for which it is believed how much memory is in use: in so short a time a process writes
to a twentieth of ``MEMORY`` at the most, and to ask the kernel is most of what a limit costs."""


class MemoryLimit:
    """Lets the code below take so much more memory and no more, where the system counts (Linux).

    Past it Python raises MemoryError, so that a set of all slots of a large memory ends in a
    message, and not in the end of the kernel with all that a learner has run. What is counted is
    what the process may write to: address space alone says little, since torch reserves gigabytes
    that it never touches.

    Args:
        num_bytes: How much more.

    >>> with MemoryLimit(64 * 2**20):
    ...     total = sum(range(10))
    """

    def __init__(self, num_bytes: int = MEMORY) -> None:
        self._num_bytes = num_bytes
        self._before: tuple[int, int] | None = None

    def __enter__(self) -> MemoryLimit:
        if sys.platform == "linux":
            import resource

            soft, hard = before = resource.getrlimit(resource.RLIMIT_DATA)
            wanted = _usage.num_bytes() + self._num_bytes
            if soft == resource.RLIM_INFINITY or soft > wanted:
                resource.setrlimit(resource.RLIMIT_DATA, (wanted, hard))
                self._before = before
        return self

    def __exit__(self, *exc: object) -> None:
        if self._before is not None:
            import resource

            resource.setrlimit(resource.RLIMIT_DATA, self._before)


def bytes_of_data() -> int:
    """Return how much this process can write to in memory by now; Linux only.

    Raises:
        OSError: The system does not say.
    """
    import resource

    # Read with each call of a learner's object, so without a file object.
    file = os.open(_STATM, os.O_RDONLY)
    try:
        said = os.read(file, _ENOUGH)
    finally:
        os.close(file)
    return int(said.split()[_DATA]) * resource.getpagesize()


class _Usage:
    """How much the process can write to, as it was said a moment ago."""

    def __init__(self) -> None:
        self._asked = -math.inf
        self._num_bytes = 0

    def num_bytes(self) -> int:
        """Return what it was at most ``_RECENT`` ago."""
        now = time.monotonic()
        if now > self._asked + _RECENT:
            self._asked, self._num_bytes = now, bytes_of_data()
        return self._num_bytes


_usage = _Usage()

"""Lesson by lesson, in as many processes as there are processors."""

from __future__ import annotations

import multiprocessing
import os
import signal
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import TypeVar

_Result = TypeVar("_Result")


def each_source(work: Callable[[Path], _Result], sources: Sequence[Path]) -> Iterator[_Result]:
    """Yield what a function returns for each source, in their order, as it comes.

    What it raises for a source is raised when its turn comes; sources behind it are given up.

    Args:
        work: A function of a module: another process finds it by its name.
        sources: The lessons.

    >>> list(each_source(Path.exists, [Path("/")]))
    [True]
    """
    num_processes = min(len(sources), os.cpu_count() or 1)
    if num_processes < 2:
        yield from map(work, sources)
        return
    # Not forked: this process has threads, such as that of a progress bar.
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(num_processes, context, initializer=_leave_interrupts) as pool:
        try:
            yield from pool.map(work, sources)
        finally:
            pool.shutdown(wait=False, cancel_futures=True)


def _leave_interrupts() -> None:
    """Leave Ctrl-C to the process that started this one: it stops the others."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)

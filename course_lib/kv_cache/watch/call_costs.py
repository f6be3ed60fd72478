"""What a call costs, counted and not timed, and whether a result stays as it came.

Seconds depend on what else a machine does. How many lines of Python a call runs, and how many bytes
it holds on the way, do not.
"""

from __future__ import annotations

import sys
import tracemalloc
from collections.abc import Callable, Sequence
from types import FrameType
from typing import Any

from course_lib.kv_cache.block_table import BlockTable


class _EnoughError(BaseException):
    """So many lines have run that nobody counts further; not an Exception, so that few catch it."""


def lines_run(function: Callable[..., object], arguments: Sequence[Any], at_most: int) -> int:
    """Return how many lines of Python one call runs, those of the functions that it calls included.

    A line counts each time that it is begun, so that a loop or comprehension in one line counts
    once for each turn.

    Args:
        function: What is called.
        arguments: Its arguments.
        at_most: After so many lines the call is ended, and this is the answer.

    >>> lines_run(lambda numbers: [2 * number for number in numbers], [range(1_000)], 10**6) > 1_000
    True
    >>> lines_run(lambda numbers: [2 * number for number in numbers], [range(1_000)], 50)
    50
    >>> lines_run(sorted, [range(1_000)], 50)
    0
    """
    num_lines = 0

    def trace(frame: FrameType, event: str, argument: object) -> Any:
        nonlocal num_lines
        num_lines += event == "line"
        if num_lines >= at_most:
            raise _EnoughError
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        function(*arguments)
    except _EnoughError:
        pass
    finally:
        sys.settrace(before)
    return num_lines


def bytes_held(function: Callable[..., object], arguments: Sequence[Any]) -> int:
    """Return the most bytes that one call holds at once, of Python's objects and NumPy's arrays.

    >>> import numpy as np
    >>> small, large = (bytes_held(np.arange, [size]) for size in (1_000, 100_000))
    >>> small < 20_000 < 800_000 <= large < 820_000
    True
    """
    was_tracing = tracemalloc.is_tracing()
    if not was_tracing:
        tracemalloc.start()
    try:
        tracemalloc.reset_peak()
        held_before = tracemalloc.get_traced_memory()[0]
        function(*arguments)
        return tracemalloc.get_traced_memory()[1] - held_before
    finally:
        if not was_tracing:
            tracemalloc.stop()


def slot_copies_blocks(table: BlockTable, num_blocks: int = 10_000) -> bool:
    """Append blocks, ask twice for the first slot, and say whether the second time copied them.

    Args:
        table: The table.
        num_blocks: How many blocks are appended; from some thousands on, a copy of their numbers,
            of 4 bytes each or more, is larger than all else that a call holds.

    >>> slot_copies_blocks(BlockTable(block_size=16))
    False
    """
    table.append(range(num_blocks))
    table.slot(0)  # whoever imports a module does it here
    return bytes_held(table.slot, [0]) >= 4 * num_blocks


def first_after_second(
    function: Callable[..., object], first: Sequence[Any], second: Sequence[Any]
) -> object:
    """Call a function twice, and return the first result as it is after the second call.

    Args:
        function: What is called.
        first: The arguments of the first call.
        second: Those of the second.

    >>> buffer = []
    >>> def filled(number):
    ...     buffer[:] = [number]
    ...     return buffer
    >>> first_after_second(filled, [1], [2]), first_after_second(lambda n: [n], [1], [2])
    ([2], [1])
    """
    result = function(*first)
    function(*second)
    return result

"""When an answer on a large input is too late."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

SLOWER = 10
"""How many times the reference's own time a large call may take, if that is more than its limit."""

TURNS = 3
"""How often an answer may come late before that counts."""

Failure = TypeVar("Failure")


def unless_by_chance(look: Callable[[], tuple[Failure | None, bool]]) -> Failure | None:
    """Return what is wrong with an answer; ask again where it is only that it came late.

    A machine may stand still for a second while its clocks say that the answer was being computed.
    What takes too long by its own doing does so each time.

    Args:
        look: Asks once; returns what is wrong, if anything is, and whether it is lateness alone.

    >>> looks = iter([("late", True), (None, False)])
    >>> unless_by_chance(lambda: next(looks)) is None
    True
    >>> unless_by_chance(lambda: ("late", True))
    'late'
    """
    for _ in range(TURNS):
        failure, is_late = look()
        if not is_late:
            break
    return failure

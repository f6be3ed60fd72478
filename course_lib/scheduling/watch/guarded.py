"""Requests that live by a table of moves that somebody else has written."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping

from course_lib.scheduling.request import IllegalTransitionError, Request, RequestStatus


def guarded_by(moves: Mapping[str, Collection[str]], seen: Counter[str]) -> type[Request]:
    """Return a class of requests that make only moves that are in a table.

    Args:
        moves: For each status, by its value, those that may follow it.
        seen: Counts the moves that are made, as "waiting to running".

    Returns:
        A subclass of ``Request`` whose status raises IllegalTransitionError when it is set to one
        that the table does not have.

    >>> made = Counter()
    >>> request = guarded_by({"waiting": {"running"}}, made)("a", [1, 2], max_tokens=3)
    >>> request.status = RequestStatus.RUNNING
    >>> made
    Counter({'waiting to running': 1})
    >>> request.status = RequestStatus.PREEMPTED
    Traceback (most recent call last):
    course_lib.scheduling.request.IllegalTransitionError: your table has no move from running to preempted
    """  # noqa: E501  # the message of an error is one line

    class Guarded(Request):
        """A request that looks each move up before it makes it."""

        @property
        def status(self) -> RequestStatus:
            """Where it is in its life."""
            return super().status

        @status.setter
        def status(self, new: RequestStatus) -> None:
            """Make a move, if the table has it."""
            move = f"{self.status.value} to {new.value}"
            if new.value not in moves.get(self.status.value, ()):
                raise IllegalTransitionError(f"your table has no move from {move}")
            seen[move] += 1
            Request.status.fset(self, new)  # type: ignore[attr-defined]

    return Guarded

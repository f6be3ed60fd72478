"""What was handed in and cannot be graded: the reason, and nobody else's grade changes for it."""

from __future__ import annotations

from dataclasses import dataclass


class RefusedError(Exception):
    """Why something that was handed in cannot be graded, in one line."""


@dataclass(frozen=True)
class Quarantined:
    """A submission that cannot be graded until a person has looked at it.

    Attributes:
        student: Whose it is.
        lesson: The lesson.
        reason: What is the matter and what to do, in one line.

    >>> Quarantined("ada", "01_lesson", "there is no notebook; ask for it").reason
    'there is no notebook; ask for it'
    """

    student: str
    lesson: str
    reason: str

"""What the course's own answers do where each submission is asked the same: it is remembered."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Generic, TypeVar

from autograder.proxy.subject import Subject

Asked = TypeVar("Asked")
Came = TypeVar("Came")


class Memory(Generic[Asked, Came]):
    """Remembers what came of asking the reference, or a known wrong answer, what all are asked.

    The course's answers do the same each time. What is drawn anew is not remembered, nor what did
    not come in time: a machine that stood still once must not decide for all submissions behind.

    Args:
        fixed: What all are asked. It is known by being the same object.
        ask: Asks a subject.

    Attributes:
        fixed: What all are asked.

    >>> from autograder.proxy.subject import LocalSubject
    >>> asked, probes = [], (("abc",), ("",))
    >>> def ask(subject, probe):
    ...     asked.append(probe)
    ...     return subject.call(probe).value
    >>> memory = Memory(probes, ask)
    >>> [memory.of(len, probes[0], LocalSubject(len)) for _ in range(3)], asked
    ([3, 3, 3], [('abc',)])
    """

    def __init__(self, fixed: Iterable[Asked], ask: Callable[[Subject, Asked], Came]) -> None:
        # Whoever is known by its id is kept, so that no other object gets that id.
        self.fixed = tuple(fixed)
        self._ids = set(map(id, self.fixed))
        self._ask = ask
        self._came: dict[tuple[int, int], tuple[object, Came]] = {}

    def of(self, answer: object, asked: Asked, subject: Subject) -> Came:
        """Return what comes of asking an answer of the course.

        Args:
            answer: The reference, or a known wrong answer.
            asked: What it is asked.
            subject: The answer as a subject, which is asked unless it was before.
        """
        key = id(answer), id(asked)
        if key in self._came:
            return self._came[key][1]
        came = self._ask(subject, asked)
        if id(asked) in self._ids and not subject.is_silent:
            self._came[key] = answer, came
        return came

"""Where a tracer writes down what it sees."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from course_lib.engine.tracing.events import BEHIND, Component, Event
from course_lib.steps import Step

Decode = Callable[[Sequence[int]], str]
"""Makes text of tokens."""


class TraceLog:
    """The events and the steps of a run, as they come.

    Invariant: an event that belongs to a step has its index in ``steps``, where the step is entered
    when it is over.

    Attributes:
        events: What happened.
        steps: The steps that are over.
        step: The step that is under way; None between steps.
        queues: For each step in which some wait behind the first in line: "behind" and its name.

    >>> log = TraceLog()
    >>> with log.span("tokenizer", "encodes", text="Hello") as known:
    ...     known["num_tokens"] = 2
    >>> log.events[0].action, log.events[0].num_tokens, log.events[0].text
    ('encodes', 2, 'Hello')
    """

    def __init__(self) -> None:
        self.events: list[Event] = []
        self.steps: list[Step] = []
        self.step: int | None = None
        self.queues: dict[int, str] = {}
        self._origin = time.monotonic()
        # Where in ``events`` the newest wait of each request is.
        self._waits: dict[str, int] = {}

    def now(self) -> float:
        """Return the time, in seconds since the log was begun."""
        return time.monotonic() - self._origin

    def seconds_at(self, moment: float) -> float:
        """Return a time of ``time.monotonic`` in seconds since the log was begun."""
        return moment - self._origin

    def add(
        self, component: Component, action: str, start: float, end: float, **known: Any
    ) -> None:
        """Write down an event of the step under way.

        Args:
            component: Who did it.
            action: What was done.
            start: When it began.
            end: When it was over.
            **known: Other fields of ``Event``.
        """
        self.events.append(
            Event(start, end - start, component, action, **{"step": self.step} | known)
        )

    def add_wait(self, request_id: str, start: float, end: float, reason: str = "") -> None:
        """Write down that a request waits in the step under way.

        Steps in a row in which it waits for the same reason are one event: there are few reasons,
        and many that wait. Behind whom is the same for all in a step, and written down once.

        >>> log = TraceLog()
        >>> for log.step in (4, 5, 6, 7):
        ...     log.add_wait("a", log.step, log.step + 0.5, "full" if log.step < 7 else "short")
        >>> [(event.step, event.last_step, event.end, event.reason) for event in log.events]
        [(4, 6, 6.5, 'full'), (7, None, 7.5, 'short')]
        """
        assert self.step is not None, "nobody waits between steps"
        if reason.startswith("behind "):
            self.queues[self.step] = reason
            reason = BEHIND
        place = self._waits.get(request_id)
        if place is not None:
            before = self.events[place]
            if before.reason == reason and before.steps.stop == self.step:
                seconds = end - before.start
                self.events[place] = before._replace(seconds=seconds, last_step=self.step)
                return
        self._waits[request_id] = len(self.events)
        self.add("scheduler", "waits", start, end, request_id=request_id, reason=reason)

    @contextmanager
    def span(self, component: Component, action: str, **known: Any) -> Iterator[dict[str, Any]]:
        """Write down the body as an event, also if it raises; yields its fields, to be added to."""
        start = self.now()
        try:
            yield known
        except Exception as error:
            known["reason"] = f"raises {type(error).__name__}: {error}"
            raise
        finally:
            self.add(component, action, start, self.now(), **known)


class Prompts:
    """Finds out which request an encoded prompt became; the scheduler sees only tokens.

    Args:
        log: Where the events are.
        decode: Makes text of tokens, special ones included; None without a tokenizer.

    >>> log = TraceLog()
    >>> prompts = Prompts(log, decode=None)
    >>> log.add("tokenizer", "encodes", 0.0, 0.1, text="Hello")
    >>> prompts.encoded([5, 6])
    >>> prompts.claim("a", [5, 6]), log.events[0].request_id
    ('Hello', 'a')
    """

    def __init__(self, log: TraceLog, decode: Decode | None) -> None:
        self._log = log
        self._decode = decode
        self._newest: tuple[list[int], int] = ([], -1)

    def encoded(self, token_ids: Sequence[int]) -> None:
        """Remember that the newest event gave these tokens."""
        self._newest = (list(token_ids), len(self._log.events) - 1)

    def claim(self, request_id: str, token_ids: Sequence[int]) -> str:
        """Return the text of a request's prompt; if it was encoded just now, say for whom."""
        newest, place = self._newest
        if newest and newest == list(token_ids):
            events = self._log.events
            events[place] = events[place]._replace(request_id=request_id)
            self._newest = ([], -1)
            return events[place].text
        return "" if self._decode is None else self._decode(token_ids)


def remembering(decode: Decode) -> Decode:
    """Return a decoder that remembers single tokens: the same ones are chosen again and again."""
    known: dict[int, str] = {}

    def decode_again(token_ids: Sequence[int]) -> str:
        if len(token_ids) != 1:
            return decode(token_ids)
        if token_ids[0] not in known:
            known[token_ids[0]] = decode(token_ids)
        return known[token_ids[0]]

    return decode_again

"""What a tracer has seen: a table of events, which can be told as a story or drawn as a time line.

``Trace`` is a run as a whole, ``RequestTrace`` one request in it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from functools import cached_property
from pathlib import Path
from typing import Any

from course_lib.engine.tracing import chrome, story
from course_lib.engine.tracing.events import BEHIND, Event, EventTable
from course_lib.steps import StepTable, write_chrome_trace


class Trace(EventTable):
    """All that a tracer has seen.

    A request that waits for the same reason in several steps in a row has one event for them all.

    Args:
        events: What happened.
        steps: The steps of the engine.
        queues: Whom requests waited behind in a step, by its number: see ``TraceLog``.

    Attributes:
        steps: The steps of the engine, in the table that the simulator keeps as well. Times are
            seconds since the tracer was attached.
        queues: As given.

    >>> trace = Trace([Event(0.0, 0.001, "api", "arrives", None, "a", num_tokens=5, text="Hello"),
    ...                Event(0.002, 0.004, "executor", "computes", 0, "a", 5, position=0)],
    ...               StepTable([]))
    >>> trace.request_ids, len(trace.request("a")), trace.rows()[1]["action"]
    (('a',), 2, 'computes')
    """

    def __init__(
        self, events: Iterable[Event], steps: StepTable, queues: Mapping[int, str] | None = None
    ) -> None:
        super().__init__(events)
        self.steps = steps
        self.queues = queues or {}

    @cached_property
    def request_ids(self) -> tuple[str, ...]:
        """The requests in it, in the order in which they first appear."""
        names = (event.request_id for event in self)
        return tuple(dict.fromkeys(name for name in names if name is not None))

    def each_step_of(self, event: Event) -> Iterator[Event]:
        """Yield an event once for each of its steps, at the time at which the step was planned.

        So a wait is told step by step, and behind whom it was.
        """
        if event.action != "waits":
            yield event
            return
        for step in event.steps:
            plan = self._plans.get(step, event)
            reason = self.queues.get(step, BEHIND) if event.reason == BEHIND else event.reason
            yield event._replace(
                start=plan.start, seconds=plan.seconds, step=step, reason=reason, last_step=None
            )

    @cached_property
    def _plans(self) -> dict[int | None, Event]:
        """When each step was planned."""
        return {event.step: event for event in self if event.action == "plans"}

    def request(self, request_id: str) -> RequestTrace:
        """Follow one request.

        Args:
            request_id: The scheduler's id: that of the request for its first answer, and
                ``1_`` before it for the second, and so on.

        Raises:
            ValueError: There is no such request in the trace.
        """
        if request_id not in self.request_ids:
            known = ", ".join(map(repr, self.request_ids)) or "none"
            raise ValueError(f"no request {request_id!r} in this trace; there are: {known}")
        return RequestTrace(self, request_id)

    def text(self) -> str:
        """Tell step by step what was done for whom: one line per request and step."""
        return story.tell_all(self, self.steps)

    def chrome_events(self) -> list[dict[str, Any]]:
        """Return trace events: a track per component, arrows along each request, and curves.

        The format is that of chrome://tracing and ui.perfetto.dev; times are in microseconds.
        """
        return chrome.chrome_events(self, self.steps, self.request_ids)

    def to_chrome_trace(self, path: str | Path) -> None:
        """Write a JSON file for chrome://tracing or ui.perfetto.dev."""
        write_chrome_trace(path, self.chrome_events())


class RequestTrace(EventTable):
    """The events of one request, each step in which it waits by itself.

    It is made by ``Trace.request``.

    Attributes:
        request_id: The request.
        whole: The trace that it is in.
    """

    def __init__(self, whole: Trace, request_id: str) -> None:
        super().__init__(
            of_step
            for event in whole
            if event.request_id == request_id
            for of_step in whole.each_step_of(event)
        )
        self.whole = whole
        self.request_id = request_id

    def text(self) -> str:
        """Tell what happened to the request, step by step."""
        return story.tell_request(self.request_id, self)

    def chrome_events(self) -> list[dict[str, Any]]:
        """Return the trace events of the whole run, with arrows along this request alone."""
        return chrome.chrome_events(self.whole, self.whole.steps, [self.request_id])

    def to_chrome_trace(self, path: str | Path) -> None:
        """Write a JSON file for chrome://tracing or ui.perfetto.dev."""
        write_chrome_trace(path, self.chrome_events())

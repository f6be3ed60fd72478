"""A trace as Trace Event JSON, which chrome://tracing and ui.perfetto.dev draw as a time line.

The tracks from top to bottom are the steps and the components. What was done for a batch is one bar
there. Arrows lead from bar to bar along a request: down through a step, and on to the next one.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from course_lib.engine.tracing.events import COMPONENTS, Event
from course_lib.steps import StepTable

_MICROSECONDS = 1e6

_PROCESS = {"pid": 0}
"""All tracks are of one process. ``StepTable.chrome_events`` puts the steps on its track 0."""

_TRACKS = {component: number for number, component in enumerate(COMPONENTS, start=1)}
"""The track of each component."""

_PHASES = {
    "arrives": "waiting",
    "shares": "running",
    "starts": "running",
    "resumes": "running",
    "is preempted": "waiting",
    "is swapped out": "swapped",
    "finishes": "",
    "is aborted": "",
}
"""What a request does after an action, in one word; an empty one for nothing any more."""


def chrome_events(
    events: Sequence[Event], steps: StepTable, followed: Iterable[str]
) -> list[dict[str, Any]]:
    """Return the trace events of a run.

    Args:
        events: What happened, in order.
        steps: The steps of the engine.
        followed: The requests along which arrows lead.
    """
    shown = [*_names(), *steps.chrome_events()]
    shown += [_bar(event) for event in events if _is_drawn(event)]
    shown += _phases(events)
    for flow_id, request_id in enumerate(followed):
        stops = [event for event in events if event.request_id == request_id]
        shown += _arrows(flow_id, request_id, stops)
    return shown


def _names() -> Iterator[dict[str, Any]]:
    """Yield what the tracks are called, and their order."""
    yield {**_PROCESS, "ph": "M", "name": "process_name", "args": {"name": "engine"}}
    for name, number in [("steps", 0), *_TRACKS.items()]:
        here = {**_PROCESS, "tid": number, "ph": "M"}
        yield {**here, "name": "thread_name", "args": {"name": name}}
        yield {**here, "name": "thread_sort_index", "args": {"sort_index": number}}


def _is_drawn(event: Event) -> bool:
    """Say whether an event has a bar of its own, and is not part of a batch's."""
    is_batch = event.request_id is None
    return is_batch or event.component in ("api", "tokenizer", "block manager")


def _bar(event: Event) -> dict[str, Any]:
    """Return an event as a bar."""
    shown = {name: value for name, value in event.row().items() if value not in (None, "")}
    name = event.action if event.request_id is None else f"{event.action} {event.request_id}"
    return {
        **_PROCESS,
        "tid": _TRACKS[event.component],
        "ph": "X",
        "name": name,
        "ts": event.start * _MICROSECONDS,
        "dur": event.seconds * _MICROSECONDS,
        "args": {name: shown[name] for name in shown if name not in ("start", "seconds")},
    }


def _phases(events: Sequence[Event]) -> Iterator[dict[str, Any]]:
    """Yield when each request waited, ran, and was swapped out, as bars that may overlap."""
    phase_of: dict[str, str] = {}
    for event in events:
        name = event.request_id
        if name is None or event.action not in _PHASES:
            continue
        before, after = phase_of.get(name, ""), _PHASES[event.action]
        if before == after:
            continue
        # A request ends with what was done last for it, not with the beginning of that.
        moment = event.start if after else event.end
        for mark, phase in (("e", before), ("b", after)):
            if phase:
                yield {
                    **_PROCESS,
                    "tid": 0,
                    "ph": mark,
                    "cat": "request",
                    "id": name,
                    "name": phase,
                    "ts": moment * _MICROSECONDS,
                }
        phase_of[name] = after
    for name, phase in phase_of.items():
        if phase:
            yield {
                **_PROCESS,
                "tid": 0,
                "ph": "e",
                "cat": "request",
                "id": name,
                "name": phase,
                "ts": max(event.end for event in events) * _MICROSECONDS,
            }


def _arrows(flow_id: int, request_id: str, events: Iterable[Event]) -> Iterator[dict[str, Any]]:
    """Yield the arrows along a request: from the bar of each event to that of the next one."""
    # Where it only waited, no bar is about it; several events may be parts of the same bar.
    places = {(e.component, e.start): e for e in events if e.action != "waits"}
    stops = list(places.values())
    if len(stops) < 2:
        return
    marks = ["s", *["t"] * (len(stops) - 2), "f"]
    for mark, event in zip(marks, stops, strict=True):
        yield {
            **_PROCESS,
            "tid": _TRACKS[event.component],
            "ph": mark,
            "bp": "e",
            "cat": "request",
            "id": flow_id,
            "name": f"request {request_id}",
            "ts": event.start * _MICROSECONDS,
        }

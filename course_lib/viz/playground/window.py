"""A short window of a run: which request waited, computed and lost its place when."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

from course_lib.simulation.result import Pause, RequestOutcome, SimulationResult
from course_lib.viz.kit.charts.axes import Axis
from course_lib.viz.kit.charts.chart import Chart
from course_lib.viz.kit.charts.gantt import Span, gantt, with_idle
from course_lib.viz.kit.charts.words import number
from course_lib.viz.kit.layout import WIDE

MOST_ROWS = 12
"""Requests that have room in the chart of a window."""

_NAMES = {
    "prefill": "prefill, or computing again",
    "preempted": "lost its place",
    "idle": "not here yet, or gone",
}


class Window(NamedTuple):
    """A stretch of a run, in seconds on the virtual clock."""

    start: float
    end: float


def window_of(result: SimulationResult, at: float, share: float = 0.1) -> Window:
    """Return a window of a run.

    Args:
        result: The run.
        at: Where the window begins, as a share of the run, from 0 to 1.
        share: How long it is; one that would go beyond the end ends there.
    """
    first = float(result.arrival_times.min())
    begin = min(at, 1 - share)
    return Window(first + begin * result.makespan, first + (begin + share) * result.makespan)


def window_chart(
    result: SimulationResult, window: Window, title: str, width: float = WIDE
) -> Chart:
    """Draw what becomes of the requests to which most happens in a window.

    Args:
        result: The run.
        window: The stretch.
        title: What the chart is called.
        width: Extent of the whole chart to the right.
    """
    lives = {
        request.request_id: spans
        for request, spans in zip(result.requests, lives_of(result), strict=True)
        if any(window.start < span.end and span.start < window.end for span in spans)
    }
    busiest = sorted(lives, key=lambda name: -_num_changes(lives[name], window))[:MOST_ROWS]
    chosen = {name: spans for name, spans in lives.items() if name in busiest}
    axis = Axis("Time", "s", low=window.start, high=window.end)
    rows = {f"request {name}": _within(spans, window) for name, spans in chosen.items()}
    left_out = len(lives) - len(chosen)
    shown = f"{title}: {len(chosen)} of {len(lives)} requests" if left_out else title
    nobody = {"nobody is here": with_idle((), *window)}
    chart = gantt(shown, axis, rows or nobody, width, row_height=26, names=_NAMES)
    words = f"From {number(window.start)} s to {number(window.end)} s."
    return chart.drawn_over((), words)


def lives_of(result: SimulationResult) -> Iterator[tuple[Span, ...]]:
    """Yield the stretches of each request's life, in order; none of one that was refused."""
    pauses = result.pauses or ((),) * len(result.requests)
    for request, times, lost in zip(result.requests, result.token_log, pauses, strict=True):
        yield tuple(_life(request, times, lost)) if len(times) else ()


def _life(
    request: RequestOutcome, times: Sequence[float], pauses: tuple[Pause, ...]
) -> Iterator[Span]:
    """Yield the stretches of one request that got tokens."""
    yield from _span(request, request.arrival_time, request.first_scheduled_time, "waiting")
    at, state = request.first_scheduled_time, "prefill"
    moments: list[tuple[float, Pause | None]] = [
        *((time, None) for time in times),
        *((pause.start, pause) for pause in pauses),
    ]
    # A place is lost before the iteration in which its last token would have come.
    for moment, pause in sorted(moments, key=lambda each: each[0]):
        if pause is None and state == "decode" and moment < times[-1]:
            continue
        yield from _span(request, at, moment, state)
        at, state = moment, "decode"
        if pause is not None:
            yield from _span(request, pause.start, pause.end, "preempted")
            at, state = pause.end, "prefill" if pause.computes_again else "decode"


def _span(request: RequestOutcome, start: float, end: float, state: str) -> Iterator[Span]:
    if start < end:
        yield Span(start, end, state, of=("request", request.request_id))


def _num_changes(spans: tuple[Span, ...], window: Window) -> int:
    """Return how many stretches begin or end in a window."""
    edges = {edge for span in spans for edge in (span.start, span.end)}
    return sum(window.start <= edge <= window.end for edge in edges)


def _within(spans: tuple[Span, ...], window: Window) -> tuple[Span, ...]:
    """Return what lies in the window of the stretches, with nothing left blank."""
    cut = [
        Span(max(span.start, window.start), min(span.end, window.end), span.state, of=span.of)
        for span in spans
        if span.start < window.end and window.start < span.end
    ]
    return with_idle(cut, window.start, window.end)

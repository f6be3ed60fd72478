"""The waiting line: a bar for each request, from who is served next to who is served last."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator

from course_lib.scheduling.request import Request
from course_lib.viz.kit.charts.axes import Axis, Scale, vertical_axis, width_of_numbers
from course_lib.viz.kit.layout import bottom_of, legend, wrapped
from course_lib.viz.kit.shapes import HEADING_SIZE, SMALL_SIZE, Line, Rect, Shape, Text, Tone
from course_lib.viz.policies.race import MOST_BARS, Race, ServedLine
from course_lib.viz.policies.reasons import kind_of, label

MARGIN = 24
_HEIGHT = 130
_ROW = 21
_SOON = 30.0

Tint = Callable[[Request, float], tuple[str, str]]
"""Returns the state of a bar, and its name in the legend."""


def _by_client(request: Request, _seconds: float) -> tuple[str, str]:
    is_first = request.client_id == "a"
    return ("series-1" if is_first else "series-2"), f"client {request.client_id or 'without name'}"


def _by_priority(request: Request, _seconds: float) -> tuple[str, str]:
    is_first = request.priority <= 0
    return ("series-2", "priority 0 or less") if is_first else ("series-1", "priority 1 or more")


def _by_deadline(request: Request, seconds: float) -> tuple[str, str]:
    left = request.deadline - seconds
    if not math.isfinite(left):
        return "series-1", "no deadline"
    if left < 0:
        return "series-6", "late already"
    return ("series-2", f"due within {_SOON:g} s") if left <= _SOON else ("series-1", "due later")


def _plain(_request: Request, _seconds: float) -> tuple[str, str]:
    return "waiting", "waits"


_TINTS: dict[str, Tint] = {
    "priority": _by_priority,
    "ageing": _by_priority,
    "vtc": _by_client,
    "wfq": _by_client,
    "edf": _by_deadline,
}


def line_words(race: Race, name: str, num_blocks: int, served: int) -> str:
    """Say who waits, who is next and why, and when the longest request has its turn.

    Args:
        race: What is shown.
        name: The order.
        num_blocks: Blocks of the KV cache.
        served: How many of the line have been taken.
    """
    line, waiting = race.line(name, num_blocks), race.num_waiting(num_blocks)
    if not waiting:
        return f"Nobody waits with {num_blocks:,} blocks; there is nothing to be put in order."
    shown = f", of whom the first {MOST_BARS} to come are shown" if waiting > MOST_BARS else ""
    noun = "request waits" if waiting == 1 else "requests wait"
    crowd = f"{waiting} {noun}{shown}."
    if line.problem:
        return f"{crowd} The queue of {label(name)} fails, they stand as they came. {line.problem}"
    if served >= len(line.requests):
        return f"{crowd} All of them are taken."
    first = line.requests[served]
    longest = max(line.requests, key=_tokens)
    place = line.requests.index(longest) + 1
    return (
        f"{crowd} Number {served + 1} is request {first.request_id}: {line.why(name, served)}. "
        f"The longest, of {_tokens(longest):,} tokens, is number {place} of {len(line.requests)}."
    )


def draw_line(
    race: Race, name: str, num_blocks: int, served: int, width: float
) -> tuple[Shape, ...]:
    """Draw the waiting line with its words.

    Args:
        race: What is shown.
        name: The order.
        num_blocks: Blocks of the KV cache.
        served: How many of the line have been taken.
        width: Width of the picture.
    """
    line = race.line(name, num_blocks)
    heading = f"The line at {race.seconds:.1f} s, in the order of {label(name)}"
    shapes: list[Shape] = []
    y = 30.0
    for row in wrapped(heading, width - 2 * MARGIN, HEADING_SIZE):
        shapes.append(Text(MARGIN, y, row, HEADING_SIZE, is_bold=True))
        y += 26
    words = line_words(race, name, num_blocks, served)
    for row in wrapped(words, width - 2 * MARGIN, SMALL_SIZE):
        tone: Tone = "alert" if line.problem else "text"
        shapes.append(Text(MARGIN, y, row, SMALL_SIZE, tone=tone))
        y += _ROW
    if not line.requests:
        return tuple(shapes)
    top = y + 24
    longest = max(map(_tokens, line.requests))
    scale = Axis("Tokens").scale([longest], top + _HEIGHT, top)
    assert isinstance(scale, Scale)
    left = MARGIN + width_of_numbers(scale)
    shapes += vertical_axis(scale, left, "Prompt and answer (tokens)", width - MARGIN)
    tint = _TINTS.get(kind_of(name, line.queue), _plain)
    bars = list(_bars(race, line, served, tint, Scale(0, 1, left, width - MARGIN), scale))
    shapes += bars
    if served < len(bars):
        x, tip = bars[served].x + bars[served].width / 2, bars[served].y - 3
        shapes.append(Line(((x, tip - 18), (x, tip)), has_arrow=True, key="next"))
    shapes.append(Text(left, top + _HEIGHT + 20, "served first", SMALL_SIZE, tone="muted"))
    right = width - MARGIN
    shapes.append(Text(right, top + _HEIGHT + 20, "served last", SMALL_SIZE, "end", tone="muted"))
    names = dict(sorted(tint(each, race.seconds) for each in line.requests[served:]))
    if served:
        names["finished"] = "taken"
    below = bottom_of(shapes) + 12
    shapes += legend(names, MARGIN, below, width - 2 * MARGIN, names)
    return tuple(shapes)


def _bars(
    race: Race, line: ServedLine, served: int, tint: Tint, across: Scale, scale: Scale
) -> Iterator[Rect]:
    """Draw the requests of a line; those that are taken are dark."""
    step = min((across.end - across.start) / len(line.requests), 40)
    for place, request in enumerate(line.requests):
        upper = scale(_tokens(request))
        state = "finished" if place < served else tint(request, race.seconds)[0]
        yield Rect(
            across.start + place * step,
            upper,
            max(step - (2 if step > 6 else 0.5), 1),
            scale.start - upper,
            state,
            tooltip=_tooltip(request),
            key=f"request {request.request_id}",
            outline="none",
            of=("request", request.request_id),
        )


def _tooltip(request: Request) -> str:
    due = f", due at {request.deadline:.1f} s" if math.isfinite(request.deadline) else ""
    client = f", client {request.client_id}" if request.client_id else ""
    return (
        f"request {request.request_id}: {request.num_prompt_tokens:,} + {request.max_tokens:,} "
        f"tokens, came at {request.arrival_time:.1f} s, priority {request.priority}{client}{due}"
    )


def _tokens(request: Request) -> int:
    return request.num_prompt_tokens + request.max_tokens

"""A request as a bar with two marks: the tokens that are computed, and those that are known."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from course_lib.scheduling.request import RequestStatus
from course_lib.scheduling.watch.moments import Moment
from course_lib.scheduling.watch.state import RequestState
from course_lib.viz.iteration.words import is_decode
from course_lib.viz.kit.shapes import Outline, Rect

_NARROWEST_OUTLINED = 5
_NARROWEST_NOW = 3  # pixels; what is computed now has to be seen beside thousands of tokens

BAR_NAMES = {
    "in_use": "computed, in use",
    "waiting": "not computed yet",
    "speculative": "ahead of what is known",
}
"""What the legend calls states that mean tokens here, besides blocks or requests."""

_TOOLTIPS = {
    "computed": "{:,} tokens that it need not compute any more",
    "now": "{:,} tokens computed in this iteration",
    "known": "{:,} tokens known and not computed",
    "ahead": "{:,} positions ahead of what is known",
}


def end_of(request: RequestState) -> int:
    """Return where the bar of a request ends: behind what is known and what is ahead."""
    return max(request.num_tokens + request.num_tokens_ahead, request.num_computed_tokens)


def kind_of(moment: Moment, name: str) -> str:
    """Return the state of what a request computes: one next token, or a part of what it knows."""
    return "decode" if is_decode(moment, name) else "prefill"


def outline_of(width: float) -> Outline:
    """Return the outline of a box: none where the colour would drown in it.

    >>> outline_of(2), outline_of(20)
    ('none', 'thin')
    """
    return "thin" if width >= _NARROWEST_OUTLINED else "none"


def request_bar(
    moment: Moment,
    request: RequestState,
    place: Callable[[int], float],
    top: float,
    height: float,
) -> Iterator[Rect]:
    """Draw what a request has computed and what it knows, with what it computes now between.

    Args:
        moment: The moment of an iteration.
        request: The request, as it is then.
        place: Returns where a bar of so many tokens ends.
        top: Upper edge of the bar.
        height: Height of the bar.
    """
    name, computed, known = request.request_id, request.num_computed_tokens, request.num_tokens
    granted = moment.plan.get(name, 0)
    gave_way = request.status is RequestStatus.PREEMPTED
    held = "swapped" if request.status is RequestStatus.SWAPPED else "in_use"
    parts = (
        ("computed", 0, min(computed - granted, known), held),
        ("known", computed, known, "preempted" if gave_way else "waiting"),
        ("ahead", known, end_of(request), "speculative"),
        ("now", computed - granted, min(computed, known), kind_of(moment, name)),
    )
    for part, start, end, state in parts:
        if start < end:
            width = max(place(end) - place(start), _NARROWEST_NOW if part == "now" else 0)
            yield Rect(
                place(end) - width,
                top,
                width,
                height,
                state,
                tooltip=f"{name}: {_TOOLTIPS[part].format(end - start)}",
                key=f"{name}-{part}",
                outline=outline_of(width),
                of=("request", name),
            )

"""Where the slots of a KV cache go: a film of a replay, and bars that compare policies."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import NamedTuple

from course_lib.kv_cache.reservation import Reservation, Snapshot, classify_slots
from course_lib.viz.kit.charts.axes import Scale, horizontal_axis
from course_lib.viz.kit.layout import bottom_of, fitting, legend, text_width
from course_lib.viz.kit.own_parts import shows_own_parts
from course_lib.viz.kit.player import Frame, Player
from course_lib.viz.kit.scene import Scene
from course_lib.viz.kit.shapes import TEXT_SIZE, Rect, Shape, Text

_STATES = {"used": "used", "later": "reserved", "internal": "internal", "external": "external"}
"""How each kind of slot in ``SlotUse`` is drawn."""

_WIDTH, _MARGIN = 960, 24


class _Run(NamedTuple):
    """Neighbouring slots of one request that are all of one kind."""

    kind: str
    start: int
    length: int


def reservation_film(snapshots: Iterable[Snapshot]) -> Player:
    """Return a film of a KV cache, one frame for each snapshot.

    Requests without an offset (under paging) are drawn side by side, because their blocks may be
    anywhere.

    Args:
        snapshots: What ``replay_contiguous`` or ``replay_paged`` yields. All frames are sent to the
            browser, so choose a few hundred at most.

    Raises:
        ValueError: There are no snapshots.
    """
    scenes = map(slots_scene, snapshots)
    return Player([Frame(scene, scene.alt) for scene in scenes])


@shows_own_parts
def slots_scene(snapshot: Snapshot) -> Scene:
    """Draw the slots of one moment: whose they are, and how many there are of each kind.

    It shows the learner's own ``classify_slots``, where there is one.
    """
    scale = Scale(0, snapshot.num_slots, _MARGIN, _WIDTH - _MARGIN)
    outside = Rect(
        scale.start,
        52,
        scale.end - scale.start,
        84,
        "external",
        tooltip="in no reservation",
        key="outside",
    )
    shapes: list[Shape] = [
        Text(_MARGIN, 34, "Slots, with the number of their request", TEXT_SIZE, is_bold=True),
        Text(
            _WIDTH - _MARGIN,
            34,
            f"{len(snapshot.reservations):,} running, {snapshot.num_waiting:,} waiting",
            TEXT_SIZE,
            "end",
        ),
        outside,
    ]
    start = 0
    for request in snapshot.reservations:
        offset = start if request.offset is None else request.offset
        shapes += _request_boxes(request, offset, scale)
        start = offset + request.reserved
    is_paged = any(request.offset is None for request in snapshot.reservations)
    note = "; each request's blocks drawn side by side" if is_paged else ""
    shapes += horizontal_axis(scale, 148, f"KV slots (one token each{note})")
    use = classify_slots(snapshot.reservations, snapshot.num_slots)
    shapes.append(Text(_MARGIN, 234, "All slots by kind", TEXT_SIZE, is_bold=True))
    shapes += _stacked_bar(use.shares(), "share", Scale(0, 1, scale.start, scale.end), 246, 40)
    shapes += legend(_STATES.values(), _MARGIN, 306, _WIDTH - 2 * _MARGIN)
    return Scene(
        _WIDTH,
        bottom_of(shapes) + 14,
        tuple(shapes),
        title="Slots of the KV cache",
        alt=_caption(snapshot),
    )


def share_bars(shares: Mapping[str, Mapping[str, float]]) -> Scene:
    """Compare policies: for each one, a bar of 100% split into the four kinds of slots.

    Args:
        shares: For each policy's name, the shares of used, later, internal and external slots, as
            ``average_shares`` or ``SlotUse.shares`` return them.

    Raises:
        ValueError: There is no policy, or the shares of one do not add to 1.

    >>> scene = share_bars({"Max": {"used": 0.2, "later": 0.1, "internal": 0.6, "external": 0.1}})
    >>> [rect.label for rect in scene.rects()][:4]
    ['20.0%', '10.0%', '60.0%', '10.0%']
    """
    if not shares:
        raise ValueError("no shares to compare; pass at least one policy")
    for policy, of_policy in shares.items():
        total = sum(of_policy[kind] for kind in _STATES)
        if abs(total - 1) > 1e-6:
            raise ValueError(f"the shares of {policy!r} add to {total:g}; they must add to 1")
    names_width = max(text_width(policy, TEXT_SIZE) for policy in shares)
    left = _MARGIN + names_width + 16
    scale = Scale(0, 1, left, _WIDTH - _MARGIN)
    shapes: list[Shape] = []
    top: float = 16
    for policy, of_policy in shares.items():
        shapes.append(Text(left - 14, top + 30, policy, TEXT_SIZE, "end", is_bold=True))
        shapes += _stacked_bar(of_policy, policy, scale, top, 48)
        top += 64
    percent = Scale(0, 100, scale.start, scale.end)
    shapes += horizontal_axis(percent, top, "Share of KV slots (%)")
    shapes += legend(_STATES.values(), _MARGIN, top + 66, _WIDTH - 2 * _MARGIN)
    return Scene(
        _WIDTH,
        bottom_of(shapes) + 14,
        tuple(shapes),
        title="What KV slots are used for under each policy",
        alt=". ".join(
            f"{policy}: " + ", ".join(f"{kind} {of_policy[kind]:.1%}" for kind in _STATES)
            for policy, of_policy in shares.items()
        ),
    )


def _runs(request: Reservation, offset: int) -> Iterator[_Run]:
    """Split the slots of one request into kinds, as ``classify_slots`` counts them."""
    use = classify_slots([request], request.reserved)
    for kind, length in (("used", use.used), ("later", use.later), ("internal", use.internal)):
        if length:
            yield _Run(kind, offset, length)
        offset += length


def _request_boxes(request: Reservation, offset: int, scale: Scale) -> list[Shape]:
    """Draw the slots of one request; the widest box carries its name."""
    runs = list(_runs(request, offset))
    widest = max(runs, key=lambda run: run.length)
    boxes: list[Shape] = []
    for run in runs:
        left, right = scale(run.start), scale(run.start + run.length)
        label = fitting(right - left, request.request_id) if run is widest else ""
        boxes.append(
            Rect(
                left,
                52,
                right - left,
                84,
                _STATES[run.kind],
                label,
                tooltip=f"request {request.request_id}: {run.length:,} slots {_WORDS[run.kind]}",
                key=f"{request.request_id}-{run.kind}",
            )
        )
    return boxes


def _stacked_bar(
    shares: Mapping[str, float], name: str, scale: Scale, top: float, height: float
) -> list[Shape]:
    """Draw shares that add to 1 as one bar, with the percentages that have room."""
    boxes: list[Shape] = []
    start = 0.0
    for kind, state in _STATES.items():
        left, right = scale(start), scale(start + shares[kind])
        percentage = f"{shares[kind]:.1%}"
        boxes.append(
            Rect(
                left,
                top,
                right - left,
                height,
                state,
                fitting(right - left, percentage),
                tooltip=f"{percentage} {_WORDS[kind]}",
                key=f"{name}-{kind}-share",
            )
        )
        start += shares[kind]
    return boxes


_WORDS = {
    "used": "hold tokens",
    "later": "reserved for later",
    "internal": "internal",
    "external": "external",
}


def _caption(snapshot: Snapshot) -> str:
    """Say the step and the four counts."""
    use = classify_slots(snapshot.reservations, snapshot.num_slots)
    return (
        f"Iteration {snapshot.step:,}: {use.used:,} slots {_WORDS['used']}, "
        f"{use.later:,} {_WORDS['later']}, {use.internal:,} {_WORDS['internal']}, "
        f"{use.external:,} {_WORDS['external']}."
    )

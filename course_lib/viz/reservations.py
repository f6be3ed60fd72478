"""Where the slots of a KV cache go: a film of a replay, and bars that compare policies."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import NamedTuple

from course_lib.kv_cache.reservation import Reservation, Snapshot, classify_slots
from course_lib.viz.kit.charts.axes import Scale, horizontal_axis
from course_lib.viz.kit.layout import NARROW, WIDE, bottom_of, fitting, legend, text_width
from course_lib.viz.kit.own_parts import shows_own_parts
from course_lib.viz.kit.player import Frame, Player
from course_lib.viz.kit.scene import Scene
from course_lib.viz.kit.shapes import SMALL_SIZE, TEXT_SIZE, Anchor, Rect, Shape, Text, Thing

_STATES = {"used": "used", "later": "reserved", "internal": "internal", "external": "external"}
"""How each kind of slot in ``SlotUse`` is drawn."""

_WORDS = {
    "used": "hold tokens",
    "later": "reserved for later",
    "internal": "internal",
    "external": "external",
}

_MARGIN = 24
_STRIP_TOP, _STRIP_HEIGHT = 72, 78
_ROW = 28
_KINDS_HEIGHT = 40
_MOST_ROWS = 8
"""Requests that get a row of the table, and a part of each bar, of their own."""

_NARROWEST_FRAMED, _NARROWEST_BOLD = 4, 20
"""Pixels; between the edges of a narrower frame the colours of a reservation would drown."""

_STEPS_PER_FRAME = 20
"""Iterations from one frame to the next while the same requests run."""


class _Run(NamedTuple):
    """Neighbouring slots of one request that are all of one kind."""

    kind: str
    start: int
    length: int


def reservation_film(snapshots: Iterable[Snapshot]) -> Player:
    """Return a film of a KV cache.

    While the same requests run, 20 iterations pass from one frame to the next. No change of the
    requests is passed over: it is an event of the film.

    Args:
        snapshots: What ``replay_contiguous`` or ``replay_paged`` yields.

    Raises:
        ValueError: There are no snapshots.
    """
    chosen = list(worth_a_frame(snapshots))
    if not chosen:
        raise ValueError(
            "no snapshots, so there is nothing to play; pass at least one frame of them"
        )
    num_rows = max(len(moment.snapshot.reservations) for moment in chosen)
    return Player([_frame(moment, num_rows) for moment in chosen])


class Moment(NamedTuple):
    """A snapshot that the film shows.

    Attributes:
        snapshot: The snapshot.
        steps: Iterations since the frame before.
        left: Requests that have left since then.
        came: Requests that have come.
    """

    snapshot: Snapshot
    steps: int
    left: tuple[str, ...] = ()
    came: tuple[str, ...] = ()


def worth_a_frame(snapshots: Iterable[Snapshot]) -> Iterator[Moment]:
    """Yield the first snapshot and the last, all in which others run, and some in between.

    Args:
        snapshots: What a replay yields.

    >>> waits = [Snapshot(step, 10, 1, ()) for step in range(30)]
    >>> [moment.snapshot.step for moment in worth_a_frame(waits)]
    [0, 20, 29]
    """
    shown: Snapshot | None = None
    latest: Snapshot | None = None
    for snapshot in snapshots:
        if shown is None or latest is None:
            yield Moment(snapshot, 0)
            shown = latest = snapshot
            continue
        before, now = _names(latest), _names(snapshot)
        if before != now:
            # The last moment of who leaves shows how much it never used.
            if latest is not shown:
                yield Moment(latest, latest.step - shown.step)
                shown = latest
            left = tuple(name for name in before if name not in now)
            came = tuple(name for name in now if name not in before)
            yield Moment(snapshot, snapshot.step - shown.step, left, came)
            shown = snapshot
        elif snapshot.step - shown.step >= _STEPS_PER_FRAME:
            yield Moment(snapshot, snapshot.step - shown.step)
            shown = snapshot
        latest = snapshot
    if latest is not None and shown is not None and latest is not shown:
        yield Moment(latest, latest.step - shown.step)


def _names(snapshot: Snapshot) -> tuple[str, ...]:
    """Return who runs."""
    return tuple(request.request_id for request in snapshot.reservations)


def _frame(moment: Moment, num_rows: int) -> Frame:
    """Draw one moment for a wide and for a narrow page."""
    snapshot = moment.snapshot
    changes = [_who(moment.left, "leave"), _who(moment.came, "come")]
    event = ", ".join(filter(None, changes))
    wide, narrow = (slots_scene(snapshot, width, num_rows) for width in (WIDE, NARROW))
    passed = f" (+{moment.steps:,})" if moment.steps > 1 else ""
    # The picture counts with the learner's own part, so the words are taken from it.
    counts, _, _ = wide.alt.partition(". ")
    nouns = ["Request" if len(who) == 1 else "Requests" for who in (moment.left, moment.came)]
    changed = "".join(
        f" {noun} {change}." for noun, change in zip(nouns, changes, strict=True) if change
    )
    caption = f"Iteration {snapshot.step:,}{passed}: {counts}.{changed}"
    return Frame(wide, caption, event, narrow)


def _who(names: Sequence[str], does: str) -> str:
    """Say which requests do something, as a sentence without its noun; "" if none does.

    >>> _who(["r1"], "leave"), _who(["r1", "r2", "r3"], "come"), _who([], "come")
    ('r1 leaves', 'r1, r2 and r3 come', '')
    """
    if len(names) < 2:
        return f"{names[0]} {does}s" if names else ""
    return f"{', '.join(names[:-1])} and {names[-1]} {does}"


@shows_own_parts
def slots_scene(snapshot: Snapshot, width: float = WIDE, num_rows: int | None = None) -> Scene:
    """Draw the slots of one moment: whose they are, and how many there are of each kind.

    It shows the learner's own ``classify_slots``, where there is one. Requests without an offset
    (under paging) are drawn side by side, because their blocks may be anywhere.

    Args:
        snapshot: The moment.
        width: Width of the picture.
        num_rows: Requests for which there has to be room; by default, those of the moment.
    """
    requests = snapshot.reservations
    num_rows = len(requests) if num_rows is None else num_rows
    scale = Scale(0, snapshot.num_slots, _MARGIN, width - _MARGIN)
    running = f"{len(requests):,} running, {snapshot.num_waiting:,} waiting"
    shapes: list[Shape] = [
        Text(_MARGIN, 34, "KV slots by request", TEXT_SIZE, is_bold=True, key="strip-title"),
        Text(width - _MARGIN, 34, running, TEXT_SIZE, "end", key="running"),
        *_strip(requests, scale),
    ]
    bottom = _STRIP_TOP + _STRIP_HEIGHT + 10
    shapes += horizontal_axis(scale, bottom, _axis_title(requests, width))
    if 0 < num_rows <= _MOST_ROWS:
        shapes += _table(requests, bottom + 74, width)
        bottom += 50 + (num_rows + 1) * _ROW
    shapes += _bar_of_kinds(snapshot, scale, bottom + 88, is_split=num_rows <= _MOST_ROWS)
    shapes += legend(_STATES.values(), _MARGIN, bottom + 158, width - 2 * _MARGIN)
    return Scene(
        width,
        bottom_of(shapes) + 14,
        tuple(shapes),
        title="Slots of the KV cache",
        alt=f"{_counts(snapshot)}. {running}. {_in_words(requests)}",
    )


def _axis_title(requests: Sequence[Reservation], width: float) -> str:
    """Say what the slots are, and that blocks of one request are drawn together."""
    if all(request.offset is not None for request in requests):
        return "KV slots, one token each"
    full = "KV slots, one token each; each request's blocks side by side"
    return fitting(width, full, size=TEXT_SIZE) or "KV slots; a request's blocks side by side"


def _strip(requests: Sequence[Reservation], scale: Scale) -> Iterator[Shape]:
    """Draw all slots in their order: what is in no reservation, and the requests."""
    yield Rect(
        scale.start,
        _STRIP_TOP,
        scale.end - scale.start,
        _STRIP_HEIGHT,
        "external",
        tooltip="in no reservation",
        key="outside",
        of=("slots", "external"),
    )
    names = [f"request {request.request_id}" for request in requests]
    widths = [scale(request.reserved) - scale(0) for request in requests]
    if not all(map(fitting, widths, names)):
        names = [request.request_id for request in requests]
    for (request, offset), name in zip(_placed(requests), names, strict=True):
        yield from _reservation(request, offset, name, scale)


def share_bars(shares: Mapping[str, Mapping[str, float]], width: float = WIDE) -> Scene:
    """Compare policies: for each one, a bar of 100% split into the four kinds of slots.

    Args:
        shares: For each policy's name, the shares of used, later, internal and external slots, as
            ``average_shares`` or ``SlotUse.shares`` return them.
        width: Width of the picture.

    Raises:
        ValueError: There is no policy, or the shares of one do not add to 1.

    >>> shares = {"Max": {"used": 0.2, "later": 0.1, "internal": 0.6, "external": 0.1}}
    >>> [rect.label for rect in share_bars(shares).rects()][:4]
    ['20.0%', '10.0%', '60.0%', '10.0%']
    """
    if not shares:
        raise ValueError("no shares to compare; pass at least one policy")
    for policy, of_policy in shares.items():
        total = sum(of_policy[kind] for kind in _STATES)
        if abs(total - 1) > 1e-6:
            raise ValueError(f"the shares of {policy!r} add to {total:g}; they must add to 1")
    names_width = max(1.1 * text_width(policy) for policy in shares)
    left = _MARGIN + names_width + 16
    scale = Scale(0, 1, left, width - _MARGIN)
    shapes: list[Shape] = []
    top: float = 16
    for policy, of_policy in shares.items():
        shapes.append(Text(left - 14, top + 30, policy, TEXT_SIZE, "end", is_bold=True, key=policy))
        shapes += _stacked_bar(of_policy, policy, scale, top, 48)
        top += 64
    percent = Scale(0, 100, scale.start, scale.end)
    shapes += horizontal_axis(percent, top, "Share of KV slots (%)")
    shapes += legend(_STATES.values(), _MARGIN, top + 66, width - 2 * _MARGIN)
    return Scene(
        width,
        bottom_of(shapes) + 14,
        tuple(shapes),
        title="What KV slots are used for under each policy",
        alt=". ".join(
            f"{policy}: " + ", ".join(f"{kind} {of_policy[kind]:.1%}" for kind in _STATES)
            for policy, of_policy in shares.items()
        ),
    )


def _placed(requests: Iterable[Reservation]) -> Iterator[tuple[Reservation, int]]:
    """Yield each request and where its slots start; without an offset, where the last one ended."""
    end = 0
    for request in requests:
        start = end if request.offset is None else request.offset
        yield request, start
        end = start + request.reserved


def _runs(request: Reservation, offset: int) -> Iterator[_Run]:
    """Split the slots of one request into kinds, as ``classify_slots`` counts them."""
    use = classify_slots([request], request.reserved)
    for kind, length in (("used", use.used), ("later", use.later), ("internal", use.internal)):
        if length:
            yield _Run(kind, offset, length)
        offset += length


def _reservation(request: Reservation, offset: int, label: str, scale: Scale) -> Iterator[Shape]:
    """Draw one request: its slots by kind, a frame around them, and its name above."""
    name = request.request_id
    thing: Thing = ("request", name)
    for run in _runs(request, offset):
        left, right = scale(run.start), scale(run.start + run.length)
        yield Rect(
            left,
            _STRIP_TOP,
            right - left,
            _STRIP_HEIGHT,
            _STATES[run.kind],
            tooltip=f"request {name}: {run.length:,} slots {_WORDS[run.kind]}",
            key=f"{name}-{run.kind}",
            outline="none",
            of=thing,
        )
    left, right = scale(offset), scale(offset + request.reserved)
    width = right - left
    if width >= _NARROWEST_FRAMED:
        yield Rect(
            left,
            _STRIP_TOP,
            width,
            _STRIP_HEIGHT,
            tooltip=f"request {name}: {request.reserved:,} slots reserved",
            key=f"{name}-reservation",
            outline="bold" if width >= _NARROWEST_BOLD else "thin",
            of=thing,
        )
    if fitting(width, label):
        middle = (left + right) / 2
        key = f"{name}-name"
        yield Text(middle, _STRIP_TOP - 9, label, SMALL_SIZE, "middle", key=key, of=thing)


def _table(requests: Sequence[Reservation], top: float, width: float) -> Iterator[Shape]:
    """Draw a row of numbers for each request."""
    columns = ("request", "tokens now", "at its end", "reserved", "never used")
    step = (width - 2 * _MARGIN - 90) / (len(columns) - 1)
    for column, title in enumerate(columns):
        x = _MARGIN if column == 0 else _MARGIN + 90 + step * column
        anchor: Anchor = "end" if column else "start"
        yield Text(x, top + 16, title, SMALL_SIZE, anchor, "muted", key=f"column-{column}")
    for row, request in enumerate(requests, 1):
        name = request.request_id
        never = max(0, request.reserved - request.final)
        counts = (request.written, request.final, request.reserved, never)
        y = top + 16 + row * _ROW
        thing: Thing = ("request", name)
        yield Text(_MARGIN, y, name, SMALL_SIZE, is_bold=True, key=f"{name}-row", of=thing)
        for column, count in enumerate(counts, 1):
            x = _MARGIN + 90 + step * column
            key = f"{name}-{column}"
            yield Text(x, y, f"{count:,}", SMALL_SIZE, "end", key=key, of=thing)


def _bar_of_kinds(
    snapshot: Snapshot, scale: Scale, top: float, *, is_split: bool
) -> Iterator[Shape]:
    """Draw all slots sorted by kind, and whose they are where few requests run."""
    title = "The same slots by kind"
    yield Text(_MARGIN, top, title, TEXT_SIZE, is_bold=True, key="kinds-title")
    shares = classify_slots(snapshot.reservations, snapshot.num_slots).shares()
    unit = Scale(0, 1, scale.start, scale.end)
    bar = _stacked_bar(shares, "share", unit, top + 12, _KINDS_HEIGHT)
    if not is_split:
        yield from bar
        return
    yield from (replace(box, label="") for box in bar)
    # What is of one request is one thing with its reservation and its row.
    starts = {state: box.x for state, box in zip(_STATES.values(), bar, strict=True)}
    for request in snapshot.reservations:
        for run in _runs(request, 0):
            state, width = _STATES[run.kind], scale(run.length) - scale(0)
            yield Rect(
                starts[state],
                top + 13,
                width,
                _KINDS_HEIGHT - 2,
                state,
                tooltip=f"request {request.request_id}: {run.length:,} slots {_WORDS[run.kind]}",
                key=f"{request.request_id}-{run.kind}-in-bar",
                outline="none",
                of=("request", request.request_id),
            )
            starts[state] += width
    for box in (box for box in bar if box.label):
        # The percentage goes on top.
        width = text_width(box.label, SMALL_SIZE)
        x, y = box.x + (box.width - width) / 2, box.y + 10
        yield Rect(x, y, width, 20, box.state, box.label, key=f"{box.key}-label", outline="none")


def _stacked_bar(
    shares: Mapping[str, float], name: str, scale: Scale, top: float, height: float
) -> list[Rect]:
    """Draw shares that add to 1 as one bar, with the percentages that have room."""
    boxes: list[Rect] = []
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
                fitting(right - left, percentage, f"{shares[kind]:.0%}"),
                tooltip=f"{percentage} {_WORDS[kind]}",
                key=f"{name}-{kind}-share",
                of=("slots", kind),
            )
        )
        start += shares[kind]
    return boxes


def _counts(snapshot: Snapshot) -> str:
    """Say the four counts."""
    use = classify_slots(snapshot.reservations, snapshot.num_slots)
    used = "1 slot holds a token" if use.used == 1 else f"{use.used:,} slots {_WORDS['used']}"
    return (
        f"{used}, {use.later:,} {_WORDS['later']}, "
        f"{use.internal:,} {_WORDS['internal']}, {use.external:,} {_WORDS['external']}"
    )


def _in_words(requests: Sequence[Reservation]) -> str:
    """Say what each request has, for few of them."""
    if len(requests) > _MOST_ROWS:
        return f"{len(requests):,} requests run."
    return " ".join(
        f"Request {each.request_id} has written {each.written:,} of {each.final:,} tokens into "
        f"{each.reserved:,} reserved slots."
        for each in requests
    )

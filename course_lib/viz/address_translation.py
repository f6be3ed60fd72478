"""Lesson 3's figures of one token: from its position to its slot, and from there to a byte.

    position -> (logical block, offset) -> physical block -> slot
    slot -> (block, offset) -> bytes, in the order of a layout

Each row of a picture is one step of the translation. The chosen token has a bold outline in all of
them; pointing at any other token lights its own way.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from course_lib.kv_cache.block_table import blocks_to_add
from course_lib.viz.cache_rows import (
    CELL_HEIGHT,
    FIRST_ROW,
    THESE_BYTES,
    TILE_GAP,
    TILE_HEIGHT,
    PoolView,
    Row,
    Span,
    bold_last,
    scene_of_rows,
)
from course_lib.viz.kit.controls import Choice, PowerOfTwo, Slider
from course_lib.viz.kit.explorer import Explorer
from course_lib.viz.kit.layout import SLIM, WIDE, fitting, wrapped
from course_lib.viz.kit.own_parts import shows_own_parts
from course_lib.viz.kit.scene import Scene
from course_lib.viz.kit.shapes import SMALL_SIZE, Line, Rect, Shape, Text, Thing
from course_lib.viz.translation import LAYOUTS, PagedCache, Translation, pieces, translate

_LEVEL, _STRIP = 22, 22  # heights of the boxes
_LINE = 20  # from one line of a title to the next
_NARROWEST = 7  # pixels; of an axis with thinner places only the token's own is drawn
_SEQUENCES = {"r0": (10, (7, 3, 5, 8, 1)), "r1": (6, (2, 9, 4))}
"""Tokens of the example's sequences, and the blocks that they take one after the other."""

_PARTS = ("key", "value")
"""What is at the places of the axis "kv"."""

_NUM_HEADS = {16: 2, 128: 8}
"""KV heads of the example, by their elements. A head of 8 elements of 2 bytes would be one vector
of the split layout, which would then be the same as HND."""


@shows_own_parts
def slot_scene(cache: PagedCache, request: str, position: int, width: float = WIDE) -> Scene:
    """Draw the way of one token from its position to its slot.

    It shows the learner's own ``BlockTable`` and ``slot_mapping``, where there are any.

    Args:
        cache: The cache to look at.
        request: A sequence in it.
        position: Place of the token in its sequence, from 0.
        width: Width of the picture, in pixels.

    Raises:
        ValueError: There is no such sequence or slot.

    >>> cache = PagedCache({"r0": (7, 3, 5), "r1": (2, 9)}, {"r0": 10, "r1": 6})
    >>> slot_scene(cache, "r0", 9).alt.partition(". ")[0]
    'Position 9 of r0 is offset 1 of logical block 2, which is block 5, so slot 21'
    """
    found = translate(cache, request, position, "NHD")
    span = Span.of(width)
    rows = [_positions(found, span, FIRST_ROW)]
    rows.append(_table(found, span, rows[-1].bottom + 24))
    rows.append(_pool(found, span, rows[-1].bottom + 44))
    rows.append(_slots_of_tile(found, span, rows[-1].bottom + 24))
    return scene_of_rows(
        cache,
        headings=_headings(found, f"block {found.block}, slot {found.slot}", f"slot {found.slot}"),
        title=f"From position {position} of {request} to a slot",
        alt=_way(found),
        rows=rows,
        width=width,
    )


@shows_own_parts
def address_scene(
    cache: PagedCache,
    request: str,
    position: int,
    layout: str = "NHD",
    *,
    kv: int = 0,
    head: int = 0,
    dim: int = 0,
    width: float = WIDE,
) -> Scene:
    """Draw the way of one element of a token's key or value, from its slot to its byte.

    It shows the learner's own ``BlockTable``, ``slot_mapping``, ``row_major_strides`` and
    ``CacheLayout.address``, where there are any.

    Args:
        cache: The cache to look at.
        request: A sequence in it.
        position: Place of the token in its sequence, from 0.
        layout: "NHD", "HND" or "split".
        kv: 0 for the key, 1 for the value.
        head: KV head.
        dim: Element of the head.
        width: Width of the picture, in pixels.

    Raises:
        ValueError: There is no such sequence, slot, layout, head or element.

    >>> cache = PagedCache({"r0": (7, 3, 5), "r1": (2, 9)}, {"r0": 10, "r1": 6})
    >>> "Position 9 of r0: slot 21, byte 1,344" in address_scene(cache, "r0", 9).texts()
    True
    """
    found = translate(cache, request, position, layout, kv=kv, head=head, dim=dim)
    span = Span.of(width)
    rows = [_slots(found, span, FIRST_ROW, _as_split(found))]
    rows += _levels(found, layout, span, rows[-1].bottom + 30)
    rows += _strips(found, span, rows[-1].bottom + 36)
    place = f"slot {found.slot}, byte {found.address:,}"
    return scene_of_rows(
        cache,
        headings=_headings(found, place, place),
        title=f"From the slot of position {position} of {request} to a byte",
        alt=_description(found, layout),
        rows=rows,
        width=width,
    )


def example_cache(block_size: int, head_dim: int = 16) -> PagedCache:
    """Return the cache of lesson 3's example: r0 has 10 tokens and r1 has 6.

    Args:
        block_size: Slots per block, at least 2.
        head_dim: Elements of a KV head: 16, of which there are 2, or 128, of which there are 8.

    >>> example_cache(block_size=4).tables
    {'r0': (7, 3, 5), 'r1': (2, 9)}
    """
    return PagedCache(
        tables={
            name: block_ids[: blocks_to_add(num_tokens, 0, block_size)]
            for name, (num_tokens, block_ids) in _SEQUENCES.items()
        },
        num_tokens={name: num_tokens for name, (num_tokens, _) in _SEQUENCES.items()},
        block_size=block_size,
        num_kv_heads=_NUM_HEADS[head_dim],
        head_dim=head_dim,
    )


def example_slot(request: str, position: int, block_size: int, width: float = WIDE) -> Scene:
    """Draw ``slot_scene`` for the example of lesson 3: r0 has 10 tokens and r1 has 6.

    Args:
        request: "r0" or "r1".
        position: Place of the token in its sequence, from 0.
        block_size: Slots per block, 2 to 16.
        width: Width of the picture, in pixels.

    Raises:
        ValueError: What ``slot_scene`` refuses.

    >>> example_slot("r0", 12, block_size=4)
    Traceback (most recent call last):
    course_lib.kv_cache.block_table.PositionError: position 12 has no slot: positions count from ...
    """
    return slot_scene(example_cache(block_size), request, position, width)


def example_address(
    position: int,
    layout: str,
    block_size: int,
    kv: int,
    head_dim: int,
    head: int,
    dim: int,
    width: float = WIDE,
) -> Scene:
    """Draw ``address_scene`` for r0 of lesson 3's example, which has 10 tokens.

    Args:
        position: Place of the token in its sequence, from 0.
        layout: "NHD", "HND" or "split".
        block_size: Slots per block, 2 to 16.
        kv: 0 for the key, 1 for the value.
        head_dim: Elements of a KV head: 16, of which there are 2, or 128, of which there are 8.
        head: KV head.
        dim: Element of the head.
        width: Width of the picture, in pixels.

    Raises:
        ValueError: What ``address_scene`` refuses.
    """
    cache = example_cache(block_size, head_dim)
    return address_scene(cache, "r0", position, layout, kv=kv, head=head, dim=dim, width=width)


def token_slot() -> Explorer:
    """Return the figure from position to slot, with controls for token and block size.

    Choosing a token in the picture moves the controls there.

    >>> token_slot().values["position"]
    9
    """
    figure = Explorer(
        example_slot,
        {
            "request": Choice("Sequence", {name: name for name in _SEQUENCES}, "r0"),
            "position": Slider("Position", 0, 12, 9),
            "block_size": PowerOfTwo("Block size", 2, 16, 4, unit="slots"),
        },
        narrow=SLIM,
    )

    def choose(thing: Thing) -> None:
        kind, name = thing
        if kind == "token":
            request, _, position = str(name).partition(":")
            figure.set(request=request, position=int(position))

    figure.on_pick(choose)
    return figure


def token_address() -> Explorer:
    """Return the figure from slot to byte, with controls for the layout and an element of the key.

    >>> token_address().values["layout"]
    'NHD'
    """
    return Explorer(
        example_address,
        {
            "position": Slider("Position", 0, 11, 9),
            "head": Slider("Head", 0, 1, 0),
            "dim": Slider("Element", 0, 15, 0),
            "kv": Choice("Part", {part: kv for kv, part in enumerate(_PARTS)}, 0),
            "head_dim": Choice(
                "Heads",
                {f"{count} heads of {dim}": dim for dim, count in _NUM_HEADS.items()},
                16,
            ),
            "block_size": PowerOfTwo("Block size", 2, 16, 4, unit="slots"),
            # The last, next to what it changes.
            "layout": Choice("Layout", {name: name for name in LAYOUTS}, "NHD"),
        },
        narrow=SLIM,
    )


def _headings(found: Translation, *places: str) -> list[str]:
    """Say whose place it is, for pictures with more room and with less."""
    no_token = found.position >= found.cache.num_tokens[found.request]
    whose = f"Position {found.position} of {found.request}"
    told = [f"{whose} (no token yet): {place}" for place in places] if no_token else []
    return [*told, *(f"{whose}: {place}" for place in places)]


def _positions(found: Translation, span: Span, top: float) -> Row:
    """Draw the positions of the sequence, split into logical blocks."""
    size, num_blocks = found.cache.block_size, len(found.table)
    shapes: list[Shape] = []
    chosen: list[Shape] = []
    for logical, block_id in enumerate(found.table):
        left, width = span.cell(logical, num_blocks, gap=10)
        inner = Span(left, left + width)
        name = fitting(width, f"logical block {logical}", f"logical {logical}", str(logical))
        shapes.append(Text(left + width / 2, top + 12, name, SMALL_SIZE, "middle", tone="muted"))
        for position in range(logical * size, (logical + 1) * size):
            x, cell = inner.cell(position % size, size)
            is_filled = position < found.cache.num_tokens[found.request]
            is_chosen = position == found.position
            (chosen if is_chosen else shapes).append(
                Rect(
                    x,
                    top + 20,
                    cell,
                    CELL_HEIGHT,
                    "used" if is_filled else "reserved",
                    fitting(cell + 8, str(position)),
                    f"position {position} of {found.request}"
                    + ("" if is_filled else ": no token yet"),
                    key=f"position-{position}",
                    outline="bold" if is_chosen else "thin",
                    of=("token", f"{found.request}:{position}"),
                    lights=(("block", block_id),),
                )
            )
    middle = top + 20 + CELL_HEIGHT / 2
    size_text = f"{found.position} = {found.logical} · {size} + {found.offset}"
    return Row("position", [*shapes, *chosen], middle, top + 20 + CELL_HEIGHT, size_text)


def _table(found: Translation, span: Span, top: float) -> Row:
    """Draw the block table: an entry below each logical block, and the arrow to the chosen one."""
    shapes: list[Shape] = []
    chosen: list[Shape] = []
    for logical, block_id in enumerate(found.table):
        left, width = span.cell(logical, len(found.table), gap=10)
        box = min(width, 56)
        is_chosen = logical == found.logical
        x = left + (width - box) / 2
        (chosen if is_chosen else shapes).append(
            Rect(
                x,
                top,
                box,
                CELL_HEIGHT,
                label=str(block_id),
                tooltip=f"entry {logical} of the table of {found.request}: block {block_id}",
                key=f"entry-{logical}",
                outline="bold" if is_chosen else "thin",
                of=("block", block_id),
            )
        )
        if is_chosen:
            cell_left, cell = Span(left, left + width).cell(found.offset, found.cache.block_size)
            arrow = ((cell_left + cell / 2, top - 22), (x + box / 2, top - 3))
            shapes.append(Line(arrow, thickness=2, has_arrow=True, key="arrow-table"))
    text = f"entry {found.logical}: block {found.table[found.logical]}"
    return Row("table", [*shapes, *chosen], top + CELL_HEIGHT / 2, top + CELL_HEIGHT, text)


def _pool(found: Translation, span: Span, top: float) -> Row:
    """Draw the pool, a tile for each block, and arrows from the table to the blocks."""
    size, num_blocks = found.cache.block_size, found.cache.num_blocks
    shapes: list[Shape] = []
    for logical, block_id in enumerate(found.table):
        from_left, from_width = span.cell(logical, len(found.table), gap=10)
        to_left, to_width = span.cell(block_id, num_blocks, TILE_GAP)
        is_chosen = logical == found.logical
        shapes.append(
            Line(
                ((from_left + from_width / 2, top - 42), (to_left + to_width / 2, top - 3)),
                "text" if is_chosen else "muted",
                2.5 if is_chosen else 1,
                has_arrow=True,
                key=f"arrow-{logical}",
                of=("block", block_id),
            )
        )
    view = PoolView(found.cache, found.owners, {found.slot})
    for block_id in range(num_blocks):
        shapes += view.tile(block_id, span, top)
    middle = top + TILE_HEIGHT / 2
    first = found.block * size
    text = f"slots {first} to {first + size - 1}"
    return Row("pool", shapes, middle, top + TILE_HEIGHT, text)


def _slots_of_tile(found: Translation, span: Span, top: float) -> Row:
    """Draw the slots of the token's block below the pool, and say why the position is none."""
    size = found.cache.block_size
    left, width = span.cell(found.block, found.cache.num_blocks, TILE_GAP)
    zoom = _zoom(left, width, top - 22, span, top - 2, "slots")
    row = _slots(found, span, top, f"{found.block} · {size} + {found.slot % size} = {found.slot}")
    lines = wrapped(_why_not(found), span.width, SMALL_SIZE)
    notes = [
        Text(span.left, row.bottom + _LINE * (1 + number), line, SMALL_SIZE, tone="muted")
        for number, line in enumerate(lines)
    ]
    return replace(row, shapes=[*zoom, *row.shapes, *notes])


def _slots(found: Translation, span: Span, top: float, text: str) -> Row:
    """Draw the slots of the token's block."""
    size = found.cache.block_size
    view = PoolView(found.cache, found.owners, {found.slot})
    boxes = []
    for offset in range(size):
        x, cell = span.cell(offset, size)
        slot = found.block * size + offset
        boxes.append(view.slot(slot, (x, top, cell, CELL_HEIGHT), "slot", str(slot)))
    return Row("slot", bold_last(boxes), top + CELL_HEIGHT / 2, top + CELL_HEIGHT, text)


def _as_split(found: Translation) -> str:
    """Say which block and which token of it a slot is."""
    size = found.cache.block_size
    return f"{found.slot} = {found.block} · {size} + {found.slot % size}"


def _levels(found: Translation, layout: str, span: Span, top: float) -> list[Row]:
    """Draw a row for each axis of the layout: the place on it, and the bytes up to that place."""
    axes = " · ".join(found.coordinates)
    lines = wrapped(f"Layout {layout}: {axes}, the slowest first", span.width, SMALL_SIZE)
    shapes: list[Shape] = [
        Text(span.left, top + _LINE * number, line, SMALL_SIZE, is_bold=True)
        for number, line in enumerate(lines)
    ]
    top += _LINE * (len(lines) - 1)
    rows: list[Row] = []
    top += 12
    for axis, place in found.coordinates.items():
        shapes += _axis(found, axis, span, top)
        amount = found.strides[axis]
        sums = f"{place} × {amount:,} B", f"{place * amount:,}"
        rows.append(Row(axis, shapes, top + _LEVEL / 2, top + _LEVEL, *sums))
        left, width = span.cell(place, found.sizes[axis])
        top += _LEVEL + 12
        shapes = _zoom(left, width, top - 11, span, top - 1, axis)
    total = sum(place * found.strides[axis] for axis, place in found.coordinates.items())
    # The learner's own address may be another one than that to which the rows add.
    name = "together" if total == found.address else f"not {total:,}"
    byte = f"byte {found.address:,}"
    return [*rows, Row("byte", [], top + 6, top + 10, name, byte, is_bold=True)]


def _axis(found: Translation, axis: str, span: Span, top: float) -> list[Shape]:
    """Draw the places on one axis of the layout, the token's own last, so that it is on top."""
    count, chosen = found.sizes[axis], found.coordinates[axis]
    others = [number for number in range(count) if number != chosen]
    if span.width / count < _NARROWEST:
        others = []
    row = Rect(span.left, top, span.width, _LEVEL, key=f"axis-{axis}")
    return [row, *(_axis_box(found, axis, number, span, top) for number in (*others, chosen))]


def _axis_box(found: Translation, axis: str, number: int, span: Span, top: float) -> Rect:
    """Draw one place on an axis of the layout."""
    is_chosen = number == found.coordinates[axis]
    x, width = span.cell(number, found.sizes[axis])
    things: dict[str, Thing] = {"block": ("block", number)}
    owner = found.owners.get(found.block * found.cache.block_size + number)
    if owner:
        things["token"] = ("token", f"{owner[0]}:{owner[1]}")
    return Rect(
        x,
        top,
        width,
        _LEVEL,
        "",
        fitting(width + 8, _PARTS[number] if axis == "kv" else str(number)),
        f"{axis} {number}: from byte {number * found.strides[axis]:,} on",
        key=f"axis-{axis}-{number}",
        outline="bold" if is_chosen else "thin",
        of=things.get(axis),
    )


def _strips(found: Translation, span: Span, top: float) -> list[Row]:
    """Draw the keys, or values, of the block in memory: what is written, and what is read."""
    num_bytes, size = found.strides["block"], found.cache.block_size
    title = f"All {_PARTS[found.kv]}s of block {found.block} in memory: {num_bytes:,} B"
    shapes: list[Shape] = [Text(span.left, top, title, SMALL_SIZE, is_bold=True)]
    rows: list[Row] = []
    top += 12
    for axis, place in (("token", f"token {found.slot % size}"), ("head", f"head {found.head}")):
        runs = pieces(found, axis)
        shapes.append(Rect(span.left, top, span.width, _STRIP, key=f"memory-{axis}"))
        for number, (start, length) in enumerate(runs):
            shapes.append(
                Rect(
                    span.left + span.width * start / num_bytes,
                    top,
                    span.width * length / num_bytes,
                    _STRIP,
                    THESE_BYTES,
                    tooltip=f"{place}: {length:,} bytes from byte {start:,} of the block on",
                    key=f"memory-{axis}-{number}",
                    outline="none",
                )
            )
        text = f"{_count(runs)} of {runs[0][1]:,} B"
        rows.append(Row(place, shapes, top + _STRIP / 2, top + _STRIP, text))
        shapes = []
        top += _STRIP + 10
    return rows


def _zoom(
    left: float, width: float, top: float, span: Span, bottom: float, name: str
) -> list[Shape]:
    """Draw the two lines between a box and the row that shows what is in it."""
    return [
        Line(((left, top), (span.left, bottom)), "muted", 1, key=f"zoom-{name}-left"),
        Line(((left + width, top), (span.right, bottom)), "muted", 1, key=f"zoom-{name}-right"),
    ]


def _count(runs: Sequence[tuple[int, int]]) -> str:
    return "1 piece" if len(runs) == 1 else f"{len(runs):,} pieces"


def _why_not(found: Translation) -> str:
    """Say what would be wrong with taking the position for the slot."""
    if found.position == found.slot:
        return "Slot and position agree here by chance."
    size = found.cache.block_size
    owner = found.owners.get(found.position)
    whose = "free" if found.cache.owner_of(found.position // size) is None else "empty"
    if found.position // size == 0:
        whose = "in the null block"
    if owner:
        whose = f"position {owner[1]} of {owner[0]}"
    return f"Not slot {found.position}, its position: that is {whose}."


def _way(found: Translation) -> str:
    """Say in words how a position becomes a slot."""
    no_token = found.position >= found.cache.num_tokens[found.request]
    return (
        f"Position {found.position} of {found.request} is offset {found.offset} of logical block "
        f"{found.logical}, which is block {found.table[found.logical]}, so slot {found.slot}. "
        + ("No token is in it yet. " if no_token else "")
        + _why_not(found)
    )


def _description(found: Translation, layout: str) -> str:
    """Say in words what the picture from slot to byte shows."""
    size = found.cache.block_size
    sums = " + ".join(
        f"{axis} {place} · {found.strides[axis]:,}" for axis, place in found.coordinates.items()
    )
    write, read = pieces(found, "token"), pieces(found, "head")
    part = _PARTS[found.kv]
    return (
        f"Position {found.position} of {found.request} is in slot {found.slot}, which is token "
        f"{found.slot % size} of block {found.block}. "
        f"In layout {layout} with {size} slots per block, element {found.dim} of head "
        f"{found.head} of its {part} is at byte {found.address:,}: {sums}. "
        f"The token's {part} is {_count(write)} of {write[0][1]:,} bytes, "
        f"the {part}s of one head in the block are {_count(read)} of {read[0][1]:,} bytes."
    )

"""Lesson 3's figure: one number splits and is glued again, from a position to a byte.

    position -> (logical block, offset) -> physical block -> slot -> bytes

Each row of the picture is one step of the translation. The chosen token has a bold outline in all
of them; pointing at any other token lights its own way.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from course_lib.kv_cache.block_table import blocks_to_add
from course_lib.kv_cache.watch.notation import StateLine
from course_lib.viz.kit.explorer import Choice, Explorer, PowerOfTwo, Slider
from course_lib.viz.kit.layout import WIDE, bottom_of, fitting, legend
from course_lib.viz.kit.own_parts import shows_own_parts
from course_lib.viz.kit.scene import Scene
from course_lib.viz.kit.shapes import (
    HEADING_SIZE,
    SMALL_SIZE,
    TEXT_SIZE,
    Line,
    Rect,
    Shape,
    Text,
    Thing,
    states_in,
)
from course_lib.viz.translation import LAYOUTS, PagedCache, Translation, pieces, translate

_MARGIN = 24
_CELL, _TILE, _LEVEL, _STRIP = 34, 64, 26, 22  # heights of the rows' boxes
_NARROWEST = 7  # pixels; of an axis with thinner places only the token's own is drawn
_SEQUENCES = {"r0": (10, (7, 3, 5, 8, 1)), "r1": (6, (2, 9, 4))}
"""Tokens of the example's sequences, and the blocks that they take one after the other."""

_NUM_HEADS = {16: 2, 128: 8}
"""KV heads of the example, by their elements. A head of 8 elements of 2 bytes would be one chunk of
the split layout, which would then be the same as HND."""


@dataclass(frozen=True)
class _Row:
    """One row: its boxes between left and right, its name, and what is calculated in it."""

    name: str
    shapes: Sequence[Shape]
    middle: float
    bottom: float
    sum: str
    amount: str = ""
    is_bold: bool = False


@dataclass(frozen=True)
class _Span:
    """Where the boxes of all rows begin and end, from left to right."""

    left: float
    right: float

    @property
    def width(self) -> float:
        return self.right - self.left

    def cell(self, index: int, count: int, gap: float = 0) -> tuple[float, float]:
        """Return left edge and width of one of ``count`` equal boxes."""
        width = (self.width - gap * (count - 1)) / count
        return self.left + index * (width + gap), width


@shows_own_parts
def address_scene(
    cache: PagedCache,
    request: str,
    position: int,
    layout: str = "NHD",
    head: int = 0,
    dim: int = 0,
    width: float = WIDE,
) -> Scene:
    """Draw the way of one element of a token's key, from its position to its byte.

    It shows the learner's own ``BlockTable``, ``slot_mapping``, ``row_major_strides`` and
    ``CacheLayout.address``, where there are any.

    Args:
        cache: The cache to look at.
        request: A sequence in it.
        position: Place of the token in its sequence, from 0.
        layout: "NHD", "HND" or "split".
        head: KV head.
        dim: Element of the head.
        width: Width of the picture, in pixels: ``WIDE`` or ``NARROW``.

    Raises:
        ValueError: There is no such sequence, slot, layout, head or element.

    >>> cache = PagedCache({"r0": (7, 3, 5), "r1": (2, 9)}, {"r0": 10, "r1": 6})
    >>> scene = address_scene(cache, "r0", 9)
    >>> scene.alt.partition(".")[0]
    'Position 9 of r0 is offset 1 of logical block 2, which is block 5, so slot 21'
    """
    found = translate(cache, request, position, layout, head, dim)
    is_wide = width >= WIDE
    span = _Span(132, width - 236) if is_wide else _Span(104, width - _MARGIN)
    place = f"block {found.block}, slot {found.slot}, byte {found.address:,}"
    heading = f"Token {position} of {request}: {place}"
    shapes: list[Shape] = [
        Text(_MARGIN, 30, heading, HEADING_SIZE if is_wide else TEXT_SIZE, is_bold=True),
        Text(_MARGIN, 58, _state_line(cache), SMALL_SIZE, tone="muted"),
    ]
    rows = _rows(found, layout, span, top=80)
    for row in rows:
        shapes += row.shapes
        name = row.name if row.shapes else ""
        shapes.append(Text(_MARGIN, row.middle + 5, name, SMALL_SIZE, is_bold=True))
    if is_wide:
        shapes += _sums(rows, [row.middle + 5 for row in rows], span.right + 20, width - _MARGIN)
    else:
        below = bottom_of(shapes) + 32
        spots = [below + 24 * number for number in range(len(rows))]
        shapes += _sums(rows, spots, span.left, width - _MARGIN)
        shapes += [
            Text(_MARGIN, y, row.name, SMALL_SIZE, tone="muted")
            for y, row in zip(spots, rows, strict=True)
        ]
    shapes += legend(states_in(shapes), _MARGIN, bottom_of(shapes) + 18, width - 2 * _MARGIN)
    return Scene(
        width,
        bottom_of(shapes) + 12,
        tuple(shapes),
        title=f"From position {position} of {request} to a byte",
        alt=_description(found, layout),
    )


def example_scene(
    request: str,
    position: int,
    layout: str,
    block_size: int,
    head_dim: int,
    head: int,
    dim: int,
    width: float = WIDE,
) -> Scene:
    """Draw ``address_scene`` for the example of lesson 3: r0 has 10 tokens and r1 has 6.

    Args:
        request: "r0" or "r1".
        position: Place of the token in its sequence, from 0.
        layout: "NHD", "HND" or "split".
        block_size: Slots per block, 2 to 16.
        head_dim: Elements of a KV head: 16, of which there are 2, or 128, of which there are 8.
        head: KV head.
        dim: Element of the head.
        width: Width of the picture, in pixels.

    Raises:
        ValueError: What ``address_scene`` refuses.

    >>> example_scene("r0", 12, "NHD", block_size=4, head_dim=16, head=0, dim=0)
    Traceback (most recent call last):
    course_lib.kv_cache.block_table.PositionError: position 12 has no slot: positions count from ...
    """
    tables = {
        name: block_ids[: blocks_to_add(num_tokens, 0, block_size)]
        for name, (num_tokens, block_ids) in _SEQUENCES.items()
    }
    cache = PagedCache(
        tables,
        {name: num_tokens for name, (num_tokens, _) in _SEQUENCES.items()},
        block_size,
        num_kv_heads=_NUM_HEADS[head_dim],
        head_dim=head_dim,
    )
    return address_scene(cache, request, position, layout, head, dim, width)


def token_address() -> Explorer:
    """Return the figure with controls for token, block size, layout, and element of the key.

    >>> token_address().values["position"]
    9
    """
    return Explorer(
        example_scene,
        {
            "request": Choice("Sequence", {name: name for name in _SEQUENCES}, "r0"),
            "position": Slider("Position", 0, 12, 9),
            "block_size": PowerOfTwo("Block size", 2, 16, 4, unit="slots"),
            "layout": Choice("Layout", {name: name for name in LAYOUTS}, "NHD"),
            "head_dim": Choice(
                "Keys", {f"{count} heads of {dim}": dim for dim, count in _NUM_HEADS.items()}, 16
            ),
            "head": Slider("Head", 0, 1, 0),
            "dim": Slider("Element of the head", 0, 15, 0),
        },
    )


def _rows(found: Translation, layout: str, span: _Span, top: float) -> list[_Row]:
    """Draw all rows, one below the other."""
    rows = [_positions(found, span, top)]
    rows.append(_table(found, span, rows[-1].bottom + 24))
    rows.append(_pool(found, span, rows[-1].bottom + 44))
    rows.append(_slots(found, span, rows[-1].bottom + 24))
    rows += _levels(found, layout, span, rows[-1].bottom + 48)
    rows += _strips(found, span, rows[-1].bottom + 36)
    return rows


def _positions(found: Translation, span: _Span, top: float) -> _Row:
    """Draw the positions of the sequence, split into logical blocks."""
    size, num_blocks = found.cache.block_size, len(found.table)
    shapes: list[Shape] = []
    chosen: list[Shape] = []
    for logical, block_id in enumerate(found.table):
        left, width = span.cell(logical, num_blocks, gap=10)
        inner = _Span(left, left + width)
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
                    _CELL,
                    "used" if is_filled else "internal",
                    fitting(cell + 8, str(position)),
                    f"position {position} of {found.request}"
                    + ("" if is_filled else ": no token yet"),
                    key=f"position-{position}",
                    outline="bold" if is_chosen else "thin",
                    of=("token", f"{found.request}:{position}"),
                    lights=(("block", block_id),),
                )
            )
    middle = top + 20 + _CELL / 2
    size_text = f"{found.position} = {found.logical} · {size} + {found.offset}"
    return _Row("position", [*shapes, *chosen], middle, top + 20 + _CELL, size_text)


def _table(found: Translation, span: _Span, top: float) -> _Row:
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
                _CELL,
                label=str(block_id),
                tooltip=f"entry {logical} of the table of {found.request}: block {block_id}",
                key=f"entry-{logical}",
                outline="bold" if is_chosen else "thin",
                of=("block", block_id),
            )
        )
        if is_chosen:
            cell_left, cell = _Span(left, left + width).cell(found.offset, found.cache.block_size)
            arrow = ((cell_left + cell / 2, top - 22), (x + box / 2, top - 3))
            shapes.append(Line(arrow, thickness=2, has_arrow=True, key="arrow-table"))
    text = f"entry {found.logical}: block {found.table[found.logical]}"
    return _Row("table", [*shapes, *chosen], top + _CELL / 2, top + _CELL, text)


def _pool(found: Translation, span: _Span, top: float) -> _Row:
    """Draw the pool, a tile for each block, and arrows from the table to the blocks."""
    size, num_blocks = found.cache.block_size, found.cache.num_blocks
    shapes: list[Shape] = []
    for logical, block_id in enumerate(found.table):
        from_left, from_width = span.cell(logical, len(found.table), gap=10)
        to_left, to_width = span.cell(block_id, num_blocks, gap=6)
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
    for block_id in range(num_blocks):
        left, width = span.cell(block_id, num_blocks, gap=6)
        shapes += _tile(found, block_id, left, top, width)
    middle = top + _TILE / 2
    first = found.block * size
    text = f"slots {first} to {first + size - 1}"
    return _Row("pool", shapes, middle, top + _TILE, text)


def _tile(found: Translation, block_id: int, left: float, top: float, width: float) -> list[Shape]:
    """Draw one block of the pool: its id, whose it is, and its slots."""
    owner = found.owner_of(block_id)
    whose, says = "null" if block_id == 0 else "free", "nobody's"
    if owner:
        whose, says = f"{owner[0]}[{owner[1]}]", f"logical block {owner[1]} of {owner[0]}"
    thing: Thing = ("block", block_id)
    shapes: list[Shape] = [
        Rect(
            left,
            top,
            width,
            _TILE,
            "" if owner or block_id == 0 else "free",
            tooltip=f"block {block_id}: {says}",
            key=f"block-{block_id}",
            outline="bold" if block_id == found.block else "thin",
            of=thing,
        ),
        Text(
            left + width / 2, top + 19, str(block_id), SMALL_SIZE, "middle", is_bold=True, of=thing
        ),
        Text(
            left + width / 2,
            top + 37,
            fitting(width + 5, whose, whose.partition("[")[0]),
            SMALL_SIZE,
            "middle",
            tone="muted",
            of=thing,
        ),
    ]
    inner = _Span(left + 4, left + width - 4)
    for offset in range(found.cache.block_size):
        slot = block_id * found.cache.block_size + offset
        x, cell = inner.cell(offset, found.cache.block_size)
        shapes.append(_slot_box(found, slot, x, top + _TILE - 18, cell, 14, "pool"))
    return shapes


def _slots(found: Translation, span: _Span, top: float) -> _Row:
    """Draw the slots of the token's block, and which slot it would be without a table."""
    size = found.cache.block_size
    tile_left, tile_width = span.cell(found.block, found.cache.num_blocks, gap=6)
    shapes = _zoom(tile_left, tile_width, top - 22, span, top - 2, "slots")
    boxes = []
    for offset in range(size):
        x, cell = span.cell(offset, size)
        slot = found.block * size + offset
        boxes.append(_slot_box(found, slot, x, top, cell, _CELL, "slot", str(slot)))
    boxes.sort(key=lambda box: box.outline == "bold")  # drawn last, so that nothing covers it
    note = Text(span.left, top + _CELL + 20, _why_not(found), SMALL_SIZE, tone="muted")
    text = f"{found.block} · {size} + {found.slot % size} = {found.slot}"
    return _Row("slot", [*shapes, *boxes, note], top + _CELL / 2, top + _CELL, text)


def _slot_box(
    found: Translation,
    slot: int,
    x: float,
    top: float,
    width: float,
    height: float,
    name: str,
    label: str = "",
) -> Rect:
    """Draw one slot."""
    owner = found.owners.get(slot)
    block_id = slot // found.cache.block_size
    state = "internal" if found.owner_of(block_id) else "free"
    says = "empty"
    if block_id == 0:
        state, says = "null", "in the null block"
    elif owner:
        state, says = "used", f"position {owner[1]} of {owner[0]}"
    return Rect(
        x,
        top,
        width,
        height,
        state,
        fitting(width + 8, label),
        f"slot {slot}: {says}",
        key=f"{name}-{slot}",
        outline="bold" if slot == found.slot else "thin",
        of=("token", f"{owner[0]}:{owner[1]}") if owner else ("slot", slot),
        lights=(("block", block_id),),
    )


def _levels(found: Translation, layout: str, span: _Span, top: float) -> list[_Row]:
    """Draw a row for each axis of the layout: the place on it, and the bytes up to that place."""
    axes = " · ".join(found.coordinates)
    title = fitting(
        span.width + 8, f"Layout {layout}: {axes}, the slowest axis first", f"{layout}: {axes}"
    )
    shapes: list[Shape] = [Text(span.left, top, title, SMALL_SIZE, is_bold=True)]
    rows: list[_Row] = []
    top += 12
    for axis, place in found.coordinates.items():
        shapes += _axis(found, axis, span, top)
        amount = found.strides[axis]
        sums = f"{place} × {amount:,} B", f"{place * amount:,}"
        rows.append(_Row(axis, shapes, top + _LEVEL / 2, top + _LEVEL, *sums))
        left, width = span.cell(place, found.sizes[axis])
        top += _LEVEL + 15
        shapes = _zoom(left, width, top - 14, span, top - 1, axis)
    total = sum(place * found.strides[axis] for axis, place in found.coordinates.items())
    # The learner's own address may be another one than that to which the rows add.
    name = "together" if total == found.address else f"not {total:,}"
    byte = f"byte {found.address:,}"
    return [*rows, _Row("byte", [], top + 6, top + 10, name, byte, is_bold=True)]


def _axis(found: Translation, axis: str, span: _Span, top: float) -> list[Shape]:
    """Draw the places on one axis of the layout, the token's own last, so that it is on top."""
    count, chosen = found.sizes[axis], found.coordinates[axis]
    others = [number for number in range(count) if number != chosen]
    if span.width / count < _NARROWEST:
        others = []
    row = Rect(span.left, top, span.width, _LEVEL, key=f"axis-{axis}")
    return [row, *(_axis_box(found, axis, number, span, top) for number in (*others, chosen))]


def _axis_box(found: Translation, axis: str, number: int, span: _Span, top: float) -> Rect:
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
        "used" if is_chosen else "",
        fitting(width + 8, str(number)),
        f"{axis} {number}: from byte {number * found.strides[axis]:,} on",
        key=f"axis-{axis}-{number}",
        outline="bold" if is_chosen else "thin",
        of=things.get(axis),
    )


def _strips(found: Translation, span: _Span, top: float) -> list[_Row]:
    """Draw the keys of the block as they lie in memory: what is written, and what is read."""
    num_bytes = found.strides["block"]
    title = f"All keys of block {found.block} in memory: {num_bytes:,} B"
    shapes: list[Shape] = [Text(span.left, top, title, SMALL_SIZE, is_bold=True)]
    rows: list[_Row] = []
    top += 12
    for axis, place in (("token", f"token {found.position}"), ("head", f"head {found.head}")):
        runs = pieces(found, axis)
        shapes.append(Rect(span.left, top, span.width, _STRIP, key=f"memory-{axis}"))
        for number, (start, length) in enumerate(runs):
            shapes.append(
                Rect(
                    span.left + span.width * start / num_bytes,
                    top,
                    span.width * length / num_bytes,
                    _STRIP,
                    "used",
                    tooltip=f"{place}: {length:,} bytes from byte {start:,} of the block on",
                    key=f"memory-{axis}-{number}",
                    outline="none",
                )
            )
        text = f"{_count(runs)} of {runs[0][1]:,} B"
        rows.append(_Row(place, shapes, top + _STRIP / 2, top + _STRIP, text))
        shapes = []
        top += _STRIP + 10
    return rows


def _zoom(
    left: float, width: float, top: float, span: _Span, bottom: float, name: str
) -> list[Shape]:
    """Draw the two lines between a box and the row that shows what is in it."""
    return [
        Line(((left, top), (span.left, bottom)), "muted", 1, key=f"zoom-{name}-left"),
        Line(((left + width, top), (span.right, bottom)), "muted", 1, key=f"zoom-{name}-right"),
    ]


def _sums(rows: Sequence[_Row], spots: Sequence[float], left: float, right: float) -> list[Shape]:
    """Write what is calculated in each row: a sum, and its result at the right edge."""
    shapes: list[Shape] = []
    for row, y in zip(rows, spots, strict=True):
        shapes.append(Text(left, y, row.sum, SMALL_SIZE, is_bold=row.is_bold))
        if row.amount:
            shapes.append(Text(right, y, row.amount, SMALL_SIZE, "end", is_bold=row.is_bold))
        if row.is_bold:
            shapes.append(Line(((left, y - 18), (right, y - 18)), "muted", 1))
    return shapes


def _count(runs: Sequence[tuple[int, int]]) -> str:
    return "1 piece" if len(runs) == 1 else f"{len(runs):,} pieces"


def _state_line(cache: PagedCache) -> str:
    """Write the free blocks and the tables in the notation of the course."""
    held = {block_id for table in cache.tables.values() for block_id in table}
    free = [str(block_id) for block_id in range(1, cache.num_blocks) if block_id not in held]
    return f"free [{' '.join(free)}]  {StateLine.of_tables(cache.tables)}"


def _why_not(found: Translation) -> str:
    """Say what would be wrong with taking the position for the slot."""
    if found.position == found.slot:
        return "Slot and position agree here by chance."
    size = found.cache.block_size
    owner = found.owners.get(found.position)
    whose = "free" if found.owner_of(found.position // size) is None else "empty"
    if found.position // size == 0:
        whose = "in the null block"
    if owner:
        whose = f"position {owner[1]} of {owner[0]}"
    return f"Not slot {found.position}, the position itself: that is {whose}."


def _description(found: Translation, layout: str) -> str:
    """Say in words what the picture shows."""
    size = found.cache.block_size
    sums = " + ".join(
        f"{axis} {place} · {found.strides[axis]:,}" for axis, place in found.coordinates.items()
    )
    write, read = pieces(found, "token"), pieces(found, "head")
    no_token = found.position >= found.cache.num_tokens[found.request]
    return (
        f"Position {found.position} of {found.request} is offset {found.offset} of logical block "
        f"{found.logical}, which is block {found.table[found.logical]}, so slot {found.slot}. "
        + ("No token is in it yet. " if no_token else "")
        + f"{_why_not(found)} "
        f"In layout {layout} with {size} slots per block, element {found.dim} of head "
        f"{found.head} of its key is at byte {found.address:,}: {sums}. "
        f"The token's key is {_count(write)} of {write[0][1]:,} bytes, "
        f"the keys of one head in the block are {_count(read)} of {read[0][1]:,} bytes."
    )

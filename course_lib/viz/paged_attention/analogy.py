"""Lesson 2's first figure: paging in an operating system beside paging of a KV cache."""

from __future__ import annotations

from dataclasses import dataclass

from course_lib.attention.example import BLOCK_SIZE, BLOCK_TABLE, CONTEXT_LEN, NUM_BLOCKS
from course_lib.viz.cache_rows import bold_last
from course_lib.viz.kit.controls import Slider
from course_lib.viz.kit.explorer import Explorer
from course_lib.viz.kit.layout import WIDE, bottom_of, fitting, legend
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
from course_lib.viz.paged_attention.page import MARGIN, paragraphs

_GUTTER, _NAMES_WIDTH = 40, 98
_CELL, _ENTRY, _TILE, _STRIP = 30, 30, 54, 20
_GROUP_GAP, _TILE_GAP = 8, 5
_OTHERS = (1, 2, 6)
"""Frames and blocks that somebody else has."""

_LEGEND = {"used": "of this process, of this request", "empty": "somebody else's"}

_WHERE_IT_ENDS = (
    "No page fault: the scheduler hands out a block before the step that writes into it. A token "
    "without a block is not computed, and no kernel stops to have one fetched.",
    "No TLB: the block table is plain data, and a kernel itself looks up the block of each token.",
    "One table for all layers of a kind: block 5 is block 5 in the cache of each of them.",
    "No clearing: an operating system zeroes a frame before another process gets it. A block keeps "
    "what its last owner wrote: the stale slot.",
)


@dataclass(frozen=True)
class _Side:
    """What one of the two sides calls things.

    Attributes:
        name: The side; a part of the keys.
        title: Its heading.
        rows: Names of its three rows.
        group: What a page is called.
        entry: What the table leads to.
        unit: What an address counts, after a number.
        rest: State of what is behind the last token, and what it is.
    """

    name: str
    title: str
    rows: tuple[str, str, str]
    group: str
    entry: str
    unit: str
    rest: tuple[str, str]

    def sums(self, position: int) -> tuple[str, str, str]:
        """Return the way of an address in three sums."""
        logical, offset = divmod(position, BLOCK_SIZE)
        size, unit = f"{BLOCK_SIZE}{self.unit}", self.unit
        block_id = BLOCK_TABLE[logical]
        found = block_id * BLOCK_SIZE + offset
        start, end = ("address ", "physical address ") if unit else ("token ", "slot ")
        return (
            f"{start}{position}{unit} = {self.group} {logical} · {size} + {offset}{unit}",
            f"{self.rows[1]}, entry {logical}: {self.entry} {block_id}",
            f"{end}{block_id} · {size} + {offset}{unit} = {found}{unit}",
        )


_PROCESS = _Side(
    "process",
    "Operating system: pages of 4 KiB",
    ("process", "page table", "frames"),
    "page",
    "frame",
    " KiB",
    ("free", "zero: the system cleared the frame"),
)
_REQUEST = _Side(
    "request",
    "Serving engine: blocks of 4 tokens",
    ("request", "block table", "blocks"),
    "logical block",
    "block",
    "",
    ("stale", "stale: what the last owner of the block left"),
)


def paging_analogy() -> Explorer:
    """Return a figure of virtual memory beside a paged KV cache.

    The control chooses a token, and the address that corresponds to it; both sides show its way.
    Choosing one in the picture moves the control there. All pictures are made when the figure is,
    so it needs no kernel.

    >>> figure = paging_analogy()
    >>> figure.set(position=4)
    >>> figure.scene.alt.partition(". ")[0]
    'Address 4 KiB of the process is in page 1, frame 3, at physical address 12 KiB'
    """
    figure = Explorer(
        analogy_scene,
        {"position": Slider("Token, and KiB of the process", 0, CONTEXT_LEN - 1, 9)},
        precompute=True,
    )

    def choose(thing: Thing) -> None:
        kind, position = thing
        if kind == "token" and int(position) < CONTEXT_LEN:
            figure.set(position=int(position))

    figure.on_pick(choose)
    return figure


def analogy_scene(position: int, width: float = WIDE) -> Scene:
    """Draw the way of a token to its slot, and of an address to its place in memory.

    Args:
        position: The token, from 0; the address is as many KiB.
        width: Width of the picture, in pixels: ``WIDE`` or ``NARROW``.

    Raises:
        ValueError: The request has no such token.

    >>> analogy_scene(11)
    Traceback (most recent call last):
    ValueError: token 11 is none of the 11 of the request; take 0 to 10
    """
    if not 0 <= position < CONTEXT_LEN:
        raise ValueError(
            f"token {position} is none of the {CONTEXT_LEN} of the request; "
            f"take 0 to {CONTEXT_LEN - 1}"
        )
    is_wide = width >= WIDE
    logical, offset = divmod(position, BLOCK_SIZE)
    block_id = BLOCK_TABLE[logical]
    slot = block_id * BLOCK_SIZE + offset
    title = f"Token {position} is in slot {slot}; address {position} KiB is at {slot} KiB"
    size = HEADING_SIZE if is_wide else TEXT_SIZE
    shapes: list[Shape] = [Text(MARGIN, 32, title, size, is_bold=True)]
    column = (width - 2 * MARGIN - _GUTTER) / 2 if is_wide else width - 2 * MARGIN
    left, top = float(MARGIN), 48.0
    for side in (_PROCESS, _REQUEST):
        shapes += _side(side, position, left, top, column)
        left, top = (left + column + _GUTTER, top) if is_wide else (left, bottom_of(shapes) + 24)
    below = bottom_of(shapes) + 38
    shapes.append(Text(MARGIN, below, "Where the analogy ends", SMALL_SIZE, is_bold=True))
    shapes += paragraphs(_WHERE_IT_ENDS, below + 10, width)
    shapes += legend(states_in(shapes), MARGIN, bottom_of(shapes) + 20, width - 2 * MARGIN, _LEGEND)
    alt = (
        f"Address {position} KiB of the process is in page {logical}, frame {block_id}, at "
        f"physical address {slot} KiB. Token {position} of the request is in logical block "
        f"{logical}, block {block_id}, at slot {slot}. Where the analogy ends: "
        f"{' '.join(_WHERE_IT_ENDS)}"
    )
    return Scene(width, bottom_of(shapes) + 14, tuple(shapes), title="Paging, twice", alt=alt)


def _side(side: _Side, position: int, left: float, top: float, width: float) -> list[Shape]:
    """Draw one side: the addresses, the table, the memory, and the sums."""
    tops = (top + 52, top + 114, top + 186)
    shapes: list[Shape] = [Text(left, top + 18, side.title, is_bold=True)]
    middles = (tops[0] + 20, tops[1] + 20, tops[2] + 32)
    for name, y in zip(side.rows, middles, strict=True):
        shapes.append(Text(left, y, name, SMALL_SIZE, is_bold=True))
    span = (left + _NAMES_WIDTH, width - _NAMES_WIDTH)
    for logical in range(len(BLOCK_TABLE)):
        shapes += _group(side, logical, position, span, tops[0])
    for logical in range(len(BLOCK_TABLE)):
        shapes += _entry(side, logical, position, span, tops)
    for block_id in range(NUM_BLOCKS):
        shapes += _tile(side, block_id, position, span, tops[2])
    for number, line in enumerate(side.sums(position)):
        y = tops[2] + _TILE + 30 + 23 * number
        key = f"{side.name}-sum-{number}"
        shapes.append(Text(left, y, line, SMALL_SIZE, is_bold=number == 2, key=key))
    return shapes


Span = tuple[float, float]


def _group_at(logical: int, span: Span) -> tuple[float, float]:
    """Return left edge and width of a page."""
    count = len(BLOCK_TABLE)
    width = (span[1] - _GROUP_GAP * (count - 1)) / count
    return span[0] + logical * (width + _GROUP_GAP), width


def _tile_at(block_id: int, span: Span) -> tuple[float, float]:
    """Return left edge and width of a frame."""
    width = (span[1] - _TILE_GAP * (NUM_BLOCKS - 1)) / NUM_BLOCKS
    return span[0] + block_id * (width + _TILE_GAP), width


def _group(side: _Side, logical: int, position: int, span: Span, top: float) -> list[Shape]:
    """Draw a page: its name and its addresses, the chosen one last, so that it is on top."""
    left, width = _group_at(logical, span)
    name = fitting(width + 10, f"{side.group} {logical}", f"logical {logical}")
    shapes: list[Shape] = [
        Text(left + width / 2, top - 8, name, SMALL_SIZE, "middle", tone="muted")
    ]
    cell = width / BLOCK_SIZE
    cells = []
    for offset in range(BLOCK_SIZE):
        number = logical * BLOCK_SIZE + offset
        place = (left + offset * cell, top, cell, _CELL)
        cells.append(_cell(side, number, number == position, place, "address", str(number)))
    return [*shapes, *bold_last(cells)]


def _cell(
    side: _Side,
    number: int,
    is_chosen: bool,
    place: tuple[float, float, float, float],
    row: str,
    label: str = "",
) -> Rect:
    """Draw an address, or where it is in memory."""
    logical = number // BLOCK_SIZE
    is_rest = number >= CONTEXT_LEN
    what = "token" if not side.unit else "KiB"
    return Rect(
        *place,
        side.rest[0] if is_rest else "used",
        "" if is_rest else fitting(place[2] + 10, label),
        side.rest[1] if is_rest else f"{what} {number} of the {side.name}",
        key=f"{side.name}-{row}-{number}",
        outline="bold" if is_chosen else "thin",
        of=("token", number),
        lights=(("entry", logical),),
    )


def _entry(
    side: _Side, logical: int, position: int, span: Span, tops: tuple[float, float, float]
) -> list[Shape]:
    """Draw an entry of the table, the arrow that leads to it, and the one that leads on."""
    left, width = _group_at(logical, span)
    block_id = BLOCK_TABLE[logical]
    is_chosen = logical == position // BLOCK_SIZE
    middle = left + width / 2
    tile_left, tile_width = _tile_at(block_id, span)
    thing: Thing = ("entry", logical)
    cell = width / BLOCK_SIZE
    from_x = left + (position % BLOCK_SIZE + 0.5) * cell if is_chosen else middle
    arrows = (
        ((from_x, tops[0] + _CELL + 3), (middle, tops[1] - 3)),
        ((middle, tops[1] + _ENTRY + 3), (tile_left + tile_width / 2, tops[2] - 3)),
    )
    shapes: list[Shape] = [
        Line(
            arrow,
            "text" if is_chosen else "muted",
            2.5 if is_chosen else 1,
            has_arrow=True,
            key=f"{side.name}-arrow-{number}-{logical}",
            of=thing,
        )
        for number, arrow in enumerate(arrows)
    ]
    shapes.append(
        Rect(
            middle - 24,
            tops[1],
            48,
            _ENTRY,
            label=str(block_id),
            tooltip=f"entry {logical} of the {side.rows[1]}: {side.entry} {block_id}",
            key=f"{side.name}-entry-{logical}",
            outline="bold" if is_chosen else "thin",
            of=thing,
        )
    )
    return shapes


def _tile(side: _Side, block_id: int, position: int, span: Span, top: float) -> list[Shape]:
    """Draw a frame of the memory: its number, and what is in it if it is ours."""
    left, width = _tile_at(block_id, span)
    is_ours = block_id in BLOCK_TABLE
    state, says = ("", "") if is_ours else ("free", "nobody's")
    if block_id in _OTHERS or (block_id == 0 and side is _PROCESS):
        state, says = "empty", "somebody else's"
    elif block_id == 0:
        state, says = "", "the null block"
    logical = BLOCK_TABLE.index(block_id) if is_ours else -1
    is_chosen = logical == position // BLOCK_SIZE
    shapes: list[Shape] = [
        Rect(
            left,
            top,
            width,
            _TILE,
            state,
            tooltip=f"{side.entry} {block_id}" + (f": {says}" if says else ""),
            key=f"{side.name}-tile-{block_id}",
            outline="bold" if is_chosen else "thin",
            of=("entry", logical) if is_ours else ("block", block_id),
        )
    ]
    label = Rect(left + width / 2 - 10, top + 4, 20, 20, state, str(block_id), outline="none")
    shapes.append(label)
    strip = (left + 3, top + _TILE - _STRIP - 3, width - 6, _STRIP)
    if block_id == 0 and not state:
        shapes.append(Rect(*strip, "null"))
    if is_ours:
        slot = strip[2] / BLOCK_SIZE
        cells = []
        for offset in range(BLOCK_SIZE):
            number = logical * BLOCK_SIZE + offset
            place = (strip[0] + offset * slot, strip[1], slot, _STRIP)
            cells.append(_cell(side, number, number == position, place, "place"))
        shapes += bold_last(cells)
    return shapes

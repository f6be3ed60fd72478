"""What lesson 3's figures are made of: rows of boxes that have a name and a sum beside them."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from course_lib.kv_cache.watch.notation import StateLine
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
from course_lib.viz.translation import PagedCache

CELL_HEIGHT, TILE_HEIGHT = 34, 64
TILE_GAP = 6
FIRST_ROW = 80
"""Where the first row begins: below the heading and the state of the cache."""

THESE_BYTES = "series-2"
"""How a row shows the bytes that its name stands for, unlike what holds tokens."""

_MARGIN = 24
_STRIP = 14  # height of the slots in a tile


@dataclass(frozen=True)
class Span:
    """Where the boxes of a row begin and end, from left to right.

    >>> Span(100, 400).cell(1, count=3), Span(100, 410).cell(1, count=3, gap=5)
    ((200.0, 100.0), (205.0, 100.0))
    """

    left: float
    right: float

    @classmethod
    def of(cls, width: float) -> Span:
        """Return the span of all rows in a picture of this width."""
        return cls(132, width - 236) if width >= WIDE else cls(104, width - _MARGIN)

    @property
    def width(self) -> float:
        """From left to right."""
        return self.right - self.left

    def cell(self, index: int, count: int, gap: float = 0) -> tuple[float, float]:
        """Return left edge and width of one of ``count`` equal boxes."""
        width = (self.width - gap * (count - 1)) / count
        return self.left + index * (width + gap), width


@dataclass(frozen=True)
class Row:
    """One row.

    Attributes:
        name: What it shows.
        shapes: Its boxes; without any, there is only a sum.
        middle: Height of its name.
        bottom: Where it ends.
        sum: What is calculated in it.
        amount: What comes of that, at the right edge.
        is_bold: Whether it sums up the rows above it.
    """

    name: str
    shapes: Sequence[Shape]
    middle: float
    bottom: float
    sum: str
    amount: str = ""
    is_bold: bool = False


@dataclass(frozen=True)
class PoolView:
    """How the pool of a cache is drawn.

    Attributes:
        cache: The cache.
        owners: Whose token is in each slot that holds one: its sequence and its position.
        chosen: The slots that have a bold outline; so do their blocks.
    """

    cache: PagedCache
    owners: Mapping[int, tuple[str, int]]
    chosen: Collection[int]

    def tile(self, block_id: int, span: Span, top: float) -> list[Shape]:
        """Draw one block of the pool: its id, whose it is, and its slots."""
        size = self.cache.block_size
        left, width = span.cell(block_id, self.cache.num_blocks, TILE_GAP)
        owner = self.cache.owner_of(block_id)
        whose, says = "null" if block_id == 0 else "free", "nobody's"
        if owner:
            whose, says = f"{owner[0]}[{owner[1]}]", f"logical block {owner[1]} of {owner[0]}"
        is_chosen = any(slot // size == block_id for slot in self.chosen)
        middle = left + width / 2
        short = fitting(width + 5, whose, whose.partition("[")[0])
        shapes: list[Shape] = [
            Rect(
                left,
                top,
                width,
                TILE_HEIGHT,
                "" if owner or block_id == 0 else "free",
                tooltip=f"block {block_id}: {says}",
                key=f"block-{block_id}",
                outline="bold" if is_chosen else "thin",
                of=("block", block_id),
            ),
            Text(middle, top + 19, str(block_id), SMALL_SIZE, "middle", is_bold=True),
            Text(middle, top + 37, short, SMALL_SIZE, "middle", tone="muted"),
        ]
        inner = Span(left + 4, left + width - 4)
        boxes = []
        for offset in range(size):
            x, cell = inner.cell(offset, size)
            place = (x, top + TILE_HEIGHT - _STRIP - 4, cell, _STRIP)
            boxes.append(self.slot(block_id * size + offset, place, "pool"))
        return [*shapes, *bold_last(boxes)]

    def slot(
        self, slot: int, place: tuple[float, float, float, float], name: str, label: str = ""
    ) -> Rect:
        """Draw one slot.

        Args:
            slot: Which.
            place: Left edge, upper edge, width and height.
            name: Of the row; a part of the key.
            label: What to write into the box, if it fits.
        """
        owner = self.owners.get(slot)
        block_id = slot // self.cache.block_size
        state = "reserved" if self.cache.owner_of(block_id) else "free"
        says = "empty"
        if block_id == 0:
            state, says = "null", "in the null block"
        elif owner:
            state, says = "used", f"position {owner[1]} of {owner[0]}"
        thing: Thing = ("token", f"{owner[0]}:{owner[1]}") if owner else ("slot", slot)
        return Rect(
            *place,
            state,
            fitting(place[2] + 8, label),
            f"slot {slot}: {says}",
            key=f"{name}-{slot}",
            outline="bold" if slot in self.chosen else "thin",
            of=thing,
            lights=(("block", block_id),),
        )


def bold_last(boxes: Sequence[Rect]) -> list[Rect]:
    """Return boxes in an order in which no neighbour covers a bold outline."""
    return sorted(boxes, key=lambda box: box.outline == "bold")


def scene_of_rows(
    cache: PagedCache,
    headings: Sequence[str],
    title: str,
    alt: str,
    rows: Sequence[Row],
    width: float,
) -> Scene:
    """Put rows together to a picture: with their sums beside them, or below where it is narrow.

    Args:
        cache: The cache, whose state is written below the heading.
        headings: What the picture says first; of these, the first one that there is room for.
        title: What it is called.
        alt: What it shows, in words.
        rows: The rows, the first one from ``FIRST_ROW`` on.
        width: Width of the picture, in pixels.
    """
    is_wide = width >= WIDE
    span = Span.of(width)
    size = HEADING_SIZE if is_wide else TEXT_SIZE
    heading = fitting(width - _MARGIN, *headings, size=size)
    shapes: list[Shape] = [
        Text(_MARGIN, 30, heading, size, is_bold=True),
        Text(_MARGIN, 58, _state_line(cache), SMALL_SIZE, tone="muted"),
    ]
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
    top, across = bottom_of(shapes) + 18, width - 2 * _MARGIN
    names = {"reserved": "no token yet", THESE_BYTES: "these bytes"}
    shapes += legend(states_in(shapes), _MARGIN, top, across, names)
    return Scene(width, bottom_of(shapes) + 12, tuple(shapes), title=title, alt=alt)


def _sums(rows: Sequence[Row], spots: Sequence[float], left: float, right: float) -> list[Shape]:
    """Write what is calculated in each row: a sum, and its result at the right edge."""
    shapes: list[Shape] = []
    for row, y in zip(rows, spots, strict=True):
        shapes.append(Text(left, y, row.sum, SMALL_SIZE, is_bold=row.is_bold))
        if row.amount:
            shapes.append(Text(right, y, row.amount, SMALL_SIZE, "end", is_bold=row.is_bold))
        if row.is_bold:
            shapes.append(Line(((left, y - 18), (right, y - 18)), "muted", 1))
    return shapes


def _state_line(cache: PagedCache) -> str:
    """Write the free blocks and the tables in the notation of the course."""
    held = {block_id for table in cache.tables.values() for block_id in table}
    free = [str(block_id) for block_id in range(1, cache.num_blocks) if block_id not in held]
    return f"free [{' '.join(free)}]  {StateLine.of_tables(cache.tables)}"

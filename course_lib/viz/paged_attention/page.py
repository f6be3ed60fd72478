"""What lesson 2's figures have in common: margins, bars of numbers, and lines of words."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from course_lib.attention.example import BLOCK_TABLE, NUM_BLOCKS
from course_lib.viz.kit.layout import WIDE, wrapped
from course_lib.viz.kit.shapes import SMALL_SIZE, Rect, Shape, Text

MARGIN = 24
TILE_GAP = 6
"""Between two blocks of the cache."""


@dataclass(frozen=True)
class Page:
    """Where things are, the same in all pictures of a film.

    Attributes:
        width: Width of the picture.
        scales: What the bars of m, l and acc have room for.
    """

    width: float
    scales: tuple[float, float, float]

    @property
    def is_wide(self) -> bool:
        """Whether numbers stand above their bars, and panels side by side."""
        return self.width >= WIDE

    @property
    def left(self) -> float:
        """Where boxes begin, right of the names."""
        return 190 if self.is_wide else 124

    @property
    def right(self) -> float:
        """Where boxes end."""
        return self.width - MARGIN

    def tile(self, block_id: int) -> tuple[float, float]:
        """Return left edge and width of a block in the pool."""
        width = (self.right - self.left + TILE_GAP) / NUM_BLOCKS - TILE_GAP
        return self.left + block_id * (width + TILE_GAP), width

    def entry(self, logical: int) -> tuple[float, float]:
        """Return left edge and width of an entry of the block table."""
        third = (self.right - self.left) / len(BLOCK_TABLE)
        return self.left + logical * third + third / 2 - 28, 56


def row_name(text: str, y: float) -> Text:
    """Name a row, at the left edge of the picture."""
    return Text(MARGIN, y, text, SMALL_SIZE, is_bold=True)


def bar_width(number: float, most: float, room: float) -> float:
    """Return how wide a bar is; what cannot be drawn has none, and too much fills the room.

    >>> bar_width(3, 6, 100), bar_width(float("nan"), 6, 100), bar_width(9, 6, 100)
    (50.0, 0.0, 100.0)
    """
    if math.isnan(number) or number <= 0:
        return 0.0
    return float(min(number / most, 1) * room)


def visible(shapes: Sequence[Shape]) -> list[Shape]:
    """Leave out the bars of nothing, which a renderer would draw as a line.

    >>> len(visible([Rect(0, 0, 0, 16, "used"), Rect(0, 0, 1, 16, "used")]))
    1
    """
    return [shape for shape in shapes if not isinstance(shape, Rect) or shape.width > 0]


def paragraphs(words: Sequence[str], top: float, width: float) -> list[Shape]:
    """Write sentences below each other, each in as many lines as it takes.

    Args:
        words: The sentences.
        top: Where they begin.
        width: Width of the picture.
    """
    shapes: list[Shape] = []
    for each in words:
        for line in wrapped(each, width - 2 * MARGIN, SMALL_SIZE):
            shapes.append(Text(MARGIN, top + 15, line, SMALL_SIZE))
            top += 22
        top += 8
    return shapes

"""How much room things take on a canvas, and the legend that names their colours."""

from __future__ import annotations

from collections.abc import Iterable

from course_lib.viz.kit.palette import PALETTE
from course_lib.viz.kit.shapes import SMALL_SIZE, TEXT_SIZE, Cells, Rect, Shape, Text, flatten

_NARROW = frozenset(" .,:;'|!()[]ijlftrI1/-")
_WIDE = frozenset("mwMWGOQ@%&")


def text_width(text: str, size: float = TEXT_SIZE) -> float:
    """Return about how wide a line of text is, on the generous side of common sans-serif fonts.

    A renderer-independent estimate keeps layout in one place: no renderer measures or moves text.

    >>> text_width("weights", size=10) < text_width("weights 15.0 GiB", size=10)
    True
    """
    return size * sum(0.4 if c in _NARROW else 0.88 if c in _WIDE else 0.64 for c in text)


def fitting(width: float, *candidates: str, size: float = SMALL_SIZE) -> str:
    """Return the first candidate that fits into ``width`` with a margin, or nothing.

    >>> fitting(80, "weights 15.0 GiB", "weights"), fitting(20, "weights 15.0 GiB", "weights")
    ('weights', '')
    """
    margin = size * 0.7
    return next((text for text in candidates if text_width(text, size) + margin <= width), "")


def legend(states: Iterable[str], x: float, y: float, width: float) -> tuple[Shape, ...]:
    """Return swatches with names, in rows of at most ``width``.

    Args:
        states: Keys of the palette; usually ``states_in(shapes)``.
        x: Left edge.
        y: Upper edge of the first row.
        width: Where a row ends and the next begins.
    """
    swatch, gap, row = 20, 24, 30
    shapes: list[Shape] = []
    left, top = x, y
    for key in states:
        entry = swatch + 8 + text_width(PALETTE[key].label, SMALL_SIZE)
        if left > x and left + entry > x + width:
            left, top = x, top + row
        shapes.append(Rect(left, top, swatch, swatch, key))
        shapes.append(Text(left + swatch + 8, top + 15.5, PALETTE[key].label, SMALL_SIZE))
        left += entry + gap
    return tuple(shapes)


def bottom_of(shapes: Iterable[Shape]) -> float:
    """Return the lowest pixel that the shapes reach.

    >>> bottom_of([Rect(0, 10, 5, 20), Text(0, 12, "label")])
    30.0
    """
    lowest = 0.0
    for shape in flatten(shapes):
        if isinstance(shape, Rect | Cells):
            lowest = max(lowest, shape.y + shape.height)
        elif isinstance(shape, Text):
            lowest = max(lowest, shape.y + shape.size * 0.25)
        else:
            lowest = max(lowest, *(y for _, y in shape.points))
    return float(lowest)

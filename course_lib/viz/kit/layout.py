"""How much room things take on a canvas: text, legends, and labels that find a place."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import lru_cache
from typing import NamedTuple

from course_lib.viz.kit.palette import PALETTE
from course_lib.viz.kit.shapes import (
    SMALL_SIZE,
    TEXT_SIZE,
    Anchor,
    Cells,
    Group,
    Line,
    Rect,
    Shape,
    Text,
    flatten,
)

WIDE: float = 960
"""Width of a picture where there is room for it."""

NARROW: float = 560
"""Width of a picture beside a file browser, on a small window, or zoomed in."""

SLIM: float = 456
"""Width of a narrow picture that needs no scrolling even beside a file browser on 800 pixels."""

_NARROW = frozenset(" .,:;'|!()[]ijlftrI/-")
_WIDE = frozenset("mwMWGOQ@%&")


@lru_cache(maxsize=4096)
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


def wrapped(text: str, width: float, size: float = TEXT_SIZE) -> tuple[str, ...]:
    """Return the text in lines of at most ``width``; a word that is wider has a line of its own.

    >>> wrapped("Time to first token by policy", 150)
    ('Time to first', 'token by policy')
    """
    lines: list[str] = []
    for word in text.split():
        longer = f"{lines[-1]} {word}" if lines else word
        if lines and text_width(longer, size) <= width:
            lines[-1] = longer
        else:
            lines.append(word)
    return tuple(lines)


def legend(
    states: Iterable[str],
    x: float,
    y: float,
    width: float,
    names: Mapping[str, str] | None = None,
) -> tuple[Shape, ...]:
    """Return swatches with names, in rows of at most ``width``.

    Args:
        states: Keys of the palette; usually ``states_in(shapes)``.
        x: Left edge.
        y: Upper edge of the first row.
        width: Where a row ends and the next begins.
        names: What to call states that mean something else than usual, such as series.

    >>> [shape.text for shape in legend(["free", "series-1"], 0, 0, 400, {"series-1": "FCFS"})
    ...  if isinstance(shape, Text)]
    ['free', 'FCFS']
    """
    swatch, gap, row = 20, 24, 30
    shapes: list[Shape] = []
    left, top = x, y
    for key in states:
        name = (names or {}).get(key, PALETTE[key].label)
        entry = swatch + 8 + text_width(name, SMALL_SIZE)
        if left > x and left + entry > x + width:
            left, top = x, top + row
        shapes.append(Rect(left, top, swatch, swatch, key))
        shapes.append(Text(left + swatch + 8, top + 15.5, name, SMALL_SIZE))
        left += entry + gap
    return tuple(shapes)


def place(shapes: Iterable[Shape], x: float, y: float) -> tuple[Shape, ...]:
    """Return the shapes moved by ``x`` to the right and by ``y`` downwards.

    >>> place([Rect(1, 2, 5, 5)], 10, 20)[0].x
    11
    """
    return tuple(_moved(shape, x, y) for shape in shapes)


def _moved(shape: Shape, x: float, y: float) -> Shape:
    if isinstance(shape, Rect | Text | Cells):
        return replace(shape, x=shape.x + x, y=shape.y + y)
    if isinstance(shape, Group):
        return replace(shape, shapes=place(shape.shapes, x, y))
    return replace(shape, points=tuple((left + x, top + y) for left, top in shape.points))


class Box(NamedTuple):
    """A stretch of the canvas that is taken."""

    left: float
    top: float
    right: float
    bottom: float

    def touches(self, other: Box) -> bool:
        """Say whether two boxes overlap.

        >>> Box(0, 0, 2, 2).touches(Box(1, 1, 3, 3)), Box(0, 0, 2, 2).touches(Box(2, 0, 3, 2))
        (True, False)
        """
        return (
            self.left < other.right
            and other.left < self.right
            and self.top < other.bottom
            and other.top < self.bottom
        )

    def holds(self, other: Box) -> bool:
        """Say whether the other box lies inside this one."""
        return (
            self.left <= other.left
            and other.right <= self.right
            and self.top <= other.top
            and other.bottom <= self.bottom
        )


class Note(NamedTuple):
    """Words about a point: where it is, what to write beside it, and the key of what is written."""

    x: float
    y: float
    text: str
    key: str = ""


_ANGLES = (0, 180, -45, 45, -135, 135, -90, 90, -70, -110, 70, 110)
_DISTANCES = (10, 22, 38, 58, 82)
_SHARE_TO_THE_LEFT: dict[Anchor, float] = {"start": 0, "middle": 0.5, "end": 1}
_LEADER_FROM = 20  # pixels; a label further away is tied to its point by a line


def place_labels(notes: Sequence[Note], room: Box, taken: Iterable[Box] = ()) -> tuple[Shape, ...]:
    """Return labels beside their points, so that no label covers another one or a point.

    Each one takes the first free place near its point: right, left, above or below, then further
    away with a line that leads there. A label that finds no place is left out, so give the shapes
    themselves tooltips.

    Args:
        notes: The points, the most important one first.
        room: Where labels may stand.
        taken: What they must not cover besides the points.

    >>> notes = [Note(150, 50, "decode"), Note(152, 50, "prefill")]
    >>> labels = place_labels(notes, room=Box(0, 0, 300, 99))
    >>> [(label.text, label.anchor) for label in labels if isinstance(label, Text)]
    [('decode', 'start'), ('prefill', 'end')]
    """
    boxes = [*taken, *(Box(note.x - 5, note.y - 5, note.x + 5, note.y + 5) for note in notes)]
    shapes: list[Shape] = []
    for note in notes:
        for label, box, distance in _places(note):
            if room.holds(box) and not any(box.touches(other) for other in boxes):
                boxes.append(box)
                if distance >= _LEADER_FROM:
                    edge = (
                        min(max(note.x, box.left), box.right),
                        min(max(note.y, box.top), box.bottom),
                    )
                    shapes.append(Line(((note.x, note.y), edge), "muted", thickness=1))
                shapes.append(label)
                break
    return tuple(shapes)


def _places(note: Note) -> Iterator[tuple[Text, Box, float]]:
    """Yield where a label can stand, what it takes there, and how far that is from its point."""
    width = text_width(note.text, SMALL_SIZE)
    for distance in _DISTANCES:
        for angle in _ANGLES:
            right, down = math.cos(math.radians(angle)), math.sin(math.radians(angle))
            middle = note.y + (distance + 0.4 * SMALL_SIZE) * down
            baseline = middle + 0.36 * SMALL_SIZE
            for anchor, x in _anchored(note.x, distance * right):
                left = x - width * _SHARE_TO_THE_LEFT[anchor]
                box = Box(
                    left, baseline - 0.85 * SMALL_SIZE, left + width, baseline + 0.3 * SMALL_SIZE
                )
                text = Text(x, baseline, note.text, SMALL_SIZE, anchor, key=note.key)
                yield text, box, distance


def _anchored(x: float, offset: float) -> tuple[tuple[Anchor, float], ...]:
    """Return how a label can stand at an offset: beside its point one way, above it three ways."""
    if offset > 1:
        return (("start", x + offset),)
    if offset < -1:
        return (("end", x + offset),)
    return ("middle", x), ("start", x - 8), ("end", x + 8)


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

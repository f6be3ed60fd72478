"""A picture as plain data: built by pure functions, drawn by the browser and by matplotlib.

A ``Scene`` lists shapes in the pixels of a canvas whose origin is the upper left corner. It holds
no behaviour and no theme. ``scene.js`` turns ``Scene.to_dict()`` into SVG and ``static.py`` draws
the same scene with matplotlib, so a figure and its static twin cannot disagree.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

from course_lib.viz.palette import PALETTE, state_of

Tone = Literal["text", "muted", "alert", "ink"]
"""Colour of text and lines: the page's own, a quieter one, a warning, or black in every theme."""

Anchor = Literal["start", "middle", "end"]
Outline = Literal["thin", "bold", "dashed", "none"]
Point: TypeAlias = tuple[float, float]

HEADING_SIZE = 21
TEXT_SIZE = 17
SMALL_SIZE = 15

_NARROW = frozenset(" .,:;'|!()[]ijlftrI1/-")
_WIDE = frozenset("mwMWGOQ@%&")


@dataclass(frozen=True)
class Rect:
    """A box, by default with a thin outline.

    Attributes:
        x: Left edge.
        y: Upper edge.
        width: Extent to the right.
        height: Extent downwards.
        state: Key of the palette that gives fill and hatch; empty for no fill.
        label: Text in the middle of the box, drawn even where it is too long: see ``fitting``.
        tooltip: What the browser shows when the pointer rests on the box.
        key: Name of the thing that the box stands for. A box with the same key in the next frame is
            the same thing, and the browser moves it there.
        radius: Radius of the corners.
        outline: How the edge is drawn.
        label_size: Size of the label.

    Raises:
        ValueError: A size is negative, or the palette has no such state.
    """

    x: float
    y: float
    width: float
    height: float
    state: str = ""
    label: str = ""
    tooltip: str = ""
    key: str = ""
    radius: float = 0
    outline: Outline = "thin"
    label_size: float = SMALL_SIZE

    def __post_init__(self) -> None:
        if self.width < 0 or self.height < 0:
            raise ValueError(
                f"box {self.key or self.label!r} is {self.width:g} x {self.height:g}; "
                "width and height must not be negative"
            )
        if self.state:
            state_of(self.state)


@dataclass(frozen=True)
class Text:
    """One line of text whose baseline starts, is centred or ends at (x, y)."""

    x: float
    y: float
    text: str
    size: float = TEXT_SIZE
    anchor: Anchor = "start"
    tone: Tone = "text"
    is_bold: bool = False


@dataclass(frozen=True)
class Line:
    """A line through points, with an arrow head at its end if ``has_arrow``.

    Raises:
        ValueError: There are fewer than two points.
    """

    points: tuple[Point, ...]
    tone: Tone = "text"
    thickness: float = 1.5
    has_arrow: bool = False
    is_dashed: bool = False

    def __post_init__(self) -> None:
        if len(self.points) < 2:
            raise ValueError(f"a line needs at least 2 points, got {len(self.points)}")

    @property
    def head(self) -> tuple[Point, ...]:
        """Corners of the arrow head; empty without an arrow.

        >>> Line(((0, 0), (20, 0)), thickness=2, has_arrow=True).head
        ((20.0, 0.0), (10.0, 5.0), (10.0, -5.0))
        """
        if not self.has_arrow:
            return ()
        (tail_x, tail_y), (tip_x, tip_y) = self.points[-2:]
        angle = math.atan2(tip_y - tail_y, tip_x - tail_x)
        length, half = 4 + 3 * self.thickness, 2 + 1.5 * self.thickness
        back_x, back_y = tip_x - length * math.cos(angle), tip_y - length * math.sin(angle)
        across_x, across_y = -half * math.sin(angle), half * math.cos(angle)
        return (
            (float(tip_x), float(tip_y)),
            (back_x + across_x, back_y + across_y),
            (back_x - across_x, back_y - across_y),
        )


@dataclass(frozen=True)
class Group:
    """Shapes that belong together. The browser marks the group with ``data-`` attributes."""

    shapes: tuple[Shape, ...]
    data: tuple[tuple[str, str], ...] = ()
    tooltip: str = ""


Shape: TypeAlias = Rect | Text | Line | Group


def flatten(shapes: Iterable[Shape]) -> Iterator[Rect | Text | Line]:
    """Yield the shapes in drawing order, with the contents of groups in place of the groups."""
    for shape in shapes:
        if isinstance(shape, Group):
            yield from flatten(shape.shapes)
        else:
            yield shape


def states_in(shapes: Iterable[Shape]) -> tuple[str, ...]:
    """Return the keys of the states that occur among the shapes, in the order of the palette.

    >>> states_in([Rect(0, 0, 9, 9, "free"), Rect(9, 0, 9, 9, "in_use"), Rect(18, 0, 9, 9, "free")])
    ('in_use', 'free')
    """
    found = {shape.state for shape in flatten(shapes) if isinstance(shape, Rect)}
    return tuple(key for key in PALETTE if key in found)


@dataclass(frozen=True)
class Scene:
    """A picture.

    Attributes:
        width: Width of the canvas.
        height: Height of the canvas.
        shapes: What is on it; later shapes cover earlier ones.
        title: What the picture is called.
        alt: What it shows, in words, for whoever cannot see it.

    Raises:
        ValueError: The canvas is empty, the title or description is missing, or two boxes have the
            same key.
    """

    width: float
    height: float
    shapes: tuple[Shape, ...]
    title: str
    alt: str

    def __post_init__(self) -> None:
        object.__setattr__(self, "shapes", tuple(self.shapes))
        if self.width <= 0 or self.height <= 0:
            raise ValueError(f"a canvas of {self.width:g} x {self.height:g} shows nothing")
        if not self.title or not self.alt:
            raise ValueError("a scene needs a title and a description (alt) for screen readers")
        seen = set()
        for rect in self.rects():
            if rect.key and rect.key in seen:
                raise ValueError(f"two boxes have the key {rect.key!r}; a key names one thing")
            seen.add(rect.key)

    def rects(self) -> Iterator[Rect]:
        """Yield every box, also those in groups, in drawing order."""
        return (shape for shape in flatten(self.shapes) if isinstance(shape, Rect))

    def texts(self) -> Iterator[str]:
        """Yield everything that can be read in the picture: lines of text and labels of boxes."""
        for shape in flatten(self.shapes):
            if isinstance(shape, Text):
                yield shape.text
            elif isinstance(shape, Rect) and shape.label:
                yield shape.label

    def to_dict(self) -> dict[str, Any]:
        """Return the scene as JSON values, with the look of each state that occurs in it."""
        return {
            "width": self.width,
            "height": self.height,
            "title": self.title,
            "alt": self.alt,
            "states": {
                key: {
                    "colour": PALETTE[key].colour,
                    "ink": PALETTE[key].ink,
                    "hatch": PALETTE[key].hatch,
                    "isPaper": PALETTE[key].is_paper,
                }
                for key in states_in(self.shapes)
            },
            "shapes": [_shape_dict(shape) for shape in self.shapes],
        }


def _shape_dict(shape: Shape) -> dict[str, Any]:
    """Return one shape as JSON values. Coordinates are rounded to hundredths of a pixel."""
    if isinstance(shape, Group):
        return {
            "kind": "group",
            "data": dict(shape.data),
            "tooltip": shape.tooltip,
            "shapes": [_shape_dict(member) for member in shape.shapes],
        }
    if isinstance(shape, Text):
        return {
            "kind": "text",
            "x": round(shape.x, 2),
            "y": round(shape.y, 2),
            "text": shape.text,
            "size": shape.size,
            "anchor": shape.anchor,
            "tone": shape.tone,
            "bold": shape.is_bold,
        }
    if isinstance(shape, Line):
        return {
            "kind": "line",
            "points": _rounded(shape.points),
            "head": _rounded(shape.head),
            "tone": shape.tone,
            "thickness": shape.thickness,
            "dashed": shape.is_dashed,
        }
    return _rect_dict(shape)


def _rect_dict(shape: Rect) -> dict[str, Any]:
    """Return a rectangle as JSON values."""
    return {
        "kind": "rect",
        "x": round(shape.x, 2),
        "y": round(shape.y, 2),
        "width": round(shape.width, 2),
        "height": round(shape.height, 2),
        "state": shape.state,
        "label": shape.label,
        "labelSize": shape.label_size,
        "tooltip": shape.tooltip,
        "key": shape.key,
        "radius": shape.radius,
        "outline": shape.outline,
    }


def _rounded(points: Iterable[Point]) -> list[list[float]]:
    return [[round(x, 2), round(y, 2)] for x, y in points]


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


@dataclass(frozen=True)
class Scale:
    """A linear map from values to pixels.

    >>> gib = Scale(low=0, high=80, start=100, end=900)
    >>> gib(40)
    500.0
    """

    low: float
    high: float
    start: float
    end: float

    def __post_init__(self) -> None:
        if not self.low < self.high:
            raise ValueError(f"a scale from {self.low:g} to {self.high:g} is empty; low < high")

    def __call__(self, value: float) -> float:
        """Return the pixel of a value."""
        share = (value - self.low) / (self.high - self.low)
        return self.start + share * (self.end - self.start)

    def ticks(self, at_most: int = 8) -> tuple[float, ...]:
        """Return round values inside the scale, no more than ``at_most`` (and at least two).

        >>> Scale(0, 30, 0, 600).ticks()
        (0.0, 5.0, 10.0, 15.0, 20.0, 25.0, 30.0)
        """
        rough = (self.high - self.low) / max(at_most - 1, 1)
        magnitude = 10.0 ** math.floor(math.log10(rough))
        step = next(m * magnitude for m in (1, 2, 5, 10) if m * magnitude >= rough * (1 - 1e-9))
        first, last = math.ceil(self.low / step), math.floor(self.high / step + 1e-9)
        return tuple(round(k * step, 10) for k in range(first, last + 1))


def horizontal_axis(scale: Scale, y: float, label: str) -> tuple[Shape, ...]:
    """Return an axis along the bottom of a figure: a line, ticks with numbers, and what they count.

    Args:
        scale: Maps values to horizontal pixels.
        y: Height of the line. The axis reaches about 55 pixels further down.
        label: The quantity and its unit.
    """
    shapes: list[Shape] = [Line(((scale.start, y), (scale.end, y)))]
    for value in scale.ticks():
        x = scale(value)
        shapes.append(Line(((x, y), (x, y + 6))))
        shapes.append(Text(x, y + 23, f"{value:,g}", SMALL_SIZE, "middle"))
    middle = (scale.start + scale.end) / 2
    shapes.append(Text(middle, y + 46, label, TEXT_SIZE, "middle"))
    return tuple(shapes)


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
        if isinstance(shape, Rect):
            lowest = max(lowest, shape.y + shape.height)
        elif isinstance(shape, Text):
            lowest = max(lowest, shape.y + shape.size * 0.25)
        else:
            lowest = max(lowest, *(y for _, y in shape.points))
    return float(lowest)

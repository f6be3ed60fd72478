"""What a picture is made of: boxes, text, lines, areas and grids, as plain data.

Shapes lie on a canvas whose origin is the upper left corner; its unit is a pixel. They hold no
behaviour and no theme. Later shapes cover earlier ones.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Literal, TypeAlias

from course_lib.viz.kit.palette import PALETTE, state_of

Tone = Literal["text", "muted", "faint", "alert", "ink"]
"""Colour of text and lines: the page's own, a quieter one, one for the rules of a chart that is too
faint for text, a warning, or black in every theme."""

Anchor = Literal["start", "middle", "end"]
Outline = Literal["thin", "bold", "dashed", "none"]
Point: TypeAlias = tuple[float, float]

Thing: TypeAlias = tuple[str, str | int]
"""What a shape stands for: a kind and which one, such as ``("block", 7)``, ``("request", "A")``."""

HEADING_SIZE = 21
TEXT_SIZE = 17
SMALL_SIZE = 15


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
        of: The thing that the box stands for, such as ``("block", 7)``. Pointing at the box lights
            every shape of the figure that stands for the same thing.
        lights: Further things that light up with it.
        origin: Key of the box in the frame before that this one was copied from. The browser lets
            the box start there.

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
    of: Thing | None = None
    lights: tuple[Thing, ...] = ()
    origin: str = ""

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
    """One line of text whose baseline starts, is centred or ends at (x, y).

    ``key``, ``tooltip``, ``of`` and ``lights`` mean what they mean for a ``Rect``.
    """

    x: float
    y: float
    text: str
    size: float = TEXT_SIZE
    anchor: Anchor = "start"
    tone: Tone = "text"
    is_bold: bool = False
    key: str = ""
    tooltip: str = ""
    of: Thing | None = None
    lights: tuple[Thing, ...] = ()


@dataclass(frozen=True)
class Line:
    """A line through points, with an arrow head at its end if ``has_arrow``.

    ``key``, ``tooltip``, ``of`` and ``lights`` mean what they mean for a ``Rect``. A line with a
    ``state`` takes its colour and dashes from the palette, as a series of a chart does, and not
    from ``tone`` and ``is_dashed``.

    Raises:
        ValueError: There are fewer than two points, or the palette has no such state.
    """

    points: tuple[Point, ...]
    tone: Tone = "text"
    thickness: float = 1.5
    has_arrow: bool = False
    is_dashed: bool = False
    state: str = ""
    key: str = ""
    tooltip: str = ""
    of: Thing | None = None
    lights: tuple[Thing, ...] = ()

    def __post_init__(self) -> None:
        if len(self.points) < 2:
            raise ValueError(f"a line needs at least 2 points, got {len(self.points)}")
        if self.state:
            state_of(self.state)

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
class Area:
    """A filled polygon without an outline, such as what lies under a curve.

    ``state``, ``key``, ``tooltip``, ``of`` and ``lights`` mean what they mean for a ``Rect``.

    Raises:
        ValueError: There are fewer than three corners, or the palette has no such state.
    """

    points: tuple[Point, ...]
    state: str
    key: str = ""
    tooltip: str = ""
    of: Thing | None = None
    lights: tuple[Thing, ...] = ()

    def __post_init__(self) -> None:
        if len(self.points) < 3:
            raise ValueError(f"an area needs at least 3 corners, got {len(self.points)}")
        state_of(self.state)


@dataclass(frozen=True)
class Cells:
    """A grid of equal cells, each in one state: thousands of blocks that a box each would drown.

    Cell ``n`` stands for the thing ``(kind, first + n)``. The browser draws the grid on a canvas,
    and names the cell under the pointer by its kind, its number and the label of its state.

    Attributes:
        x: Left edge of the grid.
        y: Upper edge of the grid.
        columns: Cells in a row.
        size: Width and height of a cell, the gap to the next one included.
        states: A key of the palette for each cell, row by row.
        kind: What a cell stands for, such as ``"block"``.
        key: Name of the grid; a grid with the same key in the next frame is the same grid.
        first: Number of the first cell.
        gap: Space between two cells.

    Raises:
        ValueError: There is no cell or no column, or the palette has no such state.

    >>> grid = Cells(0, 0, columns=64, size=10, states=("in_use",) * 130, kind="block", key="pool")
    >>> grid.width, grid.height
    (640, 30)
    """

    x: float
    y: float
    columns: int
    size: float
    states: tuple[str, ...]
    kind: str
    key: str
    first: int = 0
    gap: float = 1

    def __post_init__(self) -> None:
        if not self.states or self.columns < 1:
            raise ValueError(
                f"a grid of {len(self.states)} cells in {self.columns} columns shows nothing"
            )
        for state in set(self.states):
            state_of(state)

    @property
    def width(self) -> float:
        """Extent of the grid to the right."""
        return min(self.columns, len(self.states)) * self.size

    @property
    def height(self) -> float:
        """Extent of the grid downwards."""
        return -(-len(self.states) // self.columns) * self.size


@dataclass(frozen=True)
class Group:
    """Shapes that belong together. The browser marks the group with ``data-`` attributes.

    ``key``, ``of`` and ``lights`` mean what they mean for a ``Rect``.
    """

    shapes: tuple[Shape, ...]
    data: tuple[tuple[str, str], ...] = ()
    tooltip: str = ""
    key: str = ""
    of: Thing | None = None
    lights: tuple[Thing, ...] = ()


Leaf: TypeAlias = Rect | Text | Line | Area | Cells
Shape: TypeAlias = Leaf | Group


def flatten(shapes: Iterable[Shape]) -> Iterator[Leaf]:
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
    found: set[str] = set()
    for shape in flatten(shapes):
        if isinstance(shape, Cells):
            found.update(shape.states)
        elif not isinstance(shape, Text):
            found.add(shape.state)
    return tuple(key for key in PALETTE if key in found)

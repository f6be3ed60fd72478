"""What stands at a point of a curve: a form for each series, so that colour is not needed."""

from __future__ import annotations

import math

from course_lib.viz.kit.palette import Marker, state_of
from course_lib.viz.kit.shapes import Area, Point, Rect, Shape, Thing

_ARM = 0.32  # half the thickness of a plus, as a share of its reach


def marker(
    state: str,
    x: float,
    y: float,
    size: float = 9,
    key: str = "",
    tooltip: str = "",
    of: Thing | None = None,
) -> Shape:
    """Return the marker of a state, centred at a point.

    Args:
        state: Key of the palette, which has colour and form.
        x: Where it is.
        y: Where it is.
        size: Its width and height; pointed forms are a little larger, to look as large.
        key: Name of the marker in a film.
        tooltip: What the browser says of it.
        of: What it stands for.

    >>> marker("series-1", 50, 50, size=8).radius, len(marker("series-3", 50, 50).points)
    (4.0, 3)
    """
    form = state_of(state).marker
    if form in ("circle", "square"):
        radius = size / 2 if form == "circle" else 0
        left, top = x - size / 2, y - size / 2
        return Rect(left, top, size, size, state, "", tooltip, key, radius, outline="none", of=of)
    corners = tuple((x + size * right, y + size * down) for right, down in _CORNERS[form])
    return Area(corners, state, key, tooltip, of)


def _regular(count: int, first: float, reach: float) -> tuple[Point, ...]:
    """Return the corners of a regular polygon around the origin, the first at an angle."""
    angles = [math.radians(first + 360 * k / count) for k in range(count)]
    return tuple((reach * math.cos(angle), reach * math.sin(angle)) for angle in angles)


def _plus(turn: float, reach: float) -> tuple[Point, ...]:
    """Return the corners of a plus with four arms, turned by an angle."""
    arm = _ARM * reach
    quarter = [(reach, -arm), (reach, arm), (arm, arm)]
    corners = []
    for k in range(4):
        angle = math.radians(90 * k + turn)
        cosine, sine = math.cos(angle), math.sin(angle)
        corners += [(cosine * x - sine * y, sine * x + cosine * y) for x, y in quarter]
    return tuple(corners)


_CORNERS: dict[Marker, tuple[Point, ...]] = {
    "triangle": _regular(3, -90, 0.68),
    "diamond": _regular(4, -90, 0.68),
    "cross": _plus(45, 0.66),
    "plus": _plus(0, 0.66),
}

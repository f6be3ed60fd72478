"""Scales that turn values into pixels, and the axes that say so."""

from __future__ import annotations

import math
from dataclasses import dataclass

from course_lib.viz.kit.shapes import SMALL_SIZE, TEXT_SIZE, Line, Shape, Text


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

"""Scales that turn values into pixels, and the axes that say so."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import TypeAlias

from course_lib.viz.kit.layout import text_width
from course_lib.viz.kit.shapes import SMALL_SIZE, TEXT_SIZE, Line, Shape, Text

_TICK_GAP = 18
"""Pixels between two numbers of a horizontal axis."""

_STEP = 32
"""Pixels that an axis has at least from one round value to the next."""

_ROUND = (1, 2, 5, 10)
_ALMOST = 1e-9


@dataclass(frozen=True)
class Scale:
    """A linear map from values to pixels.

    Attributes:
        low: Smallest value.
        high: Largest value.
        start: Pixel of the smallest value.
        end: Pixel of the largest value; before ``start`` on an axis that points upwards.

    Raises:
        ValueError: There is nothing between ``low`` and ``high``.

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

    def value(self, pixel: float) -> float:
        """Return the value at a pixel.

        >>> Scale(0, 80, 100, 900).value(500)
        40.0
        """
        share = (pixel - self.start) / (self.end - self.start)
        return self.low + share * (self.high - self.low)

    def ticks(self, at_most: int = 8) -> tuple[float, ...]:
        """Return round values inside the scale, no more than ``at_most`` (and at least two).

        >>> Scale(0, 30, 0, 600).ticks()
        (0.0, 5.0, 10.0, 15.0, 20.0, 25.0, 30.0)
        """
        step = round_step((self.high - self.low) / max(at_most - 1, 1))
        first, last = math.ceil(self.low / step - _ALMOST), math.floor(self.high / step + _ALMOST)
        return tuple(round(k * step, 12) for k in range(first, last + 1))


@dataclass(frozen=True)
class LogScale:
    """A logarithmic map from values to pixels: equal ratios lie equally far apart.

    Attributes:
        low: Smallest value, above 0.
        high: Largest value.
        start: Pixel of the smallest value.
        end: Pixel of the largest value.

    Raises:
        ValueError: ``low`` is not above 0, or there is nothing between ``low`` and ``high``.

    >>> seconds = LogScale(low=0.01, high=100, start=0, end=400)
    >>> seconds(1)
    200.0
    >>> seconds.ticks()
    (0.01, 0.1, 1.0, 10.0, 100.0)
    """

    low: float
    high: float
    start: float
    end: float

    def __post_init__(self) -> None:
        if not 0 < self.low < self.high:
            raise ValueError(
                f"a logarithmic scale from {self.low:g} to {self.high:g} is not possible; "
                "0 < low < high"
            )

    def __call__(self, value: float) -> float:
        """Return the pixel of a value; one below ``low``, also 0, stands at the start."""
        share = math.log(max(value, self.low) / self.low) / math.log(self.high / self.low)
        return self.start + share * (self.end - self.start)

    def value(self, pixel: float) -> float:
        """Return the value at a pixel.

        >>> LogScale(1, 100, 0, 400).value(200)
        10.0
        """
        share = (pixel - self.start) / (self.end - self.start)
        return float(self.low * (self.high / self.low) ** share)

    def ticks(self, at_most: int = 8) -> tuple[float, ...]:
        """Return round values inside the scale, no more than ``at_most`` (and at least two).

        Powers of ten, with 2 and 5 times each where there is room; every second or third power
        where there is little.

        >>> LogScale(1, 100, 0, 1).ticks()
        (1.0, 2.0, 5.0, 10.0, 20.0, 50.0, 100.0)
        """
        first, last = math.floor(math.log10(self.low)), math.ceil(math.log10(self.high))
        for factors in (_ROUND[:3], _ROUND[:1]):
            every = (factor * 10.0**power for power in range(first, last + 1) for factor in factors)
            ticks = [float(f"{t:.6g}") for t in every if self._holds(t)]
            if len(ticks) <= at_most:
                break
        if len(ticks) < 2:
            return Scale(self.low, self.high, self.start, self.end).ticks(at_most)
        return tuple(ticks[:: -(-len(ticks) // at_most)])

    def _holds(self, value: float) -> bool:
        return self.low * (1 - _ALMOST) <= value <= self.high * (1 + _ALMOST)


AnyScale: TypeAlias = Scale | LogScale


def shifted(scale: AnyScale, by: float) -> AnyScale:
    """Return the scale moved by so many pixels.

    >>> shifted(Scale(0, 1, 0, 100), 20)(0.5)
    70.0
    """
    return replace(scale, start=scale.start + by, end=scale.end + by)


class DoublingScale(LogScale):
    """A logarithmic map whose numbers are powers of two."""

    def ticks(self, at_most: int = 8) -> tuple[float, ...]:
        """Return powers of two inside the scale, evenly, no more than ``at_most`` (at least two).

        >>> DoublingScale(1, 256, 0, 400).ticks(), DoublingScale(1, 256, 0, 400).ticks(9)[-1]
        ((1.0, 4.0, 16.0, 64.0, 256.0), 256.0)
        """
        first, last = math.ceil(math.log2(self.low)), math.floor(math.log2(self.high))
        ticks = tuple(2.0**power for power in range(first, last + 1))
        if len(ticks) < 2:
            return super().ticks(at_most)
        return ticks[:: -(-len(ticks) // max(at_most, 2))]


@dataclass(frozen=True)
class Axis:
    """What an axis counts.

    Attributes:
        label: The quantity.
        unit: Its unit; empty for a number or a share.
        low: Where the axis begins; by default at 0, or at a round value below the data if some of
            them are negative. An axis that begins elsewhere makes differences look larger.
        high: Where it ends; by default at a round value above the data, at 0 at least.

    >>> Axis("Time", "s").name, Axis("Requests").name
    ('Time (s)', 'Requests')
    """

    label: str
    unit: str = ""
    low: float | None = None
    high: float | None = None

    @property
    def name(self) -> str:
        """What stands at the axis."""
        return f"{self.label} ({self.unit})" if self.unit else self.label

    def scale(self, values: Iterable[float], start: float, end: float) -> AnyScale:
        """Return a scale that holds the values.

        Args:
            values: What is drawn; values that are not finite are passed over.
            start: Pixel where the scale begins.
            end: Pixel where it ends.

        >>> Axis("Time", "s").scale([3, 47], 0, 300)
        Scale(low=0.0, high=50.0, start=0, end=300)
        """
        finite = [value for value in values if math.isfinite(value)]
        low = min(0.0, *finite, 0.0) if self.low is None else self.low
        high = max(0.0, *finite, 0.0) if self.high is None else self.high
        if high <= low and self.high is None:
            high = low + 1
        steps = min(10, max(2, int(abs(end - start) / _STEP)))
        step = round_step((high - low) / steps) if low < high else 1.0
        if self.low is None:
            low = math.floor(low / step + _ALMOST) * step
        if self.high is None:
            high = math.ceil(high / step - _ALMOST) * step
        return Scale(low, float(f"{high:.12g}"), start, end)


@dataclass(frozen=True)
class LogAxis(Axis):
    """What a logarithmic axis counts; by default it begins and ends at round values."""

    def scale(self, values: Iterable[float], start: float, end: float) -> AnyScale:
        """Return a logarithmic scale that holds the values; those not above 0 are passed over.

        >>> LogAxis("Latency", "s").scale([0.03, 7, 0], 0, 100)
        LogScale(low=0.02, high=10.0, start=0, end=100)
        """
        usable = [value for value in values if math.isfinite(value) and value > 0] or [1.0]
        low = round_below(min(usable)) if self.low is None else self.low
        high = round_step(max(usable)) if self.high is None else self.high
        if self.high is None and high <= low:
            high = 10 * low
        return LogScale(low, high, start, end)


class DoublingAxis(LogAxis):
    """What an axis counts whose values are powers of two; by default it begins and ends at one."""

    def scale(self, values: Iterable[float], start: float, end: float) -> DoublingScale:
        """Return a logarithmic scale with its numbers at powers of two.

        >>> DoublingAxis("Block size", "slots").scale([3, 16], 0, 400).ticks()
        (2.0, 4.0, 8.0, 16.0)
        """
        usable = [value for value in values if math.isfinite(value) and value > 0] or [1.0]
        low = 2.0 ** math.floor(math.log2(min(usable))) if self.low is None else self.low
        high = 2.0 ** math.ceil(math.log2(max(usable))) if self.high is None else self.high
        if self.high is None and high <= low:
            high = 2 * low
        return DoublingScale(low, high, start, end)


def round_step(rough: float) -> float:
    """Return the smallest of 1, 2, 5, 10, 20, ... and their fractions that is at least so large.

    >>> round_step(3), round_step(0.011)
    (5.0, 0.02)
    """
    magnitude = 10.0 ** math.floor(math.log10(rough))
    step = next(m * magnitude for m in _ROUND if m * magnitude >= rough * (1 - _ALMOST))
    return float(f"{step:.6g}")


def round_below(value: float) -> float:
    """Return the largest of 1, 2, 5, 10, 20, ... and their fractions that is at most so large.

    >>> round_below(7), round_below(0.05)
    (5.0, 0.05)
    """
    magnitude = 10.0 ** math.floor(math.log10(value))
    below = next(m * magnitude for m in _ROUND[::-1] if m * magnitude <= value * (1 + _ALMOST))
    return float(f"{below:.6g}")


def tick_text(value: float) -> str:
    """Return a value as it stands at an axis: all its digits, and never a power of ten.

    >>> tick_text(1_500_000.0), tick_text(0.25), tick_text(-3.0)
    ('1,500,000', '0.25', '-3')
    """
    return f"{value:,.10g}" if abs(value) >= 1e-4 or value == 0 else f"{value:.10f}".rstrip("0")


def horizontal_axis(scale: AnyScale, y: float, label: str) -> tuple[Shape, ...]:
    """Return an axis along the bottom of a figure: a line, ticks with numbers, and what they count.

    There are as many ticks as their numbers have room.

    Args:
        scale: Maps values to horizontal pixels.
        y: Height of the line. The axis reaches about 55 pixels further down.
        label: The quantity and its unit.
    """
    shapes: list[Shape] = [Line(((scale.start, y), (scale.end, y)))]
    for value in horizontal_ticks(scale):
        x = scale(value)
        shapes.append(Line(((x, y), (x, y + 6))))
        shapes.append(Text(x, y + 23, tick_text(value), SMALL_SIZE, "middle"))
    middle = (scale.start + scale.end) / 2
    shapes.append(Text(middle, y + 46, label, TEXT_SIZE, "middle"))
    return tuple(shapes)


def horizontal_ticks(scale: AnyScale) -> tuple[float, ...]:
    """Return the values at the ticks of a horizontal axis, where rules across a chart belong too.

    >>> horizontal_ticks(Scale(0, 20, 100, 500))
    (0.0, 2.0, 4.0, 6.0, 8.0, 10.0, 12.0, 14.0, 16.0, 18.0, 20.0)
    """
    return ticks_with_room(scale, _has_room_beside)


def vertical_axis(scale: AnyScale, x: float, label: str, right: float) -> tuple[Shape, ...]:
    """Return an axis along the left of a figure, its numbers outside and faint rules across.

    What it counts stands above it and reads from left to right.

    Args:
        scale: Maps values to vertical pixels, the smallest value to the lowest one.
        x: Where the line is. The numbers need ``width_of_numbers(scale)`` pixels to its left.
        label: The quantity and its unit.
        right: Where the rules end.
    """
    shapes: list[Shape] = []
    for value in ticks_with_room(scale, _has_room_above):
        y = scale(value)
        shapes.append(Line(((x, y), (right, y)), "faint", thickness=1))
        shapes.append(Text(x - 8, y + 5, tick_text(value), SMALL_SIZE, "end"))
    shapes.append(Line(((x, scale.start), (x, scale.end))))
    left = x - width_of_numbers(scale)
    shapes.append(Text(left, scale.end - 14, label, SMALL_SIZE, tone="muted"))
    return tuple(shapes)


def width_of_numbers(scale: AnyScale) -> float:
    """Return the pixels that the numbers of a vertical axis take to the left of its line."""
    numbers = map(tick_text, ticks_with_room(scale, _has_room_above))
    return 8 + max(text_width(number, SMALL_SIZE) for number in numbers)


def ticks_with_room(
    scale: AnyScale, has_room: Callable[[AnyScale, float, float], bool]
) -> tuple[float, ...]:
    """Return as many round values as can stand side by side, at most eleven.

    Args:
        scale: The scale.
        has_room: Says whether two neighbouring values can both be written.
    """
    for at_most in range(11, 2, -1):
        ticks = scale.ticks(at_most)
        if all(has_room(scale, *pair) for pair in pairwise(ticks)):
            return ticks
    return scale.ticks(2)


def _has_room_beside(scale: AnyScale, first: float, second: float) -> bool:
    widths = [text_width(tick_text(value), SMALL_SIZE) for value in (first, second)]
    return scale(second) - scale(first) >= sum(widths) / 2 + _TICK_GAP


def _has_room_above(scale: AnyScale, first: float, second: float) -> bool:
    return scale(first) - scale(second) >= 1.6 * SMALL_SIZE

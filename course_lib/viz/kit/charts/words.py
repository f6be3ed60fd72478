"""What a chart shows, in words: for who cannot see it, computed from the same values."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise

from course_lib.viz.kit.charts.axes import Axis


def number(value: float) -> str:
    """Return a value with three significant digits, or all of those before the point.

    >>> number(12_345.6), number(0.04567), number(3.0), number(0.0)
    ('12,346', '0.0457', '3', '0')
    """
    if value == 0 or not math.isfinite(value):
        return f"{value:g}"
    digits = max(0, 2 - math.floor(math.log10(abs(value))))
    text = f"{value:,.{digits}f}"
    return text.rstrip("0").rstrip(".") if "." in text else text


def quantity(value: float, unit: str) -> str:
    """Return a value with its unit.

    >>> quantity(0.25, "s"), quantity(3, ""), quantity(92.04, "%")
    ('0.25 s', '3', '92%')
    >>> quantity(1, "requests"), quantity(2, "requests"), quantity(1, "requests/s")
    ('1 request', '2 requests', '1 requests/s')
    """
    said = number(value)
    if said == "1" and len(unit) > len("ms") and unit.isalpha():
        unit = unit.removesuffix("s")
    return f"{said}{unit if unit == '%' else f' {unit}' if unit else ''}"


def trend(values: Sequence[float]) -> str:
    """Say in a word or two where values go from the first to the last.

    >>> trend([1, 2, 2, 5]), trend([5, 5]), trend([3, 9, 1]), trend([4, 2, 3, 1])
    ('rises throughout', 'stays the same', 'rises and then falls', 'falls, with turns')
    """
    steps = [after - before for before, after in pairwise(values) if after != before]
    if not steps:
        return "stays the same"
    turns = sum((before > 0) != (after > 0) for before, after in pairwise(steps))
    verbs = ("rises", "falls") if steps[0] > 0 else ("falls", "rises")
    if turns == 0:
        return f"{verbs[0]} throughout"
    if turns == 1:
        return f"{verbs[0]} and then {verbs[1]}"
    change = values[-1] - values[0]
    if abs(change) <= 0.05 * (max(values) - min(values)):
        return "goes up and down"
    return f"{'rises' if change > 0 else 'falls'}, with turns"


def describe(name: str, points: Sequence[tuple[float, float]], x: Axis, y: Axis) -> str:
    """Say where a curve begins and ends, how it goes, and where it is lowest and highest.

    >>> describe("running", [(0, 1), (4, 9), (5, 3)], Axis("Time", "s"), Axis("Requests"))
    'running rises and then falls: 1 at 0 s, 3 at 5 s; highest 9 at 4 s, lowest 1 at 0 s.'
    >>> describe("limit", [(7, 0), (7, 9)], Axis("Time", "s"), Axis("Requests"))
    'limit is an upright line at 7 s.'
    """
    points = [(at, value) for at, value in points if math.isfinite(value)]
    if not points:
        return f"{name} has no values."
    values = [value for _, value in points]
    lowest, highest = (choose(points, key=lambda point: point[1]) for choose in (min, max))

    def at(point: tuple[float, float]) -> str:
        return f"{quantity(point[1], y.unit)} at {quantity(point[0], x.unit)}"

    if len(points) == 1:
        return f"{name} is {at(points[0])}."
    if len({where for where, _ in points}) == 1:
        return f"{name} is an upright line at {quantity(points[0][0], x.unit)}."
    return (
        f"{name} {trend(values)}: {at(points[0])}, {at(points[-1])}; "
        f"highest {at(highest)}, lowest {at(lowest)}."
    )

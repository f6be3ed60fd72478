"""What lesson 2's figures say of differences, and where a learner's function fails."""

from __future__ import annotations

import math

from course_lib.attention.example import shown
from course_lib.viz.kit.layout import WIDE, text_width, wrapped
from course_lib.viz.kit.scene import Scene
from course_lib.viz.kit.shapes import HEADING_SIZE, SMALL_SIZE, Shape, Text

_MARGIN = 24
_MOST_LINES = 8


def gap_text(number: float) -> str:
    """Return a difference of two answers, with so many decimals that rounding is seen.

    >>> gap_text(0.0), gap_text(0.0000021), gap_text(1e-9), gap_text(48.3641)
    ('0', '0.000002', 'less than 0.000001', '48.364')
    """
    if number == 0 or number >= 0.0005 or math.isnan(number):
        return shown(number) if number else "0"
    return f"{number:.6f}" if number >= 5e-7 else "less than 0.000001"


def trouble_scene(
    title: str,
    problem: str,
    width: float = WIDE,
    heading: str = "Your function stopped here",
    then: str = "There is nothing to draw until it returns a state.",
) -> Scene:
    """Draw, in place of a picture, what went wrong in a learner's function.

    Args:
        title: What the picture would have been called.
        problem: What went wrong.
        width: Width of the picture, in pixels.
        heading: What stands above it.
        then: What is needed.

    >>> trouble_scene("A film", "merge_states raised KeyError: 'm'").alt
    "merge_states raised KeyError: 'm'. There is nothing to draw until it returns a state."
    """
    lines = [line for part in problem.splitlines() for line in _cut(part, width - 2 * _MARGIN)]
    if len(lines) > _MOST_LINES:
        lines = [*lines[: _MOST_LINES - 1], "…"]
    shapes: list[Shape] = [Text(_MARGIN, 40, heading, HEADING_SIZE, is_bold=True)]
    shapes += [
        Text(_MARGIN, 74 + 24 * number, line, tone="alert") for number, line in enumerate(lines)
    ]
    below = 74 + 24 * len(lines) + 10
    shapes.append(Text(_MARGIN, below, then, SMALL_SIZE, tone="muted"))
    return Scene(width, below + 24, tuple(shapes), title, alt=f"{problem}. {then}")


def _cut(text: str, width: float) -> list[str]:
    """Return the text in lines; words that are wider than a line, such as paths, end in "…"."""
    lines = []
    for line in wrapped(text, width):
        while text_width(line) > width:
            line = f"{line[:-2]}…"
        lines.append(line)
    return lines

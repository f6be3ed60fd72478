"""The strips: a row for each request that decodes, and a stroke for each of its tokens."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from itertools import chain, islice

from course_lib.viz.chunking.reading import MixedBatch, Reading, ReadingStep
from course_lib.viz.kit.charts.axes import Scale, horizontal_axis
from course_lib.viz.kit.charts.words import quantity
from course_lib.viz.kit.layout import SLIM, bottom_of, fitting, legend, text_width
from course_lib.viz.kit.shapes import SMALL_SIZE, Anchor, Line, Rect, Shape, Text

MOST_ROWS = 32
STEPS_BEFORE = 5
"""Steps that are drawn before the prompt comes."""

_BEYOND = 1.7
"""The axis ends at so many times what the whole prompt takes in one step."""

_LEAST_STEPS = 20
_MOST_STEPS = 1000
_LEAST_APART = 1.5
"""Pixels between two strokes."""

_PROMPT_ROW = 18
_PITCH = 3
"""Pixels from one strip to the next."""
_INSET = 12
"""Pixels beside the strips, for the half of a number below them."""


def time_scale(mixed: MixedBatch, left: float, width: float) -> Scale:
    """Return the axis of the strips, in milliseconds; it is the same for all chunks.

    Args:
        mixed: What is shown.
        left: Left edge of the strips and of the numbers below.
        width: Extent to the right.
    """
    whole = 1000 * mixed.reading(mixed.prompt).ttft
    decode = 1000 * mixed.decode_seconds
    end = max(_BEYOND * whole, _LEAST_STEPS * decode)
    return Scale(-STEPS_BEFORE * decode, end, left + _INSET, left + width - _INSET)


def steps_in(mixed: MixedBatch, reading: Reading, until: float) -> Iterator[ReadingStep]:
    """Yield the steps before, during and after the reading, up to a time in seconds."""
    decode = mixed.decode_seconds
    before = (ReadingStep(-left * decode, decode, 0) for left in range(STEPS_BEFORE, 0, -1))
    for step in chain(before, reading.steps):
        if step.start >= until:
            return
        yield step
    start = reading.ttft
    while start < until:
        yield ReadingStep(start, mixed.after_seconds, 0)
        start += mixed.after_seconds


def draw_strips(
    mixed: MixedBatch,
    chunk: int,
    left: float,
    top: float,
    width: float,
    now: float = math.inf,
) -> tuple[Shape, ...]:
    """Draw who has a token when, while the prompt is read in chunks.

    Args:
        mixed: What is shown.
        chunk: Most tokens of the prompt in a step.
        left: Left edge.
        top: Upper edge.
        width: Extent to the right.
        now: Seconds since the prompt has come, up to which they are drawn; by default all of them,
            with the longest gap.
    """
    reading = mixed.reading(chunk)
    x = time_scale(mixed, left, width)
    rows = min(mixed.num_decodes, MOST_ROWS)
    band = top + 26
    shapes: list[Shape] = [
        Line(((x.start, y), (x.end, y)), "faint", 1)
        for y in (band + _PITCH * (row + 0.5) for row in range(rows))
    ]
    bottom = band + _PITCH * rows
    until = min(now, x.high / 1000)
    steps = list(islice(steps_in(mixed, reading, until), _MOST_STEPS))
    row_end = bottom + 4 + _PROMPT_ROW
    if now < math.inf:
        at = x(1000 * now)
        shapes.append(Line(((at, band - 4), (at, row_end + 28)), "muted", 2, key="now"))
    shapes += _strokes([step for step in steps if step.end <= until], reading, x, band, bottom)
    shapes += _bracket(_waited(steps, reading, now), x, band)
    shapes += _chunks(steps, x, bottom + 4, until)
    if now >= reading.ttft:
        shapes += _first_token(reading, x, bottom + 4, row_end)
    shapes += horizontal_axis(x, row_end + 28, "Time since the prompt has come (ms)")
    names = {
        "decode": f"a token for each of the {mixed.num_decodes}",
        "prefill": "the prompt is read",
    }
    if width <= SLIM:
        names = {"decode": "a token for each", "prefill": "the prompt is read"}
    return (*shapes, *legend(names, left, bottom_of(shapes) + 10, width, names))


def _strokes(
    steps: list[ReadingStep], reading: Reading, x: Scale, top: float, bottom: float
) -> Iterator[Shape]:
    """Draw a stroke through all rows at the end of each step; of strokes too dense, some."""
    last = x.start - _LEAST_APART
    for number, step in enumerate(steps):
        at = x(1000 * step.end)
        if at - last < _LEAST_APART:
            continue
        last = at
        # Once it has been read, the prompt's request has tokens too.
        is_after = not step.num_tokens and step.start >= reading.ttft
        yield Line(
            ((at, top), (at, bottom + 4 + _PROMPT_ROW if is_after else bottom)),
            thickness=1.6,
            state="decode",
            key=f"stroke {number}",
            of=("step", number),
        )


def _chunks(steps: list[ReadingStep], x: Scale, top: float, until: float) -> Iterator[Shape]:
    """Draw a box for what each step reads of the prompt, up to a time in seconds."""
    for number, step in enumerate(steps):
        if not step.num_tokens:
            continue
        start, end = (x(1000 * time) for time in (step.start, min(step.end, until)))
        yield Rect(
            start,
            top,
            end - start,
            _PROMPT_ROW,
            "prefill",
            fitting(end - start, f"{step.num_tokens:,} tokens", f"{step.num_tokens:,}"),
            f"{quantity(step.num_tokens, 'tokens')} of the prompt in a step of "
            f"{quantity(1000 * step.seconds, 'ms')}",
            f"chunk {number}",
            of=("step", number),
        )


def _waited(
    steps: Sequence[ReadingStep], reading: Reading, now: float
) -> tuple[float, float] | None:
    """Return from when to when everybody waits: now, or in the longest gap of all."""
    if now == math.inf:
        longest = max(reading.steps, key=lambda step: step.seconds)
        return longest.start, longest.end
    under_way = steps[-1] if steps else None
    if under_way is None or under_way.end <= now:
        return None
    return under_way.start, now


def _bracket(waited: tuple[float, float] | None, x: Scale, band: float) -> Iterator[Shape]:
    """Draw how long everybody waits above that time, where it lies inside the axis."""
    if waited is None or 1000 * waited[1] > x.high:
        return
    start, end, y = x(1000 * waited[0]), x(1000 * waited[1]), band - 6
    yield Line(((start, y), (end, y)), thickness=2, key="gap")
    for name, at in (("start", start), ("end", end)):
        yield Line(((at, y - 4), (at, y + 4)), thickness=2, key=f"gap {name}")
    words = f"{quantity(1000 * (waited[1] - waited[0]), 'ms')} without a token"
    half = text_width(words, SMALL_SIZE) / 2
    middle = min(max((start + end) / 2, x.start + half), x.end - half)
    yield Text(middle, y - 9, words, SMALL_SIZE, "middle", is_bold=True, key="gap words")


def _first_token(reading: Reading, x: Scale, top: float, bottom: float) -> Iterator[Shape]:
    """Say below the prompt's row when its first token comes; an arrow where that is beyond."""
    words = f"first token: {quantity(1000 * reading.ttft, 'ms')}"
    at, wide = x(1000 * reading.ttft), text_width(words, SMALL_SIZE)
    if at > x.end:
        y = bottom + 12
        yield Text(x.end - 40, y + 5, words, SMALL_SIZE, "end", is_bold=True, key="first words")
        yield Line(((x.end - 32, y), (x.end, y)), thickness=2, has_arrow=True, key="first")
        return
    yield Line(((at, top - 2), (at, bottom + 19)), thickness=3, key="first")
    anchor: Anchor = "start" if at + 8 + wide <= x.end else "end"
    offset = 8 if anchor == "start" else -8
    yield Text(at + offset, bottom + 17, words, SMALL_SIZE, anchor, is_bold=True, key="first words")

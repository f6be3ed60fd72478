"""What a chunk costs, and what many requests see of it."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from functools import lru_cache

from course_lib.viz.chunking.reading import MixedBatch
from course_lib.viz.kit.charts.axes import LogAxis, round_step
from course_lib.viz.kit.charts.bars import histogram, quantile
from course_lib.viz.kit.charts.chart import Chart
from course_lib.viz.kit.charts.curves import Curve, curve_chart, value_at, with_cursor
from course_lib.viz.kit.charts.markers import marker
from course_lib.viz.kit.charts.words import number, quantity
from course_lib.viz.kit.layout import SLIM, Box, Note, place_labels
from course_lib.viz.kit.shapes import Line

POINTED_AT = (512, 256)
"""Chunks whose gaps are written beside the curve, besides that of the whole prompt."""

_PER_DECADE = 24
_ABOVE = 3
"""The axis of times ends so many times above the longest, so that words have room."""

_LOWEST, _HIGHEST = 5.0, 5000.0
"""Milliseconds between which gaps of many requests are counted."""


def chunks_between(least: int, most: int, stops: Sequence[int]) -> tuple[int, ...]:
    """Return chunks at equal ratios, and those where the slider stops.

    >>> chunks_between(32, 40, (33,))
    (32, 33, 35, 38, 40)
    """
    spread = {least, most, *stops}
    ratio, chunk = 10 ** (1 / _PER_DECADE), float(least)
    while chunk < most:
        spread.add(int(chunk))
        chunk *= ratio
    return tuple(sorted(spread))


@lru_cache(maxsize=16)
def cost_chart(
    mixed: MixedBatch, stops: tuple[int, ...], width: float
) -> tuple[Chart, tuple[Curve, ...]]:
    """Draw gap and time to first token by chunk, and what the linear layers wait for.

    Args:
        mixed: What is shown.
        stops: Where the slider stops.
        width: Width of the chart.
    """
    chunks = chunks_between(stops[0], stops[-1], stops)
    readings = [mixed.reading(chunk) for chunk in chunks]
    seen = (
        Curve("longest gap", [(each.chunk, 1000 * each.gap) for each in readings], "series-1"),
        Curve("TTFT", [(each.chunk, 1000 * each.ttft) for each in readings], "series-2"),
    )
    roof = [(chunk, mixed.linear_seconds(chunk)) for chunk in chunks]
    known = [(chunk, 1000 * seconds) for chunk, seconds in roof if seconds is not None]
    highest = max(value for curve in seen for _, value in curve.points)
    chart = curve_chart(
        "",
        LogAxis("Chunk, tokens of the prompt in a step", low=stops[0], high=stops[-1]),
        LogAxis("Time", "ms", high=round_step(_ABOVE * highest)),
        [*seen, *([Curve("roofline", known, "series-3")] if known else [])],
        width,
        150 if width > SLIM else 86,
    )
    return chart, seen


def with_chunk(chart: Chart, mixed: MixedBatch, chunk: int, curves: Sequence[Curve]) -> Chart:
    """Return the chart with the chunk that is chosen, the free seats, and gaps to compare with.

    Args:
        chart: What ``cost_chart`` returns, at its place.
        mixed: What is shown.
        chunk: Where the slider stands.
        curves: Gap and time to first token.
    """
    shapes = list(with_cursor(chart, chunk).shapes[len(chart.shapes) :])
    notes: list[Note] = []
    for curve in curves:
        value = value_at(curve.points, chunk)
        x, y = chart.x(chunk), chart.y(value)
        shapes.append(marker(curve.state, x, y, 11, f"at chunk/{curve.name}", of=curve.of))
        words = quantity(value, "ms")
        if words not in [note.text for note in notes]:
            notes.append(Note(x, y, words, f"at chunk/{curve.name}/value"))
    gap = curves[0]
    for other in _pointed_at(mixed, chunk):
        x, y = chart.x(other), chart.y(value_at(gap.points, other))
        words = f"{other:,}: {quantity(value_at(gap.points, other), 'ms')}"
        shapes.append(marker(gap.state, x, y, 9, f"pointed at {other}", words, gap.of))
        notes.append(Note(x, y, words, f"pointed at {other}/words"))
    free = mixed.free_seats if (mixed.free_seats or 0) > (chart.x_axis.low or 0) else None
    if free is not None and free < mixed.prompt:
        x = chart.x(free)
        ends = ((x, chart.y.end), (x, chart.y.start))
        shapes.append(Line(ends, "muted", 1.5, is_dashed=True, key="free seats"))
        words = f"{free} free seats" if chart.width > SLIM else f"{free} free"
        notes.append(Note(x, chart.y.end + 10, words, "free seats/words"))
    room = Box(chart.x.start, chart.y.end - 8, chart.left + chart.width, chart.y.start)
    upright = [chart.x(chunk), *([chart.x(free)] if free is not None else [])]
    lines = [Box(x - 2, chart.y.end, x + 2, chart.y.start) for x in upright]
    labels = place_labels(notes, room, [*lines, *_along(chart, curves)])
    return chart.drawn_over([*shapes, *labels])


def _pointed_at(mixed: MixedBatch, chunk: int) -> list[int]:
    """Return the chunks whose gaps are written, without the one that is chosen."""
    return [each for each in (mixed.prompt, *POINTED_AT) if each <= mixed.prompt and each != chunk]


def _along(chart: Chart, curves: Sequence[Curve]) -> Iterator[Box]:
    """Yield where curves run, so that no label is written over them."""
    at = chart.x.start
    while at <= chart.x.end:
        for curve in curves:
            value = value_at(curve.points, chart.x.value(at))
            if math.isfinite(value):
                yield Box(at - 2, chart.y(value) - 3, at + 2, chart.y(value) + 3)
        at += 4


def gaps_chart(mixed: MixedBatch, chunk: int, width: float) -> Chart | None:
    """Draw the longest gaps of the requests under a budget; None if there are none.

    Args:
        mixed: What is shown.
        chunk: Most tokens of a prompt in a step, beside one for each of the decodes.
        width: Width of the chart.
    """
    gaps = 1000 * mixed.served(chunk).gaps
    if not len(gaps):
        return None
    marks = {"half": quantile(gaps.tolist(), 0.5), "99%": quantile(gaps.tolist(), 0.99)}
    return histogram(
        f"Longest gap of each request, budget {mixed.num_decodes + chunk:,}",
        LogAxis("Longest gap", "ms", low=_LOWEST, high=_HIGHEST),
        gaps.tolist(),
        "Requests",
        marks,
        60 if width > SLIM else 30,
        width,
        130 if width > SLIM else 100,
    )


def gaps_words(mixed: MixedBatch, chunk: int) -> str:
    """Say what the requests see under a budget.

    Args:
        mixed: What is shown.
        chunk: Most tokens of a prompt in a step, beside one for each of the decodes.
    """
    served, budget = mixed.served(chunk), mixed.num_decodes + chunk
    if served.result is None:
        return f"There are no gaps for a budget of {budget:,}. {served.problem}"
    gaps = (1000 * served.gaps).tolist()
    mean = f"mean time to first token {quantity(1000 * served.mean_ttft, 'ms')}"
    if not gaps:
        return f"Budget {budget:,}: nobody has two tokens, so there is no gap; {mean}."
    half, most = (number(quantile(gaps, share)) for share in (0.5, 0.99))
    who = "the requests"
    if len(gaps) < len(mixed.workload):
        who = f"the {len(gaps):,} requests that have two tokens"
    return (
        f"Budget {budget:,}: half of {who} never wait more than {half} ms for the next "
        f"token, 99% never more than {most} ms; {mean}."
    )

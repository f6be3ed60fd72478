"""What becomes of everybody: sorted waits, and how far two clients are apart."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache, partial

import numpy as np

from course_lib.viz.kit.charts.axes import Axis, LogAxis
from course_lib.viz.kit.charts.chart import Chart
from course_lib.viz.kit.charts.curves import Curve, curve_chart
from course_lib.viz.kit.charts.words import number
from course_lib.viz.kit.shapes import Rect
from course_lib.viz.policies.race import BASE, Race, shares
from course_lib.viz.policies.reasons import label

_ALIKE = 0.1
"""Seconds; curves that are nowhere further apart coincide."""

_LAST = 10
"""So many of those who wait longest can be pointed at."""

_STATES = ("series-1", "series-2", "series-3")


def compared(order: str, beside: str) -> tuple[str, ...]:
    """Return the orders whose curves are drawn, each once.

    >>> compared("vtc", "sjf"), compared("fcfs", "sjf")
    (('fcfs', 'sjf', 'vtc'), ('fcfs', 'sjf'))
    """
    return tuple(dict.fromkeys((BASE, beside, order)))


@lru_cache(maxsize=32)  # taking from the line changes no chart
def waits_chart(
    race: Race, names: tuple[str, ...], order: str, num_blocks: int, width: float
) -> tuple[Chart, str]:
    """Draw the times to first token of each order, sorted, and say what is to be seen.

    Args:
        race: What is shown.
        names: The orders.
        order: The one of them whose longest waits can be pointed at.
        num_blocks: Blocks of the KV cache.
        width: Width of the chart.
    """
    curves = []
    for name, state in zip(names, _STATES, strict=False):
        waits = race.outcome(name, num_blocks).waits
        points = list(zip(shares(len(waits)), waits.tolist(), strict=True))
        curves.append(Curve(label(name), points, state))
    x_axis = Axis("Share of the requests that wait no longer", "%", low=0, high=100)
    axis = LogAxis("Time to first token", "s")
    chart = curve_chart("Everybody's wait, sorted", x_axis, axis, curves, width, 230)
    words = " ".join([*_spreads(race, names, num_blocks), _crossing(race, names, num_blocks)])
    return chart.drawn_over(_longest(race, order, num_blocks, chart)), words.strip()


@lru_cache(maxsize=32)  # taking from the line changes no chart
def gap_chart(
    race: Race, names: tuple[str, ...], num_blocks: int, width: float
) -> tuple[Chart, str]:
    """Draw how far two clients' services are apart over time, and say by how much at most.

    Args:
        race: What is shown.
        names: The orders.
        num_blocks: Blocks of the KV cache.
        width: Width of the chart.
    """
    gaps = {name: race.gap(name, num_blocks) for name in names}
    bound = race.bound(num_blocks)
    curves = [
        Curve(label(name), gaps[name], state) for name, state in zip(names, _STATES, strict=False)
    ]
    peaks = {name: max(value for _, value in gap) for name, gap in gaps.items() if gap}
    highest = max(peaks.values(), default=0.0)
    end = max((gap[-1][0] for gap in gaps.values() if gap), default=0.0)
    is_near = bound <= 4 * highest
    if is_near and end > 0:
        curves.append(Curve("VTC's bound", [(0.0, bound), (end, bound)], "series-6"))
    axis = Axis("Service apart", "weighted tokens")
    title = "How far two clients are apart, while both wait"
    chart = curve_chart(title, Axis("Time", "s"), axis, curves, width, 230)
    half = len(race.two_clients) // 2
    said = ", ".join(f"{label(name)} {peak:,.0f}" for name, peak in peaks.items())
    where = "" if is_near else ", which lies above the chart"
    words = (
        f"Client a sends {half} requests at once, and b {half} behind them. While both have "
        f"requests waiting, their services are apart by at most, in weighted tokens: {said}. "
        f"VTC's bound for {num_blocks:,} blocks is {bound:,.0f}{where}."
    )
    return chart, " ".join([words, *_problems(race, names, num_blocks, is_crowded=True)])


def _spreads(race: Race, names: Sequence[str], num_blocks: int) -> list[str]:
    """Say of each order how long people wait."""
    said = []
    for name in names:
        waits = race.outcome(name, num_blocks).waits
        if len(waits):
            half, most = np.percentile(waits, [50, 99])
            said.append(
                f"{label(name)}: mean {number(float(waits.mean()))} s, half within "
                f"{number(float(half))} s, 99% within {number(float(most))} s."
            )
    return [*said, *_problems(race, names, num_blocks, is_crowded=False)]


def _problems(race: Race, names: Sequence[str], num_blocks: int, *, is_crowded: bool) -> list[str]:
    outcomes = {name: race.outcome(name, num_blocks, is_crowded) for name in names}
    return [
        f"{label(name)} has no curve: {outcome.problem}"
        for name, outcome in outcomes.items()
        if outcome.problem
    ]


def _crossing(race: Race, names: Sequence[str], num_blocks: int) -> str:
    """Say where the curves of the first two orders cross, or that all curves coincide."""
    every = [race.outcome(name, num_blocks).waits for name in names]
    if len(every) < 2 or any(len(waits) != len(every[0]) for waits in every) or not len(every[0]):
        return ""
    apart = max(float(np.abs(waits - every[0]).max()) for waits in every[1:])
    if apart <= _ALIKE:
        return f"The curves are nowhere more than {number(apart)} s apart: order hardly matters."
    below = every[1] < every[0]
    turns = int(np.count_nonzero(below[1:] != below[:-1]))
    if turns != 1 or not below[0]:
        return ""
    share = 100 * int(np.count_nonzero(below)) / len(below)
    return (
        f"{label(names[1])}'s curve is below {label(names[0])}'s up to {share:.0f}%, and above it "
        "from there on."
    )


def _longest(race: Race, order: str, num_blocks: int, chart: Chart) -> list[Rect]:
    """Mark those who waited longest, to be pointed at: how long they are."""
    result = race.outcome(order, num_blocks).result
    if result is None:
        return []
    ttft = result.ttft
    served = np.flatnonzero(~np.isnan(ttft))
    ranks = served[np.argsort(ttft[served], kind="stable")]
    marks = []
    for back, index in enumerate(ranks[::-1][:_LAST].tolist()):
        request, wait = result.requests[index], float(ttft[index])
        x, y = chart.x(100 * (len(ranks) - back) / len(ranks)), chart.y(wait)
        tip = (
            f"request {index} waited {number(wait)} s; it is of {request.prompt_tokens:,} + "
            f"{request.output_tokens:,} tokens"
        )
        make = partial(Rect, x - 3, y - 3, 6, 6, "finished", outline="none")
        marks.append(make(tooltip=tip, key=f"late {back}", of=("request", str(index))))
    return marks

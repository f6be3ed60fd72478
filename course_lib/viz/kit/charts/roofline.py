"""The roofline: what a GPU can compute at most, for work of so many FLOP per byte."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from course_lib.specs import GPUSpec
from course_lib.viz.kit.charts.axes import LogAxis
from course_lib.viz.kit.charts.chart import Chart, Plot, plot_of
from course_lib.viz.kit.charts.markers import marker
from course_lib.viz.kit.charts.words import number
from course_lib.viz.kit.layout import WIDE, Box, Note, bottom_of, place_labels
from course_lib.viz.kit.shapes import SMALL_SIZE, Line, Shape, Text, Thing

_TERA = 1e12


@dataclass(frozen=True)
class Work:
    """A point under the roof.

    Attributes:
        name: What it is called.
        intensity: FLOP per byte that is moved.
        flops: FLOP per second that are reached; None for what the roof allows.
        state: Key of the palette.
        of: What it stands for.
    """

    name: str
    intensity: float
    flops: float | None = None
    state: str = "series-2"
    of: Thing | None = None


def attainable_flops(gpu: GPUSpec, intensity: float) -> float:
    """Return the most FLOP per second for work of that intensity (Williams and others, 2009).

    >>> from course_lib.specs import GPUS
    >>> gpu = GPUS["rtx-4090"]
    >>> attainable_flops(gpu, gpu.ridge_point / 2) == gpu.peak_flops / 2
    True
    """
    return min(gpu.peak_flops, intensity * gpu.memory_bandwidth)


def roofline_chart(
    title: str,
    gpu: GPUSpec,
    work: Sequence[Work],
    width: float = WIDE,
    height: float = 300,
) -> Chart:
    """Draw a GPU's roof on logarithmic axes, its ridge, and work under it with its names.

    Args:
        title: What the chart is called.
        gpu: Whose roof it is.
        work: The points.
        width: Extent of the whole chart to the right.
        height: Extent of the plot downwards.

    >>> from course_lib.specs import GPUS
    >>> chart = roofline_chart("Decode", GPUS["rtx-4090"], [Work("one sequence", 1.0)])
    >>> chart.alt.partition(". ")[2]
    'one sequence: 1 FLOP per byte, 1.01 TFLOP/s, below the ridge: waits for memory.'
    """
    reached = [(each, each.flops or attainable_flops(gpu, each.intensity)) for each in work]
    ridge = gpu.ridge_point
    xs = [0.1 * ridge, 10 * ridge, *(0.6 * each.intensity for each in work)]
    ys = [1.3 * gpu.peak_flops, *(flops for _, flops in reached)]
    ys += [attainable_flops(gpu, min(xs))]
    x_axis = LogAxis("Arithmetic intensity", "FLOP/byte")
    y_axis = LogAxis("Attainable", "TFLOP/s")
    plot = plot_of(title, x_axis, y_axis, xs, [y / _TERA for y in ys], width, height)
    shapes = [*plot.furniture, *_roof(gpu, plot)]
    notes = []
    for each, flops in reached:
        x, y = plot.x(each.intensity), plot.y(flops / _TERA)
        tooltip = f"{each.name}: {_position(each, flops)}"
        key = f"{title}/{each.name}"
        shapes.append(marker(each.state, x, y, 11, key, tooltip, each.of or ("work", each.name)))
        notes.append(Note(x, y, each.name, f"{key}/name"))
    room = Box(plot.x.start + 4, plot.y.end, plot.x.end, plot.y.start - 4)
    shapes += place_labels(notes, room, _taken(gpu, plot))
    described = [
        f"The roof of {gpu.name}: {number(gpu.peak_flops / _TERA)} TFLOP/s from "
        f"{number(ridge)} FLOP per byte on.",
        *(f"{each.name}: {_position(each, f)}, {_verdict(each, gpu)}." for each, f in reached),
    ]
    return Chart(
        width,
        bottom_of(shapes),
        tuple(shapes),
        title,
        " ".join(described),
        plot.x,
        plot.y,
        x_axis,
        y_axis,
    )


def _roof(gpu: GPUSpec, plot: Plot) -> list[Shape]:
    """Return the roof, the ridge below it, and what its two sides are called."""
    low, ridge, high = plot.x.low, gpu.ridge_point, plot.x.high
    corner = (plot.x(ridge), plot.y(gpu.peak_flops / _TERA))
    slope = max(low, plot.y.low * _TERA / gpu.memory_bandwidth)
    start = (plot.x(slope), plot.y(attainable_flops(gpu, slope) / _TERA))
    foot = plot.y.start
    return [
        Line((start, corner, (plot.x(high), corner[1])), thickness=3, key=f"roof of {gpu.name}"),
        Line((corner, (corner[0], foot)), "muted", 1, is_dashed=True),
        Text(corner[0] - 8, foot - 10, "waits for memory", SMALL_SIZE, "end", "muted"),
        Text(corner[0] + 8, foot - 10, "waits for compute", SMALL_SIZE, tone="muted"),
        Text(
            plot.x(high),
            corner[1] - 10,
            f"{number(gpu.peak_flops / _TERA)} TFLOP/s",
            SMALL_SIZE,
            "end",
        ),
    ]


def _taken(gpu: GPUSpec, plot: Plot) -> list[Box]:
    """Return boxes along the roof and the ridge and around their words; no label covers them."""
    boxes = []
    steps = 80
    for k in range(steps + 1):
        intensity = plot.x.value(plot.x.start + k * (plot.x.end - plot.x.start) / steps)
        x, y = plot.x(intensity), plot.y(attainable_flops(gpu, intensity) / _TERA)
        half = (plot.x.end - plot.x.start) / steps / 2
        boxes.append(Box(x - half, y - 5, x + half, y + 5))
    top = plot.y(gpu.peak_flops / _TERA)
    ridge, foot = plot.x(gpu.ridge_point), plot.y.start
    return [
        *boxes,
        Box(plot.x.end - 120, top - 26, plot.x.end, top),
        Box(ridge - 3, top, ridge + 3, foot),
        Box(ridge - 140, foot - 26, ridge + 150, foot),
    ]


def _position(work: Work, flops: float) -> str:
    return f"{number(work.intensity)} FLOP per byte, {number(flops / _TERA)} TFLOP/s"


def _verdict(work: Work, gpu: GPUSpec) -> str:
    if work.intensity < gpu.ridge_point:
        return "below the ridge: waits for memory"
    return "above the ridge: waits for compute"

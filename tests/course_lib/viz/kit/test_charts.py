"""Charts: everything stands at its value, can be read, and is told in words."""

from __future__ import annotations

import math
import random
from collections.abc import Callable
from itertools import combinations, pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from course_lib.specs import GPUS
from course_lib.viz.kit.charts.axes import Axis, LogAxis, LogScale, Scale
from course_lib.viz.kit.charts.bars import bar_chart, histogram, quantile
from course_lib.viz.kit.charts.chart import Chart, column_width, grid, scene_of, side_by_side
from course_lib.viz.kit.charts.curves import (
    Curve,
    Dots,
    curve_chart,
    stacked_chart,
    stepped,
    thinned,
    with_cursor,
)
from course_lib.viz.kit.charts.gantt import Span, gantt, with_idle
from course_lib.viz.kit.charts.heat_map import heat_map
from course_lib.viz.kit.charts.roofline import Work, attainable_flops, roofline_chart
from course_lib.viz.kit.charts.strips import strips
from course_lib.viz.kit.charts.words import trend
from course_lib.viz.kit.layout import NARROW, WIDE, Box, Note, place, place_labels, text_width
from course_lib.viz.kit.palette import HEATS, PALETTE
from course_lib.viz.kit.scene import Scene
from course_lib.viz.kit.shapes import (
    SMALL_SIZE,
    Area,
    Cells,
    Group,
    Line,
    Rect,
    Shape,
    Text,
    flatten,
)

TIME, COUNT = Axis("Time", "s"), Axis("Requests")
GPU = GPUS["rtx-4090"]


def walk(rng: random.Random, length: int = 60) -> list[tuple[float, float]]:
    """Return a curve that goes up and down at random."""
    value, points = 0.0, []
    for step in range(length):
        value = max(0.0, value + rng.uniform(-1, 1.2))
        points.append((step / 10, value))
    return points


def latencies(rng: random.Random, count: int = 400) -> list[float]:
    """Return times with a long tail."""
    return [rng.lognormvariate(0, 1.5) for _ in range(count)]


def six_curves(rng: random.Random, width: float) -> Chart:
    names = ("FCFS", "SJF", "priority", "ageing", "SRPT", "VTC")
    return curve_chart("Queues", TIME, COUNT, [Curve(n, walk(rng)) for n in names], width)


def sorted_latencies(rng: random.Random, width: float) -> Chart:
    curves = [Curve(name, list(enumerate(sorted(latencies(rng)), 1))) for name in ("FCFS", "SJF")]
    return curve_chart("Sorted", Axis("Request"), LogAxis("TTFT", "s"), curves, width)


def cursor(rng: random.Random, width: float) -> Chart:
    curves = [Curve(name, stepped(walk(rng), 6)) for name in ("running", "waiting")]
    chart = curve_chart("Batch", TIME, COUNT, curves, width)
    return with_cursor(chart, rng.uniform(0, 6), curves, "step 12")


def dots(rng: random.Random, width: float) -> Chart:
    measured = Dots("simulated", [(k, rng.uniform(1, 9)) for k in range(1, 9)])
    formula = Curve("M/M/1", [(k, k) for k in range(1, 9)])
    return curve_chart("Waits", Axis("Rate", "1/s"), Axis("Wait", "s"), [formula, measured], width)


def layers(rng: random.Random, width: float) -> Chart:
    curves = [
        Curve(name, [(k, rng.randint(0, 90)) for k in range(40)]) for name in ("r0", "r1", "r2")
    ]
    return stacked_chart("Blocks", Axis("Iteration"), Axis("Blocks"), curves, width)


def gaps(rng: random.Random, width: float) -> Chart:
    values = latencies(rng)
    marks = {"mean": sum(values) / len(values), "p99": quantile(sorted(values), 0.99)}
    return histogram("Gaps", Axis("Gap", "s"), values, "Gaps", marks, width=width)


def log_gaps(rng: random.Random, width: float) -> Chart:
    return histogram("Gaps", LogAxis("Gap", "s"), latencies(rng), "Gaps", width=width)


def bars(rng: random.Random, width: float) -> Chart:
    names = ("FCFS", "shortest job first", "a")
    return bar_chart("TTFT", Axis("Mean", "s"), {n: rng.lognormvariate(0, 3) for n in names}, width)


def long_names(rng: random.Random, width: float) -> Chart:
    names = ("watermark 5%, preempts the request that was admitted last", "no watermark at all")
    return bar_chart("TTFT", Axis("Mean", "s"), {n: rng.uniform(0, 9) for n in names}, width)


def spread(rng: random.Random, width: float) -> Chart:
    samples = {name: latencies(rng) for name in ("FCFS", "SJF", "ageing")}
    return strips("TTFT by policy", LogAxis("TTFT", "s"), samples, width)


def seats(rng: random.Random, width: float) -> Chart:
    rows = {}
    for name in ("seat 1", "seat 2", "seat 3"):
        ends = sorted(rng.sample(range(1, 40), 4))
        states = ("prefill", "decode", "preempted")
        spans = [Span(a, b, s, s) for (a, b), s in zip(pairwise(ends), states, strict=True)]
        rows[name] = with_idle(spans, 0, 40)
    return gantt("Batch", Axis("Iteration"), rows, width)


def heats(rng: random.Random, width: float) -> Chart:
    columns, rows = [str(2**k) for k in range(4, 14)], ["0.5", "1", "2"]
    values = [[rng.lognormvariate(0, 2) for _ in columns] for _ in rows]
    values[1][2] = math.nan
    axes = LogAxis("Mean TTFT", "s"), Axis("Budget", "tokens"), Axis("Rate", "1/s")
    return heat_map("TTFT by budget and rate", columns, rows, values, *axes, width)


def roof(rng: random.Random, width: float) -> Chart:
    work = [
        Work("one decode", 1.0),
        *(Work(f"decode of {n}", n * rng.uniform(0.9, 1)) for n in (8, 64, 128)),
        Work("prefill", 900, 1.2e14, "series-3"),
    ]
    return roofline_chart("Llama-3.1-8B on RTX 4090", GPU, work, width)


CHARTS = (
    six_curves,
    sorted_latencies,
    cursor,
    dots,
    layers,
    gaps,
    log_gaps,
    bars,
    long_names,
    spread,
    seats,
    heats,
    roof,
)
each_chart = pytest.mark.parametrize("build", CHARTS, ids=lambda build: build.__name__)
each_width = pytest.mark.parametrize("width", [WIDE, NARROW])


def boxes(chart: Chart) -> dict[str, Rect]:
    """Return the boxes that have a key."""
    return {s.key: s for s in flatten(chart.shapes) if isinstance(s, Rect) and s.key}


@each_chart
@each_width
def test_a_chart_can_be_read_whatever_it_shows(
    build: Callable[[random.Random, float], Chart],
    width: float,
    collisions: Callable[[Scene], list[str]],
) -> None:
    for seed in range(4):
        scene = build(random.Random(seed), column_width(1, width)).scene()
        assert scene.width == width
        assert collisions(scene) == []
        sizes = [shape.size for shape in flatten(scene.shapes) if isinstance(shape, Text)]
        assert min(sizes) >= SMALL_SIZE


@each_chart
def test_a_chart_has_a_title_names_its_axes_with_units_and_is_told_in_words(
    build: Callable[[random.Random, float], Chart],
) -> None:
    chart = build(random.Random(0), 700)
    texts = set(chart.scene().texts())
    assert chart.title in texts
    assert chart.x_axis.name in texts
    if chart.y_axis.label != "Row":
        assert chart.y_axis.name in texts
    assert sum(map(str.isdigit, chart.alt)) > 3


@each_chart
def test_in_a_film_the_same_thing_has_the_same_key(
    build: Callable[[random.Random, float], Chart],
) -> None:
    frames = [build(random.Random(seed), 700).scene() for seed in (0, 1)]
    keys = [{s.key for s in flatten(frame.shapes) if s.key} for frame in frames]
    assert len(keys[0] & keys[1]) >= min(len(keys[0]), 3) > 0


def test_curves_go_through_their_points() -> None:
    points = [(0.0, 1.0), (2.0, 5.0), (4.0, 3.0)]
    chart = curve_chart("Queue", TIME, COUNT, [Curve("waiting", points)], 600)
    (line,) = [s for s in chart.shapes if isinstance(s, Line) and s.state]
    assert line.points == tuple((chart.x(x), chart.y(y)) for x, y in points)
    assert chart.y(5) < chart.y(1)


def test_a_curve_has_a_gap_where_there_is_no_value() -> None:
    points = [(0.0, 1.0), (1.0, 2.0), (2.0, math.nan), (3.0, 2.0), (4.0, 1.0)]
    chart = curve_chart("Queue", TIME, COUNT, [Curve("waiting", points)], 600)
    lines = [s for s in chart.shapes if isinstance(s, Line) and s.state]
    assert [len(line.points) for line in lines] == [2, 2]
    assert "nan" not in chart.alt


def test_dots_are_not_joined() -> None:
    chart = curve_chart("Waits", TIME, COUNT, [Dots("measured", [(0, 1), (1, 2), (2, 0)])], 600)
    assert not [s for s in chart.shapes if isinstance(s, Line) and s.state]
    centres = {(box.x + box.width / 2, box.y + box.height / 2) for box in boxes(chart).values()}
    assert centres == {(chart.x(x), chart.y(y)) for x, y in ((0, 1), (1, 2), (2, 0))}


def test_layers_end_where_their_sum_is() -> None:
    curves = [Curve("a", [(0, 3), (1, 4)]), Curve("b", [(0, 2), (1, 0)])]
    chart = stacked_chart("Blocks", TIME, COUNT, curves, 600)
    lower, upper = [shape for shape in chart.shapes if isinstance(shape, Area)]
    assert lower.points[:2] == ((chart.x(0), chart.y(3)), (chart.x(1), chart.y(4)))
    assert upper.points[:2] == ((chart.x(0), chart.y(5)), (chart.x(1), chart.y(4)))
    assert upper.points[2:] == lower.points[1::-1]
    assert "all together" in chart.alt


def test_layers_need_the_same_places() -> None:
    with pytest.raises(ValueError, match="same places"):
        stacked_chart("Blocks", TIME, COUNT, [Curve("a", [(0, 1)]), Curve("b", [(1, 1)])])


def test_more_curves_than_series_are_refused_unless_they_have_states() -> None:
    curves = [Curve(str(k), [(0, k), (1, k)]) for k in range(7)]
    with pytest.raises(ValueError, match="7 curves are too many"):
        curve_chart("Many", TIME, COUNT, curves)
    own = [Curve(str(k), [(0, k), (1, k)], f"heat-{k + 1}") for k in range(7)]
    assert curve_chart("Many", TIME, COUNT, own).alt


def test_two_curves_of_one_name_are_refused() -> None:
    with pytest.raises(ValueError, match="stands twice"):
        curve_chart("Twice", TIME, COUNT, [Curve("a", [(0, 1)]), Curve("a", [(0, 2)])])


def test_the_cursor_leaves_the_chart_itself_alone_so_that_a_film_is_small() -> None:
    curves = [Curve("waiting", [(0, 0), (4, 8)]), Curve("running", [(0, 4), (2, 4)])]
    chart = side_by_side([curve_chart("Queue", TIME, COUNT, curves, 600)])[0].moved(30, 40)
    first, second = (with_cursor(chart, at, curves) for at in (1, 3))
    for frame in (first, second):
        assert all(a is b for a, b in zip(chart.shapes, frame.shapes, strict=False))
    line = next(s for s in second.shapes if s.key == "Queue/cursor")
    assert isinstance(line, Line)
    assert {x for x, _ in line.points} == {chart.x(3)}
    assert "waiting 6" in second.alt
    assert "running" not in second.alt.partition("Time 3 s")[2]  # it has ended


@given(st.lists(st.tuples(st.floats(0, 100), st.floats(-50, 50)), min_size=1, max_size=80))
def test_fewer_points_keep_first_last_lowest_and_highest(
    points: list[tuple[float, float]],
) -> None:
    points.sort(key=lambda point: point[0])
    kept = thinned(points, Scale(0, 100, 0, 10))
    assert len(kept) <= 4 * 11
    assert kept[0] == points[0]
    assert kept[-1] == points[-1]
    for pick in (min, max):
        assert pick(y for _, y in kept) == pick(y for _, y in points)
    remaining = iter(points)
    assert all(point in remaining for point in kept)  # in their order


@pytest.mark.parametrize("axis", [Axis("Gap", "s"), LogAxis("Gap", "s")])
def test_a_histogram_counts_every_value_once(axis: Axis) -> None:
    values = [*latencies(random.Random(3)), math.nan]
    chart = histogram("Gaps", axis, values, "Gaps", num_bins=12)
    counts = [int(box.tooltip.rpartition(": ")[2]) for box in boxes(chart).values()]
    assert sum(counts) == 400
    heights = [box.height for box in boxes(chart).values()]
    assert heights == pytest.approx([chart.y(0) - chart.y(count) for count in counts])


def test_a_histogram_of_nothing_is_refused() -> None:
    with pytest.raises(ValueError, match="at least one finite value"):
        histogram("Gaps", TIME, [math.nan])


def test_bars_are_as_long_as_their_values() -> None:
    chart = bar_chart("TTFT", Axis("Mean", "s"), {"a": 2.0, "b": 4.0, "c": math.nan})
    a, b, c = boxes(chart).values()
    assert (a.x, b.width, c.width) == (chart.x(0), 2 * a.width, 0)


def test_a_strip_has_its_quantiles_where_they_are() -> None:
    values = [float(k) for k in range(101)]
    chart = strips("TTFT", TIME, {"a": values})
    box = boxes(chart)["TTFT/a/p25 to p75"]
    assert (box.x, box.x + box.width) == (chart.x(25), chart.x(75))
    median = next(s for s in chart.shapes if s.key == "TTFT/a/p50")
    assert isinstance(median, Line)
    assert median.points[0][0] == chart.x(50)


def test_more_heat_is_a_later_step_and_the_ends_are_used() -> None:
    values = [[float(k) for k in range(10)]]
    chart = heat_map(
        "Heat", list("abcdefghij"), ["r"], values, Axis("v", high=9), Axis("c"), Axis("r")
    )
    states = [box.state for box in boxes(chart).values()]
    order = [heat.key for heat in HEATS]
    ranks = [order.index(state) for state in states]
    assert ranks == sorted(ranks)
    assert (ranks[0], ranks[-1]) == (0, len(HEATS) - 1)


def test_a_missing_value_has_no_heat() -> None:
    chart = heat_map("Heat", ["a", "b"], ["r"], [[1, math.nan]], Axis("v"), Axis("c"), Axis("r"))
    assert boxes(chart)["Heat/r/b"].state == ""
    assert boxes(chart)["Heat/r/b"].tooltip.endswith("no value")


@pytest.mark.parametrize("values", [[[1]], [[1, 2], [3]], [[1, 2]] * 3])
def test_a_heat_map_needs_a_value_for_each_place(values: list[list[float]]) -> None:
    with pytest.raises(ValueError, match=r"one value for each|rows of values"):
        heat_map("Heat", ["a", "b"], ["r", "s"], values, Axis("v"), Axis("c"), Axis("r"))


def test_spans_lie_where_they_happen_and_are_not_blank_between() -> None:
    spans = with_idle([Span(1, 3, "prefill"), Span(5, 8, "decode")], 0, 10)
    assert [span.start for span in spans[1:]] == [span.end for span in spans[:-1]]
    chart = gantt("Batch", Axis("Step"), {"A": spans})
    drawn = boxes(chart)["Batch/A/1"]
    assert (drawn.x, drawn.x + drawn.width) == (chart.x(1), pytest.approx(chart.x(3)))
    with pytest.raises(ValueError, match="before it begins"):
        gantt("Batch", Axis("Step"), {"A": [Span(3, 1, "decode")]})


@pytest.mark.parametrize("width", [300, WIDE, 2 * WIDE])
def test_the_rules_of_a_gantt_chart_stand_at_the_ticks_of_its_axis(width: float) -> None:
    chart = gantt("Batch", Axis("Time", "s", low=0, high=20), {"A": [Span(0, 4, "decode")]}, width)
    lines = [shape for shape in chart.shapes if isinstance(shape, Line)]
    upright = [line for line in lines if line.points[0][0] == line.points[1][0]]
    rules = {line.points[0][0] for line in upright if line.tone == "faint"}
    assert rules == {line.points[0][0] for line in upright if line.tone != "faint"}


def test_many_rows_are_summed_up() -> None:
    rows = {str(k): [Span(0, 2, "decode"), Span(2, 3, "idle")] for k in range(40)}
    assert gantt("Batch", TIME, rows).alt == "40 rows. All together: decode 80 s, idle 40 s."


def test_a_cursor_moves_over_a_gantt_chart_too() -> None:
    chart = gantt("Batch", Axis("Step"), {"A": [Span(0, 4, "decode")]})
    frame = with_cursor(chart, 3, label="step 3")
    line = next(s for s in frame.shapes if s.key == "Batch/cursor")
    assert isinstance(line, Line)
    assert {x for x, _ in line.points} == {chart.x(3)}
    assert "step 3" in frame.scene().texts()


def test_work_lies_under_the_roof_and_below_the_ridge_waits_for_memory() -> None:
    half = GPU.ridge_point / 2
    chart = roofline_chart("Roof", GPU, [Work("decode", half), Work("prefill", 4 * half, 1e14)])
    marks = boxes(chart)
    decode = marks["Roof/decode"]
    reached = attainable_flops(GPU, half) / 1e12
    assert decode.x + decode.width / 2 == pytest.approx(chart.x(half))
    assert decode.y + decode.height / 2 == pytest.approx(chart.y(reached))
    assert "decode" in chart.alt.partition("waits for memory")[0]
    assert "prefill" in chart.alt.partition("waits for compute")[0]


def test_small_multiples_do_not_overlap_and_fill_the_picture() -> None:
    width = column_width(3)
    charts = [bar_chart(str(k), TIME, {"a": k + 1.0}, width) for k in range(5)]
    placed = grid(charts, 3)
    frames = [Box(c.left, c.top, c.left + c.width, c.top + c.height) for c in placed]
    assert not any(a.touches(b) for a, b in combinations(frames, 2))
    scene = scene_of(placed, "All", "measured on a laptop")
    assert scene.width == pytest.approx(WIDE)
    assert {"All", "measured on a laptop"} <= set(scene.texts())
    with pytest.raises(ValueError, match="at least 1"):
        grid(charts, 0)
    with pytest.raises(ValueError, match="at least one chart"):
        scene_of([], "Nothing")


def test_a_chart_that_is_moved_takes_its_scales_along() -> None:
    chart = bar_chart("a", TIME, {"a": 2.0})
    moved = chart.moved(30, 50)
    assert boxes(moved)["a/a"].width == moved.x(2) - moved.x(0)
    assert (moved.x(2), moved.y(0)) == (chart.x(2) + 30, chart.y(0) + 50)


def test_every_kind_of_shape_can_be_placed() -> None:
    shapes: tuple[Shape, ...] = (
        Rect(1, 2, 3, 4),
        Text(1, 2, "t"),
        Line(((1, 2), (3, 4))),
        Area(((1, 2), (3, 4), (5, 6)), "used"),
        Cells(1, 2, 3, 4, ("free",), "block", "pool"),
    )
    placed = place([*shapes, Group(shapes)], 10, 100)
    moved_alone, group = placed[:-1], placed[-1]
    assert isinstance(group, Group)
    assert group.shapes == moved_alone
    for shape in moved_alone:
        points = shape.points if isinstance(shape, Line | Area) else ((shape.x, shape.y),)
        assert points[0] == (11, 102)


points_in_room = st.tuples(st.integers(0, 400), st.integers(0, 200))


@given(st.lists(st.tuples(points_in_room, st.text("abcm ", min_size=1, max_size=14)), max_size=12))
def test_placed_labels_cover_neither_each_other_nor_a_point(
    notes: list[tuple[tuple[int, int], str]],
) -> None:
    room = Box(0, 0, 400, 200)
    shapes = place_labels([Note(x, y, text) for (x, y), text in notes], room)
    labels = [shape for shape in shapes if isinstance(shape, Text)]
    taken = []
    for label in labels:
        width = text_width(label.text, label.size)
        left = label.x - {"start": 0, "middle": width / 2, "end": width}[label.anchor]
        taken.append(Box(left, label.y - 0.8 * label.size, left + width, label.y))
    assert not any(a.touches(b) for a, b in combinations(taken, 2))
    assert all(room.holds(box) for box in taken)
    assert not any(
        box.touches(Box(x - 1, y - 1, x + 1, y + 1)) for box in taken for (x, y), _ in notes
    )


def test_a_label_alone_always_finds_a_place() -> None:
    shapes = place_labels([Note(50, 50, "decode")], Box(0, 0, 200, 100))
    assert [shape.text for shape in shapes if isinstance(shape, Text)] == ["decode"]


@given(st.floats(1e-6, 1e9), st.floats(1.01, 1e8), st.integers(2, 11))
def test_logarithmic_ticks_are_inside_and_neither_too_few_nor_too_many(
    low: float, ratio: float, at_most: int
) -> None:
    scale = LogScale(low, low * ratio, 0, 400)
    ticks = scale.ticks(at_most)
    assert len(ticks) <= at_most
    assert all(low * 0.999 <= tick <= low * ratio * 1.001 for tick in ticks)
    assert list(ticks) == sorted(set(ticks))
    if ratio >= 100:
        assert len(ticks) >= 2


values = st.lists(st.floats(-1e6, 1e6).filter(lambda v: v == 0 or abs(v) > 1e-6), min_size=1)


@given(values, st.sampled_from([120, 300, 900]))
def test_an_axis_holds_its_values_and_ends_at_round_ones(data: list[float], length: int) -> None:
    scale = Axis("Values").scale(data, 0, length)
    close = 1e-6 * (scale.high - scale.low)
    assert scale.low - close <= min(data)
    assert max(data) <= scale.high + close
    assert scale.low <= 0 <= scale.high
    for value in data:
        assert scale.value(scale(value)) == pytest.approx(value, abs=close)


@given(st.lists(st.floats(1e-6, 1e6), min_size=1))
def test_a_logarithmic_axis_holds_its_values(data: list[float]) -> None:
    scale = LogAxis("Values").scale([*data, 0.0, math.nan], 0, 300)
    assert 0 < scale.low <= min(data) * (1 + 1e-6)
    assert max(data) <= scale.high * (1 + 1e-6)
    assert scale(0.0) == 0


def test_a_logarithmic_scale_begins_above_zero() -> None:
    with pytest.raises(ValueError, match="0 < low < high"):
        LogScale(0, 10, 0, 1)


@given(st.lists(st.integers(-5, 5), min_size=2))
def test_a_trend_says_where_values_go(data: list[int]) -> None:
    said = trend(data)
    steps = [after - before for before, after in pairwise(data)]
    assert ("throughout" in said) == (any(steps) and (min(steps) >= 0 or max(steps) <= 0))
    if said.startswith("rises, with turns"):
        assert data[-1] > data[0]


def test_series_of_a_chart_light_up_together_in_small_multiples() -> None:
    charts = [curve_chart(t, TIME, COUNT, [Curve("FCFS", [(0, 1), (1, 2)])]) for t in "ab"]
    for chart in charts:
        line = next(s for s in chart.shapes if isinstance(s, Line) and s.state)
        assert line.of == ("series", "FCFS")
        assert line.state in PALETTE

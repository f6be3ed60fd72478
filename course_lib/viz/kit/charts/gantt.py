"""Who did what when: a row for each request or seat, with a box for each stretch of time."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from course_lib.viz.kit.charts.axes import AnyScale, Axis, horizontal_ticks
from course_lib.viz.kit.charts.chart import Chart, heading, horizontal_foot
from course_lib.viz.kit.charts.words import number, quantity
from course_lib.viz.kit.layout import WIDE, bottom_of, fitting, legend, text_width
from course_lib.viz.kit.palette import state_of
from course_lib.viz.kit.shapes import SMALL_SIZE, Line, Rect, Shape, Text, Thing, states_in
from course_lib.viz.kit.words import counted

_MOST_DESCRIBED = 40  # spans; a list of more than that tells nothing


@dataclass(frozen=True)
class Span:
    """A stretch of a row.

    Attributes:
        start: Where it begins.
        end: Where it ends.
        state: Key of the palette.
        label: What stands in it where there is room.
        key: Its name in a film; by default its row and its number there.
        of: What it stands for, such as ``("request", "A")``.
    """

    start: float
    end: float
    state: str
    label: str = ""
    key: str = ""
    of: Thing | None = None


def with_idle(spans: Iterable[Span], start: float, end: float) -> tuple[Span, ...]:
    """Return the spans with idle ones in the gaps between them, so that nothing is left blank.

    Args:
        spans: What happens in a row, in order.
        start: Where the row begins.
        end: Where it ends.

    >>> [(span.state, span.start, span.end) for span in with_idle([Span(1, 3, "decode")], 0, 5)]
    [('idle', 0, 1), ('decode', 1, 3), ('idle', 3, 5)]
    """
    filled: list[Span] = []
    reached = start
    for span in spans:
        if span.start > reached:
            filled.append(Span(reached, span.start, "idle"))
        filled.append(span)
        reached = max(reached, span.end)
    if reached < end:
        filled.append(Span(reached, end, "idle"))
    return tuple(filled)


def gantt(
    title: str,
    axis: Axis,
    rows: Mapping[str, Sequence[Span]],
    width: float = WIDE,
    row_height: float = 34,
    names: Mapping[str, str] | None = None,
) -> Chart:
    """Draw the spans of each row along a common axis.

    Args:
        title: What the chart is called.
        axis: What the horizontal axis counts, such as time or iterations.
        rows: The spans of each row, by its name, from top to bottom.
        width: Extent of the whole chart to the right.
        row_height: Extent of a row downwards.
        names: What to call states that mean something else than usual.

    Raises:
        ValueError: There are no rows, or a span ends before it begins.

    >>> rows = {"A": [Span(0, 2, "prefill"), Span(2, 6, "decode")], "B": [Span(3, 5, "prefill")]}
    >>> gantt("Batch", Axis("Step"), rows).alt
    '2 rows. A: prefill 0 to 2, decode 2 to 6. B: prefill 3 to 5.'
    """
    _require_rows(rows)
    texts, top = heading(title, width)
    top += 6
    left = max(text_width(name, SMALL_SIZE) for name in rows) + 14
    ends = [end for spans in rows.values() for span in spans for end in (span.start, span.end)]
    x = axis.scale(ends, left, width - 24)
    bottom = top + len(rows) * row_height
    shapes: list[Shape] = [*texts]
    for tick in horizontal_ticks(x):
        shapes.append(Line(((x(tick), top), (x(tick), bottom)), "faint", 1))
    for place, (name, spans) in enumerate(rows.items()):
        y = top + place * row_height
        shapes.append(Text(left - 10, y + row_height / 2 + 5, name, SMALL_SIZE, "end"))
        for number_in_row, span in enumerate(spans):
            tooltip = f"{name}: {_of_span(span, axis, names)}"
            key = span.key or f"{title}/{name}/{number_in_row}"
            shapes.append(_box(span, x, y + 3, row_height - 6, tooltip, key))
    shapes += horizontal_foot(x, bottom, axis.name, width)
    used = states_in(shapes)
    shapes += legend(used, 0, bottom + 64, width, names)
    lines = Axis("Row", low=0, high=len(rows))
    return Chart(
        width,
        bottom_of(shapes),
        tuple(shapes),
        title,
        _described(rows, axis, names),
        x,
        lines.scale([], top, bottom),
        axis,
        lines,
    )


def _require_rows(rows: Mapping[str, Sequence[Span]]) -> None:
    """Raise ValueError unless there are rows, and spans that begin before they end."""
    if not rows:
        raise ValueError("a Gantt chart needs at least one row")
    for name, spans in rows.items():
        for span in spans:
            if span.end < span.start:
                raise ValueError(
                    f"a span of {name!r} ends at {span.end:g} before it begins at {span.start:g}"
                )


def _box(span: Span, x: AnyScale, y: float, height: float, tooltip: str, key: str) -> Rect:
    """Return a span as a box, with its label where there is room."""
    left, right = x(span.start), x(span.end)
    label = fitting(right - left, span.label)
    return Rect(left, y, right - left, height, span.state, label, tooltip, key, of=span.of)


def _called(state: str, names: Mapping[str, str] | None) -> str:
    return (names or {}).get(state, state_of(state).label)


def _of_span(span: Span, axis: Axis, names: Mapping[str, str] | None) -> str:
    """Say what a span is, and from when to when."""
    label = f" ({span.label})" if span.label else ""
    until = quantity(span.end, axis.unit)
    return f"{_called(span.state, names)}{label} {number(span.start)} to {until}"


def _described(
    rows: Mapping[str, Sequence[Span]], axis: Axis, names: Mapping[str, str] | None
) -> str:
    """Say what happens in each row; of many spans, how long all rows are in each state."""
    count = counted(len(rows), "row") + "."
    if sum(map(len, rows.values())) <= _MOST_DESCRIBED:
        said = [
            f"{name}: {', '.join(_of_span(s, axis, names) for s in spans) or 'nothing'}."
            for name, spans in rows.items()
        ]
        return " ".join([count, *said])
    total: defaultdict[str, float] = defaultdict(float)
    for spans in rows.values():
        for span in spans:
            total[_called(span.state, names)] += span.end - span.start
    parts = ", ".join(f"{name} {quantity(value, axis.unit)}" for name, value in total.items())
    return f"{count} All together: {parts}."

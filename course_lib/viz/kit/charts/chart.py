"""A chart: shapes between two axes, with a title, words for who cannot see it, and its scales."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from course_lib.viz.kit.charts.axes import (
    AnyScale,
    Axis,
    horizontal_axis,
    shifted,
    vertical_axis,
    width_of_numbers,
)
from course_lib.viz.kit.layout import WIDE, place, text_width, wrapped
from course_lib.viz.kit.scene import Scene
from course_lib.viz.kit.shapes import HEADING_SIZE, SMALL_SIZE, TEXT_SIZE, Shape, Text

_LINE = 24  # pixels from one line of a title to the next
_GAP = 28  # pixels between charts, and around them
_RIGHT = 24  # pixels to the right of a plot, for the half of the last number


@dataclass(frozen=True)
class Chart:
    """What a chart function returns, to be shown alone or placed beside others.

    Attributes:
        width: Extent to the right.
        height: Extent downwards.
        shapes: Everything that is drawn.
        title: What the chart is called.
        alt: What it shows, in words and numbers.
        x: Maps values of the horizontal axis to pixels.
        y: Maps values of the vertical axis to pixels; of a chart of rows, the numbers of the rows.
        x_axis: What the horizontal axis counts.
        y_axis: What the vertical axis counts.
        left: Where the chart begins, once it is placed.
        top: Where it begins, once it is placed.
    """

    width: float
    height: float
    shapes: tuple[Shape, ...]
    title: str
    alt: str
    x: AnyScale
    y: AnyScale
    x_axis: Axis
    y_axis: Axis
    left: float = 0
    top: float = 0

    def moved(self, x: float, y: float) -> Chart:
        """Return the chart at another place, its scales included."""
        return replace(
            self,
            shapes=place(self.shapes, x, y),
            x=shifted(self.x, x),
            y=shifted(self.y, y),
            left=self.left + x,
            top=self.top + y,
        )

    def drawn_over(self, shapes: Iterable[Shape], words: str = "") -> Chart:
        """Return the chart with more shapes in front of the others.

        Args:
            shapes: What to add, where it belongs on this chart.
            words: What to add to the description.
        """
        return replace(self, shapes=(*self.shapes, *shapes), alt=f"{self.alt} {words}".rstrip())

    def scene(self) -> Scene:
        """Return the chart as a picture of its own."""
        return scene_of([self], self.title)


def scene_of(charts: Sequence[Chart], title: str, note: str = "") -> Scene:
    """Return charts that have their places as one picture, its title above several of them.

    Args:
        charts: The charts, as ``grid`` or ``side_by_side`` return them.
        title: What the picture is called.
        note: What stands under the title of several charts, such as how they were measured.

    Raises:
        ValueError: There are no charts.
    """
    if not charts:
        raise ValueError("a picture of charts needs at least one chart")
    margin: float = 12
    top: float = 8
    width = max(chart.left + chart.width for chart in charts)
    lines: list[Shape] = []
    if len(charts) > 1:
        for line in wrapped(title, width, HEADING_SIZE):
            top += 26
            lines.append(Text(margin, top - 6, line, HEADING_SIZE, is_bold=True))
        for line in wrapped(note, width, SMALL_SIZE):
            top += 21
            lines.append(Text(margin, top - 3, line, SMALL_SIZE, tone="muted"))
        top += 14
    placed = [chart.moved(margin, top) for chart in charts]
    words = [f"{chart.title}. {chart.alt}" if lines else chart.alt for chart in charts]
    return Scene(
        width + 2 * margin,
        max(chart.top + chart.height for chart in placed) + 12,
        (*lines, *(shape for chart in placed for shape in chart.shapes)),
        title=title,
        alt=" ".join(words),
    )


def grid(charts: Sequence[Chart], columns: int) -> tuple[Chart, ...]:
    """Return the charts at their places in rows of ``columns``: small multiples.

    Args:
        charts: The charts; build them ``column_width`` wide.
        columns: Charts in a row: 1 on a narrow page.

    Raises:
        ValueError: There is no column.
    """
    if columns < 1:
        raise ValueError(f"{columns} columns hold no chart; columns must be at least 1")
    placed: list[Chart] = []
    top: float = 0
    for start in range(0, len(charts), columns):
        left: float = 0
        row = charts[start : start + columns]
        for chart in row:
            placed.append(chart.moved(left, top))
            left += chart.width + _GAP
        top += max(chart.height for chart in row) + _GAP
    return tuple(placed)


def side_by_side(charts: Sequence[Chart]) -> tuple[Chart, ...]:
    """Return the charts at their places in one row."""
    return grid(charts, max(1, len(charts)))


def column_width(columns: int, width: float = WIDE) -> float:
    """Return how wide charts must be so that ``columns`` of them fill a picture.

    >>> column_width(1), column_width(3)
    (936.0, 293.3333333333333)
    """
    return (width - 24 - _GAP * (columns - 1)) / columns


@dataclass(frozen=True)
class Plot:
    """The room between the axes of a chart, and the axes themselves.

    Attributes:
        x: Maps values to horizontal pixels.
        y: Maps values to vertical pixels.
        furniture: Title and axes.
        bottom: Where the horizontal axis ends and the legend may begin.
    """

    x: AnyScale
    y: AnyScale
    furniture: tuple[Shape, ...]
    bottom: float


def heading(title: str, width: float) -> tuple[tuple[Shape, ...], float]:
    """Return the lines of a chart's title, and the height that they take."""
    lines = wrapped(title, width)
    texts = tuple(
        Text(0, 18 + _LINE * number, line, TEXT_SIZE, is_bold=True)
        for number, line in enumerate(lines)
    )
    return texts, 18 + _LINE * (len(lines) - 1) + 8


def plot_of(
    title: str,
    x_axis: Axis,
    y_axis: Axis,
    xs: Iterable[float],
    ys: Iterable[float],
    width: float,
    height: float,
) -> Plot:
    """Return the room between axes that hold the values.

    Args:
        title: What the chart is called.
        x_axis: What the horizontal axis counts.
        y_axis: What the vertical axis counts.
        xs: Values of the horizontal axis.
        ys: Values of the vertical axis.
        width: Extent of the whole chart to the right.
        height: Extent of the plot alone, without titles and numbers.
    """
    texts, top = heading(title, width)
    top += 36
    y = y_axis.scale(ys, top + height, top)
    left = width_of_numbers(y)
    x = x_axis.scale(xs, left, width - _RIGHT)
    furniture = (
        *texts,
        *vertical_axis(y, left, y_axis.name, x.end),
        *horizontal_foot(x, y.start, x_axis.name, width),
    )
    return Plot(x, y, furniture, y.start + 54)


def horizontal_foot(x: AnyScale, top: float, name: str, width: float) -> tuple[Shape, ...]:
    """Return a horizontal axis whose name does not leave the chart."""
    *axis, label = horizontal_axis(x, top, name)
    half = text_width(name, TEXT_SIZE) / 2
    if isinstance(label, Text):
        label = replace(label, x=max(half, min(label.x, width - half)))
    return (*axis, label)

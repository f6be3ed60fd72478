"""A schedule as rows of seats: who sits where in which iteration, and who waits at the side."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from functools import cached_property
from itertools import groupby

from course_lib.viz.batching.schedules import Clock, Iteration, Schedule
from course_lib.viz.batching.words import (
    complaints,
    idle_text,
    lacked_texts,
    unit_of,
    value_text,
    waiting_text,
)
from course_lib.viz.kit.charts.axes import AnyScale
from course_lib.viz.kit.charts.chart import horizontal_foot
from course_lib.viz.kit.layout import WIDE, fitting, text_width, wrapped
from course_lib.viz.kit.shapes import SMALL_SIZE, TEXT_SIZE, Line, Rect, Shape, Text
from course_lib.viz.kit.words import counted

MARGIN = 24
_NAMES_WIDTH = 58  # of the seats, to the left of their rows
_SIDE = 236  # where those who wait stand, on a wide page
_COUNT_WIDTH = 106  # of how many wait, beside them on a narrow page
_ROW, _CHIP, _LINE = 26, 26, 21
_HEADER = 39  # without the lines that say what was lacked
_FOOT = 54
_NARROWEST_COLUMN = 5  # pixels; the borders of narrower iterations would drown the bars
_MOST_REASON_LINES, _MOST_WRONG_LINES = 4, 3
_NARROWEST_FRAMED = 4


@dataclass(frozen=True)
class Bar:
    """Neighbouring iterations in which a seat is used alike.

    Attributes:
        seat: Number of the seat, from 0.
        request: Who sits there; empty for nobody.
        state: Key of the palette.
        first: Number of the first iteration, from 0.
        last: Number of the last one.
    """

    seat: int
    request: str
    state: str
    first: int
    last: int


def bars_of(schedule: Schedule) -> list[Bar]:
    """Return the bars of all seats, row by row.

    >>> from course_lib.scheduling import Request, Scheduler, SchedulerConfig
    >>> from course_lib.simulation.cost_model import ConstantCostModel
    >>> from course_lib.viz.batching.schedules import serve
    >>> config, cost_model = SchedulerConfig(max_num_seqs=2), ConstantCostModel(1.0)
    >>> served = serve([Request("a", [1], max_tokens=3)], config, 9, cost_model, Scheduler)
    >>> [(bar.seat, bar.request, bar.state, bar.first, bar.last) for bar in bars_of(served)]
    [(0, 'a', 'prefill', 0, 0), (0, 'a', 'decode', 1, 2), (1, '', 'idle', 0, 2)]
    """
    bars = []
    for seat in range(schedule.num_rows):
        uses = [_use(each, seat) for each in schedule.iterations]
        for (name, state), run in groupby(range(len(uses)), key=lambda index: uses[index]):
            numbers = list(run)
            # There are no more seats than these; who sits further down has none.
            if name or seat < schedule.config.max_num_seqs:
                bars.append(Bar(seat, name, state, numbers[0], numbers[-1]))
    return bars


def _use(iteration: Iteration, seat: int) -> tuple[str, str]:
    """Return who sits on a seat in an iteration, and what is computed for them."""
    name = iteration.seats.get(seat, "")
    if not name:
        return "", "idle"
    if name not in iteration.tokens:
        return name, "waiting"
    return name, "prefill" if name in iteration.prompts else "decode"


@dataclass(frozen=True)
class SeatChart:
    """Draws a schedule up to an iteration, in the same place for all of a film.

    Attributes:
        schedule: The schedule.
        title: What stands above it.
        scale: Maps the clock to pixels, for both charts of a picture.
        clock: What the clock counts.
        top: Upper edge.
        width: Width of the picture.
        chosen: The request that is marked.
        has_axis: Whether its clock stands below it: of two charts, below the lower one.
    """

    schedule: Schedule
    title: str
    scale: AnyScale
    clock: Clock
    top: float
    width: float
    chosen: str
    has_axis: bool = True
    _drawn: dict[tuple[Bar, int], Rect] = field(default_factory=dict, compare=False, repr=False)
    _labels: dict[tuple[Bar, int], Rect] = field(default_factory=dict, compare=False, repr=False)

    @property
    def is_wide(self) -> bool:
        """Whether those who wait stand at the side, and not below."""
        return self.width >= WIDE

    @cached_property
    def bottom(self) -> float:
        """Lower edge, the same for all frames of a film."""
        return self._side_bottom + _LINE * len(self._wrong_lines) + 8

    @cached_property
    def _rows_top(self) -> float:
        num_lines = max(1, *map(len, self._lacked)) + (0 if self.is_wide else 1)
        return self.top + _HEADER + _LINE * num_lines

    @cached_property
    def _lacked(self) -> list[tuple[str, ...]]:
        """What was lacked after each iteration, in lines."""
        inner = self._header_right - MARGIN
        return [wrapped(text, inner, SMALL_SIZE) for text in lacked_texts(self.schedule)]

    @cached_property
    def _header_right(self) -> float:
        """Where the lines above the rows end; on a wide page those who wait stand beside them."""
        return plot_bounds(self.width)[1] if self.is_wide else self.width - MARGIN

    @cached_property
    def _rows_bottom(self) -> float:
        return self._rows_top + _ROW * self.schedule.num_rows

    @cached_property
    def _side_top(self) -> float:
        return self.top + 4 if self.is_wide else self._rows_bottom + self._foot + 6

    @cached_property
    def _foot(self) -> float:
        return _FOOT if self.has_axis else 4

    @cached_property
    def _side_bottom(self) -> float:
        lines = _MOST_REASON_LINES if self.is_wide else 2
        side = self._chips_top + _CHIP * self._num_chip_rows + _LINE * lines
        return max(side, self._rows_bottom + self._foot)

    @cached_property
    def _chips_left(self) -> float:
        return self._side_left + (0 if self.is_wide else _COUNT_WIDTH)

    @cached_property
    def _chips_top(self) -> float:
        return self._side_top + (26 if self.is_wide else 0)

    @cached_property
    def _side_left(self) -> float:
        return self.width - MARGIN - _SIDE + 16 if self.is_wide else MARGIN

    @cached_property
    def _side_width(self) -> float:
        return self.width - MARGIN - self._side_left

    @cached_property
    def _num_chip_rows(self) -> int:
        most = max((len(each.waiting) for each in self.schedule.iterations), default=0)
        most = max(most, sum(each == 0 for each in self.schedule.arrivals.values()))
        return -(-most // self._chips_in_a_row)

    @cached_property
    def _chip_width(self) -> float:
        return 10 + max(text_width(name, SMALL_SIZE) for name in self.schedule.arrivals)

    @cached_property
    def _chips_in_a_row(self) -> int:
        return max(1, int((self.width - MARGIN - self._chips_left) // (self._chip_width + 4)))

    @cached_property
    def _edges(self) -> list[tuple[float, float]]:
        return self.schedule.edges(self.clock)

    @cached_property
    def bars(self) -> list[Bar]:
        """All bars of the schedule."""
        return bars_of(self.schedule)

    @cached_property
    def _wrong_lines(self) -> list[tuple[int, str]]:
        """What is wrong, in lines, with the number of iterations from which on it is."""
        inner = 0.9 * (self.width - 2 * MARGIN)  # bold letters are wider
        return [
            (number, line)
            for number, text in complaints(self.schedule)
            for line in _cut(text, inner)
        ]

    @cached_property
    def _first_preemptions(self) -> dict[str, int]:
        """In which iteration each request that is ever preempted is so first, from 1."""
        found: dict[str, int] = {}
        for number, each in enumerate(self.schedule.iterations, 1):
            for name in each.preempted:
                found.setdefault(name, number)
        return found

    def draw(self, until: int) -> Iterator[Shape]:
        """Yield the chart as it is after some iterations."""
        yield from self._header(until)
        yield from self._rows(until)
        yield from self._frame
        yield from self._side(until)
        yield from self._wrong(until)

    @cached_property
    def _frame(self) -> list[Shape]:
        """The names of the seats, and the axis if it has one."""
        shapes: list[Shape] = []
        for seat in range(self.schedule.num_rows):
            is_over = seat >= self.schedule.config.max_num_seqs
            shapes.append(
                Text(
                    MARGIN + _NAMES_WIDTH - 8,
                    self._rows_top + _ROW * seat + 18,
                    "no seat" if is_over else f"seat {seat + 1}",
                    SMALL_SIZE,
                    "end",
                    tone="alert" if is_over else "text",
                )
            )
        if not self.has_axis:
            return shapes
        unit = "Iteration" if self.clock == "iterations" else "Time (ms)"
        return [*shapes, *horizontal_foot(self.scale, self._rows_bottom, unit, self.width)]

    def _rows(self, until: int) -> Iterator[Shape]:
        """Yield the bars, the ends of iterations over them, and the names over both."""
        seen = [bar for bar in self.bars if bar.first < until]
        numbered = [(bar, min(bar.last, until - 1)) for bar in seen]
        for bar, last in numbered:
            yield self._bar(bar, last)
        yield from self._borders[:until]
        for bar, last in numbered:
            if bar.request == self.chosen:
                box = self._bar(bar, last)
                key = f"{box.key} frame"
                yield replace(box, state="", key=key, outline="bold", tooltip="", of=None)
        for bar, last in numbered:
            label = self._label(bar, last)
            if label.label:
                yield label

    def _header(self, until: int) -> Iterator[Shape]:
        """Yield title, what is idle, and what was lacked."""
        idle = idle_text(self.schedule, until, self.clock)
        yield Text(MARGIN, self.top + 20, self.title, TEXT_SIZE, is_bold=True)
        below = self.top + 44
        if self.is_wide:
            right = self._header_right
            yield Text(right, self.top + 20, idle, SMALL_SIZE, "end", key=self._key("idle"))
        else:
            shorter = idle.replace("all done after ", "").replace("after ", "")
            idle = fitting(self.width - MARGIN, idle, shorter)
            yield Text(MARGIN, below, idle, SMALL_SIZE, key=self._key("idle"))
            below += _LINE
        for number, line in enumerate(self._lacked[until]):
            y, key = below + _LINE * number, self._key(f"lacked {number}")
            yield Text(MARGIN, y, line, SMALL_SIZE, tone="muted", key=key)

    def _key(self, name: str | int) -> str:
        return f"{self.title}/{name}"

    def _bar(self, bar: Bar, last: int) -> Rect:
        """Return a bar up to an iteration; what is complete is the same object in every frame."""
        if (bar, last) in self._drawn:
            return self._drawn[bar, last]
        left, right = self.scale(self._edges[bar.first][0]), self.scale(self._edges[last][1])
        is_framed = right - left >= _NARROWEST_FRAMED
        box = Rect(
            left,
            self._rows_top + _ROW * bar.seat + 2,
            right - left,
            _ROW - 4,
            bar.state,
            tooltip=self._tooltip(bar),
            key=self._key(f"{bar.seat} {bar.first}"),
            outline="thin" if is_framed else "none",
            of=("request", bar.request) if bar.request else None,
        )
        self._drawn[bar, last] = box
        return box

    def _label(self, bar: Bar, last: int) -> Rect:
        """Return the name in a bar, in its widest iteration, over the ends of iterations."""
        if (bar, last) in self._labels:
            return self._labels[bar, last]
        edges = self._edges[bar.first : last + 1]
        left, right = self.scale(edges[0][0]), self.scale(edges[-1][1])
        middle = len(edges) // 2
        widest = max(
            range(len(edges)),
            key=lambda n: (round(edges[n][1] - edges[n][0], 6), -abs(n - middle)),
        )
        centre = (self.scale(edges[widest][0]) + self.scale(edges[widest][1])) / 2
        width = min(text_width(bar.request, SMALL_SIZE) + 2, right - left - 2)
        has_room = width >= text_width(bar.request, SMALL_SIZE)
        label = Rect(
            min(max(centre - width / 2, left + 1), right - width - 1),
            self._rows_top + _ROW * bar.seat + 4,
            max(width, 0),
            _ROW - 8,
            bar.state,
            bar.request if has_room else "",
            key=self._key(f"name {bar.seat} {bar.first}"),
            outline="none",
        )
        self._labels[bar, last] = label
        return label

    def _tooltip(self, bar: Bar) -> str:
        """Say what a bar is, and what the user of its request feels."""
        where = f"iteration {bar.first + 1:,}"
        if bar.last > bar.first:
            where = f"iterations {bar.first + 1:,} to {bar.last + 1:,}"
        if not bar.request:
            return f"seat {bar.seat + 1} is idle in {where}"
        was_out = self._first_preemptions.get(bar.request, bar.first + 1) <= bar.first
        what = {
            "prefill": "what it lacked" if was_out else "prompt",
            "decode": counted(bar.last - bar.first + 1, "token"),
            "waiting": "gets no token",
        }[bar.state]
        felt = self.schedule.latencies(bar.request, self.clock)
        return (
            f"{bar.request}: {what} in {where}\nTTFT {value_text(felt.ttft)}, longest gap "
            f"{value_text(felt.longest_gap)}, TPOT {value_text(felt.tpot)}, "
            f"e2e {value_text(felt.e2e)} {unit_of(self.clock)}"
        )

    @cached_property
    def _borders(self) -> list[Line]:
        """The ends of all iterations, where they are far enough apart to be seen."""
        ends = [self.scale(end) for _, end in self._edges]
        if not ends or (ends[-1] - self.scale.start) / len(ends) < _NARROWEST_COLUMN:
            return []
        return [
            Line(
                ((x, self._rows_top), (x, self._rows_bottom)), "faint", 1, key=self._key(f"end {n}")
            )
            for n, x in enumerate(ends)
        ]

    def _side(self, until: int) -> Iterator[Shape]:
        """Yield who waits, and why the first of them does."""
        waiting = self._waiting(until)
        left, top = self._side_left, self._side_top
        text = f"Waiting: {len(waiting)}" if waiting else "Nobody waits"
        yield Text(left, top + 16, text, SMALL_SIZE, is_bold=True, key=self._key("waiting"))
        why = f": {self.schedule.iterations[until - 1].reason}" if until else ""
        for place, name in enumerate(waiting):
            row, column = divmod(place, self._chips_in_a_row)
            was_out = self._first_preemptions.get(name, until + 1) <= until
            yield Rect(
                self._chips_left + column * (self._chip_width + 4),
                self._chips_top + row * _CHIP,
                self._chip_width,
                _CHIP - 4,
                "preempted" if was_out else "waiting",
                name,
                f"{name} waits {f'behind {waiting[0]}' if place else f'first in line{why}'}",
                self._key(f"waiting {name}"),
                outline="bold" if name == self.chosen else "thin",
                of=("request", name),
            )
        rows = self._num_chip_rows if not self.is_wide else -(-len(waiting) // self._chips_in_a_row)
        below = self._chips_top + rows * _CHIP + 14
        lines = wrapped(waiting_text(self.schedule, until), self._side_width, SMALL_SIZE)
        for number, line in enumerate(lines):
            key = self._key(f"reason {number}")
            yield Text(left, below + _LINE * number, line, SMALL_SIZE, key=key)

    def _waiting(self, until: int) -> tuple[str, ...]:
        """Return who waits in the newest iteration; before the first one, who is there."""
        if until:
            done = until == len(self.schedule.iterations) and not self.schedule.problem
            return () if done else self.schedule.iterations[until - 1].waiting
        return tuple(name for name, seconds in self.schedule.arrivals.items() if seconds <= 0)

    def wrong(self, until: int) -> list[str]:
        """Return what is wrong so far, in lines."""
        return [line for number, line in self._wrong_lines if number <= until]

    def _wrong(self, until: int) -> Iterator[Shape]:
        """Yield what is wrong so far."""
        for number, line in enumerate(self.wrong(until)):
            y = self._side_bottom + _LINE * (number + 1) - 4
            yield Text(MARGIN, y, line, SMALL_SIZE, tone="alert", is_bold=True)


def plot_bounds(width: float) -> tuple[float, float]:
    """Return the left and the right edge of the rows in a picture of this width."""
    right = width - MARGIN - (_SIDE if width >= WIDE else 8)
    return MARGIN + _NAMES_WIDTH, right


def _cut(text: str, width: float) -> list[str]:
    """Return a text in a few lines; what has no room is cut off, within a word too."""
    lines = list(wrapped(text, width, SMALL_SIZE))
    if len(lines) > _MOST_WRONG_LINES:
        lines = [*lines[: _MOST_WRONG_LINES - 1], f"{lines[_MOST_WRONG_LINES - 1]}…"]
    for number, line in enumerate(lines):
        while text_width(line, SMALL_SIZE) > width:
            line = f"{line[:-2]}…"
        lines[number] = line
    return lines

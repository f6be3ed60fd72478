"""Two schedules of the same requests, one below the other, moment by moment."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property, partial

from course_lib.scheduling.request import Request
from course_lib.viz.batching.chart import MARGIN, SeatChart, plot_bounds
from course_lib.viz.batching.schedules import Clock, Schedule
from course_lib.viz.batching.words import (
    counted,
    event,
    idle_text,
    milliseconds,
    sentence,
    unit_of,
    value_text,
    waiting_text,
)
from course_lib.viz.kit.charts.axes import Scale
from course_lib.viz.kit.layout import NARROW, WIDE, bottom_of, legend
from course_lib.viz.kit.palette import PALETTE
from course_lib.viz.kit.player import Frame
from course_lib.viz.kit.scene import Scene
from course_lib.viz.kit.shapes import SMALL_SIZE, Shape, Text

_TITLE = "One workload, batched in two ways"
_STATIC, _CONTINUOUS = "Static batching", "Continuous batching"
_NAMES = {
    "prefill": "computes its prompt",
    "decode": "a token of its answer",
    "idle": "idle seat",
    "waiting": "waits",
}
_COLUMNS = {"TTFT": 0.23, "longest gap": 0.55, "TPOT": 0.77, "e2e": 1.0}
"""What stands in the table of latencies, and where each column ends."""


@dataclass(frozen=True)
class Story:
    """Two schedules of the same requests, and how they are looked at.

    Attributes:
        static: What came of static batching.
        continuous: What came of the other scheduler.
        requests: The requests, by name.
        clock: What time is counted in.
        chosen: The request whose latencies are told.
    """

    static: Schedule
    continuous: Schedule
    requests: Mapping[str, Request]
    clock: Clock
    chosen: str

    @property
    def schedules(self) -> tuple[Schedule, Schedule]:
        """Both schedules, the upper one first."""
        return self.static, self.continuous

    @cached_property
    def moments(self) -> list[tuple[float, int, int]]:
        """When iterations end: the time, and how many of each schedule are over by then."""
        ends = [[end for _, end in each.edges(self.clock)] for each in self.schedules]
        upper, lower = ends
        times = sorted({0.0, *upper, *lower})
        return [(t, sum(end <= t for end in upper), sum(end <= t for end in lower)) for t in times]

    @cached_property
    def _charts(self) -> dict[float, tuple[SeatChart, SeatChart]]:
        """Both charts for each width of the picture."""
        return {width: self._charts_of(width) for width in (WIDE, NARROW)}

    def _charts_of(self, width: float) -> tuple[SeatChart, SeatChart]:
        left, right = plot_bounds(width)
        scale = Scale(0, max(self.moments[-1][0], 1), left, right)
        make = partial(SeatChart, scale=scale, clock=self.clock, width=width, chosen=self.chosen)
        upper = make(self.static, _STATIC, top=12)
        lower = make(self.continuous, _CONTINUOUS, top=upper.bottom + 16)
        return upper, lower

    @cached_property
    def _states(self) -> list[str]:
        """The states that the legend names, the same in all frames."""
        used = {bar.state for chart in self._charts[WIDE] for bar in chart.bars} | {"waiting"}
        if any(each.preempted for schedule in self.schedules for each in schedule.iterations):
            used.add("preempted")
        return [state for state in PALETTE if state in used]

    def frames(self) -> Iterator[Frame]:
        """Yield a frame for each moment at which an iteration ends."""
        before = (0, 0)
        for number, (_, *done) in enumerate(self.moments):
            counts = (done[0], done[1])
            wide, narrow = (self.scene(number, width) for width in (WIDE, NARROW))
            yield Frame(wide, self._caption(number, before), self._event(counts, before), narrow)
            before = counts

    def _caption(self, number: int, before: tuple[int, int]) -> str:
        time, *done = self.moments[number]
        if not number:
            seats = self.static.config.max_num_seqs
            return f"{len(self.requests)} requests, {seats} seats; nothing is computed yet."
        said = [
            f"{name}: {sentence(schedule, until, is_new=until > was)}"
            for name, schedule, until, was in zip(
                ("Static", "Continuous"), self.schedules, done, before, strict=True
            )
        ]
        when = f"After {milliseconds(time)}. " if self.clock == "seconds" else ""
        return f"{when}{'. '.join(said)}."

    def _event(self, counts: tuple[int, int], before: tuple[int, int]) -> str:
        pairs = zip(("static", "continuous"), self.schedules, counts, before, strict=True)
        return "; ".join(
            filter(None, (event(each, now, name) for name, each, now, was in pairs if now > was))
        )

    def scene(self, number: int, width: float = WIDE) -> Scene:
        """Draw a moment.

        Args:
            number: Its number in ``moments``.
            width: Width of the picture, in pixels: ``WIDE`` or ``NARROW``.
        """
        _, *done = self.moments[number]
        charts = self._charts[width]
        shapes: list[Shape] = []
        for chart, until in zip(charts, done, strict=True):
            shapes += chart.draw(until)
        bottom = charts[1].bottom
        shapes += self._latencies(bottom + 14, width)
        bottom = bottom_of(shapes[-1:])
        shapes += legend(self._states, MARGIN, bottom + 20, width - 2 * MARGIN, _NAMES)
        alts = [
            " ".join(
                f"{text}."
                for text in (
                    f"{name}, {idle_text(schedule, until, self.clock)}",
                    *((waiting_text(schedule, until),) if waiting_text(schedule, until) else ()),
                )
            )
            for name, schedule, until in zip(
                (_STATIC, _CONTINUOUS), self.schedules, done, strict=True
            )
        ]
        wrong = [
            line for chart, until in zip(charts, done, strict=True) for line in chart.wrong(until)
        ]
        alt = " ".join([*alts, *wrong, self._latencies_text()])
        return Scene(width, bottom_of(shapes) + 14, tuple(shapes), title=_TITLE, alt=alt)

    def _latencies(self, top: float, width: float) -> list[Shape]:
        """Draw the table of what the user of the chosen request feels."""
        request = self.requests[self.chosen]
        unit = unit_of(self.clock)
        title = (
            f"Request {self.chosen}: {counted(request.num_prompt_tokens, 'prompt token')}, "
            f"{request.max_tokens:,} to answer"
        )
        thing = ("request", self.chosen)
        shapes: list[Shape] = [
            Text(MARGIN, top + 18, title, is_bold=True, key="chosen", of=thing),
            Text(MARGIN, top + 44, f"in {unit}", SMALL_SIZE, tone="muted"),
        ]
        left = MARGIN + 160
        rights = [left + share * (width - MARGIN - left) for share in _COLUMNS.values()]
        for x, column in zip(rights, _COLUMNS, strict=True):
            shapes.append(Text(x, top + 44, column, SMALL_SIZE, "end", tone="muted"))
        for row, (name, schedule) in enumerate(
            zip((_STATIC, _CONTINUOUS), self.schedules, strict=True)
        ):
            y = top + 68 + 24 * row
            shapes.append(Text(MARGIN, y, name, SMALL_SIZE))
            felt = schedule.latencies(self.chosen, self.clock)
            values = (felt.ttft, felt.longest_gap, felt.tpot, felt.e2e)
            for place, (x, value) in enumerate(zip(rights, values, strict=True)):
                key = f"felt {row} {place}"
                shapes.append(Text(x, y, value_text(value), SMALL_SIZE, "end", key=key))
        return shapes

    def _latencies_text(self) -> str:
        """Say what the table says."""
        unit = unit_of(self.clock)
        said = []
        for name, schedule in zip((_STATIC, _CONTINUOUS), self.schedules, strict=True):
            felt = schedule.latencies(self.chosen, self.clock)
            said.append(
                f"{name}: TTFT {value_text(felt.ttft)}, longest gap "
                f"{value_text(felt.longest_gap)}, TPOT {value_text(felt.tpot)}, "
                f"e2e {value_text(felt.e2e)}"
            )
        return f"Request {self.chosen}, in {unit}. {'. '.join(said)}."

"""Two schedules of the same requests, one below the other, moment by moment."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property, partial

from course_lib.scheduling.request import Request
from course_lib.viz.batching.chart import MARGIN, SeatChart, plot_bounds
from course_lib.viz.batching.schedules import Clock, Schedule
from course_lib.viz.batching.table import LatencyTable
from course_lib.viz.batching.words import (
    event,
    idle_text,
    milliseconds,
    sentence,
    waiting_text,
)
from course_lib.viz.kit.charts.axes import Scale
from course_lib.viz.kit.layout import SLIM, WIDE, bottom_of, legend
from course_lib.viz.kit.palette import PALETTE
from course_lib.viz.kit.player import Frame
from course_lib.viz.kit.scene import Scene
from course_lib.viz.kit.shapes import Shape

_TITLE = "One workload, batched in two ways"
_STATIC, _CONTINUOUS = "Static batching", "Continuous batching"
_NAMES = {
    "prefill": "prompt, then first token",
    "decode": "a further token",
    "idle": "idle seat",
    "waiting": "waits",
}
_NAMES_WITH_LOSS = {**_NAMES, "prefill": "prompt, or what was lost"}
"""What the legend says where a request is preempted, whose tokens are then computed again."""


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

    @property
    def opening(self) -> int:
        """The last moment: the film opens at its end."""
        return len(self.moments) - 1

    def twin(self) -> Scene:
        """Draw the end of the film, which holds all of it."""
        return self.scene(self.opening)

    def moment_like(self, number: int, other: Story) -> int:
        """Return the moment here that is as far on as one of another film of these requests.

        That is by the iterations of the lower chart, and of the upper one once the lower is done.
        The end stays the end, and what is further on than this film is its end.

        Args:
            number: The number of the moment in the other film.
            other: The other film.
        """
        last = len(self.moments) - 1
        if number == len(other.moments) - 1:
            return last
        _, upper, lower = other.moments[number]
        is_done = lower == len(other.continuous.iterations)
        return next(
            (
                position
                for position, (_, above, below) in enumerate(self.moments)
                if (above >= upper if is_done else below >= lower)
            ),
            last,
        )

    @cached_property
    def _charts(self) -> dict[float, tuple[SeatChart, SeatChart]]:
        """Both charts for each width of the picture."""
        return {width: self._charts_of(width) for width in (WIDE, SLIM)}

    def _charts_of(self, width: float) -> tuple[SeatChart, SeatChart]:
        left, right = plot_bounds(width)
        scale = Scale(0, max(self.moments[-1][0], 1), left, right)
        make = partial(SeatChart, scale=scale, clock=self.clock, width=width, chosen=self.chosen)
        upper = make(self.static, _STATIC, top=12, has_axis=False)
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
            wide, narrow = (self.scene(number, width) for width in (WIDE, SLIM))
            yield Frame(wide, self._caption(number, before), self._event(counts, before), narrow)
            before = counts

    def _caption(self, number: int, before: tuple[int, int]) -> str:
        time, *done = self.moments[number]
        if not number:
            seats = self.static.config.max_num_seqs
            return f"{len(self.requests)} requests, {seats} seats; nothing is computed yet."
        is_last = number == len(self.moments) - 1
        said = []
        for name, schedule, until, was in zip(
            ("Static", "Continuous"), self.schedules, done, before, strict=True
        ):
            if is_last and not schedule.problem:
                said.append(f"{name}: {idle_text(schedule, until, self.clock)}")
            else:
                said.append(f"{name}: {sentence(schedule, until, is_new=until > was)}")
        if is_last:
            return f"{'. '.join(said)}."
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
            width: Width of the picture, in pixels: ``WIDE`` or ``SLIM``.
        """
        _, *done = self.moments[number]
        charts = self._charts[width]
        shapes: list[Shape] = []
        for chart, until in zip(charts, done, strict=True):
            shapes += chart.draw(until)
        shapes += self._below[width]
        height = bottom_of(self._below[width]) + 14
        alts = [self._alt(chart, until) for chart, until in zip(charts, done, strict=True)]
        alt = " ".join([*alts, self._table.alt])
        return Scene(width, height, tuple(shapes), title=_TITLE, alt=alt)

    @cached_property
    def _below(self) -> dict[float, list[Shape]]:
        """What stands below the charts in all frames, for each width: latencies and legend."""
        found = {}
        names = _NAMES_WITH_LOSS if "preempted" in self._states else _NAMES
        for width, (_, lower) in self._charts.items():
            table = self._table.draw(lower.bottom + 14, width)
            top = bottom_of(table) + 20
            found[width] = [*table, *legend(self._states, MARGIN, top, width - 2 * MARGIN, names)]
        return found

    @cached_property
    def _table(self) -> LatencyTable:
        schedules = {_STATIC: self.static, _CONTINUOUS: self.continuous}
        return LatencyTable(schedules, self.requests[self.chosen], self.clock)

    def _alt(self, chart: SeatChart, until: int) -> str:
        """Say what a chart shows."""
        said = [f"{chart.title}: {idle_text(chart.schedule, until, self.clock)}"]
        waiting = waiting_text(chart.schedule, until)
        said += [waiting] if waiting else []
        return " ".join([*(f"{each}." for each in said), *chart.wrong(until)])

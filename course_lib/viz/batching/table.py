"""What the user of one request feels under several schedules, as a table."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

from course_lib.scheduling.request import Request
from course_lib.viz.batching.chart import MARGIN
from course_lib.viz.batching.schedules import Clock, Schedule
from course_lib.viz.batching.words import unit_of, value_text
from course_lib.viz.kit.layout import WIDE, fitting
from course_lib.viz.kit.shapes import SMALL_SIZE, TEXT_SIZE, Shape, Text
from course_lib.viz.kit.words import counted

_COLUMNS = {"TTFT": 0.22, "longest gap": 0.58, "TPOT": 0.79, "e2e": 1.0}
"""What stands in the table, and where each column ends."""

_NAMES_WIDTH, _NARROW_NAMES_WIDTH = 190, 104
_ROW = 24


@dataclass(frozen=True)
class LatencyTable:
    """The latencies of a request, a row for each schedule.

    Attributes:
        schedules: The schedules by name, such as "Static batching".
        request: The request.
        clock: What time is counted in.
    """

    schedules: Mapping[str, Schedule]
    request: Request
    clock: Clock

    @cached_property
    def rows(self) -> dict[str, list[str]]:
        """What stands in each row, by the name of its schedule."""
        found = {}
        for name, schedule in self.schedules.items():
            felt = schedule.latencies(self.request.request_id, self.clock)
            values = (felt.ttft, felt.longest_gap, felt.tpot, felt.e2e)
            found[name] = [value_text(value) for value in values]
        return found

    @cached_property
    def alt(self) -> str:
        """The table in words."""
        said = [
            f"{name}: {', '.join(map(' '.join, zip(_COLUMNS, values, strict=True)))}."
            for name, values in self.rows.items()
        ]
        return f"Request {self.request.request_id}, in {unit_of(self.clock)}. {' '.join(said)}"

    def draw(self, top: float, width: float) -> list[Shape]:
        """Draw the table below a height, in a picture of this width."""
        name, prompt = self.request.request_id, self.request.num_prompt_tokens
        title = f"Request {name}: {counted(prompt, 'prompt token')}"
        longer = f"{title}, {self.request.max_tokens:,} to answer"
        thing = ("request", name)
        shorter = f"Request {name}: {prompt:,} tokens in, {self.request.max_tokens:,} out"
        title = fitting(width - MARGIN, longer, shorter, title, size=1.1 * TEXT_SIZE)
        shapes: list[Shape] = [
            Text(MARGIN, top + 18, title, is_bold=True, key="chosen", of=thing),
            Text(MARGIN, top + 44, f"in {unit_of(self.clock)}", SMALL_SIZE, tone="muted"),
        ]
        left = MARGIN + (_NAMES_WIDTH if width >= WIDE else _NARROW_NAMES_WIDTH)
        rights = [left + share * (width - MARGIN - left) for share in _COLUMNS.values()]
        for x, column in zip(rights, _COLUMNS, strict=True):
            shapes.append(Text(x, top + 44, column, SMALL_SIZE, "end", tone="muted"))
        for row, (schedule, values) in enumerate(self.rows.items(), 1):
            y = top + 44 + _ROW * row
            shown = fitting(left - MARGIN, schedule, schedule.partition(" ")[0])
            shapes.append(Text(MARGIN, y, shown, SMALL_SIZE))
            for x, column, value in zip(rights, _COLUMNS, values, strict=True):
                key = f"{schedule} {column}"
                shapes.append(Text(x, y, value, SMALL_SIZE, "end", key=key))
        return shapes

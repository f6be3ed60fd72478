"""The three numbers of lesson 2's film as bars: so far, of the block in hand, and together."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from course_lib.attention.example import is_close, short, shown
from course_lib.viz.kit.layout import fitting
from course_lib.viz.kit.shapes import SMALL_SIZE, Line, Rect, Shape, Text
from course_lib.viz.paged_attention.page import MARGIN, Page, bar_width, row_name, visible
from course_lib.viz.paged_attention.steps import Answer, Merging, Reading, Step

SO_FAR, IN_HAND = "series-3", "series-2"
"""How the sums so far and the sums of the block in hand are drawn."""

_ROW, _BAR = 26, 16
_COLUMNS = (0, 130, 260)
"""Where the outputs of the rows begin in the narrow form, in one line."""

_LEAST = (6.0, 4.0, 160.0)
"""What whole bars of m, l and acc stand for at least."""

_QUANTITIES = ("m: largest score", "l: sum of the weights", "acc: weights × values")


@dataclass(frozen=True)
class _Panel:
    """Where one of the three numbers is drawn: bars on one scale, one below the other.

    Attributes:
        x: Left edge of the bars.
        top: Where its title begins.
        width: Room for bars, and for their numbers where those stand above.
        is_wide: Whether numbers stand above the bars, and not to their right.
        most: What a whole bar stands for.
        name: "m", "l" or "acc".
    """

    x: float
    top: float
    width: float
    is_wide: bool
    most: float
    name: str

    @property
    def room(self) -> float:
        return self.width if self.is_wide else self.width - 206

    @property
    def row(self) -> float:
        return _ROW + 20 if self.is_wide else _ROW

    def bar_top(self, row: int) -> float:
        """Return the upper edge of the bars of a row."""
        return self.top + 10 + row * self.row + (22 if self.is_wide else 5)

    def outline(self, row: int, number: float, key: str) -> Line:
        """Draw how long the bar of a number would be."""
        left, right = self.x, self.x + bar_width(number, self.most, self.room)
        top = self.bar_top(row)
        bottom = top + _BAR
        corners = ((left, top), (right, top), (right, bottom), (left, bottom), (left, top))
        says = f"{self.name} was {shown(number)}"
        key = f"bar-{self.name}-{key}"
        return Line(corners, "muted", 1.5, is_dashed=True, tooltip=says, key=key)

    def bar(self, row: int, number: float, state: str, key: str, start: float = 0) -> Rect:
        """Draw a number as a bar, from where another ended."""
        begin = bar_width(start, self.most, self.room)
        end = bar_width(start + number, self.most, self.room)
        return Rect(
            self.x + begin,
            self.bar_top(row),
            max(end - begin, 0),
            _BAR,
            state,
            tooltip=f"{self.name} {shown(number)}",
            key=f"bar-{self.name}-{key}",
        )

    def text(self, row: int, *candidates: str, is_alert: bool = False) -> Text:
        """Write the first of several wordings of a number that has room, above its bar or right."""
        x = self.x if self.is_wide else self.x + self.room + 10
        y = self.bar_top(row) + (-5 if self.is_wide else 13)
        width = self.width + 12 if self.is_wide else 208
        return Text(
            x,
            y,
            fitting(width, *candidates),
            SMALL_SIZE,
            tone="alert" if is_alert else "text",
            key=f"says-{self.name}-{row}",
        )


def _rows(step: Step) -> tuple[str, ...]:
    """Name the rows that there are at a moment."""
    if isinstance(step, Merging):
        return "so far", "this block", "together"
    if isinstance(step, Reading):
        return "so far", "this block"
    return ("all blocks" if isinstance(step, Answer) else "so far",)


def state_panels(step: Step, page: Page, top: float) -> list[Shape]:
    """Draw m, l and acc as bars: so far, of the block in hand, and over both.

    Sums that shrink are drawn as they are after it, within the dashed outline of what they were.

    Args:
        step: The moment.
        page: Where things are.
        top: Where the panels begin.
    """
    shapes: list[Shape] = []
    panels = _panels(page, top)
    for number, (panel, title) in enumerate(zip(panels, _QUANTITIES, strict=True)):
        shapes.append(Text(panel.x, panel.top, title, SMALL_SIZE, is_bold=True))
        shapes += _bars(step, panel, number)
        if number == 0 or not page.is_wide:
            shapes += _row_names(step, panel, page)
    return [*visible(shapes), *_outputs(step, page, panels)]


def _panels(page: Page, top: float) -> list[_Panel]:
    """Return the places of m, l and acc: side by side, or one below the other."""
    found = []
    for number, (name, most) in enumerate(zip(("m", "l", "acc"), page.scales, strict=True)):
        if page.is_wide:
            found.append(_Panel(page.left + number * 216, top + 16, 200, True, most, name))
        else:
            y = top + 16 + number * (3 * _ROW + 30)
            found.append(_Panel(page.left, y, page.right - page.left, False, most, name))
    return found


def _row_names(step: Step, panel: _Panel, page: Page) -> list[Shape]:
    """Name the rows, and say in the wide form what the sums of each are multiplied by."""
    shapes: list[Shape] = []
    for row, name in enumerate(_rows(step)):
        y = panel.bar_top(row) + 13
        says = _factor_text(step, row) if page.is_wide else ""
        shapes.append(row_name(name, y - 14 if says else y))
        if says:
            shapes.append(Text(MARGIN, y + 5, says, SMALL_SIZE))
    return shapes


def _factor_text(step: Step, row: int) -> str:
    """Say what the sums of a row are multiplied by, and why."""
    if not isinstance(step, Merging) or row == 2:
        return ""
    own = (step.before, step.block)[row].max_score
    if own == -math.inf:
        return "nothing to add"
    factor = shown(step.factors[row])
    full = f"× e^({short(own)} − {short(step.right.max_score)}) = {short(step.factors[row])}"
    return fitting(172, full, f"× {factor}")


def _bars(step: Step, panel: _Panel, number: int) -> list[Shape]:
    """Draw the bars of m, l or acc."""
    parts = [(step.before.values()[number], SO_FAR, "before")]
    if isinstance(step, Reading):
        parts.append((step.block.values()[number], IN_HAND, "block"))
    factors = step.factors if isinstance(step, Merging) and number > 0 else (1.0, 1.0)
    shapes: list[Shape] = []
    shrunk: list[float] = []
    for row, (amount, state, key) in enumerate(parts):
        shrunk.append(amount * factors[row])
        if factors[row] < 1 and amount > 0:
            shapes.append(panel.outline(row, amount, f"{key}-was"))
            says = f"{shown(amount)} × {shown(factors[row])} ≈ {shown(shrunk[row])}"
            shapes.append(panel.text(row, says, shown(shrunk[row])))
        else:
            shapes.append(panel.text(row, _written(panel, amount)))
        shapes.append(panel.bar(row, shrunk[row], state, key))
    if isinstance(step, Merging):
        shapes += _sum_of(step, panel, number, shrunk)
    return shapes


def _sum_of(step: Merging, panel: _Panel, number: int, parts: Sequence[float]) -> list[Shape]:
    """Draw what both come to: the parts end to end, or the larger m; what is wrong by itself."""
    found, right = step.together.values()[number], step.right.values()[number]
    if not is_close(found, right):
        says = f"{_written(panel, found)}, not {_written(panel, right)}"
        wrong = panel.bar(2, found, "broken", "returned")
        return [wrong, panel.text(2, says, _written(panel, found), is_alert=True)]
    number_of_both = panel.text(2, _written(panel, found))
    if number == 0:
        state = SO_FAR if parts[0] >= parts[1] else IN_HAND
        return [panel.bar(2, right, state, "both"), number_of_both]
    return [
        panel.bar(2, parts[0], SO_FAR, "both-before"),
        panel.bar(2, parts[1], IN_HAND, "both-block", start=parts[0]),
        number_of_both,
    ]


def _written(panel: _Panel, number: float) -> str:
    """Write m as the score that it is, and sums with three decimals."""
    return short(number) if panel.name == "m" else shown(number)


def _outputs(step: Step, page: Page, panels: Sequence[_Panel]) -> list[Shape]:
    """Write acc / l of each row: beside the rows, or below them in one line."""
    last = panels[-1]
    states = [step.before]
    if isinstance(step, Reading):
        states.append(step.block)
    if isinstance(step, Merging):
        states.append(step.together)
    says = ["" if state.is_empty else shown(state.output) for state in states]
    if page.is_wide:
        x = last.x + last.width + 18
        title: Shape = Text(x, last.top, "acc / l", SMALL_SIZE, is_bold=True)
        places = [(x, last.bar_top(row) + 13) for row in range(len(says))]
    else:
        y = last.bar_top(2) + _BAR + 30
        title = row_name("acc / l", y)
        places = [(page.left + column, y) for column in _COLUMNS[: len(says)]]
        says = [
            f"{name.removeprefix('this ')} {says or '–'}"
            for name, says in zip(_rows(step), says, strict=True)
        ]
    return [
        title,
        *(
            Text(*place, text, SMALL_SIZE, key=f"output-{row}")
            for row, (place, text) in enumerate(zip(places, says, strict=True))
        ),
    ]


def scales(steps: Sequence[Step]) -> tuple[float, float, float]:
    """Return what the bars of m, l and acc have room for, in all moments of a film.

    Wrong sums may be huge; they fill their bars, and the others stay as they are.
    """
    states = [step.before for step in steps]
    states += [step.right for step in steps if isinstance(step, Reading)]
    most = []
    for number, least in enumerate(_LEAST):
        numbers = [state.values()[number] for state in states]
        largest = max([number for number in numbers if math.isfinite(number)], default=least)
        most.append(min(max(largest, least), 2 * least))
    return most[0], most[1], most[2]

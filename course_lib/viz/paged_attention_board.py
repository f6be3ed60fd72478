"""The board of lesson 2's film: the request's blocks, the block in hand, and the state as bars."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from course_lib.viz.kit.layout import WIDE, fitting, wrapped
from course_lib.viz.kit.shapes import SMALL_SIZE, Line, Rect, Shape, Text
from course_lib.viz.paged_attention_example import (
    BLOCK_SIZE,
    BLOCK_TABLE,
    NUM_BLOCKS,
    SCORES,
    VALUES,
    dense_answer,
    is_close,
    short,
    shown,
)
from course_lib.viz.paged_attention_steps import Answer, Merging, Reading, Step

SO_FAR, IN_HAND = "series-3", "series-2"
"""How the sums so far and the sums of the block in hand are drawn."""

NAMES = {
    SO_FAR: "over the blocks so far",
    IN_HAND: "of the block in hand",
    "used": "token of the request",
    "decode": "query",
}
"""What the legend calls states that mean something else than usual."""

MARGIN = 24
_TABLE_TOP, _CELL = 54, 30
_POOL_TOP, _TILE, _TILE_GAP, _STRIP = 126, 56, 6, 24
_HAND_TOP = 226
_ROW, _BAR = 26, 16
_LEAST = (6.0, 4.0, 160.0)
"""What whole bars of m, l and acc stand for at least."""

_QUANTITIES = ("m: largest score", "l: sum of the weights", "acc: weights × values")


@dataclass(frozen=True)
class Page:
    """Where things are, the same in all pictures of a film.

    Attributes:
        width: Width of the picture.
        scales: What the bars of m, l and acc have room for.
    """

    width: float
    scales: tuple[float, float, float]

    @property
    def is_wide(self) -> bool:
        """Whether numbers stand above their bars, and panels side by side."""
        return self.width >= WIDE

    @property
    def left(self) -> float:
        """Where boxes begin, right of the names."""
        return 190 if self.is_wide else 124

    @property
    def right(self) -> float:
        """Where boxes end."""
        return self.width - MARGIN

    def tile(self, block_id: int) -> tuple[float, float]:
        """Return left edge and width of a block in the pool."""
        width = (self.right - self.left + _TILE_GAP) / NUM_BLOCKS - _TILE_GAP
        return self.left + block_id * (width + _TILE_GAP), width

    def entry(self, logical: int) -> tuple[float, float]:
        """Return left edge and width of an entry of the block table."""
        third = (self.right - self.left) / len(BLOCK_TABLE)
        return self.left + logical * third + third / 2 - 28, 56


def request_rows(step: Step, page: Page) -> list[Shape]:
    """Draw the block table, the pool, and an arrow from each entry to its block."""
    shapes: list[Shape] = [
        _name("block table", _TABLE_TOP + 20),
        _name("KV cache", _POOL_TOP + 34),
    ]
    for logical, block_id in enumerate(BLOCK_TABLE):
        x, width = page.entry(logical)
        is_in_hand = isinstance(step, Reading) and logical == step.logical
        shapes.append(
            Rect(
                x,
                _TABLE_TOP,
                width,
                _CELL,
                label=str(block_id),
                tooltip=f"entry {logical} of the block table: block {block_id}",
                key=f"entry-{logical}",
                outline="bold" if is_in_hand else "thin",
                of=("block", block_id),
            )
        )
        left, tile = page.tile(block_id)
        arrow = ((x + width / 2, _TABLE_TOP + _CELL + 3), (left + tile / 2, _POOL_TOP - 3))
        shapes.append(
            Line(
                arrow,
                "text" if is_in_hand else "muted",
                2.5 if is_in_hand else 1,
                has_arrow=True,
                key=f"arrow-{logical}",
                of=("block", block_id),
            )
        )
    for block_id in range(NUM_BLOCKS):
        shapes += _tile_of(block_id, step, page)
    return [*shapes, _query(step, page)]


def _query(step: Step, page: Page) -> Rect:
    """Draw the query below the block that it reads, else at the margin."""
    x: float = MARGIN
    if isinstance(step, Reading):
        left, width = page.tile(BLOCK_TABLE[step.logical])
        x = min(left + width / 2 - 31, page.right - 62)
    says = "the query, of the token that is decoded"
    return Rect(x, _POOL_TOP + _TILE + 6, 62, 22, "decode", "query", says, "query", radius=6)


def _name(text: str, y: float) -> Text:
    return Text(MARGIN, y, text, SMALL_SIZE, is_bold=True)


def _tile_of(block_id: int, step: Step, page: Page) -> list[Shape]:
    """Draw a block of the cache: its id and its slots."""
    left, width = page.tile(block_id)
    logical = BLOCK_TABLE.index(block_id) if block_id in BLOCK_TABLE else None
    whose = "nobody's" if logical is None else f"logical block {logical} of the request"
    if block_id == 0:
        whose = "the null block"
    state = "free" if logical is None and block_id else ""
    is_in_hand = isinstance(step, Reading) and logical == step.logical
    shapes: list[Shape] = [
        Rect(
            left,
            _POOL_TOP,
            width,
            _TILE,
            state,
            tooltip=f"block {block_id}: {whose}",
            key=f"block-{block_id}",
            outline="bold" if is_in_hand else "thin",
            of=("block", block_id),
        )
    ]
    middle = left + width / 2
    shapes.append(Text(middle, _POOL_TOP + 18, str(block_id), SMALL_SIZE, "middle", is_bold=True))
    strip = (left + 4, _POOL_TOP + _TILE - _STRIP - 4, width - 8, _STRIP)
    if block_id == 0:
        shapes.append(Rect(*strip, "null"))
    if logical is not None:
        slot = strip[2] / BLOCK_SIZE
        for offset in range(BLOCK_SIZE):
            place = (strip[0] + offset * slot, strip[1], slot, _STRIP)
            shapes.append(slot_box(logical, offset, place, "pool"))
    return shapes


def slot_box(
    logical: int, offset: int, place: tuple[float, float, float, float], row: str, label: str = ""
) -> Rect:
    """Draw a slot of one of the request's blocks.

    Args:
        logical: The logical block.
        offset: The slot in it.
        place: Left edge, upper edge, width and height.
        row: Where it is drawn; a part of the key.
        label: What is written into it, if it fits.
    """
    block_id = BLOCK_TABLE[logical]
    position = logical * BLOCK_SIZE + offset
    is_stale = offset >= len(SCORES[logical])
    says = "stale, behind the context" if is_stale else f"position {position}"
    return Rect(
        *place,
        "stale" if is_stale else "used",
        fitting(place[2] + 10, label),
        f"slot {offset} of block {block_id}: {says}",
        key=f"{row}-{logical}-{offset}",
        of=("token", position),
        lights=(("block", block_id),),
    )


def block_in_hand(step: Step, page: Page) -> list[Shape]:
    """Draw scores, weights and values of the block that is read, and what they add to."""
    if isinstance(step, Answer):
        return _comparison(step, page)
    if not isinstance(step, Reading):
        return _formulas(page)
    logical, block_id = step.logical, BLOCK_TABLE[step.logical]
    tile_left, tile_width = page.tile(block_id)
    cell = 96 if page.is_wide else (page.right - page.left) / BLOCK_SIZE
    bottom = _POOL_TOP + _TILE
    corners = ((tile_left, page.left), (tile_left + tile_width, page.left + BLOCK_SIZE * cell))
    shapes: list[Shape] = [
        Line(((above, bottom), (below, _HAND_TOP)), "muted", 1, key=f"zoom-{number}")
        for number, (above, below) in enumerate(corners)
    ]
    largest = max(SCORES[logical])
    weights = [math.exp(score - largest) for score in SCORES[logical]]
    rows = (
        ("score", [short(score) for score in SCORES[logical]]),
        ("weight", [shown(weight) for weight in weights]),
        ("value", [str(VALUES[logical])] * len(weights)),
    )
    for number, (name, labels) in enumerate(rows):
        top = _HAND_TOP + number * (_CELL + 4)
        shapes.append(_name(name, top + 20))
        for offset, label in enumerate([*labels, "not read"][:BLOCK_SIZE]):
            place = (page.left + offset * cell, top, cell, _CELL)
            shapes.append(slot_box(logical, offset, place, f"hand-{name}", label))
    return [*shapes, *_sums(step, page, block_id, weights)]


def _sums(step: Reading, page: Page, block_id: int, weights: Sequence[float]) -> list[Shape]:
    """Say beside the block in hand, or below it, what its state is, and what it should be."""
    largest, total = float(max(SCORES[step.logical])), sum(weights)
    rights = (largest, total, total * VALUES[step.logical])
    whats = (
        "the largest score",
        f"the sum of weights e^(score − {short(largest)})",
        "the sum of weights × values",
    )
    x, top = (page.left + 4 * 96 + 22, _HAND_TOP + 20) if page.is_wide else (page.left, 350)
    gap = _CELL + 4 if page.is_wide else 24
    shapes: list[Shape] = []
    numbers = zip(("m", "l", "acc"), step.block.values(), rights, whats, strict=True)
    for row, (name, found, right, what) in enumerate(numbers):
        is_right = is_close(found, right)
        write = short if name == "m" else shown
        says = what if is_right else f"not {write(right)}"
        shapes.append(
            Text(
                x,
                top + gap * row,
                f"{name} = {write(found)}, {says}",
                SMALL_SIZE,
                tone="text" if is_right else "alert",
                of=("block", block_id),
            )
        )
    return shapes


def _formulas(page: Page) -> list[Shape]:
    """Say what the three numbers are, before the first block is read."""
    lines = (
        "Three numbers travel from block to block:",
        "m, the largest score that was seen,",
        "l, the sum of the weights e^(score − m),",
        "acc, the sum of the weights × values.",
        "The attention over the keys seen is acc / l.",
    )
    return [
        Text(page.left, _HAND_TOP + 18 + 23 * number, line, SMALL_SIZE)
        for number, line in enumerate(lines)
    ]


def _comparison(step: Answer, page: Page) -> list[Shape]:
    """Draw the answer beside that of dense attention."""
    output, right = step.before.output, dense_answer()
    agrees = is_close(output, right)
    scale = (page.right - page.left - 90) / 120
    shapes: list[Shape] = []
    for number, (name, answer) in enumerate((("by blocks", output), ("dense", right))):
        top = _HAND_TOP + 8 + number * (_CELL + 10)
        width = bar_width(answer, 120, 120 * scale)
        shapes += [
            _name(name, top + 20),
            Rect(
                page.left,
                top,
                width,
                _CELL,
                "series-3" if number == 0 else "reference",
                tooltip=f"{name}: {shown(answer)}",
                key=f"answer-{number}",
            ),
            Text(page.left + width + 10, top + 21, shown(answer), key=f"answer-{number}-says"),
        ]
    says = "They agree." if agrees else "They do not agree."
    y = _HAND_TOP + 8 + 2 * (_CELL + 10) + 18
    shapes.append(Text(page.left, y, says, tone="text" if agrees else "alert"))
    return shapes


def bar_width(number: float, most: float, room: float) -> float:
    """Return how wide a bar is; what cannot be drawn has none, and too much fills the room.

    >>> bar_width(3, 6, 100), bar_width(float("nan"), 6, 100), bar_width(9, 6, 100)
    (50.0, 0.0, 100.0)
    """
    if math.isnan(number) or number <= 0:
        return 0.0
    return float(min(number / most, 1) * room)


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
            y = top + 16 + number * (3 * _ROW + 40)
            found.append(_Panel(page.left, y, page.right - page.left, False, most, name))
    return found


def _row_names(step: Step, panel: _Panel, page: Page) -> list[Shape]:
    """Name the rows, and say in the wide form what the sums of each are multiplied by."""
    shapes: list[Shape] = []
    for row, name in enumerate(_rows(step)):
        y = panel.bar_top(row) + 13
        says = _factor_text(step, row) if page.is_wide else ""
        shapes.append(_name(name, y - 14 if says else y))
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
            says = f"{shown(amount)} × {shown(factors[row])} = {shown(shrunk[row])}"
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
    """Write acc / l of each row."""
    last = panels[-1]
    x = last.x + last.width + 18 if page.is_wide else page.left
    top = last.top if page.is_wide else last.bar_top(2) + _BAR + 30
    shapes: list[Shape] = [Text(x, top, "acc / l", SMALL_SIZE, is_bold=True)]
    states = [step.before]
    if isinstance(step, Reading):
        states.append(step.block)
    if isinstance(step, Merging):
        states.append(step.together)
    for row, (name, state) in enumerate(zip(_rows(step), states, strict=True)):
        says = "" if state.is_empty else shown(state.output)
        if page.is_wide:
            y = last.bar_top(row) + 13
        else:
            y = top + 24 * (row + 1)
            shapes.append(_name(name, y))
        shapes.append(Text(x, y, says, SMALL_SIZE, key=f"output-{row}"))
    return shapes


def visible(shapes: Sequence[Shape]) -> list[Shape]:
    """Leave out the bars of nothing, which a renderer would draw as a line.

    >>> len(visible([Rect(0, 0, 0, 16, "used"), Rect(0, 0, 1, 16, "used")]))
    1
    """
    return [shape for shape in shapes if not isinstance(shape, Rect) or shape.width > 0]


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


def paragraphs(words: Sequence[str], top: float, width: float) -> list[Shape]:
    """Write sentences below each other, each in as many lines as it takes.

    Args:
        words: The sentences.
        top: Where they begin.
        width: Width of the picture.
    """
    shapes: list[Shape] = []
    for each in words:
        for line in wrapped(each, width - 2 * MARGIN, SMALL_SIZE):
            shapes.append(Text(MARGIN, top + 15, line, SMALL_SIZE))
            top += 22
        top += 8
    return shapes

"""A step of a request as a picture: who worked for it and when, its blocks, and its text."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from course_lib.engine.tracing.events import COMPONENTS
from course_lib.viz.kit.layout import WIDE, bottom_of, legend, text_width, wrapped
from course_lib.viz.kit.scene import Scene
from course_lib.viz.kit.shapes import HEADING_SIZE, SMALL_SIZE, Line, Rect, Shape, Text
from course_lib.viz.request_trace.reading import RequestReading, TokenTrace

TITLE = "One request through the engine"
_MARGIN = 24.0
_NAMES = 132.0  # width of the column in which lanes and rows are called by their names
_LANE, _ROW, _LINE = 22.0, 30.0, 21.0
_NARROWEST_STEP, _WIDEST_STEP = 8.0, 26.0
_TILE, _TOKEN = 34.0, 26.0
_LEGEND_NAMES = {
    "running": "at work for it, in use",
    "waiting": "waits, held back, not in the cache",
    "cached": "prefix hit",
    "free": "blocks given back; to come",
}


@dataclass(frozen=True)
class Page:
    """Where things are, the same in all pictures of a film.

    Attributes:
        width: Width of the picture.
        reading: The request.
    """

    width: float
    reading: RequestReading

    @property
    def room(self) -> float:
        """Width between the names and the right edge."""
        return self.width - 2 * _MARGIN - _NAMES

    @property
    def left(self) -> float:
        """Where lanes and rows begin."""
        return _MARGIN + _NAMES

    @property
    def num_columns(self) -> int:
        """Steps that there is room for."""
        return min(len(self.reading.steps), int(self.room // _NARROWEST_STEP))

    @property
    def column(self) -> float:
        """Width of a step."""
        return min(self.room / self.num_columns, _WIDEST_STEP)

    def window(self, step: int) -> range:
        """Return the steps that are drawn when one of them is open."""
        steps = self.reading.steps
        first = min(max(step - self.num_columns // 2, steps.start), steps.stop - self.num_columns)
        return range(first, first + self.num_columns)

    def lines(self, step: int) -> list[str]:
        """Return the words of a step, in lines that fit."""
        told = [" ".join(line.split()) for line in self.reading.words(step)]
        return [
            part for line in told for part in wrapped(line, self.width - 2 * _MARGIN, SMALL_SIZE)
        ]

    @property
    def num_lines(self) -> int:
        """Lines of the step that has most to tell."""
        return max(len(self.lines(step)) for step in self.reading.steps)


def step_scene(reading: RequestReading, step: int, width: float = WIDE) -> Scene:
    """Draw a step of a request.

    Args:
        reading: The request.
        step: The step.
        width: Width of the picture.
    """
    page = Page(width, reading)
    shapes: list[Shape] = [
        Text(_MARGIN, 30, _heading(reading, step), HEADING_SIZE, is_bold=True),
        *_lanes(page, step, 46),
    ]
    top = 46 + (len(COMPONENTS) + len(reading.others)) * _LANE + 44
    for number, line in enumerate(page.lines(step)):
        shapes.append(Text(_MARGIN, top + number * _LINE, line, SMALL_SIZE, is_bold=number == 0))
    top += page.num_lines * _LINE + 8
    shapes += _blocks(page, step, top)
    top += 24 + (1 + len(reading.others)) * _ROW + 14
    shapes += _text(page, step, top)
    top += 30 + _num_rows(page) * (_TOKEN + 6)
    shapes += legend(_states(reading), _MARGIN, top + 4, width - 2 * _MARGIN, _LEGEND_NAMES)
    return Scene(width, bottom_of(shapes) + 12, tuple(shapes), TITLE, summary(reading, step))


def summary(reading: RequestReading, step: int) -> str:
    """Say what the picture of a step shows."""
    table = reading.tables[step]
    held = f"blocks {' '.join(map(str, table))}" if table else "no block"
    told = " ".join(f"{' '.join(line.split())}." for line in reading.words(step))
    known = reading.known_at(step)
    return (
        f"{_heading(reading, step)}. {told} Then it holds {held}; "
        f"{reading.computed_at(step)} of {known} known tokens are in the cache. "
        f"The user has {reading.shown_at(step)!r}."
    )


def token_words(reading: RequestReading, token: TokenTrace) -> str:
    """Say of a token when it was chosen, and where its keys and values went.

    >>> from course_lib.engine.tracing.recorded import vllm_runs
    >>> reading = RequestReading(vllm_runs()["in turn"], "followed", block_size=8)
    >>> token_words(reading, reading.tokens[0]).partition("; ")[2]
    'position 32, computed in step 5, block 9, slot 72'
    """
    said = f"Token {token.number} of the answer, {token.text!r}: chosen in step {token.step}"
    if token.computed_in is None:
        return f"{said}; position {token.position}, never computed"
    said += f"; position {token.position}, computed in step {token.computed_in}"
    return said if token.block is None else f"{said}, block {token.block}, slot {token.slot}"


def _heading(reading: RequestReading, step: int) -> str:
    return f"{reading.request_id!r}, step {step} of {reading.steps[0]} to {reading.steps[-1]}"


def _lanes(page: Page, step: int, top: float) -> Iterator[Shape]:
    """Draw the components and the other requests over the steps, and where we are."""
    reading, window = page.reading, page.window(step)
    for row, component in enumerate(COMPONENTS):
        marks = {each: reading.mark(component, each) for each in window}
        yield from _lane(page, component, marks, top + row * _LANE)
    for row, (name, phases) in enumerate(reading.others.items(), len(COMPONENTS)):
        marks = {each: phases.get(each, "") for each in window}
        yield from _lane(page, name, marks, top + row * _LANE)
    bottom = top + (len(COMPONENTS) + len(reading.others)) * _LANE
    for each in window:
        if each % 5 == 0:
            x = page.left + (each - window.start + 0.5) * page.column
            yield Text(x, bottom + 17, str(each), SMALL_SIZE, "middle", tone="muted")
    x = page.left + (step - window.start) * page.column
    yield Rect(x, top - 3, page.column, bottom - top + 4, outline="bold", key="now")


def _lane(page: Page, name: str, marks: dict[int, str], top: float) -> Iterator[Shape]:
    """Draw a lane with its name."""
    yield Text(_MARGIN, top + 15, _cut(name), SMALL_SIZE)
    first = min(marks)
    end = page.left + len(marks) * page.column
    yield Line(((page.left, top + 19), (end, top + 19)), "faint", thickness=1)
    for step, state in marks.items():
        if state:
            yield Rect(
                page.left + (step - first) * page.column + 0.5,
                top + 2,
                page.column - 1,
                _LANE - 6,
                state,
                tooltip=f"{name}, step {step}",
                key=f"{name} {step}",
                of=("step", step),
            )


def _blocks(page: Page, step: int, top: float) -> Iterator[Shape]:
    """Draw who holds which blocks at the end of the step."""
    reading = page.reading
    tables = {reading.request_id: reading.tables[step], **reading.tables_of_others(step)}
    holders = [block for table in tables.values() for block in table]
    most = int(page.room // _TILE)
    yield Text(_MARGIN, top + 14, "the blocks that are held then", SMALL_SIZE, is_bold=True)
    for row, (name, table) in enumerate(tables.items()):
        y = top + 24 + row * _ROW
        yield Text(_MARGIN, y + 17, _cut(name), SMALL_SIZE)
        for place, block in enumerate(table[:most]):
            is_shared = holders.count(block) > 1
            yield Rect(
                page.left + 8 + place * _TILE,
                y,
                _TILE - 4,
                _ROW - 6,
                "shared" if is_shared else "in_use",
                label=str(block),
                tooltip=f"block {block}: slots {_slots(reading, block)}",
                key=f"{name} block {place}",
                of=("block", block),
            )
        if not table:
            yield Text(page.left + 8, y + 17, "none", SMALL_SIZE, tone="muted")


def _cut(name: str) -> str:
    """Return a name as long as there is room for it."""
    while text_width(name, SMALL_SIZE) > _NAMES - 8:
        name = f"{name[:-2]}…"
    return name


def _slots(reading: RequestReading, block: int) -> str:
    first = block * reading.block_size
    return f"{first} to {first + reading.block_size - 1}"


def _text(page: Page, step: int, top: float) -> Iterator[Shape]:
    """Draw the tokens of the answer: those in the cache, those that are not, and the rest."""
    reading = page.reading
    computed = reading.computed_at(step)
    chosen = sum(token.step <= step for token in reading.tokens)
    words = f"the answer: {chosen} of {len(reading.tokens)} tokens are chosen"
    yield Text(_MARGIN, top + 14, words, SMALL_SIZE, is_bold=True)
    for (x, row, width, label), token in zip(_places(page), reading.tokens, strict=True):
        state = "running" if token.position < computed else "waiting"
        yield Rect(
            x,
            top + 26 + row * (_TOKEN + 6),
            width,
            _TOKEN,
            "free" if token.step > step else state,
            label=label,
            tooltip=token_words(reading, token),
            key=f"token {token.number}",
            outline="bold" if token.step == step else "thin",
            of=("token", token.number),
            lights=() if token.block is None else (("block", token.block),),
        )


def _places(page: Page) -> Iterator[tuple[float, int, float, str]]:
    """Yield where each token stands: x, row, width, and what it is called there."""
    x, row = _MARGIN, 0
    for token in page.reading.tokens:
        label = token.text.strip(" ").replace("\n", "\\n")[:20] or "␣"
        width = text_width(label, SMALL_SIZE) + 12
        if x > _MARGIN and x + width > page.width - _MARGIN:
            x, row = _MARGIN, row + 1
        yield x, row, width, label
        x += width + 4


def _num_rows(page: Page) -> int:
    rows = [row for _, row, _, _ in _places(page)]
    return rows[-1] + 1 if rows else 0


def _states(reading: RequestReading) -> list[str]:
    """Return what the legend names in all pictures of a film."""
    marks = {reading.mark(component, step) for component in COMPONENTS for step in reading.steps}
    order = ("running", "prefill", "decode", "cached", "shared", "swapped", "copied")
    rest = ("waiting", "preempted", "free", "finished")
    return [state for state in (*order, *rest) if state in marks | {"shared", "waiting", "free"}]

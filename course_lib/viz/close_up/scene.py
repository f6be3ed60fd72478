"""One moment of an iteration of a real run: the limits, who runs, who waits, and why."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from course_lib.scheduling.request import RequestStatus
from course_lib.scheduling.watch.moments import Happening, Moment
from course_lib.viz.close_up import time_line
from course_lib.viz.close_up.run import Run
from course_lib.viz.iteration.bars import BAR_NAMES, end_of, kind_of, outline_of, request_bar
from course_lib.viz.iteration.words import (
    limit_of,
    num_blocks,
    num_free,
    people,
    share_text,
    table_of,
    waiting_texts,
)
from course_lib.viz.kit.layout import WIDE, bottom_of, fitting, legend, text_width, wrapped
from course_lib.viz.kit.scene import Scene
from course_lib.viz.kit.shapes import HEADING_SIZE, SMALL_SIZE, Line, Rect, Shape, Text, Tone

TITLE = "One iteration of a real run, decision by decision"
MARGIN = 24
_LINE, _LIMIT, _BAR = 18, 20, 13
_LIMITS = {"budget": "budget", "blocks": "pool"}
"""What the limits are called, by the names that reasons have for them."""
_NAME = 54
"""Pixels for the name of a request, and the hand behind it."""
_STATES = ("in_use", "prefill", "decode", "waiting", "preempted", "free")
"""What every legend has."""


@dataclass(frozen=True)
class Column:
    """Where rows of requests stand.

    Attributes:
        left: Where names begin.
        bar: Where bars begin.
        end: Where bars end at most.
        right: Where the column ends.
        rows: How many requests there is room for.
    """

    left: float
    bar: float
    end: float
    right: float
    rows: int


@dataclass(frozen=True)
class Page:
    """Where things are, the same in all pictures of a film.

    Attributes:
        width: Width of the picture.
        most_tokens: What the longest bar has room for.
        states: What the legend names.
    """

    width: float
    most_tokens: int
    states: tuple[str, ...]

    @property
    def is_wide(self) -> bool:
        """Whether there is room beside things, and not only below them."""
        return self.width >= WIDE

    @property
    def left(self) -> float:
        """Where bars begin: of the time line, of the limits, and of those who run."""
        return MARGIN + 84

    @property
    def limit_right(self) -> float:
        """Where they end."""
        return self.width - (238 if self.is_wide else 186)

    @property
    def running(self) -> Column:
        """Where those who run stand."""
        if self.is_wide:
            return Column(MARGIN, self.left, 386, 560, 14)
        return Column(MARGIN, self.left, 284, self.width - MARGIN, 6)

    @property
    def waiting(self) -> Column:
        """Where those who wait stand: beside, or below where the page is narrow."""
        if self.is_wide:
            return Column(576, 640, 918, 936, 8)
        return Column(MARGIN, self.left, 284, self.width - MARGIN, 3)

    @property
    def note_lines(self) -> int:
        """How many lines there are for reasons."""
        return 5 if self.is_wide else 4

    def places(self, column: Column) -> Scaled:
        """Return where bars of so many tokens end in a column."""
        return Scaled(column.bar, (column.end - column.bar) / self.most_tokens)


@dataclass(frozen=True)
class Scaled:
    """Returns where a bar of so many tokens ends.

    >>> Scaled(100, 0.5)(60)
    130.0
    """

    start: float
    per_token: float

    def __call__(self, count: int) -> float:
        """Return the place in pixels."""
        return self.start + self.per_token * count


def most_tokens(moments: Sequence[Moment]) -> int:
    """Return how long the longest bar is in some moments, in tokens."""
    states = [each.state for each in moments]
    return max((end_of(r) for state in states for r in state.requests.values()), default=1)


def states_of(moments: Sequence[Moment]) -> tuple[str, ...]:
    """Return what the legend names in all pictures of some moments."""
    requests = [r for each in moments for r in each.state.requests.values()]
    is_swapped = any(request.status is RequestStatus.SWAPPED for request in requests)
    is_ahead = any(request.num_tokens_ahead for request in requests)
    return (*_STATES, *["swapped"] * is_swapped, *["speculative"] * is_ahead)


def moment_scene(
    run: Run, moment: Moment, gave_way: Mapping[str, str], caption: str, page: Page
) -> Scene:
    """Draw a moment below the whole run.

    Args:
        run: The run.
        moment: The moment.
        gave_way: Why requests have given way in this iteration, by their names.
        caption: What has just happened.
        page: Where things are.
    """
    shapes: list[Shape] = [
        Text(MARGIN, 30, _heading(run, moment, page), HEADING_SIZE, is_bold=True)
    ]
    top = 44.0
    if run.problem:
        for line in wrapped(stopped_text(run), page.width - 2 * MARGIN, SMALL_SIZE)[:3]:
            shapes.append(Text(MARGIN, top + 10, line, SMALL_SIZE, tone="alert", is_bold=True))
            top += _LINE
    right = page.width - MARGIN
    shapes += time_line.draw_time_line(run, moment.step, MARGIN, page.left, right, top)
    top += time_line.height_of(run) + 12
    shapes += _budget(moment, page, top)
    shapes += _pool(moment, page, top + _LIMIT + 8)
    top += 2 * (_LIMIT + 8) + 8
    shapes += _running(moment, page, top)
    below = top + 26 + page.running.rows * _LINE
    shapes += _waiting(moment, gave_way, page, top if page.is_wide else below + 6)
    if not page.is_wide:
        below += 32 + (page.waiting.rows + page.note_lines) * _LINE
    shapes += legend(page.states, MARGIN, below + 6, page.width - 2 * MARGIN, BAR_NAMES)
    return Scene(
        page.width,
        bottom_of(shapes) + 12,
        tuple(shapes),
        title=TITLE,
        alt=f"{_heading(run, moment, page)}. {caption} {summary(moment, gave_way)}",
    )


def stopped_text(run: Run) -> str:
    """Say where and why a run has stopped."""
    return f"The scheduler stopped at {run.seconds:.2f} s: {run.problem}"


def summary(moment: Moment, gave_way: Mapping[str, str]) -> str:
    """Say what the picture shows: the limits, who has got what, who gave way, and who waits."""
    state = moment.state
    num_single = sum(count == 1 for count in moment.plan.values())
    got = [f"{num_single} got 1 token"] if num_single else []
    got += [f"{name} got {count:,}" for name, count in moment.plan.items() if count > 1]
    run, wait = len(state.running), len(state.waiting) + len(state.swapped)
    return " ".join(
        [
            f"{people(run, 'run').capitalize()}, {people(wait, 'wait')}.",
            f"So far {', '.join(got) or 'nobody got any token'}.",
            *(f"{_left_text(moment, limit)}." for limit in _LIMITS),
            *(_gave_way_text(name, why) for name, why in gave_way.items()),
            *waiting_texts(moment),
        ]
    )


def _left(moment: Moment, limit: str) -> tuple[int, int, str]:
    """Return how much there is left of a limit, how much there is in all, and of what."""
    if limit == "budget":
        return moment.budget_left, moment.state.max_num_batched_tokens, "tokens"
    return num_free(moment), num_blocks(moment), "blocks"


def _left_text(moment: Moment, limit: str) -> str:
    left, total, unit = _left(moment, limit)
    return f"{left:,} of {total:,} {unit} left"


def _heading(run: Run, moment: Moment, page: Page) -> str:
    at = f"{run.glances[moment.step].start:.2f} s"
    return fitting(
        page.width - 2 * MARGIN,
        f"Iteration {moment.step:,} of a run of {len(run.glances):,}, at {at}",
        f"Iteration {moment.step:,}, at {at}",
        size=HEADING_SIZE,
    )


def _limit(moment: Moment, page: Page, top: float, limit: str) -> Iterator[Shape]:
    """Draw the box of a limit, in bold if it is what holds somebody up, and its words."""
    name = _LIMITS[limit]
    x = page.limit_right + 10
    left, _, unit = _left(moment, limit)
    says = _left_text(moment, limit)
    words = fitting(page.width - MARGIN - x + 11, says, f"{left:,} {unit} left")
    yield Text(MARGIN, top + 15, name, SMALL_SIZE, is_bold=True)
    yield Text(x, top + 15, words, SMALL_SIZE, key=f"{limit}-says")
    yield Rect(
        page.left,
        top,
        page.limit_right - page.left,
        _LIMIT,
        "free",
        tooltip=f"{name}: {says}",
        key=f"limit-{limit}",
        outline="bold" if limit == limit_of(moment.reason) else "thin",
        of=("limit", limit),
    )


def _budget(moment: Moment, page: Page, top: float) -> Iterator[Shape]:
    """Draw the token budget, which fills in the order of service."""
    yield from _limit(moment, page, top, "budget")
    per_token = (page.limit_right - page.left) / moment.state.max_num_batched_tokens
    x = page.left
    for name, count in moment.plan.items():
        tooltip = f"{name} computes {count:,} in this iteration"
        box = _share(name, "grant", kind_of(moment, name), x, top, count * per_token, tooltip)
        yield replace(box, label=fitting(box.width, f"{name}: {count:,}", f"{count:,}"))
        x += box.width


def _pool(moment: Moment, page: Page, top: float) -> Iterator[Shape]:
    """Draw the pool: the blocks of each request, in the order of admission."""
    yield from _limit(moment, page, top, "blocks")
    per_block = (page.limit_right - page.left) / num_blocks(moment)
    x, blocks = page.left, moment.blocks["blocks"]
    for name in moment.state.running:
        # A block that several hold is drawn once, with the first of them.
        count = sum(blocks[each]["owners"][:1] == [name] for each in table_of(moment, name))
        if count:
            tooltip = f"{name} holds {count:,} blocks"
            box = _share(name, "pool", "in_use", x, top, count * per_block, tooltip)
            yield replace(box, label=fitting(box.width, name))
            x += box.width


def _share(
    name: str, what: str, state: str, x: float, top: float, width: float, tooltip: str
) -> Rect:
    """Draw what a request has of a limit."""
    return Rect(
        x,
        top,
        width,
        _LIMIT,
        state,
        tooltip=tooltip,
        key=f"{what}-{name}",
        outline=outline_of(width),
        of=("request", name),
    )


def _running(moment: Moment, page: Page, top: float) -> Iterator[Shape]:
    """Draw those who run, in the order of service, with the hand at whom it is about."""
    names, column = moment.state.running, page.running
    first = _first_shown(moment, column.rows)
    shown = names[first : first + column.rows]
    yield _title("running, in the order of service", "running", names, first, shown, column, top)
    for number, name in enumerate(shown):
        y = top + 26 + number * _LINE
        yield from _row(moment, page, column, y, name)
        room = column.right - column.end - 10
        says = share_text(moment, moment.state.requests[name])
        words = fitting(room + 11, says, says.replace("gets ", ""))
        yield Text(column.end + 10, y + 12, words, SMALL_SIZE, key=f"{name}-says")


def _first_shown(moment: Moment, rows: int) -> int:
    """Return who stands in the first row, so that whom it is about is in one of them."""
    names = moment.state.running
    if len(names) <= rows or moment.happening is Happening.BEGINS:
        return 0
    is_there = moment.request_id in names
    # Whom a victim makes room for is the next to be served.
    reached = len(moment.plan) + (moment.happening is Happening.PREEMPTS)
    if is_there:
        reached = names.index(moment.request_id) + 1
    return min(max(reached - rows, 0), len(names) - rows)


def _waiting(
    moment: Moment, gave_way: Mapping[str, str], page: Page, top: float
) -> Iterator[Shape]:
    """Draw those who wait, the ones on the CPU first, and below them why."""
    names, column = (*moment.state.swapped, *moment.state.waiting), page.waiting
    shown = names[: column.rows]
    # Under priority, one that waits may be more urgent than those on the CPU.
    order = "those on the CPU" if moment.state.swapped else "next in line"
    yield _title(f"waiting, {order} first", "waiting", names, 0, shown, column, top)
    for number, name in enumerate(shown):
        yield from _row(moment, page, column, top + 26 + number * _LINE, name)
    y = top + 44 + len(shown) * _LINE
    lines = [(line, tone) for text, tone in _notes(moment, gave_way) for line in _fit(text, column)]
    if len(lines) > page.note_lines:
        lines = [*lines[: page.note_lines - 1], ("…", "muted")]
    for number, (line, tone) in enumerate(lines):
        yield Text(column.left, y + number * _LINE, line, SMALL_SIZE, tone=tone)


def _fit(text: str, column: Column) -> Sequence[str]:
    return wrapped(text, column.right - column.left, SMALL_SIZE)


def _notes(moment: Moment, gave_way: Mapping[str, str]) -> Iterator[tuple[str, Tone]]:
    """Yield why requests have given way, and why others wait."""
    for name, why in gave_way.items():
        yield _gave_way_text(name, why), "alert"
    for text in waiting_texts(moment):
        yield text, "alert" if limit_of(text) or "passed over" in text else "text"


def _gave_way_text(name: str, why: str) -> str:
    return f"{name} gave way: {why}."


def _title(
    long: str,
    short: str,
    names: Sequence[str],
    first: int,
    shown: Sequence[str],
    column: Column,
    top: float,
) -> Text:
    """Write the title of a column, and which of how many it shows."""
    count = f"{len(names):,}" if names else "nobody"
    if len(shown) < len(names):
        count = f"{first + 1:,} to {first + len(shown):,} of {len(names):,}"
    room = column.right - column.left + 11
    words = fitting(room, f"{long}: {count}", f"{short}: {count}")
    return Text(column.left, top + 14, words, SMALL_SIZE, tone="muted", key=f"title-{short}")


def _row(moment: Moment, page: Page, column: Column, top: float, name: str) -> Iterator[Shape]:
    """Draw a request: its name, the hand if it is about it, and its bar."""
    shown = name
    while text_width(shown, SMALL_SIZE) > _NAME:
        shown = f"{shown[:-2]}…"
    thing = ("request", name)
    yield Text(column.left, top + 12, shown, SMALL_SIZE, is_bold=True, key=f"{name}-name", of=thing)
    if name == moment.request_id:
        y = top + _BAR / 2
        points = ((column.bar - 24, y), (column.bar - 4, y))
        yield Line(points, thickness=3, has_arrow=True, key="hand")
    place = page.places(column)
    yield from request_bar(moment, moment.state.requests[name], place, top, _BAR)

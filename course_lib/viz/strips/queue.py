"""Lesson 4's figure: one strip of memory for each allocator, the same queue before all of them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache, partial
from itertools import islice

from course_lib.kv_cache.allocators import (
    BestFitAllocator,
    BuddyAllocator,
    FirstFitAllocator,
    Span,
    WorstFitAllocator,
)
from course_lib.kv_cache.reservation import HasLengths
from course_lib.kv_cache.sizing import require_block_size
from course_lib.simulation.workload import Workload, load_azure
from course_lib.viz.kit import static
from course_lib.viz.kit.charts.axes import Scale
from course_lib.viz.kit.layout import NARROW, WIDE, fitting, legend, text_width, wrapped
from course_lib.viz.kit.player import Frame, Player, sheet_positions, step_text
from course_lib.viz.kit.scene import Scene
from course_lib.viz.kit.shapes import SMALL_SIZE, TEXT_SIZE, Group, Rect, Shape, Text, Thing, Tone
from course_lib.viz.kit.words import counted
from course_lib.viz.strips.pieces import MakeAllocator, Piece, colour_of
from course_lib.viz.strips.rows import (
    PAGING,
    Instant,
    Memory,
    Score,
    instants,
    make_rows,
)
from course_lib.viz.strips.words import caption_of, event_of, in_words, score_caption

ALLOCATORS: dict[str, MakeAllocator] = {
    "first fit": FirstFitAllocator,
    "best fit": BestFitAllocator,
    "worst fit": WorstFitAllocator,
    "buddy": BuddyAllocator,
}
"""The course's own allocators, by the names of their rows."""

_MARGIN = 24
# Five rows, their film's slider and its sentence fit into a notebook in a window of 1,280 x 800.
_ROW = 74
_STRIP, _STRIP_HEIGHT = 22, 24
_NEED, _NEED_HEIGHT = 50, 10
_FOOTER = 52
_MOST_SUMMANDS = 6
_NARROWEST_FRAMED = 6  # pixels; a thinner piece would be all outline


def allocation_strips(
    allocators: Mapping[str, MakeAllocator] | None = None,
    requests: Sequence[HasLengths] | None = None,
    num_slots: int = 4400,
    block_size: int | None = 16,
) -> Player:
    """Replay one queue of requests before several allocators, a strip of memory for each.

    All requests are in the queue from the start, lengths are known, and each reserves exactly what
    it will need; under paging, blocks as it grows. The last frame compares what came of it. A row
    whose allocator raises an error, or hands out a slot twice, says so; the others go on.

    Args:
        allocators: Makes each allocator from a number of slots, by the name of its row, such as
            ``{"yours": MyAllocator}``; by default first, best and worst fit, and buddy.
        requests: Prompt and output lengths; by default the first 60 conversations of Azure's trace,
            or of its synthetic twin, that have at most 1,024 tokens.
        num_slots: Slots of each memory.
        block_size: Slots per block of the last row, paging; None for no such row.

    Raises:
        ValueError: There are no requests or no rows, a request is longer than the memory,
            ``block_size`` is less than 1, or an allocator is called as the row for paging is.

    >>> film = allocation_strips()
    >>> film.film[0].event, film.film[-1].event
    ('the first in line waits', 'the end')
    """
    requests = conversations() if requests is None else requests
    allocators = ALLOCATORS if allocators is None else allocators
    _require_a_figure(allocators, requests, num_slots, block_size)
    return QueueFilm(_moments(allocators, requests, num_slots, block_size))


def conversations(count: int = 60, most_tokens: int = 1024) -> Workload:
    """Return the first conversations of Azure's trace, or of its synthetic twin, that are short.

    Args:
        count: How many.
        most_tokens: The most tokens that one may have, prompt and output.

    >>> all(each.prompt_tokens + each.output_tokens <= 1024 for each in conversations())
    True
    """
    workload = load_azure("conversation")
    short = (r for r in workload if r.prompt_tokens + r.output_tokens <= most_tokens)
    return replace(workload, requests=tuple(islice(short, count)))


def _require_a_figure(
    allocators: Mapping[str, MakeAllocator],
    requests: Sequence[HasLengths],
    num_slots: int,
    block_size: int | None,
) -> None:
    """Raise ValueError if there is nothing to draw."""
    if not requests:
        raise ValueError("there are no requests to replay; pass at least 1")
    if not allocators and block_size is None:
        raise ValueError("there is no allocator and no paging; pass at least one allocator")
    if block_size is not None:
        require_block_size(block_size)
    if block_size is not None and PAGING in allocators:
        raise ValueError(f"an allocator is called {PAGING!r}, as the last row is; rename it")
    longest = max(each.prompt_tokens + each.output_tokens for each in requests)
    if longest > num_slots:
        raise ValueError(
            f"a request has {longest} tokens, but the memory has {num_slots} slots; "
            "leave it out or raise num_slots"
        )


@dataclass(frozen=True)
class _Moment:
    """One frame of the film, which can be drawn whenever it is wanted.

    Attributes:
        draw: Draws it, for a width.
        caption: What has just happened.
        event: What a reader looks for; empty for most.
    """

    draw: Callable[[float], Scene]
    caption: str
    event: str

    def frame(self) -> Frame:
        """Draw it in both forms."""
        return Frame(self.draw(WIDE), self.caption, self.event, self.draw(NARROW))


class QueueFilm(Player):
    """A film whose moments are all known before the first is drawn.

    To replay the queue is quick, to draw it is not. So the static twin can tell the end while the
    film is still being drawn.

    Args:
        moments: The moments, in order.
    """

    def __init__(self, moments: Sequence[_Moment]) -> None:
        self._moments = moments
        super().__init__(moment.frame() for moment in moments)

    @property
    def description(self) -> str:
        """How the film begins and how it ends, for whoever cannot see it."""
        first = self.frames[0]["scene"]["alt"]
        total = f"{len(self._moments):,} pictures"
        return f"{self.name}. {first} The first of {total}. {self._moments[-1].caption}"

    def static(self, indices: Sequence[int] | None = None) -> static.StaticFigure:
        """Return chosen frames side by side, as a matplotlib figure.

        Args:
            indices: Positions of the frames; by default the first, the last and the events.
        """
        total = len(self._moments)
        if indices is None:
            indices = sheet_positions(total, [k for k, m in enumerate(self._moments) if m.event])
        return static.contact_sheet(
            [self._moments[index].draw(WIDE) for index in indices],
            [step_text(index, total, self._moments[index].caption) for index in indices],
        )


def _moments(
    allocators: Mapping[str, MakeAllocator],
    requests: Sequence[HasLengths],
    num_slots: int,
    block_size: int | None,
) -> list[_Moment]:
    """Return the moments of the film, and the scoreboard."""
    rows = make_rows(allocators, requests, num_slots, block_size)
    named = f": {requests.name}" if isinstance(requests, Workload) else ""
    source = f"{len(requests):,} requests{named}"
    seen = list(instants(rows))
    moments = [
        _Moment(
            partial(strips_scene, now, num_slots, source=source),
            caption_of(before, now),
            event_of(before, now),
        )
        for before, now in zip([None, *seen], seen, strict=False)
    ]
    scores = [row.score for row in rows]
    the_end = partial(scores_scene, scores, source=source)
    return [*moments, _Moment(the_end, score_caption(scores), "the end")]


def strips_scene(instant: Instant, num_slots: int, width: float = WIDE, source: str = "") -> Scene:
    """Draw the memory of every allocator in one iteration.

    Args:
        instant: The iteration.
        num_slots: Slots of each memory.
        width: Width of the picture.
        source: What the requests are.
    """
    shapes, top = _header(
        "One queue, one strip of memory for each allocator",
        f"iteration {instant.step:,}",
        f"Each strip is {num_slots:,} slots of one token. Numbers tell the requests; colours take "
        "turns. Below, to the same scale: what the first in line needs.",
        width,
    )
    scale = Scale(0, num_slots, _MARGIN, width - _MARGIN)
    for name, memory in instant.memories.items():
        row = _DrawnRow(name, top, scale)
        if memory is None:
            shapes.append(row.group(row.without_memory(instant.problems.get(name, ""))))
        else:
            shapes.append(_with_memory(row, memory))
        top += _ROW
    shapes += _footer({"free": "free", "internal": "rounded up, never used"}, source, top, width)
    return Scene(
        width,
        top + _FOOTER,
        tuple(shapes),
        title="One queue before several allocators",
        alt=f"Iteration {instant.step:,}. "
        + " ".join(in_words(name, each, instant) for name, each in instant.memories.items()),
    )


def _header(title: str, said: str, note: str, width: float) -> tuple[list[Shape], float]:
    """Return the title of a picture, what stands opposite to it, and a note; and where they end."""
    room = width - 2 * _MARGIN
    title = fitting(room - 140, title, title.partition(",")[0], size=TEXT_SIZE)
    shapes: list[Shape] = [
        Text(_MARGIN, 32, title, TEXT_SIZE, is_bold=True),
        Text(width - _MARGIN, 32, said, TEXT_SIZE, "end"),
    ]
    baseline = 34.0
    for line in wrapped(note, room, SMALL_SIZE):
        baseline += 21
        shapes.append(Text(_MARGIN, baseline, line, SMALL_SIZE, tone="muted"))
    return shapes, baseline + 18


def _footer(names: Mapping[str, str], source: str, top: float, width: float) -> list[Shape]:
    """Return a legend, and below it what the requests are."""
    return [
        *legend(names, _MARGIN, top, width - 2 * _MARGIN, names),
        Text(_MARGIN, top + 40, source, SMALL_SIZE, tone="muted"),
    ]


def _cut(text: str, room: float, size: float = SMALL_SIZE) -> str:
    """Return the text, cut where there is no more room."""
    while text_width(text, size) > room:
        text = f"{text[:-2]}…"
    return text


@lru_cache(maxsize=64)
def _with_memory(row: _DrawnRow, memory: Memory) -> Group:
    """Return a row; what has not changed since the frame before is not drawn anew."""
    return row.group(row.with_memory(memory))


@dataclass(frozen=True)
class _DrawnRow:
    """Where a row of the figure is.

    Attributes:
        name: What its allocator is called.
        top: Its upper edge.
        scale: From slots to pixels.
    """

    name: str
    top: float
    scale: Scale

    @property
    def room(self) -> float:
        """Pixels of all slots."""
        return self.scale.end - self.scale.start

    def group(self, shapes: Iterable[Shape]) -> Group:
        """Return shapes of the row as one, in which nothing is taken for a part of another row."""
        return Group(tuple(shapes), key=self.name)

    def title(self, said: str, *, is_alert: bool) -> Iterator[Shape]:
        """Yield the name of the row, and what is the matter with it at the right."""
        baseline = self.top + 16
        # Bold letters are wider than the estimate.
        name = _cut(self.name, 0.4 * self.room, TEXT_SIZE)
        yield Text(self.scale.start, baseline, name, TEXT_SIZE, is_bold=True, key=f"{self.name}/")
        tone: Tone = "alert" if is_alert else "muted"
        yield Text(self.scale.end, baseline, said, SMALL_SIZE, "end", tone, is_alert)

    def without_memory(self, problem: str) -> Iterator[Shape]:
        """Draw the row of an allocator before which nobody waits, or that went wrong."""
        yield from self.title("went wrong" if problem else "", is_alert=bool(problem))
        yield Rect(
            self.scale.start,
            self.top + _STRIP,
            self.room,
            _STRIP_HEIGHT,
            key=f"{self.name}/memory",
            outline="dashed",
            tooltip=problem,
        )
        said = _cut(problem or "nobody waits: every request runs or is done", self.room - 16)
        baseline = self.top + _STRIP + _STRIP_HEIGHT / 2 + 5
        tone: Tone = "alert" if problem else "muted"
        yield Text(self.scale.start + 8, baseline, said, SMALL_SIZE, tone=tone)

    def with_memory(self, memory: Memory) -> Iterator[Shape]:
        """Draw the strip of an allocator, and below it what the first in line needs."""
        is_alert = memory.free >= memory.needed or memory.is_stuck
        yield from self.title(verdict(memory), is_alert=is_alert)
        yield Rect(
            self.scale.start,
            self.top + _STRIP,
            self.room,
            _STRIP_HEIGHT,
            "free",
            key=f"{self.name}/memory",
        )
        for hole in memory.holes:
            yield self.hole(hole)
        seen: dict[str, int] = {}
        for piece in memory.pieces:
            number = seen[piece.request_id] = seen.get(piece.request_id, -1) + 1
            yield from self.piece(piece, f"{self.name}/{piece.request_id}/{number}")
        yield from self.need(memory)

    def hole(self, hole: Span) -> Rect:
        """Draw a hole, which can be pointed at."""
        left, right = self.scale(hole.offset), self.scale(hole.end)
        return Rect(
            left,
            self.top + _STRIP,
            right - left,
            _STRIP_HEIGHT,
            "free",
            tooltip=f"hole of {hole.size:,} slots: {hole.offset:,} to {hole.end - 1:,}",
            outline="thin" if right - left >= _NARROWEST_FRAMED else "none",
            of=self.thing(hole),
        )

    def thing(self, hole: Span) -> Thing:
        """Return the hole as a thing of the figure."""
        return "hole", f"{self.name} {hole.offset}"

    def piece(self, piece: Piece, key: str) -> Iterator[Shape]:
        """Draw what a request has in one piece, and what was rounded up."""
        left, middle = self.scale(piece.offset), self.scale(piece.offset + piece.asked)
        right = self.scale(piece.offset + piece.size)
        thing: Thing = ("request", piece.request_id)
        last = piece.offset + piece.size - 1
        where = f"request {piece.request_id}: slots {piece.offset:,} to {last:,}"
        yield Rect(
            left,
            self.top + _STRIP,
            middle - left,
            _STRIP_HEIGHT,
            colour_of(piece.request_id),
            fitting(middle - left, piece.request_id),
            where,
            key,
            outline="thin" if middle - left >= _NARROWEST_FRAMED else "none",
            of=thing,
        )
        if piece.size > piece.asked:
            lost = piece.size - piece.asked
            yield Rect(
                middle,
                self.top + _STRIP,
                right - middle,
                _STRIP_HEIGHT,
                "internal",
                tooltip=f"{where}, of them {lost:,} rounded up and never used",
                key=f"{key}/rounded",
                outline="thin" if right - middle >= _NARROWEST_FRAMED else "none",
                of=thing,
            )

    def need(self, memory: Memory) -> Iterator[Shape]:
        """Draw what the first in line needs, as long as a hole would have to be for it."""
        thing: Thing = ("request", memory.first_waiting)
        length = self.scale(memory.needed) - self.scale(0)
        name = memory.first_waiting
        yield Rect(
            self.scale.start,
            self.top + _NEED,
            length,
            _NEED_HEIGHT,
            colour_of(name),
            tooltip=f"request {name} is the first in line and needs {memory.needed:,} slots",
            of=thing,
        )
        baseline = self.top + _NEED + 11
        largest = "any block will do" if memory.is_paged else f"largest hole {memory.largest:,}"
        largest_room, free_room = 160, 90
        yield Text(self.scale.end, baseline, largest, SMALL_SIZE, "end")
        yield Text(
            self.scale.end - largest_room,
            baseline,
            f"{memory.free:,} free",
            SMALL_SIZE,
            "end",
            tooltip=_sum_of(memory.holes),
            lights=tuple(self.thing(hole) for hole in memory.holes),
        )
        left = self.room - length - largest_room - free_room
        needs = f"{name} needs {memory.needed:,}"
        said = fitting(left, f"first in line: request {needs} slots", f"request {needs}", needs)
        yield Text(self.scale.start + length + 8, baseline, said, SMALL_SIZE, of=thing)

    def outcome(self, score: Score, longest: int) -> Iterator[Shape]:
        """Draw what came of the row; the longest queue fills its bar."""
        if score.problem:
            yield from self.without_memory(score.problem)
            return
        in_pieces = f"in {score.num_scattered:,} of them, enough was free, but in pieces"
        yield from self.title("" if score.name == PAGING else in_pieces, is_alert=False)
        said = f"{score.num_iterations:,} iterations with a queue"
        yield from self.bar("waiting", score.num_iterations / longest, said, self.top + _STRIP)
        if score.used is not None:
            said = f"{score.used:.0%} of slots hold a token"
            yield from self.bar("used", score.used, said, self.top + _STRIP + 24)

    def bar(self, state: str, share: float, said: str, y: float) -> Iterator[Shape]:
        """Draw a share as a bar with its value on it, or behind it."""
        length = share * self.room
        key = f"{self.name}/{state}"
        label = fitting(length, said)
        yield Rect(self.scale.start, y, self.room, 20, key=f"{key}/full")
        yield Rect(self.scale.start, y, length, 20, state, label, said, key, outline="none")
        if not label:
            yield Text(self.scale.start + length + 8, y + 15, said, SMALL_SIZE)


def _sum_of(holes: Sequence[Span]) -> str:
    """Add holes up, as long as there are few of them."""
    total = sum(hole.size for hole in holes)
    if not 1 < len(holes) <= _MOST_SUMMANDS:
        return f"{total:,} slots in {counted(len(holes), 'hole')}"
    return f"{' + '.join(f'{hole.size:,}' for hole in holes)} = {total:,} slots"


def verdict(memory: Memory) -> str:
    """Say why the first in line has to wait.

    >>> full = Memory(5, (), (Span(0, 5),), ("6",), 1, "7", 9)
    >>> verdict(full)
    'waits: too few are free'
    """
    if memory.is_stuck:
        return "stuck: nothing runs any more"
    if memory.is_scattered:
        return "waits: enough, but in pieces"
    if memory.free < memory.needed:
        return "waits: too few are free"
    return "waits, though a hole is large enough"


def scores_scene(scores: Sequence[Score], width: float = WIDE, source: str = "") -> Scene:
    """Draw what came of each row: how long the queue lasted, and how well memory was used.

    Args:
        scores: What came of each row.
        width: Width of the picture.
        source: What the requests are.
    """
    longest = max(1, *(score.num_iterations for score in scores))
    shapes, top = _header(
        "What came of the queue, for each allocator",
        "the end",
        "Grey: how long somebody waited; shorter is better. Blue: how much of the memory held "
        "tokens meanwhile, on average; longer is better.",
        width,
    )
    for score in scores:
        row = _DrawnRow(score.name, top, Scale(0, 1, _MARGIN, width - _MARGIN))
        shapes.append(row.group(row.outcome(score, longest)))
        top += _ROW
    names = {"used": "slots that hold a token", "waiting": "iterations with a queue"}
    shapes += _footer(names, source, top, width)
    return Scene(
        width,
        top + _FOOTER,
        tuple(shapes),
        title="What came of one queue before several allocators",
        alt=score_caption(scores),
    )

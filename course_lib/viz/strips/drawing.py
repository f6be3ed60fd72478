"""Draws one small contiguous memory: its slots, its holes, and the halves of a buddy allocator."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

from course_lib.kv_cache.allocators import Span
from course_lib.viz.kit.charts.axes import Scale, horizontal_axis
from course_lib.viz.kit.layout import WIDE, fitting, legend, text_width, wrapped
from course_lib.viz.kit.scene import Scene
from course_lib.viz.kit.shapes import SMALL_SIZE, TEXT_SIZE, Line, Rect, Shape, Text, Thing, Tone
from course_lib.viz.strips.pieces import Piece, Strip, colour_of, named
from course_lib.viz.strips.steps import Operation, StripStep

_MARGIN = 24
_CHIP, _CHIP_ROW = 30, 38
_LEVEL, _LEVEL_ROW = 26, 32
_STRIP = 46
_NARROWEST_NUMBERED = 22  # pixels of a slot that has room for its number
_MOST_LETTERS = 64  # slots; more of them are not written as text


@dataclass(frozen=True)
class StripFigure:
    """What is the same in all pictures of a small memory, so that nothing jumps.

    Attributes:
        title: What the memory is called.
        num_slots: Slots in all.
        operations: What is done, one after the other; may be empty.
        levels: Sizes of a buddy allocator's blocks, the largest first; empty for another allocator.
        is_wanting: Whether anybody ever asks in vain.
        is_rounding: Whether any block is larger than what was asked for.
    """

    title: str
    num_slots: int
    operations: tuple[Operation, ...] = ()
    levels: tuple[int, ...] = ()
    is_wanting: bool = False
    is_rounding: bool = False

    @classmethod
    def of(
        cls, title: str, steps: Sequence[StripStep], operations: Sequence[Operation] = ()
    ) -> StripFigure:
        """Return what has room for all steps.

        Args:
            title: What the memory is called.
            steps: The moments.
            operations: What is done.
        """
        pieces = [piece for step in steps for piece in step.strip.pieces]
        return cls(
            title,
            steps[0].strip.num_slots,
            tuple(operations),
            levels_of([step.strip for step in steps]),
            any(step.wanted for step in steps),
            any(piece.size > piece.asked for piece in pieces),
        )

    def scene(self, step: StripStep, width: float = WIDE) -> Scene:
        """Draw one moment.

        Args:
            step: The moment.
            width: Width of the picture.
        """
        drawing = _Drawing(self, step, width)
        shapes, bottom = drawing.draw()
        written = f" As text: {step.strip.text}" if self.num_slots <= _MOST_LETTERS else ""
        return Scene(width, bottom, shapes, self.title, f"{step.said}{written}")


def levels_of(strips: Iterable[Strip]) -> tuple[int, ...]:
    """Return the sizes of blocks and holes, the largest first, if they are a buddy allocator's.

    They are if each one starts at a multiple of its size, and that is a power of two.

    Args:
        strips: The memory at every moment.

    >>> whole, split = Strip(8, (), (Span(0, 8),)), Strip(8, (), (Span(0, 4), Span(4, 4)))
    >>> levels_of([whole, split]), levels_of([whole]), levels_of([Strip(8, (), (Span(1, 7),))])
    ((8, 4), (), ())
    """
    spans = {span for strip in strips for span in strip.spans}
    if not all(span.size & (span.size - 1) == 0 == span.offset % span.size for span in spans):
        return ()
    sizes = {span.size for span in spans}
    if len(sizes) < 2:
        return ()
    smallest = min(sizes).bit_length() - 1
    return tuple(1 << order for order in reversed(range(smallest, max(sizes).bit_length())))


@dataclass(frozen=True)
class _Drawing:
    """One moment on its canvas."""

    figure: StripFigure
    step: StripStep
    width: float

    @property
    def scale(self) -> Scale:
        return Scale(0, self.figure.num_slots, _MARGIN, self.width - _MARGIN)

    @property
    def slot(self) -> float:
        """Pixels of a slot."""
        return self.scale(1) - self.scale(0)

    def draw(self) -> tuple[tuple[Shape, ...], float]:
        """Return all shapes, and where the picture ends."""
        figure = self.figure
        shapes: list[Shape] = [Text(_MARGIN, 32, figure.title, TEXT_SIZE, is_bold=True)]
        if self.step.moved is not None:
            moved = f"{self.step.moved:,} tokens moved"
            shapes.append(Text(self.width - _MARGIN, 32, moved, TEXT_SIZE, "end"))
        top = 50.0
        if figure.operations:
            drawn, top = self.chips(top)
            shapes += drawn
        if figure.levels:
            shapes += self.tree(top)
            top += len(figure.levels) * _LEVEL_ROW + 10
        is_numbered = self.slot >= _NARROWEST_NUMBERED
        if is_numbered:
            shapes += self.numbers(top + 12)
            top += 20
        shapes += self.error(top) if self.step.problem else self.slots(top)
        top += _STRIP
        if not is_numbered:
            shapes += horizontal_axis(self.scale, top, "slots, one token each")
            top += 56
        elif not self.step.problem:
            shapes += self.letters(top + 22)
        top += 34
        if figure.is_wanting:
            shapes += self.wanted(top)
            top += 26
        shapes += self.status(top + 16)
        top += 34
        drawn, top = self.footer(top)
        return (*shapes, *drawn), top

    def footer(self, top: float) -> tuple[list[Shape], float]:
        """Say what colours, letters and dashes mean; return where that ends."""
        names = {"free": "free", "internal": "rounded up, never used"}
        if not self.figure.is_rounding:
            del names["internal"]
        shapes = [*legend(names, _MARGIN, top, self.width, names)]
        notes = ["letters and dots: the strip as text"] if self.slot >= _NARROWEST_NUMBERED else []
        notes += ["dashed: split into halves"] if self.figure.levels else []
        if notes:
            said = "; ".join(notes)
            shapes.append(Text(_MARGIN, top + 46, said, SMALL_SIZE, tone="muted"))
            return shapes, top + 60
        return shapes, top + 34

    def chips(self, top: float) -> tuple[list[Shape], float]:
        """Draw the operations, the one that has just happened in bold; return where they end."""
        shapes: list[Shape] = []
        left = float(_MARGIN)
        for number, operation in enumerate(self.figure.operations):
            label = str(operation)
            width = 1.1 * text_width(label, SMALL_SIZE) + 20
            if left + width > self.width - _MARGIN:
                left, top = float(_MARGIN), top + _CHIP_ROW
            is_now = number == self.step.number
            is_past = number < self.step.number
            shapes.append(
                Rect(
                    left,
                    top,
                    width,
                    _CHIP,
                    "idle" if is_past else "",
                    label,
                    "is done" if is_past else "happens now" if is_now else "comes later",
                    key=f"operation {number}",
                    radius=6,
                    outline="bold" if is_now else "thin",
                    of=("request", operation.name),
                )
            )
            left += width + 8
        return shapes, top + _CHIP_ROW + 8

    def tree(self, top: float) -> Iterator[Shape]:
        """Draw the halves of a buddy allocator, a row for each size, from the whole downwards."""
        roots = _roots(self.figure.num_slots)
        row_of = {size: top + row * _LEVEL_ROW for row, size in enumerate(self.figure.levels)}
        names = {Span(piece.offset, piece.size): piece for piece in self.step.strip.pieces}
        split: set[Span] = set()
        for leaf in () if self.step.problem else self.step.strip.spans:
            root = next(each for each in roots if each.offset <= leaf.offset < each.end)
            sizes = [size for size in row_of if leaf.size < size <= root.size]
            split |= {Span(leaf.offset - leaf.offset % size, size) for size in sizes}
            piece = names.get(leaf)
            box = self.node(leaf, row_of[leaf.size])
            if piece:
                yield replace(
                    box,
                    state=colour_of(piece.request_id),
                    label=fitting(box.width, f"{piece.request_id}: {leaf.size}", piece.request_id),
                    tooltip=f"{piece.name} has this block of {leaf.size:,}",
                    of=("request", piece.request_id),
                )
            else:
                free = f"a free block of {leaf.size:,}"
                yield replace(box, state="free", tooltip=free, of=_hole_thing(leaf))
        for node in sorted(split):
            box = self.node(node, row_of[node.size])
            yield replace(box, outline="dashed", tooltip=f"{node.size:,}, split into halves")

    def node(self, span: Span, top: float) -> Rect:
        """Return the box of a block in the row of its size."""
        left, width = self.scale(span.offset) + 1, self.slot * span.size - 2
        label = fitting(width + 6, str(span.size))
        return Rect(left, top, width, _LEVEL, label=label, key=f"node {span.offset}/{span.size}")

    def numbers(self, baseline: float) -> Iterator[Shape]:
        """Write the numbers of the slots."""
        for slot in range(self.figure.num_slots):
            middle = self.scale(slot + 0.5)
            yield Text(middle, baseline, str(slot), SMALL_SIZE, "middle", "muted")

    def slots(self, top: float) -> Iterator[Shape]:
        """Draw the strip: blocks and holes, and of what a hole has just become one."""
        for piece in self.step.strip.pieces:
            yield from self.piece(piece, top)
        for hole in self.step.strip.holes:
            parts = self.step.parts.get(hole, ())
            left, width = self.scale(hole.offset), self.slot * hole.size
            joined = f"{' + '.join(map(str, parts))} = {hole.size:,}" if parts else ""
            words = (joined, f"{hole.size:,} free", f"{hole.size:,}")
            yield Rect(
                left,
                top,
                width,
                _STRIP,
                "free",
                fitting(width, *filter(None, words)),
                f"hole of {hole.size:,}: slots {hole.offset:,} to {hole.end - 1:,}",
                key=f"hole {hole.offset}",
                outline="bold" if parts else "thin",
                of=_hole_thing(hole),
            )
            edge = hole.offset
            for size in parts[:-1]:
                edge += size
                x = self.scale(edge)
                for start, end in ((top, top + 11), (top + _STRIP - 11, top + _STRIP)):
                    yield Line(((x, start), (x, end)), is_dashed=True)

    def piece(self, piece: Piece, top: float) -> Iterator[Shape]:
        """Draw a block, and what was rounded up behind it."""
        left, width = self.scale(piece.offset), self.slot * piece.asked
        name, last = piece.request_id, piece.offset + piece.size - 1
        asked = f"{piece.asked:,}"
        where = f"{piece.name}: slots {piece.offset:,} to {last:,}"
        yield Rect(
            left,
            top,
            width,
            _STRIP,
            colour_of(name),
            fitting(width, f"{piece.name}: {asked} slots", f"{name}: {asked}", name),
            where,
            key=f"block {name}",
            of=("request", name),
        )
        lost = piece.size - piece.asked
        if lost:
            yield Rect(
                left + width,
                top,
                self.slot * lost,
                _STRIP,
                "internal",
                tooltip=f"{where}; {lost:,} of them were rounded up and are never used",
                key=f"block {name}/rounded",
                of=("request", name),
            )

    def error(self, top: float) -> Iterator[Shape]:
        """Say where the strip stood what an allocator did wrong."""
        room = self.width - 2 * _MARGIN
        yield Rect(_MARGIN, top, room, _STRIP, key="error", outline="dashed")
        first, *others = wrapped(self.step.problem, (room - 20) / 1.05, SMALL_SIZE)
        lines = [first, *others[:1]]
        if others[1:]:
            lines[1] = f"{lines[1]} …"
        start = top + (20 if others else 29)
        for number, line in enumerate(lines):
            yield Text(_MARGIN + 10, start + 19 * number, line, SMALL_SIZE, tone="alert")

    def letters(self, baseline: float) -> Iterator[Shape]:
        """Write the strip as text, a sign below each slot."""
        owner_at = {
            slot: piece.request_id
            for piece in self.step.strip.pieces
            for slot in range(piece.offset, piece.offset + piece.size)
        }
        for slot, letter in enumerate(self.step.strip.text):
            owner = owner_at.get(slot)
            of = ("request", owner) if owner else None
            yield Text(self.scale(slot + 0.5), baseline, letter, TEXT_SIZE, "middle", of=of)

    def wanted(self, top: float) -> Iterator[Shape]:
        """Draw what somebody asks for in vain, as long as a hole would have to be for it."""
        name, size = self.step.wanted, self.step.num_wanted
        if not name:
            return
        # What is larger than the memory is as long as the memory.
        length = self.slot * min(size, self.figure.num_slots)
        thing: Thing = ("request", name)
        yield Rect(_MARGIN, top, length, 16, colour_of(name), key=f"wanted {name}", of=thing)
        said = f"{named(name)} needs {size:,}"
        if text_width(said, SMALL_SIZE) + 8 <= self.width - 2 * _MARGIN - length:
            yield Text(_MARGIN + length + 8, top + 13.5, said, SMALL_SIZE, of=thing)

    def status(self, baseline: float) -> Iterator[Shape]:
        """Say how much is free."""
        if self.step.problem:
            return
        strip = self.step.strip
        # Bold letters are wider than the estimate.
        room = (self.width - 2 * _MARGIN) / 1.1
        short = f"{strip.free:,} free, the largest hole has {strip.largest:,}"
        said = fitting(room, strip.in_words(), short)
        is_scattered = strip.largest < self.step.num_wanted <= strip.free
        tone: Tone = "alert" if is_scattered else "text"
        yield Text(_MARGIN, baseline, said, SMALL_SIZE, tone=tone, is_bold=is_scattered)


def _hole_thing(hole: Span) -> Thing:
    return "hole", hole.offset


def _roots(num_slots: int) -> list[Span]:
    """Return the blocks with which a buddy allocator starts, the largest first."""
    roots: list[Span] = []
    offset = 0
    for order in reversed(range(num_slots.bit_length())):
        if num_slots & (1 << order):
            roots.append(Span(offset, 1 << order))
            offset += 1 << order
    return roots

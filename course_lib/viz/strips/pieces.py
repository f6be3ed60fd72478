"""Runs of slots that requests have in a contiguous memory, as figures draw them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import NamedTuple

from course_lib.kv_cache.allocators import Allocator, Span
from course_lib.kv_cache.watch.notation import strip_text

MakeAllocator = Callable[[int], Allocator]
"""Makes an allocator from a number of slots: a class, or a function."""

_COLOURS = ("series-1", "series-3", "series-5", "series-4", "series-6")
"""Of requests in turn, so that neighbours in the queue differ; orange stays for what is lost."""


class Piece(NamedTuple):
    """Neighbouring slots of one request.

    Attributes:
        request_id: Whose they are.
        offset: The first slot.
        asked: Slots that it asked for.
        size: Slots that it got: what the allocator rounded up is among them.
    """

    request_id: str
    offset: int
    asked: int
    size: int

    @property
    def name(self) -> str:
        """Whose they are, in words."""
        return named(self.request_id)


def named(request_id: str) -> str:
    """Return what a request is called in a sentence: a number alone would be taken for an amount.

    >>> named("7"), named("A")
    ('request 7', 'A')
    """
    return f"request {request_id}" if request_id.isdigit() else request_id


def colour_of(request_id: str) -> str:
    """Return the state in which a request is drawn, in every row.

    >>> colour_of("0") == colour_of("5") != colour_of("1")
    True
    """
    number = int(request_id) if request_id.isdigit() else sum(map(ord, request_id)) - ord("A")
    return _COLOURS[number % len(_COLOURS)]


@dataclass(frozen=True, slots=True)
class Strip:
    """A contiguous memory.

    Attributes:
        num_slots: Slots in all.
        pieces: What is allocated, in order of offset.
        holes: What is free, in order of offset.
    """

    num_slots: int
    pieces: tuple[Piece, ...]
    holes: tuple[Span, ...]

    @classmethod
    def of(
        cls,
        allocator: Allocator,
        offset_of: Mapping[str, int],
        asked: Mapping[str, int] | None = None,
    ) -> Strip:
        """Look at an allocator.

        Args:
            allocator: The allocator.
            offset_of: Where the block of each letter starts.
            asked: How many slots each letter asked for; by default, what it got.

        Raises:
            ValueError: No block starts at an offset.
        """
        by_place = sorted(offset_of.items(), key=lambda each: each[1])
        sizes = {name: allocator.block_size(offset) for name, offset in by_place}
        pieces = [
            Piece(name, offset, (asked or sizes)[name], sizes[name]) for name, offset in by_place
        ]
        holes = sorted(Span(offset, size) for offset, size in allocator.holes())
        return cls(allocator.num_slots, tuple(pieces), tuple(holes))

    def blocks(self) -> list[Span]:
        """Return the allocated blocks, in order of offset."""
        return [Span(piece.offset, piece.size) for piece in self.pieces]

    @property
    def text(self) -> str:
        """The strip as text.

        >>> Strip(8, (Piece("A", 1, 2, 4),), (Span(0, 1), Span(5, 3))).text
        '.AAAA...'
        """
        return strip_text(self, {piece.offset: piece.request_id for piece in self.pieces})

    @property
    def free(self) -> int:
        """Slots that are free."""
        return sum(hole.size for hole in self.holes)

    @property
    def largest(self) -> int:
        """Slots of the largest hole; 0 if there is none."""
        return max((hole.size for hole in self.holes), default=0)

    @property
    def spans(self) -> tuple[Span, ...]:
        """Blocks and holes, in order of offset.

        >>> Strip(8, (Piece("A", 0, 3, 4),), (Span(4, 4),)).spans
        (Span(offset=0, size=4), Span(offset=4, size=4))
        """
        return tuple(sorted((*self.blocks(), *self.holes)))

    def in_words(self) -> str:
        """Say how much is free.

        >>> Strip(8, (), (Span(0, 2), Span(6, 2))).in_words()
        '4 of 8 slots are free, in 2 holes; the largest has 2'
        """
        if not self.holes:
            return f"none of {self.num_slots:,} slots is free"
        verb = "is" if self.free == 1 else "are"
        start = f"{self.free:,} of {self.num_slots:,} slots {verb} free, in"
        if len(self.holes) == 1:
            return f"{start} 1 hole"
        return f"{start} {len(self.holes):,} holes; the largest has {self.largest:,}"


def contradiction(pieces: Sequence[Piece], holes: Sequence[Span], num_slots: int) -> str:
    """Say what cannot be in what an allocator says of its memory; nothing if all can.

    Args:
        pieces: What is allocated, in order of offset.
        holes: What is free.
        num_slots: Slots in all.

    >>> a, b = Piece("A", 0, 5, 5), Piece("B", 4, 3, 3)
    >>> contradiction([a, b], [], 16)
    'A and B both got slot 4'
    >>> contradiction([a], [Span(5, 3)], 16)
    'slots 8 to 15 are in no block and in no hole'
    """
    return _overlap(pieces, num_slots) or _gap(pieces, holes, num_slots)


def _overlap(pieces: Sequence[Piece], num_slots: int) -> str:
    """Say which blocks cannot be where they are; nothing if all can."""
    for first, second in pairwise(pieces):
        if second.offset < first.offset + first.size:
            return f"{first.name} and {second.name} both got slot {second.offset:,}"
    for piece in pieces:
        last = piece.offset + piece.size - 1
        if piece.offset < 0 or last >= num_slots:
            return (
                f"{piece.name} got slots {piece.offset:,} to {last:,}; "
                f"there are slots 0 to {num_slots - 1:,}"
            )
        if piece.size < piece.asked:
            return f"{piece.name} asked for {piece.asked:,} slots and got {piece.size:,}"
    return ""


def _gap(pieces: Sequence[Piece], holes: Sequence[Span], num_slots: int) -> str:
    """Say which slot is in no block and in no hole, or in two; nothing if each is in one."""
    spans = sorted([*(Span(piece.offset, piece.size) for piece in pieces), *holes])
    end = 0
    for span in spans:
        if span.offset > end:
            return f"slots {end:,} to {span.offset - 1:,} are in no block and in no hole"
        if span.offset < end:
            return f"slot {span.offset:,} is in a hole, and in another hole or a block"
        end = span.end
    if end < num_slots:
        return f"slots {end:,} to {num_slots - 1:,} are in no block and in no hole"
    return ""

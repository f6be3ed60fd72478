"""Contiguous allocation of KV slots: who gets which run of neighbouring slots.

Four allocators behind one interface, ``Allocator``. First fit, best fit and worst fit hand out
exactly what was asked for and differ in one thing: which of the holes they take it from. The buddy
allocator hands out powers of two.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from bisect import bisect_left
from collections.abc import Iterable
from typing import NamedTuple, Protocol


class Span(NamedTuple):
    """A run of neighbouring slots.

    Attributes:
        offset: The first slot.
        size: How many there are.

    >>> Span(offset=4, size=3).end
    7
    """

    offset: int
    size: int

    @property
    def end(self) -> int:
        """The first slot behind the run."""
        return self.offset + self.size


class Allocator(Protocol):
    """Hands out runs of neighbouring slots, called blocks, and takes them back.

    What is free between blocks is a hole. Blocks and holes together cover slots 0 to
    ``num_slots`` − 1, without overlap.

    Attributes:
        num_slots: Slots in all.
    """

    num_slots: int

    def allocate(self, size: int) -> int | None:
        """Return the first slot of a new block of at least ``size`` slots, or None if none fits.

        ``size`` is at least 1; if there is no room for it, now or ever, nothing changes.
        """

    def free(self, offset: int) -> None:
        """Give back the block that starts at ``offset``."""

    def block_size(self, offset: int) -> int:
        """Return how many slots the block that starts at ``offset`` has."""

    def blocks(self) -> list[Span]:
        """Return the allocated blocks, in order of offset."""

    def holes(self) -> list[Span]:
        """Return the free spans out of which blocks are cut, in order of offset."""


class FitAllocator(ABC):
    """Hands out blocks of exactly the size asked for, each cut from the front of a hole.

    Which hole that is, a subclass says in ``choose_hole``. A block that is freed becomes one hole
    with the holes on both sides of it (coalescing).

    Invariant: holes and allocated blocks together cover slots 0 to ``num_slots`` − 1, without
    overlap, and no two holes touch.

    Args:
        num_slots: Slots in all. They start as one hole.

    Attributes:
        num_slots: Slots in all.
        sorted_holes: The holes, in order of offset.
        size_at: The size of each allocated block, by its offset.

    Raises:
        ValueError: ``num_slots`` is less than 1.
    """

    def __init__(self, num_slots: int) -> None:
        if num_slots < 1:
            raise ValueError(f"num_slots is {num_slots}; an allocator needs at least 1 slot")
        self.num_slots = num_slots
        self.sorted_holes = [Span(0, num_slots)]
        self.size_at: dict[int, int] = {}

    @abstractmethod
    def choose_hole(self, size: int) -> Span | None:
        """Return the hole from which a block of ``size`` slots would be cut.

        Args:
            size: Slots wanted, at least 1.

        Returns:
            A hole of at least ``size`` slots, or None if there is none. Nothing changes.
        """

    def allocate(self, size: int) -> int | None:
        """Allocate a block of ``size`` slots at the front of the chosen hole.

        The rest of the hole, if there is any, stays free.

        Returns:
            The block's first slot, or None if no hole is large enough; then nothing changes.

        Raises:
            ValueError: ``size`` is less than 1; then nothing changes.
        """
        if size < 1:
            raise ValueError(f"size is {size}; a block has at least 1 slot")
        hole = self.choose_hole(size)
        if hole is None:
            return None
        rest = Span(hole.offset + size, hole.size - size)
        index = bisect_left(self.sorted_holes, hole)
        self.sorted_holes[index : index + 1] = [rest] if rest.size else []
        self.size_at[hole.offset] = size
        return hole.offset

    def free(self, offset: int) -> None:
        """Give back the block at ``offset``; it becomes one hole with the holes that touch it.

        Takes O(log n) steps to find the neighbours among n holes (and a shift of the sorted list,
        which is a single copy of memory).

        Args:
            offset: The first slot of the block, as ``allocate`` returned it.

        Raises:
            ValueError: No allocated block starts at ``offset``; then nothing changes.

        >>> allocator = FirstFitAllocator(16)
        >>> [allocator.allocate(size) for size in (5, 3, 4)]
        [0, 5, 8]
        >>> allocator.free(0)
        >>> allocator.free(5)
        >>> allocator.holes()
        [Span(offset=0, size=8), Span(offset=12, size=4)]
        """
        start, end = offset, offset + self.block_size(offset)
        del self.size_at[offset]
        holes = self.sorted_holes
        # The holes from first to last, without last, become one with the block.
        first = last = bisect_left(holes, (offset,))
        if first > 0 and holes[first - 1].end == start:
            first -= 1
            start = holes[first].offset
        if last < len(holes) and holes[last].offset == end:
            end = holes[last].end
            last += 1
        holes[first:last] = [Span(start, end - start)]

    def block_size(self, offset: int) -> int:
        """Return how many slots the allocated block at ``offset`` has: what was asked for.

        Raises:
            ValueError: No allocated block starts at ``offset``.
        """
        if offset not in self.size_at:
            raise no_block_at(offset, self)
        return self.size_at[offset]

    def blocks(self) -> list[Span]:
        """Return the allocated blocks, in order of offset."""
        return sorted_spans(self.size_at.items())

    def holes(self) -> list[Span]:
        """Return the holes, in order of offset; no two of them touch."""
        return list(self.sorted_holes)


class FirstFitAllocator(FitAllocator):
    """Cuts each block from the hole with the lowest offset that is large enough.

    Args:
        num_slots: Slots in all.

    Raises:
        ValueError: ``num_slots`` is less than 1.

    >>> allocator = FirstFitAllocator(16)
    >>> [allocator.allocate(size) for size in (5, 1, 3, 1)]
    [0, 5, 6, 9]
    >>> allocator.free(0)
    >>> allocator.free(6)
    >>> allocator.holes()
    [Span(offset=0, size=5), Span(offset=6, size=3), Span(offset=10, size=6)]
    >>> allocator.allocate(3)
    0
    >>> allocator.free(5)  # and the holes on both sides of it are one with it
    >>> allocator.holes()
    [Span(offset=3, size=6), Span(offset=10, size=6)]
    """

    def choose_hole(self, size: int) -> Span | None:
        """Return the hole of at least ``size`` slots with the lowest offset.

        Args:
            size: Slots wanted, at least 1.

        Returns:
            The hole, or None if there is none. Nothing changes.
        """
        return next((hole for hole in self.sorted_holes if hole.size >= size), None)


class BestFitAllocator(FitAllocator):
    """Cuts each block from the smallest hole that is large enough.

    Args:
        num_slots: Slots in all.

    Raises:
        ValueError: ``num_slots`` is less than 1.

    >>> allocator = BestFitAllocator(16)
    >>> [allocator.allocate(size) for size in (5, 1, 3, 1)]
    [0, 5, 6, 9]
    >>> allocator.free(0)
    >>> allocator.free(6)
    >>> allocator.allocate(3)  # of the holes 0 to 4, 6 to 8 and 10 to 15
    6
    """

    def choose_hole(self, size: int) -> Span | None:
        """Return the smallest hole of at least ``size`` slots; of equal ones, the lowest offset.

        Takes a step for each hole (sorting them is quick enough), however many slots they have.

        Args:
            size: Slots wanted, at least 1.

        Returns:
            The hole, or None if there is none. Nothing changes.

        >>> allocator = BestFitAllocator(16)
        >>> offsets = [allocator.allocate(size) for size in (5, 1, 3, 1, 6)]
        >>> allocator.free(0)
        >>> allocator.free(6)
        >>> allocator.choose_hole(2), allocator.choose_hole(7)
        (Span(offset=6, size=3), None)
        """
        fitting = [hole for hole in self.sorted_holes if hole.size >= size]
        return min(fitting, key=lambda hole: (hole.size, hole.offset), default=None)


class WorstFitAllocator(FitAllocator):
    """Cuts each block from the largest hole, so that what is left of it stays large.

    Args:
        num_slots: Slots in all.

    Raises:
        ValueError: ``num_slots`` is less than 1.

    >>> allocator = WorstFitAllocator(16)
    >>> [allocator.allocate(size) for size in (5, 1, 3, 1)]
    [0, 5, 6, 9]
    >>> allocator.free(0)
    >>> allocator.free(6)
    >>> allocator.allocate(3)  # of the holes 0 to 4, 6 to 8 and 10 to 15
    10
    """

    def choose_hole(self, size: int) -> Span | None:
        """Return the largest hole if it has ``size`` slots; of equal ones, the lowest offset.

        Args:
            size: Slots wanted, at least 1.

        Returns:
            The hole, or None if there is none. Nothing changes.
        """
        fitting = [hole for hole in self.sorted_holes if hole.size >= size]
        return max(fitting, key=lambda hole: (hole.size, -hole.offset), default=None)


class BuddyAllocator:
    """Hands out contiguous blocks whose sizes are powers of two (Knowlton, CACM 1965).

    A request is served from the smallest free block that is large enough. A block that is too large
    is split into two halves, called buddies, as often as needed; once both buddies are free again,
    they become one block again.

    Invariant: free and allocated blocks together cover slots 0 to ``num_slots`` − 1, without
    overlap; each block starts at a multiple of its own size; no two buddies are both free. Because
    of the second part, the offsets of two buddies of size s differ in the bit s and nowhere else.

    A ``num_slots`` that is not a power of two starts as one block for each bit that is set in it,
    the largest first. Nothing larger than the first of them can be allocated. Which one of several
    free blocks of the same size is taken is not specified.

    Each operation takes O(log ``num_slots``) time.

    Args:
        num_slots: Slots in all.

    Attributes:
        num_slots: Slots in all.
        free_offsets: The offsets of the free blocks of each order; a block of order k has 2**k
            slots.
        order_at: The order of each allocated block, by its offset.

    Raises:
        ValueError: ``num_slots`` is less than 1.

    >>> allocator = BuddyAllocator(16)
    >>> allocator.allocate(3)  # takes 4 of the 16: slots 0 to 3
    0
    >>> allocator.allocate(8)
    8
    >>> allocator.allocate(5) is None  # slots 4 to 7 are too few
    True
    >>> allocator.free(0)
    >>> allocator.allocate(5)  # 0 to 3 and 4 to 7 are one block again
    0
    """

    def __init__(self, num_slots: int) -> None:
        """Start with nothing allocated, and a free block for each bit of ``num_slots``."""
        if num_slots < 1:
            raise ValueError(f"num_slots is {num_slots}; an allocator needs at least 1 slot")
        self.num_slots = num_slots
        self.free_offsets: list[set[int]] = [set() for _ in range(num_slots.bit_length())]
        self.order_at: dict[int, int] = {}
        offset = 0
        for order in reversed(range(num_slots.bit_length())):
            if num_slots & (1 << order):
                self.free_offsets[order].add(offset)
                offset += 1 << order

    def allocate(self, size: int) -> int | None:
        """Allocate a block of ``size`` slots, rounded up to a power of two.

        It is cut from a free block of the smallest size that is large enough. That block is halved
        as often as half is enough; the halves that are not needed become free.

        Args:
            size: Slots wanted.

        Returns:
            The block's first slot, or None if no free block is large enough; then nothing changes.

        Raises:
            ValueError: ``size`` is less than 1; then nothing changes.

        >>> allocator = BuddyAllocator(12)  # starts as 8 slots at 0 and 4 at 8
        >>> allocator.allocate(3), allocator.allocate(9)
        (8, None)
        """
        if size < 1:
            raise ValueError(f"size is {size}; a block has at least 1 slot")
        wanted = (size - 1).bit_length()
        order = wanted
        while order < len(self.free_offsets) and not self.free_offsets[order]:
            order += 1
        if order >= len(self.free_offsets):
            return None
        offset = self.free_offsets[order].pop()
        while order > wanted:
            # Keep the lower half; the upper half becomes free.
            order -= 1
            self.free_offsets[order].add(offset + (1 << order))
        self.order_at[offset] = order
        return offset

    def free(self, offset: int) -> None:
        """Give back the block at ``offset`` and merge it with its buddy as often as possible.

        Args:
            offset: The first slot of the block, as ``allocate`` returned it.

        Raises:
            ValueError: No allocated block starts at ``offset``; then nothing changes.

        >>> allocator = BuddyAllocator(8)
        >>> offset = allocator.allocate(1)  # leaves 1, 2 and 4 slots
        >>> allocator.free(offset)
        >>> allocator.holes()
        [Span(offset=0, size=8)]
        """
        order = self.order_of(offset)
        del self.order_at[offset]
        while (buddy := offset ^ (1 << order)) in self.free_offsets[order]:
            self.free_offsets[order].remove(buddy)
            offset = min(offset, buddy)
            order += 1
        self.free_offsets[order].add(offset)

    def block_size(self, offset: int) -> int:
        """Return how many slots the allocated block at ``offset`` has, a power of two.

        Raises:
            ValueError: No allocated block starts at ``offset``.

        >>> allocator = BuddyAllocator(16)
        >>> allocator.block_size(allocator.allocate(5))
        8
        """
        return 1 << self.order_of(offset)

    def blocks(self) -> list[Span]:
        """Return the allocated blocks, in order of offset."""
        return sorted_spans((offset, 1 << order) for offset, order in self.order_at.items())

    def holes(self) -> list[Span]:
        """Return the free blocks, in order of offset.

        Two of them may touch: neighbours that are not buddies cannot become one block.

        >>> allocator = BuddyAllocator(16)
        >>> allocator.allocate(3)
        0
        >>> allocator.holes()
        [Span(offset=4, size=4), Span(offset=8, size=8)]
        """
        return sorted_spans(
            (offset, 1 << order)
            for order, offsets in enumerate(self.free_offsets)
            for offset in offsets
        )

    def order_of(self, offset: int) -> int:
        """Return the order of the allocated block at ``offset``.

        Raises:
            ValueError: No allocated block starts at ``offset``.
        """
        if offset not in self.order_at:
            raise no_block_at(offset, self)
        return self.order_at[offset]


def sorted_spans(offsets_and_sizes: Iterable[tuple[int, int]]) -> list[Span]:
    """Return pairs of (offset, size) as spans, in order of offset.

    >>> sorted_spans([(4, 2), (0, 3)])
    [Span(offset=0, size=3), Span(offset=4, size=2)]
    """
    return [Span(offset, size) for offset, size in sorted(offsets_and_sizes)]


def no_block_at(offset: int, allocator: Allocator) -> ValueError:
    """Return the error for an offset at which no allocated block starts, with the reason.

    Args:
        offset: Where a block was said to start.
        allocator: Who was asked.

    >>> str(no_block_at(3, FirstFitAllocator(16)))[:73]
    'no allocated block starts at slot 3: it is free, so its block was freed b'
    """
    around = next((s for s in allocator.blocks() if s.offset < offset < s.end), None)
    if around is not None:
        reason = f"it is inside the block of slots {around.offset} to {around.end - 1}"
    elif 0 <= offset < allocator.num_slots:
        reason = "it is free, so its block was freed before or never allocated"
    else:
        reason = f"there are only slots 0 to {allocator.num_slots - 1}"
    return ValueError(
        f"no allocated block starts at slot {offset}: {reason}; "
        "pass an offset that allocate returned and that was not freed since"
    )

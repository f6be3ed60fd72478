"""Lesson 4: known wrong buddy allocators."""

from __future__ import annotations

from autograder.checks.finding import Misconception
from course_lib.kv_cache.allocators import BuddyAllocator


class MergesOnce(BuddyAllocator):
    """Merges with the buddy, and leaves it at that."""

    def free(self, offset: int) -> None:
        """Give back a block; merge once at most."""
        order = self.order_of(offset)
        del self.order_at[offset]
        buddy = offset ^ (1 << order)
        if buddy in self.free_offsets[order]:
            self.free_offsets[order].remove(buddy)
            offset, order = min(offset, buddy), order + 1
        self.free_offsets[order].add(offset)


class NeverMerges(BuddyAllocator):
    """Leaves what was split split."""

    def free(self, offset: int) -> None:
        """Give back a block as it is."""
        order = self.order_of(offset)
        del self.order_at[offset]
        self.free_offsets[order].add(offset)


class NeighboursForBuddies(BuddyAllocator):
    """Merges with any free block of the same size that touches."""

    def free(self, offset: int) -> None:
        """Give back a block; merge with the one behind it, then with the one before it."""
        order = self.order_of(offset)
        del self.order_at[offset]
        while order + 1 < len(self.free_offsets):
            size = 1 << order
            others = [each for each in (offset + size, offset - size) if each >= 0]
            found = next((each for each in others if each in self.free_offsets[order]), None)
            if found is None:
                break
            self.free_offsets[order].remove(found)
            offset, order = min(offset, found), order + 1
        self.free_offsets[order].add(offset)


class BuddyBehindOnly(BuddyAllocator):
    """Looks for the buddy behind the block, and never before it."""

    def free(self, offset: int) -> None:
        """Give back a block; merge as long as the block behind it is free."""
        order = self.order_of(offset)
        del self.order_at[offset]
        while offset % (2 << order) == 0 and offset + (1 << order) in self.free_offsets[order]:
            self.free_offsets[order].remove(offset + (1 << order))
            order += 1
        self.free_offsets[order].add(offset)


class WhateverLiesBehind(BuddyAllocator):
    """Merges with a free block of the same size right behind, buddy or not."""

    def free(self, offset: int) -> None:
        """Give back a block; merge as long as a block of its size behind it is free."""
        order = self.order_of(offset)
        del self.order_at[offset]
        while offset + (1 << order) in self.free_offsets[order]:
            self.free_offsets[order].remove(offset + (1 << order))
            order += 1
        self.free_offsets[order].add(offset)


class KeepsTheUpperOffset(BuddyAllocator):
    """Merges, and forgets that the lower of two buddies is where the block starts."""

    def free(self, offset: int) -> None:
        """Give back a block; it stays where it was."""
        order = self.order_of(offset)
        del self.order_at[offset]
        while (buddy := offset ^ (1 << order)) in self.free_offsets[order]:
            self.free_offsets[order].remove(buddy)
            order += 1
        self.free_offsets[order].add(offset)


class BuddyStaysListed(BuddyAllocator):
    """Merges with the buddy, and leaves it among the free blocks."""

    def free(self, offset: int) -> None:
        """Give back a block; what it merges with is listed twice."""
        order = self.order_of(offset)
        del self.order_at[offset]
        while (buddy := offset ^ (1 << order)) in self.free_offsets[order]:
            offset, order = min(offset, buddy), order + 1
        self.free_offsets[order].add(offset)


class NotInTheBook(BuddyAllocator):
    """Hands out a block and does not write it down."""

    def allocate(self, size: int) -> int | None:
        """Take a block that nobody will know of."""
        offset = super().allocate(size)
        if offset is not None:
            del self.order_at[offset]
        return offset


class WritesSizes(BuddyAllocator):
    """Writes down how many slots a block has, and frees it as if that were its order."""

    def allocate(self, size: int) -> int | None:
        """Take a block, and write down its size."""
        offset = super().allocate(size)
        if offset is not None:
            self.order_at[offset] = 1 << self.order_at[offset]
        return offset


class WritesAndReadsSizes(WritesSizes):
    """Writes down how many slots a block has, and frees as many."""

    def free(self, offset: int) -> None:
        """Give back a block whose size was written down."""
        self.order_at[offset] = self.order_of(offset).bit_length() - 1
        super().free(offset)


class RoundsDown(BuddyAllocator):
    """Hands out the power of two below."""

    def allocate(self, size: int) -> int | None:
        """Take a block that may be too small."""
        if size < 1:
            raise ValueError(size)
        return super().allocate(1 << (size.bit_length() - 1))


class TwiceAPower(BuddyAllocator):
    """Rounds a power of two up to the next one."""

    def allocate(self, size: int) -> int | None:
        """Take a block of 2 to the number of bits."""
        if size < 1:
            raise ValueError(size)
        return super().allocate(1 << size.bit_length())


class NeverSplits(BuddyAllocator):
    """Hands out the whole block that it finds."""

    def allocate(self, size: int) -> int | None:
        """Take the smallest block that is large enough, all of it."""
        if size < 1:
            raise ValueError(size)
        wanted = (size - 1).bit_length()
        for order in range(wanted, len(self.free_offsets)):
            if self.free_offsets[order]:
                offset = self.free_offsets[order].pop()
                self.order_at[offset] = order
                return offset
        return None


class SplitsTheLargest(BuddyAllocator):
    """Cuts every block from the largest one that is free."""

    def allocate(self, size: int) -> int | None:
        """Take a block from the largest."""
        if size < 1:
            raise ValueError(size)
        wanted = (size - 1).bit_length()
        for order in reversed(range(wanted, len(self.free_offsets))):
            if self.free_offsets[order]:
                offset = self.free_offsets[order].pop()
                for smaller in reversed(range(wanted, order)):
                    self.free_offsets[smaller].add(offset + (1 << smaller))
                self.order_at[offset] = wanted
                return offset
        return None


class LosesHalves(BuddyAllocator):
    """Keeps one of the halves that are left over, and loses the others."""

    def allocate(self, size: int) -> int | None:
        """Take a block; only the last half becomes free."""
        if size < 1:
            raise ValueError(size)
        wanted = (size - 1).bit_length()
        for order in range(wanted, len(self.free_offsets)):
            if self.free_offsets[order]:
                offset = self.free_offsets[order].pop()
                if order > wanted:
                    self.free_offsets[wanted].add(offset + (1 << wanted))
                self.order_at[offset] = wanted
                return offset
        return None


class OneBlockAtTheStart(BuddyAllocator):
    """Starts with the largest power of two alone."""

    def __init__(self, num_slots: int) -> None:
        super().__init__(num_slots)
        for offsets in self.free_offsets[:-1]:
            offsets.clear()


class SmallestFirst(BuddyAllocator):
    """Starts with the smallest block in front."""

    def __init__(self, num_slots: int) -> None:
        super().__init__(num_slots)
        offset = 0
        for order, offsets in enumerate(self.free_offsets):
            if offsets:
                offsets.clear()
                offsets.add(offset)
                offset += 1 << order


class OneBlockForAll(BuddyAllocator):
    """Starts with one block, however many slots there are."""

    def __init__(self, num_slots: int) -> None:
        if num_slots < 1:
            raise ValueError(num_slots)
        super().__init__(1 << (num_slots - 1).bit_length())
        self.num_slots = num_slots


class StillAllocated(BuddyAllocator):
    """Forgets to take a block out of the book."""

    def free(self, offset: int) -> None:
        """Give back a block that stays in the book."""
        order = self.order_of(offset)
        super().free(offset)
        self.order_at[offset] = order


class SilentDoubleFree(BuddyAllocator):
    """Says nothing where no block starts."""

    def free(self, offset: int) -> None:
        """Give back a block if there is one."""
        if offset in self.order_at:
            super().free(offset)


BUDDY = (
    Misconception(
        "merges once",
        "The block that two buddies become has a buddy of its own, which may be free as well: go "
        "on.",
        MergesOnce,
    ),
    Misconception(
        "never merges",
        "Two buddies that are both free become one block again, or large requests find none.",
        NeverMerges,
    ),
    Misconception(
        "neighbours for buddies",
        "Only the two halves of one block merge. Of blocks of 4, those at 4 and 8 touch and are no "
        "buddies: a block of 8 does not start at 4.",
        NeighboursForBuddies,
    ),
    Misconception(
        "the buddy behind only",
        "A block may be the upper half as well as the lower one, and the buddy of an upper half "
        "lies before it: `offset ^ size` finds either.",
        BuddyBehindOnly,
    ),
    Misconception(
        "whatever lies behind",
        "A block of the same size right behind need not be the buddy, and the buddy may lie "
        "before: of a block at `offset` it is at `offset ^ size`.",
        WhateverLiesBehind,
    ),
    Misconception(
        "the block stays where it was",
        "Two buddies become one block that starts where the lower one starts.",
        KeepsTheUpperOffset,
    ),
    Misconception(
        "the buddy is still listed",
        "A buddy that was merged is part of a larger block, and no free block of its own any more: "
        "take it out of its list.",
        BuddyStaysListed,
    ),
    Misconception(
        "not in the book",
        "A block that is handed out must be noted in `order_at`, or nobody can free it.",
        NotInTheBook,
    ),
    Misconception(
        "sizes for orders",
        "`order_at` holds the order of each block: 3 for a block of 8 slots, and not 8.",
        WritesSizes,
    ),
    Misconception(
        "sizes for orders throughout",
        "`order_at` holds the order of each block, 3 for a block of 8 slots: `block_size` and "
        "`blocks` rely on it.",
        WritesAndReadsSizes,
    ),
    Misconception(
        "rounded down",
        "A block must hold what was asked for: the power of two is the one above, or the size "
        "itself.",
        RoundsDown,
    ),
    Misconception(
        "a power takes the next one",
        "8 is a power of two already, and 8 slots fit a block of 8, not one of 16.",
        TwiceAPower,
    ),
    Misconception(
        "the whole block",
        "A block that is too large is halved as often as half of it is enough.",
        NeverSplits,
    ),
    Misconception(
        "the largest is split",
        "A piece is cut from the smallest block that is large enough; otherwise the large ones are "
        "soon gone.",
        SplitsTheLargest,
    ),
    Misconception(
        "halves are lost",
        "Each time that a block is halved, one half becomes free, not only the last time.",
        LosesHalves,
    ),
    Misconception(
        "the rest of the memory is lost",
        "A number of slots that is no power of two is a row of blocks, one for each of its bits.",
        OneBlockAtTheStart,
    ),
    Misconception(
        "the smallest block in front",
        "The largest block comes first, so that each one starts at a multiple of its own size.",
        SmallestFirst,
    ),
    Misconception(
        "more slots than there are",
        "Rounding `num_slots` up hands out slots behind the end of the memory.",
        OneBlockForAll,
    ),
    Misconception(
        "the block is still in the book",
        "A block that is freed is no longer allocated: it must leave `order_at`, or its slots have "
        "two owners.",
        StillAllocated,
    ),
    Misconception(
        "silence about a double free",
        "Freeing what is not allocated is an error of the caller, and silence hides it: raise "
        "ValueError.",
        SilentDoubleFree,
    ),
)

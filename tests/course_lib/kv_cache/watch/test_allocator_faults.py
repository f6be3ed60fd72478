"""A step of a buddy allocator is judged by what was free before it, whichever block it takes."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import pytest

from course_lib.kv_cache.allocators import BuddyAllocator, FirstFitAllocator, Span
from course_lib.kv_cache.watch.allocator_faults import (
    allocation_faults,
    buddy_violations,
    refusal_faults,
    release_faults,
    sharing_faults,
)


class HighestFirst(BuddyAllocator):
    """Takes the last of several free blocks of the same size."""

    def allocate(self, size: int) -> int | None:
        for order in range((size - 1).bit_length(), len(self.free_offsets)):
            if self.free_offsets[order]:
                others = self.free_offsets[order] - {max(self.free_offsets[order])}
                self.free_offsets[order] -= others
                offset = super().allocate(size)
                self.free_offsets[order] |= others
                return offset
        return None


@pytest.mark.parametrize("kind", [BuddyAllocator, HighestFirst])
@pytest.mark.parametrize("num_slots", [1, 2, 7, 16, 23, 40])
def test_a_right_allocator_has_no_faults_whichever_block_it_takes(
    kind: type[BuddyAllocator], num_slots: int
) -> None:
    allocator, rng = kind(num_slots), random.Random(num_slots)
    for _ in range(300):
        step: Callable[..., list[str] | None] = rng.choice(
            (allocation_faults, allocation_faults, release_faults, refusal_faults, sharing_faults)
        )
        assert step(allocator, rng.randint(1, 12)) == []


class Doctored(BuddyAllocator):
    """Says of its free blocks what it is told to say."""

    said: list[Span] | None = None

    def holes(self) -> list[Span]:
        return super().holes() if self.said is None else self.said


@pytest.mark.parametrize(
    ("holes", "says"),
    [
        ([Span(0, 4), Span(4, 4)], "4 slots at 0 and at 4 are free buddies"),
        ([Span(0, 3), Span(3, 4), Span(7, 1)], "3 is no power of two"),
        ([Span(0, 2), Span(2, 4), Span(6, 2)], "does not start at a multiple of its size"),
        ([Span(0, 4)], "the blocks end at slot 4, not at 8"),
        ([Span(0, 8), Span(4, 4)], "slot 4 is in two blocks, or in none"),
    ],
)
def test_each_law_that_is_broken_is_named(holes: list[Span], says: str) -> None:
    allocator = Doctored(8)
    allocator.said = holes
    assert any(says in fault for fault in buddy_violations(allocator))


def wrong(**methods: Any) -> BuddyAllocator:
    """Make a memory of 16 slots, with 4 in use at 0, whose methods are then others."""
    allocator = BuddyAllocator(16)
    assert allocator.allocate(4) == 0
    allocator.__class__ = type("Wrong", (BuddyAllocator,), methods)
    return allocator


def twice(self: BuddyAllocator, size: int) -> int | None:
    return BuddyAllocator.allocate(self, 2 * size)


def from_the_largest(self: BuddyAllocator, size: int) -> int | None:
    self.free_offsets[3].remove(8)
    self.free_offsets[2].add(12)
    self.order_at[8] = 2
    return 8


def without_splitting(self: BuddyAllocator, size: int) -> int | None:
    self.order_at[8] = self.free_offsets[3].remove(8) or 3
    return 8


def loses_a_half(self: BuddyAllocator, size: int) -> int | None:
    offset = BuddyAllocator.allocate(self, size)
    self.free_offsets[1].clear()
    return offset


def changes_and_refuses(self: BuddyAllocator, size: int) -> int | None:
    BuddyAllocator.allocate(self, 1)


@pytest.mark.parametrize(
    ("allocate", "size", "says"),
    [
        (lambda self, size: None, 4, "it refuses 4 slots, though 4 slots at 4 are free"),
        (lambda self, size: 0, 16, "it returns 0, but no free block has 16 slots"),
        (lambda self, size: 0, 4, "it returns 0, which is in no free block"),
        (lambda self, size: 4.0, 4, "it returns 4.0, which is no whole number"),
        (twice, 2, "the block at 4 has 4 slots, not 2"),
        (from_the_largest, 4, "it cuts the block from 8 slots at 8; a free block of 4 is large"),
        (without_splitting, 8, ""),
        (loses_a_half, 1, "free is 1 at 5, 8 at 8; it should be 1 at 5, 2 at 6, 8 at 8"),
        (changes_and_refuses, 16, "it refuses, and yet the free blocks change"),
    ],
)
def test_what_is_wrong_with_an_allocation_is_said(
    allocate: Callable[..., Any], size: int, says: str
) -> None:
    faults = allocation_faults(wrong(allocate=allocate), size) or []
    assert (says in " ".join(faults)) if says else faults == []


def test_what_is_wrong_with_a_release_is_said() -> None:
    def never_merges(self: BuddyAllocator, offset: int) -> None:
        self.free_offsets[self.order_at.pop(offset)].add(offset)

    faults = release_faults(wrong(free=never_merges), 5)
    assert faults is not None
    assert faults[0] == "free(0) leaves free 4 at 0, 4 at 4, 8 at 8, not 16 at 0"
    assert release_faults(BuddyAllocator(4), 0) == [], "nothing is allocated"


def test_what_is_wrong_with_a_refusal_is_said() -> None:
    silent = wrong(free=lambda self, offset: None)
    assert refusal_faults(silent, 0) == [
        "no allocated block starts at -1, so free(-1) raises ValueError; it raises nothing"
    ]

    def frees_all(self: BuddyAllocator, offset: int) -> None:
        BuddyAllocator.free(self, 0)
        raise ValueError(offset)

    assert refusal_faults(wrong(free=frees_all), 1) == ["free(1) changes the memory"]


BOOK: dict[int, int] = {}


class OneBook(BuddyAllocator):
    def __init__(self, num_slots: int) -> None:
        super().__init__(num_slots)
        self.order_at = BOOK


class OneNumber(BuddyAllocator):
    def __init__(self, num_slots: int) -> None:
        super().__init__(num_slots)
        type(self).num_slots = self.__dict__.pop("num_slots")


class FreesElsewhere(BuddyAllocator):
    first: FreesElsewhere | None = None

    def __init__(self, num_slots: int) -> None:
        super().__init__(num_slots)
        FreesElsewhere.first = FreesElsewhere.first or self

    def free(self, offset: int) -> None:
        super().free(offset)
        assert FreesElsewhere.first
        FreesElsewhere.first.free_offsets[0].add(offset)


def test_what_two_objects_share_is_said() -> None:
    BOOK.clear()
    assert sharing_faults(OneBook(8), 1) == ["allocate(1) of a second object changes the first"]
    BOOK.clear()
    assert allocation_faults(allocator := OneBook(8), 3) == []
    assert sharing_faults(allocator, 1) == [
        "a second object has allocated blocks before it was asked: 4 at 0"
    ]
    assert sharing_faults(OneNumber(8), 1) == ["to make a second object changes the first"]
    assert sharing_faults(FreesElsewhere(7), 1) == ["free(0) of a second object changes the first"]


def test_an_allocator_that_hands_out_what_is_asked_for_is_no_buddy_allocator() -> None:
    assert "has 3 slots, not 4" in " ".join(allocation_faults(FirstFitAllocator(16), 3) or [])


def test_of_an_allocator_that_does_nothing_yet_nothing_is_said() -> None:
    nothing = {name: lambda *given: None for name in ("allocate", "free", "holes", "blocks")}
    for step in (allocation_faults, release_faults, refusal_faults, sharing_faults):
        assert step(wrong(**nothing), 1) is None

"""Lesson 4: what its checks do to allocators that learners wrote."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from hypothesis import strategies as st
from hypothesis.stateful import initialize, precondition, rule

from autograder.checks.lives import LargeLife, Life, Script
from autograder.checks.stateful import Twin
from course_lib.kv_cache.watch.allocator_faults import (
    allocation_faults,
    holes_beside_another,
    leave_holes,
    leave_shrinking_holes,
    refusal_faults,
    release_faults,
    sharing_faults,
)
from course_lib.kv_cache.watch.notation import memory_line

# 4.2 to 4.4: lives

SPAN = ("offset", "size")
"""What stands for a span."""


class FitLife(Twin):
    """What may be done to an allocator that hands out exactly what was asked for."""

    is_free = True
    least: ClassVar[Mapping[str, int]] = {"allocate": 1, "choose_hole": 1}

    @initialize(num_slots=st.integers(1, 16))
    def make_one(self, num_slots: int) -> None:
        """Start with one hole."""
        self.create(num_slots)
        self.placed: list[Any] = []

    @rule(size=st.integers(1, 6))
    def allocate(self, size: int) -> None:
        """Take a block."""
        came = self.do("allocate", size)
        if came[0] is not None:
            self.placed.append(came[0])
        self.do("holes", reads=SPAN)

    @rule(offset=st.integers(-1, 16))
    def free_anything(self, offset: int) -> None:
        """Give back what may or may not be a block."""
        self._free(offset)

    @precondition(lambda self: self.placed)
    @rule(place=st.integers(0, 15))
    def free(self, place: int) -> None:
        """Give a block back."""
        self._free(self.placed[place % len(self.placed)])

    def _free(self, offset: int) -> None:
        self.do("free", offset)
        self.placed = [each for each in self.placed if each != offset]
        self.do("holes", reads=SPAN)
        self.do("blocks", reads=SPAN)


class ChoosingLife(FitLife):
    """The same, and a hole is asked for."""

    @rule(size=st.integers(1, 9))
    def choose(self, size: int) -> None:
        """Ask for a hole; nothing may change."""
        self.do("choose_hole", size, reads=SPAN)
        self.do("holes", reads=SPAN)


def holes_between(sizes: Sequence[int], life: Life) -> None:
    """Make holes of these sizes, with a block of one slot between each and the next."""
    for size in sizes:
        life.do("allocate", size)
        life.do("allocate", 1)
    offset = 0
    for size in sizes:
        life.do("free", offset)
        offset += size + 1
    life.do("holes", reads=SPAN)


def three_holes(life: Life) -> None:
    """Ask for holes beside sizes that differ, the exact one among them."""
    life.create(16)
    holes_between((5, 3, 4), life)
    for size in (2, 3, 4, 5, 6):
        life.do("choose_hole", size, reads=SPAN)
    life.do("holes", reads=SPAN)


def equal_holes(life: Life) -> None:
    """Ask for holes of which two are equal."""
    life.create(14)
    holes_between((4, 2, 4), life)
    for size in (1, 2, 3, 4, 5):
        life.do("choose_hole", size, reads=SPAN)


def best_at_the_front(life: Life) -> None:
    """Let the smallest that is large enough be the first, and the largest in the middle."""
    life.create(15)
    holes_between((3, 6, 4), life)
    for size in (1, 3, 4, 5, 7):
        life.do("choose_hole", size, reads=SPAN)


def all_taken(life: Life) -> None:
    """Ask for a hole where there is none."""
    life.create(4)
    life.do("allocate", 4)
    life.do("choose_hole", 1, reads=SPAN)


def six_holes(life: Life) -> None:
    """Let the best of six holes be the last; their sizes have one digit or two."""
    life.create(63)
    holes_between((10, 9, 12, 11, 8, 7), life)
    for size in (7, 8, 9, 10, 11, 12, 13):
        life.do("choose_hole", size, reads=SPAN)


def a_hundred_slots(life: Life) -> None:
    """Ask for a slot of a hundred."""
    life.create(100)
    life.do("choose_hole", 1, reads=SPAN)


def one_large_hole(life: Life) -> None:
    """Ask for a slot of a thousand."""
    life.create(1000)
    life.do("choose_hole", 1, reads=SPAN)


def large_holes(life: Life) -> None:
    """Ask for holes of thousands of slots."""
    life.create(10_000)
    holes_between((4000, 1500, 3000), life)
    for size in (200, 2000, 3500, 4500):
        life.do("choose_hole", size, reads=SPAN)


def beside_a_hole(num_slots: int, first: int, size: int) -> tuple[Script, Script]:
    """Return lives with a hole, a block of one slot and the rest: ask for a hole, take a block.

    Where these show a fault, no life that is drawn is shorter.

    Args:
        num_slots: Slots in all.
        first: Size of the first hole.
        size: Slots wanted.
    """

    def lay(life: Life) -> None:
        life.create(num_slots)
        life.do("allocate", first)
        life.do("allocate", 1)
        life.do("free", 0)

    def ask(life: Life) -> None:
        lay(life)
        life.do("choose_hole", size, reads=SPAN)
        life.do("holes", reads=SPAN)

    def take(life: Life) -> None:
        lay(life)
        life.do("allocate", size)

    return ask, take


BESIDE_A_HOLE = (
    *beside_a_hole(num_slots=3, first=1, size=1),  # two that are equal
    *beside_a_hole(num_slots=3, first=1, size=2),  # two that are too small
    *beside_a_hole(num_slots=4, first=1, size=1),  # the first is the best
    *beside_a_hole(num_slots=4, first=2, size=1),  # the second is
    *beside_a_hole(num_slots=5, first=1, size=2),  # the first is nearer in size, and too small
    *beside_a_hole(num_slots=6, first=3, size=1),  # the second is, and neither is just right
)


def among_three(first: int, second: int, size: int) -> Script:
    """Return a life with two holes, a block of one slot behind each, and the rest of 8 slots.

    Args:
        first: Size of the first hole.
        second: Size of the second hole.
        size: Slots wanted.
    """

    def ask(life: Life) -> None:
        life.create(8)
        for slots in (first, 1, second, 1):
            life.do("allocate", slots)
        for offset in (0, first + 1):
            life.do("free", offset)
        life.do("choose_hole", size, reads=SPAN)

    return ask


AMONG_THREE = (
    among_three(first=3, second=2, size=1),  # holes of 3, 2 and 1: the last is the best
    among_three(first=3, second=1, size=2),  # holes of 3, 1 and 2: it lies behind one too small
)


def many_shrinking_holes(life: Life) -> None:
    """Ask for holes among thousands, each smaller than the one before it."""
    life.create(2**23)
    life.apply(leave_shrinking_holes, 4000)
    for size in (1, 2, 3):
        life.do("choose_hole", size, reads=SPAN)


def one_hole_beyond_count(life: Life) -> None:
    """Ask for the only hole, which is larger than any number that stands for infinity by hand."""
    life.create(2**60)
    life.do("choose_hole", 1, reads=SPAN)


LARGE_CHOICES = (
    LargeLife(many_shrinking_holes, "8,388,608 slots and 4,000 holes", seconds=0.4),
    LargeLife(one_hole_beyond_count, "a hole of 2⁶⁰ slots"),
)


def between_two_holes(life: Life) -> None:
    """Free a block with a hole on each side, and use what has become of them."""
    life.create(16)
    for size in (5, 3, 4, 2):
        life.do("allocate", size)
    for offset in (0, 8, 5):
        life.do("free", offset)
        life.do("holes", reads=SPAN)
    life.do("allocate", 10)


def beside_one_hole(life: Life) -> None:
    """Free blocks whose hole is on the left, then on the right, then those with none."""
    life.create(12)
    for size in (2, 3, 1, 4, 2):
        life.do("allocate", size)
    for offset in (0, 2, 10, 6, 5):
        life.do("free", offset)
        life.do("holes", reads=SPAN)
    life.do("blocks", reads=SPAN)


def freed_twice(life: Life) -> None:
    """Free what is free, what is inside a block, and what is no slot."""
    life.create(10)
    life.do("allocate", 4)
    life.do("allocate", 4)
    life.do("free", 0)
    for offset in (0, 5, 8, -1, 10):
        life.do("free", offset)
        life.do("holes", reads=SPAN)
    life.do("free", 4)
    life.do("holes", reads=SPAN)


def before_the_start(life: Life) -> None:
    """Free −2 where slot 2 is a block and −2 is no slot counted from the end."""
    life.create(5)
    life.do("allocate", 2)
    life.do("allocate", 1)
    life.do("free", -2)
    life.do("holes", reads=SPAN)
    life.do("blocks", reads=SPAN)


def behind_the_end(life: Life) -> None:
    """Free slot −1 where the last slot is a block."""
    life.create(3)
    life.do("allocate", 2)
    life.do("allocate", 1)
    life.do("free", -1)
    life.do("holes", reads=SPAN)
    life.do("free", 2)
    life.do("free", -3)
    life.do("blocks", reads=SPAN)


def many_holes(life: Life) -> None:
    """Leave more holes than a life that is drawn has, from the last to the first."""
    life.create(100)
    for _ in range(40):
        life.do("allocate", 2)
    for offset in (*range(76, 0, -12), *range(6, 80, 12), 40, 42, 90):
        life.do("free", offset)
        life.do("holes", reads=SPAN)
    life.do("allocate", 20)


def one_beside_another(life: Life) -> None:
    """Use two allocators, each of which knows nothing of the other."""
    life.create(6)
    for size in (2, 1):
        life.do("allocate", size)
    life.do("free", 0)
    life.apply(holes_beside_another)
    life.do("free", 2)
    life.do("holes", reads=SPAN)


def a_thousand_holes(life: Life) -> None:
    """Leave a thousand holes in a memory of millions of slots, and close some of them."""
    life.create(2**22)
    life.apply(leave_holes, 1000)
    for offset in range(1, 200, 2):
        life.do("free", offset)
    life.apply(memory_line)  # one call, and not two for each hole


_MANY_SLOTS = 2**21
_TIMES = 24
"""How often large blocks come and go, so that even an empty loop over their slots takes long.

A larger block would show it as well, but who makes a set of its slots fills the memory with it.
"""


def large_neighbours(times: int) -> Script:
    """Return a life that frees a block of millions of slots between holes that are as large.

    Args:
        times: How often it does so.
    """

    def live(life: Life) -> None:
        life.create(3 * _MANY_SLOTS)
        for _ in range(times):
            for _ in range(3):
                life.do("allocate", _MANY_SLOTS)
            for place in (0, 2, 1):
                life.do("free", place * _MANY_SLOTS)
        life.do("holes", reads=SPAN)

    return live


_LARGE_BLOCKS = "blocks and holes of 2,097,152 slots"

MANY_HOLES = (
    LargeLife(a_thousand_holes, "4,194,304 slots and 1,000 holes", seconds=3.0),
    # Once, for whoever takes long for one block; then time and again, for who is fast at nothing.
    LargeLife(large_neighbours(1), _LARGE_BLOCKS, seconds=0.1),
    LargeLife(large_neighbours(_TIMES), _LARGE_BLOCKS, seconds=0.1),
)


class BuddyLife(Twin):
    """What may be done to a buddy allocator; each step is judged by what was free before it."""

    is_free = True
    least: ClassVar[Mapping[str, int]] = {"allocation_faults": 1}

    @initialize(num_slots=st.integers(-1, 24))
    def make_one(self, num_slots: int) -> None:
        """Start with a block for each bit."""
        self.create(num_slots)
        self.do("holes", reads=SPAN)

    @rule(size=st.integers(1, 9))
    def allocate(self, size: int) -> None:
        """Take a block."""
        self.apply(allocation_faults, size)

    @rule(place=st.integers(0, 9))
    def free(self, place: int) -> None:
        """Give a block back."""
        self.apply(release_faults, place)

    @rule(place=st.integers(0, 25))
    def free_no_block(self, place: int) -> None:
        """Give back what is no block."""
        self.apply(refusal_faults, place)

    @rule(size=st.integers(-1, 0))
    def allocate_nothing(self, size: int) -> None:
        """Ask for no slots."""
        self.do("allocate", size)


def fewer_than_no_slots(life: Life) -> None:
    """Start with −1 slots: not every number that is too small is zero."""
    life.create(-1)


def no_slots(life: Life) -> None:
    """Start with 0 slots: not every number that is too small is below zero."""
    life.create(0)


def two_that_share_nothing(life: Life) -> None:
    """Use a second object: what belongs to the class, and not to the object, changes with it."""
    life.create(2)
    life.do("holes", reads=SPAN)  # who has written nothing yet is told that
    life.apply(sharing_faults, 1)


def one_slot(life: Life) -> None:
    """Ask one slot for two, free what is no block of it, and take it."""
    life.create(1)
    life.apply(allocation_faults, 2)
    for place in range(3):
        life.apply(refusal_faults, place)
    life.do("holes", reads=SPAN)
    life.apply(allocation_faults, 1)


def one_slot_beside_two(life: Life) -> None:
    """Take two slots of three, and give back that which was never part of a larger block."""
    life.create(3)
    for _ in range(2):
        life.apply(allocation_faults, 1)
    life.apply(release_faults, 1)


def six_merges(life: Life) -> None:
    """Give back one slot of 64, which all become one block again."""
    life.create(64)
    life.apply(allocation_faults, 1)
    life.apply(release_faults, 0)


def filled_and_emptied(life: Life) -> None:
    """Fill a memory with blocks of one slot, and give them back from the front."""
    life.create(8)
    for _ in range(9):
        life.apply(allocation_faults, 1)
    for _ in range(8):
        life.apply(release_faults, 0)
    life.do("holes", reads=SPAN)


def neighbours_that_are_no_buddies(life: Life) -> None:
    """Free the two blocks in the middle of four."""
    life.create(16)
    for _ in range(4):
        life.apply(allocation_faults, 4)
    life.apply(release_faults, 1)
    life.apply(release_faults, 1)
    life.apply(allocation_faults, 8)
    life.apply(release_faults, 0)


def sizes_that_differ(life: Life) -> None:
    """Ask for powers of two and for what is one more, in a memory that is no power of two."""
    life.create(44)
    for size in (8, 3, 1, 5, 9, 2, 4, 16, 1):
        life.apply(allocation_faults, size)
    for place in (3, 0, 2, 1, 0, 0, 0, 0):
        life.apply(release_faults, place)


def larger_than_the_largest(life: Life) -> None:
    """Ask for more than any block has, and for more than there is."""
    life.create(6)
    for size in (5, 7, 9, 1, 4, 2):
        life.apply(allocation_faults, size)


def refused(life: Life) -> None:
    """Ask for no slots, and free what is no block; nothing may change."""
    life.create(8)
    for size in (0, -1):
        life.do("allocate", size)
        # Later steps are judged by what is free before them, and would not show a block too many.
        life.do("holes", reads=SPAN)
        life.do("blocks", reads=SPAN)
    life.apply(allocation_faults, 3)
    for place in range(9):
        life.apply(refusal_faults, place)
    life.apply(release_faults, 0)
    for place in range(10):
        life.apply(refusal_faults, place)


def both_orders(life: Life) -> None:
    """Free two blocks in the middle of four, the one behind first; then two buddies likewise."""
    life.create(4)
    for _ in range(4):
        life.apply(allocation_faults, 1)
    for place in (2, 1, 1, 0):
        life.apply(release_faults, place)


def many_small_blocks(life: Life) -> None:
    """Have tens of thousands of free blocks of one slot, and hand out half of them again."""
    life.create(2**16)
    life.apply(leave_holes, 2**15)
    life.apply(leave_holes, 2**13)


def large_blocks(life: Life) -> None:
    """Hand out half of a memory of millions of slots, then one slot, and take each back."""
    life.create(2 * _MANY_SLOTS)
    for size in (_MANY_SLOTS, _MANY_SLOTS, 1):
        life.apply(allocation_faults, size)
        life.apply(release_faults, 0)


def many_large_memories(life: Life) -> None:
    """Start with millions of slots time and again, hand out half of them, and take them back."""
    for _ in range(_TIMES):
        life.create(2 * _MANY_SLOTS)
        life.apply(allocation_faults, _MANY_SLOTS)
        life.apply(release_faults, 0)


def beyond_floats(life: Life) -> None:
    """Ask for one more than a power of two so large that no float has a logarithm for the one."""
    life.create(2**52)
    life.apply(allocation_faults, 2**50 + 1)


MANY_BLOCKS = (
    LargeLife(
        many_small_blocks,
        "65,536 slots and 32,768 free blocks (does a call go through all of them? To look for one "
        "in a list takes a step for each, and in a set a single step)",
    ),
    LargeLife(large_blocks, "4,194,304 slots", seconds=0.1),
    LargeLife(many_large_memories, "4,194,304 slots, time and again", seconds=0.1),
    LargeLife(
        beyond_floats,
        "4,503,599,627,370,496 slots, where a float has the same logarithm for 2⁵⁰ and 2⁵⁰ + 1",
    ),
)

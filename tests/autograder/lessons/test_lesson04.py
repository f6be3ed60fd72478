"""Lesson 4: what its checks say of answers that people give, wrong ones and unusual right ones."""

from __future__ import annotations

import math
import re
from bisect import insort
from collections import Counter, defaultdict
from itertools import pairwise

import numpy as np
import pytest

from autograder import lessons
from autograder.checks.borrowed import is_borrowed
from autograder.checks.finding import FAILING
from autograder.lessons import lesson04_contest as contest
from autograder.lessons import lesson04_frames as frames
from autograder.lessons import lesson04_given as given
from autograder.lessons import lesson04_mistakes as mistakes
from autograder.lessons.questions import bank
from autograder.proxy.subject import LocalSubject
from course_lib.kv_cache.allocators import (
    BestFitAllocator,
    BuddyAllocator,
    FirstFitAllocator,
    FitAllocator,
    Span,
    WorstFitAllocator,
    sorted_spans,
)
from course_lib.kv_cache.fragmentation import (
    InternalWaste,
    expected_internal_waste,
    external_fragmentation,
    length_weights,
    lifetimes_in_batch,
    power_of_two_waste,
    replay,
)
from course_lib.kv_cache.reservation import (
    RESERVATIONS,
    average_shares,
    replay_contiguous,
    replay_paged,
)
from course_lib.kv_cache.sizing import kv_bytes_per_token, require_block_size
from course_lib.simulation.workload import load_azure, synthetic_azure
from course_lib.specs import GPUS, MODELS
from lesson_answers import (
    SAME,
    examine,
    named,
    right_answers_earn_everything,
    wrong_answers_earn_nothing,
)

# 4.1


@pytest.mark.parametrize("seed", range(12))
def test_a_task_by_hand_tells_every_way_to_hand_out_memory_apart(seed):
    task = given.hand_task(seed)
    ways = (FirstFitAllocator, BestFitAllocator, WorstFitAllocator, given.NeverCoalesces)
    assert len({tuple(task.strips(way)) for way in ways}) == len(ways)
    start, *states = task.strips(FirstFitAllocator)
    assert all(len(state) == given.HAND_SLOTS for state in (start, *states))
    before = [start, *states]
    fails = [
        state.count(".") >= operation.size
        for operation, state, after in zip(task.operations, before, states, strict=False)
        if operation.size and state == after
    ]
    assert any(fails), "a request fails beside enough free slots"


def test_a_trace_earns_a_share_for_each_state_and_any_seed_counts():
    right = given.strips_to_write(7).answer
    assert examine("4.1", {"seed": 7, **right}).fraction == 1
    assert examine("4.1", {"seed": 7, **right, "step 6": "." * 16}).fraction == pytest.approx(5 / 6)
    assert examine("4.1", {"seed": 1}).unwritten
    misspelt = examine("4.1", {"seed": 7, **{key.title(): state for key, state in right.items()}})
    assert not misspelt.unwritten
    assert "'Step 1' is none of them" in misspelt.counterexample.complaint


@pytest.mark.parametrize(
    ("written", "says"),
    [
        (lambda strip: strip[1:], "a strip has 16 signs, and this one has 15"),
        (str.lower, "a strip has capital letters and dots"),
        (lambda strip: strip.replace(".", "_"), "a strip has capital letters and dots"),
        (list, "a strip is a text of 16 signs, not a list"),
    ],
)
def test_a_strip_that_is_written_another_way_is_told_how_one_is_written(written, says):
    right = given.strips_to_write(1).answer
    finding = examine("4.1", {"seed": 1, **{step: written(s) for step, s in right.items()}})
    assert finding.fraction == 0
    assert says in finding.counterexample.complaint
    assert examine("4.1", {"seed": 1, **{s: f"{strip} " for s, strip in right.items()}}).fraction


@pytest.mark.parametrize("seed", range(12))
def test_who_scatters_a_block_over_holes_is_told_so(seed):
    finding = examine("4.1", {"seed": seed, **given.strips_scattered(seed)})
    assert finding.fraction < 1
    assert named(finding) == "scattered over holes"


# 4.2


def smallest_in_a_loop(self, size):
    best = None
    for hole in self.sorted_holes:
        if hole.size >= size and (best is None or hole.size < best.size):
            best = hole
    return best


def sorted_by_size(self, size):
    fitting = sorted((hole for hole in self.holes() if hole.size >= size), key=lambda h: h.size)
    return fitting[0] if fitting else None


def by_numpy(self, size):
    sizes = np.array([hole.size for hole in self.sorted_holes])
    fitting = np.flatnonzero(sizes >= size)
    return self.sorted_holes[fitting[np.argmin(sizes[fitting])]] if len(fitting) else None


def says_that_nothing_fits(self, size):
    fitting = sorted(hole for hole in self.sorted_holes if hole.size >= size)
    if not fitting:
        raise ValueError("no hole is large enough")
    return min(fitting, key=lambda hole: hole.size)


def stops_at_the_first_that_is_smaller(self, size):
    best = None
    for hole in self.sorted_holes:
        if hole.size >= size:
            if best is not None and hole.size < best.size:
                return hole
            best = best or hole
    return best


def of_fitting(choose):
    def choose_hole(self, size):
        fitting = [hole for hole in self.sorted_holes if hole.size >= size]
        return choose(fitting) if fitting else None

    return choose_hole


def smallest_without_a_filter(self, size):
    return min(self.sorted_holes, key=lambda hole: hole.size)


def of_fitting_without_a_default(self, size):
    return min((h for h in self.sorted_holes if h.size >= size), key=lambda hole: hole.size)


def nearest_and_larger_of_equals(self, size):
    near = min(
        self.sorted_holes,
        key=lambda hole: (abs(hole.size - size), hole.size < size, hole.offset),
        default=None,
    )
    return near if near and near.size >= size else None


def with_an_infinity_of(best_size):
    def choose_hole(self, size):
        best, least = None, best_size
        for hole in self.sorted_holes:
            if size <= hole.size < least:
                best, least = hole, hole.size
        return best

    return choose_hole


def of_the_first_four(self, size):
    fitting = [hole for hole in self.sorted_holes[:4] if hole.size >= size]
    return min(fitting, key=lambda hole: (hole.size, hole.offset), default=None)


def hole_against_hole(self, size):
    holes = self.sorted_holes
    for hole in holes:
        if hole.size >= size and all(not size <= other.size < hole.size for other in holes):
            return hole
    return None


def counted_slot_by_slot(self, size):
    counted = [(sum(1 for _ in range(h.offset, h.end)), h.offset, h) for h in self.sorted_holes]
    return min((each for each in counted if each[0] >= size), default=(0, 0, None))[2]


BEST_RIGHT = (smallest_in_a_loop, sorted_by_size, by_numpy)
BEST_WRONG = (
    (stops_at_the_first_that_is_smaller, SAME),
    (says_that_nothing_fits, "where nothing fits"),
    (smallest_without_a_filter, "the smallest, large enough or not"),
    (of_fitting_without_a_default, "where nothing fits"),
    (of_fitting(min), "first fit"),
    (
        of_fitting(lambda fitting: min(fitting, key=lambda hole: hole.size).offset),
        "the offset, not the hole",
    ),
    (of_fitting(lambda fitting: tuple(min(fitting, key=lambda hole: hole.size))), SAME),
    (
        lambda self, size: min(self.sorted_holes, key=lambda hole: hole.size - size),
        "the smallest, large enough or not",
    ),
    (nearest_and_larger_of_equals, SAME),
    (with_an_infinity_of(100), SAME),
    (with_an_infinity_of(10**9), SAME),
    (of_the_first_four, SAME),
    (hole_against_hole, SAME),  # right, and each hole is compared with all others
    (counted_slot_by_slot, SAME),  # right, and a step for each slot
    (lambda self, size: Span(6, 3), SAME),
    (object(), SAME),
)

# 4.3


def freed_by_going_through_all(self, offset):
    start, end = offset, offset + self.block_size(offset)
    del self.size_at[offset]
    kept = []
    for hole in self.sorted_holes:
        if hole.end == start or hole.offset == end:
            start, end = min(start, hole.offset), max(end, hole.end)
        else:
            kept.append(hole)
    self.sorted_holes = sorted([*kept, Span(start, end - start)])


def freed_from_the_blocks(self, offset):
    if offset not in self.size_at:
        raise ValueError("no block")
    del self.size_at[offset]
    holes, end = [], 0
    for block in [*self.blocks(), Span(self.num_slots, 0)]:
        if block.offset > end:
            holes.append(Span(end, block.offset - end))
        end = block.end
    self.sorted_holes = holes


def freed_and_joined_afterwards(self, offset):
    size = self.size_at.pop(offset, None)
    if size is None:
        raise ValueError(offset)
    insort(self.sorted_holes, Span(offset, size))
    joined = []
    for hole in self.sorted_holes:
        if joined and joined[-1].end == hole.offset:
            joined[-1] = Span(joined[-1].offset, joined[-1].size + hole.size)
        else:
            joined.append(hole)
    self.sorted_holes = joined


def key_error(self, offset):
    self.size_at[offset]
    freed_by_going_through_all(self, offset)


def removes_while_it_iterates(self, offset):
    start, end = offset, offset + self.block_size(offset)
    del self.size_at[offset]
    for hole in self.sorted_holes:
        if hole.end == start:
            self.sorted_holes.remove(hole)
            start = hole.offset
        elif hole.offset == end:
            self.sorted_holes.remove(hole)
            end = hole.end
    insort(self.sorted_holes, Span(start, end - start))


def holes_as_tuples(self, offset):
    freed_by_going_through_all(self, offset)
    self.sorted_holes = [tuple(hole) for hole in self.sorted_holes]


def one_slot_short(self, offset):
    start, end = offset, offset + self.block_size(offset) - 1
    del self.size_at[offset]
    insort(self.sorted_holes, Span(start, end - start))


def returns_something(self, offset):
    freed_by_going_through_all(self, offset)
    return offset


def changes_and_then_refuses(self, offset):
    self.sorted_holes.append(Span(offset, 1))
    if offset not in self.size_at:
        raise ValueError(offset)
    self.sorted_holes.pop()
    freed_by_going_through_all(self, offset)


def counts_from_the_end(self, offset):
    freed_by_going_through_all(self, offset + self.num_slots if offset < 0 else offset)


SHARED = []


def one_list_for_all(self, offset):
    freed_by_going_through_all(self, offset)
    SHARED[:] = self.sorted_holes
    self.sorted_holes = SHARED


def unsorted_from_six_on(self, offset):
    freed_by_going_through_all(self, offset)
    if len(self.sorted_holes) >= 6:
        self.sorted_holes.append(self.sorted_holes.pop(0))


def slot_by_slot(self, offset):
    size = self.block_size(offset)
    del self.size_at[offset]
    free = [False] * (self.num_slots + 1)
    for hole in [*self.sorted_holes, Span(offset, size)]:
        for slot in range(hole.offset, hole.end):
            free[slot] = True
    edges = [slot for slot in range(self.num_slots + 1) if free[slot] != free[slot - 1]]
    pairs = zip(edges[::2], edges[1::2], strict=True)
    self.sorted_holes = [Span(start, end - start) for start, end in pairs]


def a_set_of_its_slots(self, offset):
    slots = set(range(offset, offset + self.block_size(offset)))
    del self.size_at[offset]
    start, end = min(slots), max(slots) + 1
    kept = []
    for hole in self.sorted_holes:
        if hole.end == start or hole.offset == end:
            start, end = min(start, hole.offset), max(end, hole.end)
        else:
            kept.append(hole)
    self.sorted_holes = sorted([*kept, Span(start, end - start)])


def neighbours_slot_by_slot(self, offset):
    start, end = offset, offset + self.block_size(offset)
    del self.size_at[offset]
    kept = []
    for hole in self.sorted_holes:
        if hole.end == start:
            for _ in range(hole.size):
                start -= 1
        elif hole.offset == end:
            for _ in range(hole.size):
                end += 1
        else:
            kept.append(hole)
    self.sorted_holes = sorted([*kept, Span(start, end - start)])


def over_one_slot(self, offset):
    start, end = offset, offset + self.block_size(offset)
    del self.size_at[offset]
    kept = []
    for hole in self.sorted_holes:
        if start - 1 <= hole.end <= start or hole.offset == end:
            start, end = min(start, hole.offset), max(end, hole.end)
        else:
            kept.append(hole)
    self.sorted_holes = sorted([*kept, Span(start, end - start)])


def minus_for_plus(self, offset):
    freed_by_going_through_all(self, abs(offset))


COALESCE_RIGHT = (
    freed_by_going_through_all,
    freed_from_the_blocks,
    freed_and_joined_afterwards,
)
COALESCE_WRONG = (
    (key_error, SAME),
    # Having taken the hole on the left out of the list, the loop passes over the next one.
    (removes_while_it_iterates, "one neighbour at most"),
    (holes_as_tuples, SAME),
    (one_slot_short, SAME),
    (returns_something, SAME),
    (changes_and_then_refuses, SAME),
    (counts_from_the_end, SAME),
    (minus_for_plus, SAME),
    (one_list_for_all, SAME),
    (unsorted_from_six_on, SAME),
    (slot_by_slot, SAME),  # right, and a step for each slot
    (a_set_of_its_slots, SAME),  # right, and a step for each slot of the block
    (neighbours_slot_by_slot, SAME),  # right, and a step for each slot of the holes beside it
    (lambda self, offset: None, SAME),
    (object(), SAME),
)

# 4.4


class UpperHalves:
    """Keeps the free blocks by their size, and hands out the upper half."""

    def __init__(self, num_slots):
        if num_slots < 1:
            raise ValueError(num_slots)
        self.num_slots, self.free_blocks, self.taken = num_slots, defaultdict(dict), {}
        offset = 0
        for order in range(60, -1, -1):
            if num_slots >> order & 1:
                self.free_blocks[1 << order][offset] = True
                offset += 1 << order

    def allocate(self, size):
        if size < 1:
            raise ValueError(size)
        piece = 1
        while piece < size:
            piece *= 2
        block = min((s for s, free in self.free_blocks.items() if free and s >= piece), default=0)
        if not block:
            return None
        offset, _ = self.free_blocks[block].popitem()
        while block > piece:
            block //= 2
            self.free_blocks[block][offset] = True
            offset += block
        self.taken[offset] = piece
        return offset

    def free(self, offset):
        if offset not in self.taken:
            raise ValueError(offset)
        size = self.taken.pop(offset)
        while offset ^ size in self.free_blocks[size]:
            del self.free_blocks[size][offset ^ size]
            offset, size = min(offset, offset ^ size), 2 * size
        self.free_blocks[size][offset] = True

    def block_size(self, offset):
        return self.taken[offset]

    def blocks(self):
        return sorted_spans(self.taken.items())

    def holes(self):
        return sorted_spans((at, size) for size, free in self.free_blocks.items() for at in free)


class ByRecursion(UpperHalves):
    def free(self, offset):
        if offset not in self.taken:
            raise ValueError(offset)

        def merge(offset, size):
            if offset ^ size in self.free_blocks[size]:
                del self.free_blocks[size][offset ^ size]
                merge(min(offset, offset ^ size), 2 * size)
            else:
                self.free_blocks[size][offset] = True

        merge(offset, self.taken.pop(offset))


class NumpyOffsets(UpperHalves):
    def allocate(self, size):
        offset = super().allocate(size)
        return None if offset is None else np.int64(offset)


def a_buddy(**methods):
    """Make a buddy allocator of which some methods are others."""
    return type("BuddyAllocator", (BuddyAllocator,), methods)


def raises_when_too_large(self, size):
    if size < 1 or size > self.num_slots:
        raise ValueError(size)
    return BuddyAllocator.allocate(self, size)


def never_too_small(self, size):
    return BuddyAllocator.allocate(self, max(size, 1))


def takes_before_it_refuses(self, size):
    offset = BuddyAllocator.allocate(self, max(size, 1))
    if size < 1:
        raise ValueError(size)
    return offset


def minus_one(self, size):
    offset = BuddyAllocator.allocate(self, size)
    return -1 if offset is None else offset


def as_a_float(self, size):
    offset = BuddyAllocator.allocate(self, size)
    return None if offset is None else float(offset)


def frees_with_a_key_error(self, offset):
    self.order_at[offset]
    BuddyAllocator.free(self, offset)


def looks_at_each_slot(self, size):
    right = BuddyAllocator.allocate(self, size)
    sum(1 for slot in range(self.num_slots) if slot == right)
    return right


def by_logarithm(self, size):
    if size < 1:
        raise ValueError(size)
    return BuddyAllocator.allocate(self, 1 << math.ceil(math.log2(size)))


class RefusesZeroOnly(BuddyAllocator):
    def __init__(self, num_slots):
        super().__init__(max(num_slots, 1) if num_slots else 0)


class RefusesBelowZeroOnly(BuddyAllocator):
    def __init__(self, num_slots):
        super().__init__(num_slots or 1)
        self.num_slots = num_slots
        if not num_slots:
            self.free_offsets[0].clear()


BOOK = {}


class OneBookForAll(BuddyAllocator):
    def __init__(self, num_slots):
        super().__init__(num_slots)
        self.order_at = BOOK


class FreeBlocksOfTheClass(BuddyAllocator):
    def __init__(self, num_slots):
        super().__init__(num_slots)
        type(self).free_offsets = self.__dict__.pop("free_offsets")


class SlotsOfTheClass(BuddyAllocator):
    def __init__(self, num_slots):
        super().__init__(num_slots)
        type(self).num_slots = self.__dict__.pop("num_slots")


class LooksAtEachSlotFirst(BuddyAllocator):
    def __init__(self, num_slots):
        super().__init__(num_slots)
        for _ in range(min(num_slots, 2**30)):
            pass


def frees_slot_by_slot(self, offset):
    for _ in range(self.block_size(offset)):
        pass
    BuddyAllocator.free(self, offset)


def merges_with_any(self, offset):
    order = self.order_of(offset)
    del self.order_at[offset]
    while self.free_offsets[order] and order + 1 < len(self.free_offsets):
        offset, order = min(offset, self.free_offsets[order].pop()), order + 1
    self.free_offsets[order].add(offset)


def merges_at_most(most):
    def free(self, offset):
        order = self.order_of(offset)
        del self.order_at[offset]
        merges = 0
        while merges < most and (buddy := offset ^ (1 << order)) in self.free_offsets[order]:
            self.free_offsets[order].remove(buddy)
            offset, order, merges = min(offset, buddy), order + 1, merges + 1
        self.free_offsets[order].add(offset)

    return free


def looks_for_the_lowest(self, size):
    if size < 1:
        raise ValueError(size)
    wanted = (size - 1).bit_length()
    fitting = (k for k in range(wanted, len(self.free_offsets)) if self.free_offsets[k])
    order = next(fitting, None)
    if order is None:
        return None
    offset = min(self.free_offsets[order])
    self.free_offsets[order].remove(offset)
    for smaller in range(wanted, order):
        self.free_offsets[smaller].add(offset + (1 << smaller))
    self.order_at[offset] = wanted
    return offset


def returns_the_offset(self, offset):
    BuddyAllocator.free(self, offset)
    return offset


def changes_what_it_refuses(self, offset):
    self.free_offsets[0].discard(offset)
    BuddyAllocator.free(self, offset)


BUDDY_RIGHT = (UpperHalves, ByRecursion, NumpyOffsets)
BUDDY_WRONG = (
    (a_buddy(allocate=raises_when_too_large), SAME),
    (a_buddy(allocate=never_too_small), SAME),
    (a_buddy(allocate=takes_before_it_refuses), SAME),
    (a_buddy(allocate=minus_one), SAME),
    (a_buddy(allocate=as_a_float), SAME),
    (a_buddy(free=frees_with_a_key_error), SAME),
    (a_buddy(allocate=looks_at_each_slot), SAME),
    (a_buddy(allocate=by_logarithm), SAME),
    (a_buddy(allocate=looks_for_the_lowest), SAME),  # right, and a step for each free block
    (RefusesZeroOnly, SAME),
    (RefusesBelowZeroOnly, SAME),
    (OneBookForAll, SAME),
    (FreeBlocksOfTheClass, SAME),
    (SlotsOfTheClass, SAME),
    (LooksAtEachSlotFirst, SAME),  # right, and a step for each slot
    (a_buddy(free=frees_slot_by_slot), SAME),  # right, and a step for each slot of the block
    (a_buddy(free=merges_at_most(10)), SAME),
    (a_buddy(free=returns_the_offset), SAME),
    (a_buddy(free=changes_what_it_refuses), SAME),
    (FirstFitAllocator, SAME),
    (type("BuddyAllocator", (), {}), SAME),
    (object(), SAME),
)

# 4.5


def from_the_blocks(allocator):
    free = allocator.num_slots - sum(block.size for block in allocator.blocks())
    return 1 - max(hole.size for hole in allocator.holes()) / free if free else 0.0


def numpy_share(allocator):
    sizes = np.array([hole.size for hole in allocator.holes()])
    return 1 - sizes.max() / sizes.sum() if len(sizes) else 0.0


def popping_the_largest(allocator):
    sizes = sorted(hole.size for hole in allocator.holes())
    total = sum(sizes)
    return sum(sizes[:-1]) / total if total else 0


def that_allocates(allocator):
    share = external_fragmentation(allocator)
    allocator.allocate(1)
    return share


def all_largest_left_out(allocator):
    sizes = [hole.size for hole in allocator.holes()]
    return sum(size for size in sizes if size != max(sizes)) / sum(sizes) if sizes else 0.0


def hole_against_other_holes(allocator):
    holes = allocator.holes()
    for hole in holes:
        if not any(other.size > hole.size for other in holes):
            return 1 - hole.size / sum(each.size for each in holes)
    return 0.0


SCATTERED_RIGHT = (from_the_blocks, numpy_share, popping_the_largest)
SCATTERED_WRONG = (
    (lambda allocator: 100 * external_fragmentation(allocator), SAME),
    (lambda allocator: 1 - numpy_share(allocator), SAME),
    (lambda a: 1 - max(h.size for h in a.holes()) / sum(h.size for h in a.holes()), SAME),
    (lambda a: 1 - a.holes()[0].size / sum(h.size for h in a.holes()) if a.holes() else 0.0, SAME),
    (lambda a: sum(h.size for h in a.holes()) / a.num_slots, "the free share of the memory"),
    (that_allocates, SAME),
    (all_largest_left_out, SAME),
    (hole_against_other_holes, SAME),  # right, and each hole is compared with all others
    (lambda allocator: 0.5, SAME),
    (lambda a: external_fragmentation(a) if sum(1 for _ in range(a.num_slots)) else 0.0, SAME),
    (object(), SAME),
)

# 4.6


def with_sums(stored, allocated):
    """Fill the exercise's two gaps."""

    def expected_internal_waste(lengths, block_size):
        require_block_size(block_size)
        weights = length_weights(lengths)
        total = math.fsum(weights.values())
        return InternalWaste(
            stored(weights, block_size) / total, allocated(weights, block_size) / total
        )

    return expected_internal_waste


def tokens(weights, block_size):
    return sum(length * weight for length, weight in weights.items())


def slots(blocks):
    return lambda weights, block_size: sum(
        blocks(length, block_size) * weight for length, weight in weights.items()
    )


def numpy_slots(weights, block_size):
    lengths, each = np.array(list(weights)), np.array(list(weights.values()))
    return np.sum(-(-lengths // block_size) * block_size * each)


whole_blocks = slots(lambda length, b: math.ceil(length / b) * b)


def without_small_weights(total):
    return lambda weights, block_size: total(
        {length: weight for length, weight in weights.items() if weight > 1e-3}, block_size
    )


WASTE_RIGHT = (
    with_sums(tokens, whole_blocks),
    with_sums(tokens, slots(lambda length, b: length + -length % b)),
    with_sums(lambda w, b: np.dot(list(w), list(w.values())), numpy_slots),
)


def block_by_block(length, block_size):
    slots = 0
    while slots < length:
        slots += block_size
    return slots


WASTE_WRONG = (
    (with_sums(tokens, slots(block_by_block)), SAME),
    (with_sums(lambda w, b: round(tokens(w, b), 2), whole_blocks), SAME),
    (with_sums(tokens, lambda w, b: round(whole_blocks(w, b), 6)), SAME),
    (with_sums(*(without_small_weights(each) for each in (tokens, whole_blocks))), SAME),
    (with_sums(tokens, slots(lambda length, b: -length % b)), SAME),
    (with_sums(tokens, slots(lambda length, b: length + length % b)), SAME),
    (with_sums(slots(lambda length, b: -(-length // b) * b), tokens), SAME),
    (
        with_sums(lambda w, b: sum(w), lambda w, b: sum(-(-n // b) * b for n in w)),
        "every length once",
    ),
    (
        with_sums(
            tokens,
            lambda w, b: sum(x * b for n, x in w.items() for place in range(n) if place % b == 0),
        ),
        SAME,  # right, and a step for each token
    ),
    (lambda lengths, block_size: InternalWaste(50.5, 58.24), SAME),
    (object(), SAME),
)

# 4.7


def refuse_unless_finite(*values):
    if not all(0 < value < math.inf for value in values):
        raise ValueError(values)


def best_by(formula):
    def best_block_size(mean_length, entry_bytes, token_bytes):
        refuse_unless_finite(mean_length, entry_bytes, token_bytes)
        return formula(mean_length, entry_bytes, token_bytes)

    return best_block_size


def best_of_whole(length, entry, token):
    return math.sqrt(2 * entry * length / token) if token else 1.0


def bisected(length, entry, token):
    low, high = 1e-9, 1e12
    for _ in range(200):
        middle = math.sqrt(low * high)
        if token / 2 < entry * length / middle**2:
            low = middle
        else:
            high = middle
    return middle


def least_cost_found(length, entry, token):
    low, high = math.log(1e-9), math.log(1e12)

    def cost(log_size):
        return math.exp(log_size) * token / 2 + entry * length / math.exp(log_size)

    for _ in range(200):
        first, second = low + (high - low) / 3, high - (high - low) / 3
        if cost(first) < cost(second):
            high = second
        else:
            low = first
    return math.exp(low)


def refuses_by_the_product(mean_length, entry_bytes, token_bytes):
    square = 2 * entry_bytes * mean_length / token_bytes
    refuse_unless_finite(square)
    return math.sqrt(square)


def refuses_but_a_free_token(mean_length, entry_bytes, token_bytes):
    if mean_length <= 0 or entry_bytes <= 0 or token_bytes < 0:
        raise ValueError("each must be above 0")
    refuse_unless_finite(*(each or 1 for each in (mean_length, entry_bytes, token_bytes)))
    return math.sqrt(2 * entry_bytes * mean_length / token_bytes)


def refuses_length_and_product(mean_length, entry_bytes, token_bytes):
    refuse_unless_finite(mean_length, 2 * entry_bytes * mean_length / token_bytes)
    return math.sqrt(2 * entry_bytes * mean_length / token_bytes)


def refuses_all_but(allowed, place):
    """Return a function that lets one kind of number pass in one of the three places."""

    def best_block_size(*costs):
        refuse_unless_finite(*(1 if n == place and allowed(c) else c for n, c in enumerate(costs)))
        return math.sqrt(2 * costs[0] * costs[1] / costs[2])

    return best_block_size


BEST_BLOCK_RIGHT = (
    best_by(lambda length, entry, token: (2 * entry * length / token) ** 0.5),
    best_by(lambda length, entry, token: np.sqrt(2 * entry * length / token)),
    best_by(bisected),
    best_by(least_cost_found),
)
BEST_BLOCK_WRONG = (
    (
        lambda mean_length, entry_bytes, token_bytes: math.sqrt(
            2 * entry_bytes * mean_length / token_bytes
        ),
        SAME,
    ),
    (refuses_by_the_product, SAME),
    (refuses_but_a_free_token, SAME),
    (refuses_length_and_product, SAME),
    *((refuses_all_but(kind, n), SAME) for kind in (math.isinf, math.isnan) for n in range(3)),
    (best_by(lambda *costs: round(best_of_whole(*costs), 6)), SAME),
    (best_by(lambda length, entry, token: math.sqrt(token / (2 * entry * length))), SAME),
    (best_by(lambda length, entry, token: int(math.sqrt(2 * entry * length / token))), SAME),
    (best_by(lambda length, entry, token: 0.41), SAME),
    (best_by(lambda *costs: best_of_whole(*map(int, costs))), SAME),
    (best_by(lambda *costs: math.nan if costs[0] < 5 else best_of_whole(*costs)), SAME),
    (object(), SAME),
)

# 4.8b


def merged_by_recursion(free, start, end):
    free = set(free)

    def put(first, size):
        if (first ^ size, size) in free:
            free.discard((first ^ size, size))
            put(min(first, first ^ size), 2 * size)
        else:
            free.add((first, size))

    while start < end:
        size = frames.largest_block(start, end)
        put(start, size)
        start += size
    return free


def released_afterwards(free, start, end):
    for first, size in frames.suspect_add_range(set(), start, end):
        free = frames.release(free, first, size)
    return free


def into_what_was_given(free, start, end):
    while start < end:
        size = frames.largest_block(start, end)
        free.add((start, size))
        start += size
    return free


def what_comes_back_is_lost(free, start, end):
    free = set(free)
    while start < end:
        size = frames.largest_block(start, end)
        frames.release(free, start, size)
        start += size
    return free


def takes_buddy_0_for_none(free, start, end):
    free = set(free)
    for first, size in frames.suspect_add_range(set(), start, end):
        while (first ^ size) and (first ^ size, size) in free:
            free.remove((first ^ size, size))
            first, size = min(first, first ^ size), 2 * size
        free.add((first, size))
    return free


def first_and_last(free, start, end):
    """Release the first block of a range and the last one, and file those in between."""
    first = frames.largest_block(start, end)
    return frames.only_the_last(frames.release(free, start, first), start + first, end)


MENDED_RIGHT = (merged_by_recursion, released_afterwards, frames.add_range_b)
MENDED_WRONG = (
    (into_what_was_given, "the bug is still there"),
    (takes_buddy_0_for_none, SAME),
    (first_and_last, SAME),
    (frames.as_single_frames, SAME),  # right, and a step for each of 2³⁰ frames
    (what_comes_back_is_lost, SAME),
    (lambda free, start, end: frames.release(free, start, end - start), SAME),
    (lambda free, start, end: sorted(frames.add_range(free, start, end)), SAME),
    (lambda free, start, end: frames.add_range(free, start, end + 1), SAME),
    (lambda free, start, end: {(0, 4)}, SAME),
    (lambda *args: {tuple(map(float, block)) for block in frames.add_range(*args)}, SAME),
    (object(), SAME),
)

RIGHT = {
    "4.2": BEST_RIGHT,
    "4.3": COALESCE_RIGHT,
    "4.4": BUDDY_RIGHT,
    "4.5": SCATTERED_RIGHT,
    "4.6": WASTE_RIGHT,
    "4.7": BEST_BLOCK_RIGHT,
    "4.8b": MENDED_RIGHT,
}
WRONG = {
    "4.2": BEST_WRONG,
    "4.3": COALESCE_WRONG,
    "4.4": BUDDY_WRONG,
    "4.5": SCATTERED_WRONG,
    "4.6": WASTE_WRONG,
    "4.7": BEST_BLOCK_WRONG,
    "4.8b": MENDED_WRONG,
}


test_an_unusual_right_answer_earns_everything = right_answers_earn_everything(RIGHT)
test_a_wrong_answer_earns_nothing_and_is_named_only_if_it_is_that = wrong_answers_earn_nothing(
    WRONG
)


@pytest.mark.parametrize(
    ("exercise", "wrong", "most"),
    [
        ("4.2", mistakes.exact_else_first, 5),
        ("4.2", mistakes.nearest_in_size, 5),
        ("4.2", mistakes.sorted_in_place, 6),
        ("4.3", mistakes.freeing(False, True), 6),
        ("4.3", over_one_slot, 7),
        ("4.4", a_buddy(allocate=raises_when_too_large), 2),
        ("4.4", a_buddy(free=changes_what_it_refuses), 2),
        ("4.4", a_buddy(free=merges_with_any), 4),
        ("4.5", all_largest_left_out, 5),
        ("4.8b", takes_buddy_0_for_none, 1),
    ],
)
def test_the_failing_case_of_an_allocator_is_small(exercise, wrong, most):
    case = examine(exercise, wrong).counterexample.case
    assert len(case.splitlines()) <= most, case
    assert not re.search(r"(allocate|choose_hole)\(0\)|allocation_faults\(obj, 0\)", case)


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        (OneBookForAll, "allocate(1) of a second object changes the first"),
        (FreeBlocksOfTheClass, "to make a second object changes the first"),
        (SlotsOfTheClass, "to make a second object changes the first"),
    ],
)
def test_what_a_class_keeps_for_all_its_objects_is_shown_with_two_of_them(wrong, says):
    BOOK.clear()
    shown = examine("4.4", wrong).counterexample
    assert shown.case == "obj = BuddyAllocator(2)\nobj.holes()\nsharing_faults(obj, 1)"
    assert (shown.expected, shown.got) == ("[]", f"['{says}']")


def test_a_value_where_none_is_asked_is_said_in_a_sentence():
    got = examine("4.4", a_buddy(free=returns_the_offset)).counterexample.got
    assert "free(0) returns 0; by its signature it returns None" in got
    complaint = examine("4.3", returns_something).counterexample.complaint
    assert "None" in complaint


def test_the_failing_case_of_a_wrong_buddy_says_in_words_what_is_wrong():
    def rounds_up(self, size):
        return BuddyAllocator.allocate(self, size + 1)

    finding = examine("4.4", a_buddy(allocate=rounds_up))
    assert "it refuses 1 slot, though 1 slot at 0 is free" in finding.counterexample.got


def test_the_failing_case_of_a_measure_can_be_typed_and_shows_its_holes():
    case = examine("4.5", mistakes.of_the_whole_memory).counterexample.case
    *lines, call = case.splitlines()
    names = {"FirstFitAllocator": FirstFitAllocator, "BuddyAllocator": BuddyAllocator}
    exec("\n".join(lines), names)
    share = eval(call, {**names, "external_fragmentation": external_fragmentation})
    assert 0 < share < 1
    assert lines[-1].endswith("# .B., holes of 1 and 1")


# 4.8a


@pytest.mark.parametrize(
    "case",
    [
        {"ranges": [(0, 2), (2, 4)], "frames": 4},
        {"ranges": ((0, 1), (1, 2)), "frames": 2},
        {"ranges": [[4, 8], [0, 4]], "frames": 8},
        {"frames": 8, "ranges": [(0, 4), (4, 6), (6, 8)]},
        {"ranges": [(np.int64(0), np.int64(2)), (2, 4)], "frames": 4},
    ],
)
def test_any_case_in_which_a_block_is_missing_exposes_the_bug(case):
    assert examine("4.8a", case).fraction == 1


@pytest.mark.parametrize(
    ("case", "says", "name"),
    [
        ({"ranges": [(0, 4)], "frames": 4}, "a block of 4 frames is there", SAME),
        ({"ranges": [(0, 2), (2, 4)], "frames": 2}, "a block of 2 frames is there", SAME),
        ({"ranges": [(2, 4), (4, 6)], "frames": 4}, "rightly", "neighbours for buddies"),
        ({"ranges": [(0, 2), (4, 6)], "frames": 4}, "rightly", SAME),
        ({"ranges": [(0, 2), (1, 4)], "frames": 4}, "overlaps an earlier one", SAME),
        ({"ranges": [(0, 2), (2, 4)], "frames": 3}, "is a power of two, not 3", SAME),
        ({"ranges": [(0, 2.0)], "frames": 2}, "pair of whole numbers", SAME),
        ({"ranges": [], "frames": 4}, "at least one pair", SAME),
        ({"ranges": [(4, 4)], "frames": 4}, "is empty: `end` is the first frame behind it", SAME),
        ({"ranges": [(-2, 0)], "frames": 2}, "leaves the frames, 0 to 4,611", SAME),
        ({"ranges": np.array([[0, 2]]), "frames": 2}, ".tolist() makes one of it", SAME),
        ([(0, 2), (2, 4)], 'give a dict with "ranges" and "frames", not list', SAME),
        (object(), "not object", SAME),
    ],
)
def test_what_exposes_nothing_is_told_why_in_true_words(case, says, name):
    finding = examine("4.8a", case)
    assert finding.fraction == 0
    assert says in finding.counterexample.complaint
    assert named(finding) == name


def blocks_after(add, ranges):
    free = set()
    for start, end in ranges:
        free = add(free, start, end)
    return free


def test_both_fixes_pass_the_test_of_the_report_and_one_is_wrong():
    report = [(0, 2), (2, 4)]
    for add in (frames.add_range_a, frames.add_range_b, frames.add_range):
        assert blocks_after(add, report) == {(0, 4)}
    assert blocks_after(frames.add_range_a, [(2, 4), (4, 6)]) == {(2, 4)}, "misaligned"
    assert blocks_after(frames.add_range_a, [(2, 4), (0, 2)]) == {(0, 2), (2, 2)}
    rng = np.random.default_rng(4)
    for _ in range(100):
        bounds = sorted({int(each) for each in rng.integers(0, 60, 8)})
        ranges = list(pairwise(bounds))
        rng.shuffle(ranges)
        ranges = [tuple(map(int, each)) for each in ranges]
        right = blocks_after(frames.add_range, ranges)
        assert blocks_after(frames.add_range_b, ranges) == right
        counted = Counter(f for start, size in right for f in range(start, start + size))
        assert set(counted.values()) == {1}
        assert all(start % size == 0 for start, size in right)


# 4.9


@pytest.mark.parametrize(
    ("wrong", "name"),
    [
        (lambda right: {fit: 100 * share for fit, share in right.items()}, "per cent"),
        (
            lambda right: {fit: 1 - share for fit, share in right.items()},
            "the share that is too few",
        ),
        (lambda right: dict.fromkeys(right, right["first"]), SAME),
        (lambda right: {"first": right["first"]}, SAME),
        (lambda right: {fit: str(share) for fit, share in right.items()}, SAME),
        (lambda right: object(), SAME),
    ],
)
def test_a_wrong_measurement_earns_nothing_and_is_named_only_if_it_is_that(wrong, name):
    finding = examine("4.9", wrong(given.shares_with_enough()))
    assert finding.fraction == 0
    assert named(finding) == name


def test_shares_that_are_all_1_are_no_known_mistake():
    assert given.alike_where_it_tells({"first": 1.0, "best": 1.0}, {"first": 1.0}) is not None
    assert given.alike_where_it_tells({"first": 0.5}, {"first": 0.5}) is None


def test_a_measured_share_may_be_rounded_and_be_a_numpy_number():
    right = given.shares_with_enough()
    assert examine("4.9", {fit: round(share, 4) for fit, share in right.items()}).fraction == 1
    assert examine("4.9", {fit: np.float64(share) for fit, share in right.items()}).fraction == 1


# 4.10


class SimpleFirstFit:
    def __init__(self, num_slots):
        self.holes, self.size_at = [[0, num_slots]], {}

    def allocate(self, size):
        for place, (offset, hole) in enumerate(self.holes):
            if hole >= size:
                self.holes[place : place + 1] = (
                    [[offset + size, hole - size]] if hole > size else []
                )
                self.size_at[offset] = size
                return offset
        return None

    def free(self, offset):
        insort(self.holes, [offset, self.size_at.pop(offset)])
        joined = []
        for start, size in self.holes:
            if joined and sum(joined[-1]) == start:
                joined[-1][1] += size
            else:
                joined.append([start, size])
        self.holes = joined


class NeverJoins(SimpleFirstFit):
    def free(self, offset):
        insort(self.holes, [offset, self.size_at.pop(offset)])


class JoinsOverAGap(SimpleFirstFit):
    def free(self, offset):
        super().free(offset)
        for place in reversed(range(1, len(self.holes))):
            if sum(self.holes[place - 1]) >= self.holes[place][0] - 1:
                end = sum(self.holes.pop(place))
                self.holes[place - 1][1] = end - self.holes[place - 1][0]


class Slow(SimpleFirstFit):
    def allocate(self, size):
        for _ in range(20_000_000):
            pass
        return super().allocate(size)


class HandsOutTwice(SimpleFirstFit):
    def allocate(self, size):
        return max(0, super().allocate(size) - 1)


class Refuses(SimpleFirstFit):
    def allocate(self, size):
        return None


def test_the_contest_orders_allocators_by_what_they_are_worth():
    earned = {
        kind: examine("4.10", kind).fraction
        for kind in (SimpleFirstFit, NeverJoins, WorstFitAllocator, contest.NeverReuses)
    }
    assert earned[SimpleFirstFit] == 1
    assert 0.2 < earned[NeverJoins] < 0.9
    assert earned[WorstFitAllocator] == earned[contest.NeverReuses] == 0


def test_the_contest_says_once_what_memory_and_speed_have_to_do_with_the_index():
    finding = examine("4.10", NeverJoins)
    said = r"utilisation \d+%, speed \d+%: an index of [\d.]+; no points at"
    assert re.match(said, finding.counterexample.got)
    assert not finding.remarks
    (remark,) = examine("4.10", SimpleFirstFit).remarks
    assert re.search(said, remark)


@pytest.mark.parametrize(
    ("kind", "says"),
    [
        (HandsOutTwice, "slots 2 to 4 would be the block, and slot 2 is in use"),
        (JoinsOverAGap, "slot 1 is in use"),
        (Refuses, "nearly all of the memory is free"),
        (object(), "no object came"),
        (lambda num_slots: 7, "no object came"),
    ],
)
def test_an_allocator_with_which_the_contest_cannot_go_on_earns_nothing(kind, says):
    finding = examine("4.10", kind)
    assert finding.fraction == 0
    assert says in finding.counterexample.complaint


@pytest.mark.parametrize(("kind", "most"), [(HandsOutTwice, 3), (JoinsOverAGap, 5)])
def test_the_calls_that_lead_to_a_useless_answer_are_few_and_can_be_made(kind, most):
    case = examine("4.10", kind).counterexample
    made, *calls = case.case.splitlines()
    assert len(calls) + 1 <= most
    names = {"MyAllocator": kind}
    exec(made, names)
    assert str([eval(call, names) for call in calls][-1]) == case.got
    assert case.label == FAILING


@pytest.mark.parametrize(("first", "is_unwritten"), [(None, True), (0, False)])
def test_only_who_hands_out_nothing_at_all_has_not_started(first, is_unwritten):
    class ForgetsReturn:
        def __init__(self, num_slots):
            self.offsets = [first]

        def allocate(self, size):
            return self.offsets.pop() if self.offsets else None

        def free(self, offset):
            pass

    finding = examine("4.10", ForgetsReturn)
    assert finding.unwritten is is_unwritten
    assert "is a return missing?" in finding.advice


def test_an_allocator_that_computes_for_too_long_earns_nothing(monkeypatch):
    assert contest._SECONDS == 10
    monkeypatch.setattr(contest, "_SECONDS", 1.0)
    finding = examine("4.10", Slow)
    assert finding.fraction == 0
    said = "the 1 s of computing that the game may take are used up"
    assert said in finding.counterexample.complaint


@pytest.mark.parametrize(
    "kind",
    [
        BestFitAllocator,
        FirstFitAllocator,
        type("MyAllocator", (BuddyAllocator,), {}),
        type("MyAllocator", (), {"__init__": lambda self, n: BestFitAllocator(n)}),
    ],
)
def test_an_allocator_of_the_course_is_nobodys_own(kind):
    others = lessons.find("4.10").check.others
    assert any(is_borrowed(kind, each) for each in others)
    assert not any(is_borrowed(SimpleFirstFit, each) for each in others)


@pytest.mark.parametrize("seed", range(0, 100, 20))
def test_floor_and_bound_of_the_contest_keep_their_distance(seed):
    floor, bound = (
        contest.contest(LocalSubject(each), seed)["utilization"]
        for each in (contest.NeverReuses, BestFitAllocator)
    )
    assert bound - floor > 0.4


# What the text, the model answers and the quiz say


@pytest.mark.parametrize("load", [load_azure, synthetic_azure])
def test_the_figures_of_the_model_answer_hold_on_real_and_on_synthetic_traces(load):
    requests = [r for r in load("conversation")[:500] if r.prompt_tokens + r.output_tokens <= 2048]

    def shares(make):
        return average_shares(
            replay_contiguous(requests, given.OPT_13B_SLOTS, RESERVATIONS["Oracle"], 2048, make)
        )

    first, best, worst = map(shares, (FirstFitAllocator, BestFitAllocator, WorstFitAllocator))
    assert round(first["external"], 2) == 0.17
    assert 0.10 < first["later"] < 0.12
    assert 0 < best["used"] - first["used"] < 0.01
    assert max(each["used"] for each in (first, best, worst)) - worst["used"] < 0.03
    paged = average_shares(replay_paged(requests, given.OPT_13B_SLOTS))
    assert round(paged["later"], 3) in (0.006, 0.007)
    assert 0.03 < paged["external"] < 0.04
    rounding = power_of_two_waste([r.prompt_tokens + r.output_tokens for r in requests]).share
    assert 0.26 < rounding < 0.29, "more than a quarter of what is handed out"
    endless = replay(lifetimes_in_batch(load("conversation")[:2000], 100), WorstFitAllocator(2**40))
    assert round(endless.utilization, 2) == 0.06


def test_the_figures_that_the_literature_has_too():
    assert expected_internal_waste(range(1, 101), 16).tokens == pytest.approx(7.74)
    log_uniform = power_of_two_waste({n: 1 / n for n in range(2**15 + 1, 2**16 + 1)}).share
    assert log_uniform == pytest.approx(1 - 1 / (2 * math.log(2)), abs=1e-4)


def test_holes_of_13_and_12_are_served_as_the_text_says():
    def served(make, sizes):
        allocator = make(26)
        for size in (13, 1, 12):
            allocator.allocate(size)
        for offset in (0, 14):
            allocator.free(offset)
        return [allocator.allocate(size) for size in sizes]

    assert served(FirstFitAllocator, (10, 11, 3)) == [0, 14, 10]
    assert served(BestFitAllocator, (10, 11, 3))[-1] is None
    assert served(FirstFitAllocator, (11, 10, 3))[-1] is None
    assert served(BestFitAllocator, (11, 10, 3)) == [14, 0, 10]


def right_choice(question_id):
    (question,) = (each for each in bank(4).quiz if each.id == question_id)
    return next(choice for choice in question.choices if choice.correct)


def test_the_figures_of_the_quiz_are_what_the_library_works_out():
    buddies = BuddyAllocator(16)
    offsets = sorted(buddies.allocate(4) for _ in range(4))
    assert offsets == [0, 4, 8, 12]
    for offset in (4, 8):
        buddies.free(offset)
    assert buddies.holes() == [Span(4, 4), Span(8, 4)]
    assert right_choice("q4").text == "Two blocks of 4"
    assert right_choice("q5").text == f"At {12 ^ 4}"
    assert right_choice("q6").text == f"{expected_internal_waste(range(1, 17), 16).tokens:g}"
    assert right_choice("q7").text == f"{expected_internal_waste([32], 16).tokens:g}"
    times = [expected_internal_waste(range(1, 6401), size).tokens for size in (16, 64)]
    assert times == [7.5, 31.5]


def test_the_figures_of_the_interview_are_what_the_library_works_out():
    moved = 6_300 * kv_bytes_per_token(MODELS["opt-13b"])
    assert moved / 1e9 == pytest.approx(5.2, abs=0.05)
    seconds = 2 * moved / GPUS["a100-40gb"].memory_bandwidth
    assert seconds == pytest.approx(0.0066, abs=0.0001)
    assert [round(w / (30 + w), 2) for w in (7.5, 3.5, 1.5)] == [0.2, 0.1, 0.05]
    assert "5.2 GB" in " ".join(bank(4).interview[4].strong_answer)


def test_the_core_takes_two_hours_and_the_open_exercise_earns_the_most():
    graded = [exercise for exercise in lessons.exercises(4) if exercise.points]
    core = [exercise for exercise in graded if "(stretch)" not in exercise.title]
    texts = 15  # minutes for the two written answers
    assert 120 <= sum(exercise.minutes for exercise in core) + texts <= 140
    assert sum(exercise.points for exercise in core) >= 70
    assert max(graded, key=lambda exercise: exercise.points).id == "4.4"


def test_what_a_method_of_an_abstract_class_is_checked_on_is_a_subclass_of_it():
    reference = lessons.find("4.3").check.reference
    assert (reference.owner, reference.lives_on) == (FitAllocator, FirstFitAllocator)
    assert lessons.find("4.3").part == "FitAllocator.free"
    mounted = reference.mounted(lambda self, offset: None)(8)
    assert mounted.allocate(3) == 0
    assert mounted.free(0) is None

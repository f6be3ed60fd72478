"""First fit, best fit, worst fit and buddy: placement, conservation, coalescing, errors."""

import random
import re
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from course_lib.kv_cache.allocators import (
    Allocator,
    BestFitAllocator,
    BuddyAllocator,
    FirstFitAllocator,
    FitAllocator,
    Span,
    WorstFitAllocator,
)


def _round_up(size: int) -> int:
    """The smallest power of two that is at least ``size``."""
    power = 1
    while power < size:
        power *= 2
    return power


def _has_free_aligned_run(taken: list[bool], size: int) -> bool:
    """Whether ``size`` free neighbours start at a multiple of ``size``."""
    starts = range(0, len(taken) - size + 1, size)
    return any(not any(taken[start : start + size]) for start in starts)


def _initial_blocks(num_slots: int) -> list[tuple[int, int]]:
    """(offset, size) of the blocks that ``num_slots`` decomposes into."""
    blocks, offset = [], 0
    while offset < num_slots:
        size = 1
        while size * 2 <= num_slots - offset:
            size *= 2
        blocks.append((offset, size))
        offset += size
    return blocks


# An operation allocates a size, or frees one of the live blocks (counted round the list).
operations = st.lists(
    st.one_of(
        st.tuples(st.just("allocate"), st.integers(1, 80)),
        st.tuples(st.just("free"), st.integers(0, 1000)),
    ),
    max_size=60,
)


@given(num_slots=st.integers(1, 100), operations=operations)
def test_blocks_are_aligned_disjoint_and_found_whenever_there_is_one(
    num_slots: int, operations: list[tuple[str, int]]
) -> None:
    allocator = BuddyAllocator(num_slots)
    taken = [False] * num_slots
    live: list[int] = []

    for operation, number in operations:
        if operation == "allocate":
            size = _round_up(number)
            offset = allocator.allocate(number)
            # Without full coalescing, some free and aligned runs would not be found.
            assert (offset is not None) == _has_free_aligned_run(taken, size)
            if offset is not None:
                assert allocator.block_size(offset) == size
                assert offset % size == 0
                assert 0 <= offset <= num_slots - size
                assert not any(taken[offset : offset + size])
                taken[offset : offset + size] = [True] * size
                live.append(offset)
        elif live:
            offset = live.pop(number % len(live))
            size = allocator.block_size(offset)
            allocator.free(offset)
            taken[offset : offset + size] = [False] * size

    # Conservation: what is not allocated can be had slot by slot, and no more.
    singles = []
    while (offset := allocator.allocate(1)) is not None:
        singles.append(offset)
    assert sorted(singles) == [slot for slot in range(num_slots) if not taken[slot]]

    # Coalescing: once all is freed, the blocks of the beginning can be had again.
    for offset in live + singles:
        allocator.free(offset)
    for _, size in _initial_blocks(num_slots):
        assert allocator.allocate(size) is not None
    assert allocator.allocate(1) is None


def test_splitting_halves_a_block_until_it_fits() -> None:
    allocator = BuddyAllocator(16)
    assert allocator.allocate(3) == 0
    assert allocator.block_size(0) == 4
    # What was split off: 4 to 7 and 8 to 15.
    assert allocator.allocate(8) == 8
    assert allocator.allocate(4) == 4
    assert allocator.allocate(1) is None


def test_only_buddies_merge_not_any_neighbours() -> None:
    allocator = BuddyAllocator(4)
    offsets = [allocator.allocate(1) for _ in range(4)]
    assert sorted(filter(lambda offset: offset is not None, offsets)) == [0, 1, 2, 3]
    allocator.free(1)
    allocator.free(2)  # a neighbour of 1, but the buddy of 3
    assert allocator.allocate(2) is None
    allocator.free(3)
    assert allocator.allocate(2) == 2


def test_a_capacity_that_is_no_power_of_two_is_a_row_of_blocks() -> None:
    assert _initial_blocks(15_728)[:4] == [(0, 8192), (8192, 4096), (12288, 2048), (14336, 1024)]
    allocator = BuddyAllocator(15_728)
    assert allocator.allocate(8193) is None
    # Seven maximal reservations of 2,048: why "Max" leaves 8.9% of this memory unused.
    placed = [allocator.allocate(2048) for _ in range(7)]
    assert sorted(offset for offset in placed if offset is not None) == [
        2048 * index for index in range(7)
    ]
    assert allocator.allocate(2048) is None
    assert allocator.allocate(1024) == 14_336


def test_it_is_logarithmic_in_the_number_of_slots() -> None:
    # A search slot by slot would not end.
    allocator = BuddyAllocator(2**60 + 1)
    offset = allocator.allocate(1)
    assert offset == 2**60
    assert allocator.allocate(1) == 0
    allocator.free(0)
    assert allocator.allocate(2**60) == 0


@pytest.mark.parametrize("num_slots", [0, -1])
def test_there_is_something_to_allocate(num_slots: int) -> None:
    with pytest.raises(ValueError, match=f"num_slots is {num_slots}"):
        BuddyAllocator(num_slots)


@pytest.mark.parametrize("size", [0, -5])
def test_a_block_has_at_least_one_slot(size: int) -> None:
    allocator = BuddyAllocator(8)
    with pytest.raises(ValueError, match=f"size is {size}"):
        allocator.allocate(size)
    assert allocator.allocate(8) == 0


def test_a_double_free_changes_nothing() -> None:
    allocator = BuddyAllocator(8)
    assert allocator.allocate(4) == 0
    assert allocator.allocate(4) == 4
    allocator.free(0)
    with pytest.raises(ValueError, match="no allocated block starts at slot 0"):
        allocator.free(0)
    assert allocator.block_size(4) == 4
    assert allocator.allocate(4) == 0
    assert allocator.allocate(1) is None


@pytest.mark.parametrize("offset", [1, 4, 8, -1, 100])
def test_a_foreign_offset_changes_nothing(offset: int) -> None:
    allocator = BuddyAllocator(8)
    assert allocator.allocate(4) == 0
    with pytest.raises(ValueError, match=f"no allocated block starts at slot {offset}"):
        allocator.free(offset)
    with pytest.raises(ValueError, match=f"no allocated block starts at slot {offset}"):
        allocator.block_size(offset)
    assert allocator.block_size(0) == 4
    assert allocator.allocate(4) == 4


def test_buddies_that_are_free_and_allocated_are_listed() -> None:
    allocator = BuddyAllocator(12)
    assert allocator.holes() == [Span(0, 8), Span(8, 4)]
    assert allocator.allocate(1) == 8
    assert allocator.blocks() == [Span(8, 1)]
    assert allocator.holes() == [Span(0, 8), Span(9, 1), Span(10, 2)]


# What fits where: each rule over free runs (offset, size), in order of offset, by brute force.

Runs = list[tuple[int, int]]


def _lowest(fitting: Runs) -> tuple[int, int]:
    return fitting[0]


def _smallest(fitting: Runs) -> tuple[int, int]:
    return min(fitting, key=lambda run: run[1])


def _largest(fitting: Runs) -> tuple[int, int]:
    return max(fitting, key=lambda run: run[1])


FITS: list[tuple[type[FitAllocator], Callable[[Runs], tuple[int, int]]]] = [
    (FirstFitAllocator, _lowest),
    (BestFitAllocator, _smallest),
    (WorstFitAllocator, _largest),
]
ALL: list[type[FitAllocator] | type[BuddyAllocator]] = [*(fit for fit, _ in FITS), BuddyAllocator]


class _Painting:
    """The oracle: one byte for each slot, 1 where it is allocated."""

    def __init__(self, num_slots: int) -> None:
        self.slots = bytearray(num_slots)
        self.sizes: dict[int, int] = {}  # of the block at each offset

    def free_runs(self) -> Runs:
        return [(run.start(), run.end() - run.start()) for run in re.finditer(b"\0+", self.slots)]

    def paint(self, offset: int, size: int) -> None:
        assert 0 <= offset <= len(self.slots) - size
        assert not any(self.slots[offset : offset + size]), "two blocks overlap"
        self.slots[offset : offset + size] = b"\1" * size
        self.sizes[offset] = size

    def erase(self, offset: int) -> None:
        size = self.sizes.pop(offset)
        self.slots[offset : offset + size] = bytes(size)

    def check(self, allocator: Allocator) -> None:
        """Conservation: blocks and holes are what is painted and what is not."""
        assert allocator.blocks() == sorted(self.sizes.items())
        holes = bytearray(b"\1" * len(self.slots))
        for offset, size in allocator.holes():
            assert all(holes[offset : offset + size]), "two holes overlap"
            holes[offset : offset + size] = bytes(size)
        assert holes == self.slots


def _operations(seed: int, count: int, num_slots: int) -> list[tuple[bool, int]]:
    """(whether to allocate, a size or which live block to free), with fuller and emptier times."""
    rng = random.Random(seed)
    operations = []
    for step in range(count):
        allocates = rng.random() < (0.6 if step // 500 % 2 == 0 else 0.4)
        size = min(num_slots, 1 + int(rng.expovariate(1 / 12)))
        operations.append((allocates, size if allocates else rng.randrange(10**6)))
    return operations


@pytest.mark.parametrize(("fit", "choose"), FITS)
def test_100_000_random_operations_on_a_fit(
    fit: type[FitAllocator], choose: Callable[[Runs], tuple[int, int]]
) -> None:
    num_slots = 256
    allocator, painting = fit(num_slots), _Painting(num_slots)
    live: list[int] = []
    refused = 0
    for allocates, number in _operations(seed=3, count=100_000, num_slots=num_slots):
        if allocates:
            runs = [run for run in painting.free_runs() if run[1] >= number]
            offset = allocator.allocate(number)
            if offset is None:
                assert not runs
                refused += 1
            else:
                # The very hole that the rule names, and the front of it.
                assert offset == choose(runs)[0]
                painting.paint(offset, number)
                live.append(offset)
        elif live:
            offset = live.pop(number % len(live))
            allocator.free(offset)
            painting.erase(offset)
        # Full coalescing at all times: the holes are the longest free runs that there are.
        assert allocator.holes() == painting.free_runs()
    painting.check(allocator)
    assert refused > 1000
    for offset in live:
        allocator.free(offset)
    assert allocator.holes() == [(0, num_slots)]
    assert allocator.blocks() == []


def test_100_000_random_operations_on_a_buddy() -> None:
    num_slots = 208  # blocks of 128, 64 and 16
    allocator, painting = BuddyAllocator(num_slots), _Painting(num_slots)
    live: list[int] = []
    refused = 0
    for step, (allocates, number) in enumerate(_operations(4, 100_000, num_slots)):
        if allocates:
            size = _round_up(number)
            offset = allocator.allocate(number)
            if offset is None:
                # Full coalescing: there is no free run on which a block of this size could lie.
                starts = range(0, num_slots - size + 1, size)
                assert all(any(painting.slots[start : start + size]) for start in starts)
                refused += 1
            else:
                assert offset % size == 0
                painting.paint(offset, size)
                live.append(offset)
        elif live:
            offset = live.pop(number % len(live))
            allocator.free(offset)
            painting.erase(offset)
        if step % 10 == 0:
            painting.check(allocator)
    painting.check(allocator)
    assert refused > 1000
    for offset in live:
        allocator.free(offset)
    assert allocator.holes() == [(0, 128), (128, 64), (192, 16)]
    assert allocator.blocks() == []


@given(num_slots=st.integers(1, 60), operations=operations)
@pytest.mark.parametrize(("fit", "choose"), FITS)
def test_a_fit_chooses_by_its_rule(
    fit: type[FitAllocator],
    choose: Callable[[Runs], tuple[int, int]],
    num_slots: int,
    operations: list[tuple[str, int]],
) -> None:
    # The same as above, in small: Hypothesis finds the shortest way to a mistake.
    allocator, painting = fit(num_slots), _Painting(num_slots)
    live: list[int] = []
    for operation, number in operations:
        if operation == "allocate" and number <= num_slots:
            runs = [run for run in painting.free_runs() if run[1] >= number]
            expected = choose(runs) if runs else None
            assert allocator.choose_hole(number) == expected
            offset = allocator.allocate(number)
            assert offset == (expected[0] if expected else None)
            if offset is not None:
                assert allocator.block_size(offset) == number
                painting.paint(offset, number)
                live.append(offset)
        elif operation == "free" and live:
            offset = live.pop(number % len(live))
            allocator.free(offset)
            painting.erase(offset)
        assert allocator.holes() == painting.free_runs()
        painting.check(allocator)


def _with_holes(allocator: Allocator) -> None:
    """Leave holes of 6, 2, 4 and 7 slots at 0, 7, 10 and 15, in a memory of 22."""
    for size in (6, 1, 2, 1, 4, 1, 7):
        allocator.allocate(size)
    for offset in (0, 7, 10, 15):
        allocator.free(offset)


@pytest.mark.parametrize(
    ("fit", "offsets"),
    [
        (FirstFitAllocator, [0, 15, 10, 3]),
        (BestFitAllocator, [10, 0, 15, 7]),
        (WorstFitAllocator, [15, 0, 10, 18]),
    ],
)
def test_one_case_in_which_they_differ(fit: type[FitAllocator], offsets: list[int]) -> None:
    allocator = fit(22)
    _with_holes(allocator)
    assert [allocator.allocate(size) for size in (3, 6, 4, 2)] == offsets


@pytest.mark.parametrize("fit", [fit for fit, _ in FITS])
class TestFits:
    def test_of_equal_holes_the_lowest_is_taken(self, fit: type[FitAllocator]) -> None:
        allocator = fit(7)
        for _ in range(7):
            allocator.allocate(1)
        for offset in (5, 3, 1):
            allocator.free(offset)
        assert [allocator.allocate(1) for _ in range(4)] == [1, 3, 5, None]

    @pytest.mark.parametrize("order", [(0, 2, 1), (1, 0, 2), (2, 1, 0), (0, 1, 2)])
    def test_neighbours_become_one_hole_in_any_order(
        self, fit: type[FitAllocator], order: tuple[int, int, int]
    ) -> None:
        allocator = fit(4)
        for _ in range(4):
            allocator.allocate(1)
        for offset in order:
            allocator.free(offset)
        assert allocator.holes() == [Span(0, 3)]
        assert allocator.allocate(3) == 0

    @pytest.mark.parametrize("size", [0, -3])
    def test_a_block_has_at_least_one_slot(self, fit: type[FitAllocator], size: int) -> None:
        allocator = fit(8)
        allocator.allocate(2)
        with pytest.raises(ValueError, match=f"size is {size}; a block has at least 1 slot"):
            allocator.allocate(size)
        assert allocator.blocks() == [Span(0, 2)]
        assert allocator.holes() == [Span(2, 6)]

    def test_none_leaves_everything_as_it_was(self, fit: type[FitAllocator]) -> None:
        allocator = fit(8)
        allocator.allocate(2)
        assert allocator.allocate(7) is None
        assert allocator.blocks() == [Span(0, 2)]
        assert allocator.holes() == [Span(2, 6)]

    def test_a_full_memory_has_no_holes(self, fit: type[FitAllocator]) -> None:
        allocator = fit(8)
        assert allocator.allocate(8) == 0
        assert allocator.holes() == []
        assert allocator.allocate(1) is None

    def test_what_is_listed_is_a_copy(self, fit: type[FitAllocator]) -> None:
        allocator = fit(8)
        allocator.allocate(2)
        allocator.holes().clear()
        allocator.blocks().clear()
        assert allocator.blocks() == [Span(0, 2)]
        assert allocator.holes() == [Span(2, 6)]

    def test_memory_costs_nothing_until_it_is_used(self, fit: type[FitAllocator]) -> None:
        allocator = fit(2**60)
        assert allocator.allocate(1) == 0
        assert allocator.allocate(2**59) == 1


@pytest.mark.parametrize("kind", ALL)
class TestFreeingTheWrongThing:
    @pytest.mark.parametrize(
        ("offset", "reason"),
        [
            (2, "it is inside the block of slots 0 to 3"),
            (4, "it is free, so its block was freed before or never allocated"),
            (8, "it is free"),
            (-1, "there are only slots 0 to 15"),
            (16, "there are only slots 0 to 15"),
        ],
    )
    def test_the_reason_is_named_and_nothing_changes(
        self, kind: Callable[[int], Allocator], offset: int, reason: str
    ) -> None:
        allocator = kind(16)
        assert [allocator.allocate(4), allocator.allocate(4)] == [0, 4]
        allocator.free(4)
        blocks, holes = allocator.blocks(), allocator.holes()
        message = f"no allocated block starts at slot {offset}: {reason}"
        with pytest.raises(ValueError, match=message):
            allocator.free(offset)
        with pytest.raises(ValueError, match=message):
            allocator.block_size(offset)
        assert (allocator.blocks(), allocator.holes()) == (blocks, holes)
        assert allocator.allocate(4) == 4

    def test_a_memory_has_slots(self, kind: Callable[[int], Allocator]) -> None:
        with pytest.raises(ValueError, match="num_slots is 0"):
            kind(0)


@pytest.mark.parametrize("kind", ALL)
@pytest.mark.parametrize("size", [9, 16, 2**40])
def test_more_than_there_is_fits_nowhere(
    kind: type[FitAllocator] | type[BuddyAllocator], size: int
) -> None:
    allocator = kind(8)
    assert allocator.allocate(size) is None
    assert allocator.allocate(2) == 0
    holes = allocator.holes()
    assert allocator.allocate(size) is None
    assert (allocator.blocks(), allocator.holes()) == ([Span(0, 2)], holes)

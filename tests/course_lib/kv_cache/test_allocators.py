"""The buddy allocator: alignment, no overlap, conservation, coalescing, errors."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from course_lib.kv_cache import BuddyAllocator


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

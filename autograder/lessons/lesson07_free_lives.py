"""Lesson 7: what is given back to a pool, step by step."""

from __future__ import annotations

from autograder.checks.stateful import Life
from autograder.lessons.lesson07_pool_lives import at, cached, find, lent_by_another, look, take
from autograder.proxy.recipes import Make
from course_lib.kv_cache.block_pool import KVCacheBlock


def two_requests_end(life: Life) -> None:
    """End a request with full blocks, then one with a block that is not full."""
    life.create(9)
    take(life, 3)
    cached(life, (1, 2, 3), "abc")
    take(life, 2)
    cached(life, (4,), "d")
    life.do("free_blocks", at(3, 2, 1))
    look(life)
    life.do("free_blocks", at(5, 4))
    look(life)
    find(life, "b")


def shared_and_freed(life: Life) -> None:
    """Two hold a block; one gives it back, then the other."""
    life.create(4)
    take(life, 2)
    life.do("touch", at(1))
    life.do("free_blocks", at(2, 1))
    look(life)
    life.do("free_blocks", at(1))
    look(life)


def both_at_once(life: Life) -> None:
    """Give one block back twice in one call; it is held twice."""
    life.create(4)
    take(life, 2)
    life.do("touch", at(1))
    life.do("free_blocks", at(1, 2, 1))
    look(life)


def one_time_too_often(life: Life) -> None:
    """Give a block back more often than it is held, behind one that is held."""
    life.create(4)
    take(life, 2)
    life.do("free_blocks", at(2, 1, 1))
    look(life)
    life.do("free_blocks", at(1, 3))
    look(life)
    life.do("free_blocks", at(3))
    look(life)


def three_times_of_two(life: Life) -> None:
    """Give a block back three times that two hold."""
    life.create(2)
    take(life, 1)
    life.do("touch", at(1))
    life.do("free_blocks", at(1, 1, 1))
    look(life)


def held_by_twelve(life: Life) -> None:
    """Give a block back once too often that twelve hold, then once, then as often as it is held."""
    life.create(2)
    life.do("touch", at(*12 * [1]))
    life.do("free_blocks", at(*13 * [1]))
    look(life)
    life.do("free_blocks", at(1))
    life.see("blocks.1.ref_cnt")
    life.do("free_blocks", at(*11 * [1]))
    life.see("blocks.1.ref_cnt")
    look(life)


def not_from_here(life: Life) -> None:
    """Give back what this pool has not lent."""
    life.create(4)
    take(life, 2)
    life.do("free_blocks", at(2, 0))
    look(life)
    life.do("free_blocks", [*at(1), Make(KVCacheBlock, 2, 1)])
    look(life)


def not_from_here_between_others(life: Life) -> None:
    """Give back what this pool has not lent between two that it has: nothing changes."""
    life.create(3)
    take(life, 2)
    life.do("free_blocks", at(1, 0, 2))
    look(life)
    life.do("free_blocks", [*at(1), Make(KVCacheBlock, 2, 1), *at(2)])
    look(life)


def from_another_pool(life: Life) -> None:
    """Give back what another pool of the same size has lent."""
    life.create(2)
    life.do("free_blocks", lent_by_another(2))
    look(life)


def in_this_order(life: Life) -> None:
    """Give three back, none of which is full, in an order of one's own, as an iterator, or none."""
    life.create(6)
    take(life, 4)
    life.do("free_blocks", at(2, 3, 1))
    look(life)
    life.do("free_blocks", Make(iter, at(4)))
    look(life)
    life.do("free_blocks", [])
    look(life)


def one_back(life: Life) -> None:
    """Give one block back, with a free one behind it."""
    life.create(3)
    take(life, 1)
    life.do("free_blocks", at(1))
    look(life)


def two_back(life: Life) -> None:
    """Give two blocks back at once, without a hash."""
    life.create(3)
    take(life, 2)
    life.do("free_blocks", at(2, 1))
    look(life)


def one_back_without_caching(life: Life) -> None:
    """Give one block back to a pool without caching."""
    life.create(3, False)
    take(life, 1)
    life.do("free_blocks", at(1))
    look(life)


def one_back_through_an_iterator(life: Life) -> None:
    """Give the only block back, given by an iterator."""
    life.create(2)
    take(life, 1)
    life.do("free_blocks", Make(iter, at(1)))
    look(life)


def twice_of_two(life: Life) -> None:
    """Give a block back twice that two hold."""
    life.create(2)
    life.do("touch", at(1, 1))
    life.do("free_blocks", at(1, 1))
    look(life)


def a_full_one_back(life: Life) -> None:
    """Give one block back that holds a prefix, with a free one behind it."""
    life.create(3)
    take(life, 1)
    cached(life, (1,), "a")
    life.do("free_blocks", at(1))
    look(life)


def two_full_ones_back(life: Life) -> None:
    """Give two blocks back at once that hold a prefix."""
    life.create(3)
    take(life, 2)
    cached(life, (1, 2), "ab")
    life.do("free_blocks", at(2, 1))
    look(life)


def the_full_one_first(life: Life) -> None:
    """Give two blocks back at once, that which holds a prefix before the other."""
    life.create(3)
    take(life, 2)
    cached(life, (1,), "a")
    life.do("free_blocks", at(1, 2))
    look(life)


def a_second_of_the_same_back(life: Life) -> None:
    """Give a block back that holds what another block is found for."""
    life.create(4)
    take(life, 2)
    cached(life, (1, 2), "aa")
    life.do("free_blocks", at(2))
    look(life)


def once_too_often(life: Life) -> None:
    """Give the only block back twice in one call that one holds."""
    life.create(2)
    take(life, 1)
    life.do("free_blocks", at(1, 1))


def the_null_block_back(life: Life) -> None:
    """Give the null block back, and nothing else."""
    life.create(1)
    life.do("free_blocks", at(0))


def one_and_the_null_block_back(life: Life) -> None:
    """Give back the only block, and the null block behind it."""
    life.create(2)
    take(life, 1)
    life.do("free_blocks", at(1, 0))
    look(life)


def a_stranger_back(life: Life) -> None:
    """Give a block of no pool back, with the number of one that is free here."""
    life.create(2)
    life.do("free_blocks", [Make(KVCacheBlock, 1, 1)])


def one_and_a_stranger_of_its_number_back(life: Life) -> None:
    """Give back the only block, and a block of no pool behind it that has the same number."""
    life.create(2)
    take(life, 1)
    life.do("free_blocks", [*at(1), Make(KVCacheBlock, 1, 1)])
    look(life)


def a_stranger_of_a_greater_number_back(life: Life) -> None:
    """Give a block of no pool back, with a number that no block has here."""
    life.create(2)
    life.do("free_blocks", [Make(KVCacheBlock, 2, 1)])


def two_back_by_number(life: Life) -> None:
    """Give two blocks back at once, without a hash, the smaller number first."""
    life.create(3)
    take(life, 2)
    life.do("free_blocks", at(1, 2))
    look(life)


def two_of_the_same_back(life: Life) -> None:
    """Give two blocks back at once that hold the same."""
    life.create(3)
    take(life, 2)
    cached(life, (1, 2), "aa")
    life.do("free_blocks", at(2, 1))
    look(life)


FREE_PROBES = (
    one_back,
    two_back,
    one_back_without_caching,
    one_back_through_an_iterator,
    twice_of_two,
    a_full_one_back,
    two_full_ones_back,
    the_full_one_first,
    a_second_of_the_same_back,
    two_requests_end,
    shared_and_freed,
    both_at_once,
    one_time_too_often,
    three_times_of_two,
    held_by_twelve,
    not_from_here,
    not_from_here_between_others,
    from_another_pool,
    in_this_order,
    once_too_often,
    the_null_block_back,
    one_and_the_null_block_back,
    a_stranger_back,
    one_and_a_stranger_of_its_number_back,
    a_stranger_of_a_greater_number_back,
    two_back_by_number,
    two_of_the_same_back,
)

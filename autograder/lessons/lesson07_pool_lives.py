"""Lesson 7: what may be done to a pool, at random and step by step."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from typing import Any

from hypothesis import strategies as st
from hypothesis.stateful import initialize, rule

from autograder.checks.acts import Act
from autograder.checks.stateful import Life, Twin
from autograder.proxy.recipes import At, Make, reach
from course_lib.kv_cache.block_pool import BlockPool, KVCacheBlock
from course_lib.kv_cache.watch.churn import take_twice_and_free_both
from course_lib.kv_cache.watch.notation import state_line

# 7.3 and 7.4, the pool

_LETTERS = ("a", "b", "c")


def at(*block_ids: int) -> list[At]:
    """Return blocks of the pool that lives, by their ids."""
    return [At(f"blocks.{block_id}") for block_id in block_ids]


def lent_by_another(num_blocks: int) -> Make:
    """Return all the blocks of another pool, which has lent them."""
    return Make(BlockPool.get_new_blocks, Make(BlockPool, num_blocks), num_blocks - 1)


class PoolLife(Twin):
    """What may be done to a pool. A pool beside it says which blocks are held.

    Negative numbers and the null block are left to the probes: they make the shortest of all cases,
    and whoever gets the idea wrong is to hear of that first.
    """

    is_free = True

    @initialize(
        num_blocks=st.sampled_from((4, 5, 6, 2, 3)), enable_caching=st.sampled_from((True, False))
    )
    def start(self, num_blocks: int, enable_caching: bool) -> None:
        """Make a pool."""
        given = (num_blocks,) if enable_caching else (num_blocks, False)
        self.create(*given)
        self.beside = BlockPool(*given)

    @staticmethod
    def is_sound(acts: Sequence[Act]) -> bool:
        """Say whether there is such a pool, with such blocks, and only blocks in use are cached."""
        try:
            pool = BlockPool(*acts[0].args)
            for act in acts:
                if act.verb == "do" and not _is_done(pool, *act.args):
                    return False
        except (IndexError, ValueError):
            return False
        return True

    def both(self, method: str, *args: Any) -> None:
        """Call a method of all three pools, if it may be called now; then look at the state."""
        if _is_done(self.beside, method, *args):
            reads = ("block_id", "ref_cnt", "block_hash") if method == "get_new_blocks" else ()
            self.do(method, *args, reads=reads)
            self.apply(state_line)

    def chosen(self, places: Sequence[int], is_held: bool) -> list[int]:
        """Return ids by numbers: of blocks that are held, or of any but the null block."""
        ids = [b.block_id for b in self.beside.blocks[1:] if b.ref_cnt or not is_held]
        return [ids[place % len(ids)] for place in places if ids]

    @rule(num_blocks=st.integers(0, 6))
    def take(self, num_blocks: int) -> None:
        """Take blocks, at times more than there are."""
        self.both("get_new_blocks", num_blocks)
        self.see("num_evictions")

    @rule(places=st.lists(st.integers(0, 5), min_size=1, max_size=4))
    def free_held(self, places: list[int]) -> None:
        """Give blocks back, at times one more often than it is held."""
        if block_ids := self.chosen(places, is_held=True):
            self.both("free_blocks", at(*block_ids))

    @rule(places=st.lists(st.integers(0, 5), min_size=1, max_size=3))
    def free_any(self, places: list[int]) -> None:
        """Give back what may not be held."""
        self.both("free_blocks", at(*self.chosen(places, is_held=False)))

    @rule(places=st.lists(st.integers(0, 5), min_size=1, max_size=3))
    def touch(self, places: list[int]) -> None:
        """Share blocks, in use or free."""
        self.both("touch", at(*self.chosen(places, is_held=False)))

    @rule(place=st.integers(0, 5), letter=st.sampled_from(_LETTERS))
    def cache(self, place: int, letter: str) -> None:
        """Let others find what is in a block that is held."""
        for block_id in self.chosen([place], is_held=True):
            self.do("cache_full_blocks", at(block_id), [letter.encode()])
            self.beside.cache_full_blocks([self.beside.blocks[block_id]], [letter.encode()])

    @rule(letter=st.sampled_from(_LETTERS))
    def find(self, letter: str) -> None:
        """Look a prefix up."""
        self.do("get_cached_block", letter.encode(), reads=("block_id",))


def _is_done(pool: BlockPool, name: str, *arguments: Any) -> bool:
    """Call a method, be it refused; return False if nothing says what should come of it.

    Only blocks in use become findable. Of two reasons to refuse a release, either may be told.
    """
    args = [_of(pool, argument) for argument in arguments]
    if name == "cache_full_blocks" and not all(block.ref_cnt for block in args[0]):
        return False
    if name == "free_blocks":
        blocks = args[0] = list(args[0])
        is_foreign = any(block.pool is not pool for block in blocks)
        if is_foreign and any(b.ref_cnt < blocks.count(b) for b in blocks if b.pool is pool):
            return False
    with suppress(ValueError):
        getattr(pool, name)(*args)
    return True


def _of(pool: BlockPool, argument: Any) -> Any:
    """Return what an argument stands for beside a pool; what others made is not its own."""
    if isinstance(argument, At):
        return reach(pool, argument.path)
    if isinstance(argument, Make):
        (first, *_) = argument.args
        if isinstance(first, list):
            return _of(pool, first)
        stranger = KVCacheBlock(block_id=1, ref_cnt=1)
        return [stranger] if isinstance(first, Make) else stranger
    return [_of(pool, each) for each in argument] if isinstance(argument, list) else argument


def look(life: Life) -> None:
    """Look at the state, and how many were evicted."""
    life.apply(state_line)
    life.see("num_evictions")


def take(life: Life, num_blocks: int) -> None:
    """Take blocks, and look at what came."""
    life.do("get_new_blocks", num_blocks, reads=("block_id", "ref_cnt", "block_hash"))


def cached(life: Life, block_ids: Sequence[int], letters: str) -> None:
    """Let others find what is in blocks that are held."""
    life.do("cache_full_blocks", at(*block_ids), [letter.encode() for letter in letters])


def find(life: Life, letter: str) -> None:
    """Look a prefix up."""
    life.do("get_cached_block", letter.encode(), reads=("block_id",))


def _cached_and_freed(life: Life, letters: str) -> None:
    """Fill a pool with blocks that hold prefixes, and give all of them back, the last one first."""
    number = len(letters)
    life.create(number + 1)
    take(life, number)
    cached(life, range(1, number + 1), letters)
    life.do("free_blocks", at(*range(number, 0, -1)))


def taken(life: Life) -> None:
    """Take the only block."""
    life.create(2)
    take(life, 1)
    look(life)


def taken_twice(life: Life) -> None:
    """Take some, then some more."""
    life.create(5)
    take(life, 2)
    look(life)
    take(life, 1)
    look(life)


def taken_when_cached(life: Life) -> None:
    """Take a block that holds a prefix; then none."""
    _cached_and_freed(life, "a")
    take(life, 1)
    look(life)
    find(life, "a")
    take(life, 0)
    look(life)


def into_the_cached(life: Life) -> None:
    """Take what is free, and one block that holds a prefix; then the other."""
    life.create(4)
    take(life, 2)
    cached(life, (1, 2), "ab")
    life.do("free_blocks", at(2, 1))
    look(life)
    take(life, 2)
    look(life)
    take(life, 1)
    look(life)
    for letter in "ab":
        find(life, letter)


def several_cached(life: Life) -> None:
    """Take five blocks at once, each with a prefix."""
    _cached_and_freed(life, "abcde")
    take(life, 5)
    look(life)


def the_same_at_once(life: Life) -> None:
    """Take two blocks that hold the same."""
    _cached_and_freed(life, "aa")
    take(life, 2)
    look(life)


def the_older_of_two(life: Life) -> None:
    """Two blocks hold the same; the one that is found is handed out."""
    life.create(3)
    take(life, 2)
    cached(life, (1, 2), "aa")
    life.do("free_blocks", at(1))
    take(life, 1)
    look(life)
    find(life, "a")


def the_younger_of_two(life: Life) -> None:
    """Two blocks hold the same; the one that is not found is handed out."""
    life.create(3)
    take(life, 2)
    cached(life, (1, 2), "aa")
    life.do("free_blocks", at(2))
    take(life, 1)
    look(life)
    find(life, "a")


def too_many(life: Life) -> None:
    """Ask for more than there are."""
    life.create(4)
    take(life, 4)
    look(life)
    take(life, 3)
    take(life, 1)
    look(life)


def too_many_cached(life: Life) -> None:
    """Ask for more than there are, where what is free holds a prefix."""
    _cached_and_freed(life, "a")
    take(life, 2)
    look(life)


def fewer_than_none(life: Life) -> None:
    """Ask for a negative number of blocks, and for none."""
    life.create(3)
    take(life, 0)
    take(life, -1)
    look(life)


def taken_and_used(life: Life) -> None:
    """Take a block, then another, and give back the very blocks that came."""
    life.create(3)
    life.apply(take_twice_and_free_both)
    look(life)


GET_PROBES = (
    taken,
    taken_twice,
    taken_when_cached,
    into_the_cached,
    several_cached,
    the_same_at_once,
    the_older_of_two,
    the_younger_of_two,
    too_many,
    too_many_cached,
    fewer_than_none,
    taken_and_used,
)


def touched_through_an_iterator(life: Life) -> None:
    """Claim the only block, given by an iterator."""
    life.create(2)
    life.do("touch", Make(iter, at(1)))
    look(life)


def touched_while_free(life: Life) -> None:
    """Claim a free block, twice, and give it back."""
    life.create(4)
    life.do("touch", at(2))
    look(life)
    life.do("touch", at(2))
    look(life)
    life.do("free_blocks", at(2, 2))
    look(life)


def touched_with_a_prefix(life: Life) -> None:
    """Claim a block that holds a prefix; it still does."""
    life.create(4)
    take(life, 2)
    cached(life, (1, 2), "ab")
    life.do("free_blocks", at(2, 1))
    life.do("touch", at(1))
    look(life)
    find(life, "a")
    take(life, 2)
    look(life)


def touched_twice_at_once(life: Life) -> None:
    """Claim one block twice in one call, and through an iterator."""
    life.create(4)
    life.do("touch", at(3, 3))
    look(life)
    life.do("touch", Make(iter, at(1, 3)))
    look(life)


def touched_in_vain(life: Life) -> None:
    """Claim what nobody may hold: nothing changes."""
    life.create(4)
    for block_ids in ((1, 0), (0, 1), (0,)):
        life.do("touch", at(*block_ids))
        look(life)
    life.do("touch", [*at(2), Make(KVCacheBlock, 3)])
    look(life)


def touched_in_vain_between_others(life: Life) -> None:
    """Claim what nobody may hold between two that are free: nothing changes."""
    life.create(3)
    life.do("touch", at(1, 0, 2))
    look(life)
    life.do("touch", [*at(1), Make(KVCacheBlock, 2), *at(2)])
    look(life)


def touched_abroad(life: Life) -> None:
    """Claim what another pool of the same size has lent."""
    life.create(2)
    life.do("touch", lent_by_another(2))
    look(life)


def the_only_one_touched(life: Life) -> None:
    """Claim the only block, which is free."""
    life.create(2)
    life.do("touch", at(1))
    look(life)


def touched_in_use(life: Life) -> None:
    """Claim the only block, which somebody holds."""
    life.create(2)
    take(life, 1)
    life.do("touch", at(1))
    look(life)


def touched_in_use_and_full(life: Life) -> None:
    """Claim the only block, which somebody holds, and which holds a prefix."""
    life.create(2)
    take(life, 1)
    cached(life, (1,), "a")
    life.do("touch", at(1))
    look(life)


def the_null_block_touched(life: Life) -> None:
    """Claim the null block, and nothing else."""
    life.create(1)
    life.do("touch", at(0))


def a_stranger_touched(life: Life) -> None:
    """Claim a block of no pool, with the number of one that is free here."""
    life.create(2)
    life.do("touch", [Make(KVCacheBlock, 1)])


def a_stranger_of_a_greater_number_touched(life: Life) -> None:
    """Claim a block of no pool, with a number that no block has here."""
    life.create(2)
    life.do("touch", [Make(KVCacheBlock, 2)])


def the_only_one_touched_with_its_prefix(life: Life) -> None:
    """Claim the only block, which is free and holds a prefix."""
    _cached_and_freed(life, "a")
    life.do("touch", at(1))
    look(life)


def both_of_the_same_touched(life: Life) -> None:
    """Claim two blocks at once that hold the same."""
    _cached_and_freed(life, "aa")
    life.do("touch", at(1, 2))
    look(life)


def the_other_of_the_same_touched(life: Life) -> None:
    """Claim a block that holds what another block is found for."""
    _cached_and_freed(life, "aa")
    life.do("touch", at(2))
    look(life)


TOUCH_PROBES = (
    touched_through_an_iterator,
    touched_while_free,
    touched_with_a_prefix,
    touched_twice_at_once,
    touched_in_vain,
    touched_in_vain_between_others,
    touched_abroad,
    the_only_one_touched,
    touched_in_use,
    touched_in_use_and_full,
    the_null_block_touched,
    a_stranger_touched,
    a_stranger_of_a_greater_number_touched,
    the_only_one_touched_with_its_prefix,
    both_of_the_same_touched,
    the_other_of_the_same_touched,
)

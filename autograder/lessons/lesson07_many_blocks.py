"""Lesson 7: lives of a pool whose size is the point."""

from __future__ import annotations

from autograder.checks.stateful import LargeLife, Life
from autograder.lessons.lesson07_pool_lives import take
from course_lib.kv_cache.watch.churn import link_queue, use_half, use_one


def half_in_use(life: Life) -> None:
    """Take, share and give back 25,000 blocks."""
    life.create(50_001)
    life.apply(link_queue)
    life.apply(use_half)
    life.do("get_num_free_blocks")
    take(life, 2)


def one_shared(life: Life) -> None:
    """Take, share and give back one block, 2,000 times, with the queue that a pool has by itself.

    Its ``remove`` looks through all blocks before it refuses one that is not there: whoever asks it
    and overlooks the error takes four times the limit, the right answer a fifth.
    """
    life.create(100_001)
    life.apply(use_one, 2_000)
    life.do("get_num_free_blocks")
    take(life, 2)


def one_in_use(life: Life) -> None:
    """Take, share and give back one block, 2,000 times.

    A look at all blocks in each call takes five times the limit and more, the right answer a fifth.
    """
    life.create(100_001)
    life.apply(link_queue)
    life.apply(use_one, 2_000)
    life.do("get_num_free_blocks")
    take(life, 2)


_A_SEARCH = (
    "A search for each block or in each call (`in`, `count`, `index`, a loop over the queue or the "
    "pool) takes longer the more blocks there are. A block's own `ref_cnt` and `pool` say where it "
    "belongs, and a Counter says in one pass how often each is named"
)

_HALF_IN_USE = LargeLife(
    half_in_use, "50,000 blocks, half of them in use at once", seconds=0.5, slow=_A_SEARCH
)
_ONE_OF_MANY = "100,000 blocks, one of which is taken and given back"

MANY_BLOCKS = (_HALF_IN_USE, LargeLife(one_in_use, _ONE_OF_MANY, seconds=0.5, slow=_A_SEARCH))

MANY_TO_SHARE = (
    _HALF_IN_USE,
    LargeLife(
        one_shared,
        _ONE_OF_MANY,
        seconds=0.5,
        slow=f"{_A_SEARCH}. The queue's `remove` is a search too, where it refuses",
    ),
)

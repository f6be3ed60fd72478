"""Pools that differ from ``BlockPool`` in one thing: where a block goes that comes back.

All of them keep every law of a pool, since the order of the free queue is none. What differs is
which prefix is lost first. They are here to be compared: in a figure, and on a trace.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from types import MappingProxyType

from course_lib.kv_cache.block_pool import BlockPool, KVCacheBlock


def released(blocks: Iterable[KVCacheBlock]) -> list[KVCacheBlock]:
    """Lower the count of each block by one; return those that nobody holds any more, in order.

    >>> pool = BlockPool(num_blocks=4)
    >>> one, two = pool.get_new_blocks(2)
    >>> pool.touch([two])
    >>> [block.block_id for block in released([two, one])]
    [1]
    """
    idle = []
    for block in blocks:
        block.ref_cnt -= 1
        if not block.ref_cnt:
            idle.append(block)
    return idle


class AllToTheBack(BlockPool):
    """Every block goes to the back, whether it has a hash or not: first in, first out.

    >>> pool = AllToTheBack(num_blocks=5)
    >>> pool.free_blocks(pool.get_new_blocks(2))
    >>> [block.block_id for block in pool.free_block_queue]
    [3, 4, 1, 2]
    """

    def free_blocks(self, ordered_blocks: Iterable[KVCacheBlock]) -> None:
        """Give blocks back; all of them go to the back, as they are given."""
        self.free_block_queue.append_n(released(ordered_blocks))


class AllToTheFront(BlockPool):
    """Every block goes to the front, whether it has a hash or not: last in, first out.

    >>> pool = AllToTheFront(num_blocks=5)
    >>> held = pool.get_new_blocks(3)
    >>> pool.free_blocks(held[:2])
    >>> [block.block_id for block in pool.free_block_queue]
    [1, 2, 4]
    """

    def free_blocks(self, ordered_blocks: Iterable[KVCacheBlock]) -> None:
        """Give blocks back; all of them go to the front, as they are given."""
        self.free_block_queue.prepend_n(released(ordered_blocks))


class FirstBlockFirst(BlockPool):
    """The rule of ``BlockPool``, for a caller who passes the first block of a request first.

    >>> pool = FirstBlockFirst(num_blocks=5)
    >>> pool.free_blocks(reversed(pool.get_new_blocks(2)))
    >>> [block.block_id for block in pool.free_block_queue]
    [1, 2, 3, 4]
    """

    def free_blocks(self, ordered_blocks: Iterable[KVCacheBlock]) -> None:
        """Give blocks back in the opposite of the order that they are given in."""
        super().free_blocks(list(ordered_blocks)[::-1])


ORDER_RULES: Mapping[str, type[BlockPool]] = MappingProxyType(
    {
        "the rule": BlockPool,
        "all to the back": AllToTheBack,
        "first block first": FirstBlockFirst,
        "all to the front": AllToTheFront,
    }
)
"""Each pool by the name of its rule; ``BlockPool``'s own comes first."""

"""Work for a free queue and for a pool, to be timed."""

from __future__ import annotations

from itertools import islice

from course_lib.kv_cache.block_pool import BlockPool, FreeBlockQueue


def churn(queue: FreeBlockQueue, num_moves: int) -> None:
    """Take blocks out of the middle of a queue and put each at its back, as many hits would.

    Args:
        queue: The queue.
        num_moves: How many blocks, from the middle on; at most half of those in it.

    >>> from course_lib.kv_cache.block_pool import FreeKVCacheBlockQueue, KVCacheBlock
    >>> queue = FreeKVCacheBlockQueue([KVCacheBlock(block_id) for block_id in range(6)])
    >>> churn(queue, num_moves=2)
    >>> [block.block_id for block in queue]
    [0, 1, 2, 5, 3, 4]
    """
    middle = len(queue) // 2
    for block in list(islice(queue, middle, middle + num_moves)):
        queue.remove(block)
        queue.append_n([block])


def use_half(pool: BlockPool) -> None:
    """Take half of the free blocks, share each, and give all of them back, twice.

    >>> pool = BlockPool(num_blocks=7)
    >>> use_half(pool)
    >>> [block.block_id for block in pool.free_block_queue]
    [3, 2, 1, 4, 5, 6]
    """
    blocks = pool.get_new_blocks(pool.get_num_free_blocks() // 2)
    pool.touch(blocks)
    for _ in range(2):
        pool.free_blocks(reversed(blocks))

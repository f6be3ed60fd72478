"""Work for a free queue and for a pool, to be timed."""

from __future__ import annotations

from itertools import islice

from course_lib.kv_cache.block_pool import BlockPool, FreeBlockQueue, FreeKVCacheBlockQueue


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


def move_at_the_ends(queue: FreeKVCacheBlockQueue, num_rounds: int) -> None:
    """Take blocks from the front of a linked queue, and put them at either end, a few at a time.

    Args:
        queue: The queue, of four blocks at least.
        num_rounds: How often; each time the first four blocks go to the back.

    >>> from course_lib.kv_cache.block_pool import KVCacheBlock
    >>> queue = FreeKVCacheBlockQueue([KVCacheBlock(block_id) for block_id in range(6)])
    >>> move_at_the_ends(queue, num_rounds=1)
    >>> [block.block_id for block in queue]
    [4, 5, 0, 1, 2, 3]
    """
    for _ in range(num_rounds):
        queue.prepend(queue.popleft())
        queue.append(queue.popleft())
        queue.prepend_n(queue.popleft_n(3))
        queue.append_n(queue.popleft_n(3))


def move_all(queue: FreeBlockQueue) -> None:
    """Take all blocks of a queue at once and put them in front, then once more and put them behind.

    >>> from course_lib.kv_cache.block_pool import KVCacheBlock
    >>> queue = FreeKVCacheBlockQueue([KVCacheBlock(block_id) for block_id in range(3)])
    >>> move_all(queue)
    >>> [block.block_id for block in queue]
    [0, 1, 2]
    """
    queue.prepend_n(queue.popleft_n(len(queue)))
    queue.append_n(queue.popleft_n(len(queue)))


def link_queue(pool: BlockPool) -> None:
    """Let a pool keep its free blocks in a linked queue, in the order in which they are.

    >>> pool = BlockPool(num_blocks=4)
    >>> link_queue(pool)
    >>> [block.block_id for block in pool.free_block_queue]
    [1, 2, 3]
    """
    pool.free_block_queue = FreeKVCacheBlockQueue(list(pool.free_block_queue))


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


def take_twice_and_free_both(pool: BlockPool) -> None:
    """Take one block and then another, and give both back.

    >>> pool = BlockPool(num_blocks=4)
    >>> take_twice_and_free_both(pool)
    >>> [block.block_id for block in pool.free_block_queue]
    [2, 1, 3]
    """
    first, second = pool.get_new_blocks(1), pool.get_new_blocks(1)
    pool.free_blocks(first)
    pool.free_blocks(second)


def use_one(pool: BlockPool, num_rounds: int) -> None:
    """Take one block, share it, and give it back twice, again and again.

    >>> pool = BlockPool(num_blocks=4)
    >>> use_one(pool, num_rounds=3)
    >>> [block.block_id for block in pool.free_block_queue]
    [1, 2, 3]
    """
    for _ in range(num_rounds):
        blocks = pool.get_new_blocks(1)
        pool.touch(blocks)
        pool.free_blocks(blocks)
        pool.free_blocks(blocks)

"""The block pool: who holds which block of the KV cache, and which block is given up next.

A KV cache is cut into blocks of equal size. ``BlockPool`` hands them out, counts who holds each of
them, and keeps the contents of blocks that nobody holds for as long as it can, because the next
request may begin with the same tokens. The order of its free queue decides what is lost first.

The free queue exists twice. ``FreeKVCacheBlockQueue`` is the doubly linked list that vLLM uses:
no operation takes longer for a longer queue, and one sees how. ``TwoPartFreeQueue`` does the same
with two containers that Python implements in C, and is what the pool uses, because it is measured
to be faster (``course bench core`` prints both). Either can be plugged into the pool, and no caller
can tell the difference but by the time.

Order and names follow vLLM 0.33.0 (``vllm/v1/core/block_pool.py`` and ``kv_cache_utils.py``).
"""

from __future__ import annotations

from collections import Counter, OrderedDict
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice, repeat
from typing import Protocol


class OutOfBlocksError(ValueError):
    """More blocks were asked for than are free."""


class DoubleFreeError(ValueError):
    """A block was given back more often than it is held."""


class ForeignBlockError(ValueError):
    """A block does not belong to this pool, or is the null block, which nobody may hold."""


@dataclass(slots=True, eq=False)
class KVCacheBlock:
    """One block of the KV cache: its name, how many hold it, and what is in it.

    Attributes:
        block_id: Its place in the KV cache, from 0.
        ref_cnt: How many requests hold it. 0 means that it is free.
        block_hash: What it holds, as a hash of all tokens up to its end. None until it is full.
        prev_free_block: The block in front of it in a ``FreeKVCacheBlockQueue``.
        next_free_block: The block behind it in a ``FreeKVCacheBlockQueue``.
        pool: The pool that lends it out; None for a null block, which nobody may hold.

    >>> KVCacheBlock(7)
    KVCacheBlock(block_id=7, ref_cnt=0, block_hash=None)
    """

    block_id: int
    ref_cnt: int = 0
    block_hash: bytes | None = None
    prev_free_block: KVCacheBlock | None = field(default=None, repr=False)
    next_free_block: KVCacheBlock | None = field(default=None, repr=False)
    pool: BlockPool | None = field(default=None, repr=False)


class FreeBlockQueue(Protocol):
    """What a pool needs of its free queue. The front is given out first."""

    def __len__(self) -> int:
        """Return the number of blocks in the queue."""

    def __iter__(self) -> Iterator[KVCacheBlock]:
        """Yield the blocks from front to back."""

    def popleft_n(self, n: int) -> list[KVCacheBlock]:
        """Take the first ``n`` blocks, in order; OutOfBlocksError if there are fewer."""

    def append_n(self, blocks: Sequence[KVCacheBlock]) -> None:
        """Put blocks at the back; the last of them becomes the last of the queue."""

    def prepend_n(self, blocks: Sequence[KVCacheBlock]) -> None:
        """Put blocks at the front; the first of them becomes the first of the queue."""

    def remove(self, block: KVCacheBlock) -> None:
        """Take a block out, wherever it is; ValueError if it is not in the queue."""


def out_of_blocks(requested: int, free: int) -> OutOfBlocksError:
    """Return the error for a queue that is too short: it says what was asked for and what there is.

    >>> str(out_of_blocks(requested=2, free=1))
    'requested 2 blocks but only 1 are free; free a request, or raise num_blocks'
    """
    return OutOfBlocksError(
        f"requested {requested} blocks but only {free} are free; "
        "free a request, or raise num_blocks"
    )


def not_in_queue(block: KVCacheBlock) -> ValueError:
    """Return the error for a block that is not in a free queue.

    >>> str(not_in_queue(KVCacheBlock(7)))
    'block 7 is not in this free queue; only a free block can be removed'
    """
    return ValueError(
        f"block {block.block_id} is not in this free queue; only a free block can be removed"
    )


def double_free(block: KVCacheBlock) -> DoubleFreeError:
    """Return the error for a block that is given back more often than it is held.

    >>> str(double_free(KVCacheBlock(7)))
    'block 7 is freed more often than it is held; free what a request holds once, when it ends'
    """
    return DoubleFreeError(
        f"block {block.block_id} is freed more often than it is held; "
        "free what a request holds once, when it ends"
    )


class FreeKVCacheBlockQueue:
    """A queue of free blocks from whose middle a block can be taken in constant time.

    It is a doubly linked list, and the links are fields of the blocks themselves, so it allocates
    nothing. A *sentinel*, a block that is not part of the pool, closes the list to a ring: its
    ``next_free_block`` is the front and its ``prev_free_block`` is the back, and in an empty queue
    both are the sentinel itself. So every block in the queue always has two neighbours, and no
    operation has a special case for the ends. The time of a method grows with the number of blocks
    that it moves, and not with the length of the queue.

    Invariant: for each block b in the ring, ``b.next_free_block.prev_free_block is b``; a block
    outside the queue has both links None; ``num_free_blocks`` blocks are in the queue.

    Args:
        blocks: The blocks to start with, front first.

    Attributes:
        num_free_blocks: Blocks in the queue.
        sentinel: What stands in front of the first and behind the last of them.

    >>> blocks = [KVCacheBlock(block_id) for block_id in range(4)]
    >>> queue = FreeKVCacheBlockQueue(blocks)
    >>> queue.remove(blocks[2])
    >>> queue.prepend(blocks[2])
    >>> [block.block_id for block in queue]
    [2, 0, 1, 3]
    >>> queue.popleft().block_id, len(queue)
    (2, 3)
    """

    def __init__(self, blocks: Sequence[KVCacheBlock]) -> None:
        self.num_free_blocks = 0
        self.sentinel = KVCacheBlock(block_id=-1)
        self.sentinel.prev_free_block = self.sentinel.next_free_block = self.sentinel
        self.append_n(blocks)

    def __len__(self) -> int:
        return self.num_free_blocks

    def __iter__(self) -> Iterator[KVCacheBlock]:
        block = self.sentinel.next_free_block
        while block is not None and block is not self.sentinel:
            yield block
            block = block.next_free_block

    def popleft(self) -> KVCacheBlock:
        """Take the block at the front.

        Raises:
            OutOfBlocksError: The queue is empty.
        """
        front = self.sentinel.next_free_block
        if front is None or front is self.sentinel:
            raise out_of_blocks(requested=1, free=0)
        self.remove(front)
        return front

    def append(self, block: KVCacheBlock) -> None:
        """Put a block that is not in the queue at the back."""
        self.insert_before(block, self.sentinel)

    def prepend(self, block: KVCacheBlock) -> None:
        """Put a block that is not in the queue at the front."""
        front = self.sentinel.next_free_block
        assert front is not None
        self.insert_before(block, front)

    def remove(self, block: KVCacheBlock) -> None:
        """Take a block out of the queue, wherever it is, in constant time.

        Its neighbours become each other's neighbours, and its own links become None.

        Raises:
            ValueError: The block is not in the queue; then nothing changes.
        """
        previous, following = block.prev_free_block, block.next_free_block
        if previous is None or following is None:
            raise not_in_queue(block)
        previous.next_free_block = following
        following.prev_free_block = previous
        block.prev_free_block = block.next_free_block = None
        self.num_free_blocks -= 1

    def popleft_n(self, n: int) -> list[KVCacheBlock]:
        """Take the first ``n`` blocks, in order.

        Raises:
            OutOfBlocksError: There are fewer than ``n``; then nothing changes.
        """
        if n > self.num_free_blocks:
            raise out_of_blocks(requested=n, free=self.num_free_blocks)
        return [self.popleft() for _ in range(n)]

    def append_n(self, blocks: Sequence[KVCacheBlock]) -> None:
        """Put blocks at the back; the last of them becomes the last of the queue."""
        for block in blocks:
            self.append(block)

    def prepend_n(self, blocks: Sequence[KVCacheBlock]) -> None:
        """Put blocks at the front; the first of them becomes the first of the queue."""
        for block in reversed(blocks):
            self.prepend(block)

    def insert_before(self, block: KVCacheBlock, following: KVCacheBlock) -> None:
        """Link a block that is not in the queue in between ``following`` and the one before it."""
        previous = following.prev_free_block
        assert previous is not None
        block.prev_free_block, block.next_free_block = previous, following
        previous.next_free_block = block
        following.prev_free_block = block
        self.num_free_blocks += 1


class TwoPartFreeQueue:
    """The same queue out of a list and an ordered dictionary.

    What is put at the front is taken from the front before anything else, so the front part of the
    queue is a stack: a list whose *last* element is the front of the queue. Whole runs of blocks
    are put on it and taken off by slicing. What is put at the back stays in order of arrival: an
    ``OrderedDict``, which is a doubly linked list with an index, written in C.

    A block is removed from the back part in constant time, and from the front part by searching.
    In a ``BlockPool`` that is no loss: only a block that holds a cached prefix is ever claimed out
    of turn, and those are put at the back.

    Why it exists: with this queue the pool allocates and frees 64 blocks without a hash several
    times as fast as with ``FreeKVCacheBlockQueue``, where each block costs a few steps of the
    interpreter more. ``course bench core`` measures both. Blocks with a hash gain far less, since
    they go into the back part and come out of it one by one.

    Invariant: no block is in both parts, or in one of them twice.

    Args:
        blocks: The blocks to start with, front first.

    >>> blocks = [KVCacheBlock(block_id) for block_id in range(4)]
    >>> queue = TwoPartFreeQueue(blocks)
    >>> queue.append_n(queue.popleft_n(2))
    >>> queue.remove(blocks[0])
    >>> queue.prepend_n([blocks[0]])
    >>> [block.block_id for block in queue]
    [0, 2, 3, 1]
    """

    __slots__ = ("_back", "_front")

    def __init__(self, blocks: Sequence[KVCacheBlock]) -> None:
        self._front = list(reversed(blocks))
        self._back: OrderedDict[KVCacheBlock, None] = OrderedDict()

    def __len__(self) -> int:
        return len(self._front) + len(self._back)

    def __iter__(self) -> Iterator[KVCacheBlock]:
        yield from reversed(self._front)
        yield from self._back

    def popleft_n(self, n: int) -> list[KVCacheBlock]:
        """Take the first ``n`` blocks, in order.

        Raises:
            OutOfBlocksError: There are fewer than ``n``; then nothing changes.
        """
        front = self._front
        if n == 1 and front:
            # What a decode step asks for. The slices below take three times as long for it.
            return [front.pop()]
        rest = len(front) - n
        if rest >= 0:
            taken = front[rest:]
            del front[rest:]
            taken.reverse()
            return taken
        back = self._back
        if -rest > len(back):
            raise out_of_blocks(requested=n, free=len(self))
        taken = front[::-1]
        front.clear()
        oldest = list(islice(back, -rest))
        for block in oldest:
            del back[block]
        return taken + oldest

    def append_n(self, blocks: Sequence[KVCacheBlock]) -> None:
        """Put blocks at the back; the last of them becomes the last of the queue."""
        back = self._back
        for block in blocks:
            back[block] = None

    def prepend_n(self, blocks: Sequence[KVCacheBlock]) -> None:
        """Put blocks at the front; the first of them becomes the first of the queue."""
        if len(blocks) == 1:
            # As in ``popleft_n``: for one block the slice takes twice as long.
            self._front.append(blocks[0])
        else:
            self._front.extend(blocks[::-1])

    def remove(self, block: KVCacheBlock) -> None:
        """Take a block out of the queue, wherever it is.

        Raises:
            ValueError: The block is not in the queue; then nothing changes.
        """
        try:
            del self._back[block]
        except KeyError:
            if block not in self._front:
                raise not_in_queue(block) from None
            self._front.remove(block)


class BlockPool:
    """All blocks of a KV cache: hands them out, takes them back, and finds what they still hold.

    Block 0 is the *null block*: it stands for "no block", and is never handed out. Every other
    block is in exactly one state:

    - *in use*: ``ref_cnt`` requests hold it;
    - *free*: ``ref_cnt`` is 0 and it is in the free queue, once. If it has a hash, it is also
      *cached*: it still holds the KV of a prefix, and a request may claim it until it is reused.

    The free queue starts in the order of ids. A block that comes back with a hash goes to the back,
    and one without a hash to the front, so blocks that nobody can ever claim are reused first and
    the least recently freed prefix is lost first (LRU).

    A cached block is not emptied when it is freed but when it is handed out again; this is called
    lazy eviction. Several blocks may hold the same prefix. They are kept side by side, because a
    request's block table never changes under its feet; the one that was cached first is found.

    Every method that raises an exception leaves the pool as it was.

    Args:
        num_blocks: Blocks in all, the null block included.
        enable_caching: Whether blocks keep their contents for later requests. Without it no block
            ever has a hash.
        free_queue: Makes the free queue from the blocks in it.

    Attributes:
        num_blocks: Blocks in all, the null block included.
        enable_caching: Whether blocks keep their contents for later requests.
        blocks: All blocks, by id.
        null_block: Block 0.
        free_block_queue: The free blocks, the next one to be handed out first.
        num_evictions: Cached blocks that were handed out again, and so lost their contents.
        cached_block_hash_to_block: The block that is found for a hash.

    Raises:
        ValueError: ``num_blocks`` is less than 1.

    >>> pool = BlockPool(num_blocks=6)
    >>> blocks = pool.get_new_blocks(3)
    >>> [block.block_id for block in blocks], pool.get_num_free_blocks()
    ([1, 2, 3], 2)
    >>> pool.cache_full_blocks(blocks[:1], [b"the KV of some prefix"])
    >>> pool.free_blocks(reversed(blocks))
    >>> [block.block_id for block in pool.free_block_queue]
    [3, 2, 4, 5, 1]
    """

    def __init__(
        self,
        num_blocks: int,
        enable_caching: bool = True,
        *,
        free_queue: Callable[[Sequence[KVCacheBlock]], FreeBlockQueue] = TwoPartFreeQueue,
    ) -> None:
        if num_blocks < 1:
            raise ValueError(
                f"num_blocks is {num_blocks}; a pool has at least 1 block, the null block"
            )
        self.num_blocks = num_blocks
        self.enable_caching = enable_caching
        self.blocks = [KVCacheBlock(block_id) for block_id in range(num_blocks)]
        self.null_block = self.blocks[0]
        for block in self.blocks[1:]:
            block.pool = self
        self.free_block_queue = free_queue(self.blocks[1:])
        self.num_evictions = 0
        self.cached_block_hash_to_block: dict[bytes, KVCacheBlock] = {}
        # The other blocks that hold the same as the one that is found, oldest first.
        self._duplicates: dict[bytes, dict[int, KVCacheBlock]] = {}

    def get_num_free_blocks(self) -> int:
        """Return how many blocks can be handed out, cached ones included."""
        return len(self.free_block_queue)

    def get_usage(self) -> float:
        """Return the share of blocks in use, from 0.0 to 1.0; the null block does not count.

        >>> pool = BlockPool(num_blocks=11)
        >>> _ = pool.get_new_blocks(4)
        >>> pool.get_usage()
        0.4
        """
        num_lendable = self.num_blocks - 1
        if not num_lendable:
            return 0.0
        return (num_lendable - self.get_num_free_blocks()) / num_lendable

    def get_new_blocks(self, num_blocks: int) -> list[KVCacheBlock]:
        """Hand out blocks from the front of the free queue.

        Each of them then has a ``ref_cnt`` of 1 and no hash: if it was cached, it is evicted, so
        nobody finds the prefix in it any more, and ``num_evictions`` is counted up. The time grows
        with the number of blocks handed out, and not with that of free ones.

        Args:
            num_blocks: How many.

        Returns:
            The blocks, in the order of the queue.

        Raises:
            OutOfBlocksError: Fewer blocks are free. It is a ValueError. Nothing changes.
            ValueError: ``num_blocks`` is negative. Nothing changes.

        >>> pool = BlockPool(num_blocks=4)
        >>> blocks = pool.get_new_blocks(2)
        >>> [(block.block_id, block.ref_cnt) for block in blocks]
        [(1, 1), (2, 1)]
        >>> pool.get_new_blocks(2)  # doctest: +IGNORE_EXCEPTION_DETAIL
        Traceback (most recent call last):
            ...
        OutOfBlocksError: requested 2 blocks but only 1 are free; free a request, or ...
        """
        if num_blocks < 0:
            raise ValueError(f"num_blocks is {num_blocks}; it must be 0 or more")
        blocks = self.free_block_queue.popleft_n(num_blocks)
        for block in blocks:
            block.ref_cnt = 1
            if block.block_hash is not None:
                self.forget(block)
                self.num_evictions += 1
        return blocks

    def free_blocks(self, ordered_blocks: Iterable[KVCacheBlock]) -> None:
        """Give blocks back: each has one holder less.

        Blocks that nobody holds any more go to the free queue, in the order in which their last
        holders give them back: those with a hash to its back, the others to its front. So whoever
        frees a request passes its last block first: the end of a prefix is worth less than its
        beginning. The time grows with the number of blocks given back, and not with that of free
        ones.

        Args:
            ordered_blocks: The blocks, the first to be reused first. A block that is in it twice is
                given back twice.

        Raises:
            DoubleFreeError: A block that this pool lends is given back more often than it is held.
                It is a ValueError. Nothing changes.
            ForeignBlockError: One of them is not from this pool, or is the null block. It is a
                ValueError. Nothing changes.

        >>> pool = BlockPool(num_blocks=5)
        >>> one, two = pool.get_new_blocks(2)
        >>> pool.free_blocks([two, one])
        >>> [block.block_id for block in pool.free_block_queue]
        [2, 1, 3, 4]
        """
        # To copy a list that can be gone through again is 7% of what freeing one block takes.
        blocks = ordered_blocks if isinstance(ordered_blocks, list) else list(ordered_blocks)
        is_distinct = len(blocks) == 1 or len(set(blocks)) == len(blocks)
        # Where nobody else holds any of them and none is cached, all go to the front as they are.
        # To look for this first saves a quarter of the time; if it is not so, that is seen at once.
        for block in blocks:
            if block.ref_cnt != 1 or block.block_hash is not None or block.pool is not self:
                break
        else:
            if is_distinct:
                for block in blocks:
                    block.ref_cnt = 0
                self.free_block_queue.prepend_n(blocks)
                return

        for block, times in zip(blocks, repeat(1)) if is_distinct else Counter(blocks).items():
            if block.pool is not self:
                raise self.foreign_block(block)
            if block.ref_cnt < times:
                raise double_free(block)

        with_hash: list[KVCacheBlock] = []
        without_hash: list[KVCacheBlock] = []
        for block in blocks:
            if block.ref_cnt > 1:
                block.ref_cnt -= 1
                continue
            block.ref_cnt = 0
            (without_hash if block.block_hash is None else with_hash).append(block)
        if without_hash:
            self.free_block_queue.prepend_n(without_hash)
        if with_hash:
            self.free_block_queue.append_n(with_hash)

    def touch(self, blocks: Iterable[KVCacheBlock]) -> None:
        """Give each block one holder more, because a request shares it.

        A block that was free leaves the free queue: it must not be handed out to somebody else.
        Whether a block is in the queue is told by its count, without a look at the others. A
        ``remove`` that is refused is such a look: the queue may search all of them first.

        Args:
            blocks: The blocks, in use or free. A block that is in it twice gets two holders more.

        Raises:
            ForeignBlockError: One of them is not from this pool, or is the null block. It is a
                ValueError. Nothing changes.

        >>> pool = BlockPool(num_blocks=4)
        >>> pool.touch([pool.blocks[2]])
        >>> [block.block_id for block in pool.free_block_queue], pool.blocks[2].ref_cnt
        ([1, 3], 1)
        """
        blocks = list(blocks)
        for block in blocks:
            if block.pool is not self:
                raise self.foreign_block(block)
        for block in blocks:
            if block.ref_cnt == 0:
                self.free_block_queue.remove(block)
            block.ref_cnt += 1

    def get_cached_block(self, block_hash: bytes) -> KVCacheBlock | None:
        """Return the block that holds the prefix with this hash, or None.

        Of several, it is the one that was cached first. It may be free: ``touch`` it to keep it.
        """
        return self.cached_block_hash_to_block.get(block_hash)

    def cache_full_blocks(
        self, blocks: Sequence[KVCacheBlock], block_hashes: Sequence[bytes]
    ) -> None:
        """Make blocks findable by their hashes from now on. Does nothing without caching.

        A block that has a hash already keeps it: its contents do not change.

        Args:
            blocks: Blocks in use, each full.
            block_hashes: The hash of each.

        Raises:
            ValueError: There are not as many hashes as blocks.

        >>> pool = BlockPool(num_blocks=4)
        >>> first, second = pool.get_new_blocks(2)
        >>> pool.cache_full_blocks([first, second], [b"same", b"same"])
        >>> pool.get_cached_block(b"same") is first
        True
        """
        if len(blocks) != len(block_hashes):
            raise ValueError(
                f"{len(blocks)} blocks and {len(block_hashes)} hashes; pass one hash per block"
            )
        if not self.enable_caching:
            return
        found = self.cached_block_hash_to_block
        # Blocks mostly become full one at a time. For one, zip takes a third longer.
        for index, block in enumerate(blocks):
            if block.block_hash is not None:
                continue
            block.block_hash = block_hash = block_hashes[index]
            if found.setdefault(block_hash, block) is not block:
                self._duplicates.setdefault(block_hash, {})[block.block_id] = block

    def evict_blocks(self, block_ids: Iterable[int]) -> None:
        """Take blocks out of the cache, whoever holds them: their contents are not to be trusted.

        Nobody loses a block, and a free block keeps its place in the free queue. Blocks that are
        not cached are left alone. What is invalid was not given up for want of room, so it is not
        counted in ``num_evictions``.

        Args:
            block_ids: Which blocks.

        Raises:
            ForeignBlockError: There is no such block in this pool. It is a ValueError.

        >>> pool = BlockPool(num_blocks=3)
        >>> blocks = pool.get_new_blocks(1)
        >>> pool.cache_full_blocks(blocks, [b"never computed"])
        >>> pool.evict_blocks([1])
        >>> pool.get_cached_block(b"never computed") is None
        True
        """
        block_ids = list(block_ids)
        for block_id in block_ids:
            if not 0 <= block_id < self.num_blocks:
                raise ForeignBlockError(
                    f"there is no block {block_id}; this pool has 0 to {self.num_blocks - 1}"
                )
        for block_id in block_ids:
            block = self.blocks[block_id]
            if block.block_hash is not None:
                self.forget(block)

    def reset_prefix_cache(self) -> bool:
        """Forget the contents of all blocks, as after a change of the model's weights.

        It is refused while a block is in use. The order of the free queue does not change.

        Returns:
            Whether it was done.

        >>> pool = BlockPool(num_blocks=3)
        >>> blocks = pool.get_new_blocks(1)
        >>> pool.reset_prefix_cache()
        False
        >>> pool.free_blocks(blocks)
        >>> pool.reset_prefix_cache()
        True
        """
        if self.get_num_free_blocks() != self.num_blocks - 1:
            return False
        for block in self.blocks:
            block.block_hash = None
        self.cached_block_hash_to_block.clear()
        self._duplicates.clear()
        return True

    def forget(self, block: KVCacheBlock) -> None:
        """Take a block that has a hash out of the cache: nobody finds its contents any more.

        If other blocks hold the same, the oldest of them is found from now on.

        >>> pool = BlockPool(num_blocks=4)
        >>> first, second = pool.get_new_blocks(2)
        >>> pool.cache_full_blocks([first, second], [b"same", b"same"])
        >>> pool.forget(first)
        >>> first.block_hash, pool.get_cached_block(b"same") is second
        (None, True)
        """
        block_hash = block.block_hash
        assert block_hash is not None, f"block {block.block_id} has no hash to forget; ask it first"
        block.block_hash = None
        if block_hash not in self._duplicates:
            del self.cached_block_hash_to_block[block_hash]
            return
        duplicates = self._duplicates[block_hash]
        if self.cached_block_hash_to_block[block_hash] is block:
            block = self.cached_block_hash_to_block[block_hash] = next(iter(duplicates.values()))
        del duplicates[block.block_id]
        if not duplicates:
            del self._duplicates[block_hash]

    def foreign_block(self, block: KVCacheBlock) -> ForeignBlockError:
        """Return the error for a block that this pool does not lend out.

        >>> pool = BlockPool(num_blocks=4)
        >>> str(pool.foreign_block(pool.blocks[0]))
        'block 0 is the null block, which nobody may hold; leave it out'
        """
        if block is self.null_block:
            return ForeignBlockError(
                "block 0 is the null block, which nobody may hold; leave it out"
            )
        return ForeignBlockError(
            f"block {block.block_id} is not from this pool; "
            "pass blocks that its get_new_blocks returned"
        )

"""Lesson 7: known wrong answers to what a pool hands out and shares."""

from __future__ import annotations

import copy
from collections.abc import Iterable

from autograder.checks.finding import Misconception
from course_lib.kv_cache.block_pool import (
    BlockPool,
    KVCacheBlock,
)

# 7.3a


def hash_stays(self: BlockPool, num_blocks: int) -> list[KVCacheBlock]:
    """Hand out blocks with what they held."""
    if num_blocks < 0:
        raise ValueError(num_blocks)
    blocks = self.free_block_queue.popleft_n(num_blocks)
    for block in blocks:
        block.ref_cnt = 1
        self.num_evictions += block.block_hash is not None
    return blocks


def never_evicts(self: BlockPool, num_blocks: int) -> list[KVCacheBlock]:
    """Hand out blocks as if none could be cached."""
    before = self.num_evictions
    blocks = hash_stays(self, num_blocks)
    self.num_evictions = before
    return blocks


def hash_alone(self: BlockPool, num_blocks: int) -> list[KVCacheBlock]:
    """Take the hash off the block, and leave the index."""
    blocks = hash_stays(self, num_blocks)
    for block in blocks:
        block.block_hash = None
    return blocks


def index_alone(self: BlockPool, num_blocks: int) -> list[KVCacheBlock]:
    """Take the entry out of the index, whoever else holds the same."""
    blocks = hash_stays(self, num_blocks)
    for block in blocks:
        if block.block_hash is not None:
            self.cached_block_hash_to_block.pop(block.block_hash, None)
            block.block_hash = None
    return blocks


def nobody_holds(self: BlockPool, num_blocks: int) -> list[KVCacheBlock]:
    """Hand out blocks without counting their holder."""
    blocks = BlockPool.get_new_blocks(self, num_blocks)
    for block in blocks:
        block.ref_cnt = 0
    return blocks


def evictions_uncounted(self: BlockPool, num_blocks: int) -> list[KVCacheBlock]:
    """Evict in silence."""
    before = self.num_evictions
    blocks = BlockPool.get_new_blocks(self, num_blocks)
    self.num_evictions = before
    return blocks


def each_an_eviction(self: BlockPool, num_blocks: int) -> list[KVCacheBlock]:
    """Count every block that is handed out."""
    before = self.num_evictions
    blocks = BlockPool.get_new_blocks(self, num_blocks)
    self.num_evictions = before + len(blocks)
    return blocks


def some_when_short(self: BlockPool, num_blocks: int) -> list[KVCacheBlock]:
    """Hand out what there is."""
    return BlockPool.get_new_blocks(self, min(num_blocks, self.get_num_free_blocks()))


def none_for_negative(self: BlockPool, num_blocks: int) -> list[KVCacheBlock]:
    """Take a negative number for none."""
    return BlockPool.get_new_blocks(self, max(num_blocks, 0))


def copies(self: BlockPool, num_blocks: int) -> list[KVCacheBlock]:
    """Hand out copies of the blocks."""
    return [copy.copy(block) for block in BlockPool.get_new_blocks(self, num_blocks)]


_handed_out: list[KVCacheBlock] = []


def one_list_for_all(self: BlockPool, num_blocks: int) -> list[KVCacheBlock]:
    """Return the same list each time, with other blocks in it."""
    _handed_out[:] = BlockPool.get_new_blocks(self, num_blocks)
    return _handed_out


GET = (
    Misconception(
        "the old hash stays",
        "What is in the block will be overwritten; whoever finds it by its old hash reads another "
        "request's words.",
        hash_stays,
    ),
    Misconception(
        "nothing is evicted",
        "A block from the free queue may hold a prefix, which will be overwritten: its hash has to "
        "go, from the block and from the index, and an eviction is counted.",
        never_evicts,
    ),
    Misconception(
        "the index still finds it",
        "A hash stands in two places: on the block, and in the index by which others find it.",
        hash_alone,
    ),
    Misconception(
        "a duplicate is lost with it",
        "Another block may hold the same prefix: then that one is found from now on. `forget` "
        "knows of it.",
        index_alone,
    ),
    Misconception(
        "nobody holds it",
        "Who asked for a block holds it: a count of 0 means that it is free.",
        nobody_holds,
    ),
    Misconception(
        "evictions are not counted",
        "Each cached block that is handed out has lost a prefix for want of room; "
        "`num_evictions` says so.",
        evictions_uncounted,
    ),
    Misconception(
        "every block is an eviction",
        "A block without a hash held nothing that anybody could claim; handing it out loses "
        "nothing.",
        each_an_eviction,
    ),
    Misconception(
        "some when short",
        "Whoever gets fewer blocks than asked for writes behind their end: refuse, and take none.",
        some_when_short,
    ),
    Misconception(
        "a negative number is none",
        "Nobody means to ask for a negative number of blocks; in silence the caller's mistake "
        "lives on.",
        none_for_negative,
    ),
    Misconception(
        "copies are handed out",
        "The pool looks at its own blocks: what becomes of a copy, when it is shared or given "
        "back, does not count. Return the very blocks that the queue gave.",
        copies,
    ),
    Misconception(
        "one list for all calls",
        "A caller keeps the list that it was given; if the next call fills the same one, the "
        "first caller has lost its blocks, and holds another's. Return a new list each time.",
        one_list_for_all,
    ),
)

# 7.3b


def stays_queued(self: BlockPool, blocks: Iterable[KVCacheBlock]) -> None:
    """Count the holder alone."""
    blocks = list(blocks)
    for block in blocks:
        if block.pool is not self:
            raise self.foreign_block(block)
    for block in blocks:
        block.ref_cnt += 1


def always_removed(self: BlockPool, blocks: Iterable[KVCacheBlock]) -> None:
    """Take the block out of the queue, in use or not."""
    blocks = list(blocks)
    for block in blocks:
        if block.pool is not self:
            raise self.foreign_block(block)
    for block in blocks:
        self.free_block_queue.remove(block)
        block.ref_cnt += 1


def set_to_one(self: BlockPool, blocks: Iterable[KVCacheBlock]) -> None:
    """Set the count, whoever held the block before."""
    blocks = list(blocks)
    BlockPool.touch(self, blocks)
    for block in blocks:
        block.ref_cnt = 1


def to_the_back(self: BlockPool, blocks: Iterable[KVCacheBlock]) -> None:
    """Move the block to the back of the queue, where it is safest."""
    blocks = list(blocks)
    BlockPool.touch(self, blocks)
    queued = set(self.free_block_queue)
    for block in dict.fromkeys(blocks):
        if block not in queued:
            self.free_block_queue.append_n([block])


def loses_its_prefix(self: BlockPool, blocks: Iterable[KVCacheBlock]) -> None:
    """Empty a block that is claimed."""
    blocks = list(blocks)
    BlockPool.touch(self, blocks)
    for block in blocks:
        if block.block_hash is not None:
            self.forget(block)


def one_by_one(self: BlockPool, blocks: Iterable[KVCacheBlock]) -> None:
    """Find on the way that a block is none of this pool's."""
    for block in blocks:
        BlockPool.touch(self, [block])


def touched_in_two_passes(self: BlockPool, blocks: Iterable[KVCacheBlock]) -> None:
    """Go twice through what may be an iterator."""
    for block in blocks:
        if block.pool is not self:
            raise self.foreign_block(block)
    BlockPool.touch(self, blocks)


def touched_once_each(self: BlockPool, blocks: Iterable[KVCacheBlock]) -> None:
    """Touch once what is named twice."""
    BlockPool.touch(self, list(dict.fromkeys(blocks)))


def null_too(self: BlockPool, blocks: Iterable[KVCacheBlock]) -> None:
    """Refuse nothing."""
    for block in blocks:
        if block.ref_cnt == 0 and block.pool is self:
            self.free_block_queue.remove(block)
        block.ref_cnt += 1


def touched_by_number(self: BlockPool, blocks: Iterable[KVCacheBlock]) -> None:
    """Look at the place of each block's number, which a foreign one may not have here."""
    blocks = list(blocks)
    for block in blocks:
        if self.blocks[block.block_id] is not block:
            raise self.foreign_block(block)
    BlockPool.touch(self, blocks)


def touched_by_hash(self: BlockPool, blocks: Iterable[KVCacheBlock]) -> None:
    """Touch the block that is found by the hash of the one that is given."""
    blocks = list(blocks)
    found = [self.get_cached_block(b.block_hash) if b.block_hash else b for b in blocks]
    BlockPool.touch(self, [block for block in found if block is not None])


def one_touched_of_each_hash(self: BlockPool, blocks: Iterable[KVCacheBlock]) -> None:
    """Touch one block alone of those that hold the same."""
    seen: dict[object, KVCacheBlock] = {}
    named = [seen.setdefault(b.block_hash or b, b) is b and b for b in blocks]
    BlockPool.touch(self, [block for block in named if block])


TOUCH = (
    Misconception(
        "it stays in the queue",
        "A block that is held and queued is handed out to somebody else, who overwrites it.",
        stays_queued,
    ),
    Misconception(
        "removed though in use",
        "A block that somebody holds is in no queue: only a count of 0 says that it is.",
        always_removed,
    ),
    Misconception(
        "set, not raised",
        "The count is of all who hold the block; set to 1, the first who gives it back frees it "
        "under the others.",
        set_to_one,
    ),
    Misconception(
        "to the back of the queue",
        "At the back it is handed out later, but handed out: a block in use is in no queue.",
        to_the_back,
    ),
    Misconception(
        "its prefix is forgotten",
        "The block is claimed for what it holds; it keeps its hash, and others may claim it too.",
        loses_its_prefix,
    ),
    Misconception(
        "refused on the way",
        "The blocks before the one that is refused have a holder by then who never will give them "
        "back: look at all of them first.",
        one_by_one,
    ),
    Misconception(
        "an iterator is gone through twice",
        "After the first pass an iterator is empty, and the second finds no block: make a list of "
        "the blocks first.",
        touched_in_two_passes,
    ),
    Misconception(
        "twice is once",
        "A block that is named twice gets two holders: each of them will give it back.",
        touched_once_each,
    ),
    Misconception(
        "the null block is touched",
        "Nobody may hold block 0, nor a block of another pool; both have another `pool`.",
        null_too,
    ),
    Misconception(
        "looked up by its number",
        "The number of a foreign block may be greater than any here, and then there is no such "
        "place in `self.blocks`: ask the block for its `pool`.",
        touched_by_number,
    ),
    Misconception(
        "looked up by its hash",
        "Several blocks may hold the same, and only one of them is found by it: the request reads "
        "the block that is given.",
        touched_by_hash,
    ),
    Misconception(
        "one of each hash",
        "Two blocks that hold the same are two blocks, and both are claimed.",
        one_touched_of_each_hash,
    ),
)

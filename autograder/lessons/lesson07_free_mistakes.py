"""Lesson 7: known wrong ways to give blocks back."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

from autograder.checks.finding import Misconception
from autograder.lessons import lesson07_mistakes as mistakes
from course_lib.kv_cache.block_pool import BlockPool, KVCacheBlock, double_free
from course_lib.kv_cache.order_rules import released


def checked(self: BlockPool, ordered_blocks: Iterable[KVCacheBlock]) -> list[KVCacheBlock]:
    """Return the blocks, or refuse as the pool does."""
    blocks = list(ordered_blocks)
    for block, times in Counter(blocks).items():
        if block.pool is not self:
            raise self.foreign_block(block)
        if block.ref_cnt < times:
            raise double_free(block)
    return blocks


def all_back(self: BlockPool, ordered_blocks: Iterable[KVCacheBlock]) -> None:
    """Put all at the back."""
    self.free_block_queue.append_n(released(checked(self, ordered_blocks)))


def all_front(self: BlockPool, ordered_blocks: Iterable[KVCacheBlock]) -> None:
    """Put all at the front."""
    self.free_block_queue.prepend_n(released(checked(self, ordered_blocks)))


def ends_exchanged(self: BlockPool, ordered_blocks: Iterable[KVCacheBlock]) -> None:
    """Put the cached at the front, and the others at the back."""
    idle = released(checked(self, ordered_blocks))
    self.free_block_queue.prepend_n([b for b in idle if b.block_hash is not None])
    self.free_block_queue.append_n([b for b in idle if b.block_hash is None])


def reversed_again(self: BlockPool, ordered_blocks: Iterable[KVCacheBlock]) -> None:
    """Reverse what the caller has reversed already."""
    BlockPool.free_blocks(self, checked(self, ordered_blocks)[::-1])


def one_after_the_other(self: BlockPool, ordered_blocks: Iterable[KVCacheBlock]) -> None:
    """Put each at its end as its turn comes."""
    for block in checked(self, ordered_blocks):
        BlockPool.free_blocks(self, [block])


def front_reversed(self: BlockPool, ordered_blocks: Iterable[KVCacheBlock]) -> None:
    """Turn round those that go to the front."""
    idle = released(checked(self, ordered_blocks))
    self.free_block_queue.prepend_n([b for b in idle if b.block_hash is None][::-1])
    self.free_block_queue.append_n([b for b in idle if b.block_hash is not None])


def by_the_setting(self: BlockPool, ordered_blocks: Iterable[KVCacheBlock]) -> None:
    """Ask the pool whether it caches, and not the block whether it holds a prefix."""
    idle = released(checked(self, ordered_blocks))
    if self.enable_caching:
        self.free_block_queue.append_n(idle)
    else:
        self.free_block_queue.prepend_n(idle)


def though_shared(self: BlockPool, ordered_blocks: Iterable[KVCacheBlock]) -> None:
    """Free what others hold."""
    blocks = list(dict.fromkeys(checked(self, ordered_blocks)))
    for block in blocks:
        block.ref_cnt = 1
    BlockPool.free_blocks(self, blocks)


def set_to_nobody(self: BlockPool, ordered_blocks: Iterable[KVCacheBlock]) -> None:
    """Set each count to 0, and queue the block each time that it is named."""
    blocks = checked(self, ordered_blocks)
    for block in blocks:
        block.ref_cnt = 0
    self.free_block_queue.prepend_n([b for b in blocks if b.block_hash is None])
    self.free_block_queue.append_n([b for b in blocks if b.block_hash is not None])


def queued_with_holders(self: BlockPool, ordered_blocks: Iterable[KVCacheBlock]) -> None:
    """Lower each count, and queue the block whatever is left."""
    blocks = checked(self, ordered_blocks)
    released(blocks)
    blocks = list(dict.fromkeys(blocks))
    self.free_block_queue.prepend_n([b for b in blocks if b.block_hash is None])
    self.free_block_queue.append_n([b for b in blocks if b.block_hash is not None])


def count_stays(self: BlockPool, ordered_blocks: Iterable[KVCacheBlock]) -> None:
    """Queue what one alone holds, and leave its count."""
    blocks = checked(self, ordered_blocks)
    idle = released(blocks)
    self.free_block_queue.prepend_n([b for b in idle if b.block_hash is None])
    self.free_block_queue.append_n([b for b in idle if b.block_hash is not None])
    for block in idle:
        block.ref_cnt = 1


def refused_on_the_way(self: BlockPool, ordered_blocks: Iterable[KVCacheBlock]) -> None:
    """Lower the counts until one cannot be lowered."""
    idle = []
    for block in ordered_blocks:
        if block.pool is not self:
            raise self.foreign_block(block)
        if block.ref_cnt == 0:
            raise double_free(block)
        block.ref_cnt -= 1
        if block.ref_cnt == 0:
            idle.append(block)
    self.free_block_queue.prepend_n([b for b in idle if b.block_hash is None])
    self.free_block_queue.append_n([b for b in idle if b.block_hash is not None])


def named_twice(self: BlockPool, ordered_blocks: Iterable[KVCacheBlock]) -> None:
    """Ask of each block whether anybody holds it, and not how often it is given back."""
    blocks = list(ordered_blocks)
    for block in blocks:
        if block.pool is not self:
            raise self.foreign_block(block)
        if block.ref_cnt == 0:
            raise double_free(block)
    idle = released(blocks)
    self.free_block_queue.prepend_n([b for b in idle if b.block_hash is None])
    self.free_block_queue.append_n([b for b in idle if b.block_hash is not None])


def freed_in_two_passes(self: BlockPool, ordered_blocks: Iterable[KVCacheBlock]) -> None:
    """Go twice through what may be an iterator."""
    checked(self, ordered_blocks)
    BlockPool.free_blocks(self, ordered_blocks)


def emptied_and_in_front(self: BlockPool, ordered_blocks: Iterable[KVCacheBlock]) -> None:
    """Forget what a block holds, and put it in front as one that holds nothing."""
    idle = released(checked(self, ordered_blocks))
    for block in idle:
        if block.block_hash is not None:
            self.forget(block)
    self.free_block_queue.prepend_n(idle)


def queued_as_often_as_named(self: BlockPool, ordered_blocks: Iterable[KVCacheBlock]) -> None:
    """Lower all counts first; then queue what is named, each time that it is named."""
    blocks = checked(self, ordered_blocks)
    released(blocks)
    idle = [block for block in blocks if block.ref_cnt == 0]
    self.free_block_queue.prepend_n([b for b in idle if b.block_hash is None])
    self.free_block_queue.append_n([b for b in idle if b.block_hash is not None])


def once_each(self: BlockPool, ordered_blocks: Iterable[KVCacheBlock]) -> None:
    """Give back once what is named twice."""
    BlockPool.free_blocks(self, list(dict.fromkeys(ordered_blocks)))


def counted_by_number(self: BlockPool, ordered_blocks: Iterable[KVCacheBlock]) -> None:
    """Count how often each number is given back, also that of a block of another pool."""
    blocks = list(ordered_blocks)
    times = Counter(block.block_id for block in blocks)
    for block in blocks:
        if block.pool is not self:
            raise self.foreign_block(block)
        if block.ref_cnt < times[block.block_id]:
            raise double_free(block)
    BlockPool.free_blocks(self, blocks)


def where_first_named(self: BlockPool, ordered_blocks: Iterable[KVCacheBlock]) -> None:
    """Queue a block where it is first named, though its last holder gives it back later."""
    blocks = checked(self, ordered_blocks)
    released(blocks)
    idle = [block for block in dict.fromkeys(blocks) if block.ref_cnt == 0]
    self.free_block_queue.prepend_n([b for b in idle if b.block_hash is None])
    self.free_block_queue.append_n([b for b in idle if b.block_hash is not None])


def both_lists_back(self: BlockPool, ordered_blocks: Iterable[KVCacheBlock]) -> None:
    """Sort the blocks into two lists, and put both at the back."""
    idle = released(checked(self, ordered_blocks))
    self.free_block_queue.append_n([b for b in idle if b.block_hash is None])
    self.free_block_queue.append_n([b for b in idle if b.block_hash is not None])


def back_reversed(self: BlockPool, ordered_blocks: Iterable[KVCacheBlock]) -> None:
    """Turn round those that go to the back."""
    idle = released(checked(self, ordered_blocks))
    self.free_block_queue.prepend_n([b for b in idle if b.block_hash is None])
    self.free_block_queue.append_n([b for b in idle if b.block_hash is not None][::-1])


def sorted_with_caching_only(self: BlockPool, ordered_blocks: Iterable[KVCacheBlock]) -> None:
    """Sort the blocks only if the pool caches, and put all at the back if not."""
    idle = released(checked(self, ordered_blocks))
    is_plain = [self.enable_caching and block.block_hash is None for block in idle]
    self.free_block_queue.prepend_n([b for b, plain in zip(idle, is_plain, strict=True) if plain])
    self.free_block_queue.append_n(
        [b for b, plain in zip(idle, is_plain, strict=True) if not plain]
    )


def queued_at_each_release(self: BlockPool, ordered_blocks: Iterable[KVCacheBlock]) -> None:
    """Queue a block at each release, whoever else holds it."""
    blocks = checked(self, ordered_blocks)
    released(blocks)
    self.free_block_queue.prepend_n([b for b in blocks if b.block_hash is None])
    self.free_block_queue.append_n([b for b in blocks if b.block_hash is not None])


def never_mind(self: BlockPool, ordered_blocks: Iterable[KVCacheBlock]) -> None:
    """Pass over what nobody holds."""
    left: Counter[KVCacheBlock] = Counter()
    kept = []
    for block in ordered_blocks:
        if block.pool is not self:
            raise self.foreign_block(block)
        left[block] += 1
        if left[block] <= block.ref_cnt:
            kept.append(block)
    BlockPool.free_blocks(self, kept)


def null_passed_over(self: BlockPool, ordered_blocks: Iterable[KVCacheBlock]) -> None:
    """Pass over the null block, and blocks of others."""
    BlockPool.free_blocks(self, [block for block in ordered_blocks if block.pool is self])


def looked_up_by_number(self: BlockPool, ordered_blocks: Iterable[KVCacheBlock]) -> None:
    """Look at the place of each block's number, which a foreign one may not have here."""
    blocks = list(ordered_blocks)
    for block in blocks:
        if self.blocks[block.block_id] is not block:
            raise self.foreign_block(block)
    BlockPool.free_blocks(self, blocks)


def one_of_each_hash(self: BlockPool, ordered_blocks: Iterable[KVCacheBlock]) -> None:
    """Queue one block alone of those that come back at once and hold the same."""
    idle = released(checked(self, ordered_blocks))
    cached = {block.block_hash: block for block in idle if block.block_hash is not None}
    self.free_block_queue.prepend_n([b for b in idle if b.block_hash is None])
    self.free_block_queue.append_n(list(cached.values()))


FREE = (
    Misconception(
        "all to the back",
        "Blocks that nobody can ever claim wait there behind prefixes that somebody may, and push "
        "them out.",
        all_back,
    ),
    Misconception(
        "all to the front",
        "What has just been given back is handed out next, so a prefix is lost as soon as it is "
        "free.",
        all_front,
    ),
    Misconception(
        "front and back exchanged",
        "The front is handed out first: there belongs what nobody can claim, and a prefix to the "
        "back.",
        ends_exchanged,
    ),
    Misconception(
        "in reverse",
        "The blocks come in the order in which they are to be reused; the caller has turned them "
        "already.",
        reversed_again,
        evidence=r"reversed\(|\[::-1\]",
    ),
    Misconception(
        "one by one to the front",
        "Put at the front one after the other, of the queue or of a list, the last is first; "
        "collect them in the order in which they come, and put all in front at once.",
        one_after_the_other,
    ),
    Misconception(
        "the front is reversed",
        "`prepend_n` keeps the order of what it is given: the first of the blocks is then first "
        "in the queue.",
        front_reversed,
        evidence=r"reversed\(|\[::-1\]",
    ),
    Misconception(
        "the back is reversed",
        "`append_n` keeps the order of what it is given: the first of the blocks is lost before "
        "the others.",
        back_reversed,
        evidence=r"reversed\(|\[::-1\]",
    ),
    Misconception(
        "both lists to the back",
        "Blocks that nobody can ever claim wait there behind prefixes that somebody may, and push "
        "them out.",
        both_lists_back,
    ),
    Misconception(
        "sorted with caching only",
        "Without caching no block has a hash, and every one goes to the front: ask the block, and "
        "not the pool.",
        sorted_with_caching_only,
    ),
    Misconception(
        "sorted by the setting",
        "With caching on, too, a block may have no hash, because it is not full; ask each block.",
        by_the_setting,
    ),
    Misconception(
        "freed though shared",
        "Somebody else still reads the block: it is free when its last holder gives it back.",
        though_shared,
    ),
    Misconception(
        "the count is set to 0",
        "Somebody else still reads the block: each release takes one holder off, and the last one "
        "frees it.",
        set_to_nobody,
    ),
    Misconception(
        "queued though held",
        "A block whose count is above 0 after this is in use, and in no queue.",
        queued_with_holders,
    ),
    Misconception(
        "queued at each release",
        "A block whose count is above 0 after this is in use, and in no queue.",
        queued_at_each_release,
    ),
    Misconception(
        "the count stays",
        "A block in the queue has a count of 0: by that count the next call knows that it is free.",
        count_stays,
    ),
    Misconception(
        "emptied at once",
        "A free block keeps its prefix until it is handed out again; until then somebody may claim "
        "it.",
        mistakes.emptied_at_once,
    ),
    Misconception(
        "emptied, so in front",
        "A free block keeps its prefix until it is handed out again, and waits at the back; until "
        "then somebody may claim it.",
        emptied_and_in_front,
    ),
    Misconception(
        "queued as often as named",
        "If all counts are lowered first, a block that is named twice is at 0 both times: it "
        "belongs into the queue once, when its last holder gives it back.",
        queued_as_often_as_named,
    ),
    Misconception(
        "queued where it is first named",
        "A block that is named twice is free when its last holder gives it back, and stands in "
        "the queue behind what came back before that.",
        where_first_named,
    ),
    Misconception(
        "counted by number",
        "A foreign block may have the number of one of this pool: refuse what is foreign before "
        "you count, or count the blocks themselves.",
        counted_by_number,
    ),
    Misconception(
        "refused on the way",
        "The blocks before the one that is refused have lost a holder by then, and are in no "
        "queue: look at all of them first.",
        refused_on_the_way,
    ),
    Misconception(
        "named twice",
        "A block that is given twice needs two holders; one holder alone leaves a count below 0.",
        named_twice,
    ),
    Misconception(
        "an iterator is gone through twice",
        "After the first pass an iterator is empty, and the second finds no block: make a list of "
        "the blocks first.",
        freed_in_two_passes,
    ),
    Misconception(
        "twice is once",
        "A block that is in the list twice is given back twice: two requests may have held it.",
        once_each,
        evidence=r"\bset\(|fromkeys\(",
    ),
    Misconception(
        "a double free is passed over",
        "Whoever frees what is not theirs will free somebody else's next time: it has to be an "
        "error, at once.",
        never_mind,
    ),
    Misconception(
        "what is foreign is passed over",
        "A caller who gives back the null block, or another pool's, has mixed something up, and "
        "has to hear of it.",
        null_passed_over,
    ),
    Misconception(
        "looked up by its number",
        "The number of a foreign block may be greater than any here, and then there is no such "
        "place in `self.blocks`: ask the block for its `pool`.",
        looked_up_by_number,
    ),
    Misconception(
        "one of each hash",
        "Two blocks that hold the same are two blocks, and both wait in the queue: keep the "
        "blocks, and not one for each hash.",
        one_of_each_hash,
    ),
)

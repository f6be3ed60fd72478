"""Lesson 7: known wrong answers about the state, the queue, and taking and sharing blocks."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Sequence
from itertools import takewhile
from typing import Any

from autograder.checks.finding import Misconception
from autograder.lessons import lesson07_given as given
from autograder.lessons.lesson07_pool_mistakes import hash_stays
from course_lib.kv_cache.block_pool import (
    BlockPool,
    FreeKVCacheBlockQueue,
    KVCacheBlock,
    out_of_blocks,
)
from course_lib.kv_cache.order_rules import AllToTheBack, AllToTheFront, FirstBlockFirst, released

# 7.1


def emptied_at_once(self: BlockPool, ordered_blocks: Iterable[KVCacheBlock]) -> None:
    """Forget what a block holds as soon as nobody holds it."""
    blocks = list(ordered_blocks)
    BlockPool.free_blocks(self, blocks)
    for block in dict.fromkeys(blocks):
        if block.ref_cnt == 0 and block.block_hash is not None:
            self.forget(block)


class EmptiedAtOnce(BlockPool):
    """A pool that empties blocks at once."""

    def free_blocks(self, ordered_blocks: Iterable[KVCacheBlock]) -> None:
        """Give blocks back, those that are emptied in front."""
        blocks = list(ordered_blocks)
        for block in blocks:
            if block.ref_cnt == 1 and block.block_hash is not None:
                self.forget(block)
        super().free_blocks(blocks)


class KeepsTheStar(BlockPool):
    """A pool whose blocks keep what they held when they are handed out."""

    def get_new_blocks(self, num_blocks: int) -> list[KVCacheBlock]:
        """Hand out blocks with what they held."""
        return hash_stays(self, num_blocks)


class HitsStayQueued(BlockPool):
    """A pool in which a block that is claimed stays in the queue, until it is claimed from it."""

    def touch(self, blocks: Iterable[KVCacheBlock]) -> None:
        """Count the holder alone."""
        for block in blocks:
            block.ref_cnt += 1


class EndsExchanged(BlockPool):
    """A pool that puts prefixes in front and what nobody can claim behind."""

    def free_blocks(self, ordered_blocks: Iterable[KVCacheBlock]) -> None:
        """Give blocks back, each at the wrong end."""
        idle = released(ordered_blocks)
        self.free_block_queue.prepend_n([b for b in idle if b.block_hash is not None])
        self.free_block_queue.append_n([b for b in idle if b.block_hash is None])


class BehindTheBare(BlockPool):
    """A pool whose part without prefixes is a queue, and not a stack."""

    def free_blocks(self, ordered_blocks: Iterable[KVCacheBlock]) -> None:
        """Give blocks back, those without a hash behind the others that have none."""
        queue, idle = self.free_block_queue, released(ordered_blocks)
        bare = list(takewhile(lambda block: block.block_hash is None, queue))
        for block in bare:
            queue.remove(block)
        queue.prepend_n([*bare, *(b for b in idle if b.block_hash is None)])
        queue.append_n([b for b in idle if b.block_hash is not None])


class EmptiedWhereItIs(BlockPool):
    """A pool that puts blocks where they belong, and empties them there."""

    def free_blocks(self, ordered_blocks: Iterable[KVCacheBlock]) -> None:
        """Give blocks back, and forget what they hold."""
        emptied_at_once(self, ordered_blocks)


class BeforeThePrefixes(BlockPool):
    """A pool whose part with prefixes is a stack, behind the rest."""

    def free_blocks(self, ordered_blocks: Iterable[KVCacheBlock]) -> None:
        """Give blocks back, the prefixes in front of those that are there."""
        queue, idle = self.free_block_queue, released(ordered_blocks)
        cached = [block for block in queue if block.block_hash is not None]
        for block in cached:
            queue.remove(block)
        queue.prepend_n([b for b in idle if b.block_hash is None])
        queue.append_n([*(b for b in idle if b.block_hash is not None), *cached])


class SmallestFirst(BlockPool):
    """A pool that hands out the smallest numbers first."""

    def get_new_blocks(self, num_blocks: int) -> list[KVCacheBlock]:
        """Hand out the free blocks with the smallest numbers."""
        queue = sorted(self.free_block_queue, key=lambda block: block.block_id)
        for block in queue[:num_blocks]:
            self.free_block_queue.remove(block)
        self.free_block_queue.prepend_n(queue[:num_blocks])
        return super().get_new_blocks(num_blocks)


class ClaimsEmpty(BlockPool):
    """A pool in which a block loses its prefix when it is claimed."""

    def touch(self, blocks: Iterable[KVCacheBlock]) -> None:
        """Claim blocks, and forget what they hold."""
        claimed = list(blocks)
        super().touch(claimed)
        for block in claimed:
            self.forget(block)


def _states(pool: type[BlockPool]) -> Callable[[int], dict[str, Any]]:
    return lambda seed: given.states_under(pool, seed)


TRACE = (
    Misconception(
        "all to the back",
        "A block without a hash goes to the front: nobody can ever claim what is in it.",
        _states(AllToTheBack),
    ),
    Misconception(
        "all to the front",
        "A block with a hash goes to the back, so that its prefix is lost as late as can be.",
        _states(AllToTheFront),
    ),
    Misconception(
        "first block first",
        "A request gives back its last block first: without the beginning of a prefix its end "
        "cannot be used.",
        _states(FirstBlockFirst),
    ),
    Misconception(
        "emptied at once",
        "A block that is freed keeps its prefix, and its star, until it is handed out again.",
        _states(EmptiedAtOnce),
    ),
    Misconception(
        "emptied where it is",
        "A block that is freed keeps its prefix, and its star, until it is handed out again.",
        _states(EmptiedWhereItIs),
    ),
    Misconception(
        "a claim takes the star",
        "Who claims a block wants what is in it: it keeps its prefix, and its star.",
        _states(ClaimsEmpty),
    ),
    Misconception(
        "the smallest number first",
        "The block in front is handed out next, whatever its number.",
        _states(SmallestFirst),
    ),
    Misconception(
        "before the other prefixes",
        "A block with a hash goes to the very back of the queue, behind those that came before.",
        _states(BeforeThePrefixes),
    ),
    Misconception(
        "the star stays",
        "A block that is handed out to somebody else is evicted: its prefix is gone, and its star.",
        _states(KeepsTheStar),
    ),
    Misconception(
        "a hit stays in the queue",
        "A block that is found and claimed is held from then on, and leaves the free queue.",
        _states(HitsStayQueued),
    ),
    Misconception(
        "front and back exchanged",
        "The front is handed out first: there belongs what nobody can claim, and a prefix to the "
        "back.",
        _states(EndsExchanged),
    ),
    Misconception(
        "behind the others without a star",
        "A block without a hash goes to the very front of the queue, before those that have none "
        "either.",
        _states(BehindTheBare),
    ),
)

# 7.2


class KeepsItsLinks(FreeKVCacheBlockQueue):
    """Takes a block out, and leaves its own links."""

    def remove(self, block: KVCacheBlock) -> None:
        """Make the neighbours each other's neighbours."""
        previous, following = block.prev_free_block, block.next_free_block
        if previous is None or following is None:
            raise ValueError(block)
        previous.next_free_block = following
        following.prev_free_block = previous
        self.num_free_blocks -= 1


class OneWay(FreeKVCacheBlockQueue):
    """Mends the way forward when a block leaves, and not the way back."""

    def remove(self, block: KVCacheBlock) -> None:
        """Let the one before point to the one behind."""
        previous, following = block.prev_free_block, block.next_free_block
        if previous is None or following is None:
            raise ValueError(block)
        previous.next_free_block = following
        block.prev_free_block = block.next_free_block = None
        self.num_free_blocks -= 1


class NeverCounts(FreeKVCacheBlockQueue):
    """Takes blocks out, and leaves the number."""

    def remove(self, block: KVCacheBlock) -> None:
        """Take a block out."""
        super().remove(block)
        self.num_free_blocks += 1


class NeverCountsUp(FreeKVCacheBlockQueue):
    """Links blocks in, and leaves the number."""

    def insert_before(self, block: KVCacheBlock, following: KVCacheBlock) -> None:
        """Link a block in."""
        super().insert_before(block, following)
        self.num_free_blocks -= 1


class NeverCountsUpAndGoesByIt(NeverCountsUp):
    """Links blocks in, leaves the number, and takes a queue for empty by that number."""

    def popleft(self) -> KVCacheBlock:
        """Take the first, if the number says that there is one."""
        if self.num_free_blocks == 0:
            raise out_of_blocks(requested=1, free=0)
        return super().popleft()


class InsertsBehind(FreeKVCacheBlockQueue):
    """Puts a block behind the one that it is to stand in front of."""

    def insert_before(self, block: KVCacheBlock, following: KVCacheBlock) -> None:
        """Link a block in, one place too late."""
        behind = following.next_free_block
        assert behind is not None
        super().insert_before(block, behind)


class NoWayForwardIn(FreeKVCacheBlockQueue):
    """Links a block in, and leaves the way forward past it."""

    def insert_before(self, block: KVCacheBlock, following: KVCacheBlock) -> None:
        """Set all links but that of the block before."""
        previous = following.prev_free_block
        block.prev_free_block, block.next_free_block = previous, following
        following.prev_free_block = block
        self.num_free_blocks += 1


class NoWayBackIn(FreeKVCacheBlockQueue):
    """Links a block in, and leaves the way back past it."""

    def insert_before(self, block: KVCacheBlock, following: KVCacheBlock) -> None:
        """Set all links but that of the block behind."""
        previous = following.prev_free_block
        assert previous is not None
        block.prev_free_block, block.next_free_block = previous, following
        previous.next_free_block = block
        self.num_free_blocks += 1


class ReadsWhatItHasWritten(FreeKVCacheBlockQueue):
    """Asks for the block before when the link to it is overwritten."""

    def insert_before(self, block: KVCacheBlock, following: KVCacheBlock) -> None:
        """Turn the way back first, and follow it."""
        following.prev_free_block = block
        block.next_free_block = following
        block.prev_free_block = following.prev_free_block
        following.prev_free_block.next_free_block = block
        self.num_free_blocks += 1


class PrependsInReverse(FreeKVCacheBlockQueue):
    """Puts one block after the other in front, so that the last is the first."""

    def prepend_n(self, blocks: Sequence[KVCacheBlock]) -> None:
        """Put blocks in front, the first one first."""
        for block in blocks:
            self.prepend(block)


class TakesWhatThereIs(FreeKVCacheBlockQueue):
    """Takes some where there are too few."""

    def popleft_n(self, n: int) -> list[KVCacheBlock]:
        """Take the first few, or all."""
        return super().popleft_n(min(n, self.num_free_blocks))


class TakesThenRefuses(FreeKVCacheBlockQueue):
    """Finds out on the way that there are too few."""

    def popleft_n(self, n: int) -> list[KVCacheBlock]:
        """Take one after the other."""
        return [self.popleft() for _ in range(n)]


class HandsOutCopies(FreeKVCacheBlockQueue):
    """Returns blocks that are none of the queue's."""

    def popleft_n(self, n: int) -> list[KVCacheBlock]:
        """Take the first few, and return others like them."""
        return [copy.copy(block) for block in super().popleft_n(n)]


class RemovesAnything(FreeKVCacheBlockQueue):
    """Says nothing where a block is not in the queue."""

    def remove(self, block: KVCacheBlock) -> None:
        """Take a block out if it is in."""
        if block.prev_free_block is not None:
            super().remove(block)


class HandsOutTheSentinel(FreeKVCacheBlockQueue):
    """Takes what stands behind the sentinel, be it the sentinel."""

    def popleft(self) -> KVCacheBlock:
        """Take the first."""
        front = self.sentinel.next_free_block
        assert front is not None
        self.remove(front)
        return front


class TakesFromTheBack(FreeKVCacheBlockQueue):
    """Takes the last where the first is wanted."""

    def popleft(self) -> KVCacheBlock:
        """Take the last."""
        if not self.num_free_blocks:
            return super().popleft()
        back = self.sentinel.prev_free_block
        assert back is not None
        self.remove(back)
        return back


QUEUE = (
    Misconception(
        "a removed block keeps its links",
        "None in the links is how a block says that it is in no queue; with its old links it can "
        "be removed once more, and takes its old neighbours with it.",
        KeepsItsLinks,
    ),
    Misconception(
        "the way back is not mended",
        "A list with two directions has two links to turn: the one that leads forward past the "
        "block, and the one that leads back.",
        OneWay,
    ),
    Misconception(
        "a removal is not counted",
        "Whoever takes a block out lowers num_free_blocks: it is what the pool decides by.",
        NeverCounts,
    ),
    Misconception(
        "an insertion is not counted",
        "Whoever links a block in raises num_free_blocks: it is what the pool decides by.",
        NeverCountsUp,
    ),
    Misconception(
        "what comes in is not counted",
        "Whoever links a block in raises num_free_blocks: without it the queue looks empty.",
        NeverCountsUpAndGoesByIt,
    ),
    Misconception(
        "the way forward to what comes in is missing",
        "In `insert_before` four links change. The block in front of the new one, which was "
        "`following.prev_free_block`, has to lead to it.",
        NoWayForwardIn,
    ),
    Misconception(
        "the way back to what comes in is missing",
        "In `insert_before` four links change. The block behind the new one, `following`, has to "
        "lead back to it.",
        NoWayBackIn,
    ),
    Misconception(
        "read after it was overwritten",
        "In `insert_before`, keep `following.prev_free_block` in a variable before that link "
        "changes: afterwards it leads to the new block.",
        ReadsWhatItHasWritten,
    ),
    Misconception(
        "inserted behind",
        "The block is to stand in front of the one that is given, not behind it.",
        InsertsBehind,
    ),
    Misconception(
        "prepend_n reverses",
        "If one block after the other goes to the front, the last of them is first; the first is "
        "to be first.",
        PrependsInReverse,
        evidence=r"for \w+ in blocks:\s+self\.(prepend|insert_before)\(",
    ),
    Misconception(
        "takes what there is",
        "Whoever asks for three blocks cannot do with two: refuse, and take none.",
        TakesWhatThereIs,
    ),
    Misconception(
        "takes some, then refuses",
        "The blocks that were taken before the queue ran out are held by nobody and in no queue: "
        "look at the number first.",
        TakesThenRefuses,
    ),
    Misconception(
        "copies are handed out",
        "Who holds a block and who looks for it mean the same object: return the very blocks that "
        "were in the queue.",
        HandsOutCopies,
    ),
    Misconception(
        "a block that is not there is removed in silence",
        "A caller who removes what is not in the queue is mistaken about who holds it, and has to "
        "hear of it.",
        RemovesAnything,
    ),
    Misconception(
        "the sentinel is handed out",
        "In an empty queue the one behind the sentinel is the sentinel itself, which is no part of "
        "the pool.",
        HandsOutTheSentinel,
    ),
    Misconception(
        "taken from the back",
        "The front of the queue is behind the sentinel: `sentinel.next_free_block`.",
        TakesFromTheBack,
    ),
)

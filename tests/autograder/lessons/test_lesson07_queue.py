"""Lesson 7: what is said of free queues, right ones and wrong ones."""

from __future__ import annotations

import re
from pathlib import Path

import nbformat
import pytest

from autograder import lessons
from course_lib.kv_cache.block_pool import (
    FreeKVCacheBlockQueue,
    KVCacheBlock,
    TwoPartFreeQueue,
    not_in_queue,
    out_of_blocks,
)
from course_lib.kv_cache.order_rules import AllToTheFront
from learners_queue import AllAtOnce
from lesson_answers import (
    SAME,
    examine,
    right_answers_earn_everything,
    wrong_answers_earn_nothing,
)

pytestmark = pytest.mark.lesson(7)

# 7.2


class BeforeTheOldFront(FreeKVCacheBlockQueue):
    def prepend_n(self, blocks):
        front = self.sentinel.next_free_block
        for block in blocks:
            self.insert_before(block, front)


class LooksForIt(FreeKVCacheBlockQueue):
    """Goes from the front to the block: right, and slower the longer the queue is."""

    def remove(self, block):
        if not any(each is block for each in self):
            raise not_in_queue(block)
        super().remove(block)


class CountsBeforeItRefuses(FreeKVCacheBlockQueue):
    def remove(self, block):
        self.num_free_blocks -= 1
        if block.next_free_block is None:
            raise not_in_queue(block)
        self.num_free_blocks += 1
        super().remove(block)


class UsesUp(FreeKVCacheBlockQueue):
    def prepend_n(self, blocks):
        while blocks:
            self.prepend(blocks.pop())


class AppendsInFront(FreeKVCacheBlockQueue):
    def append(self, block):
        self.prepend(block)


class ReturnsATuple(FreeKVCacheBlockQueue):
    def popleft_n(self, n):
        return tuple(super().popleft_n(n))


class ReturnsIds(FreeKVCacheBlockQueue):
    def popleft(self):
        return super().popleft().block_id


class OneCounterForAll(FreeKVCacheBlockQueue):
    last = None

    def remove(self, block):
        if OneCounterForAll.last is block:
            raise not_in_queue(block)
        OneCounterForAll.last = block
        super().remove(block)


class LooksAtTheLengthOnly(FreeKVCacheBlockQueue):
    def popleft(self):
        if self.num_free_blocks == 0:
            raise out_of_blocks(1, 0)
        front = self.sentinel.next_free_block
        self.remove(front)
        return front


class NeverCountsARemoval(LooksAtTheLengthOnly):
    def remove(self, block):
        if block.prev_free_block is None:
            raise not_in_queue(block)
        before, behind = block.prev_free_block, block.next_free_block
        before.next_free_block, behind.prev_free_block = behind, before
        block.prev_free_block = block.next_free_block = None


class MendsTheWayForwardOnly(LooksAtTheLengthOnly):
    def remove(self, block):
        if block.prev_free_block is None:
            raise not_in_queue(block)
        block.prev_free_block.next_free_block = block.next_free_block
        block.prev_free_block = block.next_free_block = None
        self.num_free_blocks -= 1


class NeverCountsAnInsertion(LooksAtTheLengthOnly):
    def insert_before(self, block, following):
        before = following.prev_free_block
        before.next_free_block = following.prev_free_block = block
        block.prev_free_block, block.next_free_block = before, following


class InsertsOneTooLate(LooksAtTheLengthOnly):
    def insert_before(self, block, following):
        behind = following.next_free_block
        behind.prev_free_block = following.next_free_block = block
        block.prev_free_block, block.next_free_block = following, behind
        self.num_free_blocks += 1


class ClearsOneLink(FreeKVCacheBlockQueue):
    def remove(self, block):
        behind = block.next_free_block
        super().remove(block)
        block.next_free_block = behind


class ClearsTheOther(FreeKVCacheBlockQueue):
    def popleft_n(self, n):
        behind = [block.next_free_block for block in self][: max(n, 0)]
        taken = super().popleft_n(n)
        for block, link in zip(taken, behind, strict=True):
            block.next_free_block = link
        return taken


class NoListAtAll(FreeKVCacheBlockQueue):
    """A dict inside, without a link."""

    def __init__(self, blocks):
        self.inside = {}
        super().__init__(blocks)

    def __iter__(self):
        return iter(list(self.inside))

    def __len__(self):
        return len(self.inside)

    def remove(self, block):
        if block not in self.inside:
            raise not_in_queue(block)
        del self.inside[block]

    def popleft(self):
        if not self.inside:
            raise out_of_blocks(1, 0)
        block = next(iter(self.inside))
        del self.inside[block]
        return block

    def popleft_n(self, n):
        if n > len(self.inside):
            raise out_of_blocks(n, len(self.inside))
        return [self.popleft() for _ in range(n)]

    def append(self, block):
        self.inside[block] = None

    def prepend(self, block):
        self.inside = {block: None} | self.inside


class WalksToTheFront(FreeKVCacheBlockQueue):
    def prepend(self, block):
        front = self.sentinel
        while front.prev_free_block is not self.sentinel:
            front = front.prev_free_block
        self.insert_before(block, front)


class LooksForItsPlace(FreeKVCacheBlockQueue):
    def prepend_n(self, blocks):
        front = self.sentinel.next_free_block
        for block in blocks:
            self.insert_before(blocks[list(blocks).index(block)], front)


class MakesNewBlocks(FreeKVCacheBlockQueue):
    def popleft_n(self, n):
        return [KVCacheBlock(block.block_id) for block in super().popleft_n(n)]


QUEUE_RIGHT = (AllAtOnce, BeforeTheOldFront, LooksAtTheLengthOnly)
QUEUE_WRONG = (
    (NeverCountsARemoval, "a removal is not counted"),
    (MendsTheWayForwardOnly, "the way back is not mended"),
    (NeverCountsAnInsertion, "what comes in is not counted"),
    (InsertsOneTooLate, "inserted behind"),
    (ClearsOneLink, SAME),
    (ClearsTheOther, SAME),
    (NoListAtAll, SAME),
    (UsesUp, SAME),
    (AppendsInFront, SAME),
    (ReturnsATuple, SAME),
    (MakesNewBlocks, "copies are handed out"),
    (ReturnsIds, SAME),
    (OneCounterForAll, SAME),
    (object(), SAME),
)


@pytest.mark.usefixtures("wrong_answers")
@pytest.mark.parametrize("slow", [LooksForIt, WalksToTheFront, LooksForItsPlace])
def test_who_searches_is_told_what_makes_it_slow(slow):
    seconds = min(large.seconds for large in lessons.find("7.2").check.large)
    finding = examine("7.2", slow, timeout=1.1 * seconds, max_examples=1)
    assert finding.fraction == 0
    assert "on small inputs it is right. A search" in finding.counterexample.complaint


test_an_unusual_queue_that_is_right_earns_everything = right_answers_earn_everything(
    {"7.2": QUEUE_RIGHT}
)
test_a_wrong_queue_earns_nothing_and_is_named_only_if_it_is_that = wrong_answers_earn_nothing(
    {"7.2": QUEUE_WRONG}
)


# What the text says of queues


def test_a_pool_asks_its_queue_for_four_methods_and_gets_the_same_blocks_from_either():
    blocks = [KVCacheBlock(number) for number in range(8)]
    states = []
    for kind in (FreeKVCacheBlockQueue, TwoPartFreeQueue):
        queue = kind(blocks)
        queue.append_n(queue.popleft_n(3))
        queue.remove(blocks[1])
        queue.prepend_n([blocks[1]])
        states.append([block.block_id for block in queue])
        queue.popleft_n(len(queue))
    assert states == [[1, 3, 4, 5, 6, 7, 0, 2]] * 2
    assert not hasattr(TwoPartFreeQueue, "popleft")  # so a caller can tell the two apart


def test_a_stack_of_requests_keeps_the_order_in_which_each_gives_back():
    pool = AllToTheFront(9)
    of_a, of_b = pool.get_new_blocks(4), pool.get_new_blocks(2)
    pool.free_blocks(of_a[::-1])
    pool.free_blocks(of_b[::-1])
    assert [block.block_id for block in pool.free_block_queue] == [6, 5, 4, 3, 2, 1, 7, 8]


def test_the_hours_at_the_top_are_the_minutes_of_the_exercises():
    folder = Path(__file__).parents[3] / "lessons/07_kv_cache_block_management"
    cells = nbformat.read(folder / "07_kv_cache_block_management.ipynb", as_version=4).cells
    texts = [cell.source for cell in cells if cell.cell_type == "markdown"]
    minutes = {True: 0, False: 0}
    for text in texts:
        for found in re.finditer(r"(?:●[●○]+ · |points, about )(\d+) minutes?", text):
            minutes["(stretch)" in text] += int(found[1])
    assert "2½ for exercises, quiz and what you write" in texts[0]
    assert (minutes[False], minutes[True]) == (pytest.approx(150, abs=8), pytest.approx(30, abs=8))


def test_a_state_that_cannot_be_told_is_not_shown_beside_a_refusal():
    case = examine("7.2", CountsBeforeItRefuses).counterexample
    refused = case.case.splitlines()[-2]
    assert "# ValueError: block 1 is not in this free queue" in refused
    assert "None" not in refused
    assert (case.expected, case.got) == ("'free []'", "ValueError: __len__() should return >= 0")

"""Lesson 7: what is said of ways to take, share and give back blocks."""

from __future__ import annotations

from collections import Counter
from contextlib import suppress
from itertools import islice, takewhile

import pytest

from autograder import lessons
from autograder.checks.acts import Act
from autograder.lessons import lesson07_free_mistakes as mistakes_of_freeing
from autograder.lessons import lesson07_pool_lives as lives
from autograder.lessons import lesson07_pool_mistakes as mistakes
from course_lib.kv_cache.block_pool import BlockPool, KVCacheBlock, double_free, out_of_blocks
from course_lib.kv_cache.order_rules import released
from course_lib.viz.replays.film import differences
from lesson_answers import (
    SAME,
    examine,
    right_answers_earn_everything,
    wrong_answers_earn_nothing,
)

pytestmark = pytest.mark.lesson(7)

# 7.3


def one_by_one(self, num_blocks):
    if not 0 <= num_blocks <= len(self.free_block_queue):
        raise ValueError(num_blocks) if num_blocks < 0 else out_of_blocks(num_blocks, 0)
    taken = []
    while len(taken) < num_blocks:
        (block,) = self.free_block_queue.popleft_n(1)
        block.ref_cnt += 1
        if block.block_hash:
            self.num_evictions = self.num_evictions + 1
            self.forget(block)
        taken.append(block)
    return taken


def by_evict_blocks(self, num_blocks):
    if num_blocks < 0:
        raise ValueError("a negative number of blocks")
    taken = self.free_block_queue.popleft_n(num_blocks)
    self.num_evictions += sum(block.block_hash is not None for block in taken)
    self.evict_blocks([block.block_id for block in taken])
    for block in taken:
        block.ref_cnt = 1
    return taken


def by_remove(self, num_blocks):
    """Right with any queue, and quick with a linked one."""
    if num_blocks < 0:
        raise ValueError("a negative number of blocks")
    taken = list(islice(self.free_block_queue, num_blocks))
    if len(taken) < num_blocks:
        raise out_of_blocks(num_blocks, len(taken))
    for block in taken:
        self.free_block_queue.remove(block)
        block.ref_cnt = 1
        if block.block_hash is not None:
            self.forget(block)
            self.num_evictions += 1
    return taken


def _taken(self, num_blocks, is_forgotten, count):
    """Hand out blocks; forget and count as is said."""
    if num_blocks < 0:
        raise ValueError(num_blocks)
    taken = self.free_block_queue.popleft_n(num_blocks)
    cached = [block for block in taken if block.block_hash is not None]
    self.num_evictions = count(self.num_evictions, cached)
    for block in taken:
        block.ref_cnt = 1
        if block.block_hash is not None and is_forgotten(self, block, cached):
            self.forget(block)
    return taken


def always(self, block, cached):
    return True


def added(before, cached):
    return before + len(cached)


def evicts_then_refuses(self, num_blocks):
    if num_blocks < 0:
        raise ValueError(num_blocks)
    for block in islice(self.free_block_queue, num_blocks):
        if block.block_hash is not None:
            self.forget(block)
            self.num_evictions += 1
    return BlockPool.get_new_blocks(self, num_blocks)


def measures_the_queue(self, num_blocks):
    if num_blocks > len(list(self.free_block_queue)):  # slow: the whole queue for each call
        raise out_of_blocks(num_blocks, self.get_num_free_blocks())
    return BlockPool.get_new_blocks(self, num_blocks)


def never_evicts(self, num_blocks):
    if num_blocks < 0:
        raise ValueError("a negative number of blocks")
    taken = self.free_block_queue.popleft_n(num_blocks)
    for block in taken:
        block.ref_cnt += 1
    return taken


def made_anew(self, num_blocks):
    taken = BlockPool.get_new_blocks(self, num_blocks)
    return [KVCacheBlock(block.block_id, block.ref_cnt, pool=self) for block in taken]


def in_one_list(self, num_blocks, _list=[]):  # noqa: B006 - the mistake itself
    _list[:] = BlockPool.get_new_blocks(self, num_blocks)
    return _list


def in_a_list_of_the_pools(self, num_blocks):
    self.handed_out = getattr(self, "handed_out", [])
    self.handed_out[:] = BlockPool.get_new_blocks(self, num_blocks)
    return self.handed_out


GET_RIGHT = (one_by_one, by_evict_blocks, by_remove)
GET_WRONG = (
    (lambda self, n: _taken(self, n, always, lambda b, cached: b + bool(cached)), SAME),
    (lambda self, n: _taken(self, n, always, lambda b, cached: len(cached)), SAME),
    (lambda self, n: _taken(self, n, always, lambda b, cached: 1 if cached else b), SAME),
    (
        lambda self, n: _taken(
            self, n, always, lambda b, cached: b + len({each.block_hash for each in cached})
        ),
        SAME,
    ),
    (lambda self, n: _taken(self, n, lambda s, block, cached: block is cached[0], added), SAME),
    (lambda self, n: _taken(self, n, lambda s, block, cached: block is cached[-1], added), SAME),
    (lambda self, n: _taken(self, n, lambda s, block, cached: block in cached[:3], added), SAME),
    (
        lambda self, n: _taken(
            self, n, lambda s, block, cached: s.get_cached_block(block.block_hash) is block, added
        ),
        SAME,
    ),
    (never_evicts, "nothing is evicted"),
    (evicts_then_refuses, SAME),
    (made_anew, "copies are handed out"),
    (in_one_list, "one list for all calls"),
    (in_a_list_of_the_pools, "one list for all calls"),
    (lambda self, num_blocks: tuple(BlockPool.get_new_blocks(self, num_blocks)), SAME),
    (lambda self, num_blocks: BlockPool.get_new_blocks(self, num_blocks)[::-1], SAME),
    (lambda self, num_blocks: self.blocks[1 : num_blocks + 1], SAME),
    (lambda self, num_blocks: BlockPool.get_new_blocks(self, num_blocks) or None, SAME),
    (object(), SAME),
)


def touched_in_one_pass(self, blocks):
    blocks = tuple(blocks)
    for stranger in (each for each in blocks if each.pool is not self):
        raise self.foreign_block(stranger)
    for block, times in Counter(blocks).items():
        if not block.ref_cnt:
            self.free_block_queue.remove(block)
        block.ref_cnt += times


def touched_by_iterator_twice(self, blocks):
    for block in blocks:
        if block.pool is not self:
            raise self.foreign_block(block)
    for block in blocks:
        if block.ref_cnt == 0:
            self.free_block_queue.remove(block)
        block.ref_cnt += 1


def touched_if_queued(self, blocks):
    blocks = list(blocks)
    for block in blocks:
        if block.pool is not self:
            raise self.foreign_block(block)
    for block in blocks:
        if block in list(self.free_block_queue):  # slow: the whole queue for each block
            self.free_block_queue.remove(block)
        block.ref_cnt += 1


def touched_as_the_queue_says(self, blocks):
    blocks = list(blocks)
    for block in blocks:
        if block.pool is not self:
            raise self.foreign_block(block)
    for block in blocks:
        with suppress(ValueError):  # slow: a queue may search all of its blocks before it refuses
            self.free_block_queue.remove(block)
        block.ref_cnt += 1


def touched_once(self, blocks):
    BlockPool.touch(self, dict.fromkeys(blocks))


def touched_of_any_pool(self, blocks):
    blocks = list(blocks)
    for block in blocks:
        if block.pool is None or block.pool.num_blocks != self.num_blocks:
            raise self.foreign_block(block)
    for block in blocks:
        if block.ref_cnt == 0:
            self.free_block_queue.remove(block)
        block.ref_cnt += 1


def touched_if_both_ends_are_from_here(self, blocks):
    blocks = list(blocks)
    for block in [*blocks[:1], *blocks[-1:]]:
        if block.pool is not self:
            raise self.foreign_block(block)
    mistakes.one_by_one(self, blocks)


TOUCH_RIGHT = (touched_in_one_pass,)
TOUCH_WRONG = (
    (touched_if_both_ends_are_from_here, SAME),
    (touched_of_any_pool, SAME),
    (touched_by_iterator_twice, "an iterator is gone through twice"),
    (touched_once, "twice is once"),
    (lambda self, blocks: BlockPool.touch(self, blocks) or list(blocks), SAME),
    (lambda self, blocks: None, SAME),
)

# 7.4


def freed_in_sorted_lists(self, ordered_blocks):
    blocks = list(ordered_blocks)
    strangers = [block for block in blocks if block.pool is not self]
    if strangers:
        raise self.foreign_block(strangers[0])
    left = {block: block.ref_cnt for block in blocks}
    idle = []
    for block in blocks:
        left[block] -= 1
        if left[block] < 0:
            raise double_free(block)
        if left[block] == 0:
            idle.append(block)
    for block, count in left.items():
        block.ref_cnt = count
    # A block that is named too often raises; else each is idle at its last mention.
    self.free_block_queue.prepend_n([block for block in idle if not block.block_hash])
    self.free_block_queue.append_n([block for block in idle if block.block_hash])


def freed_by_counting_in_the_list(self, ordered_blocks):
    blocks = list(ordered_blocks)
    for block in blocks:
        if block.pool is not self:
            raise self.foreign_block(block)
        if blocks.count(block) > block.ref_cnt:  # slow: the whole list for each block
            raise double_free(block)
    BlockPool.free_blocks(self, blocks)


def freed_with_the_callers_list(self, ordered_blocks):
    BlockPool.free_blocks(self, list(ordered_blocks))
    if isinstance(ordered_blocks, list):
        ordered_blocks.clear()


def freed_with_the_callers_list_in_order(self, ordered_blocks):
    blocks = ordered_blocks if isinstance(ordered_blocks, list) else list(ordered_blocks)
    mistakes_of_freeing.checked(self, blocks)
    blocks.sort(key=lambda block: block.block_hash is not None)
    BlockPool.free_blocks(self, blocks)


def freed_as_if_the_full_ones_came_last(self, ordered_blocks):
    idle = released(mistakes_of_freeing.checked(self, ordered_blocks))
    front = list(takewhile(lambda block: block.block_hash is None, idle))
    self.free_block_queue.prepend_n(front)
    self.free_block_queue.append_n(idle[len(front) :])


def freed_at_the_first_mention(self, ordered_blocks):
    blocks = list(ordered_blocks)
    BlockPool.free_blocks(self, blocks[:0])
    counted = Counter(blocks)
    for block, times in counted.items():
        if block.pool is not self:
            raise self.foreign_block(block)
        if block.ref_cnt < times:
            raise double_free(block)
    idle = []
    for block, times in counted.items():
        block.ref_cnt -= times
        if not block.ref_cnt:
            idle.append(block)
    self.free_block_queue.prepend_n([block for block in idle if block.block_hash is None])
    self.free_block_queue.append_n([block for block in idle if block.block_hash is not None])


def _freed(self, ordered_blocks, is_foreign=None, is_too_often=None, goes_back=None):
    """Give blocks back; ask as is said whether to refuse, and where they go."""
    blocks = list(ordered_blocks)
    counted = Counter(blocks)
    for block in blocks:
        if is_foreign(block) if is_foreign else block.pool is not self:
            raise self.foreign_block(block)
        times, held = counted[block], block.ref_cnt
        if is_too_often(times, held) if is_too_often else times > held:
            raise double_free(block)
    idle = released(blocks)
    back = [b for b in idle if (goes_back(self, b) if goes_back else b.block_hash is not None)]
    self.free_block_queue.prepend_n([block for block in idle if block not in back])
    self.free_block_queue.append_n(back)


def freed_and_queued_anew(self, ordered_blocks):
    BlockPool.free_blocks(self, ordered_blocks)
    queue = self.free_block_queue
    queue.append_n(queue.popleft_n(len(queue)))  # slow: the whole queue for each call


def freed_with_float_counts(self, ordered_blocks):
    blocks = list(ordered_blocks)
    BlockPool.free_blocks(self, blocks)
    for block in blocks:
        block.ref_cnt = float(block.ref_cnt)


def freed_and_turned(self, ordered_blocks):
    idle = released(mistakes_of_freeing.checked(self, ordered_blocks))
    front = [block for block in idle if block.block_hash is None]
    self.free_block_queue.prepend_n(front[::-1])
    self.free_block_queue.append_n([block for block in idle if block not in front])


def freed_by_the_setting(self, ordered_blocks):
    _freed(self, ordered_blocks, goes_back=lambda pool, block: pool.enable_caching)


def freed_with_all_counts_first(self, ordered_blocks):
    blocks = list(ordered_blocks)
    for block in blocks:
        if block.pool is not self:
            raise self.foreign_block(block)
    for block, times in Counter(blocks).items():
        if times > block.ref_cnt:
            raise double_free(block)
    for block in blocks:
        block.ref_cnt -= 1
    idle = [block for block in blocks if not block.ref_cnt]
    self.free_block_queue.prepend_n([b for b in idle if not b.block_hash])
    self.free_block_queue.append_n([b for b in idle if b.block_hash])


def freed_and_emptied(self, ordered_blocks):
    idle = released(mistakes_of_freeing.checked(self, ordered_blocks))
    for block in idle:
        if block.block_hash is not None:
            self.forget(block)
    self.free_block_queue.prepend_n(idle)


def freed_by_number(self, ordered_blocks):
    blocks = list(ordered_blocks)
    left = {block.block_id: block.ref_cnt for block in self.blocks}
    for block in blocks:
        left[block.block_id] = left.get(block.block_id, 0) - 1
    for block in blocks:
        if block.pool is not self:
            raise self.foreign_block(block)
        if left[block.block_id] < 0:
            raise double_free(block)
    BlockPool.free_blocks(self, blocks)


def freed_for_all(self, ordered_blocks):
    blocks = mistakes_of_freeing.checked(self, ordered_blocks)
    front, back = [], []
    for block in blocks:
        block.ref_cnt = 0
        (front if block.block_hash is None else back).append(block)
    self.free_block_queue.append_n(back)
    self.free_block_queue.prepend_n(front)


def by_the_old_setting(self, block):
    return not self.enable_caching or block.block_hash is not None


def freed_if_both_ends_are_from_here(self, ordered_blocks):
    blocks = list(ordered_blocks)
    for block in [*blocks[:1], *blocks[-1:]]:
        if block.pool is not self:
            raise self.foreign_block(block)
    mistakes_of_freeing.checked(self, [block for block in blocks if block.pool is self])
    mistakes_of_freeing.refused_on_the_way(self, blocks)


def freed_with_each_before_the_others(self, ordered_blocks):
    front = []
    idle = released(mistakes_of_freeing.checked(self, ordered_blocks))
    for block in idle:
        if block.block_hash is None:
            front.insert(0, block)
    self.free_block_queue.prepend_n(front)
    self.free_block_queue.append_n([block for block in idle if block.block_hash is not None])


FREE_RIGHT = (freed_in_sorted_lists, _freed)
FREE_WRONG = (
    (freed_if_both_ends_are_from_here, SAME),
    (freed_with_each_before_the_others, "one by one to the front"),
    (lambda self, bs: _freed(self, bs, is_too_often=lambda n, r: n > r + (r > 1)), SAME),
    (lambda self, bs: _freed(self, bs, is_too_often=lambda n, r: r < 2 and n > r), SAME),
    (lambda self, bs: _freed(self, bs, is_too_often=lambda n, r: min(n, 3) > r), SAME),
    (lambda self, bs: _freed(self, bs, is_foreign=lambda block: block.pool is None), SAME),
    (
        lambda self, bs: _freed(
            self, bs, goes_back=lambda pool, b: pool.get_cached_block(b.block_hash) is b
        ),
        SAME,
    ),
    (freed_and_queued_anew, SAME),
    (freed_with_float_counts, SAME),
    (freed_and_turned, "the front is reversed"),
    (freed_by_the_setting, "sorted by the setting"),
    (freed_with_all_counts_first, "queued as often as named"),
    (freed_and_emptied, "emptied, so in front"),
    (freed_with_the_callers_list, SAME),
    (freed_with_the_callers_list_in_order, SAME),
    (freed_as_if_the_full_ones_came_last, SAME),
    (freed_at_the_first_mention, "queued where it is first named"),
    (freed_by_number, "counted by number"),
    (freed_for_all, "the count is set to 0"),
    (lambda self, bs: _freed(self, bs, goes_back=by_the_old_setting), "sorted with caching only"),
    (lambda self, ordered_blocks: BlockPool.free_blocks(self, ordered_blocks) or True, SAME),
    (lambda self, ordered_blocks: None, SAME),
)

RIGHT = {"7.3a": GET_RIGHT, "7.3b": TOUCH_RIGHT, "7.4": FREE_RIGHT}
WRONG = {"7.3a": GET_WRONG, "7.3b": TOUCH_WRONG, "7.4": FREE_WRONG}


test_an_unusual_right_answer_earns_everything = right_answers_earn_everything(RIGHT)
test_a_wrong_answer_earns_nothing_and_is_named_only_if_it_is_that = wrong_answers_earn_nothing(
    WRONG
)


def touches_without_a_look(self, blocks):
    for block in blocks:
        block.ref_cnt += 1


def touches_always_out(self, blocks):
    for block in blocks:
        self.free_block_queue.remove(block)
        block.ref_cnt += 1


def takes_without_a_look(self, num_blocks):
    blocks = self.free_block_queue.popleft_n(max(num_blocks, 0))
    for block in blocks:
        block.ref_cnt = 1
    return blocks


@pytest.mark.parametrize(
    ("exercise", "wrong"),
    [
        ("7.3a", takes_without_a_look),
        ("7.3b", touches_without_a_look),
        ("7.3b", touches_always_out),
    ],
)
def test_who_gets_the_idea_wrong_hears_of_it_before_a_refusal_that_is_missing(exercise, wrong):
    case = examine(exercise, wrong).counterexample.case
    assert "blocks[0]" not in case
    assert "-1" not in case


def test_to_forget_what_has_no_hash_is_told_so():
    def forgets_all(self, num_blocks):
        blocks = self.free_block_queue.popleft_n(num_blocks)
        for block in blocks:
            block.ref_cnt = 1
            self.forget(block)
        return blocks

    assert "has no hash to forget" in examine("7.3a", forgets_all).counterexample.got


def test_a_pool_in_a_failing_case_is_no_larger_than_need_be():
    def refuses_the_last(self, num_blocks):
        if num_blocks and num_blocks >= self.get_num_free_blocks():
            raise out_of_blocks(num_blocks, self.get_num_free_blocks())
        return BlockPool.get_new_blocks(self, num_blocks)

    case = examine("7.3a", refuses_the_last, max_examples=100).counterexample.case
    assert case == "obj = BlockPool(2)  # free [1]\nobj.get_new_blocks(1)"


def forgets_what_was_free(self, blocks):
    blocks = list(blocks)
    idle = [block for block in blocks if not block.ref_cnt and block.block_hash is not None]
    BlockPool.touch(self, blocks)
    for block in dict.fromkeys(idle):
        self.forget(block)


def touches_and_counts_an_eviction(self, blocks):
    BlockPool.touch(self, blocks)
    self.num_evictions += 1


def refuses_the_null_block_on_the_way(self, ordered_blocks):
    blocks = list(ordered_blocks)
    ahead = list(takewhile(lambda block: block is not self.null_block, blocks))
    BlockPool.free_blocks(self, ahead)
    BlockPool.free_blocks(self, blocks[len(ahead) :])


@pytest.mark.parametrize(
    ("exercise", "wrong", "smallest"),
    [
        (
            "7.3a",
            mistakes.each_an_eviction,
            "obj = BlockPool(2)  # free [1]\nobj.get_new_blocks(1)  # free []  held: 1\n"
            "obj.num_evictions",
        ),
        (
            "7.3b",
            forgets_what_was_free,
            "obj = BlockPool(2)  # free [1]\nobj.get_new_blocks(1)  # free []  held: 1\n"
            "obj.cache_full_blocks([obj.blocks[1]], [b'a'])  # free []  held: 1*\n"
            "obj.free_blocks([obj.blocks[1]])  # free [1*]\n"
            "obj.touch([obj.blocks[1]])  # free []  held: 1\nstate_line(obj)",
        ),
        (
            "7.4",
            lambda self, bs: BlockPool.free_blocks(self, sorted(bs, key=lambda b: -b.block_id)),
            "obj = BlockPool(3)  # free [1 2]\nobj.get_new_blocks(2)  # free []  held: 1 2\n"
            "obj.free_blocks([obj.blocks[1], obj.blocks[2]])  # free [2 1]\nstate_line(obj)",
        ),
        (
            "7.3b",
            lambda self, blocks: BlockPool.touch(self, [b for b in blocks if b.block_id]),
            "obj = BlockPool(1)  # free []\nobj.touch([obj.blocks[0]])",
        ),
        (
            "7.3b",
            lambda self, blocks: BlockPool.touch(
                self, [self.blocks[b.block_id] if b.pool is None else b for b in blocks]
            ),
            "obj = BlockPool(2)  # free [1]\nobj.touch([KVCacheBlock(1)])",
        ),
        (
            "7.3b",
            touches_and_counts_an_eviction,
            "obj = BlockPool(2)  # free [1]\nobj.touch([obj.blocks[1]])  # free []  held: 1\n"
            "obj.num_evictions",
        ),
        (
            "7.4",
            lambda self, bs: BlockPool.free_blocks(self, [b for b in bs if b.block_id]),
            "obj = BlockPool(1)  # free []\nobj.free_blocks([obj.blocks[0]])",
        ),
        (
            "7.4",
            refuses_the_null_block_on_the_way,
            "obj = BlockPool(2)  # free [1]\nobj.get_new_blocks(1)  # free []  held: 1\n"
            "obj.free_blocks([obj.blocks[1], obj.blocks[0]])",
        ),
        (
            "7.4",
            mistakes_of_freeing.named_twice,
            "obj = BlockPool(2)  # free [1]\nobj.get_new_blocks(1)  # free []  held: 1\n"
            "obj.free_blocks([obj.blocks[1], obj.blocks[1]])",
        ),
    ],
    ids=[
        "all evictions",
        "prefix forgotten",
        "sorted",
        "null shared",
        "a stranger shared",
        "counted",
        "null back",
        "null on the way",
        "named twice",
    ],
)
def test_a_case_has_nothing_in_it_that_is_not_needed(exercise, wrong, smallest):
    # The probes alone: what a search finds beside them is no smaller.
    assert examine(exercise, wrong, max_examples=1).counterexample.case == smallest


@pytest.mark.parametrize(
    ("exercise", "wrong", "most"),
    [
        ("7.3a", mistakes.nobody_holds, 2),
        ("7.3a", mistakes.hash_alone, 6),
        ("7.3b", mistakes.stays_queued, 3),
        ("7.4", next(m.wrong for m in lessons.find("7.4").check.misconceptions), 4),
    ],
)
def test_a_failing_case_is_short_and_can_be_typed(exercise, wrong, most):
    case = examine(exercise, wrong, max_examples=100).counterexample.case
    assert len(case.splitlines()) <= most, case
    assert "<" not in case


def test_a_life_that_is_made_shorter_caches_only_blocks_in_use():
    make, take = Act("create", (4,), {}), Act("do", ("get_new_blocks", 1), {"reads": ()})
    cache = Act("do", ("cache_full_blocks", lives.at(1), [b"a"]), {"reads": ()})
    assert lives.PoolLife.is_sound([make, take, cache])
    assert not lives.PoolLife.is_sound([make, cache])
    assert not lives.PoolLife.is_sound([Act("create", (0,), {}), take])


@pytest.mark.usefixtures("wrong_answers")
@pytest.mark.parametrize(
    ("exercise", "slow"),
    [
        ("7.3a", measures_the_queue),
        ("7.3b", touched_if_queued),
        ("7.3b", touched_as_the_queue_says),
        ("7.4", freed_by_counting_in_the_list),
    ],
)
def test_who_searches_is_told_what_makes_it_slow(exercise, slow):
    seconds = min(large.seconds for large in lessons.find(exercise).check.large)
    finding = examine(exercise, slow, timeout=1.1 * seconds, max_examples=1)
    assert finding.fraction == 0
    assert "on small inputs it is right. A search" in finding.counterexample.complaint


def test_a_refusal_that_comes_too_late_is_told_so():
    finding = examine("7.3b", mistakes.one_by_one)
    assert "it refuses when it has changed something already" in finding.counterexample.complaint


def test_the_replay_of_a_mistake_marks_the_first_state_that_differs():
    case = examine("7.3b", mistakes.stays_queued, max_examples=100).retell()
    marked = [differences(step) for step in case.steps]
    assert not any(marked[:1])
    assert ("queue", "free") in next(filter(None, marked))

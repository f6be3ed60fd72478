"""Lesson 7: what its checks say of answers that people give, wrong ones and unusual right ones."""

from __future__ import annotations

import random
from collections import Counter
from itertools import chain, islice

import pytest

from autograder import lessons
from autograder.checks.acts import Act
from autograder.lessons import lesson07_free_mistakes as mistakes_of_freeing
from autograder.lessons import lesson07_given as given
from autograder.lessons import lesson07_hunt as hunt
from autograder.lessons import lesson07_mistakes as mistakes
from autograder.lessons import lesson07_pool_lives as lives
from autograder.lessons import lesson07_pools as pools
from autograder.proxy.subject import LocalSubject
from course_lib import parts
from course_lib.engine import LLM, EngineParts, SamplingParams
from course_lib.engine.tokenizer import Tokenizer, checkpoint_folder
from course_lib.kv_cache.block_pool import (
    BlockPool,
    FreeKVCacheBlockQueue,
    double_free,
    not_in_queue,
    out_of_blocks,
)
from course_lib.kv_cache.metrics import CacheMetrics
from course_lib.kv_cache.order_rules import released
from course_lib.kv_cache.watch.invariants import (
    Leak,
    find_leaks,
    find_violations,
    pool_violations,
    under_check,
)
from course_lib.viz.replays.film import differences
from greedy_oracle import greedy_answer

pytestmark = pytest.mark.lesson(7)

SAME = ""
"""Stands for a wrong answer that has no name."""


def examine(exercise_id, answer, max_examples=5):
    subject = LocalSubject(answer, 3.0)
    return lessons.find(exercise_id).examine(subject, max_examples=max_examples)


def named(finding):
    return finding.misconception.name if finding.misconception else SAME


# 7.1


@pytest.mark.parametrize("seed", range(25))
def test_a_task_by_hand_tells_every_order_of_the_queue_apart(seed):
    right = given.states_to_write(seed).answer
    wrong = [mistake.wrong(seed) for mistake in mistakes.TRACE]
    assert len({tuple(states.values()) for states in (right, *wrong)}) == 5
    assert all(list(states) == list(right) for states in wrong)


def test_a_trace_earns_a_share_for_each_state_and_any_seed_counts():
    right = given.states_to_write(7).answer
    assert examine("7.1", {"seed": 7, **right}).fraction == 1
    spread = {step: line.replace(" ", "  ") for step, line in right.items()}
    assert examine("7.1", {"seed": 7, **spread}).fraction == 1
    assert examine("7.1", {"seed": 7, **right, "step 6": "free []"}).fraction == 5 / 6
    assert examine("7.1", {"seed": 1}).unwritten


@pytest.mark.parametrize(
    ("line", "says"),
    [
        (["free", 1], "it is no text"),
        ("free [1, 2]", "'1,' is no block"),
        ("A: 1 2", "a state begins with the free queue"),
        ("free [1 2 3] A:", "only those that hold blocks are named"),
    ],
)
def test_a_line_that_is_no_state_is_told_how_one_is_written(line, says):
    right = given.states_to_write(1).answer
    finding = examine("7.1", {"seed": 1, **right, "step 1": line})
    assert says in finding.counterexample.complaint


# 7.2


class AllAtOnce(FreeKVCacheBlockQueue):
    """Cuts several out, and links several in, as one piece."""

    def popleft_n(self, n):
        if n > self.num_free_blocks:
            raise out_of_blocks(n, self.num_free_blocks)
        taken, block = [], self.sentinel.next_free_block
        for _ in range(n):
            taken.append(block)
            block = block.next_free_block
        self.sentinel.next_free_block, block.prev_free_block = block, self.sentinel
        for each in taken:
            each.prev_free_block = each.next_free_block = None
        self.num_free_blocks -= n
        return taken

    def append_n(self, blocks):
        back = self.sentinel.prev_free_block
        for block in blocks:
            back.next_free_block, block.prev_free_block, back = block, back, block
        back.next_free_block, self.sentinel.prev_free_block = self.sentinel, back
        self.num_free_blocks += len(blocks)


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


QUEUE_RIGHT = (AllAtOnce, BeforeTheOldFront, LooksAtTheLengthOnly)
QUEUE_WRONG = (
    (LooksForIt, SAME),
    (NeverCountsARemoval, "a removal is not counted"),
    (MendsTheWayForwardOnly, "the way back is not mended"),
    (NeverCountsAnInsertion, "an insertion is not counted"),
    (InsertsOneTooLate, "inserted behind"),
    (ClearsOneLink, SAME),
    (ClearsTheOther, SAME),
    (NoListAtAll, SAME),
    (WalksToTheFront, SAME),
    (LooksForItsPlace, SAME),
    (UsesUp, SAME),
    (AppendsInFront, SAME),
    (ReturnsATuple, SAME),
    (ReturnsIds, SAME),
    (OneCounterForAll, SAME),
    (object(), SAME),
)

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
    (evicts_then_refuses, SAME),
    (measures_the_queue, SAME),
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


TOUCH_RIGHT = (touched_in_one_pass,)
TOUCH_WRONG = (
    (touched_of_any_pool, SAME),
    (touched_by_iterator_twice, SAME),
    (touched_once, SAME),
    (touched_if_queued, SAME),
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


FREE_RIGHT = (freed_in_sorted_lists, _freed)
FREE_WRONG = (
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
    (freed_by_counting_in_the_list, SAME),
    (freed_with_the_callers_list, SAME),
    (freed_at_the_first_mention, SAME),
    (lambda self, ordered_blocks: BlockPool.free_blocks(self, ordered_blocks) or True, SAME),
    (lambda self, ordered_blocks: None, SAME),
)

# 7.6


def leaks_by_subtraction(manager, live_request_ids):
    live = frozenset(live_request_ids)
    held = Counter({block.block_id: block.ref_cnt for block in manager.block_pool.blocks})
    found = []
    for name, table in manager.block_tables().items():
        ids = [block.block_id for block in table]
        held.subtract(ids)
        if name not in live:
            found.append(Leak(name, tuple(ids)))
    nobodys = tuple(sorted(held.elements()))
    if nobodys:
        found.append(Leak(owner="nobody", block_ids=nobodys))
    return found


def leaks_with_an_iterator(manager, live_request_ids):
    # An iterator is used up by the first look at it.
    tables = manager.block_tables()
    dead = [name for name in tables if name not in live_request_ids]
    return find_leaks(manager, [name for name in tables if name not in dead])


def _leaks(manager, live, is_live=None, lost=None):
    """Return leaks; ask as is said who is alive, and what nobody's blocks are."""
    tables = manager.block_tables()
    live = list(live)
    found = [
        Leak(name, tuple(block.block_id for block in table))
        for name, table in tables.items()
        if not (is_live(name, live) if is_live else name in live)
    ]
    times = Counter(block.block_id for table in tables.values() for block in table)
    extra = {b.block_id: b.ref_cnt - times[b.block_id] for b in manager.block_pool.blocks}
    nobodys = lost(extra) if lost else [i for i, n in extra.items() for _ in range(n)]
    return [*found, Leak("nobody", tuple(nobodys))] if nobodys else found


LEAKS_RIGHT = (leaks_by_subtraction, _leaks)
LEAKS_WRONG = (
    (lambda manager, live: _leaks(manager, live, lambda name, live: name in " ".join(live)), SAME),
    (
        lambda manager, live: _leaks(
            manager, live, lambda name, live: any(name.startswith(each) for each in live)
        ),
        SAME,
    ),
    (
        lambda manager, live: _leaks(
            manager, live, lost=lambda extra: [i for i, n in extra.items() for _ in range(abs(n))]
        ),
        SAME,
    ),
    (
        lambda manager, live: _leaks(
            manager,
            live,
            lost=lambda extra: [i for i, n in list(extra.items())[:-1] for _ in range(n)],
        ),
        SAME,
    ),
    (
        lambda manager, live: [
            Leak(leak.owner, tuple(sorted(leak.block_ids))) for leak in find_leaks(manager, live)
        ],
        SAME,
    ),
    (leaks_with_an_iterator, SAME),
    (
        lambda manager, live: [(leak.owner, leak.block_ids) for leak in find_leaks(manager, live)],
        SAME,
    ),
    (
        lambda manager, live: {leak.owner: leak.block_ids for leak in find_leaks(manager, live)},
        SAME,
    ),
    (lambda manager, live: find_leaks(manager, live)[:1], SAME),
    (lambda manager, live: [], SAME),
    (object(), SAME),
)

# 7.7


class MaximumOfAll(CacheMetrics):
    def record_usage(self, num_used_blocks, num_evicted_blocks=0):
        super().record_usage(num_used_blocks, num_evicted_blocks)
        self.high_water = max(self.high_water, num_used_blocks)

    @property
    def hit_rate(self):
        return self.hit_tokens / self.queried_tokens if self.queried_tokens else 0.0


class DividesByNothing(CacheMetrics):
    @property
    def hit_rate(self):
        return self.hit_tokens / self.queried_tokens


class CountsThenRefuses(CacheMetrics):
    def record_usage(self, num_used_blocks, num_evicted_blocks=0):
        self.num_used_blocks = num_used_blocks
        super().record_usage(num_used_blocks, num_evicted_blocks)


class InPerCent(CacheMetrics):
    @property
    def usage(self):
        return 100 * super().usage


class Rounded(CacheMetrics):
    @property
    def usage(self):
        return round(super().usage, 2)


class OfTwoAtLeast(CacheMetrics):
    @property
    def usage(self):
        return self.num_used_blocks / max(self.num_blocks - 1, 2)


class ByNameOnly(CacheMetrics):
    def record_lookup(self, num_tokens, num_hit_tokens, *, is_preempted=False):
        super().record_lookup(num_tokens, num_hit_tokens, is_preempted)


METRICS_RIGHT = (MaximumOfAll,)
METRICS_WRONG = (
    (DividesByNothing, SAME),
    (CountsThenRefuses, SAME),
    (InPerCent, SAME),
    (Rounded, SAME),
    (OfTwoAtLeast, SAME),
    (ByNameOnly, SAME),
)

# 7.8b


def listed_but_not_done(pool, block_ids):
    """Says what the queue would be, and leaves it."""
    idle = list(map(pool.blocks.__getitem__, dict.fromkeys(block_ids)))
    for block in map(pool.blocks.__getitem__, block_ids):
        block.ref_cnt -= 1
    idle = [block for block in idle if block.ref_cnt == 0]
    front = [block for block in idle if block.block_hash is None]
    back = [block for block in idle if block.block_hash is not None]
    return [block.block_id for block in (*front, *pool.free_block_queue, *back)]


def sorted_by_the_index(pool, block_ids):
    """Takes a block for unfindable because another one is found for what it holds."""
    idle = released(map(pool.blocks.__getitem__, block_ids))
    back = [block for block in idle if pool.get_cached_block(block.block_hash) is block]
    pool.free_block_queue.prepend_n([block for block in idle if block not in back])
    pool.free_block_queue.append_n(back)
    return [block.block_id for block in pool.free_block_queue]


MENDED_RIGHT = (hunt.free_blocks_b, hunt.free_as_before)
MENDED_WRONG = (
    (listed_but_not_done, SAME),
    (sorted_by_the_index, SAME),
    (hunt.free_blocks_a, "what others hold is queued"),
    (hunt.free_cleaned_up, "still to the back"),
    (lambda pool, ids: hunt.give_back(pool, ids[::-1]), SAME),
    (lambda pool, ids: [pool.blocks[i] for i in hunt.give_back(pool, ids)], SAME),
    (lambda pool, ids: [3, 2, 1, 4, 5, 6, 7, 8], SAME),
)

RIGHT = {
    "7.2": QUEUE_RIGHT,
    "7.3a": GET_RIGHT,
    "7.3b": TOUCH_RIGHT,
    "7.4": FREE_RIGHT,
    "7.6": LEAKS_RIGHT,
    "7.7": METRICS_RIGHT,
    "7.8b": MENDED_RIGHT,
}
WRONG = {
    "7.2": QUEUE_WRONG,
    "7.3a": GET_WRONG,
    "7.3b": TOUCH_WRONG,
    "7.4": FREE_WRONG,
    "7.6": LEAKS_WRONG,
    "7.7": METRICS_WRONG,
    "7.8b": MENDED_WRONG,
}


@pytest.mark.parametrize(
    ("exercise", "place"), [(e, n) for e in RIGHT for n in range(len(RIGHT[e]))]
)
def test_an_unusual_right_answer_earns_everything(exercise, place):
    finding = examine(exercise, RIGHT[exercise][place], max_examples=20)
    assert finding.fraction == 1, finding.counterexample


@pytest.mark.parametrize(
    ("exercise", "place"), [(e, n) for e in WRONG for n in range(len(WRONG[e]))]
)
def test_a_wrong_answer_earns_nothing_and_is_named_only_if_it_is_that(exercise, place):
    answer, name = WRONG[exercise][place]
    finding = examine(exercise, answer)
    assert finding.fraction == 0
    assert named(finding) == name


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


def test_a_refusal_that_comes_too_late_is_told_so():
    finding = examine("7.3b", mistakes.one_by_one)
    assert "it refuses when it has changed something already" in finding.counterexample.complaint


def test_the_replay_of_a_mistake_marks_the_first_state_that_differs():
    case = examine("7.3b", mistakes.stays_queued, max_examples=100).retell()
    marked = [differences(step) for step in case.steps]
    assert not any(marked[:1])
    assert ("queue", "free") in next(filter(None, marked))


# 7.5


def laws_in_one_expression(pool):
    ids = [block.block_id for block in pool.free_block_queue]
    found = pool.cached_block_hash_to_block
    broken = {
        "length": pool.get_num_free_blocks() != len(ids),
        "null": bool(pool.blocks[0].ref_cnt) or pool.blocks[0].block_hash or 0 in ids,
        "place": any(
            ids.count(b.block_id) != (1 if b.ref_cnt == 0 else 0) or b.ref_cnt < 0
            for b in pool.blocks[1:]
        ),
        "index": any(block.block_hash != key for key, block in found.items()),
        "hash": any(
            b.block_hash is not None and (b.block_hash not in found or not pool.enable_caching)
            for b in pool.blocks
        ),
    }
    return [law for law, is_broken in broken.items() if is_broken]


def drains_the_queue(pool):
    said = pool_violations(pool)
    while len(pool.free_block_queue):
        pool.free_block_queue.popleft_n(1)
    return said


def careless(*, null_hash=True, null_count=True, times=None, rejects=None, hashed=None, last=None):
    """Return a checker that passes over one thing, or is too strict in one."""

    def checker(pool):
        queued = Counter(block.block_id for block in pool.free_block_queue)
        null, found = pool.null_block, pool.cached_block_hash_to_block
        said = ["length"] if pool.get_num_free_blocks() != queued.total() else []
        said += ["null"] if (null.ref_cnt if null_count else null.ref_cnt > 0) else []
        said += ["null"] if queued[0] or (null_hash and null.block_hash is not None) else []
        for block in pool.blocks[1:last]:
            n = queued[block.block_id]
            right = n == (block.ref_cnt == 0) if times is None else times(block, n)
            said += [] if right and block.ref_cnt >= 0 else ["place"]
        said += ["index" for key, block in found.items() if block.block_hash != key]
        for block in pool.blocks[1:last]:
            if block.block_hash is not None and (hashed is None or hashed(block)):
                said += [] if pool.enable_caching and block.block_hash in found else ["hash"]
        return said + (["too strict"] if rejects is not None and rejects(pool) else [])

    return checker


CARELESS = (
    careless(null_hash=False),
    careless(null_count=False),
    careless(times=lambda block, n: n != 1 if block.ref_cnt else n == 1),
    careless(times=lambda block, n: not n if block.ref_cnt else n not in (0, 2)),
    careless(hashed=lambda block: block.ref_cnt > 0),
    careless(last=9),
    careless(rejects=lambda pool: pool.num_evictions),
    careless(rejects=lambda pool: any(block.ref_cnt > 3 for block in pool.blocks)),
    careless(
        rejects=lambda pool: len(pool.cached_block_hash_to_block) > len(pool.free_block_queue)
    ),
)


@pytest.mark.parametrize("place", range(len(CARELESS)))
def test_a_checker_that_passes_over_one_thing_does_not_earn_everything(place):
    assert examine("7.5", CARELESS[place]).fraction < 1
    assert examine("7.5", careless()).fraction == 1


@pytest.mark.parametrize("seed", range(3))
def test_a_checker_of_ones_own_form_earns_everything(seed):
    check_of_checkers = lessons.find("7.5").check
    finding = check_of_checkers.examine(LocalSubject(laws_in_one_expression), seed, 1)
    assert finding.fraction == 1, finding.counterexample


@pytest.mark.parametrize(
    "checker",
    [
        lambda pool: [],
        lambda pool: ["something"],
        lambda pool: bool(pool_violations(pool)),
        lambda pool: (said for said in pool_violations(pool)),
        lambda pool: [1 for _ in pool_violations(pool)],
        drains_the_queue,
        object(),
    ],
)
def test_what_is_no_checker_earns_nothing(checker):
    assert examine("7.5", checker).fraction == 0


def test_every_faulty_pool_breaks_a_law_and_no_valid_one_does():
    drawn = chain.from_iterable(pools.drawn(seed).items() for seed in range(20))
    for name, recipe in [*pools.FAULTY.items(), *drawn]:
        assert LocalSubject(pool_violations).call([recipe]).value, name
    for name, recipe in pools.VALID.items():
        assert LocalSubject(pool_violations).call([recipe]).value == [], name
    assert len(pools.FAULTY) >= 8
    assert len(pools.VALID) >= 3
    assert pools.caught_by_the_sum() == (7, 14)


# 7.8a


@pytest.mark.parametrize(
    "trace",
    [
        {"caching": False, "steps": [1, [1], 1]},
        {"caching": False, "steps": (2, (1, 2), 5)},
        {"caching": False, "steps": [8, [4], [5, 6], 2]},
    ],
)
def test_any_trace_that_tells_the_ways_apart_is_right(trace):
    assert examine("7.8a", trace).fraction == 1


@pytest.mark.parametrize(
    ("trace", "says", "name"),
    [
        ({"caching": True, "steps": [2, [2], 3]}, "both ways", "with caching"),
        ({"caching": False, "steps": [2, [2]]}, "both ways", "nothing is taken afterwards"),
        ({"caching": False, "steps": [8, [4], 1]}, "both ways", SAME),
        ({"caching": False, "steps": [1, [2], 1]}, "step 2 gives back block 2", SAME),
        ({"caching": False, "steps": [1, [1, 1], 1]}, "step 2 gives back block 1", SAME),
        ({"caching": False, "steps": [9]}, "requested 9 blocks but only 8 are free", SAME),
        ({"caching": False, "steps": [1, [0]]}, "ids from 1 to 8", SAME),
        ({"caching": False, "steps": []}, "at least 1", SAME),
        ({"caching": 0, "steps": [1, [1], 1]}, "True or False", SAME),
        ({"steps": [1]}, 'keys "caching" and "steps"', SAME),
        ([3, [3, 2, 1], 3], 'keys "caching" and "steps"', SAME),
    ],
)
def test_any_other_trace_is_told_why(trace, says, name):
    finding = examine("7.8a", trace)
    assert finding.fraction == 0
    assert says in finding.counterexample.complaint
    assert named(finding) == name


def test_every_way_that_is_shown_passes_the_suite_and_only_one_repair_is_right():
    ways = (hunt.free_as_before, hunt.free_cleaned_up, hunt.free_blocks_a, hunt.free_blocks_b)
    assert [hunt.run_suite(free) for free in ways] == [[], [], [], []]
    assert hunt.run_suite(hunt.all_to_the_back)
    right = hunt.play(hunt.free_as_before, hunt.EXPOSING)
    assert [hunt.play(free, hunt.EXPOSING) == right for free in ways] == [True, False, True, True]
    pool = BlockPool(9, enable_caching=False)
    pool.touch(pool.get_new_blocks(2)[:1])
    assert hunt.free_blocks_a(pool, [2, 1]) == [2, 1, 3, 4, 5, 6, 7, 8]
    assert find_violations(pool) == ["block 1 is held by 1 and is in the free queue"]


# The engine


SOURCES = {
    "BlockPool.get_new_blocks": """
from course_lib.kv_cache.block_pool import BlockPool

def get_new_blocks(self: BlockPool, num_blocks):
    if num_blocks < 0:
        raise ValueError(f"{num_blocks} blocks")
    taken = self.free_block_queue.popleft_n(num_blocks)
    self.num_evictions += sum(block.block_hash is not None for block in taken)
    self.evict_blocks([block.block_id for block in taken])
    for block in taken:
        block.ref_cnt = 1
    return taken
""",
    "BlockPool.touch": """
from course_lib.kv_cache.block_pool import BlockPool

def touch(self: BlockPool, blocks):
    blocks = tuple(blocks)
    for block in blocks:
        if block.pool is not self:
            raise self.foreign_block(block)
    for block in blocks:
        if not block.ref_cnt:
            self.free_block_queue.remove(block)
        block.ref_cnt += 1
""",
    "BlockPool.free_blocks": """
from course_lib.kv_cache.block_pool import BlockPool, double_free

def free_blocks(self: BlockPool, ordered_blocks):
    blocks, left, idle = list(ordered_blocks), {}, []
    for block in blocks:
        if block.pool is not self:
            raise self.foreign_block(block)
        left[block] = left.get(block, block.ref_cnt) - 1
        if left[block] < 0:
            raise double_free(block)
        if left[block] == 0:
            idle.append(block)
    for block, count in left.items():
        block.ref_cnt = count
    self.free_block_queue.prepend_n([block for block in idle if block.block_hash is None])
    self.free_block_queue.append_n([block for block in idle if block.block_hash is not None])
""",
}


def anything(pool, num_operations, seed=0):
    """Do to a pool what it allows, and now and then what it must refuse."""
    draw, held = random.Random(seed), []
    for _ in range(num_operations):
        choice = draw.random()
        if choice < 0.3:
            held += pool.get_new_blocks(draw.randint(0, min(3, pool.get_num_free_blocks())))
        elif choice < 0.6:
            draw.shuffle(held)
            pool.free_blocks(iter([held.pop() for _ in range(draw.randint(0, len(held)))]))
        elif choice < 0.75:
            found = [b for key in (b"a", b"b", b"c") if (b := pool.get_cached_block(key))]
            pool.touch(found)
            held += found
        elif choice < 0.95 and held:
            pool.cache_full_blocks([draw.choice(held)], [draw.choice((b"a", b"b", b"c"))])
        else:
            for refused in (pool.free_blocks, pool.touch):
                with pytest.raises(ValueError, match="null block"):
                    refused([*held, pool.null_block])


def test_a_pool_of_the_learners_methods_keeps_every_law_for_20_000_operations(workspace):
    for name, source in SOURCES.items():
        assert parts.save(name, source) is not None
    mine = parts.get("BlockPool")
    assert mine is not BlockPool
    for method in ("get_new_blocks", "touch", "free_blocks"):
        assert getattr(mine, method) is not getattr(BlockPool, method)
    pool = mine(9, free_queue=AllAtOnce)
    with under_check(pool):
        anything(pool, 20_000)
    assert pool.num_evictions > 100


def test_on_the_learners_pool_the_engine_writes_what_transformers_writes(workspace):
    folder = checkpoint_folder("course-tiny")
    beginning = Tokenizer(folder).encode("The free queue " * 12)
    prompts = [[*beginning, token] for token in (100, 200, 300)]
    for name, source in SOURCES.items():
        assert parts.save(name, source) is not None
    mine = EngineParts.load()
    assert "BlockPool" in mine.own_names
    options = {"num_blocks": 24, "block_size": 4, "max_num_batched_tokens": 64}
    llm = LLM(folder, parts=mine, debug=True, **options)
    outputs = llm.generate(prompts, SamplingParams(temperature=0, max_tokens=12))
    assert [output.outputs[0].token_ids for output in outputs] == [
        greedy_answer(folder, tuple(prompt), 12) for prompt in prompts
    ]

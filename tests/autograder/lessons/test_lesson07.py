"""Lesson 7: what its checks say of answers that people give, wrong ones and unusual right ones."""

from __future__ import annotations

import random
from collections import Counter
from enum import StrEnum
from itertools import chain
from operator import gt, ne

import numpy as np
import pytest

from autograder import lessons
from autograder.lessons import lesson07_given as given
from autograder.lessons import lesson07_hunt as hunt
from autograder.lessons import lesson07_mistakes as mistakes
from autograder.lessons import lesson07_pools as pools
from autograder.proxy.subject import TRUSTED_PATIENCE, LocalSubject
from course_lib import parts
from course_lib.engine import LLM, EngineParts, SamplingParams
from course_lib.engine.tokenizer import Tokenizer, checkpoint_folder
from course_lib.kv_cache.block_pool import (
    BlockPool,
)
from course_lib.kv_cache.metrics import CacheMetrics
from course_lib.kv_cache.watch.invariants import (
    Leak,
    find_leaks,
    find_violations,
    pool_violations,
    under_check,
)
from greedy_oracle import greedy_answer
from learners_queue import AllAtOnce
from lesson_answers import (
    SAME,
    examine,
    named,
    right_answers_earn_everything,
    wrong_answers_earn_nothing,
)

pytestmark = pytest.mark.lesson(7)

# 7.1


@pytest.mark.parametrize("seed", range(25))
def test_a_task_by_hand_tells_every_order_of_the_queue_apart(seed):
    right = given.states_to_write(seed).answer
    wrong = [mistake.wrong(seed) for mistake in mistakes.TRACE]
    # Where nothing without a hash comes back after a prefix, two orders look the same, and what is
    # said of the first is true of both.
    alike = {"all to the back", "behind the others without a star"}
    apart = [m.wrong(seed) for m in mistakes.TRACE if m.name not in alike]
    assert len({tuple(states.values()) for states in (right, *apart)}) == 1 + len(apart)
    for mistake in mistakes.TRACE:
        assert mistake.wrong(seed) not in [right, *(w for w in apart if mistake.name in alike)]
    assert all(list(states) == list(right) for states in wrong)


def test_a_trace_earns_a_share_for_each_state_and_any_seed_counts():
    right = given.states_to_write(7).answer
    assert examine("7.1", {"seed": 7, **right}).fraction == 1
    spread = {step: line.replace(" ", "  ") for step, line in right.items()}
    assert examine("7.1", {"seed": 7, **spread}).fraction == 1
    lines = StrEnum("Lines", {step.replace(" ", ""): line for step, line in right.items()})
    named_lines = dict(zip(right, lines, strict=True))
    assert examine("7.1", {"seed": 7, **named_lines}).fraction == 1
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


def leaks_of_sets(manager, live_request_ids):
    """Count a table that has a block twice as one of its holders."""
    held = Counter({block.block_id: block.ref_cnt for block in manager.block_pool.blocks})
    for table in manager.block_tables().values():
        held.subtract({block.block_id for block in table})
    found = [leak for leak in find_leaks(manager, live_request_ids) if leak.owner != "nobody"]
    nobodys = tuple(sorted(held.elements()))
    return [*found, Leak("nobody", nobodys)] if nobodys else found


def leaks_without_a_second_mention(manager, live_request_ids):
    found = find_leaks(manager, live_request_ids)
    tables = [leak for leak in found if leak.owner != "nobody"]
    once = [Leak(leak.owner, tuple(dict.fromkeys(leak.block_ids))) for leak in tables]
    return once + found[len(tables) :]


def leaks_by_owner(manager, live_request_ids):
    """Keep one entry for each owner, though a request may be called nobody."""
    by_owner = {leak.owner: leak for leak in find_leaks(manager, live_request_ids)}
    return list(by_owner.values())


def leaks_in_the_order_of_tables(manager, live_request_ids):
    held = [block.block_id for table in manager.block_tables().values() for block in table]
    return _leaks(
        manager,
        live_request_ids,
        lost=lambda extra: [i for i in dict.fromkeys([*held, *extra]) for _ in range(extra[i])],
    )


def leaks_if_the_sums_differ(manager, live_request_ids):
    """Take holders too few of one block for holders too many of another."""
    return _leaks(
        manager,
        live_request_ids,
        lost=lambda extra: [i for i, n in extra.items() for _ in range(n) if sum(extra.values())],
    )


def leaks_in_rounds(manager, live_request_ids):
    """Name each block once, and then those again that have another holder too many."""
    return _leaks(
        manager,
        live_request_ids,
        lost=lambda extra: [i for times in range(9) for i, n in extra.items() if n > times],
    )


LEAKS_RIGHT = (leaks_by_subtraction, _leaks)
LEAKS_WRONG = (
    (
        lambda manager, live: [
            Leak(None if leak.owner == "nobody" else leak.owner, leak.block_ids)
            for leak in find_leaks(manager, live)
        ],
        "None for nobody",
    ),
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
    (leaks_with_an_iterator, "an iterator is asked twice"),
    (
        lambda manager, live: [(leak.owner, leak.block_ids) for leak in find_leaks(manager, live)],
        SAME,
    ),
    (
        lambda manager, live: {leak.owner: leak.block_ids for leak in find_leaks(manager, live)},
        SAME,
    ),
    (lambda manager, live: find_leaks(manager, live)[:1], SAME),
    (leaks_by_owner, SAME),
    (leaks_in_the_order_of_tables, SAME),
    (leaks_if_the_sums_differ, SAME),
    (leaks_in_rounds, SAME),
    (leaks_of_sets, SAME),
    (leaks_without_a_second_mention, SAME),
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


class CountsAReturnTwice(CacheMetrics):
    def record_lookup(self, num_tokens, num_hit_tokens, is_preempted=False):
        super().record_lookup(num_tokens, num_hit_tokens)
        if is_preempted:
            self.preempted_queried_tokens += num_tokens
            self.preempted_hit_tokens += num_hit_tokens


class OneRateOfAll(CacheMetrics):
    """Counts returns apart, once, and takes them into the rate."""

    @property
    def hit_rate(self):
        queried = self.queried_tokens + self.preempted_queried_tokens
        return (self.hit_tokens + self.preempted_hit_tokens) / max(queried, 1)


class LooksAfterCounting(CacheMetrics):
    def record_lookup(self, num_tokens, num_hit_tokens, is_preempted=False):
        if is_preempted:
            self.preempted_queried_tokens += num_tokens
            self.preempted_hit_tokens += num_hit_tokens
        else:
            self.queried_tokens += num_tokens
            self.hit_tokens += num_hit_tokens
        if num_tokens < 1 or not 0 <= num_hit_tokens <= num_tokens:
            raise ValueError("a lookup that cannot be")


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


class TakesAReturnOfNothing(CacheMetrics):
    """Refuses no lookup of a request that comes back, unless its hits are wrong."""

    def record_lookup(self, num_tokens, num_hit_tokens, is_preempted=False):
        if not is_preempted or num_tokens or num_hit_tokens:
            super().record_lookup(num_tokens, num_hit_tokens, is_preempted)


class NotesItAndSaysMuch(CacheMetrics):
    """Takes note, and refuses then in two lines."""

    def record_usage(self, num_used_blocks, num_evicted_blocks=0):
        self.num_used_blocks = num_used_blocks
        if not 0 <= num_used_blocks < self.num_blocks or num_evicted_blocks < 0:
            raise ValueError("this cannot be\nand is refused")
        super().record_usage(num_used_blocks, num_evicted_blocks)


class NotesItAndSaysNothing(CacheMetrics):
    """Takes note, and refuses then without a word."""

    def record_usage(self, num_used_blocks, num_evicted_blocks=0):
        self.num_used_blocks = num_used_blocks
        if not 0 <= num_used_blocks < self.num_blocks or num_evicted_blocks < 0:
            raise ValueError
        super().record_usage(num_used_blocks, num_evicted_blocks)


METRICS_RIGHT = (MaximumOfAll,)
METRICS_WRONG = (
    (DividesByNothing, "no lookup yet"),
    (CountsAReturnTwice, "returns are in the hit rate"),
    (OneRateOfAll, "returns are in the hit rate"),
    (LooksAfterCounting, "a refused lookup is counted"),
    (CountsThenRefuses, SAME),
    (TakesAReturnOfNothing, SAME),
    (NotesItAndSaysMuch, SAME),
    (InPerCent, SAME),
    (Rounded, SAME),
    (OfTwoAtLeast, SAME),
    (ByNameOnly, SAME),
)

RIGHT = {
    "7.6": LEAKS_RIGHT,
    "7.7": METRICS_RIGHT,
}
WRONG = {
    "7.6": LEAKS_WRONG,
    "7.7": METRICS_WRONG,
}


test_an_unusual_right_answer_earns_everything = right_answers_earn_everything(RIGHT)
test_a_wrong_answer_earns_nothing_and_is_named_only_if_it_is_that = wrong_answers_earn_nothing(
    WRONG
)


@pytest.mark.parametrize(
    ("wrong", "note"),
    [(NotesItAndSaysMuch, "ValueError: this cannot be ..."), (NotesItAndSaysNothing, "ValueError")],
)
def test_a_step_that_was_refused_stands_in_one_line(wrong, note):
    case = examine("7.7", wrong).counterexample.case
    assert case.splitlines()[1:] == [f"obj.record_usage(1, 0)  # {note}", "obj.usage"]


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


def careless(
    *,
    null_hash=lambda null, found: null.block_hash is not None,
    null_count=True,
    length=ne,
    times=None,
    rejects=None,
    index=None,
    hashed=None,
    last=None,
):
    """Return a checker that passes over one thing, or is too strict in one."""

    def checker(pool):
        queued = Counter(block.block_id for block in pool.free_block_queue)
        null, found = pool.null_block, pool.cached_block_hash_to_block
        said = ["length"] if length(pool.get_num_free_blocks(), queued.total()) else []
        said += ["null"] if (null.ref_cnt if null_count else null.ref_cnt > 0) else []
        said += ["null"] if queued[0] or null_hash(null, found) else []
        for block in pool.blocks[1:last]:
            n = queued[block.block_id]
            right = n == (block.ref_cnt == 0) if times is None else times(block, n)
            said += [] if right and block.ref_cnt >= 0 else ["place"]
        if index is None:
            said += ["index" for key, block in found.items() if block.block_hash != key]
        else:
            said += ["index"] if index(pool.blocks, found) else []
        for block in pool.blocks[1:last]:
            if block.block_hash is not None and (hashed is None or hashed(pool, block)):
                said += [] if pool.enable_caching and block.block_hash in found else ["hash"]
        return said + (["too strict"] if rejects is not None and rejects(pool) else [])

    return checker


CARELESS = (
    careless(null_hash=lambda null, found: False),
    careless(null_hash=lambda null, found: null in found.values()),
    careless(length=gt),
    careless(index=lambda blocks, found: set(found) - {block.block_hash for block in blocks}),
    careless(
        index=lambda blocks, found: (
            sorted(found) != sorted(block.block_hash or b"" for block in found.values())
        )
    ),
    careless(null_count=False),
    careless(times=lambda block, n: n != 1 if block.ref_cnt else n == 1),
    careless(times=lambda block, n: not n if block.ref_cnt else n not in (0, 2)),
    careless(
        times=lambda block, n: not n or block.block_hash is not None if block.ref_cnt else n == 1
    ),
    careless(
        times=lambda block, n: (
            not n if block.ref_cnt else n == 1 or (not n and block.block_hash is not None)
        )
    ),
    careless(hashed=lambda pool, block: block.ref_cnt > 0),
    careless(hashed=lambda pool, block: pool.enable_caching or block.ref_cnt > 0),
    careless(hashed=lambda pool, block: pool.enable_caching or pool.cached_block_hash_to_block),
    careless(last=9),
    careless(rejects=lambda pool: pool.num_evictions),
    careless(rejects=lambda pool: any(block.ref_cnt > 3 for block in pool.blocks)),
    careless(
        rejects=lambda pool: any(
            block.block_hash is not key for key, block in pool.cached_block_hash_to_block.items()
        )
    ),
    careless(
        rejects=lambda pool: len(pool.cached_block_hash_to_block) > len(pool.free_block_queue)
    ),
)


@pytest.mark.parametrize("place", range(len(CARELESS)))
def test_a_checker_that_passes_over_one_thing_does_not_earn_everything(place):
    assert examine("7.5", CARELESS[place]).fraction < 1


def test_the_checker_that_passes_over_nothing_earns_everything():
    assert examine("7.5", careless()).fraction == 1


@pytest.mark.parametrize("seed", range(3))
def test_a_checker_of_ones_own_form_earns_everything(seed):
    check_of_checkers = lessons.find("7.5").check
    patient = LocalSubject(laws_in_one_expression, TRUSTED_PATIENCE)
    finding = check_of_checkers.examine(patient, seed, 1)
    assert finding.fraction == 1, finding.counterexample and finding.counterexample.got


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
    for name, recipe in [*pools.FAULTY.items(), *pools.MORE_FAULTY.items(), *drawn]:
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
        {"caching": np.False_, "steps": [np.int64(2), np.array([2, 1]), np.int32(2)]},
        {"caching": False, "steps": [1, [np.int64(1)], 1]},
    ],
)
def test_any_trace_that_tells_the_ways_apart_is_right(trace):
    assert examine("7.8a", trace).fraction == 1


@pytest.mark.parametrize(
    ("trace", "says", "name"),
    [
        ({"caching": True, "steps": [2, [2], 3]}, "both ways", "with caching"),
        ({"caching": False, "steps": [2, [2]]}, "both ways", "nothing is taken afterwards"),
        ({"caching": False, "steps": [2, 1, 3]}, "both ways", "nothing is given back"),
        ({"caching": False, "steps": [8, [4], 1]}, "both ways", "nothing else was free"),
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
    right = hunt.play(hunt.free_as_before, hunt.EXPOSING)
    assert [hunt.play(free, hunt.EXPOSING) == right for free in ways] == [True, False, True, True]
    pool = BlockPool(9, enable_caching=False)
    pool.touch(pool.get_new_blocks(2)[:1])
    assert hunt.free_blocks_a(pool, [2, 1]) == [2, 1, 3, 4, 5, 6, 7, 8]
    assert find_violations(pool) == ["block 1 is held by 1 and is in the free queue"]


# 7.9


@pytest.mark.parametrize(
    ("change", "name"),
    [
        (
            lambda right: {**right, "found, of all": right["found, after a preemption"] / 2},
            "the mean of both rates",
        ),
        (lambda right: {key: 100 * value for key, value in right.items()}, "in per cent"),
        (
            lambda right: {**right, "found, after a preemption": right["found, of all"]},
            "of all lookups",
        ),
        (lambda right: {**right, "found, after a preemption": 0.0}, SAME),
        (lambda right: {**right, "cached": right["cached"] * 2587 / 2588}, "the null block counts"),
    ],
)
def test_a_wrong_share_loses_and_is_named(change, name):
    finding = examine("7.9", change(hunt.shares_measured()))
    assert (finding.fraction, named(finding)) == (0, name)


def test_a_checker_that_looks_up_no_hash_is_named():
    finding = examine("7.5", pools.but_not_in_the_index)
    assert 0 < finding.fraction < 1
    assert named(finding) == "a hash is not looked up"


def test_the_sum_alone_earns_little_and_is_told_what_it_cannot_see():
    finding = examine("7.5", pools.sum_only)
    assert finding.fraction < 0.4
    assert named(finding) == "the sum only"


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

"""Lesson 7: known wrong ways to find leaks and to keep counters."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import replace
from typing import Any

from autograder.checks.finding import Misconception
from course_lib.kv_cache.manager import KVCacheManager
from course_lib.kv_cache.metrics import CacheMetrics
from course_lib.kv_cache.watch.invariants import Leak, find_leaks

# 7.6


def the_living(manager: KVCacheManager, live_request_ids: Iterable[str]) -> list[Leak]:
    """Name those who may hold blocks."""
    tables = manager.block_tables()
    live = set(live_request_ids)
    return find_leaks(manager, [name for name in tables if name not in live])


def requests_alone(manager: KVCacheManager, live_request_ids: Iterable[str]) -> list[Leak]:
    """Look at the tables alone."""
    return [leak for leak in find_leaks(manager, live_request_ids) if leak.owner != "nobody"]


def nobody_once(manager: KVCacheManager, live_request_ids: Iterable[str]) -> list[Leak]:
    """Name a block once, however many holders it has too many."""
    leaks = find_leaks(manager, live_request_ids)
    return [
        Leak(leak.owner, tuple(dict.fromkeys(leak.block_ids))) if leak.owner == "nobody" else leak
        for leak in leaks
    ]


def without_tables(manager: KVCacheManager, live_request_ids: Iterable[str]) -> list[Leak]:
    """Say of blocks that dead requests hold that nobody does, too."""
    live = set(live_request_ids)
    tables = manager.block_tables()
    known = Counter(
        block.block_id for name, table in tables.items() if name in live for block in table
    )
    lost = tuple(
        block.block_id
        for block in manager.block_pool.blocks
        for _ in range(block.ref_cnt - known[block.block_id])
    )
    named = [leak for leak in find_leaks(manager, live) if leak.owner != "nobody"]
    return [*named, Leak("nobody", lost)] if lost else named


def dead_tables_alone(manager: KVCacheManager, live_request_ids: Iterable[str]) -> list[Leak]:
    """Hold the counts against the tables of the dead, and leave out those of the living."""
    live = set(live_request_ids)
    named = [leak for leak in find_leaks(manager, live) if leak.owner != "nobody"]
    known = Counter(block_id for leak in named for block_id in leak.block_ids)
    lost = tuple(
        block.block_id
        for block in manager.block_pool.blocks
        for _ in range(block.ref_cnt - known[block.block_id])
    )
    return [*named, Leak("nobody", lost)] if lost else named


def always_nobody(manager: KVCacheManager, live_request_ids: Iterable[str]) -> list[Leak]:
    """Name nobody, whether there is anything to name or not."""
    leaks = find_leaks(manager, live_request_ids)
    return leaks if leaks and leaks[-1].owner == "nobody" else [*leaks, Leak("nobody", ())]


def in_no_table(manager: KVCacheManager, live_request_ids: Iterable[str]) -> list[Leak]:
    """Take for lost only what is in no table at all."""
    leaks = requests_alone(manager, live_request_ids)
    listed = {b.block_id for table in manager.block_tables().values() for b in table}
    lost = tuple(
        block.block_id
        for block in manager.block_pool.blocks
        if block.block_id not in listed
        for _ in range(block.ref_cnt)
    )
    return [*leaks, Leak("nobody", lost)] if lost else leaks


def shared_spared(manager: KVCacheManager, live_request_ids: Iterable[str]) -> list[Leak]:
    """Leave out of a dead request's blocks those that a living one holds as well."""
    live = set(live_request_ids)
    tables = manager.block_tables()
    used = {b.block_id for name in live & set(tables) for b in tables[name]}
    return [
        Leak(leak.owner, tuple(i for i in leak.block_ids if i not in used))
        if leak.owner != "nobody"
        else leak
        for leak in find_leaks(manager, live)
    ]


def asks_an_iterator(manager: KVCacheManager, live_request_ids: Iterable[str]) -> list[Leak]:
    """Ask of each request whether it is among what may be an iterator."""
    tables = manager.block_tables()
    dead = [name for name in tables if name not in live_request_ids]
    return find_leaks(manager, [name for name in tables if name not in dead])


def by_name(manager: KVCacheManager, live_request_ids: Iterable[str]) -> list[Leak]:
    """Sort the owners."""
    return sorted(find_leaks(manager, live_request_ids), key=lambda leak: leak.owner)


def owner_none(manager: KVCacheManager, live_request_ids: Iterable[str]) -> list[Leak]:
    """Give what is nobody's no owner."""
    no_owner: dict[str, Any] = {"owner": None}
    return [
        replace(leak, **no_owner) if leak.owner == "nobody" else leak
        for leak in find_leaks(manager, live_request_ids)
    ]


def each_block_once(manager: KVCacheManager, live_request_ids: Iterable[str]) -> list[Leak]:
    """Name a block once, though several who have ended hold it."""
    named: set[int] = set()
    leaks = []
    for leak in find_leaks(manager, live_request_ids):
        new = leak
        if leak.owner != "nobody":
            new = Leak(leak.owner, tuple(n for n in leak.block_ids if n not in named))
            named.update(leak.block_ids)
        leaks += [new] if new.block_ids else []
    return leaks


LEAKS = (
    Misconception(
        "None for nobody",
        "Where no table names the owner, it is the text 'nobody', not None.",
        owner_none,
    ),
    Misconception(
        "the living are reported",
        "Who is alive may hold blocks; a leak is what those hold who have ended.",
        the_living,
    ),
    Misconception(
        "only requests can leak",
        "A block whose count is above the number of its places in tables has a holder whom no "
        "table names.",
        requests_alone,
    ),
    Misconception(
        "lost twice is lost once",
        "Each holder too many is a missing release; a block with two of them is named twice.",
        nobody_once,
    ),
    Misconception(
        "the dead are nobody as well",
        "What a table accounts for has an owner; nobody's are the holders beyond all tables.",
        without_tables,
    ),
    Misconception(
        "the living are nobody as well",
        "A table of a living request accounts for a holder, too: count in which tables a block "
        "is, whoever's they are.",
        dead_tables_alone,
    ),
    Misconception(
        "an empty leak",
        "If every holder is in a table, nobody has lost anything, and there is nothing to name.",
        always_nobody,
    ),
    Misconception(
        "only what is in no table",
        "A block in a table may have one holder more than tables: compare the numbers.",
        in_no_table,
    ),
    Misconception(
        "what is shared is spared",
        "A dead request that shares a block holds it as well: when the living one gives it back, "
        "it stays in use.",
        shared_spared,
    ),
    Misconception(
        "a shared block has one owner",
        "Each of those who hold a block is to give it back: it is free when the last of them has.",
        each_block_once,
    ),
    Misconception(
        "an iterator is asked twice",
        "An iterator gives each name once: what one `in` has passed over, the next does not find. "
        "Make a set of the living first.",
        asks_an_iterator,
    ),
    Misconception(
        "sorted by name",
        "The order in which they were admitted tells more than their names do, and is asked for.",
        by_name,
    ),
)

# 7.7


class CountsReturns(CacheMetrics):
    """Counts every lookup alike."""

    def record_lookup(
        self, num_tokens: int, num_hit_tokens: int, is_preempted: bool = False
    ) -> None:
        """Count a lookup."""
        super().record_lookup(num_tokens, num_hit_tokens)


class ReturnsVanish(CacheMetrics):
    """Passes over requests that come back."""

    def record_lookup(
        self, num_tokens: int, num_hit_tokens: int, is_preempted: bool = False
    ) -> None:
        """Count a lookup of a new request."""
        if not is_preempted:
            super().record_lookup(num_tokens, num_hit_tokens)


class CountedTwice(CacheMetrics):
    """Counts every lookup for the hit rate, and those of returns apart as well."""

    def record_lookup(
        self, num_tokens: int, num_hit_tokens: int, is_preempted: bool = False
    ) -> None:
        """Count a lookup, that of a return twice."""
        super().record_lookup(num_tokens, num_hit_tokens)
        if is_preempted:
            super().record_lookup(num_tokens, num_hit_tokens, is_preempted)


class DividesByNothing(CacheMetrics):
    """Works the hit rate out before there is one."""

    @property
    def hit_rate(self) -> float:
        """Tokens found over tokens looked up, even if there are none."""
        return self.hit_tokens / self.queried_tokens


class QueriesOfReturns(CacheMetrics):
    """Counts the tokens of all requests, and the hits of new ones."""

    def record_lookup(
        self, num_tokens: int, num_hit_tokens: int, is_preempted: bool = False
    ) -> None:
        """Count a lookup."""
        super().record_lookup(num_tokens, num_hit_tokens, is_preempted)
        if is_preempted:
            self.queried_tokens += num_tokens


class MeanOfRates(CacheMetrics):
    """Takes the mean of each request's share."""

    def __init__(self, num_blocks: int) -> None:
        super().__init__(num_blocks)
        self.shares: list[float] = []

    def record_lookup(
        self, num_tokens: int, num_hit_tokens: int, is_preempted: bool = False
    ) -> None:
        """Count a lookup."""
        super().record_lookup(num_tokens, num_hit_tokens, is_preempted)
        if not is_preempted:
            self.shares.append(num_hit_tokens / num_tokens)

    @property
    def hit_rate(self) -> float:
        """The mean of the shares."""
        return sum(self.shares) / max(len(self.shares), 1)


class NullCounts(CacheMetrics):
    """Divides by all blocks."""

    @property
    def usage(self) -> float:
        """The share of all blocks that are in use."""
        return self.num_used_blocks / self.num_blocks


class LatestForHighest(CacheMetrics):
    """Takes the latest usage for the highest."""

    def record_usage(self, num_used_blocks: int, num_evicted_blocks: int = 0) -> None:
        """Take note of usage."""
        super().record_usage(num_used_blocks, num_evicted_blocks)
        self.high_water = num_used_blocks


class HighestForLatest(CacheMetrics):
    """Lets usage never fall."""

    def record_usage(self, num_used_blocks: int, num_evicted_blocks: int = 0) -> None:
        """Take note of usage."""
        super().record_usage(num_used_blocks, num_evicted_blocks)
        self.num_used_blocks = self.high_water


class LatestEvictions(CacheMetrics):
    """Takes the evictions since the last call for all."""

    def record_usage(self, num_used_blocks: int, num_evicted_blocks: int = 0) -> None:
        """Take note of usage."""
        super().record_usage(num_used_blocks, num_evicted_blocks)
        self.evictions = num_evicted_blocks


def _look_up(
    metrics: CacheMetrics, num_tokens: int, num_hit_tokens: int, is_preempted: bool
) -> None:
    """Count a lookup, whatever its numbers."""
    if is_preempted:
        metrics.preempted_queried_tokens += num_tokens
        metrics.preempted_hit_tokens += num_hit_tokens
    else:
        metrics.queried_tokens += num_tokens
        metrics.hit_tokens += num_hit_tokens


def _note(metrics: CacheMetrics, num_used_blocks: int, num_evicted_blocks: int) -> None:
    """Take note of a usage, whatever its numbers."""
    metrics.num_used_blocks = num_used_blocks
    metrics.high_water = max(metrics.high_water, num_used_blocks)
    metrics.evictions += num_evicted_blocks


class RefusesNothing(CacheMetrics):
    """Counts what cannot be."""

    def record_lookup(
        self, num_tokens: int, num_hit_tokens: int, is_preempted: bool = False
    ) -> None:
        """Count any lookup."""
        _look_up(self, num_tokens, num_hit_tokens, is_preempted)

    def record_usage(self, num_used_blocks: int, num_evicted_blocks: int = 0) -> None:
        """Take note of any usage."""
        _note(self, num_used_blocks, num_evicted_blocks)


class LookedUpBeforeTheRefusal(CacheMetrics):
    """Counts a lookup, and refuses it then."""

    def record_lookup(
        self, num_tokens: int, num_hit_tokens: int, is_preempted: bool = False
    ) -> None:
        """Count a lookup, and look at it afterwards."""
        _look_up(self, num_tokens, num_hit_tokens, is_preempted)
        CacheMetrics(self.num_blocks).record_lookup(num_tokens, num_hit_tokens)


class UsedBeforeTheRefusal(CacheMetrics):
    """Takes note of a usage, and refuses it then."""

    def record_usage(self, num_used_blocks: int, num_evicted_blocks: int = 0) -> None:
        """Take note of usage, and look at it afterwards."""
        _note(self, num_used_blocks, num_evicted_blocks)
        CacheMetrics(self.num_blocks).record_usage(num_used_blocks, num_evicted_blocks)


class CountedBeforeTheRefusal(LookedUpBeforeTheRefusal, UsedBeforeTheRefusal):
    """Counts everything, and refuses then."""


METRICS = (
    Misconception(
        "returns are hits",
        "A request that comes back after a preemption mostly finds its own blocks: that saves "
        "nothing that was not thrown away before.",
        CountsReturns,
    ),
    Misconception(
        "returns are in the hit rate",
        "The lookup of a request that comes back is counted apart, and nowhere else: the hit rate "
        "speaks of first lookups alone.",
        CountedTwice,
    ),
    Misconception(
        "no lookup yet",
        "Before the first lookup there is nothing to divide by; a dashboard shows 0.0 then.",
        DividesByNothing,
    ),
    Misconception(
        "returns vanish",
        "They are counted apart, so that one can see how much of the work they are.",
        ReturnsVanish,
    ),
    Misconception(
        "returns are queries",
        "Neither their hits nor their tokens belong into the hit rate; with the tokens alone it "
        "falls with each preemption.",
        QueriesOfReturns,
    ),
    Misconception(
        "the mean of rates",
        "Tokens found over tokens looked up: a long prompt counts for more than a short one.",
        MeanOfRates,
    ),
    Misconception(
        "the null block counts",
        "Nobody can ever hold block 0; with it usage never reaches 1.",
        NullCounts,
    ),
    Misconception(
        "the latest for the highest",
        "The high water mark stays when the water falls.",
        LatestForHighest,
    ),
    Misconception(
        "the highest for the latest",
        "Usage is of now, and falls when requests end.",
        HighestForLatest,
    ),
    Misconception(
        "the latest evictions",
        "The argument says how many there were since the last call; the counter adds them up.",
        LatestEvictions,
    ),
    Misconception(
        "nothing is refused",
        "A counter that takes what cannot be is wrong from then on, and nobody sees where from.",
        RefusesNothing,
    ),
    Misconception(
        "a refused lookup is counted",
        "Look at the numbers first, and count then: who hears of the error believes that nothing "
        "was counted.",
        LookedUpBeforeTheRefusal,
    ),
    Misconception(
        "a refused usage is noted",
        "Look at the numbers first, and take note then: who hears of the error believes that "
        "nothing has changed.",
        UsedBeforeTheRefusal,
    ),
    Misconception(
        "counted, then refused",
        "Look at the numbers first, and count then: who hears of the error believes that nothing "
        "was counted.",
        CountedBeforeTheRefusal,
    ),
)

"""Lesson 6: known wrong answers to its functions of blocks, victims and times."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from itertools import takewhile
from typing import Any

from autograder.checks.finding import Misconception
from course_lib.kv_cache.block_pool import KVCacheBlock
from course_lib.scheduling.request import Request

# 6.1


def whole_table(blocks: Iterable[KVCacheBlock]) -> int:
    """Count all."""
    return len(list(blocks))


def its_length(blocks: Any) -> int:
    """Count all, if they can be counted without going through them."""
    return len(blocks)


def without_holders(blocks: Iterable[KVCacheBlock]) -> int:
    """Count those that nobody holds."""
    return sum(block.ref_cnt == 0 for block in blocks)


def shared_ones(blocks: Iterable[KVCacheBlock]) -> int:
    """Count those that others hold, too."""
    return sum(block.ref_cnt > 1 for block in blocks)


def all_or_nothing(blocks: Iterable[KVCacheBlock]) -> int:
    """Count all if none is shared."""
    table = list(blocks)
    return len(table) if all(block.ref_cnt == 1 for block in table) else 0


def shares(blocks: Iterable[KVCacheBlock]) -> float:
    """Add up the victim's share of each block."""
    return sum(1 / block.ref_cnt for block in blocks)


def up_to_two_holders(blocks: Iterable[KVCacheBlock]) -> int:
    """Count those with two holders, too."""
    return sum(block.ref_cnt <= 2 for block in blocks)


def until_the_first_shared(blocks: Iterable[KVCacheBlock]) -> int:
    """Count from the front, and stop at a shared block."""
    return sum(1 for _ in takewhile(lambda block: block.ref_cnt == 1, blocks))


def from_the_end_until_shared(blocks: Iterable[KVCacheBlock]) -> int:
    """Count from the end, and stop at a shared block."""
    return until_the_first_shared(reversed(list(blocks)))


def goes_through_twice(blocks: Iterable[KVCacheBlock]) -> int:
    """Count all, then those that stay."""
    return sum(1 for _ in blocks) - sum(block.ref_cnt > 1 for block in blocks)


def not_cached(blocks: Iterable[KVCacheBlock]) -> int:
    """Count those whose content cannot be found."""
    return sum(block.ref_cnt == 1 and block.block_hash is None for block in blocks)


FREED = (
    Misconception(
        "the whole table",
        "A block that somebody else holds stays in use when this request lets go of it.",
        whole_table,
    ),
    Misconception(
        "the length of the table",
        "A block that somebody else holds stays in use when this request lets go of it. And what "
        "can only be gone through has no length.",
        its_length,
    ),
    Misconception(
        "without any holder",
        "The request that is preempted holds each of its blocks itself, so no count is 0 before it "
        "lets go.",
        without_holders,
    ),
    Misconception(
        "those that stay",
        "Blocks with more than one holder are those that do not come back.",
        shared_ones,
    ),
    Misconception(
        "one shared block keeps all",
        "Each block is freed by itself: those that are not shared come back, whatever the others "
        "do.",
        all_or_nothing,
    ),
    Misconception(
        "a share of each block",
        "A block is free or not. Half a block comes back to nobody.",
        shares,
    ),
    Misconception(
        "a block with two holders",
        "When this request lets go of a block with two holders, the other one still holds it.",
        up_to_two_holders,
    ),
    Misconception(
        "until the first shared one",
        "A shared block stays, and those behind it may come back all the same: look at each.",
        until_the_first_shared,
    ),
    Misconception(
        "from the end until a shared one",
        "What is shared need not be the beginning of the table: look at each block by itself.",
        from_the_end_until_shared,
    ),
    Misconception(
        "goes through them twice",
        "What can be gone through once, as a generator, has nothing left the second time: count "
        "in one go.",
        goes_through_twice,
    ),
    Misconception(
        "cached blocks stay",
        "A cached block that nobody holds is free: its content may be found until it is taken.",
        not_cached,
    ),
)

# 6.2


def smallest(running: Sequence[Request]) -> int:
    """Take the smallest priority, and of equals the latest."""
    return min(range(len(running)), key=lambda i: (running[i].priority, -running[i].arrival_time))


def last_of_equals(running: Sequence[Request]) -> int:
    """Take the last of equal ones."""
    return max(range(len(running)), key=lambda i: (running[i].priority, running[i].arrival_time, i))


def priority_alone(running: Sequence[Request]) -> int:
    """Look at the priority alone."""
    return max(range(len(running)), key=lambda i: running[i].priority)


def earliest_of_equals(running: Sequence[Request]) -> int:
    """Take, of the least important, the one that came first."""
    return max(range(len(running)), key=lambda i: (running[i].priority, -running[i].arrival_time))


def last_admitted(running: Sequence[Request]) -> int:
    """Take the last in."""
    return len(running) - 1


def latest_arrival(running: Sequence[Request]) -> int:
    """Take the last to arrive, whatever its priority."""
    return max(range(len(running)), key=lambda i: (running[i].arrival_time, running[i].priority))


def most_important(running: Sequence[Request]) -> int:
    """Take the smallest pair."""
    return min(range(len(running)), key=lambda i: (running[i].priority, running[i].arrival_time))


def summed(running: Sequence[Request]) -> int:
    """Make one number of both."""
    return max(
        range(len(running)), key=lambda i: 10 * running[i].priority + running[i].arrival_time
    )


def from_the_end(running: Sequence[Request]) -> int:
    """Count the place from the end of the list."""
    return _right_victim(running) - len(running)


def without_its_sign(running: Sequence[Request]) -> int:
    """Take priorities for how much is asked for, whatever their sign."""
    return max(
        range(len(running)), key=lambda i: (abs(running[i].priority), running[i].arrival_time)
    )


def sorts_them(running: Any) -> int:
    """Sort the running requests, and take the last one."""
    running.sort(key=lambda request: (request.priority, request.arrival_time))
    return len(running) - 1


def last_of_a_sorted_list(running: Sequence[Request]) -> int:
    """Sort a copy, and take its last place."""
    ranked = sorted(running, key=lambda request: (request.priority, request.arrival_time))
    return len(ranked) - 1


def _right_victim(running: Sequence[Request]) -> int:
    ranks = [(request.priority, request.arrival_time) for request in running]
    return ranks.index(max(ranks))


VICTIM = (
    Misconception(
        "the smallest number goes",
        "A lower priority value is more important; the largest gives way.",
        smallest,
    ),
    Misconception(
        "the last of equals",
        "Of requests that are equal in both, the first in the list is taken, as in vLLM.",
        last_of_equals,
    ),
    Misconception(
        "priority alone",
        "Among those with the same priority, the one that arrived last gives way.",
        priority_alone,
    ),
    Misconception(
        "who came first gives way",
        "Among those with the same priority, the one that has been there longest stays.",
        earliest_of_equals,
    ),
    Misconception(
        "the last one in",
        "That is the victim under first come, first served. Here importance decides.",
        last_admitted,
    ),
    Misconception(
        "arrival before priority",
        "Priority is compared first; the time of arrival decides among equals.",
        latest_arrival,
    ),
    Misconception(
        "the most important one goes",
        "A lower value is more important, and who came earlier stays: the largest pair gives way.",
        most_important,
    ),
    Misconception(
        "one number for both",
        "Times of a clock are in the billions, and differ by milliseconds: no factor keeps them "
        "apart from every priority. Compare pairs.",
        summed,
    ),
    Misconception(
        "counted from the end",
        "The index is the place from the front, from 0 on.",
        from_the_end,
    ),
    Misconception(
        "without its sign",
        "A priority below 0 is more important than 0: compare it as it is.",
        without_its_sign,
    ),
    Misconception(
        "sorts the running requests",
        "The batch is in order of admission and is to stay so. Sort a copy, or look for the "
        "largest; and the index is that of the list as it was.",
        sorts_them,
        evidence=r"(?s)\A(?!.*\brunning = ).*\brunning\.sort\(",
    ),
    Misconception(
        "a place in a sorted list",
        "The index is that of the list as it was: the last place of a sorted one says nothing of "
        "who stands there.",
        last_of_a_sorted_list,
        evidence=r"(?s)\bsorted\(|(?<!\brunning)\.sort\(|\brunning = .*\brunning\.sort\(",
    ),
)

# 6.4


def floor_over_recompute(swap: float, recompute: float, *, weight_seconds: float = 0.0) -> float:
    """Say where the floor ends."""
    return math.inf if swap <= recompute else weight_seconds / recompute


def other_way_round(swap: float, recompute: float, *, weight_seconds: float = 0.0) -> float:
    """Say inf where recomputing is faster."""
    return math.inf if swap > recompute else weight_seconds / swap if swap else math.inf


def without_floor(swap: float, recompute: float, *, weight_seconds: float = 0.0) -> float:
    """Compare the slopes alone."""
    return math.inf if swap <= recompute else 0.0


def equal_is_slower(swap: float, recompute: float, *, weight_seconds: float = 0.0) -> float:
    """Let recomputing win where a token takes the same."""
    return math.inf if swap < recompute else weight_seconds / swap


def over_the_difference(swap: float, recompute: float, *, weight_seconds: float = 0.0) -> float:
    """Divide by how much slower swapping is."""
    return math.inf if swap <= recompute else weight_seconds / (swap - recompute)


def always_the_floor(swap: float, recompute: float, *, weight_seconds: float = 0.0) -> float:
    """Say where swapping leaves the floor, whatever recomputing takes."""
    return weight_seconds / swap if swap else math.inf


def rounded_up(swap: float, recompute: float, *, weight_seconds: float = 0.0) -> float:
    """Round up."""
    return math.inf if swap <= recompute else math.ceil(weight_seconds / swap)


def rounded(swap: float, recompute: float, *, weight_seconds: float = 0.0) -> float:
    """Round to the nearest."""
    return math.inf if swap <= recompute else round(weight_seconds / swap)


def nearly_equal(swap: float, recompute: float, *, weight_seconds: float = 0.0) -> float:
    """Take what is nearly equal for equal."""
    if swap <= recompute or math.isclose(swap, recompute, rel_tol=1e-3):
        return math.inf
    return weight_seconds / swap


def rounded_down(swap: float, recompute: float, *, weight_seconds: float = 0.0) -> float:
    """Round down."""
    return math.inf if swap <= recompute else math.floor(weight_seconds / swap)


def whole_tokens(swap: float, recompute: float, *, weight_seconds: float = 0.0) -> float:
    """Divide without a remainder."""
    return math.inf if swap <= recompute else weight_seconds // swap


BREAK_EVEN = (
    Misconception(
        "the floor over recompute",
        "There the floor meets the line of recomputing. What swapping takes is already above it: "
        "look where the floor meets the line of swapping.",
        floor_over_recompute,
    ),
    Misconception(
        "inf the wrong way round",
        "If a token is swapped faster than it is computed, swapping wins at every length.",
        other_way_round,
    ),
    Misconception(
        "without the floor",
        "A few tokens cannot be computed faster than the weights are read, so swapping wins at "
        "first.",
        without_floor,
    ),
    Misconception(
        "equal is slower",
        "If a token takes the same either way, swapping is never the slower one.",
        equal_is_slower,
    ),
    Misconception(
        "over the difference",
        "The floor does not add to what the tokens take: the larger of the two counts.",
        over_the_difference,
    ),
    Misconception(
        "always the floor",
        "If a token is swapped faster than it is computed, swapping stays ahead behind the floor.",
        always_the_floor,
    ),
    Misconception(
        "whole tokens",
        "The length need not be whole: it is where two lines meet.",
        whole_tokens,
    ),
    Misconception(
        "rounded down",
        "The length need not be whole: it is where two lines meet.",
        rounded_down,
    ),
    Misconception(
        "rounded up",
        "The length need not be whole: it is where two lines meet.",
        rounded_up,
    ),
    Misconception(
        "rounded to the nearest",
        "The length need not be whole: it is where two lines meet.",
        rounded,
    ),
    Misconception(
        "nearly equal is equal",
        "However little longer swapping takes for each token, behind the floor it is the slower.",
        nearly_equal,
    ),
)

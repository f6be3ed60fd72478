"""Lesson 6: known wrong answers to its functions, its CPU blocks and its tasks by hand."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from itertools import takewhile
from typing import Any

from autograder.checks.finding import Misconception
from autograder.lessons import lesson06_given as given
from course_lib.kv_cache.block_pool import KVCacheBlock
from course_lib.scheduling.request import Request
from course_lib.scheduling.swap import SwapSpace

# 6.1


def whole_table(blocks: Iterable[KVCacheBlock]) -> int:
    """Count all."""
    return len(list(blocks))


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
        "apart from the priority. Compare pairs.",
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
        evidence=r"\.sort\(",
    ),
)

# 6.3


def floor_over_recompute(swap: float, recompute: float, *, weight_seconds: float = 0.0) -> float:
    """Say where the floor ends."""
    return math.inf if swap <= recompute else weight_seconds / recompute if recompute else math.inf


def other_way_round(swap: float, recompute: float, *, weight_seconds: float = 0.0) -> float:
    """Say inf where recomputing is faster."""
    return math.inf if swap > recompute else weight_seconds / swap if swap else math.inf


def without_floor(swap: float, recompute: float, *, weight_seconds: float = 0.0) -> float:
    """Compare the slopes alone."""
    return math.inf if swap <= recompute else 0.0


def equal_is_slower(swap: float, recompute: float, *, weight_seconds: float = 0.0) -> float:
    """Let recomputing win where a token takes the same."""
    return math.inf if swap < recompute else weight_seconds / swap if swap else 0.0


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
        "There the floor meets the line of recomputing. What swapping takes has long been above "
        "it: look where the floor meets the line of swapping.",
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

# 6.4


class TakesWhatThereIs(SwapSpace):
    """Hands out fewer blocks than were asked for."""

    def reserve(self, request_id: str, num_blocks: int) -> list[int] | None:
        """Take as many as there are."""
        return super().reserve(request_id, min(num_blocks, len(self.free_blocks)))


class ForgetsOnRelease(SwapSpace):
    """Does not take blocks back."""

    def release(self, request_id: str) -> list[int]:
        """Return the blocks, which stay taken."""
        return self.held_blocks.pop(request_id)


class ReservesTwice(SwapSpace):
    """Takes blocks for a request that has some."""

    def reserve(self, request_id: str, num_blocks: int) -> list[int] | None:
        """Take more, and forget the first ones."""
        before = self.held_blocks.pop(request_id, None)
        blocks = super().reserve(request_id, num_blocks)
        if blocks is None and before is not None:
            self.held_blocks[request_id] = before
        return blocks


class AddsToTheFirst(SwapSpace):
    """Takes blocks for a request that has some, and adds them."""

    def reserve(self, request_id: str, num_blocks: int) -> list[int] | None:
        """Take more, behind the first ones."""
        before = self.held_blocks.pop(request_id, [])
        blocks = super().reserve(request_id, num_blocks)
        if before:
            self.held_blocks[request_id] = before + (blocks or [])
        return blocks


class BackAtTheEnd(SwapSpace):
    """Puts what comes back behind the others."""

    def release(self, request_id: str) -> list[int]:
        """Append the blocks."""
        blocks = self.held_blocks.pop(request_id)
        self.free_blocks += blocks
        return blocks


class BackAtTheFront(SwapSpace):
    """Puts what comes back in front of the others."""

    def release(self, request_id: str) -> list[int]:
        """Prepend the blocks."""
        blocks = self.held_blocks.pop(request_id)
        self.free_blocks = blocks + self.free_blocks
        return blocks


class LeavesOneFree(SwapSpace):
    """Refuses to hand out the last block."""

    def reserve(self, request_id: str, num_blocks: int) -> list[int] | None:
        """Take blocks if one is left then."""
        if request_id not in self.held_blocks and num_blocks >= len(self.free_blocks) > 0:
            return None
        return super().reserve(request_id, num_blocks)


class EntersTheRefused(SwapSpace):
    """Notes a request that got nothing."""

    def reserve(self, request_id: str, num_blocks: int) -> list[int] | None:
        """Take blocks, and enter the request in any case."""
        blocks = super().reserve(request_id, num_blocks)
        self.held_blocks.setdefault(request_id, [])
        return blocks


class ReleasesNobody(SwapSpace):
    """Releases who holds nothing."""

    def release(self, request_id: str) -> list[int]:
        """Return nothing for who holds nothing."""
        return super().release(request_id) if request_id in self.held_blocks else []


class SortsAsText(SwapSpace):
    """Puts what comes back among the others as words are sorted."""

    def release(self, request_id: str) -> list[int]:
        """Sort the free blocks by their digits."""
        blocks = super().release(request_id)
        self.free_blocks.sort(key=str)
        return blocks


class HighestFirst(SwapSpace):
    """Hands out from the end."""

    def reserve(self, request_id: str, num_blocks: int) -> list[int] | None:
        """Take the highest free blocks."""
        self.free_blocks.reverse()
        try:
            return super().reserve(request_id, num_blocks)
        finally:
            self.free_blocks.sort()


SWAP_SPACE = (
    Misconception(
        "takes what there is",
        "Half a request cannot come back: if not all of its blocks fit, it gets none.",
        TakesWhatThereIs,
    ),
    Misconception(
        "forgets to take back",
        "Blocks that are released and not free again are lost to everybody: the pool only shrinks.",
        ForgetsOnRelease,
    ),
    Misconception(
        "reserves twice",
        "A request that holds blocks already must be refused, or the first ones are lost.",
        ReservesTwice,
    ),
    Misconception(
        "adds to the first ones",
        "A request that holds blocks already must be refused: it was swapped out once, as a whole.",
        AddsToTheFirst,
    ),
    Misconception(
        "back at the end",
        "The lowest free blocks are handed out first, so what comes back takes its place among the "
        "others.",
        BackAtTheEnd,
    ),
    Misconception(
        "back at the front",
        "What comes back is not lower than what is free already: the lowest are handed out first.",
        BackAtTheFront,
    ),
    Misconception(
        "leaves one free",
        "A request that needs just as many blocks as there are fits.",
        LeavesOneFree,
    ),
    Misconception(
        "enters who was refused",
        "Who got no blocks must not be there as one who holds some.",
        EntersTheRefused,
    ),
    Misconception(
        "releases nobody",
        "To release a request that holds nothing is a mistake of the caller: a KeyError says so.",
        ReleasesNobody,
    ),
    Misconception(
        "highest first",
        "The lowest free blocks are handed out first, in ascending order.",
        HighestFirst,
    ),
    Misconception(
        "sorted as words",
        "As words, 10 comes before 2. Blocks are numbers.",
        SortsAsText,
    ),
)

# 6.5


def _decided(seed: int, **changed: Any) -> dict[str, Any]:
    return {**given.decision(seed).answer, **changed}


def arrivals_preempt(seed: int) -> dict[str, Any]:
    """Let the urgent request preempt in V1, too."""
    return _decided(seed, **{"in V1": given.decision(seed).answer["least important"]})


def whole_blocks_only(seed: int) -> dict[str, Any]:
    """Round what the urgent request needs down."""
    return _decided(seed, **{"U needs": given.decision(seed).answer["U needs"] - 1})


def blocks_for_tokens(seed: int) -> dict[str, Any]:
    """Take all slots of the lost blocks for tokens."""
    return _decided(seed, lost=given.slots_lost(seed))


def first_only(seed: int) -> dict[str, Any]:
    """Preempt one, whatever it frees."""
    answer = given.decision(seed).answer
    return _decided(seed, **{n: answer[n][:1] for n in ("last in", "least important")})


DECISION = (
    Misconception(
        "arrivals preempt",
        "In V1 only a running request that finds no block preempts. Who waits, waits, however "
        "important.",
        arrivals_preempt,
    ),
    Misconception(
        "rounded down",
        "The last tokens need a block as well, which they fill in part.",
        whole_blocks_only,
    ),
    Misconception(
        "slots for tokens",
        "What has to be computed again are tokens; the last block of each is not full.",
        blocks_for_tokens,
    ),
    Misconception(
        "one is enough",
        "Who gives way may free too little. Then the next one goes, until there is room.",
        first_only,
    ),
)

# 6.8


def _stepped(seed: int, **changed: Any) -> dict[str, Any]:
    return {**given.six_steps(seed).answer, **changed}


def swapped_come_first(seed: int) -> dict[str, Any]:
    """Let who is swapped out come back before the more urgent one."""
    states = given.six_steps(seed).answer
    changed = {}
    for name, (free, running, _, *swapped) in states_of(states, "swap"):
        if "U" in running and swapped[0]:
            changed[name] = [free, running.replace("U", swapped[0]), "U", ""]
    return _stepped(seed, **changed)


def behind_the_victim(seed: int) -> dict[str, Any]:
    """Put a victim in front of everybody who waits."""
    states = given.six_steps(seed).answer
    changed = {
        name: [free, running, "DU"]
        for name, (free, running, waiting) in states_of(states, "recompute")
        if waiting == "UD"
    }
    return _stepped(seed, **changed)


def one_block_comes_back(seed: int) -> dict[str, Any]:
    """Free only the block that was needed."""
    states = given.six_steps(seed).answer
    changed = {
        name: [0, *rest]
        for mode in given.MODES
        for name, (_, *rest) in states_of(states, mode)
        if "D" not in rest[0]
    }
    return _stepped(seed, **changed)


def states_of(states: dict[str, Any], mode: str) -> list[tuple[str, Any]]:
    """Return the states of a mode, by their names."""
    return [(name, state) for name, state in states.items() if name.startswith(mode)]


STEPS = (
    Misconception(
        "swapped ones before everybody",
        "Under priority, who waits and is more urgent comes before who was swapped out.",
        swapped_come_first,
    ),
    Misconception(
        "the victim in front",
        "The queue is ordered by priority. A victim goes to the very front only under first come, "
        "first served.",
        behind_the_victim,
    ),
    Misconception(
        "one block comes back",
        "All blocks of the victim are freed, though one was needed.",
        one_block_comes_back,
    ),
)

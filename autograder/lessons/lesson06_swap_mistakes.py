"""Lesson 6: what is got wrong about the space on the CPU, and in what is traced by hand."""

from __future__ import annotations

import heapq
from typing import Any

from autograder.checks.finding import Misconception
from autograder.lessons import lesson06_given as given
from course_lib.scheduling.swap import SwapSpace

# 6.5


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


class BackAsInAHeap(SwapSpace):
    """Keeps the free blocks as a heap."""

    def reserve(self, request_id: str, num_blocks: int) -> list[int] | None:
        """Pop the lowest ones, one by one."""
        super().reserve(request_id, 0)  # refuses whoever is here already
        if num_blocks > len(self.free_blocks):
            del self.held_blocks[request_id]
            return None
        blocks = [heapq.heappop(self.free_blocks) for _ in range(num_blocks)]
        self.held_blocks[request_id] = blocks
        return blocks

    def release(self, request_id: str) -> list[int]:
        """Push the blocks, one by one."""
        blocks = self.held_blocks.pop(request_id)
        for block in blocks:
            heapq.heappush(self.free_blocks, block)
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
    """Releases who is not here."""

    def release(self, request_id: str) -> list[int]:
        """Return nothing for who is not here."""
        return super().release(request_id) if request_id in self.held_blocks else []


class SortsAsText(SwapSpace):
    """Puts what comes back among the others as words are sorted."""

    def release(self, request_id: str) -> list[int]:
        """Sort the free blocks by their digits."""
        blocks = super().release(request_id)
        self.free_blocks.sort(key=str)
        return blocks


class ForgetsTheEmpty(SwapSpace):
    """Does not note a request that needs no block."""

    def reserve(self, request_id: str, num_blocks: int) -> list[int] | None:
        """Take blocks, and enter the request if it got any."""
        blocks = super().reserve(request_id, num_blocks)
        if not blocks:
            self.held_blocks = {each: held for each, held in self.held_blocks.items() if held}
        return blocks


class AsksForTruth(SwapSpace):
    """Takes a request with an empty list for one that is not there."""

    def reserve(self, request_id: str, num_blocks: int) -> list[int] | None:
        """Refuse only who holds a block."""
        if self.held_blocks.get(request_id) == [] and num_blocks <= len(self.free_blocks):
            del self.held_blocks[request_id]
        elif self.held_blocks.get(request_id) == []:
            return None
        return super().reserve(request_id, num_blocks)


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
        "A request that is here already must be refused, or its first blocks are lost.",
        ReservesTwice,
    ),
    Misconception(
        "adds to the first ones",
        "A request that is here already must be refused: it was swapped out once, as a whole.",
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
        "What comes back need not be lower than what is free already: the lowest are handed out "
        "first.",
        BackAtTheFront,
    ),
    Misconception(
        "a heap",
        "`free_blocks` is a list in ascending order, as everybody who looks at it sees; a heap has "
        "only its lowest block in front.",
        BackAsInAHeap,
    ),
    Misconception(
        "leaves one free",
        "A request that needs just as many blocks as there are fits.",
        LeavesOneFree,
    ),
    Misconception(
        "enters who was refused",
        "Who got None is not here: it must not be found in `held_blocks`.",
        EntersTheRefused,
    ),
    Misconception(
        "releases nobody",
        "To release a request that is not here is a mistake of the caller: a KeyError says so.",
        ReleasesNobody,
    ),
    Misconception(
        "forgets who needs none",
        "Who needs 0 blocks is here all the same, with an empty list, until it is released.",
        ForgetsTheEmpty,
    ),
    Misconception(
        "asks whether the list is empty",
        "A request with an empty list is here already: ask whether its name is in the dict.",
        AsksForTruth,
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

# 6.3


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


def free_ones_are_held(seed: int) -> dict[str, Any]:
    """Give D the two blocks that are free."""
    return _decided(seed, **{"D holds": given.decision(seed).answer["D holds"] + 2})


def earlier_of_equals(seed: int) -> dict[str, Any]:
    """Let the earlier one of two with the same priority go first."""
    return _decided(seed, **{"least important": given.equals_in_order_of_arrival(seed)})


def smallest_number_goes(seed: int) -> dict[str, Any]:
    """Take the smallest number for the least important."""
    return _decided(seed, **{"least important": given.smallest_priority_first(seed)})


DECISION = (
    Misconception(
        "nothing left for the free ones",
        "The four and what is free add up to 100 blocks; two of these are free, and not D's.",
        free_ones_are_held,
    ),
    Misconception(
        "the smallest number goes",
        "A lower priority value is more important; the largest gives way.",
        smallest_number_goes,
    ),
    Misconception(
        "the earlier of equals goes",
        "Of those with the same priority, the one that arrived later gives way first.",
        earlier_of_equals,
    ),
    Misconception(
        "arrivals preempt",
        "In V1 only a running request that finds too few blocks preempts. Who waits, waits, "
        "however important.",
        arrivals_preempt,
    ),
    Misconception(
        "rounded down",
        "The last tokens need a block as well, whether they fill it or not.",
        whole_blocks_only,
    ),
    Misconception(
        "slots for tokens",
        "What has to be computed again are tokens; the last block of a request need not be full.",
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
    urgent, victim = (given.blocks_of(seed, name) for name in "UD")
    changed = {}
    for name, (free, running, _, swapped) in states_of(states, "swap"):
        if "U" in running and swapped == "D" and free >= victim:
            changed[name] = [free - victim, running.replace("U", "DU"), "", ""]
        elif "U" in running and swapped == "D":
            changed[name] = [free + urgent - victim, running.replace("U", "D"), "U", ""]
    return _stepped(seed, **changed)


def back_in_the_same_step(seed: int) -> dict[str, Any]:
    """Let who is swapped out come back in the step in which the more urgent one comes in."""
    states = given.six_steps(seed).answer
    changed = {}
    for name, (*_, swapped) in states_of(states, "swap"):
        recomputed = states[name.replace("swap", "recompute")]
        if swapped and swapped in recomputed[1]:
            changed[name] = [*recomputed, ""]
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


def in_front_of_the_urgent(seed: int) -> dict[str, Any]:
    """Let a victim stay in front of everybody who waits, and come in first; if it comes in."""
    states = behind_the_victim(seed)
    changed = {
        name: [free, running.replace("UD", "DU"), waiting]
        for name, (free, running, waiting) in states_of(states, "recompute")
        if "UD" in running
    }
    return {**states, **changed} if changed else _stepped(seed)


def c_stays_a_step_longer(seed: int) -> dict[str, Any]:
    """Let C write its first token in the step after that of its prompt."""
    return _stepped(seed, **given.last_of_c(seed))


def all_stay_free(seed: int) -> dict[str, Any]:
    """Forget the blocks that others were in need of; D itself may be the only one."""
    states = given.six_steps(seed).answer
    taken = given.blocks_taken(seed)
    changed = {
        name: [free + taken, *rest]
        for mode in given.MODES
        for name, (free, *rest) in states_of(states, mode)
        if "D" not in rest[0] and "C" in rest[0]
    }
    return _stepped(seed, **changed)


def who_needs_it_goes(seed: int) -> dict[str, Any]:
    """Preempt the one that finds no block."""
    return _stepped(seed, who=given.who_needs_a_block(seed))


def one_block_comes_back(seed: int) -> dict[str, Any]:
    """Free only the blocks that were needed."""
    states = given.six_steps(seed).answer
    changed = {
        name: [0, *rest]
        for mode in given.MODES
        for name, (_, *rest) in states_of(states, mode)
        if "D" not in rest[0]
    }
    return _stepped(seed, **changed)


def a_step_too_early(seed: int) -> dict[str, Any]:
    """Let a request need a block when its last one is just full."""
    return _stepped(seed, when=given.six_steps(seed).answer["when"] - 1)


def states_of(states: dict[str, Any], mode: str) -> list[tuple[str, Any]]:
    """Return the states of a mode, by their names."""
    return [(name, state) for name, state in states.items() if name.startswith(mode)]


STEPS = (
    Misconception(
        "a step too early",
        "A block that is just full is enough for the tokens in it. The next token needs another.",
        a_step_too_early,
    ),
    Misconception(
        "swapped ones before everybody",
        "Under priority, who waits and is more urgent comes before who was swapped out.",
        swapped_come_first,
    ),
    Misconception(
        "back in the same step",
        "`swapped` is looked at once in a step, before `waiting`. If somebody more urgent waits "
        "then, who was swapped out waits for the next step.",
        back_in_the_same_step,
    ),
    Misconception(
        "the victim in front",
        "The queue is ordered by priority. A victim goes to the very front under first come, first "
        "served, and not here.",
        behind_the_victim,
    ),
    Misconception(
        "first in line and first in",
        "The queue is ordered by priority: who is more urgent stands in front of a victim, and "
        "comes in before it.",
        in_front_of_the_urgent,
    ),
    Misconception(
        "a step longer",
        "A prompt's own step writes the first token of the answer. So step 0 is among those in "
        "which C runs, and its blocks are free in the step after its last.",
        c_stays_a_step_longer,
    ),
    Misconception(
        "all of them stay free",
        "Of the blocks that the victim gives back, or that were free, whoever else is in need "
        "takes one in the same step.",
        all_stay_free,
    ),
    Misconception(
        "who needs the block goes",
        "Who goes is the policy's to say, the largest (priority, time of arrival), whoever is in "
        "need.",
        who_needs_it_goes,
    ),
    Misconception(
        "one block comes back",
        "All blocks of the victim are freed, though fewer were needed.",
        one_block_comes_back,
    ),
)

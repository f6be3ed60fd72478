"""Lesson 6: what its checks say of answers that people give, wrong ones and unusual right ones."""

from __future__ import annotations

import bisect
import heapq
import math

import numpy as np
import pytest

from autograder import lessons
from autograder.checks.answers import made_of
from autograder.checks.lives import Life
from autograder.lessons import lesson06_contest as contest
from autograder.lessons import lesson06_given as given
from autograder.lessons import lesson06_hunt as hunt
from autograder.lessons import lesson06_lives as lives
from autograder.lessons import lesson06_measure as measure
from autograder.lessons import lesson06_swap_mistakes as swap_mistakes
from autograder.proxy.subject import LocalSubject
from course_lib import parts
from course_lib.kv_cache import KVCacheManager
from course_lib.scheduling import Request, RequestStatus, Scheduler, SchedulerConfig
from course_lib.scheduling.watch.driver import sampled_tokens
from course_lib.scheduling.watch.preemptions import give_way, run_with_preemptions
from lesson_answers import SAME, examine, examine_wrong, named

# 6.1


def decided_by_hand(blocks):
    freed = 0
    for block in blocks:
        if block.ref_cnt > 1:
            continue
        freed += 1
    return freed


def lets_go(blocks):
    for block in blocks:
        block.ref_cnt -= 1
    return sum(block.ref_cnt == 0 for block in blocks)


def by_index_of_a_list(blocks):
    return sum(blocks[i].ref_cnt == 1 for i in range(len(blocks)))


def one_call_deeper_for_each(blocks):
    rest = iter(blocks)
    first = next(rest, None)
    return 0 if first is None else (first.ref_cnt == 1) + one_call_deeper_for_each(rest)


FREED_RIGHT = (decided_by_hand, lambda blocks: np.int64(sum(b.ref_cnt < 2 for b in blocks)))
FREED_WRONG = (
    (lets_go, SAME),
    (lambda blocks: float(sum(b.ref_cnt == 1 for b in blocks)), SAME),
    (lambda blocks: [b for b in blocks if b.ref_cnt == 1], SAME),
    (lambda blocks: len(blocks), "the length of the table"),
    (lambda blocks: sum(b.ref_cnt <= 2 for b in blocks), "a block with two holders"),
    (lambda blocks: min(8, sum(b.ref_cnt == 1 for b in blocks)), SAME),
    (lambda blocks: min(20, sum(b.ref_cnt == 1 for b in blocks)), SAME),
    (by_index_of_a_list, SAME),
    (one_call_deeper_for_each, SAME),
    (lambda blocks: 1, SAME),
    (object(), SAME),
)

# 6.2


def by_index(running):
    return running.index(max(running, key=lambda r: (r.priority, r.arrival_time)))


def in_a_loop(running):
    best = 0
    for index, each in enumerate(running):
        pair = running[best].priority, running[best].arrival_time
        if (each.priority, each.arrival_time) > pair:
            best = index
    return best


def sorts(running):
    running.sort(key=lambda r: (r.priority, r.arrival_time))
    return len(running) - 1


def recursive(running):
    if len(running) == 1:
        return 0
    best = recursive(running[:-1])
    pairs = [(r.priority, r.arrival_time) for r in running]
    return len(running) - 1 if pairs[-1] > pairs[best] else best


def by_key(key):
    return lambda running: max(range(len(running)), key=lambda i: key(running[i]))


def largest_above(lowest):
    def victim(running):
        best, largest = 0, (lowest, 0.0)
        for index, each in enumerate(running):
            if (each.priority, each.arrival_time) > largest:
                best, largest = index, (each.priority, each.arrival_time)
        return best

    return victim


VICTIM_RIGHT = (by_index, in_a_loop, recursive)
VICTIM_WRONG = (
    (lambda running: by_index(running) + 1, SAME),
    (lambda running: by_index(running[:5]), SAME),
    (lambda running: by_index(running[:8]), SAME),
    (by_key(lambda r: (r.priority, r.arrival_time, r.request_id)), SAME),
    (by_key(lambda r: (r.priority, r.arrival_time, -ord(r.request_id))), SAME),
    (by_key(lambda r: (r.priority, r.arrival_time, r.num_preemptions)), SAME),
    (by_key(lambda r: (r.priority, r.arrival_time, -r.num_preemptions)), SAME),
    (by_key(lambda r: (r.priority, r.arrival_time, -r.num_computed_tokens)), SAME),
    (by_key(lambda r: (r.priority, round(r.arrival_time, 1))), SAME),
    (by_key(lambda r: (r.priority, round(r.arrival_time, 3))), SAME),
    (by_key(lambda r: (r.priority, float(np.float32(r.arrival_time)))), SAME),
    (by_key(lambda r: 10 * r.priority + r.arrival_time), "one number for both"),
    (by_key(lambda r: 1e12 * r.priority + r.arrival_time), SAME),
    (by_key(lambda r: 1e10 * r.priority + r.arrival_time), SAME),
    (by_key(lambda r: (str(r.priority), r.arrival_time)), SAME),
    (largest_above(-1), SAME),
    (largest_above(-1000), SAME),
    (lambda running: running[by_index(running)].request_id, SAME),
    (lambda running: 10 * running[0].priority, SAME),
    (lambda running: 0, SAME),
    (object(), SAME),
)

# 6.4


def by_bisection(swap, recompute, *, weight_seconds=0.0):
    if swap <= recompute:
        return math.inf
    low, high = 0.0, 1e12
    for _ in range(200):
        middle = (low + high) / 2
        if middle * swap <= max(middle * recompute, weight_seconds):
            low = middle
        else:
            high = middle
    return low


def by_bisection_from_above(swap, recompute, *, weight_seconds=0.0):
    if swap <= recompute:
        return math.inf
    low, high = 0.0, 1e12
    for _ in range(200):
        middle = (low + high) / 2
        low, high = (middle, high) if middle * swap < weight_seconds else (low, middle)
    return high


def by_numpy(swap, recompute, *, weight_seconds=0.0):
    return np.inf if not swap > recompute else np.float64(weight_seconds) / swap


def never(swap, recompute, *, weight_seconds=0.0):
    return None if swap <= recompute else weight_seconds / swap


def nearly(**tolerance):
    def break_even(swap, recompute, *, weight_seconds=0.0):
        if swap <= recompute or math.isclose(swap, recompute, **tolerance):
            return math.inf
        return weight_seconds / swap

    return break_even


def capped(most):
    def break_even(swap, recompute, *, weight_seconds=0.0):
        return math.inf if swap <= recompute else min(weight_seconds / swap, most)

    return break_even


BREAK_EVEN_RIGHT = (by_bisection, by_bisection_from_above, by_numpy)
BREAK_EVEN_WRONG = (
    (
        lambda s, r, *, weight_seconds=0.0: math.inf if s < r else weight_seconds / s,
        "equal is slower",
    ),
    (
        lambda s, r, *, weight_seconds=0.0: math.inf if s <= r else weight_seconds / r,
        "the floor over recompute",
    ),
    (never, SAME),
    (lambda s, r, *, weight_seconds=0.0: 1e18 if s <= r else weight_seconds / s, SAME),
    (lambda s, r, *, weight_seconds=0.0: math.inf if s <= r else 1e3 * weight_seconds / s, SAME),
    (
        lambda s, r, *, weight_seconds=0.0: math.inf if s <= r else math.ceil(weight_seconds / s),
        "rounded up",
    ),
    (
        lambda s, r, *, weight_seconds=0.0: math.inf if s <= r else int(weight_seconds / s),
        "rounded down",
    ),
    (nearly(rel_tol=1e-9), SAME),
    (nearly(rel_tol=1e-3), "nearly equal is equal"),
    (nearly(rel_tol=0.0, abs_tol=1e-6), SAME),
    (nearly(rel_tol=0.0, abs_tol=1e-9), SAME),
    (capped(1e5), SAME),
    (capped(1e7), SAME),
    (lambda s, r, weight_seconds: math.inf if s <= r else weight_seconds / s, SAME),
    (object(), SAME),
)

# 6.5


class OnAHeap:
    """Keeps the free blocks on a heap."""

    def __init__(self, num_blocks):
        self.heap, self.held_blocks = list(range(num_blocks)), {}

    @property
    def free_blocks(self):
        return sorted(self.heap)

    def reserve(self, request_id, num_blocks):
        if request_id in self.held_blocks:
            raise ValueError(request_id)
        if num_blocks > len(self.heap):
            return None
        self.held_blocks[request_id] = [heapq.heappop(self.heap) for _ in range(num_blocks)]
        return list(self.held_blocks[request_id])

    def release(self, request_id):
        blocks = self.held_blocks.pop(request_id)
        for block in blocks:
            heapq.heappush(self.heap, block)
        return blocks


class ByInsertion:
    """Puts what comes back where it belongs."""

    def __init__(self, num_blocks):
        self.free_blocks, self.held_blocks = [*range(num_blocks)], {}

    def reserve(self, request_id, num_blocks):
        if request_id in self.held_blocks:
            raise ValueError(request_id)
        if len(self.free_blocks) < num_blocks:
            return None
        self.held_blocks[request_id] = [self.free_blocks.pop(0) for _ in range(num_blocks)]
        return self.held_blocks[request_id]

    def release(self, request_id):
        blocks = self.held_blocks.pop(request_id)
        for block in blocks:
            bisect.insort(self.free_blocks, block)
        return blocks


class HoldsNothing(ByInsertion):
    """Takes who holds no blocks for somebody who is not there."""

    def reserve(self, request_id, num_blocks):
        if not self.held_blocks.get(request_id):
            self.held_blocks.pop(request_id, None)
        return super().reserve(request_id, num_blocks)


class EntersWhoGotSome(ByInsertion):
    """Notes a request only if it got blocks."""

    def reserve(self, request_id, num_blocks):
        blocks = super().reserve(request_id, num_blocks)
        if blocks == []:
            del self.held_blocks[request_id]
        return blocks


class RefusesWhoHasSome(ByInsertion):
    """Asks whether the list of a request is empty, not whether it is there."""

    def reserve(self, request_id, num_blocks):
        if self.held_blocks.get(request_id):
            raise ValueError(request_id)
        if len(self.free_blocks) < num_blocks:
            return None
        self.held_blocks[request_id] = [self.free_blocks.pop(0) for _ in range(num_blocks)]
        return self.held_blocks[request_id]


class RefusesLate(ByInsertion):
    """Says None before it says that somebody holds blocks already."""

    def reserve(self, request_id, num_blocks):
        if len(self.free_blocks) < num_blocks:
            return None
        return super().reserve(request_id, num_blocks)


class FromOne(ByInsertion):
    """Counts blocks from 1."""

    def __init__(self, num_blocks):
        super().__init__(num_blocks)
        self.free_blocks = [block + 1 for block in self.free_blocks]


class HoldersAreFew(ByInsertion):
    """Takes five requests at most."""

    def reserve(self, request_id, num_blocks):
        if len(self.held_blocks) > 4 and request_id not in self.held_blocks:
            return None
        return super().reserve(request_id, num_blocks)


class NamesInLowerCase(ByInsertion):
    """Takes two names for one that differ in their case alone."""

    def reserve(self, request_id, num_blocks):
        return super().reserve(request_id.lower(), num_blocks)

    def release(self, request_id):
        return super().release(request_id.lower())


class LooksLikeAHeap:
    """Shows its heap as it lies."""

    def __init__(self, num_blocks):
        self.free_blocks, self.held_blocks = list(range(num_blocks)), {}

    def reserve(self, request_id, num_blocks):
        if request_id in self.held_blocks:
            raise ValueError(request_id)
        if num_blocks > len(self.free_blocks):
            return None
        blocks = [heapq.heappop(self.free_blocks) for _ in range(num_blocks)]
        self.held_blocks[request_id] = blocks
        return blocks

    def release(self, request_id):
        blocks = self.held_blocks.pop(request_id)
        for block in blocks:
            heapq.heappush(self.free_blocks, block)
        return blocks


class LooksForEach(ByInsertion):
    """Looks for the lowest free block anew for each block."""

    def reserve(self, request_id, num_blocks):
        if request_id in self.held_blocks:
            raise ValueError(request_id)
        if len(self.free_blocks) < num_blocks:
            return None
        blocks = self.held_blocks[request_id] = []
        for _ in range(num_blocks):
            blocks.append(min(self.free_blocks))
            self.free_blocks.remove(blocks[-1])
        return blocks


class LooksInAList(ByInsertion):
    """Keeps what is not in the list of those that it hands out."""

    def reserve(self, request_id, num_blocks):
        if request_id in self.held_blocks:
            raise ValueError(request_id)
        if len(self.free_blocks) < num_blocks:
            return None
        blocks = self.held_blocks[request_id] = self.free_blocks[:num_blocks]
        self.free_blocks = [block for block in self.free_blocks if block not in blocks]
        return blocks


def one_for_all():
    """Return a new class that has one dict of holders for all of its spaces."""
    holders = {}

    class OneForAll(ByInsertion):
        """Shares its holders."""

        def __init__(self, num_blocks):
            super().__init__(num_blocks)
            self.held_blocks = holders

    return OneForAll


class OneList(ByInsertion):
    """Returns the same list each time, filled anew."""

    def __init__(self, num_blocks):
        super().__init__(num_blocks)
        self.out = []

    def reserve(self, request_id, num_blocks):
        blocks = super().reserve(request_id, num_blocks)
        if blocks is None:
            return None
        self.out[:] = blocks
        return self.out


class BecomesFree(ByInsertion):
    """Gives away the list that it keeps, and that becomes the one of the free blocks."""

    def release(self, request_id):
        mine = self.held_blocks.pop(request_id)
        blocks = list(mine)
        mine.extend(self.free_blocks)
        mine.sort()
        self.free_blocks = mine
        return blocks


SPACE_RIGHT = (OnAHeap, ByInsertion, BecomesFree)
SPACE_WRONG = (
    (EntersWhoGotSome, "forgets who needs none"),
    (RefusesWhoHasSome, "asks whether the list is empty"),
    (HoldsNothing, "asks whether the list is empty"),
    (RefusesLate, SAME),
    (FromOne, SAME),
    (HoldersAreFew, SAME),
    (LooksLikeAHeap, "a heap"),
    (NamesInLowerCase, SAME),
    (object(), SAME),
)

# 6.7


def by_two_branches(self, victim, output):
    scheduled = output.num_scheduled_tokens
    unspent = scheduled.get(victim.request_id, 0)
    scheduled.pop(victim.request_id, None)
    valid = victim.num_computed_tokens - unspent
    if self.swap_out(victim, valid, output):
        self.kv_cache_manager.free(victim, num_valid_tokens=valid)
    else:
        self.kv_cache_manager.free(victim, num_valid_tokens=valid)
        victim.status = RequestStatus.PREEMPTED
        victim.num_computed_tokens = 0
        self.waiting.put_back(victim)
    victim.num_tokens_ahead = 0
    victim.num_preemptions = victim.num_preemptions + 1
    output.preempted_req_ids |= {victim.request_id}
    return unspent


def nothing_returned(self, victim, output):
    Scheduler.preempt(self, victim, output)


def forgets_what_was_said(self, victim, output):
    unspent = Scheduler.preempt(self, victim, output)
    victim.output_token_ids.clear()
    return unspent


def counts_at_the_end(self, victim, output):
    unspent = output.num_scheduled_tokens.pop(victim.request_id, 0)
    victim.num_computed_tokens -= unspent
    victim.num_preemptions += 1
    victim.num_tokens_ahead = 0
    output.preempted_req_ids.add(victim.request_id)
    if not self.swap_out(victim, victim.num_computed_tokens, output):
        victim.num_computed_tokens = 0
        victim.status = RequestStatus.PREEMPTED
        self.waiting.put_back(victim)
    self.kv_cache_manager.free(victim, num_valid_tokens=victim.num_computed_tokens)
    return unspent


def notes_it_alone(self, victim, output):
    before = output.preempted_req_ids
    output.preempted_req_ids = set(before)
    unspent = Scheduler.preempt(self, victim, output)
    output.preempted_req_ids = {victim.request_id}
    return unspent


def notes_the_request(self, victim, output):
    unspent = Scheduler.preempt(self, victim, output)
    output.preempted_req_ids.remove(victim.request_id)
    output.preempted_req_ids.add(victim)
    return unspent


def all_valid_on_the_cpu(self, victim, output):
    unspent = output.num_scheduled_tokens.pop(victim.request_id, 0)
    valid = victim.num_computed_tokens - unspent
    victim.num_preemptions += 1
    victim.num_tokens_ahead = 0
    output.preempted_req_ids.add(victim.request_id)
    if self.swap_out(victim, valid, output):
        self.kv_cache_manager.free(victim)
        return unspent
    victim.num_computed_tokens = 0
    victim.status = RequestStatus.PREEMPTED
    self.waiting.put_back(victim)
    self.kv_cache_manager.free(victim, num_valid_tokens=valid)
    return unspent


def counted_when_recomputed(self, victim, output):
    unspent = Scheduler.preempt(self, victim, output)
    if victim.status is RequestStatus.SWAPPED:
        victim.num_preemptions -= 1
    return unspent


def must_be_in_the_plan(self, victim, output):
    if victim.request_id not in output.num_scheduled_tokens:
        raise KeyError(victim.request_id)
    return Scheduler.preempt(self, victim, output)


def one_less_valid(self, victim, output):
    victim.num_computed_tokens -= 1
    return Scheduler.preempt(self, victim, output)


def tampering(tamper, *, before=False):
    def preempt(self, victim, output):
        if before:
            tamper(self, victim, output)
        unspent = Scheduler.preempt(self, victim, output)
        if not before:
            tamper(self, victim, output)
        return unspent

    return preempt


def setting(name, change):
    return tampering(
        lambda self, victim, output: setattr(victim, name, change(getattr(victim, name)))
    )


def a_shorter_answer(self, victim, output):
    victim.max_tokens -= victim.num_output_tokens


def counted_as_fruitless(self, victim, output):
    self.num_fruitless_preemptions += 1


TAMPERS = (
    tampering(a_shorter_answer),
    tampering(counted_as_fruitless),
    setting("arrival_time", lambda time: 0.0),
    setting("priority", lambda priority: priority - 1),
    setting("eos_token_id", lambda token: None),
    setting("cache_salt", lambda salt: None),
    setting("lora_id", lambda adapter: None),
    setting("deadline", lambda time: math.inf),
    tampering(lambda self, victim, output: output.finished_req_ids.clear()),
    tampering(lambda self, victim, output: output.blocks_to_copy.clear()),
    tampering(lambda self, victim, output: output.blocks_to_swap_out.clear(), before=True),
)


def preempting(swaps=lambda self, victim, output: True, num_valid=None, put_back=None):
    """Preempt with a condition on swapping, another number of valid tokens, another queueing."""

    def preempt(self, victim, output):
        unspent = output.num_scheduled_tokens.pop(victim.request_id, 0)
        valid = victim.num_computed_tokens - unspent
        victim.num_preemptions += 1
        victim.num_tokens_ahead = 0
        output.preempted_req_ids.add(victim.request_id)
        to_the_cpu = valid if num_valid is None else num_valid(victim, valid)
        asks = swaps(self, victim, unspent)
        if not (asks and self.swap_out(victim, to_the_cpu, output)):
            victim.num_computed_tokens = 0
            victim.status = RequestStatus.PREEMPTED
            (put_back or self.waiting.put_back)(victim)
        self.kv_cache_manager.free(victim, num_valid_tokens=valid)
        return unspent

    return preempt


def swaps_one_a_step(self, victim, output):
    first = not output.preempted_req_ids
    return preempting(lambda *_: first)(self, victim, output)


def adds_the_second(self, victim, output):
    first = not output.preempted_req_ids
    queue = self.waiting.put_back if first else self.waiting.add
    return preempting(put_back=queue)(self, victim, output)


def shares_a_block(self, victim):
    return any(b.ref_cnt > 1 for b in self.kv_cache_manager.block_tables()[victim.request_id])


def compares_all_blocks(self, victim, output):
    blocks = self.kv_cache_manager.block_pool.blocks
    twice = sum(one.block_id == other.block_id for one in blocks for other in blocks)
    return Scheduler.preempt(self, victim, output) if twice == len(blocks) else -1


swaps_at_least_the_prompt = preempting(
    num_valid=lambda victim, valid: max(valid, victim.num_prompt_tokens)
)
swaps_if_not_served = preempting(lambda self, victim, unspent: not unspent)
swaps_what_is_not_shared = preempting(
    lambda self, victim, unspent: not shares_a_block(self, victim)
)

PREEMPT_RIGHT = (by_two_branches,)
PREEMPT_WRONG = (
    (nothing_returned, SAME),
    (forgets_what_was_said, SAME),
    (all_valid_on_the_cpu, SAME),
    (counts_at_the_end, "looks when it is forgotten"),
    (counted_when_recomputed, SAME),
    (notes_it_alone, "a set of its own"),
    (notes_the_request, "the request for its id"),
    *((answer, SAME) for answer in TAMPERS),
    (swaps_at_least_the_prompt, SAME),
    (swaps_if_not_served, SAME),
    (swaps_one_a_step, SAME),
    (swaps_what_is_not_shared, SAME),
    (adds_the_second, SAME),
    (must_be_in_the_plan, SAME),
    (one_less_valid, SAME),
    (compares_all_blocks, SAME),
    (object(), SAME),
)

# 6.9


def with_an_index(free, running, need):
    preempted = []
    while running and free < need:
        name, num_blocks, is_copied = running[len(running) - 1]
        if is_copied or not num_blocks:
            return preempted, free
        del running[len(running) - 1]
        preempted += [name]
        free += num_blocks
    return preempted, free


def leaves_the_list(free, running, need):
    return with_an_index(free, list(running), need)


def all_or_nobody(free, running, need):
    rest = list(running)
    preempted, freed = with_an_index(free, rest, need)
    if freed < need:
        return [], free
    running[:] = rest
    return preempted, freed


def from_the_front(free, running, need):
    running.reverse()
    preempted, free = with_an_index(free, running, need)
    running.reverse()
    return preempted, free


def no_more_than(most):
    def make_room(free, running, need):
        rest = running[:-most]
        del running[: len(rest)]
        preempted, free = with_an_index(free, running, need)
        running[:0] = rest
        return preempted, free

    return make_room


ROOM_RIGHT = (with_an_index,)
ROOM_WRONG = (
    (leaves_the_list, SAME),
    (all_or_nobody, SAME),
    (from_the_front, SAME),
    (lambda free, running, need: with_an_index(free, running, need)[0], SAME),
    (lambda free, running, need: ([], free), SAME),
    (no_more_than(3), SAME),
    (no_more_than(4), SAME),
    (no_more_than(8), SAME),
    (object(), SAME),
)

RIGHT = [
    *(("6.1", answer) for answer in FREED_RIGHT),
    *(("6.2", answer) for answer in VICTIM_RIGHT),
    *(("6.4", answer) for answer in BREAK_EVEN_RIGHT),
    *(("6.5", answer) for answer in SPACE_RIGHT),
    *(("6.7", answer) for answer in PREEMPT_RIGHT),
    *(("6.9b", answer) for answer in ROOM_RIGHT),
]
WRONG = [
    *(("6.1", *wrong) for wrong in FREED_WRONG),
    *(("6.2", *wrong) for wrong in VICTIM_WRONG),
    *(("6.4", *wrong) for wrong in BREAK_EVEN_WRONG),
    *(("6.5", *wrong) for wrong in SPACE_WRONG),
    *(("6.7", *wrong) for wrong in PREEMPT_WRONG),
    *(("6.9b", *wrong) for wrong in ROOM_WRONG),
]


def label(case):
    return "-".join(str(getattr(each, "__name__", type(each).__name__)) for each in case[:2])


@pytest.mark.parametrize("case", RIGHT, ids=label)
def test_an_unusual_right_answer_earns_everything(case):
    exercise_id, answer = case
    finding = examine(exercise_id, answer)
    assert finding.fraction == 1.0, finding.counterexample


@pytest.mark.usefixtures("wrong_answers")
@pytest.mark.parametrize("case", WRONG, ids=label)
def test_a_wrong_answer_loses_points_and_is_not_called_what_it_is_not(case):
    exercise_id, answer, name = case
    finding = examine_wrong(exercise_id, answer)
    assert finding.fraction < 1.0
    assert named(finding) == name


def test_who_sorts_the_running_requests_is_told_that_they_were_changed():
    finding = examine("6.2", sorts)
    assert finding.fraction == 0.0
    assert named(finding) == "sorts the running requests"


def sorts_a_copy(running):
    rows = list(running)
    rows.sort(key=lambda r: (r.priority, r.arrival_time))
    return len(rows) - 1


def sorts_a_copy_of_this_name(running):
    running = list(running)
    running.sort(key=lambda r: (r.priority, r.arrival_time))
    return len(running) - 1


def sorts_anew(running):
    running[:] = sorted(running, key=lambda r: (r.priority, r.arrival_time))
    return len(running) - 1


@pytest.mark.usefixtures("wrong_answers")
@pytest.mark.parametrize("answer", [sorts_a_copy, sorts_a_copy_of_this_name, sorts_anew])
def test_who_sorts_a_copy_is_not_said_to_sort_the_running_requests(answer):
    finding = examine("6.2", answer)
    assert finding.fraction == 0.0
    assert named(finding) == "a place in a sorted list"


def test_spaces_that_share_their_holders_are_told_so():
    finding = examine("6.5", one_for_all())
    case = finding.counterexample
    assert case.case == "obj = SwapSpace(2)\nobj.held_blocks\nsharing_faults(obj)"
    assert case.got == "[\"reserve('z', 1) of a second object changes the first\"]"


def test_a_space_that_returns_one_list_each_time_is_told_so():
    case = examine("6.5", OneList).counterexample
    called = [line.partition("(")[0] for line in case.case.splitlines()]
    assert called == ["obj = SwapSpace", "obj.reserve", "obj.reserve"]
    assert "a call changes the list that an earlier one returned" in case.complaint


@pytest.mark.usefixtures("wrong_answers")
def test_a_space_that_goes_through_its_blocks_for_each_block_is_told_so():
    for answer in (LooksForEach, LooksInAList):
        case = examine("6.5", answer).counterexample
        assert case.case == "SwapSpace(...) on 10,000 blocks"
        assert "once for each block?" in case.complaint


def test_a_block_table_that_fails_is_a_list_before_it_is_an_iterator():
    finding = examine("6.1", lambda blocks: len(list(blocks)))
    assert finding.counterexample.case == "num_blocks_freed([KVCacheBlock(7, 2)])"


def test_a_division_before_the_test_is_not_shown_where_the_idea_fails_too():
    finding = examine("6.4", lambda s, r, *, weight_seconds=0.0: weight_seconds / s)
    assert finding.counterexample.case == "break_even_tokens(1.0, 1.0)"
    assert named(finding) == SAME


# Tasks by hand


@pytest.mark.parametrize("seed", range(12))
def test_a_decision_adds_up_and_its_policies_differ(seed):
    answer = given.decision(seed).answer
    drawn = given._drawn(seed)
    assert sum(drawn["held"].values()) + 2 == 100
    assert answer["D holds"] == drawn["held"]["D"] >= 5
    assert len({tuple(answer[name]) for name in ("last in", "least important", "most blocks")}) == 3
    for name in ("last in", "least important", "most blocks"):
        gone = answer[name]
        assert 2 + sum(drawn["held"][each] for each in gone) >= answer["U needs"]
        assert 2 + sum(drawn["held"][each] for each in gone[:-1]) < answer["U needs"]
    assert examine("6.3", {"seed": seed, **answer}).fraction == 1.0


@pytest.mark.parametrize("seed", range(6))
def test_six_steps_are_those_of_the_scheduler_and_u_never_waits_for_d(seed):
    answer = given.six_steps(seed).answer
    assert answer["who"] == "D"
    for mode in given.MODES:
        for state in (answer[f"{mode} {number}"] for number in (4, 5, 6)):
            assert sorted("".join(state[1:])) in (list("ABCDU"), list("ABDU"))
    assert "U" in answer["recompute 6"][1]
    assert examine("6.8", {"seed": seed, **answer}).fraction == 1.0


@pytest.mark.parametrize("seed", [1, 2, 3, 5])
@pytest.mark.parametrize(
    ("exercise_id", "changed", "name"),
    [
        ("6.3", lambda right: {"D holds": right["D holds"] + 2}, "nothing left for the free ones"),
        ("6.8", lambda right: {"when": right["when"] - 1}, "a step too early"),
    ],
)
def test_a_number_by_hand_that_is_off_is_named(exercise_id, changed, name, seed):
    right = (given.decision if exercise_id == "6.3" else given.six_steps)(seed).answer
    finding = examine(exercise_id, {"seed": seed, **right, **changed(right)})
    assert 0 < finding.fraction < 1
    assert named(finding) == name


@pytest.mark.parametrize("seed", range(8))
def test_who_is_swapped_out_finds_no_room_as_long_as_c_runs(seed):
    trace = given.preemption_by_hand(seed, "swap")
    tokens = next(len(r.prompt_token_ids) for r in trace.requests if r.request_id == "D")
    need = math.ceil((tokens + given.six_steps(seed).answer["when"]) / 16)
    out = [step for step in trace.steps if "D" in step.swapped and "C" in step.running]
    assert out
    assert all(len(step.free) < need for step in out)


def test_who_lets_a_swapped_one_come_back_in_the_step_of_a_more_urgent_one_is_told_so():
    right = given.six_steps(1).answer
    finding = examine("6.8", {"seed": 1, **right, "swap 6": [6, "ABUD", "", ""]})
    assert named(finding) == "back in the same step"


def test_who_takes_the_smallest_number_for_the_least_important_is_told_so():
    right = given.decision(1).answer
    finding = examine("6.3", {"seed": 1, **right, "least important": ["B"]})
    assert named(finding) == "the smallest number goes"


def test_a_state_by_hand_may_be_a_tuple_and_a_strange_one_is_told_its_form():
    right = given.six_steps(1).answer
    tuples = {name: tuple(s) if isinstance(s, list) else s for name, s in right.items()}
    assert examine("6.8", {"seed": 1, **tuples}).fraction == 1.0
    strange = examine("6.8", {"seed": 1, **right, "recompute 4": ["7", "ABC", "UD"]})
    assert "is no state such as" in strange.counterexample.complaint
    named_one = examine("6.3", {"seed": 1, **given.decision(1).answer, "last in": "DC"})
    assert "neither a number nor a list of names" in named_one.counterexample.complaint
    nobody = examine("6.3", {"seed": 1, **given.decision(1).answer, "in V1": None})
    assert "[] is nobody" in nobody.counterexample.complaint
    assert "`[]` where nobody does" in given.decision(1).task


@pytest.mark.parametrize("seed", [1, 2, 6, 7])
@pytest.mark.parametrize(
    ("wrong", "name"),
    [
        (swap_mistakes.swapped_come_first, "swapped ones before everybody"),
        (swap_mistakes.in_front_of_the_urgent, "first in line and first in"),
        (swap_mistakes.behind_the_victim, "the victim in front"),
        (swap_mistakes.c_stays_a_step_longer, "a step longer"),
        (swap_mistakes.all_stay_free, "all of them stay free"),
        (swap_mistakes.who_needs_it_goes, "who needs the block goes"),
    ],
)
def test_six_steps_with_one_wrong_idea_get_its_name(seed, wrong, name):
    states = wrong(seed)
    if states == given.six_steps(seed).answer:
        return
    assert named(examine("6.8", {"seed": seed, **states})) == name


def test_six_steps_of_the_first_task_with_a_wrong_idea_are_as_a_person_writes_them():
    wrong = swap_mistakes.swapped_come_first(1)
    assert wrong["swap 6"] == [6, "ABDU", "", ""]
    assert swap_mistakes.in_front_of_the_urgent(1)["recompute 6"] == [6, "ABDU", ""]
    assert swap_mistakes.c_stays_a_step_longer(1)["recompute 6"] == [7, "ABC", "UD"]
    assert swap_mistakes.all_stay_free(1)["recompute 4"] == [8, "ABC", "UD"]
    assert swap_mistakes.who_needs_it_goes(1)["who"] == "C"


def test_where_d_itself_was_in_need_all_of_its_blocks_stay_free_and_nobody_is_told_otherwise():
    right = given.six_steps(12).answer
    assert given.blocks_taken(12) == 0
    assert right["recompute 4"] == [8, "ABC", "UD"]
    one_more = {"recompute 4": [9, "ABC", "UD"], "swap 4": [9, "ABC", "U", "D"]}
    finding = examine("6.8", {"seed": 12, **right, **one_more})
    assert finding.fraction < 1
    assert finding.misconception is None
    assert "all of them stay free" not in [each.name for each in finding.alike]


def test_a_state_with_too_few_entries_is_told_which_there_are():
    right = given.six_steps(1).answer
    finding = examine("6.8", {"seed": 1, **right, "swap 6": [14, "ABU", "D"]})
    assert finding.counterexample.complaint.endswith("who waits, who is swapped out")


def test_who_lets_the_earlier_of_two_equals_go_is_told_so():
    right = given.decision(1).answer
    finding = examine("6.3", {"seed": 1, **right, "least important": ["A"]})
    assert named(finding) == "the earlier of equals goes"
    assert finding.counterexample.expected == "another list"


@pytest.mark.parametrize(
    ("needs", "said"),
    [
        (np.ceil(378 / 16), "the value is right, but as a float"),
        (378 / 16, "it is a float"),
    ],
)
def test_a_float_in_a_decision_by_hand_is_not_said_to_be_no_number(needs, said):
    finding = examine("6.3", {"seed": 1, **given.decision(1).answer, "U needs": float(needs)})
    assert said in finding.counterexample.complaint
    assert "neither a number" not in finding.counterexample.complaint


# The hunt


@pytest.mark.parametrize(
    ("case", "said"),
    [
        ({"free": 0, "running": [("a", 2, False)], "need": 1}, "it preempts a"),
        ({"free": 1, "running": [("a", 2, True)], "need": 1}, "it preempts nobody"),
        ({"free": -1, "running": [], "need": 1}, '"free" is a whole number'),
        ({"free": 0, "running": [("a", 2)], "need": 1}, "a request is"),
        ({"free": 0, "running": "ab", "need": 1}, '"running" is a list'),
        (5, "a case is a dict"),
    ],
)
def test_a_case_that_exposes_nothing_is_told_why(case, said):
    finding = examine("6.9a", case)
    assert finding.fraction == 0.0
    assert said in finding.counterexample.complaint


def test_any_victim_that_frees_nothing_exposes_the_bug():
    for running in ([("a", 2, False), ("b", 1, True)], [("a", 2, False), ("b", 0, False)]):
        assert examine("6.9a", {"free": 0, "running": running, "need": 1}).fraction == 1.0


def test_fix_a_lets_somebody_pay_for_nothing_and_fix_b_changes_nothing_in_a_round():
    pool, running = hunt.Pool(0), [("a", 2, True), ("b", 2, True)]
    assert hunt.make_room_a(pool, running, 1) == ["b"]
    assert (pool.free, running) == (0, [("a", 2, True)])

    class AskedTooOftenError(Exception):
        """The loop has come round too often."""

    class Counted(list):
        rounds = 0

        def pop(self, *place):
            Counted.rounds += 1
            if Counted.rounds > 100:
                raise AskedTooOftenError
            return super().pop(*place)

    pool, running = hunt.Pool(0), Counted([("a", 2, True), ("b", 2, True)])
    with pytest.raises(AskedTooOftenError):
        hunt.make_room_b(pool, running, 1)
    assert pool.free == 0


# The measurement and the contest


def test_the_measurement_is_taken_in_ratios_and_may_be_rounded():
    right = measure.measured()
    assert set(right) == {*measure.SETUPS, "recomputed", "recomputed, biggest"} - {"recompute"}
    rounded = {name: round(value, 5) for name, value in right.items()}
    assert examine("6.10", rounded).fraction == 1.0
    assert examine("6.10", {**right, "watermark 2%": 1.0}).fraction == 0.0


def test_shares_in_per_cent_and_means_of_ratios_are_named():
    right = measure.measured()
    shares = {name: 100 * right[name] for name in ("recomputed", "recomputed, biggest")}
    assert named(examine("6.10", {**right, **shares})) == "in per cent"
    before = measure.result_of("recompute").ttft
    ratios = {
        name: float((measure.result_of(name).ttft / before).mean())
        for name in measure.SETUPS
        if name != "recompute"
    }
    assert named(examine("6.10", {**right, **ratios})) == "the mean of ratios"


def test_what_the_text_says_of_the_measurement_holds_on_the_synthetic_trace(monkeypatch, tmp_path):
    monkeypatch.setenv("COURSE_TRACES", str(tmp_path))
    for cached in (measure.measured, measure.result_of):
        cached.cache_clear()
    ratio = measure.measured()
    assert ratio["swap at 25 GB/s"] == pytest.approx(0.71, abs=0.02)
    assert ratio["swap at 3.1 GB/s"] == pytest.approx(1.15, abs=0.02)
    assert ratio["watermark 2%"] == pytest.approx(0.72, abs=0.02)
    assert ratio["biggest victim"] == pytest.approx(1.83, abs=0.03)
    for cached in (measure.measured, measure.result_of):
        cached.cache_clear()


@pytest.mark.parametrize("seed", range(4))
def test_floor_and_bound_of_the_contest_keep_their_distance(seed):
    floor, bound = (
        contest.contest(LocalSubject(policy, 3.0), seed)
        for policy in (contest.last_in, contest.cheapest_once)
    )
    assert bound["recomputed"] < 0.9 * floor["recomputed"]
    assert bound["most often"] <= contest.MOST_OFTEN


@pytest.mark.parametrize("answer", [-1, 99, None, 0.0, "0"])
def test_a_policy_that_names_nobody_is_told_so(answer):
    finding = examine("6.11", lambda running: answer)
    assert finding.fraction == 0.0
    assert "it is no index of the" in finding.counterexample.complaint


# The loop in order

LOOP = lessons.find("6.6").check


def order(text):
    """Return the labels of the loop's lines, from words that say which."""
    starts = {
        "zero": "num_regained = 0",
        "while": "while self.kv_cache",
        "choose": "index = self.choose_victim()",
        "log": "if self.log",
        "leave": "del self.running",
        "preempt": "num_regained += self",
        "if": "if victim is request:",
        "break": "break",
        "return": "return",
    }
    found = {
        word: label
        for word, start in starts.items()
        for label, line in LOOP.lines.items()
        if line.lstrip().startswith(start)
    }
    return [found[word] for word in text.split()]


TOO_LATE, LEAVES_FIRST = "logged too late, or not at all", "leaves before it has gone"
STAYS = "the victim stays in the batch"


@pytest.mark.parametrize(
    ("lines", "name"),
    [
        ("zero while choose leave log preempt if break return", TOO_LATE),
        ("zero while choose leave preempt log if break return", TOO_LATE),
        ("zero while choose leave preempt if break return", TOO_LATE),
        ("zero while choose log if break leave preempt return", LEAVES_FIRST),
        ("zero while choose log leave if break preempt return", LEAVES_FIRST),
        ("zero while choose log preempt leave if break return", STAYS),
        ("zero while choose log preempt if break leave return", STAYS),
    ],
)
def test_what_comes_too_early_or_too_late_in_the_loop_is_said(lines, name):
    finding = examine("6.6", order(lines))
    assert finding.fraction == 0.0
    assert named(finding) == name


def test_the_trap_in_the_loop_names_a_victim_too():
    trap = next(line for line in LOOP.lines.values() if "len(self.running) - 1" in line)
    first, second = map(str.strip, trap.splitlines())
    assert first == "index = len(self.running) - 1"
    assert second == "victim = self.running[index]"


def test_two_go_for_one_in_the_life_that_says_so():
    life = Life(LocalSubject(Scheduler), Scheduler)
    lives.two_must_go(life)
    said = [step.outcome.value for step in life.steps]
    assert "a:6* b:1  | c! d!" in [each["plan"] for each in said if isinstance(each, dict)]


@pytest.mark.parametrize(("mistake", "most"), [(0, 7), (1, 6), (2, 5)])
def test_the_case_that_shows_a_wrong_line_of_the_loop_is_short(mistake, most):
    finding = examine("6.6", LOOP.misconceptions[mistake].wrong)
    assert len(finding.counterexample.case.splitlines()) <= most


def test_a_victim_cannot_be_logged_before_it_is_chosen():
    lines = "zero while log choose leave preempt if break return"
    assert examine("6.6", order(lines)).fraction == 0.0


def test_an_order_in_small_letters_is_the_same_order_and_is_kept_as_a_part():
    small = [label.lower() for label in LOOP.solution]
    for written in (small, "".join(small), ", ".join(small)):
        assert examine("6.6", written).fraction == 1.0
        assert made_of(LOOP, written).__name__ == "preempt_for"


# What must show


def test_a_scheduler_with_ones_own_preemption_keeps_every_request_and_every_token(workspace):
    parts.save("Scheduler.preempt", SOURCE)
    make = parts.get("Scheduler")
    assert make.preempt.__module__.startswith("my_engine")
    for mode, num_cpu_blocks in (("recompute", 0), ("swap", 3), ("swap", 30)):
        config = SchedulerConfig(preemption_mode=mode, num_cpu_blocks=num_cpu_blocks)
        scheduler = make(config, KVCacheManager(num_blocks=12, block_size=2))
        requests = [
            Request(name, range(100 * i, 100 * i + 3 + i), 9) for i, name in enumerate("abcd")
        ]
        for request in requests:
            scheduler.add_request(request)
        for _ in range(200):
            if not scheduler.has_unfinished_requests():
                break
            output = scheduler.schedule()
            scheduler.update_from_output(output, sampled_tokens(scheduler, output, lambda *_: 7))
        assert [len(request.output_token_ids) for request in requests] == [9] * 4
        assert sum(request.num_preemptions for request in requests) > 1
        assert scheduler.kv_cache_manager.block_pool.get_num_free_blocks() == 11
        assert not scheduler.swap_space.held_blocks


SOURCE = """
def preempt(self, victim, output):
    unspent = output.num_scheduled_tokens.pop(victim.request_id, 0)
    valid = victim.num_computed_tokens - unspent
    victim.num_preemptions += 1
    victim.num_tokens_ahead = 0
    output.preempted_req_ids.add(victim.request_id)
    if not self.swap_out(victim, valid, output):
        victim.num_computed_tokens = 0
        victim.status = victim.status.PREEMPTED
        self.waiting.put_back(victim)
    self.kv_cache_manager.free(victim, num_valid_tokens=valid)
    return unspent
"""


def test_who_is_not_running_gives_way_to_nobody():
    scheduler = Scheduler(SchedulerConfig(), KVCacheManager(num_blocks=9, block_size=2))
    scheduler.add_request(Request("a", range(3), 5))
    assert give_way(scheduler, "a") == {}
    assert run_with_preemptions(scheduler)["new"] == "a"

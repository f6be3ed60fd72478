"""Lesson 9: what its checks say of answers that people give, wrong ones and unusual right ones."""

from __future__ import annotations

import bisect
import heapq
import re
from collections import OrderedDict
from copy import copy
from decimal import Decimal
from fractions import Fraction
from typing import ClassVar

import numpy as np
import pytest

from autograder import lessons
from autograder.lessons import lesson09_contest as contest
from autograder.lessons import lesson09_given as given
from autograder.lessons import lesson09_hunt as hunt
from autograder.lessons import lesson09_readings as readings
from autograder.proxy.subject import LocalSubject
from course_lib import parts
from course_lib.scheduling import (
    FCFSRequestQueue,
    PriorityRequestQueue,
    Request,
    RequestQueue,
    RequestStatus,
    SortedRequestQueue,
    VTCRequestQueue,
)
from course_lib.scheduling.policies import nobody_waits, not_in_queue
from course_lib.scheduling.variants.cache_aware import CacheAwareRequestQueue
from lesson_answers import SAME, examine, examine_wrong, named

# 9.1


class PlainDictionary(RequestQueue):
    """Keeps the order of a dictionary, with those who come back in another one."""

    def __init__(self):
        self.back, self.front = {}, {}

    def add(self, request):
        self.back[request.request_id] = request

    def put_back(self, request):
        self.front[request.request_id] = request

    def peek(self):
        for request in self:
            return request
        raise IndexError("empty")

    def pop(self):
        request = self.peek()
        self.remove(request)
        return request

    def remove(self, request):
        for line in (self.front, self.back):
            if request.request_id in line:
                del line[request.request_id]
                return
        raise ValueError(request.request_id)

    def __len__(self):
        return len(self.front) + len(self.back)

    def __iter__(self):
        yield from reversed(self.front.values())
        yield from self.back.values()


class KeyErrors(FCFSRequestQueue):
    """Raises another error."""

    def remove(self, request):
        del self.requests[request.request_id]


class GoesOnWithoutRaising(FCFSRequestQueue):
    """Makes the errors and does not raise them."""

    def peek(self):
        if not self.requests:
            nobody_waits()
        return next(iter(self.requests.values()))

    def pop(self):
        if not self.requests:
            nobody_waits()
        return self.requests.popitem(last=False)[1]

    def remove(self, request):
        if request.request_id not in self.requests:
            not_in_queue(request)
        del self.requests[request.request_id]


class LeavesItToTheDictionary(FCFSRequestQueue):
    """Looks at nothing before."""

    def peek(self):
        return next(iter(self.requests.values()))

    def pop(self):
        return self.requests.popitem(last=False)[1]

    def remove(self, request):
        del self.requests[request.request_id]


class GoesOverKeys(FCFSRequestQueue):
    """Yields ids."""

    def __iter__(self):
        yield from self.requests


class CountsOne(FCFSRequestQueue):
    """Is one too long."""

    def __len__(self):
        return len(self.requests) + 1


class LooksThroughAll(FCFSRequestQueue):
    """Makes a list of all to look at the first."""

    def peek(self):
        if not self.requests:
            raise nobody_waits()
        first, *_ = self.requests.values()
        return first


class CopiesTheLine(FCFSRequestQueue):
    """Makes a new line whenever somebody comes back."""

    def put_back(self, request):
        self.requests = OrderedDict([(request.request_id, request), *self.requests.items()])


class GivesCopies(FCFSRequestQueue):
    """Gives out a copy, on which nobody else looks."""

    def pop(self):
        return copy(super().pop())


class OneLineForAll(FCFSRequestQueue):
    """Keeps all requests of all queues in one place."""

    requests: ClassVar = OrderedDict()

    def __init__(self):
        pass


class CountsByGoingThrough(FCFSRequestQueue):
    """Goes through the line to say how long it is."""

    def __len__(self):
        return sum(1 for _ in self)


# 9.2


def push_under_its_own_key(self, key, request):
    key = self.key(request)
    SortedRequestQueue.push(self, key, request)


def push_whole_numbers(self, key, request):
    SortedRequestQueue.push(self, int(key), request)


def push_and_sort(self, key, request):
    self.num_entries += 1
    self.alive[request.request_id] = self.num_entries
    self.heap.append((key, self.num_entries, request))
    self.heap.sort()


def push_to_a_copy(self, key, request):
    self.heap = [*self.heap]
    SortedRequestQueue.push(self, key, request)


def push_with_a_sorted_insertion(self, key, request):
    self.num_entries += 1
    self.alive[request.request_id] = self.num_entries
    bisect.insort(self.heap, (key, self.num_entries, request))


def peek_until_a_number_is_found(self):
    while self.heap and self.heap[0][1] not in self.alive.values():
        heapq.heappop(self.heap)
    if not self.heap:
        raise nobody_waits()
    return self.heap[0][2]


def peek_and_leave_the_ghosts(self):
    heap = self.heap.copy()
    while heap and not self.is_alive(heap[0]):
        heapq.heappop(heap)
    if not heap:
        raise nobody_waits()
    return heap[0][2]


def peek_and_put_the_ghosts_back(self):
    ghosts = []
    while self.heap and not self.is_alive(self.heap[0]):
        ghosts.append(heapq.heappop(self.heap))
    if not self.heap:
        raise nobody_waits()
    found = self.heap[0][2]
    for ghost in ghosts:
        heapq.heappush(self.heap, ghost)
    return found


def peek_at_whatever_is_there(self):
    try:
        while not self.is_alive(top := self.heap[0]):
            heapq.heappop(self.heap)
    except IndexError:
        raise IndexError("nobody") from None
    return top[-1]


def peek_at_a_copy(self):
    return copy(SortedRequestQueue.peek(self))


def remove_at_sixteen(self, request):
    del_before(self, request)
    if len(self.heap) >= 2 * len(self.alive) + 16:
        self.heap = sorted(entry for entry in self.heap if self.is_alive(entry))


def remove_beyond_twice(self, request):
    del_before(self, request)
    if len(self.heap) > 2 * len(self.alive):
        self.heap = sorted(entry for entry in self.heap if self.is_alive(entry))


def remove_and_keep_by_id(self, request):
    del_before(self, request)
    if len(self.heap) > 2 * len(self.alive) + 16:
        self.heap = sorted(e for e in self.heap if e[2].request_id in self.alive)


def remove_when_seen(self, request):
    if not any(entry[2] is request and self.is_alive(entry) for entry in self.heap):
        raise not_in_queue(request)
    SortedRequestQueue.remove(self, request)


def push_by_tens(self, key, request):
    self.num_entries += 10
    self.alive[request.request_id] = self.num_entries
    heapq.heappush(self.heap, (key, self.num_entries, request))


def push_one_off(self, key, request):
    heapq.heappush(self.heap, (key, self.num_entries, request))
    self.num_entries += 1
    self.alive[request.request_id] = self.num_entries


def push_noted_by_request(self, key, request):
    number = self.num_entries
    self.num_entries += 1
    self.alive[request] = number
    heapq.heappush(self.heap, (key, number, request))


def push_by_length(self, key, request):
    number = len(self.heap)
    self.alive[request.request_id] = number
    heapq.heappush(self.heap, (key, number, request))


def push_number_first(self, key, request):
    self.num_entries += 1
    self.alive[request.request_id] = self.num_entries
    heapq.heappush(self.heap, (self.num_entries, key, request))


def peek_along_the_list(self):
    living = (entry for entry in self.heap if self.is_alive(entry))
    try:
        return next(living)[2]
    except StopIteration:
        raise nobody_waits() from None


def peek_and_shift(self):
    while self.heap and not self.is_alive(self.heap[0]):
        self.heap.pop(0)
    if not self.heap:
        raise nobody_waits()
    return self.heap[0][2]


def remove_counts_it_still(self, request):
    if request.request_id not in self.alive:
        raise not_in_queue(request)
    if len(self.heap) > 2 * len(self.alive) + 16:
        self.heap = sorted(entry for entry in self.heap if self.is_alive(entry))
    del self.alive[request.request_id]


def remove_with_a_longer_heap(self, request):
    del_before(self, request)
    if len(self.heap) > 3 * len(self.alive) + 16:
        self.heap = sorted(entry for entry in self.heap if self.is_alive(entry))


def remove_that_filters_often(self, request):
    del_before(self, request)
    if len(self.heap) - len(self.alive) > 16:
        self.heap = sorted(entry for entry in self.heap if self.is_alive(entry))


def del_before(self, request):
    if self.alive.pop(request.request_id, None) is None:
        raise not_in_queue(request)


def key_the_other_way_round(self, key, request):
    SortedRequestQueue.push(self, -key, request)


def remove_with_a_sort(self, request):
    if self.alive.pop(request.request_id, None) is None:
        raise ValueError(request.request_id)
    if len(self.heap) > 2 * len(self.alive) + 16:
        self.heap[:] = sorted(entry for entry in self.heap if self.is_alive(entry))


def remove_without_heapify(self, request):
    if self.alive.pop(request.request_id, None) is None:
        raise ValueError(request.request_id)
    if len(self.heap) > 2 * len(self.alive) + 16:
        self.heap = [entry for entry in self.heap if self.is_alive(entry)]


def remove_raises_key_error(self, request):
    del self.alive[request.request_id]
    if len(self.heap) > 2 * len(self.alive) + 16:
        self.heap = sorted(entry for entry in self.heap if self.is_alive(entry))


def remove_and_number_anew(self, request):
    del_before(self, request)
    if len(self.heap) > 2 * len(self.alive) + 16:
        living = (entry for entry in self.heap if self.is_alive(entry))
        self.heap = [(key, place, who) for place, (key, _, who) in enumerate(living)]
        self.alive = {who.request_id: place for _, place, who in self.heap}
        self.num_entries = len(self.heap)
        heapq.heapify(self.heap)


def remove_and_ask_for_keys_again(self, request):
    del_before(self, request)
    if len(self.heap) > 2 * len(self.alive) + 16:
        self.heap = sorted((self.key(e[2]), *e[1:]) for e in self.heap if self.is_alive(e))


# 9.3


def in_hundredths_of_a_millisecond(self, request):
    return request.priority, round(request.arrival_time, 5), request.request_id


def whatever_the_case(self, request):
    return request.priority, request.arrival_time, request.request_id.lower()


def aged_whatever_the_case(self, request):
    rank = request.priority * self.ageing_seconds + request.arrival_time
    return rank, request.arrival_time, request.request_id.lower()


def aged_by_division_and_rounded(self, request):
    rank = round(request.priority + request.arrival_time / self.ageing_seconds, 6)
    return rank, request.arrival_time, request.request_id


def due_in_hundredths_of_a_millisecond(self, request):
    return round(request.deadline, 5), request.arrival_time


def aged_by_whole_seconds(self, request):
    rank = request.priority * int(self.ageing_seconds) + request.arrival_time
    return rank, request.arrival_time, request.request_id


def aged_from_zero_on(self, request):
    rank = max(0.0, request.priority * self.ageing_seconds + request.arrival_time)
    return rank, request.arrival_time, request.request_id


def due_or_never(self, request):
    return request.deadline or float("inf"), request.arrival_time


def due_to_begin(self, request):
    return request.deadline - request.max_tokens, request.arrival_time


def late_ones_last(self, request):
    is_late = request.deadline < request.arrival_time
    return is_late, request.deadline, request.arrival_time


def due_then_by_whole_seconds(self, request):
    return request.deadline, round(request.arrival_time)


def longer_ids_later(self, request):
    return request.priority, request.arrival_time, len(request.request_id), request.request_id


def aged_with_longer_ids_later(self, request):
    rank = request.priority * self.ageing_seconds + request.arrival_time
    return rank, request.arrival_time, len(request.request_id), request.request_id


def aged_in_milliseconds(self, request):
    rank = round(request.priority * self.ageing_seconds + request.arrival_time, 3)
    return rank, request.arrival_time, request.request_id


def rest_once_preempted(self, request):
    declared = request.num_prompt_tokens + request.max_tokens
    return declared - (request.num_output_tokens if request.num_preemptions else 0)


def aged_by_a_minute(self, request):
    rank = request.priority * 60 + request.arrival_time
    return rank, request.arrival_time, request.request_id


def due_in_whole_seconds(self, request):
    return request.deadline // 1, request.arrival_time


def in_a_byte(self, request):
    return (request.num_prompt_tokens + request.max_tokens) % 128


def up_to_4096(self, request):
    return min(request.num_prompt_tokens + request.max_tokens, 4096)


def tokens_in_a_list(self, request):
    return [request.num_prompt_tokens + request.max_tokens]


def one_too_few(self, request):
    return request.num_prompt_tokens + request.max_tokens - 1


def as_many_as_the_scheduler_allows(self, request):
    return request.length_limit


def ids_added_up(self, request):
    return sum(request.prompt_token_ids) + request.max_tokens


def fewest_then_earliest(self, request):
    return float(request.num_prompt_tokens + request.max_tokens), request.arrival_time


def rest_of_what_is_computed(self, request):
    declared = request.num_prompt_tokens + request.max_tokens
    return declared - request.num_computed_tokens


def aged_by_division(self, request):
    rank = request.priority + request.arrival_time / self.ageing_seconds
    return (round(rank, 9), request.arrival_time, request.request_id)


def aged_towards_the_future(self, request):
    rank = request.priority - request.arrival_time / self.ageing_seconds
    return (rank, request.arrival_time, request.request_id)


def aged_by_multiplication(self, request):
    rank = request.priority + request.arrival_time * self.ageing_seconds
    return (rank, request.arrival_time, request.request_id)


def due_after_arrival(self, request):
    return (request.arrival_time + request.deadline, request.arrival_time)


# 9.4


class InOneTable(VTCRequestQueue):
    """Finds the level in another way."""

    def add(self, request):
        if request.client_id not in self.queues:
            self.lift(request.client_id)
        self.queues.setdefault(request.client_id, FCFSRequestQueue()).add(request)

    def lift(self, client_id):
        others = [self.counters[each] for each in self.queues] or [
            self.counters[each] for each in [self.last_client] if each is not None
        ]
        if others and min(others) > self.counters[client_id]:
            self.counters[client_id] = min(others)
        else:
            self.counters[client_id] += 0

    def charge(self, generating):
        for client, count in _counted(generating).items():
            self.counters[client] += count * self.output_weight


def _counted(generating):
    counts = {}
    for request in generating:
        counts[request.client_id] = counts.get(request.client_id, 0) + 1
    return counts


class LiftsAfterwards(VTCRequestQueue):
    """Lifts the client when it is among those that wait."""

    def add(self, request):
        is_new = request.client_id not in self.queues
        self.queues.setdefault(request.client_id, FCFSRequestQueue()).add(request)
        if is_new:
            self.lift(request.client_id)


class NotesWhoIsLookedAt(VTCRequestQueue):
    """Takes who is next for one that was taken."""

    def peek(self):
        self.last_client = self.least_served()
        return super().peek()


class NotesWhoHasNothingLeft(VTCRequestQueue):
    """Notes a client only when the last of its requests is taken."""

    def pop(self):
        before = self.last_client
        request = super().pop()
        if request.client_id in self.queues:
            self.last_client = before
        return request


class EarliestOfEquals(VTCRequestQueue):
    """Takes the client, of equals, whose request came first."""

    def least_served(self):
        if not self.queues:
            raise nobody_waits()
        return min(
            self.queues,
            key=lambda each: (self.counters[each], self.queues[each].peek().arrival_time, each),
        )


class ShortestNameOfEquals(VTCRequestQueue):
    """Takes the client, of equals, whose name is the shortest."""

    def least_served(self):
        if not self.queues:
            raise nobody_waits()
        return min(self.queues, key=lambda each: (self.counters[each], len(each), each))


class OpensNoAccounts(VTCRequestQueue):
    """Keeps a counter only of those that were charged or lifted."""

    def lift(self, client_id):
        level = self.counters.get(self.least_served() if self.queues else self.last_client, 0.0)
        if level > self.counters.get(client_id, 0.0):
            self.counters[client_id] = level

    def least_served(self):
        if not self.queues:
            raise IndexError
        return min(self.queues, key=lambda each: (self.counters.get(each, 0.0), each))


class ComparesWithAll(VTCRequestQueue):
    """Lifts to the smallest of all counters that there are."""

    def lift(self, client_id):
        level = min((n for name, n in self.counters.items() if name != client_id), default=0.0)
        self.counters[client_id] = max(self.counters[client_id], level)


class ComparesWithItselfToo(VTCRequestQueue):
    """Lifts to the smallest of all counters, its own among them."""

    def lift(self, client_id):
        level = min(self.counters.values(), default=0.0)
        self.counters[client_id] = max(self.counters[client_id], level)


class ComparesWithItselfWhileOthersWait(VTCRequestQueue):
    """The same, and right where nobody waits."""

    def lift(self, client_id):
        if self.queues:
            level = min(self.counters.values(), default=0.0)
        elif self.last_client is not None:
            level = self.counters[self.last_client]
        else:
            level = 0.0
        self.counters[client_id] = max(self.counters[client_id], level)


class ForgetsTheWeightOfAPrompt(VTCRequestQueue):
    """Charges a prompt by its tokens."""

    def pop(self):
        request = self.peek()
        self.remove(request)
        self.last_client = request.client_id
        if not request.num_preemptions:
            self.counters[request.client_id] += request.num_prompt_tokens
        return request


class TakesFromItsClient(VTCRequestQueue):
    """Takes a request out of its client's queue, and leaves that where it is."""

    def pop(self):
        client = self.least_served()
        request = self.queues[client].pop()
        if request.num_preemptions == 0:
            self.counters[client] += self.input_weight * request.num_prompt_tokens
        self.last_client = client
        return request


class ForgetsPreempted(VTCRequestQueue):
    """Does not remember that it took a request that had been preempted."""

    def pop(self):
        before = self.last_client
        request = super().pop()
        if request.num_preemptions:
            self.last_client = before
        return request


class NotesNobody(VTCRequestQueue):
    """Does not note who was taken."""

    def pop(self):
        request = super().pop()
        self.last_client = None
        return request


class ChargesTheWholeAnswer(VTCRequestQueue):
    """Charges by the length of the answer, at each of its tokens."""

    def charge(self, generating):
        for request in generating:
            self.counters[request.client_id] += self.output_weight * request.num_output_tokens


class ChargesTheAnswerWithThisToken(VTCRequestQueue):
    """The same, with the token that comes."""

    def charge(self, generating):
        for request in generating:
            answer = request.num_output_tokens + 1
            self.counters[request.client_id] += answer * self.output_weight


class ChargesClients(VTCRequestQueue):
    """Charges once, however many of a client's requests there are."""

    def charge(self, generating):
        for client in dict.fromkeys(request.client_id for request in generating):
            self.counters[client] += self.output_weight


class ChargesWhoHasSaidNothing(VTCRequestQueue):
    """Takes who has no token yet for one that was never taken."""

    def pop(self):
        request = self.peek()
        self.remove(request)
        if request.num_output_tokens == 0:
            self.counters[request.client_id] += self.input_weight * request.num_prompt_tokens
        self.last_client = request.client_id
        return request


class TakesAndCharges(VTCRequestQueue):
    """Leaves the empty queue, and charges whoever is taken."""

    def pop(self):
        client = self.least_served()
        request = self.queues[client].pop()
        self.counters[client] += self.input_weight * request.num_prompt_tokens
        self.last_client = client
        return request


class KnownByStatus(VTCRequestQueue):
    """Takes for preempted whose status says so."""

    def pop(self):
        request = self.peek()
        self.remove(request)
        self.last_client = request.client_id
        if request.status is not RequestStatus.PREEMPTED:
            self.counters[request.client_id] += self.input_weight * request.num_prompt_tokens
        return request


class WholeWeights(VTCRequestQueue):
    """Charges whole numbers only."""

    def charge(self, generating):
        for request in generating:
            self.counters[request.client_id] += int(self.output_weight)


class ChargesLists(VTCRequestQueue):
    """Charges requests by their places."""

    def charge(self, generating):
        for place in range(len(generating)):
            self.counters[generating[place].client_id] += self.output_weight


class LiftsByAllRequests(VTCRequestQueue):
    """Looks for the level among the requests that wait."""

    def lift(self, client_id):
        super().lift(client_id)
        waiting = {request.client_id for queue in self.queues.values() for request in queue}
        level = min((self.counters[each] for each in waiting), default=0.0)
        self.counters[client_id] = max(self.counters[client_id], level)


class LooksAtAllRequests(VTCRequestQueue):
    """Looks for the client served least among the requests that wait."""

    def least_served(self):
        if not self.queues:
            raise nobody_waits()
        waiting = (request.client_id for queue in self.queues.values() for request in queue)
        return min(waiting, key=lambda client_id: (self.counters[client_id], client_id))


# 9.6


def forgets_the_passes_of_who_is_due(self, in_line, num_passes):
    place = CacheAwareRequestQueue.choose(self, in_line, num_passes)
    if num_passes[in_line[place].request_id] >= self.max_passes:
        num_passes[in_line[place].request_id] = 0
    return place


def largest_share_first(self, in_line, num_passes):
    if (due := [num_passes[r.request_id] >= self.max_passes for r in in_line]).count(True):
        return due.index(True)
    shares = [self.num_cached_tokens(r) / r.num_prompt_tokens for r in in_line]
    return shares.index(max(shares))


def fewest_to_compute_first(self, in_line, num_passes):
    if (due := [num_passes[r.request_id] >= self.max_passes for r in in_line]).count(True):
        return due.index(True)
    left = [r.num_prompt_tokens - self.num_cached_tokens(r) for r in in_line]
    return left.index(min(left))


def first_where_nobody_is_due(self, in_line, num_passes):
    for place, request in enumerate(in_line):
        if num_passes[request.request_id] >= self.max_passes:
            return place
    return 0


def due_after_eight(self, in_line, num_passes):
    for place, request in enumerate(in_line):
        if num_passes[request.request_id] >= 8:
            return place
    cached = [self.num_cached_tokens(request) for request in in_line]
    return cached.index(max(cached))


def none_has_more(self, in_line, num_passes):
    for place, request in enumerate(in_line):
        if num_passes[request.request_id] >= self.max_passes:
            return place
    cached = self.num_cached_tokens
    return next(
        place
        for place, request in enumerate(in_line)
        if all(cached(request) >= cached(other) for other in in_line)
    )


def who_is_next(self, in_line, num_passes):
    for request in in_line:
        if num_passes[request.request_id] >= self.max_passes:
            return request
    return max(in_line, key=self.num_cached_tokens)


def most_passes_of_those_due(self, in_line, num_passes):
    due = [i for i, r in enumerate(in_line) if num_passes[r.request_id] >= self.max_passes]
    if due:
        return max(due, key=lambda i: num_passes[in_line[i].request_id])
    return max(range(len(in_line)), key=lambda i: self.num_cached_tokens(in_line[i]))


def last_who_is_due(self, in_line, num_passes):
    chosen = max(range(len(in_line)), key=lambda i: self.num_cached_tokens(in_line[i]))
    for place, request in enumerate(in_line):
        if num_passes[request.request_id] >= self.max_passes:
            chosen = place
    return chosen


def chooses_by_what_is_computed(self, in_line, num_passes):
    due = [i for i, r in enumerate(in_line) if num_passes[r.request_id] >= self.max_passes]
    return due[0] if due else in_line.index(max(in_line, key=lambda r: r.num_computed_tokens))


def due_of_the_first_two(self, in_line, num_passes):
    for position, request in enumerate(in_line[:2]):
        if num_passes[request.request_id] >= self.max_passes:
            return position
    cached = [self.num_cached_tokens(request) for request in in_line]
    return cached.index(max(cached))


def numpy_chooses(self, in_line, num_passes):
    import numpy as np

    due = [num_passes.get(r.request_id, 0) >= self.max_passes for r in in_line]
    return np.argmax(due if any(due) else [self.num_cached_tokens(r) for r in in_line])


# 9.7


def rest_over_all(self, request, num_new_tokens, budget):
    return min(num_new_tokens, budget // len(self.requests), budget)


def rest_over_all_at_least_one(self, request, num_new_tokens, budget):
    return min(num_new_tokens, max(1, budget // len(self.requests)))


def rest_over_seats(self, request, num_new_tokens, budget):
    return min(num_new_tokens, budget // min(self.max_num_seqs, len(self.requests)))


def none_for_many(self, request, num_new_tokens, budget):
    return min(num_new_tokens, self.max_num_batched_tokens // len(self.requests), budget)


def none_for_many_seats(self, request, num_new_tokens, budget):
    return min(num_new_tokens, self.max_num_batched_tokens // self.max_num_seqs, budget)


def counted_in_pairs(self, request, num_new_tokens, budget):
    there = sum(one == other for one in self.requests for other in self.requests)
    share = max(self.max_num_batched_tokens // min(there, self.max_num_seqs), 1)
    return min(num_new_tokens, share, budget)


def needed_or_not(self, request, num_new_tokens, budget):
    num_sharing = min(self.max_num_seqs, len(self.requests))
    return min(max(1, self.max_num_batched_tokens // num_sharing), budget)


def rest_over_those_there(self, request, num_new_tokens, budget):
    num_sharing = min(self.max_num_seqs, len(self.requests))
    return min(num_new_tokens, max(1, budget // num_sharing))


def shares_with_who_asks(self, request, num_new_tokens, budget):
    """Who asks is one of the requests, so to count it once more changes nothing."""
    num_sharing = min(len({*self.requests, request.request_id}), self.max_num_seqs)
    return min(num_new_tokens, max(self.max_num_batched_tokens // num_sharing, 1), budget)


def at_least_one_shares(self, request, num_new_tokens, budget):
    num_sharing = max(1, min(len(self.requests), self.max_num_seqs))
    return min(num_new_tokens, max(self.max_num_batched_tokens // num_sharing, 1), budget)


# 9.11


def begins_where_the_last_one_ended(self, request):
    begin = self.last_finish.get(request.client_id, self.virtual_time)
    tokens = request.num_prompt_tokens + request.max_tokens
    return begin + tokens / self.weights.get(request.client_id, 1.0)


def answer_over_weight(self, request):
    begin = max(self.last_finish.get(request.client_id, 0.0), self.virtual_time)
    return begin + request.max_tokens / self.weights.get(request.client_id, 1.0)


def begins_when_it_arrives(self, request):
    start = max(self.virtual_time, self.last_finish.get(request.client_id, request.arrival_time))
    cost = request.num_prompt_tokens + request.max_tokens
    return start + cost / self.weights.get(request.client_id, 1.0)


# 9.9


def on_a_heap_with_ghosts(steps):
    latest, heap, served = {}, [], []
    for step in steps:
        if step[0] == "pop":
            while latest.get(heap[0][1]) != heap[0][0]:
                heapq.heappop(heap)
            served.append(heapq.heappop(heap)[1])
            del latest[served[-1]]
        else:
            latest[step[1]] = step[2]
            heapq.heappush(heap, (step[2], step[1]))
    return served


def with_ghosts_told_by_time(steps):
    latest, heap, served = {}, [], []
    for step in steps:
        if step[0] == "pop":
            while latest[heap[0][1]] != heap[0][0]:
                heapq.heappop(heap)
            served.append(heapq.heappop(heap)[1])
        else:
            latest[step[1]] = step[2]
            heapq.heappush(heap, (step[2], step[1]))
    return served


def in_whole_seconds(steps):
    return hunt.serve([(*step[:2], *(step[2:] and [int(step[2])])) for step in steps])


def shortest_name_of_equals(steps):
    latest, served = {}, []
    for kind, *told in steps:
        if kind == "pop":
            served.append(min(latest, key=lambda name: (latest[name], len(name), name)))
            del latest[served[-1]]
        else:
            latest[told[0]] = told[1]
    return served


KEPT: dict[str, float] = {}


def in_a_table_that_is_kept(steps):
    served = []
    for kind, *told in steps:
        if kind == "pop":
            served.append(min(KEPT, key=lambda name: (KEPT[name], name)))
            del KEPT[served[-1]]
        else:
            KEPT[told[0]] = told[1]
    return served


def best_of_the_first_three(steps):
    heap, served = [], []
    for kind, *told in steps:
        if kind == "pop":
            best = min(heap[:3])
            heap.remove(best)
            heapq.heapify(heap)
            served.append(best[1])
        elif kind == "add":
            heapq.heappush(heap, [told[1], told[0]])
        else:
            next(entry for entry in heap if entry[1] == told[0])[0] = told[1]
    return served


RIGHT = [
    ("9.1", PlainDictionary),
    ("9.2a", push_by_tens),
    ("9.2a", push_with_a_sorted_insertion),
    ("9.2b", peek_at_whatever_is_there),
    ("9.2c", remove_with_a_sort),
    ("9.3b", lambda self, r: np.float64(len(r.prompt_token_ids)) + r.max_tokens),
    ("9.3c", lambda self, r: Fraction(r.num_prompt_tokens + r.max_tokens - r.num_output_tokens)),
    ("9.3a", lambda self, r: [r.priority, r.arrival_time, r.request_id]),
    ("9.3d", aged_by_division),
    ("9.3e", lambda self, r: (r.deadline, r.arrival_time, r.request_id)),
    ("9.4", InOneTable),
    ("9.4", OpensNoAccounts),
    ("9.4", KnownByStatus),
    ("9.6", numpy_chooses),
    ("9.7", at_least_one_shares),
    ("9.7", shares_with_who_asks),
    ("9.9b", on_a_heap_with_ghosts),
]
WRONG = [
    ("9.1", KeyErrors, SAME),
    ("9.1", CountsOne, SAME),
    ("9.1", object(), SAME),
    ("9.1", GoesOnWithoutRaising, "made, not raised"),
    ("9.1", LeavesItToTheDictionary, "the dictionary's own errors"),
    ("9.1", GoesOverKeys, "names in the loop"),
    ("9.1", LooksThroughAll, SAME),
    ("9.1", CopiesTheLine, SAME),
    ("9.1", GivesCopies, SAME),
    ("9.1", OneLineForAll, SAME),
    ("9.1", CountsByGoingThrough, SAME),
    ("9.2a", push_to_a_copy, SAME),
    ("9.2b", peek_until_a_number_is_found, SAME),
    ("9.2b", peek_and_leave_the_ghosts, SAME),
    ("9.2b", peek_and_put_the_ghosts_back, SAME),
    ("9.2c", remove_and_number_anew, SAME),
    ("9.2c", remove_and_ask_for_keys_again, SAME),
    ("9.3a", in_hundredths_of_a_millisecond, SAME),
    ("9.3a", whatever_the_case, SAME),
    ("9.3d", aged_whatever_the_case, SAME),
    ("9.3d", aged_by_division_and_rounded, SAME),
    ("9.3e", due_in_hundredths_of_a_millisecond, SAME),
    ("9.4", NotesWhoIsLookedAt, SAME),
    ("9.4", NotesWhoHasNothingLeft, SAME),
    ("9.4", EarliestOfEquals, SAME),
    ("9.4", ShortestNameOfEquals, SAME),
    ("9.3b", in_a_byte, SAME),
    ("9.3b", up_to_4096, SAME),
    ("9.3b", tokens_in_a_list, SAME),
    ("9.3c", tokens_in_a_list, SAME),
    ("9.9b", shortest_name_of_equals, SAME),
    ("9.3d", aged_by_whole_seconds, SAME),
    ("9.3d", aged_from_zero_on, SAME),
    ("9.3e", due_or_never, SAME),
    ("9.3e", due_to_begin, SAME),
    ("9.3e", late_ones_last, SAME),
    ("9.3e", due_then_by_whole_seconds, SAME),
    ("9.6", due_of_the_first_two, SAME),
    ("9.7", counted_in_pairs, SAME),
    ("9.2a", push_under_its_own_key, "asked for again"),
    ("9.2a", push_whole_numbers, SAME),
    ("9.2a", push_and_sort, SAME),
    ("9.2b", peek_at_a_copy, SAME),
    ("9.2c", remove_at_sixteen, "one too early"),
    ("9.2c", remove_beyond_twice, "none beyond twice the living"),
    ("9.2c", remove_that_filters_often, "16 ghosts at most"),
    ("9.2c", remove_and_keep_by_id, SAME),
    ("9.2a", push_one_off, "two numbers"),
    ("9.2a", push_by_length, "the length of the heap"),
    ("9.2a", push_noted_by_request, "noted under the request"),
    ("9.2a", push_number_first, "the number in front"),
    ("9.2b", peek_along_the_list, "the first in the list"),
    ("9.2b", peek_and_shift, "the list is shifted"),
    ("9.2a", key_the_other_way_round, SAME),
    ("9.2c", remove_raises_key_error, SAME),
    ("9.2c", remove_without_heapify, "filtered, and no heap"),
    ("9.2c", remove_counts_it_still, "asked too early"),
    ("9.2c", remove_with_a_longer_heap, SAME),
    ("9.3a", lambda self, r: r.priority, "the priority alone"),
    ("9.3a", lambda self, r: r.priority + r.arrival_time / 1e9, SAME),
    ("9.3a", longer_ids_later, SAME),
    ("9.3b", one_too_few, SAME),
    ("9.3b", as_many_as_the_scheduler_allows, "what a scheduler allows"),
    ("9.3b", ids_added_up, SAME),
    ("9.3c", lambda self, r: r.length_limit - r.num_output_tokens, "what a scheduler allows"),
    ("9.3d", aged_with_longer_ids_later, SAME),
    ("9.3d", aged_in_milliseconds, SAME),
    ("9.3e", due_in_whole_seconds, SAME),
    ("9.3a", lambda self, r: (r.priority, int(r.arrival_time), r.request_id), SAME),
    ("9.3b", lambda self, r: max(r.num_prompt_tokens, r.max_tokens), SAME),
    ("9.3b", lambda self, r: (r.num_prompt_tokens, r.max_tokens), SAME),
    ("9.3b", lambda self, r: r.num_prompt_tokens + 2 * r.max_tokens, SAME),
    ("9.3c", rest_once_preempted, SAME),
    ("9.3d", aged_by_a_minute, SAME),
    ("9.3e", lambda self, r: (r.priority, r.deadline, r.arrival_time), SAME),
    ("9.3e", lambda self, r: (r.deadline, r.priority), SAME),
    ("9.3e", lambda self, r: (str(r.deadline), r.arrival_time), SAME),
    ("9.3e", lambda self, r: (min(r.deadline, 86_400.0), r.arrival_time), SAME),
    ("9.3b", lambda self, r: 7, SAME),
    ("9.3b", lambda self, r: r.num_tokens, "what is there"),
    ("9.3b", fewest_then_earliest, "the arrival between equals"),
    ("9.3c", rest_of_what_is_computed, "less what is computed"),
    ("9.3d", lambda self, r: r.priority, "the priority alone"),
    ("9.3d", aged_towards_the_future, "later ones gain"),
    ("9.3d", aged_by_multiplication, "times instead of over"),
    ("9.3e", due_after_arrival, "counted from the arrival"),
    ("9.4", LooksAtAllRequests, SAME),
    ("9.4", ChargesLists, SAME),
    ("9.4", WholeWeights, SAME),
    ("9.4", LiftsByAllRequests, SAME),
    ("9.4", LiftsAfterwards, "no lift"),
    ("9.4", NotesNobody, "no lift where nobody waits"),
    ("9.4", ForgetsPreempted, "who came back is not noted"),
    ("9.4", ForgetsTheWeightOfAPrompt, "the weight of a prompt"),
    ("9.4", ComparesWithAll, "lifts to anybody"),
    ("9.4", ComparesWithItselfToo, "lifts to anybody, itself too"),
    ("9.4", ComparesWithItselfWhileOthersWait, "lifts to anybody while somebody waits"),
    ("9.4", TakesFromItsClient, "an empty queue stays"),
    ("9.4", TakesAndCharges, "an empty queue stays, and more"),
    ("9.4", ChargesTheWholeAnswer, "all tokens so far"),
    ("9.4", ChargesTheAnswerWithThisToken, "all tokens so far, and this one"),
    ("9.4", ChargesClients, "once for a client"),
    ("9.4", ChargesWhoHasSaidNothing, "known by its tokens"),
    ("9.6", none_has_more, SAME),
    ("9.6", first_where_nobody_is_due, "the cache is not asked"),
    ("9.6", due_after_eight, SAME),
    ("9.6", largest_share_first, SAME),
    ("9.6", fewest_to_compute_first, SAME),
    ("9.6", forgets_the_passes_of_who_is_due, SAME),
    ("9.6", who_is_next, "the request, not its position"),
    ("9.6", chooses_by_what_is_computed, "computed, not cached"),
    ("9.6", most_passes_of_those_due, "the one passed over most"),
    ("9.6", last_who_is_due, "the last of those that are due"),
    ("9.6", lambda self, in_line, num_passes: in_line[0].request_id, SAME),
    ("9.6", lambda self, in_line, num_passes: 0, "always the first in line"),
    ("9.7", rest_over_all, "what is left, among all"),
    ("9.7", rest_over_all_at_least_one, "what is left, among all, at least one"),
    ("9.7", rest_over_those_there, "shares of what is left"),
    ("9.7", rest_over_seats, "shares of what is left, or none"),
    ("9.7", none_for_many, "more than fit, or none"),
    ("9.7", none_for_many_seats, "empty seats share, or none"),
    ("9.7", needed_or_not, "the whole share"),
    ("9.7", lambda self, request, num_new_tokens, budget: budget, SAME),
    ("9.11", begins_where_the_last_one_ended, "saves up, once it is known"),
    ("9.11", answer_over_weight, "the answer alone"),
    ("9.9b", in_whole_seconds, SAME),
    ("9.9b", in_a_table_that_is_kept, SAME),
    ("9.9b", best_of_the_first_three, SAME),
    ("9.11", begins_when_it_arrives, SAME),
    ("9.9b", with_ghosts_told_by_time, "a ghost of who was served"),
    ("9.9b", lambda steps: [step[1] for step in steps if len(step) > 1], SAME),
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
def test_a_wrong_answer_loses_points(case):
    exercise_id, answer, name = case
    finding = examine_wrong(exercise_id, answer)
    assert finding.fraction < 1.0
    assert named(finding) == name


# What the first message says


def complaint_of(exercise_id, answer):
    return examine(exercise_id, answer).counterexample.complaint


def test_an_error_that_is_not_raised_is_told_from_one_that_nobody_makes(unhurried):
    finding = examine("9.1", GoesOnWithoutRaising)
    assert finding.confirmed
    assert "it is to raise an IndexError" in finding.counterexample.complaint
    assert not examine("9.1", LeavesItToTheDictionary).confirmed


def test_a_key_that_is_to_be_a_number_is_told_so(unhurried):
    got = examine("9.3b", tokens_in_a_list).counterexample.got
    assert "this key is to be a number, and is of type list" in got


def test_names_in_an_array_are_told_to_make_a_list():
    answer = {"seed": 1, **readings.readings(1).answer}
    finding = examine("9.8", {**answer, "line": np.array(answer["line"])})
    assert "make a list of it, with `.tolist()`" in finding.counterexample.got


def test_a_choice_that_goes_wrong_behind_the_second_is_told_by_few(unhurried):
    case = examine("9.6", due_of_the_first_two).counterexample.case
    assert case.splitlines()[-1].startswith("choose_among(")


def test_too_long_a_heap_is_told_with_its_lengths(unhurried):
    case = examine("9.2c", remove_counts_it_still).counterexample
    assert case.expected.startswith("'few ghosts'")
    assert "entries, 0 alive; at most 2 * 0 + 16" in case.got


def test_a_heap_that_is_looked_through_is_told_when_it_may_be(unhurried):
    assert "over 16 entries beyond twice the living" in complaint_of("9.2c", remove_when_seen)


@pytest.mark.parametrize(
    ("exercise_id", "answer", "num_lines"),
    [
        ("9.1", KeyErrors, 3),
        ("9.2a", push_by_length, 4),
        ("9.2b", peek_and_shift, 8),
        ("9.2c", remove_at_sixteen, 3),
        ("9.2c", remove_without_heapify, 8),
    ],
)
def test_a_failing_life_has_no_steps_that_it_can_do_without(exercise_id, answer, num_lines):
    case = examine(exercise_id, answer).counterexample.case
    assert len(case.splitlines()) <= num_lines, case


def test_a_line_that_all_queues_have_in_common_is_told_by_two_side_by_side():
    case = examine("9.1", OneLineForAll).counterexample.case.splitlines()
    assert case[-1] == "beside_another(obj)"
    assert len(case) <= 5


def test_a_request_for_a_position_is_told_from_other_mistakes(unhurried):
    finding = examine("9.6", who_is_next)
    assert finding.misconception.name == "the request, not its position"
    assert "TypeError" in finding.counterexample.got


@pytest.mark.parametrize("seed", range(3))
def test_nothing_is_left_of_a_budget_but_what_an_iteration_has(seed, unhurried):
    """Whatever case is shown, its state can come to pass."""
    exercise = lessons.find("9.7")
    finding = exercise.examine(LocalSubject(rest_over_all, 3.0), seed=seed)
    case = finding.counterexample.case
    whole = int(re.search(r"max_num_batched_tokens=(\d+)", case)[1])
    assert all(int(left) <= whole for left in re.findall(r"limit_chunk\(.*, (\d+)\)", case))
    for asked in re.findall(r"limit_chunk\((\w+),", case):
        assert f"add_request({asked})" in case


@pytest.mark.parametrize(
    ("name", "state", "said"),
    [
        ("c", "23", "a counter is a number, and '23' is text: write it without quotes"),
        ("c", 24, "Steps that change the counter of c: 10, 11"),
        ("step 4", "a", "'a' is a client; asked for is which of its requests"),
        ("step 4", "b1", "Then requests of a and b wait, and the smallest counters are equal"),
        ("step 5", "a2", "Then requests of a and b wait"),
        ("step 4", 4, 'who is taken is the name of a request, such as "a1"'),
        ("step 4", " a1", "' a1' begins or ends with a blank"),
    ],
)
def test_a_wrong_state_is_told_where_to_look(name, state, said):
    answer = {"seed": 1, **given.counters_to_write(1).answer, name: state}
    assert said in complaint_of("9.5", answer)


# Tasks by hand


@pytest.mark.parametrize("seed", range(8))
def test_counters_by_hand_are_those_of_the_queue_and_somebody_is_lifted(seed):
    answer = given.counters_to_write(seed).answer
    assert answer != given.counters_under(given.NoLift, seed)
    assert sum(name.startswith("step") for name in answer) >= 3
    assert examine("9.5", {"seed": seed, **answer}).fraction == 1.0
    as_floats = {name: float(s) if isinstance(s, int) else s for name, s in answer.items()}
    assert examine("9.5", {**as_floats, "seed": seed}).fraction == 1.0


@pytest.mark.parametrize(
    ("name", "state", "said"),
    [
        ("line", ["E", "D", "C", "B", "A"], "Insert one at a time: A, then B before or behind it"),
        ("shortest first", ["C", "E", "A", "B", "D"], "the names by their tokens"),
        ("a is promised", 2, "b should get one request in 3"),
        ("a gets", 6, "Write down the names of the requests"),
        ("line", ["D", "E ", "C", "B", "A"], "'E ' begins or ends with a blank"),
    ],
)
def test_a_wrong_reading_is_told_where_to_look(name, state, said):
    answer = {"seed": 1, **readings.readings(1).answer, name: state}
    assert said in complaint_of("9.8", answer)


def test_a_whole_number_may_be_what_comes_of_a_division():
    answer = {"seed": 1, **readings.readings(1).answer}
    answer |= {name: float(answer[name]) for name in ("a is promised", "a gets")}
    assert examine("9.8", answer).fraction == 1.0
    assert examine("9.8", {**answer, "a gets": 4.5}).fraction < 1.0


def test_who_believes_the_weights_alone_is_told_what_reads_them():
    right = readings.readings(1).answer
    finding = examine("9.8", {"seed": 1, **right, "a gets": right["a is promised"]})
    assert named(finding) == "the shares decide"


@pytest.mark.parametrize("seed", range(8))
def test_the_two_policies_do_not_do_what_they_say(seed):
    answer = readings.readings(seed).answer
    assert answer["line"] != answer["shortest first"]
    assert sorted(answer["line"]) == list("ABCDE")
    assert answer["a gets"] < answer["a is promised"] <= 12
    assert examine("9.8", {"seed": seed, **answer}).fraction == 1.0


# The hunt


@pytest.mark.parametrize(
    ("life", "said"),
    [
        ([("add", "A", 0), ("add", "B", 1), ("message", "B", 2), ("pop",)], "it serves A"),
        ([("pop",)], "step 1 takes somebody, and nobody waits"),
        ([("message", "A", 1)], "A does not wait"),
        ([("add", "A", 1), ("add", "A", 2)], "A waits already"),
        (
            [("add", "A", 5), ("add", "B", 1), ("message", "A", 0), ("pop",)],
            "times do not decrease",
        ),
        ([("add", "A", 0), ("message", "A", float("nan")), ("pop",)], "times do not decrease"),
        ([("join", "A", 1)], "is no step"),
        (5, "it is a list"),
    ],
)
def test_a_life_that_exposes_nothing_is_told_why(life, said):
    finding = examine("9.9a", life)
    assert finding.fraction == 0.0
    assert said in finding.counterexample.complaint


@pytest.mark.parametrize(
    ("messages", "name"),
    [
        ([("message", "B", 3)], "put right by luck"),
        ([("message", "C", 3)], "the order does not change"),
        (
            [("message", "A", 3), ("message", "B", 4), ("message", "C", 5)],
            "the order does not change",
        ),
    ],
)
def test_who_moves_a_session_is_not_told_that_nothing_moved(messages, name):
    come = [("add", each, time) for time, each in enumerate("ABC")]
    assert named(examine("9.9a", [*come, *messages, ("pop",), ("pop",), ("pop",)])) == name


def test_the_example_of_the_pull_request_exposes_the_bug():
    life = [
        ("add", "A", 0),
        ("add", "B", 1),
        ("message", "B", 2),
        ("message", "A", 10),
        ("pop",),
        ("pop",),
    ]
    assert hunt.suspect(life) == ["A", "B"]
    assert examine("9.9a", life).fraction == 1.0


# The contest


@pytest.mark.parametrize("seed", range(2))
def test_floor_and_bound_of_the_contest_keep_their_distance(seed):
    bound, counting, shortest = (
        contest.contest(LocalSubject(key, 3.0), seed)
        for key in (contest.large_ones_wait, contest.waiting_counts, contest.shortest)
    )
    assert bound["worth"] > 0.4
    assert bound["tail"] < contest.TAIL_FROM
    assert counting["worth"] / (0.6 * bound["worth"]) > 0.4
    assert shortest["worth"] < 0.6 * bound["worth"]


@pytest.mark.parametrize("key", [None, "0", float("nan"), np.array([1.0]), Decimal(1)])
def test_a_key_that_cannot_be_compared_is_told_so(key):
    finding = examine("9.10", lambda prompt_tokens, max_tokens, arrival_time: key)
    assert finding.fraction == 0.0
    if key is not None:
        assert "a key is a number" in finding.counterexample.complaint
        assert "`float(...)` makes one" in finding.counterexample.complaint


# What must show


def test_a_queue_stands_on_ones_own_heap(workspace):
    parts.save("SortedRequestQueue.push", PUSH)
    parts.save("PriorityRequestQueue.key", KEY)
    make = parts.get("PriorityRequestQueue")
    assert issubclass(make, PriorityRequestQueue)
    assert make.push.__module__.startswith("my_engine")
    queue = make()
    for name, priority in (("late", 1), ("early", 0), ("same", 0)):
        queue.add(Request(name, [1], 1, priority))
    assert [queue.pop().request_id for _ in range(3)] == ["early", "same", "late"]
    assert parts.get("SJFRequestQueue").push.__module__.startswith("my_engine")


PUSH = """
import heapq

def push(self, key, request):
    self.num_entries += 1
    self.alive[request.request_id] = self.num_entries
    heapq.heappush(self.heap, (key, self.num_entries, request))
"""
KEY = """
def key(self, request):
    return (request.priority, request.arrival_time, request.request_id)
"""

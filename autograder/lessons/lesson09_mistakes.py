"""Lesson 9: what people get wrong about queues, and why it is wrong."""

from __future__ import annotations

import heapq
from collections.abc import Iterator
from typing import Any

from autograder.checks.finding import Misconception
from course_lib.scheduling.policies import (
    FCFSRequestQueue,
    SortedRequestQueue,
    nobody_waits,
    not_in_queue,
)
from course_lib.scheduling.request import Request

# 9.1, first come


class ComesBackLast(FCFSRequestQueue):
    """Puts who comes back behind all others."""

    def put_back(self, request: Request) -> None:
        """Put it at the back."""
        self.add(request)


class RemovesSilently(FCFSRequestQueue):
    """Says nothing when there is nobody to remove."""

    def remove(self, request: Request) -> None:
        """Take a request out, if it is there."""
        self.requests.pop(request.request_id, None)


class NewestFirst(FCFSRequestQueue):
    """Serves who came last."""

    def peek(self) -> Request:
        """Return the last one."""
        if not self.requests:
            raise nobody_waits()
        return next(reversed(self.requests.values()))

    def pop(self) -> Request:
        """Take the last one."""
        request = self.peek()
        self.remove(request)
        return request


class LooksAndTakes(FCFSRequestQueue):
    """Takes a request out when somebody only looks."""

    def peek(self) -> Request:
        """Take the first one."""
        return self.pop()


class AnswersNone(FCFSRequestQueue):
    """Returns None where nobody waits."""

    def peek(self) -> Request:
        """Return the first one, or None."""
        return next(iter(self.requests.values()), None)  # type: ignore[return-value]

    def pop(self) -> Request:
        """Take the first one, or return None."""
        return super().pop() if self.requests else None  # type: ignore[return-value]


class ErrorsOfTheDictionary(FCFSRequestQueue):
    """Raises nothing itself; the dictionary does."""

    def peek(self) -> Request:
        """Return the first one."""
        return next(iter(self.requests.values()))

    def pop(self) -> Request:
        """Take the first one."""
        return self.requests.popitem(last=False)[1]

    def remove(self, request: Request) -> None:
        """Take a request out."""
        del self.requests[request.request_id]


class MakesErrors(ErrorsOfTheDictionary):
    """Makes the right errors, raises none of them, and goes on."""

    def peek(self) -> Request:
        """Return the first one."""
        if not self.requests:
            nobody_waits()
        return super().peek()

    def pop(self) -> Request:
        """Take the first one."""
        if not self.requests:
            nobody_waits()
        return super().pop()

    def remove(self, request: Request) -> None:
        """Take a request out."""
        if request.request_id not in self.requests:
            not_in_queue(request)
        super().remove(request)


class YieldsNames(FCFSRequestQueue):
    """Goes over the keys of its dictionary."""

    def __iter__(self) -> Iterator[Any]:
        """Yield the names of the requests."""
        return iter(self.requests)


FIRST_COME = (
    Misconception(
        "comes back last",
        "Who was preempted has waited already, and was promised an answer; it goes to the front.",
        ComesBackLast,
    ),
    Misconception(
        "removing is silent",
        "Who removes what is not there has lost track of it, and should hear of it: a ValueError.",
        RemovesSilently,
    ),
    Misconception(
        "the newest first",
        "That is last come, first served: those who have waited longest wait on.",
        NewestFirst,
    ),
    Misconception(
        "looking takes",
        "The scheduler looks at the first request, finds no room for it and leaves it there.",
        LooksAndTakes,
    ),
    Misconception(
        "None where nobody waits",
        "None would be taken for a request. An empty queue raises an IndexError.",
        AnswersNone,
    ),
    Misconception(
        "the dictionary's own errors",
        "Where nobody waits, and where who is removed is not there, a dictionary raises errors of "
        "other kinds. Look first, then `raise nobody_waits()` or `raise not_in_queue(request)`.",
        ErrorsOfTheDictionary,
    ),
    Misconception(
        "made, not raised",
        "`nobody_waits()` only makes an error, and the next line is run all the same. Write "
        "`raise` in front of it, and of `not_in_queue(request)`.",
        MakesErrors,
        evidence=r"(?m)^ *(nobody_waits|not_in_queue)\(",
    ),
    Misconception(
        "names in the loop",
        "A loop over a dictionary goes over its keys, which are ids here. Its `.values()` are the "
        "requests.",
        YieldsNames,
    ),
)

# 9.2, the heap


def request_decides(self: SortedRequestQueue, key: Any, request: Request) -> None:
    """Number all entries alike, so that equal keys compare requests."""
    self.num_entries = 1
    self.alive[request.request_id] = 1
    heapq.heappush(self.heap, (key, 1, request))


def number_of_the_living(self: SortedRequestQueue, key: Any, request: Request) -> None:
    """Take the number of those who wait for a number of one's own."""
    self.alive[request.request_id] = len(self.alive) + 1
    heapq.heappush(self.heap, (key, self.alive[request.request_id], request))


def length_of_the_heap(self: SortedRequestQueue, key: Any, request: Request) -> None:
    """Take the number of entries for a number of one's own."""
    self.alive[request.request_id] = len(self.heap)
    heapq.heappush(self.heap, (key, self.alive[request.request_id], request))


def not_alive(self: SortedRequestQueue, key: Any, request: Request) -> None:
    """Enter a request and forget to note its number."""
    self.num_entries += 1
    heapq.heappush(self.heap, (key, self.num_entries, request))


def noted_by_request(self: SortedRequestQueue, key: Any, request: Request) -> None:
    """Note the number under the request, where nobody looks for it."""
    self.num_entries += 1
    self.alive[request] = self.num_entries  # type: ignore[index]
    heapq.heappush(self.heap, (key, self.num_entries, request))


def appended(self: SortedRequestQueue, key: Any, request: Request) -> None:
    """Append to the list, which is no heap then."""
    self.num_entries += 1
    self.alive[request.request_id] = self.num_entries
    self.heap.append((key, self.num_entries, request))


def newest_of_equals(self: SortedRequestQueue, key: Any, request: Request) -> None:
    """Count down, so that of equal keys the last one is first."""
    self.num_entries -= 1
    self.alive[request.request_id] = self.num_entries
    heapq.heappush(self.heap, (key, self.num_entries, request))


def another_number_is_alive(self: SortedRequestQueue, key: Any, request: Request) -> None:
    """Count up between the two places at which the number is written."""
    heapq.heappush(self.heap, (key, self.num_entries, request))
    self.num_entries += 1
    self.alive[request.request_id] = self.num_entries


def number_in_front(self: SortedRequestQueue, key: Any, request: Request) -> None:
    """Put the number before the key."""
    self.num_entries += 1
    self.alive[request.request_id] = self.num_entries
    heapq.heappush(self.heap, (self.num_entries, key, request))


def asks_for_the_key_again(self: SortedRequestQueue, key: Any, request: Request) -> None:
    """Enter a request under the key that it has now."""
    SortedRequestQueue.push(self, self.key(request), request)


PUSH = (
    Misconception(
        "the request decides",
        "Where key and number are equal, the requests themselves are compared, and cannot be. So "
        "no two entries may have the same number.",
        request_decides,
    ),
    Misconception(
        "a number that comes again",
        "When some have left, the number of those who wait is one that was given before: two "
        "entries, one of them perhaps a ghost, are taken for one.",
        number_of_the_living,
    ),
    Misconception(
        "the length of the heap",
        "When entries have left the heap, its length is a number that was given before. Count up "
        "in `num_entries`, which never falls.",
        length_of_the_heap,
    ),
    Misconception(
        "not noted",
        "An entry whose number is not in `alive` is a ghost from the start.",
        not_alive,
    ),
    Misconception(
        "noted under the request",
        "`alive` has the number of each waiting request by its id, so nobody finds what is noted "
        "under the request itself. Write `self.alive[request.request_id]`.",
        noted_by_request,
        evidence=r"\.alive\[request\]",
    ),
    Misconception(
        "two numbers",
        "The entry has one number and `alive` another, so it is a ghost from the start. Count up "
        "first, then write the same number at both places.",
        another_number_is_alive,
    ),
    Misconception(
        "the number in front",
        "Tuples are compared from the left, so the key stands in front; and `is_alive` looks for "
        "the number in the middle: `(key, number, request)`.",
        number_in_front,
    ),
    Misconception(
        "a list, no heap",
        "`append` puts the entry last. `heapq.heappush` moves it up to where its key belongs.",
        appended,
    ),
    Misconception(
        "asked for again",
        "The key to enter a request under is the one that was given. Asked for again, it may be "
        "another one.",
        asks_for_the_key_again,
        evidence=r"self\.key\(",
    ),
    Misconception(
        "the newest of equals",
        "Of equal keys, who was put in first is served first: numbers go up.",
        newest_of_equals,
    ),
)


def serves_ghosts(self: SortedRequestQueue) -> Request:
    """Return what is on top, be it a ghost."""
    if not self.heap:
        raise nobody_waits()
    return self.heap[0][2]


def takes_what_it_sees(self: SortedRequestQueue) -> Request:
    """Take the entry off the heap."""
    request = SortedRequestQueue.peek(self)
    heapq.heappop(self.heap)
    return request


def one_ghost_only(self: SortedRequestQueue) -> Request:
    """Take one ghost off, and believe that there is no other."""
    if self.heap and not self.is_alive(self.heap[0]):
        heapq.heappop(self.heap)
    if not self.heap:
        raise nobody_waits()
    return self.heap[0][2]


def first_in_the_list(self: SortedRequestQueue) -> Request:
    """Return the first living one of the list, as if all of it were sorted."""
    for entry in self.heap:
        if self.is_alive(entry):
            return entry[2]
    raise nobody_waits()


def shifts_the_list(self: SortedRequestQueue) -> Request:
    """Take ghosts off the front of the list, where the others close up."""
    while self.heap and not self.is_alive(self.heap[0]):
        del self.heap[0]
    if not self.heap:
        raise nobody_waits()
    return self.heap[0][2]


PEEK = (
    Misconception(
        "ghosts are served",
        "What is on top may be an entry of a request that has left. Ask `is_alive`.",
        serves_ghosts,
    ),
    Misconception(
        "looking takes",
        "Who only looks leaves the request where it is; the next look must find it again.",
        takes_what_it_sees,
    ),
    Misconception(
        "one ghost only",
        "Behind a ghost there may be another one. Go on until somebody is alive.",
        one_ghost_only,
    ),
    Misconception(
        "the first in the list",
        "Only the top of a heap is in its place; behind it the list is not sorted. Take ghosts off "
        "the top with `heapq.heappop` until somebody alive is there.",
        first_in_the_list,
    ),
    Misconception(
        "the list is shifted",
        "Without its first item the list need not be a heap. `heapq.heappop` takes the top off and "
        "leaves a heap.",
        shifts_the_list,
    ),
)


def leaves_silently(self: SortedRequestQueue, request: Request) -> None:
    """Say nothing when there is nobody to remove."""
    if request.request_id in self.alive:
        SortedRequestQueue.remove(self, request)


def ghosts_pile_up(self: SortedRequestQueue, request: Request) -> None:
    """Let ghosts lie until they come to the top."""
    if request.request_id not in self.alive:
        raise ValueError(request.request_id)
    del self.alive[request.request_id]


def living_in_another_order(self: SortedRequestQueue, request: Request) -> None:
    """Throw the ghosts out, and turn the order of the living round."""
    ghosts_pile_up(self, request)
    if len(self.heap) > 2 * len(self.alive) + 16:
        self.heap[:] = reversed([entry for entry in self.heap if self.is_alive(entry)])


def asks_too_early(self: SortedRequestQueue, request: Request) -> None:
    """Throw the ghosts out before the request is one of them."""
    if request.request_id not in self.alive:
        raise ValueError(request.request_id)
    if len(self.heap) > 2 * len(self.alive) + 16:
        self.heap = [entry for entry in self.heap if self.is_alive(entry)]
        heapq.heapify(self.heap)
    del self.alive[request.request_id]


def filtered_only(self: SortedRequestQueue, request: Request) -> None:
    """Leave the living entries where they lie."""
    ghosts_pile_up(self, request)
    if len(self.heap) > 2 * len(self.alive) + 16:
        self.heap[:] = [entry for entry in self.heap if self.is_alive(entry)]


def only_the_top(self: SortedRequestQueue, request: Request) -> None:
    """Take off what is on top, whoever it is."""
    if request.request_id not in self.alive:
        raise ValueError(request.request_id)
    del self.alive[heapq.heappop(self.heap)[2].request_id]


def one_too_early(self: SortedRequestQueue, request: Request) -> None:
    """Throw the ghosts out when there are 16 entries beyond twice the living."""
    ghosts_pile_up(self, request)
    if len(self.heap) >= 2 * len(self.alive) + 16:
        self.heap = sorted(entry for entry in self.heap if self.is_alive(entry))


def beyond_twice_the_living(self: SortedRequestQueue, request: Request) -> None:
    """Let no entries stay beyond twice the living."""
    ghosts_pile_up(self, request)
    if len(self.heap) > 2 * len(self.alive):
        self.heap = sorted(entry for entry in self.heap if self.is_alive(entry))


def beyond_the_living(self: SortedRequestQueue, request: Request) -> None:
    """Let 16 ghosts stay, however many are alive."""
    ghosts_pile_up(self, request)
    if len(self.heap) > len(self.alive) + 16:
        self.heap = sorted(entry for entry in self.heap if self.is_alive(entry))


REMOVE = (
    Misconception(
        "removing is silent",
        "Who removes what is not there has lost track of it, and should hear of it: a ValueError.",
        leaves_silently,
    ),
    Misconception(
        "ghosts pile up",
        "Clients that go away leave their entries behind. If those stay, the heap grows for ever.",
        ghosts_pile_up,
    ),
    Misconception(
        "no heap any more",
        "What is left of a heap in another order is a list. `heapq.heapify` makes it a heap.",
        living_in_another_order,
    ),
    Misconception(
        "filtered, and no heap",
        "When the ghosts between them are gone, the living close up, and a smaller one may come to "
        "lie below a larger one. `heapq.heapify` makes a heap of them.",
        filtered_only,
    ),
    Misconception(
        "asked too early",
        "Who leaves is counted among the living still, so the heap may stay too long. Take its "
        "number out of `alive` first, then compare the lengths.",
        asks_too_early,
    ),
    Misconception(
        "one too early",
        "With 16 entries beyond twice the living the ghosts may stay; with more they are thrown "
        "out.",
        one_too_early,
    ),
    Misconception(
        "none beyond twice the living",
        "A few ghosts do no harm, and to throw them out goes through the whole heap: 16 entries "
        "beyond twice the living may stay.",
        beyond_twice_the_living,
    ),
    Misconception(
        "16 ghosts at most",
        "Where thousands wait, every 17th `remove` would go through all of them. As many ghosts as "
        "there are living may stay, and 16 more.",
        beyond_the_living,
    ),
    Misconception(
        "the top instead",
        "The one to be removed may be anywhere, and is seldom the one that is served next.",
        only_the_top,
    ),
)

"""Lesson 9: what people get wrong about queues, and why it is wrong."""

from __future__ import annotations

import heapq
from collections.abc import Callable
from typing import Any

from autograder.checks.finding import Misconception
from course_lib.scheduling.policies import (
    FCFSRequestQueue,
    SortedRequestQueue,
    nobody_waits,
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


def not_alive(self: SortedRequestQueue, key: Any, request: Request) -> None:
    """Enter a request and forget to note its number."""
    self.num_entries += 1
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
        "not noted",
        "An entry whose number is not in `alive` is a ghost from the start.",
        not_alive,
    ),
    Misconception(
        "a list, no heap",
        "`append` puts the entry last. `heapq.heappush` moves it up to where its key belongs.",
        appended,
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


def looks_through_all(self: SortedRequestQueue) -> Request:
    """Look for the smallest entry among all."""
    living = [entry for entry in self.heap if self.is_alive(entry)]
    if not living:
        raise nobody_waits()
    self.heap[:] = sorted(living)
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
    """Throw the ghosts out by swapping the last entry into each gap."""
    ghosts_pile_up(self, request)
    if len(self.heap) > 2 * len(self.alive) + 16:
        self.heap[:] = reversed([entry for entry in self.heap if self.is_alive(entry)])


def only_the_top(self: SortedRequestQueue, request: Request) -> None:
    """Take off what is on top, whoever it is."""
    if request.request_id not in self.alive:
        raise ValueError(request.request_id)
    del self.alive[heapq.heappop(self.heap)[2].request_id]


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
        "the top instead",
        "The one to be removed may be anywhere, and is seldom the one that is served next.",
        only_the_top,
    ),
)

# 9.3, keys

Key = Callable[[Any, Request], Any]


def _size(request: Request) -> int:
    return request.num_prompt_tokens + request.max_tokens


def _key(function: Callable[[Any, Request], Any]) -> Key:
    """Return the function under the name that a method has."""

    def key(self: Any, request: Request) -> Any:
        return function(self, request)

    return key


PRIORITY = (
    Misconception(
        "the largest number first",
        "A lower priority value is more important, as in vLLM: −1 comes before 0.",
        _key(lambda _, r: (-r.priority, r.arrival_time, r.request_id)),
    ),
    Misconception(
        "arrival in front",
        "Then priority decides only between requests that arrive at the very same moment.",
        _key(lambda _, r: (r.arrival_time, r.priority, r.request_id)),
    ),
    Misconception(
        "the id between equals",
        "Of equally important ones, who came earlier goes first, whatever it is called.",
        _key(lambda _, r: (r.priority, r.request_id)),
    ),
    Misconception(
        "no id",
        "Of the same priority and arrival, the smaller id goes first.",
        _key(lambda _, r: (r.priority, r.arrival_time)),
    ),
)
SHORTEST = (
    Misconception(
        "the prompt alone",
        "An answer takes time as well: each of its tokens is an iteration.",
        _key(lambda _, r: r.num_prompt_tokens),
    ),
    Misconception(
        "the answer alone",
        "A prompt of thousands of tokens is work as well.",
        _key(lambda _, r: r.max_tokens),
    ),
    Misconception(
        "the longest first",
        "The smallest key is served first; with a minus sign that is the longest.",
        _key(lambda _, r: -_size(r)),
    ),
    Misconception(
        "what remains",
        "That is SRPT. SJF sorts by the whole, whatever is done of it.",
        _key(lambda _, r: _size(r) - r.num_output_tokens),
    ),
)
REMAINING = (
    Misconception(
        "the whole",
        "That is SJF. Of 20 tokens, 18 may be there already.",
        _key(lambda _, r: _size(r)),
    ),
    Misconception(
        "forgets the prompt",
        "The prompt is work too, and for who comes back it has to be computed again.",
        _key(lambda _, r: r.max_tokens - r.num_output_tokens),
    ),
    Misconception(
        "adds what is done",
        "What is generated is done; it makes the rest shorter.",
        _key(lambda _, r: _size(r) + r.num_output_tokens),
    ),
    Misconception(
        "the longest first",
        "The smallest key is served first; with a minus sign that is the longest.",
        _key(lambda _, r: r.num_output_tokens - _size(r)),
    ),
)
AGEING = (
    Misconception(
        "later ones gain",
        "With a minus before the arrival, who comes later becomes more important.",
        _key(lambda q, r: (r.priority - r.arrival_time / q.ageing_seconds, r.arrival_time)),
    ),
    Misconception(
        "times instead of over",
        "Ageing by one takes `ageing_seconds`: the larger it is, the less a second counts.",
        _key(lambda q, r: (r.priority + r.arrival_time * q.ageing_seconds, r.arrival_time)),
    ),
    Misconception(
        "nobody ages",
        "By priority alone, who is unimportant waits for as long as important ones come.",
        _key(lambda _, r: (r.priority, r.arrival_time, r.request_id)),
    ),
    Misconception(
        "a priority a second",
        "Nothing here says how fast they age. A unit of priority is worth `ageing_seconds`.",
        _key(lambda _, r: (r.priority + r.arrival_time, r.arrival_time, r.request_id)),
    ),
    Misconception(
        "ties as they come",
        "Where the aged priorities are equal, the earlier arrival goes first, then the smaller id.",
        _key(lambda q, r: r.priority * q.ageing_seconds + r.arrival_time),
    ),
    Misconception(
        "no id",
        "Where aged priority and arrival are equal, the smaller id goes first.",
        _key(lambda q, r: (r.priority * q.ageing_seconds + r.arrival_time, r.arrival_time)),
    ),
    Misconception(
        "the quotient is rounded",
        "Two that tie on paper may not tie once they are divided and rounded. All of it times "
        "`ageing_seconds` gives the same order, and whole numbers stay exact.",
        _key(
            lambda q, r: (
                r.priority + r.arrival_time / q.ageing_seconds,
                r.arrival_time,
                r.request_id,
            )
        ),
    ),
)
DEADLINE = (
    Misconception(
        "the latest first",
        "Earliest deadline first: the smallest key is served first.",
        _key(lambda _, r: (-r.deadline, r.arrival_time)),
    ),
    Misconception(
        "the time allowed",
        "Who has little time from arrival to deadline need not be who is due first.",
        _key(lambda _, r: (r.deadline - r.arrival_time, r.arrival_time)),
    ),
    Misconception(
        "arrival in front",
        "Then the deadline decides only between requests that arrive at the very same moment.",
        _key(lambda _, r: (r.arrival_time, r.deadline)),
    ),
    Misconception(
        "the deadline alone",
        "Of equal deadlines, and of those without one, the earlier arrival goes first.",
        _key(lambda _, r: r.deadline),
    ),
)

"""Lesson 4: the contest of allocators. Memory and CPU time in one index, as in CS:APP's malloc lab.

The index is 75 × utilisation + 25 × speed. Utilisation is the peak of the slots in use by the slots
below the highest end of a block, in a memory without limit. Speed is twice the course's CPU time by
the player's own, at most 1.
"""

from __future__ import annotations

import heapq
import operator
import random
from bisect import bisect_left, insort
from collections.abc import Iterator, Mapping
from dataclasses import replace
from functools import cache

from autograder.checks.scale import Measured, UnusableAnswerError, between
from autograder.proxy.subject import TRUSTED_PATIENCE, LocalSubject, Outcome, Raised, Subject
from autograder.proxy.wire import Ref
from course_lib.kv_cache.allocators import BestFitAllocator
from course_lib.simulation.workload import load_azure

ENDLESS = 2**40
"""Slots of a memory that nobody fills."""

NUM_REQUESTS, BATCH = 300, 40
WEIGHT_OF_MEMORY = 75
_ROUNDS = 3
_SECONDS = 10.0
"""CPU time of the whole game."""

_NUM_SMALL, _SMALL_BATCH, _LARGEST_SMALL = 400, 12, 3
_ENOUGH = 2.0
"""How many times the course's own CPU time still counts as full speed."""

_INDEX = between("index", "an index near that of the course's best fit", 1.0, reach=0.9)


def _parts_of_the_index(scores: Measured) -> str:
    """Say of what the index is made up."""
    own = scores.own
    return (
        f"utilisation {own['utilization']:.0%}, speed {own['speed']:.0%}: an index of "
        f"{_INDEX.shows(scores)}"
    )


INDEX = replace(_INDEX, shows=_parts_of_the_index)
"""What is asked for: the index, and of memory and speed how much there is in it."""

Event = tuple[int, int]
"""Whose turn it is, and the slots wanted; 0 slots to give them back."""


class CoursesBestFit(BestFitAllocator):
    """The course's own best fit, as a contestant: no part of the engine."""


class NeverReuses:
    """Takes fresh memory for each request: the fastest there is, and the most wasteful."""

    def __init__(self, num_slots: int) -> None:
        self.num_slots = num_slots
        self.end = 0

    def allocate(self, size: int) -> int:
        """Return the first slot that was never used."""
        offset = self.end
        self.end += size
        return offset

    def free(self, offset: int) -> None:
        """Forget it."""


@cache
def _lengths() -> tuple[tuple[int, int], ...]:
    return tuple((r.prompt_tokens, r.output_tokens) for r in load_azure("conversation")[:2000])


def events(seed: int) -> Iterator[Event]:
    """Yield what happens: requests of drawn lengths, always so many at the same time."""
    rng = random.Random(seed)
    running: list[tuple[int, int]] = []
    for number in range(NUM_REQUESTS):
        now = 0
        if len(running) == BATCH:
            now, done = heapq.heappop(running)
            yield done, 0
        prompt_tokens, output_tokens = rng.choice(_lengths())
        yield number, prompt_tokens + output_tokens
        heapq.heappush(running, (now + output_tokens, number))


def small_events(seed: int) -> Iterator[Event]:
    """Yield requests for very few slots, which fill holes exactly, or miss them by one."""
    rng = random.Random(seed)
    running: list[int] = []
    for number in range(_NUM_SMALL):
        if len(running) == _SMALL_BATCH:
            yield running.pop(rng.randrange(_SMALL_BATCH)), 0
        yield number, rng.randint(1, _LARGEST_SMALL)
        running.append(number)


def contest(subject: Subject, seed: int) -> Mapping[str, float]:
    """Return utilisation, speed and index of an allocator.

    It first plays a round with small requests, in which nothing is measured.

    Raises:
        UnusableAnswerError: It hands out what is taken, or what is no slot, or refuses, or raises,
            or the time is up.
    """
    course = LocalSubject(CoursesBestFit, TRUSTED_PATIENCE)
    own_times: list[float] = []
    course_times: list[float] = []
    utilization, spent = 0.0, _play(subject, small_events(seed), _SECONDS)[1]
    while len(own_times) < _ROUNDS:
        utilization, seconds = _play(subject, events(seed), _SECONDS - spent)
        spent += seconds
        own_times.append(seconds)
        course_times.append(_play(course, events(seed), TRUSTED_PATIENCE)[1])
        if spent + seconds > _SECONDS:
            break  # it is slow, and no other round would be much faster
    speed = min(1.0, _ENOUGH * min(course_times) / max(min(own_times), 1e-9))
    index = WEIGHT_OF_MEMORY * utilization + (100 - WEIGHT_OF_MEMORY) * speed
    return {"utilization": utilization, "speed": speed, "index": index}


def _play(subject: Subject, happens: Iterator[Event], allowed: float) -> tuple[float, float]:
    """Return the utilisation and the CPU seconds of one run, which has so many of them."""
    made = subject.call((ENDLESS,))
    if isinstance(made, Raised) or not isinstance(made.value, Ref):
        raise UnusableAnswerError(f"MyAllocator({ENDLESS})", made, "no object came")
    taken = _Taken()
    seconds = 0.0
    for who, size in happens:
        if size:
            call, outcome = f"allocate({size})", subject.invoke(made.value, "allocate", (size,))
            taken.start(who, _offset(call, outcome), size, call, outcome)
        else:
            offset = taken.end(who)
            call, outcome = f"free({offset})", subject.invoke(made.value, "free", (offset,))
            if isinstance(outcome, Raised):
                raise UnusableAnswerError(call, outcome, outcome.line or "")
        seconds += outcome.fate.seconds
        if seconds > allowed:
            complaint = f"the {_SECONDS:g} s of computing that the game may take are used up"
            raise UnusableAnswerError(f"{call}, for request {who}", outcome, complaint)
    return taken.peak / taken.high_water, seconds


def _offset(call: str, outcome: Outcome) -> int:
    """Return the first slot of a block that came."""
    if isinstance(outcome, Raised):
        raise UnusableAnswerError(call, outcome, outcome.line or "")
    if outcome.value is None:
        raise UnusableAnswerError(call, outcome, "nearly all of the memory is free")
    try:
        return operator.index(outcome.value)
    except TypeError:
        complaint = "the first slot of a block is a whole number"
        raise UnusableAnswerError(call, outcome, complaint) from None


class _Taken:
    """The blocks that are in use, as the contest knows them."""

    def __init__(self) -> None:
        self._spans: list[tuple[int, int]] = []  # (first slot, slot behind the last), in order
        self._of: dict[int, tuple[int, int]] = {}
        self._live = self.peak = self.high_water = 0

    def start(self, who: int, offset: int, size: int, call: str, outcome: Outcome) -> None:
        """Note a block; refuse one that is not free."""
        span = offset, offset + size
        if not 0 <= offset <= ENDLESS - size:
            raise UnusableAnswerError(
                call, outcome, f"slots {offset} to {span[1] - 1} do not exist"
            )
        place = bisect_left(self._spans, span)
        for other in self._spans[max(place - 1, 0) : place + 1]:
            if other[0] < span[1] and span[0] < other[1]:
                complaint = f"slots {other[0]} to {other[1] - 1} are in use"
                raise UnusableAnswerError(call, outcome, complaint)
        insort(self._spans, span)
        self._of[who] = span
        self._live += size
        self.peak = max(self.peak, self._live)
        self.high_water = max(self.high_water, span[1])

    def end(self, who: int) -> int:
        """Note that a block is given back; return its first slot."""
        span = self._of.pop(who)
        self._spans.remove(span)
        self._live -= span[1] - span[0]
        return span[0]

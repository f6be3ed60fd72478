"""Lesson 4: the contest of allocators. Memory and CPU time in one index, as in CS:APP's malloc lab.

The index is 75 × utilisation + 25 × speed. Utilisation is the peak of the slots in use by the slots
below the highest end of a block, in a memory without limit. Speed is twice the course's CPU time by
the player's own, at most 1.
"""

from __future__ import annotations

import heapq
import operator
import random
import re
from bisect import bisect_left, insort
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import cache
from string import ascii_uppercase

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

_TRIES = 300
"""Rounds that are played to find a short one that fails."""

_MOST_LINES, _LONGEST_STRIP = 30, 64
"""How much is shown of a round: lines, and slots behind each."""

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


class _TimeIsUpError(UnusableAnswerError):
    """It answered well, and too slowly."""


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
    utilization, spent = 0.0, _small_round(subject, seed)
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


def _small_round(subject: Subject, seed: int) -> float:
    """Return the CPU seconds of a round with small requests.

    Raises:
        UnusableAnswerError: Its case is what is left of the round once all has been left out, a
            request at a time, that the same fault can do without.
    """
    happens = list(small_events(seed))
    try:
        return _play(subject, happens, _SECONDS)[1]
    except _TimeIsUpError:
        raise
    except UnusableAnswerError as error:
        raise _shortened(subject, happens, error) from None


def _shortened(
    subject: Subject, happens: Sequence[Event], error: UnusableAnswerError
) -> UnusableAnswerError:
    """Return the error of the shortest round that was found to end as this one does."""
    happens = happens[: error.turn + 1]
    part, num_tries = len(happens), 0
    while part and not subject.is_silent:
        place, is_shorter = 0, False
        while place < len(happens) and num_tries < _TRIES:
            candidate = _without(happens, place, place + part)
            found = _error_of(subject, candidate) if candidate else None
            num_tries += 1
            if found is not None and _kind(found) == _kind(error):
                happens, error, is_shorter = candidate[: found.turn + 1], found, True
            else:
                place += part
        part = part if is_shorter and part == 1 and num_tries < _TRIES else part // 2
    return error


def _without(happens: Sequence[Event], start: int, stop: int) -> list[Event]:
    """Return what happens without some of it; whoever gets no slots gives none back."""
    left = [*happens[:start], *happens[stop:]]
    came = {who for who, size in left if size}
    return [(who, size) for who, size in left if who in came]


def _error_of(subject: Subject, happens: Sequence[Event]) -> UnusableAnswerError | None:
    """Return what ends a round, if anything does."""
    try:
        _play(subject, happens, _SECONDS)
    except UnusableAnswerError as error:
        return error
    return None


def _kind(error: UnusableAnswerError) -> tuple[str, str]:
    """Return in what call a round ends, and how, whatever the numbers are."""
    last_call = error.asked.rpartition("\n")[2].partition("(")[0]
    return last_call, re.sub(r"\d+", "", error.complaint)


def _play(subject: Subject, happens: Iterable[Event], allowed: float) -> tuple[float, float]:
    """Return the utilisation and the CPU seconds of one run, which has so many of them."""
    making = f"MyAllocator({ENDLESS})"
    made = subject.call((ENDLESS,))
    if isinstance(made, Raised) or not isinstance(made.value, Ref):
        raise UnusableAnswerError(making, made, "no object came")
    taken = _Taken()
    seconds = 0.0
    lines = [f"allocator = {making}"]
    for turn, (who, size) in enumerate(happens):
        method, argument = ("allocate", size) if size else ("free", taken.end(who))
        lines.append(f"allocator.{method}({argument})")
        outcome = subject.invoke(made.value, method, (argument,))
        seconds += outcome.fate.seconds
        complaint = taken.start(who, outcome, size) if size else _raised(outcome)
        if complaint is not None:
            raise UnusableAnswerError(_told(lines), outcome, complaint, turn)
        if seconds > allowed:
            complaint = f"the {_SECONDS:g} s of computing that the game may take are used up"
            asked = f"{method}({argument}), for request {who}"
            raise _TimeIsUpError(asked, outcome, complaint, turn)
        lines[-1] += taken.strip()
    return taken.peak / taken.high_water, seconds


def _told(lines: Sequence[str]) -> str:
    """Return the calls of a round, the last ones alone where they are many."""
    left_out = len(lines) - _MOST_LINES
    shown = [f"# after {left_out} other calls:", *lines[left_out:]] if left_out > 0 else lines
    return "\n".join(shown)


def _raised(outcome: Outcome) -> str | None:
    """Say where an exception came from, if one came."""
    return (outcome.line or "") if isinstance(outcome, Raised) else None


class _Taken:
    """The blocks that are in use, as the contest knows them."""

    def __init__(self) -> None:
        self._spans: list[tuple[int, int]] = []  # (first slot, slot behind the last), in order
        self._of: dict[int, tuple[int, int]] = {}
        self._letter_of: dict[int, str] = {}
        self._live = self.peak = self.high_water = 0

    def start(self, who: int, outcome: Outcome, size: int) -> str | None:
        """Note a block that came; say why it is none, if it is none."""
        if isinstance(outcome, Raised):
            return outcome.line or ""
        if outcome.value is None:
            return "nearly all of the memory is free"
        try:
            offset = operator.index(outcome.value)
        except TypeError:
            return "the first slot of a block is a whole number"
        span = offset, offset + size
        if not 0 <= offset <= ENDLESS - size:
            return f"{_slots(*span)} would be the block; the memory has {_slots(0, ENDLESS)}"
        place = bisect_left(self._spans, span)
        for other in self._spans[max(place - 1, 0) : place + 1]:
            both = max(other[0], offset), min(other[1], span[1])
            if both[0] < both[1]:
                are = "is" if both[1] - both[0] == 1 else "are"
                return f"{_slots(*span)} would be the block, and {_slots(*both)} {are} in use"
        insort(self._spans, span)
        self._of[who] = span
        self._letter_of[who] = ascii_uppercase[len(self._letter_of) % len(ascii_uppercase)]
        self._live += size
        self.peak = max(self.peak, self._live)
        self.high_water = max(self.high_water, span[1])
        return None

    def strip(self) -> str:
        """Return a comment with a letter for each slot in use; "" if the slots are too many."""
        if self.high_water > _LONGEST_STRIP:
            return ""
        signs = ["."] * self.high_water
        for who, (start, end) in self._of.items():
            signs[start:end] = self._letter_of[who] * (end - start)
        return f"  # {''.join(signs)}"

    def end(self, who: int) -> int:
        """Note that a block is given back; return its first slot."""
        span = self._of.pop(who)
        self._spans.remove(span)
        self._live -= span[1] - span[0]
        return span[0]


def _slots(start: int, end: int) -> str:
    """Return slots in words.

    >>> _slots(2, 3), _slots(2, 5)
    ('slot 2', 'slots 2 to 4')
    """
    return f"slot {start}" if end - start == 1 else f"slots {start} to {end - 1}"

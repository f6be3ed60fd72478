"""Lesson 1: known wrong answers to 1.4, about what static batching leaves idle."""

from __future__ import annotations

import heapq
from collections.abc import Sequence

from autograder.checks.finding import Misconception
from course_lib.kv_cache.reservation import static_batch_utilization

# 1.4


def _batches(lengths: Sequence[int], batch_size: int) -> list[Sequence[int]]:
    if batch_size < 1 or not lengths or min(lengths) < 1:
        raise ValueError("no batches")
    return [lengths[start : start + batch_size] for start in range(0, len(lengths), batch_size)]


def mean_of_ratios(output_lengths: Sequence[int], batch_size: int) -> float:
    """Give every batch the same weight."""
    batches = _batches(output_lengths, batch_size)
    return sum(sum(b) / (batch_size * max(b)) for b in batches) / len(batches)


def one_global_maximum(output_lengths: Sequence[int], batch_size: int) -> float:
    """Let every batch last as long as the longest request of all."""
    batches = _batches(output_lengths, batch_size)
    return sum(output_lengths) / (batch_size * max(output_lengths) * len(batches))


def longest_of_all_once(output_lengths: Sequence[int], batch_size: int) -> float:
    """Let all batches together last as long as the longest request of all."""
    _batches(output_lengths, batch_size)
    return sum(output_lengths) / (batch_size * max(output_lengths))


def iterations_not_seats(output_lengths: Sequence[int], batch_size: int) -> float:
    """Divide by the iterations, as if each had one seat."""
    return batch_size * static_batch_utilization(output_lengths, batch_size)


def one_batch(output_lengths: Sequence[int], batch_size: int) -> float:
    """Take all requests into a single batch."""
    _batches(output_lengths, batch_size)
    return sum(output_lengths) / (len(output_lengths) * max(output_lengths))


def last_batch_shrinks(output_lengths: Sequence[int], batch_size: int) -> float:
    """Leave the empty seats of the last batch out."""
    slots = sum(len(batch) * max(batch) for batch in _batches(output_lengths, batch_size))
    return sum(output_lengths) / slots


def last_batch_left_out(output_lengths: Sequence[int], batch_size: int) -> float:
    """Count the seats of full batches only, and the tokens of all."""
    full = [each for each in _batches(output_lengths, batch_size) if len(each) == batch_size]
    return sum(output_lengths) / (batch_size * sum(map(max, full)))


def full_batches_only(output_lengths: Sequence[int], batch_size: int) -> float:
    """Count neither seats nor tokens of a last batch that is not full."""
    full = [each for each in _batches(output_lengths, batch_size) if len(each) == batch_size]
    return sum(map(sum, full)) / (batch_size * sum(map(max, full)))


def in_percent(output_lengths: Sequence[int], batch_size: int) -> float:
    """Give a share in per cent."""
    return 100 * static_batch_utilization(output_lengths, batch_size)


def idle_share(output_lengths: Sequence[int], batch_size: int) -> float:
    """Give the share of the seats that stand idle."""
    return 1 - static_batch_utilization(output_lengths, batch_size)


def sorted_first(output_lengths: Sequence[int], batch_size: int) -> float:
    """Form batches of requests that are alike."""
    _batches(output_lengths, batch_size)
    return static_batch_utilization(sorted(output_lengths), batch_size)


def longest_first(output_lengths: Sequence[int], batch_size: int) -> float:
    """Form batches of requests that are alike, the long ones first."""
    _batches(output_lengths, batch_size)
    return static_batch_utilization(sorted(output_lengths, reverse=True), batch_size)


def as_long_as_the_first(output_lengths: Sequence[int], batch_size: int) -> float:
    """Let a batch last as long as its first request."""
    iterations = sum(batch[0] for batch in _batches(output_lengths, batch_size))
    return sum(output_lengths) / (batch_size * iterations)


def seats_filled_at_once(output_lengths: Sequence[int], batch_size: int) -> float:
    """Give a seat to the next request as soon as it is idle."""
    _batches(output_lengths, batch_size)
    seats = [0] * batch_size
    for length in output_lengths:
        heapq.heapreplace(seats, seats[0] + length)
    return sum(output_lengths) / (batch_size * max(seats))


STATIC_BATCHING = (
    Misconception(
        "mean of the batches",
        "A long batch takes more of the GPU's time than a short one, so it must weigh "
        "more: divide the sums, do not average the quotients.",
        mean_of_ratios,
    ),
    Misconception(
        "one maximum for all",
        "Each batch ends with its own longest request, not with the longest of all.",
        one_global_maximum,
    ),
    Misconception(
        "the longest of all, once",
        "The batches run one after the other, and each as long as its own longest request: add up "
        "how long they last.",
        longest_of_all_once,
    ),
    Misconception(
        "iterations, not seats",
        "Each iteration has batch_size seats, busy or idle: divide by all of them.",
        iterations_not_seats,
    ),
    Misconception(
        "all in one batch",
        "A batch has batch_size seats: the requests form several batches, and each ends with its "
        "own longest request.",
        one_batch,
    ),
    Misconception(
        "the last batch shrinks",
        "The empty seats of the last batch stand idle too: every batch has batch_size seats.",
        last_batch_shrinks,
    ),
    Misconception(
        "the seats of the last batch left out",
        "The last batch runs, too, when it is not full: count its seats as those of any other.",
        last_batch_left_out,
    ),
    Misconception(
        "full batches only",
        "The last batch runs, too, when it is not full: count its tokens and all of its seats.",
        full_batches_only,
    ),
    Misconception(
        "as long as its first request",
        "A batch lasts as long as its longest request, which need not be its first.",
        as_long_as_the_first,
    ),
    Misconception(
        "continuous batching",
        "A static batch takes nobody in while it runs: a seat that falls idle stays idle until "
        "the longest request is done.",
        seats_filled_at_once,
    ),
    Misconception(
        "sorted first",
        "Batches are formed in order of arrival: how long an output will be is not known by then.",
        sorted_first,
        evidence=r"\bsort(ed)?\b",
    ),
    Misconception(
        "sorted first, the longest in front",
        "Batches are formed in order of arrival: how long an output will be is not known by then.",
        longest_first,
        evidence=r"\bsort(ed)?\b",
    ),
    Misconception(
        "the idle seats",
        "That is the share of the seats that stand idle; asked is the share that generates.",
        idle_share,
    ),
    Misconception(
        "per cent", "A share lies between 0 and 1; do not multiply it by 100.", in_percent
    ),
)

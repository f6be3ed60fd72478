"""Lesson 8: its measurement. Hit rates of Mooncake's conversations, in three weightings."""

from __future__ import annotations

from dataclasses import astuple
from functools import cache

from autograder.checks.answer import where_wrong
from autograder.checks.compare import within
from autograder.checks.finding import Misconception
from course_lib.kv_cache.hit_rates import (
    HitRates,
    infinite_cache_hit_rates,
    replay_prefix_cache,
)
from course_lib.simulation.workload import Workload, load_mooncake

NAMES = ("blocks", "tokens", "requests")
SIZES = {"one A100": 938, "four A100": 3_752}
IN_FLIGHT = 16


@cache
def _trace() -> Workload:
    return load_mooncake()


def rates(name: str) -> HitRates:
    """Return the rates of a cache without limit, or of one of a size."""
    if name in SIZES:
        return replay_prefix_cache(_trace(), SIZES[name], IN_FLIGHT)
    return infinite_cache_hit_rates(_trace())


@cache
def measured() -> dict[str, float]:
    """Return what the measurement asks for."""
    unlimited = dict(zip(NAMES, astuple(rates("unlimited")), strict=True))
    return {**unlimited, **{size: rates(size).token_weighted for size in SIZES}}


@cache
def weightings_mixed_up() -> dict[str, float]:
    """Return the rates with those of blocks and of requests exchanged."""
    right = measured()
    return {**right, "blocks": right["requests"], "requests": right["blocks"]}


@cache
def in_blocks() -> dict[str, float]:
    """Return the rates with the limited caches weighted by blocks."""
    return {**measured(), **{size: rates(size).block_weighted for size in SIZES}}


@cache
def in_requests() -> dict[str, float]:
    """Return the rates with the limited caches as a mean of requests."""
    return {**measured(), **{size: rates(size).mean_per_request for size in SIZES}}


@cache
def in_percent() -> dict[str, float]:
    """Return the rates in per cent."""
    return {name: 100 * rate for name, rate in measured().items()}


@cache
def tokens_and_blocks_mixed_up() -> dict[str, float]:
    """Return the rates with those of tokens and of blocks exchanged."""
    right = measured()
    return {**right, "blocks": right["tokens"], "tokens": right["blocks"]}


@cache
def tokens_and_requests_mixed_up() -> dict[str, float]:
    """Return the rates with those of tokens and of requests exchanged."""
    right = measured()
    return {**right, "requests": right["tokens"], "tokens": right["requests"]}


@cache
def as_printed() -> dict[str, float]:
    """Return the rates with four digits, as per cent are printed."""
    return {name: round(rate, 4) for name, rate in measured().items()}


@cache
def in_whole_percent() -> dict[str, float]:
    """Return the rates with two digits."""
    return {name: round(rate, 2) for name, rate in measured().items()}


# One block more or less in the cache moves a rate by 1e-5 to 3e-5.
close_enough = within(rel=0.0, absolute=5e-6)

alike = where_wrong(measured, close_enough)

MEASURED = (
    Misconception(
        "blocks and requests exchanged",
        "Block-weighted is blocks found over blocks looked up; the mean over requests counts a "
        "short prompt as much as a long one.",
        weightings_mixed_up,
    ),
    Misconception(
        "tokens and blocks exchanged",
        "A share of the tokens is tokens found over all prompt tokens, and the last block of a "
        "prompt counts for the tokens that are in it; in a share of the blocks it counts in full.",
        tokens_and_blocks_mixed_up,
    ),
    Misconception(
        "tokens and requests mixed up",
        "A share of the tokens divides once, by all prompt tokens; the mean over requests divides "
        "for each one, so that a short prompt counts as much as a long one.",
        tokens_and_requests_mixed_up,
    ),
    Misconception(
        "limited caches in blocks",
        "Asked for are shares of the tokens: a block at the end of a prompt that is not full "
        "counts less.",
        in_blocks,
    ),
    Misconception(
        "limited caches by request",
        "Asked for are shares of the tokens: one number for the whole trace, no mean of shares.",
        in_requests,
    ),
    Misconception("per cent", "Write shares, from 0 to 1.", in_percent),
    Misconception(
        "rounded to four digits",
        "The digits left out are more than is allowed: assign the field as it comes.",
        as_printed,
    ),
    Misconception(
        "rounded to two digits",
        "Two caches may differ by less than that: assign the field as it comes.",
        in_whole_percent,
    ),
)

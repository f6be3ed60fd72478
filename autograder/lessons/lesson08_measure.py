"""Lesson 8: its measurement. Hit rates of Mooncake's conversations, in three weightings."""

from __future__ import annotations

from dataclasses import astuple
from functools import cache

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


# One block more or less in the cache moves a rate by 1e-5 to 3e-5.
close_enough = within(rel=0.0, absolute=5e-6)

MEASURED = (
    Misconception(
        "blocks and requests exchanged",
        "Block-weighted is blocks found over blocks looked up; the mean over requests counts a "
        "short prompt as much as a long one.",
        weightings_mixed_up,
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
)

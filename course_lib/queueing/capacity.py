"""Capacity planning: the fewest servers that meet a target."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from course_lib.queueing.models import MMc
from course_lib.queueing.requirements import (
    require_count,
    require_not_negative,
    require_positive,
    require_quantile,
)


@dataclass(frozen=True)
class CapacityPlan:
    """The fewest servers that meet a target, and the evidence.

    Attributes:
        servers: How many.
        achieved: What was measured with them, at most the target.
        tried: What was measured with each number of servers that was tried.
    """

    servers: int
    achieved: float
    tried: Mapping[int, float]


def fewest_servers(
    measure: Callable[[int], float], target: float, at_least: int = 1, at_most: int = 2**62
) -> CapacityPlan:
    """Return the fewest servers with ``measure(servers) <= target``.

    More servers never make the measure worse. To measure takes long, and with many servers longest.
    So if the answer is A, at most 2·log₂(A) + 3 numbers are tried, each of them once, and none that
    is more than 2·A or ``at_most``.

    Args:
        measure: What the target is about, for a number of servers: a p99 in seconds, say.
        target: The most that it may be.
        at_least: The smallest number to consider, from 1.
        at_most: The largest number to consider.

    Returns:
        The fewest servers, what was measured with them, and what was measured with each number that
        was tried.

    Raises:
        ValueError: ``at_least`` is below 1 or above ``at_most``, or even ``at_most`` servers miss
            the target.

    >>> from course_lib.queueing import MM1
    >>> def split_evenly(servers: int) -> float:           # a queue of its own for each server
    ...     return MM1(lam=10.0 / servers, mu=1.0).response_quantile(0.99)
    >>> fewest_servers(split_evenly, target=10.0, at_least=11).servers
    19
    """
    require_count("at_least", at_least)
    require_count("at_most", at_most, at_least)
    tried: dict[int, float] = {}

    def meets_target(servers: int) -> bool:
        tried[servers] = float(measure(servers))
        return tried[servers] <= target

    # Steps of 1, 2, 4, ... find a number that is enough.
    too_few, enough, step = at_least - 1, at_least, 1
    while not meets_target(enough):
        if enough == at_most:
            raise ValueError(
                f"{at_most} servers reach {tried[at_most]:.6g}, which misses the target of "
                f"{target:.6g}; relax the target, raise at_most or lower the load ρ (rho)"
            )
        too_few, enough, step = enough, min(enough + step, at_most), 2 * step
    # Bisection finds the fewest.
    while enough - too_few > 1:
        middle = (too_few + enough) // 2
        if meets_target(middle):
            enough = middle
        else:
            too_few = middle
    return CapacityPlan(enough, tried[enough], tried)


def servers_for_wait(lam: float, mu: float, q: float, target: float) -> CapacityPlan:
    """Return the fewest servers of an M/M/c queue that keep a quantile of the wait in bounds.

    Args:
        lam: Requests that arrive per second (λ).
        mu: Requests that one busy server finishes per second (μ).
        q: Which quantile; 0.99 for the 99th percentile.
        target: The most seconds that it may be, from 0.

    Raises:
        ValueError: A rate is not positive, ``q`` is not from 0 to below 1, or ``target`` is
            negative.

    >>> servers_for_wait(lam=100.0, mu=1.0, q=0.99, target=0.5).servers
    108
    """
    require_positive(lam=lam, mu=mu)
    require_quantile(q)
    require_not_negative(target=target)
    stable = math.floor(lam / mu) + 1
    return fewest_servers(lambda c: MMc(lam, mu, c).wait_quantile(q), target, stable)


def servers_for_response(lam: float, mu: float, q: float, target: float) -> CapacityPlan:
    """Return the fewest servers of an M/M/c queue that keep a quantile of the response in bounds.

    Args:
        lam: Requests that arrive per second (λ).
        mu: Requests that one busy server finishes per second (μ).
        q: Which quantile; 0.99 for the 99th percentile.
        target: The most seconds that it may be: more than that quantile of the service alone,
            −ln(1 − q) / μ, which no number of servers shortens.

    Raises:
        ValueError: A rate is not positive, ``q`` is not from 0 to below 1, or ``target`` cannot be
            met.

    >>> servers_for_response(lam=100.0, mu=1.0, q=0.99, target=5.0).servers
    103
    """
    require_positive(lam=lam, mu=mu)
    require_quantile(q)
    service = -math.log1p(-q) / mu
    if not target > service:
        raise ValueError(
            f"target is {target} s but the {q:.4g} quantile of the service alone is "
            f"{service:.6g} s; relax the target or raise mu; a lower ρ (rho) does not help"
        )
    stable = math.floor(lam / mu) + 1
    return fewest_servers(lambda c: MMc(lam, mu, c).response_quantile(q), target, stable)


def servers_by_simulation(
    simulate: Callable[[int], ArrayLike],
    q: float,
    target: float,
    at_least: int = 1,
    at_most: int = 1024,
) -> CapacityPlan:
    """Return the fewest servers with which a simulation keeps a quantile in bounds.

    Args:
        simulate: Takes a number of servers and returns one time in seconds per request: its wait,
            its response, its time to the first token. It should replay the same arrivals and sizes
            every time, so that numbers of servers are compared and not samples.
        q: Which quantile; 0.99 for the 99th percentile.
        target: The most seconds that it may be.
        at_least: The smallest number to consider; a closed form gives a good start.
        at_most: The largest number to consider.

    Raises:
        ValueError: ``q`` is not from 0 to below 1, the simulation returns no times,
            ``at_least`` is below 1 or above ``at_most``, or even ``at_most`` servers miss the
            target.

    >>> from course_lib.queueing import simulate_queue
    >>> arrivals, services = np.arange(100.0), np.full(100, 2.5)
    >>> plan = servers_by_simulation(
    ...     lambda servers: simulate_queue(arrivals, services, servers), q=0.99, target=0.0)
    >>> plan.servers
    3
    """
    require_quantile(q)

    def measure(servers: int) -> float:
        times = np.asarray(simulate(servers), dtype=np.float64)
        if times.size == 0:
            raise ValueError(f"the simulation of {servers} servers returned no times; simulate one")
        # The smallest time that a share q of the requests did not exceed: no interpolation.
        return float(np.quantile(times, q, method="inverted_cdf"))

    return fewest_servers(measure, target, at_least, at_most)

"""Waits by simulation: one recursion in place of a closed form."""

from __future__ import annotations

import heapq
import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike

from course_lib.queueing.requirements import (
    FloatArray,
    require_count,
    require_customers,
    require_not_negative,
)

CHUNK = 8192
"""Customers that the vectorised recursion takes at a time: its arrays stay in the CPU's cache."""


def simulate_queue(arrivals: ArrayLike, services: ArrayLike, servers: int = 1) -> FloatArray:
    """Return how long each customer waits, first come, first served, in a queue empty at first.

    At one server a wait is the wait before it, plus the service before it, minus the gap between
    the two arrivals, and never below 0 (Lindley, 1952):

        W[n] = max(0, W[n−1] + step[n]),   step[n] = S[n−1] − (A[n] − A[n−1]).

    A loop over the customers is not needed, and none may be used for one server: a million of them
    take a few hundredths of a second. Waits are right to a millionth of a second.

    Args:
        arrivals: Times of arrival in seconds, in order, shape (n,). From gaps: ``np.cumsum(gaps)``.
        services: Seconds of service of each customer, shape (n,).
        servers: Equal servers before which there is one queue.

    Returns:
        Seconds between arrival and start of service, shape (n,).

    Raises:
        ValueError: The arrays are not one-dimensional and equally long, the arrivals are not in
            order, a service is negative, a number is not finite, or there is no server.

    >>> simulate_queue([0.0, 1.0, 2.0], [3.0, 3.0, 1.0]).tolist()
    [0.0, 2.0, 4.0]
    >>> simulate_queue([0.0, 1.0, 2.0], [3.0, 3.0, 1.0], servers=2).tolist()
    [0.0, 0.0, 1.0]
    """
    arrival_times = np.asarray(arrivals, dtype=np.float64)
    service_times = np.asarray(services, dtype=np.float64)
    require_count("servers", servers)
    require_customers(arrival_times, service_times)
    if servers > 1:
        return waits_at_many_servers(arrival_times, service_times, servers)
    # One server: running sums in place of the recursion.
    # U[n] is the sum of all steps up to n. The wait is U minus the least that it, or 0, has been.
    # It starts afresh every CHUNK customers, from the last wait, so that the arrays stay in the
    # CPU's cache. (U drifts far below 0 otherwise; at −1e6 some ten digits of a wait are left.)
    waits = np.zeros(len(arrival_times))
    for first in range(1, len(waits), CHUNK):
        end = min(first + CHUNK, len(waits))
        steps = service_times[first - 1 : end - 1] - np.diff(arrival_times[first - 1 : end])
        steps[0] += waits[first - 1]
        backlog = np.cumsum(steps)
        waits[first:end] = backlog - np.minimum(np.minimum.accumulate(backlog), 0.0)
    return waits


def waits_at_many_servers(arrivals: FloatArray, services: FloatArray, servers: int) -> FloatArray:
    """Return the waits before several servers, first come, first served.

    A customer goes to the server that is free first (Kiefer and Wolfowitz, 1955). The vector of
    their workloads is kept as a heap of the times at which they will be free, which do not change
    as time goes by.

    Args:
        arrivals: Times of arrival in seconds, in order, shape (n,).
        services: Seconds of service of each customer, shape (n,).
        servers: Equal servers before which there is one queue.

    >>> waits_at_many_servers(np.array([0.0, 1.0, 2.0]), np.array([3.0, 3.0, 1.0]), 2).tolist()
    [0.0, 0.0, 1.0]
    """
    free_at = [-math.inf] * servers
    starts = []
    for arrival, service in zip(arrivals.tolist(), services.tolist(), strict=True):
        start = max(arrival, free_at[0])
        heapq.heapreplace(free_at, start + service)
        starts.append(start)
    return np.asarray(starts, dtype=np.float64) - arrivals


def send_times(gaps: Sequence[float], seconds_per_send: float) -> list[float]:
    """Return when a load generator sends each request, if it keeps to the plan as well as it can.

    A request is due at the running sum of the gaps, whatever became of those before it. It is sent
    then, or, since the generator sends one at a time, as soon as it is free.

    Args:
        gaps: Seconds from one request to the next, the first one from 0; shape (n,).
        seconds_per_send: Seconds that sending one takes, from 0.

    Returns:
        The n times in seconds at which a send begins.

    Raises:
        ValueError: A gap or ``seconds_per_send`` is negative or not finite.

    >>> send_times([1.0, 0.25, 0.25, 1.0], seconds_per_send=0.5)
    [1.0, 1.5, 2.0, 2.5]
    """
    require_not_negative(seconds_per_send=seconds_per_send)
    for index, gap in enumerate(gaps):
        require_not_negative(**{f"gaps[{index}]": gap})
    # To sleep a whole gap after each send would add the work of all sends to the plan, and the rate
    # that was asked for would never be reached (vllm issue #21104).
    sent: list[float] = []
    due = free = 0.0
    for gap in gaps:
        due += gap
        sent.append(max(due, free))
        free = sent[-1] + seconds_per_send
    return sent

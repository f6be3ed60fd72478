"""One server that works on one job at a time: the model of queueing theory, with a real queue.

A job is a request with one token of prompt; its size is the tokens that it declares. The server
does one token per unit of time.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from course_lib.scheduling.policies import RequestQueue
from course_lib.scheduling.request import Request


def response_times(
    queue: RequestQueue, arrivals: Sequence[float], sizes: Sequence[int]
) -> list[float]:
    """Serve each job to its end, and return how long each was in the system.

    Args:
        queue: Says who is next; empty.
        arrivals: When each job comes, not decreasing, in units of time.
        sizes: How long each takes, in units of time: at least 2.

    >>> from course_lib.scheduling import SJFRequestQueue
    >>> response_times(SJFRequestQueue(), [0.0, 1.0, 2.0], [10, 8, 4])
    [10.0, 21.0, 12.0]
    """
    return _serve(queue, arrivals, sizes, math.inf)


def response_times_with_interruptions(
    queue: RequestQueue, arrivals: Sequence[float], sizes: Sequence[int]
) -> list[float]:
    """Put the job that is served back at each arrival; return how long each was in the system.

    A job that comes back declares what is left of it.

    Args:
        queue: Says who is next; empty.
        arrivals: When each job comes, not decreasing, in units of time.
        sizes: How long each takes, in units of time: at least 2.

    >>> from course_lib.scheduling import SRPTRequestQueue
    >>> response_times_with_interruptions(SRPTRequestQueue(), [0.0, 1.0, 2.0], [10, 8, 4])
    [22.0, 12.0, 4.0]
    """
    return _serve(queue, arrivals, sizes, 0.0)


def _serve(
    queue: RequestQueue, arrivals: Sequence[float], sizes: Sequence[int], held_for: float
) -> list[float]:
    """Serve jobs, each for at least ``held_for`` units before somebody else may have the server."""
    end = [0.0] * len(arrivals)
    left = [float(size) for size in sizes]
    clock, number = 0.0, 0
    while number < len(arrivals) or len(queue):
        if not len(queue):
            clock = max(clock, arrivals[number])
        while number < len(arrivals) and arrivals[number] <= clock:
            queue.add(_job(number, left[number], arrivals[number]))
            number += 1
        job = queue.pop()
        index = int(job.request_id)
        following = arrivals[number] if number < len(arrivals) else math.inf
        seconds = min(left[index], max(following - clock, held_for))
        clock += seconds
        left[index] -= seconds
        if left[index] > 0:
            queue.put_back(_job(index, left[index], arrivals[index]))
        end[index] = clock
    return [ended - arrived for ended, arrived in zip(end, arrivals, strict=True)]


def _job(number: int, left: float, arrival: float) -> Request:
    """Return the request that declares what is left of a job."""
    return Request(str(number), [0], max(1, math.ceil(left) - 1), arrival_time=arrival)

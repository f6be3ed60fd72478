"""The loop of a serving engine on one screen, without a model and without any bookkeeping.

``Simulator`` and the engine run the same loop. What they add is what a step costs, what is written
down of it, and a model.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence

from course_lib.scheduling.request import Request
from course_lib.scheduling.scheduler import Scheduler


def serve(
    scheduler: Scheduler, requests: Sequence[Request], seconds: float = 1.0
) -> dict[str, list[float]]:
    """Serve requests iteration by iteration, and note when each of their tokens comes.

    Before an iteration, everybody who has arrived is handed to the scheduler. It plans, the clock
    moves, and then those whose tokens are all computed get their next one. If nobody is there, the
    clock goes on to the next arrival.

    Args:
        scheduler: The scheduler; nobody is in it yet.
        requests: The requests, in any order. They are changed: they live.
        seconds: What an iteration takes, whatever is in it.

    Returns:
        For each request, by its id, the seconds on the clock at which its tokens came.

    >>> from course_lib.kv_cache import KVCacheManager
    >>> from course_lib.scheduling import SchedulerConfig
    >>> scheduler = Scheduler(SchedulerConfig(max_num_batched_tokens=8), KVCacheManager(10))
    >>> two = [Request("a", range(12), 2), Request("b", range(3), 1, arrival_time=1.5)]
    >>> serve(scheduler, two)
    {'a': [2.0, 3.0], 'b': [3.0]}
    """
    clock, arriving = 0.0, deque(sorted(requests, key=lambda request: request.arrival_time))
    token_times: dict[str, list[float]] = {request.request_id: [] for request in requests}
    while arriving or scheduler.has_unfinished_requests():
        if not scheduler.has_unfinished_requests():
            clock = max(clock, arriving[0].arrival_time)
        while arriving and arriving[0].arrival_time <= clock:
            scheduler.add_request(arriving.popleft())
        output = scheduler.schedule()
        clock += seconds
        sampled = {request.request_id: 7 for request in scheduler.generating(output)}
        for request_id in sampled:
            token_times[request_id].append(clock)
        scheduler.update_from_output(output, sampled)
    return token_times

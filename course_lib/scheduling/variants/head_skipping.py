"""Passing over the head of the queue: the obvious cure for head-of-line blocking, and its price.

Admission stops at the first waiting request that does not fit. If that is a long one, short ones
behind it wait as well, although there would be room for them.
"""

from __future__ import annotations

from course_lib.scheduling.request import Request
from course_lib.scheduling.scheduler import Scheduler, SchedulerOutput


class HeadSkippingScheduler(Scheduler):
    """A scheduler that passes over waiting requests that do not fit, and admits others behind them.

    The batch is fuller. But what is freed goes to small requests, so a large one may wait until
    the queue has none left: this scheduler does not keep the promise that nobody waits for ever.

    It is meant for first come, first served, where who is passed over stays at the front.

    >>> from course_lib.kv_cache import KVCacheManager
    >>> from course_lib.scheduling import SchedulerConfig
    >>> scheduler = HeadSkippingScheduler(SchedulerConfig(), KVCacheManager(num_blocks=4))
    >>> for name, num_tokens in (("a", 20), ("long", 40), ("b", 10), ("c", 10)):
    ...     scheduler.add_request(Request(name, range(num_tokens), max_tokens=2))
    >>> scheduler.schedule().num_scheduled_tokens
    {'a': 20, 'b': 10}
    >>> [request.request_id for request in scheduler.waiting]
    ['long', 'c']
    """

    def admit_waiting(self, output: SchedulerOutput, budget: int) -> int:
        """Admit whoever fits, in service order; return what is left of the budget."""
        passed_over: list[Request] = []
        budget = super().admit_waiting(output, budget)
        while self.waiting and budget > 0 and len(self.running) < self.max_num_seqs:
            if self.swapped:
                break  # they come first, and nobody is passed over for whom they wait
            passed_over.append(self.waiting.pop())
            budget = super().admit_waiting(output, budget)
        for request in reversed(passed_over):
            self.waiting.put_back(request)
        return budget

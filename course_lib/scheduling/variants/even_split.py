"""The budget split evenly: the obvious idea of fairness, and why it is none.

Every request may compute the same number of tokens per iteration. But requests do not need the
same: a decode needs one, and what it leaves is nobody's. And users do not send the same number of
requests: who sends ten gets ten shares. Fairness to users counts what each of them was served
(``VTCRequestQueue``).
"""

from __future__ import annotations

from course_lib.scheduling.request import Request
from course_lib.scheduling.scheduler import Scheduler


class EvenSplitScheduler(Scheduler):
    """A scheduler that gives each request an equal share of the token budget, and no more.

    The share is the budget of a whole iteration over the requests that could be in it, rounded
    down, but at least one token. It cuts prompts, so chunked prefill should be enabled.

    >>> from course_lib.kv_cache import KVCacheManager
    >>> from course_lib.scheduling import SchedulerConfig
    >>> config = SchedulerConfig(max_num_batched_tokens=30)
    >>> scheduler = EvenSplitScheduler(config, KVCacheManager(num_blocks=10))
    >>> for name, num_tokens in (("a", 25), ("b", 2), ("c", 25)):
    ...     scheduler.add_request(Request(name, range(num_tokens), max_tokens=2))
    >>> scheduler.schedule().num_scheduled_tokens
    {'a': 10, 'b': 2, 'c': 10}
    """

    def limit_chunk(self, request: Request, num_new_tokens: int, budget: int) -> int:
        """Cut what a request lacks to its share of the budget, and to what is left of it.

        The share is the budget of a whole iteration over the requests that could be in it, rounded
        down, but at least 1.

        Args:
            request: One of ``requests``.
            num_new_tokens: Tokens that it lacks.
            budget: Tokens that may still be computed in this iteration, at least 1.
        """
        num_sharing = min(len(self.requests), self.max_num_seqs)
        share = max(self.max_num_batched_tokens // num_sharing, 1)
        return min(num_new_tokens, share, budget)

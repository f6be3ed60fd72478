"""Cache-aware order: serve first what is in the prefix cache, before it is evicted.

A request whose prefix is cached is cheap now and dear later, when its blocks have been handed out.
Serving it first raises the hit rate. But whoever shares nothing with anybody would wait for as long
as others do share, so there must be a bound on how often one is passed over.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace

from course_lib.kv_cache.manager import KVCacheManager
from course_lib.scheduling.decisions import DecisionLog
from course_lib.scheduling.policies import FCFSRequestQueue, nobody_waits
from course_lib.scheduling.request import Request
from course_lib.scheduling.scheduler import Scheduler, SchedulerConfig


class CacheAwareRequestQueue(FCFSRequestQueue):
    """Serves the request with the most cached tokens, but passes nobody over too often.

    Of equals the first in line. Each time a request is taken, those in front of it have been passed
    over once. Who has been passed over ``max_passes`` times is served next; of several such the
    first in line. So it is never passed over once more.

    All waiting requests are looked up whenever one is asked for: it takes time in their number.

    Args:
        num_cached_tokens: Tells how many tokens of a request are in the cache now.
        max_passes: How often a request may be passed over, 0 or more; 0 is first come, first
            served.

    Attributes:
        num_passes: How often each waiting request has been passed over, by its id.

    Raises:
        ValueError: ``max_passes`` is negative.

    >>> cached = {"chat": 64, "more chat": 64, "new": 0}
    >>> queue = CacheAwareRequestQueue(lambda request: cached[request.request_id], max_passes=1)
    >>> for name in ("new", "chat", "more chat"):
    ...     queue.add(Request(name, [1], 1))
    >>> [queue.pop().request_id for _ in range(3)]
    ['chat', 'new', 'more chat']
    """

    def __init__(self, num_cached_tokens: Callable[[Request], int], *, max_passes: int = 8) -> None:
        if max_passes < 0:
            raise ValueError(f"max_passes is {max_passes}; it must be 0 or more")
        super().__init__()
        self.num_cached_tokens = num_cached_tokens
        self.max_passes = max_passes
        self.num_passes: Counter[str] = Counter()
        self.next_request: Request | None = None

    def choose(self, in_line: Sequence[Request], num_passes: Counter[str]) -> int:
        """Return the position of the request to be served next.

        It is the first in line that has been passed over ``max_passes`` times or more. If there is
        none, it is the one with the most cached tokens, of equals the first in line.

        Args:
            in_line: The waiting requests, first come first; at least one.
            num_passes: How often each has been passed over, by its id.
        """
        for position, request in enumerate(in_line):
            if num_passes[request.request_id] >= self.max_passes:
                return position
        return max(  # of equals, the first
            range(len(in_line)), key=lambda position: self.num_cached_tokens(in_line[position])
        )

    def peek(self) -> Request:
        """Return the request to be served next; IndexError if there is none."""
        in_line = list(self.requests.values())
        if not in_line:
            raise nobody_waits()
        self.next_request = in_line[self.choose(in_line, self.num_passes)]
        return self.next_request

    def pop(self) -> Request:
        """Take the request that ``peek`` has just returned; IndexError if there is none.

        It is not chosen anew: what the scheduler has allocated for it since may have pushed its
        own prefix out of the cache.
        """
        taken = self.next_request or self.peek()
        for request in self.requests.values():
            if request is taken:
                break
            self.num_passes[request.request_id] += 1
        self.remove(taken)
        return taken

    def remove(self, request: Request) -> None:
        """Take a request out; ValueError if it is not there."""
        super().remove(request)
        del self.num_passes[request.request_id]
        self.next_request = None

    def __iter__(self) -> Iterator[Request]:
        """Yield the requests in the order in which they would be taken if nothing else happened."""
        in_line, num_passes = list(self.requests.values()), self.num_passes.copy()
        for _ in range(len(in_line)):  # a choice that adds to the line makes it no longer
            position = self.choose(in_line, num_passes)
            num_passes.update(request.request_id for request in in_line[:position])
            yield in_line.pop(position)


class CacheAwareScheduler(Scheduler):
    """A scheduler whose queue is cache-aware, whatever ``config.policy`` says.

    Args:
        config: Limits and choices.
        kv_cache_manager: Hands out the blocks, and knows what is cached.
        max_passes: How often a waiting request may be passed over.
        log: Keeps who got what, and why; None for no such records.
    """

    def __init__(
        self,
        config: SchedulerConfig,
        kv_cache_manager: KVCacheManager,
        *,
        max_passes: int = 8,
        log: DecisionLog | None = None,
    ) -> None:
        def num_cached_tokens(request: Request) -> int:
            return kv_cache_manager.get_computed_blocks(request)[1]

        queue = CacheAwareRequestQueue(num_cached_tokens, max_passes=max_passes)
        super().__init__(replace(config, policy=queue), kv_cache_manager, log=log)

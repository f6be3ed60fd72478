"""What a request queue holds, said in plain data: for figures, checks and tests."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping

from course_lib.scheduling.policies import RequestQueue, SortedRequestQueue, VTCRequestQueue
from course_lib.scheduling.request import Request
from course_lib.scheduling.variants.cache_aware import CacheAwareRequestQueue


def service_line(queue: RequestQueue) -> str:
    """Return the ids of those who wait, in the order in which they are served.

    >>> from course_lib.scheduling import FCFSRequestQueue
    >>> queue = FCFSRequestQueue()
    >>> for name in "ab":
    ...     queue.add(Request(name, [1], 1))
    >>> service_line(queue)
    'waits [a b]'
    """
    return f"waits [{' '.join(request.request_id for request in queue)}]"


def ghost_line(queue: SortedRequestQueue) -> str:
    """Say whether the heap has at most 16 entries beyond twice those that wait.

    >>> from course_lib.scheduling import SJFRequestQueue
    >>> queue = SJFRequestQueue()
    >>> ghost_line(queue)
    'few ghosts'
    >>> queue.heap = [(key, key, Request(str(key), [1], 1)) for key in range(17)]
    >>> ghost_line(queue)
    'too many ghosts: 17 entries, 0 alive; at most 2 * 0 + 16'
    """
    entries, living = len(queue.heap), len(queue.alive)
    if entries <= 2 * living + 16:
        return "few ghosts"
    return f"too many ghosts: {entries} entries, {living} alive; at most 2 * {living} + 16"


def leave_one_by_one(queue: RequestQueue, num_requests: int) -> int:
    """Let requests come, and all of them go again, from the middle on; return how many are left.

    >>> from course_lib.scheduling import FCFSRequestQueue
    >>> leave_one_by_one(FCFSRequestQueue(), 9)
    0
    """
    requests = [
        Request(f"guest {index}", [1], 1, arrival_time=float(index))
        for index in range(num_requests)
    ]
    for request in requests:
        queue.add(request)
    third = num_requests // 3
    for request in (*requests[third:], *requests[:third]):
        queue.remove(request)
    return len(queue)


def serve_one_by_one(queue: RequestQueue, num_requests: int) -> str:
    """Let requests come, look at the next one as often, and take half; return who was last.

    >>> from course_lib.scheduling import FCFSRequestQueue
    >>> serve_one_by_one(FCFSRequestQueue(), 9)
    'guest 3'
    """
    for index in range(num_requests):
        queue.add(Request(f"guest {index}", [1], 1, arrival_time=float(index)))
        queue.peek()
    return [queue.pop().request_id for _ in range(num_requests // 2)][-1]


def accounts(queue: VTCRequestQueue) -> dict[str, float]:
    """Return the counters of a token-fair queue, without those that stand at 0.

    >>> from course_lib.scheduling import VTCRequestQueue
    >>> queue = VTCRequestQueue()
    >>> queue.charge([Request("a1", [1], 1, client_id="a")])
    >>> queue.add(Request("b1", [1], 1, client_id="b"))
    >>> accounts(queue)
    {'a': 2.0}
    """
    return {client_id: counter for client_id, counter in queue.counters.items() if counter}


class CachedTokens:
    """Says how many tokens of a request are cached, from a table that can be changed.

    Args:
        table: Cached tokens by request id; 0 for those not named.

    >>> CachedTokens({"a": 32})(Request("a", [1] * 40, 1))
    32
    """

    def __init__(self, table: Mapping[str, int]) -> None:
        self.table = dict(table)

    def __call__(self, request: Request) -> int:
        """Return what the table says."""
        return self.table.get(request.request_id, 0)


def cache_tokens(queue: CacheAwareRequestQueue, request_id: str, num_tokens: int) -> None:
    """Change what a queue that asks ``CachedTokens`` is told of a request."""
    if isinstance(queue.num_cached_tokens, CachedTokens):
        queue.num_cached_tokens.table[request_id] = num_tokens


def choose_among(queue: CacheAwareRequestQueue, num_passes: Mapping[str, int]) -> int:
    """Return the position that a queue chooses among new requests, passed over so often.

    Args:
        queue: Asked for its choice alone; nobody is added to it.
        num_passes: How often each request was passed over, by its id, first come first.

    >>> choose_among(CacheAwareRequestQueue(CachedTokens({}), max_passes=2), {"a": 1, "b": 2})
    1
    """
    in_line = [Request(name, [1], 1) for name in num_passes]
    return queue.choose(in_line, Counter(num_passes))


def passes_line(queue: CacheAwareRequestQueue) -> str:
    """Return who waits, first come first, with cached tokens and how often it was passed over.

    >>> queue = CacheAwareRequestQueue(CachedTokens({"b": 16}))
    >>> for name in "ab":
    ...     queue.add(Request(name, [1], 1))
    >>> passes_line(queue)
    'a:0/0 b:16/0'
    """
    return " ".join(
        f"{name}:{queue.num_cached_tokens(request)}/{queue.num_passes[name]}"
        for name, request in queue.requests.items()
    )

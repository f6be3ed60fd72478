"""What a request queue holds, said in plain data: for figures, checks and tests."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

from course_lib.scheduling.policies import RequestQueue, SortedRequestQueue, VTCRequestQueue
from course_lib.scheduling.request import Request, RequestStatus
from course_lib.scheduling.variants.cache_aware import CacheAwareRequestQueue
from course_lib.scheduling.variants.even_split import EvenSplitScheduler


def preempted(request: Request) -> Request:
    """Return a request as it is when it has run and was preempted.

    >>> preempted(Request("a", [1], 1)).status.value
    'preempted'
    """
    request.status = RequestStatus.RUNNING
    request.status = RequestStatus.PREEMPTED
    request.num_preemptions += 1
    return request


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


def top_line(queue: SortedRequestQueue) -> str:
    """Say whether what is on top of the heap is an entry of somebody who waits.

    >>> from course_lib.scheduling import SJFRequestQueue
    >>> queue = SJFRequestQueue()
    >>> top_line(queue)
    'nobody waits'
    >>> for name, size in (("a", 1), ("b", 2)):
    ...     queue.add(Request(name, [1], size))
    >>> top_line(queue)
    'somebody who waits is on top'
    >>> queue.remove(queue.peek())
    >>> top_line(queue)
    'a ghost is on top'
    """
    if not queue.alive:
        return "nobody waits"
    if not queue.heap:
        return "nothing is on top"
    is_alive = queue.is_alive(queue.heap[0])
    return "somebody who waits is on top" if is_alive else "a ghost is on top"


def entries_line(queue: SortedRequestQueue) -> str:
    """Say how many entries the heap has, how many requests wait, and how many entries stay then.

    >>> from course_lib.scheduling import SJFRequestQueue
    >>> queue = SJFRequestQueue()
    >>> queue.add(Request("a", [1], 1))
    >>> leave_one_by_one(queue, 3)
    1
    >>> entries_line(queue)
    '4 in the heap, 1 alive; up to 18 stay'
    """
    entries, living = len(queue.heap), len(queue.alive)
    return f"{entries} in the heap, {living} alive; up to {2 * living + 16} stay"


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
    """Let requests come, and a shorter one behind them; look who is next and how many wait.

    Looked is once for each that comes, and as often again when all are there. Then half of them are
    taken and put back.

    Returns:
        Who was taken last.

    >>> from course_lib.scheduling import FCFSRequestQueue
    >>> serve_one_by_one(FCFSRequestQueue(), 9)
    'guest 3'
    """
    for index in range(num_requests):
        queue.add(Request(f"guest {index}", [1], 2, arrival_time=float(index)))
        queue.peek()
        len(queue)
    queue.add(Request("the shortest", [1], 1, arrival_time=float(num_requests)))
    for _ in range(num_requests):
        queue.peek()
        len(queue)
    taken = [queue.pop() for _ in range(num_requests // 2)]
    for request in reversed(taken):
        queue.put_back(request)
    return taken[-1].request_id


def same_or_copies(queue: RequestQueue, num_requests: int) -> str:
    """Say whether a queue gives out the very requests that come, or copies of them.

    Args:
        queue: Nobody waits in it.
        num_requests: How many come, at least one. All are seen in a loop, the first one by
            ``peek``, and then all are taken.

    >>> from course_lib.scheduling import FCFSRequestQueue
    >>> same_or_copies(FCFSRequestQueue(), 2)
    'the requests that came'
    """
    requests = [Request(f"guest {index}", [1], 1) for index in range(num_requests)]
    for request in requests:
        queue.add(request)
    given_out = [*queue, queue.peek(), *(queue.pop() for _ in requests)]
    are_the_same = all(any(each is request for request in requests) for each in given_out)
    return "the requests that came" if are_the_same else "copies, or others"


def beside_another(queue: RequestQueue) -> str:
    """Let somebody come to a queue and to another one of its class; return who waits in each.

    >>> from course_lib.scheduling import FCFSRequestQueue
    >>> beside_another(FCFSRequestQueue())
    'waits [own], in the other one waits [guest]; own leaves: waits []'
    """
    other = type(queue)()
    own, guest = (Request(name, [1], 1) for name in ("own", "guest"))
    queue.add(own)
    other.add(guest)
    said = f"{service_line(queue)}, in the other one {service_line(other)}"
    queue.remove(own)
    return f"{said}; own leaves: {service_line(queue)}"


def key_in_tokens(
    queue: SortedRequestQueue, prompt: int, max_tokens: int, generated: int = 0
) -> float:
    """Return the key of a request of so many tokens, as a number.

    Raises:
        TypeError: It is no number.

    >>> from course_lib.scheduling import PriorityRequestQueue, SJFRequestQueue
    >>> key_in_tokens(SJFRequestQueue(), 5, 20)
    25.0
    >>> key_in_tokens(PriorityRequestQueue(), 5, 20)
    Traceback (most recent call last):
    TypeError: this key is to be a number, and is of type tuple
    """
    request = Request("guest", range(7, 7 + prompt), max_tokens)
    for token in range(generated):
        request.append_output(token)
    key = queue.key(request)
    try:
        return float(key)
    except TypeError:
        kind = type(key).__name__
        raise TypeError(f"this key is to be a number, and is of type {kind}") from None


def come_and_go(queue: RequestQueue, num_requests: int) -> int:
    """Let requests of a client come, and as often one of another client come and go.

    Returns:
        How many wait.

    >>> from course_lib.scheduling import VTCRequestQueue
    >>> come_and_go(VTCRequestQueue(), 9)
    9
    """
    for index in range(num_requests):
        queue.add(Request(f"guest {index}", [1], 1, client_id="a"))
    comes_and_goes = Request("b1", [1], 1, client_id="b")
    for _ in range(num_requests):
        queue.add(comes_and_goes)
        queue.remove(comes_and_goes)
    return len(queue)


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


def charge_one_after_the_other(
    queue: VTCRequestQueue, client_ids: Sequence[str]
) -> dict[str, float]:
    """Charge for a token of a request of each of these clients, told by a generator.

    Returns:
        The counters, as ``accounts`` tells them.

    >>> charge_one_after_the_other(VTCRequestQueue(), "aab")
    {'a': 4.0, 'b': 2.0}
    """
    queue.charge(Request("guest", [1], 1, client_id=client_id) for client_id in client_ids)
    return accounts(queue)


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


def choose_in_a_long_line(queue: CacheAwareRequestQueue, num_requests: int) -> tuple[int, int]:
    """Return the positions that a queue chooses in a line of new requests, from 2 on.

    Returns:
        Where the last one has most in the cache and nobody is due; and where the last but one is.

    >>> queue = CacheAwareRequestQueue(CachedTokens({}), max_passes=2)
    >>> choose_in_a_long_line(queue, 9)
    (8, 7)
    """
    in_line = [Request(f"guest {index}", [1], 1) for index in range(num_requests)]
    *_, due, cached = (request.request_id for request in in_line)
    cache_tokens(queue, cached, 16)
    passed_over = Counter[str](), Counter({due: queue.max_passes})
    first, second = (int(queue.choose(in_line, num_passes)) for num_passes in passed_over)
    return first, second


def ask_among_many(scheduler: EvenSplitScheduler, num_requests: int) -> int:
    """Let requests come, and let the last one ask ten times how many tokens it computes.

    Returns:
        What it is told at last, if it lacks 1,000 tokens and 1,000 are left of the budget.

    >>> from course_lib.kv_cache import KVCacheManager
    >>> from course_lib.scheduling.scheduler import SchedulerConfig
    >>> config = SchedulerConfig(max_num_batched_tokens=30)
    >>> ask_among_many(EvenSplitScheduler(config, KVCacheManager(9)), 4)
    7
    """
    for index in range(num_requests):
        asks = Request(f"guest {index}", [1], 1)
        scheduler.add_request(asks)
    return [scheduler.limit_chunk(asks, 1000, 1000) for _ in range(10)][-1]


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

"""Request queues: the order in which waiting requests are served.

A queue is small: add, look at the next, take it, put one back, remove one, each in O(1) or
O(log n). A scheduler takes any object that does these, by name from ``POLICIES`` or one of your
own. Iterating over a queue yields the requests in service order.

Two trade-offs run through all of them. Serving short requests first lowers the mean latency and
lets long ones starve. Being fair to clients costs nobody throughput, but a client with many
requests waits longer than it would under first come, first served.
"""

from __future__ import annotations

import heapq
import itertools
import math
from abc import abstractmethod
from collections import OrderedDict, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, Protocol

from course_lib.scheduling.preemption import last_in, least_important
from course_lib.scheduling.request import Request


class RequestQueue(Protocol):
    """What a scheduler needs of its waiting queue. Inherit from it to get what has a default."""

    @abstractmethod
    def add(self, request: Request) -> None:
        """Put in a request that has just arrived; it is not in the queue yet."""

    @abstractmethod
    def put_back(self, request: Request) -> None:
        """Put in a request that was preempted."""

    @abstractmethod
    def peek(self) -> Request:
        """Return the request to be served next; IndexError if there is none."""

    @abstractmethod
    def pop(self) -> Request:
        """Take the request to be served next; IndexError if there is none."""

    @abstractmethod
    def remove(self, request: Request) -> None:
        """Take a request out, wherever it is; ValueError if it is not there."""

    @abstractmethod
    def __len__(self) -> int:
        """Return the number of requests in it."""

    @abstractmethod
    def __iter__(self) -> Iterator[Request]:
        """Yield the requests in service order."""

    def choose_victim(self, running: Sequence[Request]) -> int:
        """Return the index of the running request that gives way when memory runs out."""
        return last_in(running)

    def comes_before(self, first: Request, second: Request) -> bool:
        """Whether ``first`` is to be started before ``second``, which is swapped out.

        Only where the order of the queue says how important a request is. Otherwise those that are
        swapped out come back in the order in which they left, before anybody is admitted: they were
        chosen before, and their memory on the CPU becomes free.
        """
        return False

    def charge(self, generating: Iterable[Request]) -> None:
        """Take note of the requests that generate a token in the iteration just planned.

        Only queues that keep accounts of who was served need it. It is called once per iteration,
        and again for a request that joins later, as a fork. ``generating`` may be a generator:
        whoever does not loop over it pays nothing.
        """
        return


class FCFSRequestQueue(RequestQueue):
    """First come, first served; a preempted request goes to the front.

    An ordered dictionary is a deque that can also let go of something in the middle at once, which
    it has to when a client goes away.

    >>> queue = FCFSRequestQueue()
    >>> for name in "ab":
    ...     queue.add(Request(name, [1], 1))
    >>> queue.put_back(Request("c", [1], 1))
    >>> [request.request_id for request in queue]
    ['c', 'a', 'b']
    """

    def __init__(self) -> None:
        self._requests: OrderedDict[str, Request] = OrderedDict()

    def add(self, request: Request) -> None:
        """Put a request at the back."""
        self._requests[request.request_id] = request

    def put_back(self, request: Request) -> None:
        """Put a preempted request at the front."""
        self._requests[request.request_id] = request
        self._requests.move_to_end(request.request_id, last=False)

    def peek(self) -> Request:
        """Return the request at the front; IndexError if there is none."""
        for request in self._requests.values():
            return request
        raise _empty()

    def pop(self) -> Request:
        """Take the request at the front; IndexError if there is none."""
        if not self._requests:
            raise _empty()
        return self._requests.popitem(last=False)[1]

    def remove(self, request: Request) -> None:
        """Take a request out; ValueError if it is not there."""
        if self._requests.pop(request.request_id, None) is None:
            raise _not_in_queue(request)

    def __len__(self) -> int:
        return len(self._requests)

    def __iter__(self) -> Iterator[Request]:
        return iter(self._requests.values())


class SortedRequestQueue(RequestQueue):
    """Serves the request with the smallest key; of equal ones, the one that was put in first.

    A subclass says what the key is. The key of a request must not change while it waits.

    Invariant: every waiting request is in the heap with its number in ``_alive``. A request that is
    removed stays in the heap as a ghost, whose number is no longer alive, until it comes to the top
    or the ghosts outnumber the living. So removing costs O(1) on average, and adding and taking
    O(log n).
    """

    def __init__(self) -> None:
        self._heap: list[tuple[Any, int, Request]] = []
        self._alive: dict[str, int] = {}
        self._numbers = itertools.count()

    @abstractmethod
    def key(self, request: Request) -> Any:
        """Return what the queue sorts by: the smallest is served first."""

    def add(self, request: Request) -> None:
        """Put a request where its key says."""
        self._push(self.key(request), request)

    def put_back(self, request: Request) -> None:
        """Put a preempted request where its key says, like any other."""
        self._push(self.key(request), request)

    def peek(self) -> Request:
        """Return the request with the smallest key; IndexError if there is none."""
        return self._top()[2]

    def pop(self) -> Request:
        """Take the request with the smallest key; IndexError if there is none."""
        request = self._top()[2]
        heapq.heappop(self._heap)
        del self._alive[request.request_id]
        return request

    def remove(self, request: Request) -> None:
        """Take a request out; ValueError if it is not there."""
        if self._alive.pop(request.request_id, None) is None:
            raise _not_in_queue(request)
        if len(self._heap) > 2 * len(self._alive) + 16:
            self._heap = self._living()
            heapq.heapify(self._heap)

    def served_last(self, running: Sequence[Request]) -> int:
        """Return the index of the largest key; of equals, the one admitted last.

        It is the victim for queues whose order says how important a request is. Where the order
        only says how long it is, the victim is better the last one in: a long request has cost the
        most already when it loses its blocks.
        """
        return max(range(len(running)), key=lambda index: (self.key(running[index]), index))

    def __len__(self) -> int:
        return len(self._alive)

    def __iter__(self) -> Iterator[Request]:
        return (request for _, _, request in sorted(self._living()))

    def _push(self, key: Any, request: Request) -> None:
        """Enter a request under a key."""
        number = next(self._numbers)
        self._alive[request.request_id] = number
        heapq.heappush(self._heap, (key, number, request))

    def _top(self) -> tuple[Any, int, Request]:
        """Return the smallest entry that is not a ghost."""
        heap, alive = self._heap, self._alive
        while heap:
            entry = heap[0]
            if alive.get(entry[2].request_id) == entry[1]:
                return entry
            heapq.heappop(heap)
        raise _empty()

    def _living(self) -> list[tuple[Any, int, Request]]:
        """Return the entries that are not ghosts, in the order of the heap."""
        alive = self._alive
        return [entry for entry in self._heap if alive.get(entry[2].request_id) == entry[1]]


class PriorityRequestQueue(SortedRequestQueue):
    """The smallest (priority, arrival time, request id) first: lower is more important.

    A request of low importance waits for as long as more important ones arrive.

    >>> queue = PriorityRequestQueue()
    >>> queue.add(Request("late but urgent", [1], 1, priority=-1, arrival_time=9.0))
    >>> queue.add(Request("early", [1], 1, arrival_time=1.0))
    >>> queue.peek().request_id
    'late but urgent'
    """

    def key(self, request: Request) -> tuple[float, float, str]:
        """Return (priority, arrival time, request id)."""
        return (request.priority, request.arrival_time, request.request_id)

    def choose_victim(self, running: Sequence[Request]) -> int:
        """Choose the largest (priority, arrival time); of equals, the first."""
        return least_important(running)


class AgeingRequestQueue(SortedRequestQueue):
    """Priority that improves by one for every ``ageing_seconds`` since arrival: nobody starves.

    At time t the priority of a request is ``priority - (t - arrival_time) / ageing_seconds``. All
    waiting requests age at the same rate, so the order of two of them never changes, and the term
    with t can be left out: ``priority + arrival_time / ageing_seconds`` gives the same order at all
    times. So nothing has to be sorted again as time passes, and the queue needs no clock.

    Args:
        ageing_seconds: How long a request waits to become more important by one.

    Raises:
        ValueError: ``ageing_seconds`` is not above 0.

    >>> queue = AgeingRequestQueue(ageing_seconds=10.0)
    >>> queue.add(Request("has waited 20 s", [1], 1, priority=1, arrival_time=0.0))
    >>> queue.add(Request("urgent", [1], 1, priority=0, arrival_time=20.0))
    >>> queue.peek().request_id
    'has waited 20 s'
    """

    def __init__(self, ageing_seconds: float = 10.0) -> None:
        if not ageing_seconds > 0:
            raise ValueError(f"ageing_seconds is {ageing_seconds}; it must be above 0")
        super().__init__()
        self.ageing_seconds = ageing_seconds

    def key(self, request: Request) -> tuple[float, float, str]:
        """Return (priority as if everybody had arrived at 0, arrival time, request id)."""
        aged = request.priority + request.arrival_time / self.ageing_seconds
        return (aged, request.arrival_time, request.request_id)

    def choose_victim(self, running: Sequence[Request]) -> int:
        """Choose the request that would be served last."""
        return self.served_last(running)


class SJFRequestQueue(SortedRequestQueue):
    """Shortest job first: the fewest declared tokens, prompt and ``max_tokens`` together.

    It has the lowest mean waiting time of all orders that do not interrupt a request, and long
    requests starve while short ones keep coming.

    >>> queue = SJFRequestQueue()
    >>> queue.add(Request("long", [1] * 50, max_tokens=10))
    >>> queue.add(Request("short", [1] * 5, max_tokens=20))
    >>> queue.peek().request_id
    'short'
    """

    def key(self, request: Request) -> float:
        """Return the tokens that the request declares."""
        return request.num_prompt_tokens + request.max_tokens


class SRPTRequestQueue(SortedRequestQueue):
    """Shortest remaining processing time: the fewest declared tokens that are not generated yet.

    It differs from SJF once a request has begun: one that is preempted shortly before its end comes
    back soon. A running request does not give way to a shorter one that arrives.

    >>> queue = SRPTRequestQueue()
    >>> nearly_done = Request("nearly done", [1] * 5, max_tokens=20)
    >>> for token in range(18):
    ...     nearly_done.append_output(token)
    >>> queue.add(Request("short", [1] * 5, max_tokens=5))
    >>> queue.put_back(nearly_done)
    >>> queue.peek().request_id
    'nearly done'
    """

    def key(self, request: Request) -> float:
        """Return the tokens that the request declares and has not generated."""
        return request.num_prompt_tokens + request.max_tokens - request.num_output_tokens


class EDFRequestQueue(SortedRequestQueue):
    """Earliest deadline first; without a deadline, behind all others in the order of arrival.

    If any order meets all deadlines on one server, this one does. Under overload it is a poor
    choice: it keeps serving those that are late already.

    >>> queue = EDFRequestQueue()
    >>> queue.add(Request("batch", [1], 1))
    >>> queue.add(Request("chat", [1], 1, arrival_time=5.0, deadline=6.0))
    >>> queue.peek().request_id
    'chat'
    """

    def key(self, request: Request) -> tuple[float, float]:
        """Return (deadline, arrival time)."""
        return (request.deadline, request.arrival_time)

    def choose_victim(self, running: Sequence[Request]) -> int:
        """Choose the request with the latest deadline."""
        return self.served_last(running)


class WFQRequestQueue(SortedRequestQueue):
    """Weighted fair queueing: each client gets a share of the service in proportion to its weight.

    Imagine a server that serves all clients at once, each at a rate proportional to its weight. A
    request of a client with weight w would finish there, in *virtual time*, at::

        finish = max(virtual time, finish of the client's request before it) + cost / w

    Serving in the order of these finish times comes close to that server. The cost is what the
    request declares, prompt and ``max_tokens``. Virtual time is the finish time of the request
    taken last (self-clocked fair queueing), so that a client that was idle has saved up nothing. A
    preempted request has had its turn granted already and comes back before all others.

    Args:
        weights: The weight of each client; 1.0 for those not named.

    Raises:
        ValueError: A weight is not above 0.

    >>> queue = WFQRequestQueue(weights={"gold": 2.0})
    >>> for index in range(4):
    ...     queue.add(Request(f"tin {index}", [1] * 5, max_tokens=5, client_id="tin"))
    ...     queue.add(Request(f"gold {index}", [1] * 5, max_tokens=5, client_id="gold"))
    >>> [queue.pop().request_id for _ in range(6)]
    ['gold 0', 'tin 0', 'gold 1', 'gold 2', 'tin 1', 'gold 3']
    """

    def __init__(self, weights: Mapping[str, float] | None = None) -> None:
        super().__init__()
        self._weights = dict(weights or {})
        for client_id, weight in self._weights.items():
            if not weight > 0:
                raise ValueError(f"client {client_id!r} has weight {weight}; it must be above 0")
        self._virtual_time = 0.0
        self._last_finish: dict[str, float] = {}

    def key(self, request: Request) -> float:
        """Return the virtual finish time that the request would have if it were added now."""
        start = max(self._virtual_time, self._last_finish.get(request.client_id, 0.0))
        cost = request.num_prompt_tokens + request.max_tokens
        return start + cost / self._weights.get(request.client_id, 1.0)

    def add(self, request: Request) -> None:
        """Put a request where its virtual finish time says."""
        finish = self._last_finish[request.client_id] = self.key(request)
        self._push(finish, request)

    def put_back(self, request: Request) -> None:
        """Put a preempted request before all others, at no further cost."""
        self._push(-math.inf, request)

    def pop(self) -> Request:
        """Take the request that finishes first; virtual time moves on to its finish."""
        self._virtual_time = max(self._virtual_time, self._top()[0])
        return super().pop()


class VTCRequestQueue(RequestQueue):
    """Token-fair: the client that has been served least is next (virtual token counter, VTC).

    Each client has a counter of the tokens it was served: ``input_weight`` for every prompt token,
    when its request is taken, and ``output_weight`` for every token generated, as it is. The next
    request comes from the waiting client with the smallest counter; within a client they are served
    first come, first served. A client that had nothing waiting is lifted to the smallest counter of
    those that do (or, if nobody waits, to that of the client that was taken last), so nobody can
    save up credit by staying away.

    So for two clients that always have requests waiting, the difference of what they were served in
    any interval is at most ``2 * max(input_weight * L, output_weight * M)``, where L is the longest
    prompt and M the most tokens that fit into the running batch (Sheng et al., "Fairness in Serving
    Large Language Models", OSDI '24). Under first come, first served it grows without limit.

    Counters only grow. So the heap may be lazy: an entry is brought up to date when it comes to the
    top, and never hides a smaller one.

    Args:
        input_weight: Cost of a prompt token.
        output_weight: Cost of a generated token, which takes more of a GPU's time.

    Attributes:
        counters: What each client was served so far, in weighted tokens.

    Raises:
        ValueError: A weight is negative.

    >>> queue = VTCRequestQueue()
    >>> for name in ("a1", "a2", "a3", "b1"):
    ...     queue.add(Request(name, [1] * 10, max_tokens=1, client_id=name[0]))
    >>> [queue.pop().request_id for _ in range(4)]
    ['a1', 'b1', 'a2', 'a3']
    >>> dict(queue.counters)
    {'a': 30.0, 'b': 10.0}
    """

    def __init__(self, input_weight: float = 1.0, output_weight: float = 2.0) -> None:
        if input_weight < 0 or output_weight < 0:
            raise ValueError(
                f"the weights are {input_weight} and {output_weight}; neither may be negative"
            )
        self.input_weight = input_weight
        self.output_weight = output_weight
        self.counters: defaultdict[str, float] = defaultdict(float)
        self._waiting: dict[str, FCFSRequestQueue] = {}  # of the clients that have any
        self._heap: list[tuple[float, str]] = []  # an entry for each of them, and perhaps others
        self._in_heap: set[str] = set()
        self._num_requests = 0
        self._last_client: str | None = None

    def add(self, request: Request) -> None:
        """Put a request behind those of its client; lift the client if it had none waiting."""
        client_id = request.client_id
        if client_id not in self._waiting:
            self.counters[client_id] = max(self.counters[client_id], self._active_level())
        self._queue_of(client_id).add(request)
        self._num_requests += 1

    def put_back(self, request: Request) -> None:
        """Put a preempted request in front of those of its client, which is not lifted."""
        self._queue_of(request.client_id).put_back(request)
        self._num_requests += 1

    def peek(self) -> Request:
        """Return the first request of the client served least; IndexError if there is none."""
        return self._waiting[self._neediest()].peek()

    def pop(self) -> Request:
        """Take the first request of the client served least, and charge it for the prompt.

        One that was preempted has been charged already.
        """
        client_id = self._neediest()
        request = self._waiting[client_id].pop()
        self._left(client_id)
        self._last_client = client_id
        if not request.num_preemptions:
            self.counters[client_id] += self.input_weight * request.num_prompt_tokens
        return request

    def remove(self, request: Request) -> None:
        """Take a request out; ValueError if it is not there."""
        if request.client_id not in self._waiting:
            raise _not_in_queue(request)
        self._waiting[request.client_id].remove(request)
        self._left(request.client_id)

    def charge(self, generating: Iterable[Request]) -> None:
        """Charge each client for the tokens that are generated for it."""
        for request in generating:
            self.counters[request.client_id] += self.output_weight

    def __len__(self) -> int:
        return self._num_requests

    def __iter__(self) -> Iterator[Request]:
        """Yield the requests in the order in which they would be taken if nothing else happened."""
        heap = [(self.counters[client_id], client_id) for client_id in self._waiting]
        heapq.heapify(heap)
        queues = {client_id: iter(queue) for client_id, queue in self._waiting.items()}
        while heap:
            counter, client_id = heap[0]
            request = next(queues[client_id], None)
            if request is None:
                heapq.heappop(heap)
                continue
            cost = 0 if request.num_preemptions else request.num_prompt_tokens
            heapq.heapreplace(heap, (counter + self.input_weight * cost, client_id))
            yield request

    def _active_level(self) -> float:
        """Return the counter to which a client is lifted that has nothing waiting."""
        if self._waiting:
            return self.counters[self._neediest()]
        return 0.0 if self._last_client is None else self.counters[self._last_client]

    def _neediest(self) -> str:
        """Return the waiting client with the smallest counter."""
        heap = self._heap
        while heap:
            counter, client_id = heap[0]
            if client_id not in self._waiting:
                heapq.heappop(heap)
                self._in_heap.remove(client_id)
            elif counter != self.counters[client_id]:
                heapq.heapreplace(heap, (self.counters[client_id], client_id))
            else:
                return client_id
        raise _empty()

    def _queue_of(self, client_id: str) -> FCFSRequestQueue:
        """Return the queue of a client, which has one as long as it has requests waiting."""
        if client_id not in self._waiting:
            self._waiting[client_id] = FCFSRequestQueue()
            if client_id not in self._in_heap:
                self._in_heap.add(client_id)
                heapq.heappush(self._heap, (self.counters[client_id], client_id))
        return self._waiting[client_id]

    def _left(self, client_id: str) -> None:
        """Take note that one request of a client is no longer waiting."""
        self._num_requests -= 1
        if not self._waiting[client_id]:
            del self._waiting[client_id]


POLICIES: dict[str, Callable[[], RequestQueue]] = {
    "fcfs": FCFSRequestQueue,
    "priority": PriorityRequestQueue,
    "ageing": AgeingRequestQueue,
    "sjf": SJFRequestQueue,
    "srpt": SRPTRequestQueue,
    "vtc": VTCRequestQueue,
    "wfq": WFQRequestQueue,
    "edf": EDFRequestQueue,
}
"""The queues by name, each with its default settings."""


def make_queue(policy: str | RequestQueue | Callable[[], RequestQueue]) -> RequestQueue:
    """Return an empty queue: the one of this name, the one given, or the one that is made.

    Args:
        policy: A name in ``POLICIES``, a queue, or something that makes one, such as a class.

    Raises:
        ValueError: There is no policy of this name, or the queue is not empty.
    """
    if isinstance(policy, str):
        if policy not in POLICIES:
            raise ValueError(f"no policy {policy!r}; known: {', '.join(POLICIES)}, or pass a queue")
        return POLICIES[policy]()
    queue = policy() if callable(policy) else policy
    if len(queue):
        raise ValueError(
            f"the queue holds {len(queue)} requests already; give each scheduler its own"
        )
    return queue


def _empty() -> IndexError:
    """Say that there is nothing to take."""
    return IndexError("no request is waiting; ask for the length first")


def _not_in_queue(request: Request) -> ValueError:
    """Say that a request cannot be taken out."""
    return ValueError(f"request {request.request_id!r} is not in this queue; remove it only once")

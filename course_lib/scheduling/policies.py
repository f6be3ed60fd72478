"""Request queues: the order in which waiting requests are served.

A queue is small: add, look at the next, take it, put one back, remove one, each in O(1) or
O(log n), or in the number of clients. A scheduler takes any object that does these, by name from
``POLICIES`` or one of your own. Iterating over a queue yields the requests in service order.

Two trade-offs run through all of them. Serving short requests first lowers the mean latency and
lets long ones starve. Being fair to clients costs no throughput, but a client with many
requests waits longer than it would under first come, first served.
"""

from __future__ import annotations

import heapq
import math
from abc import abstractmethod
from collections import OrderedDict, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from copy import copy
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


def nobody_waits() -> IndexError:
    """Return what a queue raises when there is nothing to take."""
    return IndexError("no request is waiting; ask for the length first")


def not_in_queue(request: Request) -> ValueError:
    """Return what a queue raises when it is to give out a request that it does not hold."""
    return ValueError(f"request {request.request_id!r} is not in this queue; remove it only once")


class FCFSRequestQueue(RequestQueue):
    """First come, first served; a preempted request goes to the front.

    Each call takes the same time however many wait, ``remove`` as well: a client that goes away may
    stand anywhere in the line.

    >>> queue = FCFSRequestQueue()
    >>> for name in "ab":
    ...     queue.add(Request(name, [1], 1))
    >>> queue.put_back(Request("c", [1], 1))
    >>> [request.request_id for request in queue]
    ['c', 'a', 'b']
    """

    def __init__(self) -> None:
        """Make a queue in which nobody waits."""
        # A deque that can also let go of something in the middle at once.
        self.requests: OrderedDict[str, Request] = OrderedDict()

    def add(self, request: Request) -> None:
        """Put a request at the back."""
        self.requests[request.request_id] = request

    def put_back(self, request: Request) -> None:
        """Put a preempted request at the front."""
        self.requests[request.request_id] = request
        self.requests.move_to_end(request.request_id, last=False)

    def peek(self) -> Request:
        """Return the request at the front; IndexError if there is none."""
        if not self.requests:
            raise nobody_waits()
        return next(iter(self.requests.values()))

    def pop(self) -> Request:
        """Take the request at the front; IndexError if there is none."""
        if not self.requests:
            raise nobody_waits()
        return self.requests.popitem(last=False)[1]

    def remove(self, request: Request) -> None:
        """Take a request out; ValueError if it is not there."""
        if self.requests.pop(request.request_id, None) is None:
            raise not_in_queue(request)

    def __len__(self) -> int:
        """Return the number of requests in it."""
        return len(self.requests)

    def __iter__(self) -> Iterator[Request]:
        """Yield the requests in service order."""
        return iter(self.requests.values())


class SortedRequestQueue(RequestQueue):
    """Serves the request with the smallest key; of equal ones, the one that was put in first.

    A subclass says what the key is. The key of a request must not change while it waits.

    Entries of the heap are (key, number, request): the number, which no other entry has, decides
    between equal keys, so that two requests are never compared.

    Invariant: every waiting request is in the heap with its number in ``alive``. A request that is
    removed stays in the heap as a ghost, whose number is no longer alive, until it comes to the top
    or a ``remove`` finds over 16 more ghosts than living. So removing costs O(1) on average, and
    adding and taking O(log n).

    Attributes:
        heap: The entries, ghosts included.
        alive: The number of each waiting request's entry, by request id.
        num_entries: Entries made so far.
    """

    def __init__(self) -> None:
        self.heap: list[tuple[Any, int, Request]] = []
        self.alive: dict[str, int] = {}
        self.num_entries = 0

    @abstractmethod
    def key(self, request: Request) -> Any:
        """Return what the queue sorts by: the smallest is served first."""

    def add(self, request: Request) -> None:
        """Put a request where its key says."""
        self.push(self.key(request), request)

    def put_back(self, request: Request) -> None:
        """Put a preempted request where its key says, like any other."""
        self.push(self.key(request), request)

    def push(self, key: Any, request: Request) -> None:
        """Enter a request under a key, with a number that no other entry has or had.

        The key is kept as it is now; it is not asked for again while the request waits.

        Args:
            key: What the queue sorts by: the smallest is served first.
            request: It is not in the queue, though a ghost of it may be in the heap.
        """
        self.num_entries += 1
        self.alive[request.request_id] = self.num_entries
        heapq.heappush(self.heap, (key, self.num_entries, request))

    def peek(self) -> Request:
        """Return the request that is served next, and leave it in the queue.

        Ghosts that stand before it are taken off the heap for good, so nobody meets them again.

        Raises:
            IndexError: Nobody waits (``nobody_waits()`` is what a queue raises then).
        """
        while self.heap and not self.is_alive(self.heap[0]):
            heapq.heappop(self.heap)
        if not self.heap:
            raise nobody_waits()
        return self.heap[0][2]

    def pop(self) -> Request:
        """Take the request with the smallest key; IndexError if there is none."""
        request = self.peek()
        heapq.heappop(self.heap)
        del self.alive[request.request_id]
        return request

    def remove(self, request: Request) -> None:
        """Take a request out, wherever it is. What is left of it in the heap is a ghost.

        When the heap has more than 16 entries beyond twice the living, all ghosts are thrown out.
        So a queue from which many are removed does not grow, and yet most calls cost O(1).

        Raises:
            ValueError: It is not in the queue (``not_in_queue(request)``).
        """
        if request.request_id not in self.alive:
            raise not_in_queue(request)
        del self.alive[request.request_id]
        if len(self.heap) > 2 * len(self.alive) + 16:
            self.heap = [entry for entry in self.heap if self.is_alive(entry)]
            heapq.heapify(self.heap)

    def is_alive(self, entry: tuple[Any, int, Request]) -> bool:
        """Whether an entry of the heap is that of a waiting request, and no ghost."""
        return self.alive.get(entry[2].request_id) == entry[1]

    def __len__(self) -> int:
        return len(self.alive)

    def __iter__(self) -> Iterator[Request]:
        living = [entry for entry in self.heap if self.is_alive(entry)]
        return (request for _, _, request in sorted(living))


class RankedRequestQueue(SortedRequestQueue):
    """A sorted queue whose key says how important a request is, and not only how long.

    So it also says who gives way when memory runs out, and who returns before whom. Where the key
    says how long a request is, the victim is better the last one in: a long request has cost the
    most already when it loses its blocks.
    """

    def choose_victim(self, running: Sequence[Request]) -> int:
        """Choose the request that would be served last; of equals, the one admitted last."""
        return max(range(len(running)), key=lambda index: (self.key(running[index]), index))

    def comes_before(self, first: Request, second: Request) -> bool:
        """Whether the key of ``first`` is the smaller one."""
        return bool(self.key(first) < self.key(second))


class PriorityRequestQueue(RankedRequestQueue):
    """The smallest (priority, arrival time, request id) first: lower is more important.

    A request of low importance waits for as long as more important ones arrive.

    >>> queue = PriorityRequestQueue()
    >>> queue.add(Request("late but urgent", [1], 1, priority=-1, arrival_time=9.0))
    >>> queue.add(Request("early", [1], 1, arrival_time=1.0))
    >>> queue.peek().request_id
    'late but urgent'
    """

    def key(self, request: Request) -> tuple[float, float, str]:
        """Return what decides who is served first, the most important part in front.

        A lower priority value is more important. Of equals the one that arrived earlier goes
        first, and of those the one with the smaller id.
        """
        return (request.priority, request.arrival_time, request.request_id)

    def choose_victim(self, running: Sequence[Request]) -> int:
        """Choose the largest (priority, arrival time); of equals, the first."""
        return least_important(running)


class AgeingRequestQueue(RankedRequestQueue):
    """Priority that improves by one for every ``ageing_seconds`` since arrival: nobody starves.

    At time t the priority of a request is ``priority - (t - arrival_time) / ageing_seconds``. All
    waiting requests age at the same rate, so the order of two of them never changes, and the term
    with t can be left out: ``priority + arrival_time / ageing_seconds`` gives the same order at all
    times. So nothing has to be sorted again as time passes, and the queue needs no clock. Times
    ``ageing_seconds`` it is a time, and exact where all three are whole numbers: so ties are ties,
    and the earlier request goes first.

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
        """Return what sorts requests by their aged priority, at any time and without a clock.

        At time t it is ``priority - (t - arrival_time) / ageing_seconds``, and lower is more
        important. Where it is equal, the earlier arrival goes first, and of those the smaller id.
        """
        rank = request.priority * self.ageing_seconds + request.arrival_time
        return (rank, request.arrival_time, request.request_id)


class SJFRequestQueue(SortedRequestQueue):
    """Shortest job first: the fewest declared tokens, prompt and ``max_tokens`` together.

    On a server of one request at a time it has the lowest mean waiting time of all orders of
    requests that are all there. Long requests starve while short ones keep coming.

    >>> queue = SJFRequestQueue()
    >>> queue.add(Request("long", [1] * 50, max_tokens=10))
    >>> queue.add(Request("short", [1] * 5, max_tokens=20))
    >>> queue.peek().request_id
    'short'
    """

    def key(self, request: Request) -> float:
        """Return the tokens that the request declares, prompt and ``max_tokens``: a number."""
        return request.num_prompt_tokens + request.max_tokens


class SRPTRequestQueue(SortedRequestQueue):
    """Shortest remaining processing time: the fewest declared tokens that are not generated yet.

    It differs from SJF once a request has begun: one that is preempted shortly before its end comes
    back sooner. A running request does not give way to a shorter one that arrives.

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
        """Return the tokens that the request declares, less those generated so far: a number."""
        return request.num_prompt_tokens + request.max_tokens - request.num_output_tokens


class EDFRequestQueue(RankedRequestQueue):
    """Earliest deadline first; without a deadline, behind all others in the order of arrival.

    If any order of requests that are all there meets all deadlines on one server, this one does.
    Under overload it is a poor choice: it keeps serving those that are late already.

    >>> queue = EDFRequestQueue()
    >>> queue.add(Request("batch", [1], 1))
    >>> queue.add(Request("chat", [1], 1, arrival_time=5.0, deadline=6.0))
    >>> queue.peek().request_id
    'chat'
    """

    def key(self, request: Request) -> tuple[float, float]:
        """Return what sorts by deadline, and equal deadlines by arrival time."""
        return (request.deadline, request.arrival_time)


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

    Attributes:
        virtual_time: How far the imagined server has come.
        last_finish: The virtual finish time of the last request of each client.

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
        self.weights = dict(weights or {})
        for client_id, weight in self.weights.items():
            if not weight > 0:
                raise ValueError(f"client {client_id!r} has weight {weight}; it must be above 0")
        self.virtual_time = 0.0
        self.last_finish: dict[str, float] = {}

    def key(self, request: Request) -> float:
        """Return the virtual finish time that the request would have if it were added now.

        It is asked once for each request, before ``last_finish`` is set to what is returned.
        ``virtual_time`` is now. ``last_finish`` has no client of which nothing came yet, and
        ``weights`` none that is not named: such a one has weight 1.0.
        """
        start = max(self.virtual_time, self.last_finish.get(request.client_id, 0.0))
        cost = request.num_prompt_tokens + request.max_tokens
        return start + cost / self.weights.get(request.client_id, 1.0)

    def add(self, request: Request) -> None:
        """Put a request where its virtual finish time says."""
        finish = self.last_finish[request.client_id] = self.key(request)
        self.push(finish, request)

    def put_back(self, request: Request) -> None:
        """Put a preempted request before all others, at no further cost."""
        self.push(-math.inf, request)

    def pop(self) -> Request:
        """Take the request that finishes first; virtual time moves on to its finish."""
        self.peek()  # now no ghost is on top
        self.virtual_time = max(self.virtual_time, self.heap[0][0])
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

    The smallest counter is looked for among all waiting clients. With 1,000 of them an admission
    takes about 0.2 ms for it, so a heap is not worth its trouble.

    Args:
        input_weight: Cost of a prompt token.
        output_weight: Cost of a generated token, which takes more of a GPU's time.

    Attributes:
        counters: What each client was served so far, in weighted tokens.
        queues: What each client has waiting, of those that have anything.
        last_client: The client that was taken last; None before the first.

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
        self.queues: dict[str, FCFSRequestQueue] = {}
        self.last_client: str | None = None

    def add(self, request: Request) -> None:
        """Put a request behind those of its client; lift the client if it had none waiting."""
        if request.client_id not in self.queues:
            self.lift(request.client_id)
            self.queues[request.client_id] = FCFSRequestQueue()
        self.queues[request.client_id].add(request)

    def lift(self, client_id: str) -> None:
        """Raise the counter of a client that has nothing waiting; it is never lowered.

        It is raised to the smallest counter of the clients that wait. If nobody waits, to that of
        the client that was taken last; if nobody was taken yet, it stays.
        """
        level = 0.0
        if self.queues:
            level = self.counters[self.least_served()]
        elif self.last_client is not None:
            level = self.counters[self.last_client]
        self.counters[client_id] = max(self.counters[client_id], level)

    def least_served(self) -> str:
        """Return the waiting client with the smallest counter, of equals the first by name.

        Raises:
            IndexError: Nobody waits.
        """
        if not self.queues:
            raise nobody_waits()
        return min(self.queues, key=lambda client_id: (self.counters[client_id], client_id))

    def put_back(self, request: Request) -> None:
        """Put a preempted request in front of those of its client, which is not lifted."""
        self.queues.setdefault(request.client_id, FCFSRequestQueue()).put_back(request)

    def peek(self) -> Request:
        """Return the first request of the client served least; IndexError if there is none."""
        return self.queues[self.least_served()].peek()

    def pop(self) -> Request:
        """Take the first request of the client served least, and charge it for the prompt.

        One that was preempted has been charged already.
        """
        request = self.peek()
        self.remove(request)
        self.last_client = request.client_id
        if not request.num_preemptions:
            self.counters[request.client_id] += self.input_weight * request.num_prompt_tokens
        return request

    def remove(self, request: Request) -> None:
        """Take a request out, at no charge; ValueError if it is not there."""
        # A client with nothing waiting has an empty queue, which refuses.
        queue = self.queues.get(request.client_id, FCFSRequestQueue())
        queue.remove(request)
        if not queue:
            del self.queues[request.client_id]

    def charge(self, generating: Iterable[Request]) -> None:
        """Charge each client ``output_weight`` for each of these requests, which get a token."""
        for request in generating:
            self.counters[request.client_id] += self.output_weight

    def __len__(self) -> int:
        return sum(len(queue) for queue in self.queues.values())

    def __iter__(self) -> Iterator[Request]:
        """Yield the requests in the order in which they would be taken if nothing else happened."""
        ahead = copy(self)
        ahead.counters = self.counters.copy()
        ahead.queues = {}
        for client_id, queue in self.queues.items():
            ahead.queues[client_id] = FCFSRequestQueue()
            for request in queue:
                ahead.queues[client_id].add(request)
        while ahead.queues:
            yield ahead.pop()


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
"""The queues by name, each with its default settings. One of your own may be added under its name:
``POLICIES["mine"] = MyRequestQueue``."""


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

"""What lesson 9's figure shows: the same requests, served in several orders."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from course_lib.scheduling.policies import RequestQueue, make_queue
from course_lib.scheduling.request import Request
from course_lib.scheduling.scheduler import SchedulerConfig
from course_lib.simulation.cost_model import CostModel
from course_lib.simulation.metrics import ServiceCurves
from course_lib.simulation.result import SimulationResult
from course_lib.simulation.simulator import simulate
from course_lib.simulation.tournament import Policy
from course_lib.simulation.workload import TraceRequest, Workload
from course_lib.viz.policies.reasons import Context, reason

BLOCK_SIZE = 16
BASE = "fcfs"
"""The order that the others are compared with."""

MOST_BARS = 100
"""Of a longer line, those who came first are shown."""

_MOST_OF_A_CLIENT = 250


@dataclass(frozen=True)
class Outcome:
    """What an order made of the requests, or why it made nothing.

    Attributes:
        result: What was measured; None if the order failed.
        problem: What it failed with, in words; empty if it did not.
    """

    result: SimulationResult | None
    problem: str = ""

    @property
    def waits(self) -> NDArray[np.float64]:
        """The times to first token of those who were served, sorted, in seconds."""
        if self.result is None:
            return np.zeros(0)
        ttft = self.result.ttft
        return np.sort(ttft[~np.isnan(ttft)])


@dataclass(frozen=True)
class ServedLine:
    """A waiting line in the order in which a queue gives it out.

    Attributes:
        requests: Who waits, first who is served first.
        contexts: What the queue knew before it gave out each of them.
        queue: The queue, which is empty now.
        problem: Why it did not give out all of them; empty if it did.
    """

    requests: tuple[Request, ...]
    contexts: tuple[Context, ...]
    queue: RequestQueue | None
    problem: str = ""

    def why(self, name: str, number: int) -> str:
        """Say why a request is served when it is.

        Args:
            name: What the order is called.
            number: The place of the request in the line, from 0.
        """
        left = self.requests[number:]
        return reason(name, self.queue, left, self.contexts[number])


class Race:
    """One workload and several orders of service; what is asked for is simulated once.

    Args:
        workload: Who asks for what, with clients, priorities and deadlines.
        policies: What makes the queue of each order, by name; ``BASE`` is among them.
        num_blocks: Blocks of the KV cache, the null block included, with which the line is looked
            at when it is longest.
        cost_model: Tells how long an iteration takes.
    """

    def __init__(
        self,
        workload: Workload,
        policies: Mapping[str, Policy],
        num_blocks: int,
        cost_model: CostModel,
    ) -> None:
        self.workload = workload
        self.policies = policies
        self.num_blocks = num_blocks
        self._cost_model = cost_model
        self._outcomes: dict[tuple[str, int, bool], Outcome] = {}
        self._lines: dict[tuple[str, int], ServedLine] = {}

    @cached_property
    def two_clients(self) -> Workload:
        """The same requests, half of them of client a, all at once, and half of b behind them."""
        half = min(len(self.workload) // 2, _MOST_OF_A_CLIENT)
        requests = tuple(
            replace(each, arrival_time=0.0, client_id="a" if n < half else "b")
            for n, each in enumerate(self.workload[: 2 * half])
        )
        return replace(self.workload, requests=requests)

    @cached_property
    def seconds(self) -> float:
        """When most requests wait under first come, first served, with ``num_blocks``."""
        result = self._served_by_arrival(self.num_blocks)
        times = np.unique(result.steps.column("start"))
        come = np.searchsorted(np.sort(result.arrival_times), times, side="right")
        begun = np.searchsorted(np.sort(_begins(result)), times, side="right")
        return float(times[int(np.argmax(come - begun))])

    def outcome(self, name: str, num_blocks: int, is_crowded: bool = False) -> Outcome:
        """Return what an order makes of the workload, or of ``two_clients`` if it is crowded."""
        asked = (name, num_blocks, is_crowded)
        if asked not in self._outcomes:
            workload = self.two_clients if is_crowded else self.workload
            try:
                result = self._simulate(self.policies[name], num_blocks, workload)
                self._outcomes[asked] = Outcome(result)
            except Exception as error:  # what a learner's queue does wrong is told in words
                self._outcomes[asked] = Outcome(None, f"{type(error).__name__}: {error}")
        return self._outcomes[asked]

    def num_waiting(self, num_blocks: int) -> int:
        """Return how many wait at ``seconds`` under first come, first served."""
        return len(self._waiting(num_blocks))

    def line(self, name: str, num_blocks: int) -> ServedLine:
        """Return the line at ``seconds``, as a queue gives it out to which it is given.

        The line is the same for all orders: of those who wait under first come, first served and
        have not begun, the first ``MOST_BARS``.
        """
        if (name, num_blocks) not in self._lines:
            waiting = self._waiting(num_blocks)[:MOST_BARS]
            self._lines[name, num_blocks] = _give_out(self.policies[name], waiting, self.seconds)
        return self._lines[name, num_blocks]

    def gap(self, name: str, num_blocks: int) -> tuple[tuple[float, float], ...]:
        """Return how far two clients' services are apart, while both have requests waiting.

        Returns:
            Seconds and weighted tokens; empty if the order failed.
        """
        result = self.outcome(name, num_blocks, is_crowded=True).result
        if result is None:
            return ()
        clients = np.array([each.client_id for each in result.requests])
        begins = np.array([each.first_scheduled_time for each in result.requests])
        last = [float(np.nanmax(begins[clients == client])) for client in ("a", "b")]
        curves: ServiceCurves = result.service_curves().until(min(last))
        return ((0.0, 0.0), *zip(curves.times.tolist(), curves.gap().tolist(), strict=True))

    def bound(self, num_blocks: int) -> float:
        """Return what VTC guarantees of ``gap``, in weighted tokens (Sheng et al., OSDI '24)."""
        longest = max(each.prompt_tokens for each in self.two_clients)
        return 2.0 * max(longest, 2 * (num_blocks - 1) * BLOCK_SIZE)

    def _waiting(self, num_blocks: int) -> list[Request]:
        """Return who has come and has not begun at ``seconds``, by arrival."""
        begins = _begins(self._served_by_arrival(num_blocks))
        return [
            _request(number, each)
            for number, each in enumerate(self.workload)
            if each.arrival_time <= self.seconds < begins[number]
        ]

    def _served_by_arrival(self, num_blocks: int) -> SimulationResult:
        """Return what the library's own first come, first served makes of the workload."""
        result = self.outcome(BASE, num_blocks).result
        if self.policies[BASE] is make_queue(BASE).__class__ and result is not None:
            return result
        return self._simulate(BASE, num_blocks, self.workload)

    def _simulate(self, policy: Policy, num_blocks: int, workload: Workload) -> SimulationResult:
        config = SchedulerConfig(policy=policy)
        return simulate(workload, config, self._cost_model, num_blocks, BLOCK_SIZE)


def _begins(result: SimulationResult) -> NDArray[np.float64]:
    """Return when each request was admitted first; one that was refused, when it came."""
    begins = np.array([each.first_scheduled_time for each in result.requests])
    return np.where(np.isnan(begins), result.arrival_times, begins)


def _request(number: int, asked: TraceRequest) -> Request:
    return Request(
        str(number),
        [number] * asked.prompt_tokens,
        asked.output_tokens,
        asked.priority,
        asked.arrival_time,
        client_id=asked.client_id,
        deadline=asked.deadline,
    )


def _give_out(policy: Policy, waiting: Sequence[Request], seconds: float) -> ServedLine:
    """Put a line into an empty queue, and take all of it."""
    served: list[Request] = []
    contexts: list[Context] = []
    queue: RequestQueue | None = None
    try:
        queue = make_queue(policy)
        for request in waiting:
            queue.add(request)
        for _ in waiting:
            contexts.append(Context.of(queue, seconds))
            served.append(queue.pop())
        if sorted(map(_name, served)) != sorted(map(_name, waiting)):
            raise ValueError("the queue gives out other requests than were put in")
    except Exception as error:  # what a learner's queue does wrong is told in words
        return ServedLine(tuple(waiting), (), None, f"{type(error).__name__}: {error}")
    return ServedLine(tuple(served), tuple(contexts), queue)


def _name(request: Request) -> str:
    return request.request_id


def shares(count: int) -> list[float]:
    """Return the share of values that lie at or below each of ``count`` sorted ones, in percent.

    >>> shares(4)
    [25.0, 50.0, 75.0, 100.0]
    """
    return [100 * (number + 1) / count for number in range(count)]

"""The simulator: the engine's own scheduler, on a virtual clock.

Everything that decides is real: ``Scheduler`` and ``KVCacheManager`` are those of the engine. Only
the model is missing. How long an iteration takes is told by a cost model, and every token that is
generated is a made-up one.
"""

from __future__ import annotations

import heapq
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from course_lib.kv_cache.manager import KVCacheManager
from course_lib.scheduling.request import Request, RequestStatus
from course_lib.scheduling.scheduler import Scheduler, SchedulerConfig, SchedulerOutput
from course_lib.simulation import metrics
from course_lib.simulation.cost_model import CostModel, IterationWork
from course_lib.simulation.metrics import ServiceCurves, ServiceLevel, TokenLog
from course_lib.simulation.step_table import Step, StepTable, write_chrome_trace
from course_lib.simulation.workload import MOONCAKE_BLOCK_SIZE, ClosedLoop, TraceRequest

SchedulerFactory = Callable[[SchedulerConfig, KVCacheManager], Scheduler]

_FIRST_MADE_UP_TOKEN = 2**31
"""Token ids from here on are made up. Hash ids in traces and real vocabularies are far below."""

_FUTILE_POOLS = 100
"""How many pools full of tokens may be computed without one output token, before giving up.

Each request that is preempted at the end of its prompt costs one pool at most, and the one in front
of it makes progress; so a scheduler that serves anybody at all stays far below.
"""


class SimulationError(RuntimeError):
    """A simulation was given up: nobody makes progress, or the clock ran past its limit."""


class RequestOutcome(NamedTuple):
    """What became of a request.

    Attributes:
        request_id: Its name.
        client_id: Whose it is.
        arrival_time: When it arrived, in seconds.
        prompt_tokens: Length of its prompt.
        output_tokens: Tokens that it generated.
        first_scheduled_time: When it was first admitted to the batch; NaN if never.
        num_cached_tokens: Prompt tokens that it found in the prefix cache then.
        num_preemptions: How often it lost its place.
        status: How it ended.
        finish_reason: Why, where the status does not say enough.
    """

    request_id: str
    client_id: str
    arrival_time: float
    prompt_tokens: int
    output_tokens: int
    first_scheduled_time: float
    num_cached_tokens: int
    num_preemptions: int
    status: RequestStatus
    finish_reason: str


@dataclass(frozen=True, eq=False)
class SimulationResult:
    """What a simulation measured. Arrays have one value per request, in the order given.

    Attributes:
        requests: What became of each request.
        token_log: When each of their tokens came.
        steps: One row per iteration.
    """

    requests: tuple[RequestOutcome, ...] = field(repr=False)
    token_log: TokenLog = field(repr=False)
    steps: StepTable

    @cached_property
    def arrival_times(self) -> NDArray[np.float64]:
        """When each request arrived, in seconds."""
        return np.array([request.arrival_time for request in self.requests], dtype=np.float64)

    @cached_property
    def ttft(self) -> NDArray[np.float64]:
        """Time to first token in seconds; NaN for a request that was refused."""
        return metrics.time_to_first_token(self.arrival_times, self.token_log)

    @cached_property
    def tpot(self) -> NDArray[np.float64]:
        """Time per output token after the first, in seconds; NaN for a single token."""
        return metrics.time_per_output_token(self.token_log)

    @cached_property
    def e2e(self) -> NDArray[np.float64]:
        """Time from arrival to last token in seconds; NaN for a request that was refused."""
        return metrics.end_to_end_latency(self.arrival_times, self.token_log)

    @cached_property
    def itl(self) -> NDArray[np.float64]:
        """Every gap between two tokens of a request, in seconds."""
        return metrics.inter_token_latencies(self.token_log)

    @cached_property
    def longest_gap(self) -> NDArray[np.float64]:
        """The longest gap between two tokens of each request, in seconds; NaN for one token."""
        return metrics.longest_gaps(self.token_log)

    @cached_property
    def queue_time(self) -> NDArray[np.float64]:
        """Time from arrival to admission in seconds; NaN for a request that was refused."""
        return np.array([r.first_scheduled_time - r.arrival_time for r in self.requests])

    @property
    def makespan(self) -> float:
        """Time from the first arrival to the last token, in seconds; 0.0 without any token."""
        if len(self.token_log.times) == 0:
            return 0.0
        return float(self.token_log.times.max() - self.arrival_times.min())

    @property
    def num_preemptions(self) -> int:
        """How often a request lost its place in the batch."""
        return sum(request.num_preemptions for request in self.requests)

    @property
    def num_recomputed_tokens(self) -> int:
        """Tokens that were computed although they had been computed, or found cached, before.

        A request needs its prompt and all output tokens but the last computed once, less what it
        finds in the cache when it is first admitted.
        """
        needed = sum(
            r.prompt_tokens + r.output_tokens - 1 - r.num_cached_tokens
            for r in self.requests
            if r.output_tokens
        )
        return sum(step.num_tokens for step in self.steps) - needed

    def goodput(self, level: ServiceLevel) -> float:
        """Return the requests per second that meet a service level; 0.0 without any token."""
        if self.makespan == 0.0:
            return 0.0
        return metrics.goodput(level.is_met(self.ttft, self.tpot, self.e2e), self.makespan)

    def service_curves(
        self, prompt_weight: float = 1.0, output_weight: float = 2.0
    ) -> ServiceCurves:
        """Return how much service each client received over time; ``gap()`` is the unfairness."""
        return metrics.service_curves(
            self.token_log,
            [request.client_id for request in self.requests],
            [request.prompt_tokens for request in self.requests],
            prompt_weight,
            output_weight,
        )

    def summary(self) -> dict[str, float]:
        """Return the figures that describe the run: counts, seconds, and rates per second.

        Latencies appear as ``ttft_mean``, ``ttft_p50``, ``ttft_p90``, ``ttft_p99`` and
        ``ttft_max``, and likewise for ``tpot``, ``itl``, ``longest_gap``, ``e2e`` and
        ``queue_time``. ``slot_use`` is the share of places in the batch (``StepTable.places``) that
        computed something, averaged over iterations. What does not exist is NaN.
        """
        makespan, num_output = self.makespan, len(self.token_log.times)
        num_finished = sum(request.output_tokens > 0 for request in self.requests)
        kv_usage = self.steps.column("kv_usage") if len(self.steps) else np.array([math.nan])
        num_places = int(self.steps.places().sum())
        num_in_use = sum(step.num_requests for step in self.steps)
        figures: dict[str, float] = {
            "num_requests": len(self.requests),
            "num_finished": num_finished,
            "num_ignored": sum(
                request.status is RequestStatus.FINISHED_IGNORED for request in self.requests
            ),
            "makespan": makespan,
            "requests_per_second": num_finished / makespan if makespan else math.nan,
            "output_tokens_per_second": num_output / makespan if makespan else math.nan,
            "num_steps": len(self.steps),
            "num_preemptions": self.num_preemptions,
            "num_recomputed_tokens": self.num_recomputed_tokens,
            "slot_use": num_in_use / num_places if num_places else math.nan,
            "num_running_mean": self.steps.time_average("num_running"),
            "num_waiting_mean": self.steps.time_average("num_waiting"),
            "kv_usage_mean": self.steps.time_average("kv_usage"),
            "kv_usage_max": float(kv_usage.max()),
        }
        for name in ("ttft", "tpot", "itl", "longest_gap", "e2e", "queue_time"):
            for statistic, value in metrics.summarize(getattr(self, name)).items():
                figures[f"{name}_{statistic}"] = value
        return figures

    def to_chrome_trace(self, path: str | Path) -> None:
        """Write steps and requests for chrome://tracing or ui.perfetto.dev.

        Each request is a bar of three parts: waiting, prefill, decode.
        """
        write_chrome_trace(path, [*self.steps.chrome_events(), *self._request_events()])

    def _request_events(self) -> list[dict[str, Any]]:
        """Return the parts of each request's life as asynchronous trace events."""
        events: list[dict[str, Any]] = []
        first, last = self.token_log.first().tolist(), self.token_log.last().tolist()
        for index, request in enumerate(self.requests):
            if not request.output_tokens:
                continue
            moments = (
                ("waiting", request.arrival_time, request.first_scheduled_time),
                ("prefill", request.first_scheduled_time, first[index]),
                ("decode", first[index], last[index]),
            )
            for name, start, end in moments:
                for phase, seconds in (("b", start), ("e", end)):
                    events.append(
                        {
                            "ph": phase,
                            "cat": "request",
                            "id": request.request_id,
                            "name": name,
                            "pid": 1,
                            "tid": 0,
                            "ts": seconds * 1e6,
                        }
                    )
        return events


def simulate(
    requests: Sequence[TraceRequest] | Sequence[Request] | ClosedLoop,
    config: SchedulerConfig,
    cost_model: CostModel,
    num_blocks: int,
    block_size: int = 16,
    enable_caching: bool = False,
    *,
    scheduler_class: SchedulerFactory = Scheduler,
    max_seconds: float = math.inf,
    on_finished: Callable[[int, int], None] | None = None,
) -> SimulationResult:
    """Serve requests on a virtual clock, and measure what their users would notice.

    Args:
        requests: A workload; or ``scheduling.Request`` objects, which are not changed, and generate
            ``max_tokens`` tokens each, whatever their EOS token is; or a closed loop.
        config: Limits and choices of the scheduler.
        cost_model: Tells how long an iteration takes.
        num_blocks: Blocks of the KV cache, the null block included.
        block_size: Tokens per block.
        enable_caching: Whether prefixes are kept for later requests. Requests of a trace share
            those that their ``hash_ids`` tell of, and no others.
        scheduler_class: Makes the scheduler; called with the configuration and a KVCacheManager.
        max_seconds: Where the virtual clock stops, for a set-up that takes in more than it serves.
        on_finished: Called with the number of finished requests and the number of all, whenever
            one finishes.

    Returns:
        Everything that was measured, in the order in which the requests were given.

    Raises:
        ValueError: A parameter is out of range, two requests have the same name, or one of them has
            begun already.
        SimulationError: Nobody makes progress, or the clock has passed ``max_seconds``.

    >>> from course_lib.simulation import ConstantCostModel, TraceRequest
    >>> two = [TraceRequest(0.0, prompt_tokens=100, output_tokens=3), TraceRequest(1.5, 100, 1)]
    >>> result = simulate(two, SchedulerConfig(), ConstantCostModel(1.0), num_blocks=50)
    >>> result.ttft.tolist(), result.e2e.tolist(), result.makespan
    ([1.0, 1.5], [3.0, 1.5], 3.0)
    """
    simulator = Simulator(
        requests, config, cost_model, num_blocks, block_size, enable_caching, scheduler_class
    )
    num_requests, num_finished = simulator.num_requests, 0
    while simulator.step() is not None:
        if on_finished is not None and simulator.num_finished > num_finished:
            num_finished = simulator.num_finished
            on_finished(num_finished, num_requests)
        if simulator.clock > max_seconds and simulator.num_finished < num_requests:
            raise SimulationError(
                f"after {max_seconds:g} s on the virtual clock {simulator.num_finished} of "
                f"{num_requests} requests are finished; lower the rate of arrivals, or allow more "
                "time"
            )
    return simulator.result()


class Simulator:
    """A simulation that can be watched: ``step()`` runs one iteration, ``result()`` sums up.

    Invariant: the clock never goes back, and a request reaches the scheduler at the beginning of
    the first iteration that starts at or after its arrival.

    Args:
        requests: As in ``simulate``, and so are the others.

    Attributes:
        clock: Seconds on the virtual clock.
        scheduler: The scheduler, to be looked at between two steps.
        num_requests: How many requests there are.
        num_finished: How many of them are over.
    """

    def __init__(
        self,
        requests: Sequence[TraceRequest] | Sequence[Request] | ClosedLoop,
        config: SchedulerConfig,
        cost_model: CostModel,
        num_blocks: int,
        block_size: int = 16,
        enable_caching: bool = False,
        scheduler_class: SchedulerFactory = Scheduler,
    ) -> None:
        manager = KVCacheManager(num_blocks, block_size, enable_caching)
        self.scheduler = scheduler_class(config, manager)
        self.clock = 0.0
        self.num_finished = 0
        self._source = (
            _ClosedSource(requests) if isinstance(requests, ClosedLoop) else _OpenSource(requests)
        )
        self._arrivals = self._source.first_arrivals()
        self.num_requests = len(self._source.requests)
        self._cost_model = cost_model
        self._steps: list[Step] = []
        self._token_times: list[list[float]] = [[] for _ in range(self.num_requests)]
        self._times_of: dict[str, list[float]] = {}
        self._index_of: dict[str, int] = {}
        self._admissions: dict[str, tuple[float, int]] = {}
        self._outcomes: list[RequestOutcome | None] = [None] * self.num_requests
        self._futile_tokens = 0
        self._most_futile_tokens = _FUTILE_POOLS * (
            num_blocks * block_size + config.max_num_batched_tokens
        )

    def step(self) -> Step | None:
        """Run one iteration and return its row; None, with nothing changed, at the end.

        Raises:
            SimulationError: Nobody makes progress.
        """
        output = self._plan()
        if output is None:
            return None
        scheduler = self.scheduler
        work, sampled = self._carry_out(output)
        start = self.clock
        seconds = self._cost_model.seconds(work)
        self.clock = end = start + seconds
        for request in output.scheduled_new_reqs:
            name = request.request_id
            num_cached = request.num_computed_tokens - output.num_scheduled_tokens[name]
            self._admissions[name] = (start, num_cached)
        times_of = self._times_of
        for request_id in sampled:
            times_of[request_id].append(end)
        kv_usage = scheduler.kv_cache_manager.usage
        finished = scheduler.update_from_output(output, sampled)
        for request in finished:
            self._close(request)
        self._watch_progress(work.num_tokens, bool(sampled))
        step = Step(
            start=start,
            seconds=seconds,
            num_tokens=work.num_tokens,
            num_requests=len(output.num_scheduled_tokens),
            num_sampled=len(sampled),
            num_prefill_tokens=sum(n for n in output.num_scheduled_tokens.values() if n > 1),
            num_running=len(scheduler.running) + len(finished),
            num_waiting=len(scheduler.waiting),
            num_swapped=len(scheduler.swapped),
            num_admitted=len(output.scheduled_new_reqs) + len(output.scheduled_resumed_reqs),
            num_preempted=len(output.preempted_req_ids),
            num_finished=len(finished),
            num_swapped_blocks=len(output.blocks_to_swap_in) + len(output.blocks_to_swap_out),
            attended_tokens=work.attended_tokens,
            context_tokens=work.context_tokens,
            kv_usage=kv_usage,
        )
        self._steps.append(step)
        return step

    def result(self) -> SimulationResult:
        """Return what was measured.

        Raises:
            SimulationError: There are requests that are not finished.
        """
        outcomes = [outcome for outcome in self._outcomes if outcome is not None]
        if len(outcomes) < self.num_requests:
            raise SimulationError(
                f"{len(outcomes)} of {self.num_requests} requests are finished; "
                "call step() until it returns None"
            )
        return SimulationResult(
            tuple(outcomes), TokenLog.from_lists(self._token_times), StepTable(self._steps)
        )

    def _plan(self) -> SchedulerOutput | None:
        """Return the plan of the next iteration that has one; None when all requests are done."""
        scheduler = self.scheduler
        while True:
            self._add_arrivals()
            if scheduler.requests:
                output = scheduler.schedule()
                if output.num_scheduled_tokens or output.preempted_req_ids:
                    return output
            # There is nothing to compute, so time passes until somebody comes.
            if self._arrivals:
                self.clock = max(self.clock, self._arrivals[0][0])
            elif scheduler.requests:
                raise SimulationError(
                    f"at {self.clock:.3f} s the scheduler plans nothing, {self._unfinished()}, and "
                    "nobody else arrives; give it more blocks, or look at its policy"
                )
            else:
                return None

    def _carry_out(self, output: SchedulerOutput) -> tuple[IterationWork, dict[str, int]]:
        """Do what the model would do: return the work, and a token for each that is caught up."""
        requests, index_of = self.scheduler.requests, self._index_of
        sampled: dict[str, int] = {}
        attended = context = 0
        # This loop runs once per request and iteration: millions of times. It adds up what
        # IterationWork.of_batch does, from the number of computed tokens afterwards.
        for request_id, num_new in output.num_scheduled_tokens.items():
            request = requests[request_id]
            computed = request.num_computed_tokens
            attended += num_new * computed - num_new * (num_new - 1) // 2
            context += computed
            if computed >= len(request.all_token_ids):
                sampled[request_id] = _FIRST_MADE_UP_TOKEN + index_of[request_id]
        num_swapped = len(output.blocks_to_swap_in) + len(output.blocks_to_swap_out)
        work = IterationWork(
            output.total_num_scheduled_tokens,
            attended,
            context,
            num_swapped * self.scheduler.kv_cache_manager.block_size,
        )
        return work, sampled

    def _add_arrivals(self) -> None:
        """Hand everything that has arrived to the scheduler."""
        arrivals = self._arrivals
        while arrivals and arrivals[0][0] <= self.clock:
            arrival_time, index = heapq.heappop(arrivals)
            request = self._source.make_request(index, arrival_time)
            self._index_of[request.request_id] = index
            self._times_of[request.request_id] = self._token_times[index]
            self.scheduler.add_request(request)
            if request.is_finished:  # refused: it can never be served here
                self._close(request)

    def _close(self, request: Request) -> None:
        """Write down what became of a request, and let its client go on."""
        name = request.request_id
        index = self._index_of.pop(name)
        del self._times_of[name]
        first_scheduled_time, num_cached = self._admissions.pop(name, (math.nan, 0))
        self._outcomes[index] = RequestOutcome(
            request_id=name,
            client_id=request.client_id,
            arrival_time=request.arrival_time,
            prompt_tokens=request.num_prompt_tokens,
            output_tokens=request.num_output_tokens,
            first_scheduled_time=first_scheduled_time,
            num_cached_tokens=num_cached,
            num_preemptions=request.num_preemptions,
            status=request.status,
            finish_reason=request.finish_reason,
        )
        self.num_finished += 1
        following = self._source.after(index, self.clock)
        if following is not None:
            heapq.heappush(self._arrivals, following)

    def _watch_progress(self, num_tokens: int, has_sampled: bool) -> None:
        """Give up when tokens are computed again and again and no request gets anywhere."""
        # An iteration that only preempts computes nothing, and must count all the same.
        self._futile_tokens = 0 if has_sampled else self._futile_tokens + max(num_tokens, 1)
        if self._futile_tokens > self._most_futile_tokens:
            raise SimulationError(
                f"at {self.clock:.3f} s the last {self._futile_tokens} tokens computed led to no "
                f"output, {self._unfinished()}; requests preempt each other, so give more blocks"
            )

    def _unfinished(self) -> str:
        """Say who is left."""
        scheduler = self.scheduler
        return (
            f"{len(scheduler.running)} requests run, {len(scheduler.waiting)} wait and "
            f"{len(scheduler.swapped)} are swapped out"
        )


class _OpenSource:
    """Requests that arrive when they do, however the system fares."""

    def __init__(self, requests: Sequence[TraceRequest] | Sequence[Request]) -> None:
        self.requests: Sequence[TraceRequest | Request] = requests
        names = {r.request_id for r in requests if isinstance(r, Request)}
        for request in requests:
            if isinstance(request, Request) and request.status is not RequestStatus.WAITING:
                raise ValueError(f"{request!r} has begun already; give new requests")
        if names and len(names) < len(requests):
            raise ValueError("two requests have the same request_id; give each its own")

    def first_arrivals(self) -> list[tuple[float, int]]:
        """Return (arrival time, index) of all requests, as a heap."""
        return sorted((r.arrival_time, index) for index, r in enumerate(self.requests))

    def make_request(self, index: int, arrival_time: float) -> Request:
        """Make the request that the scheduler gets."""
        return _copy_of(self.requests[index], index, arrival_time)

    def after(self, index: int, clock: float) -> tuple[float, int] | None:
        """Return the arrival that the end of a request brings about: none."""
        return None


class _ClosedSource:
    """Requests of a fixed number of clients: the end of one brings about the next."""

    def __init__(self, loop: ClosedLoop) -> None:
        self.requests: Sequence[TraceRequest] = loop.requests
        self._num_clients = min(loop.num_clients, len(loop.requests))
        self._num_sent = self._num_clients
        self._client_of = {index: f"client {index}" for index in range(self._num_clients)}
        self._rng = np.random.default_rng(loop.seed)
        self._think_seconds = loop.think_seconds

    def first_arrivals(self) -> list[tuple[float, int]]:
        """Return (0.0, index) of each client's first request, as a heap."""
        return [(0.0, index) for index in range(self._num_clients)]

    def make_request(self, index: int, arrival_time: float) -> Request:
        """Make the request that the scheduler gets."""
        request = _copy_of(self.requests[index], index, arrival_time)
        request.client_id = self._client_of[index]
        return request

    def after(self, index: int, clock: float) -> tuple[float, int] | None:
        """Return when the client asks again and for which request; None if all are asked."""
        if self._num_sent == len(self.requests):
            return None
        following = self._num_sent
        self._num_sent += 1
        self._client_of[following] = self._client_of.pop(index)
        return clock + self._rng.exponential(self._think_seconds), following


def _copy_of(request: TraceRequest | Request, index: int, arrival_time: float) -> Request:
    """Make a request for the scheduler. It is made on arrival: long prompts take memory."""
    if isinstance(request, TraceRequest):
        return Request(
            str(index),
            _prompt(request, index),
            request.output_tokens,
            request.priority,
            arrival_time,
            client_id=request.client_id,
        )
    return Request(
        request.request_id,
        request.prompt_token_ids,
        request.max_tokens,
        request.priority,
        arrival_time,
        cache_salt=request.cache_salt,
        client_id=request.client_id,
        deadline=request.deadline,
        lora_id=request.lora_id,
    )


def _prompt(request: TraceRequest, index: int) -> list[int]:
    """Make up the tokens of a prompt: equal where the hash ids are, else nobody else's."""
    if not request.hash_ids:
        return [_FIRST_MADE_UP_TOKEN + index] * request.prompt_tokens
    tokens: list[int] = []
    for hash_id in request.hash_ids:
        tokens += [hash_id] * MOONCAKE_BLOCK_SIZE
    return tokens[: request.prompt_tokens]

"""The simulator: the engine's own scheduler, on a virtual clock.

Everything that decides is real: ``Scheduler`` and ``KVCacheManager`` are those of the engine. Only
the model is missing. How long an iteration takes is told by a cost model, and every token that is
generated is a made-up one.
"""

from __future__ import annotations

import heapq
import math
from collections.abc import Callable, Iterable, Sequence

from course_lib.kv_cache.manager import KVCacheManager
from course_lib.scheduling.request import Request
from course_lib.scheduling.scheduler import Scheduler, SchedulerConfig, SchedulerOutput
from course_lib.simulation.cost_model import CostModel
from course_lib.simulation.metrics import TokenLog
from course_lib.simulation.result import Pause, RequestOutcome, SimulationResult
from course_lib.simulation.simulation_parts import SimulationParts
from course_lib.simulation.sources import FIRST_MADE_UP_TOKEN, ClosedSource, OpenSource
from course_lib.simulation.workload import ClosedLoop, TraceRequest
from course_lib.steps import Step, StepTable

SchedulerFactory = Callable[[SchedulerConfig, KVCacheManager], Scheduler]

_FUTILE_POOLS = 100
"""How many pools full of tokens may be computed without one output token, before giving up.

Each request that is preempted at the end of its prompt costs one pool at most, and the one in front
of it makes progress; so a scheduler that serves anybody at all stays far below.
"""


class SimulationError(RuntimeError):
    """A simulation was given up: nobody makes progress, or the clock ran past its limit."""


def simulate(
    requests: Sequence[TraceRequest] | Sequence[Request] | ClosedLoop,
    config: SchedulerConfig,
    cost_model: CostModel,
    num_blocks: int,
    block_size: int = 16,
    enable_caching: bool = False,
    *,
    scheduler_class: SchedulerFactory | None = None,
    parts: SimulationParts | None = None,
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
            None for a plain ``Scheduler``. Of a class of the library, ``parts`` may have another.
        parts: What the simulation runs on: ``SimulationParts.load()`` for the learner's own parts,
            ``SimulationParts.of({"BlockPool": MyPool})`` for one at hand; None for the library's.
        max_seconds: Where the virtual clock stops, for a set-up that takes in more than it serves.
        on_finished: Called with the number of finished requests and the number of all, whenever
            one finishes.

    Returns:
        Everything that was measured, in the order in which the requests were given.

    Raises:
        ValueError: A parameter is out of range, two requests have the same name, or one of them has
            begun already.
        SimulationError: Nobody makes progress, or the clock has passed ``max_seconds``.
        PartError: A part of the learner's own failed.

    >>> from course_lib.simulation import ConstantCostModel, TraceRequest
    >>> two = [TraceRequest(0.0, prompt_tokens=100, output_tokens=3), TraceRequest(1.5, 100, 1)]
    >>> result = simulate(two, SchedulerConfig(), ConstantCostModel(1.0), num_blocks=50)
    >>> result.ttft.tolist(), result.e2e.tolist(), result.makespan
    ([1.0, 1.5], [3.0, 1.5], 3.0)
    """
    simulator = Simulator(
        requests,
        config,
        cost_model,
        num_blocks,
        block_size,
        enable_caching,
        scheduler_class=scheduler_class,
        parts=parts,
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
        parts: What it runs on.
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
        *,
        scheduler_class: SchedulerFactory | None = None,
        parts: SimulationParts | None = None,
    ) -> None:
        self.parts = SimulationParts.reference() if parts is None else parts
        manager = self.parts.make_manager(num_blocks, block_size, enable_caching)
        self.scheduler = self.parts.make_scheduler(config, manager, scheduler_class or Scheduler)
        self.clock = 0.0
        self.num_finished = 0
        self._source = (
            ClosedSource(requests) if isinstance(requests, ClosedLoop) else OpenSource(requests)
        )
        self._arrivals = self._source.first_arrivals()
        self.num_requests = len(self._source.requests)
        self._work_of_batch = self.parts.iteration_work.of_batch
        self._cost_model = self.parts.with_own_arithmetic(cost_model)
        self._steps: list[Step] = []
        self._token_times: list[list[float]] = [[] for _ in range(self.num_requests)]
        self._times_of: dict[str, list[float]] = {}
        self._index_of: dict[str, int] = {}
        self._admissions: dict[str, tuple[float, int]] = {}
        self._lost_place: dict[str, float] = {}
        self._pauses: list[list[Pause]] = [[] for _ in range(self.num_requests)]
        self._outcomes: list[RequestOutcome | None] = [None] * self.num_requests
        self._futile_tokens = 0
        self._most_futile_tokens = _FUTILE_POOLS * (
            num_blocks * block_size + config.max_num_batched_tokens
        )

    def step(self) -> Step | None:
        """Run one iteration and return its row; None, with nothing changed, at the end.

        Raises:
            SimulationError: Nobody makes progress.
            PartError: A part of the learner's own failed.
        """
        try:
            return self._step()
        except SimulationError:
            raise
        except Exception as error:
            explained = self.parts.explain(error, f"at {self.clock:.3f} s")
            if explained is error:
                raise
            raise explained from error

    def _step(self) -> Step | None:
        """Run one iteration and return its row; None, with nothing changed, at the end."""
        output = self._plan()
        if output is None:
            return None
        scheduler = self.scheduler
        rows, num_prefill_tokens, sampled = self._carry_out(output)
        num_swapped_blocks = len(output.blocks_to_swap_in) + len(output.blocks_to_swap_out)
        work = self._work_of_batch(rows, num_swapped_blocks * scheduler.kv_cache_manager.block_size)
        start = self.clock
        seconds = self._cost_model.seconds(work)
        self.clock = start + seconds
        self._note_times(output, sampled, start)
        kv_usage = scheduler.kv_cache_manager.usage
        finished = scheduler.update_from_output(output, sampled)
        for request in finished:
            self._close(request)
        self._watch_progress(work.num_tokens, bool(sampled))
        step = Step(
            start=start,
            seconds=seconds,
            num_tokens=work.num_tokens,
            num_requests=len(rows),
            num_sampled=len(sampled),
            num_prefill_tokens=num_prefill_tokens,
            num_running=len(scheduler.running) + len(finished),
            num_waiting=len(scheduler.waiting),
            num_swapped=len(scheduler.swapped),
            num_admitted=len(output.scheduled_new_reqs) + len(output.scheduled_resumed_reqs),
            num_preempted=len(output.preempted_req_ids),
            num_finished=len(finished),
            num_swapped_blocks=num_swapped_blocks,
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
        result: SimulationResult = self.parts.stand_in(SimulationResult)(
            tuple(outcomes),
            TokenLog(self._token_times),
            StepTable(self._steps),
            tuple(map(tuple, self._pauses)),
        )
        return result

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

    def _carry_out(
        self, output: SchedulerOutput
    ) -> tuple[list[tuple[int, int]], int, dict[str, int]]:
        """Do what the model would do.

        Returns:
            For each request, the tokens computed and those of it that were computed before; how
            many of the tokens were prefill; and a token for each request that is caught up.
        """
        requests, index_of = self.scheduler.requests, self._index_of
        rows: list[tuple[int, int]] = []
        sampled: dict[str, int] = {}
        num_prefill_tokens = 0
        # This loop runs once per request and iteration: millions of times. So it asks what
        # is_prefill asks without a call.
        for request_id, num_new in output.num_scheduled_tokens.items():
            request = requests[request_id]
            computed = request.num_computed_tokens
            rows.append((num_new, computed - num_new))
            if num_new > 1 or computed <= request.num_prompt_tokens:
                num_prefill_tokens += num_new
            if computed >= len(request.all_token_ids):
                sampled[request_id] = FIRST_MADE_UP_TOKEN + index_of[request_id]
        return rows, num_prefill_tokens, sampled

    def _note_times(self, output: SchedulerOutput, sampled: Iterable[str], start: float) -> None:
        """Write down who was admitted or lost a place when, and when each token came."""
        for name in output.preempted_req_ids:
            self._lost_place[name] = start
        for request in output.scheduled_resumed_reqs:
            name = request.request_id
            pause = Pause(
                self._lost_place.pop(name, start), start, output.num_scheduled_tokens[name] > 1
            )
            self._pauses[self._index_of[name]].append(pause)
        for request in output.scheduled_new_reqs:
            name = request.request_id
            num_cached = request.num_computed_tokens - output.num_scheduled_tokens[name]
            self._admissions[name] = (start, num_cached)
        for request_id in sampled:
            self._times_of[request_id].append(self.clock)

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

"""What a scheduler did with requests, iteration by iteration: who sat where, and who waited."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Literal

from course_lib.engine.intercept import intercept
from course_lib.scheduling.decisions import why_waiting
from course_lib.scheduling.request import Request
from course_lib.scheduling.scheduler import Scheduler, SchedulerConfig, SchedulerOutput
from course_lib.simulation.cost_model import CostModel
from course_lib.simulation.metrics import (
    end_to_end_latency,
    inter_token_latencies,
    time_per_output_token,
    time_to_first_token,
)
from course_lib.simulation.simulator import SchedulerFactory, SimulationError, Simulator
from course_lib.viz.sharing.trouble import error_in_words

Clock = Literal["iterations", "seconds"]
"""What time is counted in: all iterations are equally long, or take what the cost model says."""

MOST_ITERATIONS = 3000
"""Of a schedule that is drawn; one that is longer is given up."""

BLOCK_SIZE = 16

CLOSED = "the batch is closed until its last request ends"
"""Why somebody waits for a static batch, whatever else there is room for."""


@dataclass(frozen=True)
class Iteration:
    """One iteration of a schedule.

    Attributes:
        start: When it begins, in seconds.
        end: When it ends.
        seats: Who sits where: the name of a request by the number of its seat, from 0.
        tokens: How many tokens are computed, by the name of the request.
        prompts: Requests that compute a part of their prompt, or again what they had lost.
        answered: Requests that get a token at the end.
        came: Requests that have taken a seat in it.
        preempted: Requests that had to leave theirs.
        ended: Requests that get their last token.
        waiting: Who waits meanwhile, the next in line first.
        reason: Why the next in line waits; empty if nobody does.
    """

    start: float
    end: float
    seats: Mapping[int, str]
    tokens: Mapping[str, int]
    prompts: frozenset[str]
    answered: frozenset[str]
    came: tuple[str, ...]
    preempted: tuple[str, ...]
    ended: tuple[str, ...]
    waiting: tuple[str, ...]
    reason: str

    @property
    def num_tokens(self) -> int:
        """Tokens that are computed in it."""
        return sum(self.tokens.values())


@dataclass(frozen=True)
class Latencies:
    """What the user of one request has felt, in the unit of a clock; NaN where nothing is to say.

    Attributes:
        ttft: From the arrival to the first token.
        longest_gap: The longest time between two tokens.
        tpot: The mean of these times.
        e2e: From the arrival to the last token.
    """

    ttft: float
    longest_gap: float
    tpot: float
    e2e: float


@dataclass(frozen=True)
class Schedule:
    """What a scheduler did with some requests.

    Attributes:
        config: The limits that it has.
        iterations: The iterations, in order.
        arrivals: When each request arrived, in seconds, by its name.
        problem: What stopped it, in words; empty if all requests were served.
    """

    config: SchedulerConfig
    iterations: tuple[Iteration, ...]
    arrivals: Mapping[str, float]
    problem: str = ""

    @cached_property
    def num_rows(self) -> int:
        """Seats that there are; more, if a scheduler lets more requests run."""
        taken = (max(each.seats, default=-1) + 1 for each in self.iterations)
        return max(self.config.max_num_seqs, *taken, 1)

    def edges(self, clock: Clock) -> list[tuple[float, float]]:
        """Return where each iteration begins and ends: in iterations, or in milliseconds."""
        if clock == "iterations":
            return [(float(number), number + 1.0) for number in range(len(self.iterations))]
        return [(1000 * each.start, 1000 * each.end) for each in self.iterations]

    def arrival(self, name: str, clock: Clock) -> float:
        """Return when a request came; in iterations, how many had begun before."""
        seconds = self.arrivals[name]
        if clock == "seconds":
            return 1000 * seconds
        return float(sum(each.start < seconds for each in self.iterations))

    def token_times(self, name: str, clock: Clock) -> list[float]:
        """Return when the tokens of a request came, in the unit of a clock."""
        pairs = zip(self.iterations, self.edges(clock), strict=True)
        return [end for each, (_, end) in pairs if name in each.answered]

    def latencies(self, name: str, clock: Clock) -> Latencies:
        """Return what the user of a request felt, in the unit of a clock."""
        arrived, times = [self.arrival(name, clock)], [self.token_times(name, clock)]
        return Latencies(
            ttft=time_to_first_token(arrived, times)[0],
            longest_gap=max(inter_token_latencies(times), default=float("nan")),
            tpot=time_per_output_token(times)[0],
            e2e=end_to_end_latency(arrived, times)[0],
        )

    def num_idle(self, until: int) -> int:
        """Return how many cells of seat and iteration are idle in the first iterations."""
        return self._idle[until][0]

    def idle_share(self, until: int) -> float:
        """Return the share of the time in which a seat is idle, on average over the seats."""
        _, idle, total = self._idle[until]
        return idle / total if total else 0.0

    @cached_property
    def _idle(self) -> list[tuple[int, float, float]]:
        """For each number of iterations: idle cells, idle seconds of seats, and all of those."""
        found = [(0, 0.0, 0.0)]
        num_seats = self.config.max_num_seqs
        for each in self.iterations:
            cells, idle, total = found[-1]
            num_idle = sum(seat not in each.seats for seat in range(num_seats))
            seconds = each.end - each.start
            found.append((cells + num_idle, idle + num_idle * seconds, total + num_seats * seconds))
        return found


@dataclass
class _Tape:
    """Stands beside a scheduler, and keeps what it plans.

    Attributes:
        scheduler: The scheduler.
        is_static: Whether it admits only when nobody runs, so that this is why somebody waits.
        seat_of: Who has which seat.
        iterations: What was kept, without times until the iteration is over.
    """

    scheduler: Scheduler
    is_static: bool
    seat_of: dict[str, int] = field(default_factory=dict)
    iterations: list[Iteration] = field(default_factory=list)
    planned: Iteration | None = None

    def plan(self, schedule: Callable[[], SchedulerOutput]) -> SchedulerOutput:
        """Let the scheduler plan, and keep the plan."""
        scheduler = self.scheduler
        were_running = bool(scheduler.running)
        output = schedule()
        came = self._take_seats([request.request_id for request in scheduler.running])
        waiting = tuple(r.request_id for r in (*scheduler.swapped, *scheduler.waiting))
        reason = why_waiting(scheduler, output) if waiting else ""
        if waiting and self.is_static and were_running and not came:
            reason = CLOSED
        served = [scheduler.requests[name] for name in output.num_scheduled_tokens]
        tokens = dict(output.num_scheduled_tokens)
        self.planned = Iteration(
            start=0.0,
            end=0.0,
            seats={seat: name for name, seat in self.seat_of.items()},
            tokens=tokens,
            prompts=frozenset(r.request_id for r in served if _is_prompt(r, tokens[r.request_id])),
            answered=frozenset(
                r.request_id for r in served if r.num_computed_tokens >= r.num_tokens
            ),
            came=came,
            preempted=tuple(sorted(output.preempted_req_ids)),
            ended=(),
            waiting=waiting,
            reason=reason,
        )
        return output

    def close(self, start: float, end: float) -> None:
        """Keep the iteration that is over, with its times and who has ended in it."""
        if self.planned is None:
            raise SimulationError("an iteration ran, and schedule() was not asked for its plan")
        still = {request.request_id for request in self.scheduler.running}
        ended = tuple(name for name in self.planned.seats.values() if name not in still)
        self.iterations.append(replace(self.planned, start=start, end=end, ended=ended))

    def _take_seats(self, running: Sequence[str]) -> tuple[str, ...]:
        """Give everybody who runs a seat, the lowest that is free; say who is new."""
        self.seat_of = {name: seat for name, seat in self.seat_of.items() if name in running}
        came = tuple(name for name in running if name not in self.seat_of)
        for name in came:
            taken = set(self.seat_of.values())
            self.seat_of[name] = next(seat for seat in range(len(running)) if seat not in taken)
        return came


def _is_prompt(request: Request, num_tokens: int) -> bool:
    """Whether a request that is just being computed reads its prompt, as the simulator counts."""
    return num_tokens > 1 or request.num_computed_tokens <= request.num_prompt_tokens


def serve(
    requests: Sequence[Request],
    config: SchedulerConfig,
    num_blocks: int,
    cost_model: CostModel,
    scheduler: SchedulerFactory,
    *,
    is_static: bool = False,
) -> Schedule:
    """Serve requests in the simulator, and keep who sat where.

    Args:
        requests: The requests; they are not changed.
        config: The limits.
        num_blocks: Blocks of 16 tokens, the null block included.
        cost_model: Tells how long an iteration takes.
        scheduler: Makes the scheduler: a class. What it does wrong ends the schedule, which says
            so (``problem``).
        is_static: Whether the scheduler admits only when nobody runs.

    >>> from course_lib.simulation.cost_model import ConstantCostModel
    >>> two = [Request("a", [1], max_tokens=2), Request("b", [2], max_tokens=1)]
    >>> served = serve(two, SchedulerConfig(max_num_seqs=1), 9, ConstantCostModel(1.0), Scheduler)
    >>> [dict(each.seats) for each in served.iterations], served.iterations[0].reason
    ([{0: 'a'}, {0: 'a'}, {0: 'b'}], 'the batch is full: 1 of 1 requests')
    >>> served.latencies("b", "seconds").ttft
    3000.0
    """
    arrivals = {request.request_id: request.arrival_time for request in requests}
    try:
        simulator = Simulator(
            requests, config, cost_model, num_blocks, BLOCK_SIZE, scheduler_class=scheduler
        )
    except Exception as error:  # whatever a learner's class raises is what the figure has to tell
        return Schedule(config, (), arrivals, error_in_words(error))
    tape = _Tape(simulator.scheduler, is_static)
    problem = ""
    try:
        with intercept(simulator.scheduler, "schedule", tape.plan):
            _run(simulator, tape)
    except Exception as error:  # likewise
        problem = error_in_words(error)
    return Schedule(config, tuple(tape.iterations), arrivals, problem)


def _run(simulator: Simulator, tape: _Tape) -> None:
    """Run all iterations."""
    while (step := simulator.step()) is not None:
        tape.close(step.start, step.start + step.seconds)
        if len(tape.iterations) >= MOST_ITERATIONS:
            raise SimulationError(
                f"after {MOST_ITERATIONS:,} iterations {simulator.num_finished} of "
                f"{simulator.num_requests} requests are finished; take fewer or shorter ones"
            )

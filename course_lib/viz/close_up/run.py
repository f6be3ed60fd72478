"""A run of a scheduler in the simulator: all of it at a glance, and any iteration in full."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from course_lib.engine.intercept import intercept
from course_lib.scheduling.scheduler import Scheduler, SchedulerOutput
from course_lib.scheduling.watch.moments import Happening, Moment, watch_plans
from course_lib.simulation.simulator import SimulationError, Simulator
from course_lib.viz.sharing.trouble import error_in_words

MOST_ITERATIONS = 100_000
"""Of a run; one that is longer is given up."""

KINDS = ("preempted", "cut", "admitted", "waiting", "passed_over")
"""What an iteration can have many of; each is an attribute of a ``Glance``."""


@dataclass(frozen=True, slots=True)
class Glance:
    """An iteration at a glance.

    Attributes:
        start: When it begins, in seconds.
        preempted: How many requests give way in it.
        cut: How many get fewer tokens than they lack.
        admitted: How many start or come back.
        waiting: How many wait at its end, those on the CPU included.
        passed_over: How many run, lack tokens and get none, though there is budget left.
    """

    start: float
    preempted: int
    cut: int
    admitted: int
    waiting: int
    passed_over: int


class Run:
    """What a scheduler does with a workload, iteration by iteration.

    The run is made once to see which iterations are worth opening. Opening some repeats it up to
    there and watches: simulations do the same every time.

    Args:
        make: Makes the simulation. What a learner's scheduler does wrong ends the run.

    Attributes:
        glances: All iterations, up to the one that failed.
        problem: What stopped the run, in words; empty if all requests were served.
        seconds: The time at its end.

    >>> from course_lib.scheduling import Request, SchedulerConfig
    >>> from course_lib.simulation import ConstantCostModel
    >>> config = SchedulerConfig(max_num_batched_tokens=16)
    >>> asked = [Request("a", [1] * 20, max_tokens=2), Request("b", [2] * 9, max_tokens=1)]
    >>> run = Run(lambda: Simulator(asked, config, ConstantCostModel(1.0), num_blocks=9))
    >>> [(each.admitted, each.cut) for each in run.glances]
    [(1, 1), (1, 0), (0, 0)]
    >>> run.most("cut"), [each.request_id for each in run.moments(1, 1) if each.num_tokens]
    (0, ['a', 'b', ''])
    """

    def __init__(self, make: Callable[[], Simulator]) -> None:
        self._make = make
        self.glances: list[Glance] = []
        self.problem = ""
        self.seconds = 0.0
        try:
            self._run()
        except Exception as error:  # whatever a learner's class raises is what the figure tells
            self.problem = error_in_words(error)

    def most(self, kind: str) -> int:
        """Return the first iteration with most of a kind.

        Where the whole run has none, it is the first that admits most.

        Args:
            kind: One of ``KINDS``.
        """
        if not self.has(kind):
            kind = "admitted"
        counts = [getattr(each, kind) for each in self.glances]
        return counts.index(max(counts))

    def has(self, kind: str) -> bool:
        """Whether there is an iteration with any of a kind."""
        return any(getattr(each, kind) for each in self.glances)

    def moments(self, first: int, count: int) -> tuple[Moment, ...]:
        """Return the moments of some iterations, as ``watch_plans`` records them.

        Args:
            first: Number of the first iteration.
            count: How many iterations; fewer at the end of the run.

        Raises:
            SimulationError: The run is not the same a second time.
        """
        simulator = self._make()
        found: list[Moment] = []
        for number in range(min(first + count, len(self.glances))):
            if number < first:
                simulator.step()
            else:
                found += _watched(simulator, number)
        if not found:
            raise SimulationError(f"a second run with the same requests has no iteration {first}")
        return tuple(found)

    def _run(self) -> None:
        """Run all iterations."""
        simulator = self._make()
        scheduler, num_cut, num_passed_over = simulator.scheduler, 0, 0

        def plan(schedule: Callable[[], SchedulerOutput]) -> SchedulerOutput:
            nonlocal num_cut, num_passed_over
            output = schedule()
            num_cut, num_passed_over = _shortfalls(scheduler, output)
            return output

        with intercept(scheduler, "schedule", plan):
            while (step := simulator.step()) is not None:
                self.glances.append(
                    Glance(
                        start=step.start,
                        preempted=step.num_preempted,
                        cut=num_cut,
                        admitted=step.num_admitted,
                        waiting=step.num_waiting + step.num_swapped,
                        passed_over=num_passed_over,
                    )
                )
                self.seconds = simulator.clock
                if len(self.glances) >= MOST_ITERATIONS:
                    raise SimulationError(
                        f"after {MOST_ITERATIONS:,} iterations {simulator.num_finished} of "
                        f"{simulator.num_requests} requests are finished; take fewer of them"
                    )


def _shortfalls(scheduler: Scheduler, output: SchedulerOutput) -> tuple[int, int]:
    """Return how many get fewer tokens than they lack, and how many none though there are some."""
    plan = output.num_scheduled_tokens
    lacking = [
        request.request_id in plan
        for request in scheduler.running
        if request.num_tokens + request.num_tokens_ahead > request.num_computed_tokens
    ]
    num_cut = sum(lacking)
    is_spent = output.total_num_scheduled_tokens >= scheduler.max_num_batched_tokens
    return num_cut, 0 if is_spent else len(lacking) - num_cut


def _watched(simulator: Simulator, number: int) -> list[Moment]:
    """Run an iteration and return its moments: those of the plan that is carried out."""
    with watch_plans(simulator.scheduler) as moments:
        simulator.step()
    last = max(
        (place for place, each in enumerate(moments) if each.happening is Happening.BEGINS),
        default=0,
    )
    return [replace(each, step=number) for each in moments[last:]]

"""What lesson 10's figure shows: waits by theory, by simulation, and of an engine."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from course_lib.queueing import GG1, MD1, MM1, FloatArray
from course_lib.scheduling import SchedulerConfig
from course_lib.simulation.cost_model import CostModel, RooflineCostModel
from course_lib.simulation.demand import ServiceDemand, service_demand
from course_lib.simulation.simulation_parts import SimulationParts
from course_lib.simulation.simulator import simulate
from course_lib.simulation.workload import Workload, at_times, gamma_arrivals

Waits = Callable[[FloatArray, FloatArray], ArrayLike]
"""Returns the wait of each customer, for arrivals and services."""

SIZES = ("exponential", "equal", "trace")
LOADS = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95)
"""Where the queue is simulated."""
RATES = (0.25, 0.5, 1.0, 2.0, 4.0, 6.0)
"""Requests per second at which the engine is asked."""
NUM_CUSTOMERS = 100_000
NUM_SHOWN = 80
"""Customers whose backlog is drawn."""

_CURVE = tuple(round(0.02 * step, 2) for step in range(1, 50))
_SEED = 10


class Load(NamedTuple):
    """What becomes of the customers at a load.

    Attributes:
        rho: The load.
        mean: Their mean wait, in mean services.
        p99: What 99% of them do not exceed.
    """

    rho: float
    mean: float
    p99: float


class EnginePoint(NamedTuple):
    """What an engine does at a rate.

    Attributes:
        rate: Requests per second.
        by_time: λ·S, the load if requests were served one by one.
        by_work: λ·D, the load if they share what can be shared.
        wait: Mean seconds beyond the time alone, over the mean time alone.
    """

    rate: float
    by_time: float
    by_work: float
    wait: float


@dataclass(frozen=True)
class Simulated:
    """What a simulator made of all loads, or why it made nothing.

    Attributes:
        loads: What was found.
        problem: What it failed with, in words; empty if it did not.
    """

    loads: tuple[Load, ...]
    problem: str = ""


class Dial:
    """One queue at all loads, by theory and by simulation, and one engine.

    Args:
        workload: Requests: their times alone are the sizes called "trace", and the engine serves
            them.
        waits: The simulator of the queue.
        cost_model: Tells how long an iteration of the engine takes.
        num_blocks: Blocks of its KV cache, the null block included.
        own: Parts that the engine is built from.
    """

    def __init__(
        self,
        workload: Workload,
        waits: Waits,
        cost_model: RooflineCostModel,
        num_blocks: int,
        own: SimulationParts | None = None,
    ) -> None:
        self.workload = workload
        self._waits = waits
        self._cost_model: RooflineCostModel = cost_model
        self._num_blocks = num_blocks
        self._own = own
        self._simulated: dict[tuple[str, float], Simulated] = {}

    @cached_property
    def demand(self) -> ServiceDemand:
        """What each request asks of the engine's GPU."""
        return service_demand(self.workload, self._cost_model)

    def scv(self, sizes: str) -> float:
        """Return the squared coefficient of variation of the sizes."""
        alone = self.demand.alone
        known = {"exponential": 1.0, "equal": 0.0}
        return known.get(sizes, float(alone.var() / alone.mean() ** 2))

    def theory(self, sizes: str, cv: float, rho: float) -> float:
        """Return the mean wait in services: exact for Poisson arrivals, else approximate."""
        return GG1(rho, 1.0, cv**2, self.scv(sizes)).mean_wait

    def theory_p99(self, sizes: str, cv: float, rho: float) -> float | None:
        """Return the p99 of the wait in services; None where no formula has it."""
        if cv != 1 or sizes not in ("exponential", "equal"):
            return None
        return (MM1 if sizes == "exponential" else MD1)(rho, 1.0).wait_quantile(0.99)

    def mean_curve(self, sizes: str, cv: float) -> list[tuple[float, float]]:
        """Return pairs of load and mean wait."""
        return [(rho, self.theory(sizes, cv, rho)) for rho in _CURVE]

    def p99_curve(self, sizes: str, cv: float) -> list[tuple[float, float]]:
        """Return pairs of load and p99; none where no formula has it."""
        found = [(rho, self.theory_p99(sizes, cv, rho)) for rho in _CURVE]
        return [(rho, wait) for rho, wait in found if wait]

    def simulated(self, sizes: str, cv: float) -> Simulated:
        """Return what the simulator makes of all loads, with the same customers each time."""
        asked = (sizes, cv)
        if asked not in self._simulated:
            try:
                services = self._services(sizes, NUM_CUSTOMERS)
                arrivals = gamma_arrivals(1.0, cv, NUM_CUSTOMERS, _SEED)
                loads = tuple(_load(rho, self._checked(arrivals / rho, services)) for rho in LOADS)
                self._simulated[asked] = Simulated(loads)
            except Exception as error:  # what a learner's simulator does wrong is told in words
                self._simulated[asked] = Simulated((), f"{type(error).__name__}: {error}")
        return self._simulated[asked]

    def backlog(self, sizes: str, cv: float, rho: float) -> list[tuple[float, float]]:
        """Return the work that is left, over time, while the first customers come.

        Returns:
            Pairs of time and work, both in mean services; empty if the simulator failed.
        """
        services = self._services(sizes, NUM_SHOWN)
        arrivals = gamma_arrivals(rho, cv, NUM_SHOWN, _SEED)
        try:
            waits = self._checked(arrivals, services)
        except Exception:  # said in the words of ``simulated``
            return []
        return sawtooth(arrivals.tolist(), services.tolist(), waits.tolist())

    @cached_property
    def engine(self) -> tuple[EnginePoint, ...]:
        """What the engine does at each of ``RATES``, with Poisson arrivals."""
        alone, own = (float(each.mean()) for each in self.demand)
        points = []
        for rate in RATES:
            times = gamma_arrivals(rate, 1.0, len(self.workload), _SEED)
            cost_model: CostModel = self._cost_model
            result = simulate(
                at_times(self.workload, times),
                SchedulerConfig(),
                cost_model,
                self._num_blocks,
                parts=self._own,
            )
            beyond = float(np.nanmean(result.e2e - self.demand.alone))
            points.append(EnginePoint(rate, rate * alone, rate * own, beyond / alone))
        return tuple(points)

    def _services(self, sizes: str, count: int) -> FloatArray:
        rng = np.random.default_rng(_SEED + 1)
        if sizes == "exponential":
            return rng.exponential(1.0, count)
        if sizes == "equal":
            return np.ones(count)
        alone = self.demand.alone
        return rng.choice(alone / alone.mean(), count)

    def _checked(self, arrivals: FloatArray, services: FloatArray) -> FloatArray:
        waits = np.asarray(self._waits(arrivals, services), dtype=np.float64)
        if waits.shape != arrivals.shape or not np.all(waits >= 0):
            raise ValueError("a simulator returns one wait, of at least 0, for each customer")
        return waits


def _load(rho: float, waits: FloatArray) -> Load:
    return Load(rho, float(waits.mean()), float(np.quantile(waits, 0.99, method="inverted_cdf")))


def sawtooth(
    arrivals: Sequence[float], services: Sequence[float], waits: Sequence[float]
) -> list[tuple[float, float]]:
    """Return the work that is left over time: up by a service at an arrival, else down to 0.

    >>> sawtooth([1.0, 2.0, 9.0], [3.0, 1.0, 2.0], [0.0, 2.0, 0.0])
    [(0.0, 0.0), (1.0, 0.0), (1.0, 3.0), (2.0, 2.0), (2.0, 3.0), (5.0, 0.0), (9.0, 0.0), (9.0, 2.0)]
    """
    corners = [(0.0, 0.0)]
    for arrival, service, wait in zip(arrivals, services, waits, strict=True):
        last, left = corners[-1]
        if last + left < arrival and left > 0:
            corners.append((last + left, 0.0))
        corners += [(arrival, wait), (arrival, wait + service)]
    return corners


def until(end: float, corners: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    """Return the part of a ``sawtooth`` up to a time, where it ends as well.

    >>> until(4.0, [(0.0, 0.0), (1.0, 0.0), (1.0, 2.0), (3.0, 0.0), (9.0, 0.0), (9.0, 2.0)])
    [(0.0, 0.0), (1.0, 0.0), (1.0, 2.0), (3.0, 0.0), (4.0, 0.0)]
    >>> until(2.5, [(0.0, 0.0), (1.0, 0.0), (1.0, 2.0), (3.0, 0.0)])
    [(0.0, 0.0), (1.0, 0.0), (1.0, 2.0), (2.5, 0.5)]
    """
    shown = [corner for corner in corners if corner[0] <= end]
    if shown:
        last, left = shown[-1]
        if 0 < left < end - last:
            shown.append((last + left, 0.0))
        shown.append((end, max(0.0, last + left - end)))
    return shown

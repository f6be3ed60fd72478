"""Models of a queue with another order of service than first come, first served."""

from __future__ import annotations

import math
import operator
from abc import abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import accumulate, pairwise

import numpy as np

from course_lib.queueing.base import QueueModel, RateQueue, SizeQueue
from course_lib.queueing.requirements import (
    FloatArray,
    require_not_negative,
    require_positive,
    require_stable,
)


@dataclass(frozen=True)
class MG1PS(SizeQueue):
    """M/G/1-PS: Poisson arrivals, any sizes, all requests present share one server equally.

    The means depend on the mean size only, not on its variation. Source: Kleinrock, Time-shared
    systems: a theoretical treatment (1967); Sakata, Noguchi and Oizumi (1971) for general sizes.

    Attributes:
        lam: Requests that arrive per second (λ).
        mean: Mean seconds of service, alone on the server.
        scv: Squared coefficient of variation of the size. Nothing here depends on it; it is an
            argument so that ``MG1PS`` can stand where ``MG1`` stood.

    Raises:
        ValueError: ``lam`` or ``mean`` is not positive, ``scv`` is negative, or ρ = λ · mean is not
            below 1.

    >>> round(MG1PS(lam=0.8, mean=1.0, scv=100.0).mean_response, 6)
    5.0
    """

    scv: float = 1.0

    def __post_init__(self) -> None:
        super().__post_init__()
        require_not_negative(scv=self.scv)

    @property
    def wait_probability(self) -> float:
        """Probability that a request has to share the server from the start: ρ."""
        return self.rho

    @property
    def mean_wait(self) -> float:
        """Mean seconds that sharing adds to the service: ρ / (1 − ρ) · mean."""
        return self.rho / (1 - self.rho) * self.mean

    def mean_response_of(self, size: float) -> float:
        """Return the mean response of a request that needs ``size`` seconds: size / (1 − ρ).

        Everybody is slowed down by the same factor.

        >>> MG1PS(lam=0.5, mean=1.0).mean_response_of(3.0)
        6.0
        """
        require_not_negative(size=size)
        return size / (1 - self.rho)


_Profile = Callable[[FloatArray], FloatArray]


def _integrate(profile: _Profile, upper: float) -> float:
    """Return the integral of a smooth function from 0 to ``upper``, by Gauss and Legendre.

    Panels of width 1 at most, 16 points in each: exact to rounding for what varies on a scale of 1.
    """
    points, weights = np.polynomial.legendre.leggauss(16)
    edges = np.linspace(0.0, upper, math.ceil(upper) + 1)
    half = np.diff(edges) / 2
    middle = (edges[:-1] + edges[1:]) / 2
    values = profile(middle[:, None] + half[:, None] * points)
    return float(half @ (values @ weights))


class _SizeAware(RateQueue):
    """What SJF and SRPT for M/M/1 share: sizes in units of the mean size, with density exp(−y)."""

    def _spare(self, y: FloatArray) -> FloatArray:
        """Return 1 − ρ(y): the share of time that requests of size up to y leave over."""
        spare: FloatArray = 1 - self.rho + self.rho * (1 + y) * np.exp(-y)
        return spare

    @property
    def _largest(self) -> float:
        """Size, in means, beyond which nothing adds to an average."""
        return 50.0 - math.log(1 - self.rho)


@dataclass(frozen=True)
class MM1SJF(_SizeAware):
    """M/M/1 under shortest job first: a free server takes the smallest; nobody is interrupted.

    Source: Phipps, Machine repair as a priority waiting-line problem (1956); Conway, Maxwell and
    Miller, Theory of Scheduling (1967), chapter 8. The average over sizes is a quadrature, exact
    to about 12 digits.

    Attributes:
        lam: Requests that arrive per second (λ).
        mu: Requests that a busy server finishes per second (μ).

    Raises:
        ValueError: A rate is not positive, or ρ = λ / μ is not below 1.

    >>> from course_lib.queueing import MM1
    >>> queue = MM1SJF(lam=0.9, mu=1.0)
    >>> round(queue.mean_wait, 3), round(MM1(0.9, 1.0).mean_wait, 3)
    (3.197, 9.0)
    """

    def _wait(self, y: FloatArray) -> FloatArray:
        """Return the mean wait of a request of size y, in units of 1 / μ: ρ / (1 − ρ(y))²."""
        wait: FloatArray = self.rho / self._spare(y) ** 2
        return wait

    @property
    def mean_wait(self) -> float:
        """Mean seconds in the queue: the wait at size x, averaged over sizes."""
        return _integrate(lambda y: np.exp(-y) * self._wait(y), self._largest) / self.mu

    def mean_response_of(self, size: float) -> float:
        """Return the mean response of a request that needs ``size`` seconds of service.

        size + (λ E[S²] / 2) / (1 − ρ(size))², where ρ(x) = λ E[S; S ≤ x] is the work that requests
        no larger than x bring.

        >>> queue = MM1SJF(lam=0.9, mu=1.0)
        >>> round(queue.mean_response_of(0.1), 3), round(queue.mean_response_of(10.0), 3)
        (1.008, 99.196)
        """
        require_not_negative(size=size)
        return size + float(self._wait(np.asarray(size * self.mu))) / self.mu


@dataclass(frozen=True)
class MM1SRPT(_SizeAware):
    """M/M/1 under shortest remaining processing time: the least work left is always in service.

    No order of service has a smaller mean response. Source: Schrage and Miller, The queue M/G/1
    with the shortest remaining processing time discipline (1966). The average over sizes is a
    quadrature, exact to about 12 digits.

    Attributes:
        lam: Requests that arrive per second (λ).
        mu: Requests that a busy server finishes per second (μ).

    Raises:
        ValueError: A rate is not positive, or ρ = λ / μ is not below 1.

    >>> from course_lib.queueing import MM1
    >>> queue = MM1SRPT(lam=0.9, mu=1.0)
    >>> round(queue.mean_response, 3), round(MM1(0.9, 1.0).mean_response, 3)
    (3.552, 10.0)
    """

    @property
    def wait_probability(self) -> float:
        """Probability that somebody with less work left is present: ρ / 2.

        For a request of size x, the share of time with such somebody is λ E[min(S, x)], since a
        larger request counts only while its last x seconds are served. Averaged over two
        independent exponential sizes, that is λ / (2μ).
        """
        return self.rho / 2

    def _wait(self, y: FloatArray) -> FloatArray:
        """Return the mean wait before service starts, at size y, in units of 1 / μ."""
        # E[min(S, y)²] / 2, in units of 1 / μ²: work that a request of size y cannot overtake.
        half_square = 1 - (1 + y) * np.exp(-y)
        wait: FloatArray = self.rho * half_square / self._spare(y) ** 2
        return wait

    @property
    def mean_wait(self) -> float:
        """Mean seconds that others are served first, before the start or after an interruption."""

        def delay(y: FloatArray) -> FloatArray:
            # A request of size above y passes the point of y seconds left, at the speed 1 − ρ(y).
            interrupted = 1 / self._spare(y) - 1
            passed: FloatArray = np.exp(-y) * (self._wait(y) + interrupted)
            return passed

        return _integrate(delay, self._largest) / self.mu

    def mean_response_of(self, size: float) -> float:
        """Return the mean response of a request that needs ``size`` seconds of service.

        (λ E[min(S, size)²] / 2) / (1 − ρ(size))² until it starts, and ∫ dx / (1 − ρ(x)) from 0 to
        ``size`` from then on, where ρ(x) = λ E[S; S ≤ x].

        >>> queue = MM1SRPT(lam=0.9, mu=1.0)
        >>> round(queue.mean_response_of(0.1), 3), round(queue.mean_response_of(10.0), 3)
        (0.104, 152.143)
        """
        require_not_negative(size=size)
        y = size * self.mu
        started = _integrate(lambda left: 1 / self._spare(left), y) if y > 0 else 0.0
        return (float(self._wait(np.asarray(y))) + started) / self.mu


@dataclass(frozen=True)
class _PriorityQueue(QueueModel):
    """Poisson arrivals in classes with priorities, one server, FCFS within a class.

    Attributes:
        lams: Requests that arrive per second, for each class, the most important class first.
        means: Mean seconds of service, for each class.
        scvs: Squared coefficients of variation of the service times, for each class.
        lam: Requests that arrive per second, of all classes.
    """

    lams: Sequence[float]
    means: Sequence[float]
    scvs: Sequence[float]
    lam: float = field(init=False)

    def __post_init__(self) -> None:
        for name in ("lams", "means", "scvs"):  # a copy, so that what is checked here stays so
            object.__setattr__(self, name, tuple(getattr(self, name)))
        if not 0 < len(self.lams) == len(self.means) == len(self.scvs):
            raise ValueError(
                f"there are {len(self.lams)} lams, {len(self.means)} means and {len(self.scvs)} "
                "scvs; give one of each for every class, whatever ρ (rho) is"
            )
        for k, (lam, mean, scv) in enumerate(zip(self.lams, self.means, self.scvs, strict=True)):
            require_positive(**{f"lams[{k}]": lam, f"means[{k}]": mean})
            require_not_negative(**{f"scvs[{k}]": scv})
        object.__setattr__(self, "lam", math.fsum(self.lams))
        require_stable(self.rho, "lower lams or shorten means")

    @property
    def _loads(self) -> list[float]:
        """Work per second that each class brings."""
        return [lam * mean for lam, mean in zip(self.lams, self.means, strict=True)]

    @property
    def _loads_up_to(self) -> list[float]:
        """Work per second of each class and all that are more important, with 0 in front."""
        return list(accumulate(self._loads, initial=0.0))

    @property
    def _residuals(self) -> list[float]:
        """Work left in the service that an arrival finds in progress, by class: λ_k E[S_k²] / 2."""
        return [
            load * mean * (1 + scv) / 2
            for load, mean, scv in zip(self._loads, self.means, self.scvs, strict=True)
        ]

    def _over_requests(self, values: Sequence[float]) -> float:
        """Return the mean over requests of a value that depends on the class."""
        return math.fsum(map(operator.mul, self.lams, values)) / self.lam

    @property
    def rho(self) -> float:
        """Share of time that the server is busy: Σ λ_k · mean_k."""
        return self._loads_up_to[-1]

    @property
    def mean_service(self) -> float:
        """Mean seconds of service, over the requests of all classes."""
        return self._over_requests(self.means)

    @property
    @abstractmethod
    def mean_waits(self) -> tuple[float, ...]:
        """Mean seconds that a request of each class spends beyond its own service."""

    @property
    def mean_responses(self) -> tuple[float, ...]:
        """Mean seconds from arrival to departure, for each class."""
        return tuple(map(operator.add, self.mean_waits, self.means))

    @property
    def mean_wait(self) -> float:
        """Mean seconds beyond the own service, over the requests of all classes."""
        return self._over_requests(self.mean_waits)


@dataclass(frozen=True)
class MG1Priority(_PriorityQueue):
    """M/G/1 with non-preemptive priorities: a service that has begun is finished.

    Source: Cobham, Priority assignment in waiting line problems (1954).

    Attributes:
        lams: Requests that arrive per second, for each class, the most important class first.
        means: Mean seconds of service, for each class.
        scvs: Squared coefficients of variation of the service times, for each class.
        lam: Requests that arrive per second, of all classes.

    Raises:
        ValueError: The lists are empty or differ in length, a rate or a mean is not positive, an
            SCV is negative, or ρ = Σ λ_k · mean_k is not below 1.

    >>> queue = MG1Priority(lams=[0.25, 0.5], means=[1.0, 1.0], scvs=[1.0, 1.0])
    >>> [round(wait, 6) for wait in queue.mean_waits]
    [1.0, 4.0]
    >>> round(queue.mean_wait, 6)                    # that of M/M/1: equal sizes, other order
    3.0
    """

    @property
    def wait_probability(self) -> float:
        """Probability that the server is busy: ρ."""
        return self.rho

    @property
    def mean_waits(self) -> tuple[float, ...]:
        """Mean seconds in the queue, for each class: R / ((1 − σ_{k−1}) (1 − σ_k)).

        R = Σ_i λ_i E[S_i²] / 2 over *all* classes is the work left in service, and
        σ_k = ρ_1 + ... + ρ_k.
        """
        residual = math.fsum(self._residuals)
        upto = self._loads_up_to
        return tuple(
            residual / ((1 - above) * (1 - with_own)) for above, with_own in pairwise(upto)
        )


@dataclass(frozen=True)
class MG1PreemptivePriority(_PriorityQueue):
    """M/G/1 with preemptive-resume priorities: a more important arrival takes the server at once.

    The interrupted request later goes on where it was. Source: Conway, Maxwell and Miller, Theory
    of Scheduling (1967), chapter 8; Kleinrock, Queueing Systems II (1976), chapter 3.

    Attributes:
        lams: Requests that arrive per second, for each class, the most important class first.
        means: Mean seconds of service, for each class.
        scvs: Squared coefficients of variation of the service times, for each class.
        lam: Requests that arrive per second, of all classes.

    Raises:
        ValueError: The lists are empty or differ in length, a rate or a mean is not positive, an
            SCV is negative, or ρ = Σ λ_k · mean_k is not below 1.

    >>> from course_lib.queueing import MM1
    >>> queue = MG1PreemptivePriority(lams=[0.25, 0.5], means=[1.0, 1.0], scvs=[1.0, 1.0])
    >>> round(queue.mean_responses[0], 6), round(MM1(0.25, 1.0).mean_response, 6)
    (1.333333, 1.333333)
    """

    @property
    def wait_probability(self) -> float:
        """Probability that somebody of the same or a more important class is present."""
        return self._over_requests(self._loads_up_to[1:])

    @property
    def mean_waits(self) -> tuple[float, ...]:
        """Mean seconds beyond the own service, for each class.

        Until the start, R_k / ((1 − σ_{k−1}) (1 − σ_k)), where R_k = Σ_{i ≤ k} λ_i E[S_i²] / 2
        leaves out the classes that are less important, and σ_k = ρ_1 + ... + ρ_k. From then on,
        interruptions stretch the service by the factor 1 / (1 − σ_{k−1}).
        """
        residuals = accumulate(self._residuals)
        upto = self._loads_up_to
        return tuple(
            residual / ((1 - above) * (1 - with_own)) + mean * above / (1 - above)
            for residual, mean, (above, with_own) in zip(
                residuals, self.means, pairwise(upto), strict=True
            )
        )

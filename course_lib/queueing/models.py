"""Models of a queue that serves first come, first served.

Each is named in Kendall's notation: arrivals / sizes / servers. M stands for memoryless (Poisson
arrivals, exponential sizes), D for deterministic, G for general.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from itertools import accumulate

import numpy as np

from course_lib.queueing.base import QueueModel, RateQueue, SizeQueue
from course_lib.queueing.requirements import (
    FloatArray,
    require_count,
    require_not_negative,
    require_positive,
    require_quantile,
    require_stable,
)

# Memoryless arrivals, memoryless sizes ------------------------------------------------------------


@dataclass(frozen=True)
class MM1(RateQueue):
    """M/M/1: Poisson arrivals, exponential sizes, one server, first come, first served.

    The mean response is the same under any order of service that does not look at sizes: also last
    come, first served, and processor sharing. The quantiles are those of first come, first served.
    Source: Kleinrock, Queueing Systems I (1975), section 3.2.

    Attributes:
        lam: Requests that arrive per second (λ).
        mu: Requests that a busy server finishes per second (μ).

    Raises:
        ValueError: A rate is not positive, or ρ = λ / μ is not below 1.

    >>> queue = MM1(lam=0.9, mu=1.0)
    >>> round(queue.mean_response, 6)
    10.0
    >>> round(queue.response_quantile(0.99), 3)
    46.052
    """

    @property
    def mean_wait(self) -> float:
        """Mean seconds in the queue: ρ / (μ − λ)."""
        return self.rho / (self.mu - self.lam)

    def wait_quantile(self, q: float) -> float:
        """Return the seconds t with P(wait ≤ t) = q, or 0 if more than a share q do not wait.

        P(wait > t) = ρ · exp(−(μ − λ) t).

        Raises:
            ValueError: ``q`` is not from 0 to below 1.

        >>> MM1(lam=0.5, mu=1.0).wait_quantile(0.5)
        0.0
        """
        require_quantile(q)
        return max(0.0, math.log(self.rho / (1 - q)) / (self.mu - self.lam))

    def response_quantile(self, q: float) -> float:
        """Return the seconds t with P(response ≤ t) = q.

        The response is exponential with rate μ − λ.

        Raises:
            ValueError: ``q`` is not from 0 to below 1.

        >>> round(MM1(lam=0.5, mu=1.0).response_quantile(0.5), 6)
        1.386294
        """
        require_quantile(q)
        return -math.log1p(-q) / (self.mu - self.lam)


def erlang_b(servers: int, offered_load: float) -> float:
    """Return the share of requests that find all servers busy and are lost (Erlang B).

    Poisson arrivals, ``servers`` servers, no queue. The textbook ratio aᶜ/c! / Σ aⁿ/n! overflows
    for a few hundred servers. Adding the servers one by one does not: with B(0) = 1,

        B(n) = a·B(n−1) / (n + a·B(n−1)).

    Source: Erlang (1917); the recurrence, for instance, in Cooper, Introduction to Queueing Theory
    (1981), chapter 3. It holds for service times of any distribution.

    Args:
        servers: Servers (c), from 0.
        offered_load: λ · mean service (a, in erlang): the number of servers that would be busy on
            average if there were enough of them. It may exceed ``servers``.

    Raises:
        ValueError: ``servers`` is not a whole number from 0, or ``offered_load`` is negative.

    >>> erlang_b(servers=2, offered_load=1.0)
    0.2
    >>> round(erlang_b(servers=5000, offered_load=5000.0), 6)
    0.011199
    """
    require_count("servers", servers, at_least=0)
    require_not_negative(offered_load=offered_load)
    blocked = 1.0
    for n in range(1, servers + 1):
        blocked = offered_load * blocked / (n + offered_load * blocked)
    return blocked


def erlang_c(servers: int, offered_load: float) -> float:
    """Return the share of requests that find all servers busy and wait (Erlang C).

    Poisson arrivals, exponential sizes, ``servers`` servers, one queue. With B = Erlang B of the
    same arguments and ρ = a / c,

        C = B / (1 − ρ (1 − B)).

    Source: Erlang (1917); Harchol-Balter, Performance Modeling and Design of Computer Systems
    (2013), chapter 14.

    Args:
        servers: Servers (c), from 1.
        offered_load: λ · mean service (a, in erlang).

    Raises:
        ValueError: ``servers`` is not a whole number from 1, ``offered_load`` is negative, or
            ρ = a / c is not below 1.

    >>> round(erlang_c(servers=2, offered_load=1.0), 6)
    0.333333
    """
    require_count("servers", servers)
    require_not_negative(offered_load=offered_load)
    rho = offered_load / servers
    require_stable(rho, "lower offered_load or raise servers")
    blocked = erlang_b(servers, offered_load)
    return blocked / (1 - rho * (1 - blocked))


@dataclass(frozen=True)
class MMc(QueueModel):
    """M/M/c: Poisson arrivals, exponential sizes, one queue before c equal servers, FCFS.

    Source: Erlang (1917); Kleinrock, Queueing Systems I (1975), section 3.5. Works for thousands of
    servers.

    Attributes:
        lam: Requests that arrive per second, at all servers together (λ).
        mu: Requests that one busy server finishes per second (μ).
        c: Servers.

    Raises:
        ValueError: A rate is not positive, ``c`` is not a whole number from 1, or ρ = λ / (c·μ) is
            not below 1.

    >>> queue = MMc(lam=2.0, mu=1.0, c=3)
    >>> round(queue.wait_probability, 6), round(queue.mean_wait, 6)
    (0.444444, 0.444444)
    >>> round(MMc(lam=4950.0, mu=1.0, c=5000).wait_probability, 3)
    0.366
    """

    lam: float
    mu: float
    c: int

    def __post_init__(self) -> None:
        require_positive(lam=self.lam, mu=self.mu)
        require_count("c", self.c)
        require_stable(self.rho, "lower lam, raise mu or raise c")

    @property
    def rho(self) -> float:
        """Share of time that a server is busy: λ / (c·μ)."""
        return self.lam / (self.c * self.mu)

    @property
    def mean_service(self) -> float:
        """Mean seconds of service: 1 / μ."""
        return 1 / self.mu

    @cached_property
    def wait_probability(self) -> float:
        """Probability that all servers are busy: Erlang C."""
        return erlang_c(self.c, self.lam / self.mu)

    @property
    def mean_wait(self) -> float:
        """Mean seconds in the queue: C / (c·μ − λ)."""
        return self.wait_probability / (self.c * self.mu - self.lam)

    def wait_quantile(self, q: float) -> float:
        """Return the seconds t with P(wait ≤ t) = q, or 0 if more than a share q do not wait.

        P(wait > t) = C · exp(−(c·μ − λ) t).

        Raises:
            ValueError: ``q`` is not from 0 to below 1.

        >>> round(MMc(lam=2.0, mu=1.0, c=3).wait_quantile(0.9), 6)
        1.491655
        """
        require_quantile(q)
        # Compared before the logarithm: C can be 0 when servers are plenty.
        if self.wait_probability <= 1 - q:
            return 0.0
        return math.log(self.wait_probability / (1 - q)) / (self.c * self.mu - self.lam)

    def response_tail(self, t: float) -> float:
        """Return P(response > t).

        With probability 1 − C the response is a service, exponential with rate μ. Otherwise it is a
        wait, exponential with rate θ = c·μ − λ, and then a service. The sum of two exponential
        times, s the smaller and f the larger rate, exceeds t with probability
        (f·exp(−s·t) − s·exp(−f·t)) / (f − s), or (1 + s·t)·exp(−s·t) if the rates are equal.

        Args:
            t: Seconds, from 0.

        >>> round(MMc(lam=2.0, mu=1.0, c=3).response_tail(1.0), 6)
        0.531381
        """
        spare_rate = self.c * self.mu - self.lam
        slow, fast = sorted((self.mu, spare_rate))
        # Written with expm1, so that nothing cancels when the two rates are nearly equal.
        gap = (fast - slow) * t
        shrink = -math.expm1(-gap) / gap if gap > 0 else 1.0
        waited = math.exp(-slow * t) * (1 + slow * t * shrink)
        wait_probability = self.wait_probability
        return (1 - wait_probability) * math.exp(-self.mu * t) + wait_probability * waited

    def response_quantile(self, q: float) -> float:
        """Return the seconds t with P(response ≤ t) = q.

        Raises:
            ValueError: ``q`` is not from 0 to below 1.

        >>> round(MMc(lam=2.0, mu=1.0, c=3).response_quantile(0.99), 6)
        5.891174
        """
        require_quantile(q)
        return _quantile(self.response_tail, q, scale=self.mean_response)


@dataclass(frozen=True)
class MM1K(RateQueue):
    """M/M/1/K: an M/M/1 queue with K places; who finds them taken is turned away.

    It is stable at any load. Waits and responses are those of the requests that are let in. Source:
    Kleinrock, Queueing Systems I (1975), section 3.6.

    Attributes:
        lam: Requests that arrive per second (λ), let in or not.
        mu: Requests that a busy server finishes per second (μ).
        k: Places, the one in service included.

    Raises:
        ValueError: A rate is not positive, or ``k`` is not a whole number from 1.

    >>> queue = MM1K(lam=2.0, mu=1.0, k=2)
    >>> [round(float(p), 4) for p in queue.state_probabilities]
    [0.1429, 0.2857, 0.5714]
    >>> round(queue.blocking_probability, 4), round(queue.throughput, 4)
    (0.5714, 0.8571)
    """

    k: int

    def __post_init__(self) -> None:
        require_positive(lam=self.lam, mu=self.mu)
        require_count("k", self.k)

    @property
    def rho(self) -> float:
        """Work offered per second: λ / μ. It may exceed 1; the busy share is ``utilization``."""
        return self.lam / self.mu

    @cached_property
    def state_probabilities(self) -> FloatArray:
        """Share of time with 0, 1, ..., K requests in the system: ρⁿ, scaled to add to 1."""
        log_weights = np.arange(self.k + 1) * math.log(self.rho)
        # The largest weight becomes 1, so that none overflows.
        weights = np.exp(log_weights - log_weights.max())
        probabilities: FloatArray = weights / weights.sum()
        return probabilities

    @property
    def blocking_probability(self) -> float:
        """Share of requests that are turned away."""
        return float(self.state_probabilities[-1])

    @property
    def throughput(self) -> float:
        """Requests let in per second."""
        return self.lam * float(self.state_probabilities[:-1].sum())

    @property
    def utilization(self) -> float:
        """Share of time that the server is busy."""
        return float(self.state_probabilities[1:].sum())

    @property
    def _found_on_entry(self) -> FloatArray:
        """Probability that a request that is let in finds 0, 1, ..., K − 1 others."""
        found: FloatArray = self.state_probabilities[:-1] / self.state_probabilities[:-1].sum()
        return found

    @property
    def wait_probability(self) -> float:
        """Probability that a request that is let in finds the server busy."""
        return float(self._found_on_entry[1:].sum())

    @property
    def mean_wait(self) -> float:
        """Mean seconds in the queue: the requests found on entry, 1 / μ each."""
        return float(self._found_on_entry @ np.arange(self.k)) / self.mu

    def response_tail(self, t: float) -> float:
        """Return P(response > t) for a request that is let in.

        Who finds n others leaves after n + 1 services, so the response exceeds t if fewer than
        n + 1 services end within t: a Poisson number with mean μ·t.

        >>> round(MM1K(lam=2.0, mu=1.0, k=2).response_tail(1.0), 6)
        0.613132
        """
        if t <= 0:
            return 1.0
        served = _poisson_probabilities(self.mu * t, self.k)
        return float(self._found_on_entry @ np.cumsum(served))

    def response_quantile(self, q: float) -> float:
        """Return the seconds t with P(response ≤ t) = q for a request that is let in.

        Raises:
            ValueError: ``q`` is not from 0 to below 1.

        >>> round(MM1K(lam=2.0, mu=1.0, k=1).response_quantile(0.5), 6)  # no waiting: a service
        0.693147
        """
        require_quantile(q)
        return _quantile(self.response_tail, q, scale=self.mean_response)


# Memoryless arrivals, general sizes ---------------------------------------------------------------


@dataclass(frozen=True)
class MG1(SizeQueue):
    """M/G/1: Poisson arrivals, sizes of any distribution, one server, first come, first served.

    Source: Pollaczek (1930) and Khinchine (1932); Kleinrock, Queueing Systems I (1975), chapter 5.
    Quantiles depend on more than two moments, so there are none here.

    Attributes:
        lam: Requests that arrive per second (λ).
        mean: Mean seconds of service.
        scv: Squared coefficient of variation of the service time: variance / mean².

    Raises:
        ValueError: ``lam`` or ``mean`` is not positive, ``scv`` is negative, or ρ = λ · mean is not
            below 1.

    >>> round(MG1(lam=0.8, mean=1.0, scv=1.0).mean_wait, 6)   # exponential sizes: M/M/1
    4.0
    >>> round(MG1(lam=0.8, mean=1.0, scv=0.0).mean_wait, 6)   # constant sizes: half of it
    2.0
    """

    scv: float

    def __post_init__(self) -> None:
        super().__post_init__()
        require_not_negative(scv=self.scv)

    @property
    def mean_residual_service(self) -> float:
        """Mean seconds left of the service that an arrival finds in progress: E[S²] / (2·E[S]).

        E[S²] = variance + E[S]², and ``scv`` is variance / E[S]². It is more than half the mean
        service unless all are equal: an arrival is more likely to fall into a long service than
        into a short one (the inspection paradox).

        >>> MG1(lam=0.2, mean=3.0, scv=2.0).mean_residual_service
        4.5
        """
        return self.mean * (1 + self.scv) / 2

    @property
    def mean_wait(self) -> float:
        """Mean seconds in the queue, by Pollaczek and Khinchine.

        An arrival waits for the rest of the service in progress, if there is one, which has the
        probability ρ, and for a whole service of each request in the queue; how many these are on
        average, Little's law tells from the wait.

        >>> round(MG1(lam=0.2, mean=3.0, scv=2.0).mean_wait, 6)
        6.75
        """
        return self.rho / (1 - self.rho) * self.mean_residual_service


@dataclass(frozen=True)
class MD1(RateQueue):
    """M/D/1: Poisson arrivals, every service equally long, one server, first come, first served.

    Source: Erlang (1909); the quantiles by Franx, A simple solution for the M/D/c waiting time
    distribution (2001), whose terms are all positive, so that nothing cancels.

    Attributes:
        lam: Requests that arrive per second (λ).
        mu: Requests that a busy server finishes per second (μ): a service takes 1 / μ.

    Raises:
        ValueError: A rate is not positive, or ρ = λ / μ is not below 1.

    >>> queue = MD1(lam=0.8, mu=1.0)
    >>> round(queue.mean_wait, 6)
    2.0
    >>> round(queue.response_quantile(0.99), 3)
    11.356
    """

    @property
    def mean_wait(self) -> float:
        """Mean seconds in the queue, half that of M/M/1: ρ / (2 (μ − λ))."""
        return self.rho / (2 * (self.mu - self.lam))

    def wait_quantile(self, q: float) -> float:
        """Return the seconds t with P(wait ≤ t) = q, or 0 if more than a share q do not wait.

        Count time in services, and let k be the whole number with k − 1 ≤ t < k. A request waits
        no longer than t if, k − t before it arrived, fewer than k minus j were waiting, where j is
        the number that came in between:

            P(wait ≤ t) = Σ_j P(at most k − 1 − j wait) · P(j arrive in k − t),   j = 0 ... k − 1.

        Raises:
            ValueError: ``q`` is not from 0 to below 1.

        >>> MD1(lam=0.8, mu=1.0).wait_quantile(0.1)
        0.0
        """
        require_quantile(q)
        number_cdf = _md1_number_cdf(self.rho, q)

        def tail(t: float) -> float:
            k = math.floor(t) + 1
            if k >= len(number_cdf):  # a wait is at most one service for each request found
                return 0.0
            arrived = _poisson_probabilities(self.rho * (k - t), k)
            # At most m wait when at most m + 1 are in the system.
            return 1 - float(number_cdf[k:0:-1] @ arrived)

        return _quantile(tail, q, scale=1.0) / self.mu

    def response_quantile(self, q: float) -> float:
        """Return the seconds t with P(response ≤ t) = q: the wait's quantile and one service.

        Raises:
            ValueError: ``q`` is not from 0 to below 1.

        >>> MD1(lam=0.8, mu=1.0).response_quantile(0.1)
        1.0
        """
        return self.wait_quantile(q) + self.mean_service


_POISSON_TERMS = 64
"""Terms of a Poisson distribution with a mean below 1 that matter: the next is under 1e-88."""


def _md1_number_cdf(rho: float, level: float) -> FloatArray:
    """Return P(N ≤ 0), P(N ≤ 1), ... for the number N in an M/D/1 system, until ``level``.

    Departures leave behind what arrivals find. From one departure to the next, N goes down by one
    at most, so passing from n to n − 1 must be as frequent as passing that cut upwards:

        P(N = n) · P(A = 0) = P(N = 0) · P(A > n − 1) + Σ_{i=1}^{n−1} P(N = i) · P(A > n − i),

    where A is the number of arrivals in a service. All terms are positive.
    """
    arrive = _poisson_probabilities(rho, _POISSON_TERMS)
    # Summed from the small end, so that small tails keep their digits.
    at_least = list(accumulate(arrive.tolist()[::-1]))[::-1]
    more_than = at_least[1:]
    present = [1 - rho]
    total = present[0]
    while total < level and present[-1] > 1e-18:
        n = len(present)
        up = present[0] * more_than[n - 1] if n <= len(more_than) else 0.0
        recent = present[max(1, n - len(more_than) + 1) :]
        up += sum(map(operator.mul, reversed(recent), more_than[1:]))
        present.append(up / float(arrive[0]))
        total += present[-1]
    return np.cumsum(present)


@dataclass(frozen=True)
class MXG1(SizeQueue):
    """M^[X]/G/1: batches of requests arrive as a Poisson process; one server, FCFS.

    M^[X]/M/1 is the case ``scv=1``. Source: Burke, Delays in single-server queues with batch input
    (1975).

    Attributes:
        lam: Requests that arrive per second (λ), so λ / ``batch_mean`` batches.
        mean: Mean seconds of service of one request.
        scv: Squared coefficient of variation of the service time.
        batch_mean: Mean number of requests in a batch, at least 1.
        batch_scv: Squared coefficient of variation of the number of requests in a batch.

    Raises:
        ValueError: ``lam`` or ``mean`` is not positive, ``batch_mean`` is below 1, a squared
            coefficient of variation is negative, or ρ = λ · mean is not below 1.

    >>> one_by_one = MXG1(lam=0.5, mean=1.0, scv=1.0, batch_mean=1.0)
    >>> in_fours = MXG1(lam=0.5, mean=1.0, scv=1.0, batch_mean=4.0)
    >>> one_by_one.mean_wait, in_fours.mean_wait
    (1.0, 4.0)
    """

    scv: float
    batch_mean: float
    batch_scv: float = 0.0

    def __post_init__(self) -> None:
        super().__post_init__()
        require_not_negative(scv=self.scv, batch_scv=self.batch_scv)
        if not 1 <= self.batch_mean < math.inf:
            raise ValueError(
                f"batch_mean is {self.batch_mean}; it must be finite and at least 1, "
                "whatever ρ (rho) is"
            )

    @property
    def wait_probability(self) -> float:
        """Probability that the server is busy or that others of the batch come first.

        A request is the first of its batch with probability 1 / ``batch_mean``.
        """
        return 1 - (1 - self.rho) / self.batch_mean

    @property
    def mean_wait(self) -> float:
        """Mean seconds in the queue: for the requests found, and for those ahead in the batch.

        A request is one of X requests with a probability in proportion to X, so on average
        (E[X²]/E[X] − 1) / 2 others of its batch are ahead of it: the inspection paradox again.
        """
        ahead_in_batch = (self.batch_mean * (1 + self.batch_scv) - 1) / 2
        found = self.rho * self.mean * (1 + self.scv) / 2
        return (found + ahead_in_batch * self.mean) / (1 - self.rho)


# General arrivals ---------------------------------------------------------------------------------


@dataclass(frozen=True)
class GG1(SizeQueue):
    """G/G/1: independent gaps of any distribution, any sizes, one server, FCFS: approximations.

    No exact formula exists that needs two moments only. What is often called "Kingman's formula" is
    the VUT approximation, ``mean_wait``; what Kingman proved is an upper bound, ``kingman_bound``.

    Attributes:
        lam: Requests that arrive per second (λ).
        mean: Mean seconds of service.
        arrival_scv: Squared coefficient of variation of the gaps between arrivals: 1 for Poisson.
        service_scv: Squared coefficient of variation of the service time.

    Raises:
        ValueError: ``lam`` or ``mean`` is not positive, an SCV is negative, or ρ = λ · mean is not
            below 1.

    >>> bursty = GG1(lam=0.8, mean=1.0, arrival_scv=4.0, service_scv=1.0)
    >>> round(bursty.mean_wait, 6), round(bursty.kingman_bound, 6)
    (10.0, 14.5)
    """

    arrival_scv: float
    service_scv: float

    def __post_init__(self) -> None:
        super().__post_init__()
        require_not_negative(arrival_scv=self.arrival_scv, service_scv=self.service_scv)

    @property
    def wait_probability(self) -> float:
        """Approximate probability that the server is busy on arrival; exactly ρ for Poisson.

        Bursts find the server busy more often than an outside observer does, regular arrivals less
        often. With exponential sizes, and gaps that are constant, Erlang or (with balanced means)
        hyperexponential, simulations are within 0.04 of it up to ``arrival_scv = 4``, and for
        ``service_scv`` from 0 to 4 within 0.05; beyond that it is too low for bursts. Source:
        Krämer and Langenbach-Belz (1976), as in Whitt, The queueing network analyzer (1983).
        """
        rho, arrival, service = self.rho, self.arrival_scv, self.service_scv
        if arrival <= 1:
            factor = (1 + arrival + rho * service) / (
                1 + rho * (service - 1) + rho**2 * (4 * arrival + service)
            )
        else:
            factor = 4 * rho / (arrival + rho**2 * (4 * arrival + service))
        return min(1.0, max(0.0, rho + (arrival - 1) * rho * (1 - rho) * factor))

    @property
    def mean_wait(self) -> float:
        """Approximate mean seconds in the queue: variation × utilisation × time (VUT).

        (arrival_scv + service_scv)/2 · ρ/(1 − ρ) · mean. Exact for Poisson arrivals, where it is
        Pollaczek and Khinchine's formula, and in the limit ρ → 1 (Kingman, The single server queue
        in heavy traffic, 1961). The name VUT: Hopp and Spearman, Factory Physics (1996).
        """
        variation = (self.arrival_scv + self.service_scv) / 2
        return variation * self.rho / (1 - self.rho) * self.mean

    @property
    def kingman_bound(self) -> float:
        """Seconds that the mean time in the queue never exceeds: λ (σ_a² + σ_s²) / (2 (1 − ρ)).

        σ_a² and σ_s² are the variances of gap and service. Source: Kingman, Some inequalities for
        the queue GI/G/1 (1962).
        """
        gap_variance = self.arrival_scv / self.lam**2
        service_variance = self.service_scv * self.mean**2
        return self.lam * (gap_variance + service_variance) / (2 * (1 - self.rho))


# Numerical tools ----------------------------------------------------------------------------------


def _quantile(tail: Callable[[float], float], q: float, scale: float) -> float:
    """Return the smallest t ≥ 0 with ``tail(t)`` ≤ 1 − q, to the precision of a float.

    Args:
        tail: P(T > t), which falls from at most 1 to 0.
        q: Share from 0 to below 1.
        scale: Any positive number of the right order of magnitude.
    """
    if tail(0.0) <= 1 - q:
        return 0.0
    low, high = 0.0, scale
    while tail(high) > 1 - q:
        low, high = high, 2 * high
    while high - low > 1e-14 * high:
        middle = (low + high) / 2
        if tail(middle) > 1 - q:
            low = middle
        else:
            high = middle
    return high


def _poisson_probabilities(mean: float, count: int) -> FloatArray:
    """Return P(N = 0), ..., P(N = count − 1) for a Poisson number N with a positive mean."""
    n = np.arange(count, dtype=np.float64)
    log_factorial = np.cumsum(np.log(np.maximum(n, 1.0)))
    # In logarithms, since mean**n and n! overflow long before their ratio does.
    probabilities: FloatArray = np.exp(n * math.log(mean) - mean - log_factorial)
    return probabilities

"""Queueing theory: what a queue does on average, and how fast a simulation confirms it.

A model is named in Kendall's notation: arrivals / sizes / servers. M stands for memoryless (Poisson
arrivals, exponential sizes), D for deterministic, G for general. ``MM1(lam, mu)`` is the simplest
one. All of them answer the same questions, see ``QueueModel``. Times are in seconds and rates per
second throughout; any other unit does as well, if it is used everywhere.

A distribution is described by its mean and its *squared coefficient of variation* (SCV), variance /
mean²: 0 if it is constant, 1 if it is exponential, more if it comes in bursts.

The second half of the module works on numbers from a log or a simulation: the waiting times of a
first-come-first-served queue (``simulate_queue``), Little's law, and averages over requests beside
averages over time. The last part finds the fewest servers that meet a target.
"""

from __future__ import annotations

import heapq
import math
import operator
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import accumulate, pairwise

import numpy as np
from numpy.typing import ArrayLike, NDArray

FloatArray = NDArray[np.float64]


# Parameters ---------------------------------------------------------------------------------------


def _require_positive(**values: float) -> None:
    """Raise ValueError for the first value that is not a finite number above 0."""
    for name, value in values.items():
        if not 0 < value < math.inf:
            raise ValueError(
                f"{name} is {value}; it must be finite and greater than 0, "
                "or ρ (rho) has no meaning"
            )


def _require_not_negative(**values: float) -> None:
    """Raise ValueError for the first value that is not a finite number from 0."""
    for name, value in values.items():
        if not 0 <= value < math.inf:
            raise ValueError(
                f"{name} is {value}; it must be finite and at least 0, whatever ρ (rho) is"
            )


def _require_count(name: str, value: int, at_least: int = 1) -> None:
    """Raise ValueError unless ``value`` is a whole number from ``at_least``."""
    try:
        whole = operator.index(value)
    except TypeError:
        whole = at_least - 1
    if whole < at_least:
        raise ValueError(
            f"{name} is {value!r}; it must be a whole number from {at_least}, "
            "or ρ (rho) has no meaning"
        )


def _require_stable(rho: float, remedy: str) -> None:
    """Raise ValueError unless less work comes in than the servers can do."""
    if not rho < 1:
        raise ValueError(
            f"ρ (rho) is {rho:.10g}; a queue settles down only if it is below 1: {remedy}"
        )


def _require_quantile(q: float) -> None:
    """Raise ValueError unless ``q`` is a share from 0 to below 1."""
    if not 0 <= q < 1:
        raise ValueError(
            f"q is {q}; it must be from 0 to below 1 (for the 99th percentile, pass 0.99)"
        )


# What all models have in common -------------------------------------------------------------------


class QueueModel(ABC):
    """A queue in its steady state: what a request meets that arrives long after the start.

    All means are over requests that are let in. Two of them count requests rather than seconds;
    Little's law (Little, 1961) makes them from the others.

    Attributes:
        lam: Requests that arrive per second (λ).

    >>> queue = MM1(lam=8.0, mu=10.0)
    >>> round(queue.mean_wait, 6), round(queue.mean_response, 6)
    (0.4, 0.5)
    >>> round(queue.mean_queue_length, 6), round(queue.mean_in_system, 6)
    (3.2, 4.0)
    """

    lam: float

    @property
    @abstractmethod
    def rho(self) -> float:
        """Work offered per second and server: λ · mean service / servers.

        If no request is turned away, it is also the share of time that a server is busy.
        """

    @property
    @abstractmethod
    def mean_service(self) -> float:
        """Mean seconds of service that a request needs from a server that it has for itself."""

    @property
    @abstractmethod
    def wait_probability(self) -> float:
        """Probability that a request is not served at full speed the moment it arrives."""

    @property
    @abstractmethod
    def mean_wait(self) -> float:
        """Mean seconds that a request spends beyond its own service: response − service.

        Under first come, first served, it is the time in the queue before service starts.
        """

    @property
    def throughput(self) -> float:
        """Requests served per second: all that arrive, unless some are turned away."""
        return self.lam

    @property
    def mean_response(self) -> float:
        """Mean seconds from arrival to departure, waiting and service."""
        return self.mean_wait + self.mean_service

    @property
    def mean_queue_length(self) -> float:
        """Mean number of requests that wait, without those in service (L_q), averaged over time."""
        return self.throughput * self.mean_wait

    @property
    def mean_in_system(self) -> float:
        """Mean number of requests that wait or are in service (L), averaged over time."""
        return self.throughput * self.mean_response


@dataclass(frozen=True)
class _RateQueue(QueueModel):
    """One server, described by the rate at which it works."""

    lam: float
    mu: float

    def __post_init__(self) -> None:
        _require_positive(lam=self.lam, mu=self.mu)
        _require_stable(self.rho, "lower lam, raise mu, or use MMc with more servers")

    @property
    def rho(self) -> float:
        """Share of time that the server is busy: λ / μ."""
        return self.lam / self.mu

    @property
    def mean_service(self) -> float:
        """Mean seconds of service: 1 / μ."""
        return 1 / self.mu

    @property
    def wait_probability(self) -> float:
        """Probability that a request finds the server busy: ρ.

        Poisson arrivals see what time averages show (PASTA; Wolff, 1982).
        """
        return self.rho


@dataclass(frozen=True)
class _SizeQueue(QueueModel):
    """One server, described by the mean size of the requests."""

    lam: float
    mean: float

    def __post_init__(self) -> None:
        _require_positive(lam=self.lam, mean=self.mean)
        _require_stable(self.rho, "lower lam or shorten mean")

    @property
    def rho(self) -> float:
        """Share of time that the server is busy: λ · mean."""
        return self.lam * self.mean

    @property
    def mean_service(self) -> float:
        """Mean seconds of service."""
        return self.mean

    @property
    def wait_probability(self) -> float:
        """Probability that a request finds the server busy: ρ, as in ``MM1``."""
        return self.rho


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


# Memoryless arrivals, memoryless sizes ------------------------------------------------------------


@dataclass(frozen=True)
class MM1(_RateQueue):
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
        _require_quantile(q)
        return max(0.0, math.log(self.rho / (1 - q)) / (self.mu - self.lam))

    def response_quantile(self, q: float) -> float:
        """Return the seconds t with P(response ≤ t) = q.

        The response is exponential with rate μ − λ.

        Raises:
            ValueError: ``q`` is not from 0 to below 1.

        >>> round(MM1(lam=0.5, mu=1.0).response_quantile(0.5), 6)
        1.386294
        """
        _require_quantile(q)
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
    _require_count("servers", servers, at_least=0)
    _require_not_negative(offered_load=offered_load)
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
    _require_count("servers", servers)
    _require_not_negative(offered_load=offered_load)
    rho = offered_load / servers
    _require_stable(rho, "lower offered_load or raise servers")
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
        _require_positive(lam=self.lam, mu=self.mu)
        _require_count("c", self.c)
        _require_stable(self.rho, "lower lam, raise mu or raise c")

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
        _require_quantile(q)
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
        _require_quantile(q)
        return _quantile(self.response_tail, q, scale=self.mean_response)


@dataclass(frozen=True)
class MM1K(_RateQueue):
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
        _require_positive(lam=self.lam, mu=self.mu)
        _require_count("k", self.k)

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
        _require_quantile(q)
        return _quantile(self.response_tail, q, scale=self.mean_response)


# Memoryless arrivals, general sizes ---------------------------------------------------------------


@dataclass(frozen=True)
class MG1(_SizeQueue):
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
        _require_not_negative(scv=self.scv)

    @property
    def mean_residual_service(self) -> float:
        """Mean seconds left of the service that an arrival finds in progress: mean·(1 + scv)/2.

        More than half the mean service: an arrival is more likely to fall into a long service than
        into a short one (the inspection paradox).
        """
        return self.mean * (1 + self.scv) / 2

    @property
    def mean_wait(self) -> float:
        """Mean seconds in the queue, by Pollaczek and Khinchine: ρ/(1 − ρ) · residual service."""
        return self.rho / (1 - self.rho) * self.mean_residual_service


@dataclass(frozen=True)
class MD1(_RateQueue):
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
        _require_quantile(q)
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
class MXG1(_SizeQueue):
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
        _require_not_negative(scv=self.scv, batch_scv=self.batch_scv)
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


# Orders of service other than first come, first served --------------------------------------------


@dataclass(frozen=True)
class MG1PS(_SizeQueue):
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
        _require_not_negative(scv=self.scv)

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
        _require_not_negative(size=size)
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


class _SizeAware(_RateQueue):
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
        _require_not_negative(size=size)
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
        _require_not_negative(size=size)
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
                "scvs; give one of each for every class, or ρ (rho) has no meaning"
            )
        for k, (lam, mean, scv) in enumerate(zip(self.lams, self.means, self.scvs, strict=True)):
            _require_positive(**{f"lams[{k}]": lam, f"means[{k}]": mean})
            _require_not_negative(**{f"scvs[{k}]": scv})
        object.__setattr__(self, "lam", math.fsum(self.lams))
        _require_stable(self.rho, "lower lams or shorten means")

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


# General arrivals ---------------------------------------------------------------------------------


@dataclass(frozen=True)
class GG1(_SizeQueue):
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
        _require_not_negative(arrival_scv=self.arrival_scv, service_scv=self.service_scv)

    @property
    def wait_probability(self) -> float:
        """Approximate probability that the server is busy on arrival; exactly ρ for Poisson.

        Bursts find the server busy more often than an outside observer does, regular arrivals less
        often. With exponential sizes, and gaps that are constant, Erlang or (with balanced means)
        hyperexponential, simulations are within 0.03 of it up to ``arrival_scv = 4``, and for
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


# Simulation ---------------------------------------------------------------------------------------

_CHUNK = 8192
"""Customers that the vectorised recursion takes at a time: its arrays stay in the CPU's cache."""


def simulate_queue(arrivals: ArrayLike, services: ArrayLike, servers: int = 1) -> FloatArray:
    """Return how long each customer waits, first come, first served, in a queue empty at first.

    One server takes about 10 ns per customer, several take about 0.5 µs.

    Args:
        arrivals: Times of arrival in seconds, in order, shape (n,). From gaps: ``np.cumsum(gaps)``.
        services: Seconds of service of each customer, shape (n,).
        servers: Equal servers before which there is one queue.

    Returns:
        Seconds between arrival and start of service, shape (n,).

    Raises:
        ValueError: The arrays are not one-dimensional and equally long, the arrivals are not in
            order, a service is negative, a number is not finite, or there is no server.

    >>> simulate_queue([0.0, 1.0, 2.0], [3.0, 3.0, 1.0]).tolist()
    [0.0, 2.0, 4.0]
    >>> simulate_queue([0.0, 1.0, 2.0], [3.0, 3.0, 1.0], servers=2).tolist()
    [0.0, 0.0, 1.0]
    """
    arrival_times = np.asarray(arrivals, dtype=np.float64)
    service_times = np.asarray(services, dtype=np.float64)
    _require_count("servers", servers)
    _require_log("arrivals", arrival_times, "services", service_times)
    if not np.all(arrival_times[1:] >= arrival_times[:-1]):
        raise ValueError("arrivals are not in order; sort them together with their services")
    if len(service_times) and service_times.min() < 0:
        raise ValueError(f"a service takes {service_times.min()} s; it must take at least 0 s")
    if servers == 1:
        return _lindley(arrival_times, service_times)
    return _kiefer_wolfowitz(arrival_times, service_times, servers)


def _lindley(arrivals: FloatArray, services: FloatArray) -> FloatArray:
    """Return the waits at one server.

    Lindley's recursion (1952): a wait is the wait before it, plus the service before it, minus the
    gap between the two arrivals, and never below 0,

        W[n] = max(0, W[n−1] + step[n]),   step[n] = S[n−1] − (A[n] − A[n−1]).

    A loop is not needed: with the running sum U of the steps, that is U minus the least that it, or
    0, has been so far. The sum starts afresh every ``_CHUNK`` customers, from the last wait. Over
    the whole simulation it would drift far below 0, and its rounding errors into the waits.
    """
    waits = np.zeros(len(arrivals))
    for first in range(1, len(arrivals), _CHUNK):
        end = min(first + _CHUNK, len(arrivals))
        steps = services[first - 1 : end - 1] - np.diff(arrivals[first - 1 : end])
        steps[0] += waits[first - 1]
        backlog = np.cumsum(steps)
        waits[first:end] = backlog - np.minimum(np.minimum.accumulate(backlog), 0.0)
    return waits


def _kiefer_wolfowitz(arrivals: FloatArray, services: FloatArray, servers: int) -> FloatArray:
    """Return the waits at several servers.

    Kiefer and Wolfowitz (1955): a customer goes to the server that is free first. The vector of
    their workloads is kept as a heap of the times at which they will be free, which do not change
    as time goes by.
    """
    free_at = [-math.inf] * servers
    starts = []
    for arrival, service in zip(arrivals.tolist(), services.tolist(), strict=True):
        start = max(arrival, free_at[0])
        heapq.heapreplace(free_at, start + service)
        starts.append(start)
    return np.asarray(starts, dtype=np.float64) - arrivals


def _require_log(name: str, times: FloatArray, other_name: str, others: FloatArray) -> None:
    """Raise ValueError unless both are one-dimensional, equally long and finite."""
    if times.ndim != 1 or times.shape != others.shape:
        raise ValueError(
            f"{name} have the shape {times.shape} and {other_name} {others.shape}; "
            "give one number of each for every request"
        )
    # Sums are finite if all terms are; they need no array of their own.
    if not (math.isfinite(times.sum()) and math.isfinite(others.sum())):
        raise ValueError(f"{name} or {other_name} hold a number that is not finite; leave it out")


# Averages over requests and over time -------------------------------------------------------------


@dataclass(frozen=True)
class LittlesLaw:
    """The three averages that Little's law relates, each measured on its own.

    Attributes:
        arrival_rate: Requests per second (λ).
        mean_response: Seconds from arrival to departure, averaged over requests (W).
        mean_in_system: Requests present, averaged over time (L).
    """

    arrival_rate: float
    mean_response: float
    mean_in_system: float


def littles_law(arrivals: ArrayLike, departures: ArrayLike) -> LittlesLaw:
    """Return λ, W and L of an event log, from its first arrival to its last departure.

    Nobody is present before and after, so L = λ·W exactly, whatever the order of service, the
    arrivals and the sizes. In a window that cuts requests at its edges, the law holds in the limit
    of a long window only. Source: Little (1961); Stidham, A last word on L = λW (1974).

    Args:
        arrivals: Times of arrival in seconds, shape (n,), in any order.
        departures: Times at which the same requests leave, shape (n,).

    Raises:
        ValueError: The arrays are not one-dimensional and equally long, a number is not finite,
            a request leaves before it arrives, or no time goes by.

    >>> littles_law(arrivals=[0.0, 1.0, 4.0], departures=[2.0, 4.0, 5.0])
    LittlesLaw(arrival_rate=0.6, mean_response=2.0, mean_in_system=1.2)
    """
    came, left = _event_log(arrivals, departures)
    times, counts = number_in_system(came, left)
    if len(times) < 2:
        raise ValueError("no time goes by in this log; it needs a request that stays for a while")
    return LittlesLaw(
        arrival_rate=len(came) / float(times[-1] - times[0]),
        mean_response=float(np.mean(left - came)),
        mean_in_system=time_average(counts[:-1], np.diff(times)),
    )


def number_in_system(
    arrivals: ArrayLike, departures: ArrayLike
) -> tuple[FloatArray, NDArray[np.int64]]:
    """Return how many requests are present, as a step function of time.

    Args:
        arrivals: Times of arrival in seconds, shape (n,), in any order.
        departures: Times at which the same requests leave, shape (n,).

    Returns:
        The m different times at which somebody comes or leaves, in order, shape (m,), and the
        number present from each of them to the next, shape (m,). The last number is 0.

    Raises:
        ValueError: The arrays are not one-dimensional and equally long, a number is not finite, or
            a request leaves before it arrives.

    >>> times, counts = number_in_system(arrivals=[0.0, 1.0, 4.0], departures=[2.0, 4.0, 5.0])
    >>> times.tolist(), counts.tolist()
    ([0.0, 1.0, 2.0, 4.0, 5.0], [1, 2, 1, 1, 0])
    """
    came, left = _event_log(arrivals, departures)
    times, event_index = np.unique(np.concatenate([came, left]), return_inverse=True)
    came_then = np.bincount(event_index[: len(came)], minlength=len(times))
    left_then = np.bincount(event_index[len(came) :], minlength=len(times))
    return times, np.cumsum(came_then - left_then)


def seen_on_arrival(arrivals: ArrayLike, departures: ArrayLike) -> NDArray[np.int64]:
    """Return how many others each request finds: those present just before it arrives.

    Averaged over Poisson arrivals, this is L (PASTA; Wolff, 1982). Averaged over other arrivals it
    is not: bursts find more, regular arrivals fewer.

    Args:
        arrivals: Times of arrival in seconds, shape (n,), in any order.
        departures: Times at which the same requests leave, shape (n,).

    Returns:
        Requests with an earlier arrival and no earlier departure, shape (n,).

    Raises:
        ValueError: The arrays are not one-dimensional and equally long, a number is not finite, or
            a request leaves before it arrives.

    >>> seen_on_arrival(arrivals=[0.0, 1.0, 3.0], departures=[2.0, 4.0, 5.0]).tolist()
    [0, 1, 1]
    """
    came, left = _event_log(arrivals, departures)
    return np.searchsorted(np.sort(came), came) - np.searchsorted(np.sort(left), came)


def _event_log(arrivals: ArrayLike, departures: ArrayLike) -> tuple[FloatArray, FloatArray]:
    """Return both as arrays, or raise ValueError if they are not an event log."""
    came = np.asarray(arrivals, dtype=np.float64)
    left = np.asarray(departures, dtype=np.float64)
    _require_log("arrivals", came, "departures", left)
    early = np.flatnonzero(left < came)
    if len(early):
        first = early[0]
        raise ValueError(
            f"request {first} leaves at {left[first]} s but arrives at {came[first]} s; "
            "give both in the order of the requests"
        )
    return came, left


def time_average(values: ArrayLike, durations: ArrayLike) -> float:
    """Return the average over time of a quantity that is constant piece by piece.

    The mean over pieces, ``np.mean(values)``, is another number unless all pieces last equally
    long. A batch size averaged over iterations, or a speed averaged over requests, is not what a
    look at the clock shows: long pieces count for more there.

    Args:
        values: The quantity during each piece, shape (n,).
        durations: Seconds that each piece lasts, shape (n,).

    Raises:
        ValueError: The arrays are not one-dimensional and equally long, a number is not finite, a
            duration is negative, or no time goes by.

    >>> time_average([10.0, 100.0], durations=[9.0, 1.0])
    19.0
    """
    levels = np.asarray(values, dtype=np.float64)
    seconds = np.asarray(durations, dtype=np.float64)
    _require_log("values", levels, "durations", seconds)
    total = float(seconds.sum())
    if not total > 0 or seconds.min() < 0:
        raise ValueError(
            f"the durations add to {total} s; each must be at least 0 and one must be more"
        )
    return float(levels @ seconds) / total


def inspected_gap(gaps: ArrayLike) -> float:
    """Return the mean length of the gap into which a random moment falls: E[X²] / E[X].

    It is at least the mean gap, and equal to it only if all gaps are equal: a long gap catches more
    moments than a short one. This is the inspection paradox; with exponential gaps, one waits for a
    full mean gap however long ago the last event was. Source: Feller, An Introduction to
    Probability Theory and Its Applications II (1971), section I.4.

    Args:
        gaps: Seconds between events, shape (n,).

    Raises:
        ValueError: ``gaps`` is not one-dimensional, a gap is negative or not finite, or no time
            goes by.

    >>> inspected_gap([1.0, 9.0])        # the mean is 5
    8.2
    """
    return time_average(gaps, durations=gaps)


# Capacity planning --------------------------------------------------------------------------------


@dataclass(frozen=True)
class CapacityPlan:
    """The fewest servers that meet a target, and the evidence.

    Attributes:
        servers: How many.
        achieved: What was measured with them, at most the target.
        tried: What was measured with each number of servers that was tried.
    """

    servers: int
    achieved: float
    tried: Mapping[int, float]


def fewest_servers(
    measure: Callable[[int], float], target: float, at_least: int = 1, at_most: int = 2**62
) -> CapacityPlan:
    """Return the fewest servers with ``measure(servers) <= target``.

    More servers must not make the measure worse. Steps of 1, 2, 4, ... up from ``at_least`` find a
    number that is enough; bisection finds the fewest. So few numbers are tried, and none far above
    the answer, where a simulation takes longest.

    Args:
        measure: What the target is about, for a number of servers: a p99 in seconds, say.
        target: The most that it may be.
        at_least: The smallest number to consider, from 1.
        at_most: The largest number to consider.

    Raises:
        ValueError: ``at_least`` is below 1 or above ``at_most``, or even ``at_most`` servers miss
            the target.

    >>> def split_evenly(servers: int) -> float:           # a queue of its own for each server
    ...     return MM1(lam=10.0 / servers, mu=1.0).response_quantile(0.99)
    >>> fewest_servers(split_evenly, target=10.0, at_least=11).servers
    19
    """
    _require_count("at_least", at_least)
    _require_count("at_most", at_most, at_least)
    tried: dict[int, float] = {}

    def meets_target(servers: int) -> bool:
        tried[servers] = float(measure(servers))
        return tried[servers] <= target

    too_few, enough, step = at_least - 1, at_least, 1
    while not meets_target(enough):
        if enough == at_most:
            raise ValueError(
                f"{at_most} servers reach {tried[at_most]:.6g}, which misses the target of "
                f"{target:.6g}; relax the target, raise at_most or lower the load ρ (rho)"
            )
        too_few, enough, step = enough, min(enough + step, at_most), 2 * step
    while enough - too_few > 1:
        middle = (too_few + enough) // 2
        if meets_target(middle):
            enough = middle
        else:
            too_few = middle
    return CapacityPlan(enough, tried[enough], tried)


def servers_for_wait(lam: float, mu: float, q: float, target: float) -> CapacityPlan:
    """Return the fewest servers of an M/M/c queue that keep a quantile of the wait in bounds.

    Args:
        lam: Requests that arrive per second (λ).
        mu: Requests that one busy server finishes per second (μ).
        q: Which quantile; 0.99 for the 99th percentile.
        target: The most seconds that it may be, from 0.

    Raises:
        ValueError: A rate is not positive, ``q`` is not from 0 to below 1, or ``target`` is
            negative.

    >>> servers_for_wait(lam=100.0, mu=1.0, q=0.99, target=0.5).servers
    108
    """
    _require_positive(lam=lam, mu=mu)
    _require_quantile(q)
    _require_not_negative(target=target)
    stable = math.floor(lam / mu) + 1
    return fewest_servers(lambda c: MMc(lam, mu, c).wait_quantile(q), target, stable)


def servers_for_response(lam: float, mu: float, q: float, target: float) -> CapacityPlan:
    """Return the fewest servers of an M/M/c queue that keep a quantile of the response in bounds.

    Args:
        lam: Requests that arrive per second (λ).
        mu: Requests that one busy server finishes per second (μ).
        q: Which quantile; 0.99 for the 99th percentile.
        target: The most seconds that it may be: more than that quantile of the service alone,
            −ln(1 − q) / μ, which no number of servers shortens.

    Raises:
        ValueError: A rate is not positive, ``q`` is not from 0 to below 1, or ``target`` cannot be
            met.

    >>> servers_for_response(lam=100.0, mu=1.0, q=0.99, target=5.0).servers
    103
    """
    _require_positive(lam=lam, mu=mu)
    _require_quantile(q)
    service = -math.log1p(-q) / mu
    if not target > service:
        raise ValueError(
            f"target is {target} s but the {q:.4g} quantile of the service alone is "
            f"{service:.6g} s; relax the target or raise mu; a lower ρ (rho) does not help"
        )
    stable = math.floor(lam / mu) + 1
    return fewest_servers(lambda c: MMc(lam, mu, c).response_quantile(q), target, stable)


def servers_by_simulation(
    simulate: Callable[[int], ArrayLike],
    q: float,
    target: float,
    at_least: int = 1,
    at_most: int = 1024,
) -> CapacityPlan:
    """Return the fewest servers with which a simulation keeps a quantile in bounds.

    Args:
        simulate: Takes a number of servers and returns one time in seconds per request: its wait,
            its response, its time to the first token. It should replay the same arrivals and sizes
            every time, so that numbers of servers are compared and not samples.
        q: Which quantile; 0.99 for the 99th percentile.
        target: The most seconds that it may be.
        at_least: The smallest number to consider; a closed form gives a good start.
        at_most: The largest number to consider.

    Raises:
        ValueError: ``q`` is not from 0 to below 1, the simulation returns no times,
            ``at_least`` is below 1 or above ``at_most``, or even ``at_most`` servers miss the
            target.

    >>> arrivals, services = np.arange(100.0), np.full(100, 2.5)
    >>> plan = servers_by_simulation(
    ...     lambda servers: simulate_queue(arrivals, services, servers), q=0.99, target=0.0)
    >>> plan.servers
    3
    """
    _require_quantile(q)

    def measure(servers: int) -> float:
        times = np.asarray(simulate(servers), dtype=np.float64)
        if times.size == 0:
            raise ValueError(f"the simulation of {servers} servers returned no times; simulate one")
        # The smallest time that a share q of the requests did not exceed: no interpolation.
        return float(np.quantile(times, q, method="inverted_cdf"))

    return fewest_servers(measure, target, at_least, at_most)

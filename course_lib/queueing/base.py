"""What all models of a queue have in common: the questions that they answer."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass

from course_lib.queueing.requirements import require_positive, require_stable


class QueueModel(ABC):
    """A queue in its steady state: what a request meets that arrives long after the start.

    All means are over requests that are let in. Two of them count requests rather than seconds;
    Little's law (Little, 1961) makes them from the others.

    Attributes:
        lam: Requests that arrive per second (λ).

    >>> from course_lib.queueing import MM1
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
        """Mean number in the system beyond the busy servers (L_q), averaged over time.

        Under first come, first served, it is the number of requests that wait.
        """
        return self.throughput * self.mean_wait

    @property
    def mean_in_system(self) -> float:
        """Mean number of requests that wait or are in service (L), averaged over time."""
        return self.throughput * self.mean_response


@dataclass(frozen=True)
class RateQueue(QueueModel):
    """One server, described by the rate at which it works."""

    lam: float
    mu: float

    def __post_init__(self) -> None:
        require_positive(lam=self.lam, mu=self.mu)
        require_stable(self.rho, "lower lam, raise mu, or use MMc with more servers")

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
class SizeQueue(QueueModel):
    """One server, described by the mean size of the requests."""

    lam: float
    mean: float

    def __post_init__(self) -> None:
        require_positive(lam=self.lam, mean=self.mean)
        require_stable(self.rho, "lower lam or shorten mean")

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

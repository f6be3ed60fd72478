"""Lesson 10: known wrong answers of its simulator and its arrivals."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np

from autograder.checks.finding import Misconception
from course_lib.queueing.simulation import simulate_queue
from course_lib.simulation.workload import gamma_arrivals

# 10.4


def _steps(arrivals: Any, services: Any) -> Any:
    return np.asarray(services)[:-1] - np.diff(arrivals)


def _clamped(steps: Any) -> Any:
    total = np.concatenate([[0.0], np.cumsum(steps)])
    return total - np.minimum.accumulate(total)


def never_idle(arrivals: Any, services: Any, servers: int = 1) -> Any:
    """Let the server work ahead when nobody is there."""
    if len(arrivals) == 0:
        return simulate_queue(arrivals, services, servers)
    return np.concatenate([[0.0], np.cumsum(_steps(arrivals, services))])


def cut_at_zero(arrivals: Any, services: Any, servers: int = 1) -> Any:
    """Cut the running sums at 0, without going on from there."""
    return np.maximum(never_idle(arrivals, services, servers), 0.0)


def own_service(arrivals: Any, services: Any, servers: int = 1) -> Any:
    """Take the customer's own service for that of the one in front."""
    if len(arrivals) == 0:
        return simulate_queue(arrivals, services, servers)
    return _clamped(np.asarray(services)[1:] - np.diff(arrivals))


def with_service(arrivals: Any, services: Any, servers: int = 1) -> Any:
    """Return how long each is in the system."""
    return simulate_queue(arrivals, services, servers) + np.asarray(services)


def least_without_zero(arrivals: Any, services: Any, servers: int = 1) -> Any:
    """Subtract the least sum so far, though it may be above 0."""
    if len(arrivals) == 0:
        return simulate_queue(arrivals, services, servers)
    total = np.cumsum(_steps(arrivals, services))
    return np.concatenate([[0.0], total - np.minimum.accumulate(total)])


def least_of_all(arrivals: Any, services: Any, servers: int = 1) -> Any:
    """Subtract the least sum of all, also of those that come later."""
    if len(arrivals) == 0:
        return simulate_queue(arrivals, services, servers)
    total = np.concatenate([[0.0], np.cumsum(_steps(arrivals, services))])
    return total - total.min()


def first_is_missing(arrivals: Any, services: Any, servers: int = 1) -> Any:
    """Leave out the first customer, who never waits."""
    return simulate_queue(arrivals, services, servers)[1:]


def in_a_loop(arrivals: Any, services: Any, servers: int = 1) -> Any:
    """Right, and slow: one customer after the other."""
    came, needs = np.asarray(arrivals, dtype=float), np.asarray(services, dtype=float)
    waits = np.zeros(len(came))
    for n in range(1, len(came)):
        waits[n] = max(0.0, waits[n - 1] + needs[n - 1] - (came[n] - came[n - 1]))
    return waits


def in_a_list(arrivals: Any, services: Any, servers: int = 1) -> Any:
    """Right, and slow: a running maximum in Python's own numbers."""
    steps = _steps(np.asarray(arrivals), services).tolist()
    waits = itertools.accumulate(steps, lambda wait, step: max(0.0, wait + step), initial=0.0)
    return np.array(list(waits)[: len(arrivals)])


def a_step_for_the_first(arrivals: Any, services: Any, servers: int = 1) -> Any:
    """Give the first customer a step too, with the service of the last one."""
    if len(arrivals) == 0:
        return simulate_queue(arrivals, services, servers)
    total = np.cumsum(np.roll(services, 1) - np.diff(arrivals, prepend=0.0))
    return total - np.minimum(np.minimum.accumulate(total), 0.0)


def least_added(arrivals: Any, services: Any, servers: int = 1) -> Any:
    """Add the least sum, which is negative."""
    total = never_idle(arrivals, services, servers)
    return total + np.minimum.accumulate(total)


def below_the_greatest(arrivals: Any, services: Any, servers: int = 1) -> Any:
    """Return how far the sum is below the greatest so far."""
    total = never_idle(arrivals, services, servers)
    return np.maximum.accumulate(total) - total


def one_for_nobody(arrivals: Any, services: Any, servers: int = 1) -> Any:
    """Begin with a 0 even if nobody comes."""
    return _clamped(_steps(arrivals, services))


SIMULATED = (
    Misconception(
        "a step for the first",
        "Nobody is in front of the first customer: its sum is 0, and steps begin with the second.",
        a_step_for_the_first,
    ),
    Misconception(
        "the least added",
        "The least sum so far is negative or 0; it is subtracted.",
        least_added,
    ),
    Misconception(
        "below the greatest",
        "A wait is how far the sum stands above the least so far, not below the greatest.",
        below_the_greatest,
    ),
    Misconception(
        "a wait for nobody",
        "Without customers there are no waits: the array is empty, and the 0 of the first customer "
        "is not in it.",
        one_for_nobody,
    ),
    Misconception(
        "never idle",
        "The sums fall below 0 when the server is idle. It cannot work ahead: subtract the least "
        "sum so far.",
        never_idle,
    ),
    Misconception(
        "cut at 0",
        "After an idle time the wait goes on from 0, not from the sum that had fallen below it. "
        "Subtract the least sum so far.",
        cut_at_zero,
    ),
    Misconception(
        "the own service",
        "A customer waits for the service of the one in front, not for its own.",
        own_service,
    ),
    Misconception("response for wait", "A wait ends when the service starts.", with_service),
    Misconception(
        "the least without 0",
        "Who comes to a queue that has not been idle since the start waits for all of the sum: the "
        "least so far is at most 0.",
        least_without_zero,
    ),
    Misconception(
        "the least of all",
        "An idle time that is still to come helps nobody now: the least sum *so far*.",
        least_of_all,
    ),
    Misconception(
        "without the first",
        "The first customer waits 0 s, and has a place in the array.",
        first_is_missing,
    ),
)
SLOW = (
    Misconception(
        "customer by customer",
        "A loop in Python takes many times as long for each customer as the arrays do.",
        in_a_loop,
        evidence=r"(?m)^\s+(for|while) .*:$",
    ),
    Misconception(
        "in a list",
        "A list of Python's numbers is gone through one by one, too; stay with arrays.",
        in_a_list,
        evidence=r"(?<!minimum\.)\baccumulate\(",
    ),
)

# 10.5


def _drawn(shape: float, scale: float, n: int, seed: Any) -> Any:
    return np.cumsum(np.random.default_rng(seed).gamma(shape, scale, n))


def shape_is_cv(rate: float, cv: float, n: int, seed: Any = 0) -> Any:
    """Take the CV for the shape."""
    gamma_arrivals(rate, cv, n)
    return _drawn(cv, 1 / (rate * cv), n, seed)


def shape_is_inverse_cv(rate: float, cv: float, n: int, seed: Any = 0) -> Any:
    """Take the CV for its square."""
    gamma_arrivals(rate, cv, n)
    return _drawn(1 / cv, cv / rate, n, seed)


def scale_is_the_gap(rate: float, cv: float, n: int, seed: Any = 0) -> Any:
    """Take the mean gap for the scale."""
    gamma_arrivals(rate, cv, n)
    return _drawn(1 / cv**2, 1 / rate, n, seed)


def rate_for_gap(rate: float, cv: float, n: int, seed: Any = 0) -> Any:
    """Take the rate for the mean gap."""
    gamma_arrivals(rate, cv, n)
    return _drawn(1 / cv**2, rate * cv**2, n, seed)


def gaps_for_times(rate: float, cv: float, n: int, seed: Any = 0) -> Any:
    """Return gaps."""
    return np.diff(gamma_arrivals(rate, cv, n, seed), prepend=0.0)


def first_at_zero(rate: float, cv: float, n: int, seed: Any = 0) -> Any:
    """Let the first request come at 0."""
    times = gamma_arrivals(rate, cv, n, seed)
    return times - times[:1]


def always_poisson(rate: float, cv: float, n: int, seed: Any = 0) -> Any:
    """Draw exponential gaps whatever the CV."""
    gamma_arrivals(rate, cv, n)
    return _drawn(1.0, 1 / rate, n, seed)


def older_generator(rate: float, cv: float, n: int, seed: Any = 0) -> Any:
    """Draw from NumPy's older generator."""
    gamma_arrivals(rate, cv, n)
    return np.cumsum(np.random.RandomState(seed).gamma(1 / cv**2, cv**2 / rate, n))


def any_arguments(rate: float, cv: float, n: int, seed: Any = 0) -> Any:
    """Refuse nothing but what NumPy refuses."""
    return gamma_arrivals(abs(rate) or 1.0, cv or 1.0, abs(n), seed)


def shape_is_squared_cv(rate: float, cv: float, n: int, seed: Any = 0) -> Any:
    """Turn the shape upside down."""
    gamma_arrivals(rate, cv, n)
    return _drawn(cv**2, 1 / (rate * cv**2), n, seed)


BURSTS = (
    Misconception(
        "the shape upside down",
        "1/√k is the CV, so k is 1 / cv²: more shape is less spread.",
        shape_is_squared_cv,
    ),
    Misconception(
        "CV for shape",
        "A gamma distribution of shape k has the CV 1/√k: more shape is less spread.",
        shape_is_cv,
    ),
    Misconception(
        "CV for its square",
        "1/√k is the CV, so k is 1 over its square.",
        shape_is_inverse_cv,
    ),
    Misconception(
        "the mean gap for scale",
        "The mean is shape times scale, so the scale is the mean gap over the shape.",
        scale_is_the_gap,
    ),
    Misconception("rate for gap", "A rate of 5 per second is a mean gap of 0.2 s.", rate_for_gap),
    Misconception("gaps for times", "Times are running sums of gaps.", gaps_for_times),
    Misconception(
        "the first at 0",
        "The clock starts one gap before the first request.",
        first_at_zero,
    ),
    Misconception(
        "NumPy's older generator",
        "np.random.seed and np.random.gamma draw other numbers; take default_rng(seed).",
        older_generator,
    ),
    Misconception(
        "always Poisson", "Exponential gaps have the CV 1, and no other.", always_poisson
    ),
    Misconception(
        "nothing refused",
        "A rate or a CV that is not above 0, or a number of requests below 0, is refused with a "
        "ValueError.",
        any_arguments,
    ),
)

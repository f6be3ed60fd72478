"""What a model, a log or a target must be; each refuses what has no meaning, and says why."""

from __future__ import annotations

import math
import operator

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.float64]
"""Numbers, one per request or per moment."""


def require_positive(**values: float) -> None:
    """Raise ValueError for the first value that is not a finite number above 0."""
    for name, value in values.items():
        if not 0 < value < math.inf:
            raise ValueError(
                f"{name} is {value}; it must be finite and greater than 0, whatever ρ (rho) is"
            )


def require_not_negative(**values: float) -> None:
    """Raise ValueError for the first value that is not a finite number from 0.

    >>> require_not_negative(offered_load=3.5)
    """
    for name, value in values.items():
        if not 0 <= value < math.inf:
            raise ValueError(
                f"{name} is {value}; it must be finite and at least 0, whatever ρ (rho) is"
            )


def require_count(name: str, value: int, at_least: int = 1) -> None:
    """Raise ValueError unless ``value`` is of an integer type, and at least ``at_least``.

    >>> require_count("servers", np.int64(2))
    """
    try:
        whole = operator.index(value)
    except TypeError:
        whole = at_least - 1
    if whole < at_least:
        raise ValueError(
            f"{name} is {value!r}; it must be a whole number, of an integer type, from {at_least}, "
            "whatever ρ (rho) is"
        )


def require_stable(rho: float, remedy: str) -> None:
    """Raise ValueError unless less work comes in than the servers can do."""
    if not rho < 1:
        raise ValueError(
            f"ρ (rho) is {rho:.10g}; a queue settles down only if it is below 1: {remedy}"
        )


def require_quantile(q: float) -> None:
    """Raise ValueError unless ``q`` is a share from 0 to below 1."""
    if not 0 <= q < 1:
        raise ValueError(
            f"q is {q}; it must be from 0 to below 1 (for the 99th percentile, pass 0.99)"
        )


def require_log(name: str, times: FloatArray, other_name: str, others: FloatArray) -> None:
    """Raise ValueError unless both are one-dimensional, equally long and finite."""
    if times.ndim != 1 or times.shape != others.shape:
        raise ValueError(
            f"{name} have the shape {times.shape} and {other_name} {others.shape}; "
            "give one number of each for every request"
        )
    # Sums are finite if all terms are; they need no array of their own.
    if not (math.isfinite(times.sum()) and math.isfinite(others.sum())):
        raise ValueError(f"{name} or {other_name} hold a number that is not finite; leave it out")


def require_customers(arrivals: FloatArray, services: FloatArray) -> None:
    """Raise ValueError unless these are the arrivals and services of a queue, in order."""
    require_log("arrivals", arrivals, "services", services)
    if not np.all(arrivals[1:] >= arrivals[:-1]):
        raise ValueError("arrivals are not in order; sort them together with their services")
    if len(services) and services.min() < 0:
        raise ValueError(f"a service takes {services.min()} s; it must take at least 0 s")

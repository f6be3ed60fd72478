"""Averages of an event log: over requests, over time, and the law that relates them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from course_lib.queueing.requirements import FloatArray, require_log


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

    The window begins with the earliest arrival, not at 0, and the rate is the number of requests
    over it. Nobody is present before and after, so L = λ·W exactly, whatever the order of service,
    the arrivals and the sizes. In a window that cuts requests at its edges, the law holds in the
    limit of a long window only. Source: Little (1961); Stidham, A last word on L = λW (1974).

    Args:
        arrivals: Times of arrival in seconds, shape (n,), in any order.
        departures: Times at which the same requests leave, shape (n,).

    Raises:
        ValueError: The arrays are not one-dimensional and equally long, a number is not finite,
            a request leaves before it arrives, or no time goes by.

    >>> littles_law(arrivals=[0.0, 1.0, 4.0], departures=[2.0, 4.0, 5.0])
    LittlesLaw(arrival_rate=0.6, mean_response=2.0, mean_in_system=1.2)
    """
    times, counts = number_in_system(arrivals, departures)
    if len(times) < 2:
        raise ValueError("no time goes by in this log; it needs a request that stays for a while")
    responses = np.asarray(departures, dtype=np.float64) - np.asarray(arrivals, dtype=np.float64)
    return LittlesLaw(
        arrival_rate=len(responses) / float(times[-1] - times[0]),
        mean_response=float(responses.mean()),
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

    Averaged over Poisson arrivals, this is L in the long run (PASTA; Wolff, 1982). Averaged over
    other arrivals it need not be: bursts find more, regular arrivals fewer.

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
    require_log("arrivals", came, "departures", left)
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

    The mean over pieces, ``np.mean(values)``, may be another number unless all pieces last equally
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
    require_log("values", levels, "durations", seconds)
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

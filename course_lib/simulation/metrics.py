"""What users notice of a serving system, computed from when each token came.

- TTFT, time to first token: from arrival to the first output token.
- TPOT, time per output token: the mean gap between the output tokens of a request.
- ITL, inter-token latency: each of these gaps by itself. Its tail shows stalls that TPOT hides.
- e2e, end-to-end latency: from arrival to the last output token.

All are in seconds. A value that does not exist, such as the TPOT of a single token, is NaN, and
statistics leave it out.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import chain, pairwise
from typing import overload

import numpy as np
from numpy.typing import ArrayLike, NDArray

FloatArray = NDArray[np.float64]


TokenTimes = Sequence[Sequence[float]]
"""When each output token of each request came, in seconds: a list of times for every request."""


class TokenLog(Sequence[list[float]]):
    """When each output token of each request came: a list of times per request, kept compactly.

    Args:
        token_times: The times of each request's tokens, one list per request.

    Attributes:
        times: The times of the first request's tokens in order, then those of the second, and so
            on, in seconds; shape ``(number of tokens,)``.
        offsets: Where in ``times`` each request begins, and at the end the number of tokens: shape
            ``(number of requests + 1,)``.

    >>> log = TokenLog([[1.0, 1.5, 2.5], [], [2.0]])
    >>> log[0], log[1], len(log), log.num_tokens.tolist()
    ([1.0, 1.5, 2.5], [], 3, [3, 0, 1])
    """

    def __init__(self, token_times: TokenTimes) -> None:
        self.offsets = np.zeros(len(token_times) + 1, dtype=np.int64)
        np.cumsum([len(times) for times in token_times], out=self.offsets[1:])
        count = int(self.offsets[-1])
        self.times = np.fromiter(chain.from_iterable(token_times), np.float64, count=count)

    def __len__(self) -> int:
        return len(self.offsets) - 1

    @overload
    def __getitem__(self, index: int) -> list[float]: ...

    @overload
    def __getitem__(self, index: slice) -> list[list[float]]: ...

    def __getitem__(self, index: int | slice) -> list[float] | list[list[float]]:
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(len(self)))]
        start, end = self.offsets[:-1][index], self.offsets[1:][index]
        times: list[float] = self.times[start:end].tolist()
        return times

    @property
    def num_tokens(self) -> NDArray[np.int64]:
        """Output tokens of each request."""
        return np.diff(self.offsets)


def time_to_first_token(arrival_times: Iterable[float], token_times: TokenTimes) -> list[float]:
    """Return each request's TTFT in seconds: from its arrival to its first token.

    Args:
        arrival_times: When each request arrived, in seconds.
        token_times: When their tokens came.

    Returns:
        One value per request; NaN for a request without output.

    >>> time_to_first_token([0.5, 1.0], [[1.0, 1.5], [3.0]])
    [0.5, 2.0]
    """
    return [
        times[0] - arrival if times else math.nan
        for arrival, times in zip(arrival_times, token_times, strict=True)
    ]


def end_to_end_latency(arrival_times: Iterable[float], token_times: TokenTimes) -> list[float]:
    """Return the seconds from each request's arrival to its last token.

    Args:
        arrival_times: When each request arrived, in seconds.
        token_times: When their tokens came.

    Returns:
        One value per request; NaN for a request without output.

    >>> end_to_end_latency([0.5, 1.0], [[1.0, 1.5], [3.0]])
    [1.0, 2.0]
    """
    return [
        times[-1] - arrival if times else math.nan
        for arrival, times in zip(arrival_times, token_times, strict=True)
    ]


def time_per_output_token(token_times: TokenTimes) -> list[float]:
    """Return each request's TPOT: the seconds from its first token to its last, per gap.

    n tokens have n − 1 gaps. A log is long: it is not copied or gone through once for each token
    or request.

    Args:
        token_times: When each request's tokens came, in seconds.

    Returns:
        One value per request; NaN for a request with fewer than two tokens.

    >>> time_per_output_token([[1.0, 1.5, 4.0], [], [3.0], [5.0, 6.0]])
    [1.5, nan, nan, 1.0]
    """
    return [
        (times[-1] - times[0]) / (len(times) - 1) if len(times) > 1 else math.nan
        for times in token_times
    ]


def inter_token_latencies(token_times: TokenTimes) -> list[float]:
    """Return every gap between two tokens of a request, in seconds.

    A log is long: neither it nor the list of gaps is copied or gone through once for each token or
    request.

    Args:
        token_times: When each request's tokens came, in seconds.

    Returns:
        The gaps of the first request, then those of the second, and so on. A gap is never between
        two requests.

    >>> inter_token_latencies([[1.0, 1.5, 4.0], [], [3.0], [5.0, 6.0]])
    [0.5, 2.5, 1.0]
    """
    return [later - earlier for times in token_times for earlier, later in pairwise(times)]


def longest_gaps(token_times: TokenTimes) -> list[float]:
    """Return the longest gap within each request: the worst stall that its user saw.

    Args:
        token_times: When each request's tokens came, in seconds.

    Returns:
        One value per request; NaN for a request with fewer than two tokens.

    >>> longest_gaps([[1.0, 1.5, 4.0], [3.0], [5.0, 6.0]])
    [2.5, nan, 1.0]
    """
    return [
        max((later - earlier for earlier, later in pairwise(times)), default=math.nan)
        for times in token_times
    ]


def slowdown(latencies: Iterable[float], seconds_alone: Iterable[float]) -> list[float]:
    """Return how many times longer each request took than it would have taken alone.

    A wait of a minute is little for an answer that takes ten, and much for one that takes a second.
    Averages of seconds hide the second case behind the first; averages of slowdowns do not. Source:
    Harchol-Balter, Performance Modeling and Design of Computer Systems (2013), section 28.3.

    Args:
        latencies: Seconds that each request took from its arrival, as ``end_to_end_latency``.
        seconds_alone: Seconds that it needs on an idle system, above 0; see
            ``demand.service_demand``.

    Returns:
        One value per request, at least 1 but for rounding; NaN for a request without output.

    Raises:
        ValueError: A request takes no time alone.

    >>> slowdown([10.0, 10.0], seconds_alone=[5.0, 0.5])
    [2.0, 20.0]
    """
    ratios = []
    for index, (seconds, alone) in enumerate(zip(latencies, seconds_alone, strict=True)):
        if not alone > 0:
            raise ValueError(f"seconds_alone[{index}] is {alone}; every request takes time")
        ratios.append(seconds / alone)
    return ratios


def summarize(values: ArrayLike) -> dict[str, float]:
    """Return mean, median, 90th and 99th percentile and maximum, without NaN.

    All are NaN where there is no value at all.

    >>> summarize([1.0, 2.0, 3.0, float("nan")])["mean"]
    2.0
    """
    numbers = np.asarray(values, dtype=np.float64)
    numbers = numbers[~np.isnan(numbers)]
    names = ("mean", "p50", "p90", "p99", "max")
    if len(numbers) == 0:
        return dict.fromkeys(names, math.nan)
    percentiles = np.percentile(numbers, [50, 90, 99, 100])
    return dict(zip(names, [float(numbers.mean()), *percentiles.tolist()], strict=True))


@dataclass(frozen=True)
class ServiceLevel:
    """A service-level objective: what a request's latencies may be at most, in seconds.

    Raises:
        ValueError: A bound is not positive.

    >>> ServiceLevel(ttft=1.0, tpot=0.05).is_met(ttft=[0.4, 1.2], tpot=[0.03, 0.03], e2e=[9, 9])
    array([ True, False])
    """

    ttft: float = math.inf
    tpot: float = math.inf
    e2e: float = math.inf

    def __post_init__(self) -> None:
        for name in ("ttft", "tpot", "e2e"):
            if not getattr(self, name) > 0:
                raise ValueError(f"{name} is {getattr(self, name)}; it must be greater than 0")

    def is_met(self, ttft: ArrayLike, tpot: ArrayLike, e2e: ArrayLike) -> NDArray[np.bool_]:
        """Tell for each request whether it meets all bounds.

        A request of a single token has no TPOT (NaN) and so none that is too long. One without any
        output has no TTFT, and does not meet the objective.
        """
        tpot = np.asarray(tpot, dtype=np.float64)
        is_met: NDArray[np.bool_] = (
            (np.asarray(ttft, dtype=np.float64) <= self.ttft)
            & (np.asarray(e2e, dtype=np.float64) <= self.e2e)
            & ((tpot <= self.tpot) | np.isnan(tpot))
        )
        return is_met


def goodput(is_met: ArrayLike, seconds: float) -> float:
    """Return the requests per second that met their objective (Zhong et al., DistServe, OSDI '24).

    Args:
        is_met: For each request, whether it did.
        seconds: How long the system ran.

    Raises:
        ValueError: ``seconds`` is not positive.

    >>> goodput([True, False, True], seconds=4.0)
    0.5
    """
    if not seconds > 0:
        raise ValueError(f"seconds is {seconds}; goodput is a rate and needs a time above 0")
    return float(np.count_nonzero(is_met)) / seconds


@dataclass(frozen=True, eq=False)
class ServiceCurves:
    """How much service each client has received, as time goes by.

    Attributes:
        times: When somebody received service, in seconds, increasing.
        clients: Their names.
        service: What each client had received by then, in weighted tokens: shape
            ``(number of clients, number of times)``.
    """

    times: FloatArray
    clients: tuple[str, ...]
    service: FloatArray

    def gap(self) -> FloatArray:
        """Return, at each time, the service of the best-served client minus the worst-served.

        It means something while all of them have requests waiting: one that asks for nothing gets
        nothing, and that is fair.
        """
        if not self.clients:
            return np.zeros(len(self.times))
        return np.asarray(self.service.max(axis=0) - self.service.min(axis=0))

    def until(self, seconds: float) -> ServiceCurves:
        """Return the part up to a time, such as that at which a client has nothing to ask."""
        end = int(np.searchsorted(self.times, seconds, side="right"))
        return ServiceCurves(self.times[:end], self.clients, self.service[:, :end])


def service_curves(
    token_times: TokenTimes,
    client_ids: Sequence[str],
    prompt_tokens: ArrayLike,
    prompt_weight: float = 1.0,
    output_weight: float = 2.0,
) -> ServiceCurves:
    """Return what each client has been given, in the measure of Sheng et al. (VTC, OSDI '24).

    A request's prompt counts when its first token comes out, each output token when it comes. What
    a preemption makes the engine compute again is not the client's gain, and is not counted.

    Args:
        token_times: When the tokens of each request came, in seconds.
        client_ids: Whose each request is.
        prompt_tokens: Length of each prompt.
        prompt_weight: What a prompt token counts.
        output_weight: What an output token counts; more, because it takes an iteration of its own.

    >>> curves = service_curves([[1.0, 2.0], [2.0]], ["a", "b"], prompt_tokens=[10, 5])
    >>> curves.times.tolist(), curves.service.tolist(), curves.gap().tolist()
    ([1.0, 2.0], [[12.0, 14.0], [0.0, 7.0]], [12.0, 7.0])
    """
    log = TokenLog(token_times)
    clients = tuple(dict.fromkeys(client_ids))
    number = {client: index for index, client in enumerate(clients)}
    amounts = np.full(len(log.times), output_weight)
    has_tokens = log.num_tokens > 0
    first_tokens = log.offsets[:-1][has_tokens]
    amounts[first_tokens] += prompt_weight * np.asarray(prompt_tokens)[has_tokens]
    times, column = np.unique(log.times, return_inverse=True)
    client_of_request = np.array([number[client] for client in client_ids], dtype=np.int64)
    service = np.zeros((len(clients), len(times)))
    np.add.at(service, (np.repeat(client_of_request, log.num_tokens), column), amounts)
    return ServiceCurves(times, clients, np.cumsum(service, axis=1))

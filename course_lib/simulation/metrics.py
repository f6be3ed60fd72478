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
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain

import numpy as np
from numpy.typing import ArrayLike, NDArray

FloatArray = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class TokenLog:
    """When each output token of each request came: an event log, sorted by request.

    Attributes:
        times: The times of the first request's tokens in order, then those of the second, and so
            on, in seconds; shape ``(number of tokens,)``.
        offsets: Where in ``times`` each request begins, and at the end the number of tokens: shape
            ``(number of requests + 1,)``. Request i has ``times[offsets[i] : offsets[i + 1]]``.

    >>> log = TokenLog.from_lists([[1.0, 1.5, 2.5], [], [2.0]])
    >>> log.num_tokens.tolist(), log.first().tolist(), log.last().tolist()
    ([3, 0, 1], [1.0, nan, 2.0], [2.5, nan, 2.0])
    """

    times: FloatArray
    offsets: NDArray[np.int64]

    @classmethod
    def from_lists(cls, token_times: Sequence[Sequence[float]]) -> TokenLog:
        """Build a log from the times of each request's tokens, one list per request."""
        offsets = np.zeros(len(token_times) + 1, dtype=np.int64)
        np.cumsum([len(times) for times in token_times], out=offsets[1:])
        times = np.fromiter(chain.from_iterable(token_times), np.float64, count=int(offsets[-1]))
        return cls(times, offsets)

    @property
    def num_tokens(self) -> NDArray[np.int64]:
        """Output tokens of each request."""
        return np.diff(self.offsets)

    def first(self) -> FloatArray:
        """When each request's first token came; NaN where there is none."""
        return self._pick(self.offsets[:-1])

    def last(self) -> FloatArray:
        """When each request's last token came; NaN where there is none."""
        return self._pick(self.offsets[1:] - 1)

    def request_of_token(self) -> NDArray[np.int64]:
        """Which request each entry of ``times`` belongs to."""
        return np.repeat(np.arange(len(self.offsets) - 1), self.num_tokens)

    def _pick(self, positions: NDArray[np.int64]) -> FloatArray:
        """Take one entry of ``times`` per request."""
        picked = np.full(len(positions), math.nan)
        has_tokens = self.num_tokens > 0
        picked[has_tokens] = self.times[positions[has_tokens]]
        return picked


def time_to_first_token(arrival_times: ArrayLike, log: TokenLog) -> FloatArray:
    """Return each request's TTFT in seconds.

    Args:
        arrival_times: When each request arrived, in seconds.
        log: Their tokens.

    Returns:
        Shape ``(number of requests,)``; NaN for a request without output.

    >>> time_to_first_token([0.5, 1.0], TokenLog.from_lists([[1.0, 1.5], [3.0]])).tolist()
    [0.5, 2.0]
    """
    return log.first() - np.asarray(arrival_times, dtype=np.float64)


def end_to_end_latency(arrival_times: ArrayLike, log: TokenLog) -> FloatArray:
    """Return the seconds from each request's arrival to its last token; NaN without output.

    >>> end_to_end_latency([0.5, 1.0], TokenLog.from_lists([[1.0, 1.5], [3.0]])).tolist()
    [1.0, 2.0]
    """
    return log.last() - np.asarray(arrival_times, dtype=np.float64)


def time_per_output_token(log: TokenLog) -> FloatArray:
    """Return each request's TPOT: the seconds from its first token to its last, per gap.

    n tokens have n − 1 gaps. NaN for a request with fewer than two tokens.

    >>> time_per_output_token(TokenLog.from_lists([[1.0, 1.5, 4.0], [3.0]])).tolist()
    [1.5, nan]
    """
    num_gaps = np.maximum(log.num_tokens - 1, 0)
    with np.errstate(invalid="ignore"):  # 0 seconds over 0 gaps is the NaN that is promised
        return np.asarray((log.last() - log.first()) / num_gaps)


def inter_token_latencies(log: TokenLog) -> FloatArray:
    """Return every gap between two tokens of a request, in seconds.

    Returns:
        The gaps of the first request, then those of the second, and so on. A gap is never between
        two requests.

    >>> inter_token_latencies(TokenLog.from_lists([[1.0, 1.5, 4.0], [3.0], [5.0, 6.0]])).tolist()
    [0.5, 2.5, 1.0]
    """
    if len(log.times) == 0:
        return np.empty(0)
    owner = log.request_of_token()
    return np.asarray(np.diff(log.times)[owner[1:] == owner[:-1]])


def longest_gaps(log: TokenLog) -> FloatArray:
    """Return the longest gap within each request: the worst stall that its user saw.

    NaN for a request with fewer than two tokens.

    >>> longest_gaps(TokenLog.from_lists([[1.0, 1.5, 4.0], [3.0], [5.0, 6.0]])).tolist()
    [2.5, nan, 1.0]
    """
    longest = np.full(len(log.offsets) - 1, math.nan)
    if len(log.times):
        owner = log.request_of_token()
        same = owner[1:] == owner[:-1]
        np.fmax.at(longest, owner[1:][same], np.diff(log.times)[same])
    return longest


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
    log: TokenLog,
    client_ids: Sequence[str],
    prompt_tokens: ArrayLike,
    prompt_weight: float = 1.0,
    output_weight: float = 2.0,
) -> ServiceCurves:
    """Return what each client has been given, in the measure of Sheng et al. (VTC, OSDI '24).

    A request's prompt counts when its first token comes out, each output token when it comes. What
    a preemption makes the engine compute again is not the client's gain, and is not counted.

    Args:
        log: The tokens of all requests.
        client_ids: Whose each request is.
        prompt_tokens: Length of each prompt.
        prompt_weight: What a prompt token counts.
        output_weight: What an output token counts; more, because it takes an iteration of its own.

    >>> log = TokenLog.from_lists([[1.0, 2.0], [2.0]])
    >>> curves = service_curves(log, ["a", "b"], prompt_tokens=[10, 5])
    >>> curves.times.tolist(), curves.service.tolist(), curves.gap().tolist()
    ([1.0, 2.0], [[12.0, 14.0], [0.0, 7.0]], [12.0, 7.0])
    """
    clients = tuple(dict.fromkeys(client_ids))
    number = {client: index for index, client in enumerate(clients)}
    amounts = np.full(len(log.times), output_weight)
    has_tokens = log.num_tokens > 0
    first_tokens = log.offsets[:-1][has_tokens]
    amounts[first_tokens] += prompt_weight * np.asarray(prompt_tokens)[has_tokens]
    times, column = np.unique(log.times, return_inverse=True)
    client_of_request = np.array([number[client] for client in client_ids], dtype=np.int64)
    service = np.zeros((len(clients), len(times)))
    np.add.at(service, (client_of_request[log.request_of_token()], column), amounts)
    return ServiceCurves(times, clients, np.cumsum(service, axis=1))

"""What a serving system is asked to do: requests with an arrival time and two lengths.

Real workloads are read from a folder of traces, which the course does not ship. Where there is
none, a synthetic one with the same published statistics takes its place, and ``Workload.source``
says so.
"""

from __future__ import annotations

import json
import math
import os
from bisect import bisect_left
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from pathlib import Path
from typing import Literal, overload

import numpy as np
from numpy.typing import NDArray

from course_lib.simulation.trace_files import csv_cells, filled_lines, moment, seconds_since

AzureTrace = Literal["conversation", "code"]

MOONCAKE_BLOCK_SIZE = 512
"""Tokens per hash id in the traces of Mooncake."""


@dataclass(frozen=True, slots=True)
class TraceRequest:
    """One request of a workload.

    Attributes:
        arrival_time: Seconds since the start of the workload.
        prompt_tokens: Tokens that come in.
        output_tokens: Tokens that go out.
        hash_ids: What the prompt is made of, as far as the trace tells: one id per block of
            ``MOONCAKE_BLOCK_SIZE`` tokens, the last one full or not. Equal ids mean that two
            prompts are the same up to the end of that block. Empty where the trace does not tell.
        client_id: Whose it is, for policies that are fair to clients.
        priority: Lower is more important.
        deadline: When it should be done, in seconds since the start of the workload, for policies
            that look at deadlines.

    Raises:
        ValueError: The arrival time is negative or not finite, or a length is less than 1.

    >>> TraceRequest(arrival_time=0.5, prompt_tokens=374, output_tokens=44).prompt_tokens
    374
    """

    arrival_time: float
    prompt_tokens: int
    output_tokens: int
    hash_ids: tuple[int, ...] = ()
    client_id: str = ""
    priority: int = 0
    deadline: float = math.inf

    def __post_init__(self) -> None:
        if not 0 <= self.arrival_time < math.inf:
            raise ValueError(
                f"arrival_time is {self.arrival_time}; it is a number of seconds, 0 or more"
            )
        if self.prompt_tokens < 1 or self.output_tokens < 1:
            raise ValueError(
                f"a request of {self.prompt_tokens} prompt and {self.output_tokens} output tokens; "
                "each must be at least 1"
            )


@dataclass(frozen=True)
class Workload(Sequence[TraceRequest]):
    """Requests in order of arrival, and where they come from. It cannot be changed.

    Attributes:
        name: What figures and tables call it.
        source: One line for a caption: who measured it, or what it imitates.
        is_synthetic: Whether it was drawn from a random generator rather than measured.
        requests: The requests themselves; the workload is a sequence of them.

    Raises:
        ValueError: A request arrives before the one in front of it.

    >>> two = [TraceRequest(0.0, 374, 44), TraceRequest(4.3, 396, 109)]
    >>> workload = Workload("two", "typed in by hand", is_synthetic=True, requests=tuple(two))
    >>> len(workload), workload[1].output_tokens, workload[:1].name
    (2, 109, 'two')
    """

    name: str
    source: str
    is_synthetic: bool
    requests: tuple[TraceRequest, ...] = field(repr=False)

    def __post_init__(self) -> None:
        for index in range(1, len(self.requests)):
            earlier, later = self.requests[index - 1 : index + 1]
            if later.arrival_time < earlier.arrival_time:
                raise ValueError(
                    f"{self.name}: request {index} arrives at {later.arrival_time} s, the one in "
                    f"front of it at {earlier.arrival_time} s; sort the requests by arrival time"
                )

    @classmethod
    def from_columns(
        cls,
        name: str,
        arrival_times: Iterable[float],
        prompt_tokens: Iterable[int],
        output_tokens: Iterable[int],
        source: str = "Synthetic",
    ) -> Workload:
        """Build a synthetic workload from one array per attribute.

        Raises:
            ValueError: The arrays differ in length, or a request is not a possible one.

        >>> Workload.from_columns("two", [0.0, 4.3], [374, 396], [44, 109])[1].prompt_tokens
        396
        """
        columns = zip(arrival_times, prompt_tokens, output_tokens, strict=True)
        requests = tuple(TraceRequest(float(a), int(p), int(o)) for a, p, o in columns)
        return cls(name, source, is_synthetic=True, requests=requests)

    def at_rate(self, rate: float) -> Workload:
        """Return the same requests on a clock that runs so that they arrive at a rate.

        All gaps are stretched by one factor, so bursts stay bursts. Deadlines keep their distance
        from the arrival.

        Args:
            rate: Requests per second from the first arrival to the last.

        Raises:
            ValueError: ``rate`` is not positive, or all requests arrive at once.

        >>> workload = Workload.from_columns("x", [0.0, 1.0, 4.0], [9] * 3, [9] * 3)
        >>> [request.arrival_time for request in workload.at_rate(2.0)]
        [0.0, 0.25, 1.0]
        """
        if not 0 < rate < math.inf:
            raise ValueError(f"rate is {rate}; it must be finite and greater than 0")
        arrivals = [request.arrival_time for request in self.requests]
        span = arrivals[-1] - arrivals[0] if arrivals else 0.0
        if span == 0.0:
            raise ValueError("all requests arrive at once; no rate can spread them, leave it out")
        factor = (len(arrivals) - 1) / rate / span
        requests = tuple(
            replace(
                request,
                arrival_time=factor * request.arrival_time,
                deadline=request.deadline + (factor - 1) * request.arrival_time,
            )
            for request in self.requests
        )
        source = f"{self.source}; stretched to {rate:g} requests per second"
        return Workload(self.name, source, self.is_synthetic, requests)

    def __len__(self) -> int:
        return len(self.requests)

    @overload
    def __getitem__(self, index: int) -> TraceRequest: ...

    @overload
    def __getitem__(self, index: slice) -> Workload: ...

    def __getitem__(self, index: int | slice) -> TraceRequest | Workload:
        if isinstance(index, slice):
            return Workload(self.name, self.source, self.is_synthetic, self.requests[index])
        return self.requests[index]


def at_times(workload: Workload, times: Iterable[float]) -> Workload:
    """Return the same requests at other times.

    Args:
        workload: Requests; those of its deadlines that are set stay where they are.
        times: When each arrives, in seconds, in order: as many as there are requests.

    Raises:
        ValueError: There are more or fewer times than requests, one is negative, or they are not in
            order.

    >>> workload = Workload.from_columns("x", [0.0, 1.0], [9, 9], [9, 9])
    >>> [request.arrival_time for request in at_times(workload, [3.0, 3.5])]
    [3.0, 3.5]
    """
    requests = tuple(
        replace(request, arrival_time=float(time))
        for request, time in zip(workload, times, strict=True)
    )
    return replace(workload, source=f"{workload.source}; at other times", requests=requests)


def labelled(workload: Workload) -> Workload:
    """Return the same requests with clients, priorities and deadlines, which no trace has.

    Without them, every policy that looks at them is first come, first served. They are made up by
    rule, so that everybody has the same ones: every sixth request is of client "b", the others of
    client "a"; of every ten the first three have priority 1 and the others 0, which is more
    important; each is due 5 s or 90 s after its arrival, in turn, and 30 ms later for each output
    token.

    >>> workload = Workload.from_columns("x", [0.0, 1.0], [9, 9], [100, 100])
    >>> [(r.client_id, r.priority, r.deadline) for r in labelled(workload)]
    [('a', 1, 8.0), ('a', 1, 94.0)]
    """
    requests = tuple(
        replace(
            request,
            client_id="b" if index % 6 == 5 else "a",
            priority=1 if index % 10 < 3 else 0,
            deadline=request.arrival_time
            + (5.0 if index % 2 == 0 else 90.0)
            + 0.03 * request.output_tokens,
        )
        for index, request in enumerate(workload)
    )
    return replace(
        workload,
        source=f"{workload.source}; clients, priorities and deadlines made up",
        requests=requests,
    )


def traces_dir() -> Path | None:
    """Return the folder of real traces, or None where there is none.

    It is the folder that the environment variable ``COURSE_TRACES`` names, and no other.

    Raises:
        FileNotFoundError: ``COURSE_TRACES`` names something that is not a folder.
    """
    named = os.environ.get("COURSE_TRACES")
    if not named:
        return None
    folder = Path(named).expanduser()
    if not folder.is_dir():
        raise FileNotFoundError(
            f"COURSE_TRACES is {named!r}, which is not a folder; "
            "correct it, or unset it to work with synthetic traces"
        )
    return folder


def poisson_arrivals(
    rate: float, n: int, seed: int | np.random.Generator = 0
) -> NDArray[np.float64]:
    """Return the times at which ``n`` requests of a Poisson process arrive.

    Many users who do not know of each other make one: the gaps are exponential, and how long the
    last request is ago tells nothing about the next one.

    Args:
        rate: Requests per second, on average.
        n: Number of requests.
        seed: Seed of the random generator, or a generator to draw from.

    Returns:
        Seconds, in increasing order, shape ``(n,)``. The clock starts one gap before the first.

    Raises:
        ValueError: ``rate`` is not positive, or ``n`` is negative.

    >>> times = poisson_arrivals(rate=5.0, n=100_000)
    >>> print(round(len(times) / times[-1], 1))
    5.0
    """
    return gamma_arrivals(rate, cv=1.0, n=n, seed=seed)


def gamma_arrivals(
    rate: float, cv: float, n: int, seed: int | np.random.Generator = 0
) -> NDArray[np.float64]:
    """Return the times at which ``n`` requests arrive, with gamma-distributed gaps.

    A gamma distribution of shape k and scale s has mean k·s and coefficient of variation 1/√k; here
    the mean gap is 1 / ``rate``. With ``cv=1`` the gaps are exponential: a Poisson process. Above 1
    the requests come in bursts, below 1 more regularly. All gaps are drawn by one call of the
    generator's ``gamma(shape, scale, n)``, and the first one lies before the first request.

    Args:
        rate: Requests per second, on average.
        cv: Standard deviation of the gaps divided by their mean.
        n: Number of requests.
        seed: Seed of the random generator, or a generator to draw from;
            ``numpy.random.default_rng`` takes either.

    Returns:
        Seconds, in increasing order, shape ``(n,)``. The clock starts one gap before the first.

    Raises:
        ValueError: ``rate`` or ``cv`` is not positive, or ``n`` is negative.

    >>> times = gamma_arrivals(rate=5.0, cv=2.0, n=100_000)
    >>> print(round(len(times) / times[-1], 1))
    5.0
    """
    if not rate > 0 or not cv > 0 or n < 0:
        raise ValueError(
            f"rate is {rate}, cv is {cv} and n is {n}; rate and cv must be above 0, n at least 0"
        )
    gaps = np.random.default_rng(seed).gamma(shape=1 / cv**2, scale=cv**2 / rate, size=n)
    return np.cumsum(gaps)


def on_off_arrivals(
    rate_on: float,
    mean_on: float,
    mean_off: float,
    n: int,
    seed: int | np.random.Generator = 0,
) -> NDArray[np.float64]:
    """Return the times at which ``n`` requests arrive from a source that is switched on and off.

    While it is on, requests come as a Poisson process; while it is off, none do. Both phases are
    exponential, and it starts switched on: an interrupted Poisson process (Kuczura, 1973). Over a
    long time it sends rate_on × mean_on / (mean_on + mean_off) requests per second.

    Args:
        rate_on: Requests per second while it is on.
        mean_on: Mean length of an on phase in seconds.
        mean_off: Mean length of an off phase in seconds; 0 for a source that is always on.
        n: Number of requests.
        seed: Seed of the random generator, or a generator to draw from.

    Returns:
        Seconds, in increasing order, shape ``(n,)``.

    Raises:
        ValueError: ``rate_on`` or ``mean_on`` is not positive, or ``mean_off`` or ``n`` is
            negative.

    >>> times = on_off_arrivals(rate_on=10.0, mean_on=2.0, mean_off=6.0, n=200_000)
    >>> print(round(len(times) / times[-1], 1))
    2.5
    """
    if not rate_on > 0 or not mean_on > 0 or not mean_off >= 0 or n < 0:
        raise ValueError(
            f"rate_on is {rate_on}, mean_on {mean_on}, mean_off {mean_off} and n {n}; "
            "rate_on and mean_on must be above 0, mean_off and n at least 0"
        )
    rng = np.random.default_rng(seed)
    # On a clock that stops while the source is off, it is a Poisson process. Of the switches on
    # that clock, Poisson too, each one in front of a request delays it by an off phase.
    running = np.cumsum(rng.exponential(1 / rate_on, size=n))
    num_switches = rng.poisson(np.diff(running, prepend=0.0) / mean_on)
    # A sum of k exponential phases has a gamma distribution of shape k.
    off = np.where(num_switches, rng.gamma(np.maximum(num_switches, 1), 1.0), 0.0) * mean_off
    return np.asarray(running + np.cumsum(off))


def lognormal_lengths(
    mean: float, median: float, n: int, seed: int | np.random.Generator = 0
) -> NDArray[np.int64]:
    """Draw ``n`` token counts with the given mean and median, as real prompts and outputs have.

    A lognormal distribution has median m = exp(μ) and mean exp(μ + σ²/2), so μ = ln(median) and
    σ = √(2 ln(mean/median)). Counts are rounded, and are at least 1.

    Raises:
        ValueError: Not 0 < ``median`` ≤ ``mean``, or ``n`` is negative.

    >>> lengths = lognormal_lengths(mean=1155, median=1020, n=100_000)
    >>> print(round(lengths.mean(), -1), np.median(lengths).round(-1))
    1150.0 1020.0
    """
    if not 0 < median <= mean or n < 0:
        raise ValueError(
            f"mean is {mean}, median is {median} and n is {n}; a lognormal distribution has "
            "0 < median <= mean, and n is at least 0"
        )
    sigma = math.sqrt(2 * math.log(mean / median))
    lengths = np.random.default_rng(seed).lognormal(math.log(median), sigma, size=n)
    return np.maximum(np.rint(lengths), 1).astype(np.int64)


def lognormal_requests(
    means: tuple[float, float],
    cvs: tuple[float, float],
    n: int,
    max_model_len: int,
    seed: int | np.random.Generator = 0,
) -> list[TraceRequest]:
    """Draw requests with lognormal prompts and outputs of given means, none longer than a limit.

    What is too long is left out, which lowers the means, so what stays is scaled up to them again,
    five times over. The lengths then spread a little less than ``cvs`` says, and there are fewer
    than ``n`` requests.

    Args:
        means: Tokens of the prompt and of the output on average.
        cvs: Standard deviation over mean of prompts and outputs, before any is left out.
        n: Requests to draw.
        max_model_len: The most tokens, prompt and output, of a request.
        seed: Seed of the random generator, or a generator to draw from.

    Returns:
        The requests that are not too long; all of them arrive at time 0.

    Raises:
        ValueError: A mean or a coefficient is not above 0, ``n`` is negative, or ``max_model_len``
            is not above the sum of the means.

    >>> drawn = lognormal_requests((161.31, 337.99), cvs=(1.2, 1.0), n=1000, max_model_len=2048)
    >>> print(round(sum(request.prompt_tokens for request in drawn) / len(drawn)))
    161
    """
    if not min(*means, *cvs) > 0 or n < 0 or not max_model_len > sum(means):
        raise ValueError(
            f"means are {means}, cvs {cvs}, n is {n} and max_model_len {max_model_len}; means and "
            "cvs must be above 0, n at least 0, and max_model_len more than both means together"
        )
    variances = np.log1p(np.square(cvs))
    rng = np.random.default_rng(seed)
    lengths = rng.lognormal(-variances / 2, np.sqrt(variances), size=(n, 2)) * means
    for _ in range(5 if n else 0):
        lengths = lengths[lengths.sum(axis=1) <= max_model_len - 1]  # rounding may add 1
        lengths *= np.array(means) / lengths.mean(axis=0)
    tokens = np.maximum(np.rint(lengths), 1).astype(int)
    return [
        TraceRequest(0.0, int(prompt), int(output))
        for prompt, output in tokens[tokens.sum(axis=1) <= max_model_len]
    ]


def geometric_lengths(
    mean: float, n: int, seed: int | np.random.Generator = 0
) -> NDArray[np.int64]:
    """Draw ``n`` token counts with a geometric distribution: memoryless, as in queueing theory.

    Raises:
        ValueError: ``mean`` is less than 1, or ``n`` is negative.

    >>> print(round(geometric_lengths(mean=200, n=100_000).mean(), -1))
    200.0
    """
    if not mean >= 1 or n < 0:
        raise ValueError(f"mean is {mean} and n is {n}; mean must be at least 1, n at least 0")
    return np.random.default_rng(seed).geometric(1 / mean, size=n).astype(np.int64)


@dataclass(frozen=True)
class ClosedLoop:
    """Clients who each wait for their answer, think, and only then ask again.

    A closed loop cannot be overloaded: as the system slows down, so do its clients. That is why a
    load test with a fixed number of clients hides the latencies of an open system (Schroeder et
    al., NSDI '06).

    Attributes:
        requests: What is asked, in order; their arrival times are not used. A client that is ready
            asks for the next one.
        num_clients: How many clients there are. All of them ask at time 0.
        think_seconds: Mean time between an answer and the next question of the same client; times
            are exponential.
        seed: Seed of the thinking times.

    Raises:
        ValueError: ``num_clients`` is less than 1, or ``think_seconds`` is negative.
    """

    requests: Sequence[TraceRequest]
    num_clients: int
    think_seconds: float = 0.0
    seed: int = 0

    def __post_init__(self) -> None:
        if self.num_clients < 1 or not self.think_seconds >= 0:
            raise ValueError(
                f"num_clients is {self.num_clients} and think_seconds is {self.think_seconds}; "
                "there must be at least 1 client, and thinking takes 0 seconds or more"
            )


@dataclass(frozen=True)
class _PublishedTrace:
    """Where an Azure trace lies below the folder of traces, and its published statistics."""

    path: str
    num_requests: int
    rate: float
    cv: float
    prompt_mean: float
    prompt_median: float
    outputs: tuple[tuple[float, float, float], ...]
    """Kinds of answers: the share of each, and the mean and median of its length."""
    longest_output: int | None = None


_AZURE: dict[AzureTrace, _PublishedTrace] = {
    "conversation": _PublishedTrace(
        path="azure2023/AzureLLMInferenceTrace_conv.csv",
        num_requests=19_366,
        rate=5.530,
        cv=1.09,
        prompt_mean=1154.70,
        prompt_median=1020,
        # Two of three answers are short, the others near 400 tokens. Together they have the
        # trace's mean of 211.13, median of 129 and CV of 0.77; one lognormal distribution with
        # that mean and median has a CV of 1.3.
        outputs=((0.665, 106.0, 97.2), (0.335, 420.0, 409.3)),
        longest_output=1000,
    ),
    "code": _PublishedTrace(
        path="azure2023/AzureLLMInferenceTrace_code.csv",
        num_requests=8_819,
        rate=2.566,
        cv=13.15,
        prompt_mean=2047.85,
        prompt_median=1469,
        outputs=((1.0, 27.88, 13.0),),
    ),
}

_AZURE_HEADER = "TIMESTAMP,ContextTokens,GeneratedTokens"


def load_azure(which: AzureTrace = "conversation") -> Workload:
    """Return one of Azure's 2023 LLM inference traces, or a synthetic one where it is not at hand.

    The traces were published with Splitwise (Patel et al., ISCA '24) at Azure/AzurePublicDataset.
    Without them, ``synthetic_azure`` stands in.

    Args:
        which: "conversation" (19,366 requests) or "code" (8,819 requests).

    Returns:
        The requests; arrival times count from the first one. ``is_synthetic`` tells which it is.

    Raises:
        FileNotFoundError: ``COURSE_TRACES`` names something that is not a folder.
        ValueError: There is no such trace, or a row of the file is malformed.

    >>> len(load_azure("code"))
    8819
    """
    published = _published(which)
    folder = traces_dir()
    if folder is None or not (folder / published.path).is_file():
        return synthetic_azure(which)
    return Workload(
        name=f"Azure {which}",
        source=f"Azure LLM inference trace 2023, {which} (Splitwise, ISCA '24; CC-BY 4.0)",
        is_synthetic=False,
        requests=_read_azure_csv(folder / published.path),
    )


def synthetic_azure(which: AzureTrace = "conversation", seed: int = 0) -> Workload:
    """Return a random workload with the published statistics of one of Azure's 2023 traces.

    Arrivals have gamma gaps with the published rate and CV. Prompt and output lengths are lognormal
    and independent: with median m = exp(μ) and mean exp(μ + σ²/2), the two published figures give
    μ = ln(median) and σ = √(2 ln(mean/median)). Outputs of "conversation" are of two kinds, short
    and long, so that their CV is 0.77 as in the trace, and none is longer than 1,000 tokens. There
    are as many requests as in the trace. What was not fitted differs: the longest prompts, and any
    dependence of one request on another. And it is one draw: the CV of 13.15 of "code" comes from
    so few long gaps that a draw of that size misses it by a sixth (one standard deviation).

    Args:
        which: "conversation" or "code".
        seed: Seed of the random generator.

    Returns:
        The requests; arrival times count from the first one.

    Raises:
        ValueError: There is no such trace.

    >>> synthetic_azure("conversation").is_synthetic
    True
    """
    published = _published(which)
    n = published.num_requests
    rng = np.random.default_rng(seed)
    arrivals = gamma_arrivals(published.rate, published.cv, n, rng)
    prompts = lognormal_lengths(published.prompt_mean, published.prompt_median, n, rng)
    shares, means, medians = zip(*published.outputs, strict=True)
    kinds = [lognormal_lengths(*each, n, rng) for each in zip(means, medians, strict=True)]
    outputs = np.choose(rng.choice(len(kinds), size=n, p=shares), kinds)
    if published.longest_output is not None:
        outputs = np.minimum(outputs, published.longest_output)
    columns = ((arrivals - arrivals[0]).tolist(), prompts.tolist(), outputs.tolist())
    return Workload(
        name=f"Azure {which} (synthetic)",
        source=(
            "Synthetic: gamma arrivals and lognormal lengths fitted to the rate, CV, means and "
            f"medians of the Azure 2023 {which} trace"
        ),
        is_synthetic=True,
        requests=tuple(map(TraceRequest, *columns)),
    )


def _published(which: AzureTrace) -> _PublishedTrace:
    """Look up a trace by the name that a caller gave."""
    if which not in _AZURE:
        raise ValueError(f"no Azure trace called {which!r}; known: {', '.join(_AZURE)}")
    return _AZURE[which]


def _read_azure_csv(path: Path) -> tuple[TraceRequest, ...]:
    """Read a trace file; its columns are ``TIMESTAMP,ContextTokens,GeneratedTokens``."""
    lines = filled_lines(path)
    number, header = next(lines, (1, ""))
    if ",".join(csv_cells(header)) != _AZURE_HEADER:
        raise ValueError(
            f"{path}, line {number}: the header is {header[:80]!r}, not {_AZURE_HEADER!r}; "
            "download the trace again"
        )
    return tuple(_parse_azure_rows(path, lines))


def _parse_azure_rows(path: Path, lines: Iterable[tuple[int, str]]) -> Iterable[TraceRequest]:
    """Yield one request per line, with arrival times counted from the first."""
    start: float | datetime | None = None
    for number, line in lines:
        try:
            timestamp, prompt_tokens, output_tokens = csv_cells(line)
            # The seventh digit of the fraction, a tenth of a microsecond, is dropped here.
            arrival = moment(timestamp)
            start = arrival if start is None else start
            seconds = seconds_since(start, arrival)
            request = TraceRequest(seconds, int(prompt_tokens), int(output_tokens))
        except (TypeError, ValueError) as error:
            raise ValueError(
                f"{path}, line {number}: {line[:80]!r} is not a time and two token counts "
                f"({error}); download the trace again"
            ) from error
        yield request


_MOONCAKE_PATH = "mooncake/conversation_trace.jsonl"


def load_mooncake() -> Workload:
    """Return Mooncake's conversation trace, or a synthetic one where it is not at hand.

    It was published with Mooncake (Qin et al., FAST '25) at kvcache-ai/Mooncake: 12,031 requests of
    a chat service in an hour, with a hash id for each block of 512 prompt tokens. So it tells which
    prompts begin alike, without telling what was asked. Without it, ``synthetic_mooncake`` stands
    in.

    Returns:
        The requests with their ``hash_ids``; arrival times count from the first one.
        ``is_synthetic`` tells which it is.

    Raises:
        FileNotFoundError: ``COURSE_TRACES`` names something that is not a folder.
        ValueError: A row of the file is malformed.

    >>> workload = load_mooncake()
    >>> len(workload), workload[0].hash_ids[0] == workload[1].hash_ids[0]
    (12031, True)
    """
    folder = traces_dir()
    if folder is None or not (folder / _MOONCAKE_PATH).is_file():
        return synthetic_mooncake()
    return Workload(
        name="Mooncake conversation",
        source="Mooncake conversation trace (FAST '25; Apache-2.0)",
        is_synthetic=False,
        requests=tuple(_read_mooncake(folder / _MOONCAKE_PATH)),
    )


def synthetic_mooncake(n: int = 12_031, seed: int = 0) -> Workload:
    """Return a random workload of conversations that share prefixes, as in Mooncake's trace.

    Every prompt begins with the same block, the system prompt. A request continues a conversation
    with probability 0.387: then its prompt is the whole conversation and something new, so it
    shares all full blocks of the last prompt. A time that the conversation has rested is drawn, and
    the one taken that has rested most nearly as long. Otherwise a conversation starts. Arrivals are
    Poisson. These figures are measured on the trace (median and mean): first prompts 5264 and
    10,765 tokens, what a continuation adds 829 and 3237 tokens, a rest 123 and 215 s, all drawn
    from a lognormal distribution; outputs with a mean of 343 tokens, drawn uniformly; 3.40 requests
    per second. What was not fitted differs, such as how many conversations branch.

    Args:
        n: How many requests.
        seed: Seed of the random generator.

    Returns:
        The requests with their ``hash_ids``; arrival times count from the first one.

    >>> synthetic_mooncake(n=3).is_synthetic
    True
    """
    rng = np.random.default_rng(seed)
    arrivals = gamma_arrivals(rate=3.40, cv=1.0, n=n, seed=rng)
    first_prompts = lognormal_lengths(10_765, 5264, n, rng)
    additions = lognormal_lengths(3237, 829, n, rng)
    outputs = rng.integers(1, 686, size=n)
    continues = rng.random(n) < 0.387
    # Of a lognormal distribution, median and σ as in lognormal_lengths.
    rests = rng.lognormal(math.log(123), math.sqrt(2 * math.log(215 / 123)), size=n)
    resting: list[float] = []  # since when, for each conversation, in order
    prompts: list[tuple[int, tuple[int, ...]]] = []  # the last one of each of them
    requests = []
    next_id = 1
    for index in range(n):
        if continues[index] and resting:
            conversation = _nearest(resting, float(arrivals[index] - rests[index]))
            del resting[conversation]
            tokens, ids = prompts.pop(conversation)
            ids = ids[: max(tokens // MOONCAKE_BLOCK_SIZE, 1)]
            tokens += int(additions[index])
        else:
            # The first block is the system prompt: a first prompt is never shorter.
            tokens, ids = max(int(first_prompts[index]), MOONCAKE_BLOCK_SIZE), (0,)
        num_new = -(-tokens // MOONCAKE_BLOCK_SIZE) - len(ids)
        ids = (*ids, *range(next_id, next_id + num_new))
        next_id += num_new
        resting.append(float(arrivals[index]))
        prompts.append((tokens, ids))
        seconds = float(arrivals[index] - arrivals[0])
        requests.append(TraceRequest(seconds, tokens, int(outputs[index]), ids))
    return Workload(
        name="Mooncake conversation (synthetic)",
        source=(
            "Synthetic: Poisson arrivals, lognormal lengths and rests fitted to the Mooncake "
            "conversation trace"
        ),
        is_synthetic=True,
        requests=tuple(requests),
    )


def _nearest(ascending: Sequence[float], value: float) -> int:
    """Return the index of the number that is nearest to a value.

    >>> _nearest([1.0, 4.0, 9.0], 6.0), _nearest([1.0, 4.0, 9.0], 99.0)
    (1, 2)
    """
    after = bisect_left(ascending, value)
    neighbours = range(max(after - 1, 0), min(after + 1, len(ascending)))
    return min(neighbours, key=lambda index: abs(ascending[index] - value))


def _read_mooncake(path: Path) -> Iterable[TraceRequest]:
    """Yield one request per line of JSON, with arrival times counted from the first.

    Times are in milliseconds there.
    """
    start: float | datetime | None = None
    for number, line in filled_lines(path):
        try:
            row = json.loads(line)
            arrival = moment(row["timestamp"], per_second=1e3)
            start = arrival if start is None else start
            request = TraceRequest(
                arrival_time=seconds_since(start, arrival),
                prompt_tokens=int(row["input_length"]),
                output_tokens=int(row["output_length"]),
                hash_ids=tuple(row["hash_ids"]),
            )
            num_blocks = -(-request.prompt_tokens // MOONCAKE_BLOCK_SIZE)
            if len(request.hash_ids) != num_blocks:
                raise ValueError(
                    f"{len(request.hash_ids)} hash ids for {num_blocks} blocks of tokens"
                )
        except (KeyError, TypeError, ValueError) as error:
            raise ValueError(
                f"{path}, line {number}: {line[:80]!r} is not a request with "
                f"timestamp, input_length, output_length and hash_ids ({error}); "
                "download the trace again"
            ) from error
        yield request

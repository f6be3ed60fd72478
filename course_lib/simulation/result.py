"""What a simulation measured: of every request, and of every iteration."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from course_lib.scheduling.request import RequestStatus
from course_lib.simulation.metrics import (
    ServiceCurves,
    ServiceLevel,
    TokenLog,
    end_to_end_latency,
    goodput,
    inter_token_latencies,
    longest_gaps,
    service_curves,
    summarize,
    time_per_output_token,
    time_to_first_token,
)
from course_lib.steps import StepTable, write_chrome_trace


class RequestOutcome(NamedTuple):
    """What became of a request.

    Attributes:
        request_id: Its name.
        client_id: Whose it is.
        arrival_time: When it arrived, in seconds.
        prompt_tokens: Length of its prompt.
        output_tokens: Tokens that it generated.
        first_scheduled_time: When it was first admitted to the batch; NaN if never.
        num_cached_tokens: Prompt tokens that it found in the prefix cache then.
        num_preemptions: How often it lost its place.
        status: How it ended.
        finish_reason: Why, where the status does not say enough.
    """

    request_id: str
    client_id: str
    arrival_time: float
    prompt_tokens: int
    output_tokens: int
    first_scheduled_time: float
    num_cached_tokens: int
    num_preemptions: int
    status: RequestStatus
    finish_reason: str


class Pause(NamedTuple):
    """A stretch in which a request had lost its place in the batch.

    Attributes:
        start: When it lost its place, in seconds.
        end: When it got one again.
        computes_again: Whether it then computed tokens anew, rather than have them brought back.
    """

    start: float
    end: float
    computes_again: bool


@dataclass(frozen=True, eq=False)
class SimulationResult:
    """What a simulation measured. Arrays have one value per request, in the order given.

    Attributes:
        requests: What became of each request.
        token_log: When each of their tokens came.
        steps: One row per iteration.
        pauses: When each request had lost its place in the batch; empty where nobody wrote it down.
    """

    requests: tuple[RequestOutcome, ...] = field(repr=False)
    token_log: TokenLog = field(repr=False)
    steps: StepTable
    pauses: tuple[tuple[Pause, ...], ...] = field(default=(), repr=False)

    @cached_property
    def arrival_times(self) -> NDArray[np.float64]:
        """When each request arrived, in seconds."""
        return np.array([request.arrival_time for request in self.requests], dtype=np.float64)

    @cached_property
    def ttft(self) -> NDArray[np.float64]:
        """Time to first token in seconds; NaN for a request that was refused."""
        return np.array(time_to_first_token(self.arrival_times.tolist(), self.token_log))

    @cached_property
    def tpot(self) -> NDArray[np.float64]:
        """Time per output token after the first, in seconds; NaN for a single token."""
        return np.array(time_per_output_token(self.token_log))

    @cached_property
    def e2e(self) -> NDArray[np.float64]:
        """Time from arrival to last token in seconds; NaN for a request that was refused."""
        return np.array(end_to_end_latency(self.arrival_times.tolist(), self.token_log))

    @cached_property
    def itl(self) -> NDArray[np.float64]:
        """Every gap between two tokens of a request, in seconds."""
        return np.array(inter_token_latencies(self.token_log))

    @cached_property
    def longest_gap(self) -> NDArray[np.float64]:
        """The longest gap between two tokens of each request, in seconds; NaN for one token."""
        return np.array(longest_gaps(self.token_log))

    @cached_property
    def queue_time(self) -> NDArray[np.float64]:
        """Time from arrival to admission in seconds; NaN for a request that was refused."""
        return np.array([r.first_scheduled_time - r.arrival_time for r in self.requests])

    @property
    def makespan(self) -> float:
        """Time from the first arrival to the last token, in seconds; 0.0 without any token."""
        if len(self.token_log.times) == 0:
            return 0.0
        return float(self.token_log.times.max() - self.arrival_times.min())

    @property
    def num_preemptions(self) -> int:
        """How often a request lost its place in the batch."""
        return sum(request.num_preemptions for request in self.requests)

    @property
    def num_recomputed_tokens(self) -> int:
        """Tokens that were computed although they had been computed, or found cached, before.

        A request needs its prompt and all output tokens but the last computed once, less what it
        finds in the cache when it is first admitted.
        """
        needed = sum(
            r.prompt_tokens + r.output_tokens - 1 - r.num_cached_tokens
            for r in self.requests
            if r.output_tokens
        )
        return sum(step.num_tokens for step in self.steps) - needed

    @property
    def prefix_hit_rate(self) -> float:
        """Share of the prompt tokens that were found in the prefix cache; NaN if none was served.

        Over tokens, and only when a request is first admitted: one that was preempted and finds its
        own blocks again has won nothing.
        """
        served = [r for r in self.requests if not math.isnan(r.first_scheduled_time)]
        num_prompt_tokens = sum(r.prompt_tokens for r in served)
        if num_prompt_tokens == 0:
            return math.nan
        return sum(r.num_cached_tokens for r in served) / num_prompt_tokens

    def goodput(self, level: ServiceLevel) -> float:
        """Return the requests per second that meet a service level; 0.0 without any token."""
        if self.makespan == 0.0:
            return 0.0
        return goodput(level.is_met(self.ttft, self.tpot, self.e2e), self.makespan)

    def service_curves(
        self, prompt_weight: float = 1.0, output_weight: float = 2.0
    ) -> ServiceCurves:
        """Return how much service each client received over time; ``gap()`` is the unfairness."""
        return service_curves(
            self.token_log,
            [request.client_id for request in self.requests],
            [request.prompt_tokens for request in self.requests],
            prompt_weight,
            output_weight,
        )

    def summary(self) -> dict[str, float]:
        """Return the figures that describe the run: counts, seconds, and rates per second.

        Latencies appear as ``ttft_mean``, ``ttft_p50``, ``ttft_p90``, ``ttft_p99`` and
        ``ttft_max``, and likewise for ``tpot``, ``itl``, ``longest_gap``, ``e2e`` and
        ``queue_time``. What does not exist is NaN.

        ``num_in_system_mean``, ``num_running_mean`` and ``num_waiting_mean`` are averages over the
        whole time from the first arrival to the last token, idle time included: those of Little's
        law, so that arrivals per second × mean ``e2e`` is ``num_in_system_mean``, the sum of the
        two others and of ``num_swapped_mean``.

        ``slot_use`` is the share of places in the batch (``StepTable.places``) that computed
        something, averaged over iterations.
        """
        makespan, num_output = self.makespan, len(self.token_log.times)
        num_finished = sum(request.output_tokens > 0 for request in self.requests)
        kv_usage = self.steps.column("kv_usage") if len(self.steps) else np.array([math.nan])
        num_places = int(self.steps.places().sum())
        num_in_use = sum(step.num_requests for step in self.steps)
        figures: dict[str, float] = {
            "num_requests": len(self.requests),
            "num_finished": num_finished,
            "num_ignored": sum(
                request.status is RequestStatus.FINISHED_IGNORED for request in self.requests
            ),
            "makespan": makespan,
            "requests_per_second": num_finished / makespan if makespan else math.nan,
            "output_tokens_per_second": num_output / makespan if makespan else math.nan,
            "num_steps": len(self.steps),
            "num_preemptions": self.num_preemptions,
            "num_recomputed_tokens": self.num_recomputed_tokens,
            "prefix_hit_rate": self.prefix_hit_rate,
            "slot_use": num_in_use / num_places if num_places else math.nan,
            **self._means_over_time(),
            "kv_usage_max": float(kv_usage.max()),
        }
        for name in ("ttft", "tpot", "itl", "longest_gap", "e2e", "queue_time"):
            for statistic, value in summarize(getattr(self, name)).items():
                figures[f"{name}_{statistic}"] = value
        return figures

    def _means_over_time(self) -> dict[str, float]:
        """Return averages from the first arrival to the last token, in which time may be idle."""

        def mean(name: str) -> float:
            if self.makespan == 0.0:
                return math.nan
            return float(self.steps.column(name) @ self.steps.column("seconds")) / self.makespan

        present = float(np.nansum(self.e2e)) / self.makespan if self.makespan else math.nan
        running, swapped = mean("num_running"), mean("num_swapped")
        return {
            "num_in_system_mean": present,
            "num_running_mean": running,
            # The column is what was left in the queue by each plan. Who comes while an iteration
            # runs is not in it, but waits.
            "num_waiting_mean": present - running - swapped,
            "num_swapped_mean": swapped,
            "kv_usage_mean": mean("kv_usage"),
        }

    def to_chrome_trace(self, path: str | Path) -> None:
        """Write steps and requests for chrome://tracing or ui.perfetto.dev.

        Each request is a bar of three parts: waiting, prefill, decode.
        """
        write_chrome_trace(path, [*self.steps.chrome_events(), *self._request_events()])

    def _request_events(self) -> list[dict[str, Any]]:
        """Return the parts of each request's life as asynchronous trace events."""
        events: list[dict[str, Any]] = []
        for request, times in zip(self.requests, self.token_log, strict=True):
            if not times:
                continue
            moments = (
                ("waiting", request.arrival_time, request.first_scheduled_time),
                ("prefill", request.first_scheduled_time, times[0]),
                ("decode", times[0], times[-1]),
            )
            for name, start, end in moments:
                for phase, seconds in (("b", start), ("e", end)):
                    events.append(
                        {
                            "ph": phase,
                            "cat": "request",
                            "id": request.request_id,
                            "name": name,
                            "pid": 1,
                            "tid": 0,
                            "ts": seconds * 1e6,
                        }
                    )
        return events

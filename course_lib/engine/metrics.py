"""What an engine counts: plain numbers, from which a server or a dashboard makes what it shows."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from course_lib.engine.outputs import FinishReason, RequestMetrics

TTFT_BUCKETS = (0.001, 0.005, 0.01, 0.02, 0.04, 0.08, 0.1, 0.25, 0.5, 0.75, 1, 2.5, 5, 10, 30, 60)
"""Upper bounds for times to the first token, in seconds."""

TPOT_BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.5, 1, 2.5)
"""Upper bounds for times per output token, in seconds."""

E2E_BUCKETS = (0.01, 0.05, 0.1, 0.3, 0.5, 0.8, 1, 1.5, 2, 2.5, 5, 10, 15, 20, 30, 60, 120, 300)
"""Upper bounds for times from arrival to the end, in seconds."""


class Histogram:
    """How often values fell below some bounds, as Prometheus wants it.

    Args:
        bounds: Upper bounds, ascending; a value equal to a bound is below it.

    Attributes:
        bounds: Upper bounds.
        counts: Values in each bucket alone; one more than bounds, for those above the last.
        total: Sum of all values.

    >>> histogram = Histogram([1.0, 5.0])
    >>> for value in (0.5, 1.0, 2.0, 9.0):
    ...     histogram.observe(value)
    >>> histogram.counts, histogram.cumulative(), histogram.count, histogram.total
    ([2, 1, 1], [2, 3, 4], 4, 12.5)
    """

    def __init__(self, bounds: Sequence[float]) -> None:
        self.bounds = tuple(bounds)
        self.counts = [0] * (len(self.bounds) + 1)
        self.total = 0.0

    def observe(self, value: float) -> None:
        """Count a value."""
        self.counts[bisect_left(self.bounds, value)] += 1
        self.total += value

    @property
    def count(self) -> int:
        """How many values there were."""
        return sum(self.counts)

    def cumulative(self) -> list[int]:
        """Return how many values are at or below each bound, and last, how many there are."""
        sums, so_far = [], 0
        for count in self.counts:
            so_far += count
            sums.append(so_far)
        return sums


@dataclass
class EngineMetrics:
    """The state of an engine now, and what it has done since it started.

    Attributes:
        num_requests_running: Answers that are in the batch now.
        num_requests_waiting: Answers that wait for a place.
        num_requests_swapped: Answers whose blocks are on the CPU.
        kv_cache_usage: Share of the KV blocks in use, from 0.0 to 1.0.
        prefix_cache_queries: Tokens looked up in the prefix cache.
        prefix_cache_hits: Those of them that were found.
        prompt_tokens: Tokens of all prompts whose first answer has begun.
        generation_tokens: Tokens generated.
        num_preemptions: How often an answer lost its place.
        num_block_copies: Blocks copied because an answer was about to write into a shared one.
        num_steps: Steps of the engine.
        finished: Answers that ended, by ``finish_reason``.
        time_to_first_token: Seconds from a request's arrival to its first token.
        time_per_output_token: Seconds per token behind the first, one value per finished request.
        e2e_request_latency: Seconds from a request's arrival to its end.
    """

    num_requests_running: int = 0
    num_requests_waiting: int = 0
    num_requests_swapped: int = 0
    kv_cache_usage: float = 0.0
    prefix_cache_queries: int = 0
    prefix_cache_hits: int = 0
    prompt_tokens: int = 0
    generation_tokens: int = 0
    num_preemptions: int = 0
    num_block_copies: int = 0
    num_steps: int = 0
    finished: dict[FinishReason, int] = field(
        default_factory=lambda: {"stop": 0, "length": 0, "abort": 0}
    )
    time_to_first_token: Histogram = field(default_factory=lambda: Histogram(TTFT_BUCKETS))
    time_per_output_token: Histogram = field(default_factory=lambda: Histogram(TPOT_BUCKETS))
    e2e_request_latency: Histogram = field(default_factory=lambda: Histogram(E2E_BUCKETS))

    @property
    def prefix_cache_hit_rate(self) -> float:
        """Tokens found in the prefix cache over tokens looked up; 0.0 before the first lookup."""
        queries = self.prefix_cache_queries
        return self.prefix_cache_hits / queries if queries else 0.0

    def record_first_token(self, metrics: RequestMetrics, num_prompt_tokens: int) -> None:
        """Count a request whose first token is there."""
        self.prompt_tokens += num_prompt_tokens
        if metrics.time_to_first_token is not None:
            self.time_to_first_token.observe(metrics.time_to_first_token)

    def record_finished(self, metrics: RequestMetrics, output_lens: Sequence[int]) -> None:
        """Count a request all of whose answers are complete.

        Args:
            metrics: When what happened to it.
            output_lens: Tokens of each answer. They are generated side by side, so the longest one
                says how many steps there were.
        """
        if metrics.e2e_latency is None or metrics.time_to_first_token is None:
            return
        self.e2e_request_latency.observe(metrics.e2e_latency)
        num_steps = max(output_lens) - 1
        if num_steps > 0:
            seconds = metrics.e2e_latency - metrics.time_to_first_token
            self.time_per_output_token.observe(seconds / num_steps)

    def summary(self) -> Mapping[str, float]:
        """Return the plain numbers by name, without the histograms."""
        numbers = {
            name: value for name, value in vars(self).items() if isinstance(value, (int, float))
        }
        finished = {f"finished_{reason}": count for reason, count in self.finished.items()}
        return numbers | finished | {"prefix_cache_hit_rate": self.prefix_cache_hit_rate}

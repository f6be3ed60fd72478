"""What figures of a simulation are called where people read them, and in which unit."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Heading:
    """How a figure is shown.

    Attributes:
        title: What it is, in words.
        label: The same for a narrow column or an axis.
        unit: What it is shown in; empty for a count.
        factor: What a value of ``SimulationResult.summary()`` is multiplied by for that.
    """

    title: str
    label: str
    unit: str = ""
    factor: float = 1.0

    @property
    def labelled(self) -> str:
        """The label with its unit.

        >>> heading("kv_usage_mean").labelled, heading("num_preemptions").labelled
        ('KV use, mean (%)', 'preemptions')
        """
        return f"{self.label} ({self.unit})" if self.unit else self.label


_LATENCIES = {
    "ttft": Heading("Time to first token", "TTFT", "s"),
    "tpot": Heading("Time per output token", "TPOT", "ms", 1e3),
    "itl": Heading("Gap between tokens", "ITL", "ms", 1e3),
    "longest_gap": Heading("Longest gap of a request", "longest gap", "s"),
    "e2e": Heading("End-to-end latency", "end to end", "s"),
    "queue_time": Heading("Time in the queue", "waiting", "s"),
}

_STATISTICS = {
    "mean": "mean",
    "p50": "median",
    "p90": "90th percentile",
    "p99": "99th percentile",
    "max": "maximum",
}

_HEADINGS = {
    "num_requests": Heading("Requests", "requests"),
    "num_finished": Heading("Requests that were served", "served"),
    "num_ignored": Heading("Requests too long to be served", "too long"),
    "makespan": Heading("From the first arrival to the last token", "makespan", "s"),
    "requests_per_second": Heading("Throughput", "throughput", "requests/s"),
    "output_tokens_per_second": Heading("Output throughput", "output", "tokens/s"),
    "goodput": Heading("Goodput", "goodput", "requests/s"),
    "num_steps": Heading("Iterations", "iterations"),
    "num_preemptions": Heading("Preemptions", "preemptions"),
    "num_recomputed_tokens": Heading("Tokens computed once more", "recomputed", "tokens"),
    "prefix_hit_rate": Heading("Prompt tokens found in the cache", "prefix hits", "%", 100.0),
    "slot_use": Heading("Seats of the batch in use", "seats in use", "%", 100.0),
    "num_in_system_mean": Heading("Requests in the system, mean", "in the system, mean"),
    "num_running_mean": Heading("Requests that run, mean", "running, mean"),
    "num_waiting_mean": Heading("Requests that wait, mean", "waiting, mean"),
    "num_swapped_mean": Heading("Requests swapped out, mean", "swapped out, mean"),
    "kv_usage_mean": Heading("KV cache in use, mean", "KV use, mean", "%", 100.0),
    "kv_usage_max": Heading("KV cache in use, maximum", "KV use, max", "%", 100.0),
    **{
        f"{name}_{statistic}": Heading(
            f"{latency.title}, {words}",
            f"{latency.label}, {statistic}",
            latency.unit,
            latency.factor,
        )
        for name, latency in _LATENCIES.items()
        for statistic, words in _STATISTICS.items()
    },
}

_PARAMETERS = {
    "rate": Heading("Arrival rate", "Arrival rate", "requests/s"),
    "blocks": Heading("Blocks of the KV cache", "KV cache", "blocks"),
    "block_size": Heading("Block size", "Block size", "tokens"),
    "max_num_seqs": Heading("Most requests in a batch", "max_num_seqs", "requests"),
    "max_num_batched_tokens": Heading("Token budget", "Token budget", "tokens"),
    "long_prefill_token_threshold": Heading(
        "Most tokens of a prompt in an iteration", "Prompt chunk", "tokens"
    ),
    "watermark": Heading("Watermark", "Watermark"),
    "num_cpu_blocks": Heading("Blocks to swap to", "CPU blocks", "blocks"),
    "prompt_tokens": Heading("Mean prompt", "Mean prompt", "tokens"),
    "output_tokens": Heading("Mean output", "Mean output", "tokens"),
    "cv": Heading("Variation of the gaps between arrivals", "Coefficient of variation"),
    "burst_seconds": Heading("Mean length of a burst", "Mean burst", "s"),
    "clients": Heading("Clients", "Clients"),
    "think_seconds": Heading("Mean time that a client thinks", "Mean think time", "s"),
    "slo_ttft": Heading("Longest good TTFT", "Longest good TTFT", "s"),
    "slo_tpot": Heading("Longest good TPOT", "Longest good TPOT", "s"),
    "max_seconds": Heading("Where the clock stops", "Clock stops at", "s"),
}


def heading(figure: str) -> Heading:
    """Return how a figure of a simulation is shown.

    Args:
        figure: Its name in ``SimulationResult.summary()``, or "goodput".

    Raises:
        KeyError: There is no such figure.

    >>> heading("ttft_p99").title, heading("ttft_p99").labelled
    ('Time to first token, 99th percentile', 'TTFT, p99 (s)')
    """
    return _HEADINGS[figure]


def parameter_heading(name: str) -> Heading:
    """Return how a parameter of a set-up is shown; one without a unit by its name in words.

    Args:
        name: Name of a field of ``Setup``.

    >>> parameter_heading("rate").labelled, parameter_heading("preemption_mode").title
    ('Arrival rate (requests/s)', 'Preemption mode')
    """
    words = name.replace("_", " ").capitalize()
    return _PARAMETERS.get(name, Heading(words, words))

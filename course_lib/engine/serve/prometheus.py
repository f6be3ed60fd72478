"""The engine's figures for Prometheus, under vLLM's names, so that its dashboards fit."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from prometheus_client import CollectorRegistry
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    Metric,
)
from prometheus_client.registry import Collector

if TYPE_CHECKING:
    from course_lib.engine.engine import LLM
    from course_lib.engine.metrics import Histogram

GAUGES = {
    "num_requests_running": "Answers that are in the batch.",
    "num_requests_waiting": "Answers that wait for a place.",
    "num_requests_swapped": "Answers whose blocks are on the CPU.",
    "kv_cache_usage": "Share of the KV blocks that is in use, from 0 to 1.",
}
"""What may rise and fall: the fields of ``EngineMetrics``, and what they say."""

COUNTERS = {
    "prefix_cache_queries": "Tokens looked up in the prefix cache.",
    "prefix_cache_hits": "Tokens found in the prefix cache.",
    "prompt_tokens": "Tokens of prompts.",
    "generation_tokens": "Tokens generated.",
    "num_preemptions": "How often an answer lost its place.",
    "num_block_copies": "Blocks copied on write.",
    "num_steps": "Steps of the engine.",
}
"""What only rises."""

HISTOGRAMS = {
    "time_to_first_token": "Seconds from arrival to the first token.",
    "time_per_output_token": "Seconds per token behind the first, one value per request.",
    "e2e_request_latency": "Seconds from arrival to the end.",
}
"""What is spread: all in seconds."""

VLLM_NAMES = {
    "kv_cache_usage": "kv_cache_usage_perc",  # a share from 0 to 1, in spite of its name
    "time_to_first_token": "time_to_first_token_seconds",
    "time_per_output_token": "request_time_per_output_token_seconds",
    "e2e_request_latency": "e2e_request_latency_seconds",
}
"""vLLM's name where it is not that of the field."""


class EngineCollector(Collector):
    """Reads the figures of an engine each time that Prometheus asks.

    Args:
        llm: The engine. It must stand still while it is read.
        model_name: The value of the label ``model_name``.
    """

    def __init__(self, llm: LLM, model_name: str) -> None:
        self._llm = llm
        self._label_values = [model_name]

    def collect(self) -> Iterator[Metric]:
        """Yield every figure."""
        metrics = self._llm.metrics
        labels = ["model_name"]
        for field, text in GAUGES.items():
            gauge = GaugeMetricFamily(_name(field), text, labels=labels)
            gauge.add_metric(self._label_values, getattr(metrics, field))
            yield gauge
        for field, text in COUNTERS.items():
            counter = CounterMetricFamily(_name(field), text, labels=labels)
            counter.add_metric(self._label_values, getattr(metrics, field))
            yield counter
        success = CounterMetricFamily(
            _name("request_success"), "Answers that ended.", labels=[*labels, "finished_reason"]
        )
        for reason, count in metrics.finished.items():
            success.add_metric([*self._label_values, reason], count)
        yield success
        for field, text in HISTOGRAMS.items():
            histogram: Histogram = getattr(metrics, field)
            family = HistogramMetricFamily(_name(field), text, labels=labels)
            family.add_metric(self._label_values, _buckets(histogram), histogram.total)
            yield family


def engine_registry(llm: LLM, model_name: str) -> CollectorRegistry:
    """Return a registry with the figures of one engine, and nothing of this process besides."""
    registry = CollectorRegistry()
    registry.register(EngineCollector(llm, model_name))
    return registry


def _name(field: str) -> str:
    """Return the name of a figure at vLLM."""
    return f"vllm:{VLLM_NAMES.get(field, field)}"


def _buckets(histogram: Histogram) -> list[tuple[str, float]]:
    """Return the upper bounds, the last one infinite, and how many values are at or below each."""
    bounds = [str(float(bound)) for bound in histogram.bounds]
    return list(zip([*bounds, "+Inf"], map(float, histogram.cumulative()), strict=True))

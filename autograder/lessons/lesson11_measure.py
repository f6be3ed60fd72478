"""Lesson 11: its measurement. Who gains from a smaller budget, and who pays."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache

import numpy as np

from autograder.checks.compare import within
from autograder.checks.finding import Misconception
from course_lib.scheduling import SchedulerConfig
from course_lib.simulation.cost_model import RooflineCostModel, token_budget
from course_lib.simulation.result import SimulationResult
from course_lib.simulation.simulator import simulate
from course_lib.simulation.workload import Workload, load_azure
from course_lib.specs import GPUS, MODELS

COUNT = 1000
NUM_BLOCKS = 30_024
NUM_SEQS = 256
WHOLE = 1_000_000
"""A budget into which everything fits."""
PROMISED = {"target_seconds": 0.05, "num_decodes": 64, "context": 1500, "cached": 8000}
"""The batch for which the lesson promises a gap."""


@cache
def cost_model() -> RooflineCostModel:
    """Return the lesson's GPU and model."""
    return RooflineCostModel(MODELS["llama-3.1-8b"], GPUS["a100-80gb"])


@cache
def conversations() -> Workload:
    """Return the lesson's requests."""
    return load_azure("conversation")[:COUNT]


@cache
def served(budget: int) -> SimulationResult:
    """Return the run under a budget."""
    config = SchedulerConfig(max_num_seqs=NUM_SEQS, max_num_batched_tokens=budget)
    return simulate(conversations(), config, cost_model(), NUM_BLOCKS)


def promised_budget() -> int:
    """Return the budget that keeps the lesson's promise."""
    return token_budget(cost_model(), **PROMISED)  # type: ignore[arg-type]


def gap_p99(budget: int) -> float:
    """Return the 99th percentile of the requests' longest gaps."""
    return float(np.quantile(served(budget).longest_gap, 0.99))


@cache
def measured() -> dict[str, float]:
    """Return what is asked, in seconds."""
    return {
        "gap whole": gap_p99(WHOLE),
        "gap 512": gap_p99(512),
        "gap promised": gap_p99(promised_budget()),
        "ttft whole": float(served(WHOLE).ttft.mean()),
        "ttft 512": float(served(512).ttft.mean()),
        "ttft 128": float(served(128).ttft.mean()),
    }


def _with_gaps(gap: Callable[[SimulationResult], float]) -> dict[str, float]:
    """Return the values with other gaps."""
    budgets = {"gap whole": WHOLE, "gap 512": 512, "gap promised": promised_budget()}
    return {**measured(), **{name: float(gap(served(each))) for name, each in budgets.items()}}


@cache
def all_gaps() -> dict[str, float]:
    """Return the values with the p99 over all gaps in the place of the longest ones."""
    return _with_gaps(lambda result: np.quantile(result.itl, 0.99))


@cache
def rounded() -> dict[str, float]:
    """Return the values to the millisecond, as a table shows them."""
    return {name: round(value, 3) for name, value in measured().items()}


@cache
def of_one_percent() -> dict[str, float]:
    """Return the values with 0.99 taken for per cents."""
    return _with_gaps(lambda result: np.percentile(result.longest_gap, 0.99))


@cache
def of_an_empty_cache() -> dict[str, float]:
    """Return the values with the promise for the first chunk."""
    budget = token_budget(cost_model(), **{**PROMISED, "cached": 0})  # type: ignore[arg-type]
    return {**measured(), "gap promised": gap_p99(budget)}


@cache
def medians() -> dict[str, float]:
    """Return the values with the median TTFT."""
    medians = {
        name: float(np.median(served(budget).ttft))
        for name, budget in (("ttft whole", WHOLE), ("ttft 512", 512), ("ttft 128", 128))
    }
    return {**measured(), **medians}


@cache
def in_milliseconds() -> dict[str, float]:
    """Return the values in milliseconds."""
    return {name: 1000 * value for name, value in measured().items()}


close_enough = within(rel=1e-4)

MEASURED = (
    Misconception(
        "all gaps",
        "Most gaps are short, whatever the budget. Asked for is the longest gap of each request, "
        "and the p99 of those.",
        all_gaps,
    ),
    Misconception(
        "0.99 per cent",
        "np.percentile counts in per cents: the p99 is percentile 99, or quantile 0.99.",
        of_one_percent,
    ),
    Misconception(
        "the promise for an empty cache",
        "The chunk is late: 8,000 tokens of its prompt are cached.",
        of_an_empty_cache,
    ),
    Misconception("rounded", "Write the values as they come, with all their digits.", rounded),
    Misconception("the median TTFT", "Asked for is the mean TTFT.", medians),
    Misconception("milliseconds", "Write seconds.", in_milliseconds),
)

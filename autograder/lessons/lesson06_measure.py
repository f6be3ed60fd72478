"""Lesson 6: its measurement. What swapping, a watermark and another victim change for users."""

from __future__ import annotations

from functools import cache
from typing import Any

from autograder.checks.compare import within
from autograder.checks.finding import Misconception
from course_lib.scheduling.scheduler import SchedulerConfig
from course_lib.simulation.cost_model import RooflineCostModel
from course_lib.simulation.result import SimulationResult
from course_lib.simulation.simulator import simulate
from course_lib.simulation.workload import load_azure
from course_lib.specs import GPUS, MODELS

NUM_REQUESTS = 500
NUM_BLOCKS = 1500

SETUPS: dict[str, dict[str, Any]] = {
    "recompute": {},
    "swap at 25 GB/s": {"preemption_mode": "swap", "num_cpu_blocks": 500},
    "swap at 3.1 GB/s": {"preemption_mode": "swap", "num_cpu_blocks": 500},
    "biggest victim": {"victim_policy": "frees_most_blocks"},
    "watermark 2%": {"watermark": 0.02},
    "watermark 40%": {"watermark": 0.4},
}
BANDWIDTHS = {"swap at 3.1 GB/s": 3.1e9}


@cache
def result_of(name: str) -> SimulationResult:
    """Return what the lesson's run of this name measured."""
    model = RooflineCostModel(
        MODELS["llama-3.1-8b"],
        GPUS["a100-80gb"],
        pcie_bandwidth=BANDWIDTHS.get(name, 25e9),
    )
    config = SchedulerConfig(max_num_seqs=256, **SETUPS[name])
    return simulate(load_azure("conversation")[:NUM_REQUESTS], config, model, NUM_BLOCKS)


def _ttft(name: str) -> float:
    return float(result_of(name).ttft.mean())


def _recomputed_share(name: str) -> float:
    result = result_of(name)
    return result.num_recomputed_tokens / float(result.steps.column("num_tokens").sum())


@cache
def measured() -> dict[str, float]:
    """Return what the measurement asks for."""
    slower = {name: _ttft(name) / _ttft("recompute") for name in SETUPS if name != "recompute"}
    return {
        **slower,
        "recomputed": _recomputed_share("recompute"),
        "recomputed, biggest": _recomputed_share("biggest victim"),
    }


def close_enough(expected: Any, got: Any) -> str | None:
    """Agree on ratios up to a ten thousandth, of each or of 1: rounding is allowed."""
    return within(rel=1e-4, absolute=1e-4)(expected, got)


@cache
def upside_down() -> dict[str, float]:
    """Return the ratios the other way round."""
    right = measured()
    return {name: value if "rec" in name else 1 / value for name, value in right.items()}


@cache
def of_needed_tokens() -> dict[str, float]:
    """Return the recomputed tokens as a share of those that would have been needed."""

    def share(name: str) -> float:
        result = result_of(name)
        again = result.num_recomputed_tokens
        return again / (float(result.steps.column("num_tokens").sum()) - again)

    return {
        **measured(),
        "recomputed": share("recompute"),
        "recomputed, biggest": share("biggest victim"),
    }


@cache
def in_seconds() -> dict[str, float]:
    """Return the mean TTFT in seconds in the place of ratios."""
    right = measured()
    return {name: right[name] if "rec" in name else _ttft(name) for name in right}


@cache
def in_per_cent() -> dict[str, float]:
    """Return the shares as percentages."""
    right = measured()
    return {name: 100 * right[name] if "rec" in name else right[name] for name in right}


@cache
def mean_of_ratios() -> dict[str, float]:
    """Return the mean over the requests of what each waits, as often as it did before."""
    before = result_of("recompute").ttft
    ratios = {n: float((result_of(n).ttft / before).mean()) for n in SETUPS if n != "recompute"}
    return {**measured(), **ratios}


MEASURED = (
    Misconception(
        "the other way round",
        "Above the line stands the set-up that is asked for, below it recomputing.",
        upside_down,
    ),
    Misconception(
        "of the tokens that were needed",
        "Asked for is the share of all tokens that were computed, those computed again included.",
        of_needed_tokens,
    ),
    Misconception(
        "in seconds",
        "A ratio has no unit: divide by the mean TTFT of recomputing.",
        in_seconds,
    ),
    Misconception(
        "in per cent",
        "A share lies between 0 and 1: leave the factor 100 out.",
        in_per_cent,
    ),
    Misconception(
        "the mean of ratios",
        "Asked for is one mean over the other. A mean of ratios is ruled by requests that hardly "
        "waited before.",
        mean_of_ratios,
    ),
)

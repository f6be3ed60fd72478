"""Lesson 10: its measurement. What two formulas say of one engine, and what it does."""

from __future__ import annotations

from functools import cache

from autograder.checks.compare import within
from autograder.checks.finding import Misconception
from course_lib.queueing.models import MG1
from course_lib.scheduling import SchedulerConfig
from course_lib.simulation.cost_model import RooflineCostModel
from course_lib.simulation.demand import service_demand
from course_lib.simulation.result import SimulationResult
from course_lib.simulation.simulator import simulate
from course_lib.simulation.workload import Workload, at_times, gamma_arrivals, load_azure
from course_lib.specs import GPUS, MODELS

COUNT = 600
NUM_BLOCKS = 30_024
QUIET, BUSY = 0.25, 4.0


@cache
def cost_model() -> RooflineCostModel:
    """Return what tells how long an iteration takes: Llama-3.1-8B on an A100."""
    return RooflineCostModel(MODELS["llama-3.1-8b"], GPUS["a100-80gb"])


@cache
def conversations() -> Workload:
    """Return the requests of the measurement."""
    return load_azure()[:COUNT]


@cache
def served(rate: float) -> SimulationResult:
    """Serve Poisson arrivals, so many per second, with the engine."""
    workload = at_times(conversations(), gamma_arrivals(rate, 1.0, COUNT))
    return simulate(workload, SchedulerConfig(), cost_model(), NUM_BLOCKS)


def mean_response(rate: float) -> float:
    """Return the mean response of the engine to Poisson arrivals, in seconds."""
    return float(served(rate).e2e.mean())


@cache
def measured() -> dict[str, float]:
    """Return what the measurement asks for."""
    alone, own = service_demand(conversations(), cost_model())
    mean = float(alone.mean())
    one_by_one = MG1(QUIET, mean, float(alone.var()) / mean**2)
    return {
        "S": mean,
        "D": float(own.mean()),
        "M/G/1 at 0.25": one_by_one.mean_response,
        "engine at 0.25": mean_response(QUIET),
        "shared at 4": mean / (1 - BUSY * float(own.mean())),
        "engine at 4": mean_response(BUSY),
    }


@cache
def exchanged() -> dict[str, float]:
    """Return the values with S and D exchanged."""
    right = measured()
    return {**right, "S": right["D"], "D": right["S"]}


@cache
def wait_alone() -> dict[str, float]:
    """Return the values with the wait of M/G/1."""
    right = measured()
    return {**right, "M/G/1 at 0.25": right["M/G/1 at 0.25"] - right["S"]}


@cache
def cv_for_scv() -> dict[str, float]:
    """Return the values with an M/G/1 that was given the CV."""
    alone = service_demand(conversations(), cost_model()).alone
    mean = float(alone.mean())
    wrong = MG1(QUIET, mean, float(alone.std()) / mean)
    return {**measured(), "M/G/1 at 0.25": wrong.mean_response}


@cache
def own_work_alone() -> dict[str, float]:
    """Return the values with D in the numerator."""
    right = measured()
    return {**right, "shared at 4": right["D"] / (1 - BUSY * right["D"])}


@cache
def in_milliseconds() -> dict[str, float]:
    """Return the values in milliseconds."""
    return {name: 1000 * value for name, value in measured().items()}


@cache
def variance_for_scv() -> dict[str, float]:
    """Return the values with an M/G/1 that was given the variance."""
    alone = service_demand(conversations(), cost_model()).alone
    wrong = MG1(QUIET, float(alone.mean()), float(alone.var()))
    return {**measured(), "M/G/1 at 0.25": wrong.mean_response}


@cache
def without_the_rate() -> dict[str, float]:
    """Return the values with D in place of λD."""
    right = measured()
    return {**right, "shared at 4": right["S"] / (1 - right["D"])}


@cache
def first_tokens() -> dict[str, float]:
    """Return the values with the engine's TTFT."""
    return {**first_tokens_at_4(), "engine at 0.25": float(served(QUIET).ttft.mean())}


@cache
def first_tokens_at_4() -> dict[str, float]:
    """Return the values with the engine's TTFT at the higher rate alone."""
    return {**measured(), "engine at 4": float(served(BUSY).ttft.mean())}


# Whether a variance is divided by n or by n − 1 moves a value by 2e-4.
close_enough = within(rel=5e-4)

MEASURED = (
    Misconception(
        "S and D exchanged",
        "S is what a request takes alone, D the smaller part of it that nobody shares.",
        exchanged,
    ),
    Misconception("wait for response", "Asked for is the response: wait and service.", wait_alone),
    Misconception(
        "CV for SCV", "`MG1` takes the squared CV: variance over the mean squared.", cv_for_scv
    ),
    Misconception(
        "own work in the numerator",
        "Sharing stretches all of S, by 1/(1 − λD).",
        own_work_alone,
    ),
    Misconception(
        "variance for SCV",
        "`MG1` takes the squared CV: the variance is divided by the mean squared.",
        variance_for_scv,
    ),
    Misconception(
        "without the rate",
        "The load is λD, the own work of all that come in a second: 4 D at 4 per second.",
        without_the_rate,
    ),
    Misconception(
        "TTFT for response",
        "A response lasts until the last token: `e2e`, not `ttft`.",
        first_tokens,
    ),
    Misconception(
        "TTFT for response at 4",
        "A response lasts until the last token: `e2e`, not `ttft`.",
        first_tokens_at_4,
    ),
    Misconception("milliseconds", "Write seconds.", in_milliseconds),
)

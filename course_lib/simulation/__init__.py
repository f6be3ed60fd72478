"""Serving on a virtual clock: what arrives, what it costs, and what its users notice.

Names are loaded when they are first used: who only asks for a workload does not wait for the rest.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from course_lib.simulation.cost_model import (
        ConstantCostModel,
        CostModel,
        FunctionCostModel,
        IterationTime,
        RooflineCostModel,
        token_budget,
    )
    from course_lib.simulation.demand import ServiceDemand, service_demand
    from course_lib.simulation.measured import (
        ConfiguredRun,
        MeasuredRun,
        load_vllm_requests,
        load_vllm_run,
        synthetic_vllm_requests,
    )
    from course_lib.simulation.metrics import (
        ServiceCurves,
        ServiceLevel,
        TokenLog,
        end_to_end_latency,
        goodput,
        inter_token_latencies,
        longest_gaps,
        service_curves,
        slowdown,
        summarize,
        time_per_output_token,
        time_to_first_token,
    )
    from course_lib.simulation.replicas import simulate_replicas, split_among_replicas
    from course_lib.simulation.result import RequestOutcome, SimulationResult
    from course_lib.simulation.simulation_parts import SimulationParts
    from course_lib.simulation.simulator import SimulationError, Simulator, simulate
    from course_lib.simulation.tournament import Tournament, play_tournament
    from course_lib.simulation.workload import (
        MOONCAKE_BLOCK_SIZE,
        ClosedLoop,
        TraceRequest,
        Workload,
        gamma_arrivals,
        geometric_lengths,
        labelled,
        load_azure,
        load_mooncake,
        lognormal_lengths,
        lognormal_requests,
        on_off_arrivals,
        poisson_arrivals,
        synthetic_azure,
        synthetic_mooncake,
        traces_dir,
    )
    from course_lib.steps import IterationWork, Step, StepTable

_MODULES = (
    "course_lib.steps",
    "course_lib.simulation.workload",
    "course_lib.simulation.metrics",
    "course_lib.simulation.cost_model",
    "course_lib.simulation.demand",
    "course_lib.simulation.measured",
    "course_lib.simulation.result",
    "course_lib.simulation.simulation_parts",
    "course_lib.simulation.simulator",
    "course_lib.simulation.replicas",
    "course_lib.simulation.tournament",
)
"""Where the names below are defined: a module comes after those that it imports."""

__all__ = [
    "MOONCAKE_BLOCK_SIZE",
    "ClosedLoop",
    "ConfiguredRun",
    "ConstantCostModel",
    "CostModel",
    "FunctionCostModel",
    "IterationTime",
    "IterationWork",
    "MeasuredRun",
    "RequestOutcome",
    "RooflineCostModel",
    "ServiceCurves",
    "ServiceDemand",
    "ServiceLevel",
    "SimulationError",
    "SimulationParts",
    "SimulationResult",
    "Simulator",
    "Step",
    "StepTable",
    "TokenLog",
    "Tournament",
    "TraceRequest",
    "Workload",
    "end_to_end_latency",
    "gamma_arrivals",
    "geometric_lengths",
    "goodput",
    "inter_token_latencies",
    "labelled",
    "load_azure",
    "load_mooncake",
    "load_vllm_requests",
    "load_vllm_run",
    "lognormal_lengths",
    "lognormal_requests",
    "longest_gaps",
    "on_off_arrivals",
    "play_tournament",
    "poisson_arrivals",
    "service_curves",
    "service_demand",
    "simulate",
    "simulate_replicas",
    "slowdown",
    "split_among_replicas",
    "summarize",
    "synthetic_azure",
    "synthetic_mooncake",
    "synthetic_vllm_requests",
    "time_per_output_token",
    "time_to_first_token",
    "token_budget",
    "traces_dir",
]


def __getattr__(name: str) -> Any:
    if name in __all__:
        for module_name in _MODULES:
            module = importlib.import_module(module_name)
            if hasattr(module, name):
                return getattr(module, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")

"""How fast the simulator is: the cases of ``course bench simulator``.

An operation is a *request-step*: one request that computes something in one iteration. Cost is
linear in them, so their rate tells how long a trace of any length takes.
"""

from __future__ import annotations

import time
from functools import partial

from autograder.bench.suite import Case, OnStep, Report, Suite, run_suite
from course_lib.kv_cache import num_kv_blocks
from course_lib.scheduling import SchedulerConfig
from course_lib.simulation import (
    ConstantCostModel,
    CostModel,
    RooflineCostModel,
    TraceRequest,
    Workload,
    load_azure,
    load_vllm_run,
    simulate,
)
from course_lib.specs import GPUS, MODELS

ROUNDS = 3
STEPS_OF_STEADY_DECODE = 200
TRACE_REQUESTS = 1000


def run_simulator_suite(on_step: OnStep = lambda done, total: None, rounds: int = ROUNDS) -> Report:
    """Measure the simulator, as ``simulator_suite`` describes it.

    Args:
        on_step: Called with the steps done and the steps in all.
        rounds: How often each case is measured; the median counts.
    """
    return run_suite("simulator", simulator_suite(), on_step, rounds)


def simulator_suite() -> Suite:
    """Return the cases of the simulator, in request-steps per second of CPU time.

    - decode: a batch of one size that only decodes, scheduling and bookkeeping included;
    - Azure: the first requests of the conversation trace, or what stands in for it;
    - measured run: 300 requests under memory pressure, with and without a prefix cache, where the
      traces are at hand.
    """
    model, gpu = MODELS["llama-3.1-8b"], GPUS["a100-80gb"]
    cases = [
        Case(
            f"decode: {num_seqs:5,} running",
            {"course": partial(_steady_decode, num_seqs)},
        )
        for num_seqs in (64, 256, 1024)
    ]
    azure = load_azure()[:TRACE_REQUESTS]
    on_a100 = partial(
        _request_steps_per_second,
        azure,
        SchedulerConfig(),
        RooflineCostModel(model, gpu),
        num_kv_blocks(model, gpu),
        False,
    )
    cases.append(Case(f"{azure.name}, {len(azure):,} requests", {"course": on_a100}))
    try:
        run = load_vllm_run()
    except FileNotFoundError as error:
        return Suite(cases, (f"the measured run is left out ({error})",))
    for enable_caching in (False, True):
        again = partial(
            _request_steps_per_second,
            run,
            run.scheduler_config,
            RooflineCostModel(run.model, run.gpu),
            run.num_blocks,
            enable_caching,
        )
        caching = "on" if enable_caching else "off"
        cases.append(Case(f"measured run, caching {caching}", {"course": again}))
    return Suite(cases)


def _steady_decode(num_seqs: int) -> float:
    """Measure a batch that decodes from beginning to end."""
    requests = [TraceRequest(0.0, 1, STEPS_OF_STEADY_DECODE)] * num_seqs
    workload = Workload("decode", "Synthetic", is_synthetic=True, requests=tuple(requests))
    config = SchedulerConfig(max_num_seqs=num_seqs, max_num_batched_tokens=num_seqs)
    blocks = num_seqs * (STEPS_OF_STEADY_DECODE // 16 + 1) + 1
    return _request_steps_per_second(workload, config, ConstantCostModel(), blocks, False)


def _request_steps_per_second(
    workload: Workload,
    config: SchedulerConfig,
    cost_model: CostModel,
    num_blocks: int,
    enable_caching: bool,
) -> float:
    """Simulate a workload; return request-steps per second of CPU time."""
    start = time.process_time()
    result = simulate(workload, config, cost_model, num_blocks, enable_caching=enable_caching)
    seconds = time.process_time() - start
    return sum(step.num_requests for step in result.steps) / seconds

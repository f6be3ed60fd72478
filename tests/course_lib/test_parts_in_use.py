"""Every part of the catalogue is used: each is replaced by one that counts its calls.

By an engine, by a simulation, by a figure, or by the library function that builds on it. Triton
kernels run where Triton does: ``engine/test_operations_in_engine.py`` counts those.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from functools import cache, partial
from types import SimpleNamespace
from typing import Any

import pytest

from course_lib import parts, scheduling
from course_lib.attention.backends.own_operations import PYTORCH_PARTS, TRITON_PARTS
from course_lib.engine import LLM, EngineParts, SamplingParams
from course_lib.engine.engine_parts import ENGINE_PARTS
from course_lib.kv_cache import (
    BlockPool,
    FirstFitAllocator,
    find_violations,
    replay_contiguous,
    reserve_oracle,
)
from course_lib.kv_cache.block_table import CacheLayout
from course_lib.kv_cache.fragmentation import overhead_bytes
from course_lib.mounting import function_of, mount
from course_lib.queueing import MG1, MM1, MMc, servers_for_wait
from course_lib.rewiring import rewire
from course_lib.scheduling import POLICIES, Request, SchedulerConfig, SJFRequestQueue
from course_lib.simulation import (
    RooflineCostModel,
    SimulationParts,
    poisson_arrivals,
    simulate,
)
from course_lib.simulation.setup import Setup, load_trace, run
from course_lib.simulation.simulation_parts import SIMULATION_PARTS
from course_lib.specs import GPUS, MODELS
from course_lib.viz import gpu_memory_scene
from course_lib.viz.reservations import slots_scene

Run = Callable[[dict[str, Any]], Any]
"""Runs something on these parts, and returns what came of it."""

PLANNED_BY_POLICY = {
    queue.__name__: policy for policy, queue in POLICIES.items() if isinstance(queue, type)
}


def counting(name: str, calls: list[str]) -> Any:
    """Return the library's own part, which writes down each of its calls."""
    owner, _, method = name.partition(".")
    reference = parts.reference(owner)
    if isinstance(reference, type):
        method = method or "__init__"
        member = inherited(reference, method)

        def counted(*arguments: Any, **keywords: Any) -> Any:
            calls.append(name)
            return member(*arguments, **keywords)

        return mount(reference, {method: counted})

    def function(*arguments: Any, **keywords: Any) -> Any:
        calls.append(name)
        return reference(*arguments, **keywords)

    return function


def inherited(owner: type, method: str) -> Any:
    """Return the function behind a method that a class has, be it from an ancestor."""
    definer = next(each for each in owner.__mro__ if method in vars(each))
    return object.__init__ if definer is object else function_of(definer, method)


def parts_of(names: tuple[str, ...]) -> list[str]:
    """Return these parts, those that are built method by method as their methods."""
    return [
        name
        for name in parts.part_names()
        if name.partition(".")[0] in names
        and ("." in name or not parts.PARTS[name].methods)
        and name not in TRITON_PARTS
    ]


# An engine

PROMPTS = [[*range(40, 57), *range(70 + index, 80 + index)] for index in range(5)]
PARAMS = SamplingParams(n=2, temperature=0.0, max_tokens=8, ignore_eos=True)
SMALL = {"num_blocks": 30, "block_size": 4, "max_num_batched_tokens": 25}
ENGINE_OPTIONS: dict[str, dict[str, Any]] = {
    "kv_bytes_per_token": {"num_blocks": None},
    "SwapSpace": {"preemption_mode": "swap", "num_cpu_blocks": 30},
    "num_blocks_freed": {"victim_policy": "frees_most_blocks"},
    "least_important": {"policy": "priority"},
    "find_leaks": {"debug": True},
}


def engine(options: dict[str, Any], own: dict[str, Any]) -> Any:
    llm = LLM("course-tiny", parts=EngineParts.of(own), **SMALL | options)
    outputs = llm.generate(PROMPTS, PARAMS)
    llm.add_request("aborted", PROMPTS[0], PARAMS)
    llm.step()
    llm.abort_request("aborted")
    return [(each.token_ids, each.text) for output in outputs for each in output.outputs]


def engine_options(name: str) -> dict[str, Any]:
    owner = name.partition(".")[0]
    policy = {"policy": PLANNED_BY_POLICY[owner]} if owner in PLANNED_BY_POLICY else {}
    return policy | ENGINE_OPTIONS.get(owner, {})


@cache
def answers_of_the_library(options: tuple[tuple[str, Any], ...]) -> Any:
    return engine(dict(options), {})


@pytest.mark.parametrize("name", parts_of(ENGINE_PARTS))
def test_an_engine_calls_it(name: str) -> None:
    calls: list[str] = []
    options = engine_options(name)
    own = {name.partition(".")[0]: counting(name, calls)}
    assert engine(options, own) == answers_of_the_library(tuple(options.items()))
    assert set(calls) == {name}


# A simulation

REQUESTS = [
    Request(
        str(index), [*range(24), *range(100 + index, 120 + index)], 20, arrival_time=0.01 * index
    )
    for index in range(8)
]
VARIANTS: dict[str, str] = {
    "CacheAwareRequestQueue": "CacheAwareScheduler",
}
"""Which scheduler a part belongs to that is none itself."""

NOT_SIMULATED = {
    "KVCacheManager.fork": "a simulated request has one answer",
    "KVCacheManager.replace_shared": "only forks share what is written into",
    "Scheduler.finish_requests": "a simulated request runs to its end",
}
SIMULATION_OPTIONS: dict[str, dict[str, Any]] = {
    "SwapSpace": {"preemption_mode": "swap", "num_cpu_blocks": 30},
    "num_blocks_freed": {"victim_policy": "frees_most_blocks"},
    "least_important": {"victim_policy": "least_important"},
}


def simulation(name: str, own: dict[str, Any]) -> Any:
    owner = name.partition(".")[0]
    scheduler: Any = getattr(scheduling, VARIANTS.get(owner, owner), None)
    is_scheduler = isinstance(scheduler, type) and issubclass(scheduler, scheduling.Scheduler)
    if owner == "LoRAScheduler":
        scheduler = partial(scheduler, max_loras=1)
    config = SchedulerConfig(
        policy=PLANNED_BY_POLICY.get(owner, "fcfs"),
        max_num_seqs=4,
        **SIMULATION_OPTIONS.get(owner, {}),
    )
    result = simulate(
        REQUESTS,
        config,
        RooflineCostModel(MODELS["llama-3.1-8b"], GPUS["l4"]),
        11,
        enable_caching=True,
        scheduler_class=scheduler if is_scheduler else None,
        parts=SimulationParts.of(own),
    )
    return result.e2e.tolist(), result.tpot.tolist(), result.itl.tolist(), result.num_preemptions


@pytest.mark.parametrize(
    "name", [name for name in parts_of(SIMULATION_PARTS) if name not in NOT_SIMULATED]
)
def test_a_simulation_calls_it(name: str) -> None:
    calls: list[str] = []
    got = simulation(name, {name.partition(".")[0]: counting(name, calls)})
    assert set(calls) == {name}
    assert got == simulation(name, {})
    assert got[-1] > 0 or "Static" in name


# The library

LENGTHS = [SimpleNamespace(prompt_tokens=5, output_tokens=3)] * 6


def replayed(allocator: str, own: dict[str, Any]) -> Any:
    chosen = own.get(allocator, parts.reference(allocator))
    return list(rewire(replay_contiguous, own)(LENGTHS, 30, reserve_oracle, 20, chosen))


def first_fit(own: dict[str, Any]) -> Any:
    # What a learner builds of a base is inherited by the classes on it: see test_parts.py.
    free = vars(own["FitAllocator"])["free"] if own else FirstFitAllocator.free
    fitting = mount(FirstFitAllocator, {"free": free})
    return list(replay_contiguous(LENGTHS, 30, reserve_oracle, 20, fitting))


def served_in_order(own: dict[str, Any]) -> Any:
    # As above: every queue with a key stands on this heap.
    methods = vars(own["SortedRequestQueue"]) if own else {}
    heap = {name: methods[name] for name in ("push", "peek", "remove") if name in methods}
    queue = mount(SJFRequestQueue, heap)()
    for request in REQUESTS:
        queue.add(request)
    queue.remove(REQUESTS[2])
    return [queue.pop().request_id for _ in range(len(queue))]


def drawn_memory(own: dict[str, Any]) -> Any:
    return rewire(inspect.unwrap(gpu_memory_scene), own)(
        "llama-3.1-8b", "rtx-4090", 4096, 16, 500, 0.92
    )


def drawn_slots(own: dict[str, Any]) -> Any:
    [snapshot, *_] = replay_contiguous(LENGTHS, 30, reserve_oracle, 20)
    return rewire(inspect.unwrap(slots_scene), own)(snapshot)


def violations(own: dict[str, Any]) -> Any:
    return rewire(find_violations, own)(BlockPool(4))


LIBRARY: dict[str, Run] = {
    "num_kv_blocks": lambda own: rewire(run, own)(
        Setup(requests=3), load_trace(Setup(requests=3))
    ).e2e.tolist(),
    "kv_bytes_per_token": drawn_memory,
    "classify_slots": drawn_slots,
    "row_major_strides": lambda own: rewire(CacheLayout, own)(("kv", "dim"), (2, 3)).strides,
    "BuddyAllocator": partial(replayed, "BuddyAllocator"),
    "BestFitAllocator.choose_hole": partial(replayed, "BestFitAllocator"),
    "FitAllocator.free": first_fit,
    "SortedRequestQueue.push": served_in_order,
    "SortedRequestQueue.peek": served_in_order,
    "SortedRequestQueue.remove": served_in_order,
    "expected_internal_waste": lambda own: rewire(overhead_bytes, own)([5, 17], 16, 8, 1000),
    "pool_violations": violations,
    "erlang_b": lambda own: rewire(MMc, own)(2.0, 1.0, 3).mean_wait,
    "erlang_c": lambda own: rewire(MMc, own)(2.0, 1.0, 3).mean_wait,
    "MM1.response_quantile": lambda own: own.get("MM1", MM1)(1.0, 2.0).response_quantile(0.9),
    "MG1.mean_residual_service": lambda own: own.get("MG1", MG1)(0.2, 3.0, 2.0).mean_wait,
    "MG1.mean_wait": lambda own: own.get("MG1", MG1)(0.2, 3.0, 2.0).mean_response,
    "fewest_servers": lambda own: rewire(servers_for_wait, own)(2.0, 1.0, 0.9, 0.5),
    "gamma_arrivals": lambda own: rewire(poisson_arrivals, own)(2.0, 5, 1).tolist(),
}

NOT_CALLED = {
    "arithmetic_intensity": "a figure of merit: what a reader holds against a ridge point",
    "static_batch_utilization": "what a reader holds against a simulation",
    "CacheLayout.address": "PyTorch and Triton compute addresses from strides themselves",
    "external_fragmentation": "a look at an allocator between two calls",
    "break_even_tokens": "a formula for whoever sets preemption_mode",
    "littles_law": "a law to hold a log against",
    "simulate_queue": "a measurement; capacity takes it as an argument",
    "send_times": "a load generator's clock; the simulator's has no such delay",
    "token_budget": "a number to set max_num_batched_tokens to",
    "StepTimeController.observe": "called by whoever runs the steps",
    "plan_violations": "a checker that is held against schedulers, in tests of scheduling",
    "MemoryTracker": "looks at an engine from outside",
}
"""Nothing in the library calls these, and why."""


@pytest.mark.parametrize("name", LIBRARY)
def test_the_library_calls_it(name: str) -> None:
    calls: list[str] = []
    got = LIBRARY[name]({name.partition(".")[0]: counting(name, calls)})
    assert set(calls) == {name}
    assert got == LIBRARY[name]({})


def test_nothing_of_the_catalogue_is_left_out() -> None:
    used = {
        *parts_of(ENGINE_PARTS),
        *(name for name in parts_of(SIMULATION_PARTS) if name not in NOT_SIMULATED),
        *LIBRARY,
    }
    names = parts_of(tuple(parts.PARTS))
    assert set(names) - used == set(NOT_CALLED)
    assert not used & set(NOT_CALLED)
    assert set(TRITON_PARTS) <= set(parts.PARTS)
    assert set(PYTORCH_PARTS) <= set(parts.PARTS)

"""Every part of the engine that some lesson builds, in the order of the lessons."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

FINAL_PROJECT = 13
"""The number that stands for the final project where a lesson is asked for."""


def lesson_name(lesson: int) -> str:
    """Return what a lesson is called in a sentence.

    >>> lesson_name(7), lesson_name(FINAL_PROJECT)
    ('lesson 7', 'the final project')
    """
    return "the final project" if lesson == FINAL_PROJECT else f"lesson {lesson}"


@dataclass(frozen=True)
class Part:
    """A part of the engine that a learner can replace.

    Attributes:
        name: The function, class or Triton kernel.
        module: From where the reference can be imported.
        lesson: The lesson that builds it, the first one if several do; ``FINAL_PROJECT`` comes
            behind the last.
        node: The box of the engine map that it belongs to.
        methods: For a class that is built method by method: the methods, and the lesson of each.
    """

    name: str
    module: str
    lesson: int
    node: str
    methods: Mapping[str, int] = field(default_factory=dict)


_KV_CACHE = "course_lib.kv_cache"
_BLOCK_TABLE = f"{_KV_CACHE}.block_table"
_ALLOCATORS = f"{_KV_CACHE}.allocators"
_FRAGMENTATION = f"{_KV_CACHE}.fragmentation"
_DENSE = "course_lib.attention.dense"
_PAGED = "course_lib.attention.paged"
_KERNELS = "course_lib.attention.triton_kernels"
_SCHEDULING = "course_lib.scheduling"
_SIMULATION = "course_lib.simulation"
_QUEUEING = "course_lib.queueing"
_ENGINE = "course_lib.engine"

_WHOLE = (
    # lesson, box of the map, module, functions, classes or kernels that are built whole
    (1, "sizing", _KV_CACHE, "kv_bytes_per_token num_kv_blocks"),
    (1, "reservations", _KV_CACHE, "classify_slots static_batch_utilization"),
    (1, "cost_model", "course_lib.roofline", "arithmetic_intensity"),
    (2, "paged_attention", _DENSE, "softmax partial_attention merge_states"),
    (2, "paged_attention", _PAGED, "attend_blocks paged_decode"),
    (2, "triton_kernels", _KERNELS, "softmax_step paged_decode_kernel"),
    (2, "triton_kernels", _KERNELS, "split_decode_kernel combine_splits_kernel"),
    (3, "block_table", _BLOCK_TABLE, "slot_mapping row_major_strides blocks_to_add"),
    (3, "block_table", _PAGED, "gather"),
    (3, "triton_kernels", _PAGED, "reshape_and_cache"),
    (3, "triton_kernels", _KERNELS, "reshape_and_cache_kernel"),
    (4, "allocators", _ALLOCATORS, "BuddyAllocator"),
    (4, "allocators", _FRAGMENTATION, "external_fragmentation expected_internal_waste"),
    (5, "engine", f"{_ENGINE}.flatten", "flatten_step"),
    (5, "simulator", _SIMULATION, "time_per_output_token inter_token_latencies"),
    (6, "preemption", _SCHEDULING, "num_blocks_freed least_important break_even_tokens SwapSpace"),
    (7, "block_pool", _KV_CACHE, "FreeKVCacheBlockQueue find_leaks pool_violations CacheMetrics"),
    (8, "prefix_cache", _KV_CACHE, "hash_blocks longest_cached_prefix"),
    (8, "triton_kernels", _PAGED, "copy_blocks side_by_side"),
    (8, "triton_kernels", _KERNELS, "copy_blocks_kernel"),
    (9, "request_queue", _SCHEDULING, "FCFSRequestQueue VTCRequestQueue"),
    (10, "queueing", _QUEUEING, "littles_law erlang_b erlang_c simulate_queue"),
    (10, "queueing", _QUEUEING, "send_times fewest_servers"),
    (10, "queueing", _SIMULATION, "gamma_arrivals"),
    (11, "cost_model", _SIMULATION, "token_budget"),
    (11, "triton_kernels", _PAGED, "chunked_prefill"),
    (11, "triton_kernels", _KERNELS, "chunked_prefill_kernel"),
    (12, "scheduler", f"{_SCHEDULING}.watch.violations", "plan_violations"),
    (FINAL_PROJECT, "engine", f"{_ENGINE}.memory_tracker", "MemoryTracker"),
)

_SCHEDULER = {
    "admit_waiting": 5,
    "preempt": 6,
    "preempt_for": 6,
    "limit_chunk": 11,
    "serve_running": 12,
    "schedule": 12,
    "why_never": FINAL_PROJECT,
    "finish_requests": FINAL_PROJECT,
}
"""The methods of the one scheduler, which lessons 5 to 12 and the final project build."""

_MANAGER = {"fork": 8, "replace_shared": 8, "allocate_slots": 8}

_BY_METHOD = (
    # lesson, box of the map, module, class, its methods with the lesson of each
    (3, "block_table", _BLOCK_TABLE, "BlockTable", {"slot": 3, "append": 3}),
    (3, "block_table", _BLOCK_TABLE, "CacheLayout", {"address": 3}),
    (4, "allocators", _ALLOCATORS, "FitAllocator", {"free": 4}),
    (4, "allocators", _ALLOCATORS, "BestFitAllocator", {"choose_hole": 4}),
    (5, "scheduler", _SCHEDULING, "Scheduler", _SCHEDULER),
    (5, "scheduler", _SCHEDULING, "StaticBatchingScheduler", {"admit_waiting": 5}),
    (7, "block_pool", _KV_CACHE, "BlockPool", {"get_new_blocks": 7, "touch": 7, "free_blocks": 7}),
    (8, "cache_manager", _KV_CACHE, "KVCacheManager", _MANAGER),
    (9, "request_queue", _SCHEDULING, "SortedRequestQueue", {"push": 9, "peek": 9, "remove": 9}),
    (9, "request_queue", _SCHEDULING, "PriorityRequestQueue", {"key": 9}),
    (9, "request_queue", _SCHEDULING, "SJFRequestQueue", {"key": 9}),
    (9, "request_queue", _SCHEDULING, "SRPTRequestQueue", {"key": 9}),
    (9, "request_queue", _SCHEDULING, "AgeingRequestQueue", {"key": 9}),
    (9, "request_queue", _SCHEDULING, "EDFRequestQueue", {"key": 9}),
    (9, "request_queue", _SCHEDULING, "WFQRequestQueue", {"key": 9}),
    (9, "request_queue", _SCHEDULING, "CacheAwareRequestQueue", {"choose": 9}),
    (9, "request_queue", _SCHEDULING, "EvenSplitScheduler", {"limit_chunk": 9}),
    (10, "queueing", _QUEUEING, "MM1", {"response_quantile": 10}),
    (10, "queueing", _QUEUEING, "MG1", {"mean_residual_service": 10, "mean_wait": 10}),
    (11, "cost_model", _SIMULATION, "IterationWork", {"of_batch": 11}),
    (11, "cost_model", _SIMULATION, "IterationTime", {"total": 11}),
    (12, "scheduler", _SCHEDULING, "SpeculativeScheduler", {"take_back_rejected": 12}),
    (12, "scheduler", _SCHEDULING, "AsyncScheduler", {"place_ahead": 12}),
    (12, "scheduler", _SCHEDULING, "LoRAScheduler", {"why_not_now": 12}),
    (12, "scheduler", _SCHEDULING, "StepTimeController", {"observe": 12}),
    (FINAL_PROJECT, "engine", f"{_ENGINE}.executor", "Executor", {"execute": FINAL_PROJECT}),
    (FINAL_PROJECT, "engine", f"{_ENGINE}.core", "EngineCore", {"step": FINAL_PROJECT}),
    (FINAL_PROJECT, "engine", f"{_ENGINE}.answer", "StopStrings", {"push": FINAL_PROJECT}),
    (FINAL_PROJECT, "engine", f"{_ENGINE}.answer", "Answer", {"append": FINAL_PROJECT}),
)


def _parts() -> Iterator[Part]:
    for lesson, node, module, names in _WHOLE:
        yield from (Part(name, module, lesson, node) for name in names.split())
    for lesson, node, module, name, methods in _BY_METHOD:
        yield Part(name, module, lesson, node, methods)


PARTS: dict[str, Part] = {
    part.name: part for part in sorted(_parts(), key=lambda part: part.lesson)
}
"""Every part by name."""

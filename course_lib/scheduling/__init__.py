"""The time half of an engine: who is served when, and who has to give way."""

from course_lib.scheduling.decisions import Action, Decision, DecisionLog
from course_lib.scheduling.policies import (
    POLICIES,
    AgeingRequestQueue,
    EDFRequestQueue,
    FCFSRequestQueue,
    PriorityRequestQueue,
    RankedRequestQueue,
    RequestQueue,
    SJFRequestQueue,
    SortedRequestQueue,
    SRPTRequestQueue,
    VTCRequestQueue,
    WFQRequestQueue,
    make_queue,
)
from course_lib.scheduling.preemption import (
    VICTIM_POLICIES,
    VictimPolicy,
    break_even_tokens,
    frees_most_blocks,
    last_in,
    least_computed,
    least_important,
    make_victim_policy,
    most_tokens,
    num_blocks_freed,
    recompute_seconds,
    recompute_window,
    swap_seconds,
)
from course_lib.scheduling.request import (
    NEXT_STATUSES,
    IllegalTransitionError,
    Request,
    RequestStatus,
    next_statuses,
)
from course_lib.scheduling.scheduler import Scheduler, SchedulerConfig, SchedulerOutput
from course_lib.scheduling.swap import SwapSpace
from course_lib.scheduling.variants.async_scheduler import AsyncScheduler
from course_lib.scheduling.variants.batch_size import StepTimeController
from course_lib.scheduling.variants.cache_aware import (
    CacheAwareRequestQueue,
    CacheAwareScheduler,
)
from course_lib.scheduling.variants.even_split import EvenSplitScheduler
from course_lib.scheduling.variants.head_skipping import HeadSkippingScheduler
from course_lib.scheduling.variants.lora import LoRAScheduler
from course_lib.scheduling.variants.speculative import SpeculativeScheduler
from course_lib.scheduling.variants.static_batching import StaticBatchingScheduler

__all__ = [
    "NEXT_STATUSES",
    "POLICIES",
    "VICTIM_POLICIES",
    "Action",
    "AgeingRequestQueue",
    "AsyncScheduler",
    "CacheAwareRequestQueue",
    "CacheAwareScheduler",
    "Decision",
    "DecisionLog",
    "EDFRequestQueue",
    "EvenSplitScheduler",
    "FCFSRequestQueue",
    "HeadSkippingScheduler",
    "IllegalTransitionError",
    "LoRAScheduler",
    "PriorityRequestQueue",
    "RankedRequestQueue",
    "Request",
    "RequestQueue",
    "RequestStatus",
    "SJFRequestQueue",
    "SRPTRequestQueue",
    "Scheduler",
    "SchedulerConfig",
    "SchedulerOutput",
    "SortedRequestQueue",
    "SpeculativeScheduler",
    "StaticBatchingScheduler",
    "StepTimeController",
    "SwapSpace",
    "VTCRequestQueue",
    "VictimPolicy",
    "WFQRequestQueue",
    "break_even_tokens",
    "frees_most_blocks",
    "last_in",
    "least_computed",
    "least_important",
    "make_queue",
    "make_victim_policy",
    "most_tokens",
    "next_statuses",
    "num_blocks_freed",
    "recompute_seconds",
    "recompute_window",
    "swap_seconds",
]

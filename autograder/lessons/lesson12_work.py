"""Lesson 12: what a plan for 256 running requests costs, counted and not timed."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from autograder.checks.budget import Tally
from autograder.proxy.recipes import Make
from autograder.proxy.subject import Returned, Subject
from autograder.proxy.wire import Ref
from course_lib.kv_cache.manager import KVCacheManager
from course_lib.scheduling.scheduler import Scheduler, SchedulerConfig
from course_lib.scheduling.watch.serving import begin_to_decode, work_of_a_plan

NUM_RUNNING = 256
"""How many requests decode in the plan that is counted."""

ALLOWED = {
    "running requests looked at": 3 * NUM_RUNNING,
    "calls of allocate_slots": NUM_RUNNING // 4,
}
"""A right answer looks at each request once or twice. Of 256 requests in blocks of 16 some thirty
need the manager in a step: those that begin a block, and those that fill one."""


def work(subject: Subject, seed: int) -> Iterable[Tally]:
    """Count what is done for a plan in which all decode."""
    owner = subject.mount(Scheduler, "serve_running")
    made = subject.call(
        [SchedulerConfig(max_num_seqs=NUM_RUNNING), Make(KVCacheManager, 1_000, 16)], target=owner
    )
    assert isinstance(made, Returned)
    assert isinstance(made.value, Ref)
    begun = subject.apply(begin_to_decode, (made.value, NUM_RUNNING))
    worked = subject.apply(work_of_a_plan, (made.value,)) if isinstance(begun, Returned) else begun
    said: dict[str, Any] = worked.value if isinstance(worked, Returned) else {}
    outcome = Returned(said["plan"]) if said else worked
    case = f"scheduler.schedule() with {NUM_RUNNING} requests that decode"
    for operation, allowed in ALLOWED.items():
        yield Tally(case, outcome, said.get(operation, 0), allowed, operation)

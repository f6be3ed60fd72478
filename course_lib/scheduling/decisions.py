"""A log of the scheduler's decisions: who got how many tokens, who waited, who gave way, and why.

It is for figures and for questions ("why does this request wait?"), so it keeps plain records, one
per request and step. A scheduler without a log pays nothing for it: all reasons are found out
afterwards, from the state that the scheduler is in when it has stopped admitting.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum

from course_lib.kv_cache.block_pool import KVCacheBlock
from course_lib.scheduling.request import Request, RequestStatus
from course_lib.scheduling.scheduler import Scheduler, SchedulerOutput


class Action(Enum):
    """What a step did with a request."""

    STARTS = "starts"
    CONTINUES = "continues"
    RESUMES = "resumes"
    IS_PREEMPTED = "is preempted"
    IS_SWAPPED_OUT = "is swapped out"
    WAITS = "waits"


@dataclass(frozen=True, slots=True)
class Decision:
    """What one step did with one request.

    Attributes:
        step: Number of the step, from 0.
        request_id: The request.
        action: What was done.
        num_tokens: Tokens that it computes in this step; 0 if it gets none.
        reason: Why it waits or gave way, in words; empty if it got what it wanted.
    """

    step: int
    request_id: str
    action: Action
    num_tokens: int
    reason: str = ""


@dataclass
class DecisionLog:
    """Keeps what a scheduler decided: pass one to it as ``log``.

    Attributes:
        decisions: All decisions, step by step: preempted requests first, then those that were
            served, in the order of service, then those that wait, in the order in which they will
            be.
        num_steps: Steps so far.

    >>> from course_lib.kv_cache import KVCacheManager
    >>> from course_lib.scheduling import SchedulerConfig
    >>> log = DecisionLog()
    >>> scheduler = Scheduler(SchedulerConfig(), KVCacheManager(num_blocks=4), log=log)
    >>> for name in "ab":
    ...     scheduler.add_request(Request(name, [ord(name)] * 30, max_tokens=2))
    >>> output = scheduler.schedule()
    >>> for each in log.decisions:
    ...     print(each.request_id, each.action.value, each.reason or each.num_tokens)
    a starts 30
    b waits needs 2 blocks, 1 free
    """

    decisions: list[Decision] = field(default_factory=list)
    num_steps: int = 0
    _preempted: list[Decision] = field(default_factory=list, init=False, repr=False)

    def of_request(self, request_id: str) -> list[Decision]:
        """Return the decisions about one request, in order."""
        return [decision for decision in self.decisions if decision.request_id == request_id]

    def of_step(self, step: int) -> list[Decision]:
        """Return the decisions of one step, in order."""
        return [decision for decision in self.decisions if decision.step == step]

    def record_preemption(
        self, scheduler: Scheduler, victim: Request, winner: Request, num_new_tokens: int
    ) -> None:
        """Take note that a request is about to be preempted; the scheduler calls this.

        Args:
            scheduler: The scheduler.
            victim: Who gives way.
            winner: Who needs the room. It may be the victim itself.
            num_new_tokens: Tokens for which the winner needs room.
        """
        pool, size = scheduler.kv_cache_manager.block_pool, scheduler.kv_cache_manager.block_size
        held = scheduler.kv_cache_manager.holding(winner.request_id)
        num_needed = -(-(winner.num_computed_tokens + num_new_tokens) // size) - len(held.blocks)
        num_needed += len(held.shared_from(winner.num_computed_tokens // size))  # to be copied
        who = "itself" if winner is victim else repr(winner.request_id)
        reason = f"{who} needs {_blocks(num_needed)}, {pool.get_num_free_blocks()} free"
        self._preempted.append(
            Decision(self.num_steps, victim.request_id, Action.IS_PREEMPTED, 0, reason)
        )

    def record_step(self, scheduler: Scheduler, output: SchedulerOutput) -> None:
        """Take note of all that a step decided; the scheduler calls this at its end."""
        self._record_preempted(scheduler)
        self._record_served(output)
        self._record_waiting(scheduler, output)
        self.num_steps += 1

    def _record_preempted(self, scheduler: Scheduler) -> None:
        """Keep the preemptions of this step, now that it is known where the victims went."""
        for decision in self._preempted:
            action = Action.IS_PREEMPTED
            if scheduler.requests[decision.request_id].status is RequestStatus.SWAPPED:
                action = Action.IS_SWAPPED_OUT
            self._add(decision.request_id, action, 0, decision.reason)
        self._preempted.clear()

    def _record_served(self, output: SchedulerOutput) -> None:
        """Keep who computes how many tokens in this step."""
        starting = {request.request_id for request in output.scheduled_new_reqs}
        resuming = {request.request_id for request in output.scheduled_resumed_reqs}
        for request_id, num_tokens in output.num_scheduled_tokens.items():
            action = Action.CONTINUES
            if request_id in starting:
                action = Action.STARTS
            elif request_id in resuming:
                action = Action.RESUMES
            self._add(request_id, action, num_tokens)

    def _record_waiting(self, scheduler: Scheduler, output: SchedulerOutput) -> None:
        """Keep who got nothing in this step, and why."""
        for request in scheduler.running:
            if request.request_id not in output.num_scheduled_tokens:
                reason = _why_not_served(scheduler, request, output)
                self._add(request.request_id, Action.WAITS, 0, reason)
        first = scheduler.next_in_line()
        behind = f"behind {first.request_id!r}" if first else ""
        for request in [*scheduler.swapped, *scheduler.waiting]:
            if request.request_id in output.preempted_req_ids:
                continue
            is_next = request is first or output.preempted_req_ids
            reason = why_waiting(scheduler, output) if is_next else behind
            self._add(request.request_id, Action.WAITS, 0, reason)

    def _add(self, request_id: str, action: Action, num_tokens: int, reason: str = "") -> None:
        """Keep one decision of this step."""
        self.decisions.append(Decision(self.num_steps, request_id, action, num_tokens, reason))


def why_waiting(scheduler: Scheduler, output: SchedulerOutput) -> str:
    """Say why the request that would have been next was not started in the step just planned.

    Args:
        scheduler: The scheduler.
        output: The plan that it has just returned.

    Returns:
        A reason in words. Ask only where a request is waiting or swapped out.
    """
    if output.preempted_req_ids:
        return "nobody starts in a step that preempts"
    num_left = scheduler.max_num_batched_tokens - output.total_num_scheduled_tokens
    if num_left == 0:
        return f"the budget of {scheduler.max_num_batched_tokens} tokens is spent"
    if len(scheduler.running) >= scheduler.max_num_seqs:
        return f"the batch is full: {len(scheduler.running)} of {scheduler.max_num_seqs} requests"
    request = scheduler.next_in_line()
    if request is None:
        return ""
    return scheduler.why_not_now(request) or _why_no_room(scheduler, request, num_left)


def _why_no_room(scheduler: Scheduler, request: Request, num_left: int) -> str:
    """Say which room a request lacks, if it lacks no right to start."""
    manager, config = scheduler.kv_cache_manager, scheduler.config
    is_swapped = request.status is RequestStatus.SWAPPED
    hits: list[KVCacheBlock] = []
    num_computed = request.num_computed_tokens
    if not is_swapped:
        hits, num_computed = manager.get_computed_blocks(request)
    num_new = request.num_tokens - num_computed
    if not is_swapped and scheduler.first_chunk(request, num_new, num_left) == 0:
        return f"needs {num_new} tokens in one step, {num_left} left"
    num_tokens = request.num_tokens
    if not config.reserve_full_prompt:
        num_tokens = num_computed + scheduler.limit_chunk(request, num_new, num_left)
    num_shared = sum(block.ref_cnt > 0 for block in hits)
    num_needed = -(-num_tokens // manager.block_size) - num_shared
    num_free = manager.block_pool.get_num_free_blocks()
    num_kept_back = min(manager.watermark_blocks, num_free) if scheduler.running else 0
    if num_needed <= num_free - num_kept_back:
        return "there is room, but it does not start in this step"
    reason = f"needs {_blocks(num_needed)}, {num_free} free"
    if num_kept_back:
        reason += f", {num_kept_back} of them kept back"
    return reason


def _why_not_served(scheduler: Scheduler, request: Request, output: SchedulerOutput) -> str:
    """Say why a running request got nothing in the step just planned."""
    if output.total_num_scheduled_tokens >= scheduler.max_num_batched_tokens:
        return f"the budget of {scheduler.max_num_batched_tokens} tokens is spent"
    if request.num_tokens + request.num_tokens_ahead > request.num_computed_tokens:
        return "it was passed over"  # which this scheduler does to nobody, but another one might
    return "its next token is not known yet"


def _blocks(count: int) -> str:
    """Return "1 block" or "n blocks"."""
    return f"{count} block" if count == 1 else f"{count} blocks"

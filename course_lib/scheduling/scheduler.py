"""The scheduler: which requests compute how many tokens in the next iteration.

There is no prefill phase and no decode phase. A request has tokens that it knows and tokens that
are computed; in each iteration it is given some of the difference. While a request decodes, the
difference is 1. Running requests come first, waiting ones after them, all under one token budget.

Behaviour and names follow vLLM 0.33.0 (``vllm/v1/core/sched/scheduler.py``), and where that lets a
request block the queue for ever, this scheduler does not.
"""

from __future__ import annotations

import contextlib
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, Protocol

from course_lib.kv_cache.block_pool import KVCacheBlock
from course_lib.kv_cache.manager import KVCacheManager, UnknownRequestError
from course_lib.scheduling.policies import RequestQueue, make_queue
from course_lib.scheduling.preemption import (
    VictimPolicy,
    last_in,
    make_victim_policy,
    require_victim_policy,
)
from course_lib.scheduling.request import Request, RequestStatus
from course_lib.scheduling.swap import SwapSpace


@dataclass(frozen=True)
class SchedulerConfig:
    """The limits and choices of a scheduler.

    Attributes:
        max_num_seqs: Most requests that run at the same time.
        max_num_batched_tokens: Most tokens computed in one iteration: the token budget.
        policy: Which waiting request is served next: a name in ``policies.POLICIES``, a queue of
            one's own, or what makes one. A queue belongs to one scheduler; use a name or a maker
            where several schedulers are made from one configuration.
        victim_policy: Which running request gives way when memory runs out: a name in
            ``preemption.VICTIM_POLICIES``, or a policy of one's own; None for what goes with
            ``policy``.
        long_prefill_token_threshold: Most tokens of one request in one iteration, so that a long
            prompt does not keep others waiting; 0 for no such limit. Ignored for a request that is
            alone.
        enable_chunked_prefill: Whether a prompt may be computed in several iterations. Without it,
            only what exceeds the threshold or a whole iteration is, as a preempted request may have
            come to do.
        preemption_mode: What becomes of a request that loses its blocks: ``"recompute"`` forgets
            them, ``"swap"`` copies them to the CPU while there is room.
        num_cpu_blocks: Blocks of CPU memory to swap to.
        watermark: Share of the blocks that stays free at admission, unless nothing runs:
            ``int(watermark * num_blocks)`` blocks.
        reserve_full_prompt: Whether a request is admitted only if all of its known tokens would
            fit, and not only the first chunk.
        max_model_len: Tokens, prompt and output, at which a request ends; None for what the pool
            can hold. A longer prompt is refused. One of exactly this length gets its one token,
            whose KV is never needed. (vLLM refuses this one too.)

    Raises:
        ValueError: A limit is out of range, or there is no victim policy of this name.
    """

    max_num_seqs: int = 128
    max_num_batched_tokens: int = 2048
    policy: str | RequestQueue | Callable[[], RequestQueue] = "fcfs"
    long_prefill_token_threshold: int = 0
    enable_chunked_prefill: bool = True
    preemption_mode: Literal["recompute", "swap"] = "recompute"
    num_cpu_blocks: int = 0
    watermark: float = 0.0
    reserve_full_prompt: bool = True
    max_model_len: int | None = None
    victim_policy: str | VictimPolicy | None = None

    def __post_init__(self) -> None:
        for name in ("max_num_seqs", "max_num_batched_tokens"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}; it must be at least 1")
        for name in ("long_prefill_token_threshold", "num_cpu_blocks"):
            if getattr(self, name) < 0:
                raise ValueError(f"{name} is {getattr(self, name)}; it must be 0 or more")
        if not 0.0 <= self.watermark < 1.0:
            raise ValueError(f"watermark is {self.watermark}; it is a share from 0 to below 1")
        if self.preemption_mode not in ("recompute", "swap"):
            raise ValueError(
                f"preemption_mode is {self.preemption_mode!r}; it is 'recompute' or 'swap'"
            )
        if self.max_model_len is not None and self.max_model_len < 1:
            raise ValueError(f"max_model_len is {self.max_model_len}; it must be at least 1")
        if isinstance(self.victim_policy, str):
            require_victim_policy(self.victim_policy)


@dataclass(slots=True)
class SchedulerOutput:
    """What one iteration computes. The executor carries out copies first, then computes.

    Attributes:
        num_scheduled_tokens: Tokens to compute, at least 1, by request id, in the order of service.
        total_num_scheduled_tokens: Their sum.
        scheduled_new_reqs: Requests that run for the first time.
        scheduled_resumed_reqs: Requests that run again after a preemption.
        preempted_req_ids: Requests that lost their blocks in this step.
        finished_req_ids: Requests that finished or were aborted since the previous step. An
            executor forgets them before it takes in ``scheduled_new_reqs``, where one of these ids
            may be used again.
        scheduled_spec_decode_tokens: Drafts that are verified, by request id; only of a
            ``SpeculativeScheduler``.
        blocks_to_swap_out: (GPU block, CPU block) pairs, copied first.
        blocks_to_swap_in: (CPU block, GPU block) pairs, copied next.
        blocks_to_copy: (GPU block, GPU block) pairs of copy-on-write, copied last, in this order.
    """

    num_scheduled_tokens: dict[str, int] = field(default_factory=dict)
    total_num_scheduled_tokens: int = 0
    scheduled_new_reqs: list[Request] = field(default_factory=list)
    scheduled_resumed_reqs: list[Request] = field(default_factory=list)
    preempted_req_ids: set[str] = field(default_factory=set)
    finished_req_ids: set[str] = field(default_factory=set)
    scheduled_spec_decode_tokens: dict[str, list[int]] = field(default_factory=dict)
    blocks_to_swap_out: list[tuple[int, int]] = field(default_factory=list)
    blocks_to_swap_in: list[tuple[int, int]] = field(default_factory=list)
    blocks_to_copy: list[tuple[int, int]] = field(default_factory=list)


class SchedulerLog(Protocol):
    """What a scheduler tells of its decisions to; ``DecisionLog`` is one."""

    def record_preemption(
        self, scheduler: Scheduler, victim: Request, winner: Request, num_new_tokens: int
    ) -> None:
        """Take note that one request gives way to another, which needs room for its tokens."""

    def record_step(self, scheduler: Scheduler, output: SchedulerOutput) -> None:
        """Take note of a plan that is complete."""


class Scheduler:
    """Decides, iteration by iteration, who computes how many tokens.

    A loop around it is a serving engine::

        output = scheduler.schedule()
        sampled = run_the_model(output)          # a token for each request that is caught up
        finished = scheduler.update_from_output(output, sampled)

    Invariants: an iteration computes at most ``max_num_batched_tokens`` tokens of at most
    ``max_num_seqs`` requests, or of those that ran already when that was lowered; a request is in
    exactly one of ``waiting``, ``running`` and ``swapped`` until it is finished; only running
    requests hold blocks. Every request comes to its end, if only the model keeps answering and no
    policy prefers later arrivals for ever.

    Args:
        config: Limits and choices.
        kv_cache_manager: Hands out the blocks.
        log: Keeps who got what, and why; None for no such records.

    Attributes:
        requests: All requests that are not finished, by id.
        waiting: Requests to be admitted, in service order.
        running: Requests that hold blocks, in order of admission.
        swapped: Requests whose blocks are on the CPU, in the order in which they come back.
        max_model_len: Tokens at which a request ends, and the longest prompt.
        max_num_seqs: Most requests that run at the same time. It may be changed between iterations;
            nobody is preempted for it.
        max_num_batched_tokens: Most tokens computed in one iteration; may be changed as well.
        victim_policy: Names the running request that gives way.
        swap_space: The blocks on the CPU, and whose they are.
        finished_req_ids: Requests that ended since the last plan.
        num_fruitless_preemptions: Preemptions since a token was last generated.

    >>> scheduler = Scheduler(SchedulerConfig(), KVCacheManager(num_blocks=100))
    >>> scheduler.add_request(Request("a", range(20), max_tokens=2))
    >>> output = scheduler.schedule()
    >>> output.num_scheduled_tokens
    {'a': 20}
    >>> scheduler.update_from_output(output, {"a": 7})
    []
    >>> output = scheduler.schedule()
    >>> [request.request_id for request in scheduler.update_from_output(output, {"a": 8})]
    ['a']
    """

    def __init__(
        self,
        config: SchedulerConfig,
        kv_cache_manager: KVCacheManager,
        *,
        log: SchedulerLog | None = None,
    ) -> None:
        self.config = config
        self.kv_cache_manager = kv_cache_manager
        self.log = log
        self.max_num_seqs = config.max_num_seqs
        self.max_num_batched_tokens = config.max_num_batched_tokens
        num_blocks = kv_cache_manager.block_pool.num_blocks
        capacity = (num_blocks - 1) * kv_cache_manager.block_size
        # A request longer than the pool would wait for ever, whatever the configuration says.
        self.max_model_len = min(config.max_model_len or capacity, capacity)
        kv_cache_manager.watermark_blocks = max(
            kv_cache_manager.watermark_blocks, int(config.watermark * num_blocks)
        )
        self.requests: dict[str, Request] = {}
        self.waiting = make_queue(config.policy)
        self.running: list[Request] = []
        self.swapped: deque[Request] = deque()
        self.victim_policy = make_victim_policy(
            config.victim_policy, kv_cache_manager, default=self.waiting.choose_victim
        )
        self.swap_space = SwapSpace(config.num_cpu_blocks)
        self.finished_req_ids: set[str] = set()
        self.num_fruitless_preemptions = 0

    def add_request(self, request: Request) -> None:
        """Put a request into the waiting queue.

        A prompt that can never be computed here ends at once as FINISHED_IGNORED, and
        ``request.finish_reason`` says what it would need.

        Raises:
            ValueError: A request of this name is not finished yet, or this one has begun already.
                Nothing changes.
        """
        if request.request_id in self.requests:
            raise ValueError(
                f"request {request.request_id!r} is not finished yet; give each its own id"
            )
        if request.status is not RequestStatus.WAITING or request.num_computed_tokens:
            raise ValueError(f"{request!r} has begun already; add each request once, as new")
        reason = self.why_never(request)
        if reason:
            request.finish_reason = reason
            request.status = RequestStatus.FINISHED_IGNORED
            self.finished_req_ids.add(request.request_id)
            return
        request.length_limit = min(request.length_limit, self.max_model_len)
        self.requests[request.request_id] = request
        self.waiting.add(request)

    def fork_request(self, parent_id: str, child: Request) -> bool:
        """Add a request that continues what another one has computed, as one more answer to it.

        It comes between ``schedule`` and ``update_from_output``, in the iteration that computes the
        parent up to its last known token: then parent and child can both have a next one. The child
        joins the batch and shares the parent's blocks. Where the batch has no place for it, it
        waits like any other request, and finds the parent's full blocks in the prefix cache.

        Args:
            parent_id: A running request.
            child: A new request with the tokens of the parent.

        Returns:
            Whether the child runs; then ``update_from_output`` takes a token for it already.

        Raises:
            ValueError: The parent is not running, or has tokens that are not computed; the child's
                tokens or salt differ; or it can never be computed here (``why_never``), or not be
                added. Nothing changes.
        """
        parent = self.requests.get(parent_id)
        if parent is None or parent.status is not RequestStatus.RUNNING:
            raise ValueError(f"request {parent_id!r} is not running; fork while it has its blocks")
        is_alike = (child.all_token_ids, child.cache_salt) == (
            parent.all_token_ids,
            parent.cache_salt,
        )
        if parent.num_computed_tokens < parent.num_tokens or not is_alike:
            raise ValueError(
                f"{child!r} cannot continue {parent!r}; fork when all tokens of the parent are "
                "computed, into a request with the same tokens and salt"
            )
        reason = self.why_never(child)
        if reason:
            raise ValueError(f"{child!r} cannot continue {parent!r}: {reason}")
        self.add_request(child)
        if len(self.running) >= self.max_num_seqs or self.why_not_now(child):
            return False
        self.waiting.remove(child)
        self.kv_cache_manager.fork(parent, child)
        child.status = RequestStatus.RUNNING
        self.running.append(child)
        self.waiting.charge([child])
        return True

    def schedule(self) -> SchedulerOutput:
        """Plan the next iteration.

        Running requests are served in order of admission. If there is no room for one, others are
        preempted until there is, or until it was itself the victim. Then requests that were swapped
        out come back, then waiting ones are admitted, until the budget is spent, the batch is full,
        or the first of them does not fit. In an iteration that preempts, nobody is admitted.

        ``num_computed_tokens`` of each request is moved ahead here, as if the iteration had run.

        Returns:
            The plan. ``finished_req_ids`` in it are those since the last one; the next plan begins
            with a new set.
        """
        output = SchedulerOutput(finished_req_ids=self.finished_req_ids)
        self.finished_req_ids = set()
        budget = self.serve_running(output, self.max_num_batched_tokens)
        if not output.preempted_req_ids:
            budget = self.swap_in(output, budget)
            budget = self.admit_waiting(output, budget)
        output.total_num_scheduled_tokens = self.max_num_batched_tokens - budget
        output.blocks_to_copy += self.kv_cache_manager.take_block_copies()
        self.waiting.charge(self.generating(output))
        if self.log is not None:
            self.log.record_step(self, output)
        return output

    def update_from_output(
        self, output: SchedulerOutput, sampled: Mapping[str, int | list[int]]
    ) -> list[Request]:
        """Take in the tokens of an iteration, and let go of the requests that are done.

        A request ends with its ``eos_token_id`` (FINISHED_STOPPED), or when it has ``max_tokens``
        output tokens or ``max_model_len`` tokens in all (FINISHED_LENGTH_CAPPED). What is sampled
        behind its end is dropped.

        Args:
            output: The plan that was carried out.
            sampled: The new token of each request, or a list of several where drafts were accepted.
                Requests whose prompt is not computed to its end have none. Those that were aborted
                meanwhile are passed over.

        Returns:
            The requests that finished, in the order of service.
        """
        ended: set[str] = set()
        requests = self.requests
        for request_id, token in sampled.items():
            request = requests.get(request_id)
            # Only what is computed up to its last known token can have a next one. An id that was
            # aborted and added again since the plan was made is not.
            if request is None or request.num_computed_tokens < len(request.all_token_ids):
                continue
            self.num_fruitless_preemptions = 0
            if type(token) is list:
                has_ended = self.append_tokens(request, token)
            else:
                all_token_ids = request.all_token_ids
                all_token_ids.append(token)  # type: ignore[arg-type]  # an int, as it is no list
                request.output_token_ids.append(token)  # type: ignore[arg-type]
                has_ended = (
                    len(all_token_ids) >= request.length_limit or token == request.eos_token_id
                )
            if has_ended:
                ended.add(request_id)
        if not ended:
            return []
        finished = [request for request in self.running if request.request_id in ended]
        for request in finished:
            request.status = status_at_end(request)
        self.let_go(finished)
        return finished

    def finish_requests(
        self,
        request_ids: str | Iterable[str],
        status: RequestStatus,
    ) -> None:
        """End requests from outside, as when a client goes away.

        Ids of requests that are finished or were never added are passed over: the client's message
        may cross with the end.

        Args:
            request_ids: One id, or several.
            status: A finished status, usually FINISHED_ABORTED.

        Raises:
            ValueError: ``status`` is not a finished one; then nothing changes.
            IllegalTransitionError: One of the requests cannot end so, as one that has not begun
                cannot have stopped. It is a ValueError. Nothing changes.
        """
        if not status.is_finished:
            raise ValueError(f"{status.value} is no way to finish; use FINISHED_ABORTED")
        ids = [request_ids] if isinstance(request_ids, str) else list(request_ids)
        ended = [self.requests[i] for i in dict.fromkeys(ids) if i in self.requests]
        for request in ended:
            request.require_transition(status)
        for request in ended:
            self.leave_queue(request)
            request.status = status
        self.let_go(ended)

    def has_unfinished_requests(self) -> bool:
        """Whether any request is waiting, running or swapped out."""
        return bool(self.requests)

    def serve_running(self, output: SchedulerOutput, budget: int) -> int:
        """Serve the running requests, in order, as long as there is budget.

        A request lacks ``num_tokens + num_tokens_ahead - num_computed_tokens`` tokens. If it lacks
        several, it gets as many of them as ``limit_chunk`` allows, and one is never cut. The
        manager must allocate slots for them. If it does not, ``preempt_for`` makes room; should the
        request be preempted itself, those behind it are served all the same. A request that lacks
        no token is passed over. Each one is looked at once, also when a victim in front of it
        leaves ``running``.

        What a request gets is entered in ``output.num_scheduled_tokens``, is added to its
        ``num_computed_tokens`` and is taken from the budget.

        Most requests lack one token, for which there is a slot already (``has_free_slot`` of the
        manager): for them nothing need be allocated.

        Args:
            output: The plan so far; it is added to.
            budget: Tokens that may be computed.

        Returns:
            The budget that is left. What victims had got already is in it again.
        """
        scheduled, preempted = output.num_scheduled_tokens, output.preempted_req_ids
        has_free_slot = self.kv_cache_manager.has_free_slot
        for request in list(self.running):  # victims leave ``running`` meanwhile
            if budget < 1:
                break
            if preempted and request.request_id in preempted:
                continue
            num_computed = request.num_computed_tokens
            num_new = len(request.all_token_ids) + request.num_tokens_ahead - num_computed
            if num_new != 1:
                num_new = self.limit_chunk(request, num_new, budget)
                if num_new < 1:
                    continue
            needs_slots = num_new > 1 or not has_free_slot(request)
            if needs_slots and self.kv_cache_manager.allocate_slots(request, num_new) is None:
                budget += self.preempt_for(request, num_new, output)
                if request.status is not RequestStatus.RUNNING:
                    continue
            scheduled[request.request_id] = num_new
            request.num_computed_tokens = num_computed + num_new
            budget -= num_new
        return budget

    def limit_chunk(self, request: Request, num_new_tokens: int, budget: int) -> int:
        """Return how many of the tokens that a request lacks it may compute in this iteration.

        They are cut to ``long_prefill_token_threshold``, if that is not 0 and the request is not
        the only one that is unfinished, and to the budget. As in vLLM the threshold holds with
        chunked prefill and without.

        Args:
            request: The request.
            num_new_tokens: Tokens that it lacks.
            budget: Tokens that may still be computed in this iteration, at least 1.

        >>> config = SchedulerConfig(long_prefill_token_threshold=4)
        >>> scheduler = Scheduler(config, KVCacheManager(num_blocks=100))
        >>> a, b = Request("a", range(9), max_tokens=2), Request("b", range(9), max_tokens=2)
        >>> scheduler.add_request(a)
        >>> scheduler.limit_chunk(a, 9, budget=100)               # it is alone
        9
        >>> scheduler.add_request(b)
        >>> scheduler.limit_chunk(a, 9, budget=100), scheduler.limit_chunk(a, 9, budget=3)
        (4, 3)
        """
        threshold = self.config.long_prefill_token_threshold
        if 0 < threshold < num_new_tokens and len(self.requests) > 1:
            num_new_tokens = threshold
        return min(num_new_tokens, budget)

    def preempt_for(self, request: Request, num_new_tokens: int, output: SchedulerOutput) -> int:
        """Preempt running requests until this one has room, or is itself preempted.

        Whenever the manager refuses, the victim that ``choose_victim`` names leaves ``running`` and
        is preempted (``preempt``), and the manager is asked again.

        Args:
            request: A running request for which slots could not be allocated.
            num_new_tokens: Tokens that it is to compute. If it is not preempted itself, slots for
                them are allocated afterwards.
            output: The plan so far; victims are taken out of it.

        Returns:
            The tokens that the victims were to compute in this iteration, and now do not.
        """
        num_regained = 0
        while self.kv_cache_manager.allocate_slots(request, num_new_tokens) is None:
            index = self.choose_victim()
            victim = self.running[index]
            if self.log is not None:
                self.log.record_preemption(self, victim, request, num_new_tokens)
            del self.running[index]
            num_regained += self.preempt(victim, output)
            if victim is request:
                break
        return num_regained

    def choose_victim(self) -> int:
        """Return the index of the running request that gives way: usually ``victim_policy``'s.

        A policy can go round in circles: two long prompts that do not fit together take turns in
        displacing each other and neither is ever computed. When as many requests were preempted as
        there are, and not one token came of it, the last one in gives way until one does. Then the
        first in ``running`` keeps what it has, so it gets to its next token.
        """
        self.num_fruitless_preemptions += 1
        if self.num_fruitless_preemptions > len(self.requests):
            return last_in(self.running)
        return self.victim_policy(self.running)

    def preempt(self, victim: Request, output: SchedulerOutput) -> int:
        """Take a request's blocks away, and put it where it waits for its return.

        If it is to be swapped and there is room on the CPU, ``swap_out`` takes care of it.
        Otherwise nothing of it stays computed, and it goes back to ``waiting`` as PREEMPTED. In
        both cases it keeps the tokens that it has generated, ``num_preemptions`` counts one more,
        ``num_tokens_ahead`` (of lesson 12) is 0, and its blocks are freed.

        It may have been served in this step already. Those tokens are not computed now: they are
        taken out of the plan, and the manager is told up to where its tokens are valid, so that no
        block stays in the prefix cache that was never filled. The blocks of the
        pool are not gone through once for each block.

        Args:
            victim: A request that has just been taken out of ``running``.
            output: The plan so far; ``preempted_req_ids`` gets the victim's id.

        Returns:
            The tokens that it had got in this step, which go back to the budget.
        """
        unspent = output.num_scheduled_tokens.pop(victim.request_id, 0)
        num_valid = victim.num_computed_tokens - unspent
        victim.num_preemptions += 1
        victim.num_tokens_ahead = 0
        output.preempted_req_ids.add(victim.request_id)
        if not self.swap_out(victim, num_valid, output):
            victim.num_computed_tokens = 0
            victim.status = RequestStatus.PREEMPTED
            self.waiting.put_back(victim)
        self.kv_cache_manager.free(victim, num_valid_tokens=num_valid)
        return unspent

    def swap_out(self, victim: Request, num_valid_tokens: int, output: SchedulerOutput) -> bool:
        """Copy what a victim has computed to the CPU, if it is to be swapped and fits there.

        The blocks with its computed tokens are added to ``output.blocks_to_swap_out`` as pairs
        (GPU block, CPU block), from its first block on. It becomes SWAPPED and joins ``swapped``:
        in front of those than which it is more urgent (``comes_before`` of the queue), else at the
        end. Its blocks on the GPU are not freed here.

        Args:
            victim: A request that has just been taken out of ``running``.
            num_valid_tokens: Its computed tokens, without those of the step that is being planned.
            output: The plan so far; it is added to.

        Returns:
            Whether it was swapped out. If not, nothing has changed.
        """
        if self.config.preemption_mode == "recompute":
            return False
        manager = self.kv_cache_manager
        num_blocks = -(-num_valid_tokens // manager.block_size)
        cpu_blocks = self.swap_space.reserve(victim.request_id, num_blocks)
        if cpu_blocks is None:
            return False
        # What a block is to be copied from in this step is still to be found only there.
        output.blocks_to_copy += manager.take_block_copies()
        source_of = {destination: source for source, destination in output.blocks_to_copy}
        table = manager.get_block_ids(victim.request_id)
        sources = [source_of.get(block_id, block_id) for block_id in table]
        output.blocks_to_swap_out += zip(sources, cpu_blocks, strict=False)
        victim.num_computed_tokens = num_valid_tokens
        victim.status = RequestStatus.SWAPPED
        later = (i for i, r in enumerate(self.swapped) if self.waiting.comes_before(victim, r))
        self.swapped.insert(next(later, len(self.swapped)), victim)
        return True

    def swap_in(self, output: SchedulerOutput, budget: int) -> int:
        """Bring swapped requests back, in the order of ``swapped``, until one may not start.

        One that is less urgent than the first of ``waiting`` waits until that one is admitted.

        There must be budget, a place in the batch, and blocks for all that the request has on the
        CPU and for at least one token more. Pairs (CPU block, GPU block) are added to
        ``output.blocks_to_swap_in``, from its first block on.

        Args:
            output: The plan so far; it is added to.
            budget: Tokens that may be computed.

        Returns:
            The budget that is left.
        """
        while self.swapped and budget > 0 and len(self.running) < self.max_num_seqs:
            request = self.swapped[0]
            if not self.may_start(request):
                break
            num_lacking = request.num_tokens - request.num_computed_tokens
            num_new = self.limit_chunk(request, num_lacking, budget)
            if not self.take_room(request, num_new):
                break
            self.swapped.popleft()
            cpu_blocks = self.swap_space.release(request.request_id)
            table = self.kv_cache_manager.get_block_ids(request.request_id)
            output.blocks_to_swap_in += zip(cpu_blocks, table, strict=False)
            output.scheduled_resumed_reqs.append(request)
            self.start(request, num_new, output)
            budget -= num_new
        return budget

    def admit_waiting(self, output: SchedulerOutput, budget: int) -> int:
        """Admit waiting requests in service order, until one may not start or does not fit.

        There must be budget and a place in the batch (``self.max_num_seqs``, which may change
        between iterations), and ``may_start`` must agree. What of a request is in the prefix cache
        (``find_hits``) need not be computed and costs no budget. Of the rest of its known tokens it
        gets what ``first_chunk`` says; it waits if that is 0, or if the manager has no room for it
        (``take_room``).

        A request that is admitted leaves ``waiting`` with the tokens of its hits computed, is
        appended, itself and not its id, to ``output.scheduled_new_reqs``, or to
        ``output.scheduled_resumed_reqs`` if it is PREEMPTED, and enters the batch (``start``).

        Args:
            output: The plan so far; it is added to.
            budget: Tokens that may be computed.

        Returns:
            The budget that is left.
        """
        while self.waiting and budget > 0 and len(self.running) < self.max_num_seqs:
            request = self.waiting.peek()
            if not self.may_start(request):
                break
            hits, num_hit_tokens = self.find_hits(request)
            num_new = self.first_chunk(request, request.num_tokens - num_hit_tokens, budget)
            if num_new == 0 or not self.take_room(request, num_new, hits, num_hit_tokens):
                break
            self.waiting.pop()
            request.num_computed_tokens = num_hit_tokens
            if request.status is RequestStatus.PREEMPTED:
                output.scheduled_resumed_reqs.append(request)
            else:
                output.scheduled_new_reqs.append(request)
            self.start(request, num_new, output)
            budget -= num_new
        return budget

    def find_hits(self, request: Request) -> tuple[list[KVCacheBlock], int]:
        """Look up with what of a waiting request the prefix cache can begin.

        Returns:
            The cached blocks, in order, and the tokens in them; ``([], 0)`` without a hit. They are
            held only when ``take_room`` has been given both.
        """
        return self.kv_cache_manager.get_computed_blocks(request)

    def first_chunk(self, request: Request, num_new_tokens: int, budget: int) -> int:
        """Return how many tokens a request computes in the iteration that admits it.

        With chunked prefill: what ``limit_chunk`` allows. Without it, what the threshold leaves is
        not cut to the budget but waits until there is enough; only what is longer than a whole
        iteration is cut all the same, as a preempted request may have become.

        Args:
            request: A waiting request.
            num_new_tokens: Its known tokens that are not in the cache.
            budget: Tokens that may still be computed in this iteration, at least 1.

        Returns:
            A number of tokens; 0 if the request has to wait for a larger budget.
        """
        if not self.config.enable_chunked_prefill:
            uncut = self.limit_chunk(request, num_new_tokens, num_new_tokens)
            if budget < uncut <= self.max_num_batched_tokens:
                return 0
        return self.limit_chunk(request, num_new_tokens, budget)

    def may_start(self, request: Request) -> bool:
        """Whether a request may start in this iteration, if only there is room for it.

        It must be ``next_in_line``, and ``why_not_now`` must have nothing against it.
        """
        return request is self.next_in_line() and not self.why_not_now(request)

    def next_in_line(self) -> Request | None:
        """Return the request that is to start next; None if nobody waits or is swapped out.

        It is the first of ``swapped``, whose memory on the CPU is then free for others, unless the
        first of ``waiting`` is more urgent (``comes_before`` of the queue): under priority an
        important request must not wait for the return of one that is less so.
        """
        if not self.swapped:
            return self.waiting.peek() if self.waiting else None
        if self.waiting and self.waiting.comes_before(self.waiting.peek(), self.swapped[0]):
            return self.waiting.peek()
        return self.swapped[0]

    def why_not_now(self, request: Request) -> str:
        """Say why a request may not start in this iteration, however much room there is.

        This scheduler has no such reason and returns an empty string; a subclass may have one.
        """
        return ""

    def take_room(
        self,
        request: Request,
        num_new_tokens: int,
        hits: Sequence[KVCacheBlock] = (),
        num_hit_tokens: int = 0,
    ) -> bool:
        """Allocate for a request that is to start, if there is room.

        With ``reserve_full_prompt`` there is room only if all of its known tokens would fit.

        Args:
            request: A request that holds no blocks.
            num_new_tokens: Tokens that it is to compute.
            hits: Blocks with which it begins (``find_hits``).
            num_hit_tokens: Tokens in them.

        Returns:
            Whether there was room. If not, nothing has changed.
        """
        new_blocks = self.kv_cache_manager.allocate_slots(
            request,
            num_new_tokens,
            num_hit_tokens,
            hits,
            full_sequence_must_fit=self.config.reserve_full_prompt,
        )
        return new_blocks is not None

    def start(self, request: Request, num_new_tokens: int, output: SchedulerOutput) -> None:
        """Enter a request into the batch, as its last member, and into the plan.

        Args:
            request: A request that has its blocks and is in no queue any more.
            num_new_tokens: Tokens that it computes in this iteration.
            output: The plan so far; it is added to.
        """
        request.status = RequestStatus.RUNNING
        self.running.append(request)
        output.num_scheduled_tokens[request.request_id] = num_new_tokens
        request.num_computed_tokens += num_new_tokens

    def append_tokens(self, request: Request, tokens: Iterable[int]) -> bool:
        """Append tokens up to the one that ends the request; say whether there was one."""
        for token in tokens:
            request.append_output(token)
            if request.num_tokens >= request.length_limit or token == request.eos_token_id:
                return True
        return False

    def leave_queue(self, request: Request) -> None:
        """Take a request out of the queue that it is in; ``let_go`` does so for running ones."""
        if request.status is RequestStatus.SWAPPED:
            self.swapped.remove(request)
            self.swap_space.release(request.request_id)
        elif request.status is not RequestStatus.RUNNING:
            self.waiting.remove(request)

    def let_go(self, ended: Iterable[Request]) -> None:
        """Free what requests hold that have ended, in this order, and forget them.

        Their ids are told to the executor with the next plan (``finished_req_ids``).
        """
        for request in ended:
            del self.requests[request.request_id]
            self.finished_req_ids.add(request.request_id)
            # One that waits may be known to the manager by its hashes, or not at all.
            with contextlib.suppress(UnknownRequestError):
                self.kv_cache_manager.free(request)
        self.running[:] = [r for r in self.running if r.request_id in self.requests]

    def generating(self, output: SchedulerOutput) -> Iterator[Request]:
        """Yield the requests that an iteration computes up to their last known token."""
        for request_id in output.num_scheduled_tokens:
            request = self.requests[request_id]
            if request.num_computed_tokens >= request.num_tokens:
                yield request

    def why_never(self, request: Request) -> str:
        """Say why the prompt of a request can never be computed here.

        It must fit into ``max_model_len``, and so into the pool. Without chunked prefill it must
        also fit into one step of ``config.max_num_batched_tokens`` tokens.

        Returns:
            A sentence with two numbers in it: the prompt's tokens, and the limit that they exceed.
            Empty if the prompt can be computed.

        >>> from course_lib.kv_cache import KVCacheManager
        >>> from course_lib.scheduling import Request, Scheduler, SchedulerConfig
        >>> scheduler = Scheduler(SchedulerConfig(), KVCacheManager(num_blocks=5, block_size=16))
        >>> scheduler.why_never(Request("a", range(64), max_tokens=9))
        ''
        >>> print(scheduler.why_never(Request("b", range(65), max_tokens=9)))
        the prompt has 65 tokens and max_model_len is 64; it would need 5 blocks of 16
        """
        num_tokens, size = request.num_prompt_tokens, self.kv_cache_manager.block_size
        if num_tokens > self.max_model_len:
            return (
                f"the prompt has {num_tokens} tokens and max_model_len is {self.max_model_len}; "
                f"it would need {-(-num_tokens // size)} blocks of {size}"
            )
        budget = self.config.max_num_batched_tokens
        if num_tokens > budget and not self.config.enable_chunked_prefill:
            return (
                f"the prompt has {num_tokens} tokens and a step has {budget}; "
                "raise max_num_batched_tokens, or enable chunked prefill"
            )
        return ""


def status_at_end(request: Request) -> RequestStatus:
    """Return the status of a request that has just got its last token."""
    if request.output_token_ids[-1] == request.eos_token_id:
        return RequestStatus.FINISHED_STOPPED
    return RequestStatus.FINISHED_LENGTH_CAPPED

"""The scheduler: which requests compute how many tokens in the next iteration.

There is no prefill phase and no decode phase. A request has tokens that it knows and tokens that
are computed; in each iteration it is given some of the difference. A decoding request is one whose
difference is 1. Running requests come first, waiting ones after them, all under one token budget.

Behaviour and names follow vLLM 0.33.0 (``vllm/v1/core/sched/scheduler.py``), and where that lets a
request block the queue for ever, this scheduler does not.
"""

from __future__ import annotations

import contextlib
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

from course_lib.kv_cache.block_pool import KVCacheBlock
from course_lib.kv_cache.manager import KVCacheManager, UnknownRequestError
from course_lib.scheduling.policies import RequestQueue, make_queue
from course_lib.scheduling.preemption import VICTIM_POLICIES, VictimPolicy, last_in
from course_lib.scheduling.request import Request, RequestStatus
from course_lib.scheduling.swap import SwapSpace

if TYPE_CHECKING:
    from course_lib.scheduling.decisions import DecisionLog


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
            alone, and without chunked prefill.
        enable_chunked_prefill: Whether a prompt may be computed in several iterations. Without it,
            only what is longer than a whole iteration is, as a preempted request may have become.
        preemption_mode: What becomes of a request that loses its blocks: ``"recompute"`` forgets
            them, ``"swap"`` copies them to the CPU while there is room.
        num_cpu_blocks: Blocks of CPU memory to swap to.
        watermark: Share of the blocks that stays free at admission, unless nothing runs:
            ``int(watermark * num_blocks)`` blocks.
        reserve_full_prompt: Whether a request is admitted only if all of its known tokens would
            fit, and not only the first chunk.
        max_model_len: Most tokens that a request may have, prompt and output; None for what the
            pool can hold.

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
        if isinstance(self.victim_policy, str) and self.victim_policy not in VICTIM_POLICIES:
            raise ValueError(
                f"no victim policy {self.victim_policy!r}; known: {', '.join(VICTIM_POLICIES)}, "
                "or pass a function"
            )


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


class Scheduler:
    """Decides, iteration by iteration, who computes how many tokens.

    A loop around it is a serving engine::

        output = scheduler.schedule()
        sampled = run_the_model(output)          # a token for each request that is caught up
        finished = scheduler.update_from_output(output, sampled)

    Invariants: an iteration computes at most ``max_num_batched_tokens`` tokens of at most
    ``max_num_seqs`` requests; a request is in exactly one of ``waiting``, ``running`` and
    ``swapped`` until it is finished; only running requests hold blocks. Every request comes to its
    end, if only the model keeps answering and no policy prefers later arrivals for ever.

    Args:
        config: Limits and choices.
        kv_cache_manager: Hands out the blocks.
        log: Keeps who got what, and why; None for no such records.

    Attributes:
        requests: All requests that are not finished, by id.
        waiting: Requests to be admitted, in service order.
        running: Requests that hold blocks, in order of admission.
        swapped: Requests whose blocks are on the CPU, in the order in which they come back.
        max_model_len: Most tokens that a request may have.
        max_num_seqs: Most requests that run at the same time. It may be changed between iterations;
            nobody is preempted for it.
        max_num_batched_tokens: Most tokens computed in one iteration; may be changed as well.

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
        log: DecisionLog | None = None,
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
        self._victim_policy = self._make_victim_policy(config.victim_policy)
        self._swap_space = SwapSpace(config.num_cpu_blocks)
        self._finished_req_ids: set[str] = set()
        self._num_fruitless_preemptions = 0

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
        reason = self._why_never(request)
        if reason:
            request.finish_reason = reason
            request.status = RequestStatus.FINISHED_IGNORED
            self._finished_req_ids.add(request.request_id)
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
                tokens or salt differ; or it cannot be added. Nothing changes.
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
        """
        output = SchedulerOutput(finished_req_ids=self._finished_req_ids)
        self._finished_req_ids = set()
        budget = self._schedule_running(output, self.max_num_batched_tokens)
        if not output.preempted_req_ids:
            budget = self._swap_in(output, budget)
            if not self.swapped:
                budget = self._admit(output, budget)
        output.total_num_scheduled_tokens = self.max_num_batched_tokens - budget
        output.blocks_to_copy += self.kv_cache_manager.take_block_copies()
        self.waiting.charge(self._generating(output))
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
            self._num_fruitless_preemptions = 0
            if type(token) is list:
                has_ended = self._append_tokens(request, token)
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
        self._let_go(finished)
        return finished

    def finish_requests(self, request_ids: str | Iterable[str], status: RequestStatus) -> None:
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
            self._leave_queue(request)
            request.status = status
        self._let_go(ended)

    def has_unfinished_requests(self) -> bool:
        """Whether any request is waiting, running or swapped out."""
        return bool(self.requests)

    def _schedule_running(self, output: SchedulerOutput, budget: int) -> int:
        """Serve the running requests, in order, as long as there is budget.

        A request lacks ``num_tokens + num_tokens_ahead - num_computed_tokens`` tokens. It gets as
        many of them as ``_limited`` allows, provided that the manager allocates slots for them. If
        it does not, ``_preempt_for`` makes room; should the request be preempted itself, those
        behind it are served all the same. A request that lacks no token is passed over.

        What a request gets is entered in ``output.num_scheduled_tokens``, is added to its
        ``num_computed_tokens`` and is taken from the budget.

        Args:
            output: The plan so far; it is added to.
            budget: Tokens that may be computed.

        Returns:
            The budget that is left. What victims had got already is in it again.
        """
        running, scheduled = self.running, output.num_scheduled_tokens
        manager, block_size = self.kv_cache_manager, self.kv_cache_manager.block_size
        may_share_last_block = manager.num_forks > 0
        position = 0
        while position < len(running) and budget > 0:
            request = running[position]
            computed = request.num_computed_tokens
            num_new = len(request.all_token_ids) + request.num_tokens_ahead - computed
            # One token in the middle of the last block needs no new block and fills none. This is
            # most of all decodes. Asking the manager for each of 1,024 took 3.1 ms instead of 1.3.
            if (
                num_new != 1
                or not 0 < computed % block_size < block_size - 1
                or may_share_last_block
            ):
                num_new = self._limited(request, num_new, budget)
                if num_new < 1:
                    position += 1
                    continue
                if manager.allocate_slots(request, num_new) is None:
                    in_front = running[:position]
                    budget += self._preempt_for(request, num_new, output)
                    position = sum(r.status is RequestStatus.RUNNING for r in in_front)
                    if request.status is not RequestStatus.RUNNING:
                        continue
            scheduled[request.request_id] = num_new
            request.num_computed_tokens = computed + num_new
            budget -= num_new
            position += 1
        return budget

    def _swap_in(self, output: SchedulerOutput, budget: int) -> int:
        """Bring swapped requests back, first come, first served, until one does not fit.

        There must be budget, a place in the batch, and blocks for all that the request has on the
        CPU and for at least one token more. Pairs (CPU block, GPU block) are added to
        ``output.blocks_to_swap_in``, from its first block on.

        Args:
            output: The plan so far; it is added to.
            budget: Tokens that may be computed.

        Returns:
            The budget that is left.
        """
        manager = self.kv_cache_manager
        while self.swapped and budget > 0 and len(self.running) < self.max_num_seqs:
            request = self.swapped[0]
            if self.why_not_now(request):
                break
            num_new = request.num_tokens - request.num_computed_tokens
            num_new = self._limited(request, num_new, budget)
            if not self._has_room(request, num_new):
                break
            self.swapped.popleft()
            table = manager.get_block_ids(request.request_id)
            cpu_blocks = self._swap_space.release(request.request_id)
            output.blocks_to_swap_in += zip(cpu_blocks, table, strict=False)
            output.scheduled_resumed_reqs.append(request)
            budget -= self._start(request, num_new, output)
        return budget

    def _admit(self, output: SchedulerOutput, budget: int) -> int:
        """Admit waiting requests in service order, until one does not fit.

        There must be budget and a place in the batch. What of a request is in the prefix cache need
        not be computed and costs no budget; the rest of its known tokens is cut by ``_limited``.
        Without chunked prefill it is not cut to the budget, but waits until there is enough, unless
        a whole iteration is not. Then the manager must have room (``_has_room``).

        Who is admitted leaves ``waiting``, joins the end of ``running``, and is listed in
        ``output.scheduled_new_reqs``, or in ``output.scheduled_resumed_reqs`` if it was preempted.

        Args:
            output: The plan so far; it is added to.
            budget: Tokens that may be computed.

        Returns:
            The budget that is left.
        """
        while self.waiting and budget > 0 and len(self.running) < self.max_num_seqs:
            request = self.waiting.peek()
            if self.why_not_now(request):
                break
            hits, num_hit_tokens = self.kv_cache_manager.get_computed_blocks(request)
            num_new = request.num_tokens - num_hit_tokens
            may_be_cut = self.config.enable_chunked_prefill or num_new > self.max_num_batched_tokens
            if num_new > budget and not may_be_cut:
                break
            num_new = self._limited(request, num_new, budget)
            if not self._has_room(request, num_new, num_hit_tokens, hits):
                break
            self.waiting.pop()
            request.num_computed_tokens = num_hit_tokens
            if request.status is RequestStatus.PREEMPTED:
                output.scheduled_resumed_reqs.append(request)
            else:
                output.scheduled_new_reqs.append(request)
            budget -= self._start(request, num_new, output)
        return budget

    def why_not_now(self, request: Request) -> str:
        """Say why a request may not start in this iteration, however much room there is.

        This scheduler has no such reason and returns an empty string; a subclass may have one.
        """
        return ""

    def _has_room(
        self,
        request: Request,
        num_new: int,
        num_hit_tokens: int = 0,
        hits: Sequence[KVCacheBlock] = (),
    ) -> bool:
        """Allocate for a request that is to start; say whether there was room.

        With ``reserve_full_prompt`` there is room only if all of its known tokens would fit.
        """
        new_blocks = self.kv_cache_manager.allocate_slots(
            request,
            num_new,
            num_hit_tokens,
            hits,
            full_sequence_must_fit=self.config.reserve_full_prompt,
        )
        return new_blocks is not None

    def _start(self, request: Request, num_new: int, output: SchedulerOutput) -> int:
        """Enter a request that has its blocks into the batch; return the tokens that it takes."""
        request.status = RequestStatus.RUNNING
        self.running.append(request)
        output.num_scheduled_tokens[request.request_id] = num_new
        request.num_computed_tokens += num_new
        return num_new

    def _limited(self, request: Request, num_new: int, budget: int) -> int:
        """Cut a request's tokens to the budget, and to the threshold for long prompts.

        The threshold counts only with chunked prefill, and if there is another request at all.
        """
        threshold = self.config.long_prefill_token_threshold
        if (
            0 < threshold < num_new
            and len(self.requests) > 1
            and self.config.enable_chunked_prefill
        ):
            num_new = threshold
        return min(num_new, budget)

    def _preempt_for(self, request: Request, num_new: int, output: SchedulerOutput) -> int:
        """Preempt running requests until this one has room, or is itself preempted.

        Returns:
            The tokens that the victims were to compute in this iteration, and now do not.
        """
        num_regained = 0
        while self.kv_cache_manager.allocate_slots(request, num_new) is None:
            index = self._choose_victim()
            victim = self.running[index]
            if self.log is not None:
                self.log.record_preemption(self, victim, request, num_new)
            del self.running[index]
            num_regained += self._preempt(victim, output)
            if victim is request:
                break
        return num_regained

    def _choose_victim(self) -> int:
        """Return the index of the running request that gives way.

        A policy can go round in circles: two long prompts that do not fit together take turns in
        displacing each other and neither is ever computed. When as many requests were preempted as
        there are, and not one token came of it, the last one in gives way until one does. Then the
        first in ``running`` keeps what it has, so it gets to its next token.
        """
        self._num_fruitless_preemptions += 1
        if self._num_fruitless_preemptions > len(self.requests):
            return last_in(self.running)
        return self._victim_policy(self.running)

    def _preempt(self, victim: Request, output: SchedulerOutput) -> int:
        """Take a request's blocks away.

        If it is swapped, the blocks with its computed tokens are added to
        ``output.blocks_to_swap_out`` as pairs (GPU block, CPU block), and it joins the end of
        ``swapped``. If there is no room on the CPU, or it is to be recomputed, it goes back to
        ``waiting`` with nothing computed. In both cases it keeps the tokens that it has generated.

        Args:
            victim: A request that has just been taken out of ``running``. It may have been served
                in this step already; what it got is taken out of ``output`` again.
            output: The plan so far.

        Returns:
            The tokens that it had got in this step, which go back to the budget.
        """
        request_id = victim.request_id
        unspent = output.num_scheduled_tokens.pop(request_id, 0)
        # What it was to compute in this very step is not computed, so it must not stay cached.
        num_valid = victim.num_computed_tokens - unspent
        victim.num_preemptions += 1
        victim.num_tokens_ahead = 0
        output.preempted_req_ids.add(request_id)
        cpu_blocks = self._reserve_cpu_blocks(request_id, num_valid)
        if cpu_blocks is None:
            victim.num_computed_tokens = 0
            victim.status = RequestStatus.PREEMPTED
            self.waiting.put_back(victim)
        else:
            table = self.kv_cache_manager.get_block_ids(request_id)
            # What a block is to be copied from in this step is still to be found only there.
            output.blocks_to_copy += self.kv_cache_manager.take_block_copies()
            source_of = {destination: source for source, destination in output.blocks_to_copy}
            table = [source_of.get(block_id, block_id) for block_id in table]
            output.blocks_to_swap_out += zip(table, cpu_blocks, strict=False)
            victim.num_computed_tokens = num_valid
            victim.status = RequestStatus.SWAPPED
            self.swapped.append(victim)
        self.kv_cache_manager.free(victim, num_valid_tokens=num_valid)
        return unspent

    def _reserve_cpu_blocks(self, request_id: str, num_tokens: int) -> list[int] | None:
        """Return CPU blocks to swap this many tokens to; None if they are to be recomputed."""
        if self.config.preemption_mode == "recompute":
            return None
        num_blocks = -(-num_tokens // self.kv_cache_manager.block_size)
        return self._swap_space.reserve(request_id, num_blocks)

    def _append_tokens(self, request: Request, tokens: Iterable[int]) -> bool:
        """Append tokens up to the one that ends the request; say whether there was one."""
        for token in tokens:
            request.append_output(token)
            if request.num_tokens >= request.length_limit or token == request.eos_token_id:
                return True
        return False

    def _leave_queue(self, request: Request) -> None:
        """Take a request out of the queue that it is in; ``_let_go`` does so for running ones."""
        if request.status is RequestStatus.SWAPPED:
            self.swapped.remove(request)
            self._swap_space.release(request.request_id)
        elif request.status is not RequestStatus.RUNNING:
            self.waiting.remove(request)

    def _let_go(self, ended: Iterable[Request]) -> None:
        """Free what requests hold that have ended, in this order, and forget them."""
        for request in ended:
            del self.requests[request.request_id]
            self._finished_req_ids.add(request.request_id)
            # One that waits may be known to the manager by its hashes, or not at all.
            with contextlib.suppress(UnknownRequestError):
                self.kv_cache_manager.free(request)
        self.running[:] = [r for r in self.running if r.request_id in self.requests]

    def _generating(self, output: SchedulerOutput) -> Iterator[Request]:
        """Yield the requests that an iteration computes up to their last known token."""
        for request_id in output.num_scheduled_tokens:
            request = self.requests[request_id]
            if request.num_computed_tokens >= request.num_tokens:
                yield request

    def _make_victim_policy(self, policy: str | VictimPolicy | None) -> VictimPolicy:
        """Return the victim policy of this name, the one given, or what goes with the queue."""
        if policy is None:
            return self.waiting.choose_victim
        return VICTIM_POLICIES[policy] if isinstance(policy, str) else policy

    def _why_never(self, request: Request) -> str:
        """Say why a prompt can never be computed here; empty if it can."""
        size = self.kv_cache_manager.block_size
        if request.num_prompt_tokens > self.max_model_len:
            return (
                f"the prompt has {request.num_prompt_tokens} tokens and max_model_len is "
                f"{self.max_model_len}; it would need "
                f"{-(-request.num_prompt_tokens // size)} blocks of {size}"
            )
        budget = self.config.max_num_batched_tokens
        if request.num_prompt_tokens > budget and not self.config.enable_chunked_prefill:
            return (
                f"the prompt has {request.num_prompt_tokens} tokens and an iteration has {budget}; "
                "raise max_num_batched_tokens, or enable chunked prefill"
            )
        return ""


def status_at_end(request: Request) -> RequestStatus:
    """Return the status of a request that has just got its last token."""
    if request.output_token_ids[-1] == request.eos_token_id:
        return RequestStatus.FINISHED_STOPPED
    return RequestStatus.FINISHED_LENGTH_CAPPED

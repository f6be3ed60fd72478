"""What happens inside one ``schedule``, decision by decision, for figures and for questions.

A scheduler is watched from outside: through its log, and through the calls that it makes of its
manager. So it may be the library's, a variant, or a learner's own.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from enum import Enum
from itertools import count

from course_lib.kv_cache.watch.recorder import Frame, snapshot_blocks
from course_lib.kv_cache.watch.watching import Call, watch
from course_lib.scheduling.decisions import Action, DecisionLog
from course_lib.scheduling.request import Request
from course_lib.scheduling.scheduler import Scheduler, SchedulerOutput
from course_lib.scheduling.variants.speculative import SpeculativeScheduler
from course_lib.scheduling.watch.driver import sampled_tokens
from course_lib.scheduling.watch.state import SchedulerState

NUM_DRAFTS = 3
"""Drafts that ``run_moments`` gives for a request."""


class Happening(Enum):
    """What happens at a moment of an iteration."""

    BEGINS = "begins"
    SERVES = "is served"
    LACKS_ROOM = "lacks room"
    PREEMPTS = "is preempted"
    ADMITS = "is admitted"
    WAITS = "waits"
    ENDS = "the plan is complete"


@dataclass(frozen=True)
class Moment:
    """One moment of an iteration, and all that can be seen then.

    Attributes:
        step: Number of the iteration.
        happening: What has just happened.
        request_id: To whom; empty where it concerns nobody or all.
        num_tokens: Tokens that the request got, or that a victim gave back.
        num_hit_tokens: Tokens that a request found in the prefix cache when it was admitted.
        reason: Why it waits or gives way, in the words of the ``DecisionLog``.
        before: The state when the iteration began.
        state: The state at this moment.
        plan: Tokens planned so far, by request, in the order of service.
        blocks: The pool and the block tables, as ``snapshot_blocks`` returns them.
        block_size: Tokens per block.
        finished: Who ended since the plan before; only where an iteration begins.
        reasons: Why each request waits that does; only where an iteration waits or ends.
    """

    step: int
    happening: Happening
    request_id: str
    num_tokens: int
    num_hit_tokens: int
    reason: str
    before: SchedulerState
    state: SchedulerState
    plan: Mapping[str, int]
    blocks: Frame
    block_size: int
    finished: tuple[str, ...] = ()
    reasons: Mapping[str, str] = field(default_factory=dict)

    @property
    def budget_left(self) -> int:
        """Tokens that may still be planned."""
        return self.before.max_num_batched_tokens - sum(self.plan.values())

    def num_computed_before(self, request_id: str) -> int:
        """Return the tokens of a request that were computed when the iteration began."""
        request = self.before.requests.get(request_id)
        return request.num_computed_tokens if request else 0


@contextmanager
def watch_plans(scheduler: Scheduler, first_step: int = 0) -> Iterator[list[Moment]]:
    """Record the moments of every iteration that a scheduler plans inside the ``with`` block.

    Whoever asks it for the plans, such as a simulator or an engine, notices nothing.

    Args:
        scheduler: The scheduler. A log that it has is told as ever.
        first_step: Number of the next iteration.

    Yields:
        The moments in order, a list that grows. The first one of an iteration shows the state in
        which it begins.

    >>> from course_lib.kv_cache import KVCacheManager
    >>> from course_lib.scheduling import SchedulerConfig
    >>> config = SchedulerConfig(max_num_batched_tokens=16)
    >>> scheduler = Scheduler(config, KVCacheManager(num_blocks=3))
    >>> for name in "ab":
    ...     scheduler.add_request(Request(name, [ord(name)] * 30, max_tokens=2))
    >>> with watch_plans(scheduler) as moments:
    ...     output = scheduler.schedule()
    >>> for each in moments[1:3]:
    ...     print(each.happening.value, each.request_id, each.reason or each.num_tokens)
    is admitted a 16
    waits b the budget of 16 tokens is spent
    >>> moments[0].happening.value, moments[-1].happening.value, output.num_scheduled_tokens
    ('begins', 'the plan is complete', {'a': 16})
    """
    plan = scheduler.schedule
    moments: list[Moment] = []
    steps = count(first_step)

    def plan_watched() -> SchedulerOutput:
        watcher = _Watcher(scheduler, next(steps))
        told, scheduler.log = scheduler.log, watcher
        try:
            with watch(scheduler.kv_cache_manager, watcher):
                output = plan()
        finally:
            scheduler.log = told
        watcher.complete(output)
        moments.extend(watcher.moments)
        return output

    scheduler.schedule = plan_watched  # type: ignore[method-assign]  # for this one object
    try:
        yield moments
    finally:
        del scheduler.schedule


def run_moments(
    scheduler: Scheduler,
    arrivals: Mapping[int, Sequence[Request]],
    num_steps: int,
    *,
    max_in_flight: int = 1,
) -> list[Moment]:
    """Let a scheduler plan iterations, answer them as a model would, and say what happened.

    A ``SpeculativeScheduler`` is given ``NUM_DRAFTS`` drafts for each request before each
    iteration, and the first of them is accepted.

    Args:
        scheduler: The scheduler.
        arrivals: The requests that arrive before each iteration, by its number.
        num_steps: Iterations, from 0; fewer if all requests end before.
        max_in_flight: Plans that may be on their way, at least 1; 2 for an ``AsyncScheduler``.

    >>> from course_lib.kv_cache import KVCacheManager
    >>> from course_lib.scheduling import SchedulerConfig
    >>> scheduler = Scheduler(SchedulerConfig(), KVCacheManager(num_blocks=9))
    >>> arrivals = {0: [Request("a", range(20), max_tokens=2)]}
    >>> [each.happening.value for each in run_moments(scheduler, arrivals, num_steps=5)][-3:]
    ['begins', 'is served', 'the plan is complete']
    """
    in_flight: deque[tuple[SchedulerOutput, dict[str, int | list[int]]]] = deque()
    with watch_plans(scheduler) as moments:
        for step in range(num_steps):
            for request in arrivals.get(step, ()):
                scheduler.add_request(request)
            if not scheduler.has_unfinished_requests():
                break
            if isinstance(scheduler, SpeculativeScheduler):
                drafts = [-1 - number for number in range(NUM_DRAFTS)]
                scheduler.add_drafts({request.request_id: drafts for request in scheduler.running})
            output = scheduler.schedule()
            in_flight.append((output, _answers(scheduler, output)))
            if len(in_flight) >= max_in_flight:
                scheduler.update_from_output(*in_flight.popleft())
    return moments


def _answers(scheduler: Scheduler, output: SchedulerOutput) -> dict[str, int | list[int]]:
    """Return tokens for a plan: some that are in no prompt and were generated for nobody else."""
    order = {name: index for index, name in enumerate(scheduler.requests)}

    def next_token(request: Request, num_generated: int) -> int:
        return 10_000 * (num_generated + 1) + order[request.request_id]

    sampled = sampled_tokens(scheduler, output, next_token)
    for name, drafts in output.scheduled_spec_decode_tokens.items():
        request = scheduler.requests[name]
        sampled[name] = [drafts[0], next_token(request, len(request.output_token_ids) + 1)]
    return sampled


class _Watcher:
    """Puts the moments of one iteration together from what a scheduler and its manager tell.

    It is the scheduler's log and an observer of the manager's calls at the same time. A request
    that needs no call is found out later: its computed tokens have moved.
    """

    def __init__(self, scheduler: Scheduler, step: int) -> None:
        self.moments: list[Moment] = []
        self._scheduler = scheduler
        self._told = scheduler.log
        self._decisions = DecisionLog()
        self._step = step
        self._before = SchedulerState.of(scheduler)
        self._progress = {
            name: request.num_computed_tokens for name, request in self._before.requests.items()
        }
        self._plan: dict[str, int] = {}
        self._num_hit_tokens: dict[str, int] = {}
        self._victim = ""
        self._blocks = snapshot_blocks(scheduler.kv_cache_manager)
        self._add(Happening.BEGINS)

    def before(self) -> None:
        """Note who was served since the last call."""
        self._catch_up()

    def after(self, call: Call) -> None:
        """Note what a call has changed."""
        self._blocks = snapshot_blocks(self._scheduler.kv_cache_manager)
        if call.operation == "allocate_slots" and call.result is not None:
            request, _, *rest = call.arguments
            hits = rest[0] if rest else call.keywords.get("num_new_computed_tokens", 0)
            self._num_hit_tokens[request.request_id] = hits
        elif call.operation == "free" and self._victim:
            victim, self._victim = self._victim, ""
            request = self._scheduler.requests[victim]
            self._progress[victim] = request.num_computed_tokens
            self._add(Happening.PREEMPTS, victim, self._plan.pop(victim, 0))

    def record_preemption(
        self, scheduler: Scheduler, victim: Request, winner: Request, num_new_tokens: int
    ) -> None:
        """Note that one request gives way to another."""
        self._catch_up()
        self._add(Happening.LACKS_ROOM, winner.request_id, num_new_tokens)
        self._victim = victim.request_id
        for log in filter(None, (self._decisions, self._told)):
            log.record_preemption(scheduler, victim, winner, num_new_tokens)

    def record_step(self, scheduler: Scheduler, output: SchedulerOutput) -> None:
        """Note that the plan is complete, and why whoever waits does so."""
        self._catch_up()
        finished = tuple(sorted(output.finished_req_ids))
        self.moments[0] = replace(self.moments[0], finished=finished)
        for log in filter(None, (self._decisions, self._told)):
            log.record_step(scheduler, output)
        given_way = (Action.IS_PREEMPTED, Action.IS_SWAPPED_OUT)
        decisions = self._decisions.of_step(0)
        self._explain([each.reason for each in decisions if each.action in given_way])
        reasons = {
            each.request_id: each.reason for each in decisions if each.action is Action.WAITS
        }
        if reasons:
            first, reason = next(iter(reasons.items()))
            self._add(Happening.WAITS, first, reason=reason, reasons=reasons)
        self._add(Happening.ENDS, num_tokens=sum(self._plan.values()), reasons=reasons)

    def complete(self, output: SchedulerOutput) -> None:
        """Note the end of the plan, if the scheduler told its log nothing of it."""
        if self.moments[-1].happening is not Happening.ENDS:
            self.record_step(self._scheduler, output)

    def _catch_up(self) -> None:
        """Add a moment for each request that was served since the last one."""
        for request in list(self._scheduler.running):
            name, num_computed = request.request_id, request.num_computed_tokens
            moved = num_computed - self._progress.get(name, 0)
            if moved <= 0:
                continue
            has_run = name in self._before.running
            num_hit_tokens = 0 if has_run else self._num_hit_tokens.get(name, 0)
            self._progress[name] = num_computed
            self._plan[name] = moved - num_hit_tokens
            happening = Happening.SERVES if has_run else Happening.ADMITS
            self._add(happening, name, self._plan[name], num_hit_tokens=num_hit_tokens)

    def _explain(self, reasons: Sequence[str]) -> None:
        """Give each preemption, and the lack before it, its reason."""
        for happening in (Happening.LACKS_ROOM, Happening.PREEMPTS):
            places = [i for i, each in enumerate(self.moments) if each.happening is happening]
            for place, reason in zip(places, reasons, strict=False):
                self.moments[place] = replace(self.moments[place], reason=reason)

    def _add(
        self,
        happening: Happening,
        request_id: str = "",
        num_tokens: int = 0,
        *,
        num_hit_tokens: int = 0,
        reason: str = "",
        reasons: Mapping[str, str] | None = None,
    ) -> None:
        """Add a moment. Who was served meanwhile and is not told yet, stands where it stood."""
        state = SchedulerState.of(self._scheduler)
        requests = {
            name: replace(
                request,
                num_computed_tokens=self._progress.get(name, request.num_computed_tokens),
            )
            for name, request in state.requests.items()
        }
        self.moments.append(
            Moment(
                step=self._step,
                happening=happening,
                request_id=request_id,
                num_tokens=num_tokens,
                num_hit_tokens=num_hit_tokens,
                reason=reason,
                before=self._before,
                state=replace(state, requests=requests),
                plan=dict(self._plan),
                blocks=self._blocks,
                block_size=self._scheduler.kv_cache_manager.block_size,
                reasons=reasons or {},
            )
        )

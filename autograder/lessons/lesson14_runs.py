"""The request trace: schedulers of its hunt, and runs of one workload with their traces."""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Callable, Mapping
from functools import cache
from typing import Any

from course_lib.engine.tracing.blocks import BlockObserver
from course_lib.engine.tracing.log import TraceLog
from course_lib.engine.tracing.trace import Trace
from course_lib.kv_cache.manager import KVCacheManager
from course_lib.kv_cache.watch.watching import watch
from course_lib.scheduling.decisions import Action, DecisionLog
from course_lib.scheduling.request import Request, RequestStatus
from course_lib.scheduling.scheduler import Scheduler, SchedulerConfig, SchedulerOutput
from course_lib.scheduling.variants.async_scheduler import AsyncScheduler
from course_lib.scheduling.watch.driver import sampled_tokens
from course_lib.steps import StepTable

NUM_BLOCKS = 21
Told = tuple[int | None, str, str]
"""A step, an action and a request, as a trace tells them."""
Tokens = dict[str, int]
"""A token by request."""


class SuspectScheduler(AsyncScheduler):
    """Plans one step ahead, like the scheduler of lesson 12, and takes tokens in with a guard."""

    def update_from_output(
        self, output: SchedulerOutput, sampled: Mapping[str, int | list[int]]
    ) -> list[Request]:
        """Take in the tokens of the oldest step in flight."""
        planned = self.in_flight.popleft()[1]
        delivered: dict[str, int | list[int]] = {}
        for request_id, token in sampled.items():
            request = self.requests.get(request_id)
            if request is None or request is not planned.get(request_id):
                continue
            if request.status is not RequestStatus.RUNNING:
                continue
            delivered[request_id] = token
            request.num_tokens_ahead = max(request.num_tokens_ahead - 1, 0)
        return Scheduler.update_from_output(self, output, delivered)


class FixA(SuspectScheduler):
    """Lets nobody start in the step behind one that preempts."""

    pauses = False

    def admit_waiting(self, output: SchedulerOutput, budget: int) -> int:
        """Admit who waits, but for this one step."""
        return budget if self.pauses else super().admit_waiting(output, budget)

    def schedule(self) -> SchedulerOutput:
        """Plan, and remember whether somebody gave way."""
        output = super().schedule()
        self.pauses = bool(output.preempted_req_ids)
        return output


class FixB(AsyncScheduler):
    """Takes a token in for whoever has the name that it was computed for."""

    def update_from_output(
        self, output: SchedulerOutput, sampled: Mapping[str, int | list[int]]
    ) -> list[Request]:
        """Take in the tokens of the oldest step in flight."""
        self.in_flight.popleft()
        timely: dict[str, int | list[int]] = {}
        late: dict[str, int | list[int]] = {}
        for request_id, token in sampled.items():
            request = self.requests.get(request_id)
            if request is None:
                continue
            if request.status is RequestStatus.RUNNING:
                timely[request_id] = token
                request.num_tokens_ahead = max(request.num_tokens_ahead - 1, 0)
            else:
                late[request_id] = token
        return Scheduler.update_from_output(self, output, timely) + self.deliver_late(late)


SortTokens = Callable[[Tokens, Mapping[str, tuple[int, str]], Tokens], tuple[Tokens, Tokens]]


def mended(sort_tokens: SortTokens) -> type[AsyncScheduler]:
    """Return a scheduler that takes tokens in as ``sort_tokens`` says."""

    class Mended(AsyncScheduler):
        """Takes tokens in as a function says."""

        def update_from_output(
            self, output: SchedulerOutput, sampled: Mapping[str, int | list[int]]
        ) -> list[Request]:
            """Take in the tokens of the oldest step in flight."""
            planned = self.in_flight.popleft()[1]
            alive = {name: (id(each), each.status.name) for name, each in self.requests.items()}
            plan = {name: id(each) for name, each in planned.items()}
            tokens = {name: token for name, token in sampled.items() if isinstance(token, int)}
            timely, late = sort_tokens(plan, alive, tokens)
            for name in timely:
                request = self.requests[name]
                request.num_tokens_ahead = max(request.num_tokens_ahead - 1, 0)
            return Scheduler.update_from_output(self, output, timely) + self.deliver_late(late)

    return Mended


def _workload() -> list[Request]:
    draw = random.Random(1)
    return [
        Request(
            f"r{number}",
            [draw.randrange(1000) for _ in range(draw.randint(60, 199))],
            draw.randint(10, 59),
        )
        for number in range(24)
    ]


def _next_token(request: Request, num_generated: int) -> int:
    return (31 * sum(map(ord, request.request_id)) + 7 * num_generated) % 997


class Served:
    """A run of the workload, with two plans in flight, and its trace.

    Args:
        kind: The scheduler.

    Attributes:
        answers: The tokens of each answer.
        num_steps: Steps.
        num_tokens: Tokens that were computed.
        trace: What was seen, as a tracer tells it.
    """

    def __init__(self, kind: type[AsyncScheduler]) -> None:
        self._log = TraceLog()
        self._manager = KVCacheManager(NUM_BLOCKS)
        self._decisions = DecisionLog()
        self._scheduler = kind(SchedulerConfig(), self._manager, log=self._decisions)
        requests = _workload()
        self.num_steps = self.num_tokens = 0
        for request in requests:
            now = self._log.now()
            known = {"request_id": request.request_id, "num_tokens": request.num_prompt_tokens}
            self._log.add("api", "arrives", now, now, **known)
            self._scheduler.add_request(request)
        with watch(self._manager, BlockObserver(self._manager, self._log)):
            self._run()
        self.answers = {each.request_id: each.output_token_ids for each in requests}
        self.trace = Trace(self._log.events, StepTable([]), self._log.queues)

    def _run(self) -> None:
        in_flight: deque[tuple[int, SchedulerOutput, dict[str, int | list[int]]]] = deque()
        while self._scheduler.has_unfinished_requests() or in_flight:
            if self._scheduler.has_unfinished_requests():
                output, sampled = self._plan()
                in_flight.append((self.num_steps, output, sampled))
                self.num_steps += 1
                self.num_tokens += output.total_num_scheduled_tokens
            if len(in_flight) > 1 or not self._scheduler.has_unfinished_requests():
                self._take_in(*in_flight.popleft())

    def _plan(self) -> tuple[SchedulerOutput, dict[str, int | list[int]]]:
        """Plan a step, and write down what was decided and what the model chooses."""
        log, scheduler = self._log, self._scheduler
        log.step = self.num_steps
        start = log.now()
        self._decisions.decisions.clear()
        output = scheduler.schedule()
        for each in self._decisions.decisions:
            if each.action is Action.WAITS:
                log.add_wait(each.request_id, start, log.now(), each.reason)
                continue
            known: dict[str, Any] = {"request_id": each.request_id, "reason": each.reason}
            if each.num_tokens:
                computed = scheduler.requests[each.request_id].num_computed_tokens
                known |= {"num_tokens": each.num_tokens, "position": computed - each.num_tokens}
            log.add("scheduler", each.action.value, start, log.now(), **known)
        sampled = sampled_tokens(scheduler, output, _next_token)
        for name, token in sampled.items():
            known = {"request_id": name, "token_id": token, "text": f"<{token}>"}
            log.add("sampler", "chooses", log.now(), log.now(), **known)
        return output, sampled

    def _take_in(
        self, step: int, output: SchedulerOutput, sampled: dict[str, int | list[int]]
    ) -> None:
        """Take the tokens of a step in, and write down whose answer has grown."""
        log, scheduler = self._log, self._scheduler
        log.step = step
        alive = dict(scheduler.requests)
        before = {name: len(request.output_token_ids) for name, request in alive.items()}
        ended = scheduler.update_from_output(output, sampled)
        now = log.now()
        for name, request in alive.items():
            if len(request.output_token_ids) > before[name]:
                newest = request.output_token_ids[-1]
                known = {"request_id": name, "token_id": newest, "text": f"<{newest}>"}
                log.add("detokenizer", "shows", now, now, **known)
        for request in ended:
            log.add("scheduler", "finishes", now, now, request_id=request.request_id)
        log.step = None

    @property
    def told(self) -> list[Told]:
        """Steps, actions and requests: what the trace tells, in a few words."""
        return [(e.step, e.action, e.request_id) for e in self.trace if e.request_id is not None]


@cache
def told_by(kind: type[AsyncScheduler]) -> tuple[Told, ...]:
    """Return what the trace of a run tells; a run takes a second, and is the same each time."""
    return tuple(Served(kind).told)


def stranger(kind: type[AsyncScheduler]) -> list[int]:
    """Return the answer of a request that comes under a name which was aborted a moment ago.

    The token of the aborted one, 666, is still on its way then. The newcomer's own are 1 and 2.
    """
    scheduler = kind(SchedulerConfig(), KVCacheManager(NUM_BLOCKS))
    scheduler.add_request(Request("a", range(20), max_tokens=9))
    first = scheduler.schedule()
    scheduler.finish_requests("a", RequestStatus.FINISHED_ABORTED)
    newcomer = Request("a", range(100, 120), max_tokens=2)
    scheduler.add_request(newcomer)
    second = scheduler.schedule()
    scheduler.update_from_output(first, {"a": 666})
    scheduler.update_from_output(second, {"a": 1})
    if scheduler.has_unfinished_requests():
        scheduler.update_from_output(scheduler.schedule(), {"a": 2})
    return newcomer.output_token_ids

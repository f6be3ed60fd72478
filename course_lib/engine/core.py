"""The core of the engine: requests in, one step at a time, tokens added to their answers.

It knows neither prompts nor texts in the user's sense: ``intake`` makes requests of these, and
``engine`` runs the steps that its users ask for.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from course_lib.engine.answer import Answer, AnswerGroup
from course_lib.engine.engine_parts import EngineParts
from course_lib.engine.executor import Executor, StepResult
from course_lib.engine.interrupts import deferred_interrupts
from course_lib.engine.metrics import EngineMetrics
from course_lib.engine.prompts import PromptError
from course_lib.engine.request import EngineRequest
from course_lib.kv_cache.watch.invariants import InvariantError
from course_lib.scheduling.request import RequestStatus
from course_lib.scheduling.scheduler import Scheduler, SchedulerOutput


class EngineDeadError(RuntimeError):
    """The engine has stopped for good, because a step of it failed."""


@dataclass(frozen=True, slots=True)
class StepRecord:
    """One step of an engine. Times are seconds of ``time.monotonic``, each after the one before.

    Attributes:
        index: Number of the step, from 0.
        output: What the scheduler planned.
        sampled: The tokens that were sampled, by the scheduler's request id.
        answers: The answers that they were added to, by the same ids.
        forked: Requests that began in this step with the blocks of another one, by that one's id.
        started: The step began: before it was planned.
        scheduled: The plan was made.
        computed: The model was done.
        sampled_at: The tokens were sampled, and nobody had been told yet.
        finished: Scheduler and answers had taken them in.
    """

    index: int
    output: SchedulerOutput
    sampled: dict[str, int]
    answers: dict[str, Answer]
    forked: dict[str, list[str]]
    started: float
    scheduled: float
    computed: float
    sampled_at: float
    finished: float


class EngineCore:
    """Runs the requests of an engine, step by step.

    A step that fails leaves a state that nobody can vouch for. From then on every call raises
    EngineDeadError.

    Args:
        scheduler: Plans the steps.
        executor: Carries the plans out.
        parts: The parts that it runs on; they say whose an error is.

    Attributes:
        scheduler: Plans the steps.
        executor: Carries the plans out.
        metrics: What it counts.
        groups: The requests that are not finished, by the user's name for them.
        answers: Every answer of these groups, with its group, by the id of its request at the
            scheduler.
        changed: What has something new that nobody has fetched yet, by the user's name.
        last_step: The newest step; None before the first.
        failure: Why it has stopped; None while it works.
    """

    def __init__(self, scheduler: Scheduler, executor: Executor, parts: EngineParts) -> None:
        self.scheduler = scheduler
        self.executor = executor
        self.metrics = EngineMetrics()
        self.groups: dict[str, AnswerGroup] = {}
        self.answers: dict[str, tuple[AnswerGroup, Answer]] = {}
        self.changed: dict[str, AnswerGroup] = {}
        self.last_step: StepRecord | None = None
        self.failure: Exception | None = None
        self._parts = parts

    def require_alive(self) -> None:
        """Raise EngineDeadError if a step has failed."""
        if self.failure is not None:
            raise EngineDeadError(
                f"this engine has stopped: {self.failure}; make a new LLM"
            ) from self.failure

    def add(self, group: AnswerGroup) -> None:
        """Give a request to the scheduler: its first answer; the others begin when it is read.

        Raises:
            PromptError: The scheduler can never serve it. Nothing changes.
            EngineDeadError: A step has failed before.
        """
        self.require_alive()
        first = group.answers[0].request
        with self._explaining(f"when request {group.request_id!r} was added"):
            self.scheduler.add_request(first)
        if first.is_finished:
            raise PromptError(first.finish_reason)
        self.groups[group.request_id] = group
        self.answers |= {each.request.request_id: (group, each) for each in group.answers}
        self._count_now()

    def abort(self, request_ids: Iterable[str]) -> None:
        """End requests; those that are finished or unknown are passed over."""
        for group in [self.groups[name] for name in request_ids if name in self.groups]:
            live = [answer for answer in group.answers if answer.finish_reason is None]
            self.metrics.finished["abort"] += len(live)
            for answer in live:
                answer.abort()
            self.forget(group)
            self.changed.pop(group.request_id, None)
            if self.failure is None:
                names = [answer.request.request_id for answer in live]
                with self._explaining(f"when request {group.request_id!r} was aborted"):
                    self.scheduler.finish_requests(names, RequestStatus.FINISHED_ABORTED)
        self._count_now()

    def advance(self) -> None:
        """Run one step, undisturbed by Ctrl-C.

        Raises:
            PartError: A part of the learner's own failed.
            InvariantError: Something is not as it must be, and somebody looks after it.
            EngineDeadError: A step has failed before.
        """
        self.require_alive()
        with deferred_interrupts(), self._explaining(f"in step {self.metrics.num_steps}"):
            self.last_step = self.step()
            self._count_now()

    def step(self) -> StepRecord:
        """Plan, compute, and take in what came of it.

        The scheduler plans; prompts that end in this step get their other answers (``fork``); the
        executor carries the plan out. Then the scheduler is told the sampled tokens
        (``update_from_output``), and after it the answers (``take_in``, with the time at which the
        plan was made): an answer asks its request whether it is over. Each of the five is called
        once in every step, also where nothing is planned or sampled. What has something new is in
        ``changed`` afterwards, and ``metrics.num_steps`` is one more.

        Returns:
            The step: its number, from 0; the plan; the sampled token ids, and the answers that
            they are added to, by the id of the request; the ids of those that were forked; and
            when it began, was planned, was computed (``StepResult.computed_at``), had its tokens
            (before anybody was told), and was over, in seconds of ``time.monotonic``.
        """
        started = time.monotonic()
        output = self.scheduler.schedule()
        forks = self.fork(output)
        scheduled = time.monotonic()
        result = self.executor.execute(output, forks)
        sampled_at = time.monotonic()
        sampled = {name: token.token_id for name, token in result.sampled.items()}
        answers = {name: self.answers[name][1] for name in sampled}
        self.scheduler.update_from_output(output, sampled)
        self.take_in(output, result, scheduled)
        self.metrics.num_steps += 1
        return StepRecord(
            self.metrics.num_steps - 1,
            output,
            sampled,
            answers,
            {name: [child.request_id for child in children] for name, children in forks.items()},
            started,
            scheduled,
            result.computed_at,
            sampled_at,
            time.monotonic(),
        )

    def fork(self, output: SchedulerOutput) -> dict[str, list[EngineRequest]]:
        """Give every prompt that is computed in this step its other answers.

        Args:
            output: The plan of the step.

        Returns:
            The requests of those that begin at once, by the id of the request whose blocks they
            share. The others wait; they draw the same tokens when their turn comes.
        """
        forks: dict[str, list[EngineRequest]] = {}
        for name in output.num_scheduled_tokens:
            group, _ = self.answers[name]
            request = group.answers[0].request
            if group.is_forked or request.num_computed_tokens < request.num_tokens:
                continue
            group.is_forked = True
            children = [answer.request for answer in group.answers[1:]]
            running = [child for child in children if self.scheduler.fork_request(name, child)]
            if running:
                forks[name] = running
        return forks

    def take_in(self, output: SchedulerOutput, result: StepResult, scheduled: float) -> None:
        """Add a step's tokens to the answers, and end those that are done.

        Args:
            output: The plan of the step.
            result: What came of it.
            scheduled: When the plan was made, in seconds of ``time.monotonic``.
        """
        for request in output.scheduled_new_reqs:
            group, _ = self.answers[request.request_id]
            if group.metrics.first_scheduled_time is None:
                group.metrics.first_scheduled_time = scheduled
                num_scheduled = output.num_scheduled_tokens[request.request_id]
                group.num_cached_tokens = request.num_computed_tokens - num_scheduled
        self.metrics.num_preemptions += len(output.preempted_req_ids)
        now = time.monotonic()
        stopped: list[str] = []
        for name, token in result.sampled.items():
            group, answer = self.answers[name]
            if group.metrics.first_token_time is None:
                group.metrics.first_token_time = now
                self.metrics.record_first_token(group.metrics, len(group.prompt_token_ids))
            self.metrics.generation_tokens += 1
            answer.append(token)
            self.changed[group.request_id] = group
            if answer.finish_reason is None:
                continue
            self.metrics.finished[answer.finish_reason] += 1
            if not answer.request.is_finished:
                stopped.append(name)
            if group.is_finished:
                group.metrics.finished_time = now
                self.metrics.record_finished(group.metrics, group.output_lens)
                self.forget(group)
        if stopped:
            self.scheduler.finish_requests(stopped, RequestStatus.FINISHED_STOPPED)

    def fetch_changed(self) -> list[AnswerGroup]:
        """Return what has something new since it was fetched last."""
        changed, self.changed = self.changed, {}
        return list(changed.values())

    def mark_fetched(self, groups: Sequence[AnswerGroup]) -> None:
        """Take note that somebody has these groups as they are."""
        for group in groups:
            self.changed.pop(group.request_id, None)

    @contextmanager
    def _explaining(self, where: str) -> Iterator[None]:
        """Let an exception say where it happened and whose part it was; the engine stops for it."""
        try:
            yield
        except Exception as error:
            if isinstance(error, InvariantError):
                error = InvariantError(f"{where}: {error}").with_traceback(error.__traceback__)
            self.failure = self._parts.explain(error, where)
            raise self.failure from (None if self.failure is error else error)

    def forget(self, group: AnswerGroup) -> None:
        """Drop a group that is over."""
        del self.groups[group.request_id]
        for answer in group.answers:
            del self.answers[answer.request.request_id]

    def _count_now(self) -> None:
        """Bring up to date what the metrics say of this moment."""
        metrics, scheduler = self.metrics, self.scheduler
        manager = scheduler.kv_cache_manager
        metrics.num_requests_running = len(scheduler.running)
        metrics.num_requests_waiting = len(scheduler.waiting)
        metrics.num_requests_swapped = len(scheduler.swapped)
        metrics.kv_cache_usage = manager.usage
        metrics.prefix_cache_queries = manager.metrics.queried_tokens
        metrics.prefix_cache_hits = manager.metrics.hit_tokens
        metrics.num_block_copies = manager.num_copies

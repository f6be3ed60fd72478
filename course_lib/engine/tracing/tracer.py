"""The tracer: follows requests through an engine, component by component.

It is attached to an engine that exists, and taken off again. While it is attached, it stands in
front of the methods by which the components talk to each other: what the scheduler, the cache
manager and the executor are asked, and what they answer. An engine without a tracer runs none of
its code.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from functools import partial
from itertools import takewhile
from typing import Any, Protocol

from course_lib.engine.core import StepRecord
from course_lib.engine.engine import LLM
from course_lib.engine.executor import StepResult
from course_lib.engine.intercept import intercept
from course_lib.engine.prompts import PromptError
from course_lib.engine.request import EngineRequest
from course_lib.engine.tracing.blocks import BlockObserver
from course_lib.engine.tracing.log import Decode, Prompts, TraceLog, remembering
from course_lib.engine.tracing.trace import RequestTrace, Trace
from course_lib.engine.tracing.vllm import VLLMProbe
from course_lib.kv_cache.watch.watching import watch
from course_lib.scheduling.decisions import Action, Decision, DecisionLog
from course_lib.scheduling.request import RequestStatus
from course_lib.scheduling.scheduler import SchedulerOutput
from course_lib.steps import IterationWork, Step, StepTable, is_prefill


class Probe(Protocol):
    """What a tracer knows of one kind of engine."""

    def attached(self) -> AbstractContextManager[None]:
        """Write down what the engine does, inside the ``with`` block."""

    def catch_up(self) -> None:
        """Write down what is known by now of the steps that are over."""


class Tracer:
    """Sees what an engine does for every request, and in which step, when, and why.

    Attach it between two steps, in the thread that runs them::

        with Tracer(llm) as tracer:
            llm.generate(prompts, params)
        print(tracer.request("0").text())
        tracer.trace.to_chrome_trace("run.json")      # for ui.perfetto.dev

    The same tracer follows vLLM, as ``tracing.vllm`` says.

    Args:
        engine: An ``LLM`` of this course; or vLLM's ``LLM`` or ``LLMEngine``, in this process.

    Raises:
        TypeError: It is no such engine, or not one that can be followed; says what is missing.

    >>> from course_lib.engine import EngineParts, SamplingParams
    >>> llm = LLM("course-tiny", parts=EngineParts.reference())
    >>> with Tracer(llm) as tracer:
    ...     _ = llm.generate(["A block", "A queue"], SamplingParams(temperature=0, max_tokens=3))
    >>> tracer.trace.request_ids, len(tracer.trace.steps)
    (('0', '1'), 3)
    >>> [event.action for event in tracer.request("1")][:4]
    ['encodes', 'arrives', 'starts', 'takes']
    """

    def __init__(self, engine: Any) -> None:
        self._log = TraceLog()
        self._probe: Probe
        if isinstance(engine, LLM):
            self._probe = EngineProbe(engine, self._log)
        else:
            self._probe = VLLMProbe(engine, self._log)
        self._attached: AbstractContextManager[None] | None = None

    def __enter__(self) -> Tracer:
        if self._attached is not None:
            raise RuntimeError("this tracer is attached already; make a second one")
        self._attached = self._probe.attached()
        self._attached.__enter__()
        return self

    def __exit__(self, *exception: Any) -> None:
        self._probe.catch_up()
        attached, self._attached = self._attached, None
        if attached is not None:
            attached.__exit__(*exception)

    @property
    def trace(self) -> Trace:
        """What it has seen so far."""
        if self._attached is not None:
            self._probe.catch_up()
        return Trace(self._log.events, StepTable(self._log.steps), dict(self._log.queues))

    def request(self, request_id: str) -> RequestTrace:
        """Follow one request: ``trace.request``.

        Raises:
            ValueError: It has not seen such a request.
        """
        return self.trace.request(request_id)


class EngineProbe:
    """Follows an ``LLM`` of this course.

    Args:
        llm: The engine.
        log: Where to write.
    """

    def __init__(self, llm: LLM, log: TraceLog) -> None:
        self._llm = llm
        self._log = log
        self._scheduler = llm.scheduler
        self._blocks = BlockObserver(llm.kv_cache_manager, log)
        known = self._scheduler.log
        self._is_borrowed = isinstance(known, DecisionLog)
        self._decisions = known if isinstance(known, DecisionLog) else DecisionLog()
        self._texts: dict[str, str] = {}
        self._record = llm.last_step
        # Of the step under way: what is known of its row, and where each request's tokens begin.
        self._row = Step(0.0, 0.0)
        self._positions: dict[str, int] = {}
        self._updated = 0.0
        self._decode = _decoder(llm)
        self._prompts = Prompts(log, self._decode)

    @contextmanager
    def attached(self) -> Iterator[None]:
        """Write down what the engine does, inside the ``with`` block."""
        llm, scheduler = self._llm, self._scheduler
        with ExitStack() as stack:
            for name in ("generate", "chat", "add_request", "abort_request"):
                stack.enter_context(intercept(llm, name, self._through_api(name)))
            if self._decode is not None:
                stack.enter_context(intercept(llm.tokenizer, "encode", self._encode))
            for name in ("add_request", "schedule", "update_from_output", "finish_requests"):
                stack.enter_context(intercept(scheduler, name, getattr(self, f"_{name}")))
            stack.enter_context(intercept(llm.executor, "execute", self._execute))
            stack.enter_context(watch(llm.kv_cache_manager, self._blocks))
            stack.enter_context(self._with_reasons())
            yield

    def catch_up(self) -> None:
        """Write down what came of the newest step, once it is over."""
        record = self._llm.last_step
        if record is None or record is self._record:
            return
        self._record = record
        log = self._log
        start, end = self._updated, log.seconds_at(record.finished)
        log.add("detokenizer", "makes text", start, end, num_tokens=len(record.sampled))
        for name, answer in record.answers.items():
            before = self._texts.get(name, "")
            self._texts[name] = answer.text
            text = answer.text[len(before) :]
            log.add("detokenizer", "shows", start, end, request_id=name, text=text)
            if answer.finish_reason is not None:
                reason = f"{answer.finish_reason}"
                if answer.stop_reason is not None:
                    reason += f" ({answer.stop_reason!r})"
                log.add("detokenizer", "finishes", start, end, request_id=name, reason=reason)
                del self._texts[name]
        log.steps.append(self._completed(record))
        log.step = None

    @contextmanager
    def _with_reasons(self) -> Iterator[None]:
        """Have the scheduler keep its decisions, with the reasons."""
        before, self._scheduler.log = self._scheduler.log, self._decisions
        try:
            with intercept(self._decisions, "record_step", self._record_step):
                yield
        finally:
            self._scheduler.log = before

    def _through_api(self, name: str) -> Callable[..., Any]:
        """Return what stands in front of a method that a user calls."""

        def around(method: Callable[..., Any], *arguments: Any, **keywords: Any) -> Any:
            self.catch_up()
            with self._log.span("api", name):
                result = method(*arguments, **keywords)
                self.catch_up()
            return result

        return around

    def _encode(self, method: Callable[..., list[int]], text: str, **keywords: Any) -> list[int]:
        """Stand in front of ``Tokenizer.encode``."""
        self.catch_up()
        with self._log.span("tokenizer", "encodes", text=text) as known:
            token_ids = method(text, **keywords)
            known["num_tokens"] = len(token_ids)
        self._prompts.encoded(token_ids)
        return token_ids

    def _add_request(self, method: Callable[..., None], request: EngineRequest) -> None:
        """Stand in front of ``Scheduler.add_request``."""
        self.catch_up()
        name, token_ids = request.request_id, request.prompt_token_ids
        text = self._prompts.claim(name, token_ids)
        known = {"request_id": name, "num_tokens": len(token_ids), "text": text}
        with self._log.span("api", "arrives", **known):
            method(request)

    def _schedule(self, method: Callable[[], SchedulerOutput]) -> SchedulerOutput:
        """Stand in front of ``Scheduler.schedule``."""
        self.catch_up()
        log, scheduler, decisions = self._log, self._scheduler, self._decisions
        log.step = len(log.steps)
        num_steps = decisions.num_steps
        if not self._is_borrowed:
            decisions.decisions.clear()  # they are events by now
        with log.span("scheduler", "plans") as known:
            output = method()
            known["num_tokens"] = output.total_num_scheduled_tokens
        start, end = log.events[-1].start, log.events[-1].end
        if decisions.num_steps == num_steps:  # a scheduler of one's own may keep no log
            decisions.record_step(scheduler, output)
        self._positions = {
            name: scheduler.requests[name].num_computed_tokens - count
            for name, count in output.num_scheduled_tokens.items()
        }
        newest = takewhile(lambda each: each.step == num_steps, reversed(decisions.decisions))
        made = list(newest)[::-1]
        for decision in made:
            self._add_decision(decision, start, end)
        self._add_moves(output, made, start, end)
        manager = scheduler.kv_cache_manager
        self._row = Step(
            start,
            0.0,
            num_prefill_tokens=sum(
                count
                for name, count in output.num_scheduled_tokens.items()
                if is_prefill(
                    count, self._positions[name], scheduler.requests[name].num_prompt_tokens
                )
            ),
            num_running=len(scheduler.running),
            num_waiting=len(scheduler.waiting),
            num_swapped=len(scheduler.swapped),
            kv_usage=manager.usage,
        )
        return output

    def _record_step(self, method: Callable[..., None], *arguments: Any) -> None:
        """Stand in front of ``DecisionLog.record_step``, which looks prompts up for its reasons."""
        self._blocks.is_muted = True
        try:
            method(*arguments)
        finally:
            self._blocks.is_muted = False

    def _execute(
        self,
        method: Callable[..., StepResult],
        output: SchedulerOutput,
        forks: Mapping[str, Sequence[EngineRequest]] | None = None,
    ) -> StepResult:
        """Stand in front of ``Executor.execute``."""
        log = self._log
        start = log.now()
        try:
            result = method(output, forks)
        except Exception as error:
            reason = f"raises {type(error).__name__}: {error}"
            log.add("executor", "runs the model", start, log.now(), reason=reason)
            raise
        end, computed = log.now(), log.seconds_at(result.computed_at)
        num_tokens = output.total_num_scheduled_tokens
        log.add("executor", "runs the model", start, computed, num_tokens=num_tokens)
        for name, count in output.num_scheduled_tokens.items():
            known = {
                "request_id": name,
                "num_tokens": count,
                "position": self._positions[name],
            }
            log.add("executor", "computes", start, computed, **known)
        log.add("sampler", "samples", computed, end, num_tokens=len(result.sampled))
        for name, token in result.sampled.items():
            text = "" if self._decode is None else self._decode([token.token_id])
            known = {"request_id": name, "token_id": token.token_id, "text": text}
            log.add("sampler", "chooses", computed, end, **known)
        return result

    def _update_from_output(self, method: Callable[..., Any], *arguments: Any) -> Any:
        """Stand in front of ``Scheduler.update_from_output``."""
        with self._log.span("scheduler", "takes tokens in"):
            finished = method(*arguments)
        self._updated = self._log.now()
        return finished

    def _finish_requests(
        self, method: Callable[..., None], request_ids: Any, status: RequestStatus
    ) -> None:
        """Stand in front of ``Scheduler.finish_requests``."""
        if status is RequestStatus.FINISHED_ABORTED:
            now = self._log.now()
            for name in [request_ids] if isinstance(request_ids, str) else request_ids:
                if name in self._scheduler.requests:
                    self._log.add("api", "is aborted", now, now, request_id=name)
                    self._texts.pop(name, None)
        method(request_ids, status)

    def _add_decision(self, decision: Decision, start: float, end: float) -> None:
        """Write down what the scheduler decided about a request."""
        name, count = decision.request_id, decision.num_tokens
        if decision.action is Action.WAITS:
            self._log.add_wait(name, start, end, decision.reason)
            return
        known: dict[str, Any] = {"request_id": name, "reason": decision.reason}
        if count:
            known |= {"num_tokens": count, "position": self._positions[name]}
        self._log.add("scheduler", decision.action.value, start, end, **known)

    def _add_moves(
        self, output: SchedulerOutput, decisions: Sequence[Decision], start: float, end: float
    ) -> None:
        """Write down which blocks are copied and swapped, and whose they are."""
        moves: dict[tuple[str, str], list[tuple[int, int]]] = {}
        for action, pairs in (
            ("copies", output.blocks_to_copy),
            ("swaps in", output.blocks_to_swap_in),
        ):
            for pair in pairs:
                moves.setdefault((self._blocks.taken_by[pair[1]], action), []).append(pair)
        leaving = iter(output.blocks_to_swap_out)
        size = self._scheduler.kv_cache_manager.block_size
        for decision in decisions:
            if decision.action is Action.IS_SWAPPED_OUT:
                name = decision.request_id
                num_blocks = -(-self._scheduler.requests[name].num_computed_tokens // size)
                moves[name, "swaps out"] = [next(leaving) for _ in range(num_blocks)]
        for (name, action), of_request in moves.items():
            known = {"request_id": name, "pairs": tuple(of_request)}
            self._log.add("block manager", action, start, end, **known)

    def _completed(self, record: StepRecord) -> Step:
        """Return the row of a step that is over."""
        output = record.output
        counts = output.num_scheduled_tokens
        work = IterationWork.of_batch(
            (count, self._positions[name]) for name, count in counts.items()
        )
        start = self._row.start
        return self._row._replace(
            seconds=self._log.seconds_at(record.finished) - start,
            num_tokens=work.num_tokens,
            num_requests=len(counts),
            num_sampled=len(record.sampled),
            num_admitted=len(output.scheduled_new_reqs) + len(output.scheduled_resumed_reqs),
            num_preempted=len(output.preempted_req_ids),
            num_finished=sum(a.finish_reason is not None for a in record.answers.values()),
            num_swapped_blocks=len(output.blocks_to_swap_in) + len(output.blocks_to_swap_out),
            attended_tokens=work.attended_tokens,
            context_tokens=work.context_tokens,
        )


def _decoder(llm: LLM) -> Decode | None:
    """Return what makes text of tokens, special ones included; None without a tokenizer."""
    try:
        decode = llm.tokenizer.decode
    except PromptError:
        return None
    return remembering(partial(decode, skip_special_tokens=False))

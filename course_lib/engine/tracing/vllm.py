"""The tracer's probe for vLLM: the same events, from an engine that is not of this course.

It follows vLLM 0.33.0 (V1), and goes by the names of attributes alone, so vLLM need not be
installed to import this. The engine must run in this process: set the environment variable
``VLLM_ENABLE_V1_MULTIPROCESSING=0`` before vLLM is imported.

vLLM gives no reasons for its decisions, samples where it runs the model, and moves on to the next
step before the tokens of the last one are there (async scheduling). So requests wait without a
reason here, a choice has the time at which the tokens arrived, and the model is seen to run from
the call, or from the end of the step before it, to the arrival of the tokens. Its newer model
runner is told of a request that comes back as of a new one: here, who has started before resumes.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

from course_lib.engine.intercept import intercept
from course_lib.engine.tracing.blocks import BlockObserver
from course_lib.engine.tracing.log import Decode, Prompts, TraceLog, remembering
from course_lib.kv_cache.watch.watching import watch
from course_lib.steps import IterationWork, Step, is_prefill

SUPPORTED = "0.33.0"
"""The version of vLLM whose names are used."""

_METHODS = {
    "input_processor": ("process_inputs",),
    "output_processor": ("process_outputs",),
    "engine_core.engine_core.scheduler": (
        "add_request",
        "schedule",
        "update_from_output",
        "finish_requests",
        "requests",
        "running",
        "waiting",
    ),
    "engine_core.engine_core.scheduler.kv_cache_manager": (
        "get_computed_blocks",
        "allocate_slots",
        "free",
        "get_block_ids",
        "block_pool",
        "usage",
    ),
    "engine_core.engine_core.model_executor": ("execute_model",),
}
"""What a vLLM engine must have: attributes, by the path to their object from ``LLMEngine``."""


@dataclass(slots=True)
class _Planned:
    """A step under way.

    Attributes:
        plan: vLLM's ``SchedulerOutput``.
        number: Number of the step.
        row: What is known of its row so far.
        positions: Where the tokens of each request begin.
        run_at: When the model was called.
    """

    plan: Any
    number: int
    row: Step
    positions: dict[str, int]
    run_at: float = 0.0


class VLLMProbe:
    """Follows vLLM in this process.

    Requests have the ids that vLLM's scheduler knows them by; ``trace.request_ids`` lists them.

    Args:
        engine: vLLM's ``LLM`` or ``LLMEngine``.
        log: Where to write.

    Raises:
        TypeError: It lacks something that vLLM 0.33.0 has; says what.
    """

    def __init__(self, engine: Any, log: TraceLog) -> None:
        self._log = log
        found = {path: _require(engine, path, names) for path, names in _METHODS.items()}
        (
            self._input_processor,
            self._output_processor,
            self._scheduler,
            self._manager,
            self._executor,
        ) = found.values()
        self._blocks = BlockObserver(self._manager, log)
        self._decode = _decoder(engine)
        self._prompts = Prompts(log, self._decode)
        self._num_planned = 0
        self._started: set[str] = set()
        # By the identity of the plan. A plan is kept here, so nobody else gets its identity.
        self._under_way: dict[int, _Planned] = {}
        self._last_arrival = 0.0

    @contextmanager
    def attached(self) -> Iterator[None]:
        """Write down what the engine does, inside the ``with`` block."""
        with ExitStack() as stack:
            for subject, name in (
                (self._input_processor, "process_inputs"),
                (self._output_processor, "process_outputs"),
                (self._scheduler, "add_request"),
                (self._scheduler, "schedule"),
                (self._scheduler, "update_from_output"),
                (self._scheduler, "finish_requests"),
                (self._executor, "execute_model"),
            ):
                stack.enter_context(intercept(subject, name, getattr(self, f"_{name}")))
            stack.enter_context(watch(self._manager, self._blocks))
            yield

    def catch_up(self) -> None:
        """Do nothing: all that vLLM tells is written down as it comes."""

    def _process_inputs(
        self, method: Callable[..., Any], request_id: str, prompt: Any, *rest: Any, **keywords: Any
    ) -> Any:
        """Stand in front of ``InputProcessor.process_inputs``."""
        text = prompt.get("prompt", "") if isinstance(prompt, Mapping) else prompt
        text = text if isinstance(text, str) else ""
        with self._log.span("tokenizer", "encodes", text=text) as known:
            request = method(request_id, prompt, *rest, **keywords)
            token_ids = request.prompt_token_ids or ()
            known["num_tokens"] = len(token_ids)
        self._prompts.encoded(token_ids)
        return request

    def _add_request(self, method: Callable[..., Any], request: Any) -> Any:
        """Stand in front of ``Scheduler.add_request``."""
        name, token_ids = request.request_id, request.prompt_token_ids or ()
        text = self._prompts.claim(name, token_ids)
        known = {"request_id": name, "num_tokens": len(token_ids), "text": text}
        with self._log.span("api", "arrives", **known):
            return method(request)

    def _schedule(self, method: Callable[..., Any], *arguments: Any, **keywords: Any) -> Any:
        """Stand in front of ``Scheduler.schedule``."""
        log, scheduler = self._log, self._scheduler
        log.step = number = self._num_planned
        self._num_planned += 1
        try:
            with log.span("scheduler", "plans") as known:
                plan = method(*arguments, **keywords)
                known["num_tokens"] = plan.total_num_scheduled_tokens
            start, end = log.events[-1].start, log.events[-1].end
            positions = {
                name: scheduler.requests[name].num_computed_tokens - count
                for name, count in plan.num_scheduled_tokens.items()
            }
            self._add_decisions(plan, positions, start, end)
        finally:
            log.step = None
        row = Step(
            start,
            0.0,
            num_prefill_tokens=sum(
                count
                for name, count in plan.num_scheduled_tokens.items()
                if is_prefill(count, positions[name], scheduler.requests[name].num_prompt_tokens)
            ),
            num_running=len(scheduler.running),
            num_waiting=len(scheduler.waiting),
            num_preempted=len(plan.preempted_req_ids or ()),
            kv_usage=self._manager.usage,
        )
        self._under_way[id(plan)] = _Planned(plan, number, row, positions)
        return plan

    def _execute_model(
        self, method: Callable[..., Any], plan: Any, *arguments: Any, **keywords: Any
    ) -> Any:
        """Stand in front of ``Executor.execute_model``, which may return before it is done."""
        planned = self._under_way.get(id(plan))
        if planned is not None:
            planned.run_at = self._log.now()
        return method(plan, *arguments, **keywords)

    def _update_from_output(self, method: Callable[..., Any], plan: Any, output: Any) -> Any:
        """Stand in front of ``Scheduler.update_from_output``: the tokens of a step are there."""
        log = self._log
        planned = self._under_way.pop(id(plan), None)
        if planned is None:  # it was planned before the tracer came
            return method(plan, output)
        log.step = planned.number
        arrival = log.now()
        try:
            self._add_run(planned, arrival)
            with log.span("scheduler", "takes tokens in"):
                result = method(plan, output)
            outputs = [each for group in result.values() for each in group.outputs]
            self._add_tokens(outputs, arrival)
        finally:
            log.step = None
        self._add_row(planned, outputs)
        self._last_arrival = arrival
        return result

    def _process_outputs(self, method: Callable[..., Any], *arguments: Any, **keywords: Any) -> Any:
        """Stand in front of ``OutputProcessor.process_outputs``."""
        with self._log.span("detokenizer", "makes text"):
            return method(*arguments, **keywords)

    def _finish_requests(
        self, method: Callable[..., Any], request_ids: Any, status: Any, *rest: Any
    ) -> Any:
        """Stand in front of ``Scheduler.finish_requests``, which ends requests from outside."""
        now = self._log.now()
        for name in [request_ids] if isinstance(request_ids, str) else request_ids or ():
            if name in self._scheduler.requests:
                self._log.add("api", "is aborted", now, now, request_id=name)
                self._started.discard(name)
        return method(request_ids, status, *rest)

    def _add_decisions(
        self, plan: Any, positions: dict[str, int], start: float, end: float
    ) -> None:
        """Write down who computes how many tokens in a step, who lost its place, who waits."""
        new = {request.req_id for request in plan.scheduled_new_reqs}
        resumed = plan.scheduled_cached_reqs.resumed_req_ids | (new & self._started)
        self._started |= new
        for name in plan.preempted_req_ids or ():
            self._log.add("scheduler", "is preempted", start, end, request_id=name)
        for name, count in plan.num_scheduled_tokens.items():
            action = "resumes" if name in resumed else "starts" if name in new else "continues"
            known = {"request_id": name, "num_tokens": count, "position": positions[name]}
            self._log.add("scheduler", action, start, end, **known)
        for request in self._scheduler.waiting:
            if request.request_id not in (plan.preempted_req_ids or ()):
                self._log.add_wait(request.request_id, start, end)

    def _add_run(self, planned: _Planned, arrival: float) -> None:
        """Write down that the model ran for a step; one step at a time, whenever it was called."""
        start = max(planned.run_at, self._last_arrival)
        num_tokens = planned.plan.total_num_scheduled_tokens
        self._log.add("executor", "runs the model", start, arrival, num_tokens=num_tokens)
        for name, count in planned.plan.num_scheduled_tokens.items():
            known = {"request_id": name, "num_tokens": count, "position": planned.positions[name]}
            self._log.add("executor", "computes", start, arrival, **known)

    def _add_tokens(self, outputs: Sequence[Any], arrival: float) -> None:
        """Write down the tokens of a step, and which requests ended with it."""
        num_tokens = sum(len(output.new_token_ids) for output in outputs)
        self._log.add("sampler", "samples", arrival, arrival, num_tokens=num_tokens)
        for output in outputs:
            name = output.request_id
            for token_id in output.new_token_ids:
                text = "" if self._decode is None else self._decode([token_id])
                known = {"request_id": name, "token_id": token_id, "text": text}
                self._log.add("sampler", "chooses", arrival, arrival, **known)
            if output.finish_reason is not None:
                now, reason = self._log.now(), str(output.finish_reason)
                self._log.add("scheduler", "finishes", now, now, request_id=name, reason=reason)
                self._started.discard(name)

    def _add_row(self, planned: _Planned, outputs: Sequence[Any]) -> None:
        """Enter a step that is over."""
        plan, counts = planned.plan, planned.plan.num_scheduled_tokens
        work = IterationWork.of_batch(
            (count, planned.positions[name]) for name, count in counts.items()
        )
        # With async scheduling a step is planned before the one in front of it is over.
        previous = self._log.steps[-1].end if self._log.steps else 0.0
        start = max(planned.row.start, previous)
        self._log.steps.append(
            planned.row._replace(
                start=start,
                seconds=self._log.now() - start,
                num_tokens=work.num_tokens,
                num_requests=len(counts),
                num_sampled=sum(bool(output.new_token_ids) for output in outputs),
                num_admitted=len(plan.scheduled_new_reqs)
                + len(plan.scheduled_cached_reqs.resumed_req_ids),
                num_finished=sum(output.finish_reason is not None for output in outputs),
                attended_tokens=work.attended_tokens,
                context_tokens=work.context_tokens,
            )
        )


def _require(engine: Any, path: str, names: Sequence[str]) -> Any:
    """Return the object at a path from an engine, if it has what is needed."""
    subject = getattr(engine, "llm_engine", engine)
    for name in path.split("."):
        subject = getattr(subject, name, None)
    missing = [name for name in names if not hasattr(subject, name)]
    if missing:
        version = getattr(sys.modules.get("vllm"), "__version__", "not imported")
        raise TypeError(
            f"{type(engine).__name__} cannot be traced: it has no {path}.{missing[0]}. A tracer "
            f"follows course_lib.engine.LLM, and the LLM of vLLM {SUPPORTED} (here: {version}) if "
            "VLLM_ENABLE_V1_MULTIPROCESSING=0 was set before vllm was imported"
        )
    return subject


def _decoder(engine: Any) -> Decode | None:
    """Return what makes text of tokens; None if the engine has no tokenizer."""
    get_tokenizer = getattr(engine, "get_tokenizer", None)
    tokenizer = None if get_tokenizer is None else get_tokenizer()
    return None if tokenizer is None else remembering(tokenizer.decode)

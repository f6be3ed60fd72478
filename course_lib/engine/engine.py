"""The engine: prompts in, texts out, everything in between from the parts of this course.

A step of the engine is three calls: the scheduler plans, the executor computes, the scheduler takes
in the tokens. ``LLM`` does these in a loop, turns prompts into tokens and tokens into texts, and
lets its user add and abort requests between two steps.
"""

from __future__ import annotations

import dataclasses
import itertools
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from course_lib.attention.backends.backend import AttentionBackend, BackendName, choose_backend
from course_lib.engine.answer import Answer, AnswerGroup
from course_lib.engine.checkpoint import load_checkpoint, load_sampling_defaults
from course_lib.engine.engine_parts import EngineParts
from course_lib.engine.executor import Executor, StepResult
from course_lib.engine.interrupts import deferred_interrupts
from course_lib.engine.kv_store import PagedKVStore
from course_lib.engine.memory import default_num_blocks, keep_freed_memory
from course_lib.engine.metrics import EngineMetrics
from course_lib.engine.outputs import RequestMetrics, RequestOutput
from course_lib.engine.progress import progress_bar
from course_lib.engine.prompts import (
    PlainPrompt,
    Prompt,
    PromptError,
    as_prompts,
    one_each,
    plain_prompt,
)
from course_lib.engine.request import EngineRequest
from course_lib.engine.sampler import random_stream
from course_lib.engine.sampling_params import SamplingParams
from course_lib.engine.step_check import StepChecker
from course_lib.engine.tokenizer import Tokenizer, checkpoint_folder
from course_lib.kv_cache.watch.invariants import InvariantError, under_check
from course_lib.scheduling.request import RequestStatus
from course_lib.scheduling.scheduler import SchedulerConfig, SchedulerOutput


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
        started: The step began.
        scheduled: The plan was made.
        computed: The model was done.
        sampled_at: The tokens were sampled.
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


class LLM:
    """A language model that serves many requests at once.

    ``generate`` and ``chat`` answer a list of prompts, ``generate_stream`` shows one answer as it
    grows. Whoever wants to decide when a step is run uses ``add_request``, ``step`` and
    ``abort_request``. All of them may be mixed, in one thread.

    A step that fails leaves the engine in a state that nobody can vouch for. From then on every
    call raises EngineDeadError.

    Args:
        model: ``"course-tiny"``, or a folder with a Llama, Mistral, Qwen2 or Qwen3 checkpoint.
        num_blocks: Blocks of the KV cache, the null block included. None for enough to let
            ``max_num_seqs`` sequences grow to the model's length, but at most 1 GiB on a CPU, and
            on a GPU at most what is left of 92% of its memory.
        block_size: Tokens per block.
        enable_prefix_caching: Whether what one prompt has computed is kept for the next.
        dtype: Type of weights, keys and values. None for the checkpoint's on a GPU, and float32 on
            a CPU.
        device: Where the model runs. None for the first GPU, or the CPU if there is none.
        seed: Seed of the requests that have none.
        attention_backend: ``"triton"``, ``"pytorch"``, or operations at hand. None for what suits
            the device.
        parts: The parts to run on. None for the learner's own from their workspace, and the
            reference for the rest.
        debug: Whether to check every call of the cache manager, and every step. Slow.
        **scheduler_options: Fields of ``SchedulerConfig``.

    Attributes:
        model: The model.
        model_config: Its shape.
        tokenizer: Its tokenizer. A checkpoint may have none: then prompts are tokens, answers have
            no text, and to ask for it raises PromptError.
        sampling_defaults: Fields of ``SamplingParams`` as the checkpoint's makers recommend them.
        parts: The parts that it runs on; ``llm.parts.table`` shows whose they are.
        scheduler: Plans the steps.
        kv_cache_manager: Hands out the blocks.
        executor: Carries the plans out.
        metrics: What it counts.
        last_step: The newest step; None before the first.

    Raises:
        FileNotFoundError: There is no such model.
        CheckpointError: The checkpoint is damaged or not supported. It is a ValueError.
        ValueError: An option is out of range.
        TypeError: There is no such option.

    >>> llm = LLM("course-tiny", parts=EngineParts.reference())
    >>> greedy = SamplingParams(temperature=0, max_tokens=5)
    >>> [output] = llm.generate("A block table", greedy)
    >>> len(output.outputs[0].token_ids), output.outputs[0].finish_reason
    (5, 'length')
    """

    def __init__(
        self,
        model: str | Path = "course-tiny",
        *,
        num_blocks: int | None = None,
        block_size: int = 16,
        enable_prefix_caching: bool = True,
        dtype: torch.dtype | None = None,
        device: torch.device | str | None = None,
        seed: int = 0,
        attention_backend: BackendName | AttentionBackend | None = None,
        parts: EngineParts | None = None,
        debug: bool = False,
        **scheduler_options: Any,
    ) -> None:
        config = _scheduler_config(scheduler_options)
        if device is None:
            device = "cuda" if torch.cuda.is_available() else "cpu"
        keep_freed_memory()
        folder = checkpoint_folder(model)
        self.model = load_checkpoint(folder, dtype=dtype, device=device)
        self.model_config = self.model.config
        self.sampling_defaults = load_sampling_defaults(folder)
        config = _within_model(config, self.model_config.max_model_len)
        has_tokenizer = (folder / "tokenizer.json").is_file()
        self._tokenizer = Tokenizer(folder) if has_tokenizer else None
        self.parts = EngineParts.load() if parts is None else parts
        if num_blocks is None:
            num_blocks = default_num_blocks(self.model, config, block_size)
        if num_blocks < 2:
            raise ValueError(
                f"num_blocks is {num_blocks}; block 0 is the null block, so an engine that is to "
                "serve anything needs at least 2"
            )
        self.kv_cache_manager = self.parts.make_manager(
            num_blocks, block_size, enable_prefix_caching
        )
        self.scheduler = self.parts.make_scheduler(config, self.kv_cache_manager)
        if not isinstance(attention_backend, AttentionBackend):
            attention_backend = choose_backend(device, attention_backend)
        self.executor = Executor(
            self.model,
            PagedKVStore(
                self.model_config,
                num_blocks,
                block_size,
                num_cpu_blocks=config.num_cpu_blocks,
                dtype=self.model.dtype,
                device=device,
            ),
            self.parts.with_own_operations(attention_backend),
            self.kv_cache_manager.get_block_ids,
            block_table=self.parts.get("BlockTable"),
            slot_mapping=self.parts.get("slot_mapping"),
        )
        self.metrics = EngineMetrics()
        self.last_step: StepRecord | None = None
        self._eos_token_ids = self._find_eos()
        self._seed = seed
        self._numbers = itertools.count()  # of the requests without a seed
        self._names = itertools.count()  # for the requests without a name
        self._groups: dict[str, AnswerGroup] = {}
        # Every answer of these groups, by the id of its request at the scheduler.
        self._answers: dict[str, tuple[AnswerGroup, Answer]] = {}
        # What has something new that nobody has fetched yet.
        self._changed: dict[str, AnswerGroup] = {}
        self._failure: Exception | None = None
        self._checker: StepChecker | None = None
        self._watching = ExitStack()
        if debug:
            self._checker = StepChecker(self.scheduler, self.executor)
            self._watching.enter_context(under_check(self.kv_cache_manager))

    @property
    def tokenizer(self) -> Tokenizer:
        """The checkpoint's tokenizer; PromptError if it has none."""
        if self._tokenizer is None:
            raise PromptError("this checkpoint has no tokenizer.json; give prompts as tokens")
        return self._tokenizer

    def get_default_sampling_params(self) -> SamplingParams:
        """Return the parameters of a request that has none: what suits this model.

        ``SamplingParams()`` itself knows of no model; its temperature is 1.

        >>> LLM("course-tiny").get_default_sampling_params().temperature
        0.5
        """
        return SamplingParams(**self.sampling_defaults)  # type: ignore[arg-type]

    def generate(
        self,
        prompts: Prompt | Sequence[Prompt],
        sampling_params: SamplingParams | Sequence[SamplingParams] | None = None,
        *,
        use_tqdm: bool = True,
    ) -> list[RequestOutput]:
        """Answer prompts, all of them at once.

        If one prompt cannot be served, none is. If it is interrupted, its requests are aborted, and
        the engine is ready for others.

        Args:
            prompts: One prompt or several; each is a text, a list of tokens, or one of vLLM's
                dictionaries of these.
            sampling_params: For all of them, or one for each; None for the model's defaults.
            use_tqdm: Whether to show a progress bar on a screen when it takes long. The name is
                vLLM's; the bar is Rich's.

        Returns:
            The answers, in the order of the prompts.

        Raises:
            PromptError: A prompt cannot be served.
            ValueError: There are not as many sampling parameters as prompts.
            EngineDeadError: A step has failed before.
        """
        wanted = [plain_prompt(prompt) for prompt in as_prompts(prompts)]
        if sampling_params is None:
            sampling_params = self.get_default_sampling_params()
        params = one_each(sampling_params, len(wanted))
        groups: list[AnswerGroup] = []
        try:
            for prompt, each in zip(wanted, params, strict=True):
                token_ids = self._tokens_of(prompt, each)
                with deferred_interrupts():
                    groups.append(self._add(self._new_id(), prompt, token_ids, each))
            if use_tqdm:
                self._run_with_bar(groups)
            else:
                self._run(groups)
        except BaseException:
            self.abort_request([group.request_id for group in groups])
            raise
        return [group.output() for group in groups]

    def generate_stream(
        self, prompt: Prompt, sampling_params: SamplingParams | None = None
    ) -> Iterator[RequestOutput]:
        """Answer one prompt, and yield the answer after each step that added to it.

        Each output holds everything so far. The request is aborted when its reader leaves.

        Args:
            prompt: A text or a list of tokens.
            sampling_params: None for the model's defaults.

        Raises:
            PromptError: The prompt cannot be served. It is raised by this call, not by the first
                output.
        """
        params = sampling_params or self.get_default_sampling_params()
        plain = plain_prompt(prompt)
        return self._stream(plain, self._tokens_of(plain, params), params)

    def chat(
        self,
        messages: Sequence[Mapping[str, Any]],
        sampling_params: SamplingParams | None = None,
    ) -> list[RequestOutput]:
        """Answer a conversation: ``generate`` for what the model's chat template makes of it.

        Args:
            messages: What was said, each ``{"role": "user", "content": "..."}``.
            sampling_params: None for the model's defaults.

        Raises:
            PromptError: The checkpoint has no tokenizer, or the conversation is too long.
            ChatTemplateError: The checkpoint has no chat template, or it does not accept these
                messages. It is a ValueError.
        """
        return self.generate([self.tokenizer.apply_chat_template(messages)], sampling_params)

    def add_request(
        self,
        request_id: str,
        prompt: Prompt,
        sampling_params: SamplingParams | None = None,
        *,
        priority: int = 0,
        arrival_time: float | None = None,
        cache_salt: str | None = None,
        client_id: str = "",
    ) -> None:
        """Add a request, to be served by the steps to come.

        Args:
            request_id: Its name.
            prompt: A text or a list of tokens.
            sampling_params: None for the model's defaults.
            priority: Lower is more important, under a policy that heeds it.
            arrival_time: When it arrived, in seconds of ``time.monotonic``; None for now.
            cache_salt: Only requests with the same salt may share cached prefixes.
            client_id: Whose it is, under a policy that is fair to clients.

        Raises:
            PromptError: The prompt cannot be served. Nothing changes.
            ValueError: The name is in use. Nothing changes.
            EngineDeadError: A step has failed before.
        """
        params = sampling_params or self.get_default_sampling_params()
        plain = plain_prompt(prompt)
        token_ids = self._tokens_of(plain, params)
        self._add(
            request_id,
            plain,
            token_ids,
            params,
            priority=priority,
            arrival_time=arrival_time,
            cache_salt=cache_salt,
            client_id=client_id,
        )

    def step(self) -> list[RequestOutput]:
        """Run one step, if there is anything to do.

        Returns:
            The requests that have something new since the last call, as far as they have come.

        Raises:
            PartError: A part of the learner's own failed.
            InvariantError: With ``debug``, something is not as it must be.
            EngineDeadError: A step has failed before.
        """
        self._require_alive()
        if self.has_unfinished_requests():
            self._advance()
        changed, self._changed = self._changed, {}
        return [group.output() for group in changed.values()]

    def abort_request(self, request_ids: str | Sequence[str]) -> None:
        """End requests; those that are finished or unknown are passed over.

        ``step`` does not report them any more.
        """
        ids = [request_ids] if isinstance(request_ids, str) else request_ids
        for group in [self._groups[name] for name in dict.fromkeys(ids) if name in self._groups]:
            live = [a for a in group.answers if a.finish_reason is None]
            self.metrics.finished["abort"] += len(live)
            for answer in live:
                answer.abort()
            self._forget(group)
            self._changed.pop(group.request_id, None)
            if self._failure is None:
                names = [answer.request.request_id for answer in live]
                with self._explaining(f"when request {group.request_id!r} was aborted"):
                    self.scheduler.finish_requests(names, RequestStatus.FINISHED_ABORTED)
        self._count_now()

    def has_unfinished_requests(self) -> bool:
        """Whether a request is waiting or running."""
        return bool(self._groups)

    def _run_with_bar(self, groups: Sequence[AnswerGroup]) -> None:
        """Run until the groups are finished, and show how far they are."""
        with progress_bar(len(groups)) as report:
            num_tokens = self.metrics.generation_tokens
            while not all(group.is_finished for group in groups):
                self._advance()
                report(
                    sum(group.is_finished for group in groups),
                    self.metrics.generation_tokens - num_tokens,
                )
        self._fetched(groups)

    def _run(self, groups: Sequence[AnswerGroup]) -> None:
        """Run until the groups are finished."""
        while not all(group.is_finished for group in groups):
            self._advance()
        self._fetched(groups)

    def _stream(
        self, prompt: PlainPrompt, token_ids: list[int], params: SamplingParams
    ) -> Iterator[RequestOutput]:
        """Add a request, run until it is finished, and yield it whenever it has something new."""
        group = self._add(self._new_id(), prompt, token_ids, params)
        try:
            is_last = False
            while not is_last:
                while group.request_id not in self._changed:
                    self._advance()
                self._fetched([group])
                is_last = group.is_finished
                yield group.output()
        finally:
            self.abort_request(group.request_id)

    def _advance(self) -> None:
        """Run one step. What has something new is in ``_changed`` afterwards."""
        self._require_alive()
        index = self.metrics.num_steps
        with deferred_interrupts(), self._explaining(f"in step {index}"):
            self._step(index)

    @contextmanager
    def _explaining(self, where: str) -> Iterator[None]:
        """Let an exception say where it happened and whose part it was; the engine stops for it."""
        try:
            yield
        except Exception as error:
            if isinstance(error, InvariantError):
                error = InvariantError(f"{where}: {error}").with_traceback(error.__traceback__)
            self._failure = self.parts.explain(error, where)
            raise self._failure from (None if self._failure is error else error)

    def _step(self, index: int) -> None:
        """Plan, compute, and take in what came of it."""
        if self._checker is not None:
            self._checker.before()
        started = time.monotonic()
        output = self.scheduler.schedule()
        forked = self._fork(output)
        scheduled = time.monotonic()
        result = self.executor.execute(output, forked)
        sampled_at = time.monotonic()
        if self._checker is not None:
            self._checker.after_execution(output, result)
        sampled = {name: token.token_id for name, token in result.sampled.items()}
        answers = {name: self._answers[name][1] for name in sampled}
        self.scheduler.update_from_output(output, sampled)
        self._take_in(output, result, scheduled)
        if self._checker is not None:
            self._checker.after()
        self.metrics.num_steps += 1
        self._count_now()
        self.last_step = StepRecord(
            index,
            output,
            sampled,
            answers,
            {name: [child.request_id for child in forks] for name, forks in forked.items()},
            started,
            scheduled,
            result.computed_at,
            sampled_at,
            time.monotonic(),
        )

    def _fork(self, output: SchedulerOutput) -> dict[str, list[EngineRequest]]:
        """Give every prompt that is computed in this step its other answers.

        Returns:
            The requests of those that begin at once, by the id of the request whose blocks they
            share. The others wait; they draw the same tokens when their turn comes.
        """
        forked: dict[str, list[EngineRequest]] = {}
        for name in output.num_scheduled_tokens:
            group, _ = self._answers[name]
            request = group.answers[0].request
            if group.is_forked or request.num_computed_tokens < request.num_tokens:
                continue
            group.is_forked = True
            children = [answer.request for answer in group.answers[1:]]
            running = [child for child in children if self.scheduler.fork_request(name, child)]
            if running:
                forked[name] = running
        return forked

    def _take_in(self, output: SchedulerOutput, result: StepResult, scheduled: float) -> None:
        """Add a step's tokens to the answers, and end those that are done."""
        for request in output.scheduled_new_reqs:
            group, _ = self._answers[request.request_id]
            if group.metrics.first_scheduled_time is None:
                group.metrics.first_scheduled_time = scheduled
                num_scheduled = output.num_scheduled_tokens[request.request_id]
                group.num_cached_tokens = request.num_computed_tokens - num_scheduled
        self.metrics.num_preemptions += len(output.preempted_req_ids)
        now = time.monotonic()
        stopped: list[str] = []
        for name, token in result.sampled.items():
            group, answer = self._answers[name]
            if group.metrics.first_token_time is None:
                group.metrics.first_token_time = now
                self.metrics.record_first_token(group.metrics, len(group.prompt_token_ids))
            self.metrics.generation_tokens += 1
            answer.append(token)
            self._changed[group.request_id] = group
            if answer.finish_reason is None:
                continue
            self.metrics.finished[answer.finish_reason] += 1
            if not answer.request.is_finished:
                stopped.append(name)
            if group.is_finished:
                group.metrics.finished_time = now
                self.metrics.record_finished(group.metrics, group.output_lens)
                self._forget(group)
        if stopped:
            self.scheduler.finish_requests(stopped, RequestStatus.FINISHED_STOPPED)

    def _add(
        self,
        request_id: str,
        prompt: PlainPrompt,
        token_ids: list[int],
        params: SamplingParams,
        *,
        arrival_time: float | None = None,
        **known: Any,
    ) -> AnswerGroup:
        """Give a prompt that can be served to the scheduler; ValueError if the name is in use."""
        self._require_alive()
        names = [request_id, *(f"{index}_{request_id}" for index in range(1, params.n))]
        for name in names:
            if name in self._answers:
                raise ValueError(
                    f"request {name!r} is not finished yet; give each request its own id"
                )
        arrived = time.monotonic() if arrival_time is None else arrival_time
        seed = params.seed
        if seed is None:
            seed = random_stream(self._seed, next(self._numbers))
        ends_itself = bool(self._eos_token_ids) and not params.ignore_eos
        requests = [
            EngineRequest(
                name,
                token_ids,
                params,
                seed,
                index,
                arrival_time=arrived,
                eos_token_id=self._eos_token_ids[0] if ends_itself else None,
                **known,
            )
            for index, name in enumerate(names)
        ]
        with self._explaining(f"when request {request_id!r} was added"):
            self.scheduler.add_request(requests[0])
        if requests[0].is_finished:
            raise PromptError(requests[0].finish_reason)
        answers = [
            Answer(each, token_ids, self._eos_token_ids, self._tokenizer) for each in requests
        ]
        group = AnswerGroup(
            request_id,
            prompt if isinstance(prompt, str) else None,
            token_ids,
            answers,
            RequestMetrics(arrived),
        )
        self._groups[request_id] = group
        self._answers |= {name: (group, each) for name, each in zip(names, answers, strict=True)}
        self._count_now()
        return group

    def _tokens_of(self, prompt: PlainPrompt, params: SamplingParams) -> list[int]:
        """Return the tokens of a prompt; PromptError if it can never be served."""
        if isinstance(prompt, str) and not prompt:
            raise PromptError("the prompt is empty; give at least one character")
        token_ids = self.tokenizer.encode(prompt) if isinstance(prompt, str) else list(prompt)
        self._require_servable(token_ids)
        if params.stop_strings and self._tokenizer is None:
            raise PromptError(
                "stop strings need text, and this checkpoint has no tokenizer.json; use "
                "stop_token_ids"
            )
        return token_ids

    def _require_servable(self, token_ids: Sequence[int]) -> None:
        """Raise PromptError for tokens that can never be served."""
        if not token_ids:
            raise PromptError("the prompt is empty; give at least one token")
        vocab_size = self.model_config.vocab_size
        for token_id in token_ids:
            if not isinstance(token_id, int) or not 0 <= token_id < vocab_size:
                raise PromptError(
                    f"the prompt has token {token_id!r}; tokens are whole numbers from 0 to "
                    f"{vocab_size - 1}"
                )
        num_tokens, longest = len(token_ids), self.scheduler.max_model_len
        if num_tokens > longest:
            size = self.kv_cache_manager.block_size
            num_blocks = self.kv_cache_manager.block_pool.num_blocks
            needed = -(-num_tokens // size)
            remedy = f"shorten it to {longest}"
            if num_tokens <= self.model_config.max_model_len and needed >= num_blocks:
                remedy += f", or give the engine num_blocks={needed + 1} or more"
            raise PromptError(
                f"the prompt has {num_tokens} tokens, and a sequence has at most {longest} here; "
                f"it would need {needed} blocks of {size}, of which the pool has {num_blocks - 1}: "
                f"{remedy}"
            )

    def _find_eos(self) -> tuple[int, ...]:
        """Return the tokens that end every answer: the tokenizer's own first."""
        main = None if self._tokenizer is None else self._tokenizer.eos_token_id
        known = self.model_config.eos_token_ids
        return tuple(dict.fromkeys(([] if main is None else [main]) + list(known)))

    def _forget(self, group: AnswerGroup) -> None:
        """Drop a group that is over."""
        del self._groups[group.request_id]
        for answer in group.answers:
            del self._answers[answer.request.request_id]

    def _fetched(self, groups: Sequence[AnswerGroup]) -> None:
        """Take note that somebody has these groups."""
        for group in groups:
            self._changed.pop(group.request_id, None)

    def _count_now(self) -> None:
        """Bring up to date what the metrics say of this moment."""
        metrics, manager, scheduler = self.metrics, self.kv_cache_manager, self.scheduler
        metrics.num_requests_running = len(scheduler.running)
        metrics.num_requests_waiting = len(scheduler.waiting)
        metrics.num_requests_swapped = len(scheduler.swapped)
        metrics.kv_cache_usage = manager.usage
        metrics.prefix_cache_queries = manager.prefix_hits.num_tokens
        metrics.prefix_cache_hits = manager.prefix_hits.num_hit_tokens
        metrics.num_block_copies = manager.num_copies

    def _new_id(self) -> str:
        """Return a name that no request has."""
        names = (str(number) for number in self._names)
        return next(name for name in names if name not in self._answers)

    def _require_alive(self) -> None:
        """Raise EngineDeadError if a step has failed."""
        if self._failure is not None:
            raise EngineDeadError(
                f"this engine has stopped: {self._failure}; make a new LLM"
            ) from self._failure


def _scheduler_config(options: Mapping[str, Any]) -> SchedulerConfig:
    """Make a configuration of options by name."""
    known = [field.name for field in dataclasses.fields(SchedulerConfig)]
    for name in options:
        if name not in known:
            raise TypeError(f"LLM has no option {name!r}; for the scheduler: {', '.join(known)}")
    return SchedulerConfig(**options)


def _within_model(config: SchedulerConfig, longest: int) -> SchedulerConfig:
    """Return a configuration that lets no sequence grow beyond what the model computes."""
    if config.max_model_len is not None and config.max_model_len > longest:
        raise ValueError(
            f"max_model_len is {config.max_model_len}; this model computes at most {longest} tokens"
        )
    return dataclasses.replace(config, max_model_len=config.max_model_len or longest)

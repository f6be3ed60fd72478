"""The engine: prompts in, texts out, everything in between from the parts of this course.

A step of the engine is three calls: the scheduler plans, the executor computes, the scheduler takes
in the tokens (``core``). ``LLM`` does these in a loop, makes requests of prompts (``intake``), and
lets its user add and abort them between two steps.
"""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import torch

from course_lib.attention.backends.backend import AttentionBackend, BackendName, choose_backend
from course_lib.engine.answer import AnswerGroup
from course_lib.engine.checkpoint import load_checkpoint, load_sampling_defaults
from course_lib.engine.core import EngineCore, StepRecord
from course_lib.engine.engine_parts import EngineParts
from course_lib.engine.executor import Executor
from course_lib.engine.intake import Intake
from course_lib.engine.interrupts import deferred_interrupts
from course_lib.engine.kv_store import PagedKVStore
from course_lib.engine.memory import default_num_blocks, keep_freed_memory
from course_lib.engine.outputs import RequestOutput
from course_lib.engine.progress import progress_bar
from course_lib.engine.prompts import (
    PlainPrompt,
    Prompt,
    as_prompts,
    one_each,
    plain_prompt,
)
from course_lib.engine.sampling_params import SamplingParams
from course_lib.engine.step_check import StepChecker
from course_lib.engine.tokenizer import Tokenizer, checkpoint_folder
from course_lib.kv_cache.watch.invariants import under_check
from course_lib.scheduling.scheduler import SchedulerConfig


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
        self.parts = EngineParts.load() if parts is None else parts
        if num_blocks is None:
            sized = self.parts.stand_in(default_num_blocks)
            num_blocks = sized(self.model, config, block_size)
        _require_a_block(num_blocks)
        self.kv_cache_manager = self.parts.make_manager(
            num_blocks, block_size, enable_prefix_caching
        )
        self.scheduler = self.parts.make_scheduler(config, self.kv_cache_manager)
        if not isinstance(attention_backend, AttentionBackend):
            attention_backend = choose_backend(device, attention_backend)
        self.executor = self._make_executor(attention_backend, config.num_cpu_blocks)
        make_core = self.parts.get("EngineCore")
        self._core: EngineCore = make_core(self.scheduler, self.executor, self.parts)
        self.metrics = self._core.metrics
        self._intake = Intake(
            self.model_config,
            _tokenizer_of(folder),
            self.scheduler,
            seed,
            answer=self.parts.get("Answer"),
        )
        self._names = itertools.count()  # for the requests without a name
        self._checks = ExitStack()
        if debug:
            self._check_everything()

    def _make_executor(self, backend: AttentionBackend, num_cpu_blocks: int) -> Executor:
        """Make an executor, with a store for the blocks of the manager's pool."""
        manager = self.kv_cache_manager
        kv_store = PagedKVStore(
            self.model_config,
            manager.block_pool.num_blocks,
            manager.block_size,
            num_cpu_blocks=num_cpu_blocks,
            dtype=self.model.dtype,
            device=self.model.device,
        )
        executor: Executor = self.parts.get("Executor")(
            self.model,
            kv_store,
            self.parts.with_own_operations(backend),
            manager.get_block_ids,
            block_table=self.parts.get("BlockTable"),
            slot_mapping=self.parts.get("slot_mapping"),
            flatten_step=self.parts.get("flatten_step"),
        )
        return executor

    def _check_everything(self) -> None:
        """Check every step, and every call of the cache manager, for as long as this LLM lives."""
        self._checks.enter_context(self.parts.stand_in(StepChecker)(self._core).attached())
        self._checks.enter_context(under_check(self.kv_cache_manager))

    @property
    def tokenizer(self) -> Tokenizer:
        """The checkpoint's tokenizer; PromptError if it has none."""
        return self._intake.tokenizer

    @property
    def last_step(self) -> StepRecord | None:
        """The newest step; None before the first."""
        return self._core.last_step

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
                token_ids = self._intake.tokens_of(prompt, each)
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
        return self._stream(plain, self._intake.tokens_of(plain, params), params)

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
        token_ids = self._intake.tokens_of(plain, params)
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
        self._core.require_alive()
        if self.has_unfinished_requests():
            self._core.advance()
        return [group.output() for group in self._core.fetch_changed()]

    def abort_request(self, request_ids: str | Sequence[str]) -> None:
        """End requests; those that are finished or unknown are passed over.

        ``step`` does not report them any more.
        """
        ids = [request_ids] if isinstance(request_ids, str) else request_ids
        self._core.abort(dict.fromkeys(ids))

    def has_unfinished_requests(self) -> bool:
        """Whether a request is waiting or running."""
        return bool(self._core.groups)

    def _run_with_bar(self, groups: Sequence[AnswerGroup]) -> None:
        """Run until the groups are finished, and show how far they are."""
        with progress_bar(len(groups)) as report:
            num_tokens = self.metrics.generation_tokens
            while not all(group.is_finished for group in groups):
                self._core.advance()
                report(
                    sum(group.is_finished for group in groups),
                    self.metrics.generation_tokens - num_tokens,
                )
        self._core.mark_fetched(groups)

    def _run(self, groups: Sequence[AnswerGroup]) -> None:
        """Run until the groups are finished."""
        while not all(group.is_finished for group in groups):
            self._core.advance()
        self._core.mark_fetched(groups)

    def _stream(
        self, prompt: PlainPrompt, token_ids: list[int], params: SamplingParams
    ) -> Iterator[RequestOutput]:
        """Add a request, run until it is finished, and yield it whenever it has something new."""
        group = self._add(self._new_id(), prompt, token_ids, params)
        try:
            is_last = False
            while not is_last:
                while group.request_id not in self._core.changed:
                    self._core.advance()
                self._core.mark_fetched([group])
                is_last = group.is_finished
                yield group.output()
        finally:
            self.abort_request(group.request_id)

    def _add(
        self,
        request_id: str,
        prompt: PlainPrompt,
        token_ids: list[int],
        params: SamplingParams,
        **known: Any,
    ) -> AnswerGroup:
        """Give a prompt that can be served to the core; ValueError if the name is in use."""
        self._core.require_alive()
        names = [request_id, *(f"{index}_{request_id}" for index in range(1, params.n))]
        for name in names:
            if name in self._core.answers:
                raise ValueError(
                    f"request {name!r} is not finished yet; give each request its own id"
                )
        group = self._intake.make_group(names, prompt, token_ids, params, **known)
        self._core.add(group)
        return group

    def _new_id(self) -> str:
        """Return a name that no request has."""
        names = (str(number) for number in self._names)
        return next(name for name in names if name not in self._core.answers)


def _tokenizer_of(folder: Path) -> Tokenizer | None:
    """Return the tokenizer of a checkpoint, if it has one."""
    return Tokenizer(folder) if (folder / "tokenizer.json").is_file() else None


def _require_a_block(num_blocks: int) -> None:
    """Raise ValueError unless a pool has a block beside the null block."""
    if num_blocks < 2:
        raise ValueError(
            f"num_blocks is {num_blocks}; block 0 is the null block, so an engine that is to "
            "serve anything needs at least 2"
        )


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

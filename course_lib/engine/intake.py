"""What becomes of a prompt before the scheduler sees it: checked tokens, a request per answer."""

from __future__ import annotations

import itertools
import operator
import time
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from course_lib.engine.answer import Answer, AnswerGroup
from course_lib.engine.config import LlamaConfig
from course_lib.engine.outputs import RequestMetrics
from course_lib.engine.prompts import PlainPrompt, PromptError
from course_lib.engine.request import EngineRequest
from course_lib.engine.sampler import random_stream
from course_lib.engine.sampling_params import SamplingParams
from course_lib.engine.tokenizer import Tokenizer
from course_lib.scheduling.scheduler import Scheduler


class Intake:
    """Makes requests of prompts.

    Args:
        model_config: The model's shape.
        tokenizer: Makes tokens of texts; None if the checkpoint has none.
        scheduler: Knows how long a sequence may be.
        seed: Where the random numbers of requests start that have no seed of their own.
        answer: Makes an answer.
    """

    def __init__(
        self,
        model_config: LlamaConfig,
        tokenizer: Tokenizer | None,
        scheduler: Scheduler,
        seed: int,
        *,
        answer: type[Answer] = Answer,
    ) -> None:
        self._model_config = model_config
        self._tokenizer = tokenizer
        self._scheduler = scheduler
        self._seed = seed
        self._make_answer = answer
        self._eos_token_ids = _eos_token_ids(model_config, tokenizer)
        self._numbers = itertools.count()  # of the requests without a seed

    @property
    def tokenizer(self) -> Tokenizer:
        """The checkpoint's tokenizer; PromptError if it has none."""
        if self._tokenizer is None:
            raise PromptError("this checkpoint has no tokenizer.json; give prompts as tokens")
        return self._tokenizer

    def tokens_of(self, prompt: PlainPrompt, params: SamplingParams) -> list[int]:
        """Return the tokens of a prompt.

        Args:
            prompt: A text, or tokens.
            params: What is asked of the sampler; stop strings need a tokenizer.

        Raises:
            PromptError: The prompt can never be served.
        """
        if isinstance(prompt, str) and not prompt:
            raise PromptError("the prompt is empty; give at least one character")
        if isinstance(prompt, str):
            token_ids = self.tokenizer.encode(prompt)
        else:
            token_ids = [self._whole_number(token) for token in prompt]
        self._require_tokens(token_ids)
        self._require_length(len(token_ids))
        if params.stop_strings and self._tokenizer is None:
            raise PromptError(
                "stop strings need text, and this checkpoint has no tokenizer.json; use "
                "stop_token_ids"
            )
        return token_ids

    def make_group(
        self,
        names: Sequence[str],
        prompt: PlainPrompt,
        token_ids: list[int],
        params: SamplingParams,
        *,
        arrival_time: float | None = None,
        **known: Any,
    ) -> AnswerGroup:
        """Make a request for each answer to a prompt.

        Args:
            names: Their ids at the scheduler; the first is the user's name for them all.
            prompt: The prompt as it was given.
            token_ids: The same in tokens.
            params: What is asked of the sampler.
            arrival_time: When it arrived, in seconds of ``time.monotonic``; None for now.
            **known: Other arguments of ``EngineRequest``.

        Raises:
            ValueError: The priority is no whole number.
        """
        _require_priority(known.get("priority", 0))
        arrived = time.monotonic() if arrival_time is None else arrival_time
        if params.max_tokens is None:
            room = self._scheduler.max_model_len - len(token_ids)
            params = replace(params, max_tokens=room)
        seed = params.seed
        if seed is None:
            seed = random_stream(self._seed, next(self._numbers))
        ends_itself = bool(self._eos_token_ids) and not params.ignore_eos
        main_end = self._eos_token_ids[0] if ends_itself else None
        known |= {"arrival_time": arrived, "eos_token_id": main_end}
        requests = [
            EngineRequest(name, token_ids, params, seed, index, **known)
            for index, name in enumerate(names)
        ]
        return AnswerGroup(
            names[0],
            prompt if isinstance(prompt, str) else None,
            token_ids,
            [
                self._make_answer(each, token_ids, self._eos_token_ids, self._tokenizer)
                for each in requests
            ],
            RequestMetrics(arrived),
        )

    def _whole_number(self, token: object) -> int:
        """Return a token as an int, also one of NumPy's."""
        try:
            return operator.index(token)  # type: ignore[arg-type]  # that is the question
        except TypeError:
            raise self._no_token(token) from None

    def _require_tokens(self, token_ids: Sequence[int]) -> None:
        """Raise PromptError unless these are tokens of the model."""
        if not token_ids:
            raise PromptError("the prompt is empty; give at least one token")
        for token_id in token_ids:
            if not 0 <= token_id < self._model_config.vocab_size:
                raise self._no_token(token_id)

    def _no_token(self, token: object) -> PromptError:
        return PromptError(
            f"the prompt has token {token!r}; tokens are whole numbers from 0 to "
            f"{self._model_config.vocab_size - 1}"
        )

    def _require_length(self, num_tokens: int) -> None:
        """Raise PromptError if a prompt leaves no room for an answer in any sequence here."""
        longest = self._scheduler.max_model_len
        if num_tokens < longest:
            return
        size = self._scheduler.kv_cache_manager.block_size
        num_blocks = self._scheduler.kv_cache_manager.block_pool.num_blocks
        needed = num_tokens // size + 1
        remedy = f"shorten it to {longest - 1}"
        if num_tokens < self._model_config.max_model_len and needed >= num_blocks:
            remedy += f", or give the engine num_blocks={needed + 1} or more"
        raise PromptError(
            f"the prompt has {num_tokens} tokens, and a sequence has at most {longest} here, one "
            f"of them at least for the answer; it would need {needed} blocks of {size}, of which "
            f"the pool has {num_blocks - 1}: {remedy}"
        )


def _require_priority(priority: object) -> None:
    """Raise ValueError unless queues can be put in order by it."""
    try:
        operator.index(priority)  # type: ignore[arg-type]  # that is the question
    except TypeError:
        raise ValueError(f"priority is {priority!r}; it must be a whole number") from None


def _eos_token_ids(model_config: LlamaConfig, tokenizer: Tokenizer | None) -> tuple[int, ...]:
    """Return the tokens that end every answer: the tokenizer's own first."""
    main = None if tokenizer is None else tokenizer.eos_token_id
    known = model_config.eos_token_ids
    return tuple(dict.fromkeys(([] if main is None else [main]) + list(known)))

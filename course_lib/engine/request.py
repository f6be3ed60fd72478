"""What the engine knows of a request beyond what the scheduler has to know: how to sample it."""

from __future__ import annotations

from collections.abc import Sequence

from course_lib.engine.sampling_params import SamplingParams
from course_lib.scheduling.request import Request


class EngineRequest(Request):
    """A request of the scheduler that also says how its tokens are chosen.

    Args:
        request_id: As in ``Request``.
        prompt_token_ids: As in ``Request``.
        params: What it asks of the sampler; ``max_tokens`` is a number here.
        seed: Where its random numbers start.
        index: Which answer to its prompt it is, from 0.
        priority: As in ``Request``.
        arrival_time: As in ``Request``.
        eos_token_id: As in ``Request``.
        cache_salt: As in ``Request``.
        client_id: As in ``Request``.

    Attributes:
        params: What it asks of the sampler.
        seed: Where its random numbers start.
        index: Which answer to its prompt it is.

    >>> EngineRequest("a", [5, 6], SamplingParams(max_tokens=3), seed=0)
    Request('a', waiting, 2 + 0 tokens, 0 computed)
    """

    __slots__ = ("index", "params", "seed")

    def __init__(
        self,
        request_id: str,
        prompt_token_ids: Sequence[int],
        params: SamplingParams,
        seed: int,
        index: int = 0,
        *,
        priority: int = 0,
        arrival_time: float = 0.0,
        eos_token_id: int | None = None,
        cache_salt: str | None = None,
        client_id: str = "",
    ) -> None:
        assert params.max_tokens is not None, "whoever knows the context says how many fit"
        super().__init__(
            request_id,
            prompt_token_ids,
            params.max_tokens,
            priority,
            arrival_time,
            eos_token_id,
            cache_salt,
            client_id=client_id,
        )
        self.params = params
        self.seed = seed
        self.index = index

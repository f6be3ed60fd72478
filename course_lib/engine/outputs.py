"""What a request gives back: texts, tokens, why it ended, and when what happened."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

FinishReason = Literal["stop", "length", "abort"]


@dataclass(frozen=True, slots=True)
class Logprob:
    r"""How probable the model found one token at one position.

    Attributes:
        logprob: Natural logarithm of the probability.
        rank: 1 for the most probable token.
        decoded_token: The token as text, with the space before a word; ``U+FFFD`` for a part of a
            character.
        token_bytes: The token's bytes; None if they are those of ``decoded_token`` in UTF-8.

    >>> Logprob(-0.5, 1, "é").utf8, Logprob(-2.5, 2, "\ufffd", b"\xc3").utf8
    (b'\xc3\xa9', b'\xc3')
    """

    logprob: float
    rank: int
    decoded_token: str
    token_bytes: bytes | None = None

    @property
    def utf8(self) -> bytes:
        """The token's bytes. Those of tokens in a row are their text, whatever each is part of."""
        return self.decoded_token.encode() if self.token_bytes is None else self.token_bytes


@dataclass(frozen=True, slots=True)
class CompletionOutput:
    """One answer to a prompt, as far as it has come.

    Attributes:
        index: Its number, from 0.
        text: What can be shown. It never has to be taken back: a character of which only some bytes
            are generated, and what may become a stop string, are not in it yet.
        token_ids: The tokens, those that ended it included.
        cumulative_logprob: Sum of the tokens' log-probabilities, if ``logprobs`` were asked for.
        logprobs: For each token, the log-probabilities asked for, by token id; the token's own is
            always among them.
        finish_reason: ``stop`` (the model was done, or a stop token or string came), ``length``
            (``max_tokens``, or the longest sequence possible), ``abort``, or None if it goes on.
        stop_reason: The stop string or stop token that ended it; None for the model's own end.
        text_offsets: For each token with log-probabilities, where its text begins in the answer's,
            in characters. Parts of a character begin where it does; behind the end of the text lies
            what a stop string has cut off.
    """

    index: int
    text: str
    token_ids: list[int]
    cumulative_logprob: float | None
    logprobs: list[dict[int, Logprob]] | None
    finish_reason: FinishReason | None = None
    stop_reason: int | str | None = None
    text_offsets: list[int] = field(default_factory=list)


@dataclass(slots=True)
class RequestMetrics:
    """When what happened to a request: seconds of ``time.monotonic``.

    Attributes:
        arrival_time: It was added.
        first_scheduled_time: The first step that computes something of it was planned.
        first_token_time: Its first token was there.
        finished_time: Its last answer was complete.
        num_preemptions: How often its answers lost their place, all together.
    """

    arrival_time: float
    first_scheduled_time: float | None = None
    first_token_time: float | None = None
    finished_time: float | None = None
    num_preemptions: int = 0

    @property
    def time_to_first_token(self) -> float | None:
        """Seconds from arrival to the first token; None before it."""
        return None if self.first_token_time is None else self.first_token_time - self.arrival_time

    @property
    def e2e_latency(self) -> float | None:
        """Seconds from arrival to the end; None before it."""
        return None if self.finished_time is None else self.finished_time - self.arrival_time


@dataclass(frozen=True, slots=True)
class RequestOutput:
    """A request as far as it has come: everything so far, not only what is new.

    Attributes:
        request_id: The request.
        prompt: The prompt, if it was given as text.
        prompt_token_ids: The prompt in tokens.
        outputs: Its answers, ``n`` of them.
        finished: Whether all of them are complete.
        num_cached_tokens: Tokens of the prompt that were in the prefix cache when it began.
        metrics: When what happened.
    """

    request_id: str
    prompt: str | None
    prompt_token_ids: list[int]
    outputs: list[CompletionOutput]
    finished: bool
    num_cached_tokens: int
    metrics: RequestMetrics | None = None

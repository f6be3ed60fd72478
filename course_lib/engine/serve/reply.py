"""What the engine puts out, in the words of the OpenAI protocol, whole or piece by piece."""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import accumulate
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from course_lib.engine.outputs import CompletionOutput, Logprob, RequestOutput

Json = dict[str, Any]

LOWEST_LOGPROB = -9999.0
"""What is said instead of minus infinity, which JSON does not have. vLLM says the same."""


@dataclass(frozen=True)
class Piece:
    """What one choice has gained since the client last heard of it.

    Attributes:
        index: The choice.
        text: Its new text.
        tokens: For each new token its id, and the log-probabilities by token id; None if they were
            not asked for. A token may come earlier than its text.
        text_offset: Where in the choice's text the first new token begins, in characters.
        finish_reason: Why it ended, or None.
        stop_reason: The stop string or token that ended it.
    """

    index: int
    text: str
    tokens: list[tuple[int, dict[int, Logprob]]] | None
    text_offset: int
    finish_reason: str | None
    stop_reason: int | str | None


@dataclass
class _Told:
    """How much of a choice the client knows, and what it is told in front of the text."""

    echo: str = ""
    num_chars: int = 0
    num_tokens: int = 0
    text_offset: int = 0
    is_finished: bool = False


@dataclass
class Reply(ABC):
    """One HTTP reply in the making: its choices, and how far the client knows them.

    Invariant: the pieces of a choice, one after the other, are its text; no character and no token
    is told twice.

    Args:
        id: The reply's id; request ``i`` of it is ``f"{id}-{i}"``.
        model: The model's name.
        num_prompt_tokens: Tokens of each prompt.
        num_choices: Answers to each prompt.
        echoes: What stands in front of the text of each prompt's choices; none if empty.

    Attributes:
        request_ids: The ids of its requests, one for each prompt.
    """

    id: str
    model: str
    num_prompt_tokens: Sequence[int]
    num_choices: int = 1
    echoes: Sequence[str] = ()
    created: int = field(default_factory=lambda: int(time.time()))

    def __post_init__(self) -> None:
        self.request_ids = [f"{self.id}-{i}" for i in range(len(self.num_prompt_tokens))]
        self._first_index = {
            request_id: i * self.num_choices for i, request_id in enumerate(self.request_ids)
        }
        self._newest: dict[str, RequestOutput] = {}
        num_all_choices = self.num_choices * len(self.request_ids)
        self._told = [_Told() for _ in range(num_all_choices)]
        for index, told in enumerate(self._told if self.echoes else ()):
            told.echo = self.echoes[index // self.num_choices]

    def take(self, output: RequestOutput) -> list[Piece]:
        """Take in a newer output, and return what is new in it."""
        self._newest[output.request_id] = output
        first = self._first_index[output.request_id]
        pieces = (self._piece(first + choice.index, choice) for choice in output.outputs)
        return [piece for piece in pieces if piece is not None]

    @property
    def usage(self) -> Json:
        """How many tokens came and went so far."""
        prompt = sum(self.num_prompt_tokens)
        outputs = self._newest.values()
        generated = sum(len(choice.token_ids) for o in outputs for choice in o.outputs)
        cached = sum(output.num_cached_tokens for output in outputs)
        return {
            "prompt_tokens": prompt,
            "completion_tokens": generated,
            "total_tokens": prompt + generated,
            "prompt_tokens_details": {"cached_tokens": cached},
        }

    def opening(self) -> Iterator[Json]:
        """Yield what is streamed before there is any output."""
        return iter(())

    @abstractmethod
    def chunk(self, piece: Piece) -> Json:
        """Return a piece as it is streamed."""

    @abstractmethod
    def usage_chunk(self) -> Json:
        """Return the last thing that is streamed, if the number of tokens was asked for."""

    @abstractmethod
    def whole(self, pieces: Sequence[Piece]) -> Json:
        """Return an answer that is not streamed: for each choice all of it, as one piece."""

    def _envelope(self, object_name: str, choices: list[Json]) -> Json:
        """Wrap choices up."""
        return {
            "id": self.id,
            "object": object_name,
            "created": self.created,
            "model": self.model,
            "choices": choices,
        }

    def _piece(self, index: int, choice: CompletionOutput) -> Piece | None:
        """Return what is new of a choice, or None if nothing is."""
        told = self._told[index]
        text = told.echo + choice.text[told.num_chars :]
        tokens = None
        if choice.logprobs is not None:
            new = slice(told.num_tokens, None)
            tokens = list(zip(choice.token_ids[new], choice.logprobs[new], strict=True))
        if told.is_finished or not (text or tokens or choice.finish_reason):
            return None
        piece = Piece(
            index, text, tokens, told.text_offset, choice.finish_reason, choice.stop_reason
        )
        told.echo = ""
        told.num_chars = len(choice.text)
        told.num_tokens = len(choice.token_ids)
        told.text_offset += sum(
            len(logprobs[token_id].decoded_token) for token_id, logprobs in tokens or ()
        )
        told.is_finished = choice.finish_reason is not None
        return piece


class CompletionReply(Reply):
    """An answer to POST /v1/completions."""

    def chunk(self, piece: Piece) -> Json:
        """Return a piece as it is streamed. It has the same form as a whole answer."""
        return self._envelope("text_completion", [_completion_choice(piece)])

    def usage_chunk(self) -> Json:
        """Return the last thing that is streamed, if the number of tokens was asked for."""
        return self._envelope("text_completion", []) | {"usage": self.usage}

    def whole(self, pieces: Sequence[Piece]) -> Json:
        """Return an answer that is not streamed."""
        choices = [_completion_choice(piece) for piece in pieces]
        return self._envelope("text_completion", choices) | {"usage": self.usage}


@dataclass
class ChatReply(Reply):
    """An answer to POST /v1/chat/completions.

    Args:
        num_top_logprobs: For how many of the most probable tokens a log-probability was asked for.
    """

    num_top_logprobs: int = 0

    def opening(self) -> Iterator[Json]:
        """Yield who speaks, once for each choice."""
        for index in range(self.num_choices):
            delta = {"role": "assistant", "content": ""}
            yield self._chunk({"index": index, "delta": delta, "finish_reason": None})

    def chunk(self, piece: Piece) -> Json:
        """Return a piece as it is streamed."""
        delta = {"content": piece.text} if piece.text else {}
        return self._chunk({"index": piece.index, "delta": delta} | self._ending(piece))

    def usage_chunk(self) -> Json:
        """Return the last thing that is streamed, if the number of tokens was asked for."""
        return self._envelope("chat.completion.chunk", []) | {"usage": self.usage}

    def whole(self, pieces: Sequence[Piece]) -> Json:
        """Return an answer that is not streamed."""
        choices = [
            {
                "index": piece.index,
                "message": {"role": "assistant", "content": piece.text, "refusal": None},
            }
            | self._ending(piece)
            for piece in pieces
        ]
        return self._envelope("chat.completion", choices) | {"usage": self.usage}

    def _chunk(self, choice: Json) -> Json:
        """Wrap up a piece of a choice."""
        return self._envelope("chat.completion.chunk", [choice])

    def _ending(self, piece: Piece) -> Json:
        """Return what stands behind the text in a piece."""
        logprobs = None
        if piece.tokens is not None:
            top = self.num_top_logprobs
            content = [_chat_logprobs(token_id, each, top) for token_id, each in piece.tokens]
            logprobs = {"content": content, "refusal": None}
        return {
            "logprobs": logprobs,
            "finish_reason": piece.finish_reason,
            "stop_reason": piece.stop_reason,
        }


def _completion_choice(piece: Piece) -> Json:
    """Return a piece of a completion."""
    return {
        "index": piece.index,
        "text": piece.text,
        "logprobs": _completion_logprobs(piece),
        "finish_reason": piece.finish_reason,
        "stop_reason": piece.stop_reason,
    }


def _completion_logprobs(piece: Piece) -> Json | None:
    """Return log-probabilities as /v1/completions has them: lists side by side."""
    if piece.tokens is None:
        return None
    texts = [logprobs[token_id].decoded_token for token_id, logprobs in piece.tokens]
    offsets = accumulate(map(len, texts), initial=piece.text_offset)
    return {
        "tokens": texts,
        "token_logprobs": [_finite(logprobs[token_id]) for token_id, logprobs in piece.tokens],
        "top_logprobs": [_by_text(logprobs) for _, logprobs in piece.tokens],
        "text_offset": list(offsets)[:-1],
    }


def _by_text(logprobs: dict[int, Logprob]) -> dict[str, float]:
    """Return log-probabilities by text. Of tokens with the same text the most probable counts."""
    by_text: dict[str, float] = {}
    for logprob in _ranked(logprobs):
        by_text.setdefault(logprob.decoded_token, _finite(logprob))
    return by_text


def _ranked(logprobs: dict[int, Logprob]) -> list[Logprob]:
    """Return log-probabilities, the highest first."""
    return sorted(logprobs.values(), key=lambda logprob: logprob.rank)


def _chat_logprobs(token_id: int, logprobs: dict[int, Logprob], num_top: int) -> Json:
    """Return the log-probabilities of one token as /v1/chat/completions has them."""
    top = [_chat_logprob(each) for each in _ranked(logprobs) if each.rank <= num_top]
    return _chat_logprob(logprobs[token_id]) | {"top_logprobs": top}


def _chat_logprob(logprob: Logprob) -> Json:
    """Return one log-probability as /v1/chat/completions has it."""
    text = logprob.decoded_token
    return {"token": text, "logprob": _finite(logprob), "bytes": list(text.encode())}


def _finite(logprob: Logprob) -> float:
    """Return a log-probability that JSON can say."""
    return max(logprob.logprob, LOWEST_LOGPROB)

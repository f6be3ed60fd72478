"""What the engine puts out, in the words of the OpenAI protocol, whole or piece by piece."""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
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
        text_offsets: Where in the choice's text each of these tokens begins, in characters.
        finish_reason: Why it ended, or None.
        stop_reason: The stop string or token that ended it.
    """

    index: int
    text: str
    tokens: list[tuple[int, dict[int, Logprob]]] | None
    text_offsets: list[int]
    finish_reason: str | None
    stop_reason: int | str | None


@dataclass
class _Told:
    """How much of a choice the client knows, and what it is told in front of the text."""

    echo: str = ""
    num_chars: int = 0
    num_tokens: int = 0
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
        new = slice(told.num_tokens, None)
        if choice.logprobs is not None:
            tokens = list(zip(choice.token_ids[new], choice.logprobs[new], strict=True))
        if told.is_finished or not (text or tokens or choice.finish_reason):
            return None
        piece = Piece(
            index,
            text,
            tokens,
            choice.text_offsets[new],
            choice.finish_reason,
            choice.stop_reason,
        )
        told.echo = ""
        told.num_chars = len(choice.text)
        told.num_tokens = len(choice.token_ids)
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
    return {
        "tokens": [_name(logprobs[token_id]) for token_id, logprobs in piece.tokens],
        "token_logprobs": [_finite(logprobs[token_id]) for token_id, logprobs in piece.tokens],
        "top_logprobs": [_by_name(token_id, logprobs) for token_id, logprobs in piece.tokens],
        "text_offset": piece.text_offsets,
    }


def _name(logprob: Logprob) -> str:
    r"""Return a token as /v1/completions names it: its text, or its bytes if they are no text.

    >>> from course_lib.engine.outputs import Logprob
    >>> _name(Logprob(-0.5, 1, " a")), _name(Logprob(-0.5, 1, "\ufffd", b"\xe2\x82"))
    (' a', 'bytes:\\xe2\\x82')
    """
    if logprob.token_bytes is None:
        return logprob.decoded_token
    return "bytes:" + "".join(f"\\x{byte:02x}" for byte in logprob.token_bytes)


def _by_name(sampled: int, logprobs: dict[int, Logprob]) -> dict[str, float]:
    """Return log-probabilities by name.

    Different tokens may print alike. The sampled one, or else the most probable of them has the
    name; vLLM's name for a token by its number stands for each of the others.
    """
    own = _name(logprobs[sampled])
    by_name: dict[str, float] = {}
    for token_id, logprob in _ranked(logprobs):
        name = _name(logprob)
        is_taken = name in by_name or (name == own and token_id != sampled)
        by_name[f"token_id:{token_id}" if is_taken else name] = _finite(logprob)
    return by_name


def _ranked(logprobs: dict[int, Logprob]) -> list[tuple[int, Logprob]]:
    """Return log-probabilities, the highest first, each with its token."""
    return sorted(logprobs.items(), key=lambda item: item[1].rank)


def _chat_logprobs(token_id: int, logprobs: dict[int, Logprob], num_top: int) -> Json:
    """Return the log-probabilities of one token as /v1/chat/completions has them."""
    top = [_chat_logprob(each) for _, each in _ranked(logprobs)[:num_top]]
    return _chat_logprob(logprobs[token_id]) | {"top_logprobs": top}


def _chat_logprob(logprob: Logprob) -> Json:
    """Return one log-probability as /v1/chat/completions has it."""
    return {
        "token": logprob.decoded_token,
        "logprob": _finite(logprob),
        "bytes": list(logprob.utf8),
    }


def _finite(logprob: Logprob) -> float:
    """Return a log-probability that JSON can say."""
    return max(logprob.logprob, LOWEST_LOGPROB)

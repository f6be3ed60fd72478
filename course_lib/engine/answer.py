"""From tokens to answers: text that never has to be taken back, and where it ends."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from course_lib.engine.detokenizer import IncrementalDetokenizer
from course_lib.engine.outputs import (
    CompletionOutput,
    FinishReason,
    Logprob,
    RequestMetrics,
    RequestOutput,
)
from course_lib.engine.request import EngineRequest
from course_lib.engine.sampler import SampledToken
from course_lib.engine.tokenizer import Tokenizer


class StopStrings:
    """Passes text on until one of some strings comes, and keeps back what may become one.

    Invariant, until one has come or the text has ended: what was passed on and what is kept back,
    together, is all the text that came; the latter is the longest end of it with which a stop
    string begins. So what is passed on in the end depends on the text alone, not on the pieces in
    which it came.

    Args:
        strings: The stop strings.

    Attributes:
        strings: The stop strings.
        kept_back: The end of the text that may become one.
        found: The stop string that came, or None.

    >>> stop = StopStrings(["END"])
    >>> stop.push("an E"), stop.push("Nd, the E"), stop.push("ND of it"), stop.found
    ('an ', 'ENd, the ', '', 'END')
    """

    def __init__(self, strings: Sequence[str]) -> None:
        self.strings = tuple(strings)
        self.kept_back = ""
        self.found: str | None = None

    def push(self, text: str) -> str:
        """Take in text; return what is final of it.

        Of several stop strings that one counts which is complete first, as when the text comes
        letter by letter, and of those that are complete at the same letter the first in
        ``strings``. The text ends in front of it. What comes behind it is dropped.

        >>> stop = StopStrings(["abcdef", "cd"])
        >>> stop.push("abcdef"), stop.found
        ('ab', 'cd')
        """
        if self.found is not None:
            return ""
        text = self.kept_back + text
        places = [(text.find(string), string) for string in self.strings]
        complete = [(start, string) for start, string in places if start >= 0]
        if complete:
            end, self.found = min(complete, key=lambda place: place[0] + len(place[1]))
            self.kept_back = ""
        else:
            end = len(text) - max((overlap(text, string) for string in self.strings), default=0)
            self.kept_back = text[end:]
        return text[:end]

    def flush(self) -> str:
        """Return what was kept back: the text has ended, and no stop string came of it."""
        text, self.kept_back = self.kept_back, ""
        return text


def overlap(text: str, string: str) -> int:
    """Return the length of the longest end of a text with which a longer string begins.

    >>> overlap("the EN", "END"), overlap("the END", "END"), overlap("the end", "END")
    (2, 0, 0)
    """
    longest = min(len(text), len(string) - 1)
    return next((n for n in range(longest, 0, -1) if string.startswith(text[-n:])), 0)


class Answer:
    """One answer as it grows, token by token.

    Args:
        request: The request that the scheduler knows.
        prompt_token_ids: The prompt.
        eos_token_ids: The tokens that end every answer of the model, its main one first.
        tokenizer: Makes text of tokens; None for an answer without text.

    Attributes:
        request: The request that the scheduler knows.
        text: What is final of the text.
        finish_reason: Why it ended; None if it goes on.
        stop_reason: The stop string or token that ended it, if any.
        stop_token_ids: The tokens that end it.
        stop_strings: What the text passes through on its way.
        detokenizer: Makes text of the tokens; None for an answer without text.
    """

    def __init__(
        self,
        request: EngineRequest,
        prompt_token_ids: Sequence[int],
        eos_token_ids: Sequence[int],
        tokenizer: Tokenizer | None,
    ) -> None:
        self.request = request
        self.text = ""
        self.finish_reason: FinishReason | None = None
        self.stop_reason: int | str | None = None
        params = request.params
        self.stop_token_ids = params.stop_tokens
        if not params.ignore_eos:
            self.stop_token_ids |= frozenset(eos_token_ids)
        self.stop_strings = StopStrings(params.stop_strings)
        self._tokenizer = tokenizer
        self.detokenizer: IncrementalDetokenizer | None = None
        if tokenizer is not None:
            self.detokenizer = IncrementalDetokenizer(tokenizer, list(prompt_token_ids))
        self._cumulative_logprob = 0.0
        self._logprobs: list[dict[int, Logprob]] | None = None
        if params.logprobs is not None:
            self._logprobs = []
        self._text_offsets: list[int] = []

    def append(self, token: SampledToken) -> None:
        """Take in a token that the scheduler has taken in already.

        A token that ends the answer has no text. A stop string ends it in front of itself, so it is
        never shown, not even a part of it. Only then the length counts: the request is finished.
        However it ends, what was kept back comes last, except behind a stop string.

        Args:
            token: The token, and its log-probabilities if they were asked for.
        """
        self.append_logprobs(token)
        token_id = token.token_id
        if token_id in self.stop_token_ids:
            is_main_end = token_id == self.request.eos_token_id
            self.finish("stop", None if is_main_end else token_id)
            return
        if self.detokenizer is not None:
            self.text += self.stop_strings.push(self.detokenizer.append(token_id))
        if self.stop_strings.found is not None:
            self.finish_reason, self.stop_reason = "stop", self.stop_strings.found
        elif self.request.is_finished:
            self.finish("length", None)

    def abort(self) -> None:
        """End it where it is, unless it has ended."""
        if self.finish_reason is None:
            self.finish("abort", None)

    def output(self) -> CompletionOutput:
        """Return it as far as it has come."""
        return CompletionOutput(
            index=self.request.index,
            text=self.text,
            token_ids=list(self.request.output_token_ids),
            cumulative_logprob=None if self._logprobs is None else self._cumulative_logprob,
            logprobs=None if self._logprobs is None else list(self._logprobs),
            finish_reason=self.finish_reason,
            stop_reason=self.stop_reason,
            text_offsets=list(self._text_offsets),
        )

    def finish(self, finish_reason: FinishReason, stop_reason: int | str | None) -> None:
        """End it, with all text that is still kept back.

        Args:
            finish_reason: Why it ends, unless a stop string comes of the last text.
            stop_reason: The token that ended it, if any.
        """
        if self.detokenizer is not None:
            self.text += self.stop_strings.push(self.detokenizer.flush())
        self.text += self.stop_strings.flush()
        if finish_reason != "abort" and self.stop_strings.found is not None:
            finish_reason, stop_reason = "stop", self.stop_strings.found
        self.finish_reason, self.stop_reason = finish_reason, stop_reason

    def append_logprobs(self, token: SampledToken) -> None:
        """Keep the log-probabilities of a position, if they were asked for."""
        if self._logprobs is None or token.logprobs is None:
            return
        found = token.logprobs
        self._text_offsets.append(len(self.text) + len(self.stop_strings.kept_back))
        self._cumulative_logprob += found.logprobs[0]
        self._logprobs.append(
            {
                token_id: self._logprob(token_id, logprob, rank)
                for token_id, logprob, rank in zip(*found, strict=True)
            }
        )

    def _logprob(self, token_id: int, logprob: float, rank: int) -> Logprob:
        """Return what is told of a token at a position."""
        if self._tokenizer is None:
            return Logprob(logprob, rank, "")
        text, data = self._tokenizer.token_text(token_id), self._tokenizer.token_bytes(token_id)
        return Logprob(logprob, rank, text, None if data == text.encode() else data)


@dataclass(eq=False)
class AnswerGroup:
    """A request as its user sees it: one prompt, ``n`` answers.

    Attributes:
        request_id: The user's name for it; also that of the first answer's request.
        prompt: The prompt, if it was given as text.
        prompt_token_ids: The prompt in tokens.
        answers: The answers, in order.
        metrics: When what happened.
        num_cached_tokens: Tokens of the prompt that were found in the prefix cache.
        is_forked: Whether the answers behind the first one have requests at the scheduler.
    """

    request_id: str
    prompt: str | None
    prompt_token_ids: list[int]
    answers: list[Answer]
    metrics: RequestMetrics
    num_cached_tokens: int = 0
    is_forked: bool = field(default=False)

    @property
    def is_finished(self) -> bool:
        """Whether all answers are complete."""
        return all(answer.finish_reason is not None for answer in self.answers)

    @property
    def output_lens(self) -> list[int]:
        """Tokens generated so far, of each answer."""
        return [answer.request.num_output_tokens for answer in self.answers]

    def output(self) -> RequestOutput:
        """Return it as far as it has come."""
        num_preemptions = sum(answer.request.num_preemptions for answer in self.answers)
        return RequestOutput(
            request_id=self.request_id,
            prompt=self.prompt,
            prompt_token_ids=self.prompt_token_ids,
            outputs=[answer.output() for answer in self.answers],
            finished=self.is_finished,
            num_cached_tokens=self.num_cached_tokens,
            metrics=replace(self.metrics, num_preemptions=num_preemptions),
        )

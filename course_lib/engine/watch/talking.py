"""An answer that is told what the model says, token by token: for lives without a model."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from math import log
from typing import Any

from course_lib.engine.answer import Answer, StopStrings
from course_lib.engine.request import EngineRequest
from course_lib.engine.sampler import SampledToken, TokenLogprobs
from course_lib.engine.sampling_params import SamplingParams
from course_lib.engine.tokenizer import Tokenizer, checkpoint_folder
from course_lib.scheduling.request import RequestStatus
from course_lib.scheduling.scheduler import status_at_end


@cache
def tiny_tokenizer() -> Tokenizer:
    """Return the tokenizer of ``course-tiny``.

    >>> tiny_tokenizer().decode(tiny_tokenizer().encode("a block"))
    'a block'
    """
    return Tokenizer(checkpoint_folder("course-tiny"))


class TalkingAnswer(Answer):
    """An answer of ``course-tiny`` that a test speaks.

    Args:
        max_tokens: After so many tokens the scheduler ends the request.
        stop: Stop strings.
        stop_token_ids: Tokens that end it, beside the model's own.
        ignore_eos: Whether the model's own end is a token like others.
        logprobs: Whether log-probabilities are asked for: each token has that of a half.
        has_text: Whether the user wants text; if not, there is no detokenizer.
        room: For so many tokens of an answer the model has room; None where it has enough.

    >>> answer = TalkingAnswer(max_tokens=9, stop=["END"])
    >>> answer.says("the E"), answer.says("ND of it")
    ('the ', 'the ')
    >>> answer.finish_reason, answer.stop_reason
    ('stop', 'END')
    """

    def __init__(
        self,
        max_tokens: int = 99,
        stop: Sequence[str] = (),
        stop_token_ids: Sequence[int] = (),
        ignore_eos: bool = False,
        logprobs: bool = False,
        has_text: bool = True,
        room: int | None = None,
    ) -> None:
        params: Any = SamplingParams(
            max_tokens=max_tokens,
            stop=list(stop),
            stop_token_ids=list(stop_token_ids),
            ignore_eos=ignore_eos,
            logprobs=0 if logprobs else None,
        )
        prompt = tiny_tokenizer().encode("The scheduler")
        end = tiny_tokenizer().eos_token_id
        request = EngineRequest(
            "a", prompt, params, seed=0, eos_token_id=None if ignore_eos else end
        )
        request.status = RequestStatus.RUNNING
        self.asks_for_logprobs = logprobs
        self.most_tokens = max_tokens if room is None else min(room, max_tokens)
        tokenizer = tiny_tokenizer() if has_text else None
        super().__init__(request, prompt, [] if end is None else [end], tokenizer)

    @property
    def kept_logprobs(self) -> list[tuple[int, list[int]]]:
        """Of each token whose log-probability was kept: where its text begins, and its id.

        >>> answer = TalkingAnswer(logprobs=True)
        >>> answer.says("the block"), answer.kept_logprobs
        ('the block', [(0, [1465]), (3, [312])])
        """
        output = self.output()
        return list(zip(output.text_offsets, map(list, output.logprobs or ()), strict=True))

    def takes(self, token_id: int) -> str:
        """Let a token come, as from scheduler and sampler; return the text so far.

        One that comes behind the end is passed over: no step computes it.
        """
        if self.finish_reason is None and not self.request.is_finished:
            self.request.append_output(token_id)
            is_last = self.request.num_output_tokens >= self.most_tokens
            if is_last or token_id == self.request.eos_token_id:
                self.request.status = status_at_end(self.request)
            found = TokenLogprobs([token_id], [log(0.5)], [1]) if self.asks_for_logprobs else None
            self.append(SampledToken(token_id, found))
        return self.text

    def says(self, text: str) -> str:
        """Let the tokens of a text come; return the text so far.

        >>> TalkingAnswer(max_tokens=2).says("the block table")
        'the block'
        """
        for token_id in tiny_tokenizer().encode(text, add_special_tokens=False):
            self.takes(token_id)
        return self.text

    def ends_itself(self) -> str:
        """Let the model's own end come; return the text so far."""
        end = tiny_tokenizer().eos_token_id
        assert end is not None
        return self.takes(end)


def speak(answer: TalkingAnswer, text: str, times: int) -> str:
    """Let a text come several times; return the end of what the user sees.

    >>> speak(TalkingAnswer(), "the block table", times=2)
    'the block tablethe block table'
    """
    for _ in range(times):
        answer.says(text)
    return answer.text[-99:]


def take_many(answer: TalkingAnswer, token_id: int, times: int) -> int:
    """Let a token come many times; return how many tokens the answer has then.

    >>> take_many(TalkingAnswer(has_text=False), 312, times=3)
    3
    """
    for _ in range(times):
        answer.takes(token_id)
    return answer.request.num_output_tokens


def push_letters(stop: StopStrings, text: str) -> int:
    """Let a text come letter by letter; return how many letters were passed on.

    >>> push_letters(StopStrings(["END"]), "the END of it")
    4
    """
    return sum(len(stop.push(letter)) for letter in text)

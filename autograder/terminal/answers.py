"""What ``course generate`` does: answer one prompt in the terminal, as the text comes."""

from __future__ import annotations

import os
import sys
import time
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TextIO

from rich.console import Console

from autograder.errors import CourseError

if TYPE_CHECKING:
    from course_lib.engine.engine import LLM
    from course_lib.engine.outputs import CompletionOutput
    from course_lib.engine.sampling_params import SamplingParams

STDIN = "-"
"""The prompt that stands for what is piped in."""


def run(prompt: str, model: str, chat: bool, sampling: dict[str, Any]) -> None:
    """Print the answers to a prompt, and on stderr how fast they came.

    Args:
        prompt: The prompt; ``-`` for what is piped in.
        model: ``course-tiny``, or a folder with a Hugging Face checkpoint.
        chat: Whether the prompt is a message to answer, and not a text to continue.
        sampling: Keyword arguments of ``SamplingParams``. Those that are None are left to the
            model's makers.

    Raises:
        CourseError: The model or the prompt cannot be had, or a parameter is out of range.
    """
    text = read_prompt(prompt, sys.stdin)
    # What is out of range is better known before the model is loaded.
    num_answers = sampling_params(**sampling).n
    # The KV cache is made for a full batch; this one has no more than the answers to one prompt.
    llm = load_llm(model, max_num_seqs=num_answers)
    require_tokenizer(llm, model)
    params = sampling_params(**llm.sampling_defaults | _given(sampling))
    try:
        speed = generate(llm, as_message(llm, text) if chat else text, params, sys.stdout)
    except BrokenPipeError:
        # Whoever reads has seen enough, as `head` does. What is left in the buffer would be
        # written, and fail again, when Python exits.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return
    Console(stderr=True).print(str(speed), highlight=False, style="dim", soft_wrap=True)


def load_llm(model: str, **options: Any) -> LLM:
    """Load a model and make an engine for it, saying so on a terminal.

    Args:
        model: ``course-tiny``, or a folder with a Hugging Face checkpoint.
        options: Keyword arguments of ``LLM``. Those that are None are left to it.

    Raises:
        CourseError: There is no such checkpoint, it cannot be read, or an option is out of range.
    """
    with Console(stderr=True).status(f"Loading {model}"):
        # PyTorch takes seconds to load.
        from course_lib.engine.engine import LLM

        try:
            return LLM(model, **_given(options))
        except (ValueError, FileNotFoundError) as error:
            raise CourseError(str(error)) from error


def require_tokenizer(llm: LLM, model: str) -> None:
    """Raise CourseError unless the model can read and write text."""
    try:
        _ = llm.tokenizer
    except ValueError as error:
        raise CourseError(
            f"{model} has no tokenizer.json, and without it there is no text; download it too"
        ) from error


def read_prompt(prompt: str, stdin: TextIO) -> str:
    """Return the prompt, or what is piped in if it is ``-``.

    Raises:
        CourseError: There is nothing in it, or what is piped in is not text.
    """
    if prompt == STDIN:
        try:
            prompt = stdin.read().rstrip("\n")
        except UnicodeDecodeError as error:
            raise CourseError(
                f"what is piped in is not text: {error}; pipe UTF-8 into `course generate -`"
            ) from error
    if not prompt:
        raise CourseError("the prompt is empty; try `course generate 'Once upon a time'`")
    return prompt


def sampling_params(**given: Any) -> SamplingParams:
    """Return sampling parameters. Those that are None keep their defaults.

    Raises:
        CourseError: One of them is out of range.
    """
    from course_lib.engine.sampling_params import SamplingParams

    try:
        return SamplingParams(**_given(given))
    except ValueError as error:
        raise CourseError(str(error)) from error


def _given(options: dict[str, Any]) -> dict[str, Any]:
    """Return the options that somebody gave: those that are not None."""
    return {name: value for name, value in options.items() if value is not None}


def as_message(llm: LLM, text: str) -> list[int]:
    """Return a text as the one message of a conversation, in tokens.

    Raises:
        CourseError: The model has no chat template, or its template refuses the message.
    """
    try:
        return llm.tokenizer.apply_chat_template([{"role": "user", "content": text}])
    except ValueError as error:
        raise CourseError(f"{error}; leave out --chat to have the text continued") from error


def generate(llm: LLM, prompt: str | list[int], params: SamplingParams, out: TextIO) -> Speed:
    """Print the answers to a prompt as they come.

    Several answers are printed one below the other: of each what there is, as soon as those before
    it are complete. On Ctrl-C the request is aborted.

    Args:
        llm: The engine.
        prompt: Text or token ids.
        params: How to sample.
        out: Where the text goes.

    Returns:
        How fast it was.

    Raises:
        CourseError: The prompt cannot be served.
    """
    printer = _Printer(out, params.n)
    began = time.perf_counter()
    first_seconds = 0.0
    num_tokens = num_prompt_tokens = 0
    try:
        for output in llm.generate_stream(prompt, params):
            first_seconds = first_seconds or time.perf_counter() - began
            num_prompt_tokens = len(output.prompt_token_ids)
            num_tokens = sum(len(answer.token_ids) for answer in output.outputs)
            printer.show(output.outputs)
    except ValueError as error:
        raise CourseError(str(error)) from error
    return Speed(num_prompt_tokens, num_tokens, first_seconds, time.perf_counter() - began)


@dataclass(frozen=True)
class Speed:
    """How fast an answer came.

    Attributes:
        num_prompt_tokens: Length of the prompt.
        num_tokens: Tokens generated, of all answers.
        first_seconds: From the question to the first token.
        seconds: From the question to the last token.

    >>> print(Speed(5, 100, 0.0123, 0.5))
    100 tokens in 0.50 s, 200 tokens/s; the first after 12 ms, behind 5 prompt tokens
    """

    num_prompt_tokens: int
    num_tokens: int
    first_seconds: float
    seconds: float

    def __str__(self) -> str:
        return (
            f"{self.num_tokens} tokens in {self.seconds:.2f} s, "
            f"{self.num_tokens / self.seconds:.0f} tokens/s; the first after "
            f"{1000 * self.first_seconds:.0f} ms, behind {self.num_prompt_tokens} prompt tokens"
        )


class _Printer:
    """Prints answers that grow side by side, one below the other.

    Invariant: what is printed are the answers in a row, up to some character of one of them, and
    all answers before that one are complete.
    """

    def __init__(self, out: TextIO, num_answers: int) -> None:
        self._out = out
        # A model may generate any bytes. Those that steer a terminal are not for the terminal.
        self._left_out = _STEERING if out.isatty() else {}
        self._headings = [f"[{i + 1}] " if num_answers > 1 else "" for i in range(num_answers)]
        self._num_complete = 0
        self._num_chars = 0

    def show(self, answers: Sequence[CompletionOutput]) -> None:
        """Print what is new."""
        for answer in answers[self._num_complete :]:
            heading, self._headings[answer.index] = self._headings[answer.index], ""
            self._write(heading + answer.text[self._num_chars :])
            self._num_chars = len(answer.text)
            if answer.finish_reason is None:
                return
            self._write("\n")
            self._num_complete += 1
            self._num_chars = 0

    def _write(self, text: str) -> None:
        """Print text at once."""
        self._out.write(text.translate(self._left_out))
        self._out.flush()


_STEERING = {
    code: None
    for code in range(0xA0)
    if unicodedata.category(chr(code)) == "Cc" and chr(code) not in "\n\t"
}
"""The control characters, for ``str.translate``."""

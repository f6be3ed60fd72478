"""What clients may ask in the OpenAI protocol, and which errors they get.

Each request is a pydantic model. ``fields`` says what becomes of a field that is not supported, and
what the types are called that say so here.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import fields
from typing import Annotated, Any

from pydantic import (
    AfterValidator,
    Field,
    Tag,
    ValidationError,
    ValidatorFunctionWrapHandler,
    WrapValidator,
    model_validator,
)

from course_lib.engine.sampling_params import SamplingParams
from course_lib.engine.serve.fields import (
    LIST,
    ONE,
    ByKind,
    Empty,
    Ignored,
    NothingNew,
    Off,
    On,
    One,
    OneText,
    RequestModel,
    Text,
    Texts,
    Zero,
)

MAX_CHOICES = 128
"""Most answers to one prompt, as at OpenAI."""

MAX_LOGPROBS = 20
"""Most alternatives per token, as in vLLM."""

DEFAULT_MAX_TOKENS = 16
"""Most tokens of a completion that says nothing about it, as at OpenAI."""

CONTEXT_LENGTH_EXCEEDED = "context_length_exceeded"
"""OpenAI's code for prompts and answers that do not fit into the model's context."""

_SAMPLING_FIELDS = {field.name for field in fields(SamplingParams)} - {"max_tokens", "logprobs"}
"""The fields that SamplingParams, /v1/completions and /v1/chat/completions understand alike."""


class ApiError(Exception):
    """An answer that is an error, in OpenAI's format.

    Args:
        status: HTTP status code.
        message: What was asked, the rule, the remedy.
        param: The field that is to blame.
        code: What programs may look for.

    >>> ApiError(404, "there is no model 'x'", "model", "model_not_found").body["error"]["type"]
    'invalid_request_error'
    """

    def __init__(
        self, status: int, message: str, param: str | None = None, code: str | None = None
    ) -> None:
        super().__init__(message)
        self.status = status
        kind = "invalid_request_error" if status < 500 else "server_error"
        self.body = {"error": {"message": message, "type": kind, "param": param, "code": code}}


def _one_message(value: object, check: ValidatorFunctionWrapHandler) -> object:
    """Say once what a prompt is, and not once for each kind of it."""
    try:
        return check(value)
    except ValidationError as error:
        kinds = "a text, a list of texts, a list of token ids, or a list of such lists"
        raise ValueError(f"it must be {kinds}, in Unicode") from error


NoTool = Annotated[Any, AfterValidator(NothingNew("none", "auto"))]
PlainText = Annotated[Any, AfterValidator(NothingNew({"type": "text"}))]
TextAlone = Annotated[Any, AfterValidator(NothingNew(["text"]))]
Unsaid = Annotated[Any, AfterValidator(NothingNew("none"))]
Medium = Annotated[Any, AfterValidator(NothingNew("medium"))]
Prompt = Annotated[
    Text | list[Text] | list[int] | list[list[int]],
    WrapValidator(_one_message),
]


class StreamOptions(RequestModel):
    """How an answer is streamed: whether the last piece counts the tokens."""

    include_usage: bool | None = None
    include_obfuscation: Off = None
    continuous_usage_stats: Off = None


class _SamplingRequest(RequestModel):
    """What both kinds of request have in common. None always means the default."""

    model: Text | None = None
    max_tokens: int | None = None
    n: Annotated[int, Field(le=MAX_CHOICES)] | None = None
    temperature: float | None = None
    top_p: float | None = None
    stop: Texts | None = None
    seed: int | None = None
    stream: bool | None = None
    stream_options: StreamOptions | None = None

    # As in vLLM, beyond OpenAI.
    top_k: int | None = None
    min_p: float | None = None
    repetition_penalty: float | None = None
    stop_token_ids: list[int] | None = None
    ignore_eos: bool | None = None
    priority: int | None = None
    cache_salt: Text | None = None

    # Whose a request is: it decides under a policy that is fair to users.
    user: Text | None = None

    metadata: Ignored = None
    store: Ignored = None
    service_tier: Ignored = None
    safety_identifier: Ignored = None
    prompt_cache_key: Ignored = None
    prompt_cache_options: Ignored = None
    prompt_cache_retention: Ignored = None
    request_id: Ignored = None

    frequency_penalty: Zero = None
    presence_penalty: Zero = None
    logit_bias: Empty = None
    best_of: One = None

    # vLLM's, where they say what is done here anyway.
    min_tokens: Zero = None
    bad_words: Empty = None
    length_penalty: One = None
    use_beam_search: Off = None
    skip_special_tokens: On = None
    spaces_between_special_tokens: On = None
    include_stop_str_in_output: Off = None
    return_token_ids: Off = None
    return_tokens_as_token_ids: Off = None

    @property
    def num_choices(self) -> int:
        """Answers to each prompt."""
        return 1 if self.n is None else self.n

    @property
    def includes_usage(self) -> bool:
        """Whether a streamed answer ends with the number of tokens."""
        return bool(self.stream_options and self.stream_options.include_usage)

    def _num_tokens(self, names: Sequence[str], default: int, num_tokens_left: int) -> int:
        """Return how many tokens an answer may have.

        Args:
            names: The fields that may say it; the first one that does counts.
            default: As many if none does, and if there is room for them.
            num_tokens_left: What the model's context leaves for an answer; none or less if the
                prompt alone is too long, which is for the engine to say.

        Raises:
            ApiError: None are asked for, or more than there is room for.
        """
        room = max(num_tokens_left, 1)
        for name in names:
            asked: int | None = getattr(self, name)
            if asked is None:
                continue
            if asked < 1:
                rule = "it must be at least 1; leave it out for the default"
                raise ApiError(400, f"{name} is {asked}; {rule}", name)
            if num_tokens_left > 0 and asked > room:
                raise ApiError(
                    400,
                    f"{name} is {asked}, and this prompt leaves {room} tokens of the model's "
                    f"context; ask for {room} or fewer, or shorten the prompt",
                    name,
                    CONTEXT_LENGTH_EXCEEDED,
                )
            return asked
        return min(default, room)

    def _params(
        self, max_tokens: int, logprobs: int | None, defaults: Mapping[str, float]
    ) -> SamplingParams:
        """Return the sampling parameters: what was asked for, and else the model's defaults.

        Raises:
            ApiError: One of them is out of range.
        """
        if self.stream_options is not None and not self.stream:
            raise ApiError(400, "stream_options needs stream to be true", "stream_options")
        given: dict[str, Any] = {name: getattr(self, name) for name in _SAMPLING_FIELDS}
        given |= {"max_tokens": max_tokens, "logprobs": logprobs}
        given = {name: value for name, value in given.items() if value is not None}
        try:
            return SamplingParams(**{**defaults, **given})
        except ValueError as error:
            # Their messages begin with the name of the parameter.
            name = str(error).partition(" ")[0]
            raise ApiError(400, str(error), name if name in given else None) from error


class CompletionRequest(_SamplingRequest):
    """The body of POST /v1/completions: prompts that are continued."""

    prompt: Prompt
    echo: bool | None = None
    logprobs: Annotated[int, Field(le=MAX_LOGPROBS)] | None = None
    suffix: Empty = None
    add_special_tokens: On = None

    @property
    def prompts(self) -> list[str] | list[list[int]]:
        """The prompts, one or several.

        >>> CompletionRequest(prompt=[5, 6]).prompts
        [[5, 6]]
        """
        prompt = self.prompt
        if isinstance(prompt, str):
            return [prompt]
        if prompt and isinstance(prompt[0], int):
            return [prompt]
        return prompt  # type: ignore[return-value]

    def sampling_params(
        self, num_tokens_left: int, defaults: Mapping[str, float]
    ) -> SamplingParams:
        """Return what is asked of the sampler.

        Args:
            num_tokens_left: What the model's context leaves for an answer to the longest prompt.
            defaults: What the model's makers recommend: ``LLM.sampling_defaults``.

        Raises:
            ApiError: A field is out of range, or goes together with none of the others.
        """
        if self.echo and self.logprobs is not None:
            raise ApiError(
                400, "echo does not go with logprobs: those of prompts are not computed", "echo"
            )
        default = int(defaults.get("max_tokens", DEFAULT_MAX_TOKENS))
        max_tokens = self._num_tokens(("max_tokens",), default, num_tokens_left)
        return self._params(max_tokens, self.logprobs, defaults)


class TextPart(RequestModel):
    """A part of a message; only text is understood."""

    type: Annotated[Any, AfterValidator(NothingNew("text"))]
    text: Text
    prompt_cache_breakpoint: Ignored = None


class ChatMessage(RequestModel):
    """One message of a conversation. An answer may be sent back as it came."""

    role: Text
    content: Annotated[OneText | Annotated[list[TextPart], Tag(LIST)], ByKind]
    name: Text | None = None
    annotations: Ignored = None
    refusal: Empty = None
    tool_calls: Empty = None
    function_call: Empty = None
    reasoning: Empty = None
    reasoning_content: Empty = None

    @model_validator(mode="before")
    @classmethod
    def _may_say_nothing(cls, body: Any) -> Any:
        """Let an answer have no content, as at OpenAI; another message must have some."""
        if isinstance(body, dict) and body.get("role") == "assistant":
            return body | {"content": "" if body.get("content") is None else body["content"]}
        return body

    def as_template_input(self) -> dict[str, str]:
        """Return the message as chat templates take it.

        >>> parts = [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]
        >>> ChatMessage(role="developer", content=parts).as_template_input()
        {'role': 'system', 'content': 'ab'}
        """
        text = self.content
        if not isinstance(text, str):
            text = "".join(part.text for part in text)
        # OpenAI's newer name for the same thing; templates know the older one.
        role = "system" if self.role == "developer" else self.role
        return {"role": role, "content": text} | ({"name": self.name} if self.name else {})


class ChatCompletionRequest(_SamplingRequest):
    """The body of POST /v1/chat/completions: a conversation that is continued."""

    messages: list[ChatMessage]
    max_completion_tokens: int | None = None
    logprobs: bool | None = None
    top_logprobs: Annotated[int, Field(ge=0, le=MAX_LOGPROBS)] | None = None

    parallel_tool_calls: Ignored = None
    prediction: Ignored = None

    tools: Empty = None
    tool_choice: NoTool = None
    functions: Empty = None
    function_call: NoTool = None
    response_format: PlainText = None
    modalities: TextAlone = None
    reasoning_effort: Unsaid = None
    verbosity: Medium = None

    # vLLM's.
    echo: Off = None
    add_generation_prompt: On = None
    continue_final_message: Off = None
    add_special_tokens: Off = None
    documents: Empty = None
    chat_template_kwargs: Empty = None

    def sampling_params(
        self, num_tokens_left: int, defaults: Mapping[str, float]
    ) -> SamplingParams:
        """Return what is asked of the sampler.

        Args:
            num_tokens_left: What the model's context leaves for an answer.
            defaults: What the model's makers recommend: ``LLM.sampling_defaults``.

        Raises:
            ApiError: A field is out of range, or goes together with none of the others.
        """
        if self.top_logprobs and not self.logprobs:
            raise ApiError(400, "top_logprobs needs logprobs to be true", "top_logprobs")
        names = ("max_completion_tokens", "max_tokens")
        default = int(defaults.get("max_tokens", max(num_tokens_left, 1)))
        max_tokens = self._num_tokens(names, default, num_tokens_left)
        logprobs = (self.top_logprobs or 0) if self.logprobs else None
        return self._params(max_tokens, logprobs, defaults)


_KINDS = {
    "missing": "it is missing",
    "extra_forbidden": "this engine does not support it, or there is no such field; leave it out",
}
"""What is said of a field that is wrong, by pydantic's kind of error, where pydantic is vague."""


def validation_error(errors: list[Any]) -> ApiError:
    """Return the first error that pydantic found in a body as one of ours.

    Args:
        errors: What ``RequestValidationError.errors()`` lists; not empty.
    """
    first = errors[0]
    if first["type"] == "json_invalid":
        what = f"{first['ctx']['error']} at character {first['loc'][-1]}"
        return ApiError(400, f"the body is not JSON: {what}", code="invalid_json")
    path = [str(step) for step in first["loc"] if step not in ("body", ONE, LIST)]
    if not path:
        return ApiError(
            400, "the body must be a JSON object, sent with Content-Type: application/json"
        )
    what = _KINDS.get(first["type"]) or first["msg"].removeprefix("Value error, ")
    return ApiError(400, f"{'.'.join(path)}: {what}", path[0])

"""What becomes of a field: as the documentation says it, and as OpenAI's client sends it."""

import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from openai.types.chat import ChatCompletionMessage, completion_create_params
from openai.types.completion_create_params import CompletionCreateParamsNonStreaming
from pydantic import BaseModel, ValidationError
from pydantic.fields import FieldInfo
from typer.testing import CliRunner

from autograder.cli import app
from course_lib.engine.serve.fields import NothingNew, Passed
from course_lib.engine.serve.protocol import (
    ChatCompletionRequest,
    ChatMessage,
    CompletionRequest,
    validation_error,
)

ROOT = Path(__file__).parents[4]
CHAT = {"messages": [{"role": "user", "content": "a"}]}
COMPLETION = {"prompt": "a"}
BODIES = [(CompletionRequest, COMPLETION), (ChatCompletionRequest, CHAT)]

KINDS = ("understood", "ignored", "accepted if it says no more than this")
PLACES = ("both", "completions", "chats", "messages")
REFUSED = "Every other field that is not null is refused by name."


def allowed(field: FieldInfo) -> Iterator[str]:
    """Yield what a field may say that is not supported, in the words of JSON."""
    for mark in field.metadata:
        check = getattr(mark, "func", None)
        if isinstance(check, NothingNew):
            known = ["empty"] if "" in check.values else check.values
            yield from (each if isinstance(each, str) else json.dumps(each) for each in known)


def groups(model: type[BaseModel]) -> list[set[str]]:
    """Return the fields of a request by what becomes of them, in the order of ``KINDS``."""
    understood, ignored, unless = set(), set(), set()
    for name, field in model.model_fields.items():
        values = list(allowed(field))
        if any(isinstance(mark, Passed) for mark in field.metadata):
            ignored.add(name)
        elif values:
            unless.add(f"{name}: {' or '.join(values)}")
        else:
            understood.add(name)
    return [understood, ignored, unless]


def table() -> dict[str, list[set[str]]]:
    """Return what becomes of each field, by where it stands, as the documentation has it."""
    completion, chat, message = map(groups, (CompletionRequest, ChatCompletionRequest, ChatMessage))
    pairs = list(zip(completion, chat, strict=True))
    columns = [
        [one & other for one, other in pairs],
        [one - other for one, other in pairs],
        [other - one for one, other in pairs],
        message,
    ]
    return dict(zip(PLACES, columns, strict=True))


@pytest.mark.parametrize("page", ["README.md", "docs/engine.md"])
def test_the_table_on_the_page_is_what_the_server_does(page: str) -> None:
    text = (ROOT / page).read_text(encoding="utf-8")
    told = {}
    for line in text.splitlines():
        place, *cells = (cell.strip() for cell in line.strip("|").split("|"))
        if place in PLACES:
            told[place] = [set(re.findall("`([^`]+)`", cell)) for cell in cells]
    assert told == table()
    assert REFUSED in " ".join(text.split())


def test_the_help_of_the_command_says_the_same() -> None:
    output = CliRunner().invoke(app, ["serve", "--help"]).output
    words = " ".join(output.split())
    for place, columns in table().items():
        for kind, fields in zip(KINDS, columns, strict=True):
            found = re.search(rf"{kind} in {place}: ([^.]*)\.", words, flags=re.IGNORECASE)
            assert (set(found[1].split(", ")) if found else set()) == fields, (place, kind)
    assert REFUSED in words


# What clients send


@pytest.mark.parametrize(("model", "body"), BODIES)
def test_null_says_the_same_as_to_leave_a_field_out(
    model: type[BaseModel], body: dict[str, object]
) -> None:
    plain = model.model_validate(body)
    for name, field in model.model_fields.items():
        if not field.is_required():
            assert model.model_validate(body | {name: None}) == plain
    assert model.model_validate(body | {"a_field_of_tomorrow": None}) == plain
    assert model.model_validate(body | {"stream_options": {"include_usage": None, "new": None}})


def test_null_says_nothing_in_a_message_and_its_parts_either() -> None:
    part = {"type": "text", "text": "a"}
    nulls = dict.fromkeys((*ChatMessage.model_fields, "audio", "tool_call_id", "tomorrow"))
    plain = ChatMessage.model_validate({"role": "user", "content": [part]})
    sent = nulls | {"role": "user", "content": [part | {"image_url": None, "tomorrow": None}]}
    assert ChatMessage.model_validate(sent) == plain


@pytest.mark.parametrize(
    ("model", "body", "parameters"),
    [
        (CompletionRequest, COMPLETION, CompletionCreateParamsNonStreaming),
        (
            ChatCompletionRequest,
            CHAT,
            completion_create_params.CompletionCreateParamsNonStreaming,
        ),
    ],
)
def test_every_field_that_the_client_knows_may_be_null(
    model: type[BaseModel], body: dict[str, object], parameters: type
) -> None:
    names = parameters.__required_keys__ | parameters.__optional_keys__
    assert len(names) > 15
    plain = model.model_validate(body)
    assert model.model_validate(dict.fromkeys(names) | body) == plain


def test_an_answer_may_be_sent_back_as_the_client_got_it() -> None:
    answer = ChatCompletionMessage(role="assistant", content="Hello", refusal=None)
    fields = answer.model_dump()
    assert {"annotations", "audio", "function_call", "tool_calls"} <= fields.keys()
    for sent in (
        fields,
        answer.model_dump(exclude_none=True),
        fields | {"annotations": [], "tool_calls": [], "reasoning_content": None, "parsed": None},
        fields | {"annotations": [{"type": "url_citation", "url_citation": {}}]},
    ):
        message = ChatMessage.model_validate(sent)
        assert message.as_template_input() == {"role": "assistant", "content": "Hello"}


@pytest.mark.parametrize("content", [{}, {"content": None}, {"content": ""}, {"content": []}])
def test_an_answer_may_have_no_content(content: dict[str, object]) -> None:
    message = ChatMessage.model_validate({"role": "assistant"} | content)
    assert message.as_template_input()["content"] == ""


@pytest.mark.parametrize("role", ["user", "system", "developer", "tool"])
@pytest.mark.parametrize("content", [{}, {"content": None}])
def test_others_must_say_something(role: str, content: dict[str, object]) -> None:
    with pytest.raises(ValidationError) as caught:
        ChatMessage.model_validate({"role": role} | content)
    assert "messages.0.content" in str(
        validation_error(
            [each | {"loc": ("messages", 0, *each["loc"])} for each in caught.value.errors()]
        )
    )


@pytest.mark.parametrize(
    "field",
    [
        {"tool_calls": [{"id": "1", "type": "function", "function": {"name": "f"}}]},
        {"function_call": {"name": "f", "arguments": "{}"}},
        {"audio": {"id": "audio_1"}},
        {"refusal": "I will not."},
        {"tool_call_id": "1"},
        {"weight": 0},
        {"reasoning_content": "Let me see."},
    ],
)
def test_a_part_of_a_message_that_would_change_something_is_refused_by_name(
    field: dict[str, object],
) -> None:
    [name] = field
    body = {"messages": [{"role": "assistant", "content": "a"} | field]}
    with pytest.raises(ValidationError) as caught:
        ChatCompletionRequest.model_validate(body)
    error = validation_error(list(caught.value.errors()))
    assert str(error).startswith(f"messages.0.{name}: this engine does not support it")
    assert error.body["error"]["param"] == "messages"


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ([{"type": "image_url", "image_url": {"url": "x"}}], "content.0.type: this engine does"),
        ([{"type": "text", "text": "a"}, {"type": "refusal"}], "content.1.type: this engine does"),
        ([{"type": "text", "text": "a", "cache_control": {}}], "content.0.cache_control: this eng"),
        ([{"type": "text"}], "content.0.text: it is missing"),
        ([{"type": "text", "text": 5}], "content.0.text: Input should be a valid string"),
        (["a"], "content.0: "),
        (5, "content: Input should be a valid string"),
        ("\ud800", "content: it is not Unicode"),
    ],
)
def test_what_is_wrong_with_a_message_is_said_where_it_is(content: object, words: str) -> None:
    with pytest.raises(ValidationError) as caught:
        ChatCompletionRequest.model_validate({"messages": [{"role": "user", "content": content}]})
    error = validation_error(list(caught.value.errors()))
    assert str(error).startswith(f"messages.0.{words}")


@pytest.mark.parametrize(
    ("stop", "words"),
    [
        (5, "stop: Input should be"),
        (["a", None], "stop.1: Input should"),
        ("\ud800", "stop: it is"),
    ],
)
def test_what_is_wrong_with_a_stop_string_is_said_where_it_is(stop: object, words: str) -> None:
    with pytest.raises(ValidationError) as caught:
        CompletionRequest.model_validate(COMPLETION | {"stop": stop})
    assert str(validation_error(list(caught.value.errors()))).startswith(words)


CHANGES = [
    {"audio": {"voice": "ash", "format": "wav"}},
    {"modalities": ["text", "audio"]},
    {"tools": [{"type": "function"}]},
    {"functions": [{"name": "f"}]},
    {"function_call": {"name": "f"}},
    {"tool_choice": "required"},
    {"response_format": {"type": "json_object"}},
    {"reasoning_effort": "high"},
    {"verbosity": "low"},
    {"web_search_options": {}},
    {"moderation": {"model": "m"}},
    {"logit_bias": {"5": 1}},
    {"presence_penalty": 0.1},
    {"min_tokens": 3},
    {"skip_special_tokens": False},
    {"include_stop_str_in_output": True},
    {"chat_template_kwargs": {"enable_thinking": False}},
    {"continue_final_message": True},
    {"structured_outputs": {"regex": "a"}},
    {"temprature": 1},
]


MORE_CHANGES = [
    {"suffix": "end"},
    {"best_of": 2},
    {"prompt_logprobs": 1},
    {"add_special_tokens": False},
    {"bad_words": ["a"]},
    {"length_penalty": 1.5},
    {"return_token_ids": True},
    {"allowed_token_ids": [5]},
    {"truncate_prompt_tokens": 5},
    {"prompt_embeds": "AA=="},
]


@pytest.mark.parametrize(
    ("model", "body", "field"),
    [(ChatCompletionRequest, CHAT, field) for field in CHANGES]
    + [(CompletionRequest, COMPLETION, field) for field in MORE_CHANGES],
    ids=lambda each: next(iter(each)) if isinstance(each, dict) and len(each) == 1 else None,
)
def test_a_field_that_would_change_something_is_refused_by_name(
    model: type[BaseModel], body: dict[str, object], field: dict[str, object]
) -> None:
    [name] = field
    with pytest.raises(ValidationError) as caught:
        model.model_validate(body | field)
    error = validation_error(list(caught.value.errors()))
    assert error.body["error"]["param"] == name
    assert "leave it out" in str(error)

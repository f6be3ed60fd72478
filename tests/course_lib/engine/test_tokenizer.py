"""Tokenizers of every kind agree with transformers."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from course_lib.engine.config import CheckpointError
from course_lib.engine.tokenizer import (
    ChatTemplateError,
    Tokenizer,
    checkpoint_folder,
)
from tokenizer_kinds import KINDS, TEXTS, byte_level, save


@pytest.fixture(scope="module", params=KINDS)
def folder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a tokenizer of each kind."""
    return save(KINDS[request.param](), tmp_path_factory.mktemp("tokenizer"))


@pytest.fixture(scope="module")
def tokenizer(folder: Path) -> Tokenizer:
    return Tokenizer(folder)


@pytest.fixture(scope="module")
def oracle(folder: Path) -> Iterator[object]:
    """What transformers makes of the same files."""
    return pytest.importorskip("transformers").AutoTokenizer.from_pretrained(folder)


@pytest.fixture
def tiny() -> Tokenizer:
    return Tokenizer(checkpoint_folder("course-tiny"))


ANY_TEXT = st.text(st.characters(exclude_categories=["Cs"])) | st.sampled_from(TEXTS)


@given(text=ANY_TEXT)
@example(text="")
@example(text=" two  spaces ")
@example(text="a</s>b")
@example(text="文 🙂")
def test_it_encodes_and_decodes_like_transformers(
    tokenizer: Tokenizer, oracle: object, text: str
) -> None:
    ids = tokenizer.encode(text)
    assert ids == oracle.encode(text)
    bare = tokenizer.encode(text, add_special_tokens=False)
    assert bare == oracle.encode(text, add_special_tokens=False)
    assert tokenizer.decode(ids) == oracle.decode(ids, skip_special_tokens=True)
    assert tokenizer.decode(ids, skip_special_tokens=False) == oracle.decode(ids)


@given(ids=st.lists(st.integers(0, 149), max_size=25))
def test_it_decodes_any_tokens_like_transformers(
    tokenizer: Tokenizer, oracle: object, ids: list[int]
) -> None:
    assert tokenizer.decode(ids) == oracle.decode(ids, skip_special_tokens=True)


def test_it_knows_the_special_tokens_that_transformers_knows(
    tokenizer: Tokenizer, oracle: object
) -> None:
    assert tokenizer.bos_token_id == oracle.bos_token_id == 1
    assert tokenizer.eos_token_id == oracle.eos_token_id == 2
    assert tokenizer.vocab_size == len(oracle)


@pytest.mark.parametrize("add_generation_prompt", [True, False])
def test_a_chat_becomes_the_same_tokens_as_in_transformers(
    tokenizer: Tokenizer, oracle: object, add_generation_prompt: bool
) -> None:
    messages = [
        {"role": "system", "content": "Be kind."},
        {"role": "user", "content": " What is a block? "},
    ]
    expected = oracle.apply_chat_template(
        messages, add_generation_prompt=add_generation_prompt, return_dict=False
    )
    got = tokenizer.apply_chat_template(messages, add_generation_prompt=add_generation_prompt)
    assert got == expected


# Files


def test_a_folder_without_a_tokenizer_is_refused(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"no tokenizer\.json in .*; pass the folder of a"):
        Tokenizer(tmp_path)
    (tmp_path / "tokenizer.model").write_bytes(b"")
    with pytest.raises(FileNotFoundError, match="older format: convert it with transformers"):
        Tokenizer(tmp_path)


@pytest.mark.parametrize("content", ["", "{}", "[]", '{"version": "1.0", "model": null}'])
def test_a_damaged_tokenizer_is_refused(tmp_path: Path, content: str) -> None:
    (tmp_path / "tokenizer.json").write_text(content)
    with pytest.raises(CheckpointError, match=r"tokenizer\.json is no tokenizer: .*again"):
        Tokenizer(tmp_path)


def test_a_damaged_configuration_is_refused(tmp_path: Path) -> None:
    save(byte_level(), tmp_path)
    (tmp_path / "tokenizer_config.json").write_text('{"bos_token":')
    with pytest.raises(CheckpointError, match=r"tokenizer_config\.json is not JSON"):
        Tokenizer(tmp_path)


def test_a_special_token_that_does_not_exist_is_refused(tmp_path: Path) -> None:
    save(byte_level(), tmp_path, eos_token="<end>")
    with pytest.raises(CheckpointError, match="names '<end>' as eos_token"):
        Tokenizer(tmp_path)


def test_only_the_vocabulary_is_needed(tmp_path: Path) -> None:
    byte_level().save(str(tmp_path / "tokenizer.json"))
    tokenizer = Tokenizer(tmp_path)
    assert (tokenizer.bos_token_id, tokenizer.eos_token_id) == (None, None)
    assert tokenizer.decode(tokenizer.encode("a block")) == "a block"
    with pytest.raises(ChatTemplateError, match="has no chat template"):
        tokenizer.apply_chat_template([{"role": "user", "content": "Hello"}])


def test_settings_of_the_training_are_ignored(tmp_path: Path) -> None:
    tokenizer = byte_level()
    tokenizer.enable_truncation(max_length=3)
    tokenizer.enable_padding(length=50)
    text = "The scheduler gives each request a number of tokens."
    loaded = Tokenizer(save(tokenizer, tmp_path))
    assert loaded.decode(loaded.encode(text), skip_special_tokens=False) == f"<s>{text}"


def test_a_named_token_is_special_even_if_the_vocabulary_forgot(tmp_path: Path) -> None:
    folder = save(byte_level(), tmp_path)
    fields = json.loads((folder / "tokenizer.json").read_text())
    for token in fields["added_tokens"]:
        token["special"] = False
    (folder / "tokenizer.json").write_text(json.dumps(fields))
    tokenizer = Tokenizer(folder)
    assert tokenizer.decode(tokenizer.encode("a")) == "a"


def test_half_a_surrogate_pair_is_refused(tiny: Tokenizer) -> None:
    with pytest.raises(ValueError, match=r"character 1 of the text is '\\ud83d', half of a"):
        tiny.encode("a\ud83d")


def test_a_folder_or_a_name_is_a_model(tmp_path: Path) -> None:
    assert checkpoint_folder(tmp_path) == tmp_path
    assert checkpoint_folder(str(tmp_path)) == tmp_path
    assert (checkpoint_folder("course-tiny") / "config.json").is_file()
    for unknown in ("gpt-7", "", "../tiny", tmp_path / "nowhere"):
        with pytest.raises(FileNotFoundError, match=r"\(course-tiny\).*nothing is downloaded"):
            checkpoint_folder(unknown)


# Chat templates


def test_a_template_in_its_own_file_counts(tmp_path: Path) -> None:
    folder = save(byte_level(), tmp_path)
    (folder / "chat_template.jinja").write_text("{{ messages[0].content }}!")
    assert Tokenizer(folder).render_chat([{"role": "user", "content": "Hi"}]) == "Hi!"


def test_of_several_templates_the_default_counts(tmp_path: Path) -> None:
    templates = [
        {"name": "tool_use", "template": "tools"},
        {"name": "default", "template": "{{ messages | length }} message"},
    ]
    folder = save(byte_level(), tmp_path, chat_template=templates)
    assert Tokenizer(folder).render_chat([{"role": "user", "content": "Hi"}]) == "1 message"


def test_a_template_may_refuse(tokenizer: Tokenizer) -> None:
    with pytest.raises(ChatTemplateError, match="does not accept the messages: no tools here"):
        tokenizer.render_chat([{"role": "tool", "content": "4"}])
    with pytest.raises(ChatTemplateError, match="the chat is empty"):
        tokenizer.render_chat([])


@pytest.mark.parametrize(
    "template",
    [
        "{{ ''.__class__.__mro__[1].__subclasses__() }}",
        "{{ cycler.__init__.__globals__.os.popen('id').read() }}",
        "{{ messages.append(1) }}",
        "{% for i in range(10 ** 9) %}x{% endfor %}",
        "{{ 1 / 0 }}",
        "{{ nothing.at.all }}",
        "{% if %}",
    ],
)
def test_a_template_cannot_reach_out_and_cannot_crash(tmp_path: Path, template: str) -> None:
    tokenizer = Tokenizer(save(byte_level(), tmp_path, chat_template=template))
    with pytest.raises(ChatTemplateError):
        tokenizer.render_chat([{"role": "user", "content": "Hi"}])


def test_a_template_has_the_functions_that_transformers_gives_it(tmp_path: Path) -> None:
    template = (
        "{{ strftime_now('%Y') | length }}{% for m in messages %}"
        "{% if loop.index > 1 %}{% break %}{% endif %}{{ m | tojson }}{% endfor %}"
    )
    tokenizer = Tokenizer(save(byte_level(), tmp_path, chat_template=template))
    chat = [{"role": "user", "content": "<é>"}, {"role": "user", "content": "more"}]
    assert tokenizer.render_chat(chat) == '4{"role": "user", "content": "<é>"}'

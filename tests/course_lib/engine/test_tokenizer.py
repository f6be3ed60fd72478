"""Tokenizers of every kind agree with transformers."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from course_lib.engine.config import CheckpointError
from course_lib.engine.tokenizer import (
    ChatTemplateError,
    Tokenizer,
    checkpoint_folder,
)
from tokenizer_kinds import TEXTS, byte_level, save


@pytest.fixture(scope="module")
def oracle(tokenizer_folder: Path) -> Iterator[object]:
    """What transformers makes of the same files."""
    return pytest.importorskip("transformers").AutoTokenizer.from_pretrained(tokenizer_folder)


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


END = {"content": "<|end|>", "normalized": False, "special": True}


def unmarked(fields: dict[str, Any]) -> None:
    for token in fields["added_tokens"]:
        token["special"] = False


def unlisted(fields: dict[str, Any]) -> None:
    fields["added_tokens"] = [t for t in fields["added_tokens"] if t["content"] != "</s>"]


@pytest.mark.parametrize(
    ("config", "files", "edit"),
    [
        ({"eos_token": None}, {"special_tokens_map": {"eos_token": "</s>"}}, None),
        (
            {"eos_token": None},
            {"special_tokens_map": {"eos_token": {"content": "</s>", "lstrip": False}}},
            None,
        ),
        ({}, {"special_tokens_map": {"eos_token": "<s>"}}, None),
        # A newer checkpoint does not mean the older file any more.
        (
            {"eos_token": None, "added_tokens_decoder": {"401": END}},
            {"special_tokens_map": {"eos_token": "</s>"}},
            None,
        ),
        ({}, {"special_tokens_map": {"additional_special_tokens": ["<|end|>"]}}, None),
        ({}, {"special_tokens_map": {"additional_special_tokens": ["<|end|>", "<s>"]}}, None),
        ({"added_tokens_decoder": {"401": END}}, {}, None),
        ({"added_tokens_decoder": {"401": END}, "eos_token": "<|end|>"}, {}, None),
        ({"added_tokens_decoder": {"401": END | {"special": False}}}, {}, None),
        (
            {"added_tokens_decoder": {"401": END | {"special": False}}, "eos_token": "<|end|>"},
            {},
            None,
        ),
        (
            {"added_tokens_decoder": {"402": END, "401": END | {"content": "<|start|>"}}},
            {},
            None,
        ),
        ({"added_tokens_decoder": {"401": END | {"lstrip": True, "rstrip": True}}}, {}, None),
        ({}, {"added_tokens": {"<|end|>": 401}}, None),
        ({"eos_token": "<|end|>"}, {"added_tokens": {"<|end|>": 401}}, None),
        (
            {"eos_token": None},
            {"added_tokens": {"<|end|>": 401}, "special_tokens_map": {"eos_token": "<|end|>"}},
            None,
        ),
        ({"additional_special_tokens": ["ordinary, with spaces", "<|end|>"]}, {}, None),
        ({"extra_special_tokens": {"image_token": "<|end|>"}}, {}, None),
        ({"eot_token": "</s>", "add_bos_token": True}, {}, None),
        ({}, {}, unmarked),
        (
            {
                "eos_token": None,
                "added_tokens_decoder": {"2": END | {"content": "</s>", "special": False}},
            },
            {},
            None,
        ),
        ({}, {}, unlisted),
        ({"eos_token": None}, {"special_tokens_map": {"eos_token": "</s>"}}, unlisted),
    ],
)
def test_tokens_and_their_roles_are_found_wherever_a_checkpoint_names_them(
    tmp_path: Path,
    config: dict[str, Any],
    files: dict[str, Any],
    edit: Callable[[dict[str, Any]], None] | None,
) -> None:
    names = "{{ bos_token }}{{ eos_token }}{{ image_token }}{{ eot_token }}"
    folder = save(byte_level(), tmp_path, chat_template=names, **config)
    for name, content in files.items():
        (folder / f"{name}.json").write_text(json.dumps(content))
    if edit is not None:
        fields = json.loads((folder / "tokenizer.json").read_text())
        edit(fields)
        (folder / "tokenizer.json").write_text(json.dumps(fields))
    oracle = pytest.importorskip("transformers").AutoTokenizer.from_pretrained(folder)
    tokenizer = Tokenizer(folder)
    assert (tokenizer.bos_token_id, tokenizer.eos_token_id, tokenizer.vocab_size) == (
        oracle.bos_token_id,
        oracle.eos_token_id,
        len(oracle),
    )
    text = "<s>a <|end|> b</s><|start|>"
    ids = tokenizer.encode(text)
    assert ids == oracle.encode(text)
    assert tokenizer.decode(ids) == oracle.decode(ids, skip_special_tokens=True)
    chat = [{"role": "user", "content": "Hi"}]
    assert tokenizer.render_chat(chat) == oracle.apply_chat_template(chat, tokenize=False)


def flagged(**flags: bool) -> Callable[[dict[str, Any]], None]:
    """Return what says more about the end token in ``tokenizer.json``."""

    def edit(fields: dict[str, Any]) -> None:
        for token in fields["added_tokens"]:
            if token["content"] == "</s>":
                token.update(flags)

    return edit


EOS = {"content": "</s>", "normalized": False, "special": True, "lstrip": False, "rstrip": False}
LEFT, RIGHT = EOS | {"lstrip": True}, EOS | {"rstrip": True}


@pytest.mark.parametrize(
    ("config", "named", "edit"),
    [
        ({}, {}, flagged(lstrip=True)),
        ({}, {}, flagged(rstrip=True)),
        ({}, {}, flagged(lstrip=True, special=False)),
        ({}, {}, flagged(single_word=True)),
        ({"added_tokens_decoder": {"401": END}}, {}, flagged(lstrip=True)),
        ({"added_tokens_decoder": {"2": LEFT}}, {}, None),
        ({"added_tokens_decoder": {"2": LEFT}}, {}, flagged(rstrip=True)),
        ({"added_tokens_decoder": {"2": LEFT | {"special": False}}}, {}, None),
        ({"eos_token": LEFT | {"__type": "AddedToken"}}, {}, None),
        (
            {"eos_token": LEFT | {"__type": "AddedToken"}, "added_tokens_decoder": {"2": RIGHT}},
            {},
            None,
        ),
        ({"eos_token": None}, {"eos_token": LEFT}, None),
        ({"eos_token": None}, {"eos_token": LEFT}, flagged(rstrip=True)),
        ({}, {"pad_token": END | {"lstrip": True, "rstrip": True}}, None),
        ({"additional_special_tokens": ["</s>"]}, {}, flagged(lstrip=True)),
        ({"additional_special_tokens": [END | {"__type": "AddedToken", "lstrip": True}]}, {}, None),
        ({"model_specific_special_tokens": {"image_token": "<|end|>"}}, {}, None),
        ({"split_special_tokens": True}, {}, None),
    ],
)
def test_what_is_known_about_a_token_is_what_transformers_knows(
    tmp_path: Path,
    config: dict[str, Any],
    named: dict[str, Any],
    edit: Callable[[dict[str, Any]], None] | None,
) -> None:
    folder = save(byte_level(), tmp_path, chat_template="{{ image_token }}", **config)
    if named:
        (folder / "special_tokens_map.json").write_text(json.dumps(named))
    if edit is not None:
        fields = json.loads((folder / "tokenizer.json").read_text())
        edit(fields)
        (folder / "tokenizer.json").write_text(json.dumps(fields))
    oracle = pytest.importorskip("transformers").AutoTokenizer.from_pretrained(folder)
    tokenizer = Tokenizer(folder)
    for text in ("a <|end|> b </s> x <s> y</s>  z", "a</s>b <|end|>", " </s> "):
        ids = tokenizer.encode(text)
        assert ids == oracle.encode(text)
        assert tokenizer.decode(ids) == oracle.decode(ids, skip_special_tokens=True)
    chat = [{"role": "user", "content": "Hi"}]
    assert tokenizer.render_chat(chat) == oracle.apply_chat_template(chat, tokenize=False)


def test_a_role_without_a_token_has_none(tmp_path: Path) -> None:
    tokenizer = Tokenizer(save(byte_level(), tmp_path, eos_token="", bos_token=None))
    assert (tokenizer.bos_token_id, tokenizer.eos_token_id) == (None, None)


@pytest.mark.parametrize(
    ("files", "words"),
    [
        ({"added_tokens": {"<|end|>": 777}}, r"'<\|end\|>' has id 777 in .*, and 401 there"),
        ({"added_tokens": {"<|end|>": "last"}}, r"added_tokens\.json has 'last' for a token id"),
        ({"added_tokens": ["<|end|>"]}, r"added_tokens\.json"),
        ({"special_tokens_map": {"eos_token": "<end>"}}, r"_map\.json names '<end>' as eos_token"),
        ({"tokenizer_config": {"added_tokens_decoder": {"x": END}}}, "'x' for a token id"),
        ({"tokenizer_config": {"added_tokens_decoder": {"5": "<|end|>"}}}, "its 'content'"),
        ({"tokenizer_config": {"added_tokens_decoder": [END]}}, "added_tokens_decoder is no obj"),
        ({"tokenizer_config": {"added_tokens_decoder": {"5": END}}}, "has id 5 in the files"),
    ],
)
def test_files_that_contradict_the_vocabulary_are_refused(
    tmp_path: Path, files: dict[str, Any], words: str
) -> None:
    folder = save(byte_level(), tmp_path)
    for name, content in files.items():
        (folder / f"{name}.json").write_text(json.dumps(content))
    with pytest.raises(CheckpointError, match=words):
        Tokenizer(folder)


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


def test_of_a_dictionary_of_templates_the_default_counts(tmp_path: Path) -> None:
    templates = {"tool_use": "tools", "default": "{{ messages | length }} message"}
    folder = save(byte_level(), tmp_path, chat_template=templates)
    oracle = pytest.importorskip("transformers").AutoTokenizer.from_pretrained(folder)
    chat = [{"role": "user", "content": "Hi"}]
    got = Tokenizer(folder).render_chat(chat)
    assert got == "1 message" == oracle.apply_chat_template(chat, tokenize=False)


@pytest.mark.parametrize(
    "templates", [{"rag": "a", "tool_use": "b"}, [{"name": "rag", "template": "a"}, {}], [], {}]
)
def test_several_templates_without_a_default_are_refused_by_name(
    tmp_path: Path, templates: object
) -> None:
    tokenizer = Tokenizer(save(byte_level(), tmp_path, chat_template=templates))
    with pytest.raises(ChatTemplateError, match=r"templates \[.*\], and none of them is the 'defa"):
        tokenizer.render_chat([{"role": "user", "content": "Hi"}])


@pytest.mark.parametrize(
    "template",
    [
        "{% for m in messages %}{% generation %}{{ m.content }}{% endgeneration %}|{% endfor %}",
        "{%- for m in messages -%}\n  {%- generation %}\n  <{{ m.content }}>\n  "
        "{%- endgeneration %}\n{% endfor %}",
        "{% set x = 1 %}{% generation %}{% set x = 2 %}{{ x }}{% endgeneration %}{{ x }}",
        "{% macro say(m) %}{% generation %}{{ m.role }}{% endgeneration %}{% endmacro %}"
        "{{ say(messages[0]) }}",
        "{{ messages | tojson }}",
        "{{ messages | tojson(indent=2) }}",
        "{{ messages | tojson(ensure_ascii=True) }}",
        "{{ messages | tojson(separators=(',', ':')) }}",
        "{{ messages | tojson(sort_keys=True) }}",
        "{{ messages | tojson(True, 4, (';', '='), True) }}",
        "{% set ns = namespace(n=0) %}{% for m in messages %}{% set ns.n = ns.n + 1 %}{% endfor %}"
        "{{ ns.n }}{{ dict(a=1) }}",
        "{% set ns = namespace({'a': 1}, self=2) %}{{ ns.a }}{{ ns.self }}{{ ns.b is defined }}",
        "{% for m in messages %}{% if loop.last %}{% break %}{% endif %}{{ m.role }}{% endfor %}",
        "{% for m in messages %}{% if m.role == 'user' %}{% continue %}{% endif %}{{ m.content }}"
        "{% endfor %}",
        "{{ tools is none }}{{ documents is none }}{{ enable_thinking is defined }}",
        "{{ messages[0].name }}{{ messages[::-1][0].content[:1] }}{{ messages | length }}",
        "\n\n  {% if true %}\n  a\n  {% endif %}\n\n",
        "",
    ],
)
def test_a_template_reads_as_in_transformers(tmp_path: Path, template: str) -> None:
    folder = save(byte_level(), tmp_path, chat_template=template)
    oracle = pytest.importorskip("transformers").AutoTokenizer.from_pretrained(folder)
    chat = [{"role": "user", "content": "<é>"}, {"role": "assistant", "content": "'\u2028\""}]
    expected = oracle.apply_chat_template(chat, tokenize=False, add_generation_prompt=True)
    assert Tokenizer(folder).render_chat(chat) == expected


def test_templates_for_other_purposes_may_have_files(tmp_path: Path) -> None:
    folder = save(byte_level(), tmp_path, chat_template=None)
    (folder / "additional_chat_templates").mkdir()
    (folder / "additional_chat_templates" / "rag.jinja").write_text("sources")
    chat = [{"role": "user", "content": "Hi"}]
    with pytest.raises(
        ChatTemplateError, match=r"templates \['rag'\], and none of them is the 'def"
    ):
        Tokenizer(folder).render_chat(chat)
    (folder / "additional_chat_templates" / "default.jinja").write_text("plain")
    oracle = pytest.importorskip("transformers").AutoTokenizer.from_pretrained(folder)
    assert Tokenizer(folder).render_chat(chat) == "plain"
    assert oracle.apply_chat_template(chat, tokenize=False) == "plain"
    (folder / "chat_template.jinja").write_text("first of all")
    assert Tokenizer(folder).render_chat(chat) == "first of all"


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
        "{{ namespace(__class__=1) }}",
        "{% set ns = namespace() %}{% set ns._x = 1 %}",
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

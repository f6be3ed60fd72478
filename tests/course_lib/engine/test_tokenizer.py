"""Tokenizers of every kind agree with transformers, and stream exactly what they decode."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
import tokenizers
from hypothesis import example, given
from hypothesis import strategies as st
from tokenizers import (
    AddedToken,
    decoders,
    models,
    normalizers,
    pre_tokenizers,
    processors,
    trainers,
)

from course_lib.engine.config import CheckpointError
from course_lib.engine.detokenizer import IncrementalDetokenizer
from course_lib.engine.tokenizer import (
    ChatTemplateError,
    Tokenizer,
    checkpoint_folder,
)

TEXTS = [
    "The scheduler gives each request a number of tokens. A request waits in the queue.",
    "Once upon a time there was a block. It was free, and nobody needed it!",
    "Mia is 7 years old; she likes bread & soup. Don't you?",
    "naïve café, 5 € or £4, größer, straße, Ελλάδα, привет",
] * 5
SPECIAL = ["<unk>", "<s>", "</s>"]
TEMPLATE = (
    "{{ bos_token }}{% for m in messages %}\n"
    "  {% if m['role'] == 'tool' %}{{ raise_exception('no tools here') }}{% endif %}\n"
    "[{{ m['role'] }}] {{ m['content'] | trim }}{{ eos_token }}\n"
    "{% endfor %}{% if add_generation_prompt %}[assistant]{% endif %}"
)


def _special_tokens() -> list[AddedToken]:
    return [AddedToken(token, special=True) for token in SPECIAL]


def _around(tokenizer: tokenizers.Tokenizer) -> None:
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A", special_tokens=[("<s>", tokenizer.token_to_id("<s>"))]
    )


def byte_level() -> tokenizers.Tokenizer:
    """As GPT-2, Llama 3 and Qwen have it: a token is some bytes."""
    tokenizer = tokenizers.Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=400,
        special_tokens=_special_tokens(),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(TEXTS, trainer)
    tokenizer.add_tokens(["ordinary, with spaces"])
    _around(tokenizer)
    return tokenizer


def byte_fallback() -> tokenizers.Tokenizer:
    """As Llama 2 and Mistral have it: characters, and bytes for those that are not known."""
    tokenizer = tokenizers.Tokenizer(models.BPE(unk_token="<unk>"))
    tokenizer.normalizer = normalizers.Sequence(
        [normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")]
    )
    special = [*_special_tokens(), *(f"<0x{byte:02X}>" for byte in range(256))]
    trainer = trainers.BpeTrainer(vocab_size=400, special_tokens=special, show_progress=False)
    tokenizer.train_from_iterator(TEXTS[:2], trainer)
    fields = json.loads(tokenizer.to_str())
    fields["model"] |= {"byte_fallback": True, "fuse_unk": True}
    # The bytes are part of the vocabulary, and not special.
    fields["added_tokens"] = fields["added_tokens"][: len(SPECIAL)]
    tokenizer = tokenizers.Tokenizer.from_str(json.dumps(fields))
    tokenizer.decoder = decoders.Sequence(
        [
            decoders.Replace("▁", " "),
            decoders.ByteFallback(),
            decoders.Fuse(),
            decoders.Strip(" ", 1, 0),
        ]
    )
    _around(tokenizer)
    return tokenizer


def metaspace() -> tokenizers.Tokenizer:
    """As the Unigram models of SentencePiece have it: characters, and one sign for unknown ones."""
    tokenizer = tokenizers.Tokenizer(models.Unigram())
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    tokenizer.decoder = decoders.Metaspace()
    trainer = trainers.UnigramTrainer(
        vocab_size=150, special_tokens=_special_tokens(), unk_token="<unk>", show_progress=False
    )
    tokenizer.train_from_iterator(TEXTS, trainer)
    _around(tokenizer)
    return tokenizer


KINDS = {"byte level": byte_level, "byte fallback": byte_fallback, "metaspace": metaspace}


def save(tokenizer: tokenizers.Tokenizer, folder: Path, **config: object) -> Path:
    """Write the files of a checkpoint's tokenizer."""
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer.save(str(folder / "tokenizer.json"))
    config = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "bos_token": "<s>",
        "eos_token": {"__type": "AddedToken", "content": "</s>", "special": True},
        "unk_token": "<unk>",
        "chat_template": TEMPLATE,
        "clean_up_tokenization_spaces": False,
    } | config
    (folder / "tokenizer_config.json").write_text(json.dumps(config))
    return folder


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
ANY_TOKENS = st.lists(st.integers(0, 420), max_size=25)


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


# Streaming


def stream(tokenizer: Tokenizer, prompt: list[int], answer: list[int]) -> list[str]:
    """Return the pieces of an answer, with what is left at its end."""
    detokenizer = IncrementalDetokenizer(tokenizer, prompt)
    return [*map(detokenizer.append, answer), detokenizer.flush()]


def next_word(tokenizer: Tokenizer, word: str) -> list[int]:
    """Return the tokens of a word with the space before it."""
    # The other kinds put a space before every text.
    text = f" {word}" if tokenizer.is_byte_level else word
    return tokenizer.encode(text, add_special_tokens=False)


@given(ids=ANY_TOKENS)
def test_the_pieces_of_any_tokens_are_their_text(tokenizer: Tokenizer, ids: list[int]) -> None:
    assert "".join(stream(tokenizer, [], ids)) == tokenizer.decode(ids)


@given(prompt=ANY_TEXT.filter(str.strip), answer=ANY_TOKENS)
def test_prompt_and_pieces_are_the_text_of_both(
    tokenizer: Tokenizer, prompt: str, answer: list[int]
) -> None:
    # A word that all know ends the prompt: the text of its last token is the prompt's alone.
    before = tokenizer.encode(f"{prompt} the")
    pieces = stream(tokenizer, before, answer)
    assert tokenizer.decode(before) + "".join(pieces) == tokenizer.decode(before + answer)


@given(text=ANY_TEXT, cut=st.integers(0, 40))
def test_no_piece_is_part_of_a_character(tokenizer: Tokenizer, text: str, cut: int) -> None:
    ids = tokenizer.encode(text.replace("\ufffd", "?"))
    pieces = stream(tokenizer, ids[:cut], ids[cut:])
    assert not any("\ufffd" in piece for piece in pieces)


def test_a_piece_comes_as_soon_as_its_character_is_whole(tiny: Tokenizer) -> None:
    ids = tiny.encode("A 🙂 b", add_special_tokens=False)
    pieces = stream(tiny, [], ids)
    assert pieces == ["A", " ", "", "", "", "🙂", " ", "b", ""] or pieces == [
        "A", " ", "", "", "", "🙂", " b", "",
    ]  # fmt: skip


def test_what_is_left_of_a_character_is_flushed_once(tiny: Tokenizer) -> None:
    detokenizer = IncrementalDetokenizer(tiny, [])
    first_byte = tiny.encode("🙂", add_special_tokens=False)[0]
    assert detokenizer.append(first_byte) == ""
    assert (detokenizer.flush(), detokenizer.flush()) == ("\ufffd", "")


def test_an_answer_completes_the_character_that_its_prompt_has_begun(tokenizer: Tokenizer) -> None:
    if tokenizer.decode(tokenizer.encode("文")) != "文":
        pytest.skip("this kind has no tokens for parts of a character")
    ids = tokenizer.encode("a文 b")
    begun = next(n for n in range(len(ids)) if "\ufffd" in tokenizer.decode(ids[:n]))
    assert "".join(stream(tokenizer, ids[:begun], ids[begun:])) == "文 b"


def test_a_space_before_an_answer_is_kept_after_a_prompt(tokenizer: Tokenizer) -> None:
    prompt, answer = tokenizer.encode("The request"), next_word(tokenizer, "waits")
    assert "".join(stream(tokenizer, prompt, answer)) == " waits"
    assert tokenizer.is_byte_level or "".join(stream(tokenizer, [], answer)) == "waits"


@pytest.mark.parametrize("character", ["文", "\ufffd"])
def test_bytes_that_end_a_prompt_are_not_said_again(tokenizer: Tokenizer, character: str) -> None:
    prompt, answer = tokenizer.encode(f"a {character}"), next_word(tokenizer, "waits")
    assert "".join(stream(tokenizer, prompt, answer)) == " waits"


def test_a_token_takes_as_long_at_the_end_as_at_the_beginning(tokenizer: Tokenizer) -> None:
    # What is decoded is counted, so that no clock is needed.
    ids = tokenizer.encode(" ".join(TEXTS), add_special_tokens=False)
    detokenizer = IncrementalDetokenizer(tokenizer, ids)
    decode, decoded = tokenizer.decode, []
    try:
        tokenizer.decode = lambda ids: decoded.append(len(ids)) or decode(ids)
        for token_id in ids:
            detokenizer.append(token_id)
    finally:
        del tokenizer.decode
    assert sum(decoded) <= 8 * len(ids)


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

"""course-tiny writes readable English, and can be made again from what is in the repository."""

import errno
import json
import re
import shutil
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from itertools import pairwise
from pathlib import Path
from random import Random
from types import SimpleNamespace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner

from course_lib.engine import LLM, EngineParts
from course_lib.engine.checkpoint import load_checkpoint
from course_lib.engine.model import LlamaConfig, LlamaModel, dense_causal
from course_lib.engine.tiny import train as train_command
from course_lib.engine.tiny.corpus import CORPUS, Corpus, CorpusError, Exchange, Table
from course_lib.engine.tiny.train import CONFIG, app, new_folder
from course_lib.engine.tiny.training import (
    Recipe,
    bits_per_byte,
    continue_greedily,
    pack,
    train,
    with_noise,
)
from course_lib.engine.tiny.vocabulary import SPECIAL_TOKENS
from course_lib.engine.tokenizer import Tokenizer, checkpoint_folder

FOLDER = checkpoint_folder("course-tiny")

BITS_PER_BYTE = {"learned": 0.3, "held out": 2.45}
"""A little more than what the checkpoint that ships with the package was measured at."""

SHARE_READABLE = 0.9
"""Texts in which everything is a word; 0.97 were measured, and 0.74 at temperature 1."""

TEXTS = [
    "The scheduler",
    "A block table",
    "The KV cache of a model",
    "When a request ends,",
    "Once upon a time",
    "One day a little dog",
    "Hello, my name is",
    "The future of AI is",
    "What is paging?",
    "Question: What is a KV cache?\nAnswer:",
    "In the morning",
    "I",
    "",
]
QUESTIONS = [
    "What is a KV cache?",
    "how does paging work",
    "What does the scheduler do?",
    "Tell me a story.",
    "Hello!",
    "What is quantum physics?",
    "Why is decode slow?",
    "What happens when the cache is full?",
]


@pytest.fixture(scope="module")
def model() -> LlamaModel:
    return load_checkpoint(FOLDER)


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return Tokenizer(FOLDER)


@pytest.fixture(scope="module")
def corpus() -> Corpus:
    return Corpus.load()


@pytest.fixture(scope="module")
def known_words(corpus: Corpus) -> set[str]:
    """Every word that the corpus can come to."""
    entries = {word for table in corpus.words.values() for row in table.rows for word in row}
    return words_of(" ".join([*corpus.texts(), *entries]))


def words_of(text: str) -> set[str]:
    return set(re.findall(r"[a-z]+|[0-9]+", text.lower()))


# The files


def test_the_weights_fit_into_three_megabytes() -> None:
    assert (FOLDER / "model.safetensors").stat().st_size <= 3_000_000
    assert sum(path.stat().st_size for path in FOLDER.iterdir()) <= 3 * 2**20


def test_the_files_are_of_one_model(model: LlamaModel, tokenizer: Tokenizer) -> None:
    assert model.config == CONFIG == LlamaConfig.from_hf(FOLDER)
    assert model.config.vocab_size == tokenizer.vocab_size
    assert model.config.bos_token_id == tokenizer.bos_token_id
    assert model.config.eos_token_ids[0] == tokenizer.eos_token_id
    ends = [tokenizer.decode([i], skip_special_tokens=False) for i in model.config.eos_token_ids]
    assert ends == ["<|eos|>", "<|end|>"]
    assert json.loads((FOLDER / "config.json").read_text())["dtype"] == "float16"


def test_it_is_a_small_llama(model: LlamaModel) -> None:
    config = model.config
    assert config.model_type == "llama"
    assert config.tie_word_embeddings
    assert config.num_kv_heads < config.num_attention_heads
    assert config.max_position_embeddings >= 4096


def test_transformers_computes_the_same_logits(model: LlamaModel, tokenizer: Tokenizer) -> None:
    transformers = pytest.importorskip("transformers")
    oracle = transformers.LlamaForCausalLM.from_pretrained(FOLDER, dtype=torch.float32)
    tokens = torch.tensor(tokenizer.encode("The scheduler decides what runs in the next step."))
    with torch.inference_mode():
        hidden = model(tokens, torch.arange(len(tokens)), dense_causal(num_sequences=1))
        logits = model.logits(hidden)
        expected = oracle(tokens[None]).logits[0]
    torch.testing.assert_close(logits, expected, atol=1e-4, rtol=1e-4)


@given(text=st.text(st.characters(exclude_categories=["Cs"])))
def test_any_text_can_be_written(text: str) -> None:
    tokenizer = Tokenizer(FOLDER)
    assert tokenizer.decode(tokenizer.encode(text, add_special_tokens=False)) == text


# What it writes


def answer(model: LlamaModel, prompt: list[int], max_tokens: int = 200) -> list[int]:
    """Return the greedy answer, without the token that ends it; fail if there is none."""
    tokens = list(continue_greedily(model, prompt, max_tokens))
    assert len(tokens) < max_tokens, "the answer does not end"
    return tokens


@pytest.mark.parametrize("prompt", TEXTS)
def test_a_text_goes_on_in_known_words_and_ends(
    model: LlamaModel, tokenizer: Tokenizer, known_words: set[str], prompt: str
) -> None:
    ids = tokenizer.encode(prompt)
    text = tokenizer.decode(ids + answer(model, ids))
    assert words_of(text) <= known_words
    assert text.endswith((".", "!", "?", '"'))


@pytest.mark.parametrize("question", QUESTIONS)
def test_a_question_is_answered_in_known_words(
    model: LlamaModel, tokenizer: Tokenizer, known_words: set[str], question: str
) -> None:
    prompt = tokenizer.apply_chat_template([{"role": "user", "content": question}])
    text = tokenizer.decode(answer(model, prompt))
    assert len(text.split()) >= 3
    assert words_of(text) <= known_words


@pytest.mark.parametrize(
    ("question", "expected"),
    [
        ("What is a KV cache?", "keys and values"),
        ("What is a block table?", "block"),
        ("What is the capital of France?", "Paris"),
        ("How many legs does a cat have?", "four"),
        ("What is volleyball?", "know"),
    ],
)
def test_it_knows_what_it_was_told(
    model: LlamaModel, tokenizer: Tokenizer, question: str, expected: str
) -> None:
    prompt = tokenizer.apply_chat_template([{"role": "user", "content": question}])
    assert expected in tokenizer.decode(answer(model, prompt))


def test_it_answers_behind_a_system_prompt_of_a_thousand_tokens(
    model: LlamaModel, tokenizer: Tokenizer, corpus: Corpus, known_words: set[str]
) -> None:
    random = Random(0)
    notes = " ".join(corpus.draw_passage(random) for _ in range(40))
    system = tokenizer.decode(tokenizer.encode(f"You are a helpful assistant. {notes}")[:1000])
    chat = [{"role": "system", "content": system}, {"role": "user", "content": "What is paging?"}]
    prompt = tokenizer.apply_chat_template(chat)
    assert len(prompt) > 1000
    assert words_of(tokenizer.decode(answer(model, prompt))) <= known_words


def test_sampled_as_it_recommends_nearly_every_text_is_of_known_words(
    known_words: set[str],
) -> None:
    llm = LLM("course-tiny", parts=EngineParts.reference())
    prompts = [llm.tokenizer.encode(text) for text in TEXTS if text]
    prompts += [
        llm.tokenizer.apply_chat_template([{"role": "user", "content": question}])
        for question in QUESTIONS
    ]
    params = replace(llm.get_default_sampling_params(), max_tokens=200, n=5)
    answers = [each for output in llm.generate(prompts, params) for each in output.outputs]
    readable = [words_of(each.text) <= known_words for each in answers]
    assert sum(readable) / len(readable) > SHARE_READABLE
    assert len({each.text for each in answers}) > 2 * len(prompts)


def test_it_predicts_new_tellings_and_texts_that_it_has_not_seen(
    model: LlamaModel, tokenizer: Tokenizer, corpus: Corpus
) -> None:
    learned, held_out = corpus.split()
    assert bits_per_byte(model, tokenizer, learned) < BITS_PER_BYTE["learned"]
    assert bits_per_byte(model, tokenizer, held_out) < BITS_PER_BYTE["held out"]


# The corpus


def test_a_slot_is_filled_alike_in_one_document_and_anew_in_the_next(corpus: Corpus) -> None:
    random = Random(0)
    stories = [corpus.expand("{hero} and {His} {friend}: {hero}", random) for _ in range(50)]
    for story in stories:
        first, _, own, _, last = re.split(r"[ :]+", story)
        assert first == last
        assert own in {"Her", "His"}
    assert len(set(stories)) > 20


def test_nothing_of_a_template_is_left_in_a_document(corpus: Corpus) -> None:
    random = Random(0)
    for _ in range(3000):
        text = text_of(corpus.draw(random))
        assert not re.search(r"[\[\]{}|]|^[QAU]: |[ \t]$|  ", text, re.MULTILINE), text
        assert text == text.strip()


def test_what_something_is_can_be_asked_in_many_ways() -> None:
    exchange = Exchange(("What is a block?",), ("It is room for some tokens.",))
    corpus, random = Corpus({}, (("A.",),), (), (exchange,), (), ("Be kind.",)), Random(0)
    texts = "\n".join(text_of(corpus.draw_question(random)) for _ in range(300))
    for question in ("What is a block?", "What's a block?", "Explain a block.", "what is a block"):
        assert question in texts


def test_the_same_numbers_draw_the_same_documents(corpus: Corpus) -> None:
    first, second = Random(5), Random(5)
    assert [corpus.draw(first) for _ in range(50)] == [corpus.draw(second) for _ in range(50)]


def test_what_is_held_back_is_not_trained_on(corpus: Corpus) -> None:
    learned, held_out = corpus.split()
    assert not set(learned.texts()) & set(held_out.texts())
    assert sorted(learned.texts() + held_out.texts()) == sorted(corpus.texts())
    assert len(held_out.texts()) >= 10


def test_the_corpus_is_large_enough_and_plain() -> None:
    files = list(CORPUS.rglob("*.txt"))
    assert sum(path.stat().st_size for path in files) > 80_000
    assert all(path.read_text(encoding="utf-8").isascii() for path in files)


def test_a_slot_without_a_table_is_refused(tmp_path: Path) -> None:
    folder = tmp_path / "corpus"
    shutil.copytree(CORPUS, folder)
    (folder / "stories" / "new.txt").write_text("Once there was a {dragon}.")
    with pytest.raises(CorpusError, match=r"no table of words\.txt fills {dragon} in 'Once there"):
        Corpus.load(folder)


def test_a_row_with_a_word_too_few_is_refused() -> None:
    with pytest.raises(CorpusError, match="'Cuba' does not have one word for each of 'country/cap"):
        Table.parse("country/capital: Peru/Lima, Cuba")


def text_of(document: str | list[dict[str, str]]) -> str:
    if isinstance(document, str):
        return document
    return "\n".join(message["content"] for message in document)


# Training


def test_a_window_is_whole_documents_and_the_start_of_one(
    tokenizer: Tokenizer, corpus: Corpus
) -> None:
    window = pack(corpus, tokenizer, Random(0), 300)
    assert len(window) == 300
    assert window[0] == tokenizer.bos_token_id
    for before, after in pairwise(window):
        assert (before == tokenizer.eos_token_id) == (after == tokenizer.bos_token_id)


def test_noise_replaces_its_share_of_the_words_and_no_special_token() -> None:
    tokens = torch.arange(2000) % 100
    noisy = with_noise(tokens, 0.25, vocab_size=100, numbers=torch.Generator().manual_seed(0))
    special = tokens < len(SPECIAL_TOKENS)
    assert torch.equal(noisy[special], tokens[special])
    assert int(noisy.min()) == 0
    assert int(noisy.max()) < 100
    assert (noisy != tokens)[~special].float().mean() == pytest.approx(0.25, abs=0.03)


def test_training_lowers_the_loss(tokenizer: Tokenizer, corpus: Corpus) -> None:
    losses: list[float] = []
    recipe = Recipe(
        steps=20, warmup=4, learning_rate=1e-2, tokens_per_step=512, window=128, long_window=256
    )
    small = LlamaConfig(
        "llama", tokenizer.vocab_size, 32, 64, 1, 2, 1, 16, tie_word_embeddings=True
    )
    train(small, tokenizer, corpus, recipe, lambda step, loss: losses.append(loss))
    assert len(losses) == 20
    assert losses[-1] < losses[0] - 0.5


@pytest.fixture
def command(monkeypatch: pytest.MonkeyPatch) -> Iterator[CliRunner]:
    """A way to run the command, with batches that take no time."""
    num_threads = torch.get_num_threads()
    quick = partial(Recipe, tokens_per_step=128, window=64, long_window=128)
    monkeypatch.setattr(train_command, "Recipe", quick)
    monkeypatch.setattr(train_command, "THREADS", 1)
    monkeypatch.setattr(train_command, "bits_per_byte", lambda *args: 0.0)
    monkeypatch.setattr(train_command, "PROMPTS", ["The scheduler"])
    yield CliRunner()
    torch.use_deterministic_algorithms(False)
    torch.set_num_threads(num_threads)


def test_the_same_seed_gives_the_same_files(command: CliRunner, tmp_path: Path) -> None:
    for name, seed in (("one", "3"), ("two", "3"), ("other", "4")):
        options = ["--output", str(tmp_path / name), "--steps", "2", "--seed", seed]
        result = command.invoke(app, options)
        assert result.exit_code == 0, result.output
    names = sorted(path.name for path in FOLDER.iterdir())
    one, two, other = (tmp_path / name for name in ("one", "two", "other"))
    assert sorted(path.name for path in one.iterdir()) == names
    assert all((one / name).read_bytes() == (two / name).read_bytes() for name in names)
    weights = "model.safetensors"
    assert (one / weights).read_bytes() != (other / weights).read_bytes()


def test_what_was_shipped_was_made_by_this_corpus(corpus: Corpus, tmp_path: Path) -> None:
    learned, _ = corpus.split()
    tokenizer = train_command.train_corpus_tokenizer(learned, Recipe.seed)
    train_command.save_tokenizer(tokenizer, tmp_path, CONFIG.max_position_embeddings)
    for name in ("tokenizer.json", "tokenizer_config.json"):
        made, shipped = (json.loads((at / name).read_text()) for at in (tmp_path, FOLDER))
        assert made == shipped, "the corpus has changed: train course-tiny again"


def test_what_was_shipped_recommends_what_the_command_writes(
    command: CliRunner, tmp_path: Path
) -> None:
    assert command.invoke(app, ["--output", str(tmp_path / "new"), "--steps", "1"]).exit_code == 0
    for name in ("config.json", "generation_config.json"):
        assert (tmp_path / "new" / name).read_bytes() == (FOLDER / name).read_bytes()


def test_a_folder_that_exists_is_not_touched(command: CliRunner, tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    result = command.invoke(app, ["--output", str(tmp_path / "mine"), "--steps", "1"])
    assert result.exit_code == 1
    assert "it is there already; remove it, or choose another --output" in result.output
    assert list(tmp_path.iterdir()) == [tmp_path / "mine"]
    assert not list((tmp_path / "mine").iterdir())


def no_space(*args: object, **kwargs: object) -> None:
    raise OSError(errno.ENOSPC, "No space left on device")


@pytest.mark.parametrize("writer", ["save_tokenizer", "save_checkpoint"])
def test_a_disk_that_fills_up_leaves_nothing(
    command: CliRunner, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, writer: str
) -> None:
    monkeypatch.setattr(train_command, writer, no_space)
    result = command.invoke(app, ["--output", str(tmp_path / "new"), "--steps", "1"])
    assert result.exit_code == 1
    assert "No space left on device; nothing was written" in result.output
    assert not list(tmp_path.iterdir())


def test_a_disk_that_is_nearly_full_is_noticed_before_the_training(
    command: CliRunner, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda path: SimpleNamespace(free=2**20))
    result = command.invoke(app, ["--output", str(tmp_path / "new"), "--steps", "1"])
    assert result.exit_code == 1
    assert "only 1.0 MiB are free there, and 8 MiB are needed" in result.output
    assert not list(tmp_path.iterdir())


def test_stopping_leaves_nothing(
    command: CliRunner, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stop(*args: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(train_command, "train", stop)
    result = command.invoke(app, ["--output", str(tmp_path / "new"), "--steps", "1"])
    assert result.exit_code == 130
    assert "stopped; nothing was written" in result.output
    assert not list(tmp_path.iterdir())


def test_a_folder_appears_when_it_is_whole(tmp_path: Path) -> None:
    with new_folder(tmp_path / "deep" / "new") as folder:
        (folder / "file").write_text("whole")
        assert not (tmp_path / "deep" / "new").exists()
    assert (tmp_path / "deep" / "new" / "file").read_text() == "whole"
    assert [path.name for path in (tmp_path / "deep").iterdir()] == ["new"]

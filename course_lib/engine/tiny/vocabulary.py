"""The tokenizer of ``course-tiny``: byte-level BPE, and a chat template."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path

from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, processors, trainers

BOS, EOS, END = "<|bos|>", "<|eos|>", "<|end|>"
"""What begins a text, ends a text, and ends a turn of a chat."""

SPECIAL_TOKENS = [BOS, EOS, END, "<|system|>", "<|user|>", "<|assistant|>"]
"""In the order of their ids, from 0."""

CHAT_TEMPLATE = """\
{{- bos_token }}
{%- for message in messages %}
    {%- if message.role not in ["system", "user", "assistant"] %}
        {{- raise_exception("a message has role " ~ message.role ~ "; the roles of a chat are "
            "system, user and assistant") }}
    {%- endif %}
    {{- "<|" ~ message.role ~ "|>" ~ message.content ~ "<|end|>" }}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- "<|assistant|>" }}
{%- endif %}
"""
"""Each turn is a token for who speaks, what was said, and a token that ends it."""


def train_tokenizer(texts: Iterable[str], vocab_size: int) -> Tokenizer:
    """Return a tokenizer that joins the bytes that stand next to each other most often.

    Every byte is a token, so it writes any text.

    Args:
        texts: What to learn from.
        vocab_size: Tokens in all; the 256 bytes and the special tokens among them.

    >>> tokenizer = train_tokenizer(["a block and a block"], vocab_size=270)
    >>> tokenizer.encode("a block").tokens
    ['<|bos|>', 'a', 'Ġblock']
    >>> tokenizer.decode(tokenizer.encode("ß 文").ids)
    'ß 文'
    """
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        special_tokens=[AddedToken(token, special=True) for token in SPECIAL_TOKENS],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{BOS} $A", special_tokens=[(BOS, tokenizer.token_to_id(BOS))]
    )
    return tokenizer


def save_tokenizer(tokenizer: Tokenizer, folder: Path, max_length: int) -> None:
    """Write the files that a tokenizer consists of in a Hugging Face checkpoint.

    Args:
        tokenizer: What ``train_tokenizer`` returned.
        folder: Where the files go; it must exist.
        max_length: Tokens of the longest sequence of the model.

    Raises:
        OSError: They cannot be written.
    """
    config = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "bos_token": BOS,
        "eos_token": EOS,
        "pad_token": EOS,
        "clean_up_tokenization_spaces": False,
        "model_max_length": max_length,
        "chat_template": CHAT_TEMPLATE,
    }
    _write(folder / "tokenizer.json", json.loads(tokenizer.to_str()))
    _write(folder / "tokenizer_config.json", config)


def _write(path: Path, content: object) -> None:
    """Write JSON as people read it."""
    text = json.dumps(content, ensure_ascii=False, indent=1)
    path.write_text(text + "\n", encoding="utf-8")

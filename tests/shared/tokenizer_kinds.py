"""Tokenizers of every kind, small, and the files of a checkpoint that they are read from."""

import json
from pathlib import Path

import tokenizers
from tokenizers import (
    AddedToken,
    decoders,
    models,
    normalizers,
    pre_tokenizers,
    processors,
    trainers,
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


def byte_level_in_a_sequence() -> tokenizers.Tokenizer:
    """As some converters write it: what decodes is a list with one entry."""
    tokenizer = byte_level()
    tokenizer.decoder = decoders.Sequence([decoders.ByteLevel(), decoders.Fuse()])
    return tokenizer


def byte_level_and_more() -> tokenizers.Tokenizer:
    """Bytes, and then a text from which the decoder takes the space at its beginning."""
    tokenizer = byte_level()
    inner = decoders.Sequence([decoders.ByteLevel()])
    tokenizer.decoder = decoders.Sequence([inner, decoders.Strip(" ", 1, 0)])
    return tokenizer


KINDS = {
    "byte level": byte_level,
    "byte level in a sequence": byte_level_in_a_sequence,
    "byte level and more": byte_level_and_more,
    "byte fallback": byte_fallback,
    "metaspace": metaspace,
}


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

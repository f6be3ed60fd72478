"""Text to tokens and back, and chats to prompts.

A tokenizer is read from the files of a Hugging Face checkpoint: ``tokenizer.json`` has the
vocabulary and the rules; which tokens begin and end a text, and how a chat is written, the files
beside it say (``special_tokens``, ``chat_template``). These files come from strangers. Nothing in
them is run, except the template, and that in a sandbox.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import tokenizers

from course_lib.engine.chat_template import ChatTemplate, ChatTemplateError, template_source
from course_lib.engine.config import CheckpointError
from course_lib.engine.special_tokens import SpecialTokens
from course_lib.engine.token_bytes import byte_level_bytes, decoder_kinds, fallback_byte

__all__ = ["CHECKPOINTS", "ChatTemplateError", "Tokenizer", "checkpoint_folder"]

CHECKPOINTS = Path(__file__).parent / "tiny" / "checkpoints"
"""The checkpoints that come with the package."""

_MOST_IDS = 1 << 32
"""Token ids that the library can be asked about."""

_BYTES_ALONE = frozenset({"ByteLevel", "Fuse"})
"""Steps of a decoder that make the bytes of all tokens one text, and nothing else of it."""


def checkpoint_folder(model: str | Path) -> Path:
    """Return the folder of a checkpoint. Nothing is downloaded.

    Args:
        model: ``"course-tiny"``, which comes with the package, or the path of a folder.

    Raises:
        FileNotFoundError: It is neither.

    >>> checkpoint_folder("course-tiny").name
    'course-tiny'
    """
    shipped = CHECKPOINTS / str(model)
    if isinstance(model, str) and shipped.parent == CHECKPOINTS and shipped.is_dir():
        return shipped
    folder = Path(model).expanduser()
    if model != "" and folder.is_dir():
        return folder
    known = ", ".join(sorted(path.name for path in CHECKPOINTS.iterdir() if path.is_dir()))
    raise FileNotFoundError(
        f"there is no model {str(model)!r}; name one that comes with the course ({known}), or a "
        "folder with a Hugging Face checkpoint; nothing is downloaded"
    )


class Tokenizer:
    """The tokenizer of a checkpoint.

    Args:
        folder: The checkpoint. Only ``tokenizer.json`` must be there.

    Attributes:
        bos_token_id: The token that begins a text, if the checkpoint names one.
        eos_token_id: The token that ends a text, if the checkpoint names one.
        decoder_kinds: What makes text of tokens, step by step: types of the library's decoders.

    Raises:
        FileNotFoundError: There is no ``tokenizer.json``.
        CheckpointError: A file is damaged.

    >>> tokenizer = Tokenizer(checkpoint_folder("course-tiny"))
    >>> ids = tokenizer.encode("A block is free.")
    >>> ids[0] == tokenizer.bos_token_id, tokenizer.decode(ids)
    (True, 'A block is free.')
    """

    def __init__(self, folder: str | Path) -> None:
        folder = Path(folder)
        self._tokenizer = _load(folder / "tokenizer.json")
        special = SpecialTokens.of_folder(folder)
        special.add_to(self._tokenizer)
        splits = special.config.get("split_special_tokens")
        self._tokenizer.encode_special_tokens = bool(splits)
        self._names = special.names
        self._template_source = template_source(folder, special.config)
        self.bos_token_id = self._id_of("bos_token")
        self.eos_token_id = self._id_of("eos_token")
        added = self._tokenizer.get_added_tokens_decoder()
        self._special_ids = frozenset(i for i, token in added.items() if token.special)
        self.decoder_kinds = decoder_kinds(self._tokenizer.decoder)
        self._token_texts: dict[int, str] = {}

    @property
    def vocab_size(self) -> int:
        """Tokens that exist, special ones included. A model may have room for more."""
        return self._tokenizer.get_vocab_size()

    def encode(self, text: str, *, add_special_tokens: bool = True) -> list[int]:
        """Return the tokens of a text.

        Args:
            text: Any text. Names of special tokens in it become these tokens.
            add_special_tokens: Whether the tokens that the checkpoint puts around a text are added.

        Raises:
            ValueError: The text is not Unicode: it has half of a surrogate pair.
        """
        try:
            text.encode()
        except UnicodeEncodeError as error:
            raise ValueError(
                f"character {error.start} of the text is {text[error.start]!r}, half of a "
                "surrogate pair, which is no character; decode the text with errors='replace'"
            ) from error
        return self._tokenizer.encode(text, add_special_tokens=add_special_tokens).ids

    def decode(self, ids: Sequence[int], skip_special_tokens: bool = True) -> str:
        """Return the text of tokens. Ids outside the vocabulary have none.

        Args:
            ids: The tokens.
            skip_special_tokens: Whether special tokens are left out.
        """
        known = [token_id for token_id in ids if 0 <= token_id < _MOST_IDS]
        return self._tokenizer.decode(known, skip_special_tokens=skip_special_tokens)

    def render_chat(
        self, messages: Sequence[Mapping[str, Any]], *, add_generation_prompt: bool = True
    ) -> str:
        """Return a chat as one text, the way the model was trained to read it.

        Args:
            messages: ``{"role": "user", "content": "Hello"}`` and so on, oldest first.
            add_generation_prompt: Whether the text ends where the model's answer begins.

        Raises:
            ChatTemplateError: There are no messages, the checkpoint has no template, or the
                template does not accept them.

        >>> tokenizer = Tokenizer(checkpoint_folder("course-tiny"))
        >>> tokenizer.render_chat([{"role": "user", "content": "Hello"}])
        '<|bos|><|user|>Hello<|end|><|assistant|>'
        """
        return self._template.render(
            messages, add_generation_prompt=add_generation_prompt, names=self._names
        )

    def apply_chat_template(
        self, messages: Sequence[Mapping[str, Any]], *, add_generation_prompt: bool = True
    ) -> list[int]:
        """Return the tokens of a chat. See ``render_chat``."""
        text = self.render_chat(messages, add_generation_prompt=add_generation_prompt)
        # The template has written down all special tokens.
        return self.encode(text, add_special_tokens=False)

    def token(self, token_id: int) -> str | None:
        """Return a token as the vocabulary spells it, or None if ``decode`` leaves it out.

        It does so with special tokens, and with ids that are in no vocabulary.
        """
        return None if token_id in self._special_ids else self._spelling(token_id)

    def token_text(self, token_id: int) -> str:
        """Return what a token, special or not, adds to a text: with the space before a word.

        It is ``U+FFFD`` for a part of a character, and nothing for ids that are in no vocabulary.
        """
        if self.is_byte_level:
            return self.token_bytes(token_id).decode(errors="replace")
        if token_id not in self._token_texts:
            # Behind itself, because the space before the first word of a text may be dropped.
            once, twice = (self.decode([token_id] * n, skip_special_tokens=False) for n in (1, 2))
            self._token_texts[token_id] = twice.removeprefix(once)
        return self._token_texts[token_id]

    def token_bytes(self, token_id: int) -> bytes:
        """Return the bytes that a token, special or not, adds to a text in UTF-8.

        >>> tokenizer = Tokenizer(checkpoint_folder("course-tiny"))
        >>> parts = tokenizer.encode("€", add_special_tokens=False)
        >>> b"".join(map(tokenizer.token_bytes, parts)).decode()
        '€'
        """
        spelling = self._spelling(token_id)
        if spelling is None:
            return b""
        if "ByteLevel" in self.decoder_kinds:
            return byte_level_bytes(spelling)
        byte = fallback_byte(spelling) if "ByteFallback" in self.decoder_kinds else None
        return self.token_text(token_id).encode() if byte is None else byte

    @property
    def is_byte_level(self) -> bool:
        """Whether a token is some bytes, and a text nothing but the bytes of its tokens."""
        return "ByteLevel" in self.decoder_kinds and {*self.decoder_kinds} <= _BYTES_ALONE

    @cached_property
    def _template(self) -> ChatTemplate:
        """The chat template, compiled when it is first used."""
        return ChatTemplate(self._template_source)

    def _spelling(self, token_id: int) -> str | None:
        """Return a token as the vocabulary spells it, special or not."""
        return self._tokenizer.id_to_token(token_id) if 0 <= token_id < _MOST_IDS else None

    def _id_of(self, role: str) -> int | None:
        """Return the token in a role, such as ``eos_token``."""
        name = self._names.get(role)
        return None if name is None else self._tokenizer.token_to_id(name)


def _load(path: Path) -> tokenizers.Tokenizer:
    """Read ``tokenizer.json``."""
    if not path.is_file():
        older = path.with_name("tokenizer.model")
        remedy = (
            "tokenizer.model is there, which is an older format: convert it with transformers, "
            "AutoTokenizer.from_pretrained(folder).save_pretrained(folder)"
            if older.is_file()
            else "pass the folder of a Hugging Face checkpoint"
        )
        raise FileNotFoundError(f"no tokenizer.json in {path.parent}; {remedy}")
    try:
        tokenizer = tokenizers.Tokenizer.from_str(path.read_text(encoding="utf-8"))
    except OSError:
        raise
    except Exception as error:  # What the library raises is nothing more specific.
        raise CheckpointError(
            f"{path} is no tokenizer: {error}; download the checkpoint again"
        ) from error
    # Some files still have the settings of their training.
    tokenizer.no_truncation()
    tokenizer.no_padding()
    return tokenizer

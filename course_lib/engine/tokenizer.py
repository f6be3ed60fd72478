"""Text to tokens and back, and chats to prompts.

A tokenizer is read from the files of a Hugging Face checkpoint: ``tokenizer.json`` has the
vocabulary and the rules; ``tokenizer_config.json`` names the tokens that begin and end a text; the
chat template is there or in ``chat_template.jinja``. These files come from strangers. Nothing in
them is run, except the template, and that in a sandbox.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import datetime
from functools import cached_property
from pathlib import Path
from typing import Any

import tokenizers
from jinja2 import Template, TemplateError
from jinja2.ext import loopcontrols
from jinja2.sandbox import ImmutableSandboxedEnvironment

from course_lib.engine.config import CheckpointError
from course_lib.specs import read_json_object

CHECKPOINTS = Path(__file__).parent / "tiny" / "checkpoints"
"""The checkpoints that come with the package."""


class ChatTemplateError(ValueError):
    """Messages cannot be made into a prompt: says why."""


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
        config = _read_optional(folder / "tokenizer_config.json")
        self._names = _named_tokens(config)
        self._template_source = _template_source(folder, config)
        self.bos_token_id = self._id_of("bos_token")
        self.eos_token_id = self._id_of("eos_token")
        # Some files name a token here and forget to mark it as special there.
        present = [n for n in self._names.values() if self._tokenizer.token_to_id(n) is not None]
        self._tokenizer.add_special_tokens(present)
        added = self._tokenizer.get_added_tokens_decoder()
        self._special_ids = frozenset(i for i, token in added.items() if token.special)

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
        return self._tokenizer.decode(list(ids), skip_special_tokens=skip_special_tokens)

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
        if not messages:
            raise ChatTemplateError("the chat is empty; give at least one message")
        template = self._template
        try:
            return template.render(
                **self._names,
                messages=[dict(message) for message in messages],
                add_generation_prompt=add_generation_prompt,
                tools=None,
                documents=None,
            )
        except Exception as error:  # Whatever a stranger's template may come to.
            raise ChatTemplateError(
                f"the checkpoint's chat template does not accept the messages: {error}"
            ) from error

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
        if token_id in self._special_ids:
            return None
        return self._tokenizer.id_to_token(token_id)

    @property
    def is_byte_level(self) -> bool:
        """Whether a token is some bytes, and a text nothing but the bytes of its tokens."""
        return isinstance(self._tokenizer.decoder, tokenizers.decoders.ByteLevel)

    @cached_property
    def _template(self) -> Template:
        """The chat template, compiled when it is first used."""
        if self._template_source is None:
            raise ChatTemplateError(
                "this checkpoint has no chat template, so it does not say how a chat is written; "
                "write the prompt yourself, or choose a checkpoint that was tuned for chats"
            )
        try:
            return _sandbox().from_string(self._template_source)
        except TemplateError as error:
            raise ChatTemplateError(
                f"the checkpoint's chat template is no valid Jinja: {error}; correct it"
            ) from error

    def _id_of(self, role: str) -> int | None:
        """Return the token in a role, such as ``eos_token``."""
        name = self._names.get(role)
        if name is None:
            return None
        token_id = self._tokenizer.token_to_id(name)
        if token_id is None:
            raise CheckpointError(
                f"tokenizer_config.json names {name!r} as {role}, but tokenizer.json has no such "
                "token; the files are not of one checkpoint: download it again"
            )
        return token_id


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


def _read_optional(path: Path) -> dict[str, Any]:
    """Return the JSON object in a file, or an empty one if there is no file."""
    try:
        return read_json_object(path) if path.is_file() else {}
    except ValueError as error:
        raise CheckpointError(str(error)) from error


def _named_tokens(config: Mapping[str, Any]) -> dict[str, str]:
    """Return the special tokens that have a role, such as ``eos_token``, by role."""
    names = {}
    for role in ("bos_token", "eos_token", "unk_token", "pad_token"):
        # Either the token, or all that is known about it.
        token = config.get(role)
        token = token.get("content") if isinstance(token, Mapping) else token
        if token is not None:
            names[role] = str(token)
    return names


def _template_source(folder: Path, config: Mapping[str, Any]) -> str | None:
    """Return the chat template, if there is one: from its own file, or from the configuration."""
    path = folder / "chat_template.jinja"
    if path.is_file():
        try:
            return path.read_text(encoding="utf-8")
        except UnicodeDecodeError as error:
            raise CheckpointError(f"{path} is not UTF-8: {error}; download it again") from error
    template = config.get("chat_template")
    if isinstance(template, list):
        # Several, by name; the others are for tools and for retrieval.
        named = {entry.get("name"): entry.get("template") for entry in template}
        template = named.get("default")
    return None if template is None else str(template)


def _sandbox() -> ImmutableSandboxedEnvironment:
    """Return where templates are rendered: they can neither change nor reach anything outside.

    White space, and the functions there are besides Jinja's own, are those that templates are
    written for: those of transformers.
    """
    sandbox = ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=[loopcontrols]
    )
    sandbox.filters["tojson"] = _to_json
    sandbox.globals["raise_exception"] = _raise_exception
    sandbox.globals["strftime_now"] = lambda form: datetime.now().strftime(form)
    return sandbox


def _to_json(value: object, indent: int | None = None) -> str:
    """Return JSON as it is. Jinja's own ``tojson`` escapes what means something in HTML."""
    return json.dumps(value, ensure_ascii=False, indent=indent)


def _raise_exception(message: str) -> str:
    """Let a template say what is wrong with the messages."""
    raise TemplateError(message)

"""Chats to prompts: the template that a checkpoint's makers wrote, rendered in a sandbox.

Templates come from strangers. They can neither change nor reach anything outside, and what they may
use is what transformers gives them, because that is what they are written for.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

import jinja2
from jinja2 import TemplateError
from jinja2.exceptions import SecurityError
from jinja2.ext import Extension, loopcontrols
from jinja2.nodes import CallBlock, Node
from jinja2.parser import Parser
from jinja2.sandbox import ImmutableSandboxedEnvironment
from jinja2.utils import Namespace

from course_lib.engine.config import CheckpointError


class ChatTemplateError(ValueError):
    """Messages cannot be made into a prompt: says why."""


class ChatTemplate:
    """A chat template, compiled.

    Args:
        source: What the checkpoint has: a template in Jinja, or several by name, as a dictionary or
            as a list of entries with ``name`` and ``template``; None if it has none.

    Raises:
        ChatTemplateError: There is no template, none that counts by default, or it is no Jinja.

    >>> template = ChatTemplate("{% for m in messages %}[{{ m.role }}] {{ m.content }}{% endfor %}")
    >>> template.render([{"role": "user", "content": "Hello"}])
    '[user] Hello'
    """

    def __init__(self, source: object) -> None:
        try:
            self._template = _sandbox().from_string(_default_of(source))
        except TemplateError as error:
            raise ChatTemplateError(
                f"the checkpoint's chat template is no valid Jinja: {error}; correct it"
            ) from error

    def render(
        self,
        messages: Sequence[Mapping[str, Any]],
        *,
        add_generation_prompt: bool = True,
        names: Mapping[str, str] | None = None,
    ) -> str:
        """Return a chat as one text.

        Args:
            messages: What was said, oldest first; at least one message.
            add_generation_prompt: Whether the text ends where the model's answer begins.
            names: The special tokens that have a role, such as ``eos_token``, by role.

        Raises:
            ChatTemplateError: There are no messages, or the template does not accept them.
        """
        if not messages:
            raise ChatTemplateError("the chat is empty; give at least one message")
        try:
            return self._template.render(
                **(names or {}),
                messages=[dict(message) for message in messages],
                add_generation_prompt=add_generation_prompt,
                tools=None,
                documents=None,
            )
        except Exception as error:  # Whatever a stranger's template may come to.
            raise ChatTemplateError(
                f"the checkpoint's chat template does not accept the messages: {error}"
            ) from error


def template_source(folder: Path, config: Mapping[str, Any]) -> object:
    """Return a checkpoint's chat template, if there is one, for ``ChatTemplate``.

    Args:
        folder: The checkpoint.
        config: Its ``tokenizer_config.json``. A template in a file of its own goes first.
            Templates for other purposes may have files too, named by what they are for.

    Raises:
        CheckpointError: A template's file is no text.
    """
    path = folder / "chat_template.jinja"
    if path.is_file():
        return _template_in(path)
    named = {
        p.stem: _template_in(p) for p in sorted(folder.glob("additional_chat_templates/*.jinja"))
    }
    source = config.get("chat_template")
    return named if named and source is None else source


def _template_in(path: Path) -> str:
    """Return the template in a file."""
    try:
        return path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise CheckpointError(f"{path} is not UTF-8: {error}; download it again") from error


def _default_of(source: object) -> str:
    """Return the template for plain chats; others are for tools and for retrieval."""
    if source is None:
        raise ChatTemplateError(
            "this checkpoint has no chat template, so it does not say how a chat is written; "
            "write the prompt yourself, or choose a checkpoint that was tuned for chats"
        )
    if isinstance(source, list):
        entries = [entry for entry in source if isinstance(entry, Mapping)]
        source = {str(entry.get("name")): entry.get("template") for entry in entries}
    if isinstance(source, Mapping):
        if source.get("default") is None:
            raise ChatTemplateError(
                f"this checkpoint has the chat templates {sorted(source)}, and none of them is the "
                "'default'; give the one that you want this name in tokenizer_config.json"
            )
        source = source["default"]
    return str(source)


def _sandbox() -> ImmutableSandboxedEnvironment:
    """Return where templates are rendered.

    White space, and what there is besides Jinja's own, are as in transformers.
    """
    sandbox = ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=[_GenerationBlock, loopcontrols]
    )
    sandbox.filters["tojson"] = _to_json
    sandbox.globals["raise_exception"] = _raise_exception
    sandbox.globals["namespace"] = _Namespace
    sandbox.globals["strftime_now"] = lambda form: datetime.now().strftime(form)
    return sandbox


class _Namespace(Namespace):
    """What ``{% set ns.name = value %}`` sets. As in transformers, no name begins with ``_``.

    Such are Python's own, and nothing that a stranger writes may take their place.
    """

    def __init__(self, /, *given: Any, **names: Any) -> None:
        Namespace.__init__(self)
        for name, value in dict(*given, **names).items():
            self[name] = value

    def __setitem__(self, name: str, value: Any) -> None:
        if name.startswith("_"):
            raise SecurityError(f"a namespace has no {name!r}: names do not begin with _ there")
        super().__setitem__(name, value)


class _GenerationBlock(Extension):
    """``{% generation %}``: marks, for training, what the model has written. Its text is as it is.

    It is a call with the block as its body, as in transformers: what is set inside stays inside.
    """

    tags = {"generation"}  # noqa: RUF012 - as Jinja declares it

    def parse(self, parser: Parser) -> Node:
        """Read the block, up to its end."""
        line = next(parser.stream).lineno
        body = parser.parse_statements(("name:endgeneration",), drop_needle=True)
        return CallBlock(self.call_method("_text_of"), [], [], body).set_lineno(line)

    def _text_of(self, caller: Callable[[], str]) -> str:
        return caller()


def _to_json(
    value: object,
    ensure_ascii: bool = False,
    indent: int | None = None,
    separators: tuple[str, str] | None = None,
    sort_keys: bool = False,
) -> str:
    """Return JSON as it is. Jinja's own ``tojson`` escapes what means something in HTML."""
    return json.dumps(
        value,
        ensure_ascii=ensure_ascii,
        indent=indent,
        separators=separators,
        sort_keys=sort_keys,
    )


def _raise_exception(message: str) -> str:
    """Let a template say what is wrong with the messages."""
    raise jinja2.TemplateError(message)

"""Which tokens a checkpoint adds to its vocabulary, and which of them have a role.

``tokenizer.json`` should say it all, but checkpoints have grown over the years. Roles, such as
``eos_token``, are named in ``tokenizer_config.json``, and in older checkpoints in
``special_tokens_map.json``. Tokens that were added later stand under ``added_tokens_decoder`` in
the former, or in ``added_tokens.json``. What counts where they differ is as in transformers.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tokenizers import AddedToken, Tokenizer

from course_lib.engine.config import CheckpointError
from course_lib.specs import read_json_object

TOKENIZER_CONFIG = "tokenizer_config.json"
SPECIAL_TOKENS_MAP = "special_tokens_map.json"
ADDED_TOKENS = "added_tokens.json"

_EXTRA = ("extra_special_tokens", "additional_special_tokens")
_MORE_ROLES = ("extra_special_tokens", "model_specific_special_tokens")
_OWN_FIELDS = ("lstrip", "rstrip", "single_word", "normalized")
"""What is known about a token beside what it is: how much of the text around it is its own."""


@dataclass(frozen=True)
class SpecialTokens:
    """What the files beside ``tokenizer.json`` say about tokens.

    Attributes:
        config: ``tokenizer_config.json``.
        roles: The tokens that have a role, such as ``eos_token``, by role.
        sources: The file that names each role.
        extra: Further special tokens.
        added: The tokens that were added to the vocabulary, by id.
    """

    config: Mapping[str, Any]
    roles: Mapping[str, AddedToken]
    sources: Mapping[str, str]
    extra: tuple[AddedToken, ...]
    added: Mapping[int, AddedToken]

    @classmethod
    def of_folder(cls, folder: Path) -> SpecialTokens:
        """Read the files of a checkpoint, as far as they are there.

        Raises:
            CheckpointError: One of them is damaged.
        """
        config = _read_optional(folder / TOKENIZER_CONFIG)
        fields, sources = dict(config), dict.fromkeys(config, TOKENIZER_CONFIG)
        is_older = "added_tokens_decoder" not in config
        if is_older:
            # As transformers: a newer checkpoint does not mean what it still has of these files.
            named = _read_optional(folder / SPECIAL_TOKENS_MAP)
            fields |= named
            sources |= dict.fromkeys(named, SPECIAL_TOKENS_MAP)
        roles = _roles(fields)
        extra = tuple(token for field in _EXTRA for token in _listed(fields.get(field)))
        if is_older:
            special = {token.content for token in (*roles.values(), *extra)}
            added = _added_later(folder / ADDED_TOKENS, special)
        else:
            added = _added_by_config(config["added_tokens_decoder"], folder)
        return cls(config, roles, sources, extra, added)

    @property
    def names(self) -> dict[str, str]:
        """The tokens that have a role, such as ``eos_token``, as text by role."""
        return {role: token.content for role, token in self.roles.items()}

    def add_to(self, tokenizer: Tokenizer) -> None:
        """Add what a vocabulary lacks, and mark as special what is named as such.

        Raises:
            CheckpointError: A token would get another id than the files say, or has none.
        """
        for token_id, token in sorted(self.added.items()):
            self._add(tokenizer, token, token_id)
        for role in ("bos_token", "eos_token"):
            name = self.names.get(role)
            if name is not None and tokenizer.token_to_id(name) is None:
                raise CheckpointError(
                    f"{self.sources[role]} names {name!r} as {role}, but tokenizer.json has no "
                    "such token; the files are not of one checkpoint: download it again"
                )
        tokenizer.add_special_tokens(self._as_known(tokenizer))
        unknown = [each for each in self.extra if tokenizer.token_to_id(each.content) is None]
        tokenizer.add_special_tokens(unknown)

    def _as_known(self, tokenizer: Tokenizer) -> list[AddedToken]:
        """Return the tokens that have a role, marked as special.

        As in transformers, what the list of added tokens says about one counts more than what
        stands beside its role, and the list in ``tokenizer_config.json`` most.
        """
        known = {token.content: token for token in self.roles.values()}
        for listed in (tokenizer.get_added_tokens_decoder(), self.added):
            known |= {t.content: t for t in listed.values() if t.content in known}
        return [_special(content, _fields_of(token)) for content, token in known.items()]

    def _add(self, tokenizer: Tokenizer, token: AddedToken, token_id: int) -> None:
        """Add one token, if it is not there."""
        is_known = tokenizer.token_to_id(token.content) is not None
        if token.special:
            tokenizer.add_special_tokens([token])
        elif not is_known:
            tokenizer.add_tokens([token])
        got = tokenizer.token_to_id(token.content)
        if got != token_id:
            raise CheckpointError(
                f"token {token.content!r} has id {token_id} in the files beside tokenizer.json, "
                f"and {got} there; the files are not of one checkpoint: download it again"
            )


def _roles(fields: dict[str, Any]) -> dict[str, AddedToken]:
    """Return the special tokens that have a role, such as ``eos_token``, by role."""
    named: dict[str, Any] = {}
    for field in _MORE_ROLES:
        named |= fields[field] if isinstance(fields.get(field), Mapping) else {}
    roles = {}
    for role, token in (fields | named).items():
        # Either the token, or all that is known about it. ``add_bos_token`` is neither.
        known = token if isinstance(token, Mapping) else {"content": token}
        content = known.get("content")
        if content and isinstance(content, str) and (role.endswith("_token") or role in named):
            roles[role] = _special(content, known)
    return roles


def _special(content: str, known: Mapping[str, Any]) -> AddedToken:
    """Return a special token with what is known about it."""
    return AddedToken(content, special=True, **_own_fields(known))


def _own_fields(token: Mapping[str, Any]) -> dict[str, bool]:
    return {name: bool(token[name]) for name in _OWN_FIELDS if name in token}


def _fields_of(token: AddedToken) -> dict[str, bool]:
    return {name: getattr(token, name) for name in _OWN_FIELDS}


def _listed(tokens: object) -> list[AddedToken]:
    """Return the tokens of a list; each is the token, or all that is known about it."""
    listed = tokens if isinstance(tokens, list) else []
    known = (token if isinstance(token, Mapping) else {"content": token} for token in listed)
    return [_special(t["content"], t) for t in known if isinstance(t.get("content"), str)]


def _added_later(path: Path, special: set[str]) -> dict[int, AddedToken]:
    """Return what ``added_tokens.json`` says: ids by token."""
    added = {}
    for content, token_id in _read_optional(path).items():
        is_special = content in special
        added[_id(token_id, path)] = AddedToken(
            content, special=is_special, normalized=not is_special
        )
    return added


def _added_by_config(fields: object, folder: Path) -> dict[int, AddedToken]:
    """Return what ``added_tokens_decoder`` says: all that is known about a token, by id."""
    path = folder / TOKENIZER_CONFIG
    if not isinstance(fields, Mapping):
        raise CheckpointError(f"{path}: added_tokens_decoder is no object; download it again")
    added = {}
    for token_id, token in fields.items():
        content = token.get("content") if isinstance(token, Mapping) else None
        if not isinstance(content, str):
            raise CheckpointError(
                f"{path}: added_tokens_decoder says {token!r} of token {token_id}; it must be an "
                "object with its 'content'; download it again"
            )
        special = bool(token.get("special"))
        added[_id(token_id, path)] = AddedToken(content, special=special, **_own_fields(token))
    return added


def _id(token_id: object, path: Path) -> int:
    """Return a token id, from a number or from its digits."""
    if isinstance(token_id, str) and token_id.isdecimal():
        return int(token_id)
    if isinstance(token_id, int) and not isinstance(token_id, bool) and token_id >= 0:
        return token_id
    raise CheckpointError(f"{path} has {token_id!r} for a token id; download it again")


def _read_optional(path: Path) -> dict[str, Any]:
    """Return the JSON object in a file, or an empty one if there is no file."""
    try:
        return read_json_object(path) if path.is_file() else {}
    except ValueError as error:
        raise CheckpointError(str(error)) from error

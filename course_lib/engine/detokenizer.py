"""Tokens to text as they come: what is shown is never taken back."""

from __future__ import annotations

import codecs
import re
from collections.abc import Sequence
from itertools import islice
from typing import Protocol

from course_lib.engine.tokenizer import Tokenizer


class IncrementalDetokenizer:
    """The text of an answer, as its tokens come.

    Invariant: what ``append`` has returned so far, in one piece, is a beginning of the text of all
    tokens; with what ``flush`` returns, it is all of it. The text of a prompt and an answer is what
    ``decode`` makes of the tokens of both, and the answer's part begins where the prompt's last
    whole character ends. So a first token of `` world`` keeps its space after a prompt, and loses
    it, with tokenizers that drop the space before a text, where there is none.

    Each token is looked at a fixed number of times, however long the answer becomes. (What the
    library has for this, ``DecodeStream``, does not end: what it holds back then is lost.)

    Args:
        tokenizer: Where the tokens are from. Special tokens have no text.
        prompt_token_ids: What the answer follows; may be empty.

    >>> from course_lib.engine.tokenizer import checkpoint_folder
    >>> tokenizer = Tokenizer(checkpoint_folder("course-tiny"))
    >>> detokenizer = IncrementalDetokenizer(tokenizer, tokenizer.encode("Price:"))
    >>> euro = tokenizer.encode("€", add_special_tokens=False)
    >>> [detokenizer.append(token_id) for token_id in euro], detokenizer.flush()
    (['', '', '€'], '')
    """

    def __init__(self, tokenizer: Tokenizer, prompt_token_ids: Sequence[int] = ()) -> None:
        self._pieces: _Pieces = (
            _BytePieces(tokenizer) if tokenizer.is_byte_level else _TokenPieces(tokenizer)
        )
        self._pieces.start_after(prompt_token_ids)

    def append(self, token_id: int) -> str:
        """Return the text that is certain now, and was not before. It may be empty.

        It is never a part of a character.
        """
        return self._pieces.append(token_id)

    def flush(self) -> str:
        """Return what is left when no more tokens come: ``U+FFFD`` for pieces of a character."""
        return self._pieces.flush()


class _Pieces(Protocol):
    """A way to make text of tokens one by one."""

    def start_after(self, prompt_token_ids: Sequence[int]) -> None:
        """Take the state that these tokens lead to."""

    def append(self, token_id: int) -> str:
        """Return the text that is certain now, and was not before."""

    def flush(self) -> str:
        """Return what is left."""


class _BytePieces:
    """Text of tokens that are bytes: only an unfinished character is held back, at most 3 bytes."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._tokenizer = tokenizer
        self._utf8 = codecs.getincrementaldecoder("utf-8")("replace")

    def start_after(self, prompt_token_ids: Sequence[int]) -> None:
        # An unfinished character has 3 bytes at most, so the last tokens with a byte each decide.
        spellings = map(self._tokenizer.token, reversed(prompt_token_ids))
        last = list(islice((s for s in spellings if s is not None), 4))
        for spelling in reversed(last):
            self._utf8.decode(_bytes_of(spelling))

    def append(self, token_id: int) -> str:
        spelling = self._tokenizer.token(token_id)
        return "" if spelling is None else self._utf8.decode(_bytes_of(spelling))

    def flush(self) -> str:
        rest = self._utf8.decode(b"", final=True)
        self._utf8.reset()
        return rest


class _TokenPieces:
    """Text of tokens that are characters, where a token's text depends on the token before it.

    Usually on whether there is one: a space at the beginning of a text is dropped. Characters that
    are not in the vocabulary are spelled as bytes, ``<0xE2>`` and so on, and a row of these becomes
    characters, or not, as a whole (``ByteFallback``). So the row is held back until it ends.
    """

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._tokenizer = tokenizer
        # The last token whose text was returned, and its text when it stands alone.
        self._before: list[int] = []
        self._text_before = ""
        self._held: list[int] = []

    def start_after(self, prompt_token_ids: Sequence[int]) -> None:
        row: list[int] = []
        for token_id in reversed(prompt_token_ids):
            spelling = self._tokenizer.token(token_id)
            if spelling is None:
                continue
            if not _BYTE.fullmatch(spelling):
                self._move_on(token_id)
                break
            row.append(token_id)
        row.reverse()
        # A row that is whole belongs to the prompt; one that is not, the answer may complete.
        self._held = [] if self._is_whole(row) else row

    def append(self, token_id: int) -> str:
        spelling = self._tokenizer.token(token_id)
        if spelling is None:
            return ""
        self._held.append(token_id)
        if _BYTE.fullmatch(spelling):
            return ""
        piece = self._text_of_held()
        self._move_on(token_id)
        return piece

    def flush(self) -> str:
        piece = self._text_of_held()
        self._held = []
        return piece

    def _is_whole(self, row: Sequence[int]) -> bool:
        """Whether a row of bytes is characters."""
        spellings = map(self._tokenizer.token, row)
        try:
            bytes(int(spelling[3:5], base=16) for spelling in spellings if spelling).decode()
        except UnicodeDecodeError:
            return False
        return True

    def _text_of_held(self) -> str:
        """Return what the tokens that are held back add to the text before them."""
        text = self._tokenizer.decode([*self._before, *self._held])
        return text.removeprefix(self._text_before)

    def _move_on(self, token_id: int) -> None:
        """Let what comes follow this token."""
        self._before = [token_id]
        self._text_before = self._tokenizer.decode(self._before)
        self._held = []


def _printable_bytes() -> dict[str, int]:
    """Return the byte that each character stands for in a byte-level vocabulary.

    A vocabulary is a list of printable strings (Radford et al., 2019). Printable bytes of Latin-1
    stand for themselves; the others, in order, are the characters from U+0100 on.
    """
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = sorted(set(range(256)) - set(printable))
    characters = {chr(byte): byte for byte in printable}
    return characters | {chr(0x100 + i): byte for i, byte in enumerate(others)}


_BYTE_OF = _printable_bytes()
_BYTE = re.compile(r"<0x[0-9A-Fa-f]{2}>")


def _bytes_of(spelling: str) -> bytes:
    """Return the bytes of a token of a byte-level vocabulary.

    >>> _bytes_of("Ġa"), _bytes_of("<|my end|>")  # the second has been added as it is: no Ġ
    (b' a', b'<|my end|>')
    """
    try:
        return bytes([_BYTE_OF[character] for character in spelling])
    except KeyError:
        return spelling.encode()

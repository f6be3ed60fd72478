"""Tokens to text as they come: what is shown is never taken back."""

from __future__ import annotations

import codecs
from collections.abc import Iterable, Sequence
from itertools import islice
from typing import Protocol

from course_lib.engine.token_bytes import byte_level_bytes, fallback_byte
from course_lib.engine.tokenizer import Tokenizer


class IncrementalDetokenizer:
    """The text of an answer, as its tokens come.

    Invariant: what ``append`` has returned so far, in one piece, is a beginning of the text of all
    tokens; with what ``flush`` returns, it is all of it. The text of a prompt and an answer is what
    ``decode`` makes of the tokens of both, and the answer's part begins where the prompt's last
    whole character ends. So a first token of `` world`` keeps its space after a prompt, and loses
    it, with tokenizers that drop the space before a text, where there is none.

    A character comes with its last byte. There is one text that ``decode`` makes otherwise: with
    byte fallback, bytes that are no characters spoil those in front of them in the same row. What
    was whole when it came stays here, and ``U+FFFD`` stands for each byte from the bad one on.

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
        self._pieces = _pieces_for(tokenizer)
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
            self._utf8.decode(byte_level_bytes(spelling))

    def append(self, token_id: int) -> str:
        spelling = self._tokenizer.token(token_id)
        return "" if spelling is None else self._utf8.decode(byte_level_bytes(spelling))

    def flush(self) -> str:
        rest = self._utf8.decode(b"", final=True)
        self._utf8.reset()
        return rest


class _TokenPieces:
    """Text of tokens that are characters, where a token's text depends on the token before it.

    Usually on whether there is one: a space at the beginning of a text is dropped.
    """

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._tokenizer = tokenizer
        # The last tokens whose text was returned, and their text when they stand alone.
        self._before: list[int] = []
        self._text_before = ""
        self._held: list[int] = []

    def start_after(self, prompt_token_ids: Sequence[int]) -> None:
        for token_id in self._last_of(self._spelled(prompt_token_ids)):
            self.append(token_id)

    def append(self, token_id: int) -> str:
        spelling = self._tokenizer.token(token_id)
        if spelling is None:
            return ""
        self._held.append(token_id)
        return "" if self._has_more_to_come(spelling) else self._release()

    def flush(self) -> str:
        return self._release() if self._held else ""

    def _has_more_to_come(self, spelling: str) -> bool:
        """Take note of a token, and say whether it is a part of a character so far."""
        return False

    def _last_of(self, backwards: Iterable[int]) -> list[int]:
        """Return those at the end of the tokens of a text on which the text behind depends.

        Args:
            backwards: The tokens that have text, the last one first.
        """
        return list(islice(backwards, 1))

    def _spelled(self, token_ids: Sequence[int]) -> Iterable[int]:
        """Yield the tokens that have text, the last one first."""
        return (i for i in reversed(token_ids) if self._tokenizer.token(i) is not None)

    def _release(self) -> str:
        """Return what the tokens that are held back add to the text before them."""
        decode = self._tokenizer.decode
        text = decode([*self._before, *self._held])
        alone = decode(self._held)
        is_behind = text.startswith(self._text_before)
        piece = text.removeprefix(self._text_before) if is_behind else alone
        self._before, self._text_before, self._held = self._held, alone, []
        return piece


class _MixedPieces(_TokenPieces):
    """Text of tokens that are bytes, of which the decoder then makes something else.

    What it makes of a text with a part of a character is not looked at.
    """

    def __init__(self, tokenizer: Tokenizer) -> None:
        super().__init__(tokenizer)
        self._utf8 = codecs.getincrementaldecoder("utf-8")("replace")

    def start_after(self, prompt_token_ids: Sequence[int]) -> None:
        super().start_after(prompt_token_ids)
        if self._held:
            # A token may be whole characters and a part: the prompt has the former already.
            self._before += self._held
            self._text_before = self._tokenizer.decode(self._before).removesuffix("\ufffd")
            self._held = []

    def _has_more_to_come(self, spelling: str) -> bool:
        self._utf8.decode(byte_level_bytes(spelling))
        return bool(self._utf8.getstate()[0])

    def _last_of(self, backwards: Iterable[int]) -> list[int]:
        return list(islice(backwards, _MOST_TOKENS))[::-1]


class _FallbackPieces(_TokenPieces):
    """Text of tokens that are characters, or single bytes of those that have no token.

    Bytes in a row become characters as a whole, or not at all: ``decode`` makes ``U+FFFD`` of each
    byte of a row in which one is wrong.
    """

    def __init__(self, tokenizer: Tokenizer) -> None:
        super().__init__(tokenizer)
        self._utf8 = codecs.getincrementaldecoder("utf-8")("strict")
        self._is_bad_row = False

    def _has_more_to_come(self, spelling: str) -> bool:
        byte = fallback_byte(spelling)
        if byte is None:
            self._end_row()
            self._is_bad_row = False
            return False
        if not self._is_bad_row:
            try:
                self._utf8.decode(byte)
            except UnicodeDecodeError:
                self._utf8.reset()
                self._is_bad_row = True
                # Of what is held back, the first byte is no character by itself.
                self._before, self._text_before = self._held[:1], "\ufffd"
        return not self._is_bad_row and bool(self._utf8.getstate()[0])

    def flush(self) -> str:
        self._end_row()
        return super().flush()

    def _end_row(self) -> None:
        """Let bytes that are held back be no character, and what is in front of them stay.

        With what is in front of them ``decode`` would spoil the whole row. Whether it did is not
        seen by the text of that: of a space it is empty where the first space is dropped.
        """
        if self._utf8.getstate()[0]:
            self._before, self._text_before = [], ""
        self._utf8.reset()

    def _release(self) -> str:
        if not self._is_bad_row:
            return super()._release()
        piece = "\ufffd" * len(self._held)
        self._held = []
        return piece

    def _last_of(self, backwards: Iterable[int]) -> list[int]:
        last: list[int] = []
        for token_id in backwards:
            last.append(token_id)
            if fallback_byte(self._tokenizer.token(token_id) or "") is None:
                break
        return last[::-1]


_MOST_TOKENS = 4
"""Tokens of bytes at the end of a text of which one begins a character, or is whole."""


def _pieces_for(tokenizer: Tokenizer) -> _Pieces:
    """Return the way that suits a tokenizer's decoder."""
    if tokenizer.is_byte_level:
        return _BytePieces(tokenizer)
    if "ByteLevel" in tokenizer.decoder_kinds:
        return _MixedPieces(tokenizer)
    if "ByteFallback" in tokenizer.decoder_kinds:
        return _FallbackPieces(tokenizer)
    return _TokenPieces(tokenizer)

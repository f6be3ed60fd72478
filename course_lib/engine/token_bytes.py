"""How vocabularies spell bytes: tokens that are parts of characters.

There are two ways. A byte-level vocabulary has a printable character for each byte, and every token
is some of these. A vocabulary with byte fallback is made of characters, and has a token ``<0xE2>``
for each byte, for what it has no other token for.
"""

from __future__ import annotations

import json
import re

from tokenizers.decoders import Decoder


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


def byte_level_bytes(spelling: str) -> bytes:
    """Return the bytes of a token of a byte-level vocabulary.

    >>> byte_level_bytes("Ġa"), byte_level_bytes("<|my end|>")  # added as it is: no Ġ
    (b' a', b'<|my end|>')
    """
    try:
        return bytes([_BYTE_OF[character] for character in spelling])
    except KeyError:
        return spelling.encode()


def fallback_byte(spelling: str) -> bytes | None:
    r"""Return the byte of a token of a vocabulary with byte fallback; None if it is characters.

    >>> fallback_byte("<0x0A>"), fallback_byte("▁a")
    (b'\n', None)
    """
    return bytes([int(spelling[3:5], base=16)]) if _BYTE.fullmatch(spelling) else None


def decoder_kinds(decoder: Decoder | None) -> tuple[str, ...]:
    """Return what a decoder is made of: the types of its steps, in order, also of nested ones.

    >>> from tokenizers import decoders
    >>> decoder_kinds(decoders.Sequence([decoders.ByteFallback(), decoders.Fuse()]))
    ('ByteFallback', 'Fuse')
    """
    if decoder is None:
        return ()
    kinds: list[str] = []
    steps = [json.loads(decoder.__getstate__())]
    while steps:
        step = steps.pop(0)
        if step["type"] == "Sequence":
            steps = [*step["decoders"], *steps]
        else:
            kinds.append(step["type"])
    return tuple(kinds)

"""Lesson 8: known wrong ways to hash the blocks of a prompt."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import accumulate

from autograder.checks.finding import Misconception
from course_lib.kv_cache.prefix import hash_block, root_hash
from course_lib.kv_cache.sizing import require_block_size

Hashes = list[bytes]


def _full_blocks(token_ids: Sequence[int], block_size: int) -> list[list[int]]:
    """Return the tokens of each full block."""
    ends = range(block_size, len(token_ids) + 1, block_size)
    return [list(token_ids[end - block_size : end]) for end in ends]


def _all_blocks(token_ids: Sequence[int], block_size: int) -> list[list[int]]:
    """Return the tokens of each block, the last one full or not."""
    starts = range(0, len(token_ids), block_size)
    return [list(token_ids[start : start + block_size]) for start in starts]


def _low_bytes(token_ids: Sequence[int], block_size: int) -> list[list[int]]:
    """Return the low bytes of the tokens of each full block."""
    return _full_blocks([token & 0xFF for token in token_ids], block_size)


def _in_front(cache_salt: str | None, parent_hash: bytes | None) -> bytes:
    """Return what stands in front of the first block."""
    return root_hash(cache_salt) if parent_hash is None else parent_hash


def _chained(blocks: list[list[int]], parent: bytes) -> Hashes:
    """Return the hash of each block behind the one before it."""
    return list(accumulate(blocks, hash_block, initial=parent))[1:]


def _behind_the_root(blocks: list[list[int]], parent: bytes) -> Hashes:
    """Return the hash of each block as if it were the first."""
    return [hash_block(parent, tokens) for tokens in blocks]


def _up_to_here(blocks: list[list[int]], parent: bytes) -> Hashes:
    """Return a hash of all tokens up to the end of each block."""
    return [hash_block(parent, so_far) for so_far in accumulate(blocks)]


def _chained_up_to_here(blocks: list[list[int]], parent: bytes) -> Hashes:
    """Return a hash of the hash in front and all tokens up to the end of each block."""
    return _chained(list(accumulate(blocks)), parent)


def _but_the_last(token_ids: Sequence[int], block_size: int) -> list[list[int]]:
    """Return the tokens of each full block that does not end with the last token."""
    return _full_blocks(token_ids[:-1], block_size)


def hashing(
    cut: Callable[[Sequence[int], int], list[list[int]]] = _full_blocks,
    in_front: Callable[[str | None, bytes | None], bytes] = _in_front,
    hash_all: Callable[[list[list[int]], bytes], Hashes] = _chained,
) -> Callable[..., Hashes]:
    """Return a way to hash a prompt: how it is cut, what stands in front, how blocks are hashed."""

    def hash_blocks(
        token_ids: Sequence[int],
        block_size: int,
        cache_salt: str | None = None,
        parent_hash: bytes | None = None,
    ) -> Hashes:
        require_block_size(block_size)
        return hash_all(cut(token_ids, block_size), in_front(cache_salt, parent_hash))

    return hash_blocks


HASH = (
    Misconception(
        "not chained",
        "The keys and values in a block depend on all tokens in front of it, so the same tokens "
        "behind another beginning are another block.",
        hashing(hash_all=_behind_the_root),
        hint="Which hashes of [1, 2, 3, 4] and [7, 8, 3, 4] may be the same, in blocks of 2?",
    ),
    Misconception(
        "all tokens anew",
        "The hash of all tokens from the first is as safe, but it hashes the beginning again for "
        "each block: the work grows with the square of the prompt. The hash in front stands for "
        "it.",
        hashing(hash_all=_up_to_here),
    ),
    Misconception(
        "all tokens, and the hash in front",
        "The hash in front stands for all tokens in front: of the tokens, only those of the block "
        "itself are new.",
        hashing(hash_all=_chained_up_to_here),
        hint="Which tokens does the hash in front cover already?",
    ),
    Misconception(
        "the last full block left out",
        "That the last known token is never found is the rule of the lookup. Here each full block "
        "gets its hash, also where the tokens end with it.",
        hashing(_but_the_last),
    ),
    Misconception(
        "a block that is not full",
        "A block can be found by its hash only once all its tokens are known; the last one is "
        "hashed when it is full.",
        hashing(_all_blocks),
    ),
    Misconception(
        "the salt overlooked",
        "Without the salt in the first hash, two tenants with the same prompt share blocks, and "
        "each can tell by the time of an answer what the other has asked.",
        hashing(in_front=lambda salt, parent: _in_front(None, parent)),
    ),
    Misconception(
        "an empty salt is no salt",
        'A salt of "" is a salt, and None is none: `or` takes both for nothing.',
        hashing(in_front=lambda salt, parent: _in_front(salt or None, parent)),
    ),
    Misconception(
        "no salt is an empty salt",
        'A request without a salt, None, and one with the salt "" are of different tenants: their '
        "first hashes differ.",
        hashing(in_front=lambda salt, parent: _in_front(salt or "", parent)),
    ),
    Misconception(
        "the low byte of a token",
        "Vocabularies have more than 256 tokens: 65 and 321 have the same low byte, and would "
        "share a block.",
        hashing(_low_bytes),
    ),
    Misconception(
        "the parent overlooked",
        "If a hash in front of the tokens is given, the first of these blocks is chained to it, "
        "and not to the root.",
        hashing(in_front=lambda salt, parent: root_hash(salt)),
    ),
)

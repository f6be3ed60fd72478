"""Lesson 8: a test of prefix lookup. Lookups that are right, others that are not, poor tests."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from itertools import takewhile

from autograder.checks.finding import Misconception
from autograder.proxy.recipes import Callback
from course_lib.kv_cache.prefix import longest_cached_prefix

Hashes = Sequence[bytes]
Cached = Mapping[bytes, int]
Lookup = Callable[[Hashes, Cached, int, int], list[int]]

# Right ones


def in_a_loop(hashes: Hashes, cached: Cached, num_tokens: int, block_size: int) -> list[int]:
    """Look as long as a token is left behind the block."""
    found: list[int] = []
    while (len(found) + 1) * block_size < num_tokens and len(found) < len(hashes):
        if hashes[len(found)] not in cached:
            break
        found.append(cached[hashes[len(found)]])
    return found


def by_takewhile(hashes: Hashes, cached: Cached, num_tokens: int, block_size: int) -> list[int]:
    """Take what is there from a cut list."""
    usable = list(hashes)[: max(0, num_tokens - 1) // block_size]
    return [cached[each] for each in takewhile(lambda each: each in cached, usable)]


def drops_the_last(hashes: Hashes, cached: Cached, num_tokens: int, block_size: int) -> list[int]:
    """Find all there is, and drop what covers the last token."""
    found: list[int] = []
    for each in hashes:
        if each not in cached:
            break
        found.append(cached[each])
    while len(found) * block_size >= num_tokens and found:
        found.pop()
    return found


def recursive(hashes: Hashes, cached: Cached, num_tokens: int, block_size: int) -> list[int]:
    """Find one block, and the rest of the prompt in the same way."""
    if num_tokens <= block_size or not hashes or hashes[0] not in cached:
        return []
    rest = recursive(hashes[1:], cached, num_tokens - block_size, block_size)
    return [cached[hashes[0]], *rest]


# Wrong ones


def _usable(hashes: Hashes, num_tokens: int, block_size: int) -> Hashes:
    return hashes[: max(num_tokens - 1, 0) // block_size]


def behind_a_hole(hashes: Hashes, cached: Cached, num_tokens: int, block_size: int) -> list[int]:
    """Return every cached block, whatever is missing in front of it."""
    return [cached[each] for each in _usable(hashes, num_tokens, block_size) if each in cached]


def the_last_token_too(
    hashes: Hashes, cached: Cached, num_tokens: int, block_size: int
) -> list[int]:
    """Let a hit cover the last known token."""
    return longest_cached_prefix(hashes, cached, num_tokens + 1, block_size)


def one_block_less(hashes: Hashes, cached: Cached, num_tokens: int, block_size: int) -> list[int]:
    """Always leave a whole block to compute."""
    return longest_cached_prefix(hashes, cached, num_tokens - block_size, block_size)


def without_the_last_hash(
    hashes: Hashes, cached: Cached, num_tokens: int, block_size: int
) -> list[int]:
    """Leave out the last hash even where tokens stand behind its block."""
    return longest_cached_prefix(hashes[:-1], cached, num_tokens, block_size)


def from_the_first_that_is_there(
    hashes: Hashes, cached: Cached, num_tokens: int, block_size: int
) -> list[int]:
    """Pass over what is missing at the front."""
    usable = list(_usable(hashes, num_tokens, block_size))
    while usable and usable[0] not in cached:
        usable.pop(0)
    return [cached[each] for each in takewhile(lambda each: each in cached, usable)]


def by_bisection(hashes: Hashes, cached: Cached, num_tokens: int, block_size: int) -> list[int]:
    """Look for the first miss by halves, as if there were no holes."""
    usable = _usable(hashes, num_tokens, block_size)
    low, high = 0, len(usable)
    while low < high:
        middle = (low + high) // 2
        low, high = (middle + 1, high) if usable[middle] in cached else (low, middle)
    return [cached[each] for each in usable[:low] if each in cached]


def all_or_nothing(hashes: Hashes, cached: Cached, num_tokens: int, block_size: int) -> list[int]:
    """Find a prompt only if all of it is there."""
    usable = _usable(hashes, num_tokens, block_size)
    return [cached[each] for each in usable] if all(each in cached for each in usable) else []


def always_sixteen(hashes: Hashes, cached: Cached, num_tokens: int, block_size: int) -> list[int]:
    """Take every block for one of 16 tokens."""
    return longest_cached_prefix(hashes, cached, num_tokens, 16)


def in_reverse(hashes: Hashes, cached: Cached, num_tokens: int, block_size: int) -> list[int]:
    """Return the last block first."""
    return longest_cached_prefix(hashes, cached, num_tokens, block_size)[::-1]


FAULTY = {
    "behind a hole": Callback(behind_a_hole),
    "the last token too": Callback(the_last_token_too),
    "one block less": Callback(one_block_less),
    "without the last hash": Callback(without_the_last_hash),
    "all or nothing": Callback(all_or_nothing),
    "from the first that is there": Callback(from_the_first_that_is_there),
    "in reverse": Callback(in_reverse),
    "always 16": Callback(always_sixteen),
    "by bisection": Callback(by_bisection),
}

VALID = {
    "the library's": Callback(longest_cached_prefix),
    "in a loop": Callback(in_a_loop),
    "by takewhile": Callback(by_takewhile),
    "the last one dropped": Callback(drops_the_last),
    "recursive": Callback(recursive),
}


_SHOWN: tuple[tuple[list[bytes], int, int], ...] = (
    ([b"a"], 17, 16),
    ([b"a"], 16, 16),
    ([b"a", b"b"], 33, 16),
    ([b"a", b"c"], 33, 16),
    ([b"a", b"c", b"b"], 49, 16),
    ([b"c", b"a"], 33, 16),
    ([b"a", b"b"], 5, 2),
)
"""Prompts of which one shows what a lookup is: hashes, tokens, block size."""


def shown(lookup: Lookup) -> str:
    """Show a lookup by what it finds of a prompt on which it is wrong; if of none, of three."""
    cached = {b"a": 3, b"b": 7}
    found = [(case, lookup(case[0], cached, *case[1:])) for case in _SHOWN]
    right = [longest_cached_prefix(case[0], cached, *case[1:]) for case in _SHOWN]
    telling = [each for each, ids in zip(found, right, strict=True) if list(each[1]) != ids][:1]
    listed = ", and ".join(
        f"{list(ids)} of {num_tokens} tokens in blocks of {block_size} with the hashes "
        + " ".join(each.decode() for each in hashes)
        for (hashes, num_tokens, block_size), ids in telling or found[1:4]
    )
    return f"a lookup that finds, where a: 3 and b: 7 are cached, {listed}"


# Tests, good and poor

Case = tuple[Hashes, Cached, int, int]

_CACHED = {b"a": 3, b"b": 7, b"d": 5}


def _wrong_on(lookup: Lookup, cases: Sequence[Case]) -> list[str]:
    found = [(case, lookup(*case), longest_cached_prefix(*case)) for case in cases]
    return [f"{case}: {got}" for case, got, right in found if list(got) != right]


def complaints(lookup: Lookup) -> list[str]:
    """Return one text for each case on which a lookup is wrong."""
    return _wrong_on(
        lookup,
        (
            ([b"a", b"b"], _CACHED, 33, 16),
            ([b"a", b"b"], _CACHED, 32, 16),
            ([b"a", b"c", b"b", b"d"], _CACHED, 65, 16),
            ([b"c", b"a", b"b"], _CACHED, 49, 16),
            ([b"a", b"b", b"d"], _CACHED, 7, 2),
        ),
    )


def only_what_is_cached(lookup: Lookup) -> list[str]:
    """Try no prompt with a hole, and one block size."""
    return _wrong_on(lookup, (([b"a", b"b"], _CACHED, 33, 16), ([b"a", b"b"], _CACHED, 32, 16)))


def no_full_prompt(lookup: Lookup) -> list[str]:
    """Try no prompt that ends with a full block."""
    return _wrong_on(
        lookup,
        (
            ([b"a", b"b"], _CACHED, 33, 16),
            ([b"a", b"c", b"b", b"d"], _CACHED, 65, 16),
            ([b"c", b"a", b"b"], _CACHED, 49, 16),
            ([b"a", b"b", b"d"], _CACHED, 7, 2),
        ),
    )


def a_hole_at_the_end(lookup: Lookup) -> list[str]:
    """Try a hole only where nothing is cached behind it."""
    return _wrong_on(
        lookup,
        (
            ([b"a", b"b"], _CACHED, 33, 16),
            ([b"a", b"b"], _CACHED, 32, 16),
            ([b"a", b"b", b"c"], _CACHED, 49, 16),
            ([b"a", b"b", b"d"], _CACHED, 7, 2),
        ),
    )


def the_whole_prompt_expected(lookup: Lookup) -> list[str]:
    """Expect that a prompt can be found with its last token."""
    found = lookup([b"a", b"b"], _CACHED, 32, 16)
    return [] if list(found) == [3, 7] else [f"32 tokens: {found}"]


def how_many(lookup: Lookup) -> list[str]:
    """Count the blocks that are found, and do not look which they are."""
    cases: tuple[Case, ...] = (
        ([b"a", b"b"], _CACHED, 33, 16),
        ([b"a", b"b"], _CACHED, 32, 16),
        ([b"a", b"c", b"b", b"d"], _CACHED, 65, 16),
        ([b"c", b"a", b"b"], _CACHED, 49, 16),
        ([b"a", b"b", b"d"], _CACHED, 7, 2),
    )
    found = [(case, len(lookup(*case)), len(longest_cached_prefix(*case))) for case in cases]
    return [f"{case}: {got} blocks" for case, got, right in found if got != right]


POOR_TESTS = (
    Misconception(
        "only what is cached",
        "Where every block is there, no lookup can stumble over one that is not: test prompts with "
        "a hole, too.",
        only_what_is_cached,
    ),
    Misconception(
        "no prompt that ends with a block",
        "Whether the last token is left out shows where a prompt has whole blocks and nothing "
        "behind them.",
        no_full_prompt,
    ),
    Misconception(
        "nothing behind the hole",
        "Where all blocks behind the hole are missing as well, there is nothing to count wrongly: "
        "put one that is cached behind it, and try a hole at the first block.",
        a_hole_at_the_end,
    ),
    Misconception(
        "the whole prompt expected",
        "Of 32 tokens in blocks of 16, one block can be found: the last token must be computed. "
        "This test rejects lookups that are right.",
        the_whole_prompt_expected,
    ),
    Misconception(
        "how many and not which",
        "Two lookups may find as many blocks and not the same, or not in the same order: compare "
        "the lists.",
        how_many,
    ),
)

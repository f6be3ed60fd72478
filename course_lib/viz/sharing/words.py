"""What lesson 8's tree says of one more prompt: how far it comes, why no further, what is wrong."""

from __future__ import annotations

from collections.abc import Iterable

from course_lib.viz.sharing.prompts import (
    BLOCK_SIZE,
    Lookup,
    block_of,
    num_equal_blocks,
    right_hits,
)


def counted(number: int, noun: str) -> str:
    """Return a number with its noun.

    >>> counted(1, "block"), counted(0, "block")
    ('1 block', '0 blocks')
    """
    return f"{number:,} {noun}{'s' * (number != 1)}"


def listed(items: Iterable[object]) -> str:
    """Return things in a sentence.

    >>> listed([1, 2, 3]), listed([4])
    ('1, 2 and 3', '4')
    """
    *front, last = map(str, items)
    return f"{', '.join(front)} and {last}" if front else last


def headline(found: Lookup) -> str:
    """Say how many tokens are shared, and how many are computed."""
    name, total = found.further.request_id, found.further.num_tokens
    if not found.num_hits:
        return f"{name} shares nothing: all {total} of its tokens are computed"
    rest = total - found.num_shared_tokens
    shared = f"{name} follows the chain for {counted(found.num_hits, 'block')}"
    return f"{shared}: {found.num_shared_tokens} tokens are shared, {rest} computed"


def reasons(found: Lookup) -> list[str]:
    """Say why the prompt comes no further, and what else is to be seen."""
    said = [_end_of_hits(found)]
    claimed = [
        each
        for each in found.blocks[: found.num_hits]
        if not found.before["blocks"][each]["ref_cnt"]
    ]
    if claimed:
        is_one = len(claimed) == 1
        noun, verb = ("block", "was") if is_one else ("blocks", "were")
        own = "its prefix" if is_one else "their prefixes"
        said.append(
            f"Since {found.ended} ended, nobody held {noun} {listed(claimed)}, which {verb} still "
            f"in the free queue with {own}."
        )
    return said


def _end_of_hits(found: Lookup) -> str:
    """Say why the block behind the last one found is computed."""
    name, tokens = found.further.request_id, found.further.all_token_ids
    equal = num_equal_blocks(found.prompts, found.further)
    number = found.num_hits
    nth = f"{_ordinal(number + 1)} block"
    if found.further.cache_salt is not None and equal:
        return (
            f"The salt {found.further.cache_salt!r} stands in front of the first block, so every "
            f"hash is another one, though {name}'s first {counted(equal * BLOCK_SIZE, 'token')} "
            "are those of others. No tenant finds out what another one has asked."
        )
    here = block_of(tokens, number)
    if len(here) < BLOCK_SIZE:
        return (
            f"{name}'s {nth} has {counted(len(here), 'token')}, and a block that is not full has "
            "no hash: it is not looked up."
        )
    if number < equal and len(tokens) == (number + 1) * BLOCK_SIZE:
        return _the_last_token(found)
    alike = _equal_block_elsewhere(found, number)
    if alike:
        return (
            f"{name}'s {nth} holds the same tokens as block {alike}, but its hash is another: it "
            "depends on all tokens in front of it, and so does the KV."
        )
    later = next(
        (
            n
            for n in range(number + 1, len(tokens) // BLOCK_SIZE)
            if _equal_block_elsewhere(found, n)
        ),
        None,
    )
    front = f"behind {name}'s first {number * BLOCK_SIZE}" if number else "in front"
    said = f"No prompt has the tokens {' '.join(map(str, here))} {front}: a miss."
    if later is not None:
        other = _equal_block_elsewhere(found, later)
        said += (
            f" Its {_ordinal(later + 1)} block has the tokens of block {other} again, but another "
            "hash: a hash depends on all tokens in front of it, and so does the KV."
        )
    return said


def _the_last_token(found: Lookup) -> str:
    """Say why the last block of a prompt that is in the cache as a whole is computed again."""
    name, tokens, number = found.further.request_id, found.further.all_token_ids, found.num_hits
    twin = _equal_block_elsewhere(found, number)
    said = (
        f"All {len(tokens)} tokens are cached, but the last one must be computed: its output "
        f"decides the next token. A hit is whole blocks, so all {BLOCK_SIZE} tokens of {name}'s "
        "last block are computed again."
    )
    if twin and twin != found.blocks[number]:
        said += (
            f" Blocks {twin} and {found.blocks[number]} then hold the same, with one hash; no "
            "table that is in use is changed for that."
        )
    return said


def _equal_block_elsewhere(found: Lookup, number: int) -> int:
    """Return a block of others, as far in as this one, with the same tokens; 0 if there is none."""
    here = block_of(found.further.all_token_ids, number)
    for name, prompt in found.prompts.items():
        chain = found.chains[name]
        if number < len(chain) and block_of(prompt, number) == here and len(here) == BLOCK_SIZE:
            return chain[number]
    return 0


def complaints(found: Lookup) -> list[str]:
    """Say what a faulty manager did wrong; nothing of a right one."""
    name, tokens = found.further.request_id, found.further.all_token_ids
    said = []
    for number, block_id in enumerate(found.blocks[: found.num_hits]):
        theirs = next(
            (
                list(prompt[: (number + 1) * BLOCK_SIZE])
                for other, prompt in found.prompts.items()
                if block_id in found.chains[other]
            ),
            [],
        )
        if theirs != tokens[: (number + 1) * BLOCK_SIZE]:
            said.append(
                f"Wrong: block {block_id} was computed behind {' '.join(map(str, theirs))}, and "
                f"{name} does not begin with that. It would go on from somebody else's past."
            )
            break
    if found.num_hits and found.further.cache_salt is not None:
        said.append(f"Wrong: {name} has a salt of its own, and shares blocks of others.")
    right = right_hits(found.prompts, found.further)
    if found.num_hits < right:
        said.append(
            f"Wrong: {counted(right, 'block')} of {name} could be shared, and "
            f"{found.num_hits} {'is' if found.num_hits == 1 else 'are'}."
        )
    if not said and found.num_hits > right:
        said.append(f"Wrong: {counted(right, 'block')} of {name} can be shared, not more.")
    return said


def _ordinal(number: int) -> str:
    """Return which one it is.

    >>> _ordinal(2)
    'second'
    """
    names = ("first", "second", "third", "fourth", "fifth", "sixth")
    return names[number - 1] if number <= len(names) else f"{number}th"

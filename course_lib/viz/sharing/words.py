"""What lesson 8's tree says of one more prompt: how far it comes, why no further, what is wrong."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from course_lib.viz.kit.words import counted
from course_lib.viz.sharing.prompts import (
    BLOCK_SIZE,
    Lookup,
    block_of,
    num_equal_blocks,
    right_hits,
)


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
    is_computed = found.num_shared_tokens < found.further.num_tokens
    said = [_end_of_hits(found)] if is_computed else []
    claimed = [
        each
        for each in found.blocks[: found.num_hits]
        if not found.before["blocks"][each]["ref_cnt"]
    ]
    if claimed and found.ended:
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
    name, tokens, number = found.further.request_id, found.further.all_token_ids, found.num_hits
    here = block_of(tokens, number)
    nth = f"{name}'s {_ordinal(number + 1)} block"
    if _is_kept_apart(found):
        equal = num_equal_blocks(found.prompts, found.further) * BLOCK_SIZE
        return (
            f"The salt {found.further.cache_salt!r} stands in front of the first block, so every "
            f"hash is another one, though {name}'s first {equal} tokens are those of others. No "
            "tenant finds out what another one has asked."
        )
    if len(here) < BLOCK_SIZE:
        return (
            f"{nth} has {counted(len(here), 'token')}, and a block that is not full has no hash: "
            "it is not looked up."
        )
    twin = _twin(found, number)
    if twin and len(tokens) == (number + 1) * BLOCK_SIZE:
        return _the_last_token(found, twin)
    if twin:
        return f"{nth} was not found, though block {twin} holds just these tokens behind these."
    these = " ".join(map(str, here))
    if number:
        said = f"No prompt goes on like {name} with the tokens {these}: a miss."
    else:
        said = f"No prompt begins with the tokens {these}: a miss."
    return f"{said} {_other_past(found)}".strip()


def _is_kept_apart(found: Lookup) -> bool:
    """Say whether it is the salt that gives the first block another hash."""
    twin = _twin(found, 0)
    is_salted = found.further.cache_salt is not None
    return is_salted and bool(twin) and found.hash_of(twin) != found.hash_of(found.blocks[0])


def _the_last_token(found: Lookup, twin: int) -> str:
    """Say why the last block of a prompt that is in the cache as a whole is computed again."""
    name, tokens = found.further.request_id, found.further.all_token_ids
    own = found.blocks[found.num_hits]
    said = (
        f"All {len(tokens)} tokens are cached, but the last one must be computed: its output "
        f"decides the next token. A hit is whole blocks, so all {BLOCK_SIZE} tokens of {name}'s "
        "last block are computed again."
    )
    if found.hash_of(twin) == found.hash_of(own) != "":
        said += (
            f" Blocks {twin} and {own} then hold the same, with one hash; no table that is in use "
            "is changed for that."
        )
    return said


def _other_past(found: Lookup) -> str:
    """Say of a computed block with tokens that others have too why it is not theirs."""
    tokens = found.further.all_token_ids
    for number in range(found.num_hits, len(tokens) // BLOCK_SIZE):
        other = _alike(found, number)
        if not other:
            continue
        said = f"The {_ordinal(number + 1)} block of {found.further.request_id} has the tokens of"
        if found.hash_of(other) == found.hash_of(found.blocks[number]):
            return f"{said} block {other}, and its hash, though not what stands in front of them."
        return (
            f"{said} block {other}, but another hash: a hash depends on all tokens in front of "
            "it, and so does the KV."
        )
    return ""


def _twin(found: Lookup, number: int) -> int:
    """Return a block of others that holds this one's tokens behind the same; 0 if none does."""
    end = (number + 1) * BLOCK_SIZE
    tokens = found.further.all_token_ids[:end]
    for name, prompt in found.prompts.items():
        if number < len(found.chains[name]) and list(prompt[:end]) == tokens and len(tokens) == end:
            return found.chains[name][number]
    return 0


def _alike(found: Lookup, number: int) -> int:
    """Return a block of others that holds this one's tokens behind anything; 0 if none does."""
    here = block_of(found.further.all_token_ids, number)
    for name, prompt in found.prompts.items():
        for place, block_id in enumerate(found.chains[name]):
            if block_of(prompt, place) == here:
                return block_id
    return 0


def complaints(found: Lookup) -> list[str]:
    """Say what a faulty manager did wrong; nothing of a right one."""
    name = found.further.request_id
    wrong_hits = (_wrong_hit(found, number) for number in range(found.num_hits))
    said = [next(filter(None, wrong_hits), "")]
    if found.num_hits and found.further.cache_salt is not None:
        said.append(f"Wrong: {name} has a salt of its own, and shares blocks of others.")
    right = right_hits(found.prompts, found.further)
    if found.num_hits < right:
        are = "is" if found.num_hits == 1 else "are"
        said.append(
            f"Wrong: {counted(right, 'block')} of {name} could be shared, and {found.num_hits} "
            f"{are}."
        )
    if found.num_shared_tokens >= found.further.num_tokens:
        said.append(
            f"Wrong: no token of {name} is left to compute, so there is no output to sample from."
        )
    return [each for each in said if each]


def _wrong_hit(found: Lookup, number: int) -> str:
    """Say what is wrong with a block that was found; nothing if it holds what it should."""
    name, block_id = found.further.request_id, found.blocks[number]
    theirs = next(
        (
            (block_of(prompt, place), list(prompt[: place * BLOCK_SIZE]))
            for other, prompt in found.prompts.items()
            for place, each in enumerate(found.chains[other])
            if each == block_id
        ),
        ([], []),
    )
    tokens = found.further.all_token_ids
    own = block_of(tokens, number), tokens[: number * BLOCK_SIZE]
    if theirs == own:
        return ""
    if theirs[0] != own[0]:
        return (
            f"Wrong: block {block_id} holds {_written(theirs[0])}, and {name} has "
            f"{_written(own[0])} there. It would go on from somebody else's past."
        )
    return (
        f"Wrong: block {block_id} holds these tokens behind {_written(theirs[1])}, and {name} has "
        f"{_written(own[1])} in front of them. It would go on from somebody else's past."
    )


def _written(tokens: Sequence[int]) -> str:
    """Write down tokens.

    >>> _written([1, 2]), _written([])
    ('1 2', 'nothing')
    """
    return " ".join(map(str, tokens)) or "nothing"


def _ordinal(number: int) -> str:
    """Return which one it is.

    >>> _ordinal(2)
    'second'
    """
    names = ("first", "second", "third", "fourth", "fifth", "sixth")
    return names[number - 1] if number <= len(names) else f"{number}th"

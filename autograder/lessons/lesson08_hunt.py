"""Lesson 8: its bug hunt. A request with hits is admitted, or has to wait."""

from __future__ import annotations

from typing import Any

from autograder.checks.finding import Misconception

# What the lesson shows


def touch(free: list[int], holders: dict[int, int], blocks: list[int]) -> None:
    """Give each of the blocks one holder more; a free one leaves the free queue."""
    for block in blocks:
        if holders[block] == 0:
            free.remove(block)
        holders[block] += 1


def take(free: list[int], holders: dict[int, int], num_blocks: int) -> list[int]:
    """Take blocks from the front of the free queue, all or none."""
    if num_blocks > len(free):
        raise ValueError(f"{num_blocks} blocks were asked for, and {len(free)} are free")
    taken = [free.pop(0) for _ in range(num_blocks)]
    for block in taken:
        holders[block] = 1
    return taken


def suspect_admit(
    free: list[int], holders: dict[int, int], hits: list[int], num_new: int
) -> list[int] | None:
    """Return the blocks of a request that comes in, its hits first; None if there is no room."""
    touch(free, holders, hits)  # first, so that nobody takes them away
    if num_new > len(free):
        return None
    return hits + take(free, holders, num_new)


def admit_a(
    free: list[int], holders: dict[int, int], hits: list[int], num_new: int
) -> list[int] | None:
    """Fix A: look first, touch then."""
    if num_new > len(free):
        return None
    touch(free, holders, hits)
    return hits + take(free, holders, num_new)


def admit_b(
    free: list[int], holders: dict[int, int], hits: list[int], num_new: int
) -> list[int] | None:
    """Fix B: look first, and leave the hits out."""
    if num_new > len(free) - len(hits):
        return None
    touch(free, holders, hits)
    return hits + take(free, holders, num_new)


# 8.7a

EXPOSING: dict[str, Any] = {
    "free": [6, 7, 3, 2, 1],
    "holders": {1: 0, 2: 0, 3: 0, 4: 1, 5: 1, 6: 0, 7: 0},
    "hits": [1, 2, 3],
    "num_new": 3,
}
"""Two blocks are free beside the hits, and three are asked for."""

_KEYS = tuple(EXPOSING)


def _complaint_about_form(answer: Any) -> str | None:
    """Say what is wrong with the form of a case, if anything is."""
    if not isinstance(answer, dict) or set(answer) != set(_KEYS):
        return f"a case is a dict with the keys {', '.join(_KEYS)}"
    free, holders, hits, num_new = (answer[key] for key in _KEYS)
    if not isinstance(holders, dict) or not all(
        type(block) is int and type(count) is int and count >= 0 for block, count in holders.items()
    ):
        return '"holders" maps the id of each block to the number of its holders, 0 or more'
    for name, ids in (("free", free), ("hits", hits)):
        if not isinstance(ids, (list, tuple)) or len(set(map(repr, ids))) < len(ids):
            return f"{name!r} is a list of block ids, none of them twice"
        strange = [block for block in ids if type(block) is not int or block not in holders]
        if strange:
            return f'{name!r} has {strange[0]!r}, which is no block of "holders"'
    if sorted(free) != sorted(block for block, count in holders.items() if count == 0):
        return "the free queue has each block that nobody holds, and no other"
    if type(num_new) is not int or num_new < 0:
        return f'"num_new" is a whole number of blocks, 0 or more, not {num_new!r}'
    return None


def exposes_the_bug(_: Any, answer: Any) -> str | None:
    """Agree with a case in which the suspect refuses and leaves something behind."""
    complaint = _complaint_about_form(answer)
    if complaint is not None:
        return complaint
    free, holders = list(answer["free"]), dict(answer["holders"])
    got = suspect_admit(free, holders, list(answer["hits"]), answer["num_new"])
    if got is not None:
        return f"the request is admitted, with the blocks {got}: that is right"
    if (free, holders) == (list(answer["free"]), answer["holders"]):
        return "the request is refused, and nothing has changed: that is right"
    return None


def harmless_alike(wrong: Any, answer: Any) -> str | None:
    """Agree on two cases in which the suspect does the same right thing."""
    said = [exposes_the_bug(None, each) or "" for each in (wrong, answer)]
    kinds = [each.partition(",")[0] for each in said]
    return None if kinds[0] == kinds[1] and kinds[0].startswith("the request") else ""


EXPOSED = (
    Misconception(
        "a request that fits",
        "Where there is room, the order of touch and check does not matter. Ask for more than is "
        "left when the hits are taken out of the free queue.",
        lambda: {**EXPOSING, "num_new": 2},
    ),
    Misconception(
        "a request without hits",
        "Without hits there is nothing to touch, so a refusal leaves nothing behind.",
        lambda: {**EXPOSING, "hits": [], "num_new": 6},
    ),
)

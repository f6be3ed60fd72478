"""Lesson 8: its bug hunt. A request with hits is admitted, or has to wait."""

from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy
from typing import Any

from hypothesis import strategies as st

from autograder.checks.finding import Misconception
from autograder.checks.function import Call

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


# What is right, and further wrong ones


def admit(
    free: list[int], holders: dict[int, int], hits: list[int], num_new: int
) -> list[int] | None:
    """Return the blocks of a request that comes in, its hits first; None if there is no room."""
    num_free_hits = sum(holders[block] == 0 for block in hits)
    if num_new > len(free) - num_free_hits:
        return None
    touch(free, holders, hits)
    return [*hits, *take(free, holders, num_new)]


def undone(
    free: list[int], holders: dict[int, int], hits: list[int], num_new: int
) -> list[int] | None:
    """Touch first, and take the holders off again on a refusal."""
    was_free = [block for block in hits if holders[block] == 0]
    touch(free, holders, hits)
    if num_new > len(free):
        for block in hits:
            holders[block] -= 1
        free.extend(reversed(was_free))
        return None
    return [*hits, *take(free, holders, num_new)]


def never_touched(
    free: list[int], holders: dict[int, int], hits: list[int], num_new: int
) -> list[int] | None:
    """Leave the hits in the free queue."""
    num_free_hits = sum(holders[block] == 0 for block in hits)
    if num_new > len(free) - num_free_hits:
        return None
    return [*hits, *take(free, holders, num_new)]


def taken_before_the_touch(
    free: list[int], holders: dict[int, int], hits: list[int], num_new: int
) -> list[int] | None:
    """Take the new blocks while the hits are still in the free queue."""
    num_free_hits = sum(holders[block] == 0 for block in hits)
    if num_new > len(free) - num_free_hits:
        return None
    new = take(free, holders, num_new)
    for block in hits:
        if block in free:
            free.remove(block)
        holders[block] += 1
    return [*hits, *new]


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
        return f"it is a dict with the keys {', '.join(_KEYS)}"
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

# 8.7b


def case(free: list[int], held: dict[int, int], hits: list[int], num_new: int) -> Call:
    """Return a call for blocks that are free in this order, and others that are held."""
    return Call(list(free), {**dict.fromkeys(sorted(free), 0), **held}, list(hits), num_new)


@st.composite
def admissions(draw: st.DrawFn) -> Call:
    """Draw a pool, hits some of which are held, and a number of new blocks."""
    blocks = draw(st.permutations(range(1, draw(st.integers(1, 6)) + 1)))
    num_free = draw(st.integers(0, len(blocks)))
    held = {block: draw(st.integers(1, 3)) for block in blocks[num_free:]}
    hits = draw(st.permutations(blocks))[: draw(st.integers(0, 3))]
    return case(blocks[:num_free], held, hits, draw(st.integers(0, 4)))


ADMISSIONS = (
    case([6, 7, 3, 2, 1], {4: 1, 5: 1}, [1, 2, 3], 3),
    case([6, 7, 3, 2, 1], {4: 1, 5: 1}, [1, 2, 3], 2),
    case([6, 7, 3, 2, 1], {4: 1, 5: 1}, [1, 2, 3], 6),
    case([6, 7], {1: 1, 2: 1, 3: 1}, [1, 2, 3], 2),
    case([6, 7, 3, 8], {1: 1, 2: 1}, [1, 2, 3], 3),
    case([6, 3, 8, 2], {1: 1}, [1, 2, 3], 4),
    case([5, 4], {}, [5], 1),
    case([5, 4], {}, [], 3),
)
"""Pools that tell the ways to admit apart."""

Admit = Callable[[list[int], dict[int, int], list[int], int], "list[int] | None"]


def tried(admit: Admit, call: Call) -> tuple[Any, list[int], dict[int, int]]:
    """Return what an admission makes of a call: its answer, the free queue and the holders.

    >>> tried(suspect_admit, ADMISSIONS[0])[1]
    [6, 7]
    """
    free, holders, hits, num_new = deepcopy(call.args)
    return admit(free, holders, hits, num_new), free, holders


MENDED = (
    Misconception(
        "touched before the check",
        "A refusal must leave everything as it was: this one leaves a holder on each hit that "
        "nobody takes off.",
        suspect_admit,
    ),
    Misconception(
        "hits counted as free",
        "The hits are in the free queue and leave it when they are touched: there may be too few "
        "left by then.",
        admit_a,
    ),
    Misconception(
        "every hit taken off",
        "A hit that somebody holds is not in the free queue, so it takes no room there.",
        admit_b,
    ),
    Misconception(
        "touched, and undone",
        "Put back at the end, the hits count as used just now, and in another order than they "
        "were: look first, and there is nothing to undo.",
        undone,
    ),
    Misconception(
        "never touched",
        "A hit needs the request as a holder: otherwise it stays in the free queue, and the next "
        "one overwrites it.",
        never_touched,
    ),
    Misconception(
        "taken before the touch",
        "Until they are touched, the hits are in the free queue, and may be handed out as new "
        "blocks to the very request that found them.",
        taken_before_the_touch,
    ),
)

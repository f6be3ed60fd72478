"""Lesson 6: the hunt. Loops that make room, and requests whose blocks come back later."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from hypothesis import strategies as st

from autograder.checks.finding import Misconception
from autograder.checks.function import Call

Running = tuple[str, int, bool]
"""A name, how many blocks it holds alone, and whether a copy of them is under way."""


class Pool:
    """Counts blocks: those that are free, and those that will be when a copy has ended."""

    def __init__(self, free: int) -> None:
        self.free = free
        self.pending = 0

    def release(self, request: Running) -> None:
        """Take the blocks of a request back."""
        _, num_blocks, is_copied = request
        if is_copied:
            self.pending += num_blocks
        else:
            self.free += num_blocks


def make_room_suspect(pool: Pool, running: list[Running], need: int) -> list[str]:
    """Preempt the last in until so many blocks are free; return who was preempted."""
    preempted = []
    while pool.free < need and running:
        victim = running.pop()
        pool.release(victim)
        preempted.append(victim[0])
    return preempted


def make_room_a(pool: Pool, running: list[Running], need: int) -> list[str]:
    """Preempt the last in until so many blocks are free; stop after one that freed nothing."""
    preempted = []
    while pool.free < need and running:
        before = pool.free
        victim = running.pop()
        pool.release(victim)
        preempted.append(victim[0])
        if pool.free == before:
            break
    return preempted


def make_room_b(pool: Pool, running: list[Running], need: int) -> list[str]:
    """Preempt the last in until so many blocks are free; ask again if it is being copied."""
    preempted: list[str] = []
    while pool.free < need and running:
        victim = running.pop()
        if victim[2]:
            running.append(victim)
            continue
        pool.release(victim)
        preempted.append(victim[0])
    return preempted


# What is asked for


def make_room(free: int, running: list[tuple[str, int, bool]], need: int) -> tuple[list[str], int]:
    """Return who is preempted, in order, and how many blocks are free then."""
    preempted = []
    while free < need and running:
        _, num_blocks, is_copied = running[-1]
        if is_copied or num_blocks == 0:
            break
        preempted.append(running.pop()[0])
        free += num_blocks
    return preempted, free


def as_the_suspect(free: int, running: list[Running], need: int) -> tuple[list[str], int]:
    """Do as the suspect does."""
    pool = Pool(free)
    return make_room_suspect(pool, running, need), pool.free


def after_the_fact(free: int, running: list[Running], need: int) -> tuple[list[str], int]:
    """Do as fix A does."""
    pool = Pool(free)
    return make_room_a(pool, running, need), pool.free


def counts_what_will_come(free: int, running: list[Running], need: int) -> tuple[list[str], int]:
    """Take blocks that come back later for free ones."""
    preempted = []
    while free < need and running:
        name, num_blocks, _ = running.pop()
        preempted.append(name)
        free += num_blocks
    return preempted, free


def passes_over(free: int, running: list[Running], need: int) -> tuple[list[str], int]:
    """Take an older one where the last would free nothing now."""
    preempted = []
    for request in list(reversed(running)):
        name, num_blocks, is_copied = request
        if free >= need:
            break
        if not is_copied and num_blocks:
            running.remove(request)
            preempted.append(name)
            free += num_blocks
    return preempted, free


def copies_alone(free: int, running: list[Running], need: int) -> tuple[list[str], int]:
    """Preempt those who hold nothing of their own."""
    preempted = []
    while free < need and running and not running[-1][2]:
        name, num_blocks, _ = running.pop()
        preempted.append(name)
        free += num_blocks
    return preempted, free


def nobody_if_any_is_copied(free: int, running: list[Running], need: int) -> tuple[list[str], int]:
    """Preempt nobody while anybody's blocks are being copied."""
    if any(each[2] for each in running):
        return [], free
    return make_room(free, running, need)


def one_at_most(free: int, running: list[Running], need: int) -> tuple[list[str], int]:
    """Preempt one."""
    if free < need and running and not running[-1][2] and running[-1][1]:
        name, num_blocks, _ = running.pop()
        return [name], free + num_blocks
    return [], free


def one_too_many(free: int, running: list[Running], need: int) -> tuple[list[str], int]:
    """Go on when there is just enough."""
    return make_room(free, running, need + 1) if free < need else ([], free)


# 6.9a

ALL_COPIED = {
    "free": 0,
    "running": [("a", 2, True), ("b", 2, True), ("c", 2, True), ("d", 2, True)],
    "need": 1,
}


def _form(case: Any) -> str | None:
    """Say why a value is no case, if it is none."""
    if not isinstance(case, dict) or not {"free", "running", "need"} <= set(case):
        return 'a case is a dict with the keys "free", "running" and "need"'
    for key in ("free", "need"):
        if type(case[key]) is not int or case[key] < 0:
            return f'"{key}" is a whole number of blocks, not {case[key]!r}'
    running = case["running"]
    if not isinstance(running, (list, tuple)) or len(running) > 50:
        return '"running" is a list of at most 50 requests'
    for each in running:
        if (
            not isinstance(each, (list, tuple))
            or len(each) != 3
            or not isinstance(each[0], str)
            or type(each[1]) is not int
            or each[1] < 0
            or type(each[2]) is not bool
        ):
            return f'a request is ("a", blocks, True or False), not {each!r}'
    return None


def preempts_for_nothing(_: Any, case: Any) -> str | None:
    """Agree with a case in which somebody is preempted and no block comes of it."""
    complaint = _form(case)
    if complaint is not None:
        return complaint
    pool, running = Pool(case["free"]), [tuple(each) for each in case["running"]]
    by_name = list(reversed(running))
    preempted = make_room_suspect(pool, running, case["need"])
    gained = [num_blocks for _, num_blocks, is_copied in by_name[: len(preempted)] if not is_copied]
    if len(gained) < len(preempted) or 0 in gained:
        return None
    who = " and ".join(preempted) or "nobody"
    return f"it preempts {who}, and each one that goes frees blocks at once"


def as_harmless(one: Any, other: Any) -> str | None:
    """Agree on two harmless cases that lack the same."""
    complaints = [preempts_for_nothing(None, case) for case in (one, other)]
    if not all((each or "").startswith("it preempts") for each in complaints):
        return ""
    return None if _lacks(one) == _lacks(other) else ""


def _lacks(case: Any) -> tuple[bool, bool]:
    """Say whether anybody has to go, and whether anybody is being copied."""
    return case["free"] < case["need"], any(each[2] for each in case["running"])


EXPOSED = (
    Misconception(
        "nobody is being copied",
        "As long as `release` raises `free` each time, the loop gets nearer to its end. When does "
        "it not?",
        {"free": 0, "running": [("a", 2, False), ("b", 1, False)], "need": 2},
    ),
    Misconception(
        "nobody has to go",
        "There is room, so the loop is not entered at all.",
        {"free": 3, "running": [("a", 2, True), ("b", 2, True)], "need": 1},
    ),
)

# 6.9b


def case(free: int, running: Sequence[Running], need: int) -> Call:
    """Return a call with what is free, who runs, and what is needed."""
    return Call(free, list(running), need)


@st.composite
def cases(draw: Any) -> Call:
    """Return a few requests, of which some are being copied."""
    names = "abcdefgh"[: draw(st.integers(0, 5) | st.integers(0, 8))]
    held = st.sampled_from((1, 2, 3, 0))
    running = [(name, draw(held), draw(st.sampled_from((False, False, True)))) for name in names]
    need = draw(st.integers(0, 5) | st.integers(0, 16))
    return case(draw(st.integers(0, 2)), running, need)


CASES = (
    case(0, ALL_COPIED["running"], 1),  # type: ignore[arg-type]
    case(0, [("a", 2, False), ("b", 2, False), ("c", 1, False), ("d", 1, False)], 2),
    case(0, [("a", 2, False), ("b", 3, True)], 1),
    case(0, [("a", 2, True), ("b", 1, False)], 2),
    case(0, [("a", 2, False), ("b", 0, False)], 1),
    case(2, [("a", 2, False)], 2),
    case(1, [("a", 2, False), ("b", 1, False)], 9),
    case(0, [], 1),
    case(0, [("a", 3, True), ("b", 2, False), ("c", 2, False)], 3),
    case(0, [(name, 1, False) for name in "abcde"], 5),
    case(1, [(name, 1, False) for name in "abcdefghijkl"], 11),
)

MENDED = (
    Misconception(
        "still preempts for nothing",
        "That is the suspect once more: who is being copied, or holds nothing, is preempted, and "
        "nothing comes of it.",
        as_the_suspect,
    ),
    Misconception(
        "finds out afterwards",
        "It stops after the first one that freed nothing; that one has given way for nothing.",
        after_the_fact,
    ),
    Misconception(
        "counts what will come",
        "Blocks that are being copied are not free yet. Whoever writes into them spoils the copy.",
        counts_what_will_come,
    ),
    Misconception(
        "passes over to an older one",
        "Then an older request pays because a younger one cannot right now. Stop instead: the next "
        "step asks again.",
        passes_over,
    ),
    Misconception(
        "forgets who holds nothing",
        "Who holds no block of its own frees nothing either.",
        copies_alone,
    ),
    Misconception(
        "nobody if any is copied",
        "Those behind the one that is being copied can give way, as far as that goes.",
        nobody_if_any_is_copied,
    ),
    Misconception(
        "one at most",
        "One victim may free too little: it goes on while the next one frees something.",
        one_at_most,
    ),
    Misconception(
        "one block too many",
        "When just as many are free as are needed, nobody else has to go.",
        one_too_many,
    ),
)

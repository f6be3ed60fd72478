"""What lesson 4's strips say of each moment, in sentences with numbers."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from course_lib.viz.strips.rows import Instant, Memory, Score

_MOST_CHANGES = 3
"""Changes that a caption tells one by one."""


def caption_of(before: Instant | None, now: Instant) -> str:
    """Say what has happened since the moment before.

    Args:
        before: The moment before; None for the first one.
        now: The moment.
    """
    passed = f" (+{now.passed:,})" if now.passed > 1 else ""
    said = [
        *_grouped({name: _scattered(now.memories[name]) for name in now.scattered}),
        *_grouped({name: _ended(now.problems.get(name, "")) for name in now.ended}),
    ]
    if not said:
        said = _first(now) if before is None else _changes(before, now)
    return f"Iteration {now.step:,}{passed}: {'. '.join(said)}."


def _grouped(said: Mapping[str, str]) -> list[str]:
    """Return what is said of rows, those of which the same is said together.

    >>> _grouped({"best": "3 run", "buddy": "2 run", "worst": "3 run"})
    ['best and worst: 3 run', 'buddy: 2 run']
    """
    rows_of: dict[str, list[str]] = {}
    for name, words in said.items():
        rows_of.setdefault(words, []).append(name)
    return [f"{listed(names)}: {words}" for words, names in rows_of.items()]


def event_of(before: Instant | None, now: Instant) -> str:
    """Name a moment that a reader looks for in a few words; empty for the others.

    Args:
        before: The moment before; None for the first one.
        now: The moment.
    """
    said = []
    if now.scattered:
        said.append(f"{listed(now.scattered)}: enough, but in pieces")
    wrong = [name for name in now.ended if name in now.problems]
    if wrong:
        said.append(f"{listed(wrong)}: went wrong")
    if before is None and any(now.memories.values()):
        said.append("the first in line waits")
    return "; ".join(said)


def listed(names: Iterable[str]) -> str:
    """Return names as they are listed in a sentence.

    >>> listed(["a"]), listed(["a", "b", "c"])
    ('a', 'a, b and c')
    """
    *others, last = names
    return f"{', '.join(others)} and {last}" if others else last


def in_words(name: str, memory: Memory | None, instant: Instant) -> str:
    """Describe one row.

    Args:
        name: What it is called.
        memory: Its memory; None where nobody waits, or nobody can tell what it looks like.
        instant: The moment.
    """
    problem = instant.problems.get(name, "")
    if memory is None or problem:
        return f"{name}: {problem or 'nobody waits'}."
    holes = "1 hole" if len(memory.holes) == 1 else f"{len(memory.holes):,} holes"
    rounded = sum(piece.size - piece.asked for piece in memory.pieces)
    more = f", {rounded:,} slots are rounded up" if rounded else ""
    why = ": enough, but in pieces" if memory.is_scattered else ""
    return (
        f"{name}: {len(memory.running):,} run{more}, {memory.free:,} slots are free in {holes}, "
        f"the largest of {memory.largest:,}; request {memory.first_waiting} waits for "
        f"{memory.needed:,}{why}."
    )


def score_caption(scores: Sequence[Score]) -> str:
    """Say what came of each row, the shortest queue first.

    Args:
        scores: What came of each.

    >>> score_caption([Score("buddy", 923, 0.5, 378), Score("paging", 488, 0.929, 0)])[:58]
    'The end. Iterations with a queue: paging 488 and buddy 923'
    """
    fine = sorted((each for each in scores if not each.problem), key=lambda s: s.num_iterations)
    said = []
    if fine:
        counts = listed(f"{each.name} {each.num_iterations:,}" for each in fine)
        said.append(f"Iterations with a queue: {counts}.")
    if shares := [f"{each.name} {each.used:.0%}" for each in fine if each.used is not None]:
        said.append(f"Slots that held a token meanwhile: {listed(shares)}.")
    said += [f"{each.name} went wrong: {each.problem}." for each in scores if each.problem]
    return " ".join(["The end.", *said])


def _scattered(memory: Memory | None) -> str:
    """Say that enough is free, but in pieces."""
    if memory is None:
        return "enough, but in pieces"
    return (
        f"request {memory.first_waiting} needs {memory.needed:,} slots, {memory.free:,} are free, "
        f"but the largest hole has {memory.largest:,}"
    )


def _ended(problem: str) -> str:
    """Say why there is nothing more to come."""
    return f"went wrong: {problem}" if problem else "nobody waits any more"


def _first(now: Instant) -> list[str]:
    """Say how many requests were admitted at once."""
    return _grouped(
        {
            name: f"{len(memory.running):,} run, {memory.num_waiting:,} wait"
            for name, memory in now.memories.items()
            if memory is not None
        }
    )


def _changes(before: Instant, now: Instant) -> list[str]:
    """Say who has come and who has left, and in which rows."""
    rows_of: dict[str, list[str]] = {}
    for name, memory in now.memories.items():
        earlier = before.memories[name]
        if memory is None or earlier is None:
            continue
        was, runs = earlier.running, memory.running
        said = [f"request {each} leaves" for each in was if each not in runs]
        said += [f"request {each} comes" for each in runs if each not in was]
        for words in said:
            rows_of.setdefault(words, []).append(name)
    changes = [f"{words} ({listed(rows)})" for words, rows in rows_of.items()]
    if len(changes) > _MOST_CHANGES + 1:
        more = len(changes) - _MOST_CHANGES
        changes = [*changes[:_MOST_CHANGES], f"{more} more changes"]
    return ["; ".join(changes)]

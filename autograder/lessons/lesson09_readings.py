"""Lesson 9: two policies to be read, and what is asked of them."""

from __future__ import annotations

from collections.abc import Sequence
from random import Random
from typing import Any

from autograder.checks.compare import exactly
from autograder.checks.finding import Misconception
from autograder.checks.trace import Instance


def insert_shortest_first(line: list[tuple[str, int]], job: tuple[str, int]) -> None:
    """Put a job, a name and its tokens, into the line, in which the shortest stands first."""
    place = 0
    for index, other in enumerate(line):
        if job[1] < other[1]:
            place = index
            break
    line.insert(place, job)


def weighted_fair(waiting: dict[str, list[str]], weights: dict[str, float]) -> list[str]:
    """Return the order in which the requests of all clients are served, by weight."""
    total = sum(weights.values())
    shares = {client: weight / total for client, weight in weights.items()}
    order = []
    while any(waiting.values()):
        for client in shares:
            if waiting[client]:
                order.append(waiting[client].pop(0))
    return order


def _jobs(seed: int) -> list[tuple[str, int]]:
    rng = Random(seed)
    while True:
        sizes = rng.sample(range(10, 100, 10), 5)
        jobs = list(zip("ABCDE", sizes, strict=True))
        line, right = _line(jobs), _sorted(jobs)
        # The longest comes late, so that at first the line may look right.
        if sizes.index(max(sizes)) >= 2 and line not in (right, right[::-1]):
            return jobs


def _line(jobs: Sequence[tuple[str, int]]) -> list[str]:
    line: list[tuple[str, int]] = []
    for job in jobs:
        insert_shortest_first(line, job)
    return [name for name, _ in line]


def _sorted(jobs: Sequence[tuple[str, int]]) -> list[str]:
    return [name for name, _ in sorted(jobs, key=lambda job: job[1])]


def _clients(seed: int) -> tuple[dict[str, list[str]], dict[str, float]]:
    heavy = Random(seed + 1000).choice((2, 3, 5))
    waiting = {client: [f"{client}{number}" for number in range(1, 13)] for client in "ab"}
    return waiting, {"a": float(heavy), "b": 1.0}


def readings(seed: int) -> Instance:
    """Return five jobs and two clients; asked for is what the code does, and what it says."""
    jobs = _jobs(seed)
    waiting, weights = _clients(seed)
    heavy = int(weights["a"])
    first = heavy + 1
    order = weighted_fair({client: list(each) for client, each in waiting.items()}, weights)
    task = (
        f"Seed {seed}.\n\n"
        f"Into an empty line, one after the other: `{jobs}`.\n\n"
        "- `line`: the names in `line` afterwards, the first one in front, such as "
        '`["A", "B", "C", "D", "E"]`\n'
        "- `shortest first`: the names as the docstring promises them\n\n"
        f"Clients a and b have twelve requests each, a1 to a12 and b1 to b12, all of one size, and "
        f"the weights {heavy} and 1.\n\n"
        f"- `a is promised`: how many of the first {2 * first} that are served should be a's, by "
        "the weights\n"
        f"- `a gets`: how many of the first {2 * first} are a's, as the code has it"
    )
    answer = {
        "line": _line(jobs),
        "shortest first": _sorted(jobs),
        "a is promised": 2 * heavy,
        "a gets": sum(name.startswith("a") for name in order[: 2 * first]),
    }
    return Instance(task, answer, _notes(jobs, heavy))


def _notes(jobs: Sequence[tuple[str, int]], heavy: int) -> dict[str, str]:
    """Return where to look again for each state."""
    first, second = (name for name, _ in jobs[:2])
    return {
        "line": f"Insert one at a time: {first}, then {second} before or behind it, and so on",
        "shortest first": "Asked for is not what the code does, but the names by their tokens",
        "a is promised": f"With the weights {heavy} and 1, b should get one request in {heavy + 1}",
        "a gets": "Write down the names of the requests as the inner loop appends them, a1 first",
    }


def as_promised(seed: int) -> dict[str, Any]:
    """Return what one would write who has read the docstrings only."""
    right = readings(seed).answer
    return {**right, "line": right["shortest first"], "a gets": right["a is promised"]}


def at_the_end(seed: int) -> dict[str, Any]:
    """Return what one would write who takes the default for the end of the line."""
    right = readings(seed).answer
    return {**right, "line": right["shortest first"]}


def longest_first(seed: int) -> dict[str, Any]:
    """Return what one would write who takes the line for sorted the other way round."""
    right = readings(seed).answer
    return {**right, "line": right["shortest first"][::-1]}


def by_weight(seed: int) -> dict[str, Any]:
    """Return what one would write who takes it that the shares decide."""
    right = readings(seed).answer
    return {**right, "a gets": right["a is promised"]}


def form_of_a_reading(state: Any) -> str:
    """Say what is wrong with how a state is written; "" if nothing is."""
    if type(state) in (int, float):
        return ""
    if isinstance(state, (list, tuple)) and all(isinstance(each, str) for each in state):
        untidy = next((each for each in state if each != each.strip()), None)
        return "" if untidy is None else f"{untidy!r} begins or ends with a blank: write it without"
    return f'{state!r} is neither a number nor a list of names, such as ["A", "B"]'


def same_reading(expected: Any, got: Any) -> str | None:
    """Agree on equal lists of names, and on equal numbers, whole or not.

    >>> same_reading(4, 4.0), same_reading(4, 5), same_reading(["A"], ["A"])
    (None, '', None)
    """
    if type(expected) is int and type(got) is float:
        return None if expected == got else ""
    return exactly(expected, got)


READINGS = (
    Misconception(
        "the docstring believed",
        "A docstring says what was meant. Follow the names: where is `place` set when nobody in "
        "the line is longer, and who reads the values of `shares`?",
        as_promised,
    ),
    Misconception(
        "the shares decide",
        "That is what the weights promise. Which line of the code reads a value of `shares`?",
        by_weight,
    ),
    Misconception(
        "the end of the line",
        "Where nobody in the line is longer, `place` keeps the value that it began with.",
        at_the_end,
    ),
    Misconception(
        "sorted the other way round",
        "Who is the longest when it comes is put in front, and shorter ones that come later before "
        "it. Insert them one by one.",
        longest_first,
    ),
)

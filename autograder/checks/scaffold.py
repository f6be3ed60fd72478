"""What an exercise gives: a stub that is still as it was released, a given line that failed.

A faded exercise gives some lines. With nothing added to them, its stub may well return a value, and
yet nobody has tried. If one of the lines stops, because of what the learner's lines worked out, its
message speaks of the library's business; a learner needs to know which values led there.
"""

from __future__ import annotations

import ast
import itertools
import json
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path

from autograder.checks.finding import Counterexample, code_alone
from autograder.errors import CourseError
from autograder.paths import PROJECT_FOLDER, PROJECT_NUMBERS, course_root

_PLACE = "# YOUR CODE HERE"
_NOTHING = ("pass", "...")


def told_from_given_lines(case: Counterexample, exercise_id: str) -> Counterexample:
    """Return a failing case that says so if a line which the exercise gives stopped it.

    Args:
        case: The failing case.
        exercise_id: The exercise, whose released stub has the lines that are given.
    """
    if case.raised is None or case.raised.line is None:
        return case
    where, _, line = case.raised.line.partition(": ")
    if not line or line not in _given_lines(exercise_id):
        return case
    raised = case.raised
    kind = raised.kinds[0]
    # Of a missing name the message says which it is; others speak of the library's business.
    said = f"{kind}: {raised.message}" if "NameError" in raised.kinds else kind
    values = ", ".join(f"{name} = {value}" for name, value in raised.values.items())
    led = f", with {values}" if values else ""
    return replace(
        case,
        got=f"no value: a line that the exercise gives stopped it ({said})",
        complaint=f"the line is {line!r} {where}{led}; what your lines worked out led there",
    )


def is_untouched(source: str | None, exercise_id: str) -> bool:
    """Say whether an answer is the stub that was released: layout and comments do not matter.

    Args:
        source: The answer's code; None where it is not at hand.
        exercise_id: The exercise.

    >>> is_untouched("def kv_bytes_per_token(model): return 2", "1.1")
    False
    """
    if source is None:
        return False
    alone = code_alone(source)
    return any(
        alone == code_alone(ast.unparse(node))
        for stub in _released(exercise_id)
        for node in _definitions(stub)
    )


def released_docstrings(exercise_id: str) -> list[str]:
    """Return the docstrings with which an exercise's stub was released.

    >>> released_docstrings("1.1")[0].partition(".")[0]
    'Return the bytes of KV cache that one token occupies, over all layers'
    """
    nodes = (node for stub in _released(exercise_id) for node in _definitions(stub))
    documented = (
        each
        for node in nodes
        for each in ast.walk(node)
        if isinstance(each, (ast.FunctionDef, ast.ClassDef))
    )
    return [text for each in documented if (text := ast.get_docstring(each))]


@dataclass(frozen=True)
class Places:
    """The places of an exercise to write at, where there are several.

    Attributes:
        empty: Those at which nothing is written; the first is 1.
        number: How many there are; 0 where there is one only.
    """

    empty: tuple[int, ...] = ()
    number: int = 0


def empty_places(source: str | None, exercise_id: str) -> Places:
    """Return which of several places to write at are still empty.

    Only where an answer has kept the lines around a place can that be seen. A ``pass`` is nothing.

    Args:
        source: The answer's code, comments included; None where it is not at hand.
        exercise_id: The exercise.
    """
    if source is None:
        return Places()
    lines = (line for line in _told(source) if line not in (_PLACE, *_NOTHING))
    pairs = set(itertools.pairwise([*lines, ""]))
    for stub in _released(exercise_id):
        given = [*(line for line in _told(stub) if line not in _NOTHING), ""]
        places = [at for at, line in enumerate(given) if line == _PLACE]
        if len(places) > 1:
            around = [(given[at - 1], given[at + 1]) for at in places]
            empty = (place for place, pair in enumerate(around, start=1) if pair in pairs)
            return Places(tuple(empty), len(places))
    return Places()


def _told(source: str) -> list[str]:
    """Return the lines of a source without what is around them, and without empty ones."""
    return [line.strip() for line in source.splitlines() if line.strip()]


def _definitions(source: str) -> list[ast.stmt]:
    """Return the functions and classes that a cell defines; none if it cannot be read."""
    try:
        statements = ast.parse(source).body
    except SyntaxError:
        return []
    return [node for node in statements if isinstance(node, (ast.FunctionDef, ast.ClassDef))]


def _given_lines(exercise_id: str) -> frozenset[str]:
    """Return the lines of an exercise's released stub; none where it is not released."""
    lines = {line.strip() for stub in _released(exercise_id) for line in stub.split("\n")}
    return frozenset(lines - {""})


def _released(exercise_id: str) -> list[str]:
    """Return the cell into which an exercise's answer goes, as released; none if it is not."""
    number, _, _ = exercise_id.partition(".")
    try:
        folder = course_root() / "lessons"
    except CourseError:
        return []
    is_of_project = number.isdecimal() and int(number) in PROJECT_NUMBERS
    name = PROJECT_FOLDER if is_of_project else f"{number.zfill(2)}_*"
    paths = sorted(folder.glob(f"{name}/*.ipynb"))
    cell_id = f"ex-{exercise_id.replace('.', '-').lower()}"
    return [source for path in paths for source in _cells_of(path).get(cell_id, ())]


@cache
def _cells_of(notebook: Path) -> dict[str, list[str]]:
    cells: dict[str, list[str]] = {}
    for cell in json.loads(notebook.read_text(encoding="utf-8"))["cells"]:
        cells.setdefault(str(cell.get("id")), []).append("".join(cell["source"]))
    return cells

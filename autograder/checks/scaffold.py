"""Failures that a line of the exercise raised, not one of the learner's.

A faded exercise gives some lines. If one of them stops, because of what the learner's lines worked
out, its message speaks of the library's business; a learner needs to know which values led there.
"""

from __future__ import annotations

import json
from dataclasses import replace
from functools import cache
from pathlib import Path

from autograder.checks.finding import Counterexample
from autograder.errors import CourseError
from autograder.paths import course_root


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
    values = ", ".join(f"{name} = {value}" for name, value in case.raised.values.items())
    led = f", with {values}" if values else ""
    return replace(
        case,
        got=f"no value: a line that the exercise gives stopped it ({case.raised.kinds[0]})",
        complaint=f"the line is {line!r} {where}{led}; what your lines worked out led there",
    )


def _given_lines(exercise_id: str) -> frozenset[str]:
    """Return the lines of an exercise's released stub; none where it is not released."""
    number, _, _ = exercise_id.partition(".")
    try:
        folder = course_root() / "lessons"
    except CourseError:
        return frozenset()
    paths = sorted(folder.glob(f"{number.zfill(2)}_*/*.ipynb"))
    cell_id = f"ex-{exercise_id.replace('.', '-').lower()}"
    return frozenset().union(*(_lines_of(path, cell_id) for path in paths))


@cache
def _lines_of(notebook: Path, cell_id: str) -> frozenset[str]:
    cells = json.loads(notebook.read_text(encoding="utf-8"))["cells"]
    sources = ["".join(cell["source"]) for cell in cells if cell.get("id") == cell_id]
    lines = {line.strip() for source in sources for line in source.split("\n")}
    return frozenset(lines - {""})

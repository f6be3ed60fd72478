"""Cells of a lesson: with ids of their own, and with their roles in grading."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from nbformat import NotebookNode
from nbformat.v4 import new_code_cell, new_markdown_cell

from autograder import lessons
from autograder.checks.exercise import Exercise

SOLUTION_ONLY = "solution-only"
"""The tag of cells that are in the solution notebook and not in the lesson."""


@dataclass(frozen=True)
class Lesson:
    """What a directive knows of the lesson around it.

    Attributes:
        number: The lesson.
        setup_names: The names that its setup cell, the first code cell, defines.
    """

    number: int
    setup_names: frozenset[str] = frozenset()

    def answers(self) -> list[Any]:
        """Return the functions, classes and kernels that the learner writes in this lesson."""
        if self.number not in lessons.numbers():
            return []
        references = [exercise.check.reference for exercise in lessons.exercises(self.number)]
        return [reference for reference in references if callable(reference)]


def slug_of(exercise: Exercise) -> str:
    """Return the first part of the ids of an exercise's cells, such as ``ex-1-2``."""
    return f"ex-{exercise.id.replace('.', '-').lower()}"


def markdown(cell_id: str, text: str) -> NotebookNode:
    """Return a cell of text with an id."""
    return _with_id(cell_id, new_markdown_cell(text))


def code(cell_id: str, text: str) -> NotebookNode:
    """Return a cell of code with an id."""
    return _with_id(cell_id, new_code_cell(text))


def answer_cell(slug: str, body: str) -> NotebookNode:
    """Return a cell that the learner writes into."""
    cell = code(slug, body)
    cell.metadata["nbgrader"] = role(slug, solution=True)
    return cell


def hidden(cell: NotebookNode) -> NotebookNode:
    """Return the cell, marked to be left out of the lesson."""
    cell.metadata["tags"] = [SOLUTION_ONLY]
    return cell


def role(
    grade_id: str, *, grade: bool = False, solution: bool = False, locked: bool = False
) -> dict[str, Any]:
    """Return what nbgrader has to know of a cell."""
    return {
        "grade": grade,
        "grade_id": grade_id,
        "locked": locked,
        "schema_version": 3,
        "solution": solution,
        "task": False,
    }


def folded(summary: str, text: str) -> str:
    """Return text that unfolds when its summary is clicked.

    >>> print(folded("Hint 1", "Look at the units."))
    <details><summary>Hint 1</summary>
    <BLANKLINE>
    Look at the units.
    <BLANKLINE>
    </details>
    """
    return f"<details><summary>{summary}</summary>\n\n{text}\n\n</details>"


def introduction(exercise: Exercise) -> NotebookNode:
    """Return the cell above an exercise: what is asked, how hard it is, what it earns."""
    stars = "●" * exercise.difficulty + "○" * (3 - exercise.difficulty)
    earns = f"{exercise.points:g} points" if exercise.points else "practice"
    minutes = f"{exercise.minutes} minute{'s' if exercise.minutes > 1 else ''}"
    head = f"### {exercise.id} {exercise.title}\n\n{stars} · {minutes} · {earns}"
    return markdown(f"{slug_of(exercise)}-intro", f"{head}\n\n{exercise.asks}")


def _with_id(cell_id: str, cell: NotebookNode) -> NotebookNode:
    cell["id_hint"] = cell_id
    return cell

"""A released lesson as grading sees it: its cells, and what each of its checks asks for."""

from __future__ import annotations

import ast
import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from nbformat import NotebookNode

from autograder.errors import CourseError
from autograder.files import read_bytes
from autograder.matching import grade_id, is_answer, is_marked, nbgrader_metadata
from autograder.notebook_files import parse_notebook

_REMEDY = "restore it with `course build`"


@dataclass(frozen=True)
class Asked:
    """One check of a lesson.

    Attributes:
        exercise: The exercise's id, such as ``"1.2"``.
        check_id: The grade id of the cell with the check.
        answer_id: The grade id of the cell that the answer belongs into.
        name: The name that holds the answer once that cell has run.
        points: What the check earns in the notebook; 0 for practice.
    """

    exercise: str
    check_id: str
    answer_id: str
    name: str
    points: float


@dataclass(frozen=True)
class Release:
    """A released lesson.

    Attributes:
        lesson: Its name, which is that of its source and of what is handed in.
        cells: Its cells.
        asked: Its checks, in order.
        texts: The grade ids of the texts that a person marks, with their points.
        digest: The hash of the file.
    """

    lesson: str
    cells: tuple[NotebookNode, ...]
    asked: tuple[Asked, ...]
    texts: tuple[tuple[str, float], ...]
    digest: str

    @property
    def number(self) -> int:
        """The number of the lesson, with which its name begins."""
        return int(self.lesson.partition("_")[0])

    @property
    def maximum(self) -> float:
        """The points that there are, those by hand included."""
        return sum(each.points for each in self.asked) + sum(points for _, points in self.texts)

    def of_check(self, check_id: str) -> Asked:
        """Return what a cell with a check asks for.

        Raises:
            KeyError: No check has this grade id.
        """
        for each in self.asked:
            if each.check_id == check_id:
                return each
        raise KeyError(f"no check {check_id!r} in {self.lesson}")


def load_release(path: Path) -> Release:
    """Read a released lesson.

    Args:
        path: Its notebook.

    Raises:
        CourseError: It cannot be read, or a check in it does not say what it checks.
    """
    raw = read_bytes(path, _REMEDY)
    notebook = parse_notebook(raw, path, _REMEDY)
    cells = tuple(notebook.cells)
    # Notebooks of the final project have the number in their name here only.
    name = str(notebook.metadata.get("course", {}).get("slug", path.stem))
    texts = tuple((str(grade_id(cell)), _points(cell)) for cell in cells if is_marked(cell))
    digest = hashlib.sha256(raw).hexdigest()
    return Release(name, cells, tuple(_asked(cells, path)), texts, digest)


def _asked(cells: tuple[NotebookNode, ...], path: Path) -> Iterator[Asked]:
    """Yield the checks; each belongs to the answer that stands before it."""
    answer_id = None
    for cell in cells:
        if is_answer(cell):
            answer_id = grade_id(cell)
        elif nbgrader_metadata(cell).get("locked"):
            called = _called(cell.source)
            if called is None or answer_id is None:
                raise CourseError(
                    f"{path}: cell {grade_id(cell)} is no check such as "
                    f'check("1.1", kv_bytes_per_token) behind an answer; {_REMEDY}'
                )
            exercise, name = called
            yield Asked(exercise, str(grade_id(cell)), answer_id, name, _points(cell))


def _called(source: str) -> tuple[str, str] | None:
    """Return the exercise and the name that ``check("EXERCISE", NAME)`` is about."""
    try:
        statements = ast.parse(source).body
    except SyntaxError:
        return None
    match statements:
        case [
            ast.Expr(ast.Call(ast.Name("check"), [ast.Constant(str(exercise)), ast.Name(name)], []))
        ]:
            return exercise, name
    return None


def _points(cell: NotebookNode) -> float:
    return float(nbgrader_metadata(cell).get("points", 0))

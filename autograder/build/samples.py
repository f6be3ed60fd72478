"""Sample submissions, to try grading on: notebooks as three students would hand them in.

Only what a student wrote is kept, in ``grading/samples/NAME/NN_slug.toml``, with the points that it
is worth. It is put into the lesson as it is released now, so a sample never goes stale. Two samples
need no file: ``untouched`` is the released notebook, and ``all_right`` has the answers of the
solution notebook.
"""

from __future__ import annotations

import copy
import textwrap
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from nbformat import NotebookNode
from pydantic import BaseModel, ConfigDict, RootModel, ValidationError
from rich.table import Table

from autograder.build import holes
from autograder.build.notebooks import graded_sources, release_path, solution_notebook
from autograder.errors import CourseError
from autograder.files import write_atomically
from autograder.notebook_files import notebook_bytes, read_notebook
from autograder.paths import course_root


@dataclass(frozen=True)
class Sample:
    """A submission with the points that it should get.

    Attributes:
        student: Whose it is.
        lesson: The lesson's name.
        notebook: What was handed in.
        earns: Points by grade id, before anything is marked by hand; None for what has to be.
    """

    student: str
    lesson: str
    notebook: NotebookNode
    earns: Mapping[str, float | None]

    @property
    def path(self) -> Path:
        """Where nbgrader looks for it."""
        folder = course_root() / "grading" / "submitted" / self.student / self.lesson
        return folder / f"{self.lesson}.ipynb"


class _Answer(BaseModel):
    """What a student wrote into one cell, and what it is worth."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    answers: tuple[str, ...]
    earns: float | Literal["by hand"]
    why: str


class _AnswerSheet(RootModel[dict[str, _Answer]]):
    """What a student wrote into one lesson, by the grade id of the cell."""


def samples(source: Path) -> list[Sample]:
    """Return the samples of the lesson with this source, by name.

    Raises:
        CourseError: The lesson has not been built, or an answer file does not fit it.
    """
    lesson = source.stem
    released = read_notebook(release_path(lesson), "run `course build`")
    nothing = dict.fromkeys(_graded(released), 0.0)
    all_right = Sample("all_right", lesson, _copy(released, "all_right"), _full_marks(released))
    _solve(all_right.notebook, solution_notebook(source))
    found = [all_right, Sample("untouched", lesson, _copy(released, "untouched"), nothing)]
    for path in sorted((course_root() / "grading" / "samples").glob(f"*/{lesson}.toml")):
        student = path.parent.name
        sheet = _read(path)
        notebook = _copy(released, student)
        try:
            _fill_in(notebook, sheet)
        except CourseError as error:
            raise CourseError(f"{path}: {error}") from error
        found.append(Sample(student, lesson, notebook, {**nothing, **_earned(sheet)}))
    return sorted(found, key=lambda sample: sample.student)


def write_samples() -> list[Sample]:
    """Write the samples of all lessons to ``grading/submitted/`` and return them.

    Raises:
        CourseError: A submission that is no sample is in the way. Nothing was written.
    """
    found = [sample for source in graded_sources() for sample in samples(source)]
    for sample in found:
        _require_sample_or_nothing(sample.path)
    for sample in found:
        write_atomically(sample.path, notebook_bytes(sample.notebook))
    return found


def samples_table(found: Sequence[Sample]) -> Table:
    """Return a table of the samples with what they should get."""
    table = Table()
    table.add_column("Sample")
    table.add_column("Lesson")
    table.add_column("Points", justify="right")
    table.add_column("Marked by hand")
    for sample in found:
        points = sum(earned or 0 for earned in sample.earns.values())
        by_hand = (grade_id for grade_id, earned in sample.earns.items() if earned is None)
        table.add_row(sample.student, sample.lesson, f"{points:g}", ", ".join(by_hand))
    return table


def _copy(released: NotebookNode, student: str) -> NotebookNode:
    """Return a copy of the lesson that says whose sample it is."""
    notebook = copy.deepcopy(released)
    notebook.metadata["course"]["sample"] = student
    return notebook


def _cells(notebook: NotebookNode, role: Literal["grade", "solution"]) -> dict[str, NotebookNode]:
    """Return the cells that have a role in grading, by grade id."""
    roles = ((cell, cell.metadata.get("nbgrader", {})) for cell in notebook.cells)
    return {metadata["grade_id"]: cell for cell, metadata in roles if metadata.get(role)}


def _graded(notebook: NotebookNode) -> dict[str, NotebookNode]:
    return _cells(notebook, "grade")


def _full_marks(released: NotebookNode) -> dict[str, float | None]:
    metadata = {grade_id: cell.metadata.nbgrader for grade_id, cell in _graded(released).items()}
    return {
        grade_id: None if cell.solution else float(cell.points)
        for grade_id, cell in metadata.items()
    }


def _earned(sheet: Mapping[str, _Answer]) -> dict[str, float | None]:
    """Return the points of a sheet by the grade id of the cell that gives them."""
    earned: dict[str, float | None] = {}
    for grade_id, answer in sheet.items():
        if answer.earns == "by hand":
            earned[grade_id] = None
        else:
            earned[f"check-{grade_id}"] = answer.earns
    return earned


def _solve(notebook: NotebookNode, solution: NotebookNode) -> None:
    """Write the answers of the solution notebook into the lesson.

    Raises:
        CourseError: The solution has other cells to answer than the lesson.
    """
    answers = _cells(solution, "solution")
    cells = _cells(notebook, "solution")
    if cells.keys() != answers.keys():
        slug = notebook.metadata["course"]["slug"]
        raise CourseError(f"lessons/{slug} is not what its source builds; run `course build`")
    for grade_id, cell in cells.items():
        lines = answers[grade_id].source.split("\n")
        cell.source = "\n".join(
            line for line in lines if line.strip() not in (holes.BEGIN, holes.END)
        )


def _fill_in(notebook: NotebookNode, sheet: Mapping[str, _Answer]) -> None:
    """Write a student's answers into the lesson.

    Raises:
        CourseError: There is no such cell, or it has another number of places for answers.
    """
    cells = _cells(notebook, "solution")
    for grade_id, answer in sheet.items():
        if grade_id not in cells:
            raise CourseError(f"no cell {grade_id} to answer; there are {', '.join(cells)}")
        cell = cells[grade_id]
        if cell.cell_type == "markdown":
            cell.source = "\n\n".join(text.strip() for text in answer.answers)
        else:
            cell.source = _written_below(cell.source, answer.answers, grade_id)


def _written_below(stub: str, answers: Sequence[str], grade_id: str) -> str:
    """Return a stub with an answer below each of its comments, at the comment's indentation."""
    lines = stub.split("\n")
    places = [index for index, line in enumerate(lines) if line.strip() == holes.STUB]
    if len(places) != len(answers):
        raise CourseError(f"{grade_id} has places for {len(places)} answers, not {len(answers)}")
    for index, answer in zip(reversed(places), reversed(answers), strict=True):
        indent = lines[index].removesuffix(holes.STUB)
        lines.insert(index + 1, textwrap.indent(textwrap.dedent(answer).strip("\n"), indent))
    return "\n".join(lines)


def _read(path: Path) -> Mapping[str, _Answer]:
    try:
        return _AnswerSheet.model_validate(tomllib.loads(path.read_text(encoding="utf-8"))).root
    except tomllib.TOMLDecodeError as error:
        raise CourseError(f"{path} is not TOML: {error}; mend that line") from error
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"]))
        raise CourseError(f"{path}: {where}: {first['msg']}") from error


def _require_sample_or_nothing(path: Path) -> None:
    """Raise CourseError if a student's notebook is where a sample is to go."""
    if not path.exists():
        return
    present = read_notebook(path, "move it away")
    if "sample" not in present.metadata.get("course", {}):
        raise CourseError(
            f"{path} was handed in by a student of that name and is no sample; "
            "move it away, or try the samples in another checkout"
        )

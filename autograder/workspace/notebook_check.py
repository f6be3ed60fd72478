"""Checking a whole notebook from the shell: run a copy of it and gather what its checks say."""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nbclient import NotebookClient
from nbclient.exceptions import CellTimeoutError, DeadKernelError
from nbformat import NotebookNode
from rich.table import Table

from autograder import lessons
from autograder.checks.exercise import Exercise
from autograder.checks.report import NOT_YET, PASS, VERDICTS
from autograder.errors import CourseError
from autograder.grading.cells import restored
from autograder.grading.scores import independent, score
from autograder.kernels import OwnKernelManager
from autograder.matching import grade_id, match_cells
from autograder.notebook_files import read_notebook
from autograder.workspace.copies import Lesson, find_lesson, released_lessons

_CHECKED = re.compile(r'check\("([^"]+)"')
_HEADLINE = re.compile(rf".*: ({'|'.join(VERDICTS)})(?:, .*)?$", flags=re.MULTILINE)


@dataclass(frozen=True)
class CheckedCell:
    """What came of one check cell.

    Attributes:
        exercise: What it checks.
        earned: Points that it earned.
        report: What it said, as plain text.
        verdict: Its verdict, one of ``VERDICTS``.
    """

    exercise: Exercise
    earned: float
    report: str
    verdict: str

    @property
    def passed(self) -> bool:
        """Whether all is right."""
        return self.verdict == PASS


def check_notebook(
    path: Path, timeout: int, on_cell: Callable[[int, int], None]
) -> list[CheckedCell]:
    """Run a copy of a learner's notebook from top to bottom; the file itself is not written.

    Args:
        path: The notebook.
        timeout: Seconds that one cell may take.
        on_cell: Called before each cell with its number and the number of cells.

    Raises:
        CourseError: It is not a notebook of this course, has no check, a check cell was edited or
            removed, or it could not be run to the end.
    """
    notebook = read_notebook(path, "open it in JupyterLab and save it, or take your last good copy")
    lesson = lesson_of(notebook, path)
    released = read_notebook(lesson.released, "restore it with `course build`")
    if not any(map(_is_check, released.cells)):
        raise CourseError(
            f"{lesson.name} asks nothing, so there is nothing to check; open it with "
            f"`course lab {_called(lesson)}` and run its cells"
        )
    _require_intact_checks(notebook, released, path, lesson)
    try:
        notebook.cells = restored(notebook.cells, released.cells).cells
    except CourseError as error:
        raise CourseError(f"{path}: {error}") from error
    _run(notebook, path, timeout, on_cell)
    return [_result(cell) for cell in notebook.cells if _is_check(cell)]


def points_by_hand(path: Path) -> float:
    """Return the points of a lesson that a person gives, for answers in words.

    Args:
        path: The lesson's notebook, as a learner has it.

    Raises:
        CourseError: It is not a notebook of this course.
    """
    notebook = read_notebook(path, "open it in JupyterLab and save it, or take your last good copy")
    released = read_notebook(lesson_of(notebook, path).released, "restore it with `course build`")
    roles = [cell.metadata.get("nbgrader", {}) for cell in released.cells]
    by_hand = [role for role in roles if role.get("grade") and role.get("solution")]
    return float(sum(role.get("points", 0) for role in by_hand))


def results_table(name: str, results: list[CheckedCell], by_hand: float = 0) -> Table:
    """Return the results as a table with a row for each check and one for the sum.

    Args:
        name: What was checked.
        results: What came of each check.
        by_hand: The points that no check gives.
    """
    table = Table(title=name)
    table.add_column("Check")
    table.add_column("Points", justify="right")
    table.add_column("Result")
    for result in results:
        exercise = result.exercise
        points = f"{result.earned:g} / {exercise.points:g}" if exercise.points else "practice"
        style = "green" if result.passed else ""
        table.add_row(f"{exercise.id} {exercise.title}", points, result.verdict, style=style)
    table.add_section()
    earned, maximum = sum(r.earned for r in results), sum(r.exercise.points for r in results)
    table.add_row("sum", f"{earned:g} / {maximum:g}", "")
    if by_hand:
        table.add_row("answers in words", f"{by_hand:g} more", "marked by hand")
    return table


def lesson_of(notebook: NotebookNode, path: Path) -> Lesson:
    """Return the lesson that a notebook is.

    It is what the notebook's metadata say. Where a tool has dropped these, as jupytext does, it is
    the lesson of whose check cells it has half at least, else the one that the file is named after.

    Raises:
        CourseError: It is none.
    """
    course = notebook.metadata.get("course")
    slug = course.get("slug") if isinstance(course, dict) else None
    if slug:
        return find_lesson(str(slug))
    texts = {cell.source for cell in notebook.cells}
    known = released_lessons()
    by_cells = (lesson for lesson in known if _has_its_checks(lesson, texts))
    by_name = (lesson for lesson in known if path.stem.startswith(lesson.name))
    lesson = next(itertools.chain(by_cells, by_name), None)
    if lesson is None:
        raise CourseError(
            f"{path} is not a lesson of this course: neither its metadata nor its cells nor its "
            "name say which; open a lesson with `course lab 1`"
        )
    return lesson


def _has_its_checks(lesson: Lesson, texts: set[str]) -> bool:
    """Say whether half of a lesson's check cells at least are among these texts."""
    released = read_notebook(lesson.released, "restore it with `course build`")
    checks = [cell.source in texts for cell in released.cells if _is_check(cell)]
    return bool(checks) and 2 * sum(checks) >= len(checks)


def _require_intact_checks(
    notebook: NotebookNode, released: NotebookNode, path: Path, lesson: Lesson
) -> None:
    """Raise CourseError if a check is not as it was released, or not there exactly once."""
    pairs = match_cells(released.cells, notebook.cells)
    for position, cell in enumerate(released.cells):
        name = grade_id(cell)
        if not _is_check(cell):
            continue
        copies = sum(grade_id(each) == name for each in notebook.cells)
        if copies > 1:
            raise CourseError(
                f"{path}: the locked cell {name} is there {copies} times; delete the copies"
            )
        mine = notebook.cells[pairs[position]] if position in pairs else None
        if mine is None or (mine.cell_type, mine.source) != (cell.cell_type, cell.source):
            raise CourseError(
                f"{path}: the locked cell {name} {'was edited' if mine else 'is missing'}; "
                f"`course update {_called(lesson)}` puts it back and keeps your answers"
            )


def _called(lesson: Lesson) -> str:
    """Return the shortest that names a lesson on the command line."""
    number = lesson.name.partition("_")[0]
    return str(int(number)) if number.isdecimal() else lesson.name


def _is_check(cell: NotebookNode) -> bool:
    return (grade_id(cell) or "").startswith("check-")


def _run(
    notebook: NotebookNode, path: Path, timeout: int, on_cell: Callable[[int, int], None]
) -> None:
    for cell in notebook.cells:
        # What a check shows must come from this run: nothing is skipped, nothing is left over.
        cell.metadata.pop("tags", None)
        if cell.cell_type == "code":
            cell.outputs = []
    client = NotebookClient(
        notebook,
        timeout=timeout,
        kernel_name="python3",
        kernel_manager_class=OwnKernelManager,
        allow_errors=True,
        # The kernel warns on the terminal that it listens on loopback, which is what is wanted.
        extra_arguments=["--Application.log_level=40"],
        resources={"metadata": {"path": str(path.resolve().parent)}},
    )
    with client.setup_kernel():
        for index, cell in enumerate(notebook.cells):
            on_cell(index, len(notebook.cells))
            written = cell.source
            if _is_check(cell):
                cell.source = independent(written)
            try:
                client.execute_cell(cell, index)
            except CellTimeoutError as error:
                raise CourseError(
                    f"{path}: cell {cell.id} ran longer than {timeout} s; "
                    "look for an endless loop, or allow more with --timeout"
                ) from error
            except DeadKernelError as error:
                raise CourseError(
                    f"{path}: the kernel died in cell {cell.id}; "
                    "it may have run out of memory, or the cell ended the process"
                ) from error
            finally:
                cell.source = written


def _result(cell: NotebookNode) -> CheckedCell:
    checked = _CHECKED.search(cell.source)
    assert checked is not None, "a released check cell calls check(...)"
    exercise = lessons.find(checked[1])
    said = [o.data.get("text/plain", "") for o in _outputs(cell, "display_data")]
    # What is shown below a report, such as a button, has no text.
    reports = list(filter(None, said))
    shown = [o.data.get("text/plain", "") for o in _outputs(cell, "execute_result")]
    # Practice shows a report and no score.
    earned = score(shown[-1], exercise.points) if shown else None if exercise.points else 0.0
    errors = [f"{o.ename}: {o.evalue}" for o in _outputs(cell, "error")]
    reason = "; ".join(errors) or "the cell gave no score"
    report = "\n".join(reports) or f"{exercise.id} {exercise.title}: {reason}"
    return CheckedCell(exercise, earned or 0.0, report, _verdict(reports, earned, exercise.points))


def _verdict(reports: list[str], earned: float | None, maximum: float) -> str:
    """Return the verdict of a check's last report; a pass only with all of its points."""
    headline = _HEADLINE.match(reports[-1]) if reports else None
    if headline is None or (headline[1] == PASS and earned != maximum):
        return NOT_YET
    return headline[1]


def _outputs(cell: NotebookNode, kind: str) -> list[Any]:
    return [output for output in cell.outputs if output.output_type == kind]

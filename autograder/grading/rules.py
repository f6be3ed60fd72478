"""What vanilla nbgrader needs so that only a score earns points, and one submission costs no other.

By its own rules nbgrader gives full marks to a test cell that prints a text, returns NaN, or is
skipped, and none to one that warns. It loses a submission whose score is too high or whose kernel
dies. It stops, with the rest of the class ungraded, at a cell that was pasted twice.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import nbformat
from nbclient.exceptions import CellTimeoutError, DeadKernelError
from nbformat import NotebookNode
from nbformat.v4 import new_output
from nbgrader import utils
from nbgrader.coursedir import CourseDirectory
from nbgrader.preprocessors import Execute, NbGraderPreprocessor
from traitlets import Integer, default

from autograder.grading.cells import GIVEN, restored
from autograder.grading.scores import independent, score
from autograder.paths import released_at

MOST_KERNELS = 3
"""Kernels that one submission may lose before it counts as one that cannot be graded."""


class RestoreReleasedCells(NbGraderPreprocessor):  # type: ignore[misc]  # nbgrader has no types
    """Give every cell the metadata that it was released with, and put back what is missing."""

    def preprocess(
        self, nb: NotebookNode, resources: dict[str, Any]
    ) -> tuple[NotebookNode, dict[str, Any]]:
        """Hold the submission against the released notebook of the same name.

        Raises:
            CourseError: An answer cannot be found because the cells have lost their marks.
        """
        names = resources["nbgrader"]
        released = released_notebook(self, names["assignment"], names["notebook"])
        result = restored(nb.cells, released.cells)
        for note in result.notes:
            self.log.warning("%s, %s: %s", names["student"], names["assignment"], note)
        nb.cells = result.cells
        return nb, resources


def released_notebook(parent: Any, assignment: str, notebook: str) -> NotebookNode:
    """Return a notebook as it was released.

    Args:
        parent: The part of nbgrader that asks; it has the course's configuration.
        assignment: The assignment.
        notebook: Its notebook, without the ending.
    """
    path = release_of(CourseDirectory(parent=parent), assignment, notebook)
    released: NotebookNode = nbformat.read(path, as_version=4)
    return released


def release_of(course: Any, assignment: str, notebook: str) -> Path:
    """Return where a notebook of an assignment was released.

    Args:
        course: nbgrader's course directory.
        assignment: The assignment, such as ``15_comprehensive_quiz``.
        notebook: Its notebook, without the ending.
    """
    folder = Path(course.format_path(course.release_directory, ".", assignment))
    if notebook == assignment:
        return folder.parent / released_at(assignment)
    return folder / f"{notebook}.ipynb"


class ExecuteOnNewKernels(Execute):  # type: ignore[misc]  # nbgrader has no types
    """Execute; where a cell ends the kernel or does not end, run all the others without it.

    Such a cell is left with an error, and what it defined is not there: it earns nothing.
    """

    answer_timeout = Integer(
        20, help="Seconds that a cell may take that the student wrote or changed."
    ).tag(config=True)

    @default("timeout_func")
    def _timeout_func_default(self) -> Callable[[NotebookNode], int | None]:
        return self._seconds_for

    def _seconds_for(self, cell: NotebookNode) -> int | None:
        """Return the seconds that a cell may take: ``timeout`` if it is as it was released."""
        if utils.is_grade(cell) or cell.metadata.get("course") == GIVEN:
            return None if self.timeout is None else int(self.timeout)
        limits = [limit for limit in (self.answer_timeout, self.timeout) if limit]
        return min(limits, default=None)

    def preprocess(
        self, nb: NotebookNode, resources: dict[str, Any], km: Any = None
    ) -> tuple[NotebookNode, dict[str, Any]]:
        """Run the notebook, from the top again after each cell that the kernel did not survive.

        Raises:
            DeadKernelError: More than ``MOST_KERNELS`` kernels were lost.
            CellTimeoutError: Likewise.
        """
        self._fatal: dict[int, Exception] = {}
        while True:
            try:
                executed: tuple[NotebookNode, dict[str, Any]] = super().preprocess(
                    nb, resources, km
                )
            except (DeadKernelError, CellTimeoutError) as error:
                self._fatal[self._index] = error
                if len(self._fatal) > MOST_KERNELS:
                    raise
            else:
                return executed

    def preprocess_cell(
        self, cell: NotebookNode, resources: dict[str, Any], index: int
    ) -> tuple[NotebookNode, dict[str, Any]]:
        """Execute the cell, unless it has cost a kernel before."""
        self._index = index
        if index in self._fatal:
            cell.outputs = [_error(self._fatal[index])]
            return cell, resources
        written = cell.source
        if utils.is_grade(cell) and not utils.is_solution(cell):
            cell.source = independent(written)
        try:
            executed: tuple[NotebookNode, dict[str, Any]] = super().preprocess_cell(
                cell, resources, index
            )
        finally:
            cell.source = written
        return executed

    def on_cell_executed(self, **event: Any) -> None:
        """Take a kernel that was asked to exit for dead: it may still take the next cell.

        Raises:
            DeadKernelError: The cell called ``exit()`` or ``quit()``.
        """
        payload = event["execute_reply"]["content"].get("payload", ())
        if any(item.get("source") == "ask_exit" for item in payload):
            raise DeadKernelError("the cell ended the kernel")
        super().on_cell_executed(**event)


class StrictScores(NbGraderPreprocessor):  # type: ignore[misc]  # nbgrader has no types
    """Leave each automatically graded cell with one valid score or one error, and no warning."""

    def preprocess_cell(
        self, cell: NotebookNode, resources: dict[str, Any], index: int
    ) -> tuple[NotebookNode, dict[str, Any]]:
        """Replace whatever is not one valid score by an error that names it; drop warnings."""
        if cell.cell_type != "code" or not utils.is_grade(cell) or utils.is_solution(cell):
            return cell, resources
        results = _of_type(cell, "execute_result")
        others = [output for output in cell.outputs if output not in results]
        cell.outputs = [output for output in others if output.get("name") != "stderr"]
        if _of_type(cell, "error"):
            return cell, resources
        shown = " and ".join(str(result.data.get("text/plain", "")) for result in results)
        if score(shown, float(cell.metadata.nbgrader.points)) is None:
            gave = shown[:80] or "nothing"
            results = [_error(ValueError(f"the cell gave {gave}, which is not a score"))]
        cell.outputs += results
        return cell, resources


def _of_type(cell: NotebookNode, output_type: str) -> list[NotebookNode]:
    return [output for output in cell.outputs if output.output_type == output_type]


def _error(error: Exception) -> NotebookNode:
    """Return an error as the output of a cell."""
    name, reason = type(error).__name__, str(error).strip()
    output: NotebookNode = new_output(
        "error", ename=name, evalue=reason, traceback=[f"{name}: {reason}"]
    )
    return output

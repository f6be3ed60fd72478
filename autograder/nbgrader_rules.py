"""What vanilla nbgrader needs so that only a score earns points, and one submission costs no other.

By its own rules nbgrader gives full marks to a test cell that prints a text, returns NaN, or is
skipped, and none to one that warns. It loses a submission whose score is too high or whose kernel
dies. It stops, with the rest of the class ungraded, at a cell that was pasted twice.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import nbformat
from nbclient.exceptions import CellTimeoutError, DeadKernelError
from nbformat import NotebookNode
from nbformat.v4 import new_output
from nbgrader import utils
from nbgrader.coursedir import CourseDirectory
from nbgrader.preprocessors import Execute, NbGraderPreprocessor

MOST_KERNELS = 3
"""Kernels that one submission may lose before it counts as one that cannot be graded."""


class RestoreReleasedCells(NbGraderPreprocessor):  # type: ignore[misc]  # nbgrader has no types
    """Give every cell the metadata that it was released with, and put deleted checks back."""

    def preprocess(
        self, nb: NotebookNode, resources: dict[str, Any]
    ) -> tuple[NotebookNode, dict[str, Any]]:
        """Hold the submission against the released notebook of the same name."""
        course = CourseDirectory(parent=self)
        names = resources["nbgrader"]
        folder = course.format_path(course.release_directory, ".", names["assignment"])
        released = nbformat.read(Path(folder, f"{names['notebook']}.ipynb"), as_version=4)
        nb.cells = restored(nb.cells, released.cells)
        return nb, resources


def restored(
    submitted: Sequence[NotebookNode], released: Sequence[NotebookNode]
) -> list[NotebookNode]:
    """Return the submitted cells as they are to be graded.

    A submitted cell is known by its grade id. Where two have the same, the last is the one, as
    nbgrader has it. All metadata that was not released goes: points, roles, tags, schema versions.
    A graded cell that is missing is put back behind the one that came before it.

    Args:
        submitted: The student's cells, in the student's order. Their metadata is replaced.
        released: The released cells.
    """
    official = {_grade_id(cell): cell for cell in released if _grade_id(cell)}
    missing = dict(official)
    for cell in reversed(submitted):
        original = missing.pop(_grade_id(cell), None)
        cell.metadata = NotebookNode()
        if original is not None:
            cell.metadata.nbgrader = copy.deepcopy(original.metadata.nbgrader)
    cells = list(submitted)
    after = 0
    for grade_id, original in official.items():
        if grade_id in missing:
            if not utils.is_grade(original):
                continue
            back = copy.deepcopy(original)
            # The student may have kept the old cell under another grade id.
            back.id = f"restored-{grade_id}"[:64]
            cells.insert(after, back)
        after = 1 + [_grade_id(cell) for cell in cells].index(grade_id)
    return cells


class ExecuteOnNewKernels(Execute):  # type: ignore[misc]  # nbgrader has no types
    """Execute; where a cell ends the kernel or will not stop, run all the others without it.

    Such a cell is left with an error and earns nothing.
    """

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
        executed: tuple[NotebookNode, dict[str, Any]] = super().preprocess_cell(
            cell, resources, index
        )
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


def score(shown: str, maximum: float) -> float | None:
    """Return the score that a test cell's result shows, or None if it shows none.

    >>> score("7.5", 10), score("nan", 10), score("'10'", 10), score("True", 10), score("11", 10)
    (7.5, None, None, None, None)
    """
    try:
        value = float(shown)
    except ValueError:
        return None
    # NaN and the infinities are not between these.
    return value if 0 <= value <= maximum else None


def _grade_id(cell: NotebookNode) -> str:
    return str(cell.metadata.get("nbgrader", {}).get("grade_id", ""))


def _of_type(cell: NotebookNode, output_type: str) -> list[NotebookNode]:
    return [output for output in cell.outputs if output.output_type == output_type]


def _error(error: Exception) -> NotebookNode:
    """Return an error as the output of a cell."""
    name, reason = type(error).__name__, str(error).strip()
    output: NotebookNode = new_output(
        "error", ename=name, evalue=reason, traceback=[f"{name}: {reason}"]
    )
    return output

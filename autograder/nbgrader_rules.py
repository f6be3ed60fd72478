"""What vanilla nbgrader needs so that only a score earns points.

By its own rules nbgrader gives full marks to a test cell that prints a text, returns NaN, or is
skipped, gives none to one that warns, and loses a submission whose score is too high.
"""

from __future__ import annotations

import ast
import math
from typing import Any

from nbconvert.preprocessors import Preprocessor
from nbformat import NotebookNode
from nbformat.v4 import new_output
from nbgrader import utils


class DropStudentMetadata(Preprocessor):
    """Remove tags and other metadata of a student's, such as ``skip-execution``."""

    def preprocess_cell(
        self, cell: NotebookNode, resources: dict[str, Any], index: int
    ) -> tuple[NotebookNode, dict[str, Any]]:
        """Keep nbgrader's own metadata of a cell and nothing else."""
        cell.metadata = NotebookNode(
            {key: value for key, value in cell.metadata.items() if key == "nbgrader"}
        )
        return cell, resources


class StrictScores(Preprocessor):
    """Leave each automatically graded cell with one valid score or one error, and nothing else."""

    def preprocess_cell(
        self, cell: NotebookNode, resources: dict[str, Any], index: int
    ) -> tuple[NotebookNode, dict[str, Any]]:
        """Replace an invalid score by an error that names it; drop warnings."""
        if cell.cell_type != "code" or not utils.is_grade(cell) or utils.is_solution(cell):
            return cell, resources
        cell.outputs = [output for output in cell.outputs if output.get("name") != "stderr"]
        if any(output.output_type == "error" for output in cell.outputs):
            return cell, resources
        results = [output for output in cell.outputs if output.output_type == "execute_result"]
        shown = str(results[-1].data.get("text/plain", "")) if results else "nothing"
        if score(shown, float(cell.metadata.nbgrader.points)) is None:
            message = f"the cell gave {shown[:80]}, which is not a score; it earns nothing"
            cell.outputs.append(
                new_output("error", ename="NoScore", evalue=message, traceback=[message])
            )
        return cell, resources


def score(shown: str, maximum: float) -> float | None:
    """Return the score that a test cell's result shows, or None if it shows none.

    >>> score("7.5", 10), score("nan", 10), score("'10'", 10), score("True", 10), score("11", 10)
    (7.5, None, None, None, None)
    """
    try:
        value = ast.literal_eval(shown)
    except (ValueError, SyntaxError):
        return None
    if type(value) not in (int, float):
        return None
    return float(value) if math.isfinite(value) and 0 <= value <= maximum else None

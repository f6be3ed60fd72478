"""The Validate button and ``nbgrader validate``: the same rules as grading, before handing in."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from nbformat import NotebookNode
from nbgrader.preprocessors import ClearOutput, NbGraderPreprocessor
from nbgrader.validator import Validator

from autograder.errors import CourseError
from autograder.grading.cells import restored
from autograder.grading.rules import ExecuteOnNewKernels, StrictScores
from autograder.kernels import OwnKernelManager
from autograder.notebook_files import read_notebook, unix_lines
from autograder.workspace.notebook_check import lesson_of


class RestoreLesson(NbGraderPreprocessor):  # type: ignore[misc]  # nbgrader has no types
    """Give the cells of a lesson what grading gives them back; leave other notebooks alone."""

    def preprocess(
        self, nb: NotebookNode, resources: dict[str, Any]
    ) -> tuple[NotebookNode, dict[str, Any]]:
        """Hold the notebook against the lesson that it is.

        Raises:
            CourseError: An answer cannot be found because the cells have lost their marks.
        """
        unix_lines(nb)
        try:
            lesson = lesson_of(nb, Path())
        except CourseError:
            return nb, resources
        released = read_notebook(lesson.released, "restore it with `course build`")
        nb.cells = restored(nb.cells, released.cells).cells
        return nb, resources


def configure(config: Any) -> None:
    """Set how nbgrader runs notebooks, and let it validate them by the rules that it grades by.

    Args:
        config: The ``get_config()`` of an ``nbgrader_config.py``.
    """
    # A cell that does not end costs its item: it is not interrupted half way, but left out.
    config.Execute.interrupt_on_timeout = False
    config.Execute.timeout = 120
    # The kernel warns on the terminal that it listens on loopback, which is what is wanted.
    config.Execute.extra_arguments = ["--Application.log_level=40"]
    config.Execute.kernel_manager_class = OwnKernelManager
    # nbgrader has no setting for these.
    Validator.preprocessors.default_args[0][:] = [
        RestoreLesson,
        ClearOutput,
        ExecuteOnNewKernels,
        StrictScores,
    ]

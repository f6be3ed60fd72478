"""Reading what was handed in, and knowing which of it has been graded to the end."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

from nbconvert.exporters import NotebookExporter
from nbformat import NotebookNode
from nbgrader.preprocessors import NbGraderPreprocessor

from autograder.grading.rules import release_of
from autograder.notebook_files import read_notebook

GRADED = "graded"
"""What the metadata of a notebook say under ``course`` once its grades are in the gradebook."""


class SubmissionExporter(NotebookExporter):
    """Reads notebooks as ``course check`` does: byte-order marks, UTF-16, doubled cell ids.

    The converter makes its exporter when it has found the submissions, and before it asks which of
    them are graded: those of which only a half was written, because the grader was killed, are not.
    """

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)  # type: ignore[no-untyped-call]
        for submission, notebooks in getattr(self.parent, "assignments", {}).items():
            self._forget_if_half_graded(Path(submission), [Path(each).name for each in notebooks])

    def from_file(self, file_stream: Any, resources: Any = None, **options: Any) -> Any:
        """Convert a notebook that may begin with a byte-order mark or be written in UTF-16.

        Raises:
            CourseError: It is not a notebook of format 4.
        """
        notebook = read_notebook(Path(file_stream.name), "ask for it again")
        return self.from_notebook_node(  # type: ignore[no-untyped-call]
            notebook, resources=resources, **options
        )

    def _forget_if_half_graded(self, submission: Path, notebooks: list[str]) -> None:
        """Delete the folder of a submission whose grading was not finished."""
        course: Any = getattr(self.parent, "coursedir", None)
        student, assignment = submission.parent.name, submission.name
        folder = Path(course.format_path(course.autograded_directory, student, assignment))
        # Of other notebooks nothing is graded, so nothing is missing.
        graded = (
            is_graded(folder / name)
            for name in notebooks
            if release_of(course, assignment, Path(name).stem).exists()
        )
        if folder.is_dir() and not all(graded):
            self.log.warning("%s was left half graded; it is graded again", submission)
            shutil.rmtree(folder)


class MarkAsGraded(NbGraderPreprocessor):  # type: ignore[misc]  # nbgrader has no types
    """Note in the notebook that its grades are in the gradebook: the last step of all."""

    def preprocess(
        self, nb: NotebookNode, resources: dict[str, Any]
    ) -> tuple[NotebookNode, dict[str, Any]]:
        """Write the note that ``is_graded`` reads."""
        nb.metadata["course"] = GRADED
        return nb, resources


def is_graded(notebook: Path) -> bool:
    """Return whether an autograded notebook was written to its end."""
    try:
        metadata = json.loads(notebook.read_bytes())["metadata"]
        return bool(metadata["course"] == GRADED)
    except (OSError, ValueError, KeyError, TypeError):
        return False

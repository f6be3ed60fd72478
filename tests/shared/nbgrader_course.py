"""A course directory in which the real nbgrader runs, with this checkout's configuration."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any
from unittest.mock import patch

import nbformat
from nbformat import NotebookNode
from nbgrader.apps import NbGraderAPI
from traitlets.config.loader import PyFileConfigLoader

from autograder.files import write_atomically
from autograder.notebook_files import notebook_bytes


class Course:
    """A course directory with one assignment, and nbgrader's API on it."""

    def __init__(self, root: Path, assignment: str, timeout: int = 60) -> None:
        self.root = root
        self.assignment = assignment
        config = PyFileConfigLoader("nbgrader_config.py", path=str(root)).load_config()
        config.Execute.timeout = timeout
        self.api = NbGraderAPI(config=config)

    def release(self, solution: NotebookNode) -> None:
        """Run ``nbgrader generate_assignment`` on a solution notebook."""
        name = f"{self.assignment}.ipynb"
        source = self.root / "solutions" / self.assignment / name
        write_atomically(source, notebook_bytes(solution))
        result = self.api.generate_assignment(self.assignment)
        assert result["success"], result

    @property
    def released(self) -> NotebookNode:
        """The released notebook, as a student opens it."""
        path = self.root / "lessons" / self.assignment / f"{self.assignment}.ipynb"
        notebook: NotebookNode = nbformat.read(path, as_version=4)
        return notebook

    def submission(self, student: str) -> Path:
        """Where a student's notebook is."""
        folder = self.root / "grading" / "submitted" / student / self.assignment
        return folder / f"{self.assignment}.ipynb"

    def submit(self, student: str, notebook: NotebookNode) -> None:
        """Hand a notebook in."""
        write_atomically(self.submission(student), notebook_bytes(notebook))

    def grade(self, student: str = "*") -> dict[str, Any]:
        """Run ``nbgrader autograde --force``; return what it says."""
        return self._autograde(student, force=True)

    def grade_the_rest(self, student: str = "*") -> dict[str, Any]:
        """Run ``nbgrader autograde``, which skips what it has graded; return what it says."""
        return self._autograde(student, force=False)

    def _autograde(self, student: str, force: bool) -> dict[str, Any]:
        # When a kernel dies, nbgrader leaves NBGRADER_EXECUTION behind, and whatever runs later in
        # this process has no workspace.
        with patch.dict(os.environ):
            result: dict[str, Any] = self.api.autograde(self.assignment, student, force=force)
        return result

    def points(self, student: str) -> dict[str, float | None]:
        """Return the automatic scores in the gradebook, by grade id; None waits for a person."""
        with self.api.gradebook as gradebook:
            (notebook,) = gradebook.find_submission(self.assignment, student).notebooks
            return {grade.name: grade.auto_score for grade in notebook.grades}

    def autograded(self, student: str) -> str:
        """Return the notebook that autograding wrote."""
        folder = self.root / "grading" / "autograded" / student / self.assignment
        return (folder / f"{self.assignment}.ipynb").read_text(encoding="utf-8")

"""What feedback and formgrader show beside the notebook: names of exercises, and how to mark."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any

import nbformat
from nbconvert.exporters import HTMLExporter
from nbconvert.preprocessors import Preprocessor
from nbformat import NotebookNode
from nbformat.v4 import new_markdown_cell
from nbgrader.coursedir import CourseDirectory

from autograder.grading.rules import released_notebook
from autograder.matching import grade_id, is_marked, nbgrader_metadata

_WIDGET = "application/vnd.jupyter.widget-view+json"

SCHEME = "**Mark scheme.**"
"""How the paragraph of a model answer begins that says what earns each point."""


class ShowStaticTwins(Preprocessor):
    """Show of each widget what stands beside it: a widget itself lives with its kernel only."""

    def preprocess_cell(
        self, cell: NotebookNode, resources: dict[str, Any], index: int
    ) -> tuple[NotebookNode, dict[str, Any]]:
        """Drop the widget from outputs that have HTML or a picture too."""
        for output in cell.get("outputs", []):
            data = output.get("data", {})
            if any(kind == "text/html" or kind.startswith("image/") for kind in data):
                data.pop(_WIDGET, None)
        return cell, resources


class ShowNamesAndSchemes(Preprocessor):
    """Put its name above each graded cell, and below each written answer how it is marked.

    Formgrader, which has instructors for readers, shows the model answer too.
    """

    def preprocess(
        self, nb: NotebookNode, resources: dict[str, Any]
    ) -> tuple[NotebookNode, dict[str, Any]]:
        """Add the cells. They are shown, and written nowhere."""
        graded = resources.get("nbgrader", {})
        assignment = graded.get("assignment") or resources.get("assignment_id")
        notebook = graded.get("notebook") or resources.get("notebook_id")
        if not assignment or not notebook:
            return nb, resources
        try:
            names = titles(released_notebook(self, assignment, notebook).cells)
        except OSError:
            # The lesson is not there any more; the notebook is shown as it is.
            return nb, resources
        answers = self._model_answers(assignment, notebook)
        resources["exercise_names"] = names
        nb.cells = list(_with_names_and_schemes(nb.cells, names, answers, bool(graded)))
        return nb, resources

    def _model_answers(self, assignment: str, notebook: str) -> dict[str, str]:
        """Return the model answers of the written exercises, by grade id, if they were built."""
        course = CourseDirectory(parent=self)
        folder = course.format_path(course.source_directory, ".", assignment)
        try:
            solution = nbformat.read(Path(folder, f"{notebook}.ipynb"), as_version=4)
        except OSError:
            return {}
        return {str(grade_id(cell)): cell.source for cell in solution.cells if is_marked(cell)}


class FeedbackExporter(HTMLExporter):
    """Lists exercises by their names at the top of the feedback, where nbgrader has "Test cell"."""

    def from_notebook_node(self, nb: NotebookNode, resources: Any = None, **options: Any) -> Any:
        """Convert a notebook to the page that a student gets."""
        page: Any
        page, resources = super().from_notebook_node(nb, resources, **options)
        names = resources.get("exercise_names", {})

        def named(link: re.Match[str]) -> str:
            return f"{link[1]}{escape(names.get(link[2], link[3]))}</a> (Score"

        return re.sub(r'(<a href="#([\w.-]+)">)([^<]+)</a> \(Score', named, page), resources


def titles(released: Sequence[NotebookNode]) -> dict[str, str]:
    """Return what each graded cell is about: the heading that it stands below, by grade id."""
    found = {}
    heading = ""
    for cell in released:
        name = grade_id(cell)
        if name is not None and nbgrader_metadata(cell).get("grade"):
            found[name] = heading or name
        if cell.cell_type == "markdown":
            headings = re.findall(r"^#{1,6}[ \t]+(\S.*)$", cell.source, flags=re.MULTILINE)
            heading = headings[-1].strip() if headings else heading
    return found


def _with_names_and_schemes(
    cells: Sequence[NotebookNode],
    names: Mapping[str, str],
    answers: Mapping[str, str],
    is_for_student: bool,
) -> Iterator[NotebookNode]:
    for cell in cells:
        name = str(grade_id(cell))
        if name in names:
            yield new_markdown_cell(f"**{names[name]}**")
        yield cell
        if is_marked(cell) and name in answers:
            answer, _, scheme = answers[name].partition(SCHEME)
            if not is_for_student:
                yield new_markdown_cell(f"**Model answer.** {answer.strip()}")
            if scheme:
                yield new_markdown_cell(f"{SCHEME} {scheme.strip()}")

"""What a sample submission earns when its cells are run, without nbgrader."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from nbformat import NotebookNode

from autograder.build import notebooks as building
from autograder.build.samples import Sample, samples


def sample_of(slug: str, student: str) -> Sample:
    """Return the sample of a lesson that a student wrote."""
    (source,) = (each for each in building.sources() if each.stem == slug)
    (sample,) = (each for each in samples(source) if each.student == student)
    return sample


def marked_by_machine(sample: Sample) -> Mapping[str, float]:
    """Return the points that a sample says it earns, by the cell of its check."""
    return {name: float(points) for name, points in sample.earns.items() if points is not None}


def points_of(sample: Sample, folder: Path, needed: tuple[str, ...] = ()) -> Mapping[str, float]:
    """Return the points that the checks give to the answers of a sample.

    Args:
        sample: The submission. Its first cell with code, its answers and its checks are run.
        folder: Where the code is written to: Triton reads a kernel's source from its file.
        needed: How the other cells begin that answers build on.
    """
    code = [cell for cell in sample.notebook.cells if cell.cell_type == "code"]
    scope: dict[str, Any] = {"__name__": "__main__"}
    earned = {}
    exec(code[0].source, scope)
    for cell in code[1:]:
        graded = cell.metadata.get("nbgrader", {})
        if graded.get("grade"):
            earned[cell.id] = float(eval(cell.source, scope)) if _was_answered(cell, scope) else 0.0
        elif graded.get("solution") or cell.source.startswith(("import", *needed)):
            path = folder / f"{cell.id}.py"
            path.write_text(cell.source)
            with contextlib.suppress(NameError):
                exec(compile(cell.source, str(path), "exec"), scope)
    return earned


def _was_answered(cell: NotebookNode, scope: Mapping[str, Any]) -> bool:
    """Say whether the name that a check looks at is there: a stub of a kernel defines none."""
    return cell.source.rpartition(", ")[2].rstrip(")") in scope

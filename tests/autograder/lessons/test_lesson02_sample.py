"""Lesson 2: the sample submission is worth what its file says."""

from __future__ import annotations

import contextlib

import pytest

from autograder.build import notebooks as building
from autograder.build.samples import samples
from course_lib.attention.backends.availability import triton_state

SLUG = "02_paged_attention_algorithm"
NEEDED = ("import", "opt_13b, a100 = ")
"""How the cells begin that answers build on."""

if triton_state().mode == "unavailable":
    pytest.skip("some of its exercises are kernels", allow_module_level=True)


def test_the_partly_right_sample_earns_what_it_says(capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (source,) = (each for each in building.sources() if each.stem == SLUG)
    (sample,) = (each for each in samples(source) if each.student == "partly_right")
    code = [cell for cell in sample.notebook.cells if cell.cell_type == "code"]
    scope = {"__name__": "__main__"}
    earned = {}
    exec(code[0].source, scope)
    for cell in code[1:]:
        graded = cell.metadata.get("nbgrader", {})
        if graded.get("grade"):
            earned[cell.id] = eval(cell.source, scope) if _was_answered(cell, scope) else 0.0
        elif graded.get("solution") or cell.source.startswith(NEEDED):
            # Triton reads a kernel's source from its file.
            path = tmp_path / f"{cell.id}.py"
            path.write_text(cell.source)
            with contextlib.suppress(NameError):
                exec(compile(cell.source, str(path), "exec"), scope)
    by_machine = {name: points for name, points in sample.earns.items() if points is not None}
    assert {name: float(points) for name, points in earned.items()} == by_machine
    assert "Gives the same values as: heads dealt in turn" in capsys.readouterr().out


def _was_answered(cell, scope):
    """Say whether the name that a check looks at is there: a stub of a kernel defines none."""
    return cell.source.rpartition(", ")[2].rstrip(")") in scope

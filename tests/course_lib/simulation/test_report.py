"""Reports: a folder that is whole or not there, with whatever drawings it is given."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from course_lib.simulation import SimulationResult
from course_lib.simulation.experiments import Comparison
from course_lib.simulation.report import (
    totals_line,
    write_comparison_report,
    write_report,
    write_sweep_report,
)
from course_lib.simulation.setup import Setup, figures, run
from course_lib.simulation.sweep import SweepPoint

SETUP = Setup(requests=5, output_tokens=10)


@pytest.fixture(scope="module")
def result() -> SimulationResult:
    """A small simulation."""
    return run(SETUP, None)


class Pencil:
    """A drawing that is a line of text."""

    def savefig(self, fname: Path, *, dpi: float) -> None:
        fname.write_text(f"{dpi:g} dots per inch")


class BrokenPencil:
    """A drawing that cannot be saved."""

    def savefig(self, fname: Path, *, dpi: float) -> None:
        fname.write_text("half")
        raise OSError("no space left")


def test_every_drawing_is_saved_and_shown(result: SimulationResult, tmp_path: Path) -> None:
    folder = tmp_path / "report"
    drawings = {"b.png": Pencil(), "a.png": Pencil()}
    write_report(folder, SETUP, "five", result, figures(SETUP, result), drawings)
    page = (folder / "report.md").read_text()
    assert page.index("![b](b.png)") < page.index("![a](a.png)")
    assert (folder / "a.png").read_text() == "120 dots per inch"
    assert totals_line(SETUP, figures(SETUP, result)) in page
    assert json.loads((folder / "summary.json").read_text())["source"] == "five"


@pytest.mark.parametrize("kind", ["report", "sweep", "comparison"])
def test_what_is_there_is_not_overwritten(
    kind: str, result: SimulationResult, tmp_path: Path
) -> None:
    def write() -> None:
        if kind == "report":
            write_report(tmp_path, SETUP, "five", result, figures(SETUP, result), {})
        elif kind == "sweep":
            write_sweep_report(tmp_path, "rate", [SweepPoint(SETUP, {})], {})
        else:
            write_comparison_report(tmp_path, Comparison("t", "s", {"a": result}, ()), {})

    with pytest.raises(FileExistsError, match="is there already; remove it"):
        write()
    assert list(tmp_path.iterdir()) == []


def test_half_a_report_is_none(result: SimulationResult, tmp_path: Path) -> None:
    comparison = Comparison("t", "s", {"a": result}, ("makespan",))
    with pytest.raises(OSError, match="no space left"):
        write_comparison_report(tmp_path / "new", comparison, {"x.png": BrokenPencil()})
    assert list(tmp_path.iterdir()) == []

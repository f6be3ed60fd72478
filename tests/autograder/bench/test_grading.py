"""``course bench grading``: what it hands in, and what its table says."""

from __future__ import annotations

from io import StringIO
from pathlib import Path

import pytest
from rich.console import Console

from autograder.bench import grading
from autograder.bench.grading import GradingReport, GradingTime, run_grading_suite
from autograder.errors import CourseError
from autograder.matching import grade_id, is_answer
from autograder.notebook_files import read_notebook

LESSON = grading.LESSON


@pytest.fixture
def programs(monkeypatch: pytest.MonkeyPatch) -> list[tuple[Path, tuple[str, ...]]]:
    """Let no program run; return what would have run, with where."""
    ran: list[tuple[Path, tuple[str, ...]]] = []

    def timed(root: Path, *arguments: str) -> float:
        ran.append((root, arguments))
        if "--submitted" in arguments:
            look_at(Path(arguments[arguments.index("--submitted") + 1]))
        return 30.0 if "autograde" in arguments else 10.0

    seen: dict[str, list[str]] = {}

    def look_at(folder: Path) -> None:
        for path in sorted(folder.glob("*/*/*.ipynb")):
            cells = read_notebook(path, "write it").cells
            answers = "\n".join(c.source for c in cells if is_answer(c) and c.cell_type == "code")
            texts = "\n".join(c.source for c in cells if grade_id(c) == "answer-1-6")
            seen.setdefault(f"{folder.name} answers", []).append(answers)
            seen.setdefault(f"{folder.name} texts", []).append(texts)

    monkeypatch.setattr(grading, "_timed", timed)
    monkeypatch.setattr(grading, "_seen", seen, raising=False)
    return ran


def test_copies_are_alike_or_written_anew(
    programs: list[tuple[Path, tuple[str, ...]]],
) -> None:
    steps: list[tuple[int, int]] = []
    report = run_grading_suite(lambda done, all_: steps.append((done, all_)), LESSON, 6, 2)
    assert steps == [(1, 4), (2, 4), (3, 4), (4, 4)]
    commands = [arguments[1] if arguments[0] == "-m" else "course" for _, arguments in programs]
    assert commands == ["nbgrader", "nbgrader", "course", "course", "course"]
    seen = grading._seen  # type: ignore[attr-defined]
    assert len(set(seen["copies texts"])) == 6
    assert len(set(seen["copies answers"])) == 3
    # Of the third that is untouched, nothing is written, and so nothing is written anew.
    assert len(set(seen["own answers"])) == 5
    assert [row.copies for row in report.rows] == [2, 6, 6, 6]
    assert [row.ratio for row in report.rows] == [None, 9.0, 9.0, None]
    assert report.rows[0].per_minute == 4


def test_its_table_says_what_was_measured() -> None:
    rows = (GradingTime("one", 2, 30.0), GradingTime("two", 60, 60.0, 15.0))
    console = Console(file=StringIO(), width=160)
    console.print(GradingReport("a machine", LESSON, rows).table())
    assert isinstance(console.file, StringIO)
    shown = console.file.getvalue()
    assert "60.0" in shown
    assert "15.0" in shown


def test_a_lesson_that_is_not_there_is_named() -> None:
    with pytest.raises(CourseError, match="99_nothing"):
        run_grading_suite(lesson="99_nothing")


def test_a_program_that_fails_is_told_of(tmp_path: Path) -> None:
    with pytest.raises(CourseError, match="it went wrong"):
        grading._timed(tmp_path, "-c", "raise SystemExit('it went wrong')")

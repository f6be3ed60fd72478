"""One exercise across a class, and ``course report``, which judges nothing."""

from __future__ import annotations

import csv
import io
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console
from typer.testing import CliRunner

from autograder import cli
from autograder.commands import report as report_command
from autograder.errors import CourseError
from autograder.sealed import batch as batches
from autograder.sealed.across import across, class_by_exercise, exercise_csv, groups
from autograder.sealed.batch import Batch
from standing_judges import Judges

ROSTER = """student,name,email,due 1
*,,,2026-11-20 18:00
ada,"=Lovelace, Ada",ada@example.org,
bob,Bob,,2026-11-22 18:00
"""


@pytest.fixture
def batch(make_batch: Callable[[], Batch], judges: Judges) -> Batch:
    found = make_batch()
    for _ in found.grade(judges):
        pass
    return found


@pytest.fixture
def report(
    course: Callable[..., tuple[int, str]],
    submitted: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> Callable[..., tuple[int, str]]:
    """Run ``course report`` on the class; return the exit code and what it prints."""
    # A console takes its width from the terminal, and for good where COLUMNS is set as it is made.
    monkeypatch.setattr(report_command, "console", Console(width=160))

    def run(*options: str) -> tuple[int, str]:
        folders = ["--submitted", str(submitted), "--results", str(tmp_path / "sealed")]
        done = CliRunner().invoke(cli.app, ["report", *options, *folders])
        error = done.exception if isinstance(done.exception, CourseError) else ""
        assert error or done.exit_code == 0, done.exception
        return done.exit_code, f"{done.output}{error}"

    return run


def test_one_exercise_across_a_class(batch: Batch) -> None:
    rows = across(batch.graded(), "1.half", batch.submissions())
    found = [(row.student, row.item.points, row.status, row.misconception) for row in rows]
    assert found == [
        ("=eve", 5, "PASS", ""),
        ("ada", 5, "PASS", ""),
        ("bob", 0, "FAIL", "forgets to return"),
        ("zoe", None, "QUARANTINED", ""),
    ]
    assert rows[3].says == "not gradable"
    (first, answer, same), (second, *_) = groups(rows)
    assert first == "=eve, ada: PASS"
    assert answer == "def half(x):\n    return x / 2"
    assert [row.student for row in same] == ["=eve", "ada"]
    assert second == "bob: FAIL, forgets to return"


def test_a_text_across_a_class_is_what_was_written(batch: Batch) -> None:
    rows = across(batch.graded(), "text", batch.submissions())
    assert [row.answer for row in rows] == ["Because.", "Because.", "Because.", ""]
    assert {row.item.points for row in rows} == {None}


def test_an_exercise_that_is_none(batch: Batch) -> None:
    with pytest.raises(CourseError, match=r"no exercise '1.x' with points; it has 1.double, 1.h"):
        across(batch.graded(), "1.x")


def test_what_a_class_holds_by_exercise(batch: Batch) -> None:
    console = Console(width=140, record=True, file=io.StringIO())
    console.print(class_by_exercise(batch.graded()))
    lines = [line.split() for line in console.export_text().splitlines()]
    (half,) = (line for line in lines if "1.half" in line)
    assert [word for word in half if word != "│"] == [
        *("1.half", "2", "1", "1"),
        *("1", "x", "forgets", "to", "return"),
    ]


def test_a_csv_file_of_an_exercise_holds_no_formula(batch: Batch) -> None:
    text = exercise_csv(batch.graded(), "1.half")
    rows = list(csv.DictReader(io.StringIO(text)))
    assert rows[0]["student"] == "'=eve"
    assert [row["points"] for row in rows] == ["5", "5", "0", ""]
    assert rows[2]["misconception"] == "forgets to return"
    assert all(line.startswith('"') and line.endswith('"') for line in text.splitlines())


def test_the_report_of_a_class(
    course: Callable[..., tuple[int, str]],
    report: Callable[..., tuple[int, str]],
    judges: Judges,
    submitted: Path,
    tmp_path: Path,
) -> None:
    code, said = report("01_small")
    assert (code, "run `course grade 01_small`" in said) == (1, True)
    course()
    number = len(judges.judged)
    for student in ("ada", "bob"):
        stamp = submitted / student / "01_small" / "timestamp.txt"
        stamp.write_text("2026-11-21 18:00:00 UTC")
    (submitted / "=eve" / "01_small" / "collected.json").write_text('{"is_late": true}')
    roster = tmp_path / "grading" / "roster.csv"
    roster.parent.mkdir(exist_ok=True)
    roster.write_text(ROSTER)
    code, said = report("01_small", "--csv", str(tmp_path / "csv"))
    assert code == 0
    for words in ("ada (=Lovelace, Ada)", "1 d", "late", "1 x forgets to return", "3 CSV files"):
        assert words in said
    assert len(judges.judged) == number
    with (tmp_path / "csv" / "01_small-1.half.csv").open() as file:
        rows = {row["student"]: row for row in csv.DictReader(file)}
    assert rows["ada"]["late"] == "late by 1 d"
    assert rows["ada"]["name"] == "'=Lovelace, Ada"
    assert rows["bob"]["late"] == ""
    assert rows["'=eve"]["late"] == "late"


def test_the_report_names_who_is_not_graded_yet(
    course: Callable[..., tuple[int, str]],
    report: Callable[..., tuple[int, str]],
    hand_in: Callable[..., Path],
    answered: list[dict[str, Any]],
) -> None:
    course()
    answered[2]["source"] = "def double(x):\n    return x + x"
    hand_in(answered, "new")
    _, said = report("01_small")
    assert "not graded yet; `course grade 01_small` does it" in said
    assert " 0 / 20" not in said


def test_one_question_at_a_time(
    course: Callable[..., tuple[int, str]], report: Callable[..., tuple[int, str]]
) -> None:
    course()
    code, said = report("01_small", "--exercise", "1.half", "--answers")
    assert code == 0
    for words in ("0 / 5", "none yet / 5", "=eve, ada: PASS", "return x / 2", "print(x / 2)"):
        assert words in said
    code, said = report("--exercise", "99.1")
    assert (code, "'99' is no lesson; name one by" in said) == (1, True)
    code, said = report()
    assert (code, "name a lesson, or an exercise" in said) == (1, True)


def test_the_report_audits(
    course: Callable[..., tuple[int, str]], report: Callable[..., tuple[int, str]], tmp_path: Path
) -> None:
    course()
    assert report("--audit") == (0, "4 results, each as it was graded and in the log.\n")
    log = tmp_path / "sealed" / "log.jsonl"
    log.write_text(log.read_text().replace("bob", "eve"))
    code, said = report("--audit")
    assert (code, "line 4 of the log was edited" in said) == (1, True)


def test_a_changed_check_names_who_moved_and_keeps_marks_by_hand(
    course: Callable[..., tuple[int, str]],
    judges: Judges,
    database: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    course()
    with sqlite3.connect(database) as gradebook:
        gradebook.execute("UPDATE grade SET manual_score = 4 WHERE auto_score IS NULL")
    gradebook.close()
    monkeypatch.setattr(batches, "check_digest", lambda lesson: "of other checks")
    judges.accepts = "print"
    _, said = course()
    assert "FAIL 0%" in said
    assert "the checks, the library" in said
    with sqlite3.connect(database) as gradebook:
        marks = gradebook.execute(
            "SELECT auto_score, manual_score FROM grade ORDER BY 1, 2"
        ).fetchall()
    gradebook.close()
    assert marks == [(None, 4)] * 3 + [(5, None)] * 3 + [(10, None)] * 3

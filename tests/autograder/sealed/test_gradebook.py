"""Points in nbgrader's gradebook: entered once, marks by hand kept, nothing of a student's runs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import nbformat
import pytest

from autograder.collect.roster import Person, Roster
from autograder.errors import CourseError
from autograder.grading.intake import is_graded
from autograder.sealed import gradebook as gradebooks
from autograder.sealed.batch import Graded
from autograder.sealed.gradebook import COURSE, enter, write_notebooks
from autograder.sealed.intake import Submission, take_in
from autograder.sealed.quarantine import Quarantined
from autograder.sealed.release import Release
from autograder.sealed.score import score, ungraded
from autograder.sealed.verdict import Remark, Status, Verdict

ATTACK = (
    "<script>alert(1)</script> [x](javascript:alert(1)) <img src=x onerror=alert(1)> 1 < 2 "
    r"$\href{javascript:alert(2)}{y}$ $$\unicode{<script>alert(3)</script>}$$"
)
VERDICTS = (
    Verdict("1.double", "check-double", Status.PASS, 1.0),
    Verdict("1.half", "check-half", Status.FAIL, 0.5, "<b>half</b>", (Remark.CELL_FAILED,)),
    Verdict("text", "text", Status.MANUAL),
)


@pytest.fixture
def submission(
    release: Release,
    submitted: Path,
    answered: list[dict[str, Any]],
    hand_in: Callable[..., Path],
) -> Submission:
    answered[7]["source"] = ATTACK
    hand_in(answered)
    taken = take_in(submitted, "ada", release)
    assert isinstance(taken, Submission)
    return taken


def graded(release: Release, verdicts: tuple[Verdict, ...] = VERDICTS) -> Graded:
    scores = {
        "ada": score(release, verdicts),
        "zoe": ungraded(release, Quarantined("zoe", release.lesson, "it is empty")),
    }
    return Graded(release, scores, {"ada": verdicts})


def grades(database: Path, release: Release) -> dict[str, tuple[Any, Any, bool]]:
    from nbgrader.api import Gradebook

    with Gradebook(f"sqlite:///{database}", COURSE) as gradebook:
        (notebook,) = gradebook.find_submission(release.lesson, "ada").notebooks
        return {
            grade.name: (grade.auto_score, grade.manual_score, grade.needs_manual_grade)
            for grade in notebook.grades
        }


def mark_by_hand(database: Path, release: Release, points: float) -> None:
    from nbgrader.api import Gradebook

    with Gradebook(f"sqlite:///{database}", COURSE) as gradebook:
        grade = gradebook.find_grade("text", release.lesson, release.lesson, "ada")
        grade.manual_score = points
        gradebook.db.commit()


def test_points_are_entered_and_marks_by_hand_kept(
    database: Path, release: Release, submitted: Path
) -> None:
    assert enter(graded(release), database, submitted)
    found = grades(database, release)
    assert found["check-double"] == (10, None, False)
    assert found["check-half"] == (2.5, None, False)
    assert found["text"] == (None, None, True)
    mark_by_hand(database, release, 4)
    better = replace(VERDICTS[1], status=Status.PASS, fraction=1.0)
    assert enter(graded(release, (VERDICTS[0], better, VERDICTS[2])), database, submitted)
    again = grades(database, release)
    assert again["check-half"] == (5, None, False)
    assert again["text"] == (None, 4, False)


def test_points_that_somebody_changed_are_entered_again(
    database: Path, release: Release, submitted: Path
) -> None:
    from nbgrader.api import Gradebook

    enter(graded(release), database, submitted)
    before = grades(database, release)
    with Gradebook(f"sqlite:///{database}", COURSE) as gradebook:
        grade = gradebook.find_grade("check-half", release.lesson, release.lesson, "ada")
        grade.auto_score = 5
        gradebook.db.commit()
    assert grades(database, release) != before
    enter(graded(release), database, submitted)
    assert grades(database, release) == before


def test_what_the_gradebook_has_is_not_entered_again(
    database: Path,
    release: Release,
    submitted: Path,
    submission: Submission,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    (submitted / "ada" / release.lesson / "timestamp.txt").write_text("2026-11-20 18:00:00 UTC")
    enter(graded(release), database, submitted)
    entered = []
    monkeypatch.setattr(gradebooks, "_enter_one", lambda *each: entered.append(each))
    enter(graded(release), database, submitted)
    assert entered == []


def test_what_could_not_be_graded_has_no_entry(
    database: Path, release: Release, submitted: Path
) -> None:
    from nbgrader.api import Gradebook, MissingEntry

    enter(graded(release), database, submitted)
    with (
        Gradebook(f"sqlite:///{database}", COURSE) as gradebook,
        pytest.raises(MissingEntry),
    ):
        gradebook.find_submission(release.lesson, "zoe")


def test_the_time_of_submission_is_entered(
    database: Path, release: Release, submitted: Path, submission: Submission
) -> None:
    from nbgrader.api import Gradebook

    for text, year in (("2026-11-20 18:00:00 UTC", 2026), ("yesterday", None)):
        (submitted / "ada" / release.lesson / "timestamp.txt").write_text(text)
        enter(graded(release), database, submitted)
        with Gradebook(f"sqlite:///{database}", COURSE) as gradebook:
            when = gradebook.find_submission(release.lesson, "ada").timestamp
            assert (when.year if when else None) == year


def test_names_due_dates_and_extensions_of_the_roster_are_entered(
    database: Path, release: Release, submitted: Path, submission: Submission
) -> None:
    from nbgrader.api import Gradebook

    (submitted / "ada" / release.lesson / "timestamp.txt").write_text("2026-11-21 18:00 +0100")
    due, extended = datetime(2026, 11, 20, 18, tzinfo=UTC), datetime(2026, 11, 21, tzinfo=UTC)
    known = Roster([Person("*", due={1: due}), Person("ada", "Lovelace, Ada", "ada@example.org")])
    longer = Roster([Person("*", due={1: due}), Person("ada", due={1: extended})])
    late = []
    for roster in (known, longer, known, Roster()):
        enter(replace(graded(release), roster=roster), database, submitted)
        with Gradebook(f"sqlite:///{database}", COURSE) as gradebook:
            found = gradebook.find_submission(release.lesson, "ada")
            late.append(found.total_seconds_late)
            student = found.student
            assert (student.first_name, student.last_name) == ("Ada", "Lovelace")
            assert student.email == "ada@example.org"
    assert late == [23 * 3600, 17 * 3600, 23 * 3600, 23 * 3600]


def test_a_gradebook_that_is_no_database_is_one_line(
    tmp_path: Path, release: Release, submitted: Path
) -> None:
    path = tmp_path / "gradebook.db"
    path.write_bytes(b"no database" * 1000)
    with pytest.raises(CourseError, match=r"cannot write .*gradebook\.db: .*; free some space"):
        enter(graded(release), path, submitted)


def test_a_gradebook_that_does_not_know_the_lesson(
    tmp_path: Path, database: Path, release: Release, submitted: Path
) -> None:
    other = replace(release, lesson="02_other")
    assert not enter(graded(other), database, submitted)
    assert not enter(graded(release), tmp_path / "none.db", submitted)
    assert not (tmp_path / "none.db").exists()


def test_the_notebooks_of_formgrader_and_feedback(
    release: Release, submission: Submission, tmp_path: Path
) -> None:
    record = tmp_path / "shown.json"
    write_notebooks(graded(release), {"ada": submission}, tmp_path / "autograded", record)
    path = tmp_path / "autograded" / "ada" / release.lesson / f"{release.lesson}.ipynb"
    assert is_graded(path)
    notebook = nbformat.read(path, as_version=4)
    nbformat.validate(notebook)
    by_id = {cell.metadata.get("nbgrader", {}).get("grade_id"): cell for cell in notebook.cells}
    (output,) = by_id["check-half"].outputs
    assert output.data["text/plain"] == "1.half: 2.5 of 5 (its cell fails: <b>half</b>)"
    assert "&lt;b&gt;" in output.data["text/html"]
    assert by_id["check-half"].metadata.nbgrader.points == 5
    text = by_id["text"].source
    assert "<script" not in text
    assert "<img" not in text
    assert "javascript:" not in text
    assert "1 < 2" in text


@pytest.mark.parametrize("record_says", [None, b"", b"[]", b'{"ada": 7}'])
def test_a_notebook_is_made_again_if_it_is_not_as_it_was_written(
    release: Release, submission: Submission, tmp_path: Path, record_says: bytes | None
) -> None:
    record, folder = tmp_path / "shown.json", tmp_path / "autograded"
    path = folder / "ada" / release.lesson / f"{release.lesson}.ipynb"

    def write(verdicts: tuple[Verdict, ...] = VERDICTS) -> bytes:
        write_notebooks(graded(release, verdicts), {"ada": submission}, folder, record)
        return path.read_bytes()

    first = write()
    before = path.stat().st_mtime_ns
    assert write() == first
    assert path.stat().st_mtime_ns == before
    path.write_bytes(b"edited")
    assert write() == first
    path.unlink()
    assert write() == first
    better = replace(VERDICTS[1], status=Status.PASS, fraction=1.0)
    assert write((VERDICTS[0], better, VERDICTS[2])) != first
    if record_says is not None:
        record.write_bytes(record_says)
    assert write() == first


def test_a_notebook_says_that_it_was_graded_without_a_box(
    release: Release, submission: Submission, tmp_path: Path
) -> None:
    unboxed = replace(graded(release), is_boxed=False)
    write_notebooks(unboxed, {"ada": submission}, tmp_path, tmp_path / "shown.json")
    path = tmp_path / "ada" / release.lesson / f"{release.lesson}.ipynb"
    assert nbformat.read(path, as_version=4).cells[0].source == "**graded without boxes**"

"""Grading a class: each content once, known results kept, canaries before grades."""

from __future__ import annotations

import contextlib
import csv
import io
import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from nbgrader.api import Gradebook
from rich.console import Console

from autograder import files
from autograder.errors import CourseError
from autograder.files import locked, write_atomically
from autograder.grading import batch as entering
from autograder.sealed import batch as batches
from autograder.sealed.batch import Batch, Graded
from autograder.sealed.box import protections
from autograder.sealed.canaries import RIGHT, UNTOUCHED, deviations
from autograder.sealed.gradebook import COURSE
from autograder.sealed.release import Release
from autograder.sealed.report import class_table, mistakes_table, moves_table, points_csv
from autograder.sealed.verdict import Status, Verdict
from standing_judges import Judges

CLASS = ("ada", "bob", "=eve", "zoe")
LESSON = "01_small"


def grade(batch: Batch, judges: Judges) -> Graded:
    for _ in batch.grade(judges):
        pass
    return batch.graded()


def earned(graded: Graded) -> dict[str, float | None]:
    return {student: score.earned for student, score in graded.scores.items()}


def test_a_class_is_graded_canaries_first_and_each_content_once(
    make_batch: Callable[[], Batch], judges: Judges
) -> None:
    graded = grade(make_batch(), judges)
    assert earned(graded) == {"=eve": 15, "ada": 15, "bob": 10, "zoe": None}
    assert judges.judged == [RIGHT, UNTOUCHED, "=eve", "bob"]
    assert graded.scores["zoe"].notes[0].startswith("it is not JSON")


def test_a_second_run_judges_nothing(make_batch: Callable[[], Batch], judges: Judges) -> None:
    first = grade(make_batch(), judges)
    judges.judged.clear()
    assert make_batch().to_judge() == {}
    again = grade(make_batch(), judges)
    assert judges.judged == []
    assert earned(again) == earned(first)


def test_an_interrupted_run_goes_on_where_it_was(
    make_batch: Callable[[], Batch], judges: Judges
) -> None:
    judges.ends_after = 3
    with pytest.raises(KeyboardInterrupt):
        grade(make_batch(), judges)
    assert judges.judged == [RIGHT, UNTOUCHED, "=eve"]
    judges.judged.clear()
    assert earned(grade(make_batch(), judges))["bob"] == 10
    assert judges.judged == ["bob"]


def test_where_the_machine_fails_nothing_is_stored_and_nobody_gets_a_0(
    make_batch: Callable[[], Batch], judges: Judges
) -> None:
    judges.fails_for = "bob"
    graded = grade(make_batch(), judges)
    assert earned(graded) == {"=eve": 15, "ada": 15, "bob": None, "zoe": None}
    assert graded.scores["bob"].notes == ("the machine failed; grade again",)
    judges.fails_for = ""
    assert earned(grade(make_batch(), judges))["bob"] == 10


def test_another_check_is_another_result(
    make_batch: Callable[[], Batch], judges: Judges, monkeypatch: pytest.MonkeyPatch
) -> None:
    grade(make_batch(), judges)
    monkeypatch.setattr(batches, "check_digest", lambda lesson: "of other checks")
    assert len(make_batch().to_judge()) == 4


def test_who_moves_with_another_check_is_named(
    make_batch: Callable[[], Batch], judges: Judges, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert grade(make_batch(), judges).moves == ()
    monkeypatch.setattr(batches, "check_digest", lambda lesson: "of other checks")
    judges.accepts = "print"
    graded = grade(make_batch(), judges)
    assert [(move.student, move.exercise, move.now.fraction) for move in graded.moves] == [
        ("bob", "1.half", 1)
    ]
    assert graded.moves[0].why == "the checks, the library or a package changed"
    assert earned(graded)["bob"] == 15
    console = Console(width=120, record=True, file=io.StringIO())
    console.print(moves_table(graded))
    assert "FAIL 0%" in console.export_text()


def test_who_gets_a_canary_wrong_gives_no_grades(
    make_batch: Callable[[], Batch], judges: Judges, monkeypatch: pytest.MonkeyPatch
) -> None:
    judges.fails_for = RIGHT
    graded = grade(make_batch(), judges)
    assert graded.scores == {}
    assert graded.deviations[0] == f"the canary {RIGHT!r} was not graded"


def test_a_canary_that_was_judged_wrongly_is_judged_again(
    make_batch: Callable[[], Batch], judges: Judges
) -> None:
    judges.accepts = "def"
    graded = grade(make_batch(), judges)
    assert graded.scores == {}
    assert graded.deviations[0].startswith(f"the submission {UNTOUCHED!r}, which is worth nothing")
    judges.accepts = "return"
    judges.judged.clear()
    assert earned(grade(make_batch(), judges))["ada"] == 15
    assert judges.judged == [UNTOUCHED]


def test_what_canaries_should_not_get(release: Release) -> None:
    passed = Verdict("1.half", "check-half", Status.PASS, 1.0)
    failed = Verdict("1.double", "check-double", Status.TIMEOUT, message="too long")
    assert deviations(release, {RIGHT: [passed], UNTOUCHED: [failed]}) == []
    assert deviations(release, {RIGHT: [failed], UNTOUCHED: [passed]}) == [
        "the course's own answer to 1.double got TIMEOUT too long",
        "the submission 'untouched', which is worth nothing, got 100% of 1.half",
    ]


def test_nobody_has_handed_in(make_batch: Callable[[], Batch], submitted: Path) -> None:
    for student in CLASS:
        (submitted / student).rename(submitted / f".{student}")
    with pytest.raises(CourseError, match="nobody has handed in 01_small"):
        make_batch()


def test_the_report_of_a_class(make_batch: Callable[[], Batch], judges: Judges) -> None:
    graded = grade(make_batch(), judges)
    rows = list(csv.DictReader(io.StringIO(points_csv(graded))))
    assert [row["student"] for row in rows] == ["'=eve", "ada", "bob", "zoe"]
    assert [row["1.half"] for row in rows] == ["5", "5", "0", ""]
    assert [row["by hand"] for row in rows] == ["5", "5", "5", "20"]
    assert "not gradable" in rows[3]["remarks"]
    console = Console(width=120, record=True, file=io.StringIO())
    console.print(class_table(graded))
    console.print(mistakes_table(graded))
    shown = console.export_text()
    for said in ("15 / 20", "forgets to return", "not graded", "it is not JSON"):
        assert said in shown
    assert mistakes_table(graded).row_count == 1


def test_the_command_grades_writes_and_is_a_no_op_the_second_time(
    course: Callable[..., tuple[int, str]], judges: Judges, tmp_path: Path
) -> None:
    code, shown = course()
    assert (code, len(judges.judged)) == (0, 4)
    for said in ("15 / 20", "not graded", "forgets to return", "4 judged now"):
        assert said in shown
    points = (tmp_path / "sealed" / "01_small.csv").read_text("utf-8")
    assert points.count("\n") == 5
    code, shown = course()
    assert (code, len(judges.judged)) == (0, 4)
    assert "0 judged now" in shown
    assert (tmp_path / "sealed" / "01_small.csv").read_text("utf-8") == points


def test_the_command_enters_a_lesson_that_the_gradebook_does_not_know(
    course: Callable[..., tuple[int, str]], tmp_path: Path
) -> None:
    code, shown = course("--no-gradebook")
    assert code == 0
    assert "gradebook.db" not in shown
    assert not (tmp_path / "gradebook.db").exists()
    code, shown = course()
    assert code == 0
    assert "0 judged now" in shown
    assert "The points are in gradebook.db" in shown
    with Gradebook(f"sqlite:///{tmp_path / 'gradebook.db'}", COURSE) as gradebook:
        assert gradebook.find_submission(LESSON, "ada").score == 15


def test_a_lesson_that_cannot_be_entered_keeps_its_results(
    course: Callable[..., tuple[int, str]], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def refuse(lesson: str) -> None:
        raise CourseError(f"no lesson {lesson!r} in solutions/")

    monkeypatch.setattr(entering, "enter_lesson", refuse)
    code, shown = course()
    assert code == 1
    assert "15 / 20" in shown
    assert "no lesson '01_small' in solutions/" in shown
    assert (tmp_path / "sealed" / "01_small.csv").exists()
    assert course("--no-gradebook")[0] == 0


def test_a_lesson_that_another_grader_enters_meanwhile_is_not_entered_twice(
    course: Callable[..., tuple[int, str]],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    fresh: Path,
) -> None:
    database = tmp_path / "gradebook.db"

    @contextlib.contextmanager
    def waits_for_another(path: Path) -> Iterator[None]:
        shutil.copy(fresh, database)
        with locked(path):
            yield

    def twice(lesson: str) -> None:
        raise AssertionError(f"{lesson} is in the gradebook")

    monkeypatch.setattr(files, "locked", waits_for_another)
    monkeypatch.setattr(entering, "enter_lesson", twice)
    assert course()[0] == 0
    with Gradebook(f"sqlite:///{database}", COURSE) as gradebook:
        assert gradebook.find_submission(LESSON, "ada").score == 15


@pytest.mark.parametrize("name", ["1", "01", "small", "01_sm"])
def test_the_command_takes_all_names_of_a_lesson(
    course: Callable[..., tuple[int, str]], name: str
) -> None:
    code, shown = course(lesson=name)
    assert code == 0
    assert "15 / 20" in shown


@pytest.mark.parametrize("name", ["engine", "13", "13_engine", "eng"])
def test_the_command_takes_all_names_of_a_notebook_of_the_final_project(
    course: Callable[..., tuple[int, str]], tmp_path: Path, hand_in: Callable[..., Path], name: str
) -> None:
    released = tmp_path / "lessons" / LESSON / f"{LESSON}.ipynb"
    document = json.loads(released.read_bytes())
    document["metadata"] = {"course": {"slug": "13_engine"}}
    write_atomically(
        tmp_path / "lessons" / "final_project" / "engine.ipynb", json.dumps(document).encode()
    )
    for source in (LESSON, "13_engine"):
        write_atomically(tmp_path / "solutions" / f"{source}.py", b"")
    handed_in = hand_in(b"not JSON", "zoe").parents[1] / "13_engine" / "13_engine.ipynb"
    write_atomically(handed_in, b"not JSON")
    code, shown = course(lesson=name)
    assert code == 0
    assert "13_engine" in shown
    assert "it is not JSON" in shown
    assert (tmp_path / "sealed" / "13_engine.csv").exists()


def test_another_name_is_refused_with_all_lessons(
    course: Callable[..., tuple[int, str]], tmp_path: Path
) -> None:
    for name in ("engine", "playground"):
        write_atomically(tmp_path / "lessons" / "final_project" / f"{name}.ipynb", b"{}")
    code, shown = course(lesson="2")
    assert code == 1
    assert "'2' is no lesson; name one by its number or name: 01_small, engine, playground" in shown
    code, shown = course(lesson="playground")
    assert code == 1
    assert "playground asks nothing, so nobody hands it in; name one of 01_small, engine" in shown


def test_the_command_audits(course: Callable[..., tuple[int, str]], tmp_path: Path) -> None:
    course()
    assert course("--audit")[0] == 0
    log = tmp_path / "sealed" / "log.jsonl"
    log.write_text(log.read_text().replace("bob", "eve"))
    code, shown = course("--audit")
    assert code == 1
    assert "line 4 of the log was edited" in shown


def test_the_command_names_what_would_not_be_graded(
    course: Callable[..., tuple[int, str]], submitted: Path, tmp_path: Path
) -> None:
    (submitted / "max.ipynb").write_text("{}")
    (submitted / "ada" / "another.txt").write_text("")
    code, shown = course()
    assert code == 1
    assert "max.ipynb: it lies two levels too high; move it to" in shown
    assert "another.txt" not in shown
    assert (tmp_path / "sealed" / "01_small.csv").exists()


def test_the_command_says_for_whom_the_machine_failed(
    course: Callable[..., tuple[int, str]], judges: Judges
) -> None:
    judges.fails_for = "bob"
    code, shown = course()
    assert code == 1
    assert "the machine failed for 1 submissions" in shown


def test_the_command_gives_no_grades_where_a_canary_is_wrong(
    course: Callable[..., tuple[int, str]], judges: Judges, tmp_path: Path
) -> None:
    judges.fails_for = RIGHT
    code, shown = course()
    assert code == 1
    assert "no grades: this run gets known submissions wrong" in shown
    assert not (tmp_path / "sealed" / "01_small.csv").exists()


def test_the_command_refuses_without_boxes(
    course: Callable[..., tuple[int, str]], judges: Judges, monkeypatch: pytest.MonkeyPatch
) -> None:
    none = protections.Protection("namespaces", False, True, "bubblewrap is not installed")
    monkeypatch.setattr(protections, "protections", lambda: [none])
    code, shown = course()
    assert (code, judges.judged) == (1, [])
    assert "namespaces: bubblewrap is not installed" in shown
    assert "--unsafe grades without boxes" in shown


def test_the_command_refuses_folders_that_boxes_show(
    course: Callable[..., tuple[int, str]], judges: Judges
) -> None:
    code, said = course("--submitted", "/usr/lib/not-there")
    assert code == 1
    assert "/usr/lib/not-there lies among the files of the system or of Python" in said
    assert judges.judged == []


def test_the_command_says_what_does_not_protect_the_machine(
    course: Callable[..., tuple[int, str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    here = protections.Protection("namespaces", True, True, "no network")
    none = protections.Protection("cgroups", False, False, "nothing holds a box as a whole")
    monkeypatch.setattr(protections, "protections", lambda: [here, none])
    code, shown = course()
    assert code == 0
    assert "Not active here: cgroups: nothing holds a box as a whole." in shown
    assert "no network" not in shown


def test_what_was_graded_without_boxes_says_so_and_is_another_result(
    course: Callable[..., tuple[int, str]], judges: Judges, tmp_path: Path
) -> None:
    code, shown = course("--unsafe")
    assert (code, len(judges.judged)) == (0, 4)
    assert judges.boxed == {False}
    assert "graded without boxes" in shown
    assert '"graded without boxes"' in (tmp_path / "sealed" / "01_small.csv").read_text("utf-8")
    code, shown = course()
    assert (code, len(judges.judged)) == (0, 8)
    assert "graded without boxes" not in shown

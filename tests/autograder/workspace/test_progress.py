"""What a learner has done: kept as plain JSON, added up by lesson, shown, and exported."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from autograder import lessons, notebook
from autograder.checks.answers import right_answer
from autograder.checks.quiz import LETTERS
from autograder.cli import app
from autograder.errors import CourseError
from autograder.lessons.questions import bank
from autograder.workspace import records
from autograder.workspace.progress import LessonProgress, progress_of

RIGHT = 4096 * 2
LESSON = 1


def of(workspace: Path, number: int = LESSON) -> LessonProgress:
    row = progress_of(workspace)[lessons.numbers().index(number)]
    assert isinstance(row, LessonProgress)
    return row


def quiz_answers(wrong: int) -> dict[str, str]:
    """Return the letters of lesson 1's quiz, the first few of them wrong."""
    answers = dict(lessons.find("1.Q").check.reference)
    for question in bank(LESSON).quiz[:wrong]:
        answers[question.id] = next(each for each in LETTERS if each != question.answer)
    return answers


# The record


def test_a_check_is_kept_with_its_points_its_tries_and_when_it_passed(workspace: Path) -> None:
    notebook.check("1.W1", 7)
    assert records.results(workspace, 1)["1.W1"] == {
        "points": 0.0,
        "tries": 1,
        "passed": None,
        "open": [],
    }
    notebook.check("1.W1", RIGHT)
    known = records.results(workspace, 1)["1.W1"]
    assert (known["tries"], known["passed"][:2]) == (2, "20")
    written = workspace / ".course" / "progress" / "01.json"
    assert json.loads(written.read_text(encoding="utf-8")) == {"1.W1": known}


def test_what_was_earned_once_stays_earned(workspace: Path) -> None:
    notebook.check("1.Q", quiz_answers(wrong=1))
    notebook.check("1.Q", quiz_answers(wrong=5))
    known = records.results(workspace, 1)["1.Q"]
    assert known["points"] == pytest.approx(9 / 10 * lessons.find("1.Q").points)
    assert known["passed"] is None
    notebook.check("1.Q", quiz_answers(wrong=0))
    passed = records.results(workspace, 1)["1.Q"]["passed"]
    notebook.check("1.Q", quiz_answers(wrong=3))
    assert records.results(workspace, 1)["1.Q"]["passed"] == passed


@pytest.mark.parametrize("value", [{}, None])
def test_what_was_not_begun_is_not_kept(workspace: Path, value: Any) -> None:
    notebook.check("1.Q", value)
    assert records.results(workspace, 1) == {}


def test_while_a_submission_is_graded_nothing_is_kept(
    workspace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NBGRADER_EXECUTION", "autograde")
    notebook.check("1.W1", RIGHT)
    assert not (workspace / ".course" / "progress").exists()


def test_a_workspace_that_cannot_be_written_does_not_spoil_a_check(workspace: Path) -> None:
    (workspace / ".course" / "progress").write_text("a file where the folder should be")
    assert notebook.check("1.Q", quiz_answers(wrong=0)) == lessons.find("1.Q").points


@pytest.mark.parametrize("damage", ["", "{", "[1]", '{"1.W1": 5}', "\x00"])
def test_a_damaged_record_counts_as_none_and_is_replaced(workspace: Path, damage: str) -> None:
    path = workspace / ".course" / "progress" / "01.json"
    path.parent.mkdir(parents=True)
    path.write_text(damage, encoding="utf-8")
    assert of(workspace).passed == 0
    notebook.check("1.W1", RIGHT)
    assert of(workspace).passed == 1


# What it adds up to


def test_nothing_is_done_at_first(workspace: Path) -> None:
    progress = progress_of(workspace)
    assert len(progress) == len(lessons.numbers())
    assert progress.passed == (0, sum(len(lessons.exercises(n)) for n in lessons.numbers()))
    assert not any(row.is_begun or row.revisit for row in progress)
    exercises = [each for n in lessons.numbers() for each in lessons.exercises(n)]
    assert progress.minutes_left == sum(each.minutes for each in exercises)


def test_a_lesson_adds_up(workspace: Path) -> None:
    for exercise in lessons.exercises(LESSON)[:3]:
        notebook.check(exercise.id, right_answer(exercise.check))
    notebook.check("1.Q", quiz_answers(wrong=3))
    row = of(workspace)
    everything = lessons.exercises(LESSON)
    assert (row.name, row.passed, row.exercises) == ("lesson 1", 3, len(everything))
    assert row.points == pytest.approx(0.7 * lessons.find("1.Q").points)
    assert row.maximum == sum(each.points for each in everything)
    assert row.quiz == (7, 10)
    assert row.minutes_left == sum(each.minutes for each in everything[3:])
    wrong = dict.fromkeys(question.concept for question in bank(LESSON).quiz[:3])
    assert row.revisit == tuple(wrong)


@pytest.mark.parametrize(("wrong", "is_a_pass"), [(0, True), (2, True), (3, False), (10, False)])
def test_a_quiz_that_is_a_pass_leaves_nothing_to_revisit_and_nothing_to_do(
    workspace: Path, wrong: int, is_a_pass: bool
) -> None:
    notebook.check("1.Q", quiz_answers(wrong))
    row = of(workspace)
    assert (row.revisit == ()) == is_a_pass
    assert row.quiz == (10 - wrong, 10)
    assert row.passed == is_a_pass
    minutes = sum(each.minutes for each in lessons.exercises(LESSON))
    assert row.minutes_left == minutes - is_a_pass * lessons.find("1.Q").minutes


@pytest.mark.parametrize("runs", [(1, 5), (5, 1), (1, 5, 1), (4, 2, 3)])
def test_points_and_answers_of_a_quiz_are_of_one_run_the_best(
    workspace: Path, runs: tuple[int, ...]
) -> None:
    for wrong in runs:
        notebook.check("1.Q", quiz_answers(wrong))
    row, best = of(workspace), min(runs)
    assert row.quiz == (10 - best, 10)
    assert row.points == pytest.approx((10 - best) / 10 * lessons.find("1.Q").points)
    known = records.results(workspace, LESSON)["1.Q"]
    assert known["open"] == [question.id for question in bank(LESSON).quiz[:best]]
    assert known["tries"] == len(runs)


def test_of_equal_runs_of_a_quiz_the_latest_is_kept(workspace: Path) -> None:
    right, first, last = quiz_answers(0), bank(LESSON).quiz[0], bank(LESSON).quiz[-1]
    for question in (first, last):
        wrong = next(each for each in LETTERS if each != question.answer)
        notebook.check("1.Q", {**right, question.id: wrong})
    assert records.results(workspace, LESSON)["1.Q"]["open"] == [last.id]


def test_each_part_of_the_comprehensive_quiz_is_a_pass_by_itself(workspace: Path) -> None:
    answers = right_answer(lessons.find("15.D").check)
    notebook.check("15.D", {**answers, "D1": "X", "D2": "X", "D3": "X"})
    row = of(workspace, 15)
    assert (row.passed, row.quiz) == (1, (12, 60))


def test_the_comprehensive_quiz_counts_its_three_parts_and_names_concepts(workspace: Path) -> None:
    answers = right_answer(lessons.find("15.D").check)
    notebook.check("15.D", {**answers, "D3": "X"})
    row = of(workspace, 15)
    assert (row.name, row.quiz) == ("sixty questions", (14, 60))
    assert row.revisit == ("Block management",)


def test_a_part_that_is_won_counts(workspace: Path) -> None:
    before = of(workspace).parts
    folder = workspace / "my_engine"
    folder.mkdir()
    (folder / "kv_bytes_per_token.py").write_text(
        "from course_lib.kv_cache.sizing import *\n\n"
        "def kv_bytes_per_token(model):\n"
        "    heads = 2 * model.num_layers * model.num_kv_heads\n"
        "    return heads * model.head_dim * model.dtype_bytes\n"
    )
    assert of(workspace).parts == (before[0] + 1, before[1])


def test_it_prints_and_a_notebook_shows_it(workspace: Path) -> None:
    notebook.check("1.Q", quiz_answers(wrong=3))
    records.note_journal(workspace, 1, {"confidence": 4, "hours": 3.5})
    shown = notebook.progress()
    (line,) = (each for each in repr(shown).splitlines() if each.startswith("lesson 1 "))
    assert "0 of" in line
    assert "quiz 7 of 10" in line
    assert "revisit" in line
    assert "confidence 4 of 5; 3.5 hours spent" in line
    assert "<td style='text-align:left'>7 of 10</td>" in shown._repr_html_()
    assert shown.summary in shown._repr_html_()


def test_outside_of_a_workspace_it_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(CourseError, match="there is no workspace here; open the lesson"):
        notebook.progress()


# The journal, and the commands


@pytest.fixture
def course(workspace: Path) -> Callable[..., Result]:
    return lambda *arguments: CliRunner().invoke(app, list(arguments))


def test_the_journal_keeps_what_was_written_before(workspace: Path) -> None:
    records.note_journal(workspace, 7, {"confidence": 3, "hard": "who owns a shared block"})
    records.note_journal(workspace, 7, {"confidence": 5})
    entry = records.journal(workspace)["7"]
    assert (entry["confidence"], entry["hard"]) == (5, "who owns a shared block")


@pytest.mark.parametrize(
    ("entry", "says"),
    [
        ({"confidence": 0}, "confidence is 0; give a whole number from 1 to 5"),
        ({"confidence": 6}, "confidence is 6"),
        ({"confidence": 2.5}, "confidence is 2.5"),
        ({"hours": -1}, "hours is -1; give the hours"),
        ({"hours": float("nan")}, "hours is nan"),
        ({"hours": "long"}, "hours is 'long'"),
    ],
)
def test_a_value_out_of_range_changes_nothing(
    workspace: Path, entry: dict[str, Any], says: str
) -> None:
    records.note_journal(workspace, 7, {"confidence": 3})
    before = records.journal(workspace)
    with pytest.raises(CourseError) as caught:
        records.note_journal(workspace, 7, entry)
    assert says in str(caught.value)
    assert records.journal(workspace) == before


def test_the_command_writes_the_journal_and_shows_it(
    workspace: Path, course: Callable[..., Result]
) -> None:
    done = course("journal", "7", "--confidence", "4", "--hours", "3.5", "--hard", "[blocks]")
    assert done.exit_code == 0
    assert "confidence: 4\nhours: 3.5\nhard: [blocks]\n" in done.output
    assert "hard: [blocks]" in course("journal", "7").output
    assert isinstance(course("journal", "8").exception, CourseError)
    assert isinstance(course("journal", "99", "--hours", "1").exception, CourseError)
    assert list(records.journal(workspace)) == ["7"]


def test_the_command_shows_the_progress_and_exports_it(
    workspace: Path, course: Callable[..., Result], tmp_path: Path
) -> None:
    notebook.check("1.W1", RIGHT)
    records.note_journal(workspace, 1, {"goal": "finish lesson 2"})
    path = tmp_path / "progress.json"
    done = course("progress", "--export", str(path))
    assert done.exit_code == 0
    assert "1 of" in done.output
    exported = json.loads(path.read_text(encoding="utf-8"))
    assert exported["lesson 1"]["passed"] == 1
    assert exported["lesson 1"]["journal"]["goal"] == "finish lesson 2"
    assert course("progress").exit_code == 0

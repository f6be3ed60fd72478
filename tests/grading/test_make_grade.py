"""An instructor's way through lesson 1: samples, make grade, formgrader, feedback, export."""

from __future__ import annotations

import csv
import json
import re
import shutil
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from autograder.build.notebooks import sources
from autograder.build.samples import Sample, samples
from autograder.paths import course_root
from autograder.workspace.lab import instructor_server

LESSON = "01_traditional_attention_problems"
STUDENTS = ("all_right", "partly_right", "untouched")
TOKEN = "a-token-for-the-test"
START_SECONDS = 60


@pytest.fixture(scope="session")
def expected() -> dict[str, Sample]:
    """The samples of lesson 1, by student."""
    (source,) = (source for source in sources() if source.stem == LESSON)
    return {sample.student: sample for sample in samples(source)}


def test_the_released_lesson_is_the_committed_one_to_the_byte(graded: Any) -> None:
    name = f"{LESSON}/{LESSON}.ipynb"
    committed = (course_root() / "lessons" / name).read_bytes()
    assert (graded.root / "lessons" / name).read_bytes() == committed
    # The first is written by `course build`, this one by `nbgrader generate_assignment`.
    assert (graded.root / "artifacts" / "release" / name).read_bytes() == committed


@pytest.mark.parametrize(
    ("student", "automatic", "waiting"),
    [("all_right", 90, 10), ("partly_right", 34, 10), ("untouched", 0, 0)],
)
def test_each_sample_gets_exactly_its_points(
    graded: Any, expected: dict[str, Sample], student: str, automatic: float, waiting: float
) -> None:
    points = graded.course.points(student)
    assert points == expected[student].earns
    with graded.course.api.gradebook as gradebook:
        submission = gradebook.find_submission(LESSON, student)
        grades = submission.notebooks[0].grades
        assert submission.score == automatic
        assert submission.max_score == 100
        assert submission.needs_manual_grade is (waiting > 0)
        assert sum(grade.max_score for grade in grades if grade.needs_manual_grade) == waiting


def test_the_log_lists_the_scores(graded: Any) -> None:
    rows = re.findall(r"│ (\w+) +│ +(\d+) / 100 │ +(\d*) │", graded.log)
    assert rows == [("all_right", "90", "10"), ("partly_right", "34", "10"), ("untouched", "0", "")]


def test_a_lesson_is_entered_into_a_gradebook_that_does_not_know_it(graded: Any) -> None:
    entering = f"""
from autograder.errors import CourseError
from autograder.grading.batch import enter_lesson
enter_lesson({LESSON!r})
try:
    enter_lesson("02_none")
except CourseError as error:
    print(error)
"""
    kept = graded.root / "gradebook.kept"
    (graded.root / "gradebook.db").rename(kept)
    try:
        said = graded.run(sys.executable, "-c", entering)
        assert said.startswith("no lesson '02_none' in solutions/"), said
        with graded.course.api.gradebook as gradebook:
            assert gradebook.find_assignment(LESSON).max_score == 100
    finally:
        kept.replace(graded.root / "gradebook.db")


def test_what_lies_elsewhere_is_named_and_the_rest_stays_graded(graded: Any) -> None:
    submitted = graded.root / "grading" / "submitted"
    name = f"{LESSON}.ipynb"
    for path in (f"bob [2]/{LESSON}/{name}", f"__MACOSX/{LESSON}/._{name}", f"zoe/{name}"):
        (submitted / path).parent.mkdir(parents=True)
        (submitted / path).write_text("{}")
    try:
        code, log = graded.attempt("make", "grade")
    finally:
        for student in ("bob [2]", "__MACOSX", "zoe"):
            shutil.rmtree(submitted / student)
    assert code != 0
    for path in ("bob [2]:", "__MACOSX:", f"zoe/{LESSON}.ipynb:"):
        assert f"grading/submitted/{path} " in log
    assert "3 of what was handed in is not as it should be; see above" in log
    assert re.search(r"│ all_right +│ +90 / 100 │", log)


def test_wrong_answers_are_told_what_they_look_like(graded: Any) -> None:
    notebook = json.loads(graded.course.autograded("partly_right"))
    reports = {
        cell["metadata"]["nbgrader"]["grade_id"]: "".join(
            "".join(output.get("data", {}).get("text/plain", "")) for output in cell["outputs"]
        )
        for cell in notebook["cells"]
        if cell["cell_type"] == "code" and cell["metadata"].get("nbgrader", {}).get("grade")
    }
    assert "Gives the same values as: a share of the rest" in reports["check-ex-1-2"]
    assert "not started" in reports["check-ex-1-4"]
    assert "Gives the same values as: each sequence for itself" in reports["check-ex-1-5a"]
    assert "Gives the same values as: every prefill is compute-bound" in reports["check-ex-1-5b"]
    assert "Gives the same values as: one bug is left: head_dim" in reports["check-ex-1-6b"]
    assert "Gives the same values as: the whole block is gone" in reports["check-ex-1-7a"]


@pytest.mark.parametrize("student", STUDENTS)
def test_feedback_shows_the_points_of_every_item(
    graded: Any, expected: dict[str, Sample], student: str
) -> None:
    page = graded.root / "grading" / "feedback" / student / LESSON / f"{LESSON}.html"
    html = " ".join(page.read_text(encoding="utf-8").split())
    earned = {grade_id: points or 0 for grade_id, points in expected[student].earns.items()}
    by_hand = {"answer-1-6": 5, "answer-1-7": 5}
    maxima = {**expected["all_right"].earns, **by_hand}
    assert f"{LESSON} (Score: {sum(earned.values()):.1f} / 100.0)" in html
    shown = re.findall(r'<a href="#([\w-]+)">[^<]+</a> \(Score: ([\d.]+) / ([\d.]+)\)', html)
    assert {grade_id: float(score) for grade_id, score, _ in shown} == earned
    assert {grade_id: float(maximum) for grade_id, _, maximum in shown} == maxima


def feedback_page(graded: Any, student: str) -> Path:
    root: Path = graded.root
    return root / "grading" / "feedback" / student / LESSON / f"{LESSON}.html"


def feedback(graded: Any, student: str) -> str:
    return feedback_page(graded, student).read_text(encoding="utf-8")


def test_feedback_names_the_exercises_and_says_how_texts_are_marked(graded: Any) -> None:
    page = feedback(graded, "partly_right")
    named = re.findall(r'<a href="#([\w-]+)">([^<]+)</a> \(Score', page)
    assert ("check-ex-1-1", "1.1 Bytes per token") in named
    assert ("answer-1-6", "Explain the bugs") in named
    assert not {"Test cell", "Written response"} & {name for _, name in named}
    assert page.count("<strong>Mark scheme.</strong>") == 2
    assert "Model answer" not in page


def figures_of(notebook: str) -> list[str]:
    """Return how the static twins begin of what a notebook shows as widgets: HTML or a picture."""
    outputs = (o for cell in json.loads(notebook)["cells"] for o in cell.get("outputs", []))
    shown = (output.get("data", {}) for output in outputs)
    widgets = (data for data in shown if "application/vnd.jupyter.widget-view+json" in data)
    twins = (data.get("text/html") or data["image/png"] for data in widgets)
    return ["".join(twin).strip()[:100] for twin in twins]


def test_feedback_shows_every_figure_without_its_kernel(graded: Any) -> None:
    page = feedback(graded, "all_right")
    figures = figures_of(graded.course.autograded("all_right"))
    assert len(figures) >= 4
    assert [figure for figure in figures if figure not in page] == []


def test_a_changed_mark_is_in_the_feedback(graded: Any) -> None:
    page = feedback_page(graded, "untouched")
    before = page.read_bytes()

    def mark(points: float | None) -> None:
        with graded.course.api.gradebook as gradebook:
            found = gradebook.find_grade("answer-1-6", LESSON, LESSON, "untouched")
            found.manual_score = points
            gradebook.db.commit()

    mark(4)
    try:
        graded.run("nbgrader", "generate_feedback", LESSON, "--student", "untouched")
        assert "(Score: 4.0 / 100.0)" in page.read_text(encoding="utf-8")
    finally:
        mark(None)
        page.write_bytes(before)


def test_grades_can_be_exported(graded: Any) -> None:
    graded.run("nbgrader", "export", "--to", "grades.csv")
    with (graded.root / "grades.csv").open(newline="", encoding="utf-8") as file:
        rows = {row["student_id"]: (row["score"], row["max_score"]) for row in csv.DictReader(file)}
    assert rows == {
        "all_right": ("90.0", "100.0"),
        "partly_right": ("34.0", "100.0"),
        "untouched": ("0.0", "100.0"),
    }


@pytest.fixture(scope="module")
def formgrader(
    graded: Any, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Callable[[str], str]]:
    """Start the instructor's JupyterLab on the graded checkout; return a function that asks it."""
    folder = tmp_path_factory.mktemp("formgrader")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]

    def ask(path: str) -> str:
        request = urllib.request.Request(
            f"http://127.0.0.1:{port}{path}", headers={"Authorization": f"token {TOKEN}"}
        )
        with urllib.request.urlopen(request, timeout=60) as answer:
            text: str = answer.read().decode()
            return text

    with pytest.MonkeyPatch.context() as patch:
        for name, value in graded.environment.items():
            patch.setenv(name, value)
        patch.setenv("JUPYTER_TOKEN", TOKEN)
        patch.setenv("JUPYTER_RUNTIME_DIR", str(folder / "runtime"))
        server = instructor_server(port, browser=False)
        environment = server.environment
    log = folder / "lab.log"
    with log.open("w") as file:
        process = subprocess.Popen(
            server.command,
            cwd=server.root_dir,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=file,
            stderr=subprocess.STDOUT,
        )
    try:
        deadline = time.monotonic() + START_SECONDS
        while True:
            try:
                ask("/api/status")
                break
            except (urllib.error.URLError, ConnectionError):
                assert process.poll() is None, log.read_text()
                assert time.monotonic() < deadline, log.read_text()
                time.sleep(0.2)
        yield ask
    finally:
        process.kill()
        process.wait()


def test_formgrader_shows_figures_names_model_answers_and_schemes(
    graded: Any, formgrader: Callable[[str], str]
) -> None:
    submitted = json.loads(formgrader(f"/formgrader/api/submitted_notebooks/{LESSON}/{LESSON}"))
    (found,) = (each["id"] for each in submitted if each["student"] == "partly_right")
    page = formgrader(f"/formgrader/submissions/{found}/")
    figures = figures_of(graded.course.autograded("partly_right"))
    assert [figure for figure in figures if figure not in page] == []
    assert "<strong>1.2 How many blocks fit</strong>" in page
    assert page.count("<strong>Model answer.</strong>") == 2
    assert page.count("<strong>Mark scheme.</strong>") == 2
    assert "warning-exchange" not in formgrader("/formgrader/manage_assignments")


def test_formgrader_lists_the_assignment_and_the_submissions(
    formgrader: Callable[[str], str],
) -> None:
    page = formgrader("/formgrader/manage_assignments")
    assert "<title>Formgrader</title>" in page or "Manage Assignments" in page

    (assignment,) = json.loads(formgrader("/formgrader/api/assignments"))
    assert assignment["name"] == LESSON
    assert assignment["max_score"] == 100
    assert assignment["num_submissions"] == 3

    submissions = json.loads(formgrader(f"/formgrader/api/submissions/{LESSON}"))
    listed = {s["student"]: (s["score"], s["needs_manual_grade"]) for s in submissions}
    assert listed == {
        "all_right": (90, True),
        "partly_right": (34, True),
        "untouched": (0, False),
    }

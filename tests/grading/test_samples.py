"""Sample submissions: what a student wrote, put into the lesson as it is released now."""

from __future__ import annotations

from pathlib import Path

import pytest

from autograder import lessons
from autograder.build.notebooks import build, graded_sources, release_path, sources
from autograder.build.samples import Sample, samples, samples_table, write_samples
from autograder.errors import CourseError
from autograder.notebook_files import read_notebook

LESSON = "01_tiny"
SOURCE = """
# %% exercise="1.6a"
exposing_config = None
if exposing_config is None:
    sizes = range(2)
    ### BEGIN SOLUTION
    exposing_config = {"a": 1}
    ### END SOLUTION

# %% check="1.6a"
check("1.6a", exposing_config)

# %% [markdown] answer="1.7" points=3
# The model answer.
"""
ANSWERS = """
[ex-1-6a]
earns = 5
why = "Right."
answers = ['''
for size in sizes:
    exposing_config = {"a": size}
''']

[answer-1-7]
earns = "by hand"
why = "It says nothing."
answers = ["Because."]
"""


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A checkout with a tiny lesson and one student's answers to it."""
    # The exercise is one of the course, whose questions are not in this checkout.
    lessons.find("1.6a")
    monkeypatch.setenv("COURSE_ROOT", str(tmp_path))
    (tmp_path / "lessons").mkdir()
    (tmp_path / "solutions").mkdir()
    repository = Path(__file__).parents[2]
    (tmp_path / "nbgrader_config.py").symlink_to(repository / "nbgrader_config.py")
    source = tmp_path / "solutions" / f"{LESSON}.py"
    source.write_text(SOURCE)
    build(source)
    write_answers(tmp_path, ANSWERS)
    return tmp_path


def write_answers(root: Path, text: str) -> Path:
    path = root / "grading" / "samples" / "kim" / f"{LESSON}.toml"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


def by_student() -> dict[str, Sample]:
    return {sample.student: sample for sample in samples(sources()[0])}


def cell_source(sample: Sample, cell_id: str) -> str:
    (source,) = (cell.source for cell in sample.notebook.cells if cell.id == cell_id)
    return str(source)


def test_an_answer_stands_below_its_comment_and_nothing_else_changes(root: Path) -> None:
    kim = by_student()["kim"]
    assert cell_source(kim, "ex-1-6a").split("\n") == [
        "exposing_config = None",
        "if exposing_config is None:",
        "    sizes = range(2)",
        "    # YOUR CODE HERE",
        "    for size in sizes:",
        '        exposing_config = {"a": size}',
    ]
    assert cell_source(kim, "answer-1-7") == "Because."
    released = read_notebook(release_path(LESSON), "")
    changed = [
        mine.id
        for mine, theirs in zip(kim.notebook.cells, released.cells, strict=True)
        if mine != theirs
    ]
    assert changed == ["ex-1-6a", "answer-1-7"]


def test_two_samples_need_no_file(root: Path) -> None:
    found = by_student()
    assert found["untouched"].notebook.cells == read_notebook(release_path(LESSON), "").cells
    solved = cell_source(found["all_right"], "ex-1-6a")
    assert '    exposing_config = {"a": 1}' in solved
    assert "SOLUTION" not in solved
    assert cell_source(found["all_right"], "answer-1-7") == "The model answer."


def test_each_sample_says_what_it_should_earn(root: Path) -> None:
    found = by_student()
    assert {student: sample.earns for student, sample in found.items()} == {
        "all_right": {"check-ex-1-6a": 5, "answer-1-7": None},
        "untouched": {"check-ex-1-6a": 0, "answer-1-7": 0},
        "kim": {"check-ex-1-6a": 5, "answer-1-7": None},
    }
    assert samples_table(list(found.values())).row_count == 3


@pytest.mark.parametrize(
    ("answers", "message"),
    [
        (ANSWERS.replace("ex-1-6a", "ex-9"), "no cell ex-9 to answer; there are ex-1-6a, answer"),
        (
            ANSWERS.replace("answers = ['''", "answers = ['a = 1', '''"),
            "ex-1-6a has places for 1 answers, not 2",
        ),
        (ANSWERS.replace("earns = 5", "earns = 'much'"), "ex-1-6a.earns"),
        (ANSWERS.replace("why", "because"), "ex-1-6a.why: Field required"),
        ("[", "is not TOML"),
    ],
)
def test_an_answer_file_that_does_not_fit_is_named(root: Path, answers: str, message: str) -> None:
    path = write_answers(root, answers)
    with pytest.raises(CourseError) as caught:
        samples(sources()[0])
    assert str(caught.value).startswith(str(path))
    assert message in str(caught.value)


def test_a_stale_lesson_has_to_be_built_first(root: Path) -> None:
    source = sources()[0]
    source.write_text(SOURCE.partition("# %% [markdown]")[0])
    with pytest.raises(CourseError, match=r"lessons/01_tiny is not what .*; run `course build`"):
        samples(source)


def test_samples_are_written_where_nbgrader_looks_and_may_be_written_again(root: Path) -> None:
    for _ in range(2):
        paths = [sample.path for sample in write_samples()]
    submitted = root / "grading" / "submitted"
    students = ("all_right", "kim", "untouched")
    assert paths == [submitted / student / LESSON / f"{LESSON}.ipynb" for student in students]
    assert all(path.is_file() for path in paths)


def test_a_students_notebook_is_never_overwritten(root: Path) -> None:
    theirs = root / "grading" / "submitted" / "kim" / LESSON / f"{LESSON}.ipynb"
    theirs.parent.mkdir(parents=True)
    theirs.write_bytes(release_path(LESSON).read_bytes())
    with pytest.raises(CourseError, match="is no sample; move it away"):
        write_samples()
    assert theirs.read_bytes() == release_path(LESSON).read_bytes()
    assert list((root / "grading" / "submitted").iterdir()) == [root / "grading/submitted/kim"]


@pytest.mark.parametrize("source", graded_sources(), ids=lambda source: source.stem)
def test_the_samples_of_every_lesson_fit_it(source: Path) -> None:
    found = {sample.student: sample for sample in samples(source)}
    full = found["all_right"].earns
    for sample in found.values():
        assert sample.earns.keys() == full.keys()
        for grade_id, earned in sample.earns.items():
            maximum = full[grade_id]
            assert earned is None or maximum is None or 0 <= earned <= maximum

"""The explained solution of an exercise, as the lesson's source has it."""

from functools import cache

import pytest

from autograder import lessons
from autograder.build import notebooks as building
from autograder.checks.drawn_quiz import DrawnQuizCheck
from autograder.checks.parsons import ParsonsCheck
from autograder.checks.quiz import QuizCheck
from autograder.errors import CourseError
from autograder.explanation import at_hand, explanation

EXERCISES = [each for lesson in lessons.numbers() for each in lessons.exercises(lesson)]


@cache
def solution_of(lesson):
    """Return the cells of a solution notebook by id."""
    (source,) = [path for path in building.sources() if path.name.startswith(f"{lesson:02}_")]
    return {cell.id: cell.source for cell in building.solution_notebook(source).cells}


@pytest.mark.parametrize("exercise", EXERCISES, ids=lambda exercise: exercise.id)
def test_it_is_what_the_solution_notebook_says(exercise):
    found = explanation(exercise.id)
    if isinstance(exercise.check, QuizCheck | DrawnQuizCheck):
        assert found is None
        return
    solution = solution_of(int(exercise.id.partition(".")[0]))
    slug = f"ex-{exercise.id.replace('.', '-').lower()}"
    built = solution[slug].split("\n")
    missing = [line for line in found.code.split("\n") if line not in built]
    # Of lines that are to be put in order, what they make together is shown.
    assert missing == [] or isinstance(exercise.check, ParsonsCheck)
    assert found.code
    assert "SOLUTION" not in found.code
    assert found.text == solution.get(f"{slug}-explained", "").strip()


def test_it_unfolds_as_html_and_reads_as_markdown():
    found = explanation("1.1")
    assert found.folded().startswith("<details><summary>Solution of 1.1 Bytes per token</summary>")
    assert "-&gt; int:" in found.folded()
    assert "<strong>Explained.</strong>" in found.folded()
    assert "```python\ndef kv_bytes_per_token" in found._repr_markdown_()
    assert repr(found).startswith("Solution of 1.1")


def test_a_copy_without_solutions_has_none(tmp_path, monkeypatch):
    assert at_hand("1.1")
    (tmp_path / "lessons").mkdir()
    monkeypatch.setenv("COURSE_ROOT", str(tmp_path))
    assert not at_hand("1.1")
    assert explanation("1.1") is None


def test_an_unknown_exercise_is_an_error():
    with pytest.raises(CourseError, match="no exercise"):
        explanation("1.99")

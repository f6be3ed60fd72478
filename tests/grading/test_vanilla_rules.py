"""What holds of vanilla nbgrader here: reference parts, validation, marks by hand, and a limit."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from nbformat import NotebookNode
from nbformat.v4 import new_code_cell
from nbgrader.utils import compute_checksum
from nbgrader.validator import Validator

from course_lib import parts

IMPORTS = """
from autograder.notebook import check
from course_lib import parts
"""
RIGHT = """
def kv_bytes_per_token(model):
    return 2 * model.num_layers * model.num_kv_heads * model.head_dim * model.dtype_bytes
"""


@pytest.fixture
def exercise(
    released: Callable[[str, list[NotebookNode]], Any], cell_roles: Callable[..., dict[str, Any]]
) -> Any:
    """A course with exercise 1.1 of lesson 1, for 10 points."""
    check = cell_roles("check", grade=True, locked=True, points=10)
    cells = [
        new_code_cell(IMPORTS, id="imports"),
        new_code_cell("### BEGIN SOLUTION\n### END SOLUTION", id="answer"),
        new_code_cell('check("1.1", kv_bytes_per_token)', id="check", metadata=check),
    ]
    cells[1].metadata = cell_roles("answer", solution=True)
    return released("exercise", cells)


def hand_in(course: Any, **sources_by_id: str) -> None:
    """Submit the released notebook with these sources in place of its own."""
    notebook = course.released
    for cell in notebook.cells:
        cell.source = sources_by_id.get(cell.id.replace("-", "_"), cell.source)
    course.submit("student", notebook)


def grade(course: Any) -> dict[str, float | None]:
    result = course.grade("student")
    assert result["success"], result
    points: dict[str, float | None] = course.points("student")
    return points


def validate(course: Any) -> str:
    validator = Validator(parent=course.api)
    validator.stream = io.StringIO()
    validator.validate_and_print(str(course.submission("student")))
    return " ".join(validator.stream.getvalue().split())


def files(folder: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
    }


@pytest.fixture
def workspace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A workspace with a part of the learner's own."""
    folder = tmp_path / "workspace"
    (folder / ".course").mkdir(parents=True)
    part = folder / "my_engine" / "num_kv_blocks.py"
    part.parent.mkdir()
    part.write_text("def num_kv_blocks(*args):\n    return 'from the workspace'\n")
    monkeypatch.setenv("COURSE_WORKSPACE", str(folder))
    return folder


def test_grading_uses_the_reference_parts_and_leaves_the_workspace_alone(
    exercise: Any, workspace: Path
) -> None:
    passes_with_the_reference_only = RIGHT.replace(
        "return",
        "assert parts.get('num_kv_blocks').__module__.startswith('course_lib')\n    return",
    )
    before = files(workspace)
    hand_in(exercise, answer=passes_with_the_reference_only)
    assert parts.get("num_kv_blocks")() == "from the workspace"
    # Validation agrees with grading, also where the learner's own part would fail the check.
    assert validate(exercise) == "Success! Your notebook passes all the tests."
    assert grade(exercise) == {"check": 10}
    assert files(workspace) == before


def test_nothing_of_a_right_answer_is_saved_while_it_is_graded(
    exercise: Any, workspace: Path
) -> None:
    before = files(workspace)
    hand_in(exercise, answer=RIGHT)
    assert grade(exercise) == {"check": 10}
    assert validate(exercise) == "Success! Your notebook passes all the tests."
    assert files(workspace) == before
    assert parts.save("kv_bytes_per_token", RIGHT) is not None


def test_vanilla_nbgrader_believes_a_check_that_the_student_replaced(exercise: Any) -> None:
    """A limit, not a promise: grading/README.md says so, and why there is another grader."""
    replaces = "import autograder.notebook as n\nn.check = lambda *_: 10\nkv_bytes_per_token = None"
    hand_in(exercise, answer=replaces)
    assert grade(exercise) == {"check": 10}


def test_validation_tells_right_from_wrong_from_tampered(small_course: Any) -> None:
    right = {"a": "def a():\n    return 'a'", "b": "def b():\n    return 'b'", "text": "Because."}
    hand_in(small_course, **right)
    assert validate(small_course) == "Success! Your notebook passes all the tests."
    hand_in(small_course)
    assert "VALIDATION FAILED ON 3 CELL(S)!" in validate(small_course)
    hand_in(small_course, **right, check_a="10")
    assert "THE CONTENTS OF 1 TEST CELL(S) HAVE CHANGED!" in validate(small_course)


def test_a_text_is_marked_by_hand_unless_it_was_left_as_released(small_course: Any) -> None:
    def text_grade() -> tuple[float | None, float | None, bool]:
        with small_course.api.gradebook as gradebook:
            found = gradebook.find_grade("text", "small", "small", "student")
            return found.auto_score, found.manual_score, found.needs_manual_grade

    (text,) = (cell for cell in small_course.released.cells if cell.id == "text")
    assert text.source == "*Your answer goes here.*"
    assert text.metadata.nbgrader.checksum == compute_checksum(text)
    hand_in(small_course)
    grade(small_course)
    assert text_grade() == (0, None, False)

    hand_in(small_course, text="Because blocks may lie anywhere.")
    grade(small_course)
    assert text_grade() == (None, None, True)

    with small_course.api.gradebook as gradebook:
        found = gradebook.find_grade("text", "small", "small", "student")
        found.manual_score, found.needs_manual_grade = 2, False
        gradebook.db.commit()
    grade(small_course)  # again: the mark stays, and asks to be looked at
    assert text_grade() == (None, 2, True)

"""What odd and hostile submissions earn under vanilla nbgrader, to the point.

The small lesson has ``a()`` for 10 points, ``b()`` for 5 and a text. The submissions here change
something about ``a`` and answer ``b`` rightly, so its 5 points show that the rest is still graded.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest
from nbformat import NotebookNode
from nbformat.v4 import new_code_cell

RIGHT = "def a():\n    return 'a'"
WRONG = "def a():\n    return 'b'"
ENDLESS = "while True:\n    pass"
DEAF = f"import signal\nsignal.signal(signal.SIGINT, signal.SIG_IGN)\n{ENDLESS}"


@pytest.fixture
def honest(small_course: Any) -> NotebookNode:
    """Everything right, but for the text, which is not written."""
    notebook: NotebookNode = small_course.released
    by_id(notebook, "a").source = RIGHT
    by_id(notebook, "b").source = "def b():\n    return 'b'"
    return notebook


def by_id(notebook: NotebookNode, cell_id: str) -> NotebookNode:
    return next(cell for cell in notebook.cells if cell.id == cell_id)


def answer(source: str) -> Callable[[NotebookNode], None]:
    """Return the change that answers ``a`` with this."""

    def change(notebook: NotebookNode) -> None:
        by_id(notebook, "a").source = source

    return change


def tag(cell_id: str, name: str, source: str = WRONG) -> Callable[[NotebookNode], None]:
    """Return the change that answers ``a`` with this and tags a cell."""

    def change(notebook: NotebookNode) -> None:
        by_id(notebook, "a").source = source
        by_id(notebook, cell_id).metadata["tags"] = [name]

    return change


def meta(cell_id: str, source: str = RIGHT, **changes: Any) -> Callable[[NotebookNode], None]:
    """Return the change that answers ``a`` with this and edits a cell's nbgrader metadata."""

    def change(notebook: NotebookNode) -> None:
        by_id(notebook, "a").source = source
        by_id(notebook, cell_id).metadata.nbgrader.update(changes)

    return change


def deleted(*cell_ids: str) -> Callable[[NotebookNode], None]:
    def change(notebook: NotebookNode) -> None:
        notebook.cells = [cell for cell in notebook.cells if cell.id not in cell_ids]

    return change


def pasted_again(cell_id: str, at: int, source: str | None = None) -> Callable[..., None]:
    """Return the change that pastes a cell a second time, with all of its metadata."""

    def change(notebook: NotebookNode) -> None:
        twin = copy.deepcopy(by_id(notebook, cell_id))
        twin.id = "twin"
        twin.source = twin.source if source is None else source
        notebook.cells.insert(at, twin)

    return change


def edited_check(source: str, answer_source: str = WRONG) -> Callable[[NotebookNode], None]:
    def change(notebook: NotebookNode) -> None:
        by_id(notebook, "a").source = answer_source
        by_id(notebook, "check-a").source = source

    return change


def check_as_markdown(notebook: NotebookNode) -> None:
    cell = by_id(notebook, "check-a")
    cell.cell_type = "markdown"
    del cell["outputs"], cell["execution_count"]


def own_graded_cell(notebook: NotebookNode) -> None:
    extra = new_code_cell("1000", id="extra")
    extra.metadata.nbgrader = {
        **by_id(notebook, "check-a").metadata.nbgrader,
        "grade_id": "bonus",
        "points": 1000,
    }
    notebook.cells.append(extra)


def helper_cells(notebook: NotebookNode) -> None:
    notebook.cells.insert(1, new_code_cell("letter = 'a'", id="helper"))
    by_id(notebook, "a").source = "def a():\n    return letter"


def unknown_kernel(notebook: NotebookNode) -> None:
    notebook.metadata.kernelspec = {"name": "conda-mine", "display_name": "Mine"}


WARNS = (
    f"import sys, warnings\nwarnings.warn('careful')\nprint('careful', file=sys.stderr)\n{RIGHT}"
)
WARNS_WHEN_CALLED = (
    "import sys\ndef a():\n    print('careful', file=sys.stderr, flush=True)\n    return 'a'"
)
PRINTS = "def a():\n    print('line\\n' * 5000)\n    return 'a'"


@pytest.mark.parametrize(
    ("change", "earned"),
    [
        # Fair: what does not matter costs nothing.
        pytest.param(answer(RIGHT), 10, id="right"),
        pytest.param(answer(WRONG), 0, id="wrong"),
        pytest.param(answer(WARNS), 10, id="warns on stderr in the answer cell"),
        pytest.param(answer(WARNS_WHEN_CALLED), 10, id="warns on stderr in the check cell"),
        pytest.param(answer(PRINTS), 10, id="prints a lot"),
        pytest.param(helper_cells, 10, id="a helper cell in between"),
        pytest.param(unknown_kernel, 10, id="a kernel that is not installed here"),
        # Accidents in JupyterLab.
        pytest.param(deleted("check-a"), 10, id="check deleted"),
        pytest.param(deleted("a"), 0, id="answer deleted"),
        pytest.param(deleted("a", "check-a"), 0, id="answer and check deleted"),
        pytest.param(pasted_again("check-a", 1), 10, id="check pasted before the answer"),
        pytest.param(pasted_again("check-a", 5), 10, id="check pasted after the answer"),
        pytest.param(pasted_again("a", 1, WRONG), 10, id="a wrong answer and then a right one"),
        pytest.param(pasted_again("a", 2, WRONG), 0, id="a right answer and then a wrong one"),
        pytest.param(check_as_markdown, 10, id="check turned into markdown"),
        pytest.param(meta("a", schema_version=1), 10, id="schema 1"),
        pytest.param(meta("a", schema_version=99), 10, id="schema 99"),
        # Attempts on the checks.
        pytest.param(edited_check("10"), 0, id="check edited, answer wrong"),
        pytest.param(edited_check("1 / 0", RIGHT), 10, id="check edited, answer right"),
        pytest.param(tag("check-a", "skip-execution"), 0, id="check tagged skip-execution"),
        pytest.param(tag("check-a", "raises-exception"), 0, id="check tagged raises-exception"),
        pytest.param(tag("a", "raises-exception", "1 / 0"), 0, id="answer tagged raises-exception"),
        pytest.param(tag("a", "skip-execution", RIGHT), 10, id="answer tagged skip-execution"),
        pytest.param(meta("check-a", points=1000), 10, id="points raised, answer right"),
        pytest.param(meta("check-a", WRONG, points=0), 0, id="points set to 0, answer wrong"),
        pytest.param(meta("check-a", grade_id="x"), 10, id="check renamed, answer right"),
        pytest.param(meta("check-a", WRONG, grade_id="x"), 0, id="check renamed, answer wrong"),
        pytest.param(meta("a", grade_id="x"), 10, id="answer renamed"),
        pytest.param(meta("check-a", WRONG, grade=False), 0, id="check no longer graded"),
        pytest.param(meta("check-a", WRONG, solution=True), 0, id="check said to be an answer"),
        pytest.param(meta("check-a", WRONG, locked=False), 0, id="check unlocked"),
        pytest.param(own_graded_cell, 10, id="a graded cell of one's own"),
        # Ends of the kernel and of patience.
        pytest.param(answer("1 / 0"), 0, id="raises an error"),
        pytest.param(answer("def a(:"), 0, id="syntax error"),
        pytest.param(answer("import sys\nsys.exit()"), 0, id="sys.exit"),
        pytest.param(answer("exit()"), 0, id="exit"),
        pytest.param(answer("import os\nos._exit(0)"), 0, id="os._exit in the answer"),
        pytest.param(
            answer("import os\ndef a():\n    os._exit(0)"), 0, id="os._exit when it is checked"
        ),
        pytest.param(answer(ENDLESS), 0, id="endless loop"),
        pytest.param(answer(DEAF), 0, id="endless loop that cannot be interrupted"),
    ],
)
def test_what_a_submission_earns(
    small_course: Any,
    honest: NotebookNode,
    change: Callable[[NotebookNode], None],
    earned: float,
) -> None:
    change(honest)
    small_course.submit("student", honest)
    result = small_course.grade("student")
    assert result["success"], result
    assert small_course.points("student") == {"check-a": earned, "check-b": 5, "text": 0}


def test_nobody_is_left_ungraded_because_of_another(
    small_course: Any, honest: NotebookNode
) -> None:
    def hand_in(student: str, change: Callable[[NotebookNode], None]) -> None:
        notebook = copy.deepcopy(honest)
        change(notebook)
        small_course.submit(student, notebook)

    hand_in("alice", answer(RIGHT))
    hand_in("bad-1", pasted_again("check-a", 5))
    hand_in("bad-2", meta("check-a", schema_version=99))
    hand_in("bad-3", answer("import os\nos._exit(0)"))
    for student, content in (("bad-4", b"not JSON"), ("bad-5", b""), ("bad-6", b'{"cells": 1}')):
        path = small_course.submission(student)
        path.parent.mkdir(parents=True)
        path.write_bytes(content)
    hand_in("zoe", answer(RIGHT))

    result = small_course.grade()

    full = {"check-a": 10, "check-b": 5, "text": 0}
    assert small_course.points("alice") == small_course.points("zoe") == full
    assert small_course.points("bad-1") == small_course.points("bad-2") == full
    assert small_course.points("bad-3") == {**full, "check-a": 0}
    # What cannot be read is named in the log, has no points, and leaves no autograded notebook.
    assert not result["success"]
    for student in ("bad-4", "bad-5", "bad-6"):
        assert f"for student '{student}'" in result["log"]
        assert not (small_course.root / "grading" / "autograded" / student / "small").exists()
        assert not any(small_course.points(student).values())


def test_a_submission_that_goes_on_killing_its_kernel_is_given_up(
    small_course: Any, honest: NotebookNode
) -> None:
    killers = [new_code_cell("import os\nos._exit(0)", id=f"k{number}") for number in range(4)]
    honest.cells += killers
    small_course.submit("student", honest)
    result = small_course.grade("student")
    assert not result["success"]
    assert "DeadKernelError" in result["log"]


# How a check cell for 10 points ends, and what that earns.
ENDS = (
    ("7.5", 7.5),
    ("10", 10),
    ("0", 0),
    ("print('10')\n4", 4),
    ("import sys\nprint('careful', file=sys.stderr)\n6", 6),
    ("import warnings\nwarnings.warn('careful')\n6", 6),
    ("'all tests passed'", 0),
    ("'10'", 0),
    ("float('nan')", 0),
    ("float('inf')", 0),
    ("-float('inf')", 0),
    ("-5", 0),
    ("10.001", 0),
    ("10**400", 0),
    ("True", 0),
    ("None", 0),
    ("[10]", 0),
    ("10 + 0j", 0),
    ("pass", 0),
    ("print(10)", 0),
    ("10;", 0),
    ("from IPython.display import display\ndisplay(10)", 0),
    ("class Ten:\n    def __repr__(self):\n        return '10 points'\nTen()", 0),
    ("1 / 0", 0),
    ("get_ipython().run_cell('10')\nraise ValueError", 0),
    ("import sys\nsys.exit()", 0),
)


def test_only_a_score_is_a_score(
    released: Callable[[str, list[NotebookNode]], Any], cell_roles: Callable[..., dict[str, Any]]
) -> None:
    checks = [
        new_code_cell(
            source,
            id=f"check-{number}",
            metadata=cell_roles(f"check-{number}", grade=True, locked=True, points=10),
        )
        for number, (source, _) in enumerate(ENDS)
    ]
    course = released("odd", checks)
    course.submit("student", course.released)
    result = course.grade("student")
    assert result["success"], result
    points = course.points("student")
    shown = {source: points[f"check-{number}"] for number, (source, _) in enumerate(ENDS)}
    assert shown == dict(ENDS)

"""One exercise of every kind goes every way: a cell, ``course check``, another process, a part.

The solution earns everything and the stub nothing, whichever way.
"""

import pytest

from autograder.build import holes
from autograder.checks.answers import wrong_answer
from autograder.checks.report import Report
from autograder.notebook import check
from autograder.proxy.subject import LocalSubject, RemoteSubject
from autograder.workspace.notebook_check import check_notebook
from course_lib import parts

IDS = [*(f"99.{number}" for number in range(1, 14)), "99.Q"]
PARTS = {
    "99.2": "kv_bytes_per_token",
    "99.3": "softmax",
    "99.4": "BlockTable",
    "99.5": "BlockPool.touch",
    "99.6": "num_blocks_freed",
    "99.7": "reshape_and_cache_kernel",
    "99.10": "side_by_side",
}
EMPTY = ("99.3", "99.4", "99.7", "99.Q")
"""A function, a class, a kernel and a quiz: in another process, other stubs are as one of these."""

TIMEOUT = 240

each = pytest.mark.parametrize("exercise_id", IDS)


def test_every_exercise_is_tried(thrown_away):
    assert list(thrown_away.exercises) == IDS
    assert {id_: thrown_away.exercises[id_].part for id_ in PARTS} == PARTS


def test_no_line_of_an_answer_is_released(thrown_away):
    released = {cell.id: cell.source for cell in thrown_away.released.cells}
    for cell in thrown_away.solution.cells:
        hidden = [line.strip() for line in holes.hidden_lines(cell.source)]
        # Shorter ones, such as those that close a docstring, tell nothing.
        given = {line.strip() for line in released[cell.id].split("\n")}
        assert given.isdisjoint(line for line in hidden if len(line) >= 18), cell.id


@each
def test_in_a_cell(exercise_id, thrown_away, written, workspace, capsys):
    name = thrown_away.name_of(exercise_id)
    right, stub = (getattr(module, name) for _, module in written.values())
    assert check(exercise_id, stub) == 0
    assert f"{exercise_id} " in capsys.readouterr().out
    assert not (workspace / "my_engine").exists()
    assert check(exercise_id, right) == 5
    assert ": passed, 5 of 5 points" in capsys.readouterr().out
    if exercise_id in PARTS:
        part = PARTS[exercise_id]
        assert (workspace / "my_engine" / f"{part.replace('.', '/')}.py").is_file()
        assert parts.get(part.partition(".")[0]) is not None


@each
def test_in_another_process(exercise_id, thrown_away, tmp_path):
    exercise = thrown_away.exercises[exercise_id]
    name = thrown_away.name_of(exercise_id)
    expected = {"solution": 5, **({"released": 0} if exercise_id in EMPTY else {})}
    earned = {}
    for kind in expected:
        path = thrown_away.file_of(getattr(thrown_away, kind), exercise_id, tmp_path)
        with RemoteSubject(path, name, timeout=max(60.0, exercise.patience)) as subject:
            earned[kind] = Report(exercise, exercise.examine(subject, seed=4711)).points
    assert earned == expected


@pytest.mark.parametrize("notebook", ["solution", "released"])
def test_by_course_check(notebook, thrown_away, workspace):
    path = thrown_away.root / ("solutions" if notebook == "solution" else "lessons")
    path = path / "99_throw_away" / "99_throw_away.ipynb"
    copy = workspace / path.name
    copy.write_bytes(path.read_bytes())
    results = check_notebook(copy, TIMEOUT, lambda done, total: None)
    assert [result.exercise.id for result in results] == IDS
    full = 5 if notebook == "solution" else 0
    assert {r.exercise.id: r.earned for r in results if r.earned != full} == {}
    assert all(result.passed == (notebook == "solution") for result in results)


@pytest.mark.usefixtures("first_failing_case")
@each
def test_every_known_mistake_is_named(exercise_id, thrown_away):
    exercise = thrown_away.exercises[exercise_id]
    assert exercise.check.misconceptions
    for mistake in exercise.check.misconceptions:
        wrong = LocalSubject(wrong_answer(exercise.check, mistake), exercise.patience)
        finding = exercise.examine(wrong)
        assert finding.fraction < 1
        assert finding.misconception.name == mistake.name


@pytest.mark.usefixtures("first_failing_case")
@each
@pytest.mark.parametrize("value", ["object()", "7", "[]", "'x'", "lambda *args, **kwargs: 7"])
def test_an_object_and_a_constant_earn_nothing(exercise_id, value, thrown_away):
    exercise = thrown_away.exercises[exercise_id]
    finding = exercise.examine(LocalSubject(eval(value), exercise.patience))
    assert finding.fraction == 0

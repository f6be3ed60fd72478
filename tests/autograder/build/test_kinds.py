"""Each kind of exercise the whole way: built, released, solved, taken out, kept and used.

The exercises are thrown away; their references are the library's own.
"""

import os
from dataclasses import dataclass, field
from typing import Any

import jupytext
import nbformat
import pytest

from autograder import lessons
from autograder import notebook as learner
from autograder.build import holes
from autograder.build import notebooks as building
from autograder.build.cells import Lesson
from autograder.build.directives import expand
from autograder.checks.answers import right_answer, wrong_answer
from autograder.checks.exercise import Exercise
from autograder.checks.finding import Misconception
from autograder.checks.reference import Method
from autograder.checks.trace import Instance
from autograder.workspace.harvest import standalone_source
from course_lib import parts
from course_lib.kv_cache import BlockPool, kv_bytes_per_token
from course_lib.scheduling.swap import SwapSpace

kernels = pytest.importorskip("course_lib.attention.triton_kernels")


@dataclass
class Bare:
    """A check that is never asked."""

    reference: Any
    misconceptions: tuple = ()


@dataclass
class Lines(Bare):
    """Lines to put in order."""

    lines: dict = field(
        default_factory=lambda: {"A": "    return total", "B": "total = 0\ntotal += 1", "C": "x"}
    )
    solution: tuple = ("B", "A")


class ByHand(Bare):
    """A task for each seed."""

    def instance(self, seed):
        return Instance(f"Add {seed} to 1.", {"sum": seed + 1})


EXERCISES = {
    "1.91": Bare(kv_bytes_per_token),
    "1.92": Bare(Method(BlockPool, "touch")),
    "1.93": Bare(Method(BlockPool, "get_new_blocks")),
    "1.94": Bare(kernels.copy_blocks_kernel),
    "1.95": Bare(SwapSpace),
    "1.96": Lines(kv_bytes_per_token),
    "1.97": ByHand(None),
}
SOURCE = """\
# %%
from __future__ import annotations

from autograder.notebook import check, task

# %% exercise="1.91"

# %% exercise="1.92"

# %% exercise="1.93"

# %% exercise="1.94"

# %% exercise="1.95" holes="*"

# %% exercise="1.96"

# %% check="1.96"

# %% exercise="1.97"
answer = {"seed": 1}
### BEGIN SOLUTION
answer["sum"] = 2
### END SOLUTION
"""


@pytest.fixture
def cells(monkeypatch):
    """The cells of the solution notebook of a lesson with these exercises, by id."""
    found = {
        id_: Exercise(id_, "Title", "Do it.", check, points=1) for id_, check in EXERCISES.items()
    }
    monkeypatch.setattr(lessons, "find", found.__getitem__)
    monkeypatch.setattr(lessons, "exercises", lambda lesson: tuple(found.values()))
    lesson = Lesson(1, frozenset({"annotations", "check", "task"}))
    source = jupytext.reads(SOURCE, fmt="py:percent").cells
    expanded = [each for cell in source for each in expand(lesson, cell)]
    return {cell.get("id_hint", "setup"): cell for cell in expanded}


def solved(marked):
    lines = marked.split("\n")
    return "\n".join(line for line in lines if line.strip() not in (holes.BEGIN, holes.END))


STUBS = ["ex-1-91", "ex-1-92", "ex-1-93", "ex-1-94", "ex-1-95"]


@pytest.mark.parametrize("id_", STUBS)
def test_a_stub_and_its_solution_run_alone_after_the_setup_cell(cells, notebook, id_):
    for source in (holes.stub(cells[id_].source), solved(cells[id_].source)):
        notebook(cells["setup"].source, source)


@pytest.mark.parametrize("id_", STUBS)
def test_a_solution_is_taken_out_kept_and_used(cells, notebook, workspace, id_):
    exercise = lessons.find(id_.removeprefix("ex-").replace("-", "."))
    name = exercise.check.reference.__name__
    answer = vars(notebook(cells["setup"].source, solved(cells[id_].source)))[name]
    path = parts.save(exercise.part, standalone_source(answer, exercise.id), exercise.id)
    assert path == workspace / "my_engine" / f"{exercise.part.replace('.', os.sep)}.py"
    mine = parts.get(exercise.part)
    assert mine is not parts.reference(exercise.part)
    row = next(row for row in parts.table() if row.name == exercise.part.partition(".")[0])
    assert row.state == "yours"


def test_two_methods_of_a_class_are_released_apart_and_work_together(cells, notebook, workspace):
    for id_, name in (("ex-1-92", "touch"), ("ex-1-93", "get_new_blocks")):
        other = "ex-1-93" if id_ == "ex-1-92" else "ex-1-92"
        for line in holes.hidden_lines(cells[other].source):
            assert len(line.strip()) < 18 or line.strip() not in holes.stub(cells[id_].source)
        answer = vars(notebook(cells["setup"].source, solved(cells[id_].source)))[name]
        parts.save(f"BlockPool.{name}", standalone_source(answer, "7.3"), "7.3")
    pool = parts.get("BlockPool")(4)
    (block,) = pool.get_new_blocks(1)
    pool.touch([block])
    assert (block.block_id, block.ref_cnt) == (1, 2)
    row = next(row for row in parts.table() if row.name == "BlockPool")
    assert row.note == f"2 of {len(parts.PARTS['BlockPool'].methods)} methods yours"


def test_lines_are_shown_with_their_labels_and_the_answer_is_a_list_of_them(cells):
    assert cells["ex-1-96-lines"].source == (
        "```\nA      return total\nB  total = 0\n   total += 1\nC  x\n```"
    )
    stub = holes.stub(cells["ex-1-96"].source)
    assert stub.split("\n")[0] == "order = []"
    assert '"B"' not in stub
    scope = {}
    exec(solved(cells["ex-1-96"].source), scope)
    assert scope["order"] == right_answer(EXERCISES["1.96"]) == ["B", "A"]
    assert cells["check-ex-1-96"].source == 'check("1.96", order)'


def test_a_task_by_hand_is_shown_for_a_seed_and_to_be_had_for_others(cells):
    shown = cells["ex-1-97-task"].source
    assert shown.startswith("Add 1 to 1.\n\n")
    assert '`task("1.97", seed=2)`' in shown
    posed = learner.task("1.97", seed=2)
    assert posed.task == "Add 2 to 1."
    assert not hasattr(posed, "answer"), "a task is no answer"
    scope = {}
    exec(solved(cells["ex-1-97"].source), scope)
    assert scope["answer"] == right_answer(EXERCISES["1.97"])
    mistake = Misconception("twice", "It is added once.", lambda seed: {"sum": 2 * seed + 1})
    assert wrong_answer(EXERCISES["1.97"], mistake) == {"seed": 1, "sum": 3}


def test_an_exercise_without_tasks_by_hand_has_none_to_show(cells):
    with pytest.raises(Exception, match=r"exercise 1\.91 has no tasks by hand"):
        learner.task("1.91", seed=1)


def test_the_whole_lesson_is_released_by_nbgrader_without_its_solutions(cells, tmp_path):
    source = tmp_path / "01_kinds.py"
    source.write_text(SOURCE)
    released = nbformat.reads(
        building.released_bytes(building.solution_notebook(source)).decode(), 4
    )
    text = "\n".join(cell.source for cell in released.cells)
    assert text.count(holes.STUB) == len(EXERCISES)
    for cell in cells.values():
        for line in holes.hidden_lines(cell.source):
            assert len(line.strip()) < 18 or line.strip() not in text

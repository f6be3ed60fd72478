"""What is graded of a submission whose cells are not as they were released."""

from __future__ import annotations

import copy
from typing import Any

import nbformat
import pytest
from nbformat import NotebookNode
from nbformat.v4 import new_code_cell, new_markdown_cell, new_raw_cell

from autograder.errors import CourseError
from autograder.grading.cells import Restored, restored

STUB = 'def f(x):\n    """Return twice x."""\n    # YOUR CODE HERE'
SOLVED = STUB.replace("# YOUR CODE HERE", "return 2 * x")
EMPTY = "*Your answer goes here.*"
PICTURE = {"plot.png": {"image/png": "aGVsbG8="}}


def role(grade_id: str, **others: Any) -> dict[str, Any]:
    plain = {"grade": False, "solution": False, "locked": False, "task": False}
    return {"nbgrader": {"grade_id": grade_id, "schema_version": 3, **plain, **others}}


def released() -> list[NotebookNode]:
    """Two exercises, of which the second is a value, and a text."""
    marked = {"grade": True, "locked": True, "points": 5}
    return [
        new_markdown_cell("# Title", id="title"),
        new_code_cell("import course", id="setup"),
        new_code_cell(STUB, id="s", metadata=role("s", solution=True)),
        new_code_cell('check("s", f)', id="check-s", metadata=role("check-s", **marked)),
        new_code_cell("numbers = [1, 2]", id="given"),
        new_code_cell("v = None\n# YOUR CODE HERE", id="v", metadata=role("v", solution=True)),
        new_code_cell('check("v", v)', id="check-v", metadata=role("check-v", **marked)),
        new_markdown_cell("Explain.", id="task"),
        new_markdown_cell(EMPTY, id="w", metadata=role("w", grade=True, solution=True, points=3)),
        new_markdown_cell("The end.", id="end"),
    ]


class Submission:
    """A submission in which everything is right."""

    def __init__(self) -> None:
        self.cells = copy.deepcopy(released())
        self.cell("s").source = SOLVED
        self.cell("v").source = "v = 7"
        self.cell("w").source = "Because."

    def cell(self, cell_id: str) -> NotebookNode:
        return next(cell for cell in self.cells if cell.id == cell_id)

    def place(self, cell_id: str) -> int:
        return self.cells.index(self.cell(cell_id))

    def delete(self, *cell_ids: str) -> None:
        self.cells = [cell for cell in self.cells if cell.id not in cell_ids]

    def put(self, cell: NotebookNode, below: str) -> None:
        self.cells.insert(self.place(below) + 1, cell)

    def become(self, cell_id: str, cell: NotebookNode) -> None:
        old = self.cell(cell_id)
        cell.id, cell.metadata = old.id, old.metadata
        self.cells[self.place(cell_id)] = cell

    def strip(self, ids: bool = False) -> None:
        """Take the metadata away, as an editor does, and the ids."""
        for number, cell in enumerate(self.cells):
            cell.metadata = NotebookNode()
            if ids:
                cell.id = f"other-{number}"

    def restored(self) -> Restored:
        return restored(self.cells, released())


@pytest.fixture
def submission() -> Submission:
    return Submission()


def graded(result: Restored) -> dict[str, str]:
    """Return the sources of the cells that nbgrader knows, by grade id, in order."""
    known = [cell for cell in result.cells if "nbgrader" in cell.metadata]
    found = {cell.metadata.nbgrader.grade_id: cell.source for cell in known}
    assert len(found) == len(known), "a grade id twice"
    for cell in result.cells:
        nbformat.validate({"cells": [cell], "metadata": {}, "nbformat": 4, "nbformat_minor": 5})
    return found


FULL = {
    "s": SOLVED,
    "check-s": 'check("s", f)',
    "v": "v = 7",
    "check-v": 'check("v", v)',
    "w": "Because.",
}


def test_what_is_as_it_should_be_stays_so(submission: Submission) -> None:
    result = submission.restored()
    assert list(graded(result).items()) == list(FULL.items())
    assert result.notes == []
    assert [cell.source for cell in result.cells] == [cell.source for cell in submission.cells]


@pytest.mark.parametrize("ids", [False, True])
def test_cells_without_metadata_are_known_by_id_or_by_neighbours_and_source(
    submission: Submission, ids: bool
) -> None:
    submission.strip(ids)
    result = submission.restored()
    assert graded(result) == FULL
    assert [cell.metadata.get("nbgrader") for cell in result.cells] == [
        cell.metadata.get("nbgrader") for cell in released()
    ]


def test_one_cell_alone_may_have_lost_its_mark(submission: Submission) -> None:
    for cell_id in ("s", "check-s", "w"):
        submission.cell(cell_id).metadata = NotebookNode()
        submission.cell(cell_id).id = f"other-{cell_id}"
    assert graded(submission.restored()) == FULL


def test_answers_that_cannot_be_recognised_are_an_error_and_not_nothing(
    submission: Submission,
) -> None:
    submission.strip(ids=True)
    submission.cells[2].source = "from mine import *"
    with pytest.raises(CourseError, match=r"lost the marks .* no answer was found for s; ask for"):
        submission.restored()


def test_another_notebook_under_the_lessons_name_is_an_error(submission: Submission) -> None:
    submission.cells = [new_markdown_cell("# Shopping list", id="a"), new_code_cell("1", id="b")]
    with pytest.raises(CourseError, match="no answer was found for s, v, w"):
        submission.restored()


def test_an_answer_that_was_deleted_is_named(submission: Submission) -> None:
    submission.delete("s")
    result = submission.restored()
    assert "s" not in graded(result)
    assert result.notes == ["cell s was deleted; it earns nothing"]


@pytest.mark.parametrize("make", [new_markdown_cell, new_raw_cell])
def test_code_that_was_turned_into_text_is_code_again(submission: Submission, make: Any) -> None:
    submission.become("s", make(SOLVED))
    result = submission.restored()
    assert graded(result) == FULL
    (answer,) = (cell for cell in result.cells if cell.id == "s")
    assert (answer.cell_type, answer.outputs) == ("code", [])
    assert result.notes == [f"cell s was turned into {make('').cell_type}"]


def test_code_with_a_picture_in_it_costs_that_cell_only(submission: Submission) -> None:
    picture = f"{SOLVED}\n![plot.png](attachment:plot.png)"
    submission.become("s", new_markdown_cell(picture, attachments=PICTURE))
    assert graded(submission.restored()) == {**FULL, "s": picture}


def test_a_text_keeps_its_picture_and_takes_its_type_back(submission: Submission) -> None:
    submission.cell("w").attachments = PICTURE
    (text,) = (cell for cell in submission.restored().cells if cell.id == "w")
    assert text.attachments == PICTURE
    for make in (new_raw_cell, new_code_cell):
        submission.become("w", make("Because."))
        assert graded(submission.restored()) == FULL


BESIDE = {
    "text below": (new_markdown_cell("Because."), "w", "Because."),
    "text above": (new_markdown_cell("Because."), "task", "Because."),
    "raw text": (new_raw_cell("Because."), "w", "Because."),
    "text in a new cell, which is of code": (new_code_cell("It is so."), "w", "It is so."),
    "a string": (new_code_cell("'''Because.'''"), "w", "'''Because.'''"),
    "a comment": (new_code_cell("# Because."), "w", "# Because."),
}


@pytest.mark.parametrize(("cell", "below", "text"), BESIDE.values(), ids=BESIDE)
@pytest.mark.parametrize("left", [EMPTY, "", f"{EMPTY}\n"])
def test_a_text_that_was_written_beside_its_cell_is_marked(
    submission: Submission, cell: NotebookNode, below: str, text: str, left: str
) -> None:
    submission.cell("w").source = left
    submission.put(cell, below)
    result = submission.restored()
    assert graded(result) == {**FULL, "w": text}
    assert result.notes == ["cell w was answered in a cell beside it"]


def test_a_text_in_several_cells_is_read_in_order_also_if_its_own_was_deleted(
    submission: Submission,
) -> None:
    submission.delete("w")
    submission.put(new_markdown_cell("Second.", id="2"), "task")
    submission.put(new_markdown_cell("First.", id="1"), "task")
    assert graded(submission.restored())["w"] == "First."
    submission.put(new_markdown_cell(EMPTY, id="w", metadata=released()[8].metadata), "1")
    assert graded(submission.restored())["w"] == "First.\n\nSecond."


@pytest.mark.parametrize("scratch", ["1000", "print(numbers)", "x = 1\n# why?"])
def test_code_beside_an_empty_text_is_no_text(submission: Submission, scratch: str) -> None:
    submission.cell("w").source = EMPTY
    submission.put(new_code_cell(scratch), "w")
    assert graded(submission.restored())["w"] == EMPTY


def test_a_text_that_was_written_is_left_as_it_is(submission: Submission) -> None:
    submission.put(new_markdown_cell("More of it."), "w")
    assert graded(submission.restored()) == FULL


def order(result: Restored) -> list[str]:
    return [cell.id for cell in result.cells]


def test_given_code_that_was_deleted_is_put_back_before_the_students_cells(
    submission: Submission,
) -> None:
    submission.put(new_code_cell("import mine", id="mine"), "title")
    submission.delete("setup", "given")
    result = submission.restored()
    assert order(result)[:3] == ["title", "restored-setup", "mine"]
    assert order(result)[4:6] == ["check-s", "restored-given"]
    assert len(result.notes) == 2


def test_a_check_that_was_deleted_is_put_back_behind_the_students_cells(
    submission: Submission,
) -> None:
    submission.delete("check-s")
    submission.put(new_code_cell("helper()", id="mine"), "s")
    assert order(submission.restored())[2:6] == ["s", "mine", "restored-check-s", "given"]


def test_an_edited_import_cell_runs_after_the_released_one(submission: Submission) -> None:
    submission.cell("setup").source = "import nothing_of_the_kind"
    result = submission.restored()
    assert order(result)[1:3] == ["restored-setup", "setup"]
    assert result.notes == ["cell setup was edited; the released one runs before it"]
    assert graded(result) == FULL


def test_an_answer_that_was_written_into_a_check_is_kept_above_it(submission: Submission) -> None:
    submission.cell("s").source = STUB
    submission.cell("check-s").source = written = f'{SOLVED}\ncheck("s", f)'
    result = submission.restored()
    assert order(result)[2:5] == ["s", "kept-check-s", "check-s"]
    kept = result.cells[3]
    assert (kept.cell_type, kept.source, kept.metadata) == ("code", written, {})
    assert result.notes == ["an answer was written into cell check-s"]


@pytest.mark.parametrize("source", [SOLVED, STUB])
def test_of_an_edited_check_nothing_else_is_kept(submission: Submission, source: str) -> None:
    submission.cell("s").source = source
    submission.cell("check-s").source = "check = 10" if source == STUB else "f = 10"
    result = submission.restored()
    assert "kept-check-s" not in order(result)
    assert result.notes == []


def test_what_was_handed_in_is_not_changed(submission: Submission) -> None:
    submission.strip()
    submission.become("s", new_markdown_cell(SOLVED))
    before = copy.deepcopy(submission.cells)
    submission.restored()
    assert submission.cells == before


def test_the_cells_may_be_restored_again(submission: Submission) -> None:
    submission.strip()
    once = submission.restored().cells
    assert restored(once, released()).cells == once

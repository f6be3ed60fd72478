"""The learner's workspace: lessons are copied once, updated by merging, and never lost."""

import copy
import os
from pathlib import Path

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook

from autograder import files, lessons
from autograder.errors import CourseError
from autograder.paths import PROJECT_NOTEBOOKS, PROJECT_NUMBERS
from autograder.workspace.copies import (
    Workspace,
    find_lesson,
    notebook_called,
    open_lesson,
    released_lessons,
)

NAME = "01_first_steps"
ANSWER = {
    "grade_id": "f",
    "grade": False,
    "solution": True,
    "locked": False,
    "schema_version": 3,
}


def lesson(stub="def f(): ...", prose="# First steps"):
    return new_notebook(
        cells=[
            new_markdown_cell(prose, id="title"),
            new_code_cell(stub, id="f", metadata={"nbgrader": ANSWER}),
        ]
    )


def write(notebook, path):
    path.parent.mkdir(parents=True, exist_ok=True)
    nbformat.write(notebook, path)


def release(root, name, notebook):
    write(notebook, root / "lessons" / name / f"{name}.ipynb")


def files_below(folder):
    return {path: path.read_bytes() for path in Path(folder).rglob("*") if path.is_file()}


@pytest.fixture
def root(tmp_path, monkeypatch):
    """A checkout with two released lessons, and an environment that points to it."""
    root = tmp_path / "checkout"
    release(root, NAME, lesson())
    release(root, "02_second_steps", lesson(prose="# Second steps"))
    monkeypatch.setenv("COURSE_ROOT", str(root))
    monkeypatch.delenv("COURSE_WORKSPACE", raising=False)
    return root


@pytest.fixture
def opened(root):
    """The learner's notebook of lesson 1, with an answer in it."""
    path = open_lesson("1")
    write(lesson(stub="def f(): return 42"), path)
    return path


def update():
    workspace = Workspace.current()
    return workspace.apply_update(workspace.plan_update(find_lesson("1")))


@pytest.mark.parametrize("name", ["1", "01", NAME, "01_first", "first", "first_steps"])
def test_a_lesson_is_found_by_number_name_or_the_beginning_of_either(root, name):
    assert find_lesson(name).name == NAME


@pytest.mark.parametrize("name", ["15_quiz", "quiz", "qu"])
def test_a_notebook_of_the_final_project_is_found_by_its_source_too(root, name):
    write(lesson(stub=""), root / "lessons" / "final_project" / "quiz.ipynb")
    assert find_lesson(name).relative_path == Path("final_project", "quiz.ipynb")


@pytest.mark.parametrize("number", PROJECT_NOTEBOOKS)
def test_a_notebook_of_the_final_project_is_found_by_its_number(root, number):
    for name in PROJECT_NOTEBOOKS.values():
        write(lesson(stub=""), root / "lessons" / "final_project" / f"{name}.ipynb")
    assert find_lesson(str(number)).name == PROJECT_NOTEBOOKS[number]


def test_what_nbgrader_leaves_beside_the_final_project_is_no_second_lesson(root):
    for path in ("final_project/engine.ipynb", "13_engine/13_engine.ipynb"):
        write(lesson(stub=""), root / "lessons" / path)
    assert find_lesson("engine").relative_path == Path("final_project", "engine.ipynb")
    assert find_lesson("13").relative_path == Path("final_project", "engine.ipynb")


def test_every_notebook_of_the_final_project_with_checks_has_its_number(monkeypatch):
    monkeypatch.delenv("COURSE_ROOT", raising=False)
    checked = [number for number in lessons.numbers() if number in PROJECT_NUMBERS]
    assert set(checked) <= {each.number for each in released_lessons()}


@pytest.mark.parametrize("name", ["3", "third", "", "../01_first_steps", "²"])
def test_an_unknown_lesson_is_refused_with_the_list_of_lessons(root, name):
    with pytest.raises(CourseError, match=f"is no lesson; .*{NAME}, 02_second_steps"):
        find_lesson(name)


def test_a_beginning_that_fits_two_lessons_is_refused_with_both(root):
    release(root, "03_first_aid", lesson())
    with pytest.raises(CourseError, match=f"more than one lesson; .*{NAME}, 03_first_aid"):
        find_lesson("first_")


def test_a_notebook_is_called_by_its_path_or_by_its_lesson(root, opened):
    assert notebook_called("1") == notebook_called("first_steps") == opened
    assert notebook_called(str(opened)) == opened
    assert notebook_called("gone.ipynb").name == "gone.ipynb", "whoever reads it will say so"
    with pytest.raises(CourseError, match=r"02_second_steps is not in .*; open it"):
        notebook_called("2")
    with pytest.raises(CourseError, match="is no lesson"):
        notebook_called("3")


def test_lessons_come_in_the_order_of_the_course(root):
    assert [lesson.name for lesson in released_lessons()] == [NAME, "02_second_steps"]


def test_a_checkout_without_lessons_is_named_in_the_error(tmp_path, monkeypatch):
    monkeypatch.setenv("COURSE_ROOT", str(tmp_path))
    with pytest.raises(CourseError, match=r"has no folder lessons/; .*COURSE_ROOT"):
        released_lessons()


def test_opening_copies_the_release_and_records_it(root):
    path = open_lesson("1")
    released = (root / "lessons" / NAME / f"{NAME}.ipynb").read_bytes()
    assert path == root / "workspace" / NAME / f"{NAME}.ipynb"
    assert path.read_bytes() == released
    recorded = root / "workspace" / ".course" / "releases" / f"{NAME}.ipynb"
    assert recorded.read_bytes() == released


def test_opening_again_never_overwrites(root, opened):
    before = files_below(root / "workspace")
    release(root, NAME, lesson(stub="new"))
    assert open_lesson("1") == opened
    assert files_below(root / "workspace") == before


def test_the_workspace_is_where_the_environment_says(root, tmp_path, monkeypatch):
    monkeypatch.setenv("COURSE_WORKSPACE", str(tmp_path / "elsewhere"))
    assert open_lesson("1") == tmp_path / "elsewhere" / NAME / f"{NAME}.ipynb"
    assert (tmp_path / "elsewhere" / ".course").is_dir()


def test_a_workspace_that_is_a_file_is_refused(root, tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("COURSE_WORKSPACE", str(tmp_path / "file"))
    with pytest.raises(CourseError, match="is not a folder"):
        open_lesson("1")


def test_a_damaged_release_is_not_copied(root):
    (root / "lessons" / NAME / f"{NAME}.ipynb").write_text("<<<<<<< conflict")
    with pytest.raises(CourseError, match=r"is not JSON .*git restore lessons"):
        open_lesson("1")
    assert not (root / "workspace").exists()


def test_an_update_brings_the_new_text_and_keeps_the_answer(root, opened):
    release(root, NAME, lesson(prose="# First steps, corrected"))
    update()
    assert nbformat.read(opened, 4).cells[0].source == "# First steps, corrected"
    assert nbformat.read(opened, 4).cells[1].source == "def f(): return 42"


def test_an_update_keeps_the_old_file_as_a_backup(root, opened):
    before = opened.read_bytes()
    release(root, NAME, lesson(prose="# First steps, corrected"))
    backup = update()
    assert backup.parent == root / "workspace" / ".course" / "backups"
    assert backup.name.startswith(NAME)
    assert backup.read_bytes() == before


def test_a_second_update_has_nothing_to_do_and_writes_nothing(root, opened):
    release(root, NAME, lesson(stub="def f(x): ..."))
    assert update() is not None
    before = files_below(root / "workspace")
    assert update() is None
    assert files_below(root / "workspace") == before


def test_releases_that_follow_each_other_are_each_merged_against_the_last(root, opened):
    for prose in ("second", "third"):
        release(root, NAME, lesson(prose=prose))
        update()
    assert [cell.source for cell in nbformat.read(opened, 4).cells] == [
        "third",
        "def f(): return 42",
    ]


def test_a_plan_alone_writes_nothing(root, opened):
    release(root, NAME, lesson(prose="new"))
    before = files_below(root / "workspace")
    assert Workspace.current().plan_update(find_lesson("1")).changes_notebook
    assert files_below(root / "workspace") == before


def test_without_a_recorded_release_the_learners_text_is_kept(root, opened):
    (root / "workspace" / ".course" / "releases" / f"{NAME}.ipynb").unlink()
    update()
    assert "def f(): return 42" in [cell.source for cell in nbformat.read(opened, 4).cells]


def test_a_notebook_without_ids_is_updated_like_any_other(root, opened):
    old_format = copy.deepcopy(lesson(stub="def f(): return 42"))
    for cell in old_format.cells:
        del cell["id"]
    old_format.nbformat_minor = 4
    write(old_format, opened)
    release(root, NAME, lesson(prose="new"))
    update()
    merged = nbformat.read(opened, 4)
    assert [cell.source for cell in merged.cells][1] == "def f(): return 42"
    assert merged.cells[1].id == "f"


START = b'{"nbformat": 4, "metadata": {}, "nbformat_minor": '
NOT_NOTEBOOKS = {
    "empty": b"",
    "not JSON": b"{",
    "not UTF-8": b"\xff\xfe\x00",
    "a list": b"[]",
    "format 3": b'{"nbformat": 3, "nbformat_minor": 0, "metadata": {}, "worksheets": []}',
    "no cells": START + b"5}",
    "cells that are no list": START + b'5, "cells": 3}',
    "a cell that is no object": START + b'5, "cells": [1]}',
    "a cell of no known type": START + b'5, "cells": [{"cell_type": "x", "source": ""}]}',
    "a minor version that is text": START + b'"x", "cells": []}',
    "nested too deep": b"[" * 100_000,
}


@pytest.mark.parametrize("content", NOT_NOTEBOOKS.values(), ids=NOT_NOTEBOOKS.keys())
@pytest.mark.parametrize("which", ["mine", "base", "new"])
def test_a_damaged_notebook_is_a_one_line_error_and_nothing_is_written(
    root, opened, which, content
):
    damaged = {
        "mine": opened,
        "base": root / "workspace" / ".course" / "releases" / f"{NAME}.ipynb",
        "new": root / "lessons" / NAME / f"{NAME}.ipynb",
    }[which]
    damaged.write_bytes(content)
    before = files_below(root)
    with pytest.raises(CourseError) as caught:
        update()
    message = str(caught.value)
    assert str(damaged) in message
    assert ";" in message
    assert "\n" not in message
    assert files_below(root) == before


def test_a_lesson_that_was_never_opened_cannot_be_updated(root):
    with pytest.raises(CourseError, match="nothing to update; open it with `course lab"):
        update()


def test_a_link_out_of_the_workspace_is_refused(root, opened, tmp_path):
    elsewhere = tmp_path / "elsewhere.ipynb"
    opened.rename(elsewhere)
    opened.symlink_to(elsewhere)
    release(root, NAME, lesson(prose="new"))
    before = elsewhere.read_bytes()
    with pytest.raises(CourseError, match="outside of the workspace"):
        update()
    assert elsewhere.read_bytes() == before


def test_a_dangling_link_is_not_written_through(root, tmp_path):
    folder = root / "workspace" / NAME
    folder.mkdir(parents=True)
    (folder / f"{NAME}.ipynb").symlink_to(tmp_path / "nowhere.ipynb")
    with pytest.raises(CourseError, match="outside of the workspace"):
        open_lesson("1")
    assert not (tmp_path / "nowhere.ipynb").exists()


def test_a_link_to_itself_is_refused(root):
    folder = root / "workspace" / NAME
    folder.mkdir(parents=True)
    (folder / f"{NAME}.ipynb").symlink_to(folder / f"{NAME}.ipynb")
    with pytest.raises(CourseError, match="leads nowhere"):
        open_lesson("1")


def test_a_workspace_reached_through_a_link_works(root, tmp_path, monkeypatch):
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "real")
    monkeypatch.setenv("COURSE_WORKSPACE", str(tmp_path / "link"))
    assert open_lesson("1").is_file()
    assert update() is None


def test_a_notebook_saved_between_plan_and_write_is_left_alone(root, opened):
    release(root, NAME, lesson(prose="new"))
    workspace = Workspace.current()
    plan = workspace.plan_update(find_lesson("1"))
    write(lesson(stub="saved meanwhile"), opened)
    before = files_below(root)
    with pytest.raises(CourseError, match="saved while it was being updated"):
        workspace.apply_update(plan)
    assert files_below(root) == before


@pytest.mark.parametrize("failing", ["fsync", "replace"])
def test_a_write_that_fails_leaves_the_old_file_whole(root, opened, monkeypatch, failing):
    release(root, NAME, lesson(prose="new"))
    before = files_below(root)

    def disk_full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(*{"fsync": (os, "fsync"), "replace": (Path, "replace")}[failing], disk_full)
    with pytest.raises(CourseError, match="No space left on device"):
        update()
    assert files_below(root) == before


def test_ctrl_c_in_the_middle_of_a_write_leaves_no_half_file(tmp_path, monkeypatch):
    target = tmp_path / "notebook.ipynb"
    target.write_bytes(b"old")

    def interrupted(_):
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "fsync", interrupted)
    with pytest.raises(KeyboardInterrupt):
        files.write_atomically(target, b"new")
    assert files_below(tmp_path) == {target: b"old"}


def test_text_that_cannot_be_encoded_is_refused_before_anything_is_written(root, opened):
    broken = opened.read_text().replace("return 42", r"return '\\ud800'".replace("\\\\", "\\"))
    opened.write_text(broken)
    release(root, NAME, lesson(prose="new"))
    before = files_below(root)
    with pytest.raises(CourseError, match="cannot be written"):
        update()
    assert files_below(root) == before

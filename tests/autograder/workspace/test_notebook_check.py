"""``course check``: a learner's notebook is run in a copy; what is wrong with it is one line."""

import re
import shutil
import sys
from pathlib import Path

import jupytext
import nbformat
import psutil
import pytest
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook
from rich.console import Console

from autograder import cli
from autograder.commands import check
from autograder.errors import CourseError
from autograder.notebook_files import read_notebook
from autograder.workspace.copies import find_lesson
from autograder.workspace.notebook_check import (
    check_notebook,
    lesson_of,
    points_by_hand,
    results_table,
)

ROOT = Path(__file__).parents[3]
SLUG = "01_tiny"
SETUP = "from autograder.notebook import check"
ANSWERS = {
    "1.W1": "vector_bytes = 4096 * 2",
    "1.1": (
        "def kv_bytes_per_token(model):\n"
        "    return 2 * model.num_layers * model.num_kv_heads * model.head_dim * model.dtype_bytes"
    ),
}
CHECKS = {"1.W1": 'check("1.W1", vector_bytes);', "1.1": 'check("1.1", kv_bytes_per_token)'}


def slug_of(exercise):
    return f"ex-{exercise.replace('.', '-').lower()}"


def lesson(answers):
    """Return a lesson of two exercises with these answers."""
    cells = [new_markdown_cell("# Tiny", id="title"), new_code_cell(SETUP, id="setup")]
    for exercise, answer in answers.items():
        id_ = slug_of(exercise)
        cells += [
            new_code_cell(answer, id=id_, metadata={"nbgrader": {"grade_id": id_}}),
            new_code_cell(
                CHECKS[exercise],
                id=f"check-{id_}",
                metadata={"nbgrader": {"grade_id": f"check-{id_}", "locked": True}},
            ),
        ]
    return new_notebook(cells=cells, metadata={"course": {"slug": SLUG}})


def cell(notebook, id_):
    return next(each for each in notebook.cells if each.id == id_)


@pytest.fixture
def save(tmp_path, monkeypatch):
    """Make a checkout with the tiny lesson, and save notebooks in a workspace of it."""
    root = tmp_path / "checkout"
    released = root / "lessons" / SLUG / f"{SLUG}.ipynb"
    released.parent.mkdir(parents=True)
    nbformat.write(lesson(dict.fromkeys(ANSWERS, "# YOUR CODE HERE")), released)
    (root / "workspace" / ".course").mkdir(parents=True)
    shutil.copytree(ROOT / "grading" / "question_banks", root / "grading" / "question_banks")
    shutil.copy(ROOT / "grading" / "rubric.toml", root / "grading")
    monkeypatch.setenv("COURSE_ROOT", str(root))
    monkeypatch.setenv("COURSE_WORKSPACE", str(root / "workspace"))

    def save(notebook):
        path = root / "workspace" / f"{SLUG}.ipynb"
        if isinstance(notebook, bytes):
            path.write_bytes(notebook)
        else:
            nbformat.write(notebook, path)
        return path

    return save


@pytest.fixture
def course_check(monkeypatch, capsys):
    """Run ``course check`` as from a shell; return exit code, stdout and stderr."""

    def course_check(path, *options):
        monkeypatch.setattr(sys, "argv", ["course", "check", str(path), *options])
        monkeypatch.setattr(check, "console", Console(width=200))
        before = path.read_bytes() if path.is_file() else None
        with pytest.raises(SystemExit) as stop:
            cli.main()
        assert (path.read_bytes() if path.is_file() else None) == before, "never modified"
        printed = capsys.readouterr()
        return stop.value.code or 0, printed.out, printed.err

    return course_check


def test_a_right_notebook_passes(save, course_check):
    path = save(lesson(ANSWERS))
    code, out, err = course_check(path)
    assert (code, err) == (0, "")
    assert "1.1 Bytes per token" in out
    assert "10 / 10" in out
    assert "practice" in out
    assert "not yet" not in out
    assert (path.parent / "my_engine" / "kv_bytes_per_token.py").is_file()


def test_a_wrong_notebook_shows_the_reports_and_fails(save, course_check):
    wrong = ANSWERS["1.1"].replace("2 * ", "")
    code, out, err = course_check(save(lesson({**ANSWERS, "1.1": wrong})))
    assert code == 1
    assert err == "course: 1 of 2 checks do not pass yet; see above\n"
    assert "A failing case" in out
    assert "Gives the same values as: K but not V" in out
    assert "0 / 10" in out
    assert "1.W1 Bytes of a vector: " not in out, "what passes needs no report"


def test_what_is_not_started_is_called_so_in_the_table(save, course_check):
    stub = f"{ANSWERS['1.1'].partition(chr(10))[0]}\n    # YOUR CODE HERE\n    return 0"
    notebook = lesson({"1.W1": "vector_bytes = None", "1.1": stub})
    path = save(notebook)
    nbformat.write(notebook, path.parents[1] / "lessons" / SLUG / f"{SLUG}.ipynb")
    code, out, err = course_check(path)
    assert code == 1
    assert err == "course: 2 of 2 checks do not pass yet; see above\n"
    table = out[out.index("Result") :]
    assert table.count("not started") == 2
    assert "not yet" not in out


def test_the_table_says_how_far_each_answer_is(save):
    answers = {"1.W1": "vector_bytes = 5", "1.1": ANSWERS["1.1"]}
    results = check_notebook(save(lesson(answers)), timeout=60, on_cell=lambda index, total: None)
    assert [result.verdict for result in results] == ["not yet", "passed"]


def test_a_cell_that_fails_does_not_keep_the_others_from_being_checked(save):
    notebook = lesson({"1.W1": "1 / 0", "1.1": ANSWERS["1.1"]})
    results = check_notebook(save(notebook), timeout=60, on_cell=lambda index, total: None)
    assert [(r.exercise.id, r.earned, r.passed) for r in results] == [
        ("1.W1", 0.0, False),
        ("1.1", 10.0, True),
    ]
    assert results[0].report == (
        "1.W1 Bytes of a vector: NameError: name 'vector_bytes' is not defined"
    )


def test_what_is_left_over_from_an_earlier_run_does_not_count(save):
    notebook = lesson({"1.W1": "", "1.1": ""})
    check = cell(notebook, "check-ex-1-1")
    check.metadata["tags"] = ["skip-execution"]
    check.outputs = [
        nbformat.v4.new_output(
            "display_data", data={"text/plain": "1.1 Bytes per token: passed, 10 of 10 points"}
        ),
        nbformat.v4.new_output("execute_result", data={"text/plain": "10.0"}),
    ]
    results = check_notebook(save(notebook), timeout=60, on_cell=lambda index, total: None)
    assert [(r.earned, r.passed) for r in results] == [(0.0, False)] * 2


def test_progress_is_told_for_every_cell_and_the_table_adds_up(save):
    told = []
    path = save(lesson(ANSWERS))
    results = check_notebook(path, timeout=60, on_cell=lambda i, n: told.append((i, n)))
    assert told == [(index, 6) for index in range(6)]
    console = Console(width=100)
    with console.capture() as captured:
        console.print(results_table("my.ipynb", results))
    assert "sum" in captured.get()
    assert captured.get().count("10 / 10") == 2
    assert "by hand" not in captured.get()


def test_points_that_no_check_gives_are_named():
    notebook = find_lesson("1").released
    assert points_by_hand(notebook) == 10
    console = Console(width=100)
    with console.capture() as captured:
        console.print(results_table("my.ipynb", [], points_by_hand(notebook)))
    assert re.search(r"answers in words.* 10 more .*marked by hand", captured.get())


def test_an_endless_loop_ends_at_the_time_limit(save, course_check):
    path = save(lesson({**ANSWERS, "1.1": "while True:\n    pass"}))
    code, _, err = course_check(path, "--timeout", "3")
    assert code == 1
    assert err == (
        f"course: {path}: cell ex-1-1 ran longer than 3 s; "
        "look for an endless loop, or allow more with --timeout\n"
    )
    running = [" ".join(child.cmdline()) for child in psutil.Process().children(recursive=True)]
    assert not [command for command in running if "ipykernel" in command]


def test_a_kernel_that_dies_is_named_with_the_cell(save, course_check):
    path = save(lesson({**ANSWERS, "1.1": "import os\nos._exit(1)"}))
    code, _, err = course_check(path)
    assert code == 1
    assert err == (
        f"course: {path}: the kernel died in cell ex-1-1; "
        "it may have run out of memory, or the cell ended the process\n"
    )


def without_metadata(notebook):
    for each in notebook.cells:
        each.metadata = nbformat.NotebookNode()


def without_ids(notebook):
    without_metadata(notebook)
    for position, each in enumerate(notebook.cells):
        each.id = f"lost-{position}"


def without_a_check_to_call(notebook):
    notebook.cells.remove(cell(notebook, "setup"))
    cell(notebook, "ex-1-1").source += "\ncheck = 3"


@pytest.mark.parametrize("change", [without_metadata, without_ids, without_a_check_to_call])
def test_what_an_editor_or_a_slip_breaks_costs_nothing(save, change):
    results = check_notebook(save(tampered(change)), timeout=60, on_cell=lambda index, total: None)
    assert [(r.exercise.id, r.passed) for r in results] == [("1.W1", True), ("1.1", True)]


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-16-le", "utf-16-be"])
def test_a_notebook_that_was_saved_in_another_encoding_is_read(save, encoding):
    path = save(nbformat.writes(lesson(ANSWERS)).encode(encoding))
    assert read_notebook(path, "") == lesson(ANSWERS)


def test_a_notebook_that_was_saved_in_another_encoding_is_checked(save):
    path = save(nbformat.writes(lesson(ANSWERS)).encode("utf-16"))
    results = check_notebook(path, timeout=60, on_cell=lambda index, total: None)
    assert all(result.passed for result in results)


def tampered(change):
    notebook = lesson(ANSWERS)
    change(notebook)
    return notebook


def edit_check(notebook):
    cell(notebook, "check-ex-1-1").source = "10.0"


def delete_check(notebook):
    notebook.cells.remove(cell(notebook, "check-ex-1-1"))


def copy_check(notebook):
    notebook.cells.append(
        new_code_cell("10.0", metadata=cell(notebook, "check-ex-1-1").metadata, id="copy")
    )


def turn_check_into_text(notebook):
    index = notebook.cells.index(cell(notebook, "check-ex-1-1"))
    old = notebook.cells[index]
    notebook.cells[index] = new_markdown_cell(old.source, metadata=old.metadata, id=old.id)


def forget_the_lesson(notebook):
    del notebook.metadata["course"]


def name_another_lesson(notebook):
    notebook.metadata["course"] = {"slug": "99_none"}


def spoil_the_metadata(notebook):
    notebook.metadata["course"] = "01_tiny"


REFUSED = {
    "not JSON": (b"<<<<<<< conflict", "is not JSON"),
    "empty": (b"", "is not JSON"),
    "not a notebook": (b'{"a": 1}', "is not a notebook of format 4"),
    "an old format": (b'{"nbformat": 3, "worksheets": []}', "is not a notebook of format 4"),
    "a locked cell edited": (
        edit_check,
        "the locked cell check-ex-1-1 was edited; `course update 1`",
    ),
    "a locked cell deleted": (delete_check, "the locked cell check-ex-1-1 is missing; `course up"),
    "a locked cell copied": (copy_check, "check-ex-1-1 is there 2 times; delete the copies"),
    "a locked cell made text": (turn_check_into_text, "check-ex-1-1 was edited"),
    "a lesson that there is not": (name_another_lesson, "'99_none' is no lesson"),
}


@pytest.mark.parametrize(("what", "says"), REFUSED.values(), ids=REFUSED.keys())
def test_what_cannot_be_checked_is_one_line_with_the_remedy(save, course_check, what, says):
    path = save(what if isinstance(what, bytes) else tampered(what))
    code, out, err = course_check(path)
    assert code == 1
    assert says in err
    assert ";" in err
    assert err.startswith("course: ")
    assert err.count("\n") == 1
    assert "Points" not in out


def test_a_missing_file_is_one_line(save, course_check, tmp_path):
    code, _, err = course_check(tmp_path / "nowhere.ipynb")
    assert code == 1
    assert err.startswith(f"course: cannot read {tmp_path / 'nowhere.ipynb'}: No such file")
    assert err.count("\n") == 1


def test_a_folder_is_no_notebook(save, course_check, tmp_path):
    code, _, err = course_check(tmp_path)
    assert code == 1
    assert err.startswith(f"course: cannot read {tmp_path}: Is a directory")


def test_lines_that_end_as_on_windows_are_no_edit(save, course_check):
    notebook = lesson({**ANSWERS, "1.W1": "vector_bytes = \\\n    4096 * 2"})
    for each in notebook.cells:
        each.source = each.source.replace("\n", "\r\n")
    edited = tampered(lambda notebook: None)
    cell(edited, "check-ex-1-1").source += "\r\n"
    assert course_check(save(notebook))[0] == 0
    assert "was edited" in course_check(save(edited))[2]


@pytest.mark.parametrize("change", [forget_the_lesson, spoil_the_metadata])
def test_a_notebook_that_lost_its_own_metadata_is_recognised_by_its_cells(save, tmp_path, change):
    save(lesson(ANSWERS))
    assert lesson_of(tampered(change), tmp_path / "mine.ipynb").name == SLUG


def test_what_nothing_tells_is_no_lesson(save, tmp_path):
    save(lesson(ANSWERS))
    with pytest.raises(CourseError, match="is not a lesson of this course: neither its metadata"):
        lesson_of(new_notebook(), tmp_path / "mine.ipynb")


@pytest.mark.parametrize("way", ["py:percent", "md"])
def test_a_notebook_that_went_through_jupytext_is_recognised_by_its_cells(save, course_check, way):
    text = jupytext.writes(lesson(ANSWERS), fmt=way)
    back = jupytext.reads(text, fmt=way)
    assert "course" not in back.metadata
    code, out, err = course_check(save(back))
    assert (code, err) == (0, "")
    assert "10 / 10" in out


@pytest.mark.parametrize("name", [SLUG, f"{SLUG} (1)", f"{SLUG}-Copy1"])
def test_else_by_the_name_of_its_file(tmp_path, save, name):
    save(lesson(ANSWERS))
    assert lesson_of(new_notebook(), tmp_path / f"{name}.ipynb").name == SLUG


def test_a_kernel_of_the_users_own_by_the_same_name_is_not_used(save, monkeypatch, tmp_path):
    spec = tmp_path / "jupyter" / "kernels" / "python3" / "kernel.json"
    spec.parent.mkdir(parents=True)
    spec.write_text('{"argv": ["/no/such/python"], "display_name": "mine", "language": "python"}')
    monkeypatch.setenv("JUPYTER_PATH", str(tmp_path / "jupyter"))
    monkeypatch.setenv("HOME", str(spec / "a home that cannot be written"))
    results = check_notebook(save(lesson(ANSWERS)), timeout=60, on_cell=lambda index, total: None)
    assert all(result.passed for result in results)


def test_a_notebook_that_asks_nothing_has_nothing_to_check(save, course_check):
    notebook = lesson({})
    path = save(notebook)
    nbformat.write(notebook, path.parents[1] / "lessons" / SLUG / f"{SLUG}.ipynb")
    code, _, err = course_check(path)
    assert code != 0
    assert f"{SLUG} asks nothing, so there is nothing to check; open it with `course lab 1`" in err

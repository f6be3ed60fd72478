"""What a lesson's cells call, in a plain process and in a real kernel."""

import subprocess
import sys
import textwrap
import warnings
from collections import Counter
from dataclasses import replace

import nbformat
import numpy as np
import pytest
from nbclient import NotebookClient
from nbformat.v4 import new_code_cell, new_notebook

from autograder import lessons, notebook
from autograder.checks.answer import AnswerCheck
from autograder.checks.answers import is_of_code, not_the_code_itself, right_answer
from autograder.errors import CourseError
from autograder.notebook import check, compare, explain, quiz
from autograder.paths import course_root
from course_lib import parts
from course_lib.attention.backends import availability

RIGHT = """
def kv_bytes_per_token(model):
    return 2 * model.num_layers * model.num_kv_heads * model.head_dim * model.dtype_bytes
"""


@pytest.fixture
def answer(load):
    """Make the learner's function from source."""
    return lambda source: load(source).kv_bytes_per_token


# In a plain process


def test_what_a_lesson_imports_first_takes_no_time_for_files_of_notebooks():
    # nbformat's validator builds a grammar as it is imported: most of a kernel's start.
    slow = ("nbformat", "jsonschema", "nbclient", "torch", "matplotlib")
    code = f"import sys, autograder.notebook; print(*sys.modules.keys() & {set(slow)!r})"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == []


def test_a_right_answer_prints_a_line_and_returns_the_points(answer, capsys, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    assert check("1.1", answer(RIGHT)) == 10.0
    assert capsys.readouterr().out == "1.1 Bytes per token: passed, 10 of 10 points\n"


class InTriton:
    """A check whose reference is a kernel, on a machine without Triton."""

    misconceptions = ()

    @property
    def reference(self):
        raise ModuleNotFoundError("No module named 'triton'", name="triton")


def test_an_exercise_in_triton_says_so_where_there_is_none(monkeypatch, capsys):
    kernel = replace(lessons.find("1.2"), check=InTriton())
    monkeypatch.setattr(availability.importlib.util, "find_spec", lambda name: None)
    monkeypatch.setattr(lessons, "find", lambda exercise_id: kernel)
    assert check("1.2", lambda *arguments: None) == 0.0
    said = capsys.readouterr().out
    assert said.startswith("1.2 How many blocks fit: not started, 0 of 10 points\n")
    assert "It cannot be checked here: Triton is not installed; it exists for Linux only" in said


def test_an_exercise_in_triton_keeps_no_other_from_being_checked(answer, monkeypatch, capsys):
    first, second = lessons.find("1.1"), lessons.find("1.2")
    kernel = replace(second, check=InTriton())
    monkeypatch.setattr(lessons, "exercises", lambda lesson: (first, kernel))
    assert check("1.1", answer(RIGHT.replace("2 * ", ""))) == 0.0
    assert "K but not V" in capsys.readouterr().out


def test_points_are_a_float_so_that_nbgrader_takes_them(answer):
    for obj in (answer(RIGHT), None):
        points = check("1.1", obj)
        assert isinstance(points, float)
        assert repr(points) == repr(float(points))


def test_a_wrong_answer_prints_the_report_in_order_and_earns_nothing(answer, capsys):
    assert check("1.1", answer(RIGHT.replace("2 * ", ""))) == 0.0
    out = capsys.readouterr().out
    words = [
        "not yet",
        "Asked:",
        "A failing case:",
        "Expected:",
        "Got:",
        "Gives the same values as: K but",
    ]
    words += ["Hint:"]
    places = [out.index(word) for word in words]
    assert places == sorted(places)


def test_a_stub_is_told_where_to_begin(answer, capsys):
    assert check("1.1", answer("def kv_bytes_per_token(model):\n    pass")) == 0.0
    assert "not started" in capsys.readouterr().out


@pytest.mark.parametrize("obj", [None, 5, "text", [], object(), len, int, Exception("x")])
def test_whatever_is_handed_in_is_answered(obj, capsys):
    assert check("1.1", obj) == 0.0
    assert "1.1 Bytes per token: not " in capsys.readouterr().out


@pytest.mark.parametrize(
    ("exercise_id", "obj", "says"),
    [
        ("1.1", 819_200, "given an int, 819200, and calls a function: pass the function itself"),
        ("1.4", 0.5, "given a float, 0.5, and calls a function: pass the function itself"),
        ("1.7a", [(11, 16)], "given a list and calls a function: pass the function itself"),
        ("1.1", None, "given None and calls a function: pass the function itself"),
        ("10.2b", property(len), "given a property and calls a function: take `@property` away"),
        ("11.1a", classmethod(len), "given a classmethod and calls a function: take `@classmeth"),
        ("4.10", object(), "given an object and calls a class: pass the class itself"),
    ],
)
def test_what_comes_of_calling_an_answer_is_not_the_answer(exercise_id, obj, says, capsys):
    assert check(exercise_id, obj) == 0
    out = capsys.readouterr().out
    assert f"Next: The check was {says}" in out
    assert "TypeError" not in out
    assert notebook._failures[exercise_id] == 0, "it is no try"


def test_which_checks_call_what_they_are_given_is_known_of_all_exercises():
    everything = [each for number in lessons.numbers() for each in lessons.exercises(number)]
    at_hand = [each.check for each in everything if not each.missing]
    for each in at_hand:
        if not isinstance(each, AnswerCheck):  # its right answer is a value, which takes long
            assert is_of_code(each) == callable(right_answer(each))
            assert not_the_code_itself(each, right_answer(each)) == ""
    assert not any(is_of_code(each) for each in at_hand if isinstance(each, AnswerCheck))


@pytest.mark.parametrize("exercise_id", ["1.99", "99.1", "", None, 1.1, "one"])
def test_an_unknown_exercise_is_one_line(exercise_id):
    with pytest.raises(CourseError) as caught:
        check(exercise_id, None)
    assert "\n" not in str(caught.value)
    assert ";" in str(caught.value)


def test_warnings_and_prints_of_the_answer_reach_neither_stderr_nor_the_report(answer, capsys):
    noisy = "import sys, warnings\n" + RIGHT.replace(
        "    return",
        "    print('hello'); print('oops', file=sys.stderr); warnings.warn('old')\n    return",
    )
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert check("1.1", answer(noisy)) == 10.0
    printed = capsys.readouterr()
    assert printed.err == ""
    assert "hello" not in printed.out
    check("1.1", answer(noisy.replace("2 * ", "")))
    printed = capsys.readouterr()
    assert printed.err == ""
    assert "It printed:\n    hello\n    oops\n    UserWarning: old" in printed.out


def test_checking_does_not_change_the_state_of_the_process(answer, capsys):
    script = textwrap.dedent(
        f"""
        import os, random, sys, warnings
        from autograder.notebook import check
        {textwrap.indent(RIGHT, "        ").strip()}
        random.seed(1)
        before = random.getstate(), sys.stdout, sys.stderr, list(warnings.filters), os.listdir()
        check("1.1", kv_bytes_per_token)
        check("1.1", lambda model: 0)
        after = random.getstate(), sys.stdout, sys.stderr, list(warnings.filters), os.listdir()
        assert before == after
        """
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")


# Hints and explanations


@pytest.fixture(autouse=True)
def new_session(monkeypatch):
    """Forget what failed and passed in other tests."""
    monkeypatch.setattr(notebook, "_failures", Counter())
    monkeypatch.setattr(notebook, "_passed", set())


WRONG = RIGHT.replace("2 * ", "")
STUB = "def kv_bytes_per_token(model):\n    pass"


def test_each_failure_brings_the_next_hint_and_a_stub_does_not_count(answer, capsys):
    hints = lessons.find("1.1").hints
    for source, due in ((WRONG, 0), (STUB, 0), (WRONG, 1), (WRONG, 2), (WRONG, 2)):
        check("1.1", answer(source))
        assert f"Hint: {hints[due]}" in capsys.readouterr().out
    check("1.2", lambda *args, **kwargs: 1)
    assert f"Hint: {lessons.find('1.2').hints[0]}" in capsys.readouterr().out


def explained(exercise_id, capsys):
    """Return what is shown of an exercise's solution, or said instead."""
    capsys.readouterr()
    explain(exercise_id)
    return capsys.readouterr().out


def test_a_solution_is_explained_after_a_pass_or_three_failures(answer, capsys):
    said = "The solution of 1.1 opens once you have passed its check or tried it 3 times; so far: "
    for tries in range(3):
        assert explained("1.1", capsys).startswith(f"{said}{tries}.")
        check("1.1", answer(WRONG))
    assert "numbers_per_layer" in explained("1.1", capsys)
    assert "so far: 0." in explained("1.3", capsys)
    check("1.W1", 8192)
    assert "vector_bytes = 4096 * 2\n" in explained("1.W1", capsys)


def test_a_solution_is_shown_wherever_in_a_cell_it_is_asked_for(answer, monkeypatch):
    """A cell shows the value of its last line alone."""
    check("1.1", answer(RIGHT))
    shown = []
    monkeypatch.setattr(notebook, "_display", shown.append)
    assert explain("1.1") is None
    (solution,) = shown
    assert "```python\ndef kv_bytes_per_token" in solution._repr_markdown_()


def test_a_part_that_is_kept_opens_its_explanation_in_another_session(answer, workspace, capsys):
    check("1.1", answer(RIGHT))
    notebook._passed.clear()
    assert "numbers_per_layer" in explained("1.1", capsys)
    (workspace / "my_engine" / "kv_bytes_per_token.py").unlink()
    assert "numbers_per_layer" not in explained("1.1", capsys)


def test_where_there_are_no_solutions_it_says_so(answer, tmp_path, monkeypatch, capsys):
    (tmp_path / "lessons").mkdir()
    monkeypatch.setenv("COURSE_ROOT", str(tmp_path))
    check("1.1", answer(RIGHT))
    assert "has no solutions" in explained("1.1", capsys)


def test_a_submission_that_is_graded_explains_nothing(answer, monkeypatch, capsys):
    monkeypatch.setenv("NBGRADER_EXECUTION", "autograde")
    check("1.1", answer(RIGHT))
    assert "has no solutions" in explained("1.1", capsys)


def test_an_unknown_exercise_is_not_explained():
    with pytest.raises(CourseError, match="no exercise"):
        explain("1.99")


def released_stub(exercise_id):
    """Return the cell of an exercise as it was released, and the imports of the setup cell."""
    (path,) = course_root().glob("lessons/01_*/*.ipynb")
    cells = {cell.id: cell.source for cell in nbformat.read(path, 4).cells}
    setup = next(source for source in cells.values() if source.startswith("from __future__"))
    return f"{setup}\n\n{cells[f'ex-{exercise_id}']}"


@pytest.mark.parametrize(
    "edit",
    [
        lambda source: source,
        lambda source: source.replace("# YOUR CODE HERE", "# I have no idea\n"),
        lambda source: source.replace("# YOUR CODE HERE\n", "\n\n"),
        lambda source: source.replace("used = later = internal = 0", "used=later=internal=0"),
        lambda source: source.replace("YOUR CODE HERE", "count").replace("Four counts", "4 counts"),
    ],
    ids=["as released", "commented", "without the marks", "laid out anew", "redocumented"],
)
def test_a_stub_that_returns_a_value_is_not_started_and_no_try(edit, load, capsys):
    for _ in range(4):
        assert check("1.3", load(edit(released_stub("1-3"))).classify_slots) == 0
        out = capsys.readouterr().out
        assert out.startswith("1.3 Where did the memory go: not started, 0 of 10 points\n")
        said = "Next: Nothing is written yet: write below YOUR CODE HERE, wherever it stands."
        assert said in out
        assert f"Hint: {lessons.find('1.3').hints[0]}" in out
        assert "3 times; so far: 0." in explained("1.3", capsys)


def test_a_stub_with_one_step_written_is_a_try(load, capsys):
    begun = released_stub("1-3").replace("# YOUR CODE HERE", "used += request.written", 1)
    check("1.3", load(begun).classify_slots)
    assert "1.3 Where did the memory go: not yet, 0 of 10 points" in capsys.readouterr().out
    assert "3 times; so far: 1." in explained("1.3", capsys)


FADED = """
from course_lib.kv_cache.reservation import SlotUse

def classify_slots(reservations, num_slots):
    used = later = internal = 0
    for request in reservations:
        if request.written > request.reserved or request.written > request.final:
            raise ValueError("written")
        used += request.reserved + 1
        later += 0
    external = num_slots - (used + later + internal)
    if external < 0:
        raise ValueError(
            "given"
        )
    return SlotUse(used, later, internal, external)
"""


def test_a_line_that_the_exercise_gives_does_not_stand_in_for_the_mistake(load, capsys):
    check("1.3", load(FADED).classify_slots)
    out = capsys.readouterr().out
    assert "Got:\n    no value: a line that the exercise gives stopped it (ValueError)" in out
    assert "the line is 'raise ValueError(' in line 13, with num_slots = " in out
    assert "external = -" in out
    assert "what your lines worked out led there" in out


def test_a_name_that_a_given_line_misses_is_named(load, capsys):
    own = FADED.partition("    external = ")[0]
    given = "    return SlotUse(used, later, internal, external=num_slots - reserved)"
    check("1.3", load(own + given).classify_slots)
    out = capsys.readouterr().out
    assert "stopped it (NameError: name 'reserved' is not defined)" in out


def test_what_a_learner_raises_is_the_learners(load, capsys):
    check("1.1", load("def kv_bytes_per_token(model):\n    return model.heads").kv_bytes_per_token)
    out = capsys.readouterr().out
    assert "AttributeError: 'ModelSpec' object has no attribute 'heads'" in out
    assert "That is: in line 2: return model.heads" in out


# Parts


def test_a_part_that_passes_is_kept_and_used(answer, workspace, capsys):
    check("1.1", answer(RIGHT))
    assert "Kept as my_engine/kv_bytes_per_token.py: your engine uses it" in capsys.readouterr().out
    assert parts.get("kv_bytes_per_token").__module__ == "my_engine.kv_bytes_per_token"
    assert check("1.1", parts.get("kv_bytes_per_token")) == 10.0


def test_a_part_that_does_not_pass_is_not_kept(answer, workspace):
    check("1.1", answer(RIGHT.replace("2 * ", "")))
    assert not (workspace / "my_engine").exists()


def test_a_wrong_answer_leaves_the_part_that_passed_before(answer, workspace):
    check("1.1", answer(RIGHT))
    before = (workspace / "my_engine" / "kv_bytes_per_token.py").read_bytes()
    check("1.1", answer(RIGHT.replace("2 * ", "")))
    assert (workspace / "my_engine" / "kv_bytes_per_token.py").read_bytes() == before


def test_an_answer_that_is_no_part_is_not_kept(workspace):
    check("1.W1", 8192)
    assert not (workspace / "my_engine").exists()


@pytest.mark.parametrize(
    ("source", "reason"),
    [
        (RIGHT.replace("2 *", "TWO[0] *") + "TWO = [2]", "it uses TWO, a list of the notebook"),
        (
            RIGHT.replace("def kv_bytes_per_token", "def per_token")
            + "kv_bytes_per_token = per_token",
            "it does not define kv_bytes_per_token",
        ),
        (
            "kv_bytes_per_token = lambda m: (\n"
            "    2 * m.num_layers * m.num_kv_heads * m.head_dim * m.dtype_bytes\n)",
            "a lambda has no name; write a def",
        ),
        (
            "import functools\n"
            + RIGHT.replace("(model)", "(factor, model)").replace("2 *", "factor *")
            + "kv_bytes_per_token = functools.partial(kv_bytes_per_token, 2)",
            "an object of class partial has no text to be kept; define it with def or with class",
        ),
    ],
)
def test_a_right_answer_that_cannot_be_kept_earns_its_points_and_is_told_why(
    answer, workspace, capsys, source, reason
):
    assert check("1.1", answer(source)) == 10.0
    assert f"Right, but not kept as a part of your engine: {reason}" in capsys.readouterr().out
    assert not list(workspace.glob("my_engine/*"))


def test_of_a_text_that_does_something_else_is_told_what(answer, workspace, monkeypatch, capsys):
    other = RIGHT.replace("return 2 *", "return 3 *")
    monkeypatch.setattr(notebook, "standalone_source", lambda obj, exercise_id: other)
    assert check("1.1", answer(RIGHT)) == 10.0
    said = capsys.readouterr().out
    assert "the text found for it does not do what your cell does" in said
    assert "With it, kv_bytes_per_token(model) gives" in said
    assert not list(workspace.glob("my_engine/*"))


def test_a_busy_moment_does_not_keep_a_part_from_being_saved(answer, workspace, monkeypatch):
    late_once = f"calls = []\n{RIGHT}".replace(
        "    return", "    calls.append(0)\n    if len(calls) == 1: raise MemoryError\n    return"
    )
    monkeypatch.setattr(notebook, "standalone_source", lambda obj, exercise_id: late_once)
    assert check("1.1", answer(RIGHT)) == 10.0
    assert list(workspace.glob("my_engine/kv_bytes_per_token.py"))


def test_a_workspace_that_cannot_be_written_costs_no_points(answer, workspace, capsys):
    (workspace / "my_engine").write_text("a file where the folder should be")
    assert check("1.1", answer(RIGHT)) == 10.0
    assert "Right, but not kept" in capsys.readouterr().out


def test_while_a_submission_is_graded_nothing_is_kept(answer, workspace, monkeypatch, capsys):
    monkeypatch.setenv("NBGRADER_EXECUTION", "autograde")
    assert check("1.1", answer(RIGHT)) == 10.0
    assert "Kept" not in capsys.readouterr().out
    assert not (workspace / "my_engine").exists()


# Predictions and the quiz


@pytest.mark.parametrize(
    ("prediction", "actual", "says"),
    [
        (None, 10, "Write your prediction first: the surprise is what you learn from."),
        (4, 10, "You predicted 4 GiB. It is 10 GiB: 2.5 times as much."),
        (20, 10, "You predicted 20 GiB. It is 10 GiB: your prediction is 2 times as large."),
        (0.12, 12.2, "You predicted 0.12 GiB. It is 12.2 GiB: 102 times as much."),
        (1500, 1876, "You predicted 1,500 GiB. It is 1,876 GiB: 1.3 times as much."),
        (np.float64(4), 10, "You predicted 4 GiB. It is 10 GiB: 2.5 times as much."),
        ("many", 10, "A prediction is a number; yours is 'many'. It is 10 GiB."),
        (True, 10, "A prediction is a number; yours is True. It is 10 GiB."),
        (10.5, 10, "You predicted 10.5 GiB. It is 10 GiB."),
        (0, 10, "You predicted 0 GiB. It is 10 GiB."),
        (-1, 10, "You predicted -1 GiB. It is 10 GiB."),
    ],
)
def test_a_prediction_is_held_against_what_came_out(capsys, prediction, actual, says):
    compare(prediction, actual, "GiB")
    assert capsys.readouterr().out == says + "\n"


@pytest.mark.parametrize(
    ("prediction", "actual", "says"),
    [
        (True, True, "You predicted True. It is True."),
        (False, True, "You predicted False. It is True."),
        (1, True, "A prediction is True or False; yours is 1. It is True."),
        (None, True, "Write your prediction first: the surprise is what you learn from."),
    ],
)
def test_a_prediction_may_be_yes_or_no(capsys, prediction, actual, says):
    compare(prediction, actual, "")
    assert capsys.readouterr().out == says + "\n"


def test_ids_are_not_divided_by_each_other(capsys):
    compare(3, 4, "", ratio=False)
    assert capsys.readouterr().out == "You predicted 3. It is 4.\n"


def test_the_quiz_of_a_lesson_is_a_widget_and_an_unknown_one_an_error():
    assert hasattr(quiz(1), "_repr_mimebundle_")
    with pytest.raises(CourseError, match="no question bank for lesson 99"):
        quiz(99)


# In a kernel

CELLS = {
    "setup": "from autograder.notebook import check",
    "helper": (
        "import math\n\ndef per_layer(model):\n    return 2 * model.num_kv_heads * model.head_dim"
    ),
    "answer": (
        "def kv_bytes_per_token(model):\n"
        "    return math.prod((model.num_layers, per_layer(model), model.dtype_bytes))"
    ),
    "check": 'check("1.1", kv_bytes_per_token)',
    "wrong": 'check("1.1", lambda model: "<script>alert(1)</script>")',
    "unknown": 'check("1.99", 1)',
    "class": (
        "class Base:\n    pass\n\nclass Pool(Base):\n"
        "    def size(self):\n        return per_layer(self)"
    ),
    "harvest": (
        "from autograder.workspace.harvest import standalone_source\n"
        'print(standalone_source(Pool, "3.1"))'
    ),
    "file": "print(open('my_engine/kv_bytes_per_token.py').read())",
}


@pytest.fixture
def kernel(workspace):
    """Run the cells in a real kernel in the workspace; return their outputs."""
    notebook = new_notebook(cells=[new_code_cell(text, id=id_) for id_, text in CELLS.items()])
    NotebookClient(
        notebook,
        timeout=60,
        kernel_name="python3",
        allow_errors=True,
        extra_arguments=["--Application.log_level=40"],
        resources={"metadata": {"path": str(workspace)}},
    ).execute()
    return {cell.id: cell.outputs for cell in notebook.cells}


def test_in_a_kernel_reports_are_html_errors_one_line_and_parts_are_kept(kernel):
    shown, result = kernel["check"]
    assert 'data-verdict="passed"' in shown.data["text/html"]
    assert shown.data["text/plain"].startswith("1.1 Bytes per token: passed, 10 of 10 points")
    assert result.data["text/plain"] == "10.0"
    assert result.data["text/html"] == "<span></span>"
    assert shown.data["text/html"].count("<details>") == 1
    assert "Explained.</strong> Two vectors" in shown.data["text/html"]
    assert "Map of the engine: Sizing: 1 of 2 yours" in shown.data["text/html"]

    shown, result = kernel["wrong"]
    assert 'data-verdict="not yet"' in shown.data["text/html"]
    assert "<script>" not in shown.data["text/html"]
    assert "<details>" not in shown.data["text/html"]
    assert "<svg" not in shown.data["text/html"]
    assert result.data["text/plain"] == "0.0"

    (error,) = kernel["unknown"]
    assert error.ename == "CourseError"
    assert error.traceback == [f"CourseError: {error.evalue}"]
    assert error.evalue.startswith("no exercise '1.99'; lesson 1 has")

    (kept,) = kernel["file"]
    assert kept.text.startswith('"""My own kv_bytes_per_token: passed check 1.1."""')
    assert "import math" in kept.text
    assert "def per_layer(model):" in kept.text

    (harvested,) = kernel["harvest"]
    assert harvested.output_type == "stream"
    assert harvested.text.index("class Base") < harvested.text.index("class Pool(Base)")
    assert "def per_layer" in harvested.text

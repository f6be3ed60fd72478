"""The gates that every lesson passes through, whichever lessons there are.

A new lesson is covered by being there: everything here is derived from ``solutions/`` and the
checks. The solution notebook earns everything and the released one nothing; each check really looks
at the learner's work; each known mistake is rejected and named; and nothing of a solution is
released.
"""

import copy
import functools
import importlib
import inspect
import re
from functools import cache
from itertools import pairwise

import jupytext
import nbformat
import pytest
from nbclient import NotebookClient
from nbformat import NotebookNode
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook

from autograder import lessons
from autograder.build import holes
from autograder.build import notebooks as building
from autograder.build.cells import SOLUTION_ONLY
from autograder.checks.answers import right_answer, wrong_answer
from autograder.checks.quiz import QuizCheck
from autograder.checks.report import Report
from autograder.grading.rules import score
from autograder.paths import course_root
from autograder.proxy.subject import LocalSubject
from autograder.scopes import dedented
from course_lib.simulation.workload import traces_dir

SOURCES = {source.stem: source for source in building.graded_sources()}
OPEN = {source.stem: source for source in building.sources() if source.stem in building.OPEN}
EXERCISES = [exercise for lesson in lessons.numbers() for exercise in lessons.exercises(lesson)]
MISTAKES = [(e, m) for e in EXERCISES for m in e.check.misconceptions]
SHORTEST_TELLING_LINE = 18
"""Characters below which a line of a solution, such as ``return total``, gives nothing away."""

LONGEST_HOLE = 30
"""Lines of code that a learner is asked to write at one place."""
LONGER_HOLES: dict[str, str] = {}
"""Exercises with a longer hole, each with the reason why it is not cut smaller."""

each_lesson = pytest.mark.parametrize("slug", SOURCES)
each_open_notebook = pytest.mark.parametrize("slug", OPEN)
each_notebook = pytest.mark.parametrize("slug", [*SOURCES, *OPEN])
each_exercise = pytest.mark.parametrize("exercise", EXERCISES, ids=lambda e: e.id)


FEW = 2
"""Examples beside the probes, by which alone each known mistake is told."""
SOME = 25
"""Examples of another seed, where as many as a learner meets are drawn of theirs."""


@cache
def solution(slug):
    """Return the solution notebook, as it is built now."""
    return building.solution_notebook((SOURCES | OPEN)[slug])


@cache
def released(slug):
    """Return the released notebook, as it is committed."""
    return nbformat.read(building.release_path(slug), 4)


def source_cells(slug):
    """Return the cells of the lesson's source, directives as they are written."""
    return jupytext.reads(
        (SOURCES | OPEN)[slug].read_text(encoding="utf-8"), fmt="py:percent"
    ).cells


def exercises(slug):
    return {exercise.id: exercise for exercise in lessons.exercises(int(slug[:2]))}


def role(cell):
    return cell.metadata.get("nbgrader", {})


def is_check(cell):
    return cell.id.startswith("check-")


def is_answer(cell):
    return cell.cell_type == "code" and role(cell).get("solution", False)


def answers_in(notebook):
    """Return the cells of a notebook in which code or a value is written."""
    return [cell for cell in notebook.cells if is_answer(cell)]


SHORT_SHRINKING = """
from autograder.checks import acts as _acts, search as _search
_acts.SECONDS = _search.SHRINKING_SECONDS = 0.02
"""
"""No gate reads a failing case, so none is made smaller."""

FEWER_ROUNDS = """
import gc as _gc
from autograder.checks import garbage as _garbage
_gc.freeze()
_gc.set_threshold(_garbage.OBJECTS)
"""
"""What simulates makes objects without end, and the collector is not what a gate asks about."""


def after_setup(cells, *sources):
    """Return the cells with others behind the first one that holds code."""
    setup = next(place for place, cell in enumerate(cells) if cell.cell_type == "code")
    return [*cells[: setup + 1], *map(new_code_cell, sources), *cells[setup + 1 :]]


def run(cells, workspace, *sources):
    """Run cells from top to bottom in a kernel of their own, errors included; return them by id.

    Args:
        cells: The cells.
        workspace: Where they run.
        sources: What is run besides, when the lesson has been set up.
    """
    kernel = {"kernelspec": {"name": "python3", "display_name": "Python 3"}}
    prepared = after_setup(list(cells), SHORT_SHRINKING, FEWER_ROUNDS, *sources)
    notebook = new_notebook(cells=copy.deepcopy(prepared), metadata=kernel)
    NotebookClient(
        notebook,
        timeout=120,
        allow_errors=True,
        extra_arguments=["--Application.log_level=40"],
        resources={"metadata": {"path": str(workspace)}},
    ).execute()
    return {cell.id: cell for cell in notebook.cells}


def troubles(cell):
    """Return the errors and warnings of a cell that was run."""
    outputs = cell.get("outputs", [])
    errors = [f"{o.ename}: {o.evalue}" for o in outputs if o.output_type == "error"]
    return errors + [o.text for o in outputs if o.get("name") == "stderr"]


def earned(cell, exercise):
    """Return the points that a check cell shows; None where it shows none and should."""
    shown = [o.data["text/plain"] for o in cell.outputs if o.output_type == "execute_result"]
    if not exercise.points:
        assert shown in ([], ["0.0"]), "practice earns nothing"
        return 0
    return score(shown[-1], exercise.points) if shown else None


def report(cell):
    shown = [o.data["text/plain"] for o in cell.outputs if o.output_type == "display_data"]
    return shown[-1] if shown else ""


def exercise_of(cell, slug):
    """Return the exercise that a check cell checks."""
    return next(e for e in exercises(slug).values() if f'check("{e.id}"' in cell.source)


# Running


REMEMBER = "_names_before = set(globals())"
FORGET = """
for _name in set(globals()) - _names_before:
    if not _name.startswith("_"):
        del globals()[_name]
"""


def renamed(cells, prefix):
    """Return copies of cells, with a prefix before their ids."""
    result = [copy.deepcopy(cell) for cell in cells]
    for cell in result:
        cell.id = f"{prefix}{cell.id}"
    return result


def without_answers(slug):
    """Return the solution, and before each answer its check twice: without it, and with its stub.

    What the copies define is forgotten, so that the cells behind run as they do without copies.
    """
    cells = solution(slug).cells
    stubs = {cell.id: cell for cell in filter(is_answer, released(slug).cells)}
    result = []
    for place, cell in enumerate(cells):
        if is_answer(cell):
            following = list(cells[place + 1 :])
            check = next(i for i, c in enumerate(following) if c.id == f"check-{cell.id}")
            to_check = [c for c in following[: check + 1] if c.cell_type == "code"]
            result.append(new_code_cell(REMEMBER, id=f"remember-{cell.id}"))
            result += renamed(to_check, "deleted-")
            result.append(new_code_cell(FORGET, id=f"forget-{cell.id}"))
            result += renamed([stubs[cell.id], to_check[-1]], "stub-")
            result.append(new_code_cell(FORGET, id=f"forget-again-{cell.id}"))
        result.append(cell)
    return result


def require_full_marks(done, slug):
    """Require that a solution has run without a word of trouble and has earned everything."""
    cells = solution(slug).cells
    assert [(cell.id, trouble) for cell in cells for trouble in troubles(done[cell.id])] == []
    for cell in filter(is_check, cells):
        exercise = exercise_of(cell, slug)
        assert earned(done[cell.id], exercise) == exercise.points, exercise.id
        assert f"{exercise.id} {exercise.title}: passed" in report(done[cell.id])


def require_not_started(cell, slug):
    """Require that a check has earned nothing, and has said that nothing is there to check."""
    exercise = exercise_of(cell, slug)
    assert earned(cell, exercise) == 0, exercise.id
    headline = report(cell).partition(",")[0].partition("\n")[0]
    assert headline == f"{exercise.id} {exercise.title}: not started"


@each_lesson
def test_the_solution_earns_everything_and_each_check_nothing_without_its_answer_or_with_its_stub(
    slug, workspace, tmp_path, monkeypatch
):
    # A folder without traces: synthetic ones stand in, as on a learner's machine.
    monkeypatch.setenv("COURSE_TRACES", str(tmp_path))
    cells = solution(slug).cells
    done = run(without_answers(slug), workspace)

    require_full_marks(done, slug)
    for exercise in exercises(slug).values():
        if exercise.part:
            path = exercise.part.replace(".", "/")
            assert (workspace / "my_engine" / f"{path}.py").is_file()

    for cell in done.values():
        if cell.id.startswith(("remember-", "forget-")):
            assert troubles(cell) == []
    deleted = [cell for id_, cell in done.items() if id_.startswith("deleted-check-")]
    assert len(deleted) == sum(map(is_answer, cells))
    for cell in deleted:
        assert not earned(cell, exercise_of(cell, slug)), cell.id
        assert ": passed" not in report(cell), cell.id
    with_stubs = [cell for id_, cell in done.items() if id_.startswith("stub-check-")]
    assert len(with_stubs) == len(deleted)
    for cell in with_stubs:
        require_not_started(cell, slug)


UNASKED = """
%reset -f
from autograder.checks.exercise import Exercise as _Exercise
from autograder.checks.finding import Finding as _Finding
_Exercise.examine = lambda *args, **kwargs: _Finding(1.0)
"""
"""Forgets the names. What checks say is asked with synthetic traces, and of references with all."""


@pytest.mark.journey
@each_lesson
def test_the_released_lesson_earns_nothing_and_it_and_the_solution_run_on_real_traces(
    slug, workspace
):
    cells = released(slug).cells
    # Checks run where no cell has run before them, too.
    alone = renamed(filter(is_check, cells), "alone-")
    nothing_kept = new_code_cell("import os; os.path.exists('my_engine')", id="nothing-kept")
    solved = renamed(solution(slug).cells, "solved-") if traces_dir() else []
    # One kernel for both: to import the library takes longer than a short lesson.
    everything = [*alone, *cells, nothing_kept, new_code_cell(UNASKED, id="unasked"), *solved]
    done = run(everything, workspace)

    assert len(alone) == len(exercises(slug))
    for cell in alone:
        assert not earned(done[cell.id], exercise_of(cell, slug))
        assert report(done[cell.id]) == ""

    assert [(cell.id, trouble) for cell in cells for trouble in troubles(done[cell.id])] == []
    for cell in filter(is_check, cells):
        require_not_started(done[cell.id], slug)
    assert done["nothing-kept"].outputs[0].data["text/plain"] == "False"

    assert troubles(done["unasked"]) == []
    if solved:
        prefix = "solved-"
        done = {i.removeprefix(prefix): cell for i, cell in done.items() if i.startswith(prefix)}
        require_full_marks(done, slug)


# What asks nothing


@each_open_notebook
def test_an_open_notebook_asks_nothing_and_is_released_as_it_is(slug):
    assert int(slug[:2]) not in lessons.numbers()
    asking = {"exercise", "check", "answer", "quiz", "interview"}
    assert [cell.source for cell in source_cells(slug) if asking & set(cell.metadata)] == []
    assert [cell.id for cell in released(slug).cells if role(cell)] == []
    assert [cell.id for cell in released(slug).cells] == [cell.id for cell in solution(slug).cells]


def require_that_it_runs(slug, workspace):
    """Require that a notebook that asks nothing runs without a word of trouble."""
    cells = released(slug).cells
    done = run(cells, workspace)
    assert [(cell.id, trouble) for cell in cells for trouble in troubles(done[cell.id])] == []
    assert not (workspace / "my_engine").exists()


@pytest.mark.journey
@each_open_notebook
def test_an_open_notebook_runs_without_traces(slug, workspace, tmp_path, monkeypatch):
    monkeypatch.setenv("COURSE_TRACES", str(tmp_path))
    require_that_it_runs(slug, workspace)


@pytest.mark.skipif(traces_dir() is None, reason="needs real traces; set COURSE_TRACES to them")
@pytest.mark.journey
@each_open_notebook
def test_an_open_notebook_runs_on_real_traces(slug, workspace):
    require_that_it_runs(slug, workspace)


# Checks


@each_exercise
def test_the_reference_passes_with_another_seed_than_in_the_notebook(exercise):
    right = right_answer(exercise.check)
    subject = LocalSubject(right, exercise.patience)
    finding = exercise.examine(subject, seed=987_654_321, max_examples=SOME)
    assert finding.fraction == 1


@pytest.mark.usefixtures("wrong_answers")
@pytest.mark.parametrize(
    ("exercise", "mistake"), MISTAKES, ids=[f"{e.id} {m.name}" for e, m in MISTAKES]
)
def test_every_known_mistake_is_rejected_and_told_apart_from_the_others(exercise, mistake):
    wrong = LocalSubject(wrong_answer(exercise.check, mistake), exercise.patience)
    finding = exercise.examine(wrong, max_examples=FEW)
    shown = Report(exercise, finding)
    assert finding.fraction < 1
    assert shown.points < exercise.points or exercise.points == 0
    # The first that fits is named, so each being named by its own name tells all pairs apart.
    assert finding.misconception is not None
    assert finding.misconception.name == mistake.name
    assert finding.misconception.explanation == mistake.explanation
    assert f"{mistake.name}: {mistake.explanation}" in repr(shown)


@each_exercise
def test_no_two_mistakes_of_a_check_read_the_same(exercise):
    said = [(m.name, m.explanation) for m in exercise.check.misconceptions]
    assert len(set(said)) == len(said)
    assert all(name and explanation.strip()[-1] in ".?!" for name, explanation in said)


@each_exercise
def test_every_exercise_says_what_it_takes_and_helps(exercise):
    assert exercise.title
    assert exercise.asks.endswith((".", "?"))
    assert exercise.minutes >= 1
    assert exercise.difficulty in (1, 2, 3)
    is_warm_up = ".W" in exercise.id
    assert (exercise.points == 0) == is_warm_up
    if not isinstance(exercise.check, QuizCheck):
        assert len(exercise.hints) >= 1 if is_warm_up else len(exercise.hints) == 3


# What is released


@each_lesson
def test_every_lesson_has_its_checks_and_every_check_its_place(slug):
    checked = [exercise_of(cell, slug).id for cell in released(slug).cells if is_check(cell)]
    assert sorted(checked) == sorted(exercises(slug))
    answers = [cell.id for cell in released(slug).cells if is_answer(cell)]
    assert [f"check-{id_}" for id_ in answers] == [
        c.id for c in released(slug).cells if is_check(c)
    ]


def test_there_are_checks_for_exactly_the_lessons_that_exist():
    assert lessons.numbers() == [int(slug[:2]) for slug in SOURCES]


@each_lesson
def test_the_points_of_a_lesson_add_to_one_hundred(slug):
    graded = [cell for cell in released(slug).cells if role(cell).get("grade")]
    assert sum(role(cell)["points"] for cell in graded) == 100
    for cell in filter(is_check, graded):
        assert role(cell)["points"] == exercise_of(cell, slug).points


def test_the_lessons_are_what_the_build_writes():
    assert building.stale() == []


@each_notebook
def test_a_lesson_says_that_it_is_generated_and_from_what(slug):
    course = released(slug).metadata.course
    assert course["note"].startswith("Generated by `course build`")
    assert (course_root() / course["source"]) == (SOURCES | OPEN)[slug]


@each_notebook
def test_a_lesson_has_no_outputs(slug):
    for cell in released(slug).cells:
        if cell.cell_type == "code":
            assert (cell.outputs, cell.execution_count) == ([], None)


@each_lesson
def test_every_stub_is_valid_python_with_a_place_to_write(slug):
    for cell in filter(is_answer, released(slug).cells):
        compile(cell.source, cell.id, "exec")
        assert holes.STUB in cell.source


def cut_stubs(slug):
    """Yield the ids of the answer cells that the build cut out of the library."""
    for cell in source_cells(slug):
        if "exercise" in cell.metadata and not cell.source:
            yield f"ex-{cell.metadata['exercise'].replace('.', '-').lower()}"


@each_lesson
def test_a_stub_runs_alone_after_the_setup_cell(slug):
    by_id = {cell.id: cell.source for cell in released(slug).cells}
    setup = next(cell.source for cell in released(slug).cells if cell.cell_type == "code")
    for stub in cut_stubs(slug):
        scope = {"__name__": "__main__"}
        exec(setup, scope)
        exec(by_id[stub], scope)


@each_lesson
def test_solving_only_ever_adds_lines(slug):
    solved = {cell.id: cell.source.split("\n") for cell in solution(slug).cells}
    for cell in filter(is_answer, released(slug).cells):
        remaining = iter(solved[cell.id])
        kept = [line for line in cell.source.split("\n") if line.strip() != holes.STUB]
        # Each line is looked for behind the one before it.
        assert [line for line in kept if line not in remaining] == [], cell.id


def texts_in(value):
    """Yield every text in nested data, keys included."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for key, item in value.items():
            yield from texts_in(key)
            yield from texts_in(item)
    elif isinstance(value, list | tuple):
        for item in value:
            yield from texts_in(item)


def texts_of(notebook):
    """Return all that a notebook holds, by cell: text, metadata, attachments and outputs."""
    texts = {
        cell.id: "\n".join(texts_in({key: value for key, value in cell.items() if key != "id"}))
        for cell in notebook.cells
    }
    return texts | {f"metadata of {notebook.cells[0].id}": "\n".join(texts_in(notebook.metadata))}


@cache
def released_text():
    """Return all that is released, as a learner can read it."""
    folder = course_root() / "lessons"
    texts = {}
    for path in sorted(folder.rglob("*")):
        if path.suffix == ".ipynb":
            texts |= texts_of(nbformat.read(path, 4))
        elif path.is_file():
            texts[str(path)] = path.read_text(encoding="utf-8")
    return texts


def sources_to_be_read(slug):
    """Return the sources that the lesson shows on purpose, such as that of a bug hunt."""
    shown = []
    for cell in source_cells(slug):
        if "shows" in cell.metadata:
            module, _, name = cell.metadata["shows"].partition(":")
            shown.append(
                dedented(inspect.getsource(getattr(importlib.import_module(module), name)))
            )
    return shown


def leaks(hidden, texts, shown):
    """Return the hidden lines that are released, with the exercise and the place.

    A source that is shown on purpose is taken out of the texts, and so are the lines that an
    exercise asks to put in order. The last hint is one line of pseudocode, which may be a line of
    the answer. An import tells nothing, nor does a refusal that the docstring promises.
    """
    without_shown = {
        place: functools.reduce(lambda text, source: text.replace(source, ""), shown, text)
        for place, text in texts.items()
        if not place.endswith("-lines")
    }
    return [
        (exercise, line, place)
        for exercise, lines in hidden.items()
        for line in lines
        if len(line.strip()) >= SHORTEST_TELLING_LINE
        and not line.strip().startswith(("import ", "require_"))
        for place, text in without_shown.items()
        if line.strip() in text and place != f"{exercise}-hints"
    ]


@each_lesson
def test_no_line_of_a_solution_is_released(slug):
    hidden = {cell.id: holes.hidden_lines(cell.source) for cell in answers_in(solution(slug))}
    assert max(len(line.strip()) for lines in hidden.values() for line in lines) > 20
    shown = [source for each in SOURCES for source in sources_to_be_read(each)]
    assert leaks(hidden, released_text(), shown) == []


SECRET = "blocks = sorted(candidates)[:needed]"


@pytest.mark.parametrize(
    "leak",
    [
        {"source": f"# {SECRET}"},
        {"metadata": {"notes": {"by the author": [SECRET]}}},
        {"metadata": {SECRET: 1}},
        {"attachments": {"figure.svg": {"image/svg+xml": f"<text>{SECRET}</text>"}}},
        {"outputs": [{"output_type": "stream", "name": "stdout", "text": SECRET}]},
    ],
    ids=lambda leak: next(iter(leak)),
)
def test_a_leak_is_found_wherever_it_is(leak):
    cell = NotebookNode(new_code_cell("1", id="place") | leak)
    notebook = new_notebook()
    notebook.cells = [new_markdown_cell("nothing", id="top"), cell]
    texts = texts_of(notebook)
    assert leaks({"ex-1-1": [f"    {SECRET}"]}, texts, []) == [("ex-1-1", f"    {SECRET}", "place")]
    assert leaks({"ex-1-1": ["    return nothing"]}, texts, []) == []


def test_what_is_shown_on_purpose_is_no_leak():
    texts = {"hunt": f"def suspect():\n    {SECRET}", "ex-1-2-lines": f"A  {SECRET}"}
    hidden = {"ex-1-1": [SECRET]}
    assert leaks(hidden, texts, [texts["hunt"]]) == []
    assert leaks(hidden, {"elsewhere": SECRET, **texts}, [texts["hunt"]]) == [
        ("ex-1-1", SECRET, "elsewhere")
    ]


@each_lesson
def test_no_explanation_model_answer_or_mark_scheme_is_released(slug):
    texts = "\n".join(released_text().values())
    secret = [
        cell
        for cell in solution(slug).cells
        if not is_answer(cell)
        and (role(cell).get("solution") or SOLUTION_ONLY in cell.metadata.get("tags", []))
    ]
    assert secret
    for cell in secret:
        if cell.cell_type == "code":  # what it asserts is said in the text, and computed in cells
            continue
        assert [line for line in cell.source.split("\n") if line and line in texts] == [], cell.id
    ids = {cell.id for cell in released(slug).cells}
    for cell in secret:
        assert (cell.id in ids) == bool(role(cell)), "an explanation goes, a place to write stays"
    assert SOLUTION_ONLY not in texts
    assert "mark scheme" not in texts.lower()
    assert holes.BEGIN not in texts
    assert holes.END not in texts


@each_lesson
def test_every_free_text_says_what_a_strong_answer_holds_and_not_what_it_is(slug):
    by_id = {cell.id: cell.source for cell in released(slug).cells}
    for cell in solution(slug).cells:
        if cell.id.startswith("answer-"):
            criteria = by_id[cell.id.replace("answer-", "criteria-")]
            assert criteria.startswith("<details><summary>What a strong answer holds</summary>")
            said = [line for line in cell.source.split("\n") if line.strip() and line in criteria]
            assert said == [], cell.id


def says_what_it_earns(question, points):
    """Tell whether a text is a question of so many points, with the minutes that it takes."""
    earns = rf"\?.* {points} points?, about \d+ minutes, marked by hand: "
    return re.search(earns, " ".join(question.split())) is not None


@each_lesson
def test_the_question_of_every_free_text_is_released_right_above_its_answer(slug):
    cells = released(slug).cells
    above = {cell.id: question for question, cell in pairwise(cells)}
    texts = [cell for cell in cells if cell.id.startswith("answer-")]
    assert texts
    for cell in texts:
        question = above[cell.id]
        assert question.cell_type == "markdown", cell.id
        assert says_what_it_earns(question.source, role(cell)["points"]), cell.id


@pytest.mark.parametrize(
    "text",
    [
        "The holes are not tiny. Why?",
        "Why? 5 points, marked by hand: 2 for (a).",
        "Why? 4 points, about 10 minutes, marked by hand: 2 for (a).",
        "5 points, about 10 minutes, marked by hand: 2 for (a).",
    ],
)
def test_a_text_that_asks_nothing_or_does_not_say_what_it_earns_is_no_question(text):
    assert not says_what_it_earns(text, 5)
    assert says_what_it_earns("Why?\n\n5 points, about 10\nminutes, marked by hand: 2 for (a).", 5)


@each_notebook
def test_no_text_has_slipped_into_a_code_cell(slug):
    # A heading in a comment is prose that lacks its own `# %% [markdown]`.
    code = [cell for cell in source_cells(slug) if cell.cell_type == "code"]
    assert [c.source for c in code if re.search(r"^# #{1,6} ", c.source, re.MULTILINE)] == []


@each_notebook
def test_a_summary_holds_no_markdown_which_would_be_shown_as_it_stands(slug):
    texts = "\n".join(cell.source for cell in released(slug).cells)
    summaries = re.findall(r"<summary>(.*?)</summary>", texts)
    assert [text for text in summaries if re.search(r"[`*]|\$.+\$", text)] == []


@each_notebook
def test_every_claim_that_is_asserted_is_made_in_the_text(slug):
    # Also in what is shown once an exercise has passed, which is not released.
    texts = [*released(slug).cells, *source_cells(slug)]
    prose = " ".join(c.source for c in texts if c.cell_type == "markdown")
    said = " ".join(prose.split())
    for cell in source_cells(slug):
        if "claims" in cell.metadata:
            assert " ".join(cell.metadata["claims"].split()) in said


# Holes


@each_lesson
def test_no_hole_uses_a_name_that_a_learner_cannot_know(slug):
    private = {
        cell.id: holes.private_names(cell.source)
        for cell in filter(is_answer, solution(slug).cells)
    }
    assert {exercise: names for exercise, names in private.items() if names} == {}


@each_lesson
def test_a_hole_fits_a_screen(slug):
    longest = {cell.id: max(holes.sizes(cell.source)) for cell in answers_in(solution(slug))}
    too_long = {exercise for exercise, lines in longest.items() if lines > LONGEST_HOLE}
    assert too_long == {id_ for id_ in LONGER_HOLES if id_ in longest}

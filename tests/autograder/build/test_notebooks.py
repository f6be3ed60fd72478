"""The build: the same bytes every time, errors that say where, and nothing half written."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest

from autograder.build import notebooks as building
from autograder.errors import CourseError
from autograder.sealed.release import load_release

ROOT = Path(__file__).parents[3]
LESSON = building.sources()[0].stem
SLUG = "01_tiny"
TINY = """\
# %% [markdown]
# # Tiny
#
# A lesson for the tests of the build.

# %%
from course_lib.kv_cache import kv_bytes_per_block

# %% exercise="1.W1"
vector_bytes = None
### BEGIN SOLUTION
vector_bytes = 4096 * 2
### END SOLUTION

# %% check="1.W1"
check("1.W1", vector_bytes)

# %% [markdown]
# ## Cut & faded: two kinds!

# %% exercise="1.1"

# %% check="1.1"

# %% [markdown] solution="1.1"
# Explained to the instructor only.

# %% exercise="1.3" steps="Count the slots that hold"

# %% shows="course_lib.kv_cache.sizing:kv_bytes_per_block"
print("and what follows it")

# %% [markdown] answer="1.7" points=10
# The model answer.
"""


def checkout(folder, source=TINY, slug=SLUG):
    """Make a checkout with one lesson source."""
    for name in ("solutions", "lessons"):
        (folder / name).mkdir(parents=True)
    (folder / "solutions" / f"{slug}.py").write_text(source, encoding="utf-8")
    shutil.copy(ROOT / "nbgrader_config.py", folder)
    shutil.copytree(ROOT / "grading" / "question_banks", folder / "grading" / "question_banks")
    return folder


@pytest.fixture
def root(tmp_path, monkeypatch):
    """A checkout with the tiny lesson, named in the environment."""
    folder = checkout(tmp_path / "checkout")
    monkeypatch.setenv("COURSE_ROOT", str(folder))
    return folder


def source_of(root):
    return root / "solutions" / f"{SLUG}.py"


def lesson_of(root):
    return root / "lessons" / SLUG / f"{SLUG}.ipynb"


def files_below(folder):
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def expand(root, cell):
    """Return the cells that one cell of a source becomes."""
    source_of(root).write_text(f"# %% [markdown]\n# # Tiny\n\n{cell}\n")
    return building.solution_notebook(source_of(root)).cells[1:]


# Determinism


def test_two_builds_in_different_folders_are_the_same_to_the_byte(tmp_path, monkeypatch):
    source = (ROOT / "solutions" / f"{LESSON}.py").read_text(encoding="utf-8")
    built = []
    for name in ("a", "some/where/else"):
        folder = checkout(tmp_path / name, source, LESSON)
        monkeypatch.setenv("COURSE_ROOT", str(folder))
        path = building.build(building.sources()[0])
        built.append(
            (path.read_bytes(), building.solution_path(building.sources()[0]).read_bytes())
        )
    assert built[0] == built[1]
    assert str(tmp_path).encode() not in built[0][0] + built[0][1]


def test_the_order_of_hashes_does_not_matter(root):
    script = (
        "from autograder.build import notebooks as b; import sys\n"
        "sys.stdout.buffer.write(b.released_bytes(b.solution_notebook(b.sources()[0])))"
    )
    elsewhere = subprocess.run(
        [sys.executable, "-c", script],
        env={**os.environ, "PYTHONHASHSEED": "12345"},
        check=True,
        capture_output=True,
    )
    here = building.released_bytes(building.solution_notebook(source_of(root)))
    assert elsewhere.stdout == here


def test_building_again_writes_the_same_and_leaves_nothing_else(root):
    building.build(source_of(root))
    before = files_below(root)
    building.build(source_of(root))
    assert files_below(root) == before
    assert set(before) - set(files_below(root / "grading")) == {
        source_of(root),
        root / "nbgrader_config.py",
        lesson_of(root),
        root / "solutions" / SLUG / f"{SLUG}.ipynb",
    }


# What is written


def test_cell_ids_come_from_exercises_and_headings(root):
    notebook = building.solution_notebook(source_of(root))
    assert [cell.id for cell in notebook.cells] == [
        "tiny-1",
        "tiny-2",
        "ex-1-w1-intro",
        "ex-1-w1",
        "ex-1-w1-hints",
        "check-ex-1-w1",
        "cut-faded-two-kinds-1",
        "ex-1-1-intro",
        "ex-1-1",
        "ex-1-1-hints",
        "check-ex-1-1",
        "ex-1-1-explained",
        "ex-1-3-intro",
        "ex-1-3",
        "ex-1-3-hints",
        "cut-faded-two-kinds-2",
        "answer-1-7",
    ]


def test_the_release_has_stubs_and_no_answers(root):
    released = nbformat.read(building.build(source_of(root)), 4)
    text = "\n".join(cell.source for cell in released.cells)
    assert text.count("# YOUR CODE HERE") == 3
    for hidden in ("4096 * 2", "numbers_per_layer", "used +=", "Explained", "model answer"):
        assert hidden not in text
    assert "later += min" in text, "only the named step of a faded exercise is a hole"
    assert "answer goes here" in text
    nbformat.validate(released)


def test_the_metadata_says_where_to_edit_instead(root):
    released = nbformat.read(building.build(source_of(root)), 4)
    assert released.metadata.course == {
        "lesson": 1,
        "slug": SLUG,
        "source": f"solutions/{SLUG}.py",
        "note": "Generated by `course build`. Edit the source, not this file.",
    }


def test_nbgrader_is_told_the_role_and_the_points_of_each_cell(root):
    cells = {cell.id: cell for cell in building.solution_notebook(source_of(root)).cells}
    roles = {id_: cell.metadata.get("nbgrader") for id_, cell in cells.items()}
    assert (roles["ex-1-1"]["solution"], roles["ex-1-1"]["grade"]) == (True, False)
    check = roles["check-ex-1-1"]
    assert (check["grade"], check["locked"], check["solution"]) == (True, True, False)
    assert check["points"] == 10
    assert not roles["check-ex-1-w1"]["grade"], "practice is not graded"
    assert roles["check-ex-1-w1"]["locked"]
    answer = roles["answer-1-7"]
    assert (answer["grade"], answer["solution"], answer["points"]) == (True, True, 10)
    assert roles["tiny-1"] is None


def test_a_check_without_a_body_checks_the_symbol(root):
    (cell,) = expand(root, '# %% check="1.1"')
    assert cell.source == 'check("1.1", kv_bytes_per_token)'


def test_criteria_are_folded_and_a_claim_stays_with_the_solution(root):
    criteria, claim = expand(
        root,
        '# %% [markdown] criteria="1.7"\n# - two mechanisms\n\n'
        '# %% claims="A block is enough."\nassert 1 + 1 == 2',
    )
    assert (criteria.id, criteria.source) == (
        "criteria-1-7",
        "<details><summary>What a strong answer holds</summary>\n\n- two mechanisms\n\n</details>",
    )
    assert claim.source == "# A block is enough.\nassert 1 + 1 == 2"
    assert claim.metadata.tags == ["solution-only"]
    released = nbformat.read(building.build(source_of(root)), 4)
    assert [cell.id for cell in released.cells] == ["tiny-1", "criteria-1-7"]


def test_code_that_need_not_be_read_is_folded(root):
    (cell,) = expand(root, '# %% folds="Two"\nclass Two:\n    pass')
    assert cell.source == "class Two:\n    pass"
    assert cell.metadata["jupyter"] == {"source_hidden": True}


def test_a_stub_imports_what_the_setup_cell_does_not(root):
    source_of(root).write_text('# %%\nimport math\n\n# %% exercise="1.1"\n')
    stub = building.solution_notebook(source_of(root)).cells[2]
    assert stub.source.startswith(
        "from course_lib.specs import ModelSpec\n\n\ndef kv_bytes_per_token("
    )
    source_of(root).write_text(
        '# %%\nfrom course_lib.specs import ModelSpec\n\n# %% exercise="1.1"\n'
    )
    stub = building.solution_notebook(source_of(root)).cells[2]
    assert stub.source.startswith("def kv_bytes_per_token(")


def test_the_quiz_has_its_questions_an_answer_cell_and_a_check(root):
    cells = expand(root, '# %% quiz="1"')
    assert [cell.id for cell in cells] == [
        "ex-1-q-intro",
        "ex-1-q-practice",
        "ex-1-q-questions",
        "ex-1-q",
        "check-ex-1-q",
    ]
    assert cells[-1].source == 'check("1.Q", answers)'


# Malformed sources

MALFORMED = {
    "two directives": ('# %% exercise="1.1" check="1.1"', "directives exercise and check"),
    "an unknown option": ('# %% exercize="1.1"', "unknown option 'exercize'"),
    "an option too many": ('# %% check="1.1" points=3', "unknown option 'points'"),
    "no argument": ("# %% exercise", "unknown option"),
    "no quotes": ("# %% exercise=1.10", "exercise=1.1 needs quotes"),
    "an open quote": ('# %% exercise="1.1', "unknown option"),
    "an unknown exercise": ('# %% exercise="1.99"', "no exercise '1.99'"),
    "an unknown lesson": ('# %% check="99.1"', "no lesson 99"),
    "an explanation of nothing": ('# %% [markdown] solution="1.99"\n# x', "no exercise '1.99'"),
    "a body without a hole": ('# %% exercise="1.1"\nx = 1', "must come in pairs"),
    "an open hole": ('# %% exercise="1.1"\n### BEGIN SOLUTION\nx = 1', "must come in pairs"),
    "an invalid stub": (
        '# %% exercise="1.W1"\nif 1:\n    ### BEGIN SOLUTION\n    x = 1\n    ### END SOLUTION',
        "without its holes it is not valid Python",
    ),
    "methods of a function": ('# %% exercise="1.1" holes="a"', "holes=a needs a class"),
    "an unknown step": ('# %% exercise="1.3" steps="Sing"', "0 comments begin with '# Sing'"),
    "a value to cut out": ('# %% exercise="1.W1"', "give the cell a body"),
    "a quiz to cut out": ('# %% exercise="1.Q"', "give the cell a body"),
    "a value to check": ('# %% check="1.W1"', "needs a body that says what is checked"),
    "a quiz to check": ('# %% check="1.Q"', "needs a body that says what is checked"),
    "an answer without points": ('# %% [markdown] answer="1.7"\n# x', "needs points="),
    "points in words": ('# %% [markdown] answer="1.7" points="ten"\n# x', "needs points="),
    "negative points": ('# %% [markdown] answer="1.7" points=-1\n# x', "needs points="),
    "an answer with an odd id": ('# %% [markdown] answer="a b" points=1\n# x', "an id such as"),
    "an answer in code": ('# %% answer="1.7" points=1\nx', "answer belongs in a markdown cell"),
    "criteria with an odd id": ('# %% [markdown] criteria="a b"\n# x', "an id such as"),
    "criteria that say nothing": ('# %% [markdown] criteria="1.7"\n#', "needs a body"),
    "criteria in code": ('# %% criteria="1.7"\nx', "criteria belongs in a markdown cell"),
    "a claim in text": ('# %% [markdown] claims="So."\n# x', "claims belongs in a code cell"),
    "a fold of another name": ('# %% folds="Two"\none = 1', "name what the cell below it defines"),
    "a claim of nothing": ('# %% claims=""\nassert 1', "needs the sentence"),
    "a claim that cannot fail": ('# %% claims="So."\nprint(1)', "and an assert in its body"),
    "a step of a body": (
        '# %% exercise="1.W1" steps="A"\n### BEGIN SOLUTION\nx = 1\n### END SOLUTION',
        "steps needs a cell without a body",
    ),
    "an option of another directive": ('# %% exercise="1.1" points=3', "unknown option 'points'"),
    "a setup cell that is no Python": ("# %%\nx = = 1", "setup cell is not valid Python"),
    "an explanation in code": ('# %% solution="1.1"\nx', "solution belongs in a markdown cell"),
    "a check in text": ('# %% [markdown] check="1.1"\n# x', "check belongs in a code cell"),
    "an unknown module": ('# %% shows="nowhere:f"', "No module named 'nowhere'"),
    "an unknown symbol": ('# %% shows="math:f"', "has no attribute 'f'"),
    "a module alone": ('# %% shows="math"', 'name a function or class as "module:name"'),
    "nothing to show": ('# %% shows=""', 'name a function or class as "module:name"'),
    "a number to show": ('# %% shows="math:pi"', 'name a function or class as "module:name"'),
    "a quiz by name": ('# %% quiz="one"', "'one' is not the number of a lesson"),
    "a quiz without a bank": ('# %% quiz="99"', "no question bank for lesson 99"),
    "an interview by name": ('# %% [markdown] interview="x"\n#', "is not the number of a lesson"),
}


@pytest.mark.parametrize(("cell", "says"), MALFORMED.values(), ids=MALFORMED.keys())
def test_a_malformed_directive_is_one_line_with_the_file_and_the_cell(root, cell, says):
    with pytest.raises(CourseError) as caught:
        expand(root, cell)
    message = str(caught.value)
    assert message.startswith(f"{SLUG}.py, cell 1: ") or "setup cell" in message
    assert says in message
    assert "\n" not in message


def test_an_exercise_in_two_places_is_refused(root):
    with pytest.raises(CourseError, match=r"01_tiny\.py: ex-1-1-intro occurs twice"):
        expand(root, '# %% exercise="1.1"\n\n# %% exercise="1.1"')


def test_a_hole_in_a_cell_that_is_no_exercise_is_refused_by_nbgrader(root):
    source_of(root).write_text("# %%\n### BEGIN SOLUTION\nx = 1\n### END SOLUTION\n")
    with pytest.raises(CourseError, match=r"nbgrader refuses 01_tiny: .*non-solution cell"):
        building.build(source_of(root))
    assert not lesson_of(root).exists()


def test_a_malformed_source_leaves_the_old_lesson(root):
    building.build(source_of(root))
    before = files_below(root / "lessons")
    source_of(root).write_text(TINY + '\n# %% exercise="1.99"\n')
    with pytest.raises(CourseError):
        building.build(source_of(root))
    assert files_below(root / "lessons") == before


@pytest.mark.parametrize("interruption", [KeyboardInterrupt, MemoryError])
def test_ctrl_c_in_the_middle_of_a_build_leaves_everything_as_it_was(
    root, monkeypatch, interruption
):
    building.build(source_of(root))
    before = files_below(root)
    source_of(root).write_text(TINY.replace("A lesson", "Another lesson"))
    before[source_of(root)] = source_of(root).read_bytes()

    def interrupted(solution):
        raise interruption

    monkeypatch.setattr(building, "released_bytes", interrupted)
    with pytest.raises(interruption):
        building.build(source_of(root))
    assert files_below(root) == before


def test_ctrl_c_before_the_first_build_leaves_no_lesson(root, monkeypatch):
    def interrupted(solution):
        raise KeyboardInterrupt

    monkeypatch.setattr(building, "released_bytes", interrupted)
    with pytest.raises(KeyboardInterrupt):
        building.build(source_of(root))
    assert files_below(root / "lessons") == {}


# Staleness


def edit(path, change):
    document = json.loads(path.read_text(encoding="utf-8"))
    change(document)
    path.write_text(json.dumps(document), encoding="utf-8")


def test_right_after_a_build_nothing_is_stale(root):
    building.build(source_of(root))
    assert building.stale() == []


def test_a_missing_lesson_is_named_with_the_remedy(root):
    assert building.stale() == [f"lessons/{SLUG}/{SLUG}.ipynb is missing; run `course build`"]


def test_a_lesson_without_a_source_is_named_with_the_remedy(root):
    building.build(source_of(root))
    source_of(root).unlink()
    assert building.stale() == [
        f"lessons/{SLUG}/{SLUG}.ipynb has no source in solutions/; delete it"
    ]


@pytest.mark.parametrize(
    ("change", "where"),
    [
        (lambda nb: nb["cells"][3].update(source="x = 1"), "first at cell ex-1-w1"),
        (lambda nb: nb["cells"][1].update(execution_count=1), "first at cell tiny-2"),
        (lambda nb: nb["cells"].pop(), "it has 15 cells, not 16"),
        (lambda nb: nb["metadata"].update(x=1), "in its metadata or layout"),
        (lambda nb: nb.pop("cells"), "it is not a notebook"),
        (lambda nb: None, "in its metadata or layout"),
    ],
)
def test_an_edited_lesson_is_named_with_the_cell_and_the_remedy(root, change, where):
    edit(building.build(source_of(root)), change)
    assert building.stale() == [
        f"lessons/{SLUG}/{SLUG}.ipynb is not what solutions/{SLUG}.py builds ({where}); "
        "edit the source, then run `course build`"
    ]


def test_an_edited_source_makes_its_lesson_stale(root):
    building.build(source_of(root))
    source_of(root).write_text(TINY.replace("A lesson for", "A new lesson for"))
    assert "first at cell tiny-1" in building.stale()[0]


def test_lessons_are_chosen_by_name_or_number(root):
    assert building.chosen_sources(None) == [source_of(root)]
    assert building.chosen_sources([SLUG]) == building.chosen_sources(["1"]) == [source_of(root)]
    with pytest.raises(CourseError, match=r"no lesson '2' in solutions/; .*: 01_tiny"):
        building.chosen_sources(["2"])


@pytest.fixture
def course(root, monkeypatch, capsys):
    """Run the command line; return exit code and stderr."""
    from autograder import cli

    def course(*arguments):
        monkeypatch.setattr(sys, "argv", ["course", *arguments])
        with pytest.raises(SystemExit) as stop:
            cli.main()
        return stop.value.code or 0, capsys.readouterr().err

    return course


def test_course_build_and_its_check(root, course):
    assert course("build", "--check")[0] == 1
    assert course("build")[0] == 0
    before = files_below(root)
    assert course("build", "--check") == (0, "")
    assert files_below(root) == before
    edit(lesson_of(root), lambda nb: nb["cells"][0].update(source="edited"))
    code, err = course("build", "--check")
    assert code == 1
    assert err.startswith(f"course: lessons/{SLUG}/{SLUG}.ipynb is not what")
    assert err.count("\n") == 1


def test_course_build_says_in_one_line_what_is_wrong_with_a_source(root, course):
    source_of(root).write_text('# %% exercise="1.99"\n')
    code, err = course("build")
    assert (code, err.count("\n")) == (1, 1)
    assert err.startswith(f"course: {SLUG}.py, cell 0: no exercise '1.99'")
    assert course("build", "99_none")[0] == 1


def second_lesson(root):
    """Add a lesson whose source and release are those of the first, under another name."""
    source = root / "solutions" / "02_second.py"
    source.write_text("# %% [markdown]\n# # Second\n", encoding="utf-8")
    return source


def test_notebooks_of_the_final_project_share_a_folder_and_have_no_numbers_there(root, course):
    source = root / "solutions" / "14_request_trace.py"
    source.write_text("# %% [markdown]\n# # A trace\n", encoding="utf-8")
    path = root / "lessons" / "final_project" / "request_trace.ipynb"
    assert building.build(source) == building.release_path("14_request_trace") == path
    assert load_release(path).lesson == "14_request_trace"
    assert course("build", "--check", "14") == (0, "")
    source.unlink()
    assert building.without_source() == [
        "lessons/final_project/request_trace.ipynb has no source in solutions/; delete it"
    ]


def test_several_lessons_are_built_beside_each_other_to_the_same_bytes(root, course):
    second = second_lesson(root)
    one_by_one = [building.build(source).read_bytes() for source in (source_of(root), second)]
    shutil.rmtree(root / "lessons")
    (root / "lessons").mkdir()
    assert course("build") == (0, "")
    paths = [building.release_path(slug) for slug in (SLUG, second.stem)]
    assert [path.read_bytes() for path in paths] == one_by_one
    assert course("build", "--check") == (0, "")


def test_the_check_of_one_lesson_passes_over_the_others(root, course):
    second_lesson(root)
    building.build(source_of(root))
    assert course("build", "--check", "1") == (0, "")
    code, err = course("build", "--check", "2")
    assert (code, err) == (
        1,
        "course: lessons/02_second/02_second.ipynb is missing; run `course build`\n",
    )


def test_an_error_in_one_of_several_lessons_is_one_line(root, course):
    second_lesson(root).write_text('# %% exercise="1.99"\n', encoding="utf-8")
    code, err = course("build")
    assert (code, err.count("\n")) == (1, 1)
    assert err.startswith("course: 02_second.py, cell 0: no exercise '1.99'")

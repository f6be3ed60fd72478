"""A release meets a learner's notebook: what becomes of each cell."""

import copy

import nbformat
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output

from autograder.workspace.merge import Change, merge_notebooks


def nbgrader(grade_id, **roles):
    return {
        "grade_id": grade_id,
        "grade": False,
        "solution": False,
        "locked": False,
        "schema_version": 3,
    } | roles


def text(cell_id, source, **metadata):
    return new_markdown_cell(source, id=cell_id, metadata=metadata)


def code(cell_id, source, **metadata):
    return new_code_cell(source, id=cell_id, metadata=metadata)


def answer(cell_id, source):
    return code(cell_id, source, nbgrader=nbgrader(f"grade-{cell_id}", solution=True))


def locked(cell_id, source):
    roles = nbgrader(f"grade-{cell_id}", grade=True, locked=True, points=2)
    return code(cell_id, source, nbgrader=roles, editable=False, deletable=False)


def notebook(*cells):
    return new_notebook(cells=[copy.deepcopy(cell) for cell in cells])


def sources(merged):
    return [cell.source for cell in merged.notebook.cells]


def kinds(merged):
    return [change.change for change in merged.changes]


def test_an_untouched_cell_takes_the_new_text():
    merged = merge_notebooks(
        notebook(text("a", "old")), notebook(text("a", "new")), notebook(text("a", "old"))
    )
    assert sources(merged) == ["new"]
    assert kinds(merged) == [Change.UPDATED]


@pytest.mark.parametrize("cell", [text, code, answer])
def test_an_edited_cell_that_the_release_left_alone_stays_the_learners(cell):
    old = notebook(cell("a", "old"))
    merged = merge_notebooks(old, old, notebook(cell("a", "mine")))
    assert sources(merged) == ["mine"]
    assert kinds(merged) == [Change.KEPT]


def test_an_answer_to_a_changed_exercise_is_kept_and_the_new_stub_is_shown_below():
    merged = merge_notebooks(
        notebook(answer("a", "def f(x): ...")),
        notebook(answer("a", "def f(x, y): ...")),
        notebook(answer("a", "def f(x): return x")),
    )
    kept, note = merged.notebook.cells
    assert kept.source == "def f(x): return x"
    assert note.cell_type == "markdown"
    assert "changed after you answered" in note.source
    assert "```python\ndef f(x, y): ...\n```" in note.source
    assert kinds(merged) == [Change.ANSWER_KEPT]


def test_a_stub_that_holds_a_code_fence_is_quoted_whole():
    prose = "Explain:\n```\nx\n```"
    answers = [
        text("a", source, nbgrader=nbgrader("g", grade=True, solution=True, points=1))
        for source in ("old", prose, "mine")
    ]
    merged = merge_notebooks(*(notebook(cell) for cell in answers))
    assert f"````markdown\n{prose}\n````" in sources(merged)[1]


def test_a_locked_cell_takes_the_releases_text_and_the_learners_version_follows_as_their_own():
    old = notebook(locked("a", "check(1)"))
    merged = merge_notebooks(old, old, notebook(locked("a", "check(2)")))
    restored, theirs = merged.notebook.cells
    assert restored == old.cells[0]
    assert theirs.source == "check(2)"
    assert theirs.metadata == {}
    assert kinds(merged) == [Change.YOURS_BELOW]


def test_a_plain_cell_changed_by_both_is_there_twice():
    merged = merge_notebooks(
        notebook(code("a", "x = 1")), notebook(code("a", "x = 2")), notebook(code("a", "x = 3"))
    )
    assert sources(merged) == ["x = 2", "x = 3"]
    assert kinds(merged) == [Change.YOURS_BELOW]


def test_both_sides_making_the_same_change_is_no_conflict():
    merged = merge_notebooks(
        notebook(answer("a", "old")), notebook(answer("a", "new")), notebook(answer("a", "new"))
    )
    assert sources(merged) == ["new"]
    assert kinds(merged) == []


def test_cells_that_the_learner_added_stay_after_the_same_neighbour():
    old = notebook(text("a", "A"), text("b", "B"))
    merged = merge_notebooks(
        old,
        notebook(text("a", "A"), text("n", "new"), text("b", "B")),
        notebook(
            text("x0", "top"), text("a", "A"), text("x1", "one"), text("x2", "two"), text("b", "B")
        ),
    )
    assert sources(merged) == ["top", "A", "one", "two", "new", "B"]
    assert kinds(merged) == [Change.ADDED]


def test_an_added_cell_whose_neighbour_was_dropped_moves_up_to_the_next_one():
    merged = merge_notebooks(
        notebook(text("a", "A"), text("b", "B")),
        notebook(text("a", "A")),
        notebook(text("a", "A"), text("b", "B"), text("x", "mine")),
    )
    assert sources(merged) == ["A", "mine"]
    assert kinds(merged) == [Change.REMOVED]


def test_a_deleted_cell_stays_deleted_unless_grading_needs_it():
    old = notebook(text("a", "A"), answer("s", "stub"), locked("t", "check"), code("c", "C"))
    merged = merge_notebooks(old, old, notebook(code("c", "C")))
    assert sources(merged) == ["stub", "check", "C"]
    assert kinds(merged) == [Change.RESTORED, Change.RESTORED]


def test_a_dropped_cell_goes_only_if_it_is_unedited():
    old = notebook(text("a", "A"), answer("s", "stub"), text("b", "B"))
    merged = merge_notebooks(
        old,
        notebook(text("a", "A")),
        notebook(text("a", "A"), answer("s", "my answer"), text("b", "B")),
    )
    assert sources(merged) == ["A", "my answer"]
    assert "nbgrader" not in merged.notebook.cells[1].metadata
    assert kinds(merged) == [Change.OUTLIVED, Change.REMOVED]


def test_outputs_stay_where_the_text_stays_and_go_where_it_changes():
    old = notebook(code("a", "1 + 1"), code("b", "2 + 2"))
    mine = copy.deepcopy(old)
    for cell in mine.cells:
        cell.outputs = [new_output("execute_result", {"text/plain": "42"}, execution_count=7)]
        cell.execution_count = 7
    merged = merge_notebooks(old, notebook(code("a", "1 + 1"), code("b", "3 + 3")), mine)
    same, changed = merged.notebook.cells
    assert (same.execution_count, len(same.outputs)) == (7, 1)
    assert (changed.execution_count, changed.outputs) == (None, [])


def test_metadata_come_from_the_release_and_the_learners_view_settings_stay():
    old = notebook(answer("a", "stub"))
    new = copy.deepcopy(old)
    new.cells[0].metadata.nbgrader.checksum = "new"
    mine = notebook(answer("a", "mine"))
    mine.cells[0].metadata.nbgrader.points = 1000
    mine.cells[0].metadata.collapsed = True
    (merged,) = merge_notebooks(old, new, mine).notebook.cells
    assert merged.metadata == {"nbgrader": new.cells[0].metadata.nbgrader, "collapsed": True}


def test_the_kernel_comes_from_the_release_and_widget_state_stays():
    old = notebook()
    new = notebook()
    new.metadata.kernelspec = {"name": "python3"}
    mine = notebook()
    mine.metadata.update({"kernelspec": {"name": "julia"}, "widgets": {"state": {}}})
    merged = merge_notebooks(old, new, mine).notebook.metadata
    assert merged == {"kernelspec": {"name": "python3"}, "widgets": {"state": {}}}


def test_cells_whose_ids_were_lost_are_found_by_grade_id_then_by_source():
    old = notebook(answer("s", "stub"), text("a", "A"), locked("t", "check"))
    mine = notebook(answer("s", "my answer"), text("a", "A"), locked("t", "check"))
    for position, cell in enumerate(mine.cells):
        cell.id = f"lost-{position}"
    merged = merge_notebooks(old, old, mine)
    assert sources(merged) == ["my answer", "A", "check"]
    assert [cell.id for cell in merged.notebook.cells] == ["s", "a", "t"]


STUB = 'def f(x):\n    """Return twice x."""\n    # YOUR CODE HERE'
WRITTEN = nbgrader("grade-w", grade=True, solution=True, points=3)


def a_lesson_and_its_answers():
    """Return a release, and the same with answers, all ids and metadata gone."""
    release = notebook(
        text("title", "# Title"),
        answer("s", STUB),
        locked("t", "check(f)"),
        text("task", "Explain."),
        text("w", "*Your answer goes here.*", nbgrader=WRITTEN),
        text("rest", "The rest."),
        answer("v", "value = None\n# YOUR CODE HERE"),
        locked("u", "check(value)"),
    )
    mine = copy.deepcopy(release)
    mine.cells[1].source = STUB.replace("# YOUR CODE HERE", "return 2 * x")
    mine.cells[4].source = "Because blocks may lie anywhere."
    mine.cells[6].source = "value = 7"
    for position, cell in enumerate(mine.cells):
        cell.id = f"lost-{position}"
        cell.metadata = nbformat.NotebookNode()
    return release, mine


def test_answers_whose_ids_and_metadata_were_lost_are_found_and_no_stub_comes_back():
    release, mine = a_lesson_and_its_answers()
    written = [cell.source for cell in mine.cells]
    merged = merge_notebooks(release, release, mine).notebook
    assert [cell.source for cell in merged.cells] == written
    assert [cell.id for cell in merged.cells] == [cell.id for cell in release.cells]
    assert [cell.metadata for cell in merged.cells] == [cell.metadata for cell in release.cells]


def test_they_are_found_without_a_base_too():
    release, mine = a_lesson_and_its_answers()
    merged = merge_notebooks(None, release, mine).notebook
    code = [cell.source for cell in merged.cells if cell.cell_type == "code"]
    assert code == [cell.source for cell in mine.cells if cell.cell_type == "code"]


def test_a_stub_that_comes_back_does_not_stand_below_what_was_written_instead():
    release, mine = a_lesson_and_its_answers()
    mine.cells[1].source = "from mine import everything"
    merged = merge_notebooks(release, release, mine).notebook
    assert [cell.source for cell in merged.cells][1:4] == [
        STUB,
        "from mine import everything",
        "check(f)",
    ]


def test_a_pasted_copy_of_a_graded_cell_becomes_a_cell_of_the_learners_own():
    old = notebook(locked("t", "check"))
    copied = locked("t", "check")
    copied.id = "pasted"
    merged = merge_notebooks(old, old, notebook(locked("t", "check"), copied))
    assert [cell.metadata.get("nbgrader") is None for cell in merged.notebook.cells] == [
        False,
        True,
    ]


def test_an_answer_cell_turned_into_markdown_by_a_key_press_is_code_again():
    old = notebook(answer("s", "stub"))
    mine = notebook(text("s", "my answer", nbgrader=old.cells[0].metadata.nbgrader))
    (merged,) = merge_notebooks(old, old, mine).notebook.cells
    assert (merged.cell_type, merged.source) == ("code", "my answer")


def test_a_picture_pasted_into_an_answer_is_kept():
    picture = {"plot.png": {"image/png": "aGVsbG8="}}
    roles = nbgrader("g", grade=True, solution=True, points=1)
    old = notebook(text("s", "Explain.", nbgrader=roles))
    mine = copy.deepcopy(old)
    mine.cells[0].attachments = picture
    assert merge_notebooks(old, old, mine).notebook.cells[0].attachments == picture
    code_release = notebook(answer("s", "stub"))
    below = merge_notebooks(code_release, code_release, mine).notebook.cells
    assert [cell.get("attachments") for cell in below] == [None, picture]


def test_without_a_base_every_difference_counts_as_an_edit_and_nothing_is_missing():
    new = notebook(text("a", "new A"), answer("s", "stub"), text("b", "B"), locked("t", "check"))
    mine = notebook(text("a", "A"), answer("s", "my answer"), text("b", "B"))
    merged = merge_notebooks(None, new, mine)
    kept = sources(merged)
    assert kept[:3] == ["new A", "A", "my answer"]
    assert kept[4:] == ["B", "check"]
    assert kinds(merged) == [Change.YOURS_BELOW, Change.ANSWER_KEPT, Change.ADDED]


def test_a_change_names_the_heading_it_is_under():
    old = notebook(text("h", "# Lesson\n\n## 1.1 Bytes"), answer("s", "stub"))
    merged = merge_notebooks(old, old, notebook(old.cells[0], answer("s", "mine")))
    assert merged.changes[0].heading == "1.1 Bytes"


def test_the_arguments_are_not_changed():
    trio = (
        notebook(answer("a", "old")),
        notebook(answer("a", "new")),
        notebook(answer("a", "mine"), text("x", "own")),
    )
    before = copy.deepcopy(trio)
    merge_notebooks(*trio)
    assert trio == before


# The properties below draw from few ids and few texts, so that cells meet in every way.

TEXTS = st.sampled_from(["", "alpha", "beta", "gamma", "# delta", "```\nfence\n```"])


@st.composite
def released_cells(draw, cell_id):
    role = draw(st.sampled_from(["text", "code", "answer", "free text", "locked"]))
    source = draw(TEXTS)
    if role == "free text":
        return text(
            cell_id,
            source,
            nbgrader=nbgrader(f"grade-{cell_id}", grade=True, solution=True, points=1),
        )
    return {"text": text, "code": code, "answer": answer, "locked": locked}[role](cell_id, source)


@st.composite
def releases(draw):
    ids = draw(st.lists(st.sampled_from("abcdef"), unique=True, max_size=5))
    return notebook(*(draw(released_cells(cell_id)) for cell_id in ids))


@st.composite
def next_releases(draw, base):
    """A release that keeps some cells of the last one, changes others, and renames a few."""
    cells = []
    for cell in draw(st.permutations(base.cells)):
        fate = draw(st.sampled_from(["same", "same", "changed", "renamed", "dropped"]))
        cell = copy.deepcopy(cell)
        if fate == "changed":
            cell = draw(released_cells(cell.id))
        elif fate == "renamed":
            cell.id = f"renamed-{cell.id}"
        if fate != "dropped":
            cells.append(cell)
    for cell_id in draw(st.lists(st.sampled_from("uvw"), unique=True, max_size=2)):
        cells.insert(draw(st.integers(0, len(cells))), draw(released_cells(cell_id)))
    return notebook(*cells)


@st.composite
def learners_notebooks(draw, base):
    """What a learner may make of a release: edit, delete, add, paste, move, lose ids."""
    cells = []
    for cell in base.cells:
        fate = draw(
            st.sampled_from(["same", "edited", "edited", "deleted", "no id", "pasted", "retyped"])
        )
        cell = copy.deepcopy(cell)
        if fate == "edited":
            cell.source = draw(st.one_of(TEXTS, st.text(max_size=8)))
        if fate == "no id":
            cell.id = f"lost-{cell.id}"
        if fate == "retyped":
            maker = text if cell.cell_type == "code" else code
            cell = maker(cell.id, draw(TEXTS), **cell.metadata)
        if fate != "deleted":
            cells.append(cell)
        if fate == "pasted":
            pasted = copy.deepcopy(cell)
            pasted.id = f"pasted-{cell.id}"
            cells.append(pasted)
    for cell_id in draw(st.lists(st.sampled_from("uxyz"), unique=True, max_size=3)):
        maker = draw(st.sampled_from([text, code]))
        cells.insert(draw(st.integers(0, len(cells))), maker(cell_id, draw(TEXTS)))
    if draw(st.booleans()):
        cells = draw(st.permutations(cells))
    return notebook(*cells)


@st.composite
def three_sides(draw):
    base = draw(releases())
    return (
        draw(st.sampled_from([base, base, base, None])),
        draw(next_releases(base)),
        draw(learners_notebooks(base)),
    )


thorough = settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.too_slow])


@thorough
@given(three_sides())
def test_nothing_that_a_learner_wrote_is_lost(sides):
    base, new, mine = sides
    merged = {cell.source for cell in merge_notebooks(base, new, mine).notebook.cells}
    released = {cell.source for cell in (base.cells if base else [])}
    for cell in mine.cells:
        assert cell.source in merged or cell.source in released or not cell.source.strip()


@thorough
@given(three_sides())
def test_an_edited_cell_is_in_the_result_even_if_it_repeats_released_text(sides):
    base, new, mine = sides
    if base is None:
        return
    original = {cell.id: cell.source for cell in base.cells}
    merged = {cell.source for cell in merge_notebooks(base, new, mine).notebook.cells}
    for cell in mine.cells:
        edited = cell.id in original and cell.source != original[cell.id]
        assert not edited or not cell.source.strip() or cell.source in merged


@thorough
@given(st.data())
def test_a_learner_who_changed_nothing_gets_exactly_the_new_release(data):
    base = data.draw(releases())
    new = data.draw(next_releases(base))
    assert merge_notebooks(base, new, base).notebook == new


@thorough
@given(three_sides())
def test_merging_the_result_again_changes_nothing(sides):
    base, new, mine = sides
    merged = merge_notebooks(base, new, mine).notebook
    assert merge_notebooks(new, new, merged).notebook == merged


def test_a_cell_of_which_only_the_type_was_changed_takes_the_new_text_at_once():
    as_answer = {"nbgrader": {"grade_id": "grade-d", "solution": True, "locked": False}}
    base = new_notebook(cells=[new_code_cell("old", id="d")])
    new = new_notebook(cells=[new_code_cell("new", id="d", metadata=as_answer)])
    mine = new_notebook(cells=[new_markdown_cell("old", id="d")])
    merged = merge_notebooks(base, new, mine)
    assert [(each.cell_type, each.source) for each in merged.notebook.cells] == [("code", "new")]
    assert [each.change for each in merged.changes] == [Change.UPDATED]
    assert merge_notebooks(base, new, merged.notebook).notebook == merged.notebook


@thorough
@given(three_sides())
def test_an_update_that_was_interrupted_before_the_base_was_recorded_can_be_repeated(sides):
    base, new, mine = sides
    merged = merge_notebooks(base, new, mine).notebook
    again = merge_notebooks(base, new, merged).notebook
    # A copy of a released cell differs from the cell itself in nothing but its id.
    released = {cell.source for cell in (base.cells if base else [])}
    assert [cell for cell in again.cells if cell.source not in released] == [
        cell for cell in merged.cells if cell.source not in released
    ]


@thorough
@given(three_sides())
def test_the_result_is_a_valid_notebook_in_which_ids_and_grade_ids_are_unique(sides):
    base, new, mine = sides
    merged = merge_notebooks(base, new, mine).notebook
    nbformat.validate(copy.deepcopy(merged))
    ids = [cell.id for cell in merged.cells]
    grade_ids = [c.metadata.nbgrader.grade_id for c in merged.cells if "nbgrader" in c.metadata]
    assert len(set(ids)) == len(ids)
    assert len(set(grade_ids)) == len(grade_ids)


@thorough
@given(three_sides())
def test_every_graded_cell_of_the_release_is_there_with_its_own_metadata(sides):
    base, new, mine = sides
    merged = {cell.id: cell for cell in merge_notebooks(base, new, mine).notebook.cells}
    for cell in new.cells:
        if "nbgrader" in cell.metadata:
            assert merged[cell.id].metadata.nbgrader == cell.metadata.nbgrader
            assert merged[cell.id].cell_type == cell.cell_type
            if cell.metadata.nbgrader.locked:
                assert merged[cell.id].source == cell.source

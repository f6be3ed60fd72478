"""Which cells run before an answer is judged."""

from __future__ import annotations

from pathlib import Path

import pytest

from autograder.build.notebooks import graded_sources, release_path
from autograder.sealed.canaries import RIGHT, canaries
from autograder.sealed.intake import Cell, Role
from autograder.sealed.needed import about, needed
from autograder.sealed.release import load_release

ANSWER = Cell(Role.ANSWER, "def f():\n    return scale * helper()", "ex")
CHECK = Cell(Role.CHECK, "check('1.1', f)", "check")


def given(source: str) -> Cell:
    return Cell(Role.GIVEN, source)


def own(source: str) -> Cell:
    return Cell(Role.OWN, source)


def kept(*cells: Cell) -> list[str]:
    """Return the texts of an earlier exercise that run before the check of ``f``."""
    whole = [*cells, CHECK, ANSWER, CHECK]
    places = needed(whole, len(whole) - 1, "f")
    assert places[-1] == len(whole) - 2
    return [whole[at].source for at in places[:-1]]


@pytest.mark.parametrize(
    "source",
    [
        "scale = 2",
        "from math import tau as scale",
        "def helper(): return 1",
        "for scale in range(3): pass",
        "if True:\n    scale = 2",
        "scale: int = 2",
        "scale += 1",
        "scale[0] = 1",
        "scale.part.number = 1",
        "scale.append(1)",
        "[scale.append(each) for each in (1, 2)]",
        "with open('/dev/null') as scale: pass",
    ],
)
def test_what_binds_or_changes_a_name_that_is_wanted_runs(source: str) -> None:
    assert kept(given(source)) == kept(own(source)) == [source]


@pytest.mark.parametrize(
    "source",
    ["figure(scale)", "other = scale", "def other(): scale.append(1)", "viz.draw()", "print(1)"],
)
def test_what_was_given_and_leaves_nothing_that_is_wanted_does_not_run(source: str) -> None:
    assert kept(given("import viz"), given(source)) == []


def test_what_is_wanted_wants_more() -> None:
    cells = [
        given("import math"),
        given("unused = 1"),
        given("base = math.pi"),
        own("scale = base"),
    ]
    assert kept(*cells) == ["import math", "base = math.pi", "scale = base"]


def test_a_method_of_what_is_imported_changes_no_name() -> None:
    assert kept(given("import scale"), given("scale.draw()")) == ["import scale"]


@pytest.mark.parametrize(
    "source",
    ["import sys\nsys.setrecursionlimit(9)", "patch()", "lib.f = g", "%matplotlib inline", "x = ("],
)
def test_what_a_student_does_beside_defining_runs_with_all_that_it_wants(source: str) -> None:
    cells = [given("def patch(): pass"), given("import lib"), own(source)]
    assert kept(*cells)[-1] == source
    assert ("def patch(): pass" in kept(*cells)) is (source == "patch()")


def test_what_a_student_defines_for_nobody_does_not_run() -> None:
    slow = own("def slow(): return 1")
    assert kept(slow, own("import torch"), own("x = slow()"), own("x['a'] = 2")) == []


@pytest.mark.parametrize(
    "source", ["eval('scale')", "globals()['scale']", "from lib import *", "scale = Out[3]"]
)
def test_where_names_are_looked_up_by_text_all_cells_run(source: str) -> None:
    cells = [given("unused = 1"), own(source), given("figure()")]
    assert kept(*cells) == [cell.source for cell in cells]


def test_text_and_checks_never_run() -> None:
    text, check = Cell(Role.TEXT, "scale = 1"), Cell(Role.CHECK, "scale = 1", "other")
    assert kept(text, check) == []


def test_the_students_cells_for_an_exercise_run_whatever_they_say() -> None:
    whole = [CHECK, own("x = 1"), given("y = 1"), ANSWER, CHECK]
    assert needed(whole, 4, "f") == [1, 3]


def test_text_that_is_no_python_may_want_anything() -> None:
    told = about("await scale (")
    assert {"await", "scale"} <= told.used
    assert told.is_active
    assert told.bound == frozenset()


@pytest.mark.parametrize("source", graded_sources(), ids=lambda path: path.stem)
def test_an_exercise_of_a_lesson_needs_few_of_its_cells(source: Path) -> None:
    release = load_release(release_path(source.stem))
    cells = canaries(release)[RIGHT].cells
    checks = [at for at, cell in enumerate(cells) if cell.role is Role.CHECK]
    shares = [
        len(needed(cells, at, release.of_check(str(cells[at].grade_id)).name)) / at for at in checks
    ]
    assert sum(shares) / len(shares) < 0.2

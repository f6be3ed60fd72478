"""Sample submissions of every lesson earn in boxes what their sheets say.

The same sheets are held against vanilla nbgrader: sealed equals vanilla on honest submissions.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from autograder.build.notebooks import graded_sources, release_path, sources
from autograder.build.samples import Sample, samples
from autograder.lessons import find
from autograder.matching import grade_id
from autograder.proxy.subject import Returned
from autograder.sealed.box.limits import Limits
from autograder.sealed.box.warm import Zygote
from autograder.sealed.canaries import UNTOUCHED
from autograder.sealed.intake import Submission, graded_cells
from autograder.sealed.oracle import Oracle
from autograder.sealed.release import load_release
from autograder.sealed.score import score
from autograder.sealed.stubs import imported_by, make_tree
from autograder.sealed.verdict import Remark, Verdict

WITH_SAMPLES = tuple(source.stem for source in graded_sources())
FEW = 3
"""Drawn cases of each exercise where all else that boxes are asked counts: probes, large calls."""

NEVER_IN_THE_BOX = (
    "autograder.checks",
    "autograder.grading",
    "autograder.sealed.intake",
    "autograder.sealed.stubs",
    "autograder.build",
    "autograder.explanation",
    "autograder.lessons.lesson",
)

IN_THE_BOX = """
import sys
loaded = {name: str(m.__file__) for name, m in sys.modules.items() if name.startswith("autograder")}
"""

each_lesson = pytest.mark.parametrize("lesson", WITH_SAMPLES, scope="module")

pytestmark = pytest.mark.usefixtures("boxes", "first_failing_case")


def source_of(lesson: str) -> Path:
    """Return where a lesson is written."""
    (source,) = (each for each in sources() if each.stem == lesson)
    return source


@pytest.fixture(autouse=True)
def no_workloads(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let checks look at no recorded workloads: these boxes have none either."""
    monkeypatch.delenv("COURSE_TRACES", raising=False)


@pytest.fixture(scope="module")
def oracle(boxes: None, lesson: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Oracle]:
    """The oracle of a lesson, with its boxes."""
    release = load_release(release_path(lesson))
    tree = tmp_path_factory.mktemp("tree")
    make_tree(release, tree)
    with Zygote(tree, imported_by(release)) as zygote:
        yield Oracle(release, zygote, b"a secret of the tests", Limits(), max_examples=FEW)


def judged(oracle: Oracle, lesson: str, sample: Sample) -> tuple[list[Verdict], dict[str, float]]:
    """Return the verdicts on a sample, and the points of its cells."""
    release = load_release(release_path(lesson))
    cells, notes = graded_cells(sample.notebook.cells, release)
    verdicts = oracle.judge(Submission(sample.student, lesson, cells, notes))
    items = score(release, verdicts, notes).items
    return list(verdicts), {item.grade_id: item.points for item in items}


def asked_for(oracle: Oracle) -> set[str]:
    """Return what cells of the lesson import, what that imports in turn, and their packages."""
    found: set[str] = set()
    waiting = list(imported_by(oracle.release))
    while waiting:
        name = waiting.pop()
        file = oracle.zygote._readable[0] / f"{name.replace('.', '/')}.py"
        if name.startswith("autograder.") and name not in found:
            found |= {name, name.rpartition(".")[0]}
            lines = file.read_text(encoding="utf-8").split("\n") if file.is_file() else []
            waiting += [line.split()[1] for line in lines if line.startswith("from autograder")]
    return found


@each_lesson
def test_the_setup_cell_runs_in_a_box_and_finds_no_check(oracle: Oracle, lesson: str) -> None:
    cells = oracle.release.cells
    setup = next(str(cell.source) for cell in cells if cell.cell_type == "code")
    with oracle.zygote.box() as box:
        assert box.run(setup, 60) is None
        assert box.run(IN_THE_BOX, 60) is None
        with box.taken("loaded") as subject:
            assert subject is not None
            outcome = subject.value()
    assert isinstance(outcome, Returned)
    assert "autograder.proxy.host" in outcome.value
    checks = [name for name in outcome.value if name.startswith(NEVER_IN_THE_BOX)]
    assert asked_for(oracle).issuperset(checks)
    # The checkout has these modules too, and it has the checks.
    assert all(
        Path(file).is_relative_to(oracle.zygote._readable[0]) for file in outcome.value.values()
    )


@each_lesson
def test_each_sample_earns_what_it_says(oracle: Oracle, lesson: str) -> None:
    for sample in samples(source_of(lesson)):
        verdicts, points = judged(oracle, lesson, sample)
        assert points == dict(sample.earns), (sample.student, verdicts)


@pytest.mark.parametrize("lesson", ["07_kv_cache_block_management", "13_engine"], scope="module")
def test_who_inherits_from_the_courses_class_and_adds_nothing_earns_nothing(
    oracle: Oracle, lesson: str
) -> None:
    (sample,) = (each for each in samples(source_of(lesson)) if each.student == UNTOUCHED)
    classes = {}
    for asked in load_release(release_path(lesson)).asked:
        right = getattr(find(asked.exercise).check, "reference", None)
        if isinstance(right, type):
            (cell,) = (c for c in sample.notebook.cells if grade_id(c) == asked.answer_id)
            cell.source = (
                f"from {right.__module__} import {right.__name__} as Theirs\n"
                f"class {asked.name}(Theirs):\n    pass"
            )
            classes[asked.exercise] = asked.check_id
    assert classes
    verdicts, points = judged(oracle, lesson, sample)
    for verdict in verdicts:
        if verdict.exercise in classes:
            assert points[verdict.grade_id] == 0
            assert Remark.IMPORTS_REFERENCE in verdict.remarks, verdict

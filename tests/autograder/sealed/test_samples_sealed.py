"""Sample submissions of every lesson earn in boxes what their sheets say.

The same sheets are held against vanilla nbgrader: sealed equals vanilla on honest submissions.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from autograder.build.notebooks import release_path, sources
from autograder.build.samples import Sample, samples
from autograder.lessons import find
from autograder.matching import grade_id
from autograder.sealed.box.limits import Limits
from autograder.sealed.box.warm import Zygote
from autograder.sealed.canaries import UNTOUCHED
from autograder.sealed.intake import Submission, graded_cells
from autograder.sealed.oracle import Oracle
from autograder.sealed.release import load_release
from autograder.sealed.score import score
from autograder.sealed.stubs import imported_by, make_tree
from autograder.sealed.verdict import Remark, Verdict

WITH_SAMPLES = tuple(
    source.stem for source in sources() if any(each.earns for each in samples(source))
)
FEW = 3
"""Drawn cases of each exercise where all else that boxes are asked counts: probes, large calls."""

pytestmark = pytest.mark.usefixtures("boxes", "first_failing_case")


def source_of(lesson: str) -> Path:
    """Return where a lesson is written."""
    (source,) = (each for each in sources() if each.stem == lesson)
    return source


@pytest.fixture(autouse=True)
def no_workloads(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let checks look at no recorded workloads: these boxes have none either."""
    monkeypatch.delenv("COURSE_TRACES", raising=False)


@pytest.fixture
def oracle(lesson: str, tmp_path: Path) -> Iterator[Oracle]:
    """The oracle of a lesson, with its boxes."""
    release = load_release(release_path(lesson))
    make_tree(release, tmp_path)
    with Zygote(tmp_path, imported_by(release)) as zygote:
        yield Oracle(release, zygote, b"a secret of the tests", Limits(), max_examples=FEW)


def judged(oracle: Oracle, lesson: str, sample: Sample) -> tuple[list[Verdict], dict[str, float]]:
    """Return the verdicts on a sample, and the points of its cells."""
    release = load_release(release_path(lesson))
    cells, notes = graded_cells(sample.notebook.cells, release)
    verdicts = oracle.judge(Submission(sample.student, lesson, cells, notes))
    items = score(release, verdicts, notes).items
    return list(verdicts), {item.grade_id: item.points for item in items}


@pytest.mark.parametrize("lesson", WITH_SAMPLES)
def test_each_sample_earns_what_it_says(oracle: Oracle, lesson: str) -> None:
    for sample in samples(source_of(lesson)):
        verdicts, points = judged(oracle, lesson, sample)
        assert points == dict(sample.earns), (sample.student, verdicts)


@pytest.mark.parametrize("lesson", ["07_kv_cache_block_management", "13_engine"])
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

"""Sample submissions earn in boxes what their sheets say, and what is right earns everything."""

from __future__ import annotations

from pathlib import Path

import pytest

from autograder.build.notebooks import release_path, sources
from autograder.build.samples import samples
from autograder.sealed.box.limits import Limits
from autograder.sealed.box.warm import Zygote
from autograder.sealed.canaries import RIGHT
from autograder.sealed.intake import Submission, graded_cells
from autograder.sealed.oracle import Oracle
from autograder.sealed.release import load_release
from autograder.sealed.score import score
from autograder.sealed.stubs import make_tree

LESSONS = (
    "01_traditional_attention_problems",
    "06_preemption_swapping",
    "13_engine",
    "15_comprehensive_quiz",
)
WITH_SAMPLES = tuple(
    source.stem for source in sources() if any(each.earns for each in samples(source))
)
FEW = 3
"""Drawn cases of each exercise where all else that boxes are asked counts: probes, large calls."""

pytestmark = pytest.mark.usefixtures("boxes", "first_failing_case")


def is_judged(lesson: str, student: str, examples: int, scratch: Path) -> None:
    """Judge a sample in a box, and hold its points against its sheet."""
    (source,) = (each for each in sources() if each.stem == lesson)
    (sample,) = (each for each in samples(source) if each.student == student)
    release = load_release(release_path(lesson))
    cells, notes = graded_cells(sample.notebook.cells, release)
    tree = scratch / "tree"
    make_tree(release, tree)
    modules = ["autograder.notebook", "course_lib.viz", "course_lib.engine"]
    with Zygote(tree, modules) as zygote:
        oracle = Oracle(release, zygote, b"a secret of the tests", Limits(), max_examples=examples)
        verdicts = oracle.judge(Submission(sample.student, lesson, cells, notes))
    items = score(release, verdicts, notes).items
    assert {item.grade_id: item.points for item in items} == dict(sample.earns), verdicts


@pytest.fixture(autouse=True)
def no_workloads(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let checks look at no recorded workloads: these boxes have none either."""
    monkeypatch.delenv("COURSE_TRACES", raising=False)


@pytest.mark.parametrize("lesson", LESSONS)
def test_a_sample_earns_what_it_says(lesson: str, tmp_path: Path) -> None:
    is_judged(lesson, "partly_right", 20, tmp_path)


@pytest.mark.parametrize("lesson", WITH_SAMPLES)
def test_what_is_right_earns_everything_in_a_box(lesson: str, tmp_path: Path) -> None:
    is_judged(lesson, RIGHT, FEW, tmp_path)

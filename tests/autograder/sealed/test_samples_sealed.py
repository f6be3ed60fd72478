"""Sample submissions of every lesson earn in boxes what their sheets say.

The same sheets are held against vanilla nbgrader: sealed equals vanilla on honest submissions.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from autograder.build.notebooks import release_path, sources
from autograder.build.samples import samples
from autograder.sealed.box.limits import Limits
from autograder.sealed.box.warm import Zygote
from autograder.sealed.intake import Submission, graded_cells
from autograder.sealed.oracle import Oracle
from autograder.sealed.release import load_release
from autograder.sealed.score import score
from autograder.sealed.stubs import make_tree

WITH_SAMPLES = tuple(
    source.stem for source in sources() if any(each.earns for each in samples(source))
)
FEW = 3
"""Drawn cases of each exercise where all else that boxes are asked counts: probes, large calls."""

pytestmark = pytest.mark.usefixtures("boxes", "first_failing_case")


@pytest.fixture(autouse=True)
def no_workloads(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let checks look at no recorded workloads: these boxes have none either."""
    monkeypatch.delenv("COURSE_TRACES", raising=False)


@pytest.mark.parametrize("lesson", WITH_SAMPLES)
def test_each_sample_earns_what_it_says(lesson: str, tmp_path: Path) -> None:
    (source,) = (each for each in sources() if each.stem == lesson)
    release = load_release(release_path(lesson))
    make_tree(release, tmp_path)
    modules = ["autograder.notebook", "course_lib.viz", "course_lib.engine"]
    with Zygote(tmp_path, modules) as zygote:
        oracle = Oracle(release, zygote, b"a secret of the tests", Limits(), max_examples=FEW)
        for sample in samples(source):
            cells, notes = graded_cells(sample.notebook.cells, release)
            verdicts = oracle.judge(Submission(sample.student, lesson, cells, notes))
            items = score(release, verdicts, notes).items
            points = {item.grade_id: item.points for item in items}
            assert points == dict(sample.earns), (sample.student, verdicts)

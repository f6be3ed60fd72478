"""Sample submissions earn in boxes what their sheets say."""

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

LESSONS = (
    "01_traditional_attention_problems",
    "06_preemption_swapping",
    "13_engine",
    "15_comprehensive_quiz",
)


@pytest.mark.parametrize("lesson", LESSONS)
def test_a_sample_earns_what_it_says(
    lesson: str,
    boxes: None,
    first_failing_case: None,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # These boxes have no recorded workloads, so the checks do not look at any either.
    monkeypatch.delenv("COURSE_TRACES", raising=False)
    (source,) = (each for each in sources() if each.stem == lesson)
    (sample,) = (each for each in samples(source) if each.student == "partly_right")
    release = load_release(release_path(lesson))
    cells, notes = graded_cells(sample.notebook.cells, release)
    tree = tmp_path / "tree"
    make_tree(release, tree)
    modules = ["autograder.notebook", "course_lib.viz", "course_lib.engine"]
    with Zygote(tree, modules) as zygote:
        oracle = Oracle(release, zygote, b"a secret of the tests", Limits(), max_examples=20)
        verdicts = oracle.judge(Submission(sample.student, lesson, cells, notes))
    items = score(release, verdicts, notes).items
    assert {item.grade_id: item.points for item in items} == dict(sample.earns)

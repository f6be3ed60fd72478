"""Points of verdicts, and the words that stand where a 0 would lie."""

from __future__ import annotations

from dataclasses import replace

import pytest

from autograder.sealed.quarantine import Quarantined
from autograder.sealed.release import Release
from autograder.sealed.score import Score, score, ungraded
from autograder.sealed.verdict import Remark, Status, Verdict


def verdicts(*changes: Verdict) -> list[Verdict]:
    """Everything right and the text waiting, but for some."""
    found = {
        "check-double": Verdict("1.double", "check-double", Status.PASS, 1.0),
        "check-half": Verdict("1.half", "check-half", Status.PASS, 1.0),
        "text": Verdict("text", "text", Status.MANUAL),
    }
    return list((found | {each.grade_id: each for each in changes}).values())


def of_double(status: Status, fraction: float = 0.0, *remarks: Remark) -> Verdict:
    return Verdict("1.double", "check-double", status, fraction, "why", remarks)


def points(found: Score) -> dict[str, float | None]:
    return {item.exercise: item.points for item in found.items}


def test_full_marks_and_a_text_that_waits(release: Release) -> None:
    found = score(release, verdicts(), ["a note"])
    assert points(found) == {"1.double": 10, "1.half": 5, "text": None}
    assert (found.earned, found.maximum, found.waits) == (15, 20, 5)
    assert found.notes == ("a note",)
    assert found.items[2].says == "to be marked by hand"


@pytest.mark.parametrize(
    ("verdict", "earned", "says"),
    [
        (of_double(Status.FAIL, 0.25), 2.5, "why"),
        (of_double(Status.FAIL, 1 / 3), 3.33, "why"),
        (of_double(Status.FAIL, 0.0, Remark.NOT_STARTED), 0, "not started"),
        (of_double(Status.FAIL, 0.0, Remark.CELL_MISSING), 0, "cells missing: why"),
        (of_double(Status.FAIL, 0.0, Remark.IMPORTS_REFERENCE), 0, "imports the reference: why"),
        (of_double(Status.PASS, 1.0, Remark.OUTSIDE_ITS_CELL), 10, "answer outside its cell"),
        (of_double(Status.TIMEOUT, 0.7), 0, "TIMEOUT: why"),
        (of_double(Status.CRASH), 0, "CRASH: why"),
        (of_double(Status.QUARANTINED, 0.0, Remark.NOT_GRADABLE), None, "not gradable: why"),
        (of_double(Status.INFRA), None, "the machine failed; grade it again: why"),
    ],
)
def test_what_a_verdict_earns_and_says(
    release: Release, verdict: Verdict, earned: float | None, says: str
) -> None:
    item = score(release, verdicts(verdict)).items[0]
    assert (item.points, item.says) == (earned, says)


@pytest.mark.parametrize("fraction", [-0.1, 1.1, float("nan"), float("inf")])
def test_a_fraction_that_is_none_is_never_written(release: Release, fraction: float) -> None:
    with pytest.raises(ValueError, match="which is no part"):
        score(release, verdicts(of_double(Status.FAIL, fraction)))


def test_a_missing_verdict_is_no_0(release: Release) -> None:
    with pytest.raises(ValueError, match="no verdict on check-half"):
        score(release, [each for each in verdicts() if each.exercise != "1.half"])


def test_what_cannot_be_graded_has_no_points(release: Release) -> None:
    found = ungraded(release, Quarantined("ada", release.lesson, "it is empty"))
    assert (found.earned, found.maximum, found.waits) == (None, 20, 20)
    assert {item.says for item in found.items} == {"not gradable"}
    assert found.notes == ("it is empty",)


def test_practice_earns_nothing_and_is_not_listed(release: Release) -> None:
    asked = (replace(release.asked[0], points=0.0), release.asked[1])
    assert points(score(replace(release, asked=asked), verdicts())) == {"1.half": 5, "text": None}

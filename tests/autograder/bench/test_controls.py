"""How soon a figure follows its controls: what is said of the times that were measured."""

from __future__ import annotations

from autograder.bench.controls import ControlReport


def test_the_report_names_both_ways_of_moving() -> None:
    report = ControlReport(step_ms=(20.0, 30.0, 40.0), drag_ms=(50.0,) * 19 + (90.0,))
    assert str(report) == (
        "steps: median 30 ms, 95th percentile 40 ms of 3 values; "
        "dragged: median 50 ms, 95th percentile 50 ms of 20 values"
    )

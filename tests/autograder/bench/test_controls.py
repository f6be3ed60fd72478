"""How soon a figure follows its controls: what is made of the times that were measured."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from autograder.bench.controls import ControlReport, percentile


@given(
    times=st.lists(st.floats(0, 1000), min_size=1, max_size=60).map(tuple),
    percent=st.integers(1, 100),
)
def test_a_percentile_is_the_smallest_time_that_so_many_do_not_exceed(
    times: tuple[float, ...], percent: int
) -> None:
    found = percentile(times, percent)

    def share(limit: float) -> float:
        return 100 * sum(each <= limit for each in times) / len(times)

    assert share(found) >= percent
    assert all(share(each) < percent for each in times if each < found)


def test_the_report_names_both_ways_of_moving() -> None:
    report = ControlReport(step_ms=(20.0, 30.0, 40.0), drag_ms=(50.0,) * 19 + (90.0,))
    assert str(report) == (
        "steps: median 30 ms, 95th percentile 40 ms of 3 values; "
        "dragged: median 50 ms, 95th percentile 50 ms of 20 values"
    )

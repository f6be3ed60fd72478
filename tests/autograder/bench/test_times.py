"""What is made of many times that something took."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from autograder.bench.times import best_round, percentile


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


def test_the_best_round_is_the_one_whose_slow_answers_are_the_fastest() -> None:
    hurried = (1.0,) * 90 + (200.0,) * 10
    steady = (50.0,) * 100
    with_one_outlier = (40.0,) * 99 + (900.0,)
    assert best_round([hurried, steady]) is steady
    assert best_round([hurried, steady, with_one_outlier]) is with_one_outlier

"""Latencies from an event log: held against a plain loop over the tokens."""

import math
from collections.abc import Callable, Sequence
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from course_lib.simulation import (
    ServiceLevel,
    TokenLog,
    end_to_end_latency,
    goodput,
    inter_token_latencies,
    longest_gaps,
    service_curves,
    slowdown,
    summarize,
    time_per_output_token,
    time_to_first_token,
)

# Multiples of 1/8 are exact, so that results can be compared with ==.
times_of_a_request = st.lists(st.integers(0, 800), max_size=6).map(
    lambda eighths: [each / 8 for each in sorted(eighths)]
)
logs = st.lists(times_of_a_request, max_size=6)


def _same(got: list[float], expected: list[float]) -> bool:
    assert all(type(each) is float for each in got)
    return np.array_equal(got, np.array(expected, dtype=float), equal_nan=True)


@given(logs)
def test_a_log_is_the_lists_that_it_was_made_of(token_times: list[list[float]]) -> None:
    log = TokenLog(token_times)
    assert list(log) == token_times
    assert log[-2:] == token_times[-2:]
    assert log.num_tokens.tolist() == [len(times) for times in token_times]
    for index in (-len(token_times), len(token_times) - 1) if token_times else ():
        assert log[index] == token_times[index]
    with pytest.raises(IndexError):
        log[len(token_times)]


@pytest.mark.parametrize("container", [list, TokenLog], ids=["lists", "log"])
@given(token_times=logs)
def test_latencies_are_those_of_a_loop_over_the_tokens(
    container: Callable[[list[list[float]]], Sequence[list[float]]],
    token_times: list[list[float]],
) -> None:
    log = container(token_times)
    arrivals = [0.5 * index for index in range(len(token_times))]
    pairs = list(zip(token_times, arrivals, strict=True))
    gaps = [[b - a for a, b in pairwise(t)] for t in token_times]
    assert _same(
        time_to_first_token(arrivals, log), [t[0] - a if t else math.nan for t, a in pairs]
    )
    assert _same(
        end_to_end_latency(arrivals, log), [t[-1] - a if t else math.nan for t, a in pairs]
    )
    assert _same(inter_token_latencies(log), [gap for each in gaps for gap in each])
    assert _same(longest_gaps(log), [max(each, default=math.nan) for each in gaps])
    assert _same(
        time_per_output_token(log), [sum(each) / len(each) if each else math.nan for each in gaps]
    )


class TestSlowdown:
    def test_is_a_ratio_per_request(self) -> None:
        got = slowdown([10.0, 3.0, math.nan], [5.0, 3.0, 1.0])
        assert got[:2] == [2.0, 1.0]
        assert math.isnan(got[2])

    @pytest.mark.parametrize("alone", [0.0, -1.0, math.nan])
    def test_nobody_takes_no_time(self, alone: float) -> None:
        with pytest.raises(ValueError, match=r"seconds_alone\[1\] is"):
            slowdown([1.0, 1.0], [1.0, alone])


class TestSummary:
    def test_leaves_nan_out(self) -> None:
        figures = summarize([1.0, math.nan, 3.0])
        assert (figures["mean"], figures["p50"], figures["max"]) == (2.0, 2.0, 3.0)

    def test_is_nan_without_values(self) -> None:
        assert all(math.isnan(value) for value in summarize([math.nan]).values())


class TestServiceLevel:
    def test_all_bounds_must_be_met(self) -> None:
        level = ServiceLevel(ttft=1.0, tpot=0.1, e2e=10.0)
        met = level.is_met(ttft=[1, 2, 1, 1], tpot=[0.1, 0.1, 0.2, 0.1], e2e=[10, 9, 9, 11])
        assert met.tolist() == [True, False, False, False]

    def test_a_single_token_has_no_gap_that_is_too_long(self) -> None:
        level = ServiceLevel(ttft=1.0, tpot=0.1)
        assert level.is_met(ttft=[0.5], tpot=[math.nan], e2e=[0.5]).tolist() == [True]

    def test_a_refused_request_does_not_meet_it(self) -> None:
        assert ServiceLevel().is_met([math.nan], [math.nan], [math.nan]).tolist() == [False]

    def test_goodput_is_a_rate(self) -> None:
        assert goodput([True, False, True], 0.5) == 4.0
        with pytest.raises(ValueError, match="seconds is 0"):
            goodput([True], 0)

    def test_a_bound_must_be_positive(self) -> None:
        with pytest.raises(ValueError, match="tpot is 0"):
            ServiceLevel(tpot=0)


class TestService:
    LOG = TokenLog([[1.0, 2.0, 3.0], [2.0, 3.0], [4.0]])

    def test_prompts_count_with_the_first_token_and_outputs_as_they_come(self) -> None:
        curves = service_curves(self.LOG, ["a", "b", "a"], [100, 10, 5])
        assert curves.clients == ("a", "b")
        assert curves.times.tolist() == [1.0, 2.0, 3.0, 4.0]
        assert curves.service.tolist() == [[102, 104, 106, 113], [0, 12, 14, 14]]
        assert curves.gap().tolist() == [102, 92, 92, 99]

    def test_weights_change_what_counts(self) -> None:
        curves = service_curves(self.LOG, ["a", "b", "a"], [100, 10, 5], 0.0, 1.0)
        assert curves.service[:, -1].tolist() == [4, 2]

    def test_can_be_cut_where_a_client_has_nothing_to_ask(self) -> None:
        curves = service_curves(self.LOG, ["a", "b", "a"], [100, 10, 5]).until(2.0)
        assert curves.times.tolist() == [1.0, 2.0]
        assert curves.gap().tolist() == [102, 92]

    def test_nothing_served_is_no_gap(self) -> None:
        assert service_curves(TokenLog([]), [], []).gap().tolist() == []

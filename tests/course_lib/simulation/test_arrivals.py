"""Arrival processes and lengths: they have the rate and the burstiness that they promise."""

import math
from itertools import pairwise

import numpy as np
import pytest

from course_lib.simulation import (
    ClosedLoop,
    TraceRequest,
    Workload,
    gamma_arrivals,
    geometric_lengths,
    lognormal_lengths,
    lognormal_requests,
    on_off_arrivals,
    poisson_arrivals,
)

N = 200_000


def _cv(times: np.ndarray) -> float:
    gaps = np.diff(times, prepend=0.0)
    return float(gaps.std() / gaps.mean())


def _dispersion(times: np.ndarray, window: float) -> float:
    """Variance over mean of the arrivals per window: 1 for a Poisson process."""
    counts = np.bincount((times // window).astype(int))[:-1]
    return float(counts.var() / counts.mean())


class TestPoisson:
    def test_has_the_rate_and_a_cv_of_one(self) -> None:
        times = poisson_arrivals(rate=7.0, n=N)
        assert N / times[-1] == pytest.approx(7.0, rel=0.01)
        assert _cv(times) == pytest.approx(1.0, rel=0.02)
        assert _dispersion(times, window=10.0) == pytest.approx(1.0, rel=0.05)

    def test_gaps_are_exponential(self) -> None:
        gaps = np.diff(poisson_arrivals(rate=2.0, n=N))
        for seconds in (0.1, 0.5, 1.5):
            assert (gaps > seconds).mean() == pytest.approx(math.exp(-2.0 * seconds), rel=0.03)

    def test_the_same_seed_gives_the_same_times_and_another_does_not(self) -> None:
        first, again, other = (poisson_arrivals(2.0, 10, seed) for seed in (1, 1, 2))
        assert first.tolist() == again.tolist() != other.tolist()

    @pytest.mark.parametrize(("rate", "n"), [(0.0, 5), (-1.0, 5), (math.nan, 5), (1.0, -1)])
    def test_impossible_parameters_are_named(self, rate: float, n: int) -> None:
        with pytest.raises(ValueError, match="must be above 0"):
            poisson_arrivals(rate, n)


class TestGamma:
    @pytest.mark.parametrize("cv", [0.3, 1.0, 4.0])
    def test_has_the_rate_and_the_cv(self, cv: float) -> None:
        times = gamma_arrivals(rate=3.0, cv=cv, n=N)
        assert N / times[-1] == pytest.approx(3.0, rel=0.03)
        assert _cv(times) == pytest.approx(cv, rel=0.03)


class TestOnOff:
    def test_has_the_long_run_rate_of_its_phases(self) -> None:
        times = on_off_arrivals(rate_on=20.0, mean_on=3.0, mean_off=9.0, n=N)
        assert N / times[-1] == pytest.approx(5.0, rel=0.05)
        assert (np.diff(times) >= 0).all()

    def test_cv_of_the_gaps_is_that_of_an_interrupted_poisson_process(self) -> None:
        # Kuczura (1973), with a and b the rates of switching off and on: 1 + 2λa / (a + b)².
        rate_on, mean_on, mean_off = 20.0, 3.0, 9.0
        a, b = 1 / mean_on, 1 / mean_off
        scv = 1 + 2 * rate_on * a / (a + b) ** 2
        times = on_off_arrivals(rate_on, mean_on, mean_off, n=2 * N, seed=3)
        assert _cv(times) ** 2 == pytest.approx(scv, rel=0.1)

    def test_without_off_phases_it_is_a_poisson_process(self) -> None:
        times = on_off_arrivals(rate_on=4.0, mean_on=1.0, mean_off=0.0, n=N)
        assert N / times[-1] == pytest.approx(4.0, rel=0.01)
        assert _cv(times) == pytest.approx(1.0, rel=0.02)

    @pytest.mark.parametrize(
        "arguments", [(0, 1, 1, 1), (1, 0, 1, 1), (1, 1, -1, 1), (1, 1, 1, -1)]
    )
    def test_impossible_parameters_are_named(self, arguments: tuple[float, ...]) -> None:
        with pytest.raises(ValueError, match="must be above 0"):
            on_off_arrivals(*arguments)  # type: ignore[arg-type]


class TestLengths:
    def test_lognormal_lengths_have_the_mean_and_the_median(self) -> None:
        lengths = lognormal_lengths(mean=338, median=200, n=N)
        assert lengths.mean() == pytest.approx(338, rel=0.02)
        assert np.median(lengths) == pytest.approx(200, rel=0.02)
        assert lengths.min() >= 1

    def test_lognormal_requests_keep_their_means_below_the_limit(self) -> None:
        requests = lognormal_requests((161.31, 337.99), (1.2, 1.0), n=20_000, max_model_len=2048)
        lengths = np.array([(r.prompt_tokens, r.output_tokens) for r in requests])
        assert lengths.mean(axis=0) == pytest.approx((161.31, 337.99), rel=0.01)
        assert 1900 < lengths.sum(axis=1).max() <= 2048
        assert lengths.min() >= 1
        assert np.corrcoef(lengths.T)[0, 1] == pytest.approx(0, abs=0.1)

    def test_lognormal_requests_spread_as_asked_where_nothing_is_cut(self) -> None:
        requests = lognormal_requests((1000, 500), (0.4, 0.2), n=20_000, max_model_len=10**9)
        lengths = np.array([(r.prompt_tokens, r.output_tokens) for r in requests])
        assert len(requests) == 20_000
        assert lengths.std(axis=0) / lengths.mean(axis=0) == pytest.approx((0.4, 0.2), rel=0.03)

    def test_geometric_lengths_have_the_mean_and_no_memory(self) -> None:
        lengths = geometric_lengths(mean=50, n=N)
        assert lengths.mean() == pytest.approx(50, rel=0.02)
        assert (lengths[lengths > 100] - 100).mean() == pytest.approx(50, rel=0.05)

    def test_impossible_parameters_are_named(self) -> None:
        with pytest.raises(ValueError, match="mean is 10, median is 20"):
            lognormal_lengths(mean=10, median=20, n=5)
        with pytest.raises(ValueError, match=r"mean is 0\.5"):
            geometric_lengths(mean=0.5, n=5)
        for means, cvs, limit in (((0, 1), (1, 1), 9), ((1, 1), (0, 1), 9), ((4, 5), (1, 1), 9)):
            with pytest.raises(ValueError, match="more than both means together"):
                lognormal_requests(means, cvs, n=5, max_model_len=limit)


class TestWorkload:
    def test_is_built_from_columns(self) -> None:
        workload = Workload.from_columns("x", np.array([0.0, 1.0]), np.array([3, 4]), [5, 6])
        assert list(workload) == [TraceRequest(0.0, 3, 5), TraceRequest(1.0, 4, 6)]
        assert workload.is_synthetic

    def test_columns_of_different_lengths_are_refused(self) -> None:
        with pytest.raises(ValueError, match="shorter"):
            Workload.from_columns("x", [0.0, 1.0], [3], [5, 6])

    def test_a_slice_is_in_order_and_keeps_the_source(self) -> None:
        workload = Workload.from_columns("x", range(5), [1] * 5, [1] * 5, source="five")
        part = workload[1:4]
        assert (len(part), part.source) == (3, "five")
        assert all(a.arrival_time < b.arrival_time for a, b in pairwise(part))


class TestClosedLoop:
    @pytest.mark.parametrize(("clients", "think"), [(0, 1.0), (3, -1.0), (3, math.nan)])
    def test_impossible_parameters_are_named(self, clients: int, think: float) -> None:
        with pytest.raises(ValueError, match="at least 1 client"):
            ClosedLoop([], clients, think)

"""Every closed form against something that shares no line with it.

The oracles are Markov chains solved as linear equations, quadrature of textbook integrals, exact
decimal arithmetic, the simulator ``ciw``, and an event simulation of other orders of service.
``scipy`` and ``ciw`` are needed here only; they belong to the dev extra.

Simulated means are compared within 4.5 standard errors, estimated from the means of long batches.
Each comparison also asks for a small standard error, so that a wrong formula would show.
"""

from __future__ import annotations

import math
import subprocess
import sys
from collections.abc import Callable, Hashable, Iterable, Sequence
from dataclasses import dataclass
from decimal import Decimal, localcontext
from itertools import pairwise

import ciw
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import integrate, optimize, special, stats
from scipy.sparse import coo_matrix
from scipy.sparse.linalg import spsolve

from course_lib.queueing import (
    GG1,
    MD1,
    MG1,
    MG1PS,
    MM1,
    MM1K,
    MM1SJF,
    MM1SRPT,
    MXG1,
    FloatArray,
    MG1PreemptivePriority,
    MG1Priority,
    MMc,
    QueueModel,
    erlang_b,
    erlang_c,
    fewest_servers,
    inspected_gap,
    littles_law,
    number_in_system,
    seen_on_arrival,
    send_times,
    servers_by_simulation,
    servers_for_response,
    servers_for_wait,
    simulate_queue,
    time_average,
    waits_at_many_servers,
)
from course_lib.queueing.simulation import CHUNK
from yardstick import cpu_seconds, quiet_seconds

# Oracles ------------------------------------------------------------------------------------------

Rates = Iterable[tuple[Hashable, float]]


class Chain:
    """The stationary distribution of a Markov chain in continuous time, by linear equations."""

    def __init__(self, start: Hashable, rates: Callable[[Hashable], Rates]) -> None:
        """Explore all states that can be reached from ``start``; ``rates`` gives the exits."""
        index, todo, rows, columns, values = {start: 0}, [start], [], [], []
        for state in todo:
            for target, rate in rates(state):
                if target not in index:
                    index[target] = len(index)
                    todo.append(target)
                rows += [index[target], index[state]]
                columns += [index[state], index[state]]
                values += [rate, -rate]
        size = len(index)
        generator = coo_matrix((values, (rows, columns)), shape=(size, size)).tolil()
        generator[size - 1, :] = 1.0  # one balance equation is redundant: probabilities add to 1
        right = np.zeros(size)
        right[-1] = 1.0
        self.probabilities = dict(zip(todo, spsolve(generator.tocsc(), right), strict=True))

    def mean(self, value: Callable[..., float]) -> float:
        """Average a function of the state over time."""
        return math.fsum(p * value(state) for state, p in self.probabilities.items())


def batch_means(values: FloatArray, batches: int = 20) -> tuple[float, float]:
    """Return mean and standard error of a stationary series, from the means of long batches."""
    length = len(values) // batches
    means = values[: batches * length].reshape(batches, length).mean(axis=1)
    return float(means.mean()), float(means.std(ddof=1) / math.sqrt(batches))


def assert_mean(values: FloatArray, expected: float, resolution: float = 0.03) -> None:
    """Assert that a simulated series has the expected mean, and that the test could tell."""
    mean, error = batch_means(np.asarray(values, dtype=float))
    assert error < resolution * expected, "too short a simulation to tell right from wrong"
    assert abs(mean - expected) < 4.5 * error, (mean, expected, error)


def check_means(model: QueueModel, *, waiting: float, present: float, blocked: float) -> None:
    """Assert what an oracle says of those who wait, those present, and the chance to wait."""
    assert model.wait_probability == pytest.approx(blocked, rel=1e-8)
    assert model.mean_queue_length == pytest.approx(waiting, rel=1e-8)
    assert model.mean_in_system == pytest.approx(present, rel=1e-8)
    assert model.mean_wait == pytest.approx(waiting / model.throughput, rel=1e-8)
    assert model.mean_response == pytest.approx(present / model.throughput, rel=1e-8)
    assert model.mean_response - model.mean_wait == pytest.approx(model.mean_service, rel=1e-8)


# M/M/1, M/M/c, M/M/1/K ----------------------------------------------------------------------------


def birth_death(lam: float, mu: float, servers: int, places: int) -> Chain:
    def rates(n: int) -> Rates:
        if n < places:
            yield n + 1, lam
        if n > 0:
            yield n - 1, min(n, servers) * mu

    return Chain(0, rates)


@pytest.mark.parametrize(("lam", "mu"), [(0.3, 1.0), (8.0, 10.0), (0.9, 1.0)])
def test_mm1_against_its_markov_chain(lam: float, mu: float) -> None:
    chain = birth_death(lam, mu, servers=1, places=400)
    check_means(
        MM1(lam, mu),
        waiting=chain.mean(lambda n: max(0, n - 1)),
        present=chain.mean(lambda n: n),
        blocked=chain.mean(lambda n: n >= 1),
    )


@pytest.mark.parametrize(("lam", "mu", "c"), [(0.5, 1.0, 1), (2.4, 1.0, 3), (70.0, 2.0, 40)])
def test_mmc_against_its_markov_chain(lam: float, mu: float, c: int) -> None:
    chain = birth_death(lam, mu, servers=c, places=c + 300)
    check_means(
        MMc(lam, mu, c),
        waiting=chain.mean(lambda n: max(0, n - c)),
        present=chain.mean(lambda n: n),
        blocked=chain.mean(lambda n: n >= c),
    )
    assert MMc(lam, mu, c).rho == pytest.approx(chain.mean(lambda n: min(n, c)) / c)
    assert erlang_c(c, lam / mu) == MMc(lam, mu, c).wait_probability


@pytest.mark.parametrize(("lam", "k"), [(0.5, 1), (0.8, 5), (1.0, 4), (3.0, 12), (50.0, 400)])
def test_mm1k_against_its_markov_chain(lam: float, k: int) -> None:
    model, chain = MM1K(lam, 1.0, k), birth_death(lam, 1.0, servers=1, places=k)
    let_in = chain.mean(lambda n: n < k)
    waits = chain.mean(lambda n: 0 < n < k) / let_in
    check_means(
        model,
        waiting=chain.mean(lambda n: max(0, n - 1)),
        present=chain.mean(lambda n: n),
        blocked=waits if k > 1 else 0.0,
    )
    assert model.rho == lam
    assert model.utilization == pytest.approx(chain.mean(lambda n: n > 0))
    assert model.blocking_probability == pytest.approx(1 - let_in)
    assert model.throughput == pytest.approx(model.utilization * model.mu)
    assert model.state_probabilities == pytest.approx(
        [chain.probabilities[n] for n in range(k + 1)], abs=1e-14
    )


def test_mm1k_with_many_places_is_mm1() -> None:
    finite, infinite = MM1K(0.8, 1.0, 500), MM1(0.8, 1.0)
    assert finite.mean_response == pytest.approx(infinite.mean_response)
    assert finite.response_quantile(0.99) == pytest.approx(infinite.response_quantile(0.99))


@pytest.mark.parametrize(("servers", "load"), [(0, 3.0), (1, 0.0), (1, 0.7), (7, 20.0), (40, 30.0)])
def test_erlang_b_against_the_loss_chain(servers: int, load: float) -> None:
    chain = birth_death(load, 1.0, servers=max(1, servers), places=servers)
    assert erlang_b(servers, load) == pytest.approx(chain.mean(lambda n: n == servers))


@pytest.mark.parametrize("load", [10.0, 4_000.0, 4_950.0, 4_999.99])
def test_five_thousand_servers_do_not_overflow(load: float) -> None:
    c = 5_000
    # Erlang B is a Poisson probability, given at most c; both from the incomplete gamma function.
    log_b = stats.poisson.logpmf(c, load) - math.log(special.gammaincc(c + 1, load))
    b = math.exp(log_b)
    model = MMc(load, 1.0, c)
    # A probability below the smallest float is 0.
    assert erlang_b(c, load) == pytest.approx(b, rel=1e-7, abs=1e-300)
    assert model.wait_probability == pytest.approx(
        b / (1 - load / c * (1 - b)), rel=1e-7, abs=1e-300
    )
    assert model.mean_wait == pytest.approx(model.wait_probability / (c - load))
    for q in (0.0, 0.5, 0.99, 0.999999):
        assert 0 <= model.wait_quantile(q) <= model.response_quantile(q) < math.inf


# Quantiles ----------------------------------------------------------------------------------------

QS = (0.05, 0.5, 0.9, 0.99, 0.9999)


@pytest.mark.parametrize(("lam", "c"), [(0.7, 1), (1.2, 2), (2.0, 3), (2.9, 3), (7.0, 20)])
def test_mmc_quantiles_against_the_time_that_those_found_take(lam: float, c: int) -> None:
    model, chain = MMc(lam, 1.0, c), birth_death(lam, 1.0, servers=c, places=c + 900)
    found = np.array([chain.probabilities[n] for n in range(c, c + 900)])
    ahead = np.arange(1, 901)

    def wait_tail(t: float) -> float:
        return float(found @ stats.gamma.sf(t, ahead, scale=1 / c))

    for q in QS:
        wait, response = model.wait_quantile(q), model.response_quantile(q)
        if wait > 0:
            assert wait_tail(wait) == pytest.approx(1 - q, rel=1e-7)
        else:
            assert wait_tail(0.0) <= 1 - q
        # Response > t: the service takes longer than t, or the wait longer than what it leaves.
        late, _ = integrate.quad(
            lambda s, t=response: math.exp(-s) * wait_tail(t - s), 0, response, epsrel=1e-9
        )
        assert math.exp(-response) + late == pytest.approx(1 - q, rel=1e-6)


@pytest.mark.parametrize("lam", [0.7, 1.0, 4.0])
def test_mm1k_quantiles_against_erlang_times(lam: float) -> None:
    model, k = MM1K(lam, 1.0, 9), 9
    found = np.array([lam**n for n in range(k)])
    found /= found.sum()
    for q in QS:
        t = model.response_quantile(q)
        assert found @ stats.gamma.sf(t, np.arange(1, k + 1)) == pytest.approx(1 - q, rel=1e-9)


def erlang_md1_wait_cdf(rho: float, t: float) -> float:
    """P(wait ≤ t) of M/D/1 by Erlang's alternating sum, which needs far more than 16 digits."""
    with localcontext() as context:
        context.prec = 120
        load, when, total = Decimal(rho), Decimal(t), Decimal(0)
        for k in range(math.floor(t) + 1):
            late = load * (k - when)
            power = late**k if k else Decimal(1)
            total += power / math.factorial(k) * (-late).exp()
        return float((1 - load) * total)


@pytest.mark.parametrize("rho", [0.05, 0.5, 0.9, 0.97])
def test_md1_quantiles_against_exact_decimal_arithmetic(rho: float) -> None:
    model = MD1(lam=2 * rho, mu=2.0)
    for q in QS:
        t = model.wait_quantile(q)
        reached = erlang_md1_wait_cdf(rho, 2 * t)
        assert reached == pytest.approx(q, abs=1e-11) if t > 0 else reached >= q
        assert model.response_quantile(q) == pytest.approx(t + 0.5)


def test_md1_wait_averages_to_its_mean() -> None:
    model = MD1(lam=0.8, mu=1.0)
    mean, _ = integrate.quad(model.wait_quantile, 0.2, 1, epsrel=1e-6)  # it is 0 up to 0.2
    assert mean == pytest.approx(model.mean_wait, rel=1e-5)


@given(
    rho=st.floats(0.01, 0.99), mu=st.floats(1e-3, 1e3), q=st.floats(0, 0.999), c=st.integers(1, 40)
)
def test_quantiles_of_one_and_of_many_servers_agree_with_their_tails(
    rho: float, mu: float, q: float, c: int
) -> None:
    single, many = MM1(rho * mu, mu), MMc(rho * mu * c, mu, c)
    assert MMc(rho * mu, mu, 1).response_quantile(q) == pytest.approx(single.response_quantile(q))
    assert MMc(rho * mu, mu, 1).wait_quantile(q) == pytest.approx(
        single.wait_quantile(q), abs=1e-9 / mu
    )
    assert many.response_tail(many.response_quantile(q)) == pytest.approx(1 - q)


# M/G/1, batches -----------------------------------------------------------------------------------

# Sizes as phases that follow each other (Erlang) or exclude each other (hyperexponential):
# ({first phase: probability}, {phase: (rate, next phase)}, mean, scv).
ERLANG_2 = ({"a": 1.0}, {"a": (2.0, "b"), "b": (2.0, None)}, 1.0, 0.5)
HYPER_2 = ({"s": 0.75, "l": 0.25}, {"s": (3.0, None), "l": (1 / 3, None)}, 1.0, 11 / 3)


def phase_queue(lam: float, sizes: tuple, batches: dict[int, float]) -> Chain:
    """M^[X]/PH/1, states (number present, phase of the service)."""
    first, phases, _, _ = sizes
    most = 500

    def rates(state: tuple[int, str | None]) -> Rates:
        n, phase = state
        batch_rate = lam / sum(size * p for size, p in batches.items())
        for size, p in batches.items():
            if n + size > most:
                continue
            if n == 0:
                yield from (((size, start), batch_rate * p * q) for start, q in first.items())
            else:
                yield (n + size, phase), batch_rate * p
        if n == 0:
            return
        rate, following = phases[phase]
        if following is not None:
            yield (n, following), rate
        elif n == 1:
            yield (0, None), rate
        else:
            yield from (((n - 1, start), rate * q) for start, q in first.items())

    return Chain((0, None), rates)


def test_the_moments_of_the_sizes() -> None:
    # Variances of phases in a row add up; moments of phases that exclude each other are mixed.
    assert ERLANG_2[2:] == (2 * 0.5, 2 * 0.5**2)
    mean, square = 0.75 / 3 + 0.25 * 3, 2 * (0.75 / 3**2 + 0.25 * 3**2)
    assert HYPER_2[2:] == pytest.approx((mean, square / mean**2 - 1))


@pytest.mark.parametrize("sizes", [ERLANG_2, HYPER_2], ids=["erlang", "hyperexponential"])
@pytest.mark.parametrize("lam", [0.3, 0.8])
def test_pollaczek_khinchine_against_a_markov_chain(lam: float, sizes: tuple) -> None:
    chain = phase_queue(lam, sizes, batches={1: 1.0})
    check_means(
        MG1(lam, mean=1.0, scv=sizes[3]),
        waiting=chain.mean(lambda state: max(0, state[0] - 1)),
        present=chain.mean(lambda state: state[0]),
        blocked=chain.mean(lambda state: state[0] > 0),
    )


@pytest.mark.parametrize("sizes", [ERLANG_2, HYPER_2], ids=["erlang", "hyperexponential"])
def test_batch_arrivals_against_a_markov_chain(sizes: tuple) -> None:
    lam, batches = 0.6, {1: 0.5, 2: 0.3, 6: 0.2}
    chain = phase_queue(lam, sizes, batches)
    mean = sum(size * p for size, p in batches.items())
    square = sum(size**2 * p for size, p in batches.items())
    # Who starts at once is the first of a batch that finds nobody.
    at_once = chain.mean(lambda state: state[0] == 0) / mean
    check_means(
        MXG1(lam, 1.0, sizes[3], batch_mean=mean, batch_scv=square / mean**2 - 1),
        waiting=chain.mean(lambda state: max(0, state[0] - 1)),
        present=chain.mean(lambda state: state[0]),
        blocked=1 - at_once,
    )


@given(rho=st.floats(0.01, 0.99), mean=st.floats(0.01, 100), scv=st.floats(0, 50))
def test_special_cases_agree(rho: float, mean: float, scv: float) -> None:
    lam, mu = rho / mean, 1 / mean

    def same(one: QueueModel, other: QueueModel) -> None:
        for name in ("rho", "wait_probability", "mean_service", "mean_wait", "mean_response"):
            assert getattr(one, name) == pytest.approx(getattr(other, name)), name
        assert one.mean_queue_length == pytest.approx(other.mean_queue_length)
        assert one.mean_in_system == pytest.approx(other.mean_in_system)

    same(MG1(lam, mean, 1.0), MM1(lam, mu))
    same(MG1(lam, mean, 0.0), MD1(lam, mu))
    same(MMc(lam, mu, 1), MM1(lam, mu))
    same(GG1(lam, mean, 1.0, scv), MG1(lam, mean, scv))
    same(MXG1(lam, mean, scv, batch_mean=1.0), MG1(lam, mean, scv))
    same(MG1Priority([lam], [mean], [scv]), MG1(lam, mean, scv))
    same(MG1PreemptivePriority([lam], [mean], [scv]), MG1(lam, mean, scv))
    same(MG1PS(lam, mean, scv), MM1(lam, mu))


@pytest.mark.parametrize(
    "build",
    [
        lambda s: MM1(0.8 / s, 1 / s),
        lambda s: MMc(2.4 / s, 1 / s, 3),
        lambda s: MM1K(1.5 / s, 1 / s, 4),
        lambda s: MD1(0.8 / s, 1 / s),
        lambda s: MG1(0.8 / s, s, 3.0),
        lambda s: MXG1(0.8 / s, s, 3.0, 2.0, 0.5),
        lambda s: MG1PS(0.8 / s, s, 3.0),
        lambda s: MM1SJF(0.8 / s, 1 / s),
        lambda s: MM1SRPT(0.8 / s, 1 / s),
        lambda s: MG1Priority([0.3 / s, 0.2 / s], [s, 2 * s], [1.0, 4.0]),
        lambda s: MG1PreemptivePriority([0.3 / s, 0.2 / s], [s, 2 * s], [1.0, 4.0]),
        lambda s: GG1(0.8 / s, s, 4.0, 0.5),
    ],
)
def test_milliseconds_do_as_well_as_seconds(build: Callable[[float], QueueModel]) -> None:
    seconds, milliseconds = build(1.0), build(1000.0)
    for name in ("rho", "wait_probability", "mean_queue_length", "mean_in_system"):
        assert getattr(milliseconds, name) == pytest.approx(getattr(seconds, name)), name
    for name in ("mean_service", "mean_wait", "mean_response", "kingman_bound"):
        if hasattr(seconds, name):
            assert getattr(milliseconds, name) == pytest.approx(1000 * getattr(seconds, name)), name
    if hasattr(seconds, "response_quantile"):
        expected = 1000 * seconds.response_quantile(0.9)
        assert milliseconds.response_quantile(0.9) == pytest.approx(expected)
    if hasattr(seconds, "mean_response_of"):
        expected = 1000 * seconds.mean_response_of(2.0)
        assert milliseconds.mean_response_of(2000.0) == pytest.approx(expected)


# Priorities ---------------------------------------------------------------------------------------


def two_classes(
    lams: Sequence[float], mus: Sequence[float], preemptive: bool
) -> tuple[Chain, Callable[[tuple[int, int, int]], int]]:
    """Two classes with exponential sizes; states (present of 0, present of 1, class in service)."""
    most = (45, 70)

    def serve(n: tuple[int, int], current: int | None) -> int:
        if current is not None and n[current] and not preemptive:
            return current
        return 0 if n[0] else 1

    def rates(state: tuple[int, int, int]) -> Rates:
        n, current = state[:2], state[2]
        busy = n != (0, 0)
        for k in (0, 1):
            if n[k] < most[k]:
                more = (n[0] + (k == 0), n[1] + (k == 1))
                yield (*more, serve(more, current if busy else None)), lams[k]
        if busy:
            fewer = (n[0] - (current == 0), n[1] - (current == 1))
            yield (*fewer, serve(fewer, None)), mus[current]

    return Chain((0, 0, 1), rates), lambda state: state[2]


@pytest.mark.parametrize("preemptive", [False, True])
def test_priorities_against_a_markov_chain(preemptive: bool) -> None:
    lams, mus = (0.3, 0.2), (1.5, 0.5)
    kind = MG1PreemptivePriority if preemptive else MG1Priority
    model = kind(lams, [1 / mu for mu in mus], [1.0, 1.0])
    chain, serving = two_classes(lams, mus, preemptive)
    present = [chain.mean(lambda state, k=k: state[k]) for k in (0, 1)]
    responses = [n / lam for n, lam in zip(present, lams, strict=True)]
    assert model.mean_responses == pytest.approx(responses, rel=1e-7)
    assert model.mean_waits == pytest.approx(
        [response - 1 / mu for response, mu in zip(responses, mus, strict=True)], rel=1e-7
    )
    assert model.mean_in_system == pytest.approx(sum(present), rel=1e-7)
    assert model.rho == pytest.approx(chain.mean(lambda state: state[:2] != (0, 0)))
    # The important one starts at once if nobody stands in its way.
    busy_for_0 = chain.mean(
        lambda state: state[:2] != (0, 0) and (serving(state) == 0 or not preemptive)
    )
    busy_for_1 = chain.mean(lambda state: state[:2] != (0, 0))
    expected = (lams[0] * busy_for_0 + lams[1] * busy_for_1) / sum(lams)
    assert model.wait_probability == pytest.approx(expected, rel=1e-7)


CLASSES = st.lists(
    st.tuples(st.floats(0.05, 1.0), st.floats(0.05, 5.0), st.floats(0.0, 9.0)),
    min_size=1,
    max_size=5,
)


@given(classes=CLASSES, rho=st.floats(0.05, 0.95))
def test_priorities_move_waiting_but_conserve_it(
    classes: list[tuple[float, float, float]], rho: float
) -> None:
    weights, means, scvs = (np.array(column) for column in zip(*classes, strict=True))
    lams = weights * rho / (weights @ means)
    queue = MG1Priority(lams, means, scvs)
    # Kleinrock's conservation law: the work that waits does not depend on the order.
    lam, mean = lams.sum(), lams @ means / lams.sum()
    second_moment = lams @ (means**2 * (1 + scvs)) / lam
    fcfs = MG1(lam, mean, max(0.0, second_moment / mean**2 - 1))
    assert (lams * means) @ queue.mean_waits == pytest.approx(rho * fcfs.mean_wait)
    assert all(a < b for a, b in pairwise(queue.mean_waits))
    # Preemption hides the classes below: the first sees an M/G/1 of its own.
    preemptive = MG1PreemptivePriority(lams, means, scvs)
    alone = MG1(lams[0], means[0], scvs[0])
    assert preemptive.mean_responses[0] == pytest.approx(alone.mean_response)
    assert preemptive.mean_waits[0] <= queue.mean_waits[0] * (1 + 1e-12)


@given(lams=st.lists(st.floats(0.01, 0.2), min_size=2, max_size=5))
def test_classes_that_differ_in_name_only_share_the_mean_of_mm1(lams: list[float]) -> None:
    ones = [0.9] * len(lams)
    for kind in (MG1Priority, MG1PreemptivePriority):
        queue = kind(lams, ones, [1.0] * len(lams))
        assert queue.mean_response == pytest.approx(MM1(sum(lams), 1 / 0.9).mean_response)


# Orders of service --------------------------------------------------------------------------------


@dataclass(slots=True)
class Job:
    index: int
    size: float
    attained: float = 0.0

    @property
    def left(self) -> float:
        return self.size - self.attained


Order = Callable[[list[Job]], tuple[list[Job], float]]
"""Jobs present, by arrival -> (those that share the server, work per job until that may change)."""


def fcfs(jobs: list[Job]) -> tuple[list[Job], float]:
    return jobs[:1], math.inf


def ps(jobs: list[Job]) -> tuple[list[Job], float]:
    return jobs, math.inf


def lcfs(jobs: list[Job]) -> tuple[list[Job], float]:
    return jobs[-1:], math.inf


def lcfs_without_preemption(jobs: list[Job]) -> tuple[list[Job], float]:
    return [next((job for job in jobs if job.attained > 0), jobs[-1])], math.inf


def las(jobs: list[Job]) -> tuple[list[Job], float]:
    least = min(job.attained for job in jobs)
    served = [job for job in jobs if job.attained <= least + 1e-9]
    others = [job.attained for job in jobs if job.attained > least + 1e-9]
    return served, min(others) - least if others else math.inf


def srpt(jobs: list[Job]) -> tuple[list[Job], float]:
    return [min(jobs, key=lambda job: job.left)], math.inf


def sjf(jobs: list[Job]) -> tuple[list[Job], float]:
    started = next((job for job in jobs if job.attained > 0), None)
    return [started or min(jobs, key=lambda job: job.size)], math.inf


def departures(arrivals: FloatArray, services: FloatArray, order: Order) -> FloatArray:
    """Simulate one server from event to event under any order of service."""
    ends = np.empty(len(arrivals))
    jobs: list[Job] = []
    now = 0.0
    coming = zip(arrivals.tolist(), services.tolist(), strict=True)
    for index, (arrival, size) in enumerate([*coming, (math.inf, 0.0)]):
        while jobs:
            served, unchanged = order(jobs)
            work = min(unchanged, min(job.left for job in served))
            done = min(work, (arrival - now) / len(served))
            for job in served:
                job.attained += done
            if done < work:
                break
            now += done * len(served)
            for job in [job for job in served if job.left <= 1e-12 * job.size]:
                ends[job.index] = now
                jobs.remove(job)
        now = arrival
        jobs.append(Job(index, size))
    return ends


def poisson(rng: np.random.Generator, lam: float, count: int) -> FloatArray:
    return np.cumsum(rng.exponential(1 / lam, count))


def test_the_event_simulation_serves_fcfs_like_lindley() -> None:
    rng = np.random.default_rng(3)
    arrivals, services = poisson(rng, 0.7, 2_000), rng.exponential(1.0, 2_000)
    waits = departures(arrivals, services, fcfs) - arrivals - services
    assert waits == pytest.approx(simulate_queue(arrivals, services), abs=1e-8)


@pytest.mark.parametrize("order", [fcfs, ps, lcfs, lcfs_without_preemption, las])
def test_orders_that_do_not_look_at_sizes_share_the_mean_response(order: Order) -> None:
    lam, mu, count = 0.6, 1.0, 60_000
    rng = np.random.default_rng(11)
    arrivals, services = poisson(rng, lam, count), rng.exponential(1 / mu, count)
    responses = departures(arrivals, services, order) - arrivals
    assert_mean(responses, 1 / (mu - lam))
    assert_mean(responses, MM1(lam, mu).mean_response)


def test_orders_differ_when_sizes_are_not_exponential() -> None:
    # The property above is one of exponential sizes: with constant ones, sharing is worse.
    rng = np.random.default_rng(12)
    arrivals, services = poisson(rng, 0.6, 60_000), np.ones(60_000)
    for order, model in ((fcfs, MD1(0.6, 1.0)), (ps, MG1PS(0.6, 1.0, scv=0.0))):
        assert_mean(departures(arrivals, services, order) - arrivals, model.mean_response)
    assert MG1PS(0.6, 1.0, scv=0.0).mean_response > 1.4 * MD1(0.6, 1.0).mean_response


def test_processor_sharing_against_a_markov_chain() -> None:
    # Hyperexponential sizes: two kinds of job, each finishing at its rate times its share.
    lam, kinds = 0.7, ((0.75, 3.0), (0.25, 1 / 3))

    def rates(state: tuple[int, int]) -> Rates:
        for k, (p, mu) in enumerate(kinds):
            step = (k == 0, k == 1)
            if sum(state) < 110:
                yield (state[0] + step[0], state[1] + step[1]), lam * p
            if state[k]:
                yield (state[0] - step[0], state[1] - step[1]), mu * state[k] / sum(state)

    chain = Chain((0, 0), rates)
    model = MG1PS(lam, mean=1.0, scv=HYPER_2[3])
    assert model.mean_in_system == pytest.approx(chain.mean(sum), rel=1e-8)
    assert model.wait_probability == pytest.approx(chain.mean(lambda state: sum(state) > 0))
    for k, (p, mu) in enumerate(kinds):
        response = chain.mean(lambda state, k=k: state[k]) / (lam * p)
        assert model.mean_response_of(1 / mu) == pytest.approx(response, rel=1e-8)


@pytest.mark.parametrize("rho", [0.1, 0.6, 0.95])
def test_sjf_and_srpt_against_quadrature_of_the_general_formulas(rho: float) -> None:
    mu = 2.0
    lam = rho * mu
    size = stats.expon(scale=1 / mu)

    def load(x: float) -> float:
        return lam * integrate.quad(lambda t: t * size.pdf(t), 0, x, epsabs=1e-13)[0]

    def sjf_response(x: float) -> float:
        return x + lam * size.moment(2) / 2 / (1 - load(x)) ** 2

    def srpt_response(x: float) -> float:
        small = integrate.quad(lambda t: t**2 * size.pdf(t), 0, x, epsabs=1e-13)[0]
        waiting = lam * (small + x**2 * size.sf(x)) / 2 / (1 - load(x)) ** 2
        residence = integrate.quad(lambda t: 1 / (1 - load(t)), 0, x, epsabs=1e-10)[0]
        return waiting + residence

    for x in (0.05, 0.5, 3.0):
        assert MM1SJF(lam, mu).mean_response_of(x) == pytest.approx(sjf_response(x), rel=1e-8)
        assert MM1SRPT(lam, mu).mean_response_of(x) == pytest.approx(srpt_response(x), rel=1e-8)


@pytest.mark.parametrize("model", [MM1SJF, MM1SRPT])
@pytest.mark.parametrize("rho", [0.01, 0.5, 0.9, 0.999])
def test_the_mean_over_sizes_is_that_of_the_responses_by_size(
    model: type[MM1SJF | MM1SRPT], rho: float
) -> None:
    queue = model(rho, 1.0)
    mean, _ = integrate.quad(
        lambda x: math.exp(-x) * queue.mean_response_of(x), 0, 70, limit=300, epsrel=1e-10
    )
    assert queue.mean_response == pytest.approx(mean, rel=1e-8)


@pytest.mark.parametrize(("order", "model"), [(sjf, MM1SJF), (srpt, MM1SRPT)])
def test_sjf_and_srpt_against_simulation(order: Order, model: type[MM1SJF | MM1SRPT]) -> None:
    lam, count = 0.7, 80_000
    rng = np.random.default_rng(21)
    arrivals, services = poisson(rng, lam, count), rng.exponential(1.0, count)
    responses = departures(arrivals, services, order) - arrivals
    assert_mean(responses, model(lam, 1.0).mean_response)


def test_an_arrival_under_srpt_waits_half_as_often_as_the_server_is_busy() -> None:
    lam, count = 0.7, 40_000
    rng = np.random.default_rng(22)
    arrivals, services = poisson(rng, lam, count), rng.exponential(1.0, count)
    waits = np.zeros(count)

    def watched(jobs: list[Job]) -> tuple[list[Job], float]:
        newest = jobs[-1]
        if newest.attained == 0 and any(job.left <= newest.left for job in jobs[:-1]):
            waits[newest.index] = 1.0
        return srpt(jobs)

    departures(arrivals, services, watched)
    assert_mean(waits, MM1SRPT(lam, 1.0).wait_probability)


@given(rho=st.floats(0.01, 0.999))
def test_knowing_sizes_helps_and_preemption_helps_more(rho: float) -> None:
    fcfs_wait = MM1(rho, 1.0).mean_wait
    assert MM1SRPT(rho, 1.0).mean_wait < MM1SJF(rho, 1.0).mean_wait < fcfs_wait
    # Starvation: a very large job waits far longer than first come, first served would let it.
    huge = MM1SJF(rho, 1.0).mean_response_of(200.0) - 200.0
    assert huge == pytest.approx(rho / (1 - rho) ** 2)
    assert huge > fcfs_wait


# G/G/1 --------------------------------------------------------------------------------------------

GAPS: dict[str, tuple[float, Callable[[float, float], float]]] = {
    # name: (SCV of the gaps, Laplace transform of a gap at u for the arrival rate lam)
    "regular": (0.0, lambda u, lam: math.exp(-u / lam)),
    "erlang-2": (0.5, lambda u, lam: (2 * lam / (2 * lam + u)) ** 2),
    "poisson": (1.0, lambda u, lam: lam / (lam + u)),
    "bursty": (
        4.0,
        lambda u, lam: sum(
            p * 2 * p * lam / (2 * p * lam + u)
            for p in (0.5 + math.sqrt(0.15), 0.5 - math.sqrt(0.15))
        ),
    ),
}


def gi_m_1(name: str, rho: float) -> tuple[float, float]:
    """Exact probability to wait and mean wait of GI/M/1 with services of mean 1."""
    transform = GAPS[name][1]
    sigma = optimize.brentq(lambda s: transform(1 - s, rho) - s, 1e-9, 1 - 1e-6 * (1 - rho))
    return sigma, sigma / (1 - sigma)


@pytest.mark.parametrize("name", GAPS)
@pytest.mark.parametrize("rho", [0.3, 0.7, 0.95])
def test_gg1_against_exact_gi_m_1(name: str, rho: float) -> None:
    model = GG1(rho, mean=1.0, arrival_scv=GAPS[name][0], service_scv=1.0)
    sigma, wait = gi_m_1(name, rho)
    assert wait <= model.kingman_bound
    assert model.wait_probability == pytest.approx(sigma, abs=0.03)
    if name == "poisson":
        assert (model.wait_probability, model.mean_wait) == pytest.approx((sigma, wait))
    if rho == 0.95:
        assert model.mean_wait == pytest.approx(wait, rel=0.05)


@pytest.mark.parametrize("name", GAPS)
def test_vut_and_kingmans_bound_are_exact_in_heavy_traffic(name: str) -> None:
    errors = []
    for rho in (0.9, 0.99, 0.999):
        model = GG1(rho, mean=1.0, arrival_scv=GAPS[name][0], service_scv=1.0)
        wait = gi_m_1(name, rho)[1]
        errors.append((abs(model.mean_wait / wait - 1), model.kingman_bound / wait - 1))
    assert errors[-1][0] < 1e-3
    assert 0 < errors[-1][1] < 5e-3
    assert sorted(errors, reverse=True) == errors or name == "poisson"


def test_vut_is_on_either_side_of_the_truth_and_so_is_no_bound() -> None:
    rho = 0.5
    regular = GG1(rho, 1.0, arrival_scv=0.0, service_scv=1.0)
    assert regular.mean_wait > gi_m_1("regular", rho)[1]
    # Geometric batches of mean 3 are independent gaps too: 0, or exponential with mean 3 / lam.
    batches = MXG1(rho, 1.0, scv=1.0, batch_mean=3.0, batch_scv=6 / 9)
    in_gaps = GG1(rho, 1.0, arrival_scv=2 * 3.0 - 1, service_scv=1.0)
    assert in_gaps.mean_wait < batches.mean_wait < in_gaps.kingman_bound


# Simulated queues ---------------------------------------------------------------------------------


def plain_lindley(arrivals: Sequence[float], services: Sequence[float]) -> list[float]:
    waits = [0.0]
    for n in range(1, len(arrivals)):
        gap = arrivals[n] - arrivals[n - 1]
        waits.append(max(0.0, waits[-1] + services[n - 1] - gap))
    return waits


EIGHTHS = st.integers(0, 80).map(lambda n: n / 8)


@given(customers=st.lists(st.tuples(EIGHTHS, EIGHTHS), min_size=1, max_size=60))
def test_one_server_is_lindleys_recursion(customers: list[tuple[float, float]]) -> None:
    gaps, services = zip(*customers, strict=True)
    arrivals = np.cumsum(gaps)
    # Eighths are exact in binary, so all ways to add them up agree to the last bit.
    assert simulate_queue(arrivals, services).tolist() == plain_lindley(arrivals, services)


@given(customers=st.lists(st.tuples(EIGHTHS, EIGHTHS), min_size=1, max_size=60))
def test_several_servers_serve_in_order_whoever_is_free(
    customers: list[tuple[float, float]],
) -> None:
    gaps, services = (np.array(column) for column in zip(*customers, strict=True))
    arrivals = np.cumsum(gaps)
    waits = {c: simulate_queue(arrivals, services, servers=c) for c in (1, 2, 3, 100)}
    one = waits_at_many_servers(arrivals, services, servers=1)
    assert one.tolist() == waits[1].tolist()
    assert (waits[1] >= waits[2]).all()
    assert (waits[2] >= waits[3]).all()
    assert waits[100].max() == 0
    for c in (2, 3):
        starts = arrivals + waits[c]
        assert (np.diff(starts) >= 0).all(), "first come, first served"
        ends = starts + services
        for n, start in enumerate(starts):
            busy = ((starts[:n] <= start) & (ends[:n] > start)).sum()
            assert busy < c, "a server must be free at the start"
            if waits[c][n] > 0:
                just_before = ((starts[:n] < start) & (ends[:n] >= start)).sum()
                assert just_before >= c, "nobody waits beside a free server"


def test_the_vectorised_recursion_is_right_across_chunks_and_late_in_the_day() -> None:
    rng = np.random.default_rng(5)
    count = 3 * CHUNK + 17
    # A clock that shows seconds since 1970 leaves 2e-7 s of resolution; the waits keep to it.
    arrivals = 1.7e9 + poisson(rng, 0.98, count)
    services = rng.exponential(1.0, count)
    expected = plain_lindley(arrivals.tolist(), services.tolist())
    waits = simulate_queue(arrivals, services)
    assert waits == pytest.approx(expected, abs=1e-9)
    assert waits.min() == 0


def test_rounding_errors_do_not_grow_with_the_length_of_the_simulation() -> None:
    rng = np.random.default_rng(6)
    count, gap = 1_000_000, 2_000.0
    arrivals = np.cumsum(rng.integers(1, 2 * gap, count)).astype(float)  # exact
    services = rng.exponential(gap / 2, count)
    # The recursion itself adds small numbers only. It is slow, but it is accurate.
    expected = np.array(plain_lindley(arrivals.tolist(), services.tolist()))
    # A wait gathers a rounding error from each customer since the server was last idle: at most
    # half a unit in the last place of a sum over a chunk.
    idle = np.flatnonzero(expected == 0)
    tolerance = np.diff(idle).max() * np.spacing(CHUNK * gap) / 2
    assert np.abs(simulate_queue(arrivals, services) - expected).max() < tolerance
    # The same in one piece is off by more.
    backlog = np.concatenate([[0], np.cumsum(services[:-1] - np.diff(arrivals))])
    in_one_piece = backlog - np.minimum.accumulate(backlog)
    assert np.abs(in_one_piece - expected).max() > tolerance


def test_an_empty_simulation_is_one_without_waits() -> None:
    for servers in (1, 3):
        assert simulate_queue([], [], servers).tolist() == []
        assert simulate_queue([5.0], [1.0], servers).tolist() == [0.0]


def test_a_load_generator_that_keeps_to_its_plan_reaches_the_rate() -> None:
    work = 0.000449  # seconds that vLLM's benchmark client spent on each send (issue #21104)
    gaps = np.random.default_rng(0).exponential(1 / 200, 20_000)
    due = np.cumsum(gaps)
    sent = np.array(send_times(gaps.tolist(), work))
    assert (sent >= due).all()
    assert (np.diff(sent) >= work - 1e-12).all()
    # The queue of sends is a queue like any other.
    assert sent == pytest.approx(due + simulate_queue(due, np.full(len(due), work)))
    assert len(sent) / sent[-1] == pytest.approx(len(due) / due[-1], rel=1e-3)
    asleep_for_every_gap = np.cumsum(gaps + work)
    assert len(sent) / asleep_for_every_gap[-1] == pytest.approx(183.5, rel=0.02)


def test_a_load_generator_is_never_faster_than_it_can_send() -> None:
    assert send_times([0.0] * 4, 0.25) == [0.0, 0.25, 0.5, 0.75]
    assert send_times([0.5, 0.5], 0.0) == [0.5, 1.0]
    assert send_times([], 1.0) == []


@pytest.mark.parametrize(("gaps", "work"), [([1.0, -1.0], 0.1), ([1.0], -0.1), ([math.nan], 0.1)])
def test_a_load_generator_goes_forward_in_time(gaps: list[float], work: float) -> None:
    with pytest.raises(ValueError, match=r"must be finite and at least 0"):
        send_times(gaps, work)


SIZES: dict[str, tuple[float, Callable[[np.random.Generator, int], FloatArray]]] = {
    "constant": (0.0, lambda rng, n: np.ones(n)),
    "uniform": (1 / 3, lambda rng, n: rng.uniform(0, 2, n)),
    "exponential": (1.0, lambda rng, n: rng.exponential(1, n)),
    "lognormal": (
        3.0,
        lambda rng, n: rng.lognormal(-math.log(4.0) / 2, math.sqrt(math.log(4.0)), n),
    ),
}


@pytest.mark.parametrize("name", SIZES)
def test_pollaczek_khinchine_against_a_long_simulation(name: str) -> None:
    scv, draw = SIZES[name]
    rng = np.random.default_rng(31)
    lam, count = 0.7, 2_000_000
    waits = simulate_queue(poisson(rng, lam, count), draw(rng, count))
    model = MG1(lam, 1.0, scv)
    assert_mean(waits, model.mean_wait, resolution=0.01)
    assert_mean(waits > 0, model.wait_probability, resolution=0.01)


def test_quantiles_against_a_long_simulation() -> None:
    rng = np.random.default_rng(32)
    count = 2_000_000
    arrivals = poisson(rng, 0.7, count)
    constant, exponential = np.ones(count), rng.exponential(1.0, count)
    for model, services in ((MD1(0.7, 1.0), constant), (MM1(0.7, 1.0), exponential)):
        waits = simulate_queue(arrivals, services)
        for q in (0.5, 0.9, 0.99):
            assert_mean(waits > model.wait_quantile(q), 1 - q, resolution=0.06)
            assert_mean(waits + services > model.response_quantile(q), 1 - q, resolution=0.06)


def test_mmc_against_a_long_simulation() -> None:
    rng = np.random.default_rng(33)
    model, count = MMc(lam=4.0, mu=1.0, c=5), 400_000
    services = rng.exponential(1.0, count)
    waits = simulate_queue(poisson(rng, model.lam, count), services, servers=model.c)
    assert_mean(waits, model.mean_wait)
    assert_mean(waits > 0, model.wait_probability)
    for q in (0.5, 0.9, 0.99):
        assert_mean(waits + services > model.response_quantile(q), 1 - q, resolution=0.1)


def test_batches_against_a_long_simulation() -> None:
    rng = np.random.default_rng(34)
    # Geometric batches with mean 3: variance 6.
    sizes = rng.geometric(1 / 3, 300_000)
    arrivals = np.repeat(poisson(rng, 0.2, len(sizes)), sizes)
    waits = simulate_queue(arrivals, rng.uniform(0, 2, len(arrivals)))
    model = MXG1(lam=0.6, mean=1.0, scv=1 / 3, batch_mean=3.0, batch_scv=6 / 9)
    assert_mean(waits, model.mean_wait, resolution=0.01)
    assert_mean(waits > 0, model.wait_probability, resolution=0.01)


def test_bursty_arrivals_wait_longer_and_stay_below_kingmans_bound() -> None:
    rng = np.random.default_rng(35)
    count, scv = 1_000_000, 4.0
    gaps = rng.gamma(1 / scv, scv / 0.8, count)  # mean 1 / 0.8, SCV 4
    waits = simulate_queue(np.cumsum(gaps), rng.exponential(1.0, count))
    model = GG1(0.8, 1.0, scv, 1.0)
    mean, error = batch_means(waits)
    assert MM1(0.8, 1.0).mean_wait < mean - 4.5 * error
    assert mean + 4.5 * error < model.kingman_bound
    assert mean == pytest.approx(model.mean_wait, rel=0.1)


def test_ten_million_customers_take_less_than_three_seconds_with_their_random_numbers() -> None:
    waits = np.empty(0)

    def served() -> None:
        nonlocal waits
        rng = np.random.default_rng(41)
        count = 10_000_000
        arrivals = np.cumsum(rng.exponential(1 / 0.8, count))
        services = rng.exponential(1.0, count)
        waits = simulate_queue(arrivals, services)

    assert quiet_seconds(lambda: cpu_seconds(served), rounds=2) < 3.0
    assert_mean(waits, MM1(0.8, 1.0).mean_wait, resolution=0.01)


# ciw ----------------------------------------------------------------------------------------------


def run_ciw(count: int, seed: int, **network: object) -> list:
    """Return ciw's records of the first customers, in order of arrival."""
    ciw.seed(seed)
    simulation = ciw.Simulation(ciw.create_network(**network))
    simulation.simulate_until_max_customers(count, method="Arrive")
    records = simulation.get_all_records()
    unfinished = set(range(1, count + 1)) - {record.id_number for record in records}
    first = min(unfinished, default=count + 1)
    return sorted(
        (record for record in records if record.id_number < first), key=lambda r: r.id_number
    )


def exponential_network(lam: float, mu: float, c: int, **more: object) -> dict[str, object]:
    return {
        "arrival_distributions": [ciw.dists.Exponential(lam)],
        "service_distributions": [ciw.dists.Exponential(mu)],
        "number_of_servers": [c],
        **more,
    }


@pytest.mark.parametrize("servers", [1, 3])
def test_ciw_gives_each_customer_the_same_wait(servers: int) -> None:
    records = run_ciw(4_000, 51, **exponential_network(0.9 * servers, 1.0, servers))
    assert len(records) > 3_900
    arrivals = np.array([record.arrival_date for record in records])
    services = np.array([record.service_time for record in records])
    waits = np.array([record.waiting_time for record in records])
    assert simulate_queue(arrivals, services, servers) == pytest.approx(waits, abs=1e-9)


def test_ciw_agrees_with_mmc() -> None:
    model = MMc(lam=1.8, mu=1.0, c=3)
    records = run_ciw(40_000, 52, **exponential_network(1.8, 1.0, 3))
    waits = np.array([record.waiting_time for record in records])
    assert_mean(waits, model.mean_wait, resolution=0.05)
    assert_mean(waits > 0, model.wait_probability)


def test_ciw_agrees_with_mm1k() -> None:
    model = MM1K(lam=1.5, mu=1.0, k=4)
    records = run_ciw(40_000, 53, **exponential_network(1.5, 1.0, 1, queue_capacities=[3]))
    lost = np.array([record.record_type == "rejection" for record in records])
    responses = np.array([r.exit_date - r.arrival_date for r in records])[~lost]
    assert_mean(lost, model.blocking_probability)
    assert_mean(responses, model.mean_response)
    assert_mean(responses > model.response_quantile(0.9), 0.1, resolution=0.05)


@pytest.mark.parametrize("preemptive", [False, True])
def test_ciw_agrees_with_priorities(preemptive: bool) -> None:
    lams, means, scvs = (0.3, 0.3), (1.0, 1.2), (0.0, 1.0)
    ranks = {"first": 0, "second": 1}
    records = run_ciw(
        40_000,
        54,
        arrival_distributions={
            name: [ciw.dists.Exponential(lams[rank])] for name, rank in ranks.items()
        },
        service_distributions={
            "first": [ciw.dists.Deterministic(means[0])],
            "second": [ciw.dists.Exponential(1 / means[1])],
        },
        number_of_servers=[1],
        priority_classes=(ranks, ["resume"]) if preemptive else ranks,
    )
    model = (MG1PreemptivePriority if preemptive else MG1Priority)(lams, means, scvs)
    finished = [record for record in records if record.record_type == "service"]
    for name, rank in ranks.items():
        responses = [r.exit_date - r.arrival_date for r in finished if r.customer_class == name]
        assert_mean(np.array(responses), model.mean_responses[rank], resolution=0.05)


def test_ciw_agrees_with_processor_sharing() -> None:
    ciw.seed(55)
    network = ciw.create_network(
        arrival_distributions=[ciw.dists.Exponential(0.6)],
        service_distributions=[ciw.dists.Uniform(0.0, 2.0)],
        number_of_servers=[float("inf")],
        ps_thresholds=[1],
    )
    simulation = ciw.Simulation(network, node_class=ciw.PSNode)
    simulation.simulate_until_max_customers(40_000)
    records = sorted(simulation.get_all_records(), key=lambda record: record.id_number)
    responses = np.array([record.exit_date - record.arrival_date for record in records])
    assert_mean(responses, MG1PS(0.6, 1.0, scv=1 / 3).mean_response)


# Averages over requests and over time -------------------------------------------------------------

LOGS = st.lists(st.tuples(EIGHTHS, EIGHTHS), min_size=1, max_size=40)


@given(log=LOGS)
def test_littles_law_holds_exactly_whatever_the_log(log: list[tuple[float, float]]) -> None:
    arrivals, stays = (np.array(column) for column in zip(*log, strict=True))
    if np.ptp(np.concatenate([arrivals, arrivals + stays])) == 0:
        with pytest.raises(ValueError, match="no time goes by"):
            littles_law(arrivals, arrivals + stays)
        return
    law = littles_law(arrivals, arrivals + stays)
    assert law.mean_in_system == pytest.approx(law.arrival_rate * law.mean_response, abs=1e-12)
    assert law.mean_response == pytest.approx(stays.mean())


@given(log=LOGS, when=st.integers(0, 200).map(lambda n: n / 8 + 1 / 16))
def test_number_in_system_is_a_head_count(log: list[tuple[float, float]], when: float) -> None:
    arrivals, stays = (np.array(column) for column in zip(*log, strict=True))
    left = arrivals + stays
    times, counts = number_in_system(arrivals, left)
    assert (np.diff(times) > 0).all()
    assert counts[-1] == 0
    position = np.searchsorted(times, when) - 1
    present = ((arrivals <= when) & (when < left)).sum()
    assert (counts[position] if position >= 0 else 0) == present


@given(log=LOGS)
def test_seen_on_arrival_is_a_head_count(log: list[tuple[float, float]]) -> None:
    arrivals, stays = (np.array(column) for column in zip(*log, strict=True))
    left = arrivals + stays
    expected = [((arrivals < t) & (left >= t)).sum() for t in arrivals]
    assert seen_on_arrival(arrivals, left).tolist() == expected


def test_poisson_arrivals_see_time_averages_and_others_do_not() -> None:
    rng = np.random.default_rng(61)
    count, rho = 300_000, 0.7
    services = rng.exponential(1.0, count)
    gaps = {
        "poisson": rng.exponential(1 / rho, count),
        "regular": np.full(count, 1 / rho),
        "bursty": rng.gamma(0.25, 4 / rho, count),
    }
    seen, over_time = {}, {}
    for name, gap in gaps.items():
        arrivals = np.cumsum(gap)
        left = arrivals + simulate_queue(arrivals, services) + services
        seen[name] = seen_on_arrival(arrivals, left)
        over_time[name] = littles_law(arrivals, left).mean_in_system
    assert_mean(seen["poisson"], over_time["poisson"])
    assert_mean(seen["poisson"], MM1(rho, 1.0).mean_in_system)
    for name, side in (("regular", -1), ("bursty", 1)):
        mean, error = batch_means(seen[name].astype(float))
        assert side * (mean - over_time[name]) > 4.5 * error


def test_a_random_moment_falls_into_long_gaps() -> None:
    rng = np.random.default_rng(62)
    gaps = rng.gamma(0.5, 2.0, 200_000)  # mean 1, SCV 2: a moment falls into gaps of mean 3
    ends = np.cumsum(gaps)
    moments = rng.uniform(0, ends[-1], 50_000)
    seen = gaps[np.searchsorted(ends, moments)]
    assert_mean(seen, inspected_gap(gaps))
    # The standard error of Σx²/Σx, by the delta method, with r = 3.
    error = np.std(gaps**2 - 3 * gaps) / math.sqrt(len(gaps))
    assert abs(inspected_gap(gaps) - 3) < 4.5 * error
    assert inspected_gap(np.full(7, 2.0)) == 2.0
    # What is left of the gap is half of it: the residual service of Pollaczek and Khinchine.
    assert MG1(0.5, 1.0, 2.0).mean_residual_service == 3 / 2


def test_time_average_weighs_by_duration() -> None:
    # Nine requests at 10 tokens/s for 1 s and one at 1 token/s for 91 s: 181 tokens in 100 s.
    speeds, seconds = [10.0] * 9 + [1.0], [1.0] * 9 + [91.0]
    assert np.mean(speeds) == 9.1
    assert time_average(speeds, seconds) == 1.81


# Capacity planning --------------------------------------------------------------------------------


@given(enough=st.integers(1, 500), at_least=st.integers(1, 500))
def test_fewest_servers_finds_the_first_that_meets_the_target(enough: int, at_least: int) -> None:
    plan = fewest_servers(lambda n: float(n < enough), target=0.0, at_least=at_least)
    assert plan.servers == max(enough, at_least)
    assert plan.achieved == 0.0
    assert set(plan.tried.values()) <= {0.0, 1.0}
    assert len(plan.tried) <= 2 * math.log2(max(2, plan.servers - at_least + 2)) + 2
    assert max(plan.tried) <= max(at_least, 2 * plan.servers)


@pytest.mark.parametrize(
    ("lam", "q", "target"), [(3.0, 0.5, 0.0), (90.0, 0.99, 0.1), (0.2, 0.9, 3)]
)
def test_servers_for_wait_are_enough_and_one_fewer_is_not(
    lam: float, q: float, target: float
) -> None:
    c = servers_for_wait(lam, 1.0, q, target).servers
    assert MMc(lam, 1.0, c).wait_quantile(q) <= target
    assert c - 1 <= lam or MMc(lam, 1.0, c - 1).wait_quantile(q) > target


@pytest.mark.parametrize(("lam", "target"), [(3.0, 4.7), (90.0, 5.5), (2_000.0, 4.7)])
def test_servers_for_response_are_enough_and_one_fewer_is_not(lam: float, target: float) -> None:
    plan = servers_for_response(lam, 1.0, 0.99, target)
    assert MMc(lam, 1.0, plan.servers).response_quantile(0.99) == plan.achieved <= target
    assert plan.servers - 1 <= lam or (
        MMc(lam, 1.0, plan.servers - 1).response_quantile(0.99) > target
    )


def test_the_simulation_referees_the_closed_form() -> None:
    rng = np.random.default_rng(71)
    lam, count = 6.0, 100_000
    arrivals, services = poisson(rng, lam, count), rng.exponential(1.0, count)
    closed = servers_for_wait(lam, 1.0, q=0.95, target=0.5)

    def waits(servers: int) -> FloatArray:
        return simulate_queue(arrivals, services, servers)

    plan = servers_by_simulation(waits, q=0.95, target=0.5, at_least=closed.servers - 2)
    assert plan.servers == closed.servers
    late = waits(plan.servers) > 0.5
    assert late.mean() <= 0.05
    # The two agree by more than luck: one server fewer is late by many standard errors.
    mean, error = batch_means((waits(plan.servers - 1) > 0.5).astype(float))
    assert mean - 4.5 * error > 0.05


def test_a_simulated_quantile_is_a_time_that_was_measured() -> None:
    times = [4.0, 2.0, 1.0, 3.0]
    for q, expected in ((0.75, 3.0), (0.76, 4.0), (0.0, 1.0)):
        assert servers_by_simulation(lambda _: times, q, target=9.0).achieved == expected


def test_a_shared_queue_needs_fewer_servers_than_split_ones() -> None:
    shared = servers_for_response(10.0, 1.0, 0.99, target=6.0).servers
    split = fewest_servers(
        lambda n: MM1(10.0 / n, 1.0).response_quantile(0.99), target=6.0, at_least=11
    ).servers
    assert shared < split


# Errors -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "build",
    [
        lambda: MM1(1.0, 1.0),
        lambda: MMc(5.0, 1.0, 5),
        lambda: MD1(3.0, 2.0),
        lambda: MG1(0.5, 2.0, 1.0),
        lambda: MXG1(0.5, 2.0, 1.0, 2.0),
        lambda: MG1PS(1.0, 1.0),
        lambda: MM1SJF(1.0, 1.0),
        lambda: MM1SRPT(49.0, 49.0),
        lambda: MG1Priority([0.5, 0.5], [1.0, 1.0], [1.0, 1.0]),
        lambda: MG1PreemptivePriority([0.5, 0.6], [1.0, 1.0], [1.0, 1.0]),
        lambda: GG1(1.0, 1.0, 1.0, 1.0),
        lambda: erlang_c(3, 3.0),
    ],
)
def test_an_unstable_queue_is_refused_with_its_rho(build: Callable[[], object]) -> None:
    with pytest.raises(ValueError, match=r"ρ \(rho\) is 1[.0-9]*; .* below 1: .*(lower|raise)"):
        build()


@pytest.mark.parametrize("bad", [0.0, -1.0, math.inf, math.nan])
@pytest.mark.parametrize(
    "build",
    [
        lambda x: MM1(x, 1.0),
        lambda x: MM1(1.0, x),
        lambda x: MMc(x, 1.0, 2),
        lambda x: MM1K(x, 1.0, 2),
        lambda x: MD1(x, 1.0),
        lambda x: MG1(0.5, x, 1.0),
        lambda x: MXG1(0.5, x, 1.0, 2.0),
        lambda x: MXG1(0.5, 1.0, 1.0, x),
        lambda x: MG1PS(x, 1.0),
        lambda x: MM1SJF(x, 1.0),
        lambda x: MM1SRPT(0.5, x),
        lambda x: GG1(x, 1.0, 1.0, 1.0),
        lambda x: MG1Priority([0.1, x], [1.0, 1.0], [1.0, 1.0]),
        lambda x: MG1PreemptivePriority([0.1, 0.1], [1.0, x], [1.0, 1.0]),
        lambda x: servers_for_wait(x, 1.0, 0.9, 1.0),
        lambda x: servers_for_response(1.0, x, 0.9, 1.0),
    ],
)
def test_a_rate_or_mean_must_be_positive_and_finite(
    build: Callable[[float], object], bad: float
) -> None:
    with pytest.raises(ValueError, match=r"whatever ρ \(rho\) is"):
        build(bad)


@pytest.mark.parametrize("bad", [-0.1, math.inf, math.nan])
@pytest.mark.parametrize(
    "build",
    [
        lambda x: MG1(0.5, 1.0, x),
        lambda x: MG1PS(0.5, 1.0, x),
        lambda x: MXG1(0.5, 1.0, x, 2.0),
        lambda x: MXG1(0.5, 1.0, 1.0, 2.0, x),
        lambda x: GG1(0.5, 1.0, x, 1.0),
        lambda x: GG1(0.5, 1.0, 1.0, x),
        lambda x: MG1Priority([0.5], [1.0], [x]),
        lambda x: erlang_b(1, x),
        lambda x: erlang_c(1, x),
        lambda x: servers_for_wait(1.0, 1.0, 0.9, x),
        lambda x: MM1SRPT(0.5, 1.0).mean_response_of(x),
        lambda x: MM1SJF(0.5, 1.0).mean_response_of(x),
        lambda x: MG1PS(0.5, 1.0).mean_response_of(x),
    ],
)
def test_a_variation_must_not_be_negative(build: Callable[[float], object], bad: float) -> None:
    with pytest.raises(ValueError, match=r"at least 0, whatever ρ \(rho\) is"):
        build(bad)


@pytest.mark.parametrize("bad", [0, -3, 2.5, 2.0, None])
@pytest.mark.parametrize(
    "build",
    [
        lambda n: MMc(0.5, 1.0, n),
        lambda n: MM1K(0.5, 1.0, n),
        lambda n: erlang_c(n, 0.5),
        lambda n: simulate_queue([0.0], [1.0], servers=n),
        lambda n: fewest_servers(lambda _: 0.0, 1.0, at_least=n),
    ],
)
def test_servers_and_places_are_counted_from_one(
    build: Callable[[object], object], bad: object
) -> None:
    said = r"must be a whole number, of an integer type, from 1, whatever ρ \(rho\) is"
    with pytest.raises(ValueError, match=said):
        build(bad)


@pytest.mark.parametrize("bad", [-0.01, 1.0, 99.0, math.nan])
@pytest.mark.parametrize(
    "ask",
    [
        MM1(0.5, 1.0).response_quantile,
        MM1(0.5, 1.0).wait_quantile,
        MMc(0.5, 1.0, 2).response_quantile,
        MMc(0.5, 1.0, 2).wait_quantile,
        MM1K(0.5, 1.0, 2).response_quantile,
        MD1(0.5, 1.0).response_quantile,
        lambda q: servers_for_wait(1.0, 1.0, q, 1.0),
        lambda q: servers_for_response(1.0, 1.0, q, 99.0),
        lambda q: servers_by_simulation(lambda _: [1.0], q, 1.0),
    ],
)
def test_a_quantile_is_a_share(ask: Callable[[float], object], bad: float) -> None:
    with pytest.raises(ValueError, match="from 0 to below 1"):
        ask(bad)


@pytest.mark.parametrize("q", [0.0, 1e-12])
def test_the_smallest_quantiles_are_almost_nothing(q: float) -> None:
    for model in (MM1(0.5, 1.0), MMc(0.5, 1.0, 2), MM1K(0.5, 1.0, 2)):
        assert 0 <= model.response_quantile(q) < 1e-11
    assert MD1(0.5, 1.0).response_quantile(q) == 1.0


def test_priority_classes_come_complete_and_stay_as_they_were_checked() -> None:
    lams = [0.1, 0.1]
    queue = MG1Priority(lams, np.ones(2), [1.0, 1.0])
    before = queue.mean_waits
    lams[0] = 5.0
    assert queue.mean_waits == before
    with pytest.raises(ValueError, match="2 lams, 1 means and 2 scvs"):
        MG1Priority([0.1, 0.1], [1.0], [1.0, 1.0])
    with pytest.raises(ValueError, match="0 lams"):
        MG1PreemptivePriority([], [], [])


@pytest.mark.parametrize(
    ("arrivals", "services", "message"),
    [
        ([0.0, 1.0], [1.0], "one number of each"),
        ([[0.0]], [[1.0]], "one number of each"),
        ([1.0, 0.0], [1.0, 1.0], "not in order"),
        ([0.0, 1.0], [1.0, -1.0], "at least 0 s"),
        ([0.0, math.nan], [1.0, 1.0], "not finite"),
        ([0.0, 1.0], [1.0, math.inf], "not finite"),
    ],
)
@pytest.mark.parametrize("servers", [1, 2])
def test_simulate_queue_refuses_what_is_no_queue(
    arrivals: list[float], services: list[float], message: str, servers: int
) -> None:
    with pytest.raises(ValueError, match=message):
        simulate_queue(arrivals, services, servers)


@pytest.mark.parametrize("measure", [littles_law, number_in_system, seen_on_arrival])
def test_event_logs_are_checked(measure: Callable[..., object]) -> None:
    with pytest.raises(ValueError, match=r"request 1 leaves at 1.0 s but arrives at 2.0 s"):
        measure([0.0, 2.0], [5.0, 1.0])
    with pytest.raises(ValueError, match="one number of each"):
        measure([0.0, 2.0], [5.0])
    with pytest.raises(ValueError, match="not finite"):
        measure([0.0], [math.inf])


def test_averages_need_time() -> None:
    with pytest.raises(ValueError, match="add to 0"):
        time_average([1.0], [0.0])
    with pytest.raises(ValueError, match="at least 0"):
        time_average([1.0, 1.0], [2.0, -1.0])
    with pytest.raises(ValueError, match="add to 0"):
        inspected_gap([])
    with pytest.raises(ValueError, match="no time goes by"):
        littles_law([], [])


def test_a_target_that_cannot_be_met_is_refused() -> None:
    with pytest.raises(ValueError, match=r"the service alone is 4.60517 s; relax"):
        servers_for_response(1.0, 1.0, 0.99, target=4.6)
    with pytest.raises(ValueError, match=r"8 servers reach 3, which misses the target of 2"):
        fewest_servers(lambda _: 3.0, target=2.0, at_most=8)
    with pytest.raises(ValueError, match="at_most is 3"):
        fewest_servers(lambda _: 0.0, target=2.0, at_least=4, at_most=3)
    with pytest.raises(ValueError, match="returned no times"):
        servers_by_simulation(lambda _: [], q=0.5, target=1.0)


# The module ---------------------------------------------------------------------------------------


def test_the_module_loads_numpy_and_nothing_heavier() -> None:
    script = "import sys, course_lib.queueing; print(*{name.split('.')[0] for name in sys.modules})"
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True, timeout=60
    )
    loaded = set(done.stdout.split())
    assert "numpy" in loaded
    assert loaded.isdisjoint({"scipy", "torch", "triton", "matplotlib", "pandas", "ciw"})

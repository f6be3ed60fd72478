"""Lesson 10: what its checks say of answers that people give, wrong ones and unusual right ones."""

from __future__ import annotations

import math
import random
from itertools import accumulate

import numpy as np
import pytest
import torch

from autograder import lessons
from autograder.lessons import lesson10_given as given
from autograder.lessons import lesson10_hunt as hunt
from autograder.lessons import lesson10_measure as measure
from course_lib import parts
from course_lib.queueing import (
    MD1,
    MG1,
    MM1,
    CapacityPlan,
    LittlesLaw,
    MMc,
    erlang_b,
    erlang_c,
    fewest_servers,
    littles_law,
    send_times,
    simulate_queue,
)
from course_lib.queueing.logs import number_in_system, time_average
from course_lib.simulation.workload import gamma_arrivals, load_azure
from lesson_answers import SAME, examine, examine_wrong, named

# 10.1


def law_by_sweep(arrivals, departures):
    events = sorted([(t, 1) for t in arrivals] + [(t, -1) for t in departures])
    if len(arrivals) != len(departures) or not events or events[0][0] == events[-1][0]:
        raise ValueError("no log")
    if any(left < came for came, left in zip(arrivals, departures, strict=True)):
        raise ValueError("too early")
    area, present, last = 0.0, 0, events[0][0]
    for t, change in events:
        area += present * (t - last)
        present, last = present + change, t
    window = events[-1][0] - events[0][0]
    waits = [left - came for came, left in zip(arrivals, departures, strict=True)]
    return LittlesLaw(len(waits) / window, sum(waits) / len(waits), area / window)


def law_from_the_area(arrivals, departures):
    littles_law(arrivals, departures)
    a, d = np.asarray(arrivals, float), np.asarray(departures, float)
    window = d.max() - a.min()
    return LittlesLaw(np.float64(len(a) / window), (d - a).mean(), (d - a).sum() / window)


def law_in_torch(arrivals, departures):
    littles_law(arrivals, departures)
    a = torch.tensor(np.asarray(arrivals), dtype=torch.float64)
    d = torch.tensor(np.asarray(departures), dtype=torch.float64)
    window = float(d.max() - a.min())
    return LittlesLaw(len(a) / window, float((d - a).mean()), float((d - a).sum()) / window)


def law_as_a_tuple(arrivals, departures):
    law = littles_law(arrivals, departures)
    return (law.arrival_rate, law.mean_response, law.mean_in_system)


def law_that_sorts_its_input(arrivals, departures):
    law = littles_law(arrivals, departures)
    if isinstance(arrivals, list):
        arrivals.sort()
    return law


def law_in_quadratic_time(arrivals, departures):
    law = littles_law(arrivals, departures)
    moments = sorted({*map(float, arrivals), *map(float, departures)})
    for moment in moments:
        sum(1 for a, d in zip(arrivals, departures, strict=True) if a <= moment < d)
    return law


def law_that_refuses_nothing(arrivals, departures):
    a, d = np.asarray(arrivals, float), np.asarray(departures, float)
    window = (d.max() - a.min()) or 1.0
    return LittlesLaw(len(a) / window, (d - a).mean(), (d - a).sum() / window)


# 10.3


def erlang_b_by_logarithms(servers, offered_load):
    if servers != int(servers) or servers < 0 or offered_load < 0:
        raise ValueError("out of range")
    if offered_load == 0:
        return float(servers == 0)
    logs = [n * math.log(offered_load) - math.lgamma(n + 1) for n in range(servers + 1)]
    return 1 / sum(math.exp(each - logs[-1]) for each in logs)


def erlang_b_upside_down(servers, offered_load):
    if servers % 1 or servers < 0 or offered_load < 0:
        raise ValueError("out of range")
    if not offered_load:
        return 0.0 if servers else 1.0
    inverse = 1.0
    for n in range(1, servers + 1):
        inverse = 1 + n / offered_load * inverse
    return np.float64(1 / inverse)


def erlang_b_cut_to_whole_servers(servers, offered_load):
    return erlang_b(int(servers), offered_load)


def erlang_b_recursive(servers, offered_load):
    if servers % 1 or servers < 0 or offered_load < 0:
        raise ValueError("out of range")
    if servers == 0:
        return 1.0
    below = offered_load * erlang_b_recursive(servers - 1, offered_load)
    return below / (servers + below)


def erlang_c_from_the_sum(servers, offered_load):
    if servers % 1 or servers < 1 or not 0 <= offered_load < servers:
        raise ValueError("no such queue")
    terms = list(accumulate(range(1, servers + 1), lambda t, n: t * offered_load / n, initial=1.0))
    last = terms[-1] * servers / (servers - offered_load)
    return last / (sum(terms[:-1]) + last)


# 10.4


def queue_without_chunks(arrivals, services, servers=1):
    if servers > 1 or len(arrivals) == 0:
        return simulate_queue(arrivals, services, servers)
    steps = np.asarray(services)[:-1] - np.diff(arrivals)
    sums = np.concatenate([[0.0], np.cumsum(steps)])
    return sums - np.minimum.accumulate(sums)


def queue_from_the_ends(arrivals, services, servers=1):
    if len(arrivals) == 0:
        return np.zeros(0)
    a, work = np.asarray(arrivals, float), np.cumsum(services) - services
    return np.maximum.accumulate(a - work) + work - a


def queue_in_lists(arrivals, services, servers=1):
    steps = (np.asarray(services)[:-1] - np.diff(arrivals)).tolist()
    waits = list(accumulate(steps, lambda w, step: max(0.0, w + step), initial=0.0))
    return np.array(waits[: len(arrivals)])


def queue_that_writes_into_arrivals(arrivals, services, servers=1):
    waits = simulate_queue(arrivals, services, servers)
    if isinstance(arrivals, np.ndarray):
        arrivals -= arrivals[:1].sum()
    return waits


# 10.5


def times_in_a_loop(rate, cv, n, seed=0):
    if rate <= 0 or cv <= 0 or n < 0:
        raise ValueError("out of range")
    draw = np.random.default_rng(seed)
    if n > 10_000:
        return np.cumsum(draw.standard_gamma(cv**-2, n) * cv**2 / rate)
    return np.array(list(accumulate(draw.gamma(cv**-2, cv**2 / rate) for _ in range(n))), float)


def times_of_another_generator(rate, cv, n, seed=0):
    gamma_arrivals(rate, cv, n)
    draw = random.Random(seed)
    gaps = [draw.gammavariate(cv**-2, cv**2 / rate) for _ in range(n)]
    return np.array(list(accumulate(gaps)))


def times_of_numbers_alone(rate, cv, n, seed=0):
    return gamma_arrivals(rate, cv, n, seed if isinstance(seed, int) else 0)


# 10.6


def sends_by_maxima(gaps, seconds_per_send):
    send_times(gaps, seconds_per_send)
    work = seconds_per_send * np.arange(len(gaps))
    return (np.maximum.accumulate(np.cumsum(gaps) - work) + work).tolist() if len(gaps) else []


def sends_with_a_debt(gaps, seconds_per_send):
    send_times(gaps, seconds_per_send)
    sent, now, due = [], 0.0, 0.0
    for gap in gaps:
        due = due + gap
        if due > now:
            now = due
        sent += [now]
        now = now + seconds_per_send
    return sent


def sends_out_of_the_list(gaps, seconds_per_send):
    times = send_times(gaps, seconds_per_send)
    if isinstance(gaps, list):
        gaps.clear()
    return times


def sends_of_an_endless_plan(gaps, seconds_per_send):
    if seconds_per_send < 0 or any(gap < 0 for gap in gaps):
        raise ValueError("below 0")
    sent = []
    for due in accumulate(gaps):
        sent.append(max(due, sent[-1] + seconds_per_send) if sent else due)
    return sent


def sends_in_quadratic_time(gaps, seconds_per_send):
    times = send_times(gaps, seconds_per_send)
    for number in range(len(gaps)):
        sum(gaps[:number])
    return times


# 10.7


def in_steps_of_a_half(measure, target, at_least=1, at_most=2**62):
    if not 1 <= at_least <= at_most:
        raise ValueError("no such range")
    tried = {}

    def misses(servers):
        tried[servers] = measure(servers)
        return tried[servers] > target

    low, high = at_least - 1, at_least
    while misses(high):
        if high == at_most:
            raise ValueError("the target is missed")
        low, high = high, min(at_most, 2 * high)
    while low + 1 < high:
        middle = low + (high - low) // 2
        low, high = (middle, high) if misses(middle) else (low, middle)
    return CapacityPlan(high, tried[high], dict(sorted(tried.items())))


def measured_twice(measure, target, at_least=1, at_most=2**62):
    return fewest_servers(lambda c: measure(c) and measure(c), target, at_least, at_most)


def measures_the_answer_again(measure, target, at_least=1, at_most=2**62):
    plan = fewest_servers(measure, target, at_least, at_most)
    return CapacityPlan(plan.servers, measure(plan.servers), plan.tried)


def without_evidence(measure, target, at_least=1, at_most=2**62):
    plan = fewest_servers(measure, target, at_least, at_most)
    return CapacityPlan(plan.servers, plan.achieved, {})


def measured_in_steps(measure, target, at_least=1, at_most=2**62):
    if not 1 <= at_least <= at_most:
        raise ValueError("no such range")
    tried, servers = {}, at_least
    while True:
        tried[servers] = measure(servers)
        if tried[servers] <= target:
            return CapacityPlan(servers, tried[servers], tried)
        if servers >= at_most:
            raise ValueError("the target is missed")
        servers = min(servers + 10, at_most)


# What a learner wrote, and what has to be said of it first


def law_by_moments(arrivals, departures):
    right = littles_law(arrivals, departures)
    times, counts = number_in_system(arrivals, departures)
    return LittlesLaw(right.arrival_rate, right.mean_response, time_average(counts, times))


def erlang_b_counted_from_0(servers, offered_load):
    blocked = 1.0
    for n in range(servers):
        blocked = offered_load * blocked / (n + offered_load * blocked)
    return blocked


def queue_of_sums(take, own=False):
    def simulate(arrivals, services, servers=1):
        before = services[1:] if own else services[:-1]
        return take(np.cumsum(np.concatenate([[0.0], before - np.diff(arrivals)])))

    return simulate


def times_of_a_shape(shape):
    def times(rate, cv, n, seed=0):
        gamma_arrivals(rate, cv, n, 0)
        k = shape(cv)
        return np.cumsum(np.random.default_rng(seed).gamma(k, 1 / rate / k, n))

    return times


def times_from_the_first(rate, cv, n, seed=0):
    times = gamma_arrivals(rate, cv, n, seed)
    return times - times[0]


def sends_by_the_longer(gaps, seconds_per_send):
    send_times(gaps, seconds_per_send)
    sent, now = [], 0.0
    for gap in gaps:
        now += max(gap, seconds_per_send)
        sent.append(now)
    return sent


def doubles(finds, stops_early=False):
    def fewest(measure, target, at_least=1, at_most=2**62):
        if not 1 <= at_least <= at_most:
            raise ValueError("no such range")
        tried, low, high = {}, at_least - 1, at_least

        def meets(servers):
            tried[servers] = measure(servers)
            return finds(tried[servers], target)

        while not meets(high):
            if high == at_most:
                raise ValueError("the target is missed")
            low, high = high, min(2 * high, at_most)
        while high - low > 1 and not stops_early:
            middle = (low + high) // 2
            low, high = (low, middle) if meets(middle) else (middle, high)
        return CapacityPlan(high, tried[high], tried)

    return fewest


WALKED = [
    ("10.1", law_by_moments, "moments for durations"),
    ("10.2a", lambda self, q: 1 - math.exp(-(self.mu - self.lam) * q), "a share for a time"),
    ("10.2a", lambda self, q: math.log(1 - q) / (self.mu - self.lam), "the sign"),
    ("10.2b", lambda self: (self.scv + self.mean**2) / (2 * self.mean), "scv for the variance"),
    ("10.2b", lambda self: (self.scv + 1) * self.mean**2 / 2 * self.mean, "times the mean"),
    ("10.2c", lambda self: MG1.mean_wait.__get__(self) / 2, "halved twice"),
    ("10.3a", erlang_b_counted_from_0, "counted from 0"),
    ("10.3b", lambda c, a: erlang_b(c, a) / (1 - a / c), "without 1 − B"),
    (
        "10.3b",
        lambda c, a: erlang_b(c, a) / (1 - a / c) * (1 - erlang_b(c, a)),
        "1 − B beside the bar",
    ),
    ("10.4b", queue_of_sums(lambda sums: np.maximum(sums, 0)), "cut at 0"),
    (
        "10.4b",
        queue_of_sums(lambda sums: sums - np.minimum.accumulate(sums), own=True),
        "the own service",
    ),
    ("10.4b", queue_of_sums(lambda sums: sums - np.minimum.accumulate(sums)), "a wait for nobody"),
    ("10.4b", queue_of_sums(lambda sums: sums + np.minimum.accumulate(sums)), "the least added"),
    (
        "10.4b",
        queue_of_sums(lambda sums: np.maximum.accumulate(sums) - sums),
        "below the greatest",
    ),
    ("10.5", times_from_the_first, "the first at 0"),
    ("10.5", times_of_a_shape(lambda cv: cv**2), "the shape upside down"),
    ("10.6b", sends_by_the_longer, "the longer of gap and work"),
    ("10.7", doubles(lambda got, target: got < target), "strictly below"),
    (
        "10.7",
        doubles(lambda got, target: got <= target, stops_early=True),
        "the first double that is enough",
    ),
]


@pytest.mark.usefixtures("wrong_answers")
@pytest.mark.parametrize("case", WALKED, ids=lambda case: f"{case[0]}-{case[2]}")
def test_a_mistake_of_a_learner_is_named_at_once(case):
    exercise_id, answer, name = case
    assert named(examine_wrong(exercise_id, answer)) == name


def test_a_rate_at_the_border_is_told_to_the_digit_that_tells():
    assert "75.01%" in str(examine("10.6a", 742).counterexample)


RIGHT = [
    ("10.1", law_by_sweep),
    ("10.1", law_from_the_area),
    ("10.1", law_in_torch),
    ("10.2a", lambda self, q: MM1.response_quantile(self, q)),
    ("10.2b", lambda self: (self.scv * self.mean**2 + self.mean**2) / 2 / self.mean),
    ("10.2c", lambda self: self.lam * self.mean**2 * (1 + self.scv) / 2 / (1 - self.rho)),
    ("10.3a", erlang_b_by_logarithms),
    ("10.3a", erlang_b_upside_down),
    ("10.3b", erlang_c_from_the_sum),
    ("10.4b", queue_without_chunks),
    ("10.4b", queue_from_the_ends),
    ("10.5", times_in_a_loop),
    ("10.6a", 743),
    ("10.6a", 2226.5),
    ("10.6b", sends_by_maxima),
    ("10.6b", sends_with_a_debt),
    ("10.7", in_steps_of_a_half),
]
WRONG = [
    ("10.1", law_as_a_tuple, SAME),
    ("10.1", law_that_sorts_its_input, SAME),
    ("10.1", law_in_quadratic_time, SAME),
    ("10.1", law_that_refuses_nothing, SAME),
    ("10.1", object(), SAME),
    ("10.2a", lambda self, q: 1.386294, SAME),
    ("10.2a", lambda self, q: str(MM1.response_quantile(self, q)), SAME),
    ("10.2b", lambda self: 4.5, SAME),
    ("10.2c", lambda self: 1000 * MG1(self.lam, self.mean, self.scv).mean_wait, SAME),
    ("10.3a", erlang_b_recursive, SAME),
    ("10.3a", erlang_b_cut_to_whole_servers, SAME),
    ("10.3a", lambda servers, offered_load: 0.2, SAME),
    ("10.3b", lambda servers, offered_load: 1 - erlang_c(servers, offered_load), SAME),
    ("10.4b", queue_in_lists, "in a list"),
    ("10.4b", queue_that_writes_into_arrivals, SAME),
    ("10.4b", lambda arrivals, services, servers=1: np.zeros(len(arrivals)), SAME),
    ("10.5", times_of_another_generator, SAME),
    ("10.5", times_of_numbers_alone, SAME),
    ("10.6a", 741, "nearly reached"),
    ("10.6a", 2228, "beyond anybody's reach"),
    ("10.6a", "1000", SAME),
    ("10.6a", True, SAME),
    ("10.6a", float("nan"), SAME),
    ("10.6b", sends_out_of_the_list, SAME),
    ("10.6b", sends_of_an_endless_plan, SAME),
    ("10.6b", sends_in_quadratic_time, SAME),
    ("10.6b", lambda gaps, seconds_per_send: [1.0, 1.5, 2.0, 2.5], SAME),
    ("10.7", measured_twice, SAME),
    ("10.7", measures_the_answer_again, SAME),
    ("10.7", without_evidence, SAME),
    ("10.7", measured_in_steps, SAME),
    ("10.7", lambda measure, target, at_least=1, at_most=9: 19, SAME),
    ("10.8", dict.fromkeys(("S", "D"), 0.0), SAME),
]


def label(case):
    return "-".join(str(getattr(each, "__name__", type(each).__name__)) for each in case[:2])


@pytest.mark.parametrize("case", RIGHT, ids=label)
def test_an_unusual_right_answer_earns_everything(case):
    exercise_id, answer = case
    finding = examine(exercise_id, answer)
    assert finding.fraction == 1.0, finding.counterexample


@pytest.mark.usefixtures("wrong_answers")
@pytest.mark.parametrize("case", WRONG, ids=label)
def test_a_wrong_answer_loses_points(case):
    exercise_id, answer, name = case
    finding = examine_wrong(exercise_id, answer)
    assert finding.fraction < 1.0
    assert named(finding) == name


# The task by hand


@pytest.mark.parametrize("seed", range(8))
def test_waits_by_hand_are_those_of_the_simulator_and_somebody_is_idle(seed):
    found = given.customers(seed)
    arrivals, services = zip(*found, strict=True)
    answer = given.waits_to_write(seed).answer
    assert answer["waits"] == simulate_queue(arrivals, services).tolist()
    assert min(answer["sums"]) < 0 < max(answer["waits"])
    assert examine("10.4a", {"seed": seed, **answer}).fraction == 1.0
    as_floats = {name: tuple(map(float, state)) for name, state in answer.items()}
    assert examine("10.4a", {**as_floats, "seed": seed}).fraction == 1.0


def test_five_numbers_for_six_customers_are_told_so():
    finding = examine("10.4a", {"seed": 1, "sums": [0, 3, -1, 3, 5, 7], "waits": [0, 3, 0, 4, 6]})
    assert finding.fraction == 0.5
    assert "there are 6 customers" in str(finding.counterexample)


@pytest.mark.parametrize(
    ("states", "name"),
    [
        ({"waits": [0, 3, 0, 3, 5, 7]}, "cut at 0"),
        ({"sums": [0, 3, -1, 3, 3, 4]}, "steps of the own service"),
        ({"sums": [0, 3, 0, 4, 6, 8]}, "sums that stop at 0"),
        ({"sums": [0, 3, -4, 4, 2, 2]}, "steps for sums"),
    ],
)
def test_a_mistake_by_hand_has_its_name(states, name):
    right = given.waits_to_write(1).answer
    finding = examine("10.4a", {"seed": 1, **right, **states})
    assert finding.fraction == 0.5
    assert named(finding) == name


# The hunt


def test_the_suspect_has_the_rate_of_the_issue():
    sent = hunt.suspect_send_times([1 / 200] * 10_000, hunt.SECONDS_PER_SEND)
    assert hunt.rate_of(sent) == pytest.approx(hunt.reached(200.0), rel=1e-3)
    assert hunt.reached(200.0) == pytest.approx(183.5, abs=0.05)
    assert hunt.reached(742.3) > 0.75 * 742.3
    assert hunt.reached(742.7) < 0.75 * 742.7


def test_fix_b_keeps_the_rate_and_loses_the_times():
    gaps = np.diff(gamma_arrivals(200.0, 3.0, 5000, 1), prepend=0.0).tolist()
    sent = np.array(hunt.mend_b(gaps, hunt.SECONDS_PER_SEND))
    assert hunt.rate_of(sent) == pytest.approx(len(gaps) / sum(gaps), rel=1e-3)
    assert (np.cumsum(gaps) - sent).max() > 0.01


# The budget


def test_a_measure_that_is_asked_for_too_much_says_so():
    call = lessons.find("10.7").check.inner.probes[0]
    with pytest.raises(RuntimeError, match="takes too long"):
        call.args[0](21)
    with pytest.raises(RuntimeError, match="no such number of servers"):
        call.args[0](0)
    assert repr(call.args[0]) == "lambda servers: 100 / servers"
    below_one = lessons.find("10.7").check.inner.refusals[2].args[0]  # its answer is 9
    with pytest.raises(RuntimeError, match="ask for at most 18, twice the answer"):
        below_one(19)


@pytest.mark.parametrize("answer", [1, 2, 3, 7, 64, 65, 1000, 4095, 100_000])
@pytest.mark.parametrize("at_least", [1, 5])
def test_the_reference_keeps_to_what_its_specification_allows(answer, at_least):
    plan = fewest_servers(lambda servers: 10 * answer / servers, 10.0, at_least)
    found = max(answer, at_least)
    assert plan.servers == found
    assert len(plan.tried) <= 2 * math.log2(found) + 3
    assert max(plan.tried) <= 2 * found


def test_a_number_that_is_measured_again_is_told_so():
    finding = examine("10.7", measures_the_answer_again)
    assert finding.fraction == 0.75
    assert finding.counterexample.expected == "at most 1 call of measure with the same arguments"


# The measurement


def test_the_shared_formula_is_near_the_engine_and_mg1_is_not():
    measured = measure.measured()
    assert 1 <= measured["shared at 4"] / measured["engine at 4"] < 1.1
    assert measured["M/G/1 at 0.25"] > 1.5 * measured["engine at 0.25"]
    assert measure.QUIET * measured["S"] < 1 < measure.BUSY * measured["S"]
    assert len(load_azure()) > measure.COUNT


@pytest.mark.parametrize(
    ("wrong", "name"),
    [
        (measure.variance_for_scv, "variance for SCV"),
        (measure.without_the_rate, "without the rate"),
        (measure.first_tokens, "TTFT for response"),
        (measure.first_tokens_at_4, "TTFT for response at 4"),
    ],
)
def test_a_mistake_of_measuring_has_its_name(wrong, name):
    finding = examine("10.8", wrong())
    assert (finding.fraction, named(finding)) == (0.0, name)


# What must show


def waits(services, servers=1, rate=0.8, seed=0, count=400_000):
    draw = np.random.default_rng(seed)
    return simulate_queue(
        np.cumsum(draw.exponential(1 / rate, count)), services(draw, count), servers
    )


@pytest.mark.parametrize(
    ("theory", "services", "servers", "rate"),
    [
        (MM1(0.8, 1.0).mean_wait, lambda draw, n: draw.exponential(1.0, n), 1, 0.8),
        (MD1(0.8, 1.0).mean_wait, lambda draw, n: np.ones(n), 1, 0.8),
        (MG1(0.8, 1.0, 3.0).mean_wait, lambda draw, n: draw.gamma(1 / 3, 3.0, n), 1, 0.8),
        (MMc(3.2, 1.0, 4).mean_wait, lambda draw, n: draw.exponential(1.0, n), 4, 3.2),
    ],
    ids=["M/M/1", "M/D/1", "M/G/1", "M/M/4"],
)
def test_a_simulation_is_within_three_standard_errors_of_its_formula(
    theory, services, servers, rate
):
    blocks = [block.mean() for block in np.array_split(waits(services, servers, rate), 20)]
    error = np.std(blocks, ddof=1) / math.sqrt(20)
    assert abs(np.mean(blocks) - theory) < 3 * error
    assert error < 0.05 * theory


def test_thousands_of_servers_agree_with_exact_fractions():
    from fractions import Fraction

    exact = Fraction(1)
    for n in range(1, 301):
        exact = 290 * exact / (n + 290 * exact)
    assert erlang_b(300, 290.0) == pytest.approx(float(exact), rel=1e-12)
    assert 0.3 < erlang_c(3000, 2970.0) < 0.5


def test_formulas_stand_on_ones_own_methods(workspace):
    parts.save("MG1.mean_residual_service", "def mean_residual_service(self):\n    return 7.0\n")
    own = parts.get("MG1")(0.5, 1.0, 0.0)
    assert isinstance(own, MG1)
    assert (own.mean_residual_service, own.mean_wait) == (7.0, 7.0)

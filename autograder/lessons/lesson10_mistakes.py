"""Lesson 10: known wrong answers of its formulas."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from autograder.checks.finding import Misconception
from course_lib.queueing.logs import (
    LittlesLaw,
    littles_law,
    number_in_system,
    seen_on_arrival,
)
from course_lib.queueing.models import MG1, MM1, erlang_b, erlang_c

# 10.1


def _log(arrivals: Any, departures: Any) -> tuple[Any, Any, LittlesLaw]:
    return np.asarray(arrivals), np.asarray(departures), littles_law(arrivals, departures)


def over_events(arrivals: Any, departures: Any) -> LittlesLaw:
    """Average the number present over events."""
    _, counts = number_in_system(arrivals, departures)
    _, _, right = _log(arrivals, departures)
    return LittlesLaw(right.arrival_rate, right.mean_response, float(counts[:-1].mean()))


def up_to_the_last_arrival(arrivals: Any, departures: Any) -> LittlesLaw:
    """End the window with the last arrival."""
    came, _, right = _log(arrivals, departures)
    return LittlesLaw(len(came) / float(np.ptp(came)), right.mean_response, right.mean_in_system)


def from_zero(arrivals: Any, departures: Any) -> LittlesLaw:
    """Begin the window at 0."""
    came, left, right = _log(arrivals, departures)
    window = float(left.max())
    level = right.mean_response * len(came) / window
    return LittlesLaw(len(came) / window, right.mean_response, level)


def rate_from_zero(arrivals: Any, departures: Any) -> LittlesLaw:
    """Begin the window of the rate alone at 0."""
    came, left, right = _log(arrivals, departures)
    rate = len(came) / float(left.max())
    return LittlesLaw(rate, right.mean_response, right.mean_in_system)


def as_arrivals_see_it(arrivals: Any, departures: Any) -> LittlesLaw:
    """Average over arrivals what each finds."""
    _, _, right = _log(arrivals, departures)
    seen = float(seen_on_arrival(arrivals, departures).mean())
    return LittlesLaw(right.arrival_rate, right.mean_response, seen)


def gaps_for_requests(arrivals: Any, departures: Any) -> LittlesLaw:
    """Divide the gaps by the window."""
    came, left, right = _log(arrivals, departures)
    rate = (len(came) - 1) / float(left.max() - came.min())
    return LittlesLaw(rate, right.mean_response, right.mean_in_system)


def in_the_order_given(arrivals: Any, departures: Any) -> LittlesLaw:
    """Take the first and the last item for the earliest and the latest."""
    came, left, right = _log(arrivals, departures)
    window = float(left[-1] - came[0])
    return LittlesLaw(len(came) / window, right.mean_response, right.mean_in_system)


def with_the_end(arrivals: Any, departures: Any) -> LittlesLaw:
    """Average over all events, the last one too, from which on nobody is present."""
    _, counts = number_in_system(arrivals, departures)
    _, _, right = _log(arrivals, departures)
    return LittlesLaw(right.arrival_rate, right.mean_response, float(counts.mean()))


def moments_for_durations(arrivals: Any, departures: Any) -> LittlesLaw:
    """Weight each count by the moment from which it holds, not by how long it does."""
    times, counts = number_in_system(arrivals, departures)
    _, _, right = _log(arrivals, departures)
    level = float((counts * times).sum() / times.sum())
    return LittlesLaw(right.arrival_rate, right.mean_response, level)


LITTLE = (
    Misconception(
        "moments for durations",
        "A number counts for as long as it lasts: until the next moment, not up to it from 0.",
        moments_for_durations,
    ),
    Misconception(
        "over events",
        "The number present is averaged over events, as if each piece of time were equally long; a "
        "long piece counts for more.",
        over_events,
    ),
    Misconception(
        "over events, with the end",
        "The number present is averaged over events, as if each piece of time were equally long, "
        "and after the last one the log is over.",
        with_the_end,
    ),
    Misconception(
        "up to the last arrival",
        "The window ends when the last request leaves, not when the last one comes.",
        up_to_the_last_arrival,
    ),
    Misconception(
        "from 0",
        "The window begins with the earliest arrival, wherever the clock began.",
        from_zero,
    ),
    Misconception(
        "the rate from 0",
        "The window of the rate begins with the earliest arrival, wherever the clock began.",
        rate_from_zero,
    ),
    Misconception(
        "as arrivals see it",
        "What arrivals find is an average over arrivals. Poisson arrivals find the average over "
        "time, in the long run; others need not.",
        as_arrivals_see_it,
    ),
    Misconception(
        "gaps for requests",
        "n requests came in the window, though there are n − 1 gaps between them.",
        gaps_for_requests,
    ),
    Misconception(
        "in the order given",
        "The log may be in any order: the earliest arrival and the latest departure bound it.",
        in_the_order_given,
    ),
)

# 10.2


def quantile_of_the_service(self: MM1, q: float) -> float:
    """Take the service for the response."""
    return -math.log1p(-q) / self.mu


def quantile_of_the_wait(self: MM1, q: float) -> float:
    """Take the wait for the response."""
    return MM1.wait_quantile(self, q)


def log_of_q(self: MM1, q: float) -> float:
    """Take the share above for the share below."""
    return -math.log(q) / (self.mu - self.lam)


def by_tens(self: MM1, q: float) -> float:
    """Take the logarithm to base 10."""
    return -math.log10(1 - q) / (self.mu - self.lam)


def share_of_the_mean(self: MM1, q: float) -> float:
    """Take that share of the mean."""
    return q * self.mean_response


def without_check(self: MM1, q: float) -> float:
    """Answer for any q."""
    return -math.log1p(-q) / (self.mu - self.lam) if q < 1 else math.inf


def share_within(self: MM1, q: float) -> float:
    """Return the share that is done within q seconds."""
    return -math.expm1(-(self.mu - self.lam) * q)


def without_the_sign(self: MM1, q: float) -> float:
    """Leave out the minus."""
    return math.log1p(-q) / (self.mu - self.lam)


P99 = (
    Misconception(
        "a share for a time",
        "That is the share that responds within q seconds. Given is the share: solve for t.",
        share_within,
    ),
    Misconception(
        "the sign",
        "The logarithm of a number below 1 is negative, and so is the exponent −(μ − λ)t.",
        without_the_sign,
    ),
    Misconception(
        "the service alone",
        "An exponential of rate μ is the service. The response has the rate μ − λ.",
        quantile_of_the_service,
    ),
    Misconception(
        "the wait",
        "That is the quantile of the wait before the service; the response includes the service.",
        quantile_of_the_wait,
    ),
    Misconception(
        "the share above",
        "A share q responds within t, so a share 1 − q takes longer: exp(−(μ − λ)t) = 1 − q.",
        log_of_q,
    ),
    Misconception("base 10", "The logarithm is the natural one.", by_tens),
    Misconception(
        "a share of the mean",
        "A quantile is no share of the mean: 99% within 4.6 means, not within 0.99.",
        share_of_the_mean,
    ),
    Misconception(
        "any q answered",
        "A q below 0 or from 1 on is refused with a ValueError.",
        without_check,
    ),
)


def half_a_service(self: MG1) -> float:
    """Return half the mean."""
    return self.mean / 2


def whole_service(self: MG1) -> float:
    """Return the mean."""
    return self.mean


def second_moment(self: MG1) -> float:
    """Leave out the half."""
    return self.mean * (1 + self.scv)


def variance_alone(self: MG1) -> float:
    """Take the variance for the second moment."""
    return self.mean * self.scv / 2


def scv_squared(self: MG1) -> float:
    """Square what is squared."""
    return self.mean * (1 + self.scv**2) / 2


def scv_as_variance(self: MG1) -> float:
    """Take the scv for the variance."""
    return (self.mean**2 + self.scv) / (2 * self.mean)


def times_the_mean(self: MG1) -> float:
    """Multiply by the mean where one divides by it."""
    return self.mean**3 * (1 + self.scv) / 2


RESIDUAL = (
    Misconception(
        "scv for the variance",
        "The scv is variance / mean², so the variance is scv · mean².",
        scv_as_variance,
    ),
    Misconception(
        "times the mean",
        "E[S²] is divided by 2·E[S]: `x / 2 * y` multiplies by y, `x / (2 * y)` divides by it.",
        times_the_mean,
    ),
    Misconception(
        "half a service",
        "Half the mean would be right if all services were equal; one is more likely to fall into "
        "a long one.",
        half_a_service,
    ),
    Misconception(
        "a whole service",
        "Some of the service in progress is over already.",
        whole_service,
    ),
    Misconception(
        "without the half",
        "E[S²]/E[S] is the whole length of the service that one falls into; on average half of it "
        "is left.",
        second_moment,
    ),
    Misconception(
        "the variance alone",
        "E[S²] is variance + mean², so it is mean² · (1 + scv).",
        variance_alone,
    ),
    Misconception(
        "squared twice",
        "The scv is squared already: variance / mean².",
        scv_squared,
    ),
)


def upside_down(self: MG1) -> float:
    """Turn the load upside down."""
    return (1 - self.rho) / self.rho * self.mean_residual_service


def without_load(self: MG1) -> float:
    """Let everybody meet a service in progress."""
    return self.mean_residual_service / (1 - self.rho)


def no_queue(self: MG1) -> float:
    """Wait for the service in progress alone."""
    return self.rho * self.mean_residual_service


def as_mm1(self: MG1) -> float:
    """Ignore the sizes' variation."""
    return self.rho / (1 - self.rho) * self.mean


def response(self: MG1) -> float:
    """Include the service."""
    return self.rho / (1 - self.rho) * self.mean_residual_service + self.mean


def halved_twice(self: MG1) -> float:
    """Halve what is half of a service already."""
    return self.rho / (1 - self.rho) * self.mean_residual_service / 2


WAIT = (
    Misconception(
        "halved twice",
        "`mean_residual_service` is what is left already; it is not halved again.",
        halved_twice,
    ),
    Misconception(
        "upside down",
        "The wait grows with the load: the idle share 1 − ρ stands below.",
        upside_down,
    ),
    Misconception(
        "always somebody in service",
        "A service is in progress with the probability ρ only: W = ρR + ρW.",
        without_load,
    ),
    Misconception(
        "no queue",
        "Besides the service in progress there are those in the queue: W = ρR + ρW.",
        no_queue,
    ),
    Misconception(
        "exponential sizes",
        "ρ/(1 − ρ) · mean is M/M/1. For other sizes, what is left of a service is no mean service.",
        as_mm1,
    ),
    Misconception("response", "The wait ends when the service starts.", response),
)

# 10.3


def textbook(servers: int, offered_load: float) -> float:
    """Work the ratio out term by term."""
    if servers < 0 or offered_load < 0:
        raise ValueError("below 0")
    terms = [offered_load**n / math.factorial(n) for n in range(servers + 1)]
    return terms[-1] / sum(terms)


def one_server_less(servers: int, offered_load: float) -> float:
    """Stop one server too early."""
    return erlang_b(max(servers - 1, 0), offered_load) if servers >= 0 else erlang_b(-1, 0.0)


def without_load_below(servers: int, offered_load: float) -> float:
    """Forget the load in the denominator."""
    erlang_b(servers, offered_load)
    blocked = 1.0
    for n in range(1, servers + 1):
        blocked = offered_load * blocked / (n + blocked)
    return blocked


def same_servers_each_time(servers: int, offered_load: float) -> float:
    """Divide by all servers each time."""
    erlang_b(servers, offered_load)
    blocked = 1.0
    for _ in range(servers):
        blocked = offered_load * blocked / (servers + offered_load * blocked)
    return blocked


def from_nothing(servers: int, offered_load: float) -> float:
    """Begin with nobody lost."""
    erlang_b(servers, offered_load)
    return 0.0


def losses_of_any(servers: int, offered_load: float) -> float:
    """Refuse nothing."""
    blocked = 1.0
    for n in range(1, servers + 1):
        blocked = offered_load * blocked / (n + offered_load * blocked)
    return blocked


def from_server_0(servers: int, offered_load: float) -> float:
    """Count the servers from 0 on."""
    erlang_b(servers, offered_load)
    blocked = 1.0
    for n in range(servers):
        blocked = offered_load * blocked / (n + offered_load * blocked)
    return blocked


LOSS = (
    Misconception(
        "counted from 0",
        "B(0) is given; the steps are those of n = 1 to the number of servers, the last one too.",
        from_server_0,
    ),
    Misconception(
        "the textbook ratio",
        "aᶜ and c! leave the range of floats for some hundred servers, though their ratio does "
        "not. Add the servers one by one.",
        textbook,
    ),
    Misconception("one server less", "The last server counts too.", one_server_less),
    Misconception(
        "no load below",
        "Below stands n + a·B(n−1): the load stands in both places.",
        without_load_below,
    ),
    Misconception(
        "all servers each time",
        "In step n there are n servers, not all of them.",
        same_servers_each_time,
    ),
    Misconception(
        "begun with 0",
        "Without a server everybody is lost: B(0) = 1.",
        from_nothing,
    ),
    Misconception(
        "nothing refused",
        "A number of servers that is not whole or below 0, or a load below 0, is refused with a "
        "ValueError.",
        losses_of_any,
    ),
)


def loss_for_wait(servers: int, offered_load: float) -> float:
    """Take the losses for the waits."""
    erlang_c(servers, offered_load)
    return erlang_b(servers, offered_load)


def sakasegawa(servers: int, offered_load: float) -> float:
    """Approximate by a power of the load."""
    erlang_c(servers, offered_load)
    return float((offered_load / servers) ** (math.sqrt(2 * (servers + 1)) - 1))


def load_for_share(servers: int, offered_load: float) -> float:
    """Take the load of all servers for that of one."""
    erlang_c(servers, offered_load)
    blocked = erlang_b(servers, offered_load)
    return blocked / (1 - offered_load * (1 - blocked))


def the_busy_share(servers: int, offered_load: float) -> float:
    """Take the share of time that a server is busy."""
    erlang_c(servers, offered_load)
    return offered_load / servers


def times_instead(servers: int, offered_load: float) -> float:
    """Multiply by the lost share where the served one is meant."""
    erlang_c(servers, offered_load)
    blocked = erlang_b(servers, offered_load)
    return blocked / (1 - offered_load / servers * blocked)


def waits_of_any(servers: int, offered_load: float) -> float:
    """Answer under overload too."""
    if servers < 1 or offered_load < 0:
        raise ValueError("no such queue")
    blocked = erlang_b(servers, offered_load)
    return min(1.0, blocked / max(1 - offered_load / servers * (1 - blocked), 1e-9))


def without_the_served(servers: int, offered_load: float) -> float:
    """Leave out the factor 1 − B."""
    erlang_c(servers, offered_load)
    return erlang_b(servers, offered_load) / (1 - offered_load / servers)


def beside_the_bar(servers: int, offered_load: float) -> float:
    """Let the factor 1 − B slip out of the denominator."""
    return without_the_served(servers, offered_load) * (1 - erlang_b(servers, offered_load))


DELAY = (
    Misconception(
        "without 1 − B",
        "ρ is multiplied by 1 − B, the share that is not lost: C = B / (1 − ρ(1 − B)).",
        without_the_served,
    ),
    Misconception(
        "1 − B beside the bar",
        "All of 1 − ρ(1 − B) stands below; ρ alone is multiplied by 1 − B.",
        beside_the_bar,
    ),
    Misconception(
        "losses for waits",
        "Erlang B is for a queue that turns people away. Who is not turned away keeps the servers "
        "busy for others, so more wait.",
        loss_for_wait,
    ),
    Misconception(
        "a power of the load",
        "Sakasegawa's power is an approximation, good for few servers: at 256 of them and 80% load "
        "it is 24 times too much.",
        sakasegawa,
    ),
    Misconception(
        "load of all for load of one",
        "ρ is the load of one server: a / c.",
        load_for_share,
    ),
    Misconception(
        "the busy share",
        "A given server is busy for a share ρ of the time. To wait, one has to find all busy.",
        the_busy_share,
    ),
    Misconception(
        "B where 1 − B is meant",
        "C = B / (1 − ρ(1 − B)).",
        times_instead,
    ),
    Misconception(
        "overload answered",
        "At ρ = 1 and above the queue never settles down, and there is no such share: ValueError.",
        waits_of_any,
    ),
)

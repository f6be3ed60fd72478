"""Lesson 10: the fewest servers, asked with measures that refuse to be asked for too much."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Any

from hypothesis import strategies as st

from autograder.checks.budget import Metered
from autograder.checks.compare import counted
from autograder.checks.finding import Misconception
from autograder.checks.function import Call
from autograder.proxy.recipes import Callback
from course_lib.queueing.capacity import CapacityPlan, fewest_servers

AT_MOST = 2**62

Measure = Callable[[int], float]


def shared_work(work: float, limit: float) -> Callback:
    """Return a measure that is the work over the number of servers, for up to so many of them."""

    def measure(servers: int) -> float:
        if not servers >= 1:
            raise RuntimeError(f"measure({servers}): no such number of servers; ask for 1 or more")
        if servers > limit:
            wanted = f"at most {limit:g}, twice the answer or at_most"
            raise RuntimeError(f"measure({servers}): that takes too long; ask for {wanted}")
        return work / servers

    measure.__name__ = f"lambda servers: {work:g} / servers"
    return Callback(measure)


def question(work: int, target: float, at_least: int = 1, at_most: int = AT_MOST) -> Call:
    """Return a call whose answer is the work over the target, rounded up, or more."""
    answer = max(at_least, math.ceil(work / target))
    measure = shared_work(work, min(2 * answer, at_most))
    limits = {"at_least": at_least} if at_least != 1 else {}
    if at_most != AT_MOST:
        limits["at_most"] = at_most
    return Call(measure, float(target), **limits)


@st.composite
def questions(draw: st.DrawFn) -> Call:
    """Draw a measure, a target, and from where to where to look."""
    at_least = draw(st.sampled_from([1, 1, 1, 2, 5]))
    work = draw(st.integers(1, 60))
    target = draw(st.sampled_from([1.0, 2.0, 5.0]))
    answer = max(at_least, math.ceil(work / target))
    at_most = draw(st.sampled_from([AT_MOST, answer, answer + 1, 2 * answer]))
    return question(work, target, at_least, at_most)


QUESTIONS = (
    question(100, 10.0),
    question(100, 15.0),
    question(100, 10.0, at_least=20),
    question(100, 10.0, at_most=12),
    question(100, 10.0, at_least=7, at_most=10),
    question(1, 1.0),
    question(3, 1.0, at_most=3),
)
REFUSED = (
    question(100, 10.0, at_most=5),
    question(100, 10.0, at_least=4, at_most=4),
    Call(shared_work(9, 18), 1.0, at_least=0),
    Call(shared_work(9, 99), 1.0, at_least=12, at_most=9),
)


def metered_questions(seed: int) -> Iterator[Metered]:
    """Return questions whose measures are counted."""
    for answer in (2, 40 + seed % 20, 1000 + seed % 300, 10_000):
        call = question(10 * answer, 10.0)
        allowed = 2 * math.log2(answer) + 3
        yield Metered(call, call.args[0], allowed=allowed, once=True)


def same_plan(expected: Any, got: Any) -> str | None:
    """Agree on the servers, on what was measured with them, and on the evidence.

    Which numbers were tried is free; that one server less does not do must be among the evidence.
    """
    if not (isinstance(expected, CapacityPlan) and isinstance(got, CapacityPlan)):
        return f"it is of type {type(got).__name__}, not a CapacityPlan"
    if got.servers != expected.servers or isinstance(got.servers, (bool, float)):
        return ""
    if got.achieved != expected.achieved:
        return f"{counted(expected.servers, 'server')} reach {expected.achieved:g}"
    if not hasattr(got.tried, "get"):
        return "`tried` maps each number that was tried to what was measured"
    for servers in (expected.servers, expected.servers - 1):
        if servers in expected.tried and got.tried.get(servers) != expected.tried[servers]:
            found = f"{counted(servers, 'server')}: {expected.tried[servers]:g}"
            return f"`tried` does not hold what was measured with {found}"
    return None


def _plan(measure: Measure, servers: int) -> CapacityPlan:
    tried = {each: measure(each) for each in (servers, servers - 1) if each >= 1}
    return CapacityPlan(servers, tried[servers], tried)


def first_power(
    measure: Measure, target: float, at_least: int = 1, at_most: int = AT_MOST
) -> CapacityPlan:
    """Stop at the first number of the doubling that is enough."""
    fewest_servers(measure, target, at_least, at_most)
    servers, step = at_least, 1
    while measure(servers) > target:
        servers, step = min(servers + step, at_most), 2 * step
    return CapacityPlan(servers, measure(servers), {servers: measure(servers)})


def first_double(
    measure: Measure, target: float, at_least: int = 1, at_most: int = AT_MOST
) -> CapacityPlan:
    """Stop at the first number that is enough, where each is twice the one before."""
    fewest_servers(measure, target, at_least, at_most)
    servers = at_least
    while measure(servers) > target:
        servers = min(2 * servers, at_most)
    return CapacityPlan(servers, measure(servers), {servers: measure(servers)})


def strictly_below(
    measure: Measure, target: float, at_least: int = 1, at_most: int = AT_MOST
) -> CapacityPlan:
    """Ask for less than the target."""
    servers = fewest_servers(measure, target, at_least, at_most).servers
    servers += measure(servers) == target
    if servers > at_most:
        raise ValueError("the target is missed")
    return CapacityPlan(servers, measure(servers), {servers: measure(servers)})


def from_one(
    measure: Measure, target: float, at_least: int = 1, at_most: int = AT_MOST
) -> CapacityPlan:
    """Begin with 1 server, whatever at_least is."""
    fewest_servers(measure, target, at_least, at_most)
    return fewest_servers(measure, target, 1, at_most)


def the_last_miss(
    measure: Measure, target: float, at_least: int = 1, at_most: int = AT_MOST
) -> CapacityPlan:
    """Return the other end of the bracket."""
    servers = fewest_servers(measure, target, at_least, at_most).servers
    return _plan(measure, max(1, servers - 1))


def beyond_at_most(
    measure: Measure, target: float, at_least: int = 1, at_most: int = AT_MOST
) -> CapacityPlan:
    """Double, though at_most is in between."""
    if at_least < 1 or at_least > at_most:
        raise ValueError("no such range")
    servers, step = at_least, 1
    while measure(servers) > target:
        servers, step = servers + step, 2 * step
    plan = fewest_servers(measure, target, at_least, at_most)
    return _plan(measure, plan.servers)


def halving_all(
    measure: Measure, target: float, at_least: int = 1, at_most: int = AT_MOST
) -> CapacityPlan:
    """Bisect between at_least and at_most."""
    low, high, tried = at_least - 1, at_most, {}
    while high - low > 1:
        middle = (low + high) // 2
        tried[middle] = measure(middle)
        low, high = (low, middle) if tried[middle] <= target else (middle, high)
    tried[high] = measure(high)
    if at_least < 1 or tried[high] > target:
        raise ValueError("out of range")
    return CapacityPlan(high, tried[high], tried)


def one_by_one(
    measure: Measure, target: float, at_least: int = 1, at_most: int = AT_MOST
) -> CapacityPlan:
    """Right, and slow: try one number after the other."""
    if at_least < 1 or at_least > at_most:
        raise ValueError("out of range")
    tried: dict[int, float] = {}
    for servers in range(at_least, at_most + 1):
        tried[servers] = measure(servers)
        if tried[servers] <= target:
            return CapacityPlan(servers, tried[servers], tried)
    raise ValueError("the target is missed")


MISTAKES = (
    Misconception(
        "the first that is enough",
        "A number found by doubling is enough, and seldom the fewest: look between it and the last "
        "miss.",
        first_power,
    ),
    Misconception(
        "the first double that is enough",
        "A number found by doubling is enough, and seldom the fewest: look between it and the last "
        "miss.",
        first_double,
    ),
    Misconception("strictly below", "The target itself is met: at most.", strictly_below),
    Misconception(
        "from 1", "at_least is the smallest number to consider, even if fewer do.", from_one
    ),
    Misconception(
        "the last miss", "Of the two ends of the bracket, the upper one is enough.", the_last_miss
    ),
    Misconception(
        "past at_most",
        "Beyond at_most nothing may be measured: a step ends there at the latest.",
        beyond_at_most,
    ),
    Misconception(
        "halving the whole range",
        "The middle of a range that may end at 2**62 is a number of servers that nobody can "
        "measure. Find an upper end first, in steps that double.",
        halving_all,
    ),
)
SLOW = (
    Misconception(
        "one by one",
        "Each measure is a simulation. Let the steps double until it is enough, then halve.",
        one_by_one,
    ),
)

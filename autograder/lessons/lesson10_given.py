"""Lesson 10: what its checks are given, and its task by hand."""

from __future__ import annotations

from collections.abc import Callable
from itertools import accumulate, pairwise
from random import Random
from typing import Any

import numpy as np
from hypothesis import strategies as st

from autograder.checks.finding import Misconception
from autograder.checks.function import Call, Large
from autograder.checks.trace import Instance
from autograder.proxy.recipes import Make

# 10.1, logs


def log(*stays: tuple[float, float]) -> Call:
    """Return a call with the arrivals and departures of requests, each given as both."""
    return Call([came for came, _ in stays], [left for _, left in stays])


def _stay(came: int, seconds: int) -> tuple[float, float]:
    return float(came), float(came + seconds)


LOGS = st.lists(
    st.builds(_stay, st.integers(0, 20), st.sampled_from([2, 3, 5, 7, 11])), min_size=1, max_size=6
).map(lambda stays: log(*stays))

SIX = log((0.0, 4.0), (3.0, 9.0), (5.0, 11.0), (6.0, 15.0), (16.0, 19.0), (17.0, 20.0))
SOME_LOGS = (
    SIX,
    log((10.0, 12.0), (11.0, 14.0)),
    log((1.0, 2.0), (0.0, 9.0)),
    log((7.0, 8.0), (2.0, 13.0), (3.0, 5.0)),
    log((4.0, 9.0)),
    log((0.0, 2.0), (0.0, 2.0), (3.0, 3.0), (5.0, 6.0)),
)
REFUSED_LOGS = (log((1.0, 0.0)), log((1.0, 1.0)), Call([0.0, 1.0], [2.0]), Call([], []))


def _many_stays() -> Call:
    rng = np.random.default_rng(10)
    arrivals = np.cumsum(rng.exponential(1.0, 100_000)).round(3)
    return Call(arrivals, arrivals + rng.exponential(20.0, 100_000).round(3))


MANY_STAYS = Large(_many_stays, "100,000 requests")

# 10.3, Erlang

LOSSES = st.builds(Call, st.integers(0, 9), st.sampled_from([0.5, 1.0, 2.0, 3.5, 5.0, 8.0]))
SOME_LOSSES = (
    Call(2, 1.0),
    Call(0, 1.0),
    Call(3, 4.5),
    Call(1, 0.25),
    Call(5, 0.0),
    Call(40, 32.0),
    Call(300, 290.0),
)
REFUSED_LOSSES = (Call(-1, 1.0), Call(2, -1.0), Call(2.5, 1.0))
MANY_SERVERS = Large(lambda: Call(5000, 4950.0), "5,000 servers")

_SHARES = (0.25, 0.5, 0.75, 0.9)


def _pool(servers: int, share: float) -> Call:
    return Call(servers, servers * share)


WAITS = st.builds(_pool, st.integers(1, 9), st.sampled_from(_SHARES))
SOME_WAITS = (Call(2, 1.0), Call(1, 0.8), Call(4, 3.2), Call(3, 0.0), Call(256, 204.8))
REFUSED_WAITS = (Call(2, 2.0), Call(3, 4.0), Call(0, 0.5), Call(2, -1.0), Call(2.5, 1.0))

# 10.4, Lindley


def queue(gaps: list[float], services: list[float]) -> Call:
    """Return a call with customers: seconds since the one before, and seconds of service."""
    return Call(np.cumsum(gaps, dtype=float), np.array(services, dtype=float))


@st.composite
def queues(draw: st.DrawFn) -> Call:
    """Draw the customers of one server."""
    count = draw(st.integers(1, 6))
    gaps = draw(st.lists(st.integers(0, 7), min_size=count, max_size=count))
    services = draw(st.lists(st.sampled_from([1, 2, 3, 5]), min_size=count, max_size=count))
    return queue([float(gap) for gap in gaps], [float(each) for each in services])


SOME_QUEUES = (
    queue([0, 3, 2, 1, 10, 1], [4, 5, 2, 4, 3, 1]),
    queue([0, 1], [1.5, 1]),
    queue([2, 1, 1], [3, 1, 1]),
    queue([1, 9, 9, 1], [2, 2, 5, 1]),
    queue([4], [3]),
)
# Tried last: who has an idea wrong is told of the idea, and not of what comes of an empty array.
NO_CUSTOMERS = queue([], [])


def busy_server(number: int, count: int = 500_000, rho: float = 0.9) -> Call:
    """Return the customers of an M/M/1 queue."""
    rng = np.random.default_rng(1000 + number)
    return Call(np.cumsum(rng.exponential(1 / rho, count)), rng.exponential(1.0, count))


def customers(seed: int) -> list[tuple[int, int]]:
    """Return when each of six customers arrives, and the seconds of service that it needs."""
    rng = Random(seed)
    while True:
        gaps = [0, *(rng.choice((1, 2, 3, 4, 9)) for _ in range(5))]
        services = [rng.randint(2, 6) for _ in range(6)]
        found = list(zip(accumulate(gaps), services, strict=True))
        waits = waits_by_hand(found)
        # Somebody waits, somebody finds an idle server behind those, and no two ideas agree.
        ideas = [idea(found) for idea in (waits_by_hand, never_idle, own_service, with_service)]
        if 0 in waits[2:] and max(waits) > 3 and all(a != b for a, b in _pairs(ideas)):
            return found


def _pairs(ideas: list[list[int]]) -> list[tuple[list[int], list[int]]]:
    return [(a, b) for place, a in enumerate(ideas) for b in ideas[place + 1 :]]


def waits_by_hand(found: list[tuple[int, int]]) -> list[int]:
    """Return how long each customer waits."""
    free, waits = 0, []
    for arrival, service in found:
        waits.append(max(0, free - arrival))
        free = max(free, arrival) + service
    return waits


def _steps(found: list[tuple[int, int]]) -> list[int]:
    return [before[1] - (after[0] - before[0]) for before, after in pairwise(found)]


def never_idle(found: list[tuple[int, int]]) -> list[int]:
    """Return the running sums, without what keeps them from falling below 0."""
    return list(accumulate(_steps(found), initial=0))


def own_service(found: list[tuple[int, int]]) -> list[int]:
    """Return what comes of a recursion with the customer's own service."""
    waits = [0]
    for before, after in pairwise(found):
        waits.append(max(0, waits[-1] + after[1] - (after[0] - before[0])))
    return waits


def own_steps(found: list[tuple[int, int]]) -> list[int]:
    """Return the running sums of steps that take the customer's own service."""
    steps = (after[1] - (after[0] - before[0]) for before, after in pairwise(found))
    return list(accumulate(steps, initial=0))


def cut_at_zero(found: list[tuple[int, int]]) -> list[int]:
    """Return the running sums, with 0 wherever they are below."""
    return [max(0, each) for each in never_idle(found)]


def with_service(found: list[tuple[int, int]]) -> list[int]:
    """Return how long each customer is in the system."""
    return [wait + each[1] for wait, each in zip(waits_by_hand(found), found, strict=True)]


def waits_to_write(seed: int) -> Instance:
    """Return six customers; asked for are the running sums and the waits."""
    found = customers(seed)
    rows = "\n".join(
        f"| {number} | {arrival} | {service} |"
        for number, (arrival, service) in enumerate(found, 1)
    )
    task = (
        f"Seed {seed}. One server, first come, first served, idle at 0 s.\n\n"
        f"| customer | arrives at, s | needs, s |\n|---|---|---|\n{rows}\n\n"
        "- `sums`: the running sum of the steps for each customer, six numbers; the first is 0\n"
        "- `waits`: how long each customer waits before its service starts, six numbers in seconds"
    )
    return Instance(task, {"sums": never_idle(found), "waits": waits_by_hand(found)})


def _believing(
    idea: Callable[[list[tuple[int, int]]], list[int]],
) -> Callable[[int], dict[str, Any]]:
    """Return what somebody writes who has an idea of the waits, with the right sums."""

    def states(seed: int) -> dict[str, Any]:
        found = customers(seed)
        return {"sums": never_idle(found), "waits": idea(found)}

    return states


def sums_like_waits(seed: int) -> dict[str, Any]:
    """Return what somebody writes who never lets the running sum fall below 0."""
    waits = waits_by_hand(customers(seed))
    return {"sums": waits, "waits": waits}


def sums_of_own_steps(seed: int) -> dict[str, Any]:
    """Return what somebody writes who adds up steps with the customer's own service."""
    found = customers(seed)
    return {"sums": own_steps(found), "waits": waits_by_hand(found)}


def all_of_the_own_service(seed: int) -> dict[str, Any]:
    """Return what somebody writes who takes the customer's own service throughout."""
    found = customers(seed)
    return {"sums": own_steps(found), "waits": own_service(found)}


def steps_for_sums(seed: int) -> dict[str, Any]:
    """Return what somebody writes who does not add the steps up."""
    found = customers(seed)
    return {"sums": [0, *_steps(found)], "waits": waits_by_hand(found)}


BY_HAND = (
    Misconception(
        "cut at 0",
        "Once the server has been idle, the wait goes on from 0, not from the sum: it is the sum "
        "minus the least that the sum, or 0, has been so far.",
        _believing(cut_at_zero),
    ),
    Misconception(
        "steps of the own service",
        "A step takes the service of the customer in front, not the customer's own.",
        sums_of_own_steps,
    ),
    Misconception(
        "the own service in both",
        "A step takes the service of the customer in front, not the customer's own.",
        all_of_the_own_service,
    ),
    Misconception(
        "steps for sums",
        "Those are the steps. Add them up: each sum is the one before it plus the step.",
        steps_for_sums,
    ),
    Misconception(
        "never idle",
        "When the sum falls, the server may have been idle. It cannot save up that time: a wait is "
        "never below 0.",
        _believing(never_idle),
    ),
    Misconception(
        "the own service",
        "What a customer waits for is the service of the one in front, not its own.",
        _believing(own_service),
    ),
    Misconception(
        "response for wait",
        "A wait ends when the service starts.",
        _believing(with_service),
    ),
    Misconception(
        "sums that stop at 0",
        "The running sum just adds up the steps, and may fall below 0. The waits may not.",
        sums_like_waits,
    ),
)


def same_numbers(expected: Any, got: Any) -> str | None:
    """Agree on lists of equal numbers, whole or not."""
    if not isinstance(got, (list, tuple)) or len(got) != len(expected):
        return ""
    is_number = all(type(each) in (int, float) for each in got)
    return None if is_number and list(got) == list(expected) else ""


def form_of_a_state(state: Any) -> str:
    """Say what is wrong with how a state is written; "" if nothing is."""
    if isinstance(state, (list, tuple)) and all(type(each) in (int, float) for each in state):
        return (
            "" if len(state) == 6 else f"{state!r} has {len(state)} numbers; there are 6 customers"
        )
    return f"{state!r} is no list of six numbers, such as [0, 1, 4, 5, 0, 2]"


# 10.5, arrivals

ARRIVALS = st.builds(
    Call,
    st.sampled_from([0.5, 2.0, 5.0]),
    st.sampled_from([0.5, 2.0, 3.0]),
    st.integers(1, 4),
    st.integers(0, 9),
)
SOME_ARRIVALS = (
    Call(5.0, 2.0, 3, 7),
    Call(2.0, 0.5, 4, 1),
    Call(3.0, 1.0, 2, 0),
    Call(4.0, 3.0, 1, 0),
    Call(2.0, 2.0, 3, Make(np.random.default_rng, 5)),
)
# None at all is no mistake; it is tried late, like those.
NO_ARRIVALS = Call(4.0, 3.0, 0, 0)
REFUSED_ARRIVALS = (
    NO_ARRIVALS,
    Call(0.0, 1.0, 3),
    Call(5.0, 0.0, 3),
    Call(5.0, 1.0, -1),
    Call(-1.0, 2.0, 3),
)
MANY_ARRIVALS = Large(lambda: Call(5.0, 2.0, 1_000_000, 3), "1,000,000 requests")

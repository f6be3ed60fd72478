"""Lesson 9: an order of service of one's own, between first come, first served and a mark."""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import cache
from typing import Any

import numpy as np

from autograder.checks.finding import Misconception
from autograder.checks.scale import UnusableAnswerError, decision
from autograder.proxy.subject import Returned, Subject
from course_lib.scheduling.policies import RequestQueue, SortedRequestQueue
from course_lib.scheduling.request import Request
from course_lib.scheduling.scheduler import SchedulerConfig
from course_lib.simulation.cost_model import RooflineCostModel
from course_lib.simulation.metrics import ServiceLevel
from course_lib.simulation.result import SimulationResult
from course_lib.simulation.simulator import Simulator
from course_lib.simulation.tournament import share_served_meanwhile
from course_lib.simulation.workload import TraceRequest, Workload, load_azure
from course_lib.specs import GPUS, MODELS

NUM_REQUESTS = 400
RATE = 6.0
"""Requests per second: one and a half times to twice what the server can do."""
NUM_BLOCKS = 1000
LEVEL = ServiceLevel(ttft=2.0, tpot=0.05)
"""What counts as in time."""
TAIL_FROM, TAIL_TO = 1.5, 1.75
"""The p99 of TTFT over that of first come, first served from which on less is earned, and from
which on nothing."""


def first_come(prompt_tokens: int, max_tokens: int, arrival_time: float) -> float:
    """Serve in the order of arrival."""
    return arrival_time


def waiting_counts(prompt_tokens: int, max_tokens: int, arrival_time: float) -> float:
    """Serve the shortest first; a second of waiting counts as 100 tokens."""
    return prompt_tokens + max_tokens + 100 * arrival_time


def large_ones_wait(prompt_tokens: int, max_tokens: int, arrival_time: float) -> float:
    """Serve in the order of arrival, as if large ones had come 30 s later."""
    return arrival_time + (30.0 if prompt_tokens + max_tokens > 1500 else 0.0)


def shortest(prompt_tokens: int, max_tokens: int, arrival_time: float) -> float:
    """Serve the shortest first."""
    return prompt_tokens + max_tokens


def newest(prompt_tokens: int, max_tokens: int, arrival_time: float) -> float:
    """Serve the last one first."""
    return -arrival_time


def longest(prompt_tokens: int, max_tokens: int, arrival_time: float) -> float:
    """Serve the longest first."""
    return -(prompt_tokens + max_tokens)


def shortest_prompt(prompt_tokens: int, max_tokens: int, arrival_time: float) -> float:
    """Serve the shortest prompt first."""
    return prompt_tokens


@cache
def workload(seed: int) -> Workload:
    """Return requests of drawn lengths, at drawn times."""
    lengths = load_azure("conversation")[:3000]
    rng = random.Random(seed)
    now, requests = 0.0, []
    for _ in range(NUM_REQUESTS):
        now += rng.expovariate(RATE)
        drawn = rng.choice(lengths.requests)
        requests.append(TraceRequest(now, drawn.prompt_tokens, drawn.output_tokens))
    return replace(lengths, requests=tuple(requests))


def serve(policy: str | Callable[[], RequestQueue], seed: int) -> SimulationResult:
    """Serve the requests of a seed in this order."""
    model = RooflineCostModel(MODELS["llama-3.1-8b"], GPUS["a100-80gb"])
    simulator = Simulator(workload(seed), SchedulerConfig(policy=policy), model, NUM_BLOCKS)
    while simulator.step() is not None:
        pass
    return simulator.result()


def _figures(result: SimulationResult) -> tuple[float, float]:
    """Return the share served in time, and the p99 of TTFT in seconds."""
    in_time = LEVEL.is_met(result.ttft, result.tpot, result.e2e)
    return float(np.mean(in_time)), result.summary()["ttft_p99"]


@cache
def _at_the_foot(seed: int) -> tuple[float, float, float]:
    """Return both figures of first come, first served, and the share that is served meanwhile."""
    result = serve("fcfs", seed)
    return (*_figures(result), share_served_meanwhile(result))


def score(place: float, tail: float) -> float:
    """Return what a place is worth: all of it up to a tail of 1.5, nothing from 1.75 on.

    >>> [round(score(0.4, tail), 6) for tail in (1.2, 1.5, 1.625, 1.8)]
    [0.4, 0.4, 0.2, 0.0]
    """
    return place * min(1.0, max(0.0, (TAIL_TO - tail) / (TAIL_TO - TAIL_FROM)))


def contest(subject: Subject, seed: int) -> Mapping[str, float]:
    """Return what an order of service is worth, and its tail.

    Raises:
        UnusableAnswerError: A key raises, or cannot be compared.
    """

    class Own(SortedRequestQueue):
        """Serves by the keys that the player names."""

        def key(self, request: Request) -> tuple[float, ...]:
            """Ask for the key of a request."""
            told = request.num_prompt_tokens, request.max_tokens, request.arrival_time
            asked = f"my_key{told}"
            return _comparable(decision(subject, asked, *told), asked)

    in_time, p99 = _figures(serve(Own, seed))
    fcfs_in_time, fcfs_p99, mark = _at_the_foot(seed)
    place = min(1.0, max(0.0, (in_time - fcfs_in_time) / (mark - fcfs_in_time)))
    tail = p99 / fcfs_p99
    return {"worth": score(place, tail), "tail": tail}


def _comparable(key: Any, asked: str) -> tuple[float, ...]:
    """Return a key as a tuple of numbers.

    Raises:
        UnusableAnswerError: It is neither a number, an int or a float, nor a tuple of them.
    """
    numbers = tuple(key) if isinstance(key, (list, tuple)) else (key,)
    is_plain = all(type(n) in (int, float, bool) and not math.isnan(n) for n in numbers)
    if not numbers or not is_plain:
        complaint = (
            "a key is a number, or a tuple of numbers, and each is an int or a float: `float(...)` "
            "makes one of a number of another kind; the smallest is served first"
        )
        raise UnusableAnswerError(asked, Returned(key), complaint)
    return numbers


MISTAKES = (
    Misconception(
        "the shortest first, whoever waits",
        "Many are in time, and the longest pay for all of them: they wait as long as shorter ones "
        "come.",
        shortest,
    ),
    Misconception(
        "the last one first",
        "It gives up everybody who has waited, so the others are in time. That is what goodput "
        "alone rewards.",
        newest,
    ),
    Misconception(
        "the longest first",
        "It may beat first come, first served on goodput, since fewer share the lateness, but it "
        "harms everybody else.",
        longest,
    ),
    Misconception(
        "the shortest prompt first",
        "Many are in time, and who has a long prompt waits as long as shorter ones come.",
        shortest_prompt,
    ),
)

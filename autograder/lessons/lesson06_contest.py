"""Lesson 6: a victim policy of one's own, measured beside the course's."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence
from functools import cache

from autograder.checks.finding import Misconception
from autograder.checks.scale import UnusableAnswerError, decision
from autograder.proxy.subject import Returned, Subject
from course_lib.scheduling.request import Request
from course_lib.scheduling.scheduler import SchedulerConfig
from course_lib.simulation.cost_model import RooflineCostModel
from course_lib.simulation.simulator import Simulator
from course_lib.simulation.workload import TraceRequest, load_azure
from course_lib.specs import GPUS, MODELS

Seen = tuple[int, int]
"""What a policy sees of a running request: computed tokens, and how often it was preempted."""
Choose = Callable[[Sequence[Seen]], int]

NUM_REQUESTS = 250
RATE = 6.0
"""Requests per second: more than the memory has room for, as long as they come."""
NUM_BLOCKS = 1500
MOST_OFTEN = 2
"""How often one request may be preempted."""


def last_in(running: Sequence[Seen]) -> int:
    """Choose the last one in, as under first come, first served."""
    return len(running) - 1


def cheapest_once(running: Sequence[Seen]) -> int:
    """Choose, of those who were preempted least often, the one that loses least."""
    return min(range(len(running)), key=lambda i: (running[i][1], running[i][0]))


def least_computed(running: Sequence[Seen]) -> int:
    """Choose the one that loses least."""
    return min(range(len(running)), key=lambda i: running[i][0])


def most_computed(running: Sequence[Seen]) -> int:
    """Choose the one that frees most."""
    return max(range(len(running)), key=lambda i: running[i][0])


def first_in(running: Sequence[Seen]) -> int:
    """Choose the one that was admitted first."""
    return 0


def least_preempted(running: Sequence[Seen]) -> int:
    """Choose, of those who were preempted least often, the last one in."""
    return min(range(len(running)), key=lambda i: (running[i][1], -i))


@cache
def _lengths() -> tuple[tuple[int, int], ...]:
    return tuple((r.prompt_tokens, r.output_tokens) for r in load_azure("conversation")[:3000])


def workload(seed: int) -> list[TraceRequest]:
    """Return requests of drawn lengths, at drawn times."""
    rng = random.Random(seed)
    now, requests = 0.0, []
    for _ in range(NUM_REQUESTS):
        now += rng.expovariate(RATE)
        requests.append(TraceRequest(now, *rng.choice(_lengths())))
    return requests


def contest(subject: Subject, seed: int) -> Mapping[str, float]:
    """Return what is computed again under a policy, and how often one request gives way.

    Raises:
        UnusableAnswerError: The policy raises, or names nobody who runs.
    """

    def choose(running: Sequence[Request]) -> int:
        seen = [(request.num_computed_tokens, request.num_preemptions) for request in running]
        asked = f"choose_victim({seen if len(seen) < 5 else [*seen[:4], '...']})"
        answer = decision(subject, asked, seen)
        if type(answer) is not int or not 0 <= answer < len(seen):
            complaint = f"it is no index of the {len(seen)} that run"
            raise UnusableAnswerError(asked, Returned(answer), complaint)
        return answer

    requests = workload(seed)
    model = RooflineCostModel(MODELS["llama-3.1-8b"], GPUS["a100-80gb"])
    config = SchedulerConfig(max_num_seqs=256, victim_policy=choose)
    simulator = Simulator(requests, config, model, NUM_BLOCKS)
    while simulator.step() is not None:
        pass
    result = simulator.result()
    needed = sum(r.prompt_tokens + r.output_tokens - 1 for r in requests)
    computed = int(result.steps.column("num_tokens").sum())
    most = max(outcome.num_preemptions for outcome in result.requests)
    return {"recomputed": float(computed - needed), "most often": float(most)}


MISTAKES = (
    Misconception(
        "the biggest goes",
        "Each one frees the most, and has the most to compute again.",
        most_computed,
    ),
    Misconception(
        "the first one in",
        "Who was there first has much to compute again, and might soon have been done.",
        first_in,
    ),
    Misconception(
        "only who has paid already",
        "Sharing the burden is half of it: what a victim loses counts as well.",
        least_preempted,
    ),
    Misconception(
        "only what it loses",
        "Who is short has often computed least after its return too, and is chosen again.",
        least_computed,
    ),
)

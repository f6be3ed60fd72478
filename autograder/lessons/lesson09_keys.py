"""Lesson 9: the exercises on keys, and how one method of a queue is checked."""

from __future__ import annotations

from autograder.checks.exercise import Exercise
from autograder.checks.finding import Misconception
from autograder.checks.reference import Method
from autograder.checks.stateful import LargeLife, StatefulCheck, Twin
from autograder.lessons import lesson09_fair_lives as fair_lives
from autograder.lessons import lesson09_fair_mistakes as unfair
from autograder.lessons import lesson09_key_lives as key_lives
from autograder.lessons import lesson09_key_mistakes as mistakes
from autograder.lessons import lesson09_lives as lives
from course_lib.scheduling.policies import (
    AgeingRequestQueue,
    EDFRequestQueue,
    PriorityRequestQueue,
    SJFRequestQueue,
    SRPTRequestQueue,
    WFQRequestQueue,
)
from course_lib.scheduling.watch.queue_lines import service_line


def method_check(
    owner: type,
    name: str,
    machine: type[Twin],
    probes: tuple[lives.Script, ...],
    misconceptions: tuple[Misconception, ...],
    *,
    on: type | None = None,
    large: tuple[LargeLife, ...] = (),
    max_steps: int = 10,
) -> StatefulCheck:
    """Return the check of one method of a queue, whose line is shown beside each step."""
    return StatefulCheck(
        reference=Method(owner, name, on=on),
        machine=machine,
        probes=probes,
        misconceptions=misconceptions,
        max_steps=max_steps,
        state_line=service_line,
        large=large,
    )


# 9.3

PRIORITY = Exercise(
    id="9.3a",
    title="A key: priority",
    asks="Return the key that serves the most important first, of equals the earliest.",
    points=2,
    minutes=3,
    difficulty=1,
    check=method_check(
        PriorityRequestQueue, "key", lives.QueueLife, key_lives.PRIORITIES, mistakes.PRIORITY
    ),
    hints=(
        "Which of priority −1 and priority 0 is more important?",
        "A tuple is compared from the left: the most important part stands in front.",
        "`(priority, arrival time, request id)`",
    ),
)

SHORTEST = Exercise(
    id="9.3b",
    title="A key: shortest first",
    asks="Return the key that serves who declares the fewest tokens first.",
    points=2,
    minutes=3,
    difficulty=1,
    check=method_check(SJFRequestQueue, "key", lives.QueueLife, key_lives.SIZES, mistakes.SHORTEST),
    hints=(
        "What does a request say of its length before it runs?",
        "Add the tokens of the prompt and those that it may generate at most.",
        "`num_prompt_tokens + max_tokens`",
    ),
)

REMAINING = Exercise(
    id="9.3c",
    title="A key: shortest rest first",
    asks="Return the key that serves first who has the fewest tokens left to be worked on.",
    points=3,
    minutes=4,
    difficulty=1,
    check=method_check(
        SRPTRequestQueue, "key", lives.QueueLife, key_lives.SIZES, mistakes.REMAINING
    ),
    hints=(
        "18 of an answer's 20 tokens are there at a preemption. What is left to be worked on?",
        "Take what it declares, less what it has generated.",
        "`num_prompt_tokens + max_tokens - num_output_tokens`",
    ),
)

AGEING = Exercise(
    id="9.3d",
    title="A key: ageing",
    asks="Return a key that orders requests by their aged priority, and needs no clock.",
    points=5,
    minutes=10,
    difficulty=2,
    check=method_check(
        AgeingRequestQueue, "key", lives.AgeingLife, key_lives.AGES, mistakes.AGEING
    ),
    hints=(
        "Write down the aged priorities of two requests at time t. What stands in both of them?",
        "What all share at any time does not decide between them; leave it out. Mind the ties: "
        "times `ageing_seconds` the rest is a time, and exact for whole numbers.",
        "`priority * ageing_seconds + arrival_time`, then arrival time and id",
    ),
)

DEADLINE = Exercise(
    id="9.3e",
    title="A key: deadlines",
    asks="Return the key that serves first who is due first.",
    points=2,
    minutes=3,
    difficulty=1,
    check=method_check(
        EDFRequestQueue, "key", lives.DeadlineLife, key_lives.DUE, mistakes.DEADLINE
    ),
    hints=(
        "What is the deadline of a request that has none?",
        "Compare deadlines, then arrival times. Infinity is larger than any time.",
        "`(deadline, arrival time)`",
    ),
)

# 9.11, the stretch

WEIGHTED = Exercise(
    id="9.11",
    title="A key: weighted fair queueing (stretch)",
    asks="Return when a request would be done on a server that serves all clients at once.",
    points=3,
    minutes=14,
    difficulty=3,
    check=method_check(
        WFQRequestQueue, "key", fair_lives.WeightsLife, fair_lives.WEIGHTS, unfair.WEIGHTED
    ),
    hints=(
        "When can a client's second request begin, on a server that serves its first one?",
        "It begins when the one before it ends, or now, whichever is later. It takes its tokens "
        "over the weight of its client.",
        "`max(virtual time, last finish) + cost / weight`",
    ),
)

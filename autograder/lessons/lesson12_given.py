"""Lesson 12: its task by hand, a scheduler that plans under a small budget."""

from __future__ import annotations

from functools import cache
from itertools import count
from typing import Any

from autograder.checks.finding import Misconception
from autograder.checks.trace import Instance
from course_lib.scheduling.watch.by_hand import HandStep, HandTrace, plans_by_hand

_STRIDE = 2**32
"""From one instance of a seed to its next: no two seeds share any."""


@cache
def _trace(seed: int) -> HandTrace:
    """Return an instance in which the hit shows: the prompt of r2 would fit into step 1 whole."""
    for number in count(seed, _STRIDE):
        trace = plans_by_hand(number)
        if len(trace.requests[2].prompt_token_ids) <= _left_for_r2(trace):
            return trace
    raise AssertionError


def _left_for_r2(trace: HandTrace) -> int:
    """Return what the others leave of the budget of step 1."""
    plan = trace.steps[1].plan
    return 10 - sum(number for name, number in plan.items() if name != "r2")


def _first_victim(trace: HandTrace) -> int:
    """Return the number of the first step in which somebody gives way."""
    return next(number for number, step in enumerate(trace.steps) if step.preempted)


def _blocks(step: HandStep) -> str:
    return ", ".join(
        f"{name} has {' '.join(map(str, blocks))}" for name, blocks in step.tables.items()
    )


def plans_to_write(seed: int) -> Instance:
    """Return three requests under a small budget; asked for is who gets what, and who gives way."""
    trace = _trace(seed)
    when = _first_victim(trace)
    rows = "\n".join(
        f"| {each.request_id} | {len(each.prompt_token_ids)} | {each.step} |"
        for each in trace.requests
    )
    start = trace.steps[0]
    task = (
        f"Seed {seed}. Eight blocks of 4 tokens with a prefix cache, a budget of 10 tokens, first "
        "come, first served. All prompts are cut as the budget asks; answers are longer than you "
        "need.\n\n"
        f"| request | tokens of the prompt | comes before step |\n|---|---|---|\n{rows}\n\n"
        "r2 begins with the same 4 tokens as r0, and has nothing else in common with anybody.\n\n"
        f"The plan of step 0, and the blocks after it: `{dict(start.plan)}`; {_blocks(start)}. "
        "Every token that a step has to give comes before the next step.\n\n"
        '- `step 1`, `step 2`: the plans of these steps, such as `{"r0": 1, "r1": 4}`\n'
        "- `when`: the number of the first step in which a request finds no block; `who`: who "
        "gives way\n"
        "- `its plan`: the plan of that step\n"
        "- `free`: how many blocks are free after it, once that plan stands"
    )
    answer: dict[str, Any] = {
        "step 1": dict(trace.steps[1].plan),
        "step 2": dict(trace.steps[2].plan),
        "when": when,
        "who": trace.steps[when].preempted[0],
        "its plan": dict(trace.steps[when].plan),
        "free": len(trace.steps[when].free),
    }
    return Instance(task, answer)


def form_of_a_plan(state: Any) -> str:
    """Say what is wrong with how a state is written; "" if nothing is."""
    if type(state) in (int, str):
        return ""
    if isinstance(state, dict) and all(
        isinstance(name, str) and type(number) is int for name, number in state.items()
    ):
        return ""
    return (
        f'{state!r} is neither a whole number, nor a name, nor a plan such as {{"r0": 1, "r1": 4}}'
    )


def _written(seed: int, **changed: Any) -> dict[str, Any]:
    return {**plans_to_write(seed).answer, **changed}


def no_hit(seed: int) -> dict[str, Any]:
    """Let r2 compute its whole prompt."""
    trace = _trace(seed)
    plan = {**trace.steps[1].plan, "r2": len(trace.requests[2].prompt_token_ids)}
    return _written(seed, **{"step 1": plan})


def from_the_beginning(seed: int) -> dict[str, Any]:
    """Give r1 its whole prompt in step 1, as if step 0 had computed nothing of it."""
    trace = _trace(seed)
    plan = {**trace.steps[1].plan, "r1": len(trace.requests[1].prompt_token_ids)}
    return _written(seed, **{"step 1": plan})


def shared_block_is_freed(seed: int) -> dict[str, Any]:
    """Count the shared block among those that come back, or forget who takes one of them."""
    return _written(seed, free=plans_to_write(seed).answer["free"] + 1)


def all_that_the_victim_held(seed: int) -> dict[str, Any]:
    """Count the shared block, and forget who takes one of those that come back."""
    return _written(seed, free=plans_to_write(seed).answer["free"] + 2)


def a_step_early(seed: int) -> dict[str, Any]:
    """Ask for a block when the last one has just been filled."""
    return _written(seed, when=_first_victim(_trace(seed)) - 1)


def victim_keeps_its_token(seed: int) -> dict[str, Any]:
    """Leave the victim in the plan."""
    answer = plans_to_write(seed).answer
    return _written(seed, **{"its plan": {**answer["its plan"], answer["who"]: 1}})


def who_asks_gives_way(seed: int) -> dict[str, Any]:
    """Let the one that finds no block give way itself, whoever stands behind it."""
    trace = _trace(seed)
    when = _first_victim(trace)
    before, after = trace.steps[when - 1].tables, trace.steps[when].tables
    grown = [name for name, blocks in after.items() if len(blocks) > len(before[name])]
    asks = grown[-1] if grown else trace.steps[when].preempted[0]
    return _written(seed, who=asks)


def first_gives_way(seed: int) -> dict[str, Any]:
    """Let the one that was admitted first give way."""
    return _written(seed, who=_trace(seed).requests[0].request_id)


def free_before(seed: int) -> dict[str, Any]:
    """Count the free blocks before anybody has given way."""
    trace = _trace(seed)
    return _written(seed, free=len(trace.steps[_first_victim(trace) - 1].free))


_NOT_FREE = (
    "A block that somebody else holds as well, such as r2's first, has one holder less, and is not "
    "free. And whoever found no block takes one of those that come back, if it still runs."
)

BY_HAND = (
    Misconception(
        "no hit",
        "The first 4 tokens of r2 are in a block of r0 already. They need not be computed, and "
        "cost no budget.",
        no_hit,
    ),
    Misconception(
        "from the beginning again",
        "What step 0 has computed of r1 stays computed: it gets the rest.",
        from_the_beginning,
    ),
    Misconception(
        "one free block too many",
        _NOT_FREE,
        shared_block_is_freed,
    ),
    Misconception(
        "two free blocks too many",
        _NOT_FREE,
        all_that_the_victim_held,
    ),
    Misconception(
        "a step early",
        "A request with 4, 8 or 12 computed tokens has filled its last block, and needs no other "
        "yet. It asks in the step that computes a token behind them.",
        a_step_early,
    ),
    Misconception(
        "the victim keeps its token",
        "Who is preempted computes nothing in this step, whatever it had got already.",
        victim_keeps_its_token,
    ),
    Misconception(
        "who asks gives way",
        "Whoever finds no block gives way itself only if nobody was admitted behind it.",
        who_asks_gives_way,
    ),
    Misconception(
        "the first gives way",
        "First come, first served: whoever was admitted last gives way.",
        first_gives_way,
    ),
    Misconception(
        "free before anybody gave way",
        "So many are free after the step before. In this one the victim gives blocks back, and "
        "the others take what they need.",
        free_before,
    ),
)

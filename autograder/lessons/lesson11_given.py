"""Lesson 11: prompts to be cut by hand, and the ways in which people cut them wrongly."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from random import Random
from typing import Any

from autograder.checks.finding import Misconception
from autograder.checks.trace import Instance
from course_lib.kv_cache.manager import KVCacheManager
from course_lib.scheduling.request import Request
from course_lib.scheduling.scheduler import Scheduler, SchedulerConfig
from course_lib.scheduling.watch.iterations import run_iteration

BUDGET, THRESHOLD, NUM_DECODES = 8, 4, 2
CASES = {"": 0, ", threshold": THRESHOLD}
"""What a state's name ends with, and the threshold that holds in it."""


def prompts_of(seed: int) -> dict[str, int]:
    """Return two prompts: one that is cut, and a short one behind it that a threshold helps.

    >>> prompts_of(1)
    {'A': 19, 'B': 5}
    """
    if seed == 1:
        return {"A": 19, "B": 5}
    draw = Random(seed)
    while True:
        prompts = {"A": draw.randrange(14, 25), "B": draw.randrange(3, 7)}
        without, with_threshold = (_computed(prompts, limit) for limit in CASES.values())
        waits = without["B"].count(0)
        is_helped = _done(with_threshold["B"], prompts["B"]) < _done(without["B"], prompts["B"])
        if waits >= 2 and is_helped and without["A"][-1] != BUDGET - NUM_DECODES:
            return prompts


def chunks_to_write(seed: int) -> Instance:
    """Return a small engine with two prompts, and what each of them computes, step by step."""
    prompts = prompts_of(seed)
    task = (
        f"Seed {seed}, budget {BUDGET}. `d1` and `d2` decode, and go on. Before step 1, `A` comes "
        f"with a prompt of {prompts['A']} tokens, and right behind it `B` with {prompts['B']}. "
        f"There is memory for all.\n\nHow many tokens does each compute in step 1, 2, …? Stop with "
        "the step in which the later one of the two gets its first token. A request with no token "
        "in a step has a 0 there; who is done with its prompt decodes, a token a step.\n\n"
        f"`A` and `B` without a threshold, then `A, threshold` and `B, threshold` with "
        f"`long_prefill_token_threshold={THRESHOLD}`."
    )
    return Instance(task, _states(_computed(prompts, limit) for limit in CASES.values()))


def _states(cases: Any) -> dict[str, list[int]]:
    return {
        f"{name}{suffix}": tokens
        for suffix, computed in zip(CASES, cases, strict=True)
        for name, tokens in computed.items()
    }


def _computed(prompts: Mapping[str, int], threshold: int) -> dict[str, list[int]]:
    """Return what each prompt computes in each step, by the scheduler of the library."""
    config = SchedulerConfig(max_num_batched_tokens=BUDGET, long_prefill_token_threshold=threshold)
    scheduler = Scheduler(config, KVCacheManager(100, 4, enable_caching=False))
    for number in range(NUM_DECODES):
        scheduler.add_request(Request(f"d{number + 1}", [1], 99))
    run_iteration(scheduler)
    for name, num_tokens in prompts.items():
        scheduler.add_request(Request(name, [1] * num_tokens, 99))
    left = {name: scheduler.requests[name] for name in prompts}
    computed: dict[str, list[int]] = {name: [] for name in prompts}
    while not all(request.num_output_tokens for request in left.values()):
        before = {name: request.num_computed_tokens for name, request in left.items()}
        run_iteration(scheduler)
        for name, request in left.items():
            computed[name].append(request.num_computed_tokens - before[name])
    return computed


def _done(tokens: list[int], prompt: int) -> int:
    """Return the step in which a prompt is computed to its end."""
    return next(step for step in range(len(tokens)) if sum(tokens[: step + 1]) >= prompt)


def form_of_a_state(got: Any) -> str:
    """Say what is wrong with how a state is written; "" if nothing is."""
    if not isinstance(got, (list, tuple)) or not all(type(each) is int for each in got):
        return "a state is a list of whole numbers, one for each step"
    return ""


# Wrong ways


def _served(prompts: Mapping[str, int], threshold: int, room: int, alone: bool) -> Any:
    """Serve the prompts in turn.

    Args:
        prompts: Their lengths.
        threshold: The most tokens of one of them in a step; 0 for no such limit.
        room: Tokens that a step has for both.
        alone: Whether nobody begins in a step in which somebody ends.
    """
    lacking = dict(prompts)
    computed: dict[str, list[int]] = {name: [] for name in prompts}
    while any(lacking.values()):
        left, has_ended = room, False
        for name in prompts:
            wanted = lacking[name] or 1
            if 0 < threshold < wanted:
                wanted = threshold
            given = 0 if has_ended and lacking[name] else min(wanted, left)
            has_ended = alone and 0 < lacking[name] <= given
            lacking[name] = max(0, lacking[name] - given)
            computed[name].append(given)
            left -= given
    return computed


def decodes_forgotten(seed: int) -> dict[str, list[int]]:
    """Give the whole budget to the prompts."""
    prompts = prompts_of(seed)
    return _states(_served(prompts, limit, BUDGET, False) for limit in CASES.values())


def a_step_of_its_own(seed: int) -> dict[str, list[int]]:
    """Leave what the last chunk does not need."""
    prompts = prompts_of(seed)
    room = BUDGET - NUM_DECODES
    return _states(_served(prompts, limit, room, True) for limit in CASES.values())


def threshold_for_both(seed: int) -> dict[str, list[int]]:
    """Give the prompts no more than the threshold together."""
    prompts = prompts_of(seed)
    rooms = (BUDGET - NUM_DECODES, THRESHOLD)
    return _states(
        _served(prompts, limit, room, False)
        for limit, room in zip(CASES.values(), rooms, strict=True)
    )


def no_threshold(seed: int) -> dict[str, list[int]]:
    """Cut nobody to the threshold."""
    prompts = prompts_of(seed)
    return _states(_computed(prompts, 0) for _ in CASES)


def _told_until_read(seed: int, rest: Callable[[int], list[int]]) -> dict[str, list[int]]:
    """Return the states with other entries behind the end of a prompt, made from their number."""
    prompts, states = prompts_of(seed), chunks_to_write(seed).answer
    told = {}
    for name, tokens in states.items():
        end = _done(tokens, prompts[name[0]]) + 1
        told[name] = tokens[:end] + rest(len(tokens) - end)
    return told


def nothing_for_an_answer(seed: int) -> dict[str, list[int]]:
    """Give who is done with its prompt nothing."""
    return _told_until_read(seed, lambda num_left: [0] * num_left)


def ends_with_its_own_prompt(seed: int) -> dict[str, list[int]]:
    """Stop each list where its own prompt ends."""
    return _told_until_read(seed, lambda num_left: [])


BY_HAND = (
    Misconception(
        "the decodes are forgotten",
        "d1 and d2 are served first, a token each: 6 of the 8 are left for prompts.",
        decodes_forgotten,
    ),
    Misconception(
        "a step of its own",
        "What the last chunk of A leaves of the budget goes to B in the same step.",
        a_step_of_its_own,
    ),
    Misconception(
        "one threshold for both",
        "The threshold holds for each request by itself: what A may not use, B may.",
        threshold_for_both,
    ),
    Misconception(
        "no threshold",
        "A lacks more than the threshold and is not alone: it is cut.",
        no_threshold,
    ),
    Misconception(
        "nothing for an answer",
        "Who is done with its prompt decodes from then on: a token in each step, not 0.",
        nothing_for_an_answer,
    ),
    Misconception(
        "a list that ends with its own prompt",
        "Both lists go on to the step in which the later of the two gets its first token: who is "
        "done earlier decodes in the rest of them.",
        ends_with_its_own_prompt,
    ),
)

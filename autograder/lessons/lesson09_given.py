"""Lesson 9: its task by hand, the counters of a token-fair queue."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from typing import Any

from autograder.checks.finding import Misconception
from autograder.checks.trace import Instance
from autograder.lessons.lesson09_fair_mistakes import (
    FreePrompts,
    LiftsToAnybody,
    NoLift,
    OneForAll,
)
from course_lib.scheduling.policies import VTCRequestQueue
from course_lib.scheduling.request import Request
from course_lib.scheduling.watch.by_hand import CounterStep, counters_by_hand

_ADD = re.compile(r"add (?P<name>\w+)\((?P<tokens>\d+)\)")
_CLIENT = re.compile(r"[abc]")
_TOKENS = re.compile(r"(?P<tokens>\d+) tokens? for (?P<client>\w)")


def counters_under(make_queue: type[VTCRequestQueue], seed: int) -> dict[str, Any]:
    """Return who is taken in each step, and the counters at the end, with such a queue."""
    queue = make_queue(input_weight=1.0, output_weight=2.0)
    states: dict[str, Any] = {}
    for number, step in enumerate(counters_by_hand(seed), 1):
        if added := _ADD.fullmatch(step.action):
            name = added["name"]
            queue.add(Request(name, [1] * int(added["tokens"]), 1, client_id=name[0]))
        elif generated := _TOKENS.fullmatch(step.action):
            client = Request("x", [1], 1, client_id=generated["client"])
            queue.charge([client] * int(generated["tokens"]))
        else:
            states[f"step {number}"] = queue.pop().request_id
    return states | {client: int(queue.counters[client]) for client in sorted(queue.counters)}


def counters_to_write(seed: int) -> Instance:
    """Return what is done to a token-fair queue; asked for is who is taken, and the counters."""
    steps = counters_by_hand(seed)
    listed = "\n".join(f"{number}. {step.action}" for number, step in enumerate(steps, 1))
    answer = counters_under(VTCRequestQueue, seed)
    takes = [name for name in answer if name.startswith("step")]
    clients = [name for name in answer if name not in takes]
    task = (
        f"Seed {seed}. A token of a prompt counts 1, a generated one 2. `add b1(4)` is a request "
        "of client b with a prompt of 4 tokens, `3 tokens for a` were generated for a, `pop` takes "
        "the next request and charges for its prompt. Of clients with equal counters the first by "
        "name is next. If a client has nothing waiting when its request is added, its counter is "
        "first raised to the smallest counter of the clients that wait or, when nobody waits, to "
        "that of the client taken last; a counter never falls.\n\n"
        f"{listed}\n\n"
        f'- `{takes[0]}` and so on, for each `pop`: who is taken, such as `"a1"`\n'
        f"- {', '.join(f'`{client}`' for client in clients)}: the counter of the client at the end"
    )
    return Instance(task, answer, _notes(steps))


def _notes(steps: Sequence[CounterStep]) -> dict[str, str]:
    """Return where to look again for each state: who waits at a `pop`, and what moves a counter."""
    notes: dict[str, str] = {}
    waiting: Counter[str] = Counter()
    before: dict[str, float] = {}
    moved: dict[str, list[str]] = {}
    for number, step in enumerate(steps, 1):
        if step.taken:
            clients = sorted(client for client, number in waiting.items() if number)
            counters = [before.get(client, 0.0) for client in clients]
            is_even = counters.count(min(counters)) > 1
            tie = ", and the smallest counters are equal" if is_even else ""
            notes[f"step {number}"] = f"Then requests of {' and '.join(clients)} wait{tie}"
            waiting[step.taken[0]] -= 1
        elif added := _ADD.fullmatch(step.action):
            waiting[added["name"][0]] += 1
        for client, counter in step.counters.items():
            if counter != before.get(client, 0.0):
                moved.setdefault(client, []).append(str(number))
        before = dict(step.counters)
    return notes | {
        client: f"Steps that change the counter of {client}: {', '.join(numbers)}"
        for client, numbers in moved.items()
    }


def same_state(expected: Any, got: Any) -> str | None:
    """Agree on equal names, and on equal numbers, whole or not.

    >>> same_state("a1", "a1"), same_state(23, 23.0), same_state(23, 24)
    (None, None, '')
    >>> same_state(23, "23")
    "a counter is a number, and '23' is text: write it without quotes"
    """
    if isinstance(expected, str):
        if isinstance(got, str):
            if expected != got and _CLIENT.fullmatch(got):
                return f'{got!r} is a client; asked for is which of its requests, such as "a1"'
            return None if expected == got else ""
        return 'who is taken is the name of a request, such as "a1"'
    if isinstance(got, str):
        return f"a counter is a number, and {got!r} is text: write it without quotes"
    return None if expected == got and type(got) in (int, float) else ""


def form_of_a_state(state: Any) -> str:
    """Say what is wrong with how a state is written; "" if nothing is."""
    if isinstance(state, str):
        is_tidy = state == state.strip()
        return "" if is_tidy else f"{state!r} begins or ends with a blank: write it without"
    if type(state) in (int, float):
        return ""
    return f'{state!r} is neither the name of a request, such as "a1", nor a number'


COUNTERS = (
    Misconception(
        "no lift",
        "A client that had nothing waiting is raised to the smallest counter of the clients "
        "that wait, or, when nobody waits, to that of the client taken last.",
        lambda seed: counters_under(NoLift, seed),
    ),
    Misconception(
        "lifted to anybody",
        "Only the counters of clients that wait count; when nobody waits, the level is the counter "
        "of the client taken last.",
        lambda seed: counters_under(LiftsToAnybody, seed),
    ),
    Misconception(
        "prompts are free",
        "Whoever is taken is charged for the tokens of the prompt at once.",
        lambda seed: counters_under(FreePrompts, seed),
    ),
    Misconception(
        "one weight for all",
        "A generated token counts 2.",
        lambda seed: counters_under(OneForAll, seed),
    ),
)

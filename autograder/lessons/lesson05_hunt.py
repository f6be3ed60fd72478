"""Lesson 5: the hunt. Who starts when, by rules of admission that agree or do not."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from typing import Any

from hypothesis import strategies as st

from autograder.checks.finding import Misconception
from autograder.checks.function import Call

Request = tuple[str, int, int]
"""A name, tokens of the prompt, tokens to generate."""
Abort = tuple[str, int]
"""A name, and the step at whose end its client goes away."""
FirstSteps = Callable[[Sequence[Request], int, int, Sequence[Abort]], dict[str, int]]

MOST_STEPS = 400
"""Steps after which a workload is given up."""


def first_steps_suspect(
    requests: Sequence[Request], seats: int, budget: int, aborts: Sequence[Abort] = ()
) -> dict[str, int]:
    """Return the step, from 0, in which each request starts."""
    waiting, chunked = deque(requests), None
    running: dict[str, int] = {}  # name: tokens to generate
    started: dict[str, int] = {}
    batch_is_full = False
    for step in range(400):
        tokens = budget - len(running)
        joining: dict[str, tuple[int, int, int]] = {}  # name: tokens now, tokens lacking, output
        if chunked is not None:  # the prompt that was cut goes on first
            name, left, output = chunked
            joining[name] = min(left, tokens), left, output
            tokens -= joining[name][0]
        while waiting and tokens > 0 and not batch_is_full:
            if len(running) + len(joining) + (chunked is not None) >= seats:
                batch_is_full = True
                break
            name, prompt, output = waiting.popleft()
            started[name] = step
            joining[name] = min(prompt, tokens), prompt, output
            tokens -= joining[name][0]
        chunked = None
        for name, (computed, left, output) in joining.items():
            if computed < left:
                chunked = name, left - computed, output
            else:
                running[name] = output
        ended = [name for name in running if running[name] == 1]
        running = {name: left - 1 for name, left in running.items() if left > 1}
        if ended:
            batch_is_full = False
        for name, last_step in aborts:
            if last_step == step:
                running.pop(name, None)
    return started


def _first_steps(
    requests: Sequence[Request],
    seats: int,
    budget: int,
    aborts: Sequence[Abort],
    is_full: Callable[[_Batch, int], bool],
    has_budget: Callable[[_Batch, Request], bool] = lambda batch, request: batch.tokens > 0,
) -> dict[str, int]:
    """Play a workload; rules say whether the batch is full, and whether there is budget."""
    batch, waiting = _Batch(), deque(requests)
    started: dict[str, int] = {}
    for step in range(MOST_STEPS):
        batch.begin(budget)
        while waiting and has_budget(batch, waiting[0]) and not is_full(batch, seats):
            name, prompt, output = waiting.popleft()
            started[name] = step
            batch.join(name, prompt, output)
        batch.end([name for name, last_step in aborts if last_step == step])
    return started


class _Batch:
    """Who runs, whose prompt was cut, and who computes a prompt in this step."""

    def __init__(self) -> None:
        self.running: dict[str, int] = {}
        self.chunked: tuple[str, int, int] | None = None
        self.joining: dict[str, tuple[int, int, int]] = {}
        self.tokens: int = 0
        self.is_marked_full = False

    def begin(self, budget: int) -> None:
        """Begin a step: decodes cost a token each, and the prompt that was cut goes on."""
        self.tokens, self.joining = budget - len(self.running), {}
        if self.chunked is not None:
            self.join(*self.chunked)

    def join(self, name: str, left: int, output: int) -> None:
        """Compute of a prompt what the budget allows."""
        computed = min(left, self.tokens)
        self.joining[name] = computed, left, output
        self.tokens -= computed

    def end(self, aborted: Sequence[str]) -> None:
        """End a step: everybody who is caught up gets a token, and some go away."""
        self.chunked = None
        for name, (computed, left, output) in self.joining.items():
            if computed < left:
                self.chunked = name, left - computed, output
            else:
                self.running[name] = output
        if 1 in self.running.values():
            self.is_marked_full = False
        self.running = {name: left - 1 for name, left in self.running.items() if left > 1}
        for name in aborted:
            self.running.pop(name, None)


def _twice(batch: _Batch) -> int:
    return len(batch.running) + len(batch.joining) + (batch.chunked is not None)


def _once(batch: _Batch) -> int:
    return len(batch.running) + len(batch.joining)


def _latched(count: Callable[[_Batch], int]) -> Callable[[_Batch, int], bool]:
    """Return a rule that remembers that the batch was full until somebody finishes."""

    def is_full(batch: _Batch, seats: int) -> bool:
        batch.is_marked_full = batch.is_marked_full or count(batch) >= seats
        return batch.is_marked_full

    return is_full


def first_steps(
    requests: Sequence[Request], seats: int, budget: int, aborts: Sequence[Abort] = ()
) -> dict[str, int]:
    """Return the step, from 0, in which each request starts."""
    return _first_steps(requests, seats, budget, aborts, lambda b, s: _once(b) >= s)


def still_latched(
    requests: Sequence[Request], seats: int, budget: int, aborts: Sequence[Abort] = ()
) -> dict[str, int]:
    """Do as the suspect does."""
    return _first_steps(requests, seats, budget, aborts, _latched(_twice))


def cleared_in_every_step(
    requests: Sequence[Request], seats: int, budget: int, aborts: Sequence[Abort] = ()
) -> dict[str, int]:
    """Count the prompt that was cut twice, and look anew in every step."""
    return _first_steps(requests, seats, budget, aborts, lambda b, s: _twice(b) >= s)


def counted_once(
    requests: Sequence[Request], seats: int, budget: int, aborts: Sequence[Abort] = ()
) -> dict[str, int]:
    """Count the prompt that was cut once, and remember that the batch was full."""
    return _first_steps(requests, seats, budget, aborts, _latched(_once))


def running_alone(
    requests: Sequence[Request], seats: int, budget: int, aborts: Sequence[Abort] = ()
) -> dict[str, int]:
    """Count those who decode, and not those who join in this step."""
    return _first_steps(requests, seats, budget, aborts, lambda b, s: len(b.running) >= s)


def without_seats(
    requests: Sequence[Request], seats: int, budget: int, aborts: Sequence[Abort] = ()
) -> dict[str, int]:
    """Look at the budget alone."""
    return _first_steps(requests, seats, budget, aborts, lambda b, s: False)


def one_too_many(
    requests: Sequence[Request], seats: int, budget: int, aborts: Sequence[Abort] = ()
) -> dict[str, int]:
    """Let one more in than there are seats."""
    return _first_steps(requests, seats, budget, aborts, lambda b, s: _once(b) > s)


def without_budget(
    requests: Sequence[Request], seats: int, budget: int, aborts: Sequence[Abort] = ()
) -> dict[str, int]:
    """Look at the seats alone."""
    full, has_budget = (lambda b, s: _once(b) >= s), (lambda b, r: True)
    return _first_steps(requests, seats, budget, aborts, full, has_budget)


def uncut(
    requests: Sequence[Request], seats: int, budget: int, aborts: Sequence[Abort] = ()
) -> dict[str, int]:
    """Let a request wait until the budget is enough for all of its prompt."""
    full, has_budget = (lambda b, s: _once(b) >= s), (lambda b, r: r[1] <= b.tokens)
    return _first_steps(requests, seats, budget, aborts, full, has_budget)


def one_in_a_step(
    requests: Sequence[Request], seats: int, budget: int, aborts: Sequence[Abort] = ()
) -> dict[str, int]:
    """Let one in, and look at the next in the next step."""

    def has_budget(batch: _Batch, request: Request) -> bool:
        others = len(batch.joining) - (batch.chunked is not None)
        return batch.tokens > 0 and not others

    return _first_steps(requests, seats, budget, aborts, lambda b, s: _once(b) >= s, has_budget)


FOUR_PROMPTS = {
    "requests": [("a", 3000, 20), ("b", 500, 20), ("c", 400, 12), ("d", 300, 20)],
    "seats": 4,
    "budget": 2048,
}
FIVE_AND_AN_ABORT = ([(name, 300, 20) for name in "abcde"], 4, 2048, [("b", 3)])

# 5.7a


def _form(workload: Any) -> str | None:
    """Say why a value is no workload, if it is none."""
    if not isinstance(workload, dict) or not {"requests", "seats", "budget"} <= set(workload):
        return 'a case is a dict with the keys "requests", "seats" and "budget"'
    if workload.get("aborts"):
        return "nobody goes away in it: leave the aborts out"
    for key in ("seats", "budget"):
        if type(workload[key]) is not int or workload[key] < 1:
            return f'"{key}" is a whole number, at least 1, not {workload[key]!r}'
    requests = workload["requests"]
    if not isinstance(requests, (list, tuple)) or not 1 <= len(requests) <= 20:
        return '"requests" is a list of 1 to 20 requests'
    for each in requests:
        is_one = isinstance(each, (list, tuple)) and len(each) == 3 and isinstance(each[0], str)
        if not is_one or not all(type(n) is int and n >= 1 for n in each[1:]):
            return f'a request is ("a", prompt tokens, output tokens), not {each!r}'
    if len({each[0] for each in requests}) < len(requests):
        return "two requests have the same name"
    if workload["budget"] < workload["seats"]:
        return "the budget is at least a token for each seat"
    if len(first_steps(requests, workload["seats"], workload["budget"])) < len(requests):
        return f"after {MOST_STEPS} steps somebody waits still; take fewer or shorter requests"
    return None


def leaves_a_seat_idle(_: Any, workload: Any) -> str | None:
    """Agree with a workload in which somebody starts later than there is a seat and budget."""
    complaint = _form(workload)
    if complaint is not None:
        return complaint
    given = workload["requests"], workload["seats"], workload["budget"]
    late = first_steps_suspect(*given) != first_steps(*given)
    return None if late else "everybody starts as soon as there is a seat and budget"


def as_harmless(one: Any, other: Any) -> str | None:
    """Agree on two workloads without harm that lack the same."""
    complaints = [leaves_a_seat_idle(None, each) for each in (one, other)]
    if not all((each or "").startswith("everybody") for each in complaints):
        return ""
    return None if _lacks(one) == _lacks(other) else ""


def _lacks(workload: Any) -> tuple[bool, bool]:
    """Say whether the prompts exceed one budget, and whether there are enough to fill the seats."""
    prompts = [each[1] for each in workload["requests"]]
    return sum(prompts) > workload["budget"], len(prompts) >= workload["seats"]


EXPOSED = (
    Misconception(
        "no prompt is cut",
        "As long as all prompts fit into one step, nothing is counted twice. When is `chunked` not "
        "None?",
        {
            "requests": [("a", 300, 20), ("b", 300, 20), ("c", 400, 12), ("d", 300, 20)],
            "seats": 4,
            "budget": 2048,
        },
    ),
    Misconception(
        "fewer requests than seats",
        "Even where a prompt is cut, there is a seat for everybody, though one is counted twice: "
        "it takes as many requests as seats.",
        {"requests": [("a", 3000, 20), ("b", 500, 20)], "seats": 4, "budget": 2048},
    ),
)

# 5.7b


_Drawn = tuple[int, int, int | None]
"""Tokens of a prompt, tokens to generate, and when the client goes away, if it does."""

# One value for each request: whoever looks for the smallest case can leave a request out.
_drawn = st.tuples(
    st.integers(1, 9), st.integers(1, 5), st.sampled_from((*[None] * 15, 0, 1, 2, 3, 4))
)


def _workload(drawn: Sequence[_Drawn], seats: int, spare: int) -> Call:
    """Return a call for requests a, b, and so on, with some budget beyond a token per seat."""
    named = list(zip("abcdef", drawn, strict=False))
    requests = [(name, prompt, output) for name, (prompt, output, _) in named]
    aborts = [(name, last) for name, (_, _, last) in named if last is not None]
    return Call(requests, seats, seats + spare, aborts)


def workloads() -> st.SearchStrategy[Call]:
    """Return a few requests, and perhaps somebody who goes away."""
    drawn = st.lists(_drawn, min_size=1, max_size=6)
    return st.builds(_workload, drawn, st.integers(1, 3), st.integers(1, 8))


def _small(prompts: Sequence[int], outputs: Sequence[int], seats: int, budget: int) -> Call:
    requests = list(zip("abcdef", prompts, outputs, strict=False))
    return Call(requests, seats, budget, [])


WORKLOADS = (
    Call(*FOUR_PROMPTS.values(), []),
    Call(*FIVE_AND_AN_ABORT),
    _small([1, 1], [2, 1], 1, 9),
    _small([1, 1, 1, 1], [2, 2, 2, 2], 2, 9),
    _small([12, 2, 2, 1], [3, 9, 9, 2], 3, 8),
    Call([("a", 1, 9), ("b", 1, 9), ("c", 1, 1)], 2, 9, [("a", 1)]),
    Call([(name, 1, 2) for name in "abcdefghij"], 16, 16, []),
    Call([("a", 5000, 2), ("b", 1, 2)], 2, 8192, []),
    Call([(name, 1, 9) for name in "abcd"], 2, 9, [("a", 1), ("b", 1)]),
    _small([1, 1, 1], [150, 120, 1], 2, 9),
)

MENDED = (
    Misconception(
        "still latched",
        "That is the suspect once more: the prompt that was cut has two seats, and the flag stays "
        "until somebody finishes.",
        still_latched,
    ),
    Misconception(
        "cleared in every step",
        "The flag is looked at anew, but the prompt that was cut still counts twice: in the step "
        "in which it ends, a seat stays empty.",
        cleared_in_every_step,
    ),
    Misconception(
        "counted once",
        "The count is right, and the flag still remembers: when a client goes away, nobody takes "
        "it back.",
        counted_once,
    ),
    Misconception(
        "those who join are forgotten",
        "Who joins in this step has a seat as well.",
        running_alone,
    ),
    Misconception(
        "no limit of seats",
        "Without the flag somebody still has to count: there are `seats` seats.",
        without_seats,
    ),
    Misconception(
        "one seat too many",
        "With as many as there are seats, the batch is full.",
        one_too_many,
    ),
    Misconception(
        "no limit of tokens",
        "Who comes in when all of `tokens` is spent starts too early: the budget is asked before "
        "each request, as the seats are.",
        without_budget,
    ),
    Misconception(
        "one in each step",
        "Whoever has a seat and budget comes in, one after the other, all in the same step.",
        one_in_a_step,
    ),
    Misconception(
        "waits for room for all of its prompt",
        "The last to come in may be cut: it computes what is left of the budget, and goes on in "
        "the next step.",
        uncut,
    ),
)

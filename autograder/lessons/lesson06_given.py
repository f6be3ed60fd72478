"""Lesson 6: what its checks are given, and its tasks by hand."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from random import Random
from typing import Any

from hypothesis import strategies as st

from autograder.checks.function import Call, Large
from autograder.checks.trace import Instance
from autograder.proxy.recipes import Make
from course_lib.kv_cache.block_pool import KVCacheBlock
from course_lib.scheduling.request import Request
from course_lib.scheduling.watch.by_hand import HandRequest, HandStep, preemption_by_hand

# 6.1, what comes back


def blocks(holders: Sequence[int], *, full: Collection[int] = ()) -> list[Make]:
    """Return blocks with so many holders; those at the places ``full`` are in the prefix cache."""
    ids = (7, 3, 11, 5, 2, 9, 4, 8)
    return [
        Make(KVCacheBlock, ids[i % 8] + i // 8 * 20, n, *([b"tokens"] if i in full else []))
        for i, n in enumerate(holders)
    ]


def table(holders: Sequence[int], *, full: Collection[int] = ()) -> Call:
    """Return a call with a block table whose blocks have so many holders."""
    return Call(blocks(holders, full=full))


def one_by_one(holders: Sequence[int]) -> Call:
    """Return a call with blocks that can be gone through once, as those of a generator."""
    return Call(Make(iter, blocks(holders)))


TABLES = st.builds(
    table,
    st.lists(st.integers(1, 4), max_size=12),
    full=st.sampled_from(((), (0,), (0, 1, 2))),
)
SOME_TABLES = (
    *(table(each) for each in ((4, 4, 1), (2, 2), (1, 1, 1), (3, 1, 2, 1), (5,), ())),
    table((2, 1, 1), full=(0, 1)),
    table((2,) * 4 + (1,) * 21),
    one_by_one((2, 1, 1)),
)
MANY_BLOCKS = Large(
    lambda: table((1,) * 12_000),
    "12,000 blocks",
    seconds=0.3,
    slow="Is the table copied or gone through once for each block? A few times are enough",
)

# 6.2, who gives way


_REQUESTS = "mazkbyjcxhdw"
"""Names of requests in the order of admission, which is not that of the alphabet."""

Progress = tuple[int, int]
"""Computed tokens, and how often it was preempted: what is not to be looked at."""


def running(*ranks: tuple[int, float], progress: Sequence[Progress] = ()) -> Call:
    """Return a call with running requests of these priorities and times of arrival."""
    requests = [
        Make(Request, name, [1], 1, priority=priority, arrival_time=float(arrival))
        for name, (priority, arrival) in zip(_REQUESTS, ranks, strict=False)
    ]
    for place, (num_computed, num_preemptions) in enumerate(progress[: len(requests)]):
        made = requests[place].set("num_computed_tokens", num_computed)
        requests[place] = made.set("num_preemptions", num_preemptions)
    return Call(requests)


_rank = st.tuples(
    st.integers(0, 2) | st.integers(-5, 9),
    st.sampled_from((0.0, 0.5, 3.0, 0.001, 1.7e9, 1.7e9 + 1.0, 1.7e9 + 1.001)),
)
_progress = st.sampled_from(((), (), ((9, 1), (2, 0)), ((2, 0), (9, 1))))
BATCHES = st.builds(
    lambda ranks, progress: running(*ranks, progress=progress),
    st.lists(_rank, min_size=1, max_size=4) | st.lists(_rank, min_size=1, max_size=12),
    _progress,
)
SOME_BATCHES = (
    running((0, 3), (2, 1), (2, 5), (1, 9)),
    running((1, 2), (1, 2)),
    running((-1, 9), (0, 0)),
    running((2, 0.5), (2, 0.0), (0, 7)),
    running((0, 1), (0, 3), (0, 2)),
    running((3, 1), (2, 8), (3, 1), (1, 4)),
    running((5, 0)),
    running((0, 1.8e9), (1, 1.7e9), (1, 5)),
    running((0, 0), (0, 0.04)),
    running((0, 1.7e9), (0, 1.7e9 + 0.0004)),
    running((1, 0), (1, 1e-5)),
    running((-2, 1), (-2, 3)),
    running((-2_000_000, 1), (-2_000_000, 3)),
    running((2_000_000, 0), (2_000_000, 1)),
    running((9, 1.7e9), (9, 1.7e9 + 1e-5)),
    running((-1, 0), (-2, 5)),
    running((9, 1), (10, 0)),
    running(*[(0, 0.0)] * 9, (1, 0.0)),
    running((0, 1), (0, 1), progress=((9, 1), (2, 0))),
    running((0, 1), (0, 1), progress=((2, 0), (9, 1))),
)

# 6.4, break-even

# What is drawn first is what a case is made smaller to. That either is free is the oddest of all.
_PER_TOKEN = (1.0, 2.0, 0.5, 1e-5, 4e-5, 8e-5, 6.4e-5, 6.4001e-5, 1e-7, 0.0)


def costs(swap: float, recompute: float, weights: float | None = None) -> Call:
    """Return a call with the seconds per token of both, and the floor."""
    return Call(swap, recompute, **({} if weights is None else {"weight_seconds": weights}))


COSTS = st.builds(
    costs,
    st.sampled_from(_PER_TOKEN),
    st.sampled_from(_PER_TOKEN),
    st.sampled_from((None, 0.0, 0.008, 3.0)),
)
SOME_COSTS = (
    costs(8e-5, 4e-5, 0.008),
    costs(1e-5, 4e-5, 0.008),
    costs(1.0, 1.0, 2.0),
    costs(2.0, 1.0, 0.0),
    costs(2.0, 1.0),
    costs(0.0, 0.0, 0.008),
    costs(3.0, 2.0, 7.0),
    costs(3.0, 2.0, 8.0),
    costs(4e-5, 1e-5, 0.008),
    costs(6.4001e-5, 6.4e-5, 0.008),
    costs(6.5e-5, 6.45e-5, 0.008),
    costs(1.0 + 1e-10, 1.0, 2.0),
    costs(1e-7, 0.0, 3.0),
)

# 6.3, a decision by hand

_NAMES = "ABCD"


def _victims(order: Sequence[str], held: dict[str, int], free: int, need: int) -> list[str]:
    """Return who goes, in this order, until there is room."""
    gone: list[str] = []
    for name in order:
        if free >= need:
            break
        gone.append(name)
        free += held[name]
    return gone


def _drawn(seed: int) -> dict[str, Any]:
    """Return blocks, tokens, priorities, the wrong entry, and what the urgent request needs."""
    rng = Random(seed)
    while True:
        held = {"A": rng.randint(36, 42), "B": rng.randint(26, 32), "C": rng.randint(17, 22)}
        held["D"] = 98 - sum(held.values())
        priority = dict(zip(_NAMES, rng.sample((0, 1, 2, 2), 4), strict=True))
        urgent = 16 * rng.randint(21, 26) - rng.randint(0, 8)
        need = -(-urgent // 16)
        orders = {
            "last in": list("DCBA"),
            "least important": sorted(_NAMES, key=lambda n: (priority[n], n), reverse=True),
            "most blocks": sorted(_NAMES, key=lambda n: held[n], reverse=True),
        }
        gone = {name: _victims(order, held, 2, need) for name, order in orders.items()}
        if held["D"] >= 5 and len({tuple(each) for each in gone.values()}) == 3:
            tokens = {name: 16 * held[name] - rng.randint(0, 12) for name in _NAMES}
            excess = rng.randint(6, 12)
            return {
                "held": held,
                "tokens": tokens,
                "priority": priority,
                "excess": excess,
                "urgent": urgent,
                "need": need,
                "gone": gone,
            }


def decision(seed: int) -> Instance:
    """Return four requests in 100 blocks, one of them written down wrongly, and an urgent one."""
    drawn = _drawn(seed)
    held, tokens, priority = drawn["held"], drawn["tokens"], drawn["priority"]
    written = {**held, "D": held["D"] + drawn["excess"]}
    rows = "\n".join(f"| {n} | {written[n]} | {priority[n]} |" for n in _NAMES)
    task = (
        f"Seed {seed}. 100 blocks of 16 tokens, two of them free. Four requests run; they were "
        "admitted in the order A, B, C, D, and arrived in it. Nothing is shared.\n\n"
        f"| request | blocks | priority |\n|---|---|---|\n{rows}\n\n"
        "Somebody has written down too many blocks for D. Then U arrives, with priority −1 and "
        f"{drawn['urgent']} tokens.\n\n"
        "- `D holds`: how many blocks D really has\n"
        "- `U needs`: how many blocks U needs\n"
        "- `last in`, `least important`, `most blocks`: in a scheduler that preempts for "
        "arrivals, with this policy: who goes, in order, until U has room. Take D's real number\n"
        f"- `lost`: how many tokens `last in` throws away. A has computed {tokens['A']} tokens, "
        f"B {tokens['B']}, C {tokens['C']} and D {tokens['D']}\n"
        "- `in V1`: who goes for U in the scheduler of this lesson\n\n"
        'Counts are whole numbers. Who goes is a list of names, such as `["B"]`, and `[]` where '
        "nobody does."
    )
    gone = drawn["gone"]
    answer = {
        "D holds": held["D"],
        "U needs": drawn["need"],
        **gone,
        "lost": sum(tokens[name] for name in gone["last in"]),
        "in V1": [],
    }
    return Instance(task, answer)


def slots_lost(seed: int) -> int:
    """Return the slots, filled or not, of the blocks that last in, first out gives up."""
    drawn = _drawn(seed)
    return sum(16 * drawn["held"][name] for name in drawn["gone"]["last in"])


def smallest_priority_first(seed: int) -> list[str]:
    """Return who goes if the smallest number is taken for the least important."""
    drawn = _drawn(seed)
    order = sorted(_NAMES, key=lambda name: drawn["priority"][name])
    return _victims(order, drawn["held"], 2, drawn["need"])


def equals_in_order_of_arrival(seed: int) -> list[str]:
    """Return who goes if of those with the same priority the earlier one is taken first."""
    drawn = _drawn(seed)
    order = sorted(_NAMES, key=lambda name: -drawn["priority"][name])
    return _victims(order, drawn["held"], 2, drawn["need"])


def form_of_a_decision(state: Any) -> str:
    """Say what is wrong with how a state of a decision is written; "" if nothing is."""
    if type(state) in (int, float):  # whether a number is a whole one is the comparison's business
        return ""
    if isinstance(state, (list, tuple)) and all(each in tuple("ABCDU") for each in state):
        return ""
    return (
        f"{state!r} is neither a number nor a list of names of the task, such as "
        '["D", "C"]; [] is nobody'
    )


# 6.8, six steps by hand

MODES = ("recompute", "swap")
_ASKED = (4, 5, 6)
"""The steps whose states are asked for."""


def _shown(step: HandStep, mode: str) -> list[Any]:
    """Return a state: free blocks, who runs, who waits, and with swapping who is swapped out."""
    queues = [step.running, step.waiting, *([step.swapped] if mode == "swap" else [])]
    return [len(step.free), *("".join(queue) for queue in queues)]


def _row(request: HandRequest) -> str:
    name, prompt = request.request_id, len(request.prompt_token_ids)
    end = request.max_tokens if name == "C" else "more than you need"
    return f"| {name} | {prompt} | {end} | {request.priority} |"


def six_steps(seed: int) -> Instance:
    """Return an instance in which memory runs out, worked out in both modes."""
    traces = {mode: preemption_by_hand(seed, mode) for mode in MODES}  # type: ignore[arg-type]
    trace = traces["recompute"]
    rows = "\n".join(_row(request) for request in trace.requests)
    start = " ".join(str(each) for each in _shown(trace.steps[0], "recompute"))
    task = (
        f"Seed {seed}. 100 blocks of 16 tokens, a queue by priority, as many tokens in a step as "
        "you like. A to D arrive one after the other, in this order; U comes before step 1.\n\n"
        "| request | tokens of the prompt | generates | priority |\n|---|---|---|---|\n"
        f"{rows}\n\n"
        "In step 0 all four prompts are computed. "
        f"After its plan: `{start}`. Each step that follows computes one token of each that "
        "runs already, so after the plan of step *n* a request that has run all along holds "
        "blocks for its prompt and *n* tokens more.\n\n"
        "- `when`: the number of the first step in which somebody gives way; `who`: the name\n"
        "- `recompute 4`, `recompute 5`, `recompute 6`: the state after the plan of the step: "
        '`[free blocks, who runs, who waits]`, such as `[3, "ABCD", "U"]`\n'
        "- `swap 4`, `swap 5`, `swap 6`: the same, if the blocks of who gives way are copied to "
        "the CPU, which has room for all, with who is swapped out behind it: "
        '`[3, "ABC", "U", "D"]`\n\n'
        "Running ones in order of admission, the others in the order in which they are served."
    )
    when = next(number for number, step in enumerate(trace.steps) if step.preempted)
    answer: dict[str, Any] = {"when": when, "who": trace.steps[when].preempted[0]}
    for mode, each in traces.items():
        for number in _ASKED:
            answer[f"{mode} {number}"] = _shown(each.steps[number], mode)
    entries = "free blocks, who runs, who waits"
    notes = {name: f"Its entries are {entries}" for name in answer if name.startswith("recompute")}
    notes |= {f"swap {n}": f"Its entries are {entries}, who is swapped out" for n in _ASKED}
    return Instance(task, answer, notes)


def last_of_c(seed: int) -> dict[str, Any]:
    """Return the states of six steps if C is taken to run for a step more than it does."""
    late = {}
    for mode in MODES:
        steps = preemption_by_hand(seed, mode).steps  # type: ignore[arg-type]
        for number in _ASKED:
            gone = "C" in steps[0].running and "C" not in steps[number].running
            if gone:
                late[f"{mode} {number}"] = _shown(steps[number - 1], mode)
    return late


def who_needs_a_block(seed: int) -> str:
    """Return who fills its blocks just before somebody gives way: the first of them, by name."""
    trace = preemption_by_hand(seed, "recompute")
    when = next(number for number, step in enumerate(trace.steps) if step.preempted)
    full = (r for r in trace.requests if (len(r.prompt_token_ids) + when) % 16 == 1)
    return next((request.request_id for request in full if request.request_id != "U"), "")


def blocks_taken(seed: int) -> int:
    """Return how many blocks others take in the step in which D gives way."""
    steps = preemption_by_hand(seed, "recompute").steps
    when = next(number for number, step in enumerate(steps) if step.preempted)
    before = steps[when - 1]
    return len(before.free) + len(before.tables["D"]) - len(steps[when].free)


def blocks_of(seed: int, name: str) -> int:
    """Return the blocks that a request needs when it comes in: U first, or D once more."""
    trace = preemption_by_hand(seed, "swap")
    when = next(number for number, step in enumerate(trace.steps) if step.preempted)
    prompts = {r.request_id: len(r.prompt_token_ids) for r in trace.requests}
    return -(-(prompts[name] + (when if name == "D" else 0)) // 16)


def form_of_a_state(state: Any) -> str:
    """Say what is wrong with how a state of six steps is written; "" if nothing is."""
    if type(state) is int or isinstance(state, str):
        return ""
    is_state = isinstance(state, (list, tuple)) and len(state) in (3, 4)
    if is_state and type(state[0]) is int and all(isinstance(each, str) for each in state[1:]):
        return ""
    return f'{state!r} is no state such as [3, "ABCD", "U"], no int and no text'

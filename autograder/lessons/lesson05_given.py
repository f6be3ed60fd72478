"""Lesson 5: what its checks are given for the life cycle, the loop, latencies and flat steps."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from hypothesis import strategies as st

from autograder.checks.compare import exactly
from autograder.checks.function import Call, Large
from autograder.proxy.recipes import Make
from autograder.proxy.wire import Ref
from course_lib.kv_cache.manager import KVCacheManager
from course_lib.scheduling.request import (
    NEXT_STATUSES,
    NEXT_STATUSES_AHEAD,
    Request,
    RequestStatus,
)
from course_lib.scheduling.scheduler import Scheduler, SchedulerConfig

# 5.1, the life cycle


def moves() -> dict[str, set[str]]:
    """Return what may follow what, by the names of the statuses."""
    return {now.value: {new.value for new in after} for now, after in NEXT_STATUSES.items()}


def _optional(now: str) -> set[str]:
    """Return what may follow a status in a scheduler that plans ahead: right, and not asked for."""
    return {new.value for new in NEXT_STATUSES_AHEAD.get(RequestStatus(now), ())}


def same_moves(expected: dict[str, set[str]], got: Any) -> str | None:
    """Agree on tables that allow the same moves; a status that ends may have no row.

    What follows may be in any container. What only a scheduler that plans ahead needs may be there.
    """
    if not isinstance(got, dict):
        return str(exactly({}, got))
    names = {status.value for status in RequestStatus}
    # {} is how one would write an empty set, were it not a dict.
    unreadable = [
        row for row in got.values() if not isinstance(row, (set, list, tuple)) and row != {}
    ]
    if unreadable and isinstance(unreadable[0], Ref):
        return f"a row: {exactly(set(), unreadable[0])}"
    if unreadable:
        return f"{unreadable[0]!r} is no set of statuses"
    strange = [each for row in got.values() for each in row if each not in names]
    strange += [each for each in got if each not in names]
    if strange:
        return f"{strange[0]!r} is no status; they are {', '.join(sorted(expected))}"
    wrong = [
        now
        for now, after in expected.items()
        if not after <= set(got.get(now, ())) <= after | _optional(now)
    ]
    if not wrong:
        return None
    *others, last = map(repr, wrong)
    rows = f"rows of {', '.join(others)} and {last}" if others else f"row of {last}"
    return f"not right: the {rows}"


# 5.2, the loop

Given = tuple[int, int, float]
"""A request: tokens of its prompt, tokens that it generates, and when it comes."""


def loop(given: Sequence[Given], seconds: float = 1.0, budget: int = 8, seats: int = 4) -> Call:
    """Return a call of the loop with a new scheduler and new requests: a, b, and so on."""
    requests = [
        Make(Request, "abcdef"[number], [5] * prompt, output, arrival_time=arrival)
        for number, (prompt, output, arrival) in enumerate(given)
    ]
    config = Make(SchedulerConfig, max_num_seqs=seats, max_num_batched_tokens=budget)
    return Call(Make(Scheduler, config, Make(KVCacheManager, 100)), requests, seconds)


_given = st.tuples(
    st.integers(1, 12), st.integers(1, 3), st.sampled_from((0.0, 0.5, 1.0, 2.5, 3.0, 9.0))
)
LOOPS = st.builds(
    loop,
    st.lists(_given, max_size=4),
    st.sampled_from((1.0, 0.5)),
    st.integers(2, 12),
    st.integers(1, 3),
)

SOME_LOOPS = (
    loop([(1, 1, 0.0)]),
    loop([(1, 1, 0.5)]),
    loop([(9, 2, 0.0), (7, 1, 0.0), (5, 1, 0.0), (3, 1, 0.0)], budget=10),
    loop([(3, 2, 0.0), (2, 1, 0.5), (2, 1, 0.5), (1, 1, 7.0)]),
    loop([(1, 1, 2.0), (1, 2, 0.5)], seconds=0.5),
)

# 5.5, latencies


def _increasing(gaps: Sequence[float]) -> list[float]:
    times, now = [], 0.0
    for gap in gaps:
        now += gap
        times.append(now)
    return times


_times = st.lists(st.sampled_from((0.5, 1.0, 2.0, 3.5)), max_size=4).map(_increasing)
LOGS = st.builds(Call, st.lists(_times, max_size=3))

SOME_LOGS = (
    Call([[1.0, 1.5, 4.0], [], [3.0], [5.0, 6.0]]),
    Call([[2.0, 2.5, 3.5, 7.0], [1.0, 1.5]]),
    Call([[4.0, 4.0, 9.0]]),
    Call([[1.0, 1.0]]),
    Call([[0.0, 1.0]]),
    Call([[0.0, 1 / 3]]),
    Call([]),
)

_ONCE_FOR_EACH = "copied or gone through once for each token or request? A few times are enough"

LONG_LOG = Large(
    lambda: Call([_increasing([0.5] * 60_000), *([[1.0, 2.5]] * 20_000)]),
    "60,000 tokens of one request, and 20,000 requests of two",
    slow=f"Is the log {_ONCE_FOR_EACH}",
)

MANY_GAPS = Large(
    lambda: Call([_increasing([0.5] * 60_000), *([[1.0, 2.5]] * 40_000)]),
    "60,000 tokens of one request, and 40,000 requests of two",
    seconds=0.4,
    slow=f"Is the log, or the list of gaps, {_ONCE_FOR_EACH}",
)

# 5.6, a flat step

Sequences = Sequence[tuple[int, int, int]]
"""Tokens of each sequence: in this step, computed after it, known."""


def flat(sequences: Sequences) -> Call:
    """Return a call that lays these sequences out."""
    queries, contexts, known = ([each[place] for each in sequences] for place in range(3))
    return Call(queries, contexts, known)


_sequence = st.builds(
    lambda query, before, more: (query, query + before, query + before + more),
    st.integers(1, 5),
    st.sampled_from((0, 0, 3, 7, 11)),
    st.sampled_from((0, 0, 1, 4)),
)
FLAT = st.lists(_sequence, max_size=4).map(flat)

SOME_FLAT = (
    flat([(1, 1000, 1000), (5, 5, 12), (3, 3, 3)]),
    flat([(2, 6, 6), (1, 4, 9), (3, 5, 5)]),
    flat([(1, 3, 3)]),
    flat([(1, 131_072, 131_072)]),
    flat([]),
)

REFUSED_FLAT = (
    Call([0], [3], [3]),
    Call([2], [1], [4]),
    Call([2], [5], [4]),
    Call([1, 2], [3], [3]),
    Call([1], [3, 4], [3]),
    Call([1], [3], []),
    Call([1, -1], [3, 3], [3, 3]),
    Call([0, 1], [3, 3], [3, 3]),
    Call([3, 1], [2, 9], [9, 9]),
    Call([1, 1], [5, 3], [4, 9]),
    Call([], [1], [1]),
    Call([], [], [1]),
)

MANY_FLAT = Large(
    # The long ones come first: whoever copies all rows for each sequence copies theirs every time.
    lambda: flat([(8000, 9000, 9000)] * 20 + [(1, 900, 900)] * 80_000),
    "20 chunks of 8,000 tokens and 80,000 decodes",
    seconds=0.4,
    slow="Are the rows, or the lengths, copied or gone through once for each sequence? A few times "
    "in all are enough",
)

"""Lesson 5: known wrong answers about the life cycle, the loop, latencies and flat steps."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import chain, pairwise
from typing import Any

import numpy as np

from autograder.checks.finding import Misconception
from autograder.checks.parsons import Displaced, Distractor
from autograder.lessons import lesson05_given as given
from course_lib.engine.flatten import FlatStep, flatten_step

# 5.1


def _with(now: str, *more: str) -> dict[str, set[str]]:
    return {**given.moves(), now: given.moves()[now] | set(more)}


def _without(now: str, *fewer: str) -> dict[str, set[str]]:
    return {**given.moves(), now: given.moves()[now] - set(fewer)}


MOVES = (
    Misconception(
        "who was preempted cannot be aborted",
        "A client may go away at any time, also while its request waits for its return.",
        lambda: _without("preempted", "finished_aborted"),
    ),
    Misconception(
        "who waits cannot be aborted",
        "A client may go away before its request has begun.",
        lambda: _without("waiting", "finished_aborted"),
    ),
    Misconception(
        "who runs cannot be aborted",
        "A client may go away while its request runs.",
        lambda: _without("running", "finished_aborted"),
    ),
    Misconception(
        "nobody can be aborted",
        "A client may go away at any time: there are three states from which that ends a request.",
        lambda: {now: after - {"finished_aborted"} for now, after in given.moves().items()},
    ),
    Misconception(
        "running, then ignored",
        "Ignored is who can never be computed here, which is known when the request comes: before "
        "it runs.",
        lambda: _with("running", "finished_ignored"),
    ),
    Misconception(
        "preempted, then waiting",
        "A preempted request waits as preempted: the status tells the scheduler, when it runs "
        "again, that it comes back.",
        lambda: {
            **given.moves(),
            "preempted": {"waiting", "finished_aborted"},
        },
    ),
    Misconception(
        "back to waiting",
        "A request that loses its blocks has a status of its own, preempted, and returns from it "
        "to running.",
        lambda: _with("running", "waiting"),
    ),
    Misconception(
        "preempted, or back to waiting",
        "A preempted request stands in the waiting queue, and its status stays preempted.",
        lambda: _with("preempted", "waiting"),
    ),
    Misconception(
        "who waits can be preempted",
        "To be preempted is to lose blocks, and who waits has none.",
        lambda: _with("waiting", "preempted"),
    ),
    Misconception(
        "who waits can stop",
        "A request stops by a token that it generates, and who waits generates none.",
        lambda: _with("waiting", "finished_stopped", "finished_length_capped"),
    ),
    Misconception(
        "a status may follow itself",
        "A move is a change; to stay where one is takes none.",
        lambda: {now: after | {now} for now, after in given.moves().items()},
    ),
)

# 5.2

LOOP_LINES = (
    Distractor(
        "sampled = dict.fromkeys(output.num_scheduled_tokens, 7)",
        "sampled =",
        "a token for everybody who is scheduled",
        "Who is in the middle of a prompt has no next token yet: only who is computed up to the "
        "last known token has one.",
    ),
    Distractor(
        "while arriving:",
        "while arriving or",
        "ends with the last arrival",
        "When the last request has come, it is still to be served, and so may others be.",
    ),
    Distractor(
        "if arriving and arriving[0].arrival_time <= clock:",
        "while arriving and",
        "one arrival for each iteration",
        "Several may have come while an iteration ran, and all of them may start in the next one.",
    ),
)

LATE_CLOCK = (
    Displaced(
        "clock += seconds",
        "for request_id in sampled",
        "noted without the iteration's time",
        "A token comes at the end of its iteration: the clock moves on by its seconds before the "
        "token is noted.",
    ),
    Displaced(
        "if not scheduler",
        "while arriving and",
        "waits for nobody",
        "If nobody is there, the clock has to go on to the next arrival before it is asked who has "
        "come; iterations without anybody in them would pass instead.",
    ),
)

# 5.5

Times = Sequence[Sequence[float]]


def _each(times: Times, value: Any) -> list[float]:
    return [value(each) if len(each) > 1 else math.nan for each in times]


def per_token(token_times: Times) -> list[float]:
    """Divide by the number of tokens."""
    return _each(token_times, lambda times: (times[-1] - times[0]) / len(times))


def zero_for_one(token_times: Times) -> list[float]:
    """Take 0 where there is no gap."""
    return [0.0 if math.isnan(value) else value for value in _each(token_times, _mean_gap)]


def left_out(token_times: Times) -> list[float]:
    """Leave out who has no gap."""
    return [_mean_gap(times) for times in token_times if len(times) > 1]


def from_zero(token_times: Times) -> list[float]:
    """Take the time of the last token for the time from first to last."""
    return _each(token_times, lambda times: times[-1] / (len(times) - 1))


def longest(token_times: Times) -> list[float]:
    """Take the longest gap."""
    return _each(token_times, lambda times: max(b - a for a, b in pairwise(times)))


def median(token_times: Times) -> list[float]:
    """Take the median gap."""
    return _each(token_times, lambda times: float(np.median(np.diff(times))))


def tokens_per_second(token_times: Times) -> list[float]:
    """Take the rate in the place of the time."""
    return _each(
        token_times,
        lambda times: (len(times) - 1) / (times[-1] - times[0]) if times[-1] > times[0] else 0.0,
    )


def only_empty_is_nan(token_times: Times) -> list[float]:
    """Take the time of a single token for its TPOT."""
    return [
        _mean_gap(times) if len(times) > 1 else times[0] if times else math.nan
        for times in token_times
    ]


def _mean_gap(times: Sequence[float]) -> float:
    return (times[-1] - times[0]) / (len(times) - 1)


TPOT = (
    Misconception(
        "per token, not per gap",
        "Three tokens have two gaps between them: n tokens, n − 1 gaps.",
        per_token,
        evidence=r"/ len\(\w+\)",
    ),
    Misconception(
        "0 for a single token",
        "A value that does not exist is no 0: it would pull every mean down. NaN is left out.",
        zero_for_one,
    ),
    Misconception(
        "left out",
        "There is one value for each request, so that the value of a request is found by its "
        "place.",
        left_out,
    ),
    Misconception(
        "counted from the clock's zero",
        "The first token is where TPOT begins; what was before is the time to first token.",
        from_zero,
    ),
    Misconception(
        "the longest gap",
        "TPOT is the mean gap of a request; its longest gap is another measure.",
        longest,
    ),
    Misconception(
        "the median gap",
        "TPOT is the mean gap: one long stall counts in it.",
        median,
    ),
    Misconception(
        "a rate",
        "Time per token is in seconds; tokens per second are its inverse.",
        tokens_per_second,
    ),
    Misconception(
        "a single token has one",
        "One token has no gap, so its request has no TPOT: NaN.",
        only_empty_is_nan,
    ),
)


def across_requests(token_times: Times) -> list[float]:
    """Take the gaps of all tokens in a row."""
    times = list(chain.from_iterable(token_times))
    return [later - earlier for earlier, later in pairwise(times)]


def one_list_each(token_times: Times) -> list[list[float]]:
    """Return a list of gaps for each request."""
    return [[b - a for a, b in pairwise(times)] for times in token_times]


def since_the_first(token_times: Times) -> list[float]:
    """Take the time since the first token."""
    return [later - times[0] for times in token_times for later in times[1:]]


def first_token_too(token_times: Times) -> list[float]:
    """Take the first token's time for a gap."""
    return [b - a for times in token_times for a, b in pairwise([0.0, *times])]


def one_mean_each(token_times: Times) -> list[float]:
    """Return the mean gap of each request that has one."""
    return left_out(token_times)


def in_order_of_time(token_times: Times) -> list[float]:
    """Sort all tokens by time first."""
    times = sorted(chain.from_iterable(token_times))
    return [later - earlier for earlier, later in pairwise(times)]


def sorted_gaps(token_times: Times) -> list[float]:
    """Sort the gaps."""
    return sorted(b - a for times in token_times for a, b in pairwise(times))


ITL = (
    Misconception(
        "across requests",
        "The last token of one request and the first of the next are no pair: they are two users.",
        across_requests,
    ),
    Misconception(
        "a list for each request",
        "ITL speaks of all gaps alike: one flat list.",
        one_list_each,
    ),
    Misconception(
        "since the first token",
        "Each gap is between a token and the one just before it.",
        since_the_first,
    ),
    Misconception(
        "the first token has a gap",
        "In front of the first token stands the time to first token, which is no gap: vLLM's "
        "benchmark once mixed them up.",
        first_token_too,
    ),
    Misconception(
        "one mean for each request",
        "That is TPOT. ITL keeps every gap, so that its tail shows the stalls.",
        one_mean_each,
    ),
    Misconception(
        "all tokens in order of time",
        "Tokens of different users come in between each other; a gap is between two of one user.",
        in_order_of_time,
    ),
    Misconception(
        "sorted",
        "The gaps stay in the order in which they came, request by request.",
        sorted_gaps,
    ),
)

# 5.6

Lens = Sequence[int]


def _flat(queries: Lens, contexts: Lens, known: Lens, **otherwise: Any) -> FlatStep:
    right = flatten_step(queries, contexts, known)
    return right._replace(
        **{
            name: np.asarray(value, dtype=getattr(right, name).dtype)
            for name, value in otherwise.items()
        }
    )


def from_position_zero(query_lens: Lens, context_lens: Lens, known_lens: Lens) -> FlatStep:
    """Count the tokens of each sequence in this step."""
    return _flat(
        query_lens, context_lens, known_lens, positions=[p for q in query_lens for p in range(q)]
    )


def whole_context(query_lens: Lens, context_lens: Lens, known_lens: Lens) -> FlatStep:
    """Lay out all tokens of the context."""
    return flatten_step(context_lens, context_lens, known_lens)


def one_place_late(query_lens: Lens, context_lens: Lens, known_lens: Lens) -> FlatStep:
    """Take the tokens behind the context."""
    right = flatten_step(query_lens, context_lens, known_lens)
    return right._replace(positions=right.positions + 1)


def behind_the_context(query_lens: Lens, context_lens: Lens, known_lens: Lens) -> FlatStep:
    """Take the context for what was there before the step."""
    right = flatten_step(query_lens, context_lens, known_lens)
    return right._replace(
        positions=right.positions + np.repeat(np.array(query_lens, int), query_lens)
    )


def samples_all(query_lens: Lens, context_lens: Lens, known_lens: Lens) -> FlatStep:
    """Sample from the last row of each sequence."""
    ends = np.cumsum(np.array(query_lens, int))
    return _flat(query_lens, context_lens, known_lens, sample_rows=ends - 1)


def samples_behind(query_lens: Lens, context_lens: Lens, known_lens: Lens) -> FlatStep:
    """Sample from the row behind the last one."""
    right = flatten_step(query_lens, context_lens, known_lens)
    return right._replace(sample_rows=right.sample_rows + 1)


def sequences_for_rows(query_lens: Lens, context_lens: Lens, known_lens: Lens) -> FlatStep:
    """Return which sequences are sampled in the place of their rows."""
    rows = [i for i, (c, k) in enumerate(zip(context_lens, known_lens, strict=False)) if c == k]
    return _flat(query_lens, context_lens, known_lens, sample_rows=rows)


def starts_without_end(query_lens: Lens, context_lens: Lens, known_lens: Lens) -> FlatStep:
    """Leave the end of the last sequence out."""
    right = flatten_step(query_lens, context_lens, known_lens)
    return right._replace(query_starts=right.query_starts[:-1])


def ends_alone(query_lens: Lens, context_lens: Lens, known_lens: Lens) -> FlatStep:
    """Leave the start of the first sequence out."""
    right = flatten_step(query_lens, context_lens, known_lens)
    return right._replace(query_starts=right.query_starts[1:])


def padded(query_lens: Lens, context_lens: Lens, known_lens: Lens) -> FlatStep:
    """Give each sequence as many rows as the longest has."""
    flatten_step(query_lens, context_lens, known_lens)
    longest_query = max(query_lens, default=0)
    positions = [
        c - q + place
        for q, c in zip(query_lens, context_lens, strict=True)
        for place in range(longest_query)
    ]
    starts = [longest_query * i for i in range(len(query_lens) + 1)]
    rows = [
        longest_query * i + q - 1
        for i, (q, c, k) in enumerate(zip(query_lens, context_lens, known_lens, strict=True))
        if c == k
    ]
    return FlatStep(
        np.array(positions, np.int64), np.array(starts, np.int32), np.array(rows, np.int64)
    )


FLATTEN = (
    Misconception(
        "positions from 0",
        "A decode stands at the end of its context, and a later chunk where the one before it "
        "ended.",
        from_position_zero,
    ),
    Misconception(
        "the whole context",
        "What was computed before is in the cache: this step has rows for its own tokens alone.",
        whole_context,
    ),
    Misconception(
        "one place too late",
        "Positions begin at 0: the last of 1,000 tokens stands at 999.",
        one_place_late,
    ),
    Misconception(
        "the context is what was there before",
        "`context_lens` counts the tokens of this step as well: they are its last ones.",
        behind_the_context,
    ),
    Misconception(
        "everybody is sampled",
        "In the middle of a prompt the next token is known already: it is the prompt's.",
        samples_all,
    ),
    Misconception(
        "the row behind the last",
        "A sequence's rows end before the next one's start: its last row is one less.",
        samples_behind,
    ),
    Misconception(
        "sequences for rows",
        "Asked for are rows of the flat step, and a sequence may have many.",
        sequences_for_rows,
    ),
    Misconception(
        "the last end is missing",
        "n sequences have n + 1 borders; without the last one nobody knows where the last sequence "
        "ends.",
        starts_without_end,
    ),
    Misconception(
        "the first start is missing",
        "n sequences have n + 1 borders, of which the first is 0.",
        ends_alone,
    ),
    Misconception(
        "padded",
        "Rows that belong to no token are computed for nothing: there is one row per token.",
        padded,
    ),
)

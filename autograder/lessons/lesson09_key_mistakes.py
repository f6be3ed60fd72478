"""Lesson 9: what people get wrong about keys, and why it is wrong."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from autograder.checks.finding import Misconception
from course_lib.scheduling.request import Request

Key = Callable[[Any, Request], Any]


def _size(request: Request) -> int:
    return request.num_prompt_tokens + request.max_tokens


def _key(function: Callable[[Any, Request], Any]) -> Key:
    """Return the function under the name that a method has."""

    def key(self: Any, request: Request) -> Any:
        return function(self, request)

    return key


PRIORITY = (
    Misconception(
        "the priority alone",
        "Of equally important ones, who arrived earlier goes first, and of those the smaller id: "
        "the key is a tuple.",
        _key(lambda _, r: r.priority),
    ),
    Misconception(
        "the largest number first",
        "A lower priority value is more important, as in vLLM: −1 comes before 0.",
        _key(lambda _, r: (-r.priority, r.arrival_time, r.request_id)),
    ),
    Misconception(
        "arrival in front",
        "Then priority decides only between requests that arrive at the very same moment.",
        _key(lambda _, r: (r.arrival_time, r.priority, r.request_id)),
    ),
    Misconception(
        "the id between equals",
        "Of equally important ones, who came earlier goes first, whatever it is called.",
        _key(lambda _, r: (r.priority, r.request_id)),
    ),
    Misconception(
        "no id",
        "Of the same priority and arrival, the smaller id goes first.",
        _key(lambda _, r: (r.priority, r.arrival_time)),
    ),
)
SHORTEST = (
    Misconception(
        "the prompt alone",
        "An answer takes time as well: each of its tokens is an iteration.",
        _key(lambda _, r: r.num_prompt_tokens),
    ),
    Misconception(
        "the answer alone",
        "A prompt of thousands of tokens is work as well.",
        _key(lambda _, r: r.max_tokens),
    ),
    Misconception(
        "the longest first",
        "The smallest key is served first; with a minus sign that is the longest.",
        _key(lambda _, r: -_size(r)),
    ),
    Misconception(
        "what remains",
        "That is SRPT. SJF sorts by the whole, whatever is done of it.",
        _key(lambda _, r: _size(r) - r.num_output_tokens),
    ),
    Misconception(
        "what is there",
        "`num_tokens` counts what is there: the prompt, and what was generated so far. What it may "
        "generate in all is `max_tokens`.",
        _key(lambda _, r: r.num_tokens),
    ),
    Misconception(
        "what a scheduler allows",
        "A scheduler may allow fewer tokens than a request declares: `length_limit`. Declared are "
        "the tokens of the prompt and `max_tokens`.",
        _key(lambda _, r: r.length_limit),
    ),
    Misconception(
        "the arrival between equals",
        "The key is the tokens alone. The number of the entry decides between equal keys: who was "
        "put in first is served first.",
        _key(lambda _, r: (_size(r), r.arrival_time)),
    ),
)


def less_what_is_computed(self: Any, request: Request) -> Any:
    """Subtract what has been computed, which is nothing while a request waits."""
    return _size(request) - request.num_computed_tokens


REMAINING = (
    Misconception(
        "the whole",
        "That is SJF. Of an answer's 20 tokens, 18 may be there already.",
        _key(lambda _, r: _size(r)),
    ),
    Misconception(
        "less what is computed",
        "`num_computed_tokens` is 0 for who waits: a preemption throws away what was computed, but "
        "not the tokens that were generated.",
        less_what_is_computed,
        evidence="num_computed_tokens",
    ),
    Misconception(
        "what a scheduler allows",
        "A scheduler may allow fewer tokens than a request declares: `length_limit`. Declared are "
        "the tokens of the prompt and `max_tokens`.",
        _key(lambda _, r: r.length_limit - r.num_output_tokens),
    ),
    Misconception(
        "forgets the prompt",
        "The prompt is work too, and for who comes back it has to be computed again.",
        _key(lambda _, r: r.max_tokens - r.num_output_tokens),
    ),
    Misconception(
        "adds what is done",
        "What is generated is done; it makes the rest shorter.",
        _key(lambda _, r: _size(r) + r.num_output_tokens),
    ),
    Misconception(
        "the longest first",
        "The smallest key is served first; with a minus sign that is the longest.",
        _key(lambda _, r: r.num_output_tokens - _size(r)),
    ),
)


def _aged(rank: Callable[[Any, Request], float]) -> Key:
    """Return the key that has a rank in front, and then what decides between equals."""
    return _key(lambda q, r: (rank(q, r), r.arrival_time, r.request_id))


AGEING = (
    Misconception(
        "later ones gain",
        "With a minus before the arrival, who comes later becomes more important. In "
        "−(t − a) the arrival has a plus.",
        _aged(lambda q, r: r.priority * q.ageing_seconds - r.arrival_time),
    ),
    Misconception(
        "times instead of over",
        "Ageing by one takes `ageing_seconds`: the larger it is, the less a second counts.",
        _aged(lambda q, r: r.priority + r.arrival_time * q.ageing_seconds),
    ),
    Misconception(
        "nobody ages",
        "By priority alone, who is unimportant waits for as long as important ones come.",
        _key(lambda _, r: (r.priority, r.arrival_time, r.request_id)),
    ),
    Misconception(
        "the priority alone",
        "By priority alone, who is unimportant waits for as long as important ones come. And where "
        "the aged priorities are equal, the earlier arrival goes first, then the smaller id.",
        _key(lambda _, r: r.priority),
    ),
    Misconception(
        "a priority a second",
        "Nothing here says how fast they age. A unit of priority is worth `ageing_seconds`.",
        _aged(lambda _, r: r.priority + r.arrival_time),
    ),
    Misconception(
        "ties as they come",
        "Where the aged priorities are equal, the earlier arrival goes first, then the smaller id.",
        _key(lambda q, r: r.priority * q.ageing_seconds + r.arrival_time),
    ),
    Misconception(
        "no id",
        "Where aged priority and arrival are equal, the smaller id goes first.",
        _key(lambda q, r: (r.priority * q.ageing_seconds + r.arrival_time, r.arrival_time)),
    ),
    Misconception(
        "the quotient is rounded",
        "Two that tie on paper may not tie once they are divided and rounded. All of it times "
        "`ageing_seconds` gives the same order, and whole numbers stay exact.",
        _aged(lambda q, r: r.priority + r.arrival_time / q.ageing_seconds),
    ),
)
DEADLINE = (
    Misconception(
        "the latest first",
        "Earliest deadline first: the smallest key is served first.",
        _key(lambda _, r: (-r.deadline, r.arrival_time)),
    ),
    Misconception(
        "counted from the arrival",
        "A deadline is a moment, on the same clock as the arrival. Nothing has to be added to it.",
        _key(lambda _, r: (r.arrival_time + r.deadline, r.arrival_time)),
    ),
    Misconception(
        "the time allowed",
        "Who has little time from arrival to deadline need not be who is due first.",
        _key(lambda _, r: (r.deadline - r.arrival_time, r.arrival_time)),
    ),
    Misconception(
        "arrival in front",
        "Then the deadline decides only between requests that arrive at the very same moment.",
        _key(lambda _, r: (r.arrival_time, r.deadline)),
    ),
    Misconception(
        "the deadline alone",
        "Of equal deadlines, and of those without one, the earlier arrival goes first.",
        _key(lambda _, r: r.deadline),
    ),
)

"""Why an order of service takes the request that it takes, in words that its numbers bear out."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from course_lib.scheduling.policies import POLICIES, RequestQueue
from course_lib.scheduling.request import Request

LABELS = {
    "fcfs": "FCFS",
    "priority": "priority",
    "sjf": "SJF",
    "srpt": "SRPT",
    "ageing": "ageing",
    "vtc": "VTC",
    "wfq": "WFQ",
    "edf": "EDF",
}


def label(name: str) -> str:
    """Return what the figure calls an order.

    >>> label("sjf"), label("mine")
    ('SJF', 'mine')
    """
    return LABELS.get(name, name)


@dataclass(frozen=True)
class Context:
    """What a queue may look at beside the requests.

    Attributes:
        seconds: The time.
        counters: What each client was charged.
        ageing_seconds: How long it takes to become more important by one.
        keys: The keys under which requests lie in its heap, by request id. Asked for again, one may
            be another, as in ``WFQRequestQueue``.
    """

    seconds: float
    counters: Mapping[str, float]
    ageing_seconds: float
    keys: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def of(cls, queue: RequestQueue, seconds: float) -> Context:
        """Return what a queue knows now."""
        counters = dict(getattr(queue, "counters", {}))
        keys = {e[2].request_id: e[0] for e in getattr(queue, "heap", ()) if _is_entry(e)}
        return cls(seconds, counters, getattr(queue, "ageing_seconds", 10.0), keys)


def _is_entry(entry: Any) -> bool:
    """Whether it is (key, number, request); the heap of a learner may have another shape."""
    return isinstance(entry, tuple) and len(entry) == 3 and isinstance(entry[2], Request)


Measure = Callable[[Request, Context], tuple[Any, str]]
"""Returns what an order goes by, the least first, and the same in words."""


def _by_arrival(request: Request, _context: Context) -> tuple[Any, str]:
    return request.arrival_time, f"came at {request.arrival_time:.2f} s"


def _by_priority(request: Request, _context: Context) -> tuple[Any, str]:
    said = f"has priority {request.priority} and came at {request.arrival_time:.2f} s"
    return (request.priority, request.arrival_time), said


def _by_length(request: Request, _context: Context) -> tuple[Any, str]:
    declared = request.num_prompt_tokens + request.max_tokens
    return declared, f"declares {declared:,} tokens"


def _by_rest(request: Request, _context: Context) -> tuple[Any, str]:
    rest = request.num_prompt_tokens + request.max_tokens - request.num_output_tokens
    return rest, f"declares {rest:,} tokens that are not generated"


def _by_age(request: Request, context: Context) -> tuple[Any, str]:
    waited, period = context.seconds - request.arrival_time, context.ageing_seconds
    rank = request.priority - waited / period
    said = f"has priority {request.priority}, less {waited:.1f} s / {period:g} s waited: {rank:.2f}"
    return round(rank, 9), said.replace(": -", ": −")


def _by_service(request: Request, context: Context) -> tuple[Any, str]:
    charged = context.counters.get(request.client_id, 0.0)
    return (
        charged,
        f"is of client {request.client_id}, charged {charged:,.0f} tokens in this line",
    )


def _by_deadline(request: Request, _context: Context) -> tuple[Any, str]:
    return request.deadline, f"is due at {request.deadline:.2f} s"


_MEASURES: dict[str, tuple[Measure, str]] = {
    "fcfs": (_by_arrival, "nobody came earlier"),
    "priority": (_by_priority, "nobody is more important, or as important and earlier"),
    "sjf": (_by_length, "nobody declares fewer"),
    "srpt": (_by_rest, "nobody has fewer"),
    "ageing": (_by_age, "nobody has less"),
    "vtc": (_by_service, "no client that waits was charged less"),
    "edf": (_by_deadline, "nobody is due earlier"),
}


def reason(
    name: str, queue: RequestQueue | None, waiting: Sequence[Request], context: Context
) -> str:
    """Say why the first of those who wait is next, and whether what it goes by is the least.

    Args:
        name: What the order is called.
        queue: The queue, which may have a key of its own.
        waiting: Who waits, first who is next.
        context: What the queue knew.

    >>> line = [Request("7", [1] * 30, 4), Request("8", [1] * 30, 6)]
    >>> reason("sjf", None, line, Context(0.0, {}, 10.0))
    'it declares 34 tokens, and nobody declares fewer'
    >>> reason("sjf", None, line[::-1], Context(0.0, {}, 10.0))
    'it declares 36 tokens, though request 7 declares 34 tokens'
    """
    known = kind_of(name, queue)
    if known in _MEASURES:
        measure, least = _MEASURES[known]
    elif hasattr(queue, "key"):
        measure, least = _by_key(queue), "no key is smaller"
    else:
        return "the queue takes it"
    try:
        value, said = measure(waiting[0], context)
        ahead = min(waiting, key=lambda request: measure(request, context)[0])
        best, said_of_best = measure(ahead, context)
    except Exception as error:  # a learner's key
        return f"its key cannot be told, {type(error).__name__}: {error}"
    if best < value:
        return f"it {said}, though request {ahead.request_id} {said_of_best}"
    return f"it {said}, and {least}"


def kind_of(name: str, queue: RequestQueue | None) -> str:
    """Return the name of the library's order that a queue is, or is made of; else its own name."""
    if name in POLICIES:
        return name
    return next(
        (known for known, kind in POLICIES.items() if type(queue) is kind),
        name,
    )


def _by_key(queue: Any) -> Measure:
    def measure(request: Request, context: Context) -> tuple[Any, str]:
        name = request.request_id
        key = context.keys[name] if name in context.keys else queue.key(request)
        shown = f"{key:,.6g}" if isinstance(key, int | float) else repr(key)
        return key, f"has the key {shown}"

    return measure

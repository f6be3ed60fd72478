"""Traces as plain data, and two that the tracer took of vLLM.

In ``vllm_runs.json``, vLLM 0.33.0's own scheduler, KV cache manager and output processor serve
three requests on a CPU, without its model: the tokens are those that course-tiny gives greedily.
"""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict

from course_lib.engine.tracing.events import Event
from course_lib.engine.tracing.trace import Trace
from course_lib.steps import Step, StepTable

_PATH = Path(__file__).with_name("vllm_runs.json")


class _Recorded(BaseModel):
    """The form of a trace as plain data: who reads it gets each field in its type, or an error."""

    model_config = ConfigDict(extra="forbid")

    events: list[Event]
    steps: list[Step]
    queues: dict[int, str]


def as_data(trace: Trace) -> dict[str, Any]:
    """Return a trace as plain data, for JSON; times in microseconds.

    Of an event only what was said of it is kept: fields that have their default are left out.

    >>> trace = Trace([Event(0.5, 0.25, "api", "arrives", None, "a")], StepTable([]))
    >>> [event] = as_data(trace)["events"]
    >>> event["start"], event["action"], "reason" in event
    (500000, 'arrives', False)
    >>> list(from_data(as_data(trace))) == list(trace)
    True
    """
    events, steps = ([_said(each) for each in table] for table in (trace, trace.steps))
    return {"events": events, "steps": steps, "queues": dict(trace.queues)}


def from_data(data: dict[str, Any]) -> Trace:
    """Return the trace that ``as_data`` has made plain data of.

    Args:
        data: The data, also as JSON gives it back: lists for tuples, texts for numbers of steps.

    Raises:
        ValueError: A field is missing, unknown, or of another type; says which.
    """
    read = _Recorded.model_validate(data)
    events = [each._replace(**_in_seconds(each)) for each in read.events]
    steps = [each._replace(**_in_seconds(each)) for each in read.steps]
    return Trace(events, StepTable(steps), read.queues)


@cache
def vllm_runs() -> dict[str, Trace]:
    """Return the recorded runs of vLLM: ``"in turn"``, and ``"ahead"``, as vLLM plans by default.

    >>> {name: len(trace.steps) for name, trace in vllm_runs().items()}
    {'in turn': 46, 'ahead': 49}
    """
    runs = json.loads(_PATH.read_text(encoding="utf-8"))["runs"]
    return {name: from_data(data) for name, data in runs.items()}


def _said(row: Event | Step) -> dict[str, Any]:
    """Return the fields of a row that have not their defaults, times as whole microseconds."""
    defaults = row._field_defaults
    known = {name: value for name, value in row._asdict().items() if value != defaults.get(name)}
    times = {name: round(1e6 * getattr(row, name)) for name in ("start", "seconds")}
    return known | times


def _in_seconds(row: Event | Step) -> dict[str, Any]:
    """Return the times of a row that was read, which has them in microseconds."""
    return {"start": row.start / 1e6, "seconds": row.seconds / 1e6}

"""A trace in words: what was done for one request, or for all of them, step by step."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import groupby

from course_lib.engine.tracing.events import COMPONENTS, Event
from course_lib.steps import StepTable

_MOST_CHARACTERS = 60
_MOST_BLOCKS = 8
_INDENT = " " * 4
_COMPONENT_WIDTH = max(map(len, COMPONENTS)) + 2


def tell_request(request_id: str, events: Sequence[Event]) -> str:
    """Tell what happened to one request, one paragraph per step.

    Steps in which it only waits, for the same reason, are told as one. So is a step in which it
    only gets its next token.

    Args:
        request_id: The request.
        events: What happened to it, in order.
    """
    lines = list(_heading(request_id, events))
    origin = events[0].start
    for key, steps in groupby(_steps_of(events), key=_waiting_for):
        together = list(steps)
        for number, of_step in together if key is None else together[:1]:
            where = _where(number, together[-1][0] if key else number)
            when = f"{_milliseconds(of_step[0].start - origin)}"
            first, *rest = tell_step(of_step)
            lines.append(f"{where:<14}{when:>12}  {first}")
            lines += [_INDENT + line for line in rest]
    return "\n".join(lines)


def tell_all(events: Sequence[Event], steps: StepTable) -> str:
    """Tell what happened in each step, one line per request.

    Args:
        events: What happened, in order.
        steps: The steps of the engine.
    """
    lines: list[str] = []
    waiting: list[Event] = []
    for number, of_step in _steps_of(events):
        when = _milliseconds(of_step[0].start)
        if number is None:
            [event] = of_step
            whom = "" if event.request_id is None else f"{event.request_id!r}  "
            lines.append(f"{when:>12}  {whom}{_phrase(event)}")
            continue
        lines.append(f"{when:>12}  step {number}{_summary(steps, number)}")
        waiting = [event for event in waiting if number in event.steps]
        of_requests: dict[str, list[Event]] = {}
        for event in [*of_step, *waiting]:
            if event.request_id is not None:
                of_requests.setdefault(event.request_id, []).append(event)
        waiting += [event for event in of_step if event.last_step is not None]
        told = {name: _line(of_request) for name, of_request in of_requests.items()}
        num_behind = sum(line.startswith("waits: behind") for line in told.values())
        lines += [
            f"{_INDENT}{name!r}  {line}"
            for name, line in told.items()
            if not line.startswith("waits: behind")
        ]
        if num_behind:
            lines.append(f"{_INDENT}{num_behind} more wait behind that")
    return "\n".join(lines)


def _heading(request_id: str, events: Sequence[Event]) -> Iterator[str]:
    """Yield what a request was, in one or two lines."""
    steps = [event.step for event in events if event.step is not None]
    num_prompt_tokens = next((e.num_tokens for e in events if e.action == "arrives"), None)
    num_output_tokens = sum(event.action == "chooses" for event in events)
    facts = [
        *([] if num_prompt_tokens is None else [f"{_tokens(num_prompt_tokens)} in"]),
        f"{num_output_tokens} out",
        *([f"steps {min(steps)} to {max(steps)}"] if steps else []),
        _milliseconds(max(event.end for event in events) - events[0].start),
    ]
    yield f"Request {request_id!r}: {', '.join(facts)}"
    for event in events:
        if event.action == "arrives" and event.text:
            yield _INDENT + _quoted(event.text)


def _steps_of(events: Iterable[Event]) -> Iterator[tuple[int | None, list[Event]]]:
    """Yield events in steps; those between steps one by one."""
    for number, group in groupby(events, key=lambda event: event.step):
        if number is None:
            yield from ((None, [event]) for event in group)
        else:
            yield number, list(group)


def _waiting_for(step: tuple[int | None, Sequence[Event]]) -> str | None:
    """Return why a request waits in a step; None if it does not."""
    return next((event.reason for event in step[1] if event.action == "waits"), None)


def _where(first: int | None, last: int | None) -> str:
    """Return "step 3", or "steps 3-7"."""
    if first is None:
        return ""
    return f"step {first}" if first == last else f"steps {first}-{last}"


def tell_step(events: Sequence[Event]) -> list[str]:
    """Tell a step of a request: in one line if it is all in one, else in one line for each part.

    Args:
        events: What was done for the request in the step, in order.
    """
    if len(events) == 1 or _waiting_for((0, events)) is not None or _is_next_token(events):
        return [_line(events)]
    decided = [event for event in events if event.component == "scheduler"]
    lines = [_line(decided) or "meanwhile"]
    rest = [event for event in events if event.component != "scheduler"]
    for component, together in groupby(rest, key=lambda event: event.component):
        lines.append(f"{component:<{_COMPONENT_WIDTH}}{_line(list(together))}")
    return lines


def _is_next_token(events: Sequence[Event]) -> bool:
    """Say whether a step gave a request its next token, and did nothing else for it."""
    is_continued = any(event.action == "continues" and event.num_tokens == 1 for event in events)
    return is_continued and not any(event.component == "block manager" for event in events)


def _line(events: Sequence[Event]) -> str:
    """Tell events in one line."""
    waiting = [event for event in events if event.action == "waits"]
    if waiting:
        return _phrase(waiting[0])
    if _is_next_token(events) and len(events) > 1:
        # The token and its text say it all, unless they differ.
        shown = next((event.text for event in events if event.action == "shows"), None)
        events = [
            event
            for event in events
            if event.action not in ("continues", "shows")
            or (event.action == "shows" and shown not in _texts(events))
        ]
    # What is tried again in the same step, and fails again, is told once.
    return "; ".join(dict.fromkeys(_phrase(event) for event in events))


def _texts(events: Iterable[Event]) -> set[str]:
    """Return the texts of the tokens that were chosen."""
    return {event.text for event in events if event.action == "chooses"}


def _summary(steps: StepTable, number: int) -> str:
    """Return what a step was like; nothing if it did not come to its end."""
    if number >= len(steps):
        return " was not completed"
    step = steps[number]
    return (
        f", {_milliseconds(step.seconds)}: {_tokens(step.num_tokens)} of {step.num_requests} "
        f"requests; {step.num_running} run, {step.num_waiting} wait, "
        f"{step.kv_usage:.0%} of the blocks in use"
    )


def _phrase(event: Event) -> str:
    """Tell one event."""
    tell = _PHRASES.get(event.action)
    if tell is not None:
        return tell(event)
    return f"{event.action}: {event.reason}" if event.reason else event.action


def _computes(event: Event) -> str:
    first, count = event.position or 0, event.num_tokens or 0
    where = f"position {first}" if count == 1 else f"positions {first} to {first + count - 1}"
    return f"computes {where}, {_milliseconds(event.seconds)} for the batch"


def _served(event: Event) -> str:
    return f"{event.action} with {_tokens(event.num_tokens or 0)} from position {event.position}"


def _shows(event: Event) -> str:
    return f"shows {_quoted(event.text)}" if event.text else "shows nothing yet"


def _moves(event: Event) -> str:
    moves = ", ".join(f"{a} to {b}" for a, b in event.pairs[:_MOST_BLOCKS])
    more = len(event.pairs) - _MOST_BLOCKS
    return f"{event.action} blocks {moves}" + (f" and {more} more" if more > 0 else "")


_PHRASES: dict[str, Callable[[Event], str]] = {
    "encodes": lambda e: f"makes {_tokens(e.num_tokens or 0)} of {len(e.text)} characters",
    "arrives": lambda e: f"arrives with {_tokens(e.num_tokens or 0)}",
    "starts": _served,
    "continues": _served,
    "resumes": _served,
    "finds": lambda e: f"finds {_tokens(e.num_tokens or 0)} in {_blocks(e)} of the cache",
    "takes": lambda e: f"takes {_blocks(e)}, {e.num_free_blocks} left free",
    "lacks room": lambda e: f"has too little room, {e.num_free_blocks} blocks free",
    "frees": lambda e: f"frees {_blocks(e)}, {e.num_free_blocks} free then",
    "shares": lambda e: f"shares {_blocks(e)} {e.reason}",
    "copies": _moves,
    "swaps out": _moves,
    "swaps in": _moves,
    "computes": _computes,
    "chooses": lambda e: f"chooses token {e.token_id} {_quoted(e.text)}",
    "shows": _shows,
}
"""How to tell an action; others are told by their name and their reason."""


def _blocks(event: Event) -> str:
    """Return "block 3" or "blocks 3 4 5"."""
    names = [str(block_id) for block_id in event.blocks]
    if len(names) == 1:
        return f"block {names[0]}"
    if len(names) > _MOST_BLOCKS:
        names = [*names[: _MOST_BLOCKS - 1], "...", names[-1], f"({len(names)} of them)"]
    return f"blocks {' '.join(names)}" if names else "no block"


def _tokens(count: int) -> str:
    """Return "1 token" or "n tokens"."""
    return f"{count:,} token" if count == 1 else f"{count:,} tokens"


def _milliseconds(seconds: float) -> str:
    """Return a time for a reader: ``0.0123`` is "12.30 ms"."""
    return f"{1e3 * seconds:,.2f} ms"


def _quoted(text: str) -> str:
    """Return a text in quotes, on one line, cut if it is long."""
    if len(text) > _MOST_CHARACTERS:
        text = text[: _MOST_CHARACTERS - 3] + "..."
    return json.dumps(text, ensure_ascii=False)

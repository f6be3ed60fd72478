"""The request trace: what a file for a trace viewer must be, and files that are not."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable
from functools import cache
from random import Random
from typing import Any

from autograder.checks.finding import Misconception
from course_lib.engine.tracing.recorded import vllm_runs
from course_lib.engine.tracing.trace import Trace
from course_lib.steps import StepTable

Events = list[dict[str, Any]]
_FEW = 80
"""Events of a recorded run: the followed request has come, and its prompt is computed."""


def time_line_violations(events: Events) -> list[str]:
    """Return one sentence for each rule of the trace event format that is broken."""
    said = []
    tracks = {e["tid"] for e in events if e["ph"] == "M" and e["name"] == "thread_name"}
    begun: defaultdict[tuple[Any, ...], list[float]] = defaultdict(list)
    arrows: defaultdict[Any, list[str]] = defaultdict(list)
    for event in sorted(events, key=lambda event: event.get("ts", 0)):
        mark = event["ph"]
        if mark == "X" and (event.get("dur", -1) < 0 or event.get("tid") not in tracks):
            said.append(f"{event['name']} has no duration, or no track")
        elif mark == "b":
            begun[event["cat"], event["id"], event["name"]].append(event["ts"])
        elif mark == "e" and not begun[event["cat"], event["id"], event["name"]]:
            said.append(f"{event['name']} of {event['id']} ends and was not begun")
        elif mark == "e":
            begun[event["cat"], event["id"], event["name"]].pop()
        elif mark in "stf":
            arrows[event["id"]].append(mark)
    said += [f"{name} is still open" for name, starts in begun.items() if starts]
    for number, marks in arrows.items():
        if marks != ["s", *["t"] * (len(marks) - 2), "f"]:
            said.append(f"arrow {number} goes {''.join(marks)}")
    return said


# Files


def _name(number: int, name: str) -> dict[str, Any]:
    return {"ph": "M", "name": "thread_name", "pid": 0, "tid": number, "args": {"name": name}}


def _bar(name: str, tid: int, ts: float, dur: float) -> dict[str, Any]:
    return {"ph": "X", "name": name, "pid": 0, "tid": tid, "ts": ts, "dur": dur}


def _phase(mark: str, of: str, name: str, ts: float) -> dict[str, Any]:
    phase = {"ph": mark, "cat": "request", "id": of, "name": name}
    return phase | {"pid": 0, "tid": 0, "ts": ts}


def _arrow(mark: str, number: int, tid: int, ts: float) -> dict[str, Any]:
    arrow = {"ph": mark, "cat": "request", "id": number, "name": "request", "bp": "e"}
    return arrow | {"pid": 0, "tid": tid, "ts": ts}


def small() -> Events:
    """Return a small file in which nothing is wrong."""
    return [
        _name(1, "scheduler"),
        _name(2, "executor"),
        _bar("plans", 1, 0.0, 3.0),
        _phase("b", "a", "waiting", 0.0),
        _phase("e", "a", "waiting", 1.0),
        _phase("b", "a", "running", 1.0),
        _arrow("s", 0, 1, 1.0),
        _phase("b", "b", "running", 2.0),
        _bar("runs the model", 2, 3.0, 9.0),
        _arrow("t", 0, 2, 4.0),
        _bar("plans", 1, 12.0, 1.0),
        _arrow("f", 0, 1, 12.0),
        _phase("e", "b", "running", 12.5),
        _phase("e", "a", "running", 13.0),
    ]


def _with(place: int, **changed: Any) -> Events:
    return [event | changed if number == place else event for number, event in enumerate(small())]


@cache
def _of_vllm() -> Events:
    """Return the file of a tracer, of the beginning of a recorded run."""
    beginning = Trace(vllm_runs()["in turn"][:_FEW], StepTable([]))
    return beginning.request("followed").chrome_events()


def _bare(event: dict[str, Any], *lacking: str) -> dict[str, Any]:
    """Return an event without some of what belongs to it."""
    return {key: value for key, value in event.items() if key not in lacking}


_PLANS = _bar("plans", 1, 0.0, 3.0)
_NAMED = _name(1, "scheduler")
_SORTED = _name(1, "scheduler") | {"name": "thread_sort_index"}


def _phases(*marks: tuple[str, str, str, float]) -> Events:
    """Return a file of phases alone: mark, request, name and time of each."""
    return [_phase(*each) for each in marks]


def _arrows(*marks: tuple[str, float]) -> Events:
    """Return a file of one arrow: its marks with their times."""
    return [_arrow(mark, 0, 1, ts) for mark, ts in marks]


FAULTY: dict[str, Events] = {
    "a bar without a duration": [_NAMED, _bare(_PLANS, "dur")],
    "a negative duration": [_NAMED, _PLANS | {"dur": -9.0}],
    "a track without a name": [_NAMED, _PLANS, _PLANS | {"tid": 2}],
    "a track with a place and no name": [_SORTED, _PLANS],
    "a bar on no track": [_NAMED, _bare(_PLANS, "tid")],
    "a phase that is not ended": _phases(("b", "a", "waiting", 0.0)),
    "a phase that is not begun": _phases(("e", "a", "waiting", 1.0)),
    "a phase that ends before it begins": _phases(
        ("b", "a", "waiting", 1.0), ("e", "a", "waiting", 0.5)
    ),
    "the phase of somebody else is ended": _phases(
        ("b", "a", "running", 0.0),
        ("b", "b", "running", 1.0),
        ("e", "a", "running", 2.0),
        ("e", "a", "running", 3.0),
    ),
    "a phase of another name is ended": _phases(
        ("b", "a", "waiting", 0.0), ("e", "a", "running", 1.0)
    ),
    "a phase of another category is ended": [
        _phase("b", "a", "waiting", 0.0),
        _phase("e", "a", "waiting", 1.0) | {"cat": "block"},
    ],
    "a phase that ends half a microsecond before it begins": _phases(
        ("b", "a", "waiting", 1.75), ("e", "a", "waiting", 1.25)
    ),
    "a phase whose end comes first in the same moment": _phases(
        ("e", "a", "waiting", 2.0), ("b", "a", "waiting", 2.0)
    ),
    "an arrow without a start": _arrows(("t", 0.0), ("f", 1.0)),
    "an arrow without an end": _arrows(("s", 0.0), ("t", 1.0)),
    "an arrow that starts and goes nowhere": _arrows(("s", 0.0)),
    "an arrow that ends and came from nowhere": _arrows(("f", 0.0)),
    "an arrow that starts twice": _arrows(("s", 0.0), ("s", 1.0), ("f", 2.0)),
    "an arrow that ends twice": _arrows(("s", 0.0), ("f", 1.0), ("f", 2.0)),
    "an arrow that goes on before it starts": _arrows(("t", 0.0), ("s", 1.0), ("f", 2.0)),
    "an arrow that goes on behind its end": _arrows(("s", 0.0), ("f", 1.0), ("t", 2.0)),
    "somewhere in a file": _with(12, id="a"),
}
"""Files in which something is wrong."""

VALID: dict[str, Events] = {
    "empty": [],
    "small": small(),
    "out of order": [*small()[8:], *small()[:8]],
    "tracks named last": [_PLANS, _NAMED],
    "a bar of no length": _with(10, dur=0.0),
    "with a counter": [
        *small(),
        {"ph": "C", "name": "waiting", "pid": 0, "ts": 15.0, "args": {"requests": 2}},
    ],
    "a phase again": [
        *small(),
        _phase("b", "a", "waiting", 20.0),
        _phase("e", "a", "waiting", 21.0),
    ],
    "a phase of one moment": _phases(("b", "a", "waiting", 2.0), ("e", "a", "waiting", 2.0)),
    "two arrows": [*small(), _arrow("s", 1, 1, 14.0), _arrow("f", 1, 2, 15.0)],
    "an arrow of one moment": [*small(), _arrow("s", 1, 1, 14.0), _arrow("f", 1, 2, 14.0)],
    "of a tracer": _of_vllm(),
}
"""Files that a viewer takes."""


def spoiled(seed: int) -> dict[str, Events]:
    """Return the file of a tracer in which one event is spoiled, in three ways."""
    draw = Random(seed)
    events = _of_vllm()
    bars = [number for number, event in enumerate(events) if event["ph"] == "X"]
    ends = [number for number, event in enumerate(events) if event["ph"] == "e"]
    lost, spoilt = draw.choice(ends), draw.choice(bars)
    heads = [number for number, event in enumerate(events) if event["ph"] == "f"]
    return {
        "an end is lost": [e for number, e in enumerate(events) if number != lost],
        "an arrow's head is lost": [e for number, e in enumerate(events) if number not in heads],
        "a bar is turned round": [
            event | {"dur": -1.0} if number == spoilt else event
            for number, event in enumerate(events)
        ],
    }


def shown(events: Events) -> str:
    """Tell a file in one line: its marks, and how many there are of each."""
    if len(events) > 20:
        marks = sorted({event["ph"] for event in events})
        return ", ".join(f"{sum(e['ph'] == mark for e in events)} of {mark}" for mark in marks)
    return " ".join(_short(event) for event in events)


def _short(event: dict[str, Any]) -> str:
    """Return an event in a few signs."""
    if event["ph"] == "M":
        said = "track" if event["name"] == "thread_name" else event["name"]
        return f"{said} {event['tid']}"
    where = event.get("id", event.get("tid", ""))
    length = f"+{event.get('dur', '?')}" if event["ph"] == "X" else ""
    other = f" of {event['cat']}" if event.get("cat", "request") != "request" else ""
    return f"{event['ph']}({where} {event.get('name')}{other} {event['ts']}{length})"


# What a checker gets wrong


def _only(*kinds: str) -> Callable[[Events], list[str]]:
    """Return a checker that looks at some marks alone."""

    def look(events: Events) -> list[str]:
        return time_line_violations([event for event in events if event["ph"] in kinds])

    return look


def counts_alone(events: Events) -> list[str]:
    """Count beginnings and ends, whosever they are."""
    rest = [event for event in events if event["ph"] not in "be"]
    begun = sum(event["ph"] == "b" for event in events)
    ended = sum(event["ph"] == "e" for event in events)
    return time_line_violations(rest) + (["begun and ended differ"] if begun != ended else [])


def in_the_order_of_the_file(events: Events) -> list[str]:
    """Believe that a file is in the order of time."""
    said = time_line_violations(events)
    times = [event["ts"] for event in events if "ts" in event]
    return said + (["out of order"] if times != sorted(times) else [])


def no_bar_of_no_length(events: Events) -> list[str]:
    """Refuse bars that take no time."""
    said = time_line_violations(events)
    return said + [event["name"] for event in events if event["ph"] == "X" and not event.get("dur")]


def arrows_not_looked_at(events: Events) -> list[str]:
    """Pass over the arrows."""
    return time_line_violations([event for event in events if event["ph"] not in "stf"])


def phases_by_request(events: Events) -> list[str]:
    """Pair ends with whatever phase of the same request is open."""
    return time_line_violations(
        [e | {"name": "", "cat": ""} if e["ph"] in ("b", "e") else e for e in events]
    )


def phases_without_category(events: Events) -> list[str]:
    """Pair ends with the phase of the same request and name, of any category."""
    return time_line_violations([e | {"cat": ""} if e["ph"] in ("b", "e") else e for e in events])


def arrows_are_counted(events: Events) -> list[str]:
    """Ask of an arrow for one start and one end, in any order."""
    order = {"s": 0.0, "t": 1.0, "f": 2.0}
    return time_line_violations(
        [e | {"ts": order[e["ph"]]} if e["ph"] in order else e for e in events]
    )


def by_time_and_mark(events: Events) -> list[str]:
    """Sort what happens in the same moment by its mark."""
    return time_line_violations(sorted(events, key=lambda e: (e.get("ts", 0), e["ph"])))


def ends_first(events: Events) -> list[str]:
    """Look at the ends of a moment before its beginnings."""
    in_order = sorted(events, key=lambda event: (event.get("ts", 0), event["ph"] != "e"))
    return time_line_violations(in_order)


def whole_microseconds(events: Events) -> list[str]:
    """Take times within one microsecond for equal."""
    return time_line_violations([e | {"ts": int(e["ts"])} if "ts" in e else e for e in events])


def arrows_may_end_again(events: Events) -> list[str]:
    """Look at the first end of an arrow alone."""
    seen: set[Any] = set()
    kept = []
    for event in sorted(events, key=lambda event: event.get("ts", 0)):
        if event["ph"] != "f" or event["id"] not in seen:
            kept.append(event)
        seen |= {event["id"]} if event["ph"] == "f" else set()
    return time_line_violations(kept)


def phases_without_name(events: Events) -> list[str]:
    """Pair ends with the phase of the same category and request, of any name."""
    return time_line_violations([e | {"name": ""} if e["ph"] in ("b", "e") else e for e in events])


def phases_without_request(events: Events) -> list[str]:
    """Pair ends with the phase of the same category and name, of anybody."""
    return time_line_violations([e | {"id": ""} if e["ph"] in ("b", "e") else e for e in events])


def what_is_open_stays(events: Events) -> list[str]:
    """Look at ends alone, and not at what has none."""
    return [each for each in time_line_violations(events) if not each.endswith("is still open")]


def a_bar_may_lack_its_length(events: Events) -> list[str]:
    """Take a bar without a duration for one of no length."""
    return time_line_violations([{"dur": 0} | e if e["ph"] == "X" else e for e in events])


def arrows_need_no_end(events: Events) -> list[str]:
    """Pass over arrows that start and do nothing else."""
    marks = [(e["id"], e["ph"]) for e in events if e["ph"] in ("s", "t", "f")]
    alone = {of for of, mark in marks if all(other != of or each == "s" for other, each in marks)}
    return time_line_violations([e for e in events if e["ph"] != "s" or e["id"] not in alone])


def arrows_may_lack_their_end(events: Events) -> list[str]:
    """Ask of an arrow that its start comes first, and not for its end."""
    ends = {e["id"] for e in events if e["ph"] == "f"}
    open_ones = [e for e in events if e["ph"] == "s" and e["id"] not in ends]
    last = [e | {"ph": "f", "ts": float("inf")} for e in open_ones]
    return time_line_violations([*events, *last])


def arrows_may_start_again(events: Events) -> list[str]:
    """Ask which mark of an arrow is first and which is last, and not what is between."""
    inner = [e for e in events if e["ph"] == "s" and _starts_again(e, events)]
    return time_line_violations([e for e in events if e not in inner])


def _starts_again(event: dict[str, Any], events: Events) -> bool:
    starts = [e["ts"] for e in events if e["ph"] == "s" and e["id"] == event["id"]]
    return bool(event["ts"] > min(starts))


def ends_need_no_beginning(events: Events) -> list[str]:
    """Pass over an end whose phase is not open."""
    return [each for each in time_line_violations(events) if not each.endswith("was not begun")]


def names_stand_first(events: Events) -> list[str]:
    """Believe that a track is named before its first bar."""
    late = []
    named: set[Any] = set()
    for event in sorted(events, key=lambda event: event.get("ts", 0)):
        if event["ph"] == "M" and event["name"] == "thread_name":
            named.add(event["tid"])
        elif event["ph"] == "X" and event.get("tid") not in named:
            late.append(f"{event['name']} has no track")
    return time_line_violations(events) + late


def any_bar_without_a_track(events: Events) -> list[str]:
    """Ask for the name of a track only where a bar has one."""
    tracks = [e["tid"] for e in events if e["ph"] == "M" and e["name"] == "thread_name"]
    if not tracks:
        return time_line_violations(events)
    return time_line_violations([{"tid": tracks[0]} | e if e["ph"] == "X" else e for e in events])


def any_mark_names_a_track(events: Events) -> list[str]:
    """Take each M for a track's name."""
    return time_line_violations(
        [e | {"name": "thread_name"} if e["ph"] == "M" and "tid" in e else e for e in events]
    )


CHECKER = (
    Misconception(
        "phases without their name",
        "A request may be in several phases at once, and of one category: `name` is a part of what "
        "an end must share with its beginning.",
        phases_without_name,
    ),
    Misconception(
        "phases of anybody",
        "Several requests may be in a phase of one name: `id` is a part of what an end must share "
        "with its beginning.",
        phases_without_request,
    ),
    Misconception(
        "what is open stays open",
        "A phase that never ends breaks a rule as well: when all events are gone through, none is "
        "open.",
        what_is_open_stays,
    ),
    Misconception(
        "a bar may lack its length",
        "A bar has a `dur`. One without it is not one of no length: a viewer draws none.",
        a_bar_may_lack_its_length,
    ),
    Misconception(
        "a bar on no track",
        "A bar without a `tid` is on no track, and so on none that has a name.",
        any_bar_without_a_track,
    ),
    Misconception(
        "names stand first",
        "The events come in any order: gather the names of all tracks before you look at a bar.",
        names_stand_first,
    ),
    Misconception(
        "an end needs no beginning",
        "An end whose phase is not open breaks a rule: it has not begun, or has ended before.",
        ends_need_no_beginning,
    ),
    Misconception(
        "an arrow may lack its end",
        "An arrow has a start and an end: its last mark is an `f`.",
        arrows_may_lack_their_end,
    ),
    Misconception(
        "an arrow may start again",
        "An arrow has one start. What is between its start and its end are marks `t` alone.",
        arrows_may_start_again,
    ),
    Misconception(
        "an arrow of one mark",
        "An arrow has a start and an end: one mark alone is none.",
        arrows_need_no_end,
    ),
    Misconception(
        "any M names a track",
        "`M` says several things of a track. Its name is the one that is called `thread_name`.",
        any_mark_names_a_track,
    ),
    Misconception(
        "bars alone",
        "Phases and arrows are pairs: a viewer draws one that is left open to the end of the run, "
        "or not at all.",
        _only("M", "X"),
    ),
    Misconception(
        "beginnings and ends are counted",
        "As many ends as beginnings may still be of different requests, or come first.",
        counts_alone,
    ),
    Misconception(
        "the file is in the order of time",
        "Viewers sort by `ts`; a tracer may write the bars of each kind one after the other.",
        in_the_order_of_the_file,
    ),
    Misconception(
        "of equal times another order",
        "Of equal times, the first in the list comes first: sort by `ts` alone, and what is equal "
        "keeps the order of the list.",
        by_time_and_mark,
    ),
    Misconception(
        "of equal times the ends first",
        "Of equal times, the first in the list comes first: a phase may begin and end in one "
        "moment, and its beginning is the first of the two.",
        ends_first,
    ),
    Misconception(
        "whole microseconds",
        "Times have fractions: what ends half a microsecond before it begins is out of order as "
        "well.",
        whole_microseconds,
    ),
    Misconception(
        "an arrow may end again",
        "An arrow has one end. What is between its start and its end are marks `t` alone.",
        arrows_may_end_again,
    ),
    Misconception(
        "a bar of no length",
        "What takes less than the clock can tell has a duration of 0, and that is a duration.",
        no_bar_of_no_length,
    ),
    Misconception(
        "phases by their request alone",
        "A request may be in several phases at once: an end belongs to the phase of the same "
        "`cat`, `id` and `name`.",
        phases_by_request,
    ),
    Misconception(
        "phases without their category",
        "Two phases may have the same `id` and `name` and be of different categories: `cat` is a "
        "part of what an end must share with its beginning.",
        phases_without_category,
    ),
    Misconception(
        "the marks of an arrow are counted",
        "One start and one end are not enough: in the order of time the start comes first and the "
        "end last.",
        arrows_are_counted,
    ),
    Misconception(
        "arrows are passed over",
        "An arrow has one start, which comes first, and one end, which comes last.",
        arrows_not_looked_at,
    ),
)

"""The request trace: the hunt, for what is lost in a run with more preemptions."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from hypothesis import strategies as st

from autograder.checks.finding import Misconception
from autograder.checks.function import Call, Large
from autograder.lessons.lesson14_runs import Served, SuspectScheduler, Tokens, Told, told_by
from course_lib.scheduling.variants.async_scheduler import AsyncScheduler

# 14.2a, what is lost


def lost_tokens(told: list[Told]) -> list[tuple[int, str]]:
    """Return the step and the request of each token that was chosen and never shown."""
    shown = {(step, name) for step, action, name in told if action == "shows"}
    chosen = [(step, name) for step, action, name in told if action == "chooses"]
    return [(step, name) for step, name in chosen if step is not None and (step, name) not in shown]


def by_request_alone(told: list[Told]) -> list[tuple[int | None, str]]:
    """Take a token for shown if its request was ever shown one."""
    shown = {name for _, action, name in told if action == "shows"}
    return [
        (step, name) for step, action, name in told if action == "chooses" and name not in shown
    ]


def by_step_alone(told: list[Told]) -> list[tuple[int | None, str]]:
    """Take a token for shown if anybody's was in that step."""
    shown = {step for step, action, _ in told if action == "shows"}
    return [
        (step, name) for step, action, name in told if action == "chooses" and step not in shown
    ]


def shown_so_far(told: list[Told]) -> list[tuple[int | None, str]]:
    """Look only at what the trace has told before the choice."""
    shown: set[tuple[int | None, str]] = set()
    lost = []
    for step, action, name in told:
        if action == "shows":
            shown.add((step, name))
        elif action == "chooses" and (step, name) not in shown:
            lost.append((step, name))
    return lost


def shown_from_here_on(told: list[Told]) -> list[tuple[int | None, str]]:
    """Look only at what the trace tells behind the choice."""
    behind = [(step, action, name) for step, action, name in reversed(told)]
    return shown_so_far(behind)[::-1]


def preemptions(told: list[Told]) -> list[tuple[int | None, str]]:
    """Return who was preempted, and when."""
    return [(step, name) for step, action, name in told if action == "is preempted"]


def next_step_too(told: list[Told]) -> list[tuple[int | None, str]]:
    """Take a token for shown if one was in the next step."""
    shown = {(step, name) for step, action, name in told if action == "shows"}
    return [
        (step, name)
        for step, action, name in told
        if action == "chooses" and not {(step, name), ((step or 0) + 1, name)} & shown
    ]


@st.composite
def traces(draw: st.DrawFn) -> Call:
    """Draw a short trace in which some tokens are not shown, with two plans in flight."""
    told: list[Told] = []
    waiting: list[Told] = []
    for step in range(draw(st.integers(0, 4))):
        told += waiting
        waiting = []
        for name in draw(st.lists(st.sampled_from("ab"), unique=True, max_size=2)):
            told += [(step, "continues", name), (step, "chooses", name)]
            if draw(st.booleans()):
                waiting.append((step, "shows", name))
            elif draw(st.booleans()):
                told.append((step + 1, "is preempted", name))
    return Call(told + waiting)


SOME_TRACES = (
    Call(
        [
            (0, "chooses", "a"),
            (0, "chooses", "b"),
            (1, "is preempted", "b"),
            (1, "chooses", "a"),
            (0, "shows", "a"),
            (2, "resumes", "b"),
            (2, "chooses", "b"),
            (1, "shows", "a"),
            (2, "shows", "b"),
        ]
    ),
    Call([(3, "chooses", "a"), (4, "chooses", "a"), (4, "shows", "a")]),
    Call([(5, "chooses", "a"), (6, "is preempted", "a"), (5, "shows", "a")]),
    Call([(0, "chooses", "b"), (0, "finishes", "b")]),
    Call([(0, "shows", "a"), (0, "chooses", "a"), (1, "chooses", "a")]),
    Call([]),
)


def _many() -> Call:
    steps = range(40_000)
    told: list[Told] = [(step, "chooses", "a") for step in steps]
    return Call(told + [(step, "shows", "a") for step in steps if step % 7])


MANY = Large(_many, "74,285 events")

LOST = (
    Misconception(
        "by the request alone",
        "A request that is shown one token may still lose another: a token is of a request and of "
        "a step.",
        by_request_alone,
    ),
    Misconception(
        "by the step alone",
        "That somebody's token of a step was shown says nothing of the others in the batch.",
        by_step_alone,
    ),
    Misconception(
        "only what was shown before",
        "With two plans in flight a token is shown after the next step was planned, so further "
        "down in the trace than its choice.",
        shown_so_far,
    ),
    Misconception(
        "only what is shown further down",
        "A token is shown by the line with its step and its request, wherever in the trace that "
        "line is: collect all of them first.",
        shown_from_here_on,
    ),
    Misconception(
        "preemptions for losses",
        "A preemption need not lose a token, and the step of the preemption is not the one in "
        "which the lost token was chosen.",
        preemptions,
    ),
    Misconception(
        "any later token will do",
        "The token of the next step is another one; it may have been computed again.",
        next_step_too,
    ),
)


# 14.2b, what the trace says


def findings() -> dict[str, Any]:
    """Return what is to be found in the trace of the suspect."""
    told = list(told_by(SuspectScheduler))
    lost = lost_tokens(told)
    counts = Counter(name for _, action, name in told if action == "is preempted")
    steps = {(step, name) for step, action, name in told if action == "resumes"}
    again = sum(
        (step - 1, name) in steps
        for step, action, name in told
        if action == "is preempted" and step is not None
    )
    return {
        "preemptions": sum(counts.values()),
        "lost": len(lost),
        "at once": again,
        "who": counts.most_common(1)[0][0],
        "how often": counts.most_common(1)[0][1],
    }


def _at_once(later: int = 1, begin: Sequence[str] = ("resumes",)) -> dict[str, Any]:
    """Return the findings of somebody who counts otherwise what is preempted at once.

    Args:
        later: How many steps after a request came back.
        begin: The actions with which it comes back.
    """
    told = list(told_by(SuspectScheduler))
    begun = {(step, name) for step, action, name in told if action in begin}
    gone = [(step, name) for step, action, name in told if action == "is preempted"]
    at_once = sum((step - later, name) in begun for step, name in gone if step is not None)
    return {**findings(), "at once": at_once}


FOUND = (
    Misconception(
        "requests, not preemptions",
        "A request may be preempted several times; each time counts.",
        lambda: {
            **findings(),
            "preemptions": len({n for _, a, n in told_by(SuspectScheduler) if a == "is preempted"}),
        },
    ),
    Misconception(
        "others count as well",
        "It is the very request that is preempted which resumed in the step before: not another "
        "one that did, and none that started then.",
        lambda: _at_once(begin=("resumes", "starts")),
    ),
    Misconception(
        "in the same step",
        "Who resumes in a step is in its plan. It is preempted at once if it gives way in the step "
        "behind it.",
        lambda: _at_once(later=0),
    ),
    Misconception(
        "the return behind it",
        "Who is preempted resumes a step later: that is another turn of the circle. Look for the "
        "return in the step before the preemption.",
        lambda: _at_once(later=-1),
    ),
    Misconception(
        "every preemption is one at once",
        "Some of them gave way for the first time; they had not come back the step before.",
        lambda: {**findings(), "at once": findings()["preemptions"]},
    ),
    Misconception(
        "the run that is right",
        "These are the preemptions of the other trace.",
        lambda: {
            **findings(),
            "preemptions": sum(a == "is preempted" for _, a, _ in told_by(AsyncScheduler)),
        },
    ),
)


# 14.2c, mended


def sort_tokens(
    planned: Tokens, alive: dict[str, tuple[int, str]], sampled: Tokens
) -> tuple[Tokens, Tokens]:
    """Return the tokens that come in time, and those that come late."""
    timely, late = {}, {}
    for name, token in sampled.items():
        number, status = alive.get(name, (None, ""))
        if number is None or planned.get(name) != number:
            continue
        if status == "RUNNING":
            timely[name] = token
        else:
            late[name] = token
    return timely, late


def as_it_was(
    planned: Tokens, alive: dict[str, tuple[int, str]], sampled: Tokens
) -> tuple[Tokens, Tokens]:
    """Keep the guard."""
    return sort_tokens(planned, alive, sampled)[0], {}


def by_name(
    planned: Tokens, alive: dict[str, tuple[int, str]], sampled: Tokens
) -> tuple[Tokens, Tokens]:
    """Give a token to whoever has the name now."""
    return sort_tokens({name: each[0] for name, each in alive.items()}, alive, sampled)


def all_in_time(
    planned: Tokens, alive: dict[str, tuple[int, str]], sampled: Tokens
) -> tuple[Tokens, Tokens]:
    """Treat those who wait as if they ran."""
    timely, late = sort_tokens(planned, alive, sampled)
    return {**timely, **late}, {}


def the_gone_as_well(
    planned: Tokens, alive: dict[str, tuple[int, str]], sampled: Tokens
) -> tuple[Tokens, Tokens]:
    """Call late what was computed for those who are gone."""
    timely, late = sort_tokens(planned, alive, sampled)
    gone = {name: token for name, token in sampled.items() if name not in alive}
    return timely, {**late, **gone}


def planned_for_anybody(
    planned: Tokens, alive: dict[str, tuple[int, str]], sampled: Tokens
) -> tuple[Tokens, Tokens]:
    """Ask whether anybody in the plan has the number."""
    numbers = set(planned.values())
    same = {name: each for name, each in alive.items() if each[0] in numbers}
    return sort_tokens({name: each[0] for name, each in same.items()}, same, sampled)


def number_0_is_none(
    planned: Tokens, alive: dict[str, tuple[int, str]], sampled: Tokens
) -> tuple[Tokens, Tokens]:
    """Take the number 0 for none."""
    return sort_tokens(planned, {n: each for n, each in alive.items() if each[0]}, sampled)


def token_0_is_none(
    planned: Tokens, alive: dict[str, tuple[int, str]], sampled: Tokens
) -> tuple[Tokens, Tokens]:
    """Take the token 0 for none."""
    return sort_tokens(planned, alive, {name: token for name, token in sampled.items() if token})


def small_numbers_alone(
    planned: Tokens, alive: dict[str, tuple[int, str]], sampled: Tokens
) -> tuple[Tokens, Tokens]:
    """Ask whether two numbers are one object, as those up to 256 are."""
    same = {name: each for name, each in alive.items() if each[0] <= 256}
    return sort_tokens(planned, same, sampled)


def waiting_alone(
    planned: Tokens, alive: dict[str, tuple[int, str]], sampled: Tokens
) -> tuple[Tokens, Tokens]:
    """Forget those who are on the CPU."""
    timely, late = sort_tokens(planned, alive, sampled)
    return timely, {name: token for name, token in late.items() if alive[name][1] != "SWAPPED"}


_STATUS = st.sampled_from(("RUNNING", "PREEMPTED", "SWAPPED", "WAITING"))


@st.composite
def arrivals(draw: st.DrawFn) -> Call:
    """Draw the tokens of a step: some requests run, wait, are gone, or are others by now."""
    planned: Tokens = {}
    alive: dict[str, tuple[int, str]] = {}
    sampled: Tokens = {}
    for number, name in enumerate("abc"[: draw(st.integers(0, 3))], 1):
        planned[name] = number
        sampled[name] = 70 + number
        fate = draw(st.sampled_from(("stays", "stays", "gone", "another")))
        if fate != "gone":
            alive[name] = (number if fate == "stays" else number + 10, draw(_STATUS))
    return Call(planned, alive, sampled)


SOME_ARRIVALS = (
    Call(
        {"a": 1, "b": 2, "c": 3, "d": 4},
        {"a": (1, "RUNNING"), "b": (2, "PREEMPTED"), "c": (13, "RUNNING"), "e": (5, "RUNNING")},
        {"a": 71, "b": 72, "c": 73, "d": 74},
    ),
    Call({"a": 1}, {"a": (1, "RUNNING")}, {"a": 71}),
    Call({"a": 1}, {"a": (1, "SWAPPED")}, {"a": 71}),
    Call({"a": 1}, {"a": (1, "WAITING")}, {"a": 71}),
    Call({"a": 1, "b": 2}, {"a": (11, "PREEMPTED"), "b": (2, "RUNNING")}, {"a": 71, "b": 72}),
    Call({"a": 1, "b": 2}, {"a": (1, "RUNNING"), "b": (2, "RUNNING")}, {"b": 72}),
    Call({"a": 0}, {"a": (0, "RUNNING")}, {"a": 71}),
    Call({"a": 1}, {"a": (1, "PREEMPTED")}, {"a": 0}),
    Call({"a": 1_000}, {"a": (1_000, "RUNNING")}, {"a": 71}),
    Call({"a": 1, "b": 2}, {"a": (2, "RUNNING"), "b": (2, "PREEMPTED")}, {"a": 71, "b": 72}),
    Call({}, {}, {}),
)

SORTED = (
    Misconception(
        "the guard is still there",
        "The token of a request that was preempted meanwhile is a token of its answer. Without it "
        "the same token has to be computed again.",
        as_it_was,
    ),
    Misconception(
        "to whoever has the name",
        "A request may be aborted and another one come under its name: it would be given a "
        "stranger's token. The numbers say whether it is the same request.",
        by_name,
    ),
    Misconception(
        "all in time",
        "Who waits has no placeholder that a token could take the place of, and may have to leave "
        "its queue. Such tokens go a way of their own.",
        all_in_time,
    ),
    Misconception(
        "tokens for those who are gone",
        "Who was aborted or has ended is not there any more, and nobody wants its token.",
        the_gone_as_well,
    ),
    Misconception(
        "a number of anybody's",
        "A number tells two requests of one name apart. Compare it with that which the plan has "
        "for this very name.",
        planned_for_anybody,
    ),
    Misconception(
        "the number 0 is none",
        "A request may have the number 0: ask whether it is in `alive`, not whether its number is "
        "true.",
        number_0_is_none,
    ),
    Misconception(
        "the token 0 is none",
        "0 is the id of a token like any other: what is in `sampled` was sampled.",
        token_0_is_none,
    ),
    Misconception(
        "numbers compared with is",
        "`is` asks whether two names stand for one object. Python keeps small numbers once, and "
        "others as often as they are made: ask with `==` or `!=`.",
        small_numbers_alone,
    ),
    Misconception(
        "those on the CPU are forgotten",
        "A request that was swapped out was preempted as well, and its answer goes on.",
        waiting_alone,
    ),
)


def numbers_of(runs: Mapping[str, Served]) -> Sequence[str]:
    """Return a line for each run: steps, preemptions, tokens computed, tokens lost."""
    return [
        f"{label:<10} {run.num_steps:>4} steps, "
        f"{sum(action == 'is preempted' for _, action, _ in run.told):>3} preemptions, "
        f"{run.num_tokens:>6,} tokens computed, {len(lost_tokens(run.told)):>3} lost"
        for label, run in runs.items()
    ]

"""Lesson 10: its bug hunt. A load generator that is slower than it says."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate
from typing import Any

from hypothesis import strategies as st

from autograder.checks.finding import Misconception
from autograder.checks.function import Call, Large
from course_lib.queueing.simulation import send_times

SECONDS_PER_SEND = 0.000449
"""What sending one request took in the run of vLLM's issue #21104: 1/183.52 − 1/200 s."""

# What the lesson shows


def suspect_send_times(gaps: Sequence[float], seconds_per_send: float) -> list[float]:
    """Return when each request of a plan is sent; the gaps are the plan."""
    sent = []
    now = 0.0
    for gap in gaps:
        now += gap  # sleep
        sent.append(now)
        now += seconds_per_send  # build the request and send it
    return sent


def mend_a(gaps: Sequence[float], seconds_per_send: float) -> list[float]:
    """Fix A: the work is taken off the next sleep."""
    sent = []
    now = 0.0
    work = 0.0
    for gap in gaps:
        now += max(0.0, gap - work)  # sleep
        sent.append(now)
        work = seconds_per_send
        now += work
    return sent


def mend_b(gaps: Sequence[float], seconds_per_send: float) -> list[float]:
    """Fix B: all gaps shrink by one factor, so that gaps and work take as long as the plan."""
    factor = 1 - len(gaps) * seconds_per_send / sum(gaps)
    return suspect_send_times([factor * gap for gap in gaps], seconds_per_send)


def rate_of(sent: Sequence[float]) -> float:
    """Return the requests per second from 0 to the last send."""
    return len(sent) / sent[-1]


# 10.6a

MISSED = 0.25


def reached(rate: float) -> float:
    """Return the rate that the suspect reaches in the long run where equal gaps ask for one."""
    return 1 / (1 / rate + SECONDS_PER_SEND)


def exposes(_: Any, rate: Any) -> str | None:
    """Agree with a rate that the suspect misses by over a quarter, and that could be reached."""
    if type(rate) not in (int, float) or not 0 < rate < float("inf"):
        return "a rate is a number of requests per second, above 0"
    if rate * SECONDS_PER_SEND > 1:
        return (
            f"at {rate:g}/s the next request is due before the last one is sent, "
            "whoever sends them: no generator can reach it"
        )
    if reached(rate) >= (1 - MISSED) * rate:
        share = reached(rate) / rate
        return f"asked for {rate:g}/s, it sends {reached(rate):.4g}/s, {share:.{digits(share)}%}"
    return None


def digits(share: float) -> int:
    """Return after how many decimals a per cent of the share differs from what is allowed."""
    return next(n for n in range(1, 9) if round(share, n + 2) != 1 - MISSED or n == 8)


def fails_alike(wrong: Any, answer: Any) -> str | None:
    """Agree on two rates for the kind of reason for which they do not do."""
    kinds = [_kind(each) for each in (wrong, answer)]
    return None if kinds[0] == kinds[1] != "" else ""


def _kind(rate: Any) -> str:
    said = exposes(None, rate) or ""
    return next((kind for kind in ("asked for", "no generator") if kind in said), "")


EXPOSED = (
    Misconception(
        "nearly reached",
        "The work of a send is added to each gap. It matters when it is a third of the gap.",
        lambda: 200.0,
    ),
    Misconception(
        "beyond anybody's reach",
        "Who is always sending sends 1 / 0.000449 = 2,227 requests per second. Above that a right "
        "generator is late as well.",
        lambda: 4000.0,
    ),
)

# 10.6b


def plan(gaps: list[float], seconds: float) -> Call:
    """Return a call with the gaps of a plan, and what a send takes."""
    return Call(gaps, seconds)


PLANS = st.builds(
    plan,
    st.lists(st.sampled_from([0.0, 0.25, 1.0, 2.0, 3.0]), max_size=6),
    st.sampled_from([0.0, 0.5, 0.75]),
)
SOME_PLANS = (
    plan([1.0, 0.25, 0.25, 1.0], 0.5),
    plan([1.0, 1.0, 1.0], 0.5),
    plan([0.25, 0.25, 0.25, 3.0], 1.0),
    plan([0.0, 2.0], 0.75),
    plan([], 0.5),
    plan([2.0, 0.25, 0.25, 0.25, 2.0], 0.5),
)
REFUSED_PLANS = (
    plan([-1.0], 0.5),
    plan([1.0], -0.5),
    plan([1.0, -0.25], 0.0),
    plan([float("inf")], 0.5),
    plan([1.0], float("inf")),
)
MANY_SENDS = Large(lambda: plan([0.25, 0.0, 1.0, 0.5] * 12_500, 0.5), "50,000 requests")


def _checked(gaps: Sequence[float], seconds: float) -> None:
    send_times(gaps, seconds)


def sleeps_after_the_work(gaps: Sequence[float], seconds_per_send: float) -> list[float]:
    """Return what the suspect does."""
    _checked(gaps, seconds_per_send)
    return suspect_send_times(gaps, seconds_per_send)


def takes_it_off_the_next_gap(gaps: Sequence[float], seconds_per_send: float) -> list[float]:
    """Return what fix A does."""
    _checked(gaps, seconds_per_send)
    return mend_a(gaps, seconds_per_send)


def without_work(gaps: Sequence[float], seconds_per_send: float) -> list[float]:
    """Send while a send is going on."""
    _checked(gaps, seconds_per_send)
    return list(accumulate(gaps))


def begins_at_zero(gaps: Sequence[float], seconds_per_send: float) -> list[float]:
    """Leave out the first gap."""
    return (
        send_times([0.0, *gaps[1:]], seconds_per_send)
        if gaps
        else send_times(gaps, seconds_per_send)
    )


def ends_of_sends(gaps: Sequence[float], seconds_per_send: float) -> list[float]:
    """Return when each send is over."""
    return [sent + seconds_per_send for sent in send_times(gaps, seconds_per_send)]


def any_plan(gaps: Sequence[float], seconds_per_send: float) -> list[float]:
    """Refuse nothing."""
    sent: list[float] = []
    due = free = 0.0
    for gap in gaps:
        due += gap
        sent.append(max(due, free))
        free = sent[-1] + seconds_per_send
    return sent


def by_the_longer(gaps: Sequence[float], seconds_per_send: float) -> list[float]:
    """Go on from each send by the gap or by the work, whichever takes longer."""
    _checked(gaps, seconds_per_send)
    return list(accumulate(max(gap, seconds_per_send) for gap in gaps))


MENDED = (
    Misconception(
        "the longer of gap and work",
        "A delay is never made up for, since each send is counted from the one before it. A "
        "request is due at the running sum of the gaps.",
        by_the_longer,
    ),
    Misconception(
        "sleeps after the work",
        "Each send still moves all later ones: the times when they are due must not depend on it.",
        sleeps_after_the_work,
    ),
    Misconception(
        "off the next gap",
        "A gap shorter than the work cannot pay for it, and the rest of the debt is forgotten. "
        "Remember when each request is due.",
        takes_it_off_the_next_gap,
    ),
    Misconception(
        "sending takes no time",
        "While one request is being sent the next one has to wait.",
        without_work,
    ),
    Misconception("the first at 0", "The first gap lies before the first request.", begins_at_zero),
    Misconception("ends of sends", "Asked for is when a send begins.", ends_of_sends),
    Misconception(
        "nothing refused",
        "A gap or a time that is below 0 or not finite is refused with a ValueError.",
        any_plan,
    ),
)

"""What lesson 5's figure says of a schedule, computed from it, in sentences and in a few words."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence

from course_lib.viz.batching.schedules import CLOSED, Clock, Schedule
from course_lib.viz.iteration.words import limit_of
from course_lib.viz.kit.charts.words import number
from course_lib.viz.kit.words import counted

_UNITS: dict[Clock, str] = {"iterations": "iterations", "seconds": "ms"}
_LIMITS = {"closed": "an open batch", "batch": "a seat", "budget": "tokens", "blocks": "blocks"}
"""What the first in line lacks, by what a reason speaks of."""

_ROOM = "there is room"  # how ``why_waiting`` begins where no limit is in the way
_MOST_NAMED = 4


def unit_of(clock: Clock) -> str:
    """Return the unit that a clock counts in."""
    return _UNITS[clock]


def listed(names: Sequence[str]) -> str:
    """Join names as in a sentence; of many, say how many there are.

    >>> listed(["a", "b", "c"]), listed(["a"]), listed("abcdef")
    ('a, b and c', 'a', '6 requests')
    """
    if len(names) > _MOST_NAMED:
        return f"{len(names)} requests"
    return f"{', '.join(names[:-1])} and {names[-1]}" if len(names) > 1 else names[0]


def idle_text(schedule: Schedule, until: int, clock: Clock) -> str:
    """Say how much is idle in the first iterations of a schedule.

    >>> from course_lib.scheduling.scheduler import SchedulerConfig
    >>> idle_text(Schedule(SchedulerConfig(), (), {}), 0, "iterations")
    'nothing computed'
    """
    if not until:
        return "nothing computed"
    is_over = until == len(schedule.iterations) and not schedule.problem
    done = "all done after" if is_over else "after"
    if clock == "seconds":
        now = milliseconds(1000 * schedule.iterations[until - 1].end)
        return f"{done} {now}, {schedule.idle_share(until):.0%} of seat time idle"
    cells = counted(until * schedule.config.max_num_seqs, "cell")
    return f"{done} {counted(until, 'iteration')}, {schedule.num_idle(until):,} of {cells} idle"


def milliseconds(value: float) -> str:
    """Return a time in whole milliseconds.

    >>> milliseconds(1234.5678)
    '1,235 ms'
    """
    return f"{value:,.0f} ms"


def value_text(value: float) -> str:
    """Return a latency as it stands in the table; a dash where there is none.

    >>> value_text(2.5), value_text(float("nan"))
    ('2.5', '–')
    """
    return "–" if math.isnan(value) else number(value)


def lacked(schedule: Schedule) -> Counter[str]:
    """Return in how many iterations the first in line lacked what.

    What is none of the limits, nor a batch that is closed or a step that preempts, is counted as
    "a scheduler that admits".
    """
    return Counter(_lack(each.reason) for each in schedule.iterations if each.waiting)


def _lack(reason: str) -> str:
    if reason == CLOSED:
        return _LIMITS["closed"]
    if reason.startswith("nobody starts"):
        return "a step without preemption"
    return _LIMITS.get(limit_of(reason), "a scheduler that admits")


def lacked_texts(schedule: Schedule) -> list[str]:
    """Say for each number of iterations what the first in line lacked so far, and how often."""
    counts: Counter[str] = Counter()
    texts = [""]
    for each in schedule.iterations:
        if each.waiting:
            counts[_lack(each.reason)] += 1
        texts.append(_lacked_text(counts))
    return texts


def _lacked_text(counts: Counter[str]) -> str:
    if not counts:
        return "nobody had to wait so far"
    (first, most), *rest = counts.most_common()
    said = [f"{first} in {counted(most, 'iteration')}", *(f"{w} in {n:,}" for w, n in rest)]
    return f"While somebody waited, the first lacked {', '.join(said)}"


def waiting_text(schedule: Schedule, until: int) -> str:
    """Say who is first in line in the newest iteration, and why; empty if nobody waits."""
    if not 0 < until <= len(schedule.iterations):
        return ""
    newest = schedule.iterations[until - 1]
    return f"{newest.waiting[0]} waits: {newest.reason}" if newest.waiting else ""


def complaints(schedule: Schedule) -> list[tuple[int, str]]:
    """Say what a scheduler did that needs a word, with the number of iterations at the first time.

    It lets more requests run than there are seats, or computes more tokens than the budget has; it
    lets somebody wait for whom there is room; or it stopped.
    """
    done = list(enumerate(schedule.iterations, 1))
    seats, budget = schedule.config.max_num_seqs, schedule.config.max_num_batched_tokens
    crowded = (
        (
            number,
            f"Wrong: in iteration {number}, {counted(len(each.seats), 'request')} run, and there "
            f"are {counted(seats, 'seat')}.",
        )
        for number, each in done
        if len(each.seats) > seats
    )
    overspent = (
        (
            number,
            f"Wrong: iteration {number} computes {counted(each.num_tokens, 'token')}; its budget "
            f"is {budget:,}.",
        )
        for number, each in done
        if each.num_tokens > budget
    )
    kept_out = (
        (
            number,
            f"In iteration {number}, {each.waiting[0]} waits, though there are a seat, tokens and "
            "blocks for it.",
        )
        for number, each in done
        if each.reason.startswith(_ROOM)
    )
    said = [first for found in (crowded, overspent, kept_out) if (first := next(found, None))]
    if schedule.problem:
        problem = f"The scheduler stopped here: {schedule.problem.rstrip('.')}."
        said.append((len(done), problem))
    return said


def sentence(schedule: Schedule, until: int, is_new: bool) -> str:
    """Say what the newest of the first iterations did.

    Args:
        schedule: The schedule.
        until: How many iterations there are so far.
        is_new: Whether the newest was not there in the frame before.
    """
    if not until:
        return "stopped before its first iteration" if schedule.problem else "nothing computed yet"
    if until == len(schedule.iterations) and not is_new:
        return "stopped" if schedule.problem else "all done"
    newest = schedule.iterations[until - 1]
    parts = []
    if newest.preempted:
        parts.append(f"{listed(newest.preempted)} {_verb(newest.preempted, 'is', 'are')} preempted")
    if newest.came:
        verb = _verb(newest.came, "takes a seat", "take seats")
        parts.append(f"{listed(newest.came)} {verb}")
    idle = schedule.config.max_num_seqs - len(newest.seats)
    if idle > 0:
        parts.append(f"{idle} of {counted(schedule.config.max_num_seqs, 'seat')} idle")
    if newest.waiting:
        parts.append(f"{newest.waiting[0]} waits ({newest.reason})")
    if newest.ended:
        verb = _verb(newest.ended, "gets its last token", "get their last tokens")
        parts.append(f"{listed(newest.ended)} {verb}")
    return f"iteration {until:,}, {'; '.join(parts) or 'everybody goes on'}"


def event(schedule: Schedule, until: int, name: str) -> str:
    """Name what happens in the newest of the first iterations, if a reader looks for it."""
    newest = schedule.iterations[until - 1]
    before = schedule.iterations[until - 2] if until > 1 else None
    if until == len(schedule.iterations):
        return f"{name}: {'stopped' if schedule.problem else 'all done'}"
    if newest.preempted:
        return f"{listed(newest.preempted)} preempted"
    if newest.came and before is not None:
        return f"{name}: {listed(newest.came)} in"
    seats = schedule.config.max_num_seqs
    was_full = before is not None and len(before.seats) >= seats
    if newest.waiting and was_full and len(newest.seats) < seats:
        return f"{name}: a seat idles"
    return ""


def _verb(names: Sequence[str], one: str, several: str) -> str:
    return one if len(names) == 1 else several

"""Lesson 9: the hunt, sessions on a heap whose keys change."""

from __future__ import annotations

import heapq
import math
from collections.abc import Sequence
from typing import Any

from hypothesis import strategies as st

from autograder.checks.finding import Misconception
from autograder.checks.function import Call

Step = tuple[str, str, float] | tuple[str]
"""``("add", name, time)``, ``("message", name, time)`` or ``("pop",)``."""


class Session:
    """A conversation that waits: it is due in the order of its latest message."""

    def __init__(self, name: str, arrival: float) -> None:
        self.name = name
        self.arrival = arrival

    def __lt__(self, other: Session) -> bool:
        return (self.arrival, self.name) < (other.arrival, other.name)


class SessionQueue:
    """Serves first whose latest message came first."""

    def __init__(self) -> None:
        self.heap: list[Session] = []
        self.sessions: dict[str, Session] = {}

    def add(self, name: str, time: float) -> None:
        """Let a session wait that has sent its first message."""
        self.sessions[name] = Session(name, time)
        heapq.heappush(self.heap, self.sessions[name])

    def message(self, name: str, time: float) -> None:
        """Take a further message of a session that waits: it is due as of now."""
        self.sessions[name].arrival = time

    def pop(self) -> str:
        """Take the session that is next."""
        session = heapq.heappop(self.heap)
        del self.sessions[session.name]
        return session.name


def suspect(steps: Sequence[Step]) -> list[str]:
    """Return who is served, in order, by the queue as it is given."""
    queue, served = SessionQueue(), []
    for step in steps:
        if step[0] == "pop":
            served.append(queue.pop())
        else:
            getattr(queue, step[0])(*step[1:])
    return served


# What is asked for


def serve(steps: list[tuple[Any, ...]]) -> list[str]:
    """Return who is served, in order."""
    due: dict[str, float] = {}
    served = []
    for kind, *told in steps:
        if kind == "pop":
            served.append(min(due, key=lambda name: (due[name], name)))
            del due[served[-1]]
        else:
            due[told[0]] = told[1]
    return served


def pushed_again(steps: Sequence[Step]) -> list[str]:
    """Push a session once more at each message, and serve it as often."""
    heap: list[tuple[float, str]] = []
    served = []
    for step in steps:
        if len(step) == 1:
            served.append(heapq.heappop(heap)[1])
        else:
            heapq.heappush(heap, (step[2], step[1]))
    return served


def pushed_itself_again(steps: Sequence[Step]) -> list[str]:
    """Change the session and push it once more, so that it lies in the heap twice."""
    queue, served = SessionQueue(), []
    for step in steps:
        if len(step) == 1:
            served.append(heapq.heappop(queue.heap).name)
            continue
        getattr(queue, step[0])(*step[1:])
        if step[0] == "message":
            heapq.heappush(queue.heap, queue.sessions[step[1]])
    return served


def ghosts_of_the_served(steps: Sequence[Step]) -> list[str]:
    """Leave old entries as ghosts, and tell them by their time, also when nobody waits for them."""
    latest: dict[str, float] = {}
    heap: list[tuple[float, str]] = []
    served = []
    for step in steps:
        if len(step) == 1:
            while latest[heap[0][1]] != heap[0][0]:
                heapq.heappop(heap)
            served.append(heapq.heappop(heap)[1])
        else:
            latest[step[1]] = step[2]
            heapq.heappush(heap, (step[2], step[1]))
    return served


def stays_where_it_is(steps: Sequence[Step]) -> list[str]:
    """Serve by first messages."""
    return serve([step for step in steps if step[0] != "message"])


def by_name(steps: Sequence[Step]) -> list[str]:
    """Break no tie, and serve in the order of adding between equals."""
    due: dict[str, float] = {}
    served = []
    for step in steps:
        if len(step) == 1:
            served.append(min(due, key=lambda name: due[name]))
            del due[served[-1]]
        else:
            due[step[1]] = step[2]
    return served


def sorted_in_the_end(steps: Sequence[Step]) -> list[str]:
    """Read all that happens, and serve then."""
    due = {step[1]: step[2] for step in steps if len(step) > 1}
    served = sorted(due, key=lambda name: (due[name], name))
    return served[: sum(len(step) == 1 for step in steps)]


def latest_first(steps: Sequence[Step]) -> list[str]:
    """Serve first whose latest message came last."""
    due: dict[str, float] = {}
    served = []
    for step in steps:
        if len(step) == 1:
            served.append(max(due, key=lambda name: (due[name], name)))
            del due[served[-1]]
        else:
            due[step[1]] = step[2]
    return served


@st.composite
def lives(draw: st.DrawFn) -> Call:
    """Draw a life in which sessions come, write again, and are served; some may wait at its end."""
    names = iter(("B", "AB", "D", "C", "FA", "E", "H", "G"))
    waiting: list[str] = []
    steps: list[tuple[Any, ...]] = []
    clock = 0.0
    for kind in draw(st.lists(st.sampled_from(("add", "message", "pop", "message")), max_size=9)):
        clock += draw(st.sampled_from((0.0, 1.0, 0.25)))
        if kind == "add" and (name := next(names, None)):
            waiting.append(name)
            steps.append(("add", name, clock))
        elif kind == "message" and waiting:
            steps.append(("message", draw(st.sampled_from(sorted(waiting))), clock))
        elif kind == "pop" and waiting:
            steps.append(("pop",))
            waiting.remove(serve(steps)[-1])
    num_left = draw(st.integers(0, len(waiting)))
    return Call([*steps, *[("pop",)] * (len(waiting) - num_left)])


EXPOSING: list[Step] = [
    ("add", "A", 0.0),
    ("add", "B", 1.0),
    ("message", "A", 10.0),
    ("pop",),
    ("pop",),
]
LIVES = (
    Call(list(EXPOSING)),
    Call([("add", "A", 0.0), ("add", "B", 1.0), ("message", "B", 2.0), ("pop",), ("pop",)]),
    Call(
        [
            *[("add", name, float(i)) for i, name in enumerate("ABCDE")],
            ("message", "A", 5.0),
            ("pop",),
            ("message", "C", 7.0),
            ("pop",),
            ("add", "F", 7.0),
            *[("pop",)] * 4,
        ]
    ),
    Call([("add", "B", 3.0), ("add", "A", 3.0), ("add", "C", 3.0), *[("pop",)] * 3]),
    Call([("add", "A", 0.0), ("message", "A", 0.0), ("add", "B", 1.0), ("pop",), ("pop",)]),
    Call([("add", "D", 1.0), ("message", "D", 2.0), ("message", "D", 2.5), ("pop",)]),
    Call([]),
    Call(
        [
            *[("add", name, float(i)) for i, name in enumerate("ABCD")],
            *[("message", name, 4.0 + i) for i, name in enumerate("ABC")],
            *[("pop",)] * 4,
        ]
    ),
    Call([("add", "A", 0.0), ("add", "B", 0.5), ("message", "A", 0.75), ("pop",)]),
    Call([("add", "C", 2.0), ("add", "B", 3.0), ("pop",)]),
    Call([("add", "B", 3.0), ("add", "AB", 3.0), ("pop",), ("pop",)]),
    Call([("add", "B", 3.0), ("pop",), ("add", "A", 3.0), ("pop",)]),
)

MENDED = (
    Misconception(
        "changed in place",
        "The heap does not notice that a key in it has changed; who is on top is a matter of luck.",
        suspect,
    ),
    Misconception(
        "pushed once more",
        "The session is in the heap twice then, and is served twice.",
        pushed_again,
    ),
    Misconception(
        "pushed itself once more",
        "The same session is in the heap twice then, and is served twice.",
        pushed_itself_again,
    ),
    Misconception(
        "a ghost of who was served",
        "Two messages may come at the same moment: then the older entry, with the same time, looks "
        "alive when the session has been served. Forget the name at `pop`.",
        ghosts_of_the_served,
    ),
    Misconception(
        "the old place",
        "A session is due in the order of its latest message, not of its first.",
        stays_where_it_is,
    ),
    Misconception(
        "ties as they come",
        "Of sessions whose latest messages came together, the first by name is next.",
        by_name,
    ),
    Misconception(
        "sorted in the end",
        "Who is taken is one of those who wait at that moment: a session that comes later, at the "
        "same time, may come first by name.",
        sorted_in_the_end,
    ),
    Misconception(
        "the latest first",
        "Whose latest message came first has waited longest since.",
        latest_first,
    ),
)


def _form(life: Any) -> str | None:
    """Say why a value is no life, if it is none."""
    if not isinstance(life, (list, tuple)) or len(life) > 50:
        return "it is a list of at most 50 steps"
    waiting: set[str] = set()
    now = -math.inf
    for number, step in enumerate(life, 1):
        if not isinstance(step, (list, tuple)) or not step:
            return (
                f'step {number} is none of ("add", name, time), ("message", name, time), ("pop",)'
            )
        if step[0] == "pop" and len(step) == 1:
            if not waiting:
                return f"step {number} takes somebody, and nobody waits"
            waiting.discard(serve(list(life[:number]))[-1])
            continue
        is_told = len(step) == 3 and isinstance(step[1], str)
        if not is_told or type(step[2]) not in (int, float) or step[0] not in ("add", "message"):
            return f"step {number} is no step: {step!r}"
        if not step[2] >= now:
            return f"in step {number} it is {step[2]}, after {now}; times do not decrease"
        now = step[2]
        if (step[0] == "message") is not (step[1] in waiting):
            state = "does not wait" if step[0] == "message" else "waits already"
            return f"in step {number}, {step[1]} {state}"
        waiting.add(step[1])
    return None


def tells(_: Any, life: Any) -> str | None:
    """Agree with a life in which the suspect serves somebody out of turn."""
    complaint = _form(life)
    if complaint is not None:
        return complaint
    try:
        got = suspect(life)
    except (KeyError, IndexError):
        return None  # it has taken somebody out of turn, and missed them afterwards
    if got != serve(list(life)):
        return None
    return f"it serves {' '.join(got) or 'nobody'}, and that is right"


def tells_as_little(one: Any, other: Any) -> str | None:
    """Agree on two lives that expose nothing for the same reason."""
    complaints = [tells(None, life) for life in (one, other)]
    if not all((each or "").startswith("it serves") for each in complaints):
        return ""
    return None if _what_happens(one) == _what_happens(other) else ""


def _what_happens(life: Sequence[Step]) -> tuple[bool, bool, bool, bool]:
    """Say what happens in a life that could show something.

    Whether somebody writes again, whether others wait then, whether anybody is taken, and whether
    messages change the order of service.
    """
    kinds = [step[0] for step in life]
    is_moved = serve(list(life)) != stays_where_it_is(life)
    return "message" in kinds, kinds.count("add") > 1, "pop" in kinds, is_moved


EXPOSED = (
    Misconception(
        "nobody writes again",
        "As long as no key changes, a heap keeps its order. Which step changes one?",
        [("add", "A", 0.0), ("add", "B", 1.0), ("pop",), ("pop",)],
    ),
    Misconception(
        "nobody else waits",
        "With one session there is no order to be broken.",
        [("add", "A", 0.0), ("message", "A", 10.0), ("pop",)],
    ),
    Misconception(
        "nobody is taken",
        "That the heap is out of order shows when somebody is taken from it.",
        [("add", "A", 0.0), ("add", "B", 1.0), ("message", "A", 10.0)],
    ),
    Misconception(
        "the order does not change",
        "Without the messages the same are taken in the same order. Move a session behind one that "
        "it stood before, and take until that shows.",
        [("add", "A", 0.0), ("add", "B", 1.0), ("message", "B", 2.0), ("pop",), ("pop",)],
    ),
    Misconception(
        "put right by luck",
        "The order changes, and this time the heap serves it: an entry that lies below the top is "
        "compared with others when those above it are taken. Let the session on top write again, "
        "so that another one is due before it when it is taken.",
        [
            *(("add", name, float(time)) for time, name in enumerate("ABC")),
            ("message", "B", 3.0),
            *[("pop",)] * 3,
        ],
    ),
)

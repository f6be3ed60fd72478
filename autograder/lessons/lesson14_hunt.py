"""The request trace: the hunt. A run with three times the preemptions, and what mends it."""

from __future__ import annotations

import random
from collections import Counter, deque
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from typing import Any

from hypothesis import strategies as st

from autograder.checks.finding import Misconception
from autograder.checks.function import Call, Large
from course_lib.engine.tracing.blocks import BlockObserver
from course_lib.engine.tracing.log import TraceLog
from course_lib.engine.tracing.trace import Trace
from course_lib.kv_cache.manager import KVCacheManager
from course_lib.kv_cache.watch.watching import watch
from course_lib.scheduling.decisions import Action, DecisionLog
from course_lib.scheduling.request import Request, RequestStatus
from course_lib.scheduling.scheduler import Scheduler, SchedulerConfig, SchedulerOutput
from course_lib.scheduling.variants.async_scheduler import AsyncScheduler
from course_lib.scheduling.watch.driver import sampled_tokens
from course_lib.steps import StepTable

NUM_BLOCKS = 21
Told = tuple[int | None, str, str]
"""A step, an action and a request, as a trace tells them."""
Tokens = dict[str, int]
"""A token by request."""


class SuspectScheduler(AsyncScheduler):
    """Plans one step ahead, like the scheduler of lesson 12, and takes tokens in with a guard."""

    def update_from_output(
        self, output: SchedulerOutput, sampled: Mapping[str, int | list[int]]
    ) -> list[Request]:
        """Take in the tokens of the oldest step in flight."""
        planned = self.in_flight.popleft()[1]
        delivered: dict[str, int | list[int]] = {}
        for request_id, token in sampled.items():
            request = self.requests.get(request_id)
            if request is None or request is not planned.get(request_id):
                continue
            if request.status is not RequestStatus.RUNNING:
                continue
            delivered[request_id] = token
            request.num_tokens_ahead = max(request.num_tokens_ahead - 1, 0)
        return Scheduler.update_from_output(self, output, delivered)


class FixA(SuspectScheduler):
    """Lets nobody start in the step behind one that preempts."""

    pauses = False

    def admit_waiting(self, output: SchedulerOutput, budget: int) -> int:
        """Admit who waits, but for this one step."""
        return budget if self.pauses else super().admit_waiting(output, budget)

    def schedule(self) -> SchedulerOutput:
        """Plan, and remember whether somebody gave way."""
        output = super().schedule()
        self.pauses = bool(output.preempted_req_ids)
        return output


class FixB(AsyncScheduler):
    """Takes a token in for whoever has the name that it was computed for."""

    def update_from_output(
        self, output: SchedulerOutput, sampled: Mapping[str, int | list[int]]
    ) -> list[Request]:
        """Take in the tokens of the oldest step in flight."""
        self.in_flight.popleft()
        timely: dict[str, int | list[int]] = {}
        late: dict[str, int | list[int]] = {}
        for request_id, token in sampled.items():
            request = self.requests.get(request_id)
            if request is None:
                continue
            if request.status is RequestStatus.RUNNING:
                timely[request_id] = token
                request.num_tokens_ahead = max(request.num_tokens_ahead - 1, 0)
            else:
                late[request_id] = token
        return Scheduler.update_from_output(self, output, timely) + self.deliver_late(late)


SortTokens = Callable[[Tokens, Mapping[str, tuple[int, str]], Tokens], tuple[Tokens, Tokens]]


def mended(sort_tokens: SortTokens) -> type[AsyncScheduler]:
    """Return a scheduler that takes tokens in as ``sort_tokens`` says."""

    class Mended(AsyncScheduler):
        """Takes tokens in as a function says."""

        def update_from_output(
            self, output: SchedulerOutput, sampled: Mapping[str, int | list[int]]
        ) -> list[Request]:
            """Take in the tokens of the oldest step in flight."""
            planned = self.in_flight.popleft()[1]
            alive = {name: (id(each), each.status.name) for name, each in self.requests.items()}
            plan = {name: id(each) for name, each in planned.items()}
            tokens = {name: token for name, token in sampled.items() if isinstance(token, int)}
            timely, late = sort_tokens(plan, alive, tokens)
            for name in timely:
                request = self.requests[name]
                request.num_tokens_ahead = max(request.num_tokens_ahead - 1, 0)
            return Scheduler.update_from_output(self, output, timely) + self.deliver_late(late)

    return Mended


def _workload() -> list[Request]:
    draw = random.Random(1)
    return [
        Request(
            f"r{number}",
            [draw.randrange(1000) for _ in range(draw.randint(60, 199))],
            draw.randint(10, 59),
        )
        for number in range(24)
    ]


def _next_token(request: Request, num_generated: int) -> int:
    return (31 * sum(map(ord, request.request_id)) + 7 * num_generated) % 997


class Served:
    """A run of the workload, with two plans in flight, and its trace.

    Args:
        kind: The scheduler.

    Attributes:
        answers: The tokens of each answer.
        num_steps: Steps.
        num_tokens: Tokens that were computed.
        trace: What was seen, as a tracer tells it.
    """

    def __init__(self, kind: type[AsyncScheduler]) -> None:
        self._log = TraceLog()
        self._manager = KVCacheManager(NUM_BLOCKS)
        self._decisions = DecisionLog()
        self._scheduler = kind(SchedulerConfig(), self._manager, log=self._decisions)
        requests = _workload()
        self.num_steps = self.num_tokens = 0
        for request in requests:
            now = self._log.now()
            known = {"request_id": request.request_id, "num_tokens": request.num_prompt_tokens}
            self._log.add("api", "arrives", now, now, **known)
            self._scheduler.add_request(request)
        with watch(self._manager, BlockObserver(self._manager, self._log)):
            self._run()
        self.answers = {each.request_id: each.output_token_ids for each in requests}
        self.trace = Trace(self._log.events, StepTable([]), self._log.queues)

    def _run(self) -> None:
        in_flight: deque[tuple[int, SchedulerOutput, dict[str, int | list[int]]]] = deque()
        while self._scheduler.has_unfinished_requests() or in_flight:
            if self._scheduler.has_unfinished_requests():
                output, sampled = self._plan()
                in_flight.append((self.num_steps, output, sampled))
                self.num_steps += 1
                self.num_tokens += output.total_num_scheduled_tokens
            if len(in_flight) > 1 or not self._scheduler.has_unfinished_requests():
                self._take_in(*in_flight.popleft())

    def _plan(self) -> tuple[SchedulerOutput, dict[str, int | list[int]]]:
        """Plan a step, and write down what was decided and what the model chooses."""
        log, scheduler = self._log, self._scheduler
        log.step = self.num_steps
        start = log.now()
        self._decisions.decisions.clear()
        output = scheduler.schedule()
        for each in self._decisions.decisions:
            if each.action is Action.WAITS:
                log.add_wait(each.request_id, start, log.now(), each.reason)
                continue
            known: dict[str, Any] = {"request_id": each.request_id, "reason": each.reason}
            if each.num_tokens:
                computed = scheduler.requests[each.request_id].num_computed_tokens
                known |= {"num_tokens": each.num_tokens, "position": computed - each.num_tokens}
            log.add("scheduler", each.action.value, start, log.now(), **known)
        sampled = sampled_tokens(scheduler, output, _next_token)
        for name, token in sampled.items():
            known = {"request_id": name, "token_id": token, "text": f"<{token}>"}
            log.add("sampler", "chooses", log.now(), log.now(), **known)
        return output, sampled

    def _take_in(
        self, step: int, output: SchedulerOutput, sampled: dict[str, int | list[int]]
    ) -> None:
        """Take the tokens of a step in, and write down whose answer has grown."""
        log, scheduler = self._log, self._scheduler
        log.step = step
        alive = dict(scheduler.requests)
        before = {name: len(request.output_token_ids) for name, request in alive.items()}
        ended = scheduler.update_from_output(output, sampled)
        now = log.now()
        for name, request in alive.items():
            if len(request.output_token_ids) > before[name]:
                newest = request.output_token_ids[-1]
                known = {"request_id": name, "token_id": newest, "text": f"<{newest}>"}
                log.add("detokenizer", "shows", now, now, **known)
        for request in ended:
            log.add("scheduler", "finishes", now, now, request_id=request.request_id)
        log.step = None

    @property
    def told(self) -> list[Told]:
        """Steps, actions and requests: what the trace tells, in a few words."""
        return [(e.step, e.action, e.request_id) for e in self.trace if e.request_id is not None]


@cache
def _told(kind: type[AsyncScheduler]) -> tuple[Told, ...]:
    """Return what the trace of a run tells; a run takes a second, and is the same each time."""
    return tuple(Served(kind).told)


def stranger(kind: type[AsyncScheduler]) -> list[int]:
    """Return the answer of a request that comes under a name which was aborted a moment ago.

    The token of the aborted one, 666, is still on its way then. The newcomer's own are 1 and 2.
    """
    scheduler = kind(SchedulerConfig(), KVCacheManager(NUM_BLOCKS))
    scheduler.add_request(Request("a", range(20), max_tokens=9))
    first = scheduler.schedule()
    scheduler.finish_requests("a", RequestStatus.FINISHED_ABORTED)
    newcomer = Request("a", range(100, 120), max_tokens=2)
    scheduler.add_request(newcomer)
    second = scheduler.schedule()
    scheduler.update_from_output(first, {"a": 666})
    scheduler.update_from_output(second, {"a": 1})
    if scheduler.has_unfinished_requests():
        scheduler.update_from_output(scheduler.schedule(), {"a": 2})
    return newcomer.output_token_ids


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
    Call([]),
)


def _many() -> Call:
    steps = range(40_000)
    told: list[Told] = [(step, "chooses", "a") for step in steps]
    return Call(told + [(step, "shows", "a") for step in steps if step % 7])


MANY = Large(_many, "80,000 events")

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
    told = list(_told(SuspectScheduler))
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


FOUND = (
    Misconception(
        "requests, not preemptions",
        "A request may be preempted several times; each time counts.",
        lambda: {
            **findings(),
            "preemptions": len({n for _, a, n in _told(SuspectScheduler) if a == "is preempted"}),
        },
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
            "preemptions": sum(a == "is preempted" for _, a, _ in _told(AsyncScheduler)),
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


def waiting_alone(
    planned: Tokens, alive: dict[str, tuple[int, str]], sampled: Tokens
) -> tuple[Tokens, Tokens]:
    """Forget those who are on the CPU."""
    timely, late = sort_tokens(planned, alive, sampled)
    return timely, {name: token for name, token in late.items() if alive[name][1] != "SWAPPED"}


_STATUS = st.sampled_from(("RUNNING", "PREEMPTED", "SWAPPED"))


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
    Call({"a": 1, "b": 2}, {"a": (11, "PREEMPTED"), "b": (2, "RUNNING")}, {"a": 71, "b": 72}),
    Call({"a": 1, "b": 2}, {"a": (1, "RUNNING"), "b": (2, "RUNNING")}, {"b": 72}),
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

"""Lesson 11: what an iteration has to do and how long it takes; who is cut to how much."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, ClassVar

from hypothesis import strategies as st
from hypothesis.stateful import initialize, rule

from autograder.checks.acts import Act
from autograder.checks.compare import within
from autograder.checks.exercise import Exercise
from autograder.checks.function import Call, FunctionCheck
from autograder.checks.reference import Method
from autograder.checks.stateful import Life, StatefulCheck, Twin
from autograder.lessons import lesson11_mistakes as mistakes
from autograder.lessons.lesson05_lives import SchedulerLife, add, all_have_come, run, scheduler
from autograder.proxy.recipes import Make
from course_lib.kv_cache.manager import KVCacheManager
from course_lib.scheduling.request import Request
from course_lib.scheduling.scheduler import Scheduler, SchedulerConfig
from course_lib.scheduling.watch.iterations import abort, queues_of
from course_lib.simulation.cost_model import IterationTime
from course_lib.steps import IterationWork

# 11.1a

TOTALS = ("num_tokens", "attended_tokens", "context_tokens", "swapped_tokens")

Rows = list[tuple[int, int]]


def total(life: Life | Twin, rows: Iterable[tuple[int, int]] | Make, *swapped: int) -> None:
    """Add up a batch on both sides."""
    life.do("of_batch", rows, *swapped, reads=TOTALS)


class WorkLife(Twin):
    """Batches that are added up, as lists and one by one."""

    @initialize()
    def make_one(self) -> None:
        """Start with an iteration that does nothing: all that is asked of it is its class."""
        self.create(0, 0, 0)

    @rule(rows=st.lists(st.tuples(st.integers(1, 9), st.integers(0, 9)), max_size=4))
    def listed(self, rows: Rows) -> None:
        """Give the rows in a list."""
        total(self, rows)

    @rule(
        rows=st.lists(st.tuples(st.integers(1, 9), st.integers(0, 9)), max_size=3),
        swapped=st.sampled_from((0, 16, 48)),
    )
    def one_by_one(self, rows: Rows, swapped: int) -> None:
        """Give the rows one by one."""
        total(self, Make(iter, rows), swapped)


def a_chunk_and_a_decode(life: Life) -> None:
    """Three tokens behind five, and one behind seven."""
    life.create(0, 0, 0)
    total(life, [(3, 5), (1, 7)])
    total(life, [(4, 0)])
    total(life, [])


def as_a_scheduler_gives_them(life: Life) -> None:
    """The rows come one by one, and tokens are swapped."""
    life.create(0, 0, 0)
    total(life, Make(iter, [(3, 5), (1, 7)]))
    total(life, Make(iter, [(2, 11)]), 48)


def a_long_prompt(life: Life) -> None:
    """A long prompt, and one so long that nobody goes through its pairs one by one."""
    life.create(0, 0, 0)
    total(life, [(8_000, 0), (1, 999)])
    total(life, [(1_000_000, 3)])


WORK = Exercise(
    id="11.1a",
    title="What an iteration has to do",
    asks="Add up a batch: tokens, attended pairs, and the tokens whose keys and values move.",
    points=6,
    minutes=9,
    difficulty=1,
    check=StatefulCheck(
        reference=Method(IterationWork, "of_batch"),
        machine=WorkLife,
        probes=(a_chunk_and_a_decode, as_a_scheduler_gives_them, a_long_prompt),
        misconceptions=mistakes.WORK,
        max_steps=4,
    ),
    hints=(
        "How many tokens does the first new one see, behind 5 that are cached? And the second?",
        "Of n new tokens behind c, each sees the c, and together they see 1 + 2 + … + n of their "
        "own.",
        "`new * cached + new * (new + 1) // 2`",
    ),
)

# 11.1b


def time_of(*seconds: float) -> Call:
    """Return the call on an iteration whose five parts take so long."""
    return Call(Make(IterationTime, *seconds))


_seconds = st.integers(0, 15).map(lambda number: number / 4)

TOTAL = Exercise(
    id="11.1b",
    title="What runs at once and what in turn",
    asks="Return how long an iteration takes, from what its five parts take.",
    points=5,
    minutes=6,
    difficulty=1,
    check=FunctionCheck(
        reference=Method(IterationTime, "total"),
        cases=st.builds(time_of, *[_seconds] * 5),
        probes=(
            time_of(7.0, 3.0, 2.0, 5.0, 11.0),
            time_of(7.0, 3.0, 2.0, 5.0, 13.0),
            time_of(3.0, 7.0, 5.0, 2.0, 0.0),
            time_of(2.0, 9.0, 4.0, 3.0, 1.0),
            time_of(0.0, 0.0, 0.0, 0.0, 6.0),
            time_of(0.008469, 0.018469, 0.002231, 0.000151, 0.000052),
        ),
        compare=within(rel=1e-9),
        misconceptions=mistakes.TOTAL,
    ),
    hints=(
        "While weights are being read, what else can the GPU do, and what not?",
        "Within a kind of layer the slower unit counts. The two kinds, and swapping, come one "
        "after the other.",
        "`max(…, …) + max(…, …) + swap`",
    ),
)

# 11.3


def comes(life: Life, name: str, prompt: int) -> Any:
    """Let a request come, and return it."""
    request = life.make(Make(Request, name, [1] * prompt, 2))
    life.do("add_request", request)
    return request


def ask(life: Life, lacking: int, budget: int) -> None:
    """Let a request come that lacks so much; ask how much of it, and let it go away."""
    life.do("limit_chunk", comes(life, "asks", lacking), lacking, budget)
    life.apply(abort, "asks")


class LimitLife(SchedulerLife):
    """What may be done to a scheduler with a threshold, or without one."""

    least: ClassVar = {**SchedulerLife.least, "limit_chunk": 1}

    @staticmethod
    def is_sound(acts: Sequence[Act]) -> bool:
        """Say whether all who are asked about have come."""
        return all_have_come(acts)

    @initialize(
        threshold=st.sampled_from((0, 2, 3, 5)),
        seats=st.sampled_from((1, 3)),
        is_chunked=st.booleans(),
    )
    def make_one(self, threshold: int, seats: int, is_chunked: bool) -> None:
        """Start with nobody in it."""
        config = SchedulerConfig(
            max_num_seqs=seats,
            max_num_batched_tokens=8,
            long_prefill_token_threshold=threshold,
            enable_chunked_prefill=is_chunked,
        )
        self.create(config, Make(KVCacheManager, 13, 2, enable_caching=False))


def two_wait(life: Life) -> None:
    """A threshold of 4, and two requests that have not begun."""
    scheduler(life, long_prefill_token_threshold=4)
    add(life, "a", 9)
    for lacking, budget in ((9, 100), (9, 3), (3, 100), (4, 100), (5, 4), (3, 2)):
        ask(life, lacking, budget)


def one_is_alone(life: Life) -> None:
    """Who is alone is cut to the budget only."""
    scheduler(life, long_prefill_token_threshold=4)
    ask(life, 9, 100)
    ask(life, 9, 6)
    add(life, "a", 9)
    ask(life, 9, 100)


def no_threshold(life: Life) -> None:
    """0 is no limit."""
    scheduler(life)
    add(life, "a", 9)
    ask(life, 9, 100)
    ask(life, 9, 5)


def two_run(life: Life) -> None:
    """Two run, in the middle of their prompts, and nobody waits."""
    scheduler(life, long_prefill_token_threshold=4)
    request = comes(life, "a", 9)
    add(life, "b", 9)
    run(life, 1)
    life.do("limit_chunk", request, 5, 100)


def one_runs_and_one_waits(life: Life) -> None:
    """With one seat."""
    scheduler(life, long_prefill_token_threshold=4, max_num_seqs=1)
    request = comes(life, "a", 9)
    add(life, "b", 3)
    run(life, 1)
    life.do("limit_chunk", request, 5, 100)


def not_chunked(life: Life) -> None:
    """The threshold holds without chunked prefill, too."""
    scheduler(life, long_prefill_token_threshold=4, enable_chunked_prefill=False)
    add(life, "a", 9)
    ask(life, 9, 100)
    ask(life, 3, 2)


def a_small_budget(life: Life) -> None:
    """What is left of the budget counts, not what an iteration has."""
    scheduler(life, long_prefill_token_threshold=6, max_num_batched_tokens=8)
    add(life, "a", 9)
    ask(life, 9, 2)
    ask(life, 5, 2)


def back_after_preemption(life: Life) -> None:
    """A short prompt is read again, and its answer too: more than the threshold."""
    scheduler(life, 4, long_prefill_token_threshold=2)
    add(life, "a", 1)
    request = life.make(Make(Request, "b", [1], 9))
    life.do("add_request", request)
    run(life, 3)
    life.do("limit_chunk", request, 3, 100)


def most_is_in_the_cache(life: Life) -> None:
    """What is found in the prefix cache is not lacking, and the request does not know of it yet."""
    scheduler(life, caching=True, long_prefill_token_threshold=4)
    add(life, "a", 9)
    run(life, 1)
    request = life.make(Make(Request, "b", list(range(9)), 2))
    life.do("add_request", request)
    life.do("limit_chunk", request, 1, 100)


def one_is_swapped_out(life: Life) -> None:
    """One runs, nobody waits, and the blocks of the other are on the CPU: it is unfinished."""
    scheduler(life, 8, long_prefill_token_threshold=2, preemption_mode="swap", num_cpu_blocks=8)
    request = comes(life, "a", 13)
    add(life, "b", 5)
    run(life, 5)
    life.do("limit_chunk", request, 3, 100)


LIMIT = Exercise(
    id="11.3",
    title="A threshold for long prompts",
    asks="Return how many of the tokens that a request lacks it may compute in this iteration.",
    points=10,
    minutes=14,
    difficulty=2,
    check=StatefulCheck(
        reference=Method(Scheduler, "limit_chunk"),
        machine=LimitLife,
        probes=(
            two_wait,
            one_is_alone,
            no_threshold,
            two_run,
            one_runs_and_one_waits,
            not_chunked,
            a_small_budget,
            back_after_preemption,
            most_is_in_the_cache,
            one_is_swapped_out,
        ),
        misconceptions=mistakes.LIMIT,
        max_steps=8,
        state_line=queues_of,
    ),
    hints=(
        "Who is kept waiting by a long prompt, if there is nobody else?",
        "There are two limits. The budget always holds; the threshold holds if it is one, and if "
        "another request is unfinished.",
        "`if 0 < threshold < num_new_tokens and …: num_new_tokens = threshold`, then the budget",
    ),
)

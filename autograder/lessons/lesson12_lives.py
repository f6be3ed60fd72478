"""Lesson 12: lives of schedulers whose iterations are planned, served, answered, and left open."""

from __future__ import annotations

from typing import Any

from hypothesis import strategies as st
from hypothesis.stateful import initialize, precondition, rule

from autograder.checks.stateful import Life
from autograder.lessons.lesson06_lives import PreemptionLife, add, run, scheduler
from autograder.proxy.recipes import Make
from course_lib.kv_cache.manager import KVCacheManager
from course_lib.scheduling.decisions import DecisionLog
from course_lib.scheduling.request import Request
from course_lib.scheduling.scheduler import SchedulerConfig
from course_lib.scheduling.watch.serving import (
    plan_iteration,
    run_and_fork,
    run_in_full,
    serve,
    told_to_a_log,
)

BLOCK_SIZE = 2
LARGER_BLOCK_SIZE = 4
"""In blocks of two each token begins one or fills one; in larger ones there are free slots."""


class ServingLife(PreemptionLife):
    """What may happen to a scheduler: requests come, are served, and give way."""

    @initialize(
        memory=st.tuples(st.integers(4, 14), st.sampled_from((BLOCK_SIZE, LARGER_BLOCK_SIZE))),
        caching=st.booleans(),
        budget=st.integers(2, 12),
        threshold=st.sampled_from((0, 0, 2, 3)),
        num_cpu_blocks=st.sampled_from((None, None, 2, 12)),
        policy=st.sampled_from(("fcfs", "priority")),
    )
    def make_one(
        self,
        memory: tuple[int, int],
        caching: bool,
        budget: int,
        threshold: int,
        num_cpu_blocks: int | None,
        policy: str,
    ) -> None:
        """Start with nobody in it."""
        options: dict[str, Any] = {} if policy == "fcfs" else {"policy": policy}
        if threshold:
            options["long_prefill_token_threshold"] = threshold
        if num_cpu_blocks is not None:
            options |= {"preemption_mode": "swap", "num_cpu_blocks": num_cpu_blocks}
        self.create(
            SchedulerConfig(max_num_batched_tokens=budget, **options),
            Make(KVCacheManager, *memory, enable_caching=caching),
        )

    @precondition(lambda self: self.num_made)
    @rule()
    def plan(self) -> None:
        """Plan an iteration whose answers are lost."""
        self.apply(plan_iteration)

    @precondition(lambda self: self.num_made)
    @rule(
        budget=st.integers(0, 6),
        ahead=st.dictionaries(st.sampled_from(("r1", "r2", "r3")), st.integers(1, 3)),
    )
    def serve(self, budget: int, ahead: dict[str, int]) -> None:
        """Serve under a budget, with drafts."""
        self.apply(serve, budget, ahead)


# 12.3, the running loop


def a_prompt_is_cut(life: Life) -> None:
    """A prompt is longer than what is left of the budget, and goes on in the next plan."""
    scheduler(life, 40, max_num_batched_tokens=16)
    add(life, "a", 4)
    add(life, "b", 40)
    life.apply(plan_iteration)
    life.apply(plan_iteration)


def a_prompt_goes_on_in_mid_block(life: Life) -> None:
    """There is a slot for one token in the last block of a prompt, and it computes more of them."""
    life.create(
        SchedulerConfig(max_num_batched_tokens=5),
        Make(KVCacheManager, 6, LARGER_BLOCK_SIZE, enable_caching=False),
    )
    add(life, "a", 12)
    life.apply(plan_iteration)
    life.apply(plan_iteration)


def the_last_in_goes(life: Life) -> None:
    """Two need a block each, and one is free: the last in gives way."""
    scheduler(life, 6)
    add(life, "a", 3)
    add(life, "b", 3)
    run(life, 3)


def two_victims_in_front(life: Life) -> None:
    """Under priority two give way that stand in front and had been served; others come behind."""
    scheduler(life, 14, policy="priority", long_prefill_token_threshold=8)
    for name in "pqrs":
        add(life, name, 1, 20, 5)
    run(life, 1)
    add(life, "h", 16)
    add(life, "i", 1)
    run(life, 3)


def a_victim_in_front(life: Life) -> None:
    """Under priority a request in front gives way; two important ones stand behind it."""
    scheduler(life, 9, policy="priority", max_num_batched_tokens=32)
    add(life, "l", 5, 20, 5)
    run(life, 1)
    add(life, "h", 6)
    add(life, "i", 2)
    run(life, 4)


def a_victim_that_lacked_nothing(life: Life) -> None:
    """The victim stands in front and was passed over, since its token is still to come."""
    scheduler(life, 8, policy="priority", max_num_batched_tokens=32)
    add(life, "l", 5, 20, 5)
    life.apply(plan_iteration)
    add(life, "h", 5)
    add(life, "i", 1)
    life.apply(plan_iteration)
    life.apply(serve, 32, {"h": 3, "i": 1})


def it_goes_itself(life: Life) -> None:
    """Under priority one in the middle finds no block and goes itself; those behind are served."""
    scheduler(life, 9, policy="priority")
    add(life, "a", 4)
    add(life, "l", 5, 20, 5)
    run(life, 1)
    add(life, "c", 3, 20, 1)
    run(life, 3)


def nothing_left(life: Life) -> None:
    """The budget is spent before everybody was served."""
    scheduler(life, 20, max_num_batched_tokens=8)
    for name in "abc":
        add(life, name, 2)
    run(life, 1)
    for budget in (0, 1, 2, 3):
        life.apply(serve, budget, {})


def drafts(life: Life) -> None:
    """Some compute positions behind what is known, as many as the budget allows."""
    scheduler(life, 20)
    for name in "abc":
        add(life, name, 2)
    run(life, 1)
    life.apply(serve, 9, {"a": 3, "b": 2})
    life.apply(serve, 5, {"a": 3, "c": 2})


def no_token_lacks(life: Life) -> None:
    """Everybody waits for a token that has not come yet."""
    scheduler(life, 20)
    add(life, "a", 2)
    life.apply(plan_iteration)
    add(life, "b", 3)
    life.apply(plan_iteration)
    life.apply(serve, 5, {})
    run(life, 2)


def several_long_prompts(life: Life) -> None:
    """A threshold lets several prompts run at once, in front of a decode."""
    scheduler(life, 40, max_num_batched_tokens=7, long_prefill_token_threshold=3)
    for name, prompt in (("a", 9), ("b", 1), ("c", 9)):
        add(life, name, prompt)
    run(life, 5)


def a_decode_behind_a_prompt(life: Life) -> None:
    """The budget ends in a prompt in front of a decode."""
    scheduler(life, 40, max_num_batched_tokens=7, long_prefill_token_threshold=3)
    add(life, "a", 12)
    add(life, "b", 1)
    run(life, 1)
    life.apply(serve, 3, {})


def victims_had_tokens(life: Life) -> None:
    """A victim had been served; the long prompt behind it gets no more for what goes back."""
    scheduler(life, 12, policy="priority", max_num_batched_tokens=6, reserve_full_prompt=False)
    add(life, "l", 3, 20, 5)
    run(life, 2)
    add(life, "h", 18)
    run(life, 6)


def to_the_cpu(life: Life) -> None:
    """Who finds no block goes to the CPU itself."""
    scheduler(life, 6, preemption_mode="swap", num_cpu_blocks=8)
    add(life, "a", 3)
    add(life, "b", 3)
    run(life, 6)


SERVING = (
    a_prompt_is_cut,
    a_prompt_goes_on_in_mid_block,
    the_last_in_goes,
    a_victim_in_front,
    two_victims_in_front,
    a_victim_that_lacked_nothing,
    it_goes_itself,
    nothing_left,
    drafts,
    no_token_lacks,
    several_long_prompts,
    a_decode_behind_a_prompt,
    victims_had_tokens,
    to_the_cpu,
)

# 12.2, a plan


class PlanningLife(ServingLife):
    """The same, with all that a plan holds."""

    @precondition(lambda self: self.num_made)
    @rule(num_iterations=st.integers(1, 5))
    def run(self, num_iterations: int) -> None:
        """Plan and answer some iterations."""
        for _ in range(num_iterations):
            self.apply(run_in_full)


def _plan(life: Life, num_iterations: int) -> None:
    for _ in range(num_iterations):
        life.apply(run_in_full)


def one_ends(life: Life) -> None:
    """A request ends, and the next plan says so, once."""
    scheduler(life, 9)
    add(life, "a", 2, 1)
    add(life, "b", 2, 3)
    _plan(life, 4)


def nobody_after_a_victim(life: Life) -> None:
    """Somebody gives way, and somebody waits who would fit into what that frees."""
    scheduler(life, 6, max_num_seqs=2, policy="priority")
    add(life, "a", 3)
    add(life, "b", 3, 20, 5)
    _plan(life, 1)
    add(life, "c", 1, 20, 1)
    _plan(life, 3)


def the_budget_is_shared(life: Life) -> None:
    """One runs, one comes: both are served from one budget."""
    scheduler(life, 20, max_num_batched_tokens=5)
    add(life, "a", 3)
    _plan(life, 1)
    add(life, "b", 9)
    _plan(life, 3)


def one_comes_back_from_the_cpu(life: Life) -> None:
    """One is on the CPU and one waits: who was swapped out comes first."""
    scheduler(life, 6, preemption_mode="swap", num_cpu_blocks=8)
    add(life, "a", 3, 3)
    add(life, "b", 3, 6)
    _plan(life, 2)
    add(life, "c", 1)
    _plan(life, 4)


def one_is_forked(life: Life) -> None:
    """Two share a block that both go on to write: it is copied for one of them."""
    scheduler(life, 20)
    add(life, "a", 3)
    life.apply(run_and_fork, "a", "b")
    _plan(life, 2)


def clients_are_charged(life: Life) -> None:
    """The queue keeps accounts of what was generated for whom."""
    scheduler(life, 20, policy="vtc")
    for name in "ab":
        start = 100 * ord(name)
        tokens = list(range(start, start + 3))
        life.do("add_request", Make(Request, name, tokens, 5, client_id=name))
    _plan(life, 2)
    life.see("waiting.counters")


def all_is_told_to_a_log(life: Life) -> None:
    """A log is told of each plan."""
    manager = Make(KVCacheManager, 6, BLOCK_SIZE, enable_caching=False)
    life.create(SchedulerConfig(), manager, log=Make(DecisionLog))
    add(life, "a", 2, 2)
    _plan(life, 2)
    life.see("log.num_steps")


def a_log_is_told_of_whole_plans(life: Life) -> None:
    """What a log is told of has its total, and the copies that are due."""
    scheduler(life, 20)
    add(life, "a", 3)
    life.apply(run_and_fork, "a", "b")
    life.apply(told_to_a_log)


PLANNING = (
    one_ends,
    nobody_after_a_victim,
    the_budget_is_shared,
    one_comes_back_from_the_cpu,
    one_is_forked,
    clients_are_charged,
    all_is_told_to_a_log,
    a_log_is_told_of_whole_plans,
)

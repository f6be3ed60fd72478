"""Lesson 5: lives of schedulers, in which requests come, are computed, and go away."""

from __future__ import annotations

from typing import Any, ClassVar

from hypothesis import strategies as st
from hypothesis.stateful import initialize, precondition, rule

from autograder.checks.stateful import Life, Twin
from autograder.proxy.recipes import Make
from course_lib.kv_cache.manager import KVCacheManager
from course_lib.scheduling.request import Request
from course_lib.scheduling.scheduler import SchedulerConfig
from course_lib.scheduling.watch.iterations import abort, admit, queues_of, run_iteration

BLOCK_SIZE = 2


def scheduler(life: Life, num_blocks: int = 100, *, caching: bool = False, **limits: Any) -> None:
    """Make a scheduler with blocks of two slots."""
    life.create(SchedulerConfig(**limits), Make(KVCacheManager, num_blocks, BLOCK_SIZE, caching))


def add(
    life: Life, name: str, prompt: int | list[int], max_tokens: int = 9, priority: int = 0
) -> None:
    """Let a request come: with these tokens, or with so many."""
    tokens = list(range(prompt)) if isinstance(prompt, int) else prompt
    more = [priority] if priority else []
    life.do("add_request", Make(Request, name, tokens, max_tokens, *more))


def run(life: Life, num_iterations: int) -> None:
    """Plan and answer some iterations."""
    for _ in range(num_iterations):
        life.apply(run_iteration)


# Lives that are drawn


class SchedulerLife(Twin):
    """What may be done to a scheduler: requests come, are computed, and go away."""

    is_free = True
    least: ClassVar = {"setattr": 1}
    num_made = 0

    @initialize(
        seats=st.sampled_from((1, 2, 3)),
        budget=st.sampled_from((2, 5, 8, 12)),
        num_blocks=st.sampled_from((4, 8, 13)),
    )
    def make_one(self, seats: int, budget: int, num_blocks: int) -> None:
        """Start with nobody in it."""
        config = SchedulerConfig(max_num_seqs=seats, max_num_batched_tokens=budget)
        self.create(config, Make(KVCacheManager, num_blocks, BLOCK_SIZE, False))

    @rule(
        prompt=st.integers(1, 9),
        shared=st.integers(0, 9),
        max_tokens=st.integers(1, 4),
        priority=st.integers(0, 2),
    )
    def add(self, prompt: int, shared: int, max_tokens: int, priority: int) -> None:
        """Let a request come, whose prompt may begin as others do."""
        self.num_made += 1
        name, common = f"r{self.num_made}", min(shared, prompt)
        tokens = [*range(common), *[10 * self.num_made] * (prompt - common)]
        self.do("add_request", Make(Request, name, tokens, max_tokens, priority))

    @precondition(lambda self: self.num_made)
    @rule(num_iterations=st.integers(1, 3))
    def run(self, num_iterations: int) -> None:
        """Plan and answer some iterations."""
        for _ in range(num_iterations):
            self.apply(run_iteration)

    @precondition(lambda self: self.num_made)
    @rule(number=st.integers(1, 4))
    def abort(self, number: int) -> None:
        """Let a client go away."""
        self.apply(abort, f"r{number}")


MODES: tuple[tuple[bool, dict[str, Any]], ...] = (
    (False, {}),
    (True, {}),
    (True, {"policy": "priority"}),
    (False, {"enable_chunked_prefill": False}),
    (False, {"long_prefill_token_threshold": 2}),
    (False, {"preemption_mode": "swap", "num_cpu_blocks": 8}),
    (True, {"policy": "priority", "preemption_mode": "swap", "num_cpu_blocks": 8}),
)
"""Whether there is a prefix cache, and what else a scheduler is told."""


class AdmissionLife(SchedulerLife):
    """The same, with a prefix cache or without, and with whatever a scheduler may be told."""

    @initialize(
        seats=st.sampled_from((1, 2, 3)),
        budget=st.sampled_from((2, 5, 8, 12)),
        num_blocks=st.sampled_from((4, 8, 13)),
        mode=st.sampled_from(range(len(MODES))),
    )
    def make_one(self, seats: int, budget: int, num_blocks: int, mode: int = 0) -> None:
        """Start with nobody in it."""
        caching, limits = MODES[mode]
        config = SchedulerConfig(max_num_seqs=seats, max_num_batched_tokens=budget, **limits)
        self.create(config, Make(KVCacheManager, num_blocks, BLOCK_SIZE, caching))


# Admission


def four_prompts(life: Life) -> None:
    """Four prompts share a budget of ten; decodes cost one each."""
    scheduler(life, max_num_batched_tokens=10)
    for name, prompt in (("a", 9), ("b", 7), ("c", 5), ("d", 3)):
        add(life, name, prompt)
    run(life, 4)


def two_seats(life: Life) -> None:
    """Two seats for five, until one ends."""
    scheduler(life, max_num_seqs=2, max_num_batched_tokens=50)
    for name, max_tokens in (("a", 4), ("b", 2), ("c", 4), ("d", 4), ("e", 4)):
        add(life, name, 3, max_tokens)
    run(life, 4)


def no_block_for_the_head(life: Life) -> None:
    """The second has no room; the third would have."""
    scheduler(life, 6)
    for name, prompt in (("a", 7), ("b", 5), ("c", 2)):
        add(life, name, prompt, 2)
    run(life, 4)


def cached_beginnings(life: Life) -> None:
    """Two that begin as one that has run: what is cached need not be computed."""
    scheduler(life, 20, caching=True, max_num_batched_tokens=8)
    tokens = [5, 6, 7, 8, 9, 5, 6]
    add(life, "a", tokens, 1)
    run(life, 1)
    add(life, "b", [*tokens, 1, 2, 3], 3)
    add(life, "c", [*tokens, 4, 4], 3)
    run(life, 3)


def out_and_back(life: Life) -> None:
    """Two grow until one gives way; it comes back with the tokens that it had got."""
    scheduler(life, 6, max_num_batched_tokens=8)
    add(life, "a", 4, 4)
    add(life, "b", 3, 5)
    run(life, 8)


def swapped_first(life: Life) -> None:
    """One is swapped out; a newcomer would fit, and waits for its return."""
    scheduler(life, 7, preemption_mode="swap", num_cpu_blocks=8)
    add(life, "a", 4, 9)
    add(life, "b", 6, 6)
    run(life, 2)
    add(life, "c", 1, 2)
    run(life, 4)


def more_important_than_swapped(life: Life) -> None:
    """One is swapped out; a newcomer that is more important need not wait for its return."""
    scheduler(life, 7, preemption_mode="swap", num_cpu_blocks=8, policy="priority")
    add(life, "a", 4, 9)
    add(life, "b", 6, 6, priority=2)
    run(life, 2)
    add(life, "c", 1, 2, priority=1)
    run(life, 4)


def out_before_a_token(life: Life) -> None:
    """One gives way in the middle of its prompt, and comes back without a token."""
    scheduler(life, 6, max_num_batched_tokens=4, reserve_full_prompt=False)
    add(life, "a", 5, 4)
    add(life, "b", 8, 2)
    run(life, 8)


def fewer_seats(life: Life) -> None:
    """The limit of seats is changed between two iterations."""
    scheduler(life, max_num_seqs=3)
    for name in "abcd":
        add(life, name, 2, 2)
    life.apply(setattr, "max_num_seqs", 1)
    run(life, 3)
    life.apply(setattr, "max_num_seqs", 2)
    run(life, 2)


def uncut(life: Life) -> None:
    """Prompts are computed whole or not yet; nobody overtakes the one that waits."""
    scheduler(life, max_num_batched_tokens=10, enable_chunked_prefill=False)
    for name, prompt in (("a", 6), ("b", 5), ("c", 2)):
        add(life, name, prompt)
    run(life, 3)


def long_ones_are_cut(life: Life) -> None:
    """No prompt gets more than three tokens of an iteration."""
    scheduler(life, max_num_batched_tokens=10, long_prefill_token_threshold=3)
    for name, prompt in (("a", 5), ("b", 2), ("c", 9), ("d", 4)):
        add(life, name, prompt)
    run(life, 3)


def nothing_left(life: Life) -> None:
    """Admit without budget, with some, and when nobody waits."""
    scheduler(life)
    for budget in (5, 0):
        life.apply(admit, budget)
    for name, prompt in (("a", 4), ("b", 3)):
        add(life, name, prompt)
    for budget in (0, 5, 9, 3):
        life.apply(admit, budget)
    life.apply(queues_of)


ADMISSIONS = (
    four_prompts,
    two_seats,
    no_block_for_the_head,
    cached_beginnings,
    out_and_back,
    out_before_a_token,
    swapped_first,
    more_important_than_swapped,
    fewer_seats,
    uncut,
    long_ones_are_cut,
    nothing_left,
)


# Static batching


def static_two_seats(life: Life) -> None:
    """The third of three starts when both others have ended."""
    scheduler(life, max_num_seqs=2)
    for name, max_tokens in (("a", 1), ("b", 3), ("c", 1)):
        add(life, name, 1, max_tokens)
    run(life, 4)


def static_three_batches(life: Life) -> None:
    """Batches of two, one after the other; who comes later joins the next one."""
    scheduler(life, max_num_seqs=2)
    for name, max_tokens in (("a", 2), ("b", 2), ("c", 1), ("d", 2)):
        add(life, name, 2, max_tokens)
    run(life, 2)
    add(life, "e", 1, 1)
    run(life, 4)


def static_small_budget(life: Life) -> None:
    """A batch is what one iteration admits."""
    scheduler(life, max_num_batched_tokens=6)
    for name, prompt in (("a", 4), ("b", 4), ("c", 2)):
        add(life, name, prompt, 2)
    run(life, 6)


def static_left(life: Life) -> None:
    """What is left of the budget: all of it while somebody runs."""
    scheduler(life)
    for name, prompt in (("a", 4), ("b", 3), ("c", 2)):
        add(life, name, prompt)
    for budget in (5, 9):
        life.apply(admit, budget)


def static_after_an_abort(life: Life) -> None:
    """When the last of a batch goes away, the next one forms."""
    scheduler(life, max_num_seqs=2)
    for name in "abc":
        add(life, name, 2, 5)
    run(life, 1)
    life.apply(abort, "a")
    run(life, 1)
    life.apply(abort, "b")
    run(life, 2)


BATCHES = (
    static_two_seats,
    static_three_batches,
    static_small_budget,
    static_left,
    static_after_an_abort,
)

"""Lesson 5: lives of schedulers, in which requests come, are computed, and go away."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

from hypothesis import strategies as st
from hypothesis.stateful import initialize, precondition, rule

from autograder.checks.acts import Act
from autograder.checks.lives import LargeLife
from autograder.checks.stateful import Life, Pair, Twin
from autograder.proxy.recipes import Make
from course_lib.kv_cache.manager import KVCacheManager
from course_lib.scheduling.request import Request
from course_lib.scheduling.scheduler import SchedulerConfig
from course_lib.scheduling.watch.iterations import (
    abort,
    admit,
    admit_many,
    hold_back,
    queues_of,
    run_iteration,
)

BLOCK_SIZE = 2


def scheduler(life: Life, num_blocks: int = 100, *, caching: bool = False, **limits: Any) -> None:
    """Make a scheduler with blocks of two slots."""
    life.create(
        SchedulerConfig(**limits),
        Make(KVCacheManager, num_blocks, BLOCK_SIZE, enable_caching=caching),
    )


def add(
    life: Life,
    name: str,
    prompt: int | list[int],
    max_tokens: int = 9,
    priority: int = 0,
    **more: float,
) -> None:
    """Let a request come: with these tokens, or with so many."""
    tokens = list(range(prompt)) if isinstance(prompt, int) else prompt
    placed = [priority] if priority else []
    life.do("add_request", Make(Request, name, tokens, max_tokens, *placed, **more))


def run(life: Life, num_iterations: int) -> None:
    """Plan and answer some iterations."""
    for _ in range(num_iterations):
        life.apply(run_iteration)


def all_have_come(acts: Sequence[Act]) -> bool:
    """Say whether each request of which a chunk is asked for was sent to the scheduler before."""
    come = set()
    for act in acts:
        if act.name == "add_request" and isinstance(act.args[1], Pair):
            come.add(act.args[1].step)
        elif act.name == "limit_chunk" and act.args[1].step not in come:
            return False
    return True


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
        self.create(config, Make(KVCacheManager, num_blocks, BLOCK_SIZE, enable_caching=False))

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
    (True, {"reserve_full_prompt": False}),
)
"""Whether there is a prefix cache, and what else a scheduler is told."""


class AdmissionLife(SchedulerLife):
    """The same, with a prefix cache or without, and with whatever a scheduler may be told."""

    @initialize(
        seats=st.sampled_from((1, 2, 3, 9)),
        budget=st.sampled_from((2, 5, 8, 12)),
        num_blocks=st.sampled_from((4, 8, 13)),
        mode=st.sampled_from(range(len(MODES))),
    )
    def make_one(self, seats: int, budget: int, num_blocks: int, mode: int = 0) -> None:
        """Start with nobody in it."""
        caching, limits = MODES[mode]
        config = SchedulerConfig(max_num_seqs=seats, max_num_batched_tokens=budget, **limits)
        self.create(config, Make(KVCacheManager, num_blocks, BLOCK_SIZE, enable_caching=caching))


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
    scheduler(life, 4, max_num_batched_tokens=3, reserve_full_prompt=False)
    add(life, "a", 2, 2)
    add(life, "b", 5, 1)
    run(life, 4)


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


def ten_at_once(life: Life) -> None:
    """Ten short prompts, in one iteration."""
    scheduler(life, max_num_seqs=16)
    for number, name in enumerate("abcdefghij"):
        add(life, name, [number])
    run(life, 1)


def a_seat_less_and_one_waits(life: Life) -> None:
    """The limit falls below the number of those who run; who comes then waits."""
    scheduler(life)
    add(life, "a", [1])
    add(life, "b", [1])
    run(life, 1)
    life.apply(setattr, "max_num_seqs", 1)
    add(life, "c", [1])
    run(life, 2)


def back_without_a_seat(life: Life) -> None:
    """One gave way, another went away, and the one seat that is left is taken."""
    scheduler(life, 6)
    add(life, "a", [1, 2, 3])
    add(life, "b", [1])
    add(life, "c", [1], 5)
    run(life, 3)
    life.apply(abort, "b")
    life.apply(setattr, "max_num_seqs", 1)
    run(life, 1)


def back_with_hits(life: Life) -> None:
    """One comes back, and what it had computed is in the cache."""
    scheduler(life, 6, caching=True, policy="priority")
    add(life, "a", 6, 2)
    add(life, "b", 2, 2, priority=1)
    run(life, 3)


def behind_one_who_is_back(life: Life) -> None:
    """One comes back with hits, and a newcomer starts behind it."""
    scheduler(life, 5, caching=True, long_prefill_token_threshold=3)
    add(life, "a", 4, 2)
    add(life, "b", [1], 3)
    run(life, 3)
    add(life, "c", [1], 1)
    run(life, 1)


def before_one_who_is_back(life: Life) -> None:
    """A newcomer that is more important goes before one that comes back."""
    scheduler(life, 6, policy="priority")
    add(life, "a", 6, 2)
    add(life, "b", 2, 2, priority=1)
    run(life, 1)
    add(life, "c", [1], 1)
    run(life, 3)


def swapped_then_two(life: Life) -> None:
    """One is swapped out, and two wait behind it in the order in which they came."""
    scheduler(life, 5, preemption_mode="swap", num_cpu_blocks=8)
    add(life, "a", 3, 4)
    add(life, "b", 2, 6)
    run(life, 2)
    add(life, "c", [1])
    add(life, "d", [1])
    run(life, 3)


def one_goes_before_swapped(life: Life) -> None:
    """Of two newcomers one goes before the one that is swapped out, the other after it."""
    scheduler(life, 4, policy="priority", preemption_mode="swap", num_cpu_blocks=8)
    add(life, "a", [1], 2, priority=1)
    add(life, "b", 4, 2)
    run(life, 1)
    add(life, "c", [1], 1)
    add(life, "d", [1], 1, priority=2)
    run(life, 3)


def swapped_have_no_seat(life: Life) -> None:
    """One is swapped out, and its seat is free."""
    more: dict[str, Any] = {"preemption_mode": "swap", "num_cpu_blocks": 8}
    scheduler(life, 5, max_num_seqs=2, policy="priority", **more)
    add(life, "a", 3, 4, priority=1)
    add(life, "b", 2, 6)
    run(life, 2)
    add(life, "c", [1])
    run(life, 2)


def joins_after_a_swap(life: Life) -> None:
    """One is back from the CPU, and a newcomer starts in the same iteration."""
    scheduler(life, 6, preemption_mode="swap", num_cpu_blocks=8)
    add(life, "a", 4, 4)
    add(life, "b", 3, 5)
    run(life, 3)
    add(life, "c", [1], 1)
    run(life, 4)


def beside_a_cut_prompt(life: Life) -> None:
    """A newcomer starts while another prompt is half computed."""
    scheduler(life, long_prefill_token_threshold=2)
    add(life, "a", [1], 1)
    add(life, "b", 5)
    run(life, 1)
    add(life, "c", [1])
    run(life, 1)


def room_for_all_of_it(life: Life) -> None:
    """There is room for the first chunk of a prompt, and not for all of it."""
    scheduler(life, 4, max_num_batched_tokens=2)
    add(life, "a", [1], 1)
    add(life, "b", 5)
    run(life, 1)


def cached_in_the_same_iteration(life: Life) -> None:
    """Two begin alike, and come together."""
    scheduler(life, 3, caching=True)
    add(life, "a", [1, 2])
    add(life, "b", [1, 2, 3])
    run(life, 1)


def cached_in_a_running_batch(life: Life) -> None:
    """One begins as another that runs."""
    scheduler(life, 6, caching=True)
    add(life, "a", [1, 2])
    run(life, 1)
    add(life, "b", [1, 2, 3])
    run(life, 1)


def cached_and_no_room(life: Life) -> None:
    """One begins as another did, and but for the cached block nothing is free."""
    scheduler(life, 3, caching=True, reserve_full_prompt=False, max_num_batched_tokens=3)
    add(life, "a", [1, 2], 1)
    run(life, 1)
    add(life, "b", [9], 2)
    run(life, 1)
    add(life, "c", [1, 2, 3], 1)
    run(life, 1)


def held_back(life: Life) -> None:
    """A variant of the scheduler has a reason why the second may not start."""
    scheduler(life)
    for name in "abc":
        add(life, name, [1])
    life.apply(hold_back, "b")
    run(life, 1)


def in_order_of_importance(life: Life) -> None:
    """The one that came later is more important."""
    scheduler(life, policy="priority")
    add(life, "a", [1], priority=1)
    add(life, "b", [1], arrival_time=1.0)
    run(life, 1)


def plans_ahead(life: Life) -> None:
    """Admit twice, and nobody has got a token in between."""
    scheduler(life, max_num_seqs=1)
    add(life, "a", [1])
    add(life, "b", [1])
    for _ in range(2):
        life.apply(admit, 9)


def one_token_left(life: Life) -> None:
    """Two prompts of one token, and a budget for one."""
    scheduler(life, max_num_batched_tokens=1)
    add(life, "a", [1])
    add(life, "b", [1])
    run(life, 1)


def times_preempted(life: Life) -> None:
    """How often one has given way is counted on."""
    scheduler(life, 3)
    add(life, "a", [9, 8], 2)
    add(life, "b", [9], 3)
    run(life, 3)
    life.see("running.0.num_preemptions")


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
    ten_at_once,
    a_seat_less_and_one_waits,
    back_without_a_seat,
    back_with_hits,
    behind_one_who_is_back,
    before_one_who_is_back,
    swapped_then_two,
    one_goes_before_swapped,
    swapped_have_no_seat,
    joins_after_a_swap,
    beside_a_cut_prompt,
    room_for_all_of_it,
    cached_in_the_same_iteration,
    cached_in_a_running_batch,
    cached_and_no_room,
    held_back,
    in_order_of_importance,
    plans_ahead,
    one_token_left,
    times_preempted,
)


def many_at_once(life: Life) -> None:
    """More come together than a scheduler has seats by default, and there is a seat for each."""
    scheduler(life, 400, max_num_seqs=300)
    life.apply(admit_many, 300)


MANY_AT_ONCE = LargeLife(many_at_once, "300 requests that come together, with 300 seats")

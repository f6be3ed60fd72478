"""Lesson 6: lives of CPU blocks, and of schedulers in which somebody has to give way."""

from __future__ import annotations

from typing import Any

from hypothesis import strategies as st
from hypothesis.stateful import initialize, precondition, rule

from autograder.checks.stateful import LargeLife, Life, Twin
from autograder.proxy.recipes import Make
from course_lib.kv_cache.manager import KVCacheManager
from course_lib.scheduling.request import Request
from course_lib.scheduling.scheduler import SchedulerConfig
from course_lib.scheduling.watch.preemptions import (
    PreemptionNotes,
    give_way,
    give_way_in_a_full_plan,
    run_with_preemptions,
    terms_of,
    who_has_left,
)
from course_lib.scheduling.watch.spaces import sharing_faults

BLOCK_SIZE = 2

# 6.5, CPU blocks


class SwapLife(Twin):
    """What may be done to the blocks of a CPU."""

    is_free = True

    @initialize(num_blocks=st.integers(0, 5))
    def make_one(self, num_blocks: int) -> None:
        """Start with all blocks free."""
        self.create(num_blocks)

    def look(self) -> None:
        """Compare what is free and what is held."""
        self.see("free_blocks")
        self.see("held_blocks")

    @rule(name=st.sampled_from("abc"), num_blocks=st.integers(0, 4))
    def reserve(self, name: str, num_blocks: int) -> None:
        """Take blocks for somebody."""
        self.do("reserve", name, num_blocks)
        self.look()

    @rule(name=st.sampled_from("abc"))
    def release(self, name: str) -> None:
        """Give somebody's blocks back."""
        self.do("release", name)
        self.look()


def _do(life: Life, *steps: tuple[Any, ...]) -> None:
    for step in steps:
        life.do(*step)
        life.see("free_blocks")
        life.see("held_blocks")


def three_blocks(life: Life) -> None:
    """Two take turns on three blocks."""
    life.create(3)
    _do(
        life,
        ("reserve", "a", 2),
        ("reserve", "b", 2),
        ("release", "a"),
        ("reserve", "b", 3),
        ("reserve", "b", 1),
        ("release", "a"),
    )


def all_but_none_left(life: Life) -> None:
    """Somebody takes just what there is, and somebody asks for nothing."""
    life.create(2)
    _do(life, ("reserve", "a", 2), ("reserve", "b", 0), ("reserve", "c", 1), ("release", "b"))


def out_of_order(life: Life) -> None:
    """Blocks come back between others."""
    life.create(5)
    _do(
        life,
        ("reserve", "a", 1),
        ("reserve", "b", 2),
        ("release", "a"),
        ("release", "b"),
        ("reserve", "c", 1),
        ("reserve", "a", 2),
        ("release", "c"),
        ("reserve", "b", 3),
    )


def once_more(life: Life) -> None:
    """Somebody who holds blocks asks for more, when there are enough and when there are not."""
    life.create(3)
    _do(life, ("reserve", "a", 1), ("reserve", "a", 1), ("reserve", "a", 9), ("release", "a"))


def nothing_and_once_more(life: Life) -> None:
    """Somebody who is here with no block asks again, for what there is and for more."""
    life.create(1)
    _do(life, ("reserve", "a", 0), ("reserve", "a", 1), ("reserve", "a", 2))


def two_digits(life: Life) -> None:
    """Blocks come back whose numbers have two digits."""
    life.create(12)
    _do(life, ("reserve", "a", 11), ("release", "a"), ("reserve", "b", 3))


def many_holders(life: Life) -> None:
    """Nine requests hold a block each, two of which differ in how their name is written."""
    life.create(9)
    _do(life, *(("reserve", name, 1) for name in "aAbcdefgh"), ("release", "A"), ("release", "a"))


def two_spaces(life: Life) -> None:
    """Use a second space: what belongs to the class, and not to the object, changes with it."""
    life.create(2)
    life.see("held_blocks")
    life.apply(sharing_faults)


_MANY = 5_000


def many_cpu_blocks(life: Life) -> None:
    """Two requests take half of the blocks each and give them back, then one takes all."""
    life.create(2 * _MANY)
    for step in (("reserve", "a", _MANY), ("reserve", "b", _MANY), ("release", "a")):
        life.do(*step)
    for step in (("release", "b"), ("reserve", "c", 2 * _MANY), ("release", "c")):
        life.do(*step)


MANY_CPU_BLOCKS = LargeLife(
    many_cpu_blocks,
    "10,000 blocks",
    seconds=0.25,
    slow="Is the list of free blocks gone through, or sorted, once for each block? Once for each "
    "request is enough",
)

SPACES = (
    three_blocks,
    all_but_none_left,
    out_of_order,
    once_more,
    two_digits,
    many_holders,
    nothing_and_once_more,
)

# 6.7, and the loop of 6.6: schedulers


def scheduler(life: Life, num_blocks: int, *, caching: bool = False, **limits: Any) -> None:
    """Make a scheduler with blocks of two slots."""
    life.create(
        SchedulerConfig(**limits),
        Make(KVCacheManager, num_blocks, BLOCK_SIZE, enable_caching=caching),
    )


def add(life: Life, name: str, prompt: int, max_tokens: int = 20, priority: int = 0) -> None:
    """Let a request come, with tokens that no other one has."""
    start = 100 * (ord(name[0]) - ord("a"))
    more = [priority] if priority else []
    life.do(
        "add_request", Make(Request, name, list(range(start, start + prompt)), max_tokens, *more)
    )


def run(life: Life, num_iterations: int) -> None:
    """Plan and answer some iterations."""
    for _ in range(num_iterations):
        life.apply(run_with_preemptions)


class PreemptionLife(Twin):
    """What may happen to a scheduler: requests come, are computed, and give way."""

    num_made = 0

    @initialize(
        num_blocks=st.integers(5, 14),
        caching=st.booleans(),
        budget=st.integers(3, 12),
        num_cpu_blocks=st.sampled_from((None, 0, 2, 12)),
        policy=st.sampled_from(("fcfs", "priority")),
    )
    def make_one(
        self, num_blocks: int, caching: bool, budget: int, num_cpu_blocks: int | None, policy: str
    ) -> None:
        """Start with nobody in it."""
        options: dict[str, Any] = {} if policy == "fcfs" else {"policy": policy}
        if num_cpu_blocks is not None:
            options |= {"preemption_mode": "swap", "num_cpu_blocks": num_cpu_blocks}
        self.create(
            SchedulerConfig(max_num_batched_tokens=budget, **options),
            Make(KVCacheManager, num_blocks, BLOCK_SIZE, enable_caching=caching),
        )

    @rule(num_tokens=st.integers(1, 7), priority=st.integers(0, 2))
    def add(self, num_tokens: int, priority: int) -> None:
        """Let a request come."""
        self.num_made += 1
        start = 100 * self.num_made
        tokens = list(range(start, start + num_tokens))
        self.do("add_request", Make(Request, f"r{self.num_made}", tokens, 6, priority))

    @precondition(lambda self: self.num_made)
    @rule(num_iterations=st.integers(1, 5))
    def run(self, num_iterations: int) -> None:
        """Plan and answer some iterations."""
        for _ in range(num_iterations):
            self.apply(run_with_preemptions)

    @precondition(lambda self: self.num_made)
    @rule(number=st.integers(1, 4), num_ahead=st.sampled_from((0, 0, 1)))
    def give_way(self, number: int, num_ahead: int) -> None:
        """Preempt somebody in the middle of a plan."""
        self.apply(give_way, f"r{number}", num_ahead)
        self.apply(run_with_preemptions)


def served_and_taken_out(life: Life) -> None:
    """The victim has a token in the plan, for which a block was taken; its answer has begun."""
    scheduler(life, 12, caching=True)
    add(life, "a", 3)
    add(life, "b", 4)
    run(life, 2)
    life.apply(give_way, "a")
    run(life, 2)


def in_the_middle_of_a_prompt(life: Life) -> None:
    """The victim computes a long prompt in parts, and has five tokens in the plan."""
    scheduler(life, 16, caching=True, max_num_batched_tokens=5)
    add(life, "a", 13)
    run(life, 1)
    life.apply(give_way, "a")
    run(life, 3)


def to_the_cpu(life: Life) -> None:
    """The victim goes to the CPU with what is computed, and comes back."""
    scheduler(life, 12, preemption_mode="swap", num_cpu_blocks=8)
    add(life, "a", 3)
    add(life, "b", 5)
    run(life, 2)
    life.apply(give_way, "b", 1)
    run(life, 3)


def no_room_on_the_cpu(life: Life) -> None:
    """The CPU has too few blocks, so what is computed is lost."""
    scheduler(life, 12, preemption_mode="swap", num_cpu_blocks=1)
    add(life, "a", 3)
    add(life, "b", 5)
    run(life, 2)
    life.apply(give_way, "b")
    run(life, 3)


def others_wait(life: Life) -> None:
    """The victim goes in front of those who wait."""
    scheduler(life, 8, max_num_seqs=2)
    for name, prompt in (("a", 3), ("b", 4), ("c", 2), ("d", 2)):
        add(life, name, prompt)
    run(life, 1)
    life.apply(give_way, "a", 1)
    run(life, 2)
    life.apply(give_way, "a")
    run(life, 2)


def important_ones_wait(life: Life) -> None:
    """Under priority the victim goes where its importance puts it."""
    scheduler(life, 9, policy="priority")
    add(life, "a", 4, 20, 1)
    add(life, "b", 5, 20, 3)
    run(life, 1)
    add(life, "c", 9, 20, 0)
    add(life, "d", 3, 20, 5)
    run(life, 1)
    life.apply(give_way, "b")
    run(life, 3)


def twice(life: Life) -> None:
    """Somebody gives way a second time, soon after it has come back."""
    scheduler(life, 12, caching=True, max_num_batched_tokens=4)
    add(life, "a", 7)
    run(life, 3)
    life.apply(give_way, "a")
    run(life, 1)
    life.apply(give_way, "a")
    run(life, 2)


def memory_runs_out(life: Life) -> None:
    """Three grow until one finds no block, again and again."""
    scheduler(life, 8)
    for name, prompt in (("a", 4), ("b", 3), ("c", 3)):
        add(life, name, prompt, 7)
    run(life, 9)


def an_important_one_needs_room(life: Life) -> None:
    """Under priority the least important one gives way: to itself, and later to another."""
    scheduler(life, 9, policy="priority", max_num_batched_tokens=16)
    add(life, "l", 6, 20, 5)
    run(life, 1)
    add(life, "h", 7, 20, 0)
    add(life, "g", 2, 20, 1)
    run(life, 7)


def to_the_cpu_with_a_cache(life: Life) -> None:
    """The victim goes to the CPU; this step would have filled a block."""
    scheduler(life, 12, caching=True, preemption_mode="swap", num_cpu_blocks=8)
    add(life, "a", 3)
    add(life, "b", 4)
    run(life, 1)
    life.apply(give_way, "a")
    run(life, 2)


def half_a_prompt_to_the_cpu(life: Life) -> None:
    """The victim has computed a part of its prompt, and goes to the CPU with just that."""
    scheduler(life, 4, max_num_batched_tokens=3, preemption_mode="swap", num_cpu_blocks=2)
    add(life, "a", 5)
    run(life, 1)
    life.apply(give_way, "a")
    run(life, 2)


def twice_to_the_cpu(life: Life) -> None:
    """Somebody goes to the CPU, comes back, and goes there once more."""
    scheduler(life, 4, preemption_mode="swap", num_cpu_blocks=2)
    add(life, "a", 1)
    run(life, 1)
    life.apply(give_way, "a")
    run(life, 1)
    life.apply(give_way, "a")
    run(life, 1)


def one_after_the_other_to_the_cpu(life: Life) -> None:
    """In one plan the last one in makes room for the first, which is then to go as well."""
    scheduler(life, 3, preemption_mode="swap", num_cpu_blocks=8)
    add(life, "a", 2)
    add(life, "b", 1)
    run(life, 1)
    life.apply(give_way, "a")
    run(life, 1)


def _four(life: Life) -> None:
    """Let four come, of whom the first two need a second block for their first answer."""
    for name, prompt in (("a", 2), ("b", 2), ("c", 1), ("d", 1)):
        add(life, name, prompt)


def two_to_the_cpu(life: Life) -> None:
    """Two go to the CPU in one step, before it is their turn to be served."""
    scheduler(life, 5, preemption_mode="swap", num_cpu_blocks=8)
    _four(life)
    run(life, 4)


def a_shared_prompt_to_the_cpu(life: Life) -> None:
    """The victim shares blocks with another request that began with the same tokens."""
    scheduler(life, 9, caching=True, preemption_mode="swap", num_cpu_blocks=8)
    add(life, "a", 5)
    run(life, 1)
    life.do("add_request", Make(Request, "b", list(range(5)), 20))
    run(life, 1)
    life.apply(give_way, "b")
    run(life, 2)


def two_go_while_one_waits(life: Life) -> None:
    """Two have to go in one step, and somebody waits who has never run."""
    scheduler(life, 5, max_num_seqs=4)
    _four(life)
    add(life, "e", 1)
    run(life, 3)


def keeps_its_terms(life: Life) -> None:
    """What a victim was made with is what it was."""
    scheduler(life, 4)
    add(life, "a", 1)
    run(life, 1)
    life.apply(give_way, "a")
    life.apply(terms_of, "a")


def keeps_all_its_terms(life: Life) -> None:
    """What a victim was made with is what it was, where nothing is left to its default."""
    scheduler(life, 4)
    told = {"client_id": "me", "deadline": 60.0, "lora_id": "french"}
    life.do("add_request", Make(Request, "a", [0], 20, 1, 2.5, 99, "salt", **told))
    run(life, 1)
    life.apply(give_way, "a")
    life.apply(terms_of, "a")


def in_a_full_plan(life: Life) -> None:
    """The plan holds more than what is computed."""
    scheduler(life, 4)
    add(life, "a", 1)
    run(life, 1)
    life.apply(give_way_in_a_full_plan, "a")


def half_of_a_large_pool(life: Life) -> None:
    """The victim holds half of many blocks."""
    scheduler(life, 5_001, max_num_batched_tokens=5_000)
    add(life, "a", 5_000)
    run(life, 1)
    life.apply(give_way, "a")


LARGE_POOL = LargeLife(
    half_of_a_large_pool,
    "5,001 blocks, half of them the victim's",
    seconds=0.25,
    slow="Is the pool gone through once for each block? It need not be gone through at all",
)

PREEMPTIONS = (
    served_and_taken_out,
    in_the_middle_of_a_prompt,
    to_the_cpu,
    to_the_cpu_with_a_cache,
    no_room_on_the_cpu,
    others_wait,
    important_ones_wait,
    twice,
    memory_runs_out,
    an_important_one_needs_room,
    half_a_prompt_to_the_cpu,
    twice_to_the_cpu,
    one_after_the_other_to_the_cpu,
    two_to_the_cpu,
    a_shared_prompt_to_the_cpu,
    two_go_while_one_waits,
    keeps_its_terms,
    keeps_all_its_terms,
    in_a_full_plan,
)


def two_must_go(life: Life) -> None:
    """Somebody needs three blocks at once: more than one has to give way."""
    scheduler(life, 8, long_prefill_token_threshold=6)
    add(life, "a", 12)
    for name in ("b", "c", "d"):
        add(life, name, 1)
    run(life, 5)


def goes_for_the_first(life: Life) -> None:
    """The first in finds no block, and the last in gives way."""
    scheduler(life, 5)
    add(life, "a", 5)
    add(life, "b", 1)
    run(life, 4)


def two_had_been_served(life: Life) -> None:
    """Under priority two have to go, and each of them had a token in the plan."""
    scheduler(life, 8, policy="priority", max_num_batched_tokens=8, reserve_full_prompt=False)
    add(life, "p", 2, 20, 5)
    add(life, "q", 2, 20, 5)
    run(life, 1)
    add(life, "h", 12)
    run(life, 2)


def goes_itself_soon(life: Life) -> None:
    """The last in finds no block for its first answer, and is the victim itself."""
    scheduler(life, 3)
    add(life, "a", 1)
    add(life, "b", 2)
    run(life, 2)


def the_first_goes_itself(life: Life) -> None:
    """Under priority who was admitted first finds no block, and is the victim itself."""
    scheduler(life, 3, policy="priority")
    add(life, "l", 1, 20, 5)
    run(life, 1)
    add(life, "h", 2)
    run(life, 2)


def _with_notes(life: Life, num_blocks: int, **limits: Any) -> None:
    """Make a scheduler that tells a log of its preemptions."""
    manager = Make(KVCacheManager, num_blocks, BLOCK_SIZE, enable_caching=False)
    life.create(SchedulerConfig(**limits), manager, log=Make(PreemptionNotes))


def is_noted(life: Life) -> None:
    """A log is told of one who gives way to another."""
    _with_notes(life, 3)
    add(life, "a", 2)
    add(life, "b", 1)
    run(life, 2)
    life.see("log.lines")


def each_is_noted(life: Life) -> None:
    """A log is told of two who give way in one step."""
    _with_notes(life, 5)
    _four(life)
    run(life, 2)
    life.see("log.lines")


def leaves_before_it_is_preempted(life: Life) -> None:
    """Who gives way to another has left the batch when it is preempted."""
    scheduler(life, 3)
    add(life, "a", 2)
    add(life, "b", 1)
    run(life, 1)
    life.apply(who_has_left)


LOOPS = (
    memory_runs_out,
    an_important_one_needs_room,
    two_must_go,
    goes_for_the_first,
    goes_itself_soon,
    the_first_goes_itself,
    two_had_been_served,
    is_noted,
    each_is_noted,
    leaves_before_it_is_preempted,
)

"""The final project: lives of engines and of memory trackers."""

from __future__ import annotations

from hypothesis import strategies as st
from hypothesis.stateful import initialize, precondition, rule

from autograder.checks.stateful import LargeLife, Life, Twin
from autograder.proxy.recipes import Make
from course_lib.engine.memory_tracker import MemoryReport
from course_lib.engine.watch.holders import (
    cached_and_free,
    forget,
    give_back,
    held_by_all,
    leaked_beside,
    lose,
    mark_of_another,
    observe_often,
    said_before_and_after,
    seat_many,
    take,
)
from course_lib.kv_cache.manager import KVCacheManager

# 13.1a and 13.1b, a step of an engine


class EngineLife(Twin):
    """What may happen to an engine: requests come, with one answer or two, are served, and go."""

    add_request = "add"
    end_request = "abort"
    num_made = num_cpu_blocks = 0

    @initialize(
        num_blocks=st.integers(5, 14),
        num_cpu_blocks=st.sampled_from((0, 6)),
        caching=st.booleans(),
        budget=st.integers(3, 12),
    )
    def make_one(self, num_blocks: int, num_cpu_blocks: int, caching: bool, budget: int) -> None:
        """Start with nobody in it."""
        self.num_cpu_blocks = num_cpu_blocks
        self.create(
            num_blocks,
            num_cpu_blocks=num_cpu_blocks,
            caching=caching,
            max_num_batched_tokens=budget,
        )

    @rule(
        num_tokens=st.integers(1, 6),
        first=st.integers(0, 9),
        n=st.integers(1, 3),
        ends=st.integers(1, 6),
    )
    def come(self, num_tokens: int, first: int, n: int, ends: int) -> None:
        """Let a request come."""
        self.num_made += 1
        prompt = list(range(first, first + num_tokens))
        self.do(self.add_request, f"r{self.num_made}", prompt, ends, n)

    @precondition(lambda self: self.num_made)
    @rule(num_steps=st.integers(1, 3))
    def run(self, num_steps: int) -> None:
        """Run some steps."""
        for _ in range(num_steps):
            self.do("run_step")

    @precondition(lambda self: self.num_made)
    @rule(number=st.integers(1, 4))
    def go(self, number: int) -> None:
        """Let somebody go away."""
        self.do(self.end_request, f"r{number}")


class CoreLife(EngineLife):
    """The same for the core of an engine."""

    add_request = "add_prompt"
    end_request = "end"


block_pair = st.tuples(st.integers(0, 3), st.integers(0, 3))


class ExecutorLife(EngineLife):
    """The same for its executor, which also moves blocks."""

    @rule(
        swap_out=st.lists(block_pair, max_size=2, unique_by=lambda pair: pair[1]),
        swap_in=st.lists(block_pair, max_size=2, unique_by=lambda pair: pair[1]),
        copies=st.lists(block_pair, max_size=2),
    )
    def move(
        self,
        swap_out: list[tuple[int, int]],
        swap_in: list[tuple[int, int]],
        copies: list[tuple[int, int]],
    ) -> None:
        """Move blocks between device and CPU, whatever they hold."""
        if self.num_cpu_blocks:
            self.do("move_blocks", swap_out, swap_in, copies)


def _steps(life: Life, num_steps: int) -> None:
    for _ in range(num_steps):
        life.do("run_step")


def out_before_copied(life: Life) -> None:
    """A block goes to the CPU, and another is copied into its place in the same step."""
    life.create(5, num_cpu_blocks=3)
    life.do("move_blocks", [(2, 0)], [], [(1, 2)])


def in_before_copied(life: Life) -> None:
    """A block comes back from the CPU, and is copied at once."""
    life.create(5, num_cpu_blocks=3)
    life.do("move_blocks", [], [(1, 3)], [(3, 4)])


def out_before_in(life: Life) -> None:
    """A block goes to the CPU, and another comes back into its place."""
    life.create(5, num_cpu_blocks=3)
    life.do("move_blocks", [(2, 0)], [(1, 2)], [])


def a_prompt_in_chunks(life: Life) -> None:
    """A prompt of 20 tokens is computed in steps of 8: the first two give no token."""
    life.create(20, max_num_batched_tokens=8)
    life.do("add", "a", list(range(20)), 3)
    _steps(life, 4)


def a_chunk_in_front(life: Life) -> None:
    """The first of a plan is in the middle of its prompt; the one behind it gets a token."""
    life.create(12, long_prefill_token_threshold=2)
    life.do("add", "a", [5, 6, 7], 3)
    life.do("add", "b", [1], 3)
    _steps(life, 2)


def two_answers(life: Life) -> None:
    """A prompt has two answers, which share its blocks from the first token on."""
    life.create(12)
    life.do("add", "a", [5, 6, 7], 4, 2)
    _steps(life, 3)


def not_by_name(life: Life) -> None:
    """One has two answers, and others stand beside it: the plan's order is none of names."""
    life.create(12)
    life.do("add", "b", [5, 6, 7], 4, 2)
    life.do("add", "a", [1, 2], 4)
    _steps(life, 3)


def not_as_they_came(life: Life) -> None:
    """A plan names the last one first, and nobody has another answer."""
    life.create(12)
    life.do("add", "a", [5, 6, 7], 4)
    life.do("add", "b", [1, 2], 4)
    life.do("run_plan")
    life.do("run_plan")


def more_than_a_step_has(life: Life) -> None:
    """Four run, and a step has two tokens: two of them are left out."""
    life.create(14, max_num_batched_tokens=2)
    life.do("add", "a", [5], 3, 4)
    _steps(life, 3)


def gone_and_back(life: Life) -> None:
    """A client goes away, and its name comes again with another prompt."""
    life.create(12)
    life.do("add", "a", [5, 6, 7], 9)
    _steps(life, 2)
    life.do("abort", "a")
    life.do("add", "a", [8], 9)
    _steps(life, 2)


def gone_for_good(life: Life) -> None:
    """A client goes away, and others go on."""
    life.create(12)
    life.do("add", "a", [5, 6, 7], 9)
    life.do("add", "b", [1, 2], 9)
    _steps(life, 1)
    life.do("abort", "a")
    _steps(life, 2)


def all_swapped_in_turns(life: Life) -> None:
    """Two grow in a pool for one: they go to the CPU and come back."""
    life.create(6, num_cpu_blocks=6)
    life.do("add", "a", [5, 6, 7], 6)
    life.do("add", "b", [1, 2, 3], 6)
    _steps(life, 9)


def computed_anew(life: Life) -> None:
    """Two grow in a pool for one: who gives way is computed once more."""
    life.create(6)
    life.do("add", "a", [5, 6, 7], 6)
    life.do("add", "b", [1, 2, 3], 6)
    _steps(life, 9)


def nothing_to_compute(life: Life) -> None:
    """The last client goes away: the next plan computes nothing."""
    life.create(6)
    life.do("add", "a", [5, 6, 7], 6)
    _steps(life, 1)
    life.do("abort", "a")
    life.do("move_blocks")


EXECUTING = (
    a_prompt_in_chunks,
    a_chunk_in_front,
    out_before_copied,
    in_before_copied,
    out_before_in,
    two_answers,
    not_by_name,
    not_as_they_came,
    more_than_a_step_has,
    gone_and_back,
    gone_for_good,
    all_swapped_in_turns,
    computed_anew,
    nothing_to_compute,
)


def one_request(life: Life) -> None:
    """One request, from its prompt to its end."""
    life.create(9)
    life.do("add_prompt", "a", [5, 6], 2)
    _steps(life, 2)


def two_requests(life: Life) -> None:
    """One ends while the other goes on."""
    life.create(9)
    life.do("add_prompt", "a", [5, 6], 1)
    life.do("add_prompt", "b", [1, 2, 3], 3)
    _steps(life, 3)


def forked(life: Life) -> None:
    """A prompt has two answers, and both get their first token in the step that ends it."""
    life.create(9)
    life.do("add_prompt", "a", [5, 6, 7], 3, 2)
    _steps(life, 3)


def forked_twice(life: Life) -> None:
    """A prompt has three answers: two begin with the blocks of the first."""
    life.create(9)
    life.do("add_prompt", "a", [5], 2, 3)
    _steps(life, 1)


def not_fetched(life: Life) -> None:
    """One ends, and nobody fetches the news before the next step."""
    life.create(9)
    life.do("add_prompt", "a", [5, 6], 1)
    life.do("add_prompt", "b", [1, 2, 3], 3)
    life.do("run_step", False)
    life.do("run_step")


def long_prompt(life: Life) -> None:
    """A prompt takes two steps, of which the first gives no token."""
    life.create(12, max_num_batched_tokens=4)
    life.do("add_prompt", "a", [5, 6, 7, 8, 9], 2)
    _steps(life, 3)


STEPPING = (one_request, two_requests, forked, forked_twice, not_fetched, long_prompt)

# 13.2, the memory tracker

BLOCK_BYTES = 100
names = st.sampled_from("abc")


class MemoryLife(Twin):
    """What may happen to the memory that a tracker looks at."""

    def __init__(self) -> None:
        super().__init__()
        self.held: set[str] = set()
        self.num_lost = 0

    @initialize(num_blocks=st.integers(8, 20), size=st.integers(1, 3))
    def make_one(self, num_blocks: int, size: int) -> None:
        """Start with nobody."""
        self.create(Make(KVCacheManager, num_blocks, size), BLOCK_BYTES)

    def look(self) -> None:
        """Compare what both say."""
        self.do("by_owner")
        self.see("in_use")
        self.see("high_water")

    @rule(name=names, tokens=st.lists(st.integers(0, 1), min_size=1, max_size=4))
    def take(self, name: str, tokens: list[int]) -> None:
        """Let somebody come."""
        if name not in self.held:
            self.held.add(name)
            self.apply(take, name, tokens)
        self.look()

    @rule(name=names)
    def give_back(self, name: str) -> None:
        """Let somebody go."""
        if name in self.held:
            self.held.remove(name)
            self.apply(give_back, name)
        self.look()

    @rule()
    def lose_one(self) -> None:
        """Let a block be forgotten."""
        if self.num_lost < 2:
            self.num_lost += 1
            self.apply(lose, 1)
        self.look()

    @rule()
    def observe(self) -> None:
        """Look at the mark."""
        self.do("observe")
        self.look()

    @rule(live=st.lists(names, max_size=3, unique=True))
    def report(self, live: list[str]) -> None:
        """Ask for a report."""
        self.do("report", live, reads=MemoryReport._fields)


def _tracker(life: Life, num_blocks: int = 20) -> None:
    life.create(Make(KVCacheManager, num_blocks, 2), BLOCK_BYTES)


def _told(life: Life, live: list[str]) -> None:
    life.do("observe")
    life.do("by_owner")
    life.see("in_use")
    life.see("high_water")
    life.do("report", live, reads=MemoryReport._fields)


def one_holds(life: Life) -> None:
    """One request holds two blocks, of which the second is half empty."""
    _tracker(life)
    life.apply(take, "a", [1, 2, 3])
    _told(life, ["a"])


def other_bytes(life: Life) -> None:
    """A block has other bytes than in the example."""
    life.create(Make(KVCacheManager, 20, 2), 64)
    life.apply(take, "a", [1, 2, 3])
    _told(life, [])


def two_share(life: Life) -> None:
    """Two requests begin alike: the first two blocks are both theirs."""
    _tracker(life)
    life.apply(take, "a", [1, 2, 3, 4, 5])
    life.apply(take, "b", [1, 2, 3, 4, 6, 7, 8])
    _told(life, ["a", "b"])


def three_share(life: Life) -> None:
    """Three requests hold one block."""
    _tracker(life)
    for name in "abc":
        life.apply(take, name, [1, 2, ord(name)])
    _told(life, ["a", "b", "c"])


def it_falls(life: Life) -> None:
    """One goes, and the mark stays; what is cached and free is neither in use nor leaked."""
    _tracker(life)
    life.apply(take, "a", [1, 2, 3, 4, 5])
    _told(life, ["a"])
    life.apply(give_back, "a")
    life.apply(cached_and_free)
    _told(life, [])


def between_two_looks(life: Life) -> None:
    """What nobody observed is not in the mark, and a report looks without observing."""
    _tracker(life)
    life.apply(take, "a", [1, 2, 3])
    life.do("by_owner")
    life.do("report", ["a"], reads=MemoryReport._fields)
    life.see("high_water")
    life.apply(give_back, "a")
    life.do("observe")
    life.see("high_water")


def who_is_gone_holds(life: Life) -> None:
    """Somebody who is not live any more holds blocks."""
    _tracker(life)
    life.apply(take, "gone", [1, 2, 3])
    life.apply(take, "here", [4, 5, 6])
    _told(life, ["here"])


def nobody_holds(life: Life) -> None:
    """A block is held, and is in no table."""
    _tracker(life)
    life.apply(take, "a", [1, 2, 3])
    life.apply(lose, 2)
    _told(life, ["a"])


def who_is_gone_shares(life: Life) -> None:
    """Somebody who is not live shares blocks with somebody who is."""
    _tracker(life)
    life.apply(take, "a", [1, 2, 3, 4, 5])
    life.apply(take, "b", [1, 2, 3, 4, 6])
    _told(life, ["b"])


def one_of_two_is_forgotten(life: Life) -> None:
    """Of two who share blocks one is forgotten: its table is gone, and its blocks are counted."""
    _tracker(life)
    life.apply(take, "a", [1, 2, 3])
    life.apply(take, "b", [1, 2, 4])
    life.apply(forget, "a")
    _told(life, ["b"])


def live_as_an_iterator(life: Life) -> None:
    """Who is live may come as an iterator, in any order."""
    _tracker(life)
    for name in "abc":
        life.apply(take, name, [ord(name)])
    life.apply(leaked_beside, ["c", "a"])


def live_without_blocks(life: Life) -> None:
    """Somebody is live and holds nothing: it waits."""
    _tracker(life)
    _told(life, ["a"])


def named_like_another(life: Life) -> None:
    """Names that hold others, or differ in a capital or a blank: each is somebody else's."""
    _tracker(life)
    for name in ("a", "ab", "A", " a"):
        life.apply(take, name, [sum(map(ord, name))])
    life.do("report", ["ab"], reads=MemoryReport._fields)
    life.do("report", ["a"], reads=MemoryReport._fields)


def both_are_forgotten(life: Life) -> None:
    """Two who share a block are forgotten: it has two holders, none of them in a table."""
    _tracker(life)
    life.apply(take, "a", [1, 2])
    life.apply(take, "b", [1, 2, 4])
    for name in "ab":
        life.apply(forget, name)
    _told(life, [])


def looked_at_late(life: Life) -> None:
    """Somebody holds blocks before there is a tracker: nobody has observed them yet."""
    _tracker(life)
    life.apply(take, "a", [1, 2, 3])
    life.apply(mark_of_another)


def what_was_said(life: Life) -> None:
    """What a tracker has said does not change when it is asked again."""
    _tracker(life)
    life.apply(take, "a", [1, 2, 3])
    life.apply(said_before_and_after, "b", [4, 5])


TRACKING = (
    one_holds,
    other_bytes,
    two_share,
    three_share,
    it_falls,
    between_two_looks,
    who_is_gone_holds,
    nobody_holds,
    who_is_gone_shares,
    one_of_two_is_forgotten,
    live_as_an_iterator,
    live_without_blocks,
    named_like_another,
    both_are_forgotten,
    looked_at_late,
    what_was_said,
)


def many_hold(life: Life) -> None:
    """Twenty thousand requests hold a block each, and every other one is live."""
    life.create(Make(KVCacheManager, 20_001, 2), BLOCK_BYTES)
    life.apply(seat_many, 20_000)
    life.apply(held_by_all)
    life.do("observe")
    life.do("report", [f"r{number}" for number in range(0, 20_000, 2)], reads=MemoryReport._fields)


MANY_HOLD = LargeLife(
    many_hold,
    "20,000 requests that hold a block each",
    seconds=0.5,
    slow="A search for each block or each request (`in` or `count` on a list, every table beside "
    "every other), or asking for all tables again for each of them, takes longer the more there "
    "are: a set, or a dict that counts, knows it at once",
)


def many_steps(life: Life) -> None:
    """A request holds blocks for a long time, and the tracker looks after each step."""
    _tracker(life)
    life.apply(take, "a", [1, 2, 3])
    life.apply(observe_often, 25_000)
    life.apply(give_back, "a")
    life.apply(observe_often, 1)


MANY_STEPS = LargeLife(
    many_steps,
    "25,000 steps, observed one by one",
    slow="Who keeps what each step had, and goes through it after each, takes longer the longer "
    "the engine runs: the most so far is one number",
)

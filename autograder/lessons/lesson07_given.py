"""Lesson 7: what its checks are given for the trace by hand and for the queue."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from hypothesis import strategies as st
from hypothesis.stateful import initialize, rule

from autograder.checks.stateful import LargeLife, Life, Twin
from autograder.checks.trace import Instance
from autograder.proxy.recipes import Make
from course_lib.kv_cache.block_pool import BlockPool, KVCacheBlock
from course_lib.kv_cache.watch.churn import churn
from course_lib.kv_cache.watch.hand_traces import pool_trace
from course_lib.kv_cache.watch.notation import StateLine, queue_line

# 7.1, a trace by hand


def states_to_write(seed: int) -> Instance:
    """Return six calls of a pool of 9 blocks; asked for is the state after each."""
    trace = pool_trace(seed)
    listed = "\n".join(
        f"- `step {number}`: {step.operation}" for number, step in enumerate(trace.steps, 1)
    )
    task = (
        f"Seed {seed}, a pool of 9 blocks with prefix caching: `{trace.start}`\n\n{listed}\n\n"
        "Write the state after each step as a line in the notation, with the tables of the "
        "requests that hold blocks."
    )
    return Instance(task, states_under(BlockPool, seed))


def states_under(make_pool: type[BlockPool], seed: int) -> dict[str, Any]:
    """Return the states of the trace of a seed if a pool works like this class."""
    steps = pool_trace(seed, make_pool).steps
    return {f"step {number}": step.state for number, step in enumerate(steps, 1)}


def same_state(expected: Any, got: Any) -> str | None:
    """Agree on lines that say the same, whatever their spaces; tables may stand in any order."""
    if not isinstance(got, str):
        return "it is no text; a state is a line in the notation, between quotation marks"
    try:
        read = StateLine.parse(got)
    except ValueError as error:
        return str(error)
    right = StateLine.parse(expected)
    return None if (read.free, dict(read.tables)) == (right.free, dict(right.tables)) else ""


def form_of_a_state(state: Any) -> str:
    """Say what is wrong with how a state is written, without a word of what is in it."""
    complaint = same_state("free []", state)
    if complaint:
        return complaint
    if isinstance(state, str) and not state.lstrip().startswith("free"):
        return "a state begins with the free queue, as in free [4 5 | 3*]"
    return ""


# 7.2, the queue


class QueueLife(Twin):
    """What may be done to a free queue; block 1 has the number 1, and so on."""

    @initialize(inside=st.integers(0, 4), outside=st.integers(0, 2))
    def start(self, inside: int, outside: int) -> None:
        """Make some blocks, and a queue of the first of them."""
        numbers = range(1, inside + outside + 1)
        self.blocks = {n: self.make(Make(KVCacheBlock, n)) for n in numbers}
        self.queued = list(numbers)[:inside]
        self.create([self.blocks[n] for n in self.queued])
        self.look()

    def look(self) -> None:
        """Compare what is in both queues."""
        self.apply(queue_line)

    def idle(self, places: Sequence[int]) -> list[int]:
        """Return blocks that are in no queue, each once, chosen by numbers."""
        left = [n for n in self.blocks if n not in self.queued]
        return [left.pop(place % len(left)) for place in places if left]

    @rule()
    def popleft(self) -> None:
        """Take the first, or find the queue empty."""
        self.do("popleft", reads=("block_id",))
        self.queued = self.queued[1:]
        self.look()

    @rule(n=st.integers(0, 4))
    def popleft_n(self, n: int) -> None:
        """Take the first few, or find that there are fewer."""
        self.do("popleft_n", n, reads=("block_id",))
        if n <= len(self.queued):
            self.queued = self.queued[n:]
        self.look()

    @rule(place=st.integers(0, 5))
    def remove(self, place: int) -> None:
        """Take a block out, or find that it is not there."""
        if not self.blocks:
            return
        number = list(self.blocks)[place % len(self.blocks)]
        self.do("remove", self.blocks[number])
        self.queued = [n for n in self.queued if n != number]
        self.look()

    @rule(place=st.integers(0, 5), method=st.sampled_from(("append", "prepend")))
    def put_one(self, place: int, method: str) -> None:
        """Put a block at one end."""
        for number in self.idle([place]):
            self.do(method, self.blocks[number])
            ends = {"append": [*self.queued, number], "prepend": [number, *self.queued]}
            self.queued = ends[method]
            self.look()

    @rule(
        places=st.lists(st.integers(0, 5), max_size=3),
        method=st.sampled_from(("append_n", "prepend_n")),
    )
    def put_some(self, places: list[int], method: str) -> None:
        """Put several blocks at one end."""
        numbers = self.idle(places)
        self.do(method, [self.blocks[n] for n in numbers])
        ends = {"append_n": [*self.queued, *numbers], "prepend_n": [*numbers, *self.queued]}
        self.queued = ends[method]
        self.look()


def _queue(life: Life, inside: int, outside: int = 0) -> list[Any]:
    """Make a queue, and some blocks that are not in it; return all of them, by number - 1."""
    blocks = [life.make(Make(KVCacheBlock, n)) for n in range(1, inside + outside + 1)]
    life.create(blocks[:inside])
    life.apply(queue_line)
    return blocks


def out_of_the_middle(life: Life) -> None:
    """Take one out of the middle, and put it in front."""
    blocks = _queue(life, 4)
    life.do("remove", blocks[2])
    life.apply(queue_line)
    life.do("prepend", blocks[2])
    life.apply(queue_line)
    life.do("popleft", reads=("block_id",))
    life.apply(queue_line)


def two_in_front(life: Life) -> None:
    """Put two in front at once, and two behind."""
    blocks = _queue(life, 2, 4)
    life.do("prepend_n", blocks[2:4])
    life.apply(queue_line)
    life.do("append_n", blocks[4:])
    life.apply(queue_line)
    life.do("popleft_n", 5, reads=("block_id",))
    life.apply(queue_line)


def removed_twice(life: Life) -> None:
    """Take one out twice, then one out that never was in."""
    blocks = _queue(life, 3, 1)
    life.do("remove", blocks[1])
    life.apply(queue_line)
    life.do("remove", blocks[1])
    life.apply(queue_line)
    life.do("remove", blocks[3])
    life.apply(queue_line)


def taken_and_removed(life: Life) -> None:
    """Take the first, and try to take it out once more."""
    blocks = _queue(life, 2)
    life.do("popleft", reads=("block_id",))
    life.do("remove", blocks[0])
    life.apply(queue_line)
    life.do("popleft_n", 1, reads=("block_id",))
    life.do("remove", blocks[1])
    life.apply(queue_line)


def the_last_goes(life: Life) -> None:
    """Take out the last, then the only one, and fill the empty queue."""
    blocks = _queue(life, 2, 1)
    life.do("remove", blocks[1])
    life.do("append", blocks[1])
    life.apply(queue_line)
    life.do("remove", blocks[1])
    life.do("remove", blocks[0])
    life.apply(queue_line)
    life.do("append", blocks[2])
    life.do("append", blocks[0])
    life.apply(queue_line)


def more_than_there_are(life: Life) -> None:
    """Ask for more than there are, and for the first of none."""
    _queue(life, 2)
    life.do("popleft_n", 3, reads=("block_id",))
    life.apply(queue_line)
    life.do("popleft_n", 2, reads=("block_id",))
    life.do("popleft", reads=("block_id",))
    life.do("popleft_n", 0, reads=("block_id",))
    life.do("popleft_n", 1, reads=("block_id",))
    life.apply(queue_line)


QUEUE_PROBES = (
    out_of_the_middle,
    two_in_front,
    removed_twice,
    taken_and_removed,
    the_last_goes,
    more_than_there_are,
)


def _many_free_blocks(life: Life) -> None:
    life.create(Make(list, Make(getattr, Make(BlockPool, 100_001), "free_block_queue")))


def moves_from_the_middle(life: Life) -> None:
    """Take 2,000 blocks out of the middle of 100,000, one by one."""
    _many_free_blocks(life)
    life.apply(churn, 2000)
    life.do("popleft", reads=("block_id",))


MANY_FREE_BLOCKS = (
    LargeLife(moves_from_the_middle, "100,000 blocks, 2,000 of which leave the middle"),
)

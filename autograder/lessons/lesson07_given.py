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
from course_lib.kv_cache.watch.churn import churn, move_all, move_at_the_ends
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
    empty = [name for name, table in read.tables.items() if not table]
    if empty:
        return f"{empty[0]} holds no block here; of requests, only those that hold blocks are named"
    right = StateLine.parse(expected)
    return None if (read.free, dict(read.tables)) == (right.free, dict(right.tables)) else ""


def form_of_a_state(state: Any) -> str:
    """Say what is wrong with how a state is written, without a word of what is in it."""
    complaint = same_state("free []", state)
    if complaint:
        return complaint
    if not isinstance(state, str) or not state.lstrip().startswith("free"):
        return "a state begins with the free queue, as in free [4 5 | 3*]"
    return _in_two_places(StateLine.parse(state))


def _in_two_places(state: StateLine) -> str:
    """Say which blocks a state has both in a table and in the free queue, which none can be."""
    held = {mark.block_id for table in state.tables.values() for mark in table}
    both = [str(mark.block_id) for mark in state.free or () if mark.block_id in held]
    if not both:
        return ""
    subject = f"block {both[0]} is" if len(both) == 1 else f"blocks {' '.join(both)} are"
    return f"{subject} both held and in the free queue, and a block is in one of the two"


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

    def look(self) -> None:
        """Compare what is in both queues, and the links of what is not."""
        self.apply(queue_line, list(self.blocks.values()))

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


class QueueProbe:
    """A queue of some blocks in a life, and blocks beside it; block 1 has the number 1."""

    def __init__(self, life: Life, inside: int, outside: int = 0) -> None:
        self._life = life
        self._blocks = [life.make(Make(KVCacheBlock, n)) for n in range(1, inside + outside + 1)]
        life.create(self._blocks[:inside])

    def look(self) -> None:
        """Compare what is in the queue, and all links."""
        self._life.apply(queue_line, self._blocks)

    def does(self, method: str, *numbers: int) -> QueueProbe:
        """Call a method with one block, or none; then look."""
        self._life.do(method, *(self._blocks[n - 1] for n in numbers), reads=("block_id",))
        self.look()
        return self

    def does_n(self, method: str, *numbers: int) -> QueueProbe:
        """Call a method with a list of blocks; then look."""
        self._life.do(method, [self._blocks[n - 1] for n in numbers])
        self.look()
        return self

    def takes(self, n: int) -> QueueProbe:
        """Take several; then look."""
        self._life.do("popleft_n", n, reads=("block_id",))
        self.look()
        return self


# Each is short: what comes after a mistake is of no use to tell which one it was.


def just_made(life: Life) -> None:
    """Make a queue of one, and look."""
    QueueProbe(life, 1).look()


def just_made_of_two(life: Life) -> None:
    """Make a queue of two, and look."""
    QueueProbe(life, 2).look()


def as_it_is(life: Life) -> None:
    """Make a queue, take none of it, and look."""
    QueueProbe(life, 2).takes(0)


def the_only_one(life: Life) -> None:
    """Take out the only one."""
    QueueProbe(life, 1).does("remove", 1)


def out_of_the_middle(life: Life) -> None:
    """Take one out of the middle, and put it in front."""
    QueueProbe(life, 3).does("remove", 2).does("prepend", 2)


def the_last_goes(life: Life) -> None:
    """Take out the last, and put it back behind."""
    QueueProbe(life, 2).does("remove", 2).does("append", 2)


def the_first_comes(life: Life) -> None:
    """Take the first of two."""
    QueueProbe(life, 2).does("popleft")


def the_first_two_come(life: Life) -> None:
    """Take the first two of three."""
    QueueProbe(life, 3).takes(2)


def into_the_empty(life: Life) -> None:
    """Put one behind an empty queue."""
    QueueProbe(life, 0, 1).does("append", 1)


def in_front_of_none(life: Life) -> None:
    """Put one in front of an empty queue."""
    QueueProbe(life, 0, 1).does("prepend", 1)


def two_in_front(life: Life) -> None:
    """Put two in front at once."""
    QueueProbe(life, 1, 2).does_n("prepend_n", 2, 3)


def two_behind(life: Life) -> None:
    """Put two behind at once, and none."""
    QueueProbe(life, 1, 2).does_n("append_n", 2, 3).does_n("append_n").does_n("prepend_n")


def removed_twice(life: Life) -> None:
    """Take one out twice."""
    QueueProbe(life, 3).does("remove", 2).does("remove", 2)


def never_inside(life: Life) -> None:
    """Take out one that never was in."""
    QueueProbe(life, 1, 1).does("remove", 2)


def taken_and_removed(life: Life) -> None:
    """Take the first, and try to take it out once more."""
    QueueProbe(life, 2).does("popleft").does("remove", 1)


def taken_with_others_and_removed(life: Life) -> None:
    """Take the first as one of several, and try to take it out once more."""
    QueueProbe(life, 2).takes(1).does("remove", 1)


def more_than_there_are(life: Life) -> None:
    """Ask for more than there are, and for none."""
    QueueProbe(life, 2).takes(3).takes(0)


def taken_and_put_back(life: Life) -> None:
    """Take both, put back what came, and take the first out: it is the very block."""
    probe = QueueProbe(life, 2)
    taken = life.do("popleft_n", 2, reads=("block_id",))
    life.do("append_n", taken)
    probe.does("remove", 1)


def the_first_of_none(life: Life) -> None:
    """Ask for the first of none."""
    QueueProbe(life, 0).does("popleft")


def one_of_none(life: Life) -> None:
    """Ask for one of none."""
    QueueProbe(life, 0).takes(1)


QUEUE_PROBES = (
    just_made,
    just_made_of_two,
    as_it_is,
    the_only_one,
    out_of_the_middle,
    the_last_goes,
    the_first_comes,
    the_first_two_come,
    into_the_empty,
    in_front_of_none,
    two_in_front,
    two_behind,
    removed_twice,
    never_inside,
    taken_and_removed,
    taken_with_others_and_removed,
    more_than_there_are,
    taken_and_put_back,
    the_first_of_none,
    one_of_none,
)


def _many_free_blocks(life: Life, number: int) -> None:
    life.create(Make(list, Make(getattr, Make(BlockPool, number + 1), "free_block_queue")))


def moves_of_a_few(life: Life) -> None:
    """Take 2,000 blocks out of the middle of 100,000, one by one; then a few at the ends."""
    _many_free_blocks(life, 100_000)
    life.apply(churn, 2000)
    life.apply(move_at_the_ends, 1500)
    life.do("popleft", reads=("block_id",))


def moves_of_all(life: Life) -> None:
    """Take 20,000 blocks at once, and put them back at once, twice."""
    _many_free_blocks(life, 20_000)
    life.apply(move_all)
    life.do("popleft", reads=("block_id",))


_A_SEARCH = (
    "A search (`block in self`, a loop from one end, `index`) takes longer the more blocks there "
    "are. Whether a block is in the queue is told by its own links, and they lead to its neighbours"
)

MANY_FREE_BLOCKS = (
    LargeLife(
        moves_of_a_few,
        "100,000 blocks, a few of which are moved at a time",
        seconds=0.6,
        slow=_A_SEARCH,
    ),
    LargeLife(
        moves_of_all,
        "20,000 blocks that leave and come back at once",
        seconds=0.6,
        slow=_A_SEARCH,
    ),
)

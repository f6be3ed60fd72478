"""Lesson 7: what its checks are given: lives of queues and pools, traces, requests, counters."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from typing import Any

from hypothesis import strategies as st
from hypothesis.stateful import initialize, rule

from autograder.checks.acts import Act
from autograder.checks.function import Call
from autograder.checks.stateful import LargeLife, Life, Twin
from autograder.checks.trace import Instance
from autograder.proxy.recipes import At, Make, reach
from course_lib.kv_cache.block_pool import BlockPool, KVCacheBlock
from course_lib.kv_cache.manager import KVCacheManager, PlainRequest
from course_lib.kv_cache.watch.churn import churn, use_half
from course_lib.kv_cache.watch.hand_traces import pool_trace
from course_lib.kv_cache.watch.notation import StateLine, queue_line, state_line

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

# 7.3 and 7.4, the pool

_LETTERS = ("a", "b", "c")


def at(*block_ids: int) -> list[At]:
    """Return blocks of the pool that lives, by their ids."""
    return [At(f"blocks.{block_id}") for block_id in block_ids]


class PoolLife(Twin):
    """What may be done to a pool. A pool beside it says which blocks are held."""

    is_free = True

    @initialize(
        num_blocks=st.sampled_from((4, 5, 6, 2, 3)), enable_caching=st.sampled_from((True, False))
    )
    def start(self, num_blocks: int, enable_caching: bool) -> None:
        """Make a pool."""
        given = (num_blocks,) if enable_caching else (num_blocks, False)
        self.create(*given)
        self.beside = BlockPool(*given)

    @staticmethod
    def is_sound(acts: Sequence[Act]) -> bool:
        """Say whether there is such a pool, with such blocks, and only blocks in use are cached."""
        try:
            pool = BlockPool(*acts[0].args)
            for act in acts:
                if act.verb == "do" and not _is_done(pool, *act.args):
                    return False
        except (IndexError, ValueError):
            return False
        return True

    def both(self, method: str, *args: Any) -> None:
        """Call a method of all three pools, if it may be called now; then look at the state."""
        if _is_done(self.beside, method, *args):
            reads = ("block_id", "ref_cnt", "block_hash") if method == "get_new_blocks" else ()
            self.do(method, *args, reads=reads)
            self.apply(state_line)
            self.see("num_evictions")

    def chosen(self, places: Sequence[int], is_held: bool) -> list[int]:
        """Return ids by numbers: of blocks that are held, or of any."""
        ids = [b.block_id for b in self.beside.blocks if b.ref_cnt or not is_held]
        return [ids[place % len(ids)] for place in places if ids]

    @rule(num_blocks=st.integers(0, 6) | st.just(-1))
    def take(self, num_blocks: int) -> None:
        """Take blocks, at times more than there are."""
        self.both("get_new_blocks", num_blocks)

    @rule(places=st.lists(st.integers(0, 5), min_size=1, max_size=4))
    def free_held(self, places: list[int]) -> None:
        """Give blocks back, at times one more often than it is held."""
        if block_ids := self.chosen(places, is_held=True):
            self.both("free_blocks", at(*block_ids))

    @rule(places=st.lists(st.integers(0, 5), min_size=1, max_size=3))
    def free_any(self, places: list[int]) -> None:
        """Give back what may not be held, or is the null block."""
        self.both("free_blocks", at(*self.chosen(places, is_held=False)))

    @rule(places=st.lists(st.integers(0, 5), min_size=1, max_size=3))
    def touch(self, places: list[int]) -> None:
        """Share blocks, at times the null block."""
        self.both("touch", at(*self.chosen(places, is_held=False)))

    @rule(place=st.integers(0, 5), letter=st.sampled_from(_LETTERS))
    def cache(self, place: int, letter: str) -> None:
        """Let others find what is in a block that is held."""
        for block_id in self.chosen([place], is_held=True):
            self.do("cache_full_blocks", at(block_id), [letter.encode()])
            self.beside.cache_full_blocks([self.beside.blocks[block_id]], [letter.encode()])

    @rule(letter=st.sampled_from(_LETTERS))
    def find(self, letter: str) -> None:
        """Look a prefix up."""
        self.do("get_cached_block", letter.encode(), reads=("block_id",))


def _is_done(pool: BlockPool, name: str, *arguments: Any) -> bool:
    """Call a method, be it refused; return False if nothing says what should come of it.

    Only blocks in use become findable. Of two reasons to refuse a release, either may be told.
    """
    args = [_of(pool, argument) for argument in arguments]
    if name == "cache_full_blocks" and not all(block.ref_cnt for block in args[0]):
        return False
    if name == "free_blocks":
        blocks = args[0] = list(args[0])
        is_foreign = any(block.pool is not pool for block in blocks)
        if is_foreign and any(b.ref_cnt < blocks.count(b) for b in blocks if b.pool is pool):
            return False
    with suppress(ValueError):
        getattr(pool, name)(*args)
    return True


def _of(pool: BlockPool, argument: Any) -> Any:
    """Return what an argument stands for beside a pool; a block that is made is no pool's."""
    if isinstance(argument, At):
        return reach(pool, argument.path)
    if isinstance(argument, Make):
        (first, *_) = argument.args
        return _of(pool, first) if isinstance(first, list) else KVCacheBlock(first)
    return [_of(pool, each) for each in argument] if isinstance(argument, list) else argument


def _look(life: Life) -> None:
    life.apply(state_line)
    life.see("num_evictions")


def _take(life: Life, num_blocks: int) -> None:
    life.do("get_new_blocks", num_blocks, reads=("block_id", "ref_cnt", "block_hash"))


def _cached(life: Life, block_ids: Sequence[int], letters: str) -> None:
    life.do("cache_full_blocks", at(*block_ids), [letter.encode() for letter in letters])


def _find(life: Life, letter: str) -> None:
    life.do("get_cached_block", letter.encode(), reads=("block_id",))


def taken_twice(life: Life) -> None:
    """Take some, then some more."""
    life.create(5)
    _take(life, 2)
    _look(life)
    _take(life, 1)
    _look(life)


def into_the_cached(life: Life) -> None:
    """Take what is free, and one block that holds a prefix."""
    life.create(4)
    _take(life, 2)
    _cached(life, (1, 2), "ab")
    life.do("free_blocks", at(2, 1))
    _look(life)
    _take(life, 2)
    _look(life)
    for letter in "ab":
        _find(life, letter)


def the_same_twice(life: Life) -> None:
    """Two blocks hold the same; the one that is found is handed out."""
    life.create(4)
    _take(life, 2)
    _cached(life, (1, 2), "aa")
    life.do("free_blocks", at(1))
    _take(life, 2)
    _find(life, "a")
    _look(life)
    life.do("free_blocks", at(2))
    _take(life, 1)
    _find(life, "a")


def too_many(life: Life) -> None:
    """Ask for more than there are."""
    life.create(4)
    _take(life, 4)
    _look(life)
    _take(life, 3)
    _take(life, 1)
    _look(life)


def fewer_than_none(life: Life) -> None:
    """Ask for a negative number of blocks, and for none."""
    life.create(3)
    _take(life, 0)
    _take(life, -1)
    _look(life)


GET_PROBES = (taken_twice, into_the_cached, the_same_twice, too_many, fewer_than_none)


def touched_while_free(life: Life) -> None:
    """Claim a free block, twice, and give it back."""
    life.create(4)
    life.do("touch", at(2))
    _look(life)
    life.do("touch", at(2))
    _look(life)
    life.do("free_blocks", at(2, 2))
    _look(life)


def touched_with_a_prefix(life: Life) -> None:
    """Claim a block that holds a prefix; it still does."""
    life.create(4)
    _take(life, 2)
    _cached(life, (1, 2), "ab")
    life.do("free_blocks", at(2, 1))
    life.do("touch", at(1))
    _look(life)
    _find(life, "a")
    _take(life, 2)
    _look(life)


def touched_twice_at_once(life: Life) -> None:
    """Claim one block twice in one call, and through an iterator."""
    life.create(4)
    life.do("touch", at(3, 3))
    _look(life)
    life.do("touch", Make(iter, at(1, 3)))
    _look(life)


def touched_in_vain(life: Life) -> None:
    """Claim what nobody may hold: nothing changes."""
    life.create(4)
    life.do("touch", at(1, 0))
    _look(life)
    life.do("touch", [*at(2), Make(KVCacheBlock, 3)])
    _look(life)


TOUCH_PROBES = (
    touched_while_free,
    touched_with_a_prefix,
    touched_twice_at_once,
    touched_in_vain,
)


def two_requests_end(life: Life) -> None:
    """End a request with full blocks, then one with a block that is not full."""
    life.create(9)
    _take(life, 3)
    _cached(life, (1, 2, 3), "abc")
    _take(life, 2)
    _cached(life, (4,), "d")
    life.do("free_blocks", at(3, 2, 1))
    _look(life)
    life.do("free_blocks", at(5, 4))
    _look(life)
    _find(life, "b")


def shared_and_freed(life: Life) -> None:
    """Two hold a block; one gives it back, then the other."""
    life.create(4)
    _take(life, 2)
    life.do("touch", at(1))
    life.do("free_blocks", at(2, 1))
    _look(life)
    life.do("free_blocks", at(1))
    _look(life)


def both_at_once(life: Life) -> None:
    """Give one block back twice in one call; it is held twice."""
    life.create(4)
    _take(life, 2)
    life.do("touch", at(1))
    life.do("free_blocks", at(1, 2, 1))
    _look(life)


def one_time_too_often(life: Life) -> None:
    """Give a block back more often than it is held, behind one that is held."""
    life.create(4)
    _take(life, 2)
    life.do("free_blocks", at(2, 1, 1))
    _look(life)
    life.do("free_blocks", at(1, 3))
    _look(life)
    life.do("free_blocks", at(3))
    _look(life)


def not_from_here(life: Life) -> None:
    """Give back what this pool has not lent."""
    life.create(4)
    _take(life, 2)
    life.do("free_blocks", at(2, 0))
    _look(life)
    life.do("free_blocks", [*at(1), Make(KVCacheBlock, 2, 1)])
    _look(life)


def in_this_order(life: Life) -> None:
    """Give three back, none of which is full, in an order of one's own, as an iterator, or none."""
    life.create(6)
    _take(life, 4)
    life.do("free_blocks", at(2, 3, 1))
    _look(life)
    life.do("free_blocks", Make(iter, at(4)))
    _look(life)
    life.do("free_blocks", [])
    _look(life)


FREE_PROBES = (
    two_requests_end,
    shared_and_freed,
    both_at_once,
    one_time_too_often,
    not_from_here,
    in_this_order,
)


def half_in_use(life: Life) -> None:
    """Take, share and give back 10,000 blocks."""
    life.create(20_001)
    life.apply(use_half)
    life.do("get_num_free_blocks")
    _take(life, 2)


MANY_BLOCKS = (LargeLife(half_in_use, "20,000 blocks, half of them in use at once", seconds=0.3),)


# 7.6, who leaks

_NAMES = ("a", "b", "c")


def request(name: str, num_tokens: int) -> Make:
    """Return a request; blocks have 2 tokens."""
    return Make(PlainRequest, name, list(range(num_tokens)))


def manager_of(
    lengths: dict[str, int],
    forked: Sequence[tuple[str, str]] = (),
    extra: Sequence[int] = (),
    ended: Sequence[str] = (),
) -> Make:
    """Return a manager whose requests hold blocks.

    Args:
        lengths: Tokens of each request, by name.
        forked: Pairs (parent, child) of requests that share all blocks.
        extra: Blocks that have a holder more than tables say.
        ended: Requests that have given their blocks back.
    """
    requests = {name: request(name, length) for name, length in lengths.items()}
    made = Make(KVCacheManager, 14, 2)
    for name, length in lengths.items():
        if name not in [child for _, child in forked]:
            made = made.do("allocate_slots", requests[name], length)
    for parent, child in forked:
        made = made.do("fork", requests[parent], requests[child])
    for block_id in extra:
        made = made.do("block_pool.touch", [At(f"block_pool.blocks.{block_id}")])
    for name in ended:
        made = made.do("free", requests[name])
    return made


@st.composite
def leaking(draw: Any) -> Call:
    """Return a manager, and which of its requests are alive."""
    names = draw(st.permutations(_NAMES))[: draw(st.integers(0, 3))]
    lengths = {name: draw(st.integers(1, 5)) for name in names}
    ended = [name for name in names if draw(st.sampled_from((False, False, True)))]
    extra = draw(st.lists(st.integers(1, 9), max_size=2))
    live = draw(st.lists(st.sampled_from((*_NAMES, "z")), unique=True, max_size=3))
    form = draw(st.sampled_from((list, list, tuple, iter)))
    given = live if form is list else tuple(live) if form is tuple else Make(iter, live)
    return Call(manager_of(lengths, extra=extra, ended=ended), given)


LEAKS = (
    Call(manager_of({"a": 3, "b": 2}), ["b"]),
    Call(manager_of({"a": 4, "b": 4}, forked=[("a", "b")]), ["b"]),
    Call(manager_of({"b": 3}, extra=[3, 3]), ["b"]),
    Call(manager_of({"c": 2, "a": 3, "b": 1}, extra=[5]), ["b"]),
    Call(manager_of({"a": 4}, ended=["a"]), []),
    Call(manager_of({"a": 4}), Make(iter, ["a", "z"])),
    Call(manager_of({"a": 2, "b": 2}), Make(iter, ["b", "a"])),
    Call(manager_of({"a": 4, "b": 4}, forked=[("a", "b")], extra=[1]), ["a"]),
)


# 7.7, the counters


class MetricsLife(Twin):
    """What may be counted."""

    is_free = True

    @initialize(num_blocks=st.sampled_from((11, 3, 1)))
    def start(self, num_blocks: int) -> None:
        """Make the counters."""
        self.create(num_blocks)
        self.look()

    def look(self) -> None:
        """Read what a dashboard shows."""
        for attribute in ("hit_rate", "usage", "high_water", "evictions"):
            self.see(attribute)

    @rule(
        num_tokens=st.integers(0, 9),
        num_hits=st.integers(-1, 9),
        is_preempted=st.sampled_from((False, False, True)),
    )
    def record_lookup(self, num_tokens: int, num_hits: int, is_preempted: bool) -> None:
        """Count a lookup, or find that it cannot be."""
        if is_preempted:
            self.do("record_lookup", num_tokens, num_hits, is_preempted=True)
        else:
            self.do("record_lookup", num_tokens, num_hits)
        self.look()
        self.see("preempted_hit_tokens")
        self.see("preempted_queried_tokens")

    @rule(num_used=st.integers(-1, 11), num_evicted=st.integers(-1, 3))
    def record_usage(self, num_used: int, num_evicted: int) -> None:
        """Take note of usage, or find that it cannot be."""
        self.do("record_usage", num_used, num_evicted)
        self.look()


def _counted(life: Life) -> None:
    for attribute in ("hit_rate", "usage", "high_water", "evictions"):
        life.see(attribute)


def lookups(life: Life) -> None:
    """Look up two new requests and one that comes back."""
    life.create(11)
    _counted(life)
    life.do("record_lookup", 4, 2)
    life.do("record_lookup", 8, 1)
    _counted(life)
    life.do("record_lookup", 4, 3, is_preempted=True)
    _counted(life)
    life.see("preempted_hit_tokens")
    life.see("preempted_queried_tokens")
    life.do("record_lookup", 5, 5)
    _counted(life)


def usages(life: Life) -> None:
    """Let usage rise and fall."""
    life.create(11)
    life.do("record_usage", 7, 2)
    _counted(life)
    life.do("record_usage", 4)
    _counted(life)
    life.do("record_usage", 10, 3)
    _counted(life)
    life.do("record_usage", 0, 1)
    _counted(life)


def the_smallest(life: Life) -> None:
    """A cache of nothing but the null block."""
    life.create(1)
    life.do("record_usage", 0)
    _counted(life)


def miscounted(life: Life) -> None:
    """Refuse what cannot be, and count nothing of it."""
    life.create(11)
    for tokens, hits in ((0, 0), (3, 4), (3, -1)):
        life.do("record_lookup", tokens, hits)
        _counted(life)
    life.do("record_lookup", 3, 4, is_preempted=True)
    life.see("preempted_hit_tokens")
    life.see("preempted_queried_tokens")
    for used, evicted in ((11, 0), (-1, 0), (2, -1)):
        life.do("record_usage", used, evicted)
        _counted(life)


METRICS_PROBES = (lookups, usages, the_smallest, miscounted)

"""The notation of states: what is written can be read, and says what is there."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from course_lib.kv_cache import (
    BlockPool,
    BlockTable,
    FirstFitAllocator,
    FreeKVCacheBlockQueue,
    KVCacheBlock,
    KVCacheManager,
    PlainRequest,
    Recorder,
)
from course_lib.kv_cache.watch.notation import (
    BlockMark,
    StateLine,
    queue_line,
    state_line,
    strip_text,
)
from course_lib.viz.replays.failing_case import snapshot_free_queue

marks = st.builds(BlockMark, st.integers(0, 99), st.booleans(), st.integers(1, 12))
names = st.text("abcdefgr0123456789_-", min_size=1, max_size=6)
lines = st.builds(
    StateLine,
    st.none() | st.lists(marks, max_size=6).map(tuple),
    st.dictionaries(names, st.lists(marks, max_size=5).map(tuple), max_size=4),
)


@given(line=lines)
def test_what_is_written_can_be_read(line: StateLine) -> None:
    assert StateLine.parse(str(line)) == line
    assert StateLine.parse(f"  {str(line).replace(' ', '  ').replace('|', ' ')} ") == line


class TestAPool:
    def test_the_life_of_two_requests(self) -> None:
        """The states of the lesson on block management, call by call."""
        pool = BlockPool(9)
        a = pool.get_new_blocks(3)
        pool.cache_full_blocks(a, [b"a1", b"a2", b"a3"])
        assert str(StateLine.of(pool, {"A": a})) == "free [4 5 6 7 8]  A: 1* 2* 3*"
        b = pool.get_new_blocks(2)
        pool.cache_full_blocks(b[:1], [b"b1"])
        pool.free_blocks(reversed(a))
        assert str(StateLine.of(pool, {"B": b})) == "free [6 7 8 | 3* 2* 1*]  B: 4* 5"
        pool.free_blocks(reversed(b))
        assert str(StateLine.of(pool)) == "free [5 6 7 8 | 3* 2* 1* 4*]"
        pool.touch(a[:2])
        pool.touch(a[:1])
        assert str(StateLine.of(pool, {"C": [1, 2]})) == "free [5 6 7 8 | 3* 4*]  C: 1*(2) 2*"
        assert str(StateLine.of(pool)) == "free [5 6 7 8 | 3* 4*]  held: 1*(2) 2*"

    def test_the_bar_stands_between_two_kinds_only(self) -> None:
        pool = BlockPool(4)
        blocks = pool.get_new_blocks(3)
        assert str(StateLine.of(pool, {"r": blocks})) == "free []  r: 1 2 3"
        pool.cache_full_blocks(blocks, [b"a", b"b", b"c"])
        pool.free_blocks(blocks)
        assert str(StateLine.of(pool)) == "free [1* 2* 3*]"
        pool.evict_blocks([2])
        assert str(StateLine.of(pool)) == "free [1* 2 | 3*]"


class TestAManager:
    def test_a_fork_and_its_first_write(self) -> None:
        manager = KVCacheManager(num_blocks=6, block_size=2)
        parent, child = PlainRequest("p", [1, 2, 3]), PlainRequest("c", [1, 2, 3])
        with Recorder(manager) as recorder:
            manager.allocate_slots(parent, 3)
            parent.num_computed_tokens = 3
            manager.fork(parent, child)
            manager.allocate_slots(child, 1)
        assert [str(StateLine.of_frame(frame)) for frame in recorder.frames] == [
            "free [1 2 3 4 5]",
            "free [3 4 5]  p: 1* 2",
            "free [3 4 5]  p: 1*(2) 2(2)  c: 1*(2) 2(2)",
            "free [4 5]  p: 1*(2) 2  c: 1*(2) 3",
        ]
        assert StateLine.of(manager) == StateLine.of_frame(recorder.frames[-1])


def test_tables_alone() -> None:
    table = BlockTable(4)
    table.append([7, 3])
    line = StateLine.of_tables({"r0": table, "r1": []})
    assert str(line) == "r0: 7 3  r1:"
    assert StateLine.parse("r0: 7 3 r1:") == line


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("free [1 x]", "'x' is no block"),
        ("free [1 2", r"'free \[1 2' is no state"),
        ("r0: 1 2**", r"'2\*\*' is no block"),
        ("r0: -1", "'-1' is no block"),
        ("1 2 r0: 3", "'1 2' is no state"),
        ("r0: 1  r0: 2", "a name stands twice in r0, r0"),
    ],
)
def test_what_is_no_state_is_refused(text: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        StateLine.parse(text)


@pytest.mark.parametrize("name_at", [{}, {0: "A", 5: ""}, {0: "A", 5: "AB"}])
def test_a_strip_needs_one_letter_for_each_block(name_at: dict[int, str]) -> None:
    allocator = FirstFitAllocator(8)
    allocator.allocate(5)
    allocator.allocate(3)
    with pytest.raises(ValueError, match="give each block one letter"):
        strip_text(allocator, name_at)


def test_a_queue_that_runs_in_circles_is_cut_and_a_wrong_length_is_said() -> None:
    blocks = [KVCacheBlock(block_id) for block_id in (1, 2)]
    queue = FreeKVCacheBlockQueue(blocks)
    assert queue_line(queue) == "free [1 2]"
    blocks[1].next_free_block = blocks[0]
    assert queue_line(queue) == "free [1 2 1], and its length says 2"
    assert snapshot_free_queue(queue) == {
        "free_queue": [1, 2, 1],
        "facts": {
            "length": "2",
            "next": "sentinel → 1 → 2 → 1",
            "prev": "sentinel ← 1 ← 2 ← sentinel",
        },
    }


def test_a_pool_and_a_manager_are_written_in_one_line() -> None:
    pool = BlockPool(4)
    pool.touch(pool.get_new_blocks(1))
    assert state_line(pool) == str(StateLine.of(pool)) == "free [2 3]  held: 1(2)"

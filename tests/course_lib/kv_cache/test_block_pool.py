"""The block pool: who gets which block, in which order, and what an error leaves behind."""

import random
from collections.abc import Callable, Iterable, Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from course_lib.kv_cache import (
    BlockPool,
    DoubleFreeError,
    ForeignBlockError,
    FreeKVCacheBlockQueue,
    KVCacheBlock,
    OutOfBlocksError,
    TwoPartFreeQueue,
)
from course_lib.kv_cache.block_pool import FreeBlockQueue

QUEUES = [TwoPartFreeQueue, FreeKVCacheBlockQueue]
QueueType = Callable[[Sequence[KVCacheBlock]], FreeBlockQueue]


def ids(blocks: Iterable[KVCacheBlock]) -> list[int]:
    return [block.block_id for block in blocks]


def state(pool: BlockPool) -> object:
    """Everything that a caller can see."""
    blocks = [(block.ref_cnt, block.block_hash) for block in pool.blocks]
    return blocks, ids(pool.free_block_queue), dict(pool.cached_block_hash_to_block)


@pytest.fixture(params=QUEUES)
def queue_type(request: pytest.FixtureRequest) -> QueueType:
    kind: QueueType = request.param
    return kind


class TestFreeQueues:
    """Both queues, by the same tests: nobody can tell them apart."""

    @given(
        num_blocks=st.integers(0, 8),
        operations=st.lists(
            st.tuples(st.sampled_from(["pop", "append", "prepend", "remove"]), st.integers(0, 20)),
            max_size=40,
        ),
    )
    @pytest.mark.parametrize("kind", QUEUES)
    def test_it_is_a_queue_with_two_ends_and_an_open_middle(
        self, kind: QueueType, num_blocks: int, operations: list[tuple[str, int]]
    ) -> None:
        blocks = [KVCacheBlock(block_id) for block_id in range(num_blocks)]
        queue, model, outside = kind(blocks), list(blocks), []
        for operation, number in operations:
            if operation == "pop":
                if number > len(model):
                    with pytest.raises(OutOfBlocksError, match=f"requested {number} blocks but"):
                        queue.popleft_n(number)
                else:
                    taken = queue.popleft_n(number)
                    assert taken == model[:number]
                    del model[:number]
                    outside += taken
            elif operation == "remove" and model:
                block = model.pop(number % len(model))
                queue.remove(block)
                outside.append(block)
            elif operation in ("append", "prepend"):
                moved, outside = outside[:number], outside[number:]
                if operation == "append":
                    queue.append_n(moved)
                    model += moved
                else:
                    queue.prepend_n(moved)
                    model[:0] = moved
            assert list(queue) == model
            assert len(queue) == len(model)

    def test_what_is_not_in_it_cannot_be_removed(self, queue_type: QueueType) -> None:
        blocks = [KVCacheBlock(block_id) for block_id in range(3)]
        queue = queue_type(blocks)
        queue.remove(blocks[1])
        for block in (blocks[1], KVCacheBlock(9)):
            with pytest.raises(ValueError, match=f"block {block.block_id} is not in this free"):
                queue.remove(block)
        assert list(queue) == [blocks[0], blocks[2]]

    def test_the_linked_list_leaves_no_link_behind(self) -> None:
        blocks = [KVCacheBlock(block_id) for block_id in range(5)]
        queue = FreeKVCacheBlockQueue(blocks)
        queue.remove(blocks[2])
        assert queue.popleft() is blocks[0]
        for block in (blocks[0], blocks[2]):
            assert block.prev_free_block is None
            assert block.next_free_block is None
        assert blocks[1].next_free_block is blocks[3]
        assert blocks[3].prev_free_block is blocks[1]

    def test_an_empty_linked_list_says_so(self) -> None:
        with pytest.raises(OutOfBlocksError, match="requested 1 blocks but only 0 are free"):
            FreeKVCacheBlockQueue([]).popleft()

    def test_removing_from_the_middle_does_not_depend_on_the_length(self) -> None:
        # A search would take 50,000 steps each time: 40,000 removals would not end.
        blocks = [KVCacheBlock(block_id) for block_id in range(100_000)]
        for kind in QUEUES:
            queue = kind([])
            queue.append_n(blocks)
            for block in blocks[30_000:70_000]:
                queue.remove(block)
            assert len(queue) == 60_000
            queue.popleft_n(60_000)


class TestOrder:
    def test_blocks_are_handed_out_in_the_order_of_ids_and_never_block_0(self) -> None:
        pool = BlockPool(num_blocks=6)
        assert ids(pool.get_new_blocks(2)) == [1, 2]
        assert ids(pool.get_new_blocks(3)) == [3, 4, 5]
        assert pool.get_num_free_blocks() == 0

    def test_blocks_without_a_hash_come_back_to_the_front_in_the_order_given(self) -> None:
        pool = BlockPool(num_blocks=8)
        blocks = pool.get_new_blocks(3)
        pool.free_blocks(reversed(blocks))
        assert ids(pool.free_block_queue) == [3, 2, 1, 4, 5, 6, 7]
        assert ids(pool.get_new_blocks(4)) == [3, 2, 1, 4]

    @pytest.mark.parametrize("enable_caching", [True, False])
    def test_without_hashes_caching_makes_no_difference(self, enable_caching: bool) -> None:
        pool = BlockPool(num_blocks=6, enable_caching=enable_caching)
        first, second = pool.get_new_blocks(2), pool.get_new_blocks(1)
        pool.free_blocks(first)
        pool.free_blocks(second)
        assert ids(pool.free_block_queue) == [3, 1, 2, 4, 5]

    def test_blocks_with_a_hash_come_back_to_the_back(self) -> None:
        pool = BlockPool(num_blocks=8)
        blocks = pool.get_new_blocks(4)
        pool.cache_full_blocks(blocks[:3], [b"a", b"b", b"c"])
        pool.free_blocks(reversed(blocks))
        assert ids(pool.free_block_queue) == [4, 5, 6, 7, 3, 2, 1]

    def test_the_prefix_freed_first_is_lost_first_and_its_end_before_its_beginning(self) -> None:
        pool = BlockPool(num_blocks=5)
        first, second = pool.get_new_blocks(2), pool.get_new_blocks(2)
        pool.cache_full_blocks(first, [b"a1", b"a2"])
        pool.cache_full_blocks(second, [b"b1", b"b2"])
        pool.free_blocks(reversed(second))
        pool.free_blocks(reversed(first))
        kept = [b"b2", b"b1", b"a2", b"a1"]
        while kept:
            assert all(pool.get_cached_block(block_hash) for block_hash in kept)
            pool.get_new_blocks(1)
            assert pool.get_cached_block(kept.pop(0)) is None

    def test_touching_a_cached_block_saves_it(self) -> None:
        pool = BlockPool(num_blocks=4)
        blocks = pool.get_new_blocks(3)
        pool.cache_full_blocks(blocks, [b"a", b"b", b"c"])
        pool.free_blocks(reversed(blocks))
        pool.touch([blocks[1]])
        assert ids(pool.get_new_blocks(2)) == [3, 1]
        assert pool.get_cached_block(b"b") is blocks[1]
        with pytest.raises(OutOfBlocksError):
            pool.get_new_blocks(1)

    def test_a_block_without_a_hash_can_be_touched_too(self, queue_type: QueueType) -> None:
        pool = BlockPool(num_blocks=5, free_queue=queue_type)
        pool.touch([pool.blocks[3]])
        assert ids(pool.get_new_blocks(3)) == [1, 2, 4]

    def test_a_shared_block_comes_back_with_its_last_holder(self) -> None:
        pool = BlockPool(num_blocks=3)
        blocks = pool.get_new_blocks(1)
        pool.touch(blocks)
        pool.free_blocks(blocks)
        assert (blocks[0].ref_cnt, ids(pool.free_block_queue)) == (1, [2])
        pool.free_blocks(blocks)
        assert (blocks[0].ref_cnt, ids(pool.free_block_queue)) == (0, [1, 2])

    def test_one_call_can_give_both_holds_back(self) -> None:
        pool = BlockPool(num_blocks=3)
        blocks = pool.get_new_blocks(1)
        pool.touch(blocks)
        pool.free_blocks([*blocks, *blocks])
        assert ids(pool.free_block_queue) == [1, 2]

    def test_what_is_given_back_stays_the_callers(self) -> None:
        pool = BlockPool(num_blocks=5)
        blocks = pool.get_new_blocks(3)
        pool.free_blocks(blocks)
        assert ids(blocks) == [1, 2, 3]
        blocks.clear()
        assert ids(pool.free_block_queue) == [1, 2, 3, 4]

    @given(
        holders=st.lists(st.integers(0, 3), min_size=4, max_size=4),
        cached=st.sets(st.integers(1, 4)),
        given_back=st.lists(st.integers(1, 4), max_size=6),
        kind=st.sampled_from([list, tuple, iter]),
    )
    def test_giving_back_many_is_giving_back_one_after_the_other(
        self,
        holders: list[int],
        cached: set[int],
        given_back: list[int],
        kind: Callable[[list[KVCacheBlock]], Iterable[KVCacheBlock]],
    ) -> None:
        pool = BlockPool(num_blocks=6)
        for block, num_holders in zip(pool.blocks[1:], holders, strict=False):
            for _ in range(num_holders):
                pool.touch([block])
        held = [block for block in pool.blocks if block.ref_cnt and block.block_id in cached]
        pool.cache_full_blocks(held, [bytes([block.block_id]) for block in held])

        left = dict(enumerate(holders, 1))
        front: list[int] = []
        back: list[int] = []
        for block_id in given_back:
            left[block_id] -= 1
            if left[block_id] == 0:
                (back if pool.blocks[block_id].block_hash else front).append(block_id)
        before, queue = state(pool), ids(pool.free_block_queue)
        blocks = kind([pool.blocks[block_id] for block_id in given_back])
        if min(left.values()) < 0:
            with pytest.raises(DoubleFreeError):
                pool.free_blocks(blocks)
            assert state(pool) == before
        else:
            pool.free_blocks(blocks)
            assert ids(pool.free_block_queue) == [*front, *queue, *back]
            assert {block_id: pool.blocks[block_id].ref_cnt for block_id in left} == left

    @pytest.mark.parametrize("seed", range(20))
    def test_the_pool_does_the_same_with_either_queue(self, seed: int) -> None:
        histories = []
        for kind in QUEUES:
            rng, history = random.Random(seed), []
            pool = BlockPool(num_blocks=12, free_queue=kind)
            held: list[KVCacheBlock] = []
            for step in range(300):
                choice = rng.random()
                free = pool.get_num_free_blocks()
                if choice < 0.4 and free:
                    blocks = pool.get_new_blocks(rng.randint(1, min(free, 4)))
                    num_full = rng.randint(0, len(blocks))
                    pool.cache_full_blocks(
                        blocks[:num_full], [bytes([step % 256, i]) for i in range(num_full)]
                    )
                    held += blocks
                elif choice < 0.8 and held:
                    rng.shuffle(held)
                    count = rng.randint(1, len(held))
                    pool.free_blocks(held[:count])
                    del held[:count]
                else:
                    block = pool.blocks[rng.randint(1, 11)]
                    pool.touch([block])
                    held.append(block)
                history.append(state(pool)[:2])  # type: ignore[index]
            histories.append(history)
        assert histories[0] == histories[1]


class TestCache:
    def test_a_new_block_has_no_hash_and_its_old_contents_are_not_found(self) -> None:
        pool = BlockPool(num_blocks=3)
        blocks = pool.get_new_blocks(2)
        pool.cache_full_blocks(blocks, [b"a", b"b"])
        pool.free_blocks(blocks)
        assert pool.num_evictions == 0  # lazily: both can still be found
        assert pool.get_cached_block(b"a") is blocks[0]
        (reused,) = pool.get_new_blocks(1)
        assert (reused.block_id, reused.block_hash, pool.num_evictions) == (1, None, 1)
        assert pool.get_cached_block(b"a") is None
        assert pool.get_cached_block(b"b") is blocks[1]

    def test_duplicates_are_kept_and_the_oldest_is_found(self) -> None:
        pool = BlockPool(num_blocks=5)
        one, two, three = pool.get_new_blocks(3)
        for block in (one, two, three):
            pool.cache_full_blocks([block], [b"same"])
        assert pool.get_cached_block(b"same") is one
        pool.evict_blocks([two.block_id])
        assert pool.get_cached_block(b"same") is one
        pool.evict_blocks([one.block_id])
        assert pool.get_cached_block(b"same") is three
        pool.cache_full_blocks([one], [b"same"])
        assert pool.get_cached_block(b"same") is three
        pool.evict_blocks([three.block_id])
        assert pool.get_cached_block(b"same") is one
        pool.evict_blocks([one.block_id])
        assert pool.get_cached_block(b"same") is None

    def test_eviction_takes_the_contents_not_the_block(self) -> None:
        pool = BlockPool(num_blocks=4)
        blocks = pool.get_new_blocks(2)
        pool.cache_full_blocks(blocks, [b"a", b"b"])
        pool.free_blocks([blocks[0]])
        pool.evict_blocks([1, 2, 3])
        assert [block.block_hash for block in blocks] == [None, None]
        assert (blocks[0].ref_cnt, blocks[1].ref_cnt) == (0, 1)
        assert ids(pool.free_block_queue) == [3, 1]

    def test_a_full_block_keeps_its_first_hash(self) -> None:
        pool = BlockPool(num_blocks=3)
        blocks = pool.get_new_blocks(1)
        pool.cache_full_blocks(blocks, [b"a"])
        pool.cache_full_blocks(blocks, [b"b"])
        assert blocks[0].block_hash == b"a"
        assert pool.get_cached_block(b"b") is None

    def test_without_caching_nothing_is_found(self) -> None:
        pool = BlockPool(num_blocks=3, enable_caching=False)
        blocks = pool.get_new_blocks(1)
        pool.cache_full_blocks(blocks, [b"a"])
        assert blocks[0].block_hash is None
        assert pool.get_cached_block(b"a") is None

    def test_a_reset_needs_an_idle_pool_and_keeps_the_order(self) -> None:
        pool = BlockPool(num_blocks=5)
        blocks = pool.get_new_blocks(2)
        pool.cache_full_blocks(blocks, [b"a", b"a"])
        before = state(pool)
        assert pool.reset_prefix_cache() is False
        assert state(pool) == before
        pool.free_blocks(blocks)
        assert pool.reset_prefix_cache() is True
        assert ids(pool.free_block_queue) == [3, 4, 1, 2]
        assert pool.get_cached_block(b"a") is None
        assert all(block.block_hash is None for block in pool.blocks)
        pool.get_new_blocks(4)
        assert pool.num_evictions == 0


class TestUsage:
    def test_the_null_block_does_not_count(self) -> None:
        pool = BlockPool(num_blocks=5)
        assert pool.get_usage() == 0.0
        pool.get_new_blocks(3)
        assert pool.get_usage() == 0.75
        pool.get_new_blocks(1)
        assert pool.get_usage() == 1.0

    def test_a_pool_of_only_the_null_block(self) -> None:
        pool = BlockPool(num_blocks=1)
        assert (pool.get_usage(), pool.get_num_free_blocks()) == (0.0, 0)
        with pytest.raises(OutOfBlocksError):
            pool.get_new_blocks(1)

    def test_nothing_can_be_asked_for(self) -> None:
        pool = BlockPool(num_blocks=2)
        assert pool.get_new_blocks(0) == []
        pool.free_blocks([])
        assert pool.get_num_free_blocks() == 1


class TestErrors:
    """Each has its own type and message, and leaves everything as it was."""

    @pytest.fixture(params=QUEUES)
    def pool(self, request: pytest.FixtureRequest) -> BlockPool:
        """Blocks 1 (cached) and 2 in use, 3 to 5 free, 3 of them cached."""
        pool = BlockPool(num_blocks=6, free_queue=request.param)
        blocks = pool.get_new_blocks(3)
        pool.cache_full_blocks([blocks[0], blocks[2]], [b"a", b"c"])
        pool.free_blocks([blocks[2]])
        return pool

    @pytest.mark.parametrize("num_blocks", [4, 1000])
    def test_more_than_there_is(self, pool: BlockPool, num_blocks: int) -> None:
        before = state(pool)
        with pytest.raises(OutOfBlocksError, match=f"requested {num_blocks} blocks but only 3 are"):
            pool.get_new_blocks(num_blocks)
        assert state(pool) == before

    def test_less_than_nothing(self, pool: BlockPool) -> None:
        before = state(pool)
        with pytest.raises(ValueError, match="num_blocks is -1"):
            pool.get_new_blocks(-1)
        assert state(pool) == before

    @pytest.mark.parametrize("wrong", [[3], [1, 3], [2, 1, 2], [1, 1], [2, 2], [1, 2, 4, 5]])
    def test_a_double_free(self, pool: BlockPool, wrong: list[int]) -> None:
        before = state(pool)
        with pytest.raises(DoubleFreeError, match=r"block \d is freed more often than it is held"):
            pool.free_blocks(pool.blocks[block_id] for block_id in wrong)
        assert state(pool) == before

    def test_a_foreign_block(self, pool: BlockPool) -> None:
        before = state(pool)
        (of_another_pool,) = BlockPool(num_blocks=3).get_new_blocks(1)
        for foreign in (KVCacheBlock(1, ref_cnt=1), KVCacheBlock(77, ref_cnt=1), of_another_pool):
            for first in pool.blocks[1:3]:
                for method in (pool.free_blocks, pool.touch):
                    with pytest.raises(ForeignBlockError, match=f"block {foreign.block_id} is not"):
                        method([first, foreign])
        assert state(pool) == before

    def test_the_null_block(self, pool: BlockPool) -> None:
        before = state(pool)
        for method in (pool.free_blocks, pool.touch):
            with pytest.raises(ForeignBlockError, match="block 0 is the null block"):
                method([pool.blocks[1], pool.null_block])
        assert state(pool) == before

    def test_eviction_of_a_block_that_does_not_exist(self, pool: BlockPool) -> None:
        before = state(pool)
        for block_id in (6, -1):
            with pytest.raises(ForeignBlockError, match=f"there is no block {block_id}"):
                pool.evict_blocks([1, block_id])
        assert state(pool) == before

    def test_hashes_that_do_not_match_the_blocks(self, pool: BlockPool) -> None:
        before = state(pool)
        with pytest.raises(ValueError, match="1 blocks and 2 hashes"):
            pool.cache_full_blocks([pool.blocks[2]], [b"x", b"y"])
        assert state(pool) == before

    def test_errors_are_value_errors(self) -> None:
        for error in (OutOfBlocksError, DoubleFreeError, ForeignBlockError):
            assert issubclass(error, ValueError)

    @pytest.mark.parametrize("num_blocks", [0, -3])
    def test_a_pool_without_a_null_block(self, num_blocks: int) -> None:
        with pytest.raises(ValueError, match=f"num_blocks is {num_blocks}"):
            BlockPool(num_blocks)

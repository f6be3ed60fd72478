"""The KV cache manager: hits, room, sharing, copy-on-write, and what it refuses."""

import random
from collections.abc import Sequence
from dataclasses import dataclass, field

import pytest

from course_lib.kv_cache import (
    FreeKVCacheBlockQueue,
    KVCacheManager,
    UnknownRequestError,
    hash_blocks,
)
from course_lib.kv_cache.block_pool import BlockPool, ForeignBlockError


@dataclass(eq=False)
class Request:
    """As much of a request as the manager looks at."""

    request_id: str
    all_token_ids: list[int] = field(repr=False)
    cache_salt: str | None = None
    num_computed_tokens: int = 0

    @property
    def num_tokens(self) -> int:
        return len(self.all_token_ids)


def run(manager: KVCacheManager, request: Request, num_tokens: int | None = None) -> list[int]:
    """Admit or continue a request as a scheduler does; return the ids of the blocks it took."""
    blocks, num_hits = [], 0
    if request.request_id not in manager.block_tables():
        blocks, num_hits = manager.get_computed_blocks(request)
    if num_tokens is None:
        num_tokens = request.num_tokens - request.num_computed_tokens - num_hits
    new_blocks = manager.allocate_slots(request, num_tokens, num_hits, blocks)
    assert new_blocks is not None
    request.num_computed_tokens += num_hits + num_tokens
    return [block.block_id for block in new_blocks]


def state(manager: KVCacheManager) -> object:
    pool = manager.block_pool
    return (
        [(block.ref_cnt, block.block_hash) for block in pool.blocks],
        [block.block_id for block in pool.free_block_queue],
        {name: [b.block_id for b in table] for name, table in manager.block_tables().items()},
        manager.num_copies,
        manager.stats(),
    )


def free_ids(manager: KVCacheManager) -> list[int]:
    return [block.block_id for block in manager.block_pool.free_block_queue]


class TestAllocation:
    @pytest.mark.parametrize(
        ("num_tokens", "num_blocks"), [(1, 1), (15, 1), (16, 1), (17, 2), (223, 14), (240, 15)]
    )
    def test_a_block_for_every_block_size_tokens(self, num_tokens: int, num_blocks: int) -> None:
        manager = KVCacheManager(num_blocks=20)
        request = Request("a", list(range(num_tokens)))
        assert run(manager, request) == list(range(1, num_blocks + 1))
        assert manager.get_block_ids("a") == list(range(1, num_blocks + 1))

    def test_a_decode_takes_a_block_only_when_the_last_one_is_full(self) -> None:
        manager = KVCacheManager(num_blocks=10, block_size=4)
        request = Request("a", [0, 1, 2])
        taken = [run(manager, request)]
        for token in range(3, 9):
            request.all_token_ids.append(token)
            taken.append(run(manager, request))
        assert taken == [[1], [], [2], [], [], [], [3]]

    def test_chunks_of_a_prompt_take_blocks_as_they_come(self) -> None:
        manager = KVCacheManager(num_blocks=10, block_size=4)
        request = Request("a", list(range(10)))
        assert [run(manager, request, n) for n in (5, 3, 2)] == [[1, 2], [], [3]]

    def test_the_last_block_is_freed_first(self) -> None:
        manager = KVCacheManager(num_blocks=8, block_size=4, enable_caching=False)
        request = Request("a", list(range(10)))
        run(manager, request)
        manager.free(request)
        assert free_ids(manager) == [3, 2, 1, 4, 5, 6, 7]

    def test_what_can_be_found_again_goes_to_the_back(self) -> None:
        manager = KVCacheManager(num_blocks=8, block_size=4)
        request = Request("a", list(range(10)))
        run(manager, request)
        manager.free(request)
        assert free_ids(manager) == [3, 4, 5, 6, 7, 2, 1]

    def test_usage(self) -> None:
        manager = KVCacheManager(num_blocks=11, block_size=4)
        run(manager, Request("a", list(range(9))))
        assert manager.usage == 0.3

    def test_drafts_take_room_but_are_not_cached(self) -> None:
        manager = KVCacheManager(num_blocks=10, block_size=4)
        request = Request("a", list(range(6)))
        new_blocks = manager.allocate_slots(request, num_new_tokens=9)
        assert new_blocks is not None
        assert [block.block_hash is not None for block in new_blocks] == [True, False, False]


class TestPrefixHits:
    def test_whole_blocks_but_never_the_last_token(self) -> None:
        manager = KVCacheManager(num_blocks=20, block_size=4)
        run(manager, Request("a", list(range(12))))
        for length, num_hits in ((12, 8), (13, 12), (11, 8), (4, 0), (5, 4), (3, 0)):
            blocks, num_tokens = manager.get_computed_blocks(Request("b", list(range(length))))
            assert num_tokens == num_hits
            assert [block.block_id for block in blocks] == [1, 2, 3][: num_hits // 4]

    def test_a_hit_is_shared_and_not_among_the_new_blocks(self) -> None:
        manager = KVCacheManager(num_blocks=20, block_size=4)
        run(manager, Request("a", list(range(10))))
        assert run(manager, Request("b", [*range(8), 77, 78])) == [4]
        assert manager.get_block_ids("b") == [1, 2, 4]
        assert [block.ref_cnt for block in manager.block_pool.blocks[:5]] == [0, 2, 2, 1, 1]

    def test_an_idle_prefix_is_claimed_from_the_free_queue(self) -> None:
        manager = KVCacheManager(num_blocks=6, block_size=4)
        first = Request("a", list(range(10)))
        run(manager, first)
        manager.free(first)
        assert free_ids(manager) == [3, 4, 5, 2, 1]
        assert run(manager, Request("b", list(range(10)))) == [3]
        assert manager.get_block_ids("b") == [1, 2, 3]
        assert free_ids(manager) == [4, 5]

    def test_a_claimed_block_needs_room_too(self) -> None:
        manager = KVCacheManager(num_blocks=6, block_size=4)
        first = Request("a", list(range(12)))
        run(manager, first)
        manager.free(first)
        run(manager, Request("other", [50, 51]))  # 4 free: two of them hold the prefix
        long = Request("b", [*range(8), *range(60, 72)])
        blocks, num_hits = manager.get_computed_blocks(long)
        assert num_hits == 8
        before = state(manager)
        # 2 of the 4 free blocks are the hit itself, so 12 more tokens do not fit.
        assert manager.allocate_slots(long, 12, num_hits, blocks) is None
        assert state(manager) == before
        assert manager.allocate_slots(long, 8, num_hits, blocks) is not None

    def test_equal_prompts_that_run_at_once_keep_their_own_blocks(self) -> None:
        manager = KVCacheManager(num_blocks=10, block_size=4)
        one, other = Request("a", list(range(6))), Request("b", list(range(6)))
        lookups = [manager.get_computed_blocks(each) for each in (one, other)]
        for each, (blocks, num_hits) in zip((one, other), lookups, strict=True):
            manager.allocate_slots(each, 6, num_hits, blocks)
        assert (manager.get_block_ids("a"), manager.get_block_ids("b")) == ([1, 2], [3, 4])
        blocks, _ = manager.get_computed_blocks(Request("c", list(range(6))))
        assert [block.block_id for block in blocks] == [1]  # the first of the duplicates

    def test_a_resumed_request_finds_its_own_blocks_but_not_its_last_output(self) -> None:
        manager = KVCacheManager(num_blocks=10, block_size=4)
        request = Request("a", list(range(6)))
        run(manager, request)
        for token in (6, 7):
            request.all_token_ids.append(token)
            run(manager, request)
        request.all_token_ids.append(8)
        manager.free(request)
        request.num_computed_tokens = 0
        assert manager.get_computed_blocks(request)[1] == 8
        request.all_token_ids.pop()  # 8 tokens: the last of them must be computed again
        assert manager.get_computed_blocks(request)[1] == 4

    def test_outputs_are_cached_like_prompts(self) -> None:
        manager = KVCacheManager(num_blocks=10, block_size=4)
        request = Request("a", [0, 1, 2])
        run(manager, request)
        for token in (3, 4):
            request.all_token_ids.append(token)
            run(manager, request)
        assert manager.get_computed_blocks(Request("b", [0, 1, 2, 3, 9]))[1] == 4

    def test_salts_keep_tenants_apart(self) -> None:
        manager = KVCacheManager(num_blocks=20, block_size=4)
        run(manager, Request("a", list(range(9)), cache_salt="red"))
        for salt, num_hits in (("red", 8), ("blue", 0), (None, 0)):
            lookup = manager.get_computed_blocks(Request("b", list(range(9)), cache_salt=salt))
            assert lookup[1] == num_hits

    def test_without_caching_there_are_none(self) -> None:
        manager = KVCacheManager(num_blocks=20, block_size=4, enable_caching=False)
        run(manager, Request("a", list(range(9))))
        assert manager.get_computed_blocks(Request("b", list(range(9)))) == ([], 0)

    def test_a_prefix_shorter_than_a_block_is_no_hit(self) -> None:
        manager = KVCacheManager(num_blocks=20, block_size=16)
        run(manager, Request("a", list(range(100))))
        assert manager.get_computed_blocks(Request("b", [*range(15), 99, 98]))[1] == 0

    def test_a_prompt_is_hashed_once_however_long_it_waits(self) -> None:
        hashed = []

        def counting(
            tokens: Sequence[int], size: int, salt: str | None, parent_hash: bytes | None
        ) -> list[bytes]:
            hashed.append(len(tokens))
            return hash_blocks(tokens, size, salt, parent_hash)

        manager = KVCacheManager(num_blocks=20, block_size=4, hash_blocks=counting)
        request = Request("a", list(range(9)))
        for _ in range(5):
            manager.get_computed_blocks(request)
        run(manager, request)
        assert hashed == [9]

    def test_another_request_of_that_name_is_hashed_anew(self) -> None:
        manager = KVCacheManager(num_blocks=20, block_size=4)
        run(manager, Request("a", list(range(9))))
        assert manager.get_computed_blocks(Request("b", list(range(9))))[1] == 8
        assert manager.get_computed_blocks(Request("b", list(range(50, 59))))[1] == 0
        assert manager.allocate_slots(Request("b", [7] * 4), 4) is not None
        assert manager.block_tables()["b"][0].block_hash == hash_blocks([7] * 4, 4)[0]


class TestNoRoom:
    def test_none_and_nothing_has_changed(self) -> None:
        manager = KVCacheManager(num_blocks=4, block_size=4)
        request = Request("a", list(range(12)))
        run(manager, request)
        request.all_token_ids.append(12)
        before = state(manager)
        assert manager.allocate_slots(request, 1) is None
        assert manager.allocate_slots(Request("b", [1]), 1) is None
        assert state(manager) == before
        with pytest.raises(UnknownRequestError):
            manager.get_block_ids("b")

    def test_a_request_larger_than_the_pool_never_fits(self) -> None:
        manager = KVCacheManager(num_blocks=4, block_size=4)
        assert manager.allocate_slots(Request("a", list(range(13))), 13) is None
        assert manager.allocate_slots(Request("b", list(range(12))), 12) is not None

    def test_the_watermark_stays_free_at_admission_only(self) -> None:
        manager = KVCacheManager(num_blocks=11, block_size=4, watermark=0.2)
        assert manager.watermark_blocks == 2
        first = Request("a", list(range(28)))
        run(manager, first)  # 7 of 10 blocks; alone, so the watermark does not count
        assert manager.allocate_slots(Request("b", [1] * 5), 5) is None  # would leave 1
        second = Request("c", [1] * 4)
        assert manager.allocate_slots(second, 4) is not None  # leaves 2
        second.num_computed_tokens = 4
        second.all_token_ids += [1] * 8
        assert manager.allocate_slots(second, 8) is not None  # it runs: may use them

    def test_nothing_runs_so_the_watermark_is_ignored(self) -> None:
        manager = KVCacheManager(num_blocks=11, block_size=4, watermark=0.5)
        assert manager.allocate_slots(Request("a", list(range(40))), 40) is not None

    def test_the_whole_sequence_can_be_made_a_condition(self) -> None:
        manager = KVCacheManager(num_blocks=6, block_size=4)
        request = Request("a", list(range(24)))
        assert manager.allocate_slots(request, 8, full_sequence_must_fit=True) is None
        assert manager.allocate_slots(request, 8) is not None
        shorter = KVCacheManager(num_blocks=6, block_size=4)
        fits = Request("b", list(range(20)))
        assert len(shorter.allocate_slots(fits, 8, full_sequence_must_fit=True) or []) == 2


class TestFreeSlot:
    @pytest.mark.parametrize("enable_caching", [True, False])
    @pytest.mark.parametrize("block_size", [1, 2, 3, 4])
    def test_then_the_next_token_changes_nothing(
        self, block_size: int, enable_caching: bool
    ) -> None:
        manager = KVCacheManager(20, block_size, enable_caching)
        request = Request("a", list(range(14)))
        run(manager, request, 1)
        for position in range(1, 14):
            before, table = state(manager), manager.get_block_ids("a")
            has_free_slot = manager.has_free_slot(request)
            assert state(manager) == before
            run(manager, request, 1)
            # It may be false where nothing changes: at the end of a block, when caching is off.
            if has_free_slot:
                assert (state(manager), manager.get_block_ids("a")) == (before, table)
            assert has_free_slot == (0 < position % block_size < block_size - 1)

    def test_a_fork_may_share_the_last_block(self) -> None:
        manager = KVCacheManager(20, 4)
        parent, child = Request("p", [1, 2, 3, 4, 5]), Request("c", [1, 2, 3, 4, 5])
        run(manager, parent)
        parent.all_token_ids.append(6)
        assert manager.has_free_slot(parent)
        manager.fork(parent, child)
        assert not manager.has_free_slot(parent)
        assert not manager.has_free_slot(child)


class TestFork:
    def parent_and_child(self, manager: KVCacheManager, num_tokens: int) -> tuple[Request, Request]:
        parent = Request("parent", list(range(num_tokens)))
        run(manager, parent)
        child = Request("child", list(range(num_tokens)))
        manager.fork(parent, child)
        return parent, child

    def test_a_fork_shares_every_block_and_takes_none(self) -> None:
        manager = KVCacheManager(num_blocks=10, block_size=4)
        _, child = self.parent_and_child(manager, 6)
        assert manager.get_block_ids("child") == manager.get_block_ids("parent") == [1, 2]
        assert manager.block_pool.get_num_free_blocks() == 7
        assert child.num_computed_tokens == 6
        assert manager.take_block_copies() == []

    @pytest.mark.parametrize("first", ["parent", "child"])
    def test_whoever_writes_first_gets_the_copy(self, first: str) -> None:
        manager = KVCacheManager(num_blocks=10, block_size=4)
        requests = dict(zip(("parent", "child"), self.parent_and_child(manager, 6), strict=True))
        for request in requests.values():
            request.all_token_ids.append(99)
        assert run(manager, requests.pop(first)) == [3]
        assert manager.take_block_copies() == [(2, 3)]
        assert manager.get_block_ids(first) == [1, 3]
        (other,) = requests.values()
        assert run(manager, other) == []  # the block is its own again
        assert manager.take_block_copies() == []
        assert manager.get_block_ids(other.request_id) == [1, 2]
        assert manager.stats().copies == 1

    def test_a_full_block_is_never_copied(self) -> None:
        manager = KVCacheManager(num_blocks=10, block_size=4)
        parent, child = self.parent_and_child(manager, 8)
        for request in (parent, child):
            request.all_token_ids.append(99)
            run(manager, request)
        assert manager.get_block_ids("parent") == [1, 2, 3]
        assert manager.get_block_ids("child") == [1, 2, 4]
        assert manager.take_block_copies() == []

    def test_the_copy_comes_first_among_the_new_blocks(self) -> None:
        manager = KVCacheManager(num_blocks=10, block_size=4)
        _, child = self.parent_and_child(manager, 6)
        child.all_token_ids += [7] * 5
        assert run(manager, child) == [3, 4]
        assert manager.get_block_ids("child") == [1, 3, 4]

    def test_three_samples_make_two_copies(self) -> None:
        manager = KVCacheManager(num_blocks=10, block_size=4)
        parent, child = self.parent_and_child(manager, 6)
        third = Request("third", list(range(6)))
        manager.fork(parent, third)
        for request in (parent, child, third):
            request.all_token_ids.append(9)
            run(manager, request)
        assert manager.take_block_copies() == [(2, 3), (2, 4)]
        assert manager.get_block_ids("third") == [1, 2]

    def test_a_copy_needs_room(self) -> None:
        manager = KVCacheManager(num_blocks=3, block_size=4)
        _, child = self.parent_and_child(manager, 6)
        child.all_token_ids.append(9)
        before = state(manager)
        assert manager.allocate_slots(child, 1) is None
        assert state(manager) == before
        assert manager.take_block_copies() == []

    def test_a_shared_block_survives_the_first_of_them(self) -> None:
        manager = KVCacheManager(num_blocks=10, block_size=4)
        parent, child = self.parent_and_child(manager, 6)
        manager.free(parent)
        assert manager.get_block_ids("child") == [1, 2]
        child.all_token_ids.append(9)
        assert run(manager, child) == []
        assert manager.take_block_copies() == []

    def test_a_fork_in_the_middle_of_a_prompt_shares_only_what_is_computed(self) -> None:
        manager = KVCacheManager(num_blocks=10, block_size=4)
        parent, child = Request("p", list(range(12))), Request("c", list(range(12)))
        run(manager, parent, 6)
        manager.fork(parent, child)
        assert run(manager, child) == [3, 4]
        assert run(manager, parent) == [5]
        assert (manager.get_block_ids("p"), manager.get_block_ids("c")) == ([1, 2, 5], [1, 3, 4])

    def test_shared_blocks_that_are_still_empty_are_replaced_and_not_copied(self) -> None:
        manager = KVCacheManager(num_blocks=10, block_size=4, enable_caching=False)
        parent, child = Request("p", list(range(12))), Request("c", list(range(12)))
        manager.allocate_slots(parent, 12)
        parent.num_computed_tokens = 2
        manager.fork(parent, child)
        assert run(manager, child) == [4, 5, 6]
        assert manager.take_block_copies() == [(1, 4)]
        assert (manager.get_block_ids("p"), manager.get_block_ids("c")) == ([1, 2, 3], [4, 5, 6])

    @pytest.mark.parametrize("parent_has_ended", [False, True])
    def test_a_child_that_knows_less_shares_less_and_caches_its_own(
        self, parent_has_ended: bool
    ) -> None:
        # The second block's hash says what the parent has there, also when the parent is gone.
        manager = KVCacheManager(num_blocks=10, block_size=4)
        parent, child = Request("p", list(range(8))), Request("c", list(range(6)))
        run(manager, parent)
        manager.fork(parent, child)
        assert child.num_computed_tokens == 6
        if parent_has_ended:
            manager.free(parent)
        child.all_token_ids += [8, 9]
        assert run(manager, child) == [3]
        assert manager.take_block_copies() == [(2, 3)]
        for last_tokens in ([6, 7], [8, 9]):
            request = Request("d", [*range(6), *last_tokens, 0])
            assert manager.get_computed_blocks(request)[1] == 8

    def test_a_child_may_know_more_than_is_computed(self) -> None:
        manager = KVCacheManager(num_blocks=10, block_size=4)
        parent, child = Request("p", list(range(6))), Request("c", [*range(6), 8, 9])
        run(manager, parent)
        manager.fork(parent, child)
        assert run(manager, child) == [3]
        assert manager.take_block_copies() == [(2, 3)]
        assert manager.get_computed_blocks(Request("d", [*range(6), 8, 9, 0]))[1] == 8

    @pytest.mark.parametrize(
        ("tokens", "salt"), [([0, 1, 2, 3, 4, 9], None), ([0, 1, 2, 3, 4, 5], "salt")]
    )
    def test_only_a_continuation_can_be_forked(self, tokens: list[int], salt: str | None) -> None:
        manager = KVCacheManager(num_blocks=10, block_size=4)
        parent = Request("p", list(range(6)))
        run(manager, parent)
        before = state(manager)
        with pytest.raises(ValueError, match="another token before position 6"):
            manager.fork(parent, Request("c", tokens, salt))
        assert state(manager) == before

    def test_a_child_must_be_new_and_a_parent_known(self) -> None:
        manager = KVCacheManager(num_blocks=10, block_size=4)
        parent, child = self.parent_and_child(manager, 6)
        before = state(manager)
        with pytest.raises(ValueError, match="'child' already holds 2 blocks"):
            manager.fork(parent, child)
        with pytest.raises(UnknownRequestError, match="request 'nobody' holds no blocks"):
            manager.fork(Request("nobody", [1]), Request("new", [1]))
        assert state(manager) == before


class TestFree:
    def test_blocks_of_a_step_that_did_not_take_place_are_not_left_in_the_cache(self) -> None:
        manager = KVCacheManager(num_blocks=10, block_size=4)
        request = Request("a", list(range(12)))
        run(manager, request, 5)
        run(manager, request, 7)  # planned, but the request is preempted in the same step
        manager.free(request, num_valid_tokens=5)
        assert manager.get_computed_blocks(Request("b", list(range(12))))[1] == 4
        assert free_ids(manager) == [3, 2, 4, 5, 6, 7, 8, 9, 1]

    def test_a_request_that_was_only_looked_up_leaves_nothing(self) -> None:
        manager = KVCacheManager(num_blocks=10, block_size=4)
        request = Request("a", list(range(12)))
        before = state(manager)
        manager.get_computed_blocks(request)
        manager.free(request)
        assert state(manager) == before
        with pytest.raises(UnknownRequestError):
            manager.free(request)

    def test_twice_is_once_too_often(self) -> None:
        manager = KVCacheManager(num_blocks=10, block_size=4)
        request = Request("a", list(range(12)))
        run(manager, request)
        manager.free(request)
        before = state(manager)
        for call in (manager.free, lambda r: manager.get_block_ids(r.request_id)):
            with pytest.raises(KeyError, match="request 'a' holds no blocks"):
                call(request)
        assert state(manager) == before
        assert not str(UnknownRequestError("plain text")).startswith("'")

    def test_a_reset_needs_an_idle_manager(self) -> None:
        manager = KVCacheManager(num_blocks=10, block_size=4)
        request = Request("a", list(range(12)))
        run(manager, request)
        assert manager.reset_prefix_cache() is False
        manager.free(request)
        assert manager.reset_prefix_cache() is True
        assert manager.get_computed_blocks(request)[1] == 0


class TestRefusals:
    @pytest.fixture
    def manager(self) -> KVCacheManager:
        manager = KVCacheManager(num_blocks=10, block_size=4)
        run(manager, Request("a", list(range(10))))
        return manager

    @pytest.mark.parametrize("num_new_tokens", [0, -1])
    def test_nothing_to_allocate_for(self, manager: KVCacheManager, num_new_tokens: int) -> None:
        before = state(manager)
        with pytest.raises(ValueError, match=f"num_new_tokens is {num_new_tokens}"):
            manager.allocate_slots(Request("b", [1]), num_new_tokens)
        assert state(manager) == before

    def test_computed_blocks_that_are_not_what_a_lookup_returns(
        self, manager: KVCacheManager
    ) -> None:
        request = Request("b", list(range(10)))
        blocks, num_hits = manager.get_computed_blocks(request)
        other = Request("c", list(range(50, 60)))
        manager.get_computed_blocks(other)
        elsewhere = KVCacheManager(num_blocks=10, block_size=4)
        run(elsewhere, Request("a", list(range(10))))
        foreign, _ = elsewhere.get_computed_blocks(Request("b", list(range(10))))
        before = state(manager)
        for wrong, arguments, message in (
            (request, (2, num_hits - 1, blocks), "2 computed blocks do not hold 7 tokens"),
            (request, (2, num_hits, None), "0 computed blocks do not hold 8 tokens"),
            (request, (2, num_hits, blocks[::-1]), "do not hold the tokens of request 'b'"),
            (other, (2, num_hits, blocks), "do not hold the tokens of request 'c'"),
            (request, (2, num_hits, foreign), "block 1 is not from this pool"),
        ):
            with pytest.raises(ValueError, match=message):
                manager.allocate_slots(wrong, *arguments)
            assert state(manager) == before
        assert issubclass(ForeignBlockError, ValueError)

    def test_computed_blocks_for_a_request_that_runs(self, manager: KVCacheManager) -> None:
        request = Request("b", list(range(10)))
        lookup = manager.get_computed_blocks(request)
        manager.allocate_slots(request, 2, lookup[1], lookup[0])
        before = state(manager)
        with pytest.raises(ValueError, match="request 'b' already holds blocks"):
            manager.allocate_slots(request, 2, lookup[1], lookup[0])
        assert state(manager) == before

    def test_a_token_that_cannot_be_hashed(self, manager: KVCacheManager) -> None:
        before = state(manager)
        for call in (
            manager.get_computed_blocks,
            lambda request: manager.allocate_slots(request, request.num_tokens),
        ):
            with pytest.raises(ValueError, match="token id -1 cannot be hashed"):
                call(Request("b", [1, 2, 3, -1, 5]))
            assert state(manager) == before

    @pytest.mark.parametrize(
        "arguments", [{"block_size": 0}, {"watermark": -0.1}, {"watermark": 1.5}]
    )
    def test_a_configuration_that_makes_no_sense(self, arguments: dict[str, float]) -> None:
        (name, value), *_ = arguments.items()
        with pytest.raises(ValueError, match=f"{name} is {value}"):
            KVCacheManager(num_blocks=10, **arguments)  # type: ignore[arg-type]


class TestStats:
    def test_they_count_lookups_at_admission(self) -> None:
        manager = KVCacheManager(num_blocks=6, block_size=4)
        first, second = Request("a", list(range(10))), Request("b", list(range(10)))
        for _ in range(3):
            manager.get_computed_blocks(first)  # waiting is not counted
        run(manager, first)
        manager.free(first)
        run(manager, second)
        stats = manager.stats()
        assert (stats.queried_tokens, stats.hit_tokens, stats.hit_rate) == (20, 8, 0.4)
        assert (stats.evictions, stats.num_free_blocks, stats.num_cached_blocks) == (0, 2, 0)
        manager.free(second)
        assert manager.stats().num_cached_blocks == 2
        run(manager, Request("c", list(range(50, 70))))
        assert manager.stats().evictions == 2
        assert manager.stats().usage == 1.0

    def test_before_anything_happens(self) -> None:
        assert KVCacheManager(num_blocks=6).stats().hit_rate == 0.0


def test_any_pool_can_be_put_in() -> None:
    def linked(num_blocks: int, enable_caching: bool) -> BlockPool:
        return BlockPool(num_blocks, enable_caching, free_queue=FreeKVCacheBlockQueue)

    histories = []
    for make in (BlockPool, linked):
        rng, history = random.Random(3), []
        manager = KVCacheManager(num_blocks=12, block_size=2, block_pool=make)
        running: list[Request] = []
        for step in range(400):
            request = Request(str(step), [rng.randint(0, 1) for _ in range(rng.randint(1, 9))])
            blocks, num_hits = manager.get_computed_blocks(request)
            new = manager.allocate_slots(request, request.num_tokens - num_hits, num_hits, blocks)
            if new is not None:
                request.num_computed_tokens = request.num_tokens
                running.append(request)
            elif running:
                manager.free(running.pop(rng.randrange(len(running))))
            history.append(state(manager))
        histories.append(history)
    assert histories[0] == histories[1]

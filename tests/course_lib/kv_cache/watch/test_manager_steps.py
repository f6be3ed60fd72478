"""Traffic at random notices what a wrong manager does to the memory of others."""

import pytest

from course_lib.kv_cache import (
    InvariantError,
    KVCacheBlock,
    KVCacheManager,
    PlainRequest,
    RequestBlocks,
    find_violations,
    hash_blocks,
    under_check,
)
from course_lib.kv_cache.watch.manager_steps import RandomTraffic

STEPS = 600


def run(manager: KVCacheManager, seed: int = 1) -> RandomTraffic:
    traffic = RandomTraffic(manager, seed)
    for _ in range(STEPS):
        traffic.step()
    return traffic


@pytest.mark.parametrize("enable_caching", [True, False])
def test_the_librarys_manager_serves_it_and_is_empty_at_the_end(enable_caching: bool) -> None:
    manager = KVCacheManager(24, 4, enable_caching)
    traffic = run(manager)
    assert traffic.num_copied_blocks > 0
    assert (traffic.num_hit_tokens > 0) == enable_caching
    traffic.end_all()
    assert traffic.running == []
    assert manager.block_pool.get_num_free_blocks() == 23
    assert find_violations(manager) == []


def test_the_same_seed_does_the_same() -> None:
    tables = []
    for _ in range(2):
        manager = KVCacheManager(24, 4)
        run(manager, seed=5)
        tables.append({name: manager.get_block_ids(name) for name in manager.block_tables()})
    assert tables[0] == tables[1]


class WritesIntoShared(KVCacheManager):
    """Never looks whether a block is shared."""

    def replace_shared(self, held, shared, new_blocks, num_computed_tokens):  # type: ignore[no-untyped-def]
        self.block_pool.free_blocks(new_blocks)


class ForgetsToCopy(KVCacheManager):
    """Replaces a shared block, and leaves the new one empty."""

    def take_block_copies(self) -> list[tuple[int, int]]:
        self.block_copies.clear()
        return []


class HandsDownAllHashes(KVCacheManager):
    """Gives a child the hashes of blocks that its computed tokens do not fill."""

    def fork(self, parent: PlainRequest, child: PlainRequest) -> None:
        super().fork(parent, child)
        hashes = self.request_blocks[parent.request_id].block_hashes
        self.request_blocks[child.request_id].block_hashes = list(hashes)


def test_hashes_of_what_a_child_has_not_computed_are_found_out() -> None:
    with (
        pytest.raises(InvariantError, match="has a hash of other tokens"),
        under_check(manager := HandsDownAllHashes(24, 4)),
    ):
        run(manager)


def test_who_writes_under_the_hash_of_another_is_found_out(monkeypatch: pytest.MonkeyPatch) -> None:
    def held_by_others(self: RequestBlocks, index: int) -> list[KVCacheBlock]:
        return [block for block in self.blocks[index:] if block.ref_cnt > 1]

    monkeypatch.setattr(RequestBlocks, "shared_from", held_by_others)
    with (
        pytest.raises(InvariantError, match="has a hash of other tokens"),
        under_check(manager := KVCacheManager(24, 4)),
    ):
        run(manager)


@pytest.mark.parametrize("make", [WritesIntoShared, ForgetsToCopy])
def test_a_manager_that_mixes_up_blocks_is_found_out(make: type[KVCacheManager]) -> None:
    with pytest.raises(InvariantError, match="does not hold token"):
        run(make(24, 4))


def test_hashes_that_are_not_chained_are_found_out() -> None:
    def not_chained(token_ids, block_size, cache_salt=None, parent_hash=None):  # type: ignore[no-untyped-def]
        ends = range(block_size, len(token_ids) + 1, block_size)
        blocks = [token_ids[end - block_size : end] for end in ends]
        return [hash_blocks(tokens, block_size, cache_salt)[0] for tokens in blocks]

    with pytest.raises(InvariantError, match="does not hold token"):
        run(KVCacheManager(24, 4, hash_blocks=not_chained))

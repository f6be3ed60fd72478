"""Prefixes: hashes that are chained, hits that are whole blocks, and what a hit rate means."""

import hashlib
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from course_lib.kv_cache import (
    RadixTree,
    hash_block,
    hash_blocks,
    longest_cached_prefix,
    root_hash,
)

# Two letters, so that prefixes are often shared.
prompts = st.lists(st.integers(0, 1), max_size=12)


class TestHashes:
    @given(first=prompts, second=prompts, size=st.integers(1, 4))
    def test_equal_hashes_mean_equal_prefixes(
        self, first: list[int], second: list[int], size: int
    ) -> None:
        pairs = zip(hash_blocks(first, size), hash_blocks(second, size), strict=False)
        for index, (one, other) in enumerate(pairs):
            end = (index + 1) * size
            assert (one == other) == (first[:end] == second[:end])

    def test_the_same_block_behind_another_prefix_has_another_hash(self) -> None:
        assert hash_blocks([1, 2, 9, 9], 2)[1] != hash_blocks([3, 4, 9, 9], 2)[1]

    @given(tokens=st.lists(st.integers(0, 2**32 - 1), max_size=20), size=st.integers(1, 5))
    def test_they_are_chained_block_by_block(self, tokens: list[int], size: int) -> None:
        parent, expected = root_hash("salt"), []
        for start in range(0, len(tokens) - size + 1, size):
            parent = hash_block(parent, tokens[start : start + size])
            expected.append(parent)
        assert hash_blocks(tokens, size, "salt") == expected

    @given(tokens=prompts, size=st.integers(1, 4), cut=st.integers(0, 12))
    def test_a_growing_request_is_hashed_piece_by_piece(
        self, tokens: list[int], size: int, cut: int
    ) -> None:
        hashes = hash_blocks(tokens[:cut], size, "s")
        parent_hash = hashes[-1] if hashes else None
        hashes += hash_blocks(tokens[len(hashes) * size :], size, "s", parent_hash)
        assert hashes == hash_blocks(tokens, size, "s")

    def test_the_salt_is_in_every_hash(self) -> None:
        salted = [hash_blocks(range(8), 2, salt) for salt in (None, "", "a", "b", "unsalted")]
        assert len({block_hash for hashes in salted for block_hash in hashes}) == 5 * 4

    def test_they_are_sha256_and_the_same_in_every_process(self) -> None:
        root = hashlib.sha256(b"unsalted").digest()
        tokens = (1).to_bytes(4, sys.byteorder) + (2).to_bytes(4, sys.byteorder)
        assert hash_blocks([1, 2], 2) == [hashlib.sha256(root + tokens).digest()]

    @pytest.mark.parametrize("wrong", [-1, 2**32, 1.5, "a", None])
    def test_a_token_that_is_none_is_named(self, wrong: object) -> None:
        with pytest.raises(ValueError, match=f"token id {wrong!r} cannot be hashed"):
            hash_blocks([1, 2, 3, wrong], 2)  # type: ignore[list-item]

    def test_a_block_has_a_size(self) -> None:
        with pytest.raises(ValueError, match="block_size is 0"):
            hash_blocks([1], 0)


class TestLongestCachedPrefix:
    @given(
        cached=st.sets(st.integers(0, 5)),
        num_blocks=st.integers(0, 6),
        num_more_tokens=st.integers(0, 3),
    )
    def test_a_run_of_whole_blocks_without_the_last_token(
        self, cached: set[int], num_blocks: int, num_more_tokens: int
    ) -> None:
        num_tokens = 4 * num_blocks + num_more_tokens
        hashes = [bytes([index]) for index in range(num_blocks)]
        blocks = {bytes([index]): index for index in cached}
        found = longest_cached_prefix(hashes, blocks, num_tokens, block_size=4)
        assert found == list(range(len(found)))
        assert set(found) <= cached
        assert 4 * len(found) < max(num_tokens, 1)
        # It is the longest: the next one is missing or would cover the last token.
        assert len(found) not in cached or 4 * (len(found) + 1) >= num_tokens

    @pytest.mark.parametrize(("num_tokens", "hits"), [(32, 1), (33, 2), (16, 0), (17, 1), (0, 0)])
    def test_the_last_token_is_always_computed(self, num_tokens: int, hits: int) -> None:
        hashes = hash_blocks(range(num_tokens), 16)
        every_block = dict.fromkeys(hashes, "cached")
        assert len(longest_cached_prefix(hashes, every_block, num_tokens, 16)) == hits


class TestRadixTree:
    @given(requests=st.lists(prompts, max_size=8), size=st.integers(1, 3))
    def test_it_finds_what_the_hashes_find(self, requests: list[list[int]], size: int) -> None:
        tree, by_hash, next_id = RadixTree(size), {}, 0
        for tokens in requests:
            hashes = hash_blocks(tokens, size)
            expected = longest_cached_prefix(hashes, by_hash, len(tokens) + 1, size)
            assert tree.longest_prefix(tokens) == expected
            block_ids = expected + [next_id + i for i in range(len(hashes) - len(expected))]
            next_id += len(hashes)
            assert tree.insert(tokens, block_ids) == len(hashes) - len(expected)
            by_hash.update(zip(hashes, block_ids, strict=True))
            assert tree.num_blocks == len(by_hash)
        for tokens in requests:
            assert len(tree.longest_prefix(tokens)) == len(tokens) // size

    @given(requests=st.lists(prompts, max_size=8), chunk=st.integers(1, 5))
    def test_eviction_goes_from_ends_and_leaves_prefixes_whole(
        self, requests: list[list[int]], chunk: int
    ) -> None:
        tree, kept = RadixTree(), {}
        for tokens in requests:
            known = tree.longest_prefix(tokens)
            ids = known + [len(kept) + i for i in range(len(tokens) - len(known))]
            tree.insert(tokens, ids)
            kept |= {block_id: tuple(tokens[: i + 1]) for i, block_id in enumerate(ids)}
        while kept:
            evicted = tree.evict(chunk)
            assert len(evicted) == min(chunk, len(kept))
            for block_id in evicted:
                lost = kept.pop(block_id)
                assert not any(other[: len(lost)] == lost for other in kept.values())
            assert tree.num_blocks == len(kept)
            for tokens in requests:
                found = tree.longest_prefix(tokens)
                assert [kept[block_id] for block_id in found] == [
                    tuple(tokens[: i + 1]) for i in range(len(found))
                ]
        assert tree.evict(1) == []

    def test_the_least_recently_used_prefix_goes_first(self) -> None:
        tree = RadixTree()
        tree.insert([1, 2], [10, 11])
        tree.insert([3, 4], [20, 21])
        tree.longest_prefix([1, 2])
        assert tree.evict(3) == [21, 20, 11]
        assert tree.longest_prefix([1, 2]) == [10]

    @given(
        requests=st.lists(prompts, min_size=1, max_size=8),
        held=st.sets(st.integers(0, 7)),
        num_evicted=st.integers(0, 20),
    )
    def test_what_somebody_holds_is_not_evicted(
        self, requests: list[list[int]], held: set[int], num_evicted: int
    ) -> None:
        tree, next_id = RadixTree(), 0
        for tokens in requests:
            known = tree.longest_prefix(tokens)
            tree.insert(tokens, [*known, *range(next_id, next_id + len(tokens))])
            next_id += len(tokens)
        holders = [requests[index] for index in held if index < len(requests)]
        kept = [tree.hold(tokens) for tokens in holders]
        all_kept = {block_id for ids in kept for block_id in ids}
        num_free = tree.num_blocks - len(all_kept)
        evicted = tree.evict(num_evicted)
        assert len(evicted) == min(num_evicted, num_free)
        assert all_kept.isdisjoint(evicted)
        for tokens, ids in zip(holders, kept, strict=True):
            assert len(ids) == len(tokens)
            assert tree.longest_prefix(tokens) == ids
            tree.release(tokens)
        assert len(tree.evict(1000)) == num_free + len(all_kept) - len(evicted)

    def test_a_release_is_no_use_and_a_lookup_is(self) -> None:
        tree = RadixTree()
        tree.insert([1], [10])
        tree.insert([2], [20])
        tree.hold([1])
        tree.hold([2])
        tree.release([2])
        tree.release([1])  # freed last, but looked up first
        assert tree.evict(1) == [10]

    def test_nothing_is_released_that_nobody_holds(self) -> None:
        tree = RadixTree()
        tree.insert([1, 2], [10, 11])
        tree.hold([1])
        for wrong in ([1, 2], [1, 3], [3]):
            with pytest.raises(ValueError, match="nobody holds all"):
                tree.release(wrong)
        assert tree.evict(5) == [11]
        tree.release([1])
        with pytest.raises(ValueError, match="nobody holds all 1 blocks"):
            tree.release([1])

    def test_only_whole_blocks_are_kept(self) -> None:
        tree = RadixTree(block_size=2)
        assert tree.insert([1, 2, 3], [7]) == 1
        assert tree.longest_prefix([1, 2, 3, 4]) == [7]
        assert tree.longest_prefix([1, 3]) == []

    def test_misuse_is_named(self) -> None:
        with pytest.raises(ValueError, match="block_size is 0"):
            RadixTree(0)
        tree = RadixTree(2)
        with pytest.raises(ValueError, match="2 full blocks of tokens but 1 block ids"):
            tree.insert([1, 2, 3, 4], [5])
        assert tree.num_blocks == 0

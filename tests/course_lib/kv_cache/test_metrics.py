"""What is counted of a KV cache: by hand, and by a manager at work."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from course_lib.kv_cache import CacheMetrics, KVCacheManager, PlainRequest


class Request(PlainRequest):
    """A request that knows how often it was preempted, as a scheduler's does."""

    num_preemptions = 0


def run(manager: KVCacheManager, request: Request) -> None:
    blocks, num_hits = manager.get_computed_blocks(request)
    num_new = request.num_tokens - num_hits
    assert manager.allocate_slots(request, num_new, num_hits, blocks) is not None
    request.num_computed_tokens = request.num_tokens


class TestByHand:
    def test_first_lookups_and_those_after_a_preemption_are_kept_apart(self) -> None:
        metrics = CacheMetrics(num_blocks=2)
        metrics.record_lookup(70, 16)
        metrics.record_lookup(30, 0)
        metrics.record_lookup(50, 48, is_preempted=True)
        assert (metrics.queried_tokens, metrics.hit_tokens) == (100, 16)
        assert (metrics.preempted_queried_tokens, metrics.preempted_hit_tokens) == (50, 48)
        assert metrics.hit_rate == 0.16

    @given(used=st.lists(st.integers(0, 9)))
    def test_usage_is_of_now_and_high_water_of_ever(self, used: list[int]) -> None:
        metrics = CacheMetrics(num_blocks=10)
        for number in used:
            metrics.record_usage(number)
        assert metrics.usage == ([0, *used][-1]) / 9
        assert metrics.high_water == max(used, default=0)

    def test_before_anything_happens(self) -> None:
        metrics = CacheMetrics(num_blocks=1)
        assert (metrics.usage, metrics.hit_rate, metrics.high_water) == (0.0, 0.0, 0)

    @pytest.mark.parametrize("counts", [(0, 0), (5, 6), (5, -1), (-1, -2)])
    def test_no_more_hits_than_tokens(self, counts: tuple[int, int]) -> None:
        metrics = CacheMetrics(num_blocks=4)
        with pytest.raises(ValueError, match=f"{counts[1]} of {counts[0]} tokens were found"):
            metrics.record_lookup(*counts)
        assert (metrics.queried_tokens, metrics.hit_tokens) == (0, 0)

    @pytest.mark.parametrize("counts", [(4, 0), (-1, 0), (1, -1)])
    def test_no_more_blocks_in_use_than_there_are(self, counts: tuple[int, int]) -> None:
        metrics = CacheMetrics(num_blocks=4)
        with pytest.raises(ValueError, match="there are 3 blocks to use"):
            metrics.record_usage(*counts)
        assert (metrics.num_used_blocks, metrics.high_water, metrics.evictions) == (0, 0, 0)

    def test_a_cache_has_a_null_block(self) -> None:
        with pytest.raises(ValueError, match="num_blocks is 0"):
            CacheMetrics(0)


class TestInAManager:
    def test_a_preempted_request_that_finds_its_own_blocks_is_no_saving(self) -> None:
        manager = KVCacheManager(num_blocks=10, block_size=4)
        request = Request("a", list(range(10)))
        run(manager, request)
        manager.free(request)
        request.num_computed_tokens, request.num_preemptions = 0, 1
        run(manager, request)
        stats = manager.stats()
        assert (stats.queried_tokens, stats.hit_tokens, stats.hit_rate) == (10, 0, 0.0)
        assert (stats.preempted_queried_tokens, stats.preempted_hit_tokens) == (10, 8)

    def test_what_is_invalid_was_not_evicted(self) -> None:
        manager = KVCacheManager(num_blocks=4, block_size=4)
        request = Request("a", list(range(12)))
        run(manager, request)
        manager.free(request, num_valid_tokens=5)  # blocks 2 and 3 were never computed
        assert manager.stats().evictions == 0
        run(manager, Request("b", list(range(50, 62))))
        assert manager.stats().evictions == 1  # block 1, for want of room

    def test_the_high_water_mark_stays(self) -> None:
        manager = KVCacheManager(num_blocks=8, block_size=4)
        first, second = Request("a", list(range(10))), Request("b", list(range(50, 58)))
        run(manager, first)
        run(manager, second)
        manager.free(first)
        manager.free(second)
        run(manager, Request("c", [1]))
        stats = manager.stats()
        assert (stats.high_water, stats.usage) == (5, 1 / 7)

    @given(
        steps=st.lists(st.tuples(st.integers(0, 4), st.integers(1, 30), st.booleans()), max_size=20)
    )
    def test_the_high_water_mark_misses_no_peak(self, steps: list[tuple[int, int, bool]]) -> None:
        manager = KVCacheManager(num_blocks=20, block_size=4)
        running: dict[int, Request] = {}
        highest = 0
        for number, num_tokens, is_asked in steps:
            if number in running:
                manager.free(running.pop(number))
            else:
                request = Request(str(number), [number] * num_tokens)
                blocks, num_hits = manager.get_computed_blocks(request)
                num_new = num_tokens - num_hits
                if manager.allocate_slots(request, num_new, num_hits, blocks) is not None:
                    running[number] = request
            pool = manager.block_pool
            num_used = pool.num_blocks - 1 - pool.get_num_free_blocks()
            highest = max(highest, num_used)
            if is_asked:
                stats = manager.stats()
                assert (stats.high_water, stats.usage) == (highest, num_used / 19)
                assert stats.evictions == pool.num_evictions
        assert manager.stats().high_water == highest

    def test_metrics_of_ones_own_can_be_put_in(self) -> None:
        class Own(CacheMetrics):
            pass

        manager = KVCacheManager(num_blocks=8, block_size=4, metrics=Own)
        run(manager, Request("a", [1, 2]))
        assert type(manager.metrics) is Own
        assert (manager.metrics.num_blocks, manager.metrics.queried_tokens) == (8, 2)

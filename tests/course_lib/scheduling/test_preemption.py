"""Victims, what their preemption frees, and what it costs to bring them back."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from course_lib.kv_cache import BlockPool, KVCacheManager
from course_lib.scheduling import (
    Request,
    Scheduler,
    SchedulerConfig,
    SwapSpace,
    break_even_tokens,
    frees_most_blocks,
    last_in,
    least_computed,
    least_important,
    most_tokens,
    num_blocks_freed,
    recompute_seconds,
    recompute_window,
    swap_seconds,
)


def running(*numbers: tuple[int, int]) -> list[Request]:
    """Return requests with so many computed and so many generated tokens."""
    requests = []
    for index, (num_computed, num_generated) in enumerate(numbers):
        request = Request(str(index), [1], 99)
        request.num_computed_tokens = num_computed
        for token in range(num_generated):
            request.append_output(token)
        requests.append(request)
    return requests


class TestVictims:
    def test_last_in(self) -> None:
        assert last_in(running((5, 0), (9, 0), (1, 0))) == 2

    def test_most_tokens_and_of_equals_the_last(self) -> None:
        assert most_tokens(running((5, 0), (9, 0), (9, 0), (1, 0))) == 2

    def test_least_computed_and_of_equals_the_last(self) -> None:
        assert least_computed(running((5, 3), (2, 9), (2, 1), (7, 2))) == 2

    def test_least_important_is_the_largest_number_then_the_latest_then_the_first(self) -> None:
        keys = [(0, 9.0), (2, 1.0), (2, 5.0), (2, 5.0), (1, 7.0)]
        requests = [
            Request(str(index), [1], 1, priority=priority, arrival_time=time)
            for index, (priority, time) in enumerate(keys)
        ]
        assert least_important(requests) == 2


class TestBlocksFreed:
    def test_shared_blocks_stay_in_use(self) -> None:
        pool = BlockPool(num_blocks=6)
        table = pool.get_new_blocks(3)
        assert num_blocks_freed(table) == 3
        pool.touch(table[:1])
        assert num_blocks_freed(table) == 2
        free = pool.get_num_free_blocks()
        pool.free_blocks(table)
        assert pool.get_num_free_blocks() - free == 2

    def test_a_victim_that_shares_everything_frees_nothing(self) -> None:
        manager = KVCacheManager(num_blocks=20, block_size=4)
        scheduler = Scheduler(SchedulerConfig(), manager)
        same = range(8)
        for name, prompt in (
            ("a", [*same, 9]),
            ("b", [*same, 9]),
            ("c", [100, 101, 102, 103, 104]),
        ):
            scheduler.add_request(Request(name, prompt, 50))
        scheduler.schedule()
        # a and b hold 3 blocks each, of which 2 are the same; c has 2 to itself.
        assert [len(manager.get_block_ids(name)) for name in "abc"] == [3, 3, 2]
        freed = [num_blocks_freed(manager.block_tables()[name]) for name in "abc"]
        assert freed == [1, 1, 2]
        assert frees_most_blocks(manager)(scheduler.running) == 2
        assert most_tokens(scheduler.running) == 1


class TestSwapOrRecompute:
    def test_swapping_pays_the_bus_both_ways(self) -> None:
        # 1,000 tokens of Llama-3.1-8B are 131 MB; 25 GB/s there, and back.
        assert swap_seconds(1000, 131_072, 25e9) == pytest.approx(2 * 131.072e6 / 25e9)

    def test_recomputing_costs_two_flops_per_parameter_and_token(self) -> None:
        assert recompute_seconds(1000, 8_000_000_000, 400e12) == pytest.approx(0.04)

    def test_but_reads_the_weights_at_least_once(self) -> None:
        weight_seconds = 16e9 / 2e12
        few, many = (
            recompute_seconds(n, 8_000_000_000, 400e12, weight_seconds=weight_seconds)
            for n in (1, 10_000)
        )
        assert few == weight_seconds
        assert many == pytest.approx(0.4)

    @given(
        swap=st.floats(1e-7, 1e-3),
        recompute=st.floats(1e-7, 1e-3),
        floor=st.floats(0, 1.0),
        num_tokens=st.integers(1, 10**6),
    )
    def test_up_to_the_break_even_length_swapping_is_no_slower(
        self, swap: float, recompute: float, floor: float, num_tokens: int
    ) -> None:
        break_even = break_even_tokens(swap, recompute, weight_seconds=floor)
        swap_total, recompute_total = num_tokens * swap, max(num_tokens * recompute, floor)
        if num_tokens < break_even * (1 - 1e-9):
            assert swap_total <= recompute_total * (1 + 1e-9)
        if num_tokens > break_even * (1 + 1e-9):
            assert swap_total >= recompute_total * (1 - 1e-9)

    @given(
        swap=st.floats(1e-6, 1e-3),
        recompute=st.floats(1e-6, 1e-3),
        attention=st.floats(1e-10, 1e-7),
        floor=st.floats(0, 0.1),
        num_tokens=st.integers(1, 10**6),
    )
    def test_between_two_lengths_recomputing_is_faster(
        self, swap: float, recompute: float, attention: float, floor: float, num_tokens: int
    ) -> None:
        window = recompute_window(
            swap, recompute, attention_seconds=attention, weight_seconds=floor
        )
        low, high = window or (math.inf, math.inf)
        swap_total = num_tokens * swap
        recompute_total = max(num_tokens * recompute + attention * num_tokens**2, floor)
        if low * (1 + 1e-9) < num_tokens < high * (1 - 1e-9):
            assert recompute_total <= swap_total * (1 + 1e-9)
        if not low * (1 - 1e-9) < num_tokens < high * (1 + 1e-9):
            assert recompute_total >= swap_total * (1 - 1e-9)

    def test_attention_takes_time(self) -> None:
        with pytest.raises(ValueError, match=r"attention_seconds is 0\.0; it must be above 0"):
            recompute_window(2.0, 1.0, attention_seconds=0.0)

    def test_with_grouped_query_attention_swapping_always_wins(self) -> None:
        # Llama-3.1-8B on an RTX 4090: 128 KiB per token over PCIe, 16 GFLOP per token.
        swap = swap_seconds(1, 131_072, 25e9)
        recompute = recompute_seconds(1, 8_030_000_000, 0.75 * 165.2e12)
        assert break_even_tokens(swap, recompute) == math.inf


class TestSwapSpace:
    def test_blocks_are_handed_out_from_the_lowest_and_again(self) -> None:
        space = SwapSpace(4)
        assert space.reserve("a", 3) == [0, 1, 2]
        assert space.reserve("b", 2) is None
        assert space.reserve("b", 1) == [3]
        assert space.release("a") == [0, 1, 2]
        assert space.reserve("c", 2) == [0, 1]

    def test_the_lowest_come_first_also_after_a_release(self) -> None:
        space = SwapSpace(3)
        assert (space.reserve("a", 1), space.reserve("b", 1)) == ([0], [1])
        assert (space.release("b"), space.release("a")) == ([1], [0])
        assert space.reserve("c", 3) == [0, 1, 2]

    @given(st.lists(st.tuples(st.sampled_from("abcd"), st.integers(0, 5)), max_size=40))
    def test_all_or_none_and_always_the_lowest(self, calls: list[tuple[str, int]]) -> None:
        space, held = SwapSpace(8), dict[str, list[int]]()
        for name, num_blocks in calls:
            if name in held:
                assert space.release(name) == held.pop(name)
                continue
            taken = {block for blocks in held.values() for block in blocks}
            free = [block for block in range(8) if block not in taken]
            expected = free[:num_blocks] if num_blocks <= len(free) else None
            assert space.reserve(name, num_blocks) == expected
            if expected is not None:
                held[name] = expected

    def test_a_request_is_swapped_out_once(self) -> None:
        space = SwapSpace(4)
        space.reserve("a", 1)
        with pytest.raises(ValueError, match="'a' is swapped out already"):
            space.reserve("a", 1)
        with pytest.raises(KeyError):
            space.release("b")

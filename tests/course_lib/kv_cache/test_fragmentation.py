"""What allocation wastes: exact expectations, measured workloads, and the replay of a trace."""

import math
import random
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from course_lib.kv_cache import kv_bytes_per_token
from course_lib.kv_cache.allocators import (
    Allocator,
    BestFitAllocator,
    BuddyAllocator,
    FirstFitAllocator,
    WorstFitAllocator,
)
from course_lib.kv_cache.fragmentation import (
    InternalWaste,
    Lifetime,
    best_block_size,
    expected_internal_waste,
    external_fragmentation,
    geometric_internal_waste,
    internal_fragmentation,
    lifetime_internal_waste,
    lifetimes_from_arrivals,
    lifetimes_in_batch,
    overhead_bytes,
    power_of_two_waste,
    replay,
)
from course_lib.simulation import Workload, load_azure, synthetic_azure
from course_lib.simulation.workload import AzureTrace
from course_lib.specs import MODELS

NO_LIMIT = 2**40
"""Slots of a memory that is never full. (It exists on paper only.)"""

ALLOCATORS: list[Callable[[int], Allocator]] = [
    FirstFitAllocator,
    BestFitAllocator,
    WorstFitAllocator,
    BuddyAllocator,
]


@dataclass(frozen=True)
class Lengths:
    """The least that a calculation wants to know of a request."""

    prompt_tokens: int
    output_tokens: int
    arrival_time: float = 0.0


def _measured(which: AzureTrace) -> Workload:
    """Return the real trace; figures that were measured on it hold for no other."""
    workload = load_azure(which)
    if workload.is_synthetic:
        pytest.skip("needs Azure's traces; set COURSE_TRACES to a folder that has them")
    return workload


class TestExpectedInternalWaste:
    @given(
        lengths=st.dictionaries(st.integers(1, 200), st.integers(0, 9), min_size=1),
        block_size=st.integers(1, 70),
    )
    def test_agrees_with_giving_out_blocks_one_by_one(
        self, lengths: dict[int, int], block_size: int
    ) -> None:
        requests = list(Counter(lengths).elements())
        if not requests:
            return
        allocated = 0
        for length in requests:
            while length > 0:
                allocated += block_size
                length -= block_size
        waste = expected_internal_waste(lengths, block_size)
        assert waste.stored == pytest.approx(sum(requests) / len(requests))
        assert waste.allocated == pytest.approx(allocated / len(requests))
        # The same lengths as a sequence, and as probabilities.
        assert expected_internal_waste(requests, block_size) == waste
        probabilities = {length: count / len(requests) for length, count in lengths.items()}
        scaled = expected_internal_waste(probabilities, block_size)
        assert scaled.allocated == pytest.approx(waste.allocated)

    @given(block_size=st.integers(1, 64), num_blocks=st.integers(1, 20))
    def test_equally_likely_remainders_waste_half_a_block_less_half_a_token(
        self, block_size: int, num_blocks: int
    ) -> None:
        waste = expected_internal_waste(range(1, num_blocks * block_size + 1), block_size)
        assert waste.tokens == pytest.approx((block_size - 1) / 2)

    def test_uniform_lengths_up_to_100(self) -> None:
        assert round(expected_internal_waste(range(1, 101), 16).tokens, 2) == 7.74

    def test_blocks_of_one_slot_waste_nothing(self) -> None:
        assert expected_internal_waste([3, 4, 99], block_size=1).tokens == 0

    def test_arrays_of_whole_numbers_will_do(self) -> None:
        assert expected_internal_waste(np.array([5, 20]), 16) == InternalWaste(12.5, 24.0)
        assert power_of_two_waste(np.array([5, 20])) == InternalWaste(12.5, 20.0)

    def test_misuse_is_named(self) -> None:
        with pytest.raises(ValueError, match="block_size is 0"):
            expected_internal_waste([1], 0)
        with pytest.raises(ValueError, match="a length is 0"):
            expected_internal_waste([3, 0], 16)
        for weight in (-0.5, math.inf, math.nan):
            with pytest.raises(ValueError, match=f"the weight of length 3 is {weight}"):
                expected_internal_waste({3: weight}, 16)
        for nothing in ([], {}, {3: 0.0}):
            with pytest.raises(ValueError, match="at least one length with a weight above 0"):
                expected_internal_waste(nothing, 16)
        with pytest.raises(TypeError):
            expected_internal_waste([2.5], 16)  # type: ignore[list-item]


class TestGeometricLengths:
    @pytest.mark.parametrize(
        ("mean", "tokens", "percent"), [(50, 7.9286, 13.69), (300, 7.5709, 2.46)]
    )
    def test_the_closed_form(self, mean: int, tokens: float, percent: float) -> None:
        waste = geometric_internal_waste(mean, block_size=16)
        assert round(waste.tokens, 4) == tokens
        assert round(100 * waste.share, 2) == percent

    @pytest.mark.parametrize("mean", [1, 1.5, 7, 50])
    @pytest.mark.parametrize("block_size", [1, 16, 100])
    def test_the_closed_form_is_the_sum_over_the_distribution(
        self, mean: float, block_size: int
    ) -> None:
        stop = 1 / mean
        # Beyond 3,000 tokens there is less than the last digit of the sum.
        distribution = {length: stop * (1 - stop) ** (length - 1) for length in range(1, 3000)}
        summed = expected_internal_waste(distribution, block_size)
        closed = geometric_internal_waste(mean, block_size)
        assert closed.stored == pytest.approx(summed.stored)
        assert closed.allocated == pytest.approx(summed.allocated)

    @pytest.mark.parametrize("mean", [0.99, 0, -3, math.inf, math.nan])
    def test_a_mean_length_is_finite_and_at_least_one(self, mean: float) -> None:
        with pytest.raises(ValueError, match=f"mean_length is {mean}"):
            geometric_internal_waste(mean, 16)


class TestPowerOfTwoWaste:
    @given(lengths=st.lists(st.integers(1, 5000), min_size=1, max_size=20))
    def test_it_is_what_a_buddy_allocator_rounds_up(self, lengths: list[int]) -> None:
        allocator = BuddyAllocator(NO_LIMIT)
        allocated = 0
        for length in lengths:
            offset = allocator.allocate(length)
            assert offset is not None
            allocated += allocator.block_size(offset)
        assert power_of_two_waste(lengths).allocated == pytest.approx(allocated / len(lengths))

    def test_log_uniform_lengths(self) -> None:
        theory = 1 - 1 / (2 * math.log(2))
        assert round(100 * theory, 2) == 27.87
        share = power_of_two_waste({n: 1 / n for n in range(2**14 + 1, 2**16 + 1)}).share
        assert share == pytest.approx(theory, abs=2e-5)

    @pytest.mark.parametrize(("which", "percent"), [("conversation", 34.6), ("code", 27.7)])
    def test_the_azure_traces(self, which: AzureTrace, percent: float) -> None:
        lengths = [r.prompt_tokens + r.output_tokens for r in _measured(which)]
        assert round(100 * power_of_two_waste(lengths).share, 1) == percent


class TestLifetimeInternalWaste:
    @given(
        requests=st.lists(
            st.builds(Lengths, st.integers(1, 60), st.integers(1, 60)), min_size=1, max_size=8
        ),
        block_size=st.integers(1, 40),
    )
    def test_agrees_with_looking_at_every_iteration(
        self, requests: list[Lengths], block_size: int
    ) -> None:
        held = [
            request.prompt_tokens + generated
            for request in requests
            for generated in range(1, request.output_tokens + 1)
        ]
        waste = lifetime_internal_waste(requests, block_size)
        assert waste.stored == pytest.approx(sum(held) / len(held))
        blocks = sum(math.ceil(tokens / block_size) for tokens in held)
        assert waste.allocated == pytest.approx(blocks * block_size / len(held))

    @pytest.mark.parametrize(("block_size", "percent"), [(16, 0.61), (64, 2.50), (256, 9.22)])
    def test_the_azure_conversation_trace(self, block_size: int, percent: float) -> None:
        share = lifetime_internal_waste(_measured("conversation"), block_size).share
        assert round(100 * share, 2) == percent

    def test_long_prompts_waste_little(self) -> None:
        # The order holds for any workload like this one.
        shares = [lifetime_internal_waste(synthetic_azure(), b).share for b in (1, 16, 64, 256)]
        assert shares == sorted(shares)
        assert shares[0] == 0
        assert shares[1] < 0.01

    def test_misuse_is_named(self) -> None:
        with pytest.raises(ValueError, match="block_size is 0"):
            lifetime_internal_waste([Lengths(1, 1)], 0)
        with pytest.raises(ValueError, match="there are no requests"):
            lifetime_internal_waste([], 16)
        with pytest.raises(ValueError, match="a request of 0 prompt and 3 output tokens"):
            lifetime_internal_waste([Lengths(0, 3)], 16)


class TestBlockSize:
    def test_a_table_never_explains_blocks_of_16(self) -> None:
        # The mean length of Azure's conversations, 8 bytes per entry, 128 KiB of KV per token.
        token_bytes = kv_bytes_per_token(MODELS["llama-3.1-8b"])
        assert token_bytes == 128 * 1024
        best = best_block_size(mean_length=1366, entry_bytes=8, token_bytes=token_bytes)
        assert best == pytest.approx(math.sqrt(2 * 8 * 1366 / 131_072))
        assert best < 1
        # Even at the length that is too long for most models, it is one slot.
        assert best_block_size(8192, 8, token_bytes) == 1

    @pytest.mark.parametrize(("entry_bytes", "token_bytes"), [(64, 1), (8, 1), (4096, 512)])
    def test_it_is_near_the_least_of_the_exact_overhead(
        self, entry_bytes: int, token_bytes: int
    ) -> None:
        lengths = range(1, 4001)
        exact = {
            block_size: overhead_bytes(lengths, block_size, entry_bytes, token_bytes)
            for block_size in range(1, 2000, 7)
        }
        best = best_block_size(2000.5, entry_bytes, token_bytes)
        nearest = min(exact, key=lambda block_size: abs(block_size - best))
        assert exact[nearest] == pytest.approx(min(exact.values()), rel=0.02)

    def test_the_overhead_is_waste_and_entries(self) -> None:
        # 1 block with 15 empty slots, and 2 blocks with 15.
        assert overhead_bytes([1, 17], 16, entry_bytes=8, token_bytes=100) == 1500 + 8 * 1.5

    @pytest.mark.parametrize(
        "arguments", [(0, 8, 100), (50, -1, 100), (50, 8, 0), (math.nan, 8, 1)]
    )
    def test_misuse_is_named(self, arguments: tuple[float, float, float]) -> None:
        with pytest.raises(ValueError, match="each must be finite and above 0"):
            best_block_size(*arguments)


class TestFragmentationOfAnAllocator:
    def test_a_buddy_by_hand(self) -> None:
        allocator = BuddyAllocator(32)
        requested = {allocator.allocate(size): size for size in (5, 3, 9)}  # gets 8, 4 and 16
        assert None not in requested
        assert internal_fragmentation(allocator, requested) == 1 - 17 / 28  # type: ignore[arg-type]
        assert external_fragmentation(allocator) == 0.0

    @pytest.mark.parametrize("kind", ALLOCATORS)
    def test_an_empty_memory_is_not_fragmented(self, kind: Callable[[int], Allocator]) -> None:
        allocator = kind(16)
        assert internal_fragmentation(allocator, {}) == 0.0
        assert external_fragmentation(allocator) == 0.0

    @pytest.mark.parametrize("kind", ALLOCATORS)
    def test_a_full_memory_is_not_fragmented(self, kind: Callable[[int], Allocator]) -> None:
        allocator = kind(16)
        assert allocator.allocate(16) == 0
        assert external_fragmentation(allocator) == 0.0

    def test_a_chessboard_is_all_but_one_slot_useless(self) -> None:
        allocator = FirstFitAllocator(100)
        for _ in range(100):
            allocator.allocate(1)
        for offset in range(0, 100, 2):
            allocator.free(offset)
        assert external_fragmentation(allocator) == pytest.approx(1 - 1 / 50)
        assert allocator.allocate(2) is None

    def test_what_fits_exactly_has_no_internal_fragmentation(self) -> None:
        allocator = BestFitAllocator(100)
        requested = {allocator.allocate(size) or 0: size for size in (5, 17, 31)}
        assert internal_fragmentation(allocator, requested) == 0.0

    def test_requests_and_blocks_must_match(self) -> None:
        allocator = BuddyAllocator(16)
        allocator.allocate(5)
        with pytest.raises(ValueError, match=r"allocated at \[0\], but requested names \[0, 8\]"):
            internal_fragmentation(allocator, {0: 5, 8: 1})
        with pytest.raises(ValueError, match="9 slots were asked for at 0, but the block has 8"):
            internal_fragmentation(allocator, {0: 9})


class TestLifetimes:
    def test_arrivals_by_hand(self) -> None:
        requests = [Lengths(10, 4, arrival_time=1.5), Lengths(7, 1, arrival_time=2.0)]
        assert lifetimes_from_arrivals(requests, seconds_per_token=0.25) == [
            Lifetime(14, 1.5, 2.5),
            Lifetime(8, 2.0, 2.25),
        ]

    @given(outputs=st.lists(st.integers(1, 20), max_size=30), batch_size=st.integers(1, 8))
    def test_a_batch_is_full_until_the_queue_is_empty(
        self, outputs: list[int], batch_size: int
    ) -> None:
        lives = lifetimes_in_batch([Lengths(1, output) for output in outputs], batch_size)
        assert [life.end - life.start for life in lives] == outputs
        assert [life.size for life in lives] == [1 + output for output in outputs]
        starts = [life.start for life in lives]
        assert starts == sorted(starts)
        last_start = max(starts, default=0)
        for now in range(int(last_start)):
            assert sum(life.start <= now < life.end for life in lives) == batch_size

    def test_misuse_is_named(self) -> None:
        with pytest.raises(ValueError, match="batch_size is 0"):
            lifetimes_in_batch([], 0)
        with pytest.raises(ValueError, match="seconds_per_token is 0"):
            lifetimes_from_arrivals([], 0)
        for lifetimes in (
            lambda: lifetimes_in_batch([Lengths(3, 0)], 1),
            lambda: lifetimes_from_arrivals([Lengths(3, 0)], 1.0),
        ):
            with pytest.raises(ValueError, match="a request of 3 prompt and 0 output tokens"):
                lifetimes()
        with pytest.raises(ValueError, match="size is 0"):
            Lifetime(0, 0, 1)
        for end in (3.0, 2.0, math.nan):
            with pytest.raises(ValueError, match="it must end later"):
                Lifetime(1, 3.0, end)


class TestReplay:
    def test_a_case_by_hand(self) -> None:
        # Ten slots. When C comes, 4 and 2 slots are free, in two holes; when A and B have gone,
        # there is one hole of 10 again.
        lifetimes = [
            Lifetime(4, 0, 2),
            Lifetime(4, 0, 4),
            Lifetime(5, 3, 6),
            Lifetime(6, 4, 5),
        ]
        outcome = replay(lifetimes, FirstFitAllocator(10))
        assert [
            (s.time, s.action, s.index, s.offset, s.live, s.num_blocks, s.num_holes, s.largest_hole)
            for s in outcome.steps
        ] == [
            (0, "allocate", 0, 0, 4, 1, 0, 6),
            (0, "allocate", 1, 4, 8, 2, 0, 2),
            (2, "free", 0, 0, 4, 1, 1, 4),
            (3, "fail", 2, None, 4, 1, 1, 4),
            (4, "free", 1, 4, 0, 0, 0, 10),
            (4, "allocate", 3, 0, 6, 1, 0, 4),
            (5, "free", 3, 0, 0, 0, 0, 10),
        ]
        assert (outcome.num_failures, outcome.peak_live, outcome.high_water) == (1, 8, 8)
        assert outcome.utilization == 1.0
        # The last four steps: one hole, and one block before and one after the change of places.
        assert outcome.holes_per_block == Fraction(1, 2)

    @pytest.mark.parametrize("kind", ALLOCATORS)
    def test_each_step_is_the_memory_at_that_time(self, kind: Callable[[int], Allocator]) -> None:
        rng = random.Random(5)
        lifetimes = []
        for _ in range(300):
            start = rng.randrange(500)
            lifetimes.append(Lifetime(rng.randint(1, 40), start, start + rng.randint(1, 60)))
        allocator = kind(600)
        outcome = replay(lifetimes, allocator)
        assert allocator.blocks() == []

        refused = {step.index for step in outcome.steps if step.action == "fail"}
        assert 0 < len(refused) < 250
        assert outcome.num_failures == len(refused)
        assert len(outcome.steps) == 2 * 300 - len(refused)
        times = [step.time for step in outcome.steps]
        assert times == sorted(times)
        high_water = 0
        for before, after in zip(outcome.steps, outcome.steps[1:], strict=False):
            if before.time == after.time:
                continue
            # Between two moments: those are live whose time it is, but for the refused.
            live = [
                life.size
                for index, life in enumerate(lifetimes)
                if life.start <= before.time < life.end and index not in refused
            ]
            assert before.live == sum(live) <= before.allocated <= allocator.num_slots
            assert before.num_blocks == len(live)
            assert before.largest_hole <= allocator.num_slots - before.allocated
            assert before.high_water >= max(high_water, before.allocated)
            high_water = before.high_water
        assert outcome.peak_live == max(step.live for step in outcome.steps)
        assert outcome.high_water <= allocator.num_slots

    def test_only_a_buddy_rounds_up(self) -> None:
        lifetimes = [Lifetime(5, 0, 1)]
        assert replay(lifetimes, BestFitAllocator(64)).steps[0].allocated == 5
        rounded = replay(lifetimes, BuddyAllocator(64))
        assert (rounded.steps[0].live, rounded.steps[0].allocated) == (5, 8)
        assert rounded.high_water == 8
        assert rounded.steps[0].num_holes == 0

    def test_what_ends_makes_room_for_what_starts(self) -> None:
        lifetimes = [Lifetime(8, 1, 2), Lifetime(8, 0, 1)]
        assert replay(lifetimes, WorstFitAllocator(8)).num_failures == 0

    def test_misuse_is_named_and_changes_nothing(self) -> None:
        allocator = FirstFitAllocator(8)
        with pytest.raises(ValueError, match="there are no lifetimes"):
            replay([], allocator)
        with pytest.raises(ValueError, match="needs 9 slots, but the memory has 8"):
            replay([Lifetime(1, 0, 1), Lifetime(9, 0, 1)], allocator)
        assert allocator.holes() == [(0, 8)]
        allocator.allocate(3)
        with pytest.raises(ValueError, match="1 blocks are allocated already"):
            replay([Lifetime(1, 0, 1)], allocator)
        assert allocator.blocks() == [(0, 3)]

    def test_a_replay_in_which_nothing_fits_has_no_ratios(self) -> None:
        # The largest block of a buddy allocator of 12 slots has 8.
        outcome = replay([Lifetime(9, 0, 1)], BuddyAllocator(12))
        assert outcome.num_failures == 1
        with pytest.raises(ValueError, match="nothing was ever allocated"):
            _ = outcome.utilization
        with pytest.raises(ValueError, match="no block was allocated"):
            _ = outcome.holes_per_block


class TestFirstFitIsNotTheCulprit:
    """Azure's conversations, a fixed number at a time, in a memory without limit.

    Twenty generations of requests pass through the batch, each taking the place of one that has
    finished. ``utilization`` is the most memory that was live / the highest slot ever used.
    """

    @pytest.mark.parametrize(
        ("kind", "utilization"),
        [(FirstFitAllocator, 0.85), (BestFitAllocator, 0.85), (WorstFitAllocator, 0.06)],
    )
    def test_a_hundred_at_a_time(
        self, kind: Callable[[int], Allocator], utilization: float
    ) -> None:
        lifetimes = lifetimes_in_batch(_measured("conversation")[:2000], batch_size=100)
        outcome = replay(lifetimes, kind(NO_LIMIT))
        assert outcome.num_failures == 0
        assert round(outcome.utilization, 2) == utilization
        if kind is not WorstFitAllocator:
            assert 0.47 < outcome.holes_per_block < 0.49

    @pytest.mark.parametrize(
        ("kind", "low", "high"),
        [
            (FirstFitAllocator, 0.82, 0.86),
            (BestFitAllocator, 0.82, 0.86),
            (WorstFitAllocator, 0.05, 0.07),
        ],
    )
    def test_the_mean_over_the_whole_trace(
        self, kind: Callable[[int], Allocator], low: float, high: float
    ) -> None:
        workload = _measured("conversation")
        outcomes = [
            replay(lifetimes_in_batch(workload[start : start + 1280], 64), kind(NO_LIMIT))
            for start in range(0, 15 * 1280, 1280)
        ]
        utilization = float(np.mean([outcome.utilization for outcome in outcomes]))
        assert low < utilization < high
        # Knuth's fifty-per-cent rule.
        assert float(np.mean([o.holes_per_block for o in outcomes])) == pytest.approx(
            0.45, abs=0.06
        )

    def test_without_a_limit_worst_fit_never_returns_to_a_hole(self) -> None:
        # So its high-water mark is the sum of all that was ever allocated.
        lifetimes = lifetimes_in_batch(synthetic_azure()[:1280], batch_size=64)
        outcome = replay(lifetimes, WorstFitAllocator(NO_LIMIT))
        assert outcome.high_water == sum(life.size for life in lifetimes)

    def test_the_order_holds_for_a_synthetic_workload_too(self) -> None:
        lifetimes = lifetimes_in_batch(synthetic_azure()[:2000], batch_size=100)
        first, best, worst, buddy = (replay(lifetimes, kind(NO_LIMIT)) for kind in ALLOCATORS)
        assert min(first.utilization, best.utilization) > 0.78
        assert worst.utilization < 0.08
        # What a buddy allocator rounds up costs more than the holes of the others.
        assert buddy.utilization < min(first.utilization, best.utilization)
        for outcome in (first, best):
            assert outcome.holes_per_block == pytest.approx(0.48, abs=0.04)

    def test_requests_at_the_times_at_which_they_came(self) -> None:
        # A token every 50 ms: the batch grows and shrinks with the traffic.
        lifetimes = lifetimes_from_arrivals(_measured("conversation")[:2000], 0.05)
        first = replay(lifetimes, FirstFitAllocator(NO_LIMIT))
        best = replay(lifetimes, BestFitAllocator(NO_LIMIT))
        assert min(first.utilization, best.utilization) > 0.85
        assert first.holes_per_block == pytest.approx(0.45, abs=0.03)

"""Hit rates: what they mean, what there is to find, and what a cache of limited size finds."""

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from course_lib.kv_cache import HitMeter, infinite_cache_hit_rates, replay_prefix_cache
from course_lib.simulation import TraceRequest, load_mooncake, synthetic_mooncake


class TestHitRates:
    def test_the_three_weightings_differ(self) -> None:
        meter = HitMeter()
        meter.record(num_tokens=90, num_hit_tokens=0, num_blocks=9, num_hit_blocks=0)
        meter.record(num_tokens=11, num_hit_tokens=10, num_blocks=2, num_hit_blocks=1)
        rates = meter.rates()
        assert rates.block_weighted == pytest.approx(1 / 11)
        assert rates.token_weighted == pytest.approx(10 / 101)
        assert rates.mean_per_request == pytest.approx((0 + 10 / 11) / 2)

    def test_before_the_first_lookup_they_are_zero(self) -> None:
        rates = HitMeter().rates()
        assert (rates.block_weighted, rates.token_weighted, rates.mean_per_request) == (0, 0, 0)

    @pytest.mark.parametrize("counts", [(0, 0, 0, 0), (10, 11, 1, 1), (10, 10, 1, 2)])
    def test_no_more_hits_than_there_is_to_hit(self, counts: tuple[int, int, int, int]) -> None:
        meter = HitMeter()
        with pytest.raises(ValueError, match="were found"):
            meter.record(*counts)
        assert meter.num_requests == 0

    def test_a_hit_is_a_run_from_the_first_block(self) -> None:
        first = TraceRequest(0.0, 1536, 1, hash_ids=(0, 1, 2))
        broken = TraceRequest(1.0, 1500, 1, hash_ids=(0, 9, 2))
        rates = infinite_cache_hit_rates([first, broken])
        assert rates.block_weighted == 1 / 6
        assert rates.token_weighted == 512 / 3036
        assert rates.mean_per_request == 512 / 1500 / 2

    def test_a_request_has_an_id_for_each_block(self) -> None:
        wrong = TraceRequest(0.0, 513, 1, hash_ids=(0,))
        with pytest.raises(ValueError, match="request 0 has 513 prompt tokens and 1 hash ids"):
            infinite_cache_hit_rates([wrong])

    def test_mooncake(self) -> None:
        """Published at kvcache-ai/Mooncake; the three figures that facts on hit rates confuse."""
        start = time.process_time()
        workload = load_mooncake()
        if workload.is_synthetic:
            pytest.skip("needs Mooncake's trace; set COURSE_TRACES to a folder with mooncake/")
        rates = infinite_cache_hit_rates(workload)
        assert time.process_time() - start < 10
        assert len(workload) == 12_031
        assert round(100 * rates.block_weighted, 2) == 36.64
        assert round(100 * rates.token_weighted, 2) == 37.36
        assert round(100 * rates.mean_per_request, 2) == 40.94

    def test_the_synthetic_stand_in_is_near(self) -> None:
        rates = infinite_cache_hit_rates(synthetic_mooncake(seed=4))
        assert rates.block_weighted == pytest.approx(0.3664, abs=0.05)
        assert rates.token_weighted == pytest.approx(0.3736, abs=0.05)
        assert rates.mean_per_request == pytest.approx(0.4094, abs=0.05)


def requests_of(prompts: list[list[int]]) -> list[TraceRequest]:
    """Requests of one token per block: the ids are those of the prefixes."""
    ids: dict[tuple[int, ...], int] = {}
    requests = []
    for prompt in prompts:
        prefixes = [tuple(prompt[: end + 1]) for end in range(len(prompt))]
        hash_ids = tuple(ids.setdefault(prefix, len(ids)) for prefix in prefixes)
        requests.append(TraceRequest(0.0, len(prompt), 1, hash_ids=hash_ids))
    return requests


class PlainLRU:
    """Which prefixes are cached, in the plainest words: a list, the next to be lost in front."""

    def __init__(self, num_slots: int) -> None:
        self.num_slots = num_slots
        self.kept: list[int] = []

    def serve(self, hash_ids: tuple[int, ...]) -> int:
        num_hits = 0
        while num_hits < len(hash_ids) and hash_ids[num_hits] in self.kept:
            num_hits += 1
        if len(hash_ids) <= self.num_slots:
            self.kept = [i for i in self.kept if i not in hash_ids[:num_hits]]
            # Behind a block that was lost, what is left of the prefix is of no use but still there.
            num_lost = max(0, len(self.kept) + len(hash_ids) - self.num_slots)
            self.kept = [*self.kept[num_lost:], *reversed(hash_ids)]
        return num_hits


class TestReplayPrefixCache:
    prompts = st.lists(st.lists(st.integers(0, 1), min_size=1, max_size=6), max_size=25)

    @given(prompts=prompts, num_blocks=st.integers(1, 12))
    def test_one_request_at_a_time_is_a_plain_lru(
        self, prompts: list[list[int]], num_blocks: int
    ) -> None:
        lru = PlainLRU(num_blocks - 1)
        requests = requests_of(prompts)
        found = sum(lru.serve(request.hash_ids) for request in requests)
        rates = replay_prefix_cache(requests, num_blocks, in_flight=1, block_size=1)
        num_tokens = sum(map(len, prompts))
        assert rates.token_weighted == found / max(num_tokens, 1)

    @given(prompts=prompts, in_flight=st.integers(1, 9))
    def test_with_room_for_everything_it_finds_all_there_is(
        self, prompts: list[list[int]], in_flight: int
    ) -> None:
        requests = requests_of(prompts)
        most = infinite_cache_hit_rates(requests, block_size=1)
        assert replay_prefix_cache(requests, 200, in_flight, block_size=1) == most

    def test_the_end_of_a_prefix_is_lost_before_its_beginning(self) -> None:
        # Four blocks to use: the third prompt takes the last block of the first one.
        requests = requests_of([[0, 0], [1, 1], [2], [0, 0]])
        rates = replay_prefix_cache(requests, num_blocks=5, in_flight=1, block_size=1)
        assert rates.token_weighted == 1 / 7

    def test_a_request_larger_than_the_cache_leaves_it_as_it_is(self) -> None:
        requests = requests_of([[0, 1], [0, 1, 0, 1], [0, 1]])
        rates = replay_prefix_cache(requests, num_blocks=4, in_flight=3, block_size=1)
        assert rates.block_weighted == 4 / 8

    def test_misuse_is_named(self) -> None:
        with pytest.raises(ValueError, match="in_flight is 0"):
            replay_prefix_cache([], num_blocks=4, in_flight=0)
        wrong = TraceRequest(0.0, 513, 1, hash_ids=(0,))
        with pytest.raises(ValueError, match="request 0 has 513 prompt tokens and 1 hash ids"):
            replay_prefix_cache([wrong], num_blocks=4, in_flight=1)

    def test_one_gpu_finds_a_small_part_of_what_there_is(self) -> None:
        workload = synthetic_mooncake()
        rates = [
            replay_prefix_cache(workload, num_blocks, in_flight=16).token_weighted
            for num_blocks in (938, 12_800, 60_032)
        ]
        assert [round(100 * rate, 1) for rate in rates] == [4.6, 27.0, 39.3]

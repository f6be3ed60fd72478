"""Slots by state, the replays of both worlds, and static batching."""

import math
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from course_lib.kv_cache import (
    RESERVATIONS,
    Allocator,
    BuddyAllocator,
    FirstFitAllocator,
    Reservation,
    SlotUse,
    Snapshot,
    average_shares,
    classify_slots,
    expected_static_utilization,
    replay_contiguous,
    replay_paged,
    reserve_max,
    reserve_oracle,
    reserve_pow2,
    static_batch_utilization,
)
from course_lib.simulation import Workload, load_azure, synthetic_azure

USED, LATER, INTERNAL, EXTERNAL = range(4)


@dataclass(frozen=True)
class Lengths:
    """The least that a replay wants to know of a request."""

    prompt_tokens: int
    output_tokens: int


def _paint(reservations: tuple[Reservation, ...], num_slots: int) -> SlotUse:
    """Count slots by colouring them one at a time."""
    slots = np.full(num_slots, EXTERNAL)
    start = 0
    for request in reservations:
        for index in range(request.reserved):
            if index < request.written:
                slots[start + index] = USED
            elif index < request.final:
                slots[start + index] = LATER
            else:
                slots[start + index] = INTERNAL
        start += request.reserved
    used, later, internal, external = np.bincount(slots, minlength=4).tolist()
    return SlotUse(used, later, internal, external)


@st.composite
def _memories(draw: st.DrawFn) -> tuple[tuple[Reservation, ...], int]:
    """Reservations, some of them on demand, and a number of slots that holds them."""
    reservations = []
    for index in range(draw(st.integers(0, 5))):
        reserved, final = draw(st.integers(0, 40)), draw(st.integers(1, 40))
        written = draw(st.integers(0, min(reserved, final)))
        reservations.append(Reservation(str(index), reserved, written, final))
    spare = draw(st.integers(0, 20))
    return tuple(reservations), 1 + spare + sum(r.reserved for r in reservations)


class TestClassifySlots:
    @given(memory=_memories())
    def test_agrees_with_painting_the_slots(
        self, memory: tuple[tuple[Reservation, ...], int]
    ) -> None:
        reservations, num_slots = memory
        use = classify_slots(reservations, num_slots)
        assert use == _paint(reservations, num_slots)
        assert use.total == num_slots
        assert sum(use.shares().values()) == pytest.approx(1.0)

    def test_a_case_by_hand(self) -> None:
        a = Reservation("a", reserved=8, written=3, final=5)
        b = Reservation("b", reserved=4, written=4, final=4)
        assert classify_slots([a, b], num_slots=20) == SlotUse(7, 2, 3, 8)

    def test_nothing_reserved_on_demand_is_internal_before_the_last_block(self) -> None:
        on_demand = Reservation("a", reserved=16, written=10, final=100)
        assert classify_slots([on_demand], num_slots=16) == SlotUse(10, 6, 0, 0)

    def test_an_empty_memory_is_all_external(self) -> None:
        assert classify_slots([], num_slots=9) == SlotUse(0, 0, 0, 9)

    @pytest.mark.parametrize(("reserved", "final"), [(4, 9), (9, 4)])
    def test_more_written_than_there_can_be(self, reserved: int, final: int) -> None:
        with pytest.raises(ValueError, match="'a' has written 5 tokens"):
            classify_slots([Reservation("a", reserved, 5, final)], num_slots=100)

    def test_more_reserved_than_there_is(self) -> None:
        full = Reservation("a", reserved=6, written=1, final=2)
        with pytest.raises(ValueError, match="12 slots are reserved but there are only 11"):
            classify_slots([full, full], num_slots=11)


def test_shares_of_no_slots_are_refused() -> None:
    with pytest.raises(ValueError, match="0 slots"):
        SlotUse(0, 0, 0, 0).shares()


class TestPolicies:
    def test_they_are_known_by_the_names_of_the_paper(self) -> None:
        assert list(RESERVATIONS.items()) == [
            ("Max", reserve_max),
            ("Pow2", reserve_pow2),
            ("Oracle", reserve_oracle),
        ]

    @pytest.mark.parametrize(
        ("output", "rounded"), [(1, 1), (2, 2), (3, 4), (25, 32), (32, 32), (33, 64)]
    )
    def test_pow2_rounds_only_the_output_up(self, output: int, rounded: int) -> None:
        assert reserve_pow2(100, output, 2048) == 100 + rounded

    @given(prompt=st.integers(1, 1000), output=st.integers(1, 1000), spare=st.integers(0, 1000))
    def test_who_knows_more_reserves_less(self, prompt: int, output: int, spare: int) -> None:
        limit = prompt + output + spare
        oracle, pow2, longest = (
            reserve(prompt, output, limit)
            for reserve in (reserve_oracle, reserve_pow2, reserve_max)
        )
        assert prompt + output == oracle <= pow2 <= longest == limit
        assert pow2 - prompt < 2 * output


class TestReplayContiguous:
    def test_a_case_by_hand(self) -> None:
        # A and B take 4 of the 8 slots each; C needs a block of 8 and waits for both of them.
        requests = [Lengths(2, 2), Lengths(1, 3), Lengths(4, 1)]
        a0, a1 = (Reservation("0", 4, written, 4, 0) for written in (3, 4))
        b0, b1, b2 = (Reservation("1", 4, written, 4, 4) for written in (2, 3, 4))
        assert list(replay_contiguous(requests, 8, reserve_oracle, max_model_len=8)) == [
            Snapshot(0, 8, 1, (a0, b0)),
            Snapshot(1, 8, 1, (a1, b1)),
            Snapshot(2, 8, 1, (b2,)),
        ]

    def test_the_head_of_the_line_blocks_a_request_that_would_fit(self) -> None:
        requests = [Lengths(2, 2), Lengths(4, 4), Lengths(1, 1)]
        first = next(replay_contiguous(requests, 8, reserve_oracle, max_model_len=8))
        assert [r.request_id for r in first.reservations] == ["0"]
        assert first.num_waiting == 2

    def test_what_the_allocator_rounds_up_is_external(self) -> None:
        requests = [Lengths(4, 1), Lengths(4, 1)]  # 5 slots in a block of 8
        first = next(replay_contiguous(requests, 8, reserve_oracle, max_model_len=8))
        assert classify_slots(first.reservations, 8) == SlotUse(5, 0, 0, 3)

    @pytest.mark.parametrize("policy", RESERVATIONS)
    @given(others=st.lists(st.builds(Lengths, st.integers(1, 15), st.integers(1, 15)), max_size=12))
    def test_every_iteration_obeys_the_rules(self, others: list[Lengths], policy: str) -> None:
        num_slots, limit, reserve = 64, 32, RESERVATIONS[policy]
        # The last two take half of the memory each, and run for longer than any other request: so
        # somebody waits, and there are snapshots, until all others are done.
        requests = [*others, Lengths(1, 31), Lengths(1, 31)]

        iterations_of: Counter[str] = Counter()
        for snapshot in replay_contiguous(requests, num_slots, reserve, limit):
            taken = np.zeros(num_slots, dtype=bool)
            for r in snapshot.reservations:
                request = requests[int(r.request_id)]
                iterations_of[r.request_id] += 1
                assert r.written == request.prompt_tokens + iterations_of[r.request_id]
                assert r.final == request.prompt_tokens + request.output_tokens
                assert r.reserved == reserve(request.prompt_tokens, request.output_tokens, limit)
                block = 1 << (r.reserved - 1).bit_length()
                assert r.offset is not None
                assert not taken[r.offset : r.offset + block].any()
                assert r.offset + block <= num_slots
                taken[r.offset : r.offset + block] = True
            use = classify_slots(snapshot.reservations, num_slots)
            assert use == _paint(snapshot.reservations, num_slots)

            # First come, first served: the queue is the tail of the requests; its head does not
            # fit.
            head = len(requests) - snapshot.num_waiting
            assert all(int(r.request_id) < head for r in snapshot.reservations)
            wanted = reserve(requests[head].prompt_tokens, requests[head].output_tokens, limit)
            assert (snapshot.first_waiting, snapshot.needed) == (str(head), wanted)
            block = 1 << (wanted - 1).bit_length()
            assert all(taken[start : start + block].any() for start in range(0, num_slots, block))

        for index, request in enumerate(others):
            assert iterations_of[str(index)] == request.output_tokens

    @pytest.mark.parametrize(
        ("requests", "message"),
        [
            ([Lengths(5, 4)], "request 0 has 9 tokens, more than max_model_len = 8"),
            ([Lengths(1, 1), Lengths(0, 4)], "request 1 has 0 prompt"),
            ([Lengths(4, 0)], "and 0 output tokens"),
        ],
    )
    def test_what_can_never_run_is_refused_at_once(
        self, requests: list[Lengths], message: str
    ) -> None:
        with pytest.raises(ValueError, match=message):
            replay_contiguous(requests, 8, reserve_oracle, max_model_len=8)

    def test_a_reservation_larger_than_the_largest_block_is_refused(self) -> None:
        with pytest.raises(ValueError, match="reserves 9 slots, but the largest block of 12 slots"):
            replay_contiguous([Lengths(1, 1)], 12, reserve_max, max_model_len=9)

    @pytest.mark.parametrize(
        ("allocator", "offsets"), [(BuddyAllocator, [0, 4]), (FirstFitAllocator, [0, 3, 6])]
    )
    def test_any_allocator_can_place_the_reservations(
        self, allocator: Callable[[int], Allocator], offsets: list[int]
    ) -> None:
        requests = [Lengths(1, 2)] * 4  # 3 slots for two iterations each; a buddy takes 4
        snapshots = list(replay_contiguous(requests, 9, reserve_oracle, 9, allocator))
        placed = [[r.offset for r in snapshot.reservations] for snapshot in snapshots]
        assert placed == [offsets, offsets]

    @pytest.mark.parametrize(
        ("allocator", "num_iterations", "used"),
        [(BuddyAllocator, 9_836, 59.7), (FirstFitAllocator, 8_056, 72.6)],
    )
    def test_rounding_up_costs_more_than_holes_do(
        self, allocator: Callable[[int], Allocator], num_iterations: int, used: float
    ) -> None:
        """What lesson 4 measures: lengths are known, and only the placement differs."""
        short = [r for r in synthetic_azure()[:500] if r.prompt_tokens + r.output_tokens <= 2048]
        snapshots = list(replay_contiguous(short, 15_728, reserve_oracle, 2048, allocator))
        assert len(snapshots) == num_iterations
        assert round(100 * average_shares(snapshots)["used"], 1) == used

    def test_the_largest_block_is_the_allocators(self) -> None:
        requests = [Lengths(1, 1), Lengths(1, 1)]
        first = next(replay_contiguous(requests, 12, reserve_max, 9, FirstFitAllocator))
        assert [r.offset for r in first.reservations] == [0]
        with pytest.raises(
            ValueError, match="reserves 13 slots, but the largest block of 12 slots"
        ):
            replay_contiguous(requests, 12, reserve_max, 13, FirstFitAllocator)

    def test_a_policy_that_reserves_too_little_is_refused(self) -> None:
        with pytest.raises(ValueError, match="reserves 1 slots for request 0 of 4 tokens"):
            replay_contiguous([Lengths(2, 2)], 8, lambda *_: 1, max_model_len=8)


class TestReplayPaged:
    def test_preemption_by_hand(self) -> None:
        # Four blocks of two slots. A and B take two each in step 0, and nobody waits. In step 1, A
        # needs a third: B goes, and cannot return before A has finished.
        requests = [Lengths(3, 5), Lengths(2, 3)]
        assert list(replay_paged(requests, num_slots=8, block_size=2)) == [
            Snapshot(1, 8, 1, (Reservation("0", 6, 5, 8),)),
            Snapshot(2, 8, 1, (Reservation("0", 6, 6, 8),)),
            Snapshot(3, 8, 1, (Reservation("0", 8, 7, 8),)),
            Snapshot(4, 8, 1, (Reservation("0", 8, 8, 8),)),
        ]

    def test_a_preempted_request_keeps_its_tokens(self) -> None:
        # As above, with C behind B in the queue: when B returns, in step 5, it holds the three
        # tokens that it had and a new one.
        requests = [Lengths(3, 5), Lengths(2, 3), Lengths(7, 1)]
        snapshots = {s.step: s for s in replay_paged(requests, num_slots=8, block_size=2)}
        assert snapshots[0].reservations[1] == Reservation("1", 4, 3, 5)
        assert snapshots[1].num_waiting == 2
        assert snapshots[5].reservations == (Reservation("1", 4, 4, 5),)
        assert {s.step: s.preempted for s in snapshots.values() if s.preempted} == {1: (3,)}

    def test_slots_that_make_no_whole_block_are_never_used(self) -> None:
        requests = [Lengths(8, 1), Lengths(1, 1)]
        first = next(replay_paged(requests, num_slots=11, block_size=3))
        assert classify_slots(first.reservations, 11) == SlotUse(9, 0, 0, 2)

    @given(
        requests=st.lists(st.builds(Lengths, st.integers(1, 20), st.integers(1, 20)), max_size=12),
        num_blocks=st.integers(1, 12),
        block_size=st.sampled_from([4, 7, 16]),
    )
    def test_every_iteration_obeys_the_rules(
        self, requests: list[Lengths], num_blocks: int, block_size: int
    ) -> None:
        num_slots = num_blocks * block_size
        requests = [r for r in requests if r.prompt_tokens + r.output_tokens <= num_slots]
        # The last request takes all of the memory, so somebody waits until all others are done.
        requests.append(Lengths(num_slots - 1, 1))

        iterations_of: Counter[int] = Counter()
        for snapshot in replay_paged(requests, num_slots, block_size):
            running = [int(r.request_id) for r in snapshot.reservations]
            for index, r in zip(running, snapshot.reservations, strict=True):
                iterations_of[index] += 1
                # No token is lost, though preemption may take the blocks away in between.
                assert r.written == requests[index].prompt_tokens + iterations_of[index]
                assert r.final == requests[index].prompt_tokens + requests[index].output_tokens
                assert r.reserved == math.ceil(r.written / block_size) * block_size
                assert r.offset is None
            use = classify_slots(snapshot.reservations, num_slots)
            assert use == _paint(snapshot.reservations, num_slots)

            # First come, first served, also after preemption: nobody runs who came after the head
            # of the queue; and the blocks that are free are too few for the head.
            unfinished = [
                index
                for index, request in enumerate(requests)
                if iterations_of[index] < request.output_tokens
            ]
            waiting = [index for index in unfinished if index not in running]
            assert running == sorted(running)
            assert len(waiting) == snapshot.num_waiting
            assert max(running) < waiting[0]
            tokens = requests[waiting[0]].prompt_tokens + iterations_of[waiting[0]] + 1
            assert snapshot.first_waiting == str(waiting[0])
            assert snapshot.needed == math.ceil(tokens / block_size) * block_size > use.external

        for index, request in enumerate(requests[:-1]):
            assert iterations_of[index] == request.output_tokens

    def test_what_can_never_run_is_refused_at_once(self) -> None:
        with pytest.raises(
            ValueError, match="request 0 has 9 tokens, but all blocks together hold 8"
        ):
            replay_paged([Lengths(8, 1)], num_slots=11, block_size=4)
        with pytest.raises(ValueError, match="block_size is 0"):
            replay_paged([Lengths(8, 1)], num_slots=11, block_size=0)
        with pytest.raises(ValueError, match="request 0 has 0 prompt"):
            replay_paged([Lengths(0, 1)], num_slots=11)


class TestAverageShares:
    def test_every_iteration_counts_the_same(self) -> None:
        busy = tuple(Reservation(str(index), 2, 2, 2) for index in range(5))
        idle = (Reservation("0", 5, 1, 2),)
        average = average_shares([Snapshot(0, 10, 1, busy), Snapshot(1, 10, 1, idle)])
        assert average == pytest.approx(
            {"used": 0.55, "later": 0.05, "internal": 0.15, "external": 0.25}
        )

    def test_the_classifier_is_an_argument(self) -> None:
        snapshots = [Snapshot(0, 10, 1, (Reservation("0", 5, 1, 2),))]
        average = average_shares(snapshots, lambda _, num_slots: SlotUse(0, 0, 0, num_slots))
        assert average["external"] == 1.0

    def test_no_snapshots_have_no_average(self) -> None:
        alone = replay_paged([Lengths(1, 1)], num_slots=16)
        with pytest.raises(ValueError, match="no request ever had to wait"):
            average_shares(alone)


@pytest.mark.parametrize("load", [load_azure, synthetic_azure])
def test_the_order_of_the_paged_attention_paper(load: Callable[[], Workload]) -> None:
    # OPT-13B with 12 GiB for the KV cache, as in the paper's table 1, and OPT's limit of 2,048.
    num_slots, limit = 15_728, 2048
    requests = [r for r in load()[:400] if r.prompt_tokens + r.output_tokens <= limit]
    shares = {
        name: average_shares(replay_contiguous(requests, num_slots, reserve, limit))
        for name, reserve in RESERVATIONS.items()
    }
    shares["paged"] = average_shares(replay_paged(requests, num_slots))

    for of_policy in shares.values():
        assert sum(of_policy.values()) == pytest.approx(1.0)
        assert min(of_policy.values()) >= 0
    used = [shares[name]["used"] for name in ("Max", "Pow2", "Oracle", "paged")]
    assert used == sorted(used)
    assert len(set(used)) == 4
    assert shares["Max"]["internal"] > shares["Pow2"]["internal"] > shares["Oracle"]["internal"]
    assert shares["Oracle"]["internal"] == 0
    # Seven blocks of 2,048 fit: the 8.9% of the paper's figure 2.
    assert shares["Max"]["external"] == pytest.approx(1 - 7 * limit / num_slots)
    assert shares["paged"]["used"] > 0.9


def _simulate_static_batching(output_lengths: list[int], batch_size: int) -> float:
    """Run the batches iteration by iteration; return the share of slots that made a token."""
    tokens = slots = 0
    queue = list(output_lengths)
    while queue:
        batch, queue = queue[:batch_size], queue[batch_size:]
        while any(remaining > 0 for remaining in batch):
            tokens += sum(remaining > 0 for remaining in batch)
            slots += batch_size
            batch = [remaining - 1 for remaining in batch]
    return tokens / slots


class TestStaticBatching:
    @given(
        output_lengths=st.lists(st.integers(1, 30), min_size=1, max_size=20),
        batch_size=st.integers(1, 8),
    )
    def test_agrees_with_a_simulation(self, output_lengths: list[int], batch_size: int) -> None:
        assert static_batch_utilization(output_lengths, batch_size) == pytest.approx(
            _simulate_static_batching(output_lengths, batch_size)
        )

    def test_equal_lengths_in_full_batches_waste_nothing(self) -> None:
        assert static_batch_utilization([7] * 12, batch_size=4) == 1.0

    def test_the_empty_slots_of_the_last_batch_count(self) -> None:
        assert static_batch_utilization([7] * 5, batch_size=4) == 5 / 8

    @pytest.mark.parametrize("batch_size", [1, 8, 32, 256])
    def test_exponential_lengths_come_near_the_closed_form(self, batch_size: int) -> None:
        rng = np.random.default_rng(0)
        # Rounding up adds half a token to a mean of 2,000, and each of 1,000 batches is a sample.
        lengths = np.ceil(rng.exponential(2000, size=1000 * batch_size)).astype(int).tolist()
        assert static_batch_utilization(lengths, batch_size) == pytest.approx(
            expected_static_utilization(batch_size), rel=0.03
        )

    @pytest.mark.parametrize(
        ("batch_size", "utilization"),
        [(1, 1.0), (2, 2 / 3), (8, 0.3679), (32, 0.2464), (256, 0.1633)],
    )
    def test_the_closed_form(self, batch_size: int, utilization: float) -> None:
        assert expected_static_utilization(batch_size) == pytest.approx(utilization, abs=5e-5)

    def test_misuse_is_named(self) -> None:
        with pytest.raises(ValueError, match="batch_size is 0"):
            static_batch_utilization([1], 0)
        with pytest.raises(ValueError, match="batch_size is -1"):
            expected_static_utilization(-1)
        with pytest.raises(ValueError, match="at least one request"):
            static_batch_utilization([], 4)
        with pytest.raises(ValueError, match="at least 1 token"):
            static_batch_utilization([3, 0], 4)

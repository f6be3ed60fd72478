"""Address translation: slots one by one, in batches, and down to bytes."""

import random
import statistics
import time
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from course_lib.kv_cache.block_table import (
    BlockTable,
    CacheLayout,
    PositionError,
    blocks_to_add,
    hnd_layout,
    nhd_layout,
    pad_block_tables,
    row_major_strides,
    slot_mapping,
    split_layout,
)
from yardstick import quiet_seconds


def _table(block_size: int, block_ids: list[int]) -> BlockTable:
    table = BlockTable(block_size)
    table.append(block_ids)
    return table


class TestBlockTable:
    def test_a_case_by_hand(self) -> None:
        table = _table(16, [7, 3])
        assert [table.slot(position) for position in (0, 15, 16, 31)] == [112, 127, 48, 63]

    @given(block_size=st.integers(1, 40), block_ids=st.lists(st.integers(0, 10**6), max_size=20))
    def test_slots_are_those_of_the_blocks_written_out_one_behind_the_other(
        self, block_size: int, block_ids: list[int]
    ) -> None:
        table = _table(block_size, block_ids)
        slots = [
            block_id * block_size + offset for block_id in block_ids for offset in range(block_size)
        ]
        positions = range(len(slots))
        assert len(table) == len(block_ids)
        assert table.num_slots == len(slots)
        assert [table.slot(position) for position in positions] == slots
        assert table.slot_mapping(list(positions)).tolist() == slots

    def test_blocks_are_appended_in_order(self) -> None:
        table = BlockTable(4)
        table.append([])
        assert len(table) == 0
        table.append([5])
        table.append(np.array([9, 2]))
        table.append(iter([0]))
        assert table.block_ids == [5, 9, 2, 0]

    def test_a_logical_block_has_its_physical_one(self) -> None:
        table = _table(4, [9, 2])
        assert [table[0], table[1]] == list(table) == [9, 2]
        for outside in (2, -1):
            with pytest.raises(IndexError, match=f"no logical block {outside}; the table has 2"):
                table[outside]

    def test_the_ids_handed_out_are_a_copy(self) -> None:
        table = _table(4, [5])
        table.block_ids.append(6)
        assert table.block_ids == [5]

    def test_the_table_may_grow_while_an_earlier_mapping_is_kept(self) -> None:
        table = _table(4, [5])
        earlier = table.slot_mapping([0, 1])
        table.append([6])
        assert earlier.tolist() == [20, 21]
        assert table.slot(4) == 24

    def test_padding_stays_padding_and_shapes_stay_shapes(self) -> None:
        table = _table(4, [9, 2])
        slots = table.slot_mapping([[0, 1, 2], [7, -1, -1]])
        assert slots.dtype == np.int64
        assert slots.tolist() == [[36, 37, 38], [11, -1, -1]]
        assert BlockTable(4).slot_mapping([-1, -1]).tolist() == [-1, -1]
        assert BlockTable(4).slot_mapping([]).tolist() == []

    def test_more_slots_than_32_bits_can_count(self) -> None:
        table = _table(16, [2**31])
        assert table.slot(3) == 2**35 + 3
        assert table.slot_mapping(np.array([3], dtype=np.int32)).tolist() == [2**35 + 3]

    @pytest.mark.parametrize("position", [-1, -5, 8, 10**9])
    def test_a_position_without_a_slot(self, position: int) -> None:
        with pytest.raises(PositionError, match=rf"position {position} has no slot.* room for 8"):
            _table(4, [9, 2]).slot(position)

    @pytest.mark.parametrize("position", [-2, 8])
    def test_one_position_without_a_slot_spoils_the_mapping(self, position: int) -> None:
        message = f"token 1 of the batch, position {position} of sequence 0, has no slot"
        with pytest.raises(PositionError, match=message):
            _table(4, [9, 2]).slot_mapping([0, -1, position])

    def test_an_empty_table_has_no_slots(self) -> None:
        with pytest.raises(PositionError, match="the table's blocks have room for 0"):
            BlockTable(4).slot(0)
        with pytest.raises(PositionError, match="its blocks have room for 0"):
            BlockTable(4).slot_mapping([0])

    def test_a_position_error_is_what_a_caller_may_expect_it_to_be(self) -> None:
        assert issubclass(PositionError, ValueError)
        assert issubclass(PositionError, IndexError)

    @pytest.mark.parametrize("positions", [[0.0], ["0"], np.array([True])])
    def test_positions_are_whole_numbers(self, positions: list[float]) -> None:
        with pytest.raises(ValueError, match=r"positions are .* signed whole numbers"):
            _table(4, [9]).slot_mapping(positions)

    def test_a_bad_id_adds_nothing(self) -> None:
        table = _table(4, [9])
        with pytest.raises(ValueError, match="block id -1 is negative"):
            table.append([3, -1])
        with pytest.raises(TypeError):
            table.append([3, 1.5])  # type: ignore[list-item]
        assert table.block_ids == [9]

    def test_a_block_holds_at_least_one_token(self) -> None:
        with pytest.raises(ValueError, match="block_size is 0"):
            BlockTable(0)


class _Batch:
    """A ragged batch: each sequence has some new tokens behind those that it has already."""

    def __init__(self, rng: random.Random, num_seqs: int, block_size: int, most_new: int) -> None:
        self.block_size = block_size
        context_lens = [rng.randint(0, 1000) for _ in range(num_seqs)]
        query_lens = [rng.randint(0, most_new) for _ in range(num_seqs)]
        block_ids = list(range(num_seqs * (1 + (1000 + most_new) // block_size)))
        rng.shuffle(block_ids)
        self.tables = []
        for context_len, query_len in zip(context_lens, query_lens, strict=True):
            num_blocks = -(-(context_len + query_len) // block_size)
            self.tables.append(_table(block_size, [block_ids.pop() for _ in range(num_blocks)]))
        # One (sequence, position) for each token.
        self.tokens = [
            (sequence, position)
            for sequence in range(num_seqs)
            for position in range(
                context_lens[sequence], context_lens[sequence] + query_lens[sequence]
            )
        ]
        self.block_tables = pad_block_tables([table.ids for table in self.tables])
        self.query_starts = np.cumsum([0, *query_lens])
        self.positions = np.array([position for _, position in self.tokens], dtype=np.int64)

    def one_by_one(self) -> list[int]:
        return [self.tables[sequence].slot(position) for sequence, position in self.tokens]

    def at_once(self) -> "np.ndarray[tuple[int], np.dtype[np.int64]]":
        return slot_mapping(self.block_tables, self.query_starts, self.positions, self.block_size)


class TestSlotMappingOfABatch:
    @given(
        seed=st.integers(0, 2**32),
        num_seqs=st.integers(0, 6),
        block_size=st.sampled_from([1, 3, 8, 16, 32]),
        num_padding=st.integers(0, 5),
        type_of=st.sampled_from([np.int32, np.int64]),
    )
    def test_agrees_with_the_loop(
        self, seed: int, num_seqs: int, block_size: int, num_padding: int, type_of: type
    ) -> None:
        batch = _Batch(random.Random(seed), num_seqs, block_size, most_new=40)
        # What is in the padding must not matter.
        padding = np.full(num_padding, -12345)
        slots = slot_mapping(
            batch.block_tables,
            batch.query_starts.astype(type_of),
            np.concatenate([batch.positions, padding]).astype(type_of),
            block_size,
        )
        assert slots.dtype == np.int64
        assert slots.tolist() == batch.one_by_one() + [-1] * num_padding

    def test_a_case_by_hand(self) -> None:
        tables = np.array([[9, 2], [5, -1]])
        slots = slot_mapping(tables, np.array([0, 3, 4]), np.array([3, 4, 5, 0, 0, 0]), 4)
        assert slots.tolist() == [39, 8, 9, 20, -1, -1]

    def test_a_sequence_may_have_no_token(self) -> None:
        tables = np.array([[9], [-1], [5]])
        slots = slot_mapping(tables, np.array([0, 1, 1, 2]), np.array([1, 2]), 4)
        assert slots.tolist() == [37, 22]

    def test_every_second_row_of_a_larger_table(self) -> None:
        tables = np.array([[9, 8], [1, 1], [5, 4]], dtype=np.int32)[::2]
        slots = slot_mapping(tables, np.array([0, 1, 2]), np.array([4, 0]), 4)
        assert slots.tolist() == [32, 20]

    def test_more_slots_than_32_bits_can_count(self) -> None:
        tables = np.array([[2**31 - 1]], dtype=np.int32)
        positions = np.array([3], dtype=np.int32)
        assert slot_mapping(tables, np.array([0, 1]), positions, 16).tolist() == [2**35 - 13]

    @pytest.mark.parametrize("position", [-1, 4, 8, 100])
    def test_the_token_without_a_slot_is_named(self, position: int) -> None:
        tables = np.array([[9, 2], [5, -1]])
        positions = np.array([3, 4, position])
        message = rf"token 2 of the batch, position {position} of sequence 1, .* room for 4"
        with pytest.raises(PositionError, match=message):
            slot_mapping(tables, np.array([0, 2, 3]), positions, 4)

    def test_shapes_must_fit_together(self) -> None:
        tables, starts, positions = np.array([[9], [5]]), np.array([0, 1, 2]), np.array([0, 0])
        with pytest.raises(ValueError, match=r"query_starts \[2\]; they are \[num_seqs"):
            slot_mapping(tables, starts[:2], positions, 4)
        with pytest.raises(ValueError, match=r"block_tables is \[2\]"):
            slot_mapping(tables[:, 0], starts, positions, 4)
        with pytest.raises(ValueError, match=r"positions is \[1\]; .* each of the 2 tokens"):
            slot_mapping(tables, starts, positions[:1], 4)
        with pytest.raises(ValueError, match=r"positions is \[2, 1\]"):
            slot_mapping(tables, starts, positions[:, None], 4)

    @pytest.mark.parametrize("starts", [[1, 1, 2], [0, 2, 1]])
    def test_query_starts_count_up_from_zero(self, starts: list[int]) -> None:
        with pytest.raises(ValueError, match="it starts at 0 and never decreases"):
            slot_mapping(np.array([[9], [5]]), np.array(starts), np.array([0, 0]), 4)

    @pytest.mark.parametrize("argument", [0, 1, 2])
    def test_arrays_hold_whole_numbers(self, argument: int) -> None:
        arrays = [np.array([[9], [5]]), np.array([0, 1, 2]), np.array([0, 0])]
        arrays[argument] = arrays[argument].astype(np.float32)
        name = ["block_tables", "query_starts", "positions"][argument]
        with pytest.raises(ValueError, match=f"{name} are float32"):
            slot_mapping(*arrays, block_size=4)

    def test_a_block_holds_at_least_one_token(self) -> None:
        with pytest.raises(ValueError, match="block_size is 0"):
            slot_mapping(np.array([[9]]), np.array([0, 1]), np.array([0]), 0)

    def test_256_sequences_take_under_50_microseconds_and_a_twentieth_of_the_loop(self) -> None:
        batch = _Batch(random.Random(0), num_seqs=256, block_size=16, most_new=40)
        assert len(batch.tokens) == 4856
        assert batch.at_once().tolist() == batch.one_by_one()
        # Both are timed in the same round, and the best round counts: others share this machine.
        rounds = [
            (_median_seconds(batch.at_once, 50), _median_seconds(batch.one_by_one, 5))
            for _ in range(40)
        ]
        assert quiet_seconds(lambda: _median_seconds(batch.at_once, 50), rounds=10) < 50e-6
        assert max(one_by_one / at_once for at_once, one_by_one in rounds) > 20


def _median_seconds(call: Callable[[], object], times: int) -> float:
    """Return how long a call takes."""
    seconds = []
    for _ in range(times):
        start = time.perf_counter()
        call()
        seconds.append(time.perf_counter() - start)
    return statistics.median(seconds)


def test_padded_block_tables() -> None:
    tables = [_table(4, [9, 2]), BlockTable(4), _table(4, [5])]
    padded = pad_block_tables([table.ids for table in tables])
    assert padded.dtype == np.int32
    assert padded.tolist() == [[9, 2], [0, 0], [5, 0]]
    assert pad_block_tables([[9, 2], np.array([5])]).tolist() == [[9, 2], [5, 0]]
    assert pad_block_tables([]).shape == (0, 0)
    # The tables can still grow: nothing holds on to their memory.
    tables[0].append([7])


class TestBlocksToAdd:
    @pytest.mark.parametrize(
        ("num_tokens", "num_blocks", "missing"),
        [(0, 0, 0), (1, 0, 1), (4, 1, 0), (5, 1, 1), (9, 0, 3), (9, 3, 0), (4, 5, 0), (223, 0, 56)],
    )
    def test_by_hand(self, num_tokens: int, num_blocks: int, missing: int) -> None:
        assert blocks_to_add(num_tokens, num_blocks, block_size=4) == missing

    @given(
        num_tokens=st.integers(0, 200), num_blocks=st.integers(0, 20), block_size=st.integers(1, 20)
    )
    def test_it_is_the_least_that_gives_every_token_a_slot(
        self, num_tokens: int, num_blocks: int, block_size: int
    ) -> None:
        missing = blocks_to_add(num_tokens, num_blocks, block_size)
        assert (num_blocks + missing) * block_size >= num_tokens
        assert missing == 0 or (num_blocks + missing - 1) * block_size < num_tokens


SHAPE = {"num_blocks": 3, "block_size": 4, "num_kv_heads": 2, "head_dim": 16}
DTYPES = {1: np.int8, 2: np.float16, 4: np.float32}
Build = Callable[..., CacheLayout]


@pytest.mark.parametrize("dtype_bytes", DTYPES)
@pytest.mark.parametrize("build", [nhd_layout, hnd_layout, split_layout])
class TestLayouts:
    def test_strides_are_those_of_numpy(self, build: Build, dtype_bytes: int) -> None:
        layout = build(**SHAPE, dtype_bytes=dtype_bytes)
        cache = np.empty(layout.shape, dtype=DTYPES[dtype_bytes])
        assert tuple(stride * dtype_bytes for stride in layout.strides) == cache.strides
        assert layout.num_bytes == cache.nbytes

    def test_each_element_has_its_own_address(self, build: Build, dtype_bytes: int) -> None:
        layout = build(**SHAPE, dtype_bytes=dtype_bytes)
        addresses = [
            layout.address(kv, slot, head, dim)
            for kv in range(2)
            for slot in range(12)
            for head in range(2)
            for dim in range(16)
        ]
        assert sorted(addresses) == list(range(0, layout.num_bytes, dtype_bytes))


class TestAddresses:
    """The element at an address is the one that an index into the array finds."""

    def test_nhd(self) -> None:
        layout = nhd_layout(**SHAPE)
        cache = np.arange(2 * 3 * 4 * 2 * 16).reshape(layout.shape)
        kv, slot, head, dim = 1, 9, 1, 13  # slot 9 is offset 1 in block 2
        assert layout.address(kv, slot, head, dim) == 2 * cache[1, 2, 1, 1, 13]

    def test_hnd(self) -> None:
        layout = hnd_layout(**SHAPE)
        cache = np.arange(2 * 3 * 2 * 4 * 16).reshape(layout.shape)
        assert layout.address(1, 9, 1, 13) == 2 * cache[1, 2, 1, 1, 13]
        assert layout.address(1, 9, 1, 13) != nhd_layout(**SHAPE).address(1, 9, 1, 13)

    def test_split(self) -> None:
        layout = split_layout(**SHAPE)
        assert layout.shape == (2, 3, 2, 2, 4, 8)
        cache = np.arange(2 * 3 * 2 * 2 * 4 * 8).reshape(layout.shape)
        assert layout.address(1, 9, 1, 13) == 2 * cache[1, 2, 1, 1, 1, 5]  # 13 = vector 1, item 5

    def test_what_each_layout_keeps_together(self) -> None:
        nhd, hnd, split = (build(**SHAPE) for build in (nhd_layout, hnd_layout, split_layout))
        head_bytes = 16 * 2
        # NHD: the heads of a token. HND: the tokens of a head. Split: 16 bytes of each token.
        assert nhd.address(0, 5, 1, 0) - nhd.address(0, 5, 0, 0) == head_bytes
        assert hnd.address(0, 6, 1, 0) - hnd.address(0, 5, 1, 0) == head_bytes
        assert split.address(0, 6, 1, 0) - split.address(0, 5, 1, 0) == 16

    @pytest.mark.parametrize(("dtype_bytes", "items"), [(1, 16), (2, 8), (4, 4)])
    def test_a_vector_is_one_aligned_load_of_16_bytes(self, dtype_bytes: int, items: int) -> None:
        layout = split_layout(**SHAPE, dtype_bytes=dtype_bytes)
        assert layout.shape[-1] == items
        for first in range(0, 16, items):
            start = layout.address(0, 7, 1, first)
            assert start % 16 == 0
            vector = [layout.address(0, 7, 1, first + item) for item in range(items)]
            assert vector == list(range(start, start + 16, dtype_bytes))

    @pytest.mark.parametrize(
        ("coordinates", "axis"),
        [
            ((2, 0, 0, 0), "kv 2 is not among the 2"),
            ((0, 12, 0, 0), "block 3 is not among the 3"),
            ((0, -1, 0, 0), "block -1"),
            ((0, 0, 2, 0), "head 2"),
            ((0, 0, 0, -1), "(dim|vector) -1"),
            ((0, 0, 0, 16), "(dim 16|vector 2)"),
        ],
    )
    @pytest.mark.parametrize("build", [nhd_layout, hnd_layout, split_layout])
    def test_an_element_outside_the_cache(
        self, build: Build, coordinates: tuple[int, int, int, int], axis: str
    ) -> None:
        with pytest.raises(ValueError, match=f"is outside the cache: {axis}"):
            build(**SHAPE).address(*coordinates)

    def test_a_head_is_a_whole_number_of_vectors(self) -> None:
        with pytest.raises(ValueError, match="head_dim is 20; it must be a multiple of the 8"):
            split_layout(**{**SHAPE, "head_dim": 20})
        with pytest.raises(ValueError, match="dtype_bytes is 3"):
            split_layout(**SHAPE, dtype_bytes=3)

    @pytest.mark.parametrize("build", [nhd_layout, hnd_layout, split_layout])
    @pytest.mark.parametrize("name", [*SHAPE, "dtype_bytes"])
    def test_every_size_is_at_least_one(self, build: Build, name: str) -> None:
        with pytest.raises(ValueError, match=r"is 0|\b0\b.*at least 1"):
            build(**{**SHAPE, name: 0})

    def test_each_axis_has_one_size(self) -> None:
        with pytest.raises(ValueError, match="2 axes have 1 sizes"):
            CacheLayout(("kv", "block"), (2,))


@given(shape=st.lists(st.integers(1, 5), max_size=6))
def test_row_major_strides_are_those_of_numpy(shape: list[int]) -> None:
    assert row_major_strides(shape) == np.empty(shape, dtype=np.int8).strides


def test_a_stride_needs_a_size() -> None:
    with pytest.raises(ValueError, match=r"the shape is \(2, 0\)"):
        row_major_strides([2, 0])

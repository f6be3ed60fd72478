"""Both backends against dense attention in 64 bits, and against each other."""

import random
from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from course_lib.attention import PagedBatch, choose_backend, paged, triton_state

pytest.importorskip("triton")
from course_lib.attention.backends import launches
from course_lib.attention.backends.triton_ops import TritonOperations, choose_num_splits

triton_ops = TritonOperations()

# A warning on stderr costs a learner the points of a graded cell.
pytestmark = pytest.mark.filterwarnings("error")

Make = Callable[..., Any]
Close = Callable[[Tensor, Any], None]


def _same_bits(a: Tensor, b: Tensor) -> bool:
    """Whether two tensors are equal, NaN equal to NaN."""
    return bool(torch.equal(a.nan_to_num(nan=12345.0), b.nan_to_num(nan=12345.0)))


def _poisoned_like(query: Tensor) -> tuple[Tensor, Tensor]:
    """Return a place for the output, full of NaN, and the larger tensor around it."""
    tokens, heads, head_dim = query.shape
    around = query.new_full((tokens, heads + 1, head_dim + 16), torch.nan)
    return around[:, :heads, :head_dim], around


class TestPyTorch:
    def test_decode(
        self, setting: Any, make_case: Make, require_close: Close, boundary_lengths: Make
    ) -> None:
        case = make_case(setting, boundary_lengths(setting.block_size))
        require_close(paged.paged_decode(*case.arguments), case)

    def test_chunked_prefill(
        self, setting: Any, make_case: Make, require_close: Close, boundary_lengths: Make
    ) -> None:
        lengths = boundary_lengths(setting.block_size)
        case = make_case(setting, lengths, [max(1, n // 2) for n in lengths])
        require_close(paged.chunked_prefill(*case.arguments), case)


class TestTriton:
    def test_decode(
        self,
        triton_device: str,
        setting: Any,
        make_case: Make,
        require_close: Close,
        boundary_lengths: Make,
    ) -> None:
        lengths = boundary_lengths(setting.block_size)
        case = make_case(setting, lengths, scale=0.3, device=triton_device)
        out, around = _poisoned_like(case.query)
        launches.paged_decode_launch(out, *case.arguments, scale=0.3).run()
        require_close(out, case)
        out.fill_(torch.nan)
        assert around.isnan().all(), "something was written beside the output"

    def test_split_decode(
        self,
        triton_device: str,
        setting: Any,
        make_case: Make,
        require_close: Close,
        boundary_lengths: Make,
    ) -> None:
        # Long enough for a split that is empty for some sequences and partial for others.
        case = make_case(setting, [1, setting.block_size + 1, 70], device=triton_device)
        out, around = _poisoned_like(case.query)
        states = launches.SplitStates.unwritten(case.query, 3)
        for state in states:
            state.fill_(torch.nan)
        launches.split_decode_launch(*states, *case.arguments).run()
        launches.combine_splits_launch(out, *states).run()
        require_close(out, case)
        out.fill_(torch.nan)
        assert around.isnan().all(), "something was written beside the output"

    def test_chunked_prefill_mixed_with_decodes(
        self, triton_device: str, setting: Any, make_case: Make, require_close: Close
    ) -> None:
        size = setting.block_size
        # A decode, a whole prompt, and a later chunk that starts and ends inside blocks.
        contexts, queries = [size + 1, size, size + 23], [1, size, 9]
        case = make_case(setting, contexts, queries, device=triton_device)
        out, around = _poisoned_like(case.query)
        launches.chunked_prefill_launch(out, *case.arguments).run()
        require_close(out, case)
        out.fill_(torch.nan)
        assert around.isnan().all(), "something was written beside the output"

    @settings(max_examples=8, deadline=None)
    @given(data=st.data())
    def test_any_ragged_batch(
        self, a_setting: Any, make_case: Make, require_close: Close, data: st.DataObject
    ) -> None:
        device = "cuda" if triton_state().mode == "compiled" else "cpu"
        contexts = data.draw(st.lists(st.integers(1, 40), min_size=1, max_size=3))
        queries = [data.draw(st.integers(1, n)) for n in contexts]
        small = replace(a_setting, head_dim=32, block_size=4, num_kv_heads=1)
        case = make_case(small, contexts, queries, device=device)
        require_close(triton_ops.chunked_prefill(*case.arguments), case)

    @pytest.mark.parametrize("num_splits", [1, 2, 5, 9])
    def test_any_number_of_splits(
        self,
        triton_device: str,
        a_setting: Any,
        make_case: Make,
        require_close: Close,
        num_splits: int,
    ) -> None:
        # 128-wide heads in 32 bits are read 32 tokens at a time: 5 tiles.
        wide = replace(a_setting, head_dim=128, num_kv_heads=1)
        case = make_case(wide, [130, 3], device=triton_device)
        require_close(triton_ops.paged_decode(*case.arguments, num_splits=num_splits), case)

    def test_a_chunk_longer_than_a_tile_of_queries(
        self, triton_device: str, a_setting: Any, make_case: Make, require_close: Close
    ) -> None:
        odd = replace(a_setting, group=3, num_kv_heads=1)  # 21 tokens of 3 heads in 64 rows
        case = make_case(odd, [70, 45], [50, 45], device=triton_device)
        require_close(triton_ops.chunked_prefill(*case.arguments), case)

    def test_a_program_writes_its_own_tokens_only(
        self, triton_device: str, a_setting: Any, make_case: Make
    ) -> None:
        # The interpreter runs programs in order, so that a later one would hide such a race.
        odd = replace(a_setting, group=3, num_kv_heads=1)
        case = make_case(odd, [70], [50], device=triton_device)
        out = torch.full_like(case.query, torch.nan)
        launch = launches.chunked_prefill_launch(out, *case.arguments)
        first = launch.arguments["QUERIES"]
        replace(launch, grid=(1, 1, 1)).run()
        assert out[:first].isfinite().all()
        assert out[first:].isnan().all()

    @pytest.mark.parametrize("num_splits", [1, 3])
    def test_scores_far_below_zero(
        self,
        triton_device: str,
        a_setting: Any,
        make_case: Make,
        num_splits: int,
    ) -> None:
        # Scores near -300: their exponentials are 0, but their quotients are not.
        case = make_case(replace(a_setting, num_kv_heads=1), [70], device=triton_device)
        query, key_cache = torch.ones_like(case.query), case.key_cache / 100 - 300 / 64
        arguments = (query, key_cache, case.value_cache, case.batch, 1.0)
        out = triton_ops.paged_decode(*arguments, num_splits=num_splits)
        torch.testing.assert_close(out, paged.paged_decode(*arguments), rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(out, triton_ops.chunked_prefill(*arguments))

    def test_an_empty_batch(self, triton_device: str) -> None:
        cache = torch.zeros(4, 4, 1, 32, device=triton_device)
        batch = PagedBatch.of([], [], num_blocks=4, block_size=4, device=triton_device)
        query = torch.zeros(0, 2, 32, device=triton_device)
        assert triton_ops.paged_decode(query, cache, cache, batch).shape == (0, 2, 32)
        assert triton_ops.chunked_prefill(query, cache, cache, batch).shape == (0, 2, 32)
        triton_ops.copy_blocks(cache, cache, [])
        triton_ops.reshape_and_cache(query[:, :1], query[:, :1], cache, cache, batch.slot_mapping)


class TestWriting:
    """``reshape_and_cache`` and ``copy_blocks`` change what they should, to the bit."""

    @pytest.fixture(params=["pytorch", "triton"])
    def operations(self, request: pytest.FixtureRequest) -> Any:
        return choose_backend("cpu", request.param)

    def test_reshape_and_cache(
        self, operations: Any, setting: Any, make_case: Make, triton_device: str
    ) -> None:
        case = make_case(setting, [5], device=triton_device)
        key_cache, value_cache = case.key_cache, case.value_cache
        num_slots = key_cache.shape[0] * setting.block_size
        slots = random.Random(1).sample(range(num_slots), min(7, num_slots))
        slots[2] = -1
        # Keys and values as views of one tensor, as a fused projection leaves them.
        fused = torch.randn(len(slots), 2, setting.num_kv_heads, setting.head_dim)
        key, value = fused.to(triton_device, setting.dtype).unbind(1)
        expected = key_cache.clone(), value_cache.clone()
        for token, slot in enumerate(slots):
            if slot >= 0:
                place = slot // setting.block_size, slot % setting.block_size
                expected[0][place], expected[1][place] = key[token], value[token]
        operations.reshape_and_cache(
            key, value, key_cache, value_cache, torch.tensor(slots, device=triton_device)
        )
        assert _same_bits(key_cache, expected[0])
        assert _same_bits(value_cache, expected[1])

    def test_copy_blocks(
        self, operations: Any, setting: Any, make_case: Make, triton_device: str
    ) -> None:
        case = make_case(setting, [3 * setting.block_size, 2], device=triton_device)
        key_cache, value_cache = case.key_cache, case.value_cache
        last = len(key_cache) - 1
        expected = key_cache.clone(), value_cache.clone()
        copies = [(last, 0), (2, 1), (2, last - 1)]
        for source, destination in copies:
            for cache in expected:
                cache[destination] = cache[source]
        operations.copy_blocks(key_cache, value_cache, copies)
        assert _same_bits(key_cache, expected[0])
        assert _same_bits(value_cache, expected[1])

    def test_what_was_written_is_attended_to(
        self,
        operations: Any,
        a_setting: Any,
        make_case: Make,
        require_close: Close,
        triton_device: str,
    ) -> None:
        """The life of a sequence: two chunks of a prompt, then decodes, through one cache."""
        case = make_case(a_setting, [20], [20], device=triton_device)
        table = case.batch.block_tables[0].tolist()
        key = paged.gather(case.key_cache, case.batch.block_tables[0], 20)
        value = paged.gather(case.value_cache, case.batch.block_tables[0], 20)
        key_cache, value_cache = (
            torch.full_like(case.key_cache, torch.nan),
            torch.full_like(case.value_cache, torch.nan),
        )
        outputs = []
        for first, end in pairwise([0, 7, 18, 19, 20]):
            batch = PagedBatch.of(
                [table],
                [end],
                [end - first],
                num_blocks=len(key_cache),
                block_size=a_setting.block_size,
                device=triton_device,
            )
            new = slice(first, end)
            operations.reshape_and_cache(
                key[new], value[new], key_cache, value_cache, batch.slot_mapping
            )
            attend = operations.paged_decode if end - first == 1 else operations.chunked_prefill
            outputs.append(attend(case.query[new], key_cache, value_cache, batch))
        require_close(torch.cat(outputs), case)


def _can_be_made_at_once(copies: list[tuple[int, int]]) -> bool:
    """Whether no block that one of the copies writes is read or written by a later one."""
    return all(
        copies[i][1] not in copies[j] for i in range(len(copies)) for j in range(i + 1, len(copies))
    ) and all(
        copies[j][1] != copies[i][0] for i in range(len(copies)) for j in range(i + 1, len(copies))
    )


def _fewest_groups(copies: list[tuple[int, int]]) -> int:
    """Return the fewest runs of copies that can each be made at once, by trying all."""
    fewest = [0]
    for end in range(1, len(copies) + 1):
        starts = [start for start in range(end) if _can_be_made_at_once(copies[start:end])]
        fewest.append(min(fewest[start] for start in starts) + 1)
    return fewest[-1]


@given(st.lists(st.tuples(st.integers(0, 5), st.integers(0, 5)), max_size=8))
def test_side_by_side_makes_the_fewest_groups_that_can_be_made_at_once(
    copies: list[tuple[int, int]],
) -> None:
    groups = paged.side_by_side(copies)
    assert [copy for group in groups for copy in group] == copies
    assert all(group and _can_be_made_at_once(group) for group in groups)
    assert len(groups) == _fewest_groups(copies)


def test_split_count_fills_the_gpu_and_no_more() -> None:
    # Llama-3.1-8B, 8 KV heads, on the 132 multiprocessors of an H100.
    assert choose_num_splits(8 * 1, 4096, 132) == 16
    assert choose_num_splits(8 * 16, 4096, 132) == 4
    assert choose_num_splits(8 * 64, 4096, 132) == 1
    assert choose_num_splits(8, 100, 132) == 1
    assert choose_num_splits(0, 0, 132) == 1

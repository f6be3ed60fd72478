"""Padding changes the time that attention takes, and nothing else."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from course_lib.attention import PagedBatch
from course_lib.attention.backends.padded import GROUP_COST, PaddedAttention, similar_lengths

Make = Callable[..., Any]
Close = Callable[[Any, Any], None]


@pytest.fixture
def attention() -> PaddedAttention:
    return PaddedAttention()


def test_decode(
    attention: PaddedAttention,
    setting: Any,
    make_case: Make,
    require_close: Close,
    boundary_lengths: Make,
) -> None:
    case = make_case(setting, boundary_lengths(setting.block_size))
    require_close(attention.paged_decode(*case.arguments), case)


def test_chunks(
    attention: PaddedAttention,
    setting: Any,
    make_case: Make,
    require_close: Close,
    boundary_lengths: Make,
) -> None:
    lengths = boundary_lengths(setting.block_size)
    case = make_case(setting, lengths, [max(1, n // 2) for n in lengths])
    require_close(attention.chunked_prefill(*case.arguments), case)


def test_chunks_and_decodes_of_all_lengths_side_by_side(
    attention: PaddedAttention, a_setting: Any, make_case: Make, require_close: Close
) -> None:
    context_lens = [1, 300, 17, 128, 129, 40, 2, 70, 300]
    query_lens = [1, 1, 17, 5, 3, 4, 2, 1, 260]
    case = make_case(a_setting, context_lens, query_lens, scale=0.3)
    require_close(attention.chunked_prefill(*case.arguments, 0.3), case)


def test_one_long_sequence_does_not_pad_the_others(
    attention: PaddedAttention, a_setting: Any, make_case: Make
) -> None:
    case = make_case(a_setting, [40, 40, 1000, *[40] * 18, 50])
    attention.paged_decode(*case.arguments)
    assert sorted(group.slots.shape for group in attention._groups) == [(1, 1000), (21, 50)]


def test_a_few_sequences_are_one_group(
    attention: PaddedAttention, a_setting: Any, make_case: Make
) -> None:
    attention.paged_decode(*make_case(a_setting, [400, 350, 200, 190]).arguments)
    assert len(attention._groups) == 1


@given(
    lengths=st.lists(st.integers(1, 5000), min_size=1, max_size=40),
    cost=st.sampled_from([0.5, 10, 300, GROUP_COST]),
)
def test_no_cut_costs_more_than_it_saves(lengths: list[int], cost: float) -> None:
    longest_first = np.array(sorted(lengths, reverse=True), dtype=np.int32)

    def total(runs: list[tuple[int, int]]) -> float:
        return sum(cost + int(longest_first[start]) * (end - start) for start, end in runs)

    runs = list(similar_lengths(longest_first, cost))
    assert [at for run in runs for at in range(*run)] == list(range(len(lengths)))
    assert total(runs) <= total([(0, len(lengths))])
    for start, end in runs:
        for cut in range(start + 1, end):
            assert total([(start, end)]) <= total([(start, cut), (cut, end)])


def test_one_object_for_many_steps(
    attention: PaddedAttention, a_setting: Any, make_case: Make, require_close: Close
) -> None:
    """Groups and memory of one step do not show in the next, larger or smaller."""
    for seed, lengths in enumerate([[5, 200], [400] * 3, [1], [5, 200]]):
        case = make_case(a_setting, lengths, seed=seed)
        for _ in range(2):  # layers
            require_close(attention.paged_decode(*case.arguments), case)


def test_results_do_not_share_memory(
    attention: PaddedAttention, a_setting: Any, make_case: Make
) -> None:
    case = make_case(a_setting, [5, 200])
    first = attention.paged_decode(*case.arguments)
    kept = first.clone()
    attention.paged_decode(case.query + 1, *case.arguments[1:])
    assert torch.equal(first, kept)


def test_in_and_out_of_inference_mode(
    attention: PaddedAttention, a_setting: Any, make_case: Make, require_close: Close
) -> None:
    small, large = make_case(a_setting, [5]), make_case(a_setting, [200])
    with torch.inference_mode():
        require_close(attention.paged_decode(*small.arguments), small)
    require_close(attention.paged_decode(*large.arguments), large)
    with torch.inference_mode():
        require_close(attention.paged_decode(*small.arguments), small)


def test_nothing_to_do(attention: PaddedAttention) -> None:
    batch = PagedBatch.of([], [], num_blocks=4, block_size=4)
    cache = torch.zeros(4, 4, 1, 32)
    assert attention.paged_decode(torch.zeros(0, 2, 32), cache, cache, batch).shape == (0, 2, 32)
    assert attention.chunked_prefill(torch.zeros(0, 2, 32), cache, cache, batch).shape == (0, 2, 32)

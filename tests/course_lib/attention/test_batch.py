"""A step's numbers are checked before they become tensors."""

from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from course_lib.attention import PagedBatch

GOOD: dict[str, Any] = {
    "block_tables": [[7, 3], [5]],
    "context_lens": [5, 2],
    "query_lens": [2, 1],
    "num_blocks": 8,
    "block_size": 4,
}


def test_sequences_follow_each_other_without_padding() -> None:
    batch = PagedBatch.of(**GOOD)
    assert batch.query_starts.tolist() == [0, 2, 3]
    assert batch.block_tables.tolist() == [[7, 3], [5, 0]]
    assert (batch.num_seqs, batch.num_tokens) == (2, 3)
    assert (batch.max_query_len, batch.max_context_len) == (2, 5)
    assert batch.slot_mapping.dtype == torch.int64


@settings(deadline=None)
@given(block_size=st.integers(1, 9), context_len=st.integers(1, 40), data=st.data())
def test_slots_are_those_of_the_last_tokens(
    block_size: int, context_len: int, data: st.DataObject
) -> None:
    table = data.draw(st.permutations(range(50)))[: -(-context_len // block_size)]
    query_len = data.draw(st.integers(1, context_len))
    batch = PagedBatch.of([table], [context_len], [query_len], num_blocks=50, block_size=block_size)
    every_slot = [block * block_size + offset for block in table for offset in range(block_size)]
    assert batch.slot_mapping.tolist() == every_slot[context_len - query_len : context_len]


def test_an_empty_batch_is_a_batch() -> None:
    batch = PagedBatch.of([], [], num_blocks=8, block_size=4)
    assert (batch.num_seqs, batch.num_tokens, batch.max_query_len) == (0, 0, 0)
    assert batch.block_tables.shape == (0, 0)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"block_tables": [[7, 8], [5]]}, "sequence 0 has block 8 in its table; .* 0 to 7"),
        ({"block_tables": [[7, 3], [-1]]}, "sequence 1 has block -1 in its table"),
        ({"context_lens": [9, 2]}, "context of 9 tokens, but its 2 blocks of 4 hold 8"),
        ({"context_lens": [5, 0]}, "sequence 1 has 1 queries and a context of 0"),
        ({"query_lens": [2, 0]}, "sequence 1 has 0 queries"),
        ({"query_lens": [6, 1]}, "sequence 0 has 6 queries and a context of 5"),
        ({"query_lens": [2]}, "2 block tables, 2 context lengths and 1 query lengths"),
        ({"block_size": 0}, "block_size is 0"),
    ],
)
def test_numbers_that_do_not_fit(change: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        PagedBatch.of(**GOOD | change)

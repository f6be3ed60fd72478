"""Flattening: one row per token, and the rows from which tokens are sampled."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from course_lib.engine.flatten import flatten_step


@st.composite
def sequences(draw: st.DrawFn) -> tuple[int, int, int]:
    """Query, context and known lengths of one sequence."""
    known = draw(st.integers(1, 40))
    context = draw(st.integers(1, known) | st.just(known))
    return draw(st.integers(1, context)), context, known


@given(st.lists(sequences(), max_size=12))
def test_rows_are_the_last_tokens_of_each_context(lengths: list[tuple[int, int, int]]) -> None:
    step = flatten_step(*([each[i] for each in lengths] for i in range(3)))
    positions: list[int] = []
    rows: list[int] = []
    starts = [0]
    for query, context, known in lengths:
        positions += range(context - query, context)
        starts.append(len(positions))
        if context == known:
            rows.append(len(positions) - 1)
    assert step.positions.tolist() == positions
    assert step.query_starts.tolist() == starts
    assert step.sample_rows.tolist() == rows
    assert step.positions.dtype == step.sample_rows.dtype == np.int64
    assert step.query_starts.dtype == np.int32


@pytest.mark.parametrize("lengths", [(0, 1, 1), (-1, 3, 3), (3, 2, 4), (1, 4, 3)])
def test_lengths_that_do_not_fit_together_are_refused(lengths: tuple[int, int, int]) -> None:
    query, context, known = lengths
    with pytest.raises(ValueError, match=f"sequence 1 computes {query} tokens .* {context}, .*"):
        flatten_step([1, query], [1, context], [1, known])


def test_there_is_one_of_each_length_per_sequence() -> None:
    with pytest.raises(ValueError, match="1 query, 2 context and 1 known lengths"):
        flatten_step([1], [1, 2], [1])

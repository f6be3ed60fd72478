"""Dense attention against definitions, and the state that lets it be taken apart."""

import math
from itertools import pairwise
from random import Random

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from course_lib.attention import (
    SoftmaxState,
    dense_attention,
    merge_states,
    partial_attention,
    softmax,
)


def _randn(*sizes: int, seed: int = 0, dtype: torch.dtype = torch.float64) -> Tensor:
    return torch.randn(*sizes, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def _by_definition(query: Tensor, key: Tensor, value: Tensor, scale: float) -> Tensor:
    """Attention one query, head and key at a time, in Python's own floats."""
    group = query.shape[1] // key.shape[1]
    out = torch.zeros_like(query)
    for i in range(len(query)):
        visible = len(key) - len(query) + i + 1
        for head in range(query.shape[1]):
            keys, values = key[:visible, head // group], value[:visible, head // group]
            weights = [math.exp(scale * float(query[i, head] @ k)) for k in keys]
            mean = sum(w * v for w, v in zip(weights, values, strict=True))
            out[i, head] = mean / sum(weights)
    return out


class TestSoftmax:
    @settings(deadline=None)
    @given(
        scores=st.lists(st.floats(-1e4, 1e4), min_size=1, max_size=8),
        shift=st.sampled_from([-1e4, 0.0, 1e4]),
    )
    def test_is_finite_adds_to_one_and_ignores_a_shift(
        self, scores: list[float], shift: float
    ) -> None:
        row = torch.tensor(scores, dtype=torch.float64)
        weights = softmax(row + shift)
        assert weights.isfinite().all()
        assert float(weights.sum()) == pytest.approx(1.0)
        torch.testing.assert_close(weights, torch.softmax(row, dim=0))

    def test_works_along_the_last_dimension(self) -> None:
        scores = _randn(3, 4, 5)
        torch.testing.assert_close(softmax(scores), torch.softmax(scores, dim=-1))


class TestDenseAttention:
    @pytest.mark.parametrize("num_queries", [1, 3, 7])
    @pytest.mark.parametrize("group", [1, 3])
    def test_agrees_with_the_definition(self, num_queries: int, group: int) -> None:
        query = _randn(num_queries, 2 * group, 8)
        key, value = _randn(7, 2, 8, seed=1), _randn(7, 2, 8, seed=2)
        expected = _by_definition(query, key, value, scale=1 / math.sqrt(8))
        torch.testing.assert_close(dense_attention(query, key, value), expected)

    def test_takes_a_scale(self) -> None:
        query, key, value = _randn(2, 1, 8), _randn(5, 1, 8, seed=1), _randn(5, 1, 8, seed=2)
        expected = _by_definition(query, key, value, scale=0.5)
        torch.testing.assert_close(dense_attention(query, key, value, scale=0.5), expected)

    @settings(deadline=None)
    @given(cut=st.integers(1, 8))
    def test_a_prompt_in_two_chunks_is_the_prompt_in_one(self, cut: int) -> None:
        query, key, value = _randn(9, 2, 4), _randn(9, 1, 4, seed=1), _randn(9, 1, 4, seed=2)
        chunks = [
            dense_attention(query[:cut], key[:cut], value[:cut]),
            dense_attention(query[cut:], key, value),
        ]
        torch.testing.assert_close(torch.cat(chunks), dense_attention(query, key, value))

    @pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
    def test_narrow_types_are_summed_in_32_bits(self, dtype: torch.dtype) -> None:
        # In bfloat16, adding 1 to 256 changes nothing: the sum would stop there.
        key, value = torch.zeros(1000, 1, 4, dtype=dtype), torch.ones(1000, 1, 4, dtype=dtype)
        out = dense_attention(torch.zeros(1, 1, 4, dtype=dtype), key, value)
        assert out.dtype == dtype
        assert out.tolist() == [[[1.0] * 4]]

    @pytest.mark.parametrize(
        ("query", "key", "value", "message"),
        [
            ((3, 2, 8), (2, 2, 8), (2, 2, 8), "3 queries but only 2 keys"),
            ((1, 3, 8), (4, 2, 8), (4, 2, 8), "multiple of the KV heads"),
            ((1, 2, 4), (4, 2, 8), (4, 2, 8), "head_dim must be equal"),
            ((1, 2, 8), (4, 2, 8), (5, 2, 8), "both are"),
        ],
    )
    def test_shapes_that_do_not_fit(
        self, query: tuple[int, ...], key: tuple[int, ...], value: tuple[int, ...], message: str
    ) -> None:
        with pytest.raises(ValueError, match=message):
            dense_attention(torch.zeros(query), torch.zeros(key), torch.zeros(value))


class TestSoftmaxState:
    QUERY = _randn(4, 8)
    KEY, VALUE = _randn(20, 2, 8, seed=1) * 30, _randn(20, 2, 8, seed=2)

    def _state(self, keys: slice) -> SoftmaxState:
        return partial_attention(self.QUERY, self.KEY[keys], self.VALUE[keys])

    @settings(deadline=None)
    @given(cuts=st.sets(st.integers(1, 19), max_size=5), order=st.randoms(use_true_random=False))
    def test_any_pieces_in_any_order_give_the_whole(self, cuts: set[int], order: Random) -> None:
        bounds = [0, *sorted(cuts), 20]
        pieces = [slice(a, b) for a, b in pairwise(bounds)]
        order.shuffle(pieces)
        state = SoftmaxState.empty(self.QUERY)
        for piece in pieces:
            state = merge_states(state, self._state(piece))
        expected = dense_attention(self.QUERY[None], self.KEY, self.VALUE)[0]
        torch.testing.assert_close(state.output(), expected)

    def test_merging_is_associative_and_commutative(self) -> None:
        a, b, c = (self._state(piece) for piece in (slice(0, 3), slice(3, 11), slice(11, 20)))
        left = merge_states(merge_states(a, b), c)
        right = merge_states(a, merge_states(c, b))
        for name in ("max_score", "denominator", "numerator"):
            torch.testing.assert_close(getattr(left, name), getattr(right, name))

    def test_the_empty_state_changes_nothing(self) -> None:
        empty, state = SoftmaxState.empty(self.QUERY), self._state(slice(0, 5))
        for merged in (merge_states(empty, state), merge_states(state, empty)):
            torch.testing.assert_close(merged.numerator, state.numerator)
        nothing = merge_states(empty, empty)
        assert nothing.denominator.tolist() == [0.0] * 4
        assert nothing.max_score.tolist() == [-math.inf] * 4

    def test_huge_scores_stay_finite(self) -> None:
        state = partial_attention(self.QUERY * 1e4, self.KEY, self.VALUE)
        assert state.output().isfinite().all()

    def test_no_keys(self) -> None:
        with pytest.raises(ValueError, match="there are no keys"):
            self._state(slice(0, 0))
        with pytest.raises(ValueError, match="no key was seen"):
            SoftmaxState.empty(self.QUERY).output()

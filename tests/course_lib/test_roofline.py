"""FLOP and bytes of a forward pass against a count matrix product by matrix product."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from course_lib.roofline import (
    arithmetic_intensity,
    forward_flops,
    is_memory_bound,
    kv_bytes_moved,
)
from course_lib.specs import GPUS, MODELS, ModelSpec

LLAMA = MODELS["llama-3.1-8b"]
LLAMA_INTERMEDIATE, LLAMA_VOCAB = 14_336, 128_256


def _matmul(rows: int, inner: int, columns: int) -> int:
    """FLOP of a (rows x inner) by (inner x columns) product: a multiply and an add per term."""
    return 2 * rows * inner * columns


def _llama_flops(new: int, cached: int) -> int:
    """FLOP of Llama-3.1-8B, every matrix product of it written down."""
    hidden, heads, kv_heads, head_dim = 4096, 32, 8, 128
    projections = _matmul(new, hidden, heads * head_dim) + _matmul(new, heads * head_dim, hidden)
    projections += 2 * _matmul(new, hidden, kv_heads * head_dim)
    attention = 0
    for position in range(cached, cached + new):
        scores = _matmul(1, head_dim, position + 1)
        weighted_values = _matmul(1, position + 1, head_dim)
        attention += heads * (scores + weighted_values)
    mlp = 2 * _matmul(new, hidden, LLAMA_INTERMEDIATE) + _matmul(new, LLAMA_INTERMEDIATE, hidden)
    return 32 * (projections + attention + mlp) + _matmul(new, hidden, LLAMA_VOCAB)


@pytest.mark.parametrize(("new", "cached"), [(1, 0), (1, 999), (1000, 0), (7, 5), (512, 1536)])
def test_forward_flops_are_the_matrix_products(new: int, cached: int) -> None:
    # Counting 2 FLOP for every parameter includes those that only look up or scale: the input
    # embedding and the norms (two in each layer, one at the end).
    not_multiplied = LLAMA_VOCAB * 4096 + (2 * 32 + 1) * 4096
    assert forward_flops(LLAMA, new, cached) - 2 * not_multiplied * new == _llama_flops(new, cached)
    assert forward_flops(LLAMA, new, cached) == pytest.approx(_llama_flops(new, cached), rel=0.08)


@given(new=st.integers(1, 300), cached=st.integers(0, 300), split=st.integers(0, 300))
def test_a_prompt_costs_the_same_flops_in_two_chunks(new: int, cached: int, split: int) -> None:
    first = min(split, new)
    chunks = forward_flops(LLAMA, first, cached) + forward_flops(LLAMA, new - first, cached + first)
    assert chunks == forward_flops(LLAMA, new, cached)


def test_kv_bytes_moved_are_reads_of_the_old_and_writes_of_the_new() -> None:
    assert kv_bytes_moved(LLAMA, new_tokens=0, cached_tokens=10) == 10 * 131_072
    assert kv_bytes_moved(LLAMA, new_tokens=3, cached_tokens=10) == 13 * 131_072


@pytest.mark.parametrize("batch_size", [1, 2, 64])
def test_weights_are_read_once_for_a_batch(batch_size: int) -> None:
    flops = batch_size * forward_flops(LLAMA, 1, 1023)
    moved = LLAMA.weight_bytes + batch_size * kv_bytes_moved(LLAMA, 1, 1023)
    assert arithmetic_intensity(LLAMA, 1, 1023, batch_size) == pytest.approx(flops / moved)


def test_decode_intensity_levels_off_at_that_of_attention() -> None:
    # For the 2·d numbers of 2 bytes that a KV head keeps of a token, its g query heads compute
    # 4·g·d FLOP: g FLOP per byte. The matrix products of one token come on top.
    cached = 100_000
    limit = arithmetic_intensity(LLAMA, 1, cached, batch_size=10**9)
    weights_part = 2 * LLAMA.num_params / kv_bytes_moved(LLAMA, 1, cached)
    group = LLAMA.num_attention_heads / LLAMA.num_kv_heads
    assert limit == pytest.approx(group + weights_part, rel=1e-3)


def test_prefill_waits_for_arithmetic_and_decode_for_memory() -> None:
    for gpu in GPUS.values():
        assert is_memory_bound(arithmetic_intensity(LLAMA, 1, 1024), gpu)
        assert is_memory_bound(arithmetic_intensity(LLAMA, 1, 1024, batch_size=32), gpu)
        assert not is_memory_bound(arithmetic_intensity(LLAMA, 2048), gpu)


def test_the_ridge_itself_is_not_memory_bound() -> None:
    gpu = GPUS["h100"]
    assert not is_memory_bound(gpu.ridge_point, gpu)
    assert is_memory_bound(gpu.ridge_point * 0.999, gpu)


def test_intensity_of_one_decoded_token_is_near_one_flop_per_byte() -> None:
    short = ModelSpec("no KV to speak of", 1, 64, 1, 1, 1, num_params=10**9)
    assert arithmetic_intensity(short, 1) == pytest.approx(1.0, rel=1e-3)


@pytest.mark.parametrize(("new", "batch_size"), [(0, 1), (1, 0), (-1, 1)])
def test_a_pass_computes_something(new: int, batch_size: int) -> None:
    with pytest.raises(ValueError, match="each must be at least 1"):
        arithmetic_intensity(LLAMA, new, 0, batch_size)

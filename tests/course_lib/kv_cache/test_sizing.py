"""KV bytes, capacity and cost against published and measured figures."""

import json
import math
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from course_lib.kv_cache import (
    cost_per_million_tokens,
    kv_bytes_per_block,
    kv_bytes_per_token,
    max_concurrent_sequences,
    num_kv_blocks,
)
from course_lib.simulation import traces_dir
from course_lib.specs import GPUS, MODELS, GiB, GPUSpec, ModelSpec


@pytest.mark.parametrize(
    ("key", "bytes_per_token"),
    [
        ("opt-13b", 819_200),
        ("llama-2-7b", 524_288),
        ("llama-2-13b", 819_200),
        ("llama-2-70b", 327_680),
        ("llama-3.1-70b", 327_680),
        ("llama-3.1-8b", 131_072),
        ("mixtral-8x7b", 131_072),
        ("mistral-7b", 131_072),
        ("mistral-nemo", 163_840),
        ("qwen3-14b", 163_840),
        ("codellama-34b", 196_608),
        ("yi-34b", 245_760),
        ("qwen2.5-7b", 57_344),
        ("qwen3-32b", 262_144),
        ("qwen3-30b-a3b", 98_304),
    ],
)
def test_bytes_per_token_in_16_bits(key: str, bytes_per_token: int) -> None:
    assert kv_bytes_per_token(MODELS[key]) == bytes_per_token


def test_every_model_of_the_catalogue_is_checked_above() -> None:
    marks = test_bytes_per_token_in_16_bits.pytestmark  # type: ignore[attr-defined]
    assert {key for key, _ in marks[0].args[1]} == set(MODELS)


def test_bytes_per_token_follow_the_kv_heads_and_the_size_of_a_number() -> None:
    shape = {"num_layers": 3, "hidden_size": 64, "num_attention_heads": 8, "num_params": 1}
    gqa = ModelSpec("gqa", num_kv_heads=2, head_dim=16, **shape)
    assert kv_bytes_per_token(gqa) == 3 * (2 * 16 + 2 * 16) * 2
    fp32 = ModelSpec("fp32", num_kv_heads=2, head_dim=16, dtype_bytes=4, **shape)
    assert kv_bytes_per_token(fp32) == 2 * kv_bytes_per_token(gqa)


def test_slots_of_the_paged_attention_paper() -> None:
    # Table 1: OPT-13B with 12 GB for the KV cache has 15.7K slots.
    assert 12 * GiB // kv_bytes_per_token(MODELS["opt-13b"]) == 15_728


@pytest.mark.parametrize("block_size", [1, 16, 128])
def test_a_block_is_its_tokens(block_size: int) -> None:
    for model in MODELS.values():
        assert kv_bytes_per_block(model, block_size) == block_size * kv_bytes_per_token(model)


def test_a_block_holds_at_least_one_token() -> None:
    with pytest.raises(ValueError, match="block_size is 0"):
        kv_bytes_per_block(MODELS["opt-13b"], 0)


def test_blocks_of_the_measured_run() -> None:
    # vLLM 0.19.0 with Llama-3.1-8B on an RTX 4090 reported 2,588 blocks of 16 tokens.
    blocks = num_kv_blocks(
        MODELS["llama-3.1-8b"], GPUS["rtx-4090"], block_size=16, gpu_memory_utilization=0.833919
    )
    assert blocks == 2_588


def test_the_measured_run_used_that_share_of_the_memory() -> None:
    folder = traces_dir()
    path = (folder or Path()) / "vllm_run_rtx4090" / "config.json"
    if folder is None or not path.is_file():
        pytest.skip("needs the measured run; set COURSE_TRACES to a folder that has it")
    instance = json.loads(path.read_text())["nodes"][0]["instances"][0]
    assert instance["model_name"].endswith("Llama-3.1-8B")
    assert instance["hardware"] == "RTX4090"
    assert instance["npu_mem"]["mem_util"] == 0.833919
    assert instance["npu_mem"]["mem_size"] * GiB == GPUS["rtx-4090"].memory_bytes


@given(
    block_size=st.sampled_from([1, 8, 16, 32]),
    utilization=st.floats(0.5, 1.0),
    activations=st.integers(0, 4 * GiB),
)
def test_blocks_fill_what_the_weights_and_activations_leave(
    block_size: int, utilization: float, activations: int
) -> None:
    model, gpu = MODELS["llama-3.1-8b"], GPUS["a100-80gb"]
    blocks = num_kv_blocks(model, gpu, block_size, utilization, activations)
    budget = math.floor(gpu.memory_bytes * utilization) - model.weight_bytes - activations
    bytes_per_block = kv_bytes_per_block(model, block_size)
    assert blocks * bytes_per_block <= budget < (blocks + 1) * bytes_per_block


@pytest.mark.parametrize("utilization", [0.0, -0.5, 1.01, float("nan")])
def test_memory_utilization_is_a_share(utilization: float) -> None:
    with pytest.raises(ValueError, match="gpu_memory_utilization is"):
        num_kv_blocks(MODELS["opt-13b"], GPUS["h100"], gpu_memory_utilization=utilization)


def test_no_room_for_one_block_is_an_error() -> None:
    with pytest.raises(ValueError, match="less than one block"):
        num_kv_blocks(MODELS["llama-3.1-70b"], GPUS["h100"])
    model = MODELS["llama-3.1-8b"]
    exactly_one = model.weight_bytes + kv_bytes_per_block(model, 16)
    fits = GPUSpec("just enough", exactly_one, 1.0, 1.0)
    assert num_kv_blocks(model, fits, gpu_memory_utilization=1.0) == 1
    too_small = GPUSpec("one byte less", exactly_one - 1, 1.0, 1.0)
    with pytest.raises(ValueError, match="less than one block"):
        num_kv_blocks(model, too_small, gpu_memory_utilization=1.0)


@pytest.mark.parametrize(
    ("tokens", "sequences"), [(1, 100), (16, 100), (17, 50), (100, 14), (1600, 1), (1601, 0)]
)
def test_a_sequence_takes_whole_blocks(tokens: int, sequences: int) -> None:
    assert max_concurrent_sequences(100, 16, tokens) == sequences


def test_a_sequence_has_at_least_one_token() -> None:
    with pytest.raises(ValueError, match="tokens_per_sequence is 0"):
        max_concurrent_sequences(100, 16, 0)


def test_cost_of_a_million_tokens() -> None:
    assert cost_per_million_tokens(2.0, 500.0) == pytest.approx(2.0 * (1e6 / 500) / 3600)
    with pytest.raises(ValueError, match="tokens_per_second is 0"):
        cost_per_million_tokens(2.0, 0)

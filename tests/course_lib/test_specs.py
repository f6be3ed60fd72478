"""Model and GPU specifications: the catalogue, and reading a Hugging Face config.json."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from course_lib.specs import GPUS, MODELS, GiB, GPUSpec, ModelSpec

# Fields of the published config.json files, as far as they decide the shape.
PUBLISHED: dict[str, dict[str, Any]] = {
    "llama-2-7b": {
        "model_type": "llama",
        "hidden_size": 4096,
        "intermediate_size": 11008,
        "num_hidden_layers": 32,
        "num_attention_heads": 32,
        "num_key_value_heads": 32,
        "vocab_size": 32000,
        "tie_word_embeddings": False,
        "torch_dtype": "float16",
    },
    "llama-2-13b": {
        "model_type": "llama",
        "hidden_size": 5120,
        "intermediate_size": 13824,
        "num_hidden_layers": 40,
        "num_attention_heads": 40,
        "num_key_value_heads": 40,
        "vocab_size": 32000,
        "tie_word_embeddings": False,
        "torch_dtype": "float16",
    },
    "llama-2-70b": {
        "model_type": "llama",
        "hidden_size": 8192,
        "intermediate_size": 28672,
        "num_hidden_layers": 80,
        "num_attention_heads": 64,
        "num_key_value_heads": 8,
        "vocab_size": 32000,
        "tie_word_embeddings": False,
        "torch_dtype": "float16",
    },
    "llama-3.1-8b": {
        "model_type": "llama",
        "attention_bias": False,
        "hidden_size": 4096,
        "intermediate_size": 14336,
        "mlp_bias": False,
        "num_hidden_layers": 32,
        "num_attention_heads": 32,
        "num_key_value_heads": 8,
        "vocab_size": 128256,
        "tie_word_embeddings": False,
        "torch_dtype": "bfloat16",
    },
    "llama-3.1-70b": {
        "model_type": "llama",
        "attention_bias": False,
        "hidden_size": 8192,
        "intermediate_size": 28672,
        "mlp_bias": False,
        "num_hidden_layers": 80,
        "num_attention_heads": 64,
        "num_key_value_heads": 8,
        "vocab_size": 128256,
        "tie_word_embeddings": False,
        "torch_dtype": "bfloat16",
    },
    "codellama-34b": {
        "model_type": "llama",
        "hidden_size": 8192,
        "intermediate_size": 22016,
        "num_hidden_layers": 48,
        "num_attention_heads": 64,
        "num_key_value_heads": 8,
        "vocab_size": 32000,
        "tie_word_embeddings": False,
        "torch_dtype": "bfloat16",
    },
    "yi-34b": {
        "model_type": "llama",
        "hidden_size": 7168,
        "intermediate_size": 20480,
        "num_hidden_layers": 60,
        "num_attention_heads": 56,
        "num_key_value_heads": 8,
        "vocab_size": 64000,
        "tie_word_embeddings": False,
        "torch_dtype": "bfloat16",
    },
    "mistral-7b": {
        "model_type": "mistral",
        "hidden_size": 4096,
        "intermediate_size": 14336,
        "num_hidden_layers": 32,
        "num_attention_heads": 32,
        "num_key_value_heads": 8,
        "vocab_size": 32000,
        "tie_word_embeddings": False,
        "torch_dtype": "bfloat16",
    },
    "mistral-nemo": {
        "model_type": "mistral",
        "head_dim": 128,  # not 5120 / 32 = 160
        "hidden_size": 5120,
        "intermediate_size": 14336,
        "num_hidden_layers": 40,
        "num_attention_heads": 32,
        "num_key_value_heads": 8,
        "vocab_size": 131072,
        "tie_word_embeddings": False,
        "torch_dtype": "bfloat16",
    },
    "mixtral-8x7b": {
        "model_type": "mixtral",
        "hidden_size": 4096,
        "intermediate_size": 14336,
        "num_experts_per_tok": 2,
        "num_hidden_layers": 32,
        "num_attention_heads": 32,
        "num_key_value_heads": 8,
        "num_local_experts": 8,
        "vocab_size": 32000,
        "tie_word_embeddings": False,
        "torch_dtype": "bfloat16",
    },
    "qwen2.5-7b": {
        "model_type": "qwen2",
        "hidden_size": 3584,
        "intermediate_size": 18944,
        "num_hidden_layers": 28,
        "num_attention_heads": 28,
        "num_key_value_heads": 4,
        "vocab_size": 152064,
        "tie_word_embeddings": False,
        "torch_dtype": "bfloat16",
    },
    "qwen3-14b": {
        "model_type": "qwen3",
        "attention_bias": False,
        "head_dim": 128,
        "hidden_size": 5120,
        "intermediate_size": 17408,
        "num_hidden_layers": 40,
        "num_attention_heads": 40,
        "num_key_value_heads": 8,
        "vocab_size": 151936,
        "tie_word_embeddings": False,
        "torch_dtype": "bfloat16",
    },
    "qwen3-32b": {
        "model_type": "qwen3",
        "attention_bias": False,
        "head_dim": 128,  # not 5120 / 64 = 80
        "hidden_size": 5120,
        "intermediate_size": 25600,
        "num_hidden_layers": 64,
        "num_attention_heads": 64,
        "num_key_value_heads": 8,
        "vocab_size": 151936,
        "tie_word_embeddings": False,
        "torch_dtype": "bfloat16",
    },
    "qwen3-30b-a3b": {
        "model_type": "qwen3_moe",
        "attention_bias": False,
        "head_dim": 128,  # not 2048 / 32 = 64
        "hidden_size": 2048,
        "intermediate_size": 6144,
        "moe_intermediate_size": 768,
        "num_experts": 128,
        "num_experts_per_tok": 8,
        "num_hidden_layers": 48,
        "num_attention_heads": 32,
        "num_key_value_heads": 4,
        "vocab_size": 151936,
        "tie_word_embeddings": False,
        "torch_dtype": "bfloat16",
    },
}

SMALL: dict[str, Any] = {
    "model_type": "llama",
    "hidden_size": 64,
    "intermediate_size": 160,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "vocab_size": 100,
}


@pytest.mark.parametrize("key", PUBLISHED)
def test_a_published_configuration_gives_the_shape_and_parameters_of_the_catalogue(
    key: str,
) -> None:
    read, known = ModelSpec.from_hf_config(PUBLISHED[key]), MODELS[key]
    for field in (
        "num_layers",
        "hidden_size",
        "num_attention_heads",
        "num_kv_heads",
        "head_dim",
        "num_params",
        "dtype_bytes",
    ):
        assert getattr(read, field) == getattr(known, field), field


@pytest.mark.parametrize("key", ["qwen3-14b", "qwen3-32b", "qwen3-30b-a3b", "mistral-nemo"])
def test_head_dim_is_read_not_divided(key: str) -> None:
    assert MODELS[key].head_dim == 128
    without = {name: value for name, value in PUBLISHED[key].items() if name != "head_dim"}
    divided = PUBLISHED[key]["hidden_size"] // PUBLISHED[key]["num_attention_heads"]
    assert ModelSpec.from_hf_config(without).head_dim == divided


def test_head_dim_absent_or_null_means_hidden_size_per_head() -> None:
    assert ModelSpec.from_hf_config(SMALL).head_dim == 16
    assert ModelSpec.from_hf_config(SMALL | {"head_dim": None}).head_dim == 16
    assert ModelSpec.from_hf_config(SMALL | {"head_dim": 32}).head_dim == 32


def test_without_num_key_value_heads_each_query_head_has_its_own() -> None:
    before_gqa = {name: value for name, value in SMALL.items() if name != "num_key_value_heads"}
    assert ModelSpec.from_hf_config(before_gqa).num_kv_heads == 4
    assert ModelSpec.from_hf_config(SMALL | {"num_key_value_heads": None}).num_kv_heads == 4


@pytest.mark.parametrize(
    ("fields", "dtype_bytes"),
    [
        ({}, 2),
        ({"torch_dtype": "float16"}, 2),
        ({"dtype": "bfloat16"}, 2),
        ({"torch_dtype": "float32"}, 4),
        ({"dtype": "torch.float32"}, 4),
        ({"dtype": None, "torch_dtype": "float32"}, 4),
        ({"dtype": "float8_e4m3fn"}, 1),
    ],
)
def test_dtype_is_read_under_its_old_and_its_new_name(
    fields: dict[str, str], dtype_bytes: int
) -> None:
    assert ModelSpec.from_hf_config(SMALL | fields).dtype_bytes == dtype_bytes


def test_parameters_of_a_small_decoder_counted_by_hand() -> None:
    # Query and output projections are 64 x 64; key and value projections 64 x 32.
    attention = 2 * 64 * 64 + 2 * 64 * 32
    mlp = 3 * 64 * 160
    norms = 2 * 64
    embeddings, final_norm = 100 * 64, 64
    untied = 2 * (attention + mlp + norms) + 2 * embeddings + final_norm
    assert ModelSpec.from_hf_config(SMALL).num_params == untied
    tied = ModelSpec.from_hf_config(SMALL | {"tie_word_embeddings": True})
    assert tied.num_params == untied - embeddings


def test_a_multimodal_configuration_keeps_the_decoder_one_level_down() -> None:
    nested = {"model_type": "llava", "vision_config": {"hidden_size": 1024}, "text_config": SMALL}
    assert ModelSpec.from_hf_config(nested) == ModelSpec.from_hf_config(SMALL)


def test_a_folder_and_its_config_json_read_the_same(tmp_path: Path) -> None:
    folder = tmp_path / "my-model"
    folder.mkdir()
    file = folder / "config.json"
    file.write_text(json.dumps(SMALL), encoding="utf-8")
    from_folder = ModelSpec.from_hf_config(folder)
    assert from_folder == ModelSpec.from_hf_config(file) == ModelSpec.from_hf_config(str(file))
    assert from_folder.name == "my-model"
    assert from_folder.num_params == ModelSpec.from_hf_config(SMALL).num_params


def test_multi_head_latent_attention_is_refused_with_the_reason() -> None:
    deepseek = SMALL | {"model_type": "deepseek_v3", "kv_lora_rank": 512, "qk_rope_head_dim": 64}
    with pytest.raises(ValueError, match=r"latent attention.*one compressed vector per token"):
        ModelSpec.from_hf_config(deepseek)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"no config\.json at .*nowhere"):
        ModelSpec.from_hf_config(tmp_path / "nowhere")
    with pytest.raises(FileNotFoundError, match=r"config\.json"):
        ModelSpec.from_hf_config(tmp_path)


@pytest.mark.parametrize("content", [b"", b"{", b"<html>", b"\xff\xfe\x00"])
def test_a_file_that_is_not_json_is_named(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "config.json").write_bytes(content)
    with pytest.raises(ValueError, match=r"config\.json is not JSON"):
        ModelSpec.from_hf_config(tmp_path)


def test_a_json_file_that_is_not_an_object_is_refused(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("[1, 2]", encoding="utf-8")
    with pytest.raises(ValueError, match="holds a list"):
        ModelSpec.from_hf_config(tmp_path)


@pytest.mark.parametrize("key", ["num_hidden_layers", "hidden_size", "num_attention_heads"])
def test_a_missing_field_is_named(key: str) -> None:
    config = {name: value for name, value in SMALL.items() if name != key}
    with pytest.raises(ValueError, match=f"has no '{key}'"):
        ModelSpec.from_hf_config(config)


@pytest.mark.parametrize("value", [-1, 0, 2.5, "32", True])
@pytest.mark.parametrize("key", ["num_hidden_layers", "num_key_value_heads", "head_dim"])
def test_a_field_that_is_not_a_positive_whole_number_is_named(key: str, value: object) -> None:
    with pytest.raises(ValueError, match=f"^{key} is "):
        ModelSpec.from_hf_config(SMALL | {key: value})


def test_query_heads_must_share_kv_heads_evenly() -> None:
    with pytest.raises(ValueError, match="4 query heads cannot share 3 KV heads"):
        ModelSpec.from_hf_config(SMALL | {"num_key_value_heads": 3})


def test_an_unknown_dtype_is_refused() -> None:
    with pytest.raises(ValueError, match="unknown dtype 'int4'"):
        ModelSpec.from_hf_config(SMALL | {"torch_dtype": "int4"})


def test_specs_refuse_what_is_not_positive() -> None:
    with pytest.raises(ValueError, match=r"ModelSpec\.num_layers is -1"):
        ModelSpec("broken", -1, 64, 4, 2, 16, 1000)
    with pytest.raises(ValueError, match=r"GPUSpec\.memory_bandwidth is 0"):
        GPUSpec("broken", 80 * GiB, 0.0, 1e12)
    with pytest.raises(ValueError, match=r"GPUSpec\.peak_flops is nan"):
        GPUSpec("broken", 80 * GiB, 1e12, float("nan"))


@pytest.mark.parametrize(
    ("key", "billions"),
    [("llama-2-7b", 6.74), ("llama-3.1-8b", 8.03), ("llama-3.1-70b", 70.6), ("opt-13b", 12.9)],
)
def test_catalogue_sizes_are_those_on_the_model_cards(key: str, billions: float) -> None:
    assert MODELS[key].num_params == pytest.approx(billions * 1e9, rel=0.005)


def test_opt_13b_parameters_from_its_published_shape() -> None:
    # OPT has biases, LayerNorms with two vectors, 2,048 + 2 learned positions, tied embeddings.
    hidden, ffn, layers, vocab, positions = 5120, 20480, 40, 50272, 2050
    attention = 4 * (hidden * hidden + hidden)
    mlp = hidden * ffn + ffn + ffn * hidden + hidden
    norms = 2 * 2 * hidden
    total = layers * (attention + mlp + norms) + (vocab + positions) * hidden + 2 * hidden
    assert MODELS["opt-13b"].num_params == total


@pytest.mark.parametrize(
    ("key", "memory_gib", "terabytes_per_second", "teraflops"),
    [
        ("a100-40gb", 40, 1.555, 312),
        ("a100-80gb", 80, 2.039, 312),
        ("h100", 80, 3.35, 989),
        ("h200", 141, 4.8, 989),
        ("l4", 24, 0.300, 121),
        ("rtx-4090", 24, 1.008, 165.2),
    ],
)
def test_gpus_have_the_figures_of_their_data_sheets(
    key: str, memory_gib: int, terabytes_per_second: float, teraflops: float
) -> None:
    gpu = GPUS[key]
    assert gpu.memory_bytes == memory_gib * GiB
    assert gpu.memory_bandwidth == pytest.approx(terabytes_per_second * 1e12)
    assert gpu.peak_flops == pytest.approx(teraflops * 1e12)
    assert gpu.ridge_point == pytest.approx(teraflops / terabytes_per_second)


def test_an_unknown_name_suggests_the_nearest() -> None:
    with pytest.raises(KeyError, match=r"did you mean 'llama-3\.1-8b'"):
        MODELS["Llama_3.1_8B"]
    with pytest.raises(KeyError, match="known: l4, rtx-4090"):
        GPUS["abacus"]


def test_an_input_embedding_is_looked_up_unless_it_is_the_output_layer_too() -> None:
    assert MODELS["llama-3.1-8b"].embedding_params == 128_256 * 4096
    assert MODELS["opt-13b"].embedding_params is None
    assert ModelSpec.from_hf_config(SMALL | {"tie_word_embeddings": True}).embedding_params is None
    for key, config in PUBLISHED.items():
        assert ModelSpec.from_hf_config(config).embedding_params == MODELS[key].embedding_params


def test_a_mixture_of_experts_knows_what_a_token_is_routed_to() -> None:
    for key, config in PUBLISHED.items():
        read, model = ModelSpec.from_hf_config(config), MODELS[key]
        assert (read.expert_params, read.expert_share) == (model.expert_params, model.expert_share)
    mixtral = MODELS["mixtral-8x7b"]
    assert mixtral.expert_params is not None
    # Published: 12.9 billion active parameters.
    assert mixtral.num_params - 0.75 * mixtral.expert_params == pytest.approx(12.9e9, rel=2e-3)
    assert MODELS["llama-3.1-8b"].expert_params is None
    with pytest.raises(ValueError, match="give both for a mixture of experts"):
        replace(mixtral, expert_share=None)
    with pytest.raises(ValueError, match=r"expert_share is 1\.5"):
        replace(mixtral, expert_share=1.5)

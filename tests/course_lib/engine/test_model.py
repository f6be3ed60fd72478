"""The model computes what transformers computes, for every family and switch."""

import json
import math
import random
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from course_lib.engine.checkpoint import load_checkpoint
from course_lib.engine.config import CheckpointError, LlamaConfig, UnsupportedCheckpointError
from course_lib.engine.model import LlamaModel, dense_causal, parameter_shapes, random_weights
from course_lib.engine.rotary import rope_frequencies

Save = Callable[..., Path]
Logits = Callable[[Path, list[int]], Tensor]

ORIGINAL = {"original_max_position_embeddings": 32}
LLAMA3 = {"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0}
YARN = {"rope_type": "yarn", "factor": 4.0} | ORIGINAL

VARIANTS: dict[str, tuple[str, dict[str, Any]]] = {
    "no_gqa": ("llama", {"num_key_value_heads": 4}),
    "tied": ("llama", {"tie_word_embeddings": True}),
    "biases": ("llama", {"attention_bias": True, "mlp_bias": True}),
    "head_dim": ("llama", {"head_dim": 32}),
    "eps": ("llama", {"rms_norm_eps": 0.1}),
    "theta": ("llama", {"rope_parameters": {"rope_type": "default", "rope_theta": 50.0}}),
    "linear": ("llama", {"rope_parameters": {"rope_type": "linear", "factor": 4.0}}),
    "dynamic": ("llama", {"rope_parameters": {"rope_type": "dynamic", "factor": 4.0}}),
    "llama3": ("llama", {"rope_parameters": LLAMA3 | ORIGINAL}),
    "yarn": ("qwen2", {"rope_parameters": YARN}),
    "yarn_mscale": (
        "llama",
        {"rope_parameters": YARN | {"mscale": 1.5, "mscale_all_dim": 0.5, "truncate": False}},
    ),
    "yarn_own_factor": (
        "llama",
        {"rope_parameters": YARN | {"attention_factor": 0.7, "beta_fast": 8.0, "beta_slow": 2.0}},
    ),
    "qwen3_bias": ("qwen3", {"attention_bias": True}),
    "qwen2_untied": ("qwen2", {"tie_word_embeddings": False}),
}


def text(num_tokens: int, seed: int = 0) -> list[int]:
    return random.Random(seed).choices(range(128), k=num_tokens)


@torch.inference_mode()
def dense_logits(model: LlamaModel, *texts: list[int]) -> Tensor:
    """Return the logits of every token of texts of equal length."""
    token_ids = torch.tensor(texts).flatten()
    positions = torch.arange(len(texts[0])).repeat(len(texts))
    return model.logits(model(token_ids, positions, dense_causal(len(texts))))


def require_close(got: Tensor, expected: Tensor) -> None:
    assert float(expected.std()) > 0.5  # logits that are all alike would be close to anything
    torch.testing.assert_close(got, expected, rtol=1e-4, atol=1e-4)


def require_same_logits(folder: Path, hf_logits: Logits) -> None:
    require_close(dense_logits(load_checkpoint(folder), text(200)), hf_logits(folder, text(200)))


class TestAgainstTransformers:
    def test_families(self, family: str, hf_checkpoint: Save, hf_logits: Logits) -> None:
        folder = hf_checkpoint(family)
        require_close(
            dense_logits(load_checkpoint(folder), text(200)), hf_logits(folder, text(200))
        )

    @pytest.mark.parametrize("variant", VARIANTS)
    def test_switches(self, variant: str, hf_checkpoint: Save, hf_logits: Logits) -> None:
        family, changes = VARIANTS[variant]
        folder = hf_checkpoint(family, **changes)
        require_close(
            dense_logits(load_checkpoint(folder), text(200)), hf_logits(folder, text(200))
        )

    @pytest.mark.parametrize("beside", [{}, {"original_max_position_embeddings": 512}])
    @pytest.mark.parametrize(
        "rope",
        [
            LLAMA3 | ORIGINAL,
            YARN,
            YARN | {"factor": None},
            YARN | dict.fromkeys(("attention_factor", "beta_fast", "beta_slow", "mscale")),
            {"rope_type": "default", "partial_rotary_factor": None},
        ],
    )
    def test_lengths_and_nulls_of_rope_are_read_as_there(
        self, rope: dict[str, Any], beside: dict[str, int]
    ) -> None:
        llama = pytest.importorskip("transformers.models.llama.modeling_llama")
        configuration = pytest.importorskip("transformers").LlamaConfig
        fields = TestConfig.FIELDS | {"max_position_embeddings": 2048} | beside
        fields |= {"rope_theta": 20_000.0}
        config = LlamaConfig.from_hf(fields | {"rope_scaling": dict(rope)})
        frequencies = rope_frequencies(config.head_dim, config.rope_theta, config.rope_scaling)
        del fields["model_type"]
        theirs = llama.LlamaRotaryEmbedding(configuration(**fields, rope_scaling=dict(rope)))
        torch.testing.assert_close(frequencies, theirs.inv_freq)
        scaling = config.rope_scaling
        factor = 1.0 if scaling is None else scaling.attention_factor
        assert factor == pytest.approx(theirs.attention_scaling)

    @pytest.mark.parametrize("scaling", [LLAMA3 | ORIGINAL, {"type": "linear", "factor": 4.0}])
    def test_rope_as_older_files_have_it(
        self, scaling: dict[str, Any], hf_checkpoint: Save, hf_logits: Logits, tmp_path: Path
    ) -> None:
        folder = shutil.copytree(hf_checkpoint("llama"), tmp_path / "older")
        fields = json.loads((folder / "config.json").read_text())
        del fields["rope_parameters"]
        fields |= {"rope_theta": 500.0, "rope_scaling": scaling}
        (folder / "config.json").write_text(json.dumps(fields))
        require_close(
            dense_logits(load_checkpoint(folder), text(100)), hf_logits(folder, text(100))
        )

    @pytest.mark.parametrize(
        "scaling",
        [
            {"rope_type": "linear", "factor": 4.0},
            {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 64},
            {"rope_type": "yarn", "factor": 4.0},
        ],
    )
    def test_a_stretched_model_is_exact_over_its_whole_length(
        self, hf_checkpoint: Save, hf_logits: Logits, scaling: dict[str, Any]
    ) -> None:
        folder = hf_checkpoint("llama", max_position_embeddings=64, rope_parameters=scaling)
        model = load_checkpoint(folder)
        assert model.config.max_model_len == 256
        require_close(dense_logits(model, text(256)), hf_logits(folder, text(256)))

    def test_a_window_is_exact_as_far_as_the_engine_goes(
        self, hf_checkpoint: Save, hf_logits: Logits
    ) -> None:
        folder = hf_checkpoint("mistral", sliding_window=40)
        model = load_checkpoint(folder)
        assert model.config.max_model_len == 40
        require_close(dense_logits(model, text(40)), hf_logits(folder, text(40)))
        beyond = dense_logits(model, text(41)) - hf_logits(folder, text(41))
        assert float(beyond[-1].abs().max()) > 1e-3

    def test_half_precision(self, family: str, hf_checkpoint: Save, hf_logits: Logits) -> None:
        folder = hf_checkpoint(family, dtype=torch.bfloat16)
        got = dense_logits(load_checkpoint(folder, dtype=torch.bfloat16), text(50))
        expected = hf_logits(folder, text(50))
        assert got.dtype == torch.float32
        assert float((got - expected).std() / expected.std()) < 0.03


def test_sequences_do_not_see_each_other(hf_checkpoint: Save) -> None:
    model = load_checkpoint(hf_checkpoint("llama"))
    texts = [text(9, seed) for seed in range(3)]
    alone = torch.cat([dense_logits(model, one) for one in texts])
    torch.testing.assert_close(dense_logits(model, *texts), alone)


def test_training_lowers_the_loss() -> None:
    config = LlamaConfig("llama", 16, 32, 64, 2, 2, 1, 16, tie_word_embeddings=True)
    model = LlamaModel(config, random_weights(config, seed=0))
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.01)
    tokens = torch.arange(32) % 16  # counting, over and over
    losses = []
    for _ in range(30):
        hidden = model(tokens[:-1], torch.arange(31), dense_causal(1))
        loss = torch.nn.functional.cross_entropy(model.logits(hidden), tokens[1:])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    assert losses[0] > 2.5
    assert losses[-1] < 0.5


def test_every_parameter_gets_a_gradient() -> None:
    config = LlamaConfig(
        "qwen3", 16, 32, 64, 1, 2, 1, 16, qk_norm=True, attention_bias=True, mlp_bias=True
    )
    model = LlamaModel(config, random_weights(config, seed=0))
    hidden = model(torch.arange(8), torch.arange(8), dense_causal(2))
    model.logits(hidden).square().sum().backward()
    assert {n for n, p in model.named_parameters() if p.grad is None} == set()


def test_positions_keep_32_bits_in_a_half_precision_model() -> None:
    config = LlamaConfig("llama", 16, 32, 64, 1, 2, 1, 16, max_position_embeddings=8192)
    model = LlamaModel(config, random_weights(config, seed=0)).to(torch.float16)
    tokens = torch.tensor([3, 4])

    def keys_at(first: int) -> Tensor:
        seen = []

        def attend(layer: int, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
            seen.append(key)
            return query

        model(tokens[:1], torch.tensor([first]), attend)
        return seen[0]

    assert not torch.equal(keys_at(4096), keys_at(4097))


class TestWeights:
    CONFIG = LlamaConfig("llama", 16, 32, 64, 1, 2, 1, 16)

    def test_the_same_seed_gives_the_same_numbers(self) -> None:
        first, again = random_weights(self.CONFIG, 1), random_weights(self.CONFIG, 1)
        assert all(torch.equal(first[name], again[name]) for name in first)
        other = random_weights(self.CONFIG, 2)
        assert not torch.equal(first["lm_head.weight"], other["lm_head.weight"])

    def test_weights_are_not_copied(self) -> None:
        weights = random_weights(self.CONFIG, 0)
        model = LlamaModel(self.CONFIG, weights)
        assert model.lm_head.weight.data_ptr() == weights["lm_head.weight"].data_ptr()

    def test_missing(self) -> None:
        weights = random_weights(self.CONFIG, 0)
        del weights["model.norm.weight"]
        with pytest.raises(ValueError, match=r"model\.norm\.weight is missing"):
            LlamaModel(self.CONFIG, weights)

    def test_one_too_many(self) -> None:
        weights = random_weights(self.CONFIG, 0) | {"extra": torch.zeros(1)}
        with pytest.raises(ValueError, match="extra is not part of this model"):
            LlamaModel(self.CONFIG, weights)

    def test_wrong_shape(self) -> None:
        weights = random_weights(self.CONFIG, 0) | {"lm_head.weight": torch.zeros(16, 31)}
        with pytest.raises(ValueError, match=r"is \[16, 31\]; .* it is \[16, 32\]"):
            LlamaModel(self.CONFIG, weights)

    def test_tied_embeddings_are_one_parameter(self) -> None:
        tied = LlamaConfig("llama", 16, 32, 64, 1, 2, 1, 16, tie_word_embeddings=True)
        assert "lm_head.weight" not in parameter_shapes(tied)
        assert "lm_head.weight" in parameter_shapes(self.CONFIG)


class TestConfig:
    FIELDS: dict[str, Any] = {  # noqa: RUF012 - never changed
        "model_type": "llama",
        "vocab_size": 128,
        "hidden_size": 64,
        "intermediate_size": 96,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
    }

    @pytest.mark.parametrize(
        ("changes", "message"),
        [
            ({"model_type": "gpt2"}, "model_type is 'gpt2'; .* llama, mistral, qwen2, qwen3"),
            ({"model_type": "qwen3_moe"}, "model_type is 'qwen3_moe'"),
            ({"model_type": None}, "model_type is None"),
            ({"architectures": ["LlamaForSequenceClassification"]}, "SequenceClassification"),
            ({"quantization_config": {"quant_method": "awq"}}, "quantization_config .*'awq'"),
            ({"hidden_act": "gelu"}, "hidden_act is 'gelu'; .* 'silu'"),
            ({"partial_rotary_factor": 0.5}, "partial_rotary_factor is 0.5"),
            ({"rope_scaling": {"type": "longrope"}}, "rope_type is 'longrope'"),
            ({"rope_scaling": {"type": "su"}}, "rope_type is 'su'"),
            ({"rope_scaling": {"type": "mrope"}}, "rope_type is 'mrope'"),
            ({"rope_scaling": {"type": "ntk", "factor": 2.0}}, "rope_type is 'ntk'"),
            ({"rope_scaling": {"rope_type": "Linear", "factor": 2}}, "rope_type is 'Linear'"),
            (
                {"rope_parameters": {"full_attention": {"rope_type": "yarn", "factor": 4.0}}},
                "rope_parameters is .* the same in every layer",
            ),
        ],
    )
    def test_unsupported(self, changes: dict[str, Any], message: str) -> None:
        with pytest.raises(UnsupportedCheckpointError, match=message):
            LlamaConfig.from_hf(self.FIELDS | changes)

    @pytest.mark.parametrize(
        ("changes", "message"),
        [
            ({"vocab_size": None}, "no 'vocab_size'"),
            ({"num_hidden_layers": -1}, "num_hidden_layers is -1"),
            ({"num_key_value_heads": 3}, "4 query heads cannot share 3 KV heads"),
            ({"head_dim": 15}, "head_dim is 15; .* even"),
            ({"rms_norm_eps": "small"}, "rms_norm_eps is 'small'"),
            ({"rope_theta": 0}, "rope_theta is 0"),
            ({"rope_scaling": {"rope_type": "linear"}}, "no 'factor'"),
            ({"rope_scaling": {"rope_type": "linear", "factor": "4"}}, "factor is '4'"),
            ({"rope_scaling": {"rope_type": "linear", "factor": math.nan}}, "factor is nan"),
            ({"rope_scaling": {"rope_type": "dynamic", "factor": -2.0}}, "factor is -2"),
            ({"rope_scaling": {"rope_type": "llama3", "factor": 8.0}}, "no 'low_freq_factor'"),
            ({"rope_scaling": [1]}, r"rope_scaling is \[1\]; it must be an object"),
            ({"rope_scaling": "linear"}, "rope_scaling is 'linear'; it must be an object"),
            ({"tie_word_embeddings": "false"}, "tie_word_embeddings is 'false'; it must be true"),
            ({"attention_bias": "no"}, "attention_bias is 'no'; it must be true or false"),
            ({"eos_token_id": "</s>"}, "eos_token_id is '</s>'"),
            ({"bos_token_id": -3}, "bos_token_id is -3"),
        ],
    )
    def test_out_of_range(self, changes: dict[str, Any], message: str) -> None:
        with pytest.raises(CheckpointError, match=message):
            LlamaConfig.from_hf(self.FIELDS | changes)

    def test_what_a_family_means_by_leaving_a_field_out(self) -> None:
        llama = LlamaConfig.from_hf(self.FIELDS)
        assert (llama.num_kv_heads, llama.head_dim, llama.eos_token_ids) == (4, 16, (2,))
        mistral = LlamaConfig.from_hf(
            self.FIELDS | {"model_type": "mistral"} | {"num_attention_heads": 8}
        )
        assert (mistral.num_kv_heads, mistral.sliding_window) == (8, 4096)
        assert (mistral.rms_norm_eps, mistral.rope_theta) == (1e-6, 10_000.0)
        qwen3 = LlamaConfig.from_hf(self.FIELDS | {"model_type": "qwen3"})
        assert (qwen3.head_dim, qwen3.eos_token_ids, qwen3.bos_token_id) == (128, (), None)

    @pytest.mark.parametrize(
        ("window", "expected"),
        [
            ({}, None),
            ({"use_sliding_window": True}, None),  # from layer 28 on, of 2
            ({"use_sliding_window": True, "max_window_layers": 1}, 4096),
            ({"use_sliding_window": False, "max_window_layers": 1}, None),
            ({"use_sliding_window": True, "max_window_layers": None}, None),
            ({"use_sliding_window": True, "layer_types": ["full_attention"] * 2}, None),
            ({"use_sliding_window": True, "layer_types": ["sliding_attention"] * 2}, 4096),
        ],
    )
    def test_windows_of_qwen(self, window: dict[str, Any], expected: int | None) -> None:
        config = LlamaConfig.from_hf(self.FIELDS | {"model_type": "qwen2"} | window)
        assert config.sliding_window == expected

    @pytest.mark.parametrize(
        ("changes", "longest"),
        [
            ({}, 32_768),
            ({"rope_scaling": {"type": "linear", "factor": 4.0}}, 131_072),
            ({"rope_scaling": {"rope_type": "linear", "factor": 2.5}}, 81_920),
            ({"rope_parameters": {"rope_type": "linear", "factor": 4.0}}, 131_072),
            # Somebody has stretched what a newer file has: transformers follows the older field.
            (
                {
                    "rope_parameters": {"rope_type": "default", "rope_theta": 1e4},
                    "rope_scaling": {"rope_type": "linear", "factor": 4.0},
                },
                131_072,
            ),
            # The original length times the factor, whatever the configuration has.
            (
                {
                    "rope_scaling": {
                        "type": "yarn",
                        "factor": 4.0,
                        "original_max_position_embeddings": 32_768,
                    }
                },
                131_072,
            ),
            ({"rope_scaling": {"rope_type": "yarn", "factor": 4.0}}, 131_072),
            (
                {
                    "max_position_embeddings": 131_072,
                    "rope_parameters": {
                        "rope_type": "yarn",
                        "factor": 4.0,
                        "original_max_position_embeddings": 32_768,
                    },
                },
                131_072,
            ),
            ({"rope_scaling": {"rope_type": "llama3"} | LLAMA3 | ORIGINAL}, 32_768),
            # Beyond, its frequencies would change with every token.
            ({"rope_scaling": {"rope_type": "dynamic", "factor": 4.0}}, 32_768),
            ({"rope_scaling": {"rope_type": "default"}}, 32_768),
            ({"rope_scaling": {"type": "linear", "factor": 4.0}, "sliding_window": 4096}, 4096),
        ],
    )
    def test_the_longest_sequence(self, changes: dict[str, Any], longest: int) -> None:
        family = "mistral" if "sliding_window" in changes else "llama"
        fields = self.FIELDS | {"model_type": family, "max_position_embeddings": 32_768}
        fields |= {"num_key_value_heads": 4}
        config = LlamaConfig.from_hf(fields | changes)
        assert config.max_model_len == longest
        assert LlamaConfig.from_hf(config.to_hf()).max_model_len == longest

    def test_generation_config_names_the_last_tokens(self, tmp_path: Path) -> None:
        (tmp_path / "config.json").write_text(json.dumps(self.FIELDS | {"eos_token_id": 5}))
        assert LlamaConfig.from_hf(tmp_path).eos_token_ids == (5,)
        (tmp_path / "generation_config.json").write_text('{"eos_token_id": [5, 9]}')
        assert LlamaConfig.from_hf(tmp_path).eos_token_ids == (5, 9)

    @pytest.mark.parametrize("variant", VARIANTS)
    def test_written_and_read_back(self, variant: str, hf_checkpoint: Save) -> None:
        family, changes = VARIANTS[variant]
        config = LlamaConfig.from_hf(hf_checkpoint(family, **changes))
        assert LlamaConfig.from_hf(config.to_hf()) == config

"""What a model and a GPU are, as far as serving is concerned: a handful of numbers each.

The catalogues ``MODELS`` and ``GPUS`` hold the ones that the course talks about. A model that is
not in the catalogue is read from its Hugging Face ``config.json``.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, fields
from difflib import get_close_matches
from pathlib import Path
from typing import Any, TypeVar

GiB = 2**30
"""Bytes in a gibibyte. GPU makers print "80 GB" on the box and mean 80 of these."""

# What a config.json means when it leaves a size out: the default of its class in transformers,
# as (vocab_size, intermediate_size).
_DEFAULT_SIZES = {
    "llama": (32_000, 11_008),
    "mistral": (32_000, 14_336),
    "mixtral": (32_000, 14_336),
    "qwen2": (151_936, 22_016),
    "qwen3": (151_936, 22_016),
    "qwen3_moe": (151_936, 6_144),
}

_DTYPE_BYTES = {"float32": 4, "float16": 2, "bfloat16": 2, "float8_e4m3fn": 1, "float8_e5m2": 1}


def _require_positive(spec: object) -> None:
    """Raise ValueError for the first number in the dataclass ``spec`` that is not positive."""
    for field in fields(spec):  # type: ignore[arg-type]
        value = getattr(spec, field.name)
        if isinstance(value, (int, float)) and not value > 0:
            raise ValueError(
                f"{type(spec).__name__}.{field.name} is {value!r}; it must be greater than 0"
            )


@dataclass(frozen=True)
class ModelSpec:
    """The shape of a decoder-only transformer.

    Attributes:
        name: What people call it.
        num_layers: Decoder layers; each keeps its own keys and values.
        hidden_size: Width of the residual stream.
        num_attention_heads: Query heads per layer.
        num_kv_heads: Key/value heads per layer. Fewer than query heads under grouped-query
            attention.
        head_dim: Width of one head. Often, but not always, ``hidden_size / num_attention_heads``.
        num_params: Parameters in all, embeddings included.
        dtype_bytes: Bytes per stored number: 2 for fp16 and bf16. Used for weights and KV cache
            alike.
        embedding_params: Those of the parameters that a token looks up and does not multiply with:
            the input embedding, unless it is the output layer too. None if not known.
        expert_params: In a mixture of experts, those of the parameters that belong to its experts,
            the ones that a token is not routed to included. None for a dense model.
        expert_share: Share of the experts of a layer that a token is routed to, from above 0 to 1.
            None for a dense model.

    Raises:
        ValueError: A number is not positive, query heads are not a multiple of KV heads,
            ``expert_share`` is above 1, or only one of it and ``expert_params`` is given.

    >>> MODELS["llama-3.1-8b"].num_kv_heads
    8
    """

    name: str
    num_layers: int
    hidden_size: int
    num_attention_heads: int
    num_kv_heads: int
    head_dim: int
    num_params: int
    dtype_bytes: int = 2
    embedding_params: int | None = None
    expert_params: int | None = None
    expert_share: float | None = None

    def __post_init__(self) -> None:
        _require_positive(self)
        if self.num_attention_heads % self.num_kv_heads:
            raise ValueError(
                f"{self.name}: {self.num_attention_heads} query heads cannot share "
                f"{self.num_kv_heads} KV heads evenly; use a divisor of the query heads"
            )
        if self.expert_share is not None and self.expert_share > 1:
            raise ValueError(
                f"{self.name}: expert_share is {self.expert_share}; a token is routed to a share "
                "of the experts, at most 1"
            )
        if (self.expert_params is None) != (self.expert_share is None):
            raise ValueError(
                f"{self.name}: expert_params is {self.expert_params} and expert_share is "
                f"{self.expert_share}; give both for a mixture of experts, and neither otherwise"
            )

    @property
    def weight_bytes(self) -> int:
        """Bytes that the weights take on the GPU.

        >>> round(MODELS["llama-3.1-8b"].weight_bytes / GiB, 1)
        15.0
        """
        return self.num_params * self.dtype_bytes

    @classmethod
    def from_hf_config(cls, config: Mapping[str, Any] | str | Path) -> ModelSpec:
        """Read the shape from a Hugging Face ``config.json``.

        Args:
            config: The parsed configuration, or the path of ``config.json`` or of the folder with
                it.

        Returns:
            The model's shape. Parameters are counted from the dimensions, for the Llama family
            (Llama, Mistral, Mixtral, Qwen2, Qwen3, Qwen3-MoE): RMSNorm, gated MLP, rotary
            positions.

        Raises:
            FileNotFoundError: There is no such file.
            ValueError: The file is not JSON, a field is missing, or the model does not keep one
                key and one value per KV head and token (multi-head latent attention, as in
                DeepSeek).

        >>> spec = ModelSpec.from_hf_config({
        ...     "model_type": "qwen3", "num_hidden_layers": 40, "hidden_size": 5120,
        ...     "num_attention_heads": 40, "num_key_value_heads": 8, "head_dim": 128,
        ...     "intermediate_size": 17408, "vocab_size": 151936})
        >>> spec.head_dim, spec.num_params
        (128, 14768307200)
        """
        if isinstance(config, (str, Path)):
            path = Path(config)
            path = path / "config.json" if path.is_dir() else path
            return cls.from_hf_config({"_name_or_path": path.parent.name} | read_json_object(path))
        # Multimodal checkpoints keep the language model's fields one level down.
        decoder: dict[str, Any] = {**config, **(config.get("text_config") or {})}
        if decoder.get("kv_lora_rank") is not None:
            raise ValueError(
                "multi-head latent attention (kv_lora_rank is set) caches one compressed vector "
                "per token and layer, not a key and a value per head, so 2 x layers x kv_heads x "
                "head_dim does not describe it; choose a model with MHA, GQA or MQA"
            )
        heads = positive_int(decoder, "num_attention_heads")
        hidden = positive_int(decoder, "hidden_size")
        dtype = str(decoder.get("dtype") or decoder.get("torch_dtype") or "bfloat16")
        dtype = dtype.removeprefix("torch.")
        if dtype not in _DTYPE_BYTES:
            raise ValueError(f"unknown dtype {dtype!r}; known: {', '.join(_DTYPE_BYTES)}")
        shape = {
            "num_layers": positive_int(decoder, "num_hidden_layers"),
            "hidden_size": hidden,
            "num_attention_heads": heads,
            # Configurations from before grouped-query attention do not have the field.
            "num_kv_heads": positive_int(decoder, "num_key_value_heads", default=heads),
            "head_dim": positive_int(decoder, "head_dim", default=hidden // heads),
        }
        expert_params, expert_share = _read_experts(decoder, shape["num_layers"], hidden)
        return cls(
            name=str(decoder.get("_name_or_path") or decoder.get("model_type") or "unnamed"),
            num_params=_count_params(decoder, **shape),
            dtype_bytes=_DTYPE_BYTES[dtype],
            embedding_params=_count_looked_up(decoder, hidden),
            expert_params=expert_params,
            expert_share=expert_share,
            **shape,
        )


@dataclass(frozen=True)
class GPUSpec:
    """One accelerator: how much it holds, how fast it reads, how fast it computes.

    Attributes:
        name: What people call it.
        memory_bytes: Bytes of device memory.
        memory_bandwidth: Bytes per second between device memory and the compute units, at best.
        peak_flops: Dense 16-bit floating-point operations per second, at best. Headline figures
            that assume structured sparsity are twice this.

    Raises:
        ValueError: A number is not positive.

    >>> round(GPUS["h100"].ridge_point)
    295
    """

    name: str
    memory_bytes: int
    memory_bandwidth: float
    peak_flops: float

    def __post_init__(self) -> None:
        _require_positive(self)

    @property
    def ridge_point(self) -> float:
        """FLOP per byte at which computing takes as long as reading (Williams et al., 2009)."""
        return self.peak_flops / self.memory_bandwidth


def read_json_object(path: Path) -> dict[str, Any]:
    """Parse the JSON object in ``path``.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: It does not hold a JSON object.
    """
    if not path.is_file():
        raise FileNotFoundError(f"no config.json at {path}; pass a checkpoint folder or the file")
    try:
        parsed = json.loads(path.read_text(encoding="utf-8"))
    except (UnicodeDecodeError, json.JSONDecodeError) as error:
        raise ValueError(f"{path} is not JSON: {error}; download the checkpoint again") from error
    if not isinstance(parsed, dict):
        raise ValueError(f"{path} holds a {type(parsed).__name__}; a config.json holds an object")
    return parsed


def positive_int(config: Mapping[str, Any], key: str, default: int | None = None) -> int:
    """Return ``config[key]``, or ``default`` when it is absent or null.

    Raises:
        ValueError: There is neither, or it is not a whole number greater than 0.

    >>> positive_int({"hidden_size": 64}, "hidden_size")
    64
    """
    value = config.get(key)
    if value is None:
        value = default
    if value is None:
        raise ValueError(f"the configuration has no {key!r}; a decoder's config.json needs it")
    if isinstance(value, bool) or not isinstance(value, int) or value <= 0:
        raise ValueError(f"{key} is {value!r}; it must be a whole number greater than 0")
    return value


def _count_params(
    config: Mapping[str, Any],
    *,
    num_layers: int,
    hidden_size: int,
    num_attention_heads: int,
    num_kv_heads: int,
    head_dim: int,
) -> int:
    """Count the parameters of a Llama-family decoder from its dimensions."""
    model_type = str(config.get("model_type", "llama"))
    default_vocab, default_intermediate = _DEFAULT_SIZES.get(model_type, _DEFAULT_SIZES["llama"])
    vocab_size = positive_int(config, "vocab_size", default=default_vocab)
    intermediate_size = positive_int(config, "intermediate_size", default=default_intermediate)
    query_width, kv_width = num_attention_heads * head_dim, num_kv_heads * head_dim
    attention = 2 * hidden_size * query_width + 2 * hidden_size * kv_width
    if config.get("attention_bias") or model_type == "qwen2":
        attention += query_width + 2 * kv_width
        attention += hidden_size if model_type == "llama" else 0
    if model_type.startswith("qwen3"):
        attention += 2 * head_dim  # one RMSNorm each for queries and keys
    if (num_experts := _count_experts(config)) is not None:
        width = positive_int(config, "moe_intermediate_size", default=intermediate_size)
        mlp = num_experts * (3 * hidden_size * width + hidden_size)
    else:
        mlp = 3 * hidden_size * intermediate_size
    embeddings = vocab_size * hidden_size
    embeddings *= 1 if config.get("tie_word_embeddings") else 2
    return num_layers * (attention + mlp + 2 * hidden_size) + embeddings + hidden_size


def _count_experts(config: Mapping[str, Any]) -> int | None:
    """Return the experts of each layer; None for a dense model."""
    key = "num_local_experts" if "num_local_experts" in config else "num_experts"
    return None if config.get(key) is None else positive_int(config, key)


def _read_experts(
    config: Mapping[str, Any], num_layers: int, hidden_size: int
) -> tuple[int | None, float | None]:
    """Read ``expert_params`` and ``expert_share``; None for a dense model."""
    num_experts = _count_experts(config)
    if num_experts is None:
        return None, None
    chosen = 2 if "num_local_experts" in config else 8  # the defaults of Mixtral and Qwen3
    _, intermediate = _DEFAULT_SIZES.get(str(config.get("model_type")), _DEFAULT_SIZES["llama"])
    intermediate = positive_int(config, "intermediate_size", default=intermediate)
    width = positive_int(config, "moe_intermediate_size", default=intermediate)
    share = positive_int(config, "num_experts_per_tok", default=chosen) / num_experts
    return num_layers * num_experts * 3 * hidden_size * width, share


def _count_looked_up(config: Mapping[str, Any], hidden_size: int) -> int | None:
    """Count the parameters of an input embedding that is not the output layer too."""
    if config.get("tie_word_embeddings"):
        return None
    model_type = str(config.get("model_type", "llama"))
    default_vocab, _ = _DEFAULT_SIZES.get(model_type, _DEFAULT_SIZES["llama"])
    return positive_int(config, "vocab_size", default=default_vocab) * hidden_size


_Spec = TypeVar("_Spec", ModelSpec, GPUSpec)


class _Catalogue(dict[str, _Spec]):
    """A dict whose KeyError says which names exist."""

    def __missing__(self, key: str) -> _Spec:
        close = get_close_matches(str(key).lower().replace("_", "-"), self, n=1)
        hint = f"did you mean {close[0]!r}? " if close else ""
        raise KeyError(f"no {key!r} in this catalogue; {hint}known: {', '.join(self)}")


# Layers x experts x three matrices of hidden size x width, and how many a token is routed to.
_EXPERTS: dict[str, dict[str, Any]] = {
    "mixtral-8x7b": {"expert_params": 32 * 8 * 3 * 4096 * 14_336, "expert_share": 2 / 8},
    "qwen3-30b-a3b": {"expert_params": 48 * 128 * 3 * 2048 * 768, "expert_share": 8 / 128},
}

# Shapes and parameter counts: each model's config.json and safetensors index on Hugging Face.
MODELS: dict[str, ModelSpec] = _Catalogue(
    {
        key: ModelSpec(
            name,
            layers,
            hidden,
            heads,
            kv_heads,
            head_dim,
            params,
            embedding_params=vocab * hidden if vocab else None,  # OPT: also the output layer
            **_EXPERTS.get(key, {}),
        )
        for key, name, layers, hidden, heads, kv_heads, head_dim, vocab, params in (
            ("opt-13b", "OPT-13B", 40, 5120, 40, 40, 128, 0, 12_853_473_280),
            ("llama-2-7b", "Llama-2-7B", 32, 4096, 32, 32, 128, 32_000, 6_738_415_616),
            ("llama-2-13b", "Llama-2-13B", 40, 5120, 40, 40, 128, 32_000, 13_015_864_320),
            ("llama-2-70b", "Llama-2-70B", 80, 8192, 64, 8, 128, 32_000, 68_976_648_192),
            ("llama-3.1-8b", "Llama-3.1-8B", 32, 4096, 32, 8, 128, 128_256, 8_030_261_248),
            ("llama-3.1-70b", "Llama-3.1-70B", 80, 8192, 64, 8, 128, 128_256, 70_553_706_496),
            ("codellama-34b", "CodeLlama-34B", 48, 8192, 64, 8, 128, 32_000, 33_743_970_304),
            ("yi-34b", "Yi-34B", 60, 7168, 56, 8, 128, 64_000, 34_388_917_248),
            ("mistral-7b", "Mistral-7B", 32, 4096, 32, 8, 128, 32_000, 7_241_732_096),
            ("mistral-nemo", "Mistral-Nemo-12B", 40, 5120, 32, 8, 128, 131_072, 12_247_782_400),
            ("mixtral-8x7b", "Mixtral-8x7B", 32, 4096, 32, 8, 128, 32_000, 46_702_792_704),
            ("qwen2.5-7b", "Qwen2.5-7B", 28, 3584, 28, 4, 128, 152_064, 7_615_616_512),
            ("qwen3-14b", "Qwen3-14B", 40, 5120, 40, 8, 128, 151_936, 14_768_307_200),
            ("qwen3-32b", "Qwen3-32B", 64, 5120, 64, 8, 128, 151_936, 32_762_123_264),
            ("qwen3-30b-a3b", "Qwen3-30B-A3B", 48, 2048, 32, 4, 128, 151_936, 30_532_122_624),
        )
    }
)

# Memory, bandwidth and dense bf16 rate: NVIDIA's data sheets (SXM variants; Ada white paper for the
# RTX 4090).
GPUS: dict[str, GPUSpec] = _Catalogue(
    {
        key: GPUSpec(name, memory_gib * GiB, terabytes_per_second * 1e12, teraflops * 1e12)
        for key, name, memory_gib, terabytes_per_second, teraflops in (
            ("l4", "L4", 24, 0.300, 121.0),
            ("rtx-4090", "RTX 4090", 24, 1.008, 165.2),
            ("a100-40gb", "A100 40 GB", 40, 1.555, 312.0),
            ("a100-80gb", "A100 80 GB", 80, 2.039, 312.0),
            ("h100", "H100 80 GB", 80, 3.35, 989.0),
            ("h200", "H200 141 GB", 141, 4.8, 989.0),
        )
    }
)

"""What a Hugging Face ``config.json`` says about a decoder of the Llama family.

Llama, Mistral, Qwen2 and Qwen3 are one architecture with a few switches. ``LlamaConfig`` has a
field for each switch, and refuses what the model in this package would compute wrongly.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from course_lib.engine.rotary import (
    DynamicScaling,
    LinearScaling,
    Llama3Scaling,
    RopeScaling,
    YarnScaling,
)
from course_lib.specs import ModelSpec, positive_int, read_json_object


class CheckpointError(ValueError):
    """A checkpoint is damaged or incomplete: says which file or field, and what is wrong."""


class UnsupportedCheckpointError(CheckpointError):
    """A checkpoint is of a kind that this engine does not compute; says what it does."""


ARCHITECTURES = {
    "llama": "LlamaForCausalLM",
    "mistral": "MistralForCausalLM",
    "qwen2": "Qwen2ForCausalLM",
    "qwen3": "Qwen3ForCausalLM",
}
"""The model types that this engine computes, and the class of each in transformers."""

GENERATION_CONFIG = "generation_config.json"
"""What a checkpoint's makers say about generating: which tokens end a text, how to sample."""

# What a config.json means when it leaves a field out, where that differs from family to family: the
# default of its class in transformers.
_FAMILY_DEFAULTS: dict[str, dict[str, Any]] = {
    "llama": {"bos_token_id": 1, "eos_token_id": 2, "max_position_embeddings": 2048},
    "mistral": {
        "bos_token_id": 1,
        "eos_token_id": 2,
        "max_position_embeddings": 131_072,
        "num_key_value_heads": 8,
        "sliding_window": 4096,
    },
    "qwen2": {"max_position_embeddings": 32_768, "sliding_window": 4096},
    "qwen3": {"max_position_embeddings": 32_768, "sliding_window": 4096, "head_dim": 128},
}


@dataclass(frozen=True)
class LlamaConfig:
    """The shape and the switches of a decoder of the Llama family.

    Attributes:
        model_type: ``llama``, ``mistral``, ``qwen2`` or ``qwen3``.
        vocab_size: Tokens that exist.
        hidden_size: Width of the residual stream.
        intermediate_size: Width of the MLP.
        num_layers: Decoder layers.
        num_attention_heads: Query heads per layer.
        num_kv_heads: Key/value heads per layer; a divisor of the query heads.
        head_dim: Width of one head; even.
        rms_norm_eps: What is added to the mean square before its root is taken.
        rope_theta: Base of the rotary frequencies.
        rope_scaling: How these are shrunk for long contexts, if they are.
        tie_word_embeddings: Whether the output layer is the input embedding.
        qk_norm: Whether queries and keys are normalised, head by head (Qwen3).
        attention_bias: Whether the query, key and value projections have a bias.
        attention_output_bias: Whether the projection back has one.
        mlp_bias: Whether the projections of the MLP have one.
        sliding_window: Tokens back, its own included, that a token can see in some layer; all of
            them if None.
        max_position_embeddings: Tokens of the longest sequence that the model was made for, before
            ``rope_scaling`` in some checkpoints, and behind it in others.
        bos_token_id: The token that begins a text, if any.
        eos_token_ids: The tokens that end one.

    >>> config = LlamaConfig.from_hf({
    ...     "model_type": "qwen3", "num_hidden_layers": 2, "hidden_size": 64, "vocab_size": 512,
    ...     "intermediate_size": 128, "num_attention_heads": 4, "num_key_value_heads": 2,
    ...     "eos_token_id": 7})
    >>> config.head_dim, config.qk_norm, config.eos_token_ids
    (128, True, (7,))
    """

    model_type: str
    vocab_size: int
    hidden_size: int
    intermediate_size: int
    num_layers: int
    num_attention_heads: int
    num_kv_heads: int
    head_dim: int
    rms_norm_eps: float = 1e-6
    rope_theta: float = 10_000.0
    rope_scaling: RopeScaling | None = None
    tie_word_embeddings: bool = False
    qk_norm: bool = False
    attention_bias: bool = False
    attention_output_bias: bool = False
    mlp_bias: bool = False
    sliding_window: int | None = None
    max_position_embeddings: int = 2048
    bos_token_id: int | None = None
    eos_token_ids: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        if self.head_dim % 2:
            raise CheckpointError(
                f"head_dim is {self.head_dim}; rotary embeddings turn pairs, so it must be even"
            )
        if self.rope_theta <= 1:
            raise CheckpointError(
                f"rope_theta is {self.rope_theta}; it must be greater than 1, usually 10000 or more"
            )

    @property
    def max_model_len(self) -> int:
        """Tokens of the longest sequence that this engine computes as the model's authors did.

        Sequences are cut off at ``max_position_embeddings``, or where ``rope_scaling`` says, and at
        the sliding window if there is one: as long as a sequence fits into the window, attention to
        the window is attention to everything. Beyond, it would need kernels that skip the blocks
        behind the window, and a cache manager that frees them. (vLLM does the same under
        ``--disable-sliding-window``.)
        """
        longest, scaling = self.max_position_embeddings, self.rope_scaling
        if scaling is not None:
            longest = scaling.longest(longest)
        return min(longest, self.sliding_window or longest)

    @classmethod
    def from_hf(cls, config: Mapping[str, Any] | str | Path) -> LlamaConfig:
        """Read a Hugging Face ``config.json``.

        Args:
            config: The parsed configuration, or the path of ``config.json`` or of the folder with
                it. In a folder, the tokens that end a text come from ``generation_config.json`` if
                that names some.

        Raises:
            FileNotFoundError: There is no such file.
            CheckpointError: The file is not JSON, or a field is missing or out of range.
            UnsupportedCheckpointError: The model has something that this engine does not compute.
        """
        if isinstance(config, (str, Path)):
            return _read(Path(config))
        family = _require_supported(config)
        complete = _FAMILY_DEFAULTS[family] | dict(config)
        try:
            shape = ModelSpec.from_hf_config(complete)
            return cls(
                model_type=family,
                vocab_size=positive_int(complete, "vocab_size"),
                hidden_size=shape.hidden_size,
                intermediate_size=positive_int(complete, "intermediate_size"),
                num_layers=shape.num_layers,
                num_attention_heads=shape.num_attention_heads,
                num_kv_heads=shape.num_kv_heads,
                head_dim=shape.head_dim,
                rms_norm_eps=_positive_number(complete, "rms_norm_eps", default=1e-6),
                rope_theta=_positive_number(_rope_fields(complete), "rope_theta", default=10_000.0),
                rope_scaling=_rope_scaling(complete),
                tie_word_embeddings=_flag(complete, "tie_word_embeddings"),
                qk_norm=family == "qwen3",
                attention_bias=_attention_bias(family, complete),
                attention_output_bias=family != "qwen2" and _attention_bias(family, complete),
                mlp_bias=family == "llama" and _flag(complete, "mlp_bias"),
                sliding_window=_sliding_window(family, complete),
                max_position_embeddings=positive_int(complete, "max_position_embeddings"),
                bos_token_id=next(iter(_token_ids(complete, "bos_token_id")), None),
                eos_token_ids=_token_ids(complete, "eos_token_id"),
            )
        except CheckpointError:
            raise
        except ValueError as error:
            raise CheckpointError(str(error)) from error

    def to_hf(self) -> dict[str, Any]:
        """Return what ``from_hf`` reads, and transformers too.

        >>> config = LlamaConfig("llama", 512, 64, 128, 2, 4, 2, 16, eos_token_ids=(1, 2))
        >>> LlamaConfig.from_hf(config.to_hf()) == config
        True
        """
        scaling: dict[str, Any] = {"rope_type": "default"}
        if self.rope_scaling is not None:
            fields = dataclasses.asdict(self.rope_scaling)
            scaling = {"rope_type": self.rope_scaling.rope_type} | fields
        return {
            "architectures": [ARCHITECTURES[self.model_type]],
            "model_type": self.model_type,
            "vocab_size": self.vocab_size,
            "hidden_size": self.hidden_size,
            "intermediate_size": self.intermediate_size,
            "num_hidden_layers": self.num_layers,
            "num_attention_heads": self.num_attention_heads,
            "num_key_value_heads": self.num_kv_heads,
            "head_dim": self.head_dim,
            "hidden_act": "silu",
            "rms_norm_eps": self.rms_norm_eps,
            "rope_theta": self.rope_theta,
            "rope_parameters": scaling | {"rope_theta": self.rope_theta},
            "tie_word_embeddings": self.tie_word_embeddings,
            "attention_bias": self.attention_bias,
            "mlp_bias": self.mlp_bias,
            "sliding_window": self.sliding_window,
            "use_sliding_window": self.sliding_window is not None,
            "max_window_layers": 0,
            "max_position_embeddings": self.max_position_embeddings,
            "bos_token_id": self.bos_token_id,
            "eos_token_id": list(self.eos_token_ids) or None,
        }


def _read(path: Path) -> LlamaConfig:
    """Read the configuration of a folder, or one file."""
    folder = path if path.is_dir() else path.parent
    path = path / "config.json" if path.is_dir() else path
    try:
        fields = read_json_object(path)
        generation = folder / GENERATION_CONFIG
        if generation.is_file():
            eos = read_json_object(generation).get("eos_token_id")
            fields |= {} if eos is None else {"eos_token_id": eos}
    except ValueError as error:
        raise CheckpointError(str(error)) from error
    try:
        return LlamaConfig.from_hf(fields)
    except CheckpointError as error:
        raise type(error)(f"{path}: {error}") from error


def _require_supported(config: Mapping[str, Any]) -> str:
    """Return the family, if nothing about the model is beyond this engine."""
    family = config.get("model_type")
    if family not in ARCHITECTURES:
        raise _unsupported("model_type", family, ", ".join(ARCHITECTURES))
    architectures = config.get("architectures") or [ARCHITECTURES[family]]
    if architectures != [ARCHITECTURES[family]]:
        raise _unsupported("architectures", architectures, f"[{ARCHITECTURES[family]!r}]")
    if config.get("quantization_config") is not None:
        method = config["quantization_config"]
        raise _unsupported(
            "quantization_config", method, "weights in float32, float16 and bfloat16"
        )
    if config.get("hidden_act", "silu") not in ("silu", "swish"):  # two names of one function
        raise _unsupported("hidden_act", config["hidden_act"], "'silu'")
    return str(family)


def _unsupported(field: str, value: object, supported: str) -> UnsupportedCheckpointError:
    return UnsupportedCheckpointError(
        f"{field} is {value!r}; this engine computes {supported} only; choose another checkpoint"
    )


def _attention_bias(family: str, config: Mapping[str, Any]) -> bool:
    """Return whether queries, keys and values get a bias. Qwen2 has it without saying so."""
    if family == "mistral":
        return False
    return family == "qwen2" or _flag(config, "attention_bias")


def _sliding_window(family: str, config: Mapping[str, Any]) -> int | None:
    """Return the window, if any layer has one."""
    if family == "llama" or config.get("sliding_window") is None:
        return None
    if family != "mistral":
        # Qwen writes a window down, and whether it counts, and from which layer on.
        num_layers = positive_int(config, "num_hidden_layers")
        layer_types = config.get("layer_types")
        first_layer = config.get("max_window_layers")
        slides = (
            "sliding_attention" in layer_types
            if layer_types
            else (28 if first_layer is None else first_layer) < num_layers
        )
        if not _flag(config, "use_sliding_window") or not slides:
            return None
    return positive_int(config, "sliding_window")


def _rope_fields(config: Mapping[str, Any]) -> dict[str, Any]:
    """Return all that is said about rotary embeddings, from where old and new files say it.

    Where both do, the old one counts, as in transformers: somebody has added it to a new file.
    """
    name = "rope_scaling" if config.get("rope_scaling") else "rope_parameters"
    said = config.get(name) or {}
    if not isinstance(said, Mapping):
        raise CheckpointError(f"{name} is {said!r}; it must be an object with a 'rope_type'")
    if any(isinstance(value, Mapping) for value in said.values()):
        raise _unsupported(name, said, "rotary embeddings that are the same in every layer")
    fields = dict(said)
    if config.get("rope_theta") is not None:
        fields.setdefault("rope_theta", config["rope_theta"])
    if config.get("partial_rotary_factor") is not None:
        fields.setdefault("partial_rotary_factor", config["partial_rotary_factor"])
    return fields


def _rope_scaling(config: Mapping[str, Any]) -> RopeScaling | None:
    """Return how the rotary frequencies are shrunk, if they are."""
    fields = _rope_fields(config)
    if fields.get("partial_rotary_factor") not in (None, 1):
        raise _unsupported("partial_rotary_factor", fields["partial_rotary_factor"], "1.0")
    rope_type = fields.get("rope_type") or fields.get("type") or "default"
    if rope_type == "default":
        return None
    # As in transformers: what stands beside the other lengths goes first.
    longest, name = config.get("max_position_embeddings"), "original_max_position_embeddings"
    original = fields | {name: config.get(name) or fields.get(name) or longest}
    if rope_type == "linear":
        return LinearScaling(_positive_number(fields, "factor"))
    if rope_type == "dynamic":
        return DynamicScaling(_positive_number(fields, "factor"))
    if rope_type == "llama3":
        return Llama3Scaling(
            _positive_number(fields, "factor"),
            _positive_number(fields, "low_freq_factor"),
            _positive_number(fields, "high_freq_factor"),
            positive_int(original, "original_max_position_embeddings"),
        )
    if rope_type == "yarn":
        if original.get("factor") is None:
            before = positive_int(original, "original_max_position_embeddings")
            original["factor"] = positive_int(config, "max_position_embeddings") / before
        return _yarn_scaling(original)
    raise _unsupported(
        "rope_type", rope_type, "'default', 'linear', 'dynamic', 'llama3' and 'yarn'"
    )


def _yarn_scaling(fields: Mapping[str, Any]) -> YarnScaling:
    factor = _positive_number(fields, "factor")

    def sharpness(strength: float) -> float:
        return 0.1 * strength * math.log(factor) + 1.0 if factor > 1 else 1.0

    attention_factor = sharpness(1.0)
    if fields.get("mscale") and fields.get("mscale_all_dim"):
        attention_factor = sharpness(fields["mscale"]) / sharpness(fields["mscale_all_dim"])
    return YarnScaling(
        factor,
        positive_int(fields, "original_max_position_embeddings"),
        _positive_number(fields, "attention_factor", default=attention_factor),
        beta_fast=_positive_number(fields, "beta_fast", default=32.0),
        beta_slow=_positive_number(fields, "beta_slow", default=1.0),
        truncate=bool(fields.get("truncate", True)),
    )


def _positive_number(config: Mapping[str, Any], key: str, default: float | None = None) -> float:
    """Return ``config[key]``, or ``default`` when it is absent or null."""
    value = config.get(key)
    value = default if value is None else value
    if value is None:
        raise CheckpointError(f"the configuration has no {key!r}, which this kind of model needs")
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 < value < math.inf:
        raise CheckpointError(f"{key} is {value!r}; it must be a number greater than 0")
    return float(value)


def _flag(config: Mapping[str, Any], key: str) -> bool:
    """Return ``config[key]``, or False when it is absent or null."""
    value = config.get(key)
    if value not in (None, False, True):
        raise CheckpointError(f"{key} is {value!r}; it must be true or false")
    return bool(value)


def _token_ids(config: Mapping[str, Any], key: str) -> tuple[int, ...]:
    """Return the ids under ``key``, which holds one, a list of them, or nothing."""
    value = config.get(key)
    ids = value if isinstance(value, list) else [] if value is None else [value]
    for token_id in ids:
        if isinstance(token_id, bool) or not isinstance(token_id, int) or token_id < 0:
            raise CheckpointError(f"{key} is {value!r}; it must be a token id or a list of them")
    return tuple(ids)

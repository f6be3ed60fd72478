"""Checkpoints of a given shape with random weights: what a model costs does not depend on them."""

from __future__ import annotations

from pathlib import Path

import torch

from course_lib.engine import LlamaConfig
from course_lib.engine.checkpoint import save_checkpoint
from course_lib.engine.model import LlamaModel, parameter_shapes

STANDARD_DEVIATION = 0.02
"""Of each weight but those of the norms, which are one: as a Llama is before it is trained."""

ONE_BILLION = LlamaConfig(
    model_type="llama",
    vocab_size=128_256,
    hidden_size=2048,
    intermediate_size=8192,
    num_layers=16,
    num_attention_heads=32,
    num_kv_heads=8,
    head_dim=64,
    max_position_embeddings=4096,
    rope_theta=500_000.0,
    tie_word_embeddings=True,
)
"""The shape of Llama-3.2-1B."""

HUNDRED_MILLION = LlamaConfig(
    model_type="llama",
    vocab_size=32_000,
    hidden_size=768,
    intermediate_size=2048,
    num_layers=12,
    num_attention_heads=12,
    num_kv_heads=4,
    head_dim=64,
    max_position_embeddings=2048,
    tie_word_embeddings=True,
)
"""A Llama of 100 million parameters, small enough to be served by one thread of a laptop."""


def num_parameters(config: LlamaConfig) -> int:
    """Return how many numbers the weights of a model have.

    >>> f"{num_parameters(HUNDRED_MILLION):,}"
    '100,092,672'
    """
    return sum(shape.numel() for shape in parameter_shapes(config).values())


def save_random_model(
    config: LlamaConfig,
    folder: Path | str,
    *,
    dtype: torch.dtype = torch.float32,
    device: str = "cpu",
) -> None:
    """Write a checkpoint whose weights are the same in every run on the same device.

    Args:
        config: The shape.
        folder: Where to.
        dtype: Of the weights.
        device: Where they are drawn: a GPU is quick there.
    """
    numbers = torch.Generator(device).manual_seed(0)
    weights = {
        name: torch.ones(shape, dtype=dtype, device=device)
        if name.endswith("norm.weight")
        else torch.empty(shape, dtype=dtype, device=device).normal_(
            std=STANDARD_DEVIATION, generator=numbers
        )
        for name, shape in parameter_shapes(config).items()
    }
    save_checkpoint(LlamaModel(config, weights), folder)

"""Arithmetic of one forward pass: how many FLOP it computes and how many bytes it moves.

The roofline model (Williams, Waterman and Patterson, CACM 2009) compares the two: work whose FLOP
per byte are below ``GPUSpec.ridge_point`` waits for memory, work above it waits for the compute
units.
"""

from __future__ import annotations

from course_lib.kv_cache.sizing import kv_bytes_per_token
from course_lib.specs import GPUSpec, ModelSpec


def forward_flops(model: ModelSpec, new_tokens: int, cached_tokens: int = 0) -> int:
    """Return the FLOP that one sequence costs in a forward pass.

    Every parameter is multiplied and added once per new token. That is a little too much: a token
    only looks up one row of the input embedding (7% of Llama-3.1-8B), and in a prefill the output
    layer (as large) is needed for the last token alone, so a prefill of 1,000 tokens is counted too
    high by about 15%. On top, in every layer and query head, each new token meets every token up to
    itself twice (scores, then weighted values), at ``head_dim`` multiply-adds each. A dense model
    is meant: a mixture of experts computes less.

    Args:
        model: The model's shape.
        new_tokens: Tokens of this sequence that the pass computes.
        cached_tokens: Tokens of this sequence whose keys and values are already cached.

    >>> from course_lib.specs import MODELS
    >>> forward_flops(MODELS["llama-3.1-8b"], new_tokens=1, cached_tokens=999)
    16584810496
    """
    attended = new_tokens * cached_tokens + new_tokens * (new_tokens + 1) // 2
    attention_width = model.num_layers * model.num_attention_heads * model.head_dim
    return 2 * model.num_params * new_tokens + 4 * attention_width * attended


def kv_bytes_moved(model: ModelSpec, new_tokens: int, cached_tokens: int = 0) -> int:
    """Return the KV bytes that one sequence reads and writes in a forward pass.

    Each cached token is read once and each new one is written once.

    >>> from course_lib.specs import MODELS
    >>> kv_bytes_moved(MODELS["llama-3.1-8b"], new_tokens=1, cached_tokens=999)
    131072000
    """
    return (cached_tokens + new_tokens) * kv_bytes_per_token(model)


def arithmetic_intensity(
    model: ModelSpec, new_tokens: int, cached_tokens: int = 0, batch_size: int = 1
) -> float:
    """Return the FLOP per byte of a forward pass over a batch of equal sequences.

    The weights are read once for the whole batch; FLOP and KV traffic are paid by every sequence.

    Args:
        model: The model's shape; ``model.weight_bytes`` is the size of its weights.
        new_tokens: Tokens that the pass computes for each sequence: 1 in a decode step, the length
            of the prompt in a prefill.
        cached_tokens: Tokens of each sequence whose keys and values are already cached.
        batch_size: Sequences in the batch.

    Returns:
        FLOP per byte, to be held against ``gpu.ridge_point``.

    Raises:
        ValueError: ``new_tokens`` or ``batch_size`` is less than 1.

    >>> from course_lib.specs import MODELS
    >>> round(arithmetic_intensity(MODELS["llama-3.1-8b"], new_tokens=1, cached_tokens=999), 2)
    1.02
    """
    if new_tokens < 1 or batch_size < 1:
        raise ValueError(
            f"new_tokens is {new_tokens} and batch_size is {batch_size}; each must be at least 1"
        )
    flops = batch_size * forward_flops(model, new_tokens, cached_tokens)
    kv_bytes = batch_size * kv_bytes_moved(model, new_tokens, cached_tokens)
    return flops / (model.weight_bytes + kv_bytes)


def is_memory_bound(intensity: float, gpu: GPUSpec) -> bool:
    """Return whether work of this intensity waits for memory rather than for arithmetic.

    >>> from course_lib.specs import GPUS
    >>> is_memory_bound(1.0, GPUS["h100"]), is_memory_bound(1000.0, GPUS["h100"])
    (True, False)
    """
    return intensity < gpu.ridge_point

"""Lesson 1: known wrong answers to its exercise on arithmetic intensity."""

from __future__ import annotations

from autograder.checks.finding import Misconception
from course_lib.roofline import arithmetic_intensity, forward_flops, kv_bytes_moved
from course_lib.specs import ModelSpec

# 1.5


def _total_bytes(model: ModelSpec, new: int, cached: int, batch: int, weight_reads: int) -> int:
    return weight_reads * model.weight_bytes + batch * kv_bytes_moved(model, new, cached)


def _refuse(new_tokens: int, batch_size: int) -> None:
    if new_tokens < 1 or batch_size < 1:
        raise ValueError("at least 1")


def weights_per_sequence(
    model: ModelSpec, new_tokens: int, cached_tokens: int = 0, batch_size: int = 1
) -> float:
    """Read the weights for every sequence."""
    _refuse(new_tokens, batch_size)
    moved = _total_bytes(model, new_tokens, cached_tokens, batch_size, weight_reads=batch_size)
    return batch_size * forward_flops(model, new_tokens, cached_tokens) / moved


def no_kv_traffic(
    model: ModelSpec, new_tokens: int, cached_tokens: int = 0, batch_size: int = 1
) -> float:
    """Leave the KV traffic out."""
    _refuse(new_tokens, batch_size)
    return batch_size * forward_flops(model, new_tokens, cached_tokens) / model.weight_bytes


def no_weights(
    model: ModelSpec, new_tokens: int, cached_tokens: int = 0, batch_size: int = 1
) -> float:
    """Leave the weights out."""
    _refuse(new_tokens, batch_size)
    moved = _total_bytes(model, new_tokens, cached_tokens, batch_size, weight_reads=0)
    return batch_size * forward_flops(model, new_tokens, cached_tokens) / moved


def parameters_for_bytes(
    model: ModelSpec, new_tokens: int, cached_tokens: int = 0, batch_size: int = 1
) -> float:
    """Take a byte for each parameter."""
    _refuse(new_tokens, batch_size)
    moved = model.num_params + batch_size * kv_bytes_moved(model, new_tokens, cached_tokens)
    return batch_size * forward_flops(model, new_tokens, cached_tokens) / moved


def two_bytes_a_parameter(
    model: ModelSpec, new_tokens: int, cached_tokens: int = 0, batch_size: int = 1
) -> float:
    """Take two bytes for each parameter, whatever its type."""
    _refuse(new_tokens, batch_size)
    moved = 2 * model.num_params + batch_size * kv_bytes_moved(model, new_tokens, cached_tokens)
    return batch_size * forward_flops(model, new_tokens, cached_tokens) / moved


def kv_once(
    model: ModelSpec, new_tokens: int, cached_tokens: int = 0, batch_size: int = 1
) -> float:
    """Read the KV of one sequence."""
    _refuse(new_tokens, batch_size)
    moved = _total_bytes(model, new_tokens, cached_tokens, batch=1, weight_reads=1)
    return batch_size * forward_flops(model, new_tokens, cached_tokens) / moved


def one_sequences_flops(
    model: ModelSpec, new_tokens: int, cached_tokens: int = 0, batch_size: int = 1
) -> float:
    """Hold the FLOP of one sequence against the bytes of all."""
    _refuse(new_tokens, batch_size)
    moved = _total_bytes(model, new_tokens, cached_tokens, batch_size, weight_reads=1)
    return forward_flops(model, new_tokens, cached_tokens) / moved


def one_long_sequence(
    model: ModelSpec, new_tokens: int, cached_tokens: int = 0, batch_size: int = 1
) -> float:
    """Take a batch for one long sequence."""
    _refuse(new_tokens, batch_size)
    return arithmetic_intensity(model, batch_size * new_tokens, cached_tokens)


def all_in_one_sequence(
    model: ModelSpec, new_tokens: int, cached_tokens: int = 0, batch_size: int = 1
) -> float:
    """Take a batch for one long sequence, with the cached tokens of all."""
    _refuse(new_tokens, batch_size)
    return arithmetic_intensity(model, batch_size * new_tokens, batch_size * cached_tokens)


def one_long_sequence_in_flops(
    model: ModelSpec, new_tokens: int, cached_tokens: int = 0, batch_size: int = 1
) -> float:
    """Take a batch for one long sequence in the FLOP alone."""
    _refuse(new_tokens, batch_size)
    moved = _total_bytes(model, new_tokens, cached_tokens, batch_size, weight_reads=1)
    return forward_flops(model, batch_size * new_tokens, cached_tokens) / moved


def no_attention(
    model: ModelSpec, new_tokens: int, cached_tokens: int = 0, batch_size: int = 1
) -> float:
    """Leave the FLOP of attention out."""
    _refuse(new_tokens, batch_size)
    moved = _total_bytes(model, new_tokens, cached_tokens, batch_size, weight_reads=1)
    return batch_size * 2 * model.num_params * new_tokens / moved


def no_new_kv(
    model: ModelSpec, new_tokens: int, cached_tokens: int = 0, batch_size: int = 1
) -> float:
    """Count the KV that is read, and not what is written."""
    _refuse(new_tokens, batch_size)
    moved = model.weight_bytes + batch_size * kv_bytes_moved(model, 0, cached_tokens)
    return batch_size * forward_flops(model, new_tokens, cached_tokens) / moved


def nothing_cached(
    model: ModelSpec, new_tokens: int, cached_tokens: int = 0, batch_size: int = 1
) -> float:
    """Leave out what is cached already."""
    return arithmetic_intensity(model, new_tokens, 0, batch_size)


def batch_twice(
    model: ModelSpec, new_tokens: int, cached_tokens: int = 0, batch_size: int = 1
) -> float:
    """Multiply by the batch within the FLOP of a sequence, and once more."""
    _refuse(new_tokens, batch_size)
    moved = _total_bytes(model, new_tokens, cached_tokens, batch_size, weight_reads=1)
    return batch_size * forward_flops(model, batch_size * new_tokens, cached_tokens) / moved


def nothing_cached_in_flops(
    model: ModelSpec, new_tokens: int, cached_tokens: int = 0, batch_size: int = 1
) -> float:
    """Leave what is cached out of the FLOP alone."""
    _refuse(new_tokens, batch_size)
    moved = _total_bytes(model, new_tokens, cached_tokens, batch_size, weight_reads=1)
    return batch_size * forward_flops(model, new_tokens, 0) / moved


def cached_computed_again(
    model: ModelSpec, new_tokens: int, cached_tokens: int = 0, batch_size: int = 1
) -> float:
    """Give forward_flops all tokens as new ones."""
    _refuse(new_tokens, batch_size)
    moved = _total_bytes(model, new_tokens, cached_tokens, batch_size, weight_reads=1)
    return batch_size * forward_flops(model, new_tokens + cached_tokens) / moved


def new_among_cached(
    model: ModelSpec, new_tokens: int, cached_tokens: int = 0, batch_size: int = 1
) -> float:
    """Give both functions the whole context as cached tokens."""
    return arithmetic_intensity(model, new_tokens, cached_tokens + new_tokens, batch_size)


def new_among_cached_in_bytes(
    model: ModelSpec, new_tokens: int, cached_tokens: int = 0, batch_size: int = 1
) -> float:
    """Give kv_bytes_moved the whole context as cached tokens."""
    _refuse(new_tokens, batch_size)
    context = cached_tokens + new_tokens
    moved = _total_bytes(model, new_tokens, context, batch_size, weight_reads=1)
    return batch_size * forward_flops(model, new_tokens, cached_tokens) / moved


def new_tokens_twice(
    model: ModelSpec, new_tokens: int, cached_tokens: int = 0, batch_size: int = 1
) -> float:
    """Multiply the FLOP of all new tokens by their number."""
    return new_tokens * arithmetic_intensity(model, new_tokens, cached_tokens, batch_size)


def nothing_cached_in_bytes(
    model: ModelSpec, new_tokens: int, cached_tokens: int = 0, batch_size: int = 1
) -> float:
    """Leave what is cached out of the bytes alone."""
    _refuse(new_tokens, batch_size)
    moved = _total_bytes(model, new_tokens, 0, batch_size, weight_reads=1)
    return batch_size * forward_flops(model, new_tokens, cached_tokens) / moved


def upside_down(
    model: ModelSpec, new_tokens: int, cached_tokens: int = 0, batch_size: int = 1
) -> float:
    """Divide bytes by FLOP."""
    return 1 / arithmetic_intensity(model, new_tokens, cached_tokens, batch_size)


INTENSITY = (
    Misconception(
        "each sequence for itself",
        "This is the quotient of one sequence, as if the batch played no part. But one pass reads "
        "the weights once, however many sequences share it; that is why batching pays.",
        weights_per_sequence,
    ),
    Misconception(
        "no KV traffic",
        "A pass reads the KV of each sequence and writes that of its new tokens; in a large batch "
        "that can be more than the weights.",
        no_kv_traffic,
    ),
    Misconception(
        "no weights",
        "A pass reads the weights, too, once for the whole batch: model.weight_bytes.",
        no_weights,
    ),
    Misconception(
        "parameters for bytes",
        "A parameter takes dtype_bytes bytes; model.weight_bytes has them all.",
        parameters_for_bytes,
    ),
    Misconception(
        "two bytes a parameter",
        "A parameter takes dtype_bytes bytes, 2 in a 16-bit type only; model.weight_bytes has "
        "them all.",
        two_bytes_a_parameter,
    ),
    Misconception(
        "one sequence's KV",
        "Each sequence of the batch has a KV cache of its own, and reads it.",
        kv_once,
    ),
    Misconception(
        "one sequence's FLOP",
        "The bytes are those of the whole batch, so the FLOP must be, too: each sequence computes "
        "its own.",
        one_sequences_flops,
    ),
    Misconception(
        "one long sequence",
        "A batch is many short sequences, not one long one: a token attends to its own "
        "sequence only.",
        one_long_sequence,
    ),
    Misconception(
        "one long sequence, the cached tokens too",
        "A batch is many short sequences, not one long one: a token attends to its own "
        "sequence only.",
        all_in_one_sequence,
    ),
    Misconception(
        "one long sequence in the FLOP",
        "The bytes are right. But a batch is many short sequences, not one long one: a token "
        "attends to its own sequence only, so multiply the FLOP of one sequence by the batch.",
        one_long_sequence_in_flops,
    ),
    Misconception(
        "no attention",
        "Besides the parameters, each new token meets the keys and values of its sequence; "
        "forward_flops counts both.",
        no_attention,
    ),
    Misconception(
        "the new tokens' KV left out",
        "The new tokens write keys and values, too: kv_bytes_moved takes new_tokens and then "
        "cached_tokens.",
        no_new_kv,
    ),
    Misconception(
        "the cached tokens left out",
        "Each new token meets all tokens that are cached, and their KV is read: both functions "
        "take cached_tokens.",
        nothing_cached,
    ),
    Misconception(
        "the cached tokens left out of the FLOP",
        "The bytes are right. But each new token meets all tokens that are cached, so "
        "forward_flops takes cached_tokens, too.",
        nothing_cached_in_flops,
    ),
    Misconception(
        "the cached tokens computed again",
        "The bytes are right. But the cached tokens went through the model before: forward_flops "
        "takes them as cached_tokens, and not with the new ones.",
        cached_computed_again,
    ),
    Misconception(
        "the new tokens among the cached ones",
        "Both functions count the new tokens themselves: cached_tokens are those that were cached "
        "before the pass.",
        new_among_cached,
    ),
    Misconception(
        "the new tokens' KV counted twice",
        "The FLOP are right. But kv_bytes_moved counts the new tokens itself: cached_tokens are "
        "those that were cached before the pass.",
        new_among_cached_in_bytes,
    ),
    Misconception(
        "the new tokens multiplied with once more",
        "The bytes are right. But forward_flops counts all new tokens of a sequence: only the "
        "batch is left to multiply with.",
        new_tokens_twice,
    ),
    Misconception(
        "the cached tokens left out of the bytes",
        "The FLOP are right. But the KV of all tokens that are cached is read, so kv_bytes_moved "
        "takes cached_tokens, too.",
        nothing_cached_in_bytes,
    ),
    Misconception(
        "the batch counted twice",
        "The bytes are right. But forward_flops is asked for one sequence and its new_tokens: the "
        "batch is multiplied with once, outside.",
        batch_twice,
    ),
    Misconception("bytes per FLOP", "Intensity is FLOP divided by bytes.", upside_down),
)

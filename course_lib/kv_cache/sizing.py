"""How many bytes the KV cache takes, how much of it a GPU can hold, and what a token costs."""

from __future__ import annotations

from course_lib.specs import GPUSpec, ModelSpec


def require_block_size(block_size: int) -> None:
    """Raise a ValueError unless a block holds at least one token.

    >>> require_block_size(16)
    """
    if block_size < 1:
        raise ValueError(f"block_size is {block_size}; a block holds at least 1 token")


def kv_bytes_per_token(model: ModelSpec) -> int:
    """Return the bytes of KV cache that one token occupies, over all layers.

    Stored is what attention needs of an earlier token, in every layer, and nothing else: the
    vectors that later tokens will still look at.

    Args:
        model: The model's shape. ``model.dtype_bytes`` is the size of one stored number.

    Returns:
        Bytes per token.

    >>> from course_lib.specs import MODELS
    >>> kv_bytes_per_token(MODELS["opt-13b"])
    819200
    """
    numbers_per_layer = 2 * model.num_kv_heads * model.head_dim
    return model.num_layers * numbers_per_layer * model.dtype_bytes


def kv_bytes_per_block(model: ModelSpec, block_size: int) -> int:
    """Return the bytes of one KV block: ``block_size`` tokens, over all layers.

    Args:
        model: The model's shape.
        block_size: Tokens per block.

    Raises:
        ValueError: ``block_size`` is less than 1.

    >>> from course_lib.specs import MODELS
    >>> kv_bytes_per_block(MODELS["llama-3.1-8b"], block_size=16)
    2097152
    """
    require_block_size(block_size)
    return block_size * kv_bytes_per_token(model)


def num_kv_blocks(
    model: ModelSpec,
    gpu: GPUSpec,
    block_size: int = 16,
    gpu_memory_utilization: float = 0.92,
    peak_activation_bytes: int = 0,
) -> int:
    """Return how many KV blocks fit on the GPU beside the weights.

    The engine may use the share ``gpu_memory_utilization`` of the GPU's memory. Weights and the
    largest activations come first; whole blocks fill what is left. A fraction of a byte may be
    dropped or kept. (vLLM measures the activations with a trial run; here they are given.)

    Args:
        model: The model's shape; ``model.weight_bytes`` is the size of its weights.
        gpu: The GPU; ``gpu.memory_bytes`` is all that it has.
        block_size: Tokens per block.
        gpu_memory_utilization: Share of the memory that the engine may use, above 0 and at most 1.
        peak_activation_bytes: Bytes set aside for activations.

    Returns:
        A whole number of blocks.

    Raises:
        ValueError: ``gpu_memory_utilization`` is outside (0, 1], ``block_size`` is less than 1, or
            not even one block fits.

    >>> from course_lib.specs import GPUS, MODELS
    >>> num_kv_blocks(MODELS["llama-3.1-8b"], GPUS["rtx-4090"], gpu_memory_utilization=0.9)
    3400
    """
    if not 0 < gpu_memory_utilization <= 1:
        raise ValueError(
            f"gpu_memory_utilization is {gpu_memory_utilization}; "
            "it is a share above 0 and at most 1"
        )
    usable_bytes = int(gpu.memory_bytes * gpu_memory_utilization)
    free_bytes = usable_bytes - model.weight_bytes - peak_activation_bytes
    num_blocks = free_bytes // kv_bytes_per_block(model, block_size)
    if num_blocks < 1:
        raise ValueError(
            f"{free_bytes} bytes are left for the KV cache, less than one block; "
            "use a larger GPU, a smaller model, or fewer bytes per parameter"
        )
    return num_blocks


def max_concurrent_sequences(num_blocks: int, block_size: int, tokens_per_sequence: int) -> int:
    """Return how many sequences of a given length the blocks can hold at the same time.

    A block belongs to one sequence, so a sequence takes whole blocks, the last one partly filled.

    Args:
        num_blocks: Blocks in the cache.
        block_size: Tokens per block.
        tokens_per_sequence: Prompt and output tokens of one sequence.

    Raises:
        ValueError: ``block_size`` or ``tokens_per_sequence`` is less than 1.

    >>> max_concurrent_sequences(num_blocks=100, block_size=16, tokens_per_sequence=100)
    14
    """
    if block_size < 1 or tokens_per_sequence < 1:
        raise ValueError(
            f"block_size is {block_size} and tokens_per_sequence is {tokens_per_sequence}; "
            "each must be at least 1"
        )
    blocks_per_sequence = -(-tokens_per_sequence // block_size)
    return num_blocks // blocks_per_sequence


def cost_per_million_tokens(dollars_per_hour: float, tokens_per_second: float) -> float:
    """Return the price in dollars of a million tokens on a GPU rented by the hour.

    Raises:
        ValueError: ``tokens_per_second`` is not positive.

    >>> cost_per_million_tokens(dollars_per_hour=3.6, tokens_per_second=1000)
    1.0
    """
    if not tokens_per_second > 0:
        raise ValueError(f"tokens_per_second is {tokens_per_second}; it must be greater than 0")
    return dollars_per_hour / 3600 * 1e6 / tokens_per_second

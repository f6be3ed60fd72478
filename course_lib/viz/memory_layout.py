"""What is in one GPU's memory when sequences reserve their maximum length, or take blocks.

The numbers behind lesson 1's figure; ``memory`` draws them.
"""

from __future__ import annotations

from dataclasses import dataclass

from course_lib.kv_cache.sizing import (
    kv_bytes_per_block,
    kv_bytes_per_token,
    max_concurrent_sequences,
    num_kv_blocks,
)
from course_lib.specs import GiB, GPUSpec, ModelSpec

BLOCK_SIZE = 16
MAX_NUM_BATCHED_TOKENS = 2048


@dataclass(frozen=True)
class Segment:
    """A stretch of one GPU's memory: what it is for and how large it is.

    A segment of state ``overflow`` is memory that would be needed beyond the GPU.
    """

    state: str
    num_bytes: int
    name: str


@dataclass(frozen=True)
class Layout:
    """One way to keep the KV cache of equal sequences.

    Attributes:
        fixed: Segments that are there whatever the sequences do: weights and activations.
        per_sequence: Segments of one sequence.
        num_fitting: Sequences that fit.
        num_sequences: Sequences that ask for memory.
        left: Bytes for the KV cache that no sequence took.
        headroom: Bytes that the engine may not use.
    """

    fixed: tuple[Segment, ...]
    per_sequence: tuple[Segment, ...]
    num_fitting: int
    num_sequences: int
    left: int
    headroom: int

    @property
    def sequence_bytes(self) -> int:
        """Bytes that one sequence takes."""
        return sum(segment.num_bytes for segment in self.per_sequence)

    @property
    def num_shown(self) -> int:
        """Sequences that hold memory."""
        return min(self.num_fitting, self.num_sequences)

    @property
    def num_refused(self) -> int:
        """Sequences that do not fit."""
        return self.num_sequences - self.num_shown

    @property
    def leftover(self) -> tuple[Segment, ...]:
        """What no sequence took. While a sequence waits, memory too small for it is wasted."""
        if self.num_refused:
            rest = Segment("external", self.left, "too small")
        else:
            rest = Segment("free", self.left, "free")
        return (rest, Segment("headroom", self.headroom, "kept out of the engine"))

    @property
    def overflow(self) -> Segment:
        """What the refused sequences would need."""
        missing = self.num_refused * self.sequence_bytes
        return Segment("overflow", missing, f"{self.num_refused} do not fit")

    def segments(self) -> tuple[Segment, ...]:
        """Return everything on the GPU, from left to right. The bytes add to the GPU's memory."""
        return (*self.fixed, *self.per_sequence * self.num_shown, *self.leftover)


def estimated_activation_bytes(model: ModelSpec, num_tokens: int = MAX_NUM_BATCHED_TOKENS) -> int:
    """Return roughly the largest amount of memory that activations take during one forward pass.

    One layer is live at a time. Its gated MLP is the widest moment: for each token of the step, the
    residual stream and its normalised copy (one hidden size each) beside the gate and the up
    projection (about four hidden sizes each, a common width), so ten hidden sizes. Logits,
    workspace and allocator rounding come on top, so a real engine measures this with a trial run.

    Args:
        model: The model's shape.
        num_tokens: Tokens in one step; by default vLLM's ``max_num_batched_tokens``.

    >>> from course_lib.specs import MODELS
    >>> estimated_activation_bytes(MODELS["llama-3.1-8b"]) // 2**20
    160
    """
    residual_and_normalised, gate_and_up = 2, 2 * 4
    numbers_per_token = (residual_and_normalised + gate_and_up) * model.hidden_size
    return num_tokens * numbers_per_token * model.dtype_bytes


def reserved_layout(
    model: ModelSpec,
    gpu: GPUSpec,
    max_model_len: int,
    num_sequences: int,
    mean_tokens: int,
    gpu_memory_utilization: float,
) -> Layout:
    """Lay out sequences that each reserve ``max_model_len`` tokens and use ``mean_tokens``."""
    per_token = kv_bytes_per_token(model)
    fixed, kv_bytes, headroom = _split_memory(model, gpu, gpu_memory_utilization)
    num_fitting = kv_bytes // (max_model_len * per_token)
    num_shown = min(num_fitting, num_sequences)
    return Layout(
        fixed=fixed,
        per_sequence=(
            Segment("used", mean_tokens * per_token, "holds tokens"),
            Segment("empty", (max_model_len - mean_tokens) * per_token, "reserved, empty"),
        ),
        num_fitting=num_fitting,
        num_sequences=num_sequences,
        left=kv_bytes - num_shown * max_model_len * per_token,
        headroom=headroom,
    )


def paged_layout(
    model: ModelSpec,
    gpu: GPUSpec,
    num_sequences: int,
    mean_tokens: int,
    gpu_memory_utilization: float,
) -> Layout:
    """Lay out sequences that each take the blocks that ``mean_tokens`` fill."""
    fixed, kv_bytes, headroom = _split_memory(model, gpu, gpu_memory_utilization)
    num_blocks = num_kv_blocks(
        model, gpu, BLOCK_SIZE, gpu_memory_utilization, estimated_activation_bytes(model)
    )
    num_fitting = max_concurrent_sequences(num_blocks, BLOCK_SIZE, mean_tokens)
    blocks_per_sequence = -(-mean_tokens // BLOCK_SIZE)
    sequence_bytes = blocks_per_sequence * kv_bytes_per_block(model, BLOCK_SIZE)
    used = mean_tokens * kv_bytes_per_token(model)
    return Layout(
        fixed=fixed,
        per_sequence=(
            Segment("used", used, "holds tokens"),
            Segment("empty", sequence_bytes - used, "end of the last block"),
        ),
        num_fitting=num_fitting,
        num_sequences=num_sequences,
        left=kv_bytes - min(num_fitting, num_sequences) * sequence_bytes,
        headroom=headroom,
    )


def _split_memory(
    model: ModelSpec, gpu: GPUSpec, gpu_memory_utilization: float
) -> tuple[tuple[Segment, ...], int, int]:
    """Return weights and activations, the bytes left for the KV cache, and the headroom."""
    if not 0 < gpu_memory_utilization <= 1:
        raise ValueError(
            f"gpu_memory_utilization is {gpu_memory_utilization}; "
            "it is a share above 0 and at most 1"
        )
    usable = int(gpu.memory_bytes * gpu_memory_utilization)
    activations = estimated_activation_bytes(model)
    kv_bytes = usable - model.weight_bytes - activations
    if kv_bytes < kv_bytes_per_block(model, BLOCK_SIZE):
        raise ValueError(
            f"{model.name} does not leave room for a KV cache on {gpu.name}: weights take "
            f"{gib(model.weight_bytes)} and activations about {gib(activations)}, and the engine "
            f"may use {gib(usable)}. Choose a larger GPU or a smaller model."
        )
    fixed = (
        Segment("weights", model.weight_bytes, "weights"),
        Segment("activations", activations, "activations (estimate)"),
    )
    return fixed, kv_bytes, gpu.memory_bytes - usable


def gib(num_bytes: int) -> str:
    """Return bytes in GiB, with one digit behind the point.

    >>> gib(3 * 2**29)
    '1.5 GiB'
    """
    return f"{num_bytes / GiB:,.1f} GiB"


def binary_size(num_bytes: int) -> str:
    """Return bytes in the largest binary unit that gives at least one.

    >>> binary_size(131072), binary_size(3 * 2**30 // 2)
    ('128 KiB', '1.5 GiB')
    """
    power = min((num_bytes.bit_length() - 1) // 10, 4)
    number = f"{num_bytes / 2 ** (10 * power):,.2f}".rstrip("0").rstrip(".")
    return f"{number} {('B', 'KiB', 'MiB', 'GiB', 'TiB')[power]}"

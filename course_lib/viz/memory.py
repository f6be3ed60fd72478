"""Lesson 1's figure: what one GPU's memory holds when every sequence reserves its maximum length.

Two bars show the same sequences on the same GPU: reserved in one piece at the maximum length, and
stored in blocks of 16 tokens that are taken as tokens come.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from course_lib.kv_cache.sizing import (
    kv_bytes_per_block,
    kv_bytes_per_token,
    max_concurrent_sequences,
    num_kv_blocks,
)
from course_lib.specs import GPUS, MODELS, GiB, GPUSpec, ModelSpec
from course_lib.viz.explorer import Choice, Explorer, PowerOfTwo, Slider
from course_lib.viz.scene import (
    HEADING_SIZE,
    SMALL_SIZE,
    TEXT_SIZE,
    Line,
    Rect,
    Scale,
    Scene,
    Shape,
    Text,
    Tone,
    fitting,
    horizontal_axis,
    legend,
    states_in,
)

BLOCK_SIZE = 16
MAX_NUM_BATCHED_TOKENS = 2048

_WIDTH, _HEIGHT, _MARGIN, _BAR_HEIGHT = 960, 484, 24, 58
_BEYOND = 1.22  # the axis ends this far beyond the GPU's memory, to show what does not fit
_NARROWEST_SEQUENCE = 7  # pixels; thinner sequences are drawn as one
_NARROWEST_OUTLINED = 18  # pixels; between the outlines of a thinner box its colour would drown


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
            Segment("reserved", (max_model_len - mean_tokens) * per_token, "reserved, empty"),
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
            Segment("internal", sequence_bytes - used, "end of the last block"),
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
            f"{_gib(model.weight_bytes)} and activations about {_gib(activations)}, and the engine "
            f"may use {_gib(usable)}. Choose a larger GPU or a smaller model."
        )
    fixed = (
        Segment("weights", model.weight_bytes, "weights"),
        Segment("activations", activations, "activations (estimate)"),
    )
    return fixed, kv_bytes, gpu.memory_bytes - usable


def gpu_memory_scene(
    model: str,
    gpu: str,
    max_model_len: int,
    num_sequences: int,
    mean_tokens: int,
    gpu_memory_utilization: float = 0.92,
) -> Scene:
    """Draw one GPU's memory under reservations and under blocks of 16 tokens.

    Args:
        model: Key of ``MODELS``.
        gpu: Key of ``GPUS``.
        max_model_len: Tokens that each sequence reserves.
        num_sequences: Sequences that ask for memory at the same time.
        mean_tokens: Tokens that each sequence really holds.
        gpu_memory_utilization: Share of the memory that the engine may use.

    Raises:
        ValueError: The weights leave no room, a count is less than 1, or ``mean_tokens`` is more
            than ``max_model_len``.
        KeyError: The catalogue has no such model or GPU.

    >>> scene = gpu_memory_scene("llama-3.1-8b", "rtx-4090", 4096, 16, 500)
    >>> [text for text in scene.texts() if "fit" in text][0]
    '13 of 16 sequences fit; the other 3 need 1.5 GiB'
    """
    if min(max_model_len, num_sequences, mean_tokens) < 1:
        raise ValueError(
            f"max_model_len, num_sequences and mean_tokens are {max_model_len}, {num_sequences} "
            f"and {mean_tokens}; each must be at least 1"
        )
    if mean_tokens > max_model_len:
        raise ValueError(
            f"A sequence cannot hold {mean_tokens:,} tokens when it may have {max_model_len:,} at "
            "most. Lower the tokens really used, or raise the maximum length."
        )
    model_spec, gpu_spec = MODELS[model], GPUS[gpu]
    reserved = reserved_layout(
        model_spec, gpu_spec, max_model_len, num_sequences, mean_tokens, gpu_memory_utilization
    )
    paged = paged_layout(model_spec, gpu_spec, num_sequences, mean_tokens, gpu_memory_utilization)
    title = f"{model_spec.name} on {gpu_spec.name}"
    scale = Scale(0, gpu_spec.memory_bytes * _BEYOND / GiB, _MARGIN, _WIDTH - _MARGIN)
    one_block = kv_bytes_per_block(model_spec, BLOCK_SIZE)

    shapes: list[Shape] = [
        Text(_MARGIN, 30, title, HEADING_SIZE, is_bold=True),
        Text(
            _MARGIN,
            58,
            f"KV cache per token {_size(kv_bytes_per_token(model_spec))}   ·   "
            f"per reservation {_size(reserved.sequence_bytes)}   ·   "
            f"per block of {BLOCK_SIZE} tokens {_size(one_block)}",
        ),
        *_bar(reserved, scale, 102, "reserved", f"Reserve {max_model_len:,} tokens each"),
        *_bar(paged, scale, 232, "paged", f"Take blocks of {BLOCK_SIZE} tokens as needed"),
    ]
    shapes += _end_of_gpu(scale, gpu_spec, top=116, bottom=352)
    shapes += horizontal_axis(scale, 352, "GPU memory (GiB)")
    shapes += legend(states_in(shapes), _MARGIN, 418, width=_WIDTH - 2 * _MARGIN)
    return Scene(
        _WIDTH,
        _HEIGHT,
        tuple(shapes),
        title=f"Memory of one GPU: {title}",
        alt=f"Reserving {max_model_len:,} tokens each. {_verdict(reserved)}. {_waste(reserved)}. "
        f"In blocks of {BLOCK_SIZE} tokens. {_verdict(paged)}. {_waste(paged)}.",
    )


def gpu_memory() -> Explorer:
    """Return the figure with controls for model, GPU, maximum length, sequences and tokens used.

    >>> gpu_memory().values["model"]
    'llama-3.1-8b'
    """
    return Explorer(
        gpu_memory_scene,
        {
            "model": Choice("Model", {s.name: k for k, s in MODELS.items()}, "llama-3.1-8b"),
            "gpu": Choice("GPU", {s.name: k for k, s in GPUS.items()}, "rtx-4090"),
            "max_model_len": PowerOfTwo("Maximum length", 256, 131_072, 4096, unit="tokens"),
            "num_sequences": Slider("Sequences (batch)", 1, 256, 16),
            "mean_tokens": Slider("Really used", 10, 4000, 500, step=10, unit="tokens"),
        },
    )


def _bar(layout: Layout, scale: Scale, top: float, prefix: str, title: str) -> list[Shape]:
    """Draw one layout: a title, the bar, and under it what fits and how much of it is in use."""
    bar_top = top + 14
    end_of_gpu = sum(segment.num_bytes for segment in layout.segments())
    shapes: list[Shape] = [
        Text(_MARGIN, top, title, TEXT_SIZE, is_bold=True),
        Text(scale(end_of_gpu / GiB) - 10, top, _waste(layout), TEXT_SIZE, "end"),
    ]
    start = 0
    for key, segment in _drawn_segments(layout, scale):
        if segment.num_bytes:
            shapes.append(_box(segment, start, scale, bar_top, f"{prefix}-{key}"))
        start += segment.num_bytes
    if layout.num_refused:
        shapes += _overflow(layout.overflow, end_of_gpu, scale, bar_top, f"{prefix}-overflow")
    tone: Tone = "alert" if layout.num_refused else "text"
    verdict_y = bar_top + _BAR_HEIGHT + 23
    shapes.append(Text(_MARGIN, verdict_y, _verdict(layout), TEXT_SIZE, tone=tone, is_bold=True))
    return shapes


def _drawn_segments(layout: Layout, scale: Scale) -> list[tuple[str, Segment]]:
    """Return a key and a segment for each box: one run per sequence where there is room for it."""
    if scale(layout.sequence_bytes / GiB) - scale(0) >= _NARROWEST_SEQUENCE:
        runs = [(str(n), f"sequence {n}", 1) for n in range(1, layout.num_shown + 1)]
    else:
        runs = [("all", f"{layout.num_shown} sequences", layout.num_shown)]
    of_sequences = [
        (
            f"{key}-{segment.state}",
            Segment(segment.state, segment.num_bytes * count, f"{who}: {segment.name}"),
        )
        for key, who, count in runs
        for segment in layout.per_sequence
    ]
    return [
        *((segment.state, segment) for segment in layout.fixed),
        *of_sequences,
        *((segment.state, segment) for segment in layout.leftover),
    ]


def _box(segment: Segment, start: int, scale: Scale, top: float, key: str) -> Rect:
    """Draw one segment, named inside if there is room for the name."""
    left, right = scale(start / GiB), scale((start + segment.num_bytes) / GiB)
    size = _gib(segment.num_bytes)
    label = fitting(right - left, f"{segment.name} {size}", segment.name, size)
    return Rect(
        left,
        top,
        right - left,
        _BAR_HEIGHT,
        segment.state,
        label,
        tooltip=f"{segment.name}: {size}",
        key=key,
        outline="thin" if right - left >= _NARROWEST_OUTLINED else "none",
    )


def _overflow(segment: Segment, start: int, scale: Scale, top: float, key: str) -> Sequence[Shape]:
    """Draw what does not fit beyond the GPU's end, with an arrow where it goes on off the page."""
    left = scale(start / GiB)
    right = min(scale((start + segment.num_bytes) / GiB), scale.end)
    size = _gib(segment.num_bytes)
    box = Rect(
        left,
        top,
        right - left,
        _BAR_HEIGHT,
        segment.state,
        fitting(right - left, segment.name, f"{size}"),
        tooltip=f"{segment.name}: {size} more would be needed",
        key=key,
    )
    if right < scale.end:
        return [box]
    middle = top + _BAR_HEIGHT / 2
    return [box, Line(((right - 2, middle), (right + 18, middle)), "alert", 4, has_arrow=True)]


def _end_of_gpu(scale: Scale, gpu: GPUSpec, top: float, bottom: float) -> list[Shape]:
    """Mark where the GPU's memory ends, across both bars."""
    x = scale(gpu.memory_bytes / GiB)
    return [
        Line(((x, top - 8), (x, bottom)), thickness=4),
        Text(x + 10, top - 4, f"ends at {_gib(gpu.memory_bytes)}", SMALL_SIZE, tone="muted"),
    ]


def _verdict(layout: Layout) -> str:
    """Say how many sequences fit."""
    if layout.num_refused:
        return (
            f"{layout.num_shown} of {layout.num_sequences} sequences fit; "
            f"the other {layout.num_refused} need {_gib(layout.overflow.num_bytes)}"
        )
    spare = layout.num_fitting - layout.num_sequences
    return f"All {layout.num_sequences} sequences fit, and {spare:,} more would"


def _waste(layout: Layout) -> str:
    """Say how much of the memory that the sequences hold is in use."""
    if not layout.num_shown:
        return "not one reservation fits"
    used = layout.per_sequence[0].num_bytes / layout.sequence_bytes
    held = layout.num_shown * layout.sequence_bytes
    return f"{_gib(held)} taken, {used:.1%} of it holds tokens"


def _gib(num_bytes: int) -> str:
    return f"{num_bytes / GiB:,.1f} GiB"


def _size(num_bytes: int) -> str:
    """Return bytes in the largest binary unit that gives at least one.

    >>> _size(131072), _size(3 * 2**30 // 2)
    ('128 KiB', '1.5 GiB')
    """
    power = min((num_bytes.bit_length() - 1) // 10, 4)
    number = f"{num_bytes / 2 ** (10 * power):,.2f}".rstrip("0").rstrip(".")
    return f"{number} {('B', 'KiB', 'MiB', 'GiB', 'TiB')[power]}"

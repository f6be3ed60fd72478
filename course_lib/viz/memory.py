"""Lesson 1's figure: what one GPU's memory holds when every sequence reserves its maximum length.

Two bars show the same sequences on the same GPU: reserved in one piece at the maximum length, and
stored in blocks of 16 tokens that are taken as tokens come.
"""

from __future__ import annotations

from collections.abc import Sequence

from course_lib.kv_cache.sizing import kv_bytes_per_block, kv_bytes_per_token
from course_lib.specs import GPUS, MODELS, GiB, GPUSpec
from course_lib.viz.kit.charts.axes import Scale, horizontal_axis
from course_lib.viz.kit.controls import Choice, PowerOfTwo, Slider
from course_lib.viz.kit.explorer import Explorer
from course_lib.viz.kit.layout import fitting, legend
from course_lib.viz.kit.own_parts import shows_own_parts
from course_lib.viz.kit.scene import Scene
from course_lib.viz.kit.shapes import (
    HEADING_SIZE,
    SMALL_SIZE,
    TEXT_SIZE,
    Line,
    Rect,
    Shape,
    Text,
    Tone,
    states_in,
)
from course_lib.viz.memory_layout import (
    BLOCK_SIZE,
    Layout,
    Segment,
    binary_size,
    gib,
    paged_layout,
    reserved_layout,
)

_WIDTH, _HEIGHT, _MARGIN, _BAR_HEIGHT = 960, 484, 24, 58
_BEYOND = 1.22  # the axis ends this far beyond the GPU's memory, to show what does not fit
_NARROWEST_SEQUENCE = 7  # pixels; thinner sequences are drawn as one
_NARROWEST_OUTLINED = 18  # pixels; between the outlines of a thinner box its colour would drown


@shows_own_parts
def gpu_memory_scene(
    model: str,
    gpu: str,
    max_model_len: int,
    num_sequences: int,
    mean_tokens: int,
    gpu_memory_utilization: float = 0.92,
) -> Scene:
    """Draw one GPU's memory under reservations and under blocks of 16 tokens.

    It shows the learner's own ``kv_bytes_per_token`` and ``num_kv_blocks``, where there are any.

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
    _require_counts(max_model_len, num_sequences, mean_tokens)
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
            f"KV cache per token {binary_size(kv_bytes_per_token(model_spec))}   ·   "
            f"per reservation {binary_size(reserved.sequence_bytes)}   ·   "
            f"per block of {BLOCK_SIZE} tokens {binary_size(one_block)}",
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


def _require_counts(max_model_len: int, num_sequences: int, mean_tokens: int) -> None:
    """Raise ValueError unless such sequences can be."""
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
    size = gib(segment.num_bytes)
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
    size = gib(segment.num_bytes)
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
        Text(x + 10, top - 4, f"ends at {gib(gpu.memory_bytes)}", SMALL_SIZE, tone="muted"),
    ]


def _verdict(layout: Layout) -> str:
    """Say how many sequences fit."""
    if layout.num_refused:
        return (
            f"{layout.num_shown} of {layout.num_sequences} sequences fit; "
            f"the other {layout.num_refused} need {gib(layout.overflow.num_bytes)}"
        )
    spare = layout.num_fitting - layout.num_sequences
    return f"All {layout.num_sequences} sequences fit, and {spare:,} more would"


def _waste(layout: Layout) -> str:
    """Say how much of the memory that the sequences hold is in use."""
    if not layout.num_shown:
        return "not one reservation fits"
    used = layout.per_sequence[0].num_bytes / layout.sequence_bytes
    held = layout.num_shown * layout.sequence_bytes
    return f"{gib(held)} taken, {used:.1%} of it holds tokens"

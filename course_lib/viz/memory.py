"""Lesson 1's figure: what one GPU's memory holds when every sequence reserves its maximum length.

Two bars show the same sequences on the same GPU: reserved in one piece at the maximum length, and
stored in blocks of 16 tokens that are taken as tokens come.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from course_lib.kv_cache.sizing import kv_bytes_per_block, kv_bytes_per_token
from course_lib.specs import GPUS, MODELS, GiB
from course_lib.viz.kit.charts.axes import Scale, horizontal_axis
from course_lib.viz.kit.controls import Choice, PowerOfTwo, Slider
from course_lib.viz.kit.explorer import Explorer
from course_lib.viz.kit.layout import (
    NARROW,
    SLIM,
    WIDE,
    bottom_of,
    fitting,
    legend,
    text_width,
    wrapped,
)
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
    Thing,
    Tone,
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

_MARGIN, _BAR_HEIGHT = 24, 66
_LINE = 26
_STATES = (
    "weights",
    "activations",
    "used",
    "empty",
    "external",
    "headroom",
    "overflow",
    "free",
)
_BEYOND = 1.22  # the axis ends this far beyond the GPU's memory, to show what does not fit
_NARROWEST_SEQUENCE = 5  # pixels; thinner sequences are drawn as one
_LOWEST_LABEL = 20  # pixels; a lower box has no room for a name


@shows_own_parts
def gpu_memory_scene(
    model: str,
    gpu: str,
    max_model_len: int,
    num_sequences: int,
    mean_tokens: int,
    gpu_memory_utilization: float = 0.92,
    width: float = WIDE,
) -> Scene:
    """Draw one GPU's memory under reservations and under blocks of 16 tokens.

    What a sequence takes is as wide as its bytes, and filled from below as far as it holds tokens.
    It shows the learner's own ``kv_bytes_per_token`` and ``num_kv_blocks``, where there are any.

    Args:
        model: Key of ``MODELS``.
        gpu: Key of ``GPUS``.
        max_model_len: Tokens that each sequence reserves.
        num_sequences: Sequences that ask for memory at the same time.
        mean_tokens: Tokens that each sequence really holds.
        gpu_memory_utilization: Share of the memory that the engine may use.
        width: Width of the picture.

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
    page = _Page(Scale(0, gpu_spec.memory_bytes * _BEYOND / GiB, _MARGIN, width - _MARGIN), width)
    one_block = kv_bytes_per_block(model_spec, BLOCK_SIZE)
    facts = (
        f"KV cache per token {binary_size(kv_bytes_per_token(model_spec))}",
        f"per reservation {binary_size(reserved.sequence_bytes)}",
        f"per block of {BLOCK_SIZE} tokens {binary_size(one_block)}",
    )
    shapes: list[Shape] = [Text(_MARGIN, 30, title, HEADING_SIZE, is_bold=True)]
    for number, line in enumerate(page.lines(facts, "   ·   ")):
        shapes.append(Text(_MARGIN, 58 + number * _LINE, line))
    gap = 42 if width >= WIDE else 30  # a tall picture leaves its controls behind
    first = bottom_of(shapes) + gap
    shapes += _bar(reserved, page, first, "reserved", f"Reserve {max_model_len:,} tokens each")
    second = bottom_of(shapes) + gap + 4
    shapes += _bar(paged, page, second, "paged", f"Take blocks of {BLOCK_SIZE} tokens as needed")
    axis = bottom_of(shapes) + 14
    end = f"the thick line is its end, {gib(gpu_spec.memory_bytes)}"
    room = width - 2 * _MARGIN
    ends = fitting(room, f"GPU memory (GiB); {end}", f"GiB; {end}")
    shapes += horizontal_axis(page.scale, axis, ends)
    shapes += legend(_STATES, _MARGIN, axis + 66, width=width - 2 * _MARGIN)
    if width < WIDE:
        shapes.append(_remark_below(bottom_of(shapes) + 20, room))
    return Scene(
        width,
        bottom_of(shapes) + 14,
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
        narrow=SLIM,
    )


@dataclass(frozen=True)
class _Page:
    """How wide the picture is, and where a byte stands in it."""

    scale: Scale
    width: float

    def lines(self, parts: Sequence[str], separator: str) -> list[str]:
        """Return the parts in as few lines as the page is wide enough for."""
        lines = [parts[0]]
        for part in parts[1:]:
            line = f"{lines[-1]}{separator}{part}"
            if text_width(line) <= self.width - 2 * _MARGIN:
                lines[-1] = line
            else:
                lines.append(part)
        return lines

    @property
    def most_lines(self) -> int:
        """Lines that a sentence in bold may take."""
        return 1 if self.width >= NARROW else 2

    def broken(self, sentence: str) -> Sequence[str]:
        """Return a sentence in bold in as many lines as it takes, where it may take several."""
        if self.most_lines == 1:
            return [sentence]
        return wrapped(sentence, (self.width - 2 * _MARGIN) / 1.1)


def _bar(layout: Layout, page: _Page, top: float, prefix: str, title: str) -> list[Shape]:
    """Draw one layout: a title, the bar, and under it what fits and how much of it is in use."""
    scale = page.scale
    end_of_gpu = sum(segment.num_bytes for segment in layout.segments())
    shapes: list[Shape] = [Text(_MARGIN, top, title, TEXT_SIZE, is_bold=True)]
    runs = _runs(layout, scale)
    how = "all sequences in one box" if len(runs) == 1 < layout.num_shown else "a box per sequence"
    if runs and page.width >= WIDE:
        remark = f"{how}, filled from below as far as it holds tokens"
        shapes.append(Text(page.width - _MARGIN, top, remark, SMALL_SIZE, "end", tone="muted"))
    bar_top = top + 14
    start = 0
    for segment in layout.fixed:
        shapes += _box(segment, start, scale, bar_top, prefix)
        start += segment.num_bytes
    for key, who, count in runs:
        shapes += _sequence(layout, count, start, scale, bar_top, f"{prefix}-{key}", who)
        start += count * layout.sequence_bytes
    for segment in layout.leftover:
        shapes += _box(segment, start, scale, bar_top, prefix)
        start += segment.num_bytes
    if layout.num_refused:
        shapes += _overflow(layout.overflow, end_of_gpu, scale, bar_top, f"{prefix}-overflow")
    end = scale(end_of_gpu / GiB)
    shapes.append(Line(((end, bar_top - 8), (end, bar_top + _BAR_HEIGHT + 6)), thickness=4))
    tone: Tone = "alert" if layout.num_refused else "text"
    y = bar_top + _BAR_HEIGHT + 24
    said = (_verdict(layout), _waste(layout))
    for number, line in enumerate(page.broken(said[0])):
        place = y + number * _LINE
        shapes.append(Text(_MARGIN, place, line, TEXT_SIZE, tone=tone, is_bold=True))
    if len(page.lines(said, " " * 12)) == 1:
        shapes.append(Text(page.width - _MARGIN, y, said[1], TEXT_SIZE, "end"))
    else:
        # Always at the same height, so that nothing jumps while a control is dragged.
        shapes.append(Text(_MARGIN, y + page.most_lines * _LINE, said[1]))
    return shapes


def _remark_below(top: float, room: float) -> Text:
    """Say how sequences are drawn, where there is no room for it beside the names of the bars."""
    how = fitting(
        room,
        "Sequences are filled from below as far as they hold tokens",
        "Sequences are filled from below with tokens",
    )
    return Text(_MARGIN, top, how, SMALL_SIZE, tone="muted")


def _runs(layout: Layout, scale: Scale) -> list[tuple[str, str, int]]:
    """Return key, name and number of sequences of each box: a box each where there is room."""
    if scale(layout.sequence_bytes / GiB) - scale(0) >= _NARROWEST_SEQUENCE:
        return [(str(n), f"sequence {n}", 1) for n in range(1, layout.num_shown + 1)]
    if not layout.num_shown:
        return []
    return [("all", "all sequences", layout.num_shown)]


def _box(segment: Segment, start: int, scale: Scale, top: float, prefix: str) -> list[Shape]:
    """Draw one segment, named inside if there is room for the name."""
    if not segment.num_bytes:
        return []
    left, right = scale(start / GiB), scale((start + segment.num_bytes) / GiB)
    size = gib(segment.num_bytes)
    label = fitting(right - left, f"{segment.name} {size}", segment.name, size)
    return [
        Rect(
            left,
            top,
            right - left,
            _BAR_HEIGHT,
            segment.state,
            label,
            tooltip=f"{segment.name}: {size}",
            key=f"{prefix}-{segment.state}",
            of=("memory", segment.state),
        )
    ]


def _sequence(
    layout: Layout, count: int, start: int, scale: Scale, top: float, key: str, who: str
) -> Iterator[Shape]:
    """Draw what sequences take: filled from below as far as it holds tokens, in a frame.

    A sliver of a few tokens beside thousands of empty slots would read as a border.
    """
    left, right = scale(start / GiB), scale((start + count * layout.sequence_bytes) / GiB)
    width, bottom = right - left, top + _BAR_HEIGHT
    thing: Thing = ("sequence", who)
    for segment in layout.per_sequence:
        height = _BAR_HEIGHT * segment.num_bytes / layout.sequence_bytes
        bottom -= height
        if not segment.num_bytes:
            continue
        size = gib(segment.num_bytes * count)
        names = (f"{segment.name} {size}", segment.name, size) if height >= _LOWEST_LABEL else ()
        yield Rect(
            left,
            bottom,
            width,
            height,
            segment.state,
            fitting(width, *names),
            tooltip=f"{who}: {segment.name}, {size}",
            key=f"{key}-{segment.state}",
            outline="none",
            of=thing,
        )
    yield Rect(left, top, width, _BAR_HEIGHT, key=key, tooltip=who, of=thing)


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


def _verdict(layout: Layout) -> str:
    """Say how many sequences fit."""
    if layout.num_refused:
        several = layout.num_refused > 1
        others = f"other {layout.num_refused} need" if several else "other one needs"
        return (
            f"{layout.num_shown} of {layout.num_sequences} sequences fit; "
            f"the {others} {gib(layout.overflow.num_bytes)}"
        )
    spare = layout.num_fitting - layout.num_sequences
    several = layout.num_sequences > 1
    who = f"All {layout.num_sequences} sequences fit" if several else "The sequence fits"
    return f"{who}, and {f'{spare:,}' if spare else 'not one'} more would"


def _waste(layout: Layout) -> str:
    """Say how much of the memory that the sequences hold is in use."""
    if not layout.num_shown:
        return "not one reservation fits"
    used = layout.per_sequence[0].num_bytes / layout.sequence_bytes
    held = layout.num_shown * layout.sequence_bytes
    return f"{gib(held)} taken, {used:.1%} of it holds tokens"

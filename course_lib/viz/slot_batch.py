"""Lesson 3's second figure: the slots of all tokens of a ragged batch, each by its own table."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate

from course_lib.kv_cache.block_table import pad_block_tables, slot_mapping
from course_lib.viz.address_translation import example_cache
from course_lib.viz.cache_rows import (
    CELL_HEIGHT,
    FIRST_ROW,
    TILE_GAP,
    TILE_HEIGHT,
    PoolView,
    Row,
    Span,
    scene_of_rows,
)
from course_lib.viz.kit.controls import PowerOfTwo, Slider
from course_lib.viz.kit.explorer import Explorer
from course_lib.viz.kit.layout import SLIM, WIDE, fitting
from course_lib.viz.kit.own_parts import shows_own_parts
from course_lib.viz.kit.scene import Scene
from course_lib.viz.kit.shapes import SMALL_SIZE, Line, Rect, Shape, Text, Thing
from course_lib.viz.translation import PagedCache, token_owners

_GROUP_GAP = 12  # between the tokens of two sequences


@dataclass(frozen=True)
class _Token:
    """A token of the batch: whose it is, where it stands, and the slot that was found for it.

    Padding has no sequence.
    """

    request: str
    position: int
    slot: int
    group: int

    @property
    def name(self) -> str:
        return f"position {self.position} of {self.request}" if self.request else "padding"

    @property
    def thing(self) -> Thing | None:
        return ("token", f"{self.request}:{self.position}") if self.request else None


@shows_own_parts
def batch_scene(
    cache: PagedCache,
    new_tokens: Mapping[str, Sequence[int]],
    num_padding: int = 0,
    width: float = WIDE,
) -> Scene:
    """Draw the slots of a ragged batch: tokens of several sequences and padding, side by side.

    It shows the learner's own ``slot_mapping``, where there is one.

    Args:
        cache: The cache to look at.
        new_tokens: The positions of each sequence in the batch, by its name.
        num_padding: Tokens of padding at the end.
        width: Width of the picture, in pixels: ``WIDE`` or ``NARROW``.

    Raises:
        ValueError: There are no tokens, no such sequence, or a position has no slot.

    >>> cache = PagedCache({"r0": (7, 3, 5), "r1": (2, 9)}, {"r0": 10, "r1": 6})
    >>> scene = batch_scene(cache, {"r0": [9], "r1": [3, 4, 5]}, num_padding=2)
    >>> scene.alt.rpartition(": ")[2]
    '21 11 36 37 -1 -1.'
    """
    starts = [0, *accumulate(map(len, new_tokens.values()))]
    tokens = _tokens(cache, new_tokens, num_padding, starts)
    size = cache.block_size
    span = Span.of(width)
    rows = [_positions(tokens, starts, span)]
    rows.append(_tables(cache, tokens, list(new_tokens), span, rows[-1].bottom + 14))
    rows.append(_blocks(cache, tokens, span, rows[-1].bottom + 14))
    rows.append(_slots(cache, tokens, span, rows[-1].bottom + 14))
    rows.append(_pool(cache, tokens, span, rows[-1].bottom + 44))
    found = " ".join(str(token.slot) for token in tokens)
    sequences = ", ".join(
        f"{name} at {' '.join(map(str, positions))}" for name, positions in new_tokens.items()
    )
    return scene_of_rows(
        cache,
        headings=[f"{_count(starts[-1], num_padding)}, mapped at once"],
        title="The slots of a batch",
        alt=f"A batch with blocks of {size} slots, {_count(starts[-1], num_padding)}: "
        f"{sequences}. Each token reads the table of its own sequence. The slots: {found}.",
        rows=rows,
        width=width,
    )


def example_batch(
    num_of_r0: int, num_of_r1: int, num_padding: int, block_size: int, width: float = WIDE
) -> Scene:
    """Draw ``batch_scene`` for the last tokens of lesson 3's example: r0 has 10, and r1 has 6.

    Args:
        num_of_r0: Tokens of r0 in the batch.
        num_of_r1: Tokens of r1 in the batch.
        num_padding: Tokens of padding.
        block_size: Slots per block.
        width: Width of the picture, in pixels.
    """
    cache = example_cache(block_size)
    new_tokens = {
        name: range(cache.num_tokens[name] - count, cache.num_tokens[name])
        for name, count in (("r0", num_of_r0), ("r1", num_of_r1))
    }
    return batch_scene(cache, new_tokens, num_padding, width)


def token_batch() -> Explorer:
    """Return the figure with controls for the tokens of two sequences, padding and block size.

    >>> token_batch().values["num_padding"]
    2
    """
    return Explorer(
        example_batch,
        {
            "num_of_r0": Slider("Tokens of r0", 1, 4, 1),
            "num_of_r1": Slider("Tokens of r1", 1, 4, 3),
            "num_padding": Slider("Padding", 0, 4, 2, unit="tokens"),
            "block_size": PowerOfTwo("Block size", 2, 16, 4, unit="slots"),
        },
        narrow=SLIM,
    )


def _tokens(
    cache: PagedCache,
    new_tokens: Mapping[str, Sequence[int]],
    num_padding: int,
    starts: Sequence[int],
) -> list[_Token]:
    """Find the slots of all tokens with one call."""
    import numpy as np

    for name in new_tokens:
        if name not in cache.tables:
            raise ValueError(f"no sequence {name!r}; there are {', '.join(cache.tables)}")
    if starts[-1] + num_padding == 0:
        raise ValueError("the batch is empty; give at least one token")
    owners = [(name, position) for name, each in new_tokens.items() for position in each]
    owners += [("", 0)] * num_padding
    slots = slot_mapping(
        pad_block_tables([cache.tables[name] for name in new_tokens]),
        np.array(starts),
        np.array([position for _, position in owners]),
        cache.block_size,
    )
    groups = [*new_tokens, ""]
    return [
        _Token(name, position, int(slot), groups.index(name))
        for (name, position), slot in zip(owners, slots, strict=True)
    ]


def _count(num_tokens: int, num_padding: int) -> str:
    """Say how many tokens there are."""
    tokens = "1 token" if num_tokens == 1 else f"{num_tokens} tokens"
    return f"{tokens} and {num_padding} of padding" if num_padding else tokens


def _column(tokens: Sequence[_Token], index: int, span: Span) -> tuple[float, float]:
    """Return left edge and width of a token's boxes."""
    num_gaps = tokens[-1].group - tokens[0].group
    width = (span.width - num_gaps * _GROUP_GAP) / len(tokens)
    return span.left + index * width + (tokens[index].group) * _GROUP_GAP, width


def _cells(
    tokens: Sequence[_Token],
    labels: Sequence[str],
    row: str,
    states: Sequence[str],
    span: Span,
    top: float,
) -> list[Shape]:
    """Draw a box for each token."""
    shapes: list[Shape] = []
    for index, (token, label, state) in enumerate(zip(tokens, labels, states, strict=True)):
        x, width = _column(tokens, index, span)
        shapes.append(
            Rect(
                x,
                top,
                width,
                CELL_HEIGHT,
                state,
                fitting(width + 8, label),
                f"{token.name}: {row} {label}" if label else token.name,
                key=f"batch-{row}-{index}",
                outline="thin" if token.request else "dashed",
                of=token.thing,
            )
        )
    return shapes


def _positions(tokens: Sequence[_Token], starts: Sequence[int], span: Span) -> Row:
    """Draw the positions, sequence by sequence, with their names above."""
    top = FIRST_ROW + 20
    labels = [str(token.position) if token.request else "" for token in tokens]
    states = ["used" if token.request else "" for token in tokens]
    shapes = _cells(tokens, labels, "position", states, span, top)
    for name, left, right in _groups(tokens, span):
        title = fitting(right - left + 8, name or "padding", name or "pad")
        shapes.append(Text((left + right) / 2, top - 8, title, SMALL_SIZE, "middle", tone="muted"))
    text = f"query_starts [{' '.join(map(str, starts))}]"
    return Row("position", shapes, top + CELL_HEIGHT / 2, top + CELL_HEIGHT, text)


def _groups(tokens: Sequence[_Token], span: Span) -> list[tuple[str, float, float]]:
    """Return name, left and right edge of the tokens of each sequence, and of the padding."""
    edges: dict[str, tuple[float, float]] = {}
    for index, token in enumerate(tokens):
        x, width = _column(tokens, index, span)
        left, _ = edges.get(token.request, (x, x))
        edges[token.request] = left, x + width
    return [(name, left, right) for name, (left, right) in edges.items()]


def _tables(
    cache: PagedCache, tokens: Sequence[_Token], names: Sequence[str], span: Span, top: float
) -> Row:
    """Draw, below the tokens of each sequence, its row of the tables."""
    shapes: list[Shape] = []
    rectangle = pad_block_tables([cache.tables[name] for name in names])
    for name, left, right in _groups(tokens, span):
        if name:
            table = " ".join(map(str, rectangle[names.index(name)]))
            shapes.append(
                Rect(
                    left,
                    top,
                    right - left,
                    CELL_HEIGHT,
                    label=fitting(right - left + 8, table, "…"),
                    tooltip=f"row {names.index(name)} of the tables, that of {name}: {table}",
                    key=f"table-{name}",
                )
            )
    return Row("table", shapes, top + CELL_HEIGHT / 2, top + CELL_HEIGHT, "its own row")


def _blocks(cache: PagedCache, tokens: Sequence[_Token], span: Span, top: float) -> Row:
    """Draw the entry that each token reads."""
    size = cache.block_size
    labels = [
        str(cache.tables[token.request][token.position // size]) if token.request else ""
        for token in tokens
    ]
    shapes = _cells(tokens, labels, "block", [""] * len(tokens), span, top)
    text = f"entry position // {size}"
    return Row("block", shapes, top + CELL_HEIGHT / 2, top + CELL_HEIGHT, text)


def _slots(cache: PagedCache, tokens: Sequence[_Token], span: Span, top: float) -> Row:
    """Draw the slots that were found."""
    labels = [str(token.slot) for token in tokens]
    states = ["used" if token.slot >= 0 else "" for token in tokens]
    shapes = _cells(tokens, labels, "slot", states, span, top)
    text = f"block · {cache.block_size} + offset"
    return Row("slot", shapes, top + CELL_HEIGHT / 2, top + CELL_HEIGHT, text)


def _pool(cache: PagedCache, tokens: Sequence[_Token], span: Span, top: float) -> Row:
    """Draw the pool with the slots that are written, and an arrow to each."""
    size, shapes = cache.block_size, list[Shape]()
    written = {token.slot for token in tokens if token.slot >= 0}
    if written and max(written) >= cache.num_blocks * size:
        raise ValueError(
            f"slot {max(written)} is not among the {cache.num_blocks * size} of the pool"
        )
    for index, token in enumerate(tokens):
        if token.slot >= 0:
            x, width = _column(tokens, index, span)
            left, tile = span.cell(token.slot // size, cache.num_blocks, TILE_GAP)
            inner, cell = Span(left + 4, left + tile - 4).cell(token.slot % size, size)
            arrow = ((x + width / 2, top - 42), (inner + cell / 2, top - 3))
            shapes.append(
                Line(arrow, "muted", 1, has_arrow=True, key=f"arrow-{index}", of=token.thing)
            )
    view = PoolView(cache, token_owners(cache), written)
    for block_id in range(cache.num_blocks):
        shapes += view.tile(block_id, span, top)
    text = f"{len(written)} {'slot' if len(written) == 1 else 'slots'} written"
    return Row("pool", shapes, top + TILE_HEIGHT / 2, top + TILE_HEIGHT, text)

"""The upper half of lesson 2's film: the request's blocks, the query, and the block in hand."""

from __future__ import annotations

import math
from collections.abc import Sequence

from course_lib.attention.example import (
    BLOCK_SIZE,
    BLOCK_TABLE,
    NUM_BLOCKS,
    SCORES,
    VALUES,
    dense_answer,
    is_close,
    short,
    shown,
)
from course_lib.viz.kit.layout import fitting
from course_lib.viz.kit.shapes import SMALL_SIZE, Line, Rect, Shape, Text
from course_lib.viz.paged_attention.page import MARGIN, Page, bar_width, row_name
from course_lib.viz.paged_attention.steps import Answer, Reading, Step

_TABLE_TOP, _CELL = 54, 30
_POOL_TOP, _TILE, _STRIP = 126, 56, 24
_HAND_TOP = 226


def request_rows(step: Step, page: Page) -> list[Shape]:
    """Draw the block table, the pool, and an arrow from each entry to its block."""
    shapes: list[Shape] = [
        row_name("block table", _TABLE_TOP + 20),
        row_name("KV cache", _POOL_TOP + 34),
    ]
    for logical, block_id in enumerate(BLOCK_TABLE):
        x, width = page.entry(logical)
        is_in_hand = isinstance(step, Reading) and logical == step.logical
        shapes.append(
            Rect(
                x,
                _TABLE_TOP,
                width,
                _CELL,
                label=str(block_id),
                tooltip=f"entry {logical} of the block table: block {block_id}",
                key=f"entry-{logical}",
                outline="bold" if is_in_hand else "thin",
                of=("block", block_id),
            )
        )
        left, tile = page.tile(block_id)
        arrow = ((x + width / 2, _TABLE_TOP + _CELL + 3), (left + tile / 2, _POOL_TOP - 3))
        shapes.append(
            Line(
                arrow,
                "text" if is_in_hand else "muted",
                2.5 if is_in_hand else 1,
                has_arrow=True,
                key=f"arrow-{logical}",
                of=("block", block_id),
            )
        )
    for block_id in range(NUM_BLOCKS):
        shapes += _tile_of(block_id, step, page)
    return shapes


def query_tag(step: Step, page: Page) -> Rect:
    """Draw the query below the block that it reads, else at the margin."""
    x: float = MARGIN
    if isinstance(step, Reading):
        left, width = page.tile(BLOCK_TABLE[step.logical])
        x = min(left + width / 2 - 31, page.right - 62)
    says = "the query, of the token that is decoded"
    return Rect(x, _POOL_TOP + _TILE + 6, 62, 22, "decode", "query", says, "query", radius=6)


def _tile_of(block_id: int, step: Step, page: Page) -> list[Shape]:
    """Draw a block of the cache: its id and its slots."""
    left, width = page.tile(block_id)
    logical = BLOCK_TABLE.index(block_id) if block_id in BLOCK_TABLE else None
    whose = "nobody's" if logical is None else f"logical block {logical} of the request"
    if block_id == 0:
        whose = "the null block"
    state = "free" if logical is None and block_id else ""
    is_in_hand = isinstance(step, Reading) and logical == step.logical
    shapes: list[Shape] = [
        Rect(
            left,
            _POOL_TOP,
            width,
            _TILE,
            state,
            tooltip=f"block {block_id}: {whose}",
            key=f"block-{block_id}",
            outline="bold" if is_in_hand else "thin",
            of=("block", block_id),
        )
    ]
    middle = left + width / 2
    shapes.append(Text(middle, _POOL_TOP + 18, str(block_id), SMALL_SIZE, "middle", is_bold=True))
    strip = (left + 4, _POOL_TOP + _TILE - _STRIP - 4, width - 8, _STRIP)
    if block_id == 0:
        shapes.append(Rect(*strip, "null"))
    if logical is not None:
        slot = strip[2] / BLOCK_SIZE
        for offset in range(BLOCK_SIZE):
            place = (strip[0] + offset * slot, strip[1], slot, _STRIP)
            shapes.append(slot_box(logical, offset, place, "pool"))
    return shapes


def slot_box(
    logical: int, offset: int, place: tuple[float, float, float, float], row: str, label: str = ""
) -> Rect:
    """Draw a slot of one of the request's blocks.

    Args:
        logical: The logical block.
        offset: The slot in it.
        place: Left edge, upper edge, width and height.
        row: Where it is drawn; a part of the key.
        label: What is written into it, if it fits.
    """
    block_id = BLOCK_TABLE[logical]
    position = logical * BLOCK_SIZE + offset
    is_stale = offset >= len(SCORES[logical])
    says = "stale, behind the context" if is_stale else f"position {position}"
    return Rect(
        *place,
        "stale" if is_stale else "used",
        fitting(place[2] + 10, label),
        f"slot {offset} of block {block_id}: {says}",
        key=f"{row}-{logical}-{offset}",
        of=("token", position),
        lights=(("block", block_id),),
    )


def block_in_hand(step: Step, page: Page) -> list[Shape]:
    """Draw scores, weights and values of the block that is read, and what they add to."""
    if isinstance(step, Answer):
        return _comparison(step, page)
    if not isinstance(step, Reading):
        return _formulas(page)
    logical, block_id = step.logical, BLOCK_TABLE[step.logical]
    tile_left, tile_width = page.tile(block_id)
    cell = 96 if page.is_wide else (page.right - page.left) / BLOCK_SIZE
    bottom = _POOL_TOP + _TILE
    corners = ((tile_left, page.left), (tile_left + tile_width, page.left + BLOCK_SIZE * cell))
    shapes: list[Shape] = [
        Line(((above, bottom), (below, _HAND_TOP)), "muted", 1, key=f"zoom-{number}")
        for number, (above, below) in enumerate(corners)
    ]
    largest = max(SCORES[logical])
    weights = [math.exp(score - largest) for score in SCORES[logical]]
    rows = (
        ("score", [short(score) for score in SCORES[logical]]),
        ("weight", [shown(weight) for weight in weights]),
        ("value", [str(VALUES[logical])] * len(weights)),
    )
    for number, (name, labels) in enumerate(rows):
        top = _HAND_TOP + number * (_CELL + 4)
        shapes.append(row_name(name, top + 20))
        for offset, label in enumerate([*labels, "not read"][:BLOCK_SIZE]):
            place = (page.left + offset * cell, top, cell, _CELL)
            shapes.append(slot_box(logical, offset, place, f"hand-{name}", label))
    return [*shapes, *_sums(step, page, block_id, weights)]


def _sums(step: Reading, page: Page, block_id: int, weights: Sequence[float]) -> list[Shape]:
    """Say beside the block in hand, or below it, what its state is, and what it should be."""
    largest, total = float(max(SCORES[step.logical])), sum(weights)
    rights = (largest, total, total * VALUES[step.logical])
    whats = (
        "the largest score",
        f"the sum of weights e^(score − {short(largest)})",
        "the sum of weights × values",
    )
    x, top = (page.left + 4 * 96 + 22, _HAND_TOP + 20) if page.is_wide else (page.left, 346)
    gap = _CELL + 4 if page.is_wide else 22
    shapes: list[Shape] = []
    numbers = zip(("m", "l", "acc"), step.block.values(), rights, whats, strict=True)
    for row, (name, found, right, what) in enumerate(numbers):
        is_right = is_close(found, right)
        write = short if name == "m" else shown
        says = what if is_right else f"not {write(right)}"
        shapes.append(
            Text(
                x,
                top + gap * row,
                f"{name} = {write(found)}, {says}",
                SMALL_SIZE,
                tone="text" if is_right else "alert",
                of=("block", block_id),
            )
        )
    return shapes


def _formulas(page: Page) -> list[Shape]:
    """Say what the three numbers are, before the first block is read."""
    lines = (
        "Three numbers travel from block to block:",
        "m, the largest score that was seen,",
        "l, the sum of the weights e^(score − m),",
        "acc, the sum of the weights × values.",
        "The attention over the keys seen is acc / l.",
    )
    return [
        Text(page.left, _HAND_TOP + 18 + 23 * number, line, SMALL_SIZE)
        for number, line in enumerate(lines)
    ]


def _comparison(step: Answer, page: Page) -> list[Shape]:
    """Draw the answer beside that of dense attention."""
    output, right = step.before.output, dense_answer()
    agrees = is_close(output, right)
    scale = (page.right - page.left - 90) / 120
    shapes: list[Shape] = []
    for number, (name, answer) in enumerate((("by blocks", output), ("dense", right))):
        top = _HAND_TOP + 8 + number * (_CELL + 10)
        width = bar_width(answer, 120, 120 * scale)
        shapes += [
            row_name(name, top + 20),
            Rect(
                page.left,
                top,
                width,
                _CELL,
                "series-3" if number == 0 else "reference",
                tooltip=f"{name}: {shown(answer)}",
                key=f"answer-{number}",
            ),
            Text(page.left + width + 10, top + 21, shown(answer), key=f"answer-{number}-says"),
        ]
    says = "They agree." if agrees else "They do not agree."
    y = _HAND_TOP + 8 + 2 * (_CELL + 10) + 18
    shapes.append(Text(page.left, y, says, tone="text" if agrees else "alert"))
    return shapes

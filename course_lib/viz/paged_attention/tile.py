"""Lesson 2's picture of a tile: the scores that a decode kernel computes at once."""

from __future__ import annotations

from course_lib.viz.kit.layout import NARROW, WIDE, bottom_of, fitting, legend
from course_lib.viz.kit.scene import Scene
from course_lib.viz.kit.shapes import (
    HEADING_SIZE,
    TEXT_SIZE,
    Rect,
    Shape,
    Text,
    states_in,
)
from course_lib.viz.kit.view import Picture
from course_lib.viz.paged_attention.page import MARGIN, paragraphs, row_name

_CONTEXT_LEN, _BLOCK_SIZE, _TILE = 1000, 16, 128
_GROUP, _GROUP_LANES = 4, 16
_START = (_CONTEXT_LEN - 1) // _TILE * _TILE
_NUM_BLOCKS = -(-_CONTEXT_LEN // _BLOCK_SIZE)

_BOX, _MEMBER, _PADDING, _GAP = 26, 24, 9, 4
_NAMES = {
    "used": "score of a query head with a token",
    "empty": "row of padding",
    "stale": "behind the context: not read, score −∞",
}


def decode_tile() -> Picture:
    """Return a picture of the last tile of a decode of 1,000 tokens, by a group of 4 query heads.

    >>> len(decode_tile().frames)
    1
    """
    return Picture(tile_scene(), tile_scene(NARROW))


def tile_scene(width: float = WIDE) -> Scene:
    """Draw the table's entries, the tokens and the scores of the tile.

    Args:
        width: Width of the picture, in pixels: ``WIDE`` or ``NARROW``.

    >>> tile_scene().alt.partition(". ")[0]
    'The last tile of 1,000 tokens: 104 of 128 lanes valid'
    """
    is_wide = width >= WIDE
    num_valid = _CONTEXT_LEN - _START
    title = f"The last tile of {_CONTEXT_LEN:,} tokens: {num_valid} of {_TILE} lanes valid"
    size = HEADING_SIZE if is_wide else TEXT_SIZE
    shapes: list[Shape] = [Text(MARGIN, 32, title, size, is_bold=True)]
    left = 190 if is_wide else 124
    column = (width - MARGIN - left) / (_TILE // _BLOCK_SIZE)
    shapes.append(row_name(fitting(left - MARGIN, "entry of the table", "table"), 74))
    shapes.append(row_name(fitting(left - MARGIN, "first token", "token"), 74 + _BOX + _GAP))
    for member in range(_GROUP):
        shapes.append(row_name(f"member {member}", _row_top(member) + 17))
    padding = f"{_GROUP} to {_GROUP_LANES - 1}"
    shapes.append(row_name(f"{padding}: padding" if is_wide else padding, _row_top(_GROUP) + 32))
    for place in range(_TILE // _BLOCK_SIZE):
        shapes += _column(place, left + place * column, column - _GAP)
    lines = [
        f"A lane is a token: {_START} to {_START + _TILE - 1:,}, in blocks of {_BLOCK_SIZE}. Entry "
        f"{_NUM_BLOCKS - 1} is the last one that the sequence needs, and its table may end there. "
        "What is behind the context is read neither in the table nor in the cache.",
        f"A row is a query head. {_GROUP} of {_GROUP_LANES} rows are the group's; the others have "
        "queries of zeros, and what comes of them is not stored.",
    ]
    shapes += paragraphs(lines, bottom_of(shapes) + 14, width)
    shapes += legend(states_in(shapes), MARGIN, bottom_of(shapes) + 20, width - 2 * MARGIN, _NAMES)
    alt = f"{title}. {' '.join(lines)}"
    return Scene(width, bottom_of(shapes) + 14, tuple(shapes), title="A tile of scores", alt=alt)


def _row_top(row: int) -> float:
    """Return the upper edge of a row of the matrix."""
    above = min(row, _GROUP) * _MEMBER + max(row - _GROUP, 0) * _PADDING
    return 74 + 2 * (_BOX + _GAP) - 10 + above


def _column(place: int, left: float, width: float) -> list[Shape]:
    """Draw what belongs to one block of the tile: its entry, its first token, its scores."""
    logical = _START // _BLOCK_SIZE + place
    position = logical * _BLOCK_SIZE
    num_valid = min(max(_CONTEXT_LEN - position, 0), _BLOCK_SIZE)
    thing = ("entry", logical)
    entry = str(logical) if num_valid else "none"
    shapes: list[Shape] = [
        Rect(left, 56, width, _BOX, label=entry, key=f"entry-{logical}", of=thing),
        Rect(
            left,
            56 + _BOX + _GAP,
            width,
            _BOX,
            label=fitting(width + 10, f"{position:,}", str(position)),
            outline="none",
            key=f"token-{position}",
            of=thing,
        ),
    ]
    valid_width = width * num_valid / _BLOCK_SIZE
    for row in range(_GROUP_LANES):
        state = "used" if row < _GROUP else "empty"
        height = (_MEMBER if row < _GROUP else _PADDING) - 1
        parts = ((left, valid_width, state), (left + valid_width, width - valid_width, "stale"))
        for x, extent, fill in parts:
            if extent:
                key = f"{fill}-{row}-{logical}"
                shapes.append(Rect(x, _row_top(row), extent, height, fill, key=key, of=thing))
    return shapes

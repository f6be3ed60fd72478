"""A tree of prompts over the blocks of a pool: which block follows which, and where it stands."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

from course_lib.viz.kit.layout import fitting, text_width
from course_lib.viz.kit.shapes import (
    SMALL_SIZE,
    Group,
    Line,
    Outline,
    Rect,
    Shape,
    Text,
    Thing,
)

_HEADER, _LINE = 24, 26
_FLAT_FROM = 180
"""Tiles as wide as that say in two lines what others say in three."""


@dataclass(frozen=True)
class Tree:
    """Where blocks stand: a column for each place in a prompt, a row for each branch.

    Attributes:
        places: Column and row of each block, from 0.
        edges: Pairs of a block and one that follows it in some prompt.
    """

    places: Mapping[int, tuple[int, int]]
    edges: tuple[tuple[int, int], ...]

    @classmethod
    def of(cls, chains: Sequence[Sequence[int]]) -> Tree:
        """Lay out the blocks of some prompts.

        A prompt goes along the blocks that it shares with those before it; what is its own begins a
        new row. A row that branches off late stands above one that branches off early, so that no
        way crosses another one. A block stands where the first prompt has it.

        Args:
            chains: The ids of the blocks of each prompt, from its first tokens on.

        >>> tree = Tree.of([[1, 2, 3], [1, 5], [1, 2, 4]])
        >>> tree.places
        {1: (0, 0), 2: (1, 0), 3: (2, 0), 4: (2, 1), 5: (1, 2)}
        >>> tree.edges
        ((1, 2), (2, 3), (1, 5), (2, 4))
        """
        columns: dict[int, int] = {}
        following: dict[int | None, dict[int, None]] = {}
        for chain in chains:
            before: int | None = None
            for column, block_id in enumerate(chain):
                if block_id not in columns:
                    columns[block_id] = column
                    following.setdefault(before, {})[block_id] = None
                before = block_id
        places: dict[int, tuple[int, int]] = {}
        row = 0
        pending = list(reversed(following.get(None, {})))
        while pending:
            block_id = pending.pop()
            places[block_id] = columns[block_id], row
            behind = following.get(block_id, {})
            row += not behind
            pending += reversed(behind)
        edges = dict.fromkeys(pair for chain in chains for pair in pairwise(chain))
        return cls(places, tuple(edges))

    @property
    def num_rows(self) -> int:
        """Branches."""
        return max((row for _, row in self.places.values()), default=-1) + 1


@dataclass(frozen=True)
class Columns:
    """The columns of a picture: one for each place in a prompt.

    Attributes:
        left: Where the first one begins.
        width: Width of a tile.
        gap: Space between two of them.
    """

    left: float
    width: float
    gap: float

    @property
    def is_flat(self) -> bool:
        """Whether tiles have two lines, and not three."""
        return self.width >= _FLAT_FROM

    @property
    def tile_height(self) -> float:
        """Height of a tile."""
        return _HEADER + _LINE * (1 if self.is_flat else 2)

    @property
    def row(self) -> float:
        """From one branch to the next."""
        return self.tile_height + 8

    def place(self, column: int, row: int, top: float) -> tuple[float, float]:
        """Return the upper left corner of a tile.

        Args:
            column: Its column.
            row: Its row.
            top: Upper edge of the first row.
        """
        return self.x(column), top + row * self.row

    @classmethod
    def of(cls, count: int, left: float, room: float, widest: float = 201) -> Columns:
        """Return columns that fit into ``room`` pixels.

        >>> Columns.of(4, left=24, room=512)
        Columns(left=24, width=113.0, gap=20)
        """
        gap = 20 if room < 700 else 36
        return cls(left, min(widest, (room - gap * (count - 1)) / count), gap)

    def x(self, column: int) -> float:
        """Return the left edge of a column."""
        return self.left + column * (self.width + self.gap)


@dataclass(frozen=True)
class Tile:
    """What is written on a block.

    Attributes:
        headings: What its header says; of these, the first one that there is room for.
        tokens: The tokens in it.
        notes: What stands in their place, where there are none; the first one that there is room
            for.
        state: Key of the palette for its header.
        left: What stands below the tokens; in a flat tile, behind the heading.
        right: What stands at the right of the last line; the first one that there is room for.
        tooltip: The same in full.
        outline: Of the whole tile.
    """

    headings: Sequence[str]
    tokens: Sequence[int]
    state: str
    left: str = ""
    right: Sequence[str] = ()
    tooltip: str = ""
    outline: Outline = "thin"
    notes: Sequence[str] = ()

    def draw(
        self,
        columns: Columns,
        corner: tuple[float, float],
        key: str,
        of: Thing,
        lights: tuple[Thing, ...] = (),
    ) -> Group:
        """Draw the tile.

        Args:
            columns: The columns of the picture.
            corner: Left edge and upper edge.
            key: Its name from picture to picture.
            of: What it stands for.
            lights: What lights up with it.
        """
        (x, y), width, height = corner, columns.width, columns.tile_height
        edge: Outline = "dashed" if self.outline == "dashed" else "thin"
        headings = list(self.headings)
        if columns.is_flat and self.left:
            headings.insert(0, f"{headings[0]}  {self.left}")
        said = _shown(self.tokens, width) or fitting(width, *self.notes)
        shapes: list[Shape] = [
            Rect(x, y, width, _HEADER, self.state, fitting(width, *headings), outline=edge),
            Rect(x, y, width, height, outline=self.outline),
        ]
        last = y + height - 8
        if columns.is_flat:
            shapes.append(Text(x + 8, last, said, SMALL_SIZE))
            room = width - 24 - text_width(said, SMALL_SIZE)
        else:
            shapes.append(Text(x + width / 2, y + 44, said, SMALL_SIZE, "middle"))
            shapes.append(Text(x + 6, last, self.left, SMALL_SIZE, tone="muted"))
            room = width - 12 - text_width(self.left, SMALL_SIZE)
        right = next((each for each in self.right if text_width(each, SMALL_SIZE) <= room), "")
        if right:
            shapes.append(Text(x + width - 8, last, right, SMALL_SIZE, "end"))
        return Group(tuple(shapes), tooltip=self.tooltip, key=key, of=of, lights=lights)


def _shown(tokens: Sequence[int], width: float) -> str:
    """Return tokens one beside the other, the middle left out where there is no room for it."""
    if not tokens:
        return ""
    return fitting(
        width + 6, " ".join(map(str, tokens)), f"{tokens[0]} … {tokens[-1]}", f"{tokens[0]} …"
    )


def edge(
    columns: Columns,
    start: tuple[int, int],
    end: tuple[int, int],
    top: float,
    key: str,
    is_bold: bool = False,
    is_dashed: bool = False,
) -> Line:
    """Draw the way from a block to the one behind it.

    Args:
        columns: The columns.
        start: Column and row of the block in front.
        end: Column and row of the one behind it.
        top: Upper edge of the first row.
        key: Its name from picture to picture.
        is_bold: Whether it is part of what the reader looks at.
        is_dashed: Whether nobody can go this way any more.
    """
    middle = [top + row * columns.row + columns.tile_height / 2 for _, row in (start, end)]
    left, right = columns.x(start[0]) + columns.width, columns.x(end[0])
    bend = right - columns.gap / 2
    down = () if middle[0] == middle[1] else ((bend, middle[0]), (bend, middle[1]))
    points = ((left, middle[0]), *down, (right, middle[1]))
    return Line(
        points,
        "text" if is_bold else "muted",
        4 if is_bold else 1.5,
        is_dashed=is_dashed,
        key=key,
    )

"""A tree of prompts over the blocks of a pool: which block follows which, and where it stands."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

from course_lib.viz.kit.layout import fitting
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

TILE_HEIGHT = 74
ROW = TILE_HEIGHT + 14
"""From one branch to the next."""

_HEADER = 24


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
        new row. A block stands where the first prompt has it.

        Args:
            chains: The ids of the blocks of each prompt, from its first tokens on.

        >>> tree = Tree.of([[1, 2, 3], [1, 2, 4], [1, 5]])
        >>> tree.places
        {1: (0, 0), 2: (1, 0), 3: (2, 0), 4: (2, 1), 5: (1, 2)}
        >>> tree.edges
        ((1, 2), (2, 3), (2, 4), (1, 5))
        """
        places: dict[int, tuple[int, int]] = {}
        edges: dict[tuple[int, int], None] = {}
        row = 0
        for chain in chains:
            own = [each for each in chain if each not in places]
            for column, block_id in enumerate(chain):
                places.setdefault(block_id, (column, row))
            edges |= dict.fromkeys(pairwise(chain))
            row += bool(own)
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
        note: What stands in their place, where there are none.
        state: Key of the palette for its header.
        left: What stands below the tokens.
        right: What stands beside that; the first one that there is room for.
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
    note: str = ""

    def draw(
        self,
        place: tuple[float, float, float],
        key: str,
        of: Thing,
        lights: tuple[Thing, ...] = (),
    ) -> Group:
        """Draw the tile.

        Args:
            place: Left edge, upper edge, width.
            key: Its name from picture to picture.
            of: What it stands for.
            lights: What lights up with it.
        """
        x, y, width = place
        edge: Outline = "dashed" if self.outline == "dashed" else "thin"
        said = _shown(self.tokens, width) or self.note
        shapes: list[Shape] = [
            Rect(x, y, width, _HEADER, self.state, fitting(width, *self.headings), outline=edge),
            Rect(x, y, width, TILE_HEIGHT, outline=self.outline),
            Text(x + width / 2, y + 44, said, SMALL_SIZE, "middle"),
        ]
        if self.left:
            shapes.append(Text(x + 6, y + 66, self.left, SMALL_SIZE, tone="muted"))
        right = fitting(width - 6 - 10 * len(self.left), *self.right)
        if right:
            shapes.append(Text(x + width - 6, y + 66, right, SMALL_SIZE, "end"))
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
    middle = [top + row * ROW + TILE_HEIGHT / 2 for _, row in (start, end)]
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

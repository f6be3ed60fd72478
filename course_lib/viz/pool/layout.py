"""Where the parts of a pool's picture stand, so that no picture of a film jumps."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property

from course_lib.viz.kit.layout import WIDE, text_width
from course_lib.viz.kit.shapes import SMALL_SIZE, TEXT_SIZE
from course_lib.viz.pool.chips import QUEUE, Placed

MARGIN = 24
TILE_WIDTH, TILE_HEIGHT, CHIP_HEIGHT = 58, 62, 30
ROW = 38
"""Height of a row of chips."""

HEADING = 30
FACT_HEIGHT = 24
BAR_ROOM = 16

LINE_HEIGHT = 22

_TILE_GAP, _CHIP_GAP, _SECTION_GAP = 6, 5, 20
_REQUEST_WIDTH = 112
_MOST_TILES = 64
"""Blocks that get a tile each; more are drawn as a grid of small cells."""

_CELL_SIZES, _CELLS_HEIGHT = (20, 16, 12, 10, 8, 6), 420
_MOST_ROWS, _MOST_LANES, _MOST_LINES = 4, 8, 4
_MOST_ROWS_OF_REQUESTS = 2
_SHORTEST_NAME, _LONGEST_NAME = 84, 120
"""Room for what stands in front of the chips: a table's name, or where the front is."""

_NAME_GAP = 14
_LETTER = 0.6
"""Mean width of a letter of the state notation, as a share of its size."""


@dataclass(frozen=True, slots=True)
class Extent:
    """The most that each part of a film's states holds.

    Attributes:
        num_blocks: Blocks in the grid.
        largest_id: The largest id of a block.
        longest_queue: Blocks in the free queue; None if there is no queue.
        lanes: Blocks in the longest table of each lane.
        longest_name: Width of the longest name of a table, in pixels.
        lists: Names of a scheduler's lists of requests.
        longest_list: Requests in one of them.
        facts: Names of what the states tell besides.
        lines: Every state in one line.
        states: Every state that a block is ever in.
    """

    num_blocks: int = 0
    largest_id: int = 0
    longest_queue: int | None = None
    lanes: tuple[int, ...] = ()
    longest_name: float = 0
    lists: tuple[str, ...] = ()
    longest_list: int = 0
    facts: tuple[str, ...] = ()
    lines: frozenset[str] = frozenset()
    states: frozenset[str] = frozenset()

    @classmethod
    def of(cls, film: Iterable[Placed]) -> Extent:
        """Return what holds every one of the states.

        >>> from course_lib.kv_cache import BlockPool, snapshot_blocks
        >>> from course_lib.viz.pool.chips import follow
        >>> extent = Extent.of(follow([snapshot_blocks(BlockPool(num_blocks=9))]))
        >>> extent.num_blocks, extent.longest_queue, sorted(extent.states)
        (9, 8, ['free', 'null'])
        """
        film = list(film)
        queues = [len(at.chips[QUEUE]) for at in film if at.record.get("free_queue") is not None]
        chips = [chip for at in film for chip in at.every_chip()]
        lists = [each for at in film for each in at.record.get("requests", {}).items()]
        return cls(
            num_blocks=max((len(at.record.get("blocks", ())) for at in film), default=0),
            largest_id=max(
                (chip.mark.block_id for at in film for chip in at.every_chip()), default=0
            ),
            longest_queue=max(queues) if queues else None,
            lanes=_longest_in_each_lane(film),
            longest_name=max(
                (text_width(name, SMALL_SIZE) for at in film for name in at.lanes), default=0
            ),
            lists=tuple(dict.fromkeys(name for name, _ in lists)),
            longest_list=max((len(members) for _, members in lists), default=0),
            facts=tuple(dict.fromkeys(name for at in film for name in at.record.get("facts", {}))),
            lines=frozenset(at.line for at in film if at.line),
            states=frozenset(
                block["state"] for at in film for block in at.record.get("blocks", ())
            ).union(chip.state for chip in chips),
        )


def _longest_in_each_lane(film: Iterable[Placed]) -> tuple[int, ...]:
    """Return how many blocks the longest table of each lane holds."""
    longest: dict[int, int] = {}
    for at in film:
        for name, lane in at.lanes.items():
            longest[lane] = max(longest.get(lane, 0), len(at.chips[name]))
    return tuple(longest[lane] for lane in range(len(longest)))


@dataclass(frozen=True)
class PoolLayout:
    """The places of everything on the board.

    Attributes:
        extent: What has to find room.
        width: Width of the picture.
        top: Where the board begins.
        left: Its left edge, the margin included.
    """

    extent: Extent
    width: float = WIDE
    top: float = 14
    left: float = 0

    @property
    def inner(self) -> float:
        """Width between the margins."""
        return self.width - 2 * MARGIN

    @property
    def start(self) -> float:
        """Where everything begins at the left."""
        return self.left + MARGIN

    # From top to bottom

    @cached_property
    def queue_top(self) -> float:
        """Where the heading of the free queue begins."""
        if not self.extent.num_blocks:
            return self.top
        _, y, _, height = self.place_of_block(self.extent.num_blocks - 1)
        return y + height + _SECTION_GAP

    @cached_property
    def lanes_top(self) -> float:
        """Where the heading of the tables begins."""
        longest = self.extent.longest_queue
        if longest is None:
            return self.queue_top
        return self.queue_top + HEADING + self.rows_for(longest) * ROW + _SECTION_GAP

    @cached_property
    def lists_top(self) -> float:
        """Where the heading of a scheduler's requests begins."""
        if not self.extent.lanes:
            return self.lanes_top
        bottom = self.place_of_lane(self.num_lanes)[0]
        if len(self.extent.lanes) > self.num_lanes:
            bottom += LINE_HEIGHT
        return bottom + _SECTION_GAP

    @cached_property
    def facts_top(self) -> float:
        """Where the first of the facts stands."""
        if not self.extent.lists:
            return self.lists_top
        height = HEADING + len(self.extent.lists) * self.list_height
        return self.lists_top + height + _SECTION_GAP

    @cached_property
    def line_top(self) -> float:
        """Where the heading of the state in one line begins."""
        if not self.extent.facts:
            return self.facts_top
        return self.place_of_fact(len(self.extent.facts)) + _SECTION_GAP

    def place_of_fact(self, number: int) -> float:
        """Return the upper edge of a fact; for the one behind the last, where they end."""
        return self.facts_top + number * FACT_HEIGHT

    @cached_property
    def bottom(self) -> float:
        """Where the board ends."""
        if not self.extent.lines:
            return self.line_top
        return self.line_top + HEADING + self.num_lines * LINE_HEIGHT

    # The grid

    @property
    def has_tiles(self) -> bool:
        """Whether each block has a tile of its own, or only a cell."""
        return self.extent.num_blocks <= _MOST_TILES

    @cached_property
    def cell_size(self) -> int:
        """Width of a cell, the gap to the next one included."""

        def height(size: int) -> float:
            return size * -(-self.extent.num_blocks // (self.inner // size))

        return next((s for s in _CELL_SIZES if height(s) <= _CELLS_HEIGHT), _CELL_SIZES[-1])

    def place_of_block(self, number: int) -> tuple[float, float, float, float]:
        """Return x, y, width and height of a block in the grid."""
        if self.has_tiles:
            width, height, gap = TILE_WIDTH, TILE_HEIGHT, _TILE_GAP
        else:
            width = height = self.cell_size - 1
            gap = 1
        columns = int((self.inner + gap) // (width + gap))
        row, column = divmod(number, columns)
        x, y = self.start + column * (width + gap), self.top + HEADING + row * (height + gap)
        return x, y, width, height

    @property
    def cells_in_a_row(self) -> int:
        """Cells beside each other."""
        return int((self.inner + 1) // self.cell_size)

    # Queue and tables

    @property
    def room_for_name(self) -> float:
        """Room for the name of a table."""
        return self.start_of_chips - self.start - _NAME_GAP

    @cached_property
    def start_of_chips(self) -> float:
        """Where the first chip of a row begins."""
        wanted = min(self.extent.longest_name + _NAME_GAP, _LONGEST_NAME)
        return self.start + max(_SHORTEST_NAME, wanted)

    @cached_property
    def chip_width(self) -> float:
        """Room for the largest id, a star and a count."""
        return text_width(f"{self.extent.largest_id}*(2)", SMALL_SIZE) + 6

    @cached_property
    def chips_in_a_row(self) -> int:
        """Chips beside each other, with room for the bar."""
        room = self.start + self.inner - self.start_of_chips - BAR_ROOM + _CHIP_GAP
        return int(room // (self.chip_width + _CHIP_GAP))

    def rows_for(self, num_chips: int) -> int:
        """Return the rows that so many chips get; they may not hold all of them."""
        # Where the grid is of cells, chips are examples: a row of them says enough.
        at_most = _MOST_ROWS if self.has_tiles else 1
        return min(at_most, max(1, -(-num_chips // self.chips_in_a_row)))

    def place_of_chip(self, number: int, top: float) -> tuple[float, float]:
        """Return the upper left corner of the chip with this number in its rows."""
        row, column = divmod(number, self.chips_in_a_row)
        return self.start_of_chips + column * (self.chip_width + _CHIP_GAP), top + row * ROW

    def shown(self, num_chips: int) -> tuple[int, int]:
        """Return how many chips are shown from the front and from the back.

        Where there is no room for all, what is left out in the middle is counted in the room of two
        chips.
        """
        room = self.rows_for(num_chips) * self.chips_in_a_row
        if num_chips <= room:
            return num_chips, 0
        back = self.chips_in_a_row // 3
        return room - back - 2, back

    @property
    def num_lanes(self) -> int:
        """Tables that are shown."""
        return min(len(self.extent.lanes), _MOST_LANES)

    def place_of_lane(self, lane: int) -> tuple[float, float]:
        """Return upper edge and height of a table; for the lane behind the last, where it ends."""
        heights = [self.rows_for(length) * ROW for length in self.extent.lanes]
        top = self.lanes_top + HEADING + sum(heights[:lane])
        return top, heights[lane] if lane < len(heights) else 0

    # A scheduler's lists

    @property
    def requests_in_a_row(self) -> int:
        """Requests beside each other."""
        room = self.start + self.inner - self.start_of_chips
        return int(room // (_REQUEST_WIDTH + _CHIP_GAP))

    @property
    def list_height(self) -> float:
        """Height of one list."""
        rows = max(1, -(-self.extent.longest_list // self.requests_in_a_row))
        return min(_MOST_ROWS_OF_REQUESTS, rows) * ROW

    def place_of_request(self, number: int, top: float) -> tuple[float, float, float]:
        """Return x, y and width of the request with this number in its list."""
        row, column = divmod(number, self.requests_in_a_row)
        x = self.start_of_chips + column * (_REQUEST_WIDTH + _CHIP_GAP)
        return x, top + row * ROW, _REQUEST_WIDTH

    # The state in one line

    def wrapped(self, line: str) -> list[str]:
        """Return a state in lines that fit; a table is broken only where it is longer than one.

        >>> layout = PoolLayout(Extent(), width=300)
        >>> layout.wrapped("free [4 5]  A: 1 2 3  B: 6 7 8 9")
        ['free [4 5]  A: 1 2 3', 'B: 6 7 8 9']
        """
        room = int(self.inner / (_LETTER * TEXT_SIZE))
        lines = [""]
        for part in line.split("  "):
            for piece in textwrap.wrap(part, room):
                longer = f"{lines[-1]}  {piece}".lstrip()
                if len(longer) <= room:
                    lines[-1] = longer
                else:
                    lines.append(piece)
        if len(lines) > _MOST_LINES:
            lines = [*lines[: _MOST_LINES - 1], f"{lines[_MOST_LINES - 1][: room - 2]} …"]
        return lines

    @cached_property
    def num_lines(self) -> int:
        """Lines that the state gets."""
        return max((len(self.wrapped(line)) for line in self.extent.lines), default=0)

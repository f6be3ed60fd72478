"""How the state of a pool is drawn: a grid of blocks, the free queue, and tables of requests.

Every block has its place in the grid, where it stays; its chips travel between the queue and the
tables. Parts that a state does not have take no room, so a queue or a table alone is drawn too.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache

from course_lib.viz.kit.layout import fitting, text_width
from course_lib.viz.kit.palette import PALETTE
from course_lib.viz.kit.shapes import SMALL_SIZE, Cells, Group, Line, Rect, Shape, Text, Thing
from course_lib.viz.pool.chips import QUEUE, Chip, Placed
from course_lib.viz.pool.layout import (
    BAR_ROOM,
    CHIP_HEIGHT,
    FACT_HEIGHT,
    HEADING,
    LINE_HEIGHT,
    ROW,
    TILE_HEIGHT,
    TILE_WIDTH,
    PoolLayout,
)

FREE_QUEUE: Thing = ("queue", "free")
"""The free queue, as a thing that can be marked."""

FACTS = {
    "next": "the links to the next",
    "prev": "the links back",
    "length": "the length",
    "found": "what is found by its hash",
    "evicted": "the evictions",
}
"""What a state may tell besides blocks, queue and tables, in words."""


@dataclass(frozen=True)
class Board:
    """Draws the states of one film.

    Attributes:
        layout: Where everything stands.
        prefix: What the keys of its shapes begin with, where there are two boards in a picture.
    """

    layout: PoolLayout
    prefix: str = ""

    def draw(self, at: Placed, marked: frozenset[Thing] = frozenset()) -> tuple[Shape, ...]:
        """Return the shapes of one state.

        Args:
            at: The state.
            marked: What gets a frame, to be looked at: ``("block", 7)``, ``("request", "A")``,
                ``("list", "waiting")``, ``FREE_QUEUE``.
        """
        extent = self.layout.extent
        shapes: list[Shape] = []
        if extent.num_blocks:
            shapes += self._grid(at)
        if extent.longest_queue is not None:
            shapes += self._queue(at)
        if extent.lanes:
            shapes += self._tables(at)
        if extent.lists:
            shapes += self._lists(at)
        if extent.facts:
            shapes += self._facts(at)
        if extent.lines:
            shapes += self._state_line(at)
        return *shapes, *self._frames(at, marked)

    def _heading(self, y: float, title: str, *remarks: str) -> Iterator[Shape]:
        """Yield a title, and the longest remark that fits beside it."""
        key = f"{self.prefix}{title.lower().replace(' ', '-')}"
        yield Text(self.layout.start, y + 16, title, is_bold=True, key=key)
        remark = fitting(self.layout.inner - 1.1 * text_width(title), *remarks)
        if remark:
            right = self.layout.start + self.layout.inner
            key += "-remark"
            yield Text(right, y + 16, remark, SMALL_SIZE, "end", tone="muted", key=key)

    def _frames(self, at: Placed, marked: frozenset[Thing]) -> Iterator[Shape]:
        """Yield a frame around everything that is marked."""
        for kind, name in sorted(marked, key=str):
            box = self._place_of(kind, name, at)
            if box is None:
                continue
            x, y, width, height = box
            corners = ((x, y), (x + width, y), (x + width, y + height), (x, y + height), (x, y))
            yield Line(corners, "alert", thickness=4, key=f"{self.prefix}marked-{kind}-{name}")

    def _place_of(
        self, kind: str, name: str | int, at: Placed
    ) -> tuple[float, float, float, float] | None:
        """Return x, y, width and height of a thing; None if it is not in the picture."""
        layout = self.layout
        x, width = layout.start - 8, layout.inner + 16
        if kind == "block" and isinstance(name, int):
            return layout.place_of_block(name)
        if kind == "queue":
            rows = layout.rows_for(layout.extent.longest_queue or 0)
            return x, layout.queue_top + HEADING - 6, width, rows * ROW + 4
        if kind == "request" and at.lanes.get(str(name), layout.num_lanes) < layout.num_lanes:
            y, height = layout.place_of_lane(at.lanes[str(name)])
            return x, y - 4, width, height - 2
        if kind == "list" and name in layout.extent.lists:
            row = layout.extent.lists.index(str(name))
            y = layout.lists_top + HEADING + row * layout.list_height
            return x, y - 4, width, layout.list_height - 2
        if kind == "fact" and name in layout.extent.facts:
            y = layout.place_of_fact(layout.extent.facts.index(str(name)))
            return x, y - 2, width, FACT_HEIGHT - 1
        return None

    def _grid(self, at: Placed) -> Iterator[Shape]:
        layout, blocks = self.layout, at.record["blocks"]
        num_cached, num_free = (
            sum(block["state"] == state for block in blocks) for state in ("cached", "free")
        )
        said = f"usage {at.record['usage']:.1%}"
        yield from self._heading(
            layout.top,
            "Blocks by id",
            f"{said}; free: {num_cached:,} cached, {num_free:,} without a hash",
            said,
        )
        if not layout.has_tiles:
            x, y, _, _ = layout.place_of_block(0)
            states = tuple(block["state"] for block in blocks)
            key = f"{self.prefix}grid"
            yield Cells(x, y, layout.cells_in_a_row, layout.cell_size, states, "block", key)
            return
        for number, block in enumerate(blocks):
            x, y, _, _ = layout.place_of_block(number)
            yield _tile(
                f"{self.prefix}block-{number}",
                x,
                y,
                block["block_id"],
                block["state"],
                block["ref_cnt"],
                block["hash"] or "",
                tuple(block["owners"]),
            )

    def _queue(self, at: Placed) -> Iterator[Shape]:
        layout, chips = self.layout, at.chips[QUEUE]
        num_front = len(chips)
        while num_front and chips[num_front - 1].mark.is_cached:
            num_front -= 1
        remarks = (
            "the front is handed out next; behind the bar: cached, lost from left to right",
            "behind the bar: cached, lost from left to right",
            "behind the bar: cached",
        )
        if not layout.extent.num_blocks:  # a queue alone knows of no hashes
            remarks = ("the front is handed out next", "front first", "")
        yield from self._heading(layout.queue_top, "Free queue", *remarks)
        top = layout.queue_top + HEADING
        key = f"{self.prefix}front"
        yield Text(layout.start, top + 20, "front →", SMALL_SIZE, tone="muted", key=key)
        bar = num_front if 0 < num_front < len(chips) else None
        yield from self._row(chips, top, f"{self.prefix}queue", bar)

    def _row(
        self, chips: Sequence[Chip], top: float, key: str, bar: int | None = None
    ) -> Iterator[Shape]:
        """Yield chips, a bar in front of place ``bar``, and the number of those left out."""
        layout, count = self.layout, len(chips)
        num_front, num_back = layout.shown(count)
        row_of_bar = -1.0
        for place in (*range(num_front), *range(count - num_back, count)):
            spot = place if place < num_front else num_front + 2 + place - (count - num_back)
            x, y = layout.place_of_chip(spot, top)
            row_of_bar = y if place == bar else row_of_bar
            if y == row_of_bar:
                x += BAR_ROOM
            if place == bar:
                middle = x - BAR_ROOM / 2 - 2
                ends = ((middle, y - 4), (middle, y + CHIP_HEIGHT + 4))
                yield Line(ends, thickness=5, key=f"{key}-bar")
            yield _chip(self.prefix, chips[place], x, y, layout.chip_width)
        if num_back:
            x, y = layout.place_of_chip(num_front, top)
            left_out = f"… {count - num_front - num_back:,} …"
            middle, key = x + layout.chip_width, f"{key}-left-out"
            yield Text(middle, y + 20, left_out, SMALL_SIZE, "middle", tone="muted", key=key)

    def _tables(self, at: Placed) -> Iterator[Shape]:
        layout = self.layout
        yield from self._heading(
            layout.lanes_top,
            "Block tables",
            "whose blocks: a star for a cached prefix, in brackets how many hold the block",
            "* cached prefix, (2) holders",
        )
        hidden = [name for name, lane in at.lanes.items() if lane >= layout.num_lanes]
        for name, lane in at.lanes.items():
            if name in hidden:
                continue
            (y, _), chips = layout.place_of_lane(lane), at.chips[name]
            key = f"{self.prefix}lane-{lane}"
            yield Text(
                layout.start,
                y + 20,
                _shortened(name, layout.room_for_name),
                SMALL_SIZE,
                is_bold=True,
                key=key,
                tooltip=f"{name} holds {len(chips):,} blocks",
                of=("request", name),
                lights=tuple(("block", chip.mark.block_id) for chip in chips),
            )
            yield from self._row(chips, y, key)
        for lane in set(range(layout.num_lanes)).difference(at.lanes.values()):
            # Without it, the room that other moments of a film need looks like the end.
            y, _ = layout.place_of_lane(lane)
            ends = ((layout.start, y + 15), (layout.start + layout.inner, y + 15))
            yield Line(ends, "faint", thickness=1, key=f"{self.prefix}lane-{lane}-empty")
        if hidden:
            num_blocks = sum(len(at.chips[name]) for name in hidden)
            said = f"and {len(hidden):,} more, which hold {num_blocks:,} blocks"
            y, _ = layout.place_of_lane(layout.num_lanes)
            key = f"{self.prefix}more-tables"
            yield Text(layout.start, y + 16, said, SMALL_SIZE, tone="muted", key=key)

    def _lists(self, at: Placed) -> Iterator[Shape]:
        """Yield the lists of a scheduler, a row for each."""
        layout = self.layout
        yield from self._heading(
            layout.lists_top,
            "Requests",
            "in the order of each list, with how many of their tokens are computed",
            "computed / known tokens",
        )
        num_seen: Counter[str] = Counter()
        for row, name in enumerate(layout.extent.lists):
            y = layout.lists_top + HEADING + row * layout.list_height
            key = f"{self.prefix}list-{name}"
            yield Text(layout.start, y + 20, name, SMALL_SIZE, is_bold=True, key=key)
            members = at.record["requests"].get(name, ())
            room = int(layout.list_height // ROW) * layout.requests_in_a_row
            for place, (request_id, progress) in enumerate(members[:room]):
                x, chip_y, width = layout.place_of_request(place, y)
                full = f"{request_id} {progress}".strip()
                # A faulty scheduler may have a request in two lists.
                key = f"{self.prefix}request-{request_id}" + "-again" * num_seen[request_id]
                num_seen[request_id] += 1
                yield Rect(
                    x,
                    chip_y,
                    width,
                    CHIP_HEIGHT,
                    name if name in PALETTE else "idle",
                    fitting(width, full, request_id) or _shortened(request_id, width - 12),
                    tooltip=f"{full}: {name}, place {place + 1} of {len(members)}",
                    key=key,
                    radius=CHIP_HEIGHT / 2,
                    of=("request", request_id),
                )

    def _facts(self, at: Placed) -> Iterator[Shape]:
        """Yield what the state tells besides, a line for each."""
        layout, facts = self.layout, at.record.get("facts", {})
        for number, name in enumerate(layout.extent.facts):
            y = layout.place_of_fact(number) + 16
            key = f"{self.prefix}fact-{name}"
            yield Text(layout.start, y, name, SMALL_SIZE, is_bold=True, key=key)
            said = facts.get(name, "")
            while (
                text_width(said, SMALL_SIZE) > layout.start + layout.inner - layout.start_of_chips
            ):
                said = f"{said[:-2]}…"
            yield Text(layout.start_of_chips, y, said, SMALL_SIZE, key=f"{key}-value")

    def _state_line(self, at: Placed) -> Iterator[Shape]:
        """Yield the state in the notation of the course."""
        layout, y = self.layout, self.layout.line_top
        yield from self._heading(y, "The same in one line")
        for number, line in enumerate(layout.wrapped(at.line)):
            line_y, key = y + HEADING + 14 + number * LINE_HEIGHT, f"{self.prefix}line-{number}"
            yield Text(layout.start, line_y, line, key=key)


@lru_cache(maxsize=4096)
def _tile(
    key: str,
    x: float,
    y: float,
    block_id: int,
    state: str,
    ref_cnt: int,
    block_hash: str,
    owners: tuple[str, ...],
) -> Group:
    """Draw a block in the grid: its id, how many hold it, and the beginning of its hash.

    Blocks that did not change are the same object in the next picture, which a film need not send.
    """
    says = [
        str(block_id),
        f"ref {ref_cnt}" if ref_cnt else "",
        f"#{block_hash[:4]}" * bool(block_hash),
    ]
    if state == "null":
        says[1] = "null"
    boxes: list[Shape] = [Rect(x, y, TILE_WIDTH, TILE_HEIGHT, state, radius=5)]
    for row, text in enumerate(says):
        if text:
            size = SMALL_SIZE if row else 17
            box = (x + 2, y + 3 + 19 * row, TILE_WIDTH - 4, 18)
            boxes.append(Rect(*box, state, text, outline="none", label_size=size))
    holders = f", held by {', '.join(owners)}" if owners else ""
    content = f"\nholds the prefix {block_hash}" if block_hash else ""
    return Group(
        tuple(boxes),
        tooltip=f"block {block_id}: {PALETTE[state].label}{holders}{content}",
        key=key,
        of=("block", block_id),
        lights=tuple(("request", owner) for owner in owners),
    )


@lru_cache(maxsize=8192)
def _chip(prefix: str, chip: Chip, x: float, y: float, width: float) -> Rect:
    """Draw a block where it stands in the queue or in a table."""
    block_id = chip.mark.block_id
    where = f"in the table of {chip.holder}" if chip.holder != QUEUE else "in the free queue"
    return Rect(
        x,
        y,
        width,
        CHIP_HEIGHT,
        chip.state,
        str(chip.mark),
        tooltip=f"block {block_id} {where}: {PALETTE[chip.state].label}",
        key=prefix + chip.key,
        radius=6,
        of=("block", block_id),
        origin=prefix + chip.origin if chip.origin else "",
    )


def _shortened(name: str, width: float) -> str:
    """Return a name that fits: of a long one its beginning and its end, which often is a number."""
    head, tail = len(name), 0
    shown = name
    while head > 1 and text_width(shown, SMALL_SIZE) > width:
        tail = min(3, len(name) // 2)
        head = min(head, len(name) - tail) - 1
        shown = f"{name[:head]}…{name[len(name) - tail :]}"
    return shown

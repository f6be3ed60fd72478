"""One table becomes four, and each of the four writes: copy-on-write, step by step."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

from course_lib import parts
from course_lib.viz.kit import static
from course_lib.viz.kit.controls import Choice, Slider
from course_lib.viz.kit.explorer import Explorer
from course_lib.viz.kit.layout import NARROW, WIDE, bottom_of, fitting, legend, wrapped
from course_lib.viz.kit.palette import PALETTE
from course_lib.viz.kit.scene import Scene
from course_lib.viz.kit.shapes import (
    HEADING_SIZE,
    SMALL_SIZE,
    TEXT_SIZE,
    Group,
    Line,
    Rect,
    Shape,
    Text,
)
from course_lib.viz.kit.words import counted
from course_lib.viz.pool.board import Board
from course_lib.viz.pool.chips import Placed, follow
from course_lib.viz.pool.layout import MARGIN, Extent, PoolLayout
from course_lib.viz.sharing.copies import NAMES, Step, fork_steps
from course_lib.viz.sharing.prompts import BLOCK_SIZE, MakeManager
from course_lib.viz.sharing.trouble import trouble_of

_TITLE = "A fork, and who copies"
_ORDERS = (
    "c1 p c2 c3",
    "p c1 c2 c3",
    "c1 c2 c3 p",
    "c3 c2 c1 p",
    "c2 c3 p c1",
    "c3 p c1 c2",
)
_LENGTHS = (10, 8)
_FORKED, _FIRST_WRITE, _LAST = len(NAMES), len(NAMES) + 1, 2 * len(NAMES)
"""Numbers of the steps, from 1: the last fork, the first write behind it, and the last write."""

_FEWEST_BLOCKS = 6
_HEADER, _SLOT, _GAP = 24, 30, 12
_TABLES_WIDTH = 410
_GAP_BELOW = 46
"""Room below a row of blocks, for the arrow of a copy and its pair."""

_WRITTEN = "series-2"
_NAMES = {_WRITTEN: "written just now"}


@dataclass(frozen=True)
class _Story:
    """The steps of one order, and where the tables stand."""

    steps: list[Step]
    placed: list[Placed]
    extent: Extent

    @property
    def num_blocks(self) -> int:
        """Blocks that are drawn: as many as are ever in use."""
        used = (
            int(block["block_id"])
            for step in self.steps
            for block in step.record["blocks"]
            if block["ref_cnt"] > 0
        )
        return max(_FEWEST_BLOCKS, *used, 1)


class _TwoMoments(Explorer):
    """An explorer whose static twin shows the last fork and the first write side by side."""

    def static(self, **values: Any) -> static.StaticFigure:
        """Return the two moments; with values, the picture for them."""
        if values:
            return super().static(**values)
        scenes = [self._build(**{**self.values, "step": step}) for step in (_FORKED, _FIRST_WRITE)]
        return static.contact_sheet(scenes, ["" for _ in scenes])


def fork_film(manager: MakeManager | None = None) -> Explorer:
    """Return a figure in which one block table becomes four, and each of the four writes a token.

    A slider goes from step to step: the prompt, three forks, four writes. The reader chooses who
    writes when, and whether the prompt ends within a block of 4 tokens or with one. An arrow
    carries each copied block. All pictures are made when the figure is, so it needs no kernel.

    Args:
        manager: Makes the manager from a number of blocks and the block size: a class, or a
            function. Errors that it raises stand in the picture in words, and tokens that it lets
            somebody overwrite are seen. By default the library's, with the learner's own parts
            where there are any.

    >>> figure = fork_film()
    >>> figure.set(step=5)
    >>> figure.scene.alt.partition(": ")[0]
    'c1 writes into block 3, which 4 hold'
    """
    scene_of = _scenes(manager or parts.rewired(parts.get("KVCacheManager")))
    orders = {", ".join(order.split()): order for order in _ORDERS}
    return _TwoMoments(
        scene_of,
        {
            "step": Slider("Moment", 1, _LAST, _FORKED, unit=f"of {_LAST}"),
            "order": Choice("Order of writes", orders, _ORDERS[0]),
            "length": Choice(
                "Prompt",
                {f"{length} tokens: {_ends(length)}": length for length in _LENGTHS},
                _LENGTHS[0],
            ),
        },
        precompute=True,
    )


def _ends(length: int) -> str:
    """Say how a prompt ends."""
    rest = length % BLOCK_SIZE
    blocks = length // BLOCK_SIZE
    return f"{blocks} blocks + {rest}" if rest else f"{blocks} blocks"


def _scenes(make: MakeManager) -> Callable[..., Scene]:
    """Return the function that draws a setting; a manager goes through each order once."""

    @lru_cache(maxsize=len(_ORDERS) * len(_LENGTHS))
    def lived(order: str, length: int) -> _Story:
        steps = fork_steps(order.split(), length, make)
        placed = list(follow(step.record for step in steps))
        return _Story(steps, placed, replace(Extent.of(placed), num_blocks=0))

    def scene_of(step: int, order: str, length: int, width: float = WIDE) -> Scene:
        story = lived(order, length)
        number = min(step, len(story.steps)) - 1
        return _scene(story, number, width)

    return scene_of


def _scene(story: _Story, number: int, width: float) -> Scene:
    """Draw one step: what happened, the blocks with their tokens, queue and tables."""
    step, at = story.steps[number], story.placed[number]
    if step.problem:
        return trouble_of(_TITLE, step.said, step.problem, width)
    inner = width - 2 * MARGIN
    size = HEADING_SIZE if width >= WIDE else TEXT_SIZE
    said = wrapped(step.said, inner * 0.94, size)
    shapes: list[Shape] = [
        Text(
            MARGIN,
            32 + 27 * line,
            text,
            size,
            tone="alert" if step.is_wrong else "text",
            is_bold=True,
        )
        for line, text in enumerate(said)
    ]
    # Room for as many lines as the longest sentence has, so that nothing below it jumps.
    most = max(len(wrapped(each.said, inner * 0.94, size)) for each in story.steps)
    top = 32 + 27 * (most - 1) + 18
    shapes += _pool(step, story.num_blocks, width, top)
    rows = -(-story.num_blocks // _in_a_row(width))
    top += 30 + rows * (_HEADER + _SLOT + _GAP_BELOW)
    layouts = _boards(story.extent, width, top)
    for layout in layouts:
        shapes += Board(layout).draw(at)
    states = [each for each in PALETTE if each in story.extent.states - {"null"} | {_WRITTEN}]
    below = max(layout.bottom for layout in layouts)
    shapes += legend(states, MARGIN, below + 14, inner, _NAMES)
    alt = f"{step.said} State: {at.line}. {_saving(step)}"
    return Scene(width, bottom_of(shapes) + 14, tuple(shapes), title=_TITLE, alt=alt)


def _boards(extent: Extent, width: float, top: float) -> list[PoolLayout]:
    """Return where tables and queue stand: beside each other, or below where it is narrow.

    The state in one line has no room on a narrow page: it says what the tables say.
    """
    if width < WIDE:
        return [PoolLayout(replace(extent, lines=frozenset()), width, top)]
    tables = replace(extent, longest_queue=None, lines=frozenset())
    return [
        PoolLayout(tables, _TABLES_WIDTH, top),
        PoolLayout(replace(extent, lanes=()), width - _TABLES_WIDTH, top, _TABLES_WIDTH),
    ]


def _saving(step: Step) -> str:
    """Say how many blocks the tables would take if nothing were shared."""
    entries = sum(map(len, step.record["tables"].values()))
    used = sum(block["ref_cnt"] > 0 for block in step.record["blocks"][1:])
    return f"{counted(used, 'block')} in use, {entries} without sharing."


def _in_a_row(width: float) -> int:
    """Return how many blocks stand beside each other."""
    return 6 if width > NARROW else 3


def _place(block_id: int, width: float, top: float) -> tuple[float, float, float]:
    """Return left edge, upper edge and width of a block."""
    count = _in_a_row(width)
    row, column = divmod(block_id - 1, count)
    tile = (width - 2 * MARGIN + _GAP) / count - _GAP
    x = MARGIN + column * (tile + _GAP)
    return x, top + 30 + row * (_HEADER + _SLOT + _GAP_BELOW), tile


def _pool(step: Step, num_blocks: int, width: float, top: float) -> list[Shape]:
    """Draw the blocks with the tokens in them, and the arrows of the copies."""
    shapes: list[Shape] = [
        Text(MARGIN, top + 16, "Blocks and their tokens", is_bold=True),
        Text(width - MARGIN, top + 16, _saving(step)[:-1], SMALL_SIZE, "end", tone="muted"),
    ]
    for block in step.record["blocks"][1 : num_blocks + 1]:
        shapes.append(_block(step, block, _place(block["block_id"], width, top)))
    for source, destination in step.copies:
        places = _place(source, width, top), _place(destination, width, top)
        shapes += _arrow(source, destination, *places)
    return shapes


def _block(step: Step, block: Any, place: tuple[float, float, float]) -> Group:
    """Draw a block: whose it is, and a box for each of its slots."""
    x, y, width = place
    block_id, holders = block["block_id"], block["ref_cnt"]
    count = f" ({holders})" if holders > 1 else ""
    shapes: list[Shape] = [
        Rect(
            x,
            y,
            width,
            _HEADER,
            block["state"],
            fitting(width, f"block {block_id}{count}", f"{block_id}{count}"),
        )
    ]
    slots = step.tokens.get(block_id, ()) if holders or block["hash"] else ()
    for offset in range(BLOCK_SIZE):
        token = slots[offset] if offset < len(slots) else None
        shapes.append(
            Rect(
                x + offset * width / BLOCK_SIZE,
                y + _HEADER,
                width / BLOCK_SIZE,
                _SLOT,
                _WRITTEN if step.written == (block_id, offset) else "",
                "" if token is None else str(token),
            )
        )
    owners = f", held by {', '.join(block['owners'])}" if block["owners"] else ""
    return Group(
        tuple(shapes),
        tooltip=f"block {block_id}: {PALETTE[block['state']].label}{owners}",
        key=f"block-{block_id}",
        of=("block", block_id),
        lights=tuple(("request", owner) for owner in block["owners"]),
    )


def _arrow(
    source: int,
    destination: int,
    start: tuple[float, float, float],
    end: tuple[float, float, float],
) -> list[Shape]:
    """Draw the way of a copy through the gap between two rows, with its pair."""
    height = _HEADER + _SLOT
    left, right = start[0] + start[2] / 2, end[0] + end[2] / 2
    goes_up = end[1] < start[1]
    from_y = start[1] if goes_up else start[1] + height
    to_y = end[1] if end[1] > start[1] else end[1] + height
    gap = (end[1] if goes_up else start[1]) + height + 18
    points = ((left, from_y), (left, gap), (right, gap), (right, to_y))
    key = f"copy-{source}-{destination}"
    said = f"copy ({source}, {destination})"
    is_upright = abs(left - right) < 1
    label = Text(
        left - 10 if is_upright else (left + right) / 2,
        gap + (4 if is_upright else 20),
        said,
        SMALL_SIZE,
        "end" if is_upright else "middle",
        is_bold=True,
        key=f"{key}-pair",
    )
    line = Line(points, "text", 3, has_arrow=True, key=key)
    return [line, label]

"""The map of the engine: its parts, who uses whom, and which of them the learner built."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from weakref import WeakSet

from course_lib import parts
from course_lib.catalogue import FINAL_PROJECT, lesson_name
from course_lib.parts import PartStatus
from course_lib.viz.kit.layout import legend
from course_lib.viz.kit.scene import Scene
from course_lib.viz.kit.shapes import Group, Line, Point, Rect, Shape, Text
from course_lib.viz.kit.view import Picture


@dataclass(frozen=True)
class Node:
    """One box of the map.

    Attributes:
        title: What it says.
        column: Where it stands, from the left.
        row: Where it stands, from the top.
        lessons: The lessons that work on it.
    """

    title: str
    column: int
    row: int
    lessons: tuple[int, ...]


NODES = {
    "sampler": Node("Sampler", 0, 0, (FINAL_PROJECT,)),
    "engine": Node("Engine", 1, 0, (5, FINAL_PROJECT)),
    "simulator": Node("Simulator", 2, 0, (5,)),
    "cost_model": Node("Cost model", 3, 0, (1, 11)),
    "queueing": Node("Queueing", 4, 0, (10,)),
    "paged_attention": Node("Paged attention", 0, 1, (2,)),
    "request_queue": Node("Request queue", 1, 1, (5, 9)),
    "scheduler": Node("Scheduler", 2, 1, (5, 6, 8, 11, 12)),
    "preemption": Node("Preemption", 3, 1, (6,)),
    "triton_kernels": Node("Triton kernels", 0, 2, (2, 3, 8, 11)),
    "block_table": Node("Block table", 1, 2, (3,)),
    "cache_manager": Node("Cache manager", 2, 2, (8,)),
    "prefix_cache": Node("Prefix cache", 3, 2, (8,)),
    "reservations": Node("Reservations", 4, 2, (1,)),
    "block_pool": Node("Block pool", 2, 3, (7,)),
    "sizing": Node("Sizing", 3, 3, (1,)),
    "allocators": Node("Allocators", 4, 3, (4,)),
}
"""The boxes by key. Every part of ``course_lib.parts`` names one of these keys."""

_GROUPS = (
    # title, the column above which it stands, first and last column, first and last row
    ("Engine", 0, (0, 1), (0, 0)),
    ("Simulation and theory", 2, (2, 4), (0, 0)),
    ("Attention", 0, (0, 0), (1, 2)),
    ("Scheduling", 1, (1, 3), (1, 1)),
    ("KV cache", 3, (1, 4), (2, 3)),  # an arrow runs through its upper left corner
)

_USES = (
    ("engine", "sampler"),
    ("engine", "paged_attention"),
    ("engine", "scheduler"),
    ("simulator", "scheduler"),
    ("simulator", "cost_model"),
    ("scheduler", "request_queue"),
    ("scheduler", "preemption"),
    ("scheduler", "cache_manager"),
    ("paged_attention", "triton_kernels"),
    ("paged_attention", "block_table"),
    ("triton_kernels", "block_table"),
    ("cache_manager", "prefix_cache"),
    ("cache_manager", "block_pool"),
    ("block_pool", "sizing"),
    ("reservations", "allocators"),
)

_COLUMN, _ROW, _NODE_WIDTH, _NODE_HEIGHT = 189, 112, 158, 60
_LEFT, _TOP = 22, 44
_WIDTH, _HEIGHT = 960, 470


def engine_map_scene(lesson: int, statuses: Iterable[PartStatus]) -> Scene:
    """Draw the map.

    A box is the learner's as soon as one of its parts is, carries a check mark when all of them
    are, and is broken if any of them is. The boxes of ``lesson`` have a bold outline.

    Args:
        lesson: The current lesson, 1 to 12, or ``FINAL_PROJECT``.
        statuses: The state of each part.

    Raises:
        ValueError: There is no such lesson, or a part names a box that is not on the map.

    >>> scene = engine_map_scene(1, [PartStatus("num_kv_blocks", 1, "sizing", "yours", "")])
    >>> [rect.label for rect in scene.rects() if rect.state == "yours" and rect.label]
    ['Sizing', '1 of 1 yours']
    """
    if not 1 <= lesson <= FINAL_PROJECT:
        raise ValueError(
            f"no lesson {lesson}; lessons are 1 to 12, and {FINAL_PROJECT} is the final project"
        )
    by_node: dict[str, list[PartStatus]] = {key: [] for key in NODES}
    for status in statuses:
        if status.node not in by_node:
            raise ValueError(
                f"part {status.name!r} belongs to node {status.node!r}, which is not on the map; "
                f"nodes: {', '.join(NODES)}"
            )
        by_node[status.node].append(status)
    shapes: list[Shape] = []
    for title, title_column, columns, rows in _GROUPS:
        shapes.append(_frame(columns, rows))
        title_x, title_y = _LEFT + title_column * _COLUMN, _TOP + rows[0] * _ROW - 12
        shapes.append(Text(title_x, title_y, title, 15, tone="muted", is_bold=True))
    shapes += [_arrow(NODES[user], NODES[used]) for user, used in _USES]
    shapes += [
        _node_group(key, node, by_node[key], is_current=lesson in node.lessons)
        for key, node in NODES.items()
    ]
    shapes += legend(("reference", "yours", "broken"), _LEFT, _TOP + 3 * _ROW - 20, width=0)
    current = [node.title for node in NODES.values() if lesson in node.lessons]
    own = [NODES[key].title for key, found in by_node.items() if _state(found) == "yours"]
    return Scene(
        _WIDTH,
        _HEIGHT,
        tuple(shapes),
        title="Map of the engine",
        alt=f"{lesson_name(lesson).capitalize()} works on {', '.join(current)}. "
        f"Your own parts are in use in: {', '.join(own) or 'none yet'}.",
    )


class EngineMap(Picture):
    """The map for one lesson, with the state of the learner's parts.

    Args:
        lesson: The current lesson, 1 to 12, or ``FINAL_PROJECT``.
    """

    def __init__(self, lesson: int) -> None:
        self.lesson = lesson
        super().__init__(engine_map_scene(lesson, parts.table()))
        _live_maps.add(self)

    def refresh(self) -> None:
        """Look again at the learner's parts and redraw."""
        self.show(engine_map_scene(self.lesson, parts.table()))

    def close(self) -> None:
        """Take the map off the page; it is not refreshed any more."""
        _live_maps.discard(self)
        super().close()


_live_maps: WeakSet[EngineMap] = WeakSet()


def refresh_all() -> None:
    """Redraw every map that is open, for example after a part has passed its check."""
    for engine_map in list(_live_maps):
        engine_map.refresh()


def _state(statuses: Sequence[PartStatus]) -> str:
    """Return the state of a box from the states of its parts."""
    states = {status.state for status in statuses}
    return next((state for state in ("broken", "yours") if state in states), "reference")


def _summary(node: Node, statuses: Sequence[PartStatus]) -> str:
    """Say in a few words how far the box is, or when its turn comes."""
    state = _state(statuses)
    if state == "reference":
        if node.lessons == (FINAL_PROJECT,):
            return "final project"
        numbers = [str(lesson) for lesson in node.lessons if lesson != FINAL_PROJECT]
        named = f"lesson{'s' if len(numbers) > 1 else ''} {', '.join(numbers)}"
        return f"{named}, project" if FINAL_PROJECT in node.lessons else named
    count = sum(status.state == state for status in statuses)
    return f"{count} of {len(statuses)} {state}"


def _node_group(key: str, node: Node, statuses: Sequence[PartStatus], *, is_current: bool) -> Group:
    """Draw one box."""
    state = _state(statuses)
    x, y = _corner(node)
    inner, inner_width = x + 4, _NODE_WIDTH - 8
    shapes: list[Shape] = [
        Rect(
            x,
            y,
            _NODE_WIDTH,
            _NODE_HEIGHT,
            state,
            key=key,
            radius=9,
            outline="bold" if is_current else "thin",
        ),
        Rect(inner, y + 6, inner_width, 28, state, node.title, outline="none", label_size=16),
        Rect(
            inner,
            y + 33,
            inner_width,
            20,
            state,
            _summary(node, statuses),
            outline="none",
            label_size=14,
        ),
    ]
    if statuses and all(status.state == "yours" for status in statuses):
        shapes += _check_mark(x + _NODE_WIDTH - 6, y + 4)
    tooltip = "\n".join(f"{status.name}: {status.state}" for status in statuses)
    return Group(
        tuple(shapes), (("node", key), ("state", state)), tooltip or "nothing to build here yet"
    )


def _check_mark(x: float, y: float) -> list[Shape]:
    """Draw a check mark in a disc around (x, y)."""
    radius = 12
    tick = ((x - 5.5, y + 0.5), (x - 1.5, y + 4.5), (x + 6, y - 4.5))
    return [
        Rect(x - radius, y - radius, 2 * radius, 2 * radius, "yours", radius=radius),
        Line(tick, "ink", thickness=3),
    ]


def _frame(columns: tuple[int, int], rows: tuple[int, int]) -> Rect:
    """Draw the frame of a group around its columns and rows."""
    x = _LEFT + columns[0] * _COLUMN - 12
    y = _TOP + rows[0] * _ROW - 34
    width = (columns[1] - columns[0]) * _COLUMN + _NODE_WIDTH + 24
    height = (rows[1] - rows[0]) * _ROW + _NODE_HEIGHT + 44
    return Rect(x, y, width, height, radius=12)


def _corner(node: Node) -> Point:
    return _LEFT + node.column * _COLUMN, _TOP + node.row * _ROW


def _arrow(user: Node, used: Node) -> Line:
    """Draw an arrow from the edge of one box to the facing edge of the other."""
    (from_x, from_y), (to_x, to_y) = _corner(user), _corner(used)
    gap = 3
    if user.row == used.row:
        middle = from_y + _NODE_HEIGHT / 2
        if user.column < used.column:
            ends = ((from_x + _NODE_WIDTH, middle), (to_x - gap, middle))
        else:
            ends = ((from_x, middle), (to_x + _NODE_WIDTH + gap, middle))
    else:
        shift = (used.column - user.column) * _NODE_WIDTH * 0.32
        ends = (
            (from_x + _NODE_WIDTH / 2 + shift, from_y + _NODE_HEIGHT),
            (to_x + _NODE_WIDTH / 2 - shift, to_y - gap),
        )
    return Line(ends, "muted", thickness=2, has_arrow=True)

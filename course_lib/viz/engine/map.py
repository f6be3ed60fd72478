"""The map of the engine: its parts, who uses whom, and which of them the learner built."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias
from weakref import WeakSet

from course_lib import parts
from course_lib.catalogue import FINAL_PROJECT, lesson_name
from course_lib.parts import PartStatus
from course_lib.viz.engine.nodes import NODES, Node
from course_lib.viz.kit.layout import NARROW, WIDE, bottom_of, fitting, legend
from course_lib.viz.kit.scene import Scene
from course_lib.viz.kit.shapes import SMALL_SIZE, Anchor, Group, Line, Point, Rect, Shape, Text
from course_lib.viz.kit.view import Picture

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

_ROW, _NODE_WIDTH, _NODE_HEIGHT = 112, 158, 60
_LEFT, _TOP = 22, 44
_ABOVE, _BELOW = 34, 10
"""Room that a group's border leaves above and below a box; its title stands in the former."""

_GAP = 3
"""Between the tip of an arrow and the box."""

_Place: TypeAlias = tuple[int, int]
"""Column and row."""


def _cells(first: _Place, last: _Place) -> frozenset[_Place]:
    """Return all places from one to another, columns and rows."""
    columns, rows = range(first[0], last[0] + 1), range(first[1], last[1] + 1)
    return frozenset((column, row) for column in columns for row in rows)


def engine_map_scene(lesson: int, statuses: Iterable[PartStatus], width: float = WIDE) -> Scene:
    """Draw the map.

    A box is the learner's as soon as one of its parts is, carries a check mark when all of them
    are, and is broken if any of them is. The boxes of ``lesson`` have a bold outline.

    Args:
        lesson: The current lesson, 1 to 12, or ``FINAL_PROJECT``.
        statuses: The state of each part.
        width: Width of the picture. A narrow one has three boxes in a row instead of five.

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
    form = _WIDE_FORM if width >= WIDE else _NARROW_FORM
    shapes = form.groups()
    shapes += [form.arrow(user, used) for user, used in _USES]
    shapes += [
        _node_group(key, form.corner(key), by_node[key], is_current=lesson in node.lessons)
        for key, node in NODES.items()
    ]
    shapes += legend(("reference", "yours", "broken"), *form.legend)
    current = [node.title for node in NODES.values() if lesson in node.lessons]
    own = [NODES[key].title for key, found in by_node.items() if _state(found) == "yours"]
    return Scene(
        form.width,
        bottom_of(shapes) + 24,
        tuple(shapes),
        title="Map of the engine",
        alt=f"{lesson_name(lesson).capitalize()} works on {', '.join(current)}. "
        f"Your own parts are in use in: {', '.join(own) or 'none yet'}. "
        f"Who uses whom: {_uses_in_words()}.",
    )


def _uses_in_words() -> str:
    """Say what the arrows say."""
    used_by: dict[str, list[str]] = {}
    for user, used in _USES:
        used_by.setdefault(NODES[user].title, []).append(NODES[used].title)
    return "; ".join(f"{user} uses {', '.join(used)}" for user, used in used_by.items())


@dataclass(frozen=True)
class _Form:
    """How the map is laid out for one width of the page.

    Attributes:
        width: Width of the picture.
        column: Distance from one column to the next.
        places: Where each box stands.
        titles: Each group's title, and the box above which it stands.
        members: The cells of each group.
        legend: Left and upper edge of the legend, and how wide it may be.
        right_titles: The titles that end where the box does, because an arrow runs at its left.
    """

    width: float
    column: float
    places: Mapping[str, _Place]
    titles: Mapping[str, str]
    members: Mapping[str, frozenset[_Place]]
    legend: tuple[float, float, float]
    right_titles: frozenset[str] = frozenset()

    def corner(self, key: str) -> Point:
        """Return the upper left corner of a box."""
        return self._corner(self.places[key])

    def groups(self) -> list[Shape]:
        """Draw the borders of the groups, and their titles."""
        shapes: list[Shape] = []
        for title, cells in self.members.items():
            shapes += self._border(cells)
            x, y = self.corner(self.titles[title])
            anchor: Anchor = "end" if title in self.right_titles else "start"
            x += _NODE_WIDTH if anchor == "end" else 0
            shapes.append(Text(x, y - 12, title, SMALL_SIZE, anchor, "muted", is_bold=True))
        return shapes

    def arrow(self, user: str, used: str) -> Line:
        """Draw an arrow from the edge of one box to the facing edge of the other."""
        (column, row), (to_column, to_row) = self.places[user], self.places[used]
        (x, y), (to_x, to_y) = self.corner(user), self.corner(used)
        middle, to_middle = y + _NODE_HEIGHT / 2, to_y + _NODE_HEIGHT / 2
        points: tuple[Point, ...]
        if row == to_row and column < to_column:
            points = ((x + _NODE_WIDTH, middle), (to_x - _GAP, to_middle))
        elif row == to_row:
            points = ((x, middle), (to_x + _NODE_WIDTH + _GAP, to_middle))
        elif column == to_column and to_row - row > 1:
            # Around what stands in between.
            right = x + _NODE_WIDTH
            points = ((right, middle), (right + 14, middle), (right + 14, to_middle))
            points += ((right + _GAP, to_middle),)
        else:
            shift = (to_column - column) * _NODE_WIDTH * 0.32
            start, end = x + _NODE_WIDTH / 2 + shift, to_x + _NODE_WIDTH / 2 - shift
            if row < to_row:
                points = ((start, y + _NODE_HEIGHT), (end, to_y - _GAP))
            else:
                points = ((start, y), (end, to_y + _NODE_HEIGHT + _GAP))
        return Line(points, "muted", thickness=2, has_arrow=True)

    def _corner(self, place: _Place) -> Point:
        return _LEFT + place[0] * self.column, _TOP + place[1] * _ROW

    def _border(self, cells: frozenset[_Place]) -> Iterator[Line]:
        """Yield the edges around a group; between two of its cells there is none."""
        for column, row in sorted(cells):
            left, top, right, bottom = self._cell((column, row))
            has_left, has_right = (column - 1, row) in cells, (column + 1, row) in cells
            has_above, has_below = (column, row - 1) in cells, (column, row + 1) in cells
            for is_open, ends in (
                (has_left, ((left, top), (left, bottom))),
                (has_right, ((right, top), (right, bottom))),
                (has_above, ((left, top), (right, top))),
                (has_below, ((left, bottom), (right, bottom))),
            ):
                if not is_open:
                    yield Line(ends, "muted", thickness=1)
            # What joins the cell to the next one of the group, which begins a little further on.
            next_left, next_top = self._cell((column + 1, row))[0], self._cell((column, row + 1))[1]
            if has_right:
                for edge, y in ((-1, top), (1, bottom)):
                    if not {(column, row + edge), (column + 1, row + edge)} <= cells:
                        yield Line(((right, y), (next_left, y)), "muted", thickness=1)
            if has_below:
                for edge, x in ((-1, left), (1, right)):
                    if not {(column + edge, row), (column + edge, row + 1)} <= cells:
                        yield Line(((x, bottom), (x, next_top)), "muted", thickness=1)

    def _cell(self, place: _Place) -> tuple[float, float, float, float]:
        """Return left, top, right and bottom of the room that a box has in its group."""
        x, y = self._corner(place)
        across = (self.column - _NODE_WIDTH) / 2 - 3
        bottom = y + _NODE_HEIGHT + _BELOW
        return x - across, y - _ABOVE, x + _NODE_WIDTH + across, bottom


_WIDE_FORM = _Form(
    width=WIDE,
    column=189,
    places={key: (node.column, node.row) for key, node in NODES.items()},
    titles={
        "Engine": "sampler",
        "Simulation and theory": "simulator",
        "Attention": "paged_attention",
        "Scheduling": "request_queue",
        "KV cache": "reservations",  # an arrow runs through the upper left corner
    },
    members={
        "Engine": _cells((0, 0), (1, 0)),
        "Simulation and theory": _cells((2, 0), (4, 0)),
        "Attention": _cells((0, 1), (0, 2)),
        "Scheduling": _cells((1, 1), (3, 1)),
        "KV cache": _cells((1, 2), (4, 3)),
    },
    legend=(_LEFT, _TOP + 3 * _ROW - 20, 0),
)

_NARROW_FORM = _Form(
    width=NARROW,
    column=178,
    places={
        "cost_model": (0, 0),
        "queueing": (1, 0),
        "simulator": (0, 1),
        "engine": (1, 1),
        "sampler": (2, 1),
        "preemption": (0, 2),
        "scheduler": (1, 2),
        "paged_attention": (2, 2),
        "request_queue": (0, 3),
        "cache_manager": (1, 3),
        "triton_kernels": (2, 3),
        "prefix_cache": (0, 4),
        "block_pool": (1, 4),
        "block_table": (2, 4),
        "reservations": (0, 5),
        "allocators": (1, 5),
        "sizing": (2, 5),
    },
    titles={
        "Engine": "sampler",
        "Simulation and theory": "cost_model",
        "Attention": "paged_attention",
        "Scheduling": "preemption",
        "KV cache": "prefix_cache",
    },
    members={
        "Engine": _cells((1, 1), (2, 1)),
        "Simulation and theory": _cells((0, 0), (1, 0)) | _cells((0, 1), (0, 1)),
        "Attention": _cells((2, 2), (2, 3)),
        "Scheduling": _cells((0, 2), (1, 2)) | _cells((0, 3), (0, 3)),
        "KV cache": _cells((1, 3), (1, 3)) | _cells((0, 4), (2, 5)),
    },
    legend=(_LEFT, _TOP + 6 * _ROW - 22, NARROW - 2 * _LEFT),
    right_titles=frozenset({"Attention"}),
)


class EngineMap(Picture):
    """The map for one lesson, with the state of the learner's parts.

    Args:
        lesson: The current lesson, 1 to 12, or ``FINAL_PROJECT``.
    """

    def __init__(self, lesson: int) -> None:
        self.lesson = lesson
        super().__init__(*_both_forms(lesson))
        _live_maps.add(self)

    def refresh(self) -> None:
        """Look again at the learner's parts and redraw."""
        self.show(*_both_forms(self.lesson))

    def close(self) -> None:
        """Take the map off the page; it is not refreshed any more."""
        _live_maps.discard(self)
        super().close()


def _both_forms(lesson: int) -> tuple[Scene, Scene]:
    """Return the map as it is now, for a wide and for a narrow page."""
    statuses = parts.table()
    return engine_map_scene(lesson, statuses), engine_map_scene(lesson, statuses, NARROW)


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
        return fitting(_NODE_WIDTH, *_turns(node))
    count = sum(status.state == state for status in statuses)
    return f"{count} of {len(statuses)} {state}"


def _turns(node: Node) -> list[str]:
    """Return when a box is worked on, in full and as short as may be."""
    numbers = [str(lesson) for lesson in node.lessons if lesson != FINAL_PROJECT]
    if not numbers:
        return ["final project"]
    project = ", project" if FINAL_PROJECT in node.lessons else ""
    if len(numbers) == 1:
        return [f"lesson {numbers[0]}{project}"]
    return [
        f"lessons {', '.join(numbers)}{project}",
        f"lessons {numbers[0]} … {numbers[-1]}{project}",
    ]


def _node_group(
    key: str, corner: Point, statuses: Sequence[PartStatus], *, is_current: bool
) -> Group:
    """Draw one box."""
    state, node = _state(statuses), NODES[key]
    x, y = corner
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
        ),
    ]
    if statuses and all(status.state == "yours" for status in statuses):
        shapes += _check_mark(x + _NODE_WIDTH - 2, y)
    built = [f"{status.name}: {status.state}" for status in statuses]
    tooltip = "\n".join([_turns(node)[0], *(built or ["nothing to build here yet"])])
    return Group(
        tuple(shapes),
        (("node", key), ("state", state)),
        tooltip,
        of=("node", key),
        lights=tuple(("node", used) for user, used in _USES if user == key),
    )


def _check_mark(x: float, y: float) -> list[Shape]:
    """Draw a check mark in a disc around (x, y)."""
    radius = 12
    tick = ((x - 5.5, y + 0.5), (x - 1.5, y + 4.5), (x + 6, y - 4.5))
    return [
        Rect(x - radius, y - radius, 2 * radius, 2 * radius, "yours", radius=radius),
        Line(tick, "ink", thickness=3),
    ]

from __future__ import annotations

from collections.abc import Callable
from itertools import combinations, pairwise
from typing import Any

import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg

from course_lib import parts
from course_lib.parts import PartStatus, State
from course_lib.viz import EngineMap
from course_lib.viz.engine.map import FINAL_PROJECT, NODES, engine_map_scene, refresh_all
from course_lib.viz.kit import static
from course_lib.viz.kit.layout import NARROW, WIDE
from course_lib.viz.kit.scene import Scene
from course_lib.viz.kit.shapes import Group, Line, Rect


def part(name: str, state: State, node: str = "sizing") -> PartStatus:
    return PartStatus(name, lesson=1, node=node, state=state, note="")


def groups(scene: Scene) -> dict[str, Group]:
    found = (shape for shape in scene.shapes if isinstance(shape, Group))
    return {dict(group.data)["node"]: group for group in found}


def state(scene: Scene, node: str = "sizing") -> str:
    return dict(groups(scene)[node].data)["state"]


def has_check_mark(scene: Scene, node: str = "sizing") -> bool:
    return any(isinstance(shape, Line) for shape in groups(scene)[node].shapes)


def test_every_part_of_the_engine_has_its_node_on_the_map() -> None:
    assert {part.node for part in parts.PARTS.values()} <= set(NODES)


def test_every_lesson_has_a_node_to_outline() -> None:
    for lesson in range(1, FINAL_PROJECT + 1):
        bold = {rect.key for rect in engine_map_scene(lesson, []).rects() if rect.outline == "bold"}
        assert bold == {key for key, node in NODES.items() if lesson in node.lessons} != set()


@pytest.mark.parametrize(
    ("states", "of_node", "is_checked"),
    [
        ([], "reference", False),
        (["reference", "reference"], "reference", False),
        (["yours", "reference"], "yours", False),
        (["yours", "yours"], "yours", True),
        (["yours", "broken"], "broken", False),
    ],
)
def test_a_node_shows_the_state_of_its_parts(
    states: list[State], of_node: str, is_checked: bool
) -> None:
    scene = engine_map_scene(1, [part(f"p{k}", value) for k, value in enumerate(states)])
    assert state(scene) == of_node
    assert {r.state for r in groups(scene)["sizing"].shapes if isinstance(r, Rect)} == {of_node}
    assert has_check_mark(scene) == is_checked
    assert state(scene, "scheduler") == "reference"


def test_the_tooltip_names_each_part_and_its_state() -> None:
    scene = engine_map_scene(1, [part("num_kv_blocks", "yours")])
    assert groups(scene)["sizing"].tooltip == "lesson 1\nnum_kv_blocks: yours"
    assert groups(scene)["scheduler"].tooltip.startswith("lessons 5, 6, 9, 11, 12\n")


def test_the_browser_finds_nodes_by_data_attributes() -> None:
    shapes = engine_map_scene(1, [part("p", "yours")]).to_dict()["shapes"]
    assert {"node": "sizing", "state": "yours"} in [shape.get("data") for shape in shapes]


@pytest.mark.parametrize("width", [WIDE, NARROW])
@pytest.mark.parametrize("value", ["reference", "yours", "broken"])
def test_nothing_is_cut_off_or_covered(
    value: State,
    width: float,
    collisions: Callable[[Scene], list[str]],
    crowding: Callable[[Scene], list[str]],
) -> None:
    statuses = [part(f"{node}-{k}", value, node) for node in NODES for k in range(2)]
    for lesson in range(1, FINAL_PROJECT + 1):
        assert crowding(engine_map_scene(lesson, statuses, width)) == []
    assert collisions(engine_map_scene(8, statuses, width)) == []


def outer_boxes(scene: Scene) -> dict[str, Rect]:
    return {rect.key: rect for rect in scene.rects() if rect.key in NODES}


@pytest.mark.parametrize("width", [WIDE, NARROW])
def test_words_stay_inside_their_boxes(width: float) -> None:
    statuses = [part(f"{node}-{k}", "reference", node) for node in NODES for k in range(2)]
    drawing = static.figure(engine_map_scene(1, statuses, width))
    renderer = FigureCanvasAgg(drawing).get_renderer()
    boxes = outer_boxes(engine_map_scene(1, statuses, width)).values()
    words = {text.get_text(): text for text in drawing.axes[0].texts}
    for node in NODES.values():
        assert words[node.title].get_window_extent(renderer).width <= next(iter(boxes)).width
    for said, text in words.items():
        if said.startswith("lesson") or said == "final project":
            assert text.get_window_extent(renderer).width <= next(iter(boxes)).width, said


@pytest.mark.parametrize("width", [WIDE, NARROW])
def test_nodes_do_not_overlap_and_no_arrow_runs_through_one(width: float) -> None:
    scene = engine_map_scene(1, [], width)
    boxes = outer_boxes(scene)
    assert set(boxes) == set(NODES)
    for one, other in combinations(boxes.values(), 2):
        assert abs(one.x - other.x) >= one.width or abs(one.y - other.y) >= one.height
    arrows = [shape for shape in scene.shapes if isinstance(shape, Line) and shape.has_arrow]
    assert arrows
    for arrow in arrows:
        for (x, y), (to_x, to_y) in pairwise(arrow.points):
            for part_way in (k / 100 for k in range(1, 100)):
                here = x + part_way * (to_x - x), y + part_way * (to_y - y)
                assert not any(
                    box.x < here[0] < box.x + box.width and box.y < here[1] < box.y + box.height
                    for box in boxes.values()
                )


@pytest.mark.parametrize("width", [WIDE, NARROW])
def test_every_arrow_begins_at_its_user_and_ends_at_what_it_uses(width: float) -> None:
    scene = engine_map_scene(1, [], width)
    boxes = outer_boxes(scene)
    ends = {
        (_nearest(boxes, line.points[0]), _nearest(boxes, line.points[-1]))
        for line in scene.shapes
        if isinstance(line, Line) and line.has_arrow
    }
    lights = {
        (dict(group.data)["node"], str(name))
        for group in groups(scene).values()
        for _, name in group.lights
    }
    assert ends == lights
    assert ("scheduler", "cache_manager") in ends


def _nearest(boxes: dict[str, Rect], point: tuple[float, float]) -> str:
    """Return the box at whose edge a point is."""

    def distance(key: str) -> float:
        box, (x, y) = boxes[key], point
        across = max(box.x - x, 0, x - box.x - box.width)
        return across + max(box.y - y, 0, y - box.y - box.height)

    return min(boxes, key=distance)


def test_a_part_off_the_map_and_a_lesson_that_does_not_exist_are_refused() -> None:
    with pytest.raises(ValueError, match="node 'attic', which is not on the map"):
        engine_map_scene(1, [part("p", "yours", node="attic")])
    with pytest.raises(ValueError, match="no lesson 14"):
        engine_map_scene(14, [])


@pytest.fixture
def table(monkeypatch: pytest.MonkeyPatch) -> list[PartStatus]:
    """Stand in for the learner's workspace."""
    rows = [part("num_kv_blocks", "reference")]
    monkeypatch.setattr(parts, "table", lambda: rows)
    return rows


def shown_state(widget: Any) -> str:
    shapes = widget.frames[0]["scene"]["shapes"]
    return next(s["data"]["state"] for s in shapes if s.get("data", {}).get("node") == "sizing")


def test_every_open_map_lights_up_when_a_part_passes(table: list[PartStatus]) -> None:
    first, second = EngineMap(lesson=1), EngineMap(lesson=2)
    assert shown_state(first) == shown_state(second) == "reference"
    table[0] = part("num_kv_blocks", "yours")
    refresh_all()
    assert shown_state(first) == shown_state(second) == "yours"


def test_a_map_that_was_closed_is_left_alone(table: list[PartStatus]) -> None:
    closed = EngineMap(lesson=1)
    closed.close()
    table[0] = part("num_kv_blocks", "yours")
    refresh_all()
    assert shown_state(closed) == "reference"


def test_a_png_travels_with_the_widget(table: list[PartStatus]) -> None:
    data, _ = EngineMap(lesson=1)._repr_mimebundle_()
    assert "image/png" in data

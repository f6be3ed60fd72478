from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from course_lib import parts
from course_lib.parts import PartStatus, State
from course_lib.viz import EngineMap, engine_map
from course_lib.viz.engine_map import NODES, engine_map_scene, refresh_all
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
    for lesson in range(1, engine_map.FINAL_PROJECT + 1):
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
    assert groups(scene)["sizing"].tooltip == "num_kv_blocks: yours"


def test_the_browser_finds_nodes_by_data_attributes() -> None:
    shapes = engine_map_scene(1, [part("p", "yours")]).to_dict()["shapes"]
    assert {"node": "sizing", "state": "yours"} in [shape.get("data") for shape in shapes]


@pytest.mark.parametrize("value", ["reference", "yours", "broken"])
def test_nothing_is_cut_off_or_covered(
    value: State, collisions: Callable[[Scene], list[str]]
) -> None:
    statuses = [part(f"{node}-{k}", value, node) for node in NODES for k in range(2)]
    assert collisions(engine_map_scene(8, statuses)) == []


def test_nodes_do_not_overlap() -> None:
    places = [(node.column, node.row) for node in NODES.values()]
    assert len(set(places)) == len(places)


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

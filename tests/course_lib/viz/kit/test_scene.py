from __future__ import annotations

import json

import pytest
from matplotlib.font_manager import FontProperties
from matplotlib.textpath import TextPath

from course_lib.viz.kit.charts.axes import Scale, horizontal_axis
from course_lib.viz.kit.layout import bottom_of, fitting, legend, text_width
from course_lib.viz.kit.scene import Scene
from course_lib.viz.kit.shapes import Group, Line, Rect, Text, states_in


def scene_of(*shapes: Rect | Text | Line | Group) -> Scene:
    return Scene(200, 100, shapes, title="A title", alt="A description")


def test_a_scene_survives_the_way_to_the_browser_as_json() -> None:
    scene = scene_of(
        Group((Rect(0, 0, 10, 10, "used", key="a"),), data=(("node", "sizing"),), tooltip="t"),
        Text(1, 2, "words", tone="alert", is_bold=True),
        Line(((0, 0), (9, 0)), has_arrow=True),
    )
    data = json.loads(json.dumps(scene.to_dict()))
    assert data == scene.to_dict()
    assert [shape["kind"] for shape in data["shapes"]] == ["group", "text", "line"]
    assert data["shapes"][0]["data"] == {"node": "sizing"}
    assert data["shapes"][0]["shapes"][0]["key"] == "a"


def test_the_browser_gets_the_look_of_exactly_the_states_that_occur() -> None:
    scene = scene_of(Rect(0, 0, 1, 1, "used"), Group((Rect(2, 0, 1, 1, "free"),)))
    assert set(scene.to_dict()["states"]) == {"used", "free"} == set(states_in(scene.shapes))


def test_a_key_names_one_box() -> None:
    with pytest.raises(ValueError, match="two shapes have the key 'a'"):
        scene_of(Rect(0, 0, 1, 1, key="a"), Group((Rect(2, 0, 1, 1, key="a"),)))


def test_a_scene_must_be_described_for_screen_readers() -> None:
    with pytest.raises(ValueError, match="description"):
        Scene(10, 10, (), title="A title", alt="")


def test_boxes_of_unknown_state_or_negative_size_are_refused() -> None:
    with pytest.raises(ValueError, match="no state 'fre'"):
        Rect(0, 0, 1, 1, "fre")
    with pytest.raises(ValueError, match="must not be negative"):
        Rect(0, 0, -1, 1)


def test_a_line_needs_two_points() -> None:
    with pytest.raises(ValueError, match="at least 2 points"):
        Line(((0, 0),))


@pytest.mark.parametrize(
    "text", ["weights 15.0 GiB", "13 of 16 sequences fit", "Queueing theory", "KV cache 128 KiB"]
)
@pytest.mark.parametrize("weight", ["normal", "bold"])
def test_estimated_widths_are_close_to_the_widest_font_in_use(text: str, weight: str) -> None:
    font = FontProperties(family="DejaVu Sans", weight=weight)
    real = TextPath((0, 0), text, size=100, prop=font).get_extents().width
    assert real * 0.85 <= text_width(text, 100) <= real * 1.25


def test_a_label_gives_way_where_there_is_no_room() -> None:
    assert fitting(300, "a long label", "short") == "a long label"
    assert fitting(60, "a long label", "short") == "short"
    assert fitting(10, "a long label", "short") == ""


@pytest.mark.parametrize(("low", "high"), [(0, 24), (0, 0.3), (5, 17), (0, 15_700)])
def test_ticks_are_round_inside_the_scale_and_not_too_many(low: float, high: float) -> None:
    ticks = Scale(low, high, 0, 100).ticks(at_most=8)
    assert 2 <= len(ticks) <= 8
    assert all(low <= tick <= high for tick in ticks)


def test_an_axis_names_its_quantity_and_its_ticks_stand_at_their_values() -> None:
    scale = Scale(0, 30, 100, 400)
    shapes = horizontal_axis(scale, 50, "GPU memory (GiB)")
    texts = {shape.text: shape.x for shape in shapes if isinstance(shape, Text)}
    assert texts["GPU memory (GiB)"] == 250
    assert texts["10"] == scale(10) == 200


def test_an_empty_scale_is_refused() -> None:
    with pytest.raises(ValueError, match="low < high"):
        Scale(3, 3, 0, 1)


def test_a_legend_wraps_before_its_width_ends() -> None:
    shapes = legend(["weights", "used", "reserved", "free"], x=10, y=5, width=300)
    swatches = [shape for shape in shapes if isinstance(shape, Rect)]
    names = [shape for shape in shapes if isinstance(shape, Text)]
    assert [swatch.state for swatch in swatches] == ["weights", "used", "reserved", "free"]
    assert len({swatch.y for swatch in swatches}) > 1
    assert all(name.x + text_width(name.text, name.size) <= 310 for name in names)
    assert bottom_of(shapes) == max(swatch.y + swatch.height for swatch in swatches)

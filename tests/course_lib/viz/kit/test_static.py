from __future__ import annotations

import subprocess
import sys

import pytest
from matplotlib.colors import to_hex
from matplotlib.patches import Polygon

from course_lib.viz.kit import static
from course_lib.viz.kit.palette import PALETTE, TONES
from course_lib.viz.kit.scene import Scene
from course_lib.viz.kit.shapes import Group, Line, Rect, Text

SCENE = Scene(
    300,
    120,
    (
        Rect(10, 10, 50, 40, "used", "label"),
        Group((Rect(70, 10, 50, 40, "reserved", radius=8),)),
        Rect(130, 10, 50, 40),
        Text(10, 90, "costs $5 or $6"),
        Line(((0, 100), (200, 100)), has_arrow=True),
    ),
    title="A title",
    alt="A description",
)


def test_every_shape_is_drawn_with_the_colours_and_hatches_of_the_palette() -> None:
    axes = static.figure(SCENE).axes[0]
    boxes = [patch for patch in axes.patches if not isinstance(patch, Polygon)]
    assert len(boxes) == len(list(SCENE.rects()))
    for box, state in zip(boxes[:2], ("used", "reserved"), strict=True):
        assert to_hex(box.get_facecolor()).upper() == PALETTE[state].colour
        assert set(box.get_hatch() or "") == set(PALETTE[state].hatch)
    assert boxes[2].get_facecolor()[3] == 0  # a box without a state is hollow
    assert [text.get_text() for text in axes.texts] == list(SCENE.texts())
    assert len(axes.patches) - len(boxes) == 1  # one arrow head


def test_a_label_has_a_halo_where_its_ground_is_not_even() -> None:
    boxes = (
        Rect(10, 10, 50, 40, "used", "even"),
        Rect(70, 10, 50, 40, "reserved", "hatch"),
        Rect(130, 10, 50, 40, label="hollow"),
        Rect(190, 10, 50, 40, "used", "wider than its box"),
    )
    scene = Scene(300, 120, boxes, title="A title", alt="A description")
    labels = static.figure(scene).axes[0].texts
    assert [label.get_text() for label in labels if label.get_path_effects()] == [
        "hatch",
        "hollow",
        "wider than its box",
    ]


@pytest.mark.parametrize("radius", [0, 8])
def test_a_box_is_drawn_where_it_stands(radius: float) -> None:
    scene = Scene(300, 120, (Rect(10, 20, 50, 40, "used", radius=radius),), "A title", "Words")
    (box,) = static.figure(scene).axes[0].patches
    corners = box.get_path().get_extents()
    assert (corners.x0, corners.y0, corners.x1, corners.y1) == (10, 20, 60, 60)


def test_a_line_with_a_state_has_its_colour_and_its_dashes() -> None:
    lines = (
        Line(((0, 20), (200, 20)), thickness=2, state="series-2"),
        Line(((0, 40), (200, 40)), tone="alert", is_dashed=True),
        Line(((0, 60), (200, 60))),
    )
    scene = Scene(300, 120, lines, title="A title", alt="A description")
    series, dashed, plain = static.figure(scene).axes[0].lines
    assert to_hex(series.get_color()).upper() == PALETTE["series-2"].colour
    assert series.is_dashed()
    assert dashed.is_dashed()
    assert not plain.is_dashed()
    assert to_hex(dashed.get_color()).upper() == TONES["alert"]


def test_a_shape_too_small_for_a_hatch_has_its_colour_alone() -> None:
    boxes = (Rect(10, 10, 50, 40, "reserved"), Rect(70, 10, 9, 9, "reserved"))
    scene = Scene(300, 120, boxes, title="A title", alt="A description")
    large, small = static.figure(scene).axes[0].patches
    assert large.get_hatch()
    assert not small.get_hatch()
    assert large.get_facecolor() == small.get_facecolor()


def test_the_figure_has_the_proportions_of_the_scene() -> None:
    assert tuple(static.figure(SCENE).get_size_inches()) == (3.0, 1.2)


def test_dollar_signs_are_not_mathematics() -> None:
    assert not any(text.get_parse_math() for text in static.figure(SCENE).axes[0].texts)


def test_a_figure_shows_itself_as_png() -> None:
    assert static.figure(SCENE)._repr_png_().startswith(b"\x89PNG")


def test_a_contact_sheet_has_one_picture_and_one_caption_per_frame() -> None:
    sheet = static.contact_sheet([SCENE] * 3, ["one", "two", "three"], columns=2)
    assert len(sheet.axes) == 3
    assert [text.get_text() for text in sheet.texts] == ["one", "two", "three"]
    tops = [round(axes.get_position().y1, 3) for axes in sheet.axes]
    assert tops[0] == tops[1] > tops[2]


@pytest.mark.parametrize(("scenes", "captions"), [([], []), ([SCENE], [])])
def test_a_contact_sheet_needs_a_caption_for_each_scene(
    scenes: list[Scene], captions: list[str]
) -> None:
    with pytest.raises(ValueError, match="need one each"):
        static.contact_sheet(scenes, captions)


def run_python(code: str) -> str:
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return done.stdout.strip()


def test_drawing_leaves_pyplot_alone() -> None:
    code = (
        "import sys\nfrom course_lib.viz.kit import static\n"
        "from course_lib.viz.kit.scene import Scene\n"
        "static.png(static.figure(Scene(9, 9, (), 't', 'a')))\n"
        "print('matplotlib.pyplot' in sys.modules)"
    )
    assert run_python(code) == "False"


def test_importing_the_package_loads_neither_matplotlib_nor_widgets() -> None:
    code = (
        "import sys, course_lib.viz\n"
        "print({'matplotlib', 'anywidget', 'ipywidgets', 'torch', 'autograder'} & set(sys.modules))"
    )
    assert run_python(code) == "set()"


def test_a_static_figure_says_what_it_shows() -> None:
    alone = static.figure(SCENE)._repr_html_()
    assert alone.startswith('<img alt="A title. A description" src="data:image/png;base64,')
    sheet = static.contact_sheet([SCENE, SCENE], ["Step 1 of 2: begins.", ""])
    assert sheet.description == "A title. Step 1 of 2: begins. A description"

"""Grids on canvas: each cell in the colour of its state, as sharp as the screen, in every theme."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from course_lib.viz.kit.palette import PALETTE
from course_lib.viz.kit.shapes import Cells

pytestmark = pytest.mark.browser

STATES = ("in_use", "cached", "shared", "free", "swapped")

PIXELS = """
  const canvas = document.querySelector("canvas");
  const pen = canvas.getContext("2d");
  return argument.map(([x, y]) => [...pen.getImageData(x, y, 1, 1).data]);
"""

SHARE = """
  const pen = document.querySelector("canvas").getContext("2d");
  const [x, y, side] = argument;
  const { data } = pen.getImageData(x, y, side, side);
  const colours = new Set();
  for (let k = 0; k < data.length; k += 4) colours.add(data.slice(k, k + 3).join());
  return colours.size;
"""


def grid(states: tuple[str, ...], size: float = 10, columns: int = 5, **more: Any) -> Cells:
    return Cells(0, 0, columns, size, states, "block", "pool", **more)


def rgb(colour: str) -> list[int]:
    return [int(colour[start : start + 2], 16) for start in (1, 3, 5)]


def pixels(stage: Any, *points: tuple[float, float]) -> list[list[int]]:
    """Return red, green, blue and opacity at points of the canvas."""
    return list(stage.kit.run(PIXELS, points))


@pytest.mark.parametrize("density", [1, 2])
def test_cells_have_the_colours_of_their_states(
    open_stage: Callable[..., Any], density: int
) -> None:
    stage = open_stage(density=density)
    stage.show(grid(STATES[:3] * 5, size=5))
    size = stage.page.locator("canvas").evaluate("({ width, height }) => [width, height]")
    assert size == [25 * density, 15 * density], "a pixel of the canvas is one of the screen"
    side = 5 * density
    middles = [(column * side + side // 2, side // 2) for column in range(5)]
    names = [*STATES[:3], *STATES[:2]]
    if density == 1:  # too small for a hatch
        assert [pixel[:3] for pixel in pixels(stage, *middles)] == [
            rgb(PALETTE[name].colour) for name in names
        ]
    assert pixels(stage, (side - 1, 1)) == [[0, 0, 0, 0]], "the gap is left open"


def test_a_hatch_is_drawn_where_it_can_be_read(stage: Any) -> None:
    stage.show(grid(("cached",) * 5, size=6))
    assert stage.kit.run(SHARE, [0, 0, 5]) == 1
    stage.show(grid(("cached", "in_use"), size=14))
    assert stage.kit.run(SHARE, [0, 0, 13]) > 3
    assert stage.kit.run(SHARE, [14, 0, 13]) == 1


def test_a_gap_is_never_closed(stage: Any) -> None:
    """Cells of 7.5 pixels begin at 0, 8, 15, 23..."""
    stage.show(grid(("in_use",) * 40, size=7.5, columns=20))
    row = pixels(stage, *((x, 2) for x in range(150)))
    runs = "".join("#" if opacity else " " for *_, opacity in row).split()
    assert runs == ["######"] * 20


def test_only_cells_that_change_are_drawn(stage: Any) -> None:
    states = ["in_use"] * 200
    stage.show(grid(tuple(states), columns=20))
    script = """
      const { prototype } = CanvasRenderingContext2D;
      page.drawn = [];
      const { putImageData } = prototype;
      prototype.putImageData = function (...all) {
        page.drawn.push(all.slice(3));
        putImageData.apply(this, all);
      };
    """
    stage.kit.run(script)
    states[27] = states[41] = "weights"
    stage.show(grid(tuple(states), columns=20))
    assert stage.kit.run("return page.drawn") == [[0, 10, 200, 19]], "two rows of pixels"
    used, other = rgb(PALETTE["in_use"].colour), rgb(PALETTE["weights"].colour)
    found = [pixel[:3] for pixel in pixels(stage, (64, 13), (72, 12), (84, 13), (12, 23))]
    assert found == [used, other, used, other]
    stage.show(grid(tuple(states), columns=20))
    assert stage.kit.run("return page.drawn.length") == 1, "nothing has changed"
    stage.show(grid(tuple(states[:40]), columns=10))
    assert stage.kit.run("return page.drawn.at(-1)") == [0, 0, 100, 39], "another grid, all of it"
    assert stage.attribute("foreignObject", "height") == "40"


@pytest.mark.parametrize("dark", [False, True])
def test_empty_cells_are_paper_of_the_page(open_stage: Callable[..., Any], dark: bool) -> None:
    stage = open_stage(dark=dark)
    stage.show(grid(("free", "in_use"), size=20))
    ((red, *_),) = pixels(stage, (9, 9))
    ((edge, *_),) = pixels(stage, (0, 9))
    assert red < 80 and edge > red + 40 if dark else red > 230 and edge < red - 40


def test_a_theme_that_changes_is_followed(stage: Any) -> None:
    stage.show(grid(("free",), size=20))
    stage.page.emulate_media(color_scheme="dark")
    red = "document.querySelector('canvas').getContext('2d').getImageData(9, 9, 1, 1).data[0]"
    stage.page.wait_for_function(f"{red} < 80")


def test_a_picture_that_is_scaled_is_drawn_as_fine(stage: Any) -> None:
    stage.show(grid(("in_use",) * 200, columns=40), width=400)
    assert stage.page.locator("canvas").evaluate("(canvas) => canvas.width") == 400
    stage.page.set_viewport_size({"width": 348, "height": 500})
    stage.page.wait_for_function("document.querySelector('canvas').width === 320")
    assert [pixel[:3] for pixel in pixels(stage, (318, 1))] == [rgb(PALETTE["in_use"].colour)]


def test_a_page_that_comes_to_a_finer_screen_is_drawn_as_fine(stage: Any) -> None:
    """Its window changes as well: chromium tells of the pixels alone only on a real screen."""
    stage.show(grid(("in_use",) * 20, columns=10))
    session = stage.page.context.new_cdp_session(stage.page)
    screen = {"width": 600, "height": 800, "mobile": False, "deviceScaleFactor": 2}
    session.send("Emulation.setDeviceMetricsOverride", screen)
    stage.page.wait_for_function("document.querySelector('canvas').width === 200")
    session.send("Emulation.clearDeviceMetricsOverride")
    session.detach()

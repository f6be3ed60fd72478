"""Saving what is shown in chromium: files that look the same wherever they are opened."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
from matplotlib.image import imread

from course_lib.viz import Picture
from course_lib.viz.kit.page import front_end_state
from course_lib.viz.kit.scene import Scene
from course_lib.viz.kit.shapes import Cells, Line, Rect, Text

pytestmark = pytest.mark.browser

SVG = "{http://www.w3.org/2000/svg}"
BLUE = (0, 0x72, 0xB2)


def picture() -> Picture:
    shapes = (
        Rect(20, 20, 100, 60, "in_use", "block 7", key="box", tooltip="in <use> & more"),
        Rect(140, 20, 100, 60, "cached", key="hatched"),
        Line(((20, 100), (240, 100)), has_arrow=True),
        Text(20, 130, "Blocks & tables", tone="muted", is_bold=True),
        Text(200, 130, "A: 1"),
        Text(300, 130, "A:  1"),
        Cells(260, 20, 4, 20, ("in_use", "free") * 6, "block", "grid"),
    )
    return Picture(Scene(400, 150, shapes, "A pool: 12 blocks", "Some blocks"))


def save(kit: Any, kind: str, folder: Path, **options: Any) -> Path:
    kit.open(**options)
    kit.mount(front_end_state(picture().get_state()))
    kit.page.locator("svg.scene [data-key=box]").wait_for()
    with kit.page.expect_download() as download:
        kit.page.get_by_role("button", name=f"Save the picture as {kind}").click()
    path = folder / download.value.suggested_filename
    download.value.save_as(path)
    return path


def test_two_spaces_are_two_in_the_picture_and_in_the_file(kit: Any, tmp_path: Path) -> None:
    save(kit, "SVG", tmp_path)
    one, two = kit.page.locator("svg.scene text", has_text="A:").evaluate_all(
        "(lines) => lines.map((node) => node.getComputedTextLength())"
    )
    assert two > one + 3
    [file] = tmp_path.iterdir()
    [saved] = re.findall("<text[^>]*>A:  1<", file.read_text(encoding="utf-8"))
    assert "white-space: pre" in saved


@pytest.mark.parametrize("dark", [False, True])
def test_the_svg_has_all_that_it_needs_inside(kit: Any, tmp_path: Path, dark: bool) -> None:
    path = save(kit, "SVG", tmp_path, dark=dark)
    assert path.name == "a-pool-12-blocks.svg"
    text = path.read_text(encoding="utf-8")
    for word in ("var(", "color-mix", "currentcolor", "<foreignObject", "class=", "http://127"):
        assert word not in text, word
    root = ElementTree.fromstring(text)
    assert (root.get("width"), root.get("height")) == ("400", "150")
    ground = next(root.iter(f"{SVG}rect"))
    assert ground.get("fill") == ("rgb(18, 18, 18)" if dark else "rgb(255, 255, 255)")
    words = next(node for node in root.iter(f"{SVG}text") if node.text == "Blocks & tables")
    assert "font-family" in words.get("style", "")
    assert float(words.get("textLength", 0)) > 100
    [image] = root.iter(f"{SVG}image")
    assert image.get("href", "").startswith("data:image/png;base64,")


def test_a_browser_draws_the_svg_as_the_figure_was(kit: Any, tmp_path: Path) -> None:
    path = save(kit, "SVG", tmp_path)
    on_page = tmp_path / "page.png"
    kit.page.locator("svg.scene").screenshot(path=on_page)
    kit.page.goto(path.as_uri())
    of_file = tmp_path / "file.png"
    kit.page.locator("svg").first.screenshot(path=of_file)
    page, file = imread(on_page)[..., :3], imread(of_file)[..., :3]
    height, width = (min(a, b) for a, b in zip(page.shape[:2], file.shape[:2], strict=True))
    difference = abs(page[:height, :width] - file[:height, :width]).max(axis=2)
    assert (difference > 0.25).mean() < 0.01


def test_the_png_is_twice_as_fine_as_the_picture(kit: Any, tmp_path: Path) -> None:
    image = imread(save(kit, "PNG", tmp_path))
    assert image.shape[:2] == (300, 800)
    colours = {
        name: tuple(round(255 * float(value)) for value in image[y, x, :3])
        for name, (x, y) in {"box": (60, 150), "cell": (540, 60), "ground": (790, 290)}.items()
    }
    assert colours["box"] == BLUE
    assert colours["cell"] == BLUE
    assert colours["ground"] == (255, 255, 255)

"""What makes a picture readable, checked on what matplotlib really draws."""

from __future__ import annotations

from collections.abc import Callable
from itertools import combinations
from typing import Any

import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg

from course_lib.viz.kit import static
from course_lib.viz.kit.layout import text_width
from course_lib.viz.kit.scene import Scene
from course_lib.viz.kit.shapes import SMALL_SIZE, Leaf, Rect, Text, flatten


def _collisions(scene: Scene) -> list[str]:
    drawing = static.figure(scene)
    renderer = FigureCanvasAgg(drawing).get_renderer()
    page = drawing.bbox
    texts = [text for text in drawing.axes[0].texts if text.get_text()]
    boxes = [(text.get_text(), text.get_window_extent(renderer).padded(-2)) for text in texts]
    found = [
        f"{text!r} leaves the picture"
        for text, box in boxes
        if box.x0 < page.x0 or box.x1 > page.x1 or box.y0 < page.y0 or box.y1 > page.y1
    ]
    found += [
        f"{first!r} covers {second!r}"
        for (first, box), (second, other) in combinations(boxes, 2)
        if box.overlaps(other)
    ]
    found += [
        f"box {rect.key or rect.label!r} leaves the picture"
        for rect in scene.rects()
        if rect.x < 0
        or rect.y < 0
        or rect.x + rect.width > scene.width
        or rect.y + rect.height > scene.height
    ]
    return found


@pytest.fixture
def collisions() -> Callable[[Scene], list[str]]:
    """Say what is cut off or covered in a scene; an empty list for a readable one."""
    return _collisions


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch) -> list[Scene]:
    """Collect the scenes that matplotlib draws."""
    scenes: list[Scene] = []
    draw: Callable[..., None] = static.draw

    def spy(scene: Scene, axes: Any) -> None:
        scenes.append(scene)
        draw(scene, axes)

    monkeypatch.setattr(static, "draw", spy)
    return scenes


def _crowding(scene: Scene) -> list[str]:
    """Say what is cut off, covered or too small, by the estimate that figures are laid out with.

    It takes a hundredth of the time that matplotlib takes, so all settings of a figure can be
    tried.
    """
    texts = [_text_box(shape) for shape in flatten(scene.shapes) if _is_readable(shape)]
    found = [f"{text!r} is {size:g} pixels high" for text, size, _ in texts if size < SMALL_SIZE]
    for text, _, (left, top, right, bottom) in texts:
        if left < 0 or top < 0 or right > scene.width or bottom > scene.height:
            found.append(f"{text!r} leaves the picture")
    found += [
        f"{first!r} covers {second!r}"
        for (first, _, box), (second, _, other) in combinations(texts, 2)
        if box[0] < other[2] and other[0] < box[2] and box[1] < other[3] and other[1] < box[3]
    ]
    for rect in scene.rects():
        if not (rect.x >= -0.01 and rect.x + rect.width <= scene.width + 0.01):
            found.append(f"box {rect.key!r} leaves the picture")
        if not (rect.y >= -0.01 and rect.y + rect.height <= scene.height + 0.01):
            found.append(f"box {rect.key!r} leaves the picture")
    return found


def _is_readable(shape: Leaf) -> bool:
    return isinstance(shape, Text) or (isinstance(shape, Rect) and bool(shape.label))


def _text_box(shape: Leaf) -> tuple[str, float, tuple[float, float, float, float]]:
    """Return what is written, how large, and left, top, right and bottom of it."""
    if isinstance(shape, Rect):
        size, text = shape.label_size, shape.label
        width = text_width(text, size)
        left = shape.x + (shape.width - width) / 2
        middle = shape.y + shape.height / 2
        return text, size, (left, middle - size * 0.4, left + width, middle + size * 0.4)
    assert isinstance(shape, Text)
    width = text_width(shape.text, shape.size)
    left = shape.x - {"start": 0.0, "middle": width / 2, "end": width}[shape.anchor]
    return (
        shape.text,
        shape.size,
        (left, shape.y - 0.7 * shape.size, left + width, shape.y + 0.2 * shape.size),
    )


@pytest.fixture
def crowding() -> Callable[[Scene], list[str]]:
    """Say what is cut off, covered or too small in a scene, by estimate: quick, for sweeps."""
    return _crowding

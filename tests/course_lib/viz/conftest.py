"""What makes a picture readable, checked on what matplotlib really draws."""

from __future__ import annotations

from collections.abc import Callable
from itertools import combinations

import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg

from course_lib.viz.kit import static
from course_lib.viz.kit.layout import text_width
from course_lib.viz.kit.scene import Scene
from course_lib.viz.kit.shapes import Text, flatten


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


def _text_collisions(scene: Scene) -> list[str]:
    """Compare lines of text by their estimated widths: rough, but quick enough for all settings."""
    texts = [shape for shape in flatten(scene.shapes) if isinstance(shape, Text) and shape.text]
    spans = []
    for text in texts:
        width = 0.94 * text_width(text.text, text.size)
        left = text.x - {"start": 0, "middle": width / 2, "end": width}[text.anchor]
        spans.append((text.text, left, left + width, text.y - 0.7 * text.size, text.y))
    return [
        f"{a[0]!r} covers {b[0]!r}"
        for a, b in combinations(spans, 2)
        if a[1] < b[2] and b[1] < a[2] and a[3] < b[4] and b[3] < a[4]
    ] + [f"{text!r} leaves" for text, left, right, *_ in spans if left < 0 or right > scene.width]


@pytest.fixture
def text_collisions() -> Callable[[Scene], list[str]]:
    """Say which lines of text cover each other or leave the picture, by their estimated widths."""
    return _text_collisions

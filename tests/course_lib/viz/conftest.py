"""What makes a picture readable, checked on what matplotlib really draws."""

from __future__ import annotations

from collections.abc import Callable
from itertools import combinations
from typing import Any

import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg

from course_lib.viz.kit import static
from course_lib.viz.kit.scene import Scene


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

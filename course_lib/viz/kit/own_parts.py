"""Figures that show the learner's own parts at work."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import replace
from typing import ParamSpec

from course_lib import parts
from course_lib.viz.kit.layout import text_width
from course_lib.viz.kit.scene import Scene
from course_lib.viz.kit.shapes import SMALL_SIZE, Text

_MARGIN = 24

_P = ParamSpec("_P")


def shows_own_parts(build: Callable[_P, Scene]) -> Callable[_P, Scene]:
    """Let a function draw its scene with the learner's own parts, as they are when it is called.

    A part that gives wrong numbers shows them. If the scene cannot be drawn with their parts, it is
    drawn with the library's, and says why.

    Args:
        build: A function of the library that draws a scene.

    >>> from course_lib.viz import gpu_memory_scene
    >>> gpu_memory_scene("llama-3.1-8b", "rtx-4090", 4096, 16, 500).title
    'Memory of one GPU: Llama-3.1-8B on RTX 4090'
    """

    @functools.wraps(build)
    def draw(*arguments: _P.args, **named: _P.kwargs) -> Scene:
        own: Callable[_P, Scene] = parts.rewired(build)
        if own is build:
            return build(*arguments, **named)
        try:
            return own(*arguments, **named)
        except Exception as error:
            # What cannot be drawn at all is refused here, as it would be without any own parts.
            scene = build(*arguments, **named)
            return _with_note(scene, f"{type(error).__name__}: {error}")

    return draw


def _with_note(scene: Scene, problem: str) -> Scene:
    """Return the scene with a line below that says why it is not drawn with the learner's parts."""
    note = f"Drawn with the library's parts. With yours: {problem}"
    fitting = note
    while text_width(fitting, SMALL_SIZE) > scene.width - 4 * _MARGIN:
        fitting = f"{fitting[:-2]}…"
    line = Text(_MARGIN, scene.height + 14, fitting, SMALL_SIZE, tone="alert", is_bold=True)
    return replace(
        scene,
        height=scene.height + 28,
        shapes=(*scene.shapes, line),
        alt=f"{scene.alt} {note}",
    )

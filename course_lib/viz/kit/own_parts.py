"""Figures that show the learner's own parts at work."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import replace
from typing import ParamSpec, TypeVar

from course_lib import parts
from course_lib.viz.kit.layout import text_width
from course_lib.viz.kit.scene import Scene
from course_lib.viz.kit.shapes import SMALL_SIZE, Text

_MARGIN = 24

_P = ParamSpec("_P")
_T = TypeVar("_T")


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
        scene, problem = with_own_parts(build)(*arguments, **named)
        return with_note(scene, problem) if problem else scene

    return draw


def with_own_parts(work: Callable[_P, _T]) -> Callable[_P, tuple[_T, str]]:
    """Let a function do its work with the learner's own parts, as they are when it is called.

    Args:
        work: A function of the library.

    Returns:
        A function that returns what ``work`` does, and why it could not be done with the learner's
        parts but was done with the library's; empty if it was done with theirs, or there are none.

    >>> from course_lib.kv_cache import kv_bytes_per_block
    >>> from course_lib.specs import MODELS
    >>> with_own_parts(kv_bytes_per_block)(MODELS["llama-2-7b"], 16)
    (8388608, '')
    """

    @functools.wraps(work)
    def try_own(*arguments: _P.args, **named: _P.kwargs) -> tuple[_T, str]:
        own: Callable[_P, _T] = parts.rewired(work)
        if own is work:
            return work(*arguments, **named), ""
        try:
            return own(*arguments, **named), ""
        except Exception as error:
            # What cannot be done at all is refused here, as it would be without any own parts.
            return work(*arguments, **named), f"{type(error).__name__}: {error}"

    return try_own


def with_note(scene: Scene, problem: str) -> Scene:
    """Return the scene with a line below that says why it is not drawn with the learner's parts.

    Args:
        scene: The scene, drawn with the library's parts.
        problem: What was wrong with theirs.
    """
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

"""Interactive figures, each with a static twin.

A figure is a ``Scene``: plain data built by pure functions. ``Picture`` shows one,
``Explorer`` rebuilds it when a control moves, ``Player`` steps through many, ``EngineMap`` shows
which parts of the engine are the learner's own, and ``static`` draws any scene with matplotlib.
Importing the package loads none of them; each name is loaded when it is first used.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from course_lib.viz.address_translation import address_scene, token_address
    from course_lib.viz.engine_map import EngineMap
    from course_lib.viz.iteration import iteration_scenes
    from course_lib.viz.iteration_episodes import iteration_film, moments_film
    from course_lib.viz.kit.explorer import Choice, Explorer, PowerOfTwo, Slider
    from course_lib.viz.kit.notation import notation_scene
    from course_lib.viz.kit.player import Frame, Player
    from course_lib.viz.kit.scene import Scene
    from course_lib.viz.kit.view import Picture
    from course_lib.viz.memory import gpu_memory, gpu_memory_scene
    from course_lib.viz.quiz import Quiz
    from course_lib.viz.reservations import reservation_film, share_bars
    from course_lib.viz.slot_batch import batch_scene, token_batch

__all__ = [
    "Choice",
    "EngineMap",
    "Explorer",
    "Frame",
    "Picture",
    "Player",
    "PowerOfTwo",
    "Quiz",
    "Scene",
    "Slider",
    "address_scene",
    "batch_scene",
    "gpu_memory",
    "gpu_memory_scene",
    "iteration_film",
    "iteration_scenes",
    "moments_film",
    "notation_scene",
    "reservation_film",
    "share_bars",
    "token_address",
    "token_batch",
]

_MODULES = {
    "Choice": "kit.explorer",
    "EngineMap": "engine_map",
    "Explorer": "kit.explorer",
    "Frame": "kit.player",
    "Picture": "kit.view",
    "Player": "kit.player",
    "PowerOfTwo": "kit.explorer",
    "Quiz": "quiz",
    "Scene": "kit.scene",
    "Slider": "kit.explorer",
    "address_scene": "address_translation",
    "batch_scene": "slot_batch",
    "gpu_memory": "memory",
    "gpu_memory_scene": "memory",
    "iteration_film": "iteration_episodes",
    "iteration_scenes": "iteration",
    "moments_film": "iteration_episodes",
    "notation_scene": "kit.notation",
    "reservation_film": "reservations",
    "share_bars": "reservations",
    "token_address": "address_translation",
    "token_batch": "slot_batch",
}


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_MODULES[name]}"), name)

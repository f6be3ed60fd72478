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
    from course_lib.viz.address_translation import (
        address_scene,
        slot_scene,
        token_address,
        token_slot,
    )
    from course_lib.viz.batching.figure import batch_gantt
    from course_lib.viz.chunking.figure import mixed_batch
    from course_lib.viz.chunking.film import stall_film
    from course_lib.viz.close_up.figure import microscope
    from course_lib.viz.engine.live import follow_engine
    from course_lib.viz.engine.map import EngineMap
    from course_lib.viz.iteration.episodes import iteration_film, moments_film
    from course_lib.viz.iteration.scenes import iteration_scenes
    from course_lib.viz.kit.controls import (
        Choice,
        LogSlider,
        PowerOfTwo,
        Slider,
        Stops,
        Toggle,
    )
    from course_lib.viz.kit.explorer import Explorer
    from course_lib.viz.kit.layout import NARROW, WIDE
    from course_lib.viz.kit.live import Live
    from course_lib.viz.kit.notation import notation_scene
    from course_lib.viz.kit.player import Frame, Player
    from course_lib.viz.kit.scene import Scene
    from course_lib.viz.kit.view import Picture
    from course_lib.viz.memory import gpu_memory, gpu_memory_scene
    from course_lib.viz.paged_attention.analogy import paging_analogy
    from course_lib.viz.paged_attention.explorer import attention_explorer
    from course_lib.viz.paged_attention.film import attention_film
    from course_lib.viz.paged_attention.tile import decode_tile
    from course_lib.viz.paged_attention.tree import merge_tree
    from course_lib.viz.playground.figure import Playground
    from course_lib.viz.policies.figure import policy_race
    from course_lib.viz.pool.film import pool_film, pool_scene
    from course_lib.viz.pool.order_rules import order_rules, order_rules_scene
    from course_lib.viz.pressure import memory_pressure, pressure_scene
    from course_lib.viz.queues.figure import queueing_dial
    from course_lib.viz.quiz import Quiz
    from course_lib.viz.replays.film import replay
    from course_lib.viz.request_trace.film import request_film
    from course_lib.viz.reservations import reservation_film, share_bars
    from course_lib.viz.sharing.eviction import eviction_film
    from course_lib.viz.sharing.explorer import prefix_tree
    from course_lib.viz.sharing.fork import fork_film
    from course_lib.viz.slot_batch import batch_scene, token_batch
    from course_lib.viz.strips.by_hand import strip_film, strip_scene
    from course_lib.viz.strips.compaction import compaction_film, queue_compaction_film
    from course_lib.viz.strips.queue import allocation_strips

__all__ = [
    "NARROW",
    "WIDE",
    "Choice",
    "EngineMap",
    "Explorer",
    "Frame",
    "Live",
    "LogSlider",
    "Picture",
    "Player",
    "Playground",
    "PowerOfTwo",
    "Quiz",
    "Scene",
    "Slider",
    "Stops",
    "Toggle",
    "address_scene",
    "allocation_strips",
    "attention_explorer",
    "attention_film",
    "batch_gantt",
    "batch_scene",
    "compaction_film",
    "decode_tile",
    "eviction_film",
    "follow_engine",
    "fork_film",
    "gpu_memory",
    "gpu_memory_scene",
    "iteration_film",
    "iteration_scenes",
    "memory_pressure",
    "merge_tree",
    "microscope",
    "mixed_batch",
    "moments_film",
    "notation_scene",
    "order_rules",
    "order_rules_scene",
    "paging_analogy",
    "policy_race",
    "pool_film",
    "pool_scene",
    "prefix_tree",
    "pressure_scene",
    "queue_compaction_film",
    "queueing_dial",
    "replay",
    "request_film",
    "reservation_film",
    "share_bars",
    "slot_scene",
    "stall_film",
    "strip_film",
    "strip_scene",
    "token_address",
    "token_batch",
    "token_slot",
]

_MODULES = {
    "NARROW": "kit.layout",
    "WIDE": "kit.layout",
    "Choice": "kit.controls",
    "EngineMap": "engine.map",
    "Explorer": "kit.explorer",
    "Frame": "kit.player",
    "LogSlider": "kit.controls",
    "Live": "kit.live",
    "Picture": "kit.view",
    "Player": "kit.player",
    "Playground": "playground.figure",
    "PowerOfTwo": "kit.controls",
    "Quiz": "quiz",
    "Scene": "kit.scene",
    "Slider": "kit.controls",
    "Stops": "kit.controls",
    "Toggle": "kit.controls",
    "follow_engine": "engine.live",
    "fork_film": "sharing.fork",
    "address_scene": "address_translation",
    "allocation_strips": "strips.queue",
    "attention_explorer": "paged_attention.explorer",
    "attention_film": "paged_attention.film",
    "batch_gantt": "batching.figure",
    "batch_scene": "slot_batch",
    "compaction_film": "strips.compaction",
    "decode_tile": "paged_attention.tile",
    "eviction_film": "sharing.eviction",
    "gpu_memory": "memory",
    "gpu_memory_scene": "memory",
    "iteration_film": "iteration.episodes",
    "iteration_scenes": "iteration.scenes",
    "memory_pressure": "pressure",
    "merge_tree": "paged_attention.tree",
    "microscope": "close_up.figure",
    "mixed_batch": "chunking.figure",
    "moments_film": "iteration.episodes",
    "notation_scene": "kit.notation",
    "paging_analogy": "paged_attention.analogy",
    "order_rules": "pool.order_rules",
    "order_rules_scene": "pool.order_rules",
    "queue_compaction_film": "strips.compaction",
    "policy_race": "policies.figure",
    "pool_film": "pool.film",
    "pool_scene": "pool.film",
    "prefix_tree": "sharing.explorer",
    "pressure_scene": "pressure",
    "queueing_dial": "queues.figure",
    "replay": "replays.film",
    "request_film": "request_trace.film",
    "reservation_film": "reservations",
    "share_bars": "reservations",
    "slot_scene": "address_translation",
    "stall_film": "chunking.film",
    "strip_film": "strips.by_hand",
    "strip_scene": "strips.by_hand",
    "token_address": "address_translation",
    "token_batch": "slot_batch",
    "token_slot": "address_translation",
}


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_MODULES[name]}"), name)

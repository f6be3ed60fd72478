"""Figures show the learner's own parts, and say so where they cannot."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from course_lib import parts
from course_lib.kv_cache.reservation import Reservation, Snapshot
from course_lib.viz import gpu_memory, gpu_memory_scene, reservation_film
from course_lib.viz.kit.scene import Scene
from course_lib.viz.reservations import slots_scene

CASE = ("llama-3.1-8b", "rtx-4090", 4096, 16, 500)
SNAPSHOT = Snapshot(7, 1000, 2, (Reservation("a", reserved=400, written=100, final=250),))
DOUBLE = """
from course_lib.kv_cache.sizing import kv_bytes_per_token as theirs

def kv_bytes_per_token(model):
    return 2 * theirs(model)
"""
FEW = "def num_kv_blocks(*arguments, **named):\n    return 64\n"
NOTHING_LATER = """
from course_lib.kv_cache import SlotUse

def classify_slots(reservations, num_slots):
    used = sum(each.written for each in reservations)
    kept = sum(each.reserved for each in reservations)
    return SlotUse(used, 0, kept - used, num_slots - kept)
"""


def test_the_figure_of_a_gpu_shows_ones_own_arithmetic(workspace: Path) -> None:
    before = list(gpu_memory_scene(*CASE).texts())
    assert "13 of 16 sequences fit; the other 3 need 1.5 GiB" in before
    parts.save("kv_bytes_per_token", DOUBLE)
    texts = list(gpu_memory_scene(*CASE).texts())
    assert "6 of 16 sequences fit; the other 10 need 10.0 GiB" in texts
    assert any("KV cache per token 256 KiB" in text for text in texts)
    parts.save("num_kv_blocks", FEW)
    # 64 blocks of 16 tokens, 32 for each sequence of 500.
    assert any(text.startswith("2 of 16 sequences fit") for text in gpu_memory_scene(*CASE).texts())


def test_a_part_that_is_won_while_the_figure_is_open_is_used_from_then_on(workspace: Path) -> None:
    figure = gpu_memory()
    parts.save("kv_bytes_per_token", DOUBLE)
    figure.set(num_sequences=17)
    assert any("per token 256 KiB" in text for text in figure.scene.texts())


def test_the_film_of_reservations_shows_how_one_counts(workspace: Path) -> None:
    parts.save("classify_slots", NOTHING_LATER)
    [frame] = reservation_film([SNAPSHOT]).film
    assert frame.caption == (
        "Iteration 7: 100 slots hold tokens, 0 reserved for later, 300 internal, 600 external."
    )
    states = {rect.key: rect.state for rect in frame.scene.rects()}
    assert states["a-internal"] == "internal"
    assert "a-later" not in states


@pytest.mark.parametrize(
    ("source", "problem"),
    [
        ("return None", "TypeError: unsupported operand"),
        ("raise KeyError('layers')", "KeyError: 'layers'"),
        ("return -1", "ValueError: "),
        ("return 0", "ZeroDivisionError: "),
    ],
)
def test_what_cannot_be_drawn_is_drawn_with_the_librarys_and_says_why(
    workspace: Path, collisions: Callable[[Scene], list[str]], source: str, problem: str
) -> None:
    expected = gpu_memory_scene(*CASE)
    parts.save("kv_bytes_per_token", f"def kv_bytes_per_token(model):\n    {source}\n")
    scene = gpu_memory_scene(*CASE)
    assert scene.shapes[:-1] == expected.shapes
    note = list(scene.texts())[-1]
    assert note.startswith(f"Drawn with the library's parts. With yours: {problem}")
    assert note.rstrip("…") in scene.alt
    assert collisions(scene) == []
    assert gpu_memory().scene == scene


def test_slots_that_cannot_be_counted_are_counted_by_the_library(workspace: Path) -> None:
    parts.save("classify_slots", "def classify_slots(reservations, num_slots):\n    return 3\n")
    scene = slots_scene(SNAPSHOT)
    assert "With yours: AttributeError: 'int' object has no attribute" in scene.alt


def test_what_nobody_can_draw_is_refused_as_ever(workspace: Path) -> None:
    parts.save("kv_bytes_per_token", DOUBLE)
    with pytest.raises(ValueError, match=r"weights take 131\.4 GiB"):
        gpu_memory_scene("llama-3.1-70b", *CASE[1:])

"""Lesson 6's figure: memory under pressure."""

from __future__ import annotations

from collections.abc import Callable
from itertools import product

import pytest

from course_lib import parts
from course_lib.viz import memory_pressure, pressure_scene
from course_lib.viz.kit.layout import NARROW, WIDE
from course_lib.viz.kit.scene import Scene
from course_lib.viz.pressure import MODES, NUM_BLOCKS, POLICIES, WATERMARKS, costs, record

SETTINGS = list(product(POLICIES.values(), MODES.values(), WATERMARKS.values()))


@pytest.mark.parametrize("width", [WIDE, NARROW])
def test_every_setting_can_be_read(width: float, crowding: Callable[[Scene], list[str]]) -> None:
    for setting in SETTINGS:
        assert crowding(pressure_scene(*setting, width)) == [], setting


def test_the_static_twin_can_be_read(collisions: Callable[[Scene], list[str]]) -> None:
    assert collisions(pressure_scene("last_in", "swap", 0.0)) == []


@pytest.mark.parametrize("setting", SETTINGS, ids=str)
def test_memory_never_rises_above_the_line_and_everybody_ends(
    setting: tuple[str, str, float],
) -> None:
    moments = record(*setting)
    used = [sum(blocks for _, blocks, _ in moment.running) for moment in moments]
    assert max(used) <= NUM_BLOCKS
    assert not moments[-1].swapped
    assert not moments[-1].num_waiting
    assert all(not moment.swapped for moment in moments) or setting[1] == "swap"


def test_what_the_lesson_says_of_the_policies_can_be_seen() -> None:
    tokens = {
        victim: costs(record(victim, "recompute", 0.0), "recompute")[1]
        for victim in POLICIES.values()
    }
    assert tokens["least_computed"] < tokens["last_in"] < tokens["most_tokens"]
    times = [
        costs(record("last_in", "recompute", mark), "recompute")[0] for mark in WATERMARKS.values()
    ]
    assert times == sorted(times, reverse=True)
    assert times[0] > times[-1]


def test_who_computes_again_is_marked_once_for_each_preemption() -> None:
    moments = record("last_in", "recompute", 0.0)
    again = sum(is_again for moment in moments for _, _, is_again in moment.running)
    assert again == costs(moments, "recompute")[0]


def test_a_swap_shows_the_blocks_on_the_cpu_and_the_words_say_what_it_took() -> None:
    scene = pressure_scene("last_in", "swap", 0.0)
    assert any(rect.state == "swapped" for rect in scene.rects())
    times, tokens, milliseconds = costs(record("last_in", "swap", 0.0), "swap")
    assert scene.alt.startswith(f"{times} times somebody gives way; {tokens:,} tokens are copied")
    assert f"{milliseconds:.1f} ms" in scene.alt


def test_the_figure_runs_on_the_learners_scheduler(workspace: object) -> None:
    parts.save(
        "Scheduler.preempt",
        "def preempt(self, victim, output):\n    raise RuntimeError('not today')\n",
    )
    scene = pressure_scene("last_in", "recompute", 0.0)
    assert "With yours: RuntimeError: not today" in scene.alt


def test_all_settings_are_in_the_page() -> None:
    figure = memory_pressure()
    figure.set(victim="most_tokens", mode="swap")
    assert "copied out and in" in figure.scene.alt

"""The long film of ``course bench figures``: what it shows, how large it is, and its measure."""

from __future__ import annotations

from typing import Any

import pytest

from autograder.bench import films
from autograder.bench.films import measure_film, pool_film
from course_lib.viz import Player
from course_lib.viz.kit import player as player_module
from course_lib.viz.kit.shapes import flatten


def test_the_film_shows_a_pool_at_work() -> None:
    frames = list(pool_film(600))
    assert len(frames) == 600
    states = {rect.state for frame in frames for rect in frame.scene.rects()}
    assert states >= {"null", "in_use", "cached", "free"}
    assert any(frame.event.startswith("freed ") for frame in frames)
    for frame in frames[::50]:
        tiles = [rect for rect in frame.scene.rects() if rect.key.startswith("block-")]
        queue = [rect for rect in frame.scene.rects() if rect.key.startswith("queue-")]
        assert len(tiles) == 64
        assert len(queue) == sum(tile.state in ("free", "cached") for tile in tiles)


def test_what_did_not_change_is_the_same_object_in_the_next_frame() -> None:
    before, after = list(pool_film(300))[-2:]
    old = set(map(id, flatten(before.scene.shapes)))
    new = [shape for shape in flatten(after.scene.shapes) if id(shape) not in old]
    assert len(new) < 20


def test_ten_thousand_steps_would_be_two_megabytes_at_most() -> None:
    film = Player(list(pool_film(1000)))
    assert 10 * sum(map(len, film.chunks)) < 2e6


@pytest.mark.browser
def test_a_film_is_measured_when_all_of_it_is_made(
    browser: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(player_module, "_PATIENCE", 0)
    monkeypatch.setattr(films, "ROUNDS", 1)
    assert len(measure_film(browser, steps=250).next_ms) == 124


@pytest.mark.browser
def test_a_short_film_can_be_measured(browser: Any) -> None:
    report = measure_film(browser, steps=250)
    assert report.steps == 250
    assert 0 < report.megabytes < 0.1
    assert report.appear_ms > 0
    assert min(report.next_ms + report.jump_ms) > 0
    assert str(report).startswith("250 steps, 0.0")

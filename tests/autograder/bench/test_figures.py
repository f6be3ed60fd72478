"""course bench figures: what it draws, what it finds, and what it says where it cannot run."""

from __future__ import annotations

import io
import shutil
import sys
from typing import Any

import pytest
from rich.console import Console

from autograder.bench import figures
from autograder.bench.controls import ControlReport
from autograder.bench.figures import (
    FiguresReport,
    Pace,
    measure_figures,
    motions,
    run_figures_suite,
)
from autograder.bench.films import FilmReport
from autograder.errors import CourseError

CASES = [
    ("512 boxes glide", "course"),
    ("512 boxes with labels glide", "course"),
    ("512 boxes, elsewhere in each picture", "course"),
    ("512 boxes, elsewhere in each picture", "drawn anew"),
    ("8,192 cells, all change in each picture", "course"),
    ("8,192 cells, all change in each picture", "drawn anew"),
]


FILM = FilmReport(10_000, 0.9, 4.0, 800.0, (9.0, 11.0), (12.0, 20.0))
CONTROLS = ControlReport((30.0, 40.0), (50.0, 60.0))


@pytest.mark.browser
def test_every_case_is_watched_in_a_browser(browser: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(figures, "measure_film", lambda chromium: FILM)
    monkeypatch.setattr(figures, "measure_controls", lambda chromium: CONTROLS)
    steps: list[tuple[int, int]] = []
    report = measure_figures(browser, lambda *step: steps.append(step), rounds=1, seconds=0.3)
    assert [(pace.case, pace.implementation) for pace in report.paces] == CASES
    assert steps == [(done, len(CASES) + 2) for done in range(1, len(CASES) + 3)]
    assert all(pace.per_second > 0 and pace.longest_ms > 0 for pace in report.paces)
    assert (report.film, report.controls) == (FILM, CONTROLS)


def test_everything_moves_or_changes_from_one_scene_to_the_next() -> None:
    for motion in motions():
        first, second = (motion.scene(number).to_dict()["shapes"] for number in (0, 1))
        if first[0]["kind"] == "cells":
            (first, second), count = (grid[0]["cells"] for grid in (first, second)), figures.CELLS
        else:
            first, second = ([(b["x"], b["y"]) for b in boxes] for boxes in (first, second))
            count = figures.BOXES
        assert len(first) == count
        changed = sum(a != b for a, b in zip(first, second, strict=True))
        assert changed > 0.98 * count, motion.name


def test_only_the_course_has_an_aim_and_the_rest_stands_below() -> None:
    paces = (Pace("boxes", "course", 59.94, 17.2), Pace("boxes", "drawn anew", 12.0, 140.0))
    console = Console(width=200, record=True, file=io.StringIO())
    console.print(FiguresReport("a machine", paces, FILM, CONTROLS).table())
    printed = console.export_text()
    words = " ".join(printed.split())
    assert str(FILM) in words
    assert str(CONTROLS) in words
    lines = [line for line in printed.splitlines() if "boxes" in line]
    assert [line.replace("│", " ").split() for line in lines] == [
        ["boxes", "course", "59.9", "50", "17"],
        ["boxes", "drawn", "anew", "12.0", "140"],
    ]


def test_without_a_browser_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "which", lambda name: None)
    with pytest.raises(CourseError, match=r"none of chromium, .* is on PATH; `apt-get install"):
        run_figures_suite()


def test_without_playwright_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "playwright.sync_api", None)
    with pytest.raises(CourseError, match="Playwright, which is not installed; `pip install"):
        run_figures_suite()

"""course bench figures: what it draws, what it finds, and what it says where it cannot run."""

from __future__ import annotations

import io
import shutil
import sys
from contextlib import nullcontext
from dataclasses import asdict
from typing import Any

import pytest
from rich.console import Console

from autograder.bench import figures
from autograder.bench.controls import ControlReport
from autograder.bench.figures import (
    Bar,
    FiguresReport,
    Pace,
    bars,
    measure_figures,
    motions,
    run_figures_suite,
)
from autograder.bench.films import FilmReport
from autograder.bench.first_pictures import FirstPicture
from autograder.errors import CourseError

CASES = [
    ("512 boxes glide", "course"),
    ("512 boxes with labels glide", "course"),
    ("512 boxes, elsewhere in each picture", "course"),
    ("512 boxes, elsewhere in each picture", "drawn anew"),
    ("8,192 cells, all change in each picture", "course"),
    ("8,192 cells, all change in each picture", "drawn anew"),
]


FILM = FilmReport(10_000, 0.93, 4.0, 800.0, (9.0, 11.0), (12.0, 31.0))
FIRST = (FirstPicture("a film", 1730.0), FirstPicture("a map", 2001.0))
CONTROLS = ControlReport((30.0, 40.0), (50.0, 100.0))
PACES = (Pace("boxes", "course", 59.94, 17.2), Pace("boxes", "drawn anew", 12.0, 140.0))


@pytest.mark.browser
def test_every_case_is_watched_in_a_browser(browser: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(figures, "measure_film", lambda chromium: FILM)
    monkeypatch.setattr(figures, "running_lab", lambda chromium: nullcontext("a lab"))
    monkeypatch.setattr(figures, "measure_first_pictures", lambda lab: FIRST)
    monkeypatch.setattr(figures, "measure_controls", lambda lab: CONTROLS)
    steps: list[tuple[int, int]] = []
    report = measure_figures(browser, lambda *step: steps.append(step), rounds=1, seconds=0.3)
    assert [(pace.case, pace.implementation) for pace in report.paces] == CASES
    assert steps == [(done, len(CASES) + 3) for done in range(1, len(CASES) + 4)]
    assert all(pace.per_second > 0 and pace.longest_ms > 0 for pace in report.paces)
    assert (report.film, report.first_pictures, report.controls) == (FILM, FIRST, CONTROLS)
    assert report.bars == tuple(bars(report.paces, FILM, FIRST, CONTROLS))


def test_every_figure_stands_beside_its_bar() -> None:
    found = {
        bar.what: (bar.figure, bar.limit, bar.unit, bar.holds)
        for bar in bars(PACES, FILM, FIRST, CONTROLS)
    }
    assert found == {
        "boxes": (59.94, 50.0, "per second", True),
        "a film of 10,000 steps: its size": (0.93, 2.0, "MB", True),
        "appears in JupyterLab: a film": (1.73, 2.0, "s", True),
        "appears in JupyterLab: a map": (2.001, 2.0, "s", False),
        "a film of 10,000 steps: a step, 95 of 100": (11.0, 30.0, "ms", True),
        "a film of 10,000 steps: a jump, 95 of 100": (31.0, 30.0, "ms", False),
        "a control moved by keys, 95 of 100": (40.0, 100.0, "ms", True),
        "a control dragged, 95 of 100": (100.0, 100.0, "ms", True),
    }


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


def test_the_table_says_of_each_bar_whether_it_holds_and_the_rest_below() -> None:
    found = (Bar.at_least("boxes", 59.94, 50.0, "/s"), Bar.at_most("a map", 2.5, 2.0, "s"))
    report = FiguresReport("a machine", 2, (3.14, 6.0), PACES, FILM, FIRST, CONTROLS, found)
    console = Console(width=200, record=True, file=io.StringIO())
    console.print(report.table())
    printed = console.export_text()
    words = " ".join(printed.split())
    for note in (str(FILM), str(CONTROLS), "boxes, drawn anew: 12.0/s"):
        assert note in words
    assert "a machine; load of 2 cores 3.1 before the run, 6.0 at its end" in words
    lines = [line for line in printed.splitlines() if "│" in line]
    rows = [line.replace("│", " ").split() for line in lines]
    assert rows == [
        ["boxes", "59.9", "/s", "≥", "50", "/s", "yes"],
        ["a", "map", "2.5", "s", "≤", "2", "s", "NO"],
    ]
    assert asdict(report)["bars"][1]["holds"] is False


def test_without_a_browser_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "which", lambda name: None)
    with pytest.raises(CourseError, match=r"none of chromium, .* is on PATH; `apt-get install"):
        run_figures_suite()


def test_without_playwright_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "playwright.sync_api", None)
    with pytest.raises(CourseError, match="Playwright, which is not installed; `pip install"):
        run_figures_suite()

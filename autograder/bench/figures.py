"""How smoothly figures move and how soon they answer: the cases of ``course bench figures``.

A real chromium draws them, without a GPU, as on the slowest machine that a learner may have. The
baseline of what moves draws each picture anew instead of changing the one before. ``films.py``
measures a long film, ``first_pictures.py`` how soon figures are there in JupyterLab, and
``controls.py`` how soon one follows its controls there.
"""

from __future__ import annotations

import os
import platform
import random
import shutil
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.table import Table

from autograder.bench.controls import ControlReport, measure_controls
from autograder.bench.films import FilmReport, measure_film
from autograder.bench.first_pictures import FirstPicture, measure_first_pictures
from autograder.bench.lab_page import running_lab
from autograder.bench.suite import OnStep, short
from autograder.bench.times import percentile
from autograder.errors import CourseError
from autograder.terminal.machine import BROWSERS
from course_lib.viz.kit import bundle
from course_lib.viz.kit.scene import Scene
from course_lib.viz.kit.shapes import Cells, Rect

ROUNDS = 3
SECONDS = 3.0
"""How long a case is watched in each round."""

AIM = 50.0
"""Pictures per second below which a motion is seen to stutter."""

MOST_MEGABYTES = 2.0
"""Of a film of ten thousand steps."""

MOST_WAITED = 2.0
"""Seconds from running a cell to the first picture."""

STEP_MS = 30.0
"""Milliseconds from one picture of a film to another."""

ANSWER_MS = 100.0
"""Milliseconds in which a control should answer, so that picture and hand seem to be one."""

BOXES, CELLS = 512, 8192

_STATES = ("in_use", "cached", "shared", "free")
_SCENES = 4
_MS_BETWEEN_SCENES = 300
_PROBE = Path(__file__).with_suffix(".js")
_WINDOW = {"width": 1100, "height": 800}


@dataclass(frozen=True)
class Motion:
    """Something that moves.

    Attributes:
        name: What moves.
        scene: Draws one of several scenes, by its number.
        every: Milliseconds between two scenes, through which things glide; 0 for another scene in
            each picture.
    """

    name: str
    scene: Callable[[int], Scene]
    every: int


@dataclass(frozen=True)
class Pace:
    """How smoothly something moved, in the best of all rounds: others use the machine as well.

    Attributes:
        case: What moved.
        implementation: "course", or "drawn anew".
        per_second: Pictures that the browser drew in a second, at most as many as a screen shows.
        longest_ms: The longest wait between two pictures, in milliseconds.
    """

    case: str
    implementation: str
    per_second: float
    longest_ms: float


@dataclass(frozen=True)
class Bar:
    """What a figure must keep, and whether it does.

    Attributes:
        what: What was measured.
        figure: What came out.
        limit: What is asked for.
        unit: Of both.
        holds: Whether the figure is on the right side of the limit.
        is_most: Whether the limit is the most that may be; otherwise it is the least.
    """

    what: str
    figure: float
    limit: float
    unit: str
    holds: bool
    is_most: bool

    @classmethod
    def at_most(cls, what: str, figure: float, limit: float, unit: str) -> Bar:
        """Return a bar that a figure must not exceed.

        >>> Bar.at_most("a step", 31.0, 30.0, "ms").holds
        False
        """
        return cls(what, figure, limit, unit, figure <= limit, is_most=True)

    @classmethod
    def at_least(cls, what: str, figure: float, limit: float, unit: str) -> Bar:
        """Return a bar that a figure must reach.

        >>> Bar.at_least("boxes glide", 58.1, 50.0, "per second").holds
        True
        """
        return cls(what, figure, limit, unit, figure >= limit, is_most=False)


@dataclass(frozen=True)
class FiguresReport:
    """What a run found, and on what.

    Attributes:
        machine: The processor and the browser.
        cores: Cores of the machine.
        load: Programs that wanted a core, in the minute before the run and in its last one.
        paces: One per case and implementation.
        film: What a long film costs.
        first_pictures: How soon figures appear in a notebook.
        controls: How soon a figure follows its controls.
        bars: What is asked of all of these, and whether it holds.
    """

    machine: str
    cores: int
    load: tuple[float, float]
    paces: tuple[Pace, ...]
    film: FilmReport
    first_pictures: tuple[FirstPicture, ...]
    controls: ControlReport
    bars: tuple[Bar, ...]

    def table(self) -> Table:
        """Return a table with a line per bar, and below it what else was found."""
        others = [pace for pace in self.paces if pace.implementation != "course"]
        notes = (
            *(f"{pace.case}, {pace.implementation}: {pace.per_second:.1f}/s" for pace in others),
            f"The film: {self.film}",
            f"Controls: {self.controls}",
            f"{self.machine}; load of {self.cores} cores {self.load[0]:.1f} before the run, "
            f"{self.load[1]:.1f} at its end",
        )
        table = Table(title="course bench figures", caption="\n".join(notes))
        table.add_column("what")
        for column in ("figure", "bar"):
            table.add_column(column, justify="right", no_wrap=True)
        table.add_column("holds")
        for bar in self.bars:
            side = "≤" if bar.is_most else "≥"
            table.add_row(
                bar.what,
                f"{short(bar.figure)} {bar.unit}",
                f"{side} {short(bar.limit)} {bar.unit}",
                "yes" if bar.holds else "NO",
            )
        return table


def run_figures_suite(on_step: OnStep = lambda done, total: None) -> FiguresReport:
    """Measure figures in a browser that is started for it.

    Args:
        on_step: Called with the steps done and the steps in all.

    Raises:
        CourseError: There is no browser, nothing to drive it with, or no answer of JupyterLab.
    """
    with running_browser() as browser:
        return measure_figures(browser, on_step)


def measure_figures(
    browser: Any,
    on_step: OnStep = lambda done, total: None,
    rounds: int = ROUNDS,
    seconds: float = SECONDS,
) -> FiguresReport:
    """Measure how smoothly figures move, how soon they appear, and how soon controls answer.

    Args:
        browser: A chromium that Playwright drives.
        on_step: Called with the steps done and the steps in all.
        rounds: How often each motion is measured; the best counts.
        seconds: How long a motion is watched in each round.

    Raises:
        CourseError: JupyterLab or its kernel does not answer.
    """
    load = os.getloadavg()[0]
    # What glides is not drawn anew: a new picture has no place to glide from.
    contenders = [
        (motion, implementation)
        for motion in motions()
        for implementation in ("course", "drawn anew")
        if implementation == "course" or not motion.every
    ]
    found: dict[tuple[str, str], list[Pace]] = {}
    watched = rounds * len(contenders)
    for step in range(watched):
        motion, implementation = contenders[step % len(contenders)]
        pace = _watched(browser, motion, implementation, seconds)
        found.setdefault((pace.case, implementation), []).append(pace)
        on_step(step + 1, watched + 3)
    best = tuple(max(paces, key=lambda pace: pace.per_second) for paces in found.values())
    film = measure_film(browser)
    on_step(watched + 1, watched + 3)
    with running_lab(browser) as lab:
        first_pictures = measure_first_pictures(lab)
        on_step(watched + 2, watched + 3)
        controls = measure_controls(lab)
    on_step(watched + 3, watched + 3)
    return FiguresReport(
        f"{platform.processor() or platform.machine()}, Chromium {browser.version}",
        os.cpu_count() or 1,
        (load, os.getloadavg()[0]),
        best,
        film,
        first_pictures,
        controls,
        tuple(bars(best, film, first_pictures, controls)),
    )


def bars(
    paces: Iterable[Pace],
    film: FilmReport,
    first_pictures: Iterable[FirstPicture],
    controls: ControlReport,
) -> Iterator[Bar]:
    """Yield what is asked of what was found.

    Args:
        paces: How smoothly things move.
        film: What a long film costs.
        first_pictures: How soon figures appear in a notebook.
        controls: How soon a figure follows its controls.
    """
    for pace in paces:
        if pace.implementation == "course":
            yield Bar.at_least(pace.case, pace.per_second, AIM, "per second")
    name = f"a film of {film.steps:,} steps"
    yield Bar.at_most(f"{name}: its size", film.megabytes, MOST_MEGABYTES, "MB")
    for first in first_pictures:
        waited = first.milliseconds / 1000
        yield Bar.at_most(f"appears in JupyterLab: {first.figure}", waited, MOST_WAITED, "s")
    for what, times in (("a step", film.next_ms), ("a jump", film.jump_ms)):
        yield Bar.at_most(f"{name}: {what}, 95 of 100", percentile(times, 95), STEP_MS, "ms")
    for what, times in (("moved by keys", controls.step_ms), ("dragged", controls.drag_ms)):
        yield Bar.at_most(f"a control {what}, 95 of 100", percentile(times, 95), ANSWER_MS, "ms")


def motions() -> list[Motion]:
    """Return what is measured: boxes that travel, with and without labels, and a grid that changes.

    >>> [motion.name for motion in motions()][0]
    '512 boxes glide'
    """
    return [
        Motion(f"{BOXES:,} boxes glide", _boxes, _MS_BETWEEN_SCENES),
        Motion(f"{BOXES:,} boxes with labels glide", _labelled_boxes, _MS_BETWEEN_SCENES),
        Motion(f"{BOXES:,} boxes, elsewhere in each picture", _boxes, 0),
        Motion(f"{CELLS:,} cells, all change in each picture", _grid, 0),
    ]


@contextmanager
def running_browser() -> Iterator[Any]:
    """Run a chromium that Playwright drives.

    Raises:
        CourseError: One of the two is missing.
    """
    try:
        from playwright.sync_api import sync_playwright
    except ImportError:
        raise CourseError(
            "`course bench figures` drives a browser through Playwright, which is not installed; "
            "`pip install playwright`"
        ) from None
    path = next(filter(None, map(shutil.which, BROWSERS)), None)
    if path is None:
        raise CourseError(
            f"`course bench figures` needs a browser, but none of {', '.join(BROWSERS)} is on "
            "PATH; `apt-get install chromium`"
        )
    with sync_playwright() as playwright:
        # Chromium's own sandbox does not start for root, as in a container.
        options = ["--no-sandbox", "--disable-gpu"]
        browser = playwright.chromium.launch(executable_path=path, args=options)
        yield browser
        browser.close()


def _watched(browser: Any, motion: Motion, implementation: str, seconds: float) -> Pace:
    """Let something move in a page of its own."""
    page = browser.new_page(viewport=_WINDOW)
    page.add_style_tag(content=bundle.styles("stage.js"))
    measured = page.evaluate(
        _PROBE.read_text(encoding="utf-8"),
        {
            "script": bundle.script("stage.js"),
            "scenes": [motion.scene(number).to_dict() for number in range(_SCENES)],
            "every": motion.every,
            "seconds": seconds,
            "isDrawnAnew": implementation == "drawn anew",
        },
    )
    page.close()
    return Pace(motion.name, implementation, measured["perSecond"], measured["longest"])


def _boxes(number: int, label: Callable[[int], str] = lambda block: "") -> Scene:
    """Draw blocks in an order that depends on the number."""
    order = list(range(BOXES))
    random.Random(number).shuffle(order)
    boxes = tuple(
        Rect(
            16 + place % 32 * 29,
            16 + place // 32 * 33,
            25,
            28,
            _STATES[block % len(_STATES)],
            label(block),
            key=f"block-{block}",
            of=("block", block),
        )
        for block, place in enumerate(order)
    )
    return Scene(960, 560, boxes, "Blocks", f"{BOXES} blocks in order {number}")


def _labelled_boxes(number: int) -> Scene:
    return _boxes(number, str)


def _grid(number: int) -> Scene:
    """Draw a grid in which every cell has another state for each of the numbers."""
    states = tuple(_STATES[(block + number) % len(_STATES)] for block in range(CELLS))
    grid = Cells(0, 0, columns=128, size=7.5, states=states, kind="block", key="pool")
    return Scene(grid.width, grid.height, (grid,), "A pool", f"{CELLS} blocks at {number}")

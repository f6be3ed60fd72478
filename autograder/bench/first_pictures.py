"""How soon a figure is there after its cell was run, in a real JupyterLab with a new kernel.

``course bench figures`` measures it as a reader waits for it: from the key that runs the cell to
the picture on the screen. What Python imports, builds, draws as static twin and sends is part of
it, and so is what JupyterLab does with it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from autograder.bench.lab_page import Lab

ROUNDS = 2
"""How often each notebook is run; the best round counts, since others use the machine as well."""

FILM = "a film of 10,000 steps, first in its notebook"
MAP = "the map of the engine, first in its notebook"
MEMORY = "lesson 1's figure of a GPU's memory, after the map"

NOTEBOOKS: tuple[Mapping[str, str], ...] = (
    {
        FILM: "from autograder.bench.films import pool_film\n"
        "from course_lib import viz\n"
        "viz.Player(pool_film(10_000))"
    },
    {MAP: "from course_lib import viz\nviz.EngineMap(lesson=1)", MEMORY: "viz.gpu_memory()"},
)
"""The figures of each notebook by name, with the cells that show them."""

_PROBE = Path(__file__).with_suffix(".js").read_text(encoding="utf-8")


@dataclass(frozen=True)
class FirstPicture:
    """How long a figure took to appear, in the best round.

    Attributes:
        figure: Which one, and when it is shown.
        milliseconds: From the key that runs its cell to its picture.
    """

    figure: str
    milliseconds: float


def measure_first_pictures(lab: Lab, rounds: int = ROUNDS) -> tuple[FirstPicture, ...]:
    """Show figures in notebooks with new kernels.

    Args:
        lab: A running JupyterLab.
        rounds: How often each notebook is run.

    Raises:
        CourseError: A kernel does not answer.
    """
    found: dict[str, list[float]] = {}
    for turn in range(rounds):
        for number, cells in enumerate(NOTEBOOKS):
            with lab.opened(f"first-{turn}-{number}", list(cells.values())) as notebook:
                for place, figure in enumerate(cells):
                    notebook.page.evaluate(_PROBE, place)
                    notebook.run_cell(place)
                    waited = notebook.page.evaluate("() => window.firstPicture")
                    found.setdefault(figure, []).append(waited)
    return tuple(FirstPicture(figure, min(times)) for figure, times in found.items())

"""A sweep over one parameter: a bar that moves while it runs, and what came out."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from course_lib.simulation.headings import parameter_heading
from course_lib.simulation.setup import Setup, SetupError, parse_sweep
from course_lib.simulation.sweep import SweepPoint, run_sweep
from course_lib.simulation.workload import Workload
from course_lib.viz.kit.layout import SLIM, WIDE, bottom_of, wrapped
from course_lib.viz.kit.live import Live
from course_lib.viz.kit.player import Frame
from course_lib.viz.kit.scene import Scene
from course_lib.viz.kit.shapes import SMALL_SIZE, Rect, Shape, Text
from course_lib.viz.playground.report import Section, sweep_section
from course_lib.viz.simulation import sweep_scene

_MARGIN = 24
_BAR = 28


class SweepPicture(Live[tuple[int, tuple[SweepPoint, ...]]]):
    """What a sweep gives, with a bar for as long as it runs.

    Args:
        setup: What the set-ups have in common.
        parameter: Name of the parameter.
        values: Its values.
        trace: The trace that they share.

    Attributes:
        points: What each value gave; empty before ``run``.

    Raises:
        SetupError: There is no such parameter, no value, or a value is not possible.
    """

    def __init__(
        self, setup: Setup, parameter: str, values: Iterable[object], trace: Workload | None
    ) -> None:
        given = [_written(value) for value in values]
        self._setup, self._trace = setup, trace
        self.parameter, self._setups = parse_sweep(f"{parameter}={','.join(given)}", setup)
        self.points: tuple[SweepPoint, ...] = ()
        super().__init__(self._frame)
        self.label = f"Sweep: {parameter_heading(self.parameter).title}"

    def run(self, workers: int | None = None) -> SweepPicture:
        """Simulate all values on a dask cluster of this machine, which ends with the sweep.

        Args:
            workers: Processes to start; None for one per core, at most one per value.

        Raises:
            SetupError: A worker broke down.
        """
        with self:
            self.show((0, ()))
            self.points = tuple(
                run_sweep(
                    self._setups,
                    self._trace,
                    workers=workers,
                    on_done=lambda done, total: self.show((done, ())),
                )
            )
            self.show((len(self._setups), self.points))
        return self

    @property
    def section(self) -> Section:
        """The sweep as a part of a report.

        Raises:
            SetupError: It has not run.
        """
        if not self.points:
            raise SetupError(f"the sweep over {self.parameter} has not run; call its run() first")
        return sweep_section(self._setup, self.parameter, self.points)

    def _frame(self, state: tuple[int, Sequence[SweepPoint]]) -> Frame:
        done, points = state
        total = len(self._setups)
        failed = sum(bool(point.error) for point in points)
        words = f"{done} of {total} simulated."
        if failed:
            words = f"{total - failed} of {total} simulated; {failed} could not be."
        wide, narrow = (self._scene(done, points, width) for width in (WIDE, SLIM))
        return Frame(wide, words, narrow=narrow)

    def _scene(self, done: int, points: Sequence[SweepPoint], width: float) -> Scene:
        if any(point.figures for point in points):
            return _with_refusals(
                sweep_scene(self.parameter, points, width), self.parameter, points
            )
        return progress_scene(self.label, done, len(self._setups), points, width)


def progress_scene(
    title: str, done: int, total: int, points: Sequence[SweepPoint] = (), width: float = WIDE
) -> Scene:
    """Draw a bar: how many of the set-ups are simulated.

    Args:
        title: What the picture is called.
        done: Set-ups that are done.
        total: All set-ups.
        points: Set-ups of which none could be simulated, with the reasons.
        width: ``WIDE`` or ``SLIM``.

    >>> progress_scene("Sweep", 2, 5).alt
    '2 of 5 set-ups are simulated.'
    """
    inner = width - 2 * _MARGIN
    words = f"{done} of {total} set-ups are simulated."
    shapes: list[Shape] = [
        Text(_MARGIN, 32, title, is_bold=True),
        Rect(_MARGIN, 48, inner, _BAR, "free", key="all", tooltip=f"{total} set-ups"),
        Rect(_MARGIN, 48, inner * done / total, _BAR, "series-1", key="done", tooltip=words),
        Text(_MARGIN, 48 + _BAR + 26, words, SMALL_SIZE),
    ]
    shapes += _refusals(points, bottom_of(shapes) + 24, inner)
    said = " ".join([words, *(point.error for point in points if point.error)])
    return Scene(width, bottom_of(shapes) + 16, tuple(shapes), title=title, alt=said)


def _with_refusals(scene: Scene, parameter: str, points: Sequence[SweepPoint]) -> Scene:
    """Return a scene with the reasons why some set-ups could not be simulated."""
    lines = [
        f"{parameter}={getattr(point.setup, parameter)}: {point.error}"
        for point in points
        if point.error
    ]
    if not lines:
        return scene
    shapes = [*scene.shapes, *_lines(lines, scene.height + 12, scene.width - 2 * _MARGIN)]
    return Scene(
        scene.width,
        bottom_of(shapes) + 16,
        tuple(shapes),
        title=scene.title,
        alt=" ".join([scene.alt, *lines]),
    )


def _refusals(points: Sequence[SweepPoint], top: float, width: float) -> list[Shape]:
    return _lines([point.error for point in points if point.error], top, width)


def _lines(texts: Iterable[str], top: float, width: float) -> list[Shape]:
    """Return texts as lines of at most a width."""
    rows = [row for text in texts for row in wrapped(text, width, SMALL_SIZE)]
    return [
        Text(_MARGIN, top + 21 * place, row, SMALL_SIZE, tone="alert")
        for place, row in enumerate(rows)
    ]


def _written(value: object) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    return str(value)

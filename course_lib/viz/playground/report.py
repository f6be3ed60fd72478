"""A report as one HTML file: pictures that answer to the pointer, and every number in a table."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path

from course_lib.part_files import draft
from course_lib.simulation.headings import heading, parameter_heading
from course_lib.simulation.setup import Setup, command_of
from course_lib.simulation.sweep import SweepPoint
from course_lib.viz.kit.charts.words import number
from course_lib.viz.kit.layout import SLIM, WIDE
from course_lib.viz.kit.page import document_html
from course_lib.viz.kit.scene import Scene
from course_lib.viz.kit.view import Picture
from course_lib.viz.playground.dashboard import KEPT, NOW, dashboard_scene
from course_lib.viz.playground.runs import Run
from course_lib.viz.simulation import sweep_scene

_IN_A_SWEEP = (
    "ttft_mean",
    "ttft_p99",
    "tpot_mean",
    "longest_gap_p99",
    "e2e_mean",
    "goodput",
    "output_tokens_per_second",
    "num_preemptions",
    "kv_usage_mean",
)
"""Figures of each set-up of a sweep that a report has."""


@dataclass(frozen=True)
class Section:
    """A part of a report.

    Attributes:
        title: Its heading; empty for none.
        html: What stands below, its pictures left out.
        pictures: Its pictures.
    """

    title: str
    html: str
    pictures: tuple[Picture, ...] = ()


def dashboard_section(now: Run, kept: Run | None = None, window: float = 0.4) -> Section:
    """Return the dashboard of a set-up, or of two, the commands that repeat it, and all numbers.

    Args:
        now: The set-up.
        kept: One that it is compared with.
        window: Where the window begins, as a share of the run.
    """
    runs = {NOW: now} | ({} if kept is None else {KEPT: kept})
    commands = "".join(f"<pre>{escape(command_of(run.setup))}</pre>" for run in runs.values())
    columns = {name if kept else "value": run.figures for name, run in runs.items()}
    numbers = _table("figure", _figure_rows(now.figures), columns)
    return Section(
        "",
        f"<p>The same in a terminal:</p>{commands}<details><summary>Every number</summary>"
        f"{numbers}</details>",
        (_both_forms(lambda width: dashboard_scene(now, kept, window, width)),),
    )


def sweep_section(setup: Setup, parameter: str, points: Sequence[SweepPoint]) -> Section:
    """Return what a sweep gave.

    Args:
        setup: What its set-ups have in common.
        parameter: What was swept over.
        points: What each value gave.
    """
    swept = parameter_heading(parameter)
    values = ",".join(_setting(getattr(point.setup, parameter)) for point in points)
    option = parameter.replace("_", "-")
    command = f"{command_of(setup)} --sweep {option}={values}"
    columns = {_setting(getattr(p.setup, parameter)): p.figures for p in points if p.figures}
    failed = "".join(
        f"<p>{escape(_setting(getattr(p.setup, parameter)))}: {escape(p.error)}</p>"
        for p in points
        if p.error
    )
    return Section(
        f"Sweep: {swept.title}",
        f"<p>The same in a terminal:</p><pre>{escape(command)}</pre>{failed}"
        + _table(swept.labelled, [(heading(f).labelled, f) for f in _IN_A_SWEEP], columns),
        (_both_forms(lambda width: sweep_scene(parameter, points, width)),),
    )


def write_page(title: str, sections: Sequence[Section], path: str | Path | None = None) -> str:
    """Return sections as a page that needs neither kernel nor network, and write it.

    Args:
        title: Name of the page.
        sections: Its parts.
        path: Where to write it too; a file that is there is replaced, or stays whole.

    Raises:
        OSError: It cannot be written.
    """
    body: list[str | Picture] = [f"<h1>{escape(title)}</h1>"]
    for section in sections:
        body += [f"<h2>{escape(section.title)}</h2>"] if section.title else []
        body += [*section.pictures, section.html]
    page = document_html(title, body)
    if path is not None:
        file = Path(path)
        with draft(file, page.encode()) as whole:
            whole.replace(file)
    return page


def _figure_rows(figures: Mapping[str, float]) -> list[tuple[str, str]]:
    return [(f"{heading(f).title}, {heading(f).unit}".rstrip(", "), f) for f in figures]


def _table(
    corner: str, rows: Sequence[tuple[str, str]], columns: Mapping[str, Mapping[str, float]]
) -> str:
    """Return a table with a row for each figure."""
    head = "".join(f"<th>{escape(name)}</th>" for name in (corner, *columns))
    body = "".join(f"<tr>{''.join(_cells(title, f, columns))}</tr>" for title, f in rows)
    return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"


def _cells(title: str, figure: str, columns: Mapping[str, Mapping[str, float]]) -> Iterator[str]:
    yield f"<th scope='row'>{escape(title)}</th>"
    for figures in columns.values():
        value = heading(figure).factor * figures[figure]
        yield f"<td>{'–' if math.isnan(value) else number(value)}</td>"


def _setting(value: object) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    return f"{value:g}" if isinstance(value, float) else str(value)


def _both_forms(build: Callable[[float], Scene]) -> Picture:
    return Picture(build(WIDE), build(SLIM))

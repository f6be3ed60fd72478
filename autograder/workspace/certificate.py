"""A page of what a learner has built: the map, the parts, what they do, and what was earned."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import date
from html import escape

from autograder.workspace.measurements import Measurement
from autograder.workspace.progress import LessonProgress, Progress
from autograder.workspace.records import HIGHEST_CONFIDENCE
from course_lib.catalogue import FINAL_PROJECT
from course_lib.part_table import PartTable
from course_lib.viz.engine.map import engine_map_scene
from course_lib.viz.kit.layout import NARROW
from course_lib.viz.kit.page import document_html
from course_lib.viz.kit.view import Picture

_TITLE = "An engine that serves language models"

_HONEST = (
    "This page was made by <code>course progress --certificate</code> from the files in the "
    "learner's own workspace, on the learner's own machine, and was sent to nobody. Nobody has "
    "examined it: it says what is on record there, and proves nothing about who wrote it. "
    "<em>Yours</em> is a part that loads from the workspace; it was put there when it passed its "
    "checks, and its note says so if it was edited since. <em>Reference</em> is the course's own; "
    "<em>broken</em> is a part that does not load, so that the reference stands in."
)


def certificate(
    progress: Progress,
    table: PartTable,
    measured: Sequence[Measurement],
    name: str = "",
    with_journal: bool = False,
    today: date | None = None,
) -> str:
    """Return the page: one HTML file that needs no network.

    Args:
        progress: What is on record.
        table: Whose the parts of the engine are.
        measured: What the engine did.
        name: Whose page it is; empty for nobody's name.
        with_journal: Whether the journal stands on it.
        today: The day that it bears; None for today.
    """
    by = f"<p>Built by <strong>{escape(name)}</strong>.</p>" if name else ""
    own = [row for row in table if row.state == "yours"]
    broken = [row.name for row in table if row.state == "broken"]
    trouble = f" Broken: {escape(', '.join(broken))}." if broken else ""
    lead = (
        f"<h1>{_TITLE}</h1>{by}<p>{(today or date.today()).isoformat()}. The learner's own: "
        f"{len(own)} of {len(table)} parts of the engine. The others are the course's reference."
        f"{trouble}</p>"
    )
    scenes = [
        engine_map_scene(FINAL_PROJECT, table),
        engine_map_scene(FINAL_PROJECT, table, NARROW),
    ]
    return document_html(
        f"{_TITLE}{f': {name}' if name else ''}",
        [
            lead,
            Picture(*scenes),
            f"<h2>What it does</h2>{''.join(map(_measured, measured))}",
            f"<h2>What was earned</h2><p>{escape(progress.summary)}.</p>{_earned(progress)}",
            _journal(progress) if with_journal else "",
            f"<h2>The parts</h2>{table._repr_html_()}",
            f"<h2>What this page is</h2><p>{_HONEST}</p>",
        ],
    )


def _measured(measurement: Measurement) -> str:
    """Return one measurement, with the parts that it ran on."""
    own = ", ".join(measurement.own)
    whose = f"Parts of the learner's in it: {own}." if own else "All parts in it: the reference."
    rows = {name: value for name, value in measurement.values.items() if own or name != "yours"}
    body = _table(list(rows.items()))
    if measurement.problem:
        body = f"<p><strong>Not measured.</strong> {escape(measurement.problem)}</p>"
    return (
        f"<h3>{escape(measurement.title)}</h3>{body}<p>{escape(whose)} {escape(measurement.how)}."
        "</p>"
    )


def _earned(progress: Progress) -> str:
    head = ("", "checks", "points", "quiz")
    rows = [
        (
            row.name,
            f"{row.passed} of {row.exercises}",
            f"{row.points:g} of {row.maximum:g}",
            f"{row.quiz[0]} of {row.quiz[1]}" if row.quiz[1] else "",
        )
        for row in progress
    ]
    total = sum(row.points for row in progress), sum(row.maximum for row in progress)
    passed, there_are = progress.passed
    everything = ("all", f"{passed} of {there_are}", f"{total[0]:g} of {total[1]:g}", "")
    note = "<p>Answers in words are marked by a person and not counted here.</p>"
    return _table([*rows, everything], head) + note


def _journal(progress: Progress) -> str:
    """Return what stands in the journal; nothing if it is empty."""
    entries = [row for row in progress if row.journal]
    told = "".join(
        f"<h3>{escape(row.name)}</h3><p>{' '.join(map(escape, _entry(row)))}</p>" for row in entries
    )
    return f"<h2>Journal</h2>{told or '<p>Nothing is written in it.</p>'}"


def _entry(row: LessonProgress) -> Iterator[str]:
    said = row.journal
    if said.get("confidence"):
        yield f"Confidence {said['confidence']} of {HIGHEST_CONFIDENCE}."
    if said.get("hours"):
        yield f"Hours: {said['hours']}."
    for field, label in (("hard", "Hard"), ("goal", "Goal")):
        if said.get(field):
            yield f"{label}: {said[field]}."


def _table(rows: Sequence[Sequence[str]], head: Sequence[str] = ()) -> str:
    """Return rows as a table whose first column names them."""
    names = "".join(f"<th>{escape(name)}</th>" for name in head)
    body = "".join(
        f"<tr><th scope='row'>{escape(row[0])}</th>"
        f"{''.join(f'<td>{escape(cell)}</td>' for cell in row[1:])}</tr>"
        for row in rows
    )
    return (
        f"<table>{f'<thead><tr>{names}</tr></thead>' if head else ''}<tbody>{body}</tbody></table>"
    )

"""What ``course simulate`` does: simulate with a progress bar, print tables, write a report."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import Progress

from autograder.errors import CourseError
from autograder.terminal.simulation_tables import (
    comparison_table,
    summary_table,
    sweep_table,
    validation_table,
)
from course_lib.simulation import MeasuredRun
from course_lib.simulation.experiments import EXPERIMENTS, Comparison, Validation
from course_lib.simulation.report import (
    totals_line,
    write_comparison_report,
    write_report,
    write_sweep_report,
)
from course_lib.simulation.setup import (
    OnFinished,
    Setup,
    SetupError,
    load_trace,
    parse_sweep,
    run,
    with_settings,
)
from course_lib.simulation.sweep import run_sweep
from course_lib.viz.playground.runs import Run, differences


def make_setup(settings: Sequence[str], **values: Any) -> Setup:
    """Return the set-up that a command line asks for.

    Args:
        settings: Parameters, each written as ``name=value``.
        values: Parameters by name, where they have an option of their own.

    Raises:
        CourseError: There is no such parameter, or a value is not possible.
    """
    with _errors_of_a_setup():
        return with_settings(Setup(**values), settings)


def show_one(setup: Setup, console: Console, report: Path | None = None) -> None:
    """Simulate a set-up, print what came out, and write a report if a folder is given.

    Raises:
        CourseError: A parameter is out of range, a trace is missing, the simulation was given up,
            or the folder exists.
    """
    if report is not None:
        _require_new(report)
    with _errors_of_a_setup():
        trace = load_trace(setup)
        with _progress(console, "Simulating") as on_finished:
            result = run(setup, trace, on_finished)
    ran = Run.of(setup, trace, result)
    numbers = ran.figures
    console.print(summary_table(setup, ran.source, numbers))
    console.print(totals_line(setup, numbers), highlight=False)
    if isinstance(trace, MeasuredRun) and setup.requests is None and setup.rate is None:
        console.print(validation_table(Validation(trace, result)))
    if report is not None and _is_page(report):
        _write_page_of(report, console, ran)
    elif report is not None:
        # matplotlib takes a second to load.
        from course_lib.viz.kit import static
        from course_lib.viz.simulation import latency_scene, timeline_scene

        with console.status(f"Writing {report}"):
            drawings = {
                "latencies.png": static.figure(latency_scene(result)),
                "timeline.png": static.figure(timeline_scene(result)),
            }
            write_report(report, setup, ran.source, result, numbers, drawings)
        _say_written(console, report)


def show_two(
    setup: Setup, changes: Sequence[str], console: Console, report: Path | None = None
) -> None:
    """Simulate a set-up, and once more with some parameters changed; print both side by side.

    Args:
        setup: The set-up.
        changes: What the other one has changed, each written as ``name=value``.
        console: Where to print.
        report: A new folder, or an HTML file, to write to.

    Raises:
        CourseError: As in ``show_one``; or nothing is changed.
    """
    if report is not None:
        _require_new(report)
    with _errors_of_a_setup():
        other = with_settings(setup, changes)
        if other == setup:
            raise SetupError(
                f"--against {' '.join(changes)} changes nothing; give another value than the "
                "set-up has"
            )
        trace = load_trace(setup)
        runs: dict[str, Run] = {}
        for name, each in (("first", setup), ("against", other)):
            with _progress(console, f"Simulating, {name}") as on_finished:
                runs[name] = Run.of(each, trace, run(each, trace, on_finished))
    changed = differences(setup, other)
    comparison = Comparison(
        f"course simulate {setup.workload}",
        "; ".join(f"{what}: {old}, against {new}" for what, old, new in changed),
        {name: ran.result for name, ran in runs.items()},
        _COMPARED,
    )
    console.print(comparison_table(comparison))
    for name, ran in runs.items():
        console.print(f"{name}: {totals_line(ran.setup, ran.figures)}", highlight=False)
    if report is not None and _is_page(report):
        _write_page_of(report, console, runs["against"], runs["first"])
    elif report is not None:
        _write_comparison(comparison, console, report)


_COMPARED = ("ttft_mean", "ttft_p99", "tpot_mean", "longest_gap_p99", "e2e_mean")
"""Latencies of two set-ups that are printed side by side; the totals stand below."""


def show_sweep(
    setup: Setup,
    sweep: str,
    console: Console,
    report: Path | None = None,
    scheduler: str | None = None,
    workers: int | None = None,
) -> None:
    """Simulate a set-up for each value of a parameter, and print a table.

    Raises:
        CourseError: As in ``show_one``; or some of the set-ups could not be simulated, after the
            others were shown.
    """
    if report is not None:
        _require_new(report)
    with _errors_of_a_setup():
        name, setups = parse_sweep(sweep, setup)
        trace = load_trace(setup)
        with _progress(console, "Sweeping") as on_done:
            points = run_sweep(setups, trace, scheduler, workers, on_done)
    console.print(sweep_table(name, points))
    if report is not None and _is_page(report):
        from course_lib.viz.playground.report import sweep_section, write_page

        with _writing(console, report):
            write_page("A sweep", [sweep_section(setup, name, points)], report)
    elif report is not None:
        from course_lib.viz.kit import static
        from course_lib.viz.simulation import sweep_scene

        drawing = static.figure(sweep_scene(name, points))
        write_sweep_report(report, name, points, {"sweep.png": drawing})
        _say_written(console, report)
    failed = [f"{name}={getattr(p.setup, name)}: {p.error}" for p in points if p.error]
    if failed:
        raise CourseError("; ".join(failed))


def show_experiment(name: str, console: Console, report: Path | None = None) -> None:
    """Carry out an experiment of ``course_lib.simulation.experiments``, and print a table.

    Raises:
        CourseError: There is no such experiment, it needs a trace that is not there, or the folder
            of the report exists.
    """
    if name not in EXPERIMENTS:
        raise CourseError(
            f"there is no experiment {name!r}; choose one of: {', '.join(EXPERIMENTS)}"
        )
    if report is not None:
        _require_new(report)
        if _is_page(report):
            raise CourseError(
                f"--report {report}: an experiment is written to a folder; leave .html out"
            )
    try:
        with _progress(console, "Simulating") as on_run:
            comparison = EXPERIMENTS[name](on_run=on_run)
    except FileNotFoundError as error:
        raise CourseError(str(error)) from error
    console.print(comparison_table(comparison))
    if report is not None:
        _write_comparison(comparison, console, report)


def _write_comparison(comparison: Comparison, console: Console, report: Path) -> None:
    """Write a comparison to a folder."""
    from course_lib.viz.kit import static
    from course_lib.viz.simulation import comparison_scene

    drawings = {"comparison.png": static.figure(comparison_scene(comparison))}
    write_comparison_report(report, comparison, drawings)
    _say_written(console, report)


def _is_page(report: Path) -> bool:
    """Say whether a report is one HTML file rather than a folder."""
    return report.suffix.lower() in (".html", ".htm")


def _write_page_of(report: Path, console: Console, now: Run, kept: Run | None = None) -> None:
    """Write the dashboard of a set-up, or of two."""
    from course_lib.viz.playground.report import dashboard_section, write_page

    with _writing(console, report):
        write_page(f"Simulation of {now.setup.workload}", [dashboard_section(now, kept)], report)


@contextlib.contextmanager
def _writing(console: Console, report: Path) -> Iterator[None]:
    """Make room for a file, let it be written, and say so, or why it cannot be."""
    try:
        with console.status(f"Writing {report}"):
            report.parent.mkdir(parents=True, exist_ok=True)
            yield
        _say_written(console, report)
    except OSError as error:
        raise CourseError(
            f"cannot write {report}: {error.strerror}; choose another --report"
        ) from error


def _require_new(folder: Path) -> None:
    """Refuse a folder that exists, before anything is computed for it."""
    if folder.exists():
        raise CourseError(f"{folder} is there already; remove it, or choose another --report")


def _say_written(console: Console, report: Path) -> None:
    """Name the folder that was written."""
    console.print(f"wrote {report}", soft_wrap=True, highlight=False)


@contextlib.contextmanager
def _errors_of_a_setup() -> Iterator[None]:
    """Turn what is wrong with a set-up into the error that the command line prints."""
    try:
        yield
    except SetupError as error:
        raise CourseError(str(error)) from error


@contextlib.contextmanager
def _progress(console: Console, what: str) -> Iterator[OnFinished]:
    """Show a bar for as long as the body runs; yields what moves it."""
    with Progress(console=console, transient=True) as progress:
        task = progress.add_task(what, total=None)
        yield lambda done, total: progress.update(task, completed=done, total=total)

"""What ``course bench`` can measure, by name. A suite is imported when it is asked for."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, ClassVar, Protocol

from rich.table import Table

from autograder.bench.suite import OnStep
from autograder.errors import CourseError


class Presentable(Protocol):
    """What every suite returns: a record that can be shown as a table."""

    __dataclass_fields__: ClassVar[dict[str, Any]]

    def table(self) -> Table:
        """Return what to show."""


def measure(name: str, on_step: OnStep, **options: float | None) -> Presentable:
    """Run the suite of this name.

    Args:
        name: A key of ``SUITES``.
        on_step: Called with the steps done and the steps in all.
        **options: ``minutes`` and ``seed`` of the suite ``soak``; None for its own.

    Raises:
        CourseError: There is no such suite, it has no such option, or it cannot run here.
    """
    if name not in SUITES:
        raise CourseError(f"there is no suite {name!r}; choose one of: {', '.join(SUITES)}")
    given = {option: value for option, value in options.items() if value is not None}
    if given and name != SOAK:
        raise CourseError(
            f"the suite {name!r} has no option {', '.join(given)}; only {SOAK!r} has: leave it out"
        )
    return SUITES[name](on_step, **given)


def problems_of(report: Presentable) -> Sequence[str]:
    """Return what a suite has found wrong: most only measure, and find nothing."""
    return getattr(report, "problems", ())


def write_json(report: Presentable, path: Path) -> None:
    """Write the figures of a report to a file."""
    path.write_text(json.dumps(asdict(report), indent=2) + "\n", encoding="utf-8")


def run_core_suite(on_step: OnStep) -> Presentable:
    """Measure the scheduler's side of the engine."""
    from autograder.bench import core as bench_core

    return bench_core.run_core_suite(on_step)


def run_kernels_suite(on_step: OnStep) -> Presentable:
    """Time the attention kernels; torch is imported only now."""
    from autograder.bench import kernels as bench_kernels

    return bench_kernels.run_kernels_suite(on_step)


def run_simulator_suite(on_step: OnStep) -> Presentable:
    """Measure the simulator; its traces are read only now."""
    from autograder.bench import simulator as bench_simulator

    return bench_simulator.run_simulator_suite(on_step)


def run_engine_suite(on_step: OnStep) -> Presentable:
    """Measure the engine, on a GPU if there is one; torch is imported only now."""
    import torch

    if torch.cuda.is_available():
        from autograder.bench import gpu_engine as bench_gpu_engine

        return bench_gpu_engine.run_gpu_engine_suite(on_step)
    from autograder.bench import engine as bench_engine

    return bench_engine.run_engine_suite(on_step)


def run_uniform_suite(on_step: OnStep) -> Presentable:
    """Measure the engine on requests of equal lengths; torch is imported only now."""
    # Else its profiler tells of each start and stop amid the progress bar. It reads this at import.
    os.environ.setdefault("KINETO_LOG_LEVEL", "6")
    from autograder.bench import uniform as bench_uniform

    return bench_uniform.run_uniform_suite(on_step)


def run_figures_suite(on_step: OnStep) -> Presentable:
    """Measure how smoothly figures move, in a browser."""
    from autograder.bench import figures as bench_figures

    return bench_figures.run_figures_suite(on_step)


def run_grading_suite(on_step: OnStep) -> Presentable:
    """Measure how fast a class is graded, in boxes and by nbgrader."""
    from autograder.bench import grading as bench_grading

    return bench_grading.run_grading_suite(on_step)


def run_soak_suite(on_step: OnStep, **options: Any) -> Presentable:
    """Run random clients against engine and server; torch is imported only now."""
    from autograder.bench import soak as bench_soak

    return bench_soak.run_soak_suite(on_step, **options)


SOAK = "soak"

SUITES: dict[str, Callable[..., Presentable]] = {
    "core": run_core_suite,
    "kernels": run_kernels_suite,
    "simulator": run_simulator_suite,
    "engine": run_engine_suite,
    "uniform": run_uniform_suite,
    "figures": run_figures_suite,
    "grading": run_grading_suite,
    SOAK: run_soak_suite,
}
"""What can be measured, by name."""

"""How things are measured side by side, for every suite whose figures are operations per second.

Every figure is a number of operations per second of CPU time, the median over several rounds.
Within a round all implementations of a case run one after the other, so that a busy or throttled
machine slows all of them alike. What is compared is measured in the same run.
"""

from __future__ import annotations

import platform
import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from rich.table import Table

ROUNDS = 9

OnStep = Callable[[int, int], None]
"""Called with the steps done and the steps in all."""


@dataclass(frozen=True)
class Measurement:
    """The speed of one implementation in one case.

    Attributes:
        case: What was done.
        implementation: Who did it: "course" is the library as it runs.
        per_second: Operations per second of CPU time, the median of all rounds.
    """

    case: str
    implementation: str
    per_second: float


@dataclass(frozen=True)
class Report:
    """What a run of a suite found, and on what.

    Attributes:
        suite: Name of the suite.
        machine: The processor and the Python.
        measurements: One per case and implementation.
        notes: What was left out, and why.
    """

    suite: str
    machine: str
    measurements: tuple[Measurement, ...]
    notes: tuple[str, ...] = ()

    def table(self) -> Table:
        """Return a table with a row per case and a column per implementation."""
        columns = list(dict.fromkeys(m.implementation for m in self.measurements))
        rate = {(m.case, m.implementation): m.per_second for m in self.measurements}
        table = Table(
            title=f"course bench {self.suite}: operations per second of CPU time",
            caption="; ".join([self.machine, *self.notes]),
        )
        table.add_column("case", no_wrap=True)
        for column in columns:
            table.add_column(column, justify="right")
        for case in dict.fromkeys(m.case for m in self.measurements):
            speeds = [rate.get((case, column)) for column in columns]
            table.add_row(case, *("" if speed is None else short(speed) for speed in speeds))
        return table


def short(number: float) -> str:
    """Write a number with three digits, so that six columns fit on a terminal.

    >>> short(1_227_300), short(624_374), short(2_826), short(93.1)
    ('1.23 M', '624 k', '2.83 k', '93.1')
    """
    for unit, name in ((1e6, " M"), (1e3, " k")):
        if number >= unit:
            return f"{number / unit:.3g}{name}"
    return f"{number:.3g}"


class Contender(Protocol):
    """One implementation of a case, ready to run."""

    def __call__(self) -> float:
        """Run a round; return operations per second of CPU time."""


@dataclass(frozen=True)
class Case:
    """Something to measure, and all who do it."""

    name: str
    contenders: dict[str, Contender]


@dataclass(frozen=True)
class Suite:
    """Cases to measure together.

    Attributes:
        cases: What to measure.
        notes: What was left out, and why.
    """

    cases: Sequence[Case]
    notes: tuple[str, ...] = ()


def run_suite(name: str, suite: Suite, on_step: OnStep, rounds: int = ROUNDS) -> Report:
    """Measure the cases of a suite.

    Args:
        name: What the report calls it.
        suite: What to measure.
        on_step: Called with the steps done and the steps in all.
        rounds: How often each case is measured; the median counts.
    """
    speeds: dict[tuple[str, str], list[float]] = {}
    total = rounds * len(suite.cases)
    for step in range(total):
        case = suite.cases[step % len(suite.cases)]
        for implementation, contender in case.contenders.items():
            speeds.setdefault((case.name, implementation), []).append(contender())
        on_step(step + 1, total)
    return Report(
        suite=name,
        machine=f"{platform.processor() or platform.machine()}, Python {platform.python_version()}",
        measurements=tuple(
            Measurement(case, implementation, statistics.median(measured))
            for (case, implementation), measured in speeds.items()
        ),
        notes=suite.notes,
    )

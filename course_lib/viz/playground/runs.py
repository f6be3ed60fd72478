"""Set-ups that were simulated, each once, and what tells two of them apart."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from course_lib.scheduling.policies import POLICIES
from course_lib.simulation.csv_workload import is_csv, tells
from course_lib.simulation.headings import parameter_heading
from course_lib.simulation.result import SimulationResult
from course_lib.simulation.setup import (
    PARAMETERS,
    Setup,
    SetupError,
    figures,
    hardware,
    load_trace,
    run,
)
from course_lib.simulation.simulation_parts import SimulationParts
from course_lib.simulation.workload import Workload
from course_lib.viz.kit.charts.words import number

_MOST_KEPT = 32

_LOOKS_AT = {
    "priority": "priority",
    "ageing": "priority",
    "vtc": "client_id",
    "wfq": "client_id",
    "edf": "deadline",
}
"""What a policy looks at that many workloads do not tell."""


@dataclass(frozen=True, eq=False)
class Run:
    """One set-up, and what came out.

    Attributes:
        setup: The set-up.
        source: Where its requests come from.
        result: What was measured.
        figures: The numbers of the summary, and ``"goodput"``.
        own: The names of the learner's parts that it ran on.
        hardware: The names of the model and of the GPU.
    """

    setup: Setup
    source: str
    result: SimulationResult
    figures: dict[str, float]
    own: tuple[str, ...]
    hardware: tuple[str, str]

    @classmethod
    def of(cls, setup: Setup, trace: Workload | None, result: SimulationResult) -> Run:
        """Return a set-up with what was measured.

        Args:
            setup: The set-up.
            trace: What ``load_trace`` returned for it.
            result: What ``run`` returned for them.
        """
        model, gpu = hardware(setup, trace)
        return cls(
            setup,
            trace.source if trace is not None else "Synthetic, lognormal lengths",
            result,
            figures(setup, result),
            SimulationParts.load().own_names if setup.parts == "own" else (),
            (model.name, gpu.name),
        )

    @property
    def words(self) -> str:
        """What is not a latency, in a sentence."""
        told = self.figures
        refused = f" {number(told['num_ignored'])} were refused: too long for the pool."
        again = f" {number(told['num_recomputed_tokens'])} tokens computed again."
        hits = f" {told['prefix_hit_rate']:.0%} of the prompt tokens found in the cache."
        return (
            f"{number(told['num_finished'])} of {number(told['num_requests'])} requests served in "
            f"{number(told['makespan'])} s; KV cache {told['kv_usage_mean']:.0%} in use on "
            f"average, {told['kv_usage_max']:.0%} at most; {number(told['num_preemptions'])} "
            f"preemptions.{again if told['num_recomputed_tokens'] else ''}"
            f"{hits if self.setup.caching else ''}{refused if told['num_ignored'] else ''}"
        )

    @property
    def parts_in_words(self) -> str:
        """Whose parts it ran on."""
        if self.setup.parts == "reference":
            return "All parts are the reference."
        if not self.own:
            return "None of the parts of a simulation is yours so far: all are the reference."
        return f"Yours: {', '.join(self.own)}. The others are the reference."


class Bench:
    """Simulates set-ups; one that was simulated before is not simulated again.

    One on the learner's own parts is, as soon as another was in between: a part may have been
    changed meanwhile.

    >>> bench = Bench()
    >>> bench.run(Setup(requests=5)) is bench.run(Setup(requests=5))
    True
    """

    def __init__(self) -> None:
        self._runs: OrderedDict[tuple[Setup, int], Run] = OrderedDict()
        self._traces: dict[tuple[str, int], Workload | None] = {}

    def run(self, setup: Setup) -> Run:
        """Return what a set-up gives.

        Raises:
            SetupError: It cannot be simulated, or nobody is served; the message names the value,
                the rule and the remedy.
        """
        key = setup, _stamp(setup)
        if key in self._runs:
            self._runs.move_to_end(key)
            return self._runs[key]
        made = self._simulate(setup)
        for before in [each for each in self._runs if each[0].parts == "own"]:
            del self._runs[before]
        self._runs[key] = made
        if len(self._runs) > _MOST_KEPT:
            self._runs.popitem(last=False)
        return made

    def trace(self, setup: Setup) -> Workload | None:
        """Return the trace of a set-up, as ``load_trace`` does, read once.

        Raises:
            SetupError: It is missing or malformed.
        """
        key = setup.workload, _stamp(setup)
        if key not in self._traces:
            self._traces[key] = load_trace(setup)
        return self._traces[key]

    def _simulate(self, setup: Setup) -> Run:
        trace = self.trace(setup)
        _require_labels(setup, trace)
        result = run(setup, trace)
        if not np.isfinite(result.ttft).any():
            raise SetupError(
                f"none of the {len(result.requests)} requests is served: each is longer than the "
                "pool can hold; give it more blocks, or shorter requests"
            )
        return Run.of(setup, trace, result)


def _stamp(setup: Setup) -> int:
    """Return what changes when the file of a workload does; 0 without one."""
    if not is_csv(setup.workload):
        return 0
    try:
        return Path(setup.workload).stat().st_mtime_ns
    except OSError:
        return 0


def _require_labels(setup: Setup, trace: Workload | None) -> None:
    """Refuse a policy that looks at what the workload does not tell: it would be another one."""
    needed = _LOOKS_AT.get(setup.policy)
    if needed is None or (setup.workload == "closed" and needed == "client_id"):
        return
    if trace is None or not tells(trace, needed):
        others = ", ".join(name for name in POLICIES if name not in _LOOKS_AT)
        clients = ", or workload closed, which has clients" if needed == "client_id" else ""
        raise SetupError(
            f"policy {setup.policy} looks at the {needed} of a request, and no two requests of "
            f"{setup.workload} differ in it; choose one of {others}, or a CSV file with a column "
            f"{needed}{clients}"
        )


def differences(first: Setup, second: Setup) -> list[tuple[str, str, str]]:
    """Return what tells two set-ups apart: the parameter, and its value in each.

    >>> differences(Setup(), Setup(policy="sjf", blocks=500))
    [('KV cache', 'as it fits', '500 blocks'), ('Policy', 'fcfs', 'sjf')]
    """
    return list(_differences(first, second))


def _differences(first: Setup, second: Setup) -> Iterator[tuple[str, str, str]]:
    for name in ("workload", *PARAMETERS):
        values = getattr(first, name), getattr(second, name)
        if values[0] != values[1]:
            before, after = (_said(name, value) for value in values)
            yield parameter_heading(name).label, before, after


def _said(name: str, value: object) -> str:
    if value is None:
        return "as it fits" if name == "blocks" else "not set"
    if isinstance(value, bool):
        return "on" if value else "off"
    if isinstance(value, int | float):
        unit = parameter_heading(name).unit
        return f"{number(value)} {unit}".rstrip()
    return str(value)

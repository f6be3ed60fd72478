"""The playground: every choice of a serving set-up, and what comes of it, at once."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from course_lib.kv_cache.sizing import num_kv_blocks
from course_lib.scheduling.policies import POLICIES
from course_lib.scheduling.preemption import VICTIM_POLICIES
from course_lib.simulation.csv_workload import CSV_SUFFIX, is_csv
from course_lib.simulation.setup import TRACES, Setup, SetupError, command_of
from course_lib.specs import GPUS, MODELS
from course_lib.viz.kit.controls import (
    AnyControl,
    Choice,
    LogSlider,
    PowerOfTwo,
    Slider,
    Stops,
    Toggle,
    Value,
    accepted,
)
from course_lib.viz.kit.explorer import Explorer
from course_lib.viz.kit.layout import SLIM, WIDE
from course_lib.viz.kit.scene import Scene
from course_lib.viz.playground.dashboard import TITLE, dashboard_scene
from course_lib.viz.playground.report import dashboard_section, write_page
from course_lib.viz.playground.runs import Bench, Run
from course_lib.viz.playground.sweeping import SweepPicture

_WORKLOADS = {
    "Azure, conversation": "azure-conversation",
    "Azure, code": "azure-code",
    "Mooncake, shared prefixes": "mooncake",
    "Poisson arrivals": "poisson",
    "bursts (gamma)": "gamma",
    "on and off": "on-off",
    "clients that wait": "closed",
}

_NOT_OF_A_SETUP = ("window", "keep", "own_clock", "pool")
"""Controls that say something else than a parameter."""


class Playground(Explorer):
    """A dashboard of one serving set-up, with a control for each choice.

    It simulates whatever the controls say, on a virtual clock. Ticking "Keep to compare" keeps the
    set-up that is shown; what is chosen from then on is drawn beside it on the same axes. A setting
    that cannot be is refused in words, and the last picture stays.

    Args:
        folder: Where one's own CSV files are; each of them is among the workloads.
        start: Where controls stand at first, by name.

    Raises:
        ValueError: There is no such control, it cannot take the value, or what the controls say at
            first cannot be simulated.

    >>> playground = Playground(start={"requests": 50})
    >>> playground.set(policy="sjf")
    >>> playground.setup.policy, playground.now.figures["num_finished"]
    ('sjf', 50)
    """

    def __init__(self, folder: str | Path = ".", start: Mapping[str, Value] | None = None) -> None:
        self.bench = Bench()
        self.now: Run | None = None
        self.kept: Run | None = None
        controls = _controls(_csv_files(Path(folder)))
        moved: dict[str, Any] = accepted(controls, start or {})
        controls |= {name: replace(controls[name], value=to) for name, to in moved.items()}
        super().__init__(self._draw, controls, narrow=SLIM)
        self.label = TITLE
        self.keeps = True

    @property
    def setup(self) -> Setup:
        """The set-up that the picture shows."""
        return self._shown.setup

    @property
    def command(self) -> str:
        """What simulates the same in a terminal; of two set-ups, the newer one."""
        return command_of(self.setup)

    def sweep(self, parameter: str, values: Iterable[object]) -> SweepPicture:
        """Simulate the set-up that is shown for each value of a parameter, all at the same time.

        Args:
            parameter: Name of a parameter of a set-up, such as ``"rate"``.
            values: Its values.

        Returns:
            A picture with a bar that moves while it runs, and with what came out at the end.

        Raises:
            SetupError: There is no such parameter, or no value.
        """
        return SweepPicture(self.setup, parameter, values, self.bench.trace(self.setup))

    def to_html(self, path: str | Path | None = None, precompute: Any = None) -> str:
        """Return the report: a page of what is shown, which needs neither kernel nor network.

        Args:
            path: Where to write the page too.
            precompute: Not used: a page cannot simulate, so it has no controls.
        """
        section = dashboard_section(self._shown, self.kept, self.values["window"] / 100)
        return write_page(TITLE, [section], path)

    def save(self, path: str | Path, *sweeps: SweepPicture) -> Path:
        """Write what is shown, and sweeps if any are given, as a report: one HTML file.

        Args:
            path: The file; it is replaced if it is there.
            sweeps: What ``sweep`` returned.

        Returns:
            The file.

        Raises:
            OSError: It cannot be written. Then the file is as it was.
        """
        section = dashboard_section(self._shown, self.kept, self.values["window"] / 100)
        write_page(TITLE, [section, *(sweep.section for sweep in sweeps)], path)
        return Path(path)

    @property
    def _shown(self) -> Run:
        if self.now is None:  # the class has drawn once when it is made
            raise SetupError("nothing has been simulated yet; move a control")
        return self.now

    def _draw(self, *, window: int, keep: bool, width: float = WIDE, **values: Value) -> Scene:
        """Draw what the controls say."""
        now = self.bench.run(setup_of(values))
        if not keep:
            self.kept = None
        elif self.kept is None:
            # What is shown at the moment of ticking; at the very beginning, what comes out now.
            self.kept = self.now or now
        self.now = now
        return dashboard_scene(now, self.kept, window / 100, width)


def setup_of(values: Mapping[str, Value]) -> Setup:
    """Return the set-up that controls describe.

    Args:
        values: What they say, by name. ``pool`` is the percentage of the blocks that fit;
            ``own_clock`` keeps the arrivals of a trace as they are; what is made up has no others.

    Raises:
        SetupError: The model does not fit, or a value is out of range.
    """
    chosen: dict[str, Any] = {n: v for n, v in values.items() if n not in _NOT_OF_A_SETUP}
    pool = values["pool"]
    assert isinstance(pool, int)
    model, gpu = MODELS[chosen["model"]], GPUS[chosen["gpu"]]
    try:
        fitting = num_kv_blocks(model, gpu)
    except ValueError as error:
        raise SetupError(f"{model.name} on one {gpu.name}: {error}") from error
    blocks = max(2, fitting * pool // 100)
    if values["own_clock"] and (chosen["workload"] in TRACES or is_csv(chosen["workload"])):
        chosen["rate"] = None
    # To swap, there must be room on the CPU: as much as on the GPU.
    swap = blocks if chosen["preemption_mode"] == "swap" else 0
    return Setup(blocks=blocks, num_cpu_blocks=swap, **chosen)


def _csv_files(folder: Path) -> dict[str, str]:
    """Return the CSV files of a folder: what they are called, and where they are."""
    files = sorted(each for each in folder.iterdir() if each.suffix.lower() == CSV_SUFFIX)
    return {f"your file {each.name}": str(each) for each in files}


def _controls(own_files: Mapping[str, str]) -> dict[str, AnyControl]:
    """Return the controls by name; those that are parameters have the parameter's name."""
    workloads = {**_WORKLOADS, **own_files}
    models = {spec.name: key for key, spec in MODELS.items()}
    gpus = {spec.name: key for key, spec in GPUS.items()}
    victims = {"as the policy has it": None, **{_words(name): name for name in VICTIM_POLICIES}}
    return {
        "workload": Choice("Workload", workloads, "azure-conversation"),
        "requests": Stops("Requests", (50, 100, 200, 300, 500, 1000), 200),
        "rate": LogSlider("Arrival rate", 0.5, 50, 8, unit="requests/s"),
        "own_clock": Toggle("Rate as recorded", value=False),
        "model": Choice("Model", models, "llama-3.1-8b"),
        "gpu": Choice("GPU", gpus, "a100-80gb"),
        "pool": Stops("KV pool", (1, 2, 5, 10, 20, 30, 50, 75, 100), 10, unit="% of fit"),
        "max_num_batched_tokens": PowerOfTwo("Token budget", 64, 16_384, 2048, unit="tokens"),
        "max_num_seqs": PowerOfTwo("Most in a batch", 1, 512, 128, unit="requests"),
        "policy": Choice("Policy", {name: name for name in POLICIES}, "fcfs"),
        "victim_policy": Choice("Victim", victims, None),
        "preemption_mode": Choice(
            "Preemption", {"compute again": "recompute", "swap to the CPU": "swap"}, "recompute"
        ),
        "caching": Toggle("Prefix caching", value=False),
        "parts": Choice("Parts", {"the reference": "reference", "your own": "own"}, "reference"),
        "window": Slider("Window from", 0, 90, 40, step=5, unit="% of run"),
        "keep": Toggle("Keep to compare", value=False),
    }


def _words(name: str) -> str:
    return name.replace("_", " ")

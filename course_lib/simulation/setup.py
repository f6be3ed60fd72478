"""One serving set-up to simulate, described by plain values.

A ``Setup`` can be read from a command line and sent to another machine. ``run`` simulates it.
"""

from __future__ import annotations

import functools
import math
import shlex
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike

from course_lib.kv_cache.sizing import num_kv_blocks
from course_lib.scheduling import SchedulerConfig
from course_lib.scheduling.assembly import PartError
from course_lib.simulation.cost_model import RooflineCostModel
from course_lib.simulation.csv_workload import is_csv, load_csv
from course_lib.simulation.measured import ConfiguredRun, load_vllm_requests
from course_lib.simulation.metrics import ServiceLevel
from course_lib.simulation.result import SimulationResult
from course_lib.simulation.simulation_parts import SimulationParts
from course_lib.simulation.simulator import SimulationError, simulate
from course_lib.simulation.workload import (
    ClosedLoop,
    Workload,
    gamma_arrivals,
    load_azure,
    load_mooncake,
    lognormal_lengths,
    on_off_arrivals,
    poisson_arrivals,
)
from course_lib.specs import GPUS, MODELS, GPUSpec, ModelSpec

TRACES: dict[str, Callable[[], Workload]] = {
    "azure-conversation": functools.partial(load_azure, "conversation"),
    "azure-code": functools.partial(load_azure, "code"),
    "mooncake": load_mooncake,
    "vllm-run": load_vllm_requests,
}
"""Workloads that are read from files, by name."""

WORKLOADS = ("poisson", "gamma", "on-off", "closed", *TRACES)
"""Everything that can be simulated, by name."""

_MEAN_OVER_MEDIAN = 1.5
"""Of made-up lengths: between Azure's prompts (1.13) and outputs (1.64)."""

_MODEL, _GPU = MODELS["llama-3.1-8b"], GPUS["a100-80gb"]

_ON_SHARE = 0.25
"""Of the time, an on-off source is on."""

OnFinished = Callable[[int, int], None]
"""Called with what is done and with what there is to do."""


class SetupError(ValueError):
    """A set-up that cannot be simulated; the message names the value, the rule and the remedy."""


@dataclass(frozen=True)
class Setup:
    """Everything that a simulation depends on. None stands for what follows from the others.

    Attributes:
        workload: One of ``WORKLOADS``, or the path of a CSV file, see ``load_csv``.
        requests: Number of requests; None for 1,000, or the whole of a trace.
        rate: Requests per second; None for 4, or as in the trace.
        model: Key of ``MODELS``; None for llama-3.1-8b, or what the measured run served.
        gpu: Key of ``GPUS``; None for a100-80gb, or what the measured run used.
        blocks: Blocks of the KV cache; None for what the GPU can hold, or what the run had.
        policy: Order of service.
        victim_policy: Who gives way when memory runs out: a name in ``VICTIM_POLICIES``; None for
            what goes with ``policy``.
        caching: Whether prefixes are kept; None for no, or as in the run.
        block_size: Tokens per block.
        max_num_seqs: Most requests in a batch; None for 128, or that of the run.
        max_num_batched_tokens: Token budget; None for 2048, or that of the run.
        long_prefill_token_threshold: Most tokens of one prompt in one iteration; 0 for no limit.
        watermark: Share of the blocks that stays free at admission.
        preemption_mode: What becomes of a request that loses its blocks: recompute or swap.
        num_cpu_blocks: Blocks to swap to.
        prompt_tokens: Mean length of made-up prompts.
        output_tokens: Mean length of made-up outputs.
        cv: Coefficient of variation of the gaps between arrivals, for "gamma".
        burst_seconds: Mean length of a burst, for "on-off".
        clients: Number of clients, for "closed".
        think_seconds: Mean time that a client thinks, for "closed".
        seed: Seed of everything that is made up.
        parts: Whose parts it runs on: the "reference" ones of the library, or one's "own", the
            library's standing in for those that are not there.
        slo_ttft: Longest time to first token that counts as good, in seconds.
        slo_tpot: Longest time per output token that counts as good, in seconds.
        max_seconds: Where the virtual clock stops: a guard against overload.
    """

    workload: str = "poisson"
    requests: int | None = None
    rate: float | None = None
    model: str | None = None
    gpu: str | None = None
    blocks: int | None = None
    policy: str = "fcfs"
    victim_policy: str | None = None
    caching: bool | None = None
    block_size: int = 16
    max_num_seqs: int | None = None
    max_num_batched_tokens: int | None = None
    long_prefill_token_threshold: int = 0
    watermark: float = 0.0
    preemption_mode: Literal["recompute", "swap"] = "recompute"
    num_cpu_blocks: int = 0
    prompt_tokens: int = 1000
    output_tokens: int = 200
    cv: float = 3.0
    burst_seconds: float = 10.0
    clients: int = 32
    think_seconds: float = 5.0
    seed: int = 0
    parts: Literal["reference", "own"] = "reference"
    slo_ttft: float = 2.0
    slo_tpot: float = 0.1
    max_seconds: float = 86_400.0

    def __post_init__(self) -> None:
        if self.workload not in WORKLOADS and not is_csv(self.workload):
            raise SetupError(
                f"there is no workload {self.workload!r}; choose one of: {', '.join(WORKLOADS)}, "
                "or give the path of a file that ends in .csv"
            )
        for name in ("requests", "rate", "cv", "burst_seconds", "prompt_tokens", "output_tokens"):
            value = getattr(self, name)
            if value is not None and not 0 < value < math.inf:
                raise SetupError(f"{name} is {value}; it must be above 0")
        for name in ("slo_ttft", "slo_tpot", "max_seconds"):
            value = getattr(self, name)
            if not value > 0:
                raise SetupError(f"{name} is {value}; it must be above 0, inf for no bound")
        if self.seed < 0:
            raise SetupError(f"seed is {self.seed}; it must be 0 or more")
        if self.parts not in ("reference", "own"):
            raise SetupError(f"parts is {self.parts!r}; it must be 'reference' or 'own'")


PARAMETERS = {field.name: str(field.type) for field in fields(Setup) if field.name != "workload"}
"""What ``--set`` and ``--sweep`` can change, with the types as they are written above."""


def load_trace(setup: Setup) -> Workload | None:
    """Read the trace that a set-up names; None if its workload is made up.

    Raises:
        SetupError: The trace is missing or malformed.
    """
    try:
        if is_csv(setup.workload):
            return load_csv(setup.workload)
        return TRACES[setup.workload]() if setup.workload in TRACES else None
    except (FileNotFoundError, ValueError) as error:
        raise SetupError(str(error)) from error


def run(
    setup: Setup, trace: Workload | None, on_finished: OnFinished | None = None
) -> SimulationResult:
    """Simulate a set-up.

    Args:
        setup: The set-up.
        trace: What ``load_trace`` returned for it.
        on_finished: Called with the number of finished requests and of all.

    Raises:
        SetupError: A parameter is out of range, the simulation was given up, or a part of the
            learner's own failed.
    """
    configured = trace if isinstance(trace, ConfiguredRun) else None
    model, gpu = hardware(setup, trace)
    try:
        blocks = _first(setup.blocks, configured and configured.num_blocks)
        if blocks is None:
            blocks = num_kv_blocks(model, gpu, setup.block_size)
        config = SchedulerConfig(
            max_num_seqs=_first(setup.max_num_seqs, configured and configured.max_num_seqs, 128),
            max_num_batched_tokens=_first(
                setup.max_num_batched_tokens, configured and configured.max_num_batched_tokens, 2048
            ),
            policy=setup.policy,
            long_prefill_token_threshold=setup.long_prefill_token_threshold,
            preemption_mode=setup.preemption_mode,
            num_cpu_blocks=setup.num_cpu_blocks,
            watermark=setup.watermark,
            victim_policy=setup.victim_policy,
        )
        return simulate(
            make_requests(setup, trace),
            config,
            RooflineCostModel(model, gpu),
            blocks,
            setup.block_size,
            _first(setup.caching, configured and configured.enable_caching, False),
            parts=SimulationParts.load() if setup.parts == "own" else None,
            max_seconds=setup.max_seconds,
            on_finished=on_finished,
        )
    except (ValueError, SimulationError, PartError) as error:
        raise SetupError(str(error)) from error


def hardware(setup: Setup, trace: Workload | None) -> tuple[ModelSpec, GPUSpec]:
    """Return the model and the GPU of a set-up.

    Args:
        setup: The set-up.
        trace: What ``load_trace`` returned for it; a measured run knows what it served on.

    Raises:
        SetupError: There is no model or no GPU of this name.

    >>> [each.name for each in hardware(Setup(gpu="h100"), None)]
    ['Llama-3.1-8B', 'H100 80 GB']
    """
    configured = trace if isinstance(trace, ConfiguredRun) else None
    try:
        model = MODELS[setup.model] if setup.model else configured.model if configured else _MODEL
        gpu = GPUS[setup.gpu] if setup.gpu else configured.gpu if configured else _GPU
    except KeyError as error:
        raise SetupError(str(error.args[0])) from error
    return model, gpu


def _first(*values: Any) -> Any:
    """Return the first value that is not None."""
    return next((value for value in values if value is not None), None)


def make_requests(setup: Setup, trace: Workload | None) -> Workload | ClosedLoop:
    """Return the requests of a set-up.

    A trace is cut to the number of requests, and its clock runs faster or slower to give the wanted
    rate. Made-up lengths are lognormal.

    Raises:
        ValueError: A parameter is out of range.
    """
    if trace is not None:
        chosen = trace[: setup.requests]
        return chosen if setup.rate is None or len(chosen) < 2 else chosen.at_rate(setup.rate)
    n = 1000 if setup.requests is None else setup.requests
    rate = 4.0 if setup.rate is None else setup.rate
    # Each column has a generator of its own, so that one parameter does not shift the others.
    arrival_seed, prompt_seed, output_seed = (setup.seed * 3 + column for column in range(3))
    arrivals: dict[str, Callable[[], ArrayLike]] = {
        "poisson": lambda: poisson_arrivals(rate, n, arrival_seed),
        "gamma": lambda: gamma_arrivals(rate, setup.cv, n, arrival_seed),
        "on-off": lambda: on_off_arrivals(
            rate / _ON_SHARE,
            setup.burst_seconds,
            setup.burst_seconds * (1 / _ON_SHARE - 1),
            n,
            arrival_seed,
        ),
        "closed": lambda: np.zeros(n),
    }
    prompts, outputs = (
        lognormal_lengths(mean, mean / _MEAN_OVER_MEDIAN, n, seed)
        for mean, seed in (
            (setup.prompt_tokens, prompt_seed),
            (setup.output_tokens, output_seed),
        )
    )
    workload = Workload.from_columns(
        setup.workload, np.asarray(arrivals[setup.workload]()).tolist(), prompts, outputs
    )
    if setup.workload == "closed":
        return ClosedLoop(workload, setup.clients, setup.think_seconds, setup.seed)
    return workload


def figures(setup: Setup, result: SimulationResult) -> dict[str, float]:
    """Return the summary of a result, and its goodput under the set-up's service level."""
    level = ServiceLevel(ttft=setup.slo_ttft, tpot=setup.slo_tpot)
    return {**result.summary(), "goodput": result.goodput(level)}


_OPTIONS = ("requests", "rate", "model", "gpu", "blocks", "policy")
"""Parameters that ``course simulate`` has an option of their own for."""


def command_of(setup: Setup) -> str:
    """Return the command that simulates a set-up in a terminal.

    >>> command_of(Setup("gamma", rate=6.0, policy="sjf", caching=True))
    'course simulate gamma --rate 6.0 --policy sjf --set caching=yes'
    """
    options, settings = [], []
    for name in PARAMETERS:
        value = getattr(setup, name)
        if value == getattr(_AS_IT_IS, name):
            continue
        said = {True: "yes", False: "no"}[value] if isinstance(value, bool) else str(value)
        if name in _OPTIONS:
            options += [f"--{name}", said]
        else:
            settings += ["--set", f"{name.replace('_', '-')}={said}"]
    return shlex.join(["course", "simulate", setup.workload, *options, *settings])


_AS_IT_IS = Setup()


def with_settings(setup: Setup, settings: Sequence[str]) -> Setup:
    """Return the set-up with parameters changed, each written as ``name=value``.

    Raises:
        SetupError: One is not of this form, there is no such parameter, or the value is not
            possible.

    >>> with_settings(Setup(), ["max-num-seqs=64", "watermark=0.05"]).max_num_seqs
    64
    """
    for text in settings:
        name, values = _parse_values(text)
        if len(values) != 1:
            raise SetupError(f"{text!r} has {len(values)} values; write one, as in watermark=0.05")
        setup = replace(setup, **{name: values[0]})
    return setup


def parse_sweep(text: str, setup: Setup) -> tuple[str, list[Setup]]:
    """Read ``name=value,value,...``; return the parameter and a set-up for each value.

    Raises:
        SetupError: As in ``with_settings``.

    >>> name, setups = parse_sweep("rate=2,4.5", Setup())
    >>> name, [setup.rate for setup in setups]
    ('rate', [2.0, 4.5])
    """
    name, values = _parse_values(text)
    return name, [replace(setup, **{name: value}) for value in values]


def _parse_values(text: str) -> tuple[str, list[Any]]:
    """Read a parameter and its values."""
    option, _, listed = text.partition("=")
    name = option.strip().removeprefix("--").replace("-", "_")
    if name not in PARAMETERS:
        known = ", ".join(name.replace("_", "-") for name in PARAMETERS)
        raise SetupError(f"there is no parameter {option.strip()!r}; known: {known}")
    values = [value.strip() for value in listed.split(",") if value.strip()]
    if not values:
        raise SetupError(f"{text!r} has no value; write it as in rate=4, or rate=2,4 for a sweep")
    return name, [_parse_value(name, value) for value in values]


_READERS: dict[str, tuple[Callable[[str], Any], str]] = {
    "int": (int, "a whole number"),
    "float": (float, "a number"),
    "bool": ({"yes": True, "true": True, "no": False, "false": False}.__getitem__, "yes or no"),
}
"""How a value is read, and what it has to be, by the type of its parameter."""


def _parse_value(name: str, text: str) -> Any:
    """Read one value of a parameter as its type."""
    read, kind = _READERS.get(PARAMETERS[name].removesuffix(" | None"), (str, "text"))
    try:
        return read(text)
    except (KeyError, ValueError) as error:
        raise SetupError(f"{name} is {text!r}; it must be {kind}") from error

"""Experiments that show what a scheduling decision costs, each as one call.

Every experiment simulates the same requests in several ways and returns a ``Comparison``. Where a
workload is not given, requests of the Azure conversation trace are used (or what stands in for it,
see ``load_azure``), or, where the docstring says so, those of the run of vLLM that was measured (or
what stands in for them, see ``load_vllm_requests``). Names of synthetic ones say so.

All of them serve Llama-3.1-8B on one GPU, with ``RooflineCostModel`` and its default efficiencies,
and, but for the measured run as it was, without a prefix cache.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

from course_lib.kv_cache.sizing import num_kv_blocks
from course_lib.scheduling import (
    HeadSkippingScheduler,
    Request,
    Scheduler,
    SchedulerConfig,
    SortedRequestQueue,
    StaticBatchingScheduler,
)
from course_lib.simulation.cost_model import CostModel, RooflineCostModel
from course_lib.simulation.measured import (
    ConfiguredRun,
    MeasuredRun,
    load_vllm_requests,
    load_vllm_run,
)
from course_lib.simulation.metrics import summarize
from course_lib.simulation.result import SimulationResult
from course_lib.simulation.simulator import simulate
from course_lib.simulation.workload import Workload, load_azure
from course_lib.specs import GPUS, MODELS

MODEL = MODELS["llama-3.1-8b"]
OnRun = Callable[[int, int], None]
"""Called with the runs that are done and the runs in all."""


@dataclass(frozen=True)
class Comparison:
    """What became of the same requests in several set-ups.

    Attributes:
        title: What is compared.
        setup: Everything that the set-ups have in common, in a sentence.
        results: What was measured, by the name of the set-up.
        figures: Keys of ``SimulationResult.summary()`` that matter here.
    """

    title: str
    setup: str
    results: Mapping[str, SimulationResult]
    figures: tuple[str, ...]

    def rows(self) -> dict[str, dict[str, float]]:
        """Return the figures of each set-up."""
        summaries = {name: result.summary() for name, result in self.results.items()}
        return {
            name: {figure: summary[figure] for figure in self.figures}
            for name, summary in summaries.items()
        }

    def __str__(self) -> str:
        width = max(map(len, self.results), default=0)
        head = " ".join([" " * width, *(f"{figure:>22}" for figure in self.figures)])
        lines = [self.title, self.setup, head]
        for name, row in self.rows().items():
            cells = (f"{value:>22,.4g}" for value in row.values())
            lines.append(" ".join([f"{name:<{width}}", *cells]))
        return "\n".join(lines)


class FewestOutputTokens(SortedRequestQueue):
    """Serves the request with the shortest answer first, which nobody can know beforehand."""

    def key(self, request: Request) -> int:
        """Return the tokens that the request will generate."""
        return request.max_tokens


def static_against_continuous(
    workload: Workload | None = None, batch_size: int = 32, on_run: OnRun | None = None
) -> Comparison:
    """Compare batches that run to their end with batches that change in every iteration.

    By default 1,000 requests; Llama-3.1-8B on an A100 80 GB; ``batch_size`` slots in each case. In
    static batches most slots are idle most of the time. Forming them of requests with outputs of
    similar length fills more of the slots, at the expense of whoever asks for a long answer. (It
    needs to know the lengths in advance, which nobody does.)

    A static batch is the same scheduler, admitting only when nobody runs, with a budget for all
    prompts at once. That flatters it: padding costs nothing, and users see each token at once, not
    the whole answer when the batch ends.
    """
    workload = workload if workload is not None else load_azure()[:1000]
    cost_model = RooflineCostModel(MODEL, GPUS["a100-80gb"])
    config = SchedulerConfig(max_num_seqs=batch_size)
    blocks = num_kv_blocks(MODEL, GPUS["a100-80gb"])
    # All prompts of a batch are computed in its first iteration.
    no_limit = sum(request.prompt_tokens + request.output_tokens for request in workload)
    whole_batch = replace(config, max_num_batched_tokens=max(no_limit, 1))
    similar = replace(whole_batch, policy=FewestOutputTokens)

    def static(config: SchedulerConfig) -> SimulationResult:
        scheduler = StaticBatchingScheduler
        return simulate(workload, config, cost_model, blocks, scheduler_class=scheduler)

    return _compare(
        "Static against continuous batching",
        f"{workload.name}, {len(workload)} requests, {batch_size} slots, A100 80 GB",
        {
            "static": lambda: static(whole_batch),
            "static, similar outputs": lambda: static(similar),
            "continuous": lambda: simulate(workload, config, cost_model, blocks),
        },
        ("slot_use", "output_tokens_per_second", "ttft_mean", "e2e_mean", "e2e_p99", "makespan"),
        on_run,
    )


def generation_stall(
    workload: Workload | None = None,
    budgets: Sequence[int] = (8192, 2048, 512, 256),
    on_run: OnRun | None = None,
) -> Comparison:
    """Show how long a running request waits for its next token, by token budget.

    By default the whole trace; Llama-3.1-8B on an A100 80 GB with all the blocks that it can hold;
    256 sequences. "not chunked" computes every waiting prompt whole and at once, without a limit.
    ``longest_gap_p99`` is the 99th percentile over the requests of the longest gap that each of
    them saw.
    """
    workload = workload if workload is not None else load_azure()
    # Whatever waits fits into one iteration.
    no_limit = sum(request.prompt_tokens + request.output_tokens for request in workload)
    configs = {
        "not chunked": SchedulerConfig(
            max_num_seqs=256, max_num_batched_tokens=no_limit, enable_chunked_prefill=False
        )
    }
    for budget in budgets:
        configs[f"budget {budget}"] = SchedulerConfig(
            max_num_seqs=256, max_num_batched_tokens=budget
        )
    blocks = num_kv_blocks(MODEL, GPUS["a100-80gb"])
    return _compare(
        "Generation stall by token budget",
        f"{workload.name}, {len(workload)} requests, A100 80 GB, {blocks} blocks, 256 sequences",
        _simulations(workload, configs, RooflineCostModel(MODEL, GPUS["a100-80gb"]), blocks),
        ("longest_gap_p50", "longest_gap_p99", "itl_p99", "ttft_mean", "tpot_mean", "makespan"),
        on_run,
    )


def preemption_thrash(
    workload: Workload | None = None, num_blocks: int = 1500, on_run: OnRun | None = None
) -> Comparison:
    """Admit a request when its first chunk fits, or only when its whole prompt does.

    By default 1,500 requests; Llama-3.1-8B on an A100 80 GB with only 1,500 blocks. A request that
    is admitted too early soon needs blocks that others hold, and somebody loses all that was
    computed.
    """
    workload = workload if workload is not None else load_azure()[:1500]
    configs = {
        "first chunk fits": SchedulerConfig(reserve_full_prompt=False),
        "whole prompt fits": SchedulerConfig(reserve_full_prompt=True),
    }
    return _compare(
        "Preemption thrash by admission rule",
        f"{workload.name}, {len(workload)} requests, A100 80 GB, {num_blocks} blocks",
        _simulations(workload, configs, RooflineCostModel(MODEL, GPUS["a100-80gb"]), num_blocks),
        ("num_preemptions", "num_recomputed_tokens", "ttft_mean", "e2e_mean", "makespan"),
        on_run,
    )


def watermark_sweep(
    workload: Workload | None = None,
    watermarks: Sequence[float] = (0.0, 0.01, 0.05, 0.1, 0.2, 0.4),
    num_blocks: int = 1500,
    on_run: OnRun | None = None,
) -> Comparison:
    """Keep a share of the blocks free at admission, so that running requests can grow.

    By default the requests of the measured run; Llama-3.1-8B on an RTX 4090 with only 1,500 blocks;
    256 sequences. A small reserve saves preemptions; a large one is memory that nobody uses.
    """
    workload = workload if workload is not None else load_vllm_requests()
    configs = {
        f"watermark {watermark:.0%}": SchedulerConfig(max_num_seqs=256, watermark=watermark)
        for watermark in watermarks
    }
    return _compare(
        "Watermark",
        f"{workload.name}, {len(workload)} requests, RTX 4090, {num_blocks} blocks, 256 sequences",
        _simulations(workload, configs, RooflineCostModel(MODEL, GPUS["rtx-4090"]), num_blocks),
        ("num_preemptions", "num_recomputed_tokens", "ttft_mean", "e2e_mean", "makespan"),
        on_run,
    )


def sjf_starvation(
    workload: Workload | None = None,
    policies: Sequence[str] = ("fcfs", "sjf", "srpt"),
    num_blocks: int = 1500,
    on_run: OnRun | None = None,
) -> Comparison:
    """Serve the shortest request first: better on average, terrible for the longest.

    By default 1,500 requests; Llama-3.1-8B on an A100 80 GB with only 1,500 blocks.
    """
    workload = workload if workload is not None else load_azure()[:1500]
    configs = {policy: SchedulerConfig(policy=policy) for policy in policies}
    return _compare(
        "Order of service",
        f"{workload.name}, {len(workload)} requests, A100 80 GB, {num_blocks} blocks",
        _simulations(workload, configs, RooflineCostModel(MODEL, GPUS["a100-80gb"]), num_blocks),
        ("ttft_mean", "ttft_p50", "ttft_p99", "ttft_max", "num_preemptions", "makespan"),
        on_run,
    )


def head_of_line(
    workload: Workload | None = None, num_blocks: int = 2588, on_run: OnRun | None = None
) -> Comparison:
    """Stop admitting at the first request that does not fit, or pass over it.

    The one that passes over is a ``HeadSkippingScheduler``. By default 1,500 requests; Llama-3.1-8B
    on an RTX 4090 with 2,588 blocks. Passing over costs the tail, preemptions and throughput; what
    it does to the mean depends on the requests.
    """
    workload = workload if workload is not None else load_azure()[:1500]
    config, cost_model = SchedulerConfig(), RooflineCostModel(MODEL, GPUS["rtx-4090"])
    return _compare(
        "Head-of-line blocking and its obvious cure",
        f"{workload.name}, {len(workload)} requests, RTX 4090, {num_blocks} blocks",
        {
            "stop at the head": lambda: simulate(workload, config, cost_model, num_blocks),
            "pass over it": lambda: simulate(
                workload, config, cost_model, num_blocks, scheduler_class=HeadSkippingScheduler
            ),
        },
        ("ttft_mean", "ttft_p99", "e2e_mean", "num_preemptions", "makespan"),
        on_run,
    )


def capacity_error(run: ConfiguredRun | None = None, on_run: OnRun | None = None) -> Comparison:
    """Simulate a run with the blocks that it had, and with those that one computes.

    By default the run of vLLM that was measured, or synthetic requests in its configuration.

    The number of blocks is what a simulation is most sensitive to. vLLM measured what activations
    and the CUDA context take; a calculation from 0.9 of the memory does not know of them.
    """
    run = run if run is not None else load_vllm_requests()
    cost_model = RooflineCostModel(run.model, run.gpu)
    computed = num_kv_blocks(run.model, run.gpu, run.block_size, gpu_memory_utilization=0.9)
    return _compare(
        "Blocks that were there, and blocks that one computes",
        f"{run.name}, {len(run)} requests",
        {
            f"{name}, {blocks} blocks": _simulation_of(run, cost_model, blocks)
            for name, blocks in (("measured", run.num_blocks), ("computed", computed))
        },
        ("ttft_mean", "tpot_mean", "e2e_mean", "makespan", "num_preemptions"),
        on_run,
    )


EXPERIMENTS: dict[str, Callable[..., Comparison]] = {
    "static": static_against_continuous,
    "stall": generation_stall,
    "thrash": preemption_thrash,
    "watermark": watermark_sweep,
    "sjf": sjf_starvation,
    "head-of-line": head_of_line,
    "capacity": capacity_error,
}
"""All experiments, by name. Each can be called without arguments, or with ``on_run`` alone."""


@dataclass(frozen=True)
class Validation:
    """A simulated run beside the measured one.

    Attributes:
        run: What was measured.
        result: What was simulated.
    """

    run: MeasuredRun
    result: SimulationResult

    def rows(self) -> dict[str, tuple[float, float, float]]:
        """Return measured seconds, simulated seconds and relative error, by figure.

        Figures are ``makespan``, and mean, percentiles and maximum of ``ttft``, ``tpot`` and
        ``e2e``, named as in ``SimulationResult.summary()``.
        """
        pairs = {"makespan": (self.run.makespan, self.result.makespan)}
        for name in ("ttft", "tpot", "e2e"):
            measured = summarize(getattr(self.run, name))
            simulated = summarize(getattr(self.result, name))
            for statistic, seconds in measured.items():
                pairs[f"{name}_{statistic}"] = (seconds, simulated[statistic])
        return {name: (real, made, made / real - 1) for name, (real, made) in pairs.items()}

    def __str__(self) -> str:
        lines = [
            f"{self.run.source}",
            f"{'seconds':<12}{'measured':>12}{'simulated':>12}{'error':>9}",
        ]
        for name, (measured, simulated, error) in self.rows().items():
            lines.append(f"{name:<12}{measured:>12.4f}{simulated:>12.4f}{error:>+9.1%}")
        return "\n".join(lines)


def validate(
    run: MeasuredRun | None = None,
    cost_model: CostModel | None = None,
    scheduler_class: Callable[..., Scheduler] = Scheduler,
) -> Validation:
    """Simulate a measured run as it was configured, and put both side by side.

    Args:
        run: The run; by default the one on an RTX 4090.
        cost_model: Tells how long an iteration takes; by default the roofline of the run's model
            and GPU with its default efficiencies.
        scheduler_class: Makes the scheduler, for one of your own.

    Raises:
        FileNotFoundError: No run is given and the measured one is not at hand: what was measured
            cannot be made up.
    """
    run = run if run is not None else load_vllm_run()
    cost_model = cost_model if cost_model is not None else RooflineCostModel(run.model, run.gpu)
    result = simulate(
        run,
        run.scheduler_config,
        cost_model,
        run.num_blocks,
        run.block_size,
        run.enable_caching,
        scheduler_class=scheduler_class,
    )
    return Validation(run, result)


def _simulation_of(
    run: ConfiguredRun, cost_model: CostModel, num_blocks: int
) -> Callable[[], SimulationResult]:
    """Return a call that simulates a run with a number of blocks."""
    return lambda: simulate(
        run, run.scheduler_config, cost_model, num_blocks, run.block_size, run.enable_caching
    )


def _simulations(
    workload: Workload,
    configs: Mapping[str, SchedulerConfig],
    cost_model: CostModel,
    num_blocks: int,
) -> dict[str, Callable[[], SimulationResult]]:
    """Return a call for each configuration that simulates the workload with it."""

    def simulation(config: SchedulerConfig) -> Callable[[], SimulationResult]:
        return lambda: simulate(workload, config, cost_model, num_blocks)

    return {name: simulation(config) for name, config in configs.items()}


def _compare(
    title: str,
    setup: str,
    runs: Mapping[str, Callable[[], SimulationResult]],
    figures: tuple[str, ...],
    on_run: OnRun | None,
) -> Comparison:
    """Carry out the runs, one after the other."""
    results = {}
    for number, (name, run) in enumerate(runs.items(), start=1):
        results[name] = run()
        if on_run is not None:
            on_run(number, len(runs))
    return Comparison(title, setup, results, figures)

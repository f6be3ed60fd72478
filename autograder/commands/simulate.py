"""``course simulate``: serving a workload on a virtual clock."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Optional

import typer

from autograder.commands.console import console
from autograder.errors import CourseError

EXAMPLE = "course simulate poisson --sweep rate=2,4,6 --report sweep_of_rate"


def simulate(
    workload: Annotated[
        str,
        typer.Argument(
            help="poisson, gamma, on-off, closed, azure-conversation, azure-code, mooncake, "
            "vllm-run, or the path of a CSV file: arrival_time,prompt_tokens,output_tokens."
        ),
    ] = "poisson",
    requests: Annotated[
        Optional[int],  # noqa: UP045 - Typer reads this at run time
        typer.Option(help="Number of requests; 1000, or the whole trace."),
    ] = None,
    rate: Annotated[
        Optional[float],  # noqa: UP045
        typer.Option(help="Requests per second; 4, or as in the trace."),
    ] = None,
    model: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option(help="Model; llama-3.1-8b."),
    ] = None,
    gpu: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option(help="GPU; a100-80gb."),
    ] = None,
    blocks: Annotated[
        Optional[int],  # noqa: UP045
        typer.Option(help="Blocks of the KV cache; as many as the GPU can hold."),
    ] = None,
    policy: Annotated[
        str,
        typer.Option(
            help="Order of service: fcfs, sjf or srpt; vtc or wfq for the clients of closed."
        ),
    ] = "fcfs",
    settings: Annotated[
        Optional[list[str]],  # noqa: UP045
        typer.Option(
            "--set",
            metavar="NAME=VALUE",
            help="Any other parameter, such as max-num-seqs=64; a wrong name lists all.",
        ),
    ] = None,
    against: Annotated[
        Optional[list[str]],  # noqa: UP045
        typer.Option(
            metavar="NAME=VALUE",
            help="Compare with the same set-up but for this; more than one may change.",
        ),
    ] = None,
    sweep: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option(metavar="NAME=V1,V2,...", help="Run once for each value of a parameter."),
    ] = None,
    scheduler: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option(metavar="tcp://...", help="Dask cluster for the sweep; one is started here."),
    ] = None,
    workers: Annotated[
        Optional[int],  # noqa: UP045
        typer.Option(min=1, help="Processes to start for the sweep; one per core."),
    ] = None,
    experiment: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option(
            help="Instead: static, stall, thrash, watermark, sjf, head-of-line or capacity."
        ),
    ] = None,
    report: Annotated[
        Optional[Path],  # noqa: UP045
        typer.Option(
            metavar="FOLDER",
            help="Write tables, figures and a trace to a new folder; or to FILE.html, one page.",
        ),
    ] = None,
) -> None:
    """Serve a workload on a virtual clock, and measure what its users would notice."""
    from autograder.terminal import simulations

    if sweep is None and (scheduler is not None or workers is not None):
        raise CourseError("--scheduler and --workers are for a --sweep; add one, or leave them out")
    if experiment is not None and (sweep is not None or settings or against):
        raise CourseError("an --experiment is fixed; leave --sweep, --set and --against out")
    if sweep is not None and against:
        raise CourseError("a --sweep is a comparison already; leave --against or --sweep out")
    if experiment is not None:
        simulations.show_experiment(experiment, console, report)
        return
    setup = simulations.make_setup(
        settings or [],
        workload=workload,
        requests=requests,
        rate=rate,
        model=model,
        gpu=gpu,
        blocks=blocks,
        policy=policy,
    )
    if sweep is not None:
        simulations.show_sweep(setup, sweep, console, report, scheduler, workers)
    elif against:
        simulations.show_two(setup, against, console, report)
    else:
        simulations.show_one(setup, console, report)

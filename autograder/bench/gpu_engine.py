"""How fast the engine is on a GPU: ``course bench engine`` where there is one.

The engine and transformers' continuous batching are given the same mixed requests in one run, all
at once, and both serve them from a paged cache. Time is taken by the clock: a GPU works while the
processor waits. Two models: course-tiny in 32 bits, of which both must give the same tokens, and
one with the shape of Llama-3.2-1B in bfloat16, whose weights are random. Its scores lie so close
together that each way of rounding finds other tokens; they cost the same.
"""

from __future__ import annotations

import importlib
import platform
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from rich.table import Table

from autograder.bench.engine import (
    CONTINUOUS,
    MODEL,
    SHARE_OF_SAME_ANSWERS,
    Answers,
    Engine,
    EngineTiming,
    Job,
    Measured,
    make_jobs,
)
from autograder.bench.random_model import ONE_BILLION, save_random_model
from autograder.bench.suite import OnStep
from autograder.errors import CourseError
from course_lib.engine import LlamaConfig, checkpoint_folder
from course_lib.scheduling.scheduler import SchedulerConfig

NUM_REQUESTS = 256
ROUNDS = 2
BLOCK_SIZE_OF_TRANSFORMERS = 256
"""Tokens per block of its cache: its default in 5.17."""

TRANSFORMERS = "transformers, continuous batching"


@dataclass(frozen=True)
class ModelTiming:
    """How fast one model is served.

    Attributes:
        model: Its name.
        dtype: Of weights, keys and values.
        rows: One per way of serving.
    """

    model: str
    dtype: str
    rows: tuple[EngineTiming, ...]


@dataclass(frozen=True)
class GPUEngineReport:
    """What a run found, and on what.

    Attributes:
        machine: The GPU and the versions.
        num_requests: Requests that were served.
        num_prompt_tokens: Tokens of all prompts.
        num_tokens: Tokens of all answers.
        models: One per model.
        notes: How to read them, and what was left out.
    """

    machine: str
    num_requests: int
    num_prompt_tokens: int
    num_tokens: int
    models: tuple[ModelTiming, ...]
    notes: tuple[str, ...]

    def table(self) -> Table:
        """Return a table with one line per model and way of serving."""
        table = Table(
            title=f"course bench engine: {self.num_requests} requests, "
            f"{self.num_prompt_tokens:,} tokens in and {self.num_tokens:,} out",
            caption="; ".join([self.machine, *self.notes]),
        )
        table.add_column("model")
        table.add_column("", no_wrap=True)
        for column in ("tokens/s", "ratio", "ms/step", "% scheduler, model, sampler, rest"):
            table.add_column(column, justify="right")
        for model in self.models:
            for row in model.rows:
                table.add_row(f"{model.model}, {model.dtype}", *row.cells())
        return table


def run_gpu_engine_suite(
    on_step: OnStep = lambda done, total: None,
    rounds: int = ROUNDS,
    num_requests: int = NUM_REQUESTS,
    device: str = "cuda",
    large: LlamaConfig = ONE_BILLION,
) -> GPUEngineReport:
    """Measure the engine beside transformers' continuous batching.

    Args:
        on_step: Called with the measurements done and the measurements in all.
        rounds: How often each is measured; the median counts.
        num_requests: Requests to serve.
        device: Where the models run.
        large: The shape of the larger model.

    Raises:
        CourseError: The ways of serving do not give the same tokens.
    """
    jobs = make_jobs(num_requests)
    total = 2 * 2 * rounds
    transformers, notes = _transformers()
    models: list[ModelTiming] = []
    with tempfile.TemporaryDirectory() as scratch:
        save_random_model(large, scratch, dtype=torch.bfloat16, device=device)
        for name, folder, dtype, same in (
            (MODEL, checkpoint_folder(MODEL), torch.float32, SHARE_OF_SAME_ANSWERS),
            ("1B, random weights", Path(scratch), torch.bfloat16, 0.0),
        ):
            measured = Measured(
                jobs,
                _counting_on(on_step, len(models) * 2 * rounds, total),
                2 * rounds,
                clock=time.perf_counter,
                share_of_same_answers=same,
            )
            _measure(measured, folder, jobs, dtype, device, rounds, transformers)
            short = str(dtype).removeprefix("torch.")
            models.append(ModelTiming(name, short, measured.rows()))
    return GPUEngineReport(
        machine=_machine(device, transformers),
        num_requests=len(jobs),
        num_prompt_tokens=sum(len(job.prompt) for job in jobs),
        num_tokens=sum(job.num_tokens for job in jobs),
        models=tuple(models),
        notes=("tokens per second by the clock", "ratio: continuous batching to this", *notes),
    )


def _counting_on(on_step: OnStep, done: int, total: int) -> OnStep:
    """Return how to report the steps of a part, after so many that are done already."""
    return lambda step, _: on_step(done + step, total)


def _measure(
    measured: Measured,
    folder: Path,
    jobs: Sequence[Job],
    dtype: torch.dtype,
    device: str,
    rounds: int,
    transformers: Any,
) -> None:
    """Serve the jobs by the engine and by transformers in turn."""
    engine = Engine(folder, jobs, device=device, dtype=dtype)
    # Kernels are compiled when they are first needed.
    engine.serve([jobs])
    # Its memory is taken when its first request comes: after the engine's own.
    with _continuous(transformers, folder, jobs, dtype, device) as other:
        if other is not None:
            serve(other, jobs)
        for _ in range(rounds):
            measured.add(CONTINUOUS, partial(engine.serve, [jobs]))
            measured.records[CONTINUOUS] = engine.records
            if other is not None:
                measured.add(TRANSFORMERS, partial(serve, other, jobs))


def _transformers() -> tuple[Any, tuple[str, ...]]:
    """Return transformers, or None and a note that says why not."""
    try:
        return importlib.import_module("transformers"), ()
    except ImportError as error:
        return None, (f"transformers is not measured ({error})",)


@contextmanager
def _continuous(
    transformers: Any, folder: Path, jobs: Sequence[Job], dtype: torch.dtype, device: str
) -> Iterator[Any]:
    """Start transformers' continuous batching with a cache that all jobs fit in.

    A step may have as many tokens as one of the engine. All else is its own choice. Yields None
    where there is no transformers.
    """
    if transformers is None:
        yield None
        return
    transformers.utils.logging.disable_progress_bar()
    model = transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=dtype).to(device)
    params = transformers.GenerationConfig(do_sample=False, eos_token_id=-1, max_new_tokens=512)
    lens = (len(job.prompt) + job.num_tokens for job in jobs)
    options = transformers.ContinuousBatchingConfig(
        block_size=BLOCK_SIZE_OF_TRANSFORMERS,
        num_blocks=1 + sum(-(-length // BLOCK_SIZE_OF_TRANSFORMERS) for length in lens),
        max_batch_tokens=SchedulerConfig().max_num_batched_tokens,
        # What one round leaves in a cache of prefixes would help the next.
        allow_block_sharing=False,
    )
    with model.continuous_batching_context_manager(
        generation_config=params, continuous_batching_config=options, timeout=1
    ) as manager:
        yield manager


def serve(manager: Any, jobs: Sequence[Job]) -> Answers:
    """Serve jobs by transformers' continuous batching, all at once.

    Args:
        manager: A ``ContinuousBatchingManager`` that is running.
        jobs: What to serve.

    Raises:
        CourseError: It has ended, or a request has failed.
    """
    names = [manager.add_request(job.prompt, max_new_tokens=job.num_tokens) for job in jobs]
    found: dict[str, list[int]] = {}
    while len(found) < len(names):
        result = manager.get_result(timeout=1)
        if result is None:
            if not manager.is_running():
                raise CourseError("transformers' continuous batching has ended; see its log")
        elif result.error is not None:
            raise CourseError(f"transformers could not serve a request: {result.error}")
        elif result.is_finished():
            found[result.request_id] = result.generated_tokens
    return [found[name] for name in names]


def _machine(device: str, transformers: Any) -> str:
    """Return the device and the versions."""
    import triton

    name = torch.cuda.get_device_name() if device == "cuda" else platform.machine()
    versions = [
        f"Python {platform.python_version()}",
        f"PyTorch {torch.__version__}",
        f"Triton {triton.__version__}",
    ]
    if transformers is not None:
        versions.append(f"transformers {transformers.__version__}")
    return ", ".join([name, *versions])

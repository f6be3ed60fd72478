"""Where the time of uniform batches goes: ``course bench uniform``.

Prompts of one length, answers of one length: padding costs nothing, and a batch ends when all of
it ends. What continuous batching is good at does not occur, so this shows what a step costs beside
its arithmetic. Engine and transformers serve the same requests in turn, in one thread; then once
more under PyTorch's profiler, which tells how much of either's time is matrix multiplication.

Both need the same products. So even if all else cost nothing, the engine could be no more than
``limit`` times as fast as transformers: its time over the time of the engine's products.
"""

from __future__ import annotations

import platform
import random
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch
from rich import box
from rich.table import Table
from torch.profiler import ProfilerActivity, profile

from autograder.bench.engine import (
    MODEL,
    SHARE_OF_SAME_ANSWERS,
    Answers,
    Engine,
    Job,
    one_thread,
    padded,
    require_same,
)
from autograder.bench.random_model import HUNDRED_MILLION, num_parameters, save_random_model
from autograder.bench.suite import OnStep
from course_lib.engine import LlamaConfig, checkpoint_folder

BATCH_SIZES = (8, 16, 32, 64)
PROMPT_LEN, ANSWER_LEN = 64, 64
ROUNDS = 7
ROUNDS_OF_LARGE = 3
"""Each takes a hundred times as long as one of course-tiny, and varies less."""
PROFILED_ROUNDS = 3
PRODUCTS = ("aten::mm", "aten::addmm", "aten::bmm")
TOP = 4
"""How many other operations are named."""


@dataclass(frozen=True)
class UniformTiming:
    """One model and batch size. Times are CPU time per token of each sequence, in milliseconds.

    Attributes:
        model: What is served.
        batch_size: Sequences.
        engine: Time of the engine, the median of the rounds.
        transformers: The same of transformers; None where it is not installed.
        ratio: Time of transformers over that of the engine, the median of the rounds.
        products: Time of the engine's matrix products; attention's are not among them.
        attention: Time of its attention, gathering the keys and values not included.
        largest_others: Times of the largest other operations, by name.
        limit: What the ratio would be if all but the products cost the engine nothing.
    """

    model: str
    batch_size: int
    engine: float
    transformers: float | None
    ratio: float | None
    products: float
    attention: float
    largest_others: dict[str, float]
    limit: float | None


@dataclass(frozen=True)
class UniformReport:
    """What a run found, and on what."""

    machine: str
    rows: tuple[UniformTiming, ...]
    notes: tuple[str, ...]

    def table(self) -> Table:
        """Return a table with one line per model and batch size; below it other operations."""
        others = (
            f"{row.model}, {row.batch_size}: "
            + ", ".join(f"{name} {ms:.2f}" for name, ms in row.largest_others.items())
            for row in self.rows
        )
        table = Table(
            title=f"course bench uniform: prompts of {PROMPT_LEN} and answers of {ANSWER_LEN} "
            "tokens",
            caption="\n".join(
                ["The largest other operations:", *others, *self.notes, self.machine]
            ),
            caption_justify="left",
            box=box.SIMPLE_HEAD,
            pad_edge=False,
        )
        table.add_column("model", no_wrap=True)
        heads = ("batch", "engine", "padded", "ratio", "limit", "products", "attention")
        for column in heads:
            table.add_column(column, justify="right", no_wrap=True)
        for row in self.rows:
            numbers = (row.engine, row.transformers, row.ratio, row.limit)
            table.add_row(
                row.model,
                str(row.batch_size),
                *("" if number is None else f"{number:.2f}" for number in numbers),
                f"{row.products:.2f}",
                f"{row.attention:.2f}",
            )
        return table


def run_uniform_suite(
    on_step: OnStep = lambda done, total: None,
    rounds: int = ROUNDS,
    batch_sizes: Sequence[int] = BATCH_SIZES,
    large: LlamaConfig = HUNDRED_MILLION,
    rounds_of_large: int = ROUNDS_OF_LARGE,
) -> UniformReport:
    """Measure engine and transformers on requests of equal lengths.

    Args:
        on_step: Called with the batch sizes done and the batch sizes in all, of both models.
        rounds: How often each is measured on course-tiny; the median counts.
        batch_sizes: Sequences that are served at the same time.
        large: The shape of the larger model.
        rounds_of_large: How often each is measured on it.

    Raises:
        CourseError: The two do not give the same tokens.
    """
    rows: list[UniformTiming] = []
    total = 2 * len(batch_sizes)
    with tempfile.TemporaryDirectory() as scratch, one_thread():
        save_random_model(large, scratch)
        for model, folder, repeats, share in (
            (MODEL, checkpoint_folder(MODEL), rounds, SHARE_OF_SAME_ANSWERS),
            (_millions(large), Path(scratch), rounds_of_large, 0.0),
        ):
            other, notes = padded(folder)
            for batch_size in batch_sizes:
                jobs = uniform_jobs(batch_size)
                serving: dict[str, Callable[[], Answers]] = {
                    "engine": partial(Engine(folder, jobs).serve, [jobs])
                }
                if other is not None:
                    serving["transformers"] = partial(other.serve, jobs, len(jobs))
                rows.append(_measure(model, batch_size, serving, repeats, share))
                on_step(len(rows), total)
    return UniformReport(
        machine=f"{platform.processor() or platform.machine()}, one thread, "
        f"Python {platform.python_version()}, PyTorch {torch.__version__}",
        rows=tuple(rows),
        notes=(
            "All times: CPU time per token of a sequence, in ms; padded: that of transformers",
            f"{_millions(large)}: random weights, {large.num_layers} layers",
            *notes,
        ),
    )


def _millions(config: LlamaConfig) -> str:
    """Return what a model is called here: its parameters.

    >>> _millions(HUNDRED_MILLION)
    '100.1 M'
    """
    return f"{num_parameters(config) / 1e6:,.1f} M"


def uniform_jobs(batch_size: int) -> list[Job]:
    """Return requests of the same lengths, whose prompts have nothing in common.

    >>> {(len(job.prompt), job.num_tokens) for job in uniform_jobs(3)}
    {(64, 64)}
    """
    rng = random.Random(batch_size)
    return [
        Job([rng.randrange(3, 512) for _ in range(PROMPT_LEN)], ANSWER_LEN)
        for _ in range(batch_size)
    ]


def _measure(
    model: str,
    batch_size: int,
    serving: dict[str, Callable[[], Answers]],
    rounds: int,
    share_of_same_answers: float,
) -> UniformTiming:
    """Measure all ways of serving a batch, and profile the engine."""
    first = serving["engine"]()
    seconds: dict[str, list[float]] = {name: [] for name in serving}
    for _ in range(rounds):
        for name, serve in serving.items():
            start = time.process_time()
            answers = serve()
            seconds[name].append(time.process_time() - start)
            require_same(first, answers, name, share_of_same_answers)
    per_token = {name: 1e3 * statistics.median(each) / ANSWER_LEN for name, each in seconds.items()}
    ratios = [
        b / a for a, b in zip(seconds["engine"], seconds.get("transformers", ()), strict=False)
    ]
    operations = profiled(serving["engine"], min(rounds, PROFILED_ROUNDS))
    products = sum(operations.pop(name, 0.0) for name in PRODUCTS)
    is_attention = [name for name in operations if "scaled_dot_product" in name]
    attention = sum(operations.pop(name) for name in is_attention)
    largest = sorted(operations, key=operations.__getitem__, reverse=True)[:TOP]
    theirs = per_token.get("transformers")
    return UniformTiming(
        model,
        batch_size,
        per_token["engine"],
        theirs,
        statistics.median(ratios) if ratios else None,
        products,
        attention,
        {name.removeprefix("aten::"): operations[name] for name in largest},
        None if theirs is None else theirs / products,
    )


def profiled(serve: Callable[[], Answers], rounds: int) -> dict[str, float]:
    """Return the milliseconds per token that each operation takes, its own parts not included.

    The profiler's clock runs on while others compute, so on a busy machine these are too large,
    and ``limit`` too small. The least of several rounds counts.
    """
    least: dict[str, float] = {}
    for _ in range(rounds):
        with profile(activities=[ProfilerActivity.CPU]) as found:
            serve()
        for each in found.key_averages():
            milliseconds = each.self_cpu_time_total / 1e3 / ANSWER_LEN
            least[each.key] = min(least.get(each.key, milliseconds), milliseconds)
    return least

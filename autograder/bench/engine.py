"""How fast the engine is: ``course bench engine``.

Everybody gets the same mixed requests for course-tiny, on the CPU, in one thread and in one run:

- continuous batching: the engine is given all requests at once;
- one by one: the same engine is given each request when the one before it is finished;
- transformers: batches with padding. Its requests are sorted by the length of their prompts, so
  that little of them is padding, and it runs with the batch size that suits it best. A batch is
  finished with its longest answer, because nobody knows how long an answer becomes.

Only tokens that were asked for count: exactly so many for each request, greedy, whatever they are.
All must give the same ones.
"""

from __future__ import annotations

import importlib
import platform
import random
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

import torch
from rich.table import Table

from autograder.bench.suite import OnStep
from autograder.errors import CourseError
from course_lib.engine import LLM, EngineParts, SamplingParams, StepRecord, checkpoint_folder
from course_lib.simulation import lognormal_lengths

MODEL = "course-tiny"
NUM_REQUESTS = 64
LONGEST_PROMPT, LONGEST_ANSWER = 256, 384
BATCH_SIZES = (8, 16, 32, 64)
BLOCK_SIZE = 16
ROUNDS = 3

SHARE_OF_SAME_ANSWERS = 0.9
"""Answers that all ways of serving must have in common."""

CONTINUOUS, ONE_BY_ONE = "continuous batching", "one by one"


class Job(NamedTuple):
    """A request of the bench.

    Attributes:
        prompt: Its prompt in tokens.
        num_tokens: How many tokens it wants, exactly.
    """

    prompt: list[int]
    num_tokens: int


Answers = list[list[int]]
"""The tokens of each job's answer, in the order of the jobs."""


@dataclass(frozen=True)
class EngineTiming:
    """How fast one way of serving is.

    Attributes:
        implementation: Who did it, and how.
        tokens_per_second: Tokens that were asked for, per second (of CPU time, or on a GPU by the
            clock); the median.
        ratio: How many times as many continuous batching makes in the same rounds; the median.
        milliseconds_per_step: Mean time of a step of the engine; None for others.
        scheduler: Share of a step's time in the scheduler, before the model runs.
        model: Share in the model.
        sampler: Share in the sampler.
        rest: Share behind it: the scheduler takes tokens in, and they become text.
    """

    implementation: str
    tokens_per_second: float
    ratio: float
    milliseconds_per_step: float | None = None
    scheduler: float | None = None
    model: float | None = None
    sampler: float | None = None
    rest: float | None = None

    def cells(self) -> tuple[str, ...]:
        """Return what a table shows: who, tokens per second, ratio, ms per step, shares."""
        shares = (self.scheduler, self.model, self.sampler, self.rest)
        step = self.milliseconds_per_step
        return (
            self.implementation,
            f"{self.tokens_per_second:,.0f}",
            f"{self.ratio:.2f}",
            "" if step is None else f"{step:.2f}",
            "  ".join(f"{100 * share:.1f}" for share in shares if share is not None),
        )


@dataclass(frozen=True)
class EngineReport:
    """What a run found, and on what.

    Attributes:
        machine: The processor and the versions.
        num_requests: Requests that were served.
        num_prompt_tokens: Tokens of all prompts.
        num_tokens: Tokens of all answers.
        rows: One per way of serving.
        notes: How to read them, and what was left out.
    """

    machine: str
    num_requests: int
    num_prompt_tokens: int
    num_tokens: int
    rows: tuple[EngineTiming, ...]
    notes: tuple[str, ...]

    def table(self) -> Table:
        """Return a table with one line per way of serving."""
        table = Table(
            title=f"course bench engine: {self.num_requests} requests, "
            f"{self.num_prompt_tokens:,} tokens in and {self.num_tokens:,} out, {MODEL}",
            caption="; ".join([self.machine, *self.notes]),
        )
        table.add_column("", no_wrap=True)
        for column in ("tokens/s", "ratio", "ms/step", "% scheduler, model, sampler, rest"):
            table.add_column(column, justify="right")
        for row in self.rows:
            table.add_row(*row.cells())
        return table


def run_engine_suite(
    on_step: OnStep = lambda done, total: None,
    rounds: int = ROUNDS,
    num_requests: int = NUM_REQUESTS,
    batch_sizes: Sequence[int] = BATCH_SIZES,
) -> EngineReport:
    """Measure the engine beside one-by-one generation and beside transformers.

    Args:
        on_step: Called with the measurements done and the measurements in all.
        rounds: How often each is measured; the median counts.
        num_requests: Requests to serve.
        batch_sizes: What transformers may choose from. All are measured once, the best in every
            round.

    Raises:
        CourseError: The ways of serving do not give the same tokens.
    """
    folder = checkpoint_folder(MODEL)
    jobs = make_jobs(num_requests)
    engine = Engine(folder, jobs)
    other, notes = padded(folder)
    if other is not None:
        other.generate(jobs[:2])
    num_measured = rounds * 2
    if other is not None:
        num_measured += len(batch_sizes) + rounds - 1
    measured = Measured(jobs, on_step, num_measured)
    with one_thread():
        engine.serve([jobs[:2]])
        sizes = batch_sizes
        for _ in range(rounds):
            for name, groups in ((CONTINUOUS, [jobs]), (ONE_BY_ONE, [[job] for job in jobs])):
                measured.add(name, partial(engine.serve, groups))
                measured.records[name] = engine.records
            if other is None:
                continue
            seconds = {
                size: measured.add(f"transformers, {size} padded", partial(other.serve, jobs, size))
                for size in sizes
            }
            sizes = [min(seconds, key=seconds.__getitem__)]
    return EngineReport(
        machine=f"{platform.processor() or platform.machine()}, one thread, "
        f"Python {platform.python_version()}, PyTorch {torch.__version__}",
        num_requests=len(jobs),
        num_prompt_tokens=sum(len(job.prompt) for job in jobs),
        num_tokens=sum(job.num_tokens for job in jobs),
        rows=measured.rows(),
        notes=("tokens per second of CPU time", "ratio: continuous batching to this", *notes),
    )


def make_jobs(num_requests: int, seed: int = 0) -> list[Job]:
    """Return requests whose prompts and answers are of mixed lengths.

    Lengths are lognormal. The mean is 1.6 times the median: most are short, and some are long.

    Args:
        num_requests: How many.
        seed: Where the random numbers start.

    >>> jobs = make_jobs(64)
    >>> min(job.num_tokens for job in jobs), max(job.num_tokens for job in jobs)
    (4, 384)
    """
    rng = random.Random(seed)
    prompt_lens = lognormal_lengths(64, 40, num_requests, 2 * seed).tolist()
    answer_lens = lognormal_lengths(96, 60, num_requests, 2 * seed + 1).tolist()
    return [
        Job(
            [rng.randrange(3, 512) for _ in range(min(prompt_len, LONGEST_PROMPT))],
            min(answer_len, LONGEST_ANSWER),
        )
        for prompt_len, answer_len in zip(prompt_lens, answer_lens, strict=True)
    ]


class Engine:
    """The engine of this course, with a cache that all jobs fit in.

    Args:
        folder: The checkpoint.
        jobs: What it will serve.
        device: Where it runs.
        dtype: Of weights, keys and values.

    Attributes:
        records: The steps of the newest round.
    """

    def __init__(
        self,
        folder: Path,
        jobs: Sequence[Job],
        device: str = "cpu",
        dtype: torch.dtype = torch.float32,
    ) -> None:
        lens = (len(job.prompt) + job.num_tokens for job in jobs)
        self.records: list[StepRecord] = []
        # Every round serves the same prompts: what one has left in a cache would help the next.
        self._llm = LLM(
            folder,
            num_blocks=1 + sum(-(-length // BLOCK_SIZE) for length in lens),
            block_size=BLOCK_SIZE,
            enable_prefix_caching=False,
            device=device,
            dtype=dtype,
            parts=EngineParts.reference(),
            max_num_seqs=len(jobs),
        )

    def serve(self, groups: Sequence[Sequence[Job]]) -> Answers:
        """Serve groups of jobs, each when the one before it is finished; keep the steps."""
        self.records = []
        answers: Answers = []
        for group in groups:
            found: dict[str, list[int]] = {}
            for index, job in enumerate(group):
                params = SamplingParams(temperature=0, max_tokens=job.num_tokens, ignore_eos=True)
                self._llm.add_request(str(index), job.prompt, params)
            while self._llm.has_unfinished_requests():
                for output in self._llm.step():
                    if output.finished:
                        found[output.request_id] = output.outputs[0].token_ids
                if self._llm.last_step is not None:
                    self.records.append(self._llm.last_step)
            answers += [found[str(index)] for index in range(len(group))]
        return answers


class Padded:
    """Batched generation with transformers."""

    def __init__(self, transformers: Any, folder: Path) -> None:
        transformers.utils.logging.disable_progress_bar()
        self._model = transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
        self._model.generation_config.eos_token_id = None

    def serve(self, jobs: Sequence[Job], batch_size: int) -> Answers:
        """Serve jobs in batches of prompts of similar lengths."""
        order = sorted(range(len(jobs)), key=lambda index: len(jobs[index].prompt))
        answers: Answers = [[] for _ in jobs]
        for start in range(0, len(order), batch_size):
            batch = order[start : start + batch_size]
            found = self.generate([jobs[index] for index in batch])
            for index, answer in zip(batch, found, strict=True):
                answers[index] = answer
        return answers

    def generate(self, jobs: Sequence[Job]) -> Answers:
        """Serve one batch, padded at the left, until its longest answer is complete."""
        width = max(len(job.prompt) for job in jobs)
        gaps = [width - len(job.prompt) for job in jobs]
        rows = [[0] * gap + job.prompt for gap, job in zip(gaps, jobs, strict=True)]
        mask = [[0] * gap + [1] * (width - gap) for gap in gaps]
        with torch.inference_mode():
            found = self._model.generate(
                torch.tensor(rows),
                attention_mask=torch.tensor(mask),
                max_new_tokens=max(job.num_tokens for job in jobs),
                do_sample=False,
                pad_token_id=0,
            )
        answers = found[:, width:].tolist()
        return [answer[: job.num_tokens] for answer, job in zip(answers, jobs, strict=True)]


class Measured:
    """The rounds of a run.

    Args:
        jobs: What is served.
        on_step: Called with the measurements done and the measurements in all.
        total: The measurements in all.
        clock: Tells the time, in seconds.
        share_of_same_answers: Answers that all ways of serving must have in common.

    Attributes:
        records: Steps of the engine, by who served.
    """

    def __init__(
        self,
        jobs: Sequence[Job],
        on_step: OnStep,
        total: int,
        clock: Callable[[], float] = time.process_time,
        share_of_same_answers: float = SHARE_OF_SAME_ANSWERS,
    ) -> None:
        self.records: dict[str, list[StepRecord]] = {}
        self._num_tokens = sum(job.num_tokens for job in jobs)
        self._on_step = on_step
        self._total = total
        self._clock = clock
        self._share_of_same_answers = share_of_same_answers
        self._num_done = 0
        self._first: Answers = []
        # Seconds of each round, by who served.
        self._seconds: dict[str, list[float]] = {}

    def add(self, name: str, serve: Callable[[], Answers]) -> float:
        """Measure a round; return its time in seconds."""
        start = self._clock()
        answers = serve()
        seconds = self._clock() - start
        self._first = self._first or answers
        require_same(self._first, answers, name, self._share_of_same_answers)
        self._seconds.setdefault(name, []).append(seconds)
        self._num_done += 1
        self._on_step(self._num_done, self._total)
        return seconds

    def rows(self) -> tuple[EngineTiming, ...]:
        """Return the medians of all rounds."""
        return tuple(self._row(name) for name in self._seconds)

    def _row(self, name: str) -> EngineTiming:
        """Return the medians of one way of serving."""
        seconds = self._seconds[name]
        ratios = [a / b for a, b in zip(seconds, self._seconds[CONTINUOUS], strict=False)]
        rate = self._num_tokens / statistics.median(seconds)
        timing = EngineTiming(name, rate, statistics.median(ratios))
        records = self.records.get(name)
        if not records:
            return timing
        times = [(r.started, r.scheduled, r.computed, r.sampled_at, r.finished) for r in records]
        parts = [sum(gaps) for gaps in zip(*(_gaps(each) for each in times), strict=True)]
        scheduler, model, sampler, rest = (part / sum(parts) for part in parts)
        return replace(
            timing,
            milliseconds_per_step=1e3 * statistics.median(seconds) / len(records),
            scheduler=scheduler,
            model=model,
            sampler=sampler,
            rest=rest,
        )


def require_same(
    first: Answers, answers: Answers, name: str, share: float = SHARE_OF_SAME_ANSWERS
) -> None:
    """Raise a CourseError unless all answers are as long, and nearly all are the same.

    Not all of them: who adds up in another order may find another of two tokens that are equally
    probable, and goes on from there.

    Args:
        first: The answers to compare with.
        answers: The answers of somebody else.
        name: Who that is.
        share: How many of them must be the same, between 0 and 1.
    """
    if [len(answer) for answer in first] != [len(answer) for answer in answers]:
        raise CourseError(
            f"{name} gives answers of other lengths; its speed would be that of other work"
        )
    num_same = sum(one == other for one, other in zip(first, answers, strict=True))
    if num_same < share * len(first):
        raise CourseError(
            f"{name} gives {num_same} of {len(first)} answers as the engine does; its speed would "
            "be that of other work"
        )


def _gaps(times: Sequence[float]) -> list[float]:
    """Return the time from each moment to the next."""
    return [later - earlier for earlier, later in pairwise(times)]


def padded(folder: Path) -> tuple[Padded | None, tuple[str, ...]]:
    """Return what generates with transformers, or None and a note that says why not."""
    try:
        return Padded(importlib.import_module("transformers"), folder), (
            "transformers: batches of prompts sorted by length; the best size in every round",
        )
    except ImportError as error:
        return None, (f"transformers is not measured ({error})",)


@contextmanager
def one_thread() -> Iterator[None]:
    """Let PyTorch use one thread: others that wait and spin would count as CPU time."""
    num_threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(num_threads)

"""A long random run of engine and server: ``course bench soak``.

Episode after episode, an engine of random shape (a pool too small for its clients, swap or
recomputation, any policy, with and without prefix cache) serves random clients. Some ask the
engine, others the server; some leave in the middle; some want what cannot be served. Afterwards:

- every answer is as it must be (``soak_clients``);
- the tokens of some of them are those of the model without any engine: one pass over prompt and
  answer with dense attention, and at each place the token has the best score;
- no block is held, in the pool or on the CPU, and nothing is left of any request;
- the process is no larger than it was in the episodes before.

The seed decides what is asked. When it meets what else runs, threads decide.
"""

from __future__ import annotations

import asyncio
import gc
import math
import os
import platform
import random
import resource
import statistics
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from rich.table import Table

from autograder.bench.soak_clients import (
    MODEL,
    Outcome,
    WrongAnswerError,
    ask_engine,
    ask_server,
    draw_visit,
    without_truncation,
)
from autograder.bench.suite import OnStep
from course_lib.engine import LLM, EngineParts, SamplingParams, checkpoint_folder
from course_lib.engine.answer import AnswerGroup
from course_lib.engine.checkpoint import load_checkpoint
from course_lib.engine.core import EngineDeadError
from course_lib.engine.memory_tracker import MemoryTracker
from course_lib.engine.model import LlamaModel, dense_causal
from course_lib.engine.outputs import RequestOutput
from course_lib.engine.request import EngineRequest
from course_lib.engine.sampler import SamplingRow, gumbel_noise, penalise, random_stream
from course_lib.engine.serve.async_engine import AsyncEngine, OutputStream
from course_lib.engine.serve.server import make_app

MINUTES = 20.0
CLIENTS = 40
EPISODE_SECONDS = 300.0
"""An episode takes seconds; one that is not over after this time hangs."""

SHARE_CHECKED = 0.5
"""Share of the engine's answers whose tokens are computed again without it."""

CLOSE_ENOUGH = 0.01
"""How far a token's score may be below the best one: sums in another order are not the same."""

MEBIBYTE = 2**20
MOST_GROWTH_MIB = 24.0
FEWEST_EPISODES = 16
"""Before so many episodes nothing is said about growth: the first ones load what the others use."""

OUR_OBJECTS = (LLM, EngineRequest, AnswerGroup, OutputStream)
"""What must be gone when an engine is gone."""


@dataclass
class SoakReport:
    """What a soak found.

    Attributes:
        machine: The processor and the versions.
        seed: Where the random numbers started.
        seconds: How long it took.
        was_interrupted: Whether somebody ended it before its time.
        num_episodes: Engines that were started and ended.
        visits: How many visits were ``finished``, ``left`` and ``refused``.
        counts: Tokens, preemptions and so on, of all episodes.
        largest_gap: How far a token's score was below the best one at most.
        memory_mib: Size of the process after each episode.
        problems: What was wrong, each with its episode; empty if all was well.
    """

    machine: str
    seed: int
    seconds: float = 0.0
    was_interrupted: bool = False
    num_episodes: int = 0
    visits: dict[str, int] = field(default_factory=dict)
    counts: dict[str, int] = field(default_factory=dict)
    largest_gap: float = 0.0
    memory_mib: list[float] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)

    @property
    def growth_mib(self) -> float | None:
        """By how much the last quarter of the episodes is larger than the second one.

        None if there are too few to say.
        """
        quarter = len(self.memory_mib) // 4
        if len(self.memory_mib) < FEWEST_EPISODES:
            return None
        early = statistics.median(self.memory_mib[quarter : 2 * quarter])
        return statistics.median(self.memory_mib[-quarter:]) - early

    def table(self) -> Table:
        """Return a table with a row per figure, and one per problem."""
        ended = " (interrupted)" if self.was_interrupted else ""
        table = Table(title=f"course bench soak: seed {self.seed}{ended}", caption=self.machine)
        table.add_column("")
        table.add_column("", justify="right")
        growth = self.growth_mib
        rows: list[tuple[str, object]] = [
            ("seconds", f"{self.seconds:,.0f}"),
            ("episodes", self.num_episodes),
            *((f"requests {name}", f"{count:,}") for name, count in sorted(self.visits.items())),
            *((name, f"{count:,}") for name, count in sorted(self.counts.items())),
            ("largest gap of a token's score", f"{self.largest_gap:.5f}"),
            ("memory after the last episode, MiB", f"{(self.memory_mib or [0])[-1]:,.0f}"),
            ("memory growth, MiB", "too short to say" if growth is None else f"{growth:+.1f}"),
            ("problems", len(self.problems)),
        ]
        for name, value in rows:
            table.add_row(name, str(value))
        for problem in self.problems:
            table.add_row(problem, "")
        return table


def run_soak_suite(
    on_step: OnStep = lambda done, total: None,
    minutes: float = MINUTES,
    seed: int | None = None,
    num_clients: int = CLIENTS,
) -> SoakReport:
    """Run episodes until the time is over; what a Ctrl-C cuts short is not counted.

    Args:
        on_step: Called after each episode with the seconds done and the seconds in all.
        minutes: How long to go on. At least one episode is run.
        seed: Where the random numbers start; None for a new one each time.
        num_clients: Clients of each episode.
    """
    if seed is None:
        seed = random.SystemRandom().randrange(10**6)
    report = SoakReport(
        f"{platform.processor() or platform.machine()}, Python {platform.python_version()}, "
        f"PyTorch {torch.__version__}",
        seed,
    )
    model = load_checkpoint(checkpoint_folder("course-tiny"), dtype=torch.float32, device="cpu")
    total, start = max(round(60 * minutes), 1), time.monotonic()
    try:
        while not report.num_episodes or report.seconds < 60 * minutes:
            run_episode(report, model, num_clients)
            report.seconds = time.monotonic() - start
            on_step(min(math.ceil(report.seconds), total), total)
    except KeyboardInterrupt:
        report.was_interrupted = True
    growth = report.growth_mib
    if growth is not None and growth > MOST_GROWTH_MIB:
        report.problems.append(f"the process has grown by {growth:.0f} MiB")
    return report


def run_episode(report: SoakReport, model: LlamaModel, num_clients: int) -> None:
    """Start an engine, serve clients, look at what is left, and add it to a report.

    Args:
        report: What was found so far.
        model: The model by itself, to compute some of the answers again.
        num_clients: How many clients come.
    """
    index = report.num_episodes
    rng = random.Random(f"{report.seed} {index}")
    options = draw_options(rng)
    not_ours = our_objects()
    llm = LLM(
        checkpoint_folder("course-tiny"), device="cpu", parts=EngineParts.reference(), **options
    )
    problems: list[str] = []
    outcomes: list[Outcome] = []
    try:
        outcomes = asyncio.run(_serve(llm, rng, num_clients, problems))
    except TimeoutError:
        problems.append(f"it is not over after {EPISODE_SECONDS:.0f} seconds")
    else:
        problems += find_leaks(llm)
    gaps = [
        largest_gap(model, outcome.answer, outcome.visit.params)
        for outcome in outcomes
        if outcome.answer is not None and without_truncation(outcome.visit.params)
        if rng.random() < SHARE_CHECKED
    ]
    if max(gaps, default=0.0) > CLOSE_ENOUGH:
        problems.append(f"a token's score is {max(gaps):.3f} below the best one")
    counts = _counts_of(llm, outcomes) | {"answers computed again": len(gaps)}
    del llm
    # They are still held, so that no object of this episode has the id of one of them.
    known = set(map(id, not_ours))
    left = Counter(type(each).__name__ for each in our_objects() if id(each) not in known)
    if left:
        problems.append(f"objects are left of an engine that is gone: {dict(left)}")
    report.problems += [f"episode {index}, {options}: {problem}" for problem in problems]
    report.visits = _sum(report.visits, Counter(outcome.ended for outcome in outcomes))
    report.counts = _sum(report.counts, counts)
    report.largest_gap = max([report.largest_gap, *gaps])
    report.memory_mib.append(process_bytes() / MEBIBYTE)
    report.num_episodes += 1


def our_objects() -> list[object]:
    """Return what there is of any engine in this process, once what nobody holds is gone."""
    gc.collect()
    # By type(): isinstance() asks objects for their class, and some answer with a warning.
    return [each for each in gc.get_objects() if type(each) in OUR_OBJECTS]


def draw_options(rng: random.Random) -> dict[str, Any]:
    """Return random options of an engine, its pool smaller than what its clients want."""
    block_size = rng.choice([1, 4, 16])
    num_blocks = 1 + rng.randint(64, 320) // block_size
    preemption_mode = rng.choice(["recompute", "swap"])
    return {
        "block_size": block_size,
        "num_blocks": num_blocks,
        "enable_prefix_caching": rng.random() < 0.7,
        "policy": rng.choice(["fcfs", "priority", "ageing", "sjf", "srpt", "vtc", "wfq"]),
        "preemption_mode": preemption_mode,
        "num_cpu_blocks": rng.randint(0, num_blocks) if preemption_mode == "swap" else 0,
        "max_num_seqs": rng.randint(1, 24),
        "max_num_batched_tokens": rng.choice([8, 64, 512]),
        "long_prefill_token_threshold": rng.choice([0, 0, 16]),
        "watermark": rng.choice([0.0, 0.0, 0.05]),
        "max_model_len": rng.choice([None, 64, 128]),
        "debug": rng.random() < 0.3,
    }


async def _serve(
    llm: LLM, rng: random.Random, num_clients: int, problems: list[str]
) -> list[Outcome]:
    """Serve random clients, all at once, and return what became of them.

    Args:
        llm: The engine.
        rng: Where the random numbers come from.
        num_clients: How many clients come.
        problems: Takes what is wrong.
    """
    app = make_app(llm, MODEL)
    engine: AsyncEngine = app.state.engine
    longest = llm.scheduler.max_model_len
    visits = [draw_visit(rng, f"client {number}", longest) for number in range(num_clients)]

    async def come(visit: Any) -> Outcome | None:
        await asyncio.sleep(visit.waits)
        try:
            if visit.asks_server:
                return await ask_server(app, visit)
            return await ask_engine(engine, visit)
        except (WrongAnswerError, EngineDeadError) as error:
            problems.append(f"{visit.name}, {visit}: {error}")
            return None

    async with asyncio.timeout(EPISODE_SECONDS), app.router.lifespan_context(app):
        outcomes = await asyncio.gather(*map(come, visits))
        # What clients who left have asked for is aborted between two steps.
        await engine.inspect(lambda llm: None)
    return [outcome for outcome in outcomes if outcome is not None]


def find_leaks(llm: LLM) -> list[str]:
    """Return what an engine still has although all its requests are over, in words."""
    scheduler, manager = llm.scheduler, llm.kv_cache_manager
    leaked = MemoryTracker(manager, bytes_per_block=1).report(live=()).leaked
    pool = manager.block_pool
    num_swapped = scheduler.config.num_cpu_blocks - len(scheduler.swap_space.free_blocks)
    left = {
        "blocks": leaked,
        "blocks that are not free": pool.num_blocks - 1 - pool.get_num_free_blocks(),
        "blocks on the CPU": num_swapped,
        "requests": sorted(scheduler.requests),
        "running": len(scheduler.running),
        "waiting": len(scheduler.waiting),
        "swapped": len(scheduler.swapped),
        "unfinished": llm.has_unfinished_requests(),
    }
    return [f"{name} left: {value}" for name, value in left.items() if value]


def largest_gap(model: LlamaModel, answer: RequestOutput, params: SamplingParams) -> float:
    """Return how far a token's score is below the best score at its place, at most.

    The scores are computed anew, for the whole answer in one pass and without a cache.

    Args:
        model: The model.
        answer: What the engine answered.
        params: What was asked of its sampler, with a seed; ``top_p``, ``top_k`` and ``min_p`` are
            off unless it is greedy.
    """
    gap = 0.0
    for output in answer.outputs:
        num_prompt, tokens = len(answer.prompt_token_ids), output.token_ids
        known = torch.tensor([*answer.prompt_token_ids, *tokens])
        with torch.inference_mode():
            places = torch.arange(len(known) - 1)
            hidden = model(known[:-1], places, dense_causal(num_sequences=1))
            logits = model.logits(hidden[num_prompt - 1 :])
            seen = torch.zeros(len(tokens), logits.shape[1], dtype=torch.bool)
            for place in range(len(tokens)):
                seen[place, known[: num_prompt + place]] = True
            stream = random_stream(params.seed or 0, output.index)
            rows = [SamplingRow(params, stream, i, seen[i]) for i in range(len(tokens))]
            scores = penalise(logits, rows)
            if not params.is_greedy:
                scores = scores / params.temperature
                scores += gumbel_noise([stream] * len(rows), range(len(rows)), scores)
            chosen = scores.gather(1, known[num_prompt:, None])[:, 0]
            gap = max(gap, float((scores.amax(dim=-1) - chosen).max()))
    return gap


def _sum(first: Mapping[str, int], second: Mapping[str, int]) -> dict[str, int]:
    """Return the sums of two tables of counts, zeros included."""
    return {name: first.get(name, 0) + second.get(name, 0) for name in {**first, **second}}


def process_bytes() -> int:
    """Return the memory that this process has now; where that is not told, the most it ever had."""
    statm = Path("/proc/self/statm")
    if statm.is_file():
        return int(statm.read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return most if platform.system() == "Darwin" else most * 1024


def _counts_of(llm: LLM, outcomes: Sequence[Outcome]) -> dict[str, int]:
    """Return what an episode has seen, by name."""
    metrics = llm.metrics
    return {
        "steps": metrics.num_steps,
        "tokens generated": metrics.generation_tokens,
        "tokens that clients saw": sum(outcome.num_tokens for outcome in outcomes),
        "preemptions": metrics.num_preemptions,
        "prompt tokens from the prefix cache": metrics.prefix_cache_hits,
        "blocks copied on write": metrics.num_block_copies,
        "requests aborted": metrics.finished["abort"],
    }

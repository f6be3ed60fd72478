"""How fast the library is: ``course bench``.

Every figure is a number of operations per second of CPU time, the median over several rounds.
Within a round all implementations of a case run one after the other, so that a busy or throttled
machine slows all of them alike. What is compared is measured in the same run.
"""

from __future__ import annotations

import importlib
import json
import platform
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from itertools import chain
from pathlib import Path
from random import Random
from typing import Any, Protocol

import numpy as np
from rich.table import Table

from autograder.errors import CourseError
from course_lib.kv_cache import BlockPool, FreeKVCacheBlockQueue, KVCacheManager, PlainRequest
from course_lib.kv_cache.block_table import BlockTable, pad_block_tables, slot_mapping
from course_lib.scheduling.timing import scheduler_steps

BLOCKS_IN_POOL = 10_000
BLOCK_SIZE = 16
BLOCKS_FOR_ADMISSION = 2000
PROMPT_TOKENS = 4096
ROUNDS = 9


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

    def write_json(self, path: Path) -> None:
        """Write the report to a file."""
        path.write_text(json.dumps(asdict(self), indent=2) + "\n", encoding="utf-8")


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


class Presentable(Protocol):
    """What every suite returns."""

    def table(self) -> Table:
        """Return what to show."""

    def write_json(self, path: Path) -> None:
        """Write the figures to a file."""


def measure(name: str, on_step: Callable[[int, int], None]) -> Presentable:
    """Run the suite of this name.

    Args:
        name: A key of ``SUITES``.
        on_step: Called with the steps done and the steps in all.

    Raises:
        CourseError: There is no such suite, or it cannot run here.
    """
    if name not in SUITES:
        raise CourseError(f"there is no suite {name!r}; choose one of: {', '.join(SUITES)}")
    return SUITES[name](on_step)


def run_core_suite(
    on_step: Callable[[int, int], None] = lambda done, total: None, rounds: int = ROUNDS
) -> Report:
    """Measure the scheduler's side of the engine, as ``core_suite`` describes it.

    Args:
        on_step: Called with the steps done and the steps in all.
        rounds: How often each case is measured; the median counts.
    """
    return run_suite("core", core_suite(), on_step, rounds)


def run_kernels_suite(on_step: Callable[[int, int], None]) -> Presentable:
    """Time the attention kernels; torch is imported only now."""
    from autograder.bench import kernels as bench_kernels

    return bench_kernels.run_kernels_suite(on_step)


def run_simulator_suite(on_step: Callable[[int, int], None]) -> Presentable:
    """Measure the simulator; its traces are read only now."""
    from autograder.bench import simulator as bench_simulator

    return bench_simulator.run_simulator_suite(on_step)


def run_engine_suite(on_step: Callable[[int, int], None]) -> Presentable:
    """Measure the engine; torch is imported only now."""
    from autograder.bench import engine as bench_engine

    return bench_engine.run_engine_suite(on_step)


SUITES: dict[str, Callable[[Callable[[int, int], None]], Presentable]] = {
    "core": run_core_suite,
    "kernels": run_kernels_suite,
    "simulator": run_simulator_suite,
    "engine": run_engine_suite,
}
"""What can be measured, by name."""


def run_suite(
    name: str, suite: Suite, on_step: Callable[[int, int], None], rounds: int = ROUNDS
) -> Report:
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


def core_suite() -> Suite:
    """Return the cases of the scheduler's side of the engine.

    - pool: allocate some blocks at a time and free them; a pair is one operation;
    - admission: look a prompt up in the prefix cache, hashing included, and allocate for it. A hit
      finds all of it but the last block; a miss finds nothing;
    - slot mapping: translate the new tokens of a ragged batch to slots, once;
    - scheduler: plan a step of a batch that only decodes, and take in its tokens.
    """
    vllm_pool, notes = _vllm_pool()
    vllm = None
    if vllm_pool is not None:
        vllm, notes = _vllm_engine()
    cases = []
    for enable_caching in (True, False):
        makers: dict[str, Callable[[], Any]] = {
            "course": partial(BlockPool, BLOCKS_IN_POOL, enable_caching),
            "linked list": partial(
                BlockPool, BLOCKS_IN_POOL, enable_caching, free_queue=FreeKVCacheBlockQueue
            ),
            "list and set": partial(ListAndSetPool, BLOCKS_IN_POOL),
        }
        if vllm_pool is not None:
            makers["vLLM"] = partial(vllm_pool, BLOCKS_IN_POOL, enable_caching, BLOCK_SIZE)
        caching = "on" if enable_caching else "off"
        for num_blocks in (1, 8, 64):
            contenders: dict[str, Contender] = {
                implementation: partial(_pairs_per_second, make(), num_blocks)
                for implementation, make in makers.items()
            }
            cases.append(Case(f"pool: {num_blocks:2} at a time, caching {caching}", contenders))
    for name, shares_prefix in (("hit", True), ("miss", False)):
        admissions: dict[str, Contender] = {
            "course": partial(_admissions_per_second, shares_prefix)
        }
        if vllm is not None:
            prompts = _admission_prompts(shares_prefix)
            admissions["vLLM"] = partial(vllm.admissions_per_second, prompts, BLOCKS_FOR_ADMISSION)
        cases.append(Case(f"admission: {PROMPT_TOKENS:,} tokens, {name}", admissions))
    cases.append(slot_mapping_case(Random(0)))
    for num_running in (64, 256, 1024):
        steps: dict[str, Contender] = {"course": partial(scheduler_steps, num_running)}
        if vllm is not None:
            steps["vLLM"] = partial(vllm.scheduler_steps_per_second, num_running)
        cases.append(Case(f"scheduler: {num_running:5,} decodes", steps))
    return Suite(cases, notes)


def slot_mapping_case(rng: Random, num_seqs: int = 256, block_size: int = BLOCK_SIZE) -> Case:
    """Return the translation of a ragged batch: all tokens at once, and token by token.

    Each sequence has up to 1,000 tokens of context and up to 40 new ones.

    Args:
        rng: Draws the batch.
        num_seqs: Sequences in it.
        block_size: Tokens per block.
    """
    contexts = [rng.randint(0, 1000) for _ in range(num_seqs)]
    ends = [context + rng.randint(0, 40) for context in contexts]
    ids = iter(rng.sample(range(100_000), 100_000))
    tables = [BlockTable(block_size) for _ in range(num_seqs)]
    for table, end in zip(tables, ends, strict=True):
        table.append(next(ids) for _ in range(-(-end // block_size)))
    spans = [range(context, end) for context, end in zip(contexts, ends, strict=True)]
    tokens = [(table, p) for table, span in zip(tables, spans, strict=True) for p in span]
    padded = pad_block_tables([table.ids for table in tables])
    starts = np.cumsum([0, *map(len, spans)])
    positions = np.fromiter(chain(*spans), dtype=np.int64)

    def token_by_token() -> None:
        for table, position in tokens:
            table.slot(position)

    def all_at_once() -> None:
        slot_mapping(padded, starts, positions, block_size)

    return Case(
        f"slot mapping of {num_seqs} sequences",
        {
            "course": partial(_calls_per_second, all_at_once, 500),
            "token by token": partial(_calls_per_second, token_by_token, 20),
        },
    )


def _calls_per_second(call: Callable[[], None], num_calls: int) -> float:
    """Measure a function without arguments."""
    start = time.process_time()
    for _ in range(num_calls):
        call()
    return num_calls / (time.process_time() - start)


class ListAndSetPool:
    """The pool that one writes first: a list of free ids and a set of those in use.

    It has no reference counts, no prefix cache and no blocks, only ids: a baseline.

    >>> pool = ListAndSetPool(num_blocks=5)
    >>> pool.free_blocks(pool.get_new_blocks(2))
    >>> pool.get_new_blocks(3)
    [1, 2, 3]
    """

    def __init__(self, num_blocks: int) -> None:
        self._free = list(range(1, num_blocks))
        self._in_use: set[int] = set()

    def get_new_blocks(self, num_blocks: int) -> list[int]:
        """Take ids from the front of the list."""
        if num_blocks > len(self._free):
            raise ValueError(f"requested {num_blocks} blocks but only {len(self._free)} are free")
        block_ids = [self._free.pop(0) for _ in range(num_blocks)]
        self._in_use.update(block_ids)
        return block_ids

    def free_blocks(self, block_ids: Sequence[int]) -> None:
        """Put ids back at the front of the list."""
        for block_id in block_ids:
            if block_id not in self._in_use:
                raise ValueError(f"block {block_id} is freed but nobody holds it")
            self._in_use.remove(block_id)
        self._free[:0] = block_ids


def _pairs_per_second(pool: Any, num_blocks: int) -> float:
    """Measure allocating and freeing, again and again."""
    allocate, free = pool.get_new_blocks, pool.free_blocks
    num_pairs = 60_000 // (num_blocks + 2)
    start = time.process_time()
    for _ in range(num_pairs):
        free(allocate(num_blocks))
    return num_pairs / (time.process_time() - start)


def _admissions_per_second(shares_prefix: bool) -> float:
    """Measure looking a prompt up and allocating for it; freeing it is not counted.

    Args:
        shares_prefix: Whether the same prompt was admitted before, or never.
    """
    manager = KVCacheManager(BLOCKS_FOR_ADMISSION, BLOCK_SIZE)
    prompts = _admission_prompts(shares_prefix)
    seconds = 0.0
    for index, prompt in enumerate(prompts):
        request = PlainRequest(str(index), prompt)
        start = time.process_time()
        blocks, num_computed = manager.get_computed_blocks(request)
        manager.allocate_slots(request, PROMPT_TOKENS - num_computed, num_computed, blocks)
        if index > 0:  # The first one warms the cache up.
            seconds += time.process_time() - start
        manager.free(request)
    return (len(prompts) - 1) / seconds


def _admission_prompts(shares_prefix: bool) -> list[list[int]]:
    """Return one prompt many times, or as many that differ from their first token on."""
    rng = Random(0)
    prompt = [rng.randrange(100_000) for _ in range(PROMPT_TOKENS)]
    firsts = (prompt[0] if shares_prefix else 100_000 + index for index in range(31))
    return [[first, *prompt[1:]] for first in firsts]


def _vllm_pool() -> tuple[Callable[..., Any] | None, tuple[str, ...]]:
    """Return vLLM's own pool, or None and a note that says why not."""
    try:
        return importlib.import_module("vllm.v1.core.block_pool").BlockPool, ()
    except ImportError as error:
        return None, (f"vLLM is not measured ({error})",)


def _vllm_engine() -> tuple[Any, tuple[str, ...]]:
    """Return what measures vLLM's scheduler and manager, or None and a note that says why not."""
    try:
        from autograder.bench import vllm as bench_vllm

        bench_vllm.scheduler_steps_per_second(num_running=1, num_steps=1)
    except (ImportError, AttributeError, TypeError, ValueError) as error:
        reason = str(error).splitlines()[0]
        return None, (f"of vLLM only the pool is measured, this version is unknown ({reason})",)
    return bench_vllm, ()

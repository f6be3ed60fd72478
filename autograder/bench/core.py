"""How fast the scheduler's side of the engine is: the cases of ``course bench core``."""

from __future__ import annotations

import importlib
import time
from collections.abc import Callable, Sequence
from functools import partial
from itertools import chain
from random import Random
from typing import Any

import numpy as np

from autograder.bench.suite import ROUNDS, Case, Contender, OnStep, Report, Suite, run_suite
from course_lib.kv_cache import BlockPool, FreeKVCacheBlockQueue, KVCacheManager, PlainRequest
from course_lib.kv_cache.block_table import BlockTable, pad_block_tables, slot_mapping
from course_lib.scheduling.timing import scheduler_steps

BLOCKS_IN_POOL = 10_000
BLOCK_SIZE = 16
BLOCKS_FOR_ADMISSION = 2000
PROMPT_TOKENS = 4096


def run_core_suite(on_step: OnStep = lambda done, total: None, rounds: int = ROUNDS) -> Report:
    """Measure the scheduler's side of the engine, as ``core_suite`` describes it.

    Args:
        on_step: Called with the steps done and the steps in all.
        rounds: How often each case is measured; the median counts.
    """
    return run_suite("core", core_suite(), on_step, rounds)


def core_suite() -> Suite:
    """Return the cases of the scheduler's side of the engine.

    - pool: allocate some blocks at a time and free them; a pair is one operation;
    - admission: look a prompt up in the prefix cache, hashing included, and allocate for it. A hit
      finds all of it but the last block; a miss finds nothing;
    - slot mapping: translate the new tokens of a ragged batch to slots, once, and those of a batch
      that only decodes. An engine has some 50 µs for that: 20,000 translations a second;
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
    cases.append(slot_mapping_case("sequences", Random(0)))
    cases.append(slot_mapping_case("decodes", Random(0), new_tokens=range(1, 2)))
    for num_running in (64, 256, 1024):
        steps: dict[str, Contender] = {"course": partial(scheduler_steps, num_running)}
        if vllm is not None:
            steps["vLLM"] = partial(vllm.scheduler_steps_per_second, num_running)
        cases.append(Case(f"scheduler: {num_running:5,} decodes", steps))
    return Suite(cases, notes)


def slot_mapping_case(
    what: str,
    rng: Random,
    num_seqs: int = 256,
    block_size: int = BLOCK_SIZE,
    new_tokens: range = range(41),
) -> Case:
    """Return the translation of a ragged batch: all tokens at once, and token by token.

    Each sequence has up to 1,000 tokens of context.

    Args:
        what: What the sequences are called in the name of the case.
        rng: Draws the batch.
        num_seqs: Sequences in it.
        block_size: Tokens per block.
        new_tokens: How many new tokens a sequence may have.
    """
    contexts = [rng.randint(0, 1000) for _ in range(num_seqs)]
    ends = [context + rng.choice(new_tokens) for context in contexts]
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
        f"slot mapping of {num_seqs} {what}",
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

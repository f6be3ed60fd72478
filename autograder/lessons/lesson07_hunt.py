"""Lesson 7: the hunt and the measurement. Ways to give blocks back, and traces that tell."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache
from typing import Any

import numpy as np

from autograder.checks.compare import within
from autograder.checks.finding import Misconception
from course_lib.kv_cache.block_pool import BlockPool
from course_lib.kv_cache.metrics import CacheStats
from course_lib.kv_cache.watch.invariants import find_violations
from course_lib.scheduling.scheduler import SchedulerConfig
from course_lib.simulation.cost_model import RooflineCostModel
from course_lib.simulation.simulator import Simulator
from course_lib.simulation.workload import load_azure
from course_lib.specs import GPUS, MODELS

NUM_BLOCKS = 9
"""Blocks of the pool that a trace of the hunt runs on."""

# 7.8, the hunt

Free = Callable[[BlockPool, Sequence[int]], list[int]]
"""Gives blocks back by their ids; returns the ids in the free queue, front first."""


def free_as_before(pool: BlockPool, block_ids: Sequence[int]) -> list[int]:
    """Give blocks back; return the ids in the free queue, front first."""
    front, back = [], []
    for block_id in block_ids:
        block = pool.blocks[block_id]
        block.ref_cnt -= 1
        if block.ref_cnt == 0:
            if block.block_hash is None:
                front.append(block)
            else:
                back.append(block)
    pool.free_block_queue.prepend_n(front)
    pool.free_block_queue.append_n(back)
    return [block.block_id for block in pool.free_block_queue]


def free_cleaned_up(pool: BlockPool, block_ids: Sequence[int]) -> list[int]:
    """Give blocks back; return the ids in the free queue, front first."""
    front, back = [], []
    for block_id in block_ids:
        block = pool.blocks[block_id]
        block.ref_cnt -= 1
        if block.ref_cnt == 0:
            # Without caching no block has a hash, and there is nothing to sort.
            if pool.enable_caching and block.block_hash is None:
                front.append(block)
            else:
                back.append(block)
    pool.free_block_queue.prepend_n(front)
    pool.free_block_queue.append_n(back)
    return [block.block_id for block in pool.free_block_queue]


def free_blocks_a(pool: BlockPool, block_ids: Sequence[int]) -> list[int]:
    """Give blocks back; return the ids in the free queue, front first."""
    freed = [pool.blocks[block_id] for block_id in block_ids]
    for block in freed:
        block.ref_cnt -= 1
    if not pool.enable_caching:
        pool.free_block_queue.prepend_n(freed)
    else:
        idle = [block for block in freed if block.ref_cnt == 0]
        pool.free_block_queue.prepend_n([b for b in idle if b.block_hash is None])
        pool.free_block_queue.append_n([b for b in idle if b.block_hash is not None])
    return [block.block_id for block in pool.free_block_queue]


def free_blocks_b(pool: BlockPool, block_ids: Sequence[int]) -> list[int]:
    """Give blocks back; return the ids in the free queue, front first."""
    front, back = [], []
    for block_id in block_ids:
        block = pool.blocks[block_id]
        block.ref_cnt -= 1
        if block.ref_cnt == 0:
            if block.block_hash is None or not pool.enable_caching:
                front.append(block)
            else:
                back.append(block)
    pool.free_block_queue.prepend_n(front)
    pool.free_block_queue.append_n(back)
    return [block.block_id for block in pool.free_block_queue]


def run_suite(free: Callable[..., list[int]]) -> list[str]:
    """Return one text for each test that a way to give blocks back does not pass.

    >>> run_suite(free_as_before), run_suite(free_cleaned_up)
    ([], [])
    """
    complaints = []
    for enable_caching in (True, False):
        pool = BlockPool(9, enable_caching)
        held = pool.get_new_blocks(5)
        shared = held[:2] if enable_caching else []
        pool.touch(shared)
        free(pool, [5, 4, 3, 2, 1])
        if sum(block.ref_cnt for block in pool.blocks) != len(shared):
            complaints.append("each block has one holder less")
        if pool.get_num_free_blocks() != 8 - len(shared) or find_violations(pool):
            complaints.append("what nobody holds is free, once")
    pool = BlockPool(9)
    pool.cache_full_blocks(pool.get_new_blocks(4)[:3], [b"a", b"b", b"c"])
    if free(pool, [4, 3, 2, 1]) != [4, 5, 6, 7, 8, 3, 2, 1]:
        complaints.append("with caching, prefixes are at the back, in the order given")
    return complaints


def _without_numpy(trace: Any) -> Any:
    """Return a trace with Python's numbers and lists in the place of NumPy's."""

    def plain(value: Any) -> Any:
        return value.tolist() if isinstance(value, (np.generic, np.ndarray)) else value

    def each_plain(values: Any) -> Any:
        values = plain(values)
        return [plain(each) for each in values] if isinstance(values, (list, tuple)) else values

    if not isinstance(trace, dict):
        return trace
    plainer = {key: plain(value) for key, value in trace.items()}
    steps = plainer.get("steps")
    if isinstance(steps, (list, tuple)):
        plainer["steps"] = [each_plain(step) for step in steps]
    return plainer


def play(free: Free, trace: Any) -> list[list[int]]:
    """Run a trace; return the ids that each take got.

    Args:
        free: The way to give blocks back.
        trace: ``{"caching": ..., "steps": [...]}``: a number takes so many blocks, a list of ids
            gives those back.

    Raises:
        ValueError: A step takes what is not there, or gives a block back more often than it is
            held.

    >>> play(free_as_before, {"caching": False, "steps": [2, [1], 1]})
    [[1, 2], [1]]
    """
    trace = _without_numpy(trace)
    pool = BlockPool(NUM_BLOCKS, trace["caching"])
    taken = []
    for number, step in enumerate(trace["steps"], 1):
        if type(step) is int:
            taken.append([block.block_id for block in pool.get_new_blocks(step)])
            continue
        for block_id in step:
            if step.count(block_id) > pool.blocks[block_id].ref_cnt:
                raise ValueError(
                    f"step {number} gives back block {block_id} more often than it is held"
                )
        free(pool, step)
    return taken


def _form_of_a_trace(trace: Any) -> str | None:
    """Say why a value is no trace, if it is none."""
    if not isinstance(trace, dict) or not {"caching", "steps"} <= set(trace):
        return 'a case is a dict with the keys "caching" and "steps"'
    if type(trace["caching"]) is not bool:
        return f'"caching" is True or False, not {trace["caching"]!r}'
    steps = trace["steps"]
    if not isinstance(steps, (list, tuple)) or not steps or len(steps) > 100:
        return '"steps" is a list of at least 1 and at most 100 steps'
    for step in steps:
        is_take = type(step) is int and step >= 0
        is_free = isinstance(step, (list, tuple)) and all(
            type(block_id) is int and 0 < block_id < NUM_BLOCKS for block_id in step
        )
        if not is_take and not is_free:
            return f"a step is a number of blocks, or a list of ids from 1 to 8, not {step!r}"
    return None


def tells_them_apart(_: Any, trace: Any) -> str | None:
    """Agree with a trace in which the two ways hand out other blocks."""
    trace = _without_numpy(trace)
    complaint = _form_of_a_trace(trace)
    if complaint is not None:
        return complaint
    try:
        before, after = play(free_as_before, trace), play(free_cleaned_up, trace)
    except ValueError as error:
        return str(error)
    return "both ways hand out the same blocks in every step" if before == after else None


def tells_as_little(one: Any, other: Any) -> str | None:
    """Agree on two traces that fail in the same way."""
    complaints = [tells_them_apart(None, trace) for trace in (one, other)]
    if None in complaints or complaints[0] != complaints[1]:
        return ""
    if not (complaints[0] or "").startswith("both"):
        return ""
    return None if _kind(one) == _kind(other) else ""


def _kind(trace: Any) -> str:
    """Say why a trace shows no difference, as far as its steps tell."""
    steps = _without_numpy(trace)["steps"]
    freed = [n for n, step in enumerate(steps) if type(step) is not int and step]
    if not freed:
        return "no release"
    if trace["caching"]:
        return "caching"
    if not any(type(step) is int and step for step in steps[freed[0] :]):
        return "no take after a release"
    num_free, is_alone = NUM_BLOCKS - 1, True
    for step in steps:
        is_take = type(step) is int
        is_alone = is_alone and (is_take or num_free == 0 or not step)
        num_free += -step if is_take else len(step)
    return "nothing else is free" if is_alone else "another reason"


EXPOSING = {"caching": False, "steps": [3, [3, 2, 1], 3]}

EXPOSED = (
    Misconception(
        "nothing is given back",
        "A number takes blocks; a list of ids, in brackets of its own, gives those back.",
        {"caching": False, "steps": [3, 3]},
    ),
    Misconception(
        "with caching",
        "With caching on, both send what has no hash to the front. Which setting does the new "
        "condition ask for?",
        {"caching": True, "steps": [3, [3, 2, 1], 3]},
    ),
    Misconception(
        "nothing is taken afterwards",
        "The queues differ, but nobody sees a queue. A user notices which blocks are handed out "
        "next.",
        {"caching": False, "steps": [3, [3, 2, 1]]},
    ),
    Misconception(
        "nothing else was free",
        "Where the free queue is empty, its front and its back are one place. Leave some blocks "
        "free while others come back.",
        {"caching": False, "steps": [8, [8, 7, 6, 5, 4, 3, 2, 1], 8]},
    ),
)

# 7.9, the measurement


@cache
def run_of_500() -> CacheStats:
    """Return what the dashboard shows after the run of section 2."""
    simulator = Simulator(
        load_azure("conversation")[:500],
        SchedulerConfig(max_num_seqs=256),
        RooflineCostModel(MODELS["llama-3.1-8b"], GPUS["rtx-4090"]),
        num_blocks=2588,
        enable_caching=True,
    )
    while simulator.step() is not None:
        pass
    return simulator.scheduler.kv_cache_manager.stats()


def shares_measured() -> dict[str, float]:
    """Return the four shares that are asked for."""
    stats = run_of_500()
    found = stats.hit_tokens + stats.preempted_hit_tokens
    return {
        "usage": stats.usage,
        "cached": stats.num_cached_blocks / 2587,
        "found, of all": found / (stats.queried_tokens + stats.preempted_queried_tokens),
        "found, after a preemption": stats.preempted_hit_tokens / stats.preempted_queried_tokens,
    }


def close_enough(expected: Any, got: Any) -> str | None:
    """Agree on shares up to a millionth of each; what is in the dict beside them does no harm.

    A millionth, because one block of 2,588, the null block, is less than a thousandth.
    """
    if isinstance(got, dict):
        got = {key: value for key, value in got.items() if key in expected}
    return within(rel=1e-6, absolute=1e-9)(expected, got)


def _with(key: str, value: Callable[[CacheStats], float]) -> Callable[[], dict[str, float]]:
    return lambda: {**shares_measured(), key: value(run_of_500())}


def _mean_of_both() -> dict[str, float]:
    right = shares_measured()
    mean = (run_of_500().hit_rate + right["found, after a preemption"]) / 2
    return {**right, "found, of all": mean}


MEASURED = (
    Misconception(
        "in per cent",
        "A share is a number from 0 to 1: of all of them, it is 1 and not 100.",
        lambda: {name: 100 * share for name, share in shares_measured().items()},
    ),
    Misconception(
        "the mean of both rates",
        "Few lookups come after a preemption and many for the first time: add up the tokens found, "
        "and divide by those that were looked up.",
        _mean_of_both,
    ),
    Misconception(
        "the hit rate",
        "`hit_rate` leaves out the requests that came back after a preemption; of all lookups, "
        "theirs count as well, above and below.",
        _with("found, of all", lambda stats: stats.hit_rate),
    ),
    Misconception(
        "of all lookups",
        "After a preemption: of the tokens that those lookups asked for, and no others.",
        _with(
            "found, after a preemption",
            lambda s: s.preempted_hit_tokens / (s.queried_tokens + s.preempted_queried_tokens),
        ),
    ),
    Misconception(
        "the null block counts",
        "Nobody can hold block 0, so it is not among those that could be cached.",
        _with("cached", lambda stats: stats.num_cached_blocks / 2588),
    ),
    Misconception(
        "returns over first lookups",
        "Whose hits are counted, of those the lookups are counted as well.",
        _with(
            "found, of all", lambda s: (s.hit_tokens + s.preempted_hit_tokens) / s.queried_tokens
        ),
    ),
    Misconception(
        "returns alone",
        "Of all: the requests that come for the first time, and those that come back.",
        _with("found, of all", lambda s: s.preempted_hit_tokens / s.preempted_queried_tokens),
    ),
)

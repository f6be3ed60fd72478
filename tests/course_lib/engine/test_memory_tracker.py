"""The memory tracker: whose blocks they are, the high-water mark, and leaks."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from course_lib.engine import LLM, EngineParts, SamplingParams
from course_lib.engine.memory import model_spec
from course_lib.engine.memory_tracker import NOBODY, MemoryReport, MemoryTracker
from course_lib.kv_cache import KVCacheManager
from course_lib.kv_cache.sizing import kv_bytes_per_block
from course_lib.kv_cache.watch.invariants import find_leaks

BLOCK = 100
CLERK = (
    "You are the clerk of a small library. You answer every question in one short sentence, and "
    "you never guess. "
)


def request(name: str, token_ids: list[int]) -> Any:
    return SimpleNamespace(
        request_id=name,
        all_token_ids=token_ids,
        num_tokens=len(token_ids),
        num_computed_tokens=0,
        cache_salt=None,
    )


@pytest.fixture
def manager() -> KVCacheManager:
    return KVCacheManager(num_blocks=20, block_size=2)


def admit(manager: KVCacheManager, asking: Any) -> None:
    hits, num_computed = manager.get_computed_blocks(asking)
    manager.allocate_slots(asking, asking.num_tokens - num_computed, num_computed, hits)
    asking.num_computed_tokens = asking.num_tokens


def test_a_shared_block_counts_for_each_holder_and_once_for_all(manager: KVCacheManager) -> None:
    tracker = MemoryTracker(manager, BLOCK)
    admit(manager, request("a", [1, 2, 3, 4, 5]))
    admit(manager, request("b", [1, 2, 3, 4, 6, 7, 8]))
    assert tracker.by_owner() == {"a": 3 * BLOCK, "b": 4 * BLOCK}
    assert tracker.in_use == 5 * BLOCK
    tracker.observe()
    assert tracker.report(["a", "b"]) == MemoryReport(5 * BLOCK, 5 * BLOCK, 2 * BLOCK, {})


def test_what_is_cached_and_free_is_neither_in_use_nor_leaked(manager: KVCacheManager) -> None:
    tracker = MemoryTracker(manager, BLOCK)
    first = request("a", [1, 2, 3, 4, 5])
    admit(manager, first)
    manager.free(first)
    assert tracker.report([]) == MemoryReport(0, 0, 0, {})


def test_the_mark_does_not_fall(manager: KVCacheManager) -> None:
    tracker = MemoryTracker(manager, BLOCK)
    first = request("a", [1, 2, 3, 4, 5])
    admit(manager, first)
    tracker.observe()
    manager.free(first)
    tracker.observe()
    assert (tracker.in_use, tracker.high_water) == (0, 3 * BLOCK)


def test_a_leak_is_named_after_whoever_holds_it(manager: KVCacheManager) -> None:
    tracker = MemoryTracker(manager, BLOCK)
    admit(manager, request("gone", [1, 2, 3]))
    admit(manager, request("here", [4, 5, 6]))
    manager.block_pool.get_new_blocks(1)
    assert tracker.report(["here"]).leaked == {"gone": 2 * BLOCK, NOBODY: BLOCK}


@given(prompts=st.lists(st.lists(st.integers(0, 1), min_size=1, max_size=6), max_size=5))
def test_it_agrees_with_the_pool_and_the_leak_finder(prompts: list[list[int]]) -> None:
    manager = KVCacheManager(num_blocks=40, block_size=2)
    tracker = MemoryTracker(manager, BLOCK)
    for index, prompt in enumerate(prompts):
        admit(manager, request(str(index), prompt))
    free = manager.block_pool.get_num_free_blocks()
    assert tracker.in_use == (39 - free) * BLOCK
    live = [str(index) for index in range(0, len(prompts), 2)]
    leaks = {leak.owner: len(leak.block_ids) * BLOCK for leak in find_leaks(manager, live)}
    assert tracker.report(live).leaked == leaks


def test_an_engine_that_runs_out_of_blocks() -> None:
    llm = LLM(
        "course-tiny",
        num_blocks=15,
        block_size=8,
        max_num_batched_tokens=12,
        max_num_seqs=3,
        device="cpu",
        parts=EngineParts.reference(),
    )
    tracker = MemoryTracker(llm.kv_cache_manager, kv_bytes_per_block(model_spec(llm.model), 8))
    others = SamplingParams(temperature=0, max_tokens=20, ignore_eos=True)
    llm.add_request("other-0", CLERK + "A block table", others)
    llm.add_request("other-1", "In the morning the server wakes up and", others)
    for _ in range(3):
        llm.step()
    params = SamplingParams(temperature=0, max_tokens=60, stop="\n\n")
    llm.add_request("followed", CLERK + "The scheduler", params)
    in_use = []
    while llm.has_unfinished_requests():
        llm.step()
        tracker.observe()
        in_use.append(tracker.in_use)
        if len(in_use) == 18:
            # Step 20: every block is taken, and three are shared.
            assert sorted(tracker.by_owner().values()) == [4 * 16_384, 6 * 16_384, 7 * 16_384]
            report = tracker.report(["other-0", "other-1", "followed"])
            assert report == MemoryReport(229_376, 229_376, 49_152, {})
    assert max(in_use) == tracker.high_water == 14 * 16_384
    assert tracker.report([]) == MemoryReport(0, 229_376, 0, {})

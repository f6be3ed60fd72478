"""Instances to work out by hand: each seed has what its lesson wants to show, and is right."""

import re
from collections.abc import Callable

import pytest

from course_lib.kv_cache import (
    BestFitAllocator,
    BuddyAllocator,
    WorstFitAllocator,
)
from course_lib.kv_cache.watch.hand_traces import (
    HandTrace,
    allocator_trace,
    fork_trace,
    pool_trace,
    table_trace,
)
from course_lib.kv_cache.watch.notation import StateLine

SEEDS = range(100)
KINDS: list[Callable[[int], HandTrace]] = [table_trace, allocator_trace, pool_trace, fork_trace]


@pytest.mark.parametrize("kind", KINDS)
def test_a_seed_is_an_instance_and_seeds_differ(kind: Callable[[int], HandTrace]) -> None:
    assert [kind(seed) for seed in SEEDS] == [kind(seed) for seed in SEEDS]
    assert len({kind(seed).steps for seed in SEEDS}) > len(SEEDS) / 3


@pytest.mark.parametrize("kind", [table_trace, pool_trace, fork_trace])
def test_states_are_in_the_notation(kind: Callable[[int], HandTrace]) -> None:
    for seed in SEEDS:
        trace = kind(seed)
        for line in (trace.start, *(step.state for step in trace.steps)):
            assert str(StateLine.parse(line)) == line


@pytest.mark.parametrize("seed", SEEDS)
def test_slots_are_those_of_the_table_written_out(seed: int) -> None:
    trace = table_trace(seed)
    tables = StateLine.parse(trace.start).tables
    slots = {
        name: [4 * mark.block_id + offset for mark in marks for offset in range(4)]
        for name, marks in tables.items()
    }
    lookups, grown = trace.steps[:3], trace.steps[3:]
    for step in lookups:
        match = re.fullmatch(r"slot of position (\d+) of (r\d)", step.operation)
        assert match is not None
        assert int(step.result) == slots[match[2]][int(match[1])]
    assert [step.operation for step in grown] == ["r0 has 12 tokens", "r0 has 13 tokens"]
    before, after = (StateLine.parse(step.state) for step in grown)
    assert before == StateLine.parse(trace.start)
    assert before.free is not None
    assert after.tables["r0"] == (*before.tables["r0"], before.free[0])
    assert after.free == before.free[1:]


def first_fit(strip: str, size: int) -> int:
    return strip.find("." * size)


@pytest.mark.parametrize("seed", SEEDS)
def test_a_strip_follows_from_the_one_before(seed: int) -> None:
    trace = allocator_trace(seed)
    assert len(trace.steps) == 8
    strip, failures, merges = trace.start, 0, 0
    for step in trace.steps:
        if match := re.fullmatch(r"(\w) asks for (\d)", step.operation):
            size = int(match[2])
            place = first_fit(strip, size)
            if place < 0:
                assert step.result == "fails"
                failures += strip.count(".") >= size
            else:
                assert step.result == f"offset {place}"
                strip = strip[:place] + match[1] * size + strip[place + size :]
        else:
            name = step.operation[0]
            merges += f".{name}" in strip and f"{name}." in strip
            strip = strip.replace(name, ".")
        assert step.state == strip
    assert failures
    assert merges


@pytest.mark.parametrize("kind", [BestFitAllocator, WorstFitAllocator])
def test_any_fit_can_be_traced(kind: type[BestFitAllocator] | type[WorstFitAllocator]) -> None:
    assert allocator_trace(0, kind).start == "." * 16


def test_a_buddy_allocator_rounds_up() -> None:
    steps = allocator_trace(3, BuddyAllocator).steps
    sizes = {step.state.count(name) for step in steps for name in set(step.state) - {"."}}
    assert sizes <= {2, 4, 8}


@pytest.mark.parametrize("seed", SEEDS)
def test_a_pool_evicts_what_was_freed_first(seed: int) -> None:
    steps = pool_trace(seed).steps
    assert len(steps) == 6
    before, after = (StateLine.parse(step.state) for step in steps[-2:])
    assert before.free is not None
    plain = [mark.block_id for mark in before.free if not mark.is_cached]
    cached = [mark.block_id for mark in before.free if mark.is_cached]
    assert [mark.block_id for mark in after.tables["D"]] == [*plain, cached[0]]
    assert not any(mark.is_cached for mark in after.tables["D"])
    assert [mark.block_id for mark in after.free or ()] == cached[1:]


@pytest.mark.parametrize("seed", SEEDS)
def test_the_last_to_write_copies_nothing_nor_who_writes_again(seed: int) -> None:
    steps = fork_trace(seed).steps
    writes = [step for step in steps if "writes" in step.operation]
    num_tokens = int(re.findall(r"\d+", steps[0].operation)[0])
    firsts = {step.operation: step for step in reversed(writes)}
    copies = [step.result for step in writes if firsts[step.operation] is step]
    assert len(copies) == len(firsts) == len(writes) - 1
    assert copies[-1] == ""
    assert all(copies[:-1]) == (num_tokens % 4 > 0)
    assert any(copies) == (num_tokens % 4 > 0)
    assert not [step for step in writes if firsts[step.operation] is not step and step.result]
    final = StateLine.parse(writes[-1].state).tables
    last_blocks = [table[-1].block_id for table in final.values()]
    assert len(set(last_blocks)) == len(final)


def test_ten_seeds_of_forks_are_ten_tasks() -> None:
    for seed in range(1, 91, 10):
        assert len({fork_trace(seed + i).steps[-1].state for i in range(10)}) == 10

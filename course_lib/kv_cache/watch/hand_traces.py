"""Small instances to work out by hand: operations, what each gives, and the state after it.

Every function makes one instance from a seed, the same for the same seed. The states are those of
the library's own classes at work, written as in ``notation``.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from string import ascii_uppercase

from course_lib.kv_cache.allocators import Allocator, FirstFitAllocator
from course_lib.kv_cache.block_pool import BlockPool, KVCacheBlock
from course_lib.kv_cache.block_table import BlockTable, blocks_to_add
from course_lib.kv_cache.manager import KVCacheManager, PlainRequest
from course_lib.kv_cache.watch.notation import StateLine, strip_text

BLOCK_SIZE = 4
NUM_BLOCKS = 9
"""Of a pool: 8, and the one that is never handed out."""


@dataclass(frozen=True, slots=True)
class TraceStep:
    """One operation of an instance.

    Attributes:
        operation: What happens, in words.
        result: What it gives, such as a slot; empty if it is only the state that changes.
        state: The state after it.
    """

    operation: str
    result: str
    state: str


@dataclass(frozen=True, slots=True)
class HandTrace:
    """An instance to work out by hand.

    Attributes:
        start: The state in which it begins.
        steps: What happens then.
    """

    start: str
    steps: tuple[TraceStep, ...]


def table_trace(seed: int) -> HandTrace:
    """Return slots to look up in two block tables, and a table that grows; blocks of 4 slots.

    The first request has two free slots left. The last steps say how its table looks when it has
    filled them, and with one token more. In no instance are the blocks of both tables neighbours:
    who takes a table for one piece finds another slot somewhere.

    >>> trace = table_trace(seed=1)
    >>> trace.start
    'free [5 6 7 8]  r0: 3 2 9  r1: 1 4'
    >>> [(step.operation, step.result) for step in trace.steps[:2]]
    [('slot of position 9 of r0', '37'), ('slot of position 7 of r0', '11')]
    >>> trace.steps[-1].operation, trace.steps[-1].state
    ('r0 has 13 tokens', 'free [6 7 8]  r0: 3 2 9 5  r1: 1 4')
    """
    rng = random.Random(seed)
    block_ids = rng.sample(range(1, 10), 5)
    while _is_one_piece(block_ids[:3]) and _is_one_piece(block_ids[3:]):
        block_ids = rng.sample(range(1, 10), 5)
    free = sorted(set(range(1, 10)) - set(block_ids))
    tables = {"r0": BlockTable(BLOCK_SIZE), "r1": BlockTable(BLOCK_SIZE)}
    tables["r0"].append(block_ids[:3])
    tables["r1"].append(block_ids[3:])

    def state() -> str:
        return f"free [{' '.join(map(str, free))}]  {StateLine.of_tables(tables)}"

    start = state()
    num_tokens = 2 * BLOCK_SIZE + 2
    # One position in the last block of r0, one in an earlier block, and one of r1.
    wanted = [
        ("r0", rng.randrange(2 * BLOCK_SIZE, num_tokens)),
        ("r0", rng.randrange(2 * BLOCK_SIZE)),
        ("r1", rng.randrange(BLOCK_SIZE, 2 * BLOCK_SIZE)),
    ]
    steps = [
        TraceStep(f"slot of position {position} of {name}", str(tables[name].slot(position)), start)
        for name, position in wanted
    ]
    for length in (num_tokens + 2, num_tokens + 3):
        table = tables["r0"]
        num_added = blocks_to_add(length, len(table), BLOCK_SIZE)
        table.append(free[:num_added])
        del free[:num_added]
        steps.append(TraceStep(f"r0 has {length} tokens", "", state()))
    return HandTrace(start, tuple(steps))


def _is_one_piece(block_ids: Sequence[int]) -> bool:
    return all(after == before + 1 for before, after in pairwise(block_ids))


def allocator_trace(
    seed: int, make_allocator: Callable[[int], Allocator] = FirstFitAllocator, num_slots: int = 16
) -> HandTrace:
    """Return eight operations of a contiguous allocator; the state is a strip of its slots.

    In every instance an allocation fails although enough slots are free, and a block is freed
    between two holes, with which it becomes one.

    Args:
        seed: Which instance.
        make_allocator: Makes the allocator, from ``num_slots``.
        num_slots: Slots in all.

    >>> for step in allocator_trace(seed=0).steps:
    ...     print(f"{step.operation:12} {step.result:9} {step.state}")
    A asks for 2 offset 0  AA..............
    B asks for 6 offset 2  AABBBBBB........
    A is freed             ..BBBBBB........
    C asks for 6 offset 8  ..BBBBBBCCCCCC..
    D asks for 4 fails     ..BBBBBBCCCCCC..
    B is freed             ........CCCCCC..
    C is freed             ................
    E asks for 2 offset 0  EE..............
    """
    rng = random.Random(seed)
    while True:
        trace, has_failed, has_merged = _random_allocations(rng, make_allocator(num_slots))
        if has_failed and has_merged:
            return trace


def pool_trace(seed: int, make_pool: Callable[[int], BlockPool] = BlockPool) -> HandTrace:
    """Return six calls of a block pool of 9 blocks, with prefix caching.

    Two requests take blocks and end, a third one begins with what the first has left in the cache,
    and a fourth one takes more blocks than there are without a prefix in them.

    Args:
        seed: Which instance. The calls are the same whatever the pool.
        make_pool: Makes the pool, from the number of its blocks.

    >>> for step in pool_trace(seed=0).steps:
    ...     print(f"{step.operation:30} {step.state}")
    A takes 4, 4 of them full      free [5 6 7 8]  A: 1* 2* 3* 4*
    B takes 3, 2 of them full      free [8]  A: 1* 2* 3* 4*  B: 5* 6* 7
    B ends, its last block first   free [7 8 | 6* 5*]  A: 1* 2* 3* 4*
    A ends, its last block first   free [7 8 | 6* 5* 4* 3* 2* 1*]
    C begins with the first 4 of A free [7 8 | 6* 5*]  C: 1* 2* 3* 4*
    D takes 3, 0 of them full      free [5*]  C: 1* 2* 3* 4*  D: 7 8 6
    """
    rng = random.Random(seed)
    pool = make_pool(NUM_BLOCKS)
    tables: dict[str, list[KVCacheBlock]] = {}
    steps: list[TraceStep] = []

    def note(operation: str, blocks: list[KVCacheBlock]) -> None:
        result = " ".join(str(block.block_id) for block in blocks)
        steps.append(TraceStep(operation, result, str(StateLine.of(pool, tables))))

    def take(name: str, num_blocks: int, num_full: int) -> None:
        tables[name] = pool.get_new_blocks(num_blocks)
        hashes = [f"{name}{index}".encode() for index in range(num_full)]
        pool.cache_full_blocks(tables[name][:num_full], hashes)
        note(f"{name} takes {num_blocks}, {num_full} of them full", tables[name])

    start = str(StateLine.of(pool))
    num_of_a, num_of_b = rng.randint(3, 4), rng.randint(2, 3)
    num_full_of_a = num_of_a - rng.randint(0, 1)
    take("A", num_of_a, num_full_of_a)
    take("B", num_of_b, num_of_b - 1)
    first = tables["A"]
    for name in rng.sample("AB", 2):
        freed = tables.pop(name)[::-1]
        pool.free_blocks(freed)
        note(f"{name} ends, its last block first", freed)
    num_found = rng.randint(1, num_full_of_a)
    tables["C"] = first[:num_found]
    pool.touch(tables["C"])
    note(f"C begins with the first {num_found} of A", tables["C"])
    num_plain = pool.num_blocks - 1 - num_full_of_a - (num_of_b - 1)
    take("D", num_plain + 1, 0)
    return HandTrace(start, tuple(steps))


def fork_trace(seed: int) -> HandTrace:
    """Return a prompt, two or three forks of it, a write of each, and another write of one of them.

    Blocks have 4 tokens, and the free queue begins in an order of its own. The result of a write is
    the pair (source, destination) of the block that is copied for it, and empty if none is.

    >>> for step in fork_trace(seed=5).steps[3:]:
    ...     print(f"{step.operation:17} {step.result:6} {step.state}")
    c1 writes a token (6, 3) free [8 1 2 4 7]  p: 5*(3) 6(2)  c1: 5*(3) 3*  c2: 5*(3) 6(2)
    c2 writes a token (6, 8) free [1 2 4 7]  p: 5*(3) 6  c1: 5*(3) 3*  c2: 5*(3) 8*
    c2 writes a token        free [2 4 7]  p: 5*(3) 6  c1: 5*(3) 3*  c2: 5*(3) 8* 1
    p writes a token         free [2 4 7]  p: 5*(3) 6*  c1: 5*(3) 3*  c2: 5*(3) 8* 1
    """
    rng = random.Random(seed)
    manager = KVCacheManager(num_blocks=NUM_BLOCKS, block_size=BLOCK_SIZE)
    blocks = manager.block_pool.get_new_blocks(NUM_BLOCKS - 1)
    manager.block_pool.free_blocks(rng.sample(blocks, len(blocks)))
    start = str(StateLine.of(manager))
    # Now and then the last block of the prompt is full; then nobody has to copy it.
    num_tokens = rng.randint(BLOCK_SIZE + 1, 3 * BLOCK_SIZE)
    names = ["p", "c1", "c2", "c3"][: rng.randint(3, 4)]
    requests = {name: PlainRequest(name, list(range(num_tokens))) for name in names}
    parent, *children = requests.values()
    steps: list[TraceStep] = []

    def compute(request: PlainRequest, operation: str) -> None:
        num_new = request.num_tokens - request.num_computed_tokens
        manager.allocate_slots(request, num_new)
        request.num_computed_tokens += num_new
        note(operation, " ".join(map(str, manager.take_block_copies())))

    def note(operation: str, result: str = "") -> None:
        steps.append(TraceStep(operation, result, str(StateLine.of(manager))))

    compute(parent, f"p computes {num_tokens} tokens")
    for child in children:
        manager.fork(parent, child)
        note(f"p is forked: {child.request_id}")
    writers = rng.sample(names, len(names))
    again = rng.randrange(len(writers))
    writers.insert(rng.randint(again + 1, len(writers)), writers[again])
    for token, name in enumerate(writers, num_tokens):
        requests[name].all_token_ids.append(token)
        compute(requests[name], f"{name} writes a token")
    return HandTrace(start, tuple(steps))


def _random_allocations(
    rng: random.Random, allocator: Allocator, num_steps: int = 8
) -> tuple[HandTrace, bool, bool]:
    """Allocate and free at random.

    Returns:
        The trace, whether an allocation failed though enough was free, and whether a block was
        freed between two holes.
    """
    start = strip_text(allocator, {})
    names = iter(ascii_uppercase)
    name_at: dict[int, str] = {}
    steps = []
    has_failed = has_merged = False
    for _ in range(num_steps):
        if name_at and rng.random() < 0.45:
            offset = rng.choice(sorted(name_at))
            num_holes = len(allocator.holes())
            allocator.free(offset)
            has_merged |= len(allocator.holes()) == num_holes - 1
            operation, result = f"{name_at.pop(offset)} is freed", ""
        else:
            name, size = next(names), rng.randint(2, 6)
            num_free = sum(hole.size for hole in allocator.holes())
            place = allocator.allocate(size)
            has_failed |= place is None and size <= num_free
            if place is not None:
                name_at[place] = name
            operation = f"{name} asks for {size}"
            result = "fails" if place is None else f"offset {place}"
        steps.append(TraceStep(operation, result, strip_text(allocator, name_at)))
    return HandTrace(start, tuple(steps)), has_failed, has_merged

"""Lesson 8: what its checks are given. Tokens to hash, prompts to look up, forks, block copies."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import cache
from itertools import chain, count, islice
from typing import TYPE_CHECKING, Any

from hypothesis import strategies as st

from autograder.checks.function import Call, Large
from autograder.checks.kernel import KernelCase
from autograder.checks.trace import Instance
from course_lib.kv_cache.watch.hand_traces import (
    BLOCK_SIZE,
    NUM_BLOCKS,
    HandTrace,
    TraceStep,
    fork_trace,
)
from course_lib.kv_cache.watch.notation import StateLine

if TYPE_CHECKING:
    from torch import Tensor

# 8.1

_token = st.sampled_from((0, 1, 65, 256, 321, 2**32 - 1))
_salt = st.sampled_from((None, "", "x", "tenant a"))
PARENT = bytes(range(32))
"""Stands for the hash of blocks in front."""


def hashings() -> st.SearchStrategy[Call]:
    """Return what draws tokens, a block size, a salt, and now and then a parent."""
    return st.builds(
        Call,
        st.lists(_token, max_size=9),
        st.integers(1, 4),
        _salt,
        st.sampled_from((None, None, PARENT)),
    )


HASHINGS = (
    Call([1, 2, 3, 4], 2),
    Call([7, 8, 3, 4], 2),
    Call([1, 2, 3, 4, 5], 2, "x"),
    Call([5, 6, 7, 8], 2, "x", PARENT),
    Call([5, 6, 7, 8], 2, "x"),
    Call([4, 3, 3, 4], 2),
    Call([3, 3, 4], 3),
    Call([65, 321], 1),
    Call([2**32 - 1], 1),
    Call([65, 66, 67], 3, ""),
    Call([], 4),
    Call(list(range(100, 117)), 4, "tenant a"),
)
"""Prompts that tell the ways to hash apart."""

REFUSED_HASHINGS = (
    Call([1, 2], 0),
    Call([1, 2], -1),
    Call([2**32, 1], 2),
    Call([1, -1], 2),
    Call([1, 2, 3, 1.5], 2),
)

LONG_PROMPT = Large(lambda: Call(list(range(60_000)), 16), "60,000 tokens", seconds=1.0)

# 8.2a

_CACHED = {b"a": 4, b"b": 9, b"d": 2}


def lookup(hashes: list[bytes], num_tokens: int, block_size: int = 16) -> Call:
    """Return a call that looks a prompt up where blocks a, b and d are cached."""
    return Call(hashes, _CACHED, num_tokens, block_size)


_block_hash = st.sampled_from((b"a", b"b", b"c", b"d"))


@st.composite
def lookups(draw: st.DrawFn) -> Call:
    """Draw the full blocks of a prompt, and a few tokens behind the last of them."""
    hashes = draw(st.lists(_block_hash, max_size=4))
    return lookup(hashes, 16 * len(hashes) + draw(st.sampled_from((0, 0, 1, 5, 15))))


LOOKUPS = (
    lookup([b"a", b"b", b"c", b"d"], 65),
    lookup([b"a", b"b"], 32),
    lookup([b"a", b"b"], 33),
    lookup([b"a", b"c", b"b"], 49),
    lookup([b"c", b"a"], 40),
    lookup([], 0),
)
"""Prompts that tell the ways to look up apart."""

# 8.3


@cache
def _trace(seed: int) -> tuple[HandTrace, list[TraceStep]]:
    """Return the fork of a seed in which something is copied, and the steps that write.

    Where the last block of the prompt is full, any idea of who copies comes to the same.
    """
    for further in count(seed, 2**31):
        trace = fork_trace(further)
        writes = [step for step in trace.steps if step.operation.endswith("writes a token")]
        if any(step.result for step in writes):
            break
    return trace, writes


def copies_to_write(seed: int) -> Instance:
    """Return a task: a prompt is forked and everybody writes; who copies what?"""
    trace, writes = _trace(seed)
    before = trace.steps[len(trace.steps) - len(writes) - 1].state
    listed = "\n".join(f"{number}. {step.operation}" for number, step in enumerate(writes, 1))
    answer: dict[str, Any] = {}
    for number, step in enumerate(writes, 1):
        name = step.operation.partition(" ")[0]
        line = StateLine.parse(step.state)
        answer[f"copy {number}"] = _pair(step.result)
        answer[f"table {number}"] = [mark.block_id for mark in line.tables[name]]
    tokens = trace.steps[0].operation
    return Instance(
        f"Seed {seed}, blocks of {BLOCK_SIZE} tokens. {tokens}, and is forked. Now the state is "
        f"`{before}`. For each write, give the copy as `[source, destination]`, or `[]` if nothing "
        f"is copied, and the writer's table afterwards.\n\n{listed}",
        answer,
    )


def _pair(result: str) -> list[int]:
    """Return the copy that a step of a trace names, as a list.

    >>> _pair("(2, 3)"), _pair("")
    ([2, 3], [])
    """
    return [int(number) for number in result.strip("()").split(",")] if result else []


def form_of_a_copy(state: Any) -> str:
    """Say what is wrong with how a copy or a table is written; "" if nothing is."""
    if isinstance(state, (list, tuple)) and all(type(each) is int for each in state):
        return ""
    if isinstance(state, (list, tuple)) and all(type(each) is float for each in state):
        return f"ids of blocks are whole numbers of type int, and {state[0]!r} is a float"
    return "a copy is a list such as [2, 3], or []; a table is a list of block ids"


@cache
def start_of(seed: int) -> tuple[StateLine, int, tuple[str, ...]]:
    """Return what a seed's task begins with.

    Returns:
        The state before the first write, how many tokens are in the last block then, and who
        writes, in order.
    """
    trace, writes = _trace(seed)
    steps = trace.steps
    names = tuple(step.operation.partition(" ")[0] for step in writes)
    num_tokens = int(steps[0].operation.split()[2])
    before = StateLine.parse(steps[len(steps) - len(writes) - 1].state)
    return before, num_tokens % BLOCK_SIZE, names


def written_by(copies: Callable[[int, bool], int]) -> Callable[[int], dict[str, Any]]:
    """Return what makes the states of a seed under another idea of who copies.

    Args:
        copies: From the length of a writer's table and whether it is the last of them to write, how
            many blocks at the end of its table it replaces by copies. Only asked when it writes for
            the first time; later it has its last block to itself.
    """

    def states(seed: int) -> dict[str, Any]:
        line, num_in_last, names = start_of(seed)
        assert line.free is not None
        # An idea that copies too much may want more blocks than there are: then those beyond.
        free = chain((mark.block_id for mark in line.free), count(NUM_BLOCKS))
        tables = {name: [mark.block_id for mark in line.tables[name]] for name in names}
        filled = dict.fromkeys(tables, num_in_last)
        last = list(dict.fromkeys(names))[-1]
        written: set[str] = set()
        found: dict[str, Any] = {}
        for number, name in enumerate(names, 1):
            table, copied = tables[name], list[int]()
            if filled[name] == BLOCK_SIZE:  # the token begins a block
                filled[name] = 0
                table.append(next(free))
            elif name not in written and (num_copies := copies(len(table), name == last)):
                new = list(islice(free, num_copies))
                copied = [table[-1], new[-1]]
                table[-num_copies:] = new
            filled[name] += 1
            written.add(name)
            found[f"copy {number}"], found[f"table {number}"] = copied, list(table)
        return found

    return states


def turned_round(seed: int) -> dict[str, Any]:
    """Return the right states of a seed, with each copy as [destination, source]."""
    answer = copies_to_write(seed).answer
    return {
        name: state[::-1] if name.startswith("copy") else state for name, state in answer.items()
    }


def old_ones_kept(seed: int) -> dict[str, Any]:
    """Return the right states of a seed, but whoever copies keeps the old block in front."""
    answer = copies_to_write(seed).answer
    pairs = [state for name, state in answer.items() if name.startswith("copy") and state]
    sources = {destination: [source] for source, destination in pairs}
    return {
        name: [id_ for block in state for id_ in (*sources.get(block, ()), block)]
        if name.startswith("table")
        else state
        for name, state in answer.items()
    }


def last_blocks_alone(seed: int) -> dict[str, Any]:
    """Return the right states of a seed, with the last block of each table alone."""
    answer = copies_to_write(seed).answer
    return {
        name: state[-1:] if name.startswith("table") else state for name, state in answer.items()
    }


def no_block_begun(seed: int) -> dict[str, Any]:
    """Return the right states of a seed, but no token begins a block: all tables keep their length.

    They are the right states if nobody's last block is full when it writes.
    """
    line, _, names = start_of(seed)
    length = len(line.tables[names[0]])
    answer = copies_to_write(seed).answer
    return {
        name: state[:length] if name.startswith("table") else state
        for name, state in answer.items()
    }


def handed_on(seed: int) -> dict[str, Any]:
    """Return the right states of a seed, but each copy is made of the copy before it."""
    answer = copies_to_write(seed).answer
    states, source = dict(answer), 0  # no block that is handed out
    for name, state in answer.items():
        if name.startswith("copy") and state:
            states[name] = [source or state[0], state[1]]
            source = state[1]
    return states


# 8.6a

_block = st.integers(0, 4)
COPIES = st.builds(Call, st.lists(st.tuples(_block, _block), max_size=6))

SOME_COPIES = (
    Call([(1, 2), (1, 3), (5, 1), (7, 8)]),
    Call([(1, 2), (2, 3)]),
    Call([(1, 3), (2, 3)]),
    Call([(1, 2), (3, 1)]),
    Call([(1, 2), (3, 1), (4, 5), (2, 6), (8, 5)]),
    Call([(1, 2), (2, 3), (1, 4)]),
    Call([(3, 3), (3, 4)]),
    Call([(1, 2), (2, 1), (6, 2)]),
    Call([]),
)
"""Lists of copies that tell the ways to group apart."""


# 8.6b


def caches(copies: list[tuple[int, int]], num_blocks: int = 5) -> Call:
    """Return a call on caches in which each number is another one, that 16 bits do not hold."""
    import torch

    numbers = torch.arange(4.0 * num_blocks).reshape(num_blocks, 2, 2, 1) + 0.1
    return Call(numbers, 100 + numbers, copies)


def turned(copies: list[tuple[int, int]], num_blocks: int = 5) -> Call:
    """Return a call on caches that are not contiguous: in memory, all of a head stands together."""
    import torch

    numbers = torch.arange(4.0 * num_blocks).reshape(2, num_blocks, 2, 1) + 0.1
    keys = numbers.permute(1, 2, 0, 3)
    return Call(keys, 100 + keys, copies)


_copies = st.lists(st.tuples(_block, _block), max_size=5)
CACHES = st.one_of(_copies.map(caches), _copies.map(turned))

SOME_CACHES = (
    caches([(0, 1)], 2),
    caches([(0, 1), (1, 2)], 3),
    turned([(0, 1)], 2),
    caches([(1, 2), (1, 3), (4, 1)]),
    turned([(3, 0)]),
    caches([]),
)
"""Copies that tell the ways to make them apart."""

REFUSED_COPIES = (
    caches([(0, -1)], 2),
    caches([(-1, 0)], 2),
    caches([(0, 2)], 2),
    caches([(2, 0)], 2),
    caches([(0, 1), (0, 2)], 2),
    caches([(0, 1), (1, 2)], 2),
    caches([(0, 1), (2, 1)], 2),
)
"""Copies with a block outside the cache: alone, in the first group of several, in the second."""

# 8.6c


def kernel_cases(seed: int) -> Iterator[KernelCase]:
    """Yield starts of the kernel, the small ones first.

    In each, one of the two caches has its heads outside the blocks. A block that is one piece of
    memory is copied rightly with any strides that go through all of it.
    """
    import torch

    from course_lib.attention.paged import copy_blocks

    generator = torch.Generator().manual_seed(seed)

    def cache(shape: tuple[int, int, int, int], are_heads_outside: bool) -> Tensor:
        """Return a cache of random numbers."""
        blocks, slots, heads, dim = shape
        if are_heads_outside:
            by_head = torch.randn(heads, blocks, slots, dim, generator=generator)
            return by_head.permute(1, 2, 0, 3)
        return torch.randn(shape, generator=generator)

    for shape, is_turned, copies in (
        ((4, 2, 2, 4), False, [(1, 3)]),
        ((5, 2, 3, 4), True, [(1, 3), (1, 2), (4, 0)]),
        ((3, 16, 6, 12), False, [(2, 1)]),  # 1,152 numbers, and 1,024 lanes
    ):
        key, value = cache(shape, is_turned), cache(shape, not is_turned)
        expected = {"key_cache": key.clone(), "value_cache": value.clone()}
        copy_blocks(expected["key_cache"], expected["value_cache"], copies)
        slots, heads, dim = shape[1:]
        moved = len(copies) * slots * heads * dim * key.element_size()
        plural = "copies" if len(copies) > 1 else "copy"
        title = f"{len(copies)} {plural}; blocks of {slots} slots, {heads} heads of {dim}"
        yield KernelCase(
            title,
            {
                "key_cache": key,
                "value_cache": value,
                "block_copies": torch.tensor(copies, dtype=torch.int32),
            },
            expected,
            {"key_cache": moved, "value_cache": moved},
        )
    yield _far_copy("from", [(_FAR, 0)])
    yield _far_copy("to", [(0, _FAR)])


_FAR = 2**11
"""A block that begins at element 2³¹, where blocks have 2²⁰ numbers."""


def _far_copy(way: str, copies: list[tuple[int, int]]) -> KernelCase:
    """Return a copy from or to a block that begins at element 2³¹ of a cache, behind its end."""
    import torch

    numbers = 2**20
    one_block = torch.zeros(1, numbers // 8, 2, 4, dtype=torch.float16)
    title = (
        f"a copy {way} block {_FAR:,} of a cache whose blocks have {numbers:,} numbers each. Here "
        "it has one block: only the place counts to which your kernel would go"
    )
    return KernelCase(
        title,
        {
            "key_cache": one_block,
            "value_cache": one_block.clone(),
            "block_copies": torch.tensor(copies, dtype=torch.int32),
        },
        {},
        far={
            name: range(_FAR * numbers, (_FAR + 1) * numbers)
            for name in ("key_cache", "value_cache")
        },
    )

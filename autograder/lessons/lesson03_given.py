"""Lesson 3: what its checks are given."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import product
from typing import TYPE_CHECKING, Any

import numpy as np
from hypothesis import strategies as st

from autograder.checks.compare import exactly
from autograder.checks.function import Call
from autograder.checks.kernel import KernelCase
from autograder.checks.trace import Instance
from autograder.proxy.recipes import Make
from course_lib.kv_cache.block_table import (
    CacheLayout,
    hnd_layout,
    nhd_layout,
    split_layout,
)
from course_lib.kv_cache.watch.hand_traces import HandTrace, table_trace
from course_lib.kv_cache.watch.notation import BlockMark, StateLine

if TYPE_CHECKING:
    from torch import Tensor

# 3.1, the notation


def state_line(free: Sequence[int], tables: Mapping[str, Iterable[int]]) -> str:
    """Return the state of a pool and its block tables in one line of the course's notation."""
    named = {name: tuple(map(BlockMark, table)) for name, table in tables.items()}
    return str(StateLine(tuple(map(BlockMark, free)), named))


_ids = st.lists(st.integers(1, 99), max_size=3, unique=True)
_tables = _ids | _ids.map(tuple) | _ids.map(lambda ids: Make(iter, ids))
_names = st.sampled_from(("r0", "r1", "r2", "r10"))
states = st.builds(Call, _ids, st.dictionaries(_names, _tables, max_size=3))

LOOKED_UP = ("slot a", "slot b", "slot c")
GROWN = ("state at 12 tokens", "state at 13 tokens")


def trace_by_hand(seed: int) -> Instance:
    """Return two block tables, three slots to look up in them, and one table that grows."""
    trace = table_trace(seed)
    asked = [*LOOKED_UP, *GROWN]
    listed = "\n".join(
        f"- `{name}`: {step.operation}" for name, step in zip(asked, trace.steps, strict=True)
    )
    task = (
        f"Seed {seed}. Blocks have 4 slots, r0 has 10 tokens, r1 has 8: `{trace.start}`\n\n{listed}"
        "\n\nA slot is a whole number. A state is a line in the notation, as text; what r0 lacks "
        "it takes from the front of the free queue."
    )
    return Instance(task, states_of(trace))


def states_of(trace: HandTrace) -> dict[str, Any]:
    """Return what is asked of a trace: slots as numbers, states as lines."""
    slots = [int(step.result) for step in trace.steps[: len(LOOKED_UP)]]
    lines = [step.state for step in trace.steps[len(LOOKED_UP) :]]
    return dict(zip((*LOOKED_UP, *GROWN), (*slots, *lines), strict=True))


def same_state(expected: Any, got: Any) -> str | None:
    """Agree on equal numbers, and on lines that say the same whatever their spaces."""
    if isinstance(expected, int) and isinstance(got, str):
        return "it is text; a slot is a number, without quotation marks"
    if isinstance(expected, str) and not isinstance(got, str):
        return "it is no text; a state is a line in the notation, between quotation marks"
    if not isinstance(expected, str):
        return exactly(expected, got)
    try:
        read = StateLine.parse(got)
    except ValueError:
        # The notation's own message shows marks that only later lessons explain.
        return f"{got!r} is no line of the notation; write for example `free [5 4]  r0: 1 6`"
    return None if read == StateLine.parse(expected) else ""


# 3.3, a batch


@st.composite
def batches(draw: st.DrawFn) -> Call:
    """Draw a ragged batch: chunks of up to three sequences, and padding that means nothing."""
    block_size = draw(st.sampled_from((4, 1, 2, 3)))
    max_blocks = draw(st.integers(1, 3))
    num_seqs = draw(st.integers(1, 3))
    ids = draw(st.permutations(range(12)))
    tables, starts, positions = [], [0], list[int]()
    for row in range(num_seqs):
        num_blocks = draw(st.integers(1, max_blocks))
        behind = draw(st.sampled_from((0, -1, -7)))
        tables.append([*ids[4 * row :][:num_blocks], *[behind] * (max_blocks - num_blocks)])
        first = draw(st.integers(0, num_blocks * block_size - 1))
        last = draw(st.integers(first, num_blocks * block_size))
        positions += range(first, last)
        starts.append(len(positions))
    padding = draw(st.lists(st.sampled_from((0, 5, -1, 10**6)), max_size=3))
    integer = draw(st.sampled_from((np.int32, np.int64)))
    return Call(
        np.array(tables, dtype=integer),
        np.array(starts, dtype=np.int32),
        np.array([*positions, *padding], dtype=draw(st.sampled_from((np.int64, np.int32)))),
        block_size,
    )


def batch(
    tables: list[list[int]],
    starts: list[int],
    positions: list[int],
    block_size: int = 4,
    integer: type[np.signedinteger] = np.int64,
) -> Call:
    """Return a call of ``slot_mapping``, block tables in 32 bits as engines keep them."""
    return Call(
        np.array(tables, dtype=np.int32),
        np.array(starts, dtype=np.int32),
        np.array(positions, dtype=integer),
        block_size,
    )


_PAIR = [[9, 2], [5, -1]]

BATCHES = (
    batch([[1]], [0, 1], [0], 1),
    batch([[0]], [0, 1], [0], 1),
    batch([[1]], [0, 0], [0], 1),
    batch([[1]], [0, 0], [1], 1),
    batch([[-1]], [0, 0], [], 1),
    batch([[1, 2]], [0, 1], [1], 1),
    # No sequence at all; with more padding than one that has, which is easier to follow.
    Call(np.zeros((0, 2), np.int32), np.array([0], np.int32), np.array([0] * 4), 4),
    batch(_PAIR, [0, 3, 4], [3, 4, 5, 0, 0]),
    batch([[7, 3, 5], [2, 9, -7]], [0, 1, 4], [9, 3, 4, 5, 7, -1]),
    batch([[7, 3], [2, 9], [8, 4]], [0, 0, 2, 3], [6, 7, 1]),
    # No power of two, which is exact in 32 bits as a float.
    batch([[2**30 + 1, 1]], [0, 2], [1, 17], 16),
    # Positions in 32 bits, in which their own numbers fit, and the slots do not.
    batch([[1]], [0, 1], [0], 1, np.int32),
    batch([[2**27 + 1]], [0, 1], [0], 16, np.int32),
    # A position, too, that is not exact in 32 bits as a float. The block is no larger than that
    # takes: who writes down all its slots is slow, and must not run out of time or memory.
    batch([[1]], [0, 1], [2**24 + 1], 2**24 + 2),
    batch([[3, 6]], [0, 1], [5, 10**6]),
    batch([[3, 6]], [0, 0], [4, -1]),
    # What has no slot: behind the columns, behind the end of the table, in front of it.
    batch([[1]], [0, 1], [1], 1),
    batch([[1]], [0, 1], [2], 1),
    batch([[-1]], [0, 1], [0], 1),
    batch([[-2]], [0, 1], [0], 1),
    batch([[1]], [0, 1], [-1], 1),
    batch(_PAIR, [0, 1, 2], [8, 0]),
    batch(_PAIR, [0, 1, 2], [0, 4]),
    batch(_PAIR, [0, 1, 2], [0, -1]),
    batch(_PAIR, [0, 1, 2], [0, -5]),
    batch(_PAIR, [0, 1, 2], [-1, 0]),
)
"""Batches that tell the ways to translate them apart."""


def faults() -> Iterator[Call]:
    """Yield batches with one token without a slot: at each place of a chunk, padding behind or not.

    The chunk is the second one, of a sequence with one block, and the tokens beside are right.
    """
    tables = [[9, 2, 4], [5, -1, -2]]
    for position, place, padding in product((-1, 4, 8, 12), range(3), ([], [0])):
        chunk = [1, 2, 3]
        chunk[place] = position
        yield batch(tables, [0, 1, 4], [4, *chunk, *padding])


REFUSED_BATCHES = (
    *faults(),
    batch([[9]], [0, 1], [-1]),
    batch([[9]], [0, 1], [4]),
    batch([[-1]], [0, 1], [0]),
    batch([[9]], [0, 1], [0], 0),
    batch([[9]], [0], [0]),  # a sequence without an end
    batch([[9]], [1, 1], [0]),
    batch([[9], [5]], [0, 1, 0], [0]),
    batch([[9]], [0, 1], []),
    batch([[9]], [0, 1, 2], [0, 0]),  # an end without a sequence
    Call(np.array([[9]]), np.array([0, 1]), np.array([0.0]), 4),
    Call(np.array([[9]]), np.array([0.0, 1.0]), np.array([0]), 4),
    Call(np.array([[9.5]]), np.array([0, 1]), np.array([0]), 4),
)


PAIRS = (
    (batch([[9, 2]], [0, 3], [3, 4, 5]), batch([[7, 5]], [0, 3], [0, 1, 2])),
    (batch([[9]], [0, 1], [0, 0]), batch([[9]], [0, 0], [0])),
)
"""Two calls, behind each other: as many places in both, and fewer in the second."""


# 3.4, keys and values


def numbered(*shape: int, start: float = 1.0) -> Tensor:
    """Return a tensor whose elements are all different."""
    import torch

    return start + torch.arange(float(np.prod(shape))).reshape(*shape)


def caches(num_blocks: int, block_size: int, is_head_major: bool = False) -> tuple[Tensor, Tensor]:
    """Return a cache of keys and one of values, of two heads of three; seen as [block, token]."""
    if is_head_major:
        keys = numbered(num_blocks, 2, block_size, 3, start=1000.0).transpose(1, 2)
    else:
        keys = numbered(num_blocks, block_size, 2, 3, start=1000.0)
    return keys, -keys


def write(
    slots: Sequence[int],
    num_blocks: int = 3,
    block_size: int = 4,
    is_head_major: bool = False,
    dtype: str = "float32",
) -> Call:
    """Return a call that writes a token for each slot."""
    import torch

    key = numbered(len(slots), 2, 3)
    written = key, key + 100, *caches(num_blocks, block_size, is_head_major)
    mapping = torch.tensor(slots, dtype=torch.int64)
    return Call(*(tensor.to(getattr(torch, dtype)) for tensor in written), mapping)


@st.composite
def writes(draw: st.DrawFn) -> Call:
    """Draw tokens with slots of their own, padding anywhere among them."""
    num_blocks, block_size = draw(st.integers(1, 3)), draw(st.integers(1, 4))
    slots = draw(st.lists(st.integers(0, num_blocks * block_size - 1), max_size=4, unique=True))
    for place in draw(st.lists(st.integers(0, 4), max_size=2)):
        slots.insert(place, -1)
    dtype = draw(st.sampled_from(("float32", "bfloat16")))
    return write(slots, num_blocks, block_size, draw(st.booleans()), dtype)


def large_write() -> Call:
    """Return a call that writes 400 tokens of eight heads of 128."""
    import torch

    key = torch.ones(400, 8, 128, dtype=torch.float16)
    key_cache, value_cache = torch.zeros(2, 32, 16, 8, 128, dtype=torch.float16)
    return Call(key, -key, key_cache, value_cache, torch.arange(400))


def read(
    table: list[int],
    context_len: int,
    block_size: int = 4,
    num_blocks: int = 6,
    dtype: str = "float32",
    is_head_major: bool = False,
) -> Call:
    """Return a call that gathers a sequence."""
    import torch

    cache, _ = caches(num_blocks, block_size, is_head_major)
    cache = cache.to(getattr(torch, dtype))
    return Call(cache, torch.tensor(table, dtype=torch.int32), context_len)


def large_read() -> Call:
    """Return a call that gathers 8,191 tokens, all that a small cache has but one."""
    import torch

    num_blocks, block_size = 512, 16
    places = num_blocks * block_size
    cache = torch.arange(places).reshape(num_blocks, block_size, 1, 1) % 2_039
    cache = cache.to(torch.float16).expand(-1, -1, 8, 128).contiguous()
    table = torch.arange(num_blocks, dtype=torch.int32).flip(0)
    return Call(cache, table, places - 1)


@st.composite
def reads(draw: st.DrawFn) -> Call:
    """Draw a sequence of up to three blocks, and entries behind them that mean nothing."""
    block_size = draw(st.integers(1, 4))
    table = draw(st.lists(st.integers(0, 5), min_size=1, max_size=3, unique=True))
    first = (len(table) - 1) * block_size + 1
    context_len = draw(st.integers(first, len(table) * block_size))
    behind = draw(st.lists(st.sampled_from((0, -1, 6, 10**6)), max_size=2))
    dtype = draw(st.sampled_from(("float32", "float16", "bfloat16")))
    return read([*table, *behind], context_len, block_size, 6, dtype, draw(st.booleans()))


# 3.5, layouts

_LAYOUTS: tuple[Callable[..., CacheLayout], ...] = (nhd_layout, hnd_layout, split_layout)


@st.composite
def elements(draw: st.DrawFn) -> Call:
    """Draw a small cache of some layout, and an element in it."""
    layout = draw(st.sampled_from(_LAYOUTS))
    dtype_bytes = draw(st.sampled_from((2, 4, 1)))
    lanes = 16 // dtype_bytes
    num_blocks, block_size, heads = (draw(st.integers(1, 3)) for _ in range(3))
    head_dim = (
        lanes * draw(st.integers(1, 2))
        if layout is split_layout
        else draw(st.sampled_from((5, 2, 3)))
    )
    made = layout(num_blocks, block_size, heads, head_dim, dtype_bytes)
    if draw(st.booleans()):
        made = reordered(made, draw(st.permutations(range(len(made.axes)))))
    return Call(
        made,
        kv=draw(st.integers(0, 1)),
        slot=draw(st.integers(0, num_blocks * block_size - 1)),
        head=draw(st.integers(0, heads - 1)),
        dim=draw(st.integers(0, head_dim - 1)),
    )


def reordered(layout: CacheLayout, order: Sequence[int]) -> CacheLayout:
    """Return a layout with its axes in another order."""
    axes = tuple(layout.axes[place] for place in order)
    shape = tuple(layout.shape[place] for place in order)
    return CacheLayout(axes, shape, layout.dtype_bytes)


_SOMEWHERE = {"kv": 0, "slot": 3, "head": 2, "dim": 1}

LLAMA_LAYOUTS = tuple(layout(100, 16, 8, 128) for layout in _LAYOUTS)
"""One layer of Llama-3.1-8B in 100 blocks, in each layout."""

ELEMENTS = (
    *(Call(layout, kv=0, slot=49, head=2, dim=5) for layout in LLAMA_LAYOUTS),
    *(Call(layout, kv=1, slot=49, head=2, dim=27) for layout in LLAMA_LAYOUTS),
    Call(hnd_layout(3, 2, 3, 5, 4), kv=1, slot=5, head=1, dim=4),
    Call(nhd_layout(3, 2, 3, 5, 1), kv=0, slot=3, head=2, dim=1),
    Call(reordered(nhd_layout(3, 2, 3, 5, 1), (4, 2, 0, 3, 1)), kv=1, slot=3, head=2, dim=1),
    # What is in no cache: one beyond each axis, further beyond, and in front.
    *(
        Call(nhd_layout(3, 2, 3, 5, 1), **{**_SOMEWHERE, name: value})
        for name, values in {
            "head": (3, 4, -1),
            "kv": (2, 3, -1),
            "slot": (6, 8, -1),
            "dim": (5, 6, -1),
        }.items()
        for value in values
    ),
)

OUTSIDE = tuple(
    Call(layout, **{"kv": 0, "slot": 0, "head": 0, "dim": 0, name: value})
    for layout in (nhd_layout(3, 2, 3, 8), split_layout(3, 2, 3, 16))
    for name, values in {"kv": (-1, 2), "slot": (-1, 6), "head": (-1, 3), "dim": (-1, 16)}.items()
    for value in values
)

# 3.6, the kernel


def kernel_cases(seed: int) -> Iterator[KernelCase]:
    """Yield starts of the kernel: keys and values, and the two caches, differ in their strides.

    Each of the four has its heads outside its tokens in some cases. Heads and numbers of a head
    have a common factor: where they have none, a lane that takes the remainder for both numbers its
    head's elements in another order, and meets every one of them. In one case a head has no power
    of two numbers, as the heads of 80 and 96 of some models: Triton counts up to a power of two.
    """
    import torch

    from course_lib.attention.paged import reshape_and_cache

    generator = torch.Generator().manual_seed(seed)

    def tokens(shape: tuple[int, int, int], is_head_major: bool) -> Tensor:
        """Return random numbers of [tokens, heads, numbers of a head]."""
        num_tokens, heads, dim = shape
        if is_head_major:
            return torch.randn(heads, num_tokens, dim, generator=generator).transpose(0, 1)
        return torch.randn(num_tokens, heads, dim, generator=generator)

    def cache(heads: int, dim: int, is_head_major: bool) -> Tensor:
        """Return three blocks of four slots, filled with random numbers."""
        if is_head_major:
            return torch.randn(3, heads, 4, dim, generator=generator).transpose(1, 2)
        return torch.randn(3, 4, heads, dim, generator=generator)

    for is_turned, heads, dim, slots in (
        (False, 2, 4, [5]),
        (True, 2, 4, [7, -1, 0]),
        (False, 3, 6, [7, 2, -1, 4]),
    ):
        shape = len(slots), heads, dim
        arguments = {
            "key": tokens(shape, not is_turned),
            "value": tokens(shape, is_turned),
            "key_cache": cache(heads, dim, is_turned),
            "value_cache": cache(heads, dim, not is_turned),
            "slot_mapping": torch.tensor(slots),
        }
        expected = {name: arguments[name].clone() for name in ("key_cache", "value_cache")}
        reshape_and_cache(**{**arguments, **expected})
        padding = ", one of them padding" if -1 in slots else ""
        title = f"{len(slots)} token{'s' * (len(slots) > 1)}{padding}; {heads} heads of {dim}"
        num_rows = heads * sum(slot >= 0 for slot in slots)
        needed = dict.fromkeys(("key", "value"), 4 * num_rows * dim)
        # Whoever goes from head to head has the numbers of one in the lanes.
        most_accesses = dict.fromkeys(("key", "value", "key_cache", "value_cache"), num_rows)
        yield KernelCase(title, arguments, expected, needed, most_accesses)
    yield from far_cases()


def far_cases() -> Iterator[KernelCase]:
    """Yield starts with a block that begins at element 2³¹ of one cache, which ends before it.

    The slot comes in 32 bits, into which it fits: who does not widen it multiplies in 32.
    """
    import torch

    far, numbers = 2**11, 2**20
    for name, other in (("key_cache", "value_cache"), ("value_cache", "key_cache")):
        caches = {
            name: torch.zeros(1, numbers // 8, 2, 4, dtype=torch.float16),
            other: torch.zeros(far + 1, 1, 2, 4, dtype=torch.float16),
        }
        token = torch.ones(1, 2, 4, dtype=torch.float16)
        slots = torch.tensor([far * caches["key_cache"].shape[1]], dtype=torch.int32)
        title = (
            f"block {far:,} of the {name}, whose blocks have {numbers:,} numbers each; the slot "
            "comes in 32 bits. Here the cache has one block: only the place counts to which your "
            "kernel would go"
        )
        places = {name: range(far * numbers, far * numbers + 8)}
        arguments = {"key": token, "value": -token, **caches, "slot_mapping": slots}
        yield KernelCase(title, arguments, {}, far=places)

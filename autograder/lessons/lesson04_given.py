"""Lesson 4: what its checks are given: tasks by hand, lives of allocators, lengths, the trial."""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import accumulate
from string import ascii_uppercase
from typing import Any

from hypothesis import strategies as st

from autograder.checks.compare import exactly, named, within
from autograder.checks.function import Call, Large
from autograder.checks.trace import Instance
from autograder.lessons.lesson01_given import (
    MAX_MODEL_LEN,
    OPT_13B_SLOTS,
    experiment_requests,
)
from autograder.proxy.names import symbol
from autograder.proxy.recipes import Make, Step
from course_lib.kv_cache.allocators import (
    Allocator,
    BestFitAllocator,
    BuddyAllocator,
    FirstFitAllocator,
    FitAllocator,
    Span,
    WorstFitAllocator,
)
from course_lib.kv_cache.fragmentation import external_fragmentation
from course_lib.kv_cache.reservation import RESERVATIONS, Snapshot, replay_contiguous
from course_lib.kv_cache.watch.notation import strip_by_offset, strip_text

# 4.1


class NeverCoalesces(FirstFitAllocator):
    """First fit in which the holes stay as they were freed."""

    def free(self, offset: int) -> None:
        """Give back a block, and leave its neighbours alone."""
        size = self.size_at.pop(offset)
        self.sorted_holes = sorted([*self.sorted_holes, Span(offset, size)])


class FromTheEnd(FirstFitAllocator):
    """First fit that cuts each block from the end of its hole."""

    def allocate(self, size: int) -> int | None:
        """Cut a block from the end of the first hole that is large enough."""
        hole = self.choose_hole(size)
        if hole is None:
            return None
        rest = [Span(hole.offset, hole.size - size)] if hole.size > size else []
        place = self.sorted_holes.index(hole)
        self.sorted_holes[place : place + 1] = rest
        self.size_at[hole.end - size] = size
        return hole.end - size


@dataclass(frozen=True)
class Operation:
    """One line of a task by hand: a name asks for slots, or, with size 0, is freed."""

    name: str
    size: int

    def __str__(self) -> str:
        return f"{self.name} asks for {self.size}" if self.size else f"{self.name} is freed"


HAND_SLOTS = 16
_HAND_STEPS = 6


@dataclass(frozen=True)
class HandTask:
    """A memory in which blocks have come and gone, and what happens then.

    Attributes:
        holes: The holes at the start.
        names: The name of each block at the start, by its span.
        operations: What happens.
    """

    holes: tuple[Span, ...]
    names: tuple[tuple[Span, str], ...]
    operations: tuple[Operation, ...]

    def strips(self, make: Callable[[int], FitAllocator]) -> list[str]:
        """Return the strip at the start and after each operation, under an allocator."""
        allocator, name_at = self._start(make)
        found = [strip_text(allocator, name_at)]
        for operation in self.operations:
            self._apply(operation, allocator, name_at)
            found.append(strip_text(allocator, name_at))
        return found

    def is_telling(self) -> bool:
        """Say whether something fails with enough free, three pieces merge, and ways differ."""
        allocator, name_at = self._start(FirstFitAllocator)
        has_failed = has_merged = False
        for operation in self.operations:
            holes = allocator.holes()
            num_blocks = len(name_at)
            self._apply(operation, allocator, name_at)
            if operation.size and len(name_at) == num_blocks:
                has_failed |= sum(hole.size for hole in holes) >= operation.size
            elif not operation.size:
                has_merged |= len(allocator.holes()) < len(holes)
        ways = {tuple(self.strips(each)) for each in (FirstFitAllocator, *_OTHER_WAYS)}
        return has_failed and has_merged and len(ways) == 1 + len(_OTHER_WAYS)

    def _start(self, make: Callable[[int], FitAllocator]) -> tuple[FitAllocator, dict[int, str]]:
        allocator = make(HAND_SLOTS)
        allocator.sorted_holes = list(self.holes)
        allocator.size_at = {span.offset: span.size for span, _ in self.names}
        return allocator, {span.offset: name for span, name in self.names}

    def _apply(
        self, operation: Operation, allocator: FitAllocator, name_at: dict[int, str]
    ) -> None:
        """Do one thing; a name that has nothing is freed without effect."""
        if operation.size:
            offset = allocator.allocate(operation.size)
            if offset is not None:
                name_at[offset] = operation.name
            return
        for offset in [o for o, name in name_at.items() if name == operation.name]:
            allocator.free(offset)
            del name_at[offset]


_OTHER_WAYS = (NeverCoalesces, BestFitAllocator, WorstFitAllocator, FromTheEnd)
"""Allocators that a task by hand tells from first fit, and from each other."""


def _drawn(rng: random.Random) -> HandTask:
    """Draw a start of three to five blocks between holes, and six operations."""
    names = iter(ascii_uppercase)
    holes: list[Span] = []
    blocks: list[tuple[Span, str]] = []
    offset = 0
    while offset < HAND_SLOTS:
        size = min(rng.randint(1, 4), HAND_SLOTS - offset)
        span = Span(offset, size)
        was_hole = bool(holes) and holes[-1].end == offset
        if was_hole or rng.random() < 0.55:
            blocks.append((span, next(names)))
        else:
            holes.append(span)
        offset += size
    held = [name for _, name in blocks]
    operations = []
    for _ in range(_HAND_STEPS):
        if held and rng.random() < 0.4:
            operations.append(Operation(held.pop(rng.randrange(len(held))), 0))
        else:
            operations.append(Operation(next(names), rng.randint(1, 6)))
            held.append(operations[-1].name)
    return HandTask(tuple(holes), tuple(blocks), tuple(operations))


@cache
def hand_task(seed: int) -> HandTask:
    """Return the task of a seed; whoever is freed in it has a block under first fit."""
    rng = random.Random(seed)
    while True:
        task = _drawn(rng)
        frees = [number for number, each in enumerate(task.operations, 1) if not each.size]
        strips = task.strips(FirstFitAllocator)
        if all(strips[n] != strips[n - 1] for n in frees) and task.is_telling():
            return task


def strips_to_write(seed: int) -> Instance:
    """Return a task: six operations on a memory in which blocks have come and gone."""
    task = hand_task(seed)
    start, *states = task.strips(FirstFitAllocator)
    listed = "\n".join(f"{number}. {each}" for number, each in enumerate(task.operations, 1))
    return Instance(
        f"Seed {seed}. The memory of {HAND_SLOTS} slots is `{start}`. First fit hands it out and "
        f"coalesces. Write the strip after each step; where a request fails, nothing changes."
        f"\n\n{listed}",
        {f"step {number}": state for number, state in enumerate(states, 1)},
    )


def same_strip(expected: str, came: Any) -> str | None:
    """Agree on the same strip, whatever blanks are around it."""
    return exactly(expected, came.strip() if isinstance(came, str) else came)


def form_of_a_strip(state: Any) -> str:
    """Say what is wrong with how a strip is written; "" if nothing is.

    >>> form_of_a_strip("AAB.............")
    ''
    >>> form_of_a_strip("AAB............")
    'a strip has 16 signs, and this one has 15'
    """
    if not isinstance(state, str):
        return f"a strip is a text of {HAND_SLOTS} signs, not {named(type(state))}"
    strip = state.strip()
    strange = sorted(set(strip) - set(ascii_uppercase) - {"."})
    if strange:
        signs = " ".join(strange)
        return f"a strip has capital letters and dots, and this one has {signs!r}"
    if len(strip) != HAND_SLOTS:
        return f"a strip has {HAND_SLOTS} signs, and this one has {len(strip)}"
    return ""


def strips_under(make: Callable[[int], FitAllocator]) -> Callable[[int], dict[str, str]]:
    """Return what makes the states of a seed under another way to hand out memory."""

    def states(seed: int) -> dict[str, str]:
        found = hand_task(seed).strips(make)[1:]
        return {f"step {number}": state for number, state in enumerate(found, 1)}

    return states


def strips_scattered(seed: int) -> dict[str, str]:
    """Return the states of a seed if a request may have any slots that are free."""
    task = hand_task(seed)
    strip, found = task.strips(FirstFitAllocator)[0], {}
    for number, operation in enumerate(task.operations, 1):
        if operation.size <= strip.count("."):
            strip = strip.replace(operation.name, ".").replace(".", operation.name, operation.size)
        found[f"step {number}"] = strip
    return found


# 4.4


def no_faults(expected: Any, got: Any) -> str | None:
    """Agree as ``exactly`` does; of a list of faults, say what it is."""
    complaint = exactly(expected, got)
    if complaint is not None and expected == [] and isinstance(got, list):
        return "the list says which rules this step breaks; of a right step it is empty"
    return complaint


# 4.5


def _allocator(make: type, num_slots: int, sizes: Sequence[int], freed: Sequence[int]) -> Call:
    """Return a call on an allocator in which blocks of these sizes came, and some went."""
    allocator, model = Make(make, num_slots), make(num_slots)
    offsets = []
    for size in sizes:
        allocator, offset = allocator.do("allocate", size), model.allocate(size)
        if offset is not None:
            offsets.append(offset)
    for place in freed:
        if place < len(offsets):
            allocator = allocator.do("free", offsets[place])
    return Call(allocator)


@st.composite
def fragmented(draw: st.DrawFn) -> Call:
    """Draw an allocator with some holes."""
    make = draw(st.sampled_from((FirstFitAllocator, BuddyAllocator)))
    sizes = draw(st.lists(st.integers(1, 5), max_size=6))
    freed = draw(st.sets(st.integers(0, 5), max_size=4))
    return _allocator(make, draw(st.integers(1, 24)), sizes, sorted(freed))


FRAGMENTED = (
    _allocator(FirstFitAllocator, 3, (1, 1), (0,)),  # holes of 1 and 1
    _allocator(FirstFitAllocator, 4, (2, 1), (0,)),  # of 2 and 1
    _allocator(BuddyAllocator, 7, (), ()),  # of 4, 2 and 1
    _allocator(FirstFitAllocator, 5, (1, 2), (0,)),  # of 1 and 2
    _allocator(FirstFitAllocator, 10, (5, 1, 2, 2), (0, 2)),  # holes of 5 and 2
    _allocator(FirstFitAllocator, 13, (3, 1, 5, 1), (0, 2)),  # of 3, 5 and 3
    _allocator(BuddyAllocator, 16, (4, 4, 4, 4), (1, 2)),  # of 4 and 4, which touch
    _allocator(FirstFitAllocator, 4, (4,), ()),  # full
    _allocator(FirstFitAllocator, 9, (4,), ()),  # one hole
)
"""Memories that tell the ways to count apart."""


def typed(call: Call) -> str:
    """Write how an allocator came to be, line by line, and what is free in the end.

    >>> print(typed(FRAGMENTED[7]))
    allocator = FirstFitAllocator(4)
    allocator.allocate(4)  # AAAA, no hole
    external_fragmentation(allocator)
    """
    recipe: Make = call.args[0]
    allocator = symbol(str(recipe.target))(*recipe.args)
    lines = [f"allocator = {recipe.target.short}({', '.join(map(repr, recipe.args))})"]
    for step in recipe.steps:
        getattr(allocator, step.path)(*step.args or ())
        lines.append(f"allocator.{step.path}({', '.join(map(repr, step.args or ()))})")
    sizes = " and ".join(str(hole.size) for hole in allocator.holes())
    said = {0: "no hole", 1: f"a hole of {sizes}"}.get(len(allocator.holes()), f"holes of {sizes}")
    lines[-1] += f"  # {strip_by_offset(allocator)}, {said}"
    return "\n".join([*lines, f"{external_fragmentation.__name__}(allocator)"])


def _mostly_free() -> Call:
    return Call(Make(FirstFitAllocator, 2**23).do("allocate", 5).do("allocate", 3).do("free", 0))


_NUM_HOLES = 4000


def _many_holes() -> Call:
    """Return a call on a memory of many holes, each a slot larger than the one before it."""
    sizes = range(1, _NUM_HOLES + 1)
    ends = list(accumulate(size + 1 for size in sizes))
    recipe = Make(FirstFitAllocator, ends[-1])
    recipe.steps = (
        *(Step("allocate", (slots,)) for size in sizes for slots in (size, 1)),
        *(Step("free", (end - size - 1,)) for size, end in zip(sizes, ends, strict=True)),
    )
    return Call(recipe)


MOSTLY_FREE = Large(_mostly_free, "8,388,608 slots", seconds=0.05)
MANY_HOLES = Large(_many_holes, "4,000 holes", seconds=0.05)

# 4.6

_lengths = st.lists(st.integers(1, 40), min_size=1, max_size=5)
_weights = st.sampled_from((0.0, 0.25, 0.5, 1.0, 2.0, 3.0, 1 / 3))


@st.composite
def distributions(draw: st.DrawFn) -> Call:
    """Draw lengths, or lengths with weights, and a block size."""
    block_size = draw(st.integers(1, 20))
    lengths = draw(_lengths)
    if draw(st.booleans()):
        return Call(lengths, block_size)
    weights = {length: draw(_weights) for length in lengths}
    weights[lengths[0]] = weights[lengths[0]] or 1.0
    return Call(weights, block_size)


DISTRIBUTIONS = (
    Call(list(range(1, 101)), 16),
    Call([16], 16),
    Call([17], 16),
    Call([1, 31], 16),
    Call([525], 75),  # seven blocks, and 525 * (1 / 75) is a little more than 7
    Call([5, 5, 8, 33], 7),
    Call({16: 0.5, 17: 0.5}, 16),
    Call({3: 3, 20: 1}, 16),
    Call({16: 1 / 3, 17: 2 / 3}, 16),
    Call({1: 1e-6, 20: 1.0}, 16),  # neither to be rounded away nor to be left out
)
"""Lengths that tell the ways to average apart."""


MANY_LENGTHS = (
    Large(lambda: Call(list(range(1, 20_001)), 16), "20,000 lengths", seconds=0.5),
    Large(lambda: Call([3, 10**9], 16), "a request of 1,000,000,000 tokens", seconds=0.2),
)

# 4.7


def _costs(unit: float) -> st.SearchStrategy[Call]:
    """Draw a mean length, the bytes of an entry and those of a token, which differ."""
    most_and_step = ((400, 5.0), (40, 3.0), (40, 7.0))
    return st.builds(Call, *(_multiples(most, step * unit) for most, step in most_and_step))


def _multiples(most: int, step: float) -> st.SearchStrategy[float]:
    return st.integers(1, most).map(lambda number: number * step)


COSTS = _costs(1.0) | _costs(0.125)

SOME_COSTS = (
    Call(mean_length=1366.0, entry_bytes=8.0, token_bytes=131072.0),
    Call(mean_length=1000.0, entry_bytes=4096.0, token_bytes=4096.0),
    Call(mean_length=300, entry_bytes=5, token_bytes=7),
    Call(mean_length=1363.09, entry_bytes=0.5, token_bytes=3.25),
    Call(mean_length=2.5, entry_bytes=6.5, token_bytes=0.25),
    Call(mean_length=0.75, entry_bytes=1.5, token_bytes=2.25),
    Call(mean_length=1.5, entry_bytes=2.0, token_bytes=3e6),  # 0.0014142...: not to be rounded
)
"""Costs that tell the formulas apart, those that are no whole numbers or below 1 among them."""

TWO_BELOW_0 = (Call(-1366, -8, 1000), Call(-1366, 8, -1000), Call(1366, -8, -1000))
"""Costs of which two are below 0, so that the best block size is not."""

NOT_FINITE = tuple(
    Call(*(value if place == position else cost for place, cost in enumerate((1366, 8, 1000))))
    for value in (math.inf, math.nan)
    for position in range(3)
)
"""Each of the costs in turn is infinite, or no number."""

# 4.9

FITS: dict[str, Callable[[int], Allocator]] = {
    "first": FirstFitAllocator,
    "best": BestFitAllocator,
    "worst": WorstFitAllocator,
}


@cache
def snapshots_under(fit: str) -> tuple[Snapshot, ...]:
    """Return the memory of the experiment, iteration by iteration, under a fit."""
    return tuple(
        replay_contiguous(
            experiment_requests(),
            OPT_13B_SLOTS,
            RESERVATIONS["Oracle"],
            MAX_MODEL_LEN,
            FITS[fit],
        )
    )


def free_and_needed(snapshot: Snapshot) -> tuple[int, int]:
    """Return the free slots of a moment, and those that the first in the queue asks for."""
    free = snapshot.num_slots - sum(each.reserved for each in snapshot.reservations)
    return free, snapshot.needed


def share_of_moments(fit: str, holds: Callable[[int, int], bool]) -> float:
    """Return the share of the iterations in which something holds of the free and the needed."""
    moments = snapshots_under(fit)
    return sum(holds(*free_and_needed(moment)) for moment in moments) / len(moments)


NEVER = dict.fromkeys(FITS, 0.0)
"""What comes of holding the first in the queue against the largest hole."""


def alike_where_it_tells(wrong: dict[str, float], got: Any) -> str | None:
    """Agree with a known wrong answer, unless it is 0 or 1 throughout, as many others are.

    Of ``NEVER`` is said what is true of all that are 0 throughout.
    """
    if set(wrong.values()) <= {0.0, 1.0} and wrong != NEVER:
        return ""
    return close_enough(wrong, got)


close_enough = within(rel=0.0, absolute=5e-4)


@cache
def shares_with_enough() -> dict[str, float]:
    """Return what the experiment measures: how often enough is free, but in pieces."""
    return {fit: share_of_moments(fit, lambda free, needed: free >= needed) for fit in FITS}

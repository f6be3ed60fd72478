"""What a way of handing out memory wastes: on average by calculation, and on a trace by replay.

Internal fragmentation is memory inside a block that its owner never uses; it can be calculated from
the distribution of lengths alone. External fragmentation is free memory in pieces that are too
small; it depends on who comes and goes when, so a trace has to be replayed. ``InternalWaste`` and
the functions around it do the one, ``Lifetime`` and ``replay`` the other.
"""

from __future__ import annotations

import heapq
import math
import operator
from bisect import bisect_left
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Literal, Protocol

from course_lib.kv_cache.allocators import Allocator
from course_lib.kv_cache.reservation import HasLengths
from course_lib.kv_cache.sizing import require_block_size

LengthDistribution = Mapping[int, float] | Iterable[int]
"""Lengths with their weights, which need not add to 1, or lengths that each count once."""


@dataclass(frozen=True, slots=True)
class InternalWaste:
    """What a request stores and what it has been given for it, on average, in slots.

    Attributes:
        stored: Slots that hold a token.
        allocated: Slots that belong to the request.

    >>> waste = InternalWaste(stored=50.0, allocated=64.0)
    >>> waste.tokens, waste.share
    (14.0, 0.21875)
    """

    stored: float
    allocated: float

    @property
    def tokens(self) -> float:
        """Slots that are allocated and hold nothing."""
        return self.allocated - self.stored

    @property
    def share(self) -> float:
        """Those slots as a share of what is allocated."""
        return self.tokens / self.allocated


def expected_internal_waste(lengths: LengthDistribution, block_size: int) -> InternalWaste:
    """Return the exact expected internal fragmentation of paging, for any length distribution.

    A request holds as many whole blocks as its tokens need, and no more.

    Args:
        lengths: Tokens per request: a sequence of observed lengths, or a mapping from each length
            to its probability. Weights of any scale do, such as counts.
        block_size: Slots per block.

    Returns:
        Averages over requests: ``stored`` are the tokens, ``allocated`` the slots of the blocks.

    Raises:
        ValueError: ``block_size`` or a length is less than 1, a weight is negative or not finite,
            or there are no lengths or only weights of 0.
        TypeError: A length is not a whole number.

    >>> expected_internal_waste(range(1, 101), block_size=16)
    InternalWaste(stored=50.5, allocated=58.24)
    >>> expected_internal_waste({16: 0.5, 17: 0.5}, block_size=16).tokens
    7.5
    """
    require_block_size(block_size)
    weights = length_weights(lengths)
    total = math.fsum(weights.values())
    # Add up the tokens of every length, each as often as it counts.
    stored = math.fsum(weight * length for length, weight in weights.items())

    # Add up the slots of the whole blocks that hold them, likewise.
    allocated = math.fsum(
        weight * (-(-length // block_size) * block_size) for length, weight in weights.items()
    )

    return InternalWaste(stored / total, allocated / total)


def length_weights(lengths: LengthDistribution) -> Mapping[int, float]:
    """Return how much each length weighs in a distribution.

    Args:
        lengths: Lengths with their weights, or lengths that each count once.

    Raises:
        ValueError: A length is less than 1, a weight is negative or not finite, or there are no
            lengths or only weights of 0.
        TypeError: A length is not a whole number.

    >>> dict(length_weights([5, 8, 5]))
    {5: 2, 8: 1}
    """
    weights = lengths if isinstance(lengths, Mapping) else Counter(lengths)
    for length, weight in weights.items():
        if operator.index(length) < 1:
            raise ValueError(f"a length is {length}; a request has at least 1 token")
        if not 0 <= weight < math.inf:
            raise ValueError(
                f"the weight of length {length} is {weight}; it is finite and not negative"
            )
    if math.fsum(weights.values()) == 0:
        raise ValueError("lengths must hold at least one length with a weight above 0")
    # A length that only says how it counts, such as numpy's, becomes a plain number.
    return {operator.index(length): weight for length, weight in weights.items()}


def geometric_internal_waste(mean_length: float, block_size: int) -> InternalWaste:
    """Return the expected internal fragmentation of paging for geometrically distributed lengths.

    Such a request stops after each token with the same probability 1/m, whatever its length. So
    L > k with probability q^k for q = 1 − 1/m. A request has a block number k + 1 if L > k·B, so
    E⌈L/B⌉ = 1 + q^B + q^2B + ... = 1/(1 − q^B), and the waste is B/(1 − q^B) − m.

    Args:
        mean_length: Tokens per request on average, m.
        block_size: Slots per block, B.

    Returns:
        Averages over requests, in slots.

    Raises:
        ValueError: ``mean_length`` or ``block_size`` is less than 1, or ``mean_length`` is not
            finite.

    >>> round(geometric_internal_waste(mean_length=50, block_size=16).tokens, 4)
    7.9286
    """
    require_block_size(block_size)
    if not 1 <= mean_length < math.inf:
        raise ValueError(
            f"mean_length is {mean_length}; it is a finite number of tokens, at least 1"
        )
    q = 1 - 1 / mean_length
    return InternalWaste(stored=mean_length, allocated=block_size / (1 - q**block_size))


def power_of_two_waste(lengths: LengthDistribution) -> InternalWaste:
    """Return the expected internal fragmentation if each length is rounded up to a power of two.

    That is what a buddy allocator wastes. For log-uniform lengths (L between two powers of two with
    a weight of 1/L) the share tends to 1 − 1/(2 ln 2) = 27.87%.

    Args:
        lengths: Tokens per request, as for ``expected_internal_waste``.

    Returns:
        Averages over requests, in slots.

    Raises:
        ValueError: A length is less than 1, a weight is negative or not finite, or there are no
            lengths or only weights of 0.
        TypeError: A length is not a whole number.

    >>> power_of_two_waste([5, 8, 9])
    InternalWaste(stored=7.333333333333333, allocated=10.666666666666666)
    """
    weights = length_weights(lengths)
    total = math.fsum(weights.values())
    stored = math.fsum(weight * length for length, weight in weights.items())
    allocated = math.fsum(
        weight * (1 << (length - 1).bit_length()) for length, weight in weights.items()
    )
    return InternalWaste(stored / total, allocated / total)


def lifetime_internal_waste(requests: Iterable[HasLengths], block_size: int) -> InternalWaste:
    """Return the internal fragmentation of paging averaged over the lives of requests.

    A request runs for ``output_tokens`` iterations. In the first it holds its prompt and one token,
    in each of the others one token more, and always as many blocks as these need. Each iteration of
    each request counts the same: this is what a look at the memory at a random moment finds.

    Args:
        requests: Prompt and output lengths.
        block_size: Slots per block.

    Returns:
        Averages over the iterations of all requests, in slots per request.

    Raises:
        ValueError: ``block_size`` or a length is less than 1, or there are no requests.

    >>> from types import SimpleNamespace
    >>> request = SimpleNamespace(prompt_tokens=3, output_tokens=2)  # holds 4 tokens, then 5
    >>> lifetime_internal_waste([request], block_size=4)
    InternalWaste(stored=4.5, allocated=6.0)
    """
    require_block_size(block_size)
    iterations = stored = blocks = 0
    for request in requests:
        first, last = request.prompt_tokens, request.prompt_tokens + request.output_tokens
        _require_lengths(request)
        iterations += request.output_tokens
        stored += (last * (last + 1) - first * (first + 1)) // 2
        blocks += _blocks_up_to(last, block_size) - _blocks_up_to(first, block_size)
    if iterations == 0:
        raise ValueError("there are no requests to average over; pass at least 1")
    return InternalWaste(stored / iterations, blocks * block_size / iterations)


def best_block_size(mean_length: float, entry_bytes: float, token_bytes: float) -> float:
    """Return the block size that wastes the fewest bytes, counting the block table.

    With blocks of B slots, a request wastes B/2 slots of its last block on average, and the
    bookkeeping of ``mean_length`` / B blocks. Both are approximations that ignore whole numbers.

    Args:
        mean_length: Tokens per request on average.
        entry_bytes: Bytes that the bookkeeping of one block takes.
        token_bytes: Bytes of KV per token.

    Returns:
        Slots per block, as a real number. Below 1, the table never matters: the smallest block
        wastes least.

    Raises:
        ValueError: An argument is not a finite number above 0.

    >>> best_block_size(mean_length=100, entry_bytes=8, token_bytes=4)
    20.0
    """
    if not all(0 < value < math.inf for value in (mean_length, entry_bytes, token_bytes)):
        raise ValueError(
            f"mean_length is {mean_length}, entry_bytes is {entry_bytes} and token_bytes is "
            f"{token_bytes}; each must be finite and above 0"
        )
    # With B, L, h and t for these, B·t/2 + h·L/B is least where t/2 − h·L/B² is zero.
    return math.sqrt(2 * entry_bytes * mean_length / token_bytes)


def overhead_bytes(
    lengths: LengthDistribution, block_size: int, entry_bytes: float, token_bytes: float
) -> float:
    """Return the bytes that paging wastes per request, block table included: t·W + h·E⌈L/B⌉.

    ``best_block_size`` minimises an approximation of this, in which the waste W is B/2.

    Args:
        lengths: Tokens per request, as for ``expected_internal_waste``.
        block_size: Slots per block, B.
        entry_bytes: Bytes that the bookkeeping of one block takes, h.
        token_bytes: Bytes of KV per token, t.

    Raises:
        ValueError: As for ``expected_internal_waste``.
        TypeError: As for ``expected_internal_waste``.

    >>> overhead_bytes([17], block_size=16, entry_bytes=8, token_bytes=1000)  # 15 slots, 2 entries
    15016.0
    """
    waste = expected_internal_waste(lengths, block_size)
    return token_bytes * waste.tokens + entry_bytes * waste.allocated / block_size


def internal_fragmentation(allocator: Allocator, requested: Mapping[int, int]) -> float:
    """Return the share of the allocated slots that nobody asked for.

    Args:
        allocator: Who handed the blocks out.
        requested: For each allocated block, by its offset, the slots that were asked for.

    Returns:
        Between 0 and 1; 0 if nothing is allocated.

    Raises:
        ValueError: ``requested`` does not name exactly the allocated blocks, or a block is smaller
            than what was asked for.

    >>> from course_lib.kv_cache.allocators import BuddyAllocator
    >>> allocator = BuddyAllocator(16)
    >>> requested = {allocator.allocate(size): size for size in (5, 3)}  # gets 8 and 4
    >>> round(internal_fragmentation(allocator, requested), 3)
    0.333
    """
    sizes = dict(allocator.blocks())
    if sizes.keys() != requested.keys():
        raise ValueError(
            f"blocks are allocated at {sorted(sizes)}, but requested names {sorted(requested)}; "
            "name each allocated block once, by its offset"
        )
    for offset, wanted in requested.items():
        if wanted > sizes[offset]:
            raise ValueError(
                f"{wanted} slots were asked for at {offset}, but the block has {sizes[offset]}; "
                "a block is at least as large as what was asked for"
            )
    allocated = sum(sizes.values())
    return 1 - sum(requested.values()) / allocated if allocated else 0.0


def external_fragmentation(allocator: Allocator) -> float:
    """Return the share of the free slots that are outside the largest hole.

    A request that is larger than the largest hole has to wait, even if the free slots together
    would be enough for it. It takes a step, or a few, for each hole.

    Args:
        allocator: Whose holes they are.

    Returns:
        Between 0 and 1: 0 if all that is free is one hole, or if nothing is free.

    >>> from course_lib.kv_cache.allocators import FirstFitAllocator
    >>> allocator = FirstFitAllocator(10)
    >>> offsets = [allocator.allocate(2) for _ in range(4)]
    >>> allocator.free(offsets[1])  # holes of 2 and 2 slots
    >>> external_fragmentation(allocator)
    0.5
    """
    sizes = [hole.size for hole in allocator.holes()]
    return 1 - max(sizes) / sum(sizes) if sizes else 0.0


@dataclass(frozen=True, slots=True)
class Lifetime:
    """Memory that is needed from one moment to another.

    Attributes:
        size: Slots.
        start: When they are allocated, in any unit of time.
        end: When they are freed.

    Raises:
        ValueError: ``size`` is less than 1, or ``end`` is not after ``start``.
    """

    size: int
    start: float
    end: float

    def __post_init__(self) -> None:
        if self.size < 1:
            raise ValueError(f"size is {self.size}; a lifetime has at least 1 slot")
        if not self.start < self.end:
            raise ValueError(f"a lifetime from {self.start} to {self.end}; it must end later")


class ArrivingRequest(HasLengths, Protocol):
    """What the lifetime of a request that arrives at its own time depends on."""

    @property
    def arrival_time(self) -> float:
        """Seconds since the start of the workload."""


def lifetimes_from_arrivals(
    requests: Iterable[ArrivingRequest], seconds_per_token: float
) -> list[Lifetime]:
    """Return how long each request needs memory if it starts as soon as it arrives.

    It reserves all its slots, prompt and output, and generates an output token every
    ``seconds_per_token``; then it leaves.

    Args:
        requests: Arrival times in seconds, prompt and output lengths in tokens.
        seconds_per_token: Time between two output tokens.

    Returns:
        One lifetime per request, in the same order; times in seconds.

    Raises:
        ValueError: ``seconds_per_token`` is not above 0, or a length is less than 1.

    >>> from types import SimpleNamespace
    >>> request = SimpleNamespace(arrival_time=2.0, prompt_tokens=100, output_tokens=10)
    >>> lifetimes_from_arrivals([request], seconds_per_token=0.5)
    [Lifetime(size=110, start=2.0, end=7.0)]
    """
    if not seconds_per_token > 0:
        raise ValueError(f"seconds_per_token is {seconds_per_token}; it must be greater than 0")
    lifetimes = []
    for request in requests:
        _require_lengths(request)
        start = request.arrival_time
        end = start + request.output_tokens * seconds_per_token
        lifetimes.append(Lifetime(request.prompt_tokens + request.output_tokens, start, end))
    return lifetimes


def lifetimes_in_batch(requests: Iterable[HasLengths], batch_size: int) -> list[Lifetime]:
    """Return how long each request needs memory if a fixed number of them run at all times.

    The first ``batch_size`` requests start in iteration 0. A request reserves all its slots, prompt
    and output, and leaves after ``output_tokens`` iterations; the next one in the queue takes its
    place at once. So the number of blocks is the same all the time: the equilibrium for which
    Knuth's fifty-per-cent rule is derived.

    Args:
        requests: Prompt and output lengths in tokens, in order of arrival.
        batch_size: Requests that run at the same time.

    Returns:
        One lifetime per request, in the same order; times in iterations.

    Raises:
        ValueError: ``batch_size`` or a length is less than 1.

    >>> from types import SimpleNamespace
    >>> lengths = [(5, 3), (5, 1), (5, 4)]
    >>> requests = [SimpleNamespace(prompt_tokens=p, output_tokens=o) for p, o in lengths]
    >>> [(life.start, life.end) for life in lifetimes_in_batch(requests, batch_size=2)]
    [(0, 3), (0, 1), (1, 5)]
    """
    if batch_size < 1:
        raise ValueError(f"batch_size is {batch_size}; a batch holds at least 1 request")
    free_at = [0] * batch_size  # a heap: when each place in the batch becomes free
    lifetimes = []
    for request in requests:
        _require_lengths(request)
        start = free_at[0]
        end = start + request.output_tokens
        heapq.heapreplace(free_at, end)
        lifetimes.append(Lifetime(request.prompt_tokens + request.output_tokens, start, end))
    return lifetimes


Action = Literal["allocate", "free", "fail"]
"""What a step of a replay does; a failure is an allocation for which no hole was large enough."""


@dataclass(frozen=True, slots=True)
class ReplayStep:
    """What happened to one lifetime, and the memory just after it.

    Attributes:
        time: When.
        index: Whose turn it was: the position in the list of lifetimes.
        action: "allocate", "free" or "fail".
        offset: The first slot of the block; None after a failure.
        live: Slots that are in use, as they were asked for.
        allocated: Slots that are in use, with what the allocator rounded up.
        num_blocks: Allocated blocks.
        num_holes: Holes in front of the last block. (Behind it, memory is free as far as it goes.)
        largest_hole: Slots of the largest hole, wherever it is; 0 if there is none.
        high_water: Slots below the end of the highest block so far.
    """

    time: float
    index: int
    action: Action
    offset: int | None
    live: int
    allocated: int
    num_blocks: int
    num_holes: int
    largest_hole: int
    high_water: int


@dataclass(frozen=True)
class Replay:
    """What an allocator made of a trace.

    Attributes:
        steps: One row for each allocation, failure and release, in order.
    """

    steps: tuple[ReplayStep, ...]

    @property
    def num_failures(self) -> int:
        """Allocations for which no hole was large enough."""
        return sum(step.action == "fail" for step in self.steps)

    @property
    def peak_live(self) -> int:
        """The most slots that were in use at any time, as they were asked for."""
        return max(step.live for step in self.steps)

    @property
    def high_water(self) -> int:
        """The memory that the allocator needed: slots below the end of its highest block."""
        return self.steps[-1].high_water

    @property
    def utilization(self) -> float:
        """``peak_live`` / ``high_water``: 1 if no hole was ever in the way.

        For 2,000 requests of Azure's conversation trace, 100 at a time, in a memory without limit,
        it is 0.85 with first fit and with best fit, and 0.06 with worst fit, which then takes fresh
        memory for each request: it would fall for ever.

        Raises:
            ValueError: Nothing was ever allocated.
        """
        if self.high_water == 0:
            raise ValueError("nothing was ever allocated; use a larger memory")
        return self.peak_live / self.high_water

    @property
    def holes_per_block(self) -> float:
        """Holes per allocated block, over the second half of the steps.

        Knuth's fifty-per-cent rule: in equilibrium it is near one half. (The first half of the
        steps is left to reaching the equilibrium.)

        Raises:
            ValueError: No block was allocated in that time.
        """
        settled = self.steps[len(self.steps) // 2 :]
        num_blocks = sum(step.num_blocks for step in settled)
        if num_blocks == 0:
            raise ValueError("no block was allocated in the second half; use a larger memory")
        return sum(step.num_holes for step in settled) / num_blocks


def replay(lifetimes: Iterable[Lifetime], allocator: Allocator) -> Replay:
    """Allocate and free each lifetime at its time, and keep a record of the memory.

    What ends at a moment is freed before anything that starts at that moment is allocated; within
    each of the two, lifetimes come in the order given. A lifetime for which no hole is large enough
    is a failure, and is not tried again. Nothing ever moves.

    Args:
        lifetimes: Who needs how many slots, and from when to when.
        allocator: One with nothing allocated. In the end it is empty again. To see how much memory
            an allocator needs if it never has to refuse, give it far more than that, such as 2**40
            slots: the memory exists on paper only.

    Raises:
        ValueError: There are no lifetimes, one is larger than the memory, or ``allocator`` is not
            empty; then nothing changes.

    >>> from course_lib.kv_cache.allocators import FirstFitAllocator
    >>> lifetimes = [Lifetime(4, 0, 2), Lifetime(4, 0, 3), Lifetime(2, 2, 4)]
    >>> outcome = replay(lifetimes, FirstFitAllocator(10))
    >>> [(step.action, step.index, step.offset) for step in outcome.steps[:4]]
    [('allocate', 0, 0), ('allocate', 1, 4), ('free', 0, 0), ('allocate', 2, 0)]
    >>> outcome.peak_live, outcome.high_water, outcome.num_failures
    (8, 8, 0)
    """
    lifetimes = list(lifetimes)
    _require_replayable(lifetimes, allocator)
    memory = _ReplayedMemory(allocator)
    steps: list[ReplayStep] = []
    action: Action
    for time, position, starts in _events(lifetimes):
        size = lifetimes[position].size
        if starts:
            offset = memory.start(position, size)
            action = "fail" if offset is None else "allocate"
        elif memory.holds(position):
            offset = memory.end(position, size)
            action = "free"
        else:
            continue  # it was refused, so there is nothing to free
        steps.append(memory.step(time, position, action, offset))
    return Replay(tuple(steps))


class _ReplayedMemory:
    """An allocator during a replay, and what is counted beside it."""

    def __init__(self, allocator: Allocator) -> None:
        self._allocator = allocator
        self._offset_of: dict[int, int] = {}  # of each lifetime that is allocated now
        self._live = self._allocated = self._high_water = 0

    def holds(self, position: int) -> bool:
        """Whether a lifetime is allocated now."""
        return position in self._offset_of

    def start(self, position: int, size: int) -> int | None:
        """Allocate a lifetime; return its offset, or None if it is refused."""
        offset = self._allocator.allocate(size)
        if offset is not None:
            block_size = self._allocator.block_size(offset)
            self._offset_of[position] = offset
            self._live += size
            self._allocated += block_size
            self._high_water = max(self._high_water, offset + block_size)
        return offset

    def end(self, position: int, size: int) -> int:
        """Free a lifetime; return its offset."""
        offset = self._offset_of.pop(position)
        self._live -= size
        self._allocated -= self._allocator.block_size(offset)
        self._allocator.free(offset)
        return offset

    def step(self, time: float, index: int, action: Action, offset: int | None) -> ReplayStep:
        """Describe what has just happened, and the memory now."""
        holes = self._allocator.holes()
        last_block = max(self._offset_of.values(), default=0)
        return ReplayStep(
            time=time,
            index=index,
            action=action,
            offset=offset,
            live=self._live,
            allocated=self._allocated,
            num_blocks=len(self._offset_of),
            num_holes=bisect_left(holes, (last_block,)),
            largest_hole=max((hole.size for hole in holes), default=0),
            high_water=self._high_water,
        )


def _require_lengths(request: HasLengths) -> None:
    """Raise ValueError if there is no such request."""
    if request.prompt_tokens < 1 or request.output_tokens < 1:
        raise ValueError(
            f"a request of {request.prompt_tokens} prompt and {request.output_tokens} output "
            "tokens; each must be at least 1"
        )


def _require_replayable(lifetimes: list[Lifetime], allocator: Allocator) -> None:
    """Raise ValueError if the lifetimes cannot be replayed in the allocator's memory."""
    if not lifetimes:
        raise ValueError("there are no lifetimes to replay; pass at least 1")
    largest = max(lifetime.size for lifetime in lifetimes)
    if largest > allocator.num_slots:
        raise ValueError(
            f"a lifetime needs {largest} slots, but the memory has {allocator.num_slots}; "
            "leave it out or raise num_slots"
        )
    if allocator.blocks():
        raise ValueError(
            f"{len(allocator.blocks())} blocks are allocated already; pass an empty allocator"
        )


def _blocks_up_to(length: int, block_size: int) -> int:
    """Return ⌈1/B⌉ + ⌈2/B⌉ + ... + ⌈length/B⌉."""
    full, rest = divmod(length, block_size)
    return block_size * full * (full + 1) // 2 + rest * (full + 1)


def _events(lifetimes: list[Lifetime]) -> list[tuple[float, int, bool]]:
    """Return (time, position, whether it starts) in order; at any moment, ends come first."""
    ends = [(life.end, position, False) for position, life in enumerate(lifetimes)]
    starts = [(life.start, position, True) for position, life in enumerate(lifetimes)]
    # Sorting keeps the order of what compares equal: ends before starts, then the order given.
    return sorted(ends + starts, key=lambda event: event[0])

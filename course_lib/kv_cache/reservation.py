"""The world before paging: KV memory reserved in one piece per request, and where it went.

Memory is counted in slots; one slot holds the KV of one token. Serving systems before vLLM stored
a request's KV contiguously, so they had to reserve, on admission, room for a length that nobody
knew yet. ``classify_slots`` says what becomes of each slot, in the terms of the PagedAttention
paper (Kwon et al., SOSP '23, section 3.1 and figure 2). ``replay_contiguous`` and ``replay_paged``
run the same requests through both worlds.
"""

from __future__ import annotations

import itertools
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from course_lib.kv_cache.allocators import Allocator, BuddyAllocator
from course_lib.kv_cache.sizing import require_block_size


@dataclass(frozen=True, slots=True)
class Reservation:
    """The slots that one request holds at one moment.

    Attributes:
        request_id: Whose they are.
        reserved: Slots that nobody else may use.
        written: Tokens whose KV is in them now.
        final: Tokens that the request will hold when it finishes.
        offset: Where they start, if they are contiguous.
    """

    request_id: str
    reserved: int
    written: int
    final: int
    offset: int | None = None


@dataclass(frozen=True, slots=True)
class SlotUse:
    """What the slots of a KV cache are used for; each slot is counted once.

    Attributes:
        used: Slots that hold the KV of a token.
        later: Slots reserved for a token that the request will still write.
        internal: Slots reserved and never written by that request (internal fragmentation).
        external: Slots that no request has asked for: what an allocator rounded up behind a
            reservation, and what is free. While a request waits, they are slots that it cannot use
            (external fragmentation).

    >>> SlotUse(used=6, later=1, internal=2, external=3).total
    12
    """

    used: int
    later: int
    internal: int
    external: int

    @property
    def total(self) -> int:
        """All slots."""
        return self.used + self.later + self.internal + self.external

    def shares(self) -> dict[str, float]:
        """Return the four counts as shares of the total, which add to 1.

        Raises:
            ValueError: There are no slots.

        >>> SlotUse(used=6, later=0, internal=2, external=4).shares()["used"]
        0.5
        """
        total = self.total
        if total < 1:
            raise ValueError(f"the total is {total} slots; shares need at least 1")
        return {
            "used": self.used / total,
            "later": self.later / total,
            "internal": self.internal / total,
            "external": self.external / total,
        }


def classify_slots(reservations: Sequence[Reservation], num_slots: int) -> SlotUse:
    """Return what each of ``num_slots`` slots is used for.

    A slot of a reservation is *used* if a token's KV is in it now; kept for *later* if the request
    will still write a token into it; and lost to *internal* fragmentation otherwise. Every slot
    outside the reservations counts as *external*, what an allocator rounded up included: a
    reservation is as long as the request asked for, and not as long as the piece that it got.

    A request may have reserved less than it will need in the end, as under paging, where it gets
    one block at a time. Then all of its unwritten slots are for later, and none is internal.

    It may be called in every step of an engine, so it looks at each request once.

    Args:
        reservations: The slots held by each running request, in any order.
        num_slots: Slots in all, reserved or not.

    Returns:
        Four counts that add to ``num_slots``.

    Raises:
        ValueError: A request has written more tokens than it reserved or than it will ever hold, or
            the reservations add to more than ``num_slots``.

    >>> a = Reservation("a", reserved=8, written=3, final=5)
    >>> classify_slots([a], num_slots=10)
    SlotUse(used=3, later=2, internal=3, external=2)
    """
    reserved = sum(request.reserved for request in reservations)
    if reserved > num_slots:
        raise ValueError(
            f"{reserved} slots are reserved but there are only {num_slots}; "
            "no slot can belong to two requests"
        )
    used = later = internal = 0
    for request in reservations:
        if request.written > request.reserved or request.written > request.final:
            raise ValueError(
                f"request {request.request_id!r} has written {request.written} tokens with "
                f"{request.reserved} slots reserved and a final length of {request.final}; "
                "written must not exceed either"
            )
        # Count the slots that hold a token now.
        used += request.written

        # Count the reserved slots into which this request will still write.
        later += min(request.reserved, request.final) - request.written

        # Count the reserved slots that this request will never write.
        internal += max(0, request.reserved - request.final)

    return SlotUse(used, later, internal, external=num_slots - reserved)


def reserve_max(prompt_tokens: int, output_tokens: int, max_model_len: int) -> int:
    """Return the slots to reserve if nothing is known of the output: all that a request may have.

    "Orca (Max)" in the PagedAttention paper (Kwon et al., SOSP '23, section 6.1).

    Args:
        prompt_tokens: Tokens of the prompt.
        output_tokens: Tokens that the request will generate.
        max_model_len: The most tokens, prompt and output, that a request may have.

    >>> reserve_max(prompt_tokens=100, output_tokens=25, max_model_len=2048)
    2048
    """
    return max_model_len


def reserve_pow2(prompt_tokens: int, output_tokens: int, max_model_len: int) -> int:
    """Return the slots to reserve if the output's length is known to within a factor of two.

    The prompt, plus the output rounded up to a power of two, but never more than ``max_model_len``.
    "Orca (Pow2)" in the PagedAttention paper (Kwon et al., SOSP '23, section 6.1).

    Args:
        prompt_tokens: Tokens of the prompt.
        output_tokens: Tokens that the request will generate, at least 1.
        max_model_len: The most tokens, prompt and output, that a request may have.

    >>> reserve_pow2(prompt_tokens=100, output_tokens=25, max_model_len=2048)
    132
    """
    return min(prompt_tokens + (1 << (output_tokens - 1).bit_length()), max_model_len)


def reserve_oracle(prompt_tokens: int, output_tokens: int, max_model_len: int) -> int:
    """Return the slots to reserve if the output's length is known: exactly what will be written.

    "Orca (Oracle)" in the PagedAttention paper (Kwon et al., SOSP '23, section 6.1). No real system
    can do this.

    Args:
        prompt_tokens: Tokens of the prompt.
        output_tokens: Tokens that the request will generate.
        max_model_len: The most tokens, prompt and output, that a request may have.

    >>> reserve_oracle(prompt_tokens=100, output_tokens=25, max_model_len=2048)
    125
    """
    return prompt_tokens + output_tokens


ReservationPolicy = Callable[[int, int, int], int]
"""(prompt_tokens, output_tokens, max_model_len) -> slots to reserve on admission."""

RESERVATIONS: dict[str, ReservationPolicy] = {
    "Max": reserve_max,
    "Pow2": reserve_pow2,
    "Oracle": reserve_oracle,
}
"""The ways to reserve, by name."""


class HasLengths(Protocol):
    """What a replay needs to know of a request; a ``TraceRequest`` has it."""

    @property
    def prompt_tokens(self) -> int:
        """Tokens that come in, at least 1."""

    @property
    def output_tokens(self) -> int:
        """Tokens that go out, at least 1."""


@dataclass(frozen=True, slots=True)
class Snapshot:
    """The KV cache during one iteration.

    Two snapshots are equal if step and memory are; what the first request in the queue needs and
    who was preempted follow from the requests, and are not compared.

    Attributes:
        step: Number of the iteration, from 0.
        num_slots: Slots in all.
        num_waiting: Requests in the queue; the first of them did not fit.
        reservations: What each running request holds, in order of admission.
        first_waiting: Id of the first request in the queue; empty where nobody asked.
        needed: Slots that it needs to be admitted.
        preempted: Tokens of each request that has lost its slots in this iteration: they will be
            written again.
    """

    step: int
    num_slots: int
    num_waiting: int
    reservations: tuple[Reservation, ...]
    first_waiting: str = field(default="", compare=False)
    needed: int = field(default=0, compare=False)
    preempted: tuple[int, ...] = field(default=(), compare=False)


def replay_contiguous(
    requests: Iterable[HasLengths],
    num_slots: int,
    reserve: ReservationPolicy,
    max_model_len: int,
    allocator: Callable[[int], Allocator] = BuddyAllocator,
) -> Iterator[Snapshot]:
    """Run requests that each reserve one contiguous piece of memory, and watch the memory.

    All requests wait in the queue from the start, and are admitted first come, first served: if the
    first one does not fit, nobody behind it is tried. On admission a request reserves
    ``reserve(prompt_tokens, output_tokens, max_model_len)`` slots, which an allocator places, and
    keeps them until it finishes. What the allocator rounds up is in no reservation.

    Time goes by in iterations. In its first one, a request writes its prompt and its first output
    token; in each of the others, one more output token. So it runs for ``output_tokens``
    iterations, and leaves at the end of the last.

    Args:
        requests: Prompt and output lengths, in order of arrival.
        num_slots: Slots in all.
        reserve: How many slots a request reserves; one of ``RESERVATIONS``.
        max_model_len: The most tokens, prompt and output, that a request may have.
        allocator: Makes the allocator, from ``num_slots``; a buddy allocator, as the systems before
            vLLM are modelled in the PagedAttention paper (section 6.1).

    Returns:
        One snapshot for each iteration in which a request waits, taken after admission and writing
        and before finished requests leave. Every slot outside the reservations is then one that the
        first request in the queue could not use. Request ids are "0", "1", ... in order of arrival.

    Raises:
        ValueError: A length is less than 1, or a request could never run: it is longer than
            ``max_model_len`` or than its reservation, or the reservation is larger than the largest
            block that the allocator can ever hand out. Leave such requests out.

    >>> from types import SimpleNamespace
    >>> requests = [SimpleNamespace(prompt_tokens=4, output_tokens=2)] * 2
    >>> first = next(replay_contiguous(requests, 10, reserve_max, max_model_len=8))
    >>> first.reservations
    (Reservation(request_id='0', reserved=8, written=5, final=6, offset=0),)
    >>> classify_slots(first.reservations, first.num_slots)
    SlotUse(used=5, later=1, internal=2, external=2)
    """
    return _replay(requests, _ContiguousMemory(allocator(num_slots), reserve, max_model_len))


def replay_paged(
    requests: Iterable[HasLengths], num_slots: int, block_size: int = 16
) -> Iterator[Snapshot]:
    """Run requests that reserve memory block by block as they need it, and watch the memory.

    Queue, iterations and snapshots are those of ``replay_contiguous``. A request is admitted when
    the blocks for its first iteration are free, wherever they are. When it has filled its last
    block, it takes another one. If none is free, the request that was admitted last gives back its
    blocks and returns to the front of the queue. It keeps the tokens that it has: the iteration
    that admits it again writes all of them, and one more (preemption by recomputation).

    Args:
        requests: Prompt and output lengths, in order of arrival.
        num_slots: Slots in all. Those that do not make up a whole block are never used.
        block_size: Slots per block.

    Returns:
        One snapshot for each iteration in which a request waits.

    Raises:
        ValueError: ``block_size`` or a length is less than 1, or a request is longer than all
            blocks together. Leave such requests out.

    >>> from types import SimpleNamespace
    >>> requests = [SimpleNamespace(prompt_tokens=4, output_tokens=2)] * 2
    >>> first = next(replay_paged(requests, num_slots=10, block_size=4))
    >>> first.reservations
    (Reservation(request_id='0', reserved=8, written=5, final=6, offset=None),)
    """
    return _replay(requests, _PagedMemory(num_slots, block_size))


def average_shares(
    snapshots: Iterable[Snapshot],
    classify: Callable[[Sequence[Reservation], int], SlotUse] = classify_slots,
) -> dict[str, float]:
    """Return the shares of used, later, internal and external slots, averaged over iterations.

    Every iteration counts the same, however many requests run in it.

    Args:
        snapshots: What a replay yields.
        classify: Says what the slots of one snapshot are used for.

    Returns:
        Four shares that add to 1.

    Raises:
        ValueError: There are no snapshots.

    >>> a = Reservation("a", reserved=8, written=4, final=8)
    >>> b = Reservation("a", reserved=8, written=5, final=8)  # one iteration later
    >>> moments = [Snapshot(0, 10, 1, (a,)), Snapshot(1, 10, 1, (b,))]
    >>> round(average_shares(moments)["used"], 3)
    0.45
    """
    totals = dict.fromkeys(("used", "later", "internal", "external"), 0.0)
    num_snapshots = 0
    for snapshot in snapshots:
        num_snapshots += 1
        shares = classify(snapshot.reservations, snapshot.num_slots).shares()
        for kind, share in shares.items():
            totals[kind] += share
    if num_snapshots == 0:
        raise ValueError(
            "no snapshots to average: no request ever had to wait; use a smaller memory"
        )
    return {kind: total / num_snapshots for kind, total in totals.items()}


def static_batch_utilization(output_lengths: Sequence[int], batch_size: int) -> float:
    """Return the share of a batch's seats that generate a token under static batching.

    Requests are batched in the order given, ``batch_size`` at a time. A batch runs until its
    longest member has finished, and nobody joins before that: a request that finishes early leaves
    its seat idle. Each iteration generates one token per unfinished request. If the last batch is
    not full, its empty seats are idle too, so every batch counts with ``batch_size`` seats.

    Args:
        output_lengths: Tokens that each request generates. There may be hundreds of thousands of
            requests, too many for recursion, or for a copy of the rest with each batch.
        batch_size: Requests per batch.

    Returns:
        Tokens generated / (``batch_size`` × iterations), between 0 and 1.

    Raises:
        ValueError: There are no requests, or a length or ``batch_size`` is less than 1.

    >>> static_batch_utilization([4, 1, 2], batch_size=2)  # 7 tokens, 2 seats, 4 + 2 iterations
    0.5833333333333334
    """
    if batch_size < 1:
        raise ValueError(f"batch_size is {batch_size}; a batch holds at least 1 request")
    if len(output_lengths) == 0 or min(output_lengths) < 1:
        raise ValueError("output_lengths must hold at least one request, each of at least 1 token")
    starts = range(0, len(output_lengths), batch_size)
    iterations = sum(max(output_lengths[start : start + batch_size]) for start in starts)
    return sum(output_lengths) / (batch_size * iterations)


def expected_static_utilization(batch_size: int) -> float:
    """Return the utilisation of static batching in the long run for exponential output lengths.

    Let B requests have exponential lengths with mean m. While k of them are unfinished, the next
    one finishes after m/k on average: the shortest of k exponentials is exponential with mean m/k,
    and the others, without memory, start afresh. So a batch lasts m/B + ... + m/2 + m = m·H_B
    iterations on average, where H_B = 1 + 1/2 + ... + 1/B is the harmonic number. It generates B·m
    tokens in B seats, so the utilisation is B·m / (B·m·H_B) = 1/H_B.

    Args:
        batch_size: Requests per batch, B.

    Raises:
        ValueError: ``batch_size`` is less than 1.

    >>> round(expected_static_utilization(8), 4)
    0.3679
    """
    if batch_size < 1:
        raise ValueError(f"batch_size is {batch_size}; a batch holds at least 1 request")
    return 1 / sum(1 / k for k in range(1, batch_size + 1))


@dataclass(slots=True)
class _ReplayedRequest:
    """A request on its way through a replay."""

    request_id: str
    prompt_tokens: int
    output_tokens: int
    num_tokens: int  # the prompt and what was generated so far; preemption does not lose them
    final_tokens: int
    reserved: int = 0
    offset: int | None = None


class _Memory(Protocol):
    """Where sequences keep their KV."""

    num_slots: int

    def check(self, sequence: _ReplayedRequest) -> None:
        """Raise ValueError if the sequence could not finish even if it had the memory to itself."""

    def needed(self, sequence: _ReplayedRequest) -> int:
        """Return how many slots have to be free for one more token of the sequence."""

    def make_room(self, sequence: _ReplayedRequest) -> bool:
        """Reserve what one more token needs, or change nothing and return False if it is taken."""

    def release(self, sequence: _ReplayedRequest) -> None:
        """Take back all that the sequence has reserved."""


class _ContiguousMemory:
    """Gives a sequence all its slots in one piece with its first token."""

    def __init__(
        self, allocator: Allocator, reserve: ReservationPolicy, max_model_len: int
    ) -> None:
        self.num_slots = allocator.num_slots
        self._reserve = reserve
        self._max_model_len = max_model_len
        self._allocator = allocator
        # Nothing is allocated yet, so no block will ever be larger.
        self._largest_block = max(hole.size for hole in allocator.holes())

    def needed(self, sequence: _ReplayedRequest) -> int:
        """Ask the policy: with its first token a sequence gets all its slots."""
        return self._reserve(sequence.prompt_tokens, sequence.output_tokens, self._max_model_len)

    def check(self, sequence: _ReplayedRequest) -> None:
        """Raise ValueError if the sequence could not finish even if it had the memory to itself."""
        if sequence.final_tokens > self._max_model_len:
            raise ValueError(
                f"request {sequence.request_id} has {sequence.final_tokens} tokens, more than "
                f"max_model_len = {self._max_model_len}; leave it out"
            )
        size = self.needed(sequence)
        if size < sequence.final_tokens:
            raise ValueError(
                f"the policy reserves {size} slots for request {sequence.request_id} of "
                f"{sequence.final_tokens} tokens; reserve at least its final length"
            )
        if size > self._largest_block:
            raise ValueError(
                f"request {sequence.request_id} reserves {size} slots, but the largest block of "
                f"{self.num_slots} slots has {self._largest_block}; leave it out or lower "
                "max_model_len"
            )

    def make_room(self, sequence: _ReplayedRequest) -> bool:
        """Reserve on the first call; from then on there is always room."""
        if sequence.offset is not None:
            return True
        size = self.needed(sequence)
        sequence.offset = self._allocator.allocate(size)
        if sequence.offset is None:
            return False
        sequence.reserved = size
        return True

    def release(self, sequence: _ReplayedRequest) -> None:
        """Take back all that the sequence has reserved."""
        if sequence.offset is not None:
            self._allocator.free(sequence.offset)
        sequence.reserved, sequence.offset = 0, None


class _PagedMemory:
    """Gives a sequence one block after another, wherever it is."""

    def __init__(self, num_slots: int, block_size: int) -> None:
        require_block_size(block_size)
        self.num_slots = num_slots
        self._block_size = block_size
        self._num_blocks = self._num_free = num_slots // block_size

    def check(self, sequence: _ReplayedRequest) -> None:
        """Raise ValueError if the sequence could not finish even if it had the memory to itself."""
        usable = self._num_blocks * self._block_size
        if sequence.final_tokens > usable:
            raise ValueError(
                f"request {sequence.request_id} has {sequence.final_tokens} tokens, but all blocks "
                f"together hold {usable}; leave it out or raise num_slots"
            )

    def needed(self, sequence: _ReplayedRequest) -> int:
        """Count the slots of whole blocks for what the tokens and one more take beyond its own."""
        missing = max(0, sequence.num_tokens + 1 - sequence.reserved)
        return -(-missing // self._block_size) * self._block_size

    def make_room(self, sequence: _ReplayedRequest) -> bool:
        """Reserve whole blocks for the tokens that the sequence has and one more."""
        if sequence.num_tokens < sequence.reserved:
            return True
        needed = self.needed(sequence)
        num_new = needed // self._block_size
        if num_new > self._num_free:
            return False
        self._num_free -= num_new
        sequence.reserved += needed
        return True

    def release(self, sequence: _ReplayedRequest) -> None:
        """Take back all that the sequence has reserved."""
        self._num_free += sequence.reserved // self._block_size
        sequence.reserved = 0


def _replay(requests: Iterable[HasLengths], memory: _Memory) -> Iterator[Snapshot]:
    """Refuse requests that could never finish; replay the others."""
    waiting: deque[_ReplayedRequest] = deque()
    for index, request in enumerate(requests):
        prompt_tokens, output_tokens = request.prompt_tokens, request.output_tokens
        if prompt_tokens < 1 or output_tokens < 1:
            raise ValueError(
                f"request {index} has {prompt_tokens} prompt and {output_tokens} output tokens; "
                "each must be at least 1"
            )
        sequence = _ReplayedRequest(
            request_id=str(index),
            prompt_tokens=prompt_tokens,
            output_tokens=output_tokens,
            num_tokens=prompt_tokens,
            final_tokens=prompt_tokens + output_tokens,
        )
        memory.check(sequence)
        waiting.append(sequence)
    return _iterations(waiting, memory)


def _iterations(waiting: deque[_ReplayedRequest], memory: _Memory) -> Iterator[Snapshot]:
    """Run iterations until every sequence has finished."""
    running: list[_ReplayedRequest] = []
    for step in itertools.count():
        if not waiting and not running:
            return
        preempted = _make_room_for_running(running, waiting, memory)
        # A sequence that has just been preempted does not come back here: it lacked a block, or an
        # older one has taken one of its blocks, so it does not fit, and nobody overtakes it.
        while waiting and memory.make_room(waiting[0]):
            running.append(waiting.popleft())
        for sequence in running:
            sequence.num_tokens += 1
        if waiting:
            first = waiting[0]
            yield Snapshot(
                step,
                memory.num_slots,
                len(waiting),
                _reservations(running),
                first.request_id,
                memory.needed(first),
                preempted,
            )
        for sequence in running:
            if sequence.num_tokens == sequence.final_tokens:
                memory.release(sequence)
        running = [s for s in running if s.num_tokens < s.final_tokens]


def _make_room_for_running(
    running: list[_ReplayedRequest], waiting: deque[_ReplayedRequest], memory: _Memory
) -> tuple[int, ...]:
    """Find room for one more token of each running sequence; preempt the last if there is none.

    Returns:
        Tokens of each sequence that was preempted.
    """
    preempted: list[int] = []
    served = 0
    while served < len(running):
        if memory.make_room(running[served]):
            served += 1
        else:
            youngest = running.pop()
            memory.release(youngest)
            waiting.appendleft(youngest)
            preempted.append(youngest.num_tokens)
    return tuple(preempted)


def _reservations(running: Sequence[_ReplayedRequest]) -> tuple[Reservation, ...]:
    """Describe what the running sequences hold now."""
    return tuple(
        Reservation(s.request_id, s.reserved, s.num_tokens, s.final_tokens, s.offset)
        for s in running
    )

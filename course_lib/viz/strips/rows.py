"""One queue of requests before several allocators at once, and what each one's memory looks like.

An allocator may be the learner's own. What it does wrong is said in words, and the others go on.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from course_lib.kv_cache.allocators import Span
from course_lib.kv_cache.block_pool import BlockPool, KVCacheBlock
from course_lib.kv_cache.reservation import (
    HasLengths,
    Snapshot,
    average_shares,
    replay_contiguous,
    replay_paged,
    reserve_oracle,
)
from course_lib.viz.strips.pieces import MakeAllocator, Piece, Strip, contradiction

PAGING = "paging"
"""Name of the row that needs no allocator."""

_FEWEST_STEPS = 16
"""Iterations from one moment to the next, unless something happens that a reader looks for."""


@dataclass(frozen=True, slots=True)
class Memory(Strip):
    """The memory of one allocator in an iteration in which a request waits.

    Attributes:
        running: Ids of the requests that run, in order of admission.
        num_waiting: Requests in the queue.
        first_waiting: Id of the first of them.
        needed: Slots that it needs.
        is_paged: Whether it can use any free block, wherever it is.
    """

    running: tuple[str, ...]
    num_waiting: int
    first_waiting: str
    needed: int
    is_paged: bool = False

    @property
    def is_scattered(self) -> bool:
        """Whether enough is free for the first in line, but in no one piece.

        >>> holes = (Span(0, 5), Span(8, 4))
        >>> [Memory(12, (), holes, (), 1, "7", needed).is_scattered for needed in (5, 6, 9, 10)]
        [False, True, True, False]
        """
        return not self.is_paged and self.largest < self.needed <= self.free

    @property
    def is_stuck(self) -> bool:
        """Whether nobody runs though somebody waits: so it will be for ever."""
        return not self.running


class ImpossibleMemoryError(Exception):
    """An allocator says of its memory what cannot be; the message says what, for the learner."""


class Observer(Protocol):
    """Knows where in memory the requests of a snapshot are."""

    is_paged: bool

    def snapshots(self, requests: Sequence[HasLengths]) -> Iterator[Snapshot]:
        """Yield the iterations of a replay, as long as a request waits."""

    def look(self, snapshot: Snapshot) -> tuple[list[Piece], list[Span]]:
        """Return what is allocated and what is free, each in order of offset.

        Raises:
            ImpossibleMemoryError: A slot belongs to two requests, or the like.
        """


class ContiguousObserver:
    """Looks at the memory of an allocator, and does not believe everything that it says.

    Args:
        make_allocator: Makes the allocator.
        num_slots: Slots in all.
    """

    is_paged = False

    def __init__(self, make_allocator: MakeAllocator, num_slots: int) -> None:
        self._make_allocator = make_allocator
        self._num_slots = num_slots

    def snapshots(self, requests: Sequence[HasLengths]) -> Iterator[Snapshot]:
        """Make the allocator, and yield the iterations of its replay."""
        self._allocator = self._make_allocator(self._num_slots)
        longest = max(each.prompt_tokens + each.output_tokens for each in requests)
        yield from replay_contiguous(
            requests, self._num_slots, reserve_oracle, longest, lambda _: self._allocator
        )

    def look(self, snapshot: Snapshot) -> tuple[list[Piece], list[Span]]:
        """Return blocks and holes.

        Raises:
            ImpossibleMemoryError: Blocks and holes do not cover the memory once.
        """
        pieces = [
            Piece(
                each.request_id, each.offset, each.reserved, self._allocator.block_size(each.offset)
            )
            for each in snapshot.reservations
            if each.offset is not None
        ]
        pieces.sort(key=lambda piece: piece.offset)
        holes = sorted(Span(offset, size) for offset, size in self._allocator.holes())
        if complaint := contradiction(pieces, holes, snapshot.num_slots):
            raise ImpossibleMemoryError(complaint)
        return pieces, holes


class PagedObserver:
    """Follows a paged replay with a pool of blocks, and so knows which blocks a request has.

    The replay counts blocks; the pool hands out which: those first that have been free the longest.
    Between two looks blocks may have come and gone.

    Args:
        num_slots: Slots in all.
        block_size: Slots per block.
    """

    is_paged = True

    def __init__(self, num_slots: int, block_size: int) -> None:
        self._num_slots = num_slots
        self._block_size = block_size
        self._num_blocks = num_slots // block_size
        self._pool = BlockPool(self._num_blocks + 1)  # the null block holds no tokens
        self._tables: dict[str, list[KVCacheBlock]] = {}

    def snapshots(self, requests: Sequence[HasLengths]) -> Iterator[Snapshot]:
        """Yield the iterations of the paged replay."""
        return replay_paged(requests, self._num_slots, self._block_size)

    def look(self, snapshot: Snapshot) -> tuple[list[Piece], list[Span]]:
        """Return the runs of neighbouring blocks of each request, and the runs that are free."""
        wanted = {
            each.request_id: each.reserved // self._block_size for each in snapshot.reservations
        }
        # Who has left, or was preempted and is back with fewer blocks, gives back before others
        # take.
        for name in list(self._tables):
            if len(self._tables[name]) > wanted.get(name, 0):
                self._pool.free_blocks(reversed(self._tables.pop(name)))
        for name, num_blocks in wanted.items():
            table = self._tables.setdefault(name, [])
            table += self._pool.get_new_blocks(num_blocks - len(table))
        owner_of = {
            block.block_id - 1: name for name, table in self._tables.items() for block in table
        }
        pieces: list[Piece] = []
        holes: list[Span] = []
        owners = (owner_of.get(number, "") for number in range(self._num_blocks))
        offset = 0
        for owner, run in itertools.groupby(owners):
            size = len(list(run)) * self._block_size
            if owner:
                pieces.append(Piece(owner, offset, size, size))
            else:
                holes.append(Span(offset, size))
            offset += size
        return pieces, holes


@dataclass
class Row:
    """One allocator on its way through the queue.

    Attributes:
        name: What it is called.
        snapshots: What its replay yields.
        observer: Knows where in memory the requests are.
        problem: What is wrong with it, in words; empty otherwise.
        is_done: Whether there is nothing more to come.
        seen: The snapshots so far.
        num_scattered: In how many of them enough was free for the first in line, but in pieces.
    """

    name: str
    snapshots: Iterator[Snapshot]
    observer: Observer
    problem: str = ""
    is_done: bool = False
    seen: list[Snapshot] = field(default_factory=list)
    num_scattered: int = 0
    _next: Snapshot | None = None
    _now: Snapshot | None = None
    _memory: Memory | None = None
    _holders: tuple[tuple[str, int], ...] = ()

    @property
    def running(self) -> tuple[str, ...]:
        """Ids of the requests that run; empty where nobody waits, or nobody can tell."""
        return tuple(name for name, _ in self._holders) if self._now else ()

    @property
    def memory(self) -> Memory | None:
        """Its memory now; None where nobody waits, or nobody can tell what it looks like."""
        if self._now is not None and self._memory is None:
            pieces, holes = self.observer.look(self._now)
            self._memory = Memory(
                self._now.num_slots,
                tuple(pieces),
                tuple(holes),
                self.running,
                self._now.num_waiting,
                self._now.first_waiting,
                self._now.needed,
                self.observer.is_paged,
            )
        return self._memory

    def advance(self, step: int) -> None:
        """Go on to an iteration."""
        if self.is_done:
            return
        try:
            # A replay is asked for an iteration only when it is there, so that its allocator is
            # looked at in the state of that iteration.
            self._next = self._next or next(self.snapshots, None)
            if self._next is None or self._next.step > step:
                self._now = self._memory = None
                self.is_done = self._next is None
                return
            self._take_in(self._next)
            self._next = None
        except ImpossibleMemoryError as error:
            self._go_wrong(str(error))
        except Exception as error:
            # Whatever a learner's allocator raises is theirs to read.
            self._go_wrong(f"{type(error).__name__}: {error}")

    def _go_wrong(self, problem: str) -> None:
        """End here."""
        self._now = self._memory = None
        self.is_done, self.problem = True, " ".join(problem.split())

    def _take_in(self, snapshot: Snapshot) -> None:
        """Take in a snapshot."""
        holders = tuple((each.request_id, each.reserved) for each in snapshot.reservations)
        if holders != self._holders:
            self._holders, self._memory = holders, None
        self._now = snapshot
        self.seen.append(snapshot)
        # Blocks of a paged memory change often, and are looked at where they are shown.
        memory = None if self.observer.is_paged else self.memory
        if memory is None:
            return
        self.num_scattered += memory.is_scattered
        if memory.is_stuck:
            self.is_done = True
            self.problem = (
                f"nothing runs, and request {snapshot.first_waiting} still does not get its "
                f"{snapshot.needed:,} slots; the largest hole has {memory.largest:,}"
            )

    @property
    def score(self) -> Score:
        """What came of it."""
        used = average_shares(self.seen)["used"] if self.seen else None
        return Score(self.name, len(self.seen), used, self.num_scattered, self.problem)


@dataclass(frozen=True, slots=True)
class Score:
    """What an allocator made of the queue.

    Attributes:
        name: What it is called.
        num_iterations: Iterations in which a request waited.
        used: Share of the slots that held a token, on average over them; None if there were none.
        num_scattered: In how many of them enough was free for the first in line, but in pieces.
        problem: Why it did not get to the end; empty if it did.
    """

    name: str
    num_iterations: int
    used: float | None
    num_scattered: int
    problem: str = ""


@dataclass(frozen=True, slots=True)
class Instant:
    """One iteration, before all allocators.

    Attributes:
        step: Number of the iteration.
        passed: Iterations since the instant before.
        memories: The memory of each row; None where nobody waits, or nobody can tell.
        problems: What is wrong with a row, by its name.
        scattered: Rows in which enough is free, but in pieces, for the first time.
        ended: Rows in which from now on nobody waits, or that went wrong just now.
    """

    step: int
    passed: int
    memories: Mapping[str, Memory | None]
    problems: Mapping[str, str]
    scattered: tuple[str, ...] = ()
    ended: tuple[str, ...] = ()


def make_rows(
    allocators: Mapping[str, MakeAllocator],
    requests: Sequence[HasLengths],
    num_slots: int,
    block_size: int | None,
) -> list[Row]:
    """Return a row for each allocator, and one for paging, before the first iteration.

    Args:
        allocators: Makes each allocator, by the name of its row.
        requests: Prompt and output lengths, in order of arrival. Each reserves exactly what it
            will need.
        num_slots: Slots in all.
        block_size: Slots per block of the row for paging; None for no such row.
    """
    observers: dict[str, Observer] = {
        name: ContiguousObserver(make, num_slots) for name, make in allocators.items()
    }
    if block_size is not None:
        observers[PAGING] = PagedObserver(num_slots, block_size)
    return [
        Row(name, observer.snapshots(requests), observer) for name, observer in observers.items()
    ]


def instants(rows: Sequence[Row]) -> Iterator[Instant]:
    """Run all rows side by side, and yield the iterations that are worth a look.

    Those are the first one; each in which a row has enough in pieces for the first time, or is
    done; and those in which others run than before, not more often than every few iterations. When
    the last row is done, nothing is left to be seen.

    Args:
        rows: What ``make_rows`` returns.
    """
    shown_at = 0
    shown: list[tuple[str, ...]] = []
    for step in itertools.count():
        before = [(row.num_scattered, row.is_done) for row in rows]
        for row in rows:
            row.advance(step)
        changed = list(zip(rows, before, strict=True))
        scattered = tuple(r.name for r, (count, _) in changed if r.num_scattered and not count)
        ended = tuple(row.name for row, (_, was_done) in changed if row.is_done and not was_done)
        problems = {row.name: row.problem for row in rows if row.problem}
        is_over = all(row.is_done for row in rows)
        if step > 0 and is_over and problems.keys().isdisjoint(ended):
            return
        now = [row.running for row in rows]
        is_change = now != shown and step - shown_at >= _FEWEST_STEPS
        if step == 0 or scattered or ended or is_change:
            memories = {row.name: row.memory for row in rows}
            yield Instant(step, step - shown_at, memories, problems, scattered, ended)
            shown_at, shown = step, now
        if is_over:
            return

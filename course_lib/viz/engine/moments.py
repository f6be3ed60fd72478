"""What an engine, or a simulation, does in one step: small records for figures and films.

They are taken from the scheduler, which a real engine and a simulation have in common, at the
moment when it has planned a step and handed out the blocks for it.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice
from typing import Protocol

from course_lib.kv_cache.block_pool import BlockPool
from course_lib.scheduling.request import Request
from course_lib.scheduling.scheduler import Scheduler, SchedulerLog, SchedulerOutput
from course_lib.steps import is_prefill
from course_lib.viz.kit.live import Live

MOST_BLOCKS = 2048
"""Blocks of which the state is recorded, from the null block on; all of them are counted."""

MOST_WAITING = 40
"""Requests in the queue that are recorded by name; all of them are counted."""

BLOCK_STATES = ("null", "in_use", "shared", "cached", "free")
"""What the numbers in ``Moment.blocks`` mean; keys of the palette."""

_TAIL = 24
"""Newest output tokens of a request that are recorded."""


@dataclass(frozen=True, slots=True)
class Served:
    """One request in the batch of a step.

    Attributes:
        request_id: The request.
        state: "prefill" or "decode": what it does in this step.
        num_scheduled: Tokens that it computes in this step.
        num_computed: Tokens of it that are computed after the step.
        num_tokens: Tokens of it that are known: its prompt and what it has generated.
        num_prompt_tokens: Length of its prompt.
        blocks: The blocks that it holds, in order.
        tail: Its newest output tokens, those of this step not included.
    """

    request_id: str
    state: str
    num_scheduled: int
    num_computed: int
    num_tokens: int
    num_prompt_tokens: int
    blocks: tuple[int, ...]
    tail: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Moment:
    """One step: what is computed in it, and who waits.

    Attributes:
        step: Number of the step, from 0.
        served: The batch, in the order of service.
        waiting: The first of those that wait, in the order of service.
        num_waiting: How many wait.
        swapped: Those that are swapped out.
        started: Those that are in the batch for the first time.
        preempted: Those that gave way since the moment before.
        ended: Those that were there at the moment before and are not any more.
        blocks: For each of the first blocks of the pool, a position in ``BLOCK_STATES``.
        num_blocks: Blocks of the pool, the null block not counted.
        num_free: Blocks that may be handed out.
        budget: Tokens that may be computed in one step.
        max_num_seqs: Requests that may be in the batch.
    """

    step: int
    served: tuple[Served, ...]
    waiting: tuple[str, ...]
    num_waiting: int
    swapped: tuple[str, ...]
    started: tuple[str, ...]
    preempted: tuple[str, ...]
    ended: tuple[str, ...]
    blocks: bytes
    num_blocks: int
    num_free: int
    budget: int
    max_num_seqs: int


class HasScheduler(Protocol):
    """An ``LLM`` of this course, or a ``Simulator``."""

    @property
    def scheduler(self) -> Scheduler:
        """What plans its steps."""


class SchedulerSource:
    """Tells a live figure of every step that a scheduler plans.

    Args:
        scheduler: The scheduler of an engine or a simulation.
    """

    def __init__(self, scheduler: Scheduler) -> None:
        self._scheduler = scheduler

    @contextmanager
    def followed(self, live: Live[Moment]) -> Iterator[None]:
        """Show every step to ``live``, inside the ``with`` block, and the state at its end."""
        scheduler = self._scheduler
        recorder = MomentRecorder(live, scheduler.log)
        before, scheduler.log = scheduler.log, recorder
        try:
            yield
        finally:
            scheduler.log = before
            recorder.record_end(scheduler)


class MomentRecorder:
    """Makes a ``Moment`` of every step, as the log of a scheduler.

    Args:
        live: The figure to show them to; steps for which it has no time are passed over.
        following: The log that the scheduler has already, which is told everything as before.
    """

    def __init__(self, live: Live[Moment], following: SchedulerLog | None) -> None:
        self._live = live
        self._following = following
        self._num_steps = 0
        self._known: set[str] = set()
        self._preempted: dict[str, None] = {}
        self._blocks = b""

    def record_preemption(
        self, scheduler: Scheduler, victim: Request, winner: Request, num_new_tokens: int
    ) -> None:
        """Take note that a request gives way; the scheduler calls this."""
        if self._following is not None:
            self._following.record_preemption(scheduler, victim, winner, num_new_tokens)
        self._preempted[victim.request_id] = None

    def record_step(self, scheduler: Scheduler, output: SchedulerOutput) -> None:
        """Show a step that has been planned; the scheduler calls this."""
        if self._following is not None:
            self._following.record_step(scheduler, output)
        if output.num_scheduled_tokens or self._preempted:
            self._live.offer(lambda: self._moment(scheduler, output.num_scheduled_tokens))
        self._num_steps += 1

    def record_end(self, scheduler: Scheduler) -> None:
        """Show how things stand after the last step."""
        if self._num_steps:
            self._live.show(self._moment(scheduler, {}))

    def _moment(self, scheduler: Scheduler, scheduled: dict[str, int]) -> Moment:
        """Return how things stand."""
        manager = scheduler.kv_cache_manager
        pool, requests = manager.block_pool, scheduler.requests
        served = tuple(
            _served(requests[name], count, tuple(manager.get_block_ids(name)))
            for name, count in scheduled.items()
        )
        names = {each.request_id for each in served}
        blocks = _block_states(pool)
        if blocks != self._blocks:
            self._blocks = blocks  # else it is kept only once
        started = tuple(name for name in scheduled if name not in self._known)
        ended = tuple(name for name in self._known if name not in requests)
        preempted = tuple(self._preempted)
        self._known = (self._known | names) - set(ended)
        self._preempted.clear()
        return Moment(
            self._num_steps,
            served,
            tuple(each.request_id for each in islice(scheduler.waiting, MOST_WAITING)),
            len(scheduler.waiting),
            tuple(each.request_id for each in scheduler.swapped),
            started,
            preempted,
            tuple(sorted(ended)),
            self._blocks,
            pool.num_blocks - 1,
            pool.get_num_free_blocks(),
            scheduler.max_num_batched_tokens,
            scheduler.max_num_seqs,
        )


def _served(request: Request, count: int, blocks: tuple[int, ...]) -> Served:
    before = request.num_computed_tokens - count
    reads = is_prefill(count, before, request.num_prompt_tokens)
    return Served(
        request.request_id,
        "prefill" if reads else "decode",
        count,
        request.num_computed_tokens,
        request.num_tokens,
        request.num_prompt_tokens,
        blocks,
        tuple(request.output_token_ids[-_TAIL:]),
    )


def _block_states(pool: BlockPool) -> bytes:
    """Return the state of each of the first blocks, as a position in ``BLOCK_STATES``."""
    states = bytes(
        [
            (1 if block.ref_cnt == 1 else 2)
            if block.ref_cnt
            else (4 if block.block_hash is None else 3)
            for block in pool.blocks[:MOST_BLOCKS]
        ]
    )
    return b"\0" + states[1:]

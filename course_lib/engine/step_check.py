"""What must be true of every step of an engine; ``debug=True`` looks after each."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import torch

from course_lib.attention.batch import PagedBatch
from course_lib.engine.core import EngineCore
from course_lib.engine.executor import StepResult
from course_lib.engine.intercept import intercept
from course_lib.kv_cache.watch.invariants import InvariantError, find_leaks
from course_lib.scheduling.scheduler import SchedulerOutput


class StepChecker:
    """Looks at an engine before and after each of its steps.

    - No more than ``max_num_batched_tokens`` tokens are planned, of no more than ``max_num_seqs``
      requests, each at least 1, and the total is their sum.
    - A planned request has been moved ahead by just the tokens that are planned for it.
    - The executor's block tables are the manager's, and its slots are what they say.
    - A token was sampled for each request that is computed to its end, and for no other.
    - When no request is left, no block is held.

    Args:
        core: The core of the engine.
    """

    def __init__(self, core: EngineCore) -> None:
        self._core = core
        self._scheduler = core.scheduler
        self._executor = core.executor
        self._computed: dict[str, int] = {}

    @contextmanager
    def attached(self) -> Iterator[None]:
        """Look at every step, inside the ``with`` block.

        A step raises an InvariantError if something is not as it must be.
        """
        with ExitStack() as stack:
            for subject, name, around in (
                (self._scheduler, "schedule", self._before),
                (self._executor, "execute", self._after_execution),
                (self._core, "step", self._after),
            ):
                stack.enter_context(intercept(subject, name, around))
            yield

    def _before(self, schedule: Callable[[], SchedulerOutput]) -> SchedulerOutput:
        """Remember how far every request is; no step is planned yet."""
        requests = self._scheduler.requests
        self._computed = {name: each.num_computed_tokens for name, each in requests.items()}
        return schedule()

    def _after_execution(
        self, execute: Callable[..., StepResult], output: SchedulerOutput, *forks: Any
    ) -> StepResult:
        """Look at what was planned and what came of it; the tokens are not taken in yet."""
        result = execute(output, *forks)
        _require(self._plan_violations(output))
        _require(self._execution_violations(output, result))
        return result

    def _after(self, step: Callable[[], Any]) -> Any:
        """Look at what is left when a step is over."""
        record = step()
        live = [request.request_id for request in self._scheduler.running]
        leaks = find_leaks(self._scheduler.kv_cache_manager, live)
        _require(f"{leak.owner} still holds blocks {list(leak.block_ids)}" for leak in leaks)
        return record

    def _plan_violations(self, output: SchedulerOutput) -> Iterable[str]:
        """Yield what is wrong with a plan."""
        scheduler, planned = self._scheduler, output.num_scheduled_tokens
        total = sum(planned.values())
        if total != output.total_num_scheduled_tokens:
            yield f"{total} tokens are planned, the total says {output.total_num_scheduled_tokens}"
        if total > scheduler.max_num_batched_tokens:
            yield f"{total} tokens are planned of {scheduler.max_num_batched_tokens} allowed"
        if len(scheduler.running) > scheduler.max_num_seqs:
            yield f"{len(scheduler.running)} requests run of {scheduler.max_num_seqs} allowed"
        fresh = {request.request_id for request in output.scheduled_new_reqs}
        fresh |= {request.request_id for request in output.scheduled_resumed_reqs}
        for name, num_tokens in planned.items():
            now = scheduler.requests[name].num_computed_tokens
            if num_tokens < 1:
                yield f"{num_tokens} tokens are planned for {name!r}"
            # One that is admitted may begin behind what it found in the cache.
            elif name not in fresh and now != self._computed[name] + num_tokens:
                yield (
                    f"{name!r} had {self._computed[name]} tokens computed, {num_tokens} are "
                    f"planned, and it has {now} now"
                )

    def _execution_violations(self, output: SchedulerOutput, result: StepResult) -> Iterable[str]:
        """Yield what is wrong with what the executor did."""
        if not output.num_scheduled_tokens:
            return
        manager, requests = self._scheduler.kv_cache_manager, self._scheduler.requests
        tables = self._executor.block_tables()
        generating = []
        for name in output.num_scheduled_tokens:
            expected = manager.get_block_ids(name)
            if tables[name] != expected:
                yield f"the block table of {name!r} is {tables[name]}, the manager's {expected}"
            if requests[name].num_computed_tokens >= requests[name].num_tokens:
                generating.append(name)
        if missing := [name for name in generating if name not in result.sampled]:
            yield f"no token was sampled for {missing}"
        paged = self._executor.make_batch(output).paged
        right = PagedBatch.of(
            [manager.get_block_ids(name) for name in output.num_scheduled_tokens],
            [requests[name].num_computed_tokens for name in output.num_scheduled_tokens],
            list(output.num_scheduled_tokens.values()),
            num_blocks=paged.num_blocks,
            block_size=paged.block_size,
        )
        if not torch.equal(paged.slot_mapping.cpu(), right.slot_mapping):
            yield (
                f"the slots are {paged.slot_mapping.tolist()}, the block tables say "
                f"{right.slot_mapping.tolist()}"
            )
        early = [
            name
            for name in result.sampled
            if requests[name].num_computed_tokens < requests[name].num_tokens
        ]
        if early:
            yield f"a token was sampled for {early}, whose tokens are not all computed"


def _require(violations: Iterable[str]) -> None:
    """Raise an InvariantError that lists the violations, if there are any."""
    found = list(violations)
    if found:
        raise InvariantError("; ".join(found))

"""The final project: ten engines, each with one flaw, to see what token equality sees of it."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from typing import Any

from course_lib.engine.answer import Answer
from course_lib.engine.core import EngineCore, StepRecord
from course_lib.engine.executor import Executor, Forks, StepResult
from course_lib.engine.sampler import SampledToken
from course_lib.kv_cache.manager import KVCacheManager
from course_lib.scheduling.request import Request, RequestStatus
from course_lib.scheduling.scheduler import Scheduler, SchedulerOutput


class LeaksOnAbort(Scheduler):
    """Forget who is aborted, and leave the blocks where they are."""

    def let_go(self, ended: Iterable[Request]) -> None:
        """Forget requests, and free what those held that were not aborted."""
        others = []
        for request in ended:
            if request.status is RequestStatus.FINISHED_ABORTED:
                del self.requests[request.request_id]
                self.finished_req_ids.add(request.request_id)
            else:
                others.append(request)
        super().let_go(others)


class LastComeFirstServed(Scheduler):
    """Let a newcomer stand in front of the line."""

    def add_request(self, request: Request) -> None:
        """Add a request, and put it in front of those that wait."""
        others = list(self.waiting)
        for each in others:
            self.waiting.remove(each)
        super().add_request(request)
        for each in others:
            self.waiting.add(each)


class FindsNothing(KVCacheManager):
    """Look into the cache, and compute everything anew."""

    def get_computed_blocks(self, request: Any) -> Any:
        """Return that nothing was found."""
        return [], 0


class CountsHitsTwice(KVCacheManager):
    """Take what was found for twice as much."""

    def get_computed_blocks(self, request: Any) -> Any:
        """Return the blocks, and twice their tokens."""
        blocks, num_computed = super().get_computed_blocks(request)
        return blocks, min(2 * num_computed, request.num_tokens - 1)


class SwapsNothing(Executor):
    """Leave blocks on the CPU."""

    def execute(self, output: SchedulerOutput, forks: Forks | None = None) -> StepResult:
        """Carry a plan out without what comes back."""
        moved, output.blocks_to_swap_in = output.blocks_to_swap_in, []
        result = super().execute(output, forks)
        output.blocks_to_swap_in = moved
        return result


class CopiesNothing(Executor):
    """Let two answers write into one block."""

    def execute(self, output: SchedulerOutput, forks: Forks | None = None) -> StepResult:
        """Carry a plan out without its copies."""
        copied, output.blocks_to_copy = output.blocks_to_copy, []
        result = super().execute(output, forks)
        output.blocks_to_copy = copied
        return result


class ComputesTwice(Executor):
    """Run the model twice for each plan."""

    def compute_logits(self, batch: Any, rows: Any) -> Any:
        """Run the model, and once more."""
        super().compute_logits(batch, rows)
        return super().compute_logits(batch, rows)


class LastTokenSwallowed(Answer):
    """Drop the last token of each answer."""

    def append(self, token: SampledToken) -> None:
        """Take in a token, and drop it if it is the last one."""
        super().append(token)
        if self.finish_reason is not None:
            self.request.output_token_ids.pop()


class Dawdles(EngineCore):
    """Think for a while before each step."""

    def step(self) -> StepRecord:
        """Run a step when a millisecond of computing has passed."""
        end = time.thread_time() + 0.001
        while time.thread_time() < end:
            pass
        return super().step()


class ForgetsNobody(Executor):
    """Keep the block table of everybody who ever came."""

    def execute(self, output: SchedulerOutput, forks: Forks | None = None) -> StepResult:
        """Carry a plan out, and keep those who have ended."""
        kept = dict(self.sequences)
        result = super().execute(output, forks)
        self.sequences = {**kept, **self.sequences}
        return result


FLAWED: Mapping[str, Mapping[str, Any]] = {
    "no flaw": {},
    "leak on abort": {"Scheduler": LeaksOnAbort},
    "last come, first served": {"Scheduler": LastComeFirstServed},
    "hits are not used": {"KVCacheManager": FindsNothing},
    "hits count twice": {"KVCacheManager": CountsHitsTwice},
    "swapped blocks stay away": {"Executor": SwapsNothing},
    "no copy before a write": {"Executor": CopiesNothing},
    "each step computed twice": {"Executor": ComputesTwice},
    "last token swallowed": {"Answer": LastTokenSwallowed},
    "a slow step": {"EngineCore": Dawdles},
    "tables are kept for ever": {"Executor": ForgetsNobody},
}
"""Engines by their flaw, as pieces; the first one has none."""

"""The state of a scheduler as plain values, which stay as they are when it plans on."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from course_lib.scheduling.request import Request, RequestStatus
from course_lib.scheduling.scheduler import Scheduler


@dataclass(frozen=True, slots=True)
class RequestState:
    """What a scheduler looks at in a request.

    Attributes:
        request_id: Its name.
        status: Where it is in its life.
        num_tokens: Tokens known so far, prompt and output.
        num_output_tokens: Those of them that were generated.
        num_tokens_ahead: Positions behind them that the next step computes as well.
        num_computed_tokens: Tokens that are computed, or will be by the steps already planned.
    """

    request_id: str
    status: RequestStatus
    num_tokens: int
    num_output_tokens: int
    num_tokens_ahead: int
    num_computed_tokens: int

    @classmethod
    def of(cls, request: Request) -> RequestState:
        """Return the state that a request is in now."""
        return cls(
            request.request_id,
            request.status,
            request.num_tokens,
            request.num_output_tokens,
            request.num_tokens_ahead,
            request.num_computed_tokens,
        )

    @property
    def num_lacking(self) -> int:
        """Tokens that are to be computed next."""
        return self.num_tokens + self.num_tokens_ahead - self.num_computed_tokens


@dataclass(frozen=True, slots=True)
class SchedulerState:
    """Who waits, runs and is swapped out, how far each has come, and the limits.

    Attributes:
        requests: All requests that are not finished, by id.
        waiting: Ids of those that wait, in service order.
        running: Ids of those that run, in order of admission.
        swapped: Ids of those that are swapped out, in the order in which they come back.
        max_num_seqs: Most requests that run at the same time.
        max_num_batched_tokens: Most tokens of an iteration.
    """

    requests: Mapping[str, RequestState]
    waiting: tuple[str, ...]
    running: tuple[str, ...]
    swapped: tuple[str, ...]
    max_num_seqs: int
    max_num_batched_tokens: int

    @classmethod
    def of(cls, scheduler: Scheduler) -> SchedulerState:
        """Return the state that a scheduler is in now.

        >>> from course_lib.kv_cache import KVCacheManager
        >>> from course_lib.scheduling import SchedulerConfig
        >>> scheduler = Scheduler(SchedulerConfig(), KVCacheManager(num_blocks=10))
        >>> scheduler.add_request(Request("a", range(20), max_tokens=2))
        >>> before = SchedulerState.of(scheduler)
        >>> output = scheduler.schedule()
        >>> before.waiting, before.requests["a"].num_lacking
        (('a',), 20)
        >>> after = SchedulerState.of(scheduler)
        >>> after.running, after.requests["a"].num_lacking
        (('a',), 0)
        """
        return cls(
            {name: RequestState.of(request) for name, request in scheduler.requests.items()},
            tuple(request.request_id for request in scheduler.waiting),
            tuple(request.request_id for request in scheduler.running),
            tuple(request.request_id for request in scheduler.swapped),
            scheduler.max_num_seqs,
            scheduler.max_num_batched_tokens,
        )

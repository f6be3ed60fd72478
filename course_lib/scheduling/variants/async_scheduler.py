"""Planning one step ahead: the GPU need not wait for the scheduler.

Planned strictly in turn, a step looks like this, and the GPU is idle while the scheduler thinks::

    CPU  schedule 0 |          | update 0, schedule 1 |          | update 1, schedule 2
    GPU             | run 0    |                      | run 1    |

But what step n + 1 has to compute is nearly known before step n is done. A decoding request will
have one token more; *which* one matters to the model, which has it on the GPU by then, and not to
the plan. So a placeholder stands for it, and the plan is made while step n runs::

    CPU  schedule 0 | schedule 1 |          | update 0, schedule 2 |    | update 1, schedule 3
    GPU             | run 0                 | run 1                     | run 2

The price: that a request has ended with its EOS token is seen one step too late. The step in
between computes a token for it that nobody wants.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping

from course_lib.kv_cache.manager import KVCacheManager
from course_lib.scheduling.decisions import DecisionLog
from course_lib.scheduling.request import Request, RequestStatus
from course_lib.scheduling.scheduler import (
    Scheduler,
    SchedulerConfig,
    SchedulerOutput,
    status_at_end,
)


class AsyncScheduler(Scheduler):
    """A scheduler that may plan a step before the tokens of the step in front of it are known.

    ``num_tokens_ahead`` of a request counts its placeholders: tokens that are on their way. A
    request whose token on the way will be its last one, by ``max_tokens`` or ``max_model_len``, is
    not planned any further, since no token can change that.

    Outputs are updated in the order in which they were planned, at most ``MAX_IN_FLIGHT`` behind.

    Attributes:
        in_flight: The plans that are not updated yet, the oldest first, each with its requests by
            id: another request may have come under one of these ids meanwhile.

    >>> from course_lib.kv_cache import KVCacheManager
    >>> from course_lib.scheduling import SchedulerConfig
    >>> scheduler = AsyncScheduler(SchedulerConfig(), KVCacheManager(num_blocks=10))
    >>> request = Request("a", range(20), max_tokens=2)
    >>> scheduler.add_request(request)
    >>> first, second = scheduler.schedule(), scheduler.schedule()
    >>> first.num_scheduled_tokens, second.num_scheduled_tokens
    ({'a': 20}, {'a': 1})
    >>> scheduler.update_from_output(first, {"a": 7}), request.output_token_ids
    ([], [7])
    >>> scheduler.schedule().num_scheduled_tokens            # the second token ends it
    {}
    """

    MAX_IN_FLIGHT = 2
    """Steps that may be planned and not updated: the one that runs, and the next."""

    def __init__(
        self,
        config: SchedulerConfig,
        kv_cache_manager: KVCacheManager,
        *,
        log: DecisionLog | None = None,
    ) -> None:
        super().__init__(config, kv_cache_manager, log=log)
        self.in_flight: deque[tuple[SchedulerOutput, dict[str, Request]]] = deque()

    def schedule(self) -> SchedulerOutput:
        """Plan the next iteration, and put placeholders for the tokens that it will generate.

        Raises:
            ValueError: ``MAX_IN_FLIGHT`` plans are not updated yet. Nothing changes.
        """
        if len(self.in_flight) >= self.MAX_IN_FLIGHT:
            raise ValueError(
                f"{len(self.in_flight)} plans are in flight; "
                "call update_from_output for the oldest first"
            )
        output = super().schedule()
        planned = {name: self.requests[name] for name in output.num_scheduled_tokens}
        self.in_flight.append((output, planned))
        for request in planned.values():
            self.place_ahead(request)
        return output

    def place_ahead(self, request: Request) -> None:
        """Put a placeholder for the token that the step just planned generates for a request.

        It generates one if the request is computed up to its last token, known or on its way. The
        placeholder (``num_tokens_ahead`` counts them) lets the next plan compute that token. There
        is none for a token that will be the last one by ``length_limit``: nobody computes behind
        it.

        Args:
            request: A request of the plan; its ``num_computed_tokens`` have been moved ahead.

        >>> from course_lib.kv_cache import KVCacheManager
        >>> scheduler = AsyncScheduler(SchedulerConfig(), KVCacheManager(num_blocks=10))
        >>> request = Request("a", range(20), max_tokens=2)
        >>> request.num_computed_tokens = 20
        >>> scheduler.place_ahead(request)
        >>> request.num_tokens_ahead            # the first token is on its way, a second will come
        1
        """
        num_tokens = request.num_tokens + request.num_tokens_ahead
        catches_up = request.num_computed_tokens >= num_tokens
        if catches_up and num_tokens + 1 < request.length_limit:
            request.num_tokens_ahead += 1

    def fork_request(self, parent_id: str, child: Request) -> bool:
        """Add a request that continues what another one has computed: see ``Scheduler``.

        It comes between ``schedule`` and the run of its plan, which must be the newest in flight
        and compute the parent up to its last known token, and not up to a placeholder: what stands
        there would be the parent's own, and the child draws another. The child's first token comes
        with the same plan as the parent's next one, and has a placeholder until then.

        Raises:
            ValueError: Also if the newest plan does not compute the parent's last known token.
                Nothing changes.

        >>> from course_lib.kv_cache import KVCacheManager
        >>> scheduler = AsyncScheduler(SchedulerConfig(), KVCacheManager(num_blocks=10))
        >>> scheduler.add_request(Request("a", range(20), max_tokens=3))
        >>> output = scheduler.schedule()
        >>> scheduler.fork_request("a", Request("b", range(20), max_tokens=3))
        True
        >>> scheduler.schedule().num_scheduled_tokens
        {'a': 1, 'b': 1}
        """
        planned = self.in_flight[-1][1] if self.in_flight else {}
        parent = self.requests.get(parent_id)
        if parent is not None and (
            planned.get(parent_id) is not parent or parent.num_computed_tokens > parent.num_tokens
        ):
            raise ValueError(
                f"the newest plan in flight does not compute the last known token of {parent!r}; "
                "fork as soon as the plan is made that does"
            )
        runs = super().fork_request(parent_id, child)
        if runs:
            planned[child.request_id] = child
            self.place_ahead(child)
        return runs

    def update_from_output(
        self, output: SchedulerOutput, sampled: Mapping[str, int | list[int]]
    ) -> list[Request]:
        """Take in the tokens of the oldest iteration in flight; they take the placeholders' places.

        A request may have been preempted since this iteration was planned. Its token counts all the
        same, and may be its last.

        Raises:
            ValueError: ``output`` is not the oldest plan in flight. Nothing changes.
        """
        if not self.in_flight or self.in_flight[0][0] is not output:
            raise ValueError(
                "this is not the oldest plan in flight; update each once, in the order of planning"
            )
        planned = self.in_flight.popleft()[1]
        timely: dict[str, int | list[int]] = {}
        late: dict[str, int | list[int]] = {}
        for request_id, token in sampled.items():
            request = self.requests.get(request_id)
            if request is None or request is not planned.get(request_id):
                continue
            if request.status is RequestStatus.RUNNING:
                timely[request_id] = token
                request.num_tokens_ahead = max(request.num_tokens_ahead - 1, 0)
            else:
                late[request_id] = token
        return super().update_from_output(output, timely) + self.deliver_late(late)

    def deliver_late(self, tokens: Mapping[str, int | list[int]]) -> list[Request]:
        """Take in tokens of requests that were preempted while these were on their way.

        They are answers like any others, and need no blocks. A request that ends with one leaves
        its queue and is forgotten.

        Args:
            tokens: What was sampled, by the id of an unfinished request that is not running.

        Returns:
            The requests that finished.
        """
        ended: list[Request] = []
        for request_id, token in tokens.items():
            request = self.requests[request_id]
            if self.append_tokens(request, token if isinstance(token, list) else [token]):
                self.leave_queue(request)
                request.status = status_at_end(request)
                ended.append(request)
        self.let_go(ended)
        return ended

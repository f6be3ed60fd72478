"""A request and its life: from the queue into the batch, perhaps out and back, to its end."""

from __future__ import annotations

import math
from collections.abc import Sequence
from enum import Enum
from functools import cache


class RequestStatus(Enum):
    """Where a request is in its life.

    Names follow vLLM 0.33.0 (``vllm/v1/request.py``), which has no SWAPPED any more.
    """

    WAITING = "waiting"
    RUNNING = "running"
    PREEMPTED = "preempted"
    SWAPPED = "swapped"
    FINISHED_STOPPED = "finished_stopped"
    FINISHED_LENGTH_CAPPED = "finished_length_capped"
    FINISHED_ABORTED = "finished_aborted"
    FINISHED_IGNORED = "finished_ignored"

    @property
    def is_finished(self) -> bool:
        """Whether the request is over, for whatever reason."""
        return self.value.startswith("finished")


NEXT_STATUSES: dict[RequestStatus, set[RequestStatus]] = {
    RequestStatus.WAITING: {
        RequestStatus.RUNNING,
        RequestStatus.FINISHED_ABORTED,
        RequestStatus.FINISHED_IGNORED,
    },
    RequestStatus.RUNNING: {
        RequestStatus.PREEMPTED,
        RequestStatus.FINISHED_STOPPED,
        RequestStatus.FINISHED_LENGTH_CAPPED,
        RequestStatus.FINISHED_ABORTED,
    },
    RequestStatus.PREEMPTED: {RequestStatus.RUNNING, RequestStatus.FINISHED_ABORTED},
    RequestStatus.FINISHED_STOPPED: set(),
    RequestStatus.FINISHED_LENGTH_CAPPED: set(),
    RequestStatus.FINISHED_ABORTED: set(),
    RequestStatus.FINISHED_IGNORED: set(),
}
"""The life cycle: which status may follow which. Nothing follows the end."""

NEXT_STATUSES_WITH_SWAP: dict[RequestStatus, set[RequestStatus]] = {
    RequestStatus.RUNNING: {RequestStatus.SWAPPED},
    RequestStatus.SWAPPED: {RequestStatus.RUNNING, RequestStatus.FINISHED_ABORTED},
}
"""What may follow besides, where victims are swapped out."""

NEXT_STATUSES_AHEAD: dict[RequestStatus, set[RequestStatus]] = {
    RequestStatus.PREEMPTED: {RequestStatus.FINISHED_STOPPED, RequestStatus.FINISHED_LENGTH_CAPPED},
    RequestStatus.SWAPPED: {RequestStatus.FINISHED_STOPPED, RequestStatus.FINISHED_LENGTH_CAPPED},
}
"""What may follow besides, where plans are made ahead: the last token of a request may still be on
its way when the request is preempted."""


@cache  # asked at every move of every request
def next_statuses(status: RequestStatus) -> frozenset[RequestStatus]:
    """Return what may follow a status, by the three tables together.

    >>> sorted(status.value for status in next_statuses(RequestStatus.WAITING))
    ['finished_aborted', 'finished_ignored', 'running']
    """
    tables = (NEXT_STATUSES, NEXT_STATUSES_WITH_SWAP, NEXT_STATUSES_AHEAD)
    return frozenset().union(*(table.get(status, set()) for table in tables))


class IllegalTransitionError(ValueError):
    """A request was moved to a status that cannot follow the one it has."""


class Request:
    """One prompt, the tokens generated for it so far, and how much of it has been computed.

    Args:
        request_id: Its name; unique among requests that are not finished.
        prompt_token_ids: The prompt, at least one token.
        max_tokens: The most tokens to generate, at least 1.
        priority: Lower is more important.
        arrival_time: When it arrived, in seconds.
        eos_token_id: The token that ends it, if any.
        cache_salt: Only requests with the same salt may share cached prefixes.
        client_id: Whose it is, for policies that are fair to clients.
        deadline: When it should be done, in seconds, for policies that look at deadlines.
        lora_id: The adapter that it needs, if any.

    Attributes:
        all_token_ids: Prompt and output.
        output_token_ids: Tokens generated so far.
        num_prompt_tokens: Length of the prompt.
        num_computed_tokens: Tokens whose keys and values are computed, or will be when the steps
            that are already scheduled have run.
        num_tokens_ahead: Positions behind the known tokens that the next step computes as well:
            drafts of a speculative decoder, or tokens that are still on their way. 0 unless a
            scheduler has to do with such.
        length_limit: Tokens, prompt and output, at which it ends: ``num_prompt_tokens +
            max_tokens``, or less where a scheduler allows less.
        num_preemptions: How often it lost its place.
        finish_reason: Why it ended, in a sentence, where the status does not say enough.

    Raises:
        ValueError: The prompt is empty or ``max_tokens`` is less than 1.

    >>> request = Request("a", [5, 6, 7], max_tokens=2)
    >>> request.append_output(8)
    >>> request.num_tokens, request.output_token_ids, request.status.value
    (4, [8], 'waiting')
    """

    __slots__ = (
        "_status",
        "all_token_ids",
        "arrival_time",
        "cache_salt",
        "client_id",
        "deadline",
        "eos_token_id",
        "finish_reason",
        "length_limit",
        "lora_id",
        "max_tokens",
        "num_computed_tokens",
        "num_preemptions",
        "num_prompt_tokens",
        "num_tokens_ahead",
        "output_token_ids",
        "priority",
        "request_id",
    )

    def __init__(
        self,
        request_id: str,
        prompt_token_ids: Sequence[int],
        max_tokens: int,
        priority: int = 0,
        arrival_time: float = 0.0,
        eos_token_id: int | None = None,
        cache_salt: str | None = None,
        *,
        client_id: str = "",
        deadline: float = math.inf,
        lora_id: str | None = None,
    ) -> None:
        if len(prompt_token_ids) == 0:
            raise ValueError(f"request {request_id!r} has an empty prompt; give at least one token")
        if max_tokens < 1:
            raise ValueError(
                f"request {request_id!r} has max_tokens {max_tokens}; it generates at least 1"
            )
        self.request_id = request_id
        self.max_tokens = max_tokens
        self.priority = priority
        self.arrival_time = arrival_time
        self.eos_token_id = eos_token_id
        self.cache_salt = cache_salt
        self.client_id = client_id
        self.deadline = deadline
        self.lora_id = lora_id
        self.all_token_ids = list(prompt_token_ids)
        self.num_prompt_tokens = len(self.all_token_ids)
        self.output_token_ids: list[int] = []
        self.num_computed_tokens = 0
        self.num_tokens_ahead = 0
        self.length_limit = self.num_prompt_tokens + max_tokens
        self.num_preemptions = 0
        self.finish_reason = ""
        self._status = RequestStatus.WAITING

    @property
    def prompt_token_ids(self) -> list[int]:
        """The prompt."""
        return self.all_token_ids[: self.num_prompt_tokens]

    @property
    def num_tokens(self) -> int:
        """Tokens known so far, prompt and output."""
        return len(self.all_token_ids)

    @property
    def num_output_tokens(self) -> int:
        """Tokens generated so far."""
        return len(self.output_token_ids)

    @property
    def status(self) -> RequestStatus:
        """Where it is in its life.

        Setting it raises IllegalTransitionError where ``next_statuses`` does not allow the move.

        >>> request = Request("a", [5], max_tokens=1)
        >>> request.status = RequestStatus.PREEMPTED
        Traceback (most recent call last):
            ...
        course_lib.scheduling.request.IllegalTransitionError: request 'a' cannot go from waiting \
to preempted; it can go to finished_aborted, finished_ignored, running
        """
        return self._status

    @status.setter
    def status(self, new: RequestStatus) -> None:
        """Move it on to ``new``, if that may follow."""
        self.require_transition(new)
        self._status = new

    def require_transition(self, new: RequestStatus) -> None:
        """Raise an IllegalTransitionError if ``new`` may not follow the status that it has."""
        allowed = next_statuses(self._status)
        if new not in allowed:
            names = ", ".join(sorted(status.value for status in allowed)) or "nothing: it is over"
            raise IllegalTransitionError(
                f"request {self.request_id!r} cannot go from {self._status.value} to {new.value}; "
                f"it can go to {names}"
            )

    @property
    def is_finished(self) -> bool:
        """Whether it is over."""
        return self._status.is_finished

    def append_output(self, token_id: int) -> None:
        """Add a generated token."""
        self.output_token_ids.append(token_id)
        self.all_token_ids.append(token_id)

    def __repr__(self) -> str:
        return (
            f"Request({self.request_id!r}, {self._status.value}, "
            f"{self.num_prompt_tokens} + {self.num_output_tokens} tokens, "
            f"{self.num_computed_tokens} computed)"
        )

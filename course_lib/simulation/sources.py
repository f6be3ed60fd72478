"""Where the requests of a simulation come from: they arrive when they do, or when clients ask."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from course_lib.scheduling.request import Request, RequestStatus
from course_lib.simulation.workload import MOONCAKE_BLOCK_SIZE, ClosedLoop, TraceRequest

FIRST_MADE_UP_TOKEN = 2**31
"""Token ids from here on are made up. Hash ids in traces and real vocabularies are far below."""


class OpenSource:
    """Requests that arrive when they do, however the system fares."""

    def __init__(self, requests: Sequence[TraceRequest] | Sequence[Request]) -> None:
        self.requests: Sequence[TraceRequest | Request] = requests
        names = {r.request_id for r in requests if isinstance(r, Request)}
        for request in requests:
            if isinstance(request, Request) and request.status is not RequestStatus.WAITING:
                raise ValueError(f"{request!r} has begun already; give new requests")
        if names and len(names) < len(requests):
            raise ValueError("two requests have the same request_id; give each its own")

    def first_arrivals(self) -> list[tuple[float, int]]:
        """Return (arrival time, index) of all requests, as a heap."""
        return sorted((r.arrival_time, index) for index, r in enumerate(self.requests))

    def make_request(self, index: int, arrival_time: float) -> Request:
        """Make the request that the scheduler gets."""
        return _copy_of(self.requests[index], index, arrival_time)

    def after(self, index: int, clock: float) -> tuple[float, int] | None:
        """Return the arrival that the end of a request brings about: none."""
        return None


class ClosedSource:
    """Requests of a fixed number of clients: the end of one brings about the next."""

    def __init__(self, loop: ClosedLoop) -> None:
        self.requests: Sequence[TraceRequest] = loop.requests
        self._num_clients = min(loop.num_clients, len(loop.requests))
        self._num_sent = self._num_clients
        self._client_of = {index: f"client {index}" for index in range(self._num_clients)}
        self._rng = np.random.default_rng(loop.seed)
        self._think_seconds = loop.think_seconds

    def first_arrivals(self) -> list[tuple[float, int]]:
        """Return (0.0, index) of each client's first request, as a heap."""
        return [(0.0, index) for index in range(self._num_clients)]

    def make_request(self, index: int, arrival_time: float) -> Request:
        """Make the request that the scheduler gets."""
        request = _copy_of(self.requests[index], index, arrival_time)
        request.client_id = self._client_of[index]
        return request

    def after(self, index: int, clock: float) -> tuple[float, int] | None:
        """Return when the client asks again and for which request; None if all are asked."""
        if self._num_sent == len(self.requests):
            return None
        following = self._num_sent
        self._num_sent += 1
        self._client_of[following] = self._client_of.pop(index)
        return clock + self._rng.exponential(self._think_seconds), following


def _copy_of(request: TraceRequest | Request, index: int, arrival_time: float) -> Request:
    """Make a request for the scheduler. It is made on arrival: long prompts take memory."""
    if isinstance(request, TraceRequest):
        return Request(
            str(index),
            _prompt(request, index),
            request.output_tokens,
            request.priority,
            arrival_time,
            client_id=request.client_id,
            deadline=request.deadline,
        )
    return Request(
        request.request_id,
        request.prompt_token_ids,
        request.max_tokens,
        request.priority,
        arrival_time,
        cache_salt=request.cache_salt,
        client_id=request.client_id,
        deadline=request.deadline,
        lora_id=request.lora_id,
    )


def _prompt(request: TraceRequest, index: int) -> list[int]:
    """Make up the tokens of a prompt: equal where the hash ids are, else nobody else's."""
    if not request.hash_ids:
        return [FIRST_MADE_UP_TOKEN + index] * request.prompt_tokens
    tokens: list[int] = []
    for hash_id in request.hash_ids:
        tokens += [hash_id] * MOONCAKE_BLOCK_SIZE
    return tokens[: request.prompt_tokens]
